"""The nearest of k centers for every point: the kernel that everything else waits for.

Two ways with one contract. Below `MATRIX_DIM` dimensions, and where the centers have few coordinates in all, a blocked
kernel compares 64 points at a time with four centers, coordinates transposed so that the inner loop is a vector over
points, by direct differences. Above, a matrix product finds the winner and one direct difference gives its distance;
where that is so small that rounding in the product may have named another than the nearest, the blocked kernel decides.
Both are single-threaded and release the GIL: parallelism is Beam's.
"""
from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from beam_coresets._jit import fast_kernel

MATRIX_DIM = 48
_MATRIX_SIZE = 5000  # k x d from which on the product wins, by 64 to 768 dimensions and 5 to 500 centers
_MATRIX_ROWS = 4096
_DOUBT = 800  # times the dtype's precision: below this share of a point's squared size it is compared directly

Array = npt.NDArray[Any]


@fast_kernel
def _blocked(points, centers, index, dist_sq):  # type: ignore[no-untyped-def]
    n, d = points.shape
    k = centers.shape[0]
    size = 256 if d <= 16 else 64
    quads = k // 4 * 4
    zero = points.dtype.type(0)
    columns = np.zeros((d, size), points.dtype)
    a0 = np.empty(size, points.dtype)
    a1 = np.empty(size, points.dtype)
    a2 = np.empty(size, points.dtype)
    a3 = np.empty(size, points.dtype)
    best = np.empty(size, points.dtype)
    winner = np.zeros(size, np.int32)
    for low in range(0, n, size):
        rows = min(n, low + size) - low
        for i in range(rows):
            for t in range(d):
                columns[t, i] = points[low + i, t]
        for i in range(size):
            best[i] = np.inf
            winner[i] = 0
        for j in range(0, quads, 4):
            for i in range(size):
                a0[i] = zero
                a1[i] = zero
                a2[i] = zero
                a3[i] = zero
            for t in range(d):
                c0, c1, c2, c3 = centers[j, t], centers[j + 1, t], centers[j + 2, t], centers[j + 3, t]
                for i in range(size):
                    x = columns[t, i]
                    q0, q1, q2, q3 = x - c0, x - c1, x - c2, x - c3
                    a0[i] += q0 * q0
                    a1[i] += q1 * q1
                    a2[i] += q2 * q2
                    a3[i] += q3 * q3
            for i in range(size):
                b, w = best[i], winner[i]
                closer = a0[i] < b
                b = a0[i] if closer else b
                w = np.int32(j) if closer else w
                closer = a1[i] < b
                b = a1[i] if closer else b
                w = np.int32(j + 1) if closer else w
                closer = a2[i] < b
                b = a2[i] if closer else b
                w = np.int32(j + 2) if closer else w
                closer = a3[i] < b
                b = a3[i] if closer else b
                w = np.int32(j + 3) if closer else w
                best[i] = b
                winner[i] = w
        for j in range(quads, k):
            for i in range(size):
                a0[i] = zero
            for t in range(d):
                c0 = centers[j, t]
                for i in range(size):
                    q = columns[t, i] - c0
                    a0[i] += q * q
            for i in range(size):
                closer = a0[i] < best[i]
                best[i] = a0[i] if closer else best[i]
                winner[i] = np.int32(j) if closer else winner[i]
        for i in range(rows):
            index[low + i] = winner[i]
            dist_sq[low + i] = best[i]


@fast_kernel
def _direct_difference(points, centers, index, dist_sq):  # type: ignore[no-untyped-def]
    for i in range(len(points)):
        total = 0.0
        c = centers[index[i]]
        for t in range(points.shape[1]):
            q = np.float64(points[i, t]) - np.float64(c[t])
            total += q * q
        dist_sq[i] = total


@functools.cache
def _threads() -> ThreadpoolController:
    # Looking for the loaded libraries takes longer than a small product does.
    return ThreadpoolController()


def blas_on_one_thread() -> Any:
    """A context in which products are summed in one order, however many threads there are."""
    return _threads().limit(limits=1, user_api="blas")


