"""What `verify` and `assign` need of the data itself: a uniform sample, costs on all of it, what a constraint binds."""
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coder of PointBlock)
from beam_coresets.assigning.dual_prices import Survey, Surveyor, SurveyTally
from beam_coresets.hashing import hash_integers
from beam_coresets.points.block import PointBlock
from beam_coresets.points.nearest import Metric
from beam_coresets.results.distortion import costs
from beam_coresets.sampling.bottom_k import BottomK
from beam_coresets.transforms.base.progress import PROGRESS

Array = npt.NDArray[Any]


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

    def create_accumulator(self) -> BottomK:
        return BottomK(self._size)

    def add_input(self, kept: BottomK, block: PointBlock) -> BottomK:
        return kept.add("", hash_integers(block.ids, salt=0x5A17 + self._seed), block.points, block.weights)

    def merge_accumulators(self, several: Iterable[BottomK]) -> BottomK:
        return self.create_accumulator().merge(several)

    def extract_output(self, kept: BottomK) -> tuple[Array, Array]:
        parts = kept.trimmed().strata.get("")
        if not parts:
            return np.empty((0, 0), np.float32), np.empty(0)
        _, points, weights = parts[0]
        return points, weights


@beam.typehints.with_input_types(PointBlock)
class CostOfCenters(beam.CombineFn):
    """PointBlocks -> the cost of each of several center sets on all of them, an array.

    Args:
      sets: (name, centers) pairs. z, metric: as everywhere.
      most: (len(sets),) what a row costs at most under each; None for no limit.
    """

    def __init__(
        self, sets: Sequence[tuple[str, Any]], z: float, metric: Metric, most: Array | None = None
    ) -> None:
        self._sets, self._z, self._metric, self._most = list(sets), z, metric, most

    def create_accumulator(self) -> Array:
        return np.zeros(len(self._sets))

    def add_input(self, total: Array, block: PointBlock) -> Array:
        PROGRESS.add(points=len(block))
        return total + costs(block.points, block.weights, self._sets, self._z, self._metric, self._most)

    def merge_accumulators(self, totals: Iterable[Array]) -> Array:
        return sum(totals, self.create_accumulator())

    def extract_output(self, total: Array) -> Array:
        return total


@beam.typehints.with_input_types(PointBlock)
@beam.typehints.with_output_types(Survey)
class SurveyRows(beam.CombineFn):
    """PointBlocks -> the `Survey` of all of their rows; what is looked at is for the `Surveyor` to say."""

    def __init__(self, surveyor: Surveyor) -> None:
        self._surveyor = surveyor

    def create_accumulator(self) -> SurveyTally:
        return self._surveyor.nothing()

    def add_input(self, total: SurveyTally, block: PointBlock) -> SurveyTally:
        PROGRESS.add(points=len(block))
        return total.merge([self._surveyor.tally(block)])

    def merge_accumulators(self, totals: Iterable[SurveyTally]) -> SurveyTally:
        return self._surveyor.nothing().merge(totals)

    def extract_output(self, total: SurveyTally) -> Survey:
        return total.survey()
