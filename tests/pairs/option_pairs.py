"""All pairs of a command's options, on tiny data: each works, or is refused for itself in one line.

    python tests/pairs/option_pairs.py                    # every command
    python tests/pairs/option_pairs.py summarize/weak     # one of them in one setting

A row of options shows many pairs at once (`covering`). Where a row is refused, the fewest of its options that are
refused together are found, and the others are tried again without them, so that every pair either works or is refused
for itself. A setting gives some options beforehand: the pairs in it are triples with those. SECONDS_EACH limits the
time of a setting; VERBOSE says each refusal.
"""
import contextlib
import os
import pathlib
import random
import sys
import tempfile
import time

import option_runs
from covering import Covering, smallest
from option_runs import ACCEPTED, DONE, REFUSED
from option_settings import settings, write_results
from option_values import levels, write_data

from beam_coresets.pipelines import main as command


class Report:
    """What the runs of a setting have shown."""

    def __init__(self, name):
        self.name, self.runs, self.others, self.refusals = name, 0, {}, {}

    def note(self, items, ending):
        kept = self.others if ending.kind not in (DONE, REFUSED) else self.refusals
        kept[frozenset(items)] = ending


class Search:
    """Runs a setting's rows until no pair is left."""

    def __init__(self, name, setting, folder, seed=0, values=None):
        self.setting, self.folder, self.report = setting, pathlib.Path(folder), Report(name)
        found = levels(setting.kind, setting.values) if values is None else values
        self.values = {name: those for name, those in found.items() if name not in setting.given or those}
        self.covering = Covering(self.values, seed)
        self._known = {}

    def words(self, row):
        given = {**self.setting.given, **dict(row)}
        if "vector_column" in dict(row) and "columns" not in dict(row):
            given.pop("columns", None)
        out = self.folder / "result"
        return [self.setting.command, *(w.replace("OUT", str(out)) for words in given.values() for w in words)]

    def run(self, row, dry=False):
        """How the command ends with a row's options."""
        key = frozenset(row), dry
        if key not in self._known:
            self.report.runs += not dry
            check = lambda: self.setting.check(self.folder / "result", dict(row))  # noqa: E731
            self._known[key] = option_runs.run(self.words(row), self.folder, check, dry)
        return self._known[key]

    def sample(self, options, rows, seed):
        """Rows of a few options only."""
        few = random.Random(seed).sample(sorted(self.values), options)
        self.values = {name: self.values[name] for name in few}
        self.covering = Covering(self.values, seed)
        return self.all(rows)

    def all(self, rows=10**9, seconds=1e9, verbose=False):
        """Runs until no pair is left, or so many rows or seconds are over."""
        until = time.monotonic() + seconds
        for name, those in self.values.items():
            for value in those:
                self._one([(name, value)], verbose, dry=True)
        while (row := self.covering.row()) and rows and time.monotonic() < until:
            rows -= 1
            self._one(row, verbose)
        return self.report

    def _one(self, row, verbose, dry=False):
        """Runs a row; while it does not work, finds why and goes on without."""
        while row:
            ending = self.run(row, dry=True)
            if ending.kind == ACCEPTED and dry:
                return
            quick = ending.kind not in (DONE, ACCEPTED)
            ending = ending if quick else self.run(row)
            if ending.kind == DONE:
                self.covering.passed(row)
                return
            same = lambda items, kind=ending.kind, dry=quick: self.run(items, dry).kind == kind  # noqa: E731
            hints = {n for n in self.values if n in ending.text or n.replace("_", "-") in ending.text}
            few = smallest(row, same, hints)
            ending = self.run(few, quick)
            self.report.note(few, ending)
            if verbose:
                print(f"  {ending.kind} {ending.code}: {shown(few)} -> {ending.text[-300:]!r}", flush=True)
            if not few:
                return
            self.covering.refuse(few)
            row = [item for item in row if item != few[-1]]


def shown(items):
    """The words of items."""
    return " ".join(word for _, words in items for word in words)


def warm(found, folder):
    """Runs some commands here, so that kernels are loaded before this process is forked."""
    for name in ("summarize/plain", "summarize/weak"):
        search = Search(name, found[name], folder / "warm" / name)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            command.main(search.words([]))


def main(argv):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="option-pairs-"))
    found = settings(write_data(folder / "data"))
    warm(found, folder)
    write_results(folder / "data")
    wanted = [name for name in found if not argv or any(each in name for each in argv)]
    failed, seconds = 0, float(os.environ.get("SECONDS_EACH", "1e9"))
    for name in wanted:
        began, search = time.monotonic(), Search(name, found[name], folder / "run")
        report = search.all(seconds=seconds, verbose=bool(os.environ.get("VERBOSE")))
        covering = search.covering
        print(f"{name}: {len(covering.done)} pairs work, {len(covering.refused)} refused, {len(covering.left)} left, "
              f"{len(report.others)} others, {report.runs} runs, {len(covering.triples)} larger sets refused, "
              f"{time.monotonic() - began:.0f} s", flush=True)
        for items, ending in report.others.items():
            print(f"  {ending.kind}: {shown(items)}\n{ending.text[-3000:]}", flush=True)
        failed += len(report.others)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
