"""How much a solution gains on the sample that it was solved on, and not on the data.

The sample consists of pieces that were drawn independently (`Sampled.piece`). They are dealt to folds; for each
fold the question is solved anew on the other folds, from scratch, so that the points left out had no part in it. With
in(p) and out(p) the mean cost of point p under the solutions that have seen it, and under the one that has not,

    optimism = sum_p w (1 - 1 / w) (out(p) - in(p)) * (1 - 1 / folds)**b.

All that a fold's solution may be better or worse than the others (another local optimum) is in both and cancels; what
does not cancel is told from how the others do on what they have seen (`_gain`), and is part of the standard error. A
point of weight w stands for itself, at the cost it has, and for w - 1 others. The optimism of m points falls as m**-b,
with b = 1 where the best solution is clear and b = 1/2 where many are about as good, as where data has no clusters
(`SLOW`, `FAST`). Where the sample is a large part q of the rows, what a fold leaves out is missed more: by the variance
of samples without replacement, (1 - q) / (1 - q (1 - 1 / folds)) of the optimism is left (`unseen` is 1 - q). A sample
drawn more evenly than at random pulls centers aside less, which folds do not show, as leaving out is random: optimism
is then between `even` and 1 times what they say. Of both ranges together the middle is taken. What it may be off by,
half the range, is no chance: it comes on top of what chance may do, and not under the root with it. Optimism above the
cost itself is cut to it, and what is cut counts as half a range, too.

A solution is found on calibrated weights, which add up right cluster by cluster; what is left of a fold does not, so it
is made to: the weights in each of k clusters of the sample are what they are in the whole sample.
"""
from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.magnitude import unit_of
from beam_coresets.points.nearest import nearest
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.results.sampled import BLOCK, Sampled
from beam_coresets.solvers.model import Model

FOLDS = 5
QUICK_FOLDS = 3
SLOW, FAST = 0.5, 1.0  # b of optimism ~ m**-b
AS_RANDOM = 0.7  # evenness from which on optimism is as that of random samples
PARTITION = 1  # small clusters a center,
LEAST_POINTS = 8  # of so many points on average

Array = npt.NDArray[Any]


class Optimism(NamedTuple):
    """Attributes:
    correction: (m,) what is to be added to each point's cost.
    error: the standard error of what all of it adds to the estimate, before the estimate is scaled over a loss.
    room: what that may be off by besides, either way, and before scaling too.
    """

    correction: Array
    error: float
    room: float


def optimism(sampled: Sampled, model: Model, own: Array, quick: bool) -> Optimism:
    """Of a solution on the decision's sample; nothing where there is only one piece.

    Args:
      own: (m,) each point's cost under the solution.
      quick: three folds, and solutions that are searched for less.
    """
    sample, recovery, evidence = sampled.points, sampled.decision.recovery, sampled.decision.evidence
    nothing = Optimism(np.zeros(len(sample)), 0.0, 0.0)
    fold, folds = _dealt(sampled, QUICK_FOLDS if quick else FOLDS)
    drawn = 1 - (1 - sampled.drawn) / recovery.scale  # what is scaled over has not been seen either
    weights = sample.weights * recovery.multiplier(evidence.shard, evidence.bucket) * recovery.scale
    open_rows = drawn > 1e-9  # what is known for certain is known to every fold
    if folds < 2 or not open_rows.any():
        return nothing
    cluster, clusters = _partition(sample, np.where(open_rows, weights, 0.0), len(model.centers))
    # A small cluster that nothing else stands for stays where it is left out: the data has it.
    within = np.bincount((cluster * folds + fold)[open_rows], minlength=clusters * folds).reshape(clusters, folds)
    left_out = open_rows & (within[cluster, fold] < within.sum(axis=1)[cluster])
    costs = np.empty((folds, len(sample)))
    for number in range(folds):
        rest = _as_whole(weights, left_out & (fold == number), open_rows, cluster, clusters)
        if not rest.any():
            return nothing
        costs[number] = model.refit(dataclasses.replace(sample, weights=rest), number, quick).unbiased_costs(sample)
    gain, error = _gains(costs, own, fold, sampled.shares, np.where(left_out, drawn, 0.0))
    open_cost = (sampled.shares * np.abs(own))[open_rows]
    unseen = float(open_cost @ drawn[open_rows]) / max(1e-300, float(open_cost.sum()))
    even = min(1.0, _evenness(sampled, model, drawn) / AS_RANDOM)
    least, most = even * (1 - 1 / folds) ** FAST, (1 - 1 / folds) ** SLOW
    rate = unseen / max(1e-300, unseen + (1 - unseen) / folds) * (least + most) / 2
    # Where a fold misses clusters that the whole sample has, its gain says little: it counts as the cost, at most.
    total, whole = rate * abs(float(sampled.shares @ gain)), float(sampled.shares @ np.abs(own))
    believed = min(1.0, whole / total) if total > 0 else 1.0
    room = ((most - least) / (most + least) + 1 - believed) * total * believed
    return Optimism(rate * believed * gain, rate * believed * error, room)


def _gains(costs: Array, own: Array, fold: Array, shares: Array, unseen: Array) -> tuple[Array, float]:
    """What each point costs more (m,) under the solution without its fold than under the others, without what these
    are better or worse at in general, and the standard error of the sum.

    Args:
      costs: (folds, m) under each fold's solution. own: (m,) under the emitted one. fold, shares: (m,).
      unseen: (m,) the share of each point that its fold's solution has not seen.
    """
    folds = len(costs)
    part = shares * unseen
    totals = np.stack([np.bincount(fold, part * cost, folds) for cost in costs], axis=1)
    size = np.bincount(fold, part * np.abs(own), folds)
    gained, error = _gain(totals, size)
    outside = costs[fold, np.arange(len(fold))]
    gain = unseen * (outside - (costs.sum(axis=0) - outside) / (folds - 1))
    # As much, fold by fold, as is left of it without the solutions' own levels.
    by = np.divide(gained - np.bincount(fold, shares * gain, folds), size, out=np.zeros(folds), where=size > 0)
    return gain + unseen * np.abs(own) * by[fold], error


