"""What the clusters of a constrained clustering must keep to, as linear bounds on how much of each label each gets.

Jaiswal and Kumar, *Universal Weak Coreset*, Section 4: with T[j, i] the weight of label j in cluster i, every
constraint there is linear in T, and in a cluster's weight `t[i] = sum_j T[j, i]`:

| constraint | as bounds |
| --- | --- |
| r-gather | `t[i] >= min_size` |
| capacitated | `t[i] <= max_size` |
| balanced | `(1 - balanced) W / k <= t[i] <= (1 + balanced) W / k`, W the total weight |
| fair | `low t[i] <= sum of T[j, i] over the labels j in the group <= high t[i]` |
| l-diversity | `T[j, i] <= t[i] / l` for every label j; in the paper's own sentence `>=` |
| Gamma | `t[i] = gamma[i]` |

A label is a *combination* of groups where groups overlap, so there may be a map from labels to groups. A cluster of
weight 0 meets every bound on shares.
"""
from __future__ import annotations

import dataclasses
import functools
import math
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linprog

Array = npt.NDArray[Any]
Numbers = float | tuple[float, ...]  # one for all clusters, or one for each

READINGS = ("most", "least")
SLACK = 1e-7  # share of the total weight that bounds may be missed by and still be possible
ROUNDING = 1e-9  # share of it that is none


@dataclasses.dataclass(frozen=True)
class Fair:
    """The share of every cluster's weight that a group may have: from `low` to `high`, one for all clusters or each."""

    group: str
    low: Numbers = 0.0
    high: Numbers = 1.0

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, _numbers(f"fair {self.group}: {name}", getattr(self, name), 1.0))
        if any(low > high for low, high in _pairs(self.low, self.high, f"fair {self.group}")):
            raise ValueError(f"fair {self.group}: low must be at most high, got {self.low} and {self.high}")


