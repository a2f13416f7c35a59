"""The main job: files -> summaries, centers and a coreset, redundantly sharded, whichever shards answer."""
import contextlib
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import BeamIOError
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.pvalue import AsSingleton, PCollection

from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import most_of
from beam_coresets.pipelines import verify
from beam_coresets.pipelines.console import explain, options, show
from beam_coresets.pipelines.console.constraint_options import constraint_of
from beam_coresets.pipelines.console.options import SummarizeOptions
from beam_coresets.pipelines.console.reference_options import reference_of
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.results_folder.ownership import Run, owning
from beam_coresets.pipelines.results_folder.scale_file import write_scale
from beam_coresets.pipelines.results_folder.schema_file import write_schema
from beam_coresets.pipelines.results_folder.stored import require_apart
from beam_coresets.pipelines.running import ending, launch, local, runners
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.points.block import PointBlock
from beam_coresets.points.scale import Scale
from beam_coresets.results.distortion import Measured
from beam_coresets.sampling.theory_sizes import MOST_CORESET_BYTES
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.base.bad_rows import tolerate
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.parts import row_names
from beam_coresets.transforms.rows.scaling import StandardScale
from beam_coresets.transforms.streams.folder.files import FileParts
from beam_coresets.transforms.summarize import Summaries, Summarize
from beam_coresets.transforms.summarize_parts import OnTime, SummarizeParts, bytes_a_part
from beam_coresets.transforms.writing.claims import Claims, order_of
from beam_coresets.transforms.writing.dead_letters import WriteDeadLetters, WriteLettersEarly, take_letters
from beam_coresets.transforms.writing.sinks import WriteSummaries
from beam_coresets.transforms.writing.stored_tables import read_table

