"""Avro records by a plan: what fastavro reads, or odd; never another thing."""
import datetime
import io
import json

import fastavro
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_coresets.bounded import avro_schema
from beam_coresets.transforms.planned import avro_records
from beam_coresets.transforms.reading.coordinates import OneByOne
from beam_coresets.transforms.reading.formats import python_column
from beam_coresets.transforms.reading.types.avro import arrow_schema

UTC = datetime.timezone.utc
TYPES = {  # of a field, as JSON -> its values
    '"int"': st.integers(-(2**31), 2**31 - 1), '"long"': st.integers(-(2**63), 2**63 - 1),
    '"float"': st.floats(width=32), '"double"': st.floats(), '"boolean"': st.booleans(), '"null"': st.none(),
    '"string"': st.text(max_size=5), '"bytes"': st.binary(max_size=5),
    '{"type": "string"}': st.text(max_size=5),
    '{"type": "int", "logicalType": "date"}': st.dates(),
    '{"type": "int", "logicalType": "time-millis"}': st.times().map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    '{"type": "long", "logicalType": "time-micros"}': st.times(),
    '{"type": "long", "logicalType": "timestamp-millis"}': st.datetimes().map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)),
    '{"type": "long", "logicalType": "timestamp-micros"}': st.datetimes().map(lambda at: at.replace(tzinfo=UTC)),
    '{"type": "long", "logicalType": "local-timestamp-micros"}': st.datetimes(),
    '{"type": "long", "logicalType": "no-such"}': st.integers(-(2**40), 2**40),
    '{"type": "string", "logicalType": "uuid"}': st.uuids(),
}  # fmt: skip
OTHERS = {  # that nobody may want
    '{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}': st.decimals(-1000, 1000, places=2),
    '["null", "int", "string"]': st.none() | st.integers(-5, 5) | st.text(max_size=3),
    '["double", "boolean"]': st.floats(width=32) | st.booleans(),
}


@st.composite
def schemas(draw):
    """A flat schema, a strategy for its records, and the fields that somebody wants."""
    kinds = draw(st.lists(st.sampled_from(sorted(TYPES) + sorted(OTHERS)), min_size=1, max_size=6))
    fields, cells, wanted = [], {}, []
    for i, text in enumerate(kinds):
        kind, strategy = json.loads(text), (TYPES | OTHERS)[text]
        if text in TYPES:
            if draw(st.booleans()) and kind != "null":
                order = draw(st.permutations(["null", kind]))
                kind, strategy = list(order), st.none() | strategy
            if draw(st.booleans()):
                wanted.append(f"f{i}")
        fields.append({"name": f"f{i}", "type": kind})
        cells[f"f{i}"] = strategy
    named = draw(st.lists(st.sampled_from(["enum", "fixed", "again", "record"]), unique=True))
    if "enum" in named:
        fields.append({"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["red", "green", "blue"]}})
        cells["e"] = st.sampled_from(["red", "green", "blue"])
    last = [{"name": "e2", "type": ["null", "E"]}] if {"enum", "again"} <= set(named) else []
    if last:
        cells["e2"] = st.none() | cells["e"]
    if "fixed" in named:
        fields.append({"name": "x", "type": {"type": "fixed", "name": "X", "size": 3}})
        cells["x"] = st.binary(min_size=3, max_size=3)
    wanted += draw(st.sets(st.sampled_from([name for name in ("e", "e2", "x") if name in cells] or ["none"])))
    if "record" in named:
        fields.append({"name": "r", "type": {"type": "record", "name": "R", "fields": [
            {"name": "a", "type": "string"}, {"name": "b", "type": ["null", "double"]}]}})  # fmt: skip
        cells["r"] = st.fixed_dictionaries({"a": st.text(max_size=3), "b": st.none() | st.floats()})
    schema = {"type": "record", "name": "Row", "fields": [*draw(st.permutations(fields)), *last]}
    return avro_schema(json.dumps(schema)), st.fixed_dictionaries(cells), wanted


def written(schema, record):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, record)
    return stream.getvalue()


def plainly(schema, value):
    stream = io.BytesIO(value)
    try:
        record = fastavro.schemaless_reader(stream, schema, None)
    except Exception:
        return None
    return record if stream.tell() == len(value) else None


def damaged(draw, value):
    raw = bytearray(value)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=2) | st.sampled_from([b"\xff" * 10, b"\x80\0"]))  # fmt: skip
    return bytes(raw)


def held_against_fastavro(schema, values, wanted, skip=0):
    """Compares what is read, and returns the numbers of the values that are."""
    plan = avro_records.plan_of(schema, wanted)
    found = avro_records.read_each(plan, [b"?" * skip + value for value in values], skip)
    rows = found.rows.tolist()
    records = [plainly(schema, values[i]) for i in rows]
    assert None not in records
    kinds = arrow_schema(schema)
    for name in wanted:
        if name not in kinds.names:
            assert found.column(name) is None
            continue
        column = found.column(name)
        column.validate(full=True)
        if str(kinds.field(name).type) == "string":  # of a UUID, too
            assert column.to_pylist() == [None if record[name] is None else str(record[name]) for record in records]
            continue
        cells, _ = python_column([record[name] for record in records], kinds.field(name).type)
        assert column.type == cells.type
        assert repr(column.to_pylist()) == repr(cells.to_pylist())
        if str(column.type) in ("float", "double"):  # zeros with their sign
            np.testing.assert_array_equal(np.signbit(column.to_numpy(False)), np.signbit(cells.to_numpy(False)))
    return rows


