"""Which windows a decided pane completes: sliding windows and running summaries are made of panes, so that each point
is summarized once. Panes come in any order."""
from __future__ import annotations

import bisect
import dataclasses
import json

KEPT_LENGTHS = 3  # windows' lengths for which a pane may be late
RUNNING_PANES = 4  # a running summary does not wait for a pane once one so much later has been decided
MAX_GAPS = 1000  # gaps in a running summary that may still be filled


@dataclasses.dataclass
class SlidingProgress:
    """What is known of the panes of one key group. Changed in place.

    Attributes:
      decided: the panes that have been decided, and their newest revision.
      emitted: the windows that have been answered, by their last pane, and their newest revision.
      first: the earliest pane of all.
      skipped: panes older than what is remembered, and those that had come before.
    """

    decided: dict[int, int] = dataclasses.field(default_factory=dict)
    emitted: dict[int, int] = dataclasses.field(default_factory=dict)
    first: int | None = None
    skipped: int = 0

    def take(self, pane: int, revision: int, panes: int) -> list[tuple[int, int]]:
        """Notes a decided pane.

        Args:
          panes: how many make a window.

        Returns:
          The windows to answer now, as (last pane, revision), in order. There is a window for each pane that has been
          decided, its last. It waits for all of its panes, but not for panes that are still missing when one a whole
          window later has been decided. A pane that comes after all, or is revised, revises the windows it is in.
        """
        horizon = max(self.decided, default=pane) - KEPT_LENGTHS * panes
        if pane < horizon or self.decided.get(pane, 0) >= revision:
            self.skipped += 1
            return []
        self.decided[pane] = revision
        self.first = pane if self.first is None else min(pane, self.first)
        newest = max(self.decided)
        due = []
        for last in sorted(self.decided):
            inside = self.inside(last, panes)
            if last in self.emitted:
                if pane in inside:
                    due.append((last, self.emitted[last] + 1))
            elif newest >= last + panes or all(p in self.decided for p in inside):
                due.append((last, 1))
        self.emitted |= dict(due)
        self._forget(newest - KEPT_LENGTHS * panes)
        return due

    def inside(self, last: int, panes: int) -> range:
        """The panes of a window, from the first of all on."""
        start = last - panes + 1
        return range(start if self.first is None else max(self.first, start), last + 1)

    def needed(self, panes: int) -> int:
        """The earliest pane that a window to come, or a revision of one, may need."""
        return max(self.decided, default=0) - (KEPT_LENGTHS + 1) * panes + 1

    def _forget(self, before: int) -> None:
        for revisions in (self.decided, self.emitted):
            for pane in [p for p in revisions if p < before]:
                del revisions[pane]

    def to_json(self) -> str:
        """The whole of it, for `from_json`."""
        return json.dumps([sorted(self.decided.items()), sorted(self.emitted.items()), self.first, self.skipped])

    @staticmethod
    def from_json(text: str) -> SlidingProgress:
        """What `to_json` was given."""
        decided, emitted, first, skipped = json.loads(text)
        return SlidingProgress(dict(decided), dict(emitted), first, skipped)


@dataclasses.dataclass
class RunningProgress:
    """Which panes a running summary has taken in. Changed in place.

    Attributes:
      first, newest: the earliest and the latest of them; None before there is any.
      gaps: [low, high) of the panes in between that it has not, in rising order; of very many the latest.
      waiting: panes that have been decided and wait for those before them.
      skipped: panes that had come before, and those of forgotten gaps.
    """

    first: int | None = None
    newest: int | None = None
    gaps: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    waiting: list[int] = dataclasses.field(default_factory=list)
    skipped: int = 0

    def take(self, pane: int) -> list[tuple[int, int]]:
        """Notes a decided pane.

        Returns:
          The panes to take in now, in this order, as (pane, steps): by how many panes the summary moves on for it, 0
          for the first of all. One that comes after later ones is -steps panes behind the newest.
        """
        if pane in self.waiting or not self._is_new(pane):
            self.skipped += 1
            return []
        bisect.insort(self.waiting, pane)
        latest = max(self.waiting[-1], pane if self.newest is None else self.newest)
        taken = []
        while self.waiting:
            pane = self.waiting[0]
            if self.newest is not None and pane > self.newest + 1 and latest < pane + RUNNING_PANES:
                break
            taken.append((self.waiting.pop(0), self._moved_on(pane)))
        return taken

    def _is_new(self, pane: int) -> bool:
        if self.first is None or self.newest is None or not self.first <= pane <= self.newest:
            return True
        return any(low <= pane < high for low, high in self.gaps)

    def _moved_on(self, pane: int) -> int:
        if self.first is None or self.newest is None:
            self.first = self.newest = pane
            return 0
        steps = pane - self.newest
        if self.first <= pane <= self.newest:
            i = next(i for i, (low, high) in enumerate(self.gaps) if low <= pane < high)
            low, high = self.gaps[i]
            self.gaps[i : i + 1] = [gap for gap in ((low, pane), (pane + 1, high)) if gap[0] < gap[1]]
        elif pane < self.first:
            self.gaps[:0] = [(pane + 1, self.first)] if pane + 1 < self.first else []
        elif steps > 1:
            self.gaps.append((self.newest + 1, pane))
        del self.gaps[:-MAX_GAPS]
        self.first, self.newest = min(self.first, pane), max(self.newest, pane)
        return steps

    def to_json(self) -> str:
        """The whole of it, for `from_json`."""
        return json.dumps([self.first, self.newest, self.gaps, self.waiting, self.skipped])

    @staticmethod
    def from_json(text: str) -> RunningProgress:
        """What `to_json` was given."""
        first, newest, gaps, waiting, skipped = json.loads(text)
        return RunningProgress(first, newest, [(low, high) for low, high in gaps], waiting, skipped)
