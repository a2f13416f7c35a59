"""--json and --quiet of every command: one object on standard output, everything else on standard error."""
import contextlib
import io
import json
import math
import re
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from documents import ROOT
from jobs import clusters, columns_of, rows_in, summarize_files, summary_row, write_parquet
from rich.console import Console
from windows_written import DAY, MINUTE, answer, minute, write

from beam_coresets.pipelines import stream
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions, plain, speaking
from beam_coresets.pipelines.main import WORDS, main
from beam_coresets.pipelines.results_folder.stream_folder import require_same_stream
from beam_coresets.pipelines.running import launch
from beam_coresets.pipelines.views import watch
from beam_coresets.streaming.windows import Window
from beam_coresets.times import iso, moment
from beam_coresets.transforms.writing.claims import Claims

ROWS = 600
PAST = 1760659200.0  # 2025-10-17
JOB = ("--k=4", "--shards=4", "--replication=2", "--coreset_size=40")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a batch's result of it, and a stream's folder with windows of three minutes."""
    folder = tmp_path_factory.mktemp("answers")
    source = write_parquet(folder / "in", columns_of(clusters(ROWS)))
    assert summarize_files(source, folder / "out", *JOB) == 0
    for i in range(3):
        write(folder / "windows", answer(minute(i), i, quick=False))
    return folder


def words_of(word, place, tmp_path):
    """A command that works."""
    data, out, windows = place / "in" / "*.parquet", place / "out", place / "windows"
    (tmp_path / "warehouse").mkdir()
    require_same_stream(Claims(f"{tmp_path}/past"), "60s", None)
    write(tmp_path / "past", answer(Window(PAST, PAST + MINUTE), 0))
    catalog = [f"uri=sqlite:///{tmp_path}/catalog.db", f"warehouse=file://{tmp_path}/warehouse"]
    found = {
        "summarize": [f"--input={data}", f"--output={tmp_path}/new", *JOB],
        "plan": ["--shards=10", "--tolerate=2", "--straggle-probability=0.1"],
        "rollup": [f"--input={windows}", f"--output={tmp_path}/new"],
        "solve": [f"--input={out}", f"--output={tmp_path}/new", "--k=2:4"],
        "compact": [f"{tmp_path}/past"],
        "compare": [str(windows)],
        "assign": [f"--input={data}", f"--centers={out}", f"--output={tmp_path}/new"],
        "register": [str(out), "--catalog", *catalog, "--table=a.b"],
        "report": [str(out), f"--output={tmp_path}/page.html"],
        "watch": [str(out), "--port=0"],
        "show": [str(out)],
        "stream": ["--rate=1000", "--k=3", "--shards=4", "--replication=2", "--window=60s", f"--output={tmp_path}/new"],
        "verify": [f"--input={data}", f"--coreset={out}"],
    }
    return [word, *found[word]]


def of_summarize(found, tmp_path, place):
    row, (said,) = summary_row(tmp_path / "new"), found["summaries"]
    assert {name: said[name] for name in ("points", "coverage", "cost", "stragglers", "window_end")} == {
        "points": ROWS, "coverage": 1.0, "cost": row["cost"], "stragglers": [], "window_end": None}  # fmt: skip
    assert found["tables"] == ["summaries", "centers", "coreset", "columns"]
    assert (found["refused_rows"], "evidence" in said) == (0, False)


def of_rollup(found, tmp_path, place):
    (said,) = found["summaries"]
    assert (said["window_start"], said["window_end"]) == ("2026-11-21T00:00:00Z", "2026-11-21T00:03:00Z")
    assert (said["points"], said["cost"]) == (1200, summary_row(tmp_path / "new")["cost"])


def of_plan(found, tmp_path, place):
    assert (found["scheme"], found["replication"], found["tolerates"]) == ("cyclic", 3, 2)
    assert {row["worst"] for row in found["losses"] if row["scheme"] == "cyclic" and row["stragglers"] <= 2} == {0.0}
    assert found["no_loss_probability"] == pytest.approx(1 - 10 * 0.1**3, abs=2e-3)


def of_solve(found, tmp_path, place):
    costs = [rows_in(tmp_path / "new" / f"k=0{k}", "summaries")[0]["cost"] for k in (2, 3, 4)]
    assert [(row["k"], row["cost"]) for row in found["summaries"]] == list(zip((2, 3, 4), costs, strict=True))


def of_compact(found, tmp_path, place):
    (period,) = found["periods"]
    files = {"files": 4, "files_before": 4}
    assert period == {"period": "day=2025-10-17", "windows": 1, **files, "damaged": []}


def of_compare(found, tmp_path, place):
    assert found["window"]["start"] == "2026-11-21T00:02:00+00:00"
    assert found["excess_low"] <= found["excess"] <= found["excess_high"]


def of_assign(found, tmp_path, place):
    assert (found["rows"], found["passes"], sum(each["rows"] for each in found["clusters"])) == (ROWS, 1, ROWS)
    assert found["cost"] == pytest.approx(sum(each["cost"] for each in found["clusters"]))


def of_register(found, tmp_path, place):
    (folder,) = found["folders"]
    assert (found["table"], folder["windows"], folder["files"], folder["before"]) == ("a.b", 1, 4, 0)


def of_report(found, tmp_path, place):
    assert found["page"] == str(tmp_path / "page.html")


def of_watch(found, tmp_path, place):
    assert found["page"].startswith("http://127.0.0.1:")


def of_show(found, tmp_path, place):
    assert found["summaries"][0]["cost"] == summary_row(place / "out")["cost"]


def of_verify(found, tmp_path, place):
    certificate, sets = found["certificate"], found["center_sets"]
    assert found["held"] == (certificate["cost_low"] <= found["cost"] <= certificate["cost_high"])
    assert found["distortion"] == max(each["distortion"] for each in sets) >= 1
    assert (sets[0]["centers"], sets[0]["data"]) == ("emitted", found["cost"])


CHECKS = {word: globals().get(f"of_{word}") for word in WORDS if word != "stream"}


@pytest.mark.parametrize("word", CHECKS)
def test_an_answer_is_one_object_or_nothing(word, place, tmp_path, capsys, monkeypatch):
    if word == "register":
        pytest.importorskip("pyiceberg")

    def stopped(self, interval):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.LiveServer, "serve_forever", stopped)
    words = words_of(word, place, tmp_path)
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    assert found["command"] == word
    CHECKS[word](found, tmp_path, place)
    assert (err == "") == (word == "plan")
    more = ["--overwrite"] if f"--output={tmp_path}/new" in words else []
    assert main([*words, *more, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


class DecidesAtOnce:
    """A job that has decided two windows before anybody looks, and goes on."""

    def __init__(self, pipeline):
        self.over, self.error = threading.Event(), None
        for i, missing in ((0, ()), (1, (1,))):
            assert Claims(pipeline.folder).publish(answer(minute(i), i, missing=missing))

    def stop(self):
        self.over.set()


@pytest.mark.parametrize("quiet", [False, True])
def test_a_stream_answers_a_line_a_window_and_one_in_the_end(tmp_path, capsys, monkeypatch, quiet):
    monkeypatch.setattr(launch, "Job", DecidesAtOnce)
    folder = str(tmp_path / "out")
    known = stream.StreamOptions(output=folder, max_windows=2, rate=1000.0, json=True, quiet=quiet)
    with speaking(known) as console:
        pipeline = types.SimpleNamespace(folder=folder, options=PipelineOptions())
        assert stream.follow(pipeline, Claims(folder), known, console) == 0
    out, err = capsys.readouterr()
    first, second, last = map(json.loads, out.splitlines())
    assert [(each["window_start"], each["stragglers"]) for each in (first, second)] == [
        (iso(DAY), []), (iso(DAY + MINUTE), [1])]  # fmt: skip
    assert [each["type"] for each in (first, second, last)] == ["window", "window", "end"]
    assert (last["windows"], last["points"]) == (2, first["points"] + second["points"])
    assert (err == "") == quiet
    assert quiet or "3 of 4" in err


@pytest.mark.parametrize("word", WORDS)
def test_a_refusal_leaves_standard_output_empty(word, capsys):
    for words in (["--json", "--quiet", "--verbose"], ["--json", "--no-such-option"]):
        with contextlib.suppress(SystemExit):
            assert main([word, *words]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err[:7]) == ("", 1, "error: ")


def test_what_json_has_no_word_for():
    when = moment("2026-11-21T08:00:00.5+02:00")
    held = {"a": math.nan, "b": [np.float32(0.5), np.int64(3), -math.inf], 3: np.array([[1.0, math.nan]])}
    assert plain(held) == {"a": None, "b": [0.5, 3, None], "3": [[1.0, None]]}
    assert iso(when) == "2026-11-21T06:00:00.500000Z"


def test_with_json_nobody_else_gets_to_standard_output(capsys):
    with speaking(TerminalOptions(json=True)) as console:
        print("a library's own words")
        Console().print("a table")
        console.print("a note")
        console.answer("word", text="\x1b[31m\u202e", number=math.nan)
    out, err = capsys.readouterr()
    assert out == '{"command": "word", "text": "\\u001b[31m\\u202e", "number": null}\n'
    assert err == "a library's own words\na table\na note\n"
    with speaking(TerminalOptions(json=True, quiet=True)) as console:
        console.print("a note")
        console.answer("word")
    assert capsys.readouterr() == ('{"command": "word"}\n', "")
    Terminal(file=io.StringIO()).answer("word")
    assert capsys.readouterr() == ("", "")


_SIGNALLED = """
import os, signal, sys, time
from beam_coresets.pipelines.running.launch import exit_code

def word():
    os.kill(os.getpid(), number)
    time.sleep(60)

usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
for number, handler in usual.items():
    signal.signal(number, handler)  # whoever started the tests may have it ignored, as nohup does
    print(exit_code(word), flush=True)
"""


def test_the_exit_codes_of_the_docs_are_those_of_the_code(place, capsys):
    section = (ROOT / "docs" / "operations.md").read_text().partition("| exit code | means |")[2].partition("\n\n")[0]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.M)]
    done = subprocess.run([sys.executable, "-c", _SIGNALLED], capture_output=True, text=True, timeout=120)
    signalled = [int(line) for line in done.stdout.split()]

    def fails():
        raise launch.JobError("the job failed")

    found = [main(["plan", "--json"]), launch.exit_code(fails), main(["plan", "--shards=0"]), launch.DRIFTED]
    assert listed == [*found, *signalled] == [0, 1, 2, 3, 129, 130, 143]
    assert main(["compact", str(place / "nowhere")]) == launch.REFUSED
