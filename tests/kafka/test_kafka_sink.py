"""The topic of claimed decisions, on a real broker: nothing lost, nothing unclaimed, repetitions identical."""
import io
import json
import pickle
import uuid

import apache_beam as beam
import fastavro
import pytest
from apache_beam.utils.windowed_value import WindowedValue
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic
from jobs import clusters, counters, parts_of, run, without_beam

from beam_coresets import table_schemas, tables
from beam_coresets.parameters.plan import Plan
from beam_coresets.results.summary import Summary, summary_of_keys
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.coordinator.replicas import ApartFromSolving
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.kafka_sink import WriteToKafka
from beam_coresets.transforms.writing.sinks import WriteSummaries

pytestmark = pytest.mark.kafka

PLAN = Plan(k=3, shards=3, replication=2, coreset_size=20)
WINDOW = Window(600.0, 660.0)
TEN_PAST = ["1970-01-01T00:10:00Z", "1970-01-01T00:11:00Z"]


def decision(seed=0, window=WINDOW):
    return without_beam(parts_of(clusters(200, seed)), PLAN, window=window)


@pytest.fixture
def topic(broker):
    name = f"summaries-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.servers})
    (made,) = admin.create_topics([NewTopic(name, 3, 1)]).values()
    made.result(30)
    return name


def messages(broker, topic):
    """All messages of a topic as (key, table, value), partition by partition."""
    consumer = Consumer({
        "bootstrap.servers": broker.servers, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    })  # fmt: skip
    consumer.subscribe([topic])
    found, ended = [], set()
    while len(ended) < 3:
        message = consumer.poll(30)
        assert message is not None, "the broker must answer"
        if message.error():
            ended.add(message.partition())
        else:
            found.append((json.loads(message.key()), dict(message.headers())["table"].decode(), message.value()))
    consumer.close()
    return found


def lines_of(claims, window, table):
    return list(tables.json_lines(claims.read(window, table).select(
        [name for name in table_schemas.SCHEMAS[table].names if name != "evidence"])))  # fmt: skip


def announce(broker, topic, folder, summaries, **options):
    def build(pipeline):
        create = beam.Create(summaries).with_output_types(Summary)
        write = WriteSummaries(str(folder))
        written = pipeline | create | write
        config = {"bootstrap.servers": broker.servers, "linger.ms": 5}
        return {"told": written.windows | ApartFromSolving() | WriteToKafka(write.claims, config, topic, **options)}

    held, result = run(build)
    return held["told"], counters(result)


def test_rows_of_summaries_centers_and_columns_go_out_once_under_their_window_and_key(broker, topic, tmp_path):
    keys = [decision(i, Window(600.0, 660.0, f"key/{i}")) for i in range(3)]
    whole = summary_of_keys(Window(600.0, 660.0, "group"), keys)
    told, counted = announce(broker, topic, tmp_path, [whole, whole, summary_of_keys(whole.window, keys[::-1])])
    assert {window.name for window in told} == {whole.window.name}
    assert counted["decisions_dropped"] == 1
    claims, found = Claims(str(tmp_path)), messages(broker, topic)
    assert len(found) == 3 + 9 + 9
    for i in range(3):
        mine = [(table, value) for key, table, value in found if key == [*TEN_PAST, f"key/{i}"]]
        assert [table for table, _ in mine] == ["centers"] * 3 + ["columns"] * 3 + ["summaries"]
        assert [json.loads(value)["weight"] for _, value in mine[:3]] == keys[i].centers.column("weight").to_pylist()
        assert [value for _, value in mine[3:6]] == lines_of(claims, whole.window, "columns")[3 * i : 3 * i + 3]
        assert mine[6][1] == lines_of(claims, whole.window, "summaries")[i]
    again, _ = announce(broker, topic, tmp_path, [whole])
    assert again == []
    assert len(messages(broker, topic)) == 21


def test_a_claim_that_nobody_announced_is_announced_by_whoever_comes(broker, topic, tmp_path):
    claims = Claims(str(tmp_path))
    assert claims.publish(decision())  # and the process ends
    told, counted = announce(broker, topic, tmp_path, [decision(1)])
    assert told == [WINDOW]
    assert counted == {"decisions_dropped": 1, "windows_announced": 1}
    assert claims.announced(WINDOW)
    expected = {value for table in ("centers", "columns", "summaries") for value in lines_of(claims, WINDOW, table)}
    assert {value for _, _, value in messages(broker, topic)} == expected
    (row,) = (json.loads(value) for _, table, value in messages(broker, topic) if table == "summaries")
    assert row["cost"] == decision().answers[0].row["cost"] != decision(1).answers[0].row["cost"]


def test_an_announcement_whose_mark_was_lost_is_repeated_word_for_word(broker, topic, tmp_path):
    announce(broker, topic, tmp_path, [decision()])
    first = sorted(map(str, messages(broker, topic)))
    (tmp_path / ".claims" / f"{WINDOW.name}.announced").unlink()
    announce(broker, topic, tmp_path, [decision(1)])
    assert sorted(map(str, messages(broker, topic))) == sorted(first * 2)


def test_avro_messages_are_read_by_the_tables_schema(broker, topic, tmp_path):
    announce(broker, topic, tmp_path, [decision()], encoding="avro")
    claims = Claims(str(tmp_path))
    for name in ("centers", "columns", "summaries"):
        table = claims.read(WINDOW, name)
        table = table.select([c for c in table.column_names if c != "evidence"])
        schema = tables.avro_schema(table.schema)
        rows = [fastavro.schemaless_reader(io.BytesIO(value[10:]), schema)
                for _, kind, value in messages(broker, topic) if kind == name]  # fmt: skip
        assert rows == table.to_pylist()


def test_what_is_not_delivered_is_not_marked_and_fails_the_bundle(broker, tmp_path):
    claims = Claims(str(tmp_path))
    claims.publish(decision())
    config = {"bootstrap.servers": broker.servers, "message.timeout.ms": 4000}
    step = pickle.loads(pickle.dumps(WriteToKafka(claims, config, "no-such-topic")))._announce
    step.start_bundle()
    step.process(WINDOW)
    with pytest.raises(RuntimeError, match="output_topic: must take every message, got 7 failed in 'no-such-topic'"):
        list(step.finish_bundle())
    assert not claims.announced(WINDOW)


def test_more_messages_than_the_producer_queues_go_out(broker, topic, tmp_path):
    claims = Claims(str(tmp_path))
    many = summary_of_keys(WINDOW, [decision()] * 20)
    claims.publish(many)
    config = {"bootstrap.servers": broker.servers, "queue.buffering.max.messages": 7}
    step = WriteToKafka(claims, config, topic)._announce
    step.start_bundle()
    step.process(WINDOW)
    assert [type(value) for value in step.finish_bundle()] == [WindowedValue]
    assert len(messages(broker, topic)) == 140
