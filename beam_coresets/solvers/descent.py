"""Descent for weighted (k, z)-clustering: assign points to centers, move the centers, again; never costs more."""
from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.points.left_out import kept_weights, threshold
from beam_coresets.points.nearest import nearest, power_of_distance, writable

Array = npt.NDArray[Any]

FARTHEST = 2.0**40  # of points to be left out, in units of the others: squares stay in the range of float32
_COINCIDES = 1e-24  # squared distance, at unit scale, below which a center lies on a point


@fast_kernel
def _means(points, factors, index, sums, masses):  # type: ignore[no-untyped-def]
    """Sums of factor and of factor * point, per cluster."""
    sums[:] = 0.0
    masses[:] = 0.0
    for i in range(len(points)):
        j, f = index[i], factors[i]
        masses[j] += f
        for t in range(points.shape[1]):
            sums[j, t] += f * np.float64(points[i, t])


@fast_kernel
def cluster_costs(points, weights, index, centers, z, costs):  # type: ignore[no-untyped-def]
    """Writes `sum w dist**z` of each cluster's points to its center to `costs` (k,), one point after the other."""
    costs[:] = 0.0
    for i in range(len(points)):
        total = 0.0
        j = index[i]
        for t in range(points.shape[1]):
            q = np.float64(points[i, t]) - centers[j, t]
            total += q * q
        costs[j] += weights[i] * (total if z == 2.0 else np.sqrt(total) if z == 1.0 else total ** (0.5 * z))


@fast_kernel
def exact_dist_sq(points, centers, index, dist_sq):  # type: ignore[no-untyped-def]
    """Writes each point's squared distance to center `index[i]` to `dist_sq` (n,), by direct differences."""
    for i in range(len(points)):
        total = 0.0
        for t in range(points.shape[1]):
            q = np.float64(points[i, t]) - centers[index[i], t]
            total += q * q
        dist_sq[i] = total


def total_cost(dist_sq: Array, weights: Array, z: float) -> float:
    """`sum w dist**z`; not by BLAS, whose order of summation depends on its threads."""
    return float(np.einsum("n,n->", power_of_distance(dist_sq, z), weights))


def _unit_rows(centers: Array) -> Array:
    norms = np.linalg.norm(centers, axis=1, keepdims=True)
    unit: Array = centers / np.where(norms > 0, norms, 1.0)
    return unit


@dataclasses.dataclass(frozen=True, eq=False)
class Clustering:
    """Centers (k, d) float64, each point's center and squared distance, and the cost, in a problem's coordinates; where
    some weight is left out also the weights (n,) that stay, and the cost beyond which they don't."""

    centers: Array
    index: Array
    dist_sq: Array
    cost: float
    kept: Array | None = None
    threshold: float = math.inf


