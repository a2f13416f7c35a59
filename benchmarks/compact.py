"""A day of windows compacted while a stream writes and DuckDB reads: are counts ever wrong, and what does it gain?

    OMP_NUM_THREADS=1 python benchmarks/compact.py --windows 17280 --folder /tmp/day

The windows of 5 s are written by claims, as a stream writes them; their rows are those of one summary with other times
(`--points` in its coreset). Then one process goes on to publish windows of the next day, and some that come late into
the day itself; another asks DuckDB for `count(*)`, over and over, of `summaries` and of `coreset`, the whole glob at
once; a third runs `beam-coresets compact`. A count is right if it is no less than what had been published before the
query began, and no more than what has been when it ended. Printed are how many queries were right, wrong, and failed as
files were gone that they had listed; then bytes, files and seconds (the better of 2) of queries before and after.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

DAY, LENGTH = 1795219200.0, 5.0  # 2026-11-21
QUERIES = {
    "rows of summaries": "SELECT count(*) FROM '{folder}/summaries/**/*.parquet'",
    "mean coverage of an hour": "SELECT avg(coverage) FROM '{folder}/summaries/**/*.parquet' WHERE window_start "
    "BETWEEN TIMESTAMPTZ '2026-11-21 12:00:00Z' AND TIMESTAMPTZ '2026-11-21 13:00:00Z'",
    "weight of the coresets": "SELECT sum(weight) FROM '{folder}/coreset/**/*.parquet'",
}


def summaries(points: int) -> Callable[[float], Any]:
    """Start of a window -> its summary; the encoded rows differ in their times only."""
    from beam_coresets import Plan, Summary, blocks_of, decide, shard_reports, summarize
    from beam_coresets.streaming.windows import Window

    plan = Plan(k=4, shards=4, replication=2, coreset_size=max(8, points // 4), buckets=64)
    question = dataclasses.replace(plan.question, quick=True, columns=("a", "b"))
    rows = np.random.default_rng(0).standard_normal((2000, 2)).astype(np.float32)
    decision = decide(shard_reports(blocks_of(rows), plan.merge_reduce), plan.policy)
    summary = summarize(decision, question, reason="all", decided_at=DAY)

    def at(start: float) -> Any:
        window = Window(start, start + LENGTH)
        return Summary(window, (dataclasses.replace(summary.answers[0], window=window),))

    return at


def make(folder: str, windows: int, points: int) -> None:
    """A day's windows, each claimed and put into its place."""
    from beam_coresets.pipelines.results_folder.stream_folder import require_same_stream
    from beam_coresets.transforms.writing import atomic_files
    from beam_coresets.transforms.writing.claims import Claims

    os.fsync = lambda handle: None  # type: ignore[assignment]  # of making them: the drive need not keep up
    at, claims = summaries(points), Claims(folder)
    require_same_stream(claims, f"{LENGTH:g}s", None)
    for i in range(windows):
        claims.publish(at(DAY + i * LENGTH))
    assert atomic_files.names_in(os.path.join(folder, ".claims"))


