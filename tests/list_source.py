"""A source of parts in memory, for tests: messages that come into being at set times, on a clock that reading moves."""
import dataclasses

import numpy as np

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.shards.assignment import part_ids
from beam_coresets.shards.ledger import Ledger
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.streams.source import Chunk

BAD = "not a number"


@dataclasses.dataclass
class Clock:
    """A clock that stands still, but for what reading adds."""

    now: float = 1000.0

    def __call__(self):
        return self.now


@dataclasses.dataclass
class ListSource:
    """Parts of messages (event time, arrival, rows); rows are a function of part, offset and number.

    Attributes:
      parts: the messages of each part. bounded: whether parts end. clock: what arrivals are compared to.
      most: messages of a part that a read returns. known: parts that `starts` names; the others are found by reading.
      cut: what `since` says. asked: the moment up to which all parts are known; None: always.
      bad: (part, offset) of messages that are refused. on_read: called in each read.
    """

    parts: list
    bounded: bool = True
    clock: Clock = dataclasses.field(default_factory=Clock)
    most: int = 3
    known: int | None = None
    bad: tuple = ()
    on_read: object = None
    cut: dict = dataclasses.field(default_factory=dict)
    asked: float | None = None

    def starts(self):
        return dict.fromkeys(range(len(self.parts) if self.known is None else self.known), 0)

    def since(self, starts, now):
        return self.cut

    def part_name(self, part):
        return f"list-{part}"

    def reader(self, shard, shards):
        return ListReader(self)

    def display_data(self):
        return {"parts": len(self.parts)}

    def rows(self, part, panes=None, windows=None):
        """All good rows of a part (of one pane) as a PointBlock."""
        points, ids = [np.empty((0, 2), np.float32)], [np.empty(0, np.uint64)]
        for offset, (time, _, count) in enumerate(self.parts[part]):
            if (part, offset) in self.bad or (panes is not None and windows.pane_of(np.array([time]))[0] not in panes):
                continue
            points.append(points_of(part, offset, count))
            ids.append(part_ids(part, np.uint64(offset << 16) + np.arange(count, dtype=np.uint64)))
        points, ids = np.concatenate(points), np.concatenate(ids).astype(np.uint64)
        return PointBlock(points, np.ones(len(ids)), ids, Span(part, 0, True))

    def ledger(self, assignment, parts, panes=None, windows=None):
        """The ledger of everything that is in these parts (and of one pane)."""
        found = [Ledger.of(self.rows(part, panes, windows), assignment) for part in parts]
        return Ledger.sum(found, assignment.buckets)


def points_of(part, offset, count):
    rng = generator("list source", part, offset)
    return (10.0 * rng.integers(0, 3, (count, 1)) + rng.standard_normal((count, 2))).astype(np.float32)


class ListReader:
    """Every read moves the clock by a tenth of a second."""

    def __init__(self, source):
        self.source, self.positions, self.committed, self.closed = source, {}, {}, False

    def seek(self, positions):
        self.positions = dict(positions)

    def read(self, seconds):
        if self.source.on_read is not None:
            self.source.on_read(self)
        self.source.clock.now += 0.1
        chunks = []
        for part, start in self.positions.items():
            stop = min(start + self.source.most, self._there(part))
            if stop > start:
                chunks.append(self._chunk(part, start, stop))
                self.positions[part] = stop
        return chunks

    def _there(self, part):
        return sum(arrival <= self.source.clock.now for _, arrival, _ in self.source.parts[part])

    def _chunk(self, part, start, stop):
        source, offsets = self.source, range(start, stop)
        good = [o for o in offsets if (part, o) not in source.bad]
        letters = tuple(
            DeadLetter(BAD, "", source.part_name(part), str(o), "") for o in offsets if (part, o) in source.bad
        )
        counts = [source.parts[part][o][2] for o in good]
        points = [points_of(part, o, count) for o, count in zip(good, counts, strict=True)]
        return Chunk(
            part, start, stop, stop, np.concatenate([np.empty((0, 2), np.float32), *points]),
            np.array(good, np.int64), np.array(counts, np.int64),
            np.array([source.parts[part][o][0] for o in good], np.float64), letters=letters,
        )  # fmt: skip

    def caught_up(self, part):
        return self.positions[part] >= self._there(part)

    def drained(self, part):
        return self.caught_up(part)

    def knows_parts(self, since):
        return self.source.asked is None or self.source.asked >= since

    def age(self, part):
        return 0.0

    def ended(self, part):
        return self.source.bounded and self.positions[part] >= len(self.source.parts[part])

    def new_parts(self):
        return {part: 0 for part in range(len(self.source.parts)) if part not in self.positions}

    def commit(self, positions):
        self.committed = dict(positions)

    def close(self):
        self.closed = True


def steady(parts, messages, begin=1000.0, spacing=0.4, lag=0.2, rows=3):
    """Parts whose messages come one after the other; every part is a little behind the last."""
    return [
        [(begin + i * spacing + part * 0.05, begin + i * spacing + part * 0.05 + lag, rows) for i in range(messages)]
        for part in range(parts)
    ]
