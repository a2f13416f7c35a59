"""CoordinateStream: the shards' reports -> one verdict a window and revision, on time. The streaming face of
`beam_coresets.coordinator.decision.decide`; when it decides is up to `beam_coresets.streaming.trigger`.

It lives in the global window with the window in its key: nothing is dropped behind a watermark that a dead shard holds
back, and its own timers, in processing time, decide and forget. There may be several replicas of it, each on a worker
of its own (`coordinator_replicas`).
"""
import dataclasses
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

from beam_coresets.coordinator.decision import Policy, Verdict, decide
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.trigger import EXPIRED, KEPT, LATE, OVERLAPPING, REPEATED, Patience, Vigil, Watch
from beam_coresets.transforms.base.coders import ShardReportCoder
from beam_coresets.transforms.base.keys import parse_key, split_key

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
      window_start, window_end: in seconds since the epoch. key_group: see `Verdict.group`.
      shard, part, start, stop: whose rows; a part of -1 is all that the shard was given.
      rows: how many of them belong to the window.
      reason: why they came to nothing. at: when that was, in seconds since the epoch.
    """

    window_start: float
    window_end: float
    key_group: str
    shard: int
    part: int
    start: int
    stop: int
    rows: int
    reason: str
    at: float


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


class _Coordinate(beam.DoFn):
    REPORTS = BagStateSpec("reports", ShardReportCoder())
    VIGIL = ReadModifyWriteStateSpec("vigil", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)
    EXPIRY = TimerSpec("expiry", TimeDomain.REAL_TIME)

    def __init__(
        self,
        policy: Policy,
        patience: Patience,
        merge_reduce: MergeReduce,
        gone: Callable[[float, float, str], bool] | None,
        clock: Clock,
        empty_group: str = "",
        coordinators: Coordinators = ONE,
        winner: Winner | None = None,
        skips: bool = False,
    ) -> None:
        self._policy, self._merge_reduce, self._gone, self._clock = policy, merge_reduce, gone, clock
        self._empty_group, self._winner, self._skips = empty_group, winner, skips
        self._watches = [
            Watch(policy.assignment, patience, policy.parts, coordinators.behind(replica))
            for replica in range(coordinators.replicas)
        ]
        names = ("decided", "degraded", "revised", "late", "repeated", "overlapping", "expired", "gap_rows")
        self._counters = {name: Metrics.counter("beam_coresets", f"windows_{name}") for name in names[:3]}
        self._open: dict[_Key, float] = {}  # of this process: windows that are waited for, and their ends
        self._oldest = Metrics.gauge("beam_coresets", "oldest_undecided_seconds")
        self._counters |= {name: Metrics.counter("beam_coresets", f"reports_{name}") for name in names[3:]}

    def process(
        self,
        element: tuple[str, ShardReport],
        reports: Any = beam.DoFn.StateParam(REPORTS),
        state: Any = beam.DoFn.StateParam(VIGIL),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Any]:
        key, report = _Key.of(element[0]), element[1]
        watch, now, vigil = self._watch_of(key), self._clock(), _read(state)
        outcome = watch.receive(vigil, report, now, vigil.first is None and self._is_gone(key, now))
        if outcome != KEPT:
            if vigil.first is None:
                yield from self._forgotten(key, report, outcome, now)
                return
            yield from self._late(key, vigil, report.late_rows(), outcome, now, due)
            state.write(vigil.to_json().encode())
            return
        reports.add(report)
        if watch.on_report(vigil):
            yield from self._decided(key, vigil, reports, now, due, expiry)
        else:
            if watch.rearmed(vigil, key.end):
                due.set(Timestamp.of(vigil.armed))
            if watch.crowded(vigil):
                self._compact(vigil, reports)
            self._note_open(key, vigil, now)
        state.write(vigil.to_json().encode())

    @on_timer(DUE)
    def on_due(
        self,
        name: Any = beam.DoFn.KeyParam,
        reports: Any = beam.DoFn.StateParam(REPORTS),
        state: Any = beam.DoFn.StateParam(VIGIL),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Any]:
        key, now, vigil = _Key.of(name), self._clock(), _read(state)
        if vigil.first is None:
            return
        if vigil.revision:
            yield from self._told(key, vigil, now, due)
        elif self._watch_of(key).on_timer(vigil, now, key.end):
            yield from self._decided(key, vigil, reports, now, due, expiry)
        elif vigil.armed is not None:
            due.set(Timestamp.of(vigil.armed))
            self._note_open(key, vigil, now)
        state.write(vigil.to_json().encode())

    @on_timer(EXPIRY)
    def on_expiry(
        self,
        name: Any = beam.DoFn.KeyParam,
        reports: Any = beam.DoFn.StateParam(REPORTS),
        state: Any = beam.DoFn.StateParam(VIGIL),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Any]:
        key, now, vigil = _Key.of(name), self._clock(), _read(state)
        expires = self._watch_of(key).expires(vigil)
        if now < expires:
            if vigil.decided_at is not None:
                expiry.set(Timestamp.of(expires))
            return
        yield from self._late(key, vigil, vigil.late, LATE, now, due)  # kept for a revision that never came
        yield from self._told(key, vigil, now, None)
        due.clear()
        reports.clear()
        state.clear()

    def _decided(
        self, key: "_Key", vigil: Vigil, reports: Any, now: float, due: Any, expiry: Any
    ) -> Iterator[Verdict]:
        watch = self._watch_of(key)
        reason = watch.reason(vigil, key.end)
        self._counters["gap_rows"].inc(watch.gaps(vigil))
        decisions = {}
        if not self._another_stands(key, vigil):
            decisions = {
                name: decide(mine, self._policy)
                for name, mine in partial_reports.decidable(
                    self._merge_reduce, list(reports.read()), key.group == self._empty_group
                ).items()
            }
            self._counters["revised" if vigil.revision else "decided"].inc()
            if any(decision.degraded for decision in decisions.values()):
                self._counters["degraded"].inc()
        watch.decided(vigil, now)
        self._note_open(key, vigil, now)
        due.clear()
        if vigil.untold:
            due.set(Timestamp.of(now + TELL_AFTER))
        expiry.set(Timestamp.of(watch.expires(vigil)))
        if not watch.keeps_reports(vigil):
            reports.clear()
        yield Verdict(key.start, key.end, key.group, vigil.revision, reason, now, decisions, key.replica)

    def _watch_of(self, key: "_Key") -> Watch:
        """The rules of a replica; of one that an earlier run had and this one has not, another's."""
        return self._watches[key.replica % len(self._watches)]

    def _note_open(self, key: "_Key", vigil: Vigil, now: float) -> None:
        """Keeps the gauge: how long ago the oldest window ended that is being waited for here; 0 if none has."""
        if vigil.revision:
            self._open.pop(key, None)
        else:
            self._open[key] = key.end
        self._oldest.set(max(0, round(now - min(self._open.values(), default=now))))

    def _another_stands(self, key: "_Key", vigil: Vigil) -> bool:
        """Whether another replica has decided, so that this one need not."""
        if not self._skips or vigil.revision or len(self._watches) == 1 or self._winner is None:
            return False
        return self._winner(key.start, key.end, key.group) not in (None, key.replica)

    def _compact(self, vigil: Vigil, reports: Any) -> None:
        """One report a shard in place of many: bounds what a window keeps."""
        by_shard: dict[int, list[ShardReport]] = {}
        for report in reports.read():
            by_shard.setdefault(report.shard, []).append(report)
        reports.clear()
        for mine in by_shard.values():
            reports.add(partial_reports.compacted(self._merge_reduce, mine))
        vigil.kept = 0

    def _is_gone(self, key: "_Key", now: float) -> bool:
        deadline = self._watch_of(key).patience.deadline
        return self._gone is not None and now > key.end + deadline and self._gone(key.start, key.end, key.group)

    def _late(
        self, key: "_Key", vigil: Vigil, entries: Sequence[Any], outcome: str, now: float, due: Any
    ) -> Iterator[Any]:
        """Tells what came to nothing; with several replicas, once it is known whose decision stands."""
        if len(self._watches) == 1:
            yield from self._letters(key, entries, outcome, now)
            return
        if entries and vigil.revision and not vigil.untold:
            due.set(Timestamp.of(now + TELL_AFTER))
        vigil.untold += [(outcome, now, *entry) for entry in entries]

    def _told(self, key: "_Key", vigil: Vigil, now: float, due: Any) -> Iterator[Any]:
        """Tells what was put off if this replica's decision stands; without `due` there is no later."""
        if not vigil.untold:
            return
        stands = self._stands(key)
        if stands is None and due is not None:
            due.set(Timestamp.of(now + TELL_AFTER))
            return
        for outcome, at, *entry in vigil.untold if stands or (stands is None and key.replica == 0) else ():
            yield from self._letters(key, [entry], outcome, at)
        vigil.untold = []

    def _forgotten(self, key: "_Key", report: ShardReport, outcome: str, now: float) -> Iterator[Any]:
        """Tells of a report on a window that nothing is known of."""
        stands = self._stands(key)
        if stands or (stands is None and key.replica == 0):
            yield from self._letters(key, report.late_rows(), outcome, now)

    def _stands(self, key: "_Key") -> bool | None:
        """Whether this replica's decision is the one that stands; None if none does yet."""
        if len(self._watches) == 1 or self._winner is None:
            return True
        winner = self._winner(key.start, key.end, key.group)
        return None if winner is None else winner % len(self._watches) == key.replica

    def _letters(self, key: "_Key", entries: Sequence[Any], outcome: str, at: float) -> Iterator[Any]:
        for shard, part, first, stop, rows in entries:
            self._counters[outcome].inc()
            row = LateReport(key.start, key.end, key.group, shard, part, first, stop, rows, _REASONS[outcome], at)
            yield beam.pvalue.TaggedOutput(LATE_REPORTS, row)


class _Key(NamedTuple):
    """A window, a group of keys, and which of their coordinators."""

    start: float
    end: float
    group: str
    replica: int

    @staticmethod
    def of(key: str) -> "_Key":
        window, replica = split_key(key)
        return _Key(*parse_key(window), replica)


def _read(state: Any) -> Vigil:
    held = state.read()
    return Vigil() if held is None else Vigil.from_json(held.decode())
