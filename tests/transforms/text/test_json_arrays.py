"""One JSON array in a file."""
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.transforms.text.json_arrays import elements, is_array

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def read(text, size=1 << 20):
    return [value for some in elements(text[i : i + size] for i in range(0, len(text), size)) for value in some]


@settings(max_examples=100, deadline=None)
@given(values=st.lists(VALUES, max_size=6), size=st.integers(1, 20), indent=st.sampled_from([None, 2]))
def test_the_elements_of_an_array_wherever_it_is_cut(values, size, indent):
    text = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    assert read(text, size) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[{"x": 1}', "element 0 of the array: no comma behind it"),
        (b'[{"x": 1}] 2', "text behind the array"),
        (b"[1 2]", "element 0 of the array: no comma"),
        (b"[1,]", "element 1 of the array"), (b'[{"x": 1}, {"x":', "element 1 of the array"), (b"[", "not closed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_no_whole_array(text, message, size):
    with pytest.raises(ValueError, match=message):
        read(text, size)


def test_an_array_of_objects_is_told_from_lines_that_are_arrays():
    assert is_array(b' [\n {"x": 1}')
    assert is_array(b"[]\n")
    assert not is_array(b"[1, 2]\n[3, 4]\n")
    assert not is_array(b'{"x": [1]}')