def _evenness(sampled: Sampled, model: Model, drawn: Array) -> float:
    """How much less the sample pulls centers aside than a random one of as many points would: the ratio of what their
    pull varies by, from neighbours that are alike, to its square. What is scaled over a loss is random.

    Args:
      drawn: (m,) the share of each point that has not been seen, be it not drawn or lost.
    """
    sample, each = sampled.points, sampled.shares / unit_of(sampled.shares)
    index, _ = model.clusters(sample)
    weight = np.bincount(index, each, len(model.centers))
    rows, alike = sampled.neighbours
    other = np.full(len(sample), -1)
    other[rows] = np.where(alike < 0, rows, alike)
    unit = unit_of(sample.points)
    varies = random = 0.0
    for low in range(0, len(sample), BLOCK):
        here = np.arange(low, min(low + BLOCK, len(sample)))
        pull, beside = (
            each[i, None] * (sample.points[i] / unit - model.centers[index[i]] / unit) for i in (here, other[here])
        )
        square, apart = (pull**2).sum(axis=1), ((pull - beside) ** 2).sum(axis=1) / 2
        apart = np.where((other[here] < 0) | (other[here] == here), square, apart)
        by = weight[index[here]]
        varies += float((sampled.drawn[here] * (apart - square) / by).sum())
        random += float((drawn[here] * square / by).sum())
    return 1.0 if random <= 0 else max(0.0, 1 + varies / random)


def _gain(totals: Array, size: Array) -> tuple[Array, float]:
    """What each fold's points cost more (folds,) under the solution that has not seen them, and the standard error of
    the sum.

    Solution g costs fold f about u_f + p_f v_g, with p_f the fold's size: some solutions are better than others. That
    is fitted to what has been seen; what has not is compared with it, and varies as much about it as the rest does.
    With two folds, one that costs nothing, or costs that are out of range, levels are not told apart, and the error is
    not known (0).

    Args:
      totals: (folds, folds) the cost of fold f's points under the solution without fold g.
      size: (folds,) in proportion to what a fold costs under any solution.
    """
    folds = len(totals)
    seen = ~np.eye(folds, dtype=bool)
    if folds < 3 or not size.all() or not np.isfinite([totals.sum(), size.sum()]).all():
        return np.diag(totals) - np.where(seen, totals, 0.0).sum(axis=1) / max(1, folds - 1), 0.0
    size = size / size.mean()
    row, column = np.indices((folds, folds))
    design = np.zeros((folds, folds, 2 * folds))
    design[row, column, row] = 1.0
    design[row, column, folds + column] = size[:, None]
    design = design[:, :, :-1]  # a level more for all solutions is one less for all folds: the last has none
    scale, unit = np.sqrt(size)[row][seen], unit_of(totals)  # as squares are needed
    x, y = design[seen] / scale[:, None], totals[seen] / unit / scale
    inverse = np.linalg.solve(x.T @ x, x.T)
    known = inverse @ y
    gained = np.diag(totals) - design[~seen] @ known * unit
    free = len(y) - design.shape[2]
    spread = float(((y - x @ known) ** 2).sum()) / max(1, free)
    influence = design[~seen].sum(axis=0) @ inverse
    return gained, float(np.sqrt(spread * (size.sum() + influence @ influence))) * unit


def _dealt(sampled: Sampled, most: int) -> tuple[Array, int]:
    """The fold of each point (m,), and how many there are: each shard, or each piece of few shards, is dealt to the
    smallest fold, and of several to the one that it shares the fewest buckets with."""
    trusted = sampled.decision.recovery.trusted
    _, first, of = np.unique(sampled.piece, return_index=True, return_inverse=True)
    folds = min(most, len(first))
    number = np.zeros(len(first), np.int64)
    size, held = np.zeros(folds, np.int64), np.zeros((folds, trusted.shape[1]), np.int64)
    for i, shard in enumerate(sampled.decision.evidence.shard[first].tolist()):
        mine = np.flatnonzero(trusted[shard])
        smallest = np.flatnonzero(size == size.min())
        number[i] = smallest[held[smallest[:, None], mine].sum(axis=1).argmin()]
        size[number[i]] += 1
        held[number[i], mine] += 1
    return number[of], folds


def _partition(sample: Coreset, weights: Array, k: int) -> tuple[Array, int]:
    """A small cluster for each point (m,), and how many there are, by the points that have weights (m,)."""
    count = max(1, min(PARTITION * k, int(np.count_nonzero(weights)) // LEAST_POINTS))
    points = sample.points / sample.points.dtype.type(unit_of(sample.points))
    rows = dz_seeding(points, weights, count, 2.0, generator("partition", count, len(sample)))
    index, _ = nearest(points, points[rows])
    return index, len(rows)


def _as_whole(weights: Array, left_out: Array, open_rows: Array, cluster: Array, clusters: int) -> Array:
    """The weights (m,) without the points left out, in each cluster adding up to what they do with them."""
    rest = np.where(left_out, 0.0, weights)
    whole = np.bincount(cluster[open_rows], weights[open_rows], clusters)
    part = np.bincount(cluster[open_rows], rest[open_rows], clusters)
    factor = np.divide(whole, part, out=np.ones(clusters), where=part > 0)
    return np.where(open_rows, rest * factor[cluster], rest)
