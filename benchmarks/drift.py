"""Drift: how often quiet windows are told apart, how surely changes are found, and the smallest ones that are.

    OMP_NUM_THREADS=1 python benchmarks/drift.py quiet --windows 1000
    OMP_NUM_THREADS=1 python benchmarks/drift.py changes --runs 100
    OMP_NUM_THREADS=1 python benchmarks/drift.py smallest --runs 40
    OMP_NUM_THREADS=1 python benchmarks/drift.py beside --runs 20

Windows are generated rows that go through shards, replication, losses and recovery as in a job.

- quiet: pairs of windows of one source, of many shapes, sizes, k, d, schemes, losses, weights, and parts that differ
  from each other. A line for each of the ways of comparing: how many of the probabilities are below a level. The
  intervals of excess and moved: how often they hold 0.
- changes: a mixture of k clusters, 8 shards of 40 k points each, every bucket on two; in each run another mixture.
  Shift: one cluster by half its spread (root mean square distance). New: 1 % of the rows, ten deviations away from
  everything. Rotation: by 20 degrees in each pair of columns. Spread: of one cluster times 1.3. Sizes: each cluster's
  share times exp(0.3 N(0, 1)).
- smallest: shifts of one cluster in units of its spread, found in so many of the runs, by rows of a window.
- beside: the same changes, and quiet windows, by a Kolmogorov-Smirnov test of each column (Bonferroni) and by maximum
  mean discrepancy (200 random features, 2,000 permutations), on all of the raw rows.
"""
from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from interval_coverage import SHAPES
from scipy import stats

from beam_coresets.comparing.drift import FALSE_ALARMS, Reference, drift
from beam_coresets.comparing.one_source import FINER, OneSource, one_source
from beam_coresets.comparing.seen import Seen
from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.results.question import Question
from beam_coresets.results.summary import solved_model
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment, part_ids
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

Array = npt.NDArray[Any]
CHANGES = ("shift", "new", "vanished", "rotation", "spread", "sizes")
KINDS = ("gauss", "t2.5", "clusters", "far", "cube", "lognormal", "rare", "grid", "few")
SIZES = (2_000, 5_000, 20_000, 50_000, 200_000)
SCHEMES = ((1, 1, 0), (4, 1, 0), (4, 1, 1), (4, 2, 0), (8, 2, 1), (8, 2, 2), (8, 3, 1))  # shards, replication, lost
TRIED = ((20_000, 8, 10), (20_000, 2, 10), (20_000, 32, 10), (50_000, 8, 30), (5_000, 8, 10), (2_000, 8, 10))  # n, d, k
MOST_COORDINATES = 1_000_000


class Mixture(NamedTuple):
    """Of Gaussian clusters: centers (k, d), deviations (k,), shares (k,)."""

    centers: Array
    deviation: Array
    share: Array

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """(n, d) float32."""
        label = rng.choice(len(self.share), n, p=self.share)
        noise = rng.standard_normal((n, self.centers.shape[1]))
        return (self.centers[label] + self.deviation[label, None] * noise).astype(np.float32)


def mixture(d: int, k: int, seed: int) -> Mixture:
    rng = generator("drift mixture", d, k, seed)
    share = np.maximum(rng.dirichlet(np.full(k, 3.0)), 0.3 / k)
    centers = rng.standard_normal((k, d)) * 10 / np.sqrt(2 * min(d, 8))
    return Mixture(centers, rng.uniform(0.7, 1.3, k), share / share.sum())


def changed(kind: str, m: Mixture, rng: np.random.Generator, size: float = 0.5) -> Mixture:
    """The mixture after a change; `size` of a shift, in spreads."""
    centers, deviation, share = m.centers.copy(), m.deviation.copy(), m.share.copy()
    k, d = centers.shape
    j, way = int(rng.integers(k)), rng.standard_normal(d)
    way /= np.linalg.norm(way)
    if kind == "shift":
        centers[j] += size * deviation[j] * d**0.5 * way
    elif kind == "new":
        far = np.linalg.norm(centers, axis=1).max() + 10 * d**0.5 / 2**0.5
        centers, deviation = np.vstack([centers, far * way]), np.append(deviation, 1.0)
        share = np.append(0.99 * share, 0.01)
    elif kind == "vanished":
        share[j] = 0
    elif kind == "rotation":
        c, s = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
        for a in range(0, d - 1, 2):
            centers[:, a : a + 2] = centers[:, a : a + 2] @ np.array([[c, s], [-s, c]])
    elif kind == "spread":
        deviation[j] *= 1.3
    elif kind == "sizes":
        share *= np.exp(0.3 * rng.standard_normal(k))
    return Mixture(centers, deviation, share / share.sum())


