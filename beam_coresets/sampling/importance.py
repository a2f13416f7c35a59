"""Importance sampling: which points of a block stay, and with which weights.

The methods share one engine: points are labelled with the nearest of some centers, and point p of cluster j is kept
with probability proportional to

    mix * w(p) y(p) / sum w y  +  (1 - mix) * w(p) / (W_j * number of clusters),      y(p) = dist(p, center)**z

capped at one. `uniform` has no cost part (mix = 0, one cluster), `lightweight` one center, the mean (Bachem, Lucic,
Krause, KDD 2018), `sensitivity` the centers of a D^z seeding (Feldman, Langberg, STOC 2011). `rings_and_groups` has the
same centers and another probability (`beam_coresets.sampling.rings_and_groups`); `subspace` has flats in place of
centers, and leverage beside cost (`beam_coresets.sampling.subspace_sampling`). A kept point weighs w / probability, so
every sum over the points is estimated without bias, by every method, through any number of levels.

Points are drawn systematically, never independently: `thin` walks through a block once with a running sum for each
(stratum, cluster, ring of distances); `finish` sorts each cluster along a k-d tree first, so that the sample is spread
evenly over it. Strata are drawn apart from each other. A shard's strata are the buckets that it shares with the same
other shards: their errors are then independent, which is what makes the disagreement of replicas measure the error of
the whole.
"""
from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator
from beam_coresets.points.cluster_means import lloyd_step, means_of
from beam_coresets.points.left_out import threshold, trimmed_seeding
from beam_coresets.points.magnitude import unit_of
from beam_coresets.points.nearest import distances_to, nearest, power_of_distance
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.sampling import far_points, rings_and_groups, subspace_sampling
from beam_coresets.sampling.calibration import calibrate
from beam_coresets.sampling.drawing import Keeping, draw, keeping_probabilities, spread_rows
from beam_coresets.sampling.theory_sizes import fitting

