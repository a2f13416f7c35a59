"""The scale that columns were brought to before anything was measured."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Columns divided by `divisor` after `origin` was taken off; results are put back into the user's units.

    Attributes:
      origin, divisor: one number a column, in the user's units.
    """

    origin: tuple[float, ...]
    divisor: tuple[float, ...]

    def apply(self, points: Array) -> Array:
        """Scaled points; (n, d) float64."""
        return (points - np.asarray(self.origin)) / np.asarray(self.divisor)

    def undo(self, points: Array) -> Array:
        """Points in the user's units; (n, d) float64."""
        return points * np.asarray(self.divisor) + np.asarray(self.origin)
