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
    space = writable(space)
    basis, chosen, count, total, targets, useful, out = _begun(space, weights, index, cost, rows, sampled, clusters)
    enough = np.flatnonzero(count >= FEWEST_POINTS)
    width = basis.shape[1]
    step = max(1, SOLVED_BYTES // (8 * width * width))
    for low in range(0, len(enough), step):
        some = enough[low : low + step]
        place = np.full(clusters, -1)
        place[some] = np.arange(len(some))
        normal, right = _equations(basis, out, chosen, count, targets, useful, some, place)
        _factors(basis, chosen, place, np.linalg.solve(normal, right[:, :, None])[:, :, 0], out)
    out = _to_totals(out, chosen, total)
    return np.asarray(out * (weights.sum() / out.sum()))


@kernel
def _to_totals(sampled, chosen, total):  # type: ignore[no-untyped-def]
    """Weights (m,) of which those of each cluster add up to its total."""
    sums = np.zeros(len(total))
    for i in range(len(chosen)):
        sums[chosen[i]] += sampled[i]
    out = np.empty(len(chosen))
    for i in range(len(chosen)):
        j = chosen[i]
        out[i] = sampled[i] * (total[j] / sums[j] if sums[j] > 0.0 else 1.0)
    return out


@kernel
def _begun(space, weights, index, cost, rows, sampled, clusters):  # type: ignore[no-untyped-def]
    """Of the sampled rows (m,) their basis, clusters, and weights that add up to each cluster's total; of the clusters
    the number of sampled rows, the total weight, what 1 and the cost are to add up to, (clusters, 2), and which
    coordinates vary, (clusters, d)."""
    total, total_cost = np.zeros(clusters), np.zeros(clusters)
    for i in range(len(index)):
        total[index[i]] += weights[i]
        total_cost[index[i]] += weights[i] * cost[i]
    chosen, costs = np.empty(len(rows), index.dtype), np.empty(len(rows))
    count, mean_cost = np.zeros(clusters, np.int64), np.zeros(clusters)
    for i in range(len(rows)):
        j = index[rows[i]]
        chosen[i], costs[i] = j, cost[rows[i]]
        count[j] += 1
        mean_cost[j] += costs[i]
    positive, targets = np.empty(clusters), np.empty((clusters, 2))
    for j in range(clusters):
        positive[j] = total[j] if total[j] > 0 else 1.0
        mean_cost[j] /= max(count[j], 1)
        if mean_cost[j] == 0.0:
            mean_cost[j] = 1.0
        targets[j, 0], targets[j, 1] = total[j], total_cost[j] / mean_cost[j]
    for i in range(len(rows)):
        costs[i] /= mean_cost[chosen[i]]
    mean, deviation = np.zeros((clusters, space.shape[1])), np.zeros((clusters, space.shape[1]))
    _moments(space, weights, index, positive, mean, deviation)
    basis = _basis(space, rows, chosen, costs, mean, deviation)
    return basis, chosen, count, total, targets, deviation > 0, _to_totals(sampled, chosen, total)


@kernel
def _equations(basis, out, chosen, count, targets, useful, some, place):  # type: ignore[no-untyped-def]
    """The matrices (c, q, q) and right sides (c, q) of some clusters (c,), from the weights (m,) as they are."""
    q = basis.shape[1]
    normal, right, weight = np.zeros((len(some), q, q)), np.zeros((len(some), q)), np.zeros(len(some))
    _normal(basis, out, chosen, place, normal, right)
    for i in range(len(chosen)):
        if place[chosen[i]] >= 0:
            weight[place[chosen[i]]] += out[i]
    for at in range(len(some)):
        j = some[at]
        varying = 0
        for t in range(q - 2):
            varying += useful[j, t]
        for a in range(q):
            ridge = 1e-9 if a < 2 or useful[j, a - 2] else 1.0
            if a >= 2:
                ridge += varying / count[j]
            normal[at, a, a] += ridge * (weight[at] if weight[at] > 0 else 1.0)
            right[at, a] = (targets[j, a] if a < 2 else 0.0) - right[at, a]
    return normal, right


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
