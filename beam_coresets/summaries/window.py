"""One window, as its tables tell: its certificate, its centers, and its coreset, which answers questions."""
from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets import table_schemas
from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.evidence import unpack_evidence
from beam_coresets.points.column_order import Names
from beam_coresets.points.named_scale import NamedScale
from beam_coresets.points.scale import Scale
from beam_coresets.results.estimates import Estimate
from beam_coresets.results.marginals import marginals
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.summary import Summary, marginals_table
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.choosing import Identity, Row
from beam_coresets.summaries.columns import as_frame, by_name, spread_out
from beam_coresets.summaries.data import SummarizedData
from beam_coresets.summaries.folders import Stored
from beam_coresets.summaries.moments import instant, shown

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is known of a window's answer: fields as the columns of `summaries` are named.

    Attributes:
      cost: of the centers on all of the data, with the ends of its 95 % interval, in scaled units; NaN where it is not
        known. cost_basis, trust: what the interval was measured by, and what it is worth.
      coverage, delta: the share of buckets that are answered for; the slack of their union.
      total_weight, points: the weight of the data and its rows.
      shards, responded, stragglers, distrusted, degraded: who has answered.
      reason, decided_at: why and when the window was decided.
      k, z, metric, method, summary, constraint_text: what was asked for.
      factor, alpha, outliers: see docs/output.md.
    """

    cost: Estimate
    cost_basis: str
    trust: str | None
    coverage: float
    delta: float
    total_weight: float
    points: int
    shards: int
    responded: tuple[int, ...]
    stragglers: tuple[int, ...]
    distrusted: tuple[str, ...]
    degraded: bool
    reason: str | None
    decided_at: datetime.datetime | None
    k: int
    z: float
    metric: str
    method: str
    summary: str | None
    constraint_text: str | None
    factor: float | None
    alpha: float | None
    outliers: float | None

    @staticmethod
    def of(row: Row) -> Certificate:
        """That of a row of `summaries`."""
        names = [field.name for field in dataclasses.fields(Certificate)]
        held = {name: row[name] for name in names if name not in ("cost", "decided_at")}
        held |= {name: tuple(row[name] or ()) for name in ("responded", "stragglers", "distrusted")}
        cost = (float("nan") if row[name] is None else row[name] for name in ("cost", "cost_low", "cost_high"))
        return Certificate(cost=Estimate(*cost), decided_at=instant(row["decided_at"]), **held)


class WindowSummary:
    """One window and key, of its newest revision.

    Args:
      identity: which it is. row: of `summaries`. table: its other tables by name, each with its rows only.
      scale: what its columns were scaled by, by their names.

    Attributes:
      start, end: datetimes in UTC, the end excluded; None outside windows. key, revision: see docs/output.md.
      row: the columns of `summaries` by name.
      named_scale: what its columns were scaled by; None where by nothing.
    """

    def __init__(
        self, identity: Identity, row: Row, table: Callable[[str], pa.Table], scale: NamedScale | None = None
    ) -> None:
        self.identity, self.row, self.named_scale, self._table = identity, row, scale, table
        self.start, self.end = instant(identity.start), instant(identity.end)
        self.key, self.revision = identity.key, identity.revision

    @staticmethod
    def stored(stored: Stored, identity: Identity, row: Row) -> WindowSummary:
        """One of those that are stored together."""
        alone = len(stored.rows) == 1

        def table(name: str) -> pa.Table:
            found = stored.table(name)
            return found if alone else _rows_of(found, identity)

        return WindowSummary(identity, row, table, stored.folder.scale)

    @staticmethod
    def solved(summary: Summary, scale: NamedScale | None, folder: str = "") -> WindowSummary:
        """An answer that was made here, of one window and key, from what is in a folder."""
        (row,) = table_schemas.in_seconds(summary.summaries).to_pylist()
        window = summary.answers[0].window
        identity = Identity(folder, window.start, window.end, window.key, window.revision)
        return WindowSummary(identity, row, summary.table, scale)

    def answered(self, summary: Summary) -> WindowSummary:
        """Another answer to this window's question."""
        return WindowSummary.solved(summary, self.named_scale)

    def __repr__(self) -> str:
        of_key = f" key={self.key!r}" if self.key else ""
        return (
            f"<WindowSummary {shown(self.identity.start)} to {shown(self.identity.end)}{of_key} "
            f"points={self.row['points']:,} centers={self.row['centers']} coverage={self.row['coverage']:g}>"
        )

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the coordinates in their order, or of the one column of vectors; None where there are none."""
        return tuple(self.row["columns"]) if self.row["columns"] else None

    @property
    def window(self) -> Window:
        """Which window, key and revision it is, in seconds since the epoch."""
        return Window(*self.identity[1:])

    @functools.cached_property
    def scale(self) -> Scale | None:
        """What the coordinates are scaled by before distances are measured, in their order; None where by nothing.

        Raises:
          ValueError: `scale.json` is of other columns, or not what was written.
        """
        return self.scale_for(self.columns)

    @functools.cached_property
    def certificate(self) -> Certificate:
        """What the centers cost on all of the data, how sure that is, and who has answered."""
        return Certificate.of(self.row)

    @functools.cached_property
    def centers(self) -> Array:
        """(k, d) float64, in your units, in the order of `index`; of subspaces a point on each. (0, d) without centers.

        Raises:
          ValueError: the file is damaged.
        """
        found = self.centers_table()
        return coordinates_of(found, len(self.columns or ()))

    @functools.cached_property
    def decision(self) -> Decision:
        """The coreset with all that tells its errors: what `solve` and `rollup` go on from.

        Raises:
          ValueError: the file is damaged, or the summary is none of a coreset.
        """
        return self.decision_for(self.columns)

    @property
    def coreset(self) -> SummarizedData:
        """The data of the window, as far as its coreset tells: it answers questions with intervals.

        Raises:
          ValueError: the file is damaged, or the summary is none of a coreset.
        """
        return self._data

    @functools.cached_property
    def _data(self) -> SummarizedData:
        return SummarizedData(self)

    @functools.cached_property
    def marginals(self) -> pa.Table:
        """The rows of `columns`: mean, deviation and quantiles of each column, with their intervals. Where the window
        was written without that table, they are told from its coreset.

        Raises:
          ValueError: a file is damaged.
        """
        found = self.table("columns")
        if len(found) or not self.row["points"] or self.row["summary"] not in (None, "coreset"):
            return found
        return marginals_table([self.window], [marginals(Sampled(self.decision), self.columns, self.scale)])

    def scale_for(self, columns: Names) -> Scale | None:
        """`scale` in the order of these names."""
        return None if self.named_scale is None else self.named_scale.of(columns, "the tables")

    def decision_for(self, columns: Names) -> Decision:
        """`decision` with its coordinates in the order of these names.

        Raises:
          ValueError: as `decision`; other columns.
        """
        coreset = by_name(self._table("coreset"), self.columns, columns, "the first window")
        return unpack_evidence(self.row, coreset, self.scale_for(columns))

    def table(self, name: str) -> pa.Table:
        """The rows of a table of this window, as they are stored but for times: summaries, centers, coreset,
        columns, candidates or outliers.

        Raises:
          ValueError: there is no such table, or its file is damaged.
        """
        if name == "summaries":
            schema = table_schemas.SUMMARIES
            held = {field.name: self.row.get(field.name) for field in schema}
            return table_schemas.typed(pa.table({name: [value] for name, value in held.items()}), "summaries")
        return table_schemas.typed(self._table(name), name)

    def centers_table(self) -> pa.Table:
        """The rows of `centers` that are centers, in the order of `index`."""
        found = self._table("centers")
        index = np.asarray(found.column("index").to_numpy(zero_copy_only=False), np.float64)
        rows = np.flatnonzero(np.isfinite(index))
        return found.take(pa.array(rows[np.argsort(index[rows], kind="stable")]))

    def to_arrow(self, table: str = "coreset") -> pa.Table:
        """A table with a column for each coordinate, under its name.

        Raises:
          ValueError: there is no such table, or its file is damaged.
        """
        return spread_out(self.table(table), self.columns)

    def to_pandas(self, table: str = "coreset") -> Any:
        """`to_arrow` as a DataFrame; an ImportError without pandas."""
        return as_frame(self.to_arrow(table))


def coordinates_of(table: pa.Table, dim: int) -> Array:
    """The column `coordinates`, (n, d) float64.

    Args:
      dim: the width where there are no rows.
    """
    column = table.column("coordinates").combine_chunks()
    if not len(column):
        return np.empty((0, dim))
    return np.asarray(column.flatten(), np.float64).reshape(len(column), -1)


def _rows_of(table: pa.Table, identity: Identity) -> pa.Table:
    """Those of one window, key and revision."""
    mask = np.ones(len(table), np.bool_)
    for name, wanted in (("window_start", identity.start), ("window_end", identity.end)):
        found = np.asarray(table.column(name).to_numpy(zero_copy_only=False), np.float64)
        mask &= np.isnan(found) if wanted is None else np.abs(found - wanted) < 1e-6
    for name, value in (("key", identity.key), ("revision", identity.revision)):
        column = table.column(name).combine_chunks()
        column = column.fill_null("" if name == "key" else 0)
        mask &= np.asarray(pc.equal(column, value).to_numpy(zero_copy_only=False), np.bool_)
    return table.filter(pa.array(mask))
