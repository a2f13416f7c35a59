"""All parameters of a job."""
import argparse
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from beam_coresets.coordinator.decision import Policy
from beam_coresets.coordinator.recovery import RECOVERIES
from beam_coresets.declared import check_values, declare, described, parameters
from beam_coresets.results.question import Question
from beam_coresets.sampling.frequent_directions import Relaxation
from beam_coresets.sampling.importance import LEFTOVER, METHODS, POINTS_PER_CENTER, Sampler
from beam_coresets.sampling.rings_and_groups import EPSILON
from beam_coresets.sampling.theory_sizes import MOST_CORESET_BYTES, Size, by_theory
from beam_coresets.shards.assignment import SCHEMES, Assignment, default_buckets
from beam_coresets.shards.local_centers import LocalCenters
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.pca import SketchTree
from beam_coresets.shards.report import SUMMARY_KINDS
from beam_coresets.solvers.constrained.constraints import Constraint

OUTLIERS_MUST = "must be a whole number of rows, or a share of at most 0.5 or 50%"


def rows_or_share(text: str) -> float:
    """The number of "100", or the share of "0.01" or "1%"; for argparse."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        check_outliers(found)
        if text.endswith("%") and found > 0.5:  # 100% is no row
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{OUTLIERS_MUST}, got {text!r}") from None
    return found


def check_outliers(outliers: float) -> None:
    """Raises ValueError unless it is a share of at most a half, or a whole number of rows."""
    if not (0 <= outliers <= 0.5 or (outliers >= 1 and math.isfinite(outliers) and outliers == int(outliers))):
        raise ValueError(f"outliers: {OUTLIERS_MUST}, got {outliers:g}")


@dataclasses.dataclass(frozen=True)
class PlanParameters:
    """What `Plan` and the commands that make one take, each declared here and nowhere else."""

    k: int = declare(None, "number of centers", group="summary", least=1)
    shards: int = declare(8, "that rows are assigned to", group="summary")
    replication: int = declare(
        None, "shards that hold each row (default: 2, or --tolerate + 1, at most all)", group="summary"
    )
    scheme: str = declare("cyclic", "of assignment", group="summary", choices=SCHEMES)
    z: float = declare(2.0, "power of the distance: 2 k-means (default), 1 k-median", group="summary")
    metric: str = declare("euclidean", "of distances", group="data", choices=("euclidean", "cosine"))
    method: str = declare("", "default: sensitivity, or subspace with --r", group="summary", choices=METHODS)
    coreset_size: int | None = declare(None, "points a shard keeps (default: 40 k)", group="summary")
    recovery: str = declare(
        "", "default: exact, or lp where shards count as a whole", group="summary", choices=RECOVERIES
    )
    buckets: int = declare(
        None, "that rows are hashed to (default: 1024, or two a shard where that is more)", group="summary"
    )
    domains: tuple[int, ...] | None = declare(
        None, "failure domain of each shard, comma-separated", group="summary", pattern="[0-9]{1,18}(,[0-9]{1,18})*"
    )
    min_shards: int = declare(1, "fewer answers make a degraded row", group="summary")
    drop_shards: tuple[int, ...] = declare(
        (), "as if these had not answered, e.g. 1,4", group="summary", pattern="[0-9]{1,18}(,[0-9]{1,18})*"
    )
    max_bad_rows: int | None = declare(None, "rows that may be refused; more fail the job", group="data", least=0)
    seed: int = declare(0, "of everything random", group="summary")
    summary: str = declare("coreset", "what shards send", group="other algorithms", choices=SUMMARY_KINDS)
    local_centers: int | None = declare(
        None, "that a shard sends with --summary local_centers (default: k)", group="other algorithms", least=1
    )
    r: int = declare(0, "k subspaces of this dimension in place of centers", group="other algorithms")
    affine: bool = declare(False, "with --r: subspaces need not pass through the origin", group="other algorithms")
    delta: float = declare(0.1, "slack of --summary pca", group="other algorithms")
    leftover: str = declare(
        "points", "with --method rings_and_groups: who carries the weight of points in no group",
        group="other algorithms", choices=LEFTOVER,
    )  # fmt: skip
    epsilon: float | None = declare(
        None, "the error that --coreset-size is to be computed for, by theory", group="other algorithms"
    )
    weak: bool = declare(False, "a universal weak coreset: candidates for centers, too", group="other algorithms")
    candidates: int | None = declare(None, "how many (default: 40 k)", group="other algorithms")
    audit: bool = declare(False, "distrust shards whose points contradict their replicas", group="other algorithms")
    outliers: float | None = declare(
        None, "leave the worst out: so many rows (100), or a share (1%)", group="summary", read=rows_or_share,
        pattern="[0-9]{1,18}|0?[.]([0-4][0-9]{0,17}|50{0,9})|[1-4]?[0-9]([.][0-9]{1,18})?%|50%", metavar="M",
    )  # fmt: skip
    tolerate: int | None = declare(
        None, "stragglers that must cost nothing; sets --replication", group="summary", least=0
    )


@described
@dataclasses.dataclass(frozen=True)
class Plan(PlanParameters):
    """All parameters of the job, checked together before anything runs.

    Attributes:
      constraint: what the clusters must keep to; where it is about labels, each label's total is kept exact, too.
      exhaustive: under a constraint: tries every choice of k candidates, for small k, and proves a factor.
      columns: names of the coordinates, for the tables; None where there are none, or the transform finds them.

    The redundant assignment is an `Assignment`, what is enough for an answer a `Policy`. With summary "local_centers"
    shards send k-median centers (Algorithm 1 of the redundant assignment paper), with "pca" sketches (its Algorithm 3:
    r + ceil(r / delta) - 1 directions). The emitted coreset is the union of those of the shards that answered.

    Raises:
      TypeError: a value of another type than declared.
      ValueError: what can't work, as `name: requirement, got value`.
    """

    constraint: Constraint | None = None
    exhaustive: bool = False
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_values(self, PlanParameters)
        self._settle()
        if not math.isfinite(self.z):
            raise ValueError(f"z: must be finite and at least 1, got {self.z}")
        self._check_summary()
        self._check_epsilon_and_leftover()
        self._check_weak()
        self._check_outliers()
        self.question, self.policy, self.merge_reduce  # noqa: B018  (each checks its own part)
        strangers = sorted(set(self.drop_shards) - set(range(self.shards)))
        if strangers:
            raise ValueError(f"drop_shards: must be from 0 to {self.shards - 1}, got {strangers[0]}")
        if len(set(self.drop_shards)) == self.shards:
            raise ValueError(f"drop_shards: must leave at least one of {self.shards} shards, got all of them")
        self.check_dropped(self.assignment, self.buckets)

    def _settle(self) -> None:
        """Fills in the defaults that other parameters decide."""
        if self.k is None:
            if self.summary != "pca":
                raise ValueError("k: must be given, got nothing")
            object.__setattr__(self, "k", 1)
        if self.replication is None:
            default = min(2, self.shards) if self.tolerate is None else self.tolerate + 1
            object.__setattr__(self, "replication", default)
        if self.tolerate is not None and self.replication <= self.tolerate:
            raise ValueError(f"replication: must exceed tolerate = {self.tolerate}, got {self.replication}")
        if self.buckets is None:
            object.__setattr__(self, "buckets", default_buckets(self.shards, max(1, self.replication)))
        if not self.method:
            flats = self.r > 0 and self.summary == "coreset"
            object.__setattr__(self, "method", "subspace" if flats else "sensitivity")
        if not self.recovery:
            object.__setattr__(self, "recovery", "lp" if self.whole else "exact")

    def _check_summary(self) -> None:
        if self.summary not in SUMMARY_KINDS:
            raise ValueError(f"summary: must be one of {', '.join(SUMMARY_KINDS)}, got {self.summary!r}")
        if self.local_centers is not None and self.summary != "local_centers":
            raise ValueError(f"local_centers: must be left out with summary {self.summary}, got {self.local_centers}")
        if self.summary == "coreset":
            return
        pca = self.summary == "pca"
        allowed = {"metric": "euclidean", "weak": False, "audit": False, "leftover": "points"}
        allowed |= {"k": 1, "z": 2, "coreset_size": None} if pca else {"z": 1, "r": 0}
        for name, value in allowed.items():
            got = getattr(self, name)
            if got != value:
                must = "be left out" if value in (None, False) else f"be {value}"
                raise ValueError(f"{name}: must {must} with summary {self.summary}, got {got!r}")
        if self.recovery == "exact":
            raise ValueError(f"recovery: must be uniform or lp with summary {self.summary}, got 'exact'")

    def _check_epsilon_and_leftover(self) -> None:
        if self.leftover == "centers" and self.recovery == "exact":
            raise ValueError("recovery: must be uniform or lp with leftover centers, which have no bucket, got 'exact'")
        for name, asked in (("metric cosine", self.metric == "cosine"), ("weak", self.weak), ("audit", self.audit)):
            if self.leftover == "centers" and asked:
                raise ValueError(f"leftover: must be points with {name}, got 'centers'")
        if self.epsilon is None:
            return
        if self.coreset_size is not None:
            raise ValueError(f"coreset_size: must be left out with epsilon, got {self.coreset_size}")
        if self.summary != "coreset" or self.r:
            what = f"r = {self.r}" if self.r else f"summary {self.summary}"
            raise ValueError(f"epsilon: must be left out with {what}, got {self.epsilon:g}")

    def _check_weak(self) -> None:
        if self.candidates is not None and not self.weak:
            raise ValueError(f"candidates: must be left out without weak, got {self.candidates}")
        if self.candidates is not None and self.candidates < self.k:
            raise ValueError(f"candidates: must be at least k = {self.k}, got {self.candidates}")
        if self.weak and self.r:
            raise ValueError(f"weak: must be left out with r = {self.r}, got True")
        if self.weak and self.recovery != "exact":
            raise ValueError(f"recovery: must be exact with weak, got {self.recovery!r}")

    def _check_outliers(self) -> None:
        if self.outliers is None:
            return
        check_outliers(self.outliers)
        if self.epsilon is not None:
            raise ValueError(f"epsilon: must be left out with outliers, got {self.epsilon:g}")

    @property
    def _candidates(self) -> int:
        if not self.weak:
            return 0
        return POINTS_PER_CENTER * self.k if self.candidates is None else self.candidates

    def named(self, columns: Sequence[str] | None) -> "Plan":
        """The plan with names of the coordinates, unless it has some."""
        if columns is None or self.columns is not None:
            return self
        return dataclasses.replace(self, columns=tuple(columns))

    @property
    def theory(self) -> Size | None:
        """The size that theory names for `epsilon`, if that was asked for."""
        return None if self.epsilon is None else by_theory(self.method, self.k, self.epsilon, self.z)

    @property
    def assignment(self) -> Assignment:
        return Assignment(self.shards, self.replication, self.scheme, self.buckets, self.seed, self.domains)

    def check_dropped(self, assignment: Assignment, parts: int) -> None:
        """Raises ValueError if none of the shards that answer holds one of the first `parts` parts or buckets."""
        if self.drop_shards and not np.delete(assignment.matrix()[:, :parts], self.drop_shards, axis=0).any():
            dropped, number = ", ".join(map(str, self.drop_shards)), "all of it" if parts == 1 else f"all {parts} parts"
            raise ValueError(f"drop_shards: must leave a shard that holds some of the data, got {dropped} ({number})")

    @property
    def sampler(self) -> Sampler:
        size = POINTS_PER_CENTER * self.k if self.coreset_size is None else self.coreset_size
        theory, rings, most_bytes = self.theory, EPSILON, None
        if theory is not None and self.epsilon is not None:
            size, rings, most_bytes = theory.points, self.epsilon, MOST_CORESET_BYTES
        return Sampler(
            self.k, size, self.z, self.method, self.seed,
            epsilon=rings, leftover=self.leftover, most_bytes=most_bytes,
            r=0 if self.summary == "pca" else self.r, affine=self.affine and self.summary != "pca",
            outliers=self.outliers or 0.0,
        )  # fmt: skip

    @property
    def question(self) -> Question:
        return Question(
            self.sampler, self.metric, self.seed,  # type: ignore[arg-type]
            kind=self.summary, r=self.r, affine=self.affine, delta=self.delta, candidates=self._candidates,
            constraint=self.constraint, exhaustive=self.exhaustive, columns=self.columns,
            asked=tuple((each.name, getattr(self, each.name)) for each in parameters(PlanParameters) if each.column),
        )  # fmt: skip

    @property
    def policy(self) -> Policy:
        return self.policy_over(self.assignment)

    def policy_over(self, assignment: Assignment, parts: int = 0) -> Policy:
        """With another scheme, of parts, of which there are so many at the start."""
        return Policy(assignment, self.recovery, self.min_shards, parts, self.whole, self.audit, bool(self.outliers))

    @property
    def whole(self) -> bool:
        """Whether some of what a shard sends has no bucket, so that the shard counts as a whole only."""
        return self.leftover == "centers" or self.summary != "coreset"

    @property
    def merge_reduce(self) -> MergeReduce:
        return self.merge_reduce_over(self.assignment)

    def merge_reduce_over(self, assignment: Assignment) -> MergeReduce:
        """With another scheme."""
        if self.summary == "pca":
            return SketchTree(self.sampler, assignment, self.seed, relaxation=self.relaxation)
        if self.summary == "local_centers":
            return LocalCenters(self.sampler, assignment, self.seed, count=self.local_centers)
        labelled = self.weak or (self.constraint is not None and self.constraint.labelled)
        return MergeReduce(self.sampler, assignment, self.seed, labelled=labelled)

    def coordinator_bytes(self, dim: int) -> int:
        """About what deciding and solving a window take in memory, with samples of `dim` float32 coordinates.

        Measured for plain centers of 100,000 sampled points in 8 and 64 dimensions: a point takes some 600 bytes and 9
        copies of its coordinates while the error is estimated.
        """
        return self.shards * self.sampler.size_in(dim, 4) * (600 + 9 * 4 * dim)

    @property
    def relaxation(self) -> Relaxation:
        """How shards sketch, with summary "pca"."""
        return Relaxation(self.r, self.delta, self.affine)
