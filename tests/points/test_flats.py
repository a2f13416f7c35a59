"""Flats: distances without cancellation, fits against singular values, and seeding."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import random_flats

from beam_coresets.datasets.structured import PlantedSubspaces
from beam_coresets.hashing import generator
from beam_coresets.points.flats import (
    Flats,
    coordinates,
    distances,
    fit,
    nearest_flat,
    neighbourhoods,
    principal,
    seeded,
    through_neighbours,
)


def planted(n=400, seed=0, **shape):
    instance = PlantedSubspaces(seed=seed, **shape)
    return instance.points(n).astype(np.float64), Flats(instance.centers, np.ascontiguousarray(instance.bases))


@settings(max_examples=60)
@given(
    st.integers(1, 300), st.integers(1, 6), st.integers(2, 9), st.data(), st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_distances_are_those_of_plain_projections(n, k, d, data, dtype, affine):
    r = data.draw(st.integers(0, d - 1))
    flats = random_flats(k, r, d, affine)
    points = generator("points", n, d).standard_normal((n, d)).astype(dtype)
    away = points[None].astype(np.float64) - flats.centers[:, None]
    along = np.einsum("knd,krd->knr", away, flats.bases)
    expected = ((away - np.einsum("knr,krd->knd", along, flats.bases)) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances(points, flats), expected, rtol=1e-9, atol=1e-14)
    index, dist_sq = nearest_flat(points, flats)
    assert index.dtype == np.int32
    np.testing.assert_allclose(dist_sq, expected.min(axis=0), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(expected[index, np.arange(n)], expected.min(axis=0), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(coordinates(points, flats, index), along[index, np.arange(n)], atol=1e-12)


def test_a_residual_far_below_the_extent_keeps_its_digits():
    """|x|^2 - |projection|^2 would lose all of them: 1e-6 against 1e6, and an offset of 1e6."""
    flats = random_flats(1, 2, 6, True)
    rng = generator("residual")
    normal = rng.standard_normal(6)
    normal -= (flats.bases[0] @ normal) @ flats.bases[0]
    normal /= np.linalg.norm(normal)
    along = 1e6 * rng.standard_normal((50, 2))
    center = flats.centers + 1e6
    points = center + along @ flats.bases[0] + 1e-3 * normal
    _, dist_sq = nearest_flat(points, Flats(center, flats.bases))
    np.testing.assert_allclose(dist_sq, 1e-6, rtol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_the_fit_is_that_of_singular_values(affine):
    points, flats = planted(d=7, k=3, r=2)
    weights = generator("fit").gamma(1.0, 1.0, len(points))
    index, _ = nearest_flat(points, flats)
    found, spread = fit(points, weights, index, flats, affine)
    for j in range(3):
        own, w = points[index == j], weights[index == j]
        center = w @ own / w.sum() if affine else np.zeros(7)
        _, values, rows = np.linalg.svd((own - center) * np.sqrt(w)[:, None])
        np.testing.assert_allclose(found.centers[j], center, atol=1e-10)
        np.testing.assert_allclose(np.abs(found.bases[j] @ rows[:2].T), np.eye(2), atol=1e-8)
        np.testing.assert_allclose(spread[j], values[:2] ** 2 / w.sum(), rtol=1e-8)
        exact = principal(own, w, 2, affine)
        np.testing.assert_allclose(np.abs(exact[1] @ rows[:2].T), np.eye(2), atol=1e-8)
        assert (exact[1][np.arange(2), np.abs(exact[1]).argmax(axis=1)] > 0).all()


def test_a_flat_without_weight_stays():
    points, flats = planted(d=5, k=3, r=1)
    index = np.zeros(len(points), np.int32)
    found, spread = fit(points, np.ones(len(points)), index, flats, True)
    np.testing.assert_array_equal(found.bases[1:], flats.bases[1:])
    np.testing.assert_array_equal(found.centers[1:], flats.centers[1:])
    assert (spread[1:] == 0).all()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_too_few_points_for_a_flat_are_completed(rows):
    points = generator("few").standard_normal((rows, 5))
    center, basis = principal(points, np.ones(rows), 3, True)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-12)
    _, dist_sq = nearest_flat(points, Flats(center[None], basis[None]))
    assert dist_sq.max() < 1e-24


def test_neighbours_of_a_linear_flat_are_those_at_small_angles():
    line = np.outer([1.0, 50.0, -30.0, 0.1], [1.0, 2.0, 2.0]) / 3
    off = np.array([[1.0, -1.0, 0.0], [0.3, 0.6, -0.5], [40.0, 0.0, 1.0]])
    points = np.concatenate([line, off])
    found = through_neighbours(points, np.ones(7), np.array([0]), np.array([4]), 1, False)
    np.testing.assert_allclose(np.abs(found.bases[0, 0]), [1 / 3, 2 / 3, 2 / 3], atol=1e-12)
    assert not found.centers.any()


@pytest.mark.parametrize("affine", [True, False])
def test_seeding_finds_planted_flats_and_repeats_itself(affine):
    """Within 3 times the planted cost from one seeding, where one flat alone costs 40 times as much."""
    points, flats = planted(1000, seed=2, d=8, k=3, r=2, affine=affine, concentration=50.0)
    weights = np.ones(len(points))
    found = [seeded(points, weights, 3, 2, affine, generator("seeding", s), 8) for s in (1, 1, 2)]
    np.testing.assert_array_equal(found[0].bases, found[1].bases)
    assert not np.array_equal(found[0].bases, found[2].bases)
    least = nearest_flat(points, flats)[1].sum()
    one = principal(points, weights, 2, affine)
    assert nearest_flat(points, Flats(one[0][None], one[1][None]))[1].sum() > 40 * least
    assert min(nearest_flat(points, f)[1].sum() for f in found) < 3 * least


def test_seeding_stops_where_nothing_is_left():
    points = np.concatenate([np.outer(np.arange(9.0), [1.0, 0, 0]), np.outer(np.arange(9.0), [0, 1.0, 1])])
    found = seeded(points, np.ones(18), 7, 1, True, generator("stop"), 16)
    assert len(found.centers) < 7
    same = np.full((30, 4), 3.3)
    assert len(seeded(same, np.ones(30), 5, 2, True, generator("same")).centers) == 1
    assert np.isfinite(seeded(np.zeros((4, 3)), np.ones(4), 2, 1, False, generator("zeros")).bases).all()


@given(st.integers(1, 5000), st.integers(1, 50), st.integers(1, 8))
def test_neighbourhoods_are_within_their_range(n, k, r):
    sizes = neighbourhoods(n, k, r, generator(n, k, r), 20)
    assert sizes.min() >= min(n, r)
    assert sizes.max() <= n


def test_no_flats_and_other_widths_are_refused():
    with pytest.raises(ValueError, match="flats: at least one is needed, got 0"):
        nearest_flat(np.zeros((2, 3)), Flats(np.zeros((0, 3)), np.zeros((0, 1, 3))))
    with pytest.raises(ValueError, match="flats: must have the points' 3 columns, got 4"):
        nearest_flat(np.zeros((2, 3)), random_flats(1, 1, 4, True))
