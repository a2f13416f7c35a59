"""Partial reports: exact ledgers whatever the pieces, unbiased samples, keys apart, no order that matters."""
import dataclasses
import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment, part_ids, pieces_of
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import Range, ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.partial_reports import PaneRows

SCHEME = Assignment(3, 2, "cyclic", 6, parts=True)
SMALL = MergeReduce(Sampler(2, 12), SCHEME, 5, node_factor=2)


def rows_of(n, part=0, start=0, keys=0, seed=0, extras=False):
    """Rows [start, start + n) of a part: the same whenever they are asked for."""
    numbers = np.arange(start, start + n, dtype=np.uint64)
    rng = generator("deltas", seed, part)
    points = (10.0 * rng.integers(0, 3, (4096, 1)) + rng.standard_normal((4096, 2))).astype(np.float32)
    weights = rng.integers(0, 4, 4096) / 2.0
    names = np.array([f"key {i}" for i in range(max(1, keys))], object)[rng.integers(0, max(1, keys), 4096)]
    taken = numbers.astype(np.int64)
    return PaneRows(
        points[taken], weights[taken], part_ids(part, numbers), names[taken] if keys else None, None,
        (lambda chosen: pa.table({"id": [f"{part}@{start + i}" for i in chosen.tolist()]})) if extras else None,
    )  # fmt: skip


def pieces(merge_reduce, shard, parts, cuts, total, **options):
    """The shard's reports on rows 0 to `total` of each part, cut at `cuts`."""
    out, edges = [], [0, *sorted(cuts), total]
    for part in parts:
        for low, high in itertools.pairwise(edges):
            told = Range(part, low, high, high - low, total if high == total else -1)
            rows = rows_of(high - low, part, low, **options)
            out.append(partial_reports.partial_report(merge_reduce, shard, rows, (told,), 6))
    return out


def ledger_of(rows):
    return Ledger.of(PointBlock(rows.points, rows.weights, rows.ids, Span(0, 0)), SCHEME)


CUTS = st.lists(st.integers(0, 90), max_size=5)


