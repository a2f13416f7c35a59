"""Algorithm 1 of Gandikota, Mazumdar and Rawat: k-median from the shards' own centers, and its printed factor, on S1.

    OMP_NUM_THREADS=1 python benchmarks/local_centers.py --data DIR            S1 from DIR (s1.txt)
    OMP_NUM_THREADS=1 python benchmarks/local_centers.py --seeds 20            a generated set of S1's shape

5,000 points, 15 medians, 10 shards; each seed draws the assignment and which shards are dropped, the same ones for all
methods. Cyclic assignment, l = 3, 2 dropped: local centers with the vector of Property 1 (lp) and with Theorem 6's
constant (uniform), the first with more than k centers a shard, and this package's default, sensitivity coresets with
recovery bucket by bucket. "bytes" is what a shard's report has of points and weights, on average. Then the paper's
assignment (Eq. 2, 65,536 hashed buckets: nearly by point) with p_a = 0.1, 0.2, 0.3 and 3 dropped, where points without
a holder leave nothing to prove. "over best" is the k-median cost on all points over the best known; "factor" what was
printed, and "within" in how many seeds the cost was within it; "interval" in how many the cost was in the printed one:
proved for local centers, 95 % for coresets.
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

from beam_coresets.coordinator.decision import decide
from beam_coresets.datasets.synthetic import SSet
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of, narrow
from beam_coresets.points.nearest import cost
from beam_coresets.results.summary import summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.solvers.centers import solve_centers

Array = npt.NDArray[Any]

SHARDS, K, POINTS, BUCKETS = 10, 15, 5_000, 65_536
BEST_KNOWN = 1.69079e8  # k-median on S1


@dataclasses.dataclass(frozen=True)
class Way:
    """A row of the table: a plan but for its seed, and how many shards are dropped."""

    name: str
    dropped: int
    plan: dict[str, Any]


CYCLIC = {"k": K, "z": 1.0, "shards": SHARDS, "replication": 3}
BERNOULLI = {"k": K, "z": 1.0, "shards": SHARDS, "scheme": "bernoulli", "buckets": BUCKETS}
WAYS = [
    Way("local centers, lp", 2, CYCLIC | {"summary": "local_centers"}),
    Way("local centers, uniform", 2, CYCLIC | {"summary": "local_centers", "recovery": "uniform"}),
    *(
        Way(f"local centers, {times} k a shard", 2, CYCLIC | {"summary": "local_centers", "local_centers": times * K})
        for times in (2, 4, 8, 16, 32)
    ),
    Way("coresets, exact (default)", 2, CYCLIC),
    *(
        Way(f"local centers, p_a = {holders / SHARDS}", 3, BERNOULLI | {
            "summary": "local_centers", "recovery": "uniform", "replication": holders})
        for holders in (1, 2, 3)
    ),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one seed: the cost on all points, what the summary said, and bytes of points and weights a shard."""

    cost: float
    row: dict[str, Any]
    size: float


def outcome(points: Array, way: Way, seed: int) -> Outcome:
    """One draw."""
    late = generator("local centers", "stragglers", seed).permutation(SHARDS)[: way.dropped]
    plan = Plan(**way.plan, drop_shards=tuple(late.tolist()), seed=seed)
    reports = shard_reports(blocks_of(points), plan.merge_reduce)
    summary = summarize(
        decide([report for report in reports if report.shard not in plan.drop_shards], plan.policy), plan.question
    )
    centers = np.array(summary.centers.column("coordinates").to_pylist())
    sent = statistics.mean(r.coreset.points.nbytes + r.coreset.weights.nbytes for r in reports)
    return Outcome(cost(points, np.ones(len(points)), centers, 1.0), summary.summaries.to_pylist()[0], sent)


def line(way: Way, found: list[Outcome], best: float) -> list[str]:
    """A row of the table."""
    ratios = [each.cost / best for each in found]
    uncovered = [1 - each.row["coverage"] for each in found]
    proved = [each for each in found if each.row["factor"] is not None]
    factors = [each.row["factor"] for each in proved]
    unproved = "no guarantee" if "summary" in way.plan else "-"
    within = sum(each.cost <= each.row["factor"] * best for each in proved)
    held = sum(
        each.row["cost_low"] <= each.cost and not each.cost > each.row["cost_high"]  # NaN where nothing is proved
        for each in found
    )
    return [
        way.name, f"{statistics.mean(each.size for each in found):,.0f}",
        f"{way.dropped}", f"{statistics.median(ratios):.5f}", f"{max(ratios):.5f}",
        f"{statistics.median(factors):.2f} ({max(factors):.2f})" if factors else unproved,
        f"{within} of {len(proved)}" if proved else "-",
        f"{held} of {len(found)}",
        f"{statistics.median(each.row['delta'] for each in found):.2f}",
        f"{statistics.median(uncovered):.2%} ({max(uncovered):.2%})",
        f"{sum(share > 0 for share in uncovered)} of {len(found)}",
        f"{statistics.median(each.row['cost'] / each.cost for each in found):.3f}",
    ]  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="folder with s1.txt")
    parser.add_argument("--seeds", type=int, default=100, help="draws of assignment and stragglers (default: 100)")
    options = parser.parse_args()
    if options.data:
        points, best = narrow(np.loadtxt(options.data / "s1.txt")), BEST_KNOWN
    else:
        points = SSet().points(POINTS)
        best = solve_centers(points, np.ones(POINTS), K, 1.0).cost
    where = "S1" if options.data else "a generated S-set"
    table = Table(title=f"{where}, {options.seeds} seeds, best known {best:.6g}")
    names = (
        "method", "bytes", "dropped", "over best", "worst", "factor (most)", "within", "interval", "delta",
        "no holder (most)", "seeds with some", "cost said / true",
    )  # fmt: skip
    for name in names:
        table.add_column(name, justify="left" if name == "method" else "right")
    for way in WAYS:
        table.add_row(*line(way, [outcome(points, way, seed) for seed in range(max(1, options.seeds))], best))
    console = Console()
    (console if console.is_terminal else Console(width=220)).print(table)


if __name__ == "__main__":
    main()
