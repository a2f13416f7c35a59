"""What a constraint means for k clusters of labelled points: least and most weights."""
from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[Any]

_BEYOND = 1e6  # of the total weight: no bound is met that lies so far away, and a linear program is sure of it

BOUND_SLACK = 1e-7  # share of the total weight that bounds may be missed by and still be possible
TABLE_ROUNDING = 1e-9  # share of the total weight by which missing a bound is rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Bounds:
    """Linear bounds `low <= matrix @ T.ravel() <= high` on the weight T (m, k) of each label in each cluster.

    Attributes:
      labels: m names.
      label_weights: (m,) float64, what each row of T adds up to.
      k: number of clusters.
      matrix: (rows, m * k) sparse.
      low, high: (rows,) float64, infinite where there is none.
      names: what each row is about: the constraint's name.
      cluster: (rows,) int64, which cluster.
      share: (rows,) float64, the share that a row bounds; NaN where it bounds a cluster's weight.
    """

    labels: tuple[str, ...]
    label_weights: Array
    k: int
    matrix: Any
    low: Array
    high: Array
    names: tuple[str, ...]
    cluster: Array
    share: Array

    def __len__(self) -> int:
        return len(self.low)

    @property
    def total(self) -> float:
        """The weight of all labels."""
        return float(self.label_weights.sum())

    @functools.cached_property
    def sizes(self) -> tuple[Array, Array] | None:
        """The least and the most weight of each cluster, (k,) each, where nothing else is bounded; else None."""
        if not np.isnan(self.share).all():
            return None
        low, high = np.zeros(self.k), np.full(self.k, math.inf)
        np.maximum.at(low, self.cluster, self.low)
        np.minimum.at(high, self.cluster, self.high)
        return low, high

    def missed(self, table: Array) -> Array:
        """By how much weight (rows,) each bound is missed by the weights (m, k) of labels in clusters."""
        held = self.matrix @ np.asarray(table, np.float64).ravel()
        return np.asarray(np.maximum(np.maximum(self.low - held, held - self.high), 0.0))

    def violation(self, table: Array) -> float:
        """The largest relative miss of a bound by the weights (m, k) of labels in clusters.

        It is relative to the bound: a cluster of weight 110 where at most 100 are allowed violates it by 0.1, and so
        does a group that has 33 % of a cluster where at most 30 % are allowed. Bounds of 0 count by what is there.
        """
        if not len(self):
            return 0.0
        table = np.asarray(table, np.float64)
        held, size = self.matrix @ table.ravel(), table.sum(axis=0)[self.cluster]
        missed = self.missed(table)
        missed[missed <= TABLE_ROUNDING * table.sum()] = 0.0  # a cluster of next to nothing is off by its rounding
        bound = np.where(held < self.low, self.low, self.high)
        bound = np.where(np.isnan(self.share), bound, self.share * size)
        scale = np.where(bound > 0, bound, np.maximum(size, np.finfo(float).tiny))
        return float(np.where(missed > 0, missed / np.where(missed > 0, scale, 1.0), 0.0).max())

    def check(self) -> None:
        """Looks for any T that meets all bounds: a linear program of m * k unknowns, whatever the number of points.

        Raises:
          ValueError: which constraint can't be met, in which clusters, and by how much weight at least.
        """
        total = self.total
        if not len(self) or total <= 0:
            return
        m, k, rows = len(self.labels), self.k, len(self)
        # T, then what is missing to `low` and what is too much for `high`, and the activity between them.
        per_label = sparse.kron(sparse.identity(m), np.ones((1, k)), format="csr")
        unit = sparse.identity(rows, format="csr")
        equal = sparse.bmat([[per_label, None, None, None], [self.matrix, unit, -unit, -unit]], format="csr")
        cost = np.concatenate([np.zeros(m * k), np.ones(2 * rows), np.zeros(rows)])
        low, high = (np.minimum(bound / total, _BEYOND) for bound in (self.low, np.maximum(self.low, self.high)))
        lower = np.concatenate([np.zeros(m * k + 2 * rows), low])
        upper = np.concatenate([np.full(m * k + 2 * rows, np.inf), high])
        right = np.concatenate([self.label_weights / total, np.zeros(rows)])
        from scipy.optimize import linprog  # late: 0.15 s to import

        found = linprog(cost, A_eq=equal, b_eq=right, bounds=np.stack([lower, upper], axis=1), method="highs")
        if found.status != 0:
            raise ValueError(f"constraint: must be bounds that a linear program can tell about, got {found.message}")
        missing = (found.x[m * k : m * k + rows] + found.x[m * k + rows : m * k + 2 * rows]) * total
        missing += np.maximum(self.low - self.high, 0.0)
        if missing.sum() <= BOUND_SLACK * total:
            return
        raise ValueError(self._refusal(missing))

    def _refusal(self, missing: Array) -> str:
        short: dict[str, list[str]] = {}
        for row in np.flatnonzero(missing > BOUND_SLACK * self.total / len(self)):
            short.setdefault(self.names[row], []).append(f"{missing[row]:.6g} in cluster {self.cluster[row]}")
        told = "; ".join(
            f"{name} missed by {', '.join(places[:3])}{f' and {len(places) - 3} more' if len(places) > 3 else ''}"
            for name, places in short.items()
        )
        what = next(iter(short))
        return (f"{what}: must be possible to meet together with the rest, got bounds that miss it by at least "
                f"{missing.sum():.6g} of the total weight {self.total:.6g} ({told})")  # fmt: skip


