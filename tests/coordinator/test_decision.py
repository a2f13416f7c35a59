"""The decision: exact totals, whoever answered, in whatever order."""
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import random_block

from beam_coresets.coordinator.decision import Policy, Verdict, decide
from beam_coresets.points.block import Span
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import SCHEMES, Assignment, part_ids
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.shards.report import Range

BLOCKS = [random_block(100, Span(0, i, i == 9)) for i in range(10)]
TOTAL = sum(b.weights.sum() for b in BLOCKS)
SCHEME = Assignment(6, 3, "cyclic", 60)


def reports(scheme, size=30):
    return shard_reports(BLOCKS, MergeReduce(Sampler(3, size), scheme))


@st.composite
def situations(draw):
    """A random scheme and which of its shards answer, in which order."""
    s = draw(st.integers(1, 6))
    scheme = Assignment(s, draw(st.integers(1, s)), draw(st.sampled_from(SCHEMES)), 24, draw(st.integers(0, 9)))
    return scheme, draw(st.lists(st.integers(0, s - 1), unique=True))


@given(situations(), st.sampled_from(["exact", "uniform", "lp"]))
def test_the_total_weight_is_exact_where_covered_and_scaled_elsewhere(situation, kind):
    scheme, answering = situation
    everything = reports(scheme)
    decision = decide([everything[i] for i in answering], Policy(scheme, kind))
    whole = Ledger.sum((Ledger.of(b, scheme) for b in BLOCKS), scheme.buckets)
    covered = scheme.matrix()[answering].any(axis=0)
    assert np.array_equal(decision.recovery.covered, covered)
    known = whole.weights[covered].sum()
    expected = known * scheme.buckets / max(1, covered.sum())
    assert decision.total_weight == pytest.approx(expected, rel=1e-9)
    assert decision.points == whole.counts[covered].sum()
    if len(decision.coreset):
        assert decision.coreset.weights.sum() == pytest.approx(expected, rel=1e-9)
        assert (decision.coreset.weights >= 0).all()
    assert covered.all() == (decision.recovery.coverage == 1.0)


@given(st.permutations(range(6)))
def test_the_order_of_reports_changes_nothing(order):
    everything = reports(SCHEME)[:5]
    expected = decide(everything, Policy(SCHEME)).to_bytes()
    shuffled = decide([everything[i] for i in order if i < 5], Policy(SCHEME))
    assert shuffled.to_bytes() == expected
    assert shuffled.coreset.weights.tobytes() == decide(everything, Policy(SCHEME)).coreset.weights.tobytes()


def test_every_coreset_point_is_an_input_point_with_its_shard_and_bucket():
    decision = decide(reports(SCHEME), Policy(SCHEME))
    rows = {int(i): p for b in BLOCKS for i, p in zip(b.ids, b.points, strict=True)}
    sample, evidence = decision.evidence.sample, decision.evidence
    assert all((rows[int(i)] == p).all() for i, p in zip(sample.ids, sample.points, strict=True))
    assert SCHEME.matrix()[evidence.shard, evidence.bucket].all()
    assert np.array_equal(evidence.bucket, SCHEME.bucket_of(sample.ids))


@pytest.mark.parametrize("kind", ["exact", "uniform", "lp"])
def test_a_shard_with_another_story_does_not_contribute(kind):
    everything = reports(SCHEME)
    tampered = everything[2].ledger
    liar = dataclasses.replace(
        everything[2], ledger=Ledger(tampered.counts, tampered.checksums + np.uint64(1), tampered.weights * 5)
    )
    decision = decide([*everything[:2], liar, *everything[3:]], Policy(SCHEME, kind))
    assert decision.recovery.distrusted == {2: "corrupted"}
    assert 2 not in decision.evidence.shard
    assert decision.total_weight == pytest.approx(TOTAL, rel=1e-9)
    without = decide([*everything[:2], *everything[3:]], Policy(SCHEME, kind))
    assert np.array_equal(decision.coreset.ids, without.coreset.ids)


def test_a_second_report_of_a_shard_is_refused():
    everything = reports(SCHEME)
    with pytest.raises(ValueError, match="reports: must be one a shard, got a second one of shard 1"):
        decide([*everything, dataclasses.replace(everything[1])], Policy(SCHEME))


