"""Summarize as a composite in somebody's own pipeline."""
import collections
import dataclasses
import math
import typing

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.display import DisplayData
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from jobs import LOCAL, TWO_WORKERS, arrow_rows, clusters, counters, parts_of, run, without_beam

from beam_coresets import table_schemas, tables
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import PointBlock
from beam_coresets.points.scale import Scale
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.summarize import Summarize
from beam_coresets.transforms.writing.records import ROWS, CenterRow, SummaryRow

PLAN = Plan(k=4, shards=5, replication=3, coreset_size=50, drop_shards=(1, 3))
EMPTY = parts_of(np.empty((0, 3), np.float32), parts=1)


class Place(typing.NamedTuple):
    x: float
    y: float
    z: float
    name: str


def of_blocks(blocks, plan=PLAN, options=LOCAL, **more):
    """All outputs of Summarize over a PCollection of blocks."""
    create = beam.Create(blocks).with_output_types(PointBlock)
    return run(lambda p: (p | create | Summarize(plan, **more))._asdict(), options)


def as_table(rows, name):
    """Rows in a fixed order, as the written tables have them."""
    return arrow_rows(rows, table_schemas.SCHEMAS[name])


@pytest.mark.parametrize("options", [LOCAL, TWO_WORKERS], ids=["one worker", "two workers"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_result_is_the_direct_calls(options, weighted):
    weights = np.arange(2000) % 5 / 2 if weighted else None
    blocks = parts_of(clusters(2000), weights=weights)
    held, result = of_blocks(blocks, options=options)
    expected = without_beam(blocks, PLAN)
    (decided,) = held["decided"]
    for name in table_schemas.TABLES:
        assert decided.table(name).equals(expected.table(name))
        assert tables.encode(decided.table(name), "avro") == tables.encode(expected.table(name), "avro")
        assert as_table(held[name], name).equals(expected.table(name).select(table_schemas.SCHEMAS[name].names))
    assert held["dead_letters"] == []
    assert held["summaries"][0].refused is None, "whoever made the blocks has not told what was refused"
    found = counters(result)
    assert (found["points_assigned"], found["shards_answered"], found["shards_missing"]) == (2000, 3, 2)


def test_the_order_of_blocks_changes_nothing():
    blocks = parts_of(clusters(2000), parts=4, rows=90)
    expected = without_beam(blocks, PLAN)
    held, _ = of_blocks(blocks[::-1])
    assert held["decided"][0].coreset.equals(expected.coreset)
    assert held["decided"][0].centers.equals(expected.centers)


def test_another_seed_gives_another_coreset():
    blocks = parts_of(clusters(2000))
    one, two = (without_beam(blocks, Plan(k=4, coreset_size=50, seed=seed)) for seed in (0, 1))
    assert not one.coreset.equals(two.coreset)


ROWS_OF = {
    "dicts": (lambda p: dict(zip("xyz", p, strict=True), name="a"), Columns(("x", "y", "z"), keep_columns=("name",))),
    "NamedTuples": (lambda p: Place(*p, "a"), Columns(keep_columns=("name",))),
    "Beam rows": (lambda p: beam.Row(x=p[0], y=p[1], z=p[2], name="a"), Columns(keep_columns=("name",))),
    "vectors in dicts": (lambda p: {"v": p, "name": "a"}, Columns(vector_column="v", keep_columns=("name",))),
    "arrays": (lambda p: np.array(p), None),
}


@pytest.mark.parametrize("kind", ROWS_OF)
def test_plain_rows_of_any_kind(kind):
    make, columns = ROWS_OF[kind]
    points = clusters(600)
    rows = [make(p) for p in points.astype(np.float64).tolist()]

    def build(pipeline):
        result = pipeline | beam.Create(rows) | Summarize(k=4, shards=3, replication=2, columns=columns)
        return {"centers": result.centers, "coreset": result.coreset, "summaries": result.summaries}

    held, _ = run(build)
    assert held["summaries"][0].points == 600
    assert len(held["centers"]) == 4
    real = {tuple(p) for p in points.astype(np.float64).tolist()}
    assert {tuple(row.coordinates) for row in held["coreset"]} <= real
    if columns is not None:
        assert {row.kept["name"] for row in held["coreset"]} == {"a"}


def test_blocks_that_are_not_declared_as_such_are_not_taken_for_rows():
    create = beam.Create(parts_of(clusters(9))).with_output_types(typing.Any)
    with pytest.raises(TypeError, match=r"rows: must be declared by \.with_output_types\(PointBlock\)"):
        run(lambda p: (p | create | Summarize(PLAN))._asdict())


def test_bad_rows_are_dead_letters_and_the_rest_goes_on():
    rows = [{"x": float(i), "y": None if i % 10 == 3 else 1.0} for i in range(200)]
    columns = Columns(("x", "y"))

    def build(pipeline):
        return (pipeline | beam.Create(rows) | Summarize(k=2, columns=columns))._asdict()

    held, result = run(build)
    assert {(letter.reason, letter.column_name) for letter in held["dead_letters"]} == {("null", "y")}
    assert (held["summaries"][0].points, held["summaries"][0].refused) == (180, 20)
    assert counters(result)["dead_letters"] == counters(result)["dead_letters_null"] == 20

    def strict(pipeline):
        return (pipeline | beam.Create(rows) | Summarize(k=2, columns=columns, max_bad_rows=19))._asdict()

    with pytest.raises(ValueError, match=r"max_bad_rows: at most 19 .* got 20 \(null in 'y': 20\); first: .*row"):
        run(strict)


def test_each_window_has_an_answer():
    points = {0: clusters(700), 60: clusters(500, seed=1), 180: clusters(300, seed=2)}
    stamped = [TimestampedValue(block, start + 7) for start, p in points.items() for block in parts_of(p)]

    def build(pipeline):
        windowed = pipeline | beam.Create(stamped) | beam.WindowInto(FixedWindows(60))
        return (windowed | "Typed" >> beam.Map(lambda b: b).with_output_types(PointBlock) | Summarize(PLAN))._asdict()

    held, _ = run(build)
    assert len(held["summaries"]) == 3
    for start, p in points.items():
        expected = without_beam(parts_of(p), PLAN, window=Window(float(start), start + 60.0))
        for name in table_schemas.TABLES:
            rows = [row for row in held[name] if row.window_start == start]
            assert {float(row.window_end) for row in rows} == {start + 60.0}
            assert as_table(rows, name).equals(expected.table(name).select(table_schemas.SCHEMAS[name].names))


def test_plain_rows_keep_their_windows():
    stamped = [TimestampedValue([float(i), float(i % 7)], i) for i in range(200)]

    def build(pipeline):
        windowed = pipeline | beam.Create(stamped) | beam.WindowInto(FixedWindows(100))
        return (windowed | Summarize(k=2, columns=Columns(dim=2)))._asdict()

    held, _ = run(build)
    assert sorted((float(r.window_start), float(r.window_end), r.points) for r in held["summaries"]) == [
        (0.0, 100.0, 100), (100.0, 200.0, 100),
    ]  # fmt: skip


def test_bad_rows_of_all_windows_are_counted_together():
    stamped = [TimestampedValue([float(i), math.nan if i % 50 == 7 else 1.0], i) for i in range(200)]

    def build(pipeline, limit):
        windowed = pipeline | beam.Create(stamped) | beam.WindowInto(FixedWindows(100))
        return (windowed | Summarize(k=2, columns=Columns(dim=2), max_bad_rows=limit))._asdict()

    held, _ = run(lambda p: build(p, 4))
    assert [(row.points, row.refused) for row in held["summaries"]] == [(98, 2), (98, 2)]
    with pytest.raises(ValueError, match="max_bad_rows: at most 3 rows may be refused, got 4"):
        run(lambda p: build(p, 3))


@pytest.mark.parametrize("blocks", [[], EMPTY], ids=["no blocks", "an empty block"])
def test_nothing_in_gives_one_summary_and_no_centers(blocks):
    held, _ = of_blocks(blocks)
    (row,) = held["summaries"]
    assert (row.total_weight, row.points, row.centers) == (0, 0, 0)
    assert row.cost is None
    assert held["centers"] == held["coreset"] == []


@pytest.mark.parametrize(("asked", "missing"), [({"weak": True}, "outliers"), ({"outliers": 5}, "candidates")])
def test_rows_go_through_shuffles_and_attribute_access(asked, missing):
    blocks = parts_of(clusters(800))
    checked = PipelineOptions(pipeline_type_check=True)
    with test_pipeline.TestPipeline(runner="BundleBasedDirectRunner", options=checked) as p:
        plan = dataclasses.replace(PLAN, **asked)
        result = p | beam.Create(blocks).with_output_types(PointBlock) | Summarize(plan)
        assert getattr(result, missing) is None
        names = {name: getattr(result, name).element_type for name in ROWS if name != missing}
        assert names == {name: kind for name, kind in ROWS.items() if name != missing}
        weights = result.centers | beam.Reshuffle() | beam.Map(lambda row: row.weight)
        total = weights | beam.CombineGlobally(sum) | beam.Map(round)
        assert_that(total, equal_to([800 - asked.get("outliers", 0)]), label="all weight is in the centers")
        covered = result.summaries | beam.Select("coverage", "points") | beam.Map(tuple)
        assert_that(covered, equal_to([(1.0, 800)]), label="everything is covered")


def test_a_portable_runner_gives_the_same():
    options = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
    blocks = parts_of(clusters(800))
    held, _ = of_blocks(blocks, options=options)
    assert held["decided"][0].coreset.equals(without_beam(blocks, PLAN).coreset)


def test_type_hints_hold_at_run_time():
    held, _ = of_blocks(parts_of(clusters(300)), options=(*LOCAL, "--runtime_type_check"))
    assert held["summaries"][0].points == 300


def test_two_in_one_pipeline_with_labels_of_their_own():
    one, two = parts_of(clusters(600)), parts_of(clusters(400, seed=1))
    pipeline = beam.Pipeline(options=PipelineOptions(LOCAL))
    for name, blocks in (("One", one), ("Two", two)):
        _ = pipeline | f"Create {name}" >> beam.Create(blocks).with_output_types(PointBlock) | name >> Summarize(PLAN)
    labels = []

    class Labels(PipelineVisitor):
        def visit_transform(self, node):
            labels.append(node.full_label)

    pipeline.visit(Labels())
    assert max(collections.Counter(labels).values()) == 1
    assert sum(label.startswith("Two/") for label in labels) == sum(label.startswith("One/") for label in labels) > 9
    pipeline.run().wait_until_finish()


def test_dead_letters_of_the_source_are_counted_with_its_own():
    letters = [DeadLetter("nan", "x", "a.csv", f"row {i}", "") for i in range(3)]

    def build(pipeline, limit):
        earlier = pipeline | "Letters" >> beam.Create(letters).with_output_types(DeadLetter)
        rows = pipeline | beam.Create([{"x": 1.0}, {"x": math.nan}, {"x": 2.0}])
        step = Summarize(k=2, columns=Columns(("x",)), dead_letters=earlier, max_bad_rows=limit)
        return (rows | step)._asdict()

    held, _ = run(lambda p: build(p, 4))
    assert len(held["dead_letters"]) == held["summaries"][0].refused == 4
    with pytest.raises(ValueError, match=r"got 4 \(nan in 'x': 4\)"):
        run(lambda p: build(p, 3))


def test_display_data_and_what_is_wrongly_given():
    shown = {item.key: item.value for item in DisplayData.create_from(Summarize(PLAN)).items}
    assert (shown["k"], shown["shards"], shown["replication"], shown["drop_shards"]) == (4, 5, 3, "(1, 3)")
    with pytest.raises(TypeError, match="plan: must be the only parameter, got also k, z"):
        Summarize(PLAN, k=3, z=1.0)
    with pytest.raises(ValueError, match="scale: must be left out with metric cosine"):
        Summarize(k=3, metric="cosine", scale=Scale((0.0,), (1.0,)))
    pipeline = beam.Pipeline()
    result = pipeline | beam.Create(EMPTY).with_output_types(PointBlock) | Summarize(PLAN)
    with pytest.raises(beam.typehints.TypeCheckError):
        _ = result.centers | beam.Map(lambda row: row).with_input_types(SummaryRow)
    assert result.centers.element_type is CenterRow
