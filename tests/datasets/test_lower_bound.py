"""The lower-bound instances: what they are made of, the centers of Claim 2.2, and the error that nobody escapes."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.datasets.lower_bound import (
    FAR_SLOPE,
    NEAR_SLOPE,
    OVERLAP,
    HardInstance,
    distance_sq,
    first_instance,
    formula,
    second_instance,
)
from beam_coresets.hashing import generator
from beam_coresets.points.nearest import nearest, power_of_distance
from beam_coresets.sampling.importance import METHODS, Sampler

ONE_COPY = first_instance(256, 4, copies=1)
SEVERAL = first_instance(128, 4, z=1.0, room=1.5, copies=3)
MORE_SETS = second_instance(1296, 0.16, copies=1)  # 1,350 subsets for 648 centers


def measured(instance, rows, weights, centers):
    """Cost of the sample over cost of the points, minus one."""
    points = instance.points
    cost = power_of_distance(nearest(points, centers)[1], instance.z)
    return float(weights @ cost[rows] / cost.sum() - 1)


def some(instance, share, seed=0):
    """Rows and weights that add up to the number of points; very uneven ones."""
    rng, n = generator("lower bound sample", seed), len(instance.points)
    rows = np.sort(rng.choice(n, max(1, round(share * n)), replace=False))
    weights = rng.exponential(size=len(rows))
    return rows, weights * n / weights.sum()


@pytest.mark.parametrize("instance", [ONE_COPY, SEVERAL, MORE_SETS], ids=["one copy", "several", "more sets"])
def test_points_are_as_printed(instance):
    t, points = instance.t, instance.points
    assert len(points) == instance.copies * instance.sets * t**2 // 2
    assert points.shape[1] == instance.dim + 1
    assert (points[:, :-1] ** 2).sum(axis=1) == pytest.approx(t**2 + 3)
    own = points[:, :-1].argmax(axis=1)
    anchors = np.zeros((len(points), instance.dim))
    anchors[np.arange(len(points)), own] = t
    assert ((points[:, :-1] - anchors) ** 2).sum(axis=1) == pytest.approx(1.0)
    assert points[:, :-1].sum(axis=1) == pytest.approx(t)  # what lets (1, .., 1) be equally far from all
    first, second = instance.halves
    both = np.zeros((instance.sets, instance.dim))
    both[np.arange(instance.sets)[:, None], np.hstack([first, second])] = 1
    shared = both @ both.T
    assert (np.diag(shared) == t**2).all()
    assert (shared - np.diag(np.diag(shared))).max() < OVERLAP * t**2


def test_the_numbers_are_the_papers():
    instance = first_instance(1296, 6, room=2)  # k = t^4
    assert (instance.dim, instance.sets, instance.copies) == (2 * 36, 648, 1296 // (2 * 72))
    other = first_instance(4096, 8, z=1.0, room=100, copies=1)  # k = 8 t^3
    assert (other.dim, other.sets) == (100 * 4096 // 8, 2048)
    second = second_instance(1296, 0.05)
    assert (second.t, second.dim, second.sets) == (6, 144, round(1296**0.75 / 0.05))
    again = HardInstance(256, 4, 64, 128)
    assert np.array_equal(again.points, ONE_COPY.points)
    assert not np.array_equal(first_instance(256, 4, copies=1, seed=1).points, ONE_COPY.points)


@pytest.mark.parametrize("instance", [ONE_COPY, SEVERAL, MORE_SETS], ids=["one copy", "several", "more sets"])
@pytest.mark.parametrize("farther", [True, False])
def test_claim_22_each_points_own_center_is_the_nearest_and_so_far(instance, farther):
    rows, _ = some(instance, 0.3)
    centers = instance.centers(rows, farther)
    assert len(centers) <= instance.k // 2 + 1 + (instance.copies - 1) * instance.dim
    found = nearest(instance.points, centers)[1]
    far, near = distance_sq(instance.t, FAR_SLOPE), distance_sq(instance.t, NEAR_SLOPE)
    kinds = np.array([far, near, 1.0])
    which = np.abs(found[:, None] - kinds).argmin(axis=1)
    assert found == pytest.approx(kinds[which], abs=1e-9)
    attacked = which < 2
    assert attacked.sum() == len(found) // instance.copies
    sampled = np.isin(np.arange(len(found)), rows)
    assert (which[attacked & sampled] == 0).all() if farther else (which[attacked & ~sampled] == 0).all()
    assert (which == 1).any()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(0, 10**6))
def test_any_weighted_subset_errs_by_the_formula(share, seed):
    """z = 2, one copy, w(S) = |X|: to ten digits, whatever the rows and however uneven the weights."""
    rows, weights = some(ONE_COPY, share, seed)
    found = measured(ONE_COPY, rows, weights, ONE_COPY.centers(rows))
    assert found == pytest.approx(formula(4, len(rows) / len(ONE_COPY.points)), abs=1e-10)
    assert found == pytest.approx(ONE_COPY.exact_error(rows, weights), abs=1e-10)


@pytest.mark.parametrize("instance", [SEVERAL, MORE_SETS], ids=["several", "more sets"])
@pytest.mark.parametrize("farther", [True, False])
def test_the_exact_error_holds_for_other_powers_and_copies(instance, farther):
    for seed, share in enumerate((0.05, 0.2, 0.6)):
        rows, weights = some(instance, share, seed)
        weights = weights * (0.9 + 0.1 * seed)
        found = measured(instance, rows, weights, instance.centers(rows, farther))
        assert found == pytest.approx(instance.exact_error(rows, weights, farther), abs=1e-9)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "subspace"])
@pytest.mark.parametrize("instance", [ONE_COPY, SEVERAL, MORE_SETS], ids=["one copy", "several", "more sets"])
def test_no_method_goes_below_the_theorems_curve(instance, method):
    points = instance.points
    strata = np.zeros(len(points), np.int32)
    for share in (0.03, 0.1, 0.15):
        size = int(share * len(points))
        sampler = Sampler(min(instance.k, size), size, instance.z, method)
        rows, _, weights = sampler.finish(points, np.ones(len(points)), strata, generator("method", share))
        sets = [instance.centers(rows, farther) for farther in (True, False)]
        sets += [instance.centers_far_away(copy, instance.scale) for copy in range(instance.copies)]
        worst = max(abs(measured(instance, rows, weights, c)) for c in sets)
        assert worst > instance.proved_error(len(rows)) > 0
        if instance is ONE_COPY:
            found = measured(instance, rows, weights, sets[0])
            assert found == pytest.approx(formula(4, len(rows) / len(points)), abs=5e-5)


def test_fixed_centers_show_nothing():
    """The same sample that errs by a few percent for its own centers is right for those of another sample."""
    mine, weights = some(ONE_COPY, 0.3, 1)
    weights = np.full(len(mine), len(ONE_COPY.points) / len(mine))
    other, _ = some(ONE_COPY, 0.3, 2)
    assert measured(ONE_COPY, mine, weights, ONE_COPY.centers(mine)) > 0.06
    assert abs(measured(ONE_COPY, mine, weights, ONE_COPY.centers(other))) < 0.01


def test_claim_21_a_wrong_weight_of_a_copy_shows():
    rows, weights = some(SEVERAL, 0.3)
    copy = rows // (len(SEVERAL.points) // 3)
    for i in range(3):
        wrong = weights[copy == i].sum() / (len(SEVERAL.points) / 3) - 1
        found = measured(SEVERAL, rows, weights, SEVERAL.centers_far_away(i, 0.01))
        assert found == pytest.approx(wrong, abs=1e-3)


def test_the_curve_falls_as_the_theorem_says():
    n = len(ONE_COPY.points)
    assert ONE_COPY.proved_error(n // 80) / ONE_COPY.proved_error(n // 10) == pytest.approx(8**0.25, rel=0.02)
    assert ONE_COPY.proved_error(n // 5) == pytest.approx(0.01 / 4, rel=0.01)
    assert ONE_COPY.proved_error(n // 4) == 0
    n = len(MORE_SETS.points)
    assert MORE_SETS.proved_error(n // 80) / MORE_SETS.proved_error(n // 10) == pytest.approx(8, rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: first_instance(255, 4), r"k: must be even and at least t\^\(z \+ 2\) = 256, got 255"),
        (lambda: first_instance(1000, 3), "t: must be even and at least 2, got 3"),
        (lambda: HardInstance(256, 4, 15, 128), r"dim: must be at least t\^2 = 16, got 15"),
        (lambda: HardInstance(256, 4, 64, 100), "k, copies, sets: must be at least 2, 1 and k / 2, got 256, 1 and 100"),
        (lambda: HardInstance(256, 4, 64, 128, z=0.5), "z: must be at least 1, got 0.5"),
        (lambda: HardInstance(256, 4, 17, 128).points, "sets: must be so few that they share less than 11.2, got 128"),
        (lambda: second_instance(1296, 0.5), "epsilon: must be from 0.00463 to 0.167, got 0.5"),
        (lambda: second_instance(256, 0.2), "t: must be at least 6 for more subsets than k / 2 = 128, got 4"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
