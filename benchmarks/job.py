"""The whole batch job, Parquet files to tables: throughput and memory, beside scikit-learn over the same files.

    python benchmarks/job.py --folder /tmp/job                       20 M x 8, l = 1 and 3, 1 and 2 direct workers
    python benchmarks/job.py --folder /tmp/job --times 10            200 M too, every file copied ten times (6.4 GB)
    python benchmarks/job.py --folder /tmp/job --unit_vectors        200,000 x 768 unit vectors, cosine, k = 100 and 500

The files are written once (seeded, float32, uncompressed, no dictionary) and kept in --folder. Each configuration runs
in a fresh subprocess: imports and a tiny job, which loads the compiled kernels, are its start-up; the clock runs from
`pipeline.run()` to the end of `wait_until_finish()`. Peak memory is the process', all of it. The peer is
MiniBatchKMeans.partial_fit in chunks of 10,000 rows from pyarrow, on one thread.
"""
import argparse
import contextlib
import csv
import dataclasses
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from beam_coresets.datasets.synthetic import GaussianMixture, Instance, UnitVectors

FILES = 5
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
CHUNK = 10_000
SEED = 1


@dataclasses.dataclass(frozen=True)
class Data:
    """What is written: n rows of an instance over `FILES` files; `vectors` in one list column."""

    n: int
    dim: int
    vectors: bool

    @property
    def name(self) -> str:
        kind = "unit_vectors" if self.vectors else "mixture"
        return f"{kind}-{self.n}x{self.dim}"

    @property
    def instance(self) -> Instance:
        return UnitVectors(seed=SEED, d=self.dim) if self.vectors else GaussianMixture(seed=SEED, d=self.dim)


@dataclasses.dataclass(frozen=True)
class Run:
    """One configuration; `replication` 0 is the peer."""

    pattern: str
    k: int
    vectors: bool
    shards: int
    replication: int
    workers: int

    @property
    def name(self) -> str:
        return f"ours, l = {self.replication}" if self.replication else "MiniBatchKMeans"


def write(data: Data, folder: pathlib.Path) -> list[pathlib.Path]:
    """The files, written unless they are there."""
    folder = folder / data.name
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.parquet" for i in range(FILES)]
    rows = -(-data.n // FILES)
    block = min(rows, 20_000 if data.vectors else 500_000)
    blocks = -(-rows // block)
    for i, path in enumerate(paths):
        if path.exists():
            continue
        temporary = path.with_suffix(".tmp")
        writer = None
        for j in range(blocks):
            points = data.instance.block(i * blocks + j, min(block, rows - j * block))
            table = table_of(points, data.vectors)
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="none", use_dictionary=False)
            writer.write_table(table)
        assert writer is not None
        writer.close()
        temporary.rename(path)
    return paths


def table_of(points: np.ndarray, vectors: bool) -> pa.Table:
    """Columns x0, x1, ... or one list column v."""
    if not vectors:
        return pa.table({f"x{j}": points[:, j] for j in range(points.shape[1])})
    offsets = pa.array(np.arange(len(points) + 1, dtype=np.int32) * points.shape[1])
    return pa.table({"v": pa.ListArray.from_arrays(offsets, pa.array(points.ravel()))})


@contextlib.contextmanager
def listed(paths: list[pathlib.Path], times: int) -> Iterator[str]:
    """A glob of `times` copies of every file: a second name of the same file would be counted once."""
    if times == 1:
        yield str(paths[0].parent / "*.parquet")
        return
    with tempfile.TemporaryDirectory(dir=paths[0].parent.parent) as folder:
        for again in range(times):
            for path in paths:
                shutil.copyfile(path, pathlib.Path(folder) / f"{again}-{path.name}")
        yield f"{folder}/*.parquet"


def job(run: Run, pattern: str, output: str) -> float:
    """The pipeline of `beam-coresets summarize`; seconds from run to end."""
    from beam_coresets.pipelines import summarize
    from beam_coresets.pipelines.console import options
    from beam_coresets.pipelines.console.options import SummarizeOptions
    from beam_coresets.transforms.reading.blocks import ReadBlocks

    arguments = ["--input", pattern, "--output", output, "--k", str(run.k), "--shards", str(run.shards)]
    arguments += ["--replication", str(run.replication)]
    arguments += ["--vector_column", "v", "--metric", "cosine"] if run.vectors else []
    if run.workers > 1:
        arguments += [f"--direct_num_workers={run.workers}", "--direct_running_mode=multi_threading"]
    known, beam_options = options.parse(arguments, "summarize", SummarizeOptions)
    source = ReadBlocks(known.input, options.columns_of(known), known.input_format)
    pipeline = summarize.build(known, beam_options, options.plan_of(known), source)
    began = time.perf_counter()
    pipeline.run().wait_until_finish()
    seconds = time.perf_counter() - began
    (read,) = (pq.read_table(path, columns=["points"]) for path in glob.glob(f"{output}/summaries/*.parquet"))
    found = read["points"][0].as_py()
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in glob.glob(pattern))
    if found != rows:
        raise RuntimeError(f"points: must be {rows:,}, as many as the files have, got {found:,}")
    return seconds


