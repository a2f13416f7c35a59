"""The tables' rows as Beam rows: schema'd, and the same as the tables."""

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam import coders
from apache_beam.portability.api import schema_pb2
from apache_beam.typehints import schemas
from jobs import arrow_rows, clusters, parts_of, run, without_beam

from beam_coresets import table_schemas
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.writing.records import ROWS, CandidateRow, CenterRow, CoresetRow, rows_of

PLAN = Plan(k=4, shards=4, replication=2, coreset_size=40)


def with_extras(blocks):
    found = []
    for block in blocks:
        n = len(block)
        extras = pa.table({
            "id": [f"user {i}" for i in range(n)],
            "group": ["a", None] * (n // 2) + ["b"] * (n % 2),
            "day": pa.array([None] * n, pa.date32()),
            "code": pa.array(range(n), pa.int64()),
        })
        found.append(PointBlock(block.points, block.weights, block.ids, block.span, None, extras))
    return found


SUMMARY = without_beam(with_extras(parts_of(clusters(900))), PLAN)


@pytest.mark.parametrize("table", ["summaries", "centers", "columns"])
def test_fields_are_the_tables_columns(table):
    assert ROWS[table]._fields == tuple(table_schemas.SCHEMAS[table].names)
    rows = list(rows_of(SUMMARY, table))
    assert arrow_rows(rows, table_schemas.SCHEMAS[table]).equals(SUMMARY.table(table))


def test_kept_columns_become_text():
    rows = list(rows_of(SUMMARY, "coreset"))
    assert CoresetRow._fields == (*table_schemas.CORESET.names, "kept")
    assert arrow_rows(rows, table_schemas.CORESET).equals(SUMMARY.coreset.select(table_schemas.CORESET.names))
    codes = SUMMARY.coreset.column("code").to_pylist()
    assert [row.kept for row in rows] == [{"day": None, "code": str(code)} for code in codes]
    assert {row.group_label for row in rows} <= {"a", "b", None}


@pytest.mark.parametrize("table", table_schemas.TABLES)
def test_they_have_a_schema_and_a_row_coder(table):
    kind = ROWS[table]
    coder = coders.registry.get_coder(kind)
    assert isinstance(coder, coders.RowCoder)
    proto = schemas.typing_to_runner_api(kind)
    assert proto.WhichOneof("type_info") == "row_type"
    assert [field.name for field in proto.row_type.schema.fields] == list(kind._fields)
    assert isinstance(proto, schema_pb2.FieldType)
    for row in rows_of(SUMMARY, table):
        back = coder.decode(coder.encode(row))
        assert type(row) is kind
        assert back == row


def test_an_empty_answer_is_a_row_too():
    nothing = without_beam(parts_of(clusters(0)), PLAN)
    (row,) = rows_of(nothing, "summaries")
    assert (row.points, row.total_weight, row.centers) == (0, 0.0, 0)
    assert row.cost is None
    coder = coders.registry.get_coder(type(row))
    assert coder.decode(coder.encode(row))._replace(cost=0, cost_low=0, cost_high=0, delta=0) == row._replace(
        cost=0, cost_low=0, cost_high=0, delta=0
    )
    assert list(rows_of(nothing, "centers")) == list(rows_of(nothing, "coreset")) == []


def test_candidates_are_rows_too():
    plan = Plan(k=3, shards=3, coreset_size=60, weak=True, candidates=20)
    weak = without_beam(parts_of(clusters(900)), plan)
    rows = list(rows_of(weak, "candidates"))
    assert len(rows) == 20
    assert arrow_rows(rows, table_schemas.CANDIDATES).equals(weak.candidates)
    coder = coders.registry.get_coder(CandidateRow)
    assert [coder.decode(coder.encode(row)) for row in rows] == rows
    assert list(rows_of(SUMMARY, "candidates")) == []


def test_a_center_may_have_no_nearest_row():
    row = CenterRow(None, None, "", 1, 0, [1.0], 0.0, 0.0, *[None] * 9)
    coder = coders.registry.get_coder(CenterRow)
    assert coder.decode(coder.encode(row)) == row


def test_other_transforms_take_them_by_field_name():
    def build(pipeline):
        rows = pipeline | beam.Create(list(rows_of(SUMMARY, "coreset"))).with_output_types(CoresetRow)
        by_bucket = rows | beam.GroupBy("bucket").aggregate_field("weight", sum, "total")
        renamed = rows | beam.Select("id", double=lambda row: 2 * row.weight) | beam.Reshuffle()
        return {"total": by_bucket, "double": renamed}

    held, _ = run(build)
    table = SUMMARY.coreset.group_by("bucket").aggregate([("weight", "sum")]).to_pylist()
    assert {r.bucket: pytest.approx(r.total) for r in held["total"]} == {r["bucket"]: r["weight_sum"] for r in table}
    assert sum(r.double for r in held["double"]) == pytest.approx(2 * 900)
