"""Events: each change is told once, whatever comes and goes; nothing is told of a quiet stream."""
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.shards.refused import RefusedRows
from beam_coresets.streaming.events import (
    HEALED,
    QUIET,
    QUIET_WINDOWS,
    STRAGGLING,
    CenterMemory,
    CenterWindow,
    EventMemory,
    WindowMemory,
    center_events,
    drift_event,
    window_events,
)

STEADY = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}
PLACES = {name: np.array([[float(i), 0.0]]) for i, name in enumerate("abcdef")}


def window(end, shares, born=(), ended=None, points=10_000):
    """A window whose points stand in places: `shares` of them at each center."""
    names = tuple(shares)
    points_at = np.repeat([ord(name[0]) - ord("a") for name in names], [round(points * s) for s in shares.values()])
    where = np.column_stack([points_at, np.zeros(len(points_at))]).astype(float)

    def index_of(centers):
        return np.argmin(((where[:, None] - centers) ** 2).sum(axis=2), axis=1)

    centers = np.concatenate([PLACES.get(name[0], [[9.0, 9.0]]) for name in names])
    return CenterWindow(end, names, centers, index_of, np.ones(len(where)), len(where), dict(born), ended or {})


def told(windows):
    """(window, kind, center) of the events of windows of (shares, born, ended)."""
    memory, found = EventMemory(centers={"": CenterMemory()}), []
    for i, each in enumerate(windows):
        events, after = center_events(window(60.0 * (i + 1), *each), memory.centers[""])
        fields, arrays = EventMemory(centers={"": after}).packed()
        memory = EventMemory.unpacked(json.loads(json.dumps(fields)), arrays)
        found += [(i, event.kind, event.center_id) for event in events]
    return found


def test_the_first_window_has_no_news():
    assert told([(STEADY, dict.fromkeys(STEADY), {})]) == []


def test_a_quiet_stream_has_almost_no_news():
    """1,000 windows of four clusters, 500 rows each window: at the stated rate, 1 in 1,000 windows, each comparing with
    a remembered window whose own error lasts; 12 or more have a probability below 1e-3 (200 simulated streams: at most
    6)."""
    rng = np.random.default_rng(1)
    draws = rng.multinomial(500, [0.25] * 4, size=QUIET_WINDOWS) / 500
    windows = [(dict(zip("abcd", each, strict=True)), {}, (), 500) for each in draws.tolist()]
    assert len(told(windows)) < 12


def test_what_comes_and_goes_is_told_once():
    away = {name: 1 / 3 for name in "abc"}
    windows = [(STEADY, {}, {})]
    for _ in range(25):
        windows += [(away, {}, {"d": None}), (STEADY, {}, {})]
    assert told(windows) == [(1, "vanished", "d")]


def test_what_comes_back_after_a_long_time_is_news_again():
    gone = ({name: 1 / 3 for name in "abc"}, {}, {"d": None})
    calm = [(STEADY, {}, {})] * (QUIET + 1)
    assert told([*calm, gone, *calm, gone]) == [(9, "vanished", "d"), (19, "vanished", "d")]


def test_centers_that_merge_and_split_for_ever_are_told_once_each():
    windows, away = [(STEADY, {}, {})], {"a": 0.5, "b": 0.25, "c": 0.25}
    for i in range(20):
        old, new = "d" if i == 0 else f"d{i - 1}", f"d{i}"
        back = {"a": 0.25, "b": 0.25, "c": 0.25, new: 0.25}
        windows += [(away, {}, {old: "a"}), (back, {new: "a"}, {})]
    assert [kind for _, kind, _ in told(windows)] == ["merged", "split"]


def first():
    return center_events(window(60.0, STEADY), CenterMemory())[1]


def test_a_new_center_says_where_it_comes_from():
    new = {"a": 0.1, "b": 0.25, "c": 0.25, "d": 0.25, "e": 0.1, "f": 0.05}
    found, _ = center_events(window(120.0, new, {"e": "a", "f": None}), first())
    assert [(event.kind, event.center_id, event.other_id, event.size, event.severity) for event in found] == [
        ("split", "e", "a", 0.1, "info"), ("born", "f", None, 0.05, "info"),
    ]  # fmt: skip
    assert found[1].sentence == "Center f appeared with 5 % of the weight (4.57 % to 5.43 %)."
    assert (found[1].size_low, found[1].size_high) == pytest.approx((0.0457, 0.0543), abs=1e-4)


