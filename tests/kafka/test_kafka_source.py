"""Kafka as a source, against a real broker."""
import json
import logging
import pickle
import struct
import threading
import time
import uuid

import numpy as np
import pytest

pytest.importorskip("confluent_kafka")
from broker import PASSWORD, USER
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic
from schema_server import schema_server

from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.brokers.kafka import KafkaSource, _offsets_for_times, read_config
from beam_coresets.transforms.streams.brokers.kafka_config import open_consumer
from beam_coresets.transforms.streams.messages.formats import AvroRegistry, Block, Json, SchemaRegistry

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(broker):
    """Makes topics, with messages if asked."""

    def make(partitions=1):
        name = f"t-{uuid.uuid4().hex[:12]}"
        for made in broker.admin().create_topics([NewTopic(name, partitions, 1)]).values():
            made.result(10)
        return name

    return make


def value(i, rows=1):
    return np.full((rows, 2), i, "<f4").tobytes()


def produce(servers, topic, numbers, partition=0, at=None):
    """Message i is a block whose coordinates are i, its time `at` + i seconds."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0})
    at = time.time() - 3000 if at is None else at
    for i in numbers:
        producer.produce(topic, value(i), partition=partition, timestamp=int((at + i) * 1000))
    assert producer.flush(30) == 0


def source(broker, topic, **settings):
    return KafkaSource(topic, Block(2), **{"servers": broker.servers, "start": "earliest", **settings})


@pytest.fixture
def reader():
    """Makes readers at positions, and closes them."""
    made = []

    def make(source, positions, shard=0, shards=1):
        made.append(source.reader(shard, shards))
        made[-1].seek(positions)
        return made[-1]

    yield make
    for one in made:
        one.close()


def read_until(reader, done, seconds=20):
    """part -> the numbers read until `done(numbers)`, with the offsets checked for gaps."""
    numbers, stops, until = {}, {}, time.monotonic() + seconds
    while not done(numbers):
        assert time.monotonic() < until, f"only {numbers}"
        for chunk in reader.read(0.2):
            assert chunk.start == stops.get(chunk.part, chunk.start)
            assert chunk.position == chunk.stop
            stops[chunk.part] = chunk.stop
            assert chunk.counts.sum() == len(chunk.points)
            numbers.setdefault(chunk.part, []).extend(chunk.points[:, 0].astype(int).tolist())
    return numbers


def enough(n):
    return lambda numbers: sum(map(len, numbers.values())) >= n


def wait_for(what, reader, seconds=15):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        reader.read(0.1)


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_every_start_is_settled_in_offsets(broker, topic):
    name = topic(2)
    at = int(time.time()) - 100
    produce(broker.servers, name, range(10), 0, at)
    produce(broker.servers, name, range(4), 1, at)

    def starts(start, **more):
        return source(broker, name, start=start, **more).starts()

    assert starts("earliest") == {0: 0, 1: 0}
    assert starts("latest") == {0: 10, 1: 4}
    assert starts(at + 3) == {0: 3, 1: 3}
    assert starts(iso(at + 6)) == {0: 6, 1: 4}
    assert starts({1: 2}) == {0: 0, 1: 2}
    assert starts("committed", group=name, shards=3) == {0: 0, 1: 0}
    for shard, offsets in ((0, {0: 7}), (2, {0: 5, 1: 3})):
        group = [TopicPartition(name, part, offset) for part, offset in offsets.items()]
        for done in broker.admin().alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(f"{name}-{shard}", group)]
        ).values():
            done.result(10)
    assert starts("committed", group=name, shards=3) == {0: 5, 1: 3}
    assert starts("committed", group=name, shards=2) == {0: 7, 1: 0}


def test_starts_that_the_broker_does_not_have_are_errors(broker, topic):
    name = topic(1)
    produce(broker.servers, name, range(5))
    with pytest.raises(ValueError, match=r"offset: .*/0 \(0 to 5\), got partition 0 at offset 6"):
        source(broker, name, start={0: 6}).starts()
    with pytest.raises(ValueError, match=r"start: must be partitions of .* \(0 to 0\), got 3"):
        source(broker, name, start={3: 0}).starts()
    with pytest.raises(ValueError, match=rf"topic: must exist, got 'nowhere' \(have: .*{name}"):
        source(broker, "nowhere").starts()


def test_two_shards_read_the_same_partition_alike(broker, topic, reader):
    name = topic(3)
    for part in range(3):
        produce(broker.servers, name, range(100 * part, 100 * part + 50), part)
    kafka = pickle.loads(pickle.dumps(source(broker, name)))
    first = read_until(reader(kafka, {0: 0, 1: 0}, 0, 2), enough(100))
    second = read_until(reader(kafka, {1: 0, 2: 10}, 1, 2), enough(90))
    assert first == {0: list(range(50)), 1: list(range(100, 150))}
    assert second == {1: list(range(100, 150)), 2: list(range(210, 250))}


def test_a_chunk_has_the_messages_times_and_letters(broker, topic, reader):
    name = topic()
    at = int(time.time()) - 50
    produce(broker.servers, name, range(2), 0, at)
    producer = Producer({"bootstrap.servers": broker.servers, "log_level": 0})
    for body, when in ((b"odd", at), (None, at), (value(9), at + 3600), (value(9), at - 90 * 86400), (value(4, 3), at)):
        producer.produce(name, body, partition=0, timestamp=when * 1000)
    producer.flush(10)
    one = reader(source(broker, name), {0: 0})
    chunks = []
    wait_for(lambda: chunks.extend(one.read(0.5)) or sum(len(c.points) for c in chunks) >= 5, one)
    letters = [letter for chunk in chunks for letter in chunk.letters]
    assert [letter.reason.split(", got")[0] for letter in letters] == [
        "width: must be a multiple of 8 bytes", "null message", "event time: must be at most 60 s ahead",
        "event time: must be at most 2.592e+06 s behind",
    ]  # fmt: skip
    assert {letter.source for letter in letters} == {name}
    assert [letter.position for letter in letters] == [f"partition 0 offset {i}" for i in (2, 3, 4, 5)]
    assert np.concatenate([c.counts for c in chunks]).tolist() == [1, 1, 3]
    assert np.concatenate([c.offsets for c in chunks]).tolist() == [0, 1, 6]
    assert np.concatenate([c.times for c in chunks]).tolist() == [at, at + 1, at]
    assert (chunks[0].start, chunks[-1].stop) == (0, 7)


def test_idle_partitions_are_caught_up_and_others_are_not(broker, topic, reader):
    name = topic(2)
    produce(broker.servers, name, range(20), 0)
    one = reader(source(broker, name), {0: 0, 1: 0})
    assert not one.caught_up(0)
    assert not one.caught_up(1)
    assert read_until(one, enough(20)) == {0: list(range(20))}
    wait_for(lambda: one.caught_up(0) and one.caught_up(1), one)
    time.sleep(3.5)
    assert not one.caught_up(1), "nobody has asked for some seconds"
    wait_for(lambda: one.caught_up(0) and one.caught_up(1), one)
    produce(broker.servers, name, [7], 1)
    assert read_until(one, enough(1)) == {1: [7]}
    wait_for(lambda: one.caught_up(1), one)
    assert not one.ended(1)


def test_a_reader_goes_where_it_is_sent_and_keeps_nothing_of_before(broker, topic, reader):
    name = topic(2)
    for part in range(2):
        produce(broker.servers, name, range(2000), part)
    one = reader(source(broker, name), {0: 0, 1: 0})
    read_until(one, enough(1))
    rng = np.random.default_rng(0)
    for _ in range(25):
        start = {0: int(rng.integers(1990)), 1: int(rng.integers(1990))}
        one.seek(start)
        got = read_until(one, enough(5))
        assert all(numbers == list(range(start[part], start[part] + len(numbers))) for part, numbers in got.items())
    one.seek({1: 5})
    assert set(read_until(one, lambda got: len(got.get(1, ())) == 1995)) == {1}
    one.seek({1: 2000})
    wait_for(lambda: one.caught_up(1), one)


def test_new_partitions_are_found(broker, topic, reader):
    name = topic(2)
    one = reader(source(broker, name, discover_seconds=0.2), {0: 0, 1: 0})
    wait_for(lambda: one.caught_up(0), one)
    assert one.new_parts() == {}
    broker.admin().create_partitions([NewPartitions(name, 3)])[name].result(10)
    produce(broker.servers, name, range(5), 2)
    wait_for(lambda: one.new_parts() == {2: 0}, one)
    one.seek({0: 0, 1: 0, 2: 0})
    assert read_until(one, enough(5)) == {2: list(range(5))}
    assert one.new_parts() == {}


def test_it_is_known_when_all_partitions_were_known(broker, topic, reader):
    name = topic(2)
    one = reader(source(broker, name, discover_seconds=3600), {0: 0, 1: 0})
    wait_for(lambda: one.knows_parts(float("-inf")), one)
    before = time.monotonic()
    assert one.knows_parts(before) is False
    wait_for(lambda: one.knows_parts(before), one)
    assert one.new_parts() == {}
    broker.admin().create_partitions([NewPartitions(name, 3)])[name].result(10)
    after = time.monotonic()
    wait_for(lambda: one.knows_parts(after), one)
    assert one.new_parts() == {2: 0}


def in_transaction(broker, name, numbers):
    """A producer with these messages in a transaction that is open, delivered."""
    producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": uuid.uuid4().hex, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    for i in numbers:
        producer.produce(name, value(i), partition=0, timestamp=int(1000 * time.time()))
    assert producer.flush(30) == 0
    return producer


@pytest.mark.parametrize("ending", ["commit_transaction", "abort_transaction"])
def test_a_partition_with_an_open_transaction_is_not_read_to_its_end(broker, topic, reader, ending):
    name = topic(2)
    produce(broker.servers, name, range(5))
    early = in_transaction(broker, name, range(5, 8))
    one = reader(source(broker, name), {0: 0, 1: 0})
    assert read_until(one, enough(5)) == {0: list(range(5))}
    wait_for(lambda: one.caught_up(1) and one.drained(0), one)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert one.read(0.1) == []
        assert not one.caught_up(0)
    getattr(early, ending)(30)
    committed = [5, 6, 7] if ending == "commit_transaction" else []
    if committed:
        assert read_until(one, enough(3)) == {0: committed}
    wait_for(lambda: one.caught_up(0), one)
    late = in_transaction(broker, name, [8])  # behind an end that was one
    wait_for(lambda: not one.caught_up(0), one)
    late.commit_transaction(30)
    assert read_until(one, enough(1)) == {0: [8]}
    wait_for(lambda: one.caught_up(0), one)


def test_where_reading_begins_says_what_may_precede(broker, topic):
    name = topic(2)
    produce(broker.servers, name, range(5), 1)

    def since(start):
        kafka = source(broker, name, start=start)
        return kafka.since(kafka.starts(), 1e9)

    assert since("latest") == since({1: 2}) == {1: 1e9}
    assert since("earliest") == since("committed") == since({1: 0}) == {}
    assert since(500.0) == {}
    assert since(time.time()) == {1: 1e9}


def test_a_partition_that_is_not_there_is_an_error(broker, topic, reader):
    name = topic(2)
    produce(broker.servers, name, range(5), 0)
    one = reader(source(broker, name, discover_seconds=0.2), {0: 0, 7: 0})
    with pytest.raises(ValueError, match=f"topic: must have the partitions that are read, got none of {name}/7"):
        wait_for(lambda: False, one)
    one.seek({0: 0})
    assert read_until(one, enough(5)) == {0: list(range(5))}
    broker.admin().delete_topics([name])[name].result(10)
    with pytest.raises(ValueError, match=f"topic: must have the partitions that are read, got none of {name}/0"):
        wait_for(lambda: False, one)


def test_deleted_data_is_an_error_and_no_reset(broker, topic, reader):
    name = topic(2)
    produce(broker.servers, name, range(30), 1)
    produce(broker.servers, name, range(30), 0)
    for done in broker.admin().delete_records([TopicPartition(name, 1, 12)]).values():
        done.result(10)
    assert source(broker, name).starts() == {0: 0, 1: 12}
    message = rf"offset: must be in what the broker has of {name}/1 \(12 to 30\), got partition 1 at offset "
    one = reader(source(broker, name), {0: 0, 1: 3})
    with pytest.raises(ValueError, match=message + "3"):
        read_until(one, enough(60))
    with pytest.raises(ValueError, match=message + "3"):
        one.read(0.1)
    one.seek({1: 31})
    with pytest.raises(ValueError, match=message + "31"):
        read_until(one, enough(60))
    one.seek({1: 12})
    assert read_until(one, enough(18)) == {1: list(range(12, 30))}


def test_committed_offsets_are_seen_by_others(broker, topic, reader):
    name = topic(2)
    produce(broker.servers, name, range(9), 0)
    kafka = source(broker, name, group=name)
    one = kafka.reader(3, 4)
    one.seek({0: 0, 1: 0})
    read_until(one, enough(9))
    one.commit({0: 9, 1: 0})
    one.close()
    asked = ConsumerGroupTopicPartitions(f"{name}-3", [TopicPartition(name, part) for part in range(2)])
    found = broker.admin().list_consumer_group_offsets([asked])[f"{name}-3"].result(10)
    assert {one.partition: one.offset for one in found.topic_partitions} == {0: 9, 1: 0}
    assert source(broker, name, group=name, start="committed", shards=4).starts() == {0: 9, 1: 0}


def test_a_stopped_broker_is_waited_for(broker, topic, reader, caplog):
    name = topic()
    produce(broker.servers, name, range(5))
    one = reader(source(broker, name), {0: 0})
    read_until(one, enough(5))
    wait_for(lambda: one.caught_up(0), one)
    broker.pause()
    try:
        wait_for(lambda: not one.caught_up(0), one)
        assert one.read(0.2) == []
    finally:
        broker.resume()
    for n in (5, 6):  # a producer brings what it kept back in pieces: none of their ends is the end
        produce(broker.servers, name, [n])
        assert read_until(one, enough(1)) == {0: [n]}
        one.read(0.2)
        assert not one.caught_up(0)
    wait_for(lambda: one.caught_up(0), one)


def test_idle_partitions_are_known_to_be_idle_after_a_change_of_leaders(broker, topic, reader):
    one = reader(source(broker, topic(2), discover_seconds=3600), {0: 0, 1: 0})
    wait_for(lambda: one.caught_up(0) and one.caught_up(1), one)
    broker.pause()
    until = time.monotonic() + 11  # longer than its session with the controller
    try:
        while time.monotonic() < until:
            assert one.read(0.2) == []
    finally:
        broker.resume()
    assert not one.caught_up(0)
    wait_for(lambda: one.caught_up(0) and one.caught_up(1), one, 30)


def test_a_broker_that_comes_late_or_crashes_is_waited_for(make_broker, reader, caplog):
    caplog.set_level(logging.WARNING)
    late = make_broker()
    found = []
    asking = threading.Thread(target=lambda: found.append(source(late, "t").starts()), daemon=True)
    late.start()
    late.admin().create_topics([NewTopic("t", 1, 1)])["t"].result(10)
    produce(late.servers, "t", range(5))
    late.kill()
    asking.start()
    until = time.monotonic() + 20
    while "t: waiting for the broker" not in caplog.text:
        assert time.monotonic() < until
        time.sleep(0.05)
    late.start()
    asking.join(20)
    assert found == [{0: 0}]
    one = reader(source(late, "t"), {0: 0})
    assert read_until(one, enough(5)) == {0: list(range(5))}
    wait_for(lambda: one.caught_up(0), one)
    caplog.clear()
    late.kill()
    wait_for(lambda: "t: waiting for the broker" in caplog.text and not one.caught_up(0), one)
    late.start()
    produce(late.servers, "t", range(5, 9))
    assert read_until(one, enough(4)) == {0: [5, 6, 7, 8]}
    wait_for(lambda: one.caught_up(0), one)
    assert caplog.text.count("waiting") <= 3


def test_secrets_let_in_and_are_never_shown(broker, topic, tmp_path, reader, caplog):
    name = topic()
    produce(broker.servers, name, range(3))
    path = tmp_path / "kafka.properties"
    lines = ["# who we are", "security.protocol=SASL_PLAINTEXT", "sasl.mechanism = PLAIN", f"sasl.username={USER}"]
    lines += [f"sasl.password={PASSWORD}", f"bootstrap.servers={broker.sasl_servers}"]
    path.write_text("\n".join(lines))
    config = read_config(str(path))
    kafka = source(broker, name, config=config, servers="")
    assert kafka.starts() == {0: 0}
    assert read_until(reader(kafka, {0: 0}), enough(3)) == {0: [0, 1, 2]}
    shown = [repr(kafka), str(kafka.display_data()), caplog.text]
    wrong = source(broker, name, config={**config, "sasl.password": "wrong-4711"}, servers="")
    with pytest.raises(ValueError, match="kafka_config: must give access to") as caught:
        wrong.starts()
    shown += [str(caught.value), caplog.text]
    bad = reader(wrong, {0: 0})
    with pytest.raises(ValueError, match=f"{name}: must be readable, got") as caught:
        wait_for(lambda: False, bad)
    shown.append(str(caught.value))
    assert not any(secret in text for text in shown for secret in (PASSWORD, "wrong-4711"))


def test_a_registry_that_is_away_holds_messages_back(broker, topic, reader, caplog):
    name = topic()
    producer = Producer({"bootstrap.servers": broker.servers, "log_level": 0})
    producer.produce(name, b"\0\0\0\0\7abc", partition=0)
    producer.flush(10)
    form = AvroRegistry(Columns(columns=("x",)), None, SchemaRegistry("http://127.0.0.1:9"))
    one = reader(KafkaSource(name, form, broker.servers), {0: 0})
    wait_for(lambda: "waiting for the schema registry" in caplog.text, one)
    assert not one.caught_up(0)
    one.seek({0: 1})
    wait_for(lambda: one.caught_up(0), one)


@pytest.fixture
def registry():
    """Schemas 7 and 9 are one double x; 9 is not to be had for now."""
    schema = {"type": "record", "name": "P", "fields": [{"name": "x", "type": "double"}]}
    with schema_server({number: {"schema": json.dumps(schema)} for number in (7, 9)}) as server:
        server.away.add(9)
        yield server


def test_a_partition_that_waits_for_its_schema_holds_no_other_back(broker, topic, reader, registry):
    name, producer = topic(3), Producer({"bootstrap.servers": broker.servers, "log_level": 0})

    def framed(part, schema, numbers):
        for i in numbers:
            producer.produce(name, struct.pack(">bId", 0, schema, 0)[:5] + struct.pack("<d", i), partition=part)
        assert producer.flush(10) == 0

    form = AvroRegistry(Columns(columns=("x",)), None, SchemaRegistry(registry.url))
    framed(0, 9, range(20))
    framed(1, 7, range(20))
    framed(2, 7, range(20))
    one = reader(KafkaSource(name, form, broker.servers), {0: 0, 1: 0, 2: 0})
    assert read_until(one, enough(40)) == {1: list(range(20)), 2: list(range(20))}
    wait_for(lambda: one.caught_up(1) and one.caught_up(2), one)
    framed(0, 9, range(20, 30))
    framed(2, 7, range(20, 50))
    assert read_until(one, enough(30)) == {2: list(range(20, 50))}
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert one.read(0.1) == []
        assert not one.caught_up(0)
    registry.away.clear()
    assert read_until(one, enough(30)) == {0: list(range(30))}
    wait_for(lambda: all(map(one.caught_up, range(3))), one)
    one.seek({0: 5})
    assert read_until(one, enough(25)) == {0: list(range(5, 30))}


def test_an_offset_that_a_broker_does_not_tell_is_no_end(broker, topic):
    name = topic(1)
    produce(broker.servers, name, range(3))
    consumer = open_consumer(source(broker, name).settings, "g")
    try:
        at = 1000 * int(time.time() - 10_000)
        assert _offsets_for_times(consumer, [TopicPartition(name, 0, at)])[0].offset == 0
        with pytest.raises(KafkaException):
            _offsets_for_times(consumer, [TopicPartition(name, 0, at), TopicPartition(name, 7, at)])
    finally:
        consumer.close()


@pytest.mark.parametrize(("settings", "message"), [
    ({"config": {"group.id": "x", "auto.offset.reset": "latest"}}, "leave out .*, got group.id, auto.offset.reset"),
    ({"servers": ""}, "bootstrap.servers: must be given, got none"),
    ({"config": {"bootstrap.servers": "other:1"}}, "bootstrap.servers: must be the same"),
    ({"start": "soon"}, "start: must be 'earliest'"), ({"start": -5}, "start: must be 'earliest'"),
    ({"start": {0: -1}}, "start: must be offsets of at least 0"), ({"shards": 0}, "shards: must be at least 1, got 0"),
    ({"time": "when"}, "time: must be 'message'"), ({"max_ahead": -1}, "max_ahead: must be at least 0"),
    ({"topic": ""}, "topic, group: must not be empty"),
])  # fmt: skip
def test_settings_that_can_not_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        KafkaSource(**{"topic": "t", "format": Block(2), "servers": "host:1", **settings})


def test_configuration_files_are_read_and_their_secrets_stay_there(tmp_path):
    path = tmp_path / "kafka.json"
    path.write_text(json.dumps({"bootstrap.servers": "host:1", "sasl.password": PASSWORD, "a": True, "n": 5}))
    assert read_config(str(path)) == {"bootstrap.servers": "host:1", "sasl.password": PASSWORD, "a": "true", "n": "5"}
    for text in ('{"sasl.password": ["' + PASSWORD + '"]}', '{"sasl.password": "' + PASSWORD, f"x=1\n{PASSWORD}\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="kafka_config: must") as caught:
            read_config(str(path))
        assert PASSWORD not in str(caught.value)
    for setting in ("security.protocol", "no.such.password"):
        config = {setting: PASSWORD, "sasl.password": PASSWORD}
        kafka = KafkaSource("t", Json(Columns(columns=("x",))), "host:1", config=config)
        with pytest.raises(ValueError, match="kafka_config: must be settings of librdkafka") as caught:
            kafka.starts()
        assert PASSWORD not in str(caught.value) + repr(kafka)
