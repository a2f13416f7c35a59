"""Prices of a constraint for all rows of the data, from few of them.

Prices that are right for a sample of n rows miss the clusters' weights on all rows by its error, about 1 / sqrt(n of a
cluster). But most rows are far from changing their cluster. So one more pass over all rows, with such prices, gathers
those that would change it first if prices moved, and of others the fewer the further they are from it; these stand for
exactly the weight that is there of their label in their cluster, at their distance. If prices then move no further than
all rows were gathered, the flow for these is the optimum over all rows; else its error is that of a sample of the few
rows that the prices have come past. The same again narrows it further.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.assigning.cluster_assignment import Priced, label_codes, tie_place
from beam_coresets.points.block import PointBlock
from beam_coresets.points.nearest import Metric
from beam_coresets.sampling.bottom_k import BottomK, RankedRows, row_ranks, water_level
from beam_coresets.solvers.constrained.bounds import Bounds
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.solver import cost_matrix
from beam_coresets.solvers.constrained.transport import Transport, transport

TIE = 1e-7  # of the mean cost: what rounding makes of a tie
DEVIATIONS = 4.0  # standard errors of a cluster's size that prices may be off by,
FEW_MORE = 16  # and rows beyond that
AGAIN, NARROWEST = 2.0, 16.0  # prices that have moved may be off by so many times that, and by no less of the old reach
LEVELS = np.array([1 / 64, 1 / 16, 1 / 4, 1])  # of how far rows are from changing their cluster, in units of that
FAR_LEVEL = len(LEVELS)
FAR_SHARE = 4  # one in so many gathered rows may be further
FEW_ROWS, FEW_COSTS = 50_000, 20_000_000  # whose flow is made in one go; rows, and rows times clusters,
FEW_IN_PROGRAM, ROWS_A_PRICE = 10_000, 150  # and rows where it takes linear programs, or so many a price
PRICE_ROUNDS, ENOUGH = 8, 5e-4  # of such plans, until all rows in hand miss no bound by more

Array = npt.NDArray[Any]
Cell = tuple[str, int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
    """A weighted sample in which all rows are stood for, found in one pass over them.

    Attributes:
      labels: m names; one "" where they don't matter.
      label_weights: (m,) float64, what each label weighs in all rows, and in the sample.
      complete: whether the sample has every row.
      points, weights, ids, label: (n, d), (n,), (n,) uint64 and (n,) int64 places in `labels`, in increasing order.
      cell: (n,) int64, rows of a cell stand for each other.
    """

    labels: tuple[str, ...]
    label_weights: Array
    complete: bool
    points: Array
    weights: Array
    ids: Array
    label: Array
    cell: Array


@dataclasses.dataclass(frozen=True, eq=False)
class SurveyTally:
    """A survey under way; tallies of different rows merge.

    Attributes:
      weights, rows: (label, cluster, level) -> weight and number of all such rows; the cluster is -1 before there are
        prices, and the level `FAR_LEVEL` for rows that are far from changing it.
      near, far: samples of these rows, by label, cluster and level.
    """

    weights: Mapping[Cell, float]
    rows: Mapping[Cell, int]
    near: BottomK
    far: BottomK

    def merge(self, others: Iterable[SurveyTally]) -> SurveyTally:
        """With the rows of others."""
        others = list(others)
        weights, rows = dict(self.weights), dict(self.rows)
        for other in others:
            for cell, weight in other.weights.items():
                weights[cell] = weights.get(cell, 0.0) + weight
                rows[cell] = rows.get(cell, 0) + other.rows[cell]
        near, far = (getattr(self, name).merge(getattr(o, name) for o in others) for name in ("near", "far"))
        return SurveyTally(weights, rows, near, far)

    def survey(self) -> Survey:
        """What it has found."""
        labels = tuple(sorted({label for label, _, _ in self.weights}))
        parts: list[tuple[Array, ...]] = []
        for sample in (self.near, self.far):
            for cell, (drawn,) in sample.trimmed().strata.items():
                _, points, weights, ids = drawn
                if self.rows[cell] > len(ids):  # sums in another order give the same digits, but for the last
                    weights = weights * (float(f"{self.weights[cell]:.12g}") / weights.sum())
                place = np.full(len(ids), labels.index(cell[0]), np.int64)
                parts.append((points, weights, ids, place, np.full_like(place, len(parts))))
        parts.sort(key=lambda part: int(part[3][0]))
        none = np.empty(0, np.int64)
        nothing = (np.empty((0, 0)), np.empty(0), none.astype(np.uint64), none, none)
        points, weights, ids, label, cell = (np.concatenate(c) for c in zip(*(parts or [nothing]), strict=True))
        total = np.bincount(label, weights, len(labels))
        return Survey(labels, total, len(ids) == sum(self.rows.values()), points, weights, ids, label, cell)


@dataclasses.dataclass(frozen=True, eq=False)
class Surveyor:
    """What a pass looks at.

    Attributes:
      k: how many clusters.
      size: how many rows it gathers that may change their cluster, as many of each label, cluster and level, all if
        there are fewer; and a quarter as many of the others.
      labelled: whether labels are told apart.
      priced: the prices so far; without them all rows are alike.
      reach: (m, k, k), by how much prices may be off (`reach_of`).
      seed: salts the hash that rows are drawn by.
    """

    k: int
    size: int
    labelled: bool = False
    priced: Priced | None = None
    reach: Array | None = None
    seed: int = 0

    def nothing(self) -> SurveyTally:
        """The tally of no rows."""
        return SurveyTally({}, {}, BottomK(self.size), BottomK(max(1, self.size // FAR_SHARE)))

    def tally(self, block: PointBlock) -> SurveyTally:
        """What there is to say of a block; rows without weight are passed over."""
        heavy = np.flatnonzero(block.weights > 0)
        if not len(heavy):
            return self.nothing()
        block = block if len(heavy) == len(block) else block.take(heavy)
        names, label = label_codes(block.extras) if self.labelled else ([""], np.zeros(len(block), np.int64))
        index, level = np.full(len(block), -1), np.zeros(len(block), np.int64)
        if self.priced is not None:
            index, _, away = self.priced.settled(block, self.reach)
            level = np.searchsorted(LEVELS, away)
        place = np.stack([label, index, level])
        which = np.unique(_cells(label, index, level, self.k), return_inverse=True)[1]
        weight, rows = np.bincount(which, block.weights), np.bincount(which)
        order, rank = np.argsort(which, kind="stable"), row_ranks(block.ids, block.points, self.seed)
        near: dict[Cell, tuple[RankedRows, ...]] = {}
        far: dict[Cell, tuple[RankedRows, ...]] = {}
        weights, counts = {}, {}
        for own, w, n in zip(np.split(order, np.cumsum(rows)[:-1]), weight.tolist(), rows.tolist(), strict=True):
            j, cluster, distance = place[:, own[0]].tolist()
            cell = names[j], cluster, distance
            weights[cell], counts[cell] = w, n
            part = tuple(array[own] for array in (rank, block.points, block.weights, block.ids))
            (far if distance == FAR_LEVEL else near)[cell] = (part,)
        empty = self.nothing()
        samples = dataclasses.replace(empty.near, strata=near), dataclasses.replace(empty.far, strata=far)
        return SurveyTally(weights, counts, *samples)


def reprice(
    survey: Survey,
    constraint: Constraint,
    centers: Array,
    z: float = 2.0,
    metric: Metric = "euclidean",
    start: Priced | None = None,
    reach: Array | None = None,
) -> Priced:
    """The prices of the cheapest assignment of the survey's rows under a constraint.

    Of many rows, prices that are nearly right tell which may change their cluster; the flow is made of these and a few
    others, and again with the prices that come of it, until all of the survey's rows keep to the constraint.

    Args:
      centers: (k, d).
      start, reach: prices that are nearly right and how far they may be off, (m, k, k); by default those of few rows.

    Raises:
      ValueError: a constraint that this data can't meet.
    """
    m, k = len(survey.labels), len(centers)
    bounds = constraint.bounds(survey.labels, survey.label_weights, k)
    free = Priced(np.asarray(centers, np.float64), np.zeros((m, k)), survey.labels, z, metric)
    most = FEW_ROWS if bounds.sizes is not None else max(FEW_IN_PROGRAM, ROWS_A_PRICE * m * k)
    size = min(FEW_ROWS, most, FEW_COSTS // k)
    if len(survey.points) <= size:
        return _planned(survey, bounds, free)
    if start is None or reach is None:
        few = _thinned(survey, size)
        start = _planned(few, bounds, free)
        reach = reach_of(start, few)
    best, least, before = start, np.inf, start
    for _ in range(PRICE_ROUNDS):
        priced = _planned(_focused(survey, before, reach, size), bounds, before)
        missed = bounds.violation(_sizes(survey, priced))
        if missed < least:
            best, least = priced, missed
        if missed <= ENOUGH:
            break
        before, reach = priced, narrowed(reach, before, priced)
    return best


def _sizes(survey: Survey, priced: Priced) -> Array:
    """The weight (m, k) of each label in each cluster, by these prices."""
    index, _, _ = priced.placed(survey.points, survey.label, survey.ids)
    cell = survey.label * priced.k + index
    return np.bincount(cell, survey.weights, priced.prices.size).reshape(priced.prices.shape)


def _cells(label: Array, index: Array, level: Array, k: int) -> Array:
    """A number (n,) for each label, cluster (from -1 on) and level."""
    return (label * (k + 1) + index + 1) * (FAR_LEVEL + 1) + level


def _thinned(survey: Survey, size: int) -> Survey:
    """On about `size` rows, as many of each cell, all if there are fewer; they take on the cell's weight."""
    _, number, count = np.unique(survey.cell, return_inverse=True, return_counts=True)
    order = np.lexsort((tie_place(survey.ids), number))
    place = np.arange(len(order)) - (np.cumsum(count) - count)[number[order]]
    rows = np.sort(order[place < max(1, water_level(count.tolist(), size))])
    factor = np.bincount(number, survey.weights) / np.bincount(number[rows], survey.weights[rows])
    arrays = {name: getattr(survey, name)[rows] for name in ("points", "ids", "label", "cell")}
    return dataclasses.replace(survey, weights=survey.weights[rows] * factor[number[rows]], **arrays)


