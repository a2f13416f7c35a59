"""A stream on a real Flink cluster (JobManager, three TaskManagers with a Python worker each, a Kafka broker, all on
this machine) while its workers are stopped and killed: how long windows wait, and what is lost.

    make test-flink-cluster          # once: fetches what this needs
    python benchmarks/faults.py stop      # each worker stopped for 15 s in turn, with and without redundancy, replicas
    python benchmarks/faults.py random    # ten minutes, one of all faults every 20 s
    python benchmarks/faults.py price     # what redundancy and replicas cost without faults: points/s, CPU seconds
    python benchmarks/faults.py waiting   # beside the same job with Beam's default trigger: p50 and p99 of the lag

A window's lag is from its end until its decision is claimed in the output folder. A reader's lag is the age of the
oldest message when it was read, from the job's metrics (`lag_ms_part_N`), of the shards that were not stopped.
"""
import argparse
import contextlib
import pathlib
import random
import sys
import tempfile
import threading
import time

import numpy as np
import psutil

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "tests/flink")]

from broker import Broker  # noqa: E402
from cluster import Cluster, go_on, stop  # noqa: E402
from confluent_kafka import Producer  # noqa: E402
from stream_on_cluster import DEADLINE, SHARDS, WINDOW, StreamOnCluster  # noqa: E402
from stream_producer import messages  # noqa: E402
from topics import PARTITIONS, ROWS, Producing  # noqa: E402

from beam_coresets.transforms.writing.stored_tables import files_of, read_table  # noqa: E402

STOP = 15.0
PAUSE = 22.0  # after that; the REST interface may show lags of ten seconds ago, as those of catching up
CASES = ((8, 2, 2), (64, 2, 2), (8, 2, 1), (8, 1, 1))  # dimensions, replication, coordinators


@contextlib.contextmanager
def rig(args):
    """A cluster and a broker; `make(name, *options)` makes jobs on them."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "broker").mkdir()
        cluster, broker, made = Cluster(args.jar, folder / "cluster"), Broker(args.kafka, folder / "broker"), []

        def make(*options, **more):
            made.append(StreamOnCluster(cluster, broker, folder / f"job{len(made)}", *options, **more))
            return made[-1]

        try:
            broker.start()
            cluster.start()
            yield make
        finally:
            for one in made:
                one.close()
            cluster.close()
            broker.kill()


class ReaderLags(threading.Thread):
    """Follows the readers' lags; `worst` is the largest of those that are not in `stopped`, in seconds."""

    def __init__(self, job):
        super().__init__(daemon=True)
        self._job, self.stopped, self.worst, self.over = job, set(), 0.0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.4):
            stopped = set(self.stopped)
            try:
                found = self._job.cluster.metrics(self._job.id, "lag_ms_part")
            except OSError:
                continue
            for (_, subtask), values in found.items():
                if subtask not in stopped | self.stopped:
                    self.worst = max([self.worst, *(float(value) / 1000 for value in values.values())])


def outcome(job):
    """What became of the windows, as columns."""
    with contextlib.suppress(AssertionError):  # the default trigger waits for ever at the end
        job.all_windows()
    rows, written = job.rows(), job.topic_points()
    expected = {start: n for start, n in written.items() if start in rows}
    lags = [lag for start, lag in job.lags().items() if start in expected]
    counted = {start: row["points"] for start, row in rows.items() if start in expected}
    return {
        "windows": len(lags),
        "never decided": len(written) - len(expected),
        "in time": sum(lag <= DEADLINE + 1.5 for lag in lags),
        "p50": np.percentile(lags, 50),
        "p99": np.percentile(lags, 99),
        "max": max(lags),
        "least coverage": min(row["coverage"] for row in rows.values()),
        "degraded": sum(row["degraded"] for row in rows.values()),
        "missing points": sum(max(0, n - counted[start]) for start, n in expected.items()),
        "points too many": sum(max(0, counted[start] - n) for start, n in expected.items()),
        "of points": sum(expected.values()),
    }


def show(name, columns):
    """A line of a table."""
    text = "  ".join(f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value:,}"
                     for key, value in columns.items())  # fmt: skip
    print(f"{name:<34} {text}", flush=True)


def stops(args):
    """Each worker stopped in turn."""
    for dim, replication, replicas in CASES[: args.cases]:
        with rig(args) as make:
            job = make(f"--replication={replication}", f"--coordinator_replicas={replicas}", dim=dim).start()
            lags = ReaderLags(job)
            lags.stopped |= set(range(SHARDS))  # what lags at the start is no matter
            producing = Producing(job.broker, job.topic, args.rate, 3 * (STOP + PAUSE) + 6, dim=dim)
            time.sleep(6)
            for shard in range(SHARDS):
                worker = job.cluster.worker_of(job.id)[shard]
                lags.stopped = {shard}
                stop(worker)
                time.sleep(STOP)
                lags.stopped = set(range(SHARDS))  # the one that was stopped catches up
                go_on(worker)
                time.sleep(PAUSE)
            producing.finish()
            lags.over.set()
            columns = outcome(job)
            show(f"d={dim} l={replication} replicas={replicas}", {**columns, "healthy reader": lags.worst})


