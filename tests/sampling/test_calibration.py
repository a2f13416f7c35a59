"""Calibrated weights reproduce what is known of the whole, and never leave their bounds."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.sampling.calibration import FEWEST_POINTS, LARGEST_FACTOR, SMALLEST_FACTOR, calibrate


def instance(n=2000, d=2, clusters=5, share=0.1, seed=0, spread=1.0):
    """All points, weights, clusters and costs; rows of a uniform sample with their unbiased weights."""
    rng = generator("calibration", n, d, clusters, seed)
    index = rng.integers(0, clusters, n).astype(np.int32)
    centers = 20 * rng.standard_normal((clusters, d))
    noise = spread * rng.standard_normal((n, d))
    weights = rng.random(n) + 0.5
    rows = np.flatnonzero(rng.random(n) < share)
    return centers[index] + noise, weights, index, (noise**2).sum(axis=1), rows, weights[rows] / share


def test_totals_costs_and_means_of_clusters_come_out_right():
    space, weights, index, cost, rows, sampled = instance()
    out = calibrate(space, weights, index, cost, rows, sampled)
    mine = index[rows]
    np.testing.assert_allclose(np.bincount(mine, out), np.bincount(index, weights), rtol=1e-9)
    np.testing.assert_allclose(np.bincount(mine, out * cost[rows]), np.bincount(index, weights * cost), rtol=1e-6)
    for j in range(5):  # the mean is matched but for the ridge, 2 dimensions over some 40 points
        exact, before, after = (
            np.average(space[r], axis=0, weights=w)
            for r, w in ((index == j, weights[index == j]), (rows[mine == j], sampled[mine == j]),
                         (rows[mine == j], out[mine == j]))
        )
        assert np.linalg.norm(after - exact) < 0.2 * np.linalg.norm(before - exact) + 1e-9


@given(
    st.integers(1, 300), st.sampled_from([1, 2, 30]), st.integers(1, 8), st.sampled_from([0.02, 0.3, 1.0]),
    st.integers(0, 20), st.sampled_from([0.0, 1e-6, 1.0, 1e9]),
)
def test_weights_are_positive_and_their_total_exact(n, d, clusters, share, seed, spread):
    space, weights, index, cost, rows, sampled = instance(n, d, clusters, share, seed, spread)
    if not len(rows):
        rows, sampled = np.array([0]), np.array([weights.sum()])
    out = calibrate(space, weights, index, cost, rows, sampled)
    assert np.isfinite(out).all()
    assert (out > 0).all()
    assert out.sum() == pytest.approx(weights.sum(), rel=1e-12)
    sizes = np.bincount(index[rows], minlength=clusters)
    plain = sampled * (np.bincount(index, weights)[index[rows]] / np.bincount(index[rows], sampled)[index[rows]])
    few = sizes[index[rows]] < FEWEST_POINTS
    ratio = (out / plain)[few]
    np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)), rtol=1e-9)  # too few for more than the total


def test_factors_are_bounded_where_a_sample_is_hopeless():
    """The sample misses the far half of its cluster: costs cannot be matched by factors within bounds."""
    space = np.r_[np.linspace(0, 1, 50), np.full(50, 100.0)][:, None]
    cost, rows = space[:, 0] ** 2, np.arange(0, 50, 5)
    sampled = np.full(10, 10.0)
    out = calibrate(space, np.ones(100), np.zeros(100, np.int32), cost, rows, sampled)
    assert out.sum() == pytest.approx(100)
    assert out.max() / out.min() <= LARGEST_FACTOR / SMALLEST_FACTOR * (1 + 1e-9)


def test_weightless_points_do_not_move_the_targets():
    space, weights, index, cost, rows, sampled = instance(400)
    silent = np.concatenate([space, space + 1e6])
    twice = np.concatenate([weights, np.zeros(400)])
    out = calibrate(silent, twice, np.tile(index, 2), np.tile(cost, 2), rows, sampled)
    np.testing.assert_allclose(out, calibrate(space, weights, index, cost, rows, sampled), rtol=1e-6)
