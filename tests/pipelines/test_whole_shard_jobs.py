"""`beam-coresets summarize --summary local_centers` and `pca`, whole: files in, tables out."""
import functools

import numpy as np
import pytest
from jobs import (
    CENTERS,
    LOCAL,
    TWO_WORKERS,
    clusters,
    columns_of,
    rows_in,
    summarize_files,
    summary_row,
    without_beam,
    write_parquet,
)
from threadpoolctl import threadpool_limits

from beam_coresets import table_schemas, tables
from beam_coresets.datasets.structured import LowRank
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines import summarize as job
from beam_coresets.pipelines.main import main
from beam_coresets.points.nearest import cost
from beam_coresets.sampling import frequent_directions
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.pca import SketchTree
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.parts import row_names

N = 3000
SHARDS = ("--shards", "10", "--replication", "3")
MEDIANS = ("--summary", "local_centers", "--k", "4", "--z", "1", *SHARDS)
PCA = ("--summary", "pca", "--r", "3", "--delta", "0.5", *SHARDS)
LOW_RANK = LowRank(d=12, rank=3, offset=4.0)


@pytest.fixture(scope="module")
def round_clusters(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("clusters"), columns_of(clusters(N)))


@pytest.fixture(scope="module")
def low_rank(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("low rank"), columns_of(LOW_RANK.points(N)))


def error(capsys, source, output, *options):
    assert summarize_files(source, output, *options) == 2
    assert not output.exists()
    return capsys.readouterr().err


def medians_cost(output):
    centers = np.array([row["coordinates"] for row in rows_in(output, "centers")])
    return cost(clusters(N), np.ones(N), centers, 1.0)


def residual(output):
    """The true cost of the emitted subspace."""
    (row,) = rows_in(output, "centers")
    basis = np.array(row["basis"]).reshape(-1, LOW_RANK.d)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-9)
    y = LOW_RANK.points(N).astype(np.float64) - row["coordinates"]
    return float(((y - y @ basis.T @ basis) ** 2).sum())


def best_residual(affine, r=3):
    points = LOW_RANK.points(N).astype(np.float64)
    values = np.linalg.svd(points - affine * points.mean(axis=0), compute_uv=False)
    return float((values[r:] ** 2).sum())


