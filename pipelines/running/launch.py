"""Running a pipeline for somebody at a terminal: progress while it works, one clear line when it fails."""
import contextlib
import logging
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError
from apache_beam.options.pipeline_options import GoogleCloudOptions, JobServerOptions, PipelineOptions, StandardOptions
from rich.console import Console

from beam_coresets import __version__
from beam_coresets._jit import compiling
from beam_coresets.pipelines.running import ending, logs
from beam_coresets.pipelines.running.flink_cluster import FlinkCluster
from beam_coresets.pipelines.running.local import is_local
from beam_coresets.pipelines.running.runners import cluster_of
from beam_coresets.pipelines.running.texts import MOST_LINE, one_line
from beam_coresets.pipelines.running.waiting import Awaited, amount
from beam_coresets.transforms.base.progress import PROGRESS

DONE, FAILED, REFUSED, DRIFTED = 0, 1, 2, 3  # exit codes (docs/operations.md); signals are 128 and their number
LOOK_SECONDS = 0.2
STOP_SECONDS = 3.0  # for a cancelled job on this machine to end
_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Invalid)): (.*)$", re.M)
_STEP = re.compile(r" \[while running '[^']*'\]")
_PLAIN = ("ValueError", "TypeError", "SchemaError")  # what this project raises, as `name: requirement, got value`


_OF_WORKERS = (
    ("No module named 'beam_coresets'",
     f"workers: must have beam-coresets {__version__} installed (in their image, or by --setup_file), got none"),
    ("finishConnect(..) failed: Connection refused",
     "environment_config: must be where a worker pool answers beside each TaskManager "
     "(python -m apache_beam.runners.worker.worker_pool_main --service_port=PORT), got none that does"),
)  # fmt: skip


class JobError(RuntimeError):
    """A pipeline failed; the message is the first cause, in one paragraph."""


def run(
    pipeline: beam.Pipeline, shards: int, console: Console, until: Callable[[], bool] = lambda: False
) -> float:
    """Runs to the end, or until `until()` is true, and returns the seconds it took. Interrupted, it ends the job.

    Raises:
      JobError: the pipeline failed.
    """
    began, start = time.monotonic(), (PROGRESS.points, PROGRESS.shards)
    with Awaited(console, starting(pipeline.options), shards) as waiting:
        job = Job(pipeline)
        try:
            while not job.over.wait(LOOK_SECONDS) and not until():
                waiting.tell(*_stage(shards, time.monotonic() - began, *start))
        finally:
            if not job.over.is_set():
                job.stop()
    if job.error is not None:
        raise JobError(first_cause(job.error)) from job.error
    return time.monotonic() - began


def starting(options: PipelineOptions) -> str:
    """What a job waits for at first."""
    if is_local(options):
        return "starting"
    runner = str(options.view_as(StandardOptions).runner).rpartition(".")[2]
    return f"waiting for {runner} to take the job"


def _stage(shards: int, seconds: float, points: int, finished: int) -> tuple[str, str, str, int]:
    """How far the job is (see `Awaited.tell`), given where counting began; nothing is known of workers in other
    processes."""
    points, finished = PROGRESS.points - points, min(shards, PROGRESS.shards - finished)
    if not points:
        return "compiling, once on this machine" if compiling() else "the job runs", "", "", 0
    count = f"{amount(points)} points   {amount(points / max(1e-9, seconds))}/s"
    done = f"{finished} of {shards} shards" if shards > 1 else ""
    return "uniting shards and solving" if finished == shards else "reading", count, done, finished


class Job:
    """A running pipeline, waited for in a thread of its own.

    Raises:
      JobError: it can't be submitted.

    Attributes:
      over: set when it has ended by itself.
      error: what it ended with, if it failed.
    """

    def __init__(self, pipeline: beam.Pipeline) -> None:
        self._cluster, self._name = cluster_of(pipeline.options), named(pipeline.options)
        self.over = threading.Event()
        self.error: BaseException | None = None
        self._stopped = False
        # In this process `run` does all of the work; elsewhere it returns. A job server needs the main thread.
        self._result: Any = None if is_local(pipeline.options) else _submitted(pipeline)
        threading.Thread(target=self._wait, args=(pipeline,), daemon=True).start()

    def _wait(self, pipeline: beam.Pipeline) -> None:
        try:
            result = pipeline.run() if self._result is None else self._result
            result.wait_until_finish()
        except BaseException as error:  # handed to the thread that follows
            if not self._stopped:
                self.error = error
        finally:
            self.over.set()

    def stop(self) -> None:
        """Cancels it, unless it has ended or ends with this process."""
        self._stopped = True
        if self._result is None:
            return
        # Workers in this process lose their connections now, in the middle of whatever they do: that is meant.
        threading.excepthook = lambda _: None
        logging.disable(logging.CRITICAL)
        if not self.over.is_set():
            with contextlib.suppress(Exception):  # it may have ended by now, and nothing is left to do about it
                self._cancel()
            # A cluster has accepted it, and goes on cancelling for as long as a worker is stuck.
            self.over.wait(STOP_SECONDS if self._cluster is None else 0.5)

    def _cancel(self) -> None:
        job = None if self._cluster is None else self._cluster.job_named(self._name)
        if self._cluster is None or job is None:
            self._result.cancel()
        else:
            self._cluster.cancel(job)


