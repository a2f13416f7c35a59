"""Merge and reduce: a shard's summary of an unbounded number of points in bounded memory.

Each source block is sampled for all shards in one pass (`beam_coresets.shards.pieces`), and a shard's pieces of
several blocks are a leaf. Siblings of a binary tree over the leaves are merged as soon as both are there, and each
merge is thinned back to `node_size` points (Bentley and Saxe; Har-Peled and Mazumdar, STOC 2004). Leaves are cut from
the input by (part, ordinal): the tree is fixed by where points were read, not by when, so the order of arrival, bundles
and workers change nothing. Every random draw is seeded by (seed, shard, level, digest of what the node holds), so
replicas of a bucket are independent, and a retry is identical.

Only unbiased weights are merged. Calibrating at every level would bias all replicas alike, and no comparison between
them could show it; so it is done once, in `result`.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets import codec
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock
from beam_coresets.points.coreset import Coreset
from beam_coresets.sampling import by_label
from beam_coresets.sampling.far_points import to_total
from beam_coresets.sampling.frequent_directions import Sketch
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.pieces import Piece, cut, held_strata
from beam_coresets.shards.report import ShardReport

NODE_FACTOR, NODE_BYTES = 8, 2 << 20  # of what will be merged again
MAX_NODES = 512
STATE_BYTES = 64 << 20
LEAF_FACTOR = 4  # of a node, that leaves have: their blocks may differ, and each is sampled by itself
LEAF_SLACK = 1.25  # times its size a leaf may be without being thinned: its parent will be

Array = npt.NDArray[Any]
LeafKey = tuple[int, int]
NodeKey = tuple[int, int, int]  # (part, level, index); part ALL_PARTS for nodes that hold whole parts
ALL_PARTS = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A thinned sample, or a sketch, and the ledger of all rows it stands for."""

    sample: Coreset | Sketch
    ledger: Ledger


