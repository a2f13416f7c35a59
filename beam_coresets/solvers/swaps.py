"""Swap local search: replace one center by one drawn point, whichever center is best to give up.

Lattanzi and Sohler, *A better k-means++ algorithm via local search* (ICML 2019), Algorithm 2: D^z-sampled candidates.
With the nearest and second-nearest distance of every point, one pass over the points prices the removal of all k
centers at once (as in FasterPAM, Schubert and Rousseeuw 2021).
"""
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel, rising_order
from beam_coresets.points.nearest import MATRIX_DIM, blas_on_one_thread
from beam_coresets.points.seeding import SEED_BLOCK, block_dist_sq, draw_row, transposed

Array = npt.NDArray[Any]

_MATRIX_ROWS = 4096


@fast_kernel
def _two_of_row(points, i, centers, first, second, first_sq, second_sq):  # type: ignore[no-untyped-def]
    """Writes the nearest and second-nearest center of row i."""
    d = points.shape[1]
    j1, j2 = np.int32(-1), np.int32(-1)
    b1 = b2 = points.dtype.type(np.inf)
    for j in range(len(centers)):
        total = points.dtype.type(0)
        for t in range(d):
            q = points[i, t] - centers[j, t]
            total += q * q
        if total < b1:
            j2, b2 = j1, b1
            j1, b1 = np.int32(j), total
        elif total < b2:
            j2, b2 = np.int32(j), total
    first[i], second[i], first_sq[i], second_sq[i] = j1, j2, b1, b2


@fast_kernel
def _two_of_all(points, centers, first, second, first_sq, second_sq):  # type: ignore[no-untyped-def]
    for i in range(len(points)):
        _two_of_row(points, i, centers, first, second, first_sq, second_sq)


@fast_kernel
def _two_distances(points, centers, first, second, first_sq, second_sq):  # type: ignore[no-untyped-def]
    """Direct differences to the two centers that the matrix product named, in order."""
    d = points.shape[1]
    for i in range(len(points)):
        a = b = points.dtype.type(0)
        for t in range(d):
            q = points[i, t] - centers[first[i], t]
            a += q * q
            q = points[i, t] - centers[second[i], t]
            b += q * q
        if b < a:
            first[i], second[i] = second[i], first[i]
            a, b = b, a
        first_sq[i], second_sq[i] = a, b


def _two_by_matrix(points: Array, centers: Array, first: Array, second: Array) -> None:
    half = 0.5 * np.einsum("kd,kd->k", centers, centers)
    columns = np.ascontiguousarray(centers.T)
    with blas_on_one_thread():
        for low in range(0, len(points), _MATRIX_ROWS):
            score = points[low : low + _MATRIX_ROWS] @ columns
            score -= half
            best = score.argmax(axis=1)
            first[low : low + len(score)] = best
            score[np.arange(len(score)), best] = -np.inf
            second[low : low + len(score)] = score.argmax(axis=1)


@fast_kernel
def _two_costs(weights, first_sq, second_sq, z, most, n, first_cost, second_cost):  # type: ignore[no-untyped-def]
    for i in range(n):
        first_cost[i] = weights[i] * min(most, np.float64(first_sq[i]) ** (0.5 * z))
        second_cost[i] = weights[i] * min(most, np.float64(second_sq[i]) ** (0.5 * z))


@fast_kernel
def _sums(first, first_cost, second_cost, n, sums, removal):  # type: ignore[no-untyped-def]
    """Costs per block of rows, and what the removal of each center would add; returns the total cost."""
    removal[:] = 0.0
    total = 0.0
    for block in range(len(sums)):
        part = 0.0
        for i in range(block * SEED_BLOCK, min(n, (block + 1) * SEED_BLOCK)):
            part += first_cost[i]
            removal[first[i]] += second_cost[i] - first_cost[i]
        sums[block] = part
        total += part
    return total


