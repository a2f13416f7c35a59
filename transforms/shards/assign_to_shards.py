"""AssignRedundantly: every row to all the shards that hold its bucket."""
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coder of PointBlock)
from beam_coresets.points.block import PointBlock
from beam_coresets.shards.assignment import Assignment, split
from beam_coresets.transforms.base.progress import PROGRESS


@beam.typehints.with_input_types(PointBlock)
@beam.typehints.with_output_types(tuple[int, PointBlock])
class AssignRedundantly(beam.PTransform):
    """PointBlocks -> (shard, PointBlock): one block for every shard, also empty ones, which say how far a part has
    come.

    For whoever needs all rows of a shard: `SampleBlocks` makes samples of them without copying the rest.

    Args:
      assignment: who holds what.

    Source: `beam_coresets.shards.assignment.split`, which names the papers of the schemes.

    Example:
      blocks | AssignRedundantly(Assignment(shards=5, replication=3, kind="cyclic"))
    """

    def __init__(self, assignment: Assignment) -> None:
        super().__init__()
        self._assignment = assignment

    def expand(self, blocks: PCollection[PointBlock]) -> PCollection[tuple[int, PointBlock]]:
        return blocks | "Split by shard" >> beam.ParDo(_Split(self._assignment))

    def display_data(self) -> dict[str, Any]:
        a = self._assignment
        return {"shards": a.shards, "replication": a.replication, "scheme": a.kind, "buckets": a.buckets}


class _Split(beam.DoFn):
    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._points = Metrics.counter("beam_coresets", "points_assigned")

    def setup(self) -> None:
        self._assignment.holders()

    def process(self, block: PointBlock) -> Iterator[tuple[int, PointBlock]]:
        self._points.inc(len(block))
        PROGRESS.add(points=len(block))
        yield from enumerate(split(block, self._assignment))
