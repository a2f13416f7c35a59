"""Every way in which commands fail, again and again: exit code 1 or 2, one error, never a signal, nothing left behind.

    python tests/trials/error_exits.py [PATH ...] [--runs 200]

A path is a command on files that have bad rows, are torn or are not there, on outputs that are taken or can't be made,
on options that can't work. Files have many row groups, so that threads still read when the command ends. A run is bad
if it ends with another code or by a signal, has no line that begins with `error:` (or two of them, or a traceback),
leaves a file in the temporary directory, or writes more to its output folder than the rows that were refused.
A line for each path; exit code 1 if a run was bad.
"""
import argparse
import collections
import contextlib
import os
import pathlib
import shutil
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from forks import Fork, typed
from writing_commands import scratch, temporary_in

from beam_coresets.pipelines.main import main as command

FILES, ROWS, GROUP = 4, 4000, 200
SMALL = ("--k", "2", "--shards", "3")


def write_data(folder):
    """Good, bad and torn Parquet files, a bad CSV file, a file where a folder should be, and a result."""
    rng = np.random.default_rng(0)
    for i in range(FILES):
        points = rng.normal(size=(ROWS, 3))
        for name in ("good", "bad"):
            table = pa.table({f"x{j}": points[:, j] for j in range(3)})
            pq.write_table(table, folder / f"{name}{i}.parquet", row_group_size=GROUP)
            points[ROWS // 2 :: GROUP, 1] = np.nan
    torn = bytearray((folder / "good0.parquet").read_bytes())
    torn[len(torn) // 3 : len(torn) // 2] = rng.bytes(len(torn) // 2 - len(torn) // 3)
    (folder / "torn.parquet").write_bytes(torn)
    (folder / "bad.csv").write_text("a,b\n" + "1,2\n" * ROWS + "x,1\n" * 10 + "1,2\n" * ROWS)
    (folder / "file").write_text("x")
    words = ["summarize", "--input", f"{folder}/good*.parquet", *SMALL, "--output", f"{folder}/result"]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        assert command(words) == 0


def paths(folder):
    """Name -> words of a command that fails."""
    good, bad, torn, none = (f"{folder}/{name}" for name in ("good*.parquet", "bad*.parquet", "torn.parquet", "none"))
    result, out = f"{folder}/result", ("--output", f"{folder}/output")
    many = ("--max-bad-rows", "9999")
    found = {
        "summarize, bad rows": ["summarize", "--input", bad, *SMALL, *out],
        "summarize, bad rows of CSV": ["summarize", "--input", f"{folder}/bad.csv", *SMALL, *out],
        "summarize, a torn file": ["summarize", "--input", torn, good, *SMALL, *many, *out],
        "summarize, bad rows in each pass": ["summarize", "--input", bad, *SMALL, "--scale", "standard", *out],
        "summarize, bad rows, shard readers": ["summarize", "--input", bad, *SMALL, "--shard-readers", *out],
        "summarize, a torn file, shard readers": ["summarize", "--input", torn, *SMALL, "--shard-readers", *out],
        "summarize, no input": ["summarize", "--input", none, *SMALL, *out],
        "summarize, output taken": ["summarize", "--input", good, *SMALL, "--output", result],
        "summarize, output a file": ["summarize", "--input", good, *SMALL, "--output", f"{folder}/file"],
        "summarize, output around the input": ["summarize", "--input", good, *SMALL, "--output", f"{folder}"],
        "summarize, unknown column": ["summarize", "--input", good, *SMALL, "--columns", "y", *out],
        "summarize, unknown option": ["summarize", "--nonsense"],
        "assign, bad rows": ["assign", "--input", bad, "--centers", result, *out],
        "assign, a torn file": ["assign", "--input", torn, "--centers", result, *many, *out],
        "assign, no centers": ["assign", "--input", good, "--centers", none, *out],
        "verify, bad rows": ["verify", "--input", bad, "--coreset", result],
        "verify, a torn file": ["verify", "--input", torn, "--coreset", result, *many],
        "verify, no coreset": ["verify", "--input", good, "--coreset", none],
        "verify, no folder for its CSV file": ["verify", "--input", good, "--coreset", result, "--csv", f"{none}/m"],
        "solve, no input": ["solve", "--input", none, "--k", "2", *out],
        "solve, more centers than points": ["solve", "--input", result, "--k", "1000000", "--balanced", "0.1", *out],
        "rollup, no input": ["rollup", "--input", none, *out],
        "plan, no shards": ["plan", "--shards", "0"],
        "stream, no runner": ["stream", "--rate", "10", *SMALL, *out, "--runner", "PrismRunner",
                              "--prism_location", none],
        "no such command": ["summarise"],
    }  # fmt: skip
    return found


def failed(words, folder, temporary):
    """Runs a command that fails; (its exit code, what is wrong, "" if nothing)."""
    run = Fork(typed(words), folder / "said")
    code = run.wait()
    errors = [line for line in run.err.splitlines() if line.startswith("error: ")]
    left = [path.name for path in temporary.iterdir()]
    made = (folder / "output").exists() and [str(path) for path in (folder / "output").rglob("*") if path.is_file()]
    wrong = []
    if code not in (1, 2):
        wrong.append(f"exit code {code}")
    if len(errors) != 1 or "Traceback" in run.err or "terminate" in run.err:
        wrong.append("not one error")
    if left:
        wrong.append(f"left in the temporary directory: {left}")
    if made and not all("dead_letters" in name or ".claims" in name for name in made):
        wrong.append(f"made {made}")
    for path in (*temporary.iterdir(), folder / "output"):
        shutil.rmtree(path, ignore_errors=True)
    return code, f"{'; '.join(wrong)}; it says {run.err[-500:]!r}" if wrong else ""


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="all that begin with one of these")
    parser.add_argument("--runs", type=int, default=200)
    asked, bad = parser.parse_args(argv), 0
    with scratch("error-exits-") as folder:
        temporary = temporary_in(folder)
        write_data(folder)
        for name, words in paths(folder).items():
            if asked.paths and not name.startswith(tuple(asked.paths)):
                continue
            began, codes, own = time.monotonic(), collections.Counter(), 0
            for number in range(asked.runs):
                code, wrong = failed(words, folder, temporary)
                codes[code] += 1
                own += bool(wrong)
                if wrong and own <= 3:
                    print(f"  {name}, run {number}: {wrong}", flush=True)
            told = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
            print(f"| {name} | {asked.runs} runs | {told} | {own} bad | {time.monotonic() - began:.0f} s |", flush=True)
            bad += own
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
