"""Algorithm 3 whole: Lemma 5 and Theorem 5 of the redundant assignment paper, from blocks to the subspace."""
import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import check_merge_laws, piece_of, planned_parts, random_block

from beam_coresets.coordinator import merge
from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.datasets.structured import LowRank
from beam_coresets.hashing import generator
from beam_coresets.points.block import Span, blocks_of
from beam_coresets.results.certificate import proved_interval
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling import frequent_directions
from beam_coresets.sampling.frequent_directions import Relaxation
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards import pca
from beam_coresets.shards.assignment import SCHEMES, Assignment
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import ShardState, shard_reports
from beam_coresets.shards.pca import SketchTree, principal_subspace
from beam_coresets.shards.report import ShardReport
from beam_coresets.solvers.subspaces import Subspaces

ANY = Sampler(1, 1)  # a sketch draws nothing
DIM = 10
WEIGHTS = np.arange(600) % 5 / 2
RANDOM = 6  # subspaces tried beside the solved one


@functools.cache
def points(seed=0):
    return LowRank(seed=seed, d=DIM, rank=4, extent=4.0, offset=5.0).points(600)


def tree(assignment, r, delta, affine=False, seed=0):
    return SketchTree(ANY, assignment, seed, relaxation=Relaxation(r, delta, affine))


def decided(assignment, relaxation, dropped=(), recovery="lp", data=None, tamper=None):
    blocks = blocks_of(points() if data is None else data, WEIGHTS, rows=50)
    logic = SketchTree(ANY, assignment, 0, relaxation=relaxation)
    reports = [r for r in shard_reports(blocks, logic) if r.shard not in dropped]
    if tamper:
        reports = [tamper(r) for r in reports]
    return decide(reports, Policy(assignment, recovery, whole=True))


def cost(subspaces, data, weights):
    (center,), (basis,) = subspaces.centers, subspaces.bases
    y = np.asarray(data, np.float64) - center
    return float(weights @ ((y - y @ basis.T @ basis) ** 2).sum(axis=1))


def best_cost(data, weights, r, affine):
    mean = weights @ data / weights.sum() if affine else 0.0
    values = np.linalg.svd((data - mean) * np.sqrt(weights)[:, None], compute_uv=False)
    return float((values[r:] ** 2).sum())


def some_subspace(rng, r, affine):
    basis = np.linalg.qr(rng.standard_normal((DIM, r)))[0].T
    return Subspaces(5 * affine + affine * rng.standard_normal((1, DIM)), basis[None], affine)


@st.composite
def situations(draw):
    s = draw(st.integers(2, 6))
    scheme = Assignment(s, draw(st.integers(2, s)), draw(st.sampled_from(SCHEMES)), 24, draw(st.integers(0, 9)))
    dropped = draw(st.sets(st.integers(0, s - 1), max_size=s - 1))
    relaxation = Relaxation(draw(st.integers(1, 3)), draw(st.sampled_from([0.5, 1.0, 2.0])), draw(st.booleans()))
    return scheme, relaxation, dropped, draw(st.sampled_from(["uniform", "lp"])), draw(st.sampled_from([0, 400]))


