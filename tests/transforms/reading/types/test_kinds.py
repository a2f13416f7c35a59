"""Types of columns: what Parquet, Avro and JSON lines have them for, and what comes out of them."""
import datetime
import decimal
import json
import uuid

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_coresets import tables, values
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.types import kinds
from beam_coresets.transforms.reading.types.avro import arrow_schema

UTC = datetime.timezone.utc
NOON = datetime.datetime(2024, 2, 29, 12, 30, 15, 250000, UTC)
IDS = [uuid.UUID(int=7919 * i + 1) for i in range(3)]
LARGE = 2**64 - 3

# name -> Arrow type, Avro type, values, as a coordinate (or None), as a label (or None), as JSON keeps it
TYPES = {
    "int": (pa.int32(), "int", [3, -4, 5], [3, -4, 5], ["3", "-4", "5"], [3, -4, 5]),
    "decimal": (pa.decimal128(10, 3), {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 3},
                [decimal.Decimal(x) for x in ("1.250", "-2.000", "0.125")], [1.25, -2, 0.125],
                ["1.250", "-2.000", "0.125"], ["1.250", "-2.000", "0.125"]),
    "bool": (pa.bool_(), "boolean", [True, False, True], [1, 0, 1], ["true", "false", "true"], [True, False, True]),
    "date": (pa.date32(), {"type": "int", "logicalType": "date"},
             [datetime.date(1970, 1, day) for day in (1, 2, 3)], [0, 86400, 172800],
             ["1970-01-01", "1970-01-02", "1970-01-03"], ["1970-01-01", "1970-01-02", "1970-01-03"]),
    "timestamp": (pa.timestamp("us", "UTC"), {"type": "long", "logicalType": "timestamp-micros"},
                  [NOON + datetime.timedelta(hours=i) for i in range(3)],
                  [NOON.timestamp() + 3600 * i for i in range(3)],
                  [f"2024-02-29T{12 + i}:30:15.25Z" for i in range(3)],
                  [f"2024-02-29T{12 + i}:30:15.25Z" for i in range(3)]),
    "time": (pa.time32("ms"), {"type": "int", "logicalType": "time-millis"},
             [datetime.time(0, 0, i, 500000) for i in range(3)], [0.5, 1.5, 2.5],
             [f"00:00:0{i}.5" for i in range(3)], [f"00:00:0{i}.5" for i in range(3)]),
    "uuid": (pa.string(), {"type": "string", "logicalType": "uuid"}, IDS, None, [str(u) for u in IDS],
             [str(u) for u in IDS]),
    "maybe uuid": (pa.string(), ["null", {"type": "string", "logicalType": "uuid"}], IDS, None,
                   [str(u) for u in IDS], [str(u) for u in IDS]),
    "enum": (pa.dictionary(pa.int8(), pa.string()), {"type": "enum", "name": "E", "symbols": ["A", "B"]},
             ["A", "B", "A"], None, ["A", "B", "A"], ["A", "B", "A"]),
    "fixed": (pa.binary(2), {"type": "fixed", "name": "F", "size": 2}, [b"\xff\x00", b"ab", b"\x00\x01"], None,
              ["ff00", "6162", "0001"], ["/wA=", "YWI=", "AAE="]),
    "bytes": (pa.binary(), "bytes", [b"\xff", b"ab", b""], None, ["ff", "ab", ""], ["/w==", "YWI=", ""]),
    "numbers": (pa.float64(), ["int", "double"], [1, 2.5, -3], [1, 2.5, -3], None, [1, 2.5, -3]),
    "record": (pa.struct([("z", pa.int64())]),
               {"type": "record", "name": "Q", "fields": [{"name": "z", "type": "long"}]},
               [{"z": 4}, {"z": 5}, {"z": 6}], None, None, [{"z": 4}, {"z": 5}, {"z": 6}]),
    "map": (pa.map_(pa.string(), pa.int64()), {"type": "map", "values": "long"}, [{"z": 4}, {}, {"y": 1, "x": 2}],
            None, None, [{"z": 4}, {}, {"y": 1, "x": 2}]),
    "list": (pa.list_(pa.string()), {"type": "array", "items": "string"}, [["a"], [], ["b", "c"]], None, None,
             [["a"], [], ["b", "c"]]),
}  # fmt: skip


def write(folder, form, name):
    """Three rows x, c, where c is of the type called `name`; the path."""
    arrow, avro, cells = TYPES[name][:3]
    path = folder / f"a.{form}"
    if form == "parquet":
        pairs = pa.types.is_map(arrow)
        plain = [str(c) if isinstance(c, uuid.UUID) else list(c.items()) if pairs else c for c in cells]
        column = pa.array(plain, arrow.value_type if pa.types.is_dictionary(arrow) else arrow)
        column = column.dictionary_encode() if pa.types.is_dictionary(arrow) else column
        pq.write_table(pa.table({"x": [0.0, 1.0, 2.0], "c": column}), path)
    else:
        fields = [{"name": "x", "type": "double"}, {"name": "c", "type": avro}]
        rows = [{"x": float(i), "c": cell} for i, cell in enumerate(cells)]
        with path.open("wb") as file:
            fastavro.writer(file, {"type": "record", "name": "R", "fields": fields}, rows)
    return str(path)


