"""ReportStream: blocks of any unbounded PCollection -> the shards' reports, while the blocks still come in.

Rows are shuffled to their shards, so a shard that is stuck stops everybody once the network's buffers are full; where
that matters, let every shard read for itself (`read_shards`). Each block is made a delta as soon as it is there, so a
shard keeps samples, never rows.
"""
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

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
from beam_coresets.streaming.partial_reports import Rows
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.base.coders import ShardReportCoder
from beam_coresets.transforms.base.keys import group_names, group_of, grouped, window_key
from beam_coresets.transforms.shards.assign_to_shards import AssignRedundantly

COMPACT_AFTER = 32  # deltas of a pane that have not been sent
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
        self._report = _Report(merge_reduce, windows, every, disorder, groups, key_column, retention, clock)

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
class _Book:
    """What a shard knows of a pane.

    Attributes:
      rows, sent: rows that have come, and that have been reported. A row's offset is its number.
      final: that there are no more has been said.
      last: when a row came last.
      armed: the timer for the next report is set.
      kept: deltas that have not been sent.
    """

    rows: int = 0
    sent: int = 0
    final: bool = False
    last: float = 0.0
    armed: bool = False
    kept: int = 0


class _Report(beam.DoFn):
    """The shards' work, keyed by "shard/pane", in the global window: nothing is dropped behind the watermark."""

    DELTAS = BagStateSpec("deltas", ShardReportCoder())
    BOOK = ReadModifyWriteStateSpec("book", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)
    EXPIRY = TimerSpec("expiry", TimeDomain.REAL_TIME)

    def __init__(
        self,
        merge_reduce: MergeReduce,
        windows: WindowSpec,
        every: float,
        disorder: float,
        groups: int,
        key_column: str | None,
        retention: float,
        clock: Clock,
    ) -> None:
        self._merge_reduce, self._windows, self._every, self._disorder = merge_reduce, windows, every, disorder
        self._groups, self._key_column, self._retention, self._clock = groups, key_column, retention, clock
        names = ("reports_sent", "rows_late")
        self._counters = {name: Metrics.counter("beam_coresets", name) for name in names}

    def setup(self) -> None:
        self._limit = threadpool_limits(1, "blas")

    def teardown(self) -> None:
        self._limit.restore_original_limits()

    def process(
        self,
        element: tuple[str, PointBlock],
        held: Any = beam.DoFn.StateParam(DELTAS),
        state: Any = beam.DoFn.StateParam(BOOK),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> None:
        key, block = element
        now, book = self._clock(), _read(state)
        if book is None:
            book = _Book(last=now)
            end.set(Timestamp.of(self._end(key) + self._disorder))
            expiry.set(Timestamp.of(self._expires(key, book)))
        elif not len(block):
            return
        if len(block):
            self._take(key, block, book, held)
            book.last = now
            if not book.armed:
                book.armed = True
                due.set(Timestamp.of(now + self._every))
        _write(state, book)

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        held: Any = beam.DoFn.StateParam(DELTAS),
        state: Any = beam.DoFn.StateParam(BOOK),
    ) -> Iterator[tuple[str, ShardReport]]:
        book = _read(state)
        if book is not None and book.rows > book.sent:
            yield from self._told(key, book, held, False)
            _write(state, book)

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        held: Any = beam.DoFn.StateParam(DELTAS),
        state: Any = beam.DoFn.StateParam(BOOK),
    ) -> Iterator[tuple[str, ShardReport]]:
        book = _read(state)
        if book is not None and not book.final:
            yield from self._told(key, book, held, True)
            book.final = True
            _write(state, book)

    @on_timer(EXPIRY)
    def on_expiry(
        self,
        key: Any = beam.DoFn.KeyParam,
        held: Any = beam.DoFn.StateParam(DELTAS),
        state: Any = beam.DoFn.StateParam(BOOK),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[tuple[str, ShardReport]]:
        book = _read(state)
        if book is None:
            return
        expires = self._expires(key, book)
        if self._clock() < expires:
            expiry.set(Timestamp.of(expires))
            return
        if book.rows > book.sent:
            yield from self._told(key, book, held, False)
        held.clear()
        state.clear()
        due.clear()
        end.clear()

    def _take(self, key: str, block: PointBlock, book: _Book, held: Any) -> None:
        """Makes deltas of a block, one for each group of keys that it has rows of; changes `book`."""
        shard, span = _parsed(key)[0], Range(WHOLE, book.rows, book.rows + len(block), len(block))
        for _, rows in grouped(self._rows(block), self._groups):
            if len(rows.ids):
                held.add(partial_reports.delta(self._merge_reduce, shard, rows, (span,), 0))
                book.kept += 1
        book.rows += len(block)
        if book.final:
            self._counters["rows_late"].inc(len(block))
        if book.kept > COMPACT_AFTER * self._groups:
            fewer = self._by_group(held)
            held.clear()
            for report in fewer.values():
                held.add(report)
            book.kept = len(fewer)

    def _rows(self, block: PointBlock) -> Rows:
        extras, keys = block.extras, None
        if self._key_column is not None:
            named = [] if extras is None else extras.column_names
            if self._key_column not in named:
                raise ValueError(f"key_column: must be one of the blocks' extras, got {self._key_column!r} of {named}")
            keys = pc.fill_null(extras.column(self._key_column).cast(pa.string()), "").to_numpy(zero_copy_only=False)
            extras = extras.drop_columns([self._key_column]) if extras.num_columns > 1 else None
        travelling = None if extras is None else lambda rows: extras.take(pa.array(rows))
        return Rows(block.points, block.weights, block.ids, keys, block.groups, travelling)

    def _by_group(self, held: Any) -> dict[str, ShardReport]:
        """What has not been sent, as one report a group."""
        found: dict[str, list[ShardReport]] = {}
        for report in held.read():
            found.setdefault(group_of(report.keys[0], self._groups), []).append(report)
        return {group: partial_reports.compacted(self._merge_reduce, found[group]) for group in sorted(found)}

    def _told(self, key: str, book: _Book, held: Any, last: bool) -> Iterator[tuple[str, ShardReport]]:
        """The reports on everything that has not been reported, one a group, also those without rows; changes
        `book`."""
        shard, pane = _parsed(key)
        start, end = self._windows.bounds(pane)
        span = Range(WHOLE, book.sent, book.rows, book.rows - book.sent, book.rows if last else -1, book.final)
        found = self._by_group(held)
        held.clear()
        empty = ShardReport(shard, Coreset.empty(), Ledger.zero(self._merge_reduce.assignment.buckets))
        for group in group_names(self._groups):
            self._counters["reports_sent"].inc()
            yield window_key(start, end, group), dataclasses.replace(found.get(group, empty), ranges=(span,))
        book.sent, book.kept, book.armed = book.rows, 0, False

    def _end(self, key: str) -> float:
        return self._windows.bounds(_parsed(key)[1])[1]

    def _expires(self, key: str, book: _Book) -> float:
        return max(book.last, self._end(key)) + self._retention


def _parsed(key: str) -> tuple[int, int]:
    shard, pane = key.split("/")
    return int(shard), int(pane)


def _read(state: Any) -> _Book | None:
    held = state.read()
    return None if held is None else _Book(**json.loads(held))


def _write(state: Any, book: _Book) -> None:
    state.write(json.dumps(dataclasses.asdict(book)).encode())
