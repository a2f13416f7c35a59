"""Which cluster a row belongs to: that of the nearest center or subspace, or under a constraint the cheapest by price.

A constrained assignment of least cost is one in which every row goes where its cost and the price of that cluster for
its label add up to least (linear programming duality: `solvers.transport`); only rows that are tied are left to the
flow. They are told apart by a hash of their ids, in the shares that the flow has: no list of rows is needed, and a row
goes to the same cluster wherever it is read.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.hashing import hash_integers
from beam_coresets.points.block import PointBlock
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import MATRIX_DIM, Metric, distances_to, power_of_distance, writable
from beam_coresets.solvers.model import Model

_ROWS = 256  # of points whose distances are in the cache at a time
_SALT = 0x71E5

Array = npt.NDArray[Any]


class Membership(Protocol):
    """Gives rows their cluster."""

    @property
    def k(self) -> int: ...

    def clusters_of(self, block: PointBlock) -> tuple[Array, Array]:
        """The cluster (n,) int32 and the distance (n,) float64 of each row: to the center or subspace, under the
        cosine metric 1 - cos."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Nearest:
    """The cluster whose center, or subspace, is nearest.

    Attributes:
      model: what was solved, `model.costs` being dist**z, or (1 - cos)**(z / 2).
      z, metric: of the model.
    """

    model: Model
    z: float = 2.0
    metric: Metric = "euclidean"

    @property
    def k(self) -> int:
        return len(self.model.centers)

    def clusters_of(self, block: PointBlock) -> tuple[Array, Array]:
        index, cost = self.model.costs(Coreset.of(block))
        return index, cost ** ((2.0 if self.metric == "cosine" else 1.0) / self.z)


