"""ReportStream and SummarizeUnbounded: early reports without the watermark, the last one at it, nothing lost."""
import dataclasses
import pickle

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing import test_stream
from apache_beam.transforms.window import TimestampedValue
from jobs import CENTERS, clusters, parts_of, run, without_beam

from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.points.block import PointBlock, Span, blocks_of
from beam_coresets.points.nearest import nearest
from beam_coresets.points.scale import Scale
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.shards.report import WHOLE, Range, ShardReport, finished_parts
from beam_coresets.streaming.trigger import Patience
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.table_schemas import in_seconds
from beam_coresets.transforms.base.keys import parse_key
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.shards import report_stream
from beam_coresets.transforms.shards.report_stream import ReportStream
from beam_coresets.transforms.summarize_stream import SummarizeUnbounded

ON_TEST_STREAM = ("--runner=BundleBasedDirectRunner", "--streaming")
PLAN = Plan(k=4, shards=3, replication=2, coreset_size=60, buckets=64)
WINDOWS = WindowSpec("fixed", 10, 10)
BLOCKS = list(blocks_of(clusters(1500), rows=300))
_NOW = [0.0]


def now():
    """The job's clock: set by `at`."""
    return _NOW[0]


def at(time, block=None, event=1001.0):
    """A block (an empty one by default) on whose arrival the job's clock is set."""
    block = BLOCKS[0].take(np.arange(0)) if block is None else block
    return TimestampedValue(dataclasses.replace(block, span=Span(0, int(time))), event)


def _tick(block):
    _NOW[0] = float(block.span.ordinal)
    return block


def stream(element=PointBlock):
    return test_stream.TestStream(coder=beam.coders.registry.get_coder(element)).advance_watermark_to(1000)


def reported(events, plan=PLAN, **options):
    """What comes out, in order."""
    _NOW[0] = 0.0
    step = ReportStream(plan.merge_reduce, WINDOWS, clock=now, **options)
    held, _ = run(
        lambda p: {"out": p | events | beam.Map(_tick).with_output_types(PointBlock) | step}, ON_TEST_STREAM
    )
    return held["out"]


def of_shard(found, shard, pane=1000):
    return [report for key, report in found if report.shard == shard and parse_key(key)[0] == pane]


def test_early_reports_then_the_last_one_then_late_ones():
    events = (
        stream()
        .add_elements([at(1, BLOCKS[0]), at(1, BLOCKS[1], 1009.0)])
        .advance_processing_time(5)  # no watermark has moved
        .advance_processing_time(5)  # nothing new, nothing said
        .add_elements([at(12, BLOCKS[2], 1003.0)])
        .advance_watermark_to(1010)
        .add_elements([at(13, BLOCKS[3], 1004.0)])
        .advance_processing_time(5)
        .advance_watermark_to_infinity()
    )
    found = reported(events)
    assert {key for key, _ in found} == {"1000000/1010000/"}
    for shard in range(3):
        early, last, late = of_shard(found, shard)
        rows = [report.ledger.rows for report in (early, last, late)]
        ends = np.cumsum(rows).tolist()
        assert early.ranges == (Range(WHOLE, 0, ends[0], rows[0]),)
        assert last.ranges == (Range(WHOLE, ends[0], ends[1], rows[1], total=ends[1]),)
        assert late.ranges == (Range(WHOLE, ends[1], ends[2], rows[2], late=True),)
    assert sum(report.ledger.rows for _, report in found) == 2 * 1200


def test_a_shard_without_rows_says_so_too():
    row = BLOCKS[0].take(np.arange(1))
    events = stream().add_elements([at(1, row)]).advance_watermark_to_infinity()
    found = reported(events)
    assert sorted(report.ledger.rows for _, report in found if report.ranges[0].total >= 0) == [0, 1, 1]
    assert all(finished_parts(report.ranges) == [WHOLE] for _, report in found)


def test_the_pane_stays_open_for_the_disorder():
    events = (
        stream()
        .add_elements([at(1, BLOCKS[0])])
        .advance_watermark_to(1012)
        .add_elements([at(2, BLOCKS[1], 1002.0)])
        .advance_watermark_to(1013)
        .add_elements([at(3, BLOCKS[2], 1002.0)])
        .advance_watermark_to_infinity()
        .advance_processing_time(5)
    )
    found = reported(events, disorder=3.0)
    last, late = of_shard(found, 0)
    assert last.ranges[0].total == last.ledger.rows > 300
    assert (late.ranges[0].late, late.ranges[0].total) == (True, -1)