@dataclasses.dataclass(frozen=True)
class Constraint:
    """Any mix of constraints; none of them given, clusters are free.

    Attributes:
      min_size, max_size: bounds of a cluster's weight, one for all clusters or one for each; None for none.
      balanced: every cluster's weight is within (1 +- balanced) W / k.
      fair: shares that groups may have of each cluster.
      groups: the groups that each label belongs to; None where each label is its own group.
      diversity: l; by the reading "most" no label has more than 1 / l of any cluster (what is called l-diversity), by
        "least" every label has at least that much (the paper's sentence).
      diversity_reading: "most" or "least".
      gamma: the exact weight of each cluster; adds up to the total weight.

    Raises:
      ValueError: a bound that is negative, NaN or above what can be, or low above high.
    """

    min_size: Numbers | None = None
    max_size: Numbers | None = None
    balanced: float | None = None
    fair: tuple[Fair, ...] = ()
    groups: Mapping[str, tuple[str, ...]] | None = None
    diversity: int | None = None
    diversity_reading: Literal["most", "least"] = "most"
    gamma: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("min_size", "max_size", "gamma"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _numbers(name, given))
        if self.balanced is not None and not 0 <= self.balanced < math.inf:
            raise ValueError(f"balanced: must be a share of at least 0, got {self.balanced}")
        if self.min_size is not None and self.max_size is not None:
            for low, high in _pairs(self.min_size, self.max_size, "min_size and max_size"):
                if low > high:
                    raise ValueError(f"min_size: must be at most max_size, got {low:g} and {high:g}")
        if self.diversity is not None and (self.diversity != int(self.diversity) or self.diversity < 1):
            raise ValueError(f"diversity: must be a whole number of at least 1, got {self.diversity}")
        if self.diversity_reading not in READINGS:
            raise ValueError(f"diversity_reading: must be one of {', '.join(READINGS)}, got {self.diversity_reading!r}")
        if self.gamma is not None and not isinstance(self.gamma, tuple):
            raise ValueError(f"gamma: must be one weight for each cluster, got {self.gamma}")
        object.__setattr__(self, "fair", tuple(self.fair))
        named = [fair.group for fair in self.fair]
        if len(set(named)) < len(named):
            raise ValueError(f"fair: must name each group once, got {', '.join(named)}")
        if self.groups is not None:
            object.__setattr__(self, "groups", {label: tuple(groups) for label, groups in self.groups.items()})

    @property
    def labelled(self) -> bool:
        """Whether labels matter to it."""
        return bool(self.fair) or self.diversity is not None

    def text(self) -> str:
        """The constraint in one line, such as `balanced=0.2 fair=red:0.3:0.6`; names are percent-encoded."""
        parts = [
            f"{name}={_text(value)}"
            for name in ("min_size", "max_size", "balanced", "gamma")
            if (value := getattr(self, name)) is not None
        ]
        parts += [f"fair={_quoted(fair.group)}:{_text(fair.low)}:{_text(fair.high)}" for fair in self.fair]
        if self.diversity is not None:
            parts.append(f"diversity={self.diversity}:{self.diversity_reading}")
        for label, groups in () if self.groups is None else self.groups.items():
            parts.append(f"groups={_quoted(label)}:{','.join(map(_quoted, groups))}")
        return " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """The constraint that `text()` wrote.

        Raises:
          ValueError: what is no such line.
        """
        fields: dict[str, Any] = {}
        for part in text.split():
            name, _, value = part.partition("=")
            pieces = value.split(":")
            try:
                if name in ("min_size", "max_size"):
                    fields[name] = _parsed(value)
                elif name == "gamma":
                    fields[name] = tuple(float(number) for number in value.split(",") if number)
                elif name == "balanced":
                    fields[name] = float(value)
                elif name == "fair":
                    group, low, high = pieces
                    fair = Fair(urllib.parse.unquote(group), _parsed(low), _parsed(high))
                    fields["fair"] = (*fields.get("fair", ()), fair)
                elif name == "diversity":
                    number, fields["diversity_reading"] = pieces
                    fields["diversity"] = int(number)
                elif name == "groups":
                    label, groups = (piece.split(",") for piece in pieces)
                    named = tuple(urllib.parse.unquote(group) for group in groups if group)
                    fields.setdefault("groups", {})[urllib.parse.unquote(label[0])] = named
                else:
                    raise ValueError(f"{name} is no constraint")
            except ValueError as error:
                raise ValueError(f"constraint: must be a line that text() wrote, got {part!r} ({error})") from None
        return cls(**fields)

    def bounds(self, labels: Sequence[str], label_weights: Array, k: int) -> Bounds:
        """The constraint for data of these labels and weights, and k clusters.

        Args:
          labels: m names; one "" for data without labels.
          label_weights: (m,) non-negative, the total weight of each label.
          k: how many clusters.

        Raises:
          ValueError: bounds for another number of clusters, a group that isn't in the data, a label that `groups`
            doesn't know, more labels or fewer than l-diversity can do with, or gamma with another total. What can't be
            met for other reasons is for `Bounds.check`.
        """
        weights = np.asarray(label_weights, np.float64)
        if weights.shape != (len(labels),) or not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"label_weights: must be one for each of {len(labels)} labels, finite and not negative, "
                             f"got {label_weights}")  # fmt: skip
        if k < 1:
            raise ValueError(f"k: must be at least 1, got {k}")
        rows = _Rows(len(labels), k)
        self._add_sizes(rows, float(weights.sum()))
        members = self._members(labels)
        for fair in self.fair:
            if fair.group not in members:
                known = ", ".join(sorted(members)) or "none"
                raise ValueError(f"fair: group must be in the data (there: {known}), got {fair.group!r}")
            low, high = (_each(f"fair {fair.group}", bound, k) for bound in (fair.low, fair.high))
            rows.add_shares(f"fair {fair.group}", members[fair.group], low, high)
        self._add_diversity(rows, labels)
        return rows.bounds(tuple(labels), weights)

    def _add_sizes(self, rows: _Rows, total: float) -> None:
        k = rows.k
        if self.balanced is not None:
            share = total / k
            rows.add_sizes("balanced", np.full(k, share * (1 - self.balanced)), np.full(k, share * (1 + self.balanced)))
        if self.min_size is not None:
            rows.add_sizes("min_size", _each("min_size", self.min_size, k), np.full(k, math.inf))
        if self.max_size is not None:
            rows.add_sizes("max_size", np.zeros(k), _each("max_size", self.max_size, k))
        if self.gamma is not None:
            gamma = _each("gamma", self.gamma, k)
            if not math.isclose(gamma.sum(), total, rel_tol=1e-6):
                raise ValueError(f"gamma: must add up to the total weight {total:g}, got {gamma.sum():g}")
            gamma = gamma * (total / gamma.sum())
            rows.add_sizes("gamma", gamma, gamma)

    def _members(self, labels: Sequence[str]) -> dict[str, Array]:
        """Group -> (m,) bool, which of the data's labels belong to it."""
        if self.groups is None:
            return {label: np.array([other == label for other in labels]) for label in labels}
        unknown = [label for label in labels if label not in self.groups]
        if unknown:
            raise ValueError(f"groups: must say the groups of every label in the data, got none for {unknown[0]!r}")
        named = {group for label in labels for group in self.groups[label]}
        return {group: np.array([group in self.groups[label] for label in labels]) for group in sorted(named)}

    def _add_diversity(self, rows: _Rows, labels: Sequence[str]) -> None:
        if self.diversity is None:
            return
        least, m = self.diversity_reading == "least", len(labels)
        if m < self.diversity and not least:
            raise ValueError(f"diversity: needs at least {self.diversity} labels in the data, got {m}")
        if m > self.diversity and least:
            raise ValueError(f"diversity: every label can have 1/{self.diversity} of a cluster only where there are at "
                             f"most {self.diversity} labels, got {m}")  # fmt: skip
        share = np.full(rows.k, 1 / self.diversity)
        for j, label in enumerate(labels):
            low, high = (share, np.ones(rows.k)) if least else (np.zeros(rows.k), share)
            rows.add_shares(f"diversity of {label or 'no label'}", np.arange(m) == j, low, high)


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

    def symmetric(self) -> bool:
        """Whether all clusters are bounded alike, so that their order doesn't matter."""
        rows = [(self.names[r], self.share[r], self.low[r], self.high[r]) for r in range(len(self))]
        kept = [sorted(map(repr, (row for row, c in zip(rows, self.cluster, strict=True) if c == i)))
                for i in range(self.k)]  # fmt: skip
        return all(rows == kept[0] for rows in kept)

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
        missed[missed <= ROUNDING * table.sum()] = 0.0  # a cluster of next to nothing is off by its rounding
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
        lower = np.concatenate([np.zeros(m * k + 2 * rows), self.low / total])
        upper = np.concatenate([np.full(m * k + 2 * rows, np.inf), np.maximum(self.low, self.high) / total])
        right = np.concatenate([self.label_weights / total, np.zeros(rows)])
        found = linprog(cost, A_eq=equal, b_eq=right, bounds=np.stack([lower, upper], axis=1), method="highs")
        if found.status != 0:
            raise ValueError(f"constraint: must be bounds that a linear program can tell about, got {found.message}")
        missing = (found.x[m * k : m * k + rows] + found.x[m * k + rows : m * k + 2 * rows]) * total
        missing += np.maximum(self.low - self.high, 0.0)
        if missing.sum() <= SLACK * total:
            return
        raise ValueError(self._refusal(missing))

    def _refusal(self, missing: Array) -> str:
        short: dict[str, list[str]] = {}
        for row in np.flatnonzero(missing > SLACK * self.total / len(self)):
            short.setdefault(self.names[row], []).append(f"{missing[row]:.6g} in cluster {self.cluster[row]}")
        told = "; ".join(
            f"{name} missed by {', '.join(places[:3])}{f' and {len(places) - 3} more' if len(places) > 3 else ''}"
            for name, places in short.items()
        )
        what = next(iter(short))
        return (f"{what}: must be possible to meet together with the rest, got bounds that miss it by at least "
                f"{missing.sum():.6g} of the total weight {self.total:.6g} ({told})")  # fmt: skip


