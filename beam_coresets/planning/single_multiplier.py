"""Property 1: what one number a shard can make of a scheme, and the scheme to choose if that is all there is.

Summaries whose points have no bucket (local centers, PCA) get one multiplier a shard. Property 1 of Gandikota,
Mazumdar and Rawat, *Reliable Distributed Clustering with Redundant Data Assignment*, asks that for every set of
responding shards R with |R| >= s - t there are b >= 0 with 1 <= b^T A_R <= 1 + delta, in each bucket. It is enough to
look at sets of exactly t stragglers: who answers beyond that may get 0.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from beam_coresets.coordinator.recovery import property1_delta, theorem6_constant
from beam_coresets.hashing import generator
from beam_coresets.planning.planner import choose, no_loss_probability
from beam_coresets.shards.assignment import Assignment, default_buckets, shard_circle

CONFIDENCE = 0.95
LEAST_TRIALS = 300
_FEWEST_SETS = 3
_MOST_SETS = 1000
_WORK = 1_000_000  # different sets of holders times shards, over all straggler sets
_MOST_COMBINATIONS = 20_000
_MOST_SHARDS_ENUMERATED = 12
_TOLERANCE = 1e-9  # of a linear program

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Property1:
    """What one number a shard can make of a scheme.

    Attributes:
      delta: the least slack that a vector for each set of responding shards reaches (linear programming), the largest
        over the straggler sets; infinite if one of them takes away a bucket.
      constant: the same for vectors of equal entries, Theorem 6's among them, whatever their size: most over fewest
        responding holders of a bucket, less one.
      theorem6: whether the theorem's own constant has Property 1 for the delta that was asked for, in all of the sets.
      holds: whether `delta` is at most what was asked for.
      sets: how many were tried; those that are one by symmetry count once. 0 where a formula tells.
      exact: whether these stand for all sets of so many stragglers. Fewer stragglers never make `delta` larger.
      fails: if not, the share of straggler sets for which it may still fail, with confidence `CONFIDENCE`.
    """

    delta: float
    constant: float
    theorem6: bool
    holds: bool
    sets: int
    exact: bool
    fails: float


def property1(
    assignment: Assignment, t: int, delta: float, straggle_probability: float | None = None
) -> Property1:
    """Whether Property 1 holds with slack `delta` for every set of t stragglers (or fewer).

    Known for `fractional`; by one set of each class of rotations and reflections for `cyclic`; by all sets where they
    are few. Else over a seeded sample, with the Clopper-Pearson bound for what it has missed.

    Args:
      straggle_probability: that Theorem 6's constant is made for; t / s unless given.

    Raises:
      ValueError: t is not from 0 to shards - 1, or delta is negative or not finite.
    """
    if not 0 <= t < assignment.shards:
        raise ValueError(f"tolerate: must be from 0 to {assignment.shards - 1}, got {t}")
    if not 0 <= delta < math.inf:
        raise ValueError(f"delta: must be at least 0 and finite, got {delta}")
    p = t / assignment.shards if straggle_probability is None else straggle_probability
    if assignment.kind == "fractional":
        return _property1_fractional(assignment, t, delta, p)
    sets, exact = _representatives(assignment, t)
    matrix = assignment.matrix()
    found = [_slacks(np.delete(matrix, stragglers, 0), assignment, p, delta) for stragglers in sets]
    slack, constant, printed = (np.array(column) for column in zip(*found, strict=True))
    failed = int((slack > delta + _TOLERANCE).sum())
    return Property1(
        float(slack.max()), float(constant.max()), bool(printed.all()), failed == 0, len(sets), exact,
        0.0 if exact else 1 - _at_least(len(sets) - failed, len(sets)),
    )  # fmt: skip


def _slacks(matrix: Array, assignment: Assignment, p: float, delta: float) -> tuple[float, float, bool]:
    """Least delta, that of a constant, and whether Theorem 6's constant will do, for these responding shards."""
    holders = matrix.sum(axis=0)
    if not holders.all():
        return math.inf, math.inf, False
    b = theorem6_constant(delta, assignment.replication, p)
    fits = b * holders.min() >= 1 - _TOLERANCE and b * holders.max() <= 1 + delta + _TOLERANCE
    return property1_delta(matrix)[1], float(holders.max() / holders.min() - 1), bool(fits)


