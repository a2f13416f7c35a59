"""The points that a decision was made on: what each of them stands for, and which were drawn together."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from beam_coresets.coordinator.decision import Decision
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.magnitude import unit_of
from beam_coresets.shards.assignment import strata_of

ADJACENT = 2  # each way, of which the one most like a point tells its error
LIKE = 1e-3  # difference of log weights below which only places count
BLOCK = 4096  # rows that are compared at once
DENSE = 2000  # shards up to which a matrix of numbers for all pairs of them is the fastest

Array = npt.NDArray[Any]


class Groups:
    """Which of the groups each of n rows is in.

    Args:
      group: (n,) numbers of groups. count: how many groups there are.
    """

    def __init__(self, group: Array, count: int) -> None:
        self._group, self._count = group, count

    def __call__(self, rows: Array) -> Array:
        """The sum of each group's rows, (count, c), of (n, c)."""
        if rows.shape[1] == 1:
            return np.bincount(self._group, rows[:, 0], self._count)[:, None]
        return np.asarray(self._matrix @ rows)

    @functools.cached_property
    def _matrix(self) -> Any:
        n = len(self._group)
        return sparse.csr_array((np.ones(n), (self._group, np.arange(n))), shape=(self._count, n))


class Sampled:
    """Of the m points of a decision's evidence, each figure computed once, on first use.

    Attributes:
      decision: whose evidence it is.
      points: the evidence's sample, a `Coreset`.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.points = decision.evidence.sample

    @functools.cached_property
    def shares(self) -> Array:
        """(m,) what each point counts for in an estimate, before scaling: its unbiased weight over the number of its
        bucket's trusted holders."""
        return np.asarray(self.points.weights_ht / self.holders)

    @functools.cached_property
    def holders(self) -> Array:
        """(m,) the trusted holders of each point's bucket, at least 1."""
        return np.asarray(np.maximum(self.decision.recovery.holders, 1)[self.decision.evidence.bucket])

    @functools.cached_property
    def drawn(self) -> Array:
        """(m,) 1 - 1 / w, with w the weight in units of an input row's average weight: a point stands for itself, at
        just the cost it has, and for w - 1 others that nobody has seen."""
        weights, unit = self.points.weights_ht, row_weight(self.decision)
        return np.asarray(1 - np.minimum(1.0, unit / np.maximum(weights, unit)))

    @functools.cached_property
    def piece(self) -> npt.NDArray[np.int64]:
        """(m,) the piece of each point: those of different pieces were drawn independently."""
        evidence, recovery = self.decision.evidence, self.decision.recovery
        return strata_of(evidence.shard, recovery.origins[evidence.bucket], len(recovery.trusted)).astype(np.int64)

    @functools.cached_property
    def neighbours(self) -> tuple[Array, Array]:
        """`neighbours_of` the points."""
        return neighbours_of(self.points, self.drawn, self.piece)

    @functools.cached_property
    def cells(self) -> tuple[Array, Array, Array]:
        """The shard and bucket of each trusted pair of them, and each point's among these pairs, (m,)."""
        evidence, trusted = self.decision.evidence, self.decision.recovery.trusted
        pairs = np.flatnonzero(trusted)
        shard, bucket = np.divmod(pairs, trusted.shape[1])
        place = evidence.shard * trusted.shape[1] + evidence.bucket
        if trusted.size > DENSE**2:
            return shard, bucket, np.searchsorted(pairs, place)
        return shard, bucket, (np.cumsum(trusted) - 1)[place]

    @functools.cached_property
    def by_cell(self) -> Groups:
        """Sums over the points of each trusted pair of shard and bucket."""
        _, bucket, cell = self.cells
        return Groups(cell, len(bucket))

    @functools.cached_property
    def by_bucket(self) -> Groups:
        """Sums over the trusted pairs of each bucket."""
        return Groups(self.cells[1], len(self.decision.recovery.holders))

    @functools.cached_property
    def by_shard(self) -> Groups:
        """Sums over the trusted pairs of each shard."""
        return Groups(self.cells[0], len(self.decision.recovery.trusted))

    @functools.cached_property
    def held(self) -> Any:
        """(shards, b) which shards hold each of the b buckets with two holders or more: 1 or 0."""
        recovery = self.decision.recovery
        several = recovery.holders >= 2
        if len(recovery.trusted) <= DENSE:
            return recovery.trusted[:, several].astype(np.float64)
        shard, bucket, _ = self.cells
        of_several = several[bucket]
        at = (np.cumsum(several) - 1)[bucket[of_several]]
        return sparse.csr_array(
            (np.ones(len(at)), (shard[of_several], at)), shape=(len(recovery.trusted), int(several.sum()))
        )

    def overlaps(self, share: Array) -> Array:
        """The sum (c,) of the squares of the entries of H diag(x) H^T for each column x of `share` (b, c), with H
        `held`."""
        if share.shape[1] == 1:
            product = (self.held * share[:, 0]) @ self.held.T
            return np.array([(product**2).sum()])
        of, squares = self._alike
        share = of(share)
        return np.asarray((share * (squares @ share)).sum(axis=0))

    @functools.cached_property
    def _alike(self) -> tuple[Groups, Any]:
        """The buckets with two holders or more by who holds them; of each two of these groups the square of the number
        of shards that hold both."""
        if not sparse.issparse(self.held):
            bits = np.ascontiguousarray(np.packbits(self.held.T.astype(np.bool_), axis=1))
            _, first, group = np.unique(bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_inverse=True)
            held = self.held[:, first]
            return Groups(group, len(first)), (held.T @ held) ** 2
        both = self.held.T @ self.held
        return Groups(np.arange(both.shape[0]), both.shape[0]), both.power(2)


