"""Cursors: what has been told of each pane, when a pane is complete, and their JSON."""
import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.shards.report import Range, finished_parts, merge_ranges
from beam_coresets.streaming.cursor import MAX_EMPTY, Completeness, PartCursor, ShardCursor
from beam_coresets.streaming.windows import WindowSpec

RULES = Completeness(WindowSpec.parse("5s"), disorder=0.5, idle=1.0)


def read(cursor, panes, high=None, now=0.0):
    """After one more message of one row for each of `panes`."""
    panes = np.array(panes, np.int64)
    stop = cursor.offset + len(panes)
    high = float(panes.max()) * 5 + 1 if high is None else high
    return cursor.taken(cursor.offset, stop, stop, panes, np.ones(len(panes), np.int64), high, now)


STEPS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 8), min_size=1, max_size=5), st.integers(0, 9), st.none(), st.tuples(st.integers(0, 12))
    )
)


@given(STEPS)
def test_every_row_is_told_once_and_ranges_join_without_gaps(steps):
    """A step reads rows, or closes panes, or lets them pass, or tells what is new."""
    cursor, told, rows = PartCursor(0, closed=2, told=2), {}, {}
    for step in [*steps, None]:
        if isinstance(step, list):
            cursor = read(cursor, step)
            for pane in step:
                rows[pane] = rows.get(pane, 0) + 1
        elif step is None:
            for pane, found in cursor.news(7).items():
                told.setdefault(pane, []).append(found)
            cursor = cursor.reported()
            assert not cursor.news(7)
            assert not cursor.late
        elif isinstance(step, tuple):
            cursor = cursor.passed_at(*step)
        else:
            cursor = cursor.closed_at(step)
    assert {pane: sum(r.rows for r in found) for pane, found in told.items() if any(r.rows for r in found)} == rows
    for pane, found in told.items():
        on_time = [r for r in found if not r.late]
        assert all(a.stop == b.start for a, b in itertools.pairwise(on_time))
        assert all(a.stop <= b.start for a, b in itertools.pairwise(found))
        assert (finished_parts(found) == [7]) == (2 <= pane < cursor.closed)
        assert sum(r.total >= 0 for r in found) == (2 <= pane < cursor.closed)
        assert all(r.late for r in found) == (pane < 2)
        assert merge_ranges(found)[0].rows == sum(r.rows for r in found)
    assert set(range(2, cursor.closed)) <= set(told)
    assert all(pane >= cursor.told for pane in cursor.tallies)


@st.composite
def cursors(draw):
    numbers, times = st.integers(0, 2**53), st.floats(0, 2e9)
    parts = {}
    for part in draw(st.sets(st.integers(0, 20), max_size=4)):
        position = draw(st.one_of(numbers, st.fixed_dictionaries({"file": st.text(max_size=3), "offset": numbers})))
        pane, high = draw(st.none() | st.integers(-9, 10**9)), draw(st.just(-math.inf) | times)
        cursor = PartCursor(position, draw(numbers), high, draw(times), draw(st.just(-math.inf) | times), pane, pane)
        for panes in draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=2)):
            cursor = read(cursor, panes)
        parts[part] = dataclasses.replace(cursor, passed=draw(st.none() | numbers), announced=draw(st.none() | numbers))
    return ShardCursor(parts, draw(st.integers(0, 99)))


@given(cursors())
def test_json_brings_everything_back_and_equal_cursors_have_equal_text(cursor):
    text = cursor.to_json()
    back = ShardCursor.from_json(text)
    assert back == cursor
    assert back.to_json() == text
    assert ShardCursor(dict(reversed(cursor.parts.items())), cursor.known).to_json() == text
    assert back.news() == cursor.news()


def test_a_pane_is_closed_once_its_part_is_past_it_by_more_than_the_disorder():
    cursor = RULES.begun(PartCursor(0), 1000.0)
    assert (cursor.told, cursor.closed) == (199, 199)
    cursor = read(cursor, [200, 200], high=1005.4)
    assert RULES.closed(cursor, False, False, 0.0, 1e9).closed == 200
    cursor = read(cursor, [201], high=1005.5)
    closed = RULES.closed(cursor, False, False, 0.0, 1e9)
    assert closed.closed == 201
    assert closed.news(3) == {199: Range(3, 3, 3, 0, 0), 200: Range(3, 0, 3, 2, 2), 201: Range(3, 2, 3, 1)}


def test_what_comes_behind_the_first_message_within_the_disorder_is_not_late():
    """However the messages fall into chunks, or holders of a part would not tell the same."""
    apart = RULES.begun(PartCursor(0), 1000.2)
    apart = read(RULES.begun(read(apart, [200], high=1000.2), 999.9), [199], high=999.9)
    together = read(RULES.begun(PartCursor(0), 999.9), [200, 199], high=1000.2)
    assert not apart.late
    assert {p: t.rows for p, t in apart.tallies.items()} == {p: t.rows for p, t in together.tallies.items()}
    assert apart.told == together.told == 199


