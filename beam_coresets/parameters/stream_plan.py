"""All parameters of a stream."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from beam_coresets.coordinator.decision import Policy
from beam_coresets.declared import TIME, Seconds, check_values, declare, declared_as, described
from beam_coresets.parameters.plan import Plan
from beam_coresets.results.question import Question
from beam_coresets.shards.assignment import Assignment
from beam_coresets.streaming.placement import MAX_PARALLELISM
from beam_coresets.streaming.replicas import Coordinators
from beam_coresets.streaming.trigger import Patience, PatienceParameters
from beam_coresets.streaming.windows import WindowSpec

LEAST_ROOM = 16
KEY_GROUPS = 4  # into which keys are divided unless it is said


@dataclasses.dataclass(frozen=True)
class StreamParameters(PatienceParameters):
    """What all ways to start a stream take beside the `PlanParameters`: the command line and Beam YAML."""

    min_shards: int | None = declared_as(  # type: ignore[assignment]
        PatienceParameters, "min_shards", None,
        help="shards that are waited for even past the deadline (default: half of them)",
    )  # fmt: skip
    window: str = declare(
        "60s", "60s, 60s/5s (sliding), or global/30s (running)", group="windows",
        pattern=f"{TIME}|{TIME}/{TIME}|global/{TIME}",
    )  # fmt: skip
    half_life: Seconds | None = declare(
        None, "a running summary forgets: half the weight after so long", group="windows"
    )
    disorder: Seconds = declare(0.5, "how far event times go back", group="windows")
    key_column: str | None = declare(
        None, "a summary for each value; message.key takes the message's own key", group="keys"
    )
    key_groups: int | None = declare(None, f"keys decided together (default: {KEY_GROUPS} groups)", group="keys")

    def stream_of(self, plan: Plan, keyed: bool, **more: Any) -> StreamPlan:
        """The plan of the stream.

        Args:
          keyed: whether rows have keys.
          more: further fields of `StreamPlan`.

        Raises:
          ValueError: what contradicts the plan or the windows.
        """
        if self.key_groups is not None and not keyed:
            raise ValueError(f"key_groups: must be left out without key_column, got {self.key_groups}")
        waits = {field.name: getattr(self, field.name) for field in dataclasses.fields(Patience)}
        if waits["min_shards"] is None:
            waits["min_shards"] = most_of(plan.shards)
        return StreamPlan(
            plan, WindowSpec.parse(self.window), Patience(**waits), disorder=self.disorder, half_life=self.half_life,
            groups=(self.key_groups or KEY_GROUPS) if keyed else 1, quick=keyed, **more,
        )  # fmt: skip


@described
@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """What a stream asks beyond a batch job; all times in seconds.

    Attributes:
      plan: the clustering, the scheme, the sizes. Its buckets don't count where parts are buckets.
      windows: how the stream is cut.
      patience: how long a window is waited for; by default for half of the shards.
      hold, hold_after_first: see `Reading`.
      clock: seconds since the epoch.

    Raises:
      TypeError: a value of another type than declared.
      ValueError: a number out of range, or what contradicts the plan or the windows.
    """

    plan: Plan
    windows: WindowSpec
    patience: Patience | None = None
    disorder: float = declared_as(StreamParameters, "disorder", StreamParameters.disorder, least=0)
    idle: float = declare(1.0, "see `Completeness`", least=0)
    poll: float = declare(5.0, "seconds that a shard reads before the runner can take a checkpoint of it", least=0)
    groups: int = declare(1, "into how many groups keys are divided", least=1)
    max_parts: int | None = declare(
        None, "room for new parts, the same in all runs that resume each other (default: twice as many)", least=1
    )
    half_life: float | None = declare(None, "seconds in which a running summary forgets half of its weight", least=0)
    announced: bool = declare(False, "the source is told that messages are done with after the topic has been told")
    hold: tuple[tuple[int, float, float], ...] = ()
    hold_after_first: tuple[tuple[int, float, float], ...] = ()
    parallelism: int | None = declare(None, "workers over which shards are placed (`Reading`)", least=1)
    max_parallelism: int = declare(MAX_PARALLELISM, "see `Reading`", least=1)
    coordinator_replicas: int = declare(1, "coordinators that decide each window, on different workers", least=1)
    standby: float = declare(0.5, "seconds that each of them waits for the one before it (`Coordinators`)", least=0)
    quick: bool = declare(False, "see `Question`")
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        check_values(self, StreamPlan)
        if self.patience is not None and self.patience.min_shards > self.plan.shards:
            raise ValueError(
                f"min_shards: must be at most the {self.plan.shards} shards, got {self.patience.min_shards}"
            )
        if self.plan.drop_shards:
            raise ValueError(f"drop_shards: must be left out of a stream (hold_shards), got {self.plan.drop_shards}")
        if self.plan.summary != "coreset":
            raise ValueError(f"summary: must be coreset in a stream, got {self.plan.summary!r}")
        if self.plan.epsilon is not None:
            raise ValueError(f"epsilon: must be left out of a stream, got {self.plan.epsilon:g}")
        if self.plan.r:
            raise ValueError(f"r: must be left out of a stream (ask its coresets with solve --r), got {self.plan.r}")
        if self.plan.constraint is not None:
            given = self.plan.constraint.text()
            raise ValueError(f"constraint: must be left out of a stream (solve its coresets under one), got {given}")
        if self.plan.leftover == "centers":
            raise ValueError("leftover: must be points in a stream, got 'centers'")
        strangers = [shard for shard, _, _ in self.hold + self.hold_after_first if not 0 <= shard < self.plan.shards]
        if strangers:
            raise ValueError(f"hold_shards: must be from 0 to {self.plan.shards - 1}, got {strangers[0]}")
        self.windows.check_half_life(self.half_life)
        _ = self.coordinators
        if self.patience is not None and self.patience.revise and self.windows.kind == "global":
            raise ValueError("revise: must be left out of a running summary, which has no windows to revise, got it")

    def named(self, columns: Sequence[str] | None) -> StreamPlan:
        """As `Plan.named`."""
        plan = self.plan.named(columns)
        return self if plan is self.plan else dataclasses.replace(self, plan=plan)

    @property
    def coordinators(self) -> Coordinators:
        """Who decides, and where."""
        workers = self.plan.shards if self.parallelism is None else self.parallelism
        return Coordinators(self.coordinator_replicas, self.standby, workers, max(workers, self.max_parallelism))

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
        return Patience(min_shards=most_of(assignment.shards))

    def policy(self, assignment: Assignment, parts: int = 0) -> Policy:
        """What is enough; `parts` where they are buckets."""
        most = self.waiting(assignment).min_shards
        plan = self.plan
        return Policy(assignment, plan.recovery, most, parts, audit=plan.audit, known=bool(plan.outliers))

    def question(self) -> Question:
        return dataclasses.replace(self.plan.question, quick=self.quick)


def most_of(shards: int) -> int:
    """Half of them: the default of `min_shards`."""
    return -(-shards // 2)
