"""What there is to say of how clusters keep to their bounds."""
import math

import numpy as np
import pytest

from beam_coresets.solvers.constrained.constraints import Constraint, Fair
from beam_coresets.solvers.constrained.kept import kept_bounds

LABELS = ("blue", "red")


def kept(constraint, table, labels=LABELS):
    """(cluster, side) -> the bound, each name once."""
    table = np.asarray(table, np.float64)
    bounds = constraint.bounds(labels, table.sum(axis=1), table.shape[1])
    return kept_bounds(bounds, table)


def by_place(found):
    return {(each.cluster, each.side): (each.name, each.bound, each.held, each.room, each.state) for each in found}


def test_sizes_have_two_sides_with_the_room_on_each():
    found = kept(Constraint(min_size=40.0, max_size=(50.0, 90.0, 45.0)), [[40.0, 70, 30]], ("",))
    name = "min_size and max_size"
    assert by_place(found) == {
        (0, "at least"): (name, 40, 40, 0, "binding"), (0, "at most"): (name, 50, 40, 10, "free"),
        (1, "at least"): (name, 40, 70, 30, "free"), (1, "at most"): (name, 90, 70, 20, "free"),
        (2, "at least"): (name, 40, 30, -10, "violated"), (2, "at most"): (name, 45, 30, 15, "free"),
    }  # fmt: skip
    assert not any(each.share for each in found)
    assert [each.state for each in found] == ["violated", "binding", "free", "free", "free", "free"]
    assert [each.room for each in found][2:] == [10, 20, 15, 30], "the least room over what there is comes first"


def test_an_exact_weight_is_one_bound():
    found = by_place(kept(Constraint(gamma=(60.0, 40.0)), [[60.0, 40.0]], ("",)))
    assert found == {(i, "exactly"): ("gamma", w, w, 0, "binding") for i, w in ((0, 60), (1, 40))}


def test_shares_are_of_the_cluster_and_one_without_weight_is_empty():
    constraint = Constraint(fair=(Fair("red", 0.25, 0.5),))
    found = kept(constraint, [[75.0, 40, 0], [25, 60, 0]])
    assert {each.share for each in found} == {True}
    places = by_place(found)
    assert places[0, "at least"] == ("fair red", 0.25, 0.25, 0, "binding")
    assert places[0, "at most"] == ("fair red", 0.5, 0.25, 0.25, "free")
    assert places[1, "at most"] == ("fair red", 0.5, 0.6, pytest.approx(-0.1), "violated")
    name, bound, held, room, state = places[2, "at most"]
    assert (name, bound, state) == ("fair red", 0.5, "empty")
    assert math.isnan(held)
    assert math.isnan(room)


@pytest.mark.parametrize(("reading", "table", "side"), [
    ("most", [[50.0, 30], [50, 10], [0, 20]], "at most"), ("least", [[50.0, 30], [50, 30], [50, 30]], "at least"),
])  # fmt: skip
def test_diversity_is_of_each_label(reading, table, side):
    labels = ("a", "b", "c")
    l = 2 if reading == "most" else 3  # noqa: E741 (what the paper calls it)
    found = kept(Constraint(diversity=l, diversity_reading=reading), table, labels)
    assert {(each.cluster, each.name) for each in found} == {(i, f"diversity of {x}") for i in (0, 1) for x in labels}
    assert {(each.side, each.bound) for each in found} == {(side, 1 / l)}
    of = {(each.cluster, each.name[-1]): (each.held, each.state) for each in found}
    if reading == "most":
        assert of == {(0, "a"): (0.5, "binding"), (0, "b"): (0.5, "binding"), (0, "c"): (0.0, "free"),
                      (1, "a"): (0.5, "binding"), (1, "b"): (pytest.approx(1 / 6), "free"),
                      (1, "c"): (pytest.approx(1 / 3), "free")}  # fmt: skip
    else:
        assert {state for _, state in of.values()} == {"binding"}


def test_rounding_does_not_violate_and_is_binding():
    off = 1e-9 * 200
    found = kept(Constraint(max_size=100.0), [[100.0 + off, 100.0 - off]], ("",))
    assert [each.state for each in found] == ["binding", "binding"]
    assert kept(Constraint(max_size=99.99), [[100.0, 100.0]], ("",))[0].state == "violated"


def test_a_group_may_be_named_like_a_bound():
    found = kept(Constraint(fair=(Fair("red at most 0.5", 0.0, 0.5),)), [[50.0], [50.0]], ("blue", "red at most 0.5"))
    assert [each.name for each in found] == ["fair red at most 0.5"]


def test_no_weight_at_all_meets_what_asks_for_none():
    assert [each.state for each in kept(Constraint(max_size=5.0), [[0.0, 0.0]], ("",))] == ["free", "free"]
