"""Merged decisions: exact totals, the certificate of all buckets apart, bounded evidence, the way through tables."""
import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import random_block

from beam_coresets.coordinator.decision import Decision, Evidence, Policy, decide
from beam_coresets.coordinator.evidence import pack_evidence, unpack_evidence
from beam_coresets.coordinator.merge import merge, node_sampler, thinned
from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.hashing import generator
from beam_coresets.points.block import Span, blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import cost
from beam_coresets.points.scale import Scale
from beam_coresets.results.certificate import fitted_interval, fixed_interval
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import SCHEMES, Assignment
from beam_coresets.shards.merge_reduce import NODE_FACTOR, MergeReduce, shard_reports

CENTERS = np.array([[0.0, 0, 0], [15, 15, 15], [30, 30, 30]])
SCHEME = Assignment(5, 2, "cyclic", 40)


@functools.cache
def points(window, n=1500):
    rng = generator("merged", window, n)
    return (15.0 * rng.integers(0, 3, (n, 1)) + rng.standard_normal((n, 3))).astype(np.float32)


@functools.lru_cache(maxsize=512)
def reports(window, scheme, size=40, n=1500):
    blocks = blocks_of(points(window, n), rows=n // 5)
    return shard_reports(blocks, MergeReduce(Sampler(3, size), scheme, seed=window))


@functools.lru_cache(maxsize=512)
def decision(window, scheme=SCHEME, dropped=(), kind="exact", size=40, n=1500):
    answers = [r for r in reports(window, scheme, size, n) if r.shard not in dropped]
    return decide(answers, Policy(scheme, kind))


def rolled_up(decisions, sampler, seed=0):
    rollup = Rollup(sampler, seed)
    for one in decisions:
        rollup.add(one)
    return rollup.result()


@st.composite
def windows(draw, schemes=SCHEMES):
    """Decisions of one to four windows under one scheme, and a factor for each."""
    s = draw(st.integers(1, 5))
    scheme = Assignment(s, draw(st.integers(1, s)), draw(st.sampled_from(schemes)), 24, draw(st.integers(0, 3)))
    kind = draw(st.sampled_from(["exact", "uniform", "lp"]))
    dropped = draw(st.lists(st.sets(st.integers(0, s - 1)), min_size=1, max_size=4))
    factors = draw(st.lists(st.sampled_from([1.0, 0.5, 0.01]), min_size=len(dropped), max_size=len(dropped)))
    return [decision(i, scheme, tuple(sorted(d)), kind, 30, 300) for i, d in enumerate(dropped)], factors


def assert_alike(first, second, rtol=1e-9):
    for field in dataclasses.fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray | float):
            np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-12, err_msg=field.name)
        else:
            assert one == other, field.name


@given(windows())
def test_the_merged_coreset_is_theirs_side_by_side(case):
    decisions, factors = case
    whole = merge(decisions, factors)
    expected = Coreset.union([d.coreset.scaled(f) for d, f in zip(decisions, factors, strict=True)])
    here = whole.coreset.weights > 0  # the lp may give a holder nothing in one window, something on average
    np.testing.assert_allclose(whole.coreset.weights[here], expected.weights[expected.weights > 0], rtol=1e-9)
    assert np.array_equal(whole.coreset.ids[here], expected.ids[expected.weights > 0])
    total = sum(d.total_weight * f for d, f in zip(decisions, factors, strict=True))
    assert whole.total_weight == pytest.approx(total, rel=1e-12)
    assert whole.recovery.weights.sum() == pytest.approx(total, rel=1e-9)
    assert whole.points == whole.recovery.counts.sum() == sum(d.points for d in decisions)
    assert whole.recovery.coverage == pytest.approx(np.mean([d.recovery.coverage for d in decisions]))
    assert whole.recovery.responded == tuple(sorted(set.intersection(*(set(d.recovery.responded) for d in decisions))))


@given(windows(), st.data())
def test_merging_in_two_steps_is_merging_at_once(case, data):
    decisions, factors = case
    cut = data.draw(st.integers(1, len(decisions)))
    inner = merge(decisions[:cut], [f / 0.5 for f in factors[:cut]])
    steps, once = merge([inner, *decisions[cut:]], [0.5, *factors[cut:]]), merge(decisions, factors)
    assert_alike(steps.recovery, once.recovery)
    assert_alike(steps.coreset, once.coreset)
    assert_alike(fixed_interval(steps, CENTERS), fixed_interval(once, CENTERS), 1e-6)
    assert steps.recovery.panes == len(decisions)