def decided(
    parts: list[Array], k: int, size: int, scheme: tuple[int, int, int], seed: int, weights: Array | None = None
) -> Decision:
    """What the coordinator decides of one part, whose ids are hashed to buckets, or of several, which are buckets."""
    shards, replication, lost = scheme
    several = len(parts) > 1
    assignment = Assignment(shards, replication, "cyclic", max(len(parts), shards) if several else 1024, parts=several)
    blocks = [b for i, part in enumerate(parts) for b in blocks_of(part, weights, part=i, rows=8192)]
    if several:
        blocks = [dataclasses.replace(b, ids=part_ids(b.span.part, b.ids & np.uint64(0xFFFFFFFF))) for b in blocks]
    reports = shard_reports(blocks, MergeReduce(Sampler(k, size), assignment, seed))
    return decide([r for r in reports if r.shard >= lost], Policy(assignment, parts=len(parts) if several else 0))


def tests_of(a: Seen, b: Seen, k: int, seed: int) -> tuple[float, ...]:
    """All of the probabilities, and the one that counts."""
    each = [p for finer in FINER for p in one_source(a, b, finer * k, seed)]
    return (*each, min(1.0, len(each) * min(each)))


def source(rng: np.random.Generator, d: int, seed: int) -> tuple[str, Callable[[int, np.random.Generator], Array]]:
    kind = str(rng.choice(["mixture", "mixture", *KINDS]))
    if kind == "mixture":
        return kind, mixture(d, int(rng.integers(5, 50)), seed).draw
    if kind in ("clusters", "few"):  # whose centers must be the same in both windows
        places = generator(kind, d, seed).standard_normal((30, d)) * 8
        noise = 1.0 if kind == "clusters" else 0.0
        return kind, lambda n, r: places[r.integers(30, size=n)] + noise * r.standard_normal((n, d))
    return kind, lambda n, r: SHAPES[kind](r, n, d)


