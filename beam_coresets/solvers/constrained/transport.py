"""Exact minimum-cost assignment of weighted points to given centers under bounds: a transportation problem.

Jaiswal and Kumar, *Universal Weak Coreset*, Theorem 8 (Appendix A): for given centers the best feasible assignment is a
minimum-cost flow. Its dual has one unknown a bound, however many points there are: with prices (m, k) of the labels in
the clusters, every point takes the cluster where its own cost and the price are least. So both ways here move prices,
and only look at the points that are about to change their cluster:

- Sizes only: from any prices, at first every point is where these put it; then weight moves from clusters with too much
  to clusters with too little, each time by the cheapest chain of points (`shortest_paths`). Exact after finitely many
  moves.
- Shares of labels too: linear programs (HiGHS) over the points near a tie, with every price kept in a box as wide as
  those points reach (the box step method: Marsten, Hogan and Blankenship, 1975). Where no price ends on its box's wall
  the optimum is global, as the dual is concave; else the next box begins there.

Where no prices are given, or they turn out to be far off, those of an eighth of the points are found first, likewise.
"""
from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from beam_coresets.solvers.constrained.bounds import Bounds
from beam_coresets.solvers.constrained.shortest_paths import FAR_OFF, NO_WAY, flow_of, successive_paths

Array = npt.NDArray[Any]
P = TypeVar("P", bound="_Problem")

_THINNING = 8
_FEW_FLOW, _FEW_PROGRAM = 1_000, 400  # points at which it starts from nothing
_MISPLACED = 0.01  # share of all weight that a cluster may begin with too much
_NEAR, _FEW_NEAR = 12, 64  # points near a tie in a first linear program: multiple of sqrt(n), and at least
_GROWTH = 3  # of a wall that a price ended on
_ROUNDING = 1e-12  # share of the total weight that counts as none
_HIGHS = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}


@dataclasses.dataclass(frozen=True, eq=False)
class Transport:
    """A minimum-cost assignment and the prices that prove it.

    Attributes:
      cost: `sum amount * cost[row, cluster]` over the flow.
      rows, clusters, amounts: (entries,) int64, int64 and float64: the flow, by row; a row's amounts add up to its
        weight.
      prices: (m, k) float64, what a unit of a label's weight pays in a cluster on top of its own cost.
      offset: `cost = sum_p w(p) min_i (cost[p, i] + prices[label(p), i]) + offset`. For other prices of the same bounds
        the right side is at most the cost (weak duality).
      duals: (rows of the bounds,) float64: what the prices are made of.
    """

    cost: float
    rows: Array
    clusters: Array
    amounts: Array
    prices: Array
    offset: float
    duals: Array

    def table(self, label: Array) -> Array:
        """The weight (m, k) of each label in each cluster."""
        m, k = self.prices.shape
        return np.bincount(label[self.rows] * k + self.clusters, self.amounts, m * k).reshape(m, k)

    @property
    def split(self) -> int:
        """How many points are in several clusters."""
        return int((np.bincount(self.rows) > 1).sum())


def transport(cost: Array, weights: Array, label: Array, bounds: Bounds, duals: Array | None = None) -> Transport:
    """The cheapest assignment of points to clusters that keeps to the bounds; points may be split.

    Args:
      cost: (n, k) float64, what a unit of each point's weight costs in each cluster.
      weights: (n,) non-negative.
      label: (n,) integers, the row of `bounds.labels`; 0 everywhere for data without labels.
      bounds: made for these labels' total weights.
      duals: (len(bounds),) to begin with, such as those of nearby centers; any will do.

    Raises:
      ValueError: shapes that differ, costs or weights that are not finite, or bounds that can't be met.
    """
    found = transport_below(math.inf, cost, weights, label, bounds, duals)
    assert found is not None
    return found


