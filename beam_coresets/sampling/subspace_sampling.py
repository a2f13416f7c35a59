"""Importances of points for (r, k)-subspace clustering, and the calibration of a sample drawn by them.

Varadarajan and Xiao (*On the sensitivity of shape fitting problems*, FSTTCS 2012), in the framework of Feldman and
Langberg (STOC 2011): given a rough solution, the largest share that a point can have of the cost of any other solution
is bounded by its share of the rough one's cost plus the sensitivity of its projection among the projections of its
cluster. Within one r-dimensional flat the latter is a leverage score: with t_a the coordinates of the projection along
the cluster's principal axes, v_a their mean squares and W the cluster's weight,

    (1 + sum_a t_a**2 / v_a) / W          (without the 1 for linear flats)

which adds up to r + 1 over the cluster. A point far out on its flat costs nothing there, yet it is such points that say
where the flat points to; to a nearest center they are like any other point at that distance.

What is relaxed: the rough solution is a seeding with a few k-subspaces iterations on a part of the rows, so no constant
factor is proved for it, and axes and mean squares are those rows'. For k >= 2 flats of dimension r >= 1 the leverage
within each cluster stands for the sensitivity under all sets of k flats, for which no bound independent of the number
of points exists in general, and no small strong coreset. Whatever the importances are, weights are unbiased.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.flats import Flats, coordinates, fit, nearest_flat, nearest_with_length, seeded

Array = npt.NDArray[Any]

RESIDUAL_SHARE = 0.4  # of the sample: by squared distance to the rough solution,
LEVERAGE_SHARE = 0.3  # by leverage along its flats; and the rest evenly over each cluster
SUBSPACE_COST_SHARE = RESIDUAL_SHARE + LEVERAGE_SHARE
ROUGH_ROWS = 2048
ITERATIONS = 3
LEAST_SHARE_FACTOR, MOST_SHARE_FACTOR = 0.5, 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Importances:
    """What a sample is drawn by.

    Attributes:
      flats: of the rough solution.
      index: (n,) int32, the flat of each point.
      dist_sq: (n,) squared distance to it.
      cost: (n,) residual and leverage together; times the weight, it adds up to one.
    """

    flats: Flats
    index: Array
    dist_sq: Array
    cost: Array


def importances(
    points: Array, weights: Array, count: int, r: int, affine: bool, rng: np.random.Generator, candidates: int
) -> Importances:
    """Solves roughly for `count` flats, on at most `ROUGH_ROWS` rows, and measures all points against them.

    Args:
      points: (n, d) float32 or float64. weights: (n,) non-negative, some positive.
      count: flats of the rough solution; more than are asked for make it finer.
      candidates: compared in each step of the seeding.
    """
    rows = np.arange(len(points))
    if len(points) > ROUGH_ROWS:
        rows = np.searchsorted(np.cumsum(weights), rng.random(ROUGH_ROWS) * weights.sum(), side="right")
        rows = np.minimum(rows, len(points) - 1)
    sample = points[rows].astype(np.float64)
    sample_weights = np.ones(len(rows)) if len(points) > ROUGH_ROWS else weights
    flats = seeded(sample, sample_weights, count, r, affine, rng, candidates)
    spread = np.zeros(flats.bases.shape[:2])
    for _ in range(ITERATIONS):
        index, _ = nearest_flat(sample, flats)
        flats, spread = fit(sample, sample_weights, index, flats, affine)
    return _measured(points, weights, flats, spread)


def _measured(points: Array, weights: Array, flats: Flats, spread: Array) -> Importances:
    extended = spread > 1e-12 * spread.max()  # nothing has leverage along what is rounding only
    precision = np.minimum(np.divide(1.0, spread, out=np.zeros(spread.shape), where=extended), 1e30)  # float32 ends
    index, dist_sq, length = nearest_with_length(points, flats.astype(points.dtype), precision)
    k = len(flats.centers)
    leverage = np.bincount(index, weights * length, k)
    residual = float(weights @ dist_sq.astype(np.float64))
    each = np.divide(1.0, leverage, out=np.zeros(k), where=leverage > 0)
    each *= LEVERAGE_SHARE / (SUBSPACE_COST_SHARE * max(1, int(np.count_nonzero(leverage))))
    cost = each[index] * length
    size_sq = np.bincount(index, weights, k) @ ((flats.centers**2).sum(axis=1) + spread.sum(axis=1))
    if residual > (8 * np.finfo(points.dtype).eps) ** 2 * size_sq:  # less of it is only rounding
        cost += (RESIDUAL_SHARE / (SUBSPACE_COST_SHARE * residual)) * dist_sq
    return Importances(flats, index, dist_sq, cost)


def calibrated(points: Array, weights: Array, found: Importances, rows: Array, probability: Array) -> Array:
    """Weights (m,) of a sample, moved so that for each flat the total weight, the cost, and the first and second
    moments along it come out about right; positive, and with the total of `weights`.

    Second moments along a flat are what decides the cost of flats that are turned against it. Deville and Särndal (JASA
    1992), linear distance, with 1 - probability in place of their q: what was kept for certain needs no correction,
    and must not pay for the others. The ridge grows with moments over sampled points.

    Args:
      points: (n, d). weights: (n,). rows: (m,) sampled ones. probability: (n,) that each was drawn by.
    """
    along = coordinates(points, found.flats, found.index)
    r = along.shape[1]
    second = [along[:, a] * along[:, b] for a in range(r) for b in range(a + 1)]
    features = np.column_stack([np.ones(len(points)), found.dist_sq, along, *second])
    out = weights[rows] / probability[rows]
    uncertain = 1 - probability[rows]
    for j in np.unique(found.index[rows]):
        members, chosen = np.flatnonzero(found.index == j), np.flatnonzero(found.index[rows] == j)
        sampled = features[rows[chosen]]
        out[chosen] *= _factors(features[members], weights[members], sampled, out[chosen], uncertain[chosen])
    return np.asarray(out * (weights.sum() / out.sum()))


def _factors(all_of: Array, weights: Array, sampled: Array, sampled_weights: Array, uncertain: Array) -> Array:
    """The factors of one cluster's sampled weights."""
    total = weights.sum()
    size = np.sqrt(weights @ all_of**2 / total)
    useful = size > 0
    all_of, sampled = all_of[:, useful] / size[useful], sampled[:, useful] / size[useful]
    ridge = np.full(len(size), 0.1 * len(size) / len(sampled))
    ridge[:2] = 0.01
    normal = (sampled * (sampled_weights * uncertain)[:, None]).T @ sampled + np.diag(ridge[useful] * total)
    missing = weights @ all_of - sampled_weights @ sampled
    factors = 1 + uncertain * (sampled @ np.linalg.solve(normal, missing))
    return np.asarray(np.clip(factors, LEAST_SHARE_FACTOR, MOST_SHARE_FACTOR))