@pytest.mark.parametrize(("now", "kinds"), [
    (0.29, {("grown", "a"), ("shrunk", "b")}), (0.21, {("shrunk", "a"), ("grown", "b")}), (0.26, set()), (0.25, set()),
])  # fmt: skip
def test_mass_that_leaves_its_bars_is_told(now, kinds):
    """Errors of 0.0061 for a difference, 3.66 of them at 1 in 1,000 windows of four centers: 0.0224; a tenth: 0.025."""
    found, after = center_events(window(120.0, {**STEADY, "a": now, "b": 0.5 - now}), first())
    assert {(event.kind, event.center_id) for event in found} == kinds
    assert after.shares[0].value == (now if kinds else 0.25)
    assert after.end == 120.0


def test_slow_growth_is_told_when_it_has_come_far_enough():
    windows = [({**STEADY, "a": 0.25 + 0.004 * i, "b": 0.25 - 0.004 * i}, {}, {}) for i in range(8)]
    assert {kind for _, kind, _ in told(windows)} == {"grown", "shrunk"}


def test_centers_that_wander_are_no_news():
    """Shares are compared by where the centers were: their own cells change from window to window."""
    memory, rng = CenterMemory(), np.random.default_rng(0)
    where = rng.standard_normal((4000, 2))
    for i in range(20):
        centers = rng.standard_normal((4, 2))

        def index_of(places, where=where):
            return np.argmin(((where[:, None] - places) ** 2).sum(axis=2), axis=1)

        one = CenterWindow(60.0 * i, tuple("abcd"), centers, index_of, np.ones(4000), 4000, {}, {})
        events, memory = center_events(one, memory)
        assert events == []


def test_windows_out_of_order_change_nothing():
    memory = first()
    found, after = center_events(window(30.0, {"e": 1.0}, {"e": None}, {"a": None}), memory)
    assert (found, after) == ([], memory)


def row(coverage=1.0, stragglers=(), degraded=False, **more):
    return {"coverage": coverage, "stragglers": list(stragglers), "degraded": degraded, "shards": 4,
            "responded": [shard for shard in range(4) if shard not in stragglers], "distrusted": [], "partial": 0,
            **more}  # fmt: skip


def told_of(rows, revisions=None):
    memory, found = WindowMemory(), []
    for i, one in enumerate(rows):
        events, memory = window_events(60.0 * i, 60.0 * (i + 1), 1, [one], memory)
        memory = WindowMemory.from_fields(json.loads(json.dumps(memory.to_fields())))
        found += [(i, event.kind) for event in events]
    return found


def test_a_loss_is_told_once_until_it_has_healed():
    lost, whole = row(0.5, [1, 3]), row()
    assert told_of([whole, lost, lost, whole, lost, *[whole] * HEALED, lost]) == [
        (1, "coverage_lost"), (8, "coverage_lost"),
    ]  # fmt: skip


def told_of_refused(numbers, rows=1000):
    memory, found = WindowMemory(), []
    for i, number in enumerate(numbers):
        known = None if number is None else RefusedRows((("x", number),) if number else (), rows)
        events, memory = window_events(60.0 * i, 60.0 * (i + 1), 1, [row()], memory, known)
        memory = WindowMemory.from_fields(json.loads(json.dumps(memory.to_fields())))
        found += [(i, event.kind) for event in events]
    return found


def test_refused_rows_are_told_once_they_are_many_until_they_are_few_again():
    few, many = 10, 11  # of 1,010 and 1,011 rows: a little less and a little more than a hundredth
    assert told_of_refused([0, few, many, many, few, many, *[few] * HEALED, many, None]) == [
        (2, "refused"), (9, "refused"),
    ]  # fmt: skip
    assert told_of_refused([None, few, 0]) == []
    assert told_of_refused([5], rows=0) == [(0, "refused")], "a window of nothing else"


