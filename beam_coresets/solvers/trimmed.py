"""Centers that leave the worst points out, as the certificate and the tables see them.

The cost of centers without the worst weight m is sum w min(c, t) - m t for the best t, the threshold
(`beam_coresets.points.left_out`). So each point costs min(c, t), and all of them together a constant less. The best t
maximises it: by the envelope theorem the error of a threshold that comes from a sample is of second order.

Where outliers were drawn, or stand for lost ones too, the sample may have more of them than there are. What is too much
would keep centers for itself, if it is far away. So a little more is left out in solving, by which the number of
outliers may be wrong. Where there is a gap in the costs of the points of which it is not sure that they are outliers,
the threshold is below it, as any cost between those of the last inlier and of the first outlier is as good on the data.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.coreset import Coreset
from beam_coresets.points.left_out import kept_weights, threshold, weight_left_out
from beam_coresets.points.nearest import Metric
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.model import Model, fold_effort, point_costs

NO_WEIGHT = 1e-9  # a share of a point's weight that is none
GAP = 2.0  # times the cost of the next point tells outliers from others
SPARE_DEVIATIONS = 2.0  # by which the sampled weight of the outliers may be too large

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class TrimmedCenters(Model):
    """Centers of a (k, z)-clustering without its outliers.

    Attributes:
      centers: (k, d) float64.
      left_out: the weight that is left out.
      threshold: the cost (dist**z) beyond which points are, on the sample that this was solved on.
      z, metric: of the cost.
      spare: weight that solving has left out beside it.
    """

    centers: Array
    left_out: float
    threshold: float
    z: float = 2.0
    metric: Metric = "euclidean"
    bases: Array | None = None
    spare: float = 0.0

    @staticmethod
    def of(
        sample: Coreset, centers: Array, left_out: float, z: float, metric: Metric, spare: float = 0.0
    ) -> TrimmedCenters:
        """With the threshold of the sample's calibrated weights."""
        cost = point_costs(sample.points, centers, z, metric)[1]
        level = _below_the_gap(cost, sample.weights, left_out, max(spare, NO_WEIGHT * left_out))
        return TrimmedCenters(centers, left_out, level, z, metric, spare=spare)

    @staticmethod
    def solve(
        sample: Coreset, k: int, outliers: float, z: float, metric: Metric, row_weight: float = 0.0, **search: Any
    ) -> TrimmedCenters:
        """Solved on the sample's calibrated weights.

        Args:
          outliers: below 1 a share of their total, from 1 on a number of rows' weight.
          row_weight: of a row of the data; points that weigh more stand for others, too. 0 where all are known.
          search: of `solve_centers`.
        """
        total = float(sample.weights.sum())
        left_out = weight_left_out(outliers, total)

        def solved(spare: float) -> TrimmedCenters:
            found = solve_centers(
                sample.points, sample.weights, k, z, metric=metric, left_out=left_out + spare, **search
            )
            return TrimmedCenters.of(sample, np.asarray(found.centers), left_out, z, metric, spare)

        found = solved(0.0)
        spare = min(found.uncertainty(sample, row_weight), 0.5 * left_out, 0.25 * total) if row_weight else 0.0
        return solved(spare) if spare > NO_WEIGHT * left_out else found

    def uncertainty(self, sample: Coreset, row_weight: float) -> float:
        """`SPARE_DEVIATIONS` of the weight of the outliers in the sample, as of independent draws; a row that several
        shards hold is one."""
        rows, weight, _, _ = self.outliers(sample)
        _, of = np.unique(sample.ids[rows], return_inverse=True)
        each = np.bincount(of.ravel(), weight)
        return SPARE_DEVIATIONS * float(np.sqrt(each @ np.maximum(0.0, each - row_weight * (1 + 1e-6))))

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
        """The clusters' weights and costs, (k,) each, without the outliers; what costs nothing is none."""
        k, kept = len(self.centers), kept_weights(cost, sample.weights, self.left_out)[0]
        kept = np.where(cost > 0, kept, sample.weights)
        return np.bincount(index, kept, k), np.bincount(index, kept * np.minimum(cost, self.threshold), k)

    def outliers(self, sample: Coreset) -> tuple[Array, Array, Array, Array]:
        """What is left out of the sample that it was solved on, in order of falling cost.

        Returns:
          rows (m,), the weight (m,) of each that is left out, its nearest center (m,) and its cost (m,) there. Of rows
          that cost the same the first ids go first; what costs nothing is no outlier.
        """
        index, cost = self.clusters(sample)
        order = np.lexsort((sample.ids, -cost))
        weight = sample.weights[order]
        gone = np.clip(self.left_out - (np.cumsum(weight) - weight), 0.0, weight)
        left = (gone > NO_WEIGHT * max(self.left_out, 1e-300)) & (cost[order] > 0)
        rows = order[left]
        return rows, gone[left], index[rows], cost[rows]

    def doubt(self, sample: Coreset) -> str | None:
        """Where it is a sample that says how many rows are outliers, and it says more than are left out: then the cost
        may hold some of them, at any cost."""
        _, cost = self.clusters(sample)
        if self.spare > 0 and threshold(cost, sample.weights, self.left_out) > self.threshold:
            return "more rows may be outliers than are left out (outliers, replication, coreset_size)"
        return None

    def refit(self, sample: Coreset, fold: int, quick: bool) -> TrimmedCenters:
        """From scratch, with the same weight left out; its costs are cut where the emitted centers' are, so that the
        constants of all folds are one and cancel."""
        if not self.left_out + self.spare < sample.weights.sum():
            return self
        restarts, swaps = fold_effort(sample.points, len(self.centers), quick)
        found = solve_centers(
            sample.points, sample.weights, len(self.centers), self.z, seed=fold, metric=self.metric,
            restarts=restarts, swaps=swaps, left_out=self.left_out + self.spare,
        )  # fmt: skip
        return dataclasses.replace(self, centers=np.asarray(found.centers))


def _below_the_gap(costs: Array, weights: Array, left_out: float, about: float) -> float:
    """The threshold, or where the costs have a gap among the points that about so much weight is beyond, the cost of
    the next point after the gap."""
    order = np.argsort(-costs, kind="stable")
    beyond, cost = np.cumsum(weights[order]), costs[order]
    near = np.flatnonzero(np.abs(beyond[:-1] - left_out) <= about)
    if len(near):
        widest = near[np.argmax(cost[near] / np.maximum(cost[near + 1], 1e-300))]
        if cost[widest] > GAP * cost[widest + 1]:
            return float(cost[widest + 1])
    return threshold(costs, weights, left_out)
