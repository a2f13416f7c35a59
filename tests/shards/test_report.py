"""ShardReports: what they say of parts and keys, and their bytes."""
import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.report import WHOLE, Range, ShardReport, all_keys, by_key, finished_parts, merge_ranges

BUCKETS = 6


def report_of(shard=1, ranges=(), keys=("",), rows=4, seed=0, extras=False, groups=False):
    """A report with `rows` sampled rows and some ledger entries of each key."""
    rng, n = generator("report", seed, rows, len(keys)), rows * len(keys)
    table = pa.table({"id": [f"row {i}" for i in range(n)]}) if extras else None
    labels = rng.integers(0, 3, n).astype(np.int32) if groups else None
    coreset = Coreset(rng.random((n, 2)), rng.random(n), rng.random(n), np.arange(n, dtype=np.uint64), labels, table)
    counts = rng.integers(0, 3, BUCKETS * len(keys))
    checksums = np.where(counts, rng.integers(0, 2**64, len(counts), np.uint64), np.uint64(0))
    ledger = Ledger(counts, checksums, counts * 1.5)
    bounds = None if keys == ("",) else np.arange(len(keys) + 1, dtype=np.int64) * rows
    return ShardReport(shard, coreset, ledger, tuple(ranges), keys, bounds, 5)


@st.composite
def reports(draw):
    keys = tuple(sorted(draw(st.sets(st.text(max_size=3), min_size=1, max_size=4)) - {""})) or ("",)
    numbers = st.integers(0, 2**40)
    some = st.builds(Range, st.integers(-1, 5), numbers, numbers, numbers, st.integers(-1, 2**40), st.booleans())
    ranges, seed = draw(st.lists(some, max_size=3)), draw(st.integers(0, 99))
    return report_of(draw(st.integers(0, 99)), ranges, keys, draw(st.integers(0, 5)), seed, *draw(
        st.tuples(st.booleans(), st.booleans())
    ))  # fmt: skip


@given(reports())
def test_bytes_bring_everything_back_and_equal_reports_have_equal_bytes(report):
    data = report.to_bytes()
    back = ShardReport.from_bytes(data)
    assert back.to_bytes() == data
    for name in ("shard", "ranges", "keys", "parts", "name", "buckets"):
        assert getattr(back, name) == getattr(report, name)
    assert back.ledger.equal(report.ledger)
    assert np.array_equal(back.ledger.weights, report.ledger.weights)
    assert np.array_equal(back.coreset.points, report.coreset.points)
    assert np.array_equal(back.coreset.weights, report.coreset.weights)
    assert (back.coreset.extras is None) == (report.coreset.extras is None)
    strided = dataclasses.replace(report, ledger=Ledger(*(np.repeat(a, 2)[::2] for a in (
        report.ledger.counts, report.ledger.checksums, report.ledger.weights))))  # fmt: skip
    assert strided.to_bytes() == data


@given(reports())
def test_what_is_said_of_each_key_adds_up_to_the_whole(report):
    mine = by_key(report)
    assert all_keys(mine.values()) == report.keys
    assert sum(r.ledger.rows for r in mine.values()) == report.ledger.rows
    assert np.concatenate([r.coreset.ids for r in mine.values()]).tolist() == report.coreset.ids.tolist()
    assert all(r.keys == (key,) and r.name == report.name and r.buckets == BUCKETS for key, r in mine.items())
    if report.coreset.extras is not None:
        assert pa.concat_tables([r.coreset.extras for r in mine.values()]).equals(report.coreset.extras)


RANGES = st.lists(st.builds(Range, st.integers(0, 2), st.integers(0, 9), st.integers(10, 19), st.integers(0, 3),
                            st.integers(-1, 6), st.booleans()), max_size=6)  # fmt: skip


@given(RANGES, st.randoms(use_true_random=False))
def test_joining_ranges_keeps_what_they_say_in_any_order(ranges, random):
    whole = merge_ranges(ranges)
    shuffled = list(ranges)
    random.shuffle(shuffled)
    assert merge_ranges(shuffled) == whole == merge_ranges(whole)
    assert finished_parts(whole) == finished_parts(ranges) == finished_parts(shuffled)
    assert [r.part for r in whole] == sorted({r.part for r in ranges})
    assert sum(r.rows for r in whole) == sum(r.rows for r in ranges)
    half = len(ranges) // 2
    assert merge_ranges([*merge_ranges(ranges[:half]), *merge_ranges(ranges[half:])]) == whole


def test_a_part_is_finished_once_its_rows_add_up_to_the_total_it_named():
    ranges = [Range(0, 0, 5, 3), Range(0, 5, 9, 2, 5), Range(1, 0, 4, 4), Range(2, 7, 7, 0, 0), Range(3, 2, 5, 1, 3)]
    assert finished_parts(ranges) == [0, 2]
    assert finished_parts(ranges[1:]) == [2]
    assert report_of(ranges=ranges).finished().tolist() == [True, False, True, False, False, False]
    assert report_of().finished().all()
    assert report_of(ranges=[Range(WHOLE, 0, 9, 4)]).finished().tolist() == [False] * BUCKETS
    assert report_of(ranges=[Range(WHOLE, 0, 9, 4, 4)]).finished().all()


def test_rows_that_come_to_nothing_are_those_in_this_report():
    """Not those of the same range in reports of other groups of keys."""
    report = report_of(ranges=[Range(2, 0, 50, 999), Range(4, 3, 8, 999)], keys=("a", "b"))
    rows = report.ledger.counts.reshape(2, BUCKETS).sum(axis=0)
    assert rows[2] > 0
    assert rows[4] > 0
    assert report.late_rows() == [(1, 2, 0, 50, rows[2]), (1, 4, 3, 8, rows[4])]
    assert report_of(ranges=()).late_rows() == [(1, WHOLE, 0, 0, report_of().ledger.rows)]
    nothing = dataclasses.replace(report_of(ranges=[Range(0, 0, 5, 0)]), ledger=Ledger.zero(BUCKETS))
    assert nothing.late_rows() == []


def test_other_bytes_are_refused():
    with pytest.raises(ValueError, match="data: must start with"):
        ShardReport.from_bytes(b"other bytes")
