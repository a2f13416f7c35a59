"""Runner settings: what is set, what the user's own word keeps, what can't work. See tests/flink, tests/prism too."""
import argparse
import os
import pathlib
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    StandardOptions,
)
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.testing.util import assert_that, equal_to

from beam_coresets.pipelines.running.local import local_by_default
from beam_coresets.pipelines.running.runners import (
    FlinkStreamingOptions,
    add_runner_options,
    parallelism_of,
    prepare_streaming,
)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH of one folder; `programs("java")` puts an empty program into it."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name):
        (folder / name).touch(mode=0o755)
        return str(folder / name)

    return add


def flink(programs, *more):
    programs("java")
    return PipelineOptions(["--runner=FlinkRunner", *more])


def config(options):
    (file,) = pathlib.Path(options.view_as(FlinkStreamingOptions).flink_conf_dir).iterdir()
    return dict(line.split(": ", 1) for line in file.read_text().splitlines() if ": " in line)


def checkpoint(folder):
    folder.mkdir(parents=True)
    (folder / "_metadata").write_bytes(b"x")
    return folder


def test_flink_gets_what_a_stream_needs_and_says_so(programs, tmp_path):
    options = flink(programs)
    lines = prepare_streaming(options, 6, checkpoint_dir=str(tmp_path))
    known = options.get_all_options(drop_default=True)
    assert known["streaming"] is True
    assert known["parallelism"] == 6
    assert known["max_parallelism"] == 128
    assert known["environment_type"] == "LOOPBACK"
    assert known["checkpointing_interval"] == 5000
    assert known["max_bundle_time_mills"] == 50
    assert known["unaligned_checkpoint_enabled"] is True
    assert known["finish_bundle_before_checkpointing"] is True
    assert known["fail_on_checkpointing_errors"] is False
    written = config(options)
    assert written["taskmanager.network.memory.max-buffers-per-channel"] == "400"
    assert written["state.checkpoints.dir"] == tmp_path.as_uri()
    shown = {line.split(" = ")[0] for line in lines}
    assert set(written) | (set(known) - {"runner", "flink_conf_dir"}) <= shown
    assert all(": " in line for line in lines)


def test_the_job_server_gets_the_settings_under_its_names(programs):
    options = flink(programs)
    prepare_streaming(options, 2)
    sent = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    assert sent["beam:option:max_bundle_time_mills:v1"] == "50"
    assert sent["beam:option:finish_bundle_before_checkpointing:v1"] is True
    assert sent["beam:option:fail_on_checkpointing_errors:v1"] is False
    assert "beam:option:savepoint_path:v1" not in sent


def test_what_the_user_sets_stays(programs):
    given = ["--checkpointing_interval=700", "--unaligned_checkpoint_enabled=false", "--parallelism=3",
             "--max_parallelism=64", "--environment_type=PROCESS", "--finish_bundle_before_checkpointing"]  # fmt: skip
    options = flink(programs, *given)
    lines = prepare_streaming(options, 6)
    assert options.view_as(FlinkStreamingOptions).checkpointing_interval == 700
    assert options.view_as(FlinkStreamingOptions).unaligned_checkpoint_enabled is False
    assert options.view_as(PortableOptions).environment_type == "PROCESS"
    assert parallelism_of(options, 6) == (3, 64)
    names = {line.split(" = ")[0] for line in lines}
    assert not names & {"checkpointing_interval", "unaligned_checkpoint_enabled", "environment_type", "max_parallelism"}
    assert "parallelism = 3, as given: shards share slots, and a stuck one stops its neighbours" in lines


def test_many_shards_get_key_groups_enough(programs):
    options = flink(programs)
    prepare_streaming(options, 200)
    assert parallelism_of(options, 200) == (200, 256)


def test_on_a_cluster_its_own_folders_and_memory_stay(programs):
    options = flink(programs, "--flink_master=localhost:8081", "--environment_type=EXTERNAL")
    prepare_streaming(options, 4)
    written = config(options)
    assert "restart-strategy.type" in written
    assert not [key for key in written if key.startswith(("taskmanager.", "state."))]
    assert options.view_as(PortableOptions).environment_type == "EXTERNAL"


@pytest.mark.parametrize("form", ["folder", "file", "uri"])
def test_a_resumed_job_is_told_where_from(programs, tmp_path, form):
    folder = checkpoint(tmp_path / "job" / "chk-7")
    word = {"folder": str(folder), "file": str(folder / "_metadata"), "uri": folder.as_uri()}[form]
    options = flink(programs)
    prepare_streaming(options, 4, resume_from=word)
    assert config(options)["execution.savepoint.path"] == folder.as_uri()
    assert options.view_as(FlinkStreamingOptions).savepoint_path == folder.as_uri()


