"""Flats: r-dimensional subspaces, linear or affine; the nearest of k to every point, the best ones for given points.

k flats are a pair of arrays: `centers` (k, d), a point on each (zeros for linear ones), and `bases` (k, r, d), whose
rows are orthonormal. All distances are direct: the projection is taken off coordinate by coordinate, as a difference of
squared lengths keeps no digit of a residual far below the extent. Single-threaded and without the GIL.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.points.nearest import writable

Array = npt.NDArray[Any]

FLAT_BLOCK = 128
FLAT_ROUNDING = 1e-28  # share of the points' total square below which a cost is nothing but rounding


class Flats(NamedTuple):
    """k flats of one dimension: `centers` (k, d) and orthonormal `bases` (k, r, d), of one dtype."""

    centers: Array
    bases: Array

    def take(self, which: Any) -> Flats:
        """Some of them, in the order of `which`."""
        return Flats(self.centers[which], self.bases[which])

    def astype(self, dtype: Any) -> Flats:
        """The same in another precision."""
        return Flats(self.centers.astype(dtype), self.bases.astype(dtype))

    @staticmethod
    def concatenate(*several: Flats) -> Flats:
        """All of them, in order."""
        return Flats(*(np.concatenate(arrays) for arrays in zip(*several, strict=True)))


@fast_kernel
def _residuals(columns, center, basis, y, along, dist_sq):  # type: ignore[no-untyped-def]
    """Coordinates along a flat (r, block) and squared distances to it (block,); `columns` (d, block) are the points."""
    d, r = len(center), len(basis)
    along[:] = 0
    for t in range(d):
        c = center[t]
        for i in range(FLAT_BLOCK):
            y[t, i] = columns[t, i] - c
        for a in range(r):
            b = basis[a, t]
            for i in range(FLAT_BLOCK):
                along[a, i] += b * y[t, i]
    dist_sq[:] = 0
    for t in range(d):
        for a in range(r):
            b = basis[a, t]
            for i in range(FLAT_BLOCK):
                y[t, i] -= b * along[a, i]
        for i in range(FLAT_BLOCK):
            dist_sq[i] += y[t, i] * y[t, i]


@fast_kernel
def _nearest(points, centers, bases, precision, index, dist_sq, length):  # type: ignore[no-untyped-def]
    """`nearest_flat`, and for each point the sum over a of precision[j, a] * (a-th coordinate on its flat j)**2."""
    n, d = points.shape
    k, r = bases.shape[0], bases.shape[1]
    columns, y = np.zeros((d, FLAT_BLOCK), centers.dtype), np.empty((d, FLAT_BLOCK), centers.dtype)
    along, trial = np.empty((r, FLAT_BLOCK), centers.dtype), np.empty(FLAT_BLOCK, centers.dtype)
    best, winner = np.empty(FLAT_BLOCK, centers.dtype), np.zeros(FLAT_BLOCK, np.int32)
    own, trial_own = np.empty(FLAT_BLOCK, centers.dtype), np.empty(FLAT_BLOCK, centers.dtype)
    for low in range(0, n, FLAT_BLOCK):
        rows = min(n, low + FLAT_BLOCK) - low
        for i in range(rows):
            for t in range(d):
                columns[t, i] = points[low + i, t]
        best[:] = np.inf
        winner[:] = 0
        own[:] = 0
        for j in range(k):
            _residuals(columns, centers[j], bases[j], y, along, trial)
            trial_own[:] = 0
            for a in range(r):
                p = precision[j, a]
                for i in range(FLAT_BLOCK):
                    trial_own[i] += p * along[a, i] * along[a, i]
            for i in range(FLAT_BLOCK):
                closer = trial[i] < best[i]
                best[i] = trial[i] if closer else best[i]
                own[i] = trial_own[i] if closer else own[i]
                winner[i] = np.int32(j) if closer else winner[i]
        for i in range(rows):
            index[low + i] = winner[i]
            dist_sq[low + i] = best[i]
            length[low + i] = own[i]


@fast_kernel
def _distances(points, centers, bases, out):  # type: ignore[no-untyped-def]
    n, d = points.shape
    k, r = bases.shape[0], bases.shape[1]
    columns, y = np.zeros((d, FLAT_BLOCK), centers.dtype), np.empty((d, FLAT_BLOCK), centers.dtype)
    along, trial = np.empty((r, FLAT_BLOCK), centers.dtype), np.empty(FLAT_BLOCK, centers.dtype)
    for low in range(0, n, FLAT_BLOCK):
        rows = min(n, low + FLAT_BLOCK) - low
        for i in range(rows):
            for t in range(d):
                columns[t, i] = points[low + i, t]
        for j in range(k):
            _residuals(columns, centers[j], bases[j], y, along, trial)
            for i in range(rows):
                out[j, low + i] = trial[i]


@fast_kernel
def _coordinates(points, index, centers, bases, out):  # type: ignore[no-untyped-def]
    for i in range(len(points)):
        j = index[i]
        for a in range(bases.shape[1]):
            s = 0.0
            for t in range(points.shape[1]):
                s += bases[j, a, t] * (points[i, t] - centers[j, t])
            out[i, a] = s


@fast_kernel
def _moments(points, weights, index, affine, total, mean, scatter):  # type: ignore[no-untyped-def]
    """Weight, mean (unless linear) and scatter about it of each cluster; two passes, as offsets may be large."""
    n, d = points.shape
    y = np.empty(d)
    for i in range(n):
        total[index[i]] += weights[i]
    if affine:
        for i in range(n):
            w = weights[i]
            for t in range(d):
                mean[index[i], t] += w * points[i, t]
        for j in range(len(total)):
            for t in range(d):
                mean[j, t] = mean[j, t] / total[j] if total[j] > 0 else 0.0
    for i in range(n):
        j, w = index[i], weights[i]
        for t in range(d):
            y[t] = points[i, t] - mean[j, t]
        for t in range(d):
            q = w * y[t]
            for u in range(t + 1):
                scatter[j, t, u] += q * y[u]


def nearest_flat(points: Array, flats: Flats) -> tuple[Array, Array]:
    """The nearest flat of each point, and the squared distance to it.

    Args:
      points: (n, d) float32 or float64.
      flats: k >= 1 of them; all is computed in their precision.

    Returns:
      index (n,) int32 and squared distance (n,) of the flats' dtype. Of flats at equal distance the first is named.

    Raises:
      ValueError: no flats, or widths differ.
    """
    index, dist_sq, _ = nearest_with_length(points, flats, np.zeros(flats.bases.shape[:2]))
    return index, dist_sq


def nearest_with_length(points: Array, flats: Flats, precision: Array) -> tuple[Array, Array, Array]:
    """`nearest_flat`, and the squared length (n,) of each point's coordinates on its flat, weighed by precision (k,
    r)."""
    if not len(flats.centers):
        raise ValueError("flats: at least one is needed, got 0")
    if points.shape[1] != flats.centers.shape[1]:
        raise ValueError(f"flats: must have the points' {points.shape[1]} columns, got {flats.centers.shape[1]}")
    centers, bases, dtype = writable(flats.centers), writable(flats.bases), flats.centers.dtype
    index, dist_sq, length = np.empty(len(points), np.int32), np.empty(len(points), dtype), np.empty(len(points), dtype)
    _nearest(writable(points), centers, bases, writable(precision.astype(dtype)), index, dist_sq, length)
    return index, dist_sq, length


def distances(points: Array, flats: Flats) -> Array:
    """(k, n) squared distances of all points to all flats, in the flats' precision."""
    out = np.empty((len(flats.centers), len(points)), flats.centers.dtype)
    _distances(writable(points), writable(flats.centers), writable(flats.bases), out)
    return out


