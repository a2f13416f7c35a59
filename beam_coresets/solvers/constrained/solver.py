"""Constrained (k, z)-clustering of a weighted coreset: centers, and the cheapest assignment to them within bounds.

Jaiswal and Kumar, *Universal Weak Coreset*, Theorem 1 and Algorithm 1 (Appendix A): over the k-tuples of a candidate
set J, take the cheapest feasible assignment of the coreset, and of these the best; it costs at most alpha (1 + 3 eps)
times the optimum on the data, for eps <= 1/3. All tuples are tried where they are few or that is asked for, and
`ConstrainedModel.factor` is then what is proved; else a search goes over J (seeding, then swaps), which proves nothing.
Clusters whose bounds differ are told apart, so their order counts, and one candidate may serve twice: clusters of at
most W / k each may need several at one place.

Centers that are not kept to J then move on: to the mean (z = 2), the next Weiszfeld iterate, or on the sphere the
normalised mean of what is assigned to them, then the assignment follows, and so on; neither ever costs more.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import Metric, nearest, writable
from beam_coresets.points.seeding import dz_draw
from beam_coresets.solvers.centers import refine, solve_centers
from beam_coresets.solvers.constrained.bounds import Bounds
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.exchange import ConstrainedState, Search, costs_of
from beam_coresets.solvers.constrained.rounding import Rounded, rounded
from beam_coresets.solvers.constrained.transport import Transport, transport
from beam_coresets.solvers.descent import CentersProblem
from beam_coresets.solvers.model import Centers, Model

Array = npt.NDArray[Any]

CANDIDATES_PER_CENTER = 40
CHOICES = 5_000  # so many choices of k candidates are all tried,
MOST_CHOICES = 1_000_000  # and so many where that is asked for
_RESTARTS = 4
# Swaps that are tried: points times clusters over all of them, about, and the most of them as a multiple of k; where
# assignments are by shortest paths, and by linear programs. In a fold of cross-fitting, a multiple of k, too.
_FLOW_WORK, _MOST_FLOW = 3e7, 20
_PROGRAM_WORK, _MOST_PROGRAM = 1e6, 4
_FOLD_SWAPS = 3


def labels_of(sample: Coreset, constraint: Constraint) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The labels in the sample, in order, and the number of each point's among them, (n,).

    Labels are the text column `group` of its extras. There is one, "", where they don't matter to the constraint.

    Raises:
      ValueError: the constraint is about labels and the sample has none.
    """
    if not constraint.labelled:
        return ("",), np.zeros(len(sample), np.int64)
    extras = sample.extras
    if extras is None or "group" not in extras.column_names:
        raise ValueError("constraint: must have points with labels (a group column), got points without")
    named = np.array(["" if name is None else str(name) for name in extras.column("group").to_pylist()], dtype=object)
    labels, index = np.unique(named, return_inverse=True)
    return tuple(labels.tolist()), index.astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class ConstrainedModel(Model):
    """Centers under a constraint: points go where their cost and the price of their label are least.

    By weak duality the cost on *any* data with these labels' weights is at least what the prices say; by the envelope
    theorem the error of prices that come from a sample is of second order in it.

    Attributes:
      centers: (k, d) float64.
      prices: (m, k) float64, of the labels in the clusters, such that `sum_p w(p) min_i (cost + price) = cost` on the
        sample it was solved on: a constant on all of them makes up for the offset, which is 0.
      labels: m names; one "" where they don't matter.
      constraint, bounds: what the clusters keep to; the bounds are for that sample's weights.
      flow: the exact assignment of that sample.
      weights, paid: (k,) float64 each, the clusters' weights and costs in that flow.
      z, metric: of the cost.
      places: (c, d) float64, the candidates that centers were chosen from.
      free: whether they could leave them.
      alpha: what keeping to the candidates costs, measured: the cost with centers that do, over the cost with centers
        that don't have to, as far as both were found.
      factor: the cost is at most so many times that of the best centers anywhere under this constraint, on the sample
        it was solved on; None where nothing proves that: not all choices of candidates were tried, or they are too far
        away.
    """

    centers: Array
    prices: Array
    labels: tuple[str, ...]
    constraint: Constraint
    bounds: Bounds
    flow: Transport
    weights: Array
    paid: Array
    z: float
    metric: Metric
    places: Array
    free: bool
    alpha: float | None = None
    factor: float | None = None
    bases: Array | None = None

    @property
    def cost(self) -> float:
        """Of the exact flow."""
        return self.flow.cost

    @property
    def calibrated_cost(self) -> float:
        """Calibrated weights know better than unbiased ones how large the clusters are."""
        return self.cost

    def costs(self, sample: Coreset) -> tuple[Array, Array]:
        """The cheapest cluster (n,), and cost and price there together (n,), of any sample's points; a label that the
        model doesn't know pays no price."""
        matrix, prices = self._costs_and_prices(sample)
        matrix += prices
        index = matrix.argmin(axis=1)
        return index, matrix[np.arange(len(index)), index]

    def clusters(self, sample: Coreset) -> tuple[Array, Array]:
        """The cheapest cluster (n,) of each point, and what the point alone costs there (n,)."""
        matrix, prices = self._costs_and_prices(sample)
        index = (matrix + prices).argmin(axis=1)
        return index, matrix[np.arange(len(index)), index]

    def unbiased_costs(self, sample: Coreset) -> Array:
        """Part of a cost is the price of the cluster. Prices multiply what the unbiased weights miss of the clusters'
        totals, some per cent, which the calibrated ones hardly do: so prices count by these."""
        (_, cost), (_, own) = self.costs(sample), self.clusters(sample)
        calibrated = np.divide(sample.weights, sample.weights_ht, out=np.ones(len(own)), where=sample.weights_ht > 0)
        return np.asarray(own + (cost - own) * calibrated)

    def totals(self, sample: Coreset, index: Array, cost: Array) -> tuple[Array, Array]:
        """Of the exact flow: points may be in several clusters."""
        return self.weights, self.paid

    def violation(self, sample: Coreset) -> float:
        """The largest relative miss of a bound by the clusters of the sample it was solved on."""
        return self.bounds.violation(self.table(sample))

    def table(self, sample: Coreset) -> Array:
        """(m, k) float64, the weight of each label in each cluster of the sample it was solved on."""
        return self.flow.table(self._numbers(sample))

    def whole(self, sample: Coreset) -> tuple[ConstrainedModel, Rounded]:
        """The same centers with every point of the sample it was solved on in one cluster, and what that took."""
        label = self._numbers(sample)
        matrix = cost_matrix(sample.points, self.centers, self.z, self.metric)
        found = rounded(self.flow, matrix, sample.weights, label, self.bounds)
        return self._with_flow(found.flow, matrix), found

    def refit(self, sample: Coreset, fold: int, quick: bool) -> ConstrainedModel:
        """From scratch, for weights brought to these bounds' label weights; itself where the sample has nothing of some
        label. Candidates are drawn anew, unless centers have to keep to them."""
        label = self._numbers(sample)
        weights = np.where(label < 0, 0.0, sample.weights)
        label = np.maximum(label, 0)
        have, wanted = np.bincount(label, weights, len(self.labels)), self.bounds.label_weights
        if (wanted[have <= 0] > 0).any():
            return self
        weights = weights * (wanted / np.where(have > 0, have, 1.0))[label]
        kept, k = np.flatnonzero(weights > 0), self.bounds.k
        problem = CentersProblem.of(sample.points[kept], weights[kept], self.z, self.metric == "cosine")
        places = self.places
        if self.free and len(kept) >= k:
            places = sample.points[kept][dz_draw(sample.points[kept], weights[kept], CANDIDATES_PER_CENTER * k, self.z,
                                                 generator(fold, "refit", "candidates"))]  # fmt: skip
        search = Search(problem, label[kept], self.bounds, problem.inward(places), self.free)
        sample = dataclasses.replace(sample, weights=weights)
        unbound = Centers(self.centers, self.z, self.metric).refit(sample, fold, quick)
        state = _started(search, problem.inward(unbound.centers), 0 if quick else 1, generator(fold, "refit"))
        if not quick:
            attempts = min(_attempts(search), _FOLD_SWAPS * k)
            state = search.swaps(state, attempts, generator(fold, "refit", "swaps"))
        state = search.descend(state, 100, 1e-7)
        return _model(self, sample.points, weights, label, problem, state)

    def _with_flow(self, flow: Transport, matrix: Array) -> ConstrainedModel:
        paid, k = flow.amounts * matrix[flow.rows, flow.clusters], len(self.centers)
        weights = np.bincount(flow.clusters, flow.amounts, k)
        return dataclasses.replace(self, flow=flow, weights=weights, paid=np.bincount(flow.clusters, paid, k))

    def _numbers(self, sample: Coreset) -> npt.NDArray[np.int64]:
        """The place (n,) of each point's label among those of the model, -1 for others."""
        found, index = labels_of(sample, self.constraint)
        known = {label: j for j, label in enumerate(self.labels)}
        return np.array([known.get(label, -1) for label in found], np.int64)[index]

    def _costs_and_prices(self, sample: Coreset) -> tuple[Array, Array]:
        """(n, k) each."""
        label = self._numbers(sample)
        prices = np.concatenate([self.prices, np.zeros((1, len(self.centers)))])
        return cost_matrix(sample.points, self.centers, self.z, self.metric), prices[label]


