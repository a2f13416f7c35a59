"""The output formats: every kept column can be written, equal tables give equal bytes, and what was written is read."""
import datetime
import decimal
import io
import json
import math

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from laws import random_block

from beam_coresets import __version__, table_schemas, tables
from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.points.block import Span
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.streaming.windows import Window

SCHEME = Assignment(3, 2, "cyclic", 24)
SAMPLER = Sampler(3, 30)


def decision(rows=80, blocks=3, **options):
    parts = [random_block(rows, Span(0, i, i == blocks - 1), **options) for i in range(blocks)]
    return decide(shard_reports(parts, MergeReduce(SAMPLER, SCHEME)), Policy(SCHEME))


KEPT = {  # Arrow values, and what they are in Avro and in JSON lines
    "text": (pa.array(["é", None]), ["é", None], None),
    "whole": (pa.array([2**62, None]), [2**62, None], None),
    "unsigned": (pa.array([2**63 + 1, None], pa.uint64()), ["9223372036854775809", None], None),
    "real": (pa.array([1.5, None]), [1.5, None], None),
    "flag": (pa.array([True, None]), [True, None], None),
    "time": (pa.array([datetime.datetime(2020, 1, 2), None]), ["2020-01-02T00:00:00", None], None),
    "money": (pa.array([decimal.Decimal("1.50"), None]), ["1.50", None], None),
    "raw": (pa.array([b"\xff\x00", None]), [b"\xff\x00", None], ["/wA=", None]),
    "record": (pa.array([{"a": 1}, None]), ['{"a": 1}', None], [{"a": 1}, None]),
    "category": (pa.array(["a", None]).dictionary_encode(), ["a", None], None),
    "nothing": (pa.nulls(2), [None, None], None),
    "reals": (pa.array([[1.0, 2.0], None]), [[1.0, 2.0], None], None),
    "whole list": (pa.array([[1, None], []]), [[1, None], []], None),
    "times": (pa.array([[datetime.datetime(2020, 1, 2), None], None]), [["2020-01-02T00:00:00", None], None], None),
    "raw list": (pa.array([[b"a"], None]), [[b"a"], None], [["YQ=="], None]),
    "nested": (pa.array([[[1.0], None], []]), [[[1.0], None], []], None),
    "pair": (pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)), [[1, 2], [3, 4]], None),
    "odd name: é.1": (pa.array([1, 2]), [1, 2], None),
}


@pytest.mark.parametrize("form", ["avro", "jsonl"])
@pytest.mark.parametrize("name", KEPT)
def test_every_kept_column_can_be_written(name, form):
    values, in_avro, in_json = KEPT[name]
    table = tables.decode(tables.encode(pa.table({name: values}), form), form)
    assert table.column(name).to_pylist() == (in_json if form == "jsonl" and in_json else in_avro)


def test_gaps_in_vectors_become_nan_in_avro():
    table = pa.table({"v": pa.array([[1.0, None], None])})
    first, second = tables.decode(tables.encode(table, "avro"), "avro").column("v").to_pylist()
    assert first[0] == 1.0
    assert math.isnan(first[1])
    assert second is None


def test_json_has_null_for_what_is_not_finite_however_deep():
    table = pa.table({
        "list": [[1.0, math.nan, None], None],
        "record": [{"a": [1.0, math.inf]}, None],
        "map": pa.array([[("a", math.nan)], None], pa.map_(pa.string(), pa.float64())),
        "real": [-math.inf, 1.0],
    })
    assert list(tables.json_lines(table)) == [
        b'{"list": [1.0, null, null], "record": {"a": [1.0, null]}, "map": {"a": null}, "real": null}',
        b'{"list": null, "record": null, "map": null, "real": 1.0}',
    ]


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_kept_columns_may_have_names_that_other_tables_or_older_ones_have(form):
    """`shard` and `group` were columns until schema 2, and `born` is a time of `centers`."""
    born = pa.array([datetime.datetime(1960, 1, 2, tzinfo=datetime.timezone.utc)] * 2, table_schemas.INSTANT)
    kept = {"shard": ["a", "b"], "group": ["c", "d"], "rows": [1, 2], "born": born}
    own = {f.name: pa.nulls(2, f.type) for f in table_schemas.CORESET} | {"shards": pa.array([[0], [1, 2]])}
    table = pa.table(own | kept)
    found = table_schemas.typed(tables.decode(tables.encode(table, form), form), "coreset")
    assert found.column_names == table.column_names
    assert found.column("shards").to_pylist() == [[0], [1, 2]]
    assert found.column("shard").to_pylist() == ["a", "b"]
    assert table_schemas.in_seconds(found).column("born").equals(found.column("born"))


def test_a_coreset_of_schema_1_may_have_kept_columns_that_are_called_as_today_s_own():
    old = {"window_start": [0.5], "weight_ht": [1.0], "shard": [3], "group": ["a"], "shards": [7], "group_label": ["b"]}
    found = table_schemas.typed(pa.table(old), "coreset").to_pylist()[0]
    assert (found["shards"], found["group_label"], found["shards_"], found["group_label_"]) == ([3], "a", 7, "b")


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_equal_tables_give_equal_bytes(form):
    table = pa.table({"a": range(100), "s": [None if i % 3 else str(i) for i in range(100)]})
    sliced = table.slice(10, 50)
    chunked = pa.concat_tables([table.slice(10, 20), table.slice(30, 30)])
    assert tables.encode(sliced, form) == tables.encode(chunked, form)
    assert tables.encode(sliced, form) == tables.encode(sliced.take(pa.array(range(50))), form)


