"""How far a shard has read: the offsets of its parts, and what it has told the coordinator about each pane.

A pure value: reading on makes another one. It is the restriction of the reader's splittable DoFn, so it lives in the
runner's checkpoints, and all that a restarted reader needs is in it: no pane is told twice or left untold.
"""
from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.shards.refused import Counts, added, counts_of
from beam_coresets.shards.report import Range
from beam_coresets.streaming.windows import WindowSpec

MAX_EMPTY = 1000  # empty panes told in a row, or kept: a leap of years must not make millions of windows

Position = Any  # JSON
NONE_REFUSED: Mapping[int, Counts] = MappingProxyType({})


def first_offset(position: Position) -> int:
    """The offset of a source's position: itself, or what it holds as "offset"."""
    return int(position.get("offset", 0)) if isinstance(position, dict) else int(position)


@dataclasses.dataclass(frozen=True)
class PaneCount:
    """The rows of one pane that were read from one part.

    Attributes:
      upto: the offset up to which they have been reported, or from which on they are still to be.
      rows: how many there are.
      reported: how many of them have been reported.
      refused: rows that were refused and have not been reported, by column.
    """

    upto: int
    rows: int = 0
    reported: int = 0
    refused: Counts = ()

    def to_fields(self) -> list[Any]:
        """As JSON has it."""
        return [self.upto, self.rows, self.reported, *([self.refused] if self.refused else [])]

    @staticmethod
    def from_fields(fields: Sequence[Any]) -> PaneCount:
        """The inverse of `to_fields`."""
        return PaneCount(*fields[:3], *map(counts_of, fields[3:]))


@dataclasses.dataclass(frozen=True)
class PartCursor:
    """How far one part has been read.

    Attributes:
      position: where to read on, as its source puts it.
      offset: the next offset.
      high: the latest event time so far.
      lag: seconds from event to arrival, of the last message that came while the part was read to its end; one from a
        backlog only says that it is at most so much. Below 0 only where the clock was set back since.
      seen: when the last message came, in wall time.
      live: the part had been read to its end.
      closed: all panes before this one have nothing to come; None before the first.
      told: the coordinator has been told so of all panes before this one.
      begin: where `told` stood before anything was read; an earlier first message lowers it.
      whole: panes before this one lack what was in the part before reading began; None: none does.
      passed: panes before this one have passed while the part held messages that could not be read; None: none has.
      announced: the coordinator has been told so of all panes before this one.
      tallies: of panes that are not told, by pane; of announced ones without rows the latest `MAX_EMPTY`.
      late: rows of panes that had been told already, by pane.
      floors: for each pane that is not known to be decided, where to go back to in order to read all of it again.
    """

    position: Position
    offset: int = 0
    high: float = -math.inf
    lag: float = 0.0
    seen: float = -math.inf
    live: bool = False
    closed: int | None = None
    told: int | None = None
    begin: int | None = None
    whole: int | None = None
    passed: int | None = None
    announced: int | None = None
    tallies: Mapping[int, PaneCount] = dataclasses.field(default_factory=dict)
    late: Mapping[int, PaneCount] = dataclasses.field(default_factory=dict)
    floors: Mapping[int, Position] = dataclasses.field(default_factory=dict)

    def taken(
        self,
        start: int,
        stop: int,
        position: Position,
        panes: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
        high: float,
        now: float,
        refused: Mapping[int, Counts] = NONE_REFUSED,
    ) -> PartCursor:
        """After reading [start, stop): messages with `counts` (m,) rows in `panes` (m,), the latest of event time
        `high`, and those that were `refused`, by pane."""
        tallies, late, floors = dict(self.tallies), dict(self.late), dict(self.floors)
        told = self.told
        for pane in sorted({*np.unique(panes).tolist(), *refused}):
            rows = int(counts[panes == pane].sum())
            target = late if told is not None and pane < told else tallies
            have = target.get(pane, PaneCount(start))
            more = added((have.refused, refused.get(pane, ())))
            target[pane] = dataclasses.replace(have, rows=have.rows + rows, refused=more)
            if target is tallies:  # nobody may ever decide a pane that late rows are of: it must not hold the floor
                floors.setdefault(pane, self.position)
        if told is None and len(panes):
            told = int(panes.min())
        top = max(self.high, high)
        return dataclasses.replace(
            self,
            position=position,
            offset=stop,
            high=top,
            lag=self._lag(max(min(0.0, self.lag), now - high)) if len(panes) else self.lag,
            seen=now if len(panes) else self.seen,
            told=told,
            closed=told if self.closed is None else self.closed,
            tallies=tallies,
            late=late,
            floors=floors,
        )

    def _lag(self, seconds: float) -> float:
        return seconds if self.live else min(self.lag, seconds)

    def closed_at(self, pane: int) -> PartCursor:
        """After it has become known that all panes before `pane` are complete."""
        if self.closed is not None and pane <= self.closed:
            return self
        return dataclasses.replace(self, closed=pane, told=pane if self.told is None else self.told)

    def passed_at(self, pane: int) -> PartCursor:
        """After all panes before `pane` have passed, and their rows may be there, but can't be read: they are not
        complete, and somebody has to know that they are waited for."""
        if self.told is None or (self.passed is not None and pane <= self.passed):
            return self
        return dataclasses.replace(self, passed=pane)

    def news(self, part: int) -> dict[int, Range]:
        """What has not been told yet, by pane: rows, and that there will be no more of them."""
        out = {}
        for pane, tally in self.late.items():
            out[pane] = Range(part, tally.upto, self.offset, tally.rows, -1, True, False, tally.refused)
        ending = self._ending()
        for pane, tally in self.tallies.items():
            total = tally.rows if pane in ending else -1
            if tally.rows > tally.reported or tally.refused or total >= 0:
                new, headless = tally.rows - tally.reported, self._is_headless(pane)
                out[pane] = Range(part, tally.upto, self.offset, new, total, False, headless, tally.refused)
        for pane in ending:
            if pane not in self.tallies:
                out[pane] = Range(part, self.offset, self.offset, 0, 0, headless=self._is_headless(pane))
        for pane in self._passing():
            out[pane] = Range(part, self.offset, self.offset, 0, headless=self._is_headless(pane))
        return out

    def _passing(self) -> list[int]:
        """The panes that have passed, are not complete, and of which nothing is told or to be told."""
        if self.passed is None or self.told is None:
            return []
        begun = max(pane for pane in (self.told, self.closed, self.announced) if pane is not None)
        recent = range(max(begun, self.passed - MAX_EMPTY), self.passed)
        return [pane for pane in recent if pane not in self.tallies]

    def _is_headless(self, pane: int) -> bool:
        return self.whole is not None and pane < self.whole

    def stepped(self, seconds: float) -> PartCursor:
        """After the wall clock was set by so many seconds: events lag behind it by as much more, and came when they
        came."""
        return dataclasses.replace(self, lag=self.lag + seconds, seen=self.seen + seconds)

    def _ending(self) -> set[int]:
        """The panes whose end is to be told."""
        if self.closed is None or self.told is None:
            return set()
        recent = range(max(self.told, self.closed - MAX_EMPTY), self.closed)
        return set(recent) | {pane for pane in self.tallies if pane < self.closed}

    def reported(self) -> PartCursor:
        """After the coordinator has been told all `news`."""
        told = self.told if self.closed is None else self.closed
        tallies = {
            pane: PaneCount(
                self.offset if tally.rows > tally.reported or tally.refused else tally.upto, tally.rows, tally.rows
            )
            for pane, tally in self.tallies.items()
            if told is None or pane >= told
        }
        tallies |= {pane: PaneCount(self.offset) for pane in self._passing()}
        if self.passed is not None:  # as long as nothing closes, each pane would leave one for ever
            kept = self.passed - MAX_EMPTY
            tallies = {pane: tally for pane, tally in tallies.items() if tally.rows or pane >= kept}
        return dataclasses.replace(self, told=told, tallies=tallies, late={}, announced=self.passed)

    def floor(self) -> Position:
        """Where to go back to in order to read all of every pane that is not decided."""
        return min(self.floors.values(), key=first_offset, default=self.position)

    def settled(self, panes: set[int]) -> PartCursor:
        """After it has become known that these panes are decided."""
        left = {pane: position for pane, position in self.floors.items() if pane not in panes}
        return self if len(left) == len(self.floors) else dataclasses.replace(self, floors=left)


