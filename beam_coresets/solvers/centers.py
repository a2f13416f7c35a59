"""Weighted (k, z)-clustering: centers C that make `sum_p w(p) min_c dist(p, c)**z` small, for any z >= 1.

D^z seeding, then alternately a swap local search and a descent (Lloyd for z = 2, Weiszfeld-type steps otherwise), from
several starts; the best start is improved by swaps that are judged after a short descent (Fraenti, *Efficiency of
random swap clustering*, 2018). Of many points the search goes over a sample, and the last descent over all of them
(`beam_coresets.solvers.many_points`).
"""
from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator
from beam_coresets.points.left_out import kept_weights, trimmed_seeding
from beam_coresets.points.nearest import MATRIX_DIM, Metric, nearest, writable
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.solvers import many
from beam_coresets.solvers.descent import CentersProblem, Clustering, cluster_costs, exact_dist_sq, total_cost
from beam_coresets.solvers.many_points import on_all, searched
from beam_coresets.solvers.principal import Principal
from beam_coresets.solvers.swaps import SwapSearch

Array = npt.NDArray[Any]

_SEARCH_TOL = 1e-4  # relative gain of an iteration below which a descent inside the search ends
_LAST_TOL = 1e-9  # that of the last descent
_FREEZE = 1e-5  # a judged swap leaves centers alone that would gain less than this share of the cost per center
_BUDGET = 1e9  # multiply-adds for the first part of a search, by default; four times as many for the judged swaps
_MOST_RESTARTS = 8
ROUNDING_SQ = 1e-30  # squared distance, at unit scale, that is only rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Centers and what they cost.

    Attributes:
      centers: (k', d) float64; k' < k where there are fewer distinct points than k.
      cost: `sum_p w(p) dist(p, centers)**z`, of what is not left out, by direct differences in float64; for the cosine
        metric `dist**z` is `(dist**2 / 2)**(z / 2)`, which is 1 - cos at z = 2.
      index: (n,) int32, the center of each row, rows of weight zero included.
      iterations: descent iterations, over all starts.
    """

    centers: Array
    cost: float
    index: npt.NDArray[np.int32]
    iterations: int


@dataclasses.dataclass(frozen=True)
class _Effort:
    """How many starts, swap trials a start, and judged swaps a search makes, by the size of the problem."""

    restarts: int
    trials: int
    judged: int

    @staticmethod
    def of(shape: tuple[int, ...], k: int, restarts: int | None, swaps: int | None) -> _Effort:
        n, d = shape
        iteration = n * k * d / (8 if d >= MATRIX_DIM else 1)  # a matrix product is about eight times as fast
        trial = n * (d + 4) + 10_000
        trials = int(np.clip(_BUDGET / trial, k, 25 * k)) if swaps is None else swaps
        if restarts is None:
            restarts = int(np.clip(_BUDGET / (20 * iteration + trials * trial), 1, _MOST_RESTARTS))
        # Most of a judged swap's iterations touch a few clusters only.
        attempt = 2 * iteration + 10 * n * d + 300_000
        judged = int(np.clip(4 * _BUDGET / attempt, 0, 20 * k)) if swaps is None else swaps
        return _Effort(restarts, trials if k > 1 else 0, judged if k > 1 else 0)


def _start(problem: CentersProblem, k: int, init: Array | None, rng: np.random.Generator) -> Array:
    """Centers to start from; fewer than k only where there are fewer distinct points, and then all of these."""
    candidates = 2 + int(math.log(k))
    if problem.left_out:
        rows = trimmed_seeding(problem.points, problem.weights, k, problem.z, problem.left_out, rng, candidates)
    else:
        rows = dz_seeding(problem.points, problem.weights, k, problem.z, rng, candidates)
    seeded = problem.points[rows].astype(np.float64)
    return seeded if init is None or len(rows) < k else np.concatenate([init, seeded[: k - len(init)]])


def _many(
    problem: CentersProblem, principal: Principal | None, k: int, init: Array | None, seed: int, max_iter: int
) -> tuple[Clustering, int]:
    """Thousands of centers, in the coordinates of all columns, and how many iterations there were."""
    rows = many.grouped_seeds(problem, k, generator(seed, "solve_centers", "many"))
    centers = problem.points[rows].astype(np.float64)
    if init is not None:
        centers = np.concatenate([init, centers])[:k]
    iterations = min(max_iter, many.LIST_ITERATIONS)
    state, used = many.descend(problem, centers, iterations, many.TOL)
    if principal is not None:
        state, more = many.descend(principal.wide, principal.outward(state), iterations // 3, many.TOL)
        used += more
    return state, used


def _search(
    problem: CentersProblem, state: Clustering, trials: int, rng: np.random.Generator
) -> tuple[Clustering, int]:
    """Swaps and short descents in turn, until `trials` candidates have been tried."""
    state, iterations = problem.descend(state, 5, _SEARCH_TOL)
    k = len(state.centers)
    swap_search = SwapSearch(problem.points, problem.weights, problem.z)
    while trials > 0 and state.cost > problem.floor:
        moved, swaps, tried = swap_search.run(
            state.centers, rng.random(min(trials, 4 * k)), 1 + k // 10, threshold=state.threshold
        )
        trials -= tried
        if not swaps:
            continue
        lower, used = problem.descend(problem.clustering(moved.astype(np.float64)), 3, _SEARCH_TOL)
        iterations += used
        if lower.cost < state.cost:
            state = lower
    state, used = problem.descend(state, 30, _SEARCH_TOL)
    return state, iterations + used


def _judged_swaps(
    problem: CentersProblem, state: Clustering, attempts: int, rng: np.random.Generator
) -> tuple[Clustering, int]:
    """Makes one swap after another, judges each after a descent of what is near it, and keeps what is cheaper."""
    iterations, k = 0, len(state.centers)
    swap_search = SwapSearch(problem.points, problem.weights, problem.z)
    propose = swap_search.proposer(state.centers, state.threshold)
    for _ in range(attempts):
        # Half of the time the cheapest removal, a quarter the next, and so on: always the cheapest goes in circles.
        row, center = propose(rng.random(), int(rng.geometric(0.5)) - 1)
        if row < 0:
            break
        centers = state.centers.copy()
        centers[center] = problem.points[row]
        moved, used = problem.descend(problem.clustering_near(state, centers), 20, 1e-5, _FREEZE / k, state.cost)
        iterations += used
        if moved.cost < state.cost * (1 - 1e-6):
            state = moved
            propose = swap_search.proposer(state.centers, state.threshold)
    return state, iterations


def _snapped(problem: CentersProblem, state: Clustering) -> Clustering:
    """Puts each center on its nearest point where that is cheaper.

    For z = 1 the optimum is often a heavy point, which Weiszfeld's steps only approach.
    """
    order = np.lexsort((state.dist_sq, state.index))
    used, at = np.unique(state.index[order], return_index=True)
    target = state.centers.copy()
    target[used] = problem.points[order[at]]
    before, after = np.empty(len(target)), np.empty(len(target))
    weights = problem.weights if state.kept is None else state.kept
    cluster_costs(problem.points, weights, state.index, state.centers, problem.z, before)
    cluster_costs(problem.points, weights, state.index, target, problem.z, after)
    return problem.clustering_near(state, np.where((after < before)[:, None], target, state.centers))


def _solution(data: _Data, problem: CentersProblem, state: Clustering, iterations: int) -> Solution:
    """Back to the user's coordinates; the cost is measured on the user's own rows."""
    if state.cost <= problem.floor:  # more centers than distinct points: some are repetitions
        state = problem.clustering(state.centers[np.unique(state.index)])
    kept = data.points[data.kept]
    centers = _at_points(problem, state, problem.outward(state.centers), kept)
    dist_sq = np.empty(len(kept))
    exact_dist_sq(kept, centers, state.index, dist_sq)
    weights = kept_weights(dist_sq, problem.weights, problem.left_out)[0]
    cost = total_cost(0.5 * dist_sq if problem.cosine else dist_sq, weights, problem.z)
    index = np.empty(len(data.points), np.int32)
    index[data.kept] = state.index
    if not data.kept.all():
        index[~data.kept] = nearest(problem.inside(data.points[~data.kept]), state.centers)[0]
    return Solution(centers, cost, index, iterations)


def _at_points(problem: CentersProblem, state: Clustering, centers: Array, points: Array) -> Array:
    """The centers, where they lie on a point at just that point: there and back they may have been rounded."""
    if problem.points.dtype != np.float64:
        return centers
    if not (state.dist_sq <= ROUNDING_SQ).any():
        return centers
    order = np.lexsort((state.dist_sq, state.index))
    used, at = np.unique(state.index[order], return_index=True)
    rows = order[at]
    on = state.dist_sq[rows] <= ROUNDING_SQ
    centers[used[on]] = points[rows[on]]
    return centers


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
        if not z >= 1:
            raise ValueError(f"z: must be at least 1, got {z}")
        if math.isinf(z):
            raise ValueError(f"z: must be at least 1 and finite, got {z}")
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric: must be 'euclidean' or 'cosine', got {metric!r}")
        wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
        if len(wrong):
            raise ValueError(f"weights: must be finite and not negative, got {wrong[0]}")
        kept = weights > 0
        if not kept.any():
            raise ValueError(f"weights: at least one point must have positive weight, got none of {len(weights)}")
        not_finite = kept & ~np.isfinite(points.sum(axis=1, dtype=np.float64))
        if not_finite.any():
            raise ValueError(f"points: must be finite, got {points[not_finite][0]}")
        if metric == "cosine":
            norms = np.linalg.norm(points[kept], axis=1)
            if np.abs(norms - 1).max() > 1e-3:
                raise ValueError(f"points: rows must have length 1 for cosine, got {norms[np.abs(norms - 1).argmax()]}")
        return _Data(writable(points), weights, kept)

    def problem(self, z: float, metric: Metric, left_out: float = 0.0, double: bool = False) -> CentersProblem:
        points = self.points[self.kept]
        points = points.astype(np.float64) if double else points
        return CentersProblem.of(points, self.weights[self.kept], z, metric == "cosine", left_out)

    def sharpened(
        self, problem: CentersProblem, state: Clustering, metric: Metric, max_iter: int, tol: float
    ) -> tuple[CentersProblem, Clustering, int]:
        """What a search has found, after a descent in float64: for z = 2 centers are the means of the rows as they are,
        also where nothing is gained any more but digits."""
        iterations = 0
        if problem.points.dtype == np.float32:
            problem = self.problem(problem.z, metric, problem.left_out, double=True)
            state, iterations = problem.descend(problem.clustering(state.centers), max_iter, tol)
        if problem.z == 2 and max_iter:
            means = problem.clustering(problem.step(state))
            state = means if means.cost <= state.cost * (1 + 1e-12) else state
        return problem, state, iterations


def _checked_centers(name: str, centers: Array, dim: int, most: int | None = None) -> Array:
    centers = np.asarray(centers, np.float64)
    if centers.ndim != 2 or not len(centers) or centers.shape[1] != dim or (most is not None and len(centers) > most):
        count = "at least 1 row" if most is None else f"1 to {most} rows"
        raise ValueError(f"{name}: must be {count} of {dim} columns, got shape {centers.shape}")
    if not np.isfinite(centers).all():
        raise ValueError(f"{name}: must be finite, got {centers[~np.isfinite(centers).all(axis=1)][0]}")
    return centers


def _require_at_least(least: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < least:
            raise ValueError(f"{name}: must be at least {least}, got {number}")


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
    left_out: float = 0.0,
    sharpened: bool = True,
) -> Solution:
    """Centers of a weighted (k, z)-clustering, by seeding, descent and swap local search from several starts.

    Lattanzi and Sohler (2019), Theorem 1: O(k log log k) swap trials after D^2 seeding make a constant-factor solution
    in expectation, for k-means; the number of trials here goes by the size of the problem, not by the theorem. Wide
    points are searched, for z = 2, in their principal components (`beam_coresets.solvers.principal`). A thousand
    centers and more are found group by group, without swaps and restarts (`beam_coresets.solvers.many`).

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
      max_iter: limit of the last descent; 0 for none, whatever it would gain or make more precise.
      left_out: weight that is left out, of the points that are worst to serve: seeding, descent and swaps then go by
        `beam_coresets.points.left_out`, and so does the cost. `index` has those points' nearest centers, too.
      sharpened: whether the last descent goes on to the last digits, in float64 where points are float32.

    Raises:
      ValueError: k < 1, z < 1, an unknown metric, weights negative or all zero, points not finite, rows not of unit
        length for cosine, shapes that differ, or `left_out` not below the total weight.
    """
    data = _Data.of(points, weights, z, metric)
    _require_at_least(1, k=k, restarts=restarts)
    _require_at_least(0, swaps=swaps, max_iter=max_iter)
    total = float(data.weights.sum())
    if not 0 <= left_out < total:
        raise ValueError(f"left_out: must be from 0 to less than the total weight {total:g}, got {left_out:g}")
    whole = data.problem(z, metric, left_out)
    in_groups = k >= many.FROM_CENTERS and len(whole.points) > 2 * k and not left_out
    problem = whole if in_groups else searched(whole, k, generator(seed, "solve_centers", "searched"))
    first = None if init is None else problem.inward(_checked_centers("init", init, problem.points.shape[1], k))
    principal = Principal.of(problem)
    if principal is not None:
        problem, first = principal.problem, None if first is None else principal.inward(first)
    if in_groups:
        state, iterations = _many(problem, principal, k, first, seed, max_iter)
        return _solution(data, whole, state, iterations)
    effort = _Effort.of(problem.points.shape, k, restarts, swaps)
    best: Clustering | None = None
    iterations = 0
    for restart in range(effort.restarts):
        rng = generator(seed, "solve_centers", restart)
        centers = _start(problem, k, first if restart == 0 else None, rng)
        if len(centers) < k and (problem is not whole or problem.points.dtype == np.float32):
            # In float32, in fewer columns, and in a sample, distinct points may be fewer.
            problem = whole = data.problem(z, metric, left_out, double=True)
            principal, best = None, None
            first = None if init is None else problem.inward(_checked_centers("init", init, problem.points.shape[1], k))
            centers = _start(problem, k, first if restart == 0 else None, generator(seed, "solve_centers", restart))
        if len(centers) < k:  # every distinct point is a center
            return _solution(data, problem, problem.clustering(centers), 0)
        state, used = _search(problem, problem.clustering(centers), effort.trials, rng)
        iterations += used
        if best is None or state.cost < best.cost:
            best = state
    assert best is not None
    if effort.judged:
        best, used = _judged_swaps(problem, best, effort.judged, generator(seed, "solve_centers", "judged"))
        iterations += used
    tol = _LAST_TOL if sharpened else _SEARCH_TOL / 100
    if principal is not None:
        best, used = problem.descend(best, max_iter, tol)  # so that little is left to do in all columns
        iterations += used
    if problem is not whole:
        found = best.centers if principal is None else principal.outward(best)
        sampled = principal is None or principal.wide is not whole
        best, used = on_all(whole, found, max_iter, tol) if sampled else (whole.clustering(found), 0)
        problem, iterations = whole, iterations + used
    if max_iter:
        best, used = problem.descend(best, max_iter, tol)
        iterations += used
        if sharpened:
            problem, best, last = data.sharpened(problem, best, metric, max_iter, tol)
            iterations += last
    if z == 1 and metric == "euclidean":
        best = _snapped(problem, best)
    return _solution(data, problem, best, iterations)


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
      A solution that costs no more than `centers` do; with repetitions dropped where distinct points are fewer.

    Raises:
      ValueError: as `solve_centers`, or centers of another width.
    """
    data = _Data.of(points, weights, z, metric)
    _require_at_least(0, max_iter=max_iter)
    problem = data.problem(z, metric)
    start = problem.inward(_checked_centers("centers", centers, problem.points.shape[1]))
    best, iterations = problem.descend(problem.clustering(start), max_iter, tol)
    problem, best, last = data.sharpened(problem, best, metric, min(max_iter, 1), tol)
    return _solution(data, problem, best, iterations + last)
