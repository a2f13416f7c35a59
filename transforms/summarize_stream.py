"""SummarizeStream: from a source of parts to a summary for every window, on time, whichever shards answer."""
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_coresets.assignment import Assignment
from beam_coresets.coordinator import Policy
from beam_coresets.cursor import Completeness
from beam_coresets.merge_reduce import MergeReduce
from beam_coresets.scale import Scale
from beam_coresets.summary import Question, Window
from beam_coresets.transforms.claims import Claims
from beam_coresets.transforms.combine_panes import CombinePanes
from beam_coresets.transforms.coordinate_stream import LATE_REPORTS, CoordinateStream
from beam_coresets.transforms.read_shards import DEAD_LETTERS, REPORTS, Reading, ReadShards
from beam_coresets.transforms.solve_in_order import SolveInOrder
from beam_coresets.transforms.streams.source import Source
from beam_coresets.transforms.summarize import Plan
from beam_coresets.vigil import Patience
from beam_coresets.windows import WindowSpec

LEAST_ROOM = 16


class StreamSummaries(NamedTuple):
    """What `SummarizeStream` returns.

    Attributes:
      decided: PCollection of Summaries, for `WriteSummaries`, which lets the first of a window and revision stand.
      late: LateReports: of rows that came to nothing.
      dead_letters: DeadLetters: of messages and rows that were refused.
    """

    decided: PCollection
    late: PCollection
    dead_letters: PCollection


@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """What a stream asks beyond a batch job; all times in seconds.

    Attributes:
      plan: the clustering, the scheme, the sizes. Its buckets don't count: parts are buckets here.
      windows: how the stream is cut.
      patience: how long a window is waited for; by default `min_shards` are as many as hold all of the data.
      disorder, idle: when a pane is complete (`Completeness`).
      poll: seconds that a shard reads before the runner can take a checkpoint of it.
      groups: into how many groups keys are divided.
      max_parts: room for new parts; the same in all runs of a job that resume each other. By default twice as many
        parts as there are at launch.
      half_life: see `CombinePanes`.
      hold: see `Reading`.
      parallelism: workers over which shards are placed.
      quick: see `Question`.

    Raises:
      ValueError: a window shorter than what decides it allows, or what the parts raise.
    """

    plan: Plan
    windows: WindowSpec
    patience: Patience | None = None
    disorder: float = 0.5
    idle: float = 1.0
    poll: float = 5.0
    groups: int = 1
    max_parts: int | None = None
    half_life: float | None = None
    hold: tuple[tuple[int, float, float], ...] = ()
    parallelism: int | None = None
    quick: bool = False
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience.min_shards > self.plan.shards:
            raise ValueError(
                f"min_shards: must be at most the {self.plan.shards} shards, got {self.patience.min_shards}"
            )
        if self.plan.drop_shards:
            raise ValueError(f"drop_shards: must be left out of a stream (hold_shards), got {self.plan.drop_shards}")
        strangers = [shard for shard, _, _ in self.hold if not 0 <= shard < self.plan.shards]
        if strangers:
            raise ValueError(f"hold_shards: must be from 0 to {self.plan.shards - 1}, got {strangers[0]}")
        CombinePanes(self.windows, self.plan.sampler, half_life=self.half_life)  # raises what is wrong with it

    def assignment(self, parts: int) -> Assignment:
        """The scheme over parts, with room for more of them; a whole number of rounds, so that loads are even."""
        plan = self.plan
        room = max(LEAST_ROOM, 1 << (2 * parts - 1).bit_length()) if self.max_parts is None else self.max_parts
        if room < parts:
            raise ValueError(f"max_parts: must be at least the {parts} parts there are, got {room}")
        buckets = -(-room // plan.shards) * plan.shards
        return Assignment(plan.shards, plan.replication, plan.scheme, buckets, plan.seed, plan.domains, parts=True)

    def waiting(self, assignment: Assignment) -> Patience:
        """The patience, with its defaults filled in."""
        if self.patience is not None:
            return self.patience
        return Patience(min_shards=max(1, assignment.shards - max(0, assignment.tolerates())))

    def question(self) -> Question:
        return dataclasses.replace(self.plan.question, quick=self.quick)


class SummarizeStream(beam.PTransform):
    """Begin -> `StreamSummaries`.

    Args:
      source: the parts.
      stream: what is asked.
      scale: columns' scale, or None.
      init: centers to begin with and their ids (`SolveInOrder`).
      claims: where decisions are claimed (`WriteSummaries.claims`): then the source is told which messages are done
        with only after their windows are claimed, and later windows follow the claimed ones after a restart.
    """

    def __init__(
        self,
        source: Source,
        stream: StreamPlan,
        scale: Scale | None = None,
        init: tuple[Any, tuple[str, ...] | None] | None = None,
        claims: Claims | None = None,
    ) -> None:
        super().__init__()
        self._source, self._stream, self._scale, self._init, self._claims = source, stream, scale, init, claims

    def expand(self, begin: Any) -> StreamSummaries:
        stream, plan = self._stream, self._stream.plan
        parts = len(self._source.starts())
        merge_reduce = MergeReduce(plan.sampler, stream.assignment(parts), plan.seed)
        policy_min = stream.waiting(merge_reduce.assignment)
        policy = Policy(merge_reduce.assignment, plan.recovery, policy_min.min_shards, parts)
        known = None if self._claims is None else Decided(self._claims, stream.windows, stream.groups)
        reading = Reading(
            Completeness(stream.windows, stream.disorder, stream.idle),
            stream.poll,
            stream.groups,
            hold=stream.hold,
            parallelism=stream.parallelism,
            settled=None if known is None else known.settled,
            clock=stream.clock,
        )
        begins = getattr(self._source, "begins", lambda: None)()
        read = begin | "Read" >> ReadShards(self._source, merge_reduce, reading, begins)
        gone = None if known is None else known.gone
        coordinated = read[REPORTS] | "Coordinate" >> CoordinateStream(
            policy, policy_min, merge_reduce, gone, stream.clock
        )
        decided = (
            coordinated.verdicts
            | "Windows" >> CombinePanes(stream.windows, plan.sampler, plan.seed, stream.half_life)
            | "Solve" >> SolveInOrder(stream.question(), self._scale, self._init, self._claims)
        )
        return StreamSummaries(decided, coordinated[LATE_REPORTS], read[DEAD_LETTERS])


@dataclasses.dataclass(frozen=True)
class Decided:
    """What the claims tell readers and coordinator."""

    claims: Claims
    windows: WindowSpec
    groups: int

    def gone(self, start: float, end: float, group: str) -> bool:
        """Whether a pane's window has been decided."""
        if self.windows.kind == "global":
            return False
        return self.claims.decided(self._window(start, end, group))

    def settled(self, start: float, end: float) -> bool:
        """Whether a pane need not be read again: the last window that it is in is decided, for all groups."""
        if self.windows.kind == "global":
            return False
        groups = [""] if self.groups == 1 else [f"{i:03d}" for i in range(self.groups)]
        return all(self.claims.decided(self._window(start, end, group)) for group in groups)

    def _window(self, start: float, end: float, group: str) -> Window:
        if self.windows.kind == "sliding":
            return Window(start, start + self.windows.size, group)
        return Window(start, end, group)


