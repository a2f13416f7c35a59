"""Cells to numbers."""
import math

import pyarrow as pa
import pytest

from beam_coresets.transforms.text.cells import as_columns, parse_numbers


@pytest.mark.parametrize(
    ("cell", "point", "comma"),
    [
        ("1.5", 1.5, "bad"), (" 2 ", 2, 2), ("+3", 3, 3), ("-4e-1", -0.4, -0.4), (".5", 0.5, "bad"), ("5.", 5, "bad"),
        ("1,5", "bad", 1.5), ("1.234,5", "bad", 1234.5), ("1.234", 1.234, 1234), ("1.23,5", "bad", "bad"),
        ("1_0", "bad", "bad"), ("0x1", "bad", "bad"), ("abc", "bad", "bad"), ("-", "bad", "bad"), (",", "bad", "bad"),
        ("NA", None, None), ("n/a", None, None), (None, None, None), ("  ", None, None), ("-999", None, None),
        ("1e999", math.inf, math.inf), ("-inf", -math.inf, -math.inf), ("?", "bad", "bad"), ("１", "bad", "bad"),
    ],
)  # fmt: skip
def test_cells(cell, point, comma):
    for decimal, expected in ((".", point), (",", comma)):
        values, bad = parse_numbers(pa.array([cell, "7"], pa.string()), decimal, ["-999"])
        assert values.to_pylist()[1] == 7
        found = "bad" if bad is not None and bad[0] else values.to_pylist()[0]
        assert found == expected


def test_the_quick_way_reads_as_the_careful_one():
    cells = ["1", " 2.5 ", "+3", "nan", "inf", "-INF", "1e5", "1e-400", "0.1"]
    quick = as_columns("\n".join(cells).encode(), 1, {0: pa.float64()}, len(cells), ",", '"').column(0)
    careful, bad = parse_numbers(pa.array([*cells, "x"]), ".")
    assert quick.to_pylist()[4:] == careful.to_pylist()[4:-1]
    assert quick.to_pylist()[:3] == careful.to_pylist()[:3]
    assert bad.tolist() == [False] * len(cells) + [True]


def test_columns_that_are_not_taken_are_not_decoded():
    data = b"1,\xff\xfe,a\n2,\xff,b\n"
    found = as_columns(data, 3, {2: pa.string(), 0: pa.float64()}, 2, ",", '"')
    assert found.to_pydict() == {"2": ["a", "b"], "0": [1.0, 2.0]}
    with pytest.raises(ValueError, match="rows: must be 3"):
        as_columns(data, 3, {0: pa.float64()}, 3, ",", '"')
