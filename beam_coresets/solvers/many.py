"""Thousands of centers: seeds group by group, and a descent in which a row is seldom compared with all of them.

About sqrt(k) groups of rows are found first. Each gets its share of the k centers, by what it costs (Zador: where d
columns matter, the best density of centers is that of the cost to the power d / (d + z)), and finds them by D^z seeding
of its own rows. In the descent a row remembers the `BESIDE` nearest of all centers and is compared with these for some
iterations, while centers move by less and less; then with all again. What is told is exact.
"""
from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.points.nearest import nearest, power_of_distance, scores, writable
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.solvers.descent import CentersProblem, Clustering

Array = npt.NDArray[Any]

FROM_CENTERS = 1_000  # centers from which on they are found so
BESIDE = 10  # centers that a row remembers
TURN = 6  # iterations until it is compared with all of them again
LIST_ITERATIONS = 18
TOL = 1e-3  # gain of an iteration, as a share of the cost, below which the descent ends
_ROWS_A_GROUP = 200  # of the rows among which groups are sought
_CANDIDATES = 2  # a step of seeding
_PRODUCTS = 2**20  # of rows and centers that are in memory at a time


def grouped_seeds(problem: CentersProblem, k: int, rng: np.random.Generator) -> Array:
    """Rows (k',) to start from; k' < k only where there are fewer distinct rows, and then these are all of them."""
    points, weights, z = problem.points, problem.weights, problem.z
    groups = round(math.sqrt(k))
    drawn = np.arange(len(points))
    if len(points) > _ROWS_A_GROUP * groups:
        drawn = rng.integers(len(points), size=_ROWS_A_GROUP * groups)
    sample = dataclasses.replace(problem, points=points[drawn], weights=weights[drawn])
    first = dz_seeding(sample.points, sample.weights, groups, z, rng)
    coarse = sample.descend(sample.clustering(sample.points[first].astype(np.float64)), 5, 1e-3)[0].centers
    group, dist_sq = nearest(points, coarse)
    cost = np.bincount(group, weights * power_of_distance(dist_sq, z), len(coarse))
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(coarse) + 1))
    wanted = _shares(cost ** (points.shape[1] / (points.shape[1] + z)), np.diff(bounds), k)
    seeds = []
    for j in np.flatnonzero(wanted):
        mine = order[bounds[j] : bounds[j + 1]]
        rows = dz_seeding(points[mine], weights[mine], int(wanted[j]), z, rng, _CANDIDATES)
        seeds.append(mine[rows])
    return _completed(problem, np.concatenate(seeds), k)


def _completed(problem: CentersProblem, rows: Array, k: int) -> Array:
    """`rows` and those that cost most, where some group had fewer distinct rows than it was to have centers."""
    while len(rows) < k:
        state = problem.clustering(problem.points[rows].astype(np.float64))
        cost = problem.weights * power_of_distance(state.dist_sq, problem.z)
        worst = np.argsort(-cost, kind="stable")[: k - len(rows)]
        worst = worst[cost[worst] > 0]
        if not len(worst):
            break
        _, first = np.unique(problem.points[worst], axis=0, return_index=True)
        rows = np.concatenate([rows, worst[np.sort(first)]])
    return rows


def _shares(cost: Array, rows: Array, k: int) -> Array:
    """k centers, or all rows, in proportion to `cost` (g,); each gets one at least, and no more than its `rows`."""
    out = np.minimum(rows, 1)
    for _ in range(len(cost)):
        left, room = k - int(out.sum()), rows - out
        if left <= 0 or not room.any():
            break
        part = np.where(room > 0, np.maximum(cost, 1e-12 * max(cost.max(), 1e-300)), 0.0)
        more = np.minimum(room, np.floor(part / part.sum() * left).astype(np.int64))
        if not more.any():  # less than one for each: the largest parts
            more[np.argsort(-part, kind="stable")[: min(left, np.count_nonzero(room))]] = 1
        out = out + more
    return out


def descend(problem: CentersProblem, centers: Array, iterations: int, tol: float) -> tuple[Clustering, int]:
    """From (k, d) float64 centers; returns the state and how many iterations there were.

    In turn: each row's `BESIDE` nearest of all centers, and some iterations that compare it with these only. Ends when
    such a turn gains less than `tol` of the cost; the state is exact.
    """
    state, beside = _exact(problem, centers)
    used = 0
    while used < iterations and state.cost > problem.floor:
        near = state
        for _ in range(min(TURN, iterations - used)):
            centers = problem.step(near)
            after = _among(problem, centers, beside)
            used += 1
            gained, near = near.cost - after.cost, after
            if gained <= tol * after.cost:
                break
        before = state.cost
        after, beside = _exact(problem, problem.moved(near) if _unused(near) else near.centers)
        state = after if after.cost < before else state
        if before - after.cost <= tol * before:
            break
    return state, used


def _unused(state: Clustering) -> bool:
    return bool((np.bincount(state.index, minlength=len(state.centers)) == 0).any())


def _exact(problem: CentersProblem, centers: Array) -> tuple[Clustering, Array]:
    """Each row with the nearest of all centers (k, d), and its `BESIDE` nearest (n, BESIDE) int32, in no order."""
    points = problem.points
    beside = np.empty((len(points), min(BESIDE, len(centers))), np.int32)
    for low, _, score in scores(points, centers.astype(points.dtype), max(32, _PRODUCTS // len(centers))):
        _highest(score, beside[low : low + len(score)])
    return _among(problem, centers, beside), beside


@fast_kernel
def _highest(score, out):  # type: ignore[no-untyped-def]
    """Writes the columns of each row's highest scores to `out`, in no order."""
    count = out.shape[1]
    best = np.empty(count, score.dtype)
    for i in range(len(score)):
        least = 0
        for j in range(count):
            best[j], out[i, j] = score[i, j], j
            if best[j] < best[least]:
                least = j
        worst = best[least]
        for j in range(count, score.shape[1]):
            if score[i, j] > worst:
                best[least], out[i, least] = score[i, j], j
                for c in range(count):
                    if best[c] < best[least]:
                        least = c
                worst = best[least]


def _among(problem: CentersProblem, centers: Array, beside: Array) -> Clustering:
    """Each row with the nearest of the centers that `beside` (n, b) names for it."""
    points = problem.points
    index, dist_sq = np.empty(len(points), np.int32), np.empty(len(points), points.dtype)
    _nearest_among(points, writable(centers.astype(points.dtype)), beside, index, dist_sq)
    return problem.measured(centers, index, dist_sq)


@fast_kernel
def _nearest_among(points, centers, beside, index, dist_sq):  # type: ignore[no-untyped-def]
    for i in range(len(points)):
        least, winner = np.inf, np.int32(0)
        for b in range(beside.shape[1]):
            j = beside[i, b]
            total = points[i, 0] * points.dtype.type(0)
            for t in range(points.shape[1]):
                q = points[i, t] - centers[j, t]
                total += q * q
            if total < least:
                least, winner = total, j
        index[i], dist_sq[i] = winner, least
