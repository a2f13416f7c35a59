"""Algorithm 1: Lemmas 1 and 2 and Theorem 3 of the redundant assignment paper, from blocks to centers."""
import dataclasses
import functools
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from laws import check_merge_laws, piece_of, planned_parts

from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.coordinator.recovery import recover
from beam_coresets.datasets.synthetic import SSet
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span, blocks_of
from beam_coresets.points.nearest import cost
from beam_coresets.results.certificate import proved_interval
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import SCHEMES, Assignment, split
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.local_centers import LocalCenters, factor
from beam_coresets.shards.merge_reduce import ShardState, shard_reports
from beam_coresets.shards.report import Range, ShardReport
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.model import Centers

K = 3
SAMPLER = Sampler(K, 400, 1.0)
WEIGHTS = np.arange(300) % 4 / 2
CENTER_SETS = 6  # random ones tried beside the solved one


@functools.cache
def points():
    return (SSet(k=6).points(300) / 1e5).astype(np.float32)


@functools.cache
def reports(scheme, seed=0):
    return shard_reports(blocks_of(points(), WEIGHTS, rows=50), LocalCenters(SAMPLER, scheme, seed))


def decided(scheme, dropped=(), recovery="lp"):
    return decide([r for r in reports(scheme) if r.shard not in dropped], Policy(scheme, recovery, whole=True))


def answered(scheme, dropped):
    return [i for i in range(scheme.shards) if i not in dropped]


@st.composite
def situations(draw, most=6):
    s = draw(st.integers(2, most))
    scheme = Assignment(s, draw(st.integers(2, s)), draw(st.sampled_from(SCHEMES)), 24, draw(st.integers(0, 5)))
    return scheme, draw(st.sets(st.integers(0, s - 1), max_size=s - 1)), draw(st.sampled_from(["uniform", "lp"]))


@settings(max_examples=60)
@given(situations(), st.integers(0, 99), st.sampled_from([1.0, 2.0]))
def test_lemma_1_for_any_centers_and_weights(situation, seed, z):
    """cost(P, C, w) <= sum_i b_i cost(P_i, C, w) <= (1 + delta) cost(P, C, w); Theorem 6's b up to a constant."""
    scheme, dropped, kind = situation
    rng = generator("lemma 1", seed)
    weights, centers = rng.gamma(0.5, size=300), rng.uniform(0, 10, (K, 2))
    ids = np.arange(300, dtype=np.uint64)
    whole = PointBlock(points(), weights, ids, Span(0, 0, True))
    parts = split(whole, scheme)
    ledgers = {i: Ledger.of(parts[i], scheme) for i in answered(scheme, dropped)}
    recovery = recover(scheme, ledgers, kind, whole=True)
    assume(recovery.covered.all())
    b = recovery.multipliers.max(axis=1)
    held = sum(b[i] * cost(parts[i].points, parts[i].weights, centers, z) for i in ledgers)
    true = cost(points(), weights, centers, z)
    least = recovery.multipliers.sum(axis=0).min()
    assert least == pytest.approx(1, rel=1e-9) or kind == "uniform"
    assert true * (1 - 1e-6) <= held / least <= (1 + recovery.delta) * true * (1 + 1e-6)


@settings(max_examples=60)
@given(situations())
def test_the_interval_holds_for_any_centers_whoever_answers(situation):
    """The triangle inequality both ways, after Lemma 2; without a holder only the lower bound is left."""
    scheme, dropped, kind = situation
    decision = decided(scheme, dropped, kind)
    covered = scheme.matrix()[answered(scheme, dropped)].any(axis=0)
    row = summarize(decision, Question(SAMPLER, kind="local_centers")).summaries.to_pylist()[0]
    assert (row["factor"] is None) == (not covered.all())
    if not covered.any():
        return
    rng = generator("any centers", scheme.seed)
    solved = solve_centers(decision.coreset.points, decision.coreset.weights, K, 1.0).centers
    for centers in (solved, *(rng.uniform(0, 10, (K, 2)) * scale for scale in [1, 1, 1, 5, 5, 100][:CENTER_SETS])):
        interval = proved_interval(decision, Centers(centers, 1.0))
        true = cost(points(), WEIGHTS, centers, 1.0)
        assert interval.low <= true * (1 + 1e-6)
        assert true <= interval.high * (1 + 1e-6) or not covered.all()
        assert np.isnan(interval.high) == (not covered.all())
        if covered.all():
            assert interval.low * (1 - 1e-9) <= interval.estimate <= interval.high * (1 + 1e-9)
    if covered.all():
        assert row["factor"] <= 3 * (1 + decision.recovery.delta) * (1 + 1e-9)
        assert row["cost_basis"] == "triangle inequality"


def exhaustive(values, weights, k):
    """The least k-median cost on a line, where some best centers are points."""
    far = np.abs(values[:, None] - values[None])
    return min(float(weights @ far[:, c].min(axis=1)) for c in itertools.combinations(range(len(values)), k))


