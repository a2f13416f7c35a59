"""Fair clusters from a coreset: what fairness costs, how well it is kept, and how far the coreset's cost is from the
data's.

    OMP_NUM_THREADS=1 python benchmarks/fair.py

Two generated tables, of 2 and of 5 groups, clusters and groups being correlated. Every group may have 0.8 to 1.25 times
its share of all rows in each cluster. Centers are solved by the same solver without the constraint, on all rows, and on
the coreset of ten shards (replication 3, two of them dropped, each label sampled on its own). The cost is that of the
exact cheapest fair assignment of all rows to the coreset's centers, over that to the centers solved on all rows. The
error is that of the fair cost itself, the mean and the largest over fixed centers (solved with and without the
constraint, moved about, and drawn by D^2 sampling), relative to the exact one on all rows. `rounded` is the violation
of whole rows.
"""
import argparse
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.datasets.structured import Grouped
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.constrained.bounds import Bounds
from beam_coresets.solvers.constrained.constraints import Constraint, Fair
from beam_coresets.solvers.constrained.rounding import rounded
from beam_coresets.solvers.constrained.solver import cost_matrix, labels_of, solve_constrained
from beam_coresets.solvers.constrained.transport import Transport, transport

Array = npt.NDArray[Any]

SHAPES = {"2 groups": Grouped(seed=1, groups=2), "5 groups": Grouped(seed=2, groups=5, tilt=1.0)}
LOWEST, HIGHEST = 0.8, 1.25  # of a group's share of all rows
SHARDS, REPLICATION, DROPPED = 10, 3, (1, 4)


@dataclasses.dataclass(frozen=True)
class Data:
    """Points (n, d) with the number of each one's group (n,)."""

    points: Array
    group: Array
    k: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"g{j}" for j in range(int(self.group.max()) + 1))

    @property
    def constraint(self) -> Constraint:
        shares = np.bincount(self.group) / len(self.group)
        return Constraint(
            fair=tuple(
                Fair(name, LOWEST * share, min(1.0, HIGHEST * share))
                for name, share in zip(self.names, shares.tolist(), strict=True)
            )
        )

    @property
    def bounds(self) -> Bounds:
        return self.constraint.bounds(self.names, np.bincount(self.group).astype(float), self.k)

    def blocks(self) -> Iterator[PointBlock]:
        names = np.array(self.names)
        for block in blocks_of(self.points):
            own = self.group[block.ids.astype(np.int64)]
            yield dataclasses.replace(block, groups=own, extras=pa.table({"group": names[own]}))

    @property
    def whole(self) -> Coreset:
        return Coreset.union([Coreset.of(block) for block in self.blocks()])

    def assigned(self, centers: Array) -> Transport:
        """The cheapest fair assignment of all rows."""
        return transport(cost_matrix(self.points, centers), np.ones(len(self.points)), self.group, self.bounds)


def coreset_of(data: Data, size: int, seed: int) -> Coreset:
    """What the shards that answer make of it, about `size` points in all."""
    assignment = Assignment(SHARDS, REPLICATION, seed=seed)
    sampler = Sampler(data.k, max(data.k, round(size / (SHARDS - len(DROPPED)))), seed=seed)
    reports = shard_reports(data.blocks(), MergeReduce(sampler, assignment, seed, labelled=True))
    return decide([r for r in reports if r.shard not in DROPPED], Policy(assignment)).coreset


def center_sets(data: Data, solved: list[Array], count: int) -> list[Array]:
    """Centers that the coresets have not seen: solved on all rows, moved about, and drawn by D^2 sampling."""
    rng, points = generator("fair", "centers"), data.points
    spread = points.std(axis=0)
    moved = [c + 0.3 * spread * rng.standard_normal(c.shape) for c in solved for _ in range(count)]
    drawn = [points[dz_seeding(points, np.ones(len(points)), data.k, 2.0, rng)].astype(float) for _ in range(count)]
    return [*solved, *moved, *drawn]


def error(data: Data, coreset: Coreset, sets: list[Array], known: list[float]) -> Array:
    """Of the fair cost on the coreset, relative, for each center set."""
    labels, label = labels_of(coreset, data.constraint)
    totals = np.bincount(label, coreset.weights, len(labels))
    bounds = data.constraint.bounds(labels, totals, data.k)
    found = [transport(cost_matrix(coreset.points, c), coreset.weights, label, bounds).cost for c in sets]
    return np.array(found) / known - 1


def compare(name: str, data: Data, seeds: int, sets_of_each: int, console: Console) -> None:
    began = time.perf_counter()
    full = solve_constrained(data.whole, data.k, data.constraint)
    seconds = time.perf_counter() - began
    ones = np.ones(len(data.points))
    free = solve_centers(data.points, ones, data.k)
    before = np.zeros((len(data.names), data.k))
    np.add.at(before, (data.group, free.index), 1.0)
    fair = data.assigned(full.centers).cost
    console.print(
        f"[bold]{name}[/] ({len(data.points):,} rows, k = {data.k})   price of fairness {fair / free.cost:.3f} "
        f"(fair {fair:.6g}, unconstrained {free.cost:.6g}); unconstrained clusters violate the bounds by "
        f"{data.bounds.violation(before):.0%}; {seconds:.1f} s on all rows",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    sets = center_sets(data, [free.centers, full.centers], sets_of_each)
    known = [data.assigned(centers).cost for centers in sets]
    table = Table(box=None, padding=(0, 2, 0, 0))
    titles = ("coreset", "points", "cost / all rows'", "worst", "s", "violation", "rounded", "error", "largest")
    for title in titles:
        table.add_column(title, justify="right")
    for times in (20, 40, 100):
        table.add_row(f"{times} k", *_measured(data, times, seeds, fair, sets, known))
    console.print(table, highlight=False)


def _measured(data: Data, times: int, seeds: int, fair: float, sets: list[Array], known: list[float]) -> list[str]:
    ratios, seconds, plain, whole, errors, points = [], [], [], [], [], []
    for seed in range(seeds):
        coreset = coreset_of(data, times * data.k, seed)
        began = time.perf_counter()
        model = solve_constrained(coreset, data.k, data.constraint, seed=seed)
        seconds.append(time.perf_counter() - began)
        flow = data.assigned(model.centers)
        ratios.append(flow.cost / fair)
        plain.append(data.bounds.violation(flow.table(data.group)))
        cost = cost_matrix(data.points, model.centers)
        whole.append(rounded(flow, cost, np.ones(len(cost)), data.group, data.bounds).violation)
        errors.append(abs(error(data, coreset, sets, known)))
        points.append(len(coreset))
    each = np.array(errors)
    return [
        f"{np.mean(points):,.0f}", f"{np.median(ratios):.4f}", f"{max(ratios):.4f}", f"{np.median(seconds):.2f}",
        f"{max(plain):.1e}", f"{max(whole):.2%}", f"{each.mean():.2%}", f"{each.max():.2%}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", type=int, default=3, help="moved and drawn center sets of each kind")
    known, console = parser.parse_args(), Console()
    for name, instance in SHAPES.items():
        data = Data(instance.points(known.rows, known.rows), instance.group(0, known.rows), instance.k)
        compare(name, data, known.seeds, known.sets, console)


if __name__ == "__main__":
    main()
