"""The nearest-center kernels against plain NumPy, over both dtypes and around every edge of their blocking."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.points import nearest as module
from beam_coresets.points.nearest import cost, nearest, nearest_numpy, power_of_distance, writable

DTYPES = [np.float32, np.float64]
DIMS = st.sampled_from([1, 2, 3, 15, 16, 17, 47, 48, 49, 50, 130])
ROWS = st.sampled_from([0, 1, 2, 63, 64, 65, 255, 256, 257, 300])


@pytest.fixture(params=["few centers by blocks", "all by the product"], autouse=True)
def _ways(request, monkeypatch):
    if request.param == "all by the product":
        monkeypatch.setattr(module, "_MATRIX_SIZE", 0)


def instance(n, k, d, dtype, seed=0):
    rng = generator("nearest", n, k, d, seed)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((k, d)).astype(dtype)


def assert_nearest(points, centers, rtol):
    """Distances agree with NumPy's, and the named center is at that distance (ties may name either)."""
    index, dist_sq = nearest(points, centers)
    _, expected = nearest_numpy(points, centers)
    assert index.dtype == np.int32
    assert dist_sq.dtype == points.dtype
    scale = expected.max(initial=0) + 1e-30
    np.testing.assert_allclose(dist_sq, expected, rtol=rtol, atol=rtol * scale)
    named = ((points.astype(np.float64) - centers[index].astype(np.float64)) ** 2).sum(axis=1)
    np.testing.assert_allclose(named, expected, rtol=rtol, atol=rtol * scale)


@settings(max_examples=80)
@given(ROWS, st.integers(1, 9), DIMS, st.sampled_from(DTYPES), st.integers(0, 3))
def test_kernels_agree_with_numpy(n, k, d, dtype, seed):
    assert_nearest(*instance(n, k, d, dtype, seed), rtol=1e-5 if dtype == np.float32 else 1e-12)


@given(st.integers(0, 20), st.integers(1, 9), st.sampled_from([1, 3, 47, 48]), st.data())
def test_ties_and_equal_points_name_some_nearest_center(n, k, d, data):
    grid = st.integers(-2, 2)
    points = np.array(data.draw(st.lists(grid, min_size=n * d, max_size=n * d)), np.float32).reshape(n, d)
    centers = np.array(data.draw(st.lists(grid, min_size=k * d, max_size=k * d)), np.float32).reshape(k, d)
    index, dist_sq = nearest(points, centers)
    assert np.array_equal(dist_sq, nearest_numpy(points, centers)[1])  # small integers: exact in either way
    assert np.array_equal(((points - centers[index]) ** 2).sum(axis=1), dist_sq)


@pytest.mark.parametrize("d", [1, 8, 47, 48, 64])
def test_a_common_offset_changes_nothing(d):
    points, centers = instance(300, 7, d, np.float64)
    plain = nearest(points, centers)
    moved = nearest(points + 1e7, centers + 1e7)
    assert np.array_equal(plain[0], moved[0])
    np.testing.assert_allclose(moved[1], plain[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [47, 48])
def test_far_away_centers_do_not_spoil_float32(d):
    """One center 1e4 off, or a cluster of three: the matrix product must not cost the others their precision."""
    points, centers = instance(500, 9, d, np.float32)
    one = np.concatenate([centers, np.full((1, d), 1e4, np.float32)])
    np.testing.assert_allclose(nearest(points, one)[1], nearest_numpy(points, one)[1], rtol=0.01)
    cluster, around = centers.copy(), points.copy()
    cluster[:3] += 1e4
    around[:100] += 1e4
    np.testing.assert_allclose(nearest(around, cluster)[1], nearest_numpy(around, cluster)[1], rtol=0.01)


@pytest.mark.parametrize("d", [3, 60])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_memory_layout_is_taken(d, dtype):
    points, centers = instance(70, 5, d, dtype)
    expected = nearest(points, centers)
    frozen = points.copy(), centers.copy()
    for array in frozen:
        array.setflags(write=False)
    strided = np.repeat(points, 2, axis=0)[::2], np.asfortranarray(centers)
    for given_points, given_centers in (frozen, strided, (points, centers.astype(np.float64))):
        found = nearest(given_points, given_centers)
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])
    assert not frozen[0].flags.writeable


def test_more_rows_than_one_matrix_chunk(monkeypatch):
    monkeypatch.setattr(module, "_MATRIX_ROWS", 16)
    assert_nearest(*instance(50, 6, 50, np.float32), rtol=1e-5)


def test_what_does_not_fit_is_refused():
    points = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="centers: at least one is needed, got 0"):
        nearest(points, np.empty((0, 2)))
    with pytest.raises(ValueError, match="centers: must have the points' 2 columns, got 3"):
        nearest(points, np.zeros((1, 3)))


@given(st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.sampled_from(DTYPES))
def test_costs_are_powers_of_distances(z, dtype):
    points, centers = instance(100, 4, 3, dtype)
    weights = generator("cost weights").random(100)
    _, dist_sq = nearest_numpy(points, centers)
    assert power_of_distance(dist_sq.astype(dtype), z).dtype == np.float64
    np.testing.assert_allclose(power_of_distance(dist_sq, z), dist_sq ** (z / 2), rtol=1e-12)
    assert cost(points, weights, centers, z) == pytest.approx(weights @ dist_sq ** (z / 2), rel=1e-5)
    assert cost(points[:0], weights[:0], centers, z) == 0.0


def test_writable_copies_only_what_it_must():
    array = np.zeros((2, 2))
    assert writable(array) is array
    assert writable(array.T[:1]).flags.c_contiguous
