"""A coreset -> centers for another k, z or constraint, what they cost and how sure that is: in seconds, without the
data. A range of k gives the curve of the cost."""

import argparse
import csv
import dataclasses
import functools
import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from apache_beam.io.filesystems import FileSystems

from beam_coresets import values
from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.evidence import unpack_evidence
from beam_coresets.declared import declare, declared_as
from beam_coresets.parameters.plan import PlanParameters
from beam_coresets.pipelines.console import options, show
from beam_coresets.pipelines.console.constraint_options import CONSTRAINTS, ConstraintOptions, constraint_of
from beam_coresets.pipelines.console.options import ResultOptions
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.results_folder.ownership import owning, reading
from beam_coresets.pipelines.results_folder.scale_file import copy_scale
from beam_coresets.pipelines.results_folder.schema_file import write_schema
from beam_coresets.pipelines.results_folder.stored import (
    WindowOptions,
    common_scale,
    dated,
    newest,
    parts_of,
    require_apart,
)
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.running.waiting import Awaited
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.scale import Scale
from beam_coresets.results.answer_rows import group_columns
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary, summarize, summary_of_keys
from beam_coresets.results.weak_coreset import Candidates, unpack_candidates
from beam_coresets.sampling.importance import Sampler
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.solver import ConstrainedModel
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.choosing import Identity, Row
from beam_coresets.summaries.questions import outliers_of
from beam_coresets.table_schemas import in_seconds
from beam_coresets.times import iso
from beam_coresets.transforms.writing.atomic_files import write_once
from beam_coresets.transforms.writing.claims import Claims, order_of
from beam_coresets.transforms.writing.stored_tables import files_of

VIOLATION_ROUNDING = 1e-9  # violations that are none


def _range(text: str) -> tuple[int, ...]:
    """The numbers of "20", "2:40" or "2:40:2"; for argparse."""
    try:
        low, *rest = (int(part) for part in text.split(":"))
        numbers = range(low, (rest[0] if rest else low) + 1, rest[1] if len(rest) > 1 else 1)
        if len(rest) > 2 or low < 1 or not numbers:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be K, LOW:HIGH or LOW:HIGH:STEP from 1 on, got {text!r}") from None
    return tuple(numbers)


@dataclasses.dataclass(frozen=True)
class SolveOptions(ResultOptions, ConstraintOptions, WindowOptions):
    """The options of `solve`."""

    input: str = declare(None, "the --output folder of summarize, stream or rollup (or the coreset folder in it)")
    k: tuple[int, ...] | None = declare(
        None, "number of centers (default: the coreset's)", metavar="K | LOW:HIGH[:STEP]", read=_range
    )
    z: float | None = declared_as(PlanParameters, "z", None, help="power of the distance (default: the coreset's)")
    r: int | None = declared_as(
        PlanParameters, "r", None, help="k subspaces of this dimension in place of centers (default: the coreset's)"
    )
    affine: bool | None = declared_as(PlanParameters, "affine", None)
    outliers: float | None = declared_as(
        PlanParameters, "outliers", None,
        help="leave the worst out: so many rows (100), or a share (1%) (default: as much as the coreset's centers do)",
    )  # fmt: skip
    seed: int = declared_as(PlanParameters, "seed", 0)
    rounded: bool = declare(
        False, "with a constraint: every point of the coreset wholly in one cluster", group=CONSTRAINTS
    )


