"""WindowProgress: what is written of it is read again, by who wrote it and by others; its two dictionaries."""
import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam_coresets.streaming import progress as progress_module
from beam_coresets.streaming.progress import FinalTimes, ReceivedRanges, WindowProgress

KEYS = st.tuples(st.integers(0, 3), st.integers(-1, 1))
ENTRIES = st.tuples(st.lists(st.lists(st.integers(0, 2**50), min_size=2, max_size=2), max_size=2), st.integers(0, 9),
                    st.integers(-1, 9))  # fmt: skip
HELD = st.dictionaries(KEYS, ENTRIES, max_size=40)
FINALS = st.dictionaries(st.integers(0, 12), st.floats(0, 2e9), max_size=40)
NUMBERS = st.integers(0, 2**50)
TIMES = st.none() | st.floats(0, 2e9)
PROGRESS = st.builds(
    WindowProgress, TIMES, FINALS, HELD, st.integers(0, 9), st.integers(0, 2), TIMES, TIMES, st.booleans(),
    st.floats(0, 2e9), st.booleans(), st.integers(0, 99), st.booleans(),
    st.lists(st.tuples(*[NUMBERS] * 5), max_size=3),
    st.lists(st.tuples(st.just("late"), st.floats(0, 2e9), *[NUMBERS] * 5), max_size=3),
)  # fmt: skip
STEPS = st.lists(st.tuples(KEYS, st.none() | ENTRIES, st.none() | st.floats(0, 2e9)), max_size=12)


def read_by_another(head, notes):
    """As by a process that has not written it."""
    WindowProgress.read(head, list)  # forgets it
    return WindowProgress.read(head, lambda: notes)


@given(HELD, STEPS, st.integers(0, 5))
@example({(0, 0): ([], 1, 1)}, [((0, 0), None, None)], 1)
def test_received_ranges_are_a_dictionary(held, steps, every):
    ranges, model = ReceivedRanges(held), dict(held)
    for i, (key, entry, _) in enumerate(steps):
        if every and i % every == 0:
            lines = {shard: ranges.line(shard) for shard in {shard for shard, _ in ranges} | ranges.changed}
            ranges.forget()
            assert {shard for shard, line in lines.items() if line} == {shard for shard, _ in model}
        assert ranges.get(key) == model.get(key)
        if entry is not None:
            ranges[key] = model[key] = entry
        elif key in model:
            del ranges[key], model[key]
    assert ranges.shards == len({shard for shard, _ in model})
    assert (ranges, len(ranges)) == (model, len(model))
    backwards = ReceivedRanges(dict([*model.items()][::-1]))
    assert all(ranges.line(shard) == backwards.line(shard) for shard, _ in model)


@given(FINALS, STEPS)
def test_final_times_are_a_dictionary_that_knows_their_order(held, steps):
    finals, model = FinalTimes(held), dict(held)
    for (shard, _), entry, time in steps:
        if entry is None:
            assert finals.rising() == sorted(model.values())
        if time is None:
            assert finals.pop(shard, None) == model.pop(shard, None)
        else:
            finals[shard] = model[shard] = time
    assert finals == model
    assert finals.rising() == sorted(model.values())


@given(PROGRESS, STEPS, st.permutations(range(80)))
def test_what_is_written_is_read_by_who_wrote_it_and_by_others(progress, steps, order):
    head, notes = progress.write()
    assert WindowProgress.read(head, lambda: pytest.fail("it was forgotten")) is progress
    for (shard, part), entry, time in steps:
        if entry is None:
            progress.received.pop((shard, part), None)
        else:
            progress.received[shard, part] = entry
        if time is None:
            progress.finals.pop(shard, None)
        else:
            progress.finals[shard] = time
        progress.kept += 1
    if steps:
        head, more = progress.write()
        assert len(more) <= len({shard for (shard, _), _, _ in steps})
        notes += more
    back = read_by_another(head, [notes[i] for i in order if i < len(notes)] + notes[len(order) :])
    assert back is not progress
    assert back == progress
    assert back.finals.rising() == progress.finals.rising()
    assert back.write()[1] == [], "nothing has changed since"


@given(PROGRESS, st.integers(0, 3))
def test_notes_on_all_replace_those_before(progress, times):
    for _ in range(times):
        progress.write()
    progress.note_all()
    head, notes = progress.write()
    assert read_by_another(head, notes) == progress
    assert len(notes) == len({*progress.finals, *(shard for shard, _ in progress.received)})


def test_a_bundle_that_is_done_again_starts_from_what_lasts():
    progress = WindowProgress(received={(0, 0): ([[0, 5]], 5, 5)})
    head, notes = progress.write()
    failed = WindowProgress.read(head, list)
    failed.received[1, 0] = ([[0, 3]], 3, 3)
    failed.write()
    again = WindowProgress.read(head, lambda: notes)
    assert again == WindowProgress(received={(0, 0): ([[0, 5]], 5, 5)}, noted=1)


def test_what_nobody_asks_for_stays_text(monkeypatch):
    entries = {(shard, part): ([[0, 5]], 5, 5) for shard in range(1000) for part in (0, 1)}
    head, notes = WindowProgress(received=entries, finals=dict.fromkeys(range(1000), 1.0)).write()
    read = []
    monkeypatch.setattr(json, "loads", lambda line, loads=json.loads: read.append(line) or loads(line))
    progress = read_by_another(head, notes)
    read.clear()
    assert progress.received[517, 1] == ([[0, 5]], 5, 5)
    assert (517, 2) not in progress.received
    assert (1000, 0) not in progress.received
    assert (progress.received.shards, len(read)) == (1000, 1)
    assert progress.write()[1] == []


def test_a_process_remembers_so_much_and_no_more(monkeypatch):
    monkeypatch.setattr(progress_module, "_REMEMBERED", progress_module._Remembered(100))
    heads = []
    for window in range(30):
        received = {(shard, window): ([[0, 5]], 5, 5) for shard in range(9)}
        heads.append(WindowProgress(received=received).write())
    known = [WindowProgress.read(head, list).received.shards == 9 for head, _ in heads]
    assert known == [False] * 20 + [True] * 10


def test_equal_progress_has_equal_notes():
    entries = {(shard, part): ([[0, 5 + shard]], 5, 5) for shard, part in itertools.product(range(3), range(2))}
    one = WindowProgress(1.0, {2: 4.0, 1: 3.5}, entries)
    other = WindowProgress(1.0, {1: 3.5, 2: 4.0}, dict([*entries.items()][::-1]))
    assert one.write()[1] == other.write()[1]
