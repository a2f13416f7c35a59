"""Whether windows that call themselves whole are: a real broker, producers with transactions, a stream, and the count
of every window with coverage 1 and reason `all` against what was committed in its time.

    BEAM_CORESETS_KAFKA=JARS python benchmarks/whole_windows.py --runner PrismRunner --prism_location PRISM
    BEAM_CORESETS_KAFKA=JARS python benchmarks/whole_windows.py 6 60 --runner PrismRunner --prism_location PRISM

A number is a scenario, too: the seconds from one commit to the next. Exits with 1 where a window is not what it says.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
from broker import Broker
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import NewPartitions, NewTopic

from beam_coresets.transforms.writing.stored_tables import read_table

WINDOW, DEADLINE = 3, 8
SCENARIOS = ("0.1", "2.5", "6", "60", "aborted", "compacted", "partitions", "latest")
COMPACT = {"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01",
           "max.compaction.lag.ms": "1000", "delete.retention.ms": "100"}  # fmt: skip


class Writing:
    """One producer, with transactions if `every` says so; `truth` counts by window what it has committed."""

    def __init__(self, servers, topic, name, every=None, aborts=0.0):
        self._topic, self._every, self._rng, self._aborts = topic, every, random.Random(name), aborts
        more = {} if every is None else {"transactional.id": f"{topic}-{name}"}
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0,
                                   "topic.metadata.refresh.interval.ms": 500, **more})  # fmt: skip
        self.truth, self._open = collections.Counter(), []
        if every is not None:
            self._producer.init_transactions(60)
            self._begin()

    def _begin(self):
        self._producer.begin_transaction()
        self._since = time.monotonic()

    def write(self, partitions, number):
        """A message into each of the partitions."""
        for part in partitions:
            at = int(1000 * time.time())
            body = json.dumps({"x": number % 7, "y": number % 3}).encode()
            try:
                self._producer.produce(self._topic, body, str(number % 50), part, timestamp=at)
            except KafkaException:  # a partition that it does not know of yet
                continue
            self._open.append(at // 1000 // WINDOW * WINDOW)
        self._producer.poll(0)
        if self._every is not None and time.monotonic() - self._since >= self._every:
            self.end()
            self._begin()

    def end(self):
        assert self._producer.flush(60) == 0  # to abort what is under way is a fatal error now and then
        if self._every is not None and self._rng.random() < self._aborts:
            self._producer.abort_transaction(60)
        else:
            if self._every is not None:
                self._producer.commit_transaction(60)
            self.truth.update(self._open)
        self._open = []


def scenario(name, broker, folder, runner, seconds):
    """The windows, their true counts, and how many say that they are whole and are not."""
    every = {"aborted": 1.0, "compacted": None, "partitions": 2.5, "latest": 2.5}.get(name, name)
    every = None if every is None else float(every)
    seconds = max(seconds, 2.2 * (every or 0))
    topic, out = f"t-{name.replace('.', '-')}", f"{folder}/{name}"
    config = COMPACT if name == "compacted" else {}
    broker.admin().create_topics([NewTopic(topic, 2, 1, config=config)])[topic].result(20)
    writers = [Writing(broker.servers, topic, 0, every, 0.3)]
    if name == "aborted":
        writers.append(Writing(broker.servers, topic, 1, 3.0, 0.7))
    if name == "latest":  # before the stream begins
        written(writers, 8, 2, lambda: None)
    words = [
        "stream", "--topic", topic, "--bootstrap_servers", broker.servers, "--columns", "x,y", "--k", "2",
        "--shards", "2", "--replication", "2", "--window", f"{WINDOW}s", "--deadline", f"{DEADLINE}s", "--cap", "15s",
        "--start", "latest" if name == "latest" else "earliest", "--output", out, "--format", "jsonl",
    ]  # fmt: skip
    with pathlib.Path(f"{out}.log").open("w") as log:
        command = [sys.executable, "-m", "beam_coresets.pipelines.main", *words, *runner]
        job = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        while not pathlib.Path(out, ".claims").exists():
            assert job.poll() is None, pathlib.Path(f"{out}.log").read_text()[-3000:]
            if name == "latest":
                written(writers, 1, 2, lambda: None)
            time.sleep(1)
        added = []

        def add():
            if name == "partitions" and not added:
                added.append(broker.admin().create_partitions([NewPartitions(topic, 4)])[topic].result(20))

        written(writers, seconds, 4 if name == "partitions" else 2, add)
        truth = sum((writer.truth for writer in writers), collections.Counter())
        until = time.monotonic() + 60
        while time.monotonic() < until and not set(truth) <= {row["window_start"] for row in rows_of(out)}:
            time.sleep(1)
        time.sleep(3)
    finally:
        job.send_signal(signal.SIGINT)
        try:
            job.wait(60)
        except subprocess.TimeoutExpired:
            job.kill()
    rows = rows_of(out)
    whole = [row for row in rows if row["coverage"] == 1 and row["reason"] == "all"]
    wrong = [row for row in whole if row["points"] != truth[row["window_start"]]]
    late = (
        sum(row["row_count"] for row in read_table(out, "late").to_pylist())
        if pathlib.Path(out, "late").exists()
        else 0
    )
    print(f"{name:>10}: committed {sum(truth.values())}, in windows {sum(row['points'] for row in rows)}, late {late}; "
          f"{len(rows)} windows, {len(whole)} say they are whole, {len(wrong)} of them are not; "
          f"coverage {sorted({row['coverage'] for row in rows})}, reasons {sorted({row['reason'] for row in rows})}",
          flush=True)  # fmt: skip
    for row in wrong:
        print(f"    window {row['window_start']:.0f}: {row['points']} of {truth[row['window_start']]}")
    return len(wrong) + (sum(truth[row["window_start"]] for row in whole) == 0 and name != "60")


def written(writers, seconds, partitions, halfway):
    """Writes at a steady pace; at half of the time something happens, and the partitions are `partitions` from then."""
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        later = time.monotonic() - began > seconds / 2
        if later:
            halfway()
        for writer in writers:
            writer.write(range(partitions if later else min(2, partitions)), number)
        number += 1
        time.sleep(0.05)
    for writer in writers:
        writer.end()
        if writer._every is not None:
            writer._begin()


def rows_of(out):
    """The rows of `summaries`, first revisions."""
    return read_table(out, "summaries").to_pylist() if pathlib.Path(out, "summaries").exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=SCENARIOS)
    parser.add_argument("--seconds", type=float, default=30)
    known, runner = parser.parse_known_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or a stream started in the background would ignore it
    folder = tempfile.mkdtemp(prefix="whole-")
    broker = Broker(os.environ["BEAM_CORESETS_KAFKA"], folder, clean=True)
    broker.start()
    try:
        wrong = sum(scenario(name, broker, folder, runner, known.seconds) for name in known.scenarios)
    finally:
        broker.kill()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
