"""Every file format: what is written comes back, and a bad row, column or file gets what it should."""
import bz2
import gzip
import json

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns

N, D = 3000, 3
NAMES = ("x", "y", "z")


def read(path, columns=None, **options):
    """(points, ids, blocks, dead letters) of a glob, read without a pipeline."""
    found = list(ReadBlocks(str(path), columns, **options).here())
    blocks = [f for f in found if isinstance(f, PointBlock)]
    letters = [f for f in found if isinstance(f, DeadLetter)]
    return np.concatenate([b.points for b in blocks]), np.concatenate([b.ids for b in blocks]), blocks, letters


def write_avro(path, records, kinds):
    schema = {"type": "record", "name": "Row", "fields": [{"name": n, "type": t} for n, t in kinds.items()]}
    with open(path, "wb") as file:
        fastavro.writer(file, schema, records)


def write(path, rows, names=NAMES):
    """The array (n, d) as a file of the kind that the name says."""
    table = pa.table({name: rows[:, j] for j, name in enumerate(names)})
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(table, path)
    elif name.endswith(".npy"):
        np.save(path, rows)
    elif name.endswith(".avro"):
        write_avro(path, table.to_pylist(), dict.fromkeys(names, "float" if rows.dtype == np.float32 else "double"))
    else:
        path.write_bytes(pack(name, text(name, rows, names)))


def text(name, rows, names=NAMES):
    if ".csv" in name or ".tsv" in name:
        comma = "," if ".csv" in name else "\t"
        lines = [comma.join(names), *(comma.join(map(repr, map(float, row))) for row in rows)]
    elif ".jsonl" in name:
        lines = [json.dumps(dict(zip(names, map(float, row), strict=True))) for row in rows]
    else:
        lines = ["  " + " \t ".join(map(repr, map(float, row))) for row in rows]
    return "\n".join(lines) + "\n"


def pack(name, content):
    return {"gz": gzip.compress, "bz2": bz2.compress}.get(name.split(".")[-1], bytes)(content.encode())


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


KINDS = ["a.parquet", "a.npy", "a.avro", "a.csv", "a.tsv", "a.jsonl", "a.txt", "a.csv.gz", "a.jsonl.gz", "a.txt.bz2"]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_comes_back(tmp_path, rows, name):
    write(tmp_path / name, rows)
    points, ids, blocks, letters = read(tmp_path / name)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, rows)
    np.testing.assert_array_equal(ids & np.uint64(2**32 - 1), np.arange(N))
    assert not letters
    assert blocks[-1].span.last
    assert all(b.weights.tolist() == [1.0] * len(b) for b in blocks)


@pytest.mark.parametrize("name", KINDS)
def test_float64_that_float32_would_blur_stays_exact(tmp_path, name):
    seconds = 1.7e9 + np.arange(50.0)[:, None] * [1.0, 60.0, 0.125]
    write(tmp_path / name, seconds)
    points, *_ = read(tmp_path / name)
    assert points.dtype == np.float64
    np.testing.assert_array_equal(points, seconds)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16])
def test_integers_and_halves_become_float32(tmp_path, kind):
    rows = np.arange(24).reshape(8, 3).astype(kind)
    for name in ("a.npy", "a.parquet"):
        write(tmp_path / name, rows)
        points, *_ = read(tmp_path / name)
        assert points.dtype == np.float32
        np.testing.assert_array_equal(points, rows)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_in_either_order_and_byte_order(tmp_path, rows, order):
    np.save(tmp_path / "a.npy", np.asarray(rows, ">f4", order=order))
    np.testing.assert_array_equal(read(tmp_path / "a.npy")[0], rows)


class ElsewhereFileSystem(LocalFileSystem):
    """elsewhere:///tmp/x is /tmp/x, but nothing that is local may be assumed of it."""

    @classmethod
    def scheme(cls):
        return "elsewhere"

    def match(self, patterns, limits=None):
        results = super().match([p.removeprefix("elsewhere://") for p in patterns], limits)
        for result in results:
            files = result.metadata_list
            result.metadata_list = [FileMetadata("elsewhere://" + f.path, f.size_in_bytes) for f in files]
        return results

    def open(self, path, *args, **options):
        return super().open(path.removeprefix("elsewhere://"), *args, **options)