def transport_below(
    ceiling: float, cost: Array, weights: Array, label: Array, bounds: Bounds, duals: Array | None = None
) -> Transport | None:
    """`transport`, or None as soon as it is known to cost more than `ceiling`."""
    cost, weights = np.asarray(cost, np.float64), np.asarray(weights, np.float64)
    label = np.asarray(label, np.int64)
    if cost.ndim != 2 or cost.shape[1] != bounds.k or weights.shape != label.shape or len(weights) != len(cost):
        raise ValueError(
            f"cost: must be points times {bounds.k} clusters with a weight and a label for each point, got shapes "
            f"{cost.shape}, {weights.shape} and {label.shape}"
        )
    if not np.isfinite(cost).all() or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("cost, weights: must be finite and weights not negative, got others")
    kept = np.flatnonzero(weights > 0)
    if len(kept) < len(weights):
        some = transport_below(ceiling, cost[kept], weights[kept], label[kept], bounds, duals)
        return None if some is None else dataclasses.replace(some, rows=kept[some.rows])
    found: Transport | None
    if not len(bounds):
        found = _nearest(cost, weights, bounds)
    elif bounds.sizes is None:
        found = _Program(cost, weights, label, bounds).below(ceiling, duals)
    else:
        found = _Flow(cost, weights, label, bounds).solve(duals)
    return found if found is not None and found.cost <= ceiling else None


def duals_bound(duals: Array, bounds: Bounds) -> float:
    """What the bounds themselves contribute to the dual: `sum_r min over [low, high] of dual * activity`."""
    with np.errstate(invalid="ignore"):
        at = np.where(duals > 0, bounds.low, bounds.high)
        return float(np.where(duals == 0, 0.0, duals * at).sum())


def prices_of(duals: Array, bounds: Bounds) -> Array:
    """(m, k) prices of labels in clusters."""
    return np.asarray(-(bounds.matrix.T @ duals)).reshape(len(bounds.labels), bounds.k)


def _nearest(cost: Array, weights: Array, bounds: Bounds) -> Transport:
    clusters = cost.argmin(axis=1)
    rows = np.arange(len(cost))
    prices = np.zeros((len(bounds.labels), bounds.k))
    return Transport(float(weights @ cost[rows, clusters]), rows, clusters, weights, prices, 0.0, np.zeros(0))


@dataclasses.dataclass(frozen=True, eq=False)
class _Problem:
    """Points of positive weight: cost (n, k), weights (n,), label (n,)."""

    cost: Array
    weights: Array
    label: Array
    bounds: Bounds

    def thinned(self: P) -> P:
        """Every eighth point of each label, with the labels' weights."""
        order = np.argsort(self.label, kind="stable")
        sorted_labels = self.label[order]
        position = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
        rows = np.sort(order[position % _THINNING == 0])
        label, m = self.label[rows], len(self.bounds.labels)
        have = np.bincount(label, self.weights[rows], m)
        want = np.bincount(self.label, self.weights, m)
        weights = self.weights[rows] * (want / np.where(have > 0, have, 1.0))[label]
        return type(self)(np.ascontiguousarray(self.cost[rows]), weights, label, self.bounds)

    def result(self, rows: Array, clusters: Array, amounts: Array, duals: Array) -> Transport:
        """From a flow without order, whose amounts are right up to rounding."""
        kept = amounts > _ROUNDING * self.weights[rows]
        rows, clusters, amounts = rows[kept], clusters[kept], amounts[kept]
        lost = np.flatnonzero(np.bincount(rows, minlength=len(self.weights)) == 0)  # too light for the solver
        if len(lost):
            cheapest = (self.cost[lost] + prices_of(duals, self.bounds)[self.label[lost]]).argmin(axis=1)
            rows, clusters = np.concatenate([rows, lost]), np.concatenate([clusters, cheapest])
            amounts = np.concatenate([amounts, self.weights[lost]])
        order = np.lexsort((clusters, rows))
        rows, clusters, amounts = rows[order], clusters[order], amounts[order]
        amounts = amounts * (self.weights / np.bincount(rows, amounts, len(self.weights)))[rows]
        cost = float(amounts @ self.cost[rows, clusters])
        prices, offset = prices_of(duals, self.bounds), duals_bound(duals, self.bounds)
        return Transport(cost, rows, clusters, amounts, prices, offset, duals)

    def refuse(self) -> ValueError:
        """Why there is no assignment: as `Bounds.check` says, or else the weights are not those of the bounds."""
        weights = np.bincount(self.label, self.weights, len(self.bounds.labels))
        dataclasses.replace(self.bounds, label_weights=weights).check()
        return ValueError(f"bounds: must be possible to meet, got no assignment for label weights {weights}")


