"""CoordinateStream on TestStream: one verdict a window and revision, in time; what comes too late is recorded."""
import dataclasses
import pickle

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.direct import clock as direct_clock
from apache_beam.runners.direct import direct_runner
from apache_beam.testing import test_stream
from apache_beam.transforms.display import DisplayData
from jobs import run
from simulated import SAMPLER, points_of

from beam_coresets.coordinator.decision import Policy, Verdict
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.shards.assignment import Assignment, part_ids
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import Range, ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.partial_reports import PaneRows
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.trigger import COMPACT_AFTER_REPORTS, Patience
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.table_schemas import in_seconds
from beam_coresets.transforms.base.coders import ShardReportCoder
from beam_coresets.transforms.base.keys import group_names, key_group, parse_key, split_key, window_key
from beam_coresets.transforms.coordinator.coordinate_stream import (
    LATE_REPORTS,
    VERDICTS,
    CoordinateStream,
    LateReport,
    _Coordinate,
)
from beam_coresets.transforms.summarize_stream import AnswerOnTime

SCHEME = Assignment(3, 2, "cyclic", 3, parts=True)  # part p is held by shards p and p + 1
MERGE_REDUCE = MergeReduce(SAMPLER, SCHEME)
POLICY = Policy(SCHEME, parts=3)
PATIENCE = Patience(deadline=5.0, grace=1.0, cap=20.0, retention=30.0)
TWO = Coordinators(2, parallelism=2)
CODER = beam.coders.TupleCoder((beam.coders.StrUtf8Coder(), ShardReportCoder()))

_clocks = []


def clock():
    """What the runner takes the time to be."""
    return _clocks[-1].time()


@pytest.fixture(autouse=True)
def _observed(monkeypatch):
    def made(*args):
        _clocks.append(direct_clock.TestClock(*args))
        return _clocks[-1]

    monkeypatch.setattr(direct_runner, "TestClock", made)


def report(shard, *spans, keys=None):
    """Says that a shard has read offsets [start, stop) of a part, one row each; a fourth entry names the total, a fifth
    marks it late."""
    ids = [part_ids(part, np.arange(start, stop, dtype=np.uint64)) for part, start, stop, *_ in spans]
    ids = np.concatenate(ids).astype(np.uint64)
    ranges = tuple(Range(part, start, stop, stop - start, *rest) for part, start, stop, *rest in spans)
    rows = PaneRows(points_of(ids), np.ones(len(ids)), ids, keys)
    return partial_reports.partial_report(MERGE_REDUCE, shard, rows, ranges, 3)


def everything(shard, rows=10):
    """The report of a shard that has read both of its parts."""
    return report(shard, *((part, 0, rows, rows) for part in (shard, (shard - 1) % 3)))


class Script:
    """A TestStream on a clock in seconds; the watermark stays where it is, as with a dead shard."""

    def __init__(self):
        self.stream, self.now = test_stream.TestStream(coder=CODER), 0.0

    def at(self, now, *reports, window=(100, 105), group="", step=0.5):
        """Lets time pass in small steps, then brings these reports of a window."""
        while self.now < now:
            self.now = min(now, self.now + step)
            self.stream = self.stream.advance_processing_time(min(step, now) if self.now < now else step)
        if reports:
            self.stream = self.stream.add_elements([(window_key(*window, group), r) for r in reports])
        return self

    def run(self, until=200.0, **options):
        """Returns verdicts and late reports."""
        self.at(until)
        step = CoordinateStream(POLICY, options.pop("patience", PATIENCE), MERGE_REDUCE, clock=clock, **options)

        def build(pipeline):
            out = pipeline | self.stream.advance_watermark_to_infinity() | step
            return {"verdicts": out[VERDICTS], "late": out[LATE_REPORTS]}

        held, _ = run(build, ("--runner=BundleBasedDirectRunner", "--streaming"))
        verdicts = sorted(held["verdicts"], key=lambda v: (v.start, v.group, v.revision))
        return verdicts, held["late"]


