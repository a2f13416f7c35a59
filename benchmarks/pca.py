"""Algorithm 3 of Gandikota, Mazumdar and Rawat: principal components from mergeable sketches, beside their peers.

    OMP_NUM_THREADS=1 python benchmarks/pca.py                      200 k x 200, r = 5 and 10; memory also at 2 M rows
    OMP_NUM_THREADS=1 python benchmarks/pca.py --rows 50000 --more_rows 200000

Low rank plus noise (`instances.LowRank`: 10 directions whose strength decays, noise in all 200), 10 shards, cyclic
assignment, l = 3, 2 dropped; linear, and affine with an offset. "over best" is the cost on all rows over that of the
exact truncated SVD, "angle" the largest between both subspaces, "factor" what was printed. Every method is a process of
its own that makes its rows block by block. "memory" is how far its peak rises once it is warm, at --rows and at
--more_rows; the same for making the rows alone is the last line. Making rows does not count in the speed.

Ours does the work of three replicas; "one copy" is the same with one shard, as the peers have it. "little room" keeps
no more rows between merges than are sent, so that Frequent Directions has to cut: else there is room for all 200
directions, and nothing is lost before the last cut. The peers: IncrementalPCA of scikit-learn on the same blocks
(centered, so affine only), sums of products in float64 in one pass, and the SVD of all rows at once.
"""
import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy import linalg
from sklearn.decomposition import IncrementalPCA

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.datasets.structured import LowRank
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling import frequent_directions
from beam_coresets.sampling.frequent_directions import Relaxation
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import ShardState
from beam_coresets.shards.pca import SketchTree

Array = npt.NDArray[Any]

DROPPED, DELTA, BLOCK_ROWS, OFFSET = (1, 4), 0.1, 20_000, 3.0
METHODS = ("ours", "ours, little room", "ours, one copy", "IncrementalPCA", "sums", "exact SVD", "rows alone")
IN_MEMORY = 500_000  # rows up to which the SVD of all is tried


class Clock:
    """Adds up the time between `with`s."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


def instance_of(affine: bool) -> LowRank:
    """The data."""
    return LowRank(seed=1, offset=OFFSET * affine)


def by_sketches(blocks: Iterator[Array], n: int, r: int, affine: bool, clock: Clock, copies: bool) -> dict[str, Any]:
    """What the pipeline does, without Beam, in one thread."""
    assignment = Assignment(10, 3) if copies else Assignment(1, 1)
    logic = SketchTree(Sampler(1, 1), assignment, relaxation=Relaxation(r, DELTA, affine))
    states = [ShardState() for _ in range(assignment.shards)]
    low = 0
    for ordinal, points in enumerate(blocks):
        ids = np.arange(low, low + len(points), dtype=np.uint64)
        low += len(points)
        block = PointBlock(points, np.ones(len(points)), ids, Span(0, ordinal, low == n))
        with clock:
            for shard, piece in enumerate(logic.pieces(block)):
                states[shard] = logic.update(states[shard], shard, piece)
    with clock:
        reports = [logic.result(state) for i, state in enumerate(states) if not copies or i not in DROPPED]
        decision = decide(reports, Policy(assignment, "lp", whole=True))
        summary = summarize(decision, Question(Sampler(1, 1), kind="pca", r=r, affine=affine, delta=DELTA))
    (center,), (row,) = summary.centers.to_pylist(), summary.summaries.to_pylist()
    known = {name: row[name] for name in ("factor", "cost", "cost_low", "cost_high", "coreset_points")}
    return {"center": center["coordinates"], "basis": center["basis"], **known}


def by_incremental(blocks: Iterator[Array], n: int, r: int, affine: bool, clock: Clock) -> dict[str, Any]:
    """scikit-learn's, with one partial_fit a block."""
    found = IncrementalPCA(n_components=r)
    for points in blocks:
        with clock:
            found.partial_fit(points.astype(np.float64))
    return {"center": found.mean_.tolist(), "basis": found.components_.ravel().tolist()}


def sums_of(blocks: Iterator[Array], d: int, clock: Clock) -> tuple[int, Array, Array]:
    """Rows, their sum, and the sum of their products."""
    n, total, products = 0, np.zeros(d), np.zeros((d, d))
    for points in blocks:
        with clock:
            rows = points.astype(np.float64)
            n, total, products = n + len(rows), total + rows.sum(axis=0), products + rows.T @ rows
    return n, total, products


def leading(scatter: Array, r: int) -> Array:
    """(r, d)"""
    return np.asarray(np.linalg.eigh(scatter)[1][:, ::-1][:, :r].T)


def by_sums(blocks: Iterator[Array], n: int, r: int, affine: bool, clock: Clock) -> dict[str, Any]:
    """The textbook's one pass."""
    n, total, products = sums_of(blocks, instance_of(affine).d, clock)
    center = affine * total / n
    with clock:
        basis = leading(products - n * np.outer(center, center), r)
    return {"center": center.tolist(), "basis": basis.ravel().tolist()}


