"""What has been solved for, as the certificate and the tables see it: centers, and whatever else can tell a cost."""
from __future__ import annotations

import abc
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import Metric, nearest, power_of_distance
from beam_coresets.solvers.centers import refine, solve_centers

Array = npt.NDArray[Any]

FOLD_SWAPS = 3  # swap trials a fold, as a multiple of k
FOLD_WORK = 1.5e8  # coordinates compared in them at most


class Model(abc.ABC):
    """A solution.

    Attributes:
      centers: (k, d) float64; of subspaces a point on each.
      bases: (k, r, d) float64 orthonormal rows of each subspace; None for centers.
      calibrated_cost: the cost on the calibrated weights of what it was solved on, where an estimate from the unbiased
        ones is to be corrected by it; else None.
      alpha: what keeping to candidates costs, as a factor, where solving has measured it; else None.
    """

    centers: Array
    bases: Array | None
    alpha: float | None = None

    @property
    def calibrated_cost(self) -> float | None:
        return None

    @abc.abstractmethod
    def costs(self, sample: Coreset) -> tuple[Array, Array]:
        """The cluster (n,) and the cost (n,) of each point, prices of a constraint included, its weight not."""

    @abc.abstractmethod
    def refit(self, sample: Coreset, fold: int, quick: bool) -> Model:
        """The same question solved on `sample.weights`, from this solution; `quick` descends only."""

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
    """Nearest center (n,) and cost (n,) of each point: dist**z, or under the cosine metric (1 - cos)**(z / 2)."""
    index, dist_sq = nearest(points, centers)
    return index, power_of_distance(dist_sq * 0.5 if metric == "cosine" else dist_sq, z)


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

    def refit(self, sample: Coreset, fold: int, quick: bool) -> Centers:
        """Swaps give up what only the fold left out had called for."""
        points, weights, k = sample.points, sample.weights, len(self.centers)
        swaps = int(min(FOLD_SWAPS * k, FOLD_WORK / points.size))
        if swaps < k or quick:
            found = refine(points, weights, self.centers, self.z, metric=self.metric)
        else:
            found = solve_centers(
                points, weights, k, self.z, seed=fold, metric=self.metric, init=self.centers, restarts=1, swaps=swaps
            )
        return Centers(np.asarray(found.centers), self.z, self.metric)
