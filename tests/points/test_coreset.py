"""The coreset value object: union, keeping, scaling, cost."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import random_block

from beam_coresets.points.block import Span
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import cost

CENTERS = np.array([[0.0, 0.0], [10.0, 10.0]], np.float32)


def coreset(rows, ordinal=0, **options):
    return Coreset.of(random_block(rows, Span(0, ordinal), **options))


@given(st.lists(st.integers(0, 20), max_size=4), st.booleans(), st.booleans())
def test_union_stacks_and_cost_adds(sizes, groups, extras):
    parts = [coreset(n, i, groups=groups, extras=extras) for i, n in enumerate(sizes)]
    union = Coreset.union(parts)
    assert len(union) == sum(sizes)
    assert union.ids.tolist() == [i for p in parts for i in p.ids.tolist()]
    assert union.cost(CENTERS) == pytest.approx(sum(p.cost(CENTERS) for p in parts)) if sizes else union.dim == 0
    if union.groups is not None:
        assert np.array_equal(union.groups, np.concatenate([p.groups for p in parts if len(p)] or [np.empty(0)]))


def test_empty_parts_have_no_say_in_a_union():
    full, bare = coreset(5, groups=True, extras=True), coreset(0, dim=7)
    assert Coreset.union([bare, full, Coreset.empty()]) is full
    assert Coreset.union([bare, Coreset.empty()]).dim == 7
    assert len(Coreset.union([])) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 3}, r"points: must all have the same number of columns, got \[2, 3\]"),
        ({"groups": True}, "groups: must be on all points or on none, got 1 of 2 parts"),
        ({"extras": True}, "extras: must be on all blocks or on none, got 1 of 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Coreset.union([coreset(3), coreset(3, 1, **options)])


def test_precision_is_never_lost_in_a_union():
    union = Coreset.union([coreset(3), coreset(3, 1, dtype=np.float64)])
    assert union.points.dtype == np.float64
    assert np.array_equal(union.points[:3], coreset(3).points)


def test_kept_rows_bring_everything_along():
    whole = coreset(10, groups=True, extras=True)
    rows = np.array([7, 2])
    kept = whole.keep(rows, np.array([3.0, 4.0]), np.array([5.0, 6.0]))
    assert (kept.weights_ht.tolist(), kept.weights.tolist()) == ([3.0, 4.0], [5.0, 6.0])
    assert kept.groups.tolist() == whole.groups[rows].tolist()
    assert kept.extras.column("id").to_pylist() == [f"row {whole.ids[i]}" for i in rows]
    assert whole.keep(rows, np.ones(2)).weights.tolist() == [1.0, 1.0]


def test_scaling_scales_both_weights_and_drops_zero_factors():
    whole = coreset(4).keep(np.arange(4), np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1]))
    scaled = whole.scaled(np.array([2.0, 0, 1, 0.5]))
    assert scaled.weights_ht.tolist() == [2.0, 3.0, 2.0]
    assert scaled.weights.tolist() == [8.0, 2.0, 0.5]
    assert whole.scaled(3.0).weights.tolist() == [12.0, 9.0, 6.0, 3.0]


def test_cost_uses_the_weights_asked_for():
    whole = coreset(20)
    whole = whole.keep(np.arange(20), np.full(20, 2.0), np.full(20, 3.0))
    for z in (1.0, 2.0, 2.5):
        one = cost(whole.points, np.ones(20), CENTERS, z)
        assert whole.cost(CENTERS, z) == pytest.approx(3 * one)
        assert whole.cost(CENTERS, z, unbiased=True) == pytest.approx(2 * one)
    assert Coreset.empty(2).cost(CENTERS) == 0.0


@given(st.integers(0, 10), st.booleans(), st.booleans(), st.booleans())
def test_arrays_round_trip(rows, groups, extras, calibrated):
    whole = coreset(rows, groups=groups, extras=extras)
    if calibrated:
        whole = whole.keep(np.arange(rows), whole.weights_ht, whole.weights_ht * 2)
    back = Coreset.from_arrays(whole.arrays("x_"), "x_")
    for name in ("points", "weights", "weights_ht", "ids"):
        assert np.array_equal(getattr(back, name), getattr(whole, name))
    assert (back.weights is back.weights_ht) == (not calibrated)
    assert (back.groups is None) == (not groups)
    assert (back.extras is None) == (not extras)


def test_points_at_one_place_are_one_with_their_weights_together():
    places = np.array([[1.0, 2], [0, 0], [1, 2], [3, 3], [0, 0]])
    whole = Coreset(places, np.arange(5.0), np.arange(5.0) * 2, np.arange(5, dtype=np.uint64))
    apart, first = whole.at_distinct_places()
    assert first.tolist() == [0, 1, 3]
    assert apart.points.tolist() == [[1, 2], [0, 0], [3, 3]]
    assert apart.ids.tolist() == [0, 1, 3]
    assert (apart.weights.tolist(), apart.weights_ht.tolist()) == ([2, 5, 3], [4, 10, 6])
    assert apart.at_distinct_places()[0] is apart
