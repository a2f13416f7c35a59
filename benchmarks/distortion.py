"""How far a coreset's cost is from the data's: one shard, 20 to 200 points a center, five shapes of data, all sampling
methods.

    OMP_NUM_THREADS=1 python benchmarks/distortion.py --data DIR --shapes DIR --csv distortion.csv
    OMP_NUM_THREADS=1 python benchmarks/distortion.py --data DIR --shapes DIR --groups

--data has s1.txt and birch1.txt, --shapes has gm.npy, ht.npy and digits.npy; what is not there is generated in the same
shape and marked with a *. Distortion is the largest max(cost(P, C) / cost(S, C), its inverse) over the center sets of
`beam_coresets.results.distortion.center_sets`; the table has its median and maximum over seeds. With --groups it says
instead how many groups `rings_and_groups` makes of each shape, and how many the paper's bound allows.
"""
import argparse
import csv
import dataclasses
import pathlib
import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from beam_coresets.datasets.synthetic import GaussianMixture, HeavyTails, SSet
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of, narrow
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import nearest, power_of_distance
from beam_coresets.results.distortion import Measured, center_sets, costs
from beam_coresets.sampling.importance import METHODS, Sampler
from beam_coresets.sampling.rings_and_groups import groups, most_groups
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import refine, solve_centers

Array = npt.NDArray[Any]

CENTERS = {"S1": 15, "birch1": 100, "digits": 10, "ht": 50, "gm": 20}
POINTS_PER_CENTER = (20, 40, 100, 200)
EPSILONS = (0.02, 0.1, 0.5)
ON_CENTERS = "rings_and_groups, on centers"  # its leftover as printed
CHOICES = (*(method for method in METHODS if method != "subspace"), ON_CENTERS)
SOLVED_ROWS = 200_000
OWN_SEEDS = (0, 1)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Points (n, d) with their k; `generated` where the public set was not at hand."""

    name: str
    points: Array
    k: int
    generated: bool


@dataclasses.dataclass(frozen=True)
class Reference:
    """The center sets that do not depend on the coreset, and their cost on all of the data."""

    sets: list[tuple[str, Array]]
    data_costs: Array


def load(name: str, data: pathlib.Path | None, shapes: pathlib.Path | None) -> Shape:
    """The public set where its folder is given and has it, else a generated one of the same size."""
    text = data / f"{name.lower()}.txt" if data else None
    array = shapes / f"{name}.npy" if shapes else None
    if text is not None and text.exists():
        return Shape(name, narrow(np.loadtxt(text)), CENTERS[name], False)
    if array is not None and array.exists():
        return Shape(name, narrow(np.load(array)), CENTERS[name], False)
    if name == "digits":
        return Shape(name, narrow(load_digits().data), CENTERS[name], False)
    made = {
        "S1": (SSet(), 5_000),
        "birch1": (SSet(seed=1, k=100, deviation=16_000.0, gap=4.0), 100_000),
        "ht": (HeavyTails(seed=2), 200_000),
        "gm": (GaussianMixture(seed=1), 2_000_000),
    }
    instance, n = made[name]
    return Shape(name, instance.points(n), CENTERS[name], True)


def reference(shape: Shape, z: float) -> Reference:
    """Solves for the best centers on up to 200,000 points; costs are of all points."""
    sample = shape.points
    if len(sample) > SOLVED_ROWS:
        sample = sample[generator("distortion", shape.name).choice(len(sample), SOLVED_ROWS, replace=False)]
    best = solve_centers(sample, np.ones(len(sample)), shape.k, z).centers
    sets = center_sets(shape.points, best, [], z)
    return Reference(sets, costs(shape.points, np.ones(len(shape.points)), sets, z))


def coreset_of(shape: Shape, method: str, size: int, z: float, seed: int) -> Coreset:
    """The coreset of a single shard."""
    name, leftover = ("rings_and_groups", "centers") if method == ON_CENTERS else (method, "points")
    sampler = Sampler(shape.k, size, z, name, seed=seed, leftover=leftover)
    (report,) = shard_reports(blocks_of(shape.points), MergeReduce(sampler, Assignment(1, 1), seed))
    return report.coreset


def by_us(coreset: Coreset, k: int, z: float, seed: int) -> np.ndarray:
    """Our solver: it finds what the sample has too little of, so its own solutions are the hardest center sets."""
    return solve_centers(coreset.points, coreset.weights, k, z, seed=seed).centers


def by_lloyd(coreset: Coreset, k: int, z: float, seed: int) -> np.ndarray:
    """scikit-learn's KMeans from one start, as published distortions are measured; descended further for z = 1."""
    found = KMeans(k, n_init=1, random_state=seed).fit(coreset.points, sample_weight=coreset.weights).cluster_centers_
    return found if z == 2 else refine(coreset.points, coreset.weights, found, z).centers


