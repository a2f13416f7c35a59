"""Calibration: weights of a sample, moved as little as possible so that known totals come out right.

Deville and Särndal (JASA 1992), linear distance, cluster by cluster: total weight and own-center cost exactly, the mean
with a ridge that grows with dimension over sampled points, since a mean in 64 dimensions cannot be matched with ten
points without spoiling everything else.
"""
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST_FACTOR = 0.1
LARGEST_FACTOR = 5.0
FEWEST_POINTS = 4

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
    order = np.argsort(index[rows], kind="stable")
    edges = np.searchsorted(index[rows][order], np.arange(clusters + 1))
    members = np.argsort(index, kind="stable")
    member_edges = np.searchsorted(index[members], np.arange(clusters + 1))
    out = sampled.copy()
    for j in range(clusters):
        chosen = order[edges[j] : edges[j + 1]]
        if not len(chosen):
            continue
        out[chosen] *= total[j] / out[chosen].sum()
        if len(chosen) < FEWEST_POINTS:
            continue
        inside = members[member_edges[j] : member_edges[j + 1]]
        out[chosen] *= _factors(
            space[rows[chosen]], cost[rows[chosen]], out[chosen], space[inside], weights[inside], total_cost[j]
        )
        out[chosen] *= total[j] / out[chosen].sum()
    return np.asarray(out * (weights.sum() / out.sum()))


def _factors(x: Array, y: Array, w: Array, inside: Array, inside_weights: Array, total_cost: float) -> Array:
    """The factors 1 + B lambda of one cluster's weights; B's columns are 1, cost, and the standardized coordinates."""
    total = inside_weights.sum()
    centered = inside.astype(np.float64)
    mean = inside_weights @ centered / total
    deviation = np.sqrt(inside_weights @ (centered - mean) ** 2 / total)
    useful = deviation > 0
    standard = (x - mean)[:, useful] / deviation[useful]
    mean_cost = y.mean() if y.any() else 1.0
    basis = np.column_stack([np.ones(len(x)), y / mean_cost, standard])
    target = np.zeros(basis.shape[1])
    target[:2] = total, total_cost / mean_cost
    ridge = np.full(basis.shape[1], 1e-9)
    ridge[2:] += standard.shape[1] / len(x)
    normal = (basis * w[:, None]).T @ basis + np.diag(ridge * w.sum())
    change = basis @ np.linalg.solve(normal, target - w @ basis)
    low, high = change.min(), change.max()
    shrink = 1.0
    if low < SMALLEST_FACTOR - 1:
        shrink = (SMALLEST_FACTOR - 1) / low
    if high * shrink > LARGEST_FACTOR - 1:
        shrink = (LARGEST_FACTOR - 1) / high
    return np.asarray(1 + shrink * change)
