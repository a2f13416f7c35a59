"""ShardCoreset: what a shard has been given -> its report. A CombineFn of thin calls into
`beam_coresets.shards.merge_reduce`."""
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from threadpoolctl import threadpool_limits

from beam_coresets.points.block import PointBlock
from beam_coresets.shards.merge_reduce import MergeReduce, ShardState
from beam_coresets.shards.report import ShardReport
from beam_coresets.transforms.base.coders import ShardStateCoder
from beam_coresets.transforms.base.progress import PROGRESS
from beam_coresets.transforms.shards.assign_to_shards import tiny_block


@beam.typehints.with_input_types(tuple[int, PointBlock])
@beam.typehints.with_output_types(ShardReport)
class ShardCoreset(beam.CombineFn):
    """Combines (shard, PointBlock) values; use it per key, with the shard as (part of) the key.

    The value names its shard again because a CombineFn never sees its key, and random draws must differ between shards.
    """

    def __init__(self, merge_reduce: MergeReduce) -> None:
        self._merge_reduce = merge_reduce

    def setup(self, *args: Any, **kwargs: Any) -> None:
        # Parallelism is Beam's: BLAS threads beside its workers slow both down, and can change the last bits.
        self._limit = threadpool_limits(1, "blas")
        block = tiny_block(self._merge_reduce.sampler.r + 2)
        sampler, rng = self._merge_reduce.sampler, np.random.default_rng(0)
        sampler.thin(block.points, block.weights, np.zeros(4, np.int32), 2, rng)
        self._merge_reduce.result(self._merge_reduce.update(ShardState(), 0, block))

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        self._limit.restore_original_limits()

    def get_accumulator_coder(self) -> ShardStateCoder:
        return ShardStateCoder()

    def create_accumulator(self) -> ShardState:
        return ShardState()

    def add_input(self, state: ShardState, value: tuple[int, PointBlock]) -> ShardState:
        return self._merge_reduce.update(state, *value)

    def merge_accumulators(self, states: Iterable[ShardState]) -> ShardState:
        return self._merge_reduce.merge(states)

    def compact(self, state: ShardState) -> ShardState:
        return self._merge_reduce.compact(state)

    def extract_output(self, state: ShardState) -> ShardReport:
        PROGRESS.add(shards=1)
        return self._merge_reduce.result(state)