def _focused(survey: Survey, priced: Priced, reach: Array, size: int) -> Survey:
    """On about `size` rows: those that are closest to changing their cluster, and fewer of the others."""
    index, _, _, away = priced.cheapest(survey.points, survey.label, reach)
    cell = _cells(survey.label, index, np.searchsorted(LEVELS, away), priced.k)
    return _thinned(dataclasses.replace(survey, cell=cell), size)


def _planned(survey: Survey, bounds: Bounds, before: Priced) -> Priced:
    """By an exact flow of the rows in the survey."""
    cost = cost_matrix(survey.points, before.centers, before.z, before.metric)
    found = transport(cost, survey.weights, survey.label, bounds, before.duals)
    tolerance = TIE * float(cost.mean()) if cost.size else 0.0
    priced = dataclasses.replace(before, prices=found.prices, tolerance=tolerance, duals=found.duals, ties={})
    return dataclasses.replace(priced, ties=_ties(priced, survey, found))


def _ties(priced: Priced, survey: Survey, found: Transport) -> dict[tuple[int, bytes], Array]:
    """Where the flow divides the rows of each tie, in the order of `tie_place`: at most half a row off."""
    _, _, gap, _ = priced.cheapest(survey.points, survey.label)
    rows = np.flatnonzero(gap <= priced.tolerance)
    if not len(rows):
        return {}
    names, which = priced.ties_of(survey.points[rows], survey.label[rows])
    number = np.full(len(survey.weights), -1)
    number[rows] = which
    entry = number[found.rows] >= 0
    amounts = np.zeros((len(names), priced.k))
    np.add.at(amounts, (number[found.rows[entry]], found.clusters[entry]), found.amounts[entry])
    place, out = tie_place(survey.ids), {}
    order = rows[np.lexsort((place[rows], which))]
    for name, wanted, own in zip(names, amounts, np.split(order, np.cumsum(np.bincount(which))[:-1]), strict=True):
        passed = np.concatenate([[0.0], np.cumsum(survey.weights[own])])
        between = np.concatenate([[0.0], (place[own][1:] + place[own][:-1]) / 2, [1.0]])
        cut = np.clip(np.searchsorted(passed, np.cumsum(wanted)), 1, len(own))
        cut -= np.cumsum(wanted) - passed[cut - 1] < passed[cut] - np.cumsum(wanted)
        out[name] = between[cut]
        out[name][np.flatnonzero(wanted).max(initial=0) :] = 1.0
    return out