@settings(max_examples=60)
@given(situations())
def test_lemma_5_and_theorem_5_hold_whoever_answers(situation):
    """For every subspace, and with the factor for the solved one; where a bucket is lost, only what is left of it."""
    scheme, relaxation, dropped, recovery, room = situation
    r, affine = relaxation.r, relaxation.affine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequent_directions, "SKETCH_BYTES", room)
        decision = decided(scheme, relaxation, dropped, recovery)
    covered = scheme.matrix()[[i for i in range(scheme.shards) if i not in dropped]].any(axis=0)
    question = Question(ANY, kind="pca", r=r, affine=affine, delta=relaxation.delta)
    row = summarize(decision, question).summaries.to_pylist()[0]
    assert (row["factor"] is None) == (not covered.all())
    assert row["coverage"] == covered.mean()
    if not covered.any():
        return
    found = principal_subspace(decision.coreset.points, decision.coreset.weights, r, affine)
    rng = generator("any subspace", scheme.seed)
    for each in (found, *(some_subspace(rng, r, affine) for _ in range(RANDOM))):
        interval = proved_interval(decision, each)
        true = cost(each, points(), WEIGHTS)
        assert interval.low <= true * (1 + 1e-9)
        assert true <= interval.high * (1 + 1e-9) or not covered.all()
        assert np.isnan(interval.high) == (not covered.all())
    if covered.all():
        best = best_cost(points(), WEIGHTS, r, affine)
        assert cost(found, points(), WEIGHTS) <= row["factor"] * best * (1 + 1e-9)
        assert row["factor"] <= pca.factor(decision.recovery.delta, relaxation.delta)
        assert row["cost_low"] * (1 - 1e-9) <= row["cost"] <= row["cost_high"] * (1 + 1e-9)
        assert row["cost_low"] <= best * (1 + 1e-9)


def test_the_multipliers_are_in_the_weights_and_the_mean_is_the_weighted_one():
    """Rows times sqrt(b_i), as printed, and the exact mean of what b weighs."""
    scheme, b = Assignment(4, 2, "cyclic", 16), None
    decision = decided(scheme, Relaxation(2, 0.1, affine=True), dropped=(1,))
    b = decision.recovery.multipliers.max(axis=1)
    held = scheme.matrix()[:, scheme.bucket_of(np.arange(600, dtype=np.uint64))]
    counted = b @ held * WEIGHTS
    coreset = decision.coreset
    assert coreset.weights.sum() == pytest.approx(WEIGHTS.sum(), rel=1e-12)
    np.testing.assert_allclose(coreset.weights @ coreset.points / WEIGHTS.sum(), counted @ points() / counted.sum())
    found = principal_subspace(coreset.points, coreset.weights, 2, affine=True)
    y = points() - counted @ points() / counted.sum()
    direct = np.linalg.svd(y * np.sqrt(counted)[:, None], full_matrices=False)[2][:2]
    np.testing.assert_allclose(np.abs(direct @ found.bases[0].T), np.eye(2), atol=1e-6)


@pytest.mark.parametrize("recovery", ["lp", "uniform"])
def test_nothing_is_lost_where_there_is_room_and_the_cost_is_the_true_one(recovery):
    decision = decided(Assignment(3, 3, "cyclic", 8), Relaxation(2, 0.1), (0, 2), recovery)
    found = principal_subspace(decision.coreset.points, decision.coreset.weights, 2)
    interval = proved_interval(decision, found)
    best = best_cost(points(), WEIGHTS, 2, False)
    assert [interval.low, interval.estimate, interval.high] == pytest.approx([best] * 3, rel=1e-6)


@settings(max_examples=40)
@given(planned_parts(), st.booleans(), st.sampled_from([Assignment(4, 2, "cyclic", 16), Assignment(1, 1)]), st.data())
def test_however_the_work_is_divided_the_bytes_are_the_same(blocks, affine, assignment, data):
    logic, shard = tree(assignment, 1, 1.0, affine), assignment.shards - 1
    blocks = [dataclasses.replace(block, groups=None, extras=None) for block in blocks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequent_directions, "SKETCH_BYTES", 0)  # one row of two is kept, so every merge cuts
        check_merge_laws(
            data.draw, logic, ShardState, lambda s, b: logic.update(s, shard, piece_of(logic, b, shard)), blocks
        )


def test_a_report_and_a_decision_survive_their_bytes():
    scheme = Assignment(4, 2, "cyclic", 16)
    report = shard_reports(blocks_of(points(), WEIGHTS), tree(scheme, 2, 1.0))[1]
    back = ShardReport.from_bytes(report.to_bytes())
    assert back.to_bytes() == report.to_bytes()
    assert (back.kind, back.additive, back.slack, back.estimated) == ("pca", report.additive, report.slack, False)
    assert 0 < back.slack < back.additive
    decision = decided(scheme, Relaxation(2, 1.0), dropped=(3,))
    same = Decision.from_bytes(decision.to_bytes())
    assert same.to_bytes() == decision.to_bytes()
    assert same.policy == decision.policy
    assert same.local.kind == "pca"
    assert same.local.slack.tolist() == decision.local.slack.tolist()
    assert same.coreset.weights.tobytes() == decision.coreset.weights.tobytes()


