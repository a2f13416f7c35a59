"""Answers from the coreset alone, against the data."""
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from windows_written import COLUMNS, SCALE, answer, minute, points_of

from beam_coresets.points.named_scale import NamedScale
from beam_coresets.results.certificate import fixed_interval
from beam_coresets.results.estimates import spreads
from beam_coresets.results.summary import summarize
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.summaries import Estimate
from beam_coresets.summaries.window import WindowSummary

ROWS = 400


def window_of(number=0, scale=None, columns=COLUMNS, **options):
    """A window of `ROWS` rows, read back from its tables."""
    summary = answer(minute(number), number, columns, scale, **options)
    return WindowSummary.solved(summary, None if scale is None else NamedScale(scale, columns))


@pytest.fixture(scope="module")
def data():
    return window_of(kept=True).coreset


@pytest.fixture(scope="module")
def scaled():
    return window_of(scale=SCALE)


def holds(estimate, truth, widen=2.0):
    """Whether the truth is within so many half-widths; five standard errors at 2.5, missed once in a million."""
    half = (np.asarray(estimate.high) - np.asarray(estimate.low)) / 2
    middle = (np.asarray(estimate.high) + np.asarray(estimate.low)) / 2
    return bool(np.all(np.abs(middle - truth) <= widen * half + 1e-9 * np.abs(truth)))


def test_moments_of_all_coordinates(data):
    points = points_of(0)
    assert holds(data.mean(), points.mean(0), 2.5)
    assert holds(data.covariance(), np.cov(points.T, bias=True), 2.5)
    found = data.covariance(("z", "x"))
    assert found[0, 1] == found[1, 0] == data.covariance()[0, 2]
    assert np.all(data.covariance().value[np.diag_indices(3)] > 0)
    assert data.mean("y") == data.mean()[1]


def test_quantiles_are_ordered_and_hold(data):
    x = points_of(0)[:, 0]
    found = data.quantiles("x", (0.1, 0.5, 0.9))
    assert holds(found, np.quantile(x, (0.1, 0.5, 0.9)), 3)
    assert np.all(found.low <= found.value)
    assert np.all(found.value <= found.high)
    assert np.all(np.diff(found.value) >= 0)
    assert float(data.quantiles("x", 0.5)) == found.value[1]


def test_counts_and_shares_of_kept_columns(data):
    points = points_of(0)
    assert data.columns == (*COLUMNS, "place", "positive")
    assert holds(data.count_where(lambda rows: rows["x"] > 10), (points[:, 0] > 10).sum(), 2.5)
    north = (points[:, 1] > 15) & (points[:, 0] <= 10)
    for where in (lambda rows: rows["place"] == "north", pc.field("place") == "north"):
        assert holds(data.share_where(where), north.mean(), 2.5)
    assert data.count_where(pc.field("x") > 10) == data.count_where(lambda rows: rows["x"] > 10)
    mean = data.mean("positive", where=lambda rows: rows["place"] == "south")
    chosen = (points[:, 0] <= 10) & ~north
    assert holds(mean, (points[chosen, 0] > 0).mean(), 2.5)


def test_what_nobody_has_sampled_is_not_said_to_be_none(data):
    nothing = data.count_where(lambda rows: rows["x"] > 1e6)
    assert (nothing.value, nothing.low) == (0, 0)
    assert 0 < nothing.high < 0.1 * ROWS
    everything = data.share_where(lambda rows: rows["x"] < 1e6)
    assert (everything.value, everything.high) == (1, 1)
    assert everything.low > 0.9


def test_histograms_add_up(data):
    found = data.histogram("x", 5)
    truth = np.histogram(points_of(0)[:, 0], found.edges)[0]
    assert holds(found.counts, truth, 3)
    assert found.counts.value.sum() == pytest.approx(ROWS)
    assert data.histogram("x", (0, 10)).counts.value.shape == (1,)
    places = data.histogram("place")
    assert set(places.labels) == {"south", "east", "north", "far"}
    assert places.counts.value.sum() == pytest.approx(ROWS)
    assert np.all(np.diff(places.counts.value) <= 0)
    assert len(data.histogram("place", 2).labels) == 2


