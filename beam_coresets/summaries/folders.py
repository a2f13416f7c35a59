"""What one output folder holds: its claimed windows, each whole or not at all, and their tables.

A claim names a window's files. They are in their places, or in `.staging` as long as whoever claimed it has not moved
them. The windows of a compacted day are in a few files, which the day's record names. Where a folder has no claims,
because another program has copied the tables, the files of `summaries` are its windows.
"""
from __future__ import annotations

import contextlib
import functools
import json
import math
import re
import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from beam_coresets import table_schemas, tables
from beam_coresets.points.named_scale import NamedScale
from beam_coresets.summaries.choosing import Identity, Row
from beam_coresets.summaries.claim_records import (
    COMPACTED,
    FOLDERS,
    Claim,
    DamagedFileError,
    Part,
    WindowIndex,
    as_claimed,
    day_of,
    digest,
    index_of,
    is_claim,
    is_record,
    json_object,
    may_hold,
    parsed,
    parsed_record,
    parsed_run,
    place_of,
    record_path,
    staged,
)
from beam_coresets.summaries.moments import seconds
from beam_coresets.summaries.places import NoSummariesError, Place
from beam_coresets.tables import StoredRows

_MOST_RECENT = 4  # tables
_PATIENCE = 20  # tenths of a second for files that are just being put into their places
_MAY_BE_MISSING = ("events", "columns")  # nothing to tell; of a version that had no such table
_FORMS = tuple(f".{form}" for form in tables.TABLE_FORMATS)


class Stored:
    """The files of one claim: a window's, or of a batch those of all of its windows and keys.

    Args:
      folder: that it is in. name: of the claim without ".json", or of its files without their ending.
      paths: table -> path of its file from the folder on, where there are no claims.

    Attributes:
      claimed: whether a claim, or a compacted day's record, names it.
      start, end: seconds since the epoch between which all of its windows are, as far as the name says.
    """

    def __init__(self, folder: OutputFolder, name: str, paths: dict[str, str] | None = None) -> None:
        self.folder, self.name, self._paths = folder, name, paths
        self.claimed = paths is None
        start, end, _, revision, _ = place_of(name)
        self.start, self.end = (start, end) if revision else (-math.inf, math.inf)

    @property
    def whole(self) -> Stored:
        """What it is one of the windows of, in the same files; mostly itself."""
        return self

    def of(self, identity: Identity) -> Stored:
        """What has a window's own rows only, where that is cheaper to have."""
        return self

    @functools.cached_property
    def rows(self) -> list[tuple[Identity, Row]]:
        """The rows of `summaries`, without those of other folders.

        Raises:
          DamagedFileError: the file is damaged. ValueError: a later version has written it.
        """
        scale, found = self.folder.scale, []
        for row in self.table("summaries").to_pylist():
            if row["columns"] is None and scale is not None:  # of a version that had the names only there
                row["columns"] = scale.columns
            start, end = seconds(row["window_start"]), seconds(row["window_end"])
            found.append((Identity(self.folder.place.name, start, end, row["key"] or "", row["revision"]), row))
        return found

    def table(self, name: str) -> pa.Table:
        """One of its tables, with the columns' types.

        Raises:
          DamagedFileError: the file is damaged.
          ValueError: there is no such table, or a later version has written it.
        """
        return self.folder.decoded(self, name)

    def decoded(self, name: str) -> pa.Table:
        """`table`, from the file."""
        if name in _MAY_BE_MISSING and name not in self.tables():
            return table_schemas.in_seconds(table_schemas.SCHEMAS[name].empty_table())
        try:
            data, path, form = self._content(name)
        except DamagedFileError:
            if (moved := self._moved()) is None:
                raise
            return moved.table(name)
        try:
            table = tables.decode(data, form)
        except Exception as error:  # whatever a decoder makes of what is not its own
            cause = (str(error).splitlines() or [""])[0]
            raise DamagedFileError(path, f"{name}: must be a whole {form} file, got {path!r} ({cause})") from error
        return table_schemas.in_seconds(table_schemas.typed(table, name))

    def tables(self) -> list[str]:
        """The names of its tables."""
        if self._paths is not None:
            return list(self._paths)
        try:
            return list(self._claim()["files"])
        except DamagedFileError:
            if (moved := self._moved()) is None:
                raise
            return moved.tables()

    def check(self, names: Iterable[str] | None = None) -> None:
        """Holds its files against the claim.

        Raises:
          DamagedFileError: one is damaged.
        """
        try:
            for name in self.tables() if names is None else names:
                self._content(name)
        except DamagedFileError:
            if (moved := self._moved()) is None:
                raise
            moved.check(names)

    def _moved(self) -> Stored | None:
        """Where its rows are if it has been compacted since the folder was opened."""
        return self.folder.compacted(self.name) if self._paths is None else None

    def _content(self, name: str) -> tuple[bytes, str, str]:
        """The bytes of a table's file, where it is, and its format."""
        place = self.folder.place
        if self._paths is not None:
            if name not in self._paths:
                raise ValueError(f"table: must be one of {', '.join(self._paths)}, got {name!r}")
            path = self._paths[name]
            return place.read(path), f"{place.name}/{path}", path.rsplit(".", 1)[-1]
        claim: Claim | None = None
        while (now := self._claim()) != claim:  # a run may be replacing the result
            claim = now
            if name not in claim["files"]:
                raise ValueError(f"table: must be one of {', '.join(claim['files'])}, got {name!r}")
            file = claim["files"][name]
            try:
                data, path = self._read(claim, name)
                return as_claimed(data, file, path, name), path, claim["form"]
            except FileNotFoundError:
                path = f"{place.name}/{file['path']}"
                damage = DamagedFileError(path, f"{name}: must be where its claim says, got no {path}")
            except ValueError as error:
                damage = DamagedFileError(path, str(error))
        raise damage

    def _read(self, claim: Claim, name: str) -> tuple[bytes, str]:
        """The content and the path, in its place or before it is moved there."""
        place, path = self.folder.place, claim["files"][name]["path"]
        for attempt in range(_PATIENCE):
            for found in (path, "/".join(staged(claim, name)), path):  # it may be moved in between
                try:
                    return place.read(found), f"{place.name}/{found}"
                except FileNotFoundError:
                    pass
            if not self.folder.busy():
                break
            time.sleep(0.1 if attempt else 0.0)
        raise FileNotFoundError(path)

    def _claim(self) -> Claim:
        path = f"{FOLDERS[0]}/{self.name}.json"
        shown = f"{self.folder.place.name}/{path}"
        for _ in range(_PATIENCE):
            try:
                return parsed(self.folder.place.read(path), shown)
            except FileNotFoundError:
                gone = f"claim: must be there, got {shown!r} gone since the folder was opened"
                raise DamagedFileError(shown, gone) from None
            except json.JSONDecodeError:  # a drive where the name comes first
                time.sleep(0.1)
        raise DamagedFileError(shown, f"output: must hold whole claims, got {shown!r} cut short")


