"""What is printed as proved, against the truth on all rows: violations in random instances.

    python benchmarks/proved_bounds.py [--runs 1000] [--seed 0] [--kind local_centers|pca|theorem_1]

Each run draws a shape, weights, offset, magnitude, scheme, stragglers and a question; shards summarize, the coordinator
decides, and what the table says is compared with plain NumPy on all rows:

- local centers, pca: `cost_low` <= true cost <= `cost_high`, of the solved answer and of random ones;
- local centers: the answer costs at most `factor` times the least cost known (of centers solved on all rows);
- pca: at most `factor` times the exact best, by a singular value decomposition of all rows, and `cost_low` is below it;
- theorem_1, on few rows: what the answer is said to cost is what a linear program says; no k-tuple of the candidates,
  in any order, costs less than the answer; and it costs at most `factor` times the least cost known, of centers
  anywhere (center steps and linear programs in turn, from the best tuples).

A violation exceeds a bound by more than 1e-9 of it (1e-6 where linear programs are the truth).
"""
from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy.optimize import linprog, minimize

from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.points.block import blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.results.certificate import proved_interval
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling import frequent_directions
from beam_coresets.sampling.frequent_directions import Relaxation
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import SCHEMES, Assignment
from beam_coresets.shards.local_centers import LocalCenters
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.shards.pca import SketchTree
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.constrained.constraints import Constraint, Fair
from beam_coresets.solvers.constrained.solver import solve_constrained
from beam_coresets.solvers.model import Centers
from beam_coresets.solvers.subspaces import Subspaces

RELATIVE, PROGRAMS = 1e-9, 1e-6
OTHERS = 4  # answers that were not solved for, whose bounds are looked at, too
SHAPES = ("gauss", "t", "clusters", "grid", "lognormal", "low rank", "few places")

Array = Any


class Data(NamedTuple):
    """Rows (n, d) as a shard gets them, and their weights (n,)."""

    points: Array
    weights: Array


def data(rng: np.random.Generator) -> Data:
    """Rows of some shape, size, width, offset, magnitude, precision and weights."""
    n, d = int(rng.integers(1, 400)), int(rng.integers(1, 13))
    shape = rng.choice(SHAPES)
    if shape == "t":
        x = rng.standard_t(2.5, (n, d))
    elif shape == "clusters":
        x = 20 * rng.normal(size=(5, d))[rng.integers(0, 5, n)] + rng.normal(size=(n, d))
    elif shape == "grid":
        x = rng.integers(0, 4, (n, d)).astype(np.float64)
    elif shape == "lognormal":
        x = rng.lognormal(0, 2, (n, d))
    elif shape == "low rank":
        x = rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 1e-3 * rng.normal(size=(n, d))
    elif shape == "few places":
        x = rng.normal(size=(3, d))[rng.integers(0, 3, n)]
    else:
        x = rng.normal(size=(n, d))
    x = (x + rng.choice([0.0, 0.0, 10.0, 1e4]) * rng.normal(size=d)) * 10.0 ** rng.integers(-9, 10)
    points = np.ascontiguousarray(x, rng.choice(["f4", "f8"]))
    kind = rng.integers(3)
    weights = np.ones(n) if kind == 0 else 10.0 ** rng.uniform(-3, 3, n) if kind == 1 else rng.integers(0, 4, n) + 0.0
    weights[rng.integers(n)] += 1.0
    return Data(points, weights)


class Shards(NamedTuple):
    """A scheme, who is missing, and the kind of numbers that make up for it."""

    scheme: Assignment
    dropped: set[int]
    recovery: str

    @staticmethod
    def drawn(rng: np.random.Generator) -> Shards:
        s = int(rng.integers(1, 9))
        scheme = Assignment(s, int(rng.integers(1, s + 1)), str(rng.choice(SCHEMES)), 32, int(rng.integers(100)))
        dropped = rng.choice(s, int(rng.integers(0, s)), replace=False)
        return Shards(scheme, set(dropped.tolist()), str(rng.choice(["lp", "uniform"])))

    def decided(self, rows: Data, logic: MergeReduce) -> Decision:
        """What the coordinator makes of the reports that come."""
        reports = shard_reports(blocks_of(rows.points, rows.weights, rows=64), logic)
        came = [report for report in reports if report.shard not in self.dropped]
        return decide(came, Policy(self.scheme, self.recovery, whole=True))


class Tally:
    """Counts comparisons, and those that fail, by name."""

    def __init__(self) -> None:
        self.made: dict[str, int] = {}
        self.failed: dict[str, list[str]] = {}

    def at_most(
        self, name: str, low: float | None, high: float | None, told: str, relative: float = RELATIVE
    ) -> None:
        """low <= high, where both are known."""
        if low is None or high is None or np.isnan(low) or np.isnan(high):
            return
        self.made[name] = self.made.get(name, 0) + 1
        if low > high * (1 + relative):
            self.failed.setdefault(name, []).append(f"{told}: {low!r} > {high!r}")


