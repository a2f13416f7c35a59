"""ReadShards: every row of a part is reported once by each of its holders, however reading is cut up."""
import math
import pickle
import threading

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from apache_beam.runners.worker.bundle_processor import DataInputOperation
from apache_beam.transforms.display import DisplayData
from jobs import counters, run
from list_source import BAD, Clock, ListSource, steady

from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.coordinator.refused_rows import with_refused
from beam_coresets.hashing import generator
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport, finished_parts
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.cursor import Completeness, PartCursor, ShardCursor
from beam_coresets.streaming.partial_reports import PaneRows
from beam_coresets.streaming.progress import WindowProgress
from beam_coresets.streaming.trigger import Patience, Trigger
from beam_coresets.streaming.windows import Window, WindowSpec
from beam_coresets.transforms.base.keys import grouped, key_group, parse_key, window_key
from beam_coresets.transforms.shards import read_shards
from beam_coresets.transforms.shards.read_shards import DEAD_LETTERS, REPORTS, ReadShards, _ReadBounded, _ReadUnbounded
from beam_coresets.transforms.shards.shard_restriction import (
    CursorTracker,
    Reading,
    ShardRestriction,
    ShardRestrictionCoder,
)
from beam_coresets.transforms.writing.stream_letters import StreamLetters

WINDOWS = WindowSpec.parse("5s")
SCHEME = Assignment(3, 2, "cyclic", 6, parts=True)
MERGE_REDUCE = MergeReduce(Sampler(2, 12), SCHEME, 3)
CODER = ShardRestrictionCoder()


class Watermark:
    time = None

    def current_watermark(self):
        return self.time

    def set_watermark(self, time):
        assert self.time is None or time > self.time
        self.time = time


class Hand:
    """Drives one shard's DoFn as a runner does: bundle after bundle, the restriction encoded in between."""

    def __init__(self, source, shard=0, begin=1000.0, bounded=False, merge_reduce=MERGE_REDUCE, **reading):
        rules = None if source.bounded else Completeness(WINDOWS)
        reading = Reading(rules, poll=reading.pop("poll", 1.0), clock=source.clock, **reading)
        kind = _ReadBounded if bounded else _ReadUnbounded
        transform = ReadShards(source, merge_reduce, reading, begin)
        self.read = kind(source, merge_reduce, reading, transform._cursors, f"{id(source)} {id(self)}")
        self.read.setup()
        self.element, self.watermark, self.reports, self.letters = f"{shard}:0", Watermark(), [], []
        self.at = self.read.initial_restriction(self.element)
        self.bounded = bounded

    def bundle(self, split_after=None, meanwhile=None):
        """One bundle; after `split_after` outputs the runner splits. False if nothing is left to do."""
        self.tracker = ThreadsafeRestrictionTracker(CursorTracker(CODER.decode(CODER.encode(self.at)), self.bounded))
        view, rest = RestrictionTrackerView(self.tracker), None
        for i, out in enumerate(self.read.process(self.element, view, self.watermark)):
            (self.letters if isinstance(out, beam.pvalue.TaggedOutput) else self.reports).append(out)
            if i == split_after:
                rest = self.split()
        rest = self.tracker.deferred_status()[0] if self.tracker.deferred_status() else rest
        rest = rest or getattr(self, "residual", None)
        self.residual = None
        self.at = rest
        return rest is not None

    def split(self):
        """As a runner's progress thread does."""
        found = []
        thread = threading.Thread(target=lambda: found.append(self.tracker.try_split(0)))
        thread.start()
        thread.join()
        if found[0] is not None:
            self.residual = found[0][1]
        return None

    def until(self, now):
        while self.read._source.clock.now < now:
            assert self.bundle()
        return self

    def ledger(self, key=None, assignment=SCHEME):
        mine = [r.ledger for k, r in self.reports if key is None or k == key]
        return Ledger.sum(mine, assignment.buckets)

    def is_final(self, key):
        """By the coordinator's own rules."""
        progress, trigger = WindowProgress(), Trigger(SCHEME, Patience(), self.read._cursors[0].known)
        assert {trigger.receive(progress, r, 0.0) for k, r in self.reports if k == key} <= {"kept"}
        return trigger.is_final(progress, int(self.element[0]))


