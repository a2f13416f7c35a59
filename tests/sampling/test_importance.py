"""Importance sampling: probabilities, weights, and what must never happen to a point."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.points.nearest import cost
from beam_coresets.sampling import importance
from beam_coresets.sampling.drawing import keeping_probabilities
from beam_coresets.sampling.importance import Sampler

ZS = [1.0, 1.5, 2.0, 3.0]
METHODS = [method for method in importance.METHODS if method != "subspace"]  # that has tests of its own


def data(n=500, d=2, seed=0, weights="uneven"):
    """Points in three clusters of uneven spread; weights even, uneven, with zeros, or over 18 orders of magnitude."""
    rng = generator("sampling data", n, d, seed)
    points = 20.0 * rng.integers(0, 3, (n, 1)) + rng.choice([0.1, 1.0, 4.0], (n, 1)) * rng.standard_normal((n, d))
    kinds = {
        "even": np.ones(n),
        "uneven": rng.gamma(0.5, 2.0, n) + 1e-3,
        "zeros": rng.integers(0, 2, n) * (1 + rng.random(n)),
        "huge range": 10.0 ** rng.uniform(-9, 9, n),
    }
    return points.astype(np.float32), kinds[weights], rng.integers(0, 3, n).astype(np.int32)


def check_sample(points, weights, rows, unbiased):
    """What holds for every sample: distinct rows of positive weight, which weigh at least what they did."""
    assert len(set(rows.tolist())) == len(rows)
    assert (weights[rows] > 0).all() or len(rows) == len(points)
    assert np.isfinite(unbiased).all()
    assert (unbiased >= weights[rows] * (1 - 1e-12)).all()


@settings(max_examples=80)
@given(
    st.integers(1, 300), st.integers(1, 6), st.integers(1, 60), st.floats(0, 1), st.integers(0, 9),
    st.sampled_from(["even", "uneven", "zeros", "huge range"]),
)
def test_probabilities_are_at_most_one_and_add_up(n, clusters, size, mix, seed, kind):
    _, weights, _ = data(n, seed=seed, weights=kind)
    rng = generator("probabilities", n, seed)
    index, costs = rng.integers(0, clusters, n).astype(np.int32), 10.0 ** rng.uniform(-3, 3, n)
    out = np.empty(n)
    keeping_probabilities(index, costs, weights, clusters, size, mix, out)
    positive = weights > 0
    assert ((out >= 0) & (out <= 1)).all()
    assert (out[~positive] == 0).all()
    if mix < 1:
        assert (out[positive] > 0).all()  # else nothing would be unbiased
    assert out.sum() == pytest.approx(min(size, positive.sum()), rel=1e-6 if kind == "huge range" else 1e-9)


def test_dominating_points_are_kept_for_certain():
    """Costs 1e30 times the others': what is left after them is added up anew, not got by subtraction."""
    n = 1000
    costs = generator("dominating").random(n) + 0.5
    costs[:3] = 1e30
    out = np.empty(n)
    keeping_probabilities(np.zeros(n, np.int32), costs, np.ones(n), 1, 20, 0.7, out)
    assert (out[:3] == 1.0).all()
    assert out[3:].sum() == pytest.approx(17)
    assert np.corrcoef(costs[3:], out[3:])[0, 1] > 0.99


@settings(max_examples=60)
@given(
    st.integers(1, 400), st.sampled_from([1, 2, 7]), st.sampled_from(METHODS), st.sampled_from(ZS), st.integers(0, 5),
    st.sampled_from(["even", "uneven", "zeros", "huge range"]), st.integers(1, 60),
)
def test_samples_are_sound(n, d, method, z, seed, kind, size):
    points, weights, strata = data(n, d, seed, kind)
    sampler = Sampler(min(3, size), size, z, method)
    rows, unbiased = sampler.thin(points, weights, strata, size, generator(seed))
    check_sample(points, weights, rows, unbiased)
    rows, unbiased, calibrated = sampler.finish(points, weights, strata, generator(seed))
    check_sample(points, weights, rows, unbiased)
    assert (calibrated > 0).all() or n <= size
    assert calibrated.sum() == pytest.approx(weights.sum(), rel=1e-9)
    if n <= size:
        assert rows.tolist() == list(range(n))
        assert np.array_equal(calibrated, weights)
    elif size >= 24:
        assert len(rows) <= size + 4  # three strata, each within one of its share


