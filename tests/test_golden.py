"""What earlier versions have stored (tests/golden, a folder a minor version) is read by every command, exactly."""
import base64
import collections
import datetime
import json
import pathlib
import shutil

import numpy as np
import pytest
from jobs import rows_in

from beam_coresets import table_schemas, tables
from beam_coresets.pipelines.main import main
from beam_coresets.summaries import open_summaries
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stored_tables import read_table

VERSIONS = sorted(path for path in (pathlib.Path(__file__).parent / "golden").iterdir() if (path / "data.csv").exists())
BATCHES = ("batch-avro", "batch-parquet", "batch-jsonl", "weak", "scaled")
DATA = ("--columns", "x,y", "--weight_column", "w", "--max_bad_rows", "1")
DAY = 1795219200.0  # 2026-11-21


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def golden(request, tmp_path):
    """A copy of a version's folders: reading claims may finish their moves."""
    return shutil.copytree(request.param, tmp_path / "golden")


def run(word, *options):
    assert main([word, *map(str, options)]) == 0


def today(column, value):
    """A column of a line as `rows_in` has it: schema 1 had other names, and times as seconds."""
    if column == "evidence" and value is not None:
        value = base64.b64decode(value)
    if column in ("window_start", "window_end", "decided_at", "born") and isinstance(value, str):
        value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    names = {"constraint": "constraint_text", "group": "group_label", "shard": "shards"}
    return {names.get(column, column): [value] if column == "shard" else value}.items()


def test_every_format_holds_what_its_lines_say(golden):
    """JSON lines are read here without the library; the rows of the other formats are the same."""
    for name in table_schemas.TABLES:
        if name == "columns" and not (golden / "batch-jsonl" / name).exists():
            continue  # these versions had no such table
        with (golden / "batch-jsonl" / name / "global-r1.jsonl").open() as file:
            lines = [json.loads(line) for line in file]
        lines = [{column: value for key, value_ in line.items() for column, value in today(key, value_)}
                 for line in lines]
        for form in tables.TABLE_FORMATS:
            found = rows_in(golden / f"batch-{form}", name)
            assert [{column: row[column] for column in line} for row, line in zip(found, lines, strict=True)] == lines


@pytest.mark.parametrize("name", BATCHES)
def test_batch_results_have_the_weight_of_the_data(golden, name):
    (row,) = rows_in(golden / name, "summaries")
    assert (row["points"], row["total_weight"], row["k"]) == (239, 478.0, 3)
    coreset = read_table(str(golden / name), "coreset")
    assert len(coreset) == row["coreset_points"]
    assert sum(coreset.column("weight").to_pylist()) == pytest.approx(478, rel=1e-12)
    assert sum(center["weight"] for center in rows_in(golden / name, "centers")) == pytest.approx(478, rel=1e-12)
    (letter,) = rows_in(golden / name, "dead_letters")
    assert (letter["reason"], letter["column_name"], letter["position"]) == ("nan", "x", "row 100")
    totals = collections.Counter()
    for row in coreset.to_pylist():
        totals[row["group_label"]] += row["weight"]
    if name == "weak":
        assert totals == pytest.approx({"a": 360, "b": 118}, rel=1e-12)
        assert len(rows_in(golden / name, "candidates")) == 48


@pytest.mark.parametrize("name", BATCHES)
def test_solve_and_rollup_go_on_from_a_batch(golden, tmp_path, name):
    (before,) = rows_in(golden / name, "summaries")
    for word in ("solve", "rollup"):
        run(word, "--input", golden / name, "--output", tmp_path / word, "--k", 3)
        (row,) = rows_in(tmp_path / word, "summaries")
        assert (row["points"], row["coverage"], row["replication"]) == (239, 1.0, 2)
        assert row["total_weight"] == pytest.approx(478, rel=1e-12)
        assert row["cost_low"] <= before["cost"] <= row["cost_high"]  # `weak` has some ten points
        assert (tmp_path / word / "scale.json").exists() == (name == "scaled")
    run("solve", "--input", golden / name, "--output", tmp_path / "balanced", "--k", 3, "--balanced", 0.1)
    weights = [center["weight"] for center in rows_in(tmp_path / "balanced", "centers")]
    assert sum(weights) == pytest.approx(478)
    assert max(weights) <= 1.1 * 478 / 3 * (1 + 1e-9)


