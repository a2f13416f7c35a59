"""Events of streams whose changes are known: how many are told, in time, and how many are told of nothing.

    OMP_NUM_THREADS=1 python benchmarks/events.py --runs 20

Windows are those of `benchmarks/drift.py`: mixtures of k clusters of 20,000 rows, d = 8, k = 10, 8 shards of 40 k
points, every bucket on two, another mixture in each run; the change comes with the seventh of ten windows and stays.
For each change: in how many of the runs an event that names it is told within two windows (recall), which share of all
events of those windows names it (precision), and events in the quiet windows before it, a window.

- new: a cluster of 1 % of the rows (`born`, `split`). vanished: one is gone (`vanished`, `merged`).
- sizes: shares times exp(0.3 N(0, 1)) (`grown`, `shrunk`, `drifted`).
- shift by half a spread, rotation by 20 degrees, spread of one cluster times 1.3 (`drifted`).
"""
from __future__ import annotations

import argparse
import collections

import numpy as np
from drift import changed, decided, mixture
from keys import State

from beam_coresets.coordinator.decision import Verdict
from beam_coresets.hashing import generator
from beam_coresets.results.question import Question
from beam_coresets.sampling.importance import Sampler
from beam_coresets.transforms.coordinator.solve_in_order import _SolveInOrder

ROWS, D, K = 20_000, 8, 10
WINDOWS, CHANGE, IN_TIME = 10, 6, 2
NAMED = {
    "quiet": set[str](),
    "new": {"born", "split"}, "vanished": {"vanished", "merged"}, "sizes": {"grown", "shrunk", "drifted"},
    "shift": {"drifted"}, "rotation": {"drifted"}, "spread": {"drifted"},
}  # fmt: skip


def told(change: str, seed: int) -> list[tuple[int, str]]:
    """(window, kind) of all events of a stream."""
    before, rng = mixture(D, K, seed), generator("events", change, seed)
    after = before if change == "quiet" else changed(change, before, rng)
    solve, cell, found = _SolveInOrder(Question(Sampler(K, 40 * K)), None, None, None), State(), []
    for i in range(WINDOWS):
        source = before if i < CHANGE else after
        decision = decided([source.draw(ROWS, rng)], K, 40 * K, (8, 2, 0), WINDOWS * seed + i)
        verdict = Verdict(60.0 * i, 60.0 * (i + 1), "", 1, "all", 60.0 * (i + 1) + 1, {"": decision})
        (summary,) = solve.process(("", verdict), cell)
        found += [(i, kind) for kind in summary.events.column("kind").to_pylist()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    print("change     recall  precision  before, a window   kinds in time")
    for change, named in NAMED.items():
        hits, right, kinds, early = 0, 0, collections.Counter[str](), 0
        for seed in range(runs):
            found = told(change, seed)
            mine = [kind for i, kind in found if CHANGE <= i < CHANGE + IN_TIME]
            early += sum(i < CHANGE for i, _ in found)
            kinds.update(mine)
            right += sum(kind in named for kind in mine)
            hits += bool(named & set(mine))
        recall = hits / runs if named else np.nan
        precision = right / kinds.total() if kinds else np.nan
        shown = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        print(f"{change:10s} {recall:6.2f} {precision:10.2f} {early / runs / CHANGE:17.3f}   {shown}", flush=True)


if __name__ == "__main__":
    main()