def held(shard, parts):
    return np.flatnonzero(SCHEME.matrix()[shard, :parts]).tolist()


def collected(source, **options):
    def build(pipeline):
        out = pipeline | ReadShards(source, MERGE_REDUCE, Reading(**options))
        return {"reports": out[REPORTS], "letters": out[DEAD_LETTERS]}

    return run(build)


def test_lags_are_gauges_of_the_oldest_message_of_a_poll(monkeypatch):
    """`lag_ms` is the largest of its parts' and begins anew with each poll."""
    shown = {}

    class Gauge:
        def __init__(self, _, name):
            self.set = lambda value: shown.update({name: value})

    monkeypatch.setattr(read_shards.Metrics, "gauge", Gauge)
    old, young = [(992.0, 0.0, 1)], [(990.0, 0.0, 1), (998.0, 0.0, 1), (1000.5, 1001.0, 1)]
    hand = Hand(ListSource([young if part == held(0, 4)[0] else old for part in range(4)], bounded=False), poll=0.3)
    hand.bundle()
    first, *others = (f"lag_ms_part_{part}" for part in held(0, 4))
    assert set(shown) == {"lag_ms", first, *others}
    assert 10_000 <= shown["lag_ms"] == shown[first] < 11_000
    assert all(8_000 <= shown[other] < 9_000 for other in others)
    hand.until(1003.0)
    assert shown["lag_ms"] == shown[first] < 1_500


def test_there_are_gauges_and_no_distributions():
    _, result = collected(ListSource(steady(4, 5, lag=-1000)))
    mine = {
        kind: {metric.key.metric.name for metric in found if metric.key.metric.namespace == "beam_coresets"}
        for kind, found in result.metrics().query().items()
    }
    assert mine["gauges"] >= {"lag_ms", "lag_ms_part_0"}
    assert not mine["distributions"]


def test_a_bounded_source_is_read_to_its_end_by_every_holder():
    source = ListSource(steady(4, 20, lag=-1000), bad=((1, 3), (1, 4)))
    found, result = collected(source)
    assert {key for key, _ in found["reports"]} == {window_key(0, 0)}
    assert sorted(r.shard for _, r in found["reports"]) == [0, 1, 2]
    for _, report in found["reports"]:
        mine = held(report.shard, 4)
        assert report.ledger.equal(source.ledger(SCHEME, mine))
        assert np.flatnonzero(report.finished()).tolist() == mine
        assert set(report.coreset.extras["id"].to_pylist()) <= {
            f"list-{p}@{o}#{i}" for p in mine for o in range(20) for i in range(3)
        }
    decision = decide([r for _, r in found["reports"]], Policy(SCHEME, parts=4))
    assert (decision.points, decision.recovery.coverage, decision.recovery.distrusted) == (4 * 60 - 6, 1.0, {})
    assert [(letter.reason) for letter in found["letters"]] == [BAD] * 2, "one of the holders tells"
    counted = counters(result)
    assert (counted["messages_read"], counted["points_read"]) == (160, 2 * (4 * 60 - 6))
    assert counted["dead_letters"] == 2


