"""The summary of one window: centers solved on the decided coreset, what they cost, and the tables that say so."""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import __version__, local_centers, pca, tables, weak_coreset
from beam_coresets.certificate import Interval, model_interval
from beam_coresets.constraints import Constraint
from beam_coresets.coordinator import Decision
from beam_coresets.coreset import Coreset
from beam_coresets.merged import pack
from beam_coresets.sampling import Sampler
from beam_coresets.scale import Scale
from beam_coresets.solvers.centers import Metric, solve_centers
from beam_coresets.solvers.constrained import ConstrainedModel, solve_constrained
from beam_coresets.solvers.model import Centers, Model
from beam_coresets.solvers.subspaces import solve_subspaces
from beam_coresets.weak_coreset import Candidates

Array = npt.NDArray[Any]

QUICK_RESTARTS, QUICK_SWAPS = 2, 1  # the latter as a multiple of k; within 3 % of the full search on 120 small problems
LONGEST_KEY = 150  # characters of a key in a file name; 255 is what file systems take for all of it


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of each window's coreset.

    Attributes:
      sampler: how the coreset is made: k, z, size and method.
      metric: "euclidean" or "cosine".
      seed: seeds sampling and solving.
      solve: whether centers are wanted.
      quick: solves with a tenth of the search: for thousands of small keys.
      kind: what the shards sent: "coreset", "local_centers" or "pca".
      r, affine: centers are r-dimensional subspaces, through the origin unless affine; 0 for centers.
      delta: of kind "pca", the slack of what the shards sent.
      candidates: of a weak coreset, places that centers may be chosen from; 0 for none.
      constraint: what clusters must keep to; None for nothing.
    """

    sampler: Sampler
    metric: Metric = "euclidean"
    seed: int = 0
    solve: bool = True
    quick: bool = False
    kind: str = "coreset"
    r: int = 0
    affine: bool = False
    delta: float = 0.1
    candidates: int = 0
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric: must be euclidean or cosine, got {self.metric!r}")
        if self.r and self.metric != "euclidean":
            raise ValueError(f"metric: must be euclidean with r = {self.r}, got {self.metric!r}")
        if self.affine and not self.r:
            raise ValueError("affine: must be left out without r, got True")
        if self.candidates and self.candidates < self.sampler.k:
            raise ValueError(f"candidates: must be at least k = {self.sampler.k}, got {self.candidates}")
        if self.constraint is not None and (self.r or self.kind != "coreset"):
            what = f"r = {self.r}" if self.r else f"summary {self.kind}"
            raise ValueError(f"constraint: must be on centers of a coreset, got {what}")


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
        """A file name for it; two windows never have the same one."""
        span = "global" if self.start is None else f"{self.start:.3f}-{self.end:.3f}"
        return "-".join(part for part in (_safe(self.key), span, f"r{self.revision}") if part)

    @property
    def folder(self) -> str:
        """The hive-style folder of its files: the UTC day of its start; none outside windows."""
        if self.start is None:
            return ""
        return f"day={np.datetime64(int(self.start // 86400), 'D')}"


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What is known about one key of one window, not made into tables yet.

    Attributes:
      window: whose answer it is.
      row: the summary's columns by name, without the window's.
      solved: (k', d) float64, the centers in the coordinates they were solved in.
      centers: column -> k' values and those of ended centers, without the window's.
      coreset: column -> (m,) or (m, d) values, without the window's.
      extras: pyarrow Table of m rows (the kept columns) or None.
      candidates: column -> values, without the window's; None where none were asked for.
    """

    window: Window
    row: Mapping[str, Any]
    solved: Array
    centers: Mapping[str, list[Any]]
    coreset: Mapping[str, Any]
    extras: Any = None
    candidates: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """A window's answer, for one key or for many, as Arrow tables (`beam_coresets.tables`) made on first use.

    Attributes:
      window: what its files are named after.
      answers: one a key; none for a group of keys of which nobody has rows, whose tables are empty.
      replica: which of the window's coordinators decided.
    """

    window: Window
    answers: tuple[Answer, ...]
    replica: int = 0

    @functools.cached_property
    def summaries(self) -> pa.Table:
        table = pa.Table.from_pylist([dict(answer.row) for answer in self.answers], _schema("summaries"))
        return self._with_identity(table, [1] * len(self.answers))

    @functools.cached_property
    def centers(self) -> pa.Table:
        columns = {
            f.name: pa.array([v for answer in self.answers for v in answer.centers[f.name]], f.type)
            for f in _schema("centers")
        }
        return self._with_identity(pa.table(columns), [len(answer.centers["index"]) for answer in self.answers])

    @functools.cached_property
    def coreset(self) -> pa.Table:
        lengths = [len(answer.coreset["id"]) for answer in self.answers]
        columns = {f.name: _column([a.coreset[f.name] for a in self.answers], f.type) for f in _schema("coreset")}
        table = self._with_identity(pa.table(columns), lengths)
        extras = _stacked([answer.extras for answer in self.answers], lengths)
        for name in [] if extras is None else extras.column_names:
            table = table.append_column(name, extras.column(name))
        return table

    @functools.cached_property
    def candidates(self) -> pa.Table:
        held = [(answer.candidates or _no_candidates()) for answer in self.answers]
        columns = {f.name: _column([each[f.name] for each in held], f.type) for f in _schema("candidates")}
        return self._with_identity(pa.table(columns), [len(each["id"]) for each in held])

    def table(self, name: str) -> pa.Table:
        """One of `tables.WEAK_TABLES`."""
        table: pa.Table = getattr(self, name)
        return table

    def _with_identity(self, table: pa.Table, lengths: list[int]) -> pa.Table:
        windows = [answer.window for answer in self.answers]
        for i, field in enumerate(list(tables.SUMMARIES)[:4]):
            name = field.name.removeprefix("window_")
            each = pa.array([getattr(window, name) for window in windows], field.type)
            table = table.add_column(i, field, each.take(pa.array(np.repeat(np.arange(len(windows)), lengths))))
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        return Summary, (self.window, self.answers, self.replica)  # without the tables


