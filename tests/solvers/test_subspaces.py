"""(r, k)-subspace clustering: planted flats are found, k = 1 is exact, and nothing depends on the coordinates."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.datasets.structured import PlantedSubspaces
from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.flats import Flats, nearest_flat, seeded
from beam_coresets.results.distortion import costs, subspace_sets
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.flat_search import FlatsProblem
from beam_coresets.solvers.subspaces import Subspaces, refine_subspaces, solve_subspaces


def planted(n=1500, seed=0, **shape):
    """Points, weights from 0.5 to 2, and the planted flats after a descent."""
    instance = PlantedSubspaces(seed=seed, **shape)
    points, weights = instance.points(n), generator("weights", n).uniform(0.5, 2.0, n)
    truth = Subspaces(instance.centers, np.ascontiguousarray(instance.bases), instance.affine)
    return points, weights, refine_subspaces(points, weights, truth)


def check(points, weights, found, r, k):
    """What holds for every solution."""
    assert len(found.centers) <= k
    assert found.bases.shape == (len(found.centers), r, points.shape[1])
    assert np.abs(found.bases @ found.bases.transpose(0, 2, 1) - np.eye(r)).max(initial=0) < 1e-10
    if not found.affine:
        assert not found.centers.any()
    kept = weights > 0
    assert found.cost == pytest.approx(weights[kept] @ nearest_flat(points[kept], found.flats)[1], rel=1e-9, abs=1e-20)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("d", "k", "r"), [(10, 4, 1), (10, 8, 2), (20, 4, 2), (3, 3, 1)])
def test_planted_flats_are_found(d, k, r, affine):
    points, weights, truth = planted(d=d, k=k, r=r, affine=affine, concentration=2.0)
    found = solve_subspaces(points, weights, k, r, affine=affine)
    check(points, weights, found, r, k)
    assert found.cost <= truth.cost * 1.001


def test_a_hard_case_beats_restarts():
    """Six planes through the origin in three dimensions all cross: 60 seedings with descents don't find what the search
    does, which is cheaper than what was planted."""
    points, weights, truth = planted(3000, seed=2, d=3, k=6, r=2, affine=False)
    found = solve_subspaces(points, weights, 6, 2)
    problem = FlatsProblem(points.astype(np.float64), weights, 6, 2, False)
    restarts = []
    for seed in range(60):
        flats = seeded(problem.points, weights, 6, 2, False, generator("restarts", seed))
        restarts.append(problem.descend(problem.state(flats), 50).cost)
    assert found.cost < truth.cost * 0.95
    assert found.cost <= min(restarts) * 1.001


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("n", "d", "r"), [(500, 7, 3), (40, 90, 5)])
def test_one_flat_is_weighted_principal_components(n, d, r, affine):
    rng = generator("pca", n)
    points, weights = rng.standard_normal((n, d)) * np.linspace(3, 1, d) + 2, rng.gamma(1.0, 1.0, n)
    found = solve_subspaces(points, weights, 1, r, affine=affine)
    center = weights @ points / weights.sum() if affine else np.zeros(d)
    _, values, rows = np.linalg.svd((points - center) * np.sqrt(weights)[:, None], full_matrices=False)
    np.testing.assert_allclose(found.centers[0], center, atol=1e-12)
    np.testing.assert_allclose(np.abs(found.bases[0] @ rows[:r].T), np.eye(r), atol=1e-8)
    assert found.cost == pytest.approx((values[r:] ** 2).sum(), rel=1e-12)


def test_dimension_zero_is_k_means():
    points, weights, _ = planted(400, d=4, k=3)
    found = solve_subspaces(points, weights, 5, 0, affine=True, seed=3)
    expected = solve_centers(points, weights, 5, seed=3)
    np.testing.assert_array_equal(found.centers, expected.centers)
    assert found.bases.shape == (5, 0, 4)
    check(points, weights, found, 0, 5)
    assert found.cost == pytest.approx(expected.cost, rel=1e-12)


@pytest.mark.parametrize("affine", [True, False])
def test_every_iteration_descends(affine):
    points, weights, _ = planted(800, d=6, k=4, r=2, affine=affine)
    rng = generator("descent")
    bases = np.linalg.qr(rng.standard_normal((4, 6, 2)))[0].transpose(0, 2, 1)
    start = Subspaces(rng.standard_normal((4, 6)) * affine, np.ascontiguousarray(bases), affine)
    found = [refine_subspaces(points, weights, start, max_iter=i).cost for i in range(12)]
    assert found[0] == pytest.approx(weights @ nearest_flat(points, start.flats)[1])
    assert (np.diff(found) <= 0).all()
    assert found[-1] < found[1] < found[0]


@pytest.mark.parametrize("affine", [True, False])
def test_rotations_weights_and_translations_change_nothing(affine):
    points, weights, _ = planted(600, d=5, k=3, r=1, affine=affine, concentration=5.0)
    points = points.astype(np.float64)
    base = solve_subspaces(points, weights, 3, 1, affine=affine)
    rotation = np.linalg.qr(generator("rotation").standard_normal((5, 5)))[0]
    turned = solve_subspaces(points @ rotation, weights, 3, 1, affine=affine)
    assert turned.cost == pytest.approx(base.cost, rel=1e-6)
    assert solve_subspaces(points, 8 * weights, 3, 1, affine=affine).cost == pytest.approx(8 * base.cost, rel=1e-6)
    twice = np.repeat(np.arange(600), 2)
    assert solve_subspaces(points[twice], weights[twice] / 2, 3, 1, affine=affine).cost == pytest.approx(
        base.cost, rel=1e-6
    )
    if affine:
        moved = solve_subspaces(points + 1e7, weights, 3, 1, affine=True)
        assert moved.cost == pytest.approx(base.cost, rel=1e-4)
    far = np.concatenate([points, np.full((1, 5), 1e9)])
    unweighted = solve_subspaces(far, np.append(weights, 0.0), 3, 1, affine=affine)
    assert unweighted.cost == base.cost


def test_float32_with_a_large_offset():
    """Offsets of 1e5 round float32 coordinates to 1 / 128: the cost is that of the rounded data."""
    points, weights, _ = planted(1000, d=6, k=2, r=1, extent=(50.0, 100.0), noise=(1.0, 2.0))
    far = (points + np.float32(1e5)).astype(np.float32)
    base = solve_subspaces((far - np.float64(1e5)), weights, 2, 1, affine=True)
    found = solve_subspaces(far, weights, 2, 1, affine=True)
    assert found.cost == pytest.approx(base.cost, rel=1e-6)
    check(far, weights, found, 1, 2)


@pytest.mark.parametrize("affine", [True, False])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 9), k=st.integers(1, 6), r=st.integers(1, 3), seed=st.integers(0, 99), twice=st.booleans())
def test_few_points_and_many_flats(affine, n, k, r, seed, twice):
    points = generator("few points", n, seed).integers(-2, 3, (n, 4)).astype(np.float32)
    points = np.concatenate([points, points]) if twice else points
    weights = np.ones(len(points))
    found = solve_subspaces(points, weights, k, r, affine=affine, restarts=1)
    check(points, weights, found, r, k)
    distinct = len(np.unique(points, axis=0))
    if distinct <= max(k, r + affine):  # each has its own, or all are on one
        assert found.cost <= 1e-18
    assert len(np.unique(found.costs(Coreset(points, weights, weights, np.arange(len(points), dtype=np.uint64)))[0])) \
        == len(found.centers) or found.cost > 1e-18  # no flat is there for nothing


def test_exact_flats_cost_nothing_and_superfluous_ones_are_left_out():
    along = generator("exact").standard_normal((200, 1))
    points = np.concatenate([along * [1.0, 2.0, 0.0], along * [0.0, 1.0, -1.0] + [0.0, 0.0, 7.0]])
    found = solve_subspaces(points, np.ones(400), 5, 1, affine=True)
    assert found.cost < 1e-20
    assert 2 <= len(found.centers) <= 5
    assert len(np.unique(nearest_flat(points, found.flats)[0])) == len(found.centers)


@pytest.mark.parametrize("more", [3, 10**12])
def test_more_flats_than_points_take_no_memory(more):
    points = generator("few").standard_normal((40, 3))
    few = solve_subspaces(points, np.ones(40), 40, 1, affine=True)
    many = solve_subspaces(points, np.ones(40), 40 + more, 1, affine=True)
    assert len(many.centers) == len(few.centers) <= 40
    assert many.cost == few.cost == pytest.approx(0, abs=1e-18)
    again = solve_subspaces(points[:5], np.ones(5), 60, 1, affine=True, init=few)
    assert again.cost == pytest.approx(0, abs=1e-18)


def test_many_rows_are_searched_by_way_of_a_coreset():
    points, weights, truth = planted(30_000, d=6, k=3, r=2)
    assert solve_subspaces(points, weights, 3, 2, affine=True).cost <= truth.cost * 1.001


def test_many_dimensions_are_searched_in_the_leading_ones():
    points, weights, truth = planted(900, d=150, k=3, r=2)
    found = solve_subspaces(points, weights, 3, 2, affine=True)
    check(points, weights, found, 2, 3)
    assert found.cost <= truth.cost * 1.001


def test_the_same_seed_gives_the_same_flats():
    points, weights, _ = planted(500, d=5, k=3)
    a, b = (solve_subspaces(points, weights, 3, 1, affine=True, seed=4) for _ in range(2))
    np.testing.assert_array_equal(a.bases, b.bases)
    np.testing.assert_array_equal(a.centers, b.centers)


def test_as_a_model_it_tells_costs_and_solves_again():
    points, weights, truth = planted(700, d=6, k=3)
    sample = Coreset(points, weights, weights, np.arange(700, dtype=np.uint64))
    index, cost = truth.costs(sample)
    assert weights @ cost == pytest.approx(truth.cost)
    assert index.max() == 2
    half = Coreset(points, weights * (np.arange(700) % 2), weights, sample.ids)
    for quick in (True, False):
        again = truth.refit(half, 1, quick)
        assert again.cost <= half.weights @ cost
        assert weights @ again.costs(sample)[1] < 1.05 * truth.cost
        moved = Subspaces(truth.centers + 9, truth.bases[::-1], True)  # what left-out points know is not used
        assert moved.refit(half, 1, quick).centers.tobytes() == again.centers.tobytes()


def test_an_init_is_where_the_first_start_begins():
    """With fewer flats, and in more dimensions than are searched in."""
    for d in (6, 150):
        points, weights, truth = planted(700, d=d, k=4)
        for count in (4, 2):
            init = Subspaces(truth.centers[:count], truth.bases[:count], True)
            found = solve_subspaces(points, weights, 4, 1, affine=True, init=init, restarts=1)
            assert found.cost <= truth.cost * 1.001


def test_distortion_of_flats_is_that_of_their_costs():
    points, weights, truth = planted(900, d=6, k=3, r=2)
    sets = subspace_sets(points, truth, [truth])
    assert [name.split()[0] for name, _ in sets] == ["full", "own", *["perturbed"] * 4, *["random"] * 4]
    measured = costs(points, weights, sets)
    assert measured[0] == pytest.approx(truth.cost)
    assert (measured[2:] > truth.cost).all()
    assert (np.diff(measured[2:6]) > 0).all()
    assert costs(points[:0], weights[:0], sets).tolist() == [0.0] * len(sets)
    rows = points[:20]
    for name, flats in sets:
        (cost,) = costs(rows, np.ones(20), [(name, flats)])
        check(rows, np.ones(20), Subspaces(flats.centers, flats.bases, True, cost), 2, 3)


FLATS = Subspaces(np.zeros((1, 3)), np.eye(3)[None, :1], True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: must be at least 1, got 0"),
        ({"r": 3}, "r: must be below d = 3, got 3"),
        ({"r": 0, "affine": False}, "r: must be at least 1 for linear subspaces, got 0"),
        ({"r": -1}, "r: must be at least 0, got -1"),
        ({"restarts": 0}, "restarts: must be at least 1, got 0"),
        ({"weights": np.zeros(4)}, "weights: at least one point must have positive weight, got none of 4"),
        ({"weights": np.array([1, 1, -1, 1])}, "weights: must be finite and not negative, got -1"),
        ({"weights": np.ones(3)}, "weights: must be one for each row"),
        ({"points": np.full((4, 3), np.inf)}, "points: must be finite, got .inf inf inf."),
        ({"init": FLATS, "r": 2}, "init: must be affine, with r = 2 and d = 3, got affine, 1 and 3"),
        ({"init": FLATS, "affine": False}, "init: must be linear, with r = 1 and d = 3, got affine, 1 and 3"),
        ({"init": Subspaces(np.zeros((3, 3)), np.zeros((3, 1, 3)), True)}, "init: must be 1 to 2 subspaces, got 3"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        solve_subspaces(**(
            {"points": np.zeros((4, 3)), "weights": np.ones(4), "k": 2, "r": 1, "affine": True} | change
        ))


def test_refining_names_bad_arguments():
    with pytest.raises(ValueError, match="start: must be affine, with r = 1 and d = 4, got affine, 1 and 3"):
        refine_subspaces(np.zeros((4, 4)), np.ones(4), FLATS)
    with pytest.raises(ValueError, match="max_iter: must be at least 0, got -1"):
        refine_subspaces(np.zeros((4, 3)), np.ones(4), FLATS, max_iter=-1)


def test_flats_are_a_pair_of_arrays():
    union = Flats.concatenate(FLATS.flats, FLATS.flats).take([1])
    assert union.centers.shape == (1, 3)
    assert union.astype(np.float32).bases.dtype == np.float32
