"""A seeded source of any rate, for demos, tests and load: every message is a function of (seed, part, number)."""
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.hashing import derive_seed, generator, hash_integers
from beam_coresets.transforms.streams.source import CHUNK_BYTES, Chunk

Array = npt.NDArray[Any]

POOL = 32
ROWS = 1000  # of a message, where the rate is high enough
_A_SECOND = 4.0  # messages of a part, where it is not
_POOL_BYTES = 8 << 20
MOST_DRIFT = 1e9  # beyond it, points of float32 soon have nothing but their drift
_LEAST_PERIOD = 1e-6  # seconds from one message of a part to the next
_LONGEST_WAIT = 0.05  # the clock may be another than the one that sleeps


def rows_at(rate: float, parts: int) -> int:
    """Points of a message, so that each part has one several times a second: windows have what their time holds."""
    return max(1, int(min(ROWS, rate / max(1, parts) / _A_SECOND)))


@dataclasses.dataclass(frozen=True)
class RateSource:
    """Append-only logs of points from one Gaussian mixture, as if they had been written at a steady rate since `t0`.

    Message i of a part holds `rows` points and has the event time t0 + i * rows / (rate of the part), at which it also
    comes into being: a reader that is behind finds a backlog and gets it as fast as it can take it. A part's points
    are drawn once, for up to 32 messages (or 16,000 points), and come again in turns; `drift` moves each turn on. The
    same fields give the same messages, whoever reads them and how often.

    Attributes:
      rate: points a second over all parts that are not idle.
      parts: logs.
      dim: coordinates of a point.
      clusters: of the mixture, whose centers are `mixture.centers` at t0.
      rows: points of a message.
      seed: of everything drawn.
      t0: event time of each part's first message; by default the launch time in whole seconds.
      stop: messages a part, or None for no end. With it too the source is unbounded to Beam: its messages still come
        by the clock.
      keys: how many keys the messages carry ("key-0", ...), drawn evenly; none if 0.
      drift: distance that all clusters move a second, in a seeded direction.
      idle_parts: parts that never get a message.
      clock: gives seconds since the epoch.

    Raises:
      ValueError: a field out of range.
    """

    rate: float = 100_000.0
    parts: int = 8
    dim: int = 8
    clusters: int = 20
    rows: int = ROWS
    seed: int = 0
    t0: float | None = None
    stop: int | None = None
    keys: int = 0
    drift: float = 0.0
    idle_parts: tuple[int, ...] = ()
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate: must be positive, got {self.rate}")
        for name in ("parts", "dim", "clusters", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.stop is not None and self.stop < 0:
            raise ValueError(f"stop: must not be negative, got {self.stop}")
        if self.keys < 0:
            raise ValueError(f"keys: must not be negative, got {self.keys}")
        if not abs(self.drift) <= MOST_DRIFT:
            raise ValueError(f"drift: must be at most {MOST_DRIFT:g} either way, got {self.drift}")
        if any(not 0 <= part < self.parts for part in self.idle_parts) or self.active < 1:
            raise ValueError(f"idle_parts: must be some of 0 to {self.parts - 1}, got {self.idle_parts}")
        if self.period < _LEAST_PERIOD:  # event times could not tell messages apart
            most = self.rows * self.active / _LEAST_PERIOD
            raise ValueError(f"rate: must be at most {most:g} with {self.active} parts, got {self.rate:g}")
        if self.t0 is None:  # settled here, before workers get copies
            object.__setattr__(self, "t0", float(math.floor(self.clock())))

    @property
    def bounded(self) -> bool:
        return False

    @property
    def active(self) -> int:
        """Parts that are not idle."""
        return self.parts - len(set(self.idle_parts))

    @property
    def period(self) -> float:
        """Seconds from one message of a part to the next."""
        return self.rows * self.active / self.rate

    @property
    def mixture(self) -> GaussianMixture:
        """What the points are drawn from."""
        return GaussianMixture(seed=self.seed, d=self.dim, k=self.clusters)

    @property
    def direction(self) -> Array:
        """(dim,) the unit vector along which clusters move."""
        drawn = generator(self.seed, "RateSource", "drift").standard_normal(self.dim)
        unit: Array = drawn / np.linalg.norm(drawn)
        return unit

    def times(self, numbers: Any) -> Any:
        """(m,) seconds: the event times of messages by number."""
        return (self.t0 or 0.0) + numbers * self.period

    def due(self, part: int, now: float) -> int:
        """Messages of a part that have come into being at `now`."""
        if part in self.idle_parts:
            return 0
        count = max(0, math.floor((now - (self.t0 or 0.0)) / self.period) + 1)
        while count and self.times(count - 1) > now:  # the quotient is rounded, event times decide
            count -= 1
        while self.times(count) <= now:
            count += 1
        return count if self.stop is None else min(count, self.stop)

    def starts(self) -> Mapping[int, int]:
        return dict.fromkeys(range(self.parts), 0)

    def since(self, starts: Mapping[int, int], now: float) -> Mapping[int, float]:
        return {}

    def part_name(self, part: int) -> str:
        return f"rate-{part}"

    def reader(self, shard: int, shards: int) -> "RateReader":
        return RateReader(self)

    def display_data(self) -> Mapping[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "clock"}
        return {name: str(value) if isinstance(value, tuple) else value for name, value in fields.items()}


class RateReader:
    """Reads parts of a RateSource; a position is the number of the next message."""

    def __init__(self, source: RateSource) -> None:
        self._source = source
        self._positions: dict[int, int] = {}
        self._seen: dict[int, int] = {}  # what was due at the last look
        self._pools: dict[int, Array] = {}
        self._names = np.array([f"key-{j}" for j in range(source.keys)], object)
        self._velocity = source.direction * source.drift

    def seek(self, positions: Mapping[int, int]) -> None:
        for part, position in positions.items():
            if not 0 <= part < self._source.parts:
                raise ValueError(f"part: must be one of 0 to {self._source.parts - 1}, got {part}")
            if position < 0:
                raise ValueError(f"position: must not be negative, got {position}")
        self._positions = dict(positions)
        self._seen = {}
        self._pools = {part: pool for part, pool in self._pools.items() if part in positions}

    def read(self, seconds: float) -> list[Chunk]:
        until = time.monotonic() + seconds
        while True:
            due = self._due()
            left = until - time.monotonic()
            if due or left <= 0 or not self._positions:
                break
            time.sleep(min(left, _LONGEST_WAIT))
        size = self._source.rows * self._source.dim * 4
        share = max(1, CHUNK_BYTES // (size * max(1, len(due))))
        chunks = []
        for part, stop in due.items():
            start = self._positions[part]
            chunks.append(self._chunk(part, start, min(stop, start + share)))
            self._positions[part] = chunks[-1].position
        return chunks

    def _due(self) -> dict[int, int]:
        """The parts that have something new, and up to where."""
        now = self._source.clock()
        self._seen = {part: self._source.due(part, now) for part in self._positions}
        return {part: stop for part, stop in self._seen.items() if stop > self._positions[part]}

    def _pool(self, part: int) -> Array:
        """(p, rows, dim) float32: the points of messages 0 to p - 1, which all others repeat."""
        if part not in self._pools:
            source, mixture = self._source, self._source.mixture
            together = max(1, ROWS // (2 * source.rows))  # messages
            count = int(np.clip(_POOL_BYTES // (together * source.rows * source.dim * 4), 2, POOL))
            blocks = [mixture.block(part * POOL + j, together * source.rows) for j in range(count)]
            self._pools[part] = np.stack(blocks).reshape(-1, source.rows, source.dim)
        return self._pools[part]

    def _chunk(self, part: int, start: int, stop: int) -> Chunk:
        source, pool = self._source, self._pool(part)
        numbers = np.arange(start, stop, dtype=np.int64)
        points = pool[numbers % len(pool)]
        times = source.times(numbers)
        if source.drift:
            moved = (times - (source.t0 or 0.0))[:, None] * self._velocity
            points += moved.astype(np.float32)[:, None, :]
        return Chunk(
            part, start, stop, stop, points.reshape(-1, source.dim), numbers,
            np.full(len(numbers), source.rows, np.int64), times, keys=self._keys(part, numbers),
        )  # fmt: skip

    def _keys(self, part: int, numbers: Array) -> Array | None:
        if not len(self._names):
            return None
        salt = derive_seed(self._source.seed, "RateSource", "keys", part)
        drawn = hash_integers(numbers, salt) % np.uint64(len(self._names))
        names: Array = self._names[drawn.astype(np.int64)]
        return names

    def caught_up(self, part: int) -> bool:
        return part in self._seen and self._positions[part] >= self._seen[part]

    def drained(self, part: int) -> bool:
        return self.caught_up(part)

    def knows_parts(self, since: float) -> bool:
        return True

    def age(self, part: int) -> float:
        return 0.0

    def ended(self, part: int) -> bool:
        stop = self._source.stop
        return stop is not None and (part in self._source.idle_parts or self._positions[part] >= stop)

    def new_parts(self) -> Mapping[int, int]:
        return {}

    def commit(self, positions: Mapping[int, int]) -> None:
        pass

    def close(self) -> None:
        self._pools = {}