def summarize(
    decision: Decision,
    question: Question,
    window: Window = Window(),
    names: Mapping[int, str] | None = None,
    scale: Scale | None = None,
    init: Array | None = None,
    reason: str = "batch",
    decided_at: float | None = None,
    candidates: Candidates | None = None,
) -> Summary:
    """Solves for centers and says what there is to say about them.

    Args:
      names: file name by the upper half of ids that were made of (file, row number); such ids are printed as
      `name#row`.
      scale: how the columns were scaled; coordinates are written in the user's units, costs stay in scaled ones.
      init: (at most k, d) centers to start from, in scaled units.
      reason: why it was decided then: all, deadline, cap, or batch.
      decided_at: seconds since the epoch; None in batch.
      candidates: of windows that were merged; else, where the question wants some, they are drawn from the points of a
        shard that can be spared, and all else is said of the coreset without it.
    """
    if question.candidates and candidates is None:
        decision, candidates = weak_coreset.divided(
            decision, question.candidates, question.sampler.z, question.seed, question.metric
        )
    coreset = decision.coreset
    ids = _printed_ids(coreset, names or {})
    nan = float("nan")
    interval = Interval(nan, nan, nan, nan, nan, "none")
    model: Model = Centers(np.empty((0, coreset.dim)), question.sampler.z, question.metric)
    if question.solve and len(coreset) and coreset.weights.any():
        model = solved_model(coreset, question, init, None if candidates is None else candidates.points)
        interval = model_interval(decision, model, question.quick)
    row = _summary_row(decision, question, interval, len(model.centers))
    row |= {"reason": reason, "decided_at": decided_at, "evidence": None if decision.local else pack(decision)}
    centers = _centers(coreset, model, ids, scale)
    if question.kind == "pca":  # there are no rows to name
        centers["representative_id"] = [None] * len(model.centers)
    sampled, extras = _coreset(decision, ids, scale)
    places = None
    if candidates is not None:
        places = _candidates(candidates, names or {}, scale)
        if isinstance(model, Centers):
            row["alpha"] = weak_coreset.alpha(coreset, candidates.points, model.centers, model.z, model.metric)
        elif isinstance(model, ConstrainedModel):
            row["alpha"] = model.alpha
    return Summary(window, (Answer(window, row, model.centers, centers, sampled, extras, places),))


