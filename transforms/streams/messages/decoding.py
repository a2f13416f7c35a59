"""What every message format shares: what it takes, what it gives, what it refuses. Nothing here knows Kafka."""
import abc
import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from beam_coresets.points.block import LARGEST_NARROW
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.streams.source import Chunk
from beam_coresets.transforms.streams.times import MAX_AHEAD, MAX_BEHIND, refuse

Array = npt.NDArray[Any]

MESSAGE_KEY = "message.key"  # in place of a column's name: the message's own key
ROW_TEXT = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Messages:
    """Consecutive messages of one part.

    Attributes:
      source: the topic, for dead letters.
      place: what stands before "offset 17" in them: "partition 3".
      offsets: (m,) int64, ascending.
      times: (m,) float64 seconds since the epoch, NaN where a message has no timestamp.
      keys: m message keys, or None where there is none.
      values: m message values, or None where there is none.
      part: index of the part.
      start: the offset at which reading began; None: the first message's.
    """

    source: str
    place: str
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    part: int = 0
    start: int | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def offsets_read(self) -> tuple[int, int]:
        """The offsets read, [start, stop)."""
        if not len(self):
            return self.start or 0, self.start or 0
        return int(self.offsets[0]) if self.start is None else self.start, int(self.offsets[-1]) + 1


