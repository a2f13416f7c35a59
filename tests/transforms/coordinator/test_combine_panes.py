"""CombinePanes by hand, its state in lists: in whichever order panes are decided, each point counts as it should."""
import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.coordinator.decision import Policy, Verdict, decide
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.results.question import Question
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.streaming.windows import Window, WindowSpec
from beam_coresets.table_schemas import in_seconds, typed
from beam_coresets.tables import TABLE_FORMATS, decode
from beam_coresets.transforms.base.coders import VerdictCoder
from beam_coresets.transforms.coordinator.combine_panes import _Run, _Slide
from beam_coresets.transforms.coordinator.solve_in_order import _SolveInOrder
from beam_coresets.transforms.summarize_stream import Decided
from beam_coresets.transforms.writing.claims import Claims

SCHEME = Assignment(2, 2, "cyclic", 4)
SAMPLER = Sampler(2, 100)  # more than there are points: nothing is drawn
ROWS = 3
CODER = VerdictCoder()


@functools.cache
def decision(pane, key="", revision=1, rows=ROWS):
    """On points that say which pane and revision they are of."""
    points = np.full((rows, 2), [pane, revision], np.float32)
    ids = np.arange(rows, dtype=np.uint64) + np.uint64((pane << 20) + (revision << 10) + (len(key) << 40))
    block = PointBlock(points, np.ones(rows), ids, Span(0, 0, True))
    return decide(shard_reports([block], MergeReduce(SAMPLER, SCHEME)), Policy(SCHEME))


def verdict(pane, revision=1, keys=("",), period=5.0, rows=ROWS):
    decisions = {key: decision(pane, key, revision, rows) for key in keys}
    return Verdict(period * pane, period * (pane + 1), "007", revision, "all", 100.0 + pane, decisions)


class Bag:
    """State as a runner keeps it: as bytes."""

    def __init__(self):
        self.held = []

    def read(self):
        return iter(map(CODER.decode, self.held))

    def add(self, value):
        self.held.append(CODER.encode(value))

    def clear(self):
        self.held = []


class Value:
    def __init__(self, coder=None):
        self.held, self.coder = None, coder

    def read(self):
        return self.coder.decode(self.held) if self.coder and self.held is not None else self.held

    def write(self, value):
        self.held = self.coder.encode(value) if self.coder else value


def answers(step, came):
    """What a DoFn says to each verdict, in order."""
    cells = [Bag(), Value()] + [Value(CODER)] * isinstance(step, _Run)
    out = [list(step.process((one.group, one), *cells)) for one in came]
    return out, cells


def slide(window="20s/5s"):
    return _Slide(WindowSpec.parse(window), SAMPLER, 0)


def run(decay=1.0):
    return _Run(WindowSpec.parse("global/5s"), SAMPLER, 0, decay)


def held(found, key=""):
    """(pane, revision) -> the weight of its points."""
    coreset = found.decisions[key].coreset
    out = {}
    for (pane, revision), weight in zip(coreset.points.astype(int).tolist(), coreset.weights, strict=True):
        out[pane, revision] = out.get((pane, revision), 0.0) + weight
    return out


@st.composite
def arrivals(draw, most, revise):
    panes = draw(st.permutations(range(draw(st.integers(1, most)))))
    out = [(pane, 1) for pane in panes]
    for pane in draw(st.lists(st.sampled_from(panes), max_size=3)):
        at = draw(st.integers(out.index((pane, 1)) + 1, len(out)))
        out.insert(at, (pane, draw(st.integers(1, 2)) if revise else 1))
    return out


@settings(max_examples=25, deadline=None)
@given(arrivals(9, True))
def test_the_last_revision_of_every_sliding_window_has_exactly_its_panes(came):
    found, _ = answers(slide(), [verdict(*one) for one in came])
    last = {(one.start, one.end): one for each in found for one in each}
    newest = {p: max(r for q, r in came if q == p) for p, _ in came}
    assert sorted(last) == [(5.0 * p - 15, 5.0 * p + 5) for p in sorted(newest)]
    for (_, end), one in last.items():
        inside = range(max(0, round(end / 5) - 4), round(end / 5))
        assert held(one) == {(p, newest[p]): pytest.approx(ROWS) for p in inside}
        assert (one.decisions[""].points, one.decisions[""].recovery.coverage) == (ROWS * len(inside), 1.0)
    revisions = [(one.end, one.revision) for each in found for one in each]
    assert len(set(revisions)) == len(revisions), "a window and revision is decided once"


