"""Are two windows samples of one source? A probability, from shares, places and spreads of clusters of both together.

The points of both are clustered together, each window as heavy as what it tells (`Seen.effective`): so the clusters fit
the noise of both alike, which cancels in the differences. That is done with as many clusters as the question asks for,
and with twice as many. Within these cells are compared

- **shares**: each cell's, by the binomial distribution of effective counts, the worst of all cells; and all together,
  by a sum of squares whose degrees of freedom come from the covariance (Satterthwaite);
- **places**: each cell's mean, by the squared length of the difference in units of the columns' spreads, again with
  degrees of freedom from the covariance; values beyond `CUT_AT` spreads count as `CUT_AT`;
- **spreads**: the mean of log(1 + (distance / spread)^2), each cell's and of all rows together; the logarithm keeps
  far points from deciding alone.

The smallest probability times their number is that of a quiet source giving so much (Bonferroni). Nothing of that is
exact for finite samples; `benchmarks/drift.py` measures how often quiet windows are told apart.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from beam_coresets.comparing.seen import AS_DRAWN, Seen
from beam_coresets.points.nearest import nearest
from beam_coresets.solvers.centers import solve_centers

FINER = (1, 2)  # cells a center
LEAST_CELL = 30.0  # effective rows a cell on average
FEWEST = 8.0  # effective rows of a window in a cell whose mean and spread are compared
CUT_AT = 4.0  # spreads
FIT_DOUBT = 0.5  # of what rows draw their own means closer by
ONE_PLACE = 1e-12  # of squared coordinates: a smaller spread is that of one place
NO_VARIANCE = 1e-20  # variance of a mean in units of spreads: of rows in one place

Array = npt.NDArray[Any]


class OneSource(NamedTuple):
    """How probable it is that a quiet source gives cells that differ so, by each way of comparing them."""

    share: float
    shares: float
    place: float
    spread: float
    spreads: float


def probability(this: Seen, other: Seen, k: int, seed: int = 0) -> float:
    """How probable it is that a quiet source gives two windows that differ so, at most 1.

    Args:
      this, other: of points of as many columns.
      k: how many clusters the question asks for.
    """
    found = [p for finer in FINER for p in one_source(this, other, finer * k, seed)]
    return min(1.0, len(found) * min(found))


def one_source(this: Seen, other: Seen, cells: int, seed: int = 0) -> OneSource:
    """By one clustering of both, of at most so many cells."""
    both = np.concatenate([this.points, other.points])
    weights = np.concatenate([this.share * this.effective, other.share * other.effective])
    cells = max(2, min(cells, int((this.effective + other.effective) / LEAST_CELL)))
    centers = solve_centers(both, weights, cells, seed=seed, restarts=2, swaps=2 * cells).centers
    centers = np.asarray(centers, both.dtype)
    index, dist_sq = nearest(both, centers)
    m, cells = len(this), len(centers)
    sides = Cells(this, index[:m], cells), Cells(other, index[m:], cells)
    within = np.bincount(index, weights * dist_sq, cells) / np.maximum(1e-300, np.bincount(index, weights, cells))
    columns = np.sqrt(weights @ (both - centers[index]).astype(np.float64) ** 2 / weights.sum())
    row = np.concatenate([this.row_of, other.row_of + m])
    unit = np.where(_one_place(within, both), np.inf, within)[index]
    lengths, apart = (np.log1p(x / unit) for x in (dist_sq, _without_itself(row, weights, index, dist_sq, cells)))
    moves = [s.places(points, centers, columns) for s, points in zip(sides, (both[:m], both[m:]), strict=True)]
    spread = _spreads(sides, (apart[:m], apart[m:]), (lengths[:m], lengths[m:]))
    return OneSource(*_shares(*sides), _places(*moves), *spread)


def _one_place(within: Array, points: Array) -> Array:
    """Whether each cell's spread (c,), squared, is no more than what coordinates are rounded by."""
    return within <= ONE_PLACE * float((np.abs(points).max(axis=0).astype(np.float64) ** 2).sum())


def _without_itself(row: Array, weights: Array, index: Array, dist_sq: Array, cells: int) -> Array:
    """Squared distances (n,) from the cells' means without the row itself, which has drawn its mean closer."""
    own = np.bincount(row, weights, len(row))[row]
    rest = np.bincount(index, weights, cells)[index] - own
    factor = np.divide(own, rest, out=np.zeros(len(own)), where=rest > 1e-9 * own)
    return np.asarray(dist_sq.astype(np.float64) * (1 + factor) ** 2)