def coordinates(points: Array, flats: Flats, index: Array) -> Array:
    """(n, r) float64: where on its flat each point's projection lies, from the flat's center on."""
    out = np.empty((len(points), flats.bases.shape[1]))
    _coordinates(writable(points), index, writable(flats.centers), writable(flats.bases), out)
    return out


def fit(
    points: Array, weights: Array, index: Array, before: Flats, affine: bool
) -> tuple[Flats, Array]:
    """The flats of least squared distance to each cluster's points: mean (if affine) and leading eigenvectors.

    Args:
      points: (n, d). weights: (n,). index: (n,) int32.
      before: k flats; a cluster without weight keeps its own.

    Returns:
      float64 flats, and (k, r) each cluster's weighted mean square along each direction, descending.
    """
    k, r, d = before.bases.shape
    total, mean, scatter = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
    _moments(writable(points), weights, index, affine, total, mean, scatter)
    values, vectors = np.linalg.eigh(scatter)  # reads the lower triangle
    flats = Flats(mean, np.ascontiguousarray(vectors[:, :, ::-1][:, :, :r].transpose(0, 2, 1)))
    empty = total <= 0
    flats.centers[empty], flats.bases[empty] = before.centers[empty], before.bases[empty]
    spread = np.maximum(values[:, ::-1][:, :r], 0.0) / np.where(empty, 1.0, total)[:, None]
    return flats, spread


