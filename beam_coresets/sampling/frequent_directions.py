"""Sketches: any number of weighted rows as a few, for principal components; Algorithm 3 of Gandikota, Mazumdar and
Rawat, *Reliable Distributed Clustering with Redundant Data Assignment*, made mergeable.

The paper keeps the rows of S V^T, P = U S V^T, for the `sent` = r + ceil(r / delta) - 1 largest singular values: a
relaxed coreset (Feldman, Schmidt, Sohler, SODA 2013; the paper's Lemma 4),

    cost(P, L) <= cost(rows, L) + additive <= (1 + delta) cost(P, L)        for every r-dimensional subspace L,

where `additive` = ||P||_F^2 - ||rows||_F^2. Here P comes in pieces, and pieces are merged by another SVD of their rows.
Cutting off at every merge would add up errors; so a cut is a step of Frequent Directions (Ghashami, Liberty, Phillips,
Woodruff, SIAM J. Comput. 2016): with m rows kept, the square of the (m + 1)-th singular value is taken off all that are
kept. With T the sum of what was taken off (`shrinkage`), for any order and nesting of merges

    0 <= P^T P - rows^T rows <= T I,      (m + 1 - r) T <= cost of the best r-dimensional subspace,

so the middle of Lemma 4 exceeds the left by at most r T. Only the last cut, to what is sent, is the paper's. It adds
the r largest squares that it drops, and as m >= `sent`, both together are at most delta times the best cost: a cut to m
rows takes at least (m + 1) times its shrinkage off the squared norm, and at most r times of it off any r directions, so
the tail that Lemma 4 is measured on has become less by (m + 1 - r) T.

Where memory allows, m is the dimension and nothing is lost before the last cut. An affine sketch is of the rows less
their mean, which is carried with their weight: two scatters about their means add up to that about the common mean with
one more row, sqrt(w1 w2 / (w1 + w2)) (mean1 - mean2).
"""
from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg

Array = npt.NDArray[Any]

