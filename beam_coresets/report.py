"""ShardReport: what a shard tells the coordinator. Everything before it may be done in several ways, all after it is
the same."""
from __future__ import annotations

import dataclasses

from beam_coresets import codec
from beam_coresets.coreset import Coreset
from beam_coresets.ledger import Ledger


@dataclasses.dataclass(frozen=True, eq=False)
class ShardReport:
    """A shard's summary of what it has read.

    Attributes:
      shard: which shard.
      coreset: the sample, with unbiased and calibrated weights.
      ledger: what was taken in, bucket by bucket.
      part, start, stop: the part and the offsets that were read; "" and -1 for everything that the shard was given.
      final: whether the shard has nothing to add to this window.
    """

    shard: int
    coreset: Coreset
    ledger: Ledger
    part: str = ""
    start: int = -1
    stop: int = -1
    final: bool = True

    @property
    def name(self) -> tuple[int, str, int, int]:
        """What identifies a report: a second one of the same name is a repetition."""
        return self.shard, self.part, self.start, self.stop

    def to_bytes(self) -> bytes:
        fields = {"shard": self.shard, "part": self.part, "start": self.start, "stop": self.stop, "final": self.final}
        return codec.pack("ShardReport", fields, self.coreset.arrays() | self.ledger.arrays())

    @staticmethod
    def from_bytes(data: bytes) -> ShardReport:
        fields, arrays = codec.unpack(data, "ShardReport")
        return ShardReport(coreset=Coreset.from_arrays(arrays), ledger=Ledger.from_arrays(arrays), **fields)
