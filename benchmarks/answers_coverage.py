"""How often the 95 % intervals of answers from a coreset hold: means, covariances, quantiles, shares and costs.

    OMP_NUM_THREADS=1 python benchmarks/answers_coverage.py --cases 200
    OMP_NUM_THREADS=1 python benchmarks/answers_coverage.py --cases 200 --shape gauss --scheme 8/2

A case is data of a shape, its size, k, the coreset's size and a scheme s/l/dropped (shards, replication, how many
neighbouring shards never answer), all drawn by the case's seed, which also seeds sampling. Its summary is written to
tables and read back; each answer is held against all of the data. Columns of the table:

    cases      in which something was asked
    answers    means of each coordinate, quantiles of each, ...
    held       share of the answers whose interval holds the truth, the mean over cases
    +-         two standard errors of it, over cases
    below      share of the answers whose interval lies below the truth, above: above it
    half       median half-width, in standard deviations of what is asked over rows (of costs: share of the truth)
"""
from __future__ import annotations

import argparse
import dataclasses
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from interval_coverage import SHAPES

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.results.estimates import Estimate
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.model import point_costs
from beam_coresets.summaries.data import SummarizedData
from beam_coresets.summaries.window import WindowSummary

Array = npt.NDArray[Any]

SCHEMES = ("1", "2/2", "8", "8/2", "8/2/1", "50/3/2")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHARES = (0.01, 0.05, 0.2, 0.5)
CLUSTERS = (5, 10, 20, 50)
ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Case:
    """What is summarized, and how."""

    seed: int
    shape: str
    dim: int
    rows: int
    k: int
    size: int
    scheme: str


def numbers(scheme: str) -> tuple[int, int, int]:
    """Shards, replication and how many are dropped."""
    s, replication, dropped = (list(map(int, scheme.split("/"))) + [1, 0][scheme.count("/") :])[:3]
    return s, replication, dropped


def cases(count: int, shapes: list[str], schemes: list[str], first: int) -> Iterator[Case]:
    """Drawn by their seeds."""
    for seed in range(first, first + count):
        rng = random.Random(seed)
        k, scheme = rng.choice([5, 10, 20]), rng.choice(schemes)
        shards, _, _ = numbers(scheme)
        rows, points = rng.choice([10_000, 20_000, 40_000]), rng.choice([1000, 2000, 4000])
        yield Case(seed, rng.choice(shapes), rng.choice([2, 4, 8]), rows, k, max(10, points // shards), scheme)


def summarized(case: Case) -> tuple[Array, SummarizedData]:
    """The data (n, d), and what its summary says once it has been through tables."""
    points = SHAPES[case.shape](generator("answers", case.shape, case.seed), case.rows, case.dim).astype(np.float32)
    shards, replication, dropped = numbers(case.scheme)
    assignment, sampler = Assignment(shards, replication, "cyclic", seed=case.seed), Sampler(case.k, case.size)
    reports = shard_reports(blocks_of(points, rows=4096), MergeReduce(sampler, assignment, case.seed))
    decision = decide(reports[dropped:], Policy(assignment))
    summary = summarize(decision, Question(sampler, seed=case.seed, solve=False))
    return points.astype(np.float64), WindowSummary.solved(summary, None).coreset


def asked(case: Case, which: list[str]) -> Iterator[tuple[str, Estimate, Any, float]]:
    """What is asked, its estimate, the truth, and the unit of the half-width."""
    points, data = summarized(case)
    names = data.coordinates
    rng = np.random.default_rng(case.seed)
    if "mean" in which:
        yield "mean", data.mean(), points.mean(0), points.std(0)
    if "covariance" in which:
        away = points - points.mean(0)
        pairs = np.tril_indices(len(names))
        truth = (away.T @ away / len(points))[pairs]
        products = away[:, pairs[0]] * away[:, pairs[1]]
        found = data.covariance()
        variance = pairs[0] == pairs[1]
        for what, chosen in (("variance", variance), ("covariance", ~variance)):
            yield what, Estimate(*(getattr(found, name)[pairs][chosen] for name in ("value", "low", "high"))), \
                truth[chosen], products.std(0)[chosen]  # fmt: skip
    if "quantiles" in which:
        for j, name in enumerate(names):
            truth = np.quantile(points[:, j], QUANTILES, method="inverted_cdf")
            yield "quantiles", data.quantiles(name, QUANTILES), truth, points[:, j].std()
    if "shares" in which:
        for share in SHARES:
            j = rng.integers(len(names))
            at = np.quantile(points[:, j], 1 - share)
            truth = (points[:, j] > at).mean()
            found = data.share_where(lambda rows, name=names[j], at=at: rows[name] > at)
            yield f"share {share:g}", found, truth, np.sqrt(share * (1 - share))
    if "cost" in which:
        for k in (k for k in CLUSTERS if k <= len(np.unique(data.decision.coreset.points, axis=0))):
            solved = data.solve(k, seed=case.seed)
            truth = point_costs(points, solved.centers)[1].sum()
            yield f"cost, k = {k}", solved.certificate.cost, truth, truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--shape", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--scheme", nargs="+", default=list(SCHEMES))
    parser.add_argument("--ask", nargs="+", default=["mean", "covariance", "quantiles", "shares", "cost"])
    given = parser.parse_args()
    found: dict[str, dict[int, list[tuple[Array, Array, Array]]]] = defaultdict(lambda: defaultdict(list))
    for case in cases(given.cases, given.shape, given.scheme, given.first):
        for what, estimate, truth, unit in asked(case, given.ask):
            off = ROUNDING * np.abs(truth)
            below, above = np.atleast_1d(estimate.high < truth - off), np.atleast_1d(estimate.low > truth + off)
            half = np.atleast_1d((estimate.high - estimate.low) / 2 / unit)
            if len(below):
                found[what][case.seed].append((below, above, half))
    print(f"{'answer':13s} cases answers   held    +-  below  above    half")
    for what, by_case in found.items():
        each = [tuple(np.concatenate(parts) for parts in zip(*held, strict=True)) for held in by_case.values()]
        below, above = (np.array([case[i].mean() for case in each]) for i in (0, 1))
        held = 1 - below - above
        error = 2 * held.std(ddof=1) / np.sqrt(len(held)) if len(held) > 1 else float("nan")
        half = np.median(np.concatenate([case[2] for case in each]))
        answers = sum(len(case[0]) for case in each)
        print(f"{what:13s} {len(each):5d} {answers:7d} {held.mean():6.3f} {error:5.3f} {below.mean():6.3f} "
              f"{above.mean():6.3f} {half:7.4f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
