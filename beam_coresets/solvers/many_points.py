"""More points than a search needs to see: it goes over a sample of them, and what it finds descends on all of them.

A search tells good places for centers from bad ones by costs that differ by percents, which some ten thousand points
show. Where the centers are in these places is told by all points: a descent that measures a point only where its
nearest center may have changed, by how far centers have moved (Hamerly, *Making k-means even faster*, SDM 2010).
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.points.nearest import writable
from beam_coresets.sampling.importance import Sampler
from beam_coresets.solvers.descent import CentersProblem, Clustering

Array = npt.NDArray[Any]

SEARCHED = 10_000  # points that a search goes over,
SEARCHED_PER_CENTER = 500  # and at least so many a center;
FEW_TIMES = 4  # times as many points are few enough to search all
SEARCHED_POWER = 4.0  # of distances: beyond it few points decide, and all are searched
_ROUGH = 1e-4  # gain of an iteration, as a share of the cost, that ends a descent which is gone on with
_ROUNDING = 3e-5  # of distances in float32, relatively


def searched(problem: CentersProblem, k: int, rng: np.random.Generator) -> CentersProblem:
    """The problem on a sample of its points by sensitivity, weights unbiased, if there are many; else the same."""
    most = max(SEARCHED, SEARCHED_PER_CENTER * k)
    if len(problem.points) <= FEW_TIMES * most or problem.left_out or problem.z > SEARCHED_POWER:
        return problem
    sampler = Sampler(k, most, problem.z)
    rows, weights = sampler.thin(problem.points, problem.weights, np.zeros(len(problem.points), np.int32), most, rng)
    return dataclasses.replace(problem, points=problem.points[rows], weights=weights)


def on_all(problem: CentersProblem, centers: Array, max_iter: int, tol: float) -> tuple[Clustering, int]:
    """What a search on some of the points has found, (k, d), after a descent on all of them, and its iterations."""
    passes = 0
    if problem.z == 2:
        centers, passes = settled(problem, centers, max_iter or 30, tol if max_iter else _ROUGH)
    best, used = problem.descend(problem.clustering(centers), 30, _ROUGH)
    return best, passes + used


def settled(problem: CentersProblem, centers: Array, max_iter: int, tol: float) -> tuple[Array, int]:
    """Centers (k, d) after Lloyd's steps on all points, for z = 2 and nothing left out; and how many passes it took.

    Steps go on in the direction of those before (Nesterov's momentum), and begin anew where that costs more. They end
    once a plain step gains at most `tol` of the cost, and before one that would leave a center without points.
    """
    clusters, spread = _Clusters.of(problem, len(centers)), problem.spread
    here, best, before, pace = centers, centers, np.inf, 1.0  # `best` is where a plain step has led
    for number in range(max_iter):
        clusters.move(here)
        sums, masses = clusters.sums, clusters.masses
        cost = spread - 2 * float((here * sums).sum()) + float(masses @ (here * here).sum(axis=1))
        gained = before - cost > tol * cost and bool((clusters.counts > 0).all())
        if not gained and pace == 1.0:
            return best, number
        if gained:
            plain, before = problem.on_sphere(sums / masses[:, None], here), cost
            next_pace = float((1 + np.sqrt(1 + 4 * pace**2)) / 2)
            here = problem.on_sphere(plain + (pace - 1) / next_pace * (plain - best), plain)
            best, pace = plain, next_pace
        else:  # too far: once more from where the last plain step has led
            here, pace = best, 1.0
    return best, max_iter


@dataclasses.dataclass(eq=False)
class _Clusters:
    """The points' nearest centers while centers move, and what the points of each center add up to.

    Attributes:
      index: (n,) int32 of the nearest center, -1 at first.
      upper, lower: (n,) at least the distance to it, and at most that to any other.
      sums, masses, counts: (k, d), (k,), (k,): the points' weighted sum, their weight and number.
    """

    points: Array
    weights: Array
    near: Array | None
    index: Array
    upper: Array
    lower: Array
    sums: Array
    masses: Array
    counts: Array

    @staticmethod
    def of(problem: CentersProblem, k: int) -> _Clusters:
        points = writable(problem.points)
        n, d = points.shape
        index, bounds = np.full(n, -1, np.int32), (np.full(n, np.inf, points.dtype), np.zeros(n, points.dtype))
        sums, masses, counts = np.zeros((k, d)), np.zeros(k), np.zeros(k, np.int64)
        return _Clusters(points, problem.weights, None, index, *bounds, sums, masses, counts)

    def move(self, centers: Array) -> None:
        """Moves them to (k, d) float64 centers."""
        from scipy.spatial.distance import cdist  # late: 0.1 s to import

        kind, k = self.points.dtype, len(centers)
        near = np.ascontiguousarray(centers.astype(kind))
        apart = cdist(near, near)
        apart[np.arange(k), np.arange(k)] = np.inf
        half = (apart.min(axis=1) / 2 * (1 - _ROUNDING)).astype(kind)
        length = np.zeros(k)
        if self.near is not None:
            length = np.sqrt(((near.astype(np.float64) - self.near) ** 2).sum(axis=1)) * (1 + _ROUNDING)
        farthest = int(length.argmax())
        drift = np.full(k, length[farthest])
        drift[farthest] = np.delete(length, farthest).max(initial=0.0)
        self.near = near
        _move(
            self.points, self.weights, near, half, length.astype(kind), drift.astype(kind),
            self.index, self.upper, self.lower, self.sums, self.masses, self.counts,
        )  # fmt: skip


@fast_kernel
def _move(points, weights, centers, half, length, drift, index, upper, lower, sums, masses, counts):  # type: ignore[no-untyped-def]
    """Measures the points whose nearest center may be another one now.

    Args:
      half: (k,) half the distance of each center to the next one. length: (k,) by which it has moved.
      drift: (k,) the most by which another one has.
    """
    n, d = points.shape
    slack = points.dtype.type(1.0 + _ROUNDING)
    columns, dist_sq = centers.T.copy(), np.empty(len(centers), points.dtype)  # one place of all centers side by side
    for i in range(n):
        j = index[i]
        if j >= 0:
            bound = lower[i] - drift[j]
            limit = max(bound, half[j])
            own = upper[i] + length[j]
            if own > limit:
                own = points.dtype.type(0)
                for t in range(d):
                    q = points[i, t] - centers[j, t]
                    own += q * q
                own = np.sqrt(own) * slack
            upper[i] = own
            lower[i] = bound
            if own <= limit:
                continue
        least = points.dtype.type(np.inf)
        second = least
        to = 0
        dist_sq[:] = 0
        for t in range(d):
            x = points[i, t]
            for c in range(len(centers)):
                q = x - columns[t, c]
                dist_sq[c] += q * q
        for c in range(len(centers)):
            other = dist_sq[c]
            second = min(second, max(least, other))
            if other < least:
                least, to = other, c
        upper[i] = np.sqrt(least) * slack
        lower[i] = np.sqrt(second) / slack
        if to == j:
            continue
        w = weights[i]
        index[i] = to
        counts[to] += 1
        masses[to] += w
        for t in range(d):
            sums[to, t] += w * np.float64(points[i, t])
        if j >= 0:
            counts[j] -= 1
            masses[j] -= w
            for t in range(d):
                sums[j, t] -= w * np.float64(points[i, t])
