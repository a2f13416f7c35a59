"""Streams of a Kafka topic, each killed at a random moment and run again to the end: what is then in its folder.

    BEAM_CORESETS_KAFKA=JARS BEAM_CORESETS_PRISM=BINARY python tests/trials/killed_streams.py [--runs 20] [--seed 0]

The topic has a minute of JSON messages in six windows, one in a hundred of them bad. A trial reads it on Prism from its
first message. It is killed (SIGKILL to the command alone) while it starts or reads, or within seconds after one of its
windows was decided, and started again with the same words until all windows are; then SIGTERM ends it. Bad are: a
window with other points than were produced, a message in `dead_letters` that is not bad, twice or not at all, a process
that outlives the kill, a file in the temporary directory, another exit code.
A line a trial, and one for all; exit code 1 if any was bad.
"""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from broker import Broker
from confluent_kafka import Producer
from jobs import rows_in
from streaming_job import alive, started
from topics import make_topic

from beam_coresets.transforms.writing.stored_tables import files_of

MESSAGES, PARTITIONS, LENGTH, WINDOWS = 24_000, 3, 10, 6
BAD = (
    lambda i, at: b"not json",
    lambda i, at: json.dumps({"a": 1.0, "at": at}),
    lambda i, at: json.dumps({"a": "x", "b": 1, "at": at}),
    lambda i, at: json.dumps({"a": 1.0, "b": 1.0}),
)
HEADING = "coverage"  # what a stream prints once it is under way
PATIENCE = 240  # seconds


def produced(broker, rng):
    """A topic, the points of each window, and the partitions and offsets of its bad messages."""
    topic, begin = make_topic(broker, PARTITIONS), (time.time() - 90) // LENGTH * LENGTH
    producer = Producer({"bootstrap.servers": broker.servers, "log_level": 0, "enable.idempotence": True})
    bad, points = set(rng.sample(range(MESSAGES), MESSAGES // 100)), collections.Counter()
    for i in range(MESSAGES):
        at = begin + WINDOWS * LENGTH * i / MESSAGES
        if i in bad:
            value = rng.choice(BAD)(i, at)
        else:
            value = json.dumps({"a": i % 7 + 0.5, "b": i % 11 / 2, "at": at})
            points[at // LENGTH * LENGTH] += 1
        producer.produce(topic, value, partition=i % PARTITIONS)
        producer.poll(0)
    assert producer.flush(60) == 0
    return topic, points, {(i % PARTITIONS, i // PARTITIONS) for i in bad}


def words(servers, topic, output):
    """A stream of the topic."""
    return ["-m", "beam_coresets", "stream", f"--topic={topic}", f"--bootstrap-servers={servers}",
            "--message-format=json", "--columns=a,b", "--time-field=at", "--k=2", "--shards=2", "--replication=2",
            f"--window={LENGTH}s", "--deadline=60s", "--start=earliest", f"--output={output}", "--runner=PrismRunner",
            f"--prism_location={os.environ['BEAM_CORESETS_PRISM']}"]  # fmt: skip


def _rows(output, name):
    """Rows of a table, of which a file may have another name in a moment."""
    while files_of(str(output), name):
        with contextlib.suppress(ValueError, OSError):
            return rows_in(output, name)
    return []


def there(output):
    """The points of each window, and how often each message is in `dead_letters`."""
    summaries, refused = (_rows(output, name) for name in ("summaries", "dead_letters"))
    points = {}
    for row in sorted(summaries, key=lambda row: row["revision"]):
        points[row["window_start"]] = row["points"]
    letters = collections.Counter(tuple(map(int, re.findall(r"\d+", row["position"]))) for row in refused)
    return {start: count for start, count in points.items() if count}, letters


def trial(start, output, temporary, points, bad, rng):
    """Kills a stream and runs it again; (what is wrong, seconds, windows and letters at the kill)."""
    temporary.mkdir(parents=True)
    environment, wrong = {"TMPDIR": str(temporary)}, []
    first = start("first", [], environment)
    began, decided = time.monotonic(), rng.choice([0, 0, *range(1, WINDOWS)])
    while len(there(output)[0]) < decided and time.monotonic() < began + PATIENCE:
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 2 if decided else 30))
    after = time.monotonic() - began
    first.process.kill()
    first.process.wait()
    until = time.monotonic() + 20
    while alive(first.process.pid) and time.monotonic() < until:
        time.sleep(0.2)
    if alive(first.process.pid):
        wrong.append(f"outlives the kill: {alive(first.process.pid)}")
    first.kill()
    before = there(output)
    again = start("again", [], environment)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and again.process.poll() is None:
        if HEADING in again.output and there(output)[0] == dict(points):
            break
        time.sleep(1)
    again.process.send_signal(signal.SIGTERM)
    code = again.wait(60)
    if code != 128 + signal.SIGTERM:
        wrong.append(f"exit code {code}: {again.output[-300:]!r}")
    found, letters = there(output)
    if found != dict(points):
        wrong.append(f"points {found} for {dict(points)}")
    if letters != collections.Counter(bad):
        missing, more, twice = len(bad - set(letters)), len(set(letters) - bad), letters.total() - len(letters)
        wrong.append(f"letters: {missing} missing, {more} of good messages, {twice} twice")
    if left := os.listdir(temporary):
        wrong.append(f"left: {left}")
    return wrong, after, len(before[0]), len(before[1])


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    rng, failed = random.Random(asked.seed), 0
    with tempfile.TemporaryDirectory(prefix="killed-streams-") as scratch:
        folder = pathlib.Path(scratch)
        (folder / "broker").mkdir()
        broker = Broker(os.environ["BEAM_CORESETS_KAFKA"], folder / "broker")
        try:
            broker.start()
            topic, points, bad = produced(broker, rng)
            for number in range(asked.runs):
                own = folder / str(number)
                with started(own, words(broker.servers, topic, own / "out")) as start:
                    told = trial(start, own / "out", own / "temporary", points, bad, rng)
                wrong, after, windows, letters = told
                failed += bool(wrong)
                print(f"{number + 1}: killed after {after:.0f} s with {windows} windows and {letters} letters; then "
                      f"{'; '.join(wrong) or 'as produced'}", flush=True)  # fmt: skip
        finally:
            broker.kill()
    print(f"| {asked.runs} streams killed | {asked.runs - failed} as produced | {failed} bad |")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
