"""The coresets of many windows or keys -> one for the whole period, with centers and certificate, from their tables."""
import contextlib
import dataclasses
import time
from collections.abc import Sequence

from beam_coresets.coordinator.evidence import unpack_evidence
from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.declared import declare, declared_as
from beam_coresets.parameters.plan import PlanParameters
from beam_coresets.pipelines.console import options, show
from beam_coresets.pipelines.console.constraint_options import ConstraintOptions, constraint_of
from beam_coresets.pipelines.console.options import ResultOptions
from beam_coresets.pipelines.console.reference_options import ReferenceOptions, check_reference, window_meant
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
from beam_coresets.pipelines.running.waiting import Awaited
from beam_coresets.points.column_order import listed
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary, summarize, summary_of_keys
from beam_coresets.results.weak_coreset import Candidates, merge_candidates, unpack_candidates
from beam_coresets.summaries.choosing import Identity, Row, period_of, tiled
from beam_coresets.summaries.columns import by_name
from beam_coresets.summaries.places import NoSummariesError
from beam_coresets.summaries.questions import question_of_period, with_outliers_of
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference
from beam_coresets.transforms.writing.claims import Claims, order_of
from beam_coresets.transforms.writing.stored_tables import files_of


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets rollup --input OUT --output PERIOD`; returns the exit code."""
    return options.run_alone(argv, "rollup", RollupOptions, __doc__ or "", run)


@dataclasses.dataclass(frozen=True)
class RollupOptions(ResultOptions, ConstraintOptions, WindowOptions, ReferenceOptions):
    """The options of `rollup`."""

    input: tuple[str, ...] = declare(None, "folders with summaries and coreset tables, of any format", several=True)
    across_keys: bool = declare(False, "one result over all keys (default: one a key)")
    k: int | None = declared_as(
        PlanParameters, "k", None, help="number of centers (default: as many as the windows have)"
    )
    z: float | None = declared_as(PlanParameters, "z", None, help="power of the distance (default: the windows')")
    coreset_size: int | None = declared_as(PlanParameters, "coreset_size", None)
    method: str | None = declared_as(PlanParameters, "method", None, help="default: the windows'")
    outliers: float | None = declared_as(
        PlanParameters, "outliers", None,
        help="leave the worst out: so many rows (100), or a share (1%) (default: as much as the windows' centers do)",
    )  # fmt: skip
    seed: int = declared_as(PlanParameters, "seed", 0)


def run(known: RollupOptions, console: Terminal) -> int:
    """Merges, writes and shows; returns the exit code.

    Raises:
      ValueError: something that can't work; an old result in --output is as it was.
    """
    options.require(known, "input", "output")
    require_apart(known.output, folders=known.input)
    known, said = dated(known.input, known)
    show.notes(said, console)
    began = time.monotonic()
    with owning(known.output, known.overwrite, "rollup") as place, reading(known.input):
        with Awaited(console.aside, "merging the windows' coresets, and solving"):
            summary = rolled_up(known)
        outliers = any(answer.outliers is not None for answer in summary.answers)
        claims = Claims(place.folder, known.format, order_of(_weak(known.input), outliers))
        copy_scale(known.input[0], place.folder)
        row = summary.answers[0].row
        write_schema(place.folder, known.format, row["columns"], row["metric"], job="rollup")
        claims.publish(summary)
    elapsed = time.monotonic() - began
    console.answer("rollup", seconds=elapsed, **show.stored(known.output))
    _show(summary, known.output, elapsed, console)
    return 0


def rolled_up(known: RollupOptions) -> Summary:
    """The answer for the period, of each key or of all together.

    Raises:
      ValueError: nothing in the period, windows that overlap, or that can't be merged.
    """
    check_reference(known)
    rows = chosen(known)
    asked = vars(known) | {"constraint": constraint_of(known)}
    question = question_of_period(list(rows.values()), asked)
    scale = common_scale(known.input, question.columns)
    questions = _questions(known, question, rows)
    rollups: dict[str, Rollup] = {}
    places: dict[str, list[Candidates]] = {}
    for identity, coreset in parts_of(known.input, rows):
        key = "" if known.across_keys else identity.key
        coreset = by_name(coreset, rows[identity]["columns"], question.columns, "the first window")
        decision = unpack_evidence(rows[identity], coreset, scale)
        rollups.setdefault(key, Rollup(questions[key].sampler, question.seed)).add(decision)
    for identity, table in parts_of(known.input, rows, "candidates") if _weak(known.input) else ():
        key = "" if known.across_keys else identity.key
        table = by_name(table, rows[identity]["columns"], question.columns, "the first window")
        places.setdefault(key, []).append(unpack_candidates(table, scale))
    summaries = []
    references = _references(known, sorted(rollups), question)
    for key in sorted(rollups):
        window = period_of([identity for identity in rows if known.across_keys or identity.key == key], key)
        decision, candidates = rollups[key].result(), None
        if key in places:
            count = max(question.sampler.k, *map(len, places[key]))
            candidates = merge_candidates(places[key], decision.coreset, count, question.sampler.z, question.seed)
        summary = summarize(decision, questions[key], window, scale=scale, candidates=candidates)
        if key in references:
            summary = references[key].compared(decision, summary, questions[key], scale)
        summaries.append(summary)
    whole = period_of(list(rows), summaries[0].window.key if len(summaries) == 1 else "")
    return summary_of_keys(whole, summaries)


def _references(known: RollupOptions, keys: Sequence[str], question: Question) -> dict[str, FixedReference]:
    """What each key is compared with; keys that the reference lacks are compared with nothing.

    Raises:
      ValueError: what can't be a reference, or one that has none of the keys.
    """
    found: dict[str, FixedReference] = {}
    for key in keys if known.reference is not None else ():
        with contextlib.suppress(*([NoSummariesError] if len(keys) > 1 else [])):
            reference = FixedReference.of(window_meant(known, key or None), question)
            assert reference is not None
            found[key] = reference
    if known.reference is not None and not found:
        raise ValueError(f"reference: must have some of the keys {listed(keys)}, got {known.reference!r} without")
    return found


def _weak(folders: Sequence[str]) -> bool:
    """Whether all inputs have candidates for centers, which are then merged."""
    return all(files_of(folder, "candidates") for folder in folders)


def _questions(known: RollupOptions, question: Question, rows: dict[Identity, Row]) -> dict[str, Question]:
    """The question of each key."""
    mine: dict[str, list[Row]] = {}
    for identity, row in rows.items():
        mine.setdefault("" if known.across_keys else identity.key, []).append(row)
    return {key: with_outliers_of(question, own, known.outliers) for key, own in mine.items()}


def chosen(known: RollupOptions) -> dict[Identity, Row]:
    """The rows of `summaries` that make up the period: of each window the newest revision that has points, if any.

    Raises:
      ValueError: there are none, they overlap without tiling, or two inputs have the same time (`choosing.tiled`).
    """
    rows = newest(known.input, known)
    return {identity: rows[identity] for identity in tiled(rows)}


def _show(summary: Summary, output: str, elapsed: float, console: Terminal) -> None:
    """One key as `summarize` shows it; several in a line each, the heaviest first."""
    rows = summary.summaries.to_pylist()
    if len(rows) == 1:
        show.result(output, elapsed, console)
        return
    show.several([(row["key"], row) for row in rows], output, console)


if __name__ == "__main__":
    ending.run_and_leave(main)
