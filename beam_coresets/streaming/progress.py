"""What is known about a window that is waited for, and how that is stored: a report costs as much among 10,000 shards
as among 100.

A `WindowProgress` is stored in two pieces: its *head*, a few numbers that are written with each report, and *notes*, a
line on each shard that has changed, which are only ever added. To read it is to read the head and the newest note on
each shard; but a process remembers what it has written last, and reads notes only where the head's mark says that
somebody else wrote it, or that what was written did not last.
"""
from __future__ import annotations

import base64
import bisect
import collections
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

MOST_REMEMBERED = 100_000  # shards of windows, about 300 bytes each, that a process remembers

Entry = tuple[list[list[int]], int, int]


class FinalTimes(MutableMapping[int, float]):
    """When each shard had said all, by shard; also in rising order."""

    def __init__(self, times: Mapping[int, float] | None = None) -> None:
        self._times = dict(times or {})
        self._rising: list[float] | None = None
        self.changed = set(self._times)

    def rising(self) -> list[float]:
        """The times in rising order; not to be changed."""
        if self._rising is None:
            self._rising = sorted(self._times.values())
        return self._rising

    def __getitem__(self, shard: int) -> float:
        return self._times[shard]

    def __setitem__(self, shard: int, time: float) -> None:
        self.pop(shard, None)
        self._times[shard] = time
        self.changed.add(shard)
        if self._rising is not None:
            bisect.insort(self._rising, time)

    def __delitem__(self, shard: int) -> None:
        time = self._times.pop(shard)
        self.changed.add(shard)
        if self._rising is not None:
            del self._rising[bisect.bisect_left(self._rising, time)]

    def __iter__(self) -> Iterator[int]:
        return iter(self._times)

    def __len__(self) -> int:
        return len(self._times)

    def __repr__(self) -> str:
        return f"FinalTimes({self._times})"


class ReceivedRanges(MutableMapping[tuple[int, int], Entry]):
    """By (shard, part): the joined ranges of offsets, rows received, and the rows that the shard says there are.

    What is known of a shard is a line of text until somebody asks for it.
    """

    def __init__(self, entries: Mapping[tuple[int, int], Entry] | None = None) -> None:
        self._lines: dict[int, str] = {}
        self._read: dict[int, dict[int, Entry]] = {}  # of the shards that have been asked for
        for (shard, part), entry in (entries or {}).items():
            self._read.setdefault(shard, {})[part] = entry
        self.changed = set(self._read)

    @property
    def shards(self) -> int:
        """How many have been heard of."""
        return len(self._lines) + sum(bool(mine) and shard not in self._lines for shard, mine in self._read.items())

    def line(self, shard: int) -> str:
        """What is known of a shard as text, "" for nothing; equal contents have equal text."""
        if shard in self.changed:
            rows = [[part, *entry] for part, entry in sorted(self._read.pop(shard).items())]
            self.put(shard, json.dumps(rows, separators=(",", ":")) if rows else "")
        return self._lines.get(shard, "")

    def put(self, shard: int, line: str) -> None:
        """Replaces what is known of a shard by what `line` has returned."""
        self._read.pop(shard, None)
        self.changed.discard(shard)
        if line:
            self._lines[shard] = line
        else:
            self._lines.pop(shard, None)

    def forget(self) -> None:
        """Makes text of everything again; `line` has been asked for on each shard that has changed."""
        self._read.clear()

    def _of(self, shard: int) -> dict[int, Entry]:
        mine = self._read.get(shard)
        if mine is None:
            mine = self._read[shard] = _entries(self._lines.get(shard, ""))
        return mine

    def __getitem__(self, key: tuple[int, int]) -> Entry:
        shard, part = key
        return self._of(shard)[part]

    def __setitem__(self, key: tuple[int, int], entry: Entry) -> None:
        shard, part = key
        self._of(shard)[part] = entry
        self.changed.add(shard)

    def __delitem__(self, key: tuple[int, int]) -> None:
        shard, part = key
        del self._of(shard)[part]
        self.changed.add(shard)
        self._lines.pop(shard, None)  # `line` writes what is left, if anything

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for shard in sorted({*self._lines, *self._read}):
            yield from ((shard, part) for part in self._of(shard))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"ReceivedRanges({dict(self)})"


