"""What can't run on a cluster is said before or at submission, with the remedy."""
import pathlib
import sysconfig
import venv

import pytest
from broker import free_ports
from cluster import Cluster
from streaming_job import StreamingJob

pytestmark = [pytest.mark.flink, pytest.mark.cluster]


@pytest.fixture
def said(tmp_path):
    """Runs `stream` on generated points; (exit code, its last line)."""
    jobs = []

    def run(options, *more, output=None, seconds=90):
        words = ["-m", "beam_coresets.pipelines.main", "stream", *options, "--rate=1000", "--k=3", "--shards=3",
                 f"--output={output or tmp_path / 'out'}", *more]  # fmt: skip
        jobs.append(StreamingJob(words, tmp_path / f"run{len(jobs)}"))
        code = jobs[-1].wait(seconds)
        return code, jobs[-1].output.strip().splitlines()[-1]

    yield run
    for job in jobs:
        job.kill()


def without(options, name):
    return [word for word in options if not word.startswith(f"--{name}=")]


def test_a_job_server_of_another_version(cluster, said):
    code, line = said([*without(cluster.options, "flink_version"), "--flink_version=1.20"])
    assert (code, line[:72]) == (2, "error: flink_version: must be that of the job server jar, 1.19.0, got 1.20"[:72])


def test_a_cluster_of_another_version_or_none(cluster, said):
    """The jar of the job server may be anybody's; what counts is what the cluster says of itself."""
    options = without(without(cluster.options, "flink_version"), "flink_job_server_jar")
    code, line = said([*options, "--flink_version=2.0", f"--job_endpoint={cluster.pool}"])
    assert (code, line) == (2, "error: flink_version: must be that of the cluster, 1.19.0, got 2.0")
    (port,) = free_ports(1)
    code, line = said([*without(cluster.options, "flink_master"), f"--flink_master=127.0.0.1:{port}"])
    assert code == 2
    assert line.startswith(f"error: flink_master: must be where a Flink JobManager answers, got '127.0.0.1:{port}'")


def test_fewer_slots_than_shards(cluster, said):
    code, line = said(cluster.options, "--shards=4")
    assert (code, line) == (
        2, "error: parallelism: must be at most the 3 free of the cluster's 3 slots (start more TaskManagers, or let "
        "4 shards share slots with --parallelism=3), got 4",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["none", "silent"])
def test_no_worker_pool(cluster, said, kind):
    options = without(without(cluster.options, "environment_type"), "environment_config")
    if kind == "none":
        code, line = said(options)
        assert code == 2
        assert line.startswith("error: environment_type: must be EXTERNAL on a cluster, with --environment_config=")
        return
    (port,) = free_ports(1)
    pool = ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]
    code, line = said([*options, *pool])
    assert code == 2
    assert line.startswith("error: environment_config: must be a worker pool that answers (python -m apache_beam.")
    # as from elsewhere, where only the TaskManagers can ask it
    elsewhere = [*without(options, "flink_master"), f"--flink_master={cluster.master.replace('127.0.0.1', '0.0.0.0')}"]
    code, line = said([*elsewhere, *pool], seconds=240)
    assert code == 1
    assert line.startswith("error: environment_config: must be where a worker pool answers beside each TaskManager ")


def test_an_output_that_can_not_be_written(cluster, said, tmp_path):
    (tmp_path / "file").touch()
    code, line = said(cluster.options, output=tmp_path / "file" / "out")
    assert code == 2
    assert line.startswith("error: output: must be a folder that can be written, got ")


def test_workers_without_the_package(jar, tmp_path, said):
    """Their Python has everything but this package."""
    venv.create(tmp_path / "bare", symlinks=True)
    (there,) = (tmp_path / "bare/lib").glob("python*/site-packages")
    for entry in pathlib.Path(sysconfig.get_path("purelib")).iterdir():
        if "beam_coresets" not in entry.name:
            (there / entry.name).symlink_to(entry)
    cluster = Cluster(jar, tmp_path / "cluster", python=str(tmp_path / "bare/bin/python"))
    try:
        cluster.start()
        code, line = said(cluster.options, seconds=300)
    finally:
        cluster.close()
    assert code == 1
    assert line.startswith("error: workers: must have beam-coresets ")
