"""How many points a shard has to keep for an error: answered by trying, on the data or on a part of it.

A pilot summarizes, in memory, with the scheme, method, k and z that the job will have, and reads the half-width of the
certificate's interval, doubt of cross-fitting included. Over sizes c of a shard's coreset it falls about as c**-b, with
b = 1/2 for independent draws and more where draws are spread evenly over few dimensions; so b is fitted, not supposed:

1. two sizes are tried, each with a few seeds; a line through the mean logarithms gives the size for the target;
2. that size is tried as well, and the line is drawn anew through the sizes nearest to the target; until the size
   that the line names is one that was tried, but for `CLOSE`.

Half-widths jump from seed to seed. The size named is one whose next half-width will keep to the target in `CHANCE` of
runs: a prediction interval of the logarithm. The deviation between seeds is pooled over the sizes tried, and with what
is usual (`USUAL`), as few runs may agree by chance.

A pilot of fewer rows than the input, 1 of rho, draws a larger share of them. A point that costs c and weighs w stands
for w rows with a variance of c^2 (w - 1) each; in the input there are rho times as many, drawn with a rho-th of the
chance: c^2 (rho w - 1). What is drawn for certain has a chance that is cut at one; points count for about the same, T,
where it is not, so the chance would have been c / T, and in the input such a point weighs max(1, rho T / c).
Half-widths are multiplied by the root of what that makes of the variance.
"""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import special

from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.hashing import derive_seed, generator, hash_integers
from beam_coresets.points.block import PointBlock
from beam_coresets.points.nearest import Metric
from beam_coresets.results.certificate import in_range, model_interval
from beam_coresets.results.question import Question
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.summary import solved_model
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.model import Model

SEEDS = 4  # runs of a size
CHANCE = 0.95  # that another run's half-width keeps to the target
LEAST_A_CENTER, START_A_CENTER = 10, 20  # points of a shard
APART = 4  # the factor between the first two sizes
STEP = 8  # a size is at most so many times the largest one tried
CLOSE = 1.15  # a size is as good as tried if it is within this factor of one that was, and so is its half-width
WIDE = 1.2  # the factor between two sizes that a line is drawn through, as noise would tilt it
ROUNDS = 6
USABLE = 0.25  # of a pilot's rows may be drawn where it is a part of the input,
UNSEEN = 0.2  # and the target is so much smaller then, for what is rarer than its rows
USUAL, USUAL_DEGREES = 0.1, 10  # the deviation of a half-width's logarithm between seeds, and what it counts for
PLATEAU = 0.9  # the quantile of what drawn points count for that is T
_PART = derive_seed("part of the input")
NEARLY_ALL = 0.8  # of what can be tried: a last size where the line says that no size but all is enough
NOTHING = 1e-9  # a half-width that counts as none


@dataclasses.dataclass(frozen=True)
class Tried:
    """Runs of one size.

    Attributes:
      size: points a shard.
      points: of the whole coreset, on average.
      halves: the half-width of each run's interval, as a share of the cost.
    """

    size: int
    points: float
    halves: tuple[float, ...]

    @property
    def logs(self) -> np.ndarray:  # type: ignore[type-arg]
        """(runs,) natural logarithms of the half-widths."""
        return np.log(np.clip(self.halves, NOTHING, 1 / NOTHING))


@dataclasses.dataclass(frozen=True)
class Named:
    """The answer.

    Attributes:
      size: points a shard; None where no size is enough, as what is lost costs more than the target.
      everything: every row is to be kept.
      half: the half-width to expect: the median over runs.
      exponent: b of half-width ~ size**-b near the answer; NaN with fewer than two sizes.
      checked: the size, or one within `CLOSE` of it, was tried; else it is extrapolated.
      tried: every size that was tried, in increasing order.
    """

    size: int | None
    everything: bool
    half: float
    exponent: float
    checked: bool
    tried: tuple[Tried, ...]


