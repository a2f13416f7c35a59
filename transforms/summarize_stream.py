"""A summary for every window, on time, whichever shards answer.

Two ways lead to the shards' reports, and all after them is the same (`AnswerOnTime`):

    SummarizeStream     a source whose parts every shard reads for itself   ReadShards   -> AnswerOnTime
    SummarizeUnbounded  any PCollection, its rows shuffled to the shards    ReportStream -> AnswerOnTime
"""
import dataclasses
import time
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Duration

from beam_coresets.coordinator.decision import Policy
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.points.block import PointBlock
from beam_coresets.points.scale import Scale
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming.cursor import Completeness
from beam_coresets.streaming.windows import Window, WindowSpec
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.base.keys import group_names, group_of
from beam_coresets.transforms.base.memory import with_memory
from beam_coresets.transforms.coordinator.combine_panes import CombinePanes
from beam_coresets.transforms.coordinator.coordinate_stream import LATE_REPORTS, CoordinateStream
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference, reference_name
from beam_coresets.transforms.coordinator.solve_in_order import DECIDED, ELSEWHERE, SolveInOrder
from beam_coresets.transforms.reading.blocks import BlocksFromRows
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.python_rows import coordinate_names
from beam_coresets.transforms.rows.scaling import ScaleBlocks
from beam_coresets.transforms.shards.read_shards import DEAD_LETTERS, REPORTS, ReadShards
from beam_coresets.transforms.shards.report_stream import ReportStream
from beam_coresets.transforms.shards.shard_restriction import Reading
from beam_coresets.transforms.streams.beginning import beginning
from beam_coresets.transforms.streams.clocks import steady
from beam_coresets.transforms.streams.scaled import ScaledSource
from beam_coresets.transforms.streams.source import Source, names_of
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stream_letters import StreamLetters

TIMELY = 1.0  # seconds after its deadline by which a window counts as decided in time

class StreamSummaries(NamedTuple):
    """What `SummarizeStream` and `SummarizeUnbounded` return.

    Attributes:
      decided: PCollection of Summaries, for `WriteSummaries`, which lets the first of a window and revision stand.
      late: LateReports: of rows that came to nothing.
      dead_letters: DeadLetters: of messages and rows that were refused.
      elsewhere: (replica, Window): windows that this replica did not solve, as another's decision is claimed.
    """

    decided: PCollection
    late: PCollection
    dead_letters: PCollection
    elsewhere: PCollection


