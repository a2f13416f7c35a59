"""How often the certificate's 95 % intervals hold for emitted centers, on data with and without clusters.

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --trials 200
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py gauss/64 --shards 1 8/2 8/2/1 --k 10 --size 400 --z 1
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py gauss/4 gauss/12 --k 5 --size 200 --constraint balanced=0.1
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py gauss/12 --k 5 --size 200 --r 2
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --random 100 --trials 40

A cell is a shape, its coordinates, and s/l/dropped: shards, replication and how many neighbouring shards are dropped.
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
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.results.certificate import model_interval
from beam_coresets.results.question import Question
from beam_coresets.results.summary import solved_model
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.solver import cost_matrix
from beam_coresets.solvers.constrained.transport import transport
from beam_coresets.solvers.model import Model

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


SHAPES: dict[str, Shape] = {
    "gauss": lambda rng, n, d: rng.standard_normal((n, d)),
    "t2.5": lambda rng, n, d: rng.standard_t(2.5, (n, d)),
    "clusters": _clusters,
    "far": _far,
    "cube": lambda rng, n, d: rng.random((n, d)),
    "lognormal": lambda rng, n, d: np.exp(1.5 * rng.standard_normal((n, d))),
    "rare": _rare,
    "grid": lambda rng, n, d: rng.integers(0, 6, (n, d)).astype(float),
    "few": lambda rng, n, d: (rng.standard_normal((40, d)) * 10)[rng.integers(40, size=n)],
}
CELLS = ("gauss/4", "gauss/64", "t2.5/4", "t2.5/64", "clusters/4", "clusters/64", "far/4", "far/64", "cube/2",
         "lognormal/4", "rare/4", "grid/4", "few/4")  # fmt: skip
ANY_SCHEMES = ("1", "2", "2/2", "8", "8/2", "8/2/1", "8/2/2", "8/3", "8/3/1", "50", "50/2/1", "50/3/2")
SCHEMES = ("1", "2/2", "8", "8/2", "8/2/1", "50/3/2")
HEAD = f"{'shape':13s} {'s/l/drop':8s} coverage width    half     bias  /half      sd seconds  weak"


def data(name: str, n: int) -> Array:
    """The points (n, d) float32 of a shape, "gauss/4"."""
    shape, d = name.split("/")
    return SHAPES[shape](generator("coverage", name), n, int(d)).astype(np.float32)


def trial(points: Array, scheme: str, asked: Question, seed: int) -> tuple[float, ...]:
    """The truth, the estimate, its interval, the seconds of the certificate, and whether it says weak."""
    s, replication, dropped = numbers(scheme)
    assignment = Assignment(s, replication, "cyclic", seed=seed)
    reports = shard_reports(blocks_of(points, rows=4096), MergeReduce(asked.sampler, assignment, seed))
    decision = decide(reports[dropped:], Policy(assignment))
    model = solved_model(decision.coreset, dataclasses.replace(asked, seed=seed))
    truth = cost(points, model, asked)
    began = time.thread_time()
    interval = model_interval(decision, model)
    seconds, weak = time.thread_time() - began, str(interval.trust).startswith("weak")
    return truth, interval.estimate, interval.low, interval.high, seconds, float(weak)


def cost(points: Array, model: Model, asked: Question) -> float:
    """On all of the data; under a constraint of the cheapest assignment that keeps to it there."""
    n, k, ones = len(points), asked.sampler.k, np.ones(len(points))
    if asked.constraint is None:
        return float(model.costs(Coreset(points, ones, ones, np.arange(n, dtype=np.uint64)))[1].sum())
    bounds = asked.constraint.bounds(("",), np.array([n]), k)
    return transport(cost_matrix(points, model.centers, asked.sampler.z), ones, np.zeros(n, np.int64), bounds).cost


def row(name: str, scheme: str, found: Array) -> str:
    """The line of a cell's trials, (trials, 6)."""
    truth, estimate, low, high, seconds, weak = found.T
    error, half = estimate / truth - 1, float(np.median((high - estimate) / truth))
    held, sd, bias = float(((low <= truth) & (truth <= high)).mean()), float(error.std(ddof=1)), float(error.mean())
    width = half / (1.96 * sd) if sd > 0 else float("nan")
    over = abs(bias) / half if half > 0 else float("nan")
    return (f"{name:13s} {scheme:8s} {held:8.3f} {width:5.2f} {half:7.2%} {bias:+8.2%} {over:6.2f} {sd:7.2%} "
            f"{np.median(seconds):7.3f} {weak.mean():5.2f}")  # fmt: skip


def any_cells(seed: int, count: int) -> Iterator[tuple[str, int, int, int, float, str]]:
    """Shape with its coordinates, points, k, size, z and scheme of cells drawn at random, none of them very large."""
    rng = random.Random(seed)
    while count:
        name = f"{rng.choice(list(SHAPES))}/{rng.choice([2, 4, 4, 16, 64, 300])}"
        n = rng.choice([10_000, 20_000, 40_000])
        k, z, scheme = rng.choice([3, 10, 10, 50]), rng.choice([1.0, 2.0, 2.0, 3.0]), rng.choice(ANY_SCHEMES)
        size, d, (shards, replication, _) = rng.choice([10, 40, 40, 100]) * k, int(name.split("/")[1]), numbers(scheme)
        if n * d <= 3e6 and size * shards <= n * replication and size * shards * k * max(1, d / 32) <= 1.2e5:
            count -= 1
            yield name, n, k, size, z, scheme


def numbers(scheme: str) -> tuple[int, int, int]:
    """Shards, replication and how many are dropped."""
    s, replication, dropped = (list(map(int, scheme.split("/"))) + [1, 0][scheme.count("/") :])[:3]
    return s, replication, dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", default=list(CELLS))
    parser.add_argument("--shards", nargs="+", default=list(SCHEMES))
    parser.add_argument("--random", type=int, default=0, metavar="N", help="cells of any kind, in place of those named")
    parser.add_argument("--seed", type=int, default=0, help="of these")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--z", type=float, default=2.0)
    parser.add_argument("--constraint", type=Constraint.parse, help="such as balanced=0.1; none about labels")
    parser.add_argument("--r", type=int, default=0, help="affine subspaces of this dimension in place of centers")
    given = parser.parse_args()
    print(HEAD, flush=True)
    for name, n, k, size, z, scheme in any_cells(given.seed, given.random):
        points, asked = data(name, n), Question(Sampler(k, size, z))
        found = np.array([trial(points, scheme, asked, seed) for seed in range(given.trials)])
        print(row(name, scheme, found), f"n={n} k={k} size={size} z={z:g}", flush=True)
    if given.random:
        return
    for name in given.cells:
        points = data(name, given.points)
        for scheme in given.shards:
            method, r = "subspace" if given.r else "sensitivity", given.r
            sampler = Sampler(given.k, given.size, given.z, method, r=r, affine=r > 0)
            asked = Question(sampler, r=r, affine=r > 0, constraint=given.constraint)
            found = np.array([trial(points, scheme, asked, seed) for seed in range(given.trials)])
            print(row(name, scheme, found), flush=True)


if __name__ == "__main__":
    main()