@dataclasses.dataclass(frozen=True)
class ShardCursor:
    """How far one shard has read.

    Attributes:
      parts: the parts it holds, by index.
      known: how many parts there are in all, as far as it knows.
      begin: the pane that the stream begins with, if it is known.
      period: seconds of a pane, by which panes are numbered; 0 where there are none.
    """

    parts: Mapping[int, PartCursor]
    known: int = 0
    period: float = 0.0
    begin: int | None = None

    def with_part(self, part: int, cursor: PartCursor) -> ShardCursor:
        """With one part's cursor replaced or added."""
        return dataclasses.replace(self, parts={**self.parts, part: cursor})

    def stepped(self, seconds: float) -> ShardCursor:
        """After the wall clock was set by so many seconds."""
        return dataclasses.replace(self, parts={n: c.stepped(seconds) for n, c in self.parts.items()})

    @property
    def closed(self) -> dict[int, int | None]:
        """Before which pane all are closed, by part."""
        return {part: cursor.closed for part, cursor in self.parts.items()}

    def closed_upto(self, panes: Mapping[int, int | None]) -> ShardCursor:
        """With these in place of `closed`."""
        parts = {part: dataclasses.replace(cursor, closed=panes[part]) for part, cursor in self.parts.items()}
        return dataclasses.replace(self, parts=parts)

    def paused(self) -> ShardCursor:
        """After a time in which nobody read: what comes next may have waited."""
        return dataclasses.replace(self, parts={n: dataclasses.replace(c, live=False) for n, c in self.parts.items()})

    @property
    def positions(self) -> dict[int, Position]:
        """Where to read on in each part."""
        return {part: cursor.position for part, cursor in self.parts.items()}

    @property
    def read_upto(self) -> float:
        """The event time up to which every part has been read; -inf before all of them have begun."""
        return min((cursor.high for cursor in self.parts.values()), default=-math.inf)

    @property
    def lag(self) -> float:
        """Seconds that events lag behind where nothing has come: the most of the parts where something has."""
        lags = [cursor.lag for cursor in self.parts.values() if not math.isinf(cursor.high)]
        return max(lags or (cursor.lag for cursor in self.parts.values()), default=0.0)

    def news(self) -> dict[int, tuple[Range, ...]]:
        """What the coordinator has not been told yet: by pane, the ranges."""
        out: dict[int, list[Range]] = {}
        for part in sorted(self.parts):
            for pane, found in self.parts[part].news(part).items():
                out.setdefault(pane, []).append(found)
        return {pane: tuple(out[pane]) for pane in sorted(out)}

    def reported(self) -> ShardCursor:
        """After the coordinator has been told all `news`."""
        return dataclasses.replace(self, parts={part: cursor.reported() for part, cursor in self.parts.items()})

    def to_json(self) -> str:
        """Equal cursors give equal text."""
        parts = {
            str(part): {
                **{name: getattr(c, name) for name in _PLAIN},
                **{name: None if math.isinf(getattr(c, name)) else getattr(c, name) for name in ("high", "seen")},
                "tallies": [[pane, *t.to_fields()] for pane, t in sorted(c.tallies.items())],
                "late": [[pane, *t.to_fields()] for pane, t in sorted(c.late.items())],
                "floors": sorted(c.floors.items()),
            }
            for part, c in sorted(self.parts.items())
        }
        fields = {"parts": parts, "known": self.known, "period": self.period, "begin": self.begin}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> ShardCursor:
        """The inverse of `to_json`."""
        held = json.loads(text)
        parts = {int(part): _part(fields) for part, fields in held["parts"].items()}
        return ShardCursor(parts, held["known"], held["period"], held.get("begin"))


