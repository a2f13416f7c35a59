"""What redundancy costs: all reports from points in memory, on one thread, for one replica of each row and for more.

    python benchmarks/replicas.py                      4 M x 8, k = 20, 8 shards, l = 1, 2 and 3

Rounds go through all numbers of replicas in turn. Seconds are of the processor, by the thread's clock. Beside ours, in
the same run: how fast the kernel alone finds each point's nearest of k centers, which no sampling by distance can
beat, and MiniBatchKMeans.partial_fit in chunks of 10,000 rows.
"""
import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.points.block import blocks_of
from beam_coresets.points.nearest import nearest
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

CHUNK = 10_000


def seconds(work: Callable[[], Any]) -> float:
    """Of the processor."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def partial_fit(points: Any, k: int) -> None:
    """scikit-learn, chunk by chunk."""
    model = MiniBatchKMeans(k, random_state=0)
    for low in range(0, len(points), CHUNK):
        model.partial_fit(points[low : low + CHUNK])


def main() -> None:
    """Measures in rounds, prints medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4_000_000, help="points")
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--replication", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    k = options.k
    points = np.ascontiguousarray(GaussianMixture(seed=1, d=options.dim, k=k).points(options.n), np.float32)
    blocks, centers = list(blocks_of(points)), points[:k].copy()

    def reports(replication: int, held: Any) -> Callable[[], Any]:
        return lambda: shard_reports(held, MergeReduce(Sampler(k, 40 * k), Assignment(options.shards, replication)))

    ways = {f"ours, l = {replication}": reports(replication, blocks) for replication in options.replication}
    ways["bare nearest"] = lambda: [nearest(block.points, centers) for block in blocks]
    ways["MiniBatchKMeans.partial_fit"] = lambda: partial_fit(points, k)
    found: dict[str, list[float]] = {name: [] for name in ways}
    with threadpool_limits(1):
        reports(options.replication[0], blocks_of(points[:200_000]))()  # compiles the kernels
        for _ in range(options.rounds):
            for name, work in ways.items():
                found[name].append(seconds(work))
    first = statistics.median(found[next(iter(ways))])
    table = Table(title=f"{options.n:,} x {options.dim}, k = {k}, {options.shards} shards, one thread")
    for column in ("", "M points/s", "processor time over the first row's"):
        table.add_column(column, justify="left" if not column else "right")
    for name, each in found.items():
        middle = statistics.median(each)
        table.add_row(name, f"{options.n / middle / 1e6:.1f}", f"{middle / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