def at_random(args):
    """One of the faults every 20 s."""
    rng = random.Random(args.seed)
    with rig(args) as make:
        job = make("--replication=2", "--revise").start()
        producing = Producing(job.broker, job.topic, args.rate, args.seconds)
        until, done = time.monotonic() + args.seconds - 20, []
        while time.monotonic() < until:
            began = time.monotonic()
            kind = rng.choice(["stop worker", "kill worker", "kill TaskManager", "stop broker"])
            with contextlib.suppress(KeyError, OSError, psutil.Error):  # it may be on its way back from the last one
                _fault(job, kind, rng.randrange(SHARDS))
                done.append(kind)
            time.sleep(max(0.0, began + 20 - time.monotonic()))
        producing.finish()
        columns = outcome(job)
        revised = sum(row["revision"] > 1 for row in read_table(str(job.output), "summaries").to_pylist())
        late = read_table(str(job.output), "late").to_pylist() if files_of(str(job.output), "late") else []
        show("random faults", {**columns, "revised": revised, "late rows": sum(row["row_count"] for row in late)})
        print({kind: done.count(kind) for kind in sorted(set(done))})


def _fault(job, kind, i):
    if kind == "stop worker":
        worker = job.cluster.workers()[i]
        stop(worker)
        time.sleep(STOP)
        go_on(worker)
    elif kind == "kill worker":
        job.cluster.workers()[i].kill()
    elif kind == "kill TaskManager":
        job.cluster.kill(f"tm{i}")
        job.cluster.start_taskmanager(i)
    else:
        job.broker.pause()
        time.sleep(10)
        job.broker.resume()


def prices(args):
    """A backlog read at l = 1, 2, 3 with one coordinator and two."""
    print(f"{args.points:,} points of 8 dimensions in 40 windows of {WINDOW} s")
    with rig(args) as make:
        for replication in (1, 2, 3):
            for replicas in (1, 2):
                job = make(f"--replication={replication}", f"--coordinator_replicas={replicas}")
                _fill(job, args.points, 40 * WINDOW)
                before = _cpu(job.cluster)
                job.start(wait=False)
                job.job.wait_for(lambda job=job: job.lags(), "the first window")
                began = time.time()
                rows, expected = job.all_windows()
                seconds = time.time() - began
                spent = _cpu(job.cluster) - before
                assert {start: rows[start]["points"] for start in expected} == expected
                left = sum(expected.values()) * (len(expected) - 1) / len(expected)
                show(f"l={replication} replicas={replicas}",
                     {"M points/s": left / seconds / 1e6, "CPU s": spent, "seconds": seconds})  # fmt: skip
                job.close()
                job.cluster.wait_for(job.cluster.has_all_slots, "the job's end")


def _fill(job, points, seconds):
    """A topic full of points whose times are spread over so many seconds, a whole number of windows."""
    producer = Producer({"bootstrap.servers": job.broker.servers, "log_level": 0, "linger.ms": 5,
                         "queue.buffering.max.kbytes": 262_144})  # fmt: skip
    pool, count = messages("block", ROWS, 8, 0), points // ROWS
    start = (time.time() - seconds - 60) // WINDOW * WINDOW
    for i in range(count):
        while True:
            try:
                producer.produce(job.topic, pool[i % len(pool)], partition=i % PARTITIONS,
                                 timestamp=int(1000 * (start + i * seconds / count)))  # fmt: skip
                break
            except BufferError:
                producer.poll(0.05)
    producer.flush(120)


def _cpu(cluster):
    """CPU seconds of the TaskManagers and the worker pool with all of its workers, ended ones included."""
    total = 0.0
    for name, process in cluster._processes.items():
        if name != "jobmanager":
            times = psutil.Process(process.pid).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total + sum(sum(worker.cpu_times()[:2]) for worker in cluster.workers().values())


def waiting(args):
    """Ours beside Beam's default trigger, a worker stopped for 15 s every 45 s."""
    for name, script in (("deadline, l=2, two replicas", None), ("Beam's default trigger", "default_trigger.py")):
        with rig(args) as make:
            job = make("--replication=2", script=None if script is None else HERE / script).start()
            producing = Producing(job.broker, job.topic, args.rate, 180)
            for i in range(4):
                time.sleep(20)
                worker = job.cluster.worker_of(job.id)[i % SHARDS]
                stop(worker)
                time.sleep(STOP)
                go_on(worker)
                time.sleep(10)
            producing.finish()
            show(name, outcome(job))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stop", "random", "price", "waiting"))
    cache = HERE.parent / ".cache"
    parser.add_argument("--jar", default=str(next(iter(sorted((cache / "flink").glob("job-server-*.jar"))), "")))
    parser.add_argument("--kafka", default=str(next(iter(sorted((cache / "kafka").glob("[0-9]*"))), "")))
    parser.add_argument("--rate", type=float, default=60_000, help="points a second")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--points", type=int, default=24_000_000)
    parser.add_argument("--cases", type=int, help="of `stop`: only so many")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    {"stop": stops, "random": at_random, "price": prices, "waiting": waiting}[args.what](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
