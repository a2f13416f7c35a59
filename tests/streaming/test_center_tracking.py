"""Centers with an identity: who continues, splits, merges, is born, dies, falls silent; whatever the order."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.streaming.center_tracking import HISTORY, CenterHistory, Identities

A, B, C, D = (0.0, 0.0), (20.0, 0.0), (0.0, 20.0), (40.0, 40.0)


def cloud(end, *modes, rows=200):
    """Points around some places (each a place, or a place and its number of rows), seeded by the window's end."""
    rng, parts = generator("cloud", end), []
    for mode in modes:
        place, count = mode if isinstance(mode[0], tuple) else (mode, rows)
        parts.append(np.array(place) + rng.standard_normal((count, 2)))
    points = np.concatenate(parts).astype(np.float32)
    return points, np.ones(len(points))


def follow(history, end, modes, centers=None):
    points, weights = cloud(end, *modes)
    places = [m[0] if isinstance(m[0], tuple) else m for m in modes] if centers is None else centers
    return history.matched(end, np.array(places), points, weights)


def gone(found):
    return {(e.id, e.merged_into) for e in found.ended}


def test_the_first_window_gives_fresh_ids():
    found, history = follow(CenterHistory("blue"), 10.0, [A, B, C])
    assert len(set(found.ids)) == 3
    assert all(len(i) == 12 and i.isalnum() for i in found.ids)
    assert (found.born, found.split_from, found.ended) == ((10.0,) * 3, (None,) * 3, ())
    other, _ = follow(CenterHistory("red"), 10.0, [A, B, C])
    later, _ = follow(CenterHistory("blue"), 20.0, [A, B, C])
    assert len({*found.ids, *other.ids, *later.ids}) == 9
    assert follow(CenterHistory("blue"), 10.0, [A, B, C])[0] == found
    assert np.array_equal(history.start_from(11.0), [A, B, C])
    assert history.start_from(10.0) is None


@given(st.permutations(range(3)))
def test_ids_go_with_the_centers_in_whatever_order(order):
    first, history = follow(CenterHistory(), 10.0, [A, B, C])
    points, weights = cloud(20.0, A, B, C, D)
    centers = np.array([A, B, C, D])
    straight, _ = history.matched(20.0, centers, points, weights)
    assert straight.ids[:3] == first.ids
    assert straight.born == (10.0, 10.0, 10.0, 20.0)
    new = [*order, 3][::-1]
    shuffled, _ = history.matched(20.0, centers[new], points, weights)
    assert shuffled.ids == tuple(straight.ids[i] for i in new)
    fresh, _ = CenterHistory().matched(10.0, centers[new], points, weights)
    assert fresh.ids == tuple(CenterHistory().matched(10.0, centers, points, weights)[0].ids[i] for i in new)


@pytest.mark.parametrize("step", [0.5, 2.0, 6.0])
def test_drift_keeps_the_id(step):
    first, history = follow(CenterHistory(), 0.0, [A, D])
    for i in range(1, 12):
        found, history = follow(history, float(i), [(i * step, -i * step / 2), D])
        assert found.ids == first.ids
        assert found.ended == ()
    assert len(history.windows) == HISTORY


def test_a_split_names_its_parent_and_the_larger_part_stays():
    first, history = follow(CenterHistory(), 0.0, [A, D])
    halves = [((-1.0, 0.0), 300), ((1.2, 0.0), 150), D]
    found, _ = follow(history, 1.0, halves)
    assert (found.ids[0], found.ids[2]) == first.ids
    assert found.split_from == (None, first.ids[0], None)
    assert found.born == (0.0, 1.0, 0.0)
    assert found.ended == ()


def test_a_merger_names_its_heir():
    first, history = follow(CenterHistory(), 0.0, [((-1.0, 0.0), 300), ((1.5, 0.0), 100), D])
    found, history = follow(history, 1.0, [((0.0, 0.0), 400), D])
    assert found.ids == (first.ids[0], first.ids[2])
    assert gone(found) == {(first.ids[1], first.ids[0])}
    assert (found.ended[0].born, found.ended[0].coordinates) == (0.0, (1.5, 0.0))
    back, _ = follow(history, 2.0, [((-1.0, 0.0), 300), ((1.5, 0.0), 100), D])
    assert back.ids[1] != first.ids[1]  # what has merged does not come back
    assert back.split_from[1] == first.ids[0]


def test_birth_far_away_is_no_split_and_death_no_merger():
    first, history = follow(CenterHistory(), 0.0, [A, B])
    found, history = follow(history, 1.0, [A, B, (D, 900)])
    assert found.ids[:2] == first.ids
    assert found.split_from == (None, None, None)
    then, _ = follow(history, 2.0, [A, B])
    assert then.ids == first.ids
    assert gone(then) == {(found.ids[2], None)}


def test_an_outlier_near_it_does_not_keep_a_cluster_alive():
    first, history = follow(CenterHistory(), 0.0, [A, B])
    found, _ = follow(history, 1.0, [A, (B, 3)], centers=[A])
    assert found.ids == first.ids[:1]
    assert gone(found) == {(first.ids[1], None)}


def test_a_cluster_that_was_silent_keeps_its_id_within_the_history():
    """While it is silent, the solver spends its center on halves of another cluster."""
    first, history = follow(CenterHistory(), 0.0, [A, B, D])
    halves = [(-1.0, 0.0), (1.0, 0.0)]
    for end in (1.0, 2.0):
        found, history = follow(history, end, [*halves, D])
        assert {first.ids[0], first.ids[2]} < set(found.ids)
    back, history = follow(history, 3.0, [((0.0, 0.0), 400), (20.5, 0.0), D])
    assert back.ids[1:] == first.ids[1:]
    assert back.born[1] == 0.0
    assert back.split_from == (None, None, None)
    for end in range(4, 5 + HISTORY):
        _, history = follow(history, float(end), [A, D])
    late, _ = follow(history, 100.0, [A, B, D])
    assert late.ids[1] not in first.ids


