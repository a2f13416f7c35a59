"""`scale.json`: what columns were scaled by."""
import json

from apache_beam.io.filesystems import FileSystems

from beam_coresets.pipelines.results_folder.result_files import as_recorded
from beam_coresets.points.column_order import Names
from beam_coresets.points.named_scale import SCALE_VERSION, NamedScale
from beam_coresets.points.scale import Scale
from beam_coresets.transforms.writing.atomic_files import write_once


def read_scale(folder: str, columns: Names = None) -> Scale | None:
    """The scaling that a run wrote beside its tables, if it scaled.

    Args:
      columns: names of the coordinates that it is for, in their order; None: those of the file.

    Raises:
      ValueError: a file of a later version, or none that a run writes; one of other columns.
    """
    found = named_scale(folder)
    return None if found is None else found.of(columns, "the tables")


def named_scale(folder: str) -> NamedScale | None:
    """What `scale.json` in a folder says; None without one. Raises ValueError as `read_scale` does."""
    path = FileSystems.join(folder, "scale.json")
    if (data := as_recorded(folder, "scale.json")) is None:
        return None
    try:
        return NamedScale.parsed(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"scale.json: must be what summarize writes, got {path!r} ({error})") from None


def write_scale(scale: Scale, output: str, columns: tuple[str, ...]) -> None:
    """Writes what columns were scaled by; streams of later data take this file."""
    held = {"version": SCALE_VERSION, "columns": list(columns), "origin": scale.origin, "divisor": scale.divisor}
    text = json.dumps(held, indent=2)
    write_once(FileSystems.join(output, "scale.json"), text.encode() + b"\n")


def copy_scale(folder: str, output: str) -> None:
    """Writes beside new tables what the columns had been scaled by, if they had."""
    if (data := as_recorded(folder, "scale.json")) is not None:
        write_once(FileSystems.join(output, "scale.json"), data)


def scale_of(scale: str, scale_file: str | None, columns: Names = None) -> Scale | None:
    """The scale that an earlier job wrote, for columns of these names, if they have any.

    Raises:
      ValueError: no such file, one of other columns, or `scale` besides.
    """
    if scale != "none":
        raise ValueError(f"scale: must be none for a stream, which takes --scale-file, got {scale!r}")
    if not scale_file:
        return None
    try:
        with FileSystems.open(scale_file) as file:
            found = NamedScale.parsed(file.read())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"scale_file: must be a scale.json, got {scale_file!r} ({error})") from None
    return found.of(columns, "the stream")