def test_what_is_refused_is_written_before_the_reports_of_its_window():
    """By the window of the latest message before it, from every holder, before anybody can decide on the reports."""
    parts = steady(2, 30)
    bad = ((0, 0), (0, 14), (1, 5))
    hand, told = None, []

    def write(letters):
        told.extend((letter.source, letter.position, bounds, len(hand.reports)) for letter, bounds in letters)

    shard = next(shard for shard in range(3) if len(held(shard, 2)) == 2)
    hand = Hand(ListSource(parts, bounded=False, bad=bad), shard=shard, letters=write)
    hand.until(1020.0)
    assert [letter[:3] for letter in sorted(told)] == [
        ("list-0", "0", (1000.0, 1005.0)),  # nothing came before it: the window that reading began with
        ("list-0", "14", (1005.0, 1010.0)),
        ("list-1", "5", (1000.0, 1005.0)),
    ]
    for _, _, (start, end), before in told:
        first = next(i for i, (key, r) in enumerate(hand.reports) if key == window_key(start, end) and r.ranges)
        assert before <= first or before < len(hand.reports)
    assert hand.is_final(window_key(1005.0, 1010.0))


def bad_by_pane(source):
    """Which messages of each pane are refused: a bad message has the pane of the latest one before it."""
    found, first = {}, WINDOWS.pane(1000.0)
    for part, offset in source.bad:
        before = [time for o, (time, *_) in enumerate(source.parts[part][:offset]) if (part, o) not in source.bad]
        found.setdefault(WINDOWS.pane(max(before)) if before else first, []).append((part, offset))
    return found


@pytest.mark.parametrize("replication", [1, 3])
@pytest.mark.parametrize("flush", [1, 1 << 30])
def test_what_is_refused_is_counted_once_in_the_window_of_its_letter(monkeypatch, tmp_path, replication, flush):
    """However many read it, in bundles that are split and tried again: as many as there are in the letters' files."""
    monkeypatch.setattr(read_shards, "FLUSH_BYTES", flush)
    rng = generator("refused", replication, flush)
    scheme = Assignment(3, replication, "cyclic", 6, parts=True)
    merge_reduce, write = MergeReduce(Sampler(2, 12), scheme, 3), StreamLetters(str(tmp_path), "jsonl").write
    bad = ((0, 0), (0, 1), (0, 14), (1, 5), (1, 13), (1, 14), *((2, offset) for offset in range(12, 28)))
    source = ListSource(steady(3, 50), bounded=False, bad=bad)
    told = {}
    for shard in range(3):
        source.clock = Clock()
        hand = Hand(source, shard, merge_reduce=merge_reduce, poll=1.0 + shard / 3, letters=write)
        source.on_read = lambda _, hand=hand: hand.split() if rng.random() < 0.1 else None
        while source.clock.now < 1023.0:
            at, now, before = hand.at, source.clock.now, len(hand.reports)
            assert hand.bundle(int(rng.integers(0, 4)) if rng.random() < 0.3 else None)
            if rng.random() < 0.3:  # killed before it was committed: its letters are written, its reports are lost
                hand.at, source.clock.now = at, now
                del hand.reports[before:]
        for key, report in hand.reports:
            told.setdefault(WINDOWS.pane(parse_key(key)[0]), []).append(report)
    expected = bad_by_pane(source)
    for pane in (200, 201, 202, 203):
        progress, trigger = WindowProgress(), Trigger(scheme, Patience(), 3)
        kept = [report for report in told[pane] if trigger.receive(progress, report, 0.0) == "kept"]
        by_key = partial_reports.decidable(merge_reduce, kept)
        decided = with_refused({k: decide(mine, Policy(scheme, parts=3)) for k, mine in by_key.items()}, by_key)[""]
        mine = expected.get(pane, [])
        start = Window(*WINDOWS.bounds(pane)).name.partition("-")[0]
        files = [path.read_text().splitlines() for path in tmp_path.glob(f"dead_letters/*/{start}-*.jsonl")]
        assert decided.refused.count == len(mine) == sum(map(len, files))
        assert decided.refused.rows == decided.points == sum(len(source.rows(p, [pane], WINDOWS)) for p in range(3))
        assert Decision.from_bytes(decided.to_bytes()).refused == decided.refused
    assert sum(map(len, expected.values())) == len(bad)