SKETCH_BYTES = 2 << 20  # of the rows that an inner node keeps
GRAM_BYTES = 1 << 20  # of rows turned into float64 at a time
MAX_GRAM = 1024  # columns up to which rows are summed up in a d x d matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Sketch:
    """A few rows that stand for many weighted ones in every sum of squared distances to a subspace.

    Attributes:
      rows: (m, d) float64, orthogonal, from the longest to the shortest; each counts once, whatever the weights were.
      weight: total weight of what it stands for.
      mean: (d,) float64, its weighted mean, which rows are relative to; None for subspaces through the origin.
      additive: squared norm that the rows have lost, the same for every subspace.
      shrinkage: at most so much of it can lie in any one direction.
    """

    rows: Array
    weight: float
    mean: Array | None
    additive: float = 0.0
    shrinkage: float = 0.0

    @property
    def dim(self) -> int:
        """Coordinates of a row."""
        return int(self.rows.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory of the rows."""
        return int(self.rows.nbytes)

    def arrays(self, prefix: str = "") -> dict[str, Array | None]:
        """Named arrays for `codec.pack`."""
        return {
            prefix + "rows": self.rows,
            prefix + "mean": self.mean,
            prefix + "sums": np.array([self.weight, self.additive, self.shrinkage]),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array | None], prefix: str = "") -> Sketch:
        """The inverse of `arrays`."""
        rows, sums = np.asarray(arrays[prefix + "rows"]), np.asarray(arrays[prefix + "sums"])
        weight, additive, shrinkage = sums.tolist()
        return Sketch(rows, weight, arrays[prefix + "mean"], additive, shrinkage)


class Relaxed(NamedTuple):
    """What a shard sends of its sketch: a relaxed coreset as weighted points.

    Attributes:
      points: (m, d) float64, weights: (m,) float64, equal: with the sketch's weight, second moments and, unless linear,
        mean. Not input points.
      additive: Lemma 4's Delta: the cost of all that the sketch stands for is at most theirs and this,
      slack: and at least that less this, for every r-dimensional subspace.
    """

    points: Array
    weights: Array
    additive: float
    slack: float


@dataclasses.dataclass(frozen=True)
class Relaxation:
    """How sketches are made: the logic on a `Sketch`.

    Attributes:
      r: dimension of the subspaces that will be asked for.
      delta: slack of what is sent.
      affine: subspaces need not pass through the origin.

    Raises:
      ValueError: r below 1, or delta that is not positive.
    """

    r: int
    delta: float = 0.1
    affine: bool = False

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"r: must be at least 1 with summary pca, got {self.r}")
        if not 0 < self.delta < math.inf:
            raise ValueError(f"delta: must be positive and finite, got {self.delta}")

    @property
    def sent(self) -> int:
        """r1: the rows that a shard sends at most."""
        return self.r + math.ceil(self.r / self.delta) - 1

    def kept(self, dim: int) -> int:
        """Rows between merges at most: all directions if memory allows, never fewer than are sent."""
        return max(self.sent, min(dim, SKETCH_BYTES // (8 * max(1, dim))))

    def of(self, points: Array, weights: Array) -> Sketch:
        """The sketch of points (n, d) float32 or float64 with weights (n,).

        In float64, a chunk at a time: O(n d min(d, kept)) operations, and memory for a chunk and the rows kept.
        """
        n, dim = points.shape
        chunk = max(64, GRAM_BYTES // (8 * max(1, dim)))
        if dim <= MAX_GRAM:
            return self._by_gram(points, weights, chunk)
        step = max(chunk, self.kept(dim))  # a cut costs no more than the rows before it
        uncut = (self._uncut(points[i : i + step], weights[i : i + step]) for i in range(0, n, step))
        whole = self.merge_all(uncut, dim)
        return self._cut(*_spectrum(whole.rows), whole)

    def _by_gram(self, points: Array, weights: Array, chunk: int) -> Sketch:
        dim = points.shape[1]
        gram, moment = np.zeros((dim, dim)), np.zeros(dim)
        shift = points[:chunk].mean(axis=0, dtype=np.float64) if self.affine and len(points) else np.zeros(dim)
        for low in range(0, len(points), chunk):
            w = weights[low : low + chunk]
            rows = _weighed(points[low : low + chunk], shift, w)
            gram += rows.T @ rows
            if self.affine:
                moment += np.sqrt(w) @ rows
        weight, mean = float(weights.sum()), None
        if self.affine:
            offset = moment / weight if weight > 0 else moment
            gram -= np.outer(offset, moment)
            mean = shift + offset
        return self._cut(*_spectrum_of_gram(gram), Sketch(np.empty((0, dim)), weight, mean))

    def _uncut(self, points: Array, weights: Array) -> Sketch:
        """All rows as they are."""
        weight, mean = float(weights.sum()), np.zeros(points.shape[1])
        if self.affine and weight > 0:
            mean = weights @ points / weight
        return Sketch(_weighed(points, mean, weights), weight, mean if self.affine else None)

    def merge(self, first: Sketch, second: Sketch) -> Sketch:
        """The sketch of what both stand for; neither is changed.

        Raises:
          ValueError: they have different widths.
        """
        if not (first.weight > 0 and second.weight > 0):
            return first if first.weight > 0 else second
        if first.dim != second.dim:
            raise ValueError(f"points: must all have the same number of columns, got {[first.dim, second.dim]}")
        weight, rows, mean = first.weight + second.weight, [first.rows, second.rows], None
        if first.mean is not None and second.mean is not None:
            share, apart = second.weight / weight, second.mean - first.mean
            mean = first.mean + share * apart
            rows.append(math.sqrt(first.weight * share) * apart[None])
        lost = first.additive + second.additive, first.shrinkage + second.shrinkage
        return self._cut(*_spectrum(np.concatenate(rows)), Sketch(first.rows[:0], weight, mean, *lost))

    def merge_all(self, sketches: Iterable[Sketch], dim: int = 0) -> Sketch:
        """One of all of them, from left to right; without rows if there are none."""
        nothing = Sketch(np.empty((0, dim)), 0.0, np.zeros(dim) if self.affine else None)
        return functools.reduce(self.merge, sketches, nothing)

    def _cut(self, squares: Array, rows: Array, together: Sketch) -> Sketch:
        """`together` with the rows that are kept: all if there are few enough, else shrunk."""
        kept = self.kept(rows.shape[1])
        if len(squares) <= kept:
            return dataclasses.replace(together, rows=rows[squares > 0])
        cut = float(squares[kept])
        left = np.maximum(squares[:kept] - cut, 0.0)
        factor = np.sqrt(np.divide(left, squares[:kept], out=np.zeros(kept), where=left > 0))
        return dataclasses.replace(
            together,
            rows=(rows[:kept] * factor[:, None])[left > 0],
            additive=together.additive + float(squares.sum() - left.sum()),
            shrinkage=together.shrinkage + cut,
        )

    def relaxed(self, sketch: Sketch) -> Relaxed:
        """What is sent: the `sent` longest rows, as points of equal weight."""
        squares = np.einsum("md,md->m", sketch.rows, sketch.rows)
        rows, dropped = sketch.rows[: self.sent], squares[self.sent :]
        additive = sketch.additive + float(dropped.sum())
        slack = min(additive, self.r * sketch.shrinkage + float(dropped[: self.r].sum()))
        if not sketch.weight > 0:
            return Relaxed(np.empty((0, sketch.dim)), np.empty(0), additive, slack)
        if sketch.mean is None:
            rows = rows if len(rows) else np.zeros((1, sketch.dim))
            points = rows * math.sqrt(len(rows) / sketch.weight)
        else:
            # Orthonormal columns, each adding up to zero: they turn rows into points about the mean.
            simplex = linalg.helmert(len(rows) + 1).T
            points = sketch.mean + math.sqrt(len(simplex) / sketch.weight) * (simplex @ rows)
        return Relaxed(points, np.full(len(points), sketch.weight / len(points)), additive, slack)


def _weighed(points: Array, origin: Array, weights: Array) -> Array:
    """sqrt(w) (x - origin), (n, d) float64."""
    rows: Array = points - origin
    return rows if (weights == 1).all() else rows * np.sqrt(weights)[:, None]


def _spectrum(rows: Array) -> tuple[Array, Array]:
    """Squares (m,) of the singular values of `rows`, descending, and S V^T (m, d), by the smaller of the two Grams."""
    if len(rows) >= rows.shape[1]:
        return _spectrum_of_gram(rows.T @ rows)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    return np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1].T @ rows)


def _spectrum_of_gram(gram: Array) -> tuple[Array, Array]:
    """The same of the rows whose Gram matrix (d, d) this is."""
    values, vectors = np.linalg.eigh(gram)
    squares = np.maximum(values[::-1], 0.0)
    return squares, np.ascontiguousarray(np.sqrt(squares)[:, None] * vectors[:, ::-1].T)
