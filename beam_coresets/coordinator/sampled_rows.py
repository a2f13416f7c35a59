"""Which points of several shards' samples are the same input row: tables have each row once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_coresets.points.coreset import Coreset
from beam_coresets.values import texts

Array = npt.NDArray[Any]


class SampledRows(NamedTuple):
    """The distinct rows of m points.

    Attributes:
      first: (r,) the first point of each row, in rising order.
      row: (m,) which row each point is.
    """

    first: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(r,) how many points each row is."""
        return np.bincount(self.row, minlength=len(self.first))

    def gathered(self) -> npt.NDArray[np.int64]:
        """(m,) the points, those of one row side by side in their order."""
        return np.argsort(self.row, kind="stable")

    def totals(self, values: Array) -> Array:
        """(r,) the sums of (m,) values over the points of each row."""
        return np.bincount(self.row, values, len(self.first))


def sampled_rows(sample: Coreset, bucket: Array) -> SampledRows:
    """Points that agree in id, coordinates, bucket, label and kept columns are one row.

    Ids alone don't tell: users may have given one to many rows.

    Args:
      sample: m points. bucket: (m,).
    """
    m = len(sample)
    alike = np.arange(m, dtype=np.int64)
    order = np.argsort(sample.ids, kind="stable")
    again = np.zeros(m, np.bool_)
    again[1:] = sample.ids[order][1:] == sample.ids[order][:-1]
    if again.any():  # by the few that may be the same
        again[:-1] |= again[1:]
        some = np.sort(order[again])
        seen: dict[Any, int] = {}
        keys = zip(*_keys(sample.keep(some, sample.weights_ht[some]), bucket[some]), strict=True)
        alike[some] = [seen.setdefault(key, at) for key, at in zip(keys, some.tolist(), strict=True)]
    first = np.flatnonzero(alike == np.arange(m))
    return SampledRows(first, np.searchsorted(first, alike))


def _keys(sample: Coreset, bucket: Array) -> list[list[Any]]:
    """What tells rows apart, a list a property."""
    points = np.ascontiguousarray(sample.points)
    keys: list[list[Any]] = [sample.ids.tolist(), bucket.tolist(), [point.tobytes() for point in points]]
    if sample.groups is not None:
        keys.append(sample.groups.tolist())
    if sample.extras is not None:
        keys.extend(texts(column) for column in sample.extras.columns)
    return keys
