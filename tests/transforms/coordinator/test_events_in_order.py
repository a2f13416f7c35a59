"""Events of a stream whose changes are known: told once, in the window in which they happen."""
import dataclasses

import numpy as np
import pytest

from beam_coresets import table_schemas
from beam_coresets.coordinator.decision import Verdict, decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.results.summary import Summary
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.shards.refused import RefusedRows
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.coordinator.solve_in_order import _SolveInOrder
from beam_coresets.transforms.writing.claims import Claims, order_of

PLAN = Plan(k=4, shards=4, replication=2, coreset_size=400)
PLACES = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0], [30.0, 30.0]])


class Value:
    """A cell of state."""

    held = None

    def read(self):
        return self.held

    def write(self, data):
        self.held = data


def decision(sizes, seed, drop=()):
    """Of a window with so many rows at each of the places, some shards without an answer."""
    rng = np.random.default_rng(seed)
    places = np.repeat(PLACES[: len(sizes)], sizes, axis=0)
    reports = shard_reports(blocks_of(places + rng.standard_normal(places.shape)), PLAN.merge_reduce)
    return decide([report for report in reports if report.shard not in drop], PLAN.policy)


def verdict(i, decisions, revision=1):
    return Verdict(60.0 * i, 60.0 * (i + 1), "", revision, "all", 60.0 * (i + 1) + 1, decisions)


def told(verdicts, claims=None, cell=None):
    """(window, revision, key, kind) of all events; state goes through its bytes from window to window."""
    solve, cell, found = _SolveInOrder(PLAN.question, None, None, claims), cell or Value(), []
    for one in verdicts:
        (summary,) = solve.process(("", one), cell)
        if claims is not None:
            claims.publish(summary)
        rows = table_schemas.in_seconds(summary.events).to_pylist()
        found += [(round(row["window_start"] / 60), row["revision"], row["key"], row["kind"]) for row in rows]
    return found


EVEN = (1000, 1000, 1000, 1000)


def test_a_quiet_stream_has_nothing_to_tell():
    assert told([verdict(i, {"": decision(EVEN, i)}) for i in range(12)]) == []


@pytest.mark.parametrize(("sizes", "kinds"), [
    ((1000, 1000, 1000, 1600), {"grown"}),
    ((1000, 1000, 1000, 500), {"shrunk"}),
])
def test_mass_that_moves_is_told_in_its_window(sizes, kinds):
    windows = [verdict(i, {"": decision(EVEN if i < 4 else sizes, i)}) for i in range(8)]
    found = told(windows)
    assert {window for window, *_ in found} == {4}
    assert kinds | {"drifted"} <= {kind for *_, kind in found}


def test_a_cluster_that_goes_and_another_that_comes():
    gone = (1000, 1000, 1000, 0)
    windows = [verdict(i, {"": decision(gone if i in (3, 4, 5) else EVEN, i)}) for i in range(8)]
    found = {(window, kind) for window, _, _, kind in told(windows)}
    assert found >= {(3, "vanished"), (3, "split")}, "the center that is to spare splits another cluster"
    assert {window for window, _ in found} <= {3, 4, 5, 6}
    assert {kind for window, kind in found if window > 3} <= {"split", "merged", "born"}


def test_lost_data_and_its_revision_are_told():
    lost = decision(EVEN, 2, drop=(0, 1))
    assert lost.recovery.coverage < 1
    whole = decision(EVEN, 2)
    windows = [verdict(0, {"": decision(EVEN, 0)}), verdict(1, {"": decision(EVEN, 1)}), verdict(2, {"": lost}),
               verdict(3, {"": decision(EVEN, 3)}), verdict(2, {"": whole}, 2), verdict(4, {"": decision(EVEN, 4)})]
    assert told(windows) == [(2, 1, "", "coverage_lost"), (2, 2, "", "revised")]


def test_each_key_has_its_own():
    def keyed(i, b):
        return verdict(i, {"a": decision(EVEN, 2 * i), "b": decision(b, 2 * i + 1)})

    more = (1000, 1000, 1000, 3000)
    found = told([keyed(0, EVEN), keyed(1, EVEN), keyed(2, more), keyed(3, more)])
    assert {(window, key) for window, _, key, _ in found} == {(2, "b")}