def reach_of(priced: Priced, survey: Survey) -> Array:
    """How far the prices of a survey may be off those for all rows: (m, k, k), for each label, by how much a cluster
    would have to become dearer than another to lose `DEVIATIONS` standard errors of its size to that."""
    k = priced.k
    reach = np.zeros((len(priced.prices), k, k))
    for j in range(len(reach)):
        own = survey.label == j
        reduced = priced.reduced(survey.points[own], survey.label[own])
        index = reduced.argmin(axis=1)
        for a in range(k):
            dearer = reduced[index == a]
            if len(dearer):
                rank = min(int(DEVIATIONS * np.sqrt(len(dearer))) + FEW_MORE, len(dearer) - 1)
                reach[j, a] = np.partition(dearer - dearer[:, [a]], rank, axis=0)[rank]
    known = reach[reach > 0]
    return np.where(reach > 0, reach, np.median(known) if len(known) else 1.0)


def narrowed(reach: Array, old: Priced, new: Priced) -> Array:
    """How far prices may still be off (m, k, k), as they have moved by so much from the old ones, which were off by
    `reach`: some times as far."""
    change = new.prices - old.prices
    moved = np.abs(change[:, :, None] - change[:, None, :])
    return np.maximum(AGAIN * moved, reach / NARROWEST)


def violations(bounds: Bounds, sizes: Array) -> Array:
    """The relative miss (rows,) of each bound by the weights (m, k) of labels in clusters, as `Bounds.violation`."""
    alone = (dataclasses.replace(bounds, matrix=bounds.matrix[[r]], low=bounds.low[[r]], high=bounds.high[[r]],
                                 names=bounds.names[r : r + 1], cluster=bounds.cluster[[r]], share=bounds.share[[r]])
             for r in range(len(bounds)))  # fmt: skip
    return np.array([bound.violation(sizes) for bound in alone])
