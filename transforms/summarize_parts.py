"""SummarizeParts: files whose parts every shard reads for itself -> one summary, once all shards are done or past their
deadline."""
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam

from beam_coresets.assignment import Assignment
from beam_coresets.report import ShardReport
from beam_coresets.transforms.coordinate import Coordinate
from beam_coresets.transforms.read_shards import DEAD_LETTERS, REPORTS, Reading, ReadShards
from beam_coresets.transforms.records import ROWS
from beam_coresets.transforms.solve import SolveCenters
from beam_coresets.transforms.sources import MIN_PART_BYTES
from beam_coresets.transforms.streams.source import Source
from beam_coresets.transforms.summarize import Plan, ShardsThatAnswer, Summaries, gate

PARTS_A_SHARD = 4
LEAST_PART_BYTES = 1 << 20


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

    Raises:
      ValueError: a source without an end, or what the parts raise.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        deadline: float | None = None,
        rows: Sequence[str] = tuple(ROWS),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        if not source.bounded:
            raise ValueError("source: must be bounded where there are no windows, got an unbounded one")
        if plan.summary == "pca":
            raise ValueError("summary: must not be pca with shards that read for themselves, got 'pca'")
        if deadline is not None and not 0 < deadline < math.inf:
            raise ValueError(f"deadline: must be positive, got {deadline}")
        parts = len(source.starts())
        assignment = assignment_of_parts(plan, parts)
        self._plan, self._rows = plan, tuple(rows)
        self._merge_reduce = plan.merge_reduce_over(assignment)
        self._policy = plan.policy_over(assignment, parts)
        self._read = ReadShards(source, self._merge_reduce, Reading(deadline=deadline, clock=clock))

    def expand(self, begin: Any) -> Any:
        plan = self._plan
        read = begin | "ReadShards" >> self._read
        letters = read[DEAD_LETTERS]
        reports = (
            read[REPORTS]
            | "Key by shard" >> beam.Map(_by_shard).with_output_types(tuple[int, ShardReport])
            | "Answers"
            >> beam.ParDo(ShardsThatAnswer(plan.drop_shards), *gate(letters, plan.max_bad_rows)).with_output_types(
                ShardReport
            )
        )
        decided = (
            reports
            | "Coordinate" >> Coordinate(self._policy, self._merge_reduce)
            | "SolveCenters" >> SolveCenters(plan.question)
        )
        return Summaries.of(decided, letters, self._rows, plan)


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
