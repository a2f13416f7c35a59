"""A source whose points are brought to the scale of an earlier job."""
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_coresets.points.scale import Scale
from beam_coresets.transforms.streams.source import Chunk, Position, Reader, Source, lineage_of


@dataclasses.dataclass(frozen=True)
class ScaledSource:
    """`source` with its points in scaled units, as float32: row by row, so that all holders of a part have the same
    bits, however they divide it into chunks."""

    source: Source
    scale: Scale

    @property
    def bounded(self) -> bool:
        return self.source.bounded

    @property
    def lineage(self) -> tuple[str, ...]:
        """See `lineage_of`."""
        return lineage_of(self.source)

    def starts(self) -> Mapping[int, Position]:
        return self.source.starts()

    def begins(self) -> float | None:
        """The event time of the earliest message, where the source knows it."""
        begins = getattr(self.source, "begins", None)
        return None if begins is None else begins()

    def since(self, starts: Mapping[int, Position], now: float) -> Mapping[int, float]:
        return self.source.since(starts, now)

    def part_name(self, part: int) -> str:
        return self.source.part_name(part)

    def reader(self, shard: int, shards: int) -> "ScaledReader":
        return ScaledReader(self.source.reader(shard, shards), self.scale)

    def display_data(self) -> Mapping[str, Any]:
        return {**self.source.display_data(), "scale": "standard"}


class ScaledReader:
    """A reader of a `ScaledSource`."""

    def __init__(self, reader: Reader, scale: Scale) -> None:
        self._reader, self._scale = reader, scale
        self.seek, self.caught_up, self.age, self.ended = reader.seek, reader.caught_up, reader.age, reader.ended
        self.new_parts, self.commit, self.close = reader.new_parts, reader.commit, reader.close
        self.drained, self.knows_parts = reader.drained, reader.knows_parts

    def read(self, seconds: float) -> list[Chunk]:
        """See `Reader`."""
        return [self._scaled(chunk) for chunk in self._reader.read(seconds)]

    def _scaled(self, chunk: Chunk) -> Chunk:
        if not len(chunk.points):
            return chunk
        return dataclasses.replace(chunk, points=np.ascontiguousarray(self._scale.apply(chunk.points), np.float32))
