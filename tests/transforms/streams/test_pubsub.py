"""Pub/Sub messages -> blocks; the service itself can't be had here, its message class can."""
import importlib.util
import json

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.transforms.window import TimestampedValue
from jobs import run

from beam_coresets.points.block import PointBlock
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.brokers import pubsub
from beam_coresets.transforms.streams.brokers.pubsub import BlocksFromMessages, ReadPubSub
from beam_coresets.transforms.streams.messages.decoding import EventTime
from beam_coresets.transforms.streams.messages.formats import MESSAGE_KEY, message_format

NOW = 1_700_000_000.0
WINDOWS = WindowSpec("fixed", 10, 10)
SUBSCRIPTION = "projects/p/subscriptions/s"
ROWS = message_format("json", Columns(("x", "y")))


def now():
    return NOW


def message(i, data, key="", number=None):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return TimestampedValue(PubsubMessage(data, {"from": "test"}, f"m{i}" if number is None else number, None, key),
                            NOW + i)  # fmt: skip


def _with_time(block, at=beam.DoFn.TimestampParam):
    return float(at), block


def decoded(messages, form=ROWS, **options):
    """[(time, block)] in order of time, and the letters."""

    def build(pipeline):
        create = beam.Create(messages).with_output_types(PubsubMessage)
        found = pipeline | create | BlocksFromMessages(SUBSCRIPTION, form, WINDOWS, clock=now, **options)
        assert found["blocks"].element_type is PointBlock
        return {"blocks": found["blocks"] | beam.Map(_with_time), "letters": found["dead_letters"]}

    held, _ = run(build)
    return sorted(held["blocks"], key=lambda pair: pair[0]), held["letters"]


def test_rows_become_blocks_of_one_pane_each_at_their_times():
    blocks, letters = decoded([message(i, {"x": i, "y": -i}) for i in (1, 2, 11, 12)])
    assert [time for time, _ in blocks] == [NOW + 1, NOW + 11]
    assert [block.points.tolist() for _, block in blocks] == [[[1, -1], [2, -2]], [[11, -11], [12, -12]]]
    assert [block.extras["id"].to_pylist() for _, block in blocks] == [["m1", "m2"], ["m11", "m12"]]
    assert letters == []


def test_a_message_delivered_again_has_the_same_rows_and_others_have_not():
    points = np.arange(12, dtype="<f4").reshape(4, 3).tobytes()
    form = message_format("block", Columns(dim=3))
    first, again, other = (decoded([message(1, points, number=n)], form)[0][0][1] for n in ("a", "a", "b"))
    assert first.to_bytes() == again.to_bytes()
    assert len({*first.ids.tolist(), *other.ids.tolist()}) == 8
    assert first.extras["id"].to_pylist() == ["a#0", "a#1", "a#2", "a#3"]


def test_what_is_refused_names_its_message():
    blocks, letters = decoded([message(1, {"x": 1, "y": 1}), message(2, {"x": 1}), message(3, b"{"),
                               message(99, {"x": 1, "y": 1})])  # fmt: skip
    assert sum(len(block) for _, block in blocks) == 1
    assert {letter.position for letter in letters} == {"message m2", "message m3", "message m99"}
    assert {letter.source for letter in letters} == {SUBSCRIPTION}
    assert any("60 s ahead" in letter.reason for letter in letters)


def test_keys_and_event_times_from_columns_or_from_the_message():
    by_order = message_format("json", Columns(("x",)), MESSAGE_KEY)
    ((_, block),), letters = decoded([message(1, {"x": 1}, "a"), message(2, {"x": 2})], by_order)
    assert block.extras[pubsub.KEY_COLUMN].to_pylist() == ["a"]
    assert [letter.column_name for letter in letters] == [MESSAGE_KEY]
    by_column = message_format("json", Columns(("x",)), "who")
    rows = [message(1, {"x": 1, "who": "b", "t": NOW - 20})]
    ((time, block),), _ = decoded(rows, by_column, event_time=EventTime("t"))
    assert (time, block.extras[pubsub.KEY_COLUMN].to_pylist()) == (NOW - 20, ["b"])


@pytest.mark.skipif(pubsub._installed(), reason="the extra gcp is installed")
def test_without_the_extra_it_says_what_to_install():
    with pytest.raises(ValueError, match=r"pip install 'beam-coresets\[gcp\]'"):
        ReadPubSub(SUBSCRIPTION, ROWS, WINDOWS)


def test_a_wrong_name_and_two_event_times_are_refused(monkeypatch):
    find = importlib.util.find_spec  # as if the extra were there: it is only looked for, not loaded, at this point
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name.startswith("google") or find(name))
    with pytest.raises(ValueError, match="pubsub_subscription: must be projects/PROJECT/subscriptions/NAME, got 's'"):
        ReadPubSub("s", ROWS, WINDOWS)
    with pytest.raises(ValueError, match="time_attribute: must be left out with time_field 't'"):
        ReadPubSub(SUBSCRIPTION, ROWS, WINDOWS, EventTime("t"), "at")