class StoredPart(Stored):
    """Many windows of a compacted day, which are in one file a table: a part of the day's record."""

    def __init__(self, folder: OutputFolder, part: Part) -> None:
        super().__init__(folder, part["name"])
        self._part = part
        self._files: dict[str, StoredRows] = {}
        self._windows: dict[int, Stored] = {}

    @functools.cached_property
    def index(self) -> WindowIndex:
        """Its windows."""
        return index_of(self._part, self.folder.place.read)

    def holds(self, name: str) -> bool:
        """Whether it has a window, by its name."""
        return may_hold(self._part, name) and name in self.index.number

    def of(self, identity: Identity) -> Stored:
        """See `Stored`."""
        number = self._numbers[identity]
        return self._windows.setdefault(number, StoredWindow(self, number))

    def table(self, name: str) -> pa.Table:
        """See `Stored`."""
        return table_schemas.in_seconds(table_schemas.typed(pa.concat_tables(self.file(name).parts()), name))

    def tables(self) -> list[str]:
        """See `Stored`."""
        return list(self._part["files"])

    def check(self, names: Iterable[str] | None = None) -> None:
        """See `Stored`."""
        for name in self.tables() if names is None else names:
            self.file(name)

    @functools.cached_property
    def _numbers(self) -> dict[Identity, int]:
        of_row = self.index.starts()
        return {identity: of_row[row] for row, (identity, _) in enumerate(self.rows)}

    def file(self, name: str) -> StoredRows:
        """The file of a table, held against its digest once."""
        if name not in self._part["files"]:
            raise ValueError(f"table: must be one of {', '.join(self._part['files'])}, got {name!r}")
        if (found := self._files.get(name)) is None:
            file, place = self._part["files"][name], self.folder.place
            path = f"{place.name}/{file['path']}"
            try:
                data = as_claimed(self._found(name, file["path"]), file, path, name)
            except FileNotFoundError:
                raise DamagedFileError(path, f"{name}: must be where its record says, got no {path}") from None
            except ValueError as error:
                raise DamagedFileError(path, str(error)) from None
            found = self._files[name] = StoredRows(data, self._part["form"])
        return found

    def _found(self, table: str, path: str) -> pa.Buffer:
        """A file's content: in its place, or where it is before it comes there and after another has."""
        place, name = self.folder.place, path.rpartition("/")[2]
        for _ in range(2):  # it may be moved in between
            try:
                return place.view(path)
            except FileNotFoundError:
                for other in place.files_under(COMPACTED):
                    if other.endswith(f"/{table}/{name}"):
                        with contextlib.suppress(FileNotFoundError):
                            return place.view(f"{COMPACTED}/{other}")
        raise FileNotFoundError(path)