METHODS = ("sensitivity", "lightweight", "uniform", "rings_and_groups", "subspace")
SEEDED = ("sensitivity", "rings_and_groups")  # with centers of a D^z seeding
LEFTOVER = ("points", "centers")
POINTS_PER_CENTER = 40  # that a shard keeps where nobody says how many
MOST_POWER = 100  # of distances: far below it, double precision still tells which is longer
SEEDING_ROWS = 2048
PROJECT_ABOVE = 128
PROJECTED_DIM = 16
COST_SHARE = 0.7  # more of it helps heavy tails and outliers, less the small clusters
THIN_CENTERS = 1  # importances are measured from this many times k centers in leaves and merges,
FINISH_CENTERS = 3  # and in the last draw, which can afford more and decides the error
FINISH_FLATS = 2  # more of them cut flats into pieces
THIN_CANDIDATES, FINISH_CANDIDATES = 2, 4  # flats compared in a step of the seeding
ROBUST_CANDIDATES = 3  # points compared in a step of a seeding that far points are not to take
DRAWS_PER_CENTER = 8  # fewer draws for a center can't be calibrated

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A sampling method with its parameters.

    Attributes:
      k: the number of centers that the coreset is meant for.
      size: points of a finished coreset.
      z: power of the distance, at least 1.
      method: one of `METHODS`.
      seed: seeds the random projection that importances are computed in above `PROJECT_ABOVE` dimensions (for method
        subspace above 32, or 8 (r + 1)); it is the same for all shards, and nothing is biased by it, as sampled points
        keep their own coordinates.
      epsilon: of `rings_and_groups`, the error that its leftover may make: less of it makes more rings and groups.
      leftover: of `rings_and_groups`, who carries the weight of points in no group: other such "points", or "centers"
        (see `finish_on_centers`).
      most_bytes: `size` is at most what has so many bytes of coordinates; None for no limit.
      r, affine: with r, the coreset is meant for k flats of that dimension, through the origin unless affine.
      outliers: what the centers may leave out: below 1 a share of all weight, from 1 on a weight. Those that may be
        are kept beside the `size` points (`beam_coresets.sampling.far_points`).
    """

    k: int
    size: int
    z: float = 2.0
    method: str = "sensitivity"
    seed: int = 0
    epsilon: float = rings_and_groups.EPSILON
    leftover: str = "points"
    most_bytes: int | None = None
    r: int = 0
    affine: bool = False
    outliers: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: must be at least 1, got {self.k}")
        if not self.z >= 1:
            raise ValueError(f"z: must be at least 1, got {self.z}")
        if self.z > MOST_POWER:
            raise ValueError(f"z: must be at most {MOST_POWER}, got {self.z:g}")
        if self.size < self.k:
            raise ValueError(f"coreset_size: must be at least k = {self.k}, got {self.size}")
        if self.method not in METHODS:
            raise ValueError(f"method: must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method == "rings_and_groups":
            rings_and_groups.levels(self.z, self.epsilon)
        if self.leftover not in LEFTOVER:
            raise ValueError(f"leftover: must be one of {', '.join(LEFTOVER)}, got {self.leftover!r}")
        if self.leftover == "centers" and self.method != "rings_and_groups":
            raise ValueError(f"leftover: must be points with method {self.method}, got 'centers'")
        if self.r < 0:
            raise ValueError(f"r: must be at least 0, got {self.r}")
        if self.r and self.z != 2:
            raise ValueError(f"z: must be 2 with r = {self.r}, got {self.z}")
        if self.affine and not self.r:
            raise ValueError("affine: must be left out without r, got True")
        if self.method == "subspace" and not self.r:
            raise ValueError("r: must be at least 1 with method subspace, got 0")
        if not 0 <= self.outliers < math.inf:
            raise ValueError(f"outliers: must be a share below 1 or a number of rows, got {self.outliers:g}")
        if self.outliers and (what := f"r = {self.r}" if self.r else "leftover centers" * (self.leftover == "centers")):
            raise ValueError(f"outliers: must be left out with {what}, got {self.outliers:g}")

    def check_dim(self, dim: int) -> None:
        """Raises ValueError for points of `dim` coordinates that flats of dimension r would be all of."""
        if self.r >= dim:
            raise ValueError(f"r: must be below d = {dim}, got {self.r}")

    def size_in(self, dim: int, itemsize: int) -> int:
        """Points of a finished coreset in `dim` coordinates of `itemsize` bytes."""
        return self.size if self.most_bytes is None else fitting(self.size, self.k, dim, itemsize, self.most_bytes)

    def thin(
        self, points: Array, weights: Array, strata: Array, size: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Keeps about `size` of n points in one pass.

        Args:
          points: (n, d). weights: (n,) unbiased weights. strata: (n,) int32, small numbers from 0.

        Returns:
          rows (m,) int64 in increasing order, and their unbiased weights (m,). All rows where n <= size; none where
          n > size and all weigh nothing. What may be among the outliers is there beside the `size` points.
        """
        if len(points) <= size:
            return np.arange(len(points)), weights
        if not weights.any():
            return np.empty(0, np.int64), np.empty(0)
        unit = unit_of(weights)
        rows, kept = draw(self.keeping(points, weights / unit, size, 1.0, rng), strata, rng)
        return rows, kept * unit

    def keeping(self, points: Array, weights: Array, size: float, shares: float, rng: np.random.Generator) -> Keeping:
        """How likely each of n points is kept in a pass that keeps about `size` of them, importances included.

        Args:
          points: (n, d). weights: (n,), not all zero, of ordinary magnitude.
          size: expected points, beside those that may be among the outliers; all are kept where there are no more.
          shares: the points are those of so many shards: as many times more may be kept as outliers.
        """
        space, sure = self._space(points), None
        share = far_points.share_of(self.outliers, weights)
        count = self._center_count(size, THIN_CENTERS)
        if self.method == "subspace":
            found = subspace_sampling.importances(space, weights, count, self.r, self.affine, rng, THIN_CANDIDATES)
            index, cost, clusters = found.index, found.cost, len(found.flats.centers)
        elif share:
            index, cost, centers, sure = self._robust(space, weights, count, share, rng, shares)
            clusters = len(centers)
            if len(points) - int(sure.sum()) <= size:
                return Keeping(index, cost, weights, np.ones(len(points)), clusters)
        else:
            centers = self._centers(space, weights, count, rng)
            index, cost = self._labels(space, centers)
            clusters = len(centers)
        return Keeping(index, cost, weights, self._keeping(index, cost, weights, clusters, size, sure), clusters)

    def finish(
        self, points: Array, weights: Array, strata: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """The final coreset: evenly spread rows, their unbiased weights, and their calibrated weights.

        Calibration makes the sample reproduce, for each cluster of the importances, the total weight, the cost, and (as
        far as the number of sampled points allows) the mean of the points that it was drawn from. It removes most of
        the error, and a little unbiasedness: use it for solving, never for merging or for error bars.
        """
        size = self.size_in(points.shape[1], points.itemsize)
        if len(points) <= size:
            return np.arange(len(points)), weights, weights
        if not weights.any():
            return np.empty(0, np.int64), np.empty(0), np.empty(0)
        unit, share = unit_of(weights), far_points.share_of(self.outliers, weights)
        if share:
            rows, unbiased, calibrated = self._finish_beside(points, weights / unit, strata, size, share, rng)
            return rows, unbiased * unit, calibrated * unit
        finish = self._finish_on_flats if self.method == "subspace" else self._finish_on_places
        rows, unbiased, calibrated = finish(points, weights / unit, strata, size, rng)
        return rows, unbiased * unit, calibrated * unit

    def _finish_on_places(
        self, points: Array, weights: Array, strata: Array, size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        space = self._space(points)
        centers = self._centers(space, weights, self._center_count(size, FINISH_CENTERS), rng)
        index, cost = self._labels(space, centers)
        probability = self._keeping(index, cost, weights, len(centers), size)
        rows = spread_rows(space, probability, index, len(centers), strata, rng)
        unbiased = weights[rows] / probability[rows]
        if self.method not in SEEDED:
            return rows, unbiased, unbiased * (weights.sum() / unbiased.sum())
        drawn_from = np.unique(index[rows])
        if len(drawn_from) < len(centers):  # what no point stands for must not inflate points far away from it
            index, cost = self._labels(space, centers[drawn_from])
        if space is not points:
            cost = self._cost_to_means(points, weights, index)
        return rows, unbiased, calibrate(space, weights, index, cost, rows, unbiased)

    def _finish_beside(
        self, points: Array, weights: Array, strata: Array, size: int, share: float, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """As `_finish_on_places`, of what is no outlier for certain; what may be one is there with its own weight."""
        space, count = self._space(points), self._center_count(size, FINISH_CENTERS)
        index, cost, centers, sure = self._robust(space, weights, count, share, rng)
        if len(points) - int(sure.sum()) <= size:
            return np.arange(len(points)), weights, weights
        probability = self._keeping(index, cost, weights, len(centers), size, sure)
        rows = spread_rows(space, probability, index, len(centers), strata, rng)
        unbiased, drawn = weights[rows] / probability[rows], ~sure[rows]
        rest, calibrated = np.where(sure, 0.0, weights), unbiased.copy()
        if not drawn.any():
            return rows, unbiased, calibrated
        if self.method not in SEEDED:
            calibrated[drawn] *= rest.sum() / unbiased[drawn].sum()
            return rows, unbiased, calibrated
        drawn_from = np.unique(index[rows[drawn]])
        if len(drawn_from) < len(centers):
            index, cost = self._labels(space, centers[drawn_from])
        if space is not points:
            cost = self._cost_to_means(points, rest, index)
        cost = np.minimum(cost, threshold(cost, weights, share * float(weights.sum())))
        calibrated[drawn] = calibrate(space, rest, index, cost, rows[drawn], unbiased[drawn])
        return rows, unbiased, calibrated

    def _robust(
        self, space: Array, weights: Array, count: int, share: float, rng: np.random.Generator, shares: float = 1.0
    ) -> tuple[Array, Array, Array, npt.NDArray[np.bool_]]:
        """Cluster (n,) and cut cost (n,), the centers, and which points (n,) are kept for certain."""
        centers = self._seeded_centers(space, weights, count, rng, share)
        index, cost = self._labels(space, centers)
        most = math.ceil(shares * far_points.most_kept(self.size))
        sure, level = far_points.farthest(cost, weights, share, most)
        if self.method in SEEDED:
            return index, np.minimum(cost, level), centers, sure
        near = np.where(cost > level, 0.0, weights)
        centers = self._centers(space, near, 1, rng)
        index, own = self._labels(space, centers)
        return index, np.minimum(own, own[near > 0].max(initial=0.0)), centers, sure

    def _finish_on_flats(
        self, points: Array, weights: Array, strata: Array, size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        count, space = self._center_count(size, FINISH_FLATS), self._space(points)
        found = subspace_sampling.importances(space, weights, count, self.r, self.affine, rng, FINISH_CANDIDATES)
        clusters = len(found.flats.centers)
        probability = self._keeping(found.index, found.cost, weights, clusters, size)
        rows = spread_rows(space, probability, found.index, clusters, strata, rng)
        calibrated = subspace_sampling.calibrated(space, weights, found, rows, probability)
        return rows, weights[rows] / probability[rows], calibrated

    def finish_on_centers(
        self, points: Array, weights: Array, strata: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Algorithm 1 of Appendix A as printed: rows drawn from the groups, and k centers for what is in no group.

        A center is there once for each stratum, with the weight of its leftover in that stratum, in the name of the
        leftover row that is nearest to it.

        Returns:
          rows (m,) in increasing order, their weights (m,), and their points (m, d), which for centers are those that
          the rings are around: Lemma A.12 bounds what the leftover errs by, by its distances to these. Nothing is
          calibrated; the total weight is right in expectation, the cost is not.
        """
        size = self.size_in(points.shape[1], points.itemsize)
        if len(points) <= size:
            return np.arange(len(points)), weights, points
        if not weights.any():
            return np.empty(0, np.int64), np.empty(0), points[:0]
        unit = unit_of(weights)
        weights = weights / unit
        centers, index, cost = self._around(points, weights, self._center_count(size, THIN_CENTERS), rng)
        group = rings_and_groups.groups(index, cost, weights, self.k, self.z, self.epsilon)
        left = np.flatnonzero((group < 0) & (weights > 0))
        names, first, sums = rings_and_groups.leftover(left, strata[left] * len(centers) + index[left], cost, weights)
        importance = rings_and_groups.importances(index, cost, weights, group, self._cost_share())
        importance[left] = 0.0
        room = max(1, size - len(first))
        probability = (importance > 0).astype(np.float64)
        if probability.sum() > room:  # else there would be room to draw leftover as well, which its centers stand for
            keeping_probabilities(index, importance, weights, len(centers), room, 1.0, probability)
        drawn = spread_rows(self._space(points), probability, index, len(centers), strata, rng)
        rows = np.concatenate([drawn, first])
        order = np.argsort(rows)
        found = points[rows]
        found[len(drawn) :] = centers[names % len(centers)]
        return rows[order], np.concatenate([weights[drawn] / probability[drawn], sums])[order] * unit, found[order]

    def _keeping(
        self, index: Array, cost: Array, weights: Array, clusters: int, size: float, sure: Array | None = None
    ) -> Array:
        """The probability (n,) that each point is kept; `size` of them beside those that are for certain."""
        mix = self._cost_share()
        weights = weights if sure is None else np.where(sure, 0.0, weights)
        if self.method == "rings_and_groups":
            group = rings_and_groups.groups(index, cost, weights, self.k, self.z, self.epsilon)
            cost, mix = rings_and_groups.importances(index, cost, weights, group, mix), 1.0
        probability = np.empty(len(index))
        keeping_probabilities(index, cost, weights, clusters, size, mix, probability)
        if sure is not None:
            probability[sure] = 1.0
        return probability

    def _space(self, points: Array) -> Array:
        """Where importances are computed: the points, or in high dimension a Gaussian projection of them."""
        dim, low, above = points.shape[1], PROJECTED_DIM, PROJECT_ABOVE
        if self.method == "subspace":  # flats cost more by the dimension than centers do, and lose less
            low = max(low, 4 * (self.r + 1))
            above = 2 * low
        if dim <= above:
            return points
        matrix = generator("projection", self.seed, dim).standard_normal((dim, low)) / np.sqrt(low)
        return np.ascontiguousarray(points @ matrix.astype(points.dtype))

    def _around(
        self, points: Array, weights: Array, count: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Centers (c, d) in all dimensions, each point's nearest (n,), and dist**z to it (n,), in some unit.

        Where centers are found in a projection, they are the means of the clusters that they have there.
        """
        space = self._space(points)
        centers = self._centers(space, weights, count, rng)
        if space is not points:
            index, _ = self._labels(space, centers)
            filled = np.bincount(index, weights, len(centers)) > 0
            centers = means_of(points, weights, index, len(centers))[filled].astype(points.dtype)
        return centers, *self._labels(points, centers)

    def _labels(self, space: Array, centers: Array) -> tuple[Array, Array]:
        """Cluster (n,) and dist**z to its center (n,), in some unit: only its shares count."""
        index, dist_sq = nearest(space, centers)
        return index, power_of_distance(dist_sq / dist_sq.dtype.type(unit_of(dist_sq)), self.z)

    def _cost_to_means(self, points: Array, weights: Array, index: Array) -> Array:
        """dist**z (n,) of each point to its cluster's mean in all dimensions: what calibration has to keep, not what a
        projection makes of it."""
        clusters = int(index.max()) + 1
        means = means_of(points, weights, index, clusters)
        dist_sq = distances_to(points, means, index)
        return power_of_distance(dist_sq / dist_sq.dtype.type(unit_of(dist_sq)), self.z)

    def _cost_share(self) -> float:
        shares = {"uniform": 0.0, "lightweight": 0.5, "subspace": subspace_sampling.SUBSPACE_COST_SHARE}
        return shares.get(self.method, COST_SHARE)

    def _center_count(self, size: float, times_k: int) -> int:
        # With fewer flats than k one lies across several clusters, whose points then look more important than all else.
        least = self.k if self.method == "subspace" else 1
        return max(least, min(times_k * self.k, int(size) // DRAWS_PER_CENTER))

    def _centers(self, space: Array, weights: Array, count: int, rng: np.random.Generator) -> Array:
        if self.method not in SEEDED:
            return (weights @ space / weights.sum())[None].astype(space.dtype)
        return self._seeded_centers(space, weights, count, rng)

    def _seeded_centers(
        self, space: Array, weights: Array, count: int, rng: np.random.Generator, share: float = 0.0
    ) -> Array:
        """Of a D^z seeding on some of the points, after a few steps; without the farthest `share` of their weight."""
        rows = np.arange(len(space))
        if len(space) > SEEDING_ROWS:
            # float32 draws with rejection of repeats would cost more than the few repeats do harm
            rows = rng.integers(len(space), size=SEEDING_ROWS)
        sample, sample_weights = space[rows], weights[rows]
        if not sample_weights.any():
            sample, sample_weights = space, weights
        seeded = sample / sample.dtype.type(unit_of(sample))
        left = share * float(sample_weights.sum())
        if share:
            found = trimmed_seeding(seeded, sample_weights, count, self.z, left, rng, ROBUST_CANDIDATES)
        else:
            found = dz_seeding(seeded, sample_weights, count, self.z, rng)
        centers = sample[found]
        for _ in range(3):
            centers = lloyd_step(sample, sample_weights, centers, left)
        if not share:
            return centers
        index, _ = nearest(sample, centers)
        return centers[far_points.serving(index, sample_weights, len(centers), left)]