def test_a_bounded_shard_past_its_deadline_reports_what_it_has_finished():
    parts = steady(4, 40, lag=-1000)
    parts[0], parts[3] = parts[0][:4], parts[3][:4]
    source = ListSource(parts, most=2)
    hand = Hand(source, bounded=True, deadline=0.35)
    assert not hand.bundle()
    ((_, report),) = hand.reports
    finished = np.flatnonzero(report.finished()).tolist()
    assert finished == [p for p in held(0, 4) if p in (0, 3)]
    whole = source.ledger(SCHEME, finished)
    assert report.ledger.counts[finished].tolist() == whole.counts[finished].tolist()
    decision = decide([report], Policy(SCHEME, parts=4))
    assert np.flatnonzero(decision.recovery.complete).tolist() == finished
    assert decision.recovery.coverage == len(finished) / 4
    assert decision.recovery.stragglers == (0, 1, 2)


def test_a_bounded_shard_may_report_part_by_part():
    parts = [part[: 10 * (i + 1)] for i, part in enumerate(steady(4, 40, lag=-1000))]
    source = ListSource(parts, bad=((1, 3),))
    hand = Hand(source, part_by_part=True, poll=60.0)
    finished = []
    while hand.bundle():
        finished.append(len(finished_parts([r for _, report in hand.reports for r in report.ranges])))
    mine = held(0, 4)
    assert finished == list(range(1, len(mine)))
    assert hand.is_final(window_key(0, 0))
    assert hand.ledger().equal(source.ledger(SCHEME, mine))
    assert len(hand.letters) == (1 in mine), "whoever holds a part tells, as the first one may be stuck"


def test_a_part_that_takes_long_is_reported_bit_by_bit():
    hand = Hand(ListSource(steady(4, 40, lag=-1000), most=2), part_by_part=True, poll=0.35)
    assert hand.bundle()
    assert hand.ledger().rows > 0
    assert not finished_parts([r for _, report in hand.reports for r in report.ranges])
    while hand.bundle():
        pass
    assert hand.is_final(window_key(0, 0))


def test_holders_of_a_part_report_the_same_and_panes_end():
    source = ListSource(steady(3, 40), bounded=False)
    hands = []
    for shard, most in ((0, 1), (1, 7), (2, 3)):
        source.clock, source.most = Clock(), most
        hands.append(Hand(source, shard).until(1019.0))
    for pane in (200, 201, 202):
        key = window_key(*WINDOWS.bounds(pane))
        for shard, hand in enumerate(hands):
            assert hand.ledger(key).equal(source.ledger(SCHEME, held(shard, 3), [pane], WINDOWS))
            assert hand.is_final(key)
    told = [r for h in hands for k, r in h.reports if parse_key(k)[0] == 1005.0]
    ready = partial_reports.decidable(MERGE_REDUCE, told)
    decision = decide(ready[""], Policy(SCHEME, parts=3))
    assert (decision.recovery.coverage, decision.recovery.distrusted) == (1.0, {})
    assert decision.points == sum(len(source.rows(p, [201], WINDOWS)) for p in range(3))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("flush", [1, 1 << 30])
def test_a_split_at_any_time_loses_and_repeats_nothing(monkeypatch, seed, flush):
    """Of the runner's own thread: in reading, between a claim and its report, between two reports."""
    monkeypatch.setattr(read_shards, "FLUSH_BYTES", flush)
    rng = generator("splits", seed)
    source = ListSource(steady(3, 50), bounded=False)
    whole = Hand(source).until(1023.0)
    source.clock = Clock()
    hand = Hand(source, poll=1.0 + seed / 3)
    source.on_read = lambda _: hand.split() if rng.random() < 0.1 else None
    splits = 0
    while source.clock.now < 1023.0:
        assert hand.bundle(int(rng.integers(0, 4)) if rng.random() < 0.5 else None)
        splits += 1
    for pane in (200, 201, 202, 203):
        key = window_key(*WINDOWS.bounds(pane))
        assert hand.ledger(key).equal(whole.ledger(key))
        assert hand.ledger(key).equal(source.ledger(SCHEME, held(0, 3), [pane], WINDOWS))
        assert hand.is_final(key)
    assert splits > 10
    assert [CODER.decode(CODER.encode(hand.at)), CODER.encode(hand.at)[:1]] == [hand.at, b"0"]


