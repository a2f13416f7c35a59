"""Shards and a coordinator in one process, without Beam: parts in memory, a clock set by hand, reports that take their
time, come twice or in any order, shards that stand still, and a restore of everything from an older moment."""
import copy
import dataclasses
import heapq

import numpy as np

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment, part_ids
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.cursor import Completeness, PartCursor, ShardCursor
from beam_coresets.streaming.partial_reports import PaneRows
from beam_coresets.streaming.progress import WindowProgress
from beam_coresets.streaming.trigger import KEPT, LATE, Patience, Trigger
from beam_coresets.streaming.windows import WindowSpec

T0 = 1000.0
WINDOWS = WindowSpec.parse("5s")
SAMPLER = Sampler(2, 8, method="uniform")


@dataclasses.dataclass
class Log:
    """One part: messages of one row each, with event times and the times at which they come into being."""

    times: list
    arrivals: list


@dataclasses.dataclass
class Shard:
    """What a reader does, poll after poll, on a cursor that goes through its JSON each time."""

    number: int
    merge_reduce: MergeReduce
    completeness: Completeness
    cursor: ShardCursor

    def poll(self, logs, now, most):
        """Reads up to `most` messages a part; returns (pane, report) pairs."""
        cursor, taken = ShardCursor.from_json(self.cursor.to_json()), {}
        for part, held in cursor.parts.items():
            there = sum(at <= now for at in logs[part].arrivals)
            offsets = np.arange(held.offset, min(there, held.offset + most))
            if len(offsets):
                times = np.array(logs[part].times)[offsets]
                panes, stop = WINDOWS.pane_of(times), int(offsets[-1]) + 1
                held = self.completeness.begun(held, times.min())
                ones, top = np.ones(len(offsets), np.int64), float(times.max())
                held = held.taken(int(offsets[0]), stop, stop, panes, ones, top, now)
                for pane in set(panes.tolist()):
                    taken.setdefault(pane, []).append((part, offsets[panes == pane]))
            cursor = cursor.with_part(part, held)
        lag = max((c.lag for c in cursor.parts.values() if np.isfinite(c.high)), default=0.0)
        for part, held in cursor.parts.items():
            caught_up = held.offset >= sum(at <= now for at in logs[part].arrivals)
            cursor = cursor.with_part(part, self.completeness.closed(held, caught_up, False, lag, now))
        known = cursor.known
        out = [(pane, self._report(ranges, taken.get(pane, []), known)) for pane, ranges in cursor.news().items()]
        self.cursor = cursor.reported()
        return out

    def _report(self, ranges, taken, known):
        ids = [part_ids(part, offsets.astype(np.uint64)) for part, offsets in taken]
        ids = np.concatenate([*ids, np.empty(0, np.uint64)]).astype(np.uint64)
        weights = 1.0 + (ids % np.uint64(3)).astype(np.float64)
        rows = PaneRows(points_of(ids), weights, ids)
        return partial_reports.partial_report(self.merge_reduce, self.number, rows, ranges, known)


def points_of(ids):
    """(n, 2) float32: the same for a row wherever it is read."""
    return np.stack([ids >> np.uint64(48), ids & np.uint64(0xFFFF)], axis=1).astype(np.float32)


@dataclasses.dataclass
class Coordinator:
    """What the stateful DoFn does for all windows; progress and reports live as bytes between two events."""

    merge_reduce: MergeReduce
    policy: Policy
    trigger: Trigger
    stored: dict = dataclasses.field(default_factory=dict)  # by pane: the head and the notes of its progress
    reports: dict = dataclasses.field(default_factory=dict)
    verdicts: list = dataclasses.field(default_factory=list)  # (pane, revision, reason, decision, rows by shard)
    late: list = dataclasses.field(default_factory=list)  # (pane, outcome, entry)

    def receive(self, pane, report, now, claimed):
        report = ShardReport.from_bytes(report)
        progress = self._progress(pane)
        old = now > WINDOWS.bounds(pane)[1] + self.trigger.patience.retention
        outcome = self.trigger.receive(progress, report, now, progress.first is None and old and pane in claimed)
        if outcome != KEPT:
            self.late += [(pane, outcome, entry) for entry in report.late_rows()]
            if progress.first is None:
                return
        else:
            self.reports.setdefault(pane, []).append(report)
            if self.trigger.on_report(progress):
                self._decide(pane, progress, now)
            else:
                self.trigger.rearmed(progress, WINDOWS.bounds(pane)[1])
        self._store(pane, progress)

    def _progress(self, pane):
        head, notes = self.stored.get(pane, (None, []))
        return WindowProgress.read(head, lambda: notes)

    def _store(self, pane, progress):
        head, notes = progress.write()
        self.stored[pane] = head, [*self.stored.get(pane, (None, []))[1], *notes]

    def tick(self, now):
        """Fires the timers that are due."""
        for pane in sorted(self.stored):
            progress = self._progress(pane)
            end = WINDOWS.bounds(pane)[1]
            if progress.armed is not None and now >= progress.armed and self.trigger.on_timer(progress, now, end):
                self._decide(pane, progress, now)
            expires, late = self.trigger.expires(progress), progress.late
            self._store(pane, progress)
            if now >= expires:
                self.late += [(pane, LATE, entry) for entry in late]
                del self.stored[pane]
                self.reports.pop(pane, None)

    def _decide(self, pane, progress, now):
        reason, held = self.trigger.reason(progress, WINDOWS.bounds(pane)[1]), self.reports.get(pane, [])
        decisions = partial_reports.decidable(self.merge_reduce, held)
        assert set(decisions) == {""}
        rows = {r.shard: r.ledger.counts for r in decisions[""]}
        self.trigger.decided(progress, now)
        self.verdicts.append((pane, progress.revision, reason, decide(decisions[""], self.policy), rows))
        if not self.trigger.keeps_reports(progress):
            self.reports.pop(pane)


