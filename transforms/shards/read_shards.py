"""ReadShards: every shard reads the parts that it holds for itself, and reports what it has read.

The second way to the coordinator. Each shard is one element of a splittable DoFn, its restriction a `ShardCursor`: the
offsets of its parts, and what has been told of each pane. Nothing but small reports is shuffled, so one shard's
slowness stays its own. Reading costs as many times as there are replicas.
"""
import dataclasses
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.pvalue import DoOutputsTuple, PBegin
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp
from threadpoolctl import threadpool_limits

from beam_coresets import __version__
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.cursor import PartCursor, ShardCursor, first_offset
from beam_coresets.streaming.placement import placed_elements, shard_of
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.base.keys import grouped, window_key
from beam_coresets.transforms.base.lineage import tell_read
from beam_coresets.transforms.base.progress import PROGRESS
from beam_coresets.transforms.shards.pane_buffer import PaneBuffer, counted, refused_in
from beam_coresets.transforms.shards.shard_restriction import (
    SETTLE_SECONDS,
    CursorTracker,
    Reading,
    ShardRestriction,
    ShardRestrictionCoder,
)
from beam_coresets.transforms.streams.open_readers import OpenReader, OpenReaders
from beam_coresets.transforms.streams.source import Chunk, Position, Source, lineage_of

REPORTS, DEAD_LETTERS = "reports", "dead_letters"
FLUSH_BYTES = 8 << 20
READ_SECONDS = 0.1
NEW_SECONDS = 15.0  # for so long windows before a part was found are told of by a shard that had none

_WATERMARK = ManualWatermarkEstimator.default_provider()


class ReadShards(beam.PTransform):
    """Begin -> `.reports` ((window_key, ShardReport)) and `.dead_letters` (DeadLetter).

    Where reading starts is settled once, when the transform is applied, so all holders of a part start alike.

    Args:
      source: the parts.
      merge_reduce: the scheme, with parts for buckets, and how points are sampled.
      reading: see there.
      begin: the event time of the earliest message, if it is known: panes from there on are waited for in every part.
      starts: the source's, if they have been asked for already.

    Raises:
      ValueError: a scheme without parts, or with fewer buckets than there are parts; what the source raises.

    Source: a splittable DoFn (one element a shard) over `beam_coresets.streaming.cursor`; partial reports as
    `beam_coresets.streaming.partial_reports` unites them.

    Example (a stream without an end):
      stream = StreamPlan(Plan(k=4, shards=5), WindowSpec.parse("5s"))
      scheme = stream.plan.merge_reduce_over(stream.assignment(4))
      reading = Reading(Completeness(stream.windows, stream.disorder, stream.idle), poll=1.0)
      p | ReadShards(RateSource(parts=4), scheme, reading)
    """

    def __init__(
        self,
        source: Source,
        merge_reduce: MergeReduce,
        reading: Reading,
        begin: float | None = None,
        starts: Mapping[int, Position] | None = None,
    ) -> None:
        super().__init__()
        if not merge_reduce.assignment.parts:
            raise ValueError("assignment: must have parts for buckets where shards read themselves, got hashed ones")
        self._source, self._merge_reduce, self._reading, self._begin = source, merge_reduce, reading, begin
        starts = source.starts() if starts is None else starts
        if len(starts) > merge_reduce.assignment.buckets:
            raise ValueError(
                f"buckets: must be at least the {len(starts)} parts, got {merge_reduce.assignment.buckets}"
            )
        self.parts = len(starts)
        self._cursors = self._first_cursors(starts)

    def _first_cursors(self, starts: Mapping[int, Any]) -> dict[int, ShardCursor]:
        told, completeness = (0, None) if self._reading.completeness is None else (None, self._reading.completeness)
        whole: dict[int, int] = {}
        if completeness is not None:
            since = self._source.since(starts, self._reading.clock())
            whole = {part: completeness.windows.first_from(time) for part, time in since.items()}
            told = None if self._begin is None else completeness.windows.pane(self._begin)
        assignment = self._merge_reduce.assignment
        return {
            shard: ShardCursor(
                {
                    part: PartCursor(
                        starts[part], first_offset(starts[part]), closed=told, told=told, begin=told,
                        whole=whole.get(part),
                    )
                    for part in assignment.held_by(shard).tolist()
                    if part in starts
                },
                len(starts),
                0.0 if completeness is None else completeness.windows.period,
                told,
            )
            for shard in range(assignment.shards)
        }

    def expand(self, begin: PBegin) -> "DoOutputsTuple":
        shards = self._merge_reduce.assignment.shards
        most = max(self._reading.max_parallelism, self._reading.parallelism or shards)
        elements = placed_elements(shards, self._reading.parallelism or shards, most)
        kind = _ReadBounded if self._source.bounded and not self._reading.part_by_part else _ReadUnbounded
        read = kind(self._source, self._merge_reduce, self._reading, self._cursors, uuid.uuid4().hex)
        placed = begin.pipeline | "Shards" >> beam.Create(elements, reshuffle=False)
        if not self._reading.part_by_part:  # else a worker that is stuck from the start would keep others' shards
            placed = placed | "Spread shards" >> beam.Reshuffle()
        outputs = (
            placed
            | "Read shards"
            >> beam.ParDo(read)
            .with_output_types(tuple[str, ShardReport])
            .with_outputs(DEAD_LETTERS, main=REPORTS)
        )
        outputs[DEAD_LETTERS].element_type = DeadLetter
        return outputs

    def display_data(self) -> dict[str, Any]:
        return {**self._source.display_data(), "parts": self.parts, "poll": self._reading.poll}