def test_refused_rows_that_another_replica_has_told_of_are_not_told_again():
    mine = [row(points=900, refused=100, key=""), row(points=100, refused=None, key="a")]
    after = EventMemory().heard(0.0, 60.0, 1, mine, [])
    assert after.window.lost == {"refused": 0}
    assert EventMemory().heard(0.0, 60.0, 1, [row(points=9, key="")], []).window.lost == {}, "of an older version"


def test_a_straggler_is_told_when_it_has_missed_enough_windows():
    late = row(stragglers=[2])
    assert told_of([*[late] * (STRAGGLING + 5), row(), *[late] * STRAGGLING]) == [
        (STRAGGLING - 1, "straggling"), (2 * STRAGGLING + 5, "straggling"),
    ]  # fmt: skip


@pytest.mark.parametrize(("missed", "kinds"), [(range(8, 14), []), (range(8, 30), ["straggling"])])
def test_of_windows_that_overlap_one_counts(missed, kinds):
    """A shard that misses a pane is missing from the six sliding windows with that pane, once."""
    memory, found = WindowMemory(), []
    for i in range(30):
        one = row(stragglers=[2] if i in missed else [])
        events, memory = window_events(0.1 * (i - 5), 0.1 * (i + 1), 1, [one], memory)
        found += [event.kind for event in events]
    assert found == kinds


def test_a_summary_since_the_start_says_nothing_of_stragglers():
    memory = WindowMemory()
    for i in range(9):
        events, memory = window_events(0.0, 60.0 * (i + 1), 1, [row(stragglers=[2])], memory)
        assert events == []


def test_each_kind_of_loss_has_its_sentence():
    events, _ = window_events(0.0, 60.0, 1, [row(), row(0.625, [2, 3], True)], WindowMemory())
    drift = drift_event(row(drifted=True, drift_of="10:00", moved=0.125, moved_low=0.1, moved_high=0.15))
    events.append(drift)
    events += window_events(0.0, 60.0, 1, [row()], WindowMemory(), RefusedRows((("x", 2), ("y", 48)), 950))[0]
    assert drift_event(row(drifted=False)) is drift_event(row(drifted=None)) is None
    assert [(event.kind, event.severity, event.sentence, event.size) for event in events] == [
        ("coverage_lost", "critical",
         "37.5 % of the data is missing: coverage 0.625, no answer from shards: 2, 3.", 0.375),
        ("degraded", "critical", "Only 2 of 4 shards have answered.", 2.0),
        ("drifted", "warning", "The data differs from 10:00: 12.5 % of the weight has moved.", 0.125),
        ("refused", "warning", "50 of 1,000 rows were refused (5 %), most by column y.", 0.05),
    ]  # fmt: skip


def test_a_loss_says_what_it_comes_from():
    def said(*args, **more):
        return window_events(0.0, 60.0, 1, [row(*args, **more)], WindowMemory())[0][0].sentence

    began = "of 1,024 buckets not all (as where a stream begins in the middle of a window)."
    assert said(0.0, partial=1024) == f"100 % of the data is missing or was read in part only: coverage 0, {began}"
    distrusted = said(0.75, distrusted=["1:corrupted"])
    assert distrusted == "25 % of the data is missing: coverage 0.75, not trusted: 1:corrupted."
    assert said(0.75) == "25 % of the data is missing: coverage 0.75."


def test_a_revision_is_told_by_itself():
    first, memory = window_events(0.0, 60.0, 1, [row(0.5, [1])], WindowMemory())
    again, after = window_events(0.0, 60.0, 2, [row(1.0)], memory)
    assert [event.kind for event in again] == ["revised"]
    assert (after, len(first)) == (memory, 1)
    assert window_events(0.0, 60.0, 1, [], memory) == ([], memory)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=40))
def test_no_shard_is_told_more_often_than_it_fails(answers):
    """Whatever the pattern: each event of straggling has its own run of windows without an answer."""
    rows = [row(stragglers=[shard for shard, there in enumerate(each) if not there]) for each in answers]
    runs = 0
    for shard in range(4):
        text = "".join("1" if each[shard] else "0" for each in answers)
        runs += sum(len(run) >= STRAGGLING for run in text.split("1"))
    assert sum(kind == "straggling" for _, kind in told_of(rows)) == runs
