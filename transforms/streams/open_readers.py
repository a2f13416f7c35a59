"""Readers that stay open from one bundle to the next: a bundle is a second or so, a connection should not be."""
import atexit
import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping

from beam_coresets.transforms.streams.source import Position, Reader, Source

IDLE_SECONDS = 120.0


@dataclasses.dataclass
class OpenReader:
    """A reader and what is known of it.

    Attributes:
      positions: where it stands; None if that is not known.
      used: when it was last used, in seconds of the process's own clock.
      settled_at: when it was last asked which panes are settled.
    """

    reader: Reader
    positions: Mapping[int, Position] | None = None
    used: float = 0.0
    settled_at: float = 0.0

    def forget(self) -> None:
        """It may have read on from what was claimed."""
        self.positions = None


_OPEN: dict[tuple[str, int], OpenReader] = {}
_LOCK = threading.Lock()


class OpenReaders:
    """The readers of one job in this process; whichever bundle a shard's next poll comes in finds its reader again.

    Args:
      job: a name for the job, unlike all others in this process.
    """

    def __init__(self, job: str, source: Source, shards: int) -> None:
        self._job, self._source, self._shards = job, source, shards

    @contextlib.contextmanager
    def at(self, shard: int, positions: Mapping[int, Position]) -> Iterator[OpenReader]:
        """The shard's reader, standing at these positions; closed if reading fails."""
        with _LOCK:
            held = _OPEN.pop((self._job, shard), None)
        if held is None:
            held = OpenReader(self._source.reader(shard, self._shards))
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