def solved_model(
    coreset: Coreset, question: Question, init: Array | None = None, places: Array | None = None
) -> Model:
    """What the question asks for, solved on the coreset's calibrated weights.

    Args:
      places: (c, d) candidates for the centers of constrained clusters.
    """
    sampler, metric = question.sampler, question.metric
    if question.constraint is not None:
        return solve_constrained(
            coreset, sampler.k, question.constraint, sampler.z, metric, question.seed, places,
            init=init, quick=question.quick,
        )  # fmt: skip
    if question.kind == "pca":
        return pca.principal_subspace(coreset.points, coreset.weights, question.r, question.affine)
    if question.r:
        return solve_subspaces(
            coreset.points, coreset.weights, sampler.k, question.r,
            affine=question.affine, seed=question.seed, restarts=1 if question.quick else None,
        )  # fmt: skip
    restarts, swaps = (QUICK_RESTARTS, QUICK_SWAPS * sampler.k) if question.quick else (None, None)
    found = solve_centers(
        coreset.points, coreset.weights, sampler.k, sampler.z,
        seed=question.seed, metric=metric, init=init, restarts=restarts, swaps=swaps,
    )  # fmt: skip
    return Centers(found.centers, sampler.z, metric)


def with_identities(
    summary: Summary,
    ids: Sequence[str],
    born: Sequence[float | None],
    split_from: Sequence[str | None],
    ended: Sequence[tuple[str, float | None, str | None]] = (),
) -> Summary:
    """A summary of one key whose centers are named.

    Args:
      ids, born, split_from: one a center, in the order of `index`.
      ended: (center_id, born, merged_into) of centers of the window before that are no more.

    Raises:
      ValueError: another number of ids than centers, or a summary of several keys.
    """
    if len(summary.answers) != 1:
        raise ValueError(f"summary: must be of one key, got {len(summary.answers)}")
    (answer,) = summary.answers
    for name, given in (("ids", ids), ("born", born), ("split_from", split_from)):
        if len(given) != len(answer.solved):
            raise ValueError(f"{name}: must be one for each of {len(answer.solved)} centers, got {len(given)}")
    k, n = len(ids), len(ended)
    columns = {name: [*values[:k], *[None] * n] for name, values in answer.centers.items()}
    columns["weight"][k:] = columns["cost"][k:] = [0.0] * n
    columns["center_id"] = [*ids, *(name for name, _, _ in ended)]
    columns["born"] = [*born, *(since for _, since, _ in ended)]
    columns["split_from"][:k] = split_from
    columns["merged_into"][k:] = [into for _, _, into in ended]
    return Summary(summary.window, (dataclasses.replace(answer, centers=columns),))


def together(window: Window, summaries: Sequence[Summary], replica: int = 0) -> Summary:
    """Many keys of one window under one name; each row keeps its own window, key and revision."""
    return Summary(window, tuple(answer for summary in summaries for answer in summary.answers), replica)


def _safe(key: str) -> str:
    """A key as part of a file name: percent-encoded, "-" too, as that is what parts are joined by; never hidden."""
    encoded = urllib.parse.quote(key, safe="").replace("-", "%2D")
    if encoded[:1] in (".", "_"):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) > LONGEST_KEY:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        encoded = f"{encoded[:LONGEST_KEY - 41]}~{digest[:40]}"
    return encoded


def _schema(table: str) -> pa.Schema:
    """The columns of a table after the window's."""
    return pa.schema(list(tables.SCHEMAS[table])[4:])


def _column(parts: list[Any], kind: pa.DataType) -> pa.Array:
    """The parts, (m,) or (m, d) each, one after the other."""
    if pa.types.is_list(kind):
        flat = pa.array(np.concatenate([np.empty(0), *(part.ravel() for part in parts)]))
        ends = np.cumsum([0, *(width for part in parts for width in [part.shape[1]] * len(part))])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat)
    if isinstance(parts[0] if parts else [], list):
        return pa.array([v for part in parts for v in part], kind)
    return pa.array(np.concatenate(parts)).cast(kind)


