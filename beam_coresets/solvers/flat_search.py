"""The search for k flats: pools of candidates, swaps over their costs, and k-subspaces iterations.

k-subspaces iterations (assign, then fit to each cluster the flat of its leading directions) only ever reach the next
local optimum, and there are many. So a pool of candidate flats is laid out: fitted to neighbourhoods of many sizes,
then each to the points nearest to it, the concentration steps of Rousseeuw and Van Driessen (1999). The best k of the
pool are found by swaps over its matrix of costs (PAM, as Schubert and Rousseeuw 2019 do it), and descended from; then
again, with a pool drawn by what is left over. Exchanges that don't pay at once are judged after a short descent.
Several starts are made, and the best k of all their flats is where the last one begins.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.hashing import generator
from beam_coresets.points.flats import (
    FLAT_ROUNDING,
    Flats,
    distances,
    fit,
    fitted,
    nearest_flat,
    neighbourhoods,
    seeded,
    through_neighbours,
)
from beam_coresets.sampling.importance import Sampler

Array = npt.NDArray[Any]

SEARCH_ROWS = 4096  # more rows are searched by way of a coreset of so many
RESTARTS = 3
MOST_ROUNDS = 20
STALE_ROUNDS = 3  # rounds without a gain after which a start is done
JUDGED = 4
POOL_WORK = 1e8  # coordinates compared in a round at most
FEW_OPERATIONS = 1e9  # multiply-adds of a round above which one start has to do
GAIN = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class FlatsState:
    """k flats, the flat (n,) and squared distance (n,) of each point, and the cost."""

    flats: Flats
    index: Array
    dist_sq: Array
    cost: float


@fast_kernel
def _swap_changes(costs, least, second, owner, out):  # type: ignore[no-untyped-def]
    """out[c, j]: how much the cost changes where candidate c takes the place of the chosen j."""
    m, n = costs.shape
    removal = np.zeros(out.shape[1])
    for i in range(n):
        removal[owner[i]] += second[i] - least[i]
    for c in range(m):
        gain = 0.0
        out[c] = removal
        for i in range(n):
            x = costs[c, i]
            if x < second[i]:
                if x < least[i]:
                    gain += least[i] - x
                    out[c, owner[i]] -= second[i] - least[i]
                else:
                    out[c, owner[i]] -= second[i] - x
        for j in range(out.shape[1]):
            out[c, j] -= gain


@dataclasses.dataclass(frozen=True, eq=False)
class FlatsProblem:
    """What is searched.

    Attributes:
      points: (n, d) float64, about the origin if affine. weights: (n,), all positive.
      k, r, affine: how many flats, of which dimension, and whether they need not pass through the origin.
    """

    points: Array
    weights: Array
    k: int
    r: int
    affine: bool

    def state(self, flats: Flats) -> FlatsState:
        """The flats, measured."""
        index, dist_sq = nearest_flat(self.points, flats)
        return FlatsState(flats, index, dist_sq, float(self.weights @ dist_sq))

    @property
    def floor(self) -> float:
        """A cost that is nothing but rounding."""
        return FLAT_ROUNDING * float(self.weights @ np.einsum("nd,nd->n", self.points, self.points))

    def descend(self, state: FlatsState, max_iter: int, tol: float = GAIN) -> FlatsState:
        """k-subspaces iterations until one gains less than `tol` of the cost; never to a higher cost."""
        floor = self.floor
        for _ in range(max_iter):
            if state.cost <= floor:
                break
            flats, _ = fit(self.points, self.weights, state.index, state.flats, self.affine)
            after = self.state(self._filled(flats, state))
            gain = state.cost - after.cost
            state = after if gain > 0 else state
            if gain <= tol * state.cost:
                break
        return state

    def _filled(self, flats: Flats, state: FlatsState) -> Flats:
        """A flat that no point is nearest to moves to a costly row and its neighbours."""
        empty = np.flatnonzero(np.bincount(state.index, minlength=self.k) == 0)
        if len(empty):
            rows = np.argsort(-self.weights * state.dist_sq, kind="stable")[: len(empty)]
            counts = np.full(len(rows), min(len(self.points), 2 * (self.r + 1)))
            moved = through_neighbours(self.points, self.weights, rows, counts, self.r, self.affine)
            flats.centers[empty[: len(rows)]], flats.bases[empty[: len(rows)]] = moved
        return flats

    def _start(self, rng: np.random.Generator) -> FlatsState:
        flats = seeded(self.points, self.weights, self.k, self.r, self.affine, rng)
        missing = self.k - len(flats.centers)
        return self.descend(self.state(Flats.concatenate(flats, *[flats.take([0])] * missing)), 5)

    def _pool(self, state: FlatsState, count: int, rng: np.random.Generator) -> Flats:
        """Candidates through neighbours of rows drawn by weight and by cost, concentrated twice."""
        mass = 0.3 * self.weights / self.weights.sum() + 0.7 * self.weights * state.dist_sq / state.cost
        rows = rng.choice(len(self.points), count, p=mass / mass.sum())
        sizes = neighbourhoods(len(self.points), self.k, self.r, rng, count)
        flats = through_neighbours(self.points, self.weights, rows, sizes, self.r, self.affine)
        for _ in range(2):
            far = distances(self.points, flats)
            near = [np.argpartition(row, size - 1)[:size] for row, size in zip(far, sizes.tolist(), strict=True)]
            flats = fitted(self.points, self.weights, near, self.r, self.affine)
        return flats

    def _chosen(self, costs: Array) -> tuple[Array, Array]:
        """The k rows of `costs` (m, n) that swaps lead to from the first k, and what each further swap (m, k) would
        change."""
        chosen, changes, total = np.arange(self.k), np.empty((len(costs), self.k)), np.inf
        while True:
            two, owner = np.partition(costs[chosen], 1, axis=0)[:2], costs[chosen].argmin(axis=0)
            _swap_changes(costs, two[0], two[1], owner, changes)
            changes[chosen] = np.inf
            c, j = np.unravel_index(int(changes.argmin()), changes.shape)
            before, total = total, float(two[0].sum())
            if not (total < before and changes[c, j] < -GAIN * total):  # rounding might go in circles
                return chosen, changes
            chosen[j] = c

    def best_of(self, state: FlatsState, pool: Flats, judged: int = 0) -> FlatsState:
        """A state of lower cost with flats from the pool, or the same state.

        Args:
          judged: how many exchanges that don't pay at once are tried all the same, if no other does.
        """
        pool = Flats.concatenate(state.flats, pool)
        chosen, changes = self._chosen(distances(self.points, pool) * self.weights)
        lowest = state.cost * (1 - GAIN)
        moved = self.descend(self.state(pool.take(chosen)), 30)
        if moved.cost < lowest:
            return moved
        for j in np.argsort(changes.min(axis=0))[:judged]:
            swapped = chosen.copy()
            swapped[j] = changes[:, j].argmin()
            moved = self.descend(self.state(pool.take(swapped)), 8, 1e-4)
            if moved.cost < lowest:
                return self.descend(moved, 30)
        return state

    def search(self, state: FlatsState, rng: np.random.Generator, rounds: int | None = None) -> FlatsState:
        """Rounds until some in a row have gained nothing, or there have been so many."""
        n, d = self.points.shape
        count = int(np.clip(POOL_WORK / (n * d * (self.r + 1)), 8, 8 * self.k + 16))
        stale, floor = 0, self.floor
        for _ in range(MOST_ROUNDS if rounds is None else rounds):
            if state.cost <= floor or stale == STALE_ROUNDS:
                break
            after = self.best_of(state, self._pool(state, count, rng), JUDGED)
            stale = 0 if after.cost < state.cost else stale + 1
            state = after
        return state

    def solve(self, init: Flats | None, restarts: int | None, seed: int, rounds: int | None = None) -> FlatsState:
        """The best of several starts, and of their flats mixed."""
        n, d = self.points.shape
        if restarts is None:
            restarts = RESTARTS if n * d * self.k * 8 * (self.r + 1) <= FEW_OPERATIONS else 1
        found = []
        for restart in range(restarts):
            rng = generator(seed, "solve_subspaces", restart)
            given = init is not None and restart == 0
            start = self.descend(self.state(init), 30) if given and init is not None else self._start(rng)
            found.append(self.search(start, rng, rounds))
        best = min(found, key=lambda state: state.cost)
        if len(found) == 1 or best.cost <= self.floor:
            return best
        mixed = self.best_of(best, Flats.concatenate(*(state.flats for state in found if state is not best)))
        return self.search(mixed, generator(seed, "solve_subspaces", "mixed"), rounds)

    def smaller(self, seed: int) -> FlatsProblem:
        """The same on a coreset, if there are many rows."""
        if len(self.points) <= max(SEARCH_ROWS, self.k):
            return self
        sampler = Sampler(self.k, max(SEARCH_ROWS, self.k), 2.0, "subspace", seed, r=self.r, affine=self.affine)
        one = np.zeros(len(self.points), np.int32)
        rows, _, weights = sampler.finish(self.points, self.weights, one, generator(seed, "solve_subspaces", "rows"))
        return dataclasses.replace(self, points=self.points[rows], weights=weights)
