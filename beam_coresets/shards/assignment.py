"""Redundant assignment: which shards hold which buckets of the data.

Rows are hashed to `buckets` by their id, and a scheme gives every bucket to several shards. A scheme is a pure function
of its parameters, so every worker recomputes the same matrix and nobody has to send it.
"""
from __future__ import annotations

import functools
import itertools
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.hashing import derive_seed, generator, mix
from beam_coresets.points.block import BlockRows, PointBlock
from beam_coresets.points.nearest import writable

SCHEMES = ("bernoulli", "uniform", "cyclic", "fractional")
PART_BITS = 16
PARTS_OF_IDS = 1 << PART_BITS
_ROW_BITS = np.uint64(64 - PART_BITS)
LEAST_PIECES = 5

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Assignment:
    """A scheme that gives each of `buckets` buckets to some of `shards` shards.

    Kinds, with l = `replication` and s = `shards`:
      bernoulli: each shard holds each bucket independently with probability l / s (Gandikota, Mazumdar and Rawat,
        *Reliable Distributed Clustering with Redundant Data Assignment*, Eq. 2, with buckets in place of points).
      uniform: exactly l random shards hold a bucket.
      cyclic: bucket g goes to l neighbours on a circle of shards; loads differ by at most one bucket.
      fractional: the shards form s // l groups of at least l, and all shards of a group hold the same buckets. If l
        does not divide s, some groups have more than l shards: those buckets have more replicas, and every shard
        holds 1 / (s // l) of the data instead of l / s.

    `cyclic`, `fractional` and `uniform` lose nothing for any l - 1 stragglers.

    With `domains` (the failure domain of each shard, such as the worker it runs on), each bucket has replicas in
    at least l different domains. If a domain has more than s / l shards, loads under `cyclic` are uneven, and
    `fractional` makes fewer, larger groups: no scheme can be even then.

    With `parts`, buckets are not hashed: an id's upper `PART_BITS` bits name the part it was read from (a Kafka
    partition, a file range), and a part is a bucket. Buckets beyond the number of parts are room for more of them.

    Raises:
      TypeError: a number is not an integer.
      ValueError: the parameters do not fit together.
    """

    shards: int
    replication: int = 2
    kind: str = "cyclic"
    buckets: int = 1024
    seed: int = 0
    domains: tuple[int, ...] | None = None
    parts: bool = False

    def __post_init__(self) -> None:
        for name in ("shards", "replication", "buckets", "seed"):
            try:
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            except TypeError:
                raise TypeError(f"{name}: must be an integer, got {getattr(self, name)!r}") from None
        s, r = self.shards, self.replication
        if self.kind not in SCHEMES:
            raise ValueError(f"kind: must be one of {', '.join(SCHEMES)}, got {self.kind!r}")
        if s < 1:
            raise ValueError(f"shards: must be at least 1, got {s}")
        if r < 1:
            raise ValueError(f"replication: must be at least 1, got {r}")
        if r > s:
            raise ValueError(f"replication: must be at most the {s} shards, got {r}")
        if self.buckets < max(1, -(-s // r)) or self.buckets >= 2**31:
            raise ValueError(
                f"buckets: must be from {-(-s // r)} (so that each of {s} shards can hold one) to 2**31 - 1, "
                f"got {self.buckets}"
            )
        if self.parts and self.buckets > PARTS_OF_IDS:
            raise ValueError(f"buckets: must be at most {PARTS_OF_IDS} if they are parts, got {self.buckets}")
        if self.domains is not None:
            self._check_domains()

    def _check_domains(self) -> None:
        assert self.domains is not None
        object.__setattr__(self, "domains", tuple(int(d) for d in self.domains))
        if len(self.domains) != self.shards:
            raise ValueError(f"domains: must name one for each of the {self.shards} shards, got {len(self.domains)}")
        if self.kind == "bernoulli":
            raise ValueError(f"domains: must be None for kind bernoulli, which ignores them, got {self.domains}")
        distinct = len(set(self.domains))
        if self.replication > distinct:
            raise ValueError(f"replication: must be at most the {distinct} failure domains, got {self.replication}")

    @property
    def salt(self) -> int:
        """What ids are hashed with; it depends on the seed only, so schemes of one seed share their buckets."""
        return _salt(self.seed)

    @property
    def modulus(self) -> int:
        """What the kernels hash ids to: the number of buckets, or 0 if ids name their part."""
        return 0 if self.parts else self.buckets

    def matrix(self) -> npt.NDArray[np.bool_]:
        """The assignment matrix, (shards, buckets) bool, read-only and cached."""
        return _matrix(self)

    def holders(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Each bucket's shards in ascending order, as `indptr` (buckets + 1,) and `shards` (assigned pairs,)."""
        return _holders(self)

    def held_by(self, shard: int) -> npt.NDArray[np.int64]:
        """The buckets that a shard holds, ascending."""
        indptr, buckets = _held(self)
        return buckets[indptr[shard] : indptr[shard + 1]]

    def check_ids(self, ids: npt.NDArray[np.uint64]) -> None:
        """Raises ValueError for ids (n,) of parts that the scheme has no bucket for, if its buckets are parts."""
        if self.parts and len(ids) and (part := int(ids.max() >> _ROW_BITS)) >= self.buckets:
            raise ValueError(f"ids: must be of parts 0 to {self.buckets - 1} in their upper bits, got part {part}")

    def bucket_of(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """The bucket, (n,) int32, of each id, (n,) uint64; of parts as they are, also where there is no such bucket."""
        out = np.empty(len(ids), np.int32)
        _buckets(writable(ids), np.uint64(self.salt), np.uint64(self.modulus), out)
        return out

    def tolerates(self) -> int:
        """The largest t such that any t stragglers lose nothing; -1 if a bucket has no holder at all."""
        return int(np.diff(self.holders()[0]).min()) - 1

    def load(self) -> npt.NDArray[np.float64]:
        """The share of all buckets that each shard holds, (shards,)."""
        share: npt.NDArray[np.float64] = self.matrix().mean(axis=1)
        return share


def default_buckets(shards: int, replication: int) -> int:
    """1024, or as many (a power of two) as it takes for every shard to hold two."""
    return max(1024, 1 << (2 * shards // replication).bit_length())


@functools.lru_cache(maxsize=64)
def _salt(seed: int) -> int:
    return derive_seed("bucket", seed)


@functools.lru_cache(maxsize=8)
def _matrix(assignment: Assignment) -> npt.NDArray[np.bool_]:
    matrix = np.zeros((assignment.shards, assignment.buckets), np.bool_)
    bucket, shard = _assigned(assignment)
    matrix[shard, bucket] = True
    matrix.setflags(write=False)
    return matrix


def _assigned(assignment: Assignment) -> tuple[Array, Array]:
    """The assigned (bucket, shard) pairs, in any order: there may be too many shards and buckets for their matrix."""
    s, G, r = assignment.shards, assignment.buckets, assignment.replication
    if assignment.kind == "bernoulli":
        drawn = generator("assignment", "bernoulli", s, G, r, assignment.seed).random((s, G)) < r / s
        shard, bucket = np.nonzero(drawn)
        return bucket, shard
    if assignment.kind == "fractional":
        groups = _groups(assignment)
        held = [np.arange(g, G, len(groups)) for g in range(len(groups))]
        bucket = np.concatenate([np.repeat(mine, len(group)) for mine, group in zip(held, groups, strict=True)])
        return bucket, np.concatenate([np.tile(group, len(mine)) for mine, group in zip(held, groups, strict=True)])
    chosen = _uniform_choice(assignment) if assignment.kind == "uniform" else _cyclic_choice(assignment)
    return np.repeat(np.arange(G), chosen.shape[1]), chosen.ravel()


def _ranked(assignment: Assignment) -> Array:
    """The shards, (s,), those of one failure domain side by side, largest domain first."""
    if assignment.domains is None:
        return np.arange(assignment.shards)
    _, domain, sizes = np.unique(assignment.domains, return_inverse=True, return_counts=True)
    return np.lexsort((np.arange(assignment.shards), domain, -sizes[domain]))


def _uniform_choice(assignment: Assignment) -> Array:
    """(G, l) shards: the first l of a random order; with domains, skipping shards whose domain is taken."""
    s, G, r = assignment.shards, assignment.buckets, assignment.replication
    rng = generator("assignment", "uniform", s, G, r, assignment.seed)
    chosen = np.empty((G, r), np.int64)
    ranked = _ranked(assignment)
    domain = np.asarray(assignment.domains)[ranked] if assignment.domains else ranked
    starts = np.flatnonzero(np.r_[True, domain[1:] != domain[:-1]])
    rows = max(1, (1 << 22) // s)  # bounds the scores held at once
    for low in range(0, G, rows):
        score = rng.random((min(rows, G - low), s))
        if assignment.domains is None:
            chosen[low : low + rows] = np.argpartition(score, r - 1, axis=1)[:, :r]
            continue
        order = np.argsort(score, axis=1)
        place = np.argsort(order, axis=1)
        first = np.minimum.reduceat(place, starts, axis=1)  # where each domain first appears in the order
        first.partition(r - 1, axis=1)
        chosen[low : low + rows] = ranked[np.take_along_axis(order, first[:, :r], axis=1)]
    return chosen


def shard_circle(assignment: Assignment) -> tuple[Array, bool]:
    """The circle of shards under `cyclic`, (s,), and whether any l neighbours on it are of different domains."""
    ranked = _ranked(assignment)
    if assignment.domains is None:
        return ranked, True
    # Dealing the ranked shards out to as many frames as the largest domain has shards keeps shards of one domain
    # at least s // frames places apart: any l neighbours differ as long as no domain has more than s / l shards.
    frames = int(np.unique(assignment.domains, return_counts=True)[1].max())
    return np.concatenate([ranked[f::frames] for f in range(frames)]), frames * assignment.replication <= len(ranked)


def _cyclic_choice(assignment: Assignment) -> Array:
    """(G, l) shards: l neighbours on the circle, of different domains."""
    s, G, r = assignment.shards, assignment.buckets, assignment.replication
    circle, regular = shard_circle(assignment)
    if regular:
        windows = circle[(np.arange(s)[:, None] + np.arange(r)) % s]
    else:
        domain = np.asarray(assignment.domains)
        windows = np.array([_walk(circle, domain, start, r) for start in range(s)])
    rest = G % s
    # The last, incomplete round starts at even distances, so that loads differ by one at most.
    starts = np.r_[np.tile(np.arange(s), G // s), np.arange(rest) * s // max(rest, 1)]
    chosen: Array = windows[starts]
    return chosen


def _walk(circle: Array, domain: Array, start: int, count: int) -> list[int]:
    """The first `count` shards from `start` on along the circle, skipping domains that are taken."""
    taken: dict[int, int] = {}
    for shard in np.roll(circle, -start):
        taken.setdefault(int(domain[shard]), int(shard))
        if len(taken) == count:
            break
    return list(taken.values())


def _group_count(assignment: Assignment) -> int:
    """The most groups, at most s // l, that can each have shards of l different domains."""
    s, r = assignment.shards, assignment.replication
    if assignment.domains is None:
        return s // r
    sizes = np.unique(assignment.domains, return_counts=True)[1]
    return next(q for q in range(s // r, 0, -1) if np.minimum(sizes, q).sum() >= r * q)


def _groups(assignment: Assignment) -> list[Array]:
    # Dealing out domain by domain: a domain of at least q shards reaches every group, the others fill up evenly.
    q = _group_count(assignment)
    ranked = _ranked(assignment)
    return [ranked[g::q] for g in range(q)]


@functools.lru_cache(maxsize=8)
def _holders(assignment: Assignment) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    bucket, shard = _assigned(assignment)
    order = np.lexsort((shard, bucket))
    return _edges(bucket, assignment.buckets), shard[order].astype(np.int32)


@functools.lru_cache(maxsize=8)
def _held(assignment: Assignment) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    indptr, shards = _holders(assignment)
    bucket = np.repeat(np.arange(assignment.buckets), np.diff(indptr))
    return _edges(shards, assignment.shards), bucket[np.argsort(shards, kind="stable")]


def _edges(numbers: Array, count: int) -> npt.NDArray[np.int64]:
    """Where each of `count` numbers begins and ends once they are sorted, (count + 1,)."""
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=count), out=indptr[1:])
    return indptr


@kernel
def bucket(identity, salt, buckets):  # type: ignore[no-untyped-def]
    """The bucket of one id; all three are uint64; `buckets` is 0 where ids name their part."""
    if buckets == np.uint64(0):
        return identity >> _ROW_BITS
    h = mix(identity ^ salt)
    if buckets & (buckets - np.uint64(1)) == np.uint64(0):
        return h & (buckets - np.uint64(1))  # the same value, without a division
    return h % buckets


@kernel
def _buckets(ids, salt, buckets, out):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        out[i] = np.int32(bucket(ids[i], salt, buckets))


@kernel
def _rows_by_shard(buckets, indptr, shards, start):  # type: ignore[no-untyped-def]
    """Counting sort: the row numbers each shard takes, in order; shard i's are at start[i] to start[i + 1]."""
    n = len(buckets)
    for i in range(n):
        for j in range(indptr[buckets[i]], indptr[buckets[i] + 1]):
            start[shards[j] + 1] += 1
    for i in range(1, len(start)):
        start[i] += start[i - 1]
    place = start[:-1].copy()
    rows = np.empty(start[-1], np.int64)
    for i in range(n):
        for j in range(indptr[buckets[i]], indptr[buckets[i] + 1]):
            shard = shards[j]
            rows[place[shard]] = i
            place[shard] += 1
    return rows


def rows_by_shard(
    buckets: npt.NDArray[np.int32], assignment: Assignment
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows that each shard holds, in their order, by the buckets (n,) of all rows.

    Returns:
      bounds (shards + 1,) and rows: shard i's are rows[bounds[i] : bounds[i + 1]].
    """
    indptr, shards = assignment.holders()
    bounds = np.zeros(assignment.shards + 1, np.int64)
    return bounds, _rows_by_shard(buckets, indptr, shards, bounds)


def part_ids(part: int, rows: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Ids that name their part, (n,) uint64, from what tells rows of one part apart, (n,) (its lower 48 bits count)."""
    mask = np.uint64((1 << (64 - PART_BITS)) - 1)
    return (rows & mask) | (np.uint64(part) << _ROW_BITS)


def split(block: PointBlock, assignment: Assignment) -> list[BlockRows]:
    """Cuts a block by shard: one block for every shard, holding the rows whose bucket that shard holds, in their order.

    Shards without rows get an empty block (they need its span to know how far the part has come). Nothing is copied
    yet: each is a choice of rows of `block`, which is gathered where it is used.
    """
    bounds, rows = rows_by_shard(assignment.bucket_of(block.ids), assignment)
    return [BlockRows(block, rows[low:high]) for low, high in itertools.pairwise(bounds.tolist())]


def pieces_of(shards: int) -> int:
    """How many pieces, drawn apart, a shard's buckets are dealt to (bucket modulo this).

    There are at least `LEAST_PIECES` in all, which the certificate leaves out in turn.
    """
    return -(-LEAST_PIECES // shards)


def strata_of(label: Array, bucket: Array, shards: int) -> Array:
    """A number for each piece of each label (m,): the stratum of the buckets (m,), which are the scheme's."""
    pieces = pieces_of(shards)
    return np.asarray(label * pieces + bucket % pieces)
