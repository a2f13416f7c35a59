import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from beam_coresets.datasets.synthetic import SSet, UnitVectors
from beam_coresets.hashing import generator
from beam_coresets.points.nearest import cost
from beam_coresets.solvers.centers import refine, solve_centers
from beam_coresets.solvers.descent import CentersProblem
from beam_coresets.solvers.swaps import SwapSearch

POWERS = [1.0, 1.5, 2.0, 3.0]
each_z = pytest.mark.parametrize("z", POWERS)


def _mixture(*seed, n=400, d=2, k=6):
    rng = generator("mixture", *seed)
    points = rng.uniform(-20, 20, (k, d))[rng.integers(k, size=n)] + rng.normal(size=(n, d))
    return points, rng.exponential(size=n)


def _one_center(points, weights, z):
    """The cost of the best single center, by a general minimiser (convex for z >= 1) from several starts."""

    def value(c):
        return float(weights @ np.linalg.norm(points - c, axis=1) ** z)

    starts = [np.average(points, axis=0, weights=weights), *points]
    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
    polished = min((value(s), i) for i, s in enumerate(starts))[1]
    found = optimize.minimize(value, starts[polished], method="Nelder-Mead", options=options)
    other = optimize.minimize(value, starts[0], method="Nelder-Mead", options=options)
    return min(found.fun, other.fun, value(starts[polished]))


def _optimum(points, weights, k, z):
    """Exhaustive: every partition into at most k clusters, each with its best center."""
    n, memo, best = len(points), {}, np.inf
    for labels in itertools.product(range(k), repeat=n - 1):
        labels = np.array((0, *labels))
        if any(labels[i] > labels[:i].max() + 1 for i in range(1, n)):
            continue  # the same partition with other names
        total = 0.0
        for j in range(labels.max() + 1):
            rows = tuple(np.flatnonzero(labels == j))
            if rows not in memo:
                memo[rows] = _one_center(points[list(rows)], weights[list(rows)], z)
            total += memo[rows]
        best = min(best, total)
    return best


@each_z
@pytest.mark.parametrize(("n", "k"), [(6, 2), (7, 3)])
def test_reaches_the_exhaustive_optimum(z, n, k):
    rng = generator("tiny", n, k)
    points, weights = rng.integers(0, 10, (n, 2)).astype(float), rng.integers(1, 4, n).astype(float)
    assert solve_centers(points, weights, k, z).cost == pytest.approx(_optimum(points, weights, k, z), rel=1e-5)


def test_reaches_the_exhaustive_k_means_optimum_on_nine_points():
    rng = generator("nine")
    points, weights = rng.normal(size=(9, 2)), rng.integers(1, 4, 9).astype(float)
    best = np.inf
    for labels in itertools.product(range(3), repeat=8):
        labels = np.array((0, *labels))
        parts = [(points[labels == j], weights[labels == j]) for j in np.unique(labels)]
        best = min(best, sum(w @ ((p - w @ p / w.sum()) ** 2).sum(axis=1) for p, w in parts))
    assert solve_centers(points, weights, 3).cost == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("z", [1.0, 1.3, 1.5, 2.5, 3.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_one_center_agrees_with_a_general_minimiser(z, seed):
    rng = generator("weiszfeld", seed)
    points, weights = rng.standard_t(2, (12, 2)), rng.exponential(size=12)
    found = solve_centers(points, weights, 1, z)
    assert found.cost == pytest.approx(_one_center(points, weights, z), rel=1e-6)
    assert found.cost == pytest.approx(weights @ np.linalg.norm(points - found.centers[0], axis=1) ** z, rel=1e-12)


def test_a_median_that_lies_on_a_heavy_point_is_found_and_left_from_a_light_one():
    points = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0], [-2.0, -2.0]])
    heavy = refine(points, np.array([5.0, 1.0, 1.0, 1.0]), points[1:2], z=1.0, max_iter=500, tol=0)
    np.testing.assert_allclose(heavy.centers[0], [0, 0], atol=1e-3)
    light = np.array([0.1, 3.0, 1.0, 1.0])
    left = refine(points, light, points[:1], z=1.0, max_iter=500, tol=1e-14)  # starts on a point, which is no optimum
    assert left.cost == pytest.approx(_one_center(points, light, 1.0), rel=1e-6)
    assert solve_centers(points, np.array([5.0, 1, 1, 1]), 1, 1.0).centers[0].tolist() == [0, 0]