def test_a_window_of_which_nothing_can_be_read_is_decided_at_its_cap():
    """As where every part is held up by an open transaction: its shards say that it has passed, and no more."""
    held = [report(shard, *((part, 0, 0, -1) for part in (shard, (shard - 1) % 3))) for shard in range(3)]
    (verdict,), late = Script().at(106, *held).at(140, everything(0)).run()
    (decision,) = verdict.decisions.values()
    assert (verdict.reason, decision.points, decision.recovery.coverage, decision.degraded) == ("cap", 0, 0.0, True)
    assert decision.recovery.stragglers == (0, 1, 2)
    assert sum(row.row_count for row in late) == 20, "what comes later is told"


def key_of(*window):
    """The key of the only coordinator of a window."""
    return ONE.key(0, window_key(*window), "")


def only(verdicts):
    (verdict,) = verdicts
    return verdict, verdict.decisions[""]


def test_all_on_time_is_decided_at_once():
    script = Script().at(101, everything(0)).at(106, everything(2), everything(1))
    script.at(107, *map(everything, range(3)), window=(105, 110))
    verdicts, late = script.run()
    assert [(v.start, v.end, v.revision, v.reason, v.decided_at) for v in verdicts] == [
        (100.0, 105.0, 1, "all", 106.0), (105.0, 110.0, 1, "all", 107.0),
    ]  # fmt: skip
    for verdict in verdicts:
        decision = verdict.decisions[""]
        assert (decision.points, decision.total_weight, decision.recovery.coverage) == (30, 30.0, 1.0)
    assert not late


def test_one_that_is_late_in_time_is_waited_for():
    verdicts, late = Script().at(106, everything(0), everything(1)).at(109.5, everything(2)).run()
    verdict, decision = only(verdicts)
    assert (verdict.reason, verdict.decided_at, decision.points) == ("all", 109.5, 30)
    assert decision.recovery.responded == (0, 1, 2)
    assert not late


def test_late_after_the_deadline_is_recorded_and_decides_nothing():
    verdicts, late = Script().at(106, everything(0), everything(1)).at(112, everything(2)).run()
    verdict, decision = only(verdicts)
    assert (verdict.reason, verdict.decided_at) == ("deadline", 110.0)
    assert decision.recovery.stragglers == (2,)
    assert (decision.recovery.coverage, decision.points, decision.total_weight) == (1.0, 30, 30.0)
    assert sorted(late) == [
        LateReport(100.0, 105.0, "", 2, part, 0, 10, 10, "the window was decided without it", 112.0) for part in (1, 2)
    ]


def test_with_too_few_for_the_schemes_replication_the_loss_is_told():
    """Parts 0 and 1 have been finished by shard 1, part 2 has been begun by shard 2."""
    verdicts, _ = Script().at(106, everything(1), report(2, (2, 0, 4))).run()
    verdict, decision = only(verdicts)
    assert (verdict.reason, verdict.decided_at) == ("deadline", 110.0)
    assert decision.recovery.stragglers == (0, 2)
    assert decision.recovery.coverage == pytest.approx(2 / 3)
    assert decision.points == 24


def test_too_few_finals_wait_for_the_cap():
    rules = Patience(deadline=5.0, grace=1.0, cap=20.0, retention=30.0, min_shards=2)
    verdicts, late = Script().at(106, everything(1)).run(patience=rules)
    verdict, decision = only(verdicts)
    assert (verdict.reason, verdict.decided_at) == ("cap", 126.0)
    assert decision.recovery.responded == (1,)
    assert not late


def decided_before(start, end, group):
    return (start, end, group) == (100.0, 105.0, "")


def test_beyond_retention_nothing_is_decided_again():
    script = Script().at(106, everything(0), everything(1)).at(150, everything(2), report(2, (1, 10, 10, 10)))
    verdicts, late = script.run(gone=decided_before)
    only(verdicts)
    assert {r.reason for r in late} == {
        "nothing is known of the window: it was decided and forgotten, or it began before the stream"
    }
    assert sum(r.row_count for r in late) == 20


def test_what_its_shard_calls_late_opens_no_window():
    verdicts, late = Script().at(150, report(2, (1, 10, 12, -1, True))).run()
    assert not verdicts
    assert [(r.shard, r.part, r.start, r.stop, r.row_count) for r in late] == [(2, 1, 10, 12, 2)]


def test_no_report_at_all_is_no_verdict():
    verdicts, late = Script().run()
    assert (verdicts, late) == ([], [])


