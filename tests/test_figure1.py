"""Figure 1 of the redundant-assignment paper, on a generated set: who holds what, and the order of the costs."""
import importlib.util
import pathlib
import sys

import numpy as np
import pytest

PATH = pathlib.Path(__file__).parents[1] / "benchmarks" / "figure1.py"
SEEDS = 12
SWAPS = 20


@pytest.fixture(scope="module")
def figure1():
    spec = importlib.util.spec_from_file_location("figure1", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["figure1"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["figure1"]


@pytest.fixture(scope="module")
def runs(figure1):
    points, truth = figure1.load(None)
    return [figure1.panels(points, truth, seed, SWAPS) for seed in range(SEEDS)]


def over_truth(runs, letter):
    return np.array([run[letter].cost / run["a"].cost for run in runs])


def test_more_redundancy_costs_less(runs):
    """Means over 12 draws. Of 30 other draws, cost b - d had mean 0.00026 and deviation 0.00050 of the truth's.

    So the mean of 12 is below zero with probability 0.04 by the normal law, were the seeds not fixed; c - d has mean
    0.0018 and e is below b and d in every draw, so the other comparisons fail with less than 0.001.
    """
    b, c, d, e = (over_truth(runs, letter) for letter in "bcde")
    assert d.mean() < b.mean() < c.mean()
    assert (e < d).all()
    assert (e < b).all()


def test_good_solvers_leave_no_panel_poor(runs):
    """Largest ratio of 30 other draws: 1.0026, for (c); a center lost would cost 0.05 or more."""
    assert all(over_truth(runs, letter).max() < 1.01 for letter in "bcde")


def test_points_without_a_holder(runs):
    """Means over 12 draws, within six standard errors (2e-9 each by the normal law) of what three stragglers leave.

    (b) 3 of 10 shards; (c) 0.9**7; (d) 0.8**7; (e) the 3 of 45 pairs of late neighbours share a tenth of the buckets:
    2 of 9 pairs on the circle of ten are neighbours, three pairs a draw, so 3 * 2 / 9 / 10.
    """
    n = 5_000
    for letter, share in (("b", 0.3), ("c", 0.9**7), ("d", 0.8**7)):
        error = np.sqrt(share * (1 - share) / n / SEEDS)
        assert abs(np.mean([run[letter].unheld for run in runs]) - share) < 6 * error
    assert abs(np.mean([run["e"].unheld for run in runs]) - 3 * 2 / 9 / 10) < 6 * 0.058 / np.sqrt(SEEDS)


def test_the_picture_is_written(figure1, runs, tmp_path):
    pytest.importorskip("matplotlib")
    points, _ = figure1.load(None)
    figure1.draw(points, runs[0], tmp_path / "figure1.png")
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")
