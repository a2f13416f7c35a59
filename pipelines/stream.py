"""A summary for every window, on time, whatever the stragglers do: from Kafka, Pub/Sub, files that keep coming, or
generated points."""
import dataclasses
import functools
import logging
import math
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.options.pipeline_options import PipelineOptions

from beam_coresets import table_schemas
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines.console import live, options, show
from beam_coresets.pipelines.console.reference_options import reference_of
from beam_coresets.pipelines.console.stream_options import (
    StreamOptions,
    iceberg_of,
    init_of,
    kafka_config,
    pubsub_of,
    refuse_unused,
    skipped_of,
    source_of,
    stream_of,
    warnings_of,
)
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.results_folder.ownership import holding
from beam_coresets.pipelines.results_folder.scale_file import scale_of
from beam_coresets.pipelines.results_folder.schema_file import write_schema
from beam_coresets.pipelines.results_folder.stored import require_apart
from beam_coresets.pipelines.results_folder.stream_folder import require_same_stream
from beam_coresets.pipelines.running import checkpoints, ending, launch, runners
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.points.column_order import places_of
from beam_coresets.points.scale import Scale
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.transforms.coordinator.replicas import ApartFromSolving
from beam_coresets.transforms.iceberg.register_windows import RegisterWindows, attempt
from beam_coresets.transforms.streams.brokers.pubsub import BLOCKS, DEAD_LETTERS, KEY_COLUMN
from beam_coresets.transforms.streams.source import names_of, notes_of
from beam_coresets.transforms.summarize_stream import StreamSummaries, SummarizeStream, SummarizeUnbounded
from beam_coresets.transforms.writing.claims import Claims, order_of
from beam_coresets.transforms.writing.kafka_sink import WriteToKafka, require_topic
from beam_coresets.transforms.writing.sinks import WriteSummaries
from beam_coresets.transforms.writing.stored_tables import files_of
from beam_coresets.transforms.writing.stream_letters import StreamLetters
from beam_coresets.transforms.writing.webhook import PostEvents
from beam_coresets.transforms.writing.write_by_time import WriteByTime