@given(windows())
def test_the_certificate_is_that_of_all_buckets_apart(case):
    decisions, _ = case
    whole = merge(decisions)
    one = [merge([d]) for d in decisions]
    ends = np.cumsum([0, *(d.recovery.trusted.shape[1] for d in one)])
    arrays = {
        name: np.concatenate([getattr(d.recovery, name) for d in one], axis=-1)
        for name in ("trusted", "multipliers", "covered", "complete", "counts", "weights", "origin")
    }
    arrays["unequal"] = arrays.pop("multipliers")
    sample = whole.evidence.sample
    buckets = np.concatenate([d.evidence.bucket + end for d, end in zip(one, ends[:-1], strict=True)])
    apart = Decision.of(
        whole.policy, dataclasses.replace(whole.recovery, **arrays), Evidence(sample, whole.evidence.shard, buckets),
        whole.total_weight, whole.points, whole.degraded,
    )
    assert_alike(fixed_interval(whole, CENTERS), fixed_interval(apart, CENTERS), 1e-6)
    assert whole.recovery.trusted.shape[1] <= ends[-1]


def test_an_estimate_is_the_sum_of_the_windows():
    parts = [decision(0), decision(1, dropped=(1,)), decision(2, dropped=(0, 1))]
    expected = sum(fixed_interval(d, CENTERS).estimate for d in parts)
    assert parts[2].recovery.scale > 1
    assert fixed_interval(merge(parts), CENTERS).estimate == pytest.approx(expected)
    forgetting = fixed_interval(merge(parts, [0.25, 0.5, 1]), CENTERS).estimate
    assert forgetting == pytest.approx(sum(
        f * fixed_interval(d, CENTERS).estimate for f, d in zip((0.25, 0.5, 1), parts, strict=True)
    ))


@pytest.mark.parametrize("factors", [(1, 1, 1, 1), (0.5, 1, 1, 1), (1, 0.2, 0.4, 0.1)])
def test_what_was_scaled_over_stays_in_the_error(factors):
    """Coresets that hold everything have no other error; windows are of one kind, so its variances add up. What counts
    more than the average row by its factor looks as if it had been drawn, which makes the error larger."""
    scheme = Assignment(4, 2, "cyclic", 48)
    lost = [(2, 3), (), (0, 1, 2), ()]
    parts = [decision(i, scheme, dropped, "exact", 1500) for i, dropped in enumerate(lost)]
    expected = sum((f * fixed_interval(d, CENTERS).standard_error) ** 2 for f, d in zip(factors, parts, strict=True))
    found = fixed_interval(merge(parts, factors), CENTERS).standard_error
    assert expected > 0
    assert 0.85 * expected**0.5 <= found <= (1.15 if len(set(factors)) < 3 else 1.35) * expected**0.5


def test_what_is_partial_in_one_window_is_partial():
    whole = decision(0)
    partial = np.arange(40) != 7
    other = dataclasses.replace(whole, recovery=dataclasses.replace(whole.recovery, complete=partial))
    found = merge([other, whole, whole]).recovery
    assert found.complete.tolist() == partial.tolist()
    assert found.covered.all()


def test_many_windows_need_no_more_buckets_than_kinds_of_loss():
    rng = generator("stragglers")
    running = decision(0)
    total = running.total_weight
    for i in range(60):
        pane = decision(i % 7, dropped=tuple(np.flatnonzero(rng.random(5) < 0.1)))
        running, total = thinned(merge([running, pane]), Sampler(3, 40), 0), total + pane.total_weight
    assert running.recovery.trusted.shape[1] <= 40 * 4  # of two holders, those that answered
    assert len(running.coreset) <= 5 * 60
    assert running.total_weight == pytest.approx(total)
    assert running.recovery.panes == 61