def test_a_bundle_that_is_tried_again_reports_the_same_bytes():
    source = ListSource(steady(3, 30), bounded=False)
    hand = Hand(source, poll=3.0)
    assert hand.bundle()
    at, now, before = hand.at, source.clock.now, len(hand.reports)
    assert hand.bundle()
    first = [(k, r.to_bytes()) for k, r in hand.reports[before:]]
    hand.at, source.clock.now, before = at, now, len(hand.reports)
    assert hand.bundle()
    assert [(k, r.to_bytes()) for k, r in hand.reports[before:]] == first
    assert first


def test_the_tracker_splits_off_the_rest_and_nothing_else():
    start = ReadShards(ListSource(steady(2, 5)), MERGE_REDUCE, Reading())._cursors[0]
    tracker = CursorTracker(ShardRestriction(start), False)
    for fraction in (0.01, 0.5, 1.0):
        assert tracker.try_split(fraction) is None
    assert tracker.try_claim(start)
    primary, residual = tracker.try_split(0)
    assert (primary.stopped, residual.stopped) == (True, False)
    assert residual.cursor == start.reported()
    assert not tracker.try_claim(start)
    assert tracker.try_split(0) is None
    assert tracker.check_done()
    assert not tracker.is_bounded()
    assert not CursorTracker(primary, True).try_claim(start)


def test_a_held_shard_stands_still():
    source = ListSource(steady(3, 20), bounded=False)
    hand = Hand(source, hold=((0, 1002.0, 1002.3), (1, 0.0, 1e9)))
    hand.until(1002.0)
    before, asked = len(hand.reports), []
    source.clock.now = 1002.0

    class Ticking(Clock):
        def __call__(self):
            asked.append(self.now)
            self.now += 0.05
            return self.now

    ticking = Ticking(1001.95)
    object.__setattr__(hand.read._reading, "clock", ticking)
    source.on_read = lambda _: asked.append("read")
    assert hand.bundle()
    assert asked.index("read") >= 6
    assert len(hand.reports) > before


def test_new_parts_are_read_from_their_beginning_and_waited_for():
    parts = [*steady(2, 60), *([], [])]
    source = ListSource(parts, bounded=False, known=2)
    parts.pop()
    parts.pop()
    hands = [Hand(source, shard, poll=0.5) for shard in range(3)]
    for hand in hands:
        source.clock.now = 1000.0
        hand.until(1006.0)
    parts.append(steady(1, 30, begin=1007.0)[0])
    for hand in hands:
        source.clock.now = 1006.0
        hand.until(1017.0)
    key = window_key(1010.0, 1015.0)
    for shard, hand in enumerate(hands):
        assert hand.ledger(key).equal(source.ledger(SCHEME, held(shard, 3), [202], WINDOWS))
        assert hand.is_final(key)
        assert {r.parts for k, r in hand.reports if k == key} == {3}
    for shard in np.flatnonzero(SCHEME.matrix()[:, 2]).tolist():
        first = source.ledger(SCHEME, [2], [201], WINDOWS)
        assert hands[shard].ledger(window_key(1005.0, 1010.0)).counts[2] == first.counts[2] > 0


def test_a_new_part_that_is_ahead_of_a_backlog_does_not_hold_it_up():
    parts = steady(2, 60, lag=0.0)
    source = ListSource(parts, bounded=False, known=2, most=1)
    source.clock.now = 1050.0
    hand = Hand(source, poll=0.3)
    assert hand.bundle()
    parts.append(steady(1, 5, begin=1049.0, lag=0.0)[0])
    hand.until(1059.0)
    for pane in (201, 202, 203):
        assert hand.is_final(window_key(*WINDOWS.bounds(pane)))