def test_solve_keeps_the_totals_of_labels(golden, tmp_path):
    run("solve", "--input", golden / "weak", "--output", tmp_path / "fair", "--k", 3, "--fair", "a=0.6:0.9")
    (row,) = rows_in(tmp_path / "fair", "summaries")
    assert row["alpha"] is not None
    assert len(rows_in(tmp_path / "fair", "candidates")) == 48
    of_a = [row["weight"] for row in rows_in(tmp_path / "fair", "coreset") if row["group_label"] == "a"]
    assert sum(of_a) == pytest.approx(360)


@pytest.mark.parametrize("name", BATCHES)
def test_rows_are_assigned_to_stored_centers(golden, tmp_path, name):
    run("assign", "--input", golden / "data.csv", "--centers", golden / name, "--output", tmp_path / "rows", *DATA)
    found = rows_in(tmp_path / "rows", "assigned")
    assert len(found) == 239
    if name == "weak":
        stored = {row["id"]: row for row in rows_in(golden / "assigned", "assigned")}
        assert {row["id"]: row["cluster"] for row in found} == {name: row["cluster"] for name, row in stored.items()}
        for row in found:  # earlier versions measured in float32
            assert row["distance"] == pytest.approx(stored[row["id"]]["distance"], rel=1e-5)


@pytest.mark.parametrize("name", BATCHES)
def test_stored_coresets_are_verified_against_the_data(golden, tmp_path, capsys, name):
    run("verify", "--input", golden / "data.csv", "--coreset", golden / name, *DATA)
    assert "emitted centers: cost " in capsys.readouterr().out


def test_claims_of_a_stream_are_read_and_finished(golden):
    claims = Claims(str(golden / "stream"))
    names = claims.claimed_since(())
    assert names == [f"red-{DAY + a:.3f}-{DAY + a + 60:.3f}-r{r}" for a, r in ((0, 1), (0, 2), (60, 1), (86400, 1))]
    late = golden / "stream" / "summaries" / "day=2026-11-22" / f"{names[-1]}.avro"
    assert not late.exists()
    for name, points in zip(names, (50, 60, 70, 80), strict=True):
        (row,) = table_schemas.in_seconds(claims.read(name, "summaries")).to_pylist()
        assert (row["points"], row["total_weight"], row["responded"]) == (points, points, [0, 1])
        assert (row["reason"], row["decided_at"]) == ("deadline", row["window_end"] + 5)
        assert sum(claims.read(name, "coreset").column("weight").to_pylist()) == pytest.approx(points, rel=1e-12)
    assert late.exists()
    assert not (golden / "stream" / ".staging" / names[-1]).exists()
    claims.require_writable()
    (report,) = rows_in(golden / "stream", "late")
    assert (report["shard"], report["row_count"], report["reason"]) == (2, 50, "the window was decided without it")


@pytest.mark.parametrize("name", [*BATCHES, "stream"])
def test_columns_are_told_of_windows_that_have_no_such_table(golden, name):
    windows = open_summaries(str(golden / name))
    found = windows.marginals().to_pylist()
    rows = {"stream": [60, 70, 80]}.get(name, [239])
    assert [(row["index"], row["row_count"]) for row in found] == [(i, n) for n in rows for i in (0, 1)]
    for row, window in zip(found[::2], windows, strict=True):
        told = window.coreset.mean(window.coreset.coordinates[0])
        assert [row[f"mean{end}"] for end in ("", "_low", "_high")] == pytest.approx([told.value, told.low, told.high])
        assert row["p05"] <= row["p50"] <= row["p95"]


def test_a_streams_windows_are_rolled_up(golden, tmp_path):
    Claims(str(golden / "stream")).finish_all()
    run("rollup", "--input", golden / "stream", "--output", tmp_path / "out")
    (row,) = rows_in(tmp_path / "out", "summaries")
    assert (row["points"], row["total_weight"], row["coverage"]) == (210, 210.0, 1.0)
    assert (row["window_start"], row["window_end"], row["key"]) == (DAY, DAY + 86460, "red")
    run("solve", "--input", golden / "stream", "--output", tmp_path / "each", "--k", 3)
    assert [row["points"] for row in rows_in(tmp_path / "each", "summaries")] == [60, 70, 80]


def test_scaled_results_are_in_the_units_of_the_data(golden):
    centers = np.array([row["coordinates"] for row in rows_in(golden / "scaled", "centers")])
    away = np.abs(centers[:, None] - [[0.0, 0.0], [20.0, 5.0], [5.0, 30.0]]).max(axis=2).min(axis=0)
    assert away.max() < 1