def by_svd(blocks: Iterator[Array], n: int, r: int, affine: bool, clock: Clock) -> dict[str, Any]:
    """All rows in memory."""
    rows = np.concatenate(list(blocks)).astype(np.float64)
    with clock:
        center = affine * rows.mean(axis=0)
        basis = linalg.svd(rows - center, full_matrices=False, overwrite_a=True)[2][:r]
    return {"center": (center * np.ones(rows.shape[1])).tolist(), "basis": basis.ravel().tolist()}


def rows_alone(blocks: Iterator[Array], n: int, r: int, affine: bool, clock: Clock) -> dict[str, Any]:
    """No method."""
    return {"rows": sum(len(points) for points in blocks)}


def child(method: str, n: int, r: int, affine: bool) -> dict[str, Any]:
    """One measurement, in this process; warm before it begins."""
    ours = method.startswith("ours")
    if method == "ours, little room":
        frequent_directions.SKETCH_BYTES = 0
    run: Callable[..., dict[str, Any]] = {
        "IncrementalPCA": by_incremental, "sums": by_sums, "exact SVD": by_svd, "rows alone": rows_alone,
    }.get(method, by_sketches)  # fmt: skip
    more = {"copies": method != "ours, one copy"} if ours else {}
    instance = instance_of(affine)
    run(instance.blocks(2 * BLOCK_ROWS, BLOCK_ROWS), 2 * BLOCK_ROWS, r, affine, Clock(), **more)
    before, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Clock()
    found = run(instance.blocks(n, BLOCK_ROWS), n, r, affine, clock, **more)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"seconds": clock.seconds, "memory": (peak - before) / 1024}


def measured(method: str, n: int, r: int, affine: bool) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    asked = json.dumps([method, n, r, affine])
    done = subprocess.run([sys.executable, __file__, "--child", asked], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class Truth:
    """The sums of all rows, which any subspace's cost follows from."""

    def __init__(self, n: int, affine: bool) -> None:
        instance = instance_of(affine)
        self._n, total, products = sums_of(instance.blocks(n, BLOCK_ROWS), instance.d, Clock())
        self.mean = total / self._n
        self._scatter = products - self._n * np.outer(self.mean, self.mean)
        self._affine = affine

    def best(self, r: int) -> tuple[Array, Array]:
        """The optimal center and basis."""
        center = self._affine * self.mean
        apart = self.mean - center
        return center, leading(self._scatter + self._n * np.outer(apart, apart), r)

    def cost(self, center: Array, basis: Array) -> float:
        """The exact cost of a subspace on all rows."""
        apart = self.mean - center
        moments = self._scatter + self._n * np.outer(apart, apart)
        return float(np.trace(moments) - np.trace(basis @ moments @ basis.T))


def line(method: str, n: int, more: int, r: int, affine: bool, truth: Truth) -> list[str]:
    """A row of the table."""
    found = measured(method, n, r, affine)
    later = "-"
    if more and not (method == "exact SVD" and more > IN_MEMORY):
        later = f"{measured(method, more, r, affine)['memory']:.0f}"
    name = [f"{r}", "affine" if affine else "linear", method]
    if "basis" not in found:
        return [*name, "", "", "", "", f"{found['memory']:.0f}", later]
    best = truth.best(r)
    center, basis = np.array(found["center"]), np.array(found["basis"]).reshape(r, -1)
    cost = truth.cost(center, basis)
    angle = np.degrees(linalg.subspace_angles(basis.T, best[1].T).max())
    factor = "-"
    if "factor" in found:
        held = found["cost_low"] <= cost * (1 + 1e-9) and cost <= found["cost_high"] * (1 + 1e-9)
        factor = f"{found['factor']:.4f}{'' if held else ' (interval did not hold)'}"
    return [
        *name, f"1 + {cost / truth.cost(*best) - 1:.1e}", f"{angle:.4f}", factor,
        f"{n / found['seconds'] / 1e6:.3f}", f"{found['memory']:.0f}", later,
    ]  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--more_rows", type=int, default=2_000_000, help="for memory, affine and r = 10; 0: none")
    parser.add_argument("--r", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*json.loads(options.child))))
        return
    table = Table(title=f"{options.rows:,} x {instance_of(False).d}, low rank plus noise, slack {DELTA:g}")
    names = (
        "r", "", "method", "over best", "angle, degrees", "factor", "M points/s", "memory, MB",
        f"at {options.more_rows:,} rows",
    )  # fmt: skip
    for name in names:
        table.add_column(name, justify="left" if name in ("", "method") else "right")
    for affine in (False, True):
        truth = Truth(options.rows, affine)
        for r in options.r:
            for method in METHODS:
                if method == "IncrementalPCA" and not affine:
                    continue
                more = options.more_rows if affine and r == max(options.r) else 0
                table.add_row(*line(method, options.rows, more, r, affine, truth))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


if __name__ == "__main__":
    main()