def test_the_cost_of_any_centers_is_that_of_the_certificate(data):
    window = window_of(kept=True)
    centers = points_of(9)[:4]
    truth = ((points_of(0)[:, None] - centers) ** 2).sum(2).min(1).sum()
    interval = fixed_interval(window.decision, centers)
    found = data.cost(centers)
    assert (found.value, found.low, found.high) == (interval.estimate, interval.low, interval.high)
    assert holds(found, truth, 2.5)
    assert data.cost(centers, z=1).value < found.value
    assert data.cost(window.centers) == data.cost(window.centers, fitted=True)
    assert data.cost(window.centers).high - data.cost(window.centers).value > 0
    assert data.cost(window.centers, fitted=False) != data.cost(window.centers)


def test_solving_again_is_what_the_direct_call_makes(data):
    window = window_of(kept=True)
    solved = data.solve(k=4, seed=3)
    summary = answer(minute(0), 0, kept=True)
    question = data.solve.__func__.__globals__["question_again"](window.row, window.decision, k=4, seed=3)
    direct = summarize(window.decision, question, minute(0))
    assert solved.centers.tolist() == np.array(direct.centers.column("coordinates").to_pylist()).tolist()
    assert solved.certificate.k == len(solved.centers) == 4
    assert solved.identity[1:] == (minute(0).start, minute(0).end, "", 1)
    assert len(summary.coreset) == len(solved.coreset)
    assert solved.coreset.mean() == data.mean(), "the answer has the same coreset"


def test_solving_under_a_constraint(data):
    for constraint in ("balanced=0.05", Constraint(balanced=0.05)):
        solved = data.solve(k=3, constraint=constraint, quick=True)
        weight = np.array(solved.centers_table().column("weight").to_pylist())
        assert weight == pytest.approx(ROWS / 3, rel=0.06)
        assert solved.certificate.constraint_text == "balanced=0.05"


def test_points_belong_to_the_nearest_center(data):
    window = window_of()
    points = points_of(5, 50)
    distance = np.linalg.norm(points[:, None] - window.centers, axis=2)
    named = dict(zip(COLUMNS, points.T, strict=True))
    for given in (points, points.tolist(), named, pa.table(named).select(["z", "x", "y"])):
        found = window.coreset.assign(given)
        assert found.labels.tolist() == distance.argmin(1).tolist()
        assert found.distances == pytest.approx(distance.min(1))
    assert window.coreset.assign(points[0]).labels.shape == (1,)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_go_by_their_columns(data, library):
    frames = pytest.importorskip(library)
    points = points_of(5, 50)
    frame = frames.DataFrame({name: points[:, COLUMNS.index(name)] for name in ("z", "y", "x")})
    assert data.assign(frame).labels.tolist() == data.assign(points).labels.tolist()
    assert data.score(frame).scores.tolist() == data.score(points).scores.tolist()


def test_scores_tell_how_unusual_points_are():
    window = window_of()
    scored = window.coreset.score(np.concatenate([window.centers, window.centers + 100]))
    assert np.all(scored.scores[:3] < 1e-9)
    assert np.all(scored.quantiles[:3] < 0.05)
    assert np.all(scored.scores[3:] > 5)
    assert np.all(scored.quantiles[3:] == 1)
    own = window.coreset.score(points_of(0)).quantiles
    assert np.quantile(own, (0.25, 0.5, 0.75)) == pytest.approx((0.25, 0.5, 0.75), abs=0.12)


def test_a_scale_is_undone_in_answers_and_kept_in_distances(scaled):
    points = points_of(0)
    assert holds(scaled.coreset.mean(), points.mean(0), 2.5)
    assert holds(scaled.coreset.covariance(), np.cov(points.T, bias=True), 2.5)
    apart = SCALE.apply(points)[:, None] - SCALE.apply(scaled.centers)
    found = scaled.coreset.assign(points)
    assert found.labels.tolist() == (apart**2).sum(2).argmin(1).tolist()
    assert found.distances == pytest.approx(np.linalg.norm(apart, axis=2).min(1))
    assert holds(scaled.coreset.cost(points[:3]), ((SCALE.apply(points)[:, None] - SCALE.apply(points[:3])) ** 2)
                 .sum(2).min(1).sum(), 2.5)  # fmt: skip
    solved = scaled.coreset.solve(k=3)
    assert solved.coreset.mean() == scaled.coreset.mean()


