"""What has been solved for, as the certificate and the tables see it: centers, and whatever else can tell a cost."""
from __future__ import annotations

import abc
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.coreset import Coreset
from beam_coresets.points.magnitude import unit_of
from beam_coresets.points.nearest import Metric, nearest, power_of_distance, writable
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.descent import exact_dist_sq
from beam_coresets.solvers.many import FROM_CENTERS

Array = npt.NDArray[Any]

FEW_PAIRS = 2**26  # coordinates of points times centers that are compared in float64 in any case,
MOST_OFFSET = 16.0  # and more of them if the centers are so many times as far off as the points are apart
FAR_UNIT = 1e30  # the largest coordinate, or one over it, from which on points are compared in units of it
FOLD_RESTARTS = 2
FOLD_SWAPS = 3  # swap trials a fold, as a multiple of k
FOLD_ITERATIONS = 100  # of the last descent; without swaps the search alone comes near enough
FOLD_WORK = 1.5e8  # coordinates compared in them at most


class Model(abc.ABC):
    """A solution.

    Attributes:
      centers: (k, d) float64; of subspaces a point on each.
      bases: (k, r, d) float64 orthonormal rows of each subspace; None for centers.
      calibrated_cost: the cost on the calibrated weights of what it was solved on, where an estimate from the unbiased
        ones is to be corrected by it; else None.
      alpha: what keeping to candidates costs, as a factor, where solving has measured it; else None.
      factor: the approximation factor, on what it was solved on, where solving has proved one; else None.
    """

    centers: Array
    bases: Array | None
    alpha: float | None = None
    factor: float | None = None

    @property
    def calibrated_cost(self) -> float | None:
        return None

    @property
    def constant(self) -> float:
        """What the cost is beside the sum over the points: known, whatever the sample."""
        return 0.0

    @abc.abstractmethod
    def costs(self, sample: Coreset) -> tuple[Array, Array]:
        """The cluster (n,) and the cost (n,) of each point, prices of a constraint included, its weight not."""

    @abc.abstractmethod
    def refit(self, sample: Coreset, fold: int, quick: bool) -> Model:
        """The same question solved on `sample.weights`, which are of one fold less; `quick` searches less."""

    def doubt(self, sample: Coreset) -> str | None:
        """Why the cost may be off, whatever the error of the sample is; None if nothing says so."""
        return None

    def clusters(self, sample: Coreset) -> tuple[Array, Array]:
        """The cluster (n,) of each point, and what the point alone costs there (n,)."""
        return self.costs(sample)

    def unbiased_costs(self, sample: Coreset) -> Array:
        """The cost (n,) of each point, to be multiplied by unbiased weights."""
        return self.costs(sample)[1]

    def totals(self, sample: Coreset, index: Array, cost: Array) -> tuple[Array, Array]:
        """The clusters' weights and costs, (k,) each, on the sample that it was solved on.

        Args:
          index, cost: (n,) each, of `clusters`.
        """
        k = len(self.centers)
        return np.bincount(index, sample.weights, k), np.bincount(index, sample.weights * cost, k)


def point_costs(points: Array, centers: Array, z: float = 2.0, metric: Metric = "euclidean") -> tuple[Array, Array]:
    """Nearest center (n,) and cost (n,) of each point: dist**z, or under the cosine metric (1 - cos)**(z / 2).

    Costs are of the centers as they are, in float64: rounded to float32 they would be elsewhere, if there is an offset.
    """
    centers = np.asarray(centers, np.float64)
    unit = unit_of(points)
    if unit < 1 / FAR_UNIT or unit > FAR_UNIT:  # squares may leave the range before the power is told
        index, cost = point_costs(points / unit, centers / unit, z, metric)
        return index, cost * np.float64(unit) ** z
    index, _ = nearest(_comparable(points, centers), centers)
    dist_sq = np.empty(len(points))
    exact_dist_sq(writable(points), writable(centers), index, dist_sq)
    return index, power_of_distance(dist_sq * 0.5 if metric == "cosine" else dist_sq, z)


def fold_effort(points: Array, k: int, quick: bool) -> tuple[int, int]:
    """Restarts and swap trials of a fold's solution."""
    swaps = int(min(FOLD_SWAPS * k, FOLD_WORK / points.size))
    return (FOLD_RESTARTS, swaps) if swaps >= k and not quick else (1, 0)


def _comparable(points: Array, centers: Array) -> Array:
    """The points, as float64 where float32 may name another than the nearest of the centers."""
    if points.dtype == np.float64 or not len(points):
        return points
    if points.size * len(centers) <= FEW_PAIRS:
        return points.astype(np.float64)
    extent = float((points.max(axis=0).astype(np.float64) - points.min(axis=0)).max())
    return points.astype(np.float64) if np.abs(centers).max(initial=0.0) > MOST_OFFSET * extent else points


@dataclasses.dataclass(frozen=True, eq=False)
class Centers(Model):
    """Centers of a (k, z)-clustering."""

    centers: Array
    z: float = 2.0
    metric: Metric = "euclidean"
    bases: Array | None = None

    def costs(self, sample: Coreset) -> tuple[Array, Array]:
        """The cluster (n,) and the cost (n,) of each point, its weight not counted."""
        return point_costs(sample.points, self.centers, self.z, self.metric)

    def doubt(self, sample: Coreset) -> str | None:
        """For a thousand centers and more folds differ by more than intervals allow: 2 of 4 held, all to 0.3 %."""
        if len(self.centers) < FROM_CENTERS:
            return None
        return f"intervals of {FROM_CENTERS:,} centers and more may be too narrow (k)"

    def refit(self, sample: Coreset, fold: int, quick: bool) -> Centers:
        """From scratch: where these centers are is known to the points left out."""
        points, k = sample.points, len(self.centers)
        restarts, swaps = fold_effort(points, k, quick)
        found = solve_centers(
            points, sample.weights, k, self.z, seed=fold, metric=self.metric, restarts=restarts, swaps=swaps,
            max_iter=0 if quick else FOLD_ITERATIONS, sharpened=False,
        )  # fmt: skip
        return Centers(np.asarray(found.centers), self.z, self.metric)
