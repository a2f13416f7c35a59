"""The windows of output folders, as a program reads them."""
from __future__ import annotations

import datetime
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets import table_schemas, values
from beam_coresets.points.column_order import listed
from beam_coresets.summaries.choosing import Identity, Row, gaps_of, newest_of, tiled
from beam_coresets.summaries.claim_records import DamagedFileError
from beam_coresets.summaries.columns import as_frame
from beam_coresets.summaries.folders import OutputFolder, Stored
from beam_coresets.summaries.moments import Moment, instant, seconds, shown
from beam_coresets.summaries.places import NoSummariesError, ahead, places_of
from beam_coresets.summaries.rolling import rolled_up
from beam_coresets.summaries.window import WindowSummary


class SkippedFile(UserWarning):
    """A damaged file was passed over, with the window that it is of."""


class MissingWindows(UserWarning):
    """A period has times that no window is of."""


class Gap(NamedTuple):
    """A time that no window is of, in UTC; the end is excluded."""

    start: datetime.datetime
    end: datetime.datetime


class _Found(NamedTuple):
    stored: Stored
    row: Row


def open_summaries(path: str | Sequence[str]) -> StoredSummaries:
    """The windows that runs have written, as they are now; later ones are there when it is called again.

    Only names are read here, and of each question that is asked later the files that it needs. Windows that a stream
    has claimed are there whole, before and after their files are moved into their places; no others are.

    Args:
      path: an `--output` folder, a glob of some, or several of them; on this machine, or a URL that fsspec knows, such
        as s3://bucket/out. Their format is told by their files.

    Raises:
      NoSummariesError: a ValueError: no such folder, or one without summaries.
    """
    patterns = [path] if isinstance(path, str) else list(map(str, path)) if isinstance(path, Sequence) else [str(path)]
    places = {place.name: place for pattern in patterns for place in places_of(pattern)}
    several = len(places) > 1
    folders = []
    for place in places.values():
        try:
            folders.append(OutputFolder(place))
        except ValueError:
            if not several:
                raise
    if not folders:
        raise NoSummariesError(f"path: must hold a summaries table, got {', '.join(places)} without any")
    return StoredSummaries(folders)


