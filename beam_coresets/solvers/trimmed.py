"""Centers that leave the worst points out, as the certificate and the tables see them.

The cost of centers without the worst weight m is sum w min(c, t) - m t for the best t, the threshold
(`beam_coresets.points.left_out`). So each point costs min(c, t), and all of them together a constant less. The best t
maximises it: by the envelope theorem the error of a threshold that comes from a sample is of second order.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.coreset import Coreset
from beam_coresets.points.left_out import kept_weights, threshold
from beam_coresets.points.nearest import Metric
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.model import Model, fold_effort, point_costs

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class TrimmedCenters(Model):
    """Centers of a (k, z)-clustering without its outliers.

    Attributes:
      centers: (k, d) float64.
      left_out: the weight that is left out.
      threshold: the cost (dist**z) beyond which points are, on the sample that this was solved on.
      z, metric: of the cost.
    """

    centers: Array
    left_out: float
    threshold: float
    z: float = 2.0
    metric: Metric = "euclidean"
    bases: Array | None = None

    @staticmethod
    def of(sample: Coreset, centers: Array, left_out: float, z: float, metric: Metric) -> TrimmedCenters:
        """With the threshold of the sample's calibrated weights."""
        cost = point_costs(sample.points, centers, z, metric)[1]
        return TrimmedCenters(centers, left_out, threshold(cost, sample.weights, left_out), z, metric)

    @property
    def constant(self) -> float:
        """What the weight left out would cost at the threshold, where `costs` has counted it; negative."""
        return -self.left_out * self.threshold

    def costs(self, sample: Coreset) -> tuple[Array, Array]:
        """The cluster (n,) of each point, and its cost (n,), at most the threshold."""
        index, cost = self.clusters(sample)
        return index, np.minimum(cost, self.threshold)

    def clusters(self, sample: Coreset) -> tuple[Array, Array]:
        """The nearest center (n,) of each point, and the cost (n,) there."""
        return point_costs(sample.points, self.centers, self.z, self.metric)

    def totals(self, sample: Coreset, index: Array, cost: Array) -> tuple[Array, Array]:
        """The clusters' weights and costs, (k,) each, without the outliers."""
        k, kept = len(self.centers), kept_weights(cost, sample.weights, self.left_out)[0]
        return np.bincount(index, kept, k), np.bincount(index, kept * cost, k)

    def outliers(self, sample: Coreset) -> tuple[Array, Array, Array, Array]:
        """What is left out of the sample that it was solved on, in order of falling cost.

        Returns:
          rows (m,), the weight (m,) of each that is left out, its nearest center (m,) and its cost (m,) there.
        """
        index, cost = self.clusters(sample)
        gone = sample.weights - kept_weights(cost, sample.weights, self.left_out)[0]
        rows = np.flatnonzero(gone > 0)
        rows = rows[np.lexsort((rows, -cost[rows]))]
        return rows, gone[rows], index[rows], cost[rows]

    def refit(self, sample: Coreset, fold: int, quick: bool) -> TrimmedCenters:
        """From scratch, with the same weight left out; its costs are cut where the emitted centers' are, so that the
        constants of all folds are one and cancel."""
        if not self.left_out < sample.weights.sum():
            return self
        restarts, swaps = fold_effort(sample.points, len(self.centers), quick)
        found = solve_centers(
            sample.points, sample.weights, len(self.centers), self.z, seed=fold, metric=self.metric,
            restarts=restarts, swaps=swaps, left_out=self.left_out,
        )  # fmt: skip
        return dataclasses.replace(self, centers=np.asarray(found.centers))