SPREAD_WARNING = 100
LEAST_IDS = 100  # rows that differ, before their column looks like ids


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets summarize`; returns the exit code."""
    return options.run_job(argv, "summarize", SummarizeOptions, __doc__ or "", run)


def run(known: SummarizeOptions, beam_options: PipelineOptions, console: Terminal) -> int:
    """Checks, then runs or explains the job; returns the exit code.

    Raises:
      ValueError: something that can't work.
      JobError: the job failed; an old result in --output is as it was.
    """
    options.require(known, "input", *(() if known.explain else ("output",)))
    options.require_k(known)
    streaming = bool(beam_options.view_as(StandardOptions).streaming)
    options.check_shard_readers(known, streaming)
    if streaming and known.min_shards is None:
        known = dataclasses.replace(known, min_shards=most_of(known.shards))
    plan, columns = options.plan_of(known, constraint_of(known)), options.columns_of(known)
    source = ReadBlocks(known.input, columns, known.input_format)
    show.notes(source.notes, console)
    source.require_rows()
    plan = plan.named(source.layout.names)
    if plan.r >= source.dim:
        raise ValueError(f"r: must be below d = {source.dim}, got {plan.r}")
    reference = reference_of(known, plan.question, source.dim)
    coordinators = ONE if known.explain else _prepared(known, beam_options, streaming, console)
    parts: FileParts | None = None
    if known.shard_readers:
        size = bytes_a_part(sum(file.size_in_bytes for file in source.files), plan.shards)
        parts = FileParts(known.input, columns, known.input_format, size)
        if streaming:
            plan = options.apart(plan, runners.domains_of(beam_options, plan.shards))

    def built(known: SummarizeOptions, alone: Run | None = None) -> beam.Pipeline:
        if parts is None:
            return build(known, beam_options, plan, source, alone, reference)
        return build_of_parts(known, beam_options, plan, parts, coordinators if streaming else None, alone, reference)

    if known.explain:
        console.answer("summarize", explained=explain.show(built(known), plan, parts or source, console))
        return 0
    require_apart(known.output, known.input)
    if plan.theory is not None:
        console.print(_asked(plan, source.dim), highlight=False, soft_wrap=True)
    if not local.is_local(beam_options):
        runners.require_runner(beam_options, known.shards)
    with owning(known.output, known.overwrite, "summarize", known.detach) as run:
        here = dataclasses.replace(known, output=run.folder)
        asked = {name: getattr(known, name) or None for name in ("group_column", "weight_column")}
        write_schema(run.folder, known.format, plan.columns, known.metric, job="summarize", scale=known.scale, **asked)
        pipeline = built(here, run if known.detach else None)
        warn_of_columns(source, known.scale != "none", console)
        if known.detach:
            submitted = launch.submit(pipeline, runners.cluster_of(beam_options))
            console.print(submitted, highlight=False, soft_wrap=True)
            console.answer("summarize", output=known.output, submitted=submitted)
            return 0
        seconds = (run_until_decided if streaming else _run)(pipeline, here, console)
    show.result(known.output, seconds, console, scaled=not known.shard_readers)
    epsilon = None if plan.theory is None else _verify(plan, source, known, beam_options, console)
    asked = {} if plan.theory is None else {"epsilon": {"asked": plan.epsilon, "measured": epsilon}}
    console.answer("summarize", seconds=seconds, **show.stored(known.output), **asked)
    return 0


def _run(pipeline: beam.Pipeline, known: SummarizeOptions, console: Terminal) -> float:
    return launch.run(pipeline, known.shards, console.aside)


def _verify(
    plan: Plan, source: ReadBlocks, known: SummarizeOptions, beam_options: PipelineOptions, console: Terminal
) -> float | None:
    """Measures the epsilon that was asked for; None without centers."""
    if not any(row["centers"] for row in read_table(known.output, "summaries").to_pylist()):
        return None
    summary, measured = verify.verify(known, known.output, beam_options, console)
    console.print(_reached(plan, summary, measured, source.dim), highlight=False, soft_wrap=True)
    return max(m.distortion for m in measured) - 1


def _prepared(
    known: SummarizeOptions, beam_options: PipelineOptions, streaming: bool, console: Terminal
) -> Coordinators:
    """Sets what the runner needs, and says so; who decides, if the job streams."""
    if not streaming:
        lines, found = runners.prepare_batch(beam_options, known.shards), ONE
    else:
        lines = runners.prepare_streaming(beam_options, known.shards, resumable=False)
        replicas, more = runners.coordinators_of(beam_options, known.shards, None)
        parallelism, most = runners.parallelism_of(beam_options, known.shards)
        found, lines = Coordinators(replicas, parallelism=parallelism, max_parallelism=most), lines + more
    show.settings(lines, known.verbose, console)
    return found


def run_until_decided(pipeline: beam.Pipeline, known: SummarizeOptions, console: Terminal) -> float:
    """Runs a streaming job until its answer is claimed, then ends it; the seconds until then.

    Raises:
      JobError: the job failed, or more rows were refused than may be.
    """
    claims = Claims(known.output, known.format)

    def decided() -> bool:
        with contextlib.suppress(OSError, BeamIOError):  # of looking at the folder: the job goes on
            return claims.decided(Window())
        return False

    seconds = launch.run(pipeline, known.shards, console.aside, decided)
    claims.finish_all()
    try:
        tolerate(take_letters(known.output, known.format), known.max_bad_rows)
    except ValueError as error:
        raise launch.JobError(str(error)) from None
    return seconds


def _asked(plan: Plan, dim: int) -> str:
    """What --epsilon comes to before anything is known of the data."""
    assert plan.theory is not None
    size = plan.sampler.size_in(dim, 4)
    limit = ""
    if size < plan.theory.points:
        limit = f"; at most {size:,} of {dim} coordinates ({MOST_CORESET_BYTES >> 20} MB) are kept"
    return (
        f"epsilon {plan.epsilon:g}: theory asks for {plan.theory.points:,} points a shard ({plan.theory.source}, its "
        f"constant taken as 1){limit}; where there are no more rows than that, all are kept"
    )


def _reached(plan: Plan, summary: dict[str, Any], measured: Sequence[Measured], dim: int) -> str:
    """The measured epsilon beside the one that was asked for."""
    assert plan.theory is not None
    error = max(m.distortion for m in measured) - 1
    if summary["cost_basis"] == "exact":
        size = "capped at n: the coreset holds every row"
    elif (most := plan.sampler.size_in(dim, 4)) < plan.theory.points:
        size = f"[yellow]not the size that theory asks for, but {most:,} points a shard[/]"
    else:
        size = f"{plan.theory.points:,} points a shard"
    return f"epsilon: asked for {plan.epsilon:g}, measured {error:.2g} over {len(measured)} center sets   ({size})"


def build(
    known: SummarizeOptions, beam_options: PipelineOptions, plan: Plan, source: ReadBlocks, alone: Run | None = None,
    reference: FixedReference | None = None,
) -> beam.Pipeline:  # fmt: skip
    """The job's graph; the run is given where it ends alone, as nobody waits for it."""
    pipeline = beam.Pipeline(options=beam_options)
    scale, written = None, []
    if known.scale == "standard":
        first_pass = ReadBlocks(known.input, options.columns_of(known), known.input_format)
        moments = (
            (pipeline | "ReadForScale" >> first_pass)["blocks"]
            | "Moments" >> beam.CombineGlobally(StandardScale()).with_output_types(Scale)
        )
        written = [moments | "WriteScale" >> beam.Map(write_scale, known.output or "", source.layout.coordinates)]
        scale = AsSingleton(moments)
    read = pipeline | "Read" >> source
    result = read["blocks"] | "Summarize" >> Summarize(
        plan, names=row_names(source.files), scale=scale, dead_letters=read["dead_letters"], rows=(),
        dim=source.dim, reference=reference,
    )  # fmt: skip
    end_alone([*written, *write(result, known)], alone)
    return pipeline


def build_of_parts(
    known: SummarizeOptions,
    beam_options: PipelineOptions,
    plan: Plan,
    parts: FileParts,
    coordinators: Coordinators | None = None,
    alone: Run | None = None,
    reference: FixedReference | None = None,
) -> beam.Pipeline:
    """The graph of the job with --shard-readers; `coordinators` decide where it streams."""
    pipeline = beam.Pipeline(options=beam_options)
    if coordinators is None:
        result = pipeline | "Summarize" >> SummarizeParts(parts, plan, known.deadline, rows=(), reference=reference)
        end_alone(write(result, known), alone)
        return pipeline
    claims = Claims(known.output or "", known.format)
    on_time = OnTime(claims, time.time(), known.deadline, plan.min_shards, coordinators)
    result = pipeline | "Summarize" >> SummarizeParts(parts, plan, rows=(), on_time=on_time, reference=reference)
    _ = result.decided | "Write" >> write_tables(known)
    _ = result.dead_letters | "WriteDeadLetters" >> WriteLettersEarly(known.output or "")
    return pipeline


def write(result: Summaries, known: SummarizeOptions) -> list[PCollection]:
    """Adds the sinks; what they say when they have written."""
    tables = result.decided | "Write" >> write_tables(known)
    letters = result.dead_letters | "WriteDeadLetters" >> WriteDeadLetters(known.output or "", known.format)
    return [tables.paths, letters]


def end_alone(written: list[PCollection], run: Run | None) -> None:
    """Lets a run that nobody waits for put its result into place, once all is written."""
    if run is not None:
        commit = beam.Map(lambda _: run.commit())
        _ = written | beam.Flatten() | "All written" >> beam.combiners.Count.Globally() | "Commit" >> commit


def write_tables(known: SummarizeOptions) -> WriteSummaries:
    """The sink of the tables that are wanted."""
    return WriteSummaries(known.output or "", known.format, order_of(known.weak, bool(known.outliers)))


def warn_of_columns(source: ReadBlocks, scaled: bool, console: Terminal) -> None:
    """Says so if a column looks like ids, or one will dominate the distances, judging by the first block."""
    with contextlib.suppress(ValueError):  # a file that can't be read: the job itself will say so
        block = next((b for b in source.uncut() if isinstance(b, PointBlock)), None)
        if block is None or len(block) < 2 or source.layout.options.vector_column:
            return
        points, names = np.asarray(block.points, np.float64), [*source.layout.coordinates]
        ids = [] if source.layout.options.columns else _like_ids(points)
        for i in ids:
            name = escape(repr(names[i]))
            console.print(
                f"[yellow]warning:[/] column {name} has another whole number in each row, as ids have, and counts as a "
                f"coordinate; --id-column makes it the rows' name, --columns names the coordinates",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        others = [i for i in range(len(names)) if i not in ids]
        if not scaled and others:
            _warn_of_spreads(points[:, others], [names[i] for i in others], console)


def _like_ids(points: np.ndarray[Any, Any]) -> list[int]:
    """The columns of whole numbers that differ in all rows, if other columns don't."""
    if len(points) < LEAST_IDS:
        return []
    whole = (points == np.rint(points)).all(axis=0)
    found = [i for i in np.flatnonzero(whole).tolist() if len(np.unique(points[:, i])) == len(points)]
    return found if len(found) < points.shape[1] else []


def _warn_of_spreads(points: np.ndarray[Any, Any], names: list[str], console: Terminal) -> None:
    spread = points.std(axis=0)
    wide, narrow = int(spread.argmax()), int(np.where(spread > 0, spread, np.inf).argmin())
    if spread[wide] > SPREAD_WARNING * spread[narrow] > 0:
        far, near = (escape(repr(names[i])) for i in (wide, narrow))
        console.print(
            f"[yellow]warning:[/] column {far} spreads {spread[wide] / spread[narrow]:,.0f} times as far as "
            f"{near} and will decide the clusters; --scale standard brings them to one scale",
            highlight=False,
        )


if __name__ == "__main__":
    ending.run_and_leave(main)
