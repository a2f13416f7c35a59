"""Centers without outliers: their interval, and what a sample that is wrong about the outliers' number does to them."""
import numpy as np
import pytest
from jobs import clusters

from beam_coresets.coordinator.decision import Decision, decide
from beam_coresets.coordinator.evidence import unpack_evidence
from beam_coresets.coordinator.merge import merge, thinned
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.left_out import trimmed_cost
from beam_coresets.results.summary import summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.solvers.model import point_costs
from beam_coresets.solvers.trimmed import TrimmedCenters
from beam_coresets.streaming import partial_reports

M = 40


def planted(seed, n=4000, m=M):
    rng = generator("results outliers", seed)
    away = rng.normal(size=(m, 3))
    away *= rng.uniform(300, 3000, (m, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    return np.concatenate([clusters(n, seed), away])[rng.permutation(n + m)].astype(np.float32)


def decided(points, dropped=(1,), **options):
    plan = Plan(**{"k": 4, "shards": 6, "outliers": M, **options})
    reports = [r for r in shard_reports(blocks_of(points, rows=500), plan.merge_reduce) if r.shard not in dropped]
    return plan, decide(reports, plan.policy)


def test_the_interval_holds():
    """A nominal 95 % interval that holds in at least 14 of 20 runs: by chance it would fail in 3 of 10,000."""
    held = 0
    for seed in range(20):
        points, z = planted(seed % 4), 1.0 + seed % 2
        plan, decision = decided(points, seed=seed, coreset_size=100, z=z)
        summary = summarize(decision, plan.question)
        centers = summary.answers[0].model.centers
        true = trimmed_cost(point_costs(points, centers, z)[1], np.ones(len(points)), M)
        row = summary.answers[0].row
        held += row["cost_low"] <= true <= row["cost_high"]
        assert row["cost"] == pytest.approx(true, rel=0.15)
    assert held >= 14


@pytest.mark.parametrize("options", [{"replication": 1}, {"replication": 1, "outliers": 0.0099}])
def test_what_a_lost_shard_makes_uncertain_takes_no_center(options):
    points = planted(7)
    worst = 0.0
    for seed in range(6):  # about half of these samples have more outliers than the data
        plan, decision = decided(points, dropped=(seed,), seed=seed, **options)
        assert decision.recovery.scale > 1
        model = summarize(decision, plan.question).answers[0].model
        worst = max(worst, trimmed_cost(point_costs(points, model.centers)[1], np.ones(len(points)), M))
        assert model.threshold < 100  # below the gap
    assert worst < 1.03 * 3 * 4000


def test_known_points_keep_their_weight_when_others_are_made_to_add_up():
    points = planted(3)
    _, decision = decided(points, coreset_size=60)
    coreset, sample = decision.coreset, decision.evidence.sample
    sure = sample.weights == sample.weights_ht
    assert sure.sum() >= M
    assert not sure.all()
    assert np.array_equal(coreset.weights[sure], coreset.weights_ht[sure])
    assert coreset.weights.sum() == pytest.approx(len(points))
    plan, plain = decided(points, coreset_size=60, outliers=None)
    assert not plain.policy.known
    assert plan.sampler.outliers == 0


def test_stored_and_sent_decisions_are_the_same():
    plan, decision = decided(planted(3), coreset_size=60)
    summary = summarize(decision, plan.question)
    row = summary.summaries.to_pylist()[0]
    for again in (unpack_evidence(row, summary.coreset), Decision.from_bytes(decision.to_bytes())):
        assert again.policy.known
        assert np.allclose(again.coreset.weights, decision.coreset.weights, rtol=1e-12)
        assert np.allclose(again.coreset.weights_ht, decision.coreset.weights_ht, rtol=1e-12)
        other = summarize(again, plan.question)
        assert other.answers[0].row["cost_high"] == pytest.approx(row["cost_high"], rel=1e-9)
        assert other.answers[0].row["threshold"] == pytest.approx(row["threshold"], rel=1e-9)


def test_merged_and_thinned_decisions_keep_the_outliers():
    parts = [decided(planted(seed), seed=seed)[1] for seed in range(3)]
    plan = Plan(k=4, shards=6, outliers=3 * M, coreset_size=80)
    small = thinned(merge(parts), plan.sampler, 1)
    assert len(small.coreset) < sum(len(part.coreset) for part in parts)
    answer = summarize(small, plan.question).answers[0]
    costs = np.concatenate([point_costs(planted(seed), answer.model.centers)[1] for seed in range(3)])
    assert answer.row["outliers"] == pytest.approx(3 * M)
    assert sum(cost > 1e4 for cost in answer.outliers["cost"]) == 3 * M
    true = trimmed_cost(costs, np.ones(len(costs)), 3 * M)
    assert answer.row["cost_low"] <= true <= answer.row["cost_high"]


def test_thousands_of_keys_are_sampled_one_by_one_where_outliers_matter():
    plan, plain = Plan(k=2, shards=2, outliers=3), Plan(k=2, shards=2)
    assert plan.merge_reduce.key_by_key
    assert not plain.merge_reduce.key_by_key
    points = planted(5, n=70 * 200, m=70)
    keys = np.array([f"key {i % 70}" for i in range(len(points))], object)
    ids = np.arange(len(points), dtype=np.uint64) << np.uint64(32)
    rows = partial_reports.PaneRows(points, np.ones(len(points)), ids, keys, None, None)
    report = partial_reports.partial_report(plan.merge_reduce, 0, rows, (), plan.buckets)
    found = partial_reports.finished(plan.merge_reduce, [report])
    assert len(found) == 70
    far = np.concatenate([np.abs(each.coreset.points).max(axis=1) for each in found.values()])
    assert (far > 150).sum() == 70


def test_no_more_than_half_of_a_window_is_left_out():
    plan, decision = decided(planted(2, n=20, m=10), dropped=(), outliers=500)
    answer = summarize(decision, plan.question).answers[0]
    assert answer.row["outliers"] == pytest.approx(15)
    assert answer.row["cost_basis"] == "exact"
    empty, nothing = decided(np.empty((0, 3), np.float32), dropped=())
    answer = summarize(nothing, empty.question).answers[0]
    assert (answer.row["outliers"], answer.row["threshold"], answer.row["cost"]) == (0.0, None, None)


def test_the_threshold_is_below_a_gap_that_is_near():
    points = np.array([[0.0], [1.0], [2.0], [50.0], [60.0]])
    ids = np.arange(5, dtype=np.uint64)
    for weight, spare, expected in ((1.0, 0.0, 4.0), (1.2, 1.0, 4.0), (1.2, 0.0, 2500.0), (0.8, 1.0, 4.0)):
        weights = np.array([1, 1, 1, weight, weight])
        sample = Coreset(points, weights, weights, ids)
        model = TrimmedCenters.of(sample, np.zeros((1, 1)), 2.0, 2.0, "euclidean", spare)
        assert model.threshold == expected


def test_rows_that_several_shards_hold_are_no_uncertainty():
    points, ids = np.array([[0.0], [0.1], [90.0], [90.0]]), np.array([1, 2, 3, 3], np.uint64)
    twice = Coreset(points, np.r_[50, 50, 0.5, 0.5], np.r_[50, 50, 0.5, 0.5], ids)
    model = TrimmedCenters.of(twice, np.zeros((1, 1)), 1.0, 2.0, "euclidean")
    assert model.uncertainty(twice, 1.0) == 0
    drawn = Coreset(points[:3], np.r_[50, 50, 5.0], np.r_[50, 50, 5.0], ids[:3])
    model = TrimmedCenters.of(drawn, np.zeros((1, 1)), 5.0, 2.0, "euclidean")
    assert model.uncertainty(drawn, 1.0) == pytest.approx(2 * np.sqrt(20))


@pytest.mark.parametrize(("dropped", "outliers", "weak"), [((1,), M - 2, True), ((1,), 2 * M, False), ((), M, False)])
def test_more_outliers_in_the_sample_than_are_left_out_make_the_cost_doubtful(dropped, outliers, weak):
    """Without replicas a lost shard leaves it to the sample how many far rows there are."""
    plan, decision = decided(planted(0), dropped, replication=1, outliers=outliers)
    trust = summarize(decision, plan.question).answers[0].row["trust"]
    assert trust.startswith("weak: more rows may be outliers") == weak, trust


def test_ties_at_the_threshold_are_named_by_id_until_the_weight_is_used_and_rows_without_cost_never():
    points = np.array([[0.0], [0.0], [0.0], [0.0], [5.0], [-5.0], [5.0], [0.0]])
    sample = Coreset(points, np.ones(8), np.ones(8), np.arange(8, dtype=np.uint64)[::-1].copy())
    model = TrimmedCenters(np.zeros((1, 1)), 2.0, 25.0)
    assert sample.ids[model.outliers(sample)[0]].tolist() == [1, 2]
    rows, weight, _, cost = TrimmedCenters(np.zeros((1, 1)), 6.0, 0.0).outliers(sample)
    assert sorted(rows.tolist()) == [4, 5, 6]
    assert weight.tolist() == [1, 1, 1]
    assert cost.tolist() == [25, 25, 25]
