"""The decision: exact totals, whoever answered, in whatever order."""
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import random_block

from beam_coresets.assignment import KINDS, Assignment
from beam_coresets.coordinator import Policy, decide
from beam_coresets.ledger import Ledger
from beam_coresets.merge_reduce import MergeReduce, shard_reports
from beam_coresets.points import Span
from beam_coresets.sampling import Sampler

BLOCKS = [random_block(100, Span(0, i, i == 9)) for i in range(10)]
TOTAL = sum(b.weights.sum() for b in BLOCKS)
SCHEME = Assignment(6, 3, "cyclic", 60)


def reports(scheme, size=30):
    return shard_reports(BLOCKS, MergeReduce(Sampler(3, size), scheme))


@st.composite
def situations(draw):
    """A random scheme and which of its shards answer, in which order."""
    s = draw(st.integers(1, 6))
    scheme = Assignment(s, draw(st.integers(1, s)), draw(st.sampled_from(KINDS)), 24, draw(st.integers(0, 9)))
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