def write(folder: str, points: int, late_from: int, begun: Any, ended: Any, over: Any) -> None:
    """Publishes until it is told to stop: windows of the next day, and each tenth one late in the day itself."""
    from beam_coresets.transforms.writing.claims import Claims

    at, claims, i = summaries(points), Claims(folder), 0
    while not over.is_set():
        late = i % 10 == 9 and late_from + i // 10 < 17280
        begun.value += 1
        assert claims.publish(at(DAY + LENGTH * (late_from + i // 10 if late else 17280 + i)))
        ended.value += 1
        i += 1
        time.sleep(0.02)


def read(folder: str, each: int, begun: Any, ended: Any, over: Any, results: Any) -> None:
    """Counts rows until it is told to stop: of `summaries`, where a window has one, and of `coreset`, where it has
    `each`."""
    import duckdb

    tally = {"right": 0, "wrong": 0, "gone": 0}
    wrong = []
    while not over.is_set():
        for table, rows in (("summaries", 1), ("coreset", each)):
            low = ended.value
            try:
                query = f"SELECT count(*) FROM '{folder}/{table}/**/*.parquet'"
                ((count,),) = duckdb.connect().execute(query).fetchall()
            except duckdb.IOException:
                tally["gone"] += 1
                continue
            high = begun.value
            right = low * rows <= count <= high * rows and count % rows == 0
            tally["right" if right else "wrong"] += 1
            wrong += [] if right else [(table, low * rows, count, high * rows)]
    results.put((tally, wrong[:5]))


def measured(folder: str) -> dict[str, Any]:
    """Bytes and files of the tables, and seconds of queries."""
    import duckdb

    files = [path for table in ("summaries", "centers", "coreset")
             for path in pathlib.Path(folder, table).rglob("*") if path.is_file()]  # fmt: skip
    claims = [path for path in pathlib.Path(folder, ".claims").iterdir() if path.is_file()]
    found: dict[str, Any] = {}
    for name, paths in (("tables", files), ("claims", claims)):
        sizes = [os.stat(path) for path in paths]
        found[name] = f"{len(paths):,} files, {sum(s.st_size for s in sizes) / 1e6:.1f} MB"
        found[f"{name} on the drive"] = f"{sum(s.st_blocks * 512 for s in sizes) / 1e6:.1f} MB"
    for name, query in QUERIES.items():
        took = []
        for _ in range(2):
            began = time.perf_counter()
            duckdb.connect().execute(query.format(folder=folder)).fetchall()
            took.append(time.perf_counter() - began)
        found[name] = f"{min(took):.3f} s"
    code = (
        "import time, sys; from beam_coresets.summaries import open_summaries; import numpy\n"
        "t = time.perf_counter(); w = open_summaries(sys.argv[1]).latest(); w.centers\n"
        "print(f'{time.perf_counter() - t:.3f} s')"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    found["open_summaries(...).latest()"] = done.stdout.strip()
    return found


def run(folder: str, windows: int, points: int) -> None:
    """Makes the day if it is not there, compacts it under load, and prints."""
    if not os.path.exists(os.path.join(folder, ".claims")):
        began = time.perf_counter()
        fork.Process(target=make, args=(folder, windows, points)).start()
        for child in multiprocessing.active_children():
            child.join()
        print(f"{windows:,} windows made in {time.perf_counter() - began:.0f} s", flush=True)
    names = [name for name in os.listdir(os.path.join(folder, ".claims")) if name.endswith(".json")]
    if len(names) != windows:
        raise SystemExit(f"folder: must hold {windows:,} windows as they were made, got {len(names):,} in {folder!r}")
    before = measured(folder)
    print(json.dumps({"before": before}, indent=1), flush=True)
    each = len(summaries(points)(DAY).table("coreset"))
    begun, ended, over = (fork.Value("q", windows), fork.Value("q", windows), fork.Event())
    results = fork.Queue()
    workers = [
        fork.Process(target=write, args=(folder, points, windows, begun, ended, over)),
        fork.Process(target=read, args=(folder, each, begun, ended, over, results)),
    ]
    for worker in workers:
        worker.start()
    time.sleep(5)
    began = time.perf_counter()
    command = [sys.executable, "-m", "beam_coresets", "compact", folder, "--after", "0s"]
    for _ in range(3):  # the second and the third take what has come late
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(), flush=True)
        print(f"after {time.perf_counter() - began:.1f} s", flush=True)
        time.sleep(5)
    over.set()
    tally, wrong = results.get()
    for worker in workers:
        worker.join()
    print(json.dumps({"queries": tally, "wrong": wrong, "published meanwhile": ended.value - windows}), flush=True)
    print(json.dumps({"after": measured(folder)}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=17280 - 200, help="of the day before it is compacted")
    parser.add_argument("--points", type=int, default=40, help="of a window's coreset")
    parser.add_argument("--folder", help="keeps the windows; one that is there already is used")
    given = parser.parse_args()
    fork = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        run(given.folder or os.path.join(temporary, "day"), given.windows, given.points)
