"""SolveInOrder compares each window with the last that shares no time with it."""
import numpy as np
import pytest

from beam_coresets.comparing.drift import Drift
from beam_coresets.comparing.told import with_drift
from beam_coresets.coordinator.decision import Policy, Verdict, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize, summary_of_keys
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.coordinator.solve_in_order import _SolveInOrder
from beam_coresets.transforms.coordinator.solved_state import SolvedState

CENTERS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
SCHEME, SAMPLER = Assignment(4, 2, "cyclic", 64), Sampler(3, 120)


class State:
    """A stateful DoFn's value, outside of a runner."""

    value = None

    def read(self):
        return self.value

    def write(self, value):
        self.value = value


def decision(number, shift=0.0, rows=3000):
    rng = generator("solve in order", number)
    centers = CENTERS + np.array([[shift, 0], [0, 0], [0, 0]])
    points = (centers[rng.integers(3, size=rows)] + rng.standard_normal((rows, 2))).astype(np.float32)
    return decide(shard_reports(blocks_of(points, rows=500), MergeReduce(SAMPLER, SCHEME, number)), Policy(SCHEME))


def row_of(solve, state, start, end, number, shift=0.0, revision=1):
    """The row of summaries, and the shifts of its centers."""
    verdict = Verdict(start, end, "", revision, "all", end, {"": decision(number, shift)})
    (summary,) = solve.process(("", verdict), state)
    (row,) = summary.summaries.to_pylist()
    return row, [each["shift"] for each in summary.centers.to_pylist() if each["index"] is not None]


@pytest.fixture
def solve():
    return _SolveInOrder(Question(SAMPLER), None, None, None)


def test_each_window_is_compared_with_the_one_before(solve):
    state = State()
    first, shifts = row_of(solve, state, 0, 60, 0)
    assert first["drift_of"] is first["excess"] is first["drifted"] is None
    assert shifts == [None] * 3
    quiet, shifts = row_of(solve, state, 60, 120, 1)
    assert quiet["drift_of"] == "1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z"
    assert quiet["drifted"] is False
    assert quiet["excess_low"] <= 0 <= quiet["excess_high"]
    assert quiet["moved_low"] == 0
    changed, shifts = row_of(solve, state, 120, 180, 2, shift=2.0)
    assert changed["drifted"] is True
    assert max(shifts) == changed["shift"] > 1
    again, _ = row_of(solve, state, 120, 180, 3, shift=2.0, revision=2)
    assert again["drift_of"] == changed["drift_of"] == "1970-01-01T00:01:00Z to 1970-01-01T00:02:00Z"
    gap, _ = row_of(solve, state, 600, 660, 4, shift=2.0)
    assert gap["drift_of"] == "1970-01-01T00:02:00Z to 1970-01-01T00:03:00Z"
    assert gap["drifted"] is False


def test_windows_that_share_rows_are_not_compared(solve):
    state = State()
    named = [row_of(solve, state, start, start + 60, start)[0]["drift_of"] for start in (0, 20, 40, 60, 80)]
    assert named[:3] == [None] * 3
    assert [name[:20] for name in named[3:]] == ["1970-01-01T00:00:00Z", "1970-01-01T00:00:20Z"]


def test_keys_by_the_thousand_are_not_compared():
    solve, state = _SolveInOrder(Question(SAMPLER, quick=True), None, None, None), State()
    assert [row_of(solve, state, 60 * i, 60 * i + 60, i)[0]["drift_of"] for i in range(2)] == [None, None]


def test_state_without_windows_to_compare_with_is_read(solve):
    state = State()
    row_of(solve, state, 0, 60, 0)
    held = SolvedState.from_bytes(state.value)
    assert list(held.recent) == [""]
    assert SolvedState.from_bytes(held.to_bytes()).to_bytes() == held.to_bytes() == state.value
    state.value = SolvedState(held.histories).to_bytes()
    assert row_of(solve, state, 60, 120, 1)[0]["drift_of"] is None
    assert row_of(solve, state, 120, 180, 2)[0]["drift_of"] is not None


def test_drift_is_told_of_one_key_with_all_its_centers():
    summary = summarize(decision(0), Question(SAMPLER), Window(0.0, 60.0))
    found = Drift(0.1, 0.0, float("inf"), 0.0, 0.0, 0.1, np.array([0.5, np.nan, 0.1]), 1e-9)
    told = with_drift(summary, found, "then")
    (row,) = told.summaries.to_pylist()
    assert (row["drift_of"], row["excess_high"], row["shift"], row["drifted"]) == ("then", None, 0.5, True)
    assert told.centers.column("shift").to_pylist() == [0.5, None, 0.1]
    with pytest.raises(ValueError, match="shifts: must be one for each of 3 centers, got 0"):
        with_drift(summary, Drift(0, 0, 0, 0, 0, 0, np.empty(0), 1.0), "then")
    with pytest.raises(ValueError, match="summary: must be of one key, got 2"):
        with_drift(summary_of_keys(Window(0.0, 60.0), [summary, summary]), found, "then")
