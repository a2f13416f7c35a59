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
        """Scaled points; (n, d) float64. Raises ValueError for points of another number of coordinates."""
        if points.shape[-1] != len(self.origin):
            raise ValueError(f"scale: must be of {points.shape[-1]} coordinates, got {len(self.origin)}")
        return (points - np.asarray(self.origin)) / np.asarray(self.divisor)

    def undo(self, points: Array) -> Array:
        """Points in the user's units; (n, d) float64. Of no points, which may have no width, none of the scale's."""
        if not len(points):
            return np.empty((0, len(self.origin)))
        return points * np.asarray(self.divisor) + np.asarray(self.origin)

    def moved(self, places: npt.NDArray[np.int64] | None) -> Scale:
        """The scale of columns that are put in another order (`column_order.places_of`)."""
        if places is None:
            return self
        return Scale(tuple(self.origin[i] for i in places), tuple(self.divisor[i] for i in places))

    def apply_bases(self, bases: Array) -> Array:
        """Orthonormal directions (k, r, d) of flats, from the user's units; (k, r, d) float64."""
        return _orthonormal(bases / np.asarray(self.divisor))

    def undo_bases(self, bases: Array) -> Array:
        """Orthonormal directions (k, r, d) of flats in the user's units. Stretching columns turns right angles into
        others, so these span the same flats as what is undone, and are not the same directions one by one."""
        return _orthonormal(bases * np.asarray(self.divisor))


def _orthonormal(directions: Array) -> Array:
    """Orthonormal rows that span what the rows of each matrix do, the largest coordinate of each positive."""
    bases = np.linalg.qr(directions.transpose(0, 2, 1))[0].transpose(0, 2, 1)
    largest = np.take_along_axis(bases, np.abs(bases).argmax(axis=2, keepdims=True), axis=2)
    return np.asarray(bases * np.where(largest < 0, -1.0, 1.0))