@pytest.mark.parametrize("name", [*KINDS, "fortran.npy"])
def test_files_on_another_filesystem(tmp_path, rows, name):
    write(tmp_path / name, np.asfortranarray(rows) if "fortran" in name else rows)
    here = read(tmp_path / name, part_bytes=5000)
    there = read(f"elsewhere://{tmp_path}/{name}", part_bytes=5000)
    np.testing.assert_array_equal(there[0], rows)
    assert [b.to_bytes() for b in there[2]] == [b.to_bytes() for b in here[2]]


def reasons(letters):
    return [(letter.position, letter.column_name, letter.reason) for letter in letters]


def test_null_nan_and_infinity_are_told_apart_in_parquet(tmp_path):
    x = pa.array([1.0, None, float("nan"), 4.0, float("inf"), None], pa.float32())
    y = pa.array([1, 2, 3, None, 5, None], pa.int32())
    pq.write_table(pa.table({"x": x, "y": y}), tmp_path / "a.parquet")
    points, ids, _, letters = read(tmp_path / "a.parquet")
    assert points.tolist() == [[1.0, 1.0]]
    assert (ids & np.uint64(0xFFFFFFFF)).tolist() == [0]
    assert reasons(letters) == [
        ("row 1", "x", "null"), ("row 2", "x", "nan"), ("row 3", "y", "null"), ("row 4", "x", "infinite"),
        ("row 5", "x", "null"),
    ]  # fmt: skip
    assert letters[0].source == str(tmp_path / "a.parquet")
    assert letters[2].row_text == "{'x': 4.0, 'y': None}"


