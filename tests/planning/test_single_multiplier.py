"""Property 1 by symmetry and by formula against all straggler sets, the scheme chosen for it, and Theorem 6."""
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_planner import small_cases

from beam_coresets.coordinator.recovery import property1_delta, theorem6_constant
from beam_coresets.hashing import generator
from beam_coresets.planning import planner, single_multiplier
from beam_coresets.shards.assignment import SCHEMES, Assignment


def worst_slacks(scheme, t):
    """The largest least delta over every set of up to t stragglers, and that of constants; infinite where a bucket is
    lost."""
    lp, constant = [], []
    for count in range(t + 1):
        for stragglers in itertools.combinations(range(scheme.shards), count):
            answering = np.delete(scheme.matrix(), stragglers, 0)
            holders = answering.sum(axis=0)
            lost = not holders.all()
            lp.append(math.inf if lost else property1_delta(answering)[1])
            constant.append(math.inf if lost else holders.max() / holders.min() - 1)
    return max(lp), max(constant)


@settings(deadline=None, max_examples=40)
@given(small_cases(), st.sampled_from([0.0, 0.3, 1.0]))
def test_property_1_is_that_of_all_straggler_sets(case, delta):
    """By symmetry, by formula or by trying: the same as all sets, those of fewer stragglers among them."""
    scheme, t = case
    t = min(t, 4)
    lp, constant = worst_slacks(scheme, t)
    found = single_multiplier.property1(scheme, t, delta)
    assert found.exact
    assert found.delta == pytest.approx(lp, abs=1e-7)
    assert found.constant == pytest.approx(constant)
    assert found.holds == (lp <= delta + 1e-9)
    if math.isfinite(found.delta):
        assert found.delta <= found.constant + 1e-7
    assert not found.theorem6 or found.constant <= delta + 1e-7


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 6), st.data())
def test_the_chance_of_property_1_is_the_sum_over_straggler_sets(s, data):
    r, kind = data.draw(st.integers(1, s)), data.draw(st.sampled_from(SCHEMES))
    scheme = Assignment(s, r, kind, 16, data.draw(st.integers(0, 9)))
    p, delta = data.draw(st.sampled_from([0.05, 0.4])), data.draw(st.sampled_from([0.0, 0.5, 2.0]))
    chance = 0.0
    for t in range(s):
        for stragglers in itertools.combinations(range(s), t):
            answering = np.delete(scheme.matrix(), stragglers, 0)
            if answering.any(axis=0).all() and property1_delta(answering)[1] <= delta + 1e-9:
                chance += p**t * (1 - p) ** (s - t)
    found, exact = single_multiplier.property1_probability(scheme, p, delta)
    assert exact
    assert found == pytest.approx(chance, abs=1e-12)


def test_sampled_answers_say_how_sure_they_are():
    """The bound is below the true chance with confidence 95 %, and that is at most the chance of losing nothing."""
    scheme = Assignment(16, 3)
    found, exact = single_multiplier.property1_probability(scheme, 0.1, 0.5, 0.9)
    assert not exact
    assert 0.5 < found < planner.no_loss_probability(scheme, 0.1)
    sampled = single_multiplier.property1(Assignment(60, 6, "uniform", 64), 5, 2.0)
    assert not sampled.exact
    assert sampled.holds
    assert 0 < sampled.fails == pytest.approx(1 - 0.05 ** (1 / sampled.sets))


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 9), st.sampled_from([0.0, 0.2, 0.6]), st.data())
def test_the_scheme_for_one_number_has_property_1_and_no_fewer_replicas_would_do(s, delta, data):
    t = data.draw(st.integers(0, min(3, s - 1)))
    any_kind = single_multiplier.choose_for_one_number(s, delta, t)
    assert single_multiplier.property1(any_kind, t, delta).holds
    assert any_kind.replication == t + 1, "with t holders, they may all straggle"
    cyclic = single_multiplier.choose_for_one_number(s, delta, t, kinds=("cyclic",))
    assert single_multiplier.property1(cyclic, t, delta).holds
    for r in range(t + 1, cyclic.replication):
        assert not single_multiplier.property1(Assignment(s, r, "cyclic", cyclic.buckets), t, delta).holds
    likely = single_multiplier.choose_for_one_number(s, delta, None, 0.05, 0.9, kinds=("cyclic",))
    assert single_multiplier.property1_probability(likely, 0.05, delta)[0] >= 0.9


def test_what_one_number_cannot_do_is_refused():
    with pytest.raises(ValueError, match="target: must be within reach of 4 shards that straggle"):
        single_multiplier.choose_for_one_number(4, 0.5, None, 0.9, 0.999)
    with pytest.raises(ValueError, match="tolerate: must be given unless straggle_probability is, got neither"):
        single_multiplier.choose_for_one_number(10, 0.5)
    with pytest.raises(ValueError, match="delta: must be at least 0 and finite, got -1"):
        single_multiplier.choose_for_one_number(10, -1.0, 2)


@pytest.mark.parametrize(("s", "delta"), [(100, 10.0), (200, 2.0)])
def test_theorem_6_at_its_size(s, delta):
    """With the theorem's l, Bernoulli assignment and random stragglers, its constant has Property 1 for all G buckets
    in all but 1 / G of the trials. 400 trials at G = 64: 6.25 failures are expected at most, and 18 or more have
    probability below 1e-4. With a sixteenth of that l nearly all trials fail."""
    buckets, p = 64, 0.1
    l = math.ceil(planner.theorem6_replication(delta, buckets, p))  # noqa: E741
    assert l <= s
    for replication, fewest, most in ((l, 0, 17), (l // 16, 380, 400)):
        b = theorem6_constant(delta, replication, p)
        failures = 0
        for trial in range(400):
            matrix = Assignment(s, replication, "bernoulli", buckets, trial).matrix()
            answering = matrix[generator("theorem 6", trial).random(s) >= p]
            sums = b * answering.sum(axis=0)
            failures += not ((sums >= 1) & (sums <= 1 + delta)).all()
        assert fewest <= failures <= most


@pytest.mark.parametrize("kind", ["cyclic", "fractional", "uniform"])
def test_theorem_6s_constant_is_made_for_the_probability_that_is_given(kind):
    """By the theorem's formula, over every set of two stragglers."""
    scheme, t, delta, seen = Assignment(8, 4, kind, 256, 3), 2, 1.5, set()
    sums = [np.delete(scheme.matrix(), gone, 0).sum(axis=0) for gone in itertools.combinations(range(8), t)]
    for p in (0.0, 0.1, 0.25, 0.4, 0.6):
        b = 1 / ((1 - delta / (2 + delta)) * 4 * (1 - p))
        fits = all(b * count.min() >= 1 and b * count.max() <= 1 + delta for count in sums)
        assert single_multiplier.property1(scheme, t, delta, p).theorem6 == fits
        seen.add(fits)
    assert seen == {True, False}
    assert single_multiplier.property1(scheme, t, delta) == single_multiplier.property1(scheme, t, delta, t / 8)