def test_an_idle_part_does_not_hold_panes_open():
    never = PartCursor(0, closed=200, told=200)
    assert RULES.closed(never, False, False, 0.0, 2000.0).closed == 200, "nobody has looked yet"
    assert RULES.closed(never, True, False, 0.0, 1010.9).closed == 201
    assert RULES.closed(never, True, False, 3.0, 1014.0).closed == 202, "as far behind as the others"
    assert RULES.closed(never, True, False, 3.0, 1014.0, age=0.1).closed == 201, "what came since then is not known of"
    live = RULES.closed(never, True, False, 0.0, 1000.0)
    some = read(live, [200], high=1001.0, now=1003.0)
    assert RULES.closed(some, True, False, 0.0, 1003.9).closed == 200
    assert RULES.closed(some, True, False, 0.0, 1013.0).closed == 202
    assert RULES.closed(some, True, False, 99.0, 1012.9).closed == 201, "its own lag counts"
    backlog = read(never, [200], high=1001.0, now=4600.0)
    assert RULES.closed(backlog, True, False, 0.0, 4611.0).closed == 922, "what lay there says nothing of what comes"


def test_lag_is_learnt_from_messages_that_were_waited_for():
    waiting = RULES.closed(PartCursor(0), True, False, 0.0, 1000.0)
    prompt = read(waiting, [200], high=1001.0, now=1001.25)
    assert prompt.lag == 0.25
    waiting = RULES.closed(prompt, True, False, 0.0, 1001.5)
    assert read(waiting, [200], high=1002.0, now=1005.0).lag == 3, "its source has fallen behind"
    assert read(waiting, [200], high=1002.0, now=1002.125).lag == 0.125
    backlog = RULES.closed(prompt, False, False, 0.0, 1001.5)
    assert read(backlog, [200], high=1002.0, now=1005.0).lag == 0.25, "it may have waited for us"
    assert read(backlog, [200], high=1002.0, now=1002.125).lag == 0.125
    stuck = ShardCursor({0: waiting}, 1).paused().parts[0]
    assert read(stuck, [200], high=1002.0, now=1022.0).lag == 0.25, "nobody was there to read it"


def test_a_first_message_before_the_beginning_is_not_late():
    """Other parts' first messages say where panes begin; a part with older ones has more to tell."""
    waiting = PartCursor(0, closed=200, told=200, begin=200)
    assert RULES.begun(waiting, 500.0).told == 99
    told = RULES.closed(waiting, True, False, 0.0, 1031.0).reported()
    assert RULES.begun(told, 500.0).told == told.told > 200, "what has been told stays"


def test_a_part_that_has_ended_does_not_hold_panes_open():
    some = read(PartCursor(0, closed=200, told=200), [200], high=1001.0, now=1001.0)
    ended = RULES.closed(some, True, True, 0.0, 1001.0)
    assert ended.closed == 201
    assert RULES.closed(ended, True, True, 0.0, 1031.0).closed == 206, "windows of other parts go on"
    never = PartCursor(0, closed=200, told=200)
    assert RULES.closed(never, True, True, 0.0, 1031.0).closed == 206


def test_a_leap_of_years_does_not_make_millions_of_windows():
    cursor = PartCursor(0, closed=0, told=0)
    cursor = read(cursor, [3, 10**8]).closed_at(10**8)
    news = cursor.news(0)
    assert len(news) == MAX_EMPTY + 2
    assert (news[3].total, news[10**8 - 1].total, news[10**8].total) == (1, 0, -1)


def test_where_to_go_back_to_is_the_first_pane_that_is_not_settled():
    cursor = PartCursor(0, closed=1, told=1)
    for panes in ([1, 1], [2], [2, 3]):
        cursor = read(cursor, panes)
    assert (cursor.floor(), dict(cursor.floors)) == (0, {1: 0, 2: 2, 3: 3})
    assert cursor.settled({1}).floor() == 2
    assert cursor.settled({1, 2, 3}).floor() == cursor.position == 5
    assert cursor.settled({9}) is cursor
    late = read(cursor.settled({1, 2, 3}).closed_at(4).reported(), [0, 2])
    assert late.floor() == late.position, "nobody may ever decide the windows of late rows"


def test_a_shard_has_read_as_far_as_its_slowest_part():
    cursor = ShardCursor({0: read(PartCursor(0), [3]), 1: PartCursor(5)}, 4)
    assert cursor.read_upto == -math.inf
    assert cursor.positions == {0: 1, 1: 5}
    cursor = cursor.with_part(1, read(PartCursor(5), [2]))
    assert cursor.read_upto == 11.0
    assert list(cursor.news()) == [2, 3]
    assert cursor.reported().news() == {}
    assert ShardCursor({}).read_upto == -math.inf