def local_centers(rng: np.random.Generator, tally: Tally, told: str) -> None:
    """One instance of Algorithm 1."""
    rows, shards, k = data(rng), Shards.drawn(rng), int(rng.integers(1, 7))
    sampler = Sampler(k, 4000, 1.0)
    decision = shards.decided(rows, LocalCenters(sampler, shards.scheme, 1, count=int(rng.integers(k, 6 * k))))

    def true(centers: Array) -> float:
        far = np.linalg.norm(rows.points.astype(np.float64)[:, None] - np.asarray(centers, np.float64), axis=2)
        return float(rows.weights @ far.min(axis=1))

    summary = summarize(decision, Question(sampler, kind="local_centers"))
    row, (answer,) = summary.summaries.to_pylist()[0], summary.answers
    if not len(answer.model.centers):
        return
    for centers in (answer.model.centers, *(rows.points[rng.integers(0, len(rows.points), k)] for _ in range(OTHERS))):
        interval = proved_interval(decision, Centers(np.asarray(centers, np.float64), 1.0))
        tally.at_most("local centers: cost_low", interval.low, true(centers), told)
        tally.at_most("local centers: cost_high", true(centers), interval.high, told)
    reached = true(answer.model.centers)
    tally.at_most("local centers: cost_high as printed", reached, row["cost_high"], told)
    if row["factor"] is not None:
        best = true(solve_centers(rows.points, rows.weights, k, 1.0).centers)
        tally.at_most("local centers: factor", reached, row["factor"] * min(best, reached), told)


def pca(rng: np.random.Generator, tally: Tally, told: str) -> None:
    """One instance of Algorithm 3."""
    rows, shards = data(rng), Shards.drawn(rng)
    d = rows.points.shape[1]
    if d == 1:
        return
    relaxation = Relaxation(int(rng.integers(1, min(d, 4))), float(rng.choice([0.1, 0.5, 1, 2])), bool(rng.integers(2)))
    frequent_directions.SKETCH_BYTES = int(rng.choice([0, 400, 2 << 20]))  # cuts in the tree, or none
    decision = shards.decided(rows, SketchTree(Sampler(1, 1), shards.scheme, 1, relaxation=relaxation))
    x, w, r, affine = rows.points.astype(np.float64), rows.weights, relaxation.r, relaxation.affine
    mean = w @ x / w.sum() if affine else np.zeros(d)
    best = float((np.linalg.svd((x - mean) * np.sqrt(w)[:, None], compute_uv=False)[r:] ** 2).sum())

    def true(flat: Subspaces) -> float:
        y = x - flat.centers[0]
        return float(w @ ((y - y @ flat.bases[0].T @ flat.bases[0]) ** 2).sum(axis=1))

    asked = Question(Sampler(1, 1), kind="pca", r=r, affine=affine, delta=relaxation.delta)
    summary = summarize(decision, asked)
    row, (answer,) = summary.summaries.to_pylist()[0], summary.answers
    flat = answer.model
    if not isinstance(flat, Subspaces) or not len(flat.centers):
        return
    at = [x[i] if affine else np.zeros(d) for i in rng.integers(0, len(x), OTHERS)]
    others = [Subspaces(a[None], np.linalg.qr(rng.normal(size=(d, r)))[0].T[None], affine) for a in at]
    for each in (flat, *others):
        interval = proved_interval(decision, each)
        tally.at_most("pca: cost_low", interval.low, true(each), told)
        tally.at_most("pca: cost_high", true(each), interval.high, told)
    tally.at_most("pca: cost_high as printed", true(flat), row["cost_high"], told)
    if row["factor"] is not None:
        tally.at_most("pca: cost_low of any", row["cost_low"], best, told)
        tally.at_most("pca: factor", true(flat), row["factor"] * best, told)


class Clusters(NamedTuple):
    """A constraint in the definition's own terms: t = weights of k clusters, T[j] = of label j in them."""

    size: tuple[Array, Array]
    share: tuple[float, float]  # of label "a" in each cluster

    @staticmethod
    def drawn(rng: np.random.Generator, total: float, k: int) -> tuple[Clusters, Constraint]:
        """And what the package takes for the same; it can be met by equal clusters of equal mixtures."""
        low, high, share, kind = np.zeros(k), np.full(k, np.inf), (0.0, 1.0), rng.integers(6)
        if kind == 0:
            low[:] = rng.uniform(0, total / k)
            return Clusters((low, high), share), Constraint(min_size=low[0])
        if kind == 1:
            high[:] = rng.uniform(total / k, total)
            return Clusters((low, high), share), Constraint(max_size=high[0])
        if kind == 2:
            low = high = total * rng.dirichlet(np.ones(k))
            return Clusters((low, high), share), Constraint(gamma=tuple(low))
        if kind == 3:
            low = rng.uniform(0, total / k, k)
            return Clusters((low, high), share), Constraint(min_size=tuple(low))
        if kind == 4:
            slack = rng.uniform(0, 1)
            low, high = np.full(k, (1 - slack) * total / k), np.full(k, (1 + slack) * total / k)
            return Clusters((low, high), share), Constraint(balanced=slack)
        share = (float(rng.uniform(0, 0.2)), float(rng.uniform(0.8, 1)))
        return Clusters((low, high), share), Constraint(fair=(Fair("a", *share),))

    def cheapest(self, cost: Array, weights: Array, of_a: Array) -> tuple[float, Array]:
        """The least cost of an assignment, and it (n, k), by a linear program; cost (n, k)."""
        n, k = cost.shape
        each = np.kron(np.eye(n), np.ones(k))
        cluster = [np.kron(np.ones(n), unit) for unit in np.eye(k)]
        least, most = self.share
        members = [np.kron(row, unit) for row in (least - of_a, of_a - most) for unit in np.eye(k)]
        upper = [*(-row for row in cluster), *cluster, *members]
        limits = np.concatenate([-self.size[0], np.minimum(self.size[1], 10 * weights.sum()), np.zeros(2 * k)])
        scale = max(cost.max(), 1e-300)
        found = linprog(cost.ravel() / scale, np.array(upper), limits, each, weights, bounds=(0, None))
        return (float(found.fun) * scale, found.x.reshape(n, k)) if found.status == 0 else (np.inf, np.empty((n, 0)))