def cost_matrix(points: Array, centers: Array, z: float = 2.0, metric: Metric = "euclidean") -> Array:
    """(n, k) float64: dist**z of every point to every center by direct differences, or (1 - cos)**(z / 2)."""
    out = np.empty((len(points), len(centers)))
    costs_of(writable(points), writable(np.asarray(centers, np.float64)), float(z), out)
    return out * 0.5 ** (z / 2) if metric == "cosine" else out


def solve_constrained(
    sample: Coreset,
    k: int,
    constraint: Constraint,
    z: float = 2.0,
    metric: Metric = "euclidean",
    seed: int = 0,
    candidates: Array | None = None,
    restarts: int | None = None,
    free: bool = True,
    exhaustive: bool | None = None,
    init: Array | None = None,
    quick: bool = False,
) -> ConstrainedModel:
    """Centers that cost little under a constraint, and the exact assignment of the sample to them.

    Args:
      sample: points with calibrated weights; labels in the column `group` of its extras.
      k: how many clusters; some may be empty where the constraint allows it.
      constraint: what they keep to.
      z: the power of the distance, at least 1.
      metric: "cosine" keeps the centers at unit length and counts (1 - cos)**(z / 2).
      seed: of all random draws.
      candidates: (c, d) J, c >= k; by default 40 k of the sample's points by D^z sampling.
      restarts: how many starts, beside that from unconstrained centers (or `init`).
      free: centers also move on, away from the candidates.
      exhaustive: tries all choices of k candidates, in any order where clusters are bounded differently; by default
        where there are at most 5,000, unless `quick`. The best over J is then found for certain.
      init: (at most k, d) centers to start from.
      quick: a tenth of the search.

    Raises:
      ValueError: bounds that can't be met (`Bounds.check`) or don't fit the data (`Constraint.bounds`), fewer
        candidates than k, points of another width, too many tuples, or what `solve_centers` refuses.
    """
    points, weights = sample.points, sample.weights
    most = int(np.count_nonzero(weights > 0))
    if k > most:
        raise ValueError(f"k: must be at most the {most} points there are to choose from under a constraint, got {k}")
    labels, label = labels_of(sample, constraint)
    bounds = constraint.bounds(labels, np.bincount(label, weights, len(labels)), k)
    bounds.check()
    most_restarts, most_swaps = (1, k) if quick else (None, None)
    first = (
        solve_centers(points, weights, k, z, seed=seed, metric=metric, restarts=most_restarts, swaps=most_swaps)
        if init is None
        else refine(points, weights, init, z, metric=metric, max_iter=0)
    ).centers
    kept = np.flatnonzero(weights > 0)
    problem = CentersProblem.of(points[kept], weights[kept], z, metric == "cosine")
    places = _places(points[kept], weights[kept], k, z, seed, candidates)
    search = Search(problem, label[kept], bounds, problem.inward(places), free)
    if exhaustive:
        check_choices(constraint, k, len(places))
    elif exhaustive is None:
        exhaustive = not quick and constraint.choices(k, len(places)) <= CHOICES
    among = search.best_tuple(constraint.alike(k)) if exhaustive else None
    if among is not None and not free:
        best = among
    else:
        best = _searched(search, problem.inward(first), among, seed, restarts, quick)
    other = dataclasses.replace(search, free=not free)
    rival = _rival(other, best, among, generator(seed, "solve_constrained", "alpha"))
    dearer, cheaper = (rival, best.cost) if free else (best.cost, rival)
    start = ConstrainedModel(
        centers=np.empty((k, 0)), prices=np.empty((0, k)), labels=labels, constraint=constraint, bounds=bounds,
        flow=best.found, weights=np.empty(k), paid=np.empty(k), z=float(z), metric=metric, places=places, free=free,
        alpha=max(1.0, dearer / cheaper) if cheaper > 0 else 1.0, factor=_factor(search, best, among),
    )  # fmt: skip
    return _model(start, points, weights, label, problem, best)