def test_an_unknown_format_is_refused():
    for act in (lambda: tables.encode(pa.table({"a": [1]}), "csv"), lambda: tables.decode(b"", "csv")):
        with pytest.raises(ValueError, match="format: must be one of parquet, avro, jsonl, got 'csv'"):
            act()


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
@pytest.mark.parametrize("extras", [False, True])
def test_a_summary_is_read_as_it_was_written(form, extras):
    found = decision(extras=extras)
    summary = summarize(found, Question(SAMPLER), Window(10.0, 20.0, "blue", 2))
    for name in table_schemas.TABLES:
        table = summary.table(name)
        assert table.column_names[: len(table_schemas.SCHEMAS[name])] == table_schemas.SCHEMAS[name].names
        rows = table_schemas.typed(tables.decode(tables.encode(table, form), form), name).to_pylist()
        assert rows == table.to_pylist()
        rows = table_schemas.in_seconds(table).to_pylist()
        identity = {(r["window_start"], r["window_end"], r["key"], r["revision"]) for r in rows}
        assert identity == {(10.0, 20.0, "blue", 2)}
    if form == "jsonl":
        for line in tables.encode(summary.coreset, form).splitlines():
            json.loads(line)


def test_the_tables_agree_with_the_decision():
    found = decision(extras=True)
    summary = summarize(found, Question(SAMPLER))
    (row,) = summary.summaries.to_pylist()
    coreset, centers = summary.coreset.to_pylist(), summary.centers.to_pylist()
    assert (row["shards"], row["responded"], row["coverage"], row["version"]) == (3, [0, 1, 2], 1.0, __version__)
    assert (row["points"], row["coreset_points"], row["centers"]) == (240, len(coreset), len(centers))
    assert row["cost_low"] <= row["cost"] <= row["cost_high"]
    assert sum(r["weight"] for r in coreset) == pytest.approx(row["total_weight"])
    assert sum(r["weight"] for r in centers) == pytest.approx(row["total_weight"])
    assert all(SCHEME.matrix()[shard, r["bucket"]] for r in coreset for shard in r["shards"])
    ids = {r["id"] for r in coreset}
    assert all(i.startswith("row ") for i in ids)
    assert {c["representative_id"] for c in centers} <= ids
    nearest = min(coreset, key=lambda r: np.linalg.norm(np.subtract(r["coordinates"], centers[0]["coordinates"])))
    assert centers[0]["representative_id"] == nearest["id"]


def test_coordinates_come_back_in_the_users_units():
    scale = Scale((5.0, -1.0), (10.0, 0.5))
    found = decision()
    plain, scaled = (summarize(found, Question(SAMPLER), scale=s) for s in (None, scale))
    for name in ("centers", "coreset"):
        first = np.array(plain.table(name).column("coordinates").to_pylist())
        second = np.array(scaled.table(name).column("coordinates").to_pylist())
        np.testing.assert_allclose(second, first * [10.0, 0.5] + [5.0, -1.0])
        np.testing.assert_allclose(scale.apply(second), first, atol=1e-12)


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_known_columns_have_their_types_whatever_the_format(form):
    table = summarize(decision(), Question(SAMPLER), Window(10.0, 20.0), reason="cap", decided_at=31.5).summaries
    back = table_schemas.typed(tables.decode(tables.encode(table, form), form), "summaries")
    assert back.equals(table)
    older = table_schemas.typed(table.drop_columns(["evidence", "reason", "partial"]), "summaries")
    assert older.schema.equals(table.schema)
    assert older.column("evidence").null_count == 1
    assert table_schemas.in_seconds(older).column("decided_at").to_pylist() == [31.5]


def test_avro_messages_name_their_schema_and_hold_a_row_each():
    table = summarize(decision(), Question(SAMPLER)).centers
    schema = tables.avro_schema(table.schema)
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    head = b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    messages = list(tables.avro_messages(table))
    assert all(message.startswith(head) for message in messages)
    rows = [fastavro.schemaless_reader(io.BytesIO(message[10:]), schema) for message in messages]
    assert rows == table.to_pylist()
    assert [json.loads(line)["coordinates"] for line in tables.json_lines(table)] == [r["coordinates"] for r in rows]


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_an_empty_window_has_a_row_and_no_centers(form):
    summary = summarize(decide([], Policy(SCHEME)), Question(SAMPLER))
    (row,) = tables.decode(tables.encode(summary.summaries, form), form).to_pylist()
    assert (row["total_weight"], row["centers"], row["degraded"], row["responded"]) == (0.0, 0, True, [])
    assert (row["cost"], row["cost_low"], row["cost_high"]) == (None, None, None)
    assert len(summary.centers) == len(summary.coreset) == 0
    assert len(tables.decode(tables.encode(summary.coreset, form), form)) == 0


def test_ids_are_printed_as_what_they_were_made_of():
    found = decision()
    named = summarize(found, Question(SAMPLER), names={0: "part-0.csv"})
    assert all(i.startswith("part-0.csv#") for i in named.coreset.column("id").to_pylist())
    unnamed = summarize(found, Question(SAMPLER)).coreset.column("id").to_pylist()
    assert [int(i, 16) for i in unnamed] == list(dict.fromkeys(found.coreset.ids.tolist()))


def test_fewer_distinct_points_than_centers_gives_fewer_centers():
    block = random_block(60)
    same = block.take(np.zeros(60, np.int64))
    shards = shard_reports([type(block)(same.points, np.ones(60), block.ids, Span(0, 0, True))],
                           MergeReduce(SAMPLER, SCHEME))
    summary = summarize(decide(shards, Policy(SCHEME)), Question(SAMPLER))
    assert len(summary.centers) == 1
    assert summary.centers.column("weight").to_pylist() == pytest.approx([60.0])
