"""`scale.json`: what columns were scaled by."""
import json
from typing import NamedTuple

from apache_beam.io.filesystems import FileSystems

from beam_coresets.pipelines.results_folder.result_files import as_recorded
from beam_coresets.points.column_order import Names, names_of_each, places_of
from beam_coresets.points.scale import Scale
from beam_coresets.transforms.writing.atomic_files import write_once

VERSION = 1  # of the file; one without a number is of this one


class NamedScale(NamedTuple):
    """A scale and the names of the columns it is of; None where there was no name for each."""

    scale: Scale
    columns: tuple[str, ...] | None


def read_scale(folder: str, columns: Names = None) -> Scale | None:
    """The scaling that a run wrote beside its tables, if it scaled.

    Args:
      columns: names of the coordinates that it is for, in their order; None: those of the file.

    Raises:
      ValueError: a file of a later version, or none that a run writes; one of other columns.
    """
    found = named_scale(folder)
    if found is None:
        return None
    wanted = names_of_each(columns, len(found.scale.origin))
    return found.scale.moved(places_of(found.columns, wanted, "the tables"))


def named_scale(folder: str) -> NamedScale | None:
    """What `scale.json` in a folder says; None without one. Raises ValueError as `read_scale` does."""
    path = FileSystems.join(folder, "scale.json")
    if (data := as_recorded(folder, "scale.json")) is None:
        return None
    try:
        return _scale_of(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"scale.json: must be what summarize writes, got {path!r} ({error})") from None


def _scale_of(data: bytes) -> NamedScale:
    found = json.loads(data)
    if (version := found.get("version", VERSION)) != VERSION:
        raise ValueError(f"version: must be {VERSION}, got {version!r}")
    origin, divisor = (tuple(map(float, found[name])) for name in ("origin", "divisor"))
    if len(origin) != len(divisor):
        raise ValueError(f"divisor: must be {len(origin)} numbers as origin has, got {len(divisor)}")
    columns = tuple(map(str, found.get("columns") or ()))
    made_up = columns == tuple(f"f{j}" for j in range(len(columns)))  # as files without names are read
    return NamedScale(Scale(origin, divisor), None if made_up else names_of_each(columns, len(origin)))


def write_scale(scale: Scale, output: str, columns: tuple[str, ...]) -> None:
    """Writes what columns were scaled by; streams of later data take this file."""
    held = {"version": VERSION, "columns": list(columns), "origin": scale.origin, "divisor": scale.divisor}
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
            found = _scale_of(file.read())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"scale_file: must be a scale.json, got {scale_file!r} ({error})") from None
    wanted = names_of_each(columns, len(found.scale.origin))
    return found.scale.moved(places_of(found.columns, wanted, "the stream"))