@each_z
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_step_of_a_descent_costs_more(z, cosine, dtype):
    points, weights = _mixture("descent", d=3)
    points = points / np.linalg.norm(points, axis=1, keepdims=True) if cosine else points
    problem = CentersProblem.of(points.astype(dtype), weights, z, cosine)
    state = problem.clustering(problem.points[:6].astype(np.float64))  # on points: the hardest place for small z
    rounding = 1e-6 if dtype == np.float32 else 1e-12
    for _ in range(25):
        after = problem.clustering(problem.step(state))
        assert after.cost <= state.cost * (1 + rounding)
        state = after
    if cosine:
        np.testing.assert_allclose(np.linalg.norm(state.centers, axis=1), 1, rtol=1e-12)


@each_z
def test_reassigning_what_moved_equals_assigning_everything(z):
    points, weights = _mixture("moved", d=3, k=12)
    problem = CentersProblem.of(points, weights, z, False)
    state = problem.clustering(problem.points[:12].astype(np.float64))
    for moved in ([3], [0, 11], [5, 6, 7], list(range(12)), []):
        centers = state.centers.copy()
        centers[moved] = problem.points[100 : 100 + len(moved)]
        fast, full = problem.clustering_near(state, centers), problem.clustering(centers)
        np.testing.assert_array_equal(fast.index, full.index)
        np.testing.assert_allclose(fast.dist_sq, full.dist_sq, rtol=1e-12)
        assert fast.cost == pytest.approx(full.cost, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(POWERS), st.integers(1, 8))
def test_reported_cost_and_index_are_true(seed, z, k):
    points, weights = _mixture(seed, n=80, d=3)
    found = solve_centers(points, weights, k, z, seed=seed, swaps=10)
    distance = np.linalg.norm(points[:, None] - found.centers[None], axis=2)
    assert found.cost == pytest.approx(weights @ distance.min(axis=1) ** z, rel=1e-9)
    np.testing.assert_allclose(distance[np.arange(80), found.index], distance.min(axis=1), rtol=1e-9)
    assert found.centers.dtype == np.float64
    assert found.index.dtype == np.int32


@each_z
def test_weight_counts_like_repetition(z):
    points, _ = _mixture("repeat", n=150)
    times = generator("times").integers(1, 5, 150)
    weighted = solve_centers(points, times.astype(float), 6, z)
    repeated = solve_centers(np.repeat(points, times, axis=0), np.ones(times.sum()), 6, z)
    assert weighted.cost == pytest.approx(repeated.cost, rel=1e-6)
    start = points[:6]
    one = refine(points, times.astype(float), start, z)
    other = refine(np.repeat(points, times, axis=0), np.ones(times.sum()), start, z)
    np.testing.assert_allclose(one.centers, other.centers, rtol=1e-8, atol=1e-8)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(POWERS), st.booleans(), st.sampled_from([2, 60]))
def test_points_of_weight_zero_change_nothing(seed, z, narrow, d):
    points, weights = _mixture(seed, n=60, d=d)
    points = points.astype(np.float32) if narrow else points
    where = np.sort(generator(seed).integers(0, 60, 20))
    more = np.insert(points, where, 1e6, axis=0)
    more_weights = np.insert(weights, where, 0.0)
    a, b = solve_centers(points, weights, 4, z, swaps=5), solve_centers(more, more_weights, 4, z, swaps=5)
    assert a.cost == b.cost
    np.testing.assert_array_equal(a.centers, b.centers)
    np.testing.assert_array_equal(a.index, b.index[more_weights > 0])
    assert (b.index[more_weights == 0] >= 0).all()
    one, other = refine(points, weights, a.centers, z), refine(more, more_weights, a.centers, z)
    np.testing.assert_array_equal(one.centers, other.centers)


@each_z
def test_translation_moves_the_centers_and_nothing_else(z):
    points, weights = _mixture("translate")
    offset = np.array([1e7, -1e7])
    a, b = solve_centers(points, weights, 6, z), solve_centers(points + offset, weights, 6, z)
    assert b.cost == pytest.approx(a.cost, rel=1e-8)
    np.testing.assert_allclose(b.centers - offset, a.centers, atol=1e-5)


@each_z
def test_order_of_the_points_does_not_matter(z):
    points, weights = _mixture("permute")
    order = generator("order").permutation(400)
    a, b = solve_centers(points, weights, 6, z), solve_centers(points[order], weights[order], 6, z)
    assert a.cost == pytest.approx(b.cost, rel=1e-6)


