"""From an assignment that splits points to one of whole points, at the price of missing bounds by a little.

A cheapest assignment splits few points: a basic solution of the linear program has no more of them than bounds that
bind, however many points there are. So rounding moves at most (number of split points) x (largest weight), and less
where weights are small beside the clusters'.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.solvers.constrained.bounds import Bounds
from beam_coresets.solvers.constrained.transport import Transport

Array = npt.NDArray[Any]

_PASSES = 10  # over the split points, at most
_ROUNDING = 1e-10  # share of the total weight that counts as none


@dataclasses.dataclass(frozen=True, eq=False)
class Rounded:
    """Whole points in clusters.

    Attributes:
      index: (n,) int64, the cluster of each point; -1 for points of weight 0.
      split: how many points were in several clusters.
      moved: the weight that is now elsewhere than in the flow.
      violation: the largest relative miss of a bound (`Bounds.violation`).
      cost: of this assignment; it may be less than the flow's, as bounds are missed.
      flow: the same as a `Transport`, with the prices of the fractional one.
    """

    index: npt.NDArray[np.int64]
    split: int
    moved: float
    violation: float
    cost: float
    flow: Transport


def rounded(flow: Transport, cost: Array, weights: Array, label: Array, bounds: Bounds) -> Rounded:
    """Puts each split point where most of it is, then one after another where the bounds are missed least.

    Points only go to clusters that the flow has them in. Of clusters that miss the bounds equally, a point goes to the
    cheapest. The heaviest points choose first, again and again until none moves.

    Args:
      flow: of `transport` for the same cost (n, k), weights (n,), label (n,) and bounds.
    """
    n, k = cost.shape
    most = np.lexsort((-flow.amounts, flow.rows))
    first = np.searchsorted(flow.rows[most], np.arange(n))
    index = np.full(n, -1)
    assigned = np.unique(flow.rows)
    index[assigned] = flow.clusters[most][first[assigned]]
    counts = np.bincount(flow.rows, minlength=n)
    split = np.flatnonzero(counts > 1)
    table = np.zeros((len(bounds.labels), k))
    np.add.at(table, (label[assigned], index[assigned]), weights[assigned])
    unit = _ROUNDING * float(weights.sum())
    places = {row: flow.clusters[flow.rows == row] for row in split.tolist()}
    for _ in range(_PASSES):
        before = index[split].copy()
        for row in split[np.argsort(-weights[split], kind="stable")].tolist():
            table[label[row], index[row]] -= weights[row]
            tried = []
            for i in places[row].tolist():
                table[label[row], i] += weights[row]
                tried.append((round(float(bounds.missed(table).sum()) / unit), cost[row, i], i))
                table[label[row], i] -= weights[row]
            index[row] = min(tried)[2]
            table[label[row], index[row]] += weights[row]
        if np.array_equal(before, index[split]):
            break
    stays = flow.amounts[index[flow.rows] == flow.clusters].sum()
    total = float(weights[assigned] @ cost[assigned, index[assigned]])
    whole = dataclasses.replace(
        flow, cost=total, rows=assigned, clusters=index[assigned], amounts=weights[assigned].astype(np.float64)
    )
    moved = max(0.0, float(weights[assigned].sum() - stays))
    return Rounded(index, len(split), moved, bounds.violation(table), total, whole)