@pytest.mark.parametrize("method", METHODS)
def test_equal_randomness_draws_equal_samples(method):
    points, weights, strata = data(2000)
    sampler = Sampler(5, 100, method=method)
    twice = [sampler.finish(points, weights, strata, generator(4)) for _ in range(2)]
    for a, b in zip(*twice, strict=True):
        assert np.array_equal(a, b)
    other = sampler.finish(points, weights, strata, generator(5))
    assert not np.array_equal(other[0], twice[0][0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
def test_one_draw_is_unbiased(method, z):
    """Means of 400 draws within 4.5 standard errors of the truth: each of the four fails with probability 1e-5."""
    points, weights, strata = data(600)
    sampler = Sampler(2, 24, z, method)
    centers = np.array([[1.0, 0.0], [33.0, 41.0]], np.float32)
    truth = np.array([weights.sum(), cost(points, weights, centers, z)])
    for draw in (lambda rng: sampler.thin(points, weights, strata, 24, rng),
                 lambda rng: sampler.finish(points, weights, strata, rng)[:2]):
        found = np.empty((400, 2))
        for seed in range(400):
            rows, unbiased = draw(generator("one draw", seed))
            found[seed] = unbiased.sum(), cost(points[rows], unbiased, centers, z)
        error = found.std(axis=0, ddof=1) / 20
        assert (np.abs(found.mean(axis=0) - truth) < 4.5 * error).all()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_tiny_sample_over_several_strata_is_never_empty_and_unbiased(size):
    """Mean total weight of 1000 draws within 4.5 standard errors: fails with probability 1e-5."""
    points, weights, strata = data(300)
    totals = []
    for seed in range(1000):
        rows, unbiased, _ = Sampler(1, size).finish(points, weights, strata, generator("tiny", seed))
        assert len(rows)
        totals.append(unbiased.sum() / weights.sum())
    assert abs(np.mean(totals) - 1) < 4.5 * np.std(totals, ddof=1) / 1000**0.5


def test_strata_are_drawn_apart():
    """With equal probabilities every stratum gets its share, up to one point."""
    points, weights, strata = data(3000, weights="even")
    for seed in range(20):
        rows, _, _ = Sampler(5, 200, method="uniform").finish(points, weights, strata, generator(seed))
        share = 200 * np.bincount(strata) / 3000
        assert (np.abs(np.bincount(strata[rows], minlength=3) - share) < 1 + 1e-9).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
def test_identical_points(method, z):
    points, weights = np.full((300, 3), 7.7, np.float32), generator("identical").random(300) + 0.1
    strata = np.zeros(300, np.int32)
    rows, unbiased, calibrated = Sampler(4, 40, z, method).finish(points, weights, strata, generator(1))
    assert calibrated.sum() == pytest.approx(weights.sum())
    assert abs(len(rows) - 40) <= 1
    assert (unbiased > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_point_weighs_almost_everything(method):
    points, weights, strata = data(400)
    weights = weights.copy()
    weights[17] = 1e15
    for seed in range(10):
        rows, unbiased = Sampler(3, 30, method=method).thin(points, weights, strata, 30, generator(seed))
        assert unbiased[rows == 17] == pytest.approx([1e15])


@pytest.mark.parametrize("method", METHODS)
def test_all_weightless_rows_give_no_sample(method):
    points, _, strata = data(100)
    sampler = Sampler(3, 30, method=method)
    assert [len(a) for a in sampler.thin(points, np.zeros(100), strata, 30, generator(0))] == [0, 0]
    assert [len(a) for a in sampler.finish(points, np.zeros(100), strata, generator(0))] == [0, 0, 0]


def test_high_dimension_is_projected_and_points_keep_their_coordinates():
    rng = generator("high dimension")
    points = (rng.integers(0, 5, (1500, 1)) + 0.1 * rng.standard_normal((1500, 200))).astype(np.float32)
    weights, strata = np.ones(1500), np.zeros(1500, np.int32)
    sampler = Sampler(5, 150, seed=3)
    assert sampler._space(points).shape == (1500, 16)
    assert sampler._space(points[:, :128]).shape == (1500, 128)
    rows, unbiased, calibrated = sampler.finish(points, weights, strata, generator(0))
    centers = np.repeat(np.arange(5.0), 200).reshape(5, 200).astype(np.float32)
    truth = cost(points, weights, centers)
    assert cost(points[rows], calibrated, centers) == pytest.approx(truth, rel=0.05)
    assert cost(points[rows], unbiased, centers) == pytest.approx(truth, rel=0.2)


def mixture_with_outliers():
    rng = generator("distortion")
    centers = rng.uniform(-40, 40, (10, 4))
    points = centers[rng.integers(0, 10, 20_000)] + rng.standard_normal((20_000, 4))
    points[:20] = rng.choice([-2000.0, 2000.0], (20, 4))
    return points.astype(np.float32), centers


def worst_distortion(method, size=400, seeds=3):
    """Over seeds and six fixed center sets: good ones, shifted ones, and random points."""
    points, centers = mixture_with_outliers()
    rng, ones, strata = generator("center sets of the test"), np.ones(20_000), np.zeros(20_000, np.int32)
    sets = [centers, centers + 1, centers + rng.normal(size=centers.shape) * 5]
    sets += [points[rng.choice(20_000, 10)] for _ in range(3)]
    worst = 1.0
    for seed in range(seeds):
        rows, _, weights = Sampler(10, size, method=method).finish(points, ones, strata, generator(seed))
        for chosen in sets:
            ratio = cost(points[rows], weights, chosen) / cost(points, ones, chosen)
            worst = max(worst, ratio, 1 / ratio)
    return worst


def test_sensitivity_sampling_holds_costs_at_40_points_a_center_where_uniform_fails():
    """20 far outliers of 20,000 points carry most of the cost: a uniform 2 % misses or multiplies them."""
    assert worst_distortion("sensitivity") < 1.10
    assert worst_distortion("uniform") > 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: must be at least 1, got 0"),
        ({"z": 0.5}, "z: must be at least 1, got 0.5"),
        ({"z": float("nan")}, "z: must be at least 1, got nan"),
        ({"size": 4}, "coreset_size: must be at least k = 5, got 4"),
        ({"method": "best"}, "method: must be one of sensitivity, lightweight, .*got 'best'"),
    ],
)
def test_parameters_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**({"k": 5, "size": 50} | options))