def test_a_loss_makes_intervals_wider():
    whole, lost = window_of(), window_of(missing=(0, 1))
    assert lost.certificate.coverage < 1
    assert whole.coreset.total_weight == Estimate(ROWS, ROWS, ROWS)
    total = lost.coreset.total_weight
    assert total.low < ROWS < total.high
    wide, narrow = (w.coreset.mean("x").high - w.coreset.mean("x").low for w in (lost, whole))
    assert wide > 1.1 * narrow
    assert holds(lost.coreset.mean(), points_of(0).mean(0), 2.5)
    count = lost.coreset.count_where(lambda rows: rows["x"] > 10)
    assert holds(count, (points_of(0)[:, 0] > 10).sum(), 2.5)


def test_where_every_row_is_sampled_answers_are_exact():
    data = window_of(rows=20).coreset
    points = points_of(0, 20)
    mean = data.mean()
    assert np.array_equal(mean.low, mean.high)
    assert mean.value == pytest.approx(points.mean(0), rel=1e-6)
    half = data.quantiles("x", 0.5)
    assert half.low == half.value == half.high
    count = data.count_where(lambda rows: rows["x"] > 10)
    assert count.low == count.high == pytest.approx((points[:, 0] > 10).sum())


def test_scikit_learn_takes_points_and_weights(scaled):
    from sklearn.cluster import KMeans

    X, weight = scaled.coreset.to_sklearn()
    model = KMeans(3, n_init=5, random_state=0).fit(X, sample_weight=weight)
    assert len(model.cluster_centers_) == 3
    assert weight.sum() == pytest.approx(ROWS)


@pytest.mark.parametrize(("ask", "message"), [
    (lambda d: d.mean("w"), r"column: must be one of x, y, z, place, positive, got 'w'"),
    (lambda d: d.mean("place"), "column: must be of numbers, got 'place', which is not"),
    (lambda d: d.quantiles("x", 1.0), r"q: must be between 0 and 1, got 1.0"),
    (lambda d: d.histogram("x", 0), "bins: must be at least 1, got 0"),
    (lambda d: d.count_where(lambda rows: rows["w"] > 0), "column: must be one of"),
    (lambda d: d.count_where(lambda rows: rows["x"]), r"where: must give \(\d+,\) booleans, got float64"),
    (lambda d: d.cost([[0.0, 1.0]]), r"centers: must be of 3 coordinates, got shape \(1, 2\)"),
    (lambda d: d.assign({"x": [1.0], "y": [2.0]}), "points: must have the columns x, y, z, got none of z"),
    (lambda d: d.solve(k=0), "k: must be a whole number from 1 on, got 0"),
    (lambda d: d.solve(k=10_000), r"k: must be at most the coreset's \d+ distinct points, got 10000"),
    (lambda d: d.solve(constraint="round=1"), "constraint"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said(data, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(data)


def test_estimates_print_and_compare():
    one = Estimate(1.0, 0.5, 2.0)
    assert str(one) == "1 (0.5 to 2)"
    assert str(Estimate(np.ones(2), np.zeros(2), np.ones(2))) == "[1. 1.] ([0. 0.] to [1. 1.])"
    assert one != Estimate(1.0, 0.5, 3.0)
    assert one != 1.0
    assert one.times(2) == Estimate(2.0, 1.0, 4.0)
    assert float(one) == 1


def test_spreads_are_those_of_what_is_near():
    """Far points in a cluster, and a cluster of nothing but far points, don't hide themselves."""
    rng = np.random.default_rng(0)
    near, far = np.abs(rng.normal(size=2000)) ** 2, np.full(40, 1e6)
    index = np.concatenate([np.arange(2000) % 2, np.zeros(20, int), np.full(20, 2)])
    found = spreads(index, np.concatenate([near, far]), np.ones(2040), 4)
    assert found == pytest.approx([found[1]] * 4, rel=0.1)
    assert 0.7 < found[1] < 0.9, "a normal's without a tenth"
    apart = spreads(np.array([0, 1, 1, 1]), np.array([0.0, 0.0, 4.0, 4.0]), np.array([1.0, 1, 1, 1]), 2)
    assert apart.tolist() == [np.sqrt(2), np.sqrt(8 / 3)], "of one point, that of all"
    assert spreads(np.zeros(3, int), np.zeros(3), np.ones(3), 1).tolist() == [1.0]
