"""What is said of a job server jar and a worker pool before anything is submitted; clusters: tests/flink."""
import socket
import zipfile

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_coresets.pipelines.running.flink_cluster import FlinkCluster, require_jar, require_pool
from beam_coresets.pipelines.running.runners import cluster_of, coordinators_of, domains_of

DRIVER = "org/apache/beam/runners/flink/FlinkJobServerDriver.class"
ON_CLUSTER = ["--runner=FlinkRunner", "--flink_master=localhost:8081"]


def jar(path, version=None, driver=DRIVER):
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(driver, b"")
        if version:
            made.writestr(".flink-runtime.version.properties", f"# by a build\nproject.version={version}\n")
    return str(path)


def test_a_job_server_is_for_one_version_of_flink(tmp_path):
    require_jar(jar(tmp_path / "a.jar", "1.19.0"), "1.19")
    require_jar(jar(tmp_path / "b.jar"), "1.19")
    message = r"^flink_version: must be that of the job server jar, 1\.19\.0, got "
    for version in ("1.1", "1.20", "2.0"):
        with pytest.raises(ValueError, match=message + version):
            require_jar(jar(tmp_path / "c.jar", "1.19.0"), version)


def test_another_file_is_no_job_server(tmp_path):
    (tmp_path / "text.jar").write_text("no jar")
    with pytest.raises(ValueError, match=r"^flink_job_server_jar: must be a jar, got '.*text.jar'$"):
        require_jar(str(tmp_path / "text.jar"), "1.19")
    with pytest.raises(ValueError, match=r"^flink_job_server_jar: must be Beam's job server \(make job-server\), got"):
        require_jar(jar(tmp_path / "other.jar", driver="Main.class"), "1.19")


def test_a_worker_pool_on_this_machine_must_answer():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        with pytest.raises(ValueError, match=r"^environment_config: must be a worker pool that answers .* got '127"):
            require_pool(f"127.0.0.1:{port}")
        listening.listen()
        require_pool(f"127.0.0.1:{port}")
    require_pool("workers.example:50000")  # whether it answers its TaskManager can't be seen from here
    with pytest.raises(ValueError, match=r"^environment_config: must be HOST:PORT of a worker pool, got 'localhost'$"):
        require_pool("localhost")


def test_what_is_on_this_machine_goes_by_its_name():
    names = {"localhost:8081": True, "http://127.0.0.1:8081": True, "[::1]:8081": True, "jobmanager:8081": False}
    assert {name: FlinkCluster(name).is_local for name in names} == names


@pytest.mark.parametrize(("words", "wanted", "replicas"), [
    ([], None, 1), (["--runner=FlinkRunner"], None, 1), (ON_CLUSTER, None, 2), (ON_CLUSTER, 1, 1), (ON_CLUSTER, 3, 3),
    ([*ON_CLUSTER, "--parallelism=1"], None, 1), (["--runner=DataflowRunner"], None, 2),
])  # fmt: skip
def test_two_coordinators_on_clusters_unless_it_is_said_otherwise(words, wanted, replicas):
    options = PipelineOptions(words)
    found, lines = coordinators_of(options, 3, wanted)
    assert found == replicas
    assert any(line.startswith("placement = ") for line in lines) == ("--runner=DataflowRunner" in words)
    assert (cluster_of(options) is not None) == (words[:2] == ON_CLUSTER)


def test_more_coordinators_than_workers_are_refused():
    with pytest.raises(ValueError, match=r"^coordinator_replicas: must be from 1 to the 2 workers, got 3$"):
        coordinators_of(PipelineOptions([*ON_CLUSTER, "--parallelism=2"]), 6, 3)


def test_shards_that_share_a_worker_share_its_fate():
    assert domains_of(PipelineOptions([*ON_CLUSTER, "--parallelism=2"]), 5) == (0, 1, 0, 1, 0)
    assert domains_of(PipelineOptions(ON_CLUSTER), 5) is None
