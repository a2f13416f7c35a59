"""The planner's formulas against enumeration, and the `plan` command."""
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.pipelines.plan import main
from beam_coresets.planning import planner
from beam_coresets.shards.assignment import SCHEMES, Assignment


def all_losses(scheme, t):
    """The loss of every set of t stragglers."""
    matrix = scheme.matrix()
    sets = itertools.combinations(range(scheme.shards), t)
    return np.array([(~np.delete(matrix, list(chosen), 0).any(axis=0)).mean() for chosen in sets])


@st.composite
def small_cases(draw):
    s = draw(st.integers(2, 8))
    r = draw(st.integers(1, s))
    kind = draw(st.sampled_from(SCHEMES))
    domains = None
    if kind != "bernoulli" and draw(st.booleans()):
        domains = tuple(i % draw(st.integers(r, 8)) for i in range(s))
        domains = domains if len(set(domains)) >= r else None
    scheme = Assignment(s, r, kind, draw(st.sampled_from([8, 13, 40])), draw(st.integers(0, 9)), domains)
    return scheme, draw(st.integers(0, s - 1))


@settings(deadline=None)
@given(small_cases())
def test_losses_are_those_of_all_straggler_sets(case):
    scheme, t = case
    every = all_losses(scheme, t)
    found = planner.loss(scheme, t)
    assert found.worst_exact
    assert found.expected == pytest.approx(every.mean(), abs=1e-12)
    assert found.worst == pytest.approx(every.max(), abs=1e-12)
    assert found.spread == pytest.approx(every.std(), abs=1e-7)
    assert found.delta is not None
    assert found.delta >= 0


@settings(deadline=None)
@given(st.integers(2, 30), st.data())
def test_schemes_with_exactly_l_holders_lose_the_same_on_average(s, data):
    r = data.draw(st.integers(1, s))
    t = data.draw(st.integers(0, s - 1))
    expected = math.comb(s - r, t - r) / math.comb(s, t) if t >= r else 0.0
    for kind in ("uniform", "cyclic"):
        assert planner.expected_loss(Assignment(s, r, kind, 64), t) == pytest.approx(expected, abs=1e-12)


def test_bernoulli_loses_its_closed_form_on_average():
    """The mean over 20,000 buckets, lost with probability q, is within 5 deviations but for a probability of 6e-7."""
    q = (1 - 3 / 10) ** (10 - 4)
    scheme = Assignment(10, 3, "bernoulli", 20_000)
    assert abs(planner.expected_loss(scheme, 4) - q) < 5 * math.sqrt(q * (1 - q) / 20_000)


@pytest.mark.parametrize("kind", ["cyclic", "fractional"])
@pytest.mark.parametrize("domains", [None, tuple(i % 8 for i in range(40))])
def test_no_search_beats_the_worst_case_of_large_schemes(kind, domains):
    scheme = Assignment(40, 3, kind, 400, domains=domains)
    for t in (3, 5, 9):
        worst, exact = planner.worst_loss(scheme, t)
        assert exact
        sets, exhaustive = planner.straggler_sets(scheme, t)
        assert not exhaustive
        assert planner.losses(scheme, sets).max() <= worst


def test_a_search_is_marked_as_one():
    scheme = Assignment(40, 3, "uniform", 400)
    worst, exact = planner.worst_loss(scheme, 5)
    assert not exact
    assert worst >= planner.losses(scheme, planner.straggler_sets(scheme, 5)[0]).max()


@settings(deadline=None)
@given(st.integers(1, 9), st.data())
def test_no_loss_probability_is_the_sum_over_straggler_sets(s, data):
    r = data.draw(st.integers(1, s))
    p = data.draw(st.floats(0, 0.95))
    scheme = Assignment(s, r, data.draw(st.sampled_from(["cyclic", "fractional"])), 32)
    exact = sum((all_losses(scheme, t) == 0).sum() * p**t * (1 - p) ** (s - t) for t in range(s))
    assert planner.no_loss_probability(scheme, p) == pytest.approx(exact, abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 20), st.data())
def test_the_chosen_scheme_does_what_was_asked(s, data):
    t = data.draw(st.integers(0, s - 1))
    scheme = planner.choose(s, tolerate=t)
    assert scheme.tolerates() >= t
    assert scheme.replication == t + 1
    likely = planner.choose(s, straggle_probability=0.05, target=0.9)
    assert planner.no_loss_probability(likely, 0.05) >= 0.9
    for kind in ("cyclic", "fractional"):
        if likely.replication > 1:
            fewer = Assignment(s, likely.replication - 1, kind, likely.buckets)
            assert planner.no_loss_probability(fewer, 0.05) < 0.9


def test_theorem_6_as_printed():
    assert planner.theorem6_replication(0.5, 1024, 0.3) == pytest.approx(6 * 25 * math.log(math.sqrt(2) * 1024) / 0.7)


@pytest.mark.parametrize(("replication", "buckets", "p"), [(200, 1024, 0.0), (300, 4096, 0.2), (50, 16, 0.35)])
def test_what_theorem_6_proves_of_a_replication_is_the_delta_that_asks_for_it(replication, buckets, p):
    """By bisection on the theorem as printed."""
    low, high = 1e-6, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        asked = 6 * (2 + middle) ** 2 / middle**2 * math.log(math.sqrt(2) * buckets) / (1 - p)
        low, high = (middle, high) if asked > replication else (low, middle)
    assert planner.theorem6_slack(replication, buckets, p) == pytest.approx(high)


