"""The restriction of a shard's reader: its cursor, and what a runner may do with it."""
import dataclasses
import math
import time
from collections.abc import Callable, Sequence

from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker

from beam_coresets.streaming.cursor import Completeness, ShardCursor
from beam_coresets.streaming.placement import MAX_PARALLELISM
from beam_coresets.transforms.base.dead_letter import DeadLetter

SETTLE_SECONDS = 1.0
Clock = Callable[[], float]
Settled = Callable[[float, float], bool]
Letters = Callable[[Sequence[tuple[DeadLetter, tuple[float, float] | None]]], object]  # with the bounds of its pane


@dataclasses.dataclass(frozen=True)
class ShardRestriction:
    """A shard's cursor, and whether somebody else goes on from it."""

    cursor: ShardCursor
    stopped: bool = False


class ShardRestrictionCoder(Coder):
    """JSON of the cursor behind a flag."""

    def encode(self, value: ShardRestriction) -> bytes:
        return (b"1" if value.stopped else b"0") + value.cursor.to_json().encode()

    def decode(self, encoded: bytes) -> ShardRestriction:
        return ShardRestriction(ShardCursor.from_json(encoded[1:].decode()), encoded[:1] == b"1")

    def is_deterministic(self) -> bool:
        return True


class CursorTracker(RestrictionTracker):
    """Claims whole cursors: each the one that reading some more makes of the last.

    It splits off what is left, never a fraction of it: offsets have no known end, and a reader at a made-up one would
    start in the middle of nowhere. What has been claimed is reported by whoever claimed it, so the rest starts from a
    cursor with nothing left to tell.
    """

    def __init__(self, restriction: ShardRestriction, bounded: bool) -> None:
        self._cursor, self._stopped, self._bounded = restriction.cursor, restriction.stopped, bounded

    def current_restriction(self) -> ShardRestriction:
        return ShardRestriction(self._cursor, self._stopped)

    def try_claim(self, position: ShardCursor) -> bool:
        if self._stopped:
            return False
        self._cursor = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[ShardRestriction, ShardRestriction] | None:
        if self._stopped or fraction_of_remainder != 0:
            return None
        self._stopped = True
        return self.current_restriction(), ShardRestriction(self._cursor.reported())

    def check_done(self) -> bool:
        return True

    def current_progress(self) -> RestrictionProgress:
        done = float(sum(cursor.offset for cursor in self._cursor.parts.values()))
        return _Progress(completed=done, remaining=0.0 if self._stopped else 1.0)

    def is_bounded(self) -> bool:
        return self._bounded


class _Progress(RestrictionProgress):
    """Counts offsets. Beam would put bytes written in their place, NaN before it has measured one, and a request to
    split would end the job."""

    def with_completed(self, completed: int) -> RestrictionProgress:
        return self


@dataclasses.dataclass(frozen=True)
class Reading:
    """How shards read.

    Attributes:
      completeness: when panes are complete; None for a bounded source that is summarized as a whole.
      poll: seconds for which a shard reads before it hands over to the runner; less where a pane becomes complete.
      groups: into how many groups keys are divided, each decided by itself.
      deadline: for bounded sources: a shard stops so many seconds after it has begun and reports the parts it has
        finished; None: never.
      part_by_part: for bounded sources: reports leave when a part has been read, or after `poll` seconds, as those of a
        stream do, and not only when the shard is done.
      hold: fault injection: (shard, from, until), in seconds since the epoch: the shard is stuck in between.
      hold_after_first: the same: (shard, after, length), stuck for so long from so many seconds after `first` on.
      first: when the first window was decided in time since the launch, in seconds since the epoch; None as long as
        none is.
      parallelism: over how many workers the shards are placed; the number of shards by default.
      max_parallelism: of the runner: the placement depends on it (`placement`).
      settled: says whether all windows of a pane (start, end) are decided for good: only then the source is told that
        its messages are done with. By default a pane counts as settled once it was reported.
      letters: writes what is refused (`StreamLetters.write`), before its neighbours are reported; None: nowhere.
      clock: seconds since the epoch.
      even: seconds of a clock that never jumps, by which it waits and notices that `clock` was set; None: `clock`.

    Raises:
      ValueError: poll is not positive, groups less than one, or a deadline is given for an unbounded source.
    """

    completeness: Completeness | None = None
    poll: float = 5.0
    groups: int = 1
    deadline: float | None = None
    part_by_part: bool = False
    hold: tuple[tuple[int, float, float], ...] = ()
    hold_after_first: tuple[tuple[int, float, float], ...] = ()
    first: Callable[[], float | None] | None = None
    parallelism: int | None = None
    max_parallelism: int = MAX_PARALLELISM
    settled: Settled | None = None
    letters: Letters | None = None
    clock: Clock = time.time
    even: Clock | None = None

    def __post_init__(self) -> None:
        if not 0 < self.poll < math.inf:
            raise ValueError(f"poll: must be positive, got {self.poll}")
        if self.groups < 1:
            raise ValueError(f"groups: must be at least 1, got {self.groups}")
        if self.deadline is not None and self.completeness is not None:
            raise ValueError(f"deadline: must be left to the coordinator where there are windows, got {self.deadline}")

    def held(self, shard: int) -> bool:
        """Whether a shard is stuck now, by what was injected."""
        now, spans = self.clock(), [(low, high) for of, low, high in self.hold if of == shard]
        later = [(after, length) for of, after, length in self.hold_after_first if of == shard]
        first = self.first() if later and self.first is not None else None
        if first is not None:
            spans += [(first + after, first + after + length) for after, length in later]
        return any(low <= now < high for low, high in spans)
