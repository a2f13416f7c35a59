"""What `beam-coresets stream` refuses before anything runs: one line and exit code 2."""
import json
import os
import pathlib
import subprocess
import sys

import pyarrow as pa
import pytest

from beam_coresets.pipelines import stream
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.stream_options import StreamOptions, skipped_of, source_of, warnings_of
from beam_coresets.pipelines.main import main
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.streams.source import notes_of

FLINK = ("--runner=FlinkRunner", f"--flink_job_server_jar={__file__}", "--flink_master=localhost:1")
SOURCES = "topic, pubsub_subscription, rate, input: must be one of them"
RATE = ("--rate=1000", "--k=3", "--shards=4")


def refused(capsys, tmp_path, *words, runner=FLINK):
    """The one line about what can't work."""
    assert main(["stream", f"--output={tmp_path / 'out'}", *map(str, words), *runner]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not (tmp_path / "out").exists()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(("words", "message"), [
    (["--rate=1000"], "k: must be given (--k), got nothing"),
    (["--k=0", "--rate=1000"], "k: must be"),
    (["--k=3"], f"{SOURCES}, got none"),
    ([*RATE, "--topic=points"], f"{SOURCES}, got topic, rate"),
    ([*RATE, "--explain"], "explain: must be left out of a stream, got True"),
    ([*RATE, "--overwrite"], "overwrite: must be left out of a stream, got True"),
    ([*RATE, "--buckets=64"], "buckets: must be left out of a stream, got 64"),
    ([*RATE, "--start=earliest"], "start: must be left out with --rate, got earliest"),
    ([*RATE, "--window=global/5s", "--revise"], "revise: must be left out of a running summary"),
    ([*RATE, "--min-shards=5"], "min_shards: must be from 1 to 4 shards, got 5"),
    ([*RATE, "--min-shards=0"], "min_shards: must be"),
    ([*RATE, "--deadline=5s", "--cap=500ms"], "cap: must be at least grace = 1 s, got 0.5"),
    ([*RATE, "--hold-shards", "4:1s:2s"], "hold_shards: must be from 0 to 3, got 4"),
    ([*RATE, "--drop-shards=1"], "drop_shards: must be left out of a stream (hold_shards), got (1,)"),
    ([*RATE, "--window=60s/7s"], "window: must be a multiple of its period 7 s if sliding, got 60 s"),
    ([*RATE, "--window=global"], "window: must say how often it reports, as in global/30s, got 'global'"),
    ([*RATE, "--window=0s"], "window: must be positive and in whole milliseconds, got 0 s"),
    ([*RATE, "--half-life=60s"], "half_life: must be left out unless the window is global, got 60"),
    ([*RATE, "--key-groups=2"], "key_groups: must be left out without key_column, got 2"),
    ([*RATE, "--replication=5"], "replication: must be"),
    (["--rate=-1", *RATE[1:]], "rate: must be positive, got -1"),
    ([*RATE, "--max-parts=4"], "max_parts: must be at least the 8 parts there are, got 4"),
    ([*RATE, "--scale=standard"], "scale: must be none for a stream, which takes --scale-file, got 'standard'"),
    ([*RATE, "--scale-file=none.json"], "scale_file: must be a scale.json, got 'none.json'"),
    ([*RATE, "--init-centers=nowhere"], "init_centers: must hold a centers table, got 'nowhere'"),
    (["--k=3", "--topic=points"], "bootstrap_servers: must be given, here or in --kafka-config, got nothing"),
    (["--k=3", "--input=x-*.parquet", "--key-column=a"], "key_column: must be left out for files, got 'a'"),
    (["--k=3", "--input", "a.csv", "b.csv"], "input: must be one glob for a stream, got 2"),
])  # fmt: skip
def test_what_can_not_work_is_said_in_one_line(capsys, tmp_path, words, message):
    assert refused(capsys, tmp_path, *words).startswith(message)


@pytest.mark.parametrize(("words", "message"), [
    (["--message-format=avro"], "schema: must be given for 'avro' messages"),
    (["--start=yesterday"], "start: must be 'earliest', 'latest', 'committed', seconds, an ISO time or offsets"),
    (["--start=none.json"], "start: must be a JSON file of offsets by partition, got 'none.json'"),
    (["--start=committed", "--window=global/5s"], "start: must not be committed for a running summary"),
    (["--group="], "topic, group: must not be empty, got 'points', ''"),
    (["--kafka-config=none.properties"], "kafka_config: must be a file, got 'none.properties'"),
    (["--output-topic=t", "--output-config=none.txt"], "output_config: must be a file, got 'none.txt'"),
])  # fmt: skip
def test_what_can_not_be_read_from_kafka_is_said_in_one_line(capsys, tmp_path, words, message):
    pytest.importorskip("confluent_kafka")
    given = ["--k=3", "--topic=points", "--bootstrap_servers=127.0.0.1:1", "--columns=a,b", *words]
    assert refused(capsys, tmp_path, *given).startswith(message)


@pytest.mark.parametrize(("runner", "message"), [
    (["--runner=FlinkRunner", "--flink_job_server_jar=none.jar"], "flink_job_server_jar: must be a file, got"),
    (["--runner=PrismRunner", "--prism_location=none"], "prism_location: must be a file, got 'none'"),
    (["--runner=PrismRunner"], "prism_location: must be given or prism be on PATH (go install "),
    ([], "runner: must be --runner=PrismRunner --prism_location=PATH (a Prism by `go install "),
    ([*FLINK, "--resume-from=nowhere"], "resume_from: must be a folder with a checkpoint's _metadata in it (chk-N)"),
    (["--runner=PrismRunner", "--checkpoint-dir=x"], "checkpoint_dir: must be left out unless --runner=FlinkRunner"),
])  # fmt: skip
def test_a_runner_that_is_not_there_is_said_in_one_line(capsys, tmp_path, monkeypatch, runner, message):
    monkeypatch.setenv("PATH", os.pathsep.join(str(folder) for folder in _without_prism()))
    assert refused(capsys, tmp_path, *RATE, runner=runner).startswith(message)


def _without_prism():
    folders = map(pathlib.Path, os.environ["PATH"].split(os.pathsep))
    return [folder for folder in folders if not (folder / "prism").exists()]


def test_a_runner_that_can_not_stream_is_not_tried(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.pathsep.join(str(folder) for folder in _without_prism()))
    assert refused(capsys, tmp_path, *RATE, runner=["--runner=DirectRunner"]).startswith("runner: must be ")


@pytest.mark.parametrize("option", ["--deadline=soon", "--hold_shards=2", "--window_size=5s"])
def test_options_that_say_nothing_are_usage_errors(capsys, option):
    with pytest.raises(SystemExit) as stop:
        main(["stream", *RATE, "--output=out", option])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_without_the_kafka_client_the_remedy_is_said(tmp_path):
    code = "import sys; sys.modules['confluent_kafka'] = None; from beam_coresets.pipelines.main import main; "
    words = ["stream", "--k=3", "--topic=t", "--bootstrap_servers=x:1", f"--output={tmp_path}", *FLINK]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(main({json.dumps(words)}))"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: topic: must have the extra (pip install 'beam-coresets[kafka]'), got ")


