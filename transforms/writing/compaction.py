"""Compaction: the windows of a period that is over become one file a table, while others write and read.

What is read and written where, `claim_records` says. One day after another:

1. its closed windows are read as they were claimed and written to a folder of `.compacted`, a folder a table;
2. the day's record names the new files and the windows in them: from here on these windows are decided there;
3. what else is in the day's folder of a table is linked into the new one, which then takes its place in one step
   (`atomic_files.swap`); nobody puts files there meanwhile (`atomic_files.locked`);
4. the windows' own claims are removed, and the record says that all is done.

Stopped before 2 nothing has happened; after it whoever compacts next does the rest. What was in the folders before
stays in `.compacted` for a while: who has just listed it must not find it half removed.
"""
import collections
import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from beam_coresets import tables
from beam_coresets.summaries.claim_records import (
    COMPACTED,
    FOLDERS,
    RECORD_VERSION,
    Claim,
    Part,
    Record,
    day_of,
    digest,
    index_path,
    is_part,
    part_name,
    place_of,
    record_path,
)
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.claims import FULL_ORDER, Claims

PERIODS = {"day": 86400.0, "hour": 3600.0}
_MARKS = ("announced", "posted")


class BusyError(RuntimeError):
    """Somebody else compacts the folder."""


class Compacted(NamedTuple):
    """What has become of a day.

    Attributes:
      day: the folder. windows: in its new files. files: how many these are, and how many there were before.
      damaged: what is wrong with windows that are left as they are.
    """

    day: str
    windows: int
    files: tuple[int, int]
    damaged: tuple[str, ...]