@dataclasses.dataclass(frozen=True)
class EventTime:
    """Where a message's event time comes from, and how far off it may be.

    A field is compared with the message's own timestamp where there is one: all who read the message, however late,
    take or refuse it alike. The timestamp itself, and a field without one, is compared with the reader's clock.

    Attributes:
      column: a field of row formats: numbers are seconds since the epoch (above 1e11 milliseconds), text is ISO 8601
        (UTC without a zone); None: the message's own timestamp.
      max_ahead, max_behind: seconds after and before that; what is further off would close windows, or reopen them.

    Raises:
      ValueError: negative bounds.
    """

    column: str | None = None
    max_ahead: float = MAX_AHEAD
    max_behind: float = MAX_BEHIND

    def __post_init__(self) -> None:
        for name in ("max_ahead", "max_behind"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must be at least 0 s, got {getattr(self, name)}")

    def refuse(self, times: Array, now: float, stamps: Array | None = None) -> dict[int, str]:
        """Row -> reason, for those of `times` (n,) that can't be taken; `stamps` (n,) are the messages' timestamps."""
        there: Array | float = now
        if stamps is not None:
            there = np.where((stamps > 0) & (stamps < np.inf), stamps, now)
        reasons = refuse(times, there, self.max_ahead, self.max_behind)
        return {i: reasons[i] for i in np.flatnonzero(reasons.astype(bool)).tolist()}


def key_text(key: Any) -> str | None:
    """A key as text: bytes as UTF-8, or else hexadecimal; None for what can't be a key (a float, a list, ...)."""
    if isinstance(key, bytes):
        try:
            return key.decode()
        except UnicodeDecodeError:
            return key.hex()
    if isinstance(key, bool) or not isinstance(key, (str, int, uuid.UUID)):
        return None
    return str(key)


def too_large(row: Array) -> str:
    """Why float32 can't hold a row (d,): squares of larger numbers overflow."""
    return f"too large: must be at most {LARGEST_NARROW:g}, got {float(row[np.abs(row).argmax()]):g}"


class Decoding:
    """Messages on their way to a chunk: which of them, or which rows of them, are refused.

    Attributes:
      messages: all of them.
      clock, now: how event times are judged, and when, in seconds since the epoch.
      keys: (m,) object array of the messages' own keys as text, once `read_keys` was called; else None.
      times: (m,) event times, NaN where none is known or it was refused.
    """

    def __init__(self, messages: Messages, clock: EventTime, now: float) -> None:
        self.messages, self.clock, self.now = messages, clock, now
        self.keys: Array | None = None
        self.times = np.full(len(messages), np.nan)
        self._whole: set[int] = set()
        self._found: list[tuple[int, int, DeadLetter]] = []

    def read_keys(self) -> None:
        """Makes text of the messages' own keys; refuses those without one."""
        keys = np.empty(len(self.messages), object)
        for i, key in enumerate(self.messages.keys):
            keys[i] = key_text(key)
            if keys[i] is None:
                self.refuse_others({i: "null"}, MESSAGE_KEY)
        self.keys = keys

    def refuse(self, i: int, reason: str, column: str = "", text: str | None = None, row: int | None = None) -> None:
        """Refuses message i, or one `row` of it; `text` replaces the message's own bytes as text."""
        if row is None:
            self._whole.add(i)
        if text is None:
            text = (self.messages.values[i] or b"")[: 4 * ROW_TEXT].decode("utf-8", "replace")
        place = f"{self.messages.place} offset {self.messages.offsets[i]}" + ("" if row is None else f" row {row}")
        letter = DeadLetter(reason, column, self.messages.source, place, text[:ROW_TEXT])
        self._found.append((i, row or 0, letter))

    def refuse_others(self, reasons: Mapping[int, str], column: str = "") -> None:
        """Refuses messages by number, those that have not been."""
        for i, reason in reasons.items():
            if i not in self._whole:
                self.refuse(i, reason, column)

    def whole(self) -> Array:
        """Which messages are refused as a whole, (m,) bool."""
        mask = np.zeros(len(self.messages), bool)
        mask[list(self._whole)] = True
        return mask

    def rest(self) -> Array:
        """The other messages, (m,) int64."""
        return np.flatnonzero(~self.whole())

    def values(self, rows: Array) -> list[bytes]:
        """The values of messages (n,) that are not refused."""
        values = self.messages.values
        if len(rows) == len(self.messages) and isinstance(values, list):
            return values
        return [values[i] or b"" for i in rows.tolist()]

    def unframe(self, size: int) -> None:
        """Goes on without the first bytes of all messages."""
        values = [None if value is None else value[size:] for value in self.messages.values]
        self.messages = dataclasses.replace(self.messages, values=values)

    def letters(self) -> tuple[DeadLetter, ...]:
        """In the order of the messages."""
        return tuple(letter for *_, letter in self._in_order())

    def _in_order(self) -> list[tuple[int, int, DeadLetter]]:
        return sorted(self._found, key=lambda found: found[:2])

    def tell_times(self, times: Array, refused: Mapping[int, str], index: Array | None = None) -> None:
        """Notes down event times, of all messages or those of `index`, so far as they are not `refused` by place."""
        times = np.array(times, np.float64)
        times[list(refused)] = np.nan
        self.times[slice(None) if index is None else index] = times

    def chunk(
        self, points: Array, index: Array, counts: Array, times: Array | None = None, keys: Array | None = None,
        **columns: Any,
    ) -> Chunk:
        """The rows of the messages `index` (m,), `counts` (m,) of each, in order; see `Chunk` for the shapes.

        Args:
          times, keys: of the messages `index`; None: the messages' own.
          columns: further ones of `Chunk`.
        """
        messages, (start, stop) = self.messages, self.messages.offsets_read
        times = messages.times[index] if times is None else times
        keys = self.keys[index] if keys is None and self.keys is not None else keys
        refused = np.array([i for i, *_ in self._in_order()], np.int64)
        return Chunk(
            messages.part, start, stop, stop, points, messages.offsets[index], counts, times,
            keys=keys, letters=self.letters(), letter_offsets=messages.offsets[refused],
            letter_times=self.times[refused], **columns,
        )  # fmt: skip


class MessageFormat(abc.ABC):
    """How a message's value is read. Pickled into the pipeline.

    Attributes:
      name: what the command line calls it.
      key_column: whose summary a row belongs to: a column of row formats, or "message.key"; None: one for all.
    """

    name: ClassVar[str]
    key_column: str | None

    def decode(self, messages: Messages, clock: EventTime, now: float) -> Chunk:
        """The good rows of the messages, and a letter for all that is not: whatever they hold, it is no exception.

        Raises:
          ConnectionError: schemas can't be had at the moment: the same messages again, later.
          ValueError: schemas can't be had, and waiting will not help.
        """
        decoding = Decoding(messages, clock, now)
        if None in messages.values:
            for i, value in enumerate(messages.values):
                if value is None:
                    decoding.refuse(i, "null message")
        if self.key_column == MESSAGE_KEY:
            decoding.read_keys()
        if clock.column is None:
            untimely = clock.refuse(messages.times, now)
            decoding.tell_times(messages.times, untimely)
            decoding.refuse_others(untimely)
        return self._chunk(decoding)

    def names(self, time: str | None) -> tuple[str, ...] | None:
        """Names of the coordinates, or of the one column of vectors, where event times are in the column `time`; None
        for messages without columns."""
        return None

    @abc.abstractmethod
    def check_time(self, column: str | None) -> None:
        """Raises ValueError where event times can't be taken from this column."""

    def check_topic(self, topic: str, time: str | None) -> None:  # noqa: B027
        """Raises ValueError where the schema of the topic, at launch, lacks what is read, or the column `time`."""

    @abc.abstractmethod
    def display_data(self) -> Mapping[str, Any]:
        """What may be shown of it."""

    @abc.abstractmethod
    def _chunk(self, decoding: Decoding) -> Chunk:
        """What becomes of the messages that are not refused yet; those in which something is wrong are refused."""