class SummarizeStream(beam.PTransform):
    """Begin -> `StreamSummaries`: for each window and key a coreset, k centers, and what they are worth, on time.

    Every shard reads the parts that it holds for itself, so one that is stuck holds nobody up. All times are in
    seconds, those of events since the epoch.

    Args:
      source: the parts.
      stream: what is asked.
      scale: columns' scale, or None.
      init: (m, d) centers to begin with and their ids (`SolveInOrder`).
      claims: where decisions are claimed (`WriteSummaries.claims`): then the source is told which messages are done
        with only after their windows are claimed, and later windows follow the claimed ones after a restart.
      letters: where readers write what they refuse, each once, before a window can be decided that it belongs to; the
        output `dead_letters` has it all the same, from every holder of a part.
      reference: what each window is compared with, as of `Summarize`; None: with the last one that shares no time with
        it.

    Raises:
      ValueError: a scale with the cosine metric; centers to begin with that can't be; a reference that can't be
        compared with, or one where there are keys; while the graph is made, what the
        source's `starts` raises, or more parts than `max_parts`.

    Source: `ReadShards` and `AnswerOnTime`, which say what theirs is.

    Example (a stream without an end):
      stream = StreamPlan(Plan(k=20, shards=4), WindowSpec.parse("5s"))
      write = WriteSummaries("out")
      result = p | SummarizeStream(RateSource(rate=1000, parts=4), stream, claims=write.claims)
      result.decided | write
    """

    def __init__(
        self,
        source: Source,
        stream: StreamPlan,
        scale: Scale | None = None,
        init: tuple[Any, tuple[str, ...] | None] | None = None,
        claims: Claims | None = None,
        letters: StreamLetters | None = None,
        reference: str | WindowSummary | FixedReference | None = None,
    ) -> None:
        super().__init__()
        self._letters = letters
        self._source: Source = source if scale is None else ScaledSource(source, scale)
        stream = stream.named(names_of(source))
        self._stream, self._scale, self._init, self._claims = stream, scale, init, claims
        self._reference = FixedReference.of(reference, stream.question(), getattr(source, "dim", None))

    def expand(self, begin: PBegin) -> "StreamSummaries":
        stream, plan = self._stream, self._stream.plan
        starts, launched = self._source.starts(), stream.clock()
        parts = len(starts)
        merge_reduce = plan.merge_reduce_over(stream.assignment(parts))
        known = in_time = None
        if self._claims is not None:
            in_time = FirstInTime(self._claims, launched, stream.waiting(merge_reduce.assignment).deadline)
            known = Decided(self._claims, stream.windows, stream.groups, stream.announced)
        reading = Reading(
            Completeness(stream.windows, stream.disorder, stream.idle),
            stream.poll,
            stream.groups,
            hold=stream.hold,
            hold_after_first=stream.hold_after_first,
            first=in_time,
            parallelism=stream.parallelism,
            max_parallelism=stream.max_parallelism,
            settled=None if known is None else known.settled,
            letters=None if self._letters is None else self._letters.write,
            clock=stream.clock,
            even=steady if stream.clock is time.time else None,
        )
        first = beginning(self._source, starts)
        begins = (launched if first is None else min(first, launched)) - stream.disorder
        read = begin | "Read" >> ReadShards(self._source, merge_reduce, reading, begins, starts)
        policy = stream.policy(merge_reduce.assignment, parts)
        answered = read[REPORTS] | "Answer" >> AnswerOnTime(
            stream, policy, merge_reduce, self._scale, self._init, self._claims, self._reference
        )
        return StreamSummaries(answered.decided, answered.late, read[DEAD_LETTERS], answered.elsewhere)

    def display_data(self) -> dict[str, Any]:
        of = reference_name(self._reference)
        return {**self._source.display_data(), **shown(stream=self._stream, reference=of), **_claimed(self._claims)}