def _property1_fractional(assignment: Assignment, t: int, delta: float, p: float) -> Property1:
    """A one for one shard of each group that has an answer: delta is 0, or a whole group is gone."""
    sizes = np.unique(np.packbits(assignment.matrix(), axis=1), axis=0, return_counts=True)[1]
    if t >= sizes.min():
        return Property1(math.inf, math.inf, False, False, 0, True, 0.0)
    most = [max([*np.delete(sizes, g), size - t]) / (size - t) - 1 for g, size in enumerate(sizes)]
    b = theorem6_constant(delta, assignment.replication, p)
    untouched = sizes.max() if len(sizes) > 1 else sizes.max() - t
    fits = b * (sizes.min() - t) >= 1 - _TOLERANCE and b * untouched <= 1 + delta + _TOLERANCE
    return Property1(0.0, float(max(most)), bool(fits), True, 0, True, 0.0)


def _budget(assignment: Assignment) -> int:
    """How many straggler sets to try: a linear program has a row for each different set of holders."""
    patterns = np.unique(np.packbits(assignment.matrix(), axis=0), axis=1).shape[1]
    return int(np.clip(_WORK // (patterns * assignment.shards), _FEWEST_SETS, _MOST_SETS))


def _turns(assignment: Assignment) -> Array | None:
    """The circle, (s,), of a cyclic scheme that looks the same from every shard: all its windows have buckets."""
    circle, regular = shard_circle(assignment)
    whole = assignment.kind == "cyclic" and regular and assignment.buckets >= assignment.shards
    return circle if whole else None


def _classes(places: Iterable[tuple[int, ...]], s: int) -> list[tuple[int, ...]]:
    """One of each class of rotations and reflections of some sets of places on a circle of s."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for chosen in places:
        gaps = tuple(np.diff([*chosen, chosen[0] + s]).tolist()) if chosen else ()
        turned = [way[i:] + way[:i] for way in (gaps, gaps[::-1]) for i in range(len(gaps))]
        found.setdefault(min(turned, default=()), chosen)
    return list(found.values())


def _representatives(assignment: Assignment, t: int) -> tuple[Array, bool]:
    """Straggler sets, (sets, t), and whether each other one is like one of them."""
    s, most = assignment.shards, _budget(assignment)
    circle = _turns(assignment)
    if circle is not None and t and math.comb(s - 1, t - 1) <= _MOST_COMBINATIONS:
        classes = _classes(((0, *rest) for rest in itertools.combinations(range(1, s), t - 1)), s)
        if len(classes) <= most:
            return circle[np.array(classes)], True
    if math.comb(s, t) <= most:
        return np.array(list(itertools.combinations(range(s), t)), np.int64).reshape(math.comb(s, t), t), True
    rng = generator("Property 1", s, t, assignment.seed)
    return np.array([rng.choice(s, t, replace=False) for _ in range(most)]), False


def _at_least(successes: int, trials: int) -> float:
    """Clopper and Pearson's lower bound for a probability, one-sided."""
    if not successes:
        return 0.0
    return float(special.betaincinv(successes, trials - successes + 1, 1 - CONFIDENCE))


def property1_probability(
    assignment: Assignment, straggle_probability: float, delta: float, target: float = 0.99
) -> tuple[float, bool]:
    """The probability that Property 1 holds with slack `delta` if each shard straggles independently, and whether it is
    exact.

    Exact for `fractional`, and by classes of straggler sets where those are few; else a lower bound with confidence
    `CONFIDENCE` from seeded trials, as many as it takes to show `target` if it never fails.
    """
    s, p = assignment.shards, straggle_probability
    if assignment.replication == s:
        return 1 - p**s, True
    if assignment.kind == "fractional":
        return no_loss_probability(assignment, p) or 0.0, True
    matrix = assignment.matrix()

    def holds(stragglers: Any) -> bool:
        answering = np.delete(matrix, np.asarray(stragglers, np.int64), 0)
        return bool(answering.any(axis=0).all()) and property1_delta(answering)[1] <= delta + _TOLERANCE

    if s <= _MOST_SHARDS_ENUMERATED:
        circle = _turns(assignment)
        every = [x for t in range(s) for x in itertools.combinations(range(s), t)]
        if circle is None:
            return math.fsum(p ** len(x) * (1 - p) ** (s - len(x)) for x in every if holds(x)), True
        total = 0.0
        for x in _classes(every, s):
            alike = {tuple(sorted((way * i + turn) % s for i in x)) for way in (1, -1) for turn in range(s)}
            total += len(alike) * p ** len(x) * (1 - p) ** (s - len(x)) * holds(circle[list(x)])
        return total, True
    trials = int(np.clip(math.ceil(math.log(1 - CONFIDENCE) / math.log(target)), LEAST_TRIALS, 10 * LEAST_TRIALS))
    trials = min(trials, max(_FEWEST_SETS, _budget(assignment)))
    rng = generator("Property 1", s, "independent", assignment.seed)
    found = 0
    held: dict[tuple[int, ...], bool] = {}
    for _ in range(trials):
        stragglers = tuple(np.flatnonzero(rng.random(s) < p).tolist())
        if stragglers not in held:
            held[stragglers] = len(stragglers) < s and holds(stragglers)
        found += held[stragglers]
    return _at_least(found, trials), False


def choose_for_one_number(
    shards: int,
    delta: float,
    tolerate: int | None = None,
    straggle_probability: float | None = None,
    target: float = 0.99,
    buckets: int | None = None,
    seed: int = 0,
    domains: tuple[int, ...] | None = None,
    kinds: Sequence[str] = ("fractional", "cyclic"),
) -> Assignment:
    """The scheme with the least replication whose Property 1 holds with slack `delta`: for summaries of which a shard's
    whole has one multiplier (local centers, PCA).

    For every set of `tolerate` stragglers, or with probability `target` if they straggle independently, or both. A
    sampled answer counts if it holds in all samples, or with confidence `CONFIDENCE`. `fractional` comes first: its
    slack is 0 wherever nothing is lost, so no scheme needs less.

    Raises:
      ValueError: no replication reaches the target, or an option is out of range.
    """
    if not 0 <= delta < math.inf:
        raise ValueError(f"delta: must be at least 0 and finite, got {delta}")
    if tolerate is None and straggle_probability is None:
        raise ValueError("tolerate: must be given unless straggle_probability is, got neither")
    choose(shards, tolerate, straggle_probability, target, buckets, seed, domains)  # refuses what is out of range
    for r in range(1 if tolerate is None else tolerate + 1, shards + 1):
        for kind in kinds:
            cut = default_buckets(shards, r) if buckets is None else buckets
            scheme = Assignment(shards, r, kind, cut, seed, None if kind == "bernoulli" else domains)
            if _reaches(scheme, delta, tolerate, straggle_probability, target):
                return scheme
    raise AssertionError("with as many replicas as shards, delta is 0 as long as one of them answers")


def _reaches(scheme: Assignment, delta: float, t: int | None, p: float | None, target: float) -> bool:
    if t is not None and (scheme.tolerates() < t or not property1(scheme, t, delta).holds):
        return False
    if p is None:
        return True
    possible = no_loss_probability(scheme, p)
    if possible is not None and possible < target:
        return False
    return property1_probability(scheme, p, delta, target)[0] >= target
