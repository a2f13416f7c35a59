"""Uniform samples without replacement that merge: the rows whose hashes rank lowest, in each of several strata.

Cohen and Kaplan, *Summarizing data using bottom-k sketches*, PODC 2007. Which rows are drawn depends on the rows alone,
not on how they were dealt to workers, or on their order.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import hash_integers

Array = npt.NDArray[Any]
RankedRows = tuple[Array, ...]  # ranks, then the columns


@dataclasses.dataclass(frozen=True, eq=False)
class BottomK:
    """Samples of up to `size` rows in all: as many of each stratum, but for those that have fewer rows.

    Attributes:
      size: rows in all.
      strata: name -> parts of a sample: ranks (n,) uint64 and columns of n rows, which may be more than are drawn.
      limits: name -> the largest rank that can still be drawn, where one is known.
      most: no more rows of a stratum can be drawn than this, as some have been cut to it.
    """

    size: int
    strata: Mapping[Any, tuple[RankedRows, ...]] = dataclasses.field(default_factory=dict)
    limits: Mapping[Any, int] = dataclasses.field(default_factory=dict)
    most: int | None = None

    def add(self, stratum: Any, rank: Array, *columns: Array) -> BottomK:
        """With more rows of a stratum."""
        return self.merge([BottomK(self.size, {stratum: ((rank, *columns),)})])

    def merge(self, others: Iterable[BottomK]) -> BottomK:
        """With the rows of others."""
        strata, limits, most = dict(self.strata), dict(self.limits), self._most
        for other in others:
            for name, parts in other.strata.items():
                possible = (_up_to(part, limits.get(name)) for part in parts)
                strata[name] = (*strata.get(name, ()), *(part for part in possible if len(part[0])))
            limits |= {name: min(limit, limits.get(name, limit)) for name, limit in other.limits.items()}
            most = min(most, other._most)
        joined = BottomK(self.size, strata, limits, most)
        return joined.trimmed() if sum(joined._counts()) > 2 * self.size else joined

    def trimmed(self) -> BottomK:
        """The drawn rows only: one part a stratum, ordered by rank, equal ones by their columns but the first."""
        # What a stratum was cut by is not for others to have: then the level would depend on when that was.
        most = max(1, min(self._most, water_level(self._counts(), self.size)))
        strata, limits = {}, dict(self.limits)
        for name, parts in sorted(self.strata.items()):
            if not parts:
                continue
            strata[name] = (_lowest(parts, most),)
            if sum(len(part[0]) for part in parts) > most:
                limits[name] = int(strata[name][0][0].max())
        return BottomK(self.size, strata, limits, most if limits else self.most)

    @property
    def _most(self) -> int:
        return self.size if self.most is None else self.most

    def _counts(self) -> list[int]:
        return [sum(len(part[0]) for part in parts) for parts in self.strata.values()]


def water_level(counts: Iterable[int], size: int) -> int:
    """The largest number such that the counts, none of them taken for more than it, add up to at most `size`."""
    left = size
    for i, count in enumerate(ordered := sorted(counts)):
        level = left // (len(ordered) - i)
        if count > level:
            return level
        left -= count
    return size


def _up_to(part: RankedRows, limit: int | None) -> RankedRows:
    if limit is None:
        return part
    rows = np.flatnonzero(part[0] <= np.uint64(limit))
    return part if len(rows) == len(part[0]) else tuple(column[rows] for column in part)


def _lowest(parts: tuple[RankedRows, ...], most: int) -> RankedRows:
    columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
    rank = columns[0]
    if len(rank) > most:
        rows = np.flatnonzero(rank <= np.partition(rank, most - 1)[most - 1])
        columns = [column[rows] for column in columns]
    order = np.argsort(columns[0])
    if (np.diff(columns[0][order]) == 0).any():
        order = np.lexsort((*(column for column in columns[:1:-1] if column.ndim == 1), columns[0]))
    return tuple(column[order[:most]] for column in columns)


def row_ranks(ids: Array, points: Array, seed: int = 0) -> Array:
    """Ranks (n,) uint64 of rows by their ids; rows that share one are told apart by their first coordinates."""
    words = ids.copy()
    for column in points[:, :4].T.astype(np.float64) + 0.0:  # + 0.0: -0.0 equals 0.0
        words = hash_integers(words ^ column.view(np.uint64))
    return hash_integers(words, salt=0x5A17 + seed)