class StoredWindow(Stored):
    """One window of a compacted day: that of a number in the index of its part."""

    def __init__(self, part: StoredPart, number: int) -> None:
        super().__init__(part.folder, part.index.names[number])
        self._part, self._number = part, number

    @property
    def whole(self) -> Stored:
        """See `Stored`."""
        return self._part

    @functools.cached_property
    def rows(self) -> list[tuple[Identity, Row]]:
        """See `Stored`."""
        low, high = self._part.index.rows(self._number)["summaries"]
        return self._part.rows[low:high]

    def table(self, name: str) -> pa.Table:
        """See `Stored`."""
        ranges = self._part.index.rows(self._number)
        if name in ranges:
            rows = self._part.file(name).between(*ranges[name])
            return table_schemas.in_seconds(table_schemas.typed(rows, name))
        if name in _MAY_BE_MISSING:
            return table_schemas.in_seconds(table_schemas.SCHEMAS[name].empty_table())
        raise ValueError(f"table: must be one of {', '.join(ranges)}, got {name!r}")

    def tables(self) -> list[str]:
        """See `Stored`."""
        return list(self._part.index.rows(self._number))

    def check(self, names: Iterable[str] | None = None) -> None:
        """See `Stored`."""
        self._part.check(self.tables() if names is None else names)


class OutputFolder:
    """An output folder, as it was when it was opened.

    Args:
      place: where it is.

    Raises:
      NoSummariesError: it has no summaries.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.decoded = functools.lru_cache(_MOST_RECENT)(Stored.decoded)  # several keys are in one file
        names = [name for name in place.names_in(FOLDERS[0]) if is_claim(name)]
        parts = self._parts()  # after the claims: these go once the record has come
        names = [name for name in names if not any(part.holds(name[:-5]) for part in parts)]
        self.stored: list[Stored] = [*parts, *(Stored(self, name[:-5]) for name in names)] or self._without_claims()
        if not self.stored:
            where = "summaries/*.avro, *.parquet or *.jsonl"
            raise NoSummariesError(f"path: must hold a summaries table, got {place.name!r} without {where}")

    def compacted(self, name: str) -> Stored | None:
        """A window of a compacted day, by its name; None if it is none."""
        day = day_of(name)
        for part in self._parts_of(record_path(day)) if day else ():
            if part.holds(name):
                return StoredWindow(part, part.index.number[name])
        return None

    def _parts(self) -> list[StoredPart]:
        names = [name for name in self.place.names_in(FOLDERS[0]) if is_record(name)]
        return [part for name in names for part in self._parts_of(f"{FOLDERS[0]}/{name}")]

    def _parts_of(self, path: str) -> list[StoredPart]:
        """Those of a day's record."""
        try:
            record = parsed_record(self.place.read(path), f"{self.place.name}/{path}")
        except FileNotFoundError:
            return []
        return [StoredPart(self, part) for part in record["parts"]]

    def _without_claims(self) -> list[Stored]:
        by_name: dict[str, dict[str, str]] = {}
        for table in table_schemas.ALL_TABLES:
            for path in self.place.files_under(table):
                if path.endswith(_FORMS):
                    by_name.setdefault(path.rsplit(".", 1)[0], {})[table] = f"{table}/{path}"
        return [Stored(self, name, paths) for name, paths in by_name.items() if "summaries" in paths]

    @functools.cached_property
    def scale(self) -> NamedScale | None:
        """What `scale.json` says; None without one.

        Raises:
          ValueError: it is not what the run wrote.
        """
        try:
            data = self.place.read("scale.json")
        except FileNotFoundError:
            return None
        path = f"{self.place.name}/scale.json"
        written = self._record().get("digests", {}).get("scale.json", digest(data))
        if written != digest(data):
            raise ValueError(f"scale.json: must be as it was written, got {path!r} changed or damaged since")
        try:
            return NamedScale.parsed(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"scale.json: must be what summarize writes, got {path!r} ({error})") from None

    def busy(self) -> bool:
        """Whether a run owns the folder, or its files are just being put into their places."""
        return any(re.fullmatch(r"run-\d+\.(owner|beat)", name) for name in self.place.names_in(FOLDERS[0]))

    def stream_note(self) -> dict[str, Any]:
        """What a stream has noted down of its windows; nothing where there is no note."""
        try:
            return json_object(self.place.read(path := f"{FOLDERS[0]}/stream"), path, "notes of streams")
        except (FileNotFoundError, DamagedFileError):
            return {}

    def _record(self) -> dict[str, Any]:
        """The record of the last run that ended with files; nothing where none has left one."""
        names = [name for name in self.place.names_in(FOLDERS[0]) if re.fullmatch(r"run-\d+\.end", name)]
        for name in sorted(names, key=lambda name: int(name[4:-4]), reverse=True):
            path = f"{FOLDERS[0]}/{name}"
            record = parsed_run(self.place.read(path), f"{self.place.name}/{path}")
            if "files" in record:
                return record
        return {}