def check_choices(constraint: Constraint, k: int, candidates: int) -> None:
    """Raises ValueError where k clusters can be placed at so many candidates in too many ways to try them all."""
    choices = constraint.choices(k, candidates)
    if choices > MOST_CHOICES:
        told = f"{choices:.3g}" if choices < 1e300 else "more than 1e300"
        raise ValueError(f"exhaustive: must be at most {MOST_CHOICES:,} choices of k candidates, got {told} with "
                         f"k = {k} and {candidates} candidates")  # fmt: skip


def _factor(search: Search, best: ConstrainedState, among: ConstrainedState | None) -> float | None:
    """By how much `best` is at most above what any centers cost, if the best of the candidates is known."""
    least = 0.0 if among is None else search.least_cost(among.cost) * (1 - 1e-9)
    if least > search.problem.floor:
        return max(1.0, best.cost / least)
    return None


def _places(points: Array, weights: Array, k: int, z: float, seed: int, candidates: Array | None) -> Array:
    drawn = candidates is None
    if candidates is None:
        rng = generator(seed, "solve_constrained", "candidates")
        candidates = points[dz_draw(points, weights, CANDIDATES_PER_CENTER * k, z, rng)]
    places = np.asarray(candidates, np.float64)
    if places.ndim != 2 or places.shape[1] != points.shape[1] or not np.isfinite(places).all():
        raise ValueError(f"candidates: must be finite points of {points.shape[1]} columns, got shape {places.shape}")
    if len(places) < k and drawn:
        raise ValueError(f"k: must be at most the {len(places)} distinct points under a constraint, got {k}")
    if len(places) < k:
        raise ValueError(f"candidates: must be at least k = {k}, got {len(places)}")
    return places


