"""`--outliers`: planted ones are named, through redundancy, a dropped shard, `solve`, `rollup`, `verify`, streams."""
import contextlib
import re

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing import test_stream
from apache_beam.transforms.window import TimestampedValue
from jobs import clusters, columns_of, rows_in, run, summarize_files, summary_row, write_parquet

from beam_coresets.hashing import generator
from beam_coresets.pipelines.main import main
from beam_coresets.points.nearest import nearest
from beam_coresets.transforms.writing.stored_tables import files_of
from beam_coresets.transforms.yaml_transforms import SummarizeStreamInYaml

N, M = 3000, 30
PLANTED = {f"broken{i}" for i in range(M)}
BASE = ("--k", "4", "--shards", "6", "--replication", "2", "--columns", "x0,x1,x2", "--id_column", "id")
OUT = (*BASE, "--outliers", str(M))


def points(seed=0):
    rng = generator("broken", seed)
    away = rng.normal(size=(M, 3))
    away *= rng.uniform(200, 2000, (M, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    return np.concatenate([clusters(N, seed), away]).astype(np.float32)


def data(seed=0):
    ids = np.array([f"row{i}" for i in range(N)] + [f"broken{i}" for i in range(M)])
    order = generator("broken order", seed).permutation(N + M)
    return {name: values[order] for name, values in (columns_of(points(seed)) | {"id": ids}).items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("broken"), data())


@pytest.fixture(scope="module")
def result(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    assert summarize_files(source, folder, *OUT, "--drop_shards", "1") == 0
    return folder


def whole(rows):
    """The ids that are left out wholly: the point at the threshold may be one more, in part."""
    return {row["id"] for row in rows if row["weight"] > 0.9}


def check(folder, left_out=M):
    row, gone = summary_row(folder), rows_in(folder, "outliers")
    assert whole(gone) == PLANTED
    assert len(gone) <= M + 1
    assert row["outliers"] == pytest.approx(left_out)
    assert sum(each["weight"] for each in gone) == pytest.approx(left_out)
    costs = [each["cost"] for each in gone]
    assert costs == sorted(costs, reverse=True)
    assert min(costs) >= row["threshold"]
    centers = np.array([each["coordinates"] for each in rows_in(folder, "centers")])
    true = nearest(points()[:N], centers)[1].sum(dtype=np.float64)
    assert true < 1.02 * 3 * N  # the planted clusters have unit variance in three dimensions
    assert row["cost_low"] <= true <= row["cost_high"]
    assert row["cost"] == pytest.approx(true, rel=0.1)
    assert sum(each["weight"] for each in rows_in(folder, "centers")) == pytest.approx(N)
    assert sum(each["cost"] for each in rows_in(folder, "centers")) == pytest.approx(row["cost"], rel=0.1)


def test_a_dropped_shard_hides_no_outlier(result):
    check(result)
    assert {tuple(row["coordinates"]) for row in rows_in(result, "outliers") if row["id"] in PLANTED} == {
        tuple(p.tolist()) for p in points()[N:].astype(np.float64)
    }


def test_solve_leaves_as_much_out_and_names_the_same(result, tmp_path, capsys):
    assert main(["solve", "--input", str(result), "--output", str(tmp_path / "same")]) == 0
    check(tmp_path / "same")
    assert rows_in(tmp_path / "same", "outliers") == rows_in(result, "outliers")
    assert "outliers 30 of the weight left out (0.99%)" in " ".join(capsys.readouterr().out.split())
    assert main(["solve", "--input", str(result), "--output", str(tmp_path / "none"), "--outliers", "0"]) == 0
    assert summary_row(tmp_path / "none")["outliers"] is None
    assert not files_of(str(tmp_path / "none"), "outliers")
    assert main(["solve", "--input", str(result), "--output", str(tmp_path / "half"), "--outliers", "0.5%"]) == 0
    assert whole(rows_in(tmp_path / "half", "outliers")) < PLANTED
    assert summary_row(tmp_path / "half")["outliers"] == pytest.approx(0.005 * (N + M))


def test_no_more_than_half_is_left_out_and_it_is_said(result, tmp_path, capsys):
    assert main(["solve", "--input", str(result), "--output", str(tmp_path / "most"), "--outliers", str(9 * N)]) == 0
    assert summary_row(tmp_path / "most")["outliers"] == pytest.approx((N + M) / 2, rel=1e-3)
    assert "(50.00%), which costs more than" in (said := " ".join(capsys.readouterr().out.split()))
    assert "(never more than half)" in said


def test_solve_refuses_outliers_under_a_constraint_before_it_says_anything(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path / "plain", *BASE) == 0
    capsys.readouterr()
    solve = ["solve", "--input", str(tmp_path / "plain"), "--output", str(tmp_path / "to"), "--outliers", "9"]
    assert main([*solve, "--balanced", "0.1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: outliers: must be left out with a constraint, got 9")


def test_solve_says_so_where_the_coreset_was_made_without(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path / "plain", *BASE) == 0
    assert not files_of(str(tmp_path / "plain"), "outliers")
    assert summary_row(tmp_path / "plain")["threshold"] is None
    capsys.readouterr()
    assert main(["solve", "--input", str(tmp_path / "plain"), "--output", str(tmp_path / "to"), "--outliers", "9"]) == 0
    assert "the coreset was made without outliers" in " ".join(capsys.readouterr().out.split())
    assert summary_row(tmp_path / "to")["outliers"] == pytest.approx(9)


def test_rollup_leaves_out_what_its_windows_do_together(result, source, tmp_path):
    assert main(["rollup", "--input", str(result), "--output", str(tmp_path / "one")]) == 0
    check(tmp_path / "one")
    other = write_parquet(tmp_path / "in", data(1))
    assert summarize_files(other, tmp_path / "other", *BASE, "--outliers", "1%", "--seed", "1") == 0
    inputs = [str(result), str(tmp_path / "other")]
    assert main(["rollup", "--input", *inputs, "--output", str(tmp_path / "both"), "--coreset_size", "100"]) == 0
    row = summary_row(tmp_path / "both")
    assert row["outliers"] == pytest.approx(M + 0.01 * (N + M))
    gone = rows_in(tmp_path / "both", "outliers")
    assert sum(each["id"] in PLANTED for each in gone) == 2 * M  # the same names at other places
    assert sum(each["id"] not in PLANTED for each in gone) <= 2


def test_assign_says_that_it_counts_them(result, source, tmp_path, capsys):
    words = ["assign", "--centers", str(result), "--input", str(source), "--output", str(tmp_path / "to")]
    assert main([*words, "--columns", "x0,x1,x2", "--id_column", "id"]) == 0
    assert re.search(r"cost +[\d.,e+]+ +\(outliers, too: \d+ were left out\)", capsys.readouterr().out)


def test_verify_measures_the_cost_without_them(result, source, capsys):
    words = ["verify", "--input", source, "--columns", "x0,x1,x2", "--coreset", str(result)]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ": held" in said
    assert float(said.split("distortion: ")[1].split()[0]) < 1.2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--outliers", "0.6"), "must be a whole number of rows, or a share of at most 0.5 or 50%, got '0.6'"),
        (("--outliers", "100%"), "must be a whole number of rows, or a share of at most 0.5 or 50%, got '100%'"),
        (("--outliers", "1.5"), "must be a whole number of rows, or a share of at most 0.5 or 50%, got '1.5'"),
        (("--outliers", "-3"), "must be a whole number of rows, or a share of at most 0.5 or 50%, got '-3'"),
        (("--outliers", "5", "--r", "1"), "outliers: must be left out with r = 1, got 5"),
        (("--outliers", "5", "--weak"), "outliers: must be left out with weak, got 5"),
        (("--outliers", "5", "--balanced", "0.2"), "outliers: must be left out with a constraint, got 5"),
        (("--outliers", "5", "--epsilon", "0.5"), "epsilon: must be left out with outliers, got 0.5"),
        (
            ("--outliers", "5", "--summary", "local_centers", "--z", "1"),
            "outliers: must be left out with summary local_centers, got 5",
        ),
        (
            ("--outliers", "5", "--method", "rings_and_groups", "--leftover", "centers", "--recovery", "uniform"),
            "outliers: must be left out with leftover centers, got 5",
        ),
    ],
)
def test_refuses_what_can_not_work(source, tmp_path, words, message, capsys):
    with pytest.raises(SystemExit) if "%" in message else contextlib.nullcontext():
        assert summarize_files(source, tmp_path, *BASE, *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("window", "more"), [("10s", {}), ("10s/5s", {}), ("10s", {"key_column": "site", "key_groups": 2})]
)
def test_a_stream_names_the_outliers_of_each_window(window, more):
    held = data()
    rows = [
        TimestampedValue(beam.Row(id=name, site=f"s{i % 3}", x0=float(x), x1=float(y), x2=float(z)), 1000 + i % 20)
        for i, (name, x, y, z) in enumerate(zip(*(held[name] for name in ("id", "x0", "x1", "x2")), strict=True))
    ]
    stream = test_stream.TestStream().advance_watermark_to(1000).add_elements(rows).advance_watermark_to_infinity()
    step = SummarizeStreamInYaml(
        k=4, shards=3, window=window, cap="60s", outliers="2%", id_column="id", columns=["x0", "x1", "x2"], **more
    )
    kinds = [("id", str), ("site", str), ("x0", float), ("x1", float), ("x2", float)]

    def build(pipeline):
        typed = beam.typehints.row_type.RowTypeConstraint.from_fields(kinds)
        return pipeline | stream | beam.Map(lambda row: row).with_output_types(typed) | step

    found, _ = run(build, ("--runner=BundleBasedDirectRunner", "--streaming"))
    assert {1000.0, 1010.0} <= {float(row.window_start) for row in found["summaries"]}
    assert len({row.key for row in found["summaries"]}) == (3 if more else 1)
    for row in found["summaries"]:
        assert row.outliers == pytest.approx(0.02 * row.total_weight)
        named = {each.id for each in found["outliers"] if (each.window_start, each.key) == (row.window_start, row.key)}
        expected = {
            str(name)
            for i, name in enumerate(held["id"])
            if row.window_start <= 1000 + i % 20 < row.window_end and name in PLANTED
            and row.key in ("", f"s{i % 3}")
        }  # fmt: skip
        assert len(named & expected) >= min(len(expected), int(row.outliers))
    assert sum(row.id in PLANTED for row in found["outliers"]) > M // 2