def _stacked(parts: list[Any], lengths: list[int]) -> Any:
    """The kept columns of all answers; null where an answer has none."""
    if all(part is None for part in parts):
        return None
    held = [pa.table({"id": pa.nulls(n)}) if t is None else t for t, n in zip(parts, lengths, strict=True)]
    table = pa.concat_tables(held, promote_options="permissive")
    return table.select([name for name in table.column_names if name not in ("id", "group")])


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
        "constraint": None if question.constraint is None else question.constraint.text(),
        "factor": _factor(decision, question, interval),
        "alpha": None,
    }


def _factor(decision: Decision, question: Question, interval: Interval) -> float | None:
    """The proved approximation factor, with the slacks that were reached; None without one."""
    local, recovery = decision.local, decision.recovery
    if local is None or recovery.coverage < 1 or not recovery.covered.any():
        return None
    if local.kind == "local_centers":
        return local_centers.factor(recovery.delta)
    # No subspace costs less than the lower bound of the best one on what was sent.
    reached = interval.high / interval.low if interval.low > 0 else np.inf
    return min(pca.factor(recovery.delta, question.delta), reached)


def _centers(coreset: Coreset, model: Model, ids: list[str], scale: Scale | None) -> dict[str, list[Any]]:
    solved = model.centers
    columns: dict[str, list[Any]] = {name: [None] * len(solved) for name in _schema("centers").names}
    if not len(solved):
        return columns
    index, cost = model.clusters(coreset) if isinstance(model, ConstrainedModel) else model.costs(coreset)
    order = np.lexsort((np.arange(len(index)), cost, index))
    first = np.searchsorted(index[order], np.arange(len(solved)))
    sizes = np.bincount(index, minlength=len(solved))
    columns["index"] = list(range(len(solved)))
    columns["coordinates"] = list(solved if scale is None else scale.undo(solved))
    if model.bases is not None:
        bases = model.bases if scale is None else scale.undo_bases(model.bases)
        columns["basis"] = [basis.ravel() for basis in bases]
    columns["weight"] = np.bincount(index, coreset.weights, len(solved)).tolist()
    columns["cost"] = np.bincount(index, coreset.weights * cost, len(solved)).tolist()
    if isinstance(model, ConstrainedModel):  # points may be in several clusters
        columns["weight"], columns["cost"] = model.weights.tolist(), model.paid.tolist()
    # Centers that differ in float64 only may be one to float32 points; the second then has none.
    columns["representative_id"] = [ids[order[i]] if size else None for i, size in zip(first, sizes, strict=True)]
    return columns


def _coreset(decision: Decision, ids: list[str], scale: Scale | None) -> tuple[dict[str, Any], Any]:
    coreset, kept = decision.coreset, _kept(decision)
    points = coreset.points if scale is None else scale.undo(coreset.points)
    extras = coreset.extras
    labels = extras.column("group") if extras is not None and "group" in extras.column_names else None
    columns = {
        "id": ids,
        "coordinates": points.astype(np.float64),
        "weight": coreset.weights,
        "weight_ht": coreset.weights_ht,
        "bucket": decision.evidence.bucket[kept],
        "shard": decision.evidence.shard[kept],
        "group": [None] * len(ids) if labels is None else labels.cast(pa.string()).to_pylist(),
    }
    return columns, extras


def _no_candidates() -> dict[str, Any]:
    return {"index": [], "id": [], "coordinates": np.empty((0, 0)), "shard": [], "independent": []}


def _candidates(candidates: Candidates, names: Mapping[int, str], scale: Scale | None) -> dict[str, Any]:
    points = candidates.points
    ids = _printed_ids(candidates.drawn, names)
    return {
        "index": list(range(len(points))),
        "id": [*ids, *[None] * len(candidates.means)],
        "coordinates": points if scale is None else scale.undo(points),
        "shard": candidates.shard.tolist(),
        "independent": [candidates.independent] * len(points),
    }


def _kept(decision: Decision) -> Array:
    """The row of the evidence that each point of the coreset is; the first of several at one place."""
    evidence = decision.evidence
    kept = np.flatnonzero(decision.recovery.multiplier(evidence.shard, evidence.bucket) > 0)
    if decision.local is None:
        return kept
    sample = evidence.sample.keep(kept, evidence.sample.weights_ht[kept])
    return np.asarray(kept[sample.at_distinct_places()[1]])


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
