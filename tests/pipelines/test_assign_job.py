"""`beam-coresets assign`, whole: rows of files to their clusters, under the constraint that the centers have."""
import csv
import functools

import numpy as np
import pyarrow as pa
import pytest
from jobs import clusters, columns_of, rows_in, summarize_files, write_parquet

from beam_coresets import tables
from beam_coresets.hashing import generator
from beam_coresets.pipelines import assign as job
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.passes import over_rows
from beam_coresets.points.nearest import nearest_numpy
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.writing.stored_tables import read_table

N = 3000
BASE = ("--k", "4", "--shards", "4", "--coreset_size", "200")
SEX = np.where(generator("sex").random(N) < np.where(clusters(N)[:, 0] > 10, 0.6, 0.3), "f", "m")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(glob of the data, folder of a run on it)."""
    folder = tmp_path_factory.mktemp("assign")
    source = write_parquet(folder / "in", columns_of(clusters(N)) | {"sex": SEX, "row": np.arange(N)})
    assert summarize_files(source, folder / "out", *BASE, "--columns", "x0,x1,x2") == 0
    return source, folder / "out"


def assign(source, centers, output, *options):
    data = ("--columns", "x0,x1,x2") if "--vector_column" not in options else ()
    return main(["assign", "--input", source, "--centers", str(centers), "--output", str(output), *data,
                 *map(str, options)])  # fmt: skip


def constrained(centers, folder, constraint, points=None):
    """The run's tables with a constraint, and other centers."""
    for name in ("centers", "summaries"):
        table = read_table(str(centers), name)
        if name == "summaries":
            table = table.set_column(
                table.column_names.index("constraint_text"), "constraint_text", pa.array([constraint])
            )
        elif points is not None:
            column = pa.array(points.tolist(), pa.list_(pa.float64()))
            table = table.set_column(table.column_names.index("coordinates"), "coordinates", column)
        (folder / name).mkdir(parents=True)
        (folder / name / "global-r1.avro").write_bytes(tables.encode(table, "avro"))
    return folder


def centers_of(folder):
    return np.array([row["coordinates"] for row in rows_in(folder, "centers")])


def told(folder, name):
    with open(folder / name) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_every_row_gets_its_nearest_center(run, tmp_path, capsys, form):
    source, output = run
    more = ("--id_column", "row", "--keep_columns", "sex", "--format", form)
    assert assign(source, output, tmp_path / "to", *more) == 0
    rows = sorted(rows_in(tmp_path / "to", "assigned"), key=lambda row: int(row["id"]))
    index, dist_sq = nearest_numpy(clusters(N), centers_of(output))
    assert [row["id"] for row in rows] == [str(i) for i in range(N)]
    assert [row["cluster"] for row in rows] == index.tolist()
    assert [row["distance"] for row in rows] == pytest.approx(np.sqrt(dist_sq), rel=1e-5)
    assert [row["sex"] for row in rows] == SEX.tolist()
    sizes = told(tmp_path / "to", "sizes.csv")
    assert [int(row["rows"]) for row in sizes] == np.bincount(index, minlength=4).tolist()
    assert sum(float(row["cost"]) for row in sizes) == pytest.approx(dist_sq.sum(), rel=1e-6)
    out, err = capsys.readouterr()
    assert err == ""
    assert "3,000" in out


def test_rows_without_an_id_are_known_by_their_file(run, tmp_path):
    source, output = run
    assert assign(source, output, tmp_path / "to") == 0
    rows = {row["id"]: row for row in rows_in(tmp_path / "to", "assigned")}
    index, _ = nearest_numpy(clusters(N), centers_of(output))
    assert [rows[f"part-{i // 1000}.parquet#{i % 1000}"]["cluster"] for i in range(N)] == index.tolist()


def test_workers_change_no_byte_and_parts_no_row(run, tmp_path, monkeypatch):
    source, output = run
    centers = constrained(output, tmp_path / "balanced", "balanced=0.1 fair=f:0.4:0.5")
    two = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    own = ("--id_column", "row", "--group_column", "sex")
    for name, options in (("a", ()), ("b", ()), ("two", two)):
        assert assign(source, centers, tmp_path / name, *own, *options) == 0
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").glob("[!.]*/**/*.*"))
    files += sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").glob("[!.]*.csv"))
    assert len(files) == 3
    for file in files:
        content = {(tmp_path / name / file).read_bytes() for name in ("a", "b", "two")}
        assert len(content) == 1, file
    small = functools.partial(ReadBlocks, part_bytes=4000)
    monkeypatch.setattr(job, "ReadBlocks", small)
    monkeypatch.setattr(over_rows, "ReadBlocks", small)
    assert assign(source, centers, tmp_path / "parts", *own) == 0
    assert len(list((tmp_path / "parts" / "assigned").iterdir())) > 3
    of = {name: sorted(map(str, rows_in(tmp_path / name, "assigned"))) for name in ("a", "parts")}
    assert of["a"] == of["parts"]


