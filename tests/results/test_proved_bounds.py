"""What is printed as proved holds on all rows: a few instances of benchmarks/proved_bounds.py, which runs thousands."""
import pathlib
import sys

import numpy as np
import pytest

from beam_coresets.sampling import frequent_directions
from beam_coresets.shards import pca

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
import proved_bounds

# Those of pca beyond 9 are of rows in fewer dimensions than asked for or far from the origin, where sums are rounded.
RUNS = {"local_centers": range(12), "pca": [*range(10), 10, 34, 39, 51], "theorem_1": range(5)}


@pytest.mark.parametrize("kind", RUNS)
def test_no_bound_is_violated(kind, monkeypatch):
    monkeypatch.setattr(frequent_directions, "SKETCH_BYTES", frequent_directions.SKETCH_BYTES)
    tally = proved_bounds.Tally()
    for run in RUNS[kind]:
        proved_bounds.KINDS[kind](np.random.default_rng([0, run]), tally, f"run {run}")
    assert tally.failed == {}
    assert min(tally.made.values()) >= 3


def test_slacks_multiply():
    assert pca.factor(0.5, 0.2) == pytest.approx(1.5 * 1.2)
