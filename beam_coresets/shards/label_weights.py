"""Labels of points: their exact weights, bucket by bucket."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.hashing import mix
from beam_coresets.points.block import PointBlock
from beam_coresets.points.nearest import writable
from beam_coresets.sampling.by_label import numbered, require_few

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class LabelWeights:
    """The weight of each label in each bucket, of everything that was taken in. A monoid under `merge`.

    Attributes:
      codes: (m,) int32, rising. weights: (m, buckets) float64.
    """

    codes: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]

    @staticmethod
    def of(block: PointBlock, where: Array, buckets: int) -> tuple[LabelWeights, npt.NDArray[np.uint64]]:
        """The labels' weights of one block's rows, and what the rows' labels add to the ledger's checksums: holders
        that were told different labels have not read the same.

        Args:
          where: (n,) the bucket of each row, of `buckets`.

        Raises:
          ValueError: more than `MOST_LABELS` labels.
        """
        assert block.groups is not None
        codes, label = numbered(block.groups)
        weights = np.zeros((len(codes), buckets))
        checksums = np.zeros(buckets, np.uint64)
        _add_labels(
            label, codes.astype(np.uint64), writable(block.ids), writable(block.weights), where, weights, checksums
        )
        return LabelWeights(codes, weights), checksums

    def merge(self, other: LabelWeights) -> LabelWeights:
        """What both have taken in together. Raises ValueError beyond `MOST_LABELS` labels."""
        if np.array_equal(self.codes, other.codes):
            return LabelWeights(self.codes, self.weights + other.weights)
        codes = np.union1d(self.codes, other.codes)
        require_few(len(codes))
        weights = np.zeros((len(codes), self.weights.shape[1]))
        for part in (self, other):
            weights[np.searchsorted(codes, part.codes)] += part.weights
        return LabelWeights(codes, weights)

    def of_buckets(self, buckets: Any) -> LabelWeights:
        """Some buckets' weights only."""
        return LabelWeights(self.codes, self.weights[:, buckets])

    def spread(self, where: Array, buckets: int) -> LabelWeights:
        """The same weights as buckets `where` of `buckets`."""
        weights = np.zeros((len(self.codes), buckets))
        weights[:, where] = self.weights
        return LabelWeights(self.codes, weights)

    def totals(self) -> dict[int, float]:
        """Each label's weight, by its code."""
        return dict(zip(self.codes.tolist(), self.weights.sum(axis=1).tolist(), strict=True))

    def arrays(self, prefix: str = "") -> dict[str, Array | None]:
        """The arrays by name, for `codec.pack`."""
        return {prefix + "label_codes": self.codes, prefix + "label_weights": self.weights}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array | None], prefix: str = "") -> LabelWeights | None:
        """The inverse of `arrays`; None where there are none."""
        codes, weights = (arrays.get(prefix + name) for name in ("label_codes", "label_weights"))
        return None if codes is None or weights is None else LabelWeights(codes, weights)


@kernel
def _add_labels(label, codes, ids, weights, where, totals, checksums):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        b = where[i]
        totals[label[i], b] += weights[i]
        checksums[b] += mix(mix(ids[i]) ^ codes[label[i]])
