"""ReportStream: blocks of any unbounded PCollection -> the shards' reports, while the blocks still come in.

Rows are shuffled to their shards, so a shard that is stuck stops everybody once the network's buffers are full; where
that matters, let every shard read for itself (`read_shards`). Each block is made a partial report as soon as it is
there, so a shard keeps samples, never rows.
"""
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, GlobalWindows
from apache_beam.utils.timestamp import Duration, Timestamp
from threadpoolctl import threadpool_limits

from beam_coresets.points.block import PointBlock
from beam_coresets.points.coreset import Coreset
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import WHOLE, Range, ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.partial_reports import PaneRows
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.base.coders import ShardReportCoder
from beam_coresets.transforms.base.keys import group_names, group_of, grouped, window_key
from beam_coresets.transforms.base.state import read_state, write_state
from beam_coresets.transforms.shards.assign_to_shards import AssignRedundantly

COMPACT_AFTER = 32  # partial reports of a pane that have not been sent
RETENTION = 660.0  # longer than the coordinator remembers a window, its default cap included

Clock = Callable[[], float]


@beam.typehints.with_input_types(PointBlock)
@beam.typehints.with_output_types(tuple[str, ShardReport])
class ReportStream(beam.PTransform):
    """PointBlocks with event times -> (window_key, ShardReport), for `CoordinateStream`.

    A shard reports on a pane every `every` seconds while rows come, whatever the watermark does, and says that it has
    told all once the watermark is `disorder` seconds past the pane's end. Rows that come after that are reported as
    late. A pane that no block at all falls into is not reported.

    Args:
      merge_reduce: the scheme, with hashed buckets, and how points are sampled.
      windows: how the stream is cut.
      every: seconds between two reports of a shard on a pane.
      disorder: seconds for which a pane stays open behind the watermark.
      groups: into how many groups keys are divided, each decided by itself.
      key_column: the column of the blocks' `extras` that says whose summary a row belongs to; rows without a value have
        the empty key. It does not travel on, as results have it as `key`.
      retention: seconds after which a shard forgets a pane, from its end or its last row, whichever is later; longer
        than the coordinator remembers it, as offsets begin at 0 again.
      clock: seconds since the epoch.
      begins: event time, in seconds since the epoch, before which others may have taken rows: panes that begin earlier
        are told as incomplete.

    Raises:
      ValueError: a scheme over parts, or a length that can't be.

    Source: `MergeReduce` on each block, `beam_coresets.streaming.partial_reports` to unite what comes of them.

    Example (a stream without an end):
      plan = Plan(k=4, shards=5)
      blocks | ReportStream(plan.merge_reduce, WindowSpec.parse("5s"), every=1.0)
    """

    def __init__(
        self,
        merge_reduce: MergeReduce,
        windows: WindowSpec,
        every: float = 1.0,
        disorder: float = 0.0,
        groups: int = 1,
        key_column: str | None = None,
        retention: float = RETENTION,
        clock: Clock = time.time,
        begins: float | None = None,
    ) -> None:
        super().__init__()
        if merge_reduce.assignment.parts:
            raise ValueError("assignment: must have hashed buckets where rows come in a PCollection, got parts")
        if not 0 < every < math.inf:
            raise ValueError(f"every: must be positive, got {every}")
        for name, value in (("disorder", disorder), ("retention", retention)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: must be at least 0 seconds, got {value}")
        if groups < 1:
            raise ValueError(f"groups: must be at least 1, got {groups}")
        self._merge_reduce, self._windows, self._every = merge_reduce, windows, every
        self._report = _Report(merge_reduce, windows, every, disorder, groups, key_column, retention, clock, begins)

    def expand(self, blocks: PCollection[PointBlock]) -> PCollection[tuple[str, ShardReport]]:
        period = Duration(micros=round(self._windows.period * 1e6))
        return (
            blocks
            | "Panes" >> beam.WindowInto(FixedWindows(period))
            | "AssignRedundantly" >> AssignRedundantly(self._merge_reduce.assignment)
            | "Key by shard and pane"
            >> beam.ParDo(_KeyByPane(self._windows)).with_output_types(tuple[str, PointBlock])
            | "Out of windows" >> beam.WindowInto(GlobalWindows())
            | "Report" >> beam.ParDo(self._report).with_output_types(tuple[str, ShardReport])
        )

    def display_data(self) -> dict[str, Any]:
        return {"period": self._windows.period, "every": self._every}


class _KeyByPane(beam.DoFn):
    def __init__(self, windows: WindowSpec) -> None:
        self._windows = windows

    def process(
        self, element: tuple[int, PointBlock], window: Any = beam.DoFn.WindowParam
    ) -> Iterator[tuple[str, PointBlock]]:
        shard, block = element
        yield f"{shard}/{self._windows.pane(float(window.start) + self._windows.period / 2)}", block


@dataclasses.dataclass
class _PaneProgress:
    """What a shard knows of a pane.

    Attributes:
      rows, sent: rows that have come, and that have been reported. A row's offset is its number.
      final: that there are no more has been said.
      last: when a row came last.
      armed: the timer for the next report is set.
      kept: partial reports that have not been sent.
    """

    rows: int = 0
    sent: int = 0
    final: bool = False
    last: float = 0.0
    armed: bool = False
    kept: int = 0

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "_PaneProgress":
        return _PaneProgress(**json.loads(text))


class _PaneState(NamedTuple):
    """One shard's pane while a block or a timer of it is dealt with; `progress` is changed, and then written.

    Attributes:
      end: of the pane, in seconds since the epoch.
      unsent: the state cell of partial reports that have not been sent.
    """

    shard: int
    pane: int
    end: float
    progress: _PaneProgress
    unsent: Any


@dataclasses.dataclass(eq=False, repr=False)
class _Report(beam.DoFn):
    """The shards' work, keyed by "shard/pane", in the global window: nothing is dropped behind the watermark. See
    `ReportStream` for the fields."""

    merge_reduce: MergeReduce
    windows: WindowSpec
    every: float
    disorder: float
    groups: int
    key_column: str | None
    retention: float
    clock: Clock
    begins: float | None = None

    UNSENT = BagStateSpec("deltas", ShardReportCoder())
    PROGRESS = ReadModifyWriteStateSpec("book", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)
    EXPIRY = TimerSpec("expiry", TimeDomain.REAL_TIME)

    def __post_init__(self) -> None:
        names = ("reports_sent", "rows_late")
        self._counters = {name: Metrics.counter("beam_coresets", name) for name in names}

    def setup(self) -> None:
        self._limit = threadpool_limits(1, "blas")

    def teardown(self) -> None:
        self._limit.restore_original_limits()

    def process(
        self,
        element: tuple[str, PointBlock],
        unsent: Any = beam.DoFn.StateParam(UNSENT),
        state: Any = beam.DoFn.StateParam(PROGRESS),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> None:
        key, block = element
        now, held = self.clock(), read_state(state, _PaneProgress)
        pane = self._pane(key, held or _PaneProgress(last=now), unsent)
        if held is None:
            end.set(Timestamp.of(pane.end + self.disorder))
            expiry.set(Timestamp.of(self._expires(pane)))
        elif not len(block):
            return
        if len(block):
            self._take(pane, block)
            pane.progress.last = now
            if not pane.progress.armed:
                pane.progress.armed = True
                due.set(Timestamp.of(now + self.every))
        write_state(state, pane.progress)

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        unsent: Any = beam.DoFn.StateParam(UNSENT),
        state: Any = beam.DoFn.StateParam(PROGRESS),
    ) -> Iterator[tuple[str, ShardReport]]:
        progress = read_state(state, _PaneProgress)
        if progress is not None and progress.rows > progress.sent:
            yield from self._told(self._pane(key, progress, unsent), False)
            write_state(state, progress)

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        unsent: Any = beam.DoFn.StateParam(UNSENT),
        state: Any = beam.DoFn.StateParam(PROGRESS),
    ) -> Iterator[tuple[str, ShardReport]]:
        progress = read_state(state, _PaneProgress)
        if progress is not None and not progress.final:
            yield from self._told(self._pane(key, progress, unsent), True)
            progress.final = True
            write_state(state, progress)

    @on_timer(EXPIRY)
    def on_expiry(
        self,
        key: Any = beam.DoFn.KeyParam,
        unsent: Any = beam.DoFn.StateParam(UNSENT),
        state: Any = beam.DoFn.StateParam(PROGRESS),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[tuple[str, ShardReport]]:
        progress = read_state(state, _PaneProgress)
        if progress is None:
            return
        pane = self._pane(key, progress, unsent)
        expires = self._expires(pane)
        if self.clock() < expires:
            expiry.set(Timestamp.of(expires))
            return
        if progress.rows > progress.sent:
            yield from self._told(pane, False)
        for cell in (unsent, state, due, end):
            cell.clear()

    def _pane(self, key: str, progress: _PaneProgress, unsent: Any) -> _PaneState:
        shard, pane = map(int, key.split("/"))
        return _PaneState(shard, pane, self.windows.bounds(pane)[1], progress, unsent)

    def _take(self, pane: _PaneState, block: PointBlock) -> None:
        """Makes partial reports of a block, one for each group of keys that it has rows of."""
        progress = pane.progress
        span = Range(WHOLE, progress.rows, progress.rows + len(block), len(block))
        for _, rows in grouped(self._rows(block), self.groups):
            if len(rows.ids):
                pane.unsent.add(partial_reports.partial_report(self.merge_reduce, pane.shard, rows, (span,), 0))
                progress.kept += 1
        progress.rows += len(block)
        if progress.final:
            self._counters["rows_late"].inc(len(block))
        if progress.kept > COMPACT_AFTER * self.groups:
            fewer = self._by_group(pane.unsent)
            pane.unsent.clear()
            for report in fewer.values():
                pane.unsent.add(report)
            progress.kept = len(fewer)

    def _rows(self, block: PointBlock) -> PaneRows:
        extras, keys = block.extras, None
        if self.key_column is not None:
            named = [] if extras is None else extras.column_names
            if self.key_column not in named:
                raise ValueError(f"key_column: must be one of the blocks' extras, got {self.key_column!r} of {named}")
            keys = pc.fill_null(extras.column(self.key_column).cast(pa.string()), "").to_numpy(zero_copy_only=False)
            extras = extras.drop_columns([self.key_column]) if extras.num_columns > 1 else None
        travelling = None if extras is None else lambda rows: extras.take(pa.array(rows))
        return PaneRows(block.points, block.weights, block.ids, keys, block.groups, travelling)

    def _by_group(self, unsent: Any) -> dict[str, ShardReport]:
        """What has not been sent, as one report a group."""
        found: dict[str, list[ShardReport]] = {}
        for report in unsent.read():
            found.setdefault(group_of(report.keys[0], self.groups), []).append(report)
        return {group: partial_reports.compacted(self.merge_reduce, found[group]) for group in sorted(found)}

    def _told(self, pane: _PaneState, last: bool) -> Iterator[tuple[str, ShardReport]]:
        """The reports on everything that has not been reported, one a group, also those without rows."""
        progress, start = pane.progress, self.windows.bounds(pane.pane)[0]
        sent, rows = progress.sent, progress.rows
        headless = self.begins is not None and start < self.begins
        span = Range(WHOLE, sent, rows, rows - sent, rows if last else -1, progress.final, headless)
        found = self._by_group(pane.unsent)
        pane.unsent.clear()
        empty = ShardReport(pane.shard, Coreset.empty(), Ledger.zero(self.merge_reduce.assignment.buckets))
        for group in group_names(self.groups):
            self._counters["reports_sent"].inc()
            yield window_key(start, pane.end, group), dataclasses.replace(found.get(group, empty), ranges=(span,))
        progress.sent, progress.kept, progress.armed = rows, 0, False

    def _expires(self, pane: _PaneState) -> float:
        return max(pane.progress.last, pane.end) + self.retention
