"""Coordinates are put in order by name: the places are a permutation, and whatever can't be one is refused."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.points.column_order import MOST_NAMES, listed, moved, names_of_each, places_of
from beam_coresets.points.scale import Scale

NAMES = st.lists(st.text(max_size=3), min_size=1, max_size=8, unique=True)


@given(NAMES.flatmap(lambda names: st.tuples(st.just(names), st.permutations(names))))
def test_a_table_in_another_order_is_put_in_order(both):
    wanted, found = both
    table = {name: 10.0 * i for i, name in enumerate(wanted)}
    row = np.array([[table[name] for name in found]])
    places = places_of(found, wanted, "the centers")
    assert moved(row, places).tolist() == [list(table.values())]
    scale = Scale(tuple(row[0]), tuple(row[0] + 1)).moved(places)
    assert scale.origin == tuple(table.values())
    assert scale.divisor == tuple(value + 1 for value in table.values())


@given(NAMES, NAMES)
def test_other_columns_are_refused_by_name(found, wanted):
    if set(found) == set(wanted):
        return
    with pytest.raises(ValueError, match="columns: must have those of the centers") as refused:
        places_of(found, wanted, "the centers")
    assert f"got ({', '.join(found)})" in str(refused.value)


def test_without_names_for_all_coordinates_nothing_is_moved():
    assert places_of(None, ["a", "b"], "") is None
    assert places_of(["a", "b"], None, "") is None
    assert names_of_each(["vector"], 3) is None
    assert names_of_each(None, 3) is None
    assert names_of_each(["a"], 1) == ("a",)


def test_a_message_does_not_list_thousands_of_names():
    names = [f"x{i}" for i in range(20_000)]
    assert listed(names).endswith(f"x{MOST_NAMES - 1}, ... 20,000 in all")