def peer(run: Run, pattern: str) -> float:
    """scikit-learn over the same files; seconds."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(run.k, random_state=SEED)
    began = time.perf_counter()
    for path in sorted(glob.glob(pattern)):
        for batch in pq.ParquetFile(path).iter_batches(CHUNK):
            if run.vectors:
                points = batch.column(0).flatten().to_numpy().reshape(len(batch), -1)
            else:
                points = np.empty((len(batch), batch.num_columns), np.float32)
                for j, column in enumerate(batch.columns):
                    points[:, j] = column.to_numpy()
            if len(points) >= run.k:  # a file's last, short chunk can't start a model
                model.partial_fit(points)
    return time.perf_counter() - began


def work(run: Run, spawned: float) -> None:
    """A subprocess' part: warms up on a tiny file of the same kind, then measures; one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        first = next(pq.ParquetFile(sorted(pathlib.Path(run.pattern).parent.glob("*.parquet"))[0]).iter_batches(5_000))
        pq.write_table(pa.Table.from_batches([first]), f"{folder}/tiny.parquet")
        tiny = dataclasses.replace(run, k=10)
        if run.replication:
            job(tiny, f"{folder}/tiny.parquet", f"{folder}/warm")
            startup = time.time() - spawned
            seconds = job(run, run.pattern, f"{folder}/out")
        else:
            peer(tiny, f"{folder}/tiny.parquet")
            startup = time.time() - spawned
            seconds = peer(run, run.pattern)
    print(json.dumps({"seconds": seconds, "start-up s": startup, "peak MB": peak_memory()}))


def peak_memory() -> float:
    """Of this process, in MB; not by getrusage, whose peak a subprocess inherits from its parent."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def measured(run: Run, threads: int) -> dict[str, Any]:
    """Runs one configuration in a subprocess."""
    command = [sys.executable, __file__, "--work", json.dumps([dataclasses.asdict(run), time.time()])]
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{run}: must end well, got exit code {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def rows_of(data: Data, pattern: str, times: int, k: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All configurations on one list of files."""
    n = times * FILES * -(-data.n // FILES)
    runs = [Run(pattern, k, data.vectors, options.shards, 0, 1)] if not options.no_peer else []
    for replication in options.replication:
        runs += [Run(pattern, k, data.vectors, options.shards, replication, w) for w in options.workers]
    rows: list[dict[str, Any]] = []
    for run in runs:
        found = measured(run, options.threads)
        speed = n / found["seconds"] / 1e6
        out = {"n": n, "d": data.dim, "k": k, "job": run.name, "workers": run.workers, "M points/s": speed}
        rows.append(out | found)
        print(f"{run.name}, {run.workers} worker(s), n = {n:,}, k = {k}: {speed:.3f} M points/s", flush=True)
    for row in rows:
        row["over peer"] = row["M points/s"] / rows[0]["M points/s"] if not options.no_peer else ""
    return rows


def with_growth(rows: list[dict[str, Any]], times: int) -> list[dict[str, Any]]:
    """Adds, to the rows with `times` the data, their memory over that of the same configuration without."""
    half = len(rows) // 2
    for small, large in zip(rows[:half], rows[half:], strict=True):
        large[f"memory at {times} times / 1"] = large["peak MB"] / small["peak MB"]
    return rows


def show(rows: list[dict[str, Any]], path: pathlib.Path | None) -> None:
    """The table, on the terminal and as CSV."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(title="the whole batch job, from files to tables")
    for column in columns:
        table.add_column(column, justify="left" if column == "job" else "right")
    for row in rows:
        values = (row.get(column, "") for column in columns)
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v for v in values))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    if path is not None:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def main() -> None:
    """Writes the files, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept = pathlib.Path(tempfile.gettempdir()) / "beam_coresets_job"
    parser.add_argument("--folder", type=pathlib.Path, default=kept, help="where the files are kept")
    parser.add_argument("--n", type=int, help="points (default: 20,000,000, or 200,000 unit vectors)")
    parser.add_argument("--dim", type=int, help="coordinates (default: 8, or 768)")
    parser.add_argument("--k", type=int, nargs="+", help="centers (default: 20, or 100 and 500)")
    parser.add_argument("--unit_vectors", action="store_true")
    parser.add_argument("--times", type=int, default=1, help="then again with this many copies of every file")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--replication", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of BLAS and OpenMP, in every process")
    parser.add_argument("--no_peer", action="store_true")
    parser.add_argument("--csv", type=pathlib.Path, help="write the table here too")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        run, spawned = json.loads(options.work)
        return work(Run(**run), spawned)
    vectors = options.unit_vectors
    data = Data(options.n or (200_000 if vectors else 20_000_000), options.dim or (768 if vectors else 8), vectors)
    paths = write(data, options.folder)
    rows = []
    for times in sorted({1, options.times}):
        with listed(paths, times) as pattern:
            for k in options.k or ([100, 500] if vectors else [20]):
                rows += rows_of(data, pattern, times, k, options)
    show(with_growth(rows, options.times) if options.times > 1 else rows, options.csv)
    return None


if __name__ == "__main__":
    main()
