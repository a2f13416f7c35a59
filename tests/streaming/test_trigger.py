"""WindowProgress and Trigger: what each report does to a window, and when it is due."""
import copy
import dataclasses
import math

import numpy as np
import pytest

from beam_coresets.points.coreset import Coreset
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.report import WHOLE, Range, ShardReport
from beam_coresets.streaming.progress import WindowProgress
from beam_coresets.streaming.trigger import (
    EXPIRED,
    FIRED_LATE,
    KEPT,
    LATE,
    OVERLAPPING,
    REPEATED,
    Patience,
    Trigger,
)

PARTS = Assignment(2, 1, "cyclic", 4, parts=True)  # shard 0 holds parts 0 and 2, shard 1 parts 1 and 3
PATIENCE = Patience(deadline=5.0, grace=1.0, cap=60.0, retention=600.0)
END = 100.0


def report(shard, *ranges, parts=2, buckets=4):
    counts = np.zeros(buckets, np.int64)
    for r in ranges:
        counts[max(0, r.part)] += r.rows
    ledger = Ledger(counts, counts.astype(np.uint64) * np.uint64(7), counts * 1.0)
    return ShardReport(shard, Coreset.empty(2), ledger, ranges, parts=parts)


def trigger(patience=PATIENCE, **options):
    return Trigger(PARTS, dataclasses.replace(patience, **options), 2)


def after(rules, *reports, now=90.0):
    progress = WindowProgress()
    assert [rules.receive(progress, r, now + i) for i, r in enumerate(reports)] == [KEPT] * len(reports)
    return progress


ZERO_DONE, ONE_DONE = report(0, Range(0, 0, 5, 5, 5)), report(1, Range(1, 3, 9, 4, 4))


def test_it_is_complete_once_every_holder_has_said_all_and_all_of_it_has_come():
    rules = trigger()
    progress = after(rules, report(0, Range(0, 5, 9, 2, 5)), ONE_DONE)
    assert (rules.complete(progress), rules.gaps(progress), sorted(progress.finals)) == (False, 3, [1])
    assert not rules.on_report(progress)
    assert rules.receive(progress, report(0, Range(0, 0, 5, 3)), 97.0) == KEPT
    assert (rules.complete(progress), rules.gaps(progress), progress.finals) == (True, 0, {0: 97.0, 1: 91.0})
    assert rules.on_report(progress)
    assert rules.reason(progress, END) == "all"


def test_whole_ranges_speak_of_everything():
    rules = Trigger(Assignment(2, 2, buckets=8), PATIENCE)
    some, rest = report(0, Range(WHOLE, 0, 5, 5), buckets=8), report(0, Range(WHOLE, 5, 8, 3, 8), buckets=8)
    progress = after(rules, some, rest)
    assert (rules.is_final(progress, 0), rules.is_final(progress, 1), rules.complete(progress)) == (True, False, False)


@pytest.mark.parametrize(
    ("second", "outcome"),
    [
        (Range(0, 0, 5, 5, 5), REPEATED),
        (Range(0, 1, 4, 3), REPEATED),
        (Range(0, 4, 6, 2), OVERLAPPING),
        (Range(0, 5, 6, 1), KEPT),
        (Range(0, 5, 5, 0, 5), REPEATED),
        (Range(2, 5, 5, 0, 0), KEPT),
    ],
)
def test_no_offset_counts_twice(second, outcome):
    rules = trigger()
    progress = after(rules, ZERO_DONE)
    before = copy.deepcopy(progress)
    assert rules.receive(progress, report(0, second), 95.0) == outcome
    assert (progress == before) == (outcome != KEPT)
    assert rules.receive(progress, report(1, second), 95.0) == KEPT, "another shard's offsets are its own"


@pytest.mark.parametrize("patience", [PATIENCE, dataclasses.replace(PATIENCE, revise=True)])
def test_a_repetition_of_everything_does_not_decide_again(patience):
    rules = trigger(patience)
    empty = report(1, Range(1, 3, 3, 0, 0))
    progress = after(rules, ZERO_DONE, empty)
    rules.decided(progress, 93.0)
    assert [rules.receive(progress, r, 94.0) for r in (ZERO_DONE, empty)] == [REPEATED] * 2


def test_after_the_decision_it_is_late_unless_it_may_revise():
    late = report(1, Range(1, 3, 9, 4, 4))
    rules = trigger()
    progress = after(rules, ZERO_DONE)
    rules.decided(progress, 105.0)
    assert rules.receive(progress, late, 106.0) == LATE
    assert not rules.keeps_reports(progress)
    rules = trigger(revise=True)
    progress = after(rules, ZERO_DONE)
    rules.decided(progress, 105.0)
    assert rules.keeps_reports(progress)
    assert not rules.on_report(progress)
    assert rules.receive(progress, report(1, Range(1, 3, 5, 1)), 106.0) == KEPT
    assert (rules.on_report(progress), progress.late) == (False, [(1, 1, 3, 5, 1)])
    assert rules.receive(progress, report(1, Range(1, 5, 9, 3, 4)), 107.0) == KEPT
    assert rules.on_report(progress)
    rules.decided(progress, 107.0)
    assert (progress.revision, progress.late, progress.decided_at) == (2, [], 105.0)
    assert rules.receive(progress, report(1, Range(1, 9, 12, 1)), 108.0) == LATE
    assert rules.expires(progress) == 705.0


