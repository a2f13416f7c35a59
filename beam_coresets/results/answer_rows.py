"""The tables of a summary: one row of `summaries`, and those of `centers`, `coreset` and `candidates`."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import __version__, table_schemas
from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.sampled_rows import SampledRows
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.scale import Scale
from beam_coresets.results.certificate import Interval
from beam_coresets.results.question import Question
from beam_coresets.results.weak_coreset import Candidates
from beam_coresets.shards import local_centers, pca
from beam_coresets.solvers.constrained.solver import ConstrainedModel
from beam_coresets.solvers.model import Model
from beam_coresets.solvers.trimmed import TrimmedCenters
from beam_coresets.values import stacked

Array = npt.NDArray[Any]


def schema_of(table: str) -> pa.Schema:
    """The columns of a table after the window's."""
    return pa.schema(list(table_schemas.SCHEMAS[table])[4:])


def column_of(parts: list[Any], kind: pa.DataType) -> pa.Array:
    """The parts, (m,) or (m, d) or an Arrow array each, one after the other."""
    if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
        flat = pa.array(np.concatenate([np.empty(0), *(part.ravel() for part in parts)]))
        ends = np.cumsum([0, *(width for part in parts for width in [part.shape[1]] * len(part))])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat)
    if parts and isinstance(parts[0], pa.Array):
        return pa.concat_arrays(parts).cast(kind)
    if isinstance(parts[0] if parts else [], list):
        return pa.array([v for part in parts for v in part], kind)
    return pa.array(np.concatenate(parts)).cast(kind)


def concatenate_kept(parts: list[Any], lengths: list[int]) -> Any:
    """The kept columns of all answers; null where an answer has none."""
    if all(part is None for part in parts):
        return None
    held = [pa.table({"id": pa.nulls(n)}) if t is None else t for t, n in zip(parts, lengths, strict=True)]
    table = stacked(held)
    return table.select([name for name in table.column_names if name not in ("id", "group")])


def known(number: float) -> float | None:
    """A number of a table: what is not known is null there, not NaN."""
    return None if math.isnan(number) else number


def summary_row(decision: Decision, question: Question, interval: Interval, centers: int) -> dict[str, Any]:
    """The summary's columns by name, without the window's."""
    recovery, assignment, sampler = decision.recovery, decision.policy.assignment, question.sampler
    return {
        "shards": assignment.shards,
        "responded": list(recovery.responded),
        "stragglers": list(recovery.stragglers),
        "distrusted": [f"{shard}:{fault}" for shard, fault in sorted(recovery.distrusted.items())],
        "coverage": recovery.coverage,
        "delta": recovery.delta,
        "total_weight": decision.total_weight,
        "cost": known(interval.estimate),
        "cost_low": known(interval.low),
        "cost_high": known(interval.high),
        "cost_basis": interval.basis,
        "trust": interval.trust,
        "points": decision.points,
        "centers": centers,
        "degraded": decision.degraded,
        "partial": int((recovery.covered & ~recovery.complete).sum()),
        "k": sampler.k,
        "z": sampler.z,
        "metric": question.metric,
        "method": sampler.method,
        "recovery": recovery.kind,
        "scheme": assignment.kind,
        "replication": assignment.replication,
        "seed": question.seed,
        "version": __version__,
        "summary": question.kind,
        "r": question.r,
        "affine": question.affine,
        "constraint_text": None if question.constraint is None else question.constraint.text(),
        "factor": _factor(decision, question, interval),
        "alpha": None,
        "columns": None if question.columns is None else list(question.columns),
        **dict(question.asked),
    }


def _factor(decision: Decision, question: Question, interval: Interval) -> float | None:
    """The approximation factor, with the slacks that were reached; None where nothing proves one."""
    local, recovery = decision.local, decision.recovery
    if local is None or local.estimated or recovery.coverage < 1 or not recovery.covered.any():
        return None
    if not interval.high > 2 * interval.rounding:
        return None  # the cost can't be told from nothing, of which everything is many times as much
    room = interval.high / (interval.high - 2 * interval.rounding)
    # Nothing costs less than the lower bound of what is best on what was sent, as this is (of centers: supposedly).
    reached = interval.high / interval.low if interval.low > 0 else np.inf
    if local.kind == "local_centers":
        return min(local_centers.factor(recovery.delta) * room, reached)
    return min(pca.factor(recovery.delta, question.delta) * room, reached)


def centers_table(coreset: Coreset, model: Model, ids: list[str], scale: Scale | None) -> dict[str, list[Any]]:
    """Column -> k' values, without the window's; all empty where there are no centers. Costs are in scaled units."""
    solved = model.centers
    columns: dict[str, list[Any]] = {name: [None] * len(solved) for name in schema_of("centers").names}
    if not len(solved):
        return columns
    index, cost = model.clusters(coreset)
    order = np.lexsort((np.arange(len(index)), cost, index))
    first = np.searchsorted(index[order], np.arange(len(solved)))
    sizes = np.bincount(index, minlength=len(solved))
    columns["index"] = list(range(len(solved)))
    columns["coordinates"] = list(solved if scale is None else scale.undo(solved))
    if model.bases is not None:
        bases = model.bases if scale is None else scale.undo_bases(model.bases)
        columns["basis"] = [basis.ravel() for basis in bases]
    columns["weight"], columns["cost"] = (each.tolist() for each in model.totals(coreset, index, cost))
    columns |= group_columns(coreset, model)
    # Centers that differ in float64 only may be one to float32 points; the second then has none.
    columns["representative_id"] = [ids[order[i]] if size else None for i, size in zip(first, sizes, strict=True)]
    return columns