@pytest.fixture
def lossy(monkeypatch):
    """Shard 2 loses half of every block."""
    for logic in (MergeReduce, SketchTree):

        def losing(self, block, pieces=logic.pieces):
            less = list(pieces(self, block.take(np.arange(len(block) // 2))))
            for shard, piece in enumerate(pieces(self, block)):
                yield less[shard] if shard == 2 else piece

        monkeypatch.setattr(logic, "pieces", losing)


@pytest.mark.parametrize("recovery", [(), ("--recovery", "uniform")], ids=["lp", "uniform"])
def test_local_centers_with_two_shards_gone(round_clusters, tmp_path, capsys, recovery):
    assert summarize_files(round_clusters, tmp_path, *MEDIANS, *recovery, "--drop_shards", "1,4") == 0
    row = summary_row(tmp_path)
    expected = ("local_centers", (recovery or ["lp"])[-1], [1, 4], 1.0, "triangle inequality")
    assert tuple(row[n] for n in ("summary", "recovery", "stragglers", "coverage", "cost_basis")) == expected
    assert row["factor"] == pytest.approx(3 * (1 + row["delta"]))
    assert row["total_weight"] == pytest.approx(N)
    assert row["coreset_points"] <= 8 * 4
    best = cost(clusters(N), np.ones(N), CENTERS, 1.0)
    assert medians_cost(tmp_path) <= min(row["factor"], 1.02) * best
    assert row["cost_low"] <= medians_cost(tmp_path) <= row["cost_high"]
    assert row["cost"] == pytest.approx(medians_cost(tmp_path), rel=0.02)
    out = capsys.readouterr().out
    for text in (f"at most {row['factor']:.4g} times the best cost", "optimal solvers", "proved:", "by triangle ineq"):
        assert text in " ".join(out.split())


def test_local_centers_from_thinned_trees_have_no_guarantee(round_clusters, tmp_path, capsys):
    assert summarize_files(round_clusters, tmp_path, *MEDIANS, "--coreset_size", "8") == 0
    row = summary_row(tmp_path)
    assert (row["coverage"], row["factor"]) == (1.0, None)
    assert row["cost_basis"] == "triangle inequality, local costs estimated"
    out = " ".join(capsys.readouterr().out.split())
    assert "no guarantee: a shard held more rows than it can keep" in out
    assert "proved" not in out
    assert "times the best cost" not in out


@pytest.mark.parametrize("affine", [False, True])
def test_principal_components_with_two_shards_gone(low_rank, tmp_path, capsys, affine, monkeypatch):
    monkeypatch.setattr(frequent_directions, "SKETCH_BYTES", 0)  # cuts in the tree
    options = (*PCA, *(["--affine"] if affine else []), "--drop_shards", "1,4")
    assert summarize_files(low_rank, tmp_path, *options) == 0
    row = summary_row(tmp_path)
    assert (row["summary"], row["k"], row["r"], row["affine"]) == ("pca", 1, 3, affine)
    assert (row["recovery"], row["stragglers"], row["centers"]) == ("lp", [1, 4], 1)
    best, reached = best_residual(affine), residual(tmp_path)
    assert row["factor"] <= (1 + row["delta"]) * 1.5
    assert reached <= min(row["factor"], 1.01) * best
    assert row["cost_low"] <= reached <= row["cost_high"]
    assert row["coreset_points"] <= 8 * (3 + 6 - 1 + affine)
    assert rows_in(tmp_path, "centers")[0]["representative_id"] is None
    assert f"at most {row['factor']:.4g} times the best cost" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("workers", [LOCAL, TWO_WORKERS], ids=["one worker", "two workers"])
@pytest.mark.parametrize("options", [MEDIANS, PCA], ids=["local centers", "pca"])
def test_the_tables_are_the_direct_calls(low_rank, tmp_path, options, workers, monkeypatch):
    monkeypatch.setattr(job, "ReadBlocks", functools.partial(ReadBlocks, part_bytes=4000))
    monkeypatch.setattr(frequent_directions, "SKETCH_BYTES", 0)
    assert summarize_files(low_rank, tmp_path, *options, "--drop_shards", "3", *workers) == 0
    read = ReadBlocks(low_rank, Columns(), part_bytes=4000)
    of = {"summary": "pca", "k": 1, "r": 3, "delta": 0.5} if options is PCA else {
        "summary": "local_centers", "k": 4, "z": 1.0}  # fmt: skip
    plan = Plan(shards=10, replication=3, drop_shards=(3,), **of)
    with threadpool_limits(1, "blas"):  # as in workers: more threads may change the last bits
        names = tuple(columns_of(LOW_RANK.points(1)))
        expected = without_beam(read.here(), plan, row_names(read.files), columns=names, refused=0)
    for name in table_schemas.TABLES:
        assert (tmp_path / name / "global-r1.parquet").read_bytes() == tables.encode(expected.table(name), "parquet")


@pytest.mark.parametrize("options", [MEDIANS, PCA], ids=["local centers", "pca"])
def test_a_shard_that_lost_rows_does_not_count(low_rank, tmp_path, options, lossy, capsys):
    assert summarize_files(low_rank, tmp_path / "all", *options) == 0
    row = summary_row(tmp_path / "all")
    assert row["distrusted"] == ["2:partial"]
    assert row["coverage"] == 1.0
    assert row["total_weight"] == pytest.approx(N)
    assert 2 not in {shard for r in rows_in(tmp_path / "all", "coreset") for shard in r["shards"]}
    if options is PCA:
        assert row["cost_low"] <= residual(tmp_path / "all") <= row["cost_high"]
        assert residual(tmp_path / "all") <= row["factor"] * best_residual(False)
    assert "distrusted: 2:partial" in capsys.readouterr().out


@pytest.mark.parametrize("options", [MEDIANS, PCA], ids=["local centers", "pca"])
def test_where_a_bucket_has_no_holder_there_is_no_guarantee(low_rank, tmp_path, options, capsys):
    scheme = ("--scheme", "bernoulli", "--drop_shards", "0,5,6")
    assert summarize_files(low_rank, tmp_path, *options, *scheme) == 0
    row = summary_row(tmp_path)
    # a bucket has no holder among the 7 left with probability 0.7**7 = 0.082, six standard deviations are 0.05
    assert row["coverage"] == pytest.approx(1 - 0.082, abs=0.052)
    assert row["factor"] is None
    assert row["cost_high"] is None
    text = " ".join(capsys.readouterr().out.split())
    assert f"no guarantee: {1 - row['coverage']:.2%} of the buckets have no holder" in text


def test_shards_that_read_for_themselves_may_send_local_centers(round_clusters, tmp_path):
    options = ("--summary", "local_centers", "--k", "4", "--z", "1", "--shards", "3", "--replication", "2")
    assert summarize_files(round_clusters, tmp_path, *options, "--shard_readers", "--drop_shards", "1") == 0
    row = summary_row(tmp_path)
    assert (row["summary"], row["coverage"], row["points"]) == ("local_centers", 1.0, N)
    assert medians_cost(tmp_path) <= 1.05 * cost(clusters(N), np.ones(N), CENTERS, 1.0)


@pytest.mark.parametrize(("options", "text"), [
    (MEDIANS, "4 a shard, up to 40 in all, solved on"),
    (PCA, "8 rows a shard, up to 80 in all, for r = 3 with slack 0.5"),
])  # fmt: skip
def test_explain_shows_the_sizes(low_rank, options, text, capsys):
    assert main(["summarize", "--input", low_rank, *options, "--explain"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert text in out
    assert "recovery lp" in out


def test_neither_can_be_rolled_up(low_rank, tmp_path, capsys):
    assert summarize_files(low_rank, tmp_path / "out", *PCA) == 0
    assert main(["rollup", "--input", f"{tmp_path}/out", "--output", f"{tmp_path}/more"]) == 2
    assert "summary: must be coreset to go on from the tables, got 'pca'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--summary", "pca"), "r: must be at least 1 with summary pca, got 0"),
        (("--summary", "pca", "--r", "12"), "r: must be below d = 12, got 12"),
        (("--summary", "pca", "--r", "2", "--k", "3"), "k: must be 1 with summary pca, got 3"),
        (("--summary", "pca", "--r", "2", "--z", "1"), "z: must be 2 with"),
        (("--summary", "pca", "--r", "2", "--delta", "0"), "delta: must be positive and finite, got 0.0"),
        (("--summary", "pca", "--r", "2", "--metric", "cosine"), "metric: must be euclidean with summary pca"),
        (("--summary", "pca", "--r", "2", "--coreset-size", "99"), "coreset_size: must be left out with summary pca"),
        (("--summary", "pca", "--r", "2", "--recovery", "exact"), "recovery: must be uniform or lp with summary pca"),
        (("--summary", "pca", "--r", "2", "--shard-readers"), "summary: must not be pca with shards that read for"),
        (("--summary", "local_centers", "--k", "3"), "z: must be 1 with summary local_centers, got 2.0"),
        (("--summary", "local_centers", "--z", "1"), "k: must be given (--k), got nothing"),
        (
            ("--summary", "local_centers", "--z", "1", "--k", "3", "--metric", "cosine"),
            "metric: must be euclidean with summary local_centers, got 'cosine'",
        ),
        (
            ("--summary", "local_centers", "--z", "1", "--k", "3", "--recovery", "exact"),
            "recovery: must be uniform or lp with summary local_centers, got 'exact'",
        ),
        (
            ("--summary", "local_centers", "--z", "1", "--k", "3", "--weak"),
            "weak: must be left out with summary local_centers, got True",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(low_rank, tmp_path, capsys, options, message):
    assert message in error(capsys, low_rank, tmp_path / "out", *options)


@pytest.mark.parametrize("asked", [{"summary": "pca", "r": 1}, {"summary": "local_centers", "z": 1.0}])
def test_streams_refuse_both(asked):
    with pytest.raises(ValueError, match=f"summary: must be coreset in a stream, got '{asked['summary']}'"):
        StreamPlan(Plan(k=1, **asked), WindowSpec.parse("5s"))