def test_windows_of_sketches_are_not_merged():
    with pytest.raises(ValueError, match="decisions: must be on coresets to be merged, got pca"):
        merge.merge([decided(Assignment(3, 2, "cyclic", 8), Relaxation(2, 1.0))])


def wrong(ledger, bucket, count=0):
    checksums, counts = ledger.checksums.copy(), ledger.counts.copy()
    checksums[bucket] += np.uint64(1)
    counts[bucket] += count
    return Ledger(counts, checksums, ledger.weights)


@pytest.mark.parametrize(("count", "name"), [(0, "corrupted"), (-1, "partial"), (3, "duplicated")])
def test_one_wrong_bucket_leaves_the_whole_shard_out(count, name):
    scheme = Assignment(6, 3, "cyclic", 24)
    bucket = int(np.flatnonzero(scheme.matrix()[2])[0])

    def tamper(report):
        if report.shard != 2:
            return report
        return dataclasses.replace(report, ledger=wrong(report.ledger, bucket, count))

    decision = decided(scheme, Relaxation(2, 1.0), tamper=tamper)
    without = decided(scheme, Relaxation(2, 1.0), dropped=(2,))
    assert decision.recovery.distrusted == {2: name}
    assert not decision.recovery.trusted[2].any()
    assert (decision.local.additive[2], 2 in decision.evidence.shard) == (0.0, False)
    assert decision.coreset.points.tobytes() == without.coreset.points.tobytes()
    assert decision.recovery.delta == without.recovery.delta
    assert decision.recovery.coverage == 1.0


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("n", "d", "r"), [(50, 6, 2), (4, 9, 3), (2, 5, 3), (1, 4, 2)])
def test_principal_subspaces_are_the_best_and_their_bases_orthonormal(n, d, r, affine):
    rng = generator("principal", n, d)
    data, weights = rng.standard_normal((n, d)) + 3, rng.random(n) + 0.1
    found = principal_subspace(data, weights, r, affine)
    assert found.bases.shape == (1, r, d)
    np.testing.assert_allclose(found.bases[0] @ found.bases[0].T, np.eye(r), atol=1e-12)
    assert (found.bases[0][np.arange(r), np.abs(found.bases[0]).argmax(axis=1)] > 0).all()
    assert found.cost == pytest.approx(best_cost(data, weights, r, affine), abs=1e-12)
    assert cost(found, data, weights) == pytest.approx(found.cost, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("r", [0, 3, 4])
def test_a_subspace_must_be_smaller_than_the_space(r):
    with pytest.raises(ValueError, match=f"r: must be from 1 to 2 with 3 coordinates, got {r}"):
        principal_subspace(np.eye(3), np.ones(3), r)


def test_shards_without_rows_or_weight_are_answered_too():
    scheme = Assignment(3, 2, "cyclic", 6)
    for block in (random_block(0, Span(0, 0, True), dim=4), dataclasses.replace(
        random_block(9, Span(0, 0, True), dim=4), weights=np.zeros(9)
    )):  # fmt: skip
        decision = decide(shard_reports([block], tree(scheme, 2, 1.0)), Policy(scheme, "lp", whole=True))
        summary = summarize(decision, Question(ANY, kind="pca", r=2))
        assert (summary.summaries.to_pylist()[0]["centers"], len(summary.coreset)) == (0, 0)
    nobody = decide([], Policy(scheme, "lp", whole=True))
    assert summarize(nobody, Question(ANY, kind="pca", r=2)).summaries.to_pylist()[0]["factor"] is None
