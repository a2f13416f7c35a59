"""What is said while a broker is away."""
import logging

import pytest

pytest.importorskip("confluent_kafka")
from beam_coresets.transforms.streams.brokers.kafka_config import Complaints


def test_a_broker_that_is_away_is_named_at_once_and_every_ten_seconds(caplog):
    now = [1000.0]
    complaints = Complaints({"bootstrap.servers": "one:1,two:2", "sasl.password": "open-sesame"}, lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(60):
            complaints.away("points", "refused: open-sesame")
            now[0] += 1
        now[0] += 3600
        complaints.away("points", "refused")
    said = [record.getMessage() for record in caplog.records]
    assert [line.rpartition(", ")[2] for line in said] == [f"{s} s by now" for s in (0, 10, 20, 30, 40, 50, 0)]
    assert all(line.startswith("points: waiting for the broker at one:1,two:2 (refused") for line in said)
    assert "open-sesame" not in caplog.text