CONSTRAINTS = {  # what it is, and the largest violation that whole rows force
    "balanced=0.0": 0,
    "balanced=0.1 max_size=800.0": 0,
    "min_size=500.0,900.0,100.0,100.0": 0,
    "gamma=1500.0,500.0,600.0,400.0": 0,
    "fair=f:0.42:0.45": 0.005,
    "balanced=0.2 fair=f:0.4:0.5 fair=m:0.5:0.6": 0.005,
    "fair=woman:0.0:0.45 groups=f:woman,human groups=m:human": 0.005,
    "diversity=3:least": 0.005,
}


@pytest.mark.parametrize("text", CONSTRAINTS)
def test_all_rows_keep_to_the_constraint(run, tmp_path, text):
    source, output = run
    centers = constrained(output, tmp_path / "constrained", text)
    assert assign(source, centers, tmp_path / "to", "--id_column", "row", "--group_column", "sex") == 0
    rows = sorted(rows_in(tmp_path / "to", "assigned"), key=lambda row: int(row["id"]))
    cluster, label = np.array([r["cluster"] for r in rows]), np.array([r["group_label"] for r in rows])
    assert len(rows) == N
    bounds = told(tmp_path / "to", "bounds.csv")
    assert max(float(bound["violation"]) for bound in bounds) <= CONSTRAINTS[text] + 1e-9
    size = np.bincount(cluster, minlength=4)
    women = np.bincount(cluster, label == "f", 4) / size
    if text == "balanced=0.0":
        assert size.tolist() == [750] * 4
    if text.startswith("gamma"):
        assert size.tolist() == [1500, 500, 600, 400]
    if "fair=f:0.42" in text:
        assert (np.abs(women - 0.435) <= 0.016).all()
    if "diversity" in text:
        assert (np.minimum(women, 1 - women) >= 1 / 3 - 0.002).all()


def test_weights_count_and_ties_are_divided(tmp_path, run):
    """Rows of weight 0 to 2 at six places: more than half of the weight would go to one cluster."""
    _, output = run
    places, weights = np.arange(N) % 6 // 3 * 5, np.arange(N) % 3
    points = np.column_stack([places, np.zeros(N), np.zeros(N)])
    source = write_parquet(tmp_path / "in", columns_of(points) | {"w": weights})
    where = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [50, 0, 0]])
    centers = constrained(output, tmp_path / "constrained", "balanced=0.1", where)
    assert assign(source, centers, tmp_path / "to", "--weight_column", "w") == 0
    sizes = [float(row["weight"]) for row in told(tmp_path / "to", "sizes.csv")]
    assert sum(sizes) == weights.sum()
    assert 675 - 4 <= min(sizes) <= max(sizes) <= 825 + 4
    assert sum(int(row["rows"]) for row in told(tmp_path / "to", "sizes.csv")) == N


def test_prices_are_narrowed_on_all_rows_where_they_do_not_fit(run, tmp_path, monkeypatch, capsys):
    source, output = run
    monkeypatch.setattr(job, "SAMPLE_ROWS", 400)
    monkeypatch.setattr(job, "SAMPLE_COSTS", 1600)
    centers = constrained(output, tmp_path / "constrained", "balanced=0.0")
    assert assign(source, centers, tmp_path / "loose", "--max_violation", 0.5) == 0
    assert ", 3 passes" in capsys.readouterr().out
    assert assign(source, centers, tmp_path / "tight", "--max_violation", 0.003) == 0
    out = capsys.readouterr().out
    sizes = [int(row["rows"]) for row in told(tmp_path / "tight", "sizes.csv")]
    assert max(abs(size - 750) for size in sizes) <= 750 * 0.003
    assert len(rows_in(tmp_path / "tight", "assigned")) == N
    assert f"{max(abs(size - 750) for size in sizes) / 750:.3%} at most" in out


