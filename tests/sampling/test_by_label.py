"""Labels: exact weights label by label, whoever answered, and a fair share of every sample (Theorem 9)."""
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import check_merge_laws, piece_of, planned_parts, random_block

from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.coreset import Coreset
from beam_coresets.sampling import by_label
from beam_coresets.sampling.by_label import MOST_LABELS, shares
from beam_coresets.sampling.importance import METHODS, Sampler
from beam_coresets.shards.assignment import Assignment, split
from beam_coresets.shards.label_weights import LabelWeights
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce, ShardState, shard_reports
from beam_coresets.shards.report import Range, ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.partial_reports import PaneRows

OF_CENTERS = [method for method in METHODS if method != "subspace"]
SCHEME = Assignment(6, 3, "cyclic", 60)
BLOCKS = [random_block(200, Span(0, i, i == 9), groups=True) for i in range(10)]
EVERYTHING = np.concatenate([b.groups for b in BLOCKS]), np.concatenate([b.weights for b in BLOCKS])
BUCKET = SCHEME.bucket_of(np.concatenate([b.ids for b in BLOCKS]))


def totals_of(rows=slice(None)):
    """Each label's weight among some rows of `BLOCKS`."""
    groups, weights = EVERYTHING[0][rows], EVERYTHING[1][rows]
    return {int(code): float(weights[groups == code].sum()) for code in np.unique(groups)}


def reports(size=30, **more):
    return shard_reports(BLOCKS, MergeReduce(Sampler(3, size), SCHEME, labelled=True, **more))


def in_table(coreset):
    """What the calibrated weights of each label of a coreset add up to."""
    return {int(code): float(coreset.weights[coreset.groups == code].sum()) for code in np.unique(coreset.groups)}


def test_weights_are_those_of_label_and_bucket():
    whole = Ledger.sum((Ledger.of(b, SCHEME, labelled=True) for b in BLOCKS), SCHEME.buckets)
    groups, weights = EVERYTHING
    expected = [np.bincount(BUCKET[groups == j], weights[groups == j], SCHEME.buckets) for j in range(5)]
    assert whole.labels.codes.tolist() == list(range(5))
    np.testing.assert_allclose(whole.labels.weights, expected, rtol=1e-12)
    np.testing.assert_allclose(whole.labels.weights.sum(axis=0), whole.weights, rtol=1e-12)


def test_what_is_not_asked_for_costs_nothing_and_leaves_no_trace():
    plain = shard_reports(BLOCKS, MergeReduce(Sampler(3, 30), SCHEME))
    assert all(report.ledger.labels is None for report in plain)
    assert not any(b"label" in report.to_bytes() for report in plain)
    decision = decide(plain, Policy(SCHEME))
    assert decision.label_totals is None
    assert b"label" not in decision.to_bytes()
    alone = [dataclasses.replace(b, groups=None) for b in BLOCKS]  # without labels there is the total only
    one, other = (shard_reports(alone, MergeReduce(Sampler(3, 30), SCHEME, labelled=on)) for on in (False, True))
    assert [report.to_bytes() for report in one] == [report.to_bytes() for report in other]


@settings(max_examples=20)
@given(planned_parts(), st.sampled_from(OF_CENTERS), st.data())
def test_labelled_states_obey_the_laws(blocks, method, data):
    logic = MergeReduce(Sampler(2, 8, method=method), Assignment(4, 2, "cyclic", 16), seed=5, labelled=True)
    check_merge_laws(
        data.draw, logic, ShardState, lambda s, block: logic.update(s, 1, piece_of(logic, block, 1)), blocks
    )


@given(st.lists(st.integers(0, 6), unique=True, max_size=4), st.lists(st.integers(0, 6), unique=True, max_size=4))
def test_weights_add_up_whatever_labels_either_side_has(left, right):
    one, other = (
        LabelWeights(np.array(sorted(c), np.int32), np.arange(1.0, 1 + 2 * len(c)).reshape(-1, 2))
        for c in (left, right)
    )
    both, turned = one.merge(other), other.merge(one)
    assert both.codes.tolist() == turned.codes.tolist() == sorted({*left, *right})
    np.testing.assert_allclose(both.weights, turned.weights)
    for code, total in both.totals().items():
        assert total == pytest.approx(one.totals().get(code, 0.0) + other.totals().get(code, 0.0))


@pytest.mark.parametrize("answering", [range(6), [0, 1, 3, 4], [2, 5], [4], []])
def test_each_labels_total_is_exact_in_what_is_covered_and_scaled_elsewhere(answering):
    everything = reports()
    decision = decide([everything[i] for i in answering], Policy(SCHEME))
    covered = SCHEME.matrix()[list(answering)].any(axis=0)
    scale = SCHEME.buckets / max(1, covered.sum())
    expected = {code: weight * scale for code, weight in totals_of(covered[BUCKET]).items()}
    assert (decision.label_totals or {}) == pytest.approx(expected, rel=1e-12)
    if answering:
        assert in_table(decision.coreset) == pytest.approx(expected, rel=1e-12)
        assert decision.coreset.weights.sum() == pytest.approx(decision.total_weight, rel=1e-12)
        assert (decision.coreset.weights > 0)[decision.coreset.weights_ht > 0].all()