@dataclasses.dataclass
class ShardState:
    """What a shard has taken in so far: the accumulator. Nodes and pieces in it are never changed, only replaced.

    Attributes:
      shard: which shard this is; None before the first piece.
      open: pieces of leaves that are not complete, by (part, leaf index).
      nodes: the tree's roots so far.
      leaves: number of leaves of each part that has been read to its end.
    """

    shard: int | None = None
    open: dict[LeafKey, list[Piece]] = dataclasses.field(default_factory=dict)
    nodes: dict[NodeKey, Node] = dataclasses.field(default_factory=dict)
    leaves: dict[int, int] = dataclasses.field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The whole state, for `from_bytes`."""
        arrays: dict[str, Any] = {}
        for i, node in enumerate(self.nodes.values()):
            arrays |= node.sample.arrays(f"{i}_") | node.ledger.few_arrays(f"{i}_ledger_")
        pieces = [piece.to_bytes() for pieces in self.open.values() for piece in pieces]
        fields = {
            "shard": self.shard,
            "nodes": [[*key, isinstance(node.sample, Sketch)] for key, node in self.nodes.items()],
            "leaves": sorted(self.leaves.items()),
            "open": [[*key, len(pieces)] for key, pieces in self.open.items()],
        }
        return codec.pack_with("ShardState", fields, arrays, pieces)

    @staticmethod
    @codec.decoder("ShardState")
    def from_bytes(data: bytes) -> ShardState:
        """The state that `to_bytes` was given."""
        fields, arrays, bodies = codec.unpack_with(data, "ShardState")
        nodes = {
            (part, level, index): Node(
                (Sketch if sketched else Coreset).from_arrays(arrays, f"{i}_"),
                Ledger.of_few_arrays(arrays, f"{i}_ledger_"),
            )
            for i, (part, level, index, sketched) in enumerate(fields["nodes"])
        }
        pieces = [Piece.from_bytes(body) for body in bodies]
        opened: dict[LeafKey, list[Piece]] = {}
        for part, leaf, count in fields["open"]:
            opened[part, leaf] = pieces[:count]
            pieces = pieces[count:]
        return ShardState(fields["shard"], opened, nodes, dict(fields["leaves"]))


def node_size(sampler: Sampler, dim: int, itemsize: int, factor: int = NODE_FACTOR) -> int:
    """How many points what will be merged again keeps: `factor` times a finished coreset's, but no more than
    `NODE_BYTES` hold unless a finished coreset has."""
    size = sampler.size_in(dim, itemsize)
    return max(size, min(factor * size, NODE_BYTES // max(1, dim * itemsize)))


@dataclasses.dataclass(frozen=True)
class MergeReduce:
    """What is done with blocks, and with the `ShardState` of each shard: pieces; update, merge, compact, result.

    Attributes:
      sampler: how points are chosen.
      assignment: the scheme that sends points here.
      seed: seeds every draw.
      node_factor: points of an inner node as a multiple of the finished coreset's; more of them cost memory and little
        time, and leave the final draw as the only one that matters for the error.
      labelled: samples each label of the points on its own, and counts its weight exactly
    (`beam_coresets.sampling.by_label`).
    """

    sampler: Sampler
    assignment: Assignment
    seed: int = 0
    node_factor: int = NODE_FACTOR
    labelled: bool = False

    @property
    def key_by_key(self) -> bool:
        """Whether many keys can't be sampled in one pass (`beam_coresets.sampling.per_key`)."""
        return self.labelled or self.sampler.outliers > 0

    def blocks_a_leaf(self, dim: int) -> int:
        """Source blocks that a leaf is made of, a power of two: so many that a shard has one block's rows of them, or a
        finished coreset's points of each."""
        rows = self.assignment.shards // self.assignment.replication
        points = self.node_size(dim, 4) // self.sampler.size_in(dim, 4)
        return 1 << (max(1, rows, points).bit_length() - 1)

    def leaf_of(self, ordinal: int, dim: int) -> tuple[int, int, int]:
        """The leaf that the `ordinal`-th block of a part belongs to, its first block, and how many it has.

        The first leaf has one block, the next ones two, four, ... up to `blocks_a_leaf`: so that the first blocks of a
        part, which may be all of it, are sampled as finely as memory allows.
        """
        most = self.blocks_a_leaf(dim)
        if ordinal + 1 < most:
            leaf = (ordinal + 1).bit_length() - 1
            return leaf, (1 << leaf) - 1, 1 << leaf
        beyond = (ordinal + 1 - most) // most
        return most.bit_length() - 1 + beyond, (beyond + 1) * most - 1, most

    def pieces(self, block: PointBlock) -> Iterator[Piece]:
        """What each shard takes of a source block, shard by shard, from one pass over its rows.

        Raises:
          ValueError: points that have no more coordinates than the sampler's flats; what `Ledger.of` refuses.
        """
        self.sampler.check_dim(block.dim)
        _, _, count = self.leaf_of(block.span.ordinal, block.dim)
        node, leaf = self.node_size(block.dim, block.dtype.itemsize), self.leaf_size(block.dim, block.dtype.itemsize)
        size = min(node, leaf / count)
        return cut(block, self.assignment, self.sampler, size, self.seed, self.labelled)

    def update(self, state: ShardState, shard: int, piece: Piece) -> ShardState:
        """Takes in what `shard` has of one block. Changes and returns `state`."""
        state.shard = shard
        span = piece.span
        leaf, _, _ = self.leaf_of(span.ordinal, piece.sample.dim)
        key = (span.part, leaf)
        state.open.setdefault(key, []).append(piece)
        if span.last:
            state.leaves[span.part] = leaf + 1
        self._close_if_complete(state, key)
        return self.compact(state) if span.last else state

    def merge(self, states: Iterable[ShardState]) -> ShardState:
        """One state that has taken in what all of `states` have; they are not changed."""
        out = ShardState()
        for state in states:
            out.shard = state.shard if out.shard is None else out.shard
            out.leaves.update(state.leaves)
            for key, pieces in state.open.items():
                out.open.setdefault(key, []).extend(pieces)
            for node_key, node in sorted(state.nodes.items()):
                self._put(out, node_key, node)
        for key in sorted(out.open):
            self._close_if_complete(out, key)
        for part in sorted(out.leaves):
            self._promote_all(out, part)
        return self.compact(out)

    def compact(self, state: ShardState) -> ShardState:
        """Bounds the state: what has piled up because neighbouring parts or blocks went elsewhere is merged early.

        Only this makes a result depend on how the work was divided: where blocks come from more parts than a planned
        listing has, or where unmerged parts of one shard would take `STATE_BYTES`.
        """
        while len(state.open) > MAX_NODES:
            self._close(state, min(state.open))
        while len(state.nodes) > 2 and (
            len(state.nodes) > MAX_NODES or sum(n.sample.nbytes for n in state.nodes.values()) > STATE_BYTES
        ):
            first, second = sorted(state.nodes, key=lambda key: (key[1], key))[:2]
            a, b = state.nodes.pop(first), state.nodes.pop(second)
            node = self._merge_nodes(state, first[1], a, b)
            self._put(state, (ALL_PARTS, max(first[1], second[1]) + 1, first[2] >> 1), node)
        return state

    def result(self, state: ShardState) -> ShardReport:
        """The finished report of everything taken in; `state` is not changed."""
        shard = -1 if state.shard is None else state.shard
        rest = [self._leaf(shard, state.open[key]) for key in sorted(state.open)]
        nodes = [state.nodes[key] for key in sorted(state.nodes)] + rest
        ledger = Ledger.sum((node.ledger for node in nodes), self.assignment.buckets)
        return self.report(shard, [node.sample for node in nodes], ledger)

    def report(self, shard: int, held: Sequence[Any], ledger: Ledger) -> ShardReport:
        """What a shard sends of all that is left of its rows, samples in the tree's order."""
        return ShardReport(shard, self.finish(shard, Coreset.union(held), ledger), ledger)

    def finish(self, shard: int, everything: Coreset, ledger: Ledger) -> Coreset:
        """The last draw from all that is left of a shard's rows: `size` points with unbiased and calibrated weights."""
        rng = generator(self.seed, shard, "result", ledger.digest())
        strata = self.strata(shard, everything)
        points = None
        if self.sampler.leftover == "centers":
            rows, unbiased, points = self.sampler.finish_on_centers(
                everything.points, everything.weights_ht, strata, rng
            )
            calibrated = unbiased
        else:
            groups = everything.groups if self.labelled else None
            rows, unbiased, calibrated = by_label.finish(
                self.sampler, everything.points, everything.weights_ht, strata, groups, rng
            )
        if len(rows) == ledger.rows:
            return everything  # nothing has been left out
        total = calibrated.sum()
        if self.sampler.outliers:
            sure = unbiased == everything.weights_ht[rows]
            kept = everything.keep(rows, unbiased, to_total(calibrated, ledger.weight, sure))
        else:
            kept = everything.keep(rows, unbiased, calibrated * (ledger.weight / total if total > 0 else 1.0))
        if ledger.labels is not None and kept.groups is not None:
            exact = by_label.with_totals(kept.weights, kept.groups, ledger.labels.totals())
            kept = dataclasses.replace(kept, weights=exact)
        return kept if points is None else dataclasses.replace(kept, points=points)

    def thin(
        self, points: Array, weights: Array, strata: Array, groups: Array | None, size: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """`Sampler.thin`, label by label if labels are sampled on their own."""
        return by_label.thin(self.sampler, points, weights, strata, groups if self.labelled else None, size, rng)

    def strata(self, shard: int, sample: Coreset) -> npt.NDArray[np.int32]:
        """The stratum of each point: its bucket's class of co-holders, and piece of the shard."""
        held, label = held_strata(self.assignment, shard)
        bucket = self.assignment.bucket_of(sample.ids)
        if not len(held):
            return np.zeros(len(bucket), np.int32)
        at = np.minimum(np.searchsorted(held, bucket), len(held) - 1)
        return np.where(held[at] == bucket, label[at], np.int32(0))

    def node_size(self, dim: int, itemsize: int) -> int:
        """Points of an inner node, by the function `node_size`."""
        return node_size(self.sampler, dim, itemsize, self.node_factor)

    def leaf_size(self, dim: int, itemsize: int) -> int:
        """Points of a leaf, `LEAF_FACTOR` times a node's where `NODE_BYTES` hold them."""
        node = self.node_size(dim, itemsize)
        return max(node, min(LEAF_FACTOR * node, NODE_BYTES // max(1, dim * itemsize)))

    def _close_if_complete(self, state: ShardState, key: LeafKey) -> None:
        part, leaf = key
        some = state.open[key][0]
        _, first, count = self.leaf_of(some.span.ordinal, some.sample.dim)
        have = {piece.span.ordinal: piece.span.last for piece in state.open[key]}
        if leaf + 1 == state.leaves.get(part):
            complete = any(have.values()) and len(have) == max(have) - first + 1
        else:
            complete = len(have) == count
        if complete:
            self._close(state, key)

    def _close(self, state: ShardState, key: LeafKey) -> None:
        part, leaf = key
        assert state.shard is not None
        node = self._leaf(state.shard, state.open.pop(key))
        self._put(state, (part, 0, leaf), node)
        if part in state.leaves:
            self._promote_all(state, part)

    def _leaf(self, shard: int, pieces: list[Piece]) -> Node:
        pieces = sorted(pieces, key=lambda piece: piece.span)
        ledger = Ledger.sum((piece.ledger for piece in pieces), self.assignment.buckets)
        sample = Coreset.union([piece.sample for piece in pieces])
        if len(sample) <= LEAF_SLACK * self.leaf_size(sample.dim, sample.points.itemsize):
            return Node(sample, ledger)
        return self._thinned(shard, 0, sample, ledger)

    def _thinned(self, shard: int, level: int, sample: Coreset, ledger: Ledger) -> Node:
        size = self.node_size(sample.dim, sample.points.itemsize)
        if len(sample) <= size:
            return Node(sample, ledger)
        rng = generator(self.seed, shard, level, ledger.digest())
        strata = self.strata(shard, sample)
        rows, weights = self.thin(sample.points, sample.weights_ht, strata, sample.groups, size, rng)
        return Node(sample.keep(rows, weights), ledger)

    def _merge_nodes(self, state: ShardState, level: int, left: Node, right: Node) -> Node:
        shard = -1 if state.shard is None else state.shard
        assert isinstance(left.sample, Coreset)
        assert isinstance(right.sample, Coreset)
        sample = Coreset.union([left.sample, right.sample])
        return self._thinned(shard, level + 1, sample, left.ledger.merge(right.ledger))

    def _put(self, state: ShardState, key: NodeKey, node: Node) -> None:
        """Adds a node and climbs: joining siblings, passing where none will come, and on to the tree over whole
        parts."""
        part, level, index = key
        while True:
            if (part, level, index) in state.nodes:  # two halves of a leaf that had to be closed early
                first, second = sorted([state.nodes.pop((part, level, index)), node], key=lambda n: n.ledger.digest())
                node = self._merge_nodes(state, level, first, second)
                continue
            leaves = state.leaves.get(part) if part != ALL_PARTS else None
            if leaves is not None and level == (leaves - 1).bit_length():
                part, level, index = ALL_PARTS, 0, part
                continue
            sibling = state.nodes.pop((part, level, index ^ 1), None)
            if sibling is not None:
                left, right = (sibling, node) if index & 1 else (node, sibling)
                node = self._merge_nodes(state, level, left, right)
            elif leaves is None or index != (leaves - 1) >> level or index & 1:
                state.nodes[part, level, index] = node
                return
            level, index = level + 1, index >> 1

    def _promote_all(self, state: ShardState, part: int) -> None:
        """After a part's end has become known: moves up the nodes that were waiting for siblings beyond it."""
        for key in sorted((k for k in state.nodes if k[0] == part), reverse=True):
            if key in state.nodes:
                self._put(state, key, state.nodes.pop(key))


def shard_reports(blocks: Iterable[PointBlock], merge_reduce: MergeReduce) -> list[ShardReport]:
    """All shards' reports on a stream of blocks, in this process: what the Beam pipeline computes, without Beam."""
    states = [ShardState() for _ in range(merge_reduce.assignment.shards)]
    for block in blocks:
        for shard, piece in enumerate(merge_reduce.pieces(block)):
            states[shard] = merge_reduce.update(states[shard], shard, piece)
    return [merge_reduce.result(state) for state in states if state.shard is not None]
