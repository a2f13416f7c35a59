import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.datasets.structured import Grouped, LowRank, PlantedSubspaces
from beam_coresets.datasets.synthetic import GaussianMixture, HeavyTails, SSet, UnitVectors
from beam_coresets.points.nearest import nearest

SMALL = [
    GaussianMixture(seed=3, d=4, k=5),
    HeavyTails(seed=3, d=6, k=4),
    UnitVectors(seed=3, d=32, k=5),
    SSet(seed=3),
    PlantedSubspaces(seed=3, d=6, k=3, extent=(3.0, 10.0)),
    Grouped(seed=3, d=4, k=5, groups=3),
]
each = pytest.mark.parametrize("instance", SMALL, ids=lambda i: type(i).__name__)


@each
def test_blocks_depend_on_seed_and_number_only(instance):
    first = instance.block(2, 50)
    instance.block(0, 10)
    again = dataclasses.replace(instance)
    np.testing.assert_array_equal(first, again.block(2, 50))
    np.testing.assert_array_equal(instance.centers, again.centers)
    assert not np.array_equal(first, instance.block(1, 50))
    other = dataclasses.replace(instance, seed=4)
    assert not np.array_equal(first, other.block(2, 50))
    assert not np.array_equal(instance.centers, other.centers)


@each
def test_points_are_the_blocks(instance):
    points = instance.points(25, rows=10)
    assert points.shape == (25, instance.dim)
    assert points.dtype == np.float32
    assert points.flags.c_contiguous
    np.testing.assert_array_equal(points[10:20], instance.block(1, 10))
    assert [len(b) for b in instance.blocks(25, rows=10)] == [10, 10, 5]
    assert instance.points(0).shape == (0, instance.dim)
    assert np.isfinite(points).all()


@each
def test_labels_belong_to_the_block(instance):
    labels = instance.labels(1, 2000)
    points = instance.block(1, 2000).astype(np.float64)
    assert labels.dtype == np.int32
    assert labels.max() < len(instance.centers)
    present = np.unique(labels[labels >= 0])

    def mean_distance(given):
        return np.mean([np.linalg.norm(points[given == j] - instance.centers[j], axis=1).mean() for j in present])

    assert mean_distance(labels) < 0.95 * mean_distance(np.roll(labels, 1))


def test_gaussian_mixture_has_the_declared_shares_spreads_and_outliers():
    """Fixed seed; each bound is 6 standard deviations, so a correct generator fails with probability below 1e-7."""
    g = GaussianMixture(seed=1, d=3, k=4, outliers=0.1)
    n = 40_000
    points, labels = g.block(0, n).astype(np.float64), g.labels(0, n)
    far = labels < 0
    assert abs(far.mean() - 0.1) < 6 * np.sqrt(0.1 * 0.9 / n)
    radius = np.linalg.norm(points[far], axis=1)
    assert radius.min() >= 299.9
    assert radius.max() <= 1000.1
    for j in range(4):
        rows = points[labels == j]
        expected = 0.9 * g.shares[j]
        assert abs(len(rows) / n - expected) < 6 * np.sqrt(expected / n)
        deviation = g.deviations[j]
        assert np.abs(rows.mean(axis=0) - g.centers[j]).max() < 6 * deviation / np.sqrt(len(rows))
        assert np.abs(rows.std(axis=0) / deviation - 1).max() < 6 / np.sqrt(2 * len(rows))


def test_unit_vectors_have_unit_length_and_a_decaying_spectrum():
    u = UnitVectors(seed=2, d=64, k=6)
    points = u.points(3000)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(u.centers, axis=1), 1, atol=1e-12)
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    assert values[0] > 3 * values[32]


def test_heavy_tails_are_heavier_than_normal():
    h = HeavyTails(seed=2, d=5, k=3)
    points, labels = h.block(0, 20_000).astype(np.float64), h.labels(0, 20_000)
    residual = (points - h.centers[labels])[:, 0]
    # A normal sample's kurtosis is 3 with deviation sqrt(24 / n) = 0.03.
    assert (residual**4).mean() / (residual**2).mean() ** 2 > 10


def test_s_set_clusters_are_apart_and_recovered_by_the_nearest_center():
    s = SSet(seed=5)
    gaps = np.linalg.norm(s.centers[:, None] - s.centers[None], axis=2)[np.triu_indices(15, 1)]
    assert gaps.min() >= 4.5 * 30_000
    index, _ = nearest(s.points(5000), s.centers.astype(np.float32))
    assert (index == s.labels(0, 5000)).mean() > 0.9


