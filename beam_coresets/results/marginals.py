"""What each column looks like by itself: its mean, its deviation and its quantiles, from the coreset."""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.column_order import Names, names_of_places
from beam_coresets.points.magnitude import units_of
from beam_coresets.points.scale import Scale
from beam_coresets.results.estimates import Estimator
from beam_coresets.results.sampled import Sampled

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
NUMBERS = ("mean", "deviation", *QUANTILES)
MOST_SURE = 64  # columns up to which quantiles have intervals: of more they take too long
AT_ONCE = 1 << 16  # coordinates that are looked at together, so that they stay in the cache

Array = npt.NDArray[Any]


def marginals(
    sampled: Sampled, names: Names = None, scale: Scale | None = None, quick: bool = False
) -> dict[str, Any]:
    """The table `columns` without the window's: column -> values, one a coordinate; none where there are no points.

    Numbers are over all rows, by their weights, in the user's units. NaN is what is not known: all of them where shards
    have sent no coresets, and the ends of intervals where it is to be quick.

    Args:
      names: of the coordinates, or of the one column of vectors.
      scale: what coordinates are scaled by.
      quick: without intervals, unless everything is known: for thousands of small keys.
    """
    decision, points = sampled.decision, sampled.points.points
    m, d = points.shape if len(points) else (0, 0)
    of_places = names_of_places(names, d)
    found: dict[str, Any] = {
        "index": np.arange(d),
        "column_name": [None] * d if of_places is None else list(of_places),
        "row_count": np.full(d, decision.points),
        "refused_count": [None] * d,
    }
    ends = np.full((3, len(NUMBERS), d), np.nan)
    if d and decision.local is None and sampled.shares.any():
        estimator = Estimator(sampled)
        step = max(1, AT_ONCE // m)
        for low in range(0, d, step):
            columns = slice(low, low + step)
            y = points[:, columns].astype(np.float64)
            unit = units_of(y)
            y /= unit
            found_here = estimator.described(y, np.array(list(QUANTILES.values())), not quick, d <= MOST_SURE)
            for i, end in enumerate(("value", "low", "high")):
                ends[i, :, columns] = np.vstack([getattr(each, end) for each in found_here]) * unit
        if scale is not None:
            deviation = ends[:, 1] * scale.divisor
            ends = scale.undo(ends)
            ends[:, 1] = deviation
    for i, name in enumerate(NUMBERS):
        found |= {name: ends[0, i], f"{name}_low": ends[1, i], f"{name}_high": ends[2, i]}
    return found
