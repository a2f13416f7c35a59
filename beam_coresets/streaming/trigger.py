"""How long the coordinator waits for a window, what it does with each report, and when it stops waiting.

Pure: time comes in as a number, and a window's whole state is a `WindowProgress`, which Beam keeps. All
shards final: decide at once. Else at the later of (window end + deadline) and (the `min_shards`-th final + grace), so
that catching up after a pause does not answer with one shard; in any case `cap` seconds after the window's end or the
first report, whichever is later. A timer that fires late waits once more for `grace` seconds, or for the deadline after
what must have been a restart: a worker that was stopped sees old timers before the reports that came meanwhile.
"""
from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt

from beam_coresets.declared import Seconds, check_values, declare, described
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.report import WHOLE, Range, ShardReport
from beam_coresets.streaming.progress import WindowProgress

KEPT, LATE, REPEATED, OVERLAPPING, EXPIRED = "kept", "late", "repeated", "overlapping", "expired"
DUE_SLACK = 1e-3
COMPACT_AFTER_REPORTS = 64  # reports a window
FIRED_LATE = 1.0  # seconds after its time at which a timer is taken for an old one


@dataclasses.dataclass(frozen=True)
class PatienceParameters:
    """What `Patience` and the commands that wait take."""

    deadline: Seconds = declare(5.0, "a window is waited for so long after its end", group="windows")
    grace: Seconds = declare(
        1.0, "and so long after the last of --min-shards, or after a timer that fired late", group="windows"
    )
    cap: Seconds = declare(
        60.0, "but no longer than so long after its end or its first report, whichever is later", group="windows"
    )
    retention: Seconds = declare(600.0, "decided windows are remembered so long", group="windows")
    min_shards: int = declare(1, "shards that are waited for even past the deadline", group="windows")
    revise: bool = declare(False, "late reports that complete a window revise it", group="windows")


