"""The summary of one window: centers solved on the decided coreset, what they cost, and the tables that say so."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import table_schemas
from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.evidence import pack_evidence, table_rows
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.scale import Scale
from beam_coresets.results import weak_coreset
from beam_coresets.results.answer_rows import (
    candidates_table,
    centers_table,
    column_of,
    concatenate_kept,
    coreset_table,
    no_candidates,
    no_outliers,
    outliers_table,
    printed_ids,
    schema_of,
    summary_row,
)
from beam_coresets.results.certificate import in_range, model_interval, nothing_known
from beam_coresets.results.marginals import marginals
from beam_coresets.results.question import Question
from beam_coresets.results.sampled import Sampled, row_weight
from beam_coresets.results.weak_coreset import Candidates
from beam_coresets.shards import pca
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.constrained.solver import solve_constrained
from beam_coresets.solvers.model import Centers, Model
from beam_coresets.solvers.subspaces import solve_subspaces
from beam_coresets.solvers.trimmed import TrimmedCenters
from beam_coresets.streaming.events import Event
from beam_coresets.streaming.windows import Window

Array = npt.NDArray[Any]

QUICK_RESTARTS, QUICK_SWAPS = 2, 1  # the latter as a multiple of k; within 3 % of the full search on 120 small problems


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What is known about one key of one window, not made into tables yet.

    Attributes:
      window: whose answer it is.
      row: the summary's columns by name, without the window's.
      model: what was solved, in the coordinates it was solved in; of no centers where nothing was.
      centers: column -> k' values and those of ended centers, without the window's.
      coreset: column -> (m,) or (m, d) values, without the window's.
      extras: pyarrow Table of m rows (the kept columns) or None.
      candidates, outliers: column -> values, without the window's; None where none were asked for.
      columns: column -> values, one a coordinate, without the window's.
    """

    window: Window
    row: Mapping[str, Any]
    model: Model
    centers: Mapping[str, list[Any]]
    coreset: Mapping[str, Any]
    extras: Any = None
    candidates: Mapping[str, Any] | None = None
    outliers: Mapping[str, Any] | None = None
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """A window's answer, for one key or for many, as Arrow tables (`beam_coresets.table_schemas`) made on first use.

    Attributes:
      window: what its files are named after.
      answers: one a key; none for a group of keys of which nobody has rows, whose tables are empty.
      replica: which of the window's coordinators decided.
      told: (key, event) of what there is to tell; the empty key for the window as a whole.
    """

    window: Window
    answers: tuple[Answer, ...]
    replica: int = 0
    told: tuple[tuple[str, Event], ...] = ()

    @functools.cached_property
    def summaries(self) -> pa.Table:
        """The table `summaries`: one row a key."""
        rows = [dict(answer.row) for answer in self.answers]
        columns = {f.name: _column([row.get(f.name) for row in rows], f.type) for f in schema_of("summaries")}
        table = pa.table(columns)
        return self._with_identity(table, [1] * len(self.answers))

    @functools.cached_property
    def centers(self) -> pa.Table:
        """The table `centers`: one row a center, and one for each that has ended."""
        columns = {
            f.name: _column([v for answer in self.answers for v in answer.centers[f.name]], f.type)
            for f in schema_of("centers")
        }
        return self._with_identity(pa.table(columns), [len(answer.centers["index"]) for answer in self.answers])

    @functools.cached_property
    def coreset(self) -> pa.Table:
        """The table `coreset`: one row a sampled point, with the kept columns."""
        lengths = [len(answer.coreset["id"]) for answer in self.answers]
        columns = {f.name: column_of([a.coreset[f.name] for a in self.answers], f.type) for f in schema_of("coreset")}
        table = self._with_identity(pa.table(columns), lengths)
        extras = concatenate_kept([answer.extras for answer in self.answers], lengths)
        for name in [] if extras is None else extras.column_names:
            table = table.append_column(name, extras.column(name))
        return table

    @functools.cached_property
    def columns(self) -> pa.Table:
        """The table `columns`: one row a coordinate."""
        return marginals_table([answer.window for answer in self.answers], [answer.columns for answer in self.answers])

    @functools.cached_property
    def candidates(self) -> pa.Table:
        """The table `candidates`: one row a candidate; empty where none were asked for."""
        held = [(answer.candidates or no_candidates()) for answer in self.answers]
        columns = {f.name: column_of([each[f.name] for each in held], f.type) for f in schema_of("candidates")}
        return self._with_identity(pa.table(columns), [len(each["id"]) for each in held])

    @functools.cached_property
    def outliers(self) -> pa.Table:
        """The table `outliers`: one row a point that is left out; empty where nothing is to be."""
        held = [(answer.outliers or no_outliers()) for answer in self.answers]
        columns = {f.name: column_of([each[f.name] for each in held], f.type) for f in schema_of("outliers")}
        return self._with_identity(pa.table(columns), [len(each["id"]) for each in held])

    @functools.cached_property
    def events(self) -> pa.Table:
        """The table `events`: one row a thing that there is to tell, often none."""
        window = self.window
        held = {"window_start": window.start, "window_end": window.end, "revision": window.revision}
        rows = [{**held, "key": key, **vars(event), "severity": event.severity} for key, event in self.told]
        return pa.table({f.name: _column([row[f.name] for row in rows], f.type) for f in table_schemas.EVENTS})

    def table(self, name: str) -> pa.Table:
        """One of `table_schemas.ALL_TABLES`."""
        table: pa.Table = getattr(self, name)
        return table

    def _with_identity(self, table: pa.Table, lengths: list[int]) -> pa.Table:
        return _with_windows(table, [answer.window for answer in self.answers], lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        return Summary, (self.window, self.answers, self.replica, self.told)  # without the tables


def marginals_table(windows: Sequence[Window], held: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table `columns` of several windows or keys, from what `marginals` says of each."""
    lengths = [len(each.get("index", ())) for each in held]
    columns = {
        f.name: _column([v for each in held for v in each.get(f.name, ())], f.type) for f in schema_of("columns")
    }
    return _with_windows(pa.table(columns), windows, lengths)


def _with_windows(table: pa.Table, windows: Sequence[Window], lengths: Sequence[int]) -> pa.Table:
    """With the columns that say which window and key its rows are of, so many of each."""
    for i, field in enumerate(list(table_schemas.SUMMARIES)[:4]):
        name = field.name.removeprefix("window_")
        each = _column([getattr(window, name) for window in windows], field.type)
        table = table.add_column(i, field, each.take(pa.array(np.repeat(np.arange(len(windows)), lengths))))
    return table


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A table's column; seconds become timestamps, and a number that is none is not known."""
    if kind == table_schemas.INSTANT:
        return table_schemas.instants(values)
    return pa.array(values, kind, from_pandas=bool(pa.types.is_floating(kind)))


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

    Raises:
      ValueError: weights that add up to more than a number can be; a constraint that the points can't meet.
    """
    if question.candidates and candidates is None:
        decision, candidates = weak_coreset.divided(
            decision, question.candidates, question.sampler.z, question.seed, question.metric
        )
    if not np.isfinite(decision.total_weight):
        raise ValueError(f"weight_column: must add up to less than 1.8e308, got {decision.total_weight}")
    coreset = decision.coreset
    ids = printed_ids(coreset, names or {})
    interval, sampled = nothing_known(), Sampled(decision)
    model: Model = Centers(np.empty((0, coreset.dim)), question.sampler.z, question.metric)
    if question.solve and len(coreset) and coreset.weights.any():
        at = None if candidates is None else candidates.points
        model = solved_model(coreset, question, init, at, row_weight(decision))
        with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range is said so
            interval = in_range(model_interval(decision, model, question.quick, sampled))
    row = summary_row(decision, question, interval, len(model.centers))
    rows = table_rows(decision)
    row |= {
        "coreset_points": len(rows.first),
        "reason": reason,
        "decided_at": decided_at,
        "evidence": None if decision.local else pack_evidence(decision, rows),
        "refused": None if decision.refused is None or window.key else decision.refused.count,
    }
    if model.factor is not None:
        row["factor"] = model.factor
    with np.errstate(over="ignore", invalid="ignore"):
        centers = centers_table(coreset, model, ids, scale)
    if question.kind == "pca":  # there are no rows to name
        centers["representative_id"] = [None] * len(model.centers)
    points, extras = coreset_table(decision, rows, ids, scale)
    with np.errstate(over="ignore", invalid="ignore"):
        columns = marginals(sampled, question.columns, scale, question.quick)
    if decision.refused is not None and not window.key and None not in columns["column_name"]:
        columns["refused_count"] = decision.refused.by_column(columns["column_name"])
    places = gone = None
    if question.sampler.outliers:
        gone = outliers_table(coreset, model, ids, scale) if isinstance(model, TrimmedCenters) else no_outliers()
        row |= {"outliers": float(gone["weight"].sum()), "threshold": getattr(model, "threshold", None)}
    if candidates is not None:
        places = candidates_table(candidates, names or {}, scale)
        row["alpha"] = model.alpha
        if question.constraint is None and model.bases is None and gone is None:
            z, metric = question.sampler.z, question.metric
            row["alpha"] = weak_coreset.alpha(coreset, candidates.points, model.centers, z, metric)
    return Summary(window, (Answer(window, row, model, centers, points, extras, places, gone, columns),))


def solved_model(
    coreset: Coreset, question: Question, init: Array | None = None, places: Array | None = None, row: float = 0.0
) -> Model:
    """What the question asks for, solved on the coreset's calibrated weights.

    Args:
      places: (c, d) candidates for the centers of constrained clusters.
      row: the average weight of an input row.
    """
    sampler, metric = question.sampler, question.metric
    if question.constraint is not None:
        return solve_constrained(
            coreset, sampler.k, question.constraint, sampler.z, metric, question.seed, places,
            init=init, quick=question.quick, exhaustive=question.exhaustive or None,
        )  # fmt: skip
    if question.kind == "pca":
        return pca.principal_subspace(coreset.points, coreset.weights, question.r, question.affine)
    if question.r:
        return solve_subspaces(
            coreset.points, coreset.weights, sampler.k, question.r,
            affine=question.affine, seed=question.seed, restarts=1 if question.quick else None,
        )  # fmt: skip
    restarts, swaps = (QUICK_RESTARTS, QUICK_SWAPS * sampler.k) if question.quick else (None, None)
    if sampler.outliers:
        return TrimmedCenters.solve(
            coreset, sampler.k, sampler.outliers, sampler.z, metric, row,
            seed=question.seed, init=init, restarts=restarts, swaps=swaps,
        )  # fmt: skip
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
        if len(given) != len(answer.model.centers):
            raise ValueError(f"{name}: must be one for each of {len(answer.model.centers)} centers, got {len(given)}")
    k, n = len(ids), len(ended)
    columns = {name: [*values[:k], *[None] * n] for name, values in answer.centers.items()}
    columns["weight"][k:] = columns["cost"][k:] = [0.0] * n
    columns["center_id"] = [*ids, *(name for name, _, _ in ended)]
    columns["born"] = [*born, *(since for _, since, _ in ended)]
    columns["split_from"][:k] = split_from
    columns["merged_into"][k:] = [into for _, _, into in ended]
    return Summary(summary.window, (dataclasses.replace(answer, centers=columns),))


def summary_of_keys(
    window: Window, summaries: Sequence[Summary], replica: int = 0, told: Sequence[tuple[str, Event]] = ()
) -> Summary:
    """Many keys of one window under one name; each row keeps its own window, key and revision."""
    return Summary(window, tuple(answer for summary in summaries for answer in summary.answers), replica, tuple(told))
