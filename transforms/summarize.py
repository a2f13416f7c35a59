"""Summarize: the whole way from points to centers, coreset and certificate, as one composite."""
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection
from apache_beam.transforms.window import GlobalWindows

from beam_coresets.assignment import Assignment
from beam_coresets.constraints import Constraint
from beam_coresets.coordinator import Policy
from beam_coresets.local_centers import LocalCenters
from beam_coresets.merge_reduce import MergeReduce
from beam_coresets.pca import SketchTree
from beam_coresets.points import PointBlock
from beam_coresets.report import KINDS, ShardReport
from beam_coresets.rings_and_groups import EPSILON
from beam_coresets.sampling import Sampler
from beam_coresets.sizes import MOST_BYTES, Size, by_theory
from beam_coresets.sketch import Relaxation
from beam_coresets.summary import Question
from beam_coresets.transforms.assign import AssignRedundantly
from beam_coresets.transforms.coordinate import Coordinate
from beam_coresets.transforms.records import ROWS, rows_of
from beam_coresets.transforms.scaling import ScaleBlocks
from beam_coresets.transforms.shard_coreset import ShardCoreset
from beam_coresets.transforms.solve import SolveCenters
from beam_coresets.transforms.sources import BlocksFromRows, Columns, DeadLetter

POINTS_PER_CENTER = 40


class Summaries(NamedTuple):
    """What `Summarize` returns.

    Attributes:
      summaries, centers, coreset: PCollections of the rows in `beam_coresets.transforms.records`; None if not wanted.
      dead_letters: DeadLetters: of rows that were refused.
      decided: whole `Summary` objects, for `WriteSummaries`.
      candidates: as the first three; None unless the plan is `weak`.
    """

    summaries: PCollection | None
    centers: PCollection | None
    coreset: PCollection | None
    dead_letters: PCollection
    decided: PCollection
    candidates: PCollection | None = None

    @classmethod
    def of(cls, decided: PCollection, dead_letters: PCollection, rows: Sequence[str], plan: "Plan") -> "Summaries":
        """With the rows of those tables that are wanted, made from the summaries."""
        tables = {
            name: decided | f"Rows of {name}" >> beam.FlatMap(rows_of, name).with_output_types(row)
            for name, row in ROWS.items()
            if name in rows and (plan.weak or name != "candidates")
        }
        return cls(**{name: tables.get(name) for name in ROWS}, dead_letters=dead_letters, decided=decided)


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
        if self.summary not in KINDS:
            raise ValueError(f"summary: must be one of {', '.join(KINDS)}, got {self.summary!r}")
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
            size, rings, most_bytes = theory.points, self.epsilon, MOST_BYTES
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