class _Flow(_Problem):
    """Bounds on the clusters' weights only."""

    def solve(self, duals: Array | None) -> Transport:
        sizes = self.bounds.sizes
        assert sizes is not None
        low, high = sizes
        total = float(self.weights.sum())
        if (low > high).any() or low.sum() > total * (1 + 1e-9) or high.sum() < total * (1 - 1e-9):
            raise self.refuse()
        amounts = np.zeros((self.bounds.k, len(self.weights)))
        most = math.inf if len(self.weights) <= _FEW_FLOW else _MISPLACED * total
        prices = self._prices(duals)
        done = successive_paths(self.cost, self.weights, low, high, prices, amounts, _ROUNDING * total, most)
        if done == FAR_OFF:
            amounts[:], prices = 0.0, self._prices(self.thinned().solve(duals).duals)
            done = successive_paths(self.cost, self.weights, low, high, prices, amounts, _ROUNDING * total, math.inf)
        if done == NO_WAY:
            raise self.refuse()
        rows, clusters, each, cost = flow_of(self.cost, self.weights, amounts)
        duals = -prices[self.bounds.cluster]
        prices = np.repeat(prices[None], len(self.bounds.labels), axis=0)
        return Transport(cost, rows, clusters, each, prices, duals_bound(duals, self.bounds), duals)

    def _prices(self, duals: Array | None) -> Array:
        """(k,)."""
        prices = np.zeros(self.bounds.k)
        if duals is not None:
            prices[self.bounds.cluster] = -duals
        return prices


class _Program(_Problem):
    """Any linear bounds."""

    def below(self, ceiling: float, duals: Array | None) -> Transport | None:
        n, walls = len(self.weights), None
        if duals is None and n > _FEW_PROGRAM:
            some = self.thinned().below(math.inf, None)
            assert some is not None
            duals = some.duals
        near = n if duals is None else max(_FEW_NEAR, _NEAR * math.isqrt(n))
        duals = np.zeros(len(self.bounds)) if duals is None else self._signed(np.asarray(duals, np.float64))
        while True:
            prices = prices_of(duals, self.bounds)
            gaps = self.cost + prices[self.label]
            best = gaps.argmin(axis=1)
            least = gaps[np.arange(n), best]
            if float(self.weights @ least) + duals_bound(duals, self.bounds) > ceiling:
                return None
            gaps -= least[:, None]
            walls = np.full(prices.shape, 0.5 * self._margin(gaps, near)) if walls is None else walls
            reach = walls[self.label]
            active = gaps <= reach + np.take_along_axis(reach, best[:, None], 1)
            if active.all():
                walls = np.full(prices.shape, np.inf)
            flow, duals, inside = self._restricted(active, prices, walls)
            if inside:
                return self.result(*flow, duals)
            hit = abs(prices_of(duals, self.bounds) - prices) >= 0.99 * walls
            walls = np.where(hit | ~hit.any(), _GROWTH * walls, walls)

    def _signed(self, duals: Array) -> Array:
        """Duals that are possible where only one side is bounded."""
        duals = np.where(np.isinf(self.bounds.low), np.minimum(duals, 0.0), duals)
        return np.where(np.isinf(self.bounds.high), np.maximum(duals, 0.0), duals)

    @staticmethod
    def _margin(gaps: Array, near: int) -> float:
        """The gap within which that many points have a second cluster."""
        if gaps.shape[1] == 1 or near >= len(gaps):
            return math.inf
        second = np.partition(gaps, 1, axis=1)[:, 1]
        return max(float(np.partition(second, near - 1)[near - 1]), 1e-6 * float(gaps.mean()))

    def _restricted(self, active: Array, prices: Array, walls: Array) -> tuple[tuple[Array, Array, Array], Array, bool]:
        """The best flow with the clusters (n, k) bool that are `active`, and prices within `walls` of the given ones.

        The unknowns: amounts, the table T of labels in clusters, the bounds' activities, and what T has more or less
        than the flow, which costs as much as the walls allow.

        Returns:
          The flow, the duals, and whether no price wanted to be beyond its walls.
        """
        bounds, cells, elastic = self.bounds, prices.size, bool(np.isfinite(walls).all())
        several = active.sum(axis=1) > 1
        settled, open_rows = np.flatnonzero(~several), np.flatnonzero(several)
        settled_in = active[settled].argmax(axis=1)
        which, clusters = np.nonzero(active[open_rows])
        rows = open_rows[which]
        cell = self.label[rows] * bounds.k + clusters
        cost = self.cost[rows, clusters] + prices.ravel()[cell]
        if len(rows):
            cost -= np.minimum.reduceat(cost, np.searchsorted(which, np.arange(len(open_rows))))[which]
        # Units in which costs and weights are about 1. What is active may cost nothing: prices are then all there is.
        large = float(np.abs(prices).max(initial=0.0)) + (float(walls.max(initial=0.0)) if elastic else 0.0)
        money = max(float(cost.mean()) if len(cost) else 0.0, 1e-6 * large, 1e-300)
        mass = float(self.weights.mean())
        table = np.bincount(self.label[settled] * bounds.k + settled_in, self.weights[settled], cells)
        found = self._solved(
            np.concatenate([cost, -prices.ravel(), np.zeros(len(bounds)), *[walls.ravel()] * 2 * elastic]) / money,
            A_eq=_equalities(bounds, which, cell, len(open_rows), elastic),
            b_eq=np.concatenate([self.weights[open_rows], -table, np.zeros(len(bounds))]) / mass,
            bounds=_ranges((len(rows), 0, np.inf), (cells, -np.inf, np.inf),
                           (len(bounds), bounds.low / mass, bounds.high / mass), (2 * cells * elastic, 0, np.inf)),
        )  # fmt: skip
        missed = float(found.x[len(rows) + cells + len(bounds) :].sum())
        amounts = np.concatenate([self.weights[settled], found.x[: len(rows)] * mass])
        flow = np.concatenate([settled, rows]), np.concatenate([settled_in, clusters]), amounts
        duals = self._signed(found.eqlin.marginals[len(open_rows) + cells :] * money)
        return flow, duals, missed * mass <= 1e-9 * bounds.total


    def _solved(self, cost: Array, **program: Any) -> Any:
        """The optimum, with looser tolerances where rounding makes bounds that leave no room look impossible."""
        from scipy.optimize import linprog  # late: 0.15 s to import

        for options in (_HIGHS, {}, {"presolve": False}):
            found = linprog(cost, method="highs-ds", options=options, **program)
            if found.status == 0:
                return found
        if found.status == 2:
            raise self.refuse()
        raise RuntimeError(f"linear program: must be solved, got {found.message}")


