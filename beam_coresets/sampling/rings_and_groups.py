"""Rings and groups: which points are drawn together, and how likely each.

Huang, Li and Wu, *On Optimal Coreset Construction for Euclidean (k, z)-Clustering*, Appendix A. Given centers that cost
a constant times the optimum, each cluster is cut into rings whose costs double, rings of one level and of alike cost
make a group, and from a group points are drawn in proportion to their cost. What is left, points close to their
center and rings too light for a group, is the leftover.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel

EPSILON = 0.1
DOUBLES = 1080  # no ratio of doubles has a level beyond

Array = npt.NDArray[Any]


def levels(z: float, epsilon: float) -> tuple[int, int]:
    """The first main level and the outer one: z log2(epsilon / z) < j < 2 z log2(z / epsilon) are main levels.

    All rings from the second on are one outer ring.

    Raises:
      ValueError: z below 1, or epsilon not between 0 and 1.
    """
    if not z >= 1:
        raise ValueError(f"z: must be at least 1, got {z}")
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon: must be between 0 and 1, got {epsilon}")
    depth = z * math.log2(z / epsilon)
    return math.floor(-depth) + 1, math.ceil(2 * depth)


def most_groups(k: int, z: float, epsilon: float) -> int:
    """How many groups there can be (Lemma A.5 with its constant): levels times classes of cost."""
    rings = math.ceil(3 * z * math.log2(z / epsilon)) + 1
    return rings * math.ceil(z * math.log2(4 * z / epsilon) + math.log2(k))


def groups(
    index: Array, cost: Array, weights: Array, k: int, z: float = 2.0, epsilon: float = EPSILON
) -> npt.NDArray[np.int32]:
    """The group of each point (Definitions A.2 and A.3, all sums weighted).

    Ring j of a cluster holds the points that cost from 2**j to 2**(j + 1) times the cluster's average. A group is the
    rings of one main level (or the outer rings) that carry from 2**b to 2**(b + 1) of the level's cost, for
    z log2(epsilon / 4z) - log2 k < b <= 0.

    Args:
      index: (n,) int32, the cluster of each point.
      cost: (n,) dist**z to its center.
      weights: (n,) non-negative.
      k: the number of centers that the coreset is meant for. There may be more clusters: that leaves more out.
      z: power of the distance.
      epsilon: the error that the leftover may make.

    Returns:
      (n,) int32, numbered from 0, at most `most_groups(k, z, epsilon)`; -1 for the leftover: inner rings (points on
      their center among them), rings too light for any group, and points without weight.

    Raises:
      ValueError: see `levels`.
    """
    first, outer = levels(z, epsilon)
    first, outer = max(first, -DOUBLES), min(outer, DOUBLES)
    clusters = int(index.max()) + 1 if len(index) else 0
    level = np.empty(len(index), np.int16)
    rings = np.zeros((clusters, outer - first + 1))
    _rings(index, cost, weights, first, outer, level, rings)
    whole = rings.sum(axis=0)
    share = np.frexp(np.divide(rings, whole, out=np.zeros_like(rings), where=whole > 0))[1] - 1
    kept = (rings > 0) & (share > z * math.log2(epsilon / (4 * z)) - math.log2(k))
    label = np.full(rings.shape, -1, np.int32)
    names = np.stack((np.nonzero(kept)[1], np.minimum(share[kept], 0)), axis=1)
    label[kept] = np.unique(names, axis=0, return_inverse=True)[1].ravel()
    return np.asarray(np.where(level >= 0, label[index, level], -1), np.int32)


@kernel
def _rings(index, cost, weights, first, outer, level, rings):  # type: ignore[no-untyped-def]
    """Fills `level` with each point's level, counted from `first`, -1 for inner rings, and `rings` with their costs."""
    clusters = len(rings)
    weight = np.zeros(clusters)
    average = np.zeros(clusters)
    for i in range(len(index)):
        weight[index[i]] += weights[i]
        average[index[i]] += weights[i] * cost[i]
    for j in range(clusters):
        if weight[j] > 0:
            average[j] /= weight[j]
    for i in range(len(index)):
        j = index[i]
        level[i] = -1
        ratio = cost[i] / average[j] if average[j] > 0 else 0.0
        if weights[i] > 0 and ratio > 0:
            at = min(math.frexp(ratio)[1] - 1, outer) - first
            if at >= 0:
                level[i] = at
                rings[j, at] += weights[i] * cost[i]


def importances(
    index: Array, cost: Array, weights: Array, group: npt.NDArray[np.int32], cost_share: float
) -> npt.NDArray[np.float64]:
    """How likely each point is to be drawn, per unit of its weight and up to a factor: positive for all that weigh.

    Within a group it is in proportion to the cost (Algorithm 1), and the leftover of each cluster is drawn by weight.
    The paper draws equally many points from every group, enough for its bound; of a size that is given, a group gets
    its points' share of `cost_share * w y / sum w y + (1 - cost_share) * w / (W_j * clusters)` instead, as the leftover
    does. (At 20 to 100 points a center equal shares erred 1.1 to 9 times as much, shares by cost alone up to 13 times.)

    Args:
      index, cost, weights: as for `groups`. group: (n,) what that returned.
    """
    clusters = int(index.max()) + 1 if len(index) else 0
    out = np.empty(len(index))
    _importances(index, cost, weights, group, clusters, int(group.max(initial=-1)) + 1, cost_share, out)
    return out


@kernel
def _importances(index, cost, weights, group, clusters, first, cost_share, out):  # type: ignore[no-untyped-def]
    """Cells from `first` on are the clusters' leftovers."""
    weight = np.zeros(clusters)
    total = 0.0
    for i in range(len(index)):
        weight[index[i]] += weights[i]
        total += weights[i] * cost[i]
    filled = (weight > 0).sum()
    by_cost = cost_share / total if total > 0 else 0.0
    share = np.zeros(first + clusters)
    drawn_by = np.zeros(first + clusters)
    for i in range(len(index)):
        if weights[i] > 0:
            j, g = index[i], group[i]
            cell = g if g >= 0 else first + j
            share[cell] += weights[i] * (by_cost * cost[i] + (1.0 - cost_share) / (filled * weight[j]))
            drawn_by[cell] += weights[i] * (cost[i] if g >= 0 else 1.0)
    for i in range(len(index)):
        out[i] = 0.0
        if weights[i] > 0:
            j, g = index[i], group[i]
            cell = g if g >= 0 else first + j
            out[i] = share[cell] / drawn_by[cell] * (cost[i] if g >= 0 else 1.0)


def leftover(left: Array, name: Array, cost: Array, weights: Array) -> tuple[Array, Array, Array]:
    """The different names of the rows `left`; of each, the row that costs the least, and the sum of weights."""
    order = np.lexsort((cost[left], name))
    names, at = np.unique(name[order], return_index=True)
    return names, left[order][at], np.bincount(np.searchsorted(names, name), weights[left], len(names))