def test_what_cannot_be_reached_is_said_and_written(run, tmp_path, capsys):
    """Four rows for three clusters of the same weight."""
    _, output = run
    source = write_parquet(tmp_path / "in", columns_of(clusters(5)), files=1)
    centers = constrained(output, tmp_path / "constrained", "balanced=0.0")
    assert assign(source, centers, tmp_path / "to") == 0
    assert "violation" in capsys.readouterr().out
    assert max(float(row["violation"]) for row in told(tmp_path / "to", "bounds.csv")) > 0.01
    assert len(rows_in(tmp_path / "to", "assigned")) == 5


def test_cosine_and_scaled_centers(tmp_path):
    points = clusters(N, dtype=np.float64) * [1, 1000, 1e5] + [0, 0, 1.7e9]
    vectors = pa.array((clusters(N) + 1).tolist(), pa.list_(pa.float32()))
    source = write_parquet(tmp_path / "in", pa.table(columns_of(points) | {"v": vectors}))
    cosine = ("--vector_column", "v", "--metric", "cosine")
    assert summarize_files(source, tmp_path / "cosine", *BASE, *cosine) == 0
    assert assign(source, tmp_path / "cosine", tmp_path / "to", *cosine) == 0
    unit = (clusters(N) + 1) / np.linalg.norm(clusters(N) + 1, axis=1, keepdims=True)
    index, dist_sq = nearest_numpy(unit, centers_of(tmp_path / "cosine"))
    table = read_table(str(tmp_path / "to"), "assigned")
    assert (table.column("cluster").to_numpy() == index).mean() > 0.999
    assert table.column("distance").to_numpy() == pytest.approx(dist_sq / 2, abs=1e-6)
    assert summarize_files(source, tmp_path / "scaled", *BASE, "--columns", "x0,x1,x2", "--scale", "standard") == 0
    assert assign(source, tmp_path / "scaled", tmp_path / "to2") == 0
    spread = points.std(axis=0)
    index, dist_sq = nearest_numpy(points / spread, centers_of(tmp_path / "scaled") / spread)
    table = read_table(str(tmp_path / "to2"), "assigned")
    assert np.array_equal(table.column("cluster").to_numpy(), index)
    assert table.column("distance").to_numpy() == pytest.approx(np.sqrt(dist_sq), rel=1e-3)


def test_rows_that_are_refused_are_dead_letters(run, tmp_path, capsys):
    _, output = run
    points = clusters(300).astype(np.float64)
    points[[5, 7], 1] = np.nan
    source = write_parquet(tmp_path / "in", columns_of(points))
    assert assign(source, output, tmp_path / "to") == 1
    assert "max_bad_rows: at most 0 rows may be refused, got 2" in capsys.readouterr().err
    assert not list((tmp_path / "to").glob("assigned/*"))
    assert assign(source, output, tmp_path / "to", "--max_bad_rows", 2) == 0
    assert len(rows_in(tmp_path / "to", "assigned")) == 298
    assert len(rows_in(tmp_path / "to", "dead_letters")) == 2
    centers = constrained(output, tmp_path / "constrained", "balanced=0.1")
    assert assign(source, centers, tmp_path / "to2") == 1
    assert "max_bad_rows: at most 0 rows may be refused, got 2" in capsys.readouterr().err
    assert assign(source, centers, tmp_path / "to2", "--max_bad_rows", 2) == 0


@pytest.mark.parametrize("constraint", [None, "balanced=0.1"])
def test_data_without_a_good_row(run, tmp_path, constraint):
    _, output = run
    centers = output if constraint is None else constrained(output, tmp_path / "constrained", constraint)
    source = write_parquet(tmp_path / "in", columns_of(np.full((5, 3), np.nan)), files=1)
    assert assign(source, centers, tmp_path / "to", "--max_bad_rows", 5) == 0
    assert sorted(path.name for path in (tmp_path / "to").glob("[!.]*")) == ["dead_letters", "sizes.csv"]


def test_another_result_is_kept_or_replaced(run, tmp_path, capsys):
    source, output = run
    assert assign(source, output, tmp_path / "to") == 0
    before = (tmp_path / "to" / "sizes.csv").read_bytes()
    assert assign(source, output, tmp_path / "to") == 2
    assert "output: must not hold another run's result" in capsys.readouterr().err
    broken = write_parquet(tmp_path / "in", columns_of(np.full((5, 3), np.nan)))
    assert assign(broken, output, tmp_path / "to", "--overwrite") == 1
    assert (tmp_path / "to" / "sizes.csv").read_bytes() == before
    assert len(rows_in(tmp_path / "to", "assigned")) == N
    assert assign(source, output, tmp_path / "to", "--overwrite", "--format", "jsonl") == 0
    assert {path.suffix for path in (tmp_path / "to" / "assigned").iterdir()} == {".jsonl"}


