"""Running a pipeline for somebody at a terminal: progress while it works, one clear line when it fails."""
import logging
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from beam_coresets.pipelines.flink_cluster import FlinkCluster
from beam_coresets.transforms.progress import PROGRESS

_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Invalid)): (.*)$", re.M)
_STEP = re.compile(r" \[while running '[^']*'\]")
_PLAIN = ("ValueError", "TypeError", "SchemaError")  # what this project raises, as `name: requirement, got value`


class JobError(RuntimeError):
    """A pipeline failed; the message is the first cause, in one paragraph."""


def run(pipeline: beam.Pipeline, shards: int, console: Console) -> float:
    """Runs to the end and returns the seconds it took.

    Raises:
      JobError: the pipeline failed.
    """
    began = time.monotonic()
    start = (PROGRESS.points, PROGRESS.shards)
    outcome: list[Any] = []
    worker = threading.Thread(target=_run, args=(pipeline, outcome.append), daemon=True)
    columns = (SpinnerColumn(), TextColumn("{task.fields[shown]}"), BarColumn(20), TextColumn("{task.fields[done]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=shards, shown="starting", done=f"0 of {shards} shards")
        worker.start()
        while worker.is_alive():
            worker.join(0.2)
            points, finished = PROGRESS.points - start[0], PROGRESS.shards - start[1]
            rate = points / max(1e-9, time.monotonic() - began)
            shown = f"{points / 1e6:,.1f} M points   {rate / 1e6:.1f} M/s" if points else "starting"
            done = min(finished, shards)
            progress.update(task, completed=done, shown=shown, done=f"{done} of {shards} shards")
    if outcome and isinstance(outcome[0], BaseException):
        raise JobError(first_cause(outcome[0])) from outcome[0]
    return time.monotonic() - began


def _run(pipeline: beam.Pipeline, report: Callable[[Any], None]) -> None:
    try:
        result = pipeline.run()
        result.wait_until_finish()
        report(result)
    except BaseException as error:  # handed to the thread that waits
        report(error)


def named(options: PipelineOptions) -> str:
    """The name by which a job is found on its cluster; made up unless the user has named it."""
    cloud = options.view_as(GoogleCloudOptions)
    if not cloud.job_name:
        cloud.job_name = f"beam-coresets-{uuid.uuid4().hex[:12]}"
    return str(cloud.job_name)


def submit(pipeline: beam.Pipeline, cluster: FlinkCluster | None) -> str:
    """Submits a job and leaves it to the cluster: which job it is there.

    Raises:
      ValueError: a job that would end with this process.
      JobError: it does not get to run.
    """
    on_dataflow = str(pipeline.options.view_as(StandardOptions).runner).endswith("DataflowRunner")
    if cluster is None and not on_dataflow:
        raise ValueError("detach: must be left out unless the job goes to a cluster (it would end at once), got it")
    name = named(pipeline.options)
    try:
        pipeline.run()
        if cluster is None:
            return f"job {name} is submitted to Dataflow"
        job = cluster.wait_until_runs(name)
    except RuntimeError as error:
        raise JobError(first_cause(error)) from error
    return f"job {job} runs on {cluster.master}"


def first_cause(error: BaseException) -> str:
    """What went wrong, in one line and without the runner's stack: the message of the user code that raised.

    A runner in this process raises the exception itself, with the step's name added; others put the worker's
    traceback into the text of their own. Errors that speak of an option or column go without the exception's name.
    """
    name, text = type(error).__name__, str(error)
    found = list(_ERROR.finditer(text))
    if found:
        name, text = found[-1].group(1), found[-1].group(2)
    text = (_STEP.sub("", text).strip().splitlines() or [""])[0]
    return text if name in _PLAIN and ": " in text else f"{name}: {text}"


def quiet(verbose: bool) -> None:
    """Leaves errors to the one line that a job prints about them: Beam logs each with its stack."""
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("apache_beam").setLevel(logging.NOTSET if verbose else logging.CRITICAL)


def exit_code(word: Callable[[], int]) -> int:
    """What `word` returns; 2 for what can't work, 1 for a job that failed, 130 if interrupted: each in a line."""
    try:
        return word()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
