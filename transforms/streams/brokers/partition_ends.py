"""Where partitions end, as far as it is known: so which of them are read to their end, and which were cut short.

Pure: moments come in as seconds of a clock that never jumps. Kafka's consumer shows the *last stable offset* as the end
of a partition. While a transaction is open that stands still, and the messages behind it have been written all the
same; so a partition is read to its end only when reading has come to the end that counts these, too.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

ASK_SECONDS = 0.5  # between questions where an idle partition ends
STALE_SECONDS = 3.0  # an end that was seen longer ago proves nothing
SETTLE_SECONDS = 10.0  # the most that producers get after an outage to bring what they have kept back
_CUTS = 2  # answers that name an end before what was read: one might come from a leader that knows less


@dataclasses.dataclass
class _End:
    """Where reading has come to an end.

    Attributes:
      offset: the next offset to read. since: when reading got there.
      seen: when it was last known that nothing had been written at or behind it; never, at first.
      blocked: since when messages are known that can't be read, by an open transaction or being on their way.
      cut: how many answers in a row named an end before it, and the last of these ends.
    """

    offset: int
    since: float
    seen: float = -math.inf
    blocked: float | None = None
    cut: int = 0
    left: int = 0


class PartitionEnds:
    """What is known of the ends of some partitions."""

    def __init__(self) -> None:
        self._ends: dict[int, _End] = {}
        self._heard: dict[int, float] = {}  # when anything was last known of a partition
        self._asked: dict[int, float] = {}
        self._settling: dict[int, float] = {}  # partitions that are back from an outage, until when

    def begin(self, parts: Iterable[int], now: float) -> None:
        """Reading begins in these, and in no others."""
        self.__init__()  # type: ignore[misc]
        self._heard = dict.fromkeys(parts, now)

    def read(self, part: int, now: float) -> None:
        """Messages have come."""
        self._ends.pop(part, None)
        self._hear(part, now)

    def passed(self, part: int, offset: int) -> None:
        """A message of this offset has come; an end before it is none."""
        end = self._ends.get(part)
        if end is not None and offset >= end.offset:
            del self._ends[part]

    def forget(self, part: int) -> None:
        """It is not known any more where it ends."""
        self._ends.pop(part, None)

    def reached(self, part: int, offset: int, written: int, now: float) -> None:
        """There is nothing to read at `offset`; the end of all that is written there was `written` or later."""
        self._ends[part] = _End(offset, now, now if written == offset else -math.inf)
        self._hear(part, now)

    def due(self, now: float) -> list[int]:
        """The partitions of which to ask now where all that is written ends; asked of again in a while."""
        found = [
            part for part, end in self._ends.items()
            if now - max(end.seen, self._asked.get(part, -math.inf)) >= ASK_SECONDS
        ]  # fmt: skip
        self._asked |= dict.fromkeys(found, now)
        return found

    def answered(self, part: int, written: int, asked: float, now: float) -> None:
        """All that was written ended at `written`, by an answer to a question of the moment `asked`."""
        self._hear(part, now)
        end = self._ends.get(part)
        if end is None:
            return
        if written == end.offset:
            end.seen, end.blocked, end.cut = max(end.seen, asked), None, 0
        elif written > end.offset:
            end.blocked, end.cut = now if end.blocked is None else end.blocked, 0
        elif asked > end.since:  # an earlier answer may not know yet what was read since
            end.cut, end.left = end.cut + 1, written

    def drained(self, part: int, now: float) -> bool:
        """Whether all was read that can be, with or without more behind it."""
        return part in self._ends and not self._is_settling(part, now) and now - self._heard[part] < STALE_SECONDS

    def caught_up(self, part: int, now: float) -> bool:
        """Whether all that was written a moment ago has been read."""
        end = self._ends.get(part)
        return end is not None and now - end.seen < STALE_SECONDS and not self._is_settling(part, now)

    def age(self, part: int, now: float) -> float:
        """How long ago `caught_up` was found out; 0 if it is not known."""
        end = self._ends.get(part)
        return 0.0 if end is None or math.isinf(end.seen) else now - end.seen

    def heard(self) -> float:
        """When the broker has last told anything of any of them; never, of none."""
        return max(self._heard.values(), default=-math.inf)

    def blocked(self, now: float) -> dict[int, tuple[float, int]]:
        """Partitions with messages that can't be read: for how many seconds by now, and from which offset on."""
        return {part: (now - e.blocked, e.offset) for part, e in self._ends.items() if e.blocked is not None}

    def cut(self) -> tuple[int, int] | None:
        """A partition that has lost what was read of it, and where it ends now."""
        return next(((part, end.left) for part, end in self._ends.items() if end.cut >= _CUTS), None)

    def _hear(self, part: int, now: float) -> None:
        """Notes that the broker has told something of a partition; if that was away, its producers were, too."""
        away = now - self._heard.get(part, now)
        if away >= STALE_SECONDS:
            self._settling[part] = now + min(away, SETTLE_SECONDS)
        self._heard[part] = now

    def _is_settling(self, part: int, now: float) -> bool:
        return now < self._settling.get(part, -math.inf)
