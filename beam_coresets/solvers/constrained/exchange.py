"""Search for centers of a constrained clustering: swaps among candidates and center steps, with assignments by flow.

A swap is only followed where the prices of the assignment so far, which bound every assignment's cost from below (weak
duality), leave room for it to pay: among candidates only, none that could be cheaper is passed over; with free centers
a tenth or two more than the present cost is still followed, as the steps after it gain that much.
"""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.points.nearest import nearest, power_of_distance
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.solvers.constrained.bounds import Bounds
from beam_coresets.solvers.constrained.transport import Transport, prices_of, transport_below
from beam_coresets.solvers.descent import CentersProblem, Clustering, exact_dist_sq

Array = npt.NDArray[Any]

NEAR_PLACES = 64  # candidates that are tried for a center when it moves
ROOM = 1.2  # times the present cost: what a swap of free centers may cost at least by its bound
_STEPS = 4  # center steps after a swap before it is judged
_GAIN = 1e-6  # of the cost, that a swap must bring


@fast_kernel
def costs_of(points, centers, z, out):  # type: ignore[no-untyped-def]
    """out[p, i] = dist(p, i)**z, by direct differences in float64."""
    for p in range(len(points)):
        for i in range(len(centers)):
            total = 0.0
            for t in range(points.shape[1]):
                q = np.float64(points[p, t]) - centers[i, t]
                total += q * q
            out[p, i] = total if z == 2.0 else np.sqrt(total) if z == 1.0 else total ** (0.5 * z)


@fast_kernel
def _swap_bounds(points, weights, label, places, z, prices, first, least, second, out):  # type: ignore[no-untyped-def]
    """out[j, i] = what the dual says at these prices, less what it says now, with place j for center i.

    first, least, second: the cluster where cost + price is least, that sum, and the next smallest.
    """
    k = prices.shape[1]
    cheapest = np.empty(len(prices))
    for m in range(len(prices)):
        cheapest[m] = prices[m].min()
    for j in range(len(places)):
        out[j] = 0.0
        for p in range(len(points)):
            total = 0.0
            for t in range(points.shape[1]):
                q = np.float64(points[p, t]) - places[j, t]
                total += q * q
            cost = total if z == 2.0 else np.sqrt(total) if z == 1.0 else total ** (0.5 * z)
            m, w, a, now = label[p], weights[p], first[p], least[p]
            if cost + cheapest[m] < now:
                for i in range(k):
                    out[j, i] += w * min(0.0, cost + prices[m, i] - now)
                out[j, a] -= w * min(0.0, cost + prices[m, a] - now)
            out[j, a] += w * (min(second[p], cost + prices[m, a]) - now)


