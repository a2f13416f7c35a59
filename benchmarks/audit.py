"""What an audit costs, what it finds, and how often it is wrong about honest shards.

    python benchmarks/audit.py [--data DIR] [--honest 1000] [--seeds 5]

Three tables. Seconds of one decision with and without an audit, at 10 and 100 shards of 40 k points. Then lies of one
shard in ten (replication 3, k = 20, 40 k points a shard), each of several sizes: in how many seeds the liar alone was
named, and the cost of the emitted centers on all data over that of honest shards, without and with the audit. Last,
honest shards on generated data of many shapes, weights, repeated ids, schemes and methods: how many alarms there were,
and the largest deviation of any test as a share of what raises one. --data adds S1 (`s1.txt`) to the second table.
"""
import argparse
import dataclasses
import math
import pathlib
import time

import numpy as np

from beam_coresets.coordinator.audit import FALSE_ALARM
from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.coordinator.replica_test import Pool, ReplicaEvidence
from beam_coresets.datasets.synthetic import GaussianMixture, HeavyTails, SSet
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.points.nearest import cost
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import solve_centers

ROWS, K, LIAR = 100_000, 20, 4
SCHEME = Assignment(10, 3)
LIES = {
    "all points shifted, standard deviations": (0.05, 0.1, 0.2, 0.5, 2.0),
    "noise added, standard deviations": (0.05, 0.1, 0.2, 0.5, 2.0),
    "points put far away, share": (0.02, 0.1, 0.2, 0.5),
    "points put into one place, share": (0.02, 0.1, 0.2, 0.5),
    "one point far away, share of weight": (0.1, 0.5, 0.9),
    "half reweighted, factor": (1.5, 3.0, 10.0),
}


def lie(report, what, size, seed):
    """The report with a falsified sample and a ledger that is right."""
    sample, rng = report.coreset, generator("lie", what, seed)
    points, w = sample.points.astype(np.float64), sample.weights.copy()
    mean = w @ points / w.sum()
    deviation = math.sqrt(w @ ((points - mean) ** 2).sum(axis=1) / w.sum())
    some = rng.random(len(w)) < size
    direction = rng.standard_normal(points.shape[1])
    direction *= deviation / np.linalg.norm(direction)
    if what.startswith("all points shifted"):
        points += size * direction
    elif what.startswith("noise"):
        points += size * deviation / math.sqrt(points.shape[1]) * rng.standard_normal(points.shape)
    elif what.startswith("points put far"):
        points[some] += 20 * deviation * rng.standard_normal((int(some.sum()), points.shape[1]))
    elif what.startswith("points put into"):
        points[some] = mean + 5 * direction
    elif what.startswith("one point"):
        points[0], w[0] = mean + 20 * direction, size / (1 - size) * w[1:].sum()
    else:
        w[points @ direction > np.median(points @ direction)] *= size
    ratio = w / sample.weights * (report.ledger.weight / w.sum())
    return dataclasses.replace(report, coreset=dataclasses.replace(
        sample, points=points.astype(sample.points.dtype), weights=sample.weights * ratio,
        weights_ht=sample.weights_ht * ratio,
    ))  # fmt: skip


def lies(shapes, seeds):
    """Detection and harm, lie by lie."""
    print(f"\n{'shape':10} {'lie':42} {'size':>6} {'named':>7} {'wrong':>6} {'cost without':>13} {'with audit':>11}")
    for name, points in shapes.items():
        ones = np.ones(len(points))
        blocks = list(blocks_of(points))
        for what, sizes in LIES.items():
            for size in sizes:
                named = wrong = 0
                ratios = []
                for seed in range(seeds):
                    reports = shard_reports(blocks, MergeReduce(Sampler(K, 40 * K), SCHEME, seed))
                    false = [lie(r, what, size, seed) if r.shard == LIAR else r for r in reports]
                    costs = []
                    for held, audited in ((reports, False), (false, False), (false, True)):
                        decision = decide(held, Policy(SCHEME, audit=audited))
                        core = decision.coreset
                        centers = solve_centers(core.points, core.weights, K, seed=seed, restarts=2, swaps=K).centers
                        costs.append(cost(points, ones, centers))
                        if audited:
                            named += LIAR in decision.recovery.distrusted
                            wrong += bool(set(decision.recovery.distrusted) - {LIAR})
                    ratios.append([costs[1] / costs[0], costs[2] / costs[0]])
                without, checked = np.median(ratios, axis=0)
                print(f"{name:10} {what:42} {size:6g} {named:4}/{seeds} {wrong:6} {without:13.3f} {checked:11.3f}")


def seconds():
    """The time of a decision."""
    print(f"{'shards':>6} {'points in all':>14} {'decide, s':>10} {'with audit':>11}")
    for shards, k in ((10, 10), (10, 100), (100, 10), (100, 100)):
        scheme = Assignment(shards, 3)
        blocks = list(blocks_of(GaussianMixture().points(8 * 40 * k * shards)))
        reports = shard_reports(blocks, MergeReduce(Sampler(k, 40 * k), scheme))
        spent = []
        for audited in (False, True):
            times = []
            for _ in range(4):
                start = time.perf_counter()
                decide(reports, Policy(scheme, audit=audited))
                times.append(time.perf_counter() - start)
            spent.append(min(times))
        print(f"{shards:6} {sum(len(r.coreset) for r in reports):14,} {spent[0]:10.3f} {spent[1]:11.3f}")


