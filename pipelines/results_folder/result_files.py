"""Which files in an output folder a run has written: as its record says, or the names where older versions left none.

    .claims/run-000003.owner       the run that owns the folder, while it does
    .claims/run-000003.end         how it ended, created once: its record, or that another run has taken the folder
    .staging/run-<id>/             what it writes until then, laid out as the folder will be

A record that stands names the files of the result. Its number grows with each run, and the highest one counts.
"""
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from apache_beam.io.filesystems import FileSystems

from beam_coresets import table_schemas, tables
from beam_coresets.summaries.claim_records import FOLDERS, damaged, digest, has, is_run, json_object
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.stored_tables import files_of

CLAIMS, STAGING = FOLDERS
SINGLE = ("scale.json", "schema.json", "curve.csv", "sizes.csv", "bounds.csv")
RANGE = r"k=\d+"  # the folders that `solve` makes of several k
VERSION = 1  # of a record
_OWNER: dict[str, type | tuple[type, ...]] = {
    "run": str, "detached": bool, "at": (int, float), "machine": str, "host": str, "pid": int,
}  # fmt: skip
_FORMS = "|".join(tables.TABLE_FORMATS)
_ENDINGS = "json|announced|posted|compacted|windows"  # of what claims leave
_NAMES = re.compile(  # what runs call files that no claim names
    rf"(?:{RANGE}/)?(?:assigned/part-\d{{5}}-\d{{5}}\.(?:{_FORMS})|(?:late|dead_letters)/day=[-\d]+/[\d.]+-[0-9a-f]{{16}}"
    rf"\.(?:{_FORMS})|dead_letters/[\w.-]+-[0-9a-f]{{8}}(?:-[-\d.]+)?\.(?:{_FORMS})"
    rf"|dead_letters/(?:day=[-\d]+/)?(?:no-window|-?[\d.]+--?[\d.]+)(?:-[0-9a-f]{{12}}){{2}}\.(?:{_FORMS})"
    rf"|{'|'.join(map(re.escape, SINGLE))})"
)


class State(NamedTuple):
    """Which runs there are traces of, by their numbers.

    Attributes:
      owners: those that own the folder, or did when they were stopped.
      ended: those of which is known how they ended.
    """

    owners: frozenset[int]
    ended: frozenset[int]

    @property
    def highest(self) -> int:
        """The number of the last run; 0 if there was none."""
        return max(self.owners | self.ended, default=0)


def state_of(output: str) -> State:
    """The traces of runs in an output folder."""
    names = atomic_files.names_in(str(FileSystems.join(output, CLAIMS)))
    found = [match for match in (re.fullmatch(r"run-(\d+)\.(owner|end)", name) for name in names) if match]
    owners, ended = (frozenset(int(m[1]) for m in found if m[2] == kind) for kind in ("owner", "end"))
    return State(owners, ended)


def trace(output: str, number: int, kind: str) -> str:
    """Where a run leaves its "owner", "end" or "beat"."""
    return str(FileSystems.join(output, CLAIMS, f"run-{number:06d}.{kind}"))


def read_trace(output: str, number: int, kind: str) -> dict[str, Any] | None:
    """What is there; None if nothing is, or not any more.

    Raises:
      ValueError: it is not whole, or of a later version.
    """
    found = read_record(path := trace(output, number, kind), what := "records of runs", VERSION)
    if found is None or (is_run(found) if kind == "end" else has(found, **_OWNER)):
        return found
    raise damaged(path, what)


def read_record(path: str, what: str, version: int) -> dict[str, Any] | None:
    """The JSON object of a file; None if there is no such file.

    Args:
      what: it is called in messages.

    Raises:
      ValueError: it is not whole, or of another version.
    """
    try:
        found = json_object(atomic_files.read(path), path, what)
    except FileNotFoundError:
        return None
    if found.get("version") != version:
        raise ValueError(f"output: must hold records of version {version}, got {found.get('version')!r} in {path!r}")
    return found