def _searched(
    search: Search, first: Array, among: ConstrainedState | None, seed: int, restarts: int | None, quick: bool
) -> ConstrainedState:
    """The best of several starts, improved by swaps."""
    restarts = (0 if quick else _RESTARTS) if restarts is None else restarts
    best = _started(search, first, restarts, generator(seed, "solve_constrained", "starts"), among)
    attempts = _attempts(search) // (10 if quick else 1)
    best = search.swaps(best, attempts, generator(seed, "solve_constrained", "swaps"))
    return search.descend(best, 300, 1e-9)


def _started(
    search: Search, first: Array, restarts: int, rng: np.random.Generator, among: ConstrainedState | None = None
) -> ConstrainedState:
    """The best after a descent from `first`, from `among`, and from `restarts` seedings."""
    k = search.bounds.k
    if len(first) < k:
        first = np.concatenate([first, search.seeded(rng)[: k - len(first)]])
    starts = [first if search.free else search.snapped(first)]
    starts += [search.seeded(rng) for _ in range(restarts)]
    found = [search.descend(search.state(centers), 30, 1e-4) for centers in starts]
    found += [] if among is None else [search.descend(among, 30, 1e-4)]
    return min(found, key=lambda state: state.cost)


def _rival(other: Search, best: ConstrainedState, among: ConstrainedState | None, rng: np.random.Generator) -> float:
    """The cost that is found from `best` with centers that have to keep to the candidates, or that no longer have."""
    if not other.free and among is not None:
        return among.cost
    start = best if other.free else other.state(other.snapped(best.centers), best.found.duals)
    start = other.descend(start, 30, 1e-5)
    return other.swaps(start, min(_attempts(other), other.bounds.k), rng).cost


def _attempts(search: Search) -> int:
    """How many swaps are tried, by the size of the problem and how its assignments are found."""
    k, flow = search.bounds.k, search.bounds.sizes is not None
    work, most = (_FLOW_WORK, _MOST_FLOW) if flow else (_PROGRAM_WORK, _MOST_PROGRAM)
    size = len(search.problem.points) * k
    return int(np.clip(work / size, k if flow else min(k, 4), most * k)) if k > 1 else 0


def _model(
    like: ConstrainedModel,
    points: Array,
    weights: Array,
    label: Array,
    problem: CentersProblem,
    state: ConstrainedState,
) -> ConstrainedModel:
    """The state in the user's coordinates, its costs measured on the user's own rows."""
    centers = problem.outward(state.centers)
    if not like.free:
        centers = like.places[nearest(centers, like.places)[0]]
    unit = 0.5 ** (like.z / 2) if problem.cosine else problem.scale**-like.z
    matrix = cost_matrix(points, centers, like.z, like.metric)
    flow = transport(matrix, weights, label, like.bounds, state.found.duals * unit)
    prices = flow.prices + flow.offset / like.bounds.total
    return dataclasses.replace(like, centers=centers, prices=prices)._with_flow(flow, matrix)