def group_columns(coreset: Coreset, model: Model) -> dict[str, list[Any]]:
    """The columns of `centers` that say how much each group has of each cluster, k values each; none without a
    constraint on groups."""
    if not isinstance(model, ConstrainedModel) or not model.constraint.labelled:
        return {}
    table = model.table(coreset)
    return {"group_labels": [list(model.labels)] * len(model.centers), "group_weights": table.T.tolist()}


def coreset_table(
    decision: Decision, rows: SampledRows, ids: list[str], scale: Scale | None
) -> tuple[dict[str, Any], Any]:
    """Column -> (r,) or (r, d) values, without the window's; and the kept columns, a pyarrow Table or None.

    Args:
      rows: the r distinct rows among the coreset's m points.
      ids: m texts.
    """
    coreset, kept = decision.coreset, _kept(decision)
    points = coreset.points[rows.first]
    if scale is not None:
        points = scale.undo(points)
    extras = None if coreset.extras is None else coreset.extras.take(pa.array(rows.first))
    labels = extras.column("group") if extras is not None and "group" in extras.column_names else None
    columns = {
        "id": [ids[at] for at in rows.first.tolist()],
        "coordinates": points.astype(np.float64),
        "weight": rows.totals(coreset.weights),
        "weight_ht": rows.totals(coreset.weights_ht),
        "bucket": decision.evidence.bucket[kept][rows.first],
        "shards": _in_lists(decision.evidence.shard[kept][rows.gathered()], rows.counts),
        "group_label": [None] * len(rows.first) if labels is None else labels.cast(pa.string()).to_pylist(),
    }
    return columns, extras


def _in_lists(values: Array, counts: Array) -> pa.ListArray:
    """The values, so many in each of the lists."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values))


def no_candidates() -> dict[str, Any]:
    """The candidates' columns without a row."""
    return {"index": [], "id": [], "coordinates": np.empty((0, 0)), "shard": [], "independent": []}


def candidates_table(candidates: Candidates, names: Mapping[int, str], scale: Scale | None) -> dict[str, Any]:
    """Column -> values, one a candidate, without the window's; means have no id."""
    points = candidates.points
    ids = printed_ids(candidates.drawn, names)
    return {
        "index": list(range(len(points))),
        "id": [*ids, *[None] * len(candidates.means)],
        "coordinates": points if scale is None else scale.undo(points),
        "shard": candidates.shard.tolist(),
        "independent": [candidates.independent] * len(points),
    }


def no_outliers() -> dict[str, Any]:
    """The outliers' columns without a row."""
    return {"id": [], "coordinates": np.empty((0, 0)), "weight": np.empty(0), "cost": np.empty(0), "nearest": []}


def outliers_table(coreset: Coreset, model: TrimmedCenters, ids: list[str], scale: Scale | None) -> dict[str, Any]:
    """Column -> values, one a row that is left out, in order of falling cost, without the window's.

    A row that several shards have sent is there once, with the weights of all of them.
    """
    rows, weight, index, cost = model.outliers(coreset)
    place: dict[tuple[str, float], int] = {}
    at = [place.setdefault((ids[row], c), len(place)) for row, c in zip(rows.tolist(), cost.tolist(), strict=True)]
    first = np.unique(np.array(at, np.int64), return_index=True)[1]
    points = coreset.points[rows[first]]
    return {
        "id": [name for name, _ in place],
        "coordinates": (points if scale is None else scale.undo(points)).astype(np.float64),
        "weight": np.bincount(at, weight, len(place)) if at else np.empty(0),
        "cost": cost[first],
        "nearest": index[first].tolist(),
    }


def _kept(decision: Decision) -> Array:
    """The row of the evidence that each point of the coreset is; the first of several at one place."""
    evidence = decision.evidence
    kept = np.flatnonzero(decision.recovery.multiplier(evidence.shard, evidence.bucket) > 0)
    if decision.local is None:
        return kept
    sample = evidence.sample.keep(kept, evidence.sample.weights_ht[kept])
    return np.asarray(kept[sample.at_distinct_places()[1]])


def printed_ids(coreset: Coreset, names: Mapping[int, str]) -> list[str]:
    """m texts: the user's ids, else file#row, else 16 hexadecimal digits."""
    extras = coreset.extras
    if extras is not None and "id" in extras.column_names:
        return [str(v) for v in extras.column("id").to_pylist()]
    low = (1 << 32) - 1
    printed = []
    for number in coreset.ids.tolist():
        name = names.get(number >> 32)
        printed.append(f"{number:016x}" if name is None else f"{name}#{number & low}")
    return printed
