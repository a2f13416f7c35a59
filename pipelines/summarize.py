"""The main job: files -> summaries, centers and a coreset, redundantly sharded, whichever shards answer."""
import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton
from rich.console import Console
from rich.markup import escape

from beam_coresets import tables
from beam_coresets.pipelines import explain, launch, options, show
from beam_coresets.points import PointBlock
from beam_coresets.scale import Scale
from beam_coresets.transforms.atomic_files import write_once
from beam_coresets.transforms.claims import FOLDERS
from beam_coresets.transforms.reading.columns import Layout
from beam_coresets.transforms.scaling import StandardScale
from beam_coresets.transforms.sinks import WriteDeadLetters, WriteSummaries, files_of
from beam_coresets.transforms.sources import ReadBlocks, row_names
from beam_coresets.transforms.streams.files import FileParts
from beam_coresets.transforms.summarize import Plan, Summaries, Summarize
from beam_coresets.transforms.summarize_parts import SummarizeParts, bytes_a_part

SPREAD_WARNING = 100


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets summarize`; returns the exit code."""
    known, beam_options = options.parse(argv, "summarize", __doc__ or "", (options.add_shard_reader_options,))
    launch.quiet(known.verbose)
    return launch.exit_code(lambda: run(known, beam_options, Console()))


def run(known: argparse.Namespace, beam_options: PipelineOptions, console: Console) -> int:
    """Checks, then runs or explains the job; returns the exit code.

    Raises:
      ValueError: something that can't work.
      JobError: the job failed; an old result in --output is as it was.
    """
    options.require(known, "input", "k", *(() if known.explain else ("output",)))
    plan, columns = options.plan_of(known), options.columns_of(known)
    options.check_shard_readers(known)
    source = ReadBlocks(known.input, columns, known.input_format)
    if known.shard_readers:
        size = bytes_a_part(sum(file.size_in_bytes for file in source.files), plan.shards)
        parts = FileParts(known.input, columns, known.input_format, size)
        pipeline = build_of_parts(known, beam_options, plan, parts)
    else:
        pipeline = build(known, beam_options, plan, source)
    if known.explain:
        explain.show(pipeline, plan, parts if known.shard_readers else source, console)
        return 0
    aside = set_aside(known.output, known.overwrite)
    try:
        if known.scale == "none":
            warn_of_spreads(source, console)
        seconds = launch.run(pipeline, plan.shards, console)
    except BaseException:  # an interrupt, too
        put_back(known.output, aside)
        raise
    if aside:
        FileSystems.delete(list(aside.values()))
    show.result(known.output, seconds, console, scaled=not known.shard_readers)
    return 0


def build(known: argparse.Namespace, beam_options: PipelineOptions, plan: Plan, source: ReadBlocks) -> beam.Pipeline:
    """The job's graph."""
    pipeline = beam.Pipeline(options=beam_options)
    scale = None
    if known.scale == "standard":
        first_pass = ReadBlocks(known.input, options.columns_of(known), known.input_format)
        moments = (
            (pipeline | "ReadForScale" >> first_pass)["blocks"]
            | "Moments" >> beam.CombineGlobally(StandardScale()).with_output_types(Scale)
        )
        _ = moments | "WriteScale" >> beam.Map(write_scale, known.output or "", source.layout.coordinates)
        scale = AsSingleton(moments)
    read = pipeline | "Read" >> source
    result = read["blocks"] | "Summarize" >> Summarize(
        plan, names=row_names(source.files), scale=scale, dead_letters=read["dead_letters"], rows=()
    )
    write(result, known)
    return pipeline


def build_of_parts(
    known: argparse.Namespace, beam_options: PipelineOptions, plan: Plan, parts: FileParts
) -> beam.Pipeline:
    """The graph of the job with --shard_readers."""
    pipeline = beam.Pipeline(options=beam_options)
    write(pipeline | "Summarize" >> SummarizeParts(parts, plan, known.deadline, rows=()), known)
    return pipeline


def write(result: Summaries, known: argparse.Namespace) -> None:
    """Adds the sinks."""
    _ = result.decided | "Write" >> WriteSummaries(known.output or "", known.format)
    _ = result.dead_letters | "WriteDeadLetters" >> WriteDeadLetters(known.output or "", known.format)


def write_scale(scale: Scale, output: str, columns: tuple[str, ...]) -> None:
    """Writes what columns were scaled by; streams of later data take this file."""
    text = json.dumps({"columns": list(columns), "origin": scale.origin, "divisor": scale.divisor}, indent=2)
    write_once(FileSystems.join(output, "scale.json"), text.encode() + b"\n")


def set_aside(output: str, overwrite: bool) -> dict[str, str]:
    """Refuses another run's result, or renames it until the new one is there.

    What a failed run has left where there is no result is removed.

    Returns:
      Where each file went, by its path.

    Raises:
      ValueError: there is a result and it is not to be overwritten.
    """
    result = [path for name in tables.TABLES for path in files_of(output, name)]
    rest = [path for name in ("dead_letters", *FOLDERS) for path in files_of(output, name)]
    if result and not overwrite:
        raise ValueError(
            f"output: must not hold another run's result, got {output!r} with {result[0]} (--overwrite replaces it)"
        )
    scale = FileSystems.join(output, "scale.json")
    rest += [scale] if FileSystems.exists(scale) else []
    if not result:
        if rest:
            FileSystems.delete(rest)
        return {}
    aside = {path: f"{path}.replaced" for path in result + rest}
    FileSystems.rename(list(aside), list(aside.values()))
    return aside


def put_back(output: str, aside: dict[str, str]) -> None:
    """Undoes `set_aside` after a job that failed: what that one wrote goes, the old result comes back."""
    if not aside:
        return
    scale = FileSystems.join(output, "scale.json")
    left = [path for name in (*tables.TABLES, "dead_letters", *FOLDERS) for path in files_of(output, name)]
    left += [scale] if FileSystems.exists(scale) else []
    failed = sorted(set(left) - set(aside.values()))
    if failed:
        FileSystems.delete(failed)
    FileSystems.rename(list(aside.values()), list(aside))


def warn_of_spreads(source: ReadBlocks, console: Console) -> None:
    """Says so if one column will dominate the distances, judging by the first block."""
    with contextlib.suppress(ValueError):  # a file that can't be read: the job itself will say so
        _warn_of_spreads(next((b for b in source.here() if isinstance(b, PointBlock)), None), source.layout, console)


def _warn_of_spreads(block: PointBlock | None, layout: Layout, console: Console) -> None:
    if block is None or len(block) < 2 or layout.options.vector_column:
        return
    spread = np.asarray(block.points, np.float64).std(axis=0)
    wide, narrow = int(spread.argmax()), int(np.where(spread > 0, spread, np.inf).argmin())
    if spread[wide] > SPREAD_WARNING * spread[narrow] > 0:
        far, near = (escape(repr(layout.coordinates[i])) for i in (wide, narrow))
        console.print(
            f"[yellow]warning:[/] column {far} spreads {spread[wide] / spread[narrow]:,.0f} times as far as "
            f"{near} and will decide the clusters; --scale standard brings them to one scale",
            highlight=False,
        )


if __name__ == "__main__":
    sys.exit(main())
