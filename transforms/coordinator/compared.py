"""What each window of a stream is compared with: a fixed reference, or the last window that shares no time with it."""
import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from beam_coresets import table_schemas
from beam_coresets.comparing.drift import Reference
from beam_coresets.comparing.recent import RecentWindow, RecentWindows
from beam_coresets.comparing.seen import Seen
from beam_coresets.comparing.told import compared
from beam_coresets.coordinator.decision import Verdict
from beam_coresets.points.named_scale import NamedScale
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.choosing import Identity
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.times import iso
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference
from beam_coresets.transforms.writing.claims import Claims

_LOG = logging.getLogger(__name__)


class Comparisons:
    """Compares the windows of one stream; of thousands of keys none, as that takes longer than to solve them.

    Args:
      question, scale: of the stream. claims: where its windows are claimed, if they are.
      reference: what all windows are compared with; None: each with the last one that shares no time with it.
    """

    def __init__(
        self, question: Question, scale: Scale | None, claims: Claims | None, reference: FixedReference | None
    ) -> None:
        self._question, self._scale, self._claims = question, scale, claims
        self._warned = False
        self._of = "" if reference is None else reference.name
        self._fixed = None if reference is None else reference.scaled(scale)
        self.by_window = reference is None and not question.quick

    def seen(self, decision: Any) -> Seen | None:
        """A window's sample; None where nothing is compared."""
        return None if self._question.quick else Seen.of(decision)

    def recent_of(self, names: Sequence[str], window: Window) -> RecentWindows:
        """The claimed windows of these names, newest first, that later ones may be compared with; none is read yet.

        Args:
          window: that comes next. Windows that begin with it are of a running summary, and never apart from it.
        """
        found: dict[tuple[float, float], RecentWindow] = {}
        for name in names if self.by_window else ():
            start, end, _, revision, _ = place_of(name)
            if start != window.start:
                found.setdefault((start, end), RecentWindow(start, end, None, revision))
        return RecentWindows(tuple(sorted(found.values(), key=lambda each: each.end)))

    def compare(
        self, verdict: Verdict, seen: Seen | None, summary: Summary, recent: RecentWindows
    ) -> tuple[Summary, RecentWindows]:
        """The summary with what has changed, and the recent windows with what was read of them."""
        if seen is None:
            return summary, recent
        if self._fixed is not None:
            dim, own = seen.points.shape[1], self._fixed.seen.points.shape[1]
            if dim != own and not self._warned:
                _LOG.warning("reference: must be of %d coordinates, got %d in %r", dim, own, self._of)
                self._warned = True
            return compared(summary, seen, self._fixed, self._of, self._question, False), recent
        while (before := recent.before(verdict.start)) is not None and before.reference is None:
            held = self._claimed(before, verdict.group)
            recent = recent.without(before)
            if held is not None:
                recent = RecentWindows(tuple(sorted(
                    [*recent.windows, RecentWindow(before.start, before.end, held, before.revision)],
                    key=lambda each: each.end,
                )))  # fmt: skip
        if before is None or before.reference is None:
            return summary, recent
        of = f"{iso(before.start)} to {iso(before.end)}"
        return compared(summary, seen, before.reference, of, self._question, True), recent

    def _claimed(self, window: RecentWindow, group: str) -> Reference | None:
        """A claimed window as others are compared with it; None where it has no rows, or another question was asked."""
        assert self._claims is not None
        name = Window(window.start, window.end, group, window.revision).name
        question = self._question
        try:
            (row,) = table_schemas.in_seconds(self._claims.read(name, "summaries")).to_pylist()
            if not row["centers"] or (row["metric"], row["z"]) != (question.metric, question.sampler.z):
                return None
            scale = None if self._scale is None else NamedScale(self._scale, question.columns)
            identity = Identity("", window.start, window.end, row["key"] or "", window.revision)
            stored = WindowSummary(identity, row, lambda table: self._read(name, table), scale)
            found = FixedReference.of_window(stored, question.columns)
        except (ValueError, FileNotFoundError) as error:
            _LOG.warning("drift: must have a window before that can be read, got %s: %s", name, error)
            return None
        return None if found is None else found.scaled(self._scale).reduced()

    def _read(self, name: str, table: str) -> pa.Table:
        assert self._claims is not None
        return table_schemas.in_seconds(self._claims.read(name, table))
