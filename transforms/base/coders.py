"""Coders for what crosses a shuffle: each type writes and reads its own deterministic bytes."""
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder

from beam_coresets.coordinator.decision import Decision, Verdict
from beam_coresets.points.block import PointBlock
from beam_coresets.shards.merge_reduce import ShardState
from beam_coresets.shards.pieces import Piece
from beam_coresets.shards.report import ShardReport


class _RecordCoder(Coder):
    """A coder by `to_bytes` and `from_bytes` of `record`."""

    record: Any

    def encode(self, value: Any) -> bytes:
        encoded: bytes = value.to_bytes()
        return encoded

    def decode(self, encoded: bytes) -> Any:
        return self.record.from_bytes(encoded)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type:
        return self.record

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class PointBlockCoder(_RecordCoder):
    """Of PointBlocks, by their own bytes."""

    record = PointBlock

    def estimate_size(self, value: PointBlock) -> int:
        """Beam samples element sizes for its metrics; by default it encodes the whole block for that."""
        return len(value) * (value.dim * value.dtype.itemsize + 16)


class PieceCoder(_RecordCoder):
    """Of Pieces, by their own bytes."""

    record = Piece

    def estimate_size(self, value: Piece) -> int:
        """The bytes of the sampled points, without encoding them."""
        return value.sample.nbytes


class ShardStateCoder(_RecordCoder):
    """Of ShardStates, by their own bytes."""

    record = ShardState

    def estimate_size(self, value: ShardState) -> int:
        """The bytes of the sampled points, without encoding them."""
        return sum(node.sample.nbytes for node in value.nodes.values())


class ShardReportCoder(_RecordCoder):
    """Of ShardReports, by their own bytes."""

    record = ShardReport


class DecisionCoder(_RecordCoder):
    """Of Decisions, by their own bytes."""

    record = Decision


class VerdictCoder(_RecordCoder):
    """Of Verdicts, by their own bytes."""

    record = Verdict


for _coder in (PointBlockCoder, PieceCoder, ShardStateCoder, ShardReportCoder, DecisionCoder, VerdictCoder):
    beam.coders.registry.register_coder(_coder.record, _coder)
