"""What every method errs by on data that no small coreset stands for, with the centers that the proof builds from it.

    OMP_NUM_THREADS=1 python benchmarks/lower_bound.py --csv lower_bound.csv

The instances of `beam_coresets.datasets.lower_bound`: Section 2.1 at z = 2 with one copy and with several, at z = 1,
and Section 2.2. Errors are distortions minus one: `built` is the worst over the centers built from the sample (both
ways round, and Claim 2.1's for each copy), `Claim 2.2` what the first of these must be by the claim's distances and
the sample's weights, `formula` the same for any sample of that share whose weights add up to the number of points,
`theorem` the curve that no method may go below. `fixed` is the worst over centers that were built from another sample
of the same
kind: they show nothing. `--tree` sends the points through leaves and merges, too.
"""
import argparse
import csv
import dataclasses
import pathlib
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from beam_coresets.datasets.lower_bound import HardInstance, first_instance, formula, second_instance
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.results.distortion import Measured, costs
from beam_coresets.sampling.importance import METHODS, Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

Array = npt.NDArray[Any]

INSTANCES = {
    "2.1, one copy": lambda: first_instance(1296, 6, copies=1),
    "2.1": lambda: first_instance(1296, 6),
    "2.1, z = 1": lambda: first_instance(512, 8, z=1.0),
    "2.2": lambda: second_instance(1296, 0.05, copies=1),
    "2.2, z = 1": lambda: second_instance(512, 0.05, z=1.0),
}
SHARES = (0.02, 0.05, 0.1, 0.15, 0.4, 0.8)
METHODS_HERE = tuple(method for method in METHODS if method != "subspace")  # of centers


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows of an instance's points and their weights."""

    rows: Array
    weights: Array


def drawn(instance: HardInstance, method: str, size: int, seed: int, tree: bool) -> Sample:
    """A coreset by one draw, or by a shard's tree."""
    points = instance.points
    sampler = Sampler(min(instance.k, size), size, instance.z, method, seed)
    if tree:
        (report,) = shard_reports(blocks_of(points, rows=4096), MergeReduce(sampler, Assignment(1, 1), seed))
        return Sample(report.coreset.ids.astype(np.int64), report.coreset.weights)
    strata = np.zeros(len(points), np.int32)
    rows, _, weights = sampler.finish(points, np.ones(len(points)), strata, generator("lower bound", seed))
    return Sample(rows, weights)


def errors(instance: HardInstance, sample: Sample, sets: list[Array]) -> list[float]:
    """Cost on the sample over cost on the points, minus one, for each of some center sets."""
    points = instance.points
    named = [("", centers) for centers in sets]
    on_data = costs(points, np.ones(len(points)), named, instance.z)
    on_sample = costs(points[sample.rows], sample.weights, named, instance.z)
    return [float(b / a - 1) for a, b in zip(on_data, on_sample, strict=True)]


def worst(found: list[float]) -> float:
    """The largest distortion minus one."""
    return max(Measured("", 1.0, 1 + error).distortion - 1 for error in found)


def measure(name: str, instance: HardInstance, method: str, share: float, tree: bool) -> dict[str, Any]:
    """One row of the table."""
    size, began = round(share * len(instance.points)), time.perf_counter()
    sample = drawn(instance, method, size, 0, tree)
    seconds = time.perf_counter() - began
    built = [instance.centers(sample.rows, farther) for farther in (True, False)]
    weighing = [instance.centers_far_away(copy, instance.scale) for copy in range(instance.copies)]
    found = errors(instance, sample, built + weighing)
    other = drawn(instance, method, size, 1, tree)
    fixed = errors(instance, sample, [instance.centers(other.rows, farther) for farther in (True, False)])
    exact = instance.exact_error(sample.rows, sample.weights)
    assert abs(found[0] - exact) < 1e-9, (found[0], exact)
    one = instance.copies == 1 and instance.sets == instance.k // 2 and instance.z == 2
    share = len(sample.rows) / len(instance.points)
    return {
        "instance": name, "k": instance.k, "t": instance.t, "z": instance.z, "points": len(instance.points),
        "method": method, "size": len(sample.rows), "share": share, "built": worst(found), "Claim 2.2": exact,
        "formula": formula(instance.t, share) if one else float("nan"),
        "theorem": instance.proved_error(len(sample.rows)), "fixed": worst(fixed), "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Measures, prints as it goes, and fails if a method lies below the theorem's curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", nargs="+", choices=INSTANCES, default=list(INSTANCES))
    parser.add_argument("--methods", nargs="+", choices=METHODS_HERE, default=list(METHODS_HERE))
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES), help="of the points that are kept")
    parser.add_argument("--tree", action="store_true", help="through leaves and merges, not by one draw")
    parser.add_argument("--csv", type=pathlib.Path, help="write the table here too")
    options = parser.parse_args()
    rows = []
    for name in options.instances:
        instance = INSTANCES[name]()
        for method in options.methods:
            for share in options.shares:
                rows.append(measure(name, instance, method, share, options.tree))
                print(" ".join(f"{k} {_text(v)};" for k, v in rows[-1].items()), flush=True)
    table = Table(title="error on the lower-bound instances")
    for column in rows[0]:
        table.add_column(column, justify="left" if column in ("instance", "method") else "right")
    for row in rows:
        table.add_row(*map(_text, row.values()))
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)
    below = [row for row in rows if row["built"] < row["theorem"]]
    print(f"{len(below)} of {len(rows)} below the theorem's curve")
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    raise SystemExit(1 if below else 0)


def _text(value: Any) -> str:
    return f"{value:.5f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