@described
@dataclasses.dataclass(frozen=True)
class Patience(PatienceParameters):
    """For how long to wait; all in seconds. The cap is at least the deadline; while catching up more shards are waited
    for (`Watch.needed`); after a restart the grace is the deadline.

    Attributes:
      deadline: after the window's end.
      grace: after the `min_shards`-th shard is final, and after a timer that fired late (a restart: `deadline`).
      cap: after the window's end or first report, whichever is later, whoever is missing; at least the deadline.
      retention: after its decision a window is remembered for so long.
      min_shards: as many final shards are waited for even past the deadline; more while catching up (`Trigger.needed`).
      revise: whether late reports that complete a window make revision 2 of it.

    Raises:
      ValueError: a length is negative or not finite, or they contradict each other.
    """

    def __post_init__(self) -> None:
        check_values(self, PatienceParameters)
        for name in ("deadline", "grace", "cap", "retention"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must be at least 0 seconds, got {getattr(self, name)}")
        if self.cap < self.grace:
            raise ValueError(f"cap: must be at least grace = {self.grace:g} s, got {self.cap:g}")
        if self.min_shards < 1:
            raise ValueError(f"min_shards: must be at least 1, got {self.min_shards}")


@dataclasses.dataclass(frozen=True)
class Trigger:
    """The rules by which a `WindowProgress` is kept.

    Attributes:
      assignment: who holds what.
      patience: for how long.
      parts: how many parts there were at the start, where parts are buckets.
      behind: seconds by which this one decides later than another that decides the same windows, so that it need not
        where that one has; half of that where a shard is late, as what makes it so may have stopped the other, too.
    """

    assignment: Assignment
    patience: Patience
    parts: int = 0
    behind: float = 0.0

    def receive(self, progress: WindowProgress, report: ShardReport, now: float, gone: bool = False) -> str:
        """Takes note of a report; changes `progress`.

        Args:
          gone: the window has been decided and forgotten (asked for only where nothing is known of it).

        Returns:
          KEPT: it counts. LATE: it came after the decision. REPEATED: all of it had come before. OVERLAPPING: some of
          it had. EXPIRED: the window has been forgotten.
        """
        fresh = progress.first is None
        if fresh and (gone or (report.ranges and all(r.late for r in report.ranges))):
            return EXPIRED
        news = [r for r in report.ranges if r.stop > r.start]
        repeats = [self._overlap(progress, report.shard, r) for r in news]
        if not news and self._is_known(progress, report):
            return REPEATED
        if any(repeats):
            return REPEATED if all(found == "inside" for found in repeats) else OVERLAPPING
        if progress.revision and not self._may_revise(progress):
            return LATE
        for r in report.ranges:
            _enter(progress, report.shard, r)
        progress.first = now if progress.first is None else progress.first
        progress.parts = max(progress.parts, self.parts, report.parts)
        progress.kept += 1
        if progress.revision:
            progress.late += report.late_rows()
        if self.is_final(progress, report.shard):
            progress.finals.setdefault(report.shard, now)
        else:
            progress.finals.pop(report.shard, None)
        return KEPT

    def _is_known(self, progress: WindowProgress, report: ShardReport) -> bool:
        """Whether a report without offsets says nothing new."""
        had = [progress.received.get((report.shard, r.part)) for r in report.ranges]
        return bool(had) and all(h is not None and h[2] >= r.total for h, r in zip(had, report.ranges, strict=True))

    def is_final(self, progress: WindowProgress, shard: int) -> bool:
        """Whether the shard has said all, and all of it has arrived."""
        if _is_complete(progress, shard, WHOLE):
            return True
        if not self.assignment.parts:
            return False
        held = self.assignment.held_by(shard)
        held = held[: np.searchsorted(held, max(progress.parts, self.parts))]
        return all(_is_complete(progress, shard, part) for part in held.tolist())

    def complete(self, progress: WindowProgress) -> bool:
        """Whether every shard that holds anything has said all."""
        parts = self._parts(progress)
        if len(progress.finals) < self.assignment.shards - _idle(self.assignment, parts):
            return False
        return all(shard in progress.finals for shard in np.flatnonzero(_first_held(self.assignment) < parts).tolist())

    def _parts(self, progress: WindowProgress) -> int:
        """The buckets that may have rows are those below."""
        return max(progress.parts, self.parts) if self.assignment.parts else self.assignment.buckets

    def _final_at(self, progress: WindowProgress, number: int) -> float:
        """When so many shards, 1 or more, were final, infinity if fewer are: those that hold nothing always were."""
        number -= _idle(self.assignment, self._parts(progress))
        times = progress.finals.rising()
        return -math.inf if number < 1 else times[number - 1] if number <= len(times) else math.inf

    def gaps(self, progress: WindowProgress) -> int:
        """Rows that shards say they have sent and that have not arrived."""
        return sum(max(0, total - rows) for _, rows, total in progress.received.values())

    def due(self, progress: WindowProgress, window_end: float) -> float:
        """When the window is decided if nothing else comes."""
        if progress.first is None:
            return math.inf
        patience = self.patience
        if self.behind and self.complete(progress):
            return max(progress.first, *progress.finals.rising()[-1:]) + self.behind
        enough = self._final_at(progress, self.needed(progress, window_end))
        due = max(window_end + patience.deadline, enough + patience.grace)
        due = min(due, max(progress.first, window_end) + max(patience.cap, patience.deadline))
        return max(due, progress.not_before) + self.behind / 2

    def needed(self, progress: WindowProgress, window_end: float) -> int:
        """How many final shards are waited for past the deadline: `min_shards`, and where all of them are late, because
        a backlog is read or the job has been restarted, as many as hold all of the data."""
        catching_up = progress.restarted or (progress.first or 0.0) > window_end + self.patience.deadline
        if not catching_up:
            return self.patience.min_shards
        return max(self.patience.min_shards, self.assignment.shards - max(0, self.assignment.tolerates()))

    def rearmed(self, progress: WindowProgress, window_end: float) -> bool:
        """Whether the timer must be set, to `progress.armed`, because the window is due at another time now; changes
        `progress`."""
        due = self.due(progress, window_end)
        if progress.revision or (progress.armed is not None and abs(due - progress.armed) <= DUE_SLACK):
            return False
        progress.armed = due
        return True

    def on_report(self, progress: WindowProgress) -> bool:
        """Whether to decide right now, after a report that was kept: also for a revision."""
        return self.complete(progress) and (self.behind == 0 if progress.revision == 0 else self._may_revise(progress))

    def on_timer(self, progress: WindowProgress, now: float, window_end: float) -> bool:
        """Whether to decide now that a timer has fired; if not, `progress.armed` says when the next one
        is due, if any."""
        if progress.revision or progress.first is None:
            progress.armed = None
            return False
        due = self.due(progress, window_end)
        if now < due - DUE_SLACK:
            progress.armed = due
            return False
        if self.behind and self.complete(progress):
            return True
        if progress.armed is not None and now > progress.armed + FIRED_LATE and not progress.waited:
            wait, longest = self.patience.grace, max(self.patience.deadline, self.patience.grace)
            if now > progress.armed + longest:  # it must be a restart: the readers have to come back, too
                wait, progress.restarted, progress.first = longest, True, now
            progress.waited, progress.not_before = True, now + wait
            progress.armed = max(self.due(progress, window_end), progress.not_before)
            return False
        return progress.armed is None or now >= progress.armed - DUE_SLACK

    def reason(self, progress: WindowProgress, window_end: float) -> str:
        """Why it is decided: "all" have answered, the "deadline" has passed, or the "cap" has been reached."""
        if self.complete(progress):
            return "all"
        return "deadline" if self._final_at(progress, self.needed(progress, window_end)) < math.inf else "cap"

    def decided(self, progress: WindowProgress, now: float) -> None:
        """Notes that the window has been decided; changes `progress`."""
        progress.revision += 1
        progress.partial = not self.complete(progress)
        progress.late = []
        progress.decided_at = now if progress.decided_at is None else progress.decided_at
        progress.armed = None

    def keeps_reports(self, progress: WindowProgress) -> bool:
        """Whether reports may still be needed."""
        return progress.revision == 0 or self._may_revise(progress)

    def crowded(self, progress: WindowProgress) -> bool:
        """Whether one report a shard is to be made of those that are kept: with many shards not before there are as
        many new ones, as all are read for it."""
        return progress.kept > COMPACT_AFTER_REPORTS and progress.kept > progress.received.shards

    def expires(self, progress: WindowProgress) -> float:
        """When the window is forgotten."""
        return math.inf if progress.decided_at is None else progress.decided_at + self.patience.retention

    def _may_revise(self, progress: WindowProgress) -> bool:
        """A first decision without all shards may be followed by a second one with them."""
        return self.patience.revise and progress.revision == 1 and progress.partial

    def _overlap(self, progress: WindowProgress, shard: int, r: Range) -> str:
        """"" if nothing of it has come before, "inside" if all has, else "partly"."""
        spans = progress.received.get((shard, r.part), ([], 0, -1))[0]
        if any(low <= r.start and r.stop <= high for low, high in spans):
            return "inside"
        return "partly" if any(r.start < high and low < r.stop for low, high in spans) else ""


@functools.lru_cache(maxsize=8)
def _first_held(assignment: Assignment) -> npt.NDArray[np.int64]:
    """The first bucket that each shard holds, (shards,); none is past the last one."""
    first = np.full(assignment.shards, assignment.buckets)
    indptr, shards = assignment.holders()
    np.minimum.at(first, shards, np.repeat(np.arange(assignment.buckets), np.diff(indptr)))
    return first


@functools.lru_cache(maxsize=64)
def _idle(assignment: Assignment, parts: int) -> int:
    """Shards that hold none of the first `parts` buckets: they have nothing to say."""
    return int(np.count_nonzero(_first_held(assignment) >= parts))


def _enter(progress: WindowProgress, shard: int, r: Range) -> None:
    spans, rows, total = progress.received.get((shard, r.part), ([], 0, -1))
    if r.stop > r.start:
        spans = _merge_spans([*spans, [r.start, r.stop]])
    progress.received[shard, r.part] = (spans, rows + r.rows, max(total, r.total))


def _merge_spans(spans: list[list[int]]) -> list[list[int]]:
    out: list[list[int]] = []
    for low, high in sorted(spans):
        if out and low <= out[-1][1]:
            out[-1][1] = max(high, out[-1][1])
        else:
            out.append([low, high])
    return out


def _is_complete(progress: WindowProgress, shard: int, part: int) -> bool:
    _, rows, total = progress.received.get((shard, part), ([], 0, -1))
    return 0 <= total <= rows
