"""What `verify` needs of the data itself: a uniform sample of it, and the cost of given center sets on all of it."""
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

import beam_coresets.transforms.coders  # noqa: F401  (registers the coder of PointBlock)
from beam_coresets.distortion import costs
from beam_coresets.hashing import hash_integers
from beam_coresets.points import PointBlock
from beam_coresets.solvers.centers import Metric
from beam_coresets.transforms.progress import PROGRESS


@beam.typehints.with_input_types(PointBlock)
class UniformSample(beam.CombineFn):
    """PointBlocks -> (points, weights) of `size` rows: those whose hashed ids are smallest, so the same rows every
    time.

    Args:
      size: how many rows; all of them if there are fewer.
      seed: salts the hash.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size, self._seed = size, seed

    def create_accumulator(self) -> Any:
        return []

    def add_input(self, kept: Any, block: PointBlock) -> Any:
        rank = hash_integers(block.ids, salt=0x5A17 + self._seed)
        rows = np.argsort(rank, kind="stable")[: self._size]
        return self._smallest([*kept, (rank[rows], block.points[rows], block.weights[rows])], slack=2)

    def merge_accumulators(self, several: Iterable[Any]) -> Any:
        return self._smallest([part for kept in several for part in kept])

    def extract_output(self, kept: Any) -> Any:
        parts = self._smallest(kept)
        return parts[0][1:] if parts else (np.empty((0, 0), np.float32), np.empty(0))

    def _smallest(self, parts: Any, slack: int = 1) -> Any:
        parts = [p for p in parts if len(p[0])]
        if sum(len(p[0]) for p in parts) <= self._size * slack and slack > 1:
            return parts
        if not parts:
            return []
        rank, points, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        rows = np.argsort(rank, kind="stable")[: self._size]
        return [(rank[rows], points[rows], weights[rows])]


@beam.typehints.with_input_types(PointBlock)
class CostOfCenters(beam.CombineFn):
    """PointBlocks -> the cost of each of several center sets on all of them, an array.

    Args:
      sets: (name, centers) pairs. z, metric: as everywhere.
    """

    def __init__(self, sets: Sequence[tuple[str, Any]], z: float, metric: Metric) -> None:
        self._sets, self._z, self._metric = list(sets), z, metric

    def create_accumulator(self) -> Any:
        return np.zeros(len(self._sets))

    def add_input(self, total: Any, block: PointBlock) -> Any:
        PROGRESS.add(points=len(block))
        return total + costs(block.points, block.weights, self._sets, self._z, self._metric)

    def merge_accumulators(self, totals: Iterable[Any]) -> Any:
        return sum(totals, self.create_accumulator())

    def extract_output(self, total: Any) -> Any:
        return total
