"""`summarize --weak`: candidates beside the coreset, labels' totals exact whoever answers, also after rollup."""
import re

import numpy as np
import pytest
from jobs import clusters, columns_of, rows_in, summarize_files, summary_row, write_parquet

from beam_coresets.pipelines import summarize as job
from beam_coresets.pipelines.main import main
from beam_coresets.transforms.writing.stored_tables import files_of, read_table

N = 3000
BASE = ("--k", "4", "--shards", "6", "--replication", "3", "--coreset_size", "160", "--columns", "x0,x1,x2")
WEAK = (*BASE, "--weak", "--group_column", "label")


def columns(seed=0):
    """Points with a label: by place, but for one row in twenty."""
    points = clusters(N, seed)
    label = np.where(points[:, 1] > 15, "north", "south")
    label[1::20] = "rare"
    return columns_of(points) | {"label": label, "w": np.arange(N) % 4 / 2.0, "number": np.arange(N)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("points"), columns())


def exactly(*seeds, weighted=False):
    """Each label's weight in the data of these seeds."""
    out = dict.fromkeys(("north", "south", "rare"), 0.0)
    for held in map(columns, seeds):
        weight = held["w"] if weighted else np.ones(N)
        for name in out:
            out[name] += float(weight[held["label"] == name].sum())
    return {name: pytest.approx(total, rel=1e-12) for name, total in out.items()}


def totals(folder):
    out = {}
    for row in rows_in(folder, "coreset"):
        out[row["group_label"]] = out.get(row["group_label"], 0.0) + row["weight"]
    return out


def shards(folder, table):
    rows = rows_in(folder, table)
    return {shard for row in rows for shard in (row["shards"] if table == "coreset" else [row["shard"]])}


@pytest.mark.parametrize("form", ["avro", "parquet", "jsonl"])
def test_two_dropped_shards_cost_neither_labels_nor_candidates(source, tmp_path, form, capsys):
    assert summarize_files(source, tmp_path, *WEAK, "--drop_shards", "1,4", "--format", form) == 0
    row, places = summary_row(tmp_path), rows_in(tmp_path, "candidates")
    assert (row["coverage"], row["stragglers"], row["total_weight"]) == (1.0, [1, 4], N)
    assert totals(tmp_path) == exactly(0)
    assert len(places) == 160
    assert [p["index"] for p in places] == list(range(160))
    assert {p["id"] is None for p in places[:80]} == {False}
    assert {p["id"] is None for p in places[80:]} == {True}
    assert 1.0 <= row["alpha"] < 1.1
    assert "160 for centers, from samples that the coreset does without" in " ".join(capsys.readouterr().out.split())
    assert {p["independent"] for p in places} == {True}
    assert not shards(tmp_path, "candidates") & shards(tmp_path, "coreset")
    named = {row["id"]: row["coordinates"] for row in places[:80]}
    held = columns()
    for name, coordinates in named.items():
        part, number = re.fullmatch(r"part-(\d)\.parquet#(\d+)", name).groups()
        i = 1000 * int(part) + int(number)
        assert coordinates == pytest.approx([held[f"x{j}"][i] for j in range(3)])


def test_weights_and_shard_readers_keep_labels_exact(source, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "bytes_a_part", lambda total, shards: 4000)
    for name, more in (("plain", ()), ("readers", ("--shard_readers",))):
        assert summarize_files(source, tmp_path / name, *WEAK, "--weight_column", "w", *more) == 0
        assert totals(tmp_path / name) == exactly(0, weighted=True)
        assert len(rows_in(tmp_path / name, "candidates")) == 160
    # Parts are no random samples: J comes from as many shards as see all of them, or from S.
    independent = rows_in(tmp_path / "readers", "candidates")[0]["independent"]
    assert independent == (not shards(tmp_path / "readers", "candidates") & shards(tmp_path / "readers", "coreset"))


def test_where_no_shard_can_be_spared_the_table_says_so(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path, *WEAK, "--drop_shards", "1,2,3,5", "--candidates", "40") == 0
    places = rows_in(tmp_path, "candidates")
    assert len(places) == 40
    assert {p["independent"] for p in places} == {False}
    assert "the coreset itself: no shard could be spared" in " ".join(capsys.readouterr().out.split())
    assert sum(totals(tmp_path).values()) == pytest.approx(summary_row(tmp_path)["total_weight"], rel=1e-12)