@pytest.mark.parametrize(("window", "deadline", "waiting"), [
    ("5s", "5s", None), ("60s", "5s", None), ("global/5s", "1s", None), ("2s", "5s", "4 windows"),
    ("60s/5s", "6s", "3 windows"),
])  # fmt: skip
def test_a_window_shorter_than_the_deadline_is_warned_of(window, deadline, waiting):
    words = [*RATE, f"--window={window}", f"--deadline={deadline}"]
    known, _ = options.parse(words, "stream", StreamOptions)
    found = warnings_of(known)
    assert [waiting in line for line in found] == ([] if waiting is None else [True])


@pytest.mark.parametrize(("points", "most", "shown"), [
    ([0, 5, 6, 7], 2, [0, 5, 6]), ([5, 0, 6, 7], 2, [5, 0]), ([0, 0, 6, 7], 2, [0, 0, 6]), ([3, 4], None, [3, 4]),
])  # fmt: skip
def test_an_empty_first_window_counts_for_nothing(points, most, shown):
    class Decided:
        def own_since(self, seen):
            names = [f"{1000 + 10 * i}-{1010 + 10 * i}" for i in range(len(points))]
            return [name for name in names if name not in seen]

        def read(self, name, table):
            return pa.table({"points": [points[(int(name[:4]) - 1000) // 10]]})

    class Screen:
        def show(self, summaries):
            pass

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "place_of", lambda name: tuple(map(float, name.split("-"))))
        stream._show(Decided(), set(), found, most, Screen())
    assert list(found.values()) == shown
    assert (len(found) >= stream._limit(most, found)) == (most is not None)


def test_a_slow_rate_makes_small_messages_and_files_say_what_is_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("x,name,y\n1,a,2\n")
    for rate, parts, rows in (("500", "8", 15), ("1", "8", 1), ("1000000", "8", 1000)):
        made = source_of(StreamOptions(rate=float(rate), parts=int(parts)))
        assert (made.rows, made.period <= max(0.26, 8 / made.rate)) == (rows, True)
    assert notes_of(source_of(StreamOptions(input=(str(tmp_path),)))) == ("columns: x, y; left out: name (string)",)


def test_windows_that_a_new_start_leaves_out_are_named():
    def said(start, ends=(120.0, 60.0), **more):
        known = StreamOptions(topic="t", start=start, output="out", **more)
        return skipped_of(known, [Window(end - 60, end).name for end in ends])

    (line,) = said("latest")
    assert "1970-01-01T00:02:00Z" in line
    assert "--start committed" in line
    assert said("1970-01-01T00:05:00Z")
    assert said("latest", ends=()) == said("committed") == said("earliest") == said("100") == said("offsets.json") == []
    assert said("latest", resume_from="chk-1") == []
