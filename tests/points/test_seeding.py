import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from beam_coresets.hashing import generator
from beam_coresets.points.nearest import cost
from beam_coresets.points.seeding import _seed, _seed_wide, dz_seeding

SHAPES = [(3, 1), (255, 2), (257, 8), (600, 31), (300, 32), (260, 40)]


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_distinct_in_range_and_repeatable(n, d, dtype):
    points = generator(n, d).normal(size=(n, d)).astype(dtype)
    rows = dz_seeding(points, np.ones(n), min(n, 20), 2.0, generator(1))
    assert rows.dtype == np.int64
    assert len(set(rows.tolist())) == min(n, 20)
    assert rows.min() >= 0
    assert rows.max() < n
    np.testing.assert_array_equal(rows, dz_seeding(points, np.ones(n), min(n, 20), 2.0, generator(1)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=40),
    st.integers(1, 12),
    st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    st.integers(1, 3),
    st.integers(0, 1000),
)
def test_finds_as_many_rows_as_there_are_distinct_points_of_positive_weight(rows, k, z, candidates, seed):
    points = np.array([[x, x * x] for x, _ in rows], np.float32)
    weights = np.array([w for _, w in rows], np.float64)
    chosen = dz_seeding(points, weights, k, z, generator(seed), candidates)
    assert len(chosen) == min(k, len({x for x, w in rows if w > 0}))
    assert (weights[chosen] > 0).all()
    assert len({tuple(p) for p in points[chosen]}) == len(chosen)


def _first_two(points, weights, z, trials, candidates=1):
    rng = generator("first two", z)
    return np.array([dz_seeding(points, weights, 2, z, rng, candidates) for _ in range(trials)])


@pytest.mark.parametrize("z", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("d", [2, 40])
def test_first_two_rows_follow_the_weighted_distribution(z, d):
    """Chi-square over all pairs (first, second); each of the 8 cases fails a correct sampler with probability 1e-6."""
    points = np.zeros((6, d))
    points[:, :2] = [[0, 0], [1, 0], [0, 2], [3, 3], [-1, 1], [9, 9]]
    weights = np.array([1.0, 2.0, 0.5, 1.5, 3.0, 0.0])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) ** z
    second = weights * distance
    expected = (weights / weights.sum())[:, None] * second / second.sum(axis=1, keepdims=True)
    trials = 20_000
    drawn = _first_two(points, weights, z, trials)
    observed = np.zeros((6, 6))
    np.add.at(observed, (drawn[:, 0], drawn[:, 1]), 1)
    possible = expected > 0
    assert observed[~possible].sum() == 0
    statistic = ((observed - trials * expected)[possible] ** 2 / (trials * expected[possible])).sum()
    assert statistic < stats.chi2.isf(1e-6, possible.sum() - 1)


def test_weight_counts_like_repetition():
    """Second row given the first: 20,000 draws each way, two-sample chi-square at 1e-6."""
    points = np.array([[0.0], [1.0], [3.0]])
    weights = np.array([3.0, 1.0, 2.0])
    repeated = np.repeat(points, weights.astype(int), axis=0)
    a = _first_two(points, weights, 2.0, 20_000)
    b = np.array([0, 0, 0, 1, 2, 2])[_first_two(repeated, np.ones(6), 2.0, 20_000)]
    table = np.array([np.bincount(3 * x[:, 0] + x[:, 1], minlength=9) for x in (a, b)])
    assert stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue > 1e-6


def test_rows_of_weight_zero_are_never_drawn():
    points = generator("zero").normal(size=(500, 3)).astype(np.float32)
    weights = np.ones(500)
    weights[::3] = 0
    points[::3] = 1e6
    chosen = dz_seeding(points, weights, 30, 2.0, generator(2))
    assert (weights[chosen] == 1).all()


def test_more_candidates_make_cheaper_seeds():
    """Means over 40 draws of a well separated mixture: plain seeding misses clusters that greedy seeding finds."""
    rng = generator("greedy")
    points = rng.uniform(-100, 100, (20, 2))[rng.integers(20, size=2000)] + rng.normal(size=(2000, 2))
    weights = np.ones(2000)

    def mean_cost(candidates):
        seeds = [dz_seeding(points, weights, 20, 2.0, generator(s), candidates) for s in range(40)]
        return np.mean([cost(points, weights, points[rows]) for rows in seeds])

    assert mean_cost(5) < 0.7 * mean_cost(1)


def test_read_only_and_strided_input():
    points = generator("ro").normal(size=(100, 4)).astype(np.float32)
    expected = dz_seeding(points, np.ones(100), 10, 2.0, generator(1))
    read_only = np.frombuffer(points.tobytes(), np.float32).reshape(100, 4)
    np.testing.assert_array_equal(dz_seeding(read_only, np.ones(100), 10, 2.0, generator(1)), expected)
    np.testing.assert_array_equal(dz_seeding(np.asfortranarray(points), np.ones(100), 10, 2.0, generator(1)), expected)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_squares_beyond_the_range_of_float32(scale):
    points = (generator("range").normal(size=(50, 3)) * scale).astype(np.float32)
    assert len(dz_seeding(points, np.ones(50), 10, 2.0, generator(1))) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: must be at least 1, got 0"),
        ({"z": 0.5}, "z: must be at least 1, got 0.5"),
        ({"z": float("nan")}, "z: must be at least 1, got nan"),
        ({"candidates": 0}, "candidates: must be at least 1, got 0"),
        ({"weights": np.ones(3)}, "weights: must have 4 rows like points, got 3"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"points": np.zeros((4, 2)), "weights": np.ones(4), "k": 2, "z": 2.0, "rng": generator(0)} | change
    with pytest.raises(ValueError, match=message):
        dz_seeding(**arguments)


def test_no_points_or_no_weight_give_no_rows():
    assert len(dz_seeding(np.empty((0, 2)), np.empty(0), 3, 2.0, generator(0))) == 0
    assert len(dz_seeding(np.ones((4, 2)), np.zeros(4), 3, 2.0, generator(0))) == 0


@pytest.mark.parametrize("z", [1.0, 2.0, 2.5])
@pytest.mark.parametrize("candidates", [2, 5, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wide_points_are_seeded_as_narrow_ones_are(z, candidates, dtype):
    """Candidates compared all at once, or one after the other: the same rows, but for what rounding may decide."""
    rng = generator("wide", candidates)
    points = rng.standard_normal((20, 40))[rng.integers(0, 20, 700)] * 5 + rng.standard_normal((700, 40))
    points = points.astype(dtype)
    weights, uniforms = rng.gamma(1.0, 1.0, 700) * (rng.random(700) < 0.9), rng.random((30, candidates))
    wide, narrow = np.empty(30, np.int64), np.empty(30, np.int64)
    assert _seed_wide(points, weights, z, uniforms, wide) == 30 == _seed(points, weights, z, uniforms, narrow)
    assert wide.tolist() == narrow.tolist()
    few = points[[3, 9, 3, 9, 9]]
    assert _seed_wide(few, np.ones(5), z, uniforms, wide) == 2