def scores(points: Array, centers: Array, rows: int = _MATRIX_ROWS) -> Iterator[tuple[int, Array, Array]]:
    """By so many points at a time: the number of the first, the points (n, d) about the origin of the scores, and the
    scores (n, k), `p.c - |c|**2 / 2` there, higher for nearer centers.

    Args:
      points: (n, d). centers: (k, d) of the points' dtype.
    """
    # Distances are invariant under translation; a common offset would cost the expansion its precision. The median, as
    # one center far out must not be such an offset to all others.
    origin = np.median(centers, axis=0).astype(points.dtype)
    shifted = centers - origin
    half = 0.5 * np.einsum("kd,kd->k", shifted, shifted)
    columns = np.ascontiguousarray(shifted.T)
    with blas_on_one_thread():
        for low in range(0, len(points), rows):
            moved = points[low : low + rows] - origin
            score = moved @ columns
            score -= half
            yield low, moved, score


def _by_matrix(points: Array, centers: Array, index: Array, dist_sq: Array) -> None:
    size_sq = np.empty(len(points), points.dtype)
    for low, moved, score in scores(points, centers):
        index[low : low + len(moved)] = score.argmax(axis=1)
        size_sq[low : low + len(moved)] = np.einsum("nd,nd->n", moved, moved)
    _direct_difference(points, centers, index, dist_sq)
    doubtful = np.flatnonzero(dist_sq < _DOUBT * np.finfo(points.dtype).eps * size_sq)
    if len(doubtful):
        winner, least = np.empty(len(doubtful), np.int32), np.empty(len(doubtful), points.dtype)
        _blocked(points[doubtful], centers, winner, least)
        index[doubtful], dist_sq[doubtful] = winner, least


def nearest(points: Array, centers: Array) -> tuple[Array, Array]:
    """The nearest center of each point, and the squared distance to it.

    Args:
      points: (n, d) float32 or float64.
      centers: (k, d), k >= 1; converted to the points' dtype.

    Returns:
      index (n,) int32 and squared distance (n,) of the points' dtype. Of centers at equal distance, either may be
      named.

    Raises:
      ValueError: no centers, or widths differ.
    """
    if len(centers) < 1:
        raise ValueError("centers: at least one is needed, got 0")
    if points.shape[1] != centers.shape[1]:
        raise ValueError(f"centers: must have the points' {points.shape[1]} columns, got {centers.shape[1]}")
    points = writable(points)
    centers = writable(centers.astype(points.dtype, copy=False))
    index = np.empty(len(points), np.int32)
    dist_sq = np.empty(len(points), points.dtype)
    if points.shape[1] < MATRIX_DIM or centers.size < _MATRIX_SIZE:
        _blocked(points, centers, index, dist_sq)
    else:
        _by_matrix(points, centers, index, dist_sq)
    return index, dist_sq


def distances_to(points: Array, centers: Array, index: Array) -> Array:
    """The squared distance (n,), of the points' dtype, of each point to the center that `index` (n,) int32 names."""
    dist_sq = np.empty(len(points), points.dtype)
    _direct_difference(writable(points), writable(centers.astype(points.dtype, copy=False)), index, dist_sq)
    return dist_sq


def nearest_numpy(points: Array, centers: Array) -> tuple[Array, Array]:
    """`nearest` in plain NumPy: the reference that tests compare with."""
    dist_sq = ((points[:, None, :].astype(np.float64) - centers[None].astype(np.float64)) ** 2).sum(-1)
    index = dist_sq.argmin(axis=1)
    return index.astype(np.int32), dist_sq[np.arange(len(points)), index]


def writable(array: Array) -> Array:
    """C-contiguous and writable: read-only arrays are another type to numba, which would compile everything twice."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def power_of_distance(dist_sq: Array, z: float) -> Array:
    """dist ** z as float64, from squared distances."""
    if z == 2:
        return dist_sq.astype(np.float64)
    if z == 1:
        return np.sqrt(dist_sq, dtype=np.float64)
    return np.power(dist_sq.astype(np.float64), z / 2)


def cost(points: Array, weights: Array, centers: Array, z: float = 2.0) -> float:
    """`sum_p w(p) min_c dist(p, c)**z`, accumulated in float64."""
    if not len(points):
        return 0.0
    _, dist_sq = nearest(points, centers)
    return float(power_of_distance(dist_sq, z) @ weights)

Metric = Literal["euclidean", "cosine"]
