"""How shards read: what is injected to hold them."""
import pytest

from beam_coresets.transforms.shards.shard_restriction import Reading
from beam_coresets.transforms.summarize_stream import FirstDecided
from beam_coresets.transforms.writing.claims import Claims


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def held(reading, clock, shard, times):
    found = []
    for clock.now in times:
        found.append(reading.held(shard))
    return found


def test_a_shard_is_held_between_two_times():
    clock = Clock()
    reading = Reading(hold=((2, 110.0, 120.0), (2, 130.0, 131.0)), clock=clock)
    assert held(reading, clock, 2, [109.9, 110.0, 119.9, 120.0, 130.5]) == [False, True, True, False, True]
    assert not any(held(reading, clock, 1, [110.0, 115.0, 130.5]))


def test_a_hold_after_the_first_window_waits_for_it():
    clock, first = Clock(), []
    reading = Reading(hold_after_first=((1, 10.0, 5.0),), first=lambda: first[0] if first else None, clock=clock)
    assert not any(held(reading, clock, 1, range(100, 200)))
    first.append(200.0)
    assert held(reading, clock, 1, [205.0, 210.0, 214.9, 215.0]) == [False, True, True, False]
    assert not any(held(reading, clock, 0, [210.0]))


@pytest.mark.parametrize("earlier", [0, 2])
def test_the_first_window_is_the_first_that_was_decided_since_the_launch(tmp_path, earlier, monkeypatch):
    from windows_written import DAY, answer, minute, write

    assert answer(minute(0), 0).answers[0].row["decided_at"] == DAY + 62
    for i in range(earlier):
        write(tmp_path, answer(minute(i), i))
    first = FirstDecided(Claims(str(tmp_path)), DAY + 60 * earlier + 10)
    assert first() is None
    for i in range(earlier, earlier + 3):
        write(tmp_path, answer(minute(i), i))
    assert first() == DAY + 60 * earlier + 62
    monkeypatch.setattr(Claims, "own_since", lambda *args: pytest.fail("it is known"))
    assert first() == DAY + 60 * earlier + 62
