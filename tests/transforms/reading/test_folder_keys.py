"""Keys of folders (day=1/part.parquet) are columns where they are asked for, whatever the files' format."""
import json

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns, SchemaError
from beam_coresets.transforms.reading.folder_keys import keys_of
from beam_coresets.transforms.streams.folder.files import FileParts
from beam_coresets.transforms.streams.folder.source import Folder

FORMATS = ("parquet", "csv", "jsonl", "avro", "npy", "txt")
ROWS = 5


def write(path, first, **more):
    """Columns f0 and f1 (and others, where the format has names) as a file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"f0": [first + i / 8 for i in range(ROWS)], "f1": [i / 4 for i in range(ROWS)]} | more
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    ending = path.suffix[1:]
    if ending == "parquet":
        pq.write_table(pa.table(columns), path)
    elif ending == "avro":
        fields = [{"name": name, "type": "double" if name[0] == "f" else "long"} for name in columns]
        with path.open("wb") as file:
            fastavro.writer(file, {"type": "record", "name": "row", "fields": fields}, rows)
    elif ending == "npy":
        np.save(path, np.array(list(columns.values())).T)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        between = "," if ending == "csv" else " "
        head = [between.join(columns)] if ending == "csv" else []
        lines = [*head, *(between.join(map(str, row.values())) for row in rows)]
        path.write_text("".join(line + "\n" for line in lines))


def read(folder, **columns):
    """All points and extras, and the letters."""
    found = list(ReadBlocks(str(folder), Columns(**columns)).here())
    blocks = [each for each in found if isinstance(each, PointBlock) and len(each)]
    extras = pa.concat_tables([b.extras for b in blocks]).to_pydict() if blocks and blocks[0].extras else {}
    points = np.concatenate([b.points for b in blocks]) if blocks else np.empty((0, 0))
    return points, extras, [each for each in found if not isinstance(each, PointBlock)]


@pytest.mark.parametrize("ending", FORMATS)
def test_keys_in_each_role(tmp_path, ending):
    for day in (1, 12):
        write(tmp_path / f"day={day}" / "city=New%20York%2F%3D" / f"part.{ending}", day)
    points, extras, letters = read(
        tmp_path, columns=("f0", "day", "f1"), group_column="city", keep_columns=("day",), weight_column="day"
    )
    assert not letters
    assert sorted(set(map(tuple, points[:, 1:2].tolist()))) == [(1.0,), (12.0,)]
    np.testing.assert_array_equal(np.floor(points[:, 0]), points[:, 1])
    assert set(extras["group"]) == {"New York/="}
    assert extras["day"] == points[:, 1].tolist()
    assert len(points) == 2 * ROWS


@pytest.mark.parametrize("ending", FORMATS)
def test_keys_are_no_coordinates_by_themselves(tmp_path, ending):
    write(tmp_path / "day=1" / f"part.{ending}", 1)
    made = ReadBlocks(str(tmp_path))
    assert made.layout.coordinates == ("f0", "f1")
    assert "day (a key of the folders)" in made.notes[-1]


@pytest.mark.parametrize(
    ("said", "kept"),
    [(("1", "-20"), [1, -20]), (("01", "2"), ["01", "2"]), (("1", "x"), ["1", "x"]), (("1", "1.0"), ["1", "1.0"]),
     (("__HIVE_DEFAULT_PARTITION__", "3"), [None, 3]), (("", "3"), [None, 3])],
)  # fmt: skip
def test_kept_keys_are_whole_numbers_or_what_the_folders_say(tmp_path, said, kept):
    for value in said:
        write(tmp_path / f"k={value}" / "p.csv", 0)
    _, extras, _ = read(tmp_path, columns=("f0", "f1"), keep_columns=("k",))
    assert sorted(set(extras["k"]), key=str) == sorted(kept, key=str)
    assert {type(value) for value in extras["k"]} == {type(value) for value in kept}


def test_ids_and_coordinates_that_are_missing_or_no_numbers_are_refused_rows(tmp_path):
    for value in ("7", "__HIVE_DEFAULT_PARTITION__", "x", "2024-01-02"):
        write(tmp_path / f"k={value}" / "p.parquet", 0)
    points, _, letters = read(tmp_path, columns=("f0", "k"))
    assert sorted(set(points[:, 1])) == [7.0, 1704153600.0]
    assert sorted({(letter.column_name, letter.reason) for letter in letters}) == [("k", "null"), ("k", "unparsable")]
    _, extras, letters = read(tmp_path, columns=("f0",), id_column="k")
    assert set(extras["id"]) == {"7", "x", "2024-01-02"}
    assert [(letter.column_name, letter.reason) for letter in letters] == [("k", "null")] * ROWS


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "avro"])
def test_a_column_of_the_files_says_the_same_as_the_folders(tmp_path, ending):
    for day in (1, 2):
        write(tmp_path / f"day=0{day}" / f"part.{ending}", day, day=[day] * ROWS)
    assert read(tmp_path)[0].shape == (2 * ROWS, 2)  # and is no coordinate by itself
    assert set(read(tmp_path, columns=("f0", "day"))[0][:, 1]) == {1.0, 2.0}
    write(tmp_path / "day=02" / f"part.{ending}", 2, day=[2] * (ROWS - 1) + [3])
    assert read(tmp_path)[0].shape == (2 * ROWS, 2)
    said = r"day: must be what the folder says \('02'\).*got 3(\.0)? in row 4 of .*day=02"
    with pytest.raises(SchemaError, match=said):
        read(tmp_path, columns=("f0", "day"))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "avro"])
def test_a_folder_around_the_input_says_nothing_of_the_files_own_column(tmp_path, ending):
    around = tmp_path / "f1=3" / "f1=4"
    for day in (1, 2):
        write(around / f"day={day}" / f"part.{ending}", day, day=[day] * ROWS)
    made = ReadBlocks(str(around))
    assert made.layout.coordinates == ("f0", "f1")  # and not day, which differs
    for columns in ({}, {"columns": ("f0", "f1")}, {"columns": ("f0", "f1"), "keep_columns": ("day",)}):
        assert sorted(set(read(around, **columns)[0][:, 1])) == [i / 4 for i in range(ROWS)]
    (only,) = (around / "day=1").iterdir()
    assert ReadBlocks(str(only)).layout.coordinates == ("f0", "f1", "day")
    folder = Folder(f"{around}/*/*", Columns(), settle=0)
    assert folder.names == folder.layout(str(only)).coordinates == ("f0", "f1")
    assert folder.layout(str(only)).own == ("f1",)


def test_every_file_has_the_keys(tmp_path):
    write(tmp_path / "day=1" / "a.parquet", 1)
    write(tmp_path / "z" / "b.parquet", 1)
    with pytest.raises(SchemaError, match=r"columns: must be keys of every file's folders.*b.parquet' without 'day'"):
        read(tmp_path, keep_columns=("day",))
    assert len(read(tmp_path)[0]) == 2 * ROWS
    with pytest.raises(SchemaError, match="id_column: must be among the columns"):
        read(tmp_path, id_column="month")
    with pytest.raises(SchemaError, match="columns: must name a column of the files"):
        read(tmp_path, columns=("day",))
    with pytest.raises(SchemaError, match="key 'a' once among its folders"):
        keys_of("x/a=1/b=2/a=1/f.csv", ("a",))
    assert keys_of("x/a=1/b=2/a=3/f=4.csv", ("b",)) == {"a": "3", "b": "2"}


@pytest.mark.parametrize("source", [FileParts, Folder])
def test_streams_of_files_have_them_too(tmp_path, source):
    for day in (1, 2):
        write(tmp_path / f"day={day}" / "part.csv", day)
    more = {} if source is FileParts else {"settle": 0}
    made = source(f"{tmp_path}/*/*.csv", Columns(columns=("f0", "day"), group_column="day", keep_columns=()), **more)
    reader = made.reader(0, 1)
    reader.seek(made.starts())
    chunks = []
    while found := reader.read(0):
        chunks += found
    for chunk in chunks:
        days = chunk.extras.column("group").to_pylist()
        assert list(map(float, days)) == chunk.points[:, 1].tolist() == np.floor(chunk.points[:, 0]).tolist()
    assert sum(len(chunk.points) for chunk in chunks) == 2 * ROWS


def test_kept_keys_are_text_in_streams_whatever_the_first_folders_say(tmp_path):
    write(tmp_path / "day=1" / "part.csv", 1)
    columns = Columns(columns=("f0", "f1"), keep_columns=("day",))
    made = Folder(f"{tmp_path}/*/*.csv", columns, settle=0, poll_seconds=0, parts=1)
    write(tmp_path / "day=x1" / "part.csv", 2)
    write(tmp_path / "day=__HIVE_DEFAULT_PARTITION__" / "part.csv", 3)
    reader = made.reader(0, 1)
    reader.seek(made.starts())
    days = []
    while found := reader.read(0):
        assert not any(chunk.letters for chunk in found)
        days += [day for chunk in found for day in chunk.extras.column("day").to_pylist()]
    assert sorted(days, key=str) == ["1"] * ROWS + [None] * ROWS + ["x1"] * ROWS
