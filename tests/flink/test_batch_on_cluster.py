"""`summarize` on a real cluster: the bytes of the local runner; with --streaming, a worker that stands still is left
behind."""
import numpy as np
import pyarrow as pa
import pytest
from cluster import go_on, stop
from jobs import clusters, columns_of, rows_in, summarize_files, summary_row, write_parquet
from streaming_job import started

from beam_coresets import table_schemas, tables
from beam_coresets.transforms.writing.stored_tables import files_of

pytestmark = [pytest.mark.flink, pytest.mark.cluster]
N = 6000
BASE = ["--k=4", "--shards=3", "--replication=2", "--coreset_size=60", "--columns=x0,x1,x2"]
ON_TIME = [*BASE, "--shard_readers", "--streaming"]
LINES = 250_000  # of each file of the slow source
PATIENCE = 300.0  # a batch job's stages start their workers anew, and the machine may be busy


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("points"), columns_of(clusters(N)))


@pytest.fixture(scope="module")
def slow_source(tmp_path_factory):
    """Six files of JSON lines, which take a shard some seconds."""
    folder = tmp_path_factory.mktemp("lines")
    for i in range(6):
        lines = b"\n".join(tables.json_lines(pa.table(columns_of(clusters(LINES, seed=i)))))
        (folder / f"part-{i}.jsonl").write_bytes(lines + b"\n")
    return f"{folder}/part-*.jsonl"


@pytest.fixture
def command(cluster, tmp_path):
    """Starts `summarize` on the cluster, `command("name", source, *options)`; its output is `tmp_path / "name"`."""
    with started(tmp_path / "jobs", cluster.options) as start:
        yield lambda name, source, *options: start(
            name, ["-m", "beam_coresets.pipelines.main", "summarize", f"--input={source}",
                   f"--output={tmp_path / name}", *options]
        )  # fmt: skip
    for worker in cluster.workers().values():
        go_on(worker)
    for job in cluster.jobs():
        cluster.cancel(job)
    cluster.wait_for(cluster.has_all_slots, "all slots")


def written(output):
    """Name -> content of the tables' files."""
    return {
        path.removeprefix(str(output)): open(path, "rb").read()
        for table in (*table_schemas.TABLES, "dead_letters")
        for path in files_of(str(output), table)
    }


@pytest.mark.parametrize("readers", [[], ["--shard_readers"]], ids=["blocks", "shard_readers"])
def test_the_same_command_gives_the_same_bytes(command, source, tmp_path, readers):
    assert summarize_files(source, tmp_path / "here", *BASE, *readers) == 0
    job = command("there", source, *BASE, *readers, "--verbose")
    assert job.wait(PATIENCE) == 0, job.output
    for shown in ("parallelism = 3: a slot for each shard", "answered", "points    6,000"):
        assert shown in job.output
    assert written(tmp_path / "there") == written(tmp_path / "here")


def test_a_detached_job_goes_on_by_itself(command, cluster, source, tmp_path):
    assert summarize_files(source, tmp_path / "here", *BASE) == 0
    job = command("there", source, *BASE, "--detach")
    assert job.wait(PATIENCE) == 0, job.output
    assert f"runs on {cluster.master}" in job.output
    job.kill()  # with the job server
    cluster.wait_for(lambda: files_of(str(tmp_path / "there"), "summaries"), "the result")
    assert written(tmp_path / "there") == written(tmp_path / "here")


def reading(worker):
    """Whether a worker has an input file open."""
    return any(file.path.endswith(".jsonl") for file in worker.open_files())


def test_a_worker_that_stands_still_is_left_behind(command, cluster, slow_source, tmp_path):
    job = command("out", slow_source, *ON_TIME, "--deadline=60s")
    job.wait_for(cluster.jobs, "the job on the cluster", PATIENCE)
    (running,) = cluster.jobs()
    workers = cluster.wait_for(lambda: len(w := cluster.worker_of(running)) == 3 and w, "a worker of each shard")
    cluster.wait_for(lambda: reading(workers[1]), "shard 1")
    stop(workers[1])
    assert job.wait(PATIENCE) == 0, job.output
    go_on(workers[1])
    row = summary_row(tmp_path / "out")
    assert (row["reason"], row["responded"], row["coverage"]) == ("deadline", [0, 2], 1.0), job.output
    assert (row["points"], row["total_weight"], row["window_start"]) == (6 * LINES, 6 * LINES, None)
    assert "missing: 1" in job.output
    cluster.wait_for(lambda: not cluster.jobs(), "the job's end")


def test_without_one_that_is_stuck_it_ends_when_all_have_answered(command, cluster, tmp_path):
    values = np.where(np.arange(N) % 500 == 7, np.nan, np.arange(N))
    source = write_parquet(tmp_path / "in", {"x0": values, "x1": values, "x2": values})
    assert summarize_files(source, tmp_path / "here", *BASE, "--shard_readers", "--max_bad_rows=12") == 0
    job = command("there", source, *ON_TIME, "--max_bad_rows=12")
    assert job.wait(PATIENCE) == 0, job.output
    row, here = (summary_row(tmp_path / name) for name in ("there", "here"))
    assert row["reason"] == "all"
    for name in ("points", "coverage", "responded", "stragglers", "distrusted", "total_weight"):
        assert row[name] == here[name]
    assert rows_in(tmp_path / "there", "dead_letters") == rows_in(tmp_path / "here", "dead_letters")
    assert not cluster.jobs()


def test_too_many_bad_rows_leave_the_old_result(command, source, tmp_path):
    values = np.where(np.arange(N) % 500 == 7, np.nan, np.arange(N))
    bad = write_parquet(tmp_path / "in", {"x0": values, "x1": values, "x2": values})
    assert summarize_files(source, tmp_path / "out", *BASE) == 0
    before = written(tmp_path / "out")
    job = command("out", bad, *ON_TIME, "--max_bad_rows=11", "--overwrite")
    assert job.wait(PATIENCE) == 1, job.output
    assert "max_bad_rows: at most 11 rows may be refused, got 12" in job.output
    assert written(tmp_path / "out") == before
