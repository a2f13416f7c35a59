"""`beam-coresets plan`: schemes side by side, and what each wish costs."""
import contextlib
import io
import math
import re

import pytest

from beam_coresets.pipelines import plan
from beam_coresets.pipelines.console.command_line import parse_alone
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.plan import MAX_SHARDS, PlanOptions, choose, parse_domains
from beam_coresets.shards.assignment import SCHEMES


def planned(text):
    return choose(parse_alone(text.split(), "plan", PlanOptions))


def of_theorem_6(text):
    """What is said of it."""
    options = parse_alone(text.split(), "plan", PlanOptions)
    return plan._theorem(choose(options), options)


@pytest.fixture(scope="module")
def printed():
    """What `plan --shards 10 --tolerate 2 --straggle_probability 0.1` prints, without line breaks."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["plan", "--shards", "10", "--tolerate", "2", "--straggle_probability", "0.1"]) == 0
    return " ".join(out.getvalue().split())


def test_it_names_the_scheme_and_what_it_survives(printed):
    assert re.search(r"Plan: --scheme \w+ --shards 10 --replication 3", printed)
    assert "Any 2 of 10 shards may straggle and nothing is lost." in printed
    assert "all together 3 times the data" in printed


def test_every_scheme_stands_side_by_side_with_load_loss_and_delta(printed):
    load, loss = printed.split("Share of the data lost")[0], printed.split("Share of the data lost")[1]
    for kind in set(SCHEMES) - {"fractional"}:
        assert kind in load
        assert kind in loss
    for text in ("mean load", "holders", "any shards", "average", "worst", "spread", "delta"):
        assert text in printed
    assert "Theorem 6" in printed


def test_it_simulates_waiting_up_to_ten_thousand_shards(printed):
    waiting = printed.split("Simulated time to answer")[1]
    for text in ("10,000", "1,000", "all, l = 1", "l = 1, deadline", "l = 2, deadline", "l = 3, deadline", "p99"):
        assert text in waiting


@pytest.mark.parametrize(("text", "tolerates", "replication"), [
    ("--shards 10", 2, 3), ("--shards 10 --tolerate 4", 4, 5), ("--shards 2", 1, 2), ("--shards 1", 0, 1),
    ("--shards 10 --replication 4 --scheme cyclic", 3, 4), ("--shards 12 --tolerate 0", 0, 1),
])  # fmt: skip
def test_wishes_become_schemes(text, tolerates, replication):
    scheme = planned(text)
    assert scheme.tolerates() >= tolerates
    assert scheme.replication == replication


def test_a_plan_is_what_summarize_runs():
    scheme = planned("--shards 9 --tolerate 2 --scheme fractional --domains 3")
    assert (scheme.kind, scheme.domains) == ("fractional", (0, 1, 2) * 3)
    assert parse_domains("0,0,1,1", 4) == (0, 0, 1, 1)
    assert parse_domains(None, 4) is None


@pytest.mark.parametrize(("text", "p", "shown"), [
    ("--tolerate 3", 0.3, "0.3 (3 of 10)"), ("", 0.2, "0.2 (2 of 10)"), ("--straggle-probability 0.07", 0.07, "0.07"),
    ("--tolerate 3 --straggle-probability 0.07", 0.07, "0.07"),
])  # fmt: skip
def test_theorem_6_is_shown_for_the_shards_that_straggle(text, p, shown):
    out = of_theorem_6(f"--summary local_centers --shards 10 --buckets 64 {text}")
    asked = 6 * 2.5**2 / 0.5**2 * math.log(math.sqrt(2) * 64) / (1 - p)
    assert f"Theorem 6 asks for l = {asked:,.0f} of 10 shards: out of reach." in out
    assert f"delta 0.5, straggling probability {shown}, 64 buckets." in out
    assert re.search(r"What it proves of l = \d: no delta, and so no factor\. \(Probability 1 - 1 / 64\.\)", out)


def test_what_theorem_6_proves_becomes_a_factor():
    words = "--shards 40 --replication 38 --scheme bernoulli --buckets 4 --straggle-probability 0.1"
    gamma = math.sqrt(6 * math.log(math.sqrt(2) * 4) / (38 * 0.9))
    delta = 2 * gamma / (1 - gamma)
    for summary, factor in (("local_centers", 3 * (1 + delta)), ("pca", (1 + delta) * 1.1)):
        out = of_theorem_6(f"{words} --summary {summary}")
        assert f"What it proves of l = 38: delta {delta:.2f}, factor {factor:.2f}." in out
    assert "What it proves" not in of_theorem_6(words)


@pytest.mark.parametrize(("text", "message"), [
    ("--shards 0", f"shards: must be from 1 to {MAX_SHARDS}, got 0"),
    (f"--shards {MAX_SHARDS + 1}", f"shards: must be from 1 to {MAX_SHARDS}"),
    ("--target 0.9", "target: must come with --straggle-probability, got 0.9 alone"),
    ("--target 2 --straggle-probability 0.1", "target: must be between 0 and 1, got 2.0"),
    ("--tolerate 2 --replication 2", "replication: must be at least 3 (tolerate + 1), got 2"),
    ("--domains a", "domains: must be integers separated by commas, got 'a'"),
    ("--domains 0", "domains: must be at least 1, got 0"),
    ("--shards 4 --replication 5", "replication: must be"),
    ("--shards 4 --tolerate 4", "tolerate"),
    ("--shards two", "must be a whole number, got 'two'"),
    ("--scheme best", "scheme: must be one of bernoulli, uniform, cyclic, fractional, got 'best'"),
])  # fmt: skip
def test_what_cannot_work_is_said_with_exit_code_two(text, message, capsys):
    assert main(["plan", *text.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
