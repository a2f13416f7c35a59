"""CoordinateStream: the shards' reports -> one verdict a window and revision, on time. The streaming face of
`beam_coresets.coordinator.decide`; when it decides is up to `beam_coresets.vigil`.

It lives in the global window with the window in its key: nothing is dropped behind a watermark that a dead shard holds
back, and its own timers, in processing time, decide and forget.
"""
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from beam_coresets import deltas
from beam_coresets.coordinator import Policy, Verdict, decide
from beam_coresets.merge_reduce import MergeReduce
from beam_coresets.report import ShardReport
from beam_coresets.transforms.coders import ShardReportCoder
from beam_coresets.vigil import EXPIRED, KEPT, LATE, OVERLAPPING, REPEATED, Patience, Vigil, Watch

VERDICTS, LATE_REPORTS = "verdicts", "late"
COMPACT_AFTER = 64  # reports a window

Clock = Callable[[], float]

_REASONS = {
    LATE: "the window was decided without it",
    REPEATED: "repeated: all of it had come before",
    OVERLAPPING: "overlapping: some of it had come before",
    EXPIRED: "nothing is known of the window: it was decided and forgotten, or it began before the stream",
}


class LateReport(NamedTuple):
    """A range of rows that is in no decision, and why.

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


def window_key(start: float, end: float, group: str = "") -> str:
    """The coordinator's key of a window and key group."""
    return f"{round(start * 1000)}/{round(end * 1000)}/{group}"


def parse_key(key: str) -> tuple[float, float, str]:
    """The inverse of `window_key`."""
    start, end, group = key.split("/", 2)
    return int(start) / 1000, int(end) / 1000, group