def standing(output: str, state: State | None = None) -> tuple[int, dict[str, Any]] | None:
    """The number and the record of the last run that ended with files; None if none has left a record."""
    for number in sorted((state_of(output) if state is None else state).ended, reverse=True):
        record = read_trace(output, number, "end")
        if record is not None and "files" in record:
            return number, record
    return None


def of_runs(output: str) -> tuple[list[str], bool]:
    """The files that runs have put into the folder, and whether there is a result among them."""
    found = standing(output)
    if found is not None:
        files = [n for n in found[1]["files"] if FileSystems.exists(FileSystems.join(output, *n.split("/")))]
        return files, bool(files) and not found[1]["failed"]
    there = list(_candidates(output))
    claims = [name for name in there if re.fullmatch(rf"(?:{RANGE}/)?\{CLAIMS}/[^/]+\.(?:{_ENDINGS})", name)]
    named = {path for name in claims for path in _claimed(output, name)}
    shown = [name for name in there if name in named]
    result = bool(shown) or any("assigned/" in name and _NAMES.fullmatch(name) for name in there)
    traces = result or claims or any(name.startswith("dead_letters/") for name in there)
    return [*claims, *shown, *(name for name in there if traces and _NAMES.fullmatch(name))], result


def strangers(output: str, known: Iterable[str]) -> list[str]:
    """Files that would be taken for parts of a table, and are no run's."""
    names = (path.replace("\\", "/") for name in table_schemas.ALL_TABLES for form in tables.TABLE_FORMATS
             for path in files_of(output, name, f".{form}"))  # fmt: skip
    own = {str(FileSystems.join(output, *name.split("/"))).replace("\\", "/") for name in known}
    return sorted(set(names) - own)


def as_recorded(folder: str, name: str) -> bytes | None:
    """A file of the result in a folder, held against the result's record; None if there is none.

    Raises:
      ValueError: no run has written it, or not so.
    """
    path = str(FileSystems.join(folder, name))
    if not FileSystems.exists(path):
        return None
    data = atomic_files.read(path)
    for output, inside in ((folder, name), *_around(folder, name)):
        if (found := standing(output)) is not None:
            if inside not in found[1]["files"]:
                raise ValueError(f"{name}: must be of the run that wrote the tables, got {path!r}, which is not")
            if found[1]["digests"].get(inside, digest(data)) != digest(data):
                raise ValueError(f"{name}: must be as it was written, got {path!r} changed or damaged since")
            break
    return data


def is_of_range(name: str) -> bool:
    """Whether a folder is called as those are that `solve` makes of several k."""
    return re.fullmatch(RANGE, name) is not None


def whole_of(folder: str) -> list[str]:
    """The output folders whose records a folder may depend on: itself, and the one around `k=02`."""
    return [folder, *(output for output, _ in _around(folder, ""))]


def _around(folder: str, name: str) -> list[tuple[str, str]]:
    """The output folder around one of several k, and the name in it."""
    inside = re.fullmatch(rf"(.*?)[/\\]({RANGE})[/\\]?", folder)
    return [(inside[1], f"{inside[2]}/{name}")] if inside else []


def _candidates(output: str, ranges: bool = True) -> Iterator[str]:
    """The files in the places where runs write: not all that there is in a folder that has other things as well."""
    folders = [name for name in atomic_files.folders_in(output) if is_of_range(name)] if ranges else []
    for folder in folders:
        yield from (f"{folder}/{name}" for name in _candidates(str(FileSystems.join(output, folder)), False))
    for folder in (CLAIMS, *table_schemas.ALL_TABLES, "assigned", "dead_letters", "late"):
        yield from (f"{folder}/{name}" for name in atomic_files.files_under(str(FileSystems.join(output, folder))))
    yield from (name for name in SINGLE if FileSystems.exists(FileSystems.join(output, name)))


def _claimed(output: str, claim: str) -> list[str]:
    """The paths of the files that a claim names."""
    if not claim.endswith((".json", ".compacted")):
        return []
    above = claim.split(f"{CLAIMS}/")[0]
    try:
        found = json_object(atomic_files.read(str(FileSystems.join(output, *claim.split("/")))), claim, "claims")
        return [above + file["path"] for part in found.get("parts", [found]) for file in part["files"].values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
