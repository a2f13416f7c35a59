"""`beam-coresets solve`, whole: another k, z, r or constraint, from the tables of an earlier run alone."""
import csv
import shutil

import numpy as np
import pyarrow as pa
import pytest
from jobs import clusters, columns_of, rows_in, summarize_files, summary_row, write_parquet

from beam_coresets import tables
from beam_coresets.assigning.cluster_assignment import label_codes
from beam_coresets.hashing import generator
from beam_coresets.pipelines.console.command_line import parse_alone
from beam_coresets.pipelines.console.constraint_options import ConstraintOptions, constraint_of
from beam_coresets.pipelines.main import main
from beam_coresets.points.nearest import nearest, nearest_numpy
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.solver import cost_matrix
from beam_coresets.solvers.constrained.transport import transport
from beam_coresets.table_schemas import instants
from beam_coresets.transforms.writing.stored_tables import read_table

N = 3000
BASE = ("--k", "4", "--shards", "4", "--coreset_size", "100")
SEX = np.where(generator("sex").random(N) < np.where(clusters(N)[:, 0] > 10, 0.6, 0.3), "f", "m")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, with labels."""
    folder = tmp_path_factory.mktemp("solve")
    source = write_parquet(folder / "in", columns_of(clusters(N)) | {"sex": SEX})
    own = ("--columns", "x0,x1,x2", "--group_column", "sex", "--keep_columns", "x0")
    assert summarize_files(source, folder / "out", *BASE, *own) == 0
    return folder / "out"


def solve(folder, output, *options):
    return main(["solve", "--input", str(folder), "--output", str(output), *map(str, options)])


def centers_of(folder):
    rows = sorted(rows_in(folder, "centers"), key=lambda row: row["index"])
    return np.array([row["coordinates"] for row in rows]), np.array([row["weight"] for row in rows])


def coreset_of(folder):
    """(points, weights, label names, label numbers)"""
    table = read_table(str(folder), "coreset")
    table = table.rename_columns(["group" if name == "group_label" else name for name in table.column_names])
    return (np.array(table.column("coordinates").to_pylist()), table.column("weight").to_numpy(), *label_codes(table))


def test_the_same_question_has_the_same_answer(run, tmp_path, capsys):
    assert solve(run, tmp_path / "to") == 0
    first, again = summary_row(run), summary_row(tmp_path / "to")
    assert again.pop("evidence")
    differing = {name for name in again if again[name] != first[name]}
    assert differing <= {"cost", "cost_low", "cost_high", "recovery"}
    assert again["cost"] == pytest.approx(first["cost"], rel=1e-3)
    one, other = (read_table(str(f), "coreset").drop_columns(["weight", "weight_ht"]) for f in (run, tmp_path / "to"))
    assert one.equals(other)
    out, err = capsys.readouterr()
    assert err == ""
    assert "centers 4 of k = 4" in " ".join(out.split())


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_another_k_and_z_and_what_it_costs_on_all_rows(run, tmp_path, capsys, form):
    assert solve(run / "coreset", tmp_path / "to", "--k", 7, "--z", 1, "--format", form) == 0
    row = summary_row(tmp_path / "to")
    assert (row["k"], row["z"], row["centers"], row["points"], row["total_weight"]) == (7, 1, 7, N, N)
    centers, weights = centers_of(tmp_path / "to")
    truth = np.sqrt(nearest(clusters(N), centers)[1], dtype=np.float64).sum()
    assert row["cost_low"] <= truth <= row["cost_high"]
    assert weights.sum() == pytest.approx(N)
    out = capsys.readouterr().out
    assert "warning: the coreset was made for z = 2; errors for 1 may be larger" in out
    assert "warning: the coreset was made for k = 4; errors for 7 may be larger" in out
    assert solve(tmp_path / "to", tmp_path / "again", "--k", 3) == 0
    assert summary_row(tmp_path / "again")["z"] == 1


def test_its_result_is_one_that_other_words_take(run, tmp_path):
    source = write_parquet(tmp_path / "in", columns_of(clusters(N)))
    assert solve(run, tmp_path / "to", "--k", 6) == 0
    assert main(["verify", "--input", source, "--coreset", f"{tmp_path}/to", "--csv", f"{tmp_path}/m.csv"]) == 0
    with open(tmp_path / "m.csv") as file:
        assert max(float(row["distortion"]) for row in csv.DictReader(file)) < 1.2
    assert main(["assign", "--input", source, "--centers", f"{tmp_path}/to", "--output", f"{tmp_path}/rows"]) == 0
    index, _ = nearest_numpy(clusters(N), centers_of(tmp_path / "to")[0])
    assert read_table(f"{tmp_path}/rows", "assigned").column("cluster").to_pylist() == index.tolist()


def test_assign_says_what_a_constrained_solution_costs(run, tmp_path, capsys):
    """On all rows, within the interval that the coreset gave; verify leaves it to that."""
    source = write_parquet(tmp_path / "in", columns_of(clusters(N)))
    assert solve(run, tmp_path / "to", "--balanced", 0.02) == 0
    assert main(["verify", "--input", source, "--coreset", f"{tmp_path}/to"]) == 0
    assert "on all data without their constraint" in capsys.readouterr().out
    assert main(["assign", "--input", source, "--centers", f"{tmp_path}/to", "--output", f"{tmp_path}/rows"]) == 0
    with open(tmp_path / "rows" / "sizes.csv") as file:
        sizes = list(csv.DictReader(file))
    assert all(735 <= float(row["weight"]) <= 765 for row in sizes)
    row = summary_row(tmp_path / "to")
    assert row["cost_low"] <= sum(float(row["cost"]) for row in sizes) <= row["cost_high"]


def test_a_range_of_k_is_a_curve(run, tmp_path, capsys):
    assert solve(run, tmp_path / "to", "--k", "2:11:3", "--format", "parquet") == 0
    folders = [f"k={k:02d}" for k in (2, 5, 8, 11)]
    assert sorted(path.name for path in (tmp_path / "to").glob("[!.]*")) == ["curve.csv", *folders, "schema.json"]
    with open(tmp_path / "to" / "curve.csv") as file:
        curve = list(csv.DictReader(file))
    for folder, line in zip(folders, curve, strict=True):
        row = summary_row(tmp_path / "to" / folder)
        for name in ("k", "centers", "cost", "cost_low", "cost_high"):
            assert float(line[name]) == row[name]
        assert line["trust"] == row["trust"]
        assert len(rows_in(tmp_path / "to" / folder, "centers")) == row["k"]
        assert not (tmp_path / "to" / folder / "coreset").exists()
    points, weights, *_ = coreset_of(run)
    own = [weights @ nearest(points, centers_of(tmp_path / "to" / folder)[0])[1] for folder in folders]
    assert own == sorted(own, reverse=True)
    assert "95 % interval" in capsys.readouterr().out
    source = write_parquet(tmp_path / "in", columns_of(clusters(100)))
    assert main(["assign", "--input", source, "--centers", f"{tmp_path}/to/k=05", "--output", f"{tmp_path}/rows"]) == 0
    assert solve(run, tmp_path / "to") == 2
    assert "output: must not hold another run's result" in capsys.readouterr().err
    assert solve(run, tmp_path / "to", "--overwrite") == 0
    assert not list((tmp_path / "to").glob("k=*"))
    assert not (tmp_path / "to" / "curve.csv").exists()


CONSTRAINTS = {
    "--balanced 0.02": "balanced=0.02",
    "--min_size 200,400,300,100 --max_size 2000": "min_size=200.0,400.0,300.0,100.0 max_size=2000.0",
    "--gamma 1000,800,700,500": "gamma=1000.0,800.0,700.0,500.0",
    "--fair f=0.4:0.5": "fair=f:0.4:0.5",
    "--fair women=:0.5 --label_groups f=women,people m=people": "fair=women:0.0:0.5 groups=f:women,people "
                                                                 "groups=m:people",
    "--diversity 3 --diversity_reading least": "diversity=3:least",
    "--balanced 0.3 --fair m=0.5:0.6": "balanced=0.3 fair=m:0.5:0.6",
}  # fmt: skip


@pytest.mark.parametrize("options", CONSTRAINTS)
def test_clusters_keep_to_the_constraint(run, tmp_path, capsys, options):
    """The emitted weights are those of the exact plan for the emitted centers, and the interval has the cost of the
    exact plan of all rows."""
    text = CONSTRAINTS[options]
    assert solve(run, tmp_path / "to", *options.split()) == 0
    row = summary_row(tmp_path / "to")
    assert row["constraint_text"] == text
    assert Constraint.parse(text).text() == text
    points, weights, names, label = coreset_of(run)
    centers, given = centers_of(tmp_path / "to")
    constraint = Constraint.parse(text)
    if not constraint.labelled:
        names, label = [""], np.zeros(len(points), np.int64)
    bounds = constraint.bounds(names, np.bincount(label, weights), 4)
    best = transport(cost_matrix(points.astype(np.float32), centers), weights, label, bounds)
    assert np.bincount(best.clusters, best.amounts, 4) == pytest.approx(given, rel=1e-6)
    assert sum(r["cost"] for r in rows_in(tmp_path / "to", "centers")) == pytest.approx(best.cost, rel=1e-6)
    everyone = np.array([names.index(sex) for sex in SEX]) if constraint.labelled else np.zeros(N, np.int64)
    bounds = constraint.bounds(names, np.bincount(everyone).astype(float), 4)
    truth = transport(cost_matrix(clusters(N), centers), np.ones(N), everyone, bounds)
    assert row["cost_low"] <= truth.cost <= row["cost_high"]
    out = " ".join(capsys.readouterr().out.split())
    assert f"constraint {text}" in out
    assert "violation 0" in out


def test_whole_points_are_said_to_be_what_they_are(run, tmp_path, capsys):
    options = ("--gamma", "1000.5,800.25,700,499.25")
    assert solve(run, tmp_path / "split", *options) == 0
    _, exact = centers_of(tmp_path / "split")
    assert exact == pytest.approx([1000.5, 800.25, 700, 499.25], rel=1e-9)
    capsys.readouterr()
    assert solve(run, tmp_path / "whole", *options, "--rounded") == 0
    _, rounded = centers_of(tmp_path / "whole")
    weights = coreset_of(run)[1]
    assert rounded.sum() == pytest.approx(N)
    off = np.abs(rounded - exact).max()
    assert 0 < off < 4 * weights.max()
    out = capsys.readouterr().out
    assert "rounded" in out


def test_windows_and_keys_are_answered_each_for_itself(run, tmp_path, capsys):
    """Tables as a stream leaves them: two windows of two keys, one of these decided twice, one without rows."""
    folder = tmp_path / "in"
    numbers = [(0.0, "a", 1), (0.0, "b", 1), (60.0, "a", 1), (60.0, "a", 2), (60.0, "b", 1)]
    for name in ("summaries", "centers", "coreset", "columns"):
        found = read_table(str(run), name)
        for start, key, revision in numbers:
            identity = {"window_start": instants([start]), "window_end": instants([start + 60]),
                        "key": pa.array([key]), "revision": pa.array([revision])}  # fmt: skip
            table = found
            for at, (column, value) in enumerate(identity.items()):
                field = table.schema.field(column)
                table = table.set_column(at, field, value.take(pa.array([0] * len(table))))
            (folder / name).mkdir(parents=True, exist_ok=True)
            path = folder / name / f"{key}-{start:.3f}-{start + 60:.3f}-r{revision}.parquet"
            path.write_bytes(tables.encode(table, "parquet"))
    assert solve(folder, tmp_path / "to", "--k", 3) == 0
    rows = rows_in(tmp_path / "to", "summaries")
    found = sorted((row["window_start"], row["key"], row["revision"]) for row in rows)
    assert found == [(0, "a", 1), (0, "b", 1), (60, "a", 2), (60, "b", 1)]
    assert {row["k"] for row in rows} == {3}
    assert len(rows_in(tmp_path / "to", "centers")) == 12
    assert "Tables in" in capsys.readouterr().out
    assert solve(folder, tmp_path / "some", "--keys", "b", "--from", 60, "--k", "2:3") == 0
    with open(tmp_path / "some" / "curve.csv") as file:
        assert [(row["window_start"], row["key"], row["k"]) for row in csv.DictReader(file)] == [
            ("1970-01-01T00:01:00Z", "b", "2"), ("1970-01-01T00:01:00Z", "b", "3")]  # fmt: skip
    assert solve(folder, tmp_path / "all", "--k", "2:3", "--balanced", 0.5) == 0
    with open(tmp_path / "all" / "curve.csv") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert "of the heaviest of 4 windows and keys" in capsys.readouterr().out


def test_a_window_without_rows_stays_one(tmp_path):
    source = write_parquet(tmp_path / "in", {"x": np.full(20, np.nan)}, files=1)
    assert summarize_files(source, tmp_path / "out", "--k", "2", "--max_bad_rows", "20") == 0
    assert solve(tmp_path / "out", tmp_path / "to", "--balanced", 0.1) == 0
    row = summary_row(tmp_path / "to")
    assert (row["points"], row["centers"]) == (0, 0)


def test_scaled_and_cosine_coresets(tmp_path):
    points = clusters(N, dtype=np.float64) * [1, 1000, 1e5] + [0, 0, 1.7e9]
    source = write_parquet(tmp_path / "in", columns_of(points))
    assert summarize_files(source, tmp_path / "scaled", *BASE, "--scale", "standard") == 0
    assert solve(tmp_path / "scaled", tmp_path / "to", "--balanced", 0.02) == 0
    assert (tmp_path / "to" / "scale.json").read_bytes() == (tmp_path / "scaled" / "scale.json").read_bytes()
    centers, weights = centers_of(tmp_path / "to")
    assert np.abs(weights - N / 4).max() <= 0.02 * N / 4 + 1e-6
    assert (np.abs(centers - points.mean(axis=0)) < 3 * points.std(axis=0)).all()
    assert main(["assign", "--input", source, "--centers", f"{tmp_path}/to", "--output", f"{tmp_path}/rows"]) == 0
    sizes = np.bincount(read_table(f"{tmp_path}/rows", "assigned").column("cluster").to_numpy())
    assert np.abs(sizes - N / 4).max() <= 0.02 * N / 4
    assert summarize_files(source, tmp_path / "cosine", *BASE, "--columns", "x0,x1", "--metric", "cosine") == 0
    assert solve(tmp_path / "cosine", tmp_path / "to2", "--k", 3, "--balanced", 0.1) == 0
    row = summary_row(tmp_path / "to2")
    assert (row["metric"], row["k"]) == ("cosine", 3)
    centers, _ = centers_of(tmp_path / "to2")
    assert np.linalg.norm(centers, axis=1) == pytest.approx(1)


def test_subspaces(tmp_path, capsys):
    rng = generator("lines", 0)
    points = rng.standard_normal((N, 1)) @ rng.standard_normal((1, 5)) * 5 + rng.standard_normal((N, 5)) * 0.1
    source = write_parquet(tmp_path / "in", columns_of(points))
    assert summarize_files(source, tmp_path / "out", "--k", "2", "--r", "1", "--coreset_size", "200") == 0
    assert solve(tmp_path / "out", tmp_path / "to", "--k", 1) == 0
    row = summary_row(tmp_path / "to")
    assert (row["r"], row["affine"], row["k"]) == (1, False, 1)
    truth = (points**2).sum() - np.linalg.svd(points, compute_uv=False)[0] ** 2
    assert truth * 0.98 <= row["cost"] <= truth * 1.05
    (center,) = rows_in(tmp_path / "to", "centers")
    assert len(center["basis"]) == 5
    assert main(["assign", "--input", source, "--centers", f"{tmp_path}/to", "--output", f"{tmp_path}/rows"]) == 0
    distance = read_table(f"{tmp_path}/rows", "assigned").column("distance").to_numpy()
    direction = np.array(center["basis"])
    away = points - np.outer(points @ direction, direction)
    assert distance == pytest.approx(np.linalg.norm(away, axis=1), abs=1e-4)
    assert solve(tmp_path / "out", tmp_path / "to2", "--r", 2, "--affine") == 0
    capsys.readouterr()
    assert solve(tmp_path / "out", tmp_path / "to3", "--r", 0) == 2
    assert "r: must be at least 1 for a coreset that was made for subspaces, got 0" in capsys.readouterr().err
    assert summary_row(tmp_path / "to2")["affine"]


def test_candidates_of_a_weak_coreset_are_where_centers_come_from(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", columns_of(clusters(N)))
    assert summarize_files(source, tmp_path / "out", *BASE, "--weak", "--candidates", "30") == 0
    assert solve(tmp_path / "out", tmp_path / "to", "--balanced", 0.05) == 0
    assert summary_row(tmp_path / "to")["alpha"] >= 1
    assert len(rows_in(tmp_path / "to", "candidates")) == 30
    assert solve(tmp_path / "out", tmp_path / "to2", "--balanced", 0.05, "--k", 31) == 2
    assert "candidates: must be at least k = 31, got 30" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "message"), [
    ("--k 4 --r 3", "r: must be below d = 3, got 3"),
    ("--z 0.5", "z: must be at least 1, got 0.5"),
    ("--k 2000", "k: must be at most the coreset's "),
    ("--rounded", "rounded: must be left out without a constraint, got --rounded"),
    ("--keys no", "input: must have windows in the period, got none of"),
    ("--balanced -0.1", "balanced: must be a share of at least 0, got -0.1"),
    ("--fair x=0.1:0.2", "fair: group must be in the data (there: f, m), got 'x'"),
    ("--diversity 3", "diversity: must be at most 2, the labels in the data, got 3"),
    ("--diversity-reading least", "diversity_reading: must be left out without --diversity, got least"),
    ("--label-groups f=a", "label_groups: must be left out without --fair, got 1 labels"),
    ("--fair a=0:0.5 --label-groups f=a", "groups: must say the groups of every label in the data, got none for 'm'"),
    ("--gamma 1,2,3", "gamma: must be one number or one for each of 4 clusters, got 3"),
    ("--balanced 0.1 --r 1", "constraint: must be on centers of a coreset, got r = 1"),
    ("--min-size 900", "min_size: must be possible to meet together with the rest, got bounds that miss it by at least "
                       "600 of the total weight 3000"),
])  # fmt: skip
def test_what_cannot_work(run, tmp_path, capsys, options, message):
    assert solve(run, tmp_path / "to", *options.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: " + message)
    assert err.count("\n") == 1
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("options", [
    "--k 0", "--k 5:2", "--k 2:9:0", "--k a", "--k 1:2:3:4", "--fair f", "--fair f=0.5", "--fair f=0.6:0.5",
    "--fair f=a:b", "--label_groups f", "--gamma 1,a", "--min_size x",
])  # fmt: skip
def test_what_cannot_be_read(run, tmp_path, capsys, options):
    with pytest.raises(SystemExit) as stop:
        solve(run, tmp_path / "to", *options.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {options.split()[0].removeprefix('--')}: ")


def test_inputs_that_are_no_coresets(run, tmp_path, capsys):
    assert main(["solve", "--input", str(run)]) == 2
    assert "output: must be given" in capsys.readouterr().err
    assert solve(run, run) == 2
    assert "output: must not be what is read" in capsys.readouterr().err
    assert solve(tmp_path / "no", tmp_path / "to") == 2
    assert "input: must hold a summaries table" in capsys.readouterr().err
    old = tmp_path / "old"
    shutil.copytree(run, old, ignore=shutil.ignore_patterns(".claims"))
    table = read_table(str(run), "summaries")
    at = table.column_names.index("evidence")
    (path,) = (old / "summaries").iterdir()
    path.write_bytes(tables.encode(table.set_column(at, "evidence", pa.nulls(1, pa.binary())), "parquet"))
    assert solve(old, tmp_path / "to") == 2
    assert "evidence: must be in the summaries table" in capsys.readouterr().err
    source = write_parquet(tmp_path / "in", columns_of(clusters(N)))
    assert summarize_files(source, tmp_path / "local", *BASE[:4], "--summary", "local_centers", "--z", "1") == 0
    assert solve(tmp_path / "local", tmp_path / "to") == 2
    assert "input: must be coresets, got a summary of kind local_centers" in capsys.readouterr().err


def test_options_become_a_constraint():
    assert constraint_of(ConstraintOptions()) is None
    for options, text in CONSTRAINTS.items():
        constraint = constraint_of(parse_alone(options.split(), "solve", ConstraintOptions))
        assert constraint.text() == text