@pytest.mark.parametrize("options", [
    pytest.param(("--direct_num_workers=2", "--direct_running_mode=multi_processing"), marks=pytest.mark.slow),
    ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"),
], ids=["processes", "portable"])  # fmt: skip
def test_workers_may_be_other_processes(run, tmp_path, options):
    source, output = run
    centers = constrained(output, tmp_path / "constrained", "balanced=0.0")
    assert assign(source, centers, tmp_path / "to", *options) == 0
    assert len(rows_in(tmp_path / "to", "assigned")) == N
    assert [row["rows"] for row in told(tmp_path / "to", "sizes.csv")] == ["750"] * 4
    assert sorted(path.name for path in (tmp_path / "to").glob("[!.]*")) == ["assigned", "bounds.csv", "sizes.csv"]


@pytest.mark.parametrize(("options", "constraint", "message"), [
    ("--metric cosine", None, "metric: must be that of the centers, euclidean, got cosine"),
    ("--scale standard", None, "scale: must be left to the centers' scale.json, got 'standard'"),
    ("--columns x0,x1", None, "columns: must have those of the centers (x0, x1, x2), got (x0, x1)"),
    ("--max-violation -1", None, "max_violation: must be at least 0, got -1.0"),
    ("--keys a", None, "centers: must have windows in the period, got none of"),
    ("", "fair=f:0.1:0.4", "group_column: must be given (--group-column), got nothing"),
    ("--group-column sex", "fair=x:0.1:0.4", "fair: group must be in the data (there: f, m), got 'x'"),
    ("--group-column sex", "diversity=3:most", "diversity: must be at most 2, the labels in the data, got 3"),
    ("", "max_size=700.0", "max_size: must be possible to meet together with the rest, got bounds that miss it by at "
                           "least 200 of the total weight 3000"),
    ("", "gamma=1.0,1.0,1.0,1.0", "gamma: must add up to the total weight 3000, got 4"),
])  # fmt: skip
def test_what_cannot_work(run, tmp_path, capsys, options, constraint, message):
    source, output = run
    centers = output if constraint is None else constrained(output, tmp_path / "constrained", constraint)
    own = ["--columns", "x0,x1,x2"] if "--columns" not in options else []
    command = ["assign", "--input", source, "--centers", str(centers), "--output", f"{tmp_path}/to", *own]
    assert main([*command, *options.split()]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: " + message)
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("to/*"))


def test_centers_of_several_windows_have_to_be_chosen(run, tmp_path, capsys):
    source, output = run
    several = tmp_path / "several"
    for name in ("centers", "summaries"):
        (several / name).mkdir(parents=True)
        for day in (1, 2):
            table = read_table(str(output), name)
            for column, value in (("window_start", day * 60.0), ("window_end", day * 60.0 + 60)):
                at = table.column_names.index(column)
                table = table.set_column(at, column, pa.array([value] * len(table)))
            (several / name / f"{day}.parquet").write_bytes(tables.encode(table, "parquet"))
    assert assign(source, several, tmp_path / "to") == 2
    assert "centers: must be those of one window and key, got 2 (choose by --latest, --from, --to and --keys)" in (
        capsys.readouterr().err
    )
    assert assign(source, several, tmp_path / "to", "--from", 120) == 0
    assert assign(source, tmp_path / "no", tmp_path / "to2") == 2
    assert "must hold a summaries table" in capsys.readouterr().err


def test_the_rows_that_are_looked_at_fit_into_memory():
    """At least 200,000 rows, more where there are few clusters, less where rows are wide."""
    assert job.sample_size(20, 8) == 400_000
    assert job.sample_size(100, 8) == 200_000
    assert 80_000 < job.sample_size(100, 768) < 90_000


def test_rows_never_replace_the_centers_they_are_assigned_to(run, tmp_path, capsys):
    source, out = write_parquet(tmp_path / "in", columns_of(clusters(300))), tmp_path / "out"
    summarize_files(source, out, "--k", "3", "--coreset_size", "50")
    before = sorted(out.rglob("*.avro"))
    for name in (out, tmp_path / "in" / ".." / "out"):
        words = ["assign", "--input", str(source), "--centers", str(out), "--output", str(name), "--overwrite"]
        assert main(words) == 2
        assert "output: must not be what is read" in capsys.readouterr().err
    assert sorted(out.rglob("*.avro")) == before
