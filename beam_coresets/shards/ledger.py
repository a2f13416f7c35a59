"""Ledgers: what a shard has really taken in, bucket by bucket."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.hashing import hash_integers, mix, row_hash, row_multipliers
from beam_coresets.points.block import PointBlock
from beam_coresets.points.nearest import writable
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.label_weights import LabelWeights

DENSE_BUCKETS = 1024  # buckets up to which a ledger is arrays whatever they hold: 24 KB, and the fastest
FEW = 8  # times as many buckets as hold any rows make another one sparse

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger:
    """Per bucket: how many rows, a checksum of their contents, and their total weight.

    A monoid under `merge`, commutative and exact for counts and checksums, so ledgers do not depend on the order in
    which rows arrive. Weights are float64 sums: they may differ in the last bits, and no comparison uses them.

    The checksum is the sum modulo 2**64 of one hash a row, of its coordinates, id and weight, bit for bit; whether a
    block holds equal numbers as float32 or as float64 does not matter. It finds
    lost, repeated and altered rows; it is no protection against somebody who constructs collisions.

    Attributes:
      counts: (buckets,) int64.
      checksums: (buckets,) uint64.
      weights: (buckets,) float64.
      labels: the weights label by label, where they are counted; then rows' hashes are of their labels, too.
    """

    counts: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.float64]
    labels: LabelWeights | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("counts", np.int64), ("checksums", np.uint64), ("weights", np.float64)):
            value = getattr(self, name)
            if value.dtype != dtype:
                raise TypeError(f"{name}: must be {np.dtype(dtype)}, got {value.dtype}")
            if value.shape != self.counts.shape or value.ndim != 1:
                raise ValueError(f"{name}: must have shape ({len(self.counts)},), got {value.shape}")

    @staticmethod
    def zero(buckets: int) -> Ledger:
        """The ledger of a shard that has read nothing."""
        return Ledger(np.zeros(buckets, np.int64), np.zeros(buckets, np.uint64), np.zeros(buckets))

    @staticmethod
    def of(
        block: PointBlock,
        assignment: Assignment,
        keys: Array | None = None,
        count: int = 1,
        labelled: bool = False,
        buckets: npt.NDArray[np.int32] | None = None,
    ) -> Ledger:
        """The ledger of one block's rows, in one pass without the GIL.

        Args:
          keys: (n,) int32, each row's number among `count` keys: gives the ledgers of all keys, one after another.
          labelled: whether labels are counted, if the block has any: one pass more.
          buckets: (n,) `assignment.bucket_of` the rows' ids, where it is known already.

        Raises:
          ValueError: too many labels (see `beam_coresets.sampling.by_label`), or ids of parts that the scheme has not.
        """
        assignment.check_ids(block.ids)
        ledger = Ledger.zero(assignment.buckets * count)
        where = assignment.bucket_of(block.ids) if buckets is None else buckets
        if keys is not None:
            where = where + keys.astype(np.int64) * assignment.buckets
        for points, rows in _by_width(block.points):
            words = writable(points).view(np.uint32)
            _add_rows(
                words,
                writable(block.ids[rows]),
                writable(block.weights[rows]),
                row_multipliers(words.shape[1]),
                where[rows],
                ledger.counts,
                ledger.checksums,
                ledger.weights,
            )
        if labelled and block.groups is not None:
            labels, checksums = LabelWeights.of(block, where, ledger.buckets)
            return Ledger(ledger.counts, ledger.checksums + checksums, ledger.weights, labels)
        return ledger

    @staticmethod
    def sum(ledgers: Iterable[Ledger], buckets: int) -> Ledger:
        """All of `ledgers` together; zero if there are none. Raises ValueError if one has other buckets."""
        total, labels = Ledger.zero(buckets), None
        for ledger in ledgers:
            if ledger.buckets != buckets:
                raise ValueError(f"buckets: must be {buckets} in all ledgers, got {ledger.buckets}")
            held, own = ledger.entries()
            total.counts[held] += own.counts
            total.checksums[held] += own.checksums
            total.weights[held] += own.weights
            if own.labels is not None:
                spread = own.labels.spread(held, buckets)
                labels = spread if labels is None else labels.merge(spread)
        return dataclasses.replace(total, labels=labels)

    def merge(self, other: Ledger) -> Ledger:
        """What both have taken in together. Raises ValueError if they have different buckets."""
        if len(self.counts) != len(other.counts):
            raise ValueError(f"buckets: must be {len(self.counts)} in both ledgers, got {len(other.counts)}")
        labels = self.labels or other.labels
        if self.labels is not None and other.labels is not None:
            labels = self.labels.merge(other.labels)
        return Ledger(
            self.counts + other.counts, self.checksums + other.checksums, self.weights + other.weights, labels
        )

    __add__ = merge

    @property
    def buckets(self) -> int:
        """How many buckets the scheme has."""
        return len(self.counts)

    def of_buckets(self, buckets: Any) -> Ledger:
        """The entries of some buckets, by their numbers or a slice."""
        labels = None if self.labels is None else self.labels.of_buckets(buckets)
        return Ledger(self.counts[buckets], self.checksums[buckets], self.weights[buckets], labels)

    def entries(self) -> tuple[npt.NDArray[np.int64], Ledger]:
        """The buckets that hold any rows, ascending, and a ledger of these alone."""
        held = np.flatnonzero(self.counts)
        return held, self.of_buckets(held)

    def packed(self) -> Ledger:
        """The same ledger in as little memory as it takes."""
        return sparse(*self.entries(), self.buckets)

    @property
    def rows(self) -> int:
        """How many rows were taken in."""
        return int(self.counts.sum())

    @property
    def weight(self) -> float:
        """The total weight of the rows."""
        return float(self.weights.sum())

    def digest(self) -> int:
        """64 bits that name what was taken in, whatever the order: for deriving seeds."""
        with np.errstate(over="ignore"):
            mixed = self.checksums.sum(dtype=np.uint64) + hash_integers(self.counts.sum(keepdims=True))[0]
        return int(mixed)

    def equal(self, other: Ledger) -> bool:
        """Whether both took in the same rows: counts and checksums agree in every bucket."""
        return np.array_equal(self.counts, other.counts) and np.array_equal(self.checksums, other.checksums)

    def arrays(self, prefix: str = "ledger_") -> dict[str, Array | None]:
        """The arrays by name, for `codec.pack`."""
        labels = {} if self.labels is None else self.labels.arrays(prefix)
        return {prefix + name: getattr(self, name) for name in ("counts", "checksums", "weights")} | labels

    def few_arrays(self, prefix: str = "ledger_") -> dict[str, Array | None]:
        """The arrays of the buckets that hold any rows, for `of_few_arrays`: all that crosses a shuffle of a ledger of
        which a shard holds little."""
        held, own = self.entries()
        return own.arrays(prefix) | {prefix + "held": held, prefix + "buckets": np.array([self.buckets])}

    @staticmethod
    def of_few_arrays(arrays: Mapping[str, Array | None], prefix: str = "ledger_") -> Ledger:
        """The inverse of `few_arrays`."""
        held, buckets = np.asarray(arrays[prefix + "held"]), int(np.asarray(arrays[prefix + "buckets"])[0])
        return few(held, Ledger.from_arrays(arrays, prefix), buckets)

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array | None], prefix: str = "ledger_") -> Ledger:
        """The inverse of `arrays`."""
        counts, checksums, weights = (np.asarray(arrays[prefix + n]) for n in ("counts", "checksums", "weights"))
        return Ledger(counts, checksums, weights, LabelWeights.from_arrays(arrays, prefix))


class SparseLedger(Ledger):
    """A ledger of which few buckets hold any rows: it keeps these only, and makes its arrays when they are asked for.

    What a coordinator of thousands of shards keeps: each of them holds two or three of all the parts there are.

    Args:
      held: (m,) int64, the buckets, ascending. entries: the ledger of these alone.
      buckets: how many there are.
    """

    def __init__(self, held: npt.NDArray[np.int64], entries: Ledger, buckets: int) -> None:
        self._held, self._entries, self._buckets = held, entries, buckets

    @property
    def buckets(self) -> int:
        """How many buckets the scheme has, held or not."""
        return self._buckets

    @property
    def counts(self) -> npt.NDArray[np.int64]:  # type: ignore[override]
        """(buckets,) as in `Ledger`, spread out anew each time."""
        return self._spread(self._entries.counts)

    @property
    def checksums(self) -> npt.NDArray[np.uint64]:  # type: ignore[override]
        """(buckets,) as in `Ledger`, spread out anew each time."""
        return self._spread(self._entries.checksums)

    @property
    def weights(self) -> npt.NDArray[np.float64]:  # type: ignore[override]
        """(buckets,) as in `Ledger`, spread out anew each time."""
        return self._spread(self._entries.weights)

    @property
    def labels(self) -> LabelWeights | None:  # type: ignore[override]
        """As in `Ledger`, spread out anew each time; None where labels are not counted."""
        labels = self._entries.labels
        return None if labels is None else labels.spread(self._held, self._buckets)

    @property
    def rows(self) -> int:
        return self._entries.rows

    def digest(self) -> int:
        return self._entries.digest()

    def entries(self) -> tuple[npt.NDArray[np.int64], Ledger]:
        return self._held, self._entries

    def packed(self) -> Ledger:
        return self

    def of_buckets(self, buckets: Any) -> Ledger:
        if isinstance(buckets, slice):
            low, high, step = buckets.indices(self._buckets)
            if step == 1:
                mine = slice(*np.searchsorted(self._held, (low, max(low, high))).tolist())
                return SparseLedger(self._held[mine] - low, self._entries.of_buckets(mine), max(0, high - low))
        wanted = np.arange(self._buckets)[buckets]
        at = np.searchsorted(self._held, wanted)
        there = np.flatnonzero(np.r_[self._held, -1][at] == wanted)
        return SparseLedger(there, self._entries.of_buckets(at[there]), len(wanted)).dense()

    def dense(self) -> Ledger:
        """The same as arrays."""
        return Ledger(self.counts, self.checksums, self.weights, self.labels)

    def _spread(self, values: Array) -> Array:
        out = np.zeros(self._buckets, values.dtype)
        out[self._held] = values
        return out


def sparse(held: npt.NDArray[np.int64], entries: Ledger, buckets: int) -> Ledger:
    """The ledger of `buckets` buckets of which `held`, (m,) ascending, have these entries; as arrays if many have."""
    ledger = SparseLedger(held, entries, buckets)
    return ledger if buckets > max(DENSE_BUCKETS, FEW * len(held)) else ledger.dense()


def few(held: npt.NDArray[np.int64], entries: Ledger, buckets: int) -> Ledger:
    """As `sparse`, also where there are not many buckets: for what is kept in numbers, and soon summed."""
    ledger = SparseLedger(held, entries, buckets)
    return ledger if buckets > FEW * len(held) else ledger.dense()


def _by_width(points: Array) -> Iterator[tuple[Array, Any]]:
    """Points and their rows: first those that float32 holds exactly, as float32, then the others as they are.

    Two shards may hold a row beside different others, and so in blocks of different types: it must hash alike.
    """
    if points.dtype == np.float32:
        yield points, slice(None)
        return
    with np.errstate(over="ignore"):
        narrow = points.astype(np.float32)
    exact = (narrow == points).all(axis=1)
    for chosen, held in ((exact, narrow), (~exact, points)):
        rows = np.flatnonzero(chosen)
        if len(rows):
            yield held[rows], rows


@kernel
def _add_rows(words, ids, weights, multipliers, where, counts, checksums, totals):  # type: ignore[no-untyped-def]
    bits = weights.view(np.uint64)
    for i in range(len(ids)):
        b = where[i]
        counts[b] += 1
        checksums[b] += mix(row_hash(words, i, multipliers) ^ mix(ids[i]) ^ bits[i])
        totals[b] += weights[i]
