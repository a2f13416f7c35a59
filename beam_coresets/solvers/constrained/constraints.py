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
import math
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from beam_coresets.solvers.constrained.bounds import Bounds, RowsOfBounds

Array = npt.NDArray[Any]
Numbers = float | tuple[float, ...]  # one for all clusters, or one for each

READINGS = ("most", "least")


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

    def check_clusters(self, k: int) -> None:
        """Raises ValueError for bounds that are given one for each of another number of clusters than k."""
        named = [(name, getattr(self, name)) for name in ("min_size", "max_size", "gamma")]
        named += [(f"fair {fair.group}", bound) for fair in self.fair for bound in (fair.low, fair.high)]
        for name, numbers in named:
            if isinstance(numbers, tuple) and len(numbers) != k:
                raise ValueError(f"{name}: must be one number or one for each of {k} clusters, got {len(numbers)}")

    def alike(self, k: int) -> tuple[tuple[int, ...], ...]:
        """Clusters 0 to k - 1, those that are bounded alike together: their order doesn't matter."""
        self.check_clusters(k)
        bounds = [self.min_size, self.max_size, self.gamma, *(b for fair in self.fair for b in (fair.low, fair.high))]
        found: dict[tuple[Any, ...], list[int]] = {}
        for i in range(k):
            own = tuple(bound[i] if isinstance(bound, tuple) else bound for bound in bounds)
            found.setdefault(own, []).append(i)
        return tuple(map(tuple, found.values()))

    def choices(self, k: int, candidates: int) -> int:
        """How many ways there are to place k clusters at so many candidates, up to the order of those alike."""
        return math.prod(math.comb(candidates + len(same) - 1, len(same)) for same in self.alike(k))

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
        self.check_clusters(k)
        rows = RowsOfBounds(len(labels), k)
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

    def _add_sizes(self, rows: RowsOfBounds, total: float) -> None:
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

    def _add_diversity(self, rows: RowsOfBounds, labels: Sequence[str]) -> None:
        if self.diversity is None:
            return
        least, m = self.diversity_reading == "least", len(labels)
        if m < self.diversity and not least:
            raise ValueError(f"diversity: must be at most {m}, the labels in the data, got {self.diversity}")
        if m > self.diversity and least:
            raise ValueError(f"diversity: must be at least {m}, the labels in the data, if least, got {self.diversity}")
        share = np.full(rows.k, 1 / self.diversity)
        for j, label in enumerate(labels):
            low, high = (share, np.ones(rows.k)) if least else (np.zeros(rows.k), share)
            rows.add_shares(f"diversity of {label or 'no label'}", np.arange(m) == j, low, high)


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
