"""The summary of one window: centers solved on the decided coreset, what they cost, and the tables that say so."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import __version__, tables
from beam_coresets.certificate import Interval, fitted_interval, point_costs
from beam_coresets.coordinator import Decision
from beam_coresets.coreset import Coreset
from beam_coresets.sampling import Sampler
from beam_coresets.solvers.centers import Metric, solve_centers

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Columns divided by `divisor` after `origin` was taken off; results are put back into the user's units.

    Attributes:
      origin, divisor: one number a column, in the user's units.
    """

    origin: tuple[float, ...]
    divisor: tuple[float, ...]

    def apply(self, points: Array) -> Array:
        """Scaled points; (n, d) float64."""
        return (points - np.asarray(self.origin)) / np.asarray(self.divisor)

    def undo(self, points: Array) -> Array:
        """Points in the user's units; (n, d) float64."""
        return points * np.asarray(self.divisor) + np.asarray(self.origin)


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of each window's coreset.

    Attributes:
      sampler: how the coreset is made: k, z, size and method.
      metric: "euclidean" or "cosine".
      seed: seeds sampling and solving.
      solve: whether centers are wanted.
    """

    sampler: Sampler
    metric: Metric = "euclidean"
    seed: int = 0
    solve: bool = True

    def __post_init__(self) -> None:
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric: must be euclidean or cosine, got {self.metric!r}")


@dataclasses.dataclass(frozen=True)
class Window:
    """Which window, key and revision a summary is of; start and end in seconds since the epoch, None outside
    windows."""

    start: float | None = None
    end: float | None = None
    key: str = ""
    revision: int = 1

    @property
    def name(self) -> str:
        """A file name for it."""
        span = "global" if self.start is None else f"{self.start:.3f}-{self.end:.3f}"
        return "-".join(part for part in (self.key, span, f"r{self.revision}") if part)


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """A window's answer as Arrow tables (`beam_coresets.tables`)."""

    window: Window
    summaries: pa.Table
    centers: pa.Table
    coreset: pa.Table

    def table(self, name: str) -> pa.Table:
        """One of `tables.TABLES`."""
        table: pa.Table = getattr(self, name)
        return table


def summarize(
    decision: Decision,
    question: Question,
    window: Window = Window(),
    names: Mapping[int, str] | None = None,
    scale: Scale | None = None,
) -> Summary:
    """Solves for centers and writes the three tables.

    Args:
      names: file name by the upper half of ids that were made of (file, row number); such ids are printed as
      `name#row`.
      scale: how the columns were scaled; coordinates are written in the user's units, costs stay in scaled ones.
    """
    z, metric = question.sampler.z, question.metric
    coreset, k = decision.coreset, question.sampler.k
    ids = _printed_ids(coreset, names or {})
    centers = pa.schema(list(tables.CENTERS)[4:]).empty_table()
    nan = float("nan")
    interval = Interval(nan, nan, nan, nan, nan, "none")
    solved = np.empty((0, coreset.dim))
    if question.solve and len(coreset) and coreset.weights.any():
        solved = solve_centers(coreset.points, coreset.weights, k, z, seed=question.seed, metric=metric).centers
        interval = fitted_interval(decision, solved, z, metric)
        centers = _centers(coreset, solved, z, metric, ids, scale)
    row = _summary_row(decision, question, interval, len(solved))
    return Summary(
        window,
        _with_identity(pa.Table.from_pylist([row], pa.schema(list(tables.SUMMARIES)[4:])), window),
        _with_identity(centers, window),
        _with_identity(_coreset(decision, ids, scale), window),
    )


def _with_identity(table: pa.Table, window: Window) -> pa.Table:
    n = len(table)
    values = [[window.start] * n, [window.end] * n, [window.key] * n, [window.revision] * n]
    for i, (field, column) in enumerate(zip(list(tables.SUMMARIES)[:4], values, strict=True)):
        table = table.add_column(i, field, pa.array(column, field.type))
    return table


