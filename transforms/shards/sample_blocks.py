"""SampleBlocks: source blocks -> what each shard takes of them."""
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from threadpoolctl import threadpool_limits

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coders of PointBlock and Piece)
from beam_coresets.points.block import PointBlock
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.pieces import Piece
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.base.progress import PROGRESS


@beam.typehints.with_input_types(PointBlock)
@beam.typehints.with_output_types(tuple[int, Piece])
class SampleBlocks(beam.PTransform):
    """PointBlocks -> (shard, Piece): one for every shard, also empty ones, which say how far a part has come.

    Every shard that holds a row draws for itself, in one pass over the block, so more replicas cost hardly more time.
    It fuses with the source; only sampled rows go on to `ShardCoreset`.

    Args:
      merge_reduce: the scheme, and how points are sampled.

    Raises:
      ValueError: while running, as `MergeReduce.pieces`.

    Source: `beam_coresets.shards.pieces`.

    Example:
      plan = Plan(k=4, shards=5, replication=3)
      blocks | SampleBlocks(plan.merge_reduce) | beam.Map(print)
    """

    def __init__(self, merge_reduce: MergeReduce) -> None:
        super().__init__()
        self._merge_reduce = merge_reduce

    def expand(self, blocks: PCollection[PointBlock]) -> PCollection[tuple[int, Piece]]:
        return blocks | "Sample for all shards" >> beam.ParDo(_Sample(self._merge_reduce))

    def display_data(self) -> dict[str, Any]:
        a = self._merge_reduce.assignment
        scheme = {"shards": a.shards, "replication": a.replication, "scheme": a.kind, "buckets": a.buckets}
        return scheme | shown(sampler=self._merge_reduce.sampler)


class _Sample(beam.DoFn):
    def __init__(self, merge_reduce: MergeReduce) -> None:
        self._merge_reduce = merge_reduce
        self._points = Metrics.counter("beam_coresets", "points_assigned")

    def setup(self) -> None:
        # Parallelism is Beam's: BLAS threads beside its workers slow both down, and can change the last bits.
        self._limit = threadpool_limits(1, "blas")

    def teardown(self) -> None:
        self._limit.restore_original_limits()

    def process(self, block: PointBlock) -> Iterator[tuple[int, Piece]]:
        self._points.inc(len(block))
        PROGRESS.add(points=len(block))
        yield from enumerate(self._merge_reduce.pieces(block))