CELLS = "x,y\n1,2\nabc,3\n,4\nnan,5\n 6 ,7\n1,2,3\nNA,8\n9\n1e999,1\n\n10,11\n"
CELL_REASONS = [
    ("row 1", "x", "unparsable"), ("row 2", "x", "null"), ("row 3", "x", "nan"),
    ("row 5", "", "columns: must be 2, got 3"), ("row 6", "x", "null"), ("row 7", "", "columns: must be 2, got 1"),
    ("row 8", "x", "infinite"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_bad_csv_cell_or_line_costs_one_row(tmp_path, name):
    (tmp_path / name).write_bytes(pack(name, CELLS))
    points, ids, _, letters = read(tmp_path / name)
    assert points.tolist() == [[1, 2], [6, 7], [10, 11]]
    assert (ids & np.uint64(0xFFFFFFFF)).tolist() == [0, 4, 9]
    assert sorted(reasons(letters)) == CELL_REASONS
    assert {letter.row_text for letter in letters} >= {"1,2,3", "{'x': 'abc', 'y': '3'}"}


@pytest.mark.parametrize("role", ["columns", "weight_column"])
def test_a_number_of_a_csv_file_may_be_kept_as_well(tmp_path, role):
    (tmp_path / "a.csv").write_text("x,y\n1.5,2\n3,4\n")
    named = {"columns": ("x",), "weight_column": "y"}
    kept = "x" if role == "columns" else "y"
    _, _, (block,), letters = read(tmp_path / "a.csv", Columns(**named, keep_columns=(kept,)))
    assert letters == []
    assert block.extras.column(kept).to_pylist() == ([1.5, 3.0] if kept == "x" else [2.0, 4.0])


def test_malformed_csv_rows_keep_their_numbers_across_blocks(tmp_path):
    """Row numbers stay right when the reader cuts the file: 5 MB is more than one of its blocks."""
    lines = [f"{i},{'1' * 40}" for i in range(120_000)]
    for bad in (3, 60_000, 60_001, 119_990):
        lines[bad] += ",too many"
    (tmp_path / "a.csv").write_text("i,pad\n" + "\n".join(lines) + "\n")
    points, ids, _, letters = read(tmp_path / "a.csv", Columns(columns=("i",)))
    np.testing.assert_array_equal(points[:, 0], ids & np.uint64(0xFFFFFFFF))
    assert [letter.position for letter in letters] == ["row 3", "row 60000", "row 60001", "row 119990"]


def test_csv_without_header_and_with_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('1,2,"a, ""b""\nc"\n3,4,d\n')
    points, _, blocks, _ = read(tmp_path / "a.csv", Columns(columns=("f0", "f1"), keep_columns=("f2",), header=False))
    assert points.tolist() == [[1, 2], [3, 4]]
    assert blocks[0].extras.to_pydict() == {"f2": ['a, "b"\nc', "d"]}


def test_text_lines_of_another_width_or_with_words(tmp_path):
    (tmp_path / "a.txt").write_text("1 2\n\n 3\t4 \n5 6 7\n8 b\n9,5 1\n10 11")
    points, ids, _, letters = read(tmp_path / "a.txt")
    assert points.tolist() == [[1, 2], [3, 4], [10, 11]]
    assert (ids & np.uint64(0xFFFFFFFF)).tolist() == [0, 1, 5]
    assert reasons(letters) == [
        ("row 2", "", "columns: must be 2, got 3"), ("row 3", "f1", "unparsable"), ("row 4", "f0", "unparsable")
    ]  # fmt: skip


def test_bad_json_lines_cost_themselves(tmp_path):
    lines = [json.dumps({"x": i, "y": -i, "extra": [i]}) for i in range(20_000)]
    lines[7] = '{"x": 1, "y":'
    lines[8] = '{"x": "a", "y": 1}'
    lines[9] = '{"y": 1}'
    lines[10] = '{"x": 1, "y": NaN}'
    lines[11] = "[1, 2]"
    lines[12] = '{"x": true, "y": 1}'
    lines[13] = "   "
    lines[14] = '{"x": 1, "y": 2} {"x": 3, "y": 4}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    points, ids, _, letters = read(tmp_path / "a.jsonl", Columns(columns=("x", "y")))
    good = [*range(7), *range(15, 20_000)]
    np.testing.assert_array_equal(points, np.array([[i, -i] for i in good], np.float32))
    blank_before = np.array(good) > 13
    np.testing.assert_array_equal(ids & np.uint64(0xFFFFFFFF), np.array(good) - blank_before)
    assert sorted(reasons(letters), key=lambda r: int(r[0][4:])) == [
        ("row 7", "", "unparsable"), ("row 8", "x", "unparsable"), ("row 9", "x", "null"), ("row 10", "y", "nan"),
        ("row 11", "", "unparsable"), ("row 12", "x", "unparsable"), ("row 13", "", "unparsable"),
    ]  # fmt: skip


def test_avro_nulls_labels_and_timestamps(tmp_path):
    kinds = {"x": ["null", "double"], "name": "string", "when": {"type": "long", "logicalType": "timestamp-millis"}}
    records = [{"x": 1.0, "name": "a", "when": 0}, {"x": None, "name": "b", "when": 1}]
    write_avro(tmp_path / "a.avro", records, kinds)
    points, _, blocks, letters = read(tmp_path / "a.avro", Columns(id_column="name", keep_columns=("when",)))
    assert points.tolist() == [[1.0]]
    assert blocks[0].extras.column("id").to_pylist() == ["a"]
    assert blocks[0].extras.column("when").type == pa.timestamp("ms", "UTC")
    assert reasons(letters) == [("row 1", "x", "null")]


LISTS = [[1.0, 2.0], [3.0], None, [4.0, None], [5.0, 6.0], [float("nan"), 1.0], [], [0.0, 0.0]]
LIST_REASONS = [
    ("row 1", "v", "width: must be 2, got 1"), ("row 2", "v", "null"), ("row 3", "v", "null"), ("row 5", "v", "nan"),
    ("row 6", "v", "width: must be 2, got 0"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["a.parquet", "a.avro", "a.jsonl"])
def test_vectors_of_another_width_nulls_and_zero(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.table({"v": pa.array(LISTS, pa.list_(pa.float32()))}), path)
    elif name == "a.avro":
        kind = ["null", {"type": "array", "items": ["null", "double"]}]
        write_avro(path, [{"v": v} for v in LISTS], {"v": kind})
    else:
        path.write_text("\n".join(json.dumps({"v": v}) for v in LISTS))
    points, _, _, letters = read(path, Columns(vector_column="v"))
    assert points.tolist() == [[1, 2], [5, 6], [0, 0]]
    assert reasons(letters) == LIST_REASONS
    points, _, _, letters = read(path, Columns(vector_column="v", metric="cosine"))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-6)
    assert reasons(letters) == [*LIST_REASONS, ("row 7", "v", "zero vector")]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
@pytest.mark.parametrize("fixed", [True, False])
def test_vectors_of_every_number_type(tmp_path, dtype, fixed):
    values = np.arange(-60, 60).reshape(20, 6)
    kind = pa.from_numpy_dtype(dtype)
    column = pa.array([list(row) for row in values.astype(dtype)], pa.list_(kind, 6) if fixed else pa.list_(kind))
    pq.write_table(pa.table({"v": column}), tmp_path / "a.parquet")
    points, *_ = read(tmp_path / "a.parquet", Columns(vector_column="v"))
    np.testing.assert_array_equal(points, values)
    assert points.dtype == np.float32


def test_fixed_size_vectors_of_another_width_than_declared(tmp_path):
    pq.write_table(pa.table({"v": pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))}), tmp_path / "a.parquet")
    points, _, blocks, letters = read(tmp_path / "a.parquet", Columns(vector_column="v", dim=3))
    assert points.shape == (0, 3)
    assert blocks[0].span.last
    assert {letter.reason for letter in letters} == {"width: must be 3, got 2"}


