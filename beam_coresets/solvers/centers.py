"""Weighted (k, z)-clustering: centers C that make `sum_p w(p) min_c dist(p, c)**z` small, for any z >= 1.

D^z seeding, then alternately a swap local search and a descent (Lloyd for z = 2, Weiszfeld-type steps otherwise), from
several starts; the best start is improved by swaps that are judged after a short descent (Fraenti, *Efficiency of random
swap clustering*, 2018).
"""
from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.hashing import generator
from beam_coresets.nearest import MATRIX_DIM, nearest, power_of_distance, writable
from beam_coresets.seeding import dz_seeding
from beam_coresets.solvers.swaps import SwapSearch

Array = npt.NDArray[Any]
Metric = Literal["euclidean", "cosine"]

_SEARCH_TOL = 1e-4  # relative gain of an iteration below which a descent inside the search ends
_COINCIDES = 1e-24  # squared distance, at unit scale, below which a center lies on a point
_BUDGET = 3e8  # multiply-adds that a search spends by default, for points where that is worth it


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Centers and what they cost.

    Attributes:
      centers: (k', d) float64; k' < k where there are fewer distinct points than k.
      cost: `sum_p w(p) dist(p, centers)**z`, by direct differences in float64; for the cosine metric the distance to the
        power z is `(dist**2 / 2)**(z / 2)`, which is 1 - cos at z = 2.
      index: (n,) int32, the center of each row, rows of weight zero included.
      iterations: descent iterations, over all starts.
    """

    centers: Array
    cost: float
    index: npt.NDArray[np.int32]
    iterations: int


# ---------------------------------------------------------------- one step of a descent


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
def _cluster_costs(points, weights, index, centers, z, costs):  # type: ignore[no-untyped-def]
    costs[:] = 0.0
    for i in range(len(points)):
        total = 0.0
        j = index[i]
        for t in range(points.shape[1]):
            q = np.float64(points[i, t]) - centers[j, t]
            total += q * q
        costs[j] += weights[i] * (total if z == 2.0 else np.sqrt(total) if z == 1.0 else total ** (0.5 * z))


@fast_kernel
def _exact_dist_sq(points, centers, index, dist_sq):  # type: ignore[no-untyped-def]
    for i in range(len(points)):
        total = 0.0
        for t in range(points.shape[1]):
            q = np.float64(points[i, t]) - centers[index[i], t]
            total += q * q
        dist_sq[i] = total


def _unit_rows(centers: Array) -> Array:
    norms = np.linalg.norm(centers, axis=1, keepdims=True)
    return centers / np.where(norms > 0, norms, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Problem:
    """Points at unit scale around the origin (float32 or float64, as given), positive weights, and how to go back."""

    points: Array
    weights: Array
    z: float
    cosine: bool
    origin: Array
    scale: float

    @staticmethod
    def of(points: Array, weights: Array, z: float, metric: Metric) -> _Problem:
        cosine = metric == "cosine"
        if cosine:
            return _Problem(writable(points), weights, z, True, np.zeros(points.shape[1]), 1.0)
        # Shares of the total, so that the mean of huge weights stays in range; a power of two scales without rounding.
        origin = (weights / weights.sum()) @ points.astype(np.float64, copy=False)
        centered = points - origin
        peak = float(np.abs(centered).max(initial=0.0))
        scale = 2.0 ** -math.frexp(peak)[1] if peak > 0 else 1.0
        centered *= scale
        return _Problem(centered.astype(points.dtype), weights, z, False, origin, scale)

    @property
    def floor(self) -> float:
        """A cost that is only rounding: every point lies on a center."""
        return float(self.weights.sum()) * 1e-14**self.z

    def inside(self, points: Array) -> Array:
        """Other rows in this problem's coordinates and precision."""
        return ((points - self.origin) * self.scale).astype(self.points.dtype)

    def inward(self, centers: Array) -> Array:
        centers = np.asarray(centers, np.float64)
        return _unit_rows(centers) if self.cosine else (centers - self.origin) * self.scale

    def outward(self, centers: Array) -> Array:
        return self.origin + centers / self.scale

    def assign(self, centers: Array) -> tuple[Array, Array, float]:
        """Index, squared distances and cost of the (k, d) float64 centers."""
        index, dist_sq = nearest(self.points, centers)
        return index, dist_sq, float(power_of_distance(dist_sq, self.z) @ self.weights)

    def step(self, centers: Array, index: Array, dist_sq: Array) -> Array:
        """Centers that cost no more than the given ones for the same assignment.

        For z < 2 this is the reweighted mean (Weiszfeld), for z = 2 the mean: both minimise a quadratic upper bound. Where
        a center lies on a point, the step of Vardi and Zhang, *The multivariate L1-median* (PNAS 2000). For z > 2 and
        for centers on points no bound holds, and the step is halved until the cluster's cost does not grow.
        """
        z, touching = self.z, dist_sq <= _COINCIDES
        if z == 2:
            factors = self.weights
        else:
            power = np.where(touching, 1.0, dist_sq).astype(np.float64) ** (0.5 * (z - 2))
            factors = np.where(touching & (z < 2), 0.0, self.weights * power)
        sums, masses = np.empty(centers.shape), np.empty(len(centers))
        _means(self.points, factors, index, sums, masses)
        target = np.where(masses[:, None] > 0, sums / np.where(masses > 0, masses, 1.0)[:, None], centers)
        if self.cosine:
            target = np.where(np.linalg.norm(target, axis=1, keepdims=True) > 1e-9, _unit_rows(target), centers)
        if z == 2 or (z < 2 and not touching.any()):
            return target
        length = np.full(len(centers), 1.0 if z < 2 else 1.0 / (z - 1))
        if z == 1:
            here = np.bincount(index, np.where(touching, self.weights, 0.0), len(centers))
            pull = masses * np.linalg.norm(target - centers, axis=1)
            length = np.clip(1.0 - here / np.where(pull > 0, pull, 1.0), 0.0, 1.0)
        return self._halved(centers, target, index, length)

    def _halved(self, centers: Array, target: Array, index: Array, length: Array) -> Array:
        """centers + length * (target - centers), with `length` halved per cluster until no cluster's cost grows."""
        before, after = np.empty(len(centers)), np.empty(len(centers))
        _cluster_costs(self.points, self.weights, index, centers, self.z, before)
        for _ in range(30):
            moved = centers + length[:, None] * (target - centers)
            if self.cosine:
                moved = _unit_rows(moved)
            _cluster_costs(self.points, self.weights, index, moved, self.z, after)
            worse = after > before
            if not worse.any():
                return moved
            length = np.where(worse, 0.5 * length, length)
        return np.where(worse[:, None], centers, moved)

    def descend(self, centers: Array, max_iter: int, tol: float) -> tuple[Array, float, int]:
        """Iterates `step` until an iteration gains less than tol of the cost; returns centers, their cost, iterations.

        Clusters without points are re-seeded at the rows that cost most, which costs nothing.
        """
        best, best_cost, iterations = centers, math.inf, 0
        while True:
            index, dist_sq, cost = self.assign(centers)
            if not cost < best_cost:
                return best, best_cost, iterations
            used = np.bincount(index, minlength=len(centers)) > 0
            settled = best_cost - cost <= tol * cost and used.all()
            best, best_cost = centers, cost
            if iterations >= max_iter or settled or cost <= self.floor:
                return best, best_cost, iterations
            centers = self.step(centers, index, dist_sq)
            if not used.all():
                centers[~used] = self._costliest(dist_sq, int((~used).sum()))
            iterations += 1

    def _costliest(self, dist_sq: Array, count: int) -> Array:
        """`count` rows to put unused centers on: those that cost most, or repetitions where fewer rows cost anything."""
        cost = self.weights * power_of_distance(dist_sq, self.z)
        rows = np.lexsort((np.arange(len(cost)), -cost))[:count]
        return np.resize(self.points[rows].astype(np.float64), (count, self.points.shape[1]))


# ---------------------------------------------------------------- the search


@dataclasses.dataclass(frozen=True)
class _Effort:
    """How many starts, swap trials and judged swaps a search makes, by the size of the problem."""

    restarts: int
    trials: int
    judged: int

    @staticmethod
    def of(n: int, d: int, k: int, restarts: int | None, swaps: int | None) -> _Effort:
        # A matrix product does about eight times the multiply-adds of the blocked kernel.
        iteration = n * k * d / (8 if d >= MATRIX_DIM else 1) + 40_000
        trial = n * (d + 4) + 10_000
        trials = int(np.clip(0.5 * _BUDGET / trial, k, 50 * k)) if swaps is None else swaps
        if restarts is None:
            restarts = int(np.clip(0.5 * _BUDGET / (20 * iteration + trials * trial), 1, 8))
        judged = int(np.clip(_BUDGET / (6 * iteration), 0, 20 * k)) if swaps is None else swaps
        return _Effort(restarts, trials, judged)


def _start(problem: _Problem, k: int, init: Array | None, rng: np.random.Generator) -> tuple[Array, int]:
    """Centers to start from, and how many distinct points the seeding found (at most k)."""
    rows = dz_seeding(problem.points, problem.weights, k, problem.z, rng, candidates=2 + int(math.log(k)))
    seeded = problem.points[rows].astype(np.float64)
    if init is None or len(rows) < k:
        return seeded, len(rows)
    return np.concatenate([init, seeded[: k - len(init)]]), k


def _search(problem: _Problem, centers: Array, trials: int, rng: np.random.Generator) -> tuple[Array, float, int]:
    """Swaps and short descents in turn, until `trials` candidates are used up or a whole round of them found nothing."""
    centers, cost, iterations = problem.descend(centers, 5, _SEARCH_TOL)
    k = len(centers)
    swap_search = SwapSearch(problem.points, problem.weights, problem.z)
    while trials > 0 and cost > 0:
        moved, swaps, tried = swap_search.run(centers, rng.random(min(trials, 4 * k)), 1 + k // 10)
        trials -= tried
        if not swaps:
            continue
        lower, lower_cost, used = problem.descend(moved.astype(np.float64), 3, _SEARCH_TOL)
        iterations += used
        if lower_cost < cost:
            centers, cost = lower, lower_cost
    centers, cost, used = problem.descend(centers, 30, _SEARCH_TOL)
    return centers, cost, iterations + used


def _judged_swaps(
    problem: _Problem, centers: Array, cost: float, attempts: int, rng: np.random.Generator
) -> tuple[Array, float, int]:
    """Forces one drawn swap after another, descends a little, and keeps what is cheaper."""
    iterations = 0
    swap_search = SwapSearch(problem.points, problem.weights, problem.z)
    for _ in range(attempts if cost > 0 else 0):
        moved = swap_search.propose(centers, rng.random(1)).astype(np.float64)
        moved, moved_cost, used = problem.descend(moved, 4, _SEARCH_TOL)
        iterations += used
        if moved_cost < cost * (1 + 1e-3):  # close enough that a longer descent may decide it
            moved, moved_cost, used = problem.descend(moved, 15, 1e-6)
            iterations += used
        if moved_cost < cost * (1 - 1e-6):
            centers, cost = moved, moved_cost
    return centers, cost, iterations


def _snapped(problem: _Problem, centers: Array) -> Array:
    """For z = 1 a heavy point is often the optimum, which Weiszfeld's steps only approach: goes there where it is cheaper."""
    index, dist_sq, _ = problem.assign(centers)
    order = np.lexsort((dist_sq, index))
    rows = order[np.searchsorted(index[order], np.arange(len(centers)))[np.unique(index)]]
    target = centers.copy()
    target[index[rows]] = problem.points[rows]
    before, after = np.empty(len(centers)), np.empty(len(centers))
    _cluster_costs(problem.points, problem.weights, index, centers, problem.z, before)
    _cluster_costs(problem.points, problem.weights, index, target, problem.z, after)
    return np.where((after < before)[:, None], target, centers)


def _solution(data: _Data, problem: _Problem, centers: Array, iterations: int) -> Solution:
    """Back to the user's coordinates; the cost is measured on the user's own rows."""
    inner, _, cost = problem.assign(centers)
    if cost <= problem.floor:  # more centers than distinct points: some are repetitions
        centers = centers[np.unique(inner)]
        inner, _, _ = problem.assign(centers)
    final = problem.outward(centers)
    kept = data.points[data.kept]
    dist_sq = np.empty(len(kept))
    _exact_dist_sq(kept, final, inner, dist_sq)
    exact = float(power_of_distance(0.5 * dist_sq if problem.cosine else dist_sq, problem.z) @ problem.weights)
    index = np.empty(len(data.points), np.int32)
    index[data.kept] = inner
    if not data.kept.all():
        index[~data.kept] = nearest(problem.inside(data.points[~data.kept]), centers)[0]
    return Solution(final, exact, index, iterations)


@dataclasses.dataclass(frozen=True, eq=False)
class _Data:
    """Checked input: points (n, d) float32 or float64, weights (n,) float64, and which rows have weight."""

    points: Array
    weights: Array
    kept: npt.NDArray[np.bool_]

    @staticmethod
    def of(points: Array, weights: Array, z: float, metric: str) -> _Data:
        points = np.asarray(points)
        if points.dtype not in (np.float32, np.float64):
            points = points.astype(np.float64)
        weights = np.asarray(weights, np.float64)
        if points.ndim != 2 or weights.shape != points.shape[:1]:
            raise ValueError(
                f"weights: must be one for each row of 2-d points, got {weights.shape} for points {points.shape}"
            )
        if not z >= 1 or not math.isfinite(z):
            raise ValueError(f"z: must be at least 1, got {z}")
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric: must be 'euclidean' or 'cosine', got {metric!r}")
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"weights: must be finite and not negative, got {weights[~(weights >= 0)][:1]}")
        kept = weights > 0
        if not kept.any():
            raise ValueError(f"weights: at least one point must have positive weight, got none of {len(weights)}")
        if not np.isfinite(points[kept]).all():
            raise ValueError("points: must be finite, got NaN or infinity")
        if metric == "cosine":
            norms = np.linalg.norm(points[kept], axis=1)
            if np.abs(norms - 1).max() > 1e-3:
                raise ValueError(f"points: rows must have length 1 for cosine, got {norms[np.abs(norms - 1).argmax()]}")
        return _Data(writable(points), weights, kept)


def _checked_centers(name: str, centers: Array, dim: int, most: int | None = None) -> Array:
    centers = np.asarray(centers, np.float64)
    if centers.ndim != 2 or not len(centers) or centers.shape[1] != dim or (most is not None and len(centers) > most):
        limit = "" if most is None else f" at most k = {most}"
        raise ValueError(f"{name}: must be{limit} rows of {dim} columns, got shape {centers.shape}")
    return centers


def solve_centers(
    points: Array,
    weights: Array,
    k: int,
    z: float = 2.0,
    *,
    seed: int = 0,
    restarts: int | None = None,
    metric: Metric = "euclidean",
    init: Array | None = None,
    swaps: int | None = None,
    max_iter: int = 300,
) -> Solution:
    """Centers of a weighted (k, z)-clustering, by seeding, descent and swap local search from several starts.

    Lattanzi and Sohler (2019), Theorem 1: O(k log log k) swap trials after D^2 seeding make a constant-factor solution in
    expectation, for k-means; the number of trials here goes by the size of the problem, not by the theorem.

    Args:
      points: (n, d) float32 or float64 (others become float64); unit rows for the cosine metric. Searched in their own
        precision after their mean is taken off.
      weights: (n,) non-negative. Rows of weight zero change nothing.
      k: how many centers.
      z: the power of the distance, at least 1: 1 for k-median, 2 for k-means.
      seed: of all random draws; the same input and seed give the same solution.
      restarts: how many starts; by default 1 to 8, fewer for larger problems.
      metric: "cosine" keeps the centers at unit length and reports 1 - cos (at z = 2).
      init: (at most k, d) centers for the first start, completed by seeding.
      swaps: candidates tried per start, and then again on the best start; 0 turns swaps off; by default by size.
      max_iter: limit of the last descent.

    Raises:
      ValueError: k < 1, z < 1, an unknown metric, weights negative or all zero, points not finite, or shapes that differ.
    """
    data = _Data.of(points, weights, z, metric)
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    problem = _Problem.of(data.points[data.kept], data.weights[data.kept], z, metric)
    first = None if init is None else problem.inward(_checked_centers("init", init, problem.points.shape[1], k))
    effort = _Effort.of(*problem.points.shape, k, restarts, swaps)
    best, best_cost, iterations = np.empty((0, 0)), math.inf, 0
    for restart in range(effort.restarts):
        rng = generator(seed, "solve_centers", restart)
        centers, distinct = _start(problem, k, first if restart == 0 else None, rng)
        if distinct < k:  # every distinct point is a center
            return _solution(data, problem, centers, 0)
        centers, cost, used = _search(problem, centers, effort.trials if k > 1 else 0, rng)
        iterations += used
        if cost < best_cost:
            best, best_cost = centers, cost
    rng = generator(seed, "solve_centers", "judged")
    best, best_cost, used = _judged_swaps(problem, best, best_cost, effort.judged if k > 1 else 0, rng)
    best, _, more = problem.descend(best, max_iter, 1e-9)
    if z == 1 and not problem.cosine:
        best = _snapped(problem, best)
    return _solution(data, problem, best, iterations + used + more)


def refine(
    points: Array,
    weights: Array,
    centers: Array,
    z: float = 2.0,
    *,
    metric: Metric = "euclidean",
    max_iter: int = 20,
    tol: float = 1e-6,
) -> Solution:
    """Descends from the given centers, without any random draw; row j of the result has grown out of row j given.

    Args:
      points: (n, d), weights (n,) and z as for `solve_centers`.
      centers: (k, d) to start from. One that no point is nearest to moves to the row that costs most.
      max_iter: limit of iterations; 0 only measures.
      tol: stops when an iteration gains less than this share of the cost.

    Returns:
      A solution that costs no more than `centers` do. Repeated centers are dropped where there are fewer distinct points.

    Raises:
      ValueError: as `solve_centers`, or centers of another width.
    """
    data = _Data.of(points, weights, z, metric)
    problem = _Problem.of(data.points[data.kept], data.weights[data.kept], z, metric)
    start = problem.inward(_checked_centers("centers", centers, problem.points.shape[1]))
    best, _, iterations = problem.descend(start, max_iter, tol)
    return _solution(data, problem, best, iterations)
