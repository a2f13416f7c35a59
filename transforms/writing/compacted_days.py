"""The decided windows of compacted days: that they are decided, and their rows (`claim_records` says where)."""
import contextlib
import functools
import os
from collections.abc import Iterator

import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets import tables
from beam_coresets.summaries.claim_records import (
    FOLDERS,
    Claim,
    Part,
    Record,
    WindowIndex,
    as_claimed,
    day_of,
    index_of,
    is_record,
    may_hold,
    parsed_record,
    part_of,
    record_path,
    staged_path,
)
from beam_coresets.transforms.writing import atomic_files


class CompactedDays:
    """Those of an output folder.

    Args:
      output: the folder.
    """

    def __init__(self, output: str) -> None:
        self._output = output

    def record_of(self, day: str) -> Record | None:
        """What there is to say of the compacted windows of a day's folder; None where there are none.

        Raises:
          ValueError: it is damaged.
        """
        path = self._path(*record_path(day).split("/"))
        try:
            return parsed_record(atomic_files.read(path), path)
        except FileNotFoundError:
            return None

    def days(self) -> list[str]:
        """The folders of days that have compacted windows."""
        names = atomic_files.names_in(self._path(FOLDERS[0]))
        return [name.removesuffix(".compacted") for name in names if is_record(name)]

    def parts(self) -> list[Part]:
        """The parts of all days."""
        return [part for day in self.days() for part in (self.record_of(day) or {"parts": []})["parts"]]

    def index(self, part: Part) -> WindowIndex:
        """The windows of a part, with what their claims said.

        Raises:
          ValueError: it is damaged.
        """
        return index_of(part, lambda path: atomic_files.read(self._path(*path.split("/"))))

    def claim(self, name: str) -> Claim | None:
        """What the claim of a compacted window said; None if it is none."""
        day = day_of(name)
        record = self.record_of(day) if day else None
        for part in () if record is None else record["parts"]:
            if may_hold(part, name) and (found := self.index(part).claim(part, name)) is not None:
                return found
        return None

    def rows(self, claim: Claim, table: str) -> pa.Table:
        """A table of a compacted window, as it is stored.

        Raises:
          ValueError: it is not what was written. FileNotFoundError: it is just being compacted again.
        """
        file, form = claim["files"][table], claim["form"]
        path = self._path(*file["path"].split("/"))
        found = [path, self._staged_now(day_of(claim["window"]), table, path)]
        low, high = file["rows"]
        return _opened(tuple(found), file["digest"], form, table).between(low, high)

    def part(self, path: str, name: str, form: str, table: str) -> Iterator[pa.Table]:
        """The rows of a compacted file, a few windows at a time.

        Raises:
          ValueError: no record names it, or it is not what was written.
        """
        day = path.replace("\\", "/").rsplit("/", 2)[-2]
        record = self.record_of(day)
        part = None if record is None else part_of(record, name)
        if part is None or part["form"] != form or table not in part["files"]:
            raise ValueError(f"{table}: must hold what runs have claimed, got {path!r} without a record")
        places = path, self._staged_now(day, table, path)
        yield from _opened(places, part["files"][table]["digest"], form, table).parts()

    def _staged_now(self, day: str, table: str, path: str) -> str:
        """Where a compacted file is as long as it is not in its place, or not any more."""
        record = self.record_of(day)
        name = path.replace("\\", "/").rsplit("/", 1)[-1]
        return path if record is None else self._path(*staged_path(record, table, name).split("/"))

    def _path(self, *parts: str) -> str:
        return str(FileSystems.join(self._output, *parts))


def is_compacted(claim: Claim) -> bool:
    """Whether a window has no claim of its own any more."""
    return "staging" not in claim


@functools.lru_cache(6)  # tables of a part
def _opened(paths: tuple[str, ...], written: str, form: str, table: str) -> tables.StoredRows:
    """A compacted file, from the first of some places that has it, held against its digest."""
    for path in paths[:-1]:
        with contextlib.suppress(FileNotFoundError):
            return _checked(path, written, form, table)
    return _checked(paths[-1], written, form, table)


def _checked(path: str, written: str, form: str, table: str) -> tables.StoredRows:
    local = not atomic_files.scheme_of(path) and os.path.getsize(path) > 0
    data = pa.memory_map(path).read_buffer() if local else pa.py_buffer(atomic_files.read(path))
    as_claimed(data, {"digest": written}, path, table)
    return tables.StoredRows(data, form)


def decoded(data: bytes, form: str, path: str, table: str) -> pa.Table:
    """The rows of a table's file.

    Raises:
      ValueError: it is not of its format.
    """
    try:
        return tables.decode(data, form)
    except Exception as error:  # whatever a decoder makes of what is not its own
        cause = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{table}: must be a whole {form} file, got {path!r} ({cause})") from error