def test_a_forgotten_window_is_not_opened_again():
    rules = trigger()
    assert rules.receive(WindowProgress(), ZERO_DONE, 99.0, gone=True) == EXPIRED
    late = Range(0, 5, 9, 4, -1, True)
    assert rules.receive(WindowProgress(), report(0, late), 99.0) == EXPIRED
    assert rules.receive(after(rules, ONE_DONE), report(0, late), 99.0) == KEPT, "it is open for others"
    mixed = report(0, late, Range(2, 0, 3, 3))
    assert rules.receive(WindowProgress(), mixed, 99.0) == KEPT, "part 2 has never said that it was done"


def test_a_new_part_is_waited_for_once_its_holder_knows_of_it():
    rules = trigger()
    progress = after(rules, ZERO_DONE, report(1, Range(1, 0, 3, 3, 3), parts=4))
    assert not rules.complete(progress)
    assert rules.receive(progress, report(1, Range(3, 0, 2, 2, 2), parts=4), 95.0) == KEPT
    assert rules.complete(progress)


def test_shards_that_hold_nothing_are_not_waited_for():
    rules = Trigger(Assignment(4, 1, "cyclic", 4, parts=True), dataclasses.replace(PATIENCE, min_shards=3), 2)
    progress = after(rules, report(0, Range(0, 0, 5, 5, 5)))
    assert rules.due(progress, END) == 105.0
    assert rules.reason(progress, END) == "deadline"
    assert rules.receive(progress, report(1, Range(1, 0, 5, 5, 5)), 91.0) == KEPT
    assert rules.complete(progress)


def test_when_a_window_is_due():
    rules = trigger(min_shards=2, cap=30.0)
    assert rules.due(WindowProgress(), END) == math.inf
    progress = after(rules, report(0, Range(0, 0, 5, 5)))
    assert rules.due(progress, END) == 130.0
    assert rules.reason(progress, END) == "cap"
    assert rules.receive(progress, ONE_DONE, 103.0) == KEPT
    assert rules.due(progress, END) == 130.0
    assert rules.receive(progress, report(0, Range(0, 5, 5, 0, 5)), 120.0) == KEPT
    assert rules.due(progress, END) == 121.0, "one more grace for the others that catch up"
    old = after(rules, report(0, Range(0, 0, 5, 5)), now=500.0)
    assert rules.due(old, END) == 530.0, "the cap counts from the first report of an old window"
    patient = trigger(min_shards=2, cap=2.0, deadline=9.0)
    assert patient.due(after(patient, report(0, Range(0, 0, 5, 5))), END) == 109.0, "no cap before the deadline"


def test_a_timer_that_fires_late_is_set_once_more():
    rules = trigger()
    progress = after(rules, ZERO_DONE)
    assert rules.rearmed(progress, END)
    assert progress.armed == 105.0
    assert not rules.rearmed(progress, END)
    late = 105.0 + FIRED_LATE + 1
    assert not rules.on_timer(progress, late, END)
    assert (progress.armed, progress.waited) == (late + 1, True)
    assert not rules.rearmed(progress, END)
    assert not rules.on_timer(progress, late + 0.5, END), "the old timer again"
    assert rules.on_timer(progress, late + 30, END), "only once"


def test_after_a_restart_as_many_are_waited_for_as_hold_all_of_the_data():
    rules = trigger()
    progress = after(rules, ZERO_DONE)
    assert rules.needed(progress, END) == 1
    assert rules.rearmed(progress, END)
    assert not rules.on_timer(progress, 500.0, END)
    assert (progress.armed, progress.restarted) == (560.0, True), "the cap, from when it was noticed"
    assert rules.needed(progress, END) == 2
    progress.finals[1] = 501.0
    assert rules.due(progress, END) == 505.0, "readers get as long as the deadline to come back"
    assert rules.rearmed(progress, END)
    assert rules.on_timer(progress, 505.0, END)


def test_while_a_backlog_is_read_as_many_are_waited_for_as_hold_all_of_the_data():
    rules = trigger()
    progress = WindowProgress()
    rules.receive(progress, ZERO_DONE, END + 100.0)
    assert rules.needed(progress, END) == 2
    assert rules.due(progress, END) == END + 160.0


def test_timers_that_are_not_due():
    rules = trigger(min_shards=2)
    progress = after(rules, ZERO_DONE)
    assert rules.rearmed(progress, END)
    progress.armed = 102.0
    assert not rules.on_timer(progress, 102.0, END)
    assert progress.armed == 160.0
    rules.decided(progress, 160.0)
    assert not rules.on_timer(progress, 170.0, END)
    assert progress.armed is None
    assert not rules.rearmed(progress, END)
    assert not rules.on_timer(WindowProgress(), 170.0, END)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadline": -1.0}, "deadline: must be at least 0 seconds, got -1.0"),
        ({"retention": math.inf}, "retention: must be at least 0 seconds, got inf"),
        ({"grace": math.nan}, "grace: must be a number, got nan"),
        ({"cap": 0.5}, "cap: must be at least grace = 1 s, got 0.5"),
        ({"min_shards": 0}, "min_shards: must be at least 1, got 0"),
    ],
)
def test_patience_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Patience(**options)
