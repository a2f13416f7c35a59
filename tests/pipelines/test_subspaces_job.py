"""`summarize --r`: Algorithm 2 of the redundant assignment paper through the whole pipeline, stragglers dropped."""
import numpy as np
import pytest
from jobs import columns_of, rows_in, summarize_files, summary_row, write_parquet

from beam_coresets.datasets.structured import PlantedSubspaces
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines.main import main
from beam_coresets.points.flats import Flats, nearest_flat
from beam_coresets.solvers.subspaces import solve_subspaces
from beam_coresets.streaming.windows import WindowSpec

BASE = ("--k", "3", "--shards", "10", "--replication", "3", "--drop_shards", "1,4")
INSTANCE = PlantedSubspaces(seed=4, d=5, k=3, r=1, concentration=5.0)
POINTS = INSTANCE.points(6000)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("subspaces") / "in", columns_of(POINTS))


def flats_in(folder):
    """The emitted subspaces, in the order of `index`."""
    rows = sorted(rows_in(folder, "centers"), key=lambda row: row["index"])
    centers = np.array([row["coordinates"] for row in rows])
    return Flats(centers, np.array([row["basis"] for row in rows]).reshape(len(rows), -1, centers.shape[1]))


def cost_of(flats, points=POINTS):
    return nearest_flat(np.asarray(points, np.float64), flats)[1].sum()


def test_affine_subspaces_with_two_shards_dropped(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path, *BASE, "--r", "1", "--affine") == 0
    row, flats = summary_row(tmp_path), flats_in(tmp_path)
    assert (row["r"], row["affine"], row["method"], row["z"], row["factor"]) == (1, True, "subspace", 2.0, None)
    assert (row["stragglers"], row["coverage"], row["centers"]) == ([1, 4], 1.0, 3)
    assert flats.bases.shape == (3, 1, 5)
    np.testing.assert_allclose(np.linalg.norm(flats.bases, axis=2), 1, atol=1e-12)
    full = solve_subspaces(POINTS, np.ones(len(POINTS)), 3, 1, affine=True)
    assert cost_of(flats) <= 1.03 * full.cost
    assert row["cost_low"] <= cost_of(flats) <= row["cost_high"]  # this seed; by design 95 % of all
    centers = rows_in(tmp_path, "centers")
    assert sum(c["weight"] for c in centers) == pytest.approx(6000)
    assert sum(c["cost"] for c in centers) == pytest.approx(cost_of(flats), rel=0.1)
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("subspaces", "3 of k = 3, affine, r = 1", "point on it", "directions"):
        assert text in out


def test_linear_subspaces_in_scaled_units_come_back_in_the_users(source, tmp_path):
    """Scaled columns: a linear subspace there is one through the columns' means here."""
    stretched = POINTS * np.array([1, 10, 0.1, 100, 1], np.float32) + np.float32(7)
    files = write_parquet(tmp_path / "in", columns_of(stretched))
    assert summarize_files(files, tmp_path / "out", *BASE, "--r", "2", "--scale", "standard") == 0
    flats = flats_in(tmp_path / "out")
    np.testing.assert_allclose(flats.centers, stretched.mean(axis=0, dtype=np.float64)[None].repeat(3, 0), rtol=1e-3)
    np.testing.assert_allclose(
        flats.bases @ flats.bases.transpose(0, 2, 1), np.eye(2)[None].repeat(3, 0), atol=1e-10
    )
    deviation = stretched.std(axis=0, dtype=np.float64)
    scaled = (stretched - flats.centers[0]) / deviation
    directions = np.linalg.qr((flats.bases / deviation).transpose(0, 2, 1))[0].transpose(0, 2, 1)
    row = summary_row(tmp_path / "out")
    reached = cost_of(Flats(0 * flats.centers, np.ascontiguousarray(directions)), scaled)
    assert row["cost_low"] <= reached <= row["cost_high"]
    assert main(["verify", "--input", files, "--coreset", str(tmp_path / "out")]) == 0


def test_verify_measures_flats_and_rollup_keeps_them(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path / "out", *BASE, "--r", "1", "--affine", "--coreset_size", "120") == 0
    capsys.readouterr()
    csv = tmp_path / "measured.csv"
    assert main(["verify", "--input", source, "--coreset", str(tmp_path / "out"), "--csv", str(csv)]) == 0
    lines = csv.read_text().splitlines()[1:]
    assert lines[0].startswith("emitted,")
    assert {line.split(",")[0].split()[0] for line in lines} == {"emitted", "full", "own", "perturbed", "random"}
    assert max(float(line.rsplit(",", 1)[1]) for line in lines) < 1.2
    assert float(lines[0].split(",")[1]) == pytest.approx(cost_of(flats_in(tmp_path / "out")), rel=1e-6)
    assert "held" in capsys.readouterr().out
    assert main(["rollup", "--input", str(tmp_path / "out"), "--output", str(tmp_path / "period")]) == 0
    row = summary_row(tmp_path / "period")
    assert (row["r"], row["affine"], row["method"]) == (1, True, "subspace")
    assert cost_of(flats_in(tmp_path / "period")) <= 1.1 * cost_of(flats_in(tmp_path / "out"))


def test_the_same_bytes_again_and_another_method_on_request(source, tmp_path):
    for folder in ("a", "b"):
        assert summarize_files(source, tmp_path / folder, *BASE, "--r", "1", "--affine") == 0
    for name in ("coreset", "centers", "summaries"):
        assert rows_in(tmp_path / "a", name) == rows_in(tmp_path / "b", name)
    assert summarize_files(source, tmp_path / "c", *BASE, "--r", "1", "--affine", "--method", "sensitivity") == 0
    assert summary_row(tmp_path / "c")["method"] == "sensitivity"
    assert flats_in(tmp_path / "c").bases.shape == (3, 1, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--r 5", "r: must be below d = 5, got 5"),
        ("--r -1", "r: must be at least 0, got -1"),
        ("--r 1 --z 1", "z: must be 2 with r = 1, got 1.0"),
        ("--r 1 --metric cosine", "metric: must be euclidean with r = 1, got 'cosine'"),
        ("--affine", "affine: must be left out without r, got True"),
        ("--method subspace", "r: must be at least 1 with method subspace, got 0"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(source, tmp_path, capsys, options, message):
    assert summarize_files(source, tmp_path / "out", "--k", "2", *options.split()) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_streams_refuse_subspaces():
    with pytest.raises(ValueError, match="r: must be left out of a stream"):
        StreamPlan(Plan(k=2, r=1), WindowSpec("fixed", 10.0, 10.0))


def test_the_method_follows_from_r():
    assert Plan(k=2).method == "sensitivity"
    assert Plan(k=2, r=1).method == "subspace"
    assert Plan(k=2, r=1, method="uniform").sampler.r == 1
