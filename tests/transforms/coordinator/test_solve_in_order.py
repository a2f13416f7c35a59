"""SolveInOrder compares each window with the last that shares no time with it."""
import numpy as np
import pytest

from beam_coresets import table_schemas
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
from beam_coresets.transforms.coordinator.solve_in_order import ELSEWHERE, _SolveInOrder
from beam_coresets.transforms.coordinator.solved_state import SolvedState
from beam_coresets.transforms.writing.claims import Claims

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


def row_of(solve, state, start, end, number, shift=0.0, revision=1, claims=None, **more):
    """The row of summaries, and the shifts of its centers; claimed, if it is to be."""
    verdict = Verdict(start, end, "", revision, "all", end, {"": decision(number, shift, **more)})
    (summary,) = solve.process(("", verdict), state)
    if claims is not None:
        claims.publish(summary)
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


DRIFT = table_schemas.SUMMARIES.names[table_schemas.SUMMARIES.names.index("drift_of") :]


def restarted(claims, **more):
    """What solves as a new job into the same folder does."""
    return _SolveInOrder(Question(SAMPLER), more.get("scale"), None, claims), State()


@pytest.mark.parametrize("spans", [
    [(60 * i, 60 * i + 60) for i in range(5)], [(20 * i, 20 * i + 60) for i in range(6)],
    [(0, 60), (60, 120), (600, 660), (1200, 1260)],
], ids=["fixed", "sliding", "gaps"])  # fmt: skip
def test_a_job_that_begins_again_compares_with_what_is_claimed(tmp_path, spans):
    """Its figures are those of a job that went on, but for the warm start of solving, which they are not about."""
    claims = Claims(str(tmp_path))
    (solve, state), last = restarted(claims), spans[-1]
    for number, span in enumerate(spans[:-1]):
        row_of(solve, state, *span, number, claims=claims)
    went_on, _ = row_of(solve, state, *last, 9, shift=2.0)
    again, shifts = row_of(*restarted(claims), *last, 9, shift=2.0, claims=claims)
    assert again["drifted"] is True
    assert max(shifts) == again["shift"] > 1
    for name in DRIFT:
        assert again[name] == (pytest.approx(went_on[name]) if isinstance(again[name], float) else went_on[name])
    told, _ = row_of(*restarted(claims), *last, 9, shift=2.0)
    assert {name: told[name] for name in DRIFT} == {name: again[name] for name in DRIFT}


def test_claimed_windows_without_rows_are_passed_over_and_damaged_ones_named(tmp_path, caplog):
    claims = Claims(str(tmp_path))
    solve, state = restarted(claims)
    for number in range(2):
        row_of(solve, state, 60 * number, 60 * number + 60, number, claims=claims)
    for number in range(2, 6):
        row_of(solve, state, 60 * number, 60 * number + 60, number, claims=claims, rows=0)
    assert row_of(*restarted(claims), 360, 420, 9)[0]["drift_of"][:20] == "1970-01-01T00:01:00Z"
    assert not caplog.records
    (damaged,) = tmp_path.glob("coreset/*/60.000-120.000-r1.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-8])
    assert row_of(*restarted(claims), 360, 420, 9)[0]["drift_of"][:20] == "1970-01-01T00:00:00Z"
    assert "60.000-120.000-r1" in caplog.text


def test_a_revision_that_is_claimed_counts(tmp_path):
    claims = Claims(str(tmp_path))
    solve, state = restarted(claims)
    for revision, shift in ((1, 0.0), (2, 4.0)):
        row_of(solve, state, 0, 60, revision, shift, revision, claims)
    row, _ = row_of(*restarted(claims), 60, 120, 3, shift=4.0)
    assert row["drifted"] is False
    assert row["drift_of"].startswith("1970-01-01T00:00:00Z")


def test_running_summaries_and_other_questions_are_not_compared_after_a_restart(tmp_path):
    claims = Claims(str(tmp_path))
    solve, state = restarted(claims)
    for end in (60, 120):
        row_of(solve, state, 0, end, end, claims=claims)
    assert row_of(*restarted(claims), 0, 180, 9)[0]["drift_of"] is None
    other = _SolveInOrder(Question(Sampler(3, 120, 1.0)), None, None, claims)
    assert row_of(other, State(), 120, 180, 9)[0]["drift_of"] is None


def test_a_replica_compares_with_what_others_have_decided(tmp_path):
    claims = Claims(str(tmp_path))
    (solve, state), (other, its) = restarted(claims), restarted(claims)
    for number in range(3):
        row_of(solve, state, 60 * number, 60 * number + 60, number, claims=claims)
        seen = Verdict(60 * number, 60 * number + 60, "", 1, "all", 0.0, {}, replica=1)
        (elsewhere,) = other.process(("", seen), its)
        assert elsewhere.tag == ELSEWHERE
    mine, _ = row_of(other, its, 180, 240, 9, shift=2.0)
    held, _ = row_of(solve, state, 180, 240, 9, shift=2.0)
    assert mine["drift_of"] == held["drift_of"] == "1970-01-01T00:02:00Z to 1970-01-01T00:03:00Z"
    assert mine["moved"] == pytest.approx(held["moved"])
    recent = SolvedState.from_bytes(its.value).recent[""]
    assert [window.reference is None for window in recent.windows] == [True, True, False, False]
