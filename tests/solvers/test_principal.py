"""Wide problems are searched in few columns, and what is found is as good as if all had been searched."""
import dataclasses

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from beam_coresets.points.nearest import nearest_numpy
from beam_coresets.solvers import principal
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.descent import CentersProblem
from beam_coresets.solvers.principal import COMPONENTS, LEAST_DIM, Principal

D = LEAST_DIM + 8


def mixture(seed, n=700, d=D, clusters=12, spread=1.0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(clusters, d)) * 3
    return centers[rng.integers(0, clusters, n)] + spread * rng.normal(size=(n, d)), rng.lognormal(0, 1, n)


def unit(points):
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def true_cost(points, weights, centers, cosine):
    dist_sq = nearest_numpy(points, centers)[1]
    return float(weights @ (0.5 * dist_sq if cosine else dist_sq))


@pytest.mark.parametrize(
    ("kind", "dtype", "cosine"),
    [("clusters", np.float32, False), ("noise", np.float32, False), ("few directions", np.float64, False),
     ("noise", np.float64, True), ("clusters", np.float32, True)],
)  # fmt: skip
def test_it_costs_no_more_than_a_search_in_all_columns(kind, dtype, cosine, monkeypatch):
    """The mean of four seeds, within a percent: both searches end in local optima."""
    points, weights = mixture(3, spread=0.0 if kind == "few directions" else 1.0)
    rng = np.random.default_rng(4)
    if kind == "noise":
        points = rng.normal(size=points.shape)
    if kind == "few directions":
        points = points[rng.permutation(len(points))] + rng.normal(size=(len(points), 3)) @ rng.normal(size=(3, D))
    points = (unit(points) if cosine else points).astype(dtype)
    metric = "cosine" if cosine else "euclidean"
    k = 12 if kind == "clusters" else 8
    narrow = [solve_centers(points, weights, k, metric=metric, seed=seed, restarts=1) for seed in range(4)]
    monkeypatch.setattr(principal, "LEAST_DIM", 10_000)
    wide = [solve_centers(points, weights, k, metric=metric, seed=seed, restarts=1) for seed in range(4)]
    if kind == "noise":  # else both may find the best there is
        assert any((one.centers != other.centers).any() for one, other in zip(narrow, wide, strict=True))
    assert np.mean([one.cost for one in narrow]) <= 1.01 * np.mean([one.cost for one in wide])
    for one in narrow:
        exact = true_cost(points.astype(np.float64), weights, one.centers, cosine)
        assert one.cost == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("cosine", [False, True])
def test_narrow_costs_differ_from_wide_ones_by_a_constant_for_centers_in_the_span(cosine):
    points, weights = mixture(5)
    points = unit(points) if cosine else points
    wide = CentersProblem.of(points, weights, 2.0, cosine)
    found = Principal.of(wide)
    assert found.problem.points.shape == (len(points), COMPONENTS)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(COMPONENTS), atol=1e-12)
    differences = []
    for seed in range(4):
        narrow = np.random.default_rng(seed).normal(size=(6, COMPONENTS))
        narrow = unit(narrow) if cosine else narrow
        one, other = wide.clustering(narrow @ found.basis.T), found.problem.clustering(narrow)
        np.testing.assert_array_equal(one.index, other.index)
        differences.append(one.cost - other.cost)
        np.testing.assert_allclose(found.inward(narrow @ found.basis.T), narrow, atol=1e-9)
    np.testing.assert_allclose(differences, differences[0], rtol=1e-9)


def test_it_finds_the_directions_in_which_rows_differ_most():
    points, weights = mixture(6, clusters=30)
    wide = CentersProblem.of(points, weights, 2.0, False)
    values, vectors = np.linalg.eigh((wide.points * wide.weights[:, None]).T @ wide.points)
    found = Principal.of(wide)
    kept = float(wide.weights @ (found.problem.points**2).sum(axis=1))
    assert kept > 0.98 * values[-COMPONENTS:].sum()
    between = vectors[:, -29:]  # 30 clusters differ in so many
    assert np.linalg.norm(between.T @ found.basis, axis=1).min() > 0.999


@pytest.mark.parametrize(
    "changed", [{"z": 1.0}, {"z": 3.0}, {"left_out": 1.0}, {"points": np.ones((50, LEAST_DIM - 1))}], ids=str
)
def test_other_problems_are_searched_as_they_are(changed):
    problem = CentersProblem.of(mixture(7, n=50)[0], np.ones(50), 2.0, False)
    assert Principal.of(problem) is not None
    assert Principal.of(dataclasses.replace(problem, **changed)) is None


@pytest.mark.parametrize("cosine", [False, True])
def test_fewer_distinct_rows_than_centers_are_all_centers(cosine):
    points, weights = mixture(8, n=9)
    points = np.repeat(unit(points) if cosine else points, 5, axis=0).astype(np.float32)
    found = solve_centers(points, np.repeat(weights, 5), 20, metric="cosine" if cosine else "euclidean")
    assert len(found.centers) == 9
    assert found.cost == pytest.approx(0, abs=1e-9)


def test_rows_that_differ_only_in_dropped_columns_are_told_apart():
    """100 directions that matter more than the last: five pairs differ in that alone."""
    rng = np.random.default_rng(9)
    points = np.zeros((400, D))
    points[:390, :150] = rng.normal(size=(390, 150)) * 10
    points[390:, 160] = np.arange(10) // 2
    points[390:, 170] = np.arange(10) % 2 * 1e-3
    weights = np.r_[np.full(390, 1e-9), np.ones(10)]
    found = solve_centers(points, weights, 400)
    assert len(found.centers) == 400
    assert found.cost < 1e-20


def test_given_centers_are_where_it_begins():
    points, weights = mixture(10)
    best = solve_centers(points, weights, 12, restarts=4)
    again = solve_centers(points, weights, 12, restarts=1, swaps=0, init=best.centers, seed=77)
    assert again.cost <= best.cost * (1 + 1e-9)


def test_threads_change_nothing():
    points, weights = mixture(11)
    one = solve_centers(points.astype(np.float32), weights, 8)
    with threadpool_limits(2, "blas"):
        other = solve_centers(points.astype(np.float32), weights, 8)
    np.testing.assert_array_equal(one.centers, other.centers)
