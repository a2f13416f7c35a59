"""Figure 1 of Gandikota, Mazumdar and Rawat, *Reliable Distributed Clustering with Redundant Data Assignment*.

    python benchmarks/figure1.py --data DIR --out figure1.png        S1 from DIR (s1.txt, s1-cb.txt)
    python benchmarks/figure1.py --out figure1.png                   a generated set of S1's shape

5,000 points, 15 medians, 10 shards, 3 random ones straggle. (a) ground truth; (b) points partitioned, stragglers
ignored; (c), (d) Algorithm 1 with p_a = 0.1 and 0.2. In Algorithm 1 every shard sends its own k-median centers weighted
by the sizes of their clusters, and the coordinator solves weighted k-median on those that came. Its recovery vector is
constant for a random assignment (Theorem 6), which changes no center. (e), which the paper does not have, is this
package's default: coresets of 40 k points, cyclic assignment, l = 2, recovery bucket by bucket.

Assignment is by 65,536 hashed buckets, which is nearly by point. Costs are k-median costs on all points.

With our solver (b) is not poor: each shard's random tenth of the points is enough to place 15 separate medians, and the
panels differ by some ten-thousandths. `--swaps 0` takes a plain solver (one seeding, then descent), whose
local optima make any of the panels poor in some of the draws, (e) included.
"""
import argparse
import dataclasses
import pathlib
import statistics
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.datasets.synthetic import SSet
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of, narrow
from beam_coresets.points.nearest import cost
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment, split
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import Solution, solve_centers

Array = npt.NDArray[Any]

SHARDS, STRAGGLERS, K, POINTS, BUCKETS = 10, 3, 15, 5_000, 65_536
TITLES = {
    "a": "ground truth",
    "b": "partitioned, stragglers ignored",
    "c": "Algorithm 1, p_a = 0.1",
    "d": "Algorithm 1, p_a = 0.2",
    "e": "cyclic, l = 2, coresets, per-bucket recovery",
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """Centers (k, d), their k-median cost on all points, and the share of the points that no responding shard holds."""

    centers: Array
    cost: float
    unheld: float


def load(folder: pathlib.Path | None) -> tuple[Array, Array]:
    """Points (n, 2) and the true centers (k, 2)."""
    if folder is None:
        return SSet().points(POINTS), SSet().centers
    return narrow(np.loadtxt(folder / "s1.txt")), np.loadtxt(folder / "s1-cb.txt")


def stragglers(seed: int) -> set[int]:
    """Which shards never answer."""
    return set(generator("figure 1", "stragglers", seed).choice(SHARDS, STRAGGLERS, replace=False).tolist())


def medians(points: Array, weights: Array, seed: int, swaps: int | None, local: bool = False) -> Solution:
    """k-median; with `swaps` given, or on a shard, from one start."""
    restarts = None if swaps is None and not local else 1
    return solve_centers(points, weights, K, 1.0, seed=seed, restarts=restarts, swaps=swaps)


def algorithm_1(points: Array, assignment: Assignment, late: set[int], seed: int, swaps: int | None) -> Panel:
    """k-median from the weighted local centers of the shards that answer."""
    local_centers, sizes = [], []
    held = np.zeros(len(points), np.bool_)
    (block,) = blocks_of(points, rows=len(points))
    for shard, part in enumerate(split(block, assignment)):
        if shard in late:
            continue
        held[part.ids.astype(np.int64)] = True
        local = medians(part.points, part.weights, seed, swaps, local=True)
        local_centers.append(local.centers)
        sizes.append(np.bincount(local.index, part.weights, len(local.centers)))
    united, weights = np.concatenate(local_centers), np.concatenate(sizes)
    return panel(points, medians(united, weights, seed, swaps).centers, 1 - held.mean())


def default_method(points: Array, late: set[int], seed: int, swaps: int | None) -> Panel:
    """k-median on the coreset that this package recovers."""
    assignment = Assignment(SHARDS, 2, "cyclic", seed=seed)
    sampler = Sampler(K, 40 * K, 1.0, seed=seed)
    reports = shard_reports(blocks_of(points), MergeReduce(sampler, assignment, seed))
    decision = decide([report for report in reports if report.shard not in late], Policy(assignment))
    solved = medians(decision.coreset.points, decision.coreset.weights, seed, swaps)
    return panel(points, solved.centers, 1 - decision.points / len(points))


def panel(points: Array, centers: Array, unheld: float) -> Panel:
    """A panel with its cost on all points."""
    return Panel(centers, cost(points, np.ones(len(points)), centers, 1.0), float(unheld))


def panels(points: Array, truth: Array, seed: int, swaps: int | None = None) -> dict[str, Panel]:
    """All panels with one draw of assignment and stragglers; `swaps` as in `solve_centers`."""
    late = stragglers(seed)
    schemes = {"b": ("uniform", 1), "c": ("bernoulli", 1), "d": ("bernoulli", 2)}
    found = {"a": panel(points, truth, 0.0)}
    for letter, (kind, replication) in schemes.items():
        assignment = Assignment(SHARDS, replication, kind, BUCKETS, seed)
        found[letter] = algorithm_1(points, assignment, late, seed, swaps)
    return found | {"e": default_method(points, late, seed, swaps)}


def draw(points: Array, found: dict[str, Panel], path: pathlib.Path) -> None:
    """The paper's four panels as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 9), sharex=True, sharey=True)
    for letter, axis in zip("abcd", axes.flat, strict=True):
        axis.scatter(*points.T, s=1, color="0.7", rasterized=True)
        axis.scatter(*found["a"].centers.T, s=70, facecolors="none", edgecolors="tab:green", label="ground truth")
        if letter != "a":
            axis.scatter(*found[letter].centers.T, s=45, marker="x", color="tab:red", label="found")
        ratio = found[letter].cost / found["a"].cost
        axis.set_title(f"({letter}) {TITLES[letter]}\ncost {found[letter].cost:.4g} ({ratio:.3f})", fontsize=10)
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.legend(loc="lower left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """The picture of one seed, and numbers over several."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="folder with s1.txt and s1-cb.txt")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("figure1.png"))
    parser.add_argument("--seed", type=int, default=0, help="of the picture (default: 0)")
    parser.add_argument("--seeds", type=int, default=11, help="for the medians, from --seed on (default: 11)")
    parser.add_argument("--swaps", type=int, help="of the solver; 0 for a plain one (default: by size)")
    options = parser.parse_args()
    points, truth = load(options.data)
    runs = [panels(points, truth, options.seed + i, options.swaps) for i in range(max(1, options.seeds))]
    draw(points, runs[0], options.out)
    where = "S1" if options.data else "a generated S-set"
    table = Table(title=f"{where}: k-median cost on all points; stragglers {sorted(stragglers(options.seed))}")
    names = ("panel", "", "cost", "over truth", f"median of {len(runs)}", "worst", "no holder", "median no holder")
    for name in names:
        table.add_column(name, justify="left" if name in ("panel", "") else "right")
    for letter, title in TITLES.items():
        ratios = [run[letter].cost / run["a"].cost for run in runs]
        shares = [run[letter].unheld for run in runs]
        table.add_row(
            letter, title, f"{runs[0][letter].cost:.5g}", f"{ratios[0]:.4f}", f"{statistics.median(ratios):.4f}",
            f"{max(ratios):.4f}", f"{shares[0]:.3f}", f"{statistics.median(shares):.3f}",
        )  # fmt: skip
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    print(f"picture: {options.out}")


if __name__ == "__main__":
    main()