def row_weight(decision: Decision) -> float:
    """The average weight of an input row."""
    recovery = decision.recovery
    return float(recovery.weights.sum() / max(1, recovery.counts.sum()))


def neighbours_of(sample: Coreset, drawn: Array, piece: Array) -> tuple[Array, Array]:
    """The rows (r,) that stand for others, piece by piece in the order of drawing, and of each the row (r,) of the
    neighbour that is most like it, -1 where its piece has no other.

    Args:
      drawn, piece: (m,) as of `Sampled`.
    """
    rows = np.flatnonzero(drawn > 1e-9)
    rows = rows[np.argsort(piece[rows], kind="stable")]
    other = most_alike(sample.points[rows], sample.weights_ht[rows], piece[rows])
    return rows, np.where(other < 0, -1, rows[other])


def most_alike(points: Array, weights: Array, piece: Array) -> npt.NDArray[np.int64]:
    """The row (m,) of the neighbour that is most like each point, of the next one where that is in the same place; -1
    where its piece has no other.

    Args:
      points (m, d), weights (m,): of rows by piece (m,), in the order of drawing.
    """
    m = len(points)
    scale, logs = points.dtype.type(unit_of(points)), np.log(np.maximum(weights, 1e-300))
    best, other = np.full(m, np.inf), np.full(m, -1, np.int64)
    for step in range(1, min(ADJACENT, m - 1) + 1):
        unlike = np.empty(m - step)
        for low in range(0, m - step, BLOCK):
            here, there = points[low : low + BLOCK][: m - step - low], points[low + step : low + step + BLOCK]
            apart = here / scale - there / scale
            unlike[low : low + len(apart)] = np.einsum("ij,ij->i", apart, apart)
        unlike *= LIKE + np.abs(logs[step:] - logs[:-step])
        unlike[piece[step:] != piece[:-step]] = np.inf
        for mine, its in ((slice(0, m - step), slice(step, m)), (slice(step, m), slice(0, m - step))):
            nearer = unlike < best[mine]
            best[mine] = np.where(nearer, unlike, best[mine])
            other[mine] = np.where(nearer, np.arange(m)[its], other[mine])
    # Of rows in one place nothing but their number is uncertain, which the next place in the order tells.
    follows = np.flatnonzero((best[:-1] == 0) & (piece[1:] == piece[:-1]))
    other[follows] = follows + 1
    return other