def test_an_empty_window_is_decided_too():
    verdicts, _ = Script().at(106, *(everything(i, rows=0) for i in range(3))).run()
    verdict, decision = only(verdicts)
    assert (verdict.reason, decision.points, decision.recovery.coverage, len(decision.coreset)) == ("all", 0, 1.0, 0)


REVISING = Patience(deadline=5.0, grace=1.0, cap=20.0, retention=30.0, revise=True)


def test_late_reports_that_complete_the_window_revise_it_once():
    script = Script().at(106, everything(0), report(2, (2, 0, 4))).at(112, report(2, (2, 4, 10, 10), (1, 0, 10, 10)))
    script.at(114, everything(1)).at(116, report(1, (1, 10, 12)))
    verdicts, late = script.run(patience=REVISING)
    assert [(v.revision, v.reason, v.decided_at) for v in verdicts] == [(1, "deadline", 110.0), (2, "all", 114.0)]
    first, second = (v.decisions[""] for v in verdicts)
    assert (first.points, second.points) == (20, 30)
    assert first.recovery.coverage == pytest.approx(2 / 3)
    assert second.recovery.coverage == 1.0
    assert [(r.shard, r.start, r.stop, r.noted_at) for r in late] == [(1, 10, 12, 116.0)]


def test_what_was_kept_for_a_revision_that_never_came_is_recorded_when_the_window_is_forgotten():
    script = Script().at(106, everything(0), everything(1)).at(112, report(2, (1, 0, 6)))
    verdicts, late = script.run(patience=REVISING)
    only(verdicts)
    assert [(r.shard, r.part, r.row_count, r.noted_at) for r in late] == [(2, 1, 6, 140.0)]


def test_repetitions_count_nothing_twice():
    some = report(2, (2, 0, 4), (1, 0, 4))
    more = report(2, (2, 2, 10, 10), (1, 4, 10, 10))
    rest = report(2, (2, 4, 10, 10), (1, 4, 10, 10))
    script = Script().at(101, some, everything(0), some, more).at(106, everything(0), rest, everything(1))
    verdicts, late = script.at(107, everything(1)).run()
    verdict, decision = only(verdicts)
    assert (verdict.reason, decision.points, decision.recovery.distrusted) == ("all", 30, {})
    assert sorted({r.reason for r in late}) == [
        "overlapping: some of it had come before", "repeated: all of it had come before",
    ]  # fmt: skip


def test_a_timer_that_fires_late_waits_once_more():
    """A stopped worker sees its old timer first, then what came meanwhile."""
    script = Script().at(106, everything(0)).at(130, everything(1), everything(2), step=24.0)
    verdicts, late = script.run()
    verdict, decision = only(verdicts)
    assert (verdict.reason, verdict.decided_at, decision.points) == ("all", 130.0, 30)
    assert not late
    verdicts, late = Script().at(106, everything(0)).at(130, step=24.0).run()
    verdict, decision = only(verdicts)
    assert (verdict.reason, verdict.decided_at) == ("cap", 150.0), "a restart: two of the three hold all of the data"


def test_groups_of_keys_are_decided_apart():
    def named(shard, key):
        return report(shard, *((p, 0, 10, 10) for p in (shard, (shard - 1) % 3)), keys=np.array([key] * 20, object))

    script = Script().at(106, *(named(i, "a") for i in range(3)), group="000")
    verdicts, late = script.at(106, named(0, "b"), named(2, "b"), group="001").run()
    assert [(v.group, v.reason, list(v.decisions)) for v in verdicts] == [
        ("000", "all", ["a"]), ("001", "deadline", ["b"]),
    ]  # fmt: skip
    assert [v.decisions[k].points for v, k in zip(verdicts, "ab", strict=True)] == [30, 30]
    assert not late


def test_only_the_group_of_the_empty_key_answers_for_it_without_rows():
    script = Script()
    for group in group_names(3):
        script.at(106, *(everything(i, rows=0) for i in range(3)), group=group)
    script.at(107, *(everything(i) for i in range(3)), window=(105, 110), group="001")
    mine = group_names(3)[key_group("", 3)]
    verdicts, late = script.run(empty_group=mine)
    assert [(v.start, v.group, v.revision) for v in verdicts] == [
        (100, "000", 1), (100, "001", 1), (100, "002", 1), (105, "001", 1),
    ]  # fmt: skip
    empty = [v for v in verdicts if v.start == 100]
    assert {v.group: list(v.decisions) for v in empty} == {g: [""] if g == mine else [] for g in group_names(3)}
    assert list(verdicts[3].decisions) == [""], "rows of the empty key are answered for wherever they are"
    assert not late