def block_of(path, columns):
    (block,) = ReadBlocks(path, columns).here()
    return block


@pytest.mark.parametrize("form", ["parquet", "avro"])
@pytest.mark.parametrize("name", TYPES)
def test_each_type_in_each_role(tmp_path, form, name):
    path = write(tmp_path, form, name)
    _, _, _, coordinates, labels, kept = TYPES[name]
    if coordinates is None:
        with pytest.raises(ValueError, match=r"^columns: must hold numbers, got 'c' \("):
            ReadBlocks(path, Columns(columns=("x", "c")))
    else:
        np.testing.assert_array_equal(block_of(path, Columns(columns=("c",))).points[:, 0], coordinates)
    for role in ("id_column", "group_column"):
        if labels is None:
            with pytest.raises(ValueError, match=rf"^{role}: must hold integers or text, got 'c' \("):
                ReadBlocks(path, Columns(columns=("x",), **{role: "c"}))
        else:
            block = block_of(path, Columns(columns=("x",), **{role: "c"}))
            assert block.extras.column(role.removesuffix("_column")).to_pylist() == labels
    assert len(set(block_of(path, Columns(columns=("x",), id_column="c")).ids.tolist() if labels else ())) == (
        len(set(labels or ())))  # fmt: skip
    extras = block_of(path, Columns(columns=("x",), keep_columns=("c",))).extras
    assert [json.loads(line)["c"] for line in tables.json_lines(extras)] == kept
    plain = tables.decode(tables.encode(extras, "avro"), "avro").column("c").to_pylist()
    texts = [json.dumps(k) if isinstance(k, dict) else k for k in kept]
    assert plain == (TYPES[name][2] if name in ("fixed", "bytes") else texts)


@pytest.mark.parametrize("form", ["parquet", "avro"])
def test_what_is_a_coordinate_by_itself(tmp_path, form):
    for name, (_, _, _, coordinates, *_) in TYPES.items():
        read = ReadBlocks(write(tmp_path, form, name))
        number = coordinates is not None and name in ("int", "decimal", "numbers")
        assert read.layout.coordinates == (("x", "c") if number else ("x",))
        if not number:
            (note,) = read.notes
            assert note.startswith("columns: x; left out: c (")


def test_the_file_says_what_its_type_is(tmp_path):
    with pytest.raises(ValueError, match=r"got 'c' \({type: map, values: long}\)"):
        ReadBlocks(write(tmp_path, "avro", "map"), Columns(columns=("c",)))


@pytest.mark.parametrize(("cells", "labels"), [
    ([LARGE, 1, 2], [str(LARGE), "1", "2"]),
    ([2**70, -1, 2], [str(2**70), "-1", "2"]),
    (["a", 5, "b"], ["a", "5", "b"]),
])  # fmt: skip
def test_ids_of_json(tmp_path, cells, labels):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"x": i, "id": cell}) + "\n" for i, cell in enumerate(cells)))
    assert block_of(str(path), Columns(columns=("x",), id_column="id")).extras.column("id").to_pylist() == labels


@pytest.mark.parametrize(("cells", "kept"), [
    ([{"z": 4}, {"y": [1, {"a": None}]}, None], ['{"z": 4}', '{"y": [1, {"a": null}]}', None]),
    ([["a", 1], [], {"b": 2}], ['["a", 1]', "[]", '{"b": 2}']),
    ([[1, 2.5], [], [3]], [[1, 2.5], [], [3]]),
    ([5, 2**63, 0], [5, 2**63, 0]),
    (["a", 5, {"b": True}], ["a", "5", '{"b": true}']),
    ([True, False, None], [True, False, None]),
])  # fmt: skip
def test_kept_values_of_json(tmp_path, cells, kept):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"x": i, "c": cell}) + "\n" for i, cell in enumerate(cells)))
    extras = block_of(str(path), Columns(columns=("x",), keep_columns=("c",))).extras
    assert extras.column("c").to_pylist() == kept


def test_types_that_differ_from_file_to_file(tmp_path):
    small = pa.table({"x": pa.array([1, 2], pa.int16()), "id": pa.array([1, 2], pa.int32()),
                      "c": pa.array([1, 2], pa.float32())})  # fmt: skip
    other = pa.table({"x": pa.array(["1.5", "2.5"]).cast(pa.decimal128(5, 2)), "id": pa.array(["3", "4"]),
                      "c": pa.array([0.5, 0.25], pa.float64())})  # fmt: skip
    pq.write_table(small, tmp_path / "a.parquet")
    pq.write_table(other, tmp_path / "b.parquet")
    columns = Columns(columns=("x",), id_column="id", keep_columns=("c",))
    blocks = list(ReadBlocks(str(tmp_path), columns).here())
    assert np.concatenate([block.points[:, 0] for block in blocks]).tolist() == [1, 2, 1.5, 2.5]
    assert [text for block in blocks for text in block.extras.column("id").to_pylist()] == ["1", "2", "3", "4"]
    pq.write_table(other.set_column(2, "c", pa.array([0.1, 0.2])), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"^c: must be float like in the first file, got double in '.*b.parquet'"):
        list(ReadBlocks(str(tmp_path), columns).here())


