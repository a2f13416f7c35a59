"""(r, k)-subspace clustering with stragglers: what flats solved on the emitted coreset cost on all data, over what the
same solver finds on all data.

    OMP_NUM_THREADS=1 python benchmarks/subspaces.py
    OMP_NUM_THREADS=1 python benchmarks/subspaces.py --sizes 40 --seeds 3 --n 50000

k planted r-planes in d dimensions with noise, of uneven shares, extents and noise (`PlantedSubspaces`, another one for
each seed); s = 10 shards, cyclic l = 3, 2 of them dropped. Side by side, at equal size: `subspace` sampling (leverage
and residual), `sensitivity` (distances to centers) and `uniform`; each cell is the median and the maximum over seeds.
Then how many points a second `thin` takes in on one 65,536-row leaf.
"""
import argparse
import csv
import itertools
import pathlib
import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.datasets.structured import PlantedSubspaces
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.flats import nearest_flat
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.subspaces import Subspaces, solve_subspaces

Array = npt.NDArray[Any]

SHARDS, REPLICATION, DROPPED = 10, 3, (1, 4)
METHODS = ("subspace", "sensitivity", "uniform")
LEAF = 65_536


def coreset_of(points: Array, sampler: Sampler, seed: int) -> Coreset:
    """What is emitted once two shards have been given up."""
    assignment = Assignment(SHARDS, REPLICATION, "cyclic", seed=seed)
    reports = shard_reports(blocks_of(points), MergeReduce(sampler, assignment, seed))
    return decide([report for report in reports if report.shard not in DROPPED], Policy(assignment)).coreset


def cost(points: Array, flats: Subspaces) -> float:
    """On all data, in float64."""
    return float(nearest_flat(points, flats.flats)[1].sum())


def measure(instance: PlantedSubspaces, n: int, sizes: list[int], seed: int) -> dict[tuple[str, int], float]:
    """(method, points a flat) -> cost on all data over that of the flats solved on all data."""
    points, k, r, affine = instance.points(n), instance.k, instance.r, instance.affine
    best = cost(points, solve_subspaces(points, np.ones(n), k, r, affine=affine, seed=seed))
    found = {}
    for method, size in itertools.product(METHODS, sizes):
        sampler = Sampler(k, size * k, 2.0, method, seed, r=r, affine=affine)
        coreset = coreset_of(points, sampler, seed)
        flats = solve_subspaces(coreset.points, coreset.weights, k, r, affine=affine, seed=seed)
        found[method, size] = cost(points, flats) / best
    return found


def rate(instance: PlantedSubspaces, method: str, repeats: int = 5) -> float:
    """M points/s of the bare thin: one leaf to eight times a finished coreset's points; the best of some."""
    points, weights, strata = instance.points(LEAF), np.ones(LEAF), np.zeros(LEAF, np.int32)
    k = instance.k
    sampler = Sampler(k, 40 * k, 2.0, method, r=instance.r, affine=instance.affine)
    seconds = []
    for repeat in range(repeats + 1):  # the first one compiles
        began = time.perf_counter()
        sampler.thin(points, weights, strata, 320 * k, generator("rate", repeat))
        seconds.append(time.perf_counter() - began)
    return LEAF / min(seconds[1:]) / 1e6


def cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each setting and size."""
    rows = []
    kinds = [kind == "affine" for kind in options.kinds]
    for affine, r, d, k in itertools.product(kinds, options.r, options.d, options.k):
        runs = []
        for seed in range(options.seeds):
            instance = PlantedSubspaces(seed=seed, d=d, k=k, r=r, affine=affine, outliers=options.outliers)
            runs.append(measure(instance, options.n, options.sizes, seed))
        for size in options.sizes:
            row = {"kind": "affine" if affine else "linear", "r": r, "d": d, "k": k, "points a flat": size}
            for method in METHODS:
                ratios = [run[method, size] for run in runs]
                row |= {method: statistics.median(ratios), f"{method} max": max(ratios)}
            rows.append(row)
            print(*(f"{v:.4f}" if isinstance(v, float) else v for v in row.values()), flush=True)
    return rows


def rates(options: argparse.Namespace) -> list[dict[str, Any]]:
    """M points/s by setting and method."""
    rows = []
    for r, d, k in itertools.product(options.r, options.d, options.k):
        instance = PlantedSubspaces(d=d, k=k, r=r)
        rows.append({"r": r, "d": d, "k": k} | {method: rate(instance, method) for method in METHODS})
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Prints rows as a table."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def main() -> None:
    """Measures what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--r", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--d", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--k", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--kinds", nargs="+", choices=("affine", "linear"), default=["affine", "linear"])
    parser.add_argument("--n", type=int, default=100_000, help="points (default: 100,000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 40], help="points a shard keeps for each flat")
    parser.add_argument("--seeds", type=int, default=5, help="0 to this many minus one (default: 5)")
    parser.add_argument("--outliers", type=float, default=0.0, help="share of points of no plane (default: 0)")
    parser.add_argument("--csv", type=pathlib.Path, help="write the first table here too")
    options = parser.parse_args()
    rows = cells(options)
    dropped = f"{len(DROPPED)} of {SHARDS} dropped"
    show(f"cost over that of the same solver on all {options.n:,} points, l = {REPLICATION}, {dropped}", rows)
    show(f"thin, M points/s on a leaf of {LEAF:,} rows", rates(options))
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
