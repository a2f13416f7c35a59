"""What a coreset says of sums over all rows, and how sure that is.

A mean over the rows is a ratio of two totals, R = sum s y / sum s, with s a sampled point's unbiased weight over the
number of its bucket's holders. Its error is, to first order, that of the total of the residuals (y - R) / sum s:
replicas and the sample itself measure it as they do that of a cost (`beam_coresets.results.sampling_error`), and a loss
that was scaled over adds the residuals' share of `loss_factor`. Intervals are by Student's t. That of a share is
Wilson's, with as many rows as would have its variance, so that it stays within 0 and 1 and has a width where no sampled
row is inside; that of a quantile is the interval of the share below it, inverted (Woodruff, JASA 1952).
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.recovery import loss_factor
from beam_coresets.points.magnitude import unit_of
from beam_coresets.results.certificate import LEVEL, nothing_drawn
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.sampling_error import sampling_error

Array = npt.NDArray[Any]

NEAREST = 0.9  # of a cluster's weight, which its spread is measured on
LIGHT = 0.05  # of the clusters' average weight


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A number, or an array of them, with the ends of its 95 % interval.

    Attributes:
      value, low, high: alike in shape. NaN where nothing is known.
    """

    value: Any
    low: Any
    high: Any

    def __str__(self) -> str:
        if np.ndim(self.value):
            return f"{self.value} ({self.low} to {self.high})"
        return f"{self.value:.6g} ({self.low:.6g} to {self.high:.6g})"

    def __float__(self) -> float:
        return float(self.value)

    def __getitem__(self, place: Any) -> Estimate:
        return Estimate(self.value[place], self.low[place], self.high[place])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Estimate):
            return NotImplemented
        pairs = ((self.value, other.value), (self.low, other.low), (self.high, other.high))
        return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    def times(self, factor: float) -> Estimate:
        """In other units."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    @staticmethod
    def stacked(parts: list[Estimate], shape: tuple[int, ...]) -> Estimate:
        """One of arrays, of those of numbers."""
        names = ("value", "low", "high")
        return Estimate(*(np.array([getattr(part, name) for part in parts]).reshape(shape) for name in names))


class Estimator:
    """Estimates of means and shares over the rows that a decision stands for.

    Args:
      decision: that of a coreset.
    """

    def __init__(self, decision: Decision) -> None:
        self._decision, self._sampled = decision, Sampled(decision)
        self.shares = self._sampled.shares
        self.exact = nothing_drawn(self._sampled)

    def mean(self, y: Array, inside: Array) -> Estimate:
        """That of y over the rows inside.

        Args:
          y: (m,) of each point. inside: (m,) bool.
        """
        value, variance, degrees = self._ratio(y, inside)
        half = _quantile(degrees) * np.sqrt(variance)
        return Estimate(value, value - half, value + half)

    def share(self, chosen: Array, inside: Array) -> Estimate:
        """The share of the rows inside that are chosen, both (m,) bool."""
        value, variance, degrees = self._ratio(chosen.astype(np.float64), inside)
        value = min(1.0, value) if value == value else value  # sums in another order
        return Estimate(value, *self._wilson(value, variance, degrees, inside))

    def quantiles(self, y: Array, inside: Array, q: Array) -> Estimate:
        """The least values (len(q),) that a share q of the rows inside do not exceed."""
        rows = np.flatnonzero(inside & (self.shares > 0))
        if not len(rows):
            return Estimate(*(np.full(len(q), np.nan) for _ in range(3)))
        order = rows[np.argsort(y[rows], kind="stable")]
        values, below = y[order], np.cumsum(self.shares[order])
        below = below / below[-1]
        found = []
        for share in q:
            value = _at(values, below, share)
            _, variance, degrees = self._ratio((y <= value).astype(np.float64), inside)
            low, high = self._wilson(share, variance, degrees, inside)
            found.append(Estimate(value, _at(values, below, low), _at(values, below, high)))
        return Estimate.stacked(found, (len(q),))

    def total_weight(self) -> Estimate:
        """That of all rows: known, but for what was lost."""
        total = self._decision.total_weight
        half = _quantile(np.inf) * float(np.sqrt(loss_factor(self._decision.recovery) * self.shares.sum()))
        return Estimate(total, max(0.0, total - half), total + half)

    def _ratio(self, y: Array, inside: Array) -> tuple[float, float, float]:
        """The mean of y over the rows inside, its variance and that one's degrees of freedom."""
        each = np.where(inside, self.shares, 0.0)
        total = float(each.sum())
        if not total > 0:
            return float("nan"), float("nan"), float("inf")
        y = np.where(inside, y, 0.0)
        mean = float(each @ y / total)
        if self.exact:
            return mean, 0.0, float("inf")
        decision, recovery = self._decision, self._decision.recovery
        residual = np.where(inside, y - mean, 0.0)
        own = unit_of(residual)
        residual = residual / own
        value = decision.evidence.sample.weights_ht / total * residual
        _, error = sampling_error(self._sampled, value)
        lost = loss_factor(recovery) * float(each @ residual**2) / total**2
        variance = (error.variance + lost) / recovery.scale**2 * own**2
        return mean, float(variance), error.degrees

    def _wilson(self, share: float, variance: float, degrees: float, inside: Array) -> tuple[float, float]:
        """The interval of a share of this variance."""
        if self.exact or not np.isfinite(variance):
            return (share, share) if self.exact else (float("nan"), float("nan"))
        each = self.shares[inside]
        spread = share * (1 - share)
        rows = most = float(each.sum() ** 2 / max(float((each**2).sum()), 1e-300))
        if variance > 0 and spread > 0:
            rows = spread / variance
        else:
            degrees = most
        by = _quantile(degrees) ** 2 / rows
        middle, half = (share + by / 2) / (1 + by), float(np.sqrt(by * spread + by**2 / 4)) / (1 + by)
        return max(0.0, middle - half), min(1.0, middle + half)


