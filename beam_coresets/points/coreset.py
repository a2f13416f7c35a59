"""The coreset: a weighted sample of the input that stands for all of it."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets import codec
from beam_coresets.points.block import PointBlock, concatenate_extras
from beam_coresets.points.nearest import nearest, power_of_distance

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Coreset:
    """Sampled input points with two weights each.

    Attributes:
      points: (m, d) float32 or float64, rows of the input.
      weights: (m,) float64, calibrated: what solving uses. Equal to `weights_ht` until a summary is finished.
      weights_ht: (m,) float64, unbiased (Horvitz-Thompson): what merging, estimates and error bars use.
      ids: (m,) uint64.
      groups: (m,) int32 or None.
      extras: pyarrow Table of m rows (the user's id, label and kept columns) or None.
    """

    points: Array
    weights: Array
    weights_ht: Array
    ids: Array
    groups: Array | None = None
    extras: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Coordinates of a point."""
        return int(self.points.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory of the coordinates."""
        return int(self.points.nbytes)

    @staticmethod
    def empty(dim: int = 0) -> Coreset:
        """A coreset of no points."""
        return Coreset(np.empty((0, dim), np.float32), np.empty(0), np.empty(0), np.empty(0, np.uint64))

    @staticmethod
    def of(block: PointBlock) -> Coreset:
        """All points of a block, each standing for itself."""
        return Coreset(block.points, block.weights, block.weights, block.ids, block.groups, block.extras)

    @staticmethod
    def union(parts: Sequence[Coreset]) -> Coreset:
        """The points of all parts, in their order. Parts without points are passed over.

        Raises:
          ValueError: the parts differ in width, or only some have groups.
        """
        parts = [p for p in parts if len(p)] or list(parts[:1])
        if not parts:
            return Coreset.empty()
        if len(parts) == 1:
            return parts[0]
        dims = sorted({p.dim for p in parts})
        if len(dims) > 1:
            raise ValueError(f"points: must all have the same number of columns, got {dims}")
        labelled = [p.groups for p in parts if p.groups is not None]
        if labelled and len(labelled) < len(parts):
            raise ValueError(f"groups: must be on all points or on none, got {len(labelled)} of {len(parts)} parts")
        return Coreset(
            np.concatenate([p.points for p in parts]),
            np.concatenate([p.weights for p in parts]),
            np.concatenate([p.weights_ht for p in parts]),
            np.concatenate([p.ids for p in parts]),
            np.concatenate(labelled) if labelled else None,
            concatenate_extras([p.extras for p in parts]),
        )

    def keep(self, rows: Array, weights_ht: Array, weights: Array | None = None) -> Coreset:
        """The given rows with new weights; `weights` defaults to the unbiased ones."""
        return Coreset(
            self.points[rows],
            weights_ht if weights is None else weights,
            weights_ht,
            self.ids[rows],
            None if self.groups is None else self.groups[rows],
            None if self.extras is None else self.extras.take(rows),
        )

    def scaled(self, factors: Array | float) -> Coreset:
        """Both weights times `factors`, (m,) or a number; points whose factor is zero are left out."""
        factors = np.broadcast_to(np.asarray(factors, np.float64), (len(self),))
        rows = np.flatnonzero(factors)
        return self.keep(rows, self.weights_ht[rows] * factors[rows], self.weights[rows] * factors[rows])

    def at_distinct_places(self) -> tuple[Coreset, Array]:
        """One point for all that have equal coordinates, with both their weights together, and the row of the first of
        each, (c,) ascending."""
        _, first, place = np.unique(self.points, axis=0, return_index=True, return_inverse=True)
        if len(first) == len(self):
            return self, np.arange(len(self))
        order = np.argsort(first)
        rank = np.argsort(order)[place.ravel()]
        weights, unbiased = (np.bincount(rank, w, len(first)) for w in (self.weights, self.weights_ht))
        return self.keep(first[order], unbiased, weights), first[order]

    def cost(self, centers: Array, z: float = 2.0, unbiased: bool = False) -> float:
        """`sum w min dist**z` over the coreset, by calibrated weights unless `unbiased`."""
        if not len(self):
            return 0.0
        _, dist_sq = nearest(self.points, centers)
        return float(power_of_distance(dist_sq, z) @ (self.weights_ht if unbiased else self.weights))

    def arrays(self, prefix: str = "") -> dict[str, Array | None]:
        """Named arrays for `codec.pack`."""
        return {
            prefix + "points": self.points,
            prefix + "weights": None if self.weights is self.weights_ht else self.weights,
            prefix + "weights_ht": self.weights_ht,
            prefix + "ids": self.ids,
            prefix + "groups": self.groups,
            prefix + "extras": codec.table_to_bytes(self.extras),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array | None], prefix: str = "") -> Coreset:
        """The coreset that `arrays` was asked of, with the same prefix."""
        points, weights_ht, ids = (arrays[prefix + name] for name in ("points", "weights_ht", "ids"))
        assert points is not None
        assert weights_ht is not None
        assert ids is not None
        weights = arrays[prefix + "weights"]
        return Coreset(
            points,
            weights_ht if weights is None else weights,
            weights_ht,
            ids,
            arrays[prefix + "groups"],
            codec.table_from_bytes(arrays[prefix + "extras"]),
        )
