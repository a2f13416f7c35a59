"""Constraints in the jobs that make coresets: the same options, the same tables."""
import apache_beam as beam
import numpy as np
import pytest
from jobs import clusters, columns_of, rows_in, run, summarize_files, summary_row, write_parquet

from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines.main import main
from beam_coresets.solvers.constrained.constraints import Constraint, Fair
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.summarize import Summarize

N = 3000
BASE = ("--k", "4", "--shards", "4", "--coreset_size", "200", "--columns", "x0,x1,x2")
SEX = np.where(generator("sex").random(N) < np.where(clusters(N)[:, 0] > 10, 0.6, 0.3), "f", "m")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("in"), columns_of(clusters(N)) | {"sex": SEX})


def weights_of(folder):
    return np.array([row["weight"] for row in rows_in(folder, "centers")])


def test_summarize_solves_under_a_constraint(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path / "out", *BASE, "--balanced", "0.02", "--drop_shards", "1") == 0
    assert summary_row(tmp_path / "out")["constraint_text"] == "balanced=0.02"
    assert np.abs(weights_of(tmp_path / "out") - 750).max() <= 15 + 1e-6
    assert "constraint balanced=0.02" in " ".join(capsys.readouterr().out.split())


def test_with_labels_their_totals_are_exact(source, tmp_path):
    own = ("--group_column", "sex", "--fair", "f=0.42:0.45", "--balanced", "0.3")
    assert summarize_files(source, tmp_path / "out", *BASE, *own) == 0
    rows = rows_in(tmp_path / "out", "coreset")
    women = sum(row["weight"] for row in rows if row["group_label"] == "f")
    assert women == pytest.approx((SEX == "f").sum(), rel=1e-9)
    assert main(["assign", "--input", source, "--centers", f"{tmp_path}/out", "--output", f"{tmp_path}/rows",
                 "--columns", "x0,x1,x2", "--group_column", "sex"]) == 0  # fmt: skip
    assigned = rows_in(tmp_path / "rows", "assigned")
    for cluster in range(4):
        share = np.mean([row["group_label"] == "f" for row in assigned if row["cluster"] == cluster])
        assert 0.415 <= share <= 0.455


def test_a_factor_is_proved_where_every_choice_of_candidates_is_tried(source, tmp_path, capsys):
    base = ("--k", "2", "--shards", "2", "--coreset_size", "100", "--columns", "x0,x1,x2", "--balanced", "0.1")
    assert summarize_files(source, tmp_path / "out", *base, "--exhaustive") == 0
    assert 1 <= summary_row(tmp_path / "out")["factor"] <= 2.5
    assert "times the best cost on the coreset (every choice" in " ".join(capsys.readouterr().out.split())
    solve = ["solve", "--input", f"{tmp_path}/out", "--output", f"{tmp_path}/to"]
    assert main([*solve, "--balanced", "0.1", "--exhaustive", "--k", "4"]) == 2
    assert "exhaustive: must be at most 1,000,000 choices of k candidates, got 2.83e+07" in capsys.readouterr().err
    assert main([*solve, "--exhaustive"]) == 2
    assert "exhaustive: must be left out without a constraint" in capsys.readouterr().err


def test_a_rollup_takes_one(source, tmp_path):
    assert summarize_files(source, tmp_path / "out", *BASE) == 0
    assert main(["rollup", "--input", f"{tmp_path}/out", "--output", f"{tmp_path}/to", "--balanced", "0.02"]) == 0
    assert summary_row(tmp_path / "to")["constraint_text"] == "balanced=0.02"
    assert np.abs(weights_of(tmp_path / "to") - 750).max() <= 15 + 1e-6


def test_it_is_a_parameter_of_the_transform():
    plan = Plan(k=4, shards=4, coreset_size=200, constraint=Constraint(gamma=(500.0, 800.0, 700.0, 1000.0)))

    def build(pipeline):
        rows = pipeline | beam.Create(clusters(N).tolist())
        return {"centers": (rows | Summarize(plan)).centers}

    held, _ = run(build)
    assert [c.weight for c in sorted(held["centers"], key=lambda c: c.index)] == pytest.approx([500, 800, 700, 1000])


def test_what_cannot_be_met_fails_the_job(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path / "out", *BASE, "--max_size", "700") == 1
    assert "max_size: must be possible to meet" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/summaries/*"))


@pytest.mark.parametrize(("options", "message"), [
    ("--fair f=0.4:0.5", "group_column: must be given"),
    ("--balanced -1", "balanced: must be a share of at least 0, got -1"),
    ("--exhaustive", "exhaustive: must be left out without a constraint, got True"),
    ("--balanced 0.1 --exhaustive", "exhaustive: must be at most 1,000,000 choices of k candidates, got 2.83e+07"),
    ("--balanced 0.1 --r 1", "constraint: must be on centers of a coreset, got r = 1"),
    ("--balanced 0.1 --summary local_centers --z 1", "constraint: must be on centers of a coreset"),
])  # fmt: skip
def test_what_cannot_work(source, tmp_path, capsys, options, message):
    assert summarize_files(source, tmp_path / "out", *BASE[:4], *BASE[6:], *options.split()) == 2
    assert capsys.readouterr().err.startswith("error: " + message)


def test_streams_refuse_one():
    plan = Plan(k=2, constraint=Constraint(fair=(Fair("f", 0.1, 0.2),)))
    with pytest.raises(ValueError, match="constraint: must be left out of a stream"):
        StreamPlan(plan, WindowSpec.parse("5s"))