def test_a_cluster_that_jumps_where_nothing_else_is_keeps_its_id():
    first, history = follow(CenterHistory(), 0.0, [A, D])
    found, _ = follow(history, 1.0, [(0.0, 15.0), D])
    assert found.ids == first.ids


def test_a_cluster_born_beside_one_that_merges_is_not_that_one():
    first, history = follow(CenterHistory(), 0.0, [((-1.0, 0.0), 300), ((1.0, 0.0), 200)])
    found, _ = follow(history, 1.0, [((0.0, 0.0), 500), (B, 300)])
    assert found.ids[0] == first.ids[0]
    assert gone(found) == {(first.ids[1], first.ids[0])}
    assert found.split_from == (None, None)


def test_less_than_half_in_common_is_no_continuation():
    """The middle one of three in a row dissolves; a new center above takes less than half of each."""
    history = CenterHistory.starting_from(np.array([[0.0, 0], [5, 0], [10, 0]]), "adb")
    points = np.array([[0, 0], [10, 0], [0, 12], [5, 12], [10, 12], [4, 0], [6, 0]], np.float32)
    weights = np.array([100.0, 100, 30, 30, 30, 40, 40])
    found, _ = history.matched(1.0, np.array([[0.0, 0], [10, 0], [5, 20]]), points, weights)
    assert found.ids[:2] == ("a", "b")
    assert found.split_from == (None, None, None)
    assert gone(found) == {("d", None)}


def test_a_revised_window_is_matched_against_the_one_before_it():
    first, history = follow(CenterHistory(), 0.0, [A, B])
    once, history = follow(history, 1.0, [A, B, C])
    newer, history = follow(history, 2.0, [B, C, D])
    points, weights = cloud(1.5, C, A, B)
    again, revised = history.matched(1.0, np.array([C, A, B]) + 0.1, points, weights)
    assert again.ids == (once.ids[2], *first.ids)  # the birth of the first revision is the same center
    assert again.born == (1.0, 0.0, 0.0)
    assert again.split_from == (None, None, None)
    assert again.ended == ()
    assert [g.end for g in revised.windows] == [0.0, 1.0, 2.0]
    assert revised.windows[2].ids == newer.ids
    repeated, _ = revised.matched(1.0, np.array([C, A, B]) + 0.1, points, weights)
    assert repeated == again
    late, _ = follow(revised, 1.5, [A, B, C])
    assert late.ids == (*first.ids, once.ids[2])
    assert np.array_equal(revised.start_from(2.0), np.array([C, A, B]) + 0.1)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_window_without_centers_changes_nothing(rows):
    _, history = follow(CenterHistory(), 0.0, [A, B])
    found, after = history.matched(1.0, np.empty((0, 2)), np.zeros((rows, 2), np.float32), np.zeros(rows))
    assert found == Identities()
    assert after is history


def test_given_centers_keep_their_names():
    found, _ = follow(CenterHistory.starting_from(np.array([B, A])), 5.0, [A, B, C])
    assert found.ids[:2] == ("1", "0")
    assert found.born == (5.0, 5.0, 5.0)
    named, _ = follow(CenterHistory.starting_from(np.array([B, A]), ["x", "y"]), 5.0, [A, B])
    assert named.ids == ("y", "x")


def test_cosine_looks_at_directions():
    points, weights = cloud(0.0, D, (-40.0, 40.0))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    centers = np.array([[1.0, 1.0], [-1.0, 1.0]]) / 2**0.5
    first = CenterHistory.starting_from(centers[::-1] * 7, key="k")
    found, history = first.matched(1.0, centers, points, weights, "cosine")
    assert found.ids == ("1", "0")
    then, _ = history.matched(2.0, centers, points, weights, "cosine")
    assert then.ids == found.ids


@given(st.lists(st.sampled_from([(A, B), (A, B, C), (B, D), (C,), ()]), max_size=6), st.randoms())
def test_it_is_the_same_after_a_round_trip_and_never_names_two_alike(windows, random):
    history, ends = CenterHistory("k"), [float(i) for i in range(len(windows))]
    random.shuffle(ends)
    for end, modes in zip(ends, windows, strict=True):
        if modes:
            copy = CenterHistory.from_bytes(history.to_bytes())
            found, after = follow(history, end, modes)
            assert len(set(found.ids)) == len(modes)
            assert not {e.id for e in found.ended} & set(found.ids)
            again, copy = follow(copy, end, modes)
            assert again == found
            assert copy.to_bytes() == after.to_bytes()
            history = after
    assert CenterHistory.from_bytes(history.to_bytes()).to_bytes() == history.to_bytes()


@pytest.mark.parametrize(
    ("centers", "ids", "message"),
    [
        (np.empty((0, 2)), None, "init_centers: must be finite, .centers, columns., got shape .0, 2."),
        (np.array([[np.nan, 1]]), None, "init_centers: must be finite"),
        (np.array([A, B]), ["x", "x"], "ids: must be 2 different ones, got 1"),
    ],
)
def test_centers_that_cannot_be_given_are_refused(centers, ids, message):
    with pytest.raises(ValueError, match=message):
        CenterHistory.starting_from(centers, ids)
