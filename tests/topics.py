"""Topics for whole jobs: a paced producer beside the test, and what was really written, by reading it back."""
import collections
import contextlib
import pathlib
import sys
import threading
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))
from stream_producer import produce

PARTITIONS = 8
DIM = 8
ROWS = 1000  # of a block


def make_topic(broker, partitions=PARTITIONS, **config):
    """A new topic's name."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    for made in broker.admin().create_topics([NewTopic(name, partitions, 1, config=config)]).values():
        made.result(10)
    return name


class Producing:
    """Packed blocks into a topic at a steady pace until `seconds` are over; stops early when asked.

    Raises from `finish` what the producer raised.
    """

    def __init__(self, broker, topic, rate, seconds, **more):
        self._outcome = []
        self._thread = threading.Thread(
            target=self._run, args=(broker.servers, topic, rate, seconds, more), daemon=True
        )
        self._thread.start()

    def _run(self, servers, topic, rate, seconds, more):
        try:
            self._outcome.append(produce(servers, topic, PARTITIONS, rate, seconds, rows=ROWS, **{"dim": DIM, **more}))
        except BaseException as error:
            self._outcome.append(error)

    def finish(self):
        """Waits until all is written; the number of points."""
        self._thread.join(300)
        (outcome,) = self._outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def messages_in(broker, topic):
    """Every message that is there now, partition after partition."""
    consumer = Consumer({
        "bootstrap.servers": broker.servers, "group.id": f"check-{uuid.uuid4().hex}", "enable.auto.commit": False,
        "enable.partition.eof": True, "auto.offset.reset": "earliest", "log_level": 0,
    })  # fmt: skip
    parts = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, part, 0) for part in parts])
    found, left, until = [], set(parts), time.monotonic() + 60
    while left:
        assert time.monotonic() < until, f"the topic can't be read back, {sorted(left)} are missing"
        for message in consumer.consume(5000, 0.5):
            if message.error() is None:
                found.append(message)
                continue
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            left.discard(message.partition())
    consumer.close()
    return sorted(found, key=lambda message: (message.partition(), message.offset()))


def points_by_window(broker, topic, size, by=lambda message: (), dim=DIM):
    """How many points the topic has by (start of the fixed window, *`by(message)`)."""
    found = collections.Counter()
    for message in messages_in(broker, topic):
        start = message.timestamp()[1] // round(1000 * size) * size
        found[(start, *by(message))] += len(message.value()) // (4 * dim)
    return found


def committed(broker, topic, group, shards):
    """Shards of a job that have committed offsets: shard i to the group `group`-i."""
    found = set()
    for shard in range(shards):
        consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": f"{group}-{shard}", "log_level": 0})
        parts = [TopicPartition(topic, part) for part in range(PARTITIONS)]
        with contextlib.suppress(KafkaException):  # such as a coordinator that is being elected: asked again
            if any(one.offset >= 0 for one in consumer.committed(parts, timeout=10)):
                found.add(shard)
        consumer.close()
    return found
