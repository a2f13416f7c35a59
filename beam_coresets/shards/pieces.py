"""Pieces: what each shard takes of one source block, made for all shards in one pass over the block's rows.

Bucket, ledger, importances and keeping probabilities of a row do not depend on who holds it, so they are found once,
however many replicas there are. Only the draws are each shard's own: running sums of its own, begun at random, so that
replicas of a bucket are independent given the probabilities, and each is unbiased. What a shard has of a block is its
sampled rows and the block's ledger on the shard's buckets; rows that nobody keeps are never copied.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets import codec
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.magnitude import unit_of
from beam_coresets.sampling import by_label
from beam_coresets.sampling.drawing import draw_for_holders
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment, rows_by_shard, strata_of
from beam_coresets.shards.ledger import Ledger, few

MAX_STRATA = 8

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """What one shard takes of one source block, never changed.

    Attributes:
      span: the block's.
      sample: rows of the block that the shard holds, with unbiased weights.
      ledger: of all rows of the block that the shard holds.
    """

    span: Span
    sample: Coreset
    ledger: Ledger

    def to_bytes(self) -> bytes:
        """The whole piece, for `from_bytes`."""
        span = [self.span.part, self.span.ordinal, self.span.last]
        return codec.pack("Piece", {"span": span}, self.sample.arrays() | self.ledger.few_arrays())

    @staticmethod
    @codec.decoder("Piece")
    def from_bytes(data: bytes) -> Piece:
        """The piece that `to_bytes` was given."""
        fields, arrays = codec.unpack(data, "Piece")
        return Piece(Span(*fields["span"]), Coreset.from_arrays(arrays), Ledger.of_few_arrays(arrays))


def cut(
    block: PointBlock, assignment: Assignment, sampler: Sampler, size: float, seed: int, labelled: bool
) -> Iterator[Piece]:
    """The pieces of a block, shard by shard, also those without rows: they say how far the part has come.

    Args:
      size: points that a shard is to have of the block on average; where the block has no more for each, all are kept.
      seed: seeds the draws, together with what the block holds.
      labelled: samples each label on its own, and counts its weight.

    Raises:
      ValueError: as `Ledger.of`.
    """
    buckets = assignment.bucket_of(block.ids)
    ledger = Ledger.of(block, assignment, labelled=labelled, buckets=buckets)
    rng = generator(seed, "block", ledger.digest())
    bounds, rows, weights = _drawn(block, buckets, assignment, sampler, size, rng, labelled)
    points, ids, groups, extras = block.points, block.ids, block.groups, block.extras
    if extras is not None:
        extras = extras.combine_chunks()
    for shard in range(assignment.shards):
        mine = rows[bounds[shard] : bounds[shard + 1]]
        kept = weights[bounds[shard] : bounds[shard + 1]]
        sample = Coreset(
            points[mine], kept, kept, ids[mine],
            None if groups is None else groups[mine],
            None if extras is None else extras.take(mine),
        )  # fmt: skip
        held = assignment.held_by(shard)
        yield Piece(block.span, sample, few(held, ledger.of_buckets(held), ledger.buckets))


def _drawn(
    block: PointBlock,
    buckets: npt.NDArray[np.int32],
    assignment: Assignment,
    sampler: Sampler,
    size: float,
    rng: np.random.Generator,
    labelled: bool,
) -> tuple[Array, Array, Array]:
    """Bounds (shards + 1,) of each shard's rows (m,), and their unbiased weights (m,)."""
    indptr, holders = assignment.holders()
    shares = assignment.shards * assignment.buckets / max(1, len(holders))
    if len(block) <= size * shares:
        bounds, rows = rows_by_shard(buckets, assignment)
        return bounds, rows, block.weights[rows]
    if not block.weights.any():
        return np.zeros(assignment.shards + 1, np.int64), np.empty(0, np.int64), np.empty(0)
    unit = unit_of(block.weights)
    groups = block.groups if labelled else None
    keeping = by_label.keeping(sampler, block.points, block.weights / unit, groups, size * shares, shares, rng)
    strata = _strata_of_holders(assignment)
    bounds, rows, weights = draw_for_holders(keeping, buckets, indptr, holders, strata, assignment.shards, rng)
    return bounds, rows, weights * unit


@functools.lru_cache(maxsize=8)
def _strata_of_holders(assignment: Assignment) -> npt.NDArray[np.int64]:
    """The stratum in which each holder of each bucket draws, in the order of `Assignment.holders`; no two shards
    share one."""
    _, holders = assignment.holders()
    strata, base = [np.empty(0, np.int64)], 0
    for shard in range(assignment.shards):
        _, label = held_strata(assignment, shard)
        strata.append(base + label.astype(np.int64))
        base += int(label.max(initial=-1)) + 1
    out = np.empty(len(holders), np.int64)
    out[np.argsort(holders, kind="stable")] = np.concatenate(strata)
    return out


@functools.lru_cache(maxsize=1 << 14)
def held_strata(assignment: Assignment, shard: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """The buckets that a shard holds, and the stratum of each: those that it holds together with the same other shards
    form one, or as many as `pieces_of` says.

    Where that gives more than `MAX_STRATA` (schemes that draw holders at random), holders make no difference.
    """
    held = assignment.held_by(shard) if shard >= 0 else np.empty(0, np.int64)
    if not len(held):
        return held, np.empty(0, np.int32)
    indptr, shards = assignment.holders()
    count = np.diff(indptr)[held]
    others = np.full((len(held), count.max()), assignment.shards)
    row = np.repeat(np.arange(len(held)), count)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    others[row, place] = shards[np.repeat(indptr[held], count) + place]
    classes, label = np.unique(-others, axis=0, return_inverse=True)
    label = label.ravel() if len(classes) <= MAX_STRATA else np.zeros(len(held), np.int64)
    return held, strata_of(label, held, assignment.shards).astype(np.int32)
