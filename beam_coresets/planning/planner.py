"""The planner: what a scheme costs, what it loses when shards straggle, and how long it waits for them."""
from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.recovery import property1_delta
from beam_coresets.hashing import generator
from beam_coresets.shards.assignment import SCHEMES, Assignment, default_buckets, shard_circle

SAMPLED_SETS = 300
ENUMERATED_SETS = 3000  # up to here all straggler sets are tried, not a sample
_LP_SETS = 3
_MAX_PATTERNS = 2048
_LP_SIZE = 150_000  # shards times buckets
_GREEDY_WORK = 500_000_000

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Loss:
    """What t stragglers cost a scheme, as shares of the data.

    Attributes:
      stragglers: t.
      expected: mean over all sets of t stragglers.
      worst: the largest loss over straggler sets; the largest one *found* if not `worst_exact`.
      worst_exact: whether `worst` is known, by argument or by trying all sets.
      spread: standard deviation over all straggler sets; over sampled ones if buckets have more than `_MAX_PATTERNS`
        different sets of holders.
      delta: the largest, over a few sampled straggler sets, of Property 1's least delta with one number a shard, on
        the buckets that are covered; None if it was not computed (too large).
    """

    stragglers: int
    expected: float
    worst: float
    worst_exact: bool
    spread: float
    delta: float | None


@dataclass(frozen=True)
class Waiting:
    """Simulated time to answer. Times are in units of the median time of a shard that holds its data once (l = 1).

    Attributes:
      shards, replication: the scheme (cyclic).
      deadline: when an answer is given at the latest; None to wait for all data.
      median, p99: quantiles of the time to answer.
      coverage, worst_coverage: mean and least coverage of the answers.
    """

    shards: int
    replication: int
    deadline: float | None
    median: float
    p99: float
    coverage: float
    worst_coverage: float


def expected_loss(assignment: Assignment, t: int) -> float:
    """The mean share of buckets lost to a random set of t stragglers.

    Exact for the scheme as drawn: a bucket with m holders is lost with probability C(s - m, t - m) / C(s, t). Over all
    draws of `bernoulli` the mean is (1 - l / s)^(s - t).
    """
    s = assignment.shards
    holders, buckets = np.unique(assignment.matrix().sum(axis=0), return_counts=True)
    lost = [_all_straggle(s, t, int(m)) for m in holders]
    return float(np.dot(lost, buckets) / assignment.buckets)


def _all_straggle(s: int, t: int, m: int) -> float:
    """The probability that m given shards are among t random ones of s."""
    return math.prod((t - i) / (s - i) for i in range(m)) if m <= t else 0.0


def worst_loss(assignment: Assignment, t: int) -> tuple[float, bool]:
    """The largest share of buckets that t stragglers can take away, and whether it is known to be the largest.

    Known for t below the least number of holders (0), for `cyclic` (t neighbours), for `fractional` (whole groups), and
    where all sets are tried; else the largest over sampled sets and a greedy search.
    """
    if t <= assignment.tolerates():
        return 0.0, True
    if t >= assignment.shards:
        return 1.0, True
    argued = {"cyclic": _worst_cyclic, "fractional": _worst_fractional}.get(assignment.kind)
    known = argued(assignment, t) if argued else None
    if known is not None:
        return known, True
    sets, exhaustive = straggler_sets(assignment, t)
    found = float(losses(assignment, sets).max())
    if not exhaustive and assignment.shards * assignment.buckets * t <= _GREEDY_WORK:
        found = max(found, float(losses(assignment, _greedy_set(assignment, t)[None]).max()))
    return found, exhaustive


def _worst_cyclic(assignment: Assignment, t: int) -> float | None:
    """t neighbours hold t - l + 1 whole windows, any other set fewer; None where uneven windows leave that open.

    With l = 1 every shard is a window of its own, and the t largest are the worst.
    """
    s, count = assignment.shards, t - assignment.replication + 1
    circle, regular = shard_circle(assignment)
    if not regular or assignment.replication == s:
        return None
    matrix = assignment.matrix()[circle]
    window = np.array([(matrix[i] & ~matrix[i - 1]).sum() for i in range(s)])  # buckets that start at shard i
    if assignment.replication == 1:
        return float(np.sort(window)[-count:].sum() / assignment.buckets)
    runs = np.convolve(np.r_[window, window[: count - 1]], np.ones(count), "valid")[:s]
    if (count - 1) * window.max() > runs.max():
        return None
    return float(runs.max() / assignment.buckets)