@dataclasses.dataclass(frozen=True)
class Pilot:
    """Data, and what a job is to do with them.

    Attributes:
      blocks: the rows.
      rows: of the input that the blocks are a random part of, or all of.
      sampler: k, z and method; its size is not looked at.
      assignment: the scheme.
      missing: so many shards, chosen by chance, do not answer.
    """

    blocks: Sequence[PointBlock]
    rows: int
    sampler: Sampler
    assignment: Assignment
    metric: Metric = "euclidean"
    missing: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.missing < self.assignment.shards:
            raise ValueError(f"missing: must be from 0 to {self.assignment.shards - 1} shards, got {self.missing}")
        if not self.held:
            raise ValueError("input: must have at least one row, got none")
        if self.rows < self.held:
            raise ValueError(f"rows: must be at least the {self.held} of the pilot, got {self.rows}")
        if self.sampler.k > self.rows:
            raise ValueError(f"k: must be at most the {self.rows} rows of the input, got {self.sampler.k}")

    @property
    def held(self) -> int:
        """Rows of the pilot."""
        return sum(map(len, self.blocks))

    @property
    def most(self) -> int:
        """As many points a shard as keep every row of the input."""
        return max(self.sampler.k, math.ceil(self.rows * self._fullest / self.held))

    @property
    def usable(self) -> int:
        """The largest size that can be tried."""
        share = 1.0 if self.rows == self.held else USABLE
        return max(self.sampler.k, math.ceil(self._fullest * share))

    @property
    def _fullest(self) -> int:
        """Rows of the fullest shard over the seeds of the runs."""
        return max(int(_held(self.blocks, self._scheme(seed)).max()) for seed in self.seeds)

    @property
    def seeds(self) -> range:
        """Of the runs of a size; the first is the job's own."""
        return range(self.assignment.seed, self.assignment.seed + SEEDS)

    def _scheme(self, seed: int) -> Assignment:
        return dataclasses.replace(self.assignment, seed=seed)

    def decided(self, size: int, seed: int) -> tuple[Decision, Model]:
        """What a job of this size and seed decides, and what it solves."""
        sampler = dataclasses.replace(self.sampler, size=size, seed=seed)
        scheme = self._scheme(seed)
        reports = shard_reports(self.blocks, MergeReduce(sampler, scheme, seed))
        gone = generator("missing", seed).choice(scheme.shards, self.missing, replace=False)
        decision = decide([each for each in reports if each.shard not in gone], Policy(scheme))
        return decision, solved_model(decision.coreset, Question(sampler, self.metric, seed))

    def half_width(self, size: int, seed: int) -> tuple[float, int]:
        """The half-width that such a job prints on the whole input, as a share of its cost, and the coreset's points.

        Raises:
          ValueError: there is no interval: nothing is covered, or costs are out of range.
        """
        decision, model = self.decided(size, seed)
        with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range is said so
            found = in_range(model_interval(decision, model))
        if not np.isfinite(found.high):
            raise ValueError(f"target: must be of a cost that can be measured, got an interval by {found.basis}")
        half = found.high - found.estimate
        if half <= 0:
            return 0.0, len(decision.coreset)
        if found.estimate <= 0:
            return math.inf, len(decision.coreset)
        return half / found.estimate * self._in_the_input(decision, model), len(decision.coreset)

    def _in_the_input(self, decision: Decision, model: Model) -> float:
        """The factor between a half-width on the pilot and one on the input, of as many points."""
        if self.rows == self.held:
            return 1.0
        sampled = Sampled(decision)
        drawn, counts = sampled.drawn, sampled.shares * model.unbiased_costs(sampled.points)
        chance = drawn > NOTHING
        if not chance.any():
            return 1.0
        rho, usual = self.rows / self.held, float(np.quantile(counts[chance], PLATEAU))
        weight = 1 / (1 - drawn)
        certain = np.maximum(1.0, rho * usual / np.maximum(counts, NOTHING * usual))
        there = counts**2 / weight * (np.where(chance, rho * weight, certain) - 1) / rho
        here = counts**2 / weight * (weight - 1)
        return math.sqrt(float(there.sum() / here.sum())) if here.sum() > 0 else 1.0

    def tried(self, size: int) -> Tried:
        """All runs of one size."""
        runs = [self.half_width(size, seed) for seed in self.seeds]
        return Tried(size, float(np.mean([points for _, points in runs])), tuple(half for half, _ in runs))


def random_part(blocks: Iterable[PointBlock], most: int) -> tuple[list[PointBlock], int]:
    """The blocks, or a part of their rows chosen by hash of the id where there are more than `most`; and how many rows
    there are in all. No more than a block above twice `most` is held at a time."""
    held: list[PointBlock] = []
    below, rows, kept = 1 << 64, 0, 0
    for block in blocks:
        rows += len(block)
        held.append(_chosen(dataclasses.replace(block, groups=None, extras=None), below))
        kept += len(held[-1])
        while kept > most and below > 1:
            below >>= 1
            held = [_chosen(each, below) for each in held]
            kept = sum(map(len, held))
    return held, rows


def _chosen(block: PointBlock, below: int) -> PointBlock:
    if below == 1 << 64:
        return block
    return block.take(np.flatnonzero(hash_integers(block.ids, _PART) < np.uint64(below)))