class _Rows:
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


def _numbers(name: str, given: Any, most: float = math.inf) -> Numbers:
    """A float or a tuple of floats from 0 to `most`."""
    several = np.ndim(given) > 0
    numbers = tuple(float(number) for number in (given if several else [given]))
    wrong = [number for number in numbers if not 0 <= number <= most]
    if wrong or not numbers:
        limit = "not negative" if most == math.inf else f"from 0 to {most:g}"
        raise ValueError(f"{name}: must be {limit}, got {wrong[0] if wrong else 'nothing'}")
    return numbers if several else numbers[0]


def _pairs(low: Numbers, high: Numbers, name: str) -> list[tuple[float, float]]:
    lengths = {len(numbers) for numbers in (low, high) if isinstance(numbers, tuple)}
    if len(lengths) > 1:
        raise ValueError(f"{name}: must be for as many clusters both, got {low} and {high}")
    k = max(lengths, default=1)
    return list(zip(_each(name, low, k), _each(name, high, k), strict=True))


def _each(name: str, numbers: Numbers, k: int) -> Array:
    """(k,) float64: one number for each cluster."""
    if isinstance(numbers, tuple) and len(numbers) != k:
        raise ValueError(f"{name}: must be one number or one for each of {k} clusters, got {len(numbers)}")
    return np.broadcast_to(np.asarray(numbers, np.float64), (k,))


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _text(numbers: Numbers) -> str:
    """One number as it is; several with commas, one alone with a comma after it."""
    if not isinstance(numbers, tuple):
        return repr(numbers)
    return ",".join(map(repr, numbers)) + ("," if len(numbers) == 1 else "")


def _parsed(text: str) -> Numbers:
    if "," not in text:
        return float(text)
    return tuple(float(number) for number in text.split(",") if number)
