"""Planted outliers: which are named, and what the centers cost on everybody else, over the best that is known.

    python benchmarks/outliers.py                     noise in a far box, and far points in all directions
    python benchmarks/outliers.py --coverage 40       how often the 95 % interval holds, over so many seeds a cell

Beside `--outliers` through eight shards (l = 2, one dropped): scikit-learn's KMeans on the cleaned data and on all
of it, and k-means-- (Chawla and Gionis, SDM 2013) on all of it, each the best of ten starts. The best known cost is the
lowest of all on the cleaned data, with ours from many starts on it.
"""
import argparse
import itertools

import numpy as np
from sklearn.cluster import KMeans

from beam_coresets.coordinator.decision import decide
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.points.left_out import trimmed_cost
from beam_coresets.points.nearest import cost, nearest
from beam_coresets.results.summary import Summary, summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.model import point_costs

N, K = 50_000, 10
STARTS = 10


def planted(kind: str, d: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All points (n, d) float32, shuffled, and which were planted (n,)."""
    rng = generator("outliers", kind, d, share, seed)
    means, m = rng.normal(size=(K, d)) * 6, round(share * N)
    inliers = means[rng.choice(K, N, p=rng.dirichlet(np.full(K, 3.0)))] + rng.normal(size=(N, d))
    if kind == "box":  # uniform noise, but for what falls upon a cluster, which nobody can tell
        away = rng.uniform(-60, 60, (4 * m + 1000, d))
        away = away[nearest(away, means)[1] > (6 + np.sqrt(d)) ** 2][:m]
    else:
        away = rng.normal(size=(m, d))
        away *= rng.uniform(60, 600, (m, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    order = rng.permutation(N + m)
    return np.concatenate([inliers, away])[order].astype(np.float32), (np.arange(N + m) >= N)[order]


def summary_of(points: np.ndarray, outliers: float, seed: int, z: float = 2.0) -> Summary:
    """Ours, with shard 3 dropped."""
    plan = Plan(k=K, z=z, shards=8, replication=2, outliers=outliers, seed=seed)
    reports = [r for r in shard_reports(blocks_of(points), plan.merge_reduce) if r.shard != 3]
    return summarize(decide(reports, plan.policy), plan.question)


def k_means_minus_minus(points: np.ndarray, m: int, seed: int) -> np.ndarray:
    """Chawla and Gionis: k-means++ rows, then Lloyd's steps without the m farthest points; the best of ten starts."""
    best, lowest = points[:K], np.inf
    for start in range(STARTS):
        rng = generator("k-means--", seed, start)
        rows = [int(rng.integers(len(points)))]
        least = nearest(points, points[rows])[1].astype(np.float64)
        while len(rows) < K:
            rows.append(int(rng.choice(len(points), p=least / least.sum())))
            least = np.minimum(least, nearest(points, points[rows[-1:]])[1])
        centers, before = points[rows].astype(np.float64), np.inf
        for _ in range(100):
            index, dist_sq = nearest(points.astype(np.float64), centers)
            kept = np.argpartition(dist_sq, len(points) - m)[: len(points) - m]
            now = float(dist_sq[kept].sum())
            sums = np.stack([np.bincount(index[kept], points[kept, j], K) for j in range(points.shape[1])], 1)
            size = np.bincount(index[kept], minlength=K)[:, None]
            if now < lowest:
                best, lowest = centers, now
            centers = np.where(size > 0, sums / np.maximum(size, 1), centers)
            if now > before * (1 - 1e-6):
                break
            before = now
    return best


def compare(kind: str, d: int, share: float, seed: int) -> list[float]:
    """Precision, recall, and costs of the inliers over the best known: ours, KMeans cleaned, KMeans, k-means--."""
    points, away = planted(kind, d, share, seed)
    m, clean = int(away.sum()), points[~away]
    summary = summary_of(points, m, seed)
    gone = summary.outliers.to_pylist()
    named = np.array([int(row["id"], 16) for row in gone if row["weight"] > 0.5])
    found = away[named].sum()
    ones, flat = np.ones(len(clean)), clean.astype(np.float64)
    sets = [
        np.array([row["coordinates"] for row in summary.centers.to_pylist()]),
        KMeans(K, n_init=STARTS, random_state=seed).fit(clean).cluster_centers_,
        KMeans(K, n_init=STARTS, random_state=seed).fit(points).cluster_centers_,
        k_means_minus_minus(points, m, seed),
        solve_centers(clean, ones, K, restarts=STARTS).centers,
    ]
    costs = [cost(flat, ones, np.asarray(centers, np.float64)) for centers in sets]
    return [found / max(1, len(named)), found / m, *(c / min(costs) for c in costs[:4])]


def coverage(kind: str, d: int, share: float, z: float, seeds: int) -> list[float]:
    """How often the interval holds the cost of the emitted centers on all data without the worst, its half-width over
    1.96 true deviations, and bias over half-width."""
    held, halves, errors = 0, [], []
    for seed in range(seeds):
        points, away = planted(kind, d, share, seed % 5)
        summary = summary_of(points, float(away.sum()), 1000 + seed, z)
        row = summary.summaries.to_pylist()[0]
        centers = np.array([each["coordinates"] for each in summary.centers.to_pylist()])
        true = trimmed_cost(point_costs(points, centers, z)[1], np.ones(len(points)), float(away.sum()))
        held += row["cost_low"] <= true <= row["cost_high"]
        halves.append((row["cost_high"] - row["cost_low"]) / 2 / true)
        errors.append(row["cost"] / true - 1)
    half = float(np.median(halves))
    return [held / seeds, half, half / (1.96 * float(np.std(errors))), float(np.mean(errors)) / half]


def main() -> None:
    """Runs what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coverage", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--seeds", type=int, default=3, help="a cell of the comparison; the worst is shown")
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 4, 16])
    args = parser.parse_args()
    names = ("held", "half-width", "over 1.96 deviations", "bias over half-width")
    if not args.coverage:
        names = ("precision", "recall", "ours", "KMeans, cleaned", "KMeans", "k-means--")
    print(f"{N:,} rows in {K} clusters, {K} centers, 8 shards, l = 2, one dropped: {', '.join(names)}")
    powers = (1.0, 2.0) if args.coverage else (2.0,)
    for kind, d, share, z in itertools.product(("box", "far"), args.dims, (0.001, 0.01, 0.05), powers):
        if args.coverage:
            found = coverage(kind, d, share, z, args.coverage)
        else:
            runs = np.array([compare(kind, d, share, seed) for seed in range(args.seeds)])
            found = [*runs[:, :2].min(axis=0), *runs[:, 2:].max(axis=0)]
        print(f"{kind} d={d:<3} {share:5.1%} z={z:g}  " + "  ".join(f"{v:7.4f}" for v in found), flush=True)


if __name__ == "__main__":
    main()
