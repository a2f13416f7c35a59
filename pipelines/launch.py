"""Running a pipeline for somebody at a terminal: progress while it works, one clear line when it fails."""
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from beam_coresets.transforms.progress import PROGRESS

_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception)): (.*?)(?: \[while running '([^']*)'\])?$", re.M | re.S)


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


def first_cause(error: BaseException) -> str:
    """What went wrong, without the runner's stack: `ValueError: ...` of the user code that raised."""
    found = list(_ERROR.finditer(str(error)))
    if not found:
        return f"{type(error).__name__}: {error}"
    last = found[-1]
    text = last.group(2).strip().split("\n")[0]
    return re.sub(r" \[while running '[^']*'\]$", "", text)
