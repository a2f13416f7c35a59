"""`beam-coresets plan`: schemes side by side, and what each wish costs."""
import contextlib
import io
import math
import re

import numpy as np
import pytest

from beam_coresets.hashing import generator
from beam_coresets.pipelines import plan
from beam_coresets.pipelines.console import sizes
from beam_coresets.pipelines.console.command_line import parse_alone
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.plan import MAX_SHARDS, PlanOptions, choose, parse_domains
from beam_coresets.planning.target_size import size_for
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


@pytest.fixture(scope="module")
def rows_of_normals(tmp_path_factory):
    """A CSV file: 1,500 rows of three columns, the last one a thousand times as wide, and one row that is none."""
    folder = tmp_path_factory.mktemp("normals")
    points = generator("normals").standard_normal((1500, 3)) * [1, 1, 1000]
    lines = [",".join(map("{:.6g}".format, row)) for row in points]
    (folder / "points.csv").write_text("\n".join(["a,b,c", *lines, "1,x,2"]) + "\n")
    return folder / "points.csv"


def of_sizes(text, path):
    """What is said of sizes, and the pilot."""
    options = parse_alone([*text.split(), "--input", str(path), "--max-bad-rows", "1"], "plan", PlanOptions)
    chosen = choose(options)
    missing = plan._straggling(chosen, options)[0] if options.tolerate is not None else 0
    return " ".join(" ".join(plan._sizes(chosen, options)).split()), sizes.pilot_of(options, chosen, missing)


def test_a_target_in_percent_is_answered_from_the_input(rows_of_normals, monkeypatch):
    answers = []
    monkeypatch.setattr(sizes, "size_for", lambda *asked: answers.append(size_for(*asked)) or answers[-1])
    text = "--k 3 --shards 4 --replication 2 --target 8% --columns a,b --z 1 --scheme fractional --seed 5"
    out, pilot = of_sizes(text, rows_of_normals)
    assert (pilot.rows, pilot.held, pilot.missing) == (1500, 1500, 0)
    assert (pilot.sampler.k, pilot.sampler.z, pilot.assignment.kind, pilot.assignment.seed) == (3, 1.0, "fractional", 5)
    (found,) = answers
    assert f"--coreset-size {found.size} {found.size:,} points a shard, {4 * found.size:,} in all" in out
    assert "± 8 %[/bold] of the cost (95 % interval; 1,500 rows)" in out
    assert f"Expected: ± {100 * found.half:.3g} %; 95% of runs keep to ± 8 %." in out
    for each in found.tried:
        low, high = min(each.halves), max(each.halves)
        assert f"{each.size:,}: ± {100 * low:.3g} % to {100 * high:.3g} %" in out


def test_an_unreachable_target_says_to_keep_all_rows(rows_of_normals):
    out, pilot = of_sizes("--k 2 --shards 2 --target 0.0001%", rows_of_normals)
    assert f"Keep all 1,500 rows: --coreset-size {pilot.most:,}, as many as a shard has." in out


def test_lost_shards_may_cost_more_than_the_target(rows_of_normals):
    text = "--k 2 --shards 8 --replication 1 --scheme cyclic --target 0.01% --straggle-probability 0.3"
    out, _ = of_sizes(text, rows_of_normals)
    assert "2 of 8 shards missing" in out
    assert re.search(r"No size is enough: with all rows kept the shards that are missing leave ± \d", out)


def test_pilots_read_scaled_columns_and_parts(rows_of_normals):
    _, pilot = of_sizes("--k 1 --shards 2 --epsilon 0.5 --scale standard --pilot-rows 1000", rows_of_normals)
    assert pilot.rows == 1500
    assert 300 < pilot.held <= 1000
    points = np.concatenate([block.points for block in pilot.blocks])
    assert points.std(axis=0) == pytest.approx([1, 1, 1], rel=1e-3)