@pytest.mark.parametrize("name", ["disorder", "idle"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_rules_that_cannot_work_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: must be at least 0 seconds, got {value}"):
        Completeness(RULES.windows, **{name: value})


def test_panes_that_began_before_reading_did_are_told_as_headless():
    cursor = RULES.begun(PartCursor(9, 9, closed=200, told=200, begin=200, whole=203), 1006.0)
    assert cursor.whole == 202, "nothing of before the first message is in what begins 0.5 s after it"
    cursor = read(cursor, [201, 202], high=1011.0).closed_at(203)
    assert {pane: (found.total, found.headless) for pane, found in cursor.news(0).items()} == {
        200: (0, True), 201: (1, True), 202: (1, False),
    }  # fmt: skip
    assert RULES.begun(cursor, 500.0).whole == 202, "only the first message says so"
    assert RULES.begun(PartCursor(9, whole=203), 5000.0).whole == 203


def test_panes_that_pass_while_messages_can_not_be_read_are_told_of_once_and_are_not_complete():
    """Or nobody would wait for them, as long as an open transaction holds up every part."""
    live = dataclasses.replace(PartCursor(0, closed=200, told=200), live=True)
    cursor = read(live, [200], high=1001.0, now=1001.2).reported()
    assert RULES.closed(cursor, False, False, 0.0, 1017.0).passed is None, "what could be read was not read yet"
    held = RULES.closed(cursor, False, False, 0.0, 1017.0, drained=True)
    assert (held.passed, held.closed) == (203, 200)
    assert held.news(4) == {201: Range(4, 1, 1, 0), 202: Range(4, 1, 1, 0)}
    held = held.reported()
    assert not RULES.closed(held, False, False, 0.0, 1019.0, drained=True).news(4)
    freed = read(held, [201, 201], high=1008.0, now=1030.0)
    freed = RULES.closed(freed, True, False, freed.lag, 1060.0)
    found = freed.news(4)
    assert (found[201], found[202]) == (Range(4, 1, 3, 2, 2), Range(4, 1, 3, 0, 0))
    assert not RULES.closed(PartCursor(0), False, False, 0.0, 1017.0, drained=True).news(4), "no pane has begun"


def test_a_transaction_that_stays_open_does_not_make_the_cursor_grow():
    """Each pane is announced once all the same, and its rows count when they come after all."""
    cursor, told = read(PartCursor(0, closed=200, told=200), [200]).reported(), []
    end = 200 + 4 * MAX_EMPTY
    for pane in range(300, end + 1, 100):
        cursor = cursor.passed_at(pane)
        told += cursor.news(4)
        cursor = cursor.reported()
        assert len(cursor.tallies) <= MAX_EMPTY + 1
    assert told == list(range(201, end))
    assert ShardCursor.from_json(ShardCursor({4: cursor}, 1).to_json()).parts[4] == cursor
    freed = read(cursor, [201, end - 1]).closed_at(end)
    found = freed.news(4)
    assert sorted(found) == [200, 201, *range(end - MAX_EMPTY, end)]
    assert (found[200], found[201]) == (Range(4, 1, 3, 0, 1), Range(4, 1, 3, 1, 1))
    assert found[end - 1] == Range(4, 1, 3, 1, 1)
    assert not freed.reported().tallies


@pytest.mark.parametrize("step", [3600.0, -3600.0])
@pytest.mark.parametrize("some", [True, False])
def test_a_clock_that_is_set_settles_nothing(step, some):
    """Neither forward, which would close what is to come, nor back, which would hold panes open for as long."""
    never = ShardCursor({0: RULES.closed(PartCursor(0, closed=200, told=200), True, False, 0.0, 1000.0)}, 1)
    cursor = never.with_part(0, read(never.parts[0], [200], high=1001.0, now=1001.2)) if some else never
    for now in (1001.5, 1008.9, 1013.0, 1500.0):
        expected = RULES.closed(cursor.parts[0], True, False, cursor.lag, now).closed
        set_ = cursor.stepped(step)
        assert RULES.closed(set_.parts[0], True, False, set_.lag, now + step).closed == expected
    after = cursor.stepped(step)
    after = RULES.closed(after.parts[0], True, False, after.lag, 1001.5 + step)
    after = read(after, [202], high=1014.0, now=1014.2 + step)
    assert RULES.closed(after, False, False, 0.0, 1014.2 + step).closed == 202
    assert read(after, [202], high=1014.1, now=1014.3).lag == pytest.approx(0.2), "and put right again"


def test_lag_is_learnt_where_all_that_can_be_read_was_read():
    """A transaction that others have open, too, does not hide how late messages come."""
    waiting = RULES.closed(PartCursor(0), False, False, 0.0, 1000.0, drained=True)
    assert read(waiting, [200], high=1001.0, now=1003.0).lag == 2