@pytest.mark.parametrize("power", [-30, 30])
def test_scale_does_not_matter(power):
    points, weights = _mixture("scale")
    points = points.astype(np.float32)
    a = solve_centers(points, weights, 6)
    b = solve_centers(points * np.float32(2.0**power), weights, 6)
    np.testing.assert_array_equal(b.centers, a.centers * 2.0**power)


def test_same_seed_same_solution_and_read_only_input():
    points, weights = _mixture("again")
    a = solve_centers(points, weights, 6, seed=4)
    read_only = np.frombuffer(points.tobytes()).reshape(points.shape), np.frombuffer(weights.tobytes())
    b = solve_centers(*read_only, 6, seed=4)
    np.testing.assert_array_equal(a.centers, b.centers)
    np.testing.assert_array_equal(a.index, b.index)


@each_z
def test_swaps_leave_a_planted_local_optimum(z):
    """Two far pairs of clusters, with three centers on one pair and one on the other: no descent crosses over."""
    rng = generator("planted")
    corners = np.array([[0.0, 0.0], [10.0, 0.0], [1000.0, 0.0], [1010.0, 0.0]])
    points = np.repeat(corners, 50, axis=0) + rng.normal(size=(200, 2))
    weights = np.ones(200)
    bad = np.array([[-1.0, 0.0], [1.0, 0.0], [10.0, 0.0], [1005.0, 0.0]])
    best = refine(points, weights, corners, z).cost
    stuck = refine(points, weights, bad, z, max_iter=100, tol=0)
    assert stuck.cost > 2 * best
    without = solve_centers(points, weights, 4, z, init=bad, restarts=1, swaps=0)
    assert without.cost == pytest.approx(stuck.cost, rel=1e-3)
    escaped = solve_centers(points, weights, 4, z, init=bad, restarts=1, swaps=60)
    assert escaped.cost == pytest.approx(best, rel=1e-6)