SOLVERS = {"ours": by_us, "lloyd": by_lloyd}


def worst(shape: Shape, known: Reference, coreset: Coreset, z: float, solver: str) -> Measured:
    """The center set with the largest distortion, solutions of the coreset itself among them."""
    solved = [SOLVERS[solver](coreset, shape.k, z, s) for s in OWN_SEEDS]
    own = [("own", centers) for centers in solved]
    own_costs = costs(shape.points, np.ones(len(shape.points)), own, z)
    sets = known.sets + own
    on_data = np.concatenate([known.data_costs, own_costs])
    on_coreset = costs(coreset.points, coreset.weights, sets, z)
    found = [Measured(name, p, s) for (name, _), p, s in zip(sets, on_data, on_coreset, strict=True)]
    return max(found, key=lambda measured: measured.distortion)


def measure(
    shape: Shape, known: Reference, z: float, a_center: int, methods: list[str], seeds: int, solver: str
) -> list[dict[str, Any]]:
    """One row a method."""
    rows = []
    for method in methods:
        found, began = [], time.perf_counter()
        for seed in range(seeds):
            coreset = coreset_of(shape, method, a_center * shape.k, z, seed)
            found.append(worst(shape, known, coreset, z, solver))
        values = [measured.distortion for measured in found]
        rows.append({
            "shape": shape.name + ("*" if shape.generated else ""), "n": len(shape.points),
            "d": shape.points.shape[1], "k": shape.k, "z": z, "a center": a_center, "method": method, "seeds": seeds,
            "median": statistics.median(values), "max": max(values),
            "worst sets": " ".join(sorted({measured.name for measured in found})),
            "seconds a seed": (time.perf_counter() - began) / seeds,
        })  # fmt: skip
    return rows


def count_groups(shape: Shape, z: float, best: Array) -> list[dict[str, Any]]:
    """Groups of all points around the best known centers, one row an epsilon."""
    index, dist_sq = nearest(shape.points, best.astype(shape.points.dtype))
    cost, ones = power_of_distance(dist_sq, z), np.ones(len(shape.points))
    rows = []
    for epsilon in EPSILONS:
        group = groups(index, cost, ones, shape.k, z, epsilon)
        rows.append({
            "shape": shape.name + ("*" if shape.generated else ""), "k": shape.k, "z": z, "epsilon": epsilon,
            "groups": int(group.max()) + 1, "bound": most_groups(shape.k, z, epsilon),
            "leftover points": float((group < 0).mean()), "leftover cost": float(cost[group < 0].sum() / cost.sum()),
        })  # fmt: skip
    return rows


def main() -> None:
    """Measures what the options ask for, and prints as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="folder with s1.txt and birch1.txt")
    parser.add_argument("--shapes", type=pathlib.Path, help="folder with gm.npy, ht.npy and digits.npy")
    parser.add_argument("--names", nargs="+", choices=CENTERS, default=list(CENTERS))
    parser.add_argument("--methods", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--seeds", type=int, default=5, help="0 to this many minus one (default: 5)")
    parser.add_argument("--z", type=float, nargs="+", default=[2.0, 1.0, 3.0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(POINTS_PER_CENTER), help="points a center")
    parser.add_argument("--most", type=int, help="take only so many points of each shape")
    parser.add_argument("--groups", action="store_true", help="count the groups of rings_and_groups")
    parser.add_argument("--solver", choices=SOLVERS, default="ours", help="of the coreset's own solutions")
    parser.add_argument("--csv", type=pathlib.Path, help="write the table here too")
    options = parser.parse_args()
    rows = []
    for name in options.names:
        shape = load(name, options.data, options.shapes)
        shape = dataclasses.replace(shape, points=shape.points[: options.most])
        for z in options.z:
            known = reference(shape, z)
            if options.groups:
                rows += count_groups(shape, z, known.sets[0][1])
                continue
            for a_center in options.sizes:
                last = measure(shape, known, z, a_center, options.methods, options.seeds, options.solver)
                found = (f"{row['method']} {row['median']:.4f} {row['max']:.4f};" for row in last)
                print(last[0]["shape"], f"z={z:g} {a_center} k:", *found, flush=True)
                rows += last
    what = "groups and their bound" if options.groups else f"distortion, one shard, {options.seeds} seeds"
    table = Table(title=f"{what} (* generated)")
    for column in rows[0]:
        table.add_column(column, justify="left" if column in ("shape", "method", "worst sets") else "right")
    for row in rows:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) and k != "z" else f"{v}" for k, v in row.items()))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