def _equalities(bounds: Bounds, which: Array, cell: Array, points: int, elastic: bool) -> Any:
    """The rows: each open point's amounts, each cell of T, each bound. The columns: as `_Program._restricted` says.

    Args:
      which, cell: (entries,) the point and the cell of T of each amount. points: how many are open.
    """
    rest, entries = _of_all_tables(bounds, elastic), len(which)
    # Put together by hand: a search makes thousands of these, and sparse.bmat takes longer than the solver.
    indices = np.concatenate([np.stack([which, points + cell], axis=1).ravel(), points + rest.indices])
    starts = np.concatenate([2 * np.arange(entries), 2 * entries + rest.indptr])
    data = np.concatenate([np.ones(2 * entries), rest.data])
    return sparse.csc_matrix((data, indices, starts), (points + rest.shape[0], entries + rest.shape[1]))


@functools.lru_cache(maxsize=4)
def _of_all_tables(bounds: Bounds, elastic: bool) -> Any:
    """The columns of `_equalities` that don't depend on the points."""
    unit, none = sparse.identity(len(bounds.labels) * bounds.k), [None] * 2 * elastic
    activity = sparse.identity(len(bounds))
    return sparse.bmat([[-unit, None, *[unit, -unit] * elastic], [bounds.matrix, -activity, *none]], format="csc")


def _ranges(*parts: tuple[int, Any, Any]) -> Array:
    """(n, 2) float64: lower and upper bounds of groups of unknowns, each (how many, lower, upper)."""
    return np.concatenate([np.stack(np.broadcast_arrays(np.full(n, low), high), axis=1) for n, low, high in parts])