@settings(max_examples=25, deadline=None)
@given(arrivals(9, False), st.sampled_from([1.0, 0.5]))
def test_a_running_summary_ends_with_every_pane_once(came, decay):
    step = run(decay)
    found, cells = answers(step, [verdict(*one) for one in came])
    panes = {p for p, _ in came}
    total, newest = cells[2].read(), max(panes)
    assert held(total) == {(p, 1): pytest.approx(ROWS * decay ** (newest - p)) for p in panes}
    assert (total.start, total.end) == (0.0, 5.0 * newest + 5)
    assert total.decisions[""].points == ROWS * len(panes)
    assert cells[0].held == []
    ends = [one.end for each in found for one in each]
    assert ends == sorted(set(ends)), "each end is told once"
    (after,) = step.process(("007", verdict(newest + 1)), *cells)
    assert held(after) == {(p, 1): pytest.approx(ROWS * decay ** (newest + 1 - p)) for p in [*panes, newest + 1]}


def test_a_window_without_some_of_its_panes_says_so_until_they_come():
    order = (0, 1, 2, 3, 4, 6, 7, 8, 5, 9)
    found, _ = answers(slide("10s/5s"), [verdict(pane) for pane in order])
    said = [
        (pane, one.start, one.revision, one.decisions[""].points, one.decisions[""].recovery.coverage)
        for pane, each in zip(order, found, strict=True) for one in each if one.start in (20, 25, 30)
    ]  # fmt: skip
    assert said == [(7, 30.0, 1, 6, 1.0), (8, 25.0, 1, 3, 0.5), (5, 20.0, 1, 6, 1.0), (5, 25.0, 2, 6, 1.0)]
    (half,) = (one for one in found[order.index(8)] if one.start == 25)
    assert half.decisions[""].recovery.panes == 2, "a rollup counts it as all of its panes"


def test_the_late_are_in_the_next_report_and_make_none_of_their_own():
    order = (1, 0, 2, 7, 3)
    found, _ = answers(run(0.5), [verdict(pane) for pane in order])
    assert [[(one.start, one.end) for one in each] for each in found] == [
        [(5.0, 10.0)], [], [(0.0, 15.0)], [], [(0.0, 20.0)],
    ]  # fmt: skip
    assert held(found[4][0]) == {(p, 1): pytest.approx(ROWS * 0.5 ** (3 - p)) for p in range(4)}


def test_a_running_summary_takes_no_revision_and_nothing_twice():
    found, cells = answers(run(), [verdict(0), verdict(0, 2), verdict(1), verdict(1), verdict(0)])
    assert [len(each) for each in found] == [1, 0, 1, 0, 0]
    assert held(cells[2].read()) == {(0, 1): pytest.approx(ROWS), (1, 1): pytest.approx(ROWS)}


def test_what_is_kept_is_bounded():
    came = [verdict(pane) for pane in range(60) if pane % 7]
    _, cells = answers(slide(), came)
    assert len(cells[0].held) <= 16
    _, cells = answers(run(), came)
    assert len(cells[0].held) <= 4


@pytest.mark.parametrize("step", [slide("10s/5s"), run()])
def test_verdicts_without_decisions_pass_and_mix(step):
    """A group of keys without rows at first, then with some, then without."""
    came = [verdict(0, keys=()), verdict(1, keys=("a", "b")), verdict(2, keys=("a",)), verdict(3, keys=())]
    found = [one for each in answers(step, came)[0] for one in each]
    keys = [list(one.decisions) for one in found]
    assert keys[:3] == [[], ["a", "b"], ["a", "b"]]
    assert keys[3] == (["a"] if isinstance(step, _Slide) else ["a", "b"])
    assert found[2].decisions["a"].points == 2 * ROWS
    assert all(one.group == "007" for one in found)