_LOG = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
REGISTER_SECONDS = 4.0  # at the end: a signal ends the command within 8
PRISM_POLL = 1.0  # on Prism one bundle after another: a long one would hold all others up


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets stream`; returns the exit code."""
    return options.run_job(argv, "stream", StreamOptions, __doc__ or "", run)


def run(known: StreamOptions, beam_options: PipelineOptions, console: Terminal) -> int:
    """Checks, launches, and prints a line for each window until it is told to stop; returns the exit code.

    Raises:
      ValueError: something that can't work.
      JobError: the job failed.
    """
    logging.getLogger("beam_coresets").setLevel(logging.WARNING)  # such as that a broker is waited for
    options.require(known, "k", "output")
    require_apart(known.output, known.input or ())
    refuse_unused(known)
    lines = runners.prepare_streaming(beam_options, known.shards, known.checkpoint_dir, known.resume_from)
    replicas, more = runners.coordinators_of(beam_options, known.shards, known.coordinator_replicas)
    known = dataclasses.replace(known, coordinator_replicas=replicas)
    show.settings([*lines, *more], known.verbose, console)
    pipeline = build(known, beam_options, functools.partial(show.notes, console=console))
    for line in warnings_of(known):
        console.print(f"[yellow]warning:[/] {escape(line)}", highlight=False, soft_wrap=True)
    runners.require_runner(beam_options, known.shards)
    claims = Claims(known.output, known.format)
    claims.require_writable()
    with holding(known.output, "stream"):
        require_same_stream(claims, known.window, known.key_column or ("key" if known.keys else None))
        scale = "standard" if known.scale_file else "none"
        asked = {
            "window": known.window, "deadline": known.deadline, "key_column": known.key_column, "scale": scale,
        }  # fmt: skip
        columns = known.columns or ((known.vector_column,) if known.vector_column else None)
        write_schema(known.output, known.format, columns, known.metric, job="stream", **asked)
        for line in skipped_of(known, claims.own_since(()) or claims.last()):
            console.print(f"[yellow]warning:[/] {escape(line)}", highlight=False, soft_wrap=True)
        if known.detach:
            submitted = launch.submit(pipeline, runners.cluster_of(beam_options))
            console.print(submitted, highlight=False, soft_wrap=True)
            console.answer("stream", type="end", output=known.output, submitted=submitted)
            return 0
        try:
            return follow(pipeline, claims, known, console)
        finally:
            _register_rest(claims, known, console)


def build(
    known: StreamOptions, beam_options: PipelineOptions, told: Callable[[Sequence[str]], None] = lambda notes: None
) -> beam.Pipeline:
    """The job's graph; what reading the source leaves out goes to `told`."""
    workers = runners.parallelism_of(beam_options, known.shards)
    if str(beam_options.get_all_options().get("runner")).endswith("PrismRunner"):
        known = dataclasses.replace(known, poll=min(known.poll, PRISM_POLL))
    write = WriteSummaries(known.output, known.format, order_of(known.weak, bool(known.outliers), True))
    option = "output_config" if known.output_config else "kafka_config"
    config = kafka_config(getattr(known, option), option) if known.output_topic else {}
    pipeline = beam.Pipeline(options=beam_options)
    domains = runners.domains_of(beam_options, known.shards)
    stream = stream_of(known, *workers, known.coordinator_replicas or 1, domains)
    result = _summarized(pipeline, known, stream, write.claims, told)
    written = result.decided | "Write" >> write
    windows = None
    if known.output_topic or known.events_webhook:
        left = [(0, window) for window in write.claims.unannounced()] if known.output_topic else []
        windows = (
            (written.windows, result.elsewhere, pipeline | "Left unannounced" >> beam.Create(left))
            | "All windows" >> beam.Flatten()
            | "Apart from solving" >> ApartFromSolving(stream.coordinators)
        )
    if known.events_webhook:
        _ = windows | "Post events" >> PostEvents(write.claims, known.events_webhook)
    if known.output_topic:
        config = {name: value for name, value in config.items() if not name.startswith("schema.registry.")}
        config = {"bootstrap.servers": known.bootstrap_servers, **config}
        _ = windows | "Announce" >> WriteToKafka(write.claims, config, known.output_topic)
        require_topic(config, known.output_topic)
    _register(pipeline, known, write.claims, written.windows)
    _ = result.late | "Write late" >> WriteByTime(known.output, "late", table_schemas.LATE_ROWS, known.format)
    if known.pubsub_subscription:  # readers of parts write theirs with their windows
        _ = result.dead_letters | "Write dead_letters" >> WriteByTime(
            known.output, "dead_letters", table_schemas.DEAD_LETTERS, known.format
        )
    return pipeline


def _register(pipeline: beam.Pipeline, known: StreamOptions, claims: Claims, windows: Any) -> None:
    """Decided windows go to Iceberg tables, if they are to; those that earlier runs have left at once."""
    settings = iceberg_of(known)
    if settings is not None:
        begun = pipeline | "Begun" >> beam.Create([(0, Window())])
        _ = (
            (windows, begun)
            | "Decided or begun" >> beam.Flatten()
            | "Iceberg" >> RegisterWindows(claims, settings, str(known.iceberg_table))
        )


def _register_rest(claims: Claims, known: StreamOptions, console: Terminal) -> None:
    """What no commit has had time for goes to the Iceberg tables; what can't is left to the next run, or `register`."""
    settings = iceberg_of(known)
    if settings is not None:
        _, why = attempt(claims, settings, str(known.iceberg_table), patience=REGISTER_SECONDS)
        if why:
            console.print(f"[yellow]warning:[/] iceberg: windows wait for the next run or register: {escape(why)}",
                          highlight=False, soft_wrap=True)  # fmt: skip


def _summarized(
    pipeline: beam.Pipeline,
    known: StreamOptions,
    stream: StreamPlan,
    claims: Claims,
    told: Callable[[Sequence[str]], None],
) -> StreamSummaries:
    """From whichever source the options name."""
    if not known.pubsub_subscription:
        source, letters = source_of(known), StreamLetters(known.output, known.format)
        told(notes_of(source))
        stream = stream.named(names_of(source))
        scale, init = _begun_with(known, stream, claims)
        reference = reference_of(known, stream.question())
        return pipeline | "Stream" >> SummarizeStream(source, stream, scale, init, claims, letters, reference)
    runner = str(pipeline.options.get_all_options().get("runner")).rpartition(".")[2]
    if runner in ("FlinkRunner", "PrismRunner"):
        raise ValueError(f"runner: must be DataflowRunner with --pubsub-subscription, got {runner}")
    pubsub = pubsub_of(known, stream.windows)
    stream = stream.named(pubsub.names)
    scale, init = _begun_with(known, stream, claims)
    read = pipeline | "Pub/Sub" >> pubsub
    key = KEY_COLUMN if known.key_column else None
    result = read[BLOCKS] | "Stream" >> SummarizeUnbounded(
        stream, key_column=key, scale=scale, init=init, claims=claims, begins=stream.clock(),
        reference=reference_of(known, stream.question()),
    )  # fmt: skip
    return result._replace(dead_letters=read[DEAD_LETTERS])


def _begun_with(
    known: StreamOptions, stream: StreamPlan, claims: Claims
) -> tuple[Scale | None, tuple[Any, tuple[str, ...] | None] | None]:
    """The scale and the centers that an earlier job has left, in the order of the stream's columns.

    Raises:
      ValueError: they, or the windows that are decided in --output, are of other columns.
    """
    columns = stream.plan.columns
    for name in claims.last():
        for row in claims.read(name, "summaries").to_pylist()[:1]:
            if row["columns"] is not None and columns is not None and len(row["columns"]) == len(columns):
                places_of(columns, row["columns"], f"the windows in {known.output!r}")
    scale = scale_of(known.scale, known.scale_file, columns)
    return scale, init_of(known, scale, columns)


def follow(pipeline: beam.Pipeline, claims: Claims, known: StreamOptions, console: Terminal) -> int:
    """Runs the job and prints a line for each window that is decided."""
    claims.finish_all()
    seen = set(claims.own_since(()))
    if decided := claims.count():
        console.print(f"{decided} windows are decided in {escape(known.output)} already, and stay as they are",
                      highlight=False, soft_wrap=True)  # fmt: skip
    job = launch.started(pipeline, console.aside)
    until = time.monotonic() + (known.duration or float("inf"))
    shown: dict[tuple[float, float], int] = {}
    most = known.max_windows
    if most is not None and (known.key_column or known.keys):
        most += 1  # groups of keys are decided one by one: a window is whole once the next one has begun
    waiting_for = f"waiting for the first window ({known.window}, answered at most {known.deadline:g} s after its end)"
    with live.Screen(console, known.shards, waiting_for) as screen:
        try:
            while time.monotonic() < until and not job.over.wait(LOOK_SECONDS):
                try:
                    _show(claims, seen, shown, most, screen)
                except (OSError, BeamIOError, ValueError) as error:  # of looking at the tables: the job goes on
                    _LOG.warning("output: must be readable to show its windows, got %s", error)
                    continue
                if len(shown) >= _limit(most, shown):
                    break
        except KeyboardInterrupt:
            screen.say("stopping")
            job.error = None  # what it says of being interrupted
        finally:
            job.stop()
    if job.error is not None:
        raise launch.JobError(launch.first_cause(job.error)) from job.error
    _tell_end(known, shown, console)
    return 0


def _tell_end(known: StreamOptions, shown: Mapping[tuple[float, float], int], console: Terminal) -> None:
    """What there is now, and how to go on from here."""
    refused = "; refused rows in dead_letters" if files_of(known.output, "dead_letters") else ""
    console.print(f"\n{len(shown)} windows; tables in {escape(known.output)}{refused}", highlight=False, soft_wrap=True)
    checkpoint = checkpoints.newest(known.checkpoint_dir) if known.checkpoint_dir else None
    if checkpoint is not None:
        folder, so_far = shlex.quote(known.checkpoint_dir or ""), os.path.relpath(checkpoint, known.checkpoint_dir)
        console.print(f"to go on from here: the same options with --resume-from {escape(folder)} (so far its newest "
                      f"whole checkpoint is {escape(so_far)})", highlight=False, soft_wrap=True)  # fmt: skip
    elif known.checkpoint_dir:
        told = "--resume-from goes on from the newest in" if checkpoints.is_uri(known.checkpoint_dir) else "none is in"
        console.print(f"whole checkpoints: {told} {escape(known.checkpoint_dir)}", highlight=False, soft_wrap=True)
    console.answer("stream", type="end", output=known.output, windows=len(shown), points=sum(shown.values()),
                   checkpoint=checkpoint)  # fmt: skip


def _limit(most: int | None, shown: Mapping[tuple[float, float], int]) -> float:
    """How many windows are to be shown: one without points, in the end of which the stream began, comes on top."""
    if most is None:
        return math.inf
    return most + (next(iter(shown.values()), 1) == 0)


def _show(
    claims: Claims, seen: set[str], shown: dict[tuple[float, float], int], most: int | None, screen: live.Screen
) -> None:
    """Shows what has been decided since the last look, until `most` windows have been shown; counts their points."""
    for name in claims.own_since(seen):
        start, end, *_ = place_of(name)
        if len(shown) >= _limit(most, shown) and (start, end) not in shown:
            return
        table = claims.read(name, "summaries")
        screen.show(table)
        seen.add(name)
        shown[start, end] = shown.get((start, end), 0) + sum(table.column("points").to_pylist())


if __name__ == "__main__":
    ending.run_and_leave(main)
