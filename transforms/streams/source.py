"""What `ReadShards` reads from: a source of parts (Kafka partitions, file ranges), each an append-only sequence of
messages, and a reader for the parts that one shard holds."""
import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from beam_coresets.transforms.base.dead_letter import DeadLetter

Array = npt.NDArray[Any]
Position = Any  # where to read on in a part, as a JSON value; the next offset, for most sources

CHUNK_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive messages of one part, decoded; a message holds any number of rows.

    Attributes:
      part: index of the part.
      start, stop: the offsets read, [start, stop), those of messages without a good row included.
      position: where to read on after it.
      points: (n, d) float32 or float64, all rows of all messages, in order.
      offsets: (m,) int64, the offset of each message that has rows.
      counts: (m,) int64, its number of rows; they add up to n.
      times: (m,) float64, its event time in seconds since the epoch.
      weights: (n,) float64, or None: all rows weigh one.
      keys: (m,) object array of str: whose summary the rows belong to; or None.
      ids: (n,) uint64 hashes of the user's id column, or None: rows are known by part, offset and number.
      groups: (n,) int32 or None.
      extras: pyarrow Table of n rows (the user's id, label and kept columns), or None.
      letters: what was refused, in the order of the part.
      letter_offsets: (k,) int64, where each letter stood; None: where they stood is not told.
      letter_times: (k,) float64, its event time where one could be read, else NaN; None: none could.
    """

    part: int
    start: int
    stop: int
    position: Position
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
    letter_offsets: npt.NDArray[np.int64] | None = None
    letter_times: npt.NDArray[np.float64] | None = None

    def times_of_letters(self, high: float) -> npt.NDArray[np.float64]:
        """Event times, (k,), by which letters get their windows: their own, or that of what had been read before them.

        However the part is cut into chunks, a letter gets the same.

        Args:
          high: the latest event time of the part before this chunk; -inf if there was none, which is then passed on.
        """
        k = len(self.letters)
        times = np.full(k, np.nan) if self.letter_times is None else self.letter_times
        at = np.full(k, self.start) if self.letter_offsets is None else self.letter_offsets
        latest = np.maximum.accumulate(np.append(high, self.times))
        return np.where(np.isnan(times), latest[np.searchsorted(self.offsets, at)], times)

    def __post_init__(self) -> None:
        n, m, k = len(self.points), len(self.offsets), len(self.letters)
        for names, size in (
            (("weights", "ids", "groups", "extras"), n),
            (("counts", "times", "keys"), m),
            (("letter_offsets", "letter_times"), k),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and len(value) != size:
                    what = f"{n} rows in {m} messages, {k} letters"
                    raise ValueError(f"{name}: must be {size} for {what}, got {len(value)}")


def names_of(source: Any) -> tuple[str, ...] | None:
    """Names of a source's coordinates, or of its vector column: its attribute `names`, if it has such and knows."""
    names: tuple[str, ...] | None = getattr(source, "names", None)
    return names


def lineage_of(source: Any) -> tuple[str, ...]:
    """The parts of a source's name in Beam's `Lineage`: its attribute `lineage`, if it has such. Sources of files have
    none: they tell of each file as they open it."""
    return tuple(getattr(source, "lineage", ()))


def notes_of(source: Any) -> tuple[str, ...]:
    """What a source leaves out or settles by itself, in words: its attribute `notes`, if it has such."""
    return tuple(getattr(source, "notes", ()))


class Reader(Protocol):
    """Reads the parts that one shard holds. Used by one thread at a time."""

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes to these positions of these parts; reads no others from now on."""

    def read(self, seconds: float) -> list[Chunk]:
        """What is there, at most about `CHUNK_BYTES`; waits up to `seconds` for anything. At most one chunk a part.

        No part starves another: one that has much, or that can't be reached, leaves the others their turn.

        Raises:
          ValueError: what can't be repaired by waiting: an offset out of range, an unknown part, access denied.
        """

    def caught_up(self, part: int) -> bool:
        """Whether everything that was in the part a moment ago has been returned by `read`."""

    def drained(self, part: int) -> bool:
        """Whether everything that can be read by now has been; more may be there that can't be yet."""

    def age(self, part: int) -> float:
        """How many seconds ago `caught_up` was found out: whatever the source has got since is not known of."""

    def ended(self, part: int) -> bool:
        """Whether nothing will ever come in this part again."""

    def new_parts(self) -> Mapping[int, Position]:
        """Parts of the source that have come into being since the reader was made, with their first positions; asks the
        source only every so often. The shard may not hold them."""

    def knows_parts(self, since: float) -> bool:
        """Whether all parts that there were at a moment of `time.monotonic` are known, by `new_parts` at the latest; if
        not, the source is being asked."""

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Notes down with the source that everything before these positions is done with; for sources that can."""

    def close(self) -> None:
        """Gives back connections and buffers."""


class Source(Protocol):
    """A description of what is read, pickled into the pipeline; nothing is opened before `starts` and `reader`."""

    @property
    def bounded(self) -> bool:
        """Whether the parts end."""

    def starts(self) -> Mapping[int, Position]:
        """All parts by index, 0 to n - 1, and where reading begins in each. Called once, where the job is launched.

        Raises:
          ValueError: what can't work, such as an unknown topic.
        """

    def since(self, starts: Mapping[int, Position], now: float) -> Mapping[int, float]:
        """Of the parts of which something may come before the `starts`, as these were found at `now`: the event time,
        in seconds since the epoch, from which on all of it comes after them."""

    def part_name(self, part: int) -> str:
        """A part's name for people: in printed ids, in late reports, in messages."""

    def reader(self, shard: int, shards: int) -> Reader:
        """A reader for one of `shards` shards."""

    def display_data(self) -> Mapping[str, Any]:
        """What may be shown of it: never passwords or keys."""