def _worst_fractional(assignment: Assignment, t: int) -> float | None:
    """Whole groups; None if their sizes are of more than two kinds."""
    matrix = assignment.matrix()
    _, first, sizes = np.unique(np.packbits(matrix, axis=1), axis=0, return_index=True, return_counts=True)
    held = matrix[first].sum(axis=1)
    kinds = np.unique(sizes)
    if len(kinds) > 2:
        return None
    small, large = (np.r_[0, np.cumsum(np.sort(held[sizes == c])[::-1])] for c in (kinds[0], kinds[-1]))
    if len(kinds) == 1:
        return float(small[min(t // kinds[0], len(small) - 1)] / assignment.buckets)
    best = 0
    for a in range(min(t // int(kinds[0]), len(small) - 1) + 1):
        b = min((t - a * int(kinds[0])) // int(kinds[1]), len(large) - 1)
        best = max(best, int(small[a] + large[b]))
    return best / assignment.buckets


def _greedy_set(assignment: Assignment, t: int) -> Array:
    """Stragglers chosen one by one, each the one that brings most buckets closest to being lost."""
    matrix = assignment.matrix()
    dense = matrix.astype(np.float32)
    left = matrix.sum(axis=0)
    chosen: list[int] = []
    for _ in range(t):
        urgency = np.where(left > 0, 8.0 ** (1.0 - np.minimum(left, 40)), 0).astype(np.float32)
        score = dense @ urgency
        score[chosen] = -1
        chosen.append(int(score.argmax()))
        left = left - matrix[chosen[-1]]
    return np.array(chosen)


def straggler_sets(assignment: Assignment, t: int) -> tuple[Array, bool]:
    """Straggler sets, (sets, t) shard numbers, and whether they are all there are; else a seeded random sample."""
    s = assignment.shards
    if math.comb(s, t) <= ENUMERATED_SETS:
        return np.array(list(itertools.combinations(range(s), t)), np.int64).reshape(-1 if t else 1, t), True
    rng = generator("straggler sets", s, t, assignment.seed)
    return np.array([rng.choice(s, t, replace=False) for _ in range(SAMPLED_SETS)]), False


def losses(assignment: Assignment, sets: Array) -> npt.NDArray[np.float64]:
    """The share of buckets that each straggler set, (sets, t), takes away."""
    matrix = assignment.matrix()
    holders = matrix.sum(axis=0)
    return np.array([(matrix[chosen].sum(axis=0) == holders).mean() for chosen in sets])


def loss(assignment: Assignment, t: int) -> Loss:
    """All that the planner knows about t stragglers. Raises ValueError if t is not from 0 to shards - 1."""
    if not 0 <= t < assignment.shards:
        raise ValueError(f"tolerate: must be from 0 to {assignment.shards - 1}, got {t}")
    sets, _ = straggler_sets(assignment, t)
    worst, exact = worst_loss(assignment, t)
    delta = None
    if assignment.shards * assignment.buckets <= _LP_SIZE:
        every = max(1, len(sets) // _LP_SETS)
        delta = max(property1_delta(np.delete(assignment.matrix(), x, 0))[1] for x in sets[::every][:_LP_SETS])
    return Loss(t, expected_loss(assignment, t), worst, exact, _spread(assignment, t, sets), delta)


def _spread(assignment: Assignment, t: int, sets: Array) -> float:
    """The standard deviation of the loss, from the chances of losing each pair of buckets; over `sets` if too many."""
    if t <= assignment.tolerates():
        return 0.0
    pairs = _pattern_pairs(assignment)
    if pairs is None:
        return float(losses(assignment, sets).std())
    share, union = pairs
    lost = np.array([_all_straggle(assignment.shards, t, m) for m in range(int(union.max()) + 1)])
    alone = lost[union.diagonal()]
    return math.sqrt(max(0.0, float(share @ (lost[union] - np.outer(alone, alone)) @ share)))


@functools.lru_cache(maxsize=4)
def _pattern_pairs(assignment: Assignment) -> tuple[Array, Array] | None:
    """The share of buckets with each set of holders, (p,), and how many shards two sets have together, (p, p)."""
    packed = np.packbits(assignment.matrix(), axis=0)
    _, first, weights = np.unique(packed, axis=1, return_index=True, return_counts=True)
    if len(first) > _MAX_PATTERNS:
        return None
    patterns = assignment.matrix()[:, first].astype(np.float32)
    size = patterns.sum(axis=0)
    return weights / assignment.buckets, (size[:, None] + size - patterns.T @ patterns).astype(np.int32)


def tolerates_domains(assignment: Assignment) -> int | None:
    """The most failure domains that may stop with nothing lost, whichever they are; None without domains."""
    if assignment.domains is None:
        return None
    domains = np.asarray(assignment.domains)
    spread = np.array([assignment.matrix()[domains == d].any(axis=0) for d in np.unique(domains)])
    return int(spread.sum(axis=0).min()) - 1


def theorem6_replication(delta: float, buckets: int, straggle_probability: float) -> float:
    """The l that Theorem 6 asks for: 6 (2 + delta)^2 / delta^2 log(sqrt(2) G) / (1 - p_t), buckets in place of points.

    With it, Bernoulli assignment has Property 1 for `delta` with probability at least 1 - 1 / G.
    """
    if not 0 < delta < math.inf:
        raise ValueError(f"delta: must be positive and finite, got {delta}")
    ratio = 1 + 2 / delta
    return ratio * ratio * _theorem6_least(buckets, straggle_probability)


def theorem6_slack(replication: int, buckets: int, straggle_probability: float) -> float:
    """The least delta for which Theorem 6 asks for no more than l replicas: 2 gamma / (1 - gamma) with
    gamma^2 = 6 log(sqrt(2) G) / (l (1 - p_t)); infinite where gamma is 1 or more."""
    gamma = math.sqrt(_theorem6_least(buckets, straggle_probability) / replication)
    return 2 * gamma / (1 - gamma) if gamma < 1 else math.inf


def _theorem6_least(buckets: int, straggle_probability: float) -> float:
    if not 0 <= straggle_probability < 1:
        raise ValueError(f"straggle_probability: must be from 0 to below 1, got {straggle_probability}")
    return 6 * math.log(math.sqrt(2) * buckets) / (1 - straggle_probability)


def no_loss_probability(assignment: Assignment, straggle_probability: float) -> float | None:
    """The probability that nothing is lost when each shard straggles independently; None where there is no formula.

    `fractional`: no group straggles as a whole. `cyclic`: no l neighbours on the circle straggle; a lower bound if
    there are fewer buckets than shards. Failure domains only reorder the circle, unless one has more than s / l shards.
    """
    p, s, r = straggle_probability, assignment.shards, assignment.replication
    if assignment.kind == "fractional":
        matrix = assignment.matrix()
        sizes = np.unique(np.packbits(matrix, axis=1), axis=0, return_counts=True)[1]
        return float(math.prod(1 - p ** int(size) for size in sizes))
    if assignment.kind != "cyclic" or not shard_circle(assignment)[1]:
        return None
    if r == s:
        return 1 - p**s
    line = [1.0] * r + [1 - p**r]  # probability of no run of r stragglers among n shards in a row
    for n in range(r + 1, s + 1):
        line.append(line[-1] - (1 - p) * p**r * line[n - r - 1])
    # On the circle, a run of j < r stragglers may lie across the cut in j + 1 ways.
    return float(sum((j + 1) * p**j * (1 - p) ** 2 * line[s - j - 2] for j in range(min(r, s - 1))))


def choose(
    shards: int,
    tolerate: int | None = None,
    straggle_probability: float | None = None,
    target: float = 0.99,
    buckets: int | None = None,
    seed: int = 0,
    domains: tuple[int, ...] | None = None,
) -> Assignment:
    """The scheme with the least replication that meets what is asked.

    `tolerate` asks that any t stragglers lose nothing: l = t + 1, cyclic, since past t it degrades most gently.
    `straggle_probability` asks that with probability `target` nothing is lost: the smallest l for which `cyclic` or
    `fractional` reaches it. If both are given, the larger l.

    Raises:
      ValueError: no replication reaches it, or an option is out of range.
    """
    if tolerate is not None and not 0 <= tolerate < shards:
        raise ValueError(f"tolerate: must be from 0 to {shards - 1} (below the shards), got {tolerate}")
    if straggle_probability is not None and not 0 <= straggle_probability < 1:
        raise ValueError(f"straggle_probability: must be from 0 to below 1, got {straggle_probability}")
    if not 0 < target < 1:
        raise ValueError(f"target: must be between 0 and 1, got {target}")
    least = 1 if tolerate is None else tolerate + 1
    for r in range(least, shards + 1):
        for kind in ("cyclic", "fractional"):
            cut = default_buckets(shards, r) if buckets is None else buckets
            scheme = Assignment(shards, r, kind, cut, seed, domains)
            if straggle_probability is None:
                return scheme
            if (no_loss_probability(scheme, straggle_probability) or 0) >= target:
                return scheme
    raise ValueError(
        f"target: must be within reach of {shards} shards that straggle with probability {straggle_probability}, "
        f"got {target}"
    )


def side_by_side(chosen: Assignment) -> Iterator[Assignment]:
    """The schemes of all kinds with the same numbers as `chosen`; those that cannot have its domains go without."""
    for kind in SCHEMES:
        domains = None if kind == "bernoulli" else chosen.domains
        yield Assignment(chosen.shards, chosen.replication, kind, chosen.buckets, chosen.seed, domains)


def shard_times(
    shards: int, trials: int, seed: int = 0, body: float = 0.2, tail: float = 0.02, alpha: float = 1.2
) -> npt.NDArray[np.float64]:
    """Heavy-tailed times, (trials, shards), of shards that hold their data once; their median is about 1.

    Lognormal with standard deviation `body` of the logarithm; a share `tail` of them is slowed down by a Pareto factor
    of index `alpha` (the mean is finite only for alpha > 1, the variance for alpha > 2).
    """
    rng = generator("shard times", shards, trials, seed)
    times = np.exp(body * rng.standard_normal((trials, shards)))
    slow = rng.random((trials, shards)) < tail
    return np.where(slow, times * (1 + rng.pareto(alpha, (trials, shards))), times)


def time_to_answer(
    shards: int,
    replications: Sequence[int] = (1, 2, 3),
    deadline: float = 8.0,
    trials: int = 400,
    seed: int = 0,
    body: float = 0.2,
    tail: float = 0.02,
    alpha: float = 1.2,
) -> list[Waiting]:
    """Seeded simulation of how long cyclic schemes take: waiting for all at l = 1, then each l with a deadline.

    An answer is given when every bucket has been finished by one of its holders, or at the deadline. Replication is not
    free here: a shard that holds l times the data takes l times as long. All schemes see the same slow shards.

    Returns:
      One `Waiting` for l = 1 without a deadline, then one for each of `replications` that is at most `shards`.
    """
    for name, value in (("shards", shards), ("trials", trials), ("deadline", deadline), ("alpha", alpha)):
        if not value > 0:
            raise ValueError(f"{name}: must be positive, got {value}")
    times = shard_times(shards, trials, seed, body, tail, alpha)
    rows = [_waiting(times, 1, None)]
    return rows + [_waiting(times, r, deadline) for r in replications if r <= shards]


def _waiting(times: Array, r: int, deadline: float | None) -> Waiting:
    covered_at = times.copy()
    for i in range(1, r):
        np.minimum(covered_at, np.roll(times, -i, axis=1), out=covered_at)
    covered_at *= r
    answer = np.minimum(covered_at.max(axis=1), math.inf if deadline is None else deadline)
    coverage = (covered_at <= answer[:, None]).mean(axis=1)
    median, p99 = np.quantile(answer, [0.5, 0.99])
    return Waiting(
        times.shape[1], r, deadline, float(median), float(p99), float(coverage.mean()), float(coverage.min())
    )
