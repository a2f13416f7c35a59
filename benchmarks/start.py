"""How long commands take on 2,000 rows, where starting is most of it: by the clock and in processor seconds.

    python benchmarks/start.py                # medians of five
    python benchmarks/start.py --first        # also with no compiled kernel in the cache, as after an installation

`python -c "import apache_beam"` is beside them: what no command that reads rows can be faster than.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.table import Table

COMMANDS = {
    "import apache_beam": ["-c", "import apache_beam"],
    "summarize": "summarize --input rows.csv --output out --k 4 --overwrite",
    "solve": "solve --input out --output again --k 5 --overwrite",
    "verify": "verify --input rows.csv --coreset out",
    "show": "show out",
    "compare": "compare out again",
}


def run(command: list[str] | str, folder: str, cache: str | None = None) -> tuple[float, float]:
    """Seconds by the clock, and of processors, of one run."""
    words = command if isinstance(command, list) else ["-m", "beam_coresets.pipelines.main", *command.split()]
    environment = os.environ | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    before, began = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, os.times()
    if done.returncode not in (0, 1):  # compare says 1 where something has changed
        raise RuntimeError(f"{command}: must end well, got exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    """Measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--first", action="store_true", help="and summarize with an empty cache of kernels, once")
    options = parser.parse_args()
    table = Table("command", "seconds", "processor seconds")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(1)
        rows = rng.choice([0, 5, 9, 20], (2_000, 1)) + rng.normal(size=(2_000, 4))
        np.savetxt(pathlib.Path(folder) / "rows.csv", rows, "%.4f", ",", header="a,b,c,d", comments="")
        for name, command in COMMANDS.items():
            run(command, folder)  # compiles what is not in the cache
            found = [run(command, folder) for _ in range(options.times)]
            table.add_row(name, *(f"{statistics.median(each):.2f}" for each in zip(*found, strict=True)))
        if options.first:
            found = [run(COMMANDS["summarize"], folder, f"{folder}/kernels")]
            table.add_row("summarize, first run", *(f"{each:.2f}" for each in found[0]))
    Console().print(table)


if __name__ == "__main__":
    main()
