"""Weighted (r, k)-subspace clustering: k flats of dimension r that make `sum_p w(p) min_L dist(p, L)**2` small.

The search is that of `flat_search`: on a coreset where there are many rows and in the leading directions where there
are many dimensions, then a descent on all of them. No constant factor is proved for it; for k = 1 it is exact.
"""
from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.points.coreset import Coreset
from beam_coresets.points.flats import FLAT_ROUNDING, Flats, fit, nearest_flat, principal
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.flat_search import FlatsProblem
from beam_coresets.solvers.model import Model

Array = npt.NDArray[Any]

SEARCH_DIM = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Subspaces(Model):
    """k' flats of dimension r; k' < k where k' hold all points.

    Attributes:
      centers: (k', d) float64, a point on each: the mean of its cluster, or zeros where linear.
      bases: (k', r, d) float64, orthonormal rows, by falling spread of the cluster's points; the largest coordinate of
        each is positive.
      affine: whether they need not pass through the origin.
      cost: `sum_p w(p) dist(p)**2` on what they were solved on; NaN where they were not.
    """

    centers: Array
    bases: Array
    affine: bool
    cost: float = math.nan

    @property
    def flats(self) -> Flats:
        """As a pair of arrays."""
        return Flats(self.centers, self.bases)

    def costs(self, sample: Coreset) -> tuple[Array, Array]:
        """The cluster (n,) and the cost (n,) of each point, its weight not counted."""
        return nearest_flat(sample.points, self.flats)

    def refit(self, sample: Coreset, fold: int, quick: bool) -> Subspaces:
        """From scratch: where these subspaces are is known to the points left out."""
        k, r, _ = self.bases.shape
        return solve_subspaces(
            sample.points, sample.weights, k, r, affine=self.affine, seed=fold, restarts=1, rounds=0 if quick else None
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Frame:
    """Where the search goes on: about the points' mean (if affine), in their leading directions if there are many.

    In directions that are left out every flat has the same cost, so it is exact for flats within the others (Feldman,
    Schmidt and Sohler, SODA 2013, for how many are enough); the last descent is in all.

    Attributes:
      origin: (d,). axes: (d, D) orthonormal columns, or None for all.
    """

    origin: Array
    axes: Array | None

    @staticmethod
    def of(points: Array, weights: Array, most: int, affine: bool) -> _Frame:
        d = points.shape[1]
        origin = weights @ points.astype(np.float64) / weights.sum() if affine else np.zeros(d)
        if d <= most:
            return _Frame(origin, None)
        away = points - origin
        _, vectors = np.linalg.eigh((away * weights[:, None]).T @ away)
        return _Frame(origin, np.ascontiguousarray(vectors[:, ::-1][:, :most]))

    def inward(self, points: Array) -> Array:
        away = points - self.origin
        return away if self.axes is None else away @ self.axes

    def outward(self, flats: Flats, affine: bool) -> Flats:
        centers, bases = flats
        if self.axes is not None:
            centers, bases = centers @ self.axes.T, bases @ self.axes.T
        return Flats(centers + self.origin if affine else np.zeros((len(centers), len(self.origin))), bases)


def _checked(points: Array, weights: Array, k: int, r: int, affine: bool) -> tuple[Array, Array]:
    """The points of positive weight and these weights."""
    points, weights = np.asarray(points), np.asarray(weights, np.float64)
    if points.dtype not in (np.float32, np.float64):
        points = points.astype(np.float64)
    if points.ndim != 2 or weights.shape != points.shape[:1]:
        raise ValueError(f"weights: must be one for each row of 2-d points, got {weights.shape} for {points.shape}")
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(wrong):
        raise ValueError(f"weights: must be finite and not negative, got {wrong[0]}")
    kept = weights > 0
    if not kept.any():
        raise ValueError(f"weights: at least one point must have positive weight, got none of {len(weights)}")
    points, weights = points[kept], weights[kept]
    if not np.isfinite(points).all():
        raise ValueError(f"points: must be finite, got {points[~np.isfinite(points).all(axis=1)][0]}")
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    if not affine and r < 1:
        raise ValueError(f"r: must be at least 1 for linear subspaces, got {r}")
    if r < 0:
        raise ValueError(f"r: must be at least 0, got {r}")
    if r >= points.shape[1]:
        raise ValueError(f"r: must be below d = {points.shape[1]}, got {r}")
    return points, weights


def _same_kind(name: str, given: Subspaces, r: int, d: int, affine: bool) -> None:
    wanted = ("affine" if affine else "linear", r, d)
    got = ("affine" if given.affine else "linear", *given.bases.shape[1:])
    if got != wanted:
        raise ValueError(f"{name}: must be {wanted[0]}, with r = {r} and d = {d}, got {got[0]}, {got[1]} and {got[2]}")


def solve_subspaces(
    points: Array,
    weights: Array,
    k: int,
    r: int,
    *,
    affine: bool = False,
    seed: int = 0,
    restarts: int | None = None,
    init: Subspaces | None = None,
    max_iter: int = 100,
    rounds: int | None = None,
) -> Subspaces:
    """k flats of dimension r of low `sum_p w(p) min_L dist(p, L)**2`; exactly the best one for k = 1.

    Args:
      points: (n, d) float32 or float64 (others become float64); all is computed in float64.
      weights: (n,) non-negative. Rows of weight zero change nothing.
      k: how many. r: their dimension, below d; 0 only with affine: k-means.
      affine: whether they need not pass through the origin.
      seed: of all random draws; the same input and seed give the same flats.
      restarts: how many starts; by default 3, or 1 where a round takes long.
      init: flats of the same kind for the first start, at most k.
      max_iter: limit of the last descent.
      rounds: of exchanges at most; 0 seeds and descends only. By default until some in a row have gained nothing.

    Raises:
      ValueError: k below 1, r not from 1 (affine: 0) to d - 1, weights negative or all zero, points not finite, `init`
        of another kind, or shapes that differ.
    """
    points, weights = _checked(points, weights, k, r, affine)
    n, d = points.shape
    if restarts is not None and restarts < 1:
        raise ValueError(f"restarts: must be at least 1, got {restarts}")
    if init is not None:
        _same_kind("init", init, r, d, affine)
        if not 1 <= len(init.centers) <= k:
            raise ValueError(f"init: must be 1 to {k} subspaces, got {len(init.centers)}")
    if r == 0:
        start = None if init is None else init.centers
        found = solve_centers(points, weights, k, 2.0, seed=seed, restarts=restarts, init=start)
        return Subspaces(found.centers, np.zeros((len(found.centers), 0, d)), True, found.cost)
    k = min(k, max(n, 0 if init is None else len(init.centers)))  # so many hold all points
    if k == 1:
        return _measured(points, weights, _exact(points, weights, np.zeros(n, np.int32), 1, r, affine), affine)
    frame = _Frame.of(points, weights, max(SEARCH_DIM, 2 * k * (r + 1)), affine)
    problem = FlatsProblem(frame.inward(points.astype(np.float64)), weights, k, r, affine)
    small = problem.smaller(seed)
    best = small.solve(None if init is None else _continued(init, points, problem), restarts, seed, rounds)
    state = problem.descend(problem.state(best.flats), max_iter)
    return _polished(points, weights, frame.outward(state.flats, affine), affine, 2 if frame.axes is None else 10)


def refine_subspaces(points: Array, weights: Array, start: Subspaces, *, max_iter: int = 20) -> Subspaces:
    """Descends from the given flats, without any random draw; flat j of the result has grown out of flat j given.

    Args:
      points: (n, d). weights: (n,) as for `solve_subspaces`.
      max_iter: limit of iterations; 0 only measures.

    Returns:
      Flats that cost no more than `start`; without those that are not needed where the others hold all points.

    Raises:
      ValueError: as `solve_subspaces`.
    """
    k, r, _ = start.bases.shape
    points, weights = _checked(points, weights, k, r, start.affine)
    _same_kind("start", start, r, points.shape[1], start.affine)
    if max_iter < 0:
        raise ValueError(f"max_iter: must be at least 0, got {max_iter}")
    return _polished(points, weights, start.flats, start.affine, max_iter)


def _continued(init: Subspaces, points: Array, problem: FlatsProblem) -> Flats:
    """One iteration from the given flats on, in the problem's coordinates; the first is repeated to make k."""
    index, _ = nearest_flat(points, init.flats)
    missing = np.zeros(problem.k - len(init.centers), np.int64)
    blank = _blank(problem.k, problem.r, problem.points.shape[1])
    flats, _ = fit(problem.points, problem.weights, index, blank, problem.affine)
    return flats.take(np.concatenate([np.arange(len(init.centers)), missing]))


def _blank(k: int, r: int, d: int) -> Flats:
    bases = np.zeros((k, r, d))
    bases[:, np.arange(r), np.arange(r)] = 1.0
    return Flats(np.zeros((k, d)), bases)


def _polished(points: Array, weights: Array, flats: Flats, affine: bool, most: int) -> Subspaces:
    """Descends with exact fits in the user's coordinates, and measures there."""
    k, r, _ = flats.bases.shape
    index, dist_sq = nearest_flat(points, flats)
    cost = float(weights @ dist_sq)
    for _ in range(most):
        after = _exact(points, weights, index, k, r, affine, flats)
        now, dist_sq = nearest_flat(points, after)
        lower = float(weights @ dist_sq)
        if not lower < cost:
            break
        gain, flats, index, cost = cost - lower, after, now, lower
        if gain <= 1e-9 * cost:
            break
    size_sq = float(weights @ np.einsum("nd,nd->n", points, points, dtype=np.float64))
    if cost <= FLAT_ROUNDING * size_sq:  # more flats than it takes: some hold nothing
        flats = flats.take(np.unique(index))
    return _measured(points, weights, flats, affine)


def _exact(
    points: Array, weights: Array, index: Array, k: int, r: int, affine: bool, before: Flats | None = None
) -> Flats:
    """`fit` by singular values, which are precise where directions differ much in scale, and in any dimension."""
    flats = _blank(k, r, points.shape[1]) if before is None else Flats(before.centers.copy(), before.bases.copy())
    for j in range(k):
        rows = np.flatnonzero(index == j)
        if len(rows):
            flats.centers[j], flats.bases[j] = principal(points[rows], weights[rows], r, affine)
    return flats


def _measured(points: Array, weights: Array, flats: Flats, affine: bool) -> Subspaces:
    return Subspaces(flats.centers, flats.bases, affine, float(weights @ nearest_flat(points, flats)[1]))