def test_a_window_without_events_has_no_file(tmp_path):
    claims = Claims(str(tmp_path), wanted=order_of(False, False, True))
    told([verdict(i, {"": decision(EVEN if i < 1 else (1000, 1000, 1000, 2500), i)}) for i in range(3)], claims)
    assert [claims.tables_of(Window(60.0 * i, 60.0 * (i + 1))) for i in range(3)] == [
        ["coreset", "columns", "centers", "summaries"], ["events", "coreset", "columns", "centers", "summaries"],
        ["coreset", "columns", "centers", "summaries"],
    ]  # fmt: skip


def test_after_a_restart_new_centers_are_news_and_old_ones_are_none(tmp_path):
    claims = Claims(str(tmp_path), wanted=order_of(False, False, True))
    told([verdict(i, {"": decision(EVEN, i)}) for i in range(2)], claims)
    assert told([verdict(i, {"": decision(EVEN, i)}) for i in range(2, 4)], claims) == []


def test_a_restart_tells_nothing_again(tmp_path):
    """A shard is away for good, and each job lives for three windows: what goes on is told once."""
    claims = Claims(str(tmp_path), wanted=order_of(False, False, True))
    found = []
    for job in range(4):
        numbers = range(3 * job, 3 * job + 3)
        found += told([verdict(i, {"": decision(EVEN, i, (0, 1) if i > 2 else ())}) for i in numbers], claims)
    assert sorted(kind for *_, kind in found) == ["coverage_lost", "straggling", "straggling"]
    assert {(window, kind) for window, *_, kind in found} == {(3, "coverage_lost"), (5, "straggling")}


def test_of_two_replicas_each_knows_what_the_other_has_told(tmp_path):
    """They decide in turns; who comes second finds the claim and tells nothing."""
    claims = Claims(str(tmp_path), wanted=order_of(False, False, True))
    lanes, found = [(_SolveInOrder(PLAN.question, None, None, claims), Value()) for _ in range(2)], []
    for i in range(10):
        drop, sizes = (0, 1) if i > 2 else (), EVEN if i < 7 else (1000, 1000, 1000, 2500)
        for turn in (i % 2, 1 - i % 2):
            solve, cell = lanes[turn]
            one = dataclasses.replace(verdict(i, {"": decision(sizes, i, drop)}), replica=turn)
            for summary in solve.process((f"{turn}", one), cell):
                if isinstance(summary, Summary):
                    claims.publish(summary)
                    found += [(i, row["kind"]) for row in summary.events.to_pylist()]
    assert [one for one in found if one[1] in ("coverage_lost", "straggling")] == [
        (3, "coverage_lost"), (5, "straggling"), (5, "straggling"),
    ]  # fmt: skip
    others = [kind for i, kind in found if i >= 7]
    assert "grown" in others
    assert len(others) == len({(i, kind) for i, kind in found if i >= 7 and kind != "shrunk"}) + others.count("shrunk")
    assert {i for i, _ in found} <= {3, 5, 7}


def test_state_of_an_older_version_is_read():
    """Without a memory of events: as before the first window of each key."""
    from beam_coresets import codec
    from beam_coresets.transforms.coordinator.solved_state import SolvedState

    cell = Value()
    told([verdict(0, {"": decision(EVEN, 0)})], cell=cell)
    held = SolvedState.from_bytes(cell.read())
    assert held.memory.centers[""].shares
    bodies = [history.to_bytes() for history in held.histories.values()]
    head = codec.pack("Lineages", {"keys": list(held.histories), "lengths": [len(body) for body in bodies]}, {})
    cell.write(b"".join([len(head).to_bytes(8, "little"), head, *bodies]))
    assert told([verdict(1, {"": decision(EVEN, 1)})], cell=cell) == []


def test_rows_that_are_refused_are_told_when_they_become_many_and_counted_in_the_empty_keys_row():
    """With keys, too: no key has them."""
    windows = []
    for i, number in enumerate((30, 60, 60, 20)):  # of 4,000 rows: 0.7 %, 1.5 %
        known = RefusedRows((("x", number),), 4000)
        keyed = {key: dataclasses.replace(decision(EVEN, i), refused=known) for key in ("", "a")}
        windows.append(verdict(i, keyed))
    found = [each for each in told(windows) if each[3] == "refused"]
    assert found == [(1, 1, "", "refused")]
    summary = next(iter(_SolveInOrder(PLAN.question, None, None, None).process(("", windows[1]), Value())))
    assert summary.summaries.select(["key", "refused"]).to_pylist() == [
        {"key": "", "refused": 60}, {"key": "a", "refused": None},
    ]  # fmt: skip