@settings(max_examples=300, deadline=None)
@given(schemas(), st.data(), st.sampled_from([0, 5]))
def test_what_is_read_is_what_fastavro_reads(made, data, skip):
    schema, record, wanted = made
    values = [written(schema, data.draw(record)) for _ in range(data.draw(st.integers(1, 4)))]
    good = held_against_fastavro(schema, values, wanted, skip)
    assert good == [i for i, value in enumerate(values) if all(abs(n) < 2**62 for n in longs(plainly(schema, value)))]
    values = [damaged(data.draw, value) if data.draw(st.booleans()) else value for value in values]
    held_against_fastavro(schema, values, [*wanted, "of another schema"], skip)


def longs(record):
    return [value for value in record.values() if type(value) is int]


FLAT = avro_schema(json.dumps({"type": "record", "name": "R", "fields": [
    {"name": "x", "type": "double"}, {"name": "s", "type": ["null", "string"]}]}))  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries({"x": st.floats(), "s": st.none() | st.text(max_size=4)}), max_size=5),
       st.binary(max_size=2))  # fmt: skip
@example([{"x": 1.0, "s": None}], b"\0")
def test_a_run_of_records_is_read_as_a_whole_or_not_at_all(records, more):
    plan = avro_records.plan_of(FLAT, ["s", "x"])
    block, n = b"".join(written(FLAT, record) for record in records), len(records)
    found = avro_records.read_run(plan, [(n, block), (0, b""), (n, block)])
    assert found.column("s").to_pylist() == [record["s"] for record in records] * 2
    assert repr(found.column("x").to_pylist()) == repr([record["x"] for record in records] * 2)
    for wrong in ((n, block + b"\0"), (n, block + more + b"\0"), (n, block[:-1]), (n + 1, block), (-1, block)):
        if records:
            assert avro_records.read_run(plan, [(n, block), wrong]) is None
    if records:  # that go on in the next block
        assert avro_records.read_run(plan, [(n, block[:-1]), (n, block[-1:] + block)]) is None


@pytest.mark.parametrize("kind", [
    {"type": "array", "items": "double"}, {"type": "map", "values": "int"},
    ["null", {"type": "record", "name": "P", "fields": [{"name": "x", "type": "int"}]}],
    {"type": "bytes", "logicalType": "decimal", "precision": 2000},
    {"type": "fixed", "name": "F", "size": 65, "logicalType": "decimal", "precision": 100},
], ids=str)  # fmt: skip
def test_what_is_not_flat_has_no_plan(kind):
    fields = [{"name": "x", "type": "double"}, {"name": "y", "type": kind}]
    schema = avro_schema(json.dumps({"type": "record", "name": "R", "fields": fields}))
    assert avro_records.plan_of(schema, ["x"]) is None


@pytest.mark.parametrize("kind", [
    ["int", "string"], ["int", "double"], {"type": "bytes", "logicalType": "decimal", "precision": 4},
    {"type": "record", "name": "P", "fields": [{"name": "x", "type": "int"}]},
], ids=str)  # fmt: skip
def test_what_can_only_be_passed_over_has_a_plan_unless_it_is_wanted(kind):
    fields = [{"name": "x", "type": "double"}, {"name": "y", "type": kind}]
    schema = avro_schema(json.dumps({"type": "record", "name": "R", "fields": fields}))
    assert avro_records.plan_of(schema, ["x"]) is not None
    assert avro_records.plan_of(schema, ["x", "y"]) is None


def test_numbers_are_odd_where_python_would_take_others_or_none():
    bounds = {"int-date": (-719162, 2932896), "int-time-millis": (0, 86399999), "long-time-micros": (0, 86399999999),
              "long-timestamp-millis": (-62135596800000, 253402300799999),
              "long-timestamp-micros": (-62135596800000000, 253402300799999999)}  # fmt: skip
    for name, (low, high) in bounds.items():
        own, _, logical = name.partition("-")
        schema, stored = (avro_schema(json.dumps({"type": "record", "name": "R", "fields": [
            {"name": "t", "type": {"type": own, "logicalType": kind}}]})) for kind in (logical, "none"))  # fmt: skip
        values = [written(stored, {"t": t}) for t in (low - 1, low, high, high + 1)]
        assert held_against_fastavro(schema, values, ["t"]) == [1, 2], name


def test_records_one_by_one_are_read_when_they_are_asked_for():
    asked = []
    records = OneByOne(lambda i: asked.append(i) or f"record {i}", np.array([3, 5, 8]))
    assert (len(records), asked) == (3, [])
    assert records[1:][0] == "record 5"
    assert asked == [5]