@pytest.mark.parametrize("where", ["", "elsewhere://"])
def test_fixed_size_vectors_with_null_rows(tmp_path, where):
    """Arrow itself can't read them from Parquet."""
    kind = pa.list_(pa.float32(), 2)
    vectors = [[1, 2], None, [3, 4], None, [5, 6]]
    table = pa.table({"v": pa.array(vectors, kind), "w": pa.array(vectors, kind), "n": pa.array(["a", "b"] * 2 + ["a"],
                      pa.dictionary(pa.int8(), pa.string()))})  # fmt: skip
    try:
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    except pa.ArrowNotImplementedError:
        pytest.skip(f"pyarrow {pa.__version__} does not write them either")
    columns = Columns(vector_column="v", keep_columns=("w", "n"))
    points, _, blocks, letters = read(f"{where}{tmp_path}/a.parquet", columns)
    np.testing.assert_array_equal(points, [[1, 2], [3, 4], [5, 6]])
    assert blocks[0].extras.to_pydict() == {"w": [[1, 2], [3, 4], [5, 6]], "n": ["a", "a", "a"]}
    assert reasons(letters) == [("row 1", "v", "null"), ("row 3", "v", "null")]


def test_cosine_reaches_unit_length_over_the_whole_range(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[3.0, 4.0], [3e200, 4e200], [3e-200, 4e-200], [0.0, 0.0]]))
    points, _, _, letters = read(tmp_path / "a.npy", Columns(metric="cosine"))
    np.testing.assert_allclose(points, [[0.6, 0.8]] * 3, rtol=1e-6)
    assert reasons(letters) == [("row 3", "", "zero vector")]


