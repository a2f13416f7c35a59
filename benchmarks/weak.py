"""Universal weak coresets: properties (A) and (B) of Jaiswal and Kumar's Definition 1, measured on all of the data.

    OMP_NUM_THREADS=1 python benchmarks/weak.py --data DIR

--data has s1.txt and birch1.txt; what is not there is generated in the same shape. Three tables:

(B)  the cost of S against that of the data, both under the cheapest assignment (exact transport) that keeps to Gamma,
     for random k candidates C and random Gamma: a third of the Gammas are Dirichlet(1), a third Dirichlet(5), a third
     the sizes of the nearest-center clusters times 0.5 to 1.5. With labels (three, two of which depend on where a point
     is, the third on one point in twelve at random) Gamma says how much of each label is in each cluster. S has 40 k
     points of one shard, J is from another. Beside it: uniform sampling with the exact total (and no other label's),
     and plain sensitivity sampling, neither calibrated nor normalised; where totals differ, Gamma is stretched to fit.
S    the same error of the whole S of eight shards, with and without the points of the shard that J is drawn from: on
     S1, of which the whole S holds nearly every point, and on eight times as many generated ones.
(A)  what the best k candidates cost against the best centers, by |J|: "free" for the data's k-means (`alpha` in the
     summaries table), "Gamma" for the optimal assignments to random cluster sizes: for each of these assignments the
     best candidate of each cluster is found by trying all. Beside it: |J| input rows and no means.
"""
from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.datasets.synthetic import SSet
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of, narrow
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.seeding import dz_draw
from beam_coresets.results.weak_coreset import alpha, divided
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.transport import Transport, transport

POINTS_PER_CENTER = 40
LABELS = 3

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Data:
    """Points (n, d), a label for each (n,), and k."""

    name: str
    points: Array
    labels: Array
    k: int

    @property
    def weights(self) -> Array:
        return np.ones(len(self.points))


def load(name: str, folder: pathlib.Path | None) -> Data:
    """The public set where its folder is given and has it, else a generated one of the same shape."""
    text = folder / f"{name.lower()}.txt" if folder else None
    k = {"S1": 15, "birch1": 100, "digits": 10}[name]
    if name == "digits":
        points = narrow(load_digits().data)
    elif text is not None and text.exists():
        points = narrow(np.loadtxt(text))
    else:
        made = SSet() if name == "S1" else SSet(seed=1, k=100, deviation=16_000.0, gap=4.0)
        points = made.points(5_000 if name == "S1" else 100_000)
        name += "*"
    rng = generator("weak labels", name)
    x = (along := points[:, points.std(axis=0).argmax()]) - along.mean()
    x = x / x.std()
    labels = (x + 0.5 * rng.standard_normal(len(x)) > 0).astype(np.int32)
    labels[rng.random(len(x)) < 1 / 12] = 2
    return Data(name, points, labels, k)


def decided(data: Data, scheme: Assignment, seed: int, labelled: bool, method: str = "sensitivity") -> Decision:
    """What a job with this scheme decides, with 40 k points a shard."""
    order = generator("weak order", seed).permutation(len(data.points))
    blocks = [
        dataclasses.replace(block, groups=data.labels[order][block.ids.astype(np.int64)])
        for block in blocks_of(np.ascontiguousarray(data.points[order]), rows=8192)
    ]
    sampler = Sampler(data.k, POINTS_PER_CENTER * data.k, method=method)
    return decide(shard_reports(blocks, MergeReduce(sampler, scheme, seed, labelled=labelled)), Policy(scheme))


def gammas(data: Data, centers: Array, kind: int, labelled: bool, rng: np.random.Generator) -> Array:
    """How much of each label (or of all, one row) is in each cluster, (m, k)."""
    label = data.labels if labelled else np.zeros(len(data.points), np.int32)
    totals = np.bincount(label)
    if kind < 2:
        return np.array([total * rng.dirichlet(np.full(data.k, (1.0, 5.0)[kind])) for total in totals])
    nearest = cdist(data.points, centers).argmin(axis=1)
    table = np.bincount(label * data.k + nearest, minlength=len(totals) * data.k).reshape(len(totals), data.k)
    table = np.maximum(table, 1) * rng.uniform(0.5, 1.5, table.shape)
    return np.asarray(table * (totals / table.sum(axis=1))[:, None])


