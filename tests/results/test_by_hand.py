"""What the certificate is made of, each piece against what it should be by hand."""
from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from beam_coresets.coordinator.decision import Evidence, Policy, decide
from beam_coresets.coordinator.recovery import loss_factor, recover
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span, blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.results.certificate import model_interval
from beam_coresets.results.cross_fitting import _evenness, _gain, optimism
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.sampling_error import (
    LEAST_DEGREES,
    PRIOR,
    replica_variance,
    sample_variance,
    sampling_error,
)
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.model import Centers, Model

N = 2000


def decided(scheme, size=60, dropped=(), n=N, method="sensitivity", far=0):
    rows = generator("by hand").gamma(1.0, size=(n, 2)).astype(np.float32)
    rows[:far] = 1000
    reports = shard_reports(blocks_of(rows, rows=500), MergeReduce(Sampler(3, size, method=method), scheme, 1))
    return decide([report for report in reports if report.shard not in dropped], Policy(scheme))


@pytest.mark.parametrize("dropped", [(), (2,)])
def test_a_row_that_m_shards_hold_counts_one_in_all(dropped):
    """Where every row is kept: weights add up to the rows, those of each id to one."""
    decision = decided(Assignment(5, 3, "cyclic", 40), 5000, dropped)
    assert decision.coreset.weights_ht.sum() == pytest.approx(N)
    _, of = np.unique(decision.coreset.ids, return_inverse=True)
    np.testing.assert_allclose(np.bincount(of, decision.coreset.weights_ht), 1)
    recovery = decision.recovery
    shard, bucket = np.nonzero(recovery.trusted)
    held = recovery.trusted.sum(axis=0)
    np.testing.assert_allclose(recovery.multiplier(shard, bucket), 1 / held[bucket])
    np.testing.assert_allclose(recovery.multipliers[shard, bucket], 1 / held[bucket])


@pytest.mark.parametrize("size", [40, 300])
def test_a_sample_of_shared_rows_adds_up_to_the_rows(size):
    decision = decided(Assignment(4, 2, "cyclic", 64), size)
    spread = np.sqrt((decision.coreset.weights_ht**2).sum())
    assert decision.coreset.weights_ht.sum() == pytest.approx(N, abs=5 * spread)