@beam.typehints.with_input_types(tuple[str, ShardReport])
class CoordinateStream(beam.PTransform):
    """(window_key, ShardReport) -> `.verdicts` (Verdict) and `.late` (LateReport).

    Exactly one verdict a window and revision, whatever comes in whichever order, as long as the runner keeps state;
    after a restart from older state a window may be decided again, so sinks let the first one stand.

    Args:
      policy: the scheme and what is enough.
      patience: for how long to wait.
      merge_reduce: how reports of a shard are put together.
      gone: says whether a window (start, end, group) has been decided; asked where a report comes for a window that
        nothing is known of and whose deadline has passed.
      clock: seconds since the epoch.
      empty_group: the key group that the empty key belongs to. Without rows it answers for that key, other groups for
        none.
    """

    def __init__(
        self,
        policy: Policy,
        patience: Patience,
        merge_reduce: MergeReduce,
        gone: Callable[[float, float, str], bool] | None = None,
        clock: Clock = time.time,
        empty_group: str = "",
    ) -> None:
        super().__init__()
        self._policy, self._patience, self._merge_reduce = policy, patience, merge_reduce
        self._gone, self._clock, self._empty_group = gone, clock, empty_group

    def expand(self, reports: Any) -> Any:
        decide = _Coordinate(
            self._policy, self._patience, self._merge_reduce, self._gone, self._clock, self._empty_group
        )
        outputs = (
            reports
            | "Out of windows"
            >> beam.WindowInto(beam.window.GlobalWindows()).with_output_types(tuple[str, ShardReport])
            | "Decide" >> beam.ParDo(decide).with_output_types(Verdict).with_outputs(LATE_REPORTS, main=VERDICTS)
        )
        outputs[LATE_REPORTS].element_type = LateReport
        return outputs

    def display_data(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self._patience), "recovery": self._policy.recovery}


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
    ) -> None:
        self._policy, self._merge_reduce, self._gone, self._clock = policy, merge_reduce, gone, clock
        self._empty_group = empty_group
        self._watch = Watch(policy.assignment, patience, policy.parts)
        names = ("decided", "degraded", "revised", "late", "repeated", "overlapping", "expired", "gap_rows")
        self._counters = {name: Metrics.counter("beam_coresets", f"windows_{name}") for name in names[:3]}
        self._counters |= {name: Metrics.counter("beam_coresets", f"reports_{name}") for name in names[3:]}

    def process(
        self,
        element: tuple[str, ShardReport],
        reports: Any = beam.DoFn.StateParam(REPORTS),
        state: Any = beam.DoFn.StateParam(VIGIL),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Any]:
        key, report = element
        now, vigil = self._clock(), _read(state)
        outcome = self._watch.receive(vigil, report, now, vigil.first is None and self._is_gone(key, now))
        if outcome != KEPT:
            yield from self._late(key, report.late_rows(), outcome, now)
            if outcome == EXPIRED or vigil.first is None:
                return
            state.write(vigil.to_json().encode())
            return
        reports.add(report)
        if self._watch.on_report(vigil):
            yield from self._decided(key, vigil, reports, now, due, expiry)
        else:
            if self._watch.rearmed(vigil, parse_key(key)[1]):
                due.set(Timestamp.of(vigil.armed))
            if vigil.kept > COMPACT_AFTER:
                self._compact(vigil, reports)
        state.write(vigil.to_json().encode())

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        reports: Any = beam.DoFn.StateParam(REPORTS),
        state: Any = beam.DoFn.StateParam(VIGIL),
        due: Any = beam.DoFn.TimerParam(DUE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Any]:
        now, vigil = self._clock(), _read(state)
        if vigil.first is None:
            return
        if self._watch.on_timer(vigil, now, parse_key(key)[1]):
            yield from self._decided(key, vigil, reports, now, due, expiry)
        elif vigil.armed is not None:
            due.set(Timestamp.of(vigil.armed))
        state.write(vigil.to_json().encode())

    @on_timer(EXPIRY)
    def on_expiry(
        self,
        key: Any = beam.DoFn.KeyParam,
        reports: Any = beam.DoFn.StateParam(REPORTS),
        state: Any = beam.DoFn.StateParam(VIGIL),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Any]:
        now, vigil = self._clock(), _read(state)
        expires = self._watch.expires(vigil)
        if now < expires:
            if vigil.decided_at is not None:
                expiry.set(Timestamp.of(expires))
            return
        yield from self._late(key, vigil.late, LATE, now)  # kept for a revision that never came
        reports.clear()
        state.clear()

    def _decided(
        self, key: str, vigil: Vigil, reports: Any, now: float, due: Any, expiry: Any
    ) -> Iterator[Verdict]:
        start, end, group = parse_key(key)
        reason = self._watch.reason(vigil, end)
        self._counters["gap_rows"].inc(self._watch.gaps(vigil))
        held = list(reports.read())
        decisions = {
            name: decide(mine, self._policy)
            for name, mine in deltas.decidable(self._merge_reduce, held, group == self._empty_group).items()
        }
        self._watch.decided(vigil, now)
        self._counters["revised" if vigil.revision > 1 else "decided"].inc()
        if any(decision.degraded for decision in decisions.values()):
            self._counters["degraded"].inc()
        due.clear()
        expiry.set(Timestamp.of(self._watch.expires(vigil)))
        if not self._watch.keeps_reports(vigil):
            reports.clear()
        yield Verdict(start, end, group, vigil.revision, reason, now, decisions)

    def _compact(self, vigil: Vigil, reports: Any) -> None:
        """One report a shard in place of many: bounds what a window keeps."""
        by_shard: dict[int, list[ShardReport]] = {}
        for report in reports.read():
            by_shard.setdefault(report.shard, []).append(report)
        reports.clear()
        for mine in by_shard.values():
            reports.add(deltas.compacted(self._merge_reduce, mine))
        vigil.kept = 0

    def _is_gone(self, key: str, now: float) -> bool:
        start, end, group = parse_key(key)
        return self._gone is not None and now > end + self._watch.patience.deadline and self._gone(start, end, group)

    def _late(self, key: str, entries: Sequence[Any], outcome: str, now: float) -> Iterator[Any]:
        start, end, group = parse_key(key)
        for shard, part, first, stop, rows in entries:
            self._counters[outcome].inc()
            row = LateReport(start, end, group, shard, part, first, stop, rows, _REASONS[outcome], now)
            yield beam.pvalue.TaggedOutput(LATE_REPORTS, row)


def _read(state: Any) -> Vigil:
    held = state.read()
    return Vigil() if held is None else Vigil.from_json(held.decode())