def assigned(cost: Array, weights: Array, gamma: Array) -> Transport:
    """The cheapest assignment to clusters of these sizes (k,), stretched to the total weight."""
    total = float(weights.sum())
    sizes = gamma * (total / gamma.sum())
    bounds = Constraint(gamma=tuple(sizes.tolist())).bounds([""], np.array([total]), len(sizes))
    return transport(cost, weights, np.zeros(len(weights), np.int64), bounds)


def constrained_cost(points: Array, weights: Array, label: Array, centers: Array, gamma: Array) -> float:
    """The cost of the cheapest assignment that keeps to Gamma, (m, k): label by label, as nothing joins them."""
    cost = cdist(points, centers, "sqeuclidean")
    return sum(
        assigned(cost[label == j], weights[label == j], row).cost for j, row in enumerate(gamma) if (label == j).any()
    )


@dataclasses.dataclass(frozen=True)
class Sample:
    """A way to sample, one of the columns compared: its points, weights (m,) and labels (m,)."""

    name: str
    points: Array
    weights: Array
    label: Array


def sample_of(name: str, coreset: Coreset, weights: Array, labelled: bool) -> Sample:
    label = coreset.groups if labelled and coreset.groups is not None else np.zeros(len(coreset), np.int32)
    return Sample(name, coreset.points, weights, label)


def samples(data: Data, scheme: Assignment, seed: int, labelled: bool) -> tuple[list[Sample], Array]:
    """Ours and the two others, without the shard that J is drawn from; and J."""
    ours, places = divided(decided(data, scheme, seed, labelled), POINTS_PER_CENTER * data.k, seed=seed)
    uniform, _ = divided(decided(data, scheme, seed, False, "uniform"), data.k, seed=seed)
    plain, _ = divided(decided(data, scheme, seed, False), data.k, seed=seed)
    found = [
        sample_of("weak coreset", ours.coreset, ours.coreset.weights, labelled),
        sample_of("uniform", uniform.coreset, uniform.coreset.weights, labelled),
        sample_of("plain sensitivity", plain.coreset, plain.coreset.weights_ht, labelled),
    ]
    return found, places.points


def errors(data: Data, compared: list[Sample], places: Array, pairs: int, labelled: bool, seed: int) -> Array:
    """(samples, pairs) relative errors of the constrained cost."""
    rng = generator("weak pairs", seed, labelled)
    label = data.labels if labelled else np.zeros(len(data.points), np.int32)
    out = np.empty((len(compared), pairs))
    for i in range(pairs):
        centers = places[rng.choice(len(places), data.k, replace=False)]
        gamma = gammas(data, centers, i % 3, labelled, rng)
        truth = constrained_cost(data.points, data.weights, label, centers, gamma)
        for j, sample in enumerate(compared):
            out[j, i] = constrained_cost(sample.points, sample.weights, sample.label, centers, gamma) / truth - 1
    return out


def property_b(data: Data, seeds: int, pairs: int, console: Console) -> None:
    table = Table(title=f"(B) {data.name}, k = {data.k}, {POINTS_PER_CENTER} k points, {seeds} x {pairs} pairs")
    for name in ("labels", "sample", "mean error", "worst, by seed", "worst"):
        table.add_column(name, justify="left" if name in ("labels", "sample") else "right")
    for labelled in (False, True):
        found = []
        for seed in range(seeds):
            compared, places = samples(data, Assignment(2, 2), seed, labelled)
            found.append(np.abs(errors(data, compared, places, pairs, labelled, seed)))
        for j, sample in enumerate(compared):
            worst = [float(each[j].max()) for each in found]
            mean = np.mean([each[j].mean() for each in found])
            table.add_row(
                str(LABELS) if labelled else "none", sample.name, f"{mean:.2%}",
                " ".join(f"{w:.1%}" for w in worst), f"{max(worst):.1%}",
            )  # fmt: skip
    console.print(table)


def cost_of_independence(data: Data, seeds: int, pairs: int, console: Console) -> None:
    table = Table(title=f"S of eight shards, {data.name}: with the points of J's shard, and without")
    for name in ("holders", "S", "points", "mean error", "root mean square", "worst"):
        table.add_column(name, justify="left" if name == "S" else "right")
    for replication in (2, 3):
        found, sizes = [], []
        for seed in range(seeds):
            decision = decided(data, Assignment(8, replication), seed, False)
            less, places = divided(decision, POINTS_PER_CENTER * data.k, seed=seed)
            compared = [sample_of("", d.coreset, d.coreset.weights, False) for d in (decision, less)]
            found.append(errors(data, compared, places.points, pairs, False, seed))
            sizes.append([len(sample.weights) for sample in compared])
        both = np.concatenate(found, axis=1)
        for name, e, size in zip(("whole", "without"), both, np.mean(sizes, axis=0), strict=True):
            row = (f"{np.abs(e).mean():.3%}", f"{np.sqrt((e**2).mean()):.3%}", f"{np.abs(e).max():.2%}")
            table.add_row(str(replication), name, f"{size:,.0f}", *row)
    console.print(table)