class StoredSummaries:
    """Windows in the order of their start and key, the newest revision of each; `open_summaries` makes one.

    Args:
      folders: that they are in. since, until: in seconds since the epoch; windows that start no earlier and end no
        later are meant. only: of these keys. skipped: path -> what is wrong with it.

    Attributes:
      skipped: the damaged files that were passed over so far, path -> what is wrong. They are warned of, too.
    """

    def __init__(
        self,
        folders: Sequence[OutputFolder],
        since: float | None = None,
        until: float | None = None,
        only: frozenset[str] | None = None,
        skipped: dict[str, str] | None = None,
    ) -> None:
        self._folders, self._since, self._until, self._only = tuple(folders), since, until, only
        self.skipped: dict[str, str] = {} if skipped is None else skipped

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[WindowSummary]:
        return (self._window(identity) for identity in self._index)

    def __getitem__(self, number: int) -> WindowSummary:
        return self._window(list(self._index)[number])

    def __repr__(self) -> str:
        where = listed([folder.place.name for folder in self._folders])
        return f"<StoredSummaries of {len(self):,} windows in {where}>"

    def keys(self) -> list[str]:
        """The keys that there are windows of, in rising order; one empty key where there are none."""
        return sorted({identity.key for identity in self._index})

    def latest(self, key: str | None = None) -> WindowSummary:
        """The window that ends last, of this key; where its files are damaged, the one before.

        Only this window's files are read.

        Args:
          key: may be left out where that window has one key.

        Raises:
          NoSummariesError: a ValueError: there is none. ValueError: it has several keys and none is given.
        """
        return self._last(key, self._stored(), "the collection")

    def window(self, at: Moment, key: str | None = None) -> WindowSummary:
        """The window that holds a time; of several, as sliding and running ones are, the one that ends first.

        Args:
          at: a datetime or ISO 8601 text, UTC unless it says otherwise.
          key: may be left out where that window has one key.

        Raises:
          ValueError: there is none.
        """
        time = seconds(at)
        assert time is not None
        held = [stored for stored in self._stored() if stored.start <= time < stored.end]

        def holds(identity: Identity) -> bool:
            return identity.start is not None and identity.end is not None and identity.start <= time < identity.end

        return self._last(key, held, shown(time), holds, first=True)

    def between(self, start: Moment | None = None, end: Moment | None = None) -> StoredSummaries:
        """The windows that start no earlier and end no later than these times; None for any.

        Raises:
          ValueError: no time, or one after the other.
        """
        since, until = seconds(start, "start"), seconds(end, "end")
        if since is not None and until is not None and until < since:
            raise ValueError(f"end: must not be before {shown(since)}, got {shown(until)}")
        since = max((t for t in (since, self._since) if t is not None), default=None)
        until = min((t for t in (until, self._until) if t is not None), default=None)
        return StoredSummaries(self._folders, since, until, self._only, self.skipped)

    def of_keys(self, *keys: str) -> StoredSummaries:
        """The windows of these keys."""
        only = frozenset(keys) if self._only is None else self._only & frozenset(keys)
        return StoredSummaries(self._folders, self._since, self._until, only, self.skipped)

    def gaps(self) -> list[Gap]:
        """The times that no window is of, of any key: between the first and the last window, or in all of the period
        that `between` was given."""
        found = gaps_of(self._index, self._since, self._until)
        return [Gap(a, b) for a, b in ((instant(low), instant(high)) for low, high in found) if a and b]

    def checked(self) -> StoredSummaries:
        """Those whose files are all there as they were written, by reading all of them."""
        kept = []
        every = ahead(self._index, lambda identity: self._index[identity].stored.check(), self._readers)
        for identity, done in every:
            with self._skipping():
                done.result()
                kept.append(identity)
        found = StoredSummaries(self._folders, self._since, self._until, self._only, self.skipped)
        found.__dict__["_index"] = {identity: self._index[identity] for identity in kept}
        return found

    def rollup(self, key: str | None = None, across_keys: bool = False, **asked: Any) -> WindowSummary:
        """One summary for all of the windows, in bounded memory: its coreset, centers and certificate.

        Windows that overlap are chosen so that each time counts once (sliding windows), or the longest of those with
        one start (running ones). Where times are missing, they are warned of and stay missing. Files that are damaged
        are passed over with their windows.

        Args:
          key: whose windows, where there are several keys.
          across_keys: of all keys together.
          asked: `k`, `z`, `coreset_size` (points a shard, default 40 k), `method`, `outliers`, `constraint`, `seed`
            and `quick`; by default what was asked of the windows.

        Raises:
          ValueError: no windows, several keys and none given, windows that overlap and do not tile the period, or that
            can't be merged because shards, columns, scale or metric differ.
        """
        chosen = self if key is None else self.of_keys(key)
        keys = chosen.keys()
        if not keys:
            raise ValueError(f"windows: must be some, got none {self._period()}")
        if len(keys) > 1 and not across_keys:
            raise ValueError(f"key: must be one of {listed(keys)}, or across_keys, got none")
        if missing := chosen.gaps():
            first = f"the first from {shown(missing[0].start)} to {shown(missing[0].end)}"
            warnings.warn(f"windows: {len(missing)} gaps in the period, {first}", MissingWindows, stacklevel=2)
        identities = tiled(chosen._index)
        windows = (chosen._window(identity) for identity in identities)
        rows = [chosen._index[identity].row for identity in identities]
        return rolled_up(windows, "" if across_keys else keys[0], self._skipping, rows, self._readers, **asked)

    def events(self, *kinds: str) -> pa.Table:
        """What there was to tell of the windows, in their order: the rows of `events`, times as timestamps.

        Args:
          kinds: such as "born" or "coverage_lost"; all of them if none is named.
        """
        parts = [table_schemas.EVENTS.empty_table()]
        for stored in dict.fromkeys(found.stored for found in self._index.values()):
            with self._skipping():
                table = table_schemas.typed(stored.table("events"), "events")
                keep = [(not kinds or row["kind"] in kinds) and (not self._only or row["key"] in {"", *self._only})
                        for row in table.select(["kind", "key"]).to_pylist()]  # fmt: skip
                parts.append(table.filter(pa.array(keep, pa.bool_())))
        return pa.concat_tables(parts)

    def marginals(self, *names: str) -> pa.Table:
        """What each column looks like, window by window: the rows of `columns`, times as timestamps. Of windows that
        were written without that table, they are told from the coresets.

        Args:
          names: of columns; all of them if none is named.
        """
        parts = [table_schemas.COLUMNS.empty_table()]
        together: dict[Stored, dict[tuple[Any, ...], Identity]] = {}
        for identity, found in self._index.items():
            together.setdefault(found.stored, {})[identity[1:]] = identity
        for stored, wanted in together.items():
            with self._skipping():
                table = stored.table("columns")
                rows = zip(*(table.column(i).to_pylist() for i in range(len(Identity._fields) - 1)), strict=True)
                keep = [(start, end, key or "", revision) in wanted for start, end, key, revision in rows]
                parts.append(table_schemas.typed(table.filter(pa.array(keep, pa.bool_())), "columns"))
                parts += [] if keep else [self._window(identity).marginals for identity in wanted.values()]
        every = pa.concat_tables(parts)
        return every.filter(pc.is_in(every.column("column_name"), pa.array(names))) if names else every

    def to_arrow(self, table: str = "summaries") -> pa.Table:
        """The rows of a table of all windows, with a column for each coordinate under its name, times as timestamps.

        Raises:
          ValueError: no such table, or windows whose coordinates have other names.
        """
        parts: list[pa.Table] = []
        names: dict[tuple[str, ...] | None, WindowSummary] = {}
        for window in self:
            with self._skipping():
                part = window.to_arrow(table)
                names.setdefault(window.columns if table != "summaries" else None, window)
                parts.append(part)
        if len(names) > 1:
            (first, a), (other, b) = list(names.items())[:2]
            raise ValueError(
                f"columns: must be the same in all windows, got ({listed(first or ())}) from {shown(a.start)} on and "
                f"({listed(other or ())}) from {shown(b.start)} on in {b.identity.input!r}"
            )
        if not parts:
            raise ValueError(f"windows: must be some, got none {self._period()}")
        return values.stacked(parts)

    def to_pandas(self, table: str = "summaries") -> Any:
        """`to_arrow` as a DataFrame; an ImportError without pandas."""
        return as_frame(self.to_arrow(table))

    @property
    def _readers(self) -> int:
        return max(folder.place.readers for folder in self._folders)

    def _period(self) -> str:
        return f"from {shown(self._since)} to {'the end' if self._until is None else shown(self._until)}"

    def _stored(self) -> list[Stored]:
        """Those that may have windows of the period, as far as names tell."""
        low = -math.inf if self._since is None else self._since
        high = math.inf if self._until is None else self._until
        every = (stored for folder in self._folders for stored in folder.stored)
        return [stored for stored in every if stored.end > low and stored.start < high]

    @functools.cached_property
    def _index(self) -> dict[Identity, _Found]:
        """All that are meant, in their order."""
        every = ahead(self._stored(), _rows_of, self._readers)
        found: dict[Identity, _Found] = {}
        for stored, rows in every:
            _add(found, self._rows(stored, rows.result))
        chosen = newest_of((identity, each.row) for identity, each in found.items())
        named: dict[tuple[Any, ...], str] = {}
        for identity in chosen:
            other = named.setdefault(identity[1:4], identity.input)
            if other != identity.input:
                at = shown(identity.start)
                raise ValueError(
                    f"path: must have each window and key once, got {at} of key {identity.key!r} in {other!r} and "
                    f"{identity.input!r}"
                )
        order = sorted(chosen, key=lambda i: (i.start or -math.inf, i.end or math.inf, i.key))
        return {identity: found[identity] for identity in order}

    def _rows(
        self, stored: Stored, rows: Callable[[], list[tuple[Identity, Row]]]
    ) -> Iterator[tuple[Identity, _Found]]:
        """The rows of those that are meant; none where the file is damaged."""
        with self._skipping():
            for identity, row in rows():
                early = self._since is not None and (identity.start is None or identity.start < self._since)
                late = self._until is not None and (identity.end is None or identity.end > self._until)
                if not early and not late and (self._only is None or identity.key in self._only):
                    yield identity, _Found(stored.of(identity), row)

    def _last(
        self,
        key: str | None,
        candidates: list[Stored],
        what: str,
        meant: Callable[[Identity], bool] = lambda identity: True,
        first: bool = False,
    ) -> WindowSummary:
        """The window that ends last (or first) among some, whole; no more files are read than it takes."""
        damaged: set[Stored] = set()
        sign = 1 if first else -1
        while True:
            end = None
            found: dict[Identity, _Found] = {}
            for stored in sorted(candidates, key=lambda s: sign * (s.end if not first else s.start)):
                if stored in damaged:
                    continue
                if end is not None and not first and stored.end < end:
                    break
                rows = self._rows(stored, functools.partial(_rows_of, stored))
                own = {i: f for i, f in rows if meant(i) and (key is None or i.key == key)}
                _add(found, own.items())
                end = max([end or -math.inf, *(_end(i) for i in own)]) if own else end
            chosen = newest_of((identity, each.row) for identity, each in found.items())
            if not chosen:
                of_key = f" and key {key!r}" if key else ""
                raise NoSummariesError(f"window: must be one of {what}{of_key}, got none")
            edge = (min if first else max)(map(_end, chosen))
            those = [identity for identity in chosen if _end(identity) == edge]
            if len({identity.key for identity in those}) > 1:
                raise ValueError(f"key: must be one of {listed(sorted({i.key for i in those}))}, got none")
            identity = max(those, key=lambda i: (i.start or -math.inf, i.revision))
            stored = found[identity].stored
            with self._skipping():
                stored.check()
                return WindowSummary.stored(stored, identity, found[identity].row)
            damaged.add(stored.whole)

    def _window(self, identity: Identity) -> WindowSummary:
        found = self._index[identity]
        return WindowSummary.stored(found.stored, identity, found.row)

    def _skipping(self) -> _Skipping:
        return _Skipping(self.skipped)


class _Skipping:
    """Within it a damaged file is noted down and warned of, once, and what follows in the block is left out."""

    def __init__(self, skipped: dict[str, str]) -> None:
        self._skipped = skipped

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if not isinstance(error, DamagedFileError):
            return False
        if error.path not in self._skipped:
            self._skipped[error.path] = str(error)
            warnings.warn(f"skipped a window: {error}", SkippedFile, stacklevel=3)
        return True


def _add(found: dict[Identity, _Found], more: Iterable[tuple[Identity, _Found]]) -> None:
    """Adds windows to those found; of one folder each is there once, unless tables of several runs have been copied."""
    for identity, each in more:
        other = found.setdefault(identity, each)
        if other is not each and not each.stored.claimed:
            both = f"{other.stored.name!r} and {each.stored.name!r} in {identity.input!r}"
            at = f"{shown(identity.start)} of key {identity.key!r}"
            raise ValueError(f"path: must hold one run's tables, got {at} in {both}")
        found[identity] = each


def _rows_of(stored: Stored) -> list[tuple[Identity, Row]]:
    return stored.rows


def _end(identity: Identity) -> float:
    return math.inf if identity.end is None else identity.end
