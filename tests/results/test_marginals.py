"""Mean, deviation and quantiles of each column, against the data and against questions asked one by one."""
import numpy as np
import pytest
from jobs import without_beam

from beam_coresets.coordinator.decision import decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.points.scale import Scale
from beam_coresets.results.marginals import MOST_SURE, NUMBERS, QUANTILES, marginals
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.sampling_error import sampling_error, sampling_errors
from beam_coresets.results.summary import summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.summaries.window import WindowSummary


def rows_of(n, d, seed=0):
    """(n, d) float32: clusters, of which every third column has a heavy tail and every other one an offset."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d)) + 4 * rng.integers(0, 3, (n, 1))
    points[:, ::3] = rng.gamma(1.0, size=points[:, ::3].shape)
    points[:, 1::2] += 100
    return points.astype(np.float32)


def decided(points, dropped=0, weights=None, **options):
    plan = Plan(**{"k": 3, "shards": 4, "replication": 2, "coreset_size": 150, **options})
    blocks = list(blocks_of(points, weights, rows=500) if weights is not None else blocks_of(points, rows=500))
    return plan, decide(shard_reports(blocks, plan.merge_reduce)[dropped:], plan.policy)


def truth_of(points, weights=None):
    """(len(NUMBERS), d) of float64 rows; a quantile is the least value that such a share does not exceed."""
    points = points.astype(np.float64)
    weights = np.ones(len(points)) if weights is None else weights
    mean = np.average(points, 0, weights)
    deviation = np.sqrt(np.average((points - mean) ** 2, 0, weights))
    quantiles = np.quantile(points, list(QUANTILES.values()), axis=0, weights=weights, method="inverted_cdf")
    return np.vstack([mean, deviation, quantiles])


def numbers_of(found, end=""):
    return np.array([found[f"{name}{end}"] for name in NUMBERS])


@pytest.mark.parametrize("weighted", [False, True])
def test_where_all_rows_are_kept_the_numbers_are_those_of_the_data(weighted):
    points = rows_of(200, 4)
    weights = np.arange(1.0, 201) if weighted else None
    _, decision = decided(points, weights=weights, coreset_size=400)
    found = marginals(Sampled(decision), ("a", "b", "c", "d"))
    truth = truth_of(points, weights)
    assert numbers_of(found)[:2] == pytest.approx(truth[:2], rel=1e-12)
    assert np.array_equal(numbers_of(found)[2:], truth[2:])
    for end in ("_low", "_high"):
        assert np.array_equal(numbers_of(found, end), numbers_of(found))
    assert found["column_name"] == ["a", "b", "c", "d"]
    assert found["index"].tolist() == [0, 1, 2, 3]
    assert (found["row_count"].tolist(), found["refused_count"]) == ([200] * 4, [None] * 4)


def test_intervals_hold_the_numbers_of_the_data():
    """Of 240 columns of 24 samples. If columns were independent, the standard error of a share of 0.95 would be 0.014;
    of one sample they are not quite, so 0.02: less than 0.87 comes once in 30,000 times."""
    held = []
    for seed in range(24):
        points = rows_of(2000, 10, seed)
        _, decision = decided(points, dropped=seed % 2, seed=seed)
        found, truth = marginals(Sampled(decision)), truth_of(points)
        low, value, high = (numbers_of(found, end) for end in ("_low", "", "_high"))
        assert np.all((low <= value) & (value <= high))
        held.append((low <= truth) & (truth <= high))
    share = np.mean(held, axis=(0, 2))
    assert np.all(share > 0.87), dict(zip(NUMBERS, share, strict=True))


def test_all_columns_at_once_are_as_each_that_is_asked_for_alone():
    points = rows_of(3000, 5)
    plan, decision = decided(points, dropped=1)
    summary = summarize(decision, plan.question)
    data = WindowSummary.solved(summary, None).coreset
    for j, row in enumerate(summary.columns.to_pylist()):
        asked = {"mean": data.mean(f"f{j}")}
        quantiles = data.quantiles(f"f{j}", list(QUANTILES.values()))
        asked |= {name: quantiles[i] for i, name in enumerate(QUANTILES)}
        variance = data.covariance([f"f{j}"])[0, 0]
        for name, told in asked.items():
            assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(
                [told.value, told.low, told.high], rel=1e-9
            )
        half = (variance.high - variance.value) / 2 / variance.value**0.5  # d sqrt(v) = dv / (2 sqrt(v))
        assert row["deviation"] == pytest.approx(variance.value**0.5)
        assert row["deviation_high"] - row["deviation"] == pytest.approx(half)
        assert row["deviation"] - row["deviation_low"] == pytest.approx(half)


@pytest.mark.parametrize(("scheme", "dropped"), [("cyclic", 0), ("cyclic", 2), ("uniform", 1), ("bernoulli", 0)])
def test_errors_of_several_totals_are_those_of_each(scheme, dropped):
    _, decision = decided(rows_of(2000, 2), dropped, shards=6, scheme=scheme)
    sampled = Sampled(decision)
    rng = np.random.default_rng(0)
    value = rng.standard_normal((len(sampled.points), 7)) * sampled.points.weights_ht[:, None]
    value[:, 3] = 0
    totals, errors = sampling_errors(sampled, value)
    for j in range(7):
        total, error = sampling_error(sampled, value[:, j])
        assert totals[j] == pytest.approx(total)
        assert (errors.variance[j], errors.degrees[j]) == pytest.approx((error.variance, error.degrees))


def test_they_are_in_the_users_units():
    points = rows_of(3000, 3).astype(np.float64)
    scale = Scale((1.0, 100.0, -5.0), (2.0, 0.5, 10.0))
    _, decision = decided(scale.apply(points).astype(np.float32))
    plain, found = marginals(Sampled(decision)), marginals(Sampled(decision), scale=scale)
    for end in ("", "_low", "_high"):
        was, now = numbers_of(plain, end), numbers_of(found, end)
        assert now[1] == pytest.approx(was[1] * scale.divisor)
        assert np.array_equal(np.delete(now, 1, 0), scale.undo(np.delete(was, 1, 0)))
    assert np.abs(numbers_of(found) - truth_of(points)).max() < 1.5


def test_under_cosine_they_are_of_rows_at_length_one():
    points = rows_of(100, 3)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    plan, decision = decided(unit, metric="cosine", coreset_size=300)
    found = summarize(decision, plan.question).columns.to_pylist()
    assert [row["mean"] for row in found] == pytest.approx(unit.mean(0).tolist(), rel=1e-5)


def test_numbers_of_any_size_stay_in_range():
    points = rows_of(2000, 4).astype(np.float64) * [1e50, 1e-50, 1.0, 1e30]
    _, decision = decided(points)
    found = marginals(Sampled(decision))
    truth = truth_of(points)
    low, high = numbers_of(found, "_low"), numbers_of(found, "_high")
    assert np.all(np.isfinite(high) & (low < high))
    assert np.all(np.abs(numbers_of(found) - truth) < 3 * (high - low))


def test_many_columns_have_quantiles_without_intervals():
    _, decision = decided(rows_of(1000, MOST_SURE + 1))
    found = marginals(Sampled(decision), ("v",))
    assert np.isfinite(numbers_of(found)).all()
    assert np.isfinite(numbers_of(found, "_low")[:2]).all()
    assert np.isnan(numbers_of(found, "_low")[2:]).all()
    assert found["column_name"] == [f"v[{j}]" for j in range(MOST_SURE + 1)]


def test_quick_ones_have_no_intervals_unless_they_are_known():
    points = rows_of(1000, 2)
    _, decision = decided(points)
    sure, quick = (marginals(Sampled(decision), quick=quick) for quick in (False, True))
    assert np.array_equal(numbers_of(quick), numbers_of(sure))
    assert np.isnan(numbers_of(quick, "_low")).all()
    assert quick["column_name"] == [None, None]
    _, decision = decided(points[:50])
    known = marginals(Sampled(decision), quick=True)
    assert np.array_equal(numbers_of(known, "_high"), numbers_of(known))


def test_of_what_is_no_coreset_nothing_but_the_rows_is_known():
    plan = Plan(k=3, shards=4, replication=2, summary="local_centers", z=1.0)
    found = without_beam(list(blocks_of(rows_of(600, 3), rows=500)), plan).columns.to_pylist()
    assert [(row["index"], row["row_count"]) for row in found] == [(0, 600), (1, 600), (2, 600)]
    assert all(row[f"{name}{end}"] is None for row in found for name in NUMBERS for end in ("", "_low", "_high"))


def test_a_window_without_rows_has_no_columns():
    plan, decision = decided(np.empty((0, 3), np.float32))
    assert len(summarize(decision, plan.question).columns) == 0
