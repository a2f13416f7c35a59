"""Real jobs on Flink's embedded cluster; they need the job server that `make test-flink` builds."""
import os
import pathlib

import pytest
from streaming_job import started

RELAY = pathlib.Path(__file__).parents[1] / "relay.py"


def pytest_configure(config):
    config.addinivalue_line("markers", "flink: runs jobs on Flink's embedded cluster; see `make test-flink`")
    config.addinivalue_line("markers", "cluster: runs jobs on a cluster of processes; see `make test-flink-cluster`")


@pytest.fixture(scope="session")
def jar():
    """The Flink job server."""
    path = os.environ.get("BEAM_CORESETS_FLINK_JAR")
    if not path:
        pytest.skip("needs Java and a Flink job server: `make test-flink` builds it and runs this")
    assert os.path.isfile(path), f"BEAM_CORESETS_FLINK_JAR: must be a file, got {path!r}"
    return path


@pytest.fixture
def on_flink(jar, tmp_path):
    """Starts a command on the embedded cluster, `on_flink("run 1", [script, ...])`: a StreamingJob, killed after."""
    flink = ["--runner=FlinkRunner", f"--flink_job_server_jar={jar}", "--flink_version=1.19"]
    with started(tmp_path, flink) as start:
        yield start


@pytest.fixture(scope="session")
def cluster(jar, tmp_path_factory):
    """A running cluster of three TaskManagers; whoever stops some of it sees to it that it is whole again."""
    from cluster import Cluster

    made = Cluster(jar, tmp_path_factory.mktemp("cluster"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def relay(on_flink, tmp_path):
    """Starts the relay of four shards, `relay("run 1", *options)`; its traces are in `tmp_path / "run 1" / "trace"`."""

    def start(name, *options):
        checkpoints = f"--checkpoint_dir={tmp_path / 'checkpoints'}"
        trace = f"--folder={tmp_path / name / 'trace'}"
        return on_flink(name, [RELAY, trace, checkpoints, "--checkpointing_interval=500", *options])

    return start
