"""Files whose first lines or types look like something that they are not: read right, or refused by name."""
import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns


@pytest.mark.parametrize("line", ["5.1,,1.4", "5.1,NA,1.4", ",3.5,1.4", "5.1,nan,1.4"])
def test_a_first_row_with_a_missing_value_is_no_header(tmp_path, line):
    (tmp_path / "a.csv").write_text(f"{line}\n4.9,3.0,1.4\n4.7,3.2,1.3\n")
    with pytest.raises(ValueError, match="no_header: must be given"):
        ReadBlocks(str(tmp_path / "a.csv"))


def test_an_index_without_a_name_is_no_coordinate(tmp_path):
    (tmp_path / "a.csv").write_text(",a,b\n" + "".join(f"{i},{i % 7}.5,2\n" for i in range(20)))
    source = ReadBlocks(str(tmp_path / "a.csv"))
    assert source.layout.coordinates == ("a", "b")
    assert "the one without a name" in " ".join(source.notes)


@pytest.mark.parametrize("text", ["10,20\n30,40\n", "1, 2, 3\n4, 5, 6\n"])
def test_numbers_with_commas_between_them_are_no_decimals(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(ValueError, match="input_format: must be csv, or decimal given"):
        ReadBlocks(str(tmp_path / "t.txt"))


def test_a_column_that_is_null_at_first_has_numbers_later(tmp_path):
    rows = [{"x": None, "y": 1.0}] * 1000 + [{"x": 2.5, "y": 1.0}] * 50
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = ReadBlocks(str(tmp_path / "a.jsonl"), Columns(columns=("x", "y")))
    found = list(source.here())
    assert sum(len(each.points) for each in found if isinstance(each, PointBlock)) == 50
    assert sum(isinstance(each, DeadLetter) for each in found) == 1000


@pytest.mark.parametrize(("first", "later"), [
    (pa.array([True, False]), pa.array([5, 7])),
    (pa.array([datetime.date(2020, 1, 1)] * 2), pa.array([datetime.datetime(2020, 1, 1, 5, 6)] * 2)),
    (pa.array([1, 2]), pa.array(["007", "8"])),
])  # fmt: skip
def test_kept_values_that_another_file_has_in_another_type_are_not_changed(tmp_path, first, later):
    for name, column in (("a", first), ("b", later)):
        pq.write_table(pa.table({"x": [1.0, 2.0], "kept": column}), tmp_path / f"{name}.parquet")
    source = ReadBlocks(f"{tmp_path}/*.parquet", Columns(columns=("x",), keep_columns=("kept",)))
    with pytest.raises(ValueError, match=r"kept: must be .* like in the first file"):
        list(source.here())
