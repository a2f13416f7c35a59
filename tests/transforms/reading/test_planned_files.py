"""Files of Avro and JSON lines that are read by a plan give what the plain way gives, row by row."""
import dataclasses
import json

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.planned import avro_records, csv_rows, json_objects
from beam_coresets.transforms.reading import avro_files, json_lines, text_formats
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.text import records as text_records

LEAST = ((text_records, "_LEAST_PLAIN"), (json_lines, "_LEAST_PLANNED"), (avro_files, "_LEAST_PLANNED"))
ROLES = Columns(("x", "y"), weight_column="w", id_column="id", keep_columns=("note", "flag"))


def read(path, columns, planned):
    """Blocks and letters, or the error."""
    with pytest.MonkeyPatch.context() as patch:
        if not planned:
            for module in (avro_files, json_lines):
                patch.setattr(module, "_plan", lambda *given: None)
            patch.setattr(text_formats._TypedRows, "plan", lambda *given: None)
        for module, name in LEAST:
            patch.setattr(module, name, 1)
        patch.setattr(text_records, "PIECE_BYTES", 500)
        try:
            found = list(ReadBlocks(str(path), columns).here())
        except ValueError as error:
            return [], str(error)
    blocks = [one for one in found if isinstance(one, PointBlock)]
    return blocks, [one for one in found if not isinstance(one, PointBlock)]


def same(path, columns, texts=True):
    blocks, letters = read(path, columns, True)
    wanted, refused = read(path, columns, False)
    assert len(blocks) == len(wanted)
    for one, other in zip(blocks, wanted, strict=True):
        for name in ("points", "weights", "ids", "groups"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.points.dtype == other.points.dtype
        assert one.span == other.span
        assert (one.extras is None) == (other.extras is None)
        assert one.extras is None or one.extras.equals(other.extras)
    if isinstance(refused, str) or texts:
        assert letters == refused
    assert [one[:4] for one in letters] == [one[:4] for one in refused]
    return letters


SCHEMA = fastavro.parse_schema({"type": "record", "name": "Row", "fields": [
    {"name": "x", "type": "double"}, {"name": "y", "type": ["null", "float"]}, {"name": "w", "type": "long"},
    {"name": "id", "type": ["null", "string"]},
    {"name": "note", "type": {"type": "enum", "name": "E", "symbols": ["a"]}},
    {"name": "flag", "type": "boolean"}, {"name": "extra", "type": "bytes"},
]})  # fmt: skip
RECORDS = st.fixed_dictionaries({
    "x": st.floats(), "y": st.none() | st.floats(width=32), "w": st.integers(-1, 9),
    "id": st.none() | st.text(max_size=3), "note": st.just("a"), "flag": st.booleans(), "extra": st.binary(max_size=3),
})  # fmt: skip
ONCE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONCE
@given(st.lists(RECORDS, min_size=1, max_size=12), st.sampled_from(["null", "deflate"]),
       st.sampled_from([1, 60, 10**6]), st.sampled_from([1, 4, 8192]),
       st.none() | st.tuples(st.floats(0.6, 1), st.binary(max_size=2)))  # fmt: skip
def test_avro_files_by_a_plan_are_those_of_fastavro(
    tmp_path, monkeypatch, records, codec, interval, rows, hurt
):
    monkeypatch.setattr(avro_files, "_ROWS", rows)
    path = tmp_path / "rows.avro"
    with open(path, "wb") as file:
        fastavro.writer(file, SCHEMA, records, codec=codec, sync_interval=interval)
    raw = bytearray(path.read_bytes())
    if hurt is not None:
        at = int(hurt[0] * len(raw))
        raw[at : at + 1] = hurt[1]
        path.write_bytes(raw)
    same(path, ROLES)


CELLS = st.sampled_from(["1", "0.5", "-1e3", "1e400", "null", "true", "false", '"a"', '"é"', r'"\n"', "[1]", '{"a": 1}',
                         "7",
                         "12345678901234567890", "9007199254740993", "0.1000000000000000055511151231257827", "-2", "",
                         '"', '"2023-11-14"']) | st.floats(-1e9, 1e9).map(repr)  # fmt: skip
ROW = {"x": "1.25", "y": "-2", "w": "1", "id": '"a"', "note": "5", "flag": "true", "more": '{"z": [1, {}]}'}


@st.composite
def lines(draw):
    row = ROW | draw(st.dictionaries(st.sampled_from(sorted(ROW)), CELLS, max_size=draw(st.sampled_from([0, 0, 0, 2]))))
    names = [name for name in draw(st.permutations(sorted(row))) if draw(st.integers(0, 30))]
    line = "{" + ", ".join(f'"{name}": {row[name]}' for name in names) + "}"
    return draw(st.sampled_from([line] * 15 + ["", "  ", "null", "[]", line[:-1], "{}"]))


@ONCE
@given(st.lists(lines(), min_size=1, max_size=12), st.integers(0, 300),
       st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]))  # fmt: skip