def test_the_users_own_configuration_folder_is_kept_and_wins(programs, tmp_path):
    text = "taskmanager.memory.network.max: 99m\nexecution:\n  checkpointing:\n    timeout: 3 min\n"
    (tmp_path / "config.yaml").write_text(text)
    options = flink(programs, f"--flink_conf_dir={tmp_path}")
    lines = prepare_streaming(options, 4)
    written = pathlib.Path(options.view_as(FlinkStreamingOptions).flink_conf_dir, "config.yaml").read_text()
    assert written.endswith(text)
    assert written.count("taskmanager.memory.network.max:") == 1
    assert not [line for line in lines if line.startswith("taskmanager.memory.network.max")]
    assert (tmp_path / "config.yaml").read_text() == text


def test_a_prism_on_the_path_runs_streams_without_a_runner(programs):
    location = programs("prism")
    options = PipelineOptions([])
    lines = prepare_streaming(options, 4)
    assert options.view_as(StandardOptions).runner == "PrismRunner"
    assert options.view_as(StandardOptions).streaming is True
    assert options.view_as(PrismRunnerOptions).prism_location == location
    assert any(line.startswith("runner = PrismRunner") for line in lines)


def test_dataflow_gets_its_streaming_engine():
    options = PipelineOptions(["--runner=DataflowRunner"])
    prepare_streaming(options, 4)
    assert options.view_as(GoogleCloudOptions).enable_streaming_engine is True


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        ([], {}, "runner: must be --runner=PrismRunner --prism_location=PATH .*go install.* or --runner=FlinkRunner"),
        (["--runner=DirectRunner"], {}, "runner: must be --runner=PrismRunner"),
        (["--runner=PrismRunner"], {}, "prism_location: must be given or prism be on PATH .*go install"),
        (["--runner=PrismRunner", "--prism_location=no/prism"], {}, "prism_location: must be a file, got 'no/prism'"),
        (["--runner=PrismRunner"], {"resume_from": "x"}, "resume_from: must be left out unless --runner=FlinkRunner"),
        (["--runner=DataflowRunner"], {"checkpoint_dir": "x"}, "checkpoint_dir: must be left out unless"),
        (["--runner=FlinkRunner"], {}, "job_server_java_launcher: must be a program .*Java 11.*, got 'java'"),
        (["--runner=FlinkRunner", "--flink_job_server_jar=no.jar"], {}, "flink_job_server_jar: must be a file, got"),
    ],
)
def test_what_cannot_work_is_said_first(programs, words, more, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        prepare_streaming(PipelineOptions(words), 4, **more)


def test_flink_wants_shards_and_a_checkpoint_that_is_there(programs, tmp_path):
    with pytest.raises(ValueError, match=r"^resume_from: must be a folder with a checkpoint's _metadata"):
        prepare_streaming(flink(programs), 4, resume_from=str(tmp_path))
    with pytest.raises(ValueError, match=r"^flink_conf_dir: must be a folder with config.yaml"):
        prepare_streaming(flink(programs, f"--flink_conf_dir={tmp_path / 'none'}"), 4)
    with pytest.raises(ValueError, match=r"^shards: must be at least 1, got 0"):
        prepare_streaming(flink(programs), 0)


def test_the_options_of_the_command_line():
    parser = argparse.ArgumentParser()
    add_runner_options(parser)
    known = parser.parse_args(["--checkpoint_dir=a", "--resume_from=b"])
    assert (known.checkpoint_dir, known.resume_from) == ("a", "b")
    with pytest.raises(SystemExit):
        PipelineOptions(["--unaligned_checkpoint_enabled=perhaps"]).view_as(FlinkStreamingOptions)


def test_a_job_server_that_is_given_is_what_runs(programs, tmp_path):
    """Beam fetches one from the internet otherwise."""
    from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

    jar = tmp_path / "job-server.jar"
    jar.touch()
    options = flink(programs, f"--flink_job_server_jar={jar}")
    prepare_streaming(options, 2)
    assert FlinkJarJobServer(options).path_to_jar() == str(jar)
    assert options.view_as(FlinkRunnerOptions).flink_job_server_jar == os.fspath(jar)


class Slow:
    pass


class SlowCoder(beam.coders.Coder):
    """Takes longer to encode an element than Beam waits before it sends what it has."""

    def encode(self, value):
        time.sleep(1.5)
        return b"slow"

    def decode(self, encoded):
        assert encoded == b"slow"
        return Slow()

    def is_deterministic(self):
        return True


beam.coders.registry.register_coder(Slow, SlowCoder)


def test_workers_of_one_process_send_whole_elements():
    options = local_by_default(PipelineOptions(["--direct_num_workers=2", "--direct_running_mode=multi_threading"]))
    with beam.Pipeline(options=options) as pipeline:
        counts = (
            pipeline
            | beam.Create(range(4))
            | beam.Map(lambda i: (i, Slow())).with_output_types(tuple[int, Slow])
            | beam.GroupByKey()
            | beam.MapTuple(lambda i, all_of: (i, len(list(all_of))))
        )
        assert_that(counts, equal_to([(i, 1) for i in range(4)]))