@dataclasses.dataclass(frozen=True)
class Optimal:
    """An assignment, as (n, k) amounts, and what it costs with its best centers."""

    amounts: Array
    cost: float


def optimal_assignments(data: Data, count: int) -> Iterator[Optimal]:
    """Random cluster sizes, each solved in turns of assigning and averaging on all (or 5,000) points."""
    start = solve_centers(data.points, data.weights, data.k).centers
    for i in range(count):
        rng = generator("weak sizes", data.name, i)
        centers = start
        gamma = gammas(data, start, i % 3, False, rng)[0]
        for _ in range(8):
            found = assigned(cdist(data.points, centers, "sqeuclidean"), data.weights, gamma)
            amounts = np.zeros((len(data.points), data.k))
            amounts[found.rows, found.clusters] = found.amounts
            sums = amounts.sum(axis=0)
            centers = np.where(sums[:, None] > 0, amounts.T @ data.points / np.maximum(sums, 1e-9)[:, None], centers)
        yield Optimal(amounts, float((amounts * cdist(data.points, centers, "sqeuclidean")).sum()))


def property_a(data: Data, seeds: int, count: int, console: Console) -> None:
    if len(data.points) > 5_000:
        rows = generator("weak rows").choice(len(data.points), 5_000, replace=False)
        data = dataclasses.replace(data, points=data.points[rows], labels=data.labels[rows])
    free = solve_centers(data.points, data.weights, data.k).centers
    whole = Coreset(data.points, data.weights, data.weights, np.arange(len(data.points), dtype=np.uint64))
    optima = list(optimal_assignments(data, count))
    table = Table(title=f"(A) {data.name}, k = {data.k}, {seeds} J's, {count} Gammas: cost over the best")
    for name in ("|J|", "means: free", "Gamma, mean", "Gamma, worst", "rows only: free", "mean", "worst"):
        table.add_column(name, justify="right")
    for per_center in (5, 10, 20, 40):
        columns: list[list[Array | float]] = [[], [], [], []]
        for seed in range(seeds):
            decision = decided(data, Assignment(8, 2), seed, False)
            size = per_center * data.k
            _, places = divided(decision, size, seed=seed)
            left = decision.evidence.shard == places.shard[0]
            points, weights = decision.evidence.sample.points[left], decision.evidence.sample.weights[left]
            rows = points[dz_draw(points, weights, size, 2.0, generator("weak rows only", seed))].astype(np.float64)
            for j, each in enumerate((places.points, rows)):
                cost = cdist(data.points, each, "sqeuclidean")
                columns[2 * j].append(alpha(whole, each, free) or np.nan)
                columns[2 * j + 1].append(np.array([(o.amounts.T @ cost).min(axis=1).sum() / o.cost for o in optima]))
        shown = []
        for j in (0, 1):
            ratios = np.concatenate(columns[2 * j + 1])  # type: ignore[arg-type]
            shown += [f"{np.mean(columns[2 * j]):.3f}", f"{ratios.mean():.3f}", f"{ratios.max():.3f}"]
        table.add_row(f"{per_center} k", *shown)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=200, help="(C, Gamma) a seed")
    parser.add_argument("--gammas", type=int, default=9, help="of property (A)")
    parser.add_argument("--shapes", nargs="+", default=["S1", "digits"], help="of property (A): S1, birch1, digits")
    known = parser.parse_args()
    console, began = Console(width=120), time.monotonic()
    s1 = load("S1", known.data)
    property_b(s1, known.seeds, known.pairs, console)
    many = narrow(SSet().points(40_000))
    for data in (s1, Data("40,000 points like S1", many, np.zeros(len(many), np.int32), 15)):
        cost_of_independence(data, known.seeds, known.pairs // 4, console)
    for name in known.shapes:
        property_a(load(name, known.data), known.seeds, known.gammas, console)
    console.print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