def test_what_a_shard_knows_of_a_pane_is_forgotten_after_the_retention():
    def events(later):
        return (
            stream()
            .add_elements([at(1, BLOCKS[0])])
            .advance_processing_time(5)
            .advance_watermark_to(1010)
            .add_elements([at(later, event=1021.0)])
            .advance_processing_time(later - 5)
            .add_elements([at(later, BLOCKS[1])])
            .advance_processing_time(5)
            .advance_watermark_to_infinity()
        )

    for later, forgotten in ((1100, False), (1111, True)):  # 1010 s, the pane's end, and 100 s
        found = reported(events(later), retention=100.0)
        starts = [report.ranges[0].start for report in of_shard(found, 0) if report.ledger.rows]
        assert starts[0] == 0
        assert (starts[1] == 0) == forgotten
        assert of_shard(found, 0)[2].ranges[0].late != forgotten


def test_ledgers_are_those_of_the_batch_job_and_small_blocks_are_compacted(monkeypatch):
    monkeypatch.setattr(report_stream, "COMPACT_AFTER", 3)
    blocks = parts_of(clusters(3000), rows=100)
    batch = {report.shard: report for report in shard_reports(blocks, PLAN.merge_reduce)}
    events = stream().add_elements([at(1, block) for block in blocks]).advance_watermark_to_infinity()
    found = reported(events)
    assert len(found) == 3
    for _, report in found:
        expected = batch[report.shard].ledger
        assert np.array_equal(report.ledger.counts, expected.counts)
        assert np.array_equal(report.ledger.checksums, expected.checksums)
        assert report.ledger.weight == pytest.approx(expected.weight, rel=1e-12)
        assert len(report.coreset) < 1.1 * PLAN.merge_reduce.node_size(3, 4)
        assert report.coreset.weights_ht.sum() == pytest.approx(expected.weight, rel=0.15)


def test_every_group_of_keys_is_told_and_a_row_is_in_one():
    names = np.array(["a", "b", "c"])[np.arange(300) % 3].tolist()
    names[0] = None
    keyed = dataclasses.replace(BLOCKS[0], extras=pa.table({"tenant": names, "note": names}))
    events = stream().add_elements([at(1, keyed)]).advance_watermark_to_infinity()
    found = reported(events, groups=4, key_column="tenant")
    rows, keys = {}, set()
    for key, report in found:
        group = parse_key(key)[2]
        rows.setdefault(report.shard, {})[group] = report.ledger.rows
        keys |= {(group, name) for name in report.keys if report.ledger.rows}
        assert report.ranges[0].total == report.ranges[0].stop
        if len(report.coreset):
            assert report.coreset.extras.column_names == ["note"]
    assert {tuple(sorted(groups)) for groups in rows.values()} == {("000", "001", "002", "003")}
    assert sum(sum(groups.values()) for groups in rows.values()) == 2 * 300
    assert sorted(name for _, name in keys) == ["", "a", "b", "c"]


def test_the_same_stream_gives_the_same_bytes():
    blocks = [at(1, block) for block in BLOCKS]
    events = [stream().add_elements(b).advance_watermark_to_infinity() for b in (blocks, blocks)]
    first, second = (sorted((key, report.to_bytes()) for key, report in reported(e)) for e in events)
    assert first == second


def summarized(events, windows=WINDOWS, patience=None, **options):
    _NOW[0] = 0.0
    plan = StreamPlan(PLAN, windows, patience, disorder=0.0, clock=now)
    step = SummarizeUnbounded(plan, **options)

    def build(pipeline):
        points = pipeline | events
        if "columns" not in options:
            points = points | beam.Map(_tick).with_output_types(PointBlock)
        result = points | step
        return {"decided": result.decided, "late": result.late, "letters": result.dead_letters}

    return run(build, ON_TEST_STREAM)[0]


def test_a_window_is_worth_what_the_batch_job_says():
    events = stream().add_elements([at(1, block) for block in BLOCKS]).advance_watermark_to_infinity()
    (summary,) = summarized(events)["decided"]
    expected = without_beam(BLOCKS, PLAN).table("summaries").to_pylist()[0]
    (row,) = in_seconds(summary.table("summaries")).to_pylist()
    assert (row["window_start"], row["window_end"], row["reason"]) == (1000.0, 1010.0, "all")
    for name in ("points", "responded", "coverage", "delta", "centers", "scheme", "distrusted"):
        assert row[name] == expected[name]
    assert row["total_weight"] == pytest.approx(expected["total_weight"], rel=1e-12)
    assert row["cost"] == pytest.approx(expected["cost"], rel=0.2)