def quiet_pair(i: int) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """What it is, its probabilities, and excess_low, excess_high and moved_low."""
    rng = generator("quiet", i)
    d, k = int(rng.choice([2, 4, 8, 16, 64])), int(rng.choice([5, 10, 20, 50]))
    n = int(rng.choice([n for n in SIZES if n * d <= MOST_COORDINATES]))
    sizes = n, int(rng.choice([n, n, n // 2, max(2000, n // 10)]))
    size, (shards, replication, lost) = k * int(rng.choice([10, 20, 40])), SCHEMES[rng.integers(len(SCHEMES))]
    kind, draw = source(rng, d, i)
    weighted, parts = bool(rng.random() < 0.2), int(rng.choice([1, 1, 1, 8]))
    found = []
    for window in (0, 1):
        own = generator("quiet rows", i, window)
        rows = draw(sizes[window], own).astype(np.float32)
        weights = np.exp(own.standard_normal(len(rows))) if weighted and parts == 1 else None
        held = [rows]
        if parts > 1:  # each part has its own place
            held = [rows[p::parts] + np.float32(p % 3) for p in range(parts)]
        gone = lost if window == 0 else int(own.choice([0, lost]))
        decision = decided(held, k, size, (shards, replication, gone), 2 * i + window, weights)
        model = solved_model(decision.coreset, Question(Sampler(k, size)))
        found.append((decision, model, Seen.of(decision)))
    (_, model, seen), (_, old, before) = found
    name = f"{kind} d={d} k={k} n={sizes} size={size} {shards}/{replication}/{lost} w={weighted} parts={parts}"
    if seen is None or before is None or seen.common(before) is None or before.common(seen) is None:
        return name, (1.0,) * 11, (0.0, 0.0, 0.0)
    tests = tests_of(*(x for x in (seen.common(before), before.common(seen)) if x is not None), k, i)
    what = drift(seen, model, Reference.of(before, old), seed=i)
    assert what is not None
    return name, tests, (what.excess_low, what.excess_high, what.moved_low)


def quiet(windows: int, first: int) -> None:
    found, figures = [], []
    for i in range(first, first + windows):
        name, tests, bars = quiet_pair(i)
        found.append(tests)
        figures.append(bars)
        if tests[-1] < 2 * FALSE_ALARMS:
            print(i, f"{tests[-1]:.2g}", name, flush=True)
        if len(found) % 50 == 0 or len(found) == windows:
            _print_quiet(np.array(found), np.array(figures))


def _print_quiet(table: Array, figures: Array) -> None:
    windows, (low, high, moved) = len(table), figures.T
    names = [f"{name} {finer}k" for finer in FINER for name in OneSource._fields] + ["all"]
    print("level     " + " ".join(f"{name:>10s}" for name in names))
    for level in (0.1, 0.01, 0.001):
        print(f"{level:<9g} " + " ".join(f"{(table[:, j] < level).mean():10.4f}" for j in range(len(names))))
    alarms = int((table[:, -1] < FALSE_ALARMS).sum())
    print(f"false alarms: {alarms} of {windows} (at most {windows * FALSE_ALARMS:g} meant)")
    print(f"excess holds 0 in {((low <= 0) & (high >= 0)).mean():.3f}; moved holds 0 in {(moved <= 0).mean():.3f}",
          flush=True)  # fmt: skip


def detected(kind: str, n: int, d: int, k: int, seed: int, size: float = 0.5) -> bool:
    before, rng = mixture(d, k, seed), generator("change", kind, n, d, k, seed)
    after = before if kind == "quiet" else changed(kind, before, rng, size)
    scheme = (8, 2, 0)
    seen = [Seen.of(decided([m.draw(n, rng)], k, 40 * k, scheme, 2 * seed + i)) for i, m in enumerate((before, after))]
    assert seen[0] is not None
    assert seen[1] is not None
    return tests_of(seen[1], seen[0], k, seed)[-1] < FALSE_ALARMS


def changes(runs: int, tried: int) -> None:
    print("rows     d   k  " + " ".join(f"{kind:>9s}" for kind in CHANGES))
    for n, d, k in TRIED[:tried]:
        shares = [np.mean([detected(kind, n, d, k, seed) for seed in range(runs)]) for kind in CHANGES]
        print(f"{n:<7d} {d:3d} {k:3d} " + " ".join(f"{share:9.2f}" for share in shares), flush=True)


def smallest(runs: int) -> None:
    sizes = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
    print("rows    " + " ".join(f"{size:6g}" for size in sizes))
    for n in SIZES:
        shares = [np.mean([detected("shift", n, 8, 10, seed, size) for seed in range(runs)]) for size in sizes]
        print(f"{n:<7d} " + " ".join(f"{share:6.2f}" for share in shares), flush=True)


def by_columns(a: Array, b: Array) -> bool:
    """Kolmogorov-Smirnov, each column."""
    return min(stats.ks_2samp(a[:, t], b[:, t]).pvalue for t in range(a.shape[1])) * a.shape[1] < FALSE_ALARMS


def by_mean_discrepancy(a: Array, b: Array, rng: np.random.Generator, features: int = 200, turns: int = 2000) -> bool:
    """Random features of a Gaussian kernel (Rahimi and Recht 2007), permuted."""
    both = np.concatenate([a, b]).astype(np.float64)
    pairs = rng.integers(len(both), size=(2, 2000))
    width = float(np.median(np.linalg.norm(both[pairs[0]] - both[pairs[1]], axis=1)))
    angle = both @ (rng.standard_normal((both.shape[1], features // 2)) / width)
    mapped = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    signs = np.where(np.arange(len(both)) < len(a), 1 / len(a), -1 / len(b)).astype(np.float32)
    own, more = float(((signs @ mapped) ** 2).sum()), 0
    for _ in range(turns // 100):
        turned = np.stack([rng.permutation(signs) for _ in range(100)])
        more += int((((turned @ mapped) ** 2).sum(axis=1) >= own).sum())
    return (more + 1) / (turns + 1) < FALSE_ALARMS


def beside(runs: int) -> None:
    n, d, k = 20_000, 8, 10
    print(f"{'change':9s} {'drift':>6s} {'KS':>6s} {'MMD':>6s}   seconds a window, on one thread: drift, KS, MMD")
    for kind in ("quiet", *CHANGES):
        found, seconds = [], np.zeros(3)
        for seed in range(runs):
            before, rng = mixture(d, k, seed), generator("beside", kind, seed)
            after = before if kind == "quiet" else changed(kind, before, rng)
            a, b = before.draw(n, rng), after.draw(n, rng)
            seen = [Seen.of(decided([x], k, 40 * k, (8, 2, 0), 2 * seed + i)) for i, x in enumerate((a, b))]
            row = []
            for t, test in enumerate((
                lambda s=seen, i=seed: tests_of(s[1], s[0], k, i)[-1] < FALSE_ALARMS,
                lambda x=a, y=b: by_columns(x, y),
                lambda x=a, y=b, r=rng: by_mean_discrepancy(x, y, r),
            )):
                began = time.thread_time()
                row.append(test())
                seconds[t] += time.thread_time() - began
            found.append(row)
        rates = np.mean(found, axis=0)
        print(f"{kind:9s} " + " ".join(f"{rate:6.2f}" for rate in rates) + "   "
              + ", ".join(f"{s / runs:.3f}" for s in seconds), flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("quiet", "changes", "smallest", "beside"))
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--tried", type=int, default=len(TRIED), help="how many of the shapes of changes")
    given = parser.parse_args()
    if given.what == "quiet":
        quiet(given.windows, given.first)
    else:
        how = {"changes": lambda runs: changes(runs, given.tried), "smallest": smallest, "beside": beside}
        how[given.what](given.runs)


if __name__ == "__main__":
    main()
