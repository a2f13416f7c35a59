"""`scale.json`: what columns were scaled by."""
import json

from apache_beam.io.filesystems import FileSystems

from beam_coresets.points.scale import Scale
from beam_coresets.transforms.writing.atomic_files import read, write_once


def read_scale(folder: str) -> Scale | None:
    """The scaling that a run wrote beside its tables, if it scaled."""
    path = FileSystems.join(folder, "scale.json")
    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path) as file:
        found = json.loads(file.read())
    return Scale(tuple(found["origin"]), tuple(found["divisor"]))


def write_scale(scale: Scale, output: str, columns: tuple[str, ...]) -> None:
    """Writes what columns were scaled by; streams of later data take this file."""
    text = json.dumps({"columns": list(columns), "origin": scale.origin, "divisor": scale.divisor}, indent=2)
    write_once(FileSystems.join(output, "scale.json"), text.encode() + b"\n")


def copy_scale(folder: str, output: str) -> None:
    """Writes beside new tables what the columns had been scaled by, if they had."""
    if read_scale(folder) is not None:
        write_once(FileSystems.join(output, "scale.json"), read(FileSystems.join(folder, "scale.json")))


def scale_of(scale: str, scale_file: str | None) -> Scale | None:
    """The scale that an earlier job wrote."""
    if scale != "none":
        raise ValueError(f"scale: must be none for a stream, which takes --scale-file, got {scale!r}")
    if not scale_file:
        return None
    try:
        with FileSystems.open(scale_file) as file:
            held = json.loads(file.read())
        return Scale(tuple(held["origin"]), tuple(held["divisor"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"scale_file: must be a scale.json, got {scale_file!r} ({error})") from None
