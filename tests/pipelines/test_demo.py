"""The demonstration, on little data."""
import subprocess
import sys

import pytest
from jobs import rows_in, summary_row

from beam_coresets.pipelines.demos import batch as demo


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "FILES", 2)
    monkeypatch.setattr(demo, "FILE_ROWS", 5000)


def test_it_writes_summarizes_verifies_and_compares(small, tmp_path, capsys):
    assert demo.main(["--folder", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("writing 10,000 points", "8 of 10 shards; missing: 1, 4", "distortion: ", "emitted centers: cost",
                 "true center", "distance / cluster deviation"):  # fmt: skip
        assert text in out
    assert f"beam-coresets summarize --input '{tmp_path}/points/*.parquet' --output {tmp_path}/out --k 20" in out
    assert out.splitlines()[-1] == f"Page: {tmp_path / 'out' / 'report.html'}"
    assert (tmp_path / "out" / "report.html").stat().st_size > 500_000
    row = summary_row(tmp_path / "out")
    assert (row["coverage"], row["points"], row["centers"]) == (1.0, 10_000, 20)
    assert len(rows_in(tmp_path / "out", "centers")) == 20
    assert sorted(p.name for p in (tmp_path / "points").iterdir()) == ["points-0.parquet", "points-1.parquet"]


def test_the_points_are_kept_for_next_time_and_are_the_same(small, tmp_path, capsys):
    from rich.console import Console

    console = Console()
    demo.write_points(tmp_path / "a", console)
    demo.write_points(tmp_path / "b", console)
    first = (tmp_path / "a" / "points-1.parquet").read_bytes()
    assert (tmp_path / "b" / "points-1.parquet").read_bytes() == first
    capsys.readouterr()
    before = (tmp_path / "a" / "points-1.parquet").stat().st_mtime_ns
    demo.write_points(tmp_path / "a", console)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "a" / "points-1.parquet").stat().st_mtime_ns == before


LOUD = """
import importlib, logging, runpy, sys, types
def of_a_loud_package(name):
    logging.warning("not found")
    return types.SimpleNamespace(main=lambda args: print(args) or 4)
importlib.import_module = of_a_loud_package
sys.argv[1:] = ["batch", "--folder", "x"]
runpy.run_module("beam_coresets.pipelines.demos", run_name="__main__")
"""


def test_what_other_packages_say_while_they_are_imported_is_not_shown():
    done = subprocess.run([sys.executable, "-c", LOUD], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (4, "['--folder', 'x']\n", "")


def test_a_demo_that_is_not_there_is_an_error():
    command = [sys.executable, "-m", "beam_coresets.pipelines.demos", "kafka"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (2, "error: demo: must be one of batch, stream, got kafka\n")


def test_a_failing_word_ends_it(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.verify, "main", lambda argv: 1)
    assert demo.main(["--folder", str(tmp_path)]) == 1
    assert "true center" not in capsys.readouterr().out