_EPILOG = (
    "Each window and key of the input is answered for itself. A range of k writes centers and summaries to "
    "OUTPUT/k=02, OUTPUT/k=03, ... and the curve to OUTPUT/curve.csv; one k writes the coreset, too."
)


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets solve --input OUT --output OTHER --k 30`; returns the exit code."""
    return options.run_alone(argv, "solve", SolveOptions, __doc__ or "", run, _EPILOG)


class SolvableWindow(NamedTuple):
    """One window and key of the input.

    Attributes:
      window: which it is.
      row: what its summary says.
      decision: its coreset, with what it takes to tell errors.
      candidates: where its centers may be, of a weak coreset.
    """

    window: Window
    row: Row
    decision: Decision
    candidates: Candidates | None


class Kept(NamedTuple):
    """How the clusters of a coreset keep to their constraint.

    Attributes:
      violation: the largest relative miss of a bound.
      points: of the coreset.
      split: points that are in several clusters.
      moved: the weight that rounding has moved to make them whole; None without rounding.
    """

    violation: float
    points: int
    split: int
    moved: float | None


class Solved(NamedTuple):
    """An answer, and how it keeps to its constraint, if there is one."""

    summary: Summary
    kept: Kept | None


def run(known: SolveOptions, console: Terminal) -> int:
    """Solves, writes and shows; returns the exit code.

    Raises:
      ValueError: something that can't work; an old result in --output is as it was.
    """
    options.require(known, "input", "output")
    began, folder = time.monotonic(), _folder(known.input)
    require_apart(known.output, folders=[folder])
    known, said = dated([folder], known)
    show.notes(said, console)
    constraint = constraint_of(known)
    for name in ("rounded", "exhaustive"):
        if getattr(known, name) and constraint is None:
            raise ValueError(f"{name}: must be left out without a constraint, got --{name}")
    if known.outliers and constraint is not None:
        raise ValueError(f"outliers: must be left out with a constraint, got {known.outliers:g}")
    with owning(known.output, known.overwrite, "solve") as place, reading([folder]):
        rows = _rows(folder, known)
        scale = common_scale([folder], next((row["columns"] for row in rows.values() if row["columns"]), None))
        numbers = known.k or (max(row["k"] for row in rows.values()),)
        _warn(known, list(rows.values()), numbers[-1], constraint, console)
        solved: list[list[Solved]] = []
        with Awaited(console.aside, "reading the coreset", len(rows) * len(numbers)) as waiting:
            for piece in _pieces(folder, rows, scale):
                before = len(solved) * len(numbers)
                each = _solved(known, piece, numbers, constraint, scale, functools.partial(_tell, waiting, before))
                solved.append(each)
        for i, k in enumerate(numbers):
            output = place.folder if len(numbers) == 1 else FileSystems.join(place.folder, f"k={k:02d}")
            copy_scale(folder, output)
            left_out = any(each.answers[0].outliers is not None for each in (answers[i].summary for answers in solved))
            claims = Claims(output, known.format, _tables(folder, numbers, left_out))
            _publish(claims, [answers[i].summary for answers in solved])
        row = solved[0][0].summary.answers[0].row
        write_schema(place.folder, known.format, row["columns"], row["metric"], job="solve")
        if len(numbers) > 1:
            _write_curve(place.folder, solved)
    elapsed = time.monotonic() - began
    console.answer("solve", output=known.output, seconds=elapsed, **_as_json(solved))
    _show(known, solved, elapsed, console)
    return 0


def _folder(path: str) -> str:
    """The output folder that is meant, also by the coreset folder in it."""
    path = path.rstrip("/")
    inside = re.fullmatch(r"(.+)/coreset", path)
    return inside[1] if inside and not files_of(path, "summaries") else path


def _rows(folder: str, known: SolveOptions) -> dict[Identity, Row]:
    """The summaries of the windows and keys that the options leave.

    Raises:
      ValueError: there are none, or they are not of coresets.
    """
    rows = newest([folder], known)
    wrong = sorted({row["summary"] for row in rows.values()} - {"coreset", None})
    if wrong:
        raise ValueError(f"input: must be coresets, got a summary of kind {wrong[0]} in {folder!r}")
    return rows


def _pieces(folder: str, rows: dict[Identity, Row], scale: Scale | None) -> Iterator[SolvableWindow]:
    places: dict[Identity, Candidates] = {}
    if files_of(folder, "candidates"):
        found = parts_of([folder], rows, "candidates")
        places = {identity: unpack_candidates(table, scale) for identity, table in found if len(table)}
    for identity, coreset in parts_of([folder], rows):
        row, window = rows[identity], Window(*identity[1:])
        yield SolvableWindow(window, row, unpack_evidence(row, coreset, scale), places.get(identity))


def _warn(known: SolveOptions, rows: list[Row], k: int, constraint: Constraint | None, console: Terminal) -> None:
    """Says so where the coreset was made for another question."""
    asked = {"z": known.z, "r": known.r, "k": k}
    for name, value in asked.items():
        made = max(row[name] or 0 for row in rows)
        if value is not None and (value > made if name == "k" else value != made):
            console.print(
                f"[yellow]warning:[/] the coreset was made for {name} = {made:g}; errors for {value:g} may be larger",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
    made = outliers_of(rows)
    if known.outliers and not made:
        console.print(
            "[yellow]warning:[/] the coreset was made without outliers; it may lack some, and errors may be larger",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    kept = sorted({row["constraint_text"] for row in rows if row["constraint_text"]})
    if kept and constraint is None:
        console.print(
            f"[yellow]warning:[/] the input was solved under {escape(kept[0])}; this answer is not",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _solved(
    known: SolveOptions, piece: SolvableWindow, numbers: Sequence[int], constraint: Constraint | None,
    scale: Scale | None, tell: Callable[[int, int], None],
) -> list[Solved]:  # fmt: skip
    """The answers of one window and key for each k, each started from the one before; `tell` hears of each k, and of
    how many there are answers.

    Raises:
      ValueError: more centers than distinct points, or a constraint that can't be met.
    """
    coreset, init = piece.decision.coreset, None
    out: list[Solved] = []
    if len(coreset) and numbers[-1] > 1:
        distinct = len(np.unique(coreset.points[coreset.weights > 0], axis=0))
        if numbers[-1] > distinct:
            place = f" in {piece.window.name}" if piece.window != Window() else ""
            raise ValueError(f"k: must be at most the coreset's {distinct} distinct points{place}, got {numbers[-1]}")
    for k in numbers:
        tell(k, len(out))
        question = _question(known, piece, k, constraint if len(coreset) else None)
        summary = summarize(piece.decision, question, piece.window, scale=scale, init=init, candidates=piece.candidates)
        init = summary.answers[0].model.centers
        out.append(_kept(summary, piece.decision.coreset, known.rounded))
    return out


def _tell(waiting: Awaited, before: int, k: int, done: int) -> None:
    waiting.tell("solving", f"k = {k}", completed=before + done)


def _kept(summary: Summary, coreset: Coreset, rounded: bool) -> Solved:
    """The answer with what there is to say of its constraint; `rounded` gives points wholly to one cluster each."""
    (answer,) = summary.answers
    model = answer.model
    if not isinstance(model, ConstrainedModel):
        return Solved(summary, None)
    if not rounded:
        return Solved(summary, Kept(model.violation(coreset), len(coreset), model.flow.split, None))
    whole, found = model.whole(coreset)
    centers = {**answer.centers, "weight": whole.weights.tolist(), "cost": whole.paid.tolist()}
    centers |= group_columns(coreset, whole)
    answer = dataclasses.replace(answer, model=whole, centers=centers)
    return Solved(Summary(summary.window, (answer,)), Kept(found.violation, len(coreset), found.split, found.moved))


def _question(known: SolveOptions, piece: SolvableWindow, k: int, constraint: Constraint | None) -> Question:
    """What the options ask for, and where they don't, what was asked of the window.

    Raises:
      ValueError: centers of a coreset that was drawn for subspaces.
    """
    row = piece.row
    z = row["z"] if known.z is None else known.z
    r = int(row["r"] or 0) if known.r is None else known.r
    if r == 0 and row["method"] == "subspace":
        raise ValueError("r: must be at least 1 for a coreset that was made for subspaces, got 0")
    affine = bool(row["affine"]) and r > 0 if known.affine is None else known.affine
    size, outliers = max(k, len(piece.decision.coreset)), _left_out(known, piece, r, constraint)
    sampler = Sampler(k, size, z, row["method"], known.seed, r=r, affine=affine, outliers=outliers)
    columns = row["columns"] and tuple(row["columns"])
    exhaustive = known.exhaustive and constraint is not None
    places = len(piece.candidates.points) if exhaustive and piece.candidates is not None else 0
    return Question(
        sampler, row["metric"], known.seed, r=r, affine=affine, constraint=constraint, columns=columns,
        candidates=places, exhaustive=exhaustive,
    )  # fmt: skip


def _left_out(known: SolveOptions, piece: SolvableWindow, r: int, constraint: Constraint | None) -> float:
    """What is to be left out; where the options don't say, as much as the input's centers leave out."""
    if known.outliers is not None:
        return known.outliers
    return 0.0 if r or constraint is not None else outliers_of([piece.row])


def _tables(folder: str, numbers: Sequence[int], outliers: bool) -> tuple[str, ...]:
    """Which tables are written: the coreset, too, for one k."""
    if len(numbers) > 1:
        return ("centers", "summaries")
    return order_of(bool(files_of(folder, "candidates")), outliers)


def _publish(claims: Claims, summaries: Sequence[Summary]) -> None:
    """Writes the answers, the keys of a window in one file."""
    spans: dict[tuple[Any, Any], list[Summary]] = {}
    for summary in summaries:
        spans.setdefault((summary.window.start, summary.window.end), []).append(summary)
    for (start, end), keys in spans.items():
        whole = keys[0].window if len(keys) == 1 else Window(start, end)
        claims.publish(summary_of_keys(whole, keys))


def _write_curve(output: str, solved: Sequence[Sequence[Solved]]) -> None:
    names = ("window_start", "window_end", "key", "k", "centers", "cost", "cost_low", "cost_high", "trust")
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(names)
    for answers in solved:
        for table in (answer.summary.summaries for answer in answers):
            row = [values.portable(table.column(name))[0] for name in names]
            lines.writerow("" if value is None else value for value in row)
    write_once(FileSystems.join(output, "curve.csv"), text.getvalue().encode())


def _as_json(solved: Sequence[Sequence[Solved]]) -> dict[str, Any]:
    """What --json prints: a row of `summaries` for each window, key and k, and how constraints are kept to."""
    every = [answer for answers in solved for answer in answers]
    kept = [answer.kept._asdict() for answer in every if answer.kept is not None]
    found = {"summaries": [row for answer in every for row in show.figures(answer.summary.summaries)]}
    return {**found, "constraint": kept} if kept else found


def _show(known: SolveOptions, solved: list[list[Solved]], seconds: float, console: Terminal) -> None:
    rows = [[in_seconds(answer.summary.summaries).to_pylist()[0] for answer in answers] for answers in solved]
    if len(rows[0]) > 1:
        show.curve(max(rows, key=lambda row: row[0]["total_weight"]), len(rows), console)
        written = f"\nIn {escape(known.output)}: curve.csv, and summaries and centers of each k"
        console.print(written, highlight=False, soft_wrap=True)
    elif len(rows) > 1:
        show.several([(_name(row[0]), row[0]) for row in rows], known.output, console)
    else:
        show.result(known.output, seconds, console)
    kept = [answer.kept for answers in solved for answer in answers if answer.kept is not None]
    if kept:
        console.print(_told(kept), highlight=False, soft_wrap=True)


def _told(kept: Sequence[Kept]) -> str:
    """How well the constraint is kept to, in the worst of several answers."""
    worst, split = max(each.violation for each in kept), sum(each.split for each in kept)
    points, moved = sum(each.points for each in kept), [each.moved for each in kept if each.moved is not None]
    violation = f"violation {worst:.3%}" if worst > VIOLATION_ROUNDING else "violation 0"
    if moved:
        return f"{violation} at most; rounded: {split:,} of {points:,} points made whole, weight {sum(moved):.6g} moved"
    return f"{violation}; {split:,} of {points:,} points are in several clusters (--rounded makes them whole)"


def _name(row: Row) -> str:
    start = "" if row["window_start"] is None else iso(row["window_start"])
    return " ".join(part for part in (start, row["key"]) if part)


if __name__ == "__main__":
    ending.run_and_leave(main)