def test_weights_ids_groups_and_kept_columns(tmp_path):
    table = pa.table({
        "x": pa.array([1.0, 2.0, 3.0, 4.0, 5.0], pa.float32()), "w": [1.0, -1.0, float("nan"), None, 2.5],
        "user": ["ü", "b", "c", "d", "e"], "side": pa.array(["l", "r", "l", "r", "l"]).dictionary_encode(),
        "n": [1, 2, 3, 4, 5],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    columns = Columns(weight_column="w", id_column="user", group_column="side", keep_columns=("n",))
    points, ids, blocks, letters = read(tmp_path / "a.parquet", columns)
    assert points.tolist() == [[1.0], [5.0]]
    assert blocks[0].weights.tolist() == [1.0, 2.5]
    assert blocks[0].extras.to_pydict() == {"id": ["ü", "e"], "group": ["l", "l"], "n": [1, 5]}
    assert blocks[0].groups.dtype == np.int32
    assert blocks[0].groups[0] == blocks[0].groups[1] >= 0
    assert [(r, c) for _, c, r in reasons(letters)] == [("negative", "w"), ("nan", "w"), ("null", "w")]
    pacsv.write_csv(table.set_column(3, "side", table["side"].cast(pa.string())), tmp_path / "b.csv")
    from_csv = read(tmp_path / "b.csv", columns)
    np.testing.assert_array_equal(from_csv[1], ids)
    np.testing.assert_array_equal(from_csv[2][0].groups, blocks[0].groups)


def test_null_ids_and_integer_ids(tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "id": [2**63 - 1, None, 7]}), tmp_path / "a.parquet")
    _, ids, blocks, letters = read(tmp_path / "a.parquet", Columns(id_column="id"))
    pq.write_table(pa.table({"x": [9.0, 8.0], "id": [7, 2**63 - 1]}), tmp_path / "b.parquet")
    np.testing.assert_array_equal(read(tmp_path / "b.parquet", Columns(id_column="id"))[1], ids[::-1])
    assert blocks[0].extras.column("id").to_pylist() == [str(2**63 - 1), "7"]
    assert reasons(letters) == [("row 1", "id", "null")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(columns=("x", "name")), r"columns: must hold numbers, got 'name' \(string\) in '.*parquet': name it"),
        (Columns(columns=("x", "q")), r"columns: must be among the columns of '.*parquet' \(x, name, v, ok\), got 'q'"),
        (Columns(vector_column="x"), "vector_column: must hold lists of numbers, got 'x'"),
        (Columns(columns=("v",)), r"got 'v' \(list.*name it in --vector-column"),
        (Columns(columns=("name", "v")), r"columns: must hold numbers, got 'name' \(string\), 'v' \(.*name them"),
        (Columns(weight_column="x"), r"columns: must hold numbers, at least one in .*'name' \(string\).*: name one in"),
        (Columns(columns=("x",), id_column="x"), r"id_column: must hold integers or text, got 'x' \(double\)"),
        (Columns(columns=("x",), id_column="v", group_column="x"), r"id_column: .*'v' \(list.*; group_column: .*'x'"),
        (Columns(columns=("x",), weight_column="name"), "weight_column: must hold numbers, got 'name'"),
        (Columns(columns=("x",), keep_columns=("q",)), "keep_columns: must be among the columns of"),
    ],
)
def test_columns_that_cannot_work_fail_before_the_pipeline(tmp_path, columns, message):
    table = pa.table({"x": [1.0], "name": ["a"], "v": pa.array([[1.0]]), "ok": [True]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        ReadBlocks(str(tmp_path / "a.parquet"), columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "manhattan"}, "metric: must be one of"),
        ({"columns": ("x",), "vector_column": "v"}, "columns: must be left out with vector_column 'v'"),
        ({"columns": ("x", "x")}, "columns: must be distinct names"),
        ({"keep_columns": ("id",)}, "keep_columns: must leave the name 'id' to --id-column"),
        ({"dim": 0}, "dim: must be at least 1, got 0"),
    ],
)
def test_contradicting_choices(options, message):
    with pytest.raises(ValueError, match=message):
        Columns(**options)


@pytest.mark.parametrize("name", ["a.parquet", "a.npy", "a.avro", "a.csv.gz", "a.jsonl.gz"])
def test_a_truncated_or_foreign_file_is_named(tmp_path, rows, name):
    write(tmp_path / name, rows)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=rf"input: must be a readable .* file, got '.*{name}' \("):
        read(tmp_path / name)
    if not name.endswith(".gz"):
        (tmp_path / name).write_bytes(b"this is something else")
        with pytest.raises(ValueError, match=rf"input: must be a readable .* file, got '.*{name}' \("):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["{}.parquet", "{}.csv", "{}.avro", "{}.npy"])
def test_a_later_file_without_the_column_is_named(tmp_path, rows, name):
    write(tmp_path / name.format("a"), rows)
    write(tmp_path / name.format("b"), rows[:, :2], names=("x", "other"))
    with pytest.raises(ValueError, match=name.format("b")):
        read(tmp_path / name.format("*"))


def test_empty_text_files_are_no_rows(tmp_path, rows):
    for ending in ("csv", "jsonl", "txt"):
        (tmp_path / f"a.{ending}").write_text("")
        write(tmp_path / f"b.{ending}", rows)
        np.testing.assert_array_equal(read(tmp_path / f"*.{ending}")[0], rows)
    (tmp_path / "header.csv").write_text("x,y\n")
    points, _, blocks, _ = read(tmp_path / "header.csv")
    assert points.shape == (0, 2)
    assert blocks[0].span.last
