"""Local centers: Algorithm 1 of Gandikota, Mazumdar and Rawat, *Reliable Distributed Clustering with Redundant Data
Assignment*, for k-median.

Shard i sends k-median centers Y_i of what it holds, P_i, each with the weight of its cluster; the coordinator
multiplies shard i's weights by b_i and solves weighted k-median on them. With b from Property 1,
1 <= (b^T A)_j <= 1 + delta for every point j, the result C costs (Theorem 3)

    cost(P, C) <= (alpha + alpha beta + beta) (1 + delta) cost(P, best centers),

alpha and beta the factors of the coordinator's and the shards' solvers: 3 (1 + delta) for optimal ones. By the triangle
inequality, for every C (the proof of Lemma 2),

    | cost(P_i, C) - cost(Y_i, C) | <= cost(P_i, Y_i),

which bounds the cost from both sides; the shard sends the right side, too. One number a shard can't make up for buckets
that it has wrong: it counts as a whole or not at all.

A shard may send more than k centers (the paper leaves open what communication buys): Lemma 2 is the same, its right
side is less. With L = sum_i b_i cost(P_i, Y_i) and V = sum_i b_i cost(Y_i, C), C the coordinator's and best for the
union, V - L <= (1 + delta) cost(P, best centers) and cost(P, C) <= V + L, so the factor is at most (1 + delta)
(V + L) / (V - L), whatever the shards' solvers: it falls to 1 + delta as L does.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import derive_seed
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import distances_to
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.solvers.centers import solve_centers

Array = npt.NDArray[Any]

ALPHA = BETA = 1.0  # the solvers' factors that are supposed: they search well, and prove nothing


def factor(delta: float, alpha: float = ALPHA, beta: float = BETA) -> float:
    """Theorem 3's approximation factor for a coordinator within alpha and shards within beta of the best."""
    return (alpha + alpha * beta + beta) * (1 + delta)


@dataclasses.dataclass(frozen=True)
class LocalCenters(MergeReduce):
    """A shard's tree, of which k-median centers are sent in place of a sample.

    Attributes:
      count: how many are sent at most; k by default.

    They are solved on what the tree holds. Where it still holds every row, cluster weights and local cost are exact;
    where it has been thinned they are estimates (`ShardReport.estimated`), the weights normalised to the ledger's exact
    total. A center carries the id and the kept columns of the nearest point held.

    Raises:
      ValueError: z is not 1, or `count` is below k.
    """

    count: int | None = None

    def __post_init__(self) -> None:
        if self.sampler.z != 1:
            raise ValueError(f"z: must be 1 with summary local_centers (k-median), got {self.sampler.z:g}")
        if self.count is not None and self.count < self.sampler.k:
            raise ValueError(f"local_centers: must be at least k = {self.sampler.k}, got {self.count}")

    def report(self, shard: int, held: Sequence[Any], ledger: Ledger) -> ShardReport:
        sample = Coreset.union(held)
        whole = len(sample) == ledger.rows
        weights = sample.weights_ht
        if not whole:
            weights = weights * (ledger.weight / weights.sum())
        centers, cost = self._solved(shard, sample, weights, ledger)
        return ShardReport(
            shard, centers, ledger, kind="local_centers", additive=cost, slack=2 * cost, estimated=not whole
        )

    def _solved(self, shard: int, sample: Coreset, weights: Array, ledger: Ledger) -> tuple[Coreset, float]:
        """The centers with their clusters' weights, and what all rows cost to them."""
        if not weights.any():
            return sample.keep(np.empty(0, np.int64), np.empty(0)), 0.0
        seed = derive_seed(self.seed, shard, "local centers", ledger.digest())
        count, restarts, swaps = self.sampler.k, None, None
        if self.count is not None and self.count > count:  # a search would take long, and their cost is known anyway
            count, restarts, swaps = self.count, 1, self.sampler.k
        found = solve_centers(sample.points, weights, count, 1.0, seed=seed, restarts=restarts, swaps=swaps)
        size = np.bincount(found.index, weights, len(found.centers))
        used = np.flatnonzero(size)
        far = distances_to(sample.points, found.centers, found.index)
        order = np.lexsort((far, found.index))
        first = np.searchsorted(found.index[order], used)
        rows = sample.keep(order[first], size[used])
        extras = rows.extras
        if extras is not None and "group" in extras.column_names:  # it stands for rows of any label
            extras = extras.drop_columns(["group"])
        return dataclasses.replace(rows, points=found.centers[used], groups=None, extras=extras), found.cost
