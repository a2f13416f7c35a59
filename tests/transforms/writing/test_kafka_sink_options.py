"""What WriteToKafka refuses before anything runs, and what it never shows."""
import apache_beam as beam
import pytest
from apache_beam.transforms.display import DisplayData

from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.kafka_sink import WriteToKafka

SECRET = "open-sesame-73"
CONFIG = {"bootstrap.servers": "127.0.0.1:9", "sasl.username": "u", "sasl.password": SECRET}


@pytest.mark.parametrize(("config", "topic", "encoding", "message"), [
    ({}, "t", "json", r"kafka_config: must have bootstrap\.servers, got none"),
    (CONFIG | {"acks": 1}, "t", "json", "kafka_config: must have acks all or leave it out, got 1"),
    (CONFIG | {"enable.idempotence": "false"}, "t", "json", "kafka_config: must have enable.idempotence true"),
    (CONFIG, "", "json", "output_topic: must be the name of a topic, got ''"),
    (CONFIG, "t", "xml", "encoding: must be one of json, avro, got 'xml'"),
])  # fmt: skip
def test_what_can_not_work_is_refused(tmp_path, config, topic, encoding, message):
    with pytest.raises(ValueError, match=message):
        WriteToKafka(Claims(str(tmp_path)), config, topic, encoding)


def test_both_tables_must_be_there_to_be_announced(tmp_path):
    with pytest.raises(ValueError, match="output_topic: must have summaries and centers among the tables, got no cen"):
        WriteToKafka(Claims(str(tmp_path), wanted=("summaries", "coreset")), CONFIG, "t")


def test_passwords_are_not_shown(tmp_path):
    step = WriteToKafka(Claims(str(tmp_path)), CONFIG, "topic-x")
    inner = step._announce
    shown = [repr(step), str(step), repr(inner), repr(beam.ParDo(inner)), step.default_label()]
    shown += [str(DisplayData.create_from(thing).to_proto()) for thing in (step, inner, beam.ParDo(inner))]
    assert "topic-x" in "".join(shown)
    assert SECRET not in "".join(shown)
    assert "127.0.0.1" not in "".join(shown)
