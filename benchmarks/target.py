"""Whether the size that `plan --target` names gives the error that it names.

    python benchmarks/target.py                                    # every case on 20,000 points
    python benchmarks/target.py --data DIR                         # s1.txt, unbalance.txt and birch1.txt of DIR as well
    python benchmarks/target.py gauss/4 cube/2 --targets 0.01 --settings 1

A setting is shards / replicas / shards without an answer, +z1 k-median, +k50 50 centers, +part a pilot of a quarter
of the rows. A case is data, a setting and a target; its size is named with seeds 0 to 3, and tried with
`--runs` others.

    size       points a shard that were named; "all": every row is to be kept
    half       half-width that is expected, and the largest of the runs'
    kept       share of the runs whose half-width is at most the target
    true       share of the runs whose estimate is within the target of the true cost
"""
from __future__ import annotations

import argparse
import pathlib
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import hash_integers
from beam_coresets.planning.target_size import Pilot, size_for
from beam_coresets.points.block import blocks_of
from beam_coresets.points.nearest import cost
from beam_coresets.results.certificate import model_interval
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment

Array = npt.NDArray[Any]

SHAPES = ("gauss/4", "gauss/16", "t2.5/4", "clusters/4", "lognormal/4", "cube/2")
SETTINGS = ("8/2",)
TARGETS = (0.05, 0.02, 0.01, 0.005)
FILES = ("s1", "unbalance", "birch1")
FIRST = 100  # seed of the runs that try a size


def points_of(name: str, rows: int, folder: pathlib.Path | None) -> Array:
    """The points (n, d) float32 of a shape of `benchmarks/interval_coverage.py`, or of a file."""
    if folder is not None and name in FILES:
        return np.loadtxt(folder / f"{name}.txt").astype(np.float32)
    from interval_coverage import data

    return np.asarray(data(name, rows))


def pilots(points: Array, setting: str) -> tuple[Pilot, Pilot]:
    """The pilot that names a size, and the whole input that tries it."""
    scheme, *more = setting.split("+")
    s, replication, missing = (list(map(int, scheme.split("/"))) + [1, 0][scheme.count("/") :])[:3]
    sampler = Sampler(50 if "k50" in more else 10, 500, 1.0 if "z1" in more else 2.0)
    assignment = Assignment(s, replication, "cyclic")
    blocks = list(blocks_of(points, rows=4096))
    whole = Pilot(blocks, len(points), sampler, assignment, missing=missing)
    if "part" not in more:
        return whole, whole
    part = [block.take(np.flatnonzero(hash_integers(block.ids, 7) < np.uint64(2**62))) for block in blocks]
    return Pilot(part, len(points), sampler, assignment, missing=missing), whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    parser.add_argument("--targets", nargs="+", type=float, default=list(TARGETS))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data", type=pathlib.Path)
    given = parser.parse_args()
    kept, true, cases = [], [], 0
    print(f"{'data':12s} {'setting':9s} target     size   half   most  kept  true seconds")
    for name in given.shapes or [*SHAPES, *(FILES if given.data else ())]:
        points = points_of(name, given.rows, given.data)
        for setting in given.settings:
            pilot, whole = pilots(points, setting)
            for target in given.targets:
                began = time.thread_time()
                named = size_for(pilot, target)
                seconds = time.thread_time() - began
                head = f"{name:12s} {setting:9s} {target:6.1%}"
                cases += 1
                if named.everything or named.size is None:
                    print(f"{head} {'all' if named.everything else 'none':>8s} {named.half:6.2%}{seconds:27.1f}")
                    sys.stdout.flush()
                    continue
                found = np.array([_run(whole, points, named.size, FIRST + i) for i in range(given.runs)])
                kept.extend(found[:, 0] <= target)
                true.extend(found[:, 1] <= target)
                last = slice(-given.runs, None)
                print(f"{head} {named.size:8,d} {named.half:6.2%} {found[:, 0].max():6.2%} {np.mean(kept[last]):5.2f} "
                      f"{np.mean(true[last]):5.2f} {seconds:7.1f}", flush=True)  # fmt: skip
    print(f"\n{cases} cases, {len(kept)} runs: {np.mean(kept):.3f} of them keep to the target, "
          f"{np.mean(true):.3f} are that near to the truth")  # fmt: skip


def _run(whole: Pilot, points: Array, size: int, seed: int) -> tuple[float, float]:
    """The half-width that a run prints, and how far its estimate is from the true cost, as shares."""
    decision, model = whole.decided(size, seed)
    found = model_interval(decision, model)
    truth = cost(points, np.ones(len(points)), model.centers, whole.sampler.z)
    return (found.high - found.estimate) / found.estimate, abs(found.estimate / truth - 1)


if __name__ == "__main__":
    main()
