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


@pytest.mark.parametrize(("text", "option"), [
    ("150,4,setosa,versicolor\n" + "5.1,3.5,1.4,0\n4.9,3.0,1.3,1\n" * 9, "--no-header --max-bad-rows 1"),
    ("0,0,5,13\n1,0,2,7\n", "--no-header"),
    ("7.5,7.5\n2.5,3.5\n", "--no-header"),
    ("1,2,3,4,5\n2,3,4,5,6\n", "--no-header"),
    ("1,2,3,4,5,a\n2,3,4,5,6,b\n", "--no-header"),
])  # fmt: skip
def test_a_first_line_that_counts_or_repeats_is_no_header_in_silence(tmp_path, text, option):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=f"no_header: must be given \\({option}\\)"):
        ReadBlocks(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("line", ["name,code,1960,1970,1980,1990,2000", ",,0.5,1.0,1.5,2.0,2.5"])
def test_years_and_steps_beside_text_are_names(tmp_path, line):
    (tmp_path / "a.csv").write_text(f"{line}\n" + "Aruba,ABW,4.8,4.6,4.4,4.2,4.1\nChad,TCD,7.1,7.3,7.2,7.0,6.8\n")
    assert ReadBlocks(str(tmp_path / "a.csv")).layout.coordinates == tuple(line.split(",")[2:])


def test_a_first_line_of_another_width_than_all_rows_is_refused_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("2,2,benign\n1,2,3,4,5\n6,7,8,9,0\n")
    with pytest.raises(ValueError, match=r"header: must name every cell of a row, got 3 for rows of 5.*--no-header"):
        ReadBlocks(str(tmp_path / "a.csv"))
    found = list(ReadBlocks(str(tmp_path / "a.csv"), Columns(header=False)).here())
    assert [len(each.points) for each in found if isinstance(each, PointBlock)] == [2]
    assert [each.position for each in found if isinstance(each, DeadLetter)] == ["row 0"]


def test_without_a_header_the_first_row_tells_the_width_unless_no_other_has_it(tmp_path):
    for text, width in (("1,2\n3\n", 2), ("1,2\n3,4,5\n6,7,8\n9,1\n", 2), ("1\n3,4\n5,6\n", 2)):
        (tmp_path / "a.csv").write_text(text)
        assert len(ReadBlocks(str(tmp_path / "a.csv"), Columns(header=False)).layout.coordinates) == width


def test_row_names_as_r_writes_them_are_no_coordinate(tmp_path):
    (tmp_path / "a.csv").write_text('"x","y"\n"1",2.5,3\n"2",4.5,5\n')
    source = ReadBlocks(str(tmp_path / "a.csv"))
    assert source.layout.coordinates == ("x", "y")
    (block,) = source.here()
    assert block.points.tolist() == [[2.5, 3.0], [4.5, 5.0]]


def test_names_of_rows_as_r_writes_them_are_no_coordinate_either(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\nMazda RX4,2.5,3\nMazda RX4 Wag,2.5,3\nFiat 128,1,3\n")
    assert ReadBlocks(str(tmp_path / "a.csv")).layout.coordinates == ("x", "y")


@pytest.mark.parametrize("first", [("1", "1", "2"), ("a", "b", "a"), ("1.5", "2.5", "3.5"), ("-1", "2", "3")])
def test_a_cell_too_many_in_all_rows_shifts_no_names(tmp_path, first):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{cell},2,extra\n" for cell in first))
    with pytest.raises(ValueError, match=r"header: must name every cell of a row, got 2 for rows of 3"):
        ReadBlocks(str(tmp_path / "a.csv"))


def test_a_delimiter_at_the_end_of_all_rows_is_no_cell(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2,\n3,4,\n")
    (block,) = ReadBlocks(str(tmp_path / "a.csv")).here()
    assert block.points.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_several_columns_without_a_name_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("x,,y,\n1,2,3,\n4,5,6,\n")
    assert ReadBlocks(str(tmp_path / "a.csv")).layout.coordinates == ("x", "y")


def test_lines_of_words_are_told_from_lines_of_cells(tmp_path):
    (tmp_path / "a.csv").write_text("id kind size\na b 1\nc d 2\n")
    with pytest.raises(ValueError, match=r"delimiter: must be given .*--delimiter space, or --input-format text"):
        ReadBlocks(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("value", [{"count": 2, "data": [{"x": 1}, {"x": 2}]}, {"x": [1, 2], "y": [3, 4]}])
def test_an_object_that_holds_the_rows_is_no_row(tmp_path, value):
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"columns: must be given .* rows are objects, one a line or in an array"):
        ReadBlocks(str(tmp_path / "a.json"))


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
