"""CoordinateStream: the shards' reports -> one verdict a window and revision, on time. The streaming face of
`beam_coresets.coordinator.decision.decide`; when it decides is up to `beam_coresets.streaming.trigger`.

It lives in the global window with the window in its key: nothing is dropped behind a watermark that a dead shard holds
back, and its own timers, in processing time, decide and forget. There may be several replicas of it, each on a worker
of its own (`coordinator_replicas`).
"""
import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.pvalue import DoOutputsTuple, PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from beam_coresets.coordinator.decision import Decision, Policy, Verdict, decide
from beam_coresets.coordinator.refused_rows import with_refused
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.trigger import (
    EXPIRED,
    KEPT,
    LATE,
    OVERLAPPING,
    REPEATED,
    Patience,
    Trigger,
)
from beam_coresets.transforms.base.coders import ShardReportCoder
from beam_coresets.transforms.base.keys import parse_key
from beam_coresets.transforms.coordinator.window_state import StateCells, WindowKey, WindowState

VERDICTS, LATE_REPORTS = "verdicts", "late"
TELL_AFTER = 2.0  # seconds until it is looked up whose decision stands, to tell what came too late for it

Clock = Callable[[], float]
Winner = Callable[[float, float, str], int | None]

_REASONS = {
    LATE: "the window was decided without it",
    REPEATED: "repeated: all of it had come before",
    OVERLAPPING: "overlapping: some of it had come before",
    EXPIRED: "nothing is known of the window: it was decided and forgotten, or it began before the stream",
}


class LateReport(NamedTuple):
    """A range of rows that came to nothing, and why.

    Attributes:
      window_start, window_end: the window. key_group: see `Verdict.group`.
      shard, part, start, stop: whose rows; a part of -1 is all that the shard was given.
      row_count: how many of them belong to the window.
      reason: why they came to nothing. noted_at: when that was.
    """

    window_start: Timestamp
    window_end: Timestamp
    key_group: str
    shard: int
    part: int
    start: int
    stop: int
    row_count: int
    reason: str
    noted_at: Timestamp


beam.coders.registry.register_coder(LateReport, beam.coders.RowCoder)


@beam.typehints.with_input_types(tuple[str, ShardReport])
class CoordinateStream(beam.PTransform):
    """(window_key, ShardReport) -> `.verdicts` (Verdict) and `.late` (LateReport).

    Exactly one verdict a window and revision of each replica, whatever comes in whichever order, as long as the runner
    keeps state; after a restart from older state a window may be decided again, so sinks let the first one stand. Where
    another replica's decision stands already, a verdict has no decisions.

    Args:
      policy: the scheme and what is enough.
      patience: for how long to wait.
      merge_reduce: how reports of a shard are put together.
      gone: says whether a window (start, end, group) has been decided; asked where a report comes for a window that
        nothing is known of and whose deadline has passed.
      clock: seconds since the epoch.
      empty_group: the key group that the empty key belongs to. Without rows it answers for that key, other groups for
        none.
      coordinators: how many replicas there are, and where.
      winner: says which replica's decision of a window (start, end, group) stands, None if there is none yet: what came
        too late for it is told by that one.
      skips: whether a replica need not decide where another one's decision stands.

    Raises:
      ValueError: several replicas and nobody who says which one's decision stands.

    Source: `beam_coresets.decide`; when is up to `beam_coresets.streaming.trigger.Watch`.

    Example (a stream without an end):
      plan, windows = Plan(k=4, shards=5), WindowSpec.parse("5s")
      reports = blocks | ReportStream(plan.merge_reduce, windows)
      reports | CoordinateStream(plan.policy, Patience(min_shards=3), plan.merge_reduce)
    """

    def __init__(
        self,
        policy: Policy,
        patience: Patience,
        merge_reduce: MergeReduce,
        gone: Callable[[float, float, str], bool] | None = None,
        clock: Clock = time.time,
        empty_group: str = "",
        coordinators: Coordinators = ONE,
        winner: Winner | None = None,
        skips: bool = False,
    ) -> None:
        super().__init__()
        if coordinators.replicas > 1 and winner is None:
            raise ValueError(f"claims: must be given with {coordinators.replicas} coordinator_replicas, got none")
        self._policy, self._patience, self._coordinators = policy, patience, coordinators
        self._decide = _Coordinate(
            policy, patience, merge_reduce, gone, clock, empty_group, coordinators, winner, skips
        )

    def expand(self, reports: PCollection[tuple[str, ShardReport]]) -> "DoOutputsTuple":
        outputs = (
            reports
            | "Out of windows"
            >> beam.WindowInto(beam.window.GlobalWindows()).with_output_types(tuple[str, ShardReport])
            | "To each replica"
            >> beam.FlatMap(_to_each, self._coordinators).with_output_types(tuple[str, ShardReport])
            | "Decide" >> beam.ParDo(self._decide).with_output_types(Verdict).with_outputs(LATE_REPORTS, main=VERDICTS)
        )
        outputs[LATE_REPORTS].element_type = LateReport
        return outputs

    def display_data(self) -> dict[str, Any]:
        shown = {**dataclasses.asdict(self._patience), "recovery": self._policy.recovery}
        return {**shown, "coordinator_replicas": self._coordinators.replicas}


