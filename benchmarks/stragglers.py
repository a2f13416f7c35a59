"""What stragglers cost: centers solved from the shards that answered, scored on all data, against the best known.

    python benchmarks/stragglers.py --data DIR        S1, unbalance, birch1 from DIR (s1.txt, unbalance.txt, birch1.txt)
    python benchmarks/stragglers.py --loss            replication 1: is the interval right about what was lost?

Without --data, a generated set of S1's shape; its best known cost is then the same solver's on all points.
"""
import argparse
import itertools
import pathlib
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.datasets.synthetic import SSet
from beam_coresets.points.block import blocks_of
from beam_coresets.points.nearest import cost
from beam_coresets.results.certificate import fitted_interval, fixed_interval
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import solve_centers

BEST = {"s1": (15, 8.91762e12), "unbalance": (8, 2.14492e11), "birch1": (100, 9.27729e13)}
SETTINGS = {"s1": (300, 45), "unbalance": (300, 45), "birch1": (2000, 10)}


def load(name: str, folder: str | None) -> tuple[np.ndarray, int, float]:
    """Points, k and the best known k-means cost."""
    if folder is None:
        points = SSet().points(5000)
        found = solve_centers(points, np.ones(len(points)), 15)
        return points, 15, cost(points.astype(np.float64), np.ones(len(points)), found.centers)
    k, best = BEST[name]
    return np.loadtxt(pathlib.Path(folder) / f"{name}.txt"), k, best


def reports_of(points: np.ndarray, k: int, size: int, replication: int, scheme: str, seed: int) -> tuple[list, Policy]:
    """Ten shards' reports."""
    assignment = Assignment(10, replication, scheme, seed=seed)
    merge_reduce = MergeReduce(Sampler(k=k, size=size, seed=seed), assignment, seed)
    return shard_reports(blocks_of(points), merge_reduce), Policy(assignment)


def dropped_pairs(name: str, folder: str | None, scheme: str, table: Table) -> None:
    """Costs of the centers for pairs of dropped shards, as ratios to the best known."""
    points, k, best = load(name, folder)
    size, count = SETTINGS[name]
    reports, policy = reports_of(points, k, size, 3, scheme, 0)
    ratios, worst_total, coverage, began = [], 0.0, 1.0, time.perf_counter()
    pairs = list(itertools.combinations(range(10), 2))
    for pair in pairs if count == 45 else pairs[:: len(pairs) // count][:count]:
        decision = decide([r for r in reports if r.shard not in pair], policy)
        found = solve_centers(decision.coreset.points, decision.coreset.weights, k)
        ratios.append(cost(points, np.ones(len(points)), found.centers) / best)
        worst_total = max(worst_total, abs(decision.coreset.weights.sum() / len(points) - 1))
        coverage = min(coverage, decision.recovery.coverage)
    table.add_row(
        name, str(len(points)), str(size), str(len(ratios)), f"{coverage:.3f}", f"{worst_total:.1e}",
        f"{np.median(ratios):.4f}", f"{max(ratios):.4f}", f"{(time.perf_counter() - began) / len(ratios):.2f} s",
    )


def loss(folder: str | None, seeds: int, console: Console) -> None:
    """Replication 1, two of ten dropped: how often the interval holds the truth, and what was reported."""
    points, k, _ = load("s1", folder)
    ones = np.ones(len(points))
    held, widths, coverages, totals = {"fixed": 0, "emitted": 0}, [], [], []
    fixed = solve_centers(points, ones, k).centers
    truth = cost(points, ones, fixed)
    for seed in range(seeds):
        reports, policy = reports_of(points, k, 300, 1, "cyclic", seed)
        decision = decide([r for r in reports if r.shard not in (1, 4)], policy)
        interval = fixed_interval(decision, fixed)
        held["fixed"] += interval.low <= truth <= interval.high
        found = solve_centers(decision.coreset.points, decision.coreset.weights, k, restarts=1, seed=seed).centers
        interval = fitted_interval(decision, found)
        held["emitted"] += interval.low <= cost(points, ones, found) <= interval.high
        widths.append((interval.high - interval.low) / 2 / interval.estimate)
        coverages.append(decision.recovery.coverage)
        totals.append(decision.total_weight / len(points))
    console.print(f"S1, l = 1, shards 1 and 4 dropped, {seeds} seeds")
    console.print(f"coverage {np.mean(coverages):.3f}, scaled total / n {np.mean(totals):.4f} +- {np.std(totals):.4f}")
    shares = f"fixed centers {held['fixed'] / seeds:.3f}, emitted {held['emitted'] / seeds:.3f}"
    console.print(f"95 % interval held the truth: {shares}")
    console.print(f"median half-width {np.median(widths):.3f} of the cost")


def main() -> None:
    """Runs what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the public benchmark sets")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--scheme", default="cyclic")
    args = parser.parse_args()
    console = Console()
    if args.loss:
        return loss(args.data, args.seeds, console)
    table = Table(title=f"10 shards, {args.scheme}, l = 3, two dropped; cost on all data over the best known")
    for name in ("set", "n", "points a shard", "pairs", "coverage", "|total/n - 1|", "median", "worst", "solve"):
        table.add_column(name, justify="right")
    for name in SETTINGS if args.data else ("s1",):
        dropped_pairs(name, args.data, args.scheme, table)
    console.print(table)
    return None


if __name__ == "__main__":
    main()