def started(pipeline: beam.Pipeline, console: Console) -> Job:
    """The job, once its runner has taken it; on the console, meanwhile, that it is waited for.

    Raises:
      JobError: it can't be submitted.
    """
    with Awaited(console, starting(pipeline.options)):
        return Job(pipeline)


def _submitted(pipeline: beam.Pipeline) -> Any:
    _tie_job_server(pipeline)
    # Ctrl-C reaches the whole process group: a job server that dies of it would look like a failure.
    meant = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return pipeline.run()
    except RuntimeError as error:  # from the job server
        raise JobError(first_cause(error)) from error
    finally:
        signal.signal(signal.SIGINT, meant)


def _tie_job_server(pipeline: beam.Pipeline) -> None:
    """Lets a job server that Beam starts end with this process; Java's keeps its temporary files beside ours."""
    if type(pipeline.runner).__name__ == "PrismRunner":
        from beam_coresets.pipelines.running.tied_prism import TiedPrismRunner

        pipeline.runner = TiedPrismRunner()
    server = pipeline.options.view_as(JobServerOptions)
    if server.job_server_java_launcher != sys.executable:  # as it is if this was done before
        server.job_server_java_launcher, before = ending.tied(server.job_server_java_launcher)
        given = server.job_server_jvm_properties or []
        server.job_server_jvm_properties = [*before, f"-Djava.io.tmpdir={tempfile.gettempdir()}", *given]


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
    standard, cloud = (pipeline.options.view_as(kind) for kind in (StandardOptions, GoogleCloudOptions))
    on_dataflow = str(standard.runner).endswith("DataflowRunner")
    if cluster is None and not on_dataflow:
        raise ValueError("detach: must be left out unless the job goes to a cluster (it would end at once), got it")
    name = named(pipeline.options)
    _tie_job_server(pipeline)
    try:
        pipeline.run()
        if cluster is None and cloud.template_location:
            return f"a template is written to {cloud.template_location}"
        if cluster is None:
            return f"job {name} is submitted to Dataflow"
        job = cluster.wait_until_runs(name, bool(standard.streaming))
    except RuntimeError as error:
        raise JobError(first_cause(error)) from error
    return f"job {job} runs on {cluster.master}"


def first_cause(error: BaseException) -> str:
    """What went wrong, in one line and without the runner's stack: the message of the user code that raised.

    A runner in this process raises the exception itself, with the step's name added; others put the worker's
    traceback into the text of their own. Errors that speak of an option or column go without the exception's name.
    """
    name, text = type(error).__name__, str(error)
    for mark, remedy in _OF_WORKERS:
        if mark in text:
            return remedy
    if isinstance(error, MemoryError):
        return f"memory: must be enough for what the options ask for, got none left ({text.partition(' [while')[0]})"
    found = list(_ERROR.finditer(text))
    if found:
        name, text = found[-1].group(1), found[-1].group(2)
    text = (_STEP.sub("", text).strip().splitlines() or [""])[0]
    return text if name in _PLAIN and ": " in text else f"{name}: {text}"


def quiet(verbose: bool) -> None:
    """Leaves errors to the one line that a job prints about them, unless everything is asked for."""
    logs.all_there_is() if verbose else logs.ours_alone()


_TOLD = (ValueError, JobError, OSError, BeamIOError, pa.ArrowException, MemoryError)


def _told(error: BaseException) -> int:
    """Says in a line what a command ends with; returns its exit code."""
    wrong = isinstance(error, ValueError)
    said = error if wrong or isinstance(error, JobError) else _of_machine(error)
    print(f"error: {one_line(str(said), MOST_LINE)}", file=sys.stderr)
    return REFUSED if wrong else FAILED


def _of_machine(error: BaseException) -> str:
    """What a file system, or a library that reads from it, says: one line, with the file's name if it is known."""
    if isinstance(error, MemoryError):
        return first_cause(error)
    details = getattr(error, "exception_details", None)
    path, cause = getattr(error, "filename2", None) or getattr(error, "filename", None), error
    if isinstance(details, dict) and details:
        path, cause = next(iter(details.items()))
    said = getattr(cause, "strerror", None) or (str(cause).splitlines() or [""])[0] or type(cause).__name__
    return f"file: must be there and usable, got {str(path or 'one')!r} ({said})"


def exit_code(word: Callable[[], int]) -> int:
    """What `word` returns; `REFUSED` for what can't work, `FAILED` for what failed on the way, 130 if interrupted, 143
    if ended by SIGTERM: each in a line. Temporary files are gone by then."""
    with logs.quiet_threads(), ending.told_by_signals() as signals:
        try:
            with ending.own_folder():
                code = word()
        except KeyboardInterrupt:
            if signals.number is None:
                print("stopped", file=sys.stderr)
            code = 128 + signal.SIGINT
        except _TOLD as error:
            code = _told(error)
        return code if signals.number is None else 128 + signals.number