def test_an_avro_type_within_itself_is_text():
    tree = {"type": "record", "name": "T", "fields": [{"name": "next", "type": ["null", "T"]}]}
    schema = fastavro.parse_schema({"type": "record", "name": "R", "fields": [{"name": "t", "type": tree}]})
    assert arrow_schema(schema).types == [pa.string()]


def test_mixed_types_inside_others_are_kept_as_json(tmp_path):
    unsure = {"type": "record", "name": "Q", "fields": [
        {"name": "u", "type": ["string", "long"]}, {"name": "i", "type": {"type": "string", "logicalType": "uuid"}}]}
    fields = [{"name": "x", "type": "double"}, {"name": "c", "type": {"type": "array", "items": unsure}}]
    with (tmp_path / "a.avro").open("wb") as file:
        row = {"x": 1.0, "c": [{"u": 5, "i": IDS[0]}, {"u": "a", "i": IDS[1]}]}
        fastavro.writer(file, {"type": "record", "name": "R", "fields": fields}, [row])
    (kept,) = block_of(str(tmp_path / "a.avro"), Columns(columns=("x",), keep_columns=("c",))).extras.column("c")
    assert json.loads(kept.as_py()) == [{"u": 5, "i": str(IDS[0])}, {"u": "a", "i": str(IDS[1])}]


def test_avro_types_by_name_and_unknown_logical_ones():
    schema = fastavro.parse_schema({"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "enum", "name": "E", "symbols": ["A"]}}, {"name": "b", "type": "E"},
        {"name": "c", "type": {"type": "long", "logicalType": "light-years"}},
        {"name": "d", "type": ["null", "string", "long"]}, {"name": "e", "type": ["null"]},
        {"name": "f", "type": {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}},
        {"name": "g", "type": {"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 2}},
    ]})  # fmt: skip
    assert arrow_schema(schema).types == [
        pa.string(), pa.string(), pa.int64(), pa.string(), pa.null(), pa.binary(12), pa.decimal256(60, 2)]  # fmt: skip


@pytest.mark.parametrize("kind", [pa.timestamp("ns", "Asia/Tokyo"), pa.timestamp("s"), pa.duration("ns"),
                                  pa.time64("ns"), pa.date64(), pa.duration("ms")])  # fmt: skip
def test_times_of_every_unit_are_seconds(kind):
    counts = [86_400_000, None, 172_800_000]
    column = pa.array(counts, pa.int64()).cast(kind)
    steps = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[getattr(kind, "unit", "ms")]
    expected = [np.nan if n is None else n // steps + n % steps / steps for n in counts]
    np.testing.assert_array_equal(kinds.numbers(column), expected)
    assert all(text is None or "(" not in text for text in values.portable(column))


def test_columns_that_are_encoded_otherwise():
    words = pa.array(["a", None, "b"])
    for column in (words.dictionary_encode(), pa.RunEndEncodedArray.from_arrays([1, 2, 3], words)):
        assert kinds.plain_type(column.type) == pa.string()
        assert kinds.labels(column).to_pylist() == ["a", None, "b"]
    if hasattr(pa, "uuid"):
        column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([u.bytes for u in IDS] + [None], pa.binary(16)))
        assert kinds.labels(column).to_pylist() == [*map(str, IDS), None]
        assert values.portable(column) == [*map(str, IDS), None]


def test_slices_have_their_own_values():
    """Children of a sliced column keep the rows that were cut off."""
    nested = [{"l": [1, 2], "m": [("a", 1)]}, None, {"l": None, "m": []}, {"l": [3], "m": [("b", 2), ("b", 3)]}]
    column = pa.array(nested, pa.struct([("l", pa.list_(pa.int64())), ("m", pa.map_(pa.string(), pa.int64()))]))
    expected = [{"l": [1, 2], "m": {"a": 1}}, None, {"l": None, "m": {}}, {"l": [3], "m": [["b", 2], ["b", 3]]}]
    pairs = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2))
    for low in range(4):
        assert values.portable(column.slice(low)) == expected[low:]
        assert values.portable(pairs.slice(low)) == [[1, 2], None, [3, 4]][low:]


@pytest.mark.parametrize(("value", "text"), [
    (5.0, "5"), (2.5, "2.5"), (True, "true"), (None, None), ("a", "a"), (b"ab", "ab"), (b"\xff", "ff"),
    (IDS[0], str(IDS[0])), (decimal.Decimal("1.50"), "1.50"), (NOON, "2024-02-29T12:30:15.25Z"),
    (datetime.timedelta(days=-1, seconds=1), "-PT86399S"), ({"a": NOON.date()}, '{"a": "2024-02-29"}'),
    ([b"\xff", np.int64(3)], '["ff", 3]'), ("\u00e9", "\u00e9"),
])  # fmt: skip
def test_python_values_as_text(value, text):
    assert values.text(value) == text