class Summarize(beam.PTransform):
    """Points -> `Summaries`: for each window a coreset, k centers, and what they are worth.

    Takes a PCollection of PointBlocks, or of plain rows (dicts, NamedTuples, Beam rows, sequences of numbers), for
    which `columns` says what to take.

        result = rows | Summarize(Plan(k=20, shards=10, replication=3))
        result.centers | beam.Map(print)

    Args:
      plan: all parameters; or give them as keywords.
      columns: what to take from plain rows.
      names: file names for printed ids (`row_names` of the source).
      scale: a `Scale` as a side input (or value) that blocks are brought to, and results brought back from.
      dead_letters: rows refused before this transform (`ReadBlocks(...).dead_letters`): returned with its own, and
        counted against `max_bad_rows`.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        columns: Columns | None = None,
        names: Mapping[int, str] | None = None,
        scale: Any = None,
        dead_letters: PCollection | None = None,
        rows: Sequence[str] = tuple(ROWS),
        **parameters: Any,
    ) -> None:
        super().__init__()
        if plan is not None and parameters:
            raise TypeError(f"plan: must be the only parameter, got also {', '.join(sorted(parameters))}")
        self._plan = Plan(**parameters) if plan is None else plan
        if scale is not None and self._plan.metric == "cosine":
            raise ValueError("scale: must be left out with metric cosine, got one")
        self._rows = tuple(rows)
        self._columns, self._names, self._scale, self._letters = columns, names, scale, dead_letters

    def expand(self, points: Any) -> Any:
        plan = self._plan
        blocks, letters = self._blocks(points)
        if self._scale is not None:
            blocks = blocks | "ScaleBlocks" >> beam.ParDo(ScaleBlocks(), self._scale).with_output_types(PointBlock)
        reports = (
            blocks
            | "AssignRedundantly" >> AssignRedundantly(plan.assignment)
            | "KeepShardWithBlock" >> beam.Map(_with_shard).with_output_types(tuple[int, tuple[int, PointBlock]])
            | "ShardCoreset" >> beam.CombinePerKey(ShardCoreset(plan.merge_reduce))
        )
        reports = reports | "Answers" >> beam.ParDo(
            ShardsThatAnswer(plan.drop_shards), *gate(letters, plan.max_bad_rows)
        ).with_output_types(ShardReport)
        decided = (
            reports
            | "Coordinate" >> Coordinate(plan.policy)
            | "SolveCenters" >> SolveCenters(plan.question, self._names, self._scale)
        )
        return Summaries.of(decided, letters, self._rows, plan)

    def _blocks(self, points: Any) -> tuple[PCollection, PCollection]:
        if points.element_type == PointBlock:
            none = points | "NoDeadLetters" >> beam.FlatMap(lambda _: ()).with_output_types(DeadLetter)
            return points, none if self._letters is None else self._letters
        made = points | "BlocksFromRows" >> BlocksFromRows(self._columns)
        if self._letters is None:
            return made["blocks"], made["dead_letters"]
        return made["blocks"], (made["dead_letters"], self._letters) | "AllDeadLetters" >> beam.Flatten()

    def display_data(self) -> dict[str, Any]:
        shown = dataclasses.asdict(self._plan)
        return {name: value if isinstance(value, int | float | str) else str(value) for name, value in shown.items()}


def _with_shard(element: tuple[int, PointBlock]) -> tuple[int, tuple[int, PointBlock]]:
    return element[0], element


def gate(letters: PCollection, max_bad_rows: int | None) -> tuple[Any, ...]:
    """A side input that is only there if few enough rows were refused; none if any number may be."""
    if max_bad_rows is None:
        return ()
    together = letters | "LettersOfAllWindows" >> beam.WindowInto(GlobalWindows())
    examples = together | "BadRows" >> beam.CombineGlobally(BadRows())
    return (AsSingleton(examples | "Tolerate" >> beam.Map(_tolerate, max_bad_rows)),)


class ShardsThatAnswer(beam.DoFn):
    """(shard, report) -> the reports of shards that answer; waits for the gate, if there is one.

    Args:
      dropped: the shards whose reports never come.
    """

    def __init__(self, dropped: Sequence[int]) -> None:
        self._dropped = frozenset(dropped)

    def process(self, element: tuple[int, ShardReport], gate: Any = None) -> Iterator[ShardReport]:
        if element[0] not in self._dropped:
            yield element[1]


class BadRows(beam.CombineFn):
    """Dead letters -> (number, {reason and column: number}, up to five examples)."""

    EXAMPLES = 5

    def create_accumulator(self) -> tuple[int, dict[str, int], list[str]]:
        return 0, {}, []

    def add_input(self, total: Any, letter: DeadLetter) -> Any:
        what = f"{letter.reason} in {letter.column!r}" if letter.column else letter.reason
        return self.merge_accumulators([total, (1, {what: 1}, [f"{letter.source}, {letter.position}: {what}"])])

    def merge_accumulators(self, totals: Iterable[Any]) -> Any:
        count = 0
        reasons: dict[str, int] = {}
        examples: list[str] = []
        for n, r, e in totals:
            count += n
            examples += e
            for what, times in r.items():
                reasons[what] = reasons.get(what, 0) + times
        return count, reasons, sorted(examples)[: self.EXAMPLES]

    def extract_output(self, total: Any) -> Any:
        return total


def tolerate(letters: Iterable[DeadLetter], limit: int) -> None:
    """Raises ValueError if there are more than `limit`, with examples."""
    count = BadRows()
    total = count.create_accumulator()
    for letter in letters:
        total = count.add_input(total, letter)
    _tolerate(total, limit)


def _tolerate(found: tuple[int, dict[str, int], list[str]], limit: int) -> int:
    count, reasons, examples = found
    if count > limit:
        by_reason = ", ".join(f"{what}: {times}" for what, times in sorted(reasons.items()))
        first = "; ".join(examples)
        raise ValueError(
            f"max_bad_rows: at most {limit} rows may be refused, got {count} ({by_reason}); "
            f"first: {first}"
        )
    return count