@settings(max_examples=80)
@given(situations(most=5), st.integers(0, 9999), st.integers(5, 12), st.integers(1, 3))
def test_theorem_3s_factor_against_every_choice_of_centers(situation, seed, n, k):
    """Both solvers are optimal on a dozen points (checked for the shards), so the factor is 3 (1 + delta)."""
    scheme, dropped, kind = situation
    rng = generator("theorem 3", seed)
    line = rng.choice([0.0, 3.0, 50.0], n) + rng.gamma(0.3, size=n)
    weights = rng.integers(1, 4, n).astype(np.float64)
    data = line[:, None]
    logic = LocalCenters(Sampler(k, 100, 1.0), scheme)
    local = [r for r in shard_reports(blocks_of(data, weights), logic) if r.shard not in dropped]
    decision = decide(local, Policy(scheme, kind, whole=True))
    for report in local:
        mine = scheme.matrix()[report.shard][scheme.bucket_of(np.arange(n, dtype=np.uint64))]
        if mine.sum() > k:
            assert report.additive == pytest.approx(exhaustive(line[mine], weights[mine], k), rel=1e-6)
        assert report.coreset.weights.sum() == pytest.approx(weights[mine].sum())
    assume(decision.recovery.coverage == 1)
    found = solve_centers(decision.coreset.points, decision.coreset.weights, k, 1.0).centers
    best = exhaustive(line, weights, min(k, n))
    assert cost(data, weights, found, 1.0) <= factor(decision.recovery.delta) * best * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("count", [K, 4 * K, 300])
def test_more_centers_a_shard_bring_the_bounds_together(count):
    """With as many as there are rows they meet at the true cost, and nothing is left of the factor but delta."""
    scheme = Assignment(4, 2, "cyclic", 24)
    logic = LocalCenters(SAMPLER, scheme, count=count)
    decision = decide(shard_reports(blocks_of(points(), WEIGHTS), logic), Policy(scheme, "lp", whole=True))
    row = summarize(decision, Question(SAMPLER, kind="local_centers")).summaries.to_pylist()[0]
    loss = float(decision.recovery.multipliers.max(axis=1) @ decision.local.additive)
    low, high = row["cost_low"], row["cost_high"]
    assert high - low == pytest.approx(min(2 * loss, high), abs=1e-6)
    assert row["factor"] == pytest.approx(min(3.0, high / low if low > 0 else 3.0))
    if count == 300:
        assert high / low == pytest.approx(1, abs=1e-6)
    if count == 4 * K:
        assert high / low < 3


def test_the_factor_is_the_papers():
    assert factor(0.0) == 3
    assert factor(0.5, alpha=2, beta=3) == (2 + 6 + 3) * 1.5


def test_weights_and_local_costs_are_exact_where_every_row_is_held():
    scheme = Assignment(4, 2, "cyclic", 24)
    held = scheme.matrix()[:, scheme.bucket_of(np.arange(300, dtype=np.uint64))]
    for report in reports(scheme):
        mine = held[report.shard]
        centers = report.coreset.points
        assert not report.estimated
        assert report.additive == pytest.approx(cost(points()[mine], WEIGHTS[mine], centers, 1.0), rel=1e-6)
        assert report.slack == 2 * report.additive
        index = np.linalg.norm(points()[mine][:, None] - centers[None], axis=2).argmin(axis=1)
        assert report.coreset.weights.tolist() == np.bincount(index, WEIGHTS[mine], K).tolist()
        assert report.ledger.weight == WEIGHTS[mine].sum()


def test_on_a_thinned_tree_they_are_estimates_of_the_right_total():
    """The cost is estimated from 320 of 3,000 rows by importance: 5 % is 5 of its standard deviations (measured)."""
    instance, scheme = SSet(k=4), Assignment(1, 1)
    data = instance.points(3000)
    (report,) = shard_reports(blocks_of(data, rows=500), LocalCenters(Sampler(4, 40, 1.0), scheme))
    assert report.estimated
    assert report.coreset.weights.sum() == pytest.approx(3000, rel=1e-12)
    true = cost(data, np.ones(3000), report.coreset.points, 1.0)
    assert report.additive == pytest.approx(true, rel=0.05)
    decision = decide([report], Policy(scheme, "lp", whole=True))
    row = summarize(decision, Question(Sampler(4, 40, 1.0), kind="local_centers")).summaries.to_pylist()[0]
    assert row["cost_basis"] == "triangle inequality, local costs estimated"
    assert row["factor"] is None