class RowsOfBounds:
    """Collects the rows of a `Bounds`."""

    def __init__(self, m: int, k: int) -> None:
        self.m, self.k = m, k
        self._coefficients: list[Array] = []
        self._rows: list[tuple[float, float, str, int, float]] = []
        self._sizes: dict[int, int] = {}  # cluster -> the row of its weight

    def add_sizes(self, name: str, low: Array, high: Array) -> None:
        """Bounds (k,) on the clusters' weights; a cluster keeps one row, with the tighter bounds of all."""
        for i in range(self.k):
            if low[i] <= 0 and high[i] == math.inf:
                continue
            if i not in self._sizes:
                self._sizes[i] = len(self._rows)
                self._coefficients.append(self._pattern(np.ones(self.m), i))
                self._rows.append((max(0.0, low[i]), high[i], name, i, math.nan))
                continue
            old_low, old_high, old_name, *_ = self._rows[self._sizes[i]]
            tighter = (max(old_low, low[i]), min(old_high, high[i]))
            joined = old_name if name == old_name else f"{old_name} and {name}"
            self._rows[self._sizes[i]] = (*tighter, joined, i, math.nan)

    def add_shares(self, name: str, member: Array, low: Array, high: Array) -> None:
        """Bounds (k,) on the share of each cluster that the labels with `member` (m,) have."""
        for i in range(self.k):
            if low[i] == high[i]:
                self._add_share(name, member, i, low[i], 0.0, 0.0)
                continue
            if low[i] > 0:
                self._add_share(f"{name} at least {low[i]:.6g}", member, i, low[i], 0.0, math.inf)
            if high[i] < 1:
                self._add_share(f"{name} at most {high[i]:.6g}", member, i, high[i], -math.inf, 0.0)

    def bounds(self, labels: tuple[str, ...], weights: Array) -> Bounds:
        """All rows that were added, as the Bounds of data with these labels and label weights (m,)."""
        matrix = sparse.csr_matrix(np.array(self._coefficients).reshape(len(self._rows), self.m * self.k))
        low, high, names, cluster, share = zip(*self._rows, strict=True) if self._rows else ((),) * 5
        return Bounds(
            labels, weights, self.k, matrix, np.array(low, np.float64), np.array(high, np.float64), tuple(names),
            np.array(cluster, np.int64), np.array(share, np.float64),
        )  # fmt: skip

    def _add_share(self, name: str, member: Array, i: int, share: float, low: float, high: float) -> None:
        self._coefficients.append(self._pattern(np.asarray(member, np.float64) - share, i))
        self._rows.append((low, high, name, i, share))

    def _pattern(self, values: Array, i: int) -> Array:
        row = np.zeros((self.m, self.k))
        row[:, i] = values
        return row.ravel()
