"""SummarizeParts: files whose parts every shard reads for itself -> one summary.

It comes once all shards are done, or have stopped at their deadline; on a runner that streams, with `OnTime`, at a
deadline that does not depend on them.
"""
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_coresets.coordinator.decision import Policy, Verdict
from beam_coresets.parameters.plan import Plan
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary, summarize
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.trigger import Patience
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.transforms.base.bad_rows import gate
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.base.keys import window_key
from beam_coresets.transforms.base.memory import with_memory
from beam_coresets.transforms.coordinator.coordinate import Coordinate
from beam_coresets.transforms.coordinator.coordinate_stream import VERDICTS, CoordinateStream
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference, reference_name
from beam_coresets.transforms.coordinator.solve import SolveCenters
from beam_coresets.transforms.reading.parts import MIN_PART_BYTES
from beam_coresets.transforms.shards.read_shards import DEAD_LETTERS, REPORTS, ReadShards
from beam_coresets.transforms.shards.shard_restriction import Reading
from beam_coresets.transforms.streams.source import Source, names_of
from beam_coresets.transforms.summarize import ShardsThatAnswer, Summaries
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.records import ROWS

PARTS_A_SHARD = 4
LEAST_PART_BYTES = 1 << 20
NEVER = 10 * 365 * 86400.0  # seconds; a time that a timer can be set to


@dataclasses.dataclass(frozen=True)
class OnTime:
    """A coordinator decides when all have said all, or at the deadline with whoever has: on a runner that streams, as
    others go on only when every task is done.

    Attributes:
      claims: where the decision is claimed.
      launched: when the deadline began to run, in seconds since the epoch.
      deadline: in seconds; None: all shards are waited for.
      min_shards: as many are waited for even past the deadline, for `Patience.cap` at most.
      coordinators: how many decide, and where.

    Raises:
      ValueError: a deadline that is not positive.
    """

    claims: Claims
    launched: float
    deadline: float | None = None
    min_shards: int = 1
    coordinators: Coordinators = ONE

    def __post_init__(self) -> None:
        if self.deadline is not None and not 0 < self.deadline < math.inf:
            raise ValueError(f"deadline: must be positive, got {self.deadline}")

    def patience(self, shards: int) -> Patience:
        """For how long a number of shards is waited for."""
        if self.deadline is None:
            return Patience(0.0, cap=NEVER, min_shards=shards)
        return Patience(self.deadline, min_shards=self.min_shards)

    def gone(self, start: float, end: float, group: str) -> bool:
        """Whether the one decision there is has been claimed."""
        return self.claims.decided(Window())

    def winner(self, start: float, end: float, group: str) -> int | None:
        """Which coordinator's."""
        return self.claims.winner(Window())


