"""A stream on a real cluster: whichever worker, TaskManager, JobManager or broker stops, no window waits, and every
message is in exactly one."""
import time

import pytest

pytest.importorskip("confluent_kafka")
from cluster import go_on, stop
from confluent_kafka import Producer
from stream_on_cluster import DEADLINE, SHARDS, WINDOW, StreamOnCluster
from streaming_job import checkpoints_in
from topics import DIM, PARTITIONS, ROWS, Producing

pytestmark = [pytest.mark.flink, pytest.mark.cluster]
RATE = 40_000


@pytest.fixture
def stream(cluster, broker, tmp_path):
    """Makes a job, `stream(*options)`; ended in the end."""
    made = []

    def make(*options, **more):
        made.append(StreamOnCluster(cluster, broker, tmp_path / f"stream{len(made)}", *options, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def whole(job):
    """All windows have all points, from all of the data; their rows by start."""
    rows, expected = job.all_windows()
    # an empty window before the first message may be known to those shards only that had started by then
    assert all(row["coverage"] == 1 for start, row in rows.items() if start >= min(expected)), rows
    assert {start: row["points"] for start, row in rows.items() if row["points"]} == expected
    assert {s: row["total_weight"] for s, row in rows.items() if row["points"]} == pytest.approx(expected, rel=1e-9)
    starts = sorted(rows)
    assert starts == [starts[0] + WINDOW * i for i in range(len(starts))]
    return rows


def stopped_in_turn(stream, dim):
    """Each worker stands still for 15 s; (the windows' lags, rows, when each stood still)."""
    job = stream(dim=dim).start()
    producing = Producing(job.broker, job.topic, RATE * 8 / dim, 75, dim=dim)
    time.sleep(2 * WINDOW)
    times = {}
    for shard in range(SHARDS):
        worker = job.cluster.worker_of(job.id)[shard]
        stop(worker)
        began = time.time()
        time.sleep(15)
        go_on(worker)
        times[shard] = (began, time.time())
        time.sleep(2 * WINDOW)
    producing.finish()
    rows = whole(job)
    begun = min(start for start, row in rows.items() if row["points"])  # before it the readers had not started
    lags = {start: lag for start, lag in job.lags().items() if start >= begun}
    job.close()
    return lags, rows, times


def in_time(lags):
    """Wide: on two cores with all else a window of 64 columns takes up to 2 s. One that waited would take 10 s."""
    return max(lags.values()) <= DEADLINE + 3


@pytest.mark.parametrize("dim", [8, 64])
def test_no_worker_that_stops_holds_a_window_back(stream, dim):
    """The coordinator's worker is among them. Shard i reads on subtask i: whoever stops it, stops that shard."""
    lags, rows, times = stopped_in_turn(stream, dim)
    if not in_time(lags):  # the machine may have stood still: once more, then it is us
        lags, rows, times = stopped_in_turn(stream, dim)
    assert in_time(lags), lags
    for shard, (began, ended) in times.items():
        inside = [row for start, row in rows.items() if began <= start and start + WINDOW + DEADLINE <= ended]
        assert len(inside) >= 2
        assert all(row["stragglers"] == [shard] and row["reason"] == "deadline" for row in inside)
    after = [row for start, row in rows.items() if all(start > end or start + 2 * WINDOW < began
                                                       for began, end in times.values())]  # fmt: skip
    assert any(row["reason"] == "all" for row in after)


def back(job):
    """Waits until the job runs again and all shards read on."""
    job.cluster.running_job()
    since = max(job.lags(), default=0.0)
    job.job.wait_for(lambda: max(job.lags()) > since + 2 * WINDOW, "windows after the restart")


@pytest.mark.parametrize("victim", ["worker", "TaskManager"])
def test_what_is_killed_comes_back_by_itself_and_nothing_is_lost_or_doubled(stream, cluster, victim):
    """The restored timers decide no window early: each has all of its points."""
    job = stream().start()
    producing = Producing(job.broker, job.topic, RATE, 45)
    time.sleep(3 * WINDOW)
    if victim == "worker":
        cluster.worker_of(job.id)[0].kill()
    else:
        number = cluster.taskmanager_of(job.id)[0]
        cluster.kill(f"tm{number}")
        cluster.start_taskmanager(number)
    time.sleep(WINDOW)
    back(job)
    producing.finish()
    whole(job)


def test_a_broker_that_is_away_for_ten_seconds(stream, broker):
    job = stream().start()
    producing = Producing(broker, job.topic, RATE, 25)
    time.sleep(2 * WINDOW)
    broker.pause()
    time.sleep(10)
    broker.resume()
    producing.finish()
    rows, expected = job.all_windows()
    assert {s: row["points"] for s, row in rows.items() if row["points"]} == expected
    assert not (job.output / "late").exists()


def test_ten_times_the_data_in_one_part(stream, broker):
    """Two shards hold it; the third is not held up, and all is in its window."""
    job = stream().start()
    producing = Producing(broker, job.topic, RATE, 20)
    producer, rows = Producer({"bootstrap.servers": broker.servers, "log_level": 0}), b"\0" * (4 * DIM * ROWS)
    each = 10 * RATE / PARTITIONS / ROWS  # messages a second
    began, sent = time.time(), 0
    while sent < 18 * each:
        if sent < (time.time() - began) * each:
            producer.produce(job.topic, rows, partition=0, timestamp=int(1000 * (began + sent / each)))
            sent += 1
        producer.poll(0.001)
    producer.flush(30)
    producing.finish()
    rows = whole(job)
    assert any(row["reason"] == "all" and row["points"] > WINDOW * RATE * 1.5 for row in rows.values())


def test_another_k_after_a_savepoint(stream, cluster):
    job = stream().start()
    producing = Producing(job.broker, job.topic, RATE, 30)
    time.sleep(4 * WINDOW)
    savepoint = cluster.savepoint(job.id)
    job.job.kill()
    before = job.rows()
    job.start("--k=7", f"--resume_from={savepoint.removeprefix('file:')}")
    producing.finish()
    rows = whole(job)
    assert {row["k"] for row in before.values()} == {5}
    assert {start: row["k"] for start, row in rows.items() if start in before} == dict.fromkeys(before, 5)
    assert {row["k"] for start, row in rows.items() if start not in before} == {7}


def test_a_job_goes_on_from_its_checkpoint_after_the_jobmanager_is_killed(stream, cluster):
    job = stream().start()
    producing = Producing(job.broker, job.topic, RATE, 40)
    time.sleep(4 * WINDOW)
    job.job.wait_for(lambda: checkpoints_in(job.checkpoints), "a checkpoint")
    cluster.kill("jobmanager")
    job.job.kill()
    cluster.start_jobmanager()
    cluster.wait_for(cluster.has_all_slots, "the TaskManagers at the new JobManager")
    job.start(f"--resume_from={checkpoints_in(job.checkpoints)[-1]}")
    producing.finish()
    whole(job)