def test_all_groups_are_answered_and_the_empty_key_by_one_of_them():
    """Through `AnswerOnTime`: a summary of each group, for its claim; rows only of keys that are there."""
    script = Script()
    for group in group_names(3):
        script.at(106, *(everything(i, rows=0) for i in range(3)), group=group)
    plan = StreamPlan(Plan(2, 3), WindowSpec.parse("5s"), PATIENCE, groups=3, clock=clock)
    stream = script.at(200).stream.advance_watermark_to_infinity()
    answer = AnswerOnTime(plan, POLICY, MERGE_REDUCE)
    held, _ = run(
        lambda pipeline: {"decided": (pipeline | stream | answer).decided},
        ("--runner=BundleBasedDirectRunner", "--streaming"),
    )
    rows = {summary.window.key: summary.summaries.column("key").to_pylist() for summary in held["decided"]}
    assert rows == {g: [""] if g == group_names(3)[key_group("", 3)] else [] for g in group_names(3)}


def test_a_window_of_a_stream_may_be_a_weak_coreset():
    """Labels' totals are exact. Of three shards with two of three parts each none can be spared: J is from S."""
    labelled = dataclasses.replace(MERGE_REDUCE, labelled=True)
    names = np.array(["a", "a", "b"])

    def told(shard):
        parts = (shard, (shard - 1) % 3)
        ids = np.concatenate([part_ids(part, np.arange(60, dtype=np.uint64)) for part in parts])
        number = np.arange(len(ids)) % 3
        rows = PaneRows(
            points_of(ids), np.ones(len(ids)), ids, None, number.astype(np.int32),
            lambda kept: pa.table({"group": names[number[kept]].tolist()}),
        )  # fmt: skip
        ranges = tuple(Range(part, 0, 60, 60, 60) for part in parts)
        return partial_reports.partial_report(labelled, shard, rows, ranges, 3)

    plan = StreamPlan(Plan(2, 3, weak=True, candidates=10), WindowSpec.parse("5s"), PATIENCE, clock=clock)
    stream = Script().at(106, *map(told, range(3))).at(200).stream.advance_watermark_to_infinity()
    held, _ = run(
        lambda pipeline: {"decided": (pipeline | stream | AnswerOnTime(plan, POLICY, labelled)).decided},
        ("--runner=BundleBasedDirectRunner", "--streaming"),
    )
    (summary,) = held["decided"]
    totals = {name: 0.0 for name in "ab"}
    for row in summary.coreset.to_pylist():
        totals[row["group_label"]] += row["weight"]
    assert totals == {"a": pytest.approx(120, rel=1e-12), "b": pytest.approx(60, rel=1e-12)}
    places = in_seconds(summary.candidates).to_pylist()
    assert len(places) == 10
    assert {row["independent"] for row in places} == {False}
    assert {row["window_start"] for row in places} == {100.0}


class Held:
    """State and timers of one key, as a runner keeps them."""

    def __init__(self):
        self.value, self.bag, self.set_for = None, [], None

    def read(self):
        return self.value if self.value is not None else (self.bag or None)

    def write(self, value):
        self.value = value

    def add(self, value):
        self.bag = [*self.bag, value]

    def set(self, time):
        self.set_for = float(time)

    def clear(self):
        self.value, self.bag, self.set_for = None, [], None


def now_set_by_hand():
    return _clocks[-1]


def test_windows_that_a_dead_shard_holds_back_leave_nothing_behind():
    """300 windows without shard 2; each decided at its deadline and forgotten after the retention."""
    step, verdicts = _Coordinate(POLICY, REVISING, MERGE_REDUCE, None, now_set_by_hand), 0
    live = {}
    for i in range(300):
        _clocks.append(1000.0 + 5 * i)
        key = key_of(_clocks[-1] - 5, _clocks[-1])
        live[key] = {name: Held() for name in ("reports", "head", "due", "expiry", "notes")}
        for shard in (0, 1):
            assert list(step.process((key, everything(shard)), *live[key].values())) == []
        for name, held in list(live.items()):
            if held["due"].set_for is not None and held["due"].set_for <= _clocks[-1]:
                held["due"].set_for = None
                verdicts += len(list(step.on_due(name, *held.values())))
            if held["expiry"].set_for is not None and held["expiry"].set_for <= _clocks[-1]:
                assert list(step.on_expiry(name, *held.values())) == []
                assert [held[name].read() for name in ("reports", "head", "notes")] == [None] * 3
                del live[name]
        assert len(live) <= 1 + (REVISING.deadline + REVISING.retention) / 5
    assert verdicts == 299


