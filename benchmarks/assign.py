"""`beam-coresets assign` as a user runs it, plain and under a constraint: points/s, and by how much bounds are missed.

    python benchmarks/assign.py                              5 M x 8, k = 20, balanced +-5 %
    python benchmarks/assign.py --n 500000 --balanced 0.2
    python benchmarks/assign.py --labels 4                   and every label at most 1.1 times its share of a cluster

Seeded rows are written as Parquet into a temporary folder, summarized, solved under the constraint by
`beam-coresets solve`, and then assigned: each command in a fresh process, its time from start to end of the process and
as it says itself, without start-up. The rows below them are the violation of all rows' bounds by prices that `assign`
does not use: from the coreset alone, and from 200,000 rows drawn uniformly.
"""
import argparse
import csv
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from beam_coresets.assigning.cluster_assignment import Priced, label_codes
from beam_coresets.assigning.dual_prices import Survey, Surveyor, reprice
from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.transforms.writing.stored_tables import read_table

FILES = 8
SEED = 1
UNIFORM = 200_000


def write(folder: pathlib.Path, n: int, dim: int, labels: int) -> str:
    """The rows as files; their glob."""
    instance, rows = GaussianMixture(seed=SEED, d=dim), -(-n // FILES)
    for i in range(FILES):
        points = instance.block(i, min(rows, n - i * rows))
        columns = {f"x{j}": points[:, j] for j in range(dim)}
        if labels:
            # Labels lean to one side of the data: else every balanced assignment were fair.
            side = points[:, 0] > np.median(points[:, 0])
            drawn = generator("labels", SEED, i).integers(0, labels, (2, len(points))).min(axis=0)
            columns["label"] = np.where(side, drawn, labels - 1 - drawn).astype(str)
        pq.write_table(pa.table(columns), folder / f"{i}.parquet", row_group_size=200_000)
    return f"{folder}/*.parquet"


def run(*command: str) -> tuple[float, str]:
    """A word of the command line in a process of its own: its seconds and what it printed."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "beam_coresets", *command], capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"beam-coresets {' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return seconds, done.stdout


def worst(folder: str) -> float:
    """The largest violation that `assign` has reported."""
    with open(f"{folder}/bounds.csv") as file:
        return max(float(row["violation"]) for row in csv.DictReader(file))


def blocks(pattern: str, dim: int) -> Iterator[PointBlock]:
    """The rows again, in this process."""
    folder, row = pathlib.Path(pattern).parent, 0
    for part, path in enumerate(sorted(folder.glob("*.parquet"))):
        for i, batch in enumerate(pq.ParquetFile(path).iter_batches(65_536)):
            points = np.stack([batch.column(f"x{j}").to_numpy() for j in range(dim)], axis=1).astype(np.float32)
            ids = np.arange(row, row + len(points), dtype=np.uint64)
            extras = pa.table({"group": batch.column("label")}) if "label" in batch.schema.names else None
            yield PointBlock(points, np.ones(len(points)), ids, Span(part, i), None, extras)
            row += len(points)


def sizes(pattern: str, dim: int, priced: Priced) -> np.ndarray:
    """The weight (m, k) of labels in clusters by given prices."""
    table = np.zeros(priced.prices.shape)
    for block in blocks(pattern, dim):
        index, _ = priced.clusters_of(block)
        label = np.zeros(len(block), np.int64)
        if priced.labels != ("",):
            names, codes = label_codes(block.extras)
            label = np.array([priced.labels.index(name) for name in names])[codes]
        np.add.at(table, (label, index), block.weights)
    return table


def of_coreset(folder: str, labelled: bool) -> Survey:
    """The coreset as what all rows are judged by."""
    table = read_table(folder, "coreset")
    labels, label = (label_codes(table) if labelled else ([""], np.zeros(len(table), np.int64)))
    weights, order = table.column("weight").to_numpy(), np.argsort(label, kind="stable")
    points = np.array(table.column("coordinates").to_pylist())
    total = np.bincount(label, weights, len(labels))
    ids = np.arange(len(table), dtype=np.uint64)
    return Survey(tuple(labels), total, False, points[order], weights[order], ids[order], label[order], label[order])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5_000_000)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--balanced", type=float, default=0.05)
    parser.add_argument("--labels", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "data").mkdir()
        pattern = write(folder / "data", args.n, args.dim, args.labels)
        compare(args, pattern, name, console)


def compare(args: argparse.Namespace, pattern: str, folder: str, console: Console) -> None:
    """Runs everything and prints the table."""
    data = ["--input", pattern, *(["--group_column", "label"] if args.labels else [])]
    workers = [f"--direct_num_workers={args.workers}", "--direct_running_mode=multi_threading"]
    weak = ["--weak"] if args.labels else []  # each label's total is then exact
    run("summarize", *data, "--k", str(args.k), "--output", f"{folder}/out", *weak, *workers)
    bounds = ["--balanced", str(args.balanced)]
    if args.labels:
        labels = pq.read_table(pathlib.Path(pattern).parent, columns=["label"]).column("label").value_counts()
        shares = sorted((each["values"], 1.1 * each["counts"] / args.n) for each in labels.to_pylist())
        bounds += ["--fair", *(f"{label}=0:{share:.4f}" for label, share in shares)]
    solving, _ = run("solve", "--input", f"{folder}/out", "--output", f"{folder}/constrained", *bounds)
    table = Table(title=f"{args.n:,} x {args.dim}, k = {args.k}, {' '.join(bounds)}; solved in {solving:.1f} s")
    for column in ("rows assigned", "prices from", "points/s", "without start-up", "passes", "violation"):
        table.add_column(column, justify="right")
    for name, centers in (("plain", "out"), ("constrained", "constrained")):
        output = f"{folder}/{name}-rows"
        seconds, text = run("assign", *data, "--centers", f"{folder}/{centers}", "--output", output, *workers)
        (own,) = re.findall(r"([0-9.]+) s, [0-9.]+ M points/s, (\d+) passes", text)
        violation = f"{worst(output):.3%}" if name == "constrained" else "-"
        rates = (f"{args.n / seconds / 1e6:.2f} M", f"{args.n / float(own[0]) / 1e6:.2f} M")
        table.add_row(name, "all rows" if name == "constrained" else "-", *rates, own[1], violation)
    for name, violation in alone(args, pattern, f"{folder}/constrained"):
        table.add_row("constrained", name, "", "", "", f"{violation:.3%}")
    console.print(table)


def alone(args: argparse.Namespace, pattern: str, folder: str) -> list[tuple[str, float]]:
    """The violation on all rows by prices from fewer rows."""
    constraint = Constraint.parse(read_table(folder, "summaries").to_pylist()[0]["constraint_text"])
    rows = sorted(read_table(folder, "centers").to_pylist(), key=lambda row: row["index"])
    centers = np.array([row["coordinates"] for row in rows])
    surveyor = Surveyor(args.k, UNIFORM, constraint.labelled)
    tally = surveyor.nothing()
    for block in blocks(pattern, args.dim):
        tally = tally.merge([surveyor.tally(block)])
    drawn = tally.survey()
    bounds = constraint.bounds(drawn.labels, drawn.label_weights, args.k)
    out = []
    for name, survey in (("the coreset", of_coreset(folder, constraint.labelled)), (f"{UNIFORM:,} rows", drawn)):
        priced = reprice(survey, constraint, centers)
        order = [priced.labels.index(label) for label in drawn.labels]
        out.append((name, bounds.violation(sizes(pattern, args.dim, priced)[order])))
    return out


if __name__ == "__main__":
    main()