def test_a_report_of_another_scheme_is_refused():
    with pytest.raises(ValueError, match="shards 0 to 5, got 6"):
        decide(reports(Assignment(7, 3, "cyclic", 60)), Policy(SCHEME))
    with pytest.raises(ValueError, match="must have 60 buckets, got 64 of shard 0"):
        decide(reports(Assignment(6, 3, "cyclic", 64)), Policy(SCHEME))


def test_no_answer_is_decided_too():
    decision = decide([], Policy(SCHEME))
    assert (len(decision.coreset), decision.total_weight, decision.points) == (0, 0.0, 0)
    assert decision.degraded
    assert decision.recovery.coverage == 0.0
    assert decision.recovery.stragglers == (0, 1, 2, 3, 4, 5)


def test_too_few_answers_are_marked():
    everything = reports(SCHEME)
    assert decide(everything[:3], Policy(SCHEME, min_shards=4)).degraded
    assert not decide(everything[:4], Policy(SCHEME, min_shards=4)).degraded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recovery": "vote"}, "recovery: must be one of exact, uniform, lp, got 'vote'"),
        ({"min_shards": 0}, "min_shards: must be from 1 to 6 shards, got 0"),
        ({"min_shards": 7}, "min_shards: must be from 1 to 6 shards, got 7"),
    ],
)
def test_policies_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Policy(SCHEME, **options)


PARTS = Assignment(3, 2, "cyclic", 4, parts=True)


def part_blocks(parts, rows=40):
    """A block of each part, with ids that name it."""
    return [
        dataclasses.replace(b, ids=part_ids(b.span.part, b.ids)) for b in (
            random_block(rows, Span(p, 0, True)) for p in range(parts)
        )
    ]  # fmt: skip


def part_reports(parts, known, missing=()):
    """Reports that name their ranges; parts in `missing` are told half, and not to their end."""
    found = []
    for report in shard_reports(part_blocks(parts), MergeReduce(Sampler(3, 30), PARTS)):
        held = np.flatnonzero(PARTS.matrix()[report.shard, :parts]).tolist()
        ranges = tuple(Range(p, 0, 40, 40, -1 if (report.shard, p) in missing else 40) for p in held)
        found.append(dataclasses.replace(report, ranges=ranges, parts=known))
    return found


@pytest.mark.parametrize("known", [3, 4])
def test_coverage_is_over_the_parts_that_anybody_knows_of(known):
    decision = decide(part_reports(3, known), Policy(PARTS, parts=3))
    assert decision.recovery.coverage == 3 / known
    assert decision.recovery.scale == 1.0, "a lost part is no random sample"
    assert decision.points == 120


def test_a_shard_that_has_not_finished_is_a_straggler_and_what_it_has_finished_counts():
    decision = decide(part_reports(3, 3, {(0, 0)})[:1], Policy(PARTS, parts=3, min_shards=1))
    held = np.flatnonzero(PARTS.matrix()[0, :3])
    assert decision.recovery.stragglers == (0, 1, 2)
    assert decision.degraded
    assert decision.recovery.coverage == (len(held) - 1) / 3
    assert decision.points == 40 * len(held)
    everybody = decide(part_reports(3, 3, {(0, 0)}), Policy(PARTS, parts=3, min_shards=2))
    assert (everybody.recovery.coverage, everybody.degraded) == (1.0, False)
    assert everybody.recovery.stragglers == (0,)


@pytest.mark.parametrize("keys", [(), ("a",), ("", "b")])
def test_verdicts_and_decisions_survive_their_bytes(keys):
    mine = part_reports(3, 4, {(1, 1)})
    policy = Policy(dataclasses.replace(PARTS, domains=(0, 1, 2)), min_shards=2, parts=3)
    decisions = {key: decide(mine[i:], policy) for i, key in enumerate(keys)}
    verdict = Verdict(5.0, 10.0, "007", 2, "deadline", 17.25, decisions)
    data = verdict.to_bytes()
    back = Verdict.from_bytes(data)
    assert back.to_bytes() == data
    fields = ("start", "end", "group", "revision", "reason", "decided_at")
    assert [getattr(back, f) for f in fields] == [getattr(verdict, f) for f in fields]
    assert list(back.decisions) == list(keys)
    for key, decision in decisions.items():
        same = back.decisions[key]
        assert same.policy == decision.policy
        assert same.recovery.complete.tolist() == decision.recovery.complete.tolist()
        assert (same.points, same.total_weight, same.degraded) == (
            decision.points, decision.total_weight, decision.degraded,
        )  # fmt: skip
        assert same.coreset.weights.tobytes() == decision.coreset.weights.tobytes()
