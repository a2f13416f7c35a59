"""D^z seeding: k rows drawn one after another, each in proportion to its cost to the rows drawn before it."""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.points.nearest import nearest, power_of_distance, writable

Array = npt.NDArray[Any]

SEED_BLOCK = 256  # rows compared at a time; also how many rows share one partial sum of the draw
_COLUMN_DIM = 32  # below this the inner loop runs over rows (coordinates transposed), above it over coordinates


@fast_kernel
def transposed(points):  # type: ignore[no-untyped-def]
    """The points transposed block by block, (blocks, d, SEED_BLOCK), padded with zeros; empty where rows are wide."""
    n, d = points.shape
    if d >= _COLUMN_DIM:
        return np.empty((0, d, SEED_BLOCK), points.dtype)
    columns = np.zeros(((n + SEED_BLOCK - 1) // SEED_BLOCK, d, SEED_BLOCK), points.dtype)
    for i in range(n):
        for t in range(d):
            columns[i // SEED_BLOCK, t, i % SEED_BLOCK] = points[i, t]
    return columns


@fast_kernel
def block_dist_sq(points, columns, block, row, dist_sq):  # type: ignore[no-untyped-def]
    """Squared distances from `row` to the rows of one block; entries past the last row are left as they are."""
    n, d = points.shape
    low = block * SEED_BLOCK
    if len(columns):
        for i in range(SEED_BLOCK):
            dist_sq[i] = 0
        for t in range(d):
            c = points[row, t]
            for i in range(SEED_BLOCK):
                q = columns[block, t, i] - c
                dist_sq[i] += q * q
        return
    for i in range(min(n - low, SEED_BLOCK)):
        total = points.dtype.type(0)
        for t in range(d):
            q = points[low + i, t] - points[row, t]
            total += q * q
        dist_sq[i] = total


@fast_kernel
def _lowered(points, columns, weights, row, z, cost, lowered, sums, dist_sq):  # type: ignore[no-untyped-def]
    """lowered[i] = min(cost[i], w(i) dist(i, row)**z) for padded rows i, with its sum per block; returns the total."""
    total = 0.0
    for block in range(len(sums)):
        low = block * SEED_BLOCK
        block_dist_sq(points, columns, block, row, dist_sq)
        part = 0.0
        if z == 2.0:
            for i in range(SEED_BLOCK):
                c = min(cost[low + i], weights[low + i] * np.float64(dist_sq[i]))
                lowered[low + i] = c
                part += c
        elif z == 1.0:
            for i in range(SEED_BLOCK):
                c = min(cost[low + i], weights[low + i] * np.sqrt(np.float64(dist_sq[i])))
                lowered[low + i] = c
                part += c
        else:
            for i in range(SEED_BLOCK):
                c = min(cost[low + i], weights[low + i] * np.float64(dist_sq[i]) ** (0.5 * z))
                lowered[low + i] = c
                part += c
        sums[block] = part
        total += part
    return total


@fast_kernel
def draw_row(cost, sums, total, u):  # type: ignore[no-untyped-def]
    """The row where the running sum of `cost` first exceeds u * total; never a row of cost zero."""
    threshold = u * total
    block = 0
    while block < len(sums) - 1 and threshold >= sums[block]:
        threshold -= sums[block]
        block += 1
    running = 0.0
    for i in range(block * SEED_BLOCK, (block + 1) * SEED_BLOCK):
        running += cost[i]
        if running > threshold:
            return i
    for i in range((block + 1) * SEED_BLOCK - 1, -1, -1):  # rounding let the threshold slip past the end
        if cost[i] > 0.0:
            return i
    return -1


@fast_kernel
def _padded(weights):  # type: ignore[no-untyped-def]
    """The weights with zeros behind them up to whole blocks, and the sum of each block."""
    blocks = (len(weights) + SEED_BLOCK - 1) // SEED_BLOCK
    padded = np.zeros(blocks * SEED_BLOCK, np.float64)
    for i in range(len(weights)):  # a slice would be compiled with the texts of its errors, 1 s
        padded[i] = weights[i]
    sums = np.empty(blocks, np.float64)
    for block in range(blocks):
        sums[block] = padded[block * SEED_BLOCK : (block + 1) * SEED_BLOCK].sum()
    return padded, sums


@fast_kernel
def _seed(points, weights, z, uniforms, chosen):  # type: ignore[no-untyped-def]
    """Fills `chosen` and returns how many rows were found before the cost reached zero."""
    columns = transposed(points)
    padded, sums = _padded(weights)
    cost, total = padded.copy(), sums.sum()
    lowered, trial = np.empty_like(cost), np.empty_like(cost)
    lowered_sums, trial_sums = np.empty_like(sums), np.empty_like(sums)
    dist_sq = np.zeros(SEED_BLOCK, points.dtype)
    for step in range(len(chosen)):
        if not total > 0.0:
            return step
        best_total = np.inf
        for c in range(1 if step == 0 else uniforms.shape[1]):
            row = draw_row(cost, sums, total, uniforms[step, c])
            if row < 0:
                return step
            if c == 0 and step == 0:
                cost[:] = np.inf
            trial_total = _lowered(points, columns, padded, row, z, cost, trial, trial_sums, dist_sq)
            if trial_total < best_total:
                best_total = trial_total
                chosen[step] = row
                lowered, trial = trial, lowered
                lowered_sums, trial_sums = trial_sums, lowered_sums
        if best_total == np.inf:
            return step
        cost, lowered = lowered, cost
        sums, lowered_sums = lowered_sums, sums
        total = best_total
    return len(chosen)


@fast_kernel
def _dist_sq_to_rows(points, low, high, rows, out):  # type: ignore[no-untyped-def]
    """Squared distances (c, at least high - low) from some points to several wide rows (c, d), which stay near the
    processor; a point is read once for three of them."""
    d = points.shape[1]
    zero = points.dtype.type(0)
    threes = len(rows) // 3 * 3
    for i in range(low, high):
        for c in range(0, threes, 3):
            first, second, third = zero, zero, zero
            for t in range(d):
                x = points[i, t]
                q0, q1, q2 = x - rows[c, t], x - rows[c + 1, t], x - rows[c + 2, t]
                first += q0 * q0
                second += q1 * q1
                third += q2 * q2
            out[c, i - low], out[c + 1, i - low], out[c + 2, i - low] = first, second, third
        for c in range(threes, len(rows)):
            first = zero
            for t in range(d):
                q = points[i, t] - rows[c, t]
                first += q * q
            out[c, i - low] = first


@fast_kernel
def _seed_wide(points, weights, z, uniforms, chosen):  # type: ignore[no-untyped-def]
    """As `_seed`, for points that are wide: each step reads them once, for all of its candidates."""
    n, most = points.shape[0], uniforms.shape[1]
    padded, sums = _padded(weights)
    cost, total, blocks = padded.copy(), sums.sum(), len(sums)
    lowered = np.zeros((most, len(cost)))
    lowered_sums = np.empty((most, blocks))
    rows = np.empty(most, np.int64)
    dist_sq = np.zeros((most, SEED_BLOCK), points.dtype)
    for step in range(len(chosen)):
        if not total > 0.0:
            return step
        count = 1 if step == 0 else most
        for c in range(count):
            rows[c] = draw_row(cost, sums, total, uniforms[step, c])
            if rows[c] < 0:
                return step
        if step == 0:
            cost[:] = np.inf
        candidates = points[rows[:count]]
        for block in range(blocks):
            low = block * SEED_BLOCK
            _dist_sq_to_rows(points, low, min(n, low + SEED_BLOCK), candidates, dist_sq)
            for c in range(count):
                part = 0.0
                for i in range(SEED_BLOCK):
                    q = np.float64(dist_sq[c, i])
                    if z == 1.0:
                        q = np.sqrt(q)
                    elif z != 2.0:
                        q = q ** (0.5 * z)
                    q = min(cost[low + i], padded[low + i] * q)
                    lowered[c, low + i] = q
                    part += q
                lowered_sums[c, block] = part
        best, best_total = 0, np.inf
        for c in range(count):
            trial = lowered_sums[c].sum()
            if trial < best_total:
                best, best_total = c, trial
        if best_total == np.inf:
            return step
        chosen[step] = rows[best]
        for i in range(len(cost)):
            cost[i] = lowered[best, i]
        for block in range(blocks):
            sums[block] = lowered_sums[best, block]
        total = best_total
    return len(chosen)


def dz_seeding(
    points: Array, weights: Array, k: int, z: float, rng: np.random.Generator, candidates: int = 1
) -> npt.NDArray[np.int64]:
    """Rows of a D^z seeding: the first drawn by weight, each next one by `w(p) min_c dist(p, c)**z`.

    Arthur and Vassilvitskii, *k-means++* (2007), Theorem 1.1 for z = 2 and its remark for other z: O(log k) times the
    optimum in expectation. With `candidates` > 1 each step keeps the best of that many draws (greedy seeding, as
    scikit-learn does), for which the bound is weaker and the practice better.

    Args:
      points: (n, d) float32 or float64.
      weights: (n,) non-negative; rows of weight zero are never drawn.
      k: how many rows.
      z: the power of the distance, at least 1.
      rng: draws min(k, n) * candidates uniform numbers, however many rows are found.
      candidates: draws compared in each step after the first.

    Returns:
      (k',) distinct row indices in the order drawn. k' < k where fewer than k distinct points have positive weight.

    Raises:
      ValueError: k, z or candidates below 1, or the weights' length differs.
    """
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    if not z >= 1:
        raise ValueError(f"z: must be at least 1, got {z}")
    if candidates < 1:
        raise ValueError(f"candidates: must be at least 1, got {candidates}")
    if len(weights) != len(points):
        raise ValueError(f"weights: must have {len(points)} rows like points, got {len(weights)}")
    chosen = np.empty(min(k, len(points)), np.int64)
    uniforms = rng.random((len(chosen), candidates))
    if not len(points):
        return chosen
    weights = writable(np.asarray(weights, np.float64))
    seed = _seed_wide if candidates > 1 and points.shape[1] >= _COLUMN_DIM else _seed
    found = seed(writable(points), weights, float(z), uniforms, chosen)
    if found < len(chosen) and points.dtype == np.float32:  # squares may have left the range of float32
        found = seed(points.astype(np.float64), weights, float(z), uniforms, chosen)
    return chosen[:found]


def dz_draw(
    points: Array, weights: Array, count: int, z: float, rng: np.random.Generator, per_round: int | None = None
) -> npt.NDArray[np.int64]:
    """Rows of D^z sampling, several a round: the first by weight, then round after round independent draws with
    probability proportional to `w(p) min dist(p, drawn before)**z`.

    Args:
      points: (n, d). weights: (n,) non-negative.
      count: how many rows.
      z: power of the distance, at least 1.
      per_round: draws a round; by default so that there are about `DRAW_ROUNDS`.

    Returns:
      (c,) distinct rows in the order drawn; c < count only where fewer distinct points have weight.

    Raises:
      ValueError: count, z or per_round below 1.
    """
    if count < 1:
        raise ValueError(f"count: must be at least 1, got {count}")
    if not z >= 1:
        raise ValueError(f"z: must be at least 1, got {z}")
    count = min(count, len(points))
    per_round = max(1, count // DRAW_ROUNDS) if per_round is None else per_round
    if per_round < 1:
        raise ValueError(f"per_round: must be at least 1, got {per_round}")
    drawn: dict[int, None] = {}
    cost = np.array(weights, np.float64)
    while len(drawn) < count and cost.any():
        new = _by_share(cost, min(per_round, count - len(drawn)) if drawn else 1, rng)
        least = power_of_distance(nearest(points, points[new])[1], z) * weights
        cost = np.minimum(cost, least) if drawn else least
        drawn |= dict.fromkeys(new.tolist())
    return np.array(list(drawn), np.int64)


def _by_share(cost: Array, count: int, rng: np.random.Generator) -> Array:
    """Rows drawn independently, in proportion to `cost`; never one that costs nothing."""
    ends = np.cumsum(cost)
    rows = np.searchsorted(ends, rng.random(count) * ends[-1], side="right")
    return np.minimum(rows, np.flatnonzero(cost)[-1])

DRAW_ROUNDS = 40  # of D^z sampling: with 40 k candidates k rows a round, and of half of them half as many