_PLAIN = ("position", "offset", "lag", "live", "closed", "told", "begin", "whole", "passed", "announced")


def _part(fields: dict[str, Any]) -> PartCursor:
    for name in ("high", "seen"):
        fields[name] = -math.inf if fields[name] is None else fields[name]
    for name in ("tallies", "late"):
        fields[name] = {pane: PaneCount.from_fields(rest) for pane, *rest in fields[name]}
    fields["floors"] = {pane: position for pane, position in fields["floors"]}
    return PartCursor(**fields)


@dataclasses.dataclass(frozen=True)
class Completeness:
    """When a pane of a part is taken to be complete.

    Attributes:
      windows: the panes.
      disorder: event times may go back by this many seconds within a part.
      idle: a part where all has been read and nothing has come for this many seconds does not hold panes open; its
        next message is expected to lag as far behind as its last.
    """

    windows: WindowSpec
    disorder: float = 0.5
    idle: float = 1.0

    def __post_init__(self) -> None:
        for name in ("disorder", "idle"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must be at least 0 seconds, got {getattr(self, name)}")

    def closed(
        self,
        cursor: PartCursor,
        caught_up: bool,
        ended: bool,
        lag: float,
        now: float,
        age: float = 0.0,
        drained: bool = False,
    ) -> PartCursor:
        """The cursor with all panes closed that are complete.

        Args:
          caught_up: all that is in the part has been read.
          ended: nothing will come any more.
          lag: seconds that events lag behind, to assume where this part has had none.
          age: seconds ago it was found out that all has been read.
          drained: all that can be read has been, whatever else is in the part.
        """
        cursor = dataclasses.replace(cursor, live=bool(caught_up or drained))
        if ended:
            last = max(cursor.tallies, default=None)
            cursor = cursor if last is None else cursor.closed_at(last + 1)
        if not math.isinf(cursor.high):
            # One event from ahead of the clock must not close what is still to come.
            present = now - min(0.0, cursor.lag)  # the clock may have been set back since
            cursor = cursor.closed_at(self.windows.pane(min(cursor.high - self.disorder, present)))
        if now - cursor.seen >= self.idle:
            behind = lag if math.isinf(cursor.high) else cursor.lag
            if caught_up or ended:
                cursor = cursor.closed_at(self.windows.pane(now - age - behind - self.idle))
            elif drained:
                cursor = cursor.passed_at(self.windows.pane(now - behind - self.idle))
        return cursor

    def begun(self, cursor: PartCursor, time: float) -> PartCursor:
        """The cursor of a part whose first message has this event time: what may still follow is not late."""
        first = self.windows.pane(time - self.disorder)
        if cursor.whole is not None and math.isinf(cursor.high):  # what precedes it is hardly younger than it
            whole = self.windows.first_from(time + self.disorder)
            cursor = dataclasses.replace(cursor, whole=min(cursor.whole, whole))
        if cursor.told is None:
            return cursor.closed_at(first)
        if math.isinf(cursor.high) and cursor.told == cursor.closed == cursor.begin and first < cursor.told:
            return dataclasses.replace(cursor, closed=first, told=first)
        return cursor
