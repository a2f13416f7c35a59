"""`summarize --method rings_and_groups`, `--leftover centers` and `--epsilon`, whole: files in, tables out."""
import numpy as np
import pytest
from jobs import CENTERS, clusters, columns_of, rows_in, summarize_files, summary_row, without_beam, write_parquet

from beam_coresets import table_schemas, tables
from beam_coresets.parameters import plan as transform
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines import summarize as job
from beam_coresets.pipelines.main import main
from beam_coresets.points.nearest import nearest
from beam_coresets.sampling.theory_sizes import by_theory
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.parts import row_names

N = 3000
BASE = ("--k", "4", "--shards", "10", "--replication", "3", "--method", "rings_and_groups")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("points"), columns_of(clusters(N)))


def said(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    return " ".join(out.split())


def close_to_the_truth(output):
    found = np.array([row["coordinates"] for row in rows_in(output, "centers")])
    return np.sqrt(nearest(CENTERS, found)[1]).max() < 0.5


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("leftover", ["points", "centers"])
def test_the_tables_are_the_direct_calls(source, tmp_path, leftover, z):
    recovery = "exact" if leftover == "points" else "lp"
    options = ("--coreset_size", "60", "--z", str(z), "--leftover", leftover, "--recovery", recovery)
    assert summarize_files(source, tmp_path, *BASE, *options, "--drop_shards", "1,4") == 0
    read = ReadBlocks(source)
    plan = Plan(
        k=4, shards=10, replication=3, z=z, method="rings_and_groups", coreset_size=60, recovery=recovery,
        drop_shards=(1, 4), leftover=leftover,
    )  # fmt: skip
    expected = without_beam(read.here(), plan, row_names(read.files), columns=("x0", "x1", "x2"), refused=0)
    for name in table_schemas.TABLES:
        assert (tmp_path / name / "global-r1.parquet").read_bytes() == tables.encode(expected.table(name), "parquet")
    row = summary_row(tmp_path)
    assert (row["method"], row["recovery"], row["coverage"], row["points"]) == ("rings_and_groups", recovery, 1.0, N)
    assert row["total_weight"] == pytest.approx(N, rel=1e-9)
    assert close_to_the_truth(tmp_path)
    truth = clusters(N).astype(np.float64)
    cost = (nearest(truth, np.array([c["coordinates"] for c in rows_in(tmp_path, "centers")]))[1] ** (z / 2)).sum()
    assert row["cost"] == pytest.approx(cost, rel=0.25)
    away = nearest(np.array([r["coordinates"] for r in rows_in(tmp_path, "coreset")]), truth)[1]
    if leftover == "points":
        assert away.max() < 1e-6
    elif z == 1:  # for higher powers nothing of these clusters is near enough to its center to be left over
        assert away.max() > 1e-6


def test_leftover_on_centers_has_no_per_bucket_recovery(source, tmp_path, capsys):
    options = ("--coreset_size", "60", "--leftover", "centers")
    assert summarize_files(source, tmp_path / "a", *BASE, *options, "--recovery", "exact") == 2
    assert "recovery: must be uniform or lp with leftover centers, which have no bucket" in capsys.readouterr().err
    assert summarize_files(source, tmp_path / "b", *BASE, *options, "--recovery", "uniform") == 0
    assert summary_row(tmp_path / "b")["total_weight"] == pytest.approx(N, rel=1e-9)


def test_leftover_on_centers_where_shards_read_for_themselves(source, tmp_path):
    options = ("--coreset_size", "200", "--leftover", "centers", "--recovery", "lp", "--shard_readers")
    assert summarize_files(source, tmp_path, *BASE, *options, "--drop_shards", "3") == 0
    assert summary_row(tmp_path)["total_weight"] == pytest.approx(N, rel=1e-9)
    assert close_to_the_truth(tmp_path)


def test_epsilon_caps_at_n_and_says_so(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path, *BASE, "--epsilon", "0.1") == 0
    out = said(capsys)
    assert f"epsilon 0.1: theory asks for {by_theory('rings_and_groups', 4, 0.1).points:,} points a shard" in out
    assert "Theorem B.1" in out
    assert "epsilon: asked for 0.1, measured " in out
    assert "(capped at n: the coreset holds every row)" in out
    assert summary_row(tmp_path)["cost_basis"] == "exact"


@pytest.mark.parametrize("scale", ["none", "standard"])
def test_epsilon_sets_the_size_and_is_measured(source, tmp_path, capsys, scale):
    size = by_theory("sensitivity", 4, 0.5).points
    assert 50 < size < 100
    options = ("--k", "4", "--shards", "4", "--scale", scale, "--epsilon", "0.5")
    assert summarize_files(source, tmp_path, *options) == 0
    out = said(capsys)
    assert f"theory asks for {size} points a shard (Bansal et al., FOCS 2024" in out
    assert f"({size} points a shard)" in out
    measured = float(out.split("epsilon: asked for 0.5, measured ")[1].split()[0])
    assert 0 < measured < 0.5
    counts = np.bincount([shard for row in rows_in(tmp_path, "coreset") for shard in row["shards"]], minlength=4)
    assert (np.abs(counts - size) <= 4).all()
    assert main(["verify", "--input", source, "--coreset", str(tmp_path)]) == 0
    distortion = float(said(capsys).split("distortion: ")[1].split()[0])
    assert measured == pytest.approx(distortion - 1, abs=1e-3)


def test_epsilon_is_limited_by_memory_and_says_so(source, tmp_path, capsys, monkeypatch):
    for module in (transform, job):
        monkeypatch.setattr(module, "MOST_CORESET_BYTES", 1200)  # 100 points of 3 float32
    assert summarize_files(source, tmp_path, *BASE, "--epsilon", "0.1") == 0
    out = said(capsys)
    assert "at most 100 of 3 coordinates" in out
    assert "(not the size that theory asks for, but 100 points a shard)" in out
    counts = np.bincount([shard for row in rows_in(tmp_path, "coreset") for shard in row["shards"]])
    assert (np.abs(counts - 100) <= 8).all()
    assert close_to_the_truth(tmp_path)


def test_epsilon_of_nothing(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", columns_of(clusters(0)), files=1)
    assert summarize_files(source, tmp_path / "out", *BASE, "--epsilon", "0.3") == 2
    assert "input: must have at least one row, got none" in capsys.readouterr().err


def test_explain_has_the_size(source, capsys):
    assert main(["summarize", "--input", source, *BASE, "--epsilon", "0.5", "--explain"]) == 0
    size = by_theory("rings_and_groups", 4, 0.5).points
    assert f"{size:,} points a shard" in said(capsys)


def test_rollup_draws_by_rings_and_groups_too(source, tmp_path):
    assert summarize_files(source, tmp_path / "a", *BASE, "--coreset_size", "80") == 0
    assert main(["rollup", "--input", f"{tmp_path}/a", "--output", f"{tmp_path}/b", "--coreset_size", "60"]) == 0
    assert summary_row(tmp_path / "b")["method"] == "rings_and_groups"
    assert close_to_the_truth(tmp_path / "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.1, "coreset_size": 100}, "coreset_size: must be left out with epsilon, got 100"),
        ({"epsilon": 0.1, "method": "uniform"}, "epsilon: must be left out with method uniform"),
        ({"epsilon": 0.1, "method": "lightweight", "z": 1.0}, "epsilon: must be left out with method lightweight"),
        ({"epsilon": 1.5}, "epsilon: must be between 0 and 1, got 1.5"),
        ({"epsilon": 0.1, "z": 1.0, "summary": "local_centers"}, "epsilon: must be left out with summary local_cen"),
        ({"leftover": "centers", "recovery": "lp"}, "leftover: must be points with method sensitivity"),
        ({"leftover": "centers", "method": "rings_and_groups", "recovery": "exact"}, "recovery: must be uniform or lp"),
        (
            {"leftover": "centers", "method": "rings_and_groups", "metric": "cosine"},
            "leftover: must be points with metric cosine, got 'centers'",
        ),
        (
            {"leftover": "centers", "method": "rings_and_groups", "audit": True},
            "leftover: must be points with audit, got 'centers'",
        ),
        ({"leftover": "centres", "method": "rings_and_groups"}, "leftover: must be one of points, centers, got"),
    ],
)
def test_plans_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Plan(k=5, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.1}, "epsilon: must be left out of a stream, got 0.1"),
        ({"leftover": "centers", "method": "rings_and_groups"}, "leftover: must be points in a stream, got 'centers'"),
    ],
)
def test_streams_refuse_what_they_cannot_keep(options, message):
    with pytest.raises(ValueError, match=message):
        StreamPlan(Plan(k=5, **options), WindowSpec("fixed", 5.0, 5.0))