def spreads(index: Array, dist_sq: Array, weights: Array, k: int) -> Array:
    """The spread (k,) of each cluster: the root mean square distance of the nearest `NEAREST` of its weight, so that a
    few far points leave it as it is. Of a cluster with fewer than two points, or with all at one place, that of all.

    A cluster with less than `LIGHT` times the average weight may be nothing but far points that a center has gone to:
    its spread is at most that of the others.

    Args:
      index: (m,) clusters. dist_sq, weights: (m,) of points of a coreset.
    """
    order = np.lexsort((dist_sq, index))
    index, dist_sq, weights = index[order], dist_sq[order], weights[order]
    weight = np.bincount(index, weights, k)
    before = np.cumsum(weights) - weights - (np.cumsum(weight) - weight)[index]  # of the same cluster and nearer
    kept = np.where(before <= NEAREST * weight[index], weights, 0.0)
    square, held = np.bincount(index, kept * dist_sq, k), np.bincount(index, kept, k)
    light = weight < LIGHT * weight.mean()
    overall = float(square[~light].sum() / max(float(held[~light].sum()), 1e-300))
    several = np.bincount(index, kept > 0, k) > 1
    each = np.where(several & (square > 0), square / np.maximum(held, 1e-300), overall)
    each = np.where(light, np.minimum(each, overall), each)
    return np.sqrt(np.where(each > 0, each, 1.0))


def _at(values: Array, below: Array, share: float) -> float:
    """The least of the sorted values that at least this share does not exceed."""
    return float(values[min(len(values) - 1, int(np.searchsorted(below, share - 1e-12)))])


def _quantile(degrees: float) -> float:
    """Of Student's t, two-sided at `LEVEL`."""
    return float(special.stdtrit(min(max(1.0, degrees), 1e9), (1 + LEVEL) / 2))