@dataclasses.dataclass
class WindowProgress:
    """What is known about one window.

    Attributes:
      first: when its first report came; after a restart, when that was noticed.
      finals: when each shard had said all, by shard.
      received: by (shard, part): the joined ranges of offsets, rows received, and rows that the shard says there are.
      parts: how many parts there are.
      revision: how often it has been decided.
      decided_at: when it was first.
      armed: when the timer is set for.
      waited: the timer has fired late once and been set again.
      not_before: it is not decided earlier.
      restarted: the timer had been due so long ago that the job must have been restarted.
      kept: reports kept since they were last compacted.
      partial: the first decision was made without some shards.
      late: ranges that came after the decision and were kept for a revision: shard, part, start, stop, rows.
      untold: ranges that came to nothing, while it is not known whose decision stands: outcome, when, and the same.
      noted: how many notes on shards have been written.
    """

    first: float | None = None
    finals: FinalTimes = dataclasses.field(default_factory=FinalTimes)
    received: ReceivedRanges = dataclasses.field(default_factory=ReceivedRanges)
    parts: int = 0
    revision: int = 0
    decided_at: float | None = None
    armed: float | None = None
    waited: bool = False
    not_before: float = 0.0
    restarted: bool = False
    kept: int = 0
    partial: bool = False
    late: list[tuple[int, int, int, int, int]] = dataclasses.field(default_factory=list)
    untold: list[tuple[str, float, int, int, int, int, int]] = dataclasses.field(default_factory=list)
    noted: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.received, ReceivedRanges):
            self.received = ReceivedRanges(self.received)
        if not isinstance(self.finals, FinalTimes):
            self.finals = FinalTimes(self.finals)

    def note_all(self) -> None:
        """Has the next `write` write a note on every shard: those written so far are to be thrown away."""
        self.finals.changed.update(self.finals, (shard for shard, _ in self.received))

    @staticmethod
    def read(head: bytes | None, notes: Callable[[], Iterable[bytes]]) -> WindowProgress:
        """What `write` has been given; nothing is known where there is no head.

        Args:
          notes: all that have been written since they were last thrown away, in any order; not always called.
        """
        if head is None:
            return WindowProgress()
        text, mark = head.decode(), ""
        if not text.startswith("{"):  # as heads of version 0.3 and older do
            mark, _, text = text.partition("\n")
        known = _REMEMBERED.take(mark)
        return _from_text(text, notes() if mark else ()) if known is None else known

    def write(self) -> tuple[bytes, list[bytes]]:
        """The head, which replaces the last one, and the notes to add. Not to be changed any more: who wants to, reads
        it again."""
        notes = []
        for shard in sorted(self.finals.changed | self.received.changed):
            line, final = self.received.line(shard), self.finals.get(shard)
            notes.append(f"{self.noted}:{'' if final is None else final}:{shard}:{line}".encode())
            self.noted += 1
        self.finals.changed.clear()
        self.received.forget()
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["received"], fields["finals"]
        mark = os.urandom(12).hex()
        _REMEMBERED.put(mark, self)
        return f"{mark}\n{json.dumps(fields, separators=(',', ':'))}".encode(), notes


def _from_text(text: str, notes: Iterable[bytes]) -> WindowProgress:
    """From a head without its mark, and notes; the head is all there is if an earlier version wrote it."""
    text, _, lines = text.partition("\n")
    fields: dict[str, Any] = json.loads(text)
    for name in ("late", "untold"):
        fields[name] = [tuple(entry) for entry in fields[name]]
    shards, times = (base64.b64decode(column) for column in fields.pop("finals", ("", "")))
    columns = np.frombuffer(shards, np.int64).tolist(), np.frombuffer(times, np.float64).tolist()
    progress = WindowProgress(finals=FinalTimes(dict(zip(*columns, strict=True))), **fields)
    for line in lines.splitlines():
        number, _, entries = line.partition(":")
        progress.received.put(int(number), entries)
    progress.finals.changed.update(shard for shard, _ in progress.received)
    split = [note.decode().split(":", 3) for note in notes]
    times_of = dict(progress.finals)
    for _, final, number, entries in sorted(split, key=lambda note: int(note[0])):
        progress.received.put(int(number), entries)
        times_of.pop(int(number), None)
        if final:
            times_of[int(number)] = float(final)
    if split:
        progress.finals = FinalTimes(times_of)
        progress.finals.changed.clear()
    return progress


class _Remembered:
    """What this process has written, by mark, the newest of it."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._held: collections.OrderedDict[str, tuple[WindowProgress, int]] = collections.OrderedDict()
        self._shards = 0

    def take(self, mark: str) -> WindowProgress | None:
        with self._lock:
            progress, shards = self._held.pop(mark, (None, 0))
            self._shards -= shards
            return progress

    def put(self, mark: str, progress: WindowProgress) -> None:
        shards = 1 + progress.received.shards + len(progress.late) + len(progress.untold)
        with self._lock:
            self._held[mark] = progress, shards
            self._shards += shards
            while self._shards > self._most:
                _, (_, gone) = self._held.popitem(last=False)
                self._shards -= gone


_REMEMBERED = _Remembered(MOST_REMEMBERED)


def _entries(line: str) -> dict[int, Entry]:
    return {part: (spans, received, total) for part, spans, received, total in json.loads(line)} if line else {}
