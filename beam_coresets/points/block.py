"""PointBlock: the element of every pipeline, some ten thousand points at once."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets import codec

MAX_BLOCK_ROWS = 65_536
MAX_BLOCK_BYTES = 16 << 20
LEAST_NARROW, LARGEST_NARROW = 1e-15, 1e17  # squares of larger numbers overflow float32, of smaller ones vanish

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, order=True)
class Span:
    """Where a block was read: the `ordinal`-th block of `part`; `last` says that the part ends with it.

    Summaries merge along a tree over (part, ordinal), so results do not depend on who read a part, or when.
    """

    part: int
    ordinal: int
    last: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class PointBlock:
    """Weighted points with their identities.

    Attributes:
      points: (n, d) float32 or float64, C-contiguous, finite.
      weights: (n,) float64, non-negative.
      ids: (n,) uint64, a stable hash of the row's identity.
      span: where the rows were read.
      groups: (n,) int32 labels, or None.
      extras: a pyarrow Table of n rows with the columns that travel with sampled points (the user's `id`, `group`
        and kept columns), or None.
    """

    points: Array
    weights: Array
    ids: Array
    span: Span
    groups: Array | None = None
    extras: Any = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.points.ndim != 2 or self.points.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"points: must be 2-d float32 or float64, got {self.points.ndim}-d {self.points.dtype}"
            )
        for name, dtype in (("weights", np.float64), ("ids", np.uint64)):
            value = getattr(self, name)
            if value.dtype != dtype or value.ndim != 1:
                raise TypeError(f"{name}: must be 1-d {np.dtype(dtype)}, got {value.ndim}-d {value.dtype}")
        for name in ("points", "weights", "groups", "extras"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise ValueError(f"{name}: must have {n} rows like ids, got {len(value)}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Coordinates of a point."""
        return int(self.points.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The coordinates' type."""
        return self.points.dtype

    def take(self, rows: Array) -> PointBlock:
        """The block of the given row indices, with the same span."""
        return PointBlock(
            self.points[rows],
            self.weights[rows],
            self.ids[rows],
            self.span,
            None if self.groups is None else self.groups[rows],
            None if self.extras is None else self.extras.take(rows),
        )

    def to_bytes(self) -> bytes:
        """The whole block, for `from_bytes`."""
        span = [self.span.part, self.span.ordinal, self.span.last]
        arrays = {
            "points": self.points,
            "weights": self.weights,
            "ids": self.ids,
            "groups": self.groups,
            "extras": codec.table_to_bytes(self.extras),
        }
        return codec.pack("PointBlock", {"span": span}, arrays)

    @staticmethod
    @codec.decoder("PointBlock")
    def from_bytes(data: bytes) -> PointBlock:
        """The block that `to_bytes` was given."""
        fields, arrays = codec.unpack(data, "PointBlock")
        points, weights, ids = arrays["points"], arrays["weights"], arrays["ids"]
        assert points is not None
        assert weights is not None
        assert ids is not None
        extras = codec.table_from_bytes(arrays["extras"])
        return PointBlock(points, weights, ids, Span(*fields["span"]), arrays["groups"], extras)


class BlockRows(PointBlock):
    """Some rows of another block, in place of a copy of them: arrays are gathered when they are looked at.

    It keeps the whole other block alive. Encoded, it is the block of its rows alone.

    Attributes:
      source: the other block.
      rows: (n,) int64 row numbers in it.
    """

    source: PointBlock
    rows: npt.NDArray[np.int64]

    def __init__(self, source: PointBlock, rows: npt.NDArray[np.int64]) -> None:
        self.__dict__.update(source=source, rows=rows, span=source.span)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """As the source's."""
        return self.source.dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """As the source's."""
        return self.source.dtype

    @property
    def points(self) -> Array:  # type: ignore[override]
        """The source's, of the rows that were taken: gathered anew each time."""
        return self.source.points[self.rows]

    @property
    def weights(self) -> Array:  # type: ignore[override]
        """The source's, of the rows that were taken: gathered anew each time."""
        return self.source.weights[self.rows]

    @property
    def ids(self) -> Array:  # type: ignore[override]
        """The source's, of the rows that were taken: gathered anew each time."""
        return self.source.ids[self.rows]

    @property
    def groups(self) -> Array | None:  # type: ignore[override]
        """The source's, of the rows that were taken: gathered anew each time."""
        return None if self.source.groups is None else self.source.groups[self.rows]

    @property
    def extras(self) -> Any:  # type: ignore[override]
        """The source's, of the rows that were taken: gathered anew each time."""
        return None if self.source.extras is None else self.source.extras.combine_chunks().take(self.rows)


def block_rows(dim: int, itemsize: int = 4) -> int:
    """How many rows of `dim` coordinates make one block: capped by rows and by bytes."""
    return max(256, min(MAX_BLOCK_ROWS, MAX_BLOCK_BYTES // max(1, dim * itemsize)))


def blocks_of(
    points: Array, weights: Array | None = None, part: int = 0, rows: int | None = None
) -> Iterator[PointBlock]:
    """An array (n, d) as the blocks of one part, with row numbers for ids; at least one block, also of no points."""
    size = block_rows(points.shape[1], points.itemsize) if rows is None else rows
    count = max(1, -(-len(points) // size))
    for ordinal in range(count):
        chunk = slice(ordinal * size, (ordinal + 1) * size)
        held = np.ascontiguousarray(points[chunk])
        ids = np.arange(ordinal * size, ordinal * size + len(held), dtype=np.uint64) + np.uint64(part << 32)
        w = np.ones(len(held)) if weights is None else np.ascontiguousarray(weights[chunk], np.float64)
        yield PointBlock(held, w, ids, Span(part, ordinal, ordinal == count - 1))


def concatenate_extras(tables: Sequence[Any]) -> Any:
    """Stacks the extras of several blocks; None if none of them has any.

    Raises:
      ValueError: some have extras and some have none, or their columns differ.
    """
    present = [t for t in tables if t is not None]
    if not present:
        return None
    if len(present) != len(tables):
        raise ValueError(f"extras: must be on all blocks or on none, got {len(present)} of {len(tables)}")
    from beam_coresets.values import stacked

    return stacked(present)


def narrow(points: Array) -> Array:
    """Points as float32 where that is exact, else as float64.

    A block whose squared distances would leave the range of float32, up or down, is float64, too.
    """
    if not points.size:
        return np.ascontiguousarray(points, np.float32)
    largest = max(float(points.max()), -float(points.min()))
    if largest and not LEAST_NARROW < largest < LARGEST_NARROW:
        return np.ascontiguousarray(points, np.float64)
    small = np.ascontiguousarray(points, np.float32)
    if points.dtype == np.float32:
        return small
    return small if np.array_equal(small, points) else np.ascontiguousarray(points)
