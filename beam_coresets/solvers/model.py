"""What has been solved for, as the certificate and the tables see it: centers, and whatever else can tell a cost."""
from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import Metric, nearest, power_of_distance
from beam_coresets.solvers.centers import refine, solve_centers

Array = npt.NDArray[Any]

FOLD_SWAPS = 3  # swap trials a fold, as a multiple of k
FOLD_WORK = 1.5e8  # coordinates compared in them at most


class Model(Protocol):
    """A solution.

    Attributes:
      centers: (k, d) float64; of subspaces a point on each.
      bases: (k, r, d) float64 orthonormal rows of each subspace; None for centers.
      offset: what is added to the sum of the points' costs (prices of a constraint times its bounds); else 0.
    """

    @property
    def centers(self) -> Array: ...

    @property
    def bases(self) -> Array | None: ...

    @property
    def offset(self) -> float: ...

    def costs(self, sample: Coreset) -> tuple[Array, Array]:
        """The cluster (n,) and the cost (n,) of each point, its weight not counted."""
        ...

    def refit(self, sample: Coreset, fold: int, quick: bool) -> Model:
        """The same question solved on `sample.weights`, from this solution; `quick` descends only."""
        ...


def point_costs(points: Array, centers: Array, z: float = 2.0, metric: Metric = "euclidean") -> tuple[Array, Array]:
    """Nearest center (n,) and cost (n,) of each point: dist**z, or under the cosine metric (1 - cos)**(z / 2)."""
    index, dist_sq = nearest(points, centers)
    return index, power_of_distance(dist_sq * 0.5 if metric == "cosine" else dist_sq, z)


@dataclasses.dataclass(frozen=True, eq=False)
class Centers:
    """Centers of a (k, z)-clustering as a `Model`."""

    centers: Array
    z: float = 2.0
    metric: Metric = "euclidean"
    bases: Array | None = None
    offset: float = 0.0

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