@dataclasses.dataclass(frozen=True, eq=False)
class Priced:
    """The cluster where cost and price add up to least.

    Attributes:
      centers: (k, d) float64.
      prices: (m, k) float64, what a unit of a label's weight pays in a cluster on top of its cost.
      labels: the m labels; one "" where they don't matter to the constraint.
      z, metric: cost is dist**z, or (1 - cos)**(z / 2).
      tolerance: clusters so close to the cheapest are tied with it.
      ties: (label's number, set of tied clusters packed as bits) -> (k,) cumulative shares of the clusters. Rows of a
        tie that isn't there go to the cheapest.
      duals: of the bounds, which the prices are made of, for whoever wants to go on from them.
    """

    centers: Array
    prices: Array
    labels: tuple[str, ...] = ("",)
    z: float = 2.0
    metric: Metric = "euclidean"
    tolerance: float = 0.0
    ties: Mapping[tuple[int, bytes], Array] = dataclasses.field(default_factory=dict)
    duals: Array | None = None

    @property
    def k(self) -> int:
        return len(self.centers)

    def clusters_of(self, block: PointBlock) -> tuple[Array, Array]:
        index, dist_sq, _ = self.settled(block)
        return index, dist_sq * 0.5 if self.metric == "cosine" else np.sqrt(dist_sq)

    def settled(self, block: PointBlock, reach: Array | None = None) -> tuple[Array, Array, Array]:
        """The cluster (n,) int32 of each row, tied ones where the flow has them, and the squared distance to its center
        (n,) float64; and how far it is from changing its cluster, as `cheapest` says."""
        return self.placed(block.points, label_numbers(block, self.labels), block.ids, reach)

    def placed(
        self, points: Array, label: Array, ids: Array, reach: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """`settled` for points (n, d) with labels and ids (n,)."""
        index, dist_sq, gap, away = self.cheapest(points, label, reach)
        rows = np.flatnonzero(gap <= self.tolerance)
        if self.ties and len(rows):
            index[rows] = self._by_plan(index[rows], points[rows], label[rows], ids[rows])
            dist_sq[rows] = distances_to(points[rows].astype(np.float64), self.centers, index[rows])
        return index, dist_sq, away

    def cheapest(
        self, points: Array, label: Array, reach: Array | None = None
    ) -> tuple[Array, Array, Array, Array]:
        """The cheapest cluster of each point, and how close others are.

        Args:
          points: (n, d). label: (n,) int64 numbers of labels.
          reach: (m, k, k) positive, by how much one cluster may become dearer than before, compared to another; by
            default by any unit.

        Returns:
          cluster (n,) int32; squared distance to its center (n,) float64; by how much the next cheapest is dearer (n,);
          and the least multiple of `reach` by which any other is (n,). The last two are infinite with one cluster.
        """
        n, k = len(points), self.k
        scale = np.ones((len(self.prices), k, k)) if reach is None else 1.0 / reach
        index, dist_sq, gap, away = np.empty(n, np.int32), np.empty(n), np.empty(n), np.empty(n)
        if points.shape[1] < MATRIX_DIM:
            _cheapest(
                writable(points), self.centers, self.prices, scale, label, self.z, self.metric == "cosine",
                index, dist_sq, gap, away,
            )  # fmt: skip
            return index, dist_sq, gap, away
        for low in range(0, n, 16 * _ROWS):
            rows = slice(low, low + 16 * _ROWS)
            reduced = self.reduced(points[rows], label[rows])
            own = reduced.argmin(axis=1)
            reduced -= reduced[np.arange(len(own)), own][:, None]
            reduced[np.arange(len(own)), own] = np.inf
            index[rows], gap[rows] = own, reduced.min(axis=1)
            away[rows] = (reduced * scale[label[rows], own]).min(axis=1)
            dist_sq[rows] = distances_to(points[rows].astype(np.float64), self.centers, index[rows])
        return index, dist_sq, gap, away

    def reduced(self, points: Array, label: Array) -> Array:
        """(n, k) float64: cost and price of each row in each cluster."""
        return _costs(points, self.centers, self.z, self.metric) + self.prices[label]

    def ties_of(self, points: Array, label: Array) -> tuple[list[tuple[int, bytes]], Array]:
        """The kinds of ties there are, as they are called in `ties`, and which one each row (n,) is in."""
        reduced = self.reduced(points, label)
        sets = np.packbits(reduced <= reduced.min(axis=1, keepdims=True) + self.tolerance, axis=1)
        rows = np.concatenate([label.astype(">u4").view(np.uint8).reshape(-1, 4), sets], axis=1)
        names, which = np.unique(rows.view(f"V{rows.shape[1]}").ravel(), return_inverse=True)
        return [(int.from_bytes(name.tobytes()[:4], "big"), name.tobytes()[4:]) for name in names], which

    def _by_plan(self, index: Array, points: Array, label: Array, ids: Array) -> Array:
        """The clusters of tied rows; that of `index` where the flow had none like them."""
        names, which = self.ties_of(points, label)
        place, out = tie_place(ids), index.copy()
        for number, name in enumerate(names):
            if name in self.ties:
                own = which == number
                out[own] = np.searchsorted(self.ties[name], place[own], side="right")
        return out


def tie_place(ids: Array) -> Array:
    """Where a row stands among those it is tied with: (n,) float64 in [0, 1), from its id."""
    return (hash_integers(ids, _SALT) >> np.uint64(11)).astype(np.float64) / 2.0**53


def label_numbers(block: PointBlock, labels: tuple[str, ...]) -> Array:
    """The place (n,) int64 of each row's label among `labels`; all 0 if the only label is "".

    Raises:
      ValueError: rows without labels, or with others.
    """
    if labels == ("",):
        return np.zeros(len(block), np.int64)
    number = {label: i for i, label in enumerate(labels)}
    names, code = label_codes(block.extras)
    unknown = [name for name in names if name not in number]
    if unknown:
        raise ValueError(f"group: must be one of the {len(labels)} labels that have prices, got {unknown[0]!r}")
    return np.array([number[name] for name in names], np.int64)[code]


def label_codes(extras: Any, name: str = "group") -> tuple[list[str], Array]:
    """The labels in a column of a pyarrow Table, and each row's place (n,) int64 among them.

    Raises:
      ValueError: there is no such column.
    """
    if extras is None or name not in extras.column_names:
        raise ValueError("group: must be known of every row, got rows without labels")
    column = extras.column(name).combine_chunks().dictionary_encode()
    return column.dictionary.to_pylist(), column.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _costs(points: Array, centers: Array, z: float, metric: Metric) -> Array:
    """(n, k) float64, by a matrix product."""
    # A common offset would cost the expansion its precision; float64 has enough for the rest.
    origin = np.median(centers, axis=0)
    moved, shifted = points - origin, centers - origin
    dist_sq = np.einsum("nd,nd->n", moved, moved)[:, None] + np.einsum("kd,kd->k", shifted, shifted)
    dist_sq -= 2.0 * (moved @ shifted.T)
    np.maximum(dist_sq, 0.0, out=dist_sq)
    return power_of_distance(dist_sq * 0.5 if metric == "cosine" else dist_sq, z)


@kernel
def _cheapest(  # type: ignore[no-untyped-def]
    points, centers, prices, scale, label, z, half, index, dist_sq, gap, away
):
    n, d = points.shape
    k = len(centers)
    columns = np.zeros((d, _ROWS))
    total = np.empty(_ROWS)
    value = np.zeros((k, _ROWS))
    best = np.empty(_ROWS)
    least = np.empty(_ROWS)
    winner = np.zeros(_ROWS, np.int32)
    factor = 0.5 if half else 1.0
    for low in range(0, n, _ROWS):
        rows = min(n, low + _ROWS) - low
        for i in range(rows):
            for t in range(d):
                columns[t, i] = points[low + i, t]
        for i in range(_ROWS):
            best[i] = np.inf
            winner[i] = 0
        for j in range(k):
            for i in range(_ROWS):
                total[i] = 0.0
            for t in range(d):
                c = centers[j, t]
                for i in range(_ROWS):
                    q = columns[t, i] - c
                    total[i] += q * q
            own = value[j]
            if z == 2.0:
                for i in range(_ROWS):
                    own[i] = factor * total[i]
            elif z == 1.0:
                for i in range(_ROWS):
                    own[i] = np.sqrt(factor * total[i])
            else:
                for i in range(rows):
                    own[i] = (factor * total[i]) ** (0.5 * z)
            for i in range(rows):
                own[i] += prices[label[low + i], j]
            for i in range(_ROWS):
                wins = own[i] < best[i]
                best[i] = own[i] if wins else best[i]
                least[i] = total[i] if wins else least[i]
                winner[i] = np.int32(j) if wins else winner[i]
        for i in range(rows):
            p, a = low + i, winner[i]
            index[p] = a
            dist_sq[p] = least[i]
            gap[p] = away[p] = np.inf
            for j in range(k):
                if j != a:
                    dearer = value[j, i] - best[i]
                    gap[p] = min(gap[p], dearer)
                    away[p] = min(away[p], dearer * scale[label[p], a, j])
