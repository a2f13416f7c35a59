"""Points that may be left out: a shard finds them by robust centers, and keeps them for certain.

A robust coreset is a coreset of the inliers with all of the outliers beside it (Huang, Jiang, Lou and Wu, *Near-optimal
coresets for robust clustering*, ICLR 2023: O(m + poly(k / eps)) points, and no fewer than m in general). A shard does
not know which of its points are left out in the end. So it keeps those that cost the most, up to the weight that
may be left out in all, with their own weights, beside its sample, but no more than `most_kept`; beyond that number they
are sampled, at costs that are cut, so that they take no more of the sample than others do.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.left_out import threshold

SLACK = 2.0  # a shard may hold so many times its share of the outliers,
STRAY = 5.0  # and so many points more
MOST_SHARE = 0.5  # of a shard's weight that is taken for outliers
LEAST_KEPT = 1000  # a shard may keep so many of them, whatever its sample's size

Array = npt.NDArray[Any]


def share_of(outliers: float, weights: Array) -> float:
    """The share of a shard's weight that may be among the outliers of all data.

    Args:
      outliers: below 1 a share of the weight, from 1 on a weight; 0 for none.
      weights: (n,) of what the shard holds.
    """
    total = float(weights.sum())
    if not outliers or not total > 0:
        return 0.0
    own = SLACK * outliers if outliers < 1 else outliers / total
    return min(own + STRAY / len(weights), MOST_SHARE)


def most_kept(size: int) -> int:
    """How many points a shard keeps for certain beside a sample of `size`."""
    return max(size, LEAST_KEPT)


def farthest(cost: Array, weights: Array, share: float, most: int) -> tuple[npt.NDArray[np.bool_], float]:
    """Which of the points (n,) are kept for certain, and the cost that the others count at most.

    Args:
      cost: (n,) to robust centers. weights: (n,).
      share: of the weight that may be left out.
      most: points.
    """
    level = threshold(cost, weights, share * float(weights.sum()))
    sure = cost > level
    if int(sure.sum()) > most:
        rows = np.flatnonzero(sure)
        dearest = rows[np.argsort(-cost[rows], kind="stable")[:most]]
        sure = np.zeros(len(cost), np.bool_)
        sure[dearest] = True
    return sure, level


def serving(index: Array, weights: Array, clusters: int, left_out: float) -> npt.NDArray[np.int64]:
    """The clusters that stay: those of a few points that could all be left out have a far point as their center.

    Args:
      index, weights: (n,) the points' clusters and weights.
      left_out: weight.
    """
    points, served = np.bincount(index, minlength=clusters), np.bincount(index, weights, clusters)
    order = np.argsort(served, kind="stable")
    gone = order[(np.cumsum(served[order]) <= left_out) & (points[order] <= STRAY)]
    return np.setdiff1d(np.arange(clusters), gone)


def to_total(weights: Array, total: float, sure: npt.NDArray[np.bool_]) -> Array:
    """The weights (m,), those that are not `sure` times what makes all add up to the total; all of them where none is
    unsure, or where what is sure weighs more."""
    known = float(weights[sure].sum())
    rest = float(weights.sum()) - known if sure.any() else float(weights.sum())
    if sure.all() or not rest > 0 or known > total:
        whole = float(weights.sum())
        return weights * (total / whole) if whole > 0 else weights
    return np.where(sure, weights, weights * ((total - known) / rest))
