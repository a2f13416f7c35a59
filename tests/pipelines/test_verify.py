"""`beam-coresets verify`: the measured distortion, and whether the certificate held."""
import csv
import functools

import numpy as np
import pytest
from jobs import clusters, columns_of, rows_in, summarize_files, summary_row, write_parquet

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.passes import over_rows
from beam_coresets.points.nearest import nearest
from beam_coresets.transforms.reading.blocks import ReadBlocks

N = 3000
BASE = ("--k", "4", "--shards", "6", "--replication", "3", "--coreset_size", "200")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(glob of the data, folder of a run on it)."""
    folder = tmp_path_factory.mktemp("verify")
    source = write_parquet(folder / "in", columns_of(clusters(N)))
    assert summarize_files(source, folder / "out", *BASE, "--drop_shards", "1,4") == 0
    return source, folder / "out"


def measured(path):
    """(name, cost on the data, on the coreset, distortion) of each center set."""
    with open(path) as file:
        return [(name, *map(float, numbers)) for name, *numbers in list(csv.reader(file))[1:]]


def test_it_measures_every_kind_of_center_set(run, tmp_path, capsys):
    source, output = run
    assert main(["verify", "--input", source, "--coreset", str(output), "--csv", f"{tmp_path}/m.csv"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = measured(tmp_path / "m.csv")
    names = [row[0] for row in rows]
    assert names[0] == "emitted"
    for name, times in {"full": 1, "own": 2, "random": 4, "kmeans++": 2}.items():
        assert names.count(name) == times
        assert name in out
    assert sum(name.startswith("perturbed") for name in names) == 4
    for _, data, coreset, distortion in rows:
        assert distortion == pytest.approx(max(data / coreset, coreset / data), rel=1e-12)
        assert 1 <= distortion < 1.15
    assert f"distortion: {max(row[3] for row in rows):.4f}" in out


def test_the_emitted_centers_cost_is_that_on_all_data(run, tmp_path, capsys):
    source, output = run
    assert main(["verify", "--input", source, "--coreset", str(output), "--csv", f"{tmp_path}/m.csv"]) == 0
    centers = np.array([row["coordinates"] for row in rows_in(output, "centers")])
    truth = nearest(clusters(N), centers)[1].sum()
    assert measured(tmp_path / "m.csv")[0][1] == pytest.approx(truth, rel=1e-9)
    row = summary_row(output)
    held = "held" if row["cost_low"] <= truth <= row["cost_high"] else "did not hold"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("emitted centers")]
    assert line.rstrip().endswith(f": {held}")


def test_other_data_than_the_coresets_shows(run, tmp_path, capsys):
    _, output = run
    other = write_parquet(tmp_path / "other", columns_of(clusters(N, seed=9) * 2))
    assert main(["verify", "--input", other, "--coreset", str(output)]) == 0
    out = capsys.readouterr().out
    assert "did not hold" in out
    (line,) = [line for line in out.splitlines() if line.startswith("distortion: ")]
    assert float(line.split()[1]) > 1.5


def test_rows_that_are_refused_are_counted_and_named(run, tmp_path, capsys):
    _, output = run
    rows = clusters(N)
    rows[7, 1] = rows[12, 0] = np.nan
    given = ("verify", "--input", write_parquet(tmp_path / "in", columns_of(rows)), "--coreset", str(output))
    said = "2 (nan in 'x0': 1, nan in 'x1': 1); first: "
    assert main([*given]) == 1
    assert f"max_bad_rows: at most 0 rows may be refused, got {said}" in capsys.readouterr().err
    assert main([*given, "--max-bad-rows", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count(f"refused rows: {said}") == 1
    assert "row 7: nan in 'x1'" in out


def test_parts_and_workers_change_nothing(run, tmp_path, monkeypatch):
    source, output = run
    monkeypatch.setattr(over_rows, "ReadBlocks", functools.partial(ReadBlocks, part_bytes=4000))
    two = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    for i, more in enumerate([(), two]):
        assert main(["verify", "--input", source, "--coreset", str(output), "--csv", f"{tmp_path}/{i}.csv", *more]) == 0
    for one, other in zip(measured(tmp_path / "0.csv"), measured(tmp_path / "1.csv"), strict=True):
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], rel=1e-9)


@pytest.mark.parametrize("options", [
    ("--direct_num_workers=2", "--direct_running_mode=multi_processing"),
    ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"),
], ids=["processes", "portable"])  # fmt: skip
def test_workers_may_be_other_processes(run, tmp_path, options):
    source, output = run
    assert main(["verify", "--input", source, "--coreset", str(output), "--csv", f"{tmp_path}/m.csv", *options]) == 0
    assert len(measured(tmp_path / "m.csv")) == 14
    there = ["centers", "columns", "coreset", "schema.json", "summaries"]
    assert sorted(path.name for path in output.glob("[!.]*")) == there


def test_scaled_and_weighted_and_cosine_runs(tmp_path, capsys):
    points = clusters(N, dtype=np.float64) * [1, 1000, 1e5] + [0, 0, 1.7e9]
    source = write_parquet(tmp_path / "in", columns_of(points) | {"w": np.arange(N) % 3 + 0.5})
    for i, own in enumerate([("--scale", "standard"), ("--metric", "cosine"), ("--z", "1", "--scale", "standard")]):
        output = tmp_path / f"out{i}"
        assert summarize_files(source, output, *BASE, "--weight_column", "w", *own) == 0
        command = ["verify", "--input", source, "--coreset", str(output), "--weight_column", "w"]
        assert main([*command, "--csv", f"{tmp_path}/{i}.csv"]) == 0
        assert max(row[3] for row in measured(tmp_path / f"{i}.csv")) < 1.3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("options", "message"), [
    ("--input {source}", "coreset: must be given (--coreset), got nothing"),
    ("--coreset {output}", "input: must be given (--input), got nothing"),
    ("--input {source} --coreset {output}/no", "coreset: must hold a summaries table, got '{output}/no'"),
    ("--input {source}.no --coreset {output}", "input: must match at least one file"),
    ("--input {source} --coreset {output} --columns x0", "columns: must have those of the coreset (x0, x1, x2), got"),
])  # fmt: skip
def test_what_cannot_be_verified(run, capsys, options, message):
    source, output = run
    assert main(["verify", *options.format(source=source, output=output).split()]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: " + message.format(output=output))
    assert err.count("\n") == 1


def test_a_run_without_centers(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", {"x": np.full(20, np.nan)}, files=1)
    assert summarize_files(source, tmp_path / "out", "--k", "2", "--max_bad_rows", "20") == 0
    assert main(["verify", "--input", source, "--coreset", f"{tmp_path}/out"]) == 2
    assert "coreset: must have centers" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "nowhere/m.csv", "."])
def test_a_file_that_can_not_be_written_is_refused_before_the_data_are_read(run, name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(over_rows, "ReadBlocks", None)
    monkeypatch.chdir(tmp_path)
    source, output = run
    assert main(["verify", "--input", source, "--coreset", str(output), f"--csv={name}"]) == 2
    assert capsys.readouterr().err == f"error: csv: must be a file that can be written, got {name!r}\n"


def test_refused_rows_are_not_passed_over_in_silence(run, tmp_path, capsys):
    _, output = run
    points = clusters(N)
    points[7, 1] = np.nan
    bad = write_parquet(tmp_path / "in", columns_of(points))
    assert main(["verify", "--input", bad, "--coreset", str(output)]) == 1
    assert "at most 0 rows may be refused, got 1" in capsys.readouterr().err
    assert main(["verify", "--input", bad, "--coreset", str(output), "--max-bad-rows", "1"]) == 0


def test_measurements_replace_a_file_whole_and_go_into_what_is_none(run, tmp_path, monkeypatch):
    source, output = run
    words = ["verify", "--input", source, "--coreset", str(output), "--csv"]
    file, link = tmp_path / "m.csv", tmp_path / "link.csv"
    file.write_text("old\n" * 10_000)
    held = file.open()  # somebody who reads it goes on reading the old one
    monkeypatch.chdir(tmp_path)
    assert main([*words, "m.csv"]) == 0
    assert held.read() == "old\n" * 10_000
    text = file.read_text()
    assert text.startswith("centers,data,coreset,distortion\n")
    assert text.count("\n") == 15
    link.symlink_to(file)
    file.write_text("")
    assert main([*words, str(link)]) == 0
    assert link.is_symlink()
    assert file.read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "m.csv"]