class SummarizeUnbounded(beam.PTransform):
    """An unbounded PCollection with event times -> `StreamSummaries`.

    Takes PointBlocks, or plain rows, for which `columns` says what to take, as `Summarize` does. Use it for whatever
    Beam can read; where a source has parts that shards can read for themselves, `SummarizeStream` promises more: here
    rows are shuffled to the shards, so a shard that is stuck is left behind only until the network's buffers are full.
    Then back pressure stops the others too, and windows come when it goes on. A shard that is merely slow, or whose
    reports are lost, is left behind as there.

    A shard is final once the watermark has passed a window's end by the stream's `disorder` (`idle`, `poll` and
    `max_parts` are of readers). A watermark that stands holds a window until its cap, which answers with all rows that
    have come. Windows that no row falls into are not answered.

    Args:
      stream: what is asked.
      columns: what to take from plain rows.
      every: seconds between a shard's reports on a window that is going on.
      key_column: a summary for each value of this column: of rows, or of the blocks' `extras`.
      scale, init, claims, reference: see `SummarizeStream`; points are brought to the scale here.
      begins: event time before which others may have taken rows (of a subscription, the launch): the coverage of
        windows that begin earlier is 0.

    Raises:
      ValueError: shards to be held, which only readers can be; a length that can't be; a reference as of
        `SummarizeStream`.

    Source: `ReportStream` and `AnswerOnTime`, which say what theirs is.

    Example (a stream without an end):
      stream = StreamPlan(Plan(k=4, shards=5), WindowSpec.parse("5s"))
      result = rows | SummarizeUnbounded(stream, Columns(columns=("x", "y", "z")))
      result.decided | WriteSummaries("out")
    """

    def __init__(
        self,
        stream: StreamPlan,
        columns: Columns | None = None,
        every: float = 1.0,
        key_column: str | None = None,
        scale: Scale | None = None,
        init: tuple[Any, tuple[str, ...] | None] | None = None,
        claims: Claims | None = None,
        begins: float | None = None,
        reference: str | WindowSummary | FixedReference | None = None,
    ) -> None:
        super().__init__()
        if held := stream.hold + stream.hold_after_first:
            raise ValueError(f"hold_shards: must be left out where shards do not read themselves, got {held}")
        self._columns, self._key_column, self._every, self._claims = columns or Columns(), key_column, every, claims
        stream = stream.named(coordinate_names(columns))
        self._stream, self._scale, plan = stream, scale, stream.plan
        merge_reduce = plan.merge_reduce
        self._reference = FixedReference.of(reference, stream.question())
        self._answer = AnswerOnTime(
            stream, stream.policy(plan.assignment), merge_reduce, scale, init, claims, self._reference
        )
        patience = stream.waiting(plan.assignment)
        self._report = ReportStream(
            merge_reduce, stream.windows, every, stream.disorder, stream.groups, key_column,
            patience.retention + max(patience.cap, patience.deadline) + patience.grace + every, stream.clock, begins,
        )  # fmt: skip

    def expand(self, points: PCollection[Any]) -> "StreamSummaries":
        blocks, letters = self._blocks(points)
        if self._scale is not None:
            blocks = blocks | "ScaleBlocks" >> beam.ParDo(ScaleBlocks(), self._scale).with_output_types(PointBlock)
        answered = blocks | "Shards" >> self._report | "Answer" >> self._answer
        return StreamSummaries(answered.decided, answered.late, letters, answered.elsewhere)

    def display_data(self) -> dict[str, Any]:
        where = shown(columns=self._columns, every=self._every, key_column=self._key_column)
        of = reference_name(self._reference)
        return {**where, **shown(stream=self._stream, reference=of), **_claimed(self._claims)}

    def _blocks(self, points: Any) -> tuple[PCollection, PCollection]:
        if points.element_type == PointBlock:
            return points, points | "NoDeadLetters" >> beam.FlatMap(lambda _: ()).with_output_types(DeadLetter)
        period = Duration(micros=round(self._stream.windows.period * 1e6))
        columns = _keeping(self._columns, self._key_column)
        made = points | "RowsOfPanes" >> beam.WindowInto(FixedWindows(period)) | BlocksFromRows(columns)
        return made["blocks"], made["dead_letters"]


def _keeping(columns: Columns, key_column: str | None) -> Columns:
    """The columns with the key beside them."""
    if key_column is None or key_column in columns.keep_columns:
        return columns
    try:
        return dataclasses.replace(columns, keep_columns=(*columns.keep_columns, key_column))
    except ValueError as error:
        raise ValueError(str(error).replace("keep_columns", "key_column", 1)) from None


class Answers(NamedTuple):
    """What `AnswerOnTime` returns: see `StreamSummaries`."""

    decided: PCollection
    late: PCollection
    elsewhere: PCollection


