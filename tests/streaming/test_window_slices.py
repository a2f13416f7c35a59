"""Which windows and running summaries a decided pane is in: all of its own, each once, in whichever order they come."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.streaming.window_slices import (
    KEPT_LENGTHS,
    MAX_GAPS,
    RUNNING_PANES,
    RunningProgress,
    SlidingProgress,
)


@st.composite
def arrivals(draw, most=12):
    """(pane, revision), in any order, some of them twice; a revision never comes before the one that it revises."""
    panes = draw(st.permutations(range(draw(st.integers(1, most)))))
    out = [(pane, 1) for pane in panes]
    for pane in draw(st.lists(st.sampled_from(panes), max_size=4)):
        at = draw(st.integers(out.index((pane, 1)) + 1, len(out)))
        out.insert(at, (pane, draw(st.integers(1, 2))))
    return out


class Answers:
    """What its progress has its windows answered with: last pane -> the revision and its panes."""

    def __init__(self, panes):
        self.progress, self.panes, self.held, self.windows = SlidingProgress(), panes, {}, {}

    def take(self, pane, revision=1):
        self.progress = SlidingProgress.from_json(self.progress.to_json())
        skipped = self.progress.skipped
        due = self.progress.take(pane, revision, self.panes)
        if self.progress.skipped == skipped:
            self.held[pane] = revision
        for last, number in due:
            assert number == self.windows.get(last, (0,))[0] + 1, "revisions count up from 1"
            inside = {p: self.held[p] for p in self.progress.inside(last, self.panes) if p in self.held}
            self.windows[last] = number, inside
        self.held = {p: r for p, r in self.held.items() if p >= self.progress.needed(self.panes)}
        return due


def newest(came, low, high):
    """Pane -> its newest revision, of those from `low` to `high`."""
    return {p: max(r for q, r in came if q == p) for p, _ in came if low <= p <= high}


@given(arrivals(), st.integers(4, 8))
def test_the_last_revision_of_every_window_has_exactly_its_panes(came, panes):
    """12 panes are within what 4 a window remember."""
    answers = Answers(panes)
    for pane, revision in came:
        answers.take(pane, revision)
    wanted = {last: newest(came, last - panes + 1, last) for last in {p for p, _ in came}}
    assert {last: inside for last, (_, inside) in answers.windows.items()} == wanted


@given(st.lists(st.integers(0, 40), max_size=40, unique=True), st.integers(1, 4))
def test_what_is_too_late_is_skipped_and_in_no_window(came, panes):
    """Windows that have come to rest are answered, whatever gaps there are; the rest wait for a later pane."""
    answers, taken = Answers(panes), []
    for pane in came:
        late = bool(taken) and pane < max(taken) - KEPT_LENGTHS * panes
        answers.take(pane)
        taken += [] if late else [pane]
        assert (pane in answers.progress.decided) is not late
        assert len(answers.held) <= (KEPT_LENGTHS + 1) * panes
    rest = {last: set(range(last - panes + 1, last + 1)) & set(taken) for last in taken if last + panes <= max(taken)}
    assert {last: set(inside) for last, (_, inside) in answers.windows.items() if last in rest} == rest


def test_a_late_pane_revises_the_windows_answered_without_it_and_its_own_appears():
    answers, due = Answers(2), {}
    for pane in (0, 1, 2, 3, 4, 6, 7, 8, 5, 9):
        due[pane] = answers.take(pane)
    assert due[8] == [(6, 1), (8, 1)]
    assert due[5] == [(5, 1), (6, 2)]
    assert due[9] == [(9, 1)]


def test_a_window_is_answered_also_when_the_next_pane_is_far_away():
    answers = Answers(2)
    assert [answers.take(pane) for pane in (0, 2, 1000)] == [[(0, 1)], [], [(2, 1)]]


@given(arrivals(30))
def test_a_running_summary_takes_each_pane_once_and_knows_how_far_behind_it_is(came):
    progress, at, factors = RunningProgress(), None, {}
    for pane, _ in came:
        progress = RunningProgress.from_json(progress.to_json())
        for taken, steps in progress.take(pane):
            assert taken not in factors
            at = taken if at is None else at + max(0, steps)
            assert at + min(0, steps) == taken
            factors[taken] = steps
    assert sorted(factors) == sorted({p for p, _ in came})
    assert (progress.first, progress.newest, progress.gaps, progress.waiting) == (0, max(factors), [], [])
    assert progress.skipped == len(came) - len(factors)


def test_a_running_summary_waits_a_little_for_panes_in_between():
    progress, taken = RunningProgress(), {}
    for pane in (0, 2, 3, 2 + RUNNING_PANES, 1, 4, 5):
        taken[pane] = progress.take(pane)
    assert taken[2] == taken[3] == []
    assert taken[6] == [(2, 2), (3, 1)]
    assert (taken[1], taken[4], taken[5]) == ([(1, -2)], [(4, 1)], [(5, 1), (6, 1)])


@pytest.mark.parametrize("step", [2, 3])
def test_the_gaps_that_are_remembered_are_bounded(step):
    progress = RunningProgress()
    for i in range(MAX_GAPS + 10):
        progress.take(step * i)
    newest = progress.newest
    assert len(progress.gaps) == MAX_GAPS
    assert progress.take(1) == []
    assert progress.skipped == 1
    assert progress.take(newest - 1) == [(newest - 1, -1)]
    assert progress.take(newest - 1) == []
    assert progress.skipped == 2
