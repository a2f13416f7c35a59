"""How long `beam_coresets.summaries` takes, and how much memory: the latest of many windows, and a month rolled up.

    OMP_NUM_THREADS=1 python benchmarks/reading.py latest --windows 1000 --points 1000
    OMP_NUM_THREADS=1 python benchmarks/reading.py rollup --windows 8640 --points 200

`make` writes the windows as a stream does, by claims (`--folder` keeps them for another run); the rows of one day come
again the next day. `latest` opens the folder
and solves the latest window again; `rollup` merges all of them, and measures the distortion on the rows themselves: the
cost of many sets of centers on the data over that on the rolled-up coreset. Each runs in a process of its own; seconds
are wall clock from the start of Python, and of these what imports took, memory is the largest resident set.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

START, LENGTH = 1795219200.0, 300.0  # 2026-11-21, windows of five minutes
COLUMNS = ("a", "b", "c", "d")
ROWS, DIM, K = 2000, len(COLUMNS), 10  # of a window
DISTINCT = 288  # windows of a day, after which the next has the same rows


def points_of(number: int) -> Array:
    """The rows of a window, (ROWS, DIM) float32: ten places that move in the course of a day."""
    number %= DISTINCT
    rng = np.random.default_rng(number)
    places = np.random.default_rng(0).standard_normal((K, DIM)) * 8
    places = places + np.sin(2 * np.pi * number / DISTINCT + np.arange(K))[:, None]
    return np.asarray(places[rng.integers(0, K, ROWS)] + rng.standard_normal((ROWS, DIM)), np.float32)


def make(folder: str, windows: int, points: int, form: str) -> None:
    """The windows, each claimed and put into its place."""
    from beam_coresets import Plan, Summary, blocks_of, decide, shard_reports, summarize
    from beam_coresets.streaming.windows import Window
    from beam_coresets.transforms.writing.claims import Claims

    plan = Plan(k=K, shards=4, replication=2, coreset_size=points // 4, buckets=64)
    question = dataclasses.replace(plan.question, quick=True, columns=COLUMNS)
    claims = Claims(folder, form)
    day = []
    for i in range(windows):
        window = Window(START + i * LENGTH, START + (i + 1) * LENGTH)
        if i < DISTINCT:
            decision = decide(shard_reports(blocks_of(points_of(i)), plan.merge_reduce), plan.policy)
            day.append(summarize(decision, question, reason="all", decided_at=window.end))
        (answer,) = day[i % DISTINCT].answers
        claims.publish(Summary(window, (dataclasses.replace(answer, window=window),)))


def latest(folder: str) -> dict[str, Any]:
    """Opens the folder and solves the latest window."""
    from beam_coresets.summaries import open_summaries

    imported = time.time()
    window = open_summaries(folder).latest()
    solved = window.coreset.solve()
    used = time.process_time()
    cost = str(solved.certificate.cost)
    return {"imported": imported, "processor": used, "points": len(window.coreset), "cost": cost}


def rollup(folder: str) -> dict[str, Any]:
    """All windows as one, and the distortion of its coreset."""
    from beam_coresets.summaries import open_summaries

    imported = time.time()
    windows = open_summaries(folder)
    period = windows.rollup()
    took = {"done": time.time(), "processor": time.process_time(), "memory": memory()}
    from beam_coresets.results.distortion import center_sets
    from beam_coresets.solvers.model import point_costs

    X, weight = period.coreset.to_sklearn()
    sets = center_sets(X, period.centers, [period.coreset.solve(seed=1).centers])
    on_data = np.zeros(len(sets))
    times = np.bincount(np.arange(len(windows)) % DISTINCT, minlength=DISTINCT)
    for i in np.flatnonzero(times):
        rows = points_of(int(i))
        on_data += [times[i] * point_costs(rows, centers)[1].sum() for _, centers in sets]
    on_coreset = np.array([point_costs(X, centers)[1] @ weight for _, centers in sets])
    ratio = on_data / on_coreset
    said, cost = period.certificate.cost, on_data[0]
    return {
        **took, "imported": imported, "windows": len(windows), "points": len(period.coreset),
        "distortion": float(np.maximum(ratio, 1 / ratio).max()), "certificate": str(said), "truth": float(cost),
        "half_width": float((said.high - said.low) / 2 / said.value),
        "inside": bool(said.low <= cost <= said.high),
    }  # fmt: skip


def memory() -> int:
    """The largest resident set so far, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(what: str, folder: str) -> dict[str, Any]:
    """What a fresh process finds, and what it took."""
    began = time.time()
    command = [sys.executable, __file__, what, "--folder", folder, "--here"]
    done = subprocess.run(command, capture_output=True, text=True)
    ended = time.time()
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["seconds"] = found.pop("done", ended) - began
    found["imports"] = found.pop("imported") - began
    found["megabytes"] = found.pop("memory") / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "latest", "rollup"])
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--points", type=int, default=1000, help="of a window's coreset")
    parser.add_argument("--format", default="parquet")
    parser.add_argument("--folder", help="where the windows are, or are to be")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="in this process, once")
    given = parser.parse_args()
    if given.here:
        found = {"latest": latest, "rollup": rollup}[given.what](given.folder)
        print(json.dumps({"memory": memory(), **found}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or temporary
        if not os.path.isdir(os.path.join(folder, "summaries")):
            make(folder, given.windows, given.points, given.format)
        for _ in range(given.times if given.what != "make" else 0):
            print(", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                            for name, value in measured(given.what, folder).items()), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
