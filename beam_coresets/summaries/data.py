"""The data of a window, as far as its coreset tells: answers without the data, each with its interval."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.evidence import table_rows
from beam_coresets.coordinator.sampled_rows import SampledRows
from beam_coresets.points.column_order import listed
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.scale import Scale
from beam_coresets.results.certificate import Interval, fitted_interval, fixed_interval
from beam_coresets.results.estimates import Estimate, Estimator, spreads
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.summary import Summary, summarize
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.model import Centers, Model
from beam_coresets.solvers.subspaces import Subspaces
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.choosing import Row
from beam_coresets.summaries.columns import Condition, SampleColumns
from beam_coresets.summaries.questions import question_again

Array = npt.NDArray[Any]

QUARTILES = (0.25, 0.5, 0.75)


class Told(Protocol):
    """What tables tell of a window: a `WindowSummary` (`beam_coresets.summaries.window`)."""

    row: Row

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the coordinates, if they have some."""
        ...

    @property
    def window(self) -> Window:
        """Which it is."""
        ...

    @property
    def scale(self) -> Scale | None:
        """What coordinates are scaled by."""
        ...

    @property
    def centers(self) -> Array:
        """(k, d), in your units."""
        ...

    @property
    def decision(self) -> Decision:
        """The coreset with all that tells its errors."""
        ...

    def centers_table(self) -> pa.Table:
        """The rows of `centers` in their order."""
        ...

    def answered(self, summary: Summary) -> Any:
        """Another answer, as a window."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Assigned:
    """Where points belong.

    Attributes:
      labels: (n,) int64, the index of the nearest center.
      distances: (n,) float64, to it, in scaled units; under the cosine metric 1 - cos.
    """

    labels: npt.NDArray[np.int64]
    distances: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Scored(Assigned):
    """How unusual points are, and where they belong.

    Attributes:
      scores: (n,) float64, the distance to the nearest center over the spread of its cluster (`spreads`).
      quantiles: (n,) the share of the window's data that scores less.
    """

    scores: Array
    quantiles: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Histogram:
    """How much data falls where.

    Attributes:
      edges: (bins + 1,) of numbers: a bin has its lower edge, the last one both. labels: of what is no number.
      counts: (bins,) the weight in each, with intervals.
    """

    edges: Array | None
    labels: tuple[Any, ...] | None
    counts: Estimate


class SummarizedData:
    """What the coreset of a window says of the window's data. Rows count by their weights where the data has some.

    Columns are named as the coordinates are (f0, f1, ... where they have no names), kept columns and the `group` by
    their own. Intervals are of 95 %: replicas and the sample itself measure them, as those of a cost.

    Args:
      window: that it is of.

    Raises:
      ValueError: the window's file is damaged, or its summary is none of a coreset.
    """

    def __init__(self, window: Told) -> None:
        self._window = window
        self.decision: Decision = window.decision
        self._rows = SampleColumns(self.decision.evidence.sample, window.columns, window.scale)

    def __len__(self) -> int:
        return len(self._sampled.first)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that can be asked for: coordinates, then kept ones."""
        return self._rows.columns

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The columns that are coordinates, in their order."""
        return self._rows.coordinates

    @property
    def total_weight(self) -> Estimate:
        """That of all rows: their number where they have no weights. Known for certain unless buckets were lost."""
        return self._estimator.total_weight()

    def mean(self, column: str | None = None, where: Condition = None) -> Estimate:
        """The mean of a column, over the rows where it is known; (d,), of all coordinates, where none is named.

        Raises:
          ValueError: no such column, or one that has no numbers.
        """
        if column is None:
            return Estimate.stacked([self.mean(name, where) for name in self.coordinates], (len(self.coordinates),))
        y, known = self._rows.numbers(column)
        return self._estimator.mean(y, known & self._rows.chosen(where))

    def covariance(self, columns: Sequence[str] | None = None, where: Condition = None) -> Estimate:
        """The covariance (c, c) of columns, by default all coordinates, over the rows where all of them are known: the
        mean of (x - mean x) (y - mean y).

        Raises:
          ValueError: as `mean`.
        """
        names = self.coordinates if columns is None else tuple(columns)
        held = [self._rows.numbers(name) for name in names]
        inside = functools.reduce(np.logical_and, [known for _, known in held], self._rows.chosen(where))
        each = np.where(inside, self._estimator.shares, 0.0)
        total = max(float(each.sum()), 1e-300)
        away = [np.where(inside, y, 0.0) for y, _ in held]
        away = [np.where(inside, y - each @ y / total, 0.0) for y in away]
        d = range(len(names))
        pairs = {(i, j): self._estimator.mean(away[i] * away[j], inside) for i in d for j in range(i + 1)}
        return Estimate.stacked([pairs[max(i, j), min(i, j)] for i in d for j in d], (len(d), len(d)))

    def quantiles(self, column: str, q: Sequence[float] | float = QUARTILES, where: Condition = None) -> Estimate:
        """The least values that shares q of the rows do not exceed, (len(q),), or a number for one.

        Raises:
          ValueError: as `mean`; a share that is not between 0 and 1.
        """
        shares = np.atleast_1d(np.asarray(q, np.float64))
        if not ((shares > 0) & (shares < 1)).all():
            raise ValueError(f"q: must be between 0 and 1, got {q}")
        y, known = self._rows.numbers(column)
        found = self._estimator.quantiles(y, known & self._rows.chosen(where), shares)
        return found if np.ndim(q) else found[0]

    def histogram(self, column: str, bins: int | Sequence[float] = 10, where: Condition = None) -> Histogram:
        """The weight in each bin of a column: in `bins` equal ones, between edges, or of each of the most frequent
        values where they are no numbers.

        Raises:
          ValueError: no such column, or no bins.
        """
        values = self._rows.values(column)
        if isinstance(bins, int) and bins < 1:
            raise ValueError(f"bins: must be at least 1, got {bins}")
        if values.dtype == object:
            names, of = np.unique(np.array([str(v) for v in values]), return_inverse=True)
            weight = np.bincount(of, self._estimator.shares, len(names))
            most = np.argsort(-weight, kind="stable")[: bins if isinstance(bins, int) else None]
            parts = [self._count(of == i, self._rows.chosen(where)) for i in most]
            return Histogram(None, tuple(names[most].tolist()), Estimate.stacked(parts, (len(parts),)))
        y, known = self._rows.numbers(column)
        inside = known & self._rows.chosen(where)
        edges = np.histogram_bin_edges(y[inside], bins)
        place = np.clip(np.searchsorted(edges, y, side="right") - 1, 0, len(edges) - 2)
        within = inside & (y >= edges[0]) & (y <= edges[-1])
        parts = [self._count(within & (place == i), self._rows.chosen(None)) for i in range(len(edges) - 1)]
        return Histogram(edges, None, Estimate.stacked(parts, (len(parts),)))

    def count_where(self, where: Condition) -> Estimate:
        """The weight of the rows for which a condition holds: their number where they have no weights.

        Args:
          where: a function of the columns, a mapping of names to arrays (m,), to booleans (m,), such as
            `lambda rows: rows["x"] > 3`; or a pyarrow expression, such as `pc.field("country") == "DE"`.

        Raises:
          ValueError: no such column, or what gives no booleans.
        """
        return self._count(self._rows.chosen(where), self._rows.chosen(None))

    def share_where(self, where: Condition) -> Estimate:
        """The share of the weight of the rows for which a condition holds; see `count_where`."""
        return self._estimator.share(self._rows.chosen(where), self._rows.chosen(None))

    def cost(self, centers: Any, z: float | None = None, fitted: bool | None = None) -> Estimate:
        """What centers cost on all of the data: the sum of distances to the power z, in scaled units.

        Args:
          centers: (k, d), in your units.
          z: by default the window's.
          fitted: whether they were solved on this coreset, which they fit better than the data: the cost is corrected
            by what that gains. By default the window's own centers are known to be.

        Raises:
          ValueError: centers of another number of coordinates.
        """
        row = self._window.row
        z = row["z"] if z is None else z
        given = self._points(centers, "centers")
        if fitted is None:
            own = self._window.centers
            fitted = given.shape == own.shape and np.allclose(given, own, rtol=1e-12, atol=0)
        measure = fitted_interval if fitted else fixed_interval
        return _estimate(measure(self.decision, self._unit(self._scaled(given)), z, row["metric"]))

    def solve(
        self,
        k: int | None = None,
        z: float | None = None,
        constraint: Constraint | str | None = None,
        outliers: float | None = None,
        seed: int = 0,
        quick: bool = False,
    ) -> Any:
        """The question asked again, of the coreset: a `WindowSummary` of its centers and their certificate.

        Args:
          k, z: by default the window's. constraint: such as "balanced=0.1" (`Constraint.parse`).
          outliers: how many rows, or which share of them, to leave out; by default as much as the window's centers do.
          quick: with a tenth of the search.

        Raises:
          ValueError: more centers than distinct points, or a constraint that they can't meet.
        """
        question = question_again(self._window.row, self.decision, k, z, constraint, outliers, seed, quick)
        window = self._window.window
        summary = summarize(self.decision, question, window, scale=self._window.scale)
        return self._window.answered(summary)

    def assign(self, points: Any) -> Assigned:
        """The nearest of the window's centers, and how far it is.

        Args:
          points: (n, d), in your units; or a table (pandas, polars, Arrow, a dict) that has the coordinates' columns.

        Raises:
          ValueError: no centers, or points without some coordinates.
        """
        index, dist_sq = self._distances(self._points(points, "points"))
        cosine = self._window.row["metric"] == "cosine"
        return Assigned(index.astype(np.int64), dist_sq if cosine else np.sqrt(dist_sq))

    def score(self, points: Any) -> Scored:
        """How far points are from the nearest of the window's centers, in units of the spread of its cluster, and
        which share of the window's data is nearer in these units.

        Args, Raises: as `assign`.
        """
        found = self.assign(points)
        spread, own, below = self._spreads
        away = np.sqrt(found.distances) if self._window.row["metric"] == "cosine" else found.distances
        scores = away / spread[found.labels]
        quantiles = np.concatenate([[0.0], below])[np.searchsorted(own, scores)]
        return Scored(found.labels, found.distances, scores, quantiles)

    def to_sklearn(self, scaled: bool = False) -> tuple[Array, Array]:
        """X (r, d) and sample_weight (r,), each sampled row once, for `fit` of scikit-learn's estimators.

        Args:
          scaled: in the units that distances were measured in, in place of your own.
        """
        coreset, rows, scale = self.decision.coreset, self._sampled, self._window.scale
        points = coreset.points[rows.first].astype(np.float64)
        return (points if scaled or scale is None else scale.undo(points)), rows.totals(coreset.weights)

    @functools.cached_property
    def _sampled(self) -> SampledRows:
        return table_rows(self.decision)

    @functools.cached_property
    def _estimator(self) -> Estimator:
        return Estimator(Sampled(self.decision))

    @functools.cached_property
    def _spreads(self) -> tuple[Array, Array, Array]:
        """The spread (k,) of each cluster; the coreset's scores in rising order, and the share of weight up to each."""
        coreset = self.decision.coreset
        index, dist_sq = self._measured(coreset.points)
        spread = spreads(index, dist_sq, coreset.weights, len(self._window.centers))
        scores = np.sqrt(dist_sq) / spread[index]
        order = np.argsort(scores, kind="stable")
        below = np.cumsum(coreset.weights[order])
        return spread, scores[order], below / below[-1]

    @functools.cached_property
    def _model(self) -> Model:
        """The window's centers, in scaled units, as squared distances see them."""
        window, row = self._window, self._window.row
        centers = window.centers
        if not len(centers):
            raise ValueError("centers: must be there to assign points to, got a window without any")
        scaled = self._scaled(centers)
        if not row["r"]:
            return Centers(self._unit(scaled), 2.0, row["metric"])
        bases = np.array(window.centers_table().column("basis").to_pylist()).reshape(len(centers), row["r"], -1)
        bases = bases if window.scale is None else window.scale.apply_bases(bases)
        return Subspaces(scaled if row["affine"] else 0 * scaled, bases, bool(row["affine"]))

    def _distances(self, points: Array) -> tuple[Array, Array]:
        return self._measured(self._unit(self._scaled(points)))

    def _measured(self, points: Array) -> tuple[Array, Array]:
        """The nearest center (n,) and the squared distance to it (n,) of points in scaled units."""
        ones = np.ones(len(points))
        index, cost = self._model.costs(Coreset(points, ones, ones, np.arange(len(points), dtype=np.uint64)))
        return index, cost

    def _unit(self, points: Array) -> Array:
        """At length 1 where only directions count."""
        if self._window.row["metric"] != "cosine":
            return points
        length = np.linalg.norm(points, axis=1, keepdims=True)
        return points / np.where(length > 0, length, 1.0)

    def _scaled(self, points: Array) -> Array:
        return points if self._window.scale is None else self._window.scale.apply(points)

    def _points(self, given: Any, name: str) -> Array:
        """Points in your units, (n, d) float64, by the names of their columns where they have some."""
        there = getattr(given, "column_names", None) or getattr(given, "columns", None)
        there = list(given) if isinstance(given, Mapping) else there
        if there is not None:
            if missing := [c for c in self.coordinates if c not in list(there)]:
                wanted = listed(self.coordinates)
                raise ValueError(f"{name}: must have the columns {wanted}, got none of {listed(missing)}")
            points = np.column_stack([np.asarray(given[c], np.float64) for c in self.coordinates])
        else:
            points = np.atleast_2d(np.asarray(given, np.float64))
        if points.ndim != 2 or points.shape[1] != len(self.coordinates):
            raise ValueError(f"{name}: must be of {len(self.coordinates)} coordinates, got shape {points.shape}")
        return np.ascontiguousarray(points)

    def _count(self, chosen: Array, inside: Array) -> Estimate:
        share, total = self._estimator.share(chosen, inside), self.total_weight
        found = share.times(total.value)
        if total.low == total.high:
            return found
        off = share.value * (total.high - total.value)  # what is missing may be more or less
        low, high = (float(np.hypot(edge - found.value, off)) for edge in (found.low, found.high))
        return Estimate(found.value, max(0.0, found.value - low), found.value + high)


def _estimate(interval: Interval) -> Estimate:
    return Estimate(interval.estimate, interval.low, interval.high)
