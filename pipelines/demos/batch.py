"""The demonstration: two million seeded points, ten shards, two of which never answer; then the truth beside the
answer."""
import argparse
import pathlib
import shlex
import shutil
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.pipelines import summarize, verify
from beam_coresets.pipelines.console import show
from beam_coresets.pipelines.views import report
from beam_coresets.points.nearest import nearest
from beam_coresets.transforms.writing.stored_tables import read_table

DATA = GaussianMixture(d=8, k=20, concentration=2.0, outliers=0.0, seed=1)
FILES, FILE_ROWS = 8, 250_000


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the points if they are not there, summarizes, verifies, compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=".demo", help="where points and results go")
    folder = pathlib.Path(parser.parse_args(argv).folder)
    console = Console()
    write_points(folder / "points", console)
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = (
        f"--input {folder}/points/*.parquet --output {folder}/out --k 20 --shards 10 --replication 3 --drop-shards 1,4"
    ).split()
    console.rule("a summary, though shards 1 and 4 never answer")
    say(console, "summarize", command)
    code = summarize.main(command)
    if code:
        return code
    command = f"--input {folder}/points/*.parquet --coreset {folder}/out".split()
    console.rule("is it so, on all of the data?")
    say(console, "verify", command)
    code = verify.main(command)
    if code:
        return code
    console.rule("found beside true centers")
    compare(str(folder / "out"), console)
    console.rule("a page")
    say(console, "report", [f"{folder}/out"])
    return report.main([str(folder / "out")])


def say(console: Console, word: str, arguments: Sequence[str]) -> None:
    """Prints a command as a shell takes it."""
    console.print(f"beam-coresets {word} {shlex.join(arguments)}", highlight=False, soft_wrap=True, markup=False)


def write_points(folder: pathlib.Path, console: Console) -> None:
    """Writes the demo's Parquet files, unless they are there from last time."""
    missing = [i for i in range(FILES) if not (folder / f"points-{i}.parquet").exists()]
    if missing:
        console.print(f"writing {FILES * FILE_ROWS:,} points to {folder} (once)", highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    for i in missing:
        points = DATA.block(i, FILE_ROWS)
        table = pa.table({f"x{j}": points[:, j] for j in range(points.shape[1])})
        temporary = folder / f"points-{i}.tmp"
        pq.write_table(table, temporary)
        temporary.rename(folder / f"points-{i}.parquet")


def compare(output: str, console: Console) -> None:
    """Each true center, and how far from it the nearest found one is, in standard deviations of its cluster."""
    found = np.array([row["coordinates"] for row in read_table(output, "centers").to_pylist() if row["coordinates"]])
    index, dist_sq = nearest(np.asarray(DATA.centers, np.float64), found)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("true center", "share of the points", "nearest found", "distance / cluster deviation"):
        table.add_column(name, justify="right")
    for i in np.argsort(-DATA.shares):
        away = np.sqrt(dist_sq[i] / DATA.dim) / DATA.deviations[i]
        table.add_row(str(i), f"{DATA.shares[i]:.4f}", str(index[i]), show.number(float(away), 3))
    console.print(table, highlight=False)
