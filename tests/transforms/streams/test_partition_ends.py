"""When a Kafka partition is read to its end: by what was written, not by what may be read."""
import pytest

from beam_coresets.transforms.streams.brokers.partition_ends import PartitionEnds


def begun(*parts):
    ends = PartitionEnds()
    ends.begin(parts, 0.0)
    return ends


def test_an_end_counts_when_all_that_is_written_ends_there():
    ends = begun(0)
    assert not ends.caught_up(0, 0.0)
    ends.reached(0, 5, 5, 1.0)
    assert ends.caught_up(0, 2.5)
    assert ends.age(0, 2.5) == 1.5
    assert not ends.caught_up(0, 4.0), "what was seen 3 s ago proves nothing"
    ends.answered(0, 5, 3.0, 3.2)
    assert ends.caught_up(0, 4.2)
    assert ends.age(0, 4.2) == pytest.approx(1.2), "since it was asked"
    ends.read(0, 4.3)
    assert not ends.caught_up(0, 4.3)


@pytest.mark.parametrize("open_at_once", [True, False])
def test_messages_in_an_open_transaction_keep_a_partition_from_being_caught_up(open_at_once):
    ends, now = begun(0), 1.0
    ends.reached(0, 5, 9 if open_at_once else 5, now)
    assert ends.caught_up(0, now) is not open_at_once
    while now < 100:
        now += 0.5
        for part in ends.due(now):
            ends.answered(part, 9, now, now + 0.01)
        assert not ends.caught_up(0, now) or (not open_at_once and ends.age(0, now) == now - 1.0)
    assert not ends.caught_up(0, now)
    assert ends.drained(0, now), "all that may be read has been"
    assert ends.blocked(now)[0] == (pytest.approx(98.5, abs=1), 5)
    ends.read(0, now)
    ends.reached(0, 10, 10, now + 0.1)
    assert ends.caught_up(0, now + 0.1), "questions were answered all the while: nobody was away"
    assert not ends.blocked(now + 0.1)


def test_a_question_is_asked_twice_a_second_however_slowly_it_is_answered():
    ends = begun(0, 1)
    ends.reached(0, 5, 9, 0.0)
    assert [ends.due(i / 10) for i in range(10)] == [[0], *[[]] * 4, [0], *[[]] * 4]


def test_after_an_outage_producers_get_as_long_to_bring_what_they_kept():
    ends = begun(0)
    ends.reached(0, 5, 5, 1.0)
    ends.answered(0, 5, 8.9, 9.0)
    assert not ends.caught_up(0, 16.9)
    ends.answered(0, 5, 10.0, 10.0)
    ends.answered(0, 5, 12.5, 12.5)
    ends.answered(0, 5, 15.0, 15.0)
    ends.answered(0, 5, 17.0, 17.0)
    assert ends.caught_up(0, 17.0)


def test_an_end_before_what_was_read_says_that_the_log_was_cut():
    ends = begun(0, 1)
    ends.reached(0, 5, 5, 1.0)
    ends.answered(0, 4, 0.9, 1.1)
    ends.answered(0, 4, 0.9, 1.1)
    assert ends.cut() is None, "asked before that was read"
    ends.answered(0, 4, 1.5, 1.6)
    assert ends.cut() is None, "a leader may know less for a moment"
    ends.answered(0, 4, 2.0, 2.1)
    assert ends.cut() == (0, 4)
