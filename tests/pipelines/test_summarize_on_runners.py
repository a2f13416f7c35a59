"""`summarize` on other runners than the local one: what is set, what is refused before anything is submitted. What runs
is in tests/flink/test_batch_on_cluster.py."""
import types

import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)
from jobs import clusters, columns_of, summarize_files, write_parquet

from beam_coresets.pipelines.running import launch, runners
from beam_coresets.transforms.summarize_parts import NEVER, OnTime
from beam_coresets.transforms.writing.claims import Claims

BASE = ("--k", "4", "--shards", "6", "--replication", "3", "--coreset_size", "60", "--columns", "x0,x1,x2")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("points"), columns_of(clusters(300)))


@pytest.fixture
def java(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "java").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))


class FakeCluster:
    master, free_slots = "there:8081", 3


@pytest.mark.parametrize(("options", "message"), [
    (("--streaming",), "streaming: must be left out without --shard-readers, got it"),
    (("--streaming", "--shard_readers", "--detach"),
     "detach: must be left out with --streaming (who waits ends the job), got it"),
    (("--streaming", "--shard_readers", "--drop_shards", "1"),
     "deadline: must be given with --streaming and --drop-shards 1, got nothing"),
    (("--streaming", "--shard-readers", "--epsilon", "0.1"), "epsilon: must be left out with --streaming, got 0.1"),
    (("--streaming", "--shard-readers", "--deadline", "0s"), "deadline: must be positive, got 0 s"),
    (("--detach",), "detach: must be left out unless the job goes to a cluster (it would end at once), got it"),
])  # fmt: skip
def test_what_does_not_go_together(source, tmp_path, options, message, capsys):
    base = BASE[:6] + BASE[8:] if "--epsilon" in options else BASE
    assert summarize_files(source, tmp_path / "out", *base, *options) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_runners_that_cannot_stream_are_refused_as_by_a_stream(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert summarize_files(source, tmp_path / "out", *BASE, "--streaming", "--shard_readers") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: runner: must be --runner=PrismRunner")
    assert error.endswith("for a stream, got none that streams\n")


def test_explain_shows_who_decides_on_time(source, capsys):
    from beam_coresets.pipelines.summarize import main

    assert main(["--input", source, *BASE, "--streaming", "--shard_readers", "--explain"]) == 0
    assert "CoordinateStream" in capsys.readouterr().out


def test_a_batch_job_gets_what_slots_there_are(java, monkeypatch):
    monkeypatch.setattr(runners, "cluster_of", lambda options: FakeCluster)
    options = PipelineOptions(["--runner=FlinkRunner", "--flink_master=there:8081", "--environment_type=EXTERNAL"])
    (line,) = runners.prepare_batch(options, 8)
    assert line == "parallelism = 3: a slot for each shard, as far as there are free ones"
    assert options.view_as(FlinkRunnerOptions).parallelism == 3
    assert runners.prepare_batch(options, 8) == [], "what is set stays"
    assert runners.prepare_batch(PipelineOptions(["--runner=DataflowRunner"]), 8) == []


def test_a_batch_job_on_the_embedded_cluster_has_its_workers_here(java, monkeypatch):
    monkeypatch.setattr(runners.os, "cpu_count", lambda: 4)
    options = PipelineOptions(["--runner=FlinkRunner"])
    lines = runners.prepare_batch(options, 2)
    assert [line.split(" = ")[0] for line in lines] == ["environment_type", "parallelism"]
    assert options.view_as(PortableOptions).environment_type == "LOOPBACK"
    assert options.view_as(FlinkRunnerOptions).parallelism == 2


def test_checkpoints_of_a_job_that_ends_do_not_outlive_it(java, tmp_path):
    options = PipelineOptions(["--runner=FlinkRunner"])
    lines = runners.prepare_streaming(options, 2, str(tmp_path), resumable=False)
    assert not [line for line in lines if "externalized" in line]


def test_a_template_is_written_and_no_job_submitted():
    options = PipelineOptions(["--runner=DataflowRunner", "--template_location=gs://b/t", "--project=p"])
    pipeline = types.SimpleNamespace(options=options, runner=None, run=lambda: None)
    assert launch.submit(pipeline, None) == "a template is written to gs://b/t"
    options.view_as(GoogleCloudOptions).template_location = None
    options.view_as(GoogleCloudOptions).job_name = "mine"
    assert launch.submit(pipeline, None) == "job mine is submitted to Dataflow"


def test_how_long_shards_are_waited_for(tmp_path):
    claims = Claims(str(tmp_path))
    some = OnTime(claims, 1000.0, 10.0, 2).patience(5)
    assert (some.deadline, some.min_shards) == (10.0, 2)
    all_of_them = OnTime(claims, 1000.0).patience(5)
    assert (all_of_them.min_shards, all_of_them.cap) == (5, NEVER)
    assert (OnTime(claims, 0.0).gone(0.0, 0.0, ""), OnTime(claims, 0.0).winner(0.0, 0.0, "")) == (False, None)
    with pytest.raises(ValueError, match="deadline: must be positive, got 0"):
        OnTime(claims, 0.0, 0.0)
