"""Rows that were refused, by column."""
import pytest

from beam_coresets.shards.refused import RefusedRows


@pytest.mark.parametrize(("columns", "found"), [
    ((), [0, 0, 0]),
    ((("b", 3), ("c", 1)), [0, 3, 1]),
    ((("", 2), ("b", 3)), [0, 3, 0]),
    ((("", 2),), [None, None, None]),  # of whole rows, or of columns that nobody has told
])  # fmt: skip
def test_each_column_has_its_own(columns, found):
    assert RefusedRows(columns, 100).by_column(["a", "b", "c"]) == found


def test_places_of_a_vector_have_what_the_vector_has():
    assert RefusedRows((("v", 4),), 9).by_column(["v[0]", "v[1]"]) == [4, 4]
