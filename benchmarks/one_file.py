"""The whole batch job over one large file of CSV, JSON lines or Avro: one worker, two, and two where it is not cut.

    python benchmarks/one_file.py --gigabytes 4                       CSV, 8 columns, 8 shards, k = 20
    python benchmarks/one_file.py --gigabytes 1 --format jsonl avro quoted
    python benchmarks/one_file.py --reading                           counting and reading alone, by one thread and two

The file (200,000 seeded rows again and again; `quoted` is CSV with a column of quoted text, line ends in it) is written
to --folder and removed. Each run is a process of its own; its clock goes from `pipeline.run()` to the end of
`wait_until_finish()`, behind a small job that loads what is compiled. `cpu` is that of all threads. The load is what
others had running before the run began, as a share of the machine's cores. `--reading` leaves out what threads wait for
a core, as Linux counts it: what the clock would show of a machine without other work, as far as memory allows.
"""
from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ROWS, DIM, K, SHARDS, SEED = 200_000, 8, 20, 8, 1
NAMES = [f"x{j}" for j in range(DIM)]
TEXTS = ["plain", "two\nlines", 'says "no"', "a,b"]
FORMATS = ("csv", "quoted", "jsonl", "avro")


def pieces_of(form: str, rows: int = ROWS) -> tuple[bytes, bytes]:
    """What a file of a format begins with, and rows that may follow any number of times."""
    from beam_coresets.datasets.synthetic import GaussianMixture

    points = np.round(GaussianMixture(seed=SEED, d=DIM).block(0, rows).astype(float), 4).tolist()
    if form == "jsonl":
        return b"", "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in points).encode()
    if form == "avro":
        import fastavro

        schema = {"type": "record", "name": "Row", "fields": [{"name": name, "type": "double"} for name in NAMES]}
        first, both = io.BytesIO(), io.BytesIO()
        sync = bytes(range(16))
        fastavro.writer(first, schema, [], sync_marker=sync)
        fastavro.writer(both, schema, (dict(zip(NAMES, row, strict=True)) for row in points), sync_marker=sync)
        return first.getvalue(), both.getvalue()[len(first.getvalue()) :]
    text = io.StringIO(newline="")
    names, extra = NAMES, []
    if form == "quoted":
        names, extra = [*NAMES, "t"], TEXTS
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([*row, extra[i % len(extra)]] if extra else row for i, row in enumerate(points))
    return (",".join(names) + "\n").encode(), text.getvalue().encode()


def write(path: str, form: str, size: float) -> int:
    """A file of about so many bytes; its rows."""
    head, block = pieces_of(form)
    times = max(1, round(size / len(block)))
    with open(path, "wb") as file:
        file.write(head)
        for _ in range(times):
            file.write(block)
    return times * ROWS


def job(path: str, workers: int, whole: bool, output: str) -> tuple[float, float]:
    """The pipeline of `beam-coresets summarize`; seconds from run to end, by the clock and of CPU."""
    from beam_coresets.pipelines import summarize
    from beam_coresets.pipelines.console import options
    from beam_coresets.pipelines.console.options import SummarizeOptions
    from beam_coresets.transforms.reading.blocks import ReadBlocks

    arguments = ["--input", path, "--output", output, "--k", str(K), "--shards", str(SHARDS)]
    arguments += ["--columns", ",".join(NAMES)]
    if workers > 1:
        arguments += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_threading"]
    known, beam_options = options.parse(arguments, "summarize", SummarizeOptions)
    more = {"part_bytes": 1 << 60} if whole else {}
    source = ReadBlocks(known.input, options.columns_of(known), known.input_format, **more)
    pipeline = summarize.build(known, beam_options, options.plan_of(known), source)
    began, used = time.perf_counter(), time.process_time()
    pipeline.run().wait_until_finish()
    return time.perf_counter() - began, time.process_time() - used


def work(path: str, form: str, workers: int, whole: bool) -> None:
    """A subprocess' part; one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        small = os.path.join(folder, os.path.basename(path))
        pathlib.Path(small).write_bytes(b"".join(pieces_of(form, 30_000)))
        job(small, workers, whole, f"{folder}/warm")
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        seconds, cpu = job(path, workers, whole, f"{folder}/out")
    peak = int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "cpu": cpu, "MB": peak, "load": load}))


def measured(path: str, form: str, workers: int, whole: bool) -> dict[str, Any]:
    """What a process of its own finds."""
    command = [sys.executable, __file__, "--work", json.dumps([path, form, workers, whole])]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_threads(tasks: Sequence[Callable[[], object]], threads: int) -> float:
    """Seconds until all is done, without those that the slowest thread has waited for a core."""
    left: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    for task in tasks:
        left.put(task)
    took = []

    def run() -> None:
        began = time.perf_counter()
        while True:
            try:
                task = left.get_nowait()
            except queue.Empty:
                break
            task()
        waited = int(pathlib.Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1])
        took.append(time.perf_counter() - began - waited / 1e9)

    each = [threading.Thread(target=run) for _ in range(threads)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    return max(took)


def reading(path: str, form_name: str, rows: int) -> None:
    """Counts and reads the file by one thread, by two, and uncut; prints."""
    from beam_coresets.transforms.reading.blocks import ReadBlocks, read_part
    from beam_coresets.transforms.reading.columns import Columns
    from beam_coresets.transforms.reading.parts import FILE_FORMATS, Part, counted, cut_at_rows

    source = ReadBlocks(path, Columns(columns=tuple(NAMES)))
    form, found = FILE_FORMATS[source.format], {}

    def count(part: Part) -> None:
        found[part.index] = counted(part.files[0], form, source.layout)

    def read(part: Part) -> int:
        return sum(1 for _ in read_part(part, form, source.layout))

    count(source.parts[0])
    next(source.uncut())
    uncut = in_threads([lambda: sum(1 for _ in source.uncut())], 1)
    for threads in (1, 2):
        counts = in_threads([lambda part=part: count(part) for part in source.parts[:-1]], threads)  # type: ignore[misc]
        these = list(cut_at_rows(source.parts, form, source.layout, found))
        reads = in_threads([lambda part=part: read(part) for part in these], threads)  # type: ignore[misc]
        print(
            f"{form_name}, {os.path.getsize(path) / 1e9:.2f} GB, {threads} thread(s): count {counts:.2f} s, read "
            f"{reads:.2f} s, {rows / (counts + reads) / 1e6:.2f} M rows/s; uncut, one thread {uncut:.2f} s; load "
            f"{os.getloadavg()[0] / (os.cpu_count() or 1):.1f}", flush=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["csv"])
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--reading", action="store_true", help="nothing but reading, in this process")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(*json.loads(given.work))
    for form in given.format:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = os.path.join(folder, "rows." + ("csv" if form == "quoted" else form))
            rows = write(path, form, given.gigabytes * 1e9)
            for _ in range(given.times):
                if given.reading:
                    reading(path, form, rows)
                    continue
                one = 0.0
                for workers, whole in ((1, False), (2, False), (2, True)):
                    found = measured(path, form, workers, whole)
                    one = one or found["seconds"]
                    print(
                        f"{form}, {os.path.getsize(path) / 1e9:.2f} GB, {workers} worker(s){', not cut' * whole}: "
                        f"{found['seconds']:.1f} s, {rows / found['seconds'] / 1e6:.2f} M rows/s, "
                        f"{one / found['seconds']:.2f} times one worker; cpu {found['cpu']:.1f} s, "
                        f"{found['MB']:.0f} MB; load before {found['load']:.1f}", flush=True,
                    )  # fmt: skip
    return None


if __name__ == "__main__":
    main()
