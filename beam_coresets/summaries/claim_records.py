"""Claims as they are stored: what names a decided window, and what its files are held against.

`.claims/WINDOW.json` says where the files of a decided window are, or will be once they are moved out of
`.staging/WINDOW/ATTEMPT/`, and their digests. Compacted days have many windows in one file a table, and no such files:

    .claims/day=2026-11-21.compacted        the day's record: its parts, replaced as a whole whenever there are others
    .claims/compacted+-START-END-rN.windows a part's index: its windows in their order, with what their claims said
    summaries/day=2026-11-21/compacted+-START-END-rN.parquet
    .compacted/STAGING/summaries/...        the day's folder of a table before it is swapped with that in the table, and
                                            afterwards, for a while, what was there

A part is in force as soon as the record names it. Until its files are in their places they are in STAGING; its windows
may have claims of their own until then.
"""
from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from beam_coresets.streaming.windows import Window

FOLDERS = (".claims", ".staging")
CLAIM_VERSION = 1  # of a claim's JSON; a claim without a number is of this one
COMPACTED = ".compacted"
RECORD_VERSION = 1
PART_KEY = "compacted+"  # no key's: "+" is percent-encoded there
_MOST_INDEXES = 4  # in memory

Claim = dict[str, Any]
Content = TypeVar("Content")  # bytes, or a buffer of them
Record = dict[str, Any]
Part = dict[str, Any]


def is_claim(name: str) -> bool:
    """Whether a file in `.claims` is a window's claim."""
    return name.endswith(".json") and not name.startswith(".")


class DamagedFileError(ValueError):
    """A file that is not there, not what was written, or not of its format.

    Attributes:
      path: which one.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def parsed(data: bytes, path: str) -> Claim:
    """The claim in a file.

    Raises:
      json.JSONDecodeError: it is the beginning of one, and not whole (yet).
      DamagedFileError: it is something else.
      ValueError: a claim of another version.
    """
    try:
        found = json_object(data, path, "claims")
    except DamagedFileError as error:
        if isinstance(error.__context__, json.JSONDecodeError) and data.lstrip()[:1] in (b"", b"{"):
            raise error.__context__ from None
        raise
    if (version := found.get("version", CLAIM_VERSION)) != CLAIM_VERSION:
        raise ValueError(f"output: must hold claims of version {CLAIM_VERSION}, got {version!r} in {path!r}")
    if not (has(found, window=str, staging=str, form=str) and _are_files(found.get("files"))):
        raise damaged(path, "claims")
    return found


def json_object(data: bytes, path: str, what: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
      what: such files are called in messages.

    Raises:
      DamagedFileError: it holds something else.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise damaged(path, what) from None
    if not isinstance(found, dict):
        raise damaged(path, what)
    return found


def damaged(path: str, what: str) -> DamagedFileError:
    """What there is to say of a file that holds something else."""
    return DamagedFileError(path, f"output: must hold whole {what}, got {path!r} damaged")


def has(found: Any, **kinds: type | tuple[type, ...]) -> bool:
    """Whether it is an object that has values of these kinds."""
    return isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())


def _are_files(found: Any) -> bool:
    """Whether it says of tables, `summaries` among them, where their files are."""
    return has(found, summaries=dict) and all(has(file, path=str) for file in found.values())


def staged(claim: Claim, table: str) -> tuple[str, ...]:
    """The parts of the path, below the output folder, of a claimed file that is not moved yet."""
    return FOLDERS[1], claim["window"], claim["staging"], f"{table}.{claim['form']}"


def as_claimed(data: Content, file: dict[str, Any], path: str, table: str) -> Content:
    """A file's content, held against its claim.

    Raises:
      ValueError: it is not what was written.
    """
    if digest(data) != file.get("digest", digest(data)):
        raise ValueError(f"{table}: must be as it was written, got {path!r} changed or damaged since")
    return data


def digest(data: Any) -> str:
    """What a file's content is told by."""
    return hashlib.sha256(data).hexdigest()


def place_of(name: str) -> tuple[float, float, str, int, str]:
    """Sorts the names of windows, and of their files, by start, end, key and revision; others come first, by name."""
    found = re.fullmatch(r"(?:(.*)-)?(?:global|(-?[0-9.]+)-(-?[0-9.]+))-r(\d+)(?:\.\w+)?", name.rsplit("/", 1)[-1])
    if found is None:
        return float("-inf"), float("-inf"), "", 0, name
    key, start, end, revision = found.groups()
    if start is None:
        return float("-inf"), float("inf"), key or "", int(revision), name
    return float(start), float(end), key or "", int(revision), name


def is_record(name: str) -> bool:
    """Whether a file in `.claims` is a compacted day's record."""
    return name.endswith(COMPACTED) and name.startswith("day=")


def day_of(name: str) -> str:
    """The folder of a window's files, by its name; empty outside windows."""
    start, end, _, revision, _ = place_of(name)
    return Window(start, end).folder if revision and end < float("inf") else ""


def record_path(day: str) -> str:
    """Where a day's record is, from the output folder on."""
    return f"{FOLDERS[0]}/{day}{COMPACTED}"