def test_a_holder_that_was_told_another_label_is_found_out():
    """The same rows, ids and weights: only the label of one row differs."""
    told = []
    for shard, scheme in enumerate([SCHEME] * SCHEME.shards):
        logic = MergeReduce(Sampler(3, 30), scheme, labelled=True)
        state = ShardState()
        for number, block in enumerate(BLOCKS):
            if shard == 2 and number == 4:
                first, groups = split(block, scheme)[shard].rows[0], block.groups.copy()
                groups[first] = (groups[first] + 1) % 5
                block = dataclasses.replace(block, groups=groups)
            state = logic.update(state, shard, piece_of(logic, block, shard))
        told.append(logic.result(state))
    decision = decide(told, Policy(SCHEME))
    assert decision.recovery.distrusted == {2: "corrupted"}
    assert decision.recovery.coverage == 1.0
    assert in_table(decision.coreset) == pytest.approx(totals_of(), rel=1e-12)


def test_a_replay_does_not_count_twice():
    everything = reports()
    twice = everything[1].ledger.merge(everything[1].ledger)
    assert twice.labels.totals() == pytest.approx({c: 2 * w for c, w in everything[1].ledger.labels.totals().items()})
    told = [everything[0], dataclasses.replace(everything[1], ledger=twice), *everything[2:]]
    decision = decide(told, Policy(SCHEME))
    assert decision.recovery.distrusted == {1: "duplicated"}
    assert in_table(decision.coreset) == pytest.approx(totals_of(), rel=1e-12)


def test_reports_and_decisions_survive_their_bytes():
    everything = reports()
    moved = [ShardReport.from_bytes(report.to_bytes()) for report in everything]
    assert [report.to_bytes() for report in moved] == [report.to_bytes() for report in everything]
    decision = decide(moved, Policy(SCHEME))
    again = Decision.from_bytes(decision.to_bytes())
    assert again.to_bytes() == decision.to_bytes()
    assert again.label_totals == decision.label_totals
    assert again.coreset.weights.tobytes() == decision.coreset.weights.tobytes()


def test_partial_reports_count_as_a_whole_report_does():
    logic = MergeReduce(Sampler(3, 30), SCHEME, labelled=True)
    told = []
    for shard in range(SCHEME.shards):
        for block in BLOCKS:
            held = split(block, SCHEME)[shard]
            rows = PaneRows(held.points, held.weights, held.ids, groups=held.groups)
            span = Range(-1, block.span.ordinal, block.span.ordinal + 1, 1, 10 if block.span.last else -1)
            told.append(partial_reports.partial_report(logic, shard, rows, (span,), 0))
    decision = decide(partial_reports.decidable(logic, told)[""], Policy(SCHEME))
    assert decision.recovery.coverage == 1.0
    assert in_table(decision.coreset) == pytest.approx(totals_of(), rel=1e-12)


def test_partial_reports_of_several_keys_count_each_for_itself():
    logic = MergeReduce(Sampler(3, 30), SCHEME, labelled=True)
    groups, weights = EVERYTHING
    keys = np.array([f"k{i % 3}" for i in range(len(groups))], object)
    points, ids = (np.concatenate([getattr(b, name) for b in BLOCKS]) for name in ("points", "ids"))
    told = []
    for shard in range(SCHEME.shards):
        mine = SCHEME.matrix()[shard][BUCKET]
        for half in range(2):
            rows = np.flatnonzero(mine & (np.arange(len(groups)) % 2 == half))
            some = PaneRows(points, weights, ids, keys, groups).take(rows)
            told.append(partial_reports.partial_report(logic, shard, some, (Range(-1, half, half + 1, 1, 2),), 0))
    for key, mine in partial_reports.decidable(logic, told).items():
        assert in_table(decide(mine, Policy(SCHEME)).coreset) == pytest.approx(totals_of(keys == key), rel=1e-12)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=10), st.integers(1, 300), st.integers(1, 5))
def test_shares_are_equal_where_there_are_enough_points(counts, size, least):
    counts = np.array(counts)
    given_out = shares(counts, size, least)
    assert (given_out <= counts).all()
    assert (given_out >= np.minimum(counts, least)).all()
    cut = given_out[given_out < counts]
    if size >= least * len(counts):
        assert given_out.sum() == min(size, counts.sum())
    if len(cut):
        assert cut.max() - cut.min() <= 1
        assert (given_out[given_out == counts] <= cut.max()).all()