def test_what_an_open_window_keeps_is_bounded():
    step, held = _Coordinate(POLICY, PATIENCE, MERGE_REDUCE, None, now_set_by_hand), [Held() for _ in range(5)]
    _clocks.append(101.0)
    for i in range(1000):
        assert list(step.process((key_of(100, 105), report(0, (0, i, i + 1))), *held)) == []
        assert len(held[0].bag) <= COMPACT_AFTER_REPORTS + 3
    assert len(held[1].value) < 500
    assert len(held[4].bag) <= COMPACT_AFTER_REPORTS + 3
    assert sum(len(r.coreset) for r in held[0].bag) < 2 * MERGE_REDUCE.node_size(2, 4) + COMPACT_AFTER_REPORTS
    _clocks.append(125.0)
    (verdict,) = step.on_due(key_of(100, 105), *held)
    assert verdict.decisions[""].points == 1000


@pytest.mark.parametrize(("patience", "shards"), [(PATIENCE, 2), (REVISING, 2), (REVISING, 3)])
def test_reports_are_kept_for_a_revision_only(patience, shards):
    step, held = _Coordinate(POLICY, patience, MERGE_REDUCE, None, now_set_by_hand), [Held() for _ in range(5)]
    _clocks.append(110.0)
    verdicts = [v for i in range(shards) for v in step.process((key_of(100, 105), everything(i)), *held)]
    if shards < 3:
        _clocks.append(111.0)
        verdicts += step.on_due(key_of(100, 105), *held)
    assert [v.revision for v in verdicts] == [1]
    assert len(held[0].bag) == (2 if patience.revise and shards < 3 else 0)
    assert held[3].set_for == _clocks[-1] + 30


@pytest.mark.parametrize("key", [(0.0, 5.0, ""), (1.7e9, 1.7e9 + 0.25, "007"), (-5.0, 0.0, "a/b"), (1.001, 2.002, "")])
def test_keys_say_which_window(key):
    assert parse_key(window_key(*key)) == key
    assert split_key(Coordinators(2, parallelism=3).key(1, window_key(*key), "002")) == (window_key(*key), 1)


STANDING = {}  # replica whose decision stands, by the start of the window


def winner(start, end, group):
    return STANDING.get(start)


def replicated(**options):
    """A step with two replicas of which each knows what is in STANDING, and the state of each."""
    step = _Coordinate(
        POLICY, PATIENCE, MERGE_REDUCE, None, now_set_by_hand, "", TWO, winner, options.pop("skips", True)
    )
    STANDING.clear()
    return step, [(TWO.key(r, window_key(100, 105), ""), [Held() for _ in range(5)]) for r in range(2)]


def test_a_standby_decides_half_a_second_later_and_not_where_a_decision_stands():
    step, ((first, mine), (second, its)) = replicated()
    _clocks.append(106.0)
    for shard in range(3):
        found = [list(step.process((key, everything(shard)), *held)) for key, held in ((first, mine), (second, its))]
        assert found[1] == []
    assert [(v.replica, v.reason, len(v.decisions)) for v in found[0]] == [(0, "all", 1)]
    assert its[2].set_for == 106.5
    STANDING[100.0] = 0
    _clocks.append(106.6)
    (verdict,) = step.on_due(second, *its)
    assert (verdict.replica, verdict.reason, verdict.decisions, its[0].bag) == (1, "all", {}, [])


@pytest.mark.parametrize(("skips", "standing"), [(True, None), (True, 1), (False, 0)])
def test_a_standby_decides_where_none_stands_or_panes_are_put_together(skips, standing):
    step, (_, (key, held)) = replicated(skips=skips)
    STANDING[100.0] = standing
    _clocks.append(106.0)
    assert [v for i in (0, 1) for v in step.process((key, everything(i)), *held)] == []
    _clocks.append(held[2].set_for)
    assert held[2].set_for == 110.25
    (verdict,) = step.on_due(key, *held)
    assert (verdict.reason, verdict.decisions[""].points) == ("deadline", 30)


