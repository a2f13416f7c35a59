"""How often the certificate's 95 % intervals hold for emitted centers, on data with and without clusters.

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --trials 200
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py gauss/64 --shards 1 8/2 8/2/1 --k 10 --size 400 --z 1
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --random 100 --trials 40

A cell is a shape, its coordinates, and s/l/dropped: shards, replication and how many neighbouring shards are dropped.
What else there is:

    --solve-k 2 20 --solve-z 1         other centers than the coreset was made for, as by `solve`
    --constraint balanced=0.1          clusters within 10 % of the average; "fair=a:0.4:1": label a is 40 % or more of
                                       each (labels a and b go with the first coordinate)
    --r 1                              affine lines in place of centers
    --quick --points 50 500 5000       keys of so many rows, which are searched less
    --merged rollup                    twelve windows in one, along a tree; `sliding`: side by side; `running`: one
                                       after the other, each pane's weight falling by a tenth with every later one
    --weights 6                        rows of random weights over six orders of magnitude
    --fixed                            centers that were chosen without the sample
    --leaf 128                         deep trees: so many rows a leaf

Every trial has its own seed for sampling, assignment and solving. Columns:

    coverage   share of the trials whose interval holds the true cost on all of the data
    width      median half-width over 1.96 true standard deviations (of estimate - truth)
    half       median half-width, as a share of the truth
    bias       mean of estimate - truth as a share of the truth, and over the half-width
    sd         standard deviation of estimate - truth, as a share of the truth
    seconds    of a certificate, on one thread
    weak       share of the trials whose `trust` is weak
"""
from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.coordinator.merge import merge, node_sampler, thinned
from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.results.certificate import fixed_interval, model_interval
from beam_coresets.results.question import Question
from beam_coresets.results.sampled import row_weight
from beam_coresets.results.summary import solved_model
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.shards.report import ShardReport
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.solver import cost_matrix
from beam_coresets.solvers.constrained.transport import transport
from beam_coresets.solvers.model import Centers, Model

Array = npt.NDArray[Any]
Shape = Callable[[np.random.Generator, int, int], Array]


def _clusters(rng: np.random.Generator, n: int, d: int) -> Array:
    return (rng.standard_normal((30, d)) * 6)[rng.integers(30, size=n)] + rng.standard_normal((n, d))