def test_low_rank_has_the_declared_center_directions_and_spectrum():
    """Fixed seed; each bound is 6 standard deviations or more."""
    x = LowRank(seed=3, d=20, rank=3, extent=8.0, decay=1.0, noise=0.5, offset=7.0)
    n = 20_000
    points = x.points(n, rows=5000).astype(np.float64)
    assert np.array_equal(x.block(1, 5000), LowRank(**dataclasses.asdict(x)).block(1, 5000))
    np.testing.assert_allclose(x.basis @ x.basis.T, np.eye(3), atol=1e-12)
    assert x.deviations.tolist() == [8.0, 4.0, 8 / 3]
    spread = np.sqrt(np.r_[x.deviations**2 + 0.25, np.full(17, 0.25)])
    assert np.abs(points.mean(axis=0) - 7).max() < 6 * spread[0] / np.sqrt(n)
    found, right = np.linalg.svd(points - 7, full_matrices=False)[1:]
    assert np.abs(found / np.sqrt(n) / spread - 1).max() < 6 / np.sqrt(2 * n) + 0.04  # edges of the noise's spectrum
    assert np.linalg.svd(right[:3] @ x.basis.T)[1].min() > 0.999
    assert set(x.labels(0, 9).tolist()) == {0}


@pytest.mark.parametrize("affine", [True, False])
def test_planted_subspaces_have_the_declared_shares_extents_and_noise(affine):
    """Fixed seed; each bound is 6 standard deviations, so a correct generator fails with probability below 1e-7."""
    p = PlantedSubspaces(seed=1, d=7, k=3, r=2, affine=affine, outliers=0.1)
    n = 40_000
    points, labels = p.block(0, n).astype(np.float64), p.labels(0, n)
    far = labels < 0
    assert abs(far.mean() - 0.1) < 6 * np.sqrt(0.1 * 0.9 / n)
    radius = np.linalg.norm(points[far], axis=1)
    assert 99.9 <= radius.min() <= radius.max() <= 300.1
    assert affine or not p.centers.any()
    np.testing.assert_allclose(p.bases @ p.bases.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-12)
    for j in range(3):
        away = points[labels == j] - p.centers[j]
        expected = 0.9 * p.shares[j]
        assert abs(len(away) / n - expected) < 6 * np.sqrt(expected / n)
        along = away @ p.bases[j].T
        extent = along.std(axis=0)
        assert ((extent > 2.8) & (extent < 32)).all()
        off = (away - along @ p.bases[j]) ** 2
        assert abs(off.sum() / (len(away) * 5 * p.deviations[j] ** 2) - 1) < 6 * np.sqrt(2 / (5 * len(away)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 1000), st.integers(0, 40))
def test_any_seed_and_block_number_work(seed, i, rows):
    assert SSet(seed=seed).block(i, rows).shape == (rows, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianMixture(k=0), r"k: must be at least 1, got 0"),
        (lambda: GaussianMixture(d=0), r"d: must be at least 1, got 0"),
        (lambda: GaussianMixture(outliers=1.5), r"outliers: must be a share between 0 and 1, got 1.5"),
        (lambda: GaussianMixture(radius=(5.0, 1.0)), r"radius: must be 0 <= low <= high, got \(5.0, 1.0\)"),
        (lambda: HeavyTails(freedom=0), r"freedom: must be positive, got 0"),
        (lambda: UnitVectors(d=1), r"d: must be at least 2, got 1"),
        (lambda: SSet(k=500), r"k: must be at most \d+ for this gap and side, got 500"),
        (lambda: LowRank(d=3, rank=4), r"rank: must be from 1 to d = 3, got 4"),
        (lambda: LowRank(extent=0.0), r"extent: must be positive, got 0.0"),
        (lambda: PlantedSubspaces(r=10), r"r: must be below d = 10, got 10"),
        (lambda: PlantedSubspaces(r=0), r"r: must be at least 1, got 0"),
        (lambda: PlantedSubspaces(k=0), r"k: must be at least 1, got 0"),
        (lambda: PlantedSubspaces(noise=(0.0, 1.0)), r"noise: must be 0 < low <= high, got \(0.0, 1.0\)"),
        (lambda: SSet().block(-1, 5), r"i: must not be negative, got -1"),
        (lambda: SSet().block(0, -5), r"rows: must not be negative, got -5"),
        (lambda: list(SSet().blocks(5, rows=0)), r"n, rows: must be at least 0 and 1, got 5 and 0"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_groups_go_with_clusters_and_belong_to_the_block():
    instance = Grouped(seed=3, k=5, groups=3, shift=3.0)
    labels, group, points = instance.labels(2, 20_000), instance.group(2, 20_000), instance.block(2, 20_000)
    assert group.min() == 0
    assert group.max() == 2
    shares = np.array([np.bincount(group[labels == j], minlength=3) / (labels == j).sum() for j in range(5)])
    assert np.ptp(shares, axis=0).min() > 0.3, "no group is spread evenly"
    mine = points[labels == 0]
    apart = [mine[group[labels == 0] == g].mean(axis=0) for g in (0, 1)]
    assert np.linalg.norm(apart[0] - apart[1]) > 1.0


def test_a_table_without_groups_is_refused():
    with pytest.raises(ValueError, match=r"^groups: must be at least 1, got 0"):
        Grouped(groups=0)
    with pytest.raises(ValueError, match=r"^tilt: must be positive, got 0"):
        Grouped(tilt=0.0)
