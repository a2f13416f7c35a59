"""How often the certificate's 95 % intervals hold, and how wide they are: seeded trials on a Gaussian mixture.

    OMP_NUM_THREADS=1 python benchmarks/error_bars.py --trials 200

One row of the table is one configuration: shards s, replication l, how many neighbouring shards are dropped, and
whether the centers are fixed in advance or solved on each trial's own coreset. Every trial has its own seed for
sampling *and* for the assignment, so that which buckets a dropped shard takes along is random too. Columns:

    coverage   share of the trials whose interval holds the true cost on all of the data
    width      median half-width over 1.96 true standard deviations (of estimate - truth)
    bias       mean of estimate - truth, as a share of the truth, and its standard error
    sd         standard deviation of estimate - truth, as a share of the truth
"""
from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.points.nearest import cost
from beam_coresets.results.certificate import Interval, fitted_interval, fixed_interval
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.shards.report import ShardReport
from beam_coresets.solvers.centers import solve_centers

Array = npt.NDArray[Any]

KINDS = ("fixed", "emitted")


@dataclasses.dataclass(frozen=True)
class Setup:
    """One simulated job.

    Attributes:
      shards, replication: of a cyclic scheme.
      leaves: how many leaves each shard's tree has, and rows: how many rows a leaf has on average.
      k, dim, size, z: number of centers, coordinates, points of a shard's coreset, power of the distance.
    """

    shards: int
    replication: int
    leaves: int = 64
    rows: int = 128
    k: int = 5
    dim: int = 4
    size: int = 100
    z: float = 2.0

    @property
    def points(self) -> int:
        """Rows of the whole data set."""
        return self.leaves * self.block_rows

    @property
    def block_rows(self) -> int:
        """Rows of a source block such that each shard gets a leaf's worth of them."""
        return self.rows * self.shards // self.replication


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came out once: the interval and the truth that it should hold."""

    dropped: int
    kind: str
    interval: Interval
    truth: float


class LeafOfOneBlock(MergeReduce):
    """Merge-and-reduce with one source block a leaf, so that a small data set makes a deep tree."""

    @property
    def blocks_a_leaf(self) -> int:
        return 1


def mixture(setup: Setup) -> tuple[Array, Array]:
    """Points (n, d) float32 of k Gaussian clusters of uneven size and spread, and the clusters' centers (k, d)."""
    rng = generator("error bars", setup.k, setup.dim)
    share = np.maximum(rng.dirichlet(np.full(setup.k, 0.7)), 0.02)
    centers = rng.uniform(-30, 30, (setup.k, setup.dim))
    spread = rng.uniform(0.5, 4, setup.k)
    label = rng.choice(setup.k, setup.points, p=share / share.sum())
    points = centers[label] + spread[label, None] * rng.standard_normal((setup.points, setup.dim))
    return points.astype(np.float32), centers


def reports(setup: Setup, points: Array, seed: int) -> tuple[Assignment, list[ShardReport]]:
    """The reports of all shards, sampled and assigned by `seed`."""
    assignment = Assignment(setup.shards, setup.replication, "cyclic", seed=seed)
    logic = LeafOfOneBlock(Sampler(setup.k, setup.size, setup.z), assignment, seed)
    return assignment, shard_reports(blocks_of(points, rows=setup.block_rows), logic)


def trials(setup: Setup, seeds: range, dropped: tuple[int, ...] = (0, 2)) -> Iterator[Trial]:
    """Runs a job for each seed; yields an interval for each number of dropped neighbours and each kind of centers."""
    points, fixed = mixture(setup)
    ones = np.ones(len(points))
    fixed_truth = cost(points, ones, fixed, setup.z)
    for seed in seeds:
        assignment, everything = reports(setup, points, seed)
        for count in dropped:
            decision = decide(everything[count:], Policy(assignment))
            yield Trial(count, "fixed", fixed_interval(decision, fixed, setup.z), fixed_truth)
            coreset = decision.coreset
            emitted = solve_centers(coreset.points, coreset.weights, setup.k, setup.z, seed=seed).centers
            truth = cost(points, ones, emitted, setup.z)
            yield Trial(count, "emitted", fitted_interval(decision, emitted, setup.z), truth)


@dataclasses.dataclass(frozen=True)
class Row:
    """One configuration's figures (see the head of this module)."""

    setup: Setup
    dropped: int
    kind: str
    trials: int
    coverage: float
    width: float
    bias: float
    bias_error: float
    sd: float

    def __str__(self) -> str:
        s = self.setup
        return (
            f"{s.shards:4d} {s.replication:2d} {self.dropped:8d} {self.kind:>8s} {self.trials:7d} {self.coverage:9.3f} "
            f"{self.width:6.2f} {self.bias:+9.5f} ±{self.bias_error:.5f} {self.sd:8.5f}"
        )


HEAD = "   s  l  dropped  centers  trials  coverage  width      bias            sd"


def rows(setup: Setup, found: list[Trial]) -> list[Row]:
    """The figures of one setup's trials."""
    out = []
    for dropped, kind in sorted({(t.dropped, t.kind) for t in found}, key=lambda c: (c[0], KINDS.index(c[1]))):
        some = [t for t in found if (t.dropped, t.kind) == (dropped, kind)]
        truth = np.array([t.truth for t in some])
        error = np.array([t.interval.estimate for t in some]) / truth - 1
        half = np.array([t.interval.high - t.interval.estimate for t in some]) / truth
        held = [t.interval.low <= t.truth <= t.interval.high for t in some]
        sd = float(error.std(ddof=1))
        width = float(np.median(half)) / (1.96 * sd)
        bias = float(error.mean())
        out.append(
            Row(setup, dropped, kind, len(some), float(np.mean(held)), width, bias, sd / len(some) ** 0.5, sd)
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--shards", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--replication", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--dropped", type=int, nargs="+", default=[0, 2])
    for name in ("leaves", "rows", "k", "dim", "size"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Setup, name))
    parser.add_argument("--z", type=float, default=2.0)
    given = parser.parse_args()
    shape = {name: getattr(given, name) for name in ("leaves", "rows", "k", "dim", "size", "z")}
    print(HEAD, flush=True)
    for s in given.shards:
        for replication in given.replication:
            setup = Setup(s, replication, **shape)
            for row in rows(setup, list(trials(setup, range(given.trials), tuple(given.dropped)))):
                print(row, flush=True)


if __name__ == "__main__":
    main()
