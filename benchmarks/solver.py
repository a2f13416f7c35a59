"""The center solver beside scikit-learn's KMeans: cost over the best known, and time.

    python benchmarks/solver.py [--data DIR] [--seeds 3] [--powers 2 1]

DIR holds s1.txt, birch1.txt and unbalance.txt (Fraenti and Sieranoja, 2018), whose best known costs are compared with.
Without it, generated sets of similar shapes stand in, and the best cost of this run takes the place of the best known.
"""
import argparse
import dataclasses
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # both on one thread, before the libraries start theirs

import numpy as np
import numpy.typing as npt
import rich.console
import rich.table
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from beam_coresets.datasets.synthetic import GaussianMixture, SSet
from beam_coresets.points.nearest import cost
from beam_coresets.solvers.centers import solve_centers

Array = npt.NDArray[Any]

BEST_KNOWN = {  # (set, z): cost over all points
    ("s1", 2): 8.91762e12,
    ("s1", 1): 1.69079e8,
    ("birch1", 2): 9.27729e13,
    ("birch1", 1): 2.75388e9,
    ("unbalance", 2): 2.14492e11,
    ("digits", 2): 1.165165e6,
    ("digits", 1): 44_693.0,
}


@dataclasses.dataclass(frozen=True)
class Job:
    name: str
    points: Array
    k: int
    z: float


def jobs(folder: pathlib.Path | None, powers: list[float]) -> list[Job]:
    """Every data set with every power."""
    if folder is not None:
        named = {"s1": 15, "unbalance": 8, "birch1": 100}
        sets = [(name, np.loadtxt(folder / f"{name}.txt"), k) for name, k in named.items()]
    else:
        uneven = GaussianMixture(seed=1, d=2, k=8, concentration=0.3, outliers=0.0)
        grid = SSet(seed=1, k=100, deviation=16_000.0, gap=4.0)
        made = [("s-set", SSet(), 5000, 15), ("uneven", uneven, 6500, 8), ("grid", grid, 100_000, 100)]
        sets = [(name, instance.points(n).astype(np.float64), k) for name, instance, n, k in made]
    sets.append(("digits", load_digits().data, 10))
    return [Job(name, points, k, z) for name, points, k in sets for z in powers]


def ours(job: Job, seed: int) -> Array:
    return solve_centers(job.points, np.ones(len(job.points)), job.k, job.z, seed=seed).centers


def scikit_learn(job: Job, seed: int) -> Array:
    """Knows z = 2 only; scored with the job's z all the same."""
    centers: Array = KMeans(job.k, n_init=10, random_state=seed).fit(job.points).cluster_centers_
    return centers


SOLVERS: dict[str, Callable[[Job, int], Array]] = {"ours": ours, "scikit-learn": scikit_learn}


def measure(job: Job, solve: Callable[[Job, int], Array], seeds: int) -> tuple[list[float], float]:
    """The cost for each seed on all points, and the median time in seconds."""
    costs, times = [], []
    for seed in range(seeds):
        began = time.perf_counter()
        centers = solve(job, seed)
        times.append(time.perf_counter() - began)
        costs.append(cost(job.points, np.ones(len(job.points)), centers, job.z))
    return costs, statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="folder with s1.txt, birch1.txt and unbalance.txt")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--powers", type=float, nargs="+", default=[2.0, 1.0])
    options = parser.parse_args()
    ours(Job("compile", np.random.default_rng(0).normal(size=(200, 2)), 3, 2.0), 0)
    ours(Job("compile", np.random.default_rng(0).normal(size=(200, 64)), 3, 2.0), 0)
    table = rich.table.Table(title=f"cost over the best known, {options.seeds} seeds, one thread")
    for column in ("set", "n x d", "k", "z", "solver", "median", "worst", "seconds"):
        table.add_column(column, justify="left" if column in ("set", "solver") else "right")
    for job in jobs(options.data, options.powers):
        measured = {name: measure(job, solve, options.seeds) for name, solve in SOLVERS.items()}
        found = min(min(costs) for costs, _ in measured.values())
        best = BEST_KNOWN.get((job.name, int(job.z)), found) if job.z in (1, 2) else found
        shape = f"{job.points.shape[0]:,} x {job.points.shape[1]}"
        for name, (costs, seconds) in measured.items():
            ratios = f"{statistics.median(costs) / best:.5f}", f"{max(costs) / best:.5f}"
            table.add_row(job.name, shape, str(job.k), f"{job.z:g}", name, *ratios, f"{seconds:.2f}")
    rich.console.Console().print(table)


if __name__ == "__main__":
    main()
