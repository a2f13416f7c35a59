"""What every message format shares: what it takes, what it gives, what it refuses. Nothing here knows Kafka."""
import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from beam_coresets.points.block import LARGEST_NARROW
from beam_coresets.transforms.base.dead_letter import DeadLetter
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
    """

    source: str
    place: str
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offsets)


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
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        return None
    return str(key)


def too_large(row: Array) -> str:
    """Why float32 can't hold a row (d,): squares of larger numbers overflow."""
    return f"too large: must be at most {LARGEST_NARROW:g}, got {float(row[np.abs(row).argmax()]):g}"


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """The rows of some messages, in order; see `source.Chunk` for the shapes."""

    points: Array
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    weights: Array | None = None
    keys: Array | None = None
    ids: Array | None = None
    groups: Array | None = None
    extras: Any = None
    letters: tuple[DeadLetter, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What a format makes of messages: rows of the messages `index` (m,), `counts` (m,) of each.

    `times` and `keys` are of the messages, and None where the message itself tells them.
    """

    points: Array
    index: Array
    counts: Array
    weights: Array | None = None
    ids: Array | None = None
    groups: Array | None = None
    extras: Any = None
    times: Array | None = None
    keys: Array | None = None


class Refused:
    """Collects the messages, or rows of them, that are refused."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._whole: set[int] = set()
        self._found: list[tuple[int, int, DeadLetter]] = []

    def add(self, i: int, reason: str, column: str = "", text: str | None = None, row: int | None = None) -> None:
        """Refuses message i, or one `row` of it; `text` replaces the message's own bytes as text."""
        if row is None:
            self._whole.add(i)
        if text is None:
            text = (self._messages.values[i] or b"")[: 4 * ROW_TEXT].decode("utf-8", "replace")
        place = f"{self._messages.place} offset {self._messages.offsets[i]}" + ("" if row is None else f" row {row}")
        letter = DeadLetter(reason, column, self._messages.source, place, text[:ROW_TEXT])
        self._found.append((i, row or 0, letter))

    def __contains__(self, i: int) -> bool:
        return i in self._whole

    def whole(self) -> Array:
        """Which messages are refused as a whole, (m,) bool."""
        mask = np.zeros(len(self._messages), bool)
        mask[list(self._whole)] = True
        return mask

    def rest(self) -> Array:
        """The other messages, (m,) int64."""
        return np.flatnonzero(~self.whole())

    def letters(self) -> tuple[DeadLetter, ...]:
        """In the order of the messages."""
        return tuple(letter for *_, letter in sorted(self._found, key=lambda found: found[:2]))


class MessageFormat(abc.ABC):
    """How a message's value is read. Pickled into the pipeline.

    Attributes:
      name: what the command line calls it.
      key_column: whose summary a row belongs to: a column of row formats, or "message.key"; None: one for all.
    """

    name: ClassVar[str]
    key_column: str | None

    def decode(self, messages: Messages, clock: EventTime, now: float) -> Decoded:
        """The good rows of the messages, and a letter for all that is not: whatever they hold, it is no exception.

        Raises:
          ConnectionError: schemas can't be had at the moment: the same messages again, later.
          ValueError: schemas can't be had, and waiting will not help.
        """
        refused = Refused(messages)
        if None in messages.values:
            for i, value in enumerate(messages.values):
                if value is None:
                    refused.add(i, "null message")
        keys = self._message_keys(messages, refused)
        if clock.column is None:
            self._refuse(clock.refuse(messages.times, now), refused)
        rows = self._rows(messages, refused.rest(), refused, clock, now)
        if rows.keys is not None:
            keys = rows.keys
        elif keys is not None:
            keys = keys[rows.index]
        return Decoded(
            rows.points,
            messages.offsets[rows.index],
            rows.counts,
            messages.times[rows.index] if rows.times is None else rows.times,
            rows.weights,
            keys,
            rows.ids,
            rows.groups,
            rows.extras,
            refused.letters(),
        )

    @abc.abstractmethod
    def check_time(self, column: str | None) -> None:
        """Raises ValueError where event times can't be taken from this column."""

    @abc.abstractmethod
    def display_data(self) -> Mapping[str, Any]:
        """What may be shown of it."""

    @abc.abstractmethod
    def _rows(self, messages: Messages, good: Array, refused: Refused, clock: EventTime, now: float) -> Rows:
        """The rows of the messages `good`; what is wrong with others of them goes to `refused`."""

    def _message_keys(self, messages: Messages, refused: Refused) -> Array | None:
        if self.key_column != MESSAGE_KEY:
            return None
        keys = np.empty(len(messages), object)
        for i, key in enumerate(messages.keys):
            keys[i] = key_text(key)
            if keys[i] is None:
                self._refuse({i: "null"}, refused, MESSAGE_KEY)
        return keys

    @staticmethod
    def _refuse(reasons: Mapping[int, str], refused: Refused, column: str = "") -> None:
        for i, reason in reasons.items():
            if i not in refused:
                refused.add(i, reason, column)