class Means(NamedTuple):
    """Of each cell (c,): the mean, (c,) or (c, d), its variance or the trace of its covariance, the trace of the
    covariance squared, and how many rows would tell as much."""

    mean: Array
    variance: Array
    squared: Array
    rows: Array


class Cells:
    """A window's points in the cells of both.

    Attributes:
      index: (m,) each point's. size, points: (c,) the share of each cell, and how many points are in it.
      covariance: (c, c) of `size`. variance: (c,) of it. rate: (c,) the variance of a share p over p (1 - p).
      own: (c,) how much a cell's points tell of their own variance; the rest is as of independent draws.
    """

    def __init__(self, seen: Seen, index: Array, cells: int) -> None:
        self.seen, self.index = seen, index
        self.size = np.bincount(index, seen.share, cells)
        self.points = np.bincount(index, minlength=cells)
        self.own = self.points / (self.points + AS_DRAWN)
        by_neighbours, apart = self._covariances(cells)
        self.covariance = by_neighbours
        spread = self.size * (1 - self.size)
        self.variance = self.own * by_neighbours.diagonal() + (1 - self.own) * apart
        self.rate = np.maximum(seen.row, _ratio(self.variance, spread))
        self.near = np.where(index == index[seen.near], seen.near, np.arange(len(seen)))

    def _covariances(self, cells: int) -> tuple[Array, Array]:
        """Of the shares: by neighbours (c, c), and the diagonal (c,) of independent draws."""
        seen, c, p = self.seen, self.index.astype(np.int64), self.size
        weight = seen.drawn * seen.share**2
        alone, d = seen.alone, c[seen.near]
        held = np.bincount(c, np.where(alone, weight, weight / 2), cells)
        held += np.bincount(d[~alone], weight[~alone] / 2, cells)
        cross = np.bincount((c * cells + d)[~alone], weight[~alone] / 2, cells**2).reshape(cells, cells)
        rows = seen.row * (np.diag(p) - np.outer(p, p))
        drawn = np.bincount(c, weight, cells)
        apart = drawn * (1 - 2 * p) + p**2 * drawn.sum() + rows.diagonal()
        return rows + np.diag(held) - cross - cross.T, apart

    def places(self, points: Array, centers: Array, columns: Array) -> Means:
        """The means of the coordinates, from the cells' centers, in units of the columns' spreads (d,)."""
        cells, d = len(centers), points.shape[1]
        mean, trace, squared, known = np.zeros((cells, d)), np.zeros(cells), np.zeros(cells), np.zeros(cells)
        order = np.argsort(self.index, kind="stable")
        edges = np.searchsorted(self.index[order], np.arange(cells + 1))
        place = np.zeros(len(self.seen), np.int64)
        unit = np.where(columns > 0, columns, np.inf)
        for j in np.flatnonzero(self.size > 0).tolist():
            rows = order[edges[j] : edges[j + 1]]
            u, row, drawn = self.seen.share[rows] / self.size[j], self.seen.row / self.size[j], self.seen.drawn[rows]
            away = np.clip((points[rows].astype(np.float64) - centers[j]) / unit, -CUT_AT, CUT_AT)
            mean[j] = u @ away
            h = away - mean[j]
            place[rows] = np.arange(len(rows))
            other = place[self.near[rows]]
            alone = other == np.arange(len(rows))
            weight = drawn * u**2
            by_pairs = np.where(alone, 0.0, weight * self.own[j] / 2)
            by_itself = row * u + np.where(alone, weight, weight * (1 - self.own[j]))
            parts = np.concatenate([np.sqrt(by_itself)[:, None] * h, np.sqrt(by_pairs)[:, None] * (h - h[other])])
            gram = parts.T @ parts if len(parts) > d else parts @ parts.T
            trace[j], squared[j] = gram.trace(), (gram**2).sum()
            known[j] = 1 / (row + float(weight.sum()))
        return Means(mean, trace, squared, known)

    def means(self, value: Array) -> Means:
        """The means of one value (m,)."""
        seen, cells = self.seen, len(self.size)
        size = np.maximum(self.size, 1e-300)
        u, row = seen.share / size[self.index], seen.row / size
        mean = np.bincount(self.index, u * value, cells)
        h = value - mean[self.index]
        own = self.own[self.index]
        pair = np.where(self.near == np.arange(len(h)), h**2, (h - h[self.near]) ** 2 / 2)
        each = row[self.index] * u * h**2 + seen.drawn * u**2 * (own * pair + (1 - own) * h**2)
        variance = np.bincount(self.index, each, cells)
        known = row + np.bincount(self.index, seen.drawn * u**2, cells)
        return Means(mean, variance, variance**2, np.where(self.size > 0, 1 / known, 0.0))


