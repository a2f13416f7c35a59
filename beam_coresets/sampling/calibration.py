"""Calibration: weights of a sample, moved as little as possible so that known totals come out right.

Deville and Särndal (JASA 1992), linear distance, cluster by cluster: total weight and own-center cost exactly, the mean
with a ridge that grows with dimension over sampled points, since a mean in 64 dimensions cannot be matched with ten
points without spoiling everything else.
"""
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.points.nearest import writable

SMALLEST_FACTOR = 0.1
LARGEST_FACTOR = 5.0
FEWEST_POINTS = 4
SOLVED_BYTES = 32 << 20  # of equations solved together

Array = npt.NDArray[Any]


def calibrate(space: Array, weights: Array, index: Array, cost: Array, rows: Array, sampled: Array) -> Array:
    """Calibrated weights of a sample.

    Args:
      space: (n, d) all points. weights: (n,) theirs. index: (n,) cluster of each. cost: (n,) dist**z of each to its
      center.
      rows: (m,) the sampled ones. sampled: (m,) their unbiased weights.

    Returns:
      (m,) positive weights whose total is that of `weights`.
    """
    clusters = int(index.max()) + 1
    total = np.bincount(index, weights, clusters)
    total_cost = np.bincount(index, weights * cost, clusters)
    chosen = index[rows]
    out = _to_totals(sampled, chosen, total)
    count = np.bincount(chosen, minlength=clusters)
    enough = np.flatnonzero(count >= FEWEST_POINTS)
    mean, deviation = np.zeros((clusters, space.shape[1])), np.zeros((clusters, space.shape[1]))
    _moments(writable(space), weights, index, np.where(total > 0, total, 1.0), mean, deviation)
    mean_cost = np.bincount(chosen, cost[rows], clusters) / np.maximum(count, 1)
    mean_cost[mean_cost == 0] = 1.0
    basis = _basis(writable(space), rows, chosen, cost[rows] / mean_cost[chosen], mean, deviation)
    width = basis.shape[1]
    useful = np.column_stack([np.ones((clusters, 2), np.bool_), deviation > 0])
    step = max(1, SOLVED_BYTES // (8 * width * width))
    for low in range(0, len(enough), step):
        some = enough[low : low + step]
        place = np.full(clusters, -1)
        place[some] = np.arange(len(some))
        normal, sums = np.zeros((len(some), width, width)), np.zeros((len(some), width))
        _normal(basis, out, chosen, place, normal, sums)
        ridge = np.where(useful[some], 1e-9, 1.0)
        ridge[:, 2:] += useful[some, 2:].sum(axis=1, keepdims=True) / count[some, None]
        weight = np.bincount(chosen, out, clusters)[some]
        normal[:, np.arange(width), np.arange(width)] += ridge * np.where(weight > 0, weight, 1.0)[:, None]
        target = np.zeros((len(some), width))
        target[:, 0], target[:, 1] = total[some], total_cost[some] / mean_cost[some]
        multipliers = np.linalg.solve(normal, (target - sums)[:, :, None])[:, :, 0]
        _factors(basis, chosen, place, multipliers, out)
    out = _to_totals(out, chosen, total)
    return np.asarray(out * (weights.sum() / out.sum()))


def _to_totals(sampled: Array, chosen: Array, total: Array) -> Array:
    """Weights (m,) of which those of each cluster add up to its total."""
    sums = np.bincount(chosen, sampled, len(total))
    factor = np.divide(total, sums, out=np.ones(len(total)), where=sums > 0)
    return np.asarray(sampled * factor[chosen])


@kernel
def _moments(space, weights, index, total, mean, deviation):  # type: ignore[no-untyped-def]
    """Each cluster's mean and standard deviation, by coordinate."""
    n, d = space.shape
    for i in range(n):
        for t in range(d):
            mean[index[i], t] += weights[i] * space[i, t]
    for j in range(len(total)):
        for t in range(d):
            mean[j, t] /= total[j]
    for i in range(n):
        for t in range(d):
            q = space[i, t] - mean[index[i], t]
            deviation[index[i], t] += weights[i] * q * q
    for j in range(len(total)):
        for t in range(d):
            deviation[j, t] = np.sqrt(deviation[j, t] / total[j])


@kernel
def _basis(space, rows, chosen, costs, mean, deviation):  # type: ignore[no-untyped-def]
    """Of each sampled row: 1, its cost over the average, and its standardized coordinates, 0 where nothing varies."""
    d = space.shape[1]
    out = np.ones((len(rows), d + 2))
    for i in range(len(rows)):
        j = chosen[i]
        out[i, 1] = costs[i]
        for t in range(d):
            s = deviation[j, t]
            out[i, t + 2] = (space[rows[i], t] - mean[j, t]) / s if s > 0.0 else 0.0
    return out


@kernel
def _normal(basis, weights, chosen, place, normal, sums):  # type: ignore[no-untyped-def]
    """Adds up w B^T B and w B of the sampled rows (m, q) of each cluster that has a place."""
    q = basis.shape[1]
    for i in range(len(basis)):
        at = place[chosen[i]]
        if at < 0:
            continue
        for a in range(q):
            x = weights[i] * basis[i, a]
            sums[at, a] += x
            for b in range(q):
                normal[at, a, b] += x * basis[i, b]


@kernel
def _factors(basis, chosen, place, multipliers, weights):  # type: ignore[no-untyped-def]
    """Multiplies the weights of the clusters that have a place by 1 + B lambda, shrunk until all are within bounds."""
    change = np.zeros(len(basis))
    low = np.zeros(len(multipliers))
    high = np.zeros(len(multipliers))
    for i in range(len(basis)):
        at = place[chosen[i]]
        if at < 0:
            continue
        for a in range(basis.shape[1]):
            change[i] += basis[i, a] * multipliers[at, a]
        low[at] = min(low[at], change[i])
        high[at] = max(high[at], change[i])
    for i in range(len(basis)):
        at = place[chosen[i]]
        if at < 0:
            continue
        shrink = 1.0
        if low[at] < SMALLEST_FACTOR - 1:
            shrink = (SMALLEST_FACTOR - 1) / low[at]
        if high[at] * shrink > LARGEST_FACTOR - 1:
            shrink = (LARGEST_FACTOR - 1) / high[at]
        weights[i] *= 1 + shrink * change[i]