def theorem_1(rng: np.random.Generator, tally: Tally, told: str) -> None:
    """One instance of Theorem 1's search over all tuples of candidates."""
    n, d, k = int(rng.integers(4, 11)), int(rng.integers(1, 4)), int(rng.integers(2, 4))
    z = float(rng.choice([1, 2, 3]))
    x = np.where(rng.random((n, 1)) < 0.5, 5.0, 0.0) + rng.normal(size=(n, d))
    x = (x + rng.choice([0.0, 100.0])) * 10.0 ** rng.integers(-6, 7)
    weights = rng.choice([np.ones(n), 10.0 ** rng.uniform(-1, 1, n)])
    of_a = (np.arange(n) % 2 == 0).astype(np.float64)
    weights[of_a > 0] *= weights[of_a == 0].sum() / weights[of_a > 0].sum()
    clusters, constraint = Clusters.drawn(rng, weights.sum(), k)
    count = 4 if k == 3 else 5
    places = x[rng.permutation(n)[:count]]
    if rng.random() < 0.3:
        places = places + x.std() * rng.normal(size=places.shape)
    sample = Coreset(x, weights, weights, np.arange(n, dtype=np.uint64), None,
                     pa.table({"group": np.where(of_a > 0, "a", "b")}))  # fmt: skip
    model = solve_constrained(sample, k, constraint, z, candidates=places, free=bool(rng.integers(2)), exhaustive=True)

    def cheapest(centers: Array) -> tuple[float, Array]:
        far = np.linalg.norm(x[:, None] - np.asarray(centers)[None], axis=2)
        return clusters.cheapest(far**z, weights, of_a)

    reached, _ = cheapest(model.centers)
    tally.at_most("theorem 1: cost as said", reached, model.cost, told, PROGRAMS)
    tally.at_most("theorem 1: cost as said", model.cost, reached, told, PROGRAMS)
    tuples = [places[list(chosen)] for chosen in itertools.product(range(len(places)), repeat=k)]
    tried = sorted(((*cheapest(each), i) for i, each in enumerate(tuples)), key=lambda found: found[0])
    tally.at_most("theorem 1: the best tuple", reached, tried[0][0], told, PROGRAMS)
    least = reached
    for cost, flow, i in tried[:3]:
        centers = tuples[i]
        for _ in range(10):
            centers = np.array([_center(x, flow[:, j], centers[j], z) for j in range(k)])
            before, (cost, flow) = cost, cheapest(centers)
            least = min(least, cost)
            if cost >= before * (1 - 1e-9):
                break
    if model.factor is not None:
        tally.at_most("theorem 1: factor", reached, model.factor * least, told, PROGRAMS)


def _center(x: Array, mass: Array, old: Array, z: float) -> Array:
    """The best center (d,) of points with these weights."""
    if not mass.sum() > 0:
        return old
    if z == 2:
        return mass @ x / mass.sum()
    at, unit = mass @ x / mass.sum(), np.abs(x - x.mean(axis=0)).max()
    found = minimize(lambda c: mass @ (np.linalg.norm(x - at - c * unit, axis=1) / unit) ** z, np.zeros(x.shape[1]))
    return at + found.x * unit


KINDS: dict[str, Callable[[np.random.Generator, Tally, str], None]] = {
    "local_centers": local_centers, "pca": pca, "theorem_1": theorem_1,
}  # fmt: skip


def main() -> int:
    """Prints a line for each bound; returns 1 where one was violated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="instances of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="only this one")
    asked = parser.parse_args()
    tally = Tally()
    for kind in [asked.kind] if asked.kind else KINDS:
        for run in range(asked.runs):
            KINDS[kind](np.random.default_rng([asked.seed, run]), tally, f"run {run}")
    for name, made in tally.made.items():
        failed = tally.failed.get(name, [])
        print(f"{name}: {len(failed)} violations in {made:,}", *failed[:3], sep="\n  ")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
