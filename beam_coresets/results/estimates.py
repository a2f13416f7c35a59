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

from beam_coresets.coordinator.recovery import loss_factor
from beam_coresets.points.magnitude import units_of
from beam_coresets.results.certificate import LEVEL, nothing_drawn
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.sampling_error import sampling_errors

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
      sampled: the points of a decision that is one of a coreset.
    """

    def __init__(self, sampled: Sampled) -> None:
        self._decision, self._sampled = sampled.decision, sampled
        self.shares = self._sampled.shares
        self.exact = nothing_drawn(self._sampled)

    def mean(self, y: Array, inside: Array) -> Estimate:
        """That of y over the rows inside.

        Args:
          y: (m,) of each point. inside: (m,) bool.
        """
        y = np.where(inside, y, 0.0)[:, None]
        unit = units_of(y)
        value, variance, degrees = self._ratios(y / unit, inside)
        return _symmetric(value, variance, degrees)[0].times(float(unit[0]))

    def share(self, chosen: Array, inside: Array) -> Estimate:
        """The share of the rows inside that are chosen, both (m,) bool."""
        value, variance, degrees = self._ratios(np.where(inside, chosen, 0.0)[:, None], inside)
        value = np.minimum(1.0, value)  # sums in another order
        return Estimate(value, *self._wilson(value, variance, degrees, inside))[0]

    def quantiles(self, y: Array, inside: Array, q: Array) -> Estimate:
        """The least values (len(q),) that a share q of the rows inside do not exceed."""
        inside = inside & (self.shares > 0)
        if not inside.any():
            return Estimate(*(np.full(len(q), np.nan) for _ in range(3)))
        column = _Sorted(y[inside, None], self.shares[inside])
        q = np.asarray(q, np.float64)[:, None]
        value = column.at(q)
        if self.exact:
            return Estimate(value, value, value)[:, 0]
        below = np.where(inside[:, None], y[:, None] <= value.T, 0.0)
        _, variance, degrees = self._ratios(below, inside)
        low, high = self._wilson(q[:, 0], variance, degrees, inside)
        return Estimate(value, column.at(low[:, None]), column.at(high[:, None]))[:, 0]

    def described(self, y: Array, q: Array, sure: bool = True, quantiles_sure: bool = True) -> tuple[Estimate, ...]:
        """The means (c,) of the columns of y (m, c) over all rows, their deviations (c,), which are the root mean
        square distances from the means, and their quantiles (len(q), c).

        The interval of a deviation is that of the mean square, by the delta method: the error of a root is that of what
        it is taken of, over twice the root.

        Args:
          y: numbers whose fourth powers are in range.
          sure: with intervals; else the ends are NaN, unless everything is known.
          quantiles_sure: the same of quantiles, which take most of the time.

        Raises:
          ValueError: no point has a weight.
        """
        total, c = float(self.shares.sum()), y.shape[1]
        if not total > 0:
            raise ValueError("decision: must have points of some weight, got none")
        mean = self.shares @ y / total
        squares = np.square(y - mean)
        deviation = np.sqrt(self.shares @ squares / total)
        columns = _Sorted(y, self.shares)
        asked = np.broadcast_to(np.asarray(q, np.float64)[:, None], (len(q), c))
        value = columns.at(asked)
        found = [Estimate(each, each, each) for each in (mean, deviation, value)]
        if self.exact:
            return tuple(found)
        unknown = [Estimate(each.value, np.full_like(each.value, np.nan), np.full_like(each.value, np.nan))
                   for each in found]  # fmt: skip
        if not sure:
            return tuple(unknown)
        below = (y <= edge for edge in value) if quantiles_sure else ()
        _, variance, degrees = self._ratios(np.concatenate([y, squares, *below], axis=1))
        means = _symmetric(mean, variance[:c], degrees[:c])
        of = np.where(deviation > 0, 2 * deviation, 1.0)
        deviations = _symmetric(deviation, variance[c : 2 * c] / of**2, degrees[c : 2 * c])
        deviations = Estimate(deviation, np.maximum(deviations.low, 0.0), deviations.high)
        if not quantiles_sure:
            return means, deviations, unknown[2]
        ends = self._wilson(asked.ravel(), variance[2 * c :], degrees[2 * c :])
        low, high = (columns.at(end.reshape(asked.shape)) for end in ends)
        return means, deviations, Estimate(value, low, high)

    def total_weight(self) -> Estimate:
        """That of all rows: known, but for what was lost."""
        total = self._decision.total_weight
        half = _quantile(np.inf) * float(np.sqrt(loss_factor(self._decision.recovery) * self.shares.sum()))
        return Estimate(total, max(0.0, total - half), total + half)

    def _ratios(self, y: Array, inside: Array | None = None) -> tuple[Array, Array, Array]:
        """The means (c,) of the columns of y (m, c), zero where not inside, over the rows inside, by default all; their
        variances and those ones' degrees of freedom."""
        each = self.shares if inside is None else np.where(inside, self.shares, 0.0)
        total, c = float(each.sum()), y.shape[1]
        if not total > 0:
            return np.full(c, np.nan), np.full(c, np.nan), np.full(c, np.inf)
        mean = each @ y / total
        if self.exact:
            return mean, np.zeros(c), np.full(c, np.inf)
        decision, recovery = self._decision, self._decision.recovery
        residual = y - mean
        if inside is not None:
            residual[~inside] = 0.0
        factor = loss_factor(recovery)
        lost = factor * (each @ np.square(residual)) / total**2 if factor else 0.0
        residual *= (decision.evidence.sample.weights_ht / total)[:, None]
        _, error = sampling_errors(self._sampled, residual)
        return mean, (error.variance + lost) / recovery.scale**2, error.degrees

    def _wilson(
        self, share: Array, variance: Array, degrees: Array, inside: Array | None = None
    ) -> tuple[Array, Array]:
        """The intervals (c,) of shares of these variances."""
        if self.exact:
            return share, share
        each = self.shares if inside is None else self.shares[inside]
        spread = share * (1 - share)
        most = float(each.sum() ** 2 / max(float((each**2).sum()), 1e-300))
        measured = (variance > 0) & (spread > 0)
        rows = np.where(measured, spread / np.where(measured, variance, 1.0), most)
        by = _quantile(np.where(measured, degrees, most)) ** 2 / rows
        middle, half = (share + by / 2) / (1 + by), np.sqrt(by * spread + by**2 / 4) / (1 + by)
        known = np.isfinite(variance)
        low, high = np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)
        return np.where(known, low, np.nan), np.where(known, high, np.nan)


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


class _Sorted:
    """Columns y (m, c) of points that count for shares (m,), some of them positive."""

    def __init__(self, y: Array, shares: Array) -> None:
        self._columns = np.ascontiguousarray(y.T)
        self._order = np.argsort(self._columns, axis=1)
        below = np.cumsum(shares[self._order], axis=1)
        self._below = below / below[:, -1:]

    def at(self, shares: Array) -> Array:
        """The least values (n, c) that shares (n, c) of the weight do not exceed."""
        each = zip(self._below, shares.T, strict=True)
        places = np.stack([np.searchsorted(below, wanted - 1e-12) for below, wanted in each])
        places = np.minimum(places, self._order.shape[1] - 1)
        return np.take_along_axis(self._columns, np.take_along_axis(self._order, places, 1), 1).T


def _symmetric(value: Array, variance: Array, degrees: Array) -> Estimate:
    half = _quantile(degrees) * np.sqrt(variance)
    return Estimate(value, value - half, value + half)


def _quantile(degrees: Any) -> Any:
    """Of Student's t, two-sided at `LEVEL`."""
    return special.stdtrit(np.clip(degrees, 1.0, 1e9), (1 + LEVEL) / 2)
