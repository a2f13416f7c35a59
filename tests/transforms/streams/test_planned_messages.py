"""Messages that are read by a plan give what the plain way gives, row by row and letter by letter, to the last bit."""
import datetime
import decimal
import io
import json
import struct

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_coresets.transforms.planned import avro_records, json_objects
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.messages import avro as avro_messages
from beam_coresets.transforms.streams.messages import framed
from beam_coresets.transforms.streams.messages import json as json_messages
from beam_coresets.transforms.streams.messages.formats import (
    MESSAGE_KEY,
    Avro,
    AvroRegistry,
    EventTime,
    Json,
    Messages,
)
from beam_coresets.transforms.streams.messages.schemas import Fetched, MissingSchemaError, Schemas
from beam_coresets.transforms.streams.times import event_time, event_times

NOW = 1_700_000_000.0
UTC = datetime.timezone.utc


def decoded(form, values, clock, planned):
    """What a format makes of messages, by a plan wherever there is one, or without any; bit by bit."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (avro_messages, framed, json_messages):
            patch.setattr(module, "FEWEST", 1 if planned else 10**9)
        n = len(values)
        messages = Messages("orders", "partition 3", np.arange(10, 10 + n), np.full(n, NOW), [b"k"] * n, values)
        chunk = form.decode(messages, clock, NOW)
    columns = {}
    for name in ("points", "offsets", "counts", "times", "weights", "ids", "groups", "letter_offsets", "letter_times"):
        column = getattr(chunk, name)
        columns[name] = None if column is None else (column.dtype, column.shape, np.ascontiguousarray(column).tobytes())
    keys = None if chunk.keys is None else chunk.keys.tolist()
    extras = None if chunk.extras is None else (chunk.extras.schema, repr(chunk.extras.to_pylist()))
    return columns, keys, extras, chunk.letters, (chunk.start, chunk.stop)


def same(form, values, clock):
    plain = decoded(form, values, clock, False)
    for name, one, other in zip(("columns", "keys", "extras", "letters", "range"), decoded(form, values, clock, True),
                                plain, strict=True):  # fmt: skip
        assert one == other, name


def damaged(draw, value):
    raw = bytearray(value)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3) | st.sampled_from([b"\xff" * 10, b'"']))
    return bytes(raw)


FINITE = st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 3e20, 1e-300, 1e308, 0.1, 2.0**53 + 2])
NUMBERS = FINITE | st.sampled_from([float("nan"), float("inf"), float("-inf")])
TIMES = st.integers(-50, 61).map(lambda s: NOW + s)
STAMPS = st.datetimes(timezones=st.just(UTC)) | TIMES.map(lambda s: datetime.datetime.fromtimestamp(s, UTC))
FIELDS = {  # name -> (type, values), of which schemas take some, in any order
    "x": [("double", NUMBERS), ("float", st.floats(width=32)), ("long", st.integers(-(2**63), 2**63 - 1)),
          (["null", "double"], st.none() | NUMBERS)],
    "y": [("double", NUMBERS), ("int", st.integers(-9, 9)), (["null", "float"], st.none() | st.floats(width=32))],
    "w": [("double", NUMBERS), (["null", "long"], st.none() | st.integers(-2, 9))],
    "id": [("string", st.text(max_size=4)), ("long", st.integers(-(2**63), 2**63 - 1)), (["null", "string"], st.none()
           | st.text(max_size=4)), ({"type": "string", "logicalType": "uuid"}, st.uuids()),
           ("bytes", st.binary(max_size=3)), ("boolean", st.booleans())],
    "k": [("string", st.text(max_size=4)), (["null", "int"], st.none() | st.integers(0, 3)),
          ({"type": "enum", "name": "Kind", "symbols": ["a", "b"]}, st.sampled_from(["a", "b"])),
          ("double", FINITE), ("boolean", st.booleans()), ({"type": "string", "logicalType": "uuid"}, st.uuids())],
    "note": [("string", st.text(max_size=4)), ("double", NUMBERS), ("boolean", st.booleans()), ("bytes", st.binary(
             max_size=3)), (["null", "long"], st.none() | st.integers()
             .filter(lambda i: abs(i) < 2**63)), ({"type": "fixed", "name": "Two", "size": 2}, st.just(b"\xff\0")),
             ({"type": "long", "logicalType": "timestamp-micros"}, STAMPS), ("null", st.none()),
             ({"type": "array", "items": "int"}, st.lists(st.integers(0, 3), max_size=2))],
    "at": [({"type": "long", "logicalType": "timestamp-millis"}, STAMPS), ("double", TIMES), ("long", TIMES.map(int)),
           ({"type": "long", "logicalType": "timestamp-micros"}, STAMPS), ("string", st.sampled_from([
               "2023-11-14T22:13:20Z", "2023-11-14 22:13", "never", ""])), (["null", "long"], st.none() | st.integers(
               2**52, 2**60)), ("boolean", st.booleans())],
    "more": [("string", st.text(max_size=9)), ({"type": "bytes", "logicalType": "decimal", "precision": 5},
             st.integers(-9, 9).map(decimal.Decimal)), (["null", "int", "string"], st.none() | st.text(
                 max_size=2)), ({"type": "record", "name": "In", "fields": [{"name": "a", "type": "string"}]},
             st.fixed_dictionaries({"a": st.text(max_size=2)})), ({"type": "map", "values": "int"}, st.just({"a": 1}))],
}  # fmt: skip
ROLES = {"columns": ("x", "y"), "weight_column": "w", "id_column": "id", "group_column": "k", "keep_columns": ("note",)}


@st.composite
def schemas(draw, needed=()):
    """An Avro schema with the fields needed and others, and a strategy for its records."""
    names = draw(st.permutations(sorted({*needed, *draw(st.sets(st.sampled_from(sorted(FIELDS))))})))
    chosen = {name: draw(st.sampled_from(FIELDS[name])) for name in names}
    schema = {"type": "record", "name": "Row", "fields": [{"name": n, "type": kind} for n, (kind, _) in chosen.items()]}
    return schema, st.fixed_dictionaries({name: values for name, (_, values) in chosen.items()})


def written(parsed, record):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed, record)
    return stream.getvalue()


@st.composite
def columns(draw):
    """Columns that name some of the roles, and the fields that they need."""
    roles = {name: ROLES[name] for name in draw(st.sets(st.sampled_from(sorted(ROLES)))) | {"columns"}}
    metric = draw(st.sampled_from(["euclidean", "euclidean", "cosine"]))
    needed = {each for value in roles.values() for each in ([value] if isinstance(value, str) else value)}
    return Columns(**roles, metric=metric), needed


CLOCKS = st.sampled_from([EventTime(), EventTime("at"), EventTime("at")])
KEYS = st.sampled_from([None, "k", MESSAGE_KEY])


@settings(max_examples=200, deadline=None)
@given(columns(), CLOCKS, KEYS, st.data())
def test_avro_messages_by_a_plan_are_those_that_fastavro_reads(made, clock, key, data):
    chosen, needed = made
    needed = needed | ({"at"} if clock.column else set()) | ({"k"} if key == "k" else set())
    schema, record = data.draw(schemas(tuple(sorted(needed))))
    try:
        form = Avro(chosen, key, json.dumps(schema))
        form.check_time(clock.column)
    except ValueError:  # columns of another type
        return
    parsed = fastavro.parse_schema(schema)
    values = [written(parsed, one) for one in data.draw(st.lists(record, max_size=6))]
    same(form, [damaged(data.draw, v) if data.draw(st.integers(0, 3)) == 0 else v for v in values] + [None], clock)


def given_schemas(form, kind, texts):
    """The format, whose registry has these schemas by their place in the list."""
    def fetch(name, _):
        number = int(name.removeprefix("schema "))
        if number >= len(texts):
            raise MissingSchemaError(f"schema {number} is unknown")
        return Fetched(kind, texts[number])

    schemas = Schemas(form.registry, kind, form._parsed)
    schemas._fetch = fetch
    form.__dict__["_schemas"] = schemas
    return form


@settings(max_examples=200, deadline=None)
@given(columns(), CLOCKS, KEYS, st.lists(schemas(), min_size=1, max_size=3), st.data())
def test_framed_messages_of_any_schemas_by_a_plan_are_those_that_fastavro_reads(made, clock, key, several, data):
    """Schemas whose fields stand in other orders, lack some, have others, or have them in other types."""
    parsed = [fastavro.parse_schema(schema) for schema, _ in several]
    form = given_schemas(AvroRegistry(made[0], key), "AVRO", [json.dumps(schema) for schema, _ in several])
    values = []
    for number in data.draw(st.lists(st.integers(0, len(several) - 1), max_size=6)):
        body = written(parsed[number], data.draw(several[number][1]))
        frame = data.draw(st.sampled_from([b"\0" + struct.pack(">I", number)] * 9 + [b"\1", b"", b"\0\0\0\0\x63"]))
        values.append(frame + (damaged(data.draw, body) if data.draw(st.integers(0, 3)) == 0 else body))
    same(form, [*values, None], clock)


def test_messages_of_two_schemas_come_in_their_own_order():
    two = [{"type": "record", "name": "R", "fields": [{"name": n, "type": "double"} for n in names]} for names in
           (("x", "y"), ("y", "x"))]  # fmt: skip
    parsed = [fastavro.parse_schema(schema) for schema in two]
    form = given_schemas(AvroRegistry(Columns(("x", "y"))), "AVRO", list(map(json.dumps, two)))
    frames = [b"\0" + struct.pack(">I", number) for number in range(2)]
    values = [frames[i % 2] + written(parsed[i % 2], {"x": i, "y": -i}) for i in range(40)]
    messages = Messages("t", "p", np.arange(40), np.full(40, NOW), [None] * 40, values)
    np.testing.assert_array_equal(form.decode(messages, EventTime(), NOW).points, [[i, -i] for i in range(40)])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(10**11 - 2, 10**11 + 2), max_size=4),
       st.lists(st.none() | NUMBERS | st.sampled_from([1e11, -2e11, 1.5e12]), max_size=4),
       st.lists(st.none() | STAMPS, max_size=4))  # fmt: skip
@example([2**53 + 1, 10**16 + 3], [], [datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)])
def test_times_of_a_column_are_those_of_its_cells(whole, fractions, stamps):
    naive = [None if at is None else at.replace(tzinfo=None) for at in stamps]
    for cells, kind in ((whole, pa.int64()), (fractions, pa.float64()), (stamps, pa.timestamp("us", "UTC")), (naive,
                        pa.timestamp("us")), ([None] * 2, pa.null())):  # fmt: skip
        times = event_times(pa.array(cells, kind, from_pandas=False))
        assert repr(times.tolist()) == repr([event_time(cell) for cell in cells])


CELLS = st.sampled_from([
    "1", "0.5", "-0.0", "-0", "1e17", "3e30", "1e400", "NaN", "9007199254740993", "12345678901234567890", "null",
    "true", '"a"',
    '"é"', r'"\n"', '"2023-11-14T22:13:20Z"', "[1]", '{"a": 1}', '""', "1700000000123", "1700000000.25", "-2e11",
    "0.1000000000000000055511151231257827", "123456.125", "1.50", "1e3", "99999999999999999999e-20",
]) | FINITE.map(repr) | st.integers().map(str)  # fmt: skip
JSON_ROW = {"x": "1", "y": "2.5", "w": "1", "id": "7", "k": '"c"', "note": '"b"', "at": str(int(NOW))}


@st.composite
def json_values(draw):
    row = JSON_ROW | draw(st.dictionaries(st.sampled_from([*JSON_ROW, "more"]), CELLS, max_size=3))
    names = [name for name in draw(st.permutations(sorted(row))) if draw(st.integers(0, 15))]
    names += names[:1] if draw(st.integers(0, 9)) == 0 else []
    blank = draw(st.sampled_from(["", "", " ", "\n"]))
    text = ("{" + f",{blank}".join(f'"{name}":{blank}{row[name]}' for name in names) + "}" + blank).encode()
    return damaged(draw, text) if draw(st.integers(0, 5)) == 0 else text


@settings(max_examples=400, deadline=None)
@given(columns(), CLOCKS, KEYS | st.just("x") | st.just("at"), st.lists(json_values() | st.none(), max_size=6))
@example((Columns(("x", "y"), keep_columns=("at", "k")), {}), EventTime("at"), "at", [b'{"x":1,"y":2,"at":"2023"}'])
def test_json_messages_by_a_plan_are_those_that_python_reads(made, clock, key, values):
    same(Json(made[0], key), values, clock)


def test_flat_messages_are_read_by_plans():
    """Or nothing above would be tested."""
    schema = {"type": "record", "name": "R", "fields": [{"name": n, "type": "double"} for n in ("x", "y")]}
    parsed, read = fastavro.parse_schema(schema), []
    rows = [{"x": i / 7, "y": float(i)} for i in range(30)]

    def counting(function):
        def count(*given):
            found = function(*given)
            read.append(len(found.rows))
            return found

        return count

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((avro_records, "read_joined"), (json_objects, "read_objects")):
            patch.setattr(module, name, counting(getattr(module, name)))
        for form, values in ((Avro(Columns(), None, json.dumps(schema)), [written(parsed, row) for row in rows]),
                             (Json(Columns(("x", "y"))), [json.dumps(row).encode() for row in rows])):  # fmt: skip
            messages = Messages("t", "p", np.arange(30), np.full(30, NOW), [None] * 30, values)
            points = form.decode(messages, EventTime(), NOW).points
            np.testing.assert_array_equal(points, [[row["x"], row["y"]] for row in rows])
    assert read == [30, 30]
