"""All parameters of a job."""
import dataclasses
import math

from beam_coresets.coordinator.decision import Policy
from beam_coresets.results.question import Question
from beam_coresets.sampling.frequent_directions import Relaxation
from beam_coresets.sampling.importance import Sampler
from beam_coresets.sampling.rings_and_groups import EPSILON
from beam_coresets.sampling.theory_sizes import MOST_CORESET_BYTES, Size, by_theory
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.local_centers import LocalCenters
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.pca import SketchTree
from beam_coresets.shards.report import SUMMARY_KINDS
from beam_coresets.solvers.constrained.constraints import Constraint

POINTS_PER_CENTER = 40


@dataclasses.dataclass(frozen=True)
class Plan:
    """All parameters of the job, checked together before anything runs.

    Attributes:
      k, z, metric, method: the clustering, and how points are sampled for it (by default "subspace" with r, else
        "sensitivity").
      shards, replication, scheme, buckets, domains: the redundant assignment (see `Assignment`).
      coreset_size: points that each shard's coreset keeps, 40 k by default; the emitted coreset is the union of the
        shards' that answered.
      recovery, min_shards: see `Policy`. By default recovery is exact, or lp where shards count as a whole.
      drop_shards: fault injection: these shards do their work and their answer never comes.
      summary: what shards send: "coreset", "local_centers" (k-median, Algorithm 1 of the redundant assignment paper) or
        "pca" (its Algorithm 3).
      r, affine: with r, k subspaces of that dimension take the place of centers, through the origin unless affine.
      delta: with summary "pca", the slack of the relaxation: r + ceil(r / delta) - 1 directions are sent.
      leftover: with method "rings_and_groups", who carries the weight of points in no group: "points" or "centers".
      epsilon: asks for the coreset size that theory names for this error, in place of `coreset_size`.
      weak: also draws `candidates` points to choose centers from, and keeps every label's total exact: a universal weak
        coreset.
      candidates: how many (40 k by default).
      audit: compares the replicas' samples, and distrusts shards whose points contradict the others'.
      constraint: what the clusters must keep to; where it is about labels, each label's total is kept exact, too.
      max_bad_rows: more dead letters than this fail the job; None lets any number pass.
      seed: of everything random.

    Raises:
      ValueError: what can't work, as `name: requirement, got value`.
    """

    k: int
    shards: int = 8
    replication: int = 2
    scheme: str = "cyclic"
    z: float = 2.0
    metric: str = "euclidean"
    method: str = ""
    coreset_size: int | None = None
    recovery: str = ""
    buckets: int = 1024
    domains: tuple[int, ...] | None = None
    min_shards: int = 1
    drop_shards: tuple[int, ...] = ()
    max_bad_rows: int | None = None
    seed: int = 0
    summary: str = "coreset"
    r: int = 0
    affine: bool = False
    delta: float = 0.1
    leftover: str = "points"
    epsilon: float | None = None
    weak: bool = False
    candidates: int | None = None
    audit: bool = False
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.z):
            raise ValueError(f"z: must be finite and at least 1, got {self.z}")
        flats = self.r > 0 and self.summary == "coreset"
        if not self.method:
            object.__setattr__(self, "method", "subspace" if flats else "sensitivity")
        if not self.recovery:
            object.__setattr__(self, "recovery", "lp" if self.whole else "exact")
        self._check_summary()
        self._check_epsilon_and_leftover()
        self._check_weak()
        self.question, self.policy, self.merge_reduce  # noqa: B018  (each checks its own part)
        strangers = sorted(set(self.drop_shards) - set(range(self.shards)))
        if strangers:
            raise ValueError(f"drop_shards: must be from 0 to {self.shards - 1}, got {strangers[0]}")
        if len(set(self.drop_shards)) == self.shards:
            raise ValueError(f"drop_shards: must leave at least one of {self.shards} shards, got all of them")
        if self.max_bad_rows is not None and self.max_bad_rows < 0:
            raise ValueError(f"max_bad_rows: must be at least 0, got {self.max_bad_rows}")

    def _check_summary(self) -> None:
        if self.summary not in SUMMARY_KINDS:
            raise ValueError(f"summary: must be one of {', '.join(SUMMARY_KINDS)}, got {self.summary!r}")
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

    @property
    def _candidates(self) -> int:
        if not self.weak:
            return 0
        return POINTS_PER_CENTER * self.k if self.candidates is None else self.candidates

    @property
    def theory(self) -> Size | None:
        """The size that theory names for `epsilon`, if that was asked for."""
        return None if self.epsilon is None else by_theory(self.method, self.k, self.epsilon, self.z)

    @property
    def assignment(self) -> Assignment:
        return Assignment(self.shards, self.replication, self.scheme, self.buckets, self.seed, self.domains)

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
        )  # fmt: skip

    @property
    def question(self) -> Question:
        return Question(
            self.sampler, self.metric, self.seed,  # type: ignore[arg-type]
            kind=self.summary, r=self.r, affine=self.affine, delta=self.delta, candidates=self._candidates,
            constraint=self.constraint,
        )  # fmt: skip

    @property
    def policy(self) -> Policy:
        return self.policy_over(self.assignment)

    def policy_over(self, assignment: Assignment, parts: int = 0) -> Policy:
        """With another scheme, of parts, of which there are so many at the start."""
        return Policy(assignment, self.recovery, self.min_shards, parts, self.whole, self.audit)

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
        kind = LocalCenters if self.summary == "local_centers" else MergeReduce
        labelled = self.weak or (self.constraint is not None and self.constraint.labelled)
        return kind(self.sampler, assignment, self.seed, labelled=labelled)

    @property
    def relaxation(self) -> Relaxation:
        """How shards sketch, with summary "pca"."""
        return Relaxation(self.r, self.delta, self.affine)