def test_without_labels_the_total_alone_is_exact(source, tmp_path):
    assert summarize_files(source, tmp_path, *BASE, "--weak") == 0
    assert set(totals(tmp_path)) == {None}
    assert totals(tmp_path)[None] == pytest.approx(N, rel=1e-12)


def test_the_same_bytes_twice_and_with_two_workers(source, tmp_path):
    two = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    for name, more in (("a", ()), ("b", two)):
        assert summarize_files(source, tmp_path / name, *WEAK, *more) == 0
    for table in ("candidates", "coreset", "centers", "summaries"):
        one, other = ((tmp_path / name / table / "global-r1.parquet").read_bytes() for name in "ab")
        assert one == other


def test_what_is_not_asked_for_is_not_written(source, tmp_path):
    assert summarize_files(source, tmp_path, *BASE, "--group_column", "label") == 0
    assert not files_of(str(tmp_path), "candidates")
    assert summary_row(tmp_path)["alpha"] is None
    assert summarize_files(source, tmp_path, *WEAK, "--overwrite") == 0
    assert summarize_files(source, tmp_path, *BASE, "--overwrite") == 0
    assert not files_of(str(tmp_path), "candidates"), "another run's candidates must not stay"


def test_rollup_keeps_labels_exact_and_unites_candidates(tmp_path):
    for seed in range(3):
        days = write_parquet(tmp_path / f"in{seed}", columns(seed))
        assert summarize_files(days, tmp_path / f"out{seed}", *WEAK, "--seed", str(seed)) == 0
    inputs = [str(tmp_path / f"out{seed}") for seed in range(3)]
    for name, more in (("whole", ()), ("small", ("--coreset_size", "40"))):
        output = str(tmp_path / name)
        assert main(["rollup", "--input", *inputs, "--output", output, *more]) == 0
        assert totals(output) == exactly(*range(3))
        assert len(rows_in(output, "candidates")) == 160
        assert 1.0 <= summary_row(output)["alpha"] < 1.1
    every = {row["id"] for folder in inputs for row in rows_in(folder, "candidates")}
    assert {row["id"] for row in rows_in(tmp_path / "whole", "candidates")} <= every
    again = str(tmp_path / "again")
    assert main(["rollup", "--input", str(tmp_path / "whole"), "--output", again]) == 0
    assert read_table(again, "candidates").num_rows == 160
    plain = write_parquet(tmp_path / "in", columns(9))
    assert summarize_files(plain, tmp_path / "plain", *BASE) == 0
    mixed = str(tmp_path / "mixed")
    assert main(["rollup", "--input", *inputs, str(tmp_path / "plain"), "--output", mixed]) == 0
    assert not files_of(mixed, "candidates")


REFUSED = {
    "fewer candidates than k": ("--weak --candidates 3", "candidates: must be at least k = 4, got 3"),
    "candidates alone": ("--candidates 40", "candidates: must be left out without weak, got 40"),
    "with local centers": ("--weak --summary local_centers --z 1", "weak: must be left out with summary local_centers"),
    "with sketches": ("--weak --summary pca --r 1 --k 1", "weak: must be left out with summary pca"),
    "with subspaces": ("--weak --r 1", "weak: must be left out with r = 1, got True"),
    "with one number a shard": ("--weak --recovery lp", "recovery: must be exact with weak, got 'lp'"),
    "with leftover on centers": ("--weak --method rings_and_groups --leftover centers --recovery lp", "leftover: must"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_before_anything_runs(source, tmp_path, capsys, case):
    options, message = REFUSED[case]
    base = ("--columns", "x0,x1,x2", *(() if "--k" in options.split() else ("--k", "4")))
    assert summarize_files(source, tmp_path, *base, *options.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize("readers", [(), ("--shard_readers",)])
def test_a_column_that_is_no_label_fails_the_job_in_one_line(source, tmp_path, capsys, readers):
    assert summarize_files(source, tmp_path, *BASE, "--weak", "--group_column", "number", *readers) == 1
    assert capsys.readouterr().err == (
        "error: group_column: must have at most 64 labels with --weak, got at least 65\n"
    )
    assert not files_of(str(tmp_path), "summaries")
