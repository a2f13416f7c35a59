import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import with_far_rows

from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.left_out import kept_weights, threshold, trimmed_cost, trimmed_seeding, weight_left_out
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.descent import CentersProblem
from beam_coresets.solvers.model import point_costs
from beam_coresets.solvers.swaps import SwapSearch
from beam_coresets.solvers.trimmed import TrimmedCenters


def _sorted_and_cut(costs, weights, left_out):
    """The cost without the worst of the weight, one point after the other."""
    total = 0.0
    for i in np.argsort(-costs, kind="stable"):
        gone = min(left_out, weights[i])
        left_out -= gone
        total += (weights[i] - gone) * costs[i]
    return total


_rows = st.lists(st.tuples(st.integers(0, 6), st.floats(0, 3)), min_size=1, max_size=12)


@given(_rows, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_the_trimmed_cost_is_that_of_sorting_and_cutting(rows, share):
    costs, weights = np.array(rows, float).T
    left_out = share * weights.sum()
    expected = pytest.approx(_sorted_and_cut(costs, weights, left_out), abs=1e-9)
    assert trimmed_cost(costs, weights, left_out) == expected
    kept, level = kept_weights(costs, weights, left_out)
    assert (kept >= 0).all()
    assert (kept <= weights).all()
    assert kept.sum() == pytest.approx(weights.sum() - left_out, abs=1e-9)
    if left_out:
        assert weights @ np.minimum(costs, level) - left_out * level == expected  # duality
        for other in np.linspace(0, 7, 8):
            bound = weights @ np.minimum(costs, other) - left_out * other
            assert bound <= trimmed_cost(costs, weights, left_out) + 1e-9
        assert threshold(costs, weights, left_out) == level


def test_a_number_is_of_weight_and_a_share_of_the_total():
    assert weight_left_out(0.01, 500.0) == 5.0
    assert weight_left_out(3, 500.0) == 3.0
    assert weight_left_out(1, 500.0) == 1.0
    assert weight_left_out(700, 500.0) == 250.0  # of two halves nobody knows which


def _best(points, weights, k):
    """The k-means cost of the best partition."""
    best = np.inf
    for labels in itertools.product(range(k), repeat=len(points) - 1):
        labels = np.array((0, *labels))
        parts = [(points[labels == j], weights[labels == j]) for j in np.unique(labels)]
        best = min(best, sum(w @ ((p - w @ p / w.sum()) ** 2).sum(axis=1) for p, w in parts))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_exhaustive_optimum(seed):
    rng = generator("tiny trimmed", seed)
    points, m = rng.standard_t(2, (8, 2)), 2
    best = min(_best(points[list(kept)], np.ones(6), 2) for kept in itertools.combinations(range(8), 8 - m))
    assert solve_centers(points, np.ones(8), 2, left_out=m).cost == pytest.approx(best, rel=1e-6)


def test_a_point_of_some_weight_is_left_out_in_part():
    points, weights = np.array([[0.0], [1.0], [9.0]]), np.array([1.0, 1.0, 3.0])
    found = solve_centers(points, weights, 1, left_out=2.5)  # 0, 1 and half of a 9 stay; or 9 and half of a 1: cheaper
    assert found.centers[0, 0] == pytest.approx(9.0)
    assert found.cost == pytest.approx(0.0, abs=1e-9)
    found = solve_centers(points, weights, 1, left_out=1.5)  # half of the 1 stays
    assert found.cost == pytest.approx(64 * 0.5 * 3 / 3.5)


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("far", [40.0, 1e6, 1e12])
def test_centers_are_those_of_the_cleaned_data_however_far_the_outliers_are(z, far):
    n = 2000
    points, _ = with_far_rows(int(z), n, 60, far)
    clean = solve_centers(points[:n], np.ones(n), 5, z)
    found = solve_centers(points, np.ones(len(points)), 5, z, left_out=len(points) - n)
    assert found.cost == pytest.approx(clean.cost, rel=1e-5)
    sample = Coreset(points, np.ones(len(points)), np.ones(len(points)), np.arange(len(points), dtype=np.uint64))
    model = TrimmedCenters.of(sample, found.centers, float(len(points) - n), z, "euclidean")
    rows, gone, _, cost = model.outliers(sample)
    assert sorted(rows.tolist()) == list(range(n, len(points)))
    assert (np.diff(cost) <= 0).all()
    assert gone.sum() == pytest.approx(len(points) - n)
    assert model.totals(sample, *model.clusters(sample))[0].sum() == pytest.approx(n)
    total = model.costs(sample)[1].sum() + model.constant
    assert total == pytest.approx(found.cost, rel=1e-3 if far < 1e10 else np.inf)


def test_under_the_cosine_metric():
    rng = generator("cosine outliers")
    points = np.concatenate([np.eye(8)[:2].repeat(100, 0) + 0.02 * rng.normal(size=(200, 8)), -np.ones((5, 8))])
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    found = solve_centers(points, np.ones(205), 2, metric="cosine", left_out=5)
    assert found.cost == pytest.approx(solve_centers(points[:200], np.ones(200), 2, metric="cosine").cost, rel=1e-5)


def test_points_on_centers_are_no_outliers_however_much_is_to_be_left_out():
    """Three of ten points cost something and half of the weight is to go: the three go, and seven stay."""
    points = np.repeat([[0.0], [10.0]], 5, axis=0) + np.array([0.0, 0, 0, 1, 2, 0, 0, 0, 0, 3])[:, None]
    sample = Coreset(points, np.ones(10), np.ones(10), np.arange(10, dtype=np.uint64))
    model = TrimmedCenters.of(sample, np.array([[0.0], [10.0]]), 5.0, 2.0, "euclidean")
    rows, gone, _, _ = model.outliers(sample)
    assert sorted(rows.tolist()) == [3, 4, 9]
    weight, cost = model.totals(sample, *model.clusters(sample))
    assert weight.tolist() == [3, 4]
    assert weight.sum() + gone.sum() == 10
    assert cost.tolist() == [0, 0]


def test_seeding_passes_by_far_points():
    n = 2000
    points, _ = with_far_rows(9, n, 100, 1e5)
    rows = trimmed_seeding(points, np.ones(len(points)), 5, 2.0, 100.0, generator("seeds"), candidates=3)
    assert (rows < n).all()
    assert len(set(rows.tolist())) == 5


def test_a_swap_is_priced_by_costs_cut_at_the_threshold():
    points, _ = with_far_rows(3, 300, 10, 40.0)
    problem = CentersProblem.of(points, np.ones(len(points)), 2.0, False, 10.0)
    state = problem.clustering(problem.points[[0, 1, 305]].astype(np.float64))
    search = SwapSearch(problem.points, problem.weights, 2.0)
    moved, swaps, _ = search.run(state.centers, generator("swap").random(50), 1, threshold=state.threshold)
    before, after = (
        np.minimum(point_costs(problem.points, c)[1], state.threshold).sum() for c in (state.centers, moved)
    )
    assert swaps == 1
    assert after < before


def test_a_refit_cuts_costs_where_the_emitted_centers_do():
    points, _ = with_far_rows(4, 300, 10, 40.0)
    sample = Coreset(points, np.ones(310), np.ones(310), np.arange(310, dtype=np.uint64))
    model = TrimmedCenters.of(sample, points[:5].astype(np.float64), 10.0, 2.0, "euclidean")
    other = model.refit(sample, 1, False)
    assert other.threshold == model.threshold
    best = solve_centers(points, np.ones(310), 5, left_out=10)
    assert trimmed_cost(other.clusters(sample)[1], sample.weights, 10) < 1.2 * best.cost
    assert other.refit(sample.keep(np.arange(5), np.ones(5)), 1, False) is other  # nothing would stay


@pytest.mark.parametrize("left_out", [-1.0, 3.0, np.nan])
def test_refuses_to_leave_everything_out(left_out):
    with pytest.raises(ValueError, match="left_out: must be from 0 to less than the total weight 3, got"):
        solve_centers(np.eye(3), np.ones(3), 2, left_out=left_out)