def parsed_record(data: bytes, path: str) -> Record:
    """The record in a file.

    Raises:
      DamagedFileError: it is none. ValueError: it is of another version.
    """
    found = json_object(data, path, what := "records of compacted days")
    if found.get("version") != RECORD_VERSION:
        raise ValueError(
            f"output: must hold records of compacted days of version {RECORD_VERSION}, got {found.get('version')!r} in "
            f"{path!r}"
        )
    parts = found.get("parts"), found.get("former")
    if not (has(found, staging=str) and all(isinstance(each, list) and all(map(_is_part, each)) for each in parts)):
        raise damaged(path, what)
    return found


def _is_part(found: Any) -> bool:
    number = (int, float)
    return has(found, name=str, index=str, form=str, start=number, end=number) and _are_files(found.get("files"))


def is_run(found: dict[str, Any]) -> bool:
    """Whether it is what a run leaves at its end: its record, or that another one has taken the folder."""
    files = found.get("files", [])
    if not (has(found, run=str) and isinstance(files, list) and all(isinstance(name, str) for name in files)):
        return False
    return "files" not in found or has(found, replaces=list, digests=dict, failed=bool)


def parsed_run(data: bytes, path: str) -> dict[str, Any]:
    """What a run has left at its end, in a file.

    Raises:
      DamagedFileError: it is something else.
    """
    found = json_object(data, path, what := "records of runs")
    if not is_run(found):
        raise damaged(path, what)
    return found


def part_name(start: float, end: float, number: int) -> str:
    """What a part's files are called, given the times that its windows are between."""
    return f"{PART_KEY}-{start:.3f}-{end:.3f}-r{number}"


def is_part(name: str) -> bool:
    """Whether a file is a part's, by its name."""
    return name.rsplit("/", 1)[-1].startswith(f"{PART_KEY}-")


def index_path(part: Part) -> str:
    """Where a part's index is, from the output folder on."""
    return f"{FOLDERS[0]}/{part['name']}.windows"


def staged_path(record: Record, table: str, name: str) -> str:
    """Where a day's file is before its folder is swapped, or what was there is after it."""
    return f"{COMPACTED}/{record['staging']}/{table}/{name}"


def part_of(record: Record, name: str) -> Part | None:
    """The part of this name, of those in force or of those before."""
    return next((part for part in (*record["parts"], *record["former"]) if part["name"] == name), None)


class WindowIndex:
    """A part's windows.

    Args:
      columns: "name", "replica", "digest", "decided_at", "announced", "posted", each a list with an entry a window, and
        "rows": table -> how many rows each has there, None where it has no such table.

    Attributes:
      names: of the windows, in the order of their rows.
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = columns
        self.names: list[str] = columns["name"]

    @functools.cached_property
    def number(self) -> dict[str, int]:
        """Where each window is among them."""
        return {name: i for i, name in enumerate(self.names)}

    @functools.cached_property
    def _edges(self) -> dict[str, list[int]]:
        return {table: list(itertools.accumulate((n or 0 for n in counts), initial=0))
                for table, counts in self.columns["rows"].items()}  # fmt: skip

    def rows(self, number: int) -> dict[str, tuple[int, int]]:
        """Of each table of a window its first row and the one after its last."""
        return {table: (self._edges[table][number], self._edges[table][number + 1])
                for table, counts in self.columns["rows"].items() if counts[number] is not None}  # fmt: skip

    def starts(self) -> dict[int, int]:
        """Row of `summaries` -> number of the window that it is of."""
        edges = self._edges["summaries"]
        return {row: i for i, (low, high) in enumerate(itertools.pairwise(edges)) for row in range(low, high)}

    def claim(self, part: Part, name: str) -> Claim | None:
        """What the window's claim would say, its rows' places added; None if it is not here."""
        number = self.number.get(name)
        if number is None:
            return None
        files = {table: {**part["files"][table], "rows": rows} for table, rows in self.rows(number).items()}
        said = {column: self.columns[column][number] for column in ("replica", "digest", "decided_at")}
        marks = {column: bool(self.columns[column][number]) for column in ("announced", "posted")}
        return {"version": CLAIM_VERSION, "window": name, "form": part["form"], "files": files, **said, **marks}


_indexes: dict[str, WindowIndex] = {}


def index_of(part: Part, read: Callable[[str], bytes]) -> WindowIndex:
    """A part's index; the last few are kept.

    Args:
      read: gives a file's content by its path from the output folder on.

    Raises:
      ValueError: it is not what was written. FileNotFoundError: it is not there (any more).
    """
    found = _indexes.get(part["index"])
    if found is None:
        data = read(path := index_path(part))
        if digest(data) != part["index"]:
            raise ValueError(f"output: must hold whole indexes of compacted days, got {path!r} damaged")
        found = WindowIndex(json.loads(data))
        for old in list(_indexes)[: 1 - _MOST_INDEXES]:
            _indexes.pop(old, None)
        _indexes[part["index"]] = found
    return found


def may_hold(part: Part, name: str) -> bool:
    """Whether the times that a part's windows are between hold a window, by its name."""
    start, end, *_ = place_of(name)
    return bool(part["start"] <= start and end <= part["end"])
