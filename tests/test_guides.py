"""The tutorial, the cookbook and the notebooks run as printed, and say what is so."""
import re
import struct
import subprocess
import sys

import pytest
from documents import ROOT, steps

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running.local import IN_PROCESS
from beam_coresets.transforms.writing.stored_tables import read_table

ANALYSTS = ("pandas", "polars", "duckdb", "sklearn", "matplotlib")


def follow(page, names, until=None):
    """Does what a page says, up to a command with this word; the exit codes of its commands, by their first words."""
    codes = {}
    for kind, step in steps(page):
        if until is not None and until in step:
            break
        if kind == "code":
            exec(compile(step.replace("beam.Pipeline()", f"beam.Pipeline({IN_PROCESS!r})"), page.name, "exec"), names)
        else:
            codes.setdefault(step[0], []).append(main(step))
    return codes


class Away:
    """Finds no modules of packages that are to be away."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ANALYSTS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def only_what_is_installed(monkeypatch):
    """Without what `pip install .` does not bring along, though the tests have it."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ANALYSTS]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Away, *sys.meta_path])


@pytest.mark.slow
def test_the_tutorial_runs_as_printed_up_to_the_stream(tmp_path, monkeypatch, only_what_is_installed):
    monkeypatch.chdir(tmp_path)
    names = {}
    codes = follow(ROOT / "docs/tutorial.md", names, until=".demo/out-stream")
    assert codes == {"summarize": [0], "report": [0, 0], "solve": [0, 0], "assign": [0]}
    (row,) = read_table("out", "summaries").to_pylist()
    assert (row["points"], row["coverage"], row["stragglers"]) == (30_000, 1.0, [1, 4])
    fares = names["window"].coreset.mean("fare")
    wide = fares.high - fares.low
    assert abs(fares.value - 4) < wide, "2 and a gamma's mean, 2; twice the interval: 1 seed in 10,000 misses"
    assert read_table("rows", "assigned").num_rows == 30_000
    assert all((tmp_path / folder / "report.html").stat().st_size > 5e5 for folder in ("out", "by-k"))


def test_pictures_are_a_thousand_pixels_wide_and_small():
    pictures = sorted((ROOT / "docs/images").glob("*.png"))
    assert pictures
    for picture in pictures:
        data = picture.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", data[16:20]) == (1000,)
        assert len(data) <= 150_000, picture.name


@pytest.mark.slow
def test_the_cookbook_runs_as_printed_one_after_the_other(tmp_path, monkeypatch, capsys, only_what_is_installed):
    monkeypatch.chdir(tmp_path)
    names = {}
    codes = follow(ROOT / "docs/cookbook.md", names)
    said = capsys.readouterr().out
    assert codes == {"summarize": [0] * 4, "compare": [3], "assign": [0], "solve": [0, 0]}
    copied = {f"today-{i}" for i in range(1_900, 2_000)}
    assert copied <= set(names["twins"])
    assert len(names["twins"]) <= 1.02 * len(copied), "different texts are no copies"
    vectors = dict(zip(names["ids"], names["vectors"], strict=True))
    kept = [vectors[name] for name in set(names["ids"]) - set(names["twins"])]
    assert len(kept) == 2_000 - len(names["twins"])
    kinds = names["today"]["kind"].to_pylist()
    assert f"forum {kinds.count('forum')} texts" in said
    assert max(row["weight"] for row in read_table("depots", "centers").to_pylist()) <= 900 * (1 + 1e-6)
    assert max(row["weight"] for row in read_table("out-places", "centers").to_pylist()) > 900, "the bound binds"
    alerts = [line for line in said.splitlines() if line.startswith("alert: ")]
    assert len(alerts) == 1
    assert "'km_east': 300.0" in alerts[0]


def run(name, folder):
    """What a notebook prints, run as a script."""
    done = subprocess.run([sys.executable, ROOT / f"docs/notebooks/{name}.py"], capture_output=True, text=True,
                          cwd=folder, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_notebook_of_embeddings_runs(tmp_path):
    said = run("embeddings", tmp_path)
    assert "coverage 100%, missing [1, 4]" in said
    assert re.search(r"true cost [\d,]+: inside", said), "seeded: 95 % of seeds are inside"
    costs = [float(cost) for cost in re.findall(r"^\d+ ([\d.]+) \(", said, re.M)]
    assert len(costs) == 3
    assert costs[0] > 1.5 * costs[1] > 1.4 * costs[2], "six topics"
    strange = re.search(r"\] \[([\d.]+) +([\d.]+) *\]$", said.strip())
    assert float(strange[1]) < 0.5
    assert float(strange[2]) > 0.999


@pytest.mark.slow
def test_the_notebook_of_a_streams_day_runs(tmp_path):
    said = run("stream_day", tmp_path)
    assert said.count("coverage 100%") == 12
    told = re.findall(r"^(\d\d:00) (The data differs|Center \w+ appeared)", said, re.M)
    assert [time for time, _ in told] == ["15:00", "15:00"]
    assert "\ndrift\n" in said
    assert "points=12,000 centers=4 coverage=1" in said
    assert (tmp_path / "out-day/report.html").read_text().startswith("<!doctype html>")
