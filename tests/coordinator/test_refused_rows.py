"""RefusedRows rows: each is counted once, whoever has read it, and reports without any are as they were."""
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets import codec
from beam_coresets.coordinator.decision import decide
from beam_coresets.coordinator.evidence import unpack_evidence
from beam_coresets.coordinator.refused_rows import refused_of
from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.results.summary import summarize
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.shards.refused import RefusedRows, added
from beam_coresets.shards.report import Range, ShardReport, merge_ranges

COUNTS = st.dictionaries(st.text(max_size=2), st.integers(1, 9), max_size=3).map(lambda d: tuple(sorted(d.items())))


def report(shard, *ranges):
    return ShardReport(shard, Coreset.empty(2), Ledger.zero(4), ranges)


def trusted(shards=3, parts=4, without=()):
    out = np.ones((shards, parts), np.bool_)
    for shard, part in without:
        out[shard, part] = False
    return out


def test_a_part_counts_once_by_the_holder_that_has_read_furthest():
    reports = [
        report(0, Range(0, 0, 50, 40, refused=(("x", 3),)), Range(1, 0, 9, 9)),
        report(1, Range(0, 0, 90, 70, refused=(("x", 5), ("y", 1)))),
        report(2, Range(1, 0, 9, 9), Range(2, 5, 8, 1, refused=(("", 2),))),
    ]
    assert refused_of(reports, trusted()) == RefusedRows((("", 2), ("x", 5), ("y", 1)), 70 + 9 + 1)
    assert refused_of(reports[::-1], trusted()) == refused_of(reports, trusted())
    distrusted = refused_of(reports, trusted(without=[(1, 0), (2, 2)]))
    assert distrusted == RefusedRows((("", 2), ("x", 3)), 40 + 9 + 1), "only where nobody else holds the part"


def test_nobody_says_where_shards_do_not_read_themselves():
    assert refused_of([], trusted()) is None
    assert refused_of([report(0)], trusted()) is None
    assert refused_of([report(0, Range(-1, 0, 5, 5))], trusted()) is None
    assert refused_of([report(0, Range(0, 0, 5, 5))], trusted()) == RefusedRows((), 5)


def test_reports_without_refused_rows_are_as_long_as_before_and_old_ones_are_read():
    plain, bad = report(0, Range(1, 2, 9, 7, 7)), report(0, Range(1, 2, 9, 6, 6, refused=(("x", 1),)))
    fields, arrays = codec.unpack(plain.to_bytes(), "ShardReport")
    assert fields["ranges"] == [[1, 2, 9, 7, 7, False, False]]
    assert ShardReport.from_bytes(codec.pack("ShardReport", fields, arrays)).ranges == plain.ranges
    assert ShardReport.from_bytes(bad.to_bytes()).ranges == bad.ranges
    fields["ranges"] = [[1, 2, 9, 7, 7, False, False, [["x", 0]]]]
    with pytest.raises(ValueError, match="refused: must be at least 1 row a column"):
        ShardReport.from_bytes(codec.pack("ShardReport", fields, arrays))


@given(st.lists(COUNTS, max_size=5))
def test_ranges_of_a_part_add_up(counts):
    ranges = [Range(3, i, i + 1, 1, refused=each) for i, each in enumerate(counts)]
    for whole in merge_ranges(ranges):
        assert whole.refused == added(counts)
        assert dict(whole.refused) == {
            column: sum(dict(each).get(column, 0) for each in counts) for each in counts for column, _ in each
        }
        assert Range.from_fields(json.loads(json.dumps(whole.to_fields()))) == whole


@given(st.lists(st.builds(RefusedRows, COUNTS, st.integers(0, 99)), max_size=4))
def test_windows_together(each):
    whole = RefusedRows.together(each)
    assert (whole.count, whole.rows) == (sum(r.count for r in each), sum(r.rows for r in each))
    assert RefusedRows.together([*each, None]) is None
    assert RefusedRows.from_fields(json.loads(json.dumps(whole.to_fields()))) == whole
    assert whole.share == pytest.approx(whole.count / max(1, whole.count + whole.rows))
    assert dict(whole.columns).get(whole.worst, 0) == max(dict(whole.columns).values(), default=0)
    assert dataclasses.replace(whole, columns=()).share == 0


def test_a_rollup_of_stored_windows_has_the_sum_if_all_are_known():
    plan = Plan(k=2, shards=3, coreset_size=10)
    points = np.arange(60.0).reshape(30, 2)
    decision = decide(shard_reports(blocks_of(points), plan.merge_reduce), plan.policy)
    stored = []
    for number in (4, 0, 3, None):
        known = dataclasses.replace(decision, refused=RefusedRows.of_number(number))
        summary = summarize(known, plan.question)
        (row,) = summary.summaries.to_pylist()
        assert row["refused"] == number
        stored.append(unpack_evidence(row, summary.coreset))
    for windows, expected in ((stored[:3], 7), (stored, None)):
        rollup = Rollup(plan.sampler)
        for each in windows:
            rollup.add(each)
        assert summarize(rollup.result(), plan.question).summaries.column("refused").to_pylist() == [expected]