@beam.typehints.with_input_types(tuple[str, ShardReport])
class AnswerOnTime(beam.PTransform):
    """(window_key, ShardReport) -> `Answers`: all that follows the shards' reports, wherever those come from.

    Args:
      stream: what is asked.
      policy: what is enough.
      merge_reduce: how the shards have sampled.
      scale, init, claims, reference: see `SummarizeStream`.

    Raises:
      ValueError: a scale with the cosine metric; a reference as of `SummarizeStream`.

    Source: `CoordinateStream`, `CombinePanes` and `SolveInOrder`, one after the other.

    Example (a stream without an end):
      stream = StreamPlan(Plan(k=4, shards=5), WindowSpec.parse("5s"))
      scheme = stream.plan.merge_reduce
      reports = blocks | ReportStream(scheme, stream.windows)
      reports | AnswerOnTime(stream, stream.policy(scheme.assignment), scheme)
    """

    def __init__(
        self,
        stream: StreamPlan,
        policy: Policy,
        merge_reduce: MergeReduce,
        scale: Scale | None = None,
        init: tuple[Any, tuple[str, ...] | None] | None = None,
        claims: Claims | None = None,
        reference: str | WindowSummary | FixedReference | None = None,
    ) -> None:
        super().__init__()
        if scale is not None and stream.plan.metric == "cosine":
            raise ValueError("scale: must be left out with metric cosine, got one")
        self._stream, self._policy, self._merge_reduce = stream, policy, merge_reduce
        self._scale, self._init, self._claims = scale, init, claims
        self._reference = FixedReference.of(reference, stream.question())

    def expand(self, reports: PCollection[tuple[str, ShardReport]]) -> "Answers":
        stream, plan = self._stream, self._stream.plan
        known = None if self._claims is None else Decided(self._claims, stream.windows, stream.groups)
        patience, coordinators = stream.waiting(self._policy.assignment), stream.coordinators
        coordinate = CoordinateStream(
            self._policy, patience, self._merge_reduce, None if known is None else known.gone, stream.clock,
            empty_group=group_of("", stream.groups), coordinators=coordinators,
            winner=None if known is None else known.winner, skips=stream.windows.kind == "fixed",
        )  # fmt: skip
        combine = CombinePanes(stream.windows, plan.sampler, plan.seed, stream.half_life, coordinators)
        solve = SolveInOrder(
            stream.question(), self._scale, self._init, self._claims, coordinators, self._reference
        )
        coordinated = reports | "Coordinate" >> with_memory(coordinate, plan)
        solved = (
            coordinated.verdicts | "Windows" >> with_memory(combine, plan) | "Solve" >> with_memory(solve, plan)
        )
        return Answers(solved[DECIDED], coordinated[LATE_REPORTS], solved[ELSEWHERE])

    def display_data(self) -> dict[str, Any]:
        return {**shown(policy=self._policy, stream=self._stream), **_claimed(self._claims)}


def _claimed(claims: Claims | None) -> dict[str, Any]:
    """Where decisions are claimed, as it is shown."""
    return {} if claims is None else shown(output=claims.output, format=claims.form)


@dataclasses.dataclass(frozen=True)
class Decided:
    """What the claims tell readers and coordinator; with `announced`, a window is done with once the world was told."""

    claims: Claims
    windows: WindowSpec
    groups: int
    announced: bool = False

    def gone(self, start: float, end: float, group: str) -> bool:
        """Whether a pane's window has been decided."""
        if self.windows.kind == "global":
            return False
        return self.claims.decided(self._window(start, end, group))

    def winner(self, start: float, end: float, group: str) -> int | None:
        """Which replica's decision of a pane's (first) window stands; of a running summary, which has no windows that
        are known beforehand, the first's."""
        return 0 if self.windows.kind == "global" else self.claims.winner(self._window(start, end, group))

    def settled(self, start: float, end: float) -> bool:
        """Whether a pane need not be read again: the last window that it is in, or a later one, is decided for all
        groups. A running summary lives in the runner's state alone: nothing could be read again for it."""
        if self.windows.kind == "global":
            return True
        later = range(self.windows.panes if self.windows.kind == "sliding" else 1)
        return all(
            any(self._done(start + i * self.windows.period, end + i * self.windows.period, group) for i in later)
            for group in group_names(self.groups)
        )

    def _done(self, start: float, end: float, group: str) -> bool:
        window = self._window(start, end, group)
        return self.claims.announced(window) if self.announced else self.claims.decided(window)

    def _window(self, start: float, end: float, group: str) -> Window:
        if self.windows.kind == "sliding":
            return Window(start, start + self.windows.size, group)
        return Window(start, end, group)


class FirstInTime:
    """When the first window was decided in time since a launch: from then on no backlog is read.

    Args:
      claims: of the output. launched: in seconds since the epoch. deadline: in seconds after a window's end.
    """

    def __init__(self, claims: Claims, launched: float, deadline: float) -> None:
        self._claims, self._launched, self._deadline = claims, launched, deadline
        self._seen: set[str] = set()
        self._found: float | None = None

    def __call__(self) -> float | None:
        """In seconds since the epoch; None as long as none is."""
        if self._found is None:
            names = self._claims.own_since(self._seen)
            for name in reversed(names):
                at, end = self._claims.claim(name)["decided_at"], place_of(name)[1]
                if at is None or at < self._launched:
                    break
                if at <= end + self._deadline + TIMELY:
                    self._found = at
            self._seen.update(names)
        return self._found