def test_a_shard_without_parts_finds_new_ones():
    scheme = Assignment(3, 1, "cyclic", 6, parts=True)
    parts = steady(2, 30)
    source = ListSource(parts, bounded=False, known=2)
    hand = Hand(source, 2, merge_reduce=MergeReduce(Sampler(2, 12), scheme), poll=0.3)
    assert hand.bundle()
    assert not hand.reports
    parts.append(steady(1, 20, begin=1001.0)[0])
    hand.until(1011.0)
    assert hand.ledger(window_key(1000.0, 1005.0), scheme).equal(source.ledger(scheme, [2], [200], WINDOWS))


def test_more_parts_than_there_is_room_for_are_an_error():
    parts = steady(6, 5)
    source = ListSource(parts, bounded=False, known=6)
    hand = Hand(source)
    parts.append([])
    with pytest.raises(ValueError, match="max_parts: must be at least the 7 parts there are now, got 6"):
        hand.bundle()


def test_what_is_settled_is_committed(monkeypatch):
    monkeypatch.setattr(read_shards, "SETTLE_SECONDS", 0.0)
    source = ListSource(steady(2, 60), bounded=False)
    readers = []
    source.on_read = lambda reader: readers.append(reader)
    hand = Hand(source, settled=lambda start, end: end <= 1005.0).until(1016.0)
    first = next(i for i, (time, _, _) in enumerate(source.parts[0]) if time >= 1005.0)
    assert readers[-1].committed[0] <= first, "from here on, the second window can be read again"
    assert readers[-1].committed[0] > first - source.most
    assert all(min(c.floors) == 201 for c in hand.at.cursor.parts.values())
    source.clock = Clock()
    free = Hand(source).until(1016.0)
    assert all(set(c.floors) <= {202, 203} for c in free.at.cursor.parts.values())