def test_json_lines_by_a_plan_are_those_of_the_plain_way(tmp_path, some, plain, end):
    path = tmp_path / "rows.jsonl"
    row = {name: json.loads(cell) for name, cell in ROW.items()}
    head, middle = [json.dumps(row)] * 3, [json.dumps(row | {"x": i}) for i in range(plain)]
    path.write_bytes(end.join([*head, *some[::2], *middle, *some[1::2]]).encode())
    same(path, ROLES, texts=False)


CSV_CELLS = st.sampled_from([
    "1", "", "-0", "007", "1.", ".5", "+1", " 1", "1 ", "1e3", "1E-3", "nan",
    "inf", "NA", "1e400", "123456789012345678901",
    "0.00000000000000000123", "0.1000000000000000055511151231257827", "-", "x", "true", "2024-02-01", '"1"', '"a,b"',
    '"a""b"', 'a"b', '"', "\u00e9", "a b", "1,2", "-1.5", "9007199254740993",
])  # fmt: skip


@st.composite
def csv_lines(draw):
    cells = ["1.5", "-2", "1", "id", "kept", "0", "more"]
    for place in draw(st.sets(st.integers(0, 6), max_size=draw(st.sampled_from([0, 0, 1, 2])))):
        cells[place] = draw(CSV_CELLS | st.floats(-1e9, 1e9).map(repr))
    return draw(st.sampled_from([",".join(cells)] * 20 + ["", "#1,2,3", ",".join(cells[:-1]), ",".join(cells) + ","]))


@ONCE
@given(st.lists(csv_lines(), min_size=1, max_size=12), st.integers(0, 60),
       st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
       st.sampled_from([{}, {"comment": "#"}, {"quote": "none"}, {"quote": "-"}, {"quote": "2"},
                        {"encoding": "latin-1"}]),
       st.booleans())  # fmt: skip
def test_csv_files_by_a_plan_are_those_of_the_plain_way(tmp_path, some, plain, end, dialect, ended):
    path = tmp_path / "rows.csv"
    middle = [f"{i}.25,{-i},1,a{i},\u00e9,1,z" for i in range(plain)]
    lines = ["x,y,w,id,note,flag,more", "0.5,1,1,a,b,1,c", *some[::2], *middle, *some[1::2]]
    path.write_bytes((end.join(lines) + end * ended).encode(dialect.get("encoding", "utf-8"), "replace"))
    same(path, dataclasses.replace(ROLES, **dialect))


def test_files_of_flat_rows_are_read_by_plans(tmp_path, monkeypatch):
    """Or nothing above would be tested."""
    rows, read_rows = [{"x": i / 7, "y": float(i), "id": 2**60 + i} for i in range(1000)], []

    def counting(function):
        def count(*given):
            found = function(*given)
            read_rows.append(len(found) if isinstance(found, pa.RecordBatch) else len(found.rows))
            return found

        return count

    for module, name in LEAST:
        monkeypatch.setattr(module, name, 1)
    for module, name in ((avro_records, "read_run"), (json_objects, "read_objects"), (csv_rows.CsvPlan, "read")):
        monkeypatch.setattr(module, name, counting(getattr(module, name)))
    schema = {"type": "record", "name": "R", "fields": [
        {"name": "x", "type": "double"}, {"name": "y", "type": "double"}, {"name": "id", "type": "long"}]}  # fmt: skip
    with open(tmp_path / "rows.avro", "wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), rows)
    texts = [json.dumps(row) for row in rows]
    texts[500] = r'{"x": "\n", "y": 1, "id": 5}'
    (tmp_path / "rows.jsonl").write_text("\n".join(texts))
    (tmp_path / "rows.csv").write_text("x,y,id\n" + "".join("{x},{y},{id}\n".format(**row) for row in rows))
    for name, whole in (("rows.csv", 1000), ("rows.avro", 1000), ("rows.jsonl", 999)):
        found = list(ReadBlocks(str(tmp_path / name), Columns(("x", "y"), id_column="id")).here())
        assert sum(read_rows) == whole == sum(len(one) for one in found if isinstance(one, PointBlock))
        read_rows.clear()
    assert [one[:4] for one in found if not isinstance(one, PointBlock)] == [
        ("unparsable", "x", str(tmp_path / "rows.jsonl"), "row 500")]  # fmt: skip
    ids = next(one for one in found if isinstance(one, PointBlock)).extras.column("id").to_pylist()
    assert ids == [str(2**60 + i) for i in range(1000) if i != 500]
