"""Searches on a sample of many points, and the descent on all of them: clusters are kept right while centers move."""
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.points.nearest import nearest
from beam_coresets.solvers import centers as centers_module
from beam_coresets.solvers import many_points
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.descent import CentersProblem
from beam_coresets.solvers.many_points import _Clusters, searched, settled


def mixture(n, k, seed, d=3, dtype=np.float32, spread=1.0):
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(k, d)) * 4
    points = means[rng.integers(k, size=n)] + spread * rng.normal(size=(n, d))
    return points.astype(dtype), rng.exponential(size=n) + 0.01


def problem_of(points, weights, cosine=False):
    return CentersProblem.of(points, weights, 2.0, cosine)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.sampled_from([np.float32, np.float64]),
       st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 6)), max_size=6))  # fmt: skip
def test_clusters_are_those_of_the_nearest_centers_wherever_centers_move(seed, k, dtype, moves):
    points, weights = mixture(200, 4, seed, dtype=dtype)
    problem, rng = problem_of(points, weights), np.random.default_rng(seed)
    centers = rng.normal(size=(k, 3)) / 4
    clusters = _Clusters.of(problem, k)
    clusters.move(centers)
    for size, one in moves:
        step = size * rng.normal(size=(k, 3)) * (np.arange(k) == one)[:, None] + 0.01 * rng.normal(size=(k, 3))
        centers = centers + step
        clusters.move(centers)
    _, dist_sq = nearest(problem.points, centers)
    own = ((problem.points - centers.astype(dtype)[clusters.index]) ** 2).sum(axis=1)
    np.testing.assert_allclose(own, dist_sq, rtol=1e-3, atol=1e-9)
    np.testing.assert_array_equal(clusters.counts, np.bincount(clusters.index, minlength=k))
    np.testing.assert_allclose(clusters.masses, np.bincount(clusters.index, weights, k), rtol=1e-9, atol=1e-9)
    sums = np.stack([np.bincount(clusters.index, weights * column, k) for column in problem.points.T], axis=1)
    np.testing.assert_allclose(clusters.sums, sums, atol=1e-7)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_settles_where_steps_gain_nothing_any_more(cosine, seed):
    points, weights = mixture(3000, 6, seed)
    if cosine:
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    problem = problem_of(points, weights, cosine)
    start = problem.points[:6].astype(np.float64)
    centers, passes = settled(problem, start, 500, 1e-9)
    plain, steps = problem.descend(problem.clustering(start), 500, 1e-9)
    found = problem.clustering(centers)
    assert found.cost <= problem.clustering(start).cost
    assert found.cost <= plain.cost * 1.02
    assert problem.clustering(problem.step(found)).cost >= found.cost * (1 - 1e-6)
    assert 1 < passes < 500
    if steps > 60:
        assert passes < steps
    assert not cosine or np.allclose(np.linalg.norm(centers, axis=1), 1)


def test_it_stops_before_a_center_is_without_points():
    points, weights = mixture(500, 2, 0)
    problem = problem_of(points, weights)
    start = np.concatenate([problem.points[:2], [[50.0, 50.0, 50.0]]]).astype(np.float64)
    centers, passes = settled(problem, start, 100, 1e-9)
    assert (passes, centers is start) == (0, True)


def test_a_sample_stands_for_many_points_and_few_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(many_points, "SEARCHED", 500)
    monkeypatch.setattr(many_points, "SEARCHED_PER_CENTER", 50)
    points, weights = mixture(5000, 5, 1)
    problem = problem_of(points, weights)
    totals = [searched(problem, 5, np.random.default_rng(i)).weights.sum() for i in range(60)]
    assert np.mean(totals) == pytest.approx(weights.sum(), rel=0.02)
    some = searched(problem, 5, np.random.default_rng(0))
    assert 350 < len(some.points) < 650
    assert len(searched(problem, 20, np.random.default_rng(0)).points) > 800
    assert (some.scale, some.origin is problem.origin) == (problem.scale, True)
    few = problem_of(points[:2000], weights[:2000])
    assert searched(few, 5, np.random.default_rng(0)) is few
    left_out = dataclasses.replace(problem, left_out=1.0)
    assert searched(left_out, 5, np.random.default_rng(0)) is left_out


@pytest.mark.parametrize(("z", "metric", "dtype", "d"), [
    (2.0, "euclidean", np.float32, 3), (2.0, "cosine", np.float32, 3), (1.0, "euclidean", np.float64, 3),
    (3.0, "euclidean", np.float32, 3), (2.0, "euclidean", np.float32, 200),
])  # fmt: skip
def test_many_points_are_solved_about_as_well_as_when_all_are_searched(monkeypatch, z, metric, dtype, d):
    points, weights = mixture(6000, 8, 3, d, dtype, 0.7)
    if metric == "cosine":
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    weights[::7] = 0.0
    whole = solve_centers(points, weights, 8, z, metric=metric)
    monkeypatch.setattr(many_points, "SEARCHED", 1000)
    monkeypatch.setattr(many_points, "SEARCHED_PER_CENTER", 100)
    found, again = (solve_centers(points, weights, 8, z, metric=metric) for _ in range(2))
    assert not np.array_equal(found.centers, whole.centers), "a sample was searched"
    assert found.cost <= whole.cost * 1.02
    assert found.index.shape == (6000,)
    assert (found.cost, found.centers.tobytes()) == (again.cost, again.centers.tobytes())
    near = ((points[:, None].astype(np.float64) - found.centers) ** 2).sum(axis=2)
    cost = weights @ (near.min(axis=1) / (2 if metric == "cosine" else 1)) ** (z / 2)
    assert found.cost == pytest.approx(cost, rel=1e-6)


def test_a_sample_without_rare_places_does_not_hide_them(monkeypatch):
    monkeypatch.setattr(centers_module, "searched", lambda problem, k, rng: dataclasses.replace(
        problem, points=problem.points[3:], weights=problem.weights[3:],
    ))  # fmt: skip
    points = np.zeros((1000, 2))
    points[:3] = [[1, 0], [0, 1], [1, 1]]
    found = solve_centers(points, np.ones(1000), 4)
    assert (len(found.centers), found.cost) == (4, 0.0)