@dataclasses.dataclass(frozen=True, eq=False)
class ConstrainedState:
    """Centers (k, d), what each point costs at each (n, k), and the cheapest assignment; in a problem's coordinates."""

    centers: Array
    matrix: Array
    found: Transport

    @property
    def cost(self) -> float:
        """What the assignment costs."""
        return self.found.cost


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """A weighted sample, and places for centers.

    Attributes:
      problem: the points.
      label: (n,) int64.
      bounds: of the labels' weights in the clusters.
      places: (c, d) float64, the candidates, in the problem's coordinates.
      free: whether centers may leave the candidates.
    """

    problem: CentersProblem
    label: Array
    bounds: Bounds
    places: Array
    free: bool

    def state(self, centers: Array, duals: Array | None = None) -> ConstrainedState:
        """The cheapest assignment to these centers.

        Args:
          duals: to begin with.
        """
        found = self.state_below(math.inf, centers, duals)
        assert found is not None
        return found

    def state_below(self, ceiling: float, centers: Array, duals: Array | None = None) -> ConstrainedState | None:
        """`state`, or None as soon as it is known to cost more than `ceiling`."""
        matrix, problem = np.empty((len(self.problem.points), len(centers))), self.problem
        costs_of(problem.points, np.ascontiguousarray(centers), float(problem.z), matrix)
        found = transport_below(ceiling, matrix, problem.weights, self.label, self.bounds, duals)
        return None if found is None else ConstrainedState(centers, matrix, found)

    def snapped(self, centers: Array) -> Array:
        """The nearest candidates."""
        index, _ = nearest(centers, self.places)
        return self.places[index]

    def seeded(self, rng: np.random.Generator) -> Array:
        """k centers by D^z seeding on the candidates, each weighing what the points do that it is nearest to."""
        problem, k = self.problem, self.bounds.k
        index, _ = nearest(problem.points, self.places)
        mass = np.bincount(index, problem.weights, len(self.places))
        rows = dz_seeding(self.places, mass, k, problem.z, rng, candidates=2 + int(math.log(k)))
        more = rng.choice(np.setdiff1d(np.arange(len(self.places)), rows), k - len(rows), replace=False)
        return self.places[np.concatenate([rows, more])]

    def best_tuple(self, alike: Sequence[Sequence[int]]) -> ConstrainedState:
        """The best k-tuple of candidates, by trying all.

        Args:
          alike: the clusters, those whose order doesn't matter together.
        """
        problem, everywhere = self.problem, np.arange(len(self.places))
        order = np.argsort([i for same in alike for i in same])
        parts = [itertools.combinations_with_replacement(everywhere, len(same)) for same in alike]
        chosen_parts = itertools.product(*parts) if len(parts) > 1 else ((chosen,) for chosen in parts[0])
        tuples = (np.concatenate(chosen)[order] for chosen in chosen_parts)
        matrix = np.empty((len(problem.points), len(self.places)))
        costs_of(problem.points, self.places, float(problem.z), matrix)
        best = self.state(self.places[: self.bounds.k])
        for chosen in tuples:
            prices = prices_of(best.found.duals, self.bounds)[self.label]
            least = float(problem.weights @ (matrix[:, chosen] + prices).min(axis=1)) + best.found.offset
            if least < best.cost * (1 - 1e-12):
                other = self.state(self.places[chosen], best.found.duals)
                best = other if other.cost < best.cost else best
        return best

    def least_cost(self, best: float) -> float:
        """What centers anywhere cost at least, if the best of the candidates cost `best`.

        Centers c of the optimum may move to candidates q: with D the distance of each point to its nearest candidate,
        dist(c, q) <= dist(c, p) + D(p) for every p, so dist(p, q) <= 2 dist(p, c) + D(p), and by Minkowski's inequality
        best**(1/z) <= 2 optimum**(1/z) + (sum w D**z)**(1/z). For z = 2 the c are means of what they hold, and
        best <= optimum + (sqrt(optimum) + sqrt(sum w D**2))**2.
        """
        problem, z = self.problem, self.problem.z
        index, _ = nearest(problem.points, self.places)
        dist_sq = np.empty(len(index))
        exact_dist_sq(problem.points, self.places, index, dist_sq)
        way = float(problem.weights @ power_of_distance(dist_sq, z))
        if z == 2 and not problem.cosine:
            root = math.sqrt(max(0.0, 2 * best - way)) - math.sqrt(way)
        else:
            root = best ** (1 / z) - way ** (1 / z)
        return float(max(0.0, root / 2) ** z)

    def swap_bounds(self, state: ConstrainedState) -> Array:
        """(c, k): what the cheapest assignment costs at least with candidate j for center i, by weak duality."""
        prices, problem = prices_of(state.found.duals, self.bounds), self.problem
        reduced = state.matrix + prices[self.label]
        first = reduced.argmin(axis=1)
        rows = np.arange(len(first))
        least = reduced[rows, first]
        reduced[rows, first] = np.inf
        out = np.empty((len(self.places), len(state.centers)))
        _swap_bounds(
            problem.points, problem.weights, self.label, self.places, float(problem.z), prices,
            first, least, reduced.min(axis=1), out,
        )  # fmt: skip
        return out + (float(problem.weights @ least) + state.found.offset)

    def swaps(self, state: ConstrainedState, attempts: int, rng: np.random.Generator) -> ConstrainedState:
        """Tries candidates drawn at random, each for the center that it could be cheapest for, and keeps what is
        cheaper after a few steps."""
        bounds, room = None, ROOM if self.free else 1 - _GAIN
        for _ in range(attempts):
            bounds = self.swap_bounds(state) if bounds is None else bounds
            place = int(rng.integers(len(self.places)))
            # Half of the time the best center to give up, a quarter the next, and so on.
            rank = min(int(rng.geometric(0.5)), bounds.shape[1]) - 1
            i = int(np.argsort(bounds[place], kind="stable")[rank])
            if bounds[place, i] >= room * state.cost:
                continue
            centers = state.centers.copy()
            centers[i] = self.places[place]
            swapped = self.state_below(room * state.cost, centers, state.found.duals)
            if swapped is None:
                continue
            other = self.descend(swapped, _STEPS, 1e-5, state.cost)
            if other.cost < state.cost * (1 - _GAIN):
                state, bounds = other, None
        return state

    def descend(self, state: ConstrainedState, most: int, tol: float, goal: float = math.inf) -> ConstrainedState:
        """Center steps and assignments in turn, until one gains at most tol of the cost; never costs more.

        Args:
          goal: gives up when four more gains like the last would not bring the cost below it.
        """
        for _ in range(most):
            other = self.state(self._moved(state), state.found.duals)
            gained = state.cost - other.cost
            if gained > 0:
                state = other
            if gained <= tol * state.cost or state.cost - 4 * gained > goal:
                break
        return state

    def _moved(self, state: ConstrainedState) -> Array:
        """Centers that cost no more for the flow as it is: one step further, or better candidates."""
        found, problem = state.found, self.problem
        part = dataclasses.replace(problem, points=problem.points[found.rows], weights=found.amounts)
        dist_sq = np.empty(len(found.rows))
        exact_dist_sq(part.points, state.centers, found.clusters, dist_sq)
        target: Array = part.step(Clustering(state.centers, found.clusters, dist_sq, found.cost))
        if self.free:
            return target
        from scipy.spatial.distance import cdist  # late: 0.1 s to import

        centers = state.centers.copy()
        for i in np.unique(found.clusters):
            mine = found.clusters == i
            near = np.argsort(((self.places - target[i]) ** 2).sum(axis=1), kind="stable")[:NEAR_PLACES]
            places = np.concatenate([state.centers[i : i + 1], self.places[near]])
            each = power_of_distance(cdist(part.points[mine], places, "sqeuclidean"), problem.z)
            centers[i] = places[(found.amounts[mine] @ each).argmin()]
        return centers