@pytest.mark.parametrize("copies", [1, 30])
def test_a_loss_counts_by_how_uneven_the_buckets_are(copies):
    """phi (1 - f) / f^2 with f = 3/4 and phi the largest of 1 and variance over mean of the buckets' counts."""
    scheme = Assignment(4, 1, "cyclic", 32)
    ids = np.repeat(np.arange(6000 // copies, dtype=np.uint64), copies)
    whole = PointBlock(np.zeros((len(ids), 1), np.float32), np.ones(len(ids)), ids, Span(0, 0, True))
    matrix = scheme.matrix()
    mine = {i: whole.take(np.flatnonzero(matrix[i][scheme.bucket_of(ids)])) for i in range(3)}
    found = recover(scheme, {i: Ledger.of(block, scheme) for i, block in mine.items()})
    counts = np.bincount(scheme.bucket_of(ids), minlength=32)[matrix[:3].any(axis=0)]
    f = matrix[:3].any(axis=0).mean()
    phi = max(1.0, counts.var(ddof=1) / counts.mean())
    assert phi > 5 or copies == 1
    assert loss_factor(found) == pytest.approx(phi * (1 - f) / f**2)


def test_a_point_of_weight_w_stands_for_w_less_one_others():
    decision = decided(Assignment(2, 1, "cyclic", 8), 40)
    np.testing.assert_allclose(Sampled(decision).drawn, 1 - 1 / np.maximum(decision.evidence.sample.weights_ht, 1))


def test_both_measures_of_the_error_are_pooled_by_their_degrees():
    """Replicas by theirs, the sample by 20; all times the square of what a loss is scaled over by."""
    decision = decided(Assignment(6, 2, "cyclic", 60), 60, (1, 2))
    evidence, recovery = decision.evidence, decision.recovery
    value = evidence.sample.weights_ht * generator("values").random(len(evidence.sample))
    _, bucket, cell = Sampled(decision).cells
    e = np.bincount(cell, value, len(bucket))
    mean = np.bincount(bucket, e, len(recovery.holders)) / np.maximum(recovery.holders, 1)
    first = replica_variance(Sampled(decision), e[:, None], mean[:, None])
    parts = value / recovery.holders[evidence.bucket]
    second, degrees = sample_variance(parts[:, None], Sampled(decision).drawn, *Sampled(decision).neighbours)
    assert degrees > PRIOR == 20
    assert recovery.scale == pytest.approx(60 / 50)
    total, error = sampling_error(Sampled(decision), value)
    assert error.degrees == pytest.approx(first.degrees + 20)
    pooled = (first.degrees * first.variance + 20 * second) / (first.degrees + 20)
    assert error.variance == pytest.approx(1.2**2 * pooled)
    assert total == pytest.approx(1.2 * parts.sum())


def test_replicas_that_differ_by_6_have_a_mean_of_variance_9():
    """Buckets of two holders; one with a single holder is taken to vary as much for its cost."""
    scheme = Assignment(2, 2, "cyclic", 3)
    whole = next(blocks_of(np.zeros((30, 1), np.float32)))
    recovery = recover(scheme, {i: Ledger.of(whole, scheme) for i in range(2)})
    no_points = Evidence(Coreset.empty(), np.empty(0, np.int64), np.empty(0, np.int64))
    e = np.array([[10.0], [20], [0], [14], [22], [0]])
    sampled = Sampled(SimpleNamespace(recovery=recovery, evidence=no_points))
    both = replica_variance(sampled, e, np.array([[12.0], [21], [0]]))
    assert (both.variance, both.basis) == (pytest.approx((6 / 2) ** 2), "replicas")
    trusted = recovery.trusted.copy()
    trusted[1, 2] = False
    alone = dataclasses.replace(recovery, trusted=trusted)
    e[2] = 30.0
    sampled = Sampled(SimpleNamespace(recovery=alone, evidence=no_points))
    found = replica_variance(sampled, e[:5], np.array([[12.0], [21], [30]]))
    assert found.variance == pytest.approx(9 + 9 / (33 / 2) * 30)
    assert found.basis == "replicas, one-holder buckets imputed"


def test_rows_that_no_point_stands_for_may_cost_as_much_as_the_dearest():
    """Five rows of the evidence are lost, and none of the others weighs more than one."""
    decision = decided(Assignment(2, 1, "cyclic", 8), 5000)
    sample = decision.evidence.sample
    kept = np.arange(5, len(sample))
    evidence = dataclasses.replace(
        decision.evidence, sample=sample.keep(kept, sample.weights_ht[kept]),
        shard=decision.evidence.shard[kept], bucket=decision.evidence.bucket[kept],
    )  # fmt: skip
    value = generator("dear").random(len(kept))
    _, error = sampling_error(Sampled(dataclasses.replace(decision, evidence=evidence)), value)
    assert (error.variance, error.degrees) == (pytest.approx((5 * value.max()) ** 2), LEAST_DEGREES)


@dataclasses.dataclass(frozen=True)
class Told(Model):
    """Costs 1 a point; solved without some points, `more` for these. Keeps the samples it was solved on."""

    more: float
    left_out: Any = None
    seen: list[Any] = dataclasses.field(default_factory=list)
    centers: Any = dataclasses.field(default_factory=lambda: np.zeros((3, 2)))
    bases: Any = None

    def costs(self, sample):
        cost = np.ones(len(sample))
        return np.zeros(len(sample), int), cost if self.left_out is None else cost + self.more * self.left_out

    def refit(self, sample, fold, quick):
        self.seen.append(sample)
        return dataclasses.replace(self, left_out=sample.weights == 0)


def evenness_of(decision, model):
    return min(1.0, _evenness(Sampled(decision), model, Sampled(decision).drawn) / 0.7)


@pytest.mark.parametrize(("quick", "folds"), [(False, 5), (True, 3)])
def test_what_points_cost_more_that_were_left_out_is_the_optimism_of_a_fold(quick, folds):
    """Times (1 - 1 / folds)^b, for the share of its weight that a point stands for others, b from 1/2 to 1."""
    decision, model = decided(Assignment(8, 1, "cyclic", 64)), Told(0.5)
    sample = decision.evidence.sample
    found = optimism(Sampled(decision), model, np.ones(len(sample)), quick)
    assert len(model.seen) == folds
    times = np.add.reduce([each.weights == 0 for each in model.seen])
    others = 1 - 1 / np.maximum(sample.weights_ht, 1)
    drawn = others > 0
    q = 1 - (Sampled(decision).shares * others)[drawn].sum() / Sampled(decision).shares[drawn].sum()
    whole = np.where(times == 1, others * 0.5 * (1 - q) / (1 - q * (1 - 1 / folds)), 0.0)
    least, most = evenness_of(decision, model) * (1 - 1 / folds), (1 - 1 / folds) ** 0.5
    expected = whole * (least + most) / 2
    assert (times == 1).mean() > 0.8  # but for the only ones of small clusters, and rows that are known for certain
    np.testing.assert_allclose(found.correction, expected, atol=1e-12)
    assert found.room == pytest.approx((most - least) / 2 * (Sampled(decision).shares @ whole))
    assert found.error == pytest.approx(0, abs=1e-9 * found.room)  # points that cost the same have no levels
    for each in model.seen:  # what is left is made to weigh as much as all, small cluster by small cluster
        assert each.weights.sum() == pytest.approx(sample.weights.sum())


def test_what_alone_stands_for_a_small_cluster_is_never_left_out():
    """Three rows far away, of which the sample has one, with a weight above 1."""
    decision, model = decided(Assignment(8, 1, "cyclic", 64), 60, (), N, "uniform", 3), Told(0.5)
    sample = decision.evidence.sample
    far = np.flatnonzero(sample.points[:, 0] == 1000)
    assert len(far) == 1
    assert sample.weights_ht[far[0]] > 1
    optimism(Sampled(decision), model, np.ones(len(sample)), False)
    assert all(each.weights[far[0]] > 0 for each in model.seen)


def test_more_optimism_than_cost_is_cut_to_it_and_doubted():
    decision, model = decided(Assignment(8, 1, "cyclic", 64)), Told(1e6)
    sampled, each = Sampled(decision), Sampled(decision).shares
    found = optimism(sampled, model, np.ones(len(each)), False)
    assert each @ found.correction == pytest.approx(each.sum())
    least, most = evenness_of(decision, model) * 0.8, 0.8**0.5
    assert found.room == pytest.approx((1 + (most - least) / (most + least)) * each.sum(), rel=1e-5)


@dataclasses.dataclass(frozen=True)
class Noisy(Told):
    """Solutions of which each costs some points more, by chance."""

    noise: float = 0.0

    def costs(self, sample):
        index, cost = super().costs(sample)
        return index, cost + generator("noisy", self.noise).random(len(cost)) * (self.noise > 0)

    def refit(self, sample, fold, quick):
        return dataclasses.replace(super().refit(sample, fold, quick), noise=1.0 + fold)


@pytest.mark.parametrize("dropped", [(), (1,)])
def test_the_interval_has_room_beside_the_errors_and_students_quantile(dropped):
    decision, model = decided(Assignment(8, 1, "cyclic", 64), dropped=dropped), Noisy(0.5)
    found = optimism(Sampled(decision), model, np.ones(len(decision.evidence.sample)), False)
    cost = 1 + found.correction
    total, error = sampling_error(Sampled(decision), decision.evidence.sample.weights_ht * cost)
    lost = loss_factor(decision.recovery) * (Sampled(decision).shares @ cost**2)
    scale = decision.recovery.scale
    interval = model_interval(decision, model)
    assert interval.estimate == pytest.approx(total)
    assert interval.standard_error**2 == pytest.approx(error.variance + lost + (scale * found.error) ** 2)
    assert found.error > 0.1 * interval.standard_error
    assert found.room > 0.1 * interval.standard_error
    half = stats.t.ppf(0.975, error.degrees) * interval.standard_error + scale * found.room
    assert [interval.low, interval.high] == pytest.approx([total - half, total + half])


@dataclasses.dataclass(frozen=True)
class Levels(Told):
    """Solutions that are worse by a tenth from one to the next, wherever a point is."""

    level: float = 1.0

    def costs(self, sample):
        index, cost = super().costs(sample)
        return index, self.level * cost

    def refit(self, sample, fold, quick):
        return dataclasses.replace(super().refit(sample, fold, quick), level=1 + 0.1 * fold)


def test_levels_of_solutions_are_no_gain():
    """Six shards are dealt to folds of two sizes, so that the levels alone do not cancel."""
    decision, model = decided(Assignment(6, 1, "cyclic", 60)), Levels(0.0)
    found = optimism(Sampled(decision), model, np.ones(len(decision.evidence.sample)), False)
    each = Sampled(decision).shares
    assert abs(each @ found.correction) < 1e-9 * each.sum()
    assert found.error < 1e-9 * each.sum()
    assert found.room < 1e-9 * each.sum()


def test_what_a_fold_gains_is_told_apart_from_how_good_its_solution_is():
    """Solutions of different levels v, folds of different sizes p; each fold costs 0.3 more under the solution that has
    not seen it. Without noise that is found, with no error; with noise, within five errors."""
    p, v = np.array([1.0, 2.0, 1.5, 1.0, 0.5]), np.array([0.1, -0.2, 0.05, 0.3, -0.1])
    totals = 7 * p[:, None] + p[:, None] * v + np.diag([0.3] * 5)
    gained, error = _gain(totals, 3 * p)
    np.testing.assert_allclose(gained, 0.3, atol=1e-9)
    assert error == pytest.approx(0, abs=1e-9)
    noise = generator("gain").standard_normal((400, 5, 5)) * 0.1 * np.sqrt(p)[:, None]
    found = [_gain(totals + each, p) for each in noise]
    sums, errors = np.array([(gained.sum(), error) for gained, error in found]).T
    assert abs(sums.mean() - gained.sum()) < 5 * sums.std() / 20
    assert np.sqrt((errors**2).mean()) == pytest.approx(sums.std(), rel=0.12)  # over 3 of its standard errors


def test_three_folds_or_two_still_tell_a_gain():
    for folds in (2, 3):
        totals = np.full((folds, folds), 10.0) + np.diag([0.5] * folds)
        np.testing.assert_allclose(_gain(totals, np.ones(folds))[0], 0.5)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(_gain(np.full((5, 5), np.inf), np.ones(5))[0]).any()  # costs out of range: no error


def test_what_is_scaled_over_counts_as_not_seen():
    """A point that is known, w = 1, stands for 1 / f - 1 lost ones."""
    decision, model = decided(Assignment(6, 1, "cyclic", 60), 4000, (1,)), Told(0.5)
    sample, scale = decision.evidence.sample, decision.recovery.scale
    assert scale == pytest.approx(60 / 50)
    assert (sample.weights_ht == 1).all()
    found = optimism(Sampled(decision), model, np.ones(len(sample)), False)
    rate = (0.8 + 0.8**0.5) / 2 * (1 - 1 / scale) / (1 - 1 / scale + 1 / scale / 5)
    np.testing.assert_allclose(found.correction, 0.5 * (1 - 1 / scale) * rate)


def test_a_draw_along_a_line_is_more_even_than_at_random_and_one_among_64_coordinates_is_not():
    def evenness(points):
        scheme = Assignment(2, 1, "cyclic", 32)
        reports = shard_reports(blocks_of(points.astype("f4"), rows=500), MergeReduce(Sampler(3, 200), scheme, 1))
        decision = decide(reports, Policy(scheme))
        return _evenness(Sampled(decision), Centers(points[:3].astype("f8")), Sampled(decision).drawn)

    rng = generator("even")
    line, ball = rng.random((6000, 1)), rng.standard_normal((6000, 64))
    assert evenness(line) < 0.3
    assert evenness(ball) > 0.8
    whole = decided(Assignment(6, 1, "cyclic", 60), 4000, (1,))
    lost = 1 - (1 - Sampled(whole).drawn) / whole.recovery.scale  # at random
    assert _evenness(Sampled(whole), Told(0.5), lost) == 1.0
