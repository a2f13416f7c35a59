"""How large numbers may be, and units in which the largest is about one: squares and products then stay in range."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST_COORDINATE = 1e60  # the fifth power of a distance is in range
LARGEST_WEIGHT = 1e300  # a hundred million of them add up to less than 1.8e308


def unit_of(values: npt.NDArray[Any]) -> float:
    """A power of four by which numbers are divided without rounding (but for vanishing ones), the largest then being
    between 0.25 and 4; 1 where there are none, or none but zero."""
    largest = max(float(values.max()), -float(values.min())) if values.size else 0.0
    if not 0 < largest < math.inf:
        return 1.0
    return math.ldexp(1.0, 2 * (math.frexp(largest)[1] // 2))


def units_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`unit_of` each column (c,) of values (n, c)."""
    largest = np.maximum(values.max(axis=0, initial=0.0), -values.min(axis=0, initial=0.0))
    usable = (largest > 0) & (largest < math.inf)
    return np.where(usable, np.ldexp(1.0, 2 * (np.frexp(np.where(usable, largest, 1.0))[1] // 2)), 1.0)
