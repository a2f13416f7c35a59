"""The newest windows of an output folder, each read once: a live page asks again and again what has come since."""
from __future__ import annotations

import collections
import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets import table_schemas, tables
from beam_coresets.summaries.claim_records import FOLDERS, DamagedFileError, place_of
from beam_coresets.summaries.folders import OutputFolder, Stored, StoredPart, StoredWindow
from beam_coresets.summaries.places import NoSummariesError, Place
from beam_coresets.summaries.window import WindowSummary

MOST_WINDOWS = 2_000
MOST_EVENTS = 2_000
MOST_LETTERS = 1_000_000  # rows of dead letters that are counted
STATES = ("whole", "incomplete", "degraded", "revised")
COLUMNS = (
    "window_start", "window_end", "key", "revision", "shards", "responded", "stragglers", "distrusted", "coverage",
    "total_weight", "cost", "cost_low", "cost_high", "trust", "points", "degraded", "reason", "decided_at", "refused",
    "excess", "excess_low", "excess_high", "moved", "moved_low", "moved_high", "shift", "drifted",
)  # fmt: skip


class Totals:
    """What has been read since a folder was opened, the windows that were found then included.

    Attributes:
      windows: decisions by what they are (`STATES`; one may be several). events: by kind. late: rows that came too
        late, by reason.
    """

    def __init__(self) -> None:
        self.windows = dict.fromkeys(STATES, 0)
        self.events: collections.Counter[str] = collections.Counter()
        self.late: collections.Counter[str] = collections.Counter()

    def add(self, rows: pa.Table, events: pa.Table | None) -> None:
        """One decision of a window.

        Args:
          rows: of `summaries`, one a key. events: of `events`, if there are some.
        """
        row = worst_of(rows)
        if row is None:
            return
        self.windows["whole" if row["coverage"] >= 1 else "incomplete"] += 1
        self.windows["degraded"] += bool(row["degraded"])
        self.windows["revised"] += (row["revision"] or 1) > 1
        if events is not None:
            self.events.update(events.column("kind").to_pylist())