@pytest.mark.parametrize("stands", [0, 1, 3])
def test_what_is_late_is_told_once_by_the_replica_whose_decision_stands(stands):
    """Also after a restart with another number of replicas: 3 stands for 1."""
    step, replicas = replicated()
    told = {}
    for replica, (key, held) in enumerate(replicas):
        _clocks.append(106.0)
        assert [v for i in (0, 1) for v in step.process((key, everything(i)), *held)] == []
        _clocks.append(111.0)
        (verdict,) = step.on_due(key, *held)
        assert verdict.decisions
        assert list(step.process((key, everything(2)), *held)) == []
        assert held[2].set_for == 113.0
        _clocks.append(113.0)
        assert list(step.on_due(key, *held)) == []  # nobody knows yet whose decision stands
        assert held[2].set_for == 115.0
        STANDING[100.0] = stands
        _clocks.append(115.0)
        told[replica] = [tagged.value for tagged in step.on_due(key, *held)]
        assert list(step.on_due(key, *held)) == []
        STANDING.clear()
    wanted = [LateReport(100.0, 105.0, "", 2, part, 0, 10, 10, "the window was decided without it", 111.0)
              for part in (1, 2)]  # fmt: skip
    assert sorted(told[stands % 2]) == wanted
    assert told[1 - stands % 2] == []


def test_what_came_twice_before_the_decision_is_told_after_it():
    step, ((key, held), _) = replicated()
    _clocks.append(106.0)
    for i in (0, 0, 1):
        assert list(step.process((key, everything(i)), *held)) == []
    assert held[2].set_for == 110.0
    (verdict,) = step.process((key, everything(2)), *held)
    assert (verdict.reason, held[2].set_for) == ("all", 108.0)
    STANDING[100.0] = 0
    _clocks.append(108.0)
    assert [tagged.value.reason for tagged in step.on_due(key, *held)] == ["repeated: all of it had come before"] * 2


def test_a_replica_of_an_earlier_run_decides_what_it_holds():
    """Resumed with one coordinator in place of two, its state and timers are still there."""
    step, held = _Coordinate(POLICY, PATIENCE, MERGE_REDUCE, None, now_set_by_hand), [Held() for _ in range(5)]
    _clocks.append(106.0)
    key = TWO.key(1, window_key(100, 105), "")
    (verdict,) = [v for i in range(3) for v in step.process((key, everything(i)), *held)]
    assert (verdict.replica, verdict.reason, verdict.decisions[""].points) == (1, "all", 30)


def test_replicas_want_somebody_who_knows_whose_decision_stands():
    with pytest.raises(ValueError, match=r"^claims: must be given with 2 coordinator_replicas, got none$"):
        CoordinateStream(POLICY, PATIENCE, MERGE_REDUCE, coordinators=TWO)


def test_both_replicas_of_a_window_get_every_report():
    options = {"coordinators": TWO, "winner": winner, "skips": True}
    STANDING.clear()
    verdicts, late = Script().at(101, everything(0)).at(106, everything(2), everything(1)).run(**options)
    assert [(v.replica, v.decided_at, v.decisions[""].points) for v in verdicts] == [(0, 106.0, 30), (1, 106.5, 30)]
    assert not late


def test_types_pickling_and_display_data():
    step = pickle.loads(pickle.dumps(CoordinateStream(POLICY, PATIENCE, MERGE_REDUCE, clock=clock)))
    shown = {item.key: item.value for item in DisplayData.create_from(step).items}
    assert shown["deadline"] == 5.0
    assert shown["recovery"] == "exact"
    pipeline = beam.Pipeline()
    reports = pipeline | beam.Create([("0/5000/", everything(0))]).with_output_types(tuple[str, ShardReport])
    out = reports | step
    assert (out[VERDICTS].element_type, out[LATE_REPORTS].element_type) == (Verdict, LateReport)
    with pytest.raises(beam.typehints.TypeCheckError):
        _ = pipeline | "Numbers" >> beam.Create([1]) | "Decide on numbers" >> CoordinateStream(
            POLICY, PATIENCE, MERGE_REDUCE
        )
