"""Weighted means of clusters of points, and a step of Lloyd's method."""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.points.left_out import kept_weights
from beam_coresets.points.nearest import nearest, writable

Array = npt.NDArray[Any]


@kernel
def _cluster_sums(points, weights, index, sums, total):  # type: ignore[no-untyped-def]
    for i in range(len(points)):
        j = index[i]
        total[j] += weights[i]
        for t in range(points.shape[1]):
            sums[j, t] += weights[i] * points[i, t]


def means_of(points: Array, weights: Array, index: Array, clusters: int) -> Array:
    """(clusters, d) float64: the weighted mean of each cluster; zero where nothing weighs.

    Args:
      points: (n, d). weights: (n,). index: (n,) the cluster of each point.
    """
    sums, total = np.zeros((clusters, points.shape[1])), np.zeros(clusters)
    _cluster_sums(writable(points), weights, index, sums, total)
    return np.asarray(sums / np.where(total > 0, total, 1.0)[:, None])


def lloyd_step(points: Array, weights: Array, centers: Array, left_out: float = 0.0) -> Array:
    """The means (c, d) of the clusters around centers (c, d), without the farthest `left_out` of the weight; a center
    without points stays."""
    index, dist_sq = nearest(points, centers)
    weights = kept_weights(dist_sq, weights, left_out)[0]
    return np.asarray(_moved(points, weights, index, centers))


@kernel
def _moved(points, weights, index, centers):  # type: ignore[no-untyped-def]
    """The clusters' means, of the points' type."""
    sums, total = np.zeros(centers.shape), np.zeros(len(centers))
    _cluster_sums(points, weights, index, sums, total)
    out = np.empty(centers.shape, points.dtype)
    for j in range(len(centers)):
        for t in range(points.shape[1]):
            out[j, t] = sums[j, t] / total[j] if total[j] > 0 else centers[j, t]
    return out