class Simulation:
    """All of it, on a clock that goes on in steps; `draw` gives whole numbers below n."""

    def __init__(self, shards, replication, logs, patience, seed=0):
        self.logs, self.now, self.channel, self.sent = logs, T0, [], 0
        self.claimed = set()  # the panes that have been decided, as sinks remember them
        scheme = Assignment(shards, replication, "cyclic", max(len(logs), shards), parts=True)
        merge_reduce = MergeReduce(SAMPLER, scheme, seed)
        pane, matrix, n = int(T0 // 5), scheme.matrix(), len(logs)
        parts = [{p: PartCursor(0, closed=pane, told=pane) for p in range(n) if matrix[i, p]} for i in range(shards)]
        self.shards = [Shard(i, merge_reduce, Completeness(WINDOWS), ShardCursor(parts[i], n)) for i in range(shards)]
        trigger = Trigger(scheme, patience, n)
        self.coordinator = Coordinator(merge_reduce, Policy(scheme, min_shards=patience.min_shards, parts=n), trigger)
        self.scheme = scheme

    def step(self, seconds, standing, rng, delay=0.0, duplicates=False):
        """Time goes on; shards that do not stand still poll; what has arrived is received."""
        self.now += seconds
        for shard in self.shards:
            if shard.number in standing:
                continue
            for pane, report in shard.poll(self.logs, self.now, int(rng.integers(1, 6))):
                for _ in range(2 if duplicates and rng.random() < 0.2 else 1):
                    self.sent += 1
                    at = self.now + delay * rng.random()
                    heapq.heappush(self.channel, (at, rng.random(), self.sent, pane, report.to_bytes()))
        while self.channel and self.channel[0][0] <= self.now:
            _, _, _, pane, report = heapq.heappop(self.channel)
            self.coordinator.receive(pane, report, self.now, self.claimed)
        self.coordinator.tick(self.now)
        self.claimed |= {pane for pane, *_ in self.coordinator.verdicts}

    def snapshot(self):
        return copy.deepcopy((self.shards, self.channel, self.coordinator))

    def restore(self, held):
        """Everything goes back but the clock, the logs and the claims."""
        self.shards, self.channel, self.coordinator = copy.deepcopy(held)


def log_of(seed, part, count, spacing, lag, disorder, pauses=()):
    """A log from T0 on: event times out of order by up to `disorder`; a pause (when, how long) holds arrivals back."""
    rng = generator("simulated log", seed, part)
    steady = T0 + np.cumsum(rng.exponential(spacing, count)) + disorder
    times = steady - disorder * rng.random(count)
    arrivals = np.maximum.accumulate(steady + lag)
    for begin, length in pauses:
        held = (arrivals >= T0 + begin) & (arrivals < T0 + begin + length)
        arrivals = np.where(held, T0 + begin + length, arrivals)
    return Log((np.floor(times * 1000) / 1000).tolist(), np.maximum.accumulate(arrivals).tolist())


def true_rows(logs, pane):
    """(parts,) rows of a pane."""
    return np.array([int((WINDOWS.pane_of(np.array([0.0, *log.times]))[1:] == pane).sum()) for log in logs])


def patience(**options):
    return Patience(**{"deadline": 4.0, "grace": 1.0, "cap": 12.0, "retention": 20.0} | options)