def test_the_window_in_the_middle_of_which_a_stream_begins_says_so():
    events = stream().add_elements([at(1, BLOCKS[0]), at(1, BLOCKS[1], 1012.0)]).advance_watermark_to_infinity()
    rows = [in_seconds(s.table("summaries")).to_pylist()[0] for s in summarized(events, begins=1004.0)["decided"]]
    found = {row["window_start"]: (row["coverage"], row["partial"] > 0, row["points"], row["reason"]) for row in rows}
    assert found == {1000.0: (0.0, True, 300, "all"), 1010.0: (1.0, False, 300, "all")}


def test_a_watermark_that_stands_holds_no_window_past_its_cap():
    patience = Patience(deadline=1.0, grace=0.0, cap=20.0, min_shards=3)
    events = (
        stream()
        .add_elements([at(1, BLOCKS[0])])
        .advance_processing_time(5)
        .add_elements([at(1031, event=1021.0)])
        .advance_processing_time(1030)  # the deadline is for shards that are final, and none is
        .advance_processing_time(30)
        .add_elements([at(1032, BLOCKS[1])])
        .advance_processing_time(5)
    )
    found = summarized(events, patience=patience)
    (row,) = found["decided"][0].table("summaries").to_pylist()
    assert (row["reason"], row["points"], row["stragglers"]) == ("cap", 300, [0, 1, 2])
    assert sum(late.row_count for late in found["late"]) == 2 * 300


def test_a_scale_is_applied_and_taken_back():
    events = stream().add_elements([at(1, block) for block in BLOCKS]).advance_watermark_to_infinity()
    (summary,) = summarized(events, scale=Scale((5.0, 5.0, 5.0), (2.0, 2.0, 2.0)))["decided"]
    found = np.array([row["coordinates"] for row in summary.table("centers").to_pylist()])
    assert np.sqrt(nearest(CENTERS, found)[1]).max() < 0.5
    (row,) = summary.table("summaries").to_pylist()
    assert row["cost"] == pytest.approx(1500 * 3 / 4, rel=0.2)  # in scaled units


def test_plain_rows_have_keys_and_dead_letters():
    points = clusters(400).tolist()
    rows = [{"x": p[0], "y": p[1], "who": "ab"[i % 2]} for i, p in enumerate(points)] + [{"x": 1.0, "who": "a"}]
    stamped = [TimestampedValue(row, 1002.0) for row in rows]
    events = stream(dict).add_elements(stamped).advance_watermark_to_infinity()
    found = summarized(events, columns=Columns(("x", "y")), key_column="who")
    (summary,) = found["decided"]
    assert {row["key"]: row["points"] for row in summary.table("summaries").to_pylist()} == {"a": 200, "b": 200}
    assert [letter.column_name for letter in found["letters"]] == ["y"]


@pytest.mark.parametrize(("options", "message"), [
    ({"every": 0.0}, "every: must be positive, got 0.0"),
    ({"disorder": -1.0}, "disorder: must be at least 0 seconds, got -1.0"),
    ({"retention": float("inf")}, "retention: must be at least 0 seconds, got inf"),
    ({"groups": 0}, "groups: must be at least 1, got 0"),
])  # fmt: skip
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ReportStream(PLAN.merge_reduce, WINDOWS, **options)


def test_parts_held_shards_and_taken_names_are_refused():
    of_parts = dataclasses.replace(PLAN.merge_reduce, assignment=StreamPlan(PLAN, WINDOWS).assignment(4))
    with pytest.raises(ValueError, match="assignment: must have hashed buckets"):
        ReportStream(of_parts, WINDOWS)
    with pytest.raises(ValueError, match="hold_shards: must be left out"):
        SummarizeUnbounded(StreamPlan(PLAN, WINDOWS, hold=((0, 0.0, 1.0),)))
    rows = beam.Pipeline() | beam.Create([{"x": 1.0}])
    with pytest.raises(ValueError, match="key_column: must not be called as the output"):
        _ = rows | SummarizeUnbounded(StreamPlan(PLAN, WINDOWS), Columns(("x",)), key_column="key")


def test_types_and_pickling():
    step = pickle.loads(pickle.dumps(ReportStream(PLAN.merge_reduce, WINDOWS)))
    out = beam.Pipeline() | beam.Create(BLOCKS).with_output_types(PointBlock) | step
    assert out.element_type == beam.typehints.Tuple[str, ShardReport]