def test_a_cursor_stays_small():
    source = ListSource(steady(2, 200, spacing=0.2), bounded=False)
    hand, sizes = Hand(source), []
    while source.clock.now < 1045.0:
        hand.bundle()
        sizes.append(len(CODER.encode(hand.at)))
    assert max(sizes[len(sizes) // 2 :]) < 1000


def test_idle_readers_are_closed(monkeypatch):
    from beam_coresets.transforms.streams import open_readers

    source, readers = ListSource(steady(2, 20), bounded=False), []
    source.on_read = lambda reader: readers.append(reader)
    hand = Hand(source)
    hand.bundle()
    hand.bundle()
    assert len(set(map(id, readers))) == 1, "the same reader goes on"
    monkeypatch.setattr(open_readers, "IDLE_SECONDS", -1.0)
    hand.read.teardown()
    assert readers[-1].closed
    assert not any(job == hand.read._job for job, _ in open_readers._OPEN)


def test_a_reader_that_fails_is_closed():
    source, readers = ListSource(steady(2, 20), bounded=False), []

    def failing(reader):
        readers.append(reader)
        raise ValueError("offset: out of range")

    source.on_read = failing
    hand = Hand(source)
    with pytest.raises(ValueError, match="out of range"):
        hand.bundle()
    assert readers[0].closed
    source.on_read = readers.append
    assert hand.bundle()
    assert readers[1] is not readers[0]


@pytest.mark.parametrize("keys", [None, ["a", "b", "a", "c", "d"]])
def test_every_row_is_in_the_group_of_its_key(keys):
    named = None if keys is None else np.array(keys, object)
    rows = PaneRows(np.zeros((5, 2), np.float32), np.ones(5), np.arange(5, dtype=np.uint64), named)
    found = dict(grouped(rows, 3))
    assert list(found) == ["000", "001", "002"]
    assert sorted(np.concatenate([r.ids for r in found.values()]).tolist()) == [0, 1, 2, 3, 4]
    for group, some in found.items():
        assert all(key_group(key, 3) == int(group) for key in (some.keys if keys else [""] * len(some.ids)))
    assert [group for group, _ in grouped(rows, 1)] == [""]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reading(poll=0.0), "poll: must be positive, got 0.0"),
        (lambda: Reading(groups=0), "groups: must be at least 1, got 0"),
        (lambda: Reading(Completeness(WINDOWS), deadline=5.0), "deadline: must be left to the coordinator"),
        (
            lambda: ReadShards(ListSource(steady(2, 1)), MergeReduce(Sampler(2, 12), Assignment(2)), Reading()),
            "assignment: must have parts for buckets",
        ),
        (
            lambda: ReadShards(ListSource(steady(7, 1)), MERGE_REDUCE, Reading()),
            "buckets: must be at least the 7 parts, got 6",
        ),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_types_pickling_and_display_data():
    step = pickle.loads(pickle.dumps(ReadShards(ListSource(steady(2, 3)), MERGE_REDUCE, Reading())))
    shown = {item.key: item.value for item in DisplayData.create_from(step).items}
    assert (shown["parts"], shown["poll"]) == (2, 5.0)
    out = beam.Pipeline() | step
    assert out[REPORTS].element_type == tuple[str, ShardReport] or "ShardReport" in str(out[REPORTS].element_type)


def answered(source, key, cursors=(0, 1, 2), until=1020.0):
    """The decision on a window that all three shards have reported by then."""
    hands = [Hand(source(), shard).until(until) for shard in cursors]
    reports = [partial_reports.decidable(MERGE_REDUCE, [r for k, r in hand.reports if k == key])[""] for hand in hands]
    assert all(hand.is_final(key) for hand in hands)
    return decide([report for mine in reports for report in mine], Policy(SCHEME, parts=4))


def test_a_window_that_began_before_reading_did_says_so():
    """All shards answer at once, and what was there before they began is nobody's."""
    def source():
        return ListSource(steady(4, 50), bounded=False, cut={0: 1002.0, 2: 1002.0})

    first, second = (answered(source, window_key(start, start + 5, "")) for start in (1000.0, 1005.0))
    assert first.recovery.responded == second.recovery.responded == (0, 1, 2)
    assert (first.recovery.coverage, second.recovery.coverage) == (0.5, 1.0)
    assert np.flatnonzero(first.recovery.covered & ~first.recovery.complete).tolist() == [0, 2]
    assert not (second.recovery.covered & ~second.recovery.complete).any(), "of parts that may come there is nothing"
    assert first.points > 0


def test_no_pane_is_complete_before_all_parts_of_its_time_are_known():
    source = ListSource(steady(4, 50), bounded=False, asked=-math.inf)
    hand = Hand(source).until(1012.0)
    assert not hand.is_final(window_key(1000.0, 1005.0, ""))
    source.asked = math.inf
    hand.until(1013.0)
    assert hand.is_final(window_key(1000.0, 1005.0, ""))
    assert not hand.is_final(window_key(1010.0, 1015.0, ""))


def test_a_part_that_is_found_with_the_answer_is_in_the_report():
    source = ListSource(steady(4, 50), bounded=False, known=3, asked=-math.inf)
    hand = Hand(source).until(1012.0)
    source.asked = math.inf
    hand.until(1013.0)
    final = [r for k, r in hand.reports if k == window_key(1000.0, 1005.0, "") and any(g.total >= 0 for g in r.ranges)]
    assert {r.parts for r in final} == {4}


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_a_split_before_any_output_was_measured_is_answered(fraction):
    """Beam replaces what has been done by bytes written: NaN as long as it has measured none."""
    progress = CursorTracker(ShardRestriction(ShardCursor({0: PartCursor(0)}, 1)), False).current_progress()
    done = progress.with_completed(math.nan).fraction_completed
    assert math.isfinite(done)
    DataInputOperation._compute_split(0, done, 1, fraction, 1, (), lambda *_: None)