class History:
    """The newest windows of a folder, as far as they have been read.

    Args:
      place: the folder. most: windows that are kept; older ones are counted and left out.
      since, until: seconds since the epoch; windows that start no earlier and end no later are meant.

    Attributes:
      older: whether older windows were left out because there were more.
      letters: reason -> how many refused rows `dead_letters` has, of those that were read.
      totals: what was counted.
      skipped: the damaged files that were passed over, path -> what is wrong with it.
    """

    def __init__(
        self, place: Place, most: int = MOST_WINDOWS, since: float | None = None, until: float | None = None
    ) -> None:
        self.place, self.most = place, most
        self._since = -math.inf if since is None else since
        self._until = math.inf if until is None else until
        self._rows: dict[str, pa.Table] = {}  # by the name of the window, which sorts by time with `place_of`
        self._events: dict[str, pa.Table] = {}
        self._sources: dict[str, Stored] = {}
        self._counted: set[str] = set()
        self._claims: dict[str, bytes] = {}  # of results without a time, which another run may replace
        self._cut: dict[str, bytes] = {}  # claims that are none
        self.older = False
        self.totals = Totals()
        self.letters: collections.Counter[str] = collections.Counter()
        self.skipped: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> bool:
        """Reads what has come since the last time; whether there was something.

        Raises:
          NoSummariesError: a ValueError: the folder has no summaries (yet).
          ValueError: a later version has written them.
        """
        self._forget()
        before = set(self._rows)
        self._read(OutputFolder(self.place))
        more = [self._count(table, column, counts, rows) for table, column, counts, rows in (
            ("dead_letters", "reason", self.letters, None), ("late", "reason", self.totals.late, "row_count"))]
        return set(self._rows) != before or any(more)

    def require_windows(self) -> None:
        """Checks that windows were read.

        Raises:
          NoSummariesError: there are none of that time. DamagedFileError: there are, and none is whole.
        """
        if self._rows:
            return
        for path, why in self.skipped.items():
            raise DamagedFileError(path, f"path: must hold whole windows, got {self.place.name!r} without any ({why})")
        raise NoSummariesError(f"path: must hold windows of that time, got {self.place.name!r} without any")

    def rows(self) -> pa.Table:
        """The newest revision of each window and key, in the order of their start and key: `COLUMNS`, of which those
        that no version has written are null. Times are seconds since the epoch (float64), null outside windows."""
        parts = [self._rows[name] for name in sorted(self._rows, key=place_of)]
        table = pa.concat_tables(parts)
        identity = ["window_start", "window_end", "key"]
        order = pc.sort_indices(table, [(name, "ascending") for name in (*identity, "revision")])
        table = table.take(order)
        newest: dict[tuple[Any, ...], int] = {}
        for i, row in enumerate(zip(*(table.column(name).to_pylist() for name in identity), strict=True)):
            newest[row] = i
        return table.take(pa.array(list(newest.values()), pa.int64()))

    def settings(self) -> dict[str, Any]:
        """What `schema.json` says of the job; nothing where there is none."""
        try:
            held = json.loads(self.place.read("schema.json"))
        except (FileNotFoundError, ValueError):
            return {}
        found = held.get("settings") if isinstance(held, dict) else None
        return found if isinstance(found, dict) else {}

    def deadline(self) -> float | None:
        """Seconds after the end of a window by which it is decided, as `schema.json` says; None if it does not."""
        found = self.settings().get("deadline")
        held = isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found)
        return float(found) if held and found is not None else None

    def windows(self) -> Iterator[WindowSummary]:
        """The windows and keys, the newest first and of each the newest revision first, read as they are asked for;
        those with damaged files are noted down and left out."""
        for name in sorted(self._sources, key=lambda name: (place_of(name)[1], *place_of(name)), reverse=True):
            stored = self._source(name)
            try:
                stored.check()
                found = [WindowSummary.stored(stored, identity, row) for identity, row in stored.rows]
            except DamagedFileError as error:
                self.skipped[error.path] = str(error)
            else:
                yield from reversed(found)

    def events(self) -> pa.Table:
        """The newest `MOST_EVENTS` rows of `events` of the windows that are kept, in the order of time."""
        parts = [self._events[name] for name in sorted(self._events, key=place_of)]
        if not parts:
            return pa.table({})
        table = pa.concat_tables(parts)
        return table.slice(max(0, len(table) - MOST_EVENTS))

    def all_events(self) -> int:
        """How many events the windows that are kept have."""
        return sum(map(len, self._events.values()))

    def _forget(self) -> None:
        """Drops the results that another run has replaced: they have the same name as before."""
        for name, claim in list(self._claims.items()):
            if self._claim(name) != claim:
                del self._claims[name]
                self._rows.pop(name, None)
                self._events.pop(name, None)
                self._counted.clear()
                self.letters.clear()
                self.totals.late.clear()

    def _claim_path(self, name: str) -> str:
        return f"{self.place.name}/{FOLDERS[0]}/{name}.json"

    def _claim(self, name: str) -> bytes:
        """What claims a result; empty if nothing does."""
        try:
            return self.place.read(f"{FOLDERS[0]}/{name}.json")
        except FileNotFoundError:
            return b""

    def _read(self, folder: OutputFolder) -> None:
        """The newest windows that are not known yet."""
        kept, self.older = self._newest(folder)
        for name in set(self._rows) - set(kept):
            self._rows.pop(name)
            self._events.pop(name, None)
        self._sources = kept
        whole: dict[StoredPart, pa.Table] = {}
        for name in kept:
            if name in self._rows or (name in self._cut and self._cut[name] == self._claim(name)):
                continue
            self.skipped.pop(self._claim_path(name), None)
            self._cut.pop(name, None)
            try:
                self._take(name, whole)
            except DamagedFileError as error:
                self.skipped[error.path] = str(error)
                if error.path == self._claim_path(name):  # it was waited for, once
                    self._cut[name] = self._claim(name)

    def _newest(self, folder: OutputFolder) -> tuple[dict[str, Stored], bool]:
        """The windows to keep, by name, and whether there are older ones; no more compacted days are opened than it
        takes."""
        parts = [stored for stored in folder.stored if isinstance(stored, StoredPart)]
        single = [stored for stored in folder.stored if not isinstance(stored, StoredPart)]
        found, older = self._first_of({each.name: each for each in single if self._meant(each.name)})
        for part in sorted(parts, key=lambda each: each.end, reverse=True):
            if len(found) == self.most and part.end <= min(place_of(name)[0] for name in found):
                return found, True
            more = {name: part for name in part.index.names if self._meant(name)}
            found, left = self._first_of({**found, **more})
            older = older or left
        return found, older

    def _first_of(self, found: dict[str, Stored]) -> tuple[dict[str, Stored], bool]:
        """The newest of them, and whether there are more."""
        names = sorted(found, key=place_of, reverse=True)
        return {name: found[name] for name in names[: self.most]}, len(names) > self.most

    def _meant(self, name: str) -> bool:
        start, end, _, revision, _ = place_of(name)
        return not revision or start == -math.inf or (start >= self._since and end <= self._until)

    def _source(self, name: str) -> Stored:
        stored = self._sources[name]
        return StoredWindow(stored, stored.index.number[name]) if isinstance(stored, StoredPart) else stored

    def _take(self, name: str, whole: dict[StoredPart, pa.Table]) -> None:
        """Reads one window; of a compacted day all of its rows at once."""
        stored, source = self._sources[name], self._source(name)
        if place_of(name)[0] == -math.inf and stored.claimed:
            self._claims[name] = self._claim(name)
        if isinstance(stored, StoredPart):
            if stored not in whole:
                whole[stored] = _selected(stored.table("summaries"))
            low, high = stored.index.rows(stored.index.number[name])["summaries"]
            rows = whole[stored].slice(low, high - low)
        else:
            rows = _selected(stored.table("summaries"))
        self._rows[name] = rows
        if "events" in source.tables() and len(events := source.table("events")):
            self._events[name] = events
        self.totals.add(rows, self._events.get(name))

    def _count(
        self, table: str, column: str, counts: collections.Counter[str], rows: str | None
    ) -> bool:
        """Counts the rows of files that have not been seen, by a column; whether there were some.

        Args:
          rows: the column that says for how many rows of the data one stands; None for one.
        """
        more = False
        for path in self.place.files_under(table):
            form, name = path.rpartition(".")[2], f"{table}/{path}"
            if name in self._counted or form not in tables.TABLE_FORMATS or sum(counts.values()) >= MOST_LETTERS:
                continue
            try:
                found = table_schemas.typed(tables.decode(self.place.read(name), form), table)
            except FileNotFoundError:  # it is just being moved
                continue
            except Exception as error:  # whatever a decoder makes of what is not its own
                self.skipped[name] = f"{table}: must be a whole {form} file, got {name!r} ({error})"
                found = pa.table({})
            self._counted.add(name)
            if not len(found):
                continue
            texts = found.column(column).to_pylist()
            if not any(texts):
                self.skipped[name] = f"{table}: must have a column {column}, got {name!r} without"
                continue
            for text, n in zip(texts, found.column(rows).to_pylist() if rows else [1] * len(texts), strict=True):
                counts[str(text)] += n or 0
                more = True
        return more


def worst_of(rows: pa.Table) -> dict[str, Any] | None:
    """Of the rows of a window, one a key, the one that the fewest have answered for; None of none."""
    found: list[dict[str, Any]] = rows.to_pylist()
    return min(found, key=lambda row: row["coverage"], default=None)


def _selected(table: pa.Table) -> pa.Table:
    """`COLUMNS` of a table of summaries; those that it lacks are null."""
    kinds = {"refused": pa.int64(), "trust": pa.string(), "drifted": pa.bool_()}
    columns = {}
    for name in COLUMNS:
        there = name in table.column_names
        columns[name] = table.column(name) if there else pa.nulls(len(table), kinds.get(name, pa.float64()))
    return pa.table(columns).combine_chunks()