class Compaction:
    """Compacts an output folder, again and again.

    Args:
      claims: of the folder. every: "day" or "hour", of the start of windows: one file a table for each.
      after: seconds from the end of a period until its windows are compacted.
      keep: seconds for which what was there before is kept in `.compacted`.

    Raises:
      ValueError: an unknown period, or times below 0.
    """

    def __init__(self, claims: Claims, every: str = "day", after: float = 3600.0, keep: float = 600.0) -> None:
        if every not in PERIODS:
            raise ValueError(f"every: must be one of {', '.join(PERIODS)}, got {every!r}")
        for name, value in (("after", after), ("keep", keep)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: must be 0 s or more, got {value:g}")
        self._claims, self._period, self._after, self._keep = claims, PERIODS[every], after, keep
        self._top = os.path.join(claims.output, COMPACTED)

    def run(self, now: float | None = None) -> Iterator[Compacted]:
        """Finishes what was begun, and compacts day after day what is closed now.

        Raises:
          BusyError: somebody else does so.
          ValueError: the filesystem can't swap folders, or a record or a compacted file is damaged.
        """
        now = time.time() if now is None else now
        output = self._claims.output
        if atomic_files.scheme_of(output):
            raise ValueError(_cannot(output))
        if os.path.exists(self._path(FOLDERS[0], "registered")):
            raise ValueError(f"output: must not be registered with Iceberg, which names its files, got {output!r}")
        with atomic_files.locked(self._top, alone=True, wait=False) as mine:
            if not mine:
                raise BusyError(f"output: must be compacted by one at a time, got {output!r} with another at work")
            self._require_swap()
            for day in self._claims.compacted.days():
                self._finish(day)
            self._tidy()
            for day, names in self._closed(now).items():
                if (done := self._compact(day, names)) is not None:
                    yield done

    def _require_swap(self) -> None:
        """Tries it out, and the lock."""
        folders = [os.path.join(self._top, f"probe-{uuid.uuid4().hex}") for _ in range(2)]
        try:
            for folder in folders:
                os.mkdir(folder)
            atomic_files.swap(*folders)
            with atomic_files.locked(self._path(FOLDERS[0]), alone=True) as done:
                if not done:
                    raise OSError("no locks")
        except OSError as error:
            raise ValueError(f"{_cannot(self._claims.output)} ({error})") from None
        finally:
            for folder in folders:
                atomic_files.remove_folder(folder)

    def _closed(self, now: float) -> dict[str, list[str]]:
        """The windows with claims of their own whose period is over, by day; those to be announced once they are."""
        there = set(atomic_files.names_in(self._path(FOLDERS[0])))
        announces = any(name.endswith(".announced") for name in there)
        found: dict[str, list[str]] = collections.defaultdict(list)
        for name in self._claims.own_since(()):
            day, (_, end, *_) = day_of(name), place_of(name)
            over = day and max(end, (self._number(name) + 1) * self._period) + self._after <= now
            if over and not (announces and f"{name}.announced" not in there):
                found[day].append(name)
        return dict(sorted(found.items()))

    def _number(self, name: str) -> int:
        """Which period, since the epoch, a window starts in."""
        return math.floor(place_of(name)[0] / self._period)

    def _compact(self, day: str, names: Sequence[str]) -> Compacted | None:
        """Writes and puts into force; None where nothing is to be done."""
        self._require_files(day)
        before: Record = self._claims.compacted.record_of(day) or {"parts": [], "number": 0}
        periods = sorted({self._number(name) for name in names})
        merged = [part for part in before["parts"] if self._holds(periods, part)]
        build = _Build(self._claims, day, os.path.join(self._top, staging := f"{day}-{uuid.uuid4().hex[:16]}"),
                       before["number"])  # fmt: skip
        for period in periods:
            own = [name for name in names if self._number(name) == period]
            old = [name for part in merged if self._holds([period], part)
                   for name in self._claims.compacted.index(part).names]  # fmt: skip
            build.write(own, old)
        if not build.fresh:
            atomic_files.remove_folder(os.path.join(self._top, staging))
            return None
        kept = [part for part in before["parts"] if part not in merged]
        record = {
            "version": RECORD_VERSION, "day": day, "staging": staging, "done": False, "number": build.number,
            "fresh": [part["name"] for part in build.fresh],
            "parts": sorted(kept + build.fresh, key=lambda part: (part["start"], part["name"])), "former": merged,
        }  # fmt: skip
        self._note(record)
        was = sum(len(self._names_in(table, day)) for table in FULL_ORDER)
        self._finish(day)
        now = sum(len(self._names_in(table, day)) for table in FULL_ORDER)
        return Compacted(day, sum(part["windows"] for part in build.fresh), (now, was), tuple(build.damaged))

    def _holds(self, periods: Sequence[int], part: Part) -> bool:
        """Whether all of a part's windows start in one of some periods."""
        first, last = (math.floor(start / self._period) for start in (part["start"], place_of(part["last"])[0]))
        return first == last and first in periods

    def _require_files(self, day: str) -> None:
        for table in FULL_ORDER:
            if folders := atomic_files.folders_in(path := self._path(table, day)):
                found = os.path.join(path, folders[0])
                raise ValueError(f"output: must have no folders among a table's files, got {found!r}")

    def _finish(self, day: str) -> None:
        """Does what is left to do where a day's record is in force."""
        record = self._claims.compacted.record_of(day)
        if record is None or record["done"]:
            return
        indexes = [self._claims.compacted.index(part) for part in record["parts"]]
        gone = {f"{name}.{part['form']}" for part, index in zip(record["parts"], indexes, strict=True)
                for name in index.names}  # fmt: skip
        for table in FULL_ORDER:
            if any(table in part["files"] for part in record["parts"] if part["name"] in record["fresh"]):
                self._put(record, table, gone)
        with atomic_files.locked(self._path(FOLDERS[0]), alone=True):
            pass  # whoever has looked before the record came has created its claim, or not
        claims = set(atomic_files.names_in(self._path(FOLDERS[0])))
        for index in indexes:
            marked = [index.columns[mark] for mark in _MARKS]
            for name, *marks in zip(index.names, *marked, strict=True):
                endings = ["json", *(mark for mark, done in zip(_MARKS, marks, strict=True) if done)]
                for ending in endings:
                    if f"{name}.{ending}" in claims:
                        os.unlink(self._path(FOLDERS[0], f"{name}.{ending}"))
        self._note(record | {"done": True})

    def _put(self, record: Record, table: str, gone: set[str]) -> None:
        """Swaps the folder of a table with that in which there is one file for many, unless that is done."""
        new, place = os.path.join(self._top, record["staging"], table), self._path(table, record["day"])
        fresh = {f"{part['name']}.{part['form']}" for part in record["parts"]
                 if part["name"] in record["fresh"] and table in part["files"]}  # fmt: skip
        os.makedirs(place, exist_ok=True)
        if fresh & set(os.listdir(place)):
            return
        parts = {f"{part['name']}.{part['form']}" for part in record["parts"]}
        _link(place, new, gone, parts)
        with atomic_files.locked(self._path(FOLDERS[0]), alone=True):
            _link(place, new, gone, parts)
            atomic_files.swap(place, new)

    def _tidy(self) -> None:
        """Removes what nobody can be reading any more, and what was begun and never came into force."""
        parts = self._claims.compacted.parts()
        indexes = {os.path.basename(index_path(part)) for part in parts}
        oldest = time.time() - self._keep
        for name in atomic_files.folders_in(self._top):
            path = os.path.join(self._top, name)
            if os.path.getmtime(path) <= oldest:
                atomic_files.remove_folder(path)
        for name in atomic_files.names_in(self._path(FOLDERS[0])):
            path = self._path(FOLDERS[0], name)
            if name.endswith(".windows") and name not in indexes and os.path.getmtime(path) <= oldest:
                os.unlink(path)

    def _note(self, record: Record) -> None:
        atomic_files.replace(self._path(*record_path(record["day"]).split("/")), _json(record))

    def _names_in(self, table: str, day: str) -> list[str]:
        return atomic_files.names_in(self._path(table, day))

    def _path(self, *parts: str) -> str:
        return os.path.join(self._claims.output, *parts)


class _Build:
    """The new parts of a day, which are not in force yet.

    Attributes:
      fresh: those that are written. number: of the last one. damaged: windows that are left out, and why.
    """

    def __init__(self, claims: Claims, day: str, folder: str, number: int) -> None:
        self._claims, self._day, self._folder, self.number = claims, day, folder, number
        self._there = set(atomic_files.names_in(os.path.join(claims.output, FOLDERS[0])))
        self.fresh: list[Part] = []
        self.damaged: list[str] = []

    def write(self, own: Sequence[str], old: Sequence[str]) -> None:
        """Windows with claims of their own and of earlier parts, as one part, or several where columns differ; none
        where there is nothing new."""
        parts, writing, new = list[Part](), None, 0
        fresh = set(own)
        for name in sorted({*own, *old}, key=place_of):
            try:
                names = self._claims.tables_of(name)
                found = {table: self._claims.read(name, table) for table in FULL_ORDER if table in names}
            except (ValueError, OSError) as error:
                if name not in fresh:
                    raise
                self.damaged.append(str(error))
                continue
            new += name in fresh
            form = self._claims.form_of(name)
            if writing is None or not writing.fits(form, found):
                parts += [] if writing is None else [self._closed(writing)]
                writing = _PartFiles(self._folder, form)
            writing.add(self._about(name), found)
        parts += [] if writing is None else [self._closed(writing)]
        if new:
            self.fresh += parts
            return
        for part in parts:
            for table, file in part["files"].items():
                os.unlink(os.path.join(self._folder, table, file["path"].rpartition("/")[2]))

    def _about(self, name: str) -> Claim:
        """What the window's claim says, and whether the world was told."""
        claim = self._claims.claim(name)
        whole = digest("".join(str(file["digest"]) for file in claim["files"].values()).encode())
        marks = {mark: int(f"{name}.{mark}" in self._there or bool(claim.get(mark))) for mark in _MARKS}
        said = {"replica": int(claim.get("replica", 0)), "digest": claim.get("digest", whole)}
        return {"name": name, "decided_at": claim.get("decided_at"), **said, **marks}

    def _closed(self, writing: "_PartFiles") -> Part:
        self.number += 1
        return writing.close(self._claims.output, self._day, self.number)


class _PartFiles:
    """A part's files while they are written."""

    def __init__(self, folder: str, form: str) -> None:
        self._folder, self._form = folder, form
        self._writers: dict[str, tuple[str, Any, tables.TableWriter, pa.Schema]] = {}
        self._columns: dict[str, list[Any]] = collections.defaultdict(list)
        self._rows: list[dict[str, int]] = []

    def fits(self, form: str, found: dict[str, pa.Table]) -> bool:
        """Whether these tables have the columns of those before."""
        known = {table: schema for table, (*_, schema) in self._writers.items()}
        return form == self._form and all(known.get(n, t.schema).equals(t.schema) for n, t in found.items())

    def add(self, about: dict[str, Any], found: dict[str, pa.Table]) -> None:
        """Adds a window's rows."""
        for table, rows in found.items():
            if table not in self._writers:
                os.makedirs(os.path.join(self._folder, table), exist_ok=True)
                path = os.path.join(self._folder, table, f"{uuid.uuid4().hex}.tmp")
                file = open(path, "xb")  # noqa: SIM115  (closed with the part)
                self._writers[table] = path, file, tables.TableWriter(file, self._form, rows.schema), rows.schema
            self._writers[table][2].add(rows)
        self._rows.append({table: len(rows) for table, rows in found.items()})
        for column, value in about.items():
            self._columns[column].append(value)

    def close(self, output: str, day: str, number: int) -> Part:
        """Gives the files their names and writes the index."""
        names = self._columns["name"]
        start, end = min(place_of(name)[0] for name in names), max(place_of(name)[1] for name in names)
        part = {
            "name": part_name(start, end, number), "form": self._form, "start": start, "end": end,
            "windows": len(names), "last": max(names, key=place_of),
            "unannounced": self._columns["announced"].count(0), "files": {},
        }  # fmt: skip
        rows = {table: [counts.get(table) for counts in self._rows] for table in FULL_ORDER if table in self._writers}
        index = _json({**self._columns, "rows": rows}, indent=None)
        part["index"] = digest(index)
        for table in rows:
            path, file, writer, _ = self._writers[table]
            writer.close()
            file.flush()
            os.fsync(file.fileno())
            file.close()
            data = atomic_files.read(path)
            name = f"{part['name']}.{self._form}"
            os.rename(path, os.path.join(self._folder, table, name))
            part["files"][table] = {"path": f"{table}/{day}/{name}", "digest": digest(data), "size": len(data)}
        atomic_files.replace(os.path.join(output, *index_path(part).split("/")), index)
        return part


def _link(source: str, target: str, gone: set[str], parts: set[str]) -> None:
    """Gives the files of a folder a name in another one, too, but for those whose rows are there."""
    there = set(os.listdir(target))
    for name in os.listdir(source):
        if name not in there and name not in gone and (name in parts or not is_part(name)):
            os.link(os.path.join(source, name), os.path.join(target, name))


def _cannot(output: str) -> str:
    return (
        "output: must be on a filesystem of this machine that swaps two folders in one step (Linux: ext4, xfs, btrfs, "
        f"tmpfs), got {output!r}"
    )


def _json(value: dict[str, Any], indent: int | None = 1) -> bytes:
    return json.dumps(value, indent=indent).encode() + b"\n"