@fast_kernel
def _price(  # type: ignore[no-untyped-def]
    points, columns, weights, row, z, most, first, first_cost, second_sq, second_cost, removal, dist_sq, change
):
    """change[j] = cost after row `row` becomes a center and center j is removed, less the cost now."""
    n = len(points)
    gain = 0.0
    for j in range(len(removal)):
        change[j] = removal[j]
    for block in range((n + SEED_BLOCK - 1) // SEED_BLOCK):
        low = block * SEED_BLOCK
        block_dist_sq(points, columns, block, row, dist_sq)
        for i in range(low, min(n, low + SEED_BLOCK)):
            if dist_sq[i - low] < second_sq[i]:
                d = np.float64(dist_sq[i - low])
                c = weights[i] * min(most, d if z == 2.0 else np.sqrt(d) if z == 1.0 else d ** (0.5 * z))
                saved = max(0.0, first_cost[i] - c)
                gain += saved
                # With the new center there, losing center first[i] costs the point c (or nothing), not second_cost.
                change[first[i]] += c - second_cost[i] + saved
    change -= gain


@fast_kernel
def _replace(points, columns, row, j, centers, first, second, first_sq, second_sq, dist_sq):  # type: ignore[no-untyped-def]
    """Puts row `row` in the place of center j and brings the two nearest centers of every point up to date."""
    n = len(points)
    for t in range(points.shape[1]):
        centers[j, t] = points[row, t]
    for block in range((n + SEED_BLOCK - 1) // SEED_BLOCK):
        low = block * SEED_BLOCK
        block_dist_sq(points, columns, block, row, dist_sq)
        for i in range(low, min(n, low + SEED_BLOCK)):
            d = dist_sq[i - low]
            if first[i] == j or second[i] == j:
                _two_of_row(points, i, centers, first, second, first_sq, second_sq)
            elif d < first_sq[i]:
                second[i], second_sq[i] = first[i], first_sq[i]
                first[i], first_sq[i] = j, d
            elif d < second_sq[i]:
                second[i], second_sq[i] = j, d


@fast_kernel
def _search(  # type: ignore[no-untyped-def]
    points, columns, weights, centers, z, most, first, second, first_sq, second_sq, uniforms, most_swaps, least_gain
):
    """Tries one drawn point for each uniform number, and stops after `most_swaps`; returns (swaps, trials)."""
    n = len(points)
    blocks = (n + SEED_BLOCK - 1) // SEED_BLOCK
    first_cost = np.zeros(blocks * SEED_BLOCK)
    second_cost = np.zeros(blocks * SEED_BLOCK)
    sums, removal, change = np.empty(blocks), np.empty(len(centers)), np.empty(len(centers))
    dist_sq = np.zeros(SEED_BLOCK, points.dtype)
    _two_costs(weights, first_sq, second_sq, z, most, n, first_cost, second_cost)
    total = _sums(first, first_cost, second_cost, n, sums, removal)
    swaps = 0
    for trial in range(len(uniforms)):
        row = draw_row(first_cost, sums, total, uniforms[trial])
        if row < 0:
            return swaps, trial
        _price(
            points, columns, weights, row, z, most, first, first_cost, second_sq, second_cost, removal, dist_sq, change
        )
        j = np.int32(np.argmin(change))
        if change[j] < -least_gain * total:
            _replace(points, columns, row, j, centers, first, second, first_sq, second_sq, dist_sq)
            _two_costs(weights, first_sq, second_sq, z, most, n, first_cost, second_cost)
            total = _sums(first, first_cost, second_cost, n, sums, removal)
            swaps += 1
            if swaps >= most_swaps:
                return swaps, trial + 1
    return swaps, len(uniforms)


@fast_kernel
def _drawn_swap(  # type: ignore[no-untyped-def]
    points, columns, weights, z, most, first, first_cost, second_sq, second_cost, sums, removal, u, rank
):
    """A drawn row, and the center whose removal is the rank-th cheapest; row -1 if every point lies on a center."""
    row = draw_row(first_cost, sums, sums.sum(), u)
    if row < 0:
        return -1, -1
    change, dist_sq = np.empty_like(removal), np.zeros(SEED_BLOCK, points.dtype)
    _price(points, columns, weights, row, z, most, first, first_cost, second_sq, second_cost, removal, dist_sq, change)
    return row, int(rising_order(change)[min(rank, len(change) - 1)])


class SwapSearch:
    """Swap trials on one weighted point set; holds what does not change from call to call.

    Args:
      points: (n, d) float32 or float64, C-contiguous and writable, coordinates of moderate size near the origin.
      weights: (n,) float64, positive.
      z: the power of the distance.
    """

    def __init__(self, points: Array, weights: Array, z: float) -> None:
        self.points, self.weights, self.z = points, weights, float(z)
        self._columns = transposed(points)

    def two_nearest(self, centers: Array) -> tuple[Array, Array, Array, Array]:
        """Nearest and second-nearest center of every point (int32) and their squared distances; k >= 2."""
        n = len(self.points)
        first, second = np.zeros(n, np.int32), np.zeros(n, np.int32)
        first_sq, second_sq = np.empty(n, self.points.dtype), np.empty(n, self.points.dtype)
        if self.points.shape[1] < MATRIX_DIM:
            _two_of_all(self.points, centers, first, second, first_sq, second_sq)
        else:
            _two_by_matrix(self.points, centers, first, second)
            _two_distances(self.points, centers, first, second, first_sq, second_sq)
        return first, second, first_sq, second_sq

    def run(
        self, centers: Array, uniforms: Array, most: int, least_gain: float = 1e-5, threshold: float = math.inf
    ) -> tuple[Array, int, int]:
        """Tries one candidate for each of `uniforms` and takes every swap that lowers the cost, up to `most` of them.

        Args:
          centers: (k, d), k >= 2.
          uniforms: (trials,) numbers in [0, 1), one for each candidate.
          most: stop after so many swaps (their order matters less after a descent).
          least_gain: the relative gain that a swap must bring.
          threshold: what a point costs at most, before its weight.

        Returns:
          The centers, how many swaps were made, and how many candidates were tried.
        """
        centers = np.array(centers, self.points.dtype, order="C")
        near = self.two_nearest(centers)
        swaps, tried = _search(
            self.points, self._columns, self.weights, centers, self.z, threshold, *near, uniforms, most, least_gain
        )
        return centers, int(swaps), int(tried)

    def proposer(self, centers: Array, threshold: float = math.inf) -> Callable[[float, int], tuple[int, int]]:
        """A function from (uniform number, rank) to a swap (row, center), whether or not it lowers the cost by itself.
        No point costs more than `threshold`.

        The number draws the row; the center is the one whose removal is then the rank-th cheapest, counted from 0.
        Row is -1 if every point lies on a center.
        """
        n = len(self.points)
        first, _, first_sq, second_sq = self.two_nearest(np.array(centers, self.points.dtype, order="C"))
        blocks = (n + SEED_BLOCK - 1) // SEED_BLOCK
        first_cost, second_cost = np.zeros(blocks * SEED_BLOCK), np.zeros(blocks * SEED_BLOCK)
        _two_costs(self.weights, first_sq, second_sq, self.z, threshold, n, first_cost, second_cost)
        sums, removal = np.empty(blocks), np.empty(len(centers))
        _sums(first, first_cost, second_cost, n, sums, removal)

        def propose(u: float, rank: int) -> tuple[int, int]:
            row, center = _drawn_swap(
                self.points, self._columns, self.weights, self.z, threshold,
                first, first_cost, second_sq, second_cost, sums, removal, u, rank,
            )  # fmt: skip
            return int(row), int(center)

        return propose