def _far(rng: np.random.Generator, n: int, d: int) -> Array:
    """One row in a thousand is a hundred times as far off."""
    points = rng.standard_normal((n, d))
    points[rng.choice(n, n // 1000, replace=False)] *= 100
    return points


def _rare(rng: np.random.Generator, n: int, d: int) -> Array:
    """One row in a thousand is of a second cluster."""
    points = rng.standard_normal((n, d))
    points[rng.choice(n, n // 1000, replace=False)] += 30
    return points


def _uneven(rng: np.random.Generator, n: int, d: int) -> Array:
    """Five clusters of uneven size and spread."""
    share = np.maximum(rng.dirichlet(np.full(5, 0.7)), 0.02)
    centers, spread = rng.uniform(-30, 30, (5, d)), rng.uniform(0.5, 4, 5)
    label = rng.choice(5, n, p=share / share.sum())
    return centers[label] + spread[label, None] * rng.standard_normal((n, d))


SHAPES: dict[str, Shape] = {
    "gauss": lambda rng, n, d: rng.standard_normal((n, d)),
    "t2.5": lambda rng, n, d: rng.standard_t(2.5, (n, d)),
    "clusters": _clusters,
    "far": _far,
    "cube": lambda rng, n, d: rng.random((n, d)),
    "lognormal": lambda rng, n, d: np.exp(1.5 * rng.standard_normal((n, d))),
    "rare": _rare,
    "grid": lambda rng, n, d: rng.integers(0, 6, (n, d)).astype(float),
    "uneven": _uneven,
    "few": lambda rng, n, d: (rng.standard_normal((40, d)) * 10)[rng.integers(40, size=n)],
}
CELLS = ("gauss/4", "gauss/64", "t2.5/4", "t2.5/64", "clusters/4", "clusters/64", "far/4", "far/64", "cube/2",
         "lognormal/4", "rare/4", "grid/4", "few/4")  # fmt: skip
ANY_SHAPES = tuple(name for name in SHAPES if name != "uneven")
ANY_SCHEMES = ("1", "2", "2/2", "8", "8/2", "8/2/1", "8/2/2", "8/3", "8/3/1", "50", "50/2/1", "50/3/2")
SCHEMES = ("1", "2/2", "8", "8/2", "8/2/1", "50/3/2")
HEAD = f"{'shape':13s} {'s/l/drop':8s} coverage width    half     bias  /half      sd seconds  weak"


LABELS = ("a", "b")
WINDOWS, DECAY = 12, 0.9


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is tried again and again.

    Attributes:
      name: of a shape and its coordinates, "gauss/4". scheme: "shards/replication/dropped". points: rows in all.
      sampler: what coresets are drawn for. asked: what is asked of them.
      merged: how twelve windows become one: "rollup", "sliding" or "running"; None for one window.
      orders: of magnitude of the rows' weights. fixed: centers are not solved for. leaf: rows of a tree's leaf.
    """

    name: str
    scheme: str
    points: int
    sampler: Sampler
    asked: Question
    merged: str | None = None
    orders: float = 0.0
    fixed: bool = False
    leaf: int | None = None

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Shards, replication and how many are dropped."""
        s, replication, dropped = (list(map(int, self.scheme.split("/"))) + [1, 0][self.scheme.count("/") :])[:3]
        return s, replication, dropped

    @property
    def labelled(self) -> bool:
        return self.asked.constraint is not None and self.asked.constraint.labelled

    def __str__(self) -> str:
        drawn, asked = self.sampler, self.asked.sampler
        said = [f"n={self.points} k={drawn.k} size={drawn.size} z={drawn.z:g}", self.merged or ""]
        said += [f"solved for k={asked.k} z={asked.z:g}"] if (asked.k, asked.z) != (drawn.k, drawn.z) else []
        said += [self.asked.constraint.text()] if self.asked.constraint else []
        said += [f"{name}={value:g}" for name, value in (("r", drawn.r), ("orders", self.orders)) if value]
        said += [name for name in ("quick", "fixed") if getattr(self.asked if name == "quick" else self, name)]
        return " ".join([*filter(None, said), *([f"leaf={self.leaf}"] if self.leaf else [])])


class LeafOfOneBlock(MergeReduce):
    """Merge-and-reduce with one source block a leaf, so that a small data set makes a deep tree."""

    def blocks_a_leaf(self, dim: int) -> int:
        return 1


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The data of a cell: points (n, d) float32, weights (n,), labels (n,) and the window (n,) of each row."""

    points: Array
    weights: Array
    label: Array
    window: Array

    @staticmethod
    def of(cell: Cell) -> Rows:
        shape, d = cell.name.split("/")
        rng, n = generator("coverage", cell.name), cell.points
        points = SHAPES[shape](rng, n, int(d)).astype(np.float32)
        weights = 10.0 ** rng.uniform(-cell.orders / 2, cell.orders / 2, n) if cell.orders else np.ones(n)
        label = (points[:, 0] + points[:, 0].std() * rng.standard_normal(n) > np.median(points[:, 0])).astype(np.int64)
        window = np.arange(n) * (WINDOWS if cell.merged else 1) // n
        return Rows(points, weights, label, window)

    def blocks(self, window: int, rows: int) -> Iterator[PointBlock]:
        """Of one window, with labels."""
        mine, names = np.flatnonzero(self.window == window), np.array(LABELS)
        for number, block in enumerate(blocks_of(self.points[mine], self.weights[mine], window, rows)):
            own = self.label[mine[number * rows :][: len(block)]]
            yield dataclasses.replace(block, groups=own, extras=pa.table({"group": names[own]}))

    def counted(self, cell: Cell) -> Array:
        """(n,) the weights, those of earlier windows less if the summary forgets."""
        return self.weights * DECAY ** (self.window.max() - self.window) if cell.merged == "running" else self.weights


def reports(cell: Cell, rows: Rows, seed: int) -> list[list[ShardReport]]:
    """Those of all shards, window by window; sampled and assigned by `seed`."""
    (s, replication, _), tree = cell.numbers, LeafOfOneBlock if cell.leaf else MergeReduce
    logic = tree(cell.sampler, Assignment(s, replication, "cyclic", seed=seed), seed, labelled=cell.labelled)
    block = cell.leaf * s // replication if cell.leaf else 4096
    return [shard_reports(rows.blocks(window, block), logic) for window in range(int(rows.window.max()) + 1)]


def decided(cell: Cell, found: Sequence[Sequence[ShardReport]], seed: int, dropped: int) -> Decision:
    """Of the shards that are not dropped, on all windows."""
    s, replication, _ = cell.numbers
    policy = Policy(Assignment(s, replication, "cyclic", seed=seed))
    decisions = [decide(each[dropped:], policy) for each in found]
    if cell.merged is None:
        return decisions[0]
    if cell.merged == "sliding":
        return thinned(merge(decisions), cell.sampler, seed)
    if cell.merged == "rollup":
        rollup = Rollup(cell.sampler, seed)
        for each in decisions:
            rollup.add(each)
        return rollup.result()
    total, points = decisions[0], decisions[0].evidence.sample.points
    node = node_sampler(cell.sampler, points.shape[1], points.itemsize)
    for each in decisions[1:]:
        total = thinned(merge([total, each], [DECAY, 1.0]), node, seed)
    return thinned(total, cell.sampler, seed)


def outcome(cell: Cell, rows: Rows, decision: Decision, seed: int) -> tuple[float, ...]:
    """The truth, the estimate, its interval, the seconds of the certificate, and whether it says weak."""
    asked = cell.asked
    if cell.fixed:
        places = dz_seeding(rows.points, rows.weights, asked.sampler.k, asked.sampler.z, generator("fixed", cell.name))
        model: Model = Centers(rows.points[places].astype(np.float64), asked.sampler.z)
    else:
        model = solved_model(decision.coreset, dataclasses.replace(asked, seed=seed), row=row_weight(decision))
    truth, began = cost(cell, rows, model), time.thread_time()
    if cell.fixed:
        interval = fixed_interval(decision, model.centers, asked.sampler.z)
    else:
        interval = model_interval(decision, model, asked.quick)
    seconds, weak = time.thread_time() - began, str(interval.trust).startswith("weak")
    return truth, interval.estimate, interval.low, interval.high, seconds, float(weak)


def cost(cell: Cell, rows: Rows, model: Model) -> float:
    """On all of the data; under a constraint of the cheapest assignment that keeps to it there."""
    weights, constraint = rows.counted(cell), cell.asked.constraint
    if constraint is None:
        return float(weights @ model.costs(Coreset(rows.points, weights, weights, np.arange(len(weights))))[1])
    label, names = (rows.label, LABELS) if cell.labelled else (np.zeros(len(weights), np.int64), ("",))
    bounds = constraint.bounds(names, np.bincount(label, weights, len(names)), cell.asked.sampler.k)
    return transport(cost_matrix(rows.points, model.centers, cell.asked.sampler.z), weights, label, bounds).cost


def trials(cell: Cell, seeds: range) -> Array:
    """(seeds, 6) what came out of each."""
    rows, dropped = Rows.of(cell), cell.numbers[2]
    return np.array([
        outcome(cell, rows, decided(cell, reports(cell, rows, seed), seed, dropped), seed) for seed in seeds
    ])  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of a cell's trials: the columns of the table."""

    coverage: float
    width: float
    half: float
    bias: float
    sd: float
    seconds: float
    weak: float

    @staticmethod
    def of(found: Array) -> Figures:
        """From what came out, (trials, 6)."""
        truth, estimate, low, high, seconds, weak = found.T
        error, half = estimate / truth - 1, float(np.median((high - estimate) / truth))
        rounding = 1e-9 * truth  # where nothing was drawn there is no other error
        held, sd = (low - rounding <= truth) & (truth <= high + rounding), float(error.std(ddof=1))
        width = half / (1.96 * sd) if half > 1e-9 else float("nan")
        return Figures(
            float(held.mean()), width, half, float(error.mean()), sd, float(np.median(seconds)), float(weak.mean())
        )

    def __str__(self) -> str:
        over = abs(self.bias) / self.half if self.half > 0 else float("nan")
        return (f"{self.coverage:8.3f} {self.width:5.2f} {self.half:7.2%} {self.bias:+8.2%} {over:6.2f} {self.sd:7.2%} "
                f"{self.seconds:7.3f} {self.weak:5.2f}")  # fmt: skip


def any_cells(seed: int, count: int) -> Iterator[Cell]:
    """Cells drawn at random, none of them very large."""
    rng = random.Random(seed)
    while count:
        name = f"{rng.choice(ANY_SHAPES)}/{rng.choice([2, 4, 4, 16, 64, 300])}"
        n = rng.choice([10_000, 20_000, 40_000])
        k, z, scheme = rng.choice([3, 10, 10, 50]), rng.choice([1.0, 2.0, 2.0, 3.0]), rng.choice(ANY_SCHEMES)
        sampler = Sampler(k, rng.choice([10, 40, 40, 100]) * k, z)
        cell = Cell(name, scheme, n, sampler, Question(sampler))
        (shards, replication, _), d = cell.numbers, int(name.split("/")[1])
        drawn = sampler.size * shards
        if n * d <= 3e6 and drawn <= n * replication and drawn * k * max(1, d / 32) <= 1.2e5:
            count -= 1
            yield cell


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """Those that the options name."""
    method, r = "subspace" if given.r else "sensitivity", given.r
    drawn = Sampler(given.k, given.size, given.z, method, r=r, affine=r > 0)
    solved = itertools.product(given.solve_k or [given.k], given.solve_z or [given.z])
    for (k, z), name, points, scheme in itertools.product(solved, given.cells, given.points, given.shards):
        asked = Question(
            dataclasses.replace(drawn, k=k, z=z, size=max(k, given.size)), r=r, affine=r > 0,
            constraint=given.constraint, quick=given.quick,
        )  # fmt: skip
        yield Cell(name, scheme, points, drawn, asked, given.merged, given.weights, given.fixed, given.leaf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", default=list(CELLS))
    parser.add_argument("--shards", nargs="+", default=list(SCHEMES))
    parser.add_argument("--random", type=int, default=0, metavar="N", help="cells of any kind, in place of those named")
    parser.add_argument("--seed", type=int, default=0, help="of these")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--points", type=int, nargs="+", default=[20_000])
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--z", type=float, default=2.0)
    parser.add_argument("--solve-k", type=int, nargs="+")
    parser.add_argument("--solve-z", type=float, nargs="+")
    parser.add_argument("--constraint", type=Constraint.parse)
    parser.add_argument("--r", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--merged", choices=("rollup", "sliding", "running"))
    parser.add_argument("--weights", type=float, default=0.0)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--leaf", type=int)
    given = parser.parse_args()
    print(HEAD, flush=True)
    for cell in any_cells(given.seed, given.random) if given.random else cells(given):
        print(f"{cell.name:13s} {cell.scheme:8s} {Figures.of(trials(cell, range(given.trials)))} {cell}", flush=True)


if __name__ == "__main__":
    main()