class SummarizeParts(beam.PTransform):
    """Begin -> `Summaries`: as `Summarize`, where every shard reads the parts that it holds for itself.

    Every part is read as many times as it is held. In return a deadline can be kept: no runner goes on before all tasks
    of a batch job are done, so a shard that is past it stops reading. The parts it has finished count as ever. Of a
    part that no holder has finished, the rows of the one that came furthest count as they are, and coverage says that
    it is not complete: parts are no random samples, so nothing is scaled over.

    Args:
      source: bounded.
      plan: all parameters; parts take the place of its buckets.
      deadline: seconds after which a shard stops, from when it began; None: never.
      rows: the tables to make rows of.
      clock: seconds since the epoch.
      on_time: for a runner that streams, in place of `deadline`: shards report part by part, and whoever is stuck is
        left behind. The plan's `max_bad_rows` is left to whoever waits for the claim: until then no number is final.

      reference: as of `Summarize`.

    Raises:
      ValueError: a source without an end, what the parts raise, or a reference that can't be compared with.

    Source: as `Summarize`, with parts for the buckets of the redundant assignment.

    Example:
      source = FileParts("points/*.parquet", Columns(columns=("x", "y", "z")))
      result = p | SummarizeParts(source, Plan(k=4, shards=3), deadline=60.0)
      result.decided | WriteSummaries("out")
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        deadline: float | None = None,
        rows: Sequence[str] = tuple(ROWS),
        clock: Callable[[], float] = time.time,
        on_time: OnTime | None = None,
        reference: str | WindowSummary | FixedReference | None = None,
    ) -> None:
        super().__init__()
        if not source.bounded:
            raise ValueError("source: must be bounded where there are no windows, got an unbounded one")
        if plan.summary == "pca":
            raise ValueError("summary: must not be pca with shards that read for themselves, got 'pca'")
        if deadline is not None and not 0 < deadline < math.inf:
            raise ValueError(f"deadline: must be positive, got {deadline}")
        plan = plan.named(names_of(source))
        parts = len(source.starts())
        assignment = assignment_of_parts(plan, parts)
        plan.check_dropped(assignment, parts)
        self._plan, self._rows, self._dim = plan, tuple(rows), getattr(source, "dim", None)
        self._reference = FixedReference.of(reference, plan.question, self._dim)
        self._merge_reduce = plan.merge_reduce_over(assignment)
        self._policy = plan.policy_over(assignment, parts)
        self._on_time, self._deadline, self._source = on_time, deadline, source
        reading = Reading(deadline=deadline, clock=clock)
        if on_time is not None:
            where = on_time.coordinators
            reading = Reading(
                part_by_part=True, parallelism=where.parallelism, max_parallelism=where.max_parallelism, clock=clock
            )
        self._read = ReadShards(source, self._merge_reduce, reading)

    def expand(self, begin: PBegin) -> "Summaries":
        read = begin | "ReadShards" >> self._read
        letters = read[DEAD_LETTERS]
        if self._on_time is None:
            decided = self._at_the_end(read[REPORTS], letters)
        else:
            decided = read[REPORTS] | "Answer on time" >> _AnswerOnTime(
                self._on_time, self._policy, self._merge_reduce, self._plan, self._reference
            )
        return Summaries.of(decided, letters, self._rows, self._plan)

    def display_data(self) -> dict[str, Any]:
        deadline = self._deadline if self._on_time is None else self._on_time.deadline
        of = reference_name(self._reference)
        return {**self._source.display_data(), **shown(plan=self._plan, deadline=deadline, reference=of)}

    def _at_the_end(self, reports: PCollection, letters: PCollection) -> PCollection:
        """Summaries, of all the reports there will be."""
        plan = self._plan
        answers = (
            reports
            | "Key by shard" >> beam.Map(_by_shard).with_output_types(tuple[int, ShardReport])
            | "Answers"
            >> beam.ParDo(ShardsThatAnswer(plan.drop_shards), *gate(letters, plan.max_bad_rows)).with_output_types(
                ShardReport
            )
        )
        return (
            answers
            | "Coordinate" >> with_memory(Coordinate(self._policy, self._merge_reduce), plan, self._dim)
            | "SolveCenters" >> with_memory(SolveCenters(plan.question, reference=self._reference), plan, self._dim)
        )


class _AnswerOnTime(beam.PTransform):
    """(window_key, ShardReport) -> Summaries: one of each coordinator, of which the claim takes the first."""

    def __init__(
        self, on_time: OnTime, policy: Policy, merge_reduce: MergeReduce, plan: Plan, reference: FixedReference | None
    ) -> None:
        super().__init__()
        self._on_time, self._policy, self._merge_reduce, self._plan = on_time, policy, merge_reduce, plan
        self._reference = reference

    def expand(self, reports: PCollection[tuple[str, ShardReport]]) -> PCollection[Summary]:
        on_time, plan = self._on_time, self._plan
        key = window_key(on_time.launched, on_time.launched)
        coordinated = (
            reports
            | "Of the whole"
            >> beam.FlatMap(_of_the_whole, key, plan.drop_shards).with_output_types(tuple[str, ShardReport])
            | "Coordinate"
            >> CoordinateStream(
                self._policy, on_time.patience(plan.shards), self._merge_reduce, on_time.gone,
                coordinators=on_time.coordinators, winner=on_time.winner, skips=True,
            )
        )  # fmt: skip
        solve = beam.FlatMap(_solved, plan.question, self._reference).with_output_types(Summary)
        return coordinated[VERDICTS] | "SolveCenters" >> solve


def _of_the_whole(
    element: tuple[str, ShardReport], key: str, dropped: tuple[int, ...]
) -> Iterator[tuple[str, ShardReport]]:
    """The report under the key of all there is, which begins and ends when the deadline begins to run."""
    if element[1].shard not in dropped:
        yield key, element[1]


def _solved(verdict: Verdict, question: Question, reference: FixedReference | None) -> Iterator[Summary]:
    for decision in verdict.decisions.values():
        found = summarize(decision, question, reason=verdict.reason, decided_at=verdict.decided_at)
        if reference is not None:
            found = reference.compared(decision, found, question, None)
        yield dataclasses.replace(found, replica=verdict.replica)


def _by_shard(element: tuple[str, ShardReport]) -> tuple[int, ShardReport]:
    return element[1].shard, element[1]


def assignment_of_parts(plan: Plan, parts: int) -> Assignment:
    """The plan's scheme over parts."""
    least = -(-plan.shards // plan.replication)
    return Assignment(
        plan.shards, plan.replication, plan.scheme, max(parts, least), plan.seed, plan.domains, parts=True
    )


def bytes_a_part(total: int, shards: int) -> int:
    """How large parts should be so that every shard has some, and they are not many."""
    return max(LEAST_PART_BYTES, min(MIN_PART_BYTES, total // (PARTS_A_SHARD * shards)))