def through_neighbours(points: Array, weights: Array, rows: Array, counts: Array, r: int, affine: bool) -> Flats:
    """Flats fitted to the neighbours of some points: of row `rows[c]` the `counts[c]` nearest points.

    Nearest by distance for affine flats; by angle at the origin for linear ones, on which a point and its multiples lie
    alike.

    Args:
      points: (n, d). weights: (n,) positive. rows, counts: (m,).

    Returns:
      m flats, float64.
    """
    chosen = []
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        far = _apart(points, points[row], affine)
        chosen.append(np.argpartition(far, count - 1)[:count] if count < len(points) else np.arange(len(points)))
    return fitted(points, weights, chosen, r, affine)


def _apart(points: Array, origin: Array, affine: bool) -> Array:
    """A measure (n,) that ranks points by distance from one, or by angle."""
    if affine:
        y = points - origin
        return np.einsum("nd,nd->n", y, y)
    along = points @ origin
    size_sq = np.einsum("nd,nd->n", points, points)
    return -np.divide(along * along, size_sq, out=np.full(len(points), -1.0), where=size_sq > 0)


def fitted(points: Array, weights: Array, chosen: list[Array], r: int, affine: bool) -> Flats:
    """One flat for each set of rows."""
    d = points.shape[1]
    rows = np.concatenate(chosen)
    index = np.repeat(np.arange(len(chosen), dtype=np.int32), [len(c) for c in chosen])
    before = Flats(np.zeros((len(chosen), d)), np.zeros((len(chosen), r, d)))
    return fit(points[rows], weights[rows], index, before, affine)[0]


def seeded(
    points: Array, weights: Array, k: int, r: int, affine: bool, rng: np.random.Generator, candidates: int = 4
) -> Flats:
    """k flats, one after another: of a few through the neighbours of points drawn by `w dist**2` the one that lowers
    the cost most.

    D^2 seeding (Arthur and Vassilvitskii 2007) with flats in place of points. The neighbourhoods are of many sizes,
    from those that just span a flat to a k-th of all points: noise hides the direction of small ones, other clusters
    that of large ones.

    Args:
      points: (n, d). weights: (n,) non-negative, some positive.
      candidates: how many are compared in a step.

    Returns:
      Up to k flats, float64: fewer where the cost has come to zero.
    """
    start = weights @ points / weights.sum() if affine else np.zeros(points.shape[1])
    away = points - start
    cost = np.einsum("nd,nd->n", away, away).astype(np.float64)
    rounded = (4 * np.finfo(points.dtype).eps) ** 2 * float(weights @ np.einsum("nd,nd->n", points, points))
    floor = max(FLAT_ROUNDING * float(weights @ cost), rounded)  # equal points are a few units apart from their mean
    found: list[Flats] = []
    for step in range(k):
        mass = weights * cost
        if step and not mass.sum() > floor:
            break
        if not mass.any():
            mass = weights
        rows = np.searchsorted(np.cumsum(mass), rng.random(candidates) * mass.sum(), side="right")
        rows = np.minimum(rows, len(points) - 1)
        trial = through_neighbours(points, weights, rows, neighbourhoods(len(points), k, r, rng, candidates), r, affine)
        lowered = np.minimum(cost, distances(points, trial))
        best = int((lowered @ weights).argmin())
        found.append(trial.take([best]))
        cost = lowered[best] if step else distances(points, found[0])[0]
    return Flats.concatenate(*found)


def neighbourhoods(n: int, k: int, r: int, rng: np.random.Generator, count: int) -> Array:
    """(count,) sizes between r and n / k, evenly on a logarithmic scale."""
    low = min(n, r)
    return np.round(low * (max(low, n / k) / low) ** rng.random(count)).astype(np.int64)


def principal(points: Array, weights: Array, r: int, affine: bool) -> tuple[Array, Array]:
    """The best flat for weighted points, by singular values: its center (d,) and basis (r, d), float64.

    Directions go by falling spread, the largest coordinate of each is positive; where the points span fewer than r, any
    others complete them.
    """
    d = points.shape[1]
    exact = points.astype(np.float64)
    center = weights @ exact / weights.sum() if affine else np.zeros(d)
    if affine:  # once more about the mean, which was rounded in proportion to the offset
        center = center + weights @ (exact - center) / weights.sum()
    _, _, rows = np.linalg.svd((exact - center) * np.sqrt(weights)[:, None], full_matrices=False)
    basis = rows[:r]
    if len(basis) < r:
        basis = np.linalg.qr(np.concatenate([basis, np.eye(d)]).T)[0].T[:r]
    largest = np.abs(basis).argmax(axis=1)
    return center, basis * np.sign(basis[np.arange(r), largest])[:, None]