@pytest.mark.parametrize("method", OF_CENTERS)
def test_each_label_keeps_its_share_and_a_rare_one_all_of_its_points(method):
    groups, weights = (part.copy() for part in EVERYTHING)
    weights += 0.5
    groups[groups == 3] = 0
    rare = np.arange(7) * 100
    groups[rare] = 3
    points = np.concatenate([b.points for b in BLOCKS])
    sampler, strata = Sampler(4, 100, method=method), np.zeros(len(points), np.int32)
    rows, _, calibrated = by_label.finish(sampler, points, weights, strata, groups, generator("share"))
    kept = np.bincount(groups[rows], minlength=5)
    assert set(rare) <= set(rows.tolist())
    assert kept[3] == 7
    assert (abs(kept[[0, 1, 2, 4]] - 93 / 4) <= 4).all()
    assert len(set(rows.tolist())) == len(rows)
    for j in range(5):
        assert calibrated[groups[rows] == j].sum() == pytest.approx(weights[groups == j].sum())
    thinned, given_out = by_label.thin(sampler, points, weights, strata, groups, 200, generator("share"))
    assert np.bincount(groups[thinned], minlength=5)[3] == 7
    assert abs(len(thinned) - 200) <= 40
    assert given_out[groups[thinned] == 3].tolist() == weights[rare].tolist()


def test_a_cap_in_bytes_holds_for_all_labels_together_and_loses_none():
    """A size by theory is far above what the bytes allow: the cap is the size that labels share, so a label of five
    rows keeps them all."""
    groups = EVERYTHING[0].copy()
    groups[groups == 4] = 0
    rare = np.arange(5) * 100
    groups[rare] = 4
    told = [dataclasses.replace(b, groups=groups[i * 200 : (i + 1) * 200]) for i, b in enumerate(BLOCKS)]
    dim, itemsize = BLOCKS[0].points.shape[1], BLOCKS[0].points.itemsize
    sampler = Sampler(3, 10**6, most_bytes=60 * dim * itemsize)
    alone = Assignment(1, 1, "cyclic", 60)
    for seed in range(20):
        (report,) = shard_reports(told, MergeReduce(sampler, alone, seed, labelled=True))
        assert len(report.coreset) <= 60 + 8  # systematic draws are one off in each of the labels
        assert (report.coreset.groups == 4).sum() == 5
        totals = {int(c): float(EVERYTHING[1][groups == c].sum()) for c in np.unique(groups)}
        assert in_table(report.coreset) == pytest.approx(totals, rel=1e-12)


def test_every_s_j_estimates_its_label_without_bias():
    """The total of each label and a coordinate's sum in it, over 600 draws through two levels: each within 5 standard
    errors, so ten true statements all hold with probability above 0.999."""
    groups, weights = EVERYTHING
    points = np.concatenate([b.points for b in BLOCKS])
    sampler, strata = Sampler(3, 40), np.zeros(len(points), np.int32)
    found = []
    for draw in range(600):
        rng = generator("unbiased labels", draw)
        first, kept = by_label.thin(sampler, points, weights, strata, groups, 400, rng)
        rows, unbiased, _ = by_label.finish(sampler, points[first], kept, strata[first], groups[first], rng)
        at = first[rows]
        found.append([np.bincount(groups[at], w, 5) for w in (unbiased, unbiased * points[at, 0])])
    truth = np.array([np.bincount(groups, w, 5) for w in (weights, weights * points[:, 0])])
    error = np.mean(found, axis=0) - truth
    assert (abs(error) < 5 * np.std(found, axis=0) / np.sqrt(600)).all()


def test_too_many_labels_are_refused_wherever_they_show():
    groups = np.arange(MOST_LABELS + 1, dtype=np.int32)
    n = len(groups)
    block = PointBlock(np.zeros((n, 2), np.float32), np.ones(n), np.arange(n, dtype=np.uint64), Span(0, 0), groups)
    message = "group_column: must have at most 64 labels with --weak, got at least 65"
    with pytest.raises(ValueError, match=message):
        Ledger.of(block, SCHEME, labelled=True)
    halves = [Ledger.of(block.take(rows), SCHEME, labelled=True) for rows in (np.arange(40), np.arange(40, n))]
    with pytest.raises(ValueError, match=message):
        halves[0].merge(halves[1])
    assert len(Ledger.of(block.take(np.arange(64)), SCHEME, labelled=True).labels.codes) == MOST_LABELS


def test_labels_without_points_leave_weights_as_they_are():
    coreset = Coreset.of(BLOCKS[0])
    assert by_label.with_totals(np.zeros(3), np.array([1, 1, 2], np.int32), {1: 5.0, 2: 1.0}).tolist() == [0, 0, 0]
    exact = by_label.with_totals(coreset.weights, coreset.groups, dict.fromkeys(range(9), 4.0))
    assert np.bincount(coreset.groups, exact) == pytest.approx(np.full(5, 4.0))
