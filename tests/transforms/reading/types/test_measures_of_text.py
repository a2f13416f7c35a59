"""Truth values and times in CSV, text and JSON are coordinates where they are named, as those of Parquet are."""
import json

import numpy as np
import pytest

from beam_coresets import times
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns, SchemaError

DAY = 1709164800.0  # 2024-02-29T00:00:00Z
TIMES = {
    "days": (["2024-02-29", "2024-03-01"], [DAY, DAY + 86400]),
    "in UTC": (["2024-02-29T01:00:00Z", "2024-02-29T00:00:00.25Z"], [DAY + 3600, DAY + 0.25]),
    "without a zone": (["2024-02-29T00:00:07", "2024-02-29T00:00:07.000001"], [DAY + 7, DAY + 7.000001]),
    "with zones": (["2024-02-29T02:00:00+02:00", "2024-02-28T19:30:00-04:30"], [DAY, DAY]),
    "of several forms": (["2024-02-29T00:01Z", "2024-02-29", "2024-02-29T00:00:00.1234567"],
                         [DAY + 60, DAY, DAY + 0.123456]),
}  # fmt: skip


def write(folder, form, cells):
    """Rows x, c."""
    rows = [{"x": i, "c": cell} for i, cell in enumerate(cells)]
    path = folder / f"a.{form.partition(' ')[0]}"
    if form == "json":
        path.write_text(json.dumps(rows))
    elif form.startswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        shown = [{True: "true", False: "False", None: ""}.get(cell, cell) for cell in cells]
        path.write_text("x,c\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(shown)))
    return str(path)


def read(path, **columns):
    found = list(ReadBlocks(path, Columns(**columns)).here())
    (block,) = [each for each in found if isinstance(each, PointBlock)]
    return block, [each for each in found if not isinstance(each, PointBlock)]


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
@pytest.mark.parametrize("name", TIMES)
def test_times(tmp_path, form, name):
    cells, seconds = TIMES[name]
    block, letters = read(write(tmp_path, form, cells), columns=("x", "c"), keep_columns=("c",))
    assert not letters
    np.testing.assert_allclose(block.points[:, 1], seconds, rtol=0, atol=3e-7)
    assert [kept.timestamp() for kept in block.extras.column("c").to_pylist()] == [*map(times.moment, cells)]


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_truth_values(tmp_path, form):
    block, letters = read(write(tmp_path, form, [True, False, True]), columns=("c",))
    assert (block.points[:, 0].tolist(), letters) == ([1, 0, 1], [])


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
@pytest.mark.parametrize(
    "cells", [["2024-02-29", "soon", None, "2024-02-30", "2024-03-01"], [True, "maybe", None, "?", False, True]]
)
def test_cells_that_are_none_are_refused_rows(tmp_path, form, cells):
    block, letters = read(write(tmp_path, form, cells), columns=("c",))
    assert len(block) == len(cells) - 3
    assert [(letter.position, letter.reason) for letter in letters] == [
        ("row 1", "unparsable"), ("row 2", "null"), ("row 3", "unparsable"),
    ]  # fmt: skip
    assert str(cells[1]) in letters[0].row_text


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
@pytest.mark.parametrize("cells", [["2024-02-29", "2024-03-01"], [True, False]])
def test_they_are_none_by_themselves(tmp_path, form, cells):
    made = ReadBlocks(path := write(tmp_path, form, cells))
    assert made.layout.coordinates == ("x",)
    block, _ = read(path, columns=("x",), group_column="c")
    assert block.extras.column("group").to_pylist() == (["true", "False"] if form == "csv" and cells[0] is True else
                                                        ["true", "false"] if cells[0] is True else cells)  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_other_text_is_no_coordinate(tmp_path, form):
    with pytest.raises(SchemaError, match=r"^columns: must hold numbers, got 'c' \(string\)"):
        ReadBlocks(write(tmp_path, form, ["a", "b", "2024-02-29"]), Columns(columns=("x", "c")))
