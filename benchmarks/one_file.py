"""The whole batch job over one large file of CSV, JSON lines or Avro: one worker, two, and two where it is not cut.

    python benchmarks/one_file.py --gigabytes 4                       CSV, 8 columns, 8 shards, k = 20
    python benchmarks/one_file.py --gigabytes 1 --format jsonl avro quoted

The file (200,000 seeded rows again and again; `quoted` is CSV with a column of quoted text, line ends in it) is written
to --folder and removed. Each run is a process of its own; its clock goes from `pipeline.run()` to the end of
`wait_until_finish()`, behind a small job that loads what is compiled. `cpu` is that of all threads. The load is what
others had running before the run began, as a share of the machine's cores.
"""
from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["csv"])
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(*json.loads(given.work))
    for form in given.format:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = os.path.join(folder, "rows." + ("csv" if form == "quoted" else form))
            rows = write(path, form, given.gigabytes * 1e9)
            for _ in range(given.times):
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
