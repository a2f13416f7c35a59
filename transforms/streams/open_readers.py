"""Readers that stay open from one bundle to the next: a bundle is a second or so, a connection should not be."""
import atexit
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from beam_coresets.streaming.cursor import ShardCursor
from beam_coresets.transforms.streams.clocks import Steps
from beam_coresets.transforms.streams.source import Position, Reader, Source

IDLE_SECONDS = 120.0


@dataclasses.dataclass
class OpenReader:
    """A reader and what is known of it.

    Attributes:
      positions: where it stands; None if that is not known.
      used: when it was last used, in seconds of the process's own clock.
      settled_at: when it was last asked which panes are settled.
      ripe: by part up to where panes were complete at a moment of the process's own clock, that moment first: they are
        closed once all parts of that moment are known.
      steps: notices when the wall clock is set.
    """

    reader: Reader
    positions: Mapping[int, Position] | None = None
    used: float = 0.0
    settled_at: float = 0.0
    ripe: tuple[float, Mapping[int, int | None]] | None = None
    steps: Steps = dataclasses.field(default_factory=lambda: Steps(None))

    def forget(self) -> None:
        """It may have read on from what was claimed."""
        self.positions = self.ripe = None

    def confirmed(self, cursor: ShardCursor, ahead: ShardCursor, moment: float) -> ShardCursor:
        """`ahead` of `cursor` at a moment (`time.monotonic`), with no pane closed of which a part may have rows that is
        not known yet: only those that were complete at a moment of which all parts are known."""
        before = cursor.closed
        if self.ripe is None and ahead.closed != before:
            self.ripe = moment, ahead.closed
        if self.ripe is None or not self.reader.knows_parts(self.ripe[0]):
            return ahead.closed_upto(before)
        if max(self.reader.new_parts(), default=-1) >= cursor.known:
            return ahead.closed_upto(before)  # the answer has come a moment ago, with a part that is to be taken up
        ripe, self.ripe = self.ripe[1], None
        return ahead.closed_upto({part: _later(pane, ripe.get(part)) for part, pane in before.items()})


def _later(one: int | None, other: int | None) -> int | None:
    """The later of two panes; None before the first."""
    return max((pane for pane in (one, other) if pane is not None), default=None)


_OPEN: dict[tuple[str, int], OpenReader] = {}
_LOCK = threading.Lock()


class OpenReaders:
    """The readers of one job in this process; whichever bundle a shard's next poll comes in finds its reader again.

    Args:
      job: a name for the job, unlike all others in this process.
      even: of `Reading`.
    """

    def __init__(self, job: str, source: Source, shards: int, even: Callable[[], float] | None = None) -> None:
        self._job, self._source, self._shards, self._even = job, source, shards, even

    @contextlib.contextmanager
    def at(self, shard: int, positions: Mapping[int, Position]) -> Iterator[OpenReader]:
        """The shard's reader, standing at these positions; closed if reading fails."""
        with _LOCK:
            held = _OPEN.pop((self._job, shard), None)
        if held is None:
            held = OpenReader(self._source.reader(shard, self._shards), steps=Steps(self._even))
        try:
            if held.positions != positions:
                held.reader.seek(positions)
                held.positions = positions
            yield held
        except BaseException:
            held.reader.close()
            raise
        held.used = time.monotonic()
        with _LOCK:
            other = _OPEN.pop((self._job, shard), None)
            _OPEN[self._job, shard] = held
        if other is not None:  # an attempt that was given up had one too
            other.reader.close()

    def close_idle(self) -> None:
        """Closes what no bundle has come back for."""
        now = time.monotonic()
        with _LOCK:
            idle = [key for key, held in _OPEN.items() if now - held.used > IDLE_SECONDS]
            closing = [_OPEN.pop(key) for key in idle]
        for held in closing:
            held.reader.close()


@atexit.register
def close_all() -> None:
    """Closes every reader of this process."""
    with _LOCK:
        closing = list(_OPEN.values())
        _OPEN.clear()
    for held in closing:
        held.reader.close()