@each_z
@pytest.mark.parametrize("d", [2, 40, 60])
def test_swaps_taken_lower_the_cost_that_they_track(z, d):
    points, weights = _mixture("swaps", d=d, k=10)
    search = SwapSearch(points, weights, z)
    start = points[:10].copy()
    centers, swaps, tried = search.run(start, generator("u").random(200), 100)
    assert swaps > 0
    assert tried == 200
    assert cost(points, weights, centers, z) < cost(points, weights, start, z)
    first, second, first_sq, second_sq = search.two_nearest(centers)
    distance = np.sort(((points[:, None] - centers[None]) ** 2).sum(-1), axis=1)
    np.testing.assert_allclose(first_sq, distance[:, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(second_sq, distance[:, 1], rtol=1e-9, atol=1e-9)
    assert (first != second).all()


@pytest.mark.parametrize("z", [1.0, 2.0, 2.5])
def test_the_proposed_swap_has_the_rank_asked_for(z):
    points, weights = _mixture("propose", k=8)
    centers = points[:8].copy()
    propose = SwapSearch(points, weights, z).proposer(centers)
    for rank, u in enumerate(generator("u").random(8)):
        row, center = propose(u, rank)
        prices = []
        for j in range(8):
            swapped = centers.copy()
            swapped[j] = points[row]
            prices.append(cost(points, weights, swapped, z))
        assert prices[center] == pytest.approx(sorted(prices)[rank], rel=1e-12)


def test_recovers_the_true_centers_of_a_separated_mixture():
    instance = SSet(seed=1, gap=8.0, deviation=20_000.0)
    points = instance.points(3000)
    found = solve_centers(points, np.ones(3000), 15)
    gaps = np.linalg.norm(found.centers[:, None] - instance.centers[None], axis=2)
    # 200 points a cluster: a mean is off by more than 7 deviations of itself with probability below 1e-9.
    assert gaps.min(axis=0).max() < 7 * 20_000 / np.sqrt(150)
    assert len(set(gaps.argmin(axis=0))) == 15


@pytest.mark.parametrize("d", [5, 64])
@each_z
def test_cosine_centers_have_unit_length_and_the_cost_is_one_minus_cosine(z, d):
    points = UnitVectors(seed=1, d=d, k=6).points(400)
    weights = generator("w").exponential(size=400)
    found = solve_centers(points, weights, 6, z, metric="cosine", swaps=20)
    np.testing.assert_allclose(np.linalg.norm(found.centers, axis=1), 1, rtol=1e-12)
    gap = np.linalg.norm(points[:, None].astype(float) - found.centers[None], axis=2).min(axis=1)
    assert found.cost == pytest.approx(weights @ (gap**2 / 2) ** (z / 2), rel=1e-5)
    if z == 2:
        one_minus_cosine = 1 - (points.astype(float) @ found.centers.T).max(axis=1)
        assert found.cost == pytest.approx(weights @ one_minus_cosine, rel=1e-4)
    start = points[:6].astype(float)
    refined = refine(points, weights, start, z, metric="cosine")
    assert refined.cost < refine(points, weights, start, z, metric="cosine", max_iter=0).cost


def test_cosine_keeps_a_center_whose_points_cancel():
    points = np.array([[1.0, 0.0], [-1.0, 0.0]])
    found = refine(points, np.ones(2), np.array([[0.0, 1.0]]), metric="cosine")
    np.testing.assert_allclose(found.centers, [[0, 1]])
    assert found.cost == pytest.approx(2.0)


@each_z
@pytest.mark.parametrize("k", [3, 5, 40])
def test_fewer_distinct_points_than_k_cost_nothing(z, k):
    points = np.repeat([[0.1, 0.2], [3.3, 1.7], [5.9, -2.1]], 4, axis=0)
    for found in (
        solve_centers(points, np.ones(12), k, z),
        solve_centers(points, np.ones(12), k, z, init=points[:1]),
        refine(points, np.ones(12), np.zeros((k, 2)), z),
    ):
        assert len(found.centers) == 3
        assert found.cost < 1e-12
        np.testing.assert_allclose(found.centers[found.index], points, atol=1e-4)


def test_unused_centers_are_seeded_again():
    points, weights = _mixture("empty")
    far = np.concatenate([points[:3], np.full((3, 2), 1e4)])
    found = refine(points, weights, far, max_iter=50)
    assert len(np.unique(found.index)) == 6
    assert found.cost < refine(points, weights, points[:3], max_iter=50).cost


def test_refine_measures_with_no_iterations_and_keeps_the_order():
    points, weights = _mixture("measure")
    start = points[:6]
    measured = refine(points, weights, start, max_iter=0)
    assert measured.iterations == 0
    np.testing.assert_allclose(measured.centers, start, rtol=1e-12, atol=1e-12)
    assert measured.cost == pytest.approx(cost(points, weights, start), rel=1e-9)
    best = solve_centers(points, weights, 6)
    again = refine(points, weights, best.centers[::-1] + 0.01)
    np.testing.assert_allclose(again.centers, best.centers[::-1], atol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: must be at least 1, got 0"),
        ({"z": 0.9}, "z: must be at least 1, got 0.9"),
        ({"z": float("inf")}, "z: must be at least 1 and finite, got inf"),
        ({"weights": np.zeros(4)}, "weights: at least one point must have positive weight, got none of 4"),
        ({"weights": np.array([1, 1, -1, 1])}, "weights: must be finite and not negative, got -1"),
        ({"weights": np.array([1, 1, np.nan, 1])}, "weights: must be finite and not negative, got nan"),
        ({"weights": np.ones(3)}, "weights: must be one for each row"),
        ({"points": np.full((4, 2), np.nan)}, "points: must be finite, got .nan nan."),
        ({"metric": "manhattan"}, "metric: must be 'euclidean' or 'cosine', got 'manhattan'"),
        ({"metric": "cosine"}, "points: rows must have length 1 for cosine, got 0"),
        ({"init": np.zeros((3, 2))}, "init: must be 1 to 2 rows of 2 columns, got shape"),
        ({"init": np.zeros((1, 3))}, "init: must be 1 to 2 rows of 2 columns, got shape"),
        ({"restarts": 0}, "restarts: must be at least 1, got 0"),
        ({"swaps": -1}, "swaps: must be at least 0, got -1"),
        ({"max_iter": -1}, "max_iter: must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        solve_centers(**({"points": np.zeros((4, 2)), "weights": np.ones(4), "k": 2} | change))


def test_refine_names_centers_of_another_width():
    with pytest.raises(ValueError, match="centers: must be at least 1 row of 2 columns, got shape"):
        refine(np.zeros((4, 2)), np.ones(4), np.zeros((2, 3)))