def honest_run(seed):
    """Reports of honest shards on data of a random shape under a random scheme, some dropped, and what they are."""
    rng = generator("honest shards", seed)
    n = int(rng.choice([3, 30, 300, 3000, 20_000, 40_000]))
    shapes = {
        "mixture": lambda: GaussianMixture(seed, d=int(rng.integers(1, 10)), k=int(rng.integers(2, 30))).points(n),
        "heavy tails": lambda: HeavyTails(
            seed, d=int(rng.choice([2, 16, 64])), k=10, freedom=float(rng.choice([1.0, 2.2])), tail=1.2
        ).points(n),
        "plane": lambda: SSet(seed).points(n),
        "repeated": lambda: SSet(seed).points(max(1, n // 20))[rng.integers(max(1, n // 20), size=n)],
        "equal": lambda: np.ones((n, 2), np.float32),
        "lattice": lambda: rng.integers(0, 3, (n, 3)).astype(np.float32),
        "giant": lambda: np.r_[np.full((1, 3), 1e8), rng.standard_normal((n, 3))].astype(np.float32),
        "far group": lambda: np.r_[rng.standard_normal((n, 3)), rng.normal(1e4, 1, (20, 3))].astype(np.float32),
        "cauchy": lambda: rng.standard_cauchy((n, 2)).astype(np.float32),
        "log-normal": lambda: np.exp(4 * rng.standard_normal((n, 2))).astype(np.float32),
        "line": lambda: np.arange(3.0 * n).reshape(n, 3),
        "offset": lambda: rng.standard_normal((n, 2)) + 1e7,
    }
    shape = str(rng.choice(list(shapes)))
    points = shapes[shape]()
    n = len(points)
    weighting = str(rng.choice(["one", "one", "even", "pareto", "zeros", "one giant"]))
    weights = {
        "one": np.ones(n), "even": rng.random(n), "pareto": rng.pareto(1.1, n) + 0.01,
        "zeros": 1.0 * (rng.random(n) < 0.2), "one giant": np.r_[float(n), np.ones(n - 1)],
    }[weighting]  # fmt: skip
    ids = np.arange(n, dtype=np.uint64)
    if rng.random() < 0.25:
        ids = rng.integers(0, max(1, n // int(rng.integers(1, 20))), n).astype(np.uint64)
    s = int(rng.choice([1, 2, 3, 5, 10, 10, 30, 100]))
    kind = str(rng.choice(["cyclic", "cyclic", "fractional", "uniform", "bernoulli"]))
    scheme = Assignment(s, int(rng.integers(1, min(s, 5) + 1)), kind, int(rng.choice([128, 1024])), seed)
    k = int(rng.choice([1, 3, 20, 50]))
    method = str(rng.choice(["sensitivity", "sensitivity", "lightweight", "uniform", "rings_and_groups"]))
    sampler = Sampler(k, max(k, int(rng.choice([k, 10 * k, 40 * k, 400]))), float(rng.choice([1, 2, 2, 3])), method)
    blocks, at = [], 0
    for b in blocks_of(points, rows=int(rng.choice([100, 1000, 4096]))):
        blocks.append(PointBlock(b.points, weights[at : at + len(b)], ids[at : at + len(b)], b.span))
        at += len(b)
    reports = shard_reports(blocks, MergeReduce(sampler, scheme, seed))
    what = f"{shape}, weights {weighting}, {method}, {kind}, s = {s}, l = {scheme.replication}"
    return [r for r in reports if rng.random() < 0.9], scheme, what


def honest(runs):
    """Alarms among honest shards, and how near the nearest came."""
    alarms, nearest, where = 0, 0.0, ""
    for seed in range(runs):
        reports, scheme, what = honest_run(seed)
        decision = decide(reports, Policy(scheme, audit=True))
        if set(decision.recovery.distrusted.values()) & {"implausible", "disputed"}:
            alarms += 1
            print(f"alarm: seed {seed}, {what}: {decision.recovery.distrusted}")
        trusted = decision.recovery.trusted
        pool = Pool.of([r for r in reports if len(r.coreset)] or reports, scheme)
        evidence = ReplicaEvidence.of(pool.take(np.flatnonzero(trusted[pool.shard, pool.bucket])), scheme)
        threshold = math.log(2 * scheme.shards * evidence.tests / FALSE_ALARM)
        deviation = math.sqrt(max(0.0, -float(evidence.log_p().min())) / threshold)
        nearest, where = max((nearest, where), (deviation, what))
    print(f"\n{runs} honest runs: {alarms} alarms; the largest deviation was {nearest:.2f} of the threshold ({where})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with s1.txt")
    parser.add_argument("--honest", type=int, default=1000, help="runs with honest shards (default 1000)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each lie (default 5)")
    args = parser.parse_args()
    seconds()
    instances = {"plane": SSet(), "mixture": GaussianMixture(), "tails": HeavyTails()}
    shapes = {name: instance.points(ROWS) for name, instance in instances.items()}
    if args.data:
        shapes["S1"] = np.loadtxt(pathlib.Path(args.data) / "s1.txt").astype(np.float32)
    lies(shapes, args.seeds)
    honest(args.honest)


if __name__ == "__main__":
    main()