@dataclasses.dataclass(frozen=True, eq=False)
class CentersProblem:
    """Points at unit scale around the origin (float32 or float64, as given), positive weights, and how to go back;
    `left_out` is the weight of points that need not be served: it is those that cost the most."""

    points: Array
    weights: Array
    z: float
    cosine: bool
    origin: Array
    scale: float
    left_out: float = 0.0

    @staticmethod
    def of(points: Array, weights: Array, z: float, cosine: bool, left_out: float = 0.0) -> CentersProblem:
        """The problem in its own coordinates; unit vectors stay as they are."""
        if cosine:
            return CentersProblem(writable(points), weights, z, True, np.zeros(points.shape[1]), 1.0, left_out)
        # Shares of the total, so that the mean of huge weights stays in range; a power of two scales without rounding.
        origin: Array = np.einsum("n,nd->d", weights / weights.sum(), points, dtype=np.float64)
        if left_out:  # far points would take the mean, and with it the precision of all others, along
            half = 0.5 * float(weights.sum())
            origin = np.array([threshold(column, weights, half) for column in points.T], np.float64)
        centered = points - origin
        size = np.abs(centered).max(axis=1, initial=0.0).astype(np.float64)
        peak = float(size.max(initial=0.0))
        if left_out:
            peak = max(threshold(size, weights, left_out), peak / FARTHEST)
        scale = 2.0 ** -math.frexp(peak)[1] if peak > 0 else 1.0
        centered *= scale
        return CentersProblem(centered.astype(points.dtype), weights, z, False, origin, scale, left_out)

    @property
    def floor(self) -> float:
        """A cost that is only rounding: every point lies on a center."""
        return float(self.weights.sum()) * 1e-14**self.z

    @property
    def spread(self) -> float:
        """`sum w |p|**2`, of the points in these coordinates."""
        return float(np.einsum("n,nd,nd->", self.weights, self.points, self.points, dtype=np.float64))

    def inside(self, points: Array) -> Array:
        """Other rows in this problem's coordinates and precision."""
        return ((points - self.origin) * self.scale).astype(self.points.dtype)

    def inward(self, centers: Array) -> Array:
        """(k, d) centers in the problem's coordinates."""
        centers = np.asarray(centers, np.float64)
        return _unit_rows(centers) if self.cosine else (centers - self.origin) * self.scale

    def outward(self, centers: Array) -> Array:
        """(k, d) centers in the coordinates that points were given in."""
        return self.origin + centers / self.scale

    def clustering(self, centers: Array) -> Clustering:
        """Of the points, to the nearest of (k, d) float64 centers."""
        return self.measured(centers, *nearest(self.points, centers))

    def clustering_near(self, old: Clustering, centers: Array) -> Clustering:
        """`clustering(centers)`, by comparing only with what differs from `old.centers` where that is little."""
        changed = (centers != old.centers).any(axis=1)
        count = np.count_nonzero(changed)
        if count == 0:
            return dataclasses.replace(old, centers=centers)
        if 3 * count > len(centers):
            return self.clustering(centers)
        moved = np.flatnonzero(changed)
        index, dist_sq = nearest(self.points, centers[moved])
        closer = dist_sq < old.dist_sq
        index = np.where(closer, moved.astype(np.int32)[index], old.index)
        dist_sq = np.where(closer, dist_sq, old.dist_sq)
        lost = np.flatnonzero(changed[old.index])
        index[lost], dist_sq[lost] = nearest(self.points[lost], centers)
        return self.measured(centers, index, dist_sq)

    def measured(self, centers: Array, index: Array, dist_sq: Array) -> Clustering:
        """Of the points, each to the center (n,) that is given, at a squared distance (n,)."""
        if not self.left_out:
            return Clustering(centers, index, dist_sq, total_cost(dist_sq, self.weights, self.z))
        kept, level = kept_weights(dist_sq, self.weights, self.left_out)
        return Clustering(centers, index, dist_sq, total_cost(dist_sq, kept, self.z), kept, level ** (0.5 * self.z))

    def step(self, state: Clustering, freeze: float = 0.0) -> Array:
        """Centers that cost no more than the given ones for the same assignment.

        For z < 2 this is the reweighted mean (Weiszfeld), for z = 2 the mean: both minimise a quadratic upper bound.
        Where a center lies on a point, the step of Vardi and Zhang, *The multivariate L1-median* (PNAS 2000). For z > 2
        and for centers on points no bound holds, and the step is halved until the cluster's cost does not grow.
        Centers whose move would gain less than `freeze` of the cost stay.
        """
        centers, index, dist_sq, z = state.centers, state.index, state.dist_sq, self.z
        weights = self.weights if state.kept is None else state.kept
        touching = np.False_ if z == 2 else dist_sq <= _COINCIDES
        if z == 2:
            factors = weights
        else:
            power = np.where(touching, 1.0, dist_sq).astype(np.float64) ** (0.5 * (z - 2))
            factors = np.where(touching & (z < 2), 0.0, weights * power)
        sums, masses = np.empty(centers.shape), np.empty(len(centers))
        _means(self.points, factors, index, sums, masses)
        target = np.divide(sums, masses[:, None], out=centers.copy(), where=masses[:, None] > 0)
        target = self.on_sphere(target, centers)
        if freeze > 0:
            gain = 0.5 * z * masses * np.einsum("kd,kd->k", target - centers, target - centers)
            target = np.where((gain < freeze * state.cost)[:, None], centers, target)
        if z == 2 or (z < 2 and not touching.any()):
            return target
        length = np.full(len(centers), 1.0 if z < 2 else 1.0 / (z - 1))
        if z == 1:
            here = np.bincount(index, np.where(touching, weights, 0.0), len(centers))
            pull = masses * np.linalg.norm(target - centers, axis=1)
            length = np.clip(1.0 - here / np.where(pull > 0, pull, 1.0), 0.0, 1.0)
        return self._halved(centers, target, index, weights, length)

    def on_sphere(self, target: Array, centers: Array) -> Array:
        """The target (k, d), under the cosine metric at unit length; `centers` where it is too near to the middle."""
        if not self.cosine:
            return target
        return np.where(np.linalg.norm(target, axis=1, keepdims=True) > 1e-9, _unit_rows(target), centers)

    def _halved(self, centers: Array, target: Array, index: Array, weights: Array, length: Array) -> Array:
        """centers + length * (target - centers), with `length` halved per cluster until no cluster's cost grows."""
        before, after = np.empty(len(centers)), np.empty(len(centers))
        cluster_costs(self.points, weights, index, centers, self.z, before)
        for _ in range(30):
            moved = centers + length[:, None] * (target - centers)
            if self.cosine:
                moved = _unit_rows(moved)
            cluster_costs(self.points, weights, index, moved, self.z, after)
            worse = after > before
            if not worse.any():
                return moved
            length = np.where(worse, 0.5 * length, length)
        return np.where(worse[:, None], centers, moved)

    def descend(
        self, start: Clustering, max_iter: int, tol: float, freeze: float = 0.0, goal: float = math.inf
    ) -> tuple[Clustering, int]:
        """Iterates `step` until an iteration gains at most tol of the cost; returns the last state and the iterations.

        Clusters without points are re-seeded at the rows that cost most, which costs nothing.

        Args:
          start: where to begin.
          max_iter: limit of iterations.
          tol: relative gain that ends the descent.
          freeze: a center stays where it is if moving it would gain less than this share of the cost, so that what
            happens far from a swap is not computed again.
          goal: gives up when four more gains like the last would not bring the cost below it.
        """
        best, floor = start, self.floor
        for iteration in range(max_iter):
            if best.cost <= floor:
                return best, iteration
            all_used = bool((np.bincount(best.index, minlength=len(best.centers)) > 0).all())
            state = self.clustering_near(best, self.moved(best, freeze))
            gained = best.cost - state.cost
            if gained > 0:
                best = state
            if gained <= (tol * best.cost if all_used else 0) or best.cost - 4 * gained > goal:
                return best, iteration + 1
        return best, max_iter

    def moved(self, state: Clustering, freeze: float = 0.0) -> Array:
        """`step`, with centers that no point is nearest to on the rows that cost most."""
        unused = np.bincount(state.index, minlength=len(state.centers)) == 0
        centers = self.step(state, freeze)
        if unused.any():
            centers[unused] = self._costliest(state, int(unused.sum()))
        return centers

    def _costliest(self, state: Clustering, count: int) -> Array:
        """`count` rows to put unused centers on: those that cost most, of what stays."""
        cost = (self.weights if state.kept is None else state.kept) * power_of_distance(state.dist_sq, self.z)
        rows = np.argsort(-cost, kind="stable")[:count]
        return np.resize(self.points[rows].astype(np.float64), (count, self.points.shape[1]))
