"""ShardCoreset: a shard's pieces of all source blocks -> its report. A CombineFn of thin calls into
`beam_coresets.shards.merge_reduce`."""
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from threadpoolctl import threadpool_limits

from beam_coresets.shards.merge_reduce import MergeReduce, ShardState
from beam_coresets.shards.pieces import Piece
from beam_coresets.shards.report import ShardReport
from beam_coresets.transforms.base.coders import ShardStateCoder
from beam_coresets.transforms.base.progress import PROGRESS


@beam.typehints.with_input_types(tuple[int, Piece])
@beam.typehints.with_output_types(ShardReport)
class ShardCoreset(beam.CombineFn):
    """Combines (shard, Piece) values, as `SampleBlocks` gives them; use it per key, with the shard in the key.

    The value names its shard again because a CombineFn never sees its key, and random draws must differ between shards.
    """

    def __init__(self, merge_reduce: MergeReduce) -> None:
        self._merge_reduce = merge_reduce

    def setup(self, *args: Any, **kwargs: Any) -> None:
        # Parallelism is Beam's: BLAS threads beside its workers slow both down, and can change the last bits.
        self._limit = threadpool_limits(1, "blas")

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        self._limit.restore_original_limits()

    def get_accumulator_coder(self) -> ShardStateCoder:
        return ShardStateCoder()

    def create_accumulator(self) -> ShardState:
        return ShardState()

    def add_input(self, state: ShardState, value: tuple[int, Piece]) -> ShardState:
        return self._merge_reduce.update(state, *value)

    def merge_accumulators(self, states: Iterable[ShardState]) -> ShardState:
        return self._merge_reduce.merge(states)

    def compact(self, state: ShardState) -> ShardState:
        return self._merge_reduce.compact(state)

    def extract_output(self, state: ShardState) -> ShardReport:
        PROGRESS.add(shards=1)
        return self._merge_reduce.result(state)
