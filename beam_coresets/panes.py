"""Which windows a decided pane completes: sliding windows and running summaries are made of panes, so that each point
is summarized once."""
from __future__ import annotations

import dataclasses
import json

KEPT = 3  # windows' lengths of panes that are remembered


@dataclasses.dataclass
class PaneBook:
    """What is known of the panes of one key group. Changed in place.

    Attributes:
      decided: the panes that have been decided, and their newest revision.
      emitted: the windows that have been answered, by their last pane, and their newest revision.
      first: the earliest pane of all.
      skipped: panes older than what is remembered, which came too late for any window.
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
          The windows to answer now, as (last pane, revision), in order. A window waits for all of its panes, but not
          for panes that are still missing when one a whole window later has been decided. A revised pane revises the
          windows it is in.
        """
        horizon = max(self.decided, default=pane) - KEPT * panes
        if pane < horizon or self.decided.get(pane, 0) >= revision:
            self.skipped += 1
            return []
        fresh = pane not in self.decided
        self.decided[pane] = revision
        self.first = pane if self.first is None else min(pane, self.first)
        newest = max(self.decided)
        due = []
        for last in sorted(e for e in self.decided if e >= newest - KEPT * panes):
            inside = range(max(self.first, last - panes + 1), last + 1)
            if last in self.emitted:
                if not fresh and pane in inside:
                    due.append((last, self.emitted[last] + 1))
            elif newest >= last + panes or all(p in self.decided for p in inside):
                due.append((last, 1))
        self.emitted |= dict(due)
        self._forget(newest - KEPT * panes)
        return due

    def needed(self, panes: int) -> int:
        """The earliest pane that a window to come may need."""
        return max(self.decided, default=0) - 2 * panes

    def _forget(self, before: int) -> None:
        for book in (self.decided, self.emitted):
            for pane in [p for p in book if p < before]:
                del book[pane]

    def to_json(self) -> str:
        return json.dumps([sorted(self.decided.items()), sorted(self.emitted.items()), self.first, self.skipped])

    @staticmethod
    def from_json(text: str) -> PaneBook:
        decided, emitted, first, skipped = json.loads(text)
        return PaneBook(dict(decided), dict(emitted), first, skipped)