def test_thinning_is_unbiased_and_the_error_is_measured():
    """200 draws. A mean off by 4.5 of its standard errors has probability 1e-5; an interval that holds with
    probability 0.945 holds less than 0.89 or more than 0.99 of the time with probability 0.003, but the seeds are
    fixed."""
    whole = merge([decision(i, dropped=(i,) if i < 3 else (), size=200) for i in range(5)])
    truth = fixed_interval(whole, CENTERS).estimate
    draws = [fixed_interval(thinned(whole, Sampler(3, 60), seed), CENTERS) for seed in range(200)]
    estimates = np.array([d.estimate for d in draws])
    assert abs(estimates.mean() - truth) < 4.5 * estimates.std(ddof=1) / 200**0.5
    assert len(thinned(whole, Sampler(3, 60), 0).evidence.sample) < 5 * 70
    fresh = []
    for trial in range(100):
        logic = [MergeReduce(Sampler(3, 100), SCHEME, 7 * trial + i) for i in range(3)]
        parts = [decide(shard_reports(blocks_of(points(i), rows=300), logic[i]), Policy(SCHEME)) for i in range(3)]
        interval = fixed_interval(thinned(merge(parts), Sampler(3, 60), trial), CENTERS)
        fresh.append(interval.low <= sum(cost(points(i), np.ones(1500), CENTERS) for i in range(3)) <= interval.high)
    assert 0.89 <= np.mean(fresh) <= 0.99