class _Read(beam.DoFn, RestrictionProvider):
    """One shard's reading, poll after poll."""

    def __init__(
        self,
        source: Source,
        merge_reduce: MergeReduce,
        reading: Reading,
        cursors: Mapping[int, ShardCursor],
        job: str,
    ) -> None:
        self._source, self._merge_reduce, self._reading = source, merge_reduce, reading
        self._cursors, self._job, self._version = cursors, job, __version__
        self._at_once = source.bounded and not reading.part_by_part

    def setup(self) -> None:
        if self._version != __version__:
            raise ValueError(f"workers: must have beam-coresets {self._version} installed, got {__version__}")
        self._limit = threadpool_limits(1, "blas")
        shards = self._merge_reduce.assignment.shards
        self._readers = OpenReaders(self._job, self._source, shards, self._reading.even)
        self._readers.close_idle()
        names = ("points_read", "messages_read", "reports_sent", "dead_letters")
        self._counters = {name: Metrics.counter("beam_coresets", name) for name in names}
        self._lag = Metrics.gauge("beam_coresets", "lag_ms")
        self._part_lags: dict[int, Any] = {}
        self._worst: dict[int, int] = {}

    def teardown(self) -> None:
        self._limit.restore_original_limits()
        self._readers.close_idle()

    def initial_restriction(self, element: str) -> ShardRestriction:
        return ShardRestriction(self._cursors[shard_of(element)])

    def create_tracker(self, restriction: ShardRestriction) -> CursorTracker:
        return CursorTracker(restriction, self._at_once)

    def restriction_coder(self) -> ShardRestrictionCoder:
        return ShardRestrictionCoder()

    def restriction_size(self, element: str, restriction: ShardRestriction) -> float:
        return 1.0

    def truncate(self, element: str, restriction: ShardRestriction) -> ShardRestriction | None:
        return restriction if self._source.bounded else None

    def _poll(self, element: str, tracker: Any, watermark: Any) -> Iterator[Any]:
        """Reads until a pane is complete, for `poll` seconds, or to the end; then says what there was."""
        shard, clock, at_once = shard_of(element), self._reading.clock, self._at_once
        even = self._reading.even or clock
        cursor = tracker.current_restriction().cursor.paused()
        if self._source.bounded and not cursor.parts:
            return
        period = 0.0 if self._reading.completeness is None else self._reading.completeness.windows.period
        if cursor.period != period:
            raise ValueError(f"window: must be of {cursor.period:g} s as in the checkpoint, got {period:g} s")
        self._stand_still(shard)
        tell_read(lineage_of(self._source))
        self._worst = {}
        until = even() + (self._reading.poll if not at_once else self._reading.deadline or math.inf)
        rows = PaneBuffer()
        with self._readers.at(shard, cursor.positions) as held:
            while True:
                chunks = self._read(held, max(0.0, min(READ_SECONDS, until - even())))
                ahead = self._advanced(shard, cursor, chunks, held, clock())
                if not tracker.try_claim(ahead):
                    held.forget()  # somebody else reads on from where the last claim ended
                    break
                rows.refuse(chunks, cursor, self._reading)
                cursor, held.positions = ahead, ahead.positions
                yield from self._taken(shard, rows, chunks)
                if even() >= until or self._is_over(cursor, held):
                    break
                if rows.nbytes > FLUSH_BYTES:
                    yield from self._reports(shard, cursor, rows)
                    cursor, rows = cursor.reported(), PaneBuffer()
                    if not tracker.try_claim(cursor):
                        break
            yield from self._reports(shard, cursor, rows)
            if not at_once and not self._has_ended(cursor, held):
                held.reader.commit({part: held_part.floor() for part, held_part in cursor.parts.items()})
                _advance(watermark, cursor.read_upto)
                tracker.defer_remainder(Duration(micros=1000))

    def _read(self, held: OpenReader, seconds: float) -> list[Chunk]:
        if not held.positions:  # a shard without parts waits for new ones
            time.sleep(seconds)
        return held.reader.read(seconds)

    def _advanced(
        self, shard: int, cursor: ShardCursor, chunks: Sequence[Chunk], held: OpenReader, now: float
    ) -> ShardCursor:
        """The cursor after `chunks`, with the panes closed that are complete by now."""
        moment, step = time.monotonic(), held.steps.since(now)
        cursor = cursor.stepped(step) if step else cursor
        for chunk in chunks:
            panes = self._panes(chunk)
            top = float(chunk.times.max()) if len(panes) else -math.inf
            refused = counted(refused_in(chunk, cursor.parts[chunk.part], self._reading))
            part = self._begun(cursor.parts[chunk.part], chunk).taken(
                chunk.start, chunk.stop, chunk.position, panes, chunk.counts, top, now, refused
            )
            cursor = cursor.with_part(chunk.part, part)
        for part_number, position in sorted(held.reader.new_parts().items()):
            cursor = self._with_new_part(shard, cursor, part_number, position, held, now)
        lag = cursor.lag
        parts = {number: self._closed(c, number, held, lag, now) for number, c in cursor.parts.items()}
        ahead = dataclasses.replace(cursor, parts=parts)
        return self._settled(ahead if self._source.bounded else held.confirmed(cursor, ahead, moment), held)

    def _begun(self, part: PartCursor, chunk: Chunk) -> PartCursor:
        completeness = self._reading.completeness
        if completeness is None or not len(chunk.times):
            return part
        return completeness.begun(part, float(chunk.times.min()))

    def _with_new_part(
        self, shard: int, cursor: ShardCursor, part: int, position: Any, held: OpenReader, now: float
    ) -> ShardCursor:
        assignment = self._merge_reduce.assignment
        if part >= assignment.buckets:
            room = assignment.buckets
            raise ValueError(f"max_parts: must be at least the {part + 1} parts there are now, got {room}")
        cursor = dataclasses.replace(cursor, known=max(cursor.known, part + 1))
        if part not in cursor.parts and assignment.matrix()[shard, part]:
            told = min((c.told for c in cursor.parts.values() if c.told is not None), default=None)
            if told is None and cursor.begin is not None and self._reading.completeness is not None:
                told = max(cursor.begin, self._reading.completeness.windows.pane(now - NEW_SECONDS))
            cursor = cursor.with_part(part, PartCursor(position, first_offset(position), closed=told, told=told))
            held.reader.seek(cursor.positions)
        return cursor

    def _closed(self, part: PartCursor, number: int, held: OpenReader, lag: float, now: float) -> PartCursor:
        ended = held.reader.ended(number)
        if self._reading.completeness is None:
            return part.closed_at(1) if ended else part
        reader = held.reader
        return self._reading.completeness.closed(
            part, reader.caught_up(number), ended, lag, now, reader.age(number), reader.drained(number)
        )

    def _settled(self, cursor: ShardCursor, held: OpenReader) -> ShardCursor:
        """The cursor without what need not be read again; looks at most once a second."""
        now, completeness = time.monotonic(), self._reading.completeness
        if completeness is None or now - held.settled_at < SETTLE_SECONDS:
            return cursor
        held.settled_at = now
        told = {p for c in cursor.parts.values() for p in c.floors if c.told is not None and p < c.told}
        settled, done = self._reading.settled, set()
        for pane in sorted(told):  # in turn: what is after an open pane has to wait for it anyway
            if settled is not None and not settled(*completeness.windows.bounds(pane)):
                break
            done.add(pane)
        parts = {number: part.settled(done) for number, part in cursor.parts.items()}
        return dataclasses.replace(cursor, parts=parts)

    def _is_over(self, cursor: ShardCursor, held: OpenReader) -> bool:
        """Whether there is something that the coordinator waits for, or nothing will come any more."""
        if self._at_once or self._has_ended(cursor, held):
            return self._has_ended(cursor, held)
        return any(part.closed != part.told for part in cursor.parts.values())

    def _has_ended(self, cursor: ShardCursor, held: OpenReader) -> bool:
        """Whether nothing will come any more."""
        return self._source.bounded and all(held.reader.ended(part) for part in cursor.parts)

    def _panes(self, chunk: Chunk) -> Any:
        if self._reading.completeness is None:
            return np.zeros(len(chunk.times), np.int64)
        return self._reading.completeness.windows.pane_of(chunk.times)

    def _taken(self, shard: int, rows: PaneBuffer, chunks: Sequence[Chunk]) -> Iterator[Any]:
        now = self._reading.clock()
        for chunk in chunks:
            rows.add(chunk, self._panes(chunk))
            self._counters["points_read"].inc(len(chunk.points))
            self._counters["messages_read"].inc(chunk.stop - chunk.start)
            PROGRESS.add(points=len(chunk.points))
            if len(chunk.times):
                self._note_lag(chunk.part, max(0, round(1000 * (now - float(chunk.times.min())))))
            for letter in chunk.letters if self._tells_letters(shard, chunk.part) else ():
                self._counters["dead_letters"].inc()
                Metrics.counter("beam_coresets", f"dead_letters_{letter.kind}").inc()
                yield beam.pvalue.TaggedOutput(DEAD_LETTERS, TimestampedValue(letter, Timestamp.of(now)))

    def _note_lag(self, part: int, milliseconds: int) -> None:
        """How old the oldest message of this poll was when it was read: of all parts, and of this one; gauges, as
        Flink's Prometheus reporter takes no distributions."""
        if part not in self._part_lags:
            self._part_lags[part] = Metrics.gauge("beam_coresets", f"lag_ms_part_{part}")
        self._worst[part] = max(milliseconds, self._worst.get(part, 0))
        self._part_lags[part].set(self._worst[part])
        self._lag.set(max(self._worst.values()))

    def _tells_letters(self, shard: int, part: int) -> bool:
        """Whether this shard is the one that tells what was refused in a part that several read.

        In a stream all of them do: the one chosen might be dead. Their letters are alike (`WriteByTime` drops repeats).
        """
        return not self._at_once or int(self._merge_reduce.assignment.matrix()[:, part].argmax()) == shard

    def _reports(self, shard: int, cursor: ShardCursor, rows: PaneBuffer) -> Iterator[tuple[str, ShardReport]]:
        """What the coordinator has not been told, one report for each pane and key group; letters come before."""
        if self._reading.letters is not None:
            self._reading.letters(rows.letters)
        for pane, ranges in cursor.news().items():
            start, end = (0.0, 0.0)
            if self._reading.completeness is not None:
                start, end = self._reading.completeness.windows.bounds(pane)
            mine = rows.rows(pane, self._source.part_name)
            for group, some in grouped(mine, self._reading.groups):
                report = partial_reports.partial_report(self._merge_reduce, shard, some, ranges, cursor.known)
                self._counters["reports_sent"].inc()
                yield window_key(start, end, group), report

    def _stand_still(self, shard: int) -> None:
        """Fault injection: as if the worker were stuck."""
        while self._reading.held(shard):
            time.sleep(0.05)


class _ReadUnbounded(_Read):
    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: str,
        tracker: Any = beam.DoFn.RestrictionParam(),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(_WATERMARK),
    ) -> Iterator[Any]:
        yield from self._poll(element, tracker, watermark)


class _ReadBounded(_Read):
    def process(
        self,
        element: str,
        tracker: Any = beam.DoFn.RestrictionParam(),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(_WATERMARK),
    ) -> Iterator[Any]:
        yield from self._poll(element, tracker, watermark)


def _advance(watermark: Any, time_read: float) -> None:
    """Moves the watermark on; nothing here waits for it, people look at it."""
    if math.isinf(time_read):
        return
    new, old = Timestamp.of(time_read), watermark.current_watermark()
    if old is None or new > old:
        watermark.set_watermark(new)