def _to_each(element: tuple[str, ShardReport], coordinators: Coordinators) -> Iterator[tuple[str, ShardReport]]:
    window, report = element
    group = parse_key(window)[2]
    for replica in range(coordinators.replicas):
        yield coordinators.key(replica, window, group), report


@dataclasses.dataclass(eq=False, repr=False)
class _Coordinate(beam.DoFn):
    """See `CoordinateStream` for the fields."""

    policy: Policy
    patience: Patience
    merge_reduce: MergeReduce
    gone: Callable[[float, float, str], bool] | None
    clock: Clock
    empty_group: str = ""
    coordinators: Coordinators = ONE
    winner: Winner | None = None
    skips: bool = False

    REPORTS = BagStateSpec("reports", ShardReportCoder())
    HEAD = ReadModifyWriteStateSpec("vigil", BytesCoder())
    NOTES = BagStateSpec("notes", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)
    EXPIRY = TimerSpec("expiry", TimeDomain.REAL_TIME)

    def __post_init__(self) -> None:
        self._triggers = [
            Trigger(self.policy.assignment, self.patience, self.policy.parts, self.coordinators.behind(replica))
            for replica in range(self.coordinators.replicas)
        ]
        names = ("decided", "degraded", "revised", "late", "repeated", "overlapping", "expired", "gap_rows")
        self._counters = {name: Metrics.counter("beam_coresets", f"windows_{name}") for name in names[:3]}
        self._open: dict[WindowKey, float] = {}  # of this process: windows that are waited for, and their ends
        self._oldest = Metrics.gauge("beam_coresets", "oldest_undecided_seconds")
        self._counters |= {name: Metrics.counter("beam_coresets", f"reports_{name}") for name in names[3:]}

    def setup(self) -> None:
        importlib.import_module("scipy.optimize")  # what lost buckets may need: no window is to wait for it

    def process(
        self,
        element: tuple[str, ShardReport],
        reports: Any = beam.DoFn.StateParam(REPORTS),
        head: Any = beam.DoFn.StateParam(HEAD),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
        notes: Any = beam.DoFn.StateParam(NOTES),
    ) -> Iterator[Any]:
        window, report = self._window(element[0], StateCells(reports, head, due, expiry, notes)), element[1]
        progress, trigger = window.progress, window.trigger
        gone = progress.first is None and self._is_gone(window)
        outcome = trigger.receive(progress, report, window.now, gone)
        if outcome != KEPT and progress.first is None:
            yield from self._forgotten(window, report, outcome)
            return
        if outcome != KEPT:
            yield from self._late(window, report.late_rows(), outcome)
        else:
            reports.add(report)
            if trigger.on_report(progress):
                yield from self._decided(window)
            else:
                if trigger.rearmed(progress, window.key.end):
                    window.wake(progress.armed)
                if trigger.crowded(progress):
                    self._compact(window)
                self._note_open(window)
        window.write()

    @on_timer(DUE)
    def on_due(
        self,
        name: Any = beam.DoFn.KeyParam,
        reports: Any = beam.DoFn.StateParam(REPORTS),
        head: Any = beam.DoFn.StateParam(HEAD),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
        notes: Any = beam.DoFn.StateParam(NOTES),
    ) -> Iterator[Any]:
        window = self._window(name, StateCells(reports, head, due, expiry, notes))
        progress = window.progress
        if progress.first is None:
            return
        if progress.revision:
            yield from self._told(window)
        elif window.trigger.on_timer(progress, window.now, window.key.end):
            yield from self._decided(window)
        elif progress.armed is not None:
            window.wake(progress.armed)
            self._note_open(window)
        window.write()

    @on_timer(EXPIRY)
    def on_expiry(
        self,
        name: Any = beam.DoFn.KeyParam,
        reports: Any = beam.DoFn.StateParam(REPORTS),
        head: Any = beam.DoFn.StateParam(HEAD),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
        notes: Any = beam.DoFn.StateParam(NOTES),
    ) -> Iterator[Any]:
        window = self._window(name, StateCells(reports, head, due, expiry, notes))
        progress, expires = window.progress, window.trigger.expires(window.progress)
        if window.now < expires:
            if progress.decided_at is not None:
                expiry.set(Timestamp.of(expires))
            return
        yield from self._late(window, progress.late, LATE)  # kept for a revision that never came
        yield from self._told(window, last=True)
        due.clear()
        reports.clear()
        head.clear()
        notes.clear()

    def _window(self, name: str, cells: StateCells) -> WindowState:
        key = WindowKey.of(name)
        trigger = self._triggers[key.replica % len(self._triggers)]  # an earlier run may have had more replicas
        return WindowState.of(key, self.clock(), trigger, cells)

    def _decided(self, window: WindowState) -> Iterator[Verdict]:
        key, trigger, progress = window.key, window.trigger, window.progress
        reason = trigger.reason(progress, key.end)
        self._counters["gap_rows"].inc(trigger.gaps(progress))
        decisions = {}
        if not self._another_stands(window):
            decisions = self._decisions(list(window.cells.reports.read()), key.group == self.empty_group)
            self._counters["revised" if progress.revision else "decided"].inc()
            if any(decision.degraded for decision in decisions.values()):
                self._counters["degraded"].inc()
        trigger.decided(progress, window.now)
        self._note_open(window)
        window.cells.due.clear()
        if progress.untold:
            window.wake(window.now + TELL_AFTER)
        window.cells.expiry.set(Timestamp.of(trigger.expires(progress)))
        if not trigger.keeps_reports(progress):
            window.cells.reports.clear()
        yield Verdict(key.start, key.end, key.group, progress.revision, reason, window.now, decisions, key.replica)

    def _decisions(self, reports: list[ShardReport], empty: bool) -> dict[str, Decision]:
        """One a key; what was refused has no key, so the group that has the empty one tells it, and no other again."""
        by_key = partial_reports.decidable(self.merge_reduce, reports, empty)
        decisions = {name: decide(mine, self.policy) for name, mine in by_key.items()}
        return with_refused(decisions, by_key) if empty else decisions

    def _note_open(self, window: WindowState) -> None:
        """Keeps the gauge: how long ago the oldest window ended that is being waited for here; 0 if none has."""
        if window.progress.revision:
            self._open.pop(window.key, None)
        else:
            self._open[window.key] = window.key.end
        self._oldest.set(max(0, round(window.now - min(self._open.values(), default=window.now))))

    def _another_stands(self, window: WindowState) -> bool:
        """Whether another replica has decided, so that this one need not."""
        if not self.skips or window.progress.revision or len(self._triggers) == 1 or self.winner is None:
            return False
        return self.winner(*window.key.window) not in (None, window.key.replica)

    def _compact(self, window: WindowState) -> None:
        """One report a shard in place of many: bounds what a window keeps."""
        by_shard: dict[int, list[ShardReport]] = {}
        for report in window.cells.reports.read():
            by_shard.setdefault(report.shard, []).append(report)
        window.cells.reports.clear()
        for mine in by_shard.values():
            window.cells.reports.add(partial_reports.compacted(self.merge_reduce, mine))
        window.cells.notes.clear()
        window.progress.note_all()
        window.progress.kept = 0

    def _is_gone(self, window: WindowState) -> bool:
        passed = window.now > window.key.end + window.trigger.patience.deadline
        return self.gone is not None and passed and self.gone(*window.key.window)

    def _late(self, window: WindowState, entries: Sequence[Any], outcome: str) -> Iterator[Any]:
        """Tells what came to nothing; with several replicas, once it is known whose decision stands."""
        if len(self._triggers) == 1:
            yield from self._letters(window.key, entries, outcome, window.now)
            return
        if entries and window.progress.revision and not window.progress.untold:
            window.wake(window.now + TELL_AFTER)
        window.progress.untold += [(outcome, window.now, *entry) for entry in entries]

    def _told(self, window: WindowState, last: bool = False) -> Iterator[Any]:
        """Tells what was put off if this replica's decision stands, or puts it off again unless this is the `last`
        time."""
        progress = window.progress
        if not progress.untold:
            return
        stands = self._stands(window.key)
        if stands is None and not last:
            window.wake(window.now + TELL_AFTER)
            return
        for outcome, at, *entry in progress.untold if stands or (stands is None and window.key.replica == 0) else ():
            yield from self._letters(window.key, [entry], outcome, at)
        progress.untold = []

    def _forgotten(self, window: WindowState, report: ShardReport, outcome: str) -> Iterator[Any]:
        """Tells of a report on a window that nothing is known of."""
        stands = self._stands(window.key)
        if stands or (stands is None and window.key.replica == 0):
            yield from self._letters(window.key, report.late_rows(), outcome, window.now)

    def _stands(self, key: WindowKey) -> bool | None:
        """Whether this replica's decision is the one that stands; None if none does yet."""
        if len(self._triggers) == 1 or self.winner is None:
            return True
        winner = self.winner(*key.window)
        return None if winner is None else winner % len(self._triggers) == key.replica

    def _letters(self, key: WindowKey, entries: Sequence[Any], outcome: str, at: float) -> Iterator[Any]:
        start, end, noted_at = (Timestamp.of(seconds) for seconds in (key.start, key.end, at))
        for shard, part, first, stop, rows in entries:
            self._counters[outcome].inc()
            row = LateReport(start, end, key.group, shard, part, first, stop, rows, _REASONS[outcome], noted_at)
            yield beam.pvalue.TaggedOutput(LATE_REPORTS, row)