def test_thinning_keeps_totals_and_is_deterministic():
    whole = merge([decision(i, size=200) for i in range(4)], [0.1, 0.2, 0.5, 1])
    first, second = (thinned(whole, Sampler(3, 50), 9) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()
    assert first.to_bytes() != thinned(whole, Sampler(3, 50), 10).to_bytes()
    assert first.total_weight == whole.total_weight == pytest.approx(first.coreset.weights.sum())
    assert thinned(first, Sampler(3, 80), 9).to_bytes() == first.to_bytes()
    assert type(first).from_bytes(first.to_bytes()).to_bytes() == first.to_bytes()


@pytest.mark.parametrize("labelled", [False, True])
def test_a_cap_in_bytes_holds_through_windows_and_rollups(labelled):
    capped = Sampler(3, 10**6, most_bytes=50 * 3 * 4)
    parts = [decision(i, n=3000, size=400) for i in range(4)]
    if labelled:
        parts = [_with_labels(part) for part in parts]
    whole = merge(parts)
    for found in (thinned(whole, capped, 0), rolled_up(parts, capped)):
        assert max(np.bincount(found.evidence.shard)) <= 50 + 4
        assert found.coreset.weights.sum() == pytest.approx(whole.total_weight, rel=1e-9)
    node = node_sampler(capped, 3, 4)
    assert node.size_in(3, 4) <= NODE_FACTOR * 50


def _with_labels(part):
    """The same decision, every fourth point with another label."""
    codes = (np.arange(len(part.evidence.sample)) % 4 == 0).astype(np.int32)
    weights = part.coreset.weights  # in the order of the evidence: nothing was left out
    totals = {code: float(weights[codes == code].sum()) for code in (0, 1)}
    sample = dataclasses.replace(part.evidence.sample, groups=codes)
    evidence = Evidence(sample, part.evidence.shard, part.evidence.bucket)
    return Decision.of(part.policy, part.recovery, evidence, part.total_weight, part.points, False, label_totals=totals)


def test_shards_that_hold_the_same_points_are_thinned_apart():
    """Else replicas would agree about a sample that is as wrong as any."""
    whole = decision(0, Assignment(4, 2, "fractional", 40), size=1500)
    found = thinned(whole, Sampler(3, 50), 0)
    assert fixed_interval(whole, CENTERS).standard_error == pytest.approx(0, abs=1e-6)
    assert fixed_interval(found, CENTERS).standard_error > 0.005 * fixed_interval(found, CENTERS).estimate
    ids = [frozenset(found.evidence.sample.ids[found.evidence.shard == i].tolist()) for i in range(4)]
    assert len(set(ids)) == 4


def test_a_rollup_of_many_windows_is_close_to_all_of_the_data():
    rollup = Rollup(Sampler(3, 100), 1)
    most = 0
    for i in range(150):
        rollup.add(decision(i % 20, dropped=(i % 6,), size=100))
        most = max(most, sum(len(d.evidence.sample) for d in [*rollup._levels, *rollup._waiting] if d is not None))
    found = rollup.result()
    assert most < 10 * 5 * 800
    assert len(found.coreset) <= 5 * 110
    assert found.total_weight == pytest.approx(150 * 1500)
    truth = sum(cost(points(i % 20), np.ones(1500), CENTERS) for i in range(150))
    assert fixed_interval(found, CENTERS).estimate == pytest.approx(truth, rel=0.1)
    again = rolled_up([decision(i % 20, dropped=(i % 6,), size=100) for i in range(150)], Sampler(3, 100), 1)
    assert again.to_bytes() == found.to_bytes()


@given(windows(), st.booleans(), st.booleans())
def test_the_tables_are_enough_to_go_on(case, merging, fitted):
    decisions, factors = case
    found = merge(decisions, factors) if merging else decisions[0]
    if found.recovery.kind == "lp":  # leaves points out of the tables
        found = decide([], found.policy)
    summary = summarize(found, Question(Sampler(3, 30), solve=False))
    back = unpack_evidence({"evidence": pack_evidence(found)}, summary.coreset)
    assert_alike(back.recovery, found.recovery)
    assert back.policy == found.policy
    assert (back.total_weight, back.points, back.degraded) == (found.total_weight, found.points, found.degraded)
    assert np.array_equal(back.evidence.shard, found.evidence.shard)
    assert np.array_equal(back.evidence.bucket, found.evidence.bucket)
    if len(found.coreset):
        assert np.array_equal(back.coreset.points, found.coreset.points)
        assert back.coreset.points.dtype == found.coreset.points.dtype
    for weights in ("weights", "weights_ht"):
        np.testing.assert_allclose(getattr(back.evidence.sample, weights), getattr(found.evidence.sample, weights))
    measure = fitted_interval if fitted else fixed_interval
    assert_alike(measure(back, CENTERS), measure(found, CENTERS), 1e-6)


def test_scaled_columns_come_back_as_they_were_measured():
    scale = Scale((1e6, -1.0, 0.0), (1000.0, 0.5, 3.0))
    found = decision(0)
    table = summarize(found, Question(Sampler(3, 30), solve=False), scale=scale).coreset
    back = unpack_evidence({"evidence": pack_evidence(found)}, table, scale)
    np.testing.assert_allclose(back.coreset.points, found.coreset.points, rtol=1e-6, atol=1e-6)
    assert fixed_interval(back, CENTERS).estimate == pytest.approx(fixed_interval(found, CENTERS).estimate, rel=1e-5)


def test_ids_labels_and_kept_columns_come_back():
    blocks = [random_block(100, Span(0, i, i == 4), extras=True) for i in range(5)]
    scheme = Assignment(3, 2, "cyclic", 24)
    found = decide(shard_reports(blocks, MergeReduce(Sampler(3, 30), scheme)), Policy(scheme))
    first = summarize(found, Question(Sampler(3, 30), solve=False)).coreset
    back = unpack_evidence({"evidence": pack_evidence(found)}, first)
    second = summarize(back, Question(Sampler(3, 30), solve=False)).coreset
    weights = ("weight", "weight_ht")
    assert second.drop_columns(weights).equals(first.drop_columns(weights))
    assert len(pack_evidence(found)) < 1500


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: merge([]), "decisions: must be at least one, got none"),
        (lambda: merge([decision(0), decision(0, Assignment(4, 2))]), r"same number of shards, got \[4, 5\]"),
        (lambda: merge([decision(0)], [1, 2]), "factors: must be one for each of 1 decisions, got 2"),
        (lambda: merge([decision(0)], [-1]), "factors: must be finite and not negative, got -1.0"),
        (lambda: merge([decision(0)], [float("nan")]), "factors: must be finite and not negative, got nan"),
        (lambda: unpack_evidence({"evidence": None, "version": "0.1"}, None), "got none .written by version 0.1"),
        (
            lambda: unpack_evidence({"evidence": pack_evidence(decision(0))}, summarize(decide([], Policy(SCHEME)),
                                                                    Question(Sampler(3, 30))).coreset),
            "coreset: must have the .* points of this window, got 0",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