def test_theorem_6_proves_nothing_of_few_replicas():
    asked_of_any_delta = 6 * math.log(math.sqrt(2) * 1024) / 0.9
    assert math.isinf(planner.theorem6_slack(math.floor(asked_of_any_delta), 1024, 0.1))
    assert math.isfinite(planner.theorem6_slack(math.ceil(asked_of_any_delta), 1024, 0.1))


def test_domains_that_may_stop():
    assert planner.tolerates_domains(Assignment(6, 3, "cyclic", domains=(0, 0, 1, 1, 2, 2))) == 2
    assert planner.tolerates_domains(Assignment(6, 3)) is None


def test_waiting_is_that_of_the_finished_shards():
    """With the times of all shards in hand, replay each trial: an answer comes when every window has finished."""
    times = planner.shard_times(12, 50, seed=4, tail=0.2)
    rows = planner.time_to_answer(12, (2,), deadline=5.0, trials=50, seed=4, tail=0.2)
    answers, shares = [], []
    for trial in times:
        done = [2 * min(trial[i], trial[(i + 1) % 12]) for i in range(12)]
        answers.append(min(5.0, max(done)))
        shares.append(np.mean([x <= answers[-1] for x in done]))
    assert rows[0].median == pytest.approx(np.median(times.max(axis=1)))
    assert rows[0].coverage == 1.0
    assert rows[1].median == pytest.approx(np.median(answers))
    assert rows[1].coverage == pytest.approx(np.mean(shares))
    assert rows[1].worst_coverage == pytest.approx(min(shares))
    assert rows == planner.time_to_answer(12, (2,), deadline=5.0, trials=50, seed=4, tail=0.2)


def test_shard_times_have_the_median_and_tail_they_promise():
    """Of 400,000 times, the share beyond 10 is near tail * E[(10 / body)^-alpha]. 10 % of it are 7 deviations
    and 0.01 is 25 deviations of the median: a failure probability below 1e-11."""
    times = planner.shard_times(1000, 400, tail=0.2, alpha=1.2)
    bodies = np.exp(0.2 * generator("bodies").standard_normal(100_000))
    assert abs((times > 10).mean() / (0.2 * ((10 / bodies) ** -1.2).mean()) - 1) < 0.1
    assert abs(np.median(planner.shard_times(1000, 400, tail=0.0)) - 1) < 0.01


def test_plan_prints_all_schemes_within_100_columns(capsys):
    assert main(["--shards", "12", "--tolerate", "2", "--straggle_probability", "0.1", "--domains", "4"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    for word in (*SCHEMES, "Theorem 6", "out of reach", "10,000", "--replication 3"):
        assert word in out


@pytest.mark.parametrize(("summary", "factors"), [("local_centers", ("3.00", "4.00")), ("pca", ("1.10", "1.47"))])
def test_plan_for_one_number_a_shard(summary, factors, capsys):
    line = ["--shards", "10", "--tolerate", "2", "--delta", "0.4", "--summary", summary]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    out = " ".join(printed.split())
    assert f"Plan: --summary {summary} --recovery lp --scheme fractional --shards 10 --replication 3" in out
    assert f"fractional 0.00 3.00 no yes all {factors[0]} 3" in out
    assert f"cyclic 0.33 2.00 no yes all, by 5 {factors[1]} 3" in out
    assert "bernoulli - - no no all, by 45 none" in out
    assert re.search(r"Theorem 6 asks for l = 1,\d\d\d of 10 shards: out of reach\.", out)
    line = ["--shards", "6", "--summary", summary, "--delta", "0.2", "--scheme", "cyclic", "--tolerate", "2"]
    assert main([*line, "--straggle_probability", "0.02"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "--scheme cyclic --shards 6 --replication 3" in out
    assert "Chance: that it holds if each shard straggles with probability 0.02." in out


def test_plan_of_one_shard(capsys):
    assert main(["--shards", "1"]) == 0
    assert "--shards 1 --replication 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--shards 3 --replication 5", "replication: must be at most the 3 shards, got 5"),
        ("--shards 0", "shards: must be from 1 to 20000, got 0"),
        ("--shards ten", "shards: must be a whole number, got 'ten'"),
        ("--tolerate 10", r"tolerate: must be from 0 to 9 \(below the shards\), got 10"),
        ("--tolerate 3 --replication 2", r"replication: must be at least 4 \(tolerate \+ 1\), got 2"),
        ("--target 0.9", r"target: must come with --straggle-probability, got 0\.9"),
        ("--straggle-probability 1.5", r"straggle_probability: must be from 0 to below 1, got 1\.5"),
        ("--straggle-probability 0.1 --target 3", r"target: must be between 0 and 1, got 3"),
        ("--shards 4 --straggle-probability 0.9 --target 0.999", "target: must be within reach of 4 shards"),
        ("--delta 0", r"delta: must be positive and finite, got 0\.0"),
        ("--domains a,b", "domains: must be integers separated by commas, got 'a,b'"),
        ("--domains 2", "replication: must be at most the 2 failure domains, got 3"),
        ("--deadline 0", r"deadline: must be positive, got 0\.0"),
        ("--colour red", "--colour: must be an option of plan, got none of that name"),
    ],
)
def test_plan_refuses_what_cannot_work(line, message, capsys):
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err)
