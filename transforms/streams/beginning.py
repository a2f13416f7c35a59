"""When a stream begins: panes from there on are waited for in every part, also in those that begin later."""
import time
from collections.abc import Mapping

from beam_coresets.transforms.streams.source import Position, Source

PATIENCE = 10.0  # seconds


def beginning(source: Source, starts: Mapping[int, Position], patience: float = PATIENCE) -> float | None:
    """The event time, in seconds since the epoch, of the earliest of the first messages of all parts.

    Reads the beginning of each part once, where the job is launched; what it has not seen after `patience` seconds, it
    does without. None if nothing is there yet.
    """
    reader = source.reader(0, 1)
    first: dict[int, float] = {}
    try:
        reader.seek(starts)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            for chunk in reader.read(0.2):
                if len(chunk.times):
                    first.setdefault(chunk.part, float(chunk.times.min()))
            if all(part in first or reader.caught_up(part) for part in starts):
                break
    finally:
        reader.close()
    return min(first.values(), default=None)
