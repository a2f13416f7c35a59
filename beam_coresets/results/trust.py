"""What an interval is worth, told by what the coreset itself shows.

Intervals hold as often as they say where many sampled points stand behind the cost, the centers gain little on them
that they do not on the data, and what is scaled over is not a few rows that cost as much as all others. `verdict` says
where that is not so. Its thresholds were chosen on shapes, sizes and losses of `benchmarks/interval_coverage.py`:
nothing is proved of them.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.recovery import loss_factor
from beam_coresets.results.cross_fitting import Optimism
from beam_coresets.results.sampled import Sampled

MEASURED = "measured"
BOUND_ONLY = "bound only"
UNPROVED = "weak: the shards' own costs are estimates, so the bound is not proved (coreset_size)"

MOST_OPTIMISM = 0.45  # of the cost
LEAST_EFFECTIVE = 15.0  # effective ones behind the cost that was drawn
LEAST_LOST = 20.0  # effective rows among those that are scaled over
LEAST_COST = 1e-3  # of what outliers cost where they are cut, that the rest is taken to cost
MATTERS = 0.01  # share of the cost that was drawn, below which the rest is known

Array = npt.NDArray[Any]


def verdict(sampled: Sampled, own: Array, found: Optimism, constant: float = 0.0) -> str:
    """`MEASURED`, or "weak: REASON" with the option that would help.

    Args:
      own: (m,) each point's cost under the solution.
      found: what the solution gains on them.
      constant: what the cost is beside theirs: less, where it leaves outliers out, that these cost.
    """
    cost = sampled.shares * np.abs(own)
    if not cost.any():
        return MEASURED
    total = max(float(cost.sum()) + constant, LEAST_COST * float(cost.sum()))
    open_cost = cost * sampled.drawn / total
    recovery = sampled.decision.recovery
    variance, covered = loss_factor(recovery), recovery.coverage
    if variance > 0:
        relative = variance * float((cost / total) @ (np.abs(own) / total))
        lost = ((1 - covered) / covered) ** 2 / max(relative, 1e-300)  # as many rows of one cost would vary as much
        if lost < LEAST_LOST:
            return f"weak: what is missing is like {lost:.1f} rows that matter (replication, outliers)"
    if open_cost.sum() < MATTERS:
        return MEASURED
    effective = float(open_cost.sum() ** 2 / (open_cost**2).sum())
    if effective < LEAST_EFFECTIVE:
        return f"weak: {effective:.0f} points are most of the cost (coreset_size, outliers)"
    gain = abs(float(sampled.shares @ found.correction)) / total
    if gain > MOST_OPTIMISM:
        return f"weak: the centers gain {gain:.0%} on the sample that they were solved on (coreset_size, k)"
    return MEASURED