def size_for(pilot: Pilot, target: float) -> Named:
    """The size of a shard's coreset with which a job's interval is at most as wide as asked.

    Args:
      target: the half-width, as a share of the cost.

    Raises:
      ValueError: a target that is not between 0 and 1, or a cost that has no interval.
    """
    if not 0 < target < 1:
        raise ValueError(f"target: must be between 0 and 100 %, got {100 * target:g} %")
    if pilot.rows > pilot.held:
        target *= 1 - UNSEEN
    k, usable = pilot.sampler.k, pilot.usable
    first = min(START_A_CENTER * k, usable)
    found = {size: pilot.tried(size) for size in dict.fromkeys((first, min(APART * first, usable)))}
    for _ in range(ROUNDS):
        wanted = _wanted(list(found.values()), target)
        wanted = min(max(wanted, LEAST_A_CENTER * k, max(found) / STEP**2), max(found) * STEP)
        size = min(math.ceil(wanted), usable)
        if size in found and size == usable and pilot.rows == pilot.held:
            size = math.ceil(NEARLY_ALL * usable)  # what keeps every row has no error, and says nothing of the others
        if _near(found, size, _line(list(found.values()), target)[0]):
            break
        found[size] = pilot.tried(size)
    return _named(pilot, target, found)


def _named(pilot: Pilot, target: float, found: dict[int, Tried]) -> Named:
    tried = tuple(found[size] for size in sorted(found))
    size = max(_wanted(tried, target), LEAST_A_CENTER * pilot.sampler.k)
    slope, level = _line(tried, target)
    if size >= pilot.most or not np.isfinite(size):
        # Nothing is drawn where every row is kept: what is left is the error of what was lost.
        left = (found.get(pilot.usable) or pilot.tried(pilot.usable)).halves if pilot.missing else (0.0,)
        whole = pilot.usable >= pilot.most
        reached = not whole or max(left) <= target
        half = float(np.median(left)) if whole else 0.0
        return Named(pilot.most if reached else None, reached, half, -slope, whole, tried)
    named = math.ceil(size)
    half = math.exp(level + slope * math.log(named))
    return Named(named, False, half, -slope, _near(found, named, slope), tried)


def _near(found: dict[int, Tried], size: float, slope: float) -> bool:
    return min(abs(math.log(size / each)) for each in found) * max(1.0, abs(slope)) <= math.log(CLOSE)


def _line(tried: Sequence[Tried], target: float) -> tuple[float, float]:
    """Slope and level of the mean log half-width over the log size: through the two sizes nearest to the target, margin
    included, on both sides of it where there are such; not through two that are closer than `WIDE`."""
    drawn = [each for each in tried if max(each.halves) > NOTHING]
    if not drawn:
        return 0.0, math.log(NOTHING)
    if len(drawn) < 2:
        return -0.5, float(drawn[0].logs.mean()) + 0.5 * math.log(drawn[0].size)
    goal = math.log(target) - _margin(tried)
    places = [(math.log(each.size), float(each.logs.mean())) for each in drawn]
    (x0, y0), (x1, y1) = min(
        itertools.combinations(places, 2),
        key=lambda pair: (
            abs(pair[0][0] - pair[1][0]) < math.log(WIDE),
            (pair[0][1] > goal) == (pair[1][1] > goal),
            abs(pair[0][1] - goal) + abs(pair[1][1] - goal),
        ),
    )
    slope = (y1 - y0) / (x1 - x0)
    return slope, y0 - slope * x0


def _wanted(tried: Sequence[Tried], target: float) -> float:
    """The size whose next half-width is at most the target in `CHANCE` of runs; inf where the line does not fall, but
    no more than a size that had no error."""
    exact = [each.size for each in tried if max(each.halves) <= NOTHING]
    most = min(exact, default=math.inf)
    if len(exact) == len(tried):
        return 0.0
    slope, level = _line(tried, target)
    if slope > -1e-3:
        return most
    goal = math.log(target) - _margin(tried)
    try:
        return min(most, math.exp((goal - level) / slope))
    except OverflowError:
        return most


def _margin(tried: Sequence[Tried]) -> float:
    """How far above the mean logarithm one more run's may be."""
    runs = len(tried[0].logs)
    degrees = len(tried) * (runs - 1) + USUAL_DEGREES
    found = sum(float(each.logs.var(ddof=1)) * (runs - 1) for each in tried)
    spread = math.sqrt((found + USUAL_DEGREES * USUAL**2) / degrees)
    return float(special.stdtrit(degrees, CHANCE)) * spread * math.sqrt(1 + 1 / runs)


def _held(blocks: Sequence[PointBlock], scheme: Assignment) -> np.ndarray:  # type: ignore[type-arg]
    """Rows (s,) of each shard."""
    rows = np.zeros(scheme.buckets, np.int64)
    for block in blocks:
        rows += np.bincount(scheme.bucket_of(block.ids), minlength=scheme.buckets)
    return np.asarray(scheme.matrix() @ rows)