@settings(max_examples=20)
@given(CUTS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing_and_ledgers_are_exact(cuts, keys, random):
    reports = pieces(SMALL, 1, (0, 1), cuts, 90, keys=keys, extras=True)
    shuffled = [ShardReport.from_bytes(report.to_bytes()) for report in reports]
    random.shuffle(shuffled)
    expected = partial_reports.finished(SMALL, reports)
    found = partial_reports.finished(SMALL, shuffled)
    assert {k: r.to_bytes() for k, r in found.items()} == {k: r.to_bytes() for k, r in expected.items()}
    whole = ledger_of(rows_of(90, 0)) + ledger_of(rows_of(90, 1))
    assert Ledger.sum((r.ledger for r in expected.values()), 6).equal(whole)
    assert partial_reports.merge_reports(SMALL, shuffled).finished().tolist() == [True] * 2 + [False] * 4
    for report in expected.values():
        assert report.coreset.weights.sum() == pytest.approx(report.ledger.weight, rel=1e-9)
        ids = report.coreset.ids
        named = [f"{i >> 48}@{i & (2**48 - 1)}" for i in ids.tolist()]
        assert report.coreset.extras["id"].to_pylist() == named


@settings(max_examples=20)
@given(CUTS, st.integers(0, 3), st.lists(st.integers(2, 4), max_size=6))
def test_compacting_in_between_changes_no_ledger(cuts, keys, steps):
    reports = pieces(SMALL, 1, (0, 1), cuts, 90, keys=keys)
    direct = partial_reports.merge_reports(SMALL, reports)
    for some in steps:
        reports = [partial_reports.compacted(SMALL, reports[:some]), *reports[some:]]
    compact = partial_reports.compacted(SMALL, reports)
    assert compact.keys == direct.keys
    assert compact.ledger.equal(direct.ledger)
    assert compact.ranges == direct.ranges
    sizes = [len(compact.coreset)] if compact.bounds is None else np.diff(compact.bounds).tolist()
    assert max(sizes) <= 2 * SMALL.node_size(2, 4)


@pytest.mark.parametrize("keys", [1, 70])
def test_a_cap_in_bytes_holds_for_every_key(keys):
    """One key goes the way of a single summary, 70 the way of many: both cap what is sent and what is finished."""
    capped = MergeReduce(Sampler(2, 10**6, most_bytes=10 * 2 * 4), SCHEME, 5)
    names = np.array([f"key {i:02d}" for i in np.arange(4096) % keys], object)
    rows = rows_of(4096)
    if keys > 1:
        rows = dataclasses.replace(rows, keys=names)
    report = partial_reports.partial_report(capped, 0, rows, (Range(0, 0, 4096, 4096, 4096),), 6)
    most = 2 * 10 + pieces_of(SCHEME.shards)  # each piece is drawn apart, and its number rounded
    assert len(report.coreset) <= most * keys
    other = partial_reports.partial_report(capped, 0, rows, (Range(1, 0, 4096, 4096, 4096),), 6)
    finished = partial_reports.finished(capped, [report, other])
    assert len(finished) == keys
    assert max(len(one.coreset) for one in finished.values()) <= 10 + 2 * pieces_of(SCHEME.shards)
    exact = sum(one.ledger.weight for one in finished.values())
    assert exact == pytest.approx(2 * rows.weights.sum(), rel=1e-12)


def by_separate_streams(merge_reduce, keys, total):
    """Key -> what a job that reads the rows of this key alone has to decide on."""
    out = {}
    for i in range(keys):
        reports = []
        for shard in range(3):
            for part in np.flatnonzero(SCHEME.matrix()[shard]).tolist():
                rows = rows_of(total, part, keys=keys)
                mine = rows.take(np.flatnonzero(rows.keys == f"key {i}"))
                mine = PaneRows(mine.points, mine.weights, mine.ids)
                told = Range(part, 0, total, total, total)
                reports.append(partial_reports.partial_report(merge_reduce, shard, mine, (told,), 6))
        out[f"key {i}"] = partial_reports.decidable(merge_reduce, reports)[""]
    return out


@pytest.mark.parametrize("size", [12, 400])
def test_each_key_gets_what_a_stream_of_its_own_would_give(size):
    merge_reduce = MergeReduce(Sampler(2, size), SCHEME, 5)
    reports = []
    for shard in range(3):
        held = np.flatnonzero(SCHEME.matrix()[shard]).tolist()
        reports += pieces(merge_reduce, shard, held, [30, 70], 90, keys=3)
    found = partial_reports.decidable(merge_reduce, reports)
    alone = by_separate_streams(merge_reduce, 3, 90)
    assert list(found) == sorted(alone)
    for key, mine in found.items():
        assert [r.shard for r in mine] == [r.shard for r in alone[key]] == [0, 1, 2]
        policy = Policy(SCHEME, parts=6)
        here, there = decide(mine, policy), decide(alone[key], policy)
        assert (here.points, here.total_weight) == (there.points, there.total_weight)
        assert here.recovery.coverage == there.recovery.coverage == 1.0
        for a, b in zip(mine, alone[key], strict=True):
            assert a.ledger.equal(b.ledger)
            if size == 400:  # nothing was drawn
                assert sorted(a.coreset.ids.tolist()) == sorted(b.coreset.ids.tolist())


def test_a_shard_that_answered_without_rows_of_a_key_says_so():
    told, none = Range(0, 0, 5, 5, 5), Range(0, 0, 5, 0, 0)
    some = partial_reports.partial_report(SMALL, 0, rows_of(5, keys=1), (told,), 6)
    empty = partial_reports.partial_report(SMALL, 2, rows_of(0, keys=1), (none,), 6)
    found = partial_reports.decidable(SMALL, [empty, some])
    assert list(found) == ["key 0"]
    assert [(r.shard, r.ledger.rows, r.keys) for r in found["key 0"]] == [(0, 5, ("key 0",)), (2, 0, ("key 0",))]
    (nothing,) = partial_reports.decidable(SMALL, [empty])[""]
    assert (nothing.ledger.rows, nothing.ranges) == (0, (none,))
    assert partial_reports.decidable(SMALL, [empty], empty=False) == {}
    assert list(partial_reports.decidable(SMALL, [empty, some], empty=False)) == ["key 0"]
    named = partial_reports.partial_report(SMALL, 0, rows_of(5), (told,), 6)
    assert list(partial_reports.decidable(SMALL, [empty, named], empty=False)) == [""], "a key that is really empty"


def test_rows_that_weigh_nothing_are_counted_all_the_same():
    rows = rows_of(80, keys=1)
    nothing = PaneRows(rows.points, np.zeros(80), rows.ids, rows.keys)
    told = [Range(0, 0, 80, 80), Range(1, 0, 3, 3, 3)]
    reports = [partial_reports.partial_report(SMALL, 0, nothing, (told[0],), 6)]
    assert (len(reports[0].coreset), reports[0].ledger.rows) == (0, 80)
    reports.append(partial_reports.partial_report(SMALL, 0, rows_of(3, 1), (told[1],), 6))
    found = partial_reports.finished(SMALL, reports)
    assert {key: r.ledger.rows for key, r in found.items()} == {"": 3, "key 0": 80}


def test_reports_of_several_shards_are_refused():
    one, two = (partial_reports.partial_report(SMALL, shard, rows_of(3), (), 6) for shard in (0, 1))
    with pytest.raises(ValueError, match=r"reports: must be of one shard, got \[0, 1\]"):
        partial_reports.merge_reports(SMALL, [one, two])


def test_the_size_of_a_partial_report_is_bounded_by_bytes():
    merge_reduce = MergeReduce(Sampler(20, 800), SCHEME)
    assert partial_reports.partial_report_size(merge_reduce, 8, 4) == 1600
    assert partial_reports.partial_report_size(merge_reduce, 128, 4) == 1024
    assert partial_reports.partial_report_size(merge_reduce, 4096, 4) == 400


@pytest.mark.parametrize("keys", [0, 2])
def test_unbiased_weights_through_all_draws(keys):
    """Total, first coordinate and a corner's weight, by the unbiased weights of 300 seeds; each mean is within 4.5
    standard errors of the truth but for a probability of about 7e-6."""
    truth = rows_of(360, 0, keys=keys)
    mine = np.ones(360, bool) if not keys else truth.keys == "key 0"
    corner = truth.points[:, 0] > np.quantile(truth.points[:, 0], 0.95)
    wanted = [(truth.weights * f)[mine].sum() for f in (np.ones(360), truth.points[:, 0], corner)]
    found = []
    for seed in range(300):
        merge_reduce = MergeReduce(Sampler(2, 12), SCHEME, seed, node_factor=2)
        reports = pieces(merge_reduce, 1, (0,), [90, 180, 270], 360, keys=keys)
        compact = partial_reports.compacted(merge_reduce, reports[:3])
        coreset = partial_reports.finished(merge_reduce, [compact, reports[3]])["key 0" if keys else ""].coreset
        rare = coreset.points[:, 0] > np.quantile(truth.points[:, 0], 0.95)
        found.append([coreset.weights_ht @ f for f in (np.ones(len(rare)), coreset.points[:, 0], rare)])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / math.sqrt(300)
    assert (np.abs(mean - wanted) <= 4.5 * error + 1e-9).all(), (mean, wanted, error)
    assert (error > 0).any()


def test_partial_reports_and_replicas_draw_independently():
    """Of the same number of rows in the same places."""
    chosen = set()
    for shard, start in ((0, 0), (0, 200), (1, 0), (1, 200)):
        rows = rows_of(200, start=0)
        ids = part_ids(0, np.arange(start, start + 200, dtype=np.uint64))
        moved = PaneRows(rows.points, rows.weights, ids)
        report = partial_reports.partial_report(SMALL, shard, moved, (Range(0, start, start + 200, 200),), 6)
        assert 0 < len(report.coreset) < 60
        chosen.add(tuple((report.coreset.ids - np.uint64(start)).tolist()))
        again = partial_reports.partial_report(SMALL, shard, moved, (Range(0, start, start + 200, 200),), 6)
        assert again.to_bytes() == report.to_bytes()
    assert len(chosen) == 4


def test_rows_of_parts_that_the_scheme_has_not_are_refused():
    """Their buckets would be written past the end of the ledger."""
    scheme = MergeReduce(Sampler(3, 30), SCHEME, 1)
    points, weights = np.zeros((2, 2), np.float32), np.ones(2)
    ids = np.array([0, 6 << 48], np.uint64)
    with pytest.raises(ValueError, match="ids: must be of parts 0 to 5 in their upper bits, got part 6"):
        partial_reports.partial_report(scheme, 0, PaneRows(points, weights, ids), (), 6)
    with pytest.raises(ValueError, match="got part 65535"):
        SCHEME.check_ids(np.array([2**64 - 1], np.uint64))