def test_a_center_that_several_shards_send_gets_the_sum():
    """Data at K places: all shards send the same centers."""
    data = np.repeat([[0.0, 0], [5, 0], [0, 9]], 40, axis=0)
    scheme = Assignment(4, 2, "cyclic", 24)
    local = shard_reports(blocks_of(data), LocalCenters(SAMPLER, scheme))
    decision = decide(local[:3], Policy(scheme, "lp", whole=True))
    assert len(decision.evidence.sample) == 9
    assert len(decision.coreset) == 3
    b = decision.recovery.multipliers.max(axis=1)
    for place, weight in zip(decision.coreset.points, decision.coreset.weights, strict=True):
        sent = sum(b[r.shard] * r.coreset.weights[(r.coreset.points == place).all(axis=1)].sum() for r in local[:3])
        total = sum(b[r.shard] * r.coreset.weights.sum() for r in local[:3])
        assert weight == pytest.approx(sent * 120 / total, rel=1e-9)
    summary = summarize(decision, Question(SAMPLER, kind="local_centers"))
    assert summary.coreset.column("shards").to_pylist() == [[0]] * 3
    assert summary.coreset.column("weight").to_numpy().sum() == pytest.approx(120)
    assert summary.summaries.to_pylist()[0]["cost_high"] == pytest.approx(0, abs=1e-9)


@given(planned_parts(), st.data())
def test_however_the_work_is_divided_the_bytes_are_the_same(blocks, data):
    scheme = Assignment(4, 2, "cyclic", 16)
    logic = LocalCenters(Sampler(2, 8, 1.0), scheme, seed=5)
    check_merge_laws(data.draw, logic, ShardState, lambda s, b: logic.update(s, 1, piece_of(logic, b, 1)), blocks)


def test_local_centers_name_the_nearest_row_and_no_label():
    rows = [f"row {i}" for i in range(300)]
    extras = pa.table({"id": rows, "group": ["a", "b"] * 150})
    block = PointBlock(
        points(), WEIGHTS, np.arange(300, dtype=np.uint64), Span(0, 0, True), np.zeros(300, np.int32), extras
    )
    scheme = Assignment(2, 2)
    decision = decide(shard_reports([block], LocalCenters(SAMPLER, scheme)), Policy(scheme, "lp", whole=True))
    summary = summarize(decision, Question(SAMPLER, kind="local_centers"))
    assert decision.coreset.groups is None
    for name, place in zip(summary.coreset.column("id").to_pylist(), decision.coreset.points, strict=True):
        far = np.linalg.norm(points() - place, axis=1)
        assert far[rows.index(name)] == far.min()
    assert summary.coreset.column("group_label").null_count == len(decision.coreset)


def test_a_report_and_a_decision_survive_their_bytes():
    scheme = Assignment(4, 2, "cyclic", 24)
    report = reports(scheme)[2]
    assert ShardReport.from_bytes(report.to_bytes()).to_bytes() == report.to_bytes()
    decision = decided(scheme, {1})
    same = Decision.from_bytes(decision.to_bytes())
    assert same.to_bytes() == decision.to_bytes()
    assert (same.local.kind, same.local.estimated) == ("local_centers", False)
    assert same.local.additive.tolist() == decision.local.additive.tolist()
    assert same.coreset.weights.tobytes() == decision.coreset.weights.tobytes()


def test_an_unfinished_bucket_leaves_the_whole_shard_out():
    scheme = Assignment(3, 2, "cyclic", 3, parts=True)
    blocks = [
        dataclasses.replace(block, ids=block.ids | np.uint64(part << 48))
        for part in range(3) for block in blocks_of(points()[part::3], part=0)
    ]  # fmt: skip
    blocks = [dataclasses.replace(block, span=Span(part, 0, True)) for part, block in enumerate(blocks)]
    told = []
    for report in shard_reports(blocks, LocalCenters(SAMPLER, scheme)):
        held = np.flatnonzero(scheme.matrix()[report.shard]).tolist()
        late = held[0] if report.shard == 1 else -1
        ranges = tuple(Range(p, 0, 100, 100, -1 if p == late else 100) for p in held)
        told.append(dataclasses.replace(report, ranges=ranges, parts=3))
    decision = decide(told, Policy(scheme, "lp", parts=3, whole=True))
    assert decision.recovery.stragglers == (1,)
    assert set(decision.evidence.shard.tolist()) == {0, 2}
    assert decision.recovery.coverage == 1.0
    only = decide(told[1:2], Policy(scheme, "lp", parts=3, whole=True))
    assert (only.recovery.coverage, len(only.coreset)) == (0.0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalCenters(SAMPLER, Assignment(2), count=2), "local_centers: must be at least k = 3, got 2"),
        (lambda: LocalCenters(Sampler(3, 30, 2.0), Assignment(2)), r"z: must be 1 with summary local_centers.*got 2"),
        (lambda: Policy(Assignment(3), "exact", whole=True), "recovery: must be uniform or lp where shards count"),
        (lambda: decide(reports(Assignment(2)), Policy(Assignment(2), "lp")), "policy: must count shards as a whole"),
        (
            lambda: decide(
                [reports(Assignment(2))[0], dataclasses.replace(reports(Assignment(2))[1], kind="pca")],
                Policy(Assignment(2), "lp", whole=True),
            ),
            "reports: must all be of one kind, got local_centers, pca",
        ),
        (lambda: recover(Assignment(2), {}, "exact", whole=True), "kind: must be uniform or lp"),
        (
            lambda: proved_interval(decide([], Policy(Assignment(2))), Centers(np.zeros((1, 2)))),
            "decision: must be on summaries of kind local_centers or pca",
        ),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
