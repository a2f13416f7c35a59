"""What one output folder holds: its claimed windows, each whole or not at all, and their tables.

A claim names a window's files. They are in their places, or in `.staging` as long as whoever claimed it has not moved
them. Where a folder has no claims, because another program has copied the tables, the files of `summaries` are its
windows.
"""
from __future__ import annotations

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
from beam_coresets.summaries.claim_records import FOLDERS, Claim, as_claimed, digest, is_claim, parsed, place_of, staged
from beam_coresets.summaries.moments import seconds
from beam_coresets.summaries.places import NoSummariesError, Place

_PATIENCE = 20  # tenths of a second for files that are just being put into their places
_FORMS = tuple(f".{form}" for form in tables.TABLE_FORMATS)


class DamagedFileError(ValueError):
    """A file that is not there, not what was written, or not of its format.

    Attributes:
      path: which one.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class Stored:
    """The files of one claim: a window's, or of a batch those of all of its windows and keys.

    Args:
      folder: that it is in. name: of the claim without ".json", or of its files without their ending.
      paths: table -> path of its file from the folder on, where there are no claims.

    Attributes:
      start, end: seconds since the epoch between which all of its windows are, as far as the name says.
    """

    def __init__(self, folder: OutputFolder, name: str, paths: dict[str, str] | None = None) -> None:
        self.folder, self.name, self._paths = folder, name, paths
        start, end, _, revision, _ = place_of(name)
        self.start, self.end = (start, end) if revision else (-math.inf, math.inf)

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
        if name == "events" and name not in self.tables():  # there was nothing to tell
            return table_schemas.in_seconds(table_schemas.EVENTS.empty_table())
        data, path, form = self._content(name)
        try:
            table = tables.decode(data, form)
        except Exception as error:  # whatever a decoder makes of what is not its own
            cause = (str(error).splitlines() or [""])[0]
            raise DamagedFileError(path, f"{name}: must be a whole {form} file, got {path!r} ({cause})") from error
        return table_schemas.in_seconds(table_schemas.typed(table, name))

    def tables(self) -> list[str]:
        """The names of its tables."""
        return list(self._claim()["files"]) if self._paths is None else list(self._paths)

    def check(self, names: Iterable[str] | None = None) -> None:
        """Holds its files against the claim.

        Raises:
          DamagedFileError: one is damaged.
        """
        for name in self.tables() if names is None else names:
            self._content(name)

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


class OutputFolder:
    """An output folder, as it was when it was opened.

    Args:
      place: where it is.

    Raises:
      NoSummariesError: it has no summaries.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        names = [name for name in place.names_in(FOLDERS[0]) if is_claim(name)]
        self.stored = [Stored(self, name.removesuffix(".json")) for name in names] or self._without_claims()
        if not self.stored:
            where = "summaries/*.avro, *.parquet or *.jsonl"
            raise NoSummariesError(f"path: must hold a summaries table, got {place.name!r} without {where}")

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
            found: dict[str, Any] = json.loads(self.place.read(f"{FOLDERS[0]}/stream"))
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def _record(self) -> dict[str, Any]:
        """The record of the last run that ended with files; nothing where none has left one."""
        names = [name for name in self.place.names_in(FOLDERS[0]) if re.fullmatch(r"run-\d+\.end", name)]
        for name in sorted(names, key=lambda name: int(name[4:-4]), reverse=True):
            record: dict[str, Any] = json.loads(self.place.read(f"{FOLDERS[0]}/{name}"))
            if "files" in record:
                return record
        return {}
