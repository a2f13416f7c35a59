"""Importance sampling: which points of a block stay, and with which weights.

Three methods share one engine: points are labelled with the nearest of some centers, and point p of cluster j is kept with
probability proportional to

    mix * w(p) y(p) / sum w y  +  (1 - mix) * w(p) / (W_j * number of clusters),      y(p) = dist(p, center)**z

capped at one. `uniform` has no cost part (mix = 0, one cluster), `lightweight` one center, the mean (Bachem, Lucic, Krause,
KDD 2018), `sensitivity` the centers of a D^z seeding (Feldman, Langberg, STOC 2011). A kept point weighs w / probability, so
every sum over the points is estimated without bias, by every method, through any number of levels.

Points are drawn systematically, never independently: `thin` walks through a block once with a running sum for each (stratum,
cluster, ring of distances); `finish` sorts each cluster along a k-d tree first, so that the sample is spread evenly over it.
Strata are drawn apart from each other. A shard's strata are the buckets that it shares with the same other shards: their errors
are then independent, which is what makes the disagreement of replicas measure the error of the whole.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.calibration import calibrate
from beam_coresets.hashing import generator
from beam_coresets.nearest import nearest, power_of_distance
from beam_coresets.seeding import dz_seeding

METHODS = ("sensitivity", "lightweight", "uniform")
RINGS = 8
SEEDING_ROWS = 2048
PROJECT_ABOVE = 128
PROJECTED_DIM = 16
COST_SHARE = 0.7  # more of it helps heavy tails and outliers, less the small clusters
FINISH_CENTERS = 1.5  # the last draw can afford more centers, as a multiple of the leaves'

Array = npt.NDArray[Any]


@kernel
def _probabilities(index, cost, weights, clusters, size, mix, out):  # type: ignore[no-untyped-def]
    """Keeping probabilities that add up to `size`: what would exceed one is kept for certain, the rest shares what is left."""
    n = len(index)
    cluster_weight = np.zeros(clusters)
    total = 0.0
    for i in range(n):
        cluster_weight[index[i]] += weights[i]
        total += weights[i] * cost[i]
        out[i] = 0.0
    left = float(size)
    for _ in range(12):
        filled = 0
        for j in range(clusters):
            if cluster_weight[j] > 0:
                filled += 1
        if filled == 0 or left <= 0:
            break
        share = mix if total > 0 else 0.0
        by_cost = left * share / total if total > 0 else 0.0
        by_weight = left * (1.0 - share) / filled
        certain = 0
        lost = 0.0
        for i in range(n):
            if out[i] == 1.0:
                continue
            j = index[i]
            p = weights[i] * (by_cost * cost[i] + by_weight / cluster_weight[j]) if weights[i] > 0 else 0.0
            if p >= 1.0:
                out[i] = 1.0
                certain += 1
                lost += weights[i] * cost[i]
            else:
                out[i] = p
        if certain == 0:
            break
        left -= certain
        total = max(0.0, total - lost)
        cluster_weight[:] = 0.0
        for i in range(n):
            if out[i] < 1.0:
                cluster_weight[index[i]] += weights[i]


@kernel
def _draw(index, strata, cost, weights, probability, clusters, starts, rows, out):  # type: ignore[no-untyped-def]
    """One pass of systematic sampling in each (stratum, cluster, ring); ring r has costs up to 2**(r - 3) times the average."""
    cluster_weight = np.zeros(clusters)
    cluster_cost = np.zeros(clusters)
    n = len(index)
    for i in range(n):
        cluster_weight[index[i]] += weights[i]
        cluster_cost[index[i]] += weights[i] * cost[i]
    running = starts.copy()
    kept = 0
    for i in range(n):
        p = probability[i]
        if p >= 1.0:
            rows[kept] = i
            out[kept] = weights[i]
            kept += 1
        elif p > 0.0:
            j = index[i]
            ring = 0
            edge = 0.125 * cluster_cost[j]
            value = cost[i] * cluster_weight[j]
            while value > edge and ring < RINGS - 1:
                ring += 1
                edge *= 2.0
            cell = (strata[i] * clusters + j) * RINGS + ring
            a = running[cell] + p
            if a >= 1.0:
                a -= 1.0
                rows[kept] = i
                out[kept] = weights[i] / p
                kept += 1
            running[cell] = a
    return kept


@kernel
def _spread_order(space, probability, index, clusters):  # type: ignore[no-untyped-def]
    """Uncertain rows, cluster by cluster, each cluster along a k-d tree whose cells hold about one expected draw."""
    n, d = space.shape
    first = np.zeros(clusters + 1, np.int64)
    for i in range(n):
        if 0.0 < probability[i] < 1.0:
            first[index[i] + 1] += 1
    for j in range(clusters):
        first[j + 1] += first[j]
    at = first[:-1].copy()
    order = np.empty(first[-1], np.int64)
    for i in range(n):
        if 0.0 < probability[i] < 1.0:
            order[at[index[i]]] = i
            at[index[i]] += 1
    stack = [(first[j], first[j + 1]) for j in range(clusters)]
    while len(stack) > 0:
        low, high = stack.pop()
        mass = 0.0
        for q in range(low, high):
            mass += probability[order[q]]
        if mass <= 1.0 or high - low < 2:
            continue
        widest, spread = 0, -1.0
        for t in range(d):
            mean = 0.0
            for q in range(low, high):
                mean += space[order[q], t]
            mean /= high - low
            s = 0.0
            for q in range(low, high):
                diff = space[order[q], t] - mean
                s += diff * diff
            if s > spread:
                widest, spread = t, s
        segment = order[low:high].copy()
        values = np.empty(high - low)
        for q in range(high - low):
            values[q] = space[segment[q], widest]
        ranks = np.argsort(values, kind="mergesort")
        half, middle, a = mass / 2, low + 1, 0.0
        for q in range(high - low):
            order[low + q] = segment[ranks[q]]
            if a < half:
                middle = low + q
            a += probability[order[low + q]]
        middle = min(max(middle, low + 1), high - 1)
        stack.append((low, middle))
        stack.append((middle, high))
    return order


def _systematic(order: Array, probability: Array, rng: np.random.Generator) -> Array:
    """Rows hit by a comb of unit steps with a random start along the cumulated probabilities."""
    ends = np.cumsum(probability[order])
    if not len(ends):
        return order
    comb = np.arange(rng.random(), ends[-1], 1.0)
    return order[np.searchsorted(ends, comb, side="right")]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A sampling method with its parameters.

    Attributes:
      k: the number of centers that the coreset is meant for.
      size: points of a finished coreset.
      z: power of the distance, at least 1.
      method: one of `METHODS`.
      centers_per_k: how many centers, as a multiple of k, importances are measured from.
      seed: seeds the random projection that importances are computed in above `PROJECT_ABOVE` dimensions; it is the same
        for all shards, and nothing is biased by it, as sampled points keep their own coordinates.
    """

    k: int
    size: int
    z: float = 2.0
    method: str = "sensitivity"
    centers_per_k: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: must be at least 1, got {self.k}")
        if not self.z >= 1:
            raise ValueError(f"z: must be at least 1, got {self.z}")
        if self.size < self.k:
            raise ValueError(f"coreset_size: must be at least k = {self.k}, got {self.size}")
        if self.method not in METHODS:
            raise ValueError(f"method: must be one of {', '.join(METHODS)}, got {self.method!r}")

    def thin(
        self, points: Array, weights: Array, strata: Array, size: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Keeps about `size` of n points in one pass.

        Args:
          points: (n, d). weights: (n,) unbiased weights. strata: (n,) int32, small numbers from 0.

        Returns:
          rows (m,) int64 in increasing order, and their unbiased weights (m,). All rows where n <= size.
        """
        if len(points) <= size:
            return np.arange(len(points)), weights
        space = self._space(points)
        index, cost, clusters, mix = self._importances(space, weights, rng)
        probability = np.empty(len(points))
        _probabilities(index, cost, weights, clusters, size, mix, probability)
        rows = np.empty(len(points), np.int64)
        out = np.empty(len(points))
        starts = rng.random((int(strata.max()) + 1) * clusters * RINGS)
        kept = _draw(index, strata, cost, weights, probability, clusters, starts, rows, out)
        return rows[:kept].copy(), out[:kept].copy()

    def finish(
        self, points: Array, weights: Array, strata: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """The final coreset: evenly spread rows, their unbiased weights, and their calibrated weights.

        Calibration makes the sample reproduce, for each cluster of the importances, the total weight, the cost, and (as far
        as the number of sampled points allows) the mean of the points that it was drawn from. It removes most of the error,
        and a little unbiasedness: use it for solving, never for merging or for error bars.
        """
        if len(points) <= self.size:
            return np.arange(len(points)), weights, weights
        space = self._space(points)
        index, cost, clusters, mix = self._importances(space, weights, rng, FINISH_CENTERS)
        probability = np.empty(len(points))
        _probabilities(index, cost, weights, clusters, self.size, mix, probability)
        count = int(strata.max()) + 1
        order = _spread_order(space, probability, strata * clusters + index, count * clusters)
        apart = np.split(order, np.searchsorted(strata[order], np.arange(1, count)))
        drawn = [_systematic(part, probability, rng) for part in apart]
        rows = np.sort(np.concatenate([np.flatnonzero(probability >= 1.0), *drawn]))
        unbiased = weights[rows] / probability[rows]
        if self.method != "sensitivity":
            return rows, unbiased, unbiased * (weights.sum() / unbiased.sum())
        return rows, unbiased, calibrate(space, weights, index, cost, rows, unbiased)

    def _space(self, points: Array) -> Array:
        """Where importances are computed: the points, or in high dimension a Gaussian projection of them."""
        dim = points.shape[1]
        if dim <= PROJECT_ABOVE:
            return points
        matrix = generator("projection", self.seed, dim).standard_normal((dim, PROJECTED_DIM)) / np.sqrt(PROJECTED_DIM)
        return np.ascontiguousarray(points @ matrix.astype(points.dtype))

    def _importances(
        self, space: Array, weights: Array, rng: np.random.Generator, more: float = 1.0
    ) -> tuple[Array, Array, int, float]:
        """Cluster index (n,), dist**z to its center (n,), number of clusters, share of the cost in the probabilities."""
        centers = self._centers(space, weights, rng, more)
        index, dist_sq = nearest(space, centers)
        mix = 0.0 if self.method == "uniform" else COST_SHARE if self.method == "sensitivity" else 0.5
        return index, power_of_distance(dist_sq, self.z), len(centers), mix

    def _centers(self, space: Array, weights: Array, rng: np.random.Generator, more: float) -> Array:
        if self.method != "sensitivity":
            return (weights @ space / weights.sum())[None].astype(space.dtype)
        rows = np.arange(len(space))
        if len(space) > SEEDING_ROWS:
            # float32 draws with rejection of repeats would cost more than the few repeats do harm
            rows = rng.integers(len(space), size=SEEDING_ROWS)
        sample, sample_weights = space[rows], weights[rows]
        if not sample_weights.any():
            sample, sample_weights = space, weights
        count = round(self.centers_per_k * more * self.k)
        centers = sample[dz_seeding(sample, sample_weights, count, self.z, rng)]
        for _ in range(3):
            centers = _means(sample, sample_weights, centers)
        return centers


def _means(points: Array, weights: Array, centers: Array) -> Array:
    """One Lloyd step; a center without points stays."""
    index, _ = nearest(points, centers)
    total = np.bincount(index, weights, len(centers))
    moved = np.zeros(centers.shape)
    np.add.at(moved, index, points * weights[:, None])
    keep = total > 0
    moved[keep] /= total[keep, None]
    moved[~keep] = centers[~keep]
    return moved.astype(points.dtype)