def _ratio(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros(len(a)), where=b > 0)


def _rate(side: Cells, other: Cells) -> Array:
    """The rate of each cell; of one that a window has no points in, what the other's there would be in this one."""
    whole = other.seen.effective / side.seen.effective
    return np.where(side.size > 0, side.rate, np.maximum(1 / side.seen.effective, other.rate * whole))


def _shares(a: Cells, b: Cells) -> tuple[float, float]:
    """The worst cell's share, and all of them."""
    held = a.size + b.size > 0
    rates = _rate(a, b), _rate(b, a)
    precision = 1 / np.maximum(1e-300, rates[0]), 1 / np.maximum(1e-300, rates[1])
    pooled = (a.size * precision[0] + b.size * precision[1]) / (precision[0] + precision[1])
    pooled = np.clip(pooled, 1e-12, 1 - 1e-12)
    counts = a.size * precision[0] / (1 - pooled), b.size * precision[1] / (1 - pooled)
    even = precision[0] / (precision[0] + precision[1])
    above = special.betainc(np.maximum(counts[0], 1e-9), counts[1] + 1, even)
    below = special.betainc(np.maximum(counts[1], 1e-9), counts[0] + 1, 1 - even)
    worst = 2 * np.minimum(above, below)[held]
    variance = pooled * (1 - pooled) * (rates[0] + rates[1])
    covariance = (a.covariance + b.covariance)[np.ix_(held, held)]
    deviation = np.sqrt(np.maximum(1e-300, covariance.diagonal()))
    correlation = covariance / np.outer(deviation, deviation)
    cells = int(held.sum())
    degrees = cells**2 / float((correlation**2).sum())
    square = float(_ratio((a.size - b.size) ** 2, variance)[held].sum()) / cells
    return min(1.0, cells * float(worst.min())), float(special.chdtrc(degrees, degrees * square))


def _places(a: Means, b: Means) -> float:
    """The worst cell's mean: by F, whose numerator has the degrees of freedom of a sum of unequal squares."""
    enough = _enough(a, b)
    if not enough.any():
        return 1.0
    both = (a.variance + b.variance)[enough]
    degrees = both**2 / (np.sqrt(a.squared) + np.sqrt(b.squared))[enough] ** 2
    length = ((a.mean - b.mean) ** 2).sum(axis=1)[enough]
    found = special.fdtrc(degrees, _welch(a, b)[enough] * np.minimum(degrees, 4.0), length / both)
    return min(1.0, int(enough.sum()) * float(found.min()))


def _spreads(
    sides: tuple[Cells, Cells], logs: tuple[Array, Array], fitted: tuple[Array, Array]
) -> tuple[float, float]:
    """The worst cell's, and that of all rows: of Student's t. Part of what rows draw their own means closer by
    (`fitted` has it still) is doubt."""
    a, b = (side.means(value) for side, value in zip(sides, logs, strict=True))
    fits = [side.means(value) for side, value in zip(sides, fitted, strict=True)]
    doubt = [FIT_DOUBT * (mine.mean - fit.mean) for mine, fit in zip((a, b), fits, strict=True)]
    enough, worst = _enough(a, b), 1.0
    if enough.any():
        variance = (a.variance + b.variance + doubt[0] ** 2 + doubt[1] ** 2)[enough]
        t = np.abs(a.mean - b.mean)[enough] / np.sqrt(variance)
        worst = min(1.0, int(enough.sum()) * float(2 * special.stdtr(_welch(a, b)[enough], -t).min()))
    whole = [float(side.seen.share @ value) for side, value in zip(sides, logs, strict=True)]
    total = sum(side.seen.variance(value) for side, value in zip(sides, logs, strict=True))
    total += sum(float(side.size @ each) ** 2 for side, each in zip(sides, doubt, strict=True))
    if not total > NO_VARIANCE:
        return worst, 1.0
    degrees = max(2.0, min(side.seen.effective for side in sides) - 1)
    return worst, float(2 * special.stdtr(degrees, -abs(whole[0] - whole[1]) / total**0.5))


def _enough(a: Means, b: Means) -> Array:
    return (a.rows >= FEWEST) & (b.rows >= FEWEST) & (a.variance + b.variance > NO_VARIANCE)


def _welch(a: Means, b: Means) -> Array:
    """Degrees of freedom (c,) of the variance of a difference."""
    both = a.variance + b.variance
    each = a.variance**2 / np.maximum(1e-9, a.rows - 1) + b.variance**2 / np.maximum(1e-9, b.rows - 1)
    return np.divide(both**2, each, out=np.ones(len(both)), where=each > 0)