def _summary_row(decision: Decision, question: Question, interval: Interval, centers: int) -> dict[str, Any]:
    recovery, assignment, sampler = decision.recovery, decision.policy.assignment, question.sampler
    return {
        "shards": assignment.shards,
        "responded": list(recovery.responded),
        "stragglers": list(recovery.stragglers),
        "distrusted": [f"{shard}:{fault}" for shard, fault in sorted(recovery.distrusted.items())],
        "coverage": recovery.coverage,
        "delta": recovery.delta,
        "total_weight": decision.total_weight,
        "cost": interval.estimate,
        "cost_low": interval.low,
        "cost_high": interval.high,
        "cost_basis": interval.basis,
        "points": decision.points,
        "coreset_points": len(decision.coreset),
        "centers": centers,
        "degraded": decision.degraded,
        "k": sampler.k,
        "z": sampler.z,
        "metric": question.metric,
        "method": sampler.method,
        "recovery": recovery.kind,
        "scheme": assignment.kind,
        "replication": assignment.replication,
        "seed": question.seed,
        "version": __version__,
    }


def _centers(
    coreset: Coreset, solved: Array, z: float, metric: Metric, ids: list[str], scale: Scale | None
) -> pa.Table:
    index, cost = point_costs(coreset.points, solved, z, metric)
    order = np.lexsort((np.arange(len(index)), cost, index))
    first = np.searchsorted(index[order], np.arange(len(solved)))
    sizes = np.bincount(index, minlength=len(solved))
    rows = {
        "index": np.arange(len(solved)),
        "coordinates": list(solved if scale is None else scale.undo(solved)),
        "weight": np.bincount(index, coreset.weights, len(solved)),
        "cost": np.bincount(index, coreset.weights * cost, len(solved)),
        # Centers that differ in float64 only may be one to float32 points; the second then has none.
        "representative_id": [ids[order[i]] if size else None for i, size in zip(first, sizes, strict=True)],
    }
    schema = pa.schema(list(tables.CENTERS)[4:])
    return pa.table({f.name: pa.array(rows[f.name], f.type) for f in schema}, schema)


def _coreset(decision: Decision, ids: list[str], scale: Scale | None) -> pa.Table:
    coreset = decision.coreset
    points = coreset.points if scale is None else scale.undo(coreset.points)
    extras = coreset.extras
    labels = extras.column("group") if extras is not None and "group" in extras.column_names else None
    n, d = points.shape
    flat = pa.array(points.astype(np.float64).ravel())
    rows = {
        "id": pa.array(ids, pa.string()),
        "coordinates": pa.ListArray.from_arrays(pa.array(np.arange(n + 1) * d, pa.int32()), flat),
        "weight": pa.array(coreset.weights),
        "weight_ht": pa.array(coreset.weights_ht),
        "bucket": pa.array(decision.evidence.bucket[_kept(decision)]),
        "shard": pa.array(decision.evidence.shard[_kept(decision)]),
        "group": pa.nulls(n, pa.string()) if labels is None else labels.cast(pa.string()),
    }
    table = pa.table(rows, pa.schema(list(tables.CORESET)[4:]))
    for name in [] if extras is None else extras.column_names:
        if name not in ("id", "group"):
            table = table.append_column(name, extras.column(name))
    return table


def _kept(decision: Decision) -> Array:
    """Which points of the evidence are in the coreset."""
    evidence = decision.evidence
    return decision.recovery.multipliers[evidence.shard, evidence.bucket] > 0


def _printed_ids(coreset: Coreset, names: Mapping[int, str]) -> list[str]:
    extras = coreset.extras
    if extras is not None and "id" in extras.column_names:
        return [str(v) for v in extras.column("id").to_pylist()]
    low = (1 << 32) - 1
    printed = []
    for number in coreset.ids.tolist():
        name = names.get(number >> 32)
        printed.append(f"{number:016x}" if name is None else f"{name}#{number & low}")
    return printed