def test_theory_is_asked_with_and_without_data(rows_of_normals, tmp_path):
    size = math.ceil(4 * 100 * 2 * math.log(40))
    stable = math.ceil(4 * 100 * math.log(40))
    out = of_theory("--k 4 --epsilon 0.1")
    assert f"worst case: {size:,} a shard (Bansal et al., FOCS 2024)" in out
    assert f"stable data: {stable:,} a shard" in out
    assert "With --input, beta is estimated." in out
    out, _ = of_sizes("--k 4 --epsilon 0.1 --columns a,b", rows_of_normals)
    assert re.search(r"beta = 0[.]\d+ \(estimated: .* by a search on 1,500 rows\), not stable: the worst case", out)
    apart = np.arange(400)[:, None] % 4 * [[1000.0, 0.0]] + generator("apart").standard_normal((400, 2))
    np.save(tmp_path / "apart.npy", apart)
    out, _ = of_sizes("--k 4 --epsilon 0.1", tmp_path / "apart.npy")
    assert re.search(r"beta = [\d.e+]+ \(estimated: .*\), stable", out)
    assert "no bound is known for this method and z" in of_theory("--k 4 --epsilon 0.1 --method lightweight")


def of_theory(text):
    """What is said of sizes without data."""
    options = parse_alone(text.split(), "plan", PlanOptions)
    return " ".join(" ".join(plan._sizes(choose(options), options)).split())


@pytest.mark.parametrize(("text", "message"), [
    ("--target 5% --k 2", "input: must be given with --target 5%, got nothing"),
    ("--target 5% --input FILE", "k: must be given with --target 5%, got nothing"),
    ("--epsilon 0.1", "k: must be given with --epsilon 0.1, got nothing"),
    ("--k 3", "k: must come with --target PERCENT% or --epsilon, got it alone"),
    ("--input FILE", "input: must come with --target PERCENT% or --epsilon, got it alone"),
    ("--epsilon 0.1 --k 3 --columns a", "columns: must come with --input, got it alone"),
    ("--epsilon 0.1 --k 3 --pilot-rows 2000", "pilot_rows: must come with --input, got it alone"),
    ("--z 1", "z: must come with --target PERCENT% or --epsilon, got it alone"),
    ("--target 0% --k 3 --input FILE", "target: must be between 0 % and 100 %, got 0%"),
    ("--target 100% --k 3 --input FILE", "target: must be between 0 % and 100 %, got 100%"),
    ("--target some --k 3", "target: must be a probability such as 0.99, or an error such as 1%, got 'some'"),
    ("--target 5% --k 3 --input FILE --summary pca", "summary: must be coreset with --target 5%, got 'pca'"),
    ("--target 5% --k 3 --input FILE --pilot-rows 999", "pilot_rows: must be at least 1000, got 999"),
    ("--target 5% --k 0 --input FILE", "k: must be at least 1, got 0"),
    ("--target 5% --k 9000 --input FILE --max-bad-rows 1", "k: must be at most the 1500 rows of the input, got 9000"),
    ("--target 5% --k 3 --z 0.5 --input FILE --max-bad-rows 1", "z: must be at least 1, got 0.5"),
    ("--target 5% --k 3 --input FILE", "max_bad_rows: at most 0 rows may be refused, got 1"),
    ("--target 5% --k 3 --input nowhere.csv", "nowhere.csv"),
    ("--epsilon 2 --k 3", "epsilon: must be between 0 and 1, got 2"),
    ("--epsilon 0.1 --k 3 --method uniform", "epsilon: must be left out with method uniform"),
])  # fmt: skip
def test_sizes_that_cannot_be_asked_for(text, message, rows_of_normals, capsys):
    assert main(["plan", *text.replace("FILE", str(rows_of_normals)).split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("text", "message"), [
    ("--shards 0", f"shards: must be from 1 to {MAX_SHARDS}, got 0"),
    (f"--shards {MAX_SHARDS + 1}", f"shards: must be from 1 to {MAX_SHARDS}"),
    ("--target 0.9", "target: must come with --straggle-probability, got 0.9 alone"),
    ("--target 2 --straggle-probability 0.1", "target: must be between 0 and 1, got 2"),
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
