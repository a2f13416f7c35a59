"""Principal components: Algorithm 3 of Gandikota, Mazumdar and Rawat, *Reliable Distributed Clustering with Redundant
Data Assignment*, on mergeable sketches.

Shard i sends a relaxed coreset S_i of what it holds, with the additive Delta_i; the coordinator weighs it by b_i and
takes the leading right singular vectors of all that has come. With b from Property 1, for every r-dimensional subspace
L (Lemma 5),

    cost(P, L) <= sum_i b_i (cost(S_i, L) + Delta_i) <= (1 + delta_A) (1 + delta_r) cost(P, L),

delta_A the slack of the assignment, delta_r that of the relaxation; so the best L of the middle costs at most that many
times the best of P (Theorem 5, which has one delta for both and rounds the product up to 1 + 4 delta). For affine
subspaces the middle's mean is the weighted mean of the shards'. A shard counts as a whole or not at all.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import hash_integers
from beam_coresets.points.block import PointBlock
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.flats import principal
from beam_coresets.sampling.frequent_directions import Relaxation, Sketch
from beam_coresets.shards.assignment import split
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce, Node, ShardState
from beam_coresets.shards.pieces import Piece
from beam_coresets.shards.report import ShardReport
from beam_coresets.solvers.subspaces import Subspaces

Array = npt.NDArray[Any]


def factor(assignment: float, relaxation: float) -> float:
    """Theorem 5's approximation factor with the two slacks apart."""
    return (1 + assignment) * (1 + relaxation)


@dataclasses.dataclass(frozen=True)
class SketchTree(MergeReduce):
    """A shard's tree with sketches for nodes: nothing in it is drawn at random.

    Attributes:
      relaxation: how they are made.
    """

    relaxation: Relaxation = dataclasses.field(kw_only=True)

    def report(self, shard: int, held: Sequence[Any], ledger: Ledger) -> ShardReport:
        sent = self.relaxation.relaxed(self.relaxation.merge_all(held))
        ids = hash_integers(np.arange(len(sent.points)), salt=shard + 1)  # of no input row
        sample = Coreset(sent.points, sent.weights, sent.weights, ids)
        return ShardReport(shard, sample, ledger, kind="pca", additive=sent.additive, slack=sent.slack)

    def blocks_a_leaf(self, dim: int) -> int:
        """Source blocks that a leaf is made of, a power of two: about as many rows as one block has."""
        return 1 << ((self.assignment.shards // self.assignment.replication).bit_length() - 1)

    def pieces(self, block: PointBlock) -> Iterator[Piece]:
        """The rows that each shard holds, all of them: a leaf's are made one sketch."""
        for rows in split(block, self.assignment):
            yield Piece(block.span, Coreset.of(rows), Ledger.of(rows, self.assignment))

    def _leaf(self, shard: int, pieces: list[Piece]) -> Node:
        pieces = sorted(pieces, key=lambda piece: piece.span)
        whole = Coreset.union([piece.sample for piece in pieces])
        ledger = Ledger.sum((piece.ledger for piece in pieces), self.assignment.buckets)
        return Node(self.relaxation.of(whole.points, whole.weights_ht), ledger)

    def _merge_nodes(self, state: ShardState, level: int, left: Node, right: Node) -> Node:
        assert isinstance(left.sample, Sketch)
        assert isinstance(right.sample, Sketch)
        return Node(self.relaxation.merge(left.sample, right.sample), left.ledger.merge(right.ledger))


def principal_subspace(points: Array, weights: Array, r: int, affine: bool = False) -> Subspaces:
    """The r-dimensional subspace of least `sum_p w(p) dist(p, L)**2`, exactly.

    Args:
      points: (n, d), n and d not both large. weights: (n,) non-negative, some positive.
      r: below d.
      affine: whether it goes through the weighted mean in place of the origin.

    Returns:
      One subspace; the largest coordinate of each of its directions is positive.

    Raises:
      ValueError: r is below 1 or not below d.
    """
    d = points.shape[1]
    if not 1 <= r < d:
        raise ValueError(f"r: must be from 1 to {d - 1} with {d} coordinates, got {r}")
    center, basis = principal(points, weights, r, affine)
    away = points - center
    away = away - away @ basis.T @ basis
    return Subspaces(center[None], basis[None], affine, float(weights @ (away**2).sum(axis=1)))
