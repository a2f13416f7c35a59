"""Numbers of any size: what is called exact is, held against long doubles, and units change nothing but the units."""
import warnings

import numpy as np
import pytest

from beam_coresets.coordinator.decision import decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of, narrow
from beam_coresets.results.certificate import in_range, model_interval
from beam_coresets.results.summary import summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.model import Centers

RNG = np.random.default_rng(1)
NORMAL = RNG.normal(size=(60, 2))
DATA = {
    "whole numbers far off": 1e6 + RNG.integers(0, 6, (60, 2)),
    "decimals far off": (1e9 + NORMAL).round(3),
    "tight clusters far apart": 1e-3 * NORMAL + 1e6 * (np.arange(60)[:, None] % 2),
    "one outlier": np.concatenate([NORMAL, [[1e12, -1e12]]]),
    "nanoseconds": 1.7e18 + 1000.0 * RNG.integers(0, 10**9, (60, 1)),
    "squares that vanish": 1e-200 * NORMAL,
    "squares near the limit": 1e59 * NORMAL,
    "float32 far off": NORMAL.astype(np.float32) + np.float32(1e4),
    "float32, squares that overflow": (1e30 * NORMAL).astype(np.float32),
    "few places": np.repeat(NORMAL[:4], 15, axis=0),
}


def answer(points, weights=None, **parameters):
    """The row of `summaries` and the rows of `centers`."""
    plan = Plan(**{"shards": 3, "replication": 2, "coreset_size": 400, "k": 3, **parameters})
    decision = decide(shard_reports(blocks_of(narrow(np.asarray(points)), weights), plan.merge_reduce), plan.policy)
    summary = summarize(decision, plan.question)
    return summary.summaries.to_pylist()[0], summary.centers.to_pylist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_exact_is_exact(data, z):
    for k in (1, 5):
        row, rows = answer(data, k=k, z=z)
        exact, centers = data.astype(np.longdouble), np.array([c["coordinates"] for c in rows], np.longdouble)
        squares = ((exact[:, None] - centers) ** 2).sum(axis=2)
        nearest = squares.argmin(axis=1)
        truth = (np.sqrt(squares.min(axis=1)) ** z).sum()
        assert row["cost_basis"] == "exact"
        assert abs(row["cost"] - truth) <= 1e-9 * truth or truth < 1e-290
        assert [c["weight"] for c in rows] == np.bincount(nearest, minlength=len(rows)).tolist()
        if z == 2:
            means = np.array([exact[nearest == j].mean(axis=0) for j in range(len(rows))])
            assert (abs(centers - means) <= 4e-16 * abs(exact).max() + 1e-12 * np.ptp(data)).all()


def test_every_distinct_point_is_a_center_as_it_is():
    places = np.array([[26, 110], [26, 111], [1086.1, 348], [1087, 347.7], [1190, 244]])
    row, rows = answer(np.repeat(places, [4, 2, 1, 1, 3], axis=0), k=7)
    assert sorted(c["coordinates"] for c in rows) == sorted(places.tolist())
    assert row["cost"] == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("coreset_size", [30, 400])
@pytest.mark.parametrize("method", ["sensitivity", "rings_and_groups", "lightweight"])
def test_units_of_weights_and_columns_change_nothing_else(method, coreset_size):
    points, weights = 4.0 * RNG.normal(size=(300, 2)), RNG.random(300)
    plain, _ = answer(points, weights, method=method, coreset_size=coreset_size)
    for of_weights, of_points in ((2.0**990, 1.0), (2.0**-900, 1.0), (1.0, 2.0**190), (1.0, 2.0**-400)):
        row, _ = answer(of_points * points, of_weights * weights, method=method, coreset_size=coreset_size)
        drawn = {"rel": 1e-9} if coreset_size == 400 else {"rel": 0.9}  # which points are drawn goes by their bytes
        for name in ("cost", "cost_low", "cost_high"):
            assert row[name] == pytest.approx(plain[name] * of_points**2 * of_weights, abs=0, **drawn)
        assert row["total_weight"] == plain["total_weight"] * of_weights


def test_what_is_out_of_range_is_said_to_be():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row, _ = answer(1e59 * NORMAL, np.full(60, 1e299))
    assert row["cost_basis"] == "out of range"
    assert [row["cost"], row["cost_low"], row["cost_high"]] == [None, None, None]
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="weight_column: must add up"):
        answer(NORMAL, np.full(60, 1e308))


class _Priced(Centers):
    """Costs with prices, as constrained clusters have them: some are negative."""

    def costs(self, sample):
        index, cost = super().costs(sample)
        return index, cost - 3.0

    def refit(self, sample, fold, quick):
        return self


@pytest.mark.filterwarnings("error")
def test_negative_prices_have_an_interval():
    plan = Plan(k=3, shards=3, replication=2, coreset_size=40, buckets=8, scheme="bernoulli", seed=4)
    reports = shard_reports(blocks_of(RNG.normal(size=(500, 2))), plan.merge_reduce)
    for left_out in range(3):
        decision = decide([report for report in reports if report.shard != left_out], plan.policy)
        interval = in_range(model_interval(decision, _Priced(np.zeros((1, 2)))))
        assert interval.standard_error > 0
        assert interval.degrees >= 1


@pytest.mark.filterwarnings("error")
def test_balanced_clusters_of_a_far_off_set_have_their_own_means():
    points = DATA["decimals far off"]
    row, rows = answer(points, constraint=Constraint.parse("balanced=0.2"))
    assert row["cost"] == pytest.approx(sum(c["cost"] for c in rows), rel=1e-9)
    assert np.array([c["coordinates"] for c in rows]).std(axis=0).max() < 3
