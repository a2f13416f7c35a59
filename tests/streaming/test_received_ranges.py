"""ReceivedRanges: a dictionary of which only what is asked for is read from its text."""
import json

from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.streaming.received_ranges import ReceivedRanges

KEYS = st.tuples(st.integers(0, 120), st.integers(-1, 3))
ENTRIES = st.tuples(st.lists(st.lists(st.integers(0, 2**50), min_size=2, max_size=2), max_size=2), st.integers(0, 9),
                    st.integers(-1, 9))  # fmt: skip
HELD = st.dictionaries(KEYS, ENTRIES, max_size=40)


@given(HELD, st.lists(st.tuples(KEYS, st.none() | ENTRIES), max_size=12), st.integers(0, 5))
def test_it_is_a_dictionary_whose_text_is_its_content(held, steps, every):
    ranges, model = ReceivedRanges(held), dict(held)
    for i, (key, entry) in enumerate(steps):
        if every and i % every == 0:
            ranges = ReceivedRanges.from_text(ranges.text())
        assert ranges.get(key) == model.get(key)
        if entry is not None:
            ranges[key] = model[key] = entry
        elif key in model:
            del ranges[key], model[key]
    assert ranges.shards == len({shard for shard, _ in model})
    assert ranges.text() == ReceivedRanges(dict([*model.items()][::-1])).text()
    assert (ranges, len(ranges)) == (model, len(model))


@given(HELD)
def test_its_text_is_a_line_a_shard_by_rising_number(held):
    lines = ReceivedRanges(held).text().splitlines()
    assert [int(line.partition(":")[0]) for line in lines] == sorted({shard for shard, _ in held})
    assert sum(len(json.loads(line.partition(":")[2])) for line in lines) == len(held)


def test_what_nobody_asks_for_stays_text(monkeypatch):
    text = ReceivedRanges({(shard, part): ([[0, 5]], 5, 5) for shard in range(1000) for part in (0, 1)}).text()
    read = []
    monkeypatch.setattr(json, "loads", lambda line, loads=json.loads: read.append(line) or loads(line))
    ranges = ReceivedRanges.from_text(text)
    assert ranges[517, 1] == ([[0, 5]], 5, 5)
    assert (517, 2) not in ranges
    assert (1000, 0) not in ranges
    assert (ranges.shards, len(read)) == (1000, 1)
    assert ranges.text() == text
