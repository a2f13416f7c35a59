"""KafkaReader with a client that says what it is told: what no broker can be made to say in a moment."""
import concurrent.futures
import types

import pytest

pytest.importorskip("confluent_kafka")
from confluent_kafka import KafkaError

from beam_coresets.transforms.streams.brokers import kafka_reader
from beam_coresets.transforms.streams.brokers.kafka import KafkaSource
from beam_coresets.transforms.streams.messages.formats import Block


class Message:
    """One of a partition 0, or with an `error` an event there."""

    def __init__(self, offset, error=None):
        self.offset, self.error = lambda: offset, lambda: error

    def partition(self):
        return 0

    def timestamp(self):
        return 1, 1000

    def key(self):
        return None

    def value(self):
        return bytes(8)

    def __len__(self):
        return 8


class Client:
    """Consumer and admin in one. `coming`: what the next reads find; `written`: where all that is written ends."""

    def __init__(self):
        self.coming, self.written, self.partitions = [], 0, 1

    def assign(self, parts):
        pass

    close = poll = lambda self, *_: None

    def consume(self, most, seconds):
        found, self.coming = self.coming[:most], self.coming[most:]
        return found

    def get_watermark_offsets(self, part, cached=False, timeout=0):
        return 0, self.written

    def list_offsets(self, asked, isolation_level, request_timeout):
        assert isolation_level is kafka_reader.IsolationLevel.READ_UNCOMMITTED
        return {part: answer(types.SimpleNamespace(offset=self.written)) for part in asked}

    def describe_topics(self, topics, request_timeout):
        return {"t": answer(types.SimpleNamespace(partitions=range(self.partitions)))}


def answer(value):
    done = concurrent.futures.Future()
    done.set_result(value)
    return done


@pytest.fixture
def client(monkeypatch):
    """The client of all readers, and a clock for them that `client.go_on` moves."""
    made, now = Client(), [100.0]
    made.go_on = lambda seconds: now.__setitem__(0, now[0] + seconds)
    monkeypatch.setattr(kafka_reader, "open_consumer", lambda *_, **__: made)
    monkeypatch.setattr(kafka_reader, "open_admin", lambda *_: made)
    monkeypatch.setattr(kafka_reader.time, "monotonic", lambda: now[0])
    return made


@pytest.fixture
def reader(client):
    made = KafkaSource("t", Block(2), servers="nowhere:1", start="earliest", discover_seconds=3600).reader(0, 1)
    made.seek({0: 0})
    return made


def end(offset):
    return Message(offset, types.SimpleNamespace(code=lambda: KafkaError._PARTITION_EOF))


def read(reader, client, seconds=0.6):
    """Some reads; what they found."""
    found = []
    for _ in range(3):
        client.go_on(seconds / 3)
        found += reader.read(0.0)
    return found


def test_messages_that_can_not_be_read_yet_keep_a_partition_open(client, reader):
    client.coming, client.written = [Message(0), end(1)], 5
    assert [chunk.stop for chunk in read(reader, client)] == [1]
    for _ in range(10):
        assert read(reader, client) == []
        assert reader.drained(0)
        assert not reader.caught_up(0)
    client.coming, client.written = [Message(1), Message(3), end(6)], 6  # holes: what was aborted, or compacted
    assert [chunk.stop for chunk in read(reader, client)] == [4]
    assert reader.caught_up(0)


def test_a_log_that_was_cut_is_an_error_that_names_the_offsets(client, reader):
    client.coming, client.written = [Message(0), Message(1), end(2)], 2
    read(reader, client)
    client.written = -1001  # nobody knows
    for _ in range(5):
        assert read(reader, client) == []
    client.written = 1
    with pytest.raises(ValueError, match=r"t/0 \(0 to 1\), got partition 0 at offset 2"):
        read(reader, client, 6.0)


def test_partitions_are_asked_for_when_it_matters(client, reader):
    read(reader, client)
    moment = kafka_reader.time.monotonic() + 0.1
    client.go_on(1)
    assert not reader.knows_parts(moment), "the last answer is older"
    assert reader.knows_parts(moment)
    client.partitions = 2
    read(reader, client)
    assert reader.knows_parts(moment)
    assert reader.new_parts() == {}
    moment = kafka_reader.time.monotonic()
    assert not reader.knows_parts(moment)
    assert reader.knows_parts(moment)
    assert reader.new_parts() == {1: 0}
