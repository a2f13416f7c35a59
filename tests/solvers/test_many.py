"""Thousands of centers cost what a descent that compares every row with every center in each iteration ends at."""
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import nearest
from beam_coresets.solvers import many
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.descent import CentersProblem
from beam_coresets.solvers.model import Centers
from beam_coresets.solvers.principal import LEAST_DIM

K = many.FROM_CENTERS


def clusters(seed, n=4000, d=12, centers=500, spread=0.7, dtype=np.float32):
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centers, d))
    points = middle[rng.integers(0, centers, n)] + spread * rng.normal(size=(n, d))
    return points.astype(dtype), rng.lognormal(0, 0.5, n)


@pytest.mark.parametrize("spread", [0.3, 1.5])
@pytest.mark.parametrize("z", [1.0, 2.0])
def test_it_ends_within_two_percent_of_a_full_descent_from_the_same_rows(spread, z):
    points, weights = clusters(1, spread=spread)
    problem = CentersProblem.of(points, weights, z, False)
    rows = many.grouped_seeds(problem, K, np.random.default_rng(2))
    start = problem.points[rows].astype(np.float64)
    full, _ = problem.descend(problem.clustering(start), 40, 1e-5)
    found, _ = many.descend(problem, start, many.LIST_ITERATIONS, many.TOL)
    assert found.cost <= 1.02 * full.cost
    assert found.cost < 0.95 * problem.clustering(start).cost


@pytest.mark.parametrize(
    ("cosine", "d", "dtype"),
    [(False, 2, np.float64), (False, 12, np.float32), (True, 12, np.float64), (False, LEAST_DIM, np.float32),
     (True, LEAST_DIM, np.float32)],
)  # fmt: skip
def test_what_is_told_is_exact(cosine, d, dtype):
    points, weights = clusters(3, n=2600, d=d, dtype=np.float64)
    points = (points / np.linalg.norm(points, axis=1, keepdims=True) if cosine else points + 100).astype(dtype)
    weights[:20] = 0
    found = solve_centers(points, weights, K, metric="cosine" if cosine else "euclidean")
    dist_sq = cdist(points, found.centers, "sqeuclidean").min(axis=1)
    exact = float(weights @ (0.5 * dist_sq if cosine else dist_sq))
    assert len(found.centers) == K
    assert found.cost == pytest.approx(exact, rel=1e-3)  # a float32 tie may name the second nearest
    assert found.cost >= exact * (1 - 1e-6)
    assert len(np.unique(found.index)) > 0.95 * K
    if cosine:
        np.testing.assert_allclose(np.linalg.norm(found.centers, axis=1), 1, rtol=1e-9)
    again = solve_centers(points, weights, K, metric="cosine" if cosine else "euclidean")
    np.testing.assert_array_equal(found.centers, again.centers)


def test_the_nearest_are_remembered():
    points, weights = clusters(4)
    problem = CentersProblem.of(points, weights, 2.0, False)
    centers = problem.points[:K].astype(np.float64)
    state, beside = many._exact(problem, centers)
    dist_sq = ((problem.points[:300, None].astype(np.float64) - centers[None]) ** 2).sum(axis=2)
    closest = np.sort(dist_sq, axis=1)[:, : many.BESIDE]
    found = np.sort(np.take_along_axis(dist_sq, beside[:300].astype(np.int64), axis=1), axis=1)
    np.testing.assert_allclose(found, closest, rtol=1e-3, atol=1e-4)
    _, least = nearest(problem.points, centers)
    np.testing.assert_allclose(state.dist_sq, least, rtol=1e-3, atol=1e-5)


def test_groups_get_centers_by_what_they_cost():
    cost, rows = np.array([8.0, 1.0, 0.0, 1.0, 100.0]), np.array([50, 50, 50, 0, 12])
    shares = many._shares(cost, rows, 40)
    assert shares.sum() == 40
    assert (shares <= rows).all()
    assert shares[4] == 12, "all of its rows"
    assert shares[2] == 1, "one at least"
    assert shares[0] > 5 * shares[1]
    assert (many._shares(np.zeros(3), np.array([5, 5, 5]), 9) >= 1).all()
    assert many._shares(cost, rows, 1000).sum() == rows.sum()


def test_many_repeated_rows():
    """Of 5,000 rows about 900 are different: as many centers, no cost."""
    rng = np.random.default_rng(5)
    points = rng.normal(size=(900, 6)).astype(np.float32)[rng.integers(0, 900, 5000)]
    found = solve_centers(points, np.ones(5000), K)
    assert found.cost == pytest.approx(0, abs=1e-6)
    assert len(found.centers) == len(np.unique(points, axis=0)) > 850


def test_given_centers_are_kept_to_begin_with():
    points, weights = clusters(6)
    first = solve_centers(points, weights, K)
    again = solve_centers(points, weights, K, init=first.centers, seed=9)
    assert again.cost <= first.cost * (1 + 1e-6)
    more = solve_centers(points, weights, K + 50, init=first.centers)
    assert more.cost < first.cost
    assert len(more.centers) == K + 50


def test_the_interval_of_many_centers_is_called_weak():
    points, _ = clusters(7)
    sample = Coreset.empty(points.shape[1])
    assert "may be too narrow" in Centers(points[:K].astype(np.float64)).doubt(sample)
    assert Centers(points[: K - 1].astype(np.float64)).doubt(sample) is None