@pytest.mark.parametrize("step", [slide("10s/5s"), run()])
def test_the_empty_key_is_there_only_where_no_other_is(step):
    came = [verdict(0, rows=0), verdict(1, keys=("a",)), verdict(2, keys=("", "a"))]
    keys = [list(one.decisions) for each in answers(step, came)[0] for one in each]
    assert keys == [[""], ["a"], ["", "a"]]


@pytest.mark.parametrize("form", TABLE_FORMATS)
def test_a_group_without_rows_is_claimed_all_the_same(tmp_path, form):
    """Readers ask whether all groups are decided; the empty one has no rows in the tables."""
    claims = Claims(str(tmp_path), form)
    known = Decided(claims, WindowSpec.parse("5s"), 2)
    solve, histories = _SolveInOrder(Question(SAMPLER), None, None, None), Value()
    for group, keys in (("000", ()), ("001", ("a",))):
        assert not known.settled(0.0, 5.0)
        one = dataclasses.replace(verdict(0, keys=keys), group=group)
        (summary,) = solve.process((group, one), histories)
        assert claims.publish(summary)
        assert claims.publish(summary), "a retry finds its own claim"
        assert known.gone(0.0, 5.0, group)
    assert known.settled(0.0, 5.0)
    assert [row["key"] for table in read_all(tmp_path, "summaries", form) for row in table] == ["a"]
    assert len(claims.read(Window(0.0, 5.0, "000"), "coreset")) == 0


def read_all(folder, name, form):
    files = sorted((folder / name).rglob(f"*.{form}"))
    assert len(files) == 2
    return [typed(decode(file.read_bytes(), form), name).to_pylist() for file in files]


@pytest.mark.parametrize("keys", [("",), ("a", "b")])
def test_a_run_that_begins_anew_follows_the_last_windows_that_are_claimed(tmp_path, keys):
    """The centers are who they were, after windows that were left out and some that nothing fell into."""
    claims = Claims(str(tmp_path), "jsonl")

    def at(pane, **more):
        return dataclasses.replace(verdict(0, keys=keys, **more), start=5.0 * pane, end=5.0 * (pane + 1))

    def solved(*verdicts):
        solve, histories = _SolveInOrder(Question(SAMPLER), None, None, claims), Value()
        for one in verdicts:
            (summary,) = solve.process(("007", one), histories)
            assert claims.publish(summary)
        rows = in_seconds(claims.read(Window(verdicts[-1].start, verdicts[-1].end, "007"), "centers")).to_pylist()
        return [(row["key"], row["center_id"], row["born"]) for row in rows if row["index"] is not None]

    before = solved(at(0), at(1))
    assert len(before) == len(keys)
    assert {born for *_, born in before} == {5.0}
    solved(at(1), at(3, rows=0))
    assert solved(at(9)) == before
    assert [claims.before(Window(25.0, 30.0, "007"))[0], claims.before(Window(0.0, 5.0, "007"))] == [
        Window(15.0, 20.0, "007").name, []
    ]  # fmt: skip
    assert claims.before(Window(25.0, 30.0, "008")) == []


def test_windows_from_before_a_stream_that_began_in_the_middle_are_not_whole():
    """What was before the first pane is missing as what was in it before reading began."""
    def coverages(first):
        found, _ = answers(slide("20s/5s"), [first, *(verdict(pane) for pane in range(4, 8))])
        return {one.start: one.decisions[""].recovery.coverage for each in found for one in each if one.revision == 1}

    begun = verdict(3)
    (decided,) = begun.decisions.values()
    half = dataclasses.replace(decided, recovery=dataclasses.replace(decided.recovery, coverage=0.5))
    assert set(coverages(begun).values()) == {1.0}
    assert coverages(dataclasses.replace(begun, decisions={"": half})) == pytest.approx(
        {0.0: 0.125, 5.0: 0.375, 10.0: 0.625, 15.0: 0.875, 20.0: 1.0}
    )
