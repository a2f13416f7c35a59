"""Systematic draws: one pass over a block, for one sample or for all holders of its rows at once, or along a k-d tree
of each cluster."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel, rising_order

Array = npt.NDArray[Any]

RINGS = 8
DRAWS_PER_STRATUM = 4
MOST_SUMS = 1 << 18  # running sums of one pass; with more strata, clusters and rings some share a sum


@dataclasses.dataclass(frozen=True, eq=False)
class Keeping:
    """How likely each of n rows is kept, and by what draws are spread over them.

    Attributes:
      index: (n,) int32, the cluster of each row, of `clusters`.
      cost: (n,) float64, of each row in its cluster, in any unit.
      weights: (n,) float64, in any unit.
      probability: (n,) float64.
    """

    index: Array
    cost: Array
    weights: Array
    probability: Array
    clusters: int


@kernel
def keeping_probabilities(index, cost, weights, clusters, size, mix, out):  # type: ignore[no-untyped-def]
    """Keeping probabilities that add up to `size`: what would exceed one is kept for certain, the rest shares what is
    left."""
    n = len(index)
    cluster_weight = np.zeros(clusters)
    total = 0.0
    for i in range(n):
        cluster_weight[index[i]] += weights[i]
        total += weights[i] * cost[i]
        out[i] = 0.0
    left = float(size)
    by_weight = np.empty(clusters)
    for _ in range(64):  # two or three, unless weights differ by many orders of magnitude
        filled = 0
        for j in range(clusters):
            if cluster_weight[j] > 0:
                filled += 1
        if filled == 0 or left <= 0:
            break
        share = mix if total > 0 else 0.0
        by_cost = left * share / total if total > 0 else 0.0
        for j in range(clusters):
            by_weight[j] = left * (1.0 - share) / (filled * cluster_weight[j]) if cluster_weight[j] > 0 else 0.0
        # What the rest adds up to is summed again: subtracting dominating costs would leave nothing but rounding.
        certain = 0
        total = 0.0
        cluster_weight[:] = 0.0
        for i in range(n):
            if out[i] < 1.0:
                j = index[i]
                w = weights[i]
                p = w * (by_cost * cost[i] + by_weight[j])
                if p >= 1.0:
                    out[i] = 1.0
                    certain += 1
                else:
                    out[i] = p
                    cluster_weight[j] += w
                    total += w * cost[i]
        if certain == 0:
            break
        left -= certain


def draw(
    keeping: Keeping, strata: npt.NDArray[np.int32], rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """One sample: rows (m,) in increasing order, and their unbiased weights (m,) in the unit of `keeping.weights`.

    Args:
      strata: (n,) small numbers from 0, drawn apart from each other.
    """
    rows, out = np.empty(len(strata), np.int64), np.empty(len(strata))
    starts = rng.random((int(strata.max()) + 1) * keeping.clusters * RINGS)
    kept = _draw_one(
        keeping.index, strata, keeping.cost, keeping.weights, keeping.probability, keeping.clusters, starts, rows, out
    )
    return rows[:kept].copy(), out[:kept].copy()


def draw_for_holders(
    keeping: Keeping,
    buckets: npt.NDArray[np.int32],
    indptr: npt.NDArray[np.int64],
    holders: npt.NDArray[np.int32],
    strata: npt.NDArray[np.int64],
    shards: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """An independent sample for every shard, of the rows whose bucket it holds, in one pass over the rows.

    Each (shard, stratum) has running sums of its own, begun at random: what one shard keeps says nothing of what
    another does.

    Args:
      buckets: (n,) of each row.
      indptr, holders: each bucket's shards, bucket b's at indptr[b] to indptr[b + 1].
      strata: as long as `holders`: the stratum, numbered through all shards, in which that shard draws that bucket.
      shards: how many there are.

    Returns:
      bounds (shards + 1,): shard i's are bounds[i] to bounds[i + 1] of rows (m,), increasing for each shard, and
      their unbiased weights (m,), in the unit of `keeping.weights`.
    """
    count = int(strata.max()) + 1 if len(strata) else 1
    cells = min(keeping.clusters * RINGS, max(1, MOST_SUMS // count))
    running = rng.random(count * cells)
    bounds = np.zeros(shards + 1, np.int64)
    room = int(np.diff(indptr).max(initial=0)) * len(buckets)
    shard, row, out = np.empty(room, np.int32), np.empty(room, np.int64), np.empty(room)
    kept = _draw_all(
        keeping.index, keeping.cost, keeping.weights, keeping.probability, keeping.clusters,
        buckets, indptr, holders, strata, cells, running, shard, row, out, bounds,
    )  # fmt: skip
    rows, weights = np.empty(kept, np.int64), np.empty(kept)
    _by_shard(shard, row, out, kept, bounds, rows, weights)
    return bounds, rows, weights


@kernel
def _units(index, cost, weights, clusters):  # type: ignore[no-untyped-def]
    """What brings costs in each cluster to 8 times their share of the cluster's average."""
    weight = np.zeros(clusters)
    unit = np.zeros(clusters)
    for i in range(len(index)):
        weight[index[i]] += weights[i]
        unit[index[i]] += weights[i] * cost[i]
    for j in range(clusters):
        unit[j] = 8.0 * weight[j] / unit[j] if unit[j] > 0 else 0.0
    return unit


@kernel
def _ring(r):  # type: ignore[no-untyped-def]
    """The ring of a cost in that unit; ring r has costs up to 2**(r - 3) times the average."""
    # comparisons instead of a loop or a logarithm: no branch to mispredict
    return (
        np.int64(r > 1.0) + np.int64(r > 2.0) + np.int64(r > 4.0) + np.int64(r > 8.0)
        + np.int64(r > 16.0) + np.int64(r > 32.0) + np.int64(r > 64.0)
    )


@kernel
def _draw_all(  # type: ignore[no-untyped-def]
    index, cost, weights, probability, clusters, buckets, indptr, holders, strata, cells, running, shard, row, out,
    counts
):
    unit = _units(index, cost, weights, clusters)
    kept = 0
    for i in range(len(index)):
        p = probability[i]
        b = buckets[i]
        if p >= 1.0:
            for q in range(indptr[b], indptr[b + 1]):
                shard[kept] = holders[q]
                row[kept] = i
                out[kept] = weights[i]
                counts[holders[q] + 1] += 1
                kept += 1
        elif p > 0.0:
            j = index[i]
            at = j * RINGS + _ring(cost[i] * unit[j])
            if at >= cells:
                at %= cells
            for q in range(indptr[b], indptr[b + 1]):
                cell = strata[q] * cells + at
                a = running[cell] + p
                if a >= 1.0:
                    a -= 1.0
                    shard[kept] = holders[q]
                    row[kept] = i
                    out[kept] = weights[i] / p
                    counts[holders[q] + 1] += 1
                    kept += 1
                running[cell] = a
    return kept


@kernel
def _by_shard(shard, row, out, kept, bounds, rows, weights):  # type: ignore[no-untyped-def]
    """A counting sort; turns counts, each one place up, into bounds."""
    for s in range(1, len(bounds)):
        bounds[s] += bounds[s - 1]
    place = bounds[:-1].copy()
    for q in range(kept):
        at = place[shard[q]]
        rows[at] = row[q]
        weights[at] = out[q]
        place[shard[q]] = at + 1


@kernel
def _draw_one(index, strata, cost, weights, probability, clusters, starts, rows, out):  # type: ignore[no-untyped-def]
    """One pass of systematic sampling in each (stratum, cluster, ring)."""
    unit = _units(index, cost, weights, clusters)
    running = starts.copy()
    kept = 0
    for i in range(len(index)):
        p = probability[i]
        if p >= 1.0:
            rows[kept] = i
            out[kept] = weights[i]
            kept += 1
        elif p > 0.0:
            j = index[i]
            cell = (strata[i] * clusters + j) * RINGS + _ring(cost[i] * unit[j])
            a = running[cell] + p
            if a >= 1.0:
                a -= 1.0
                rows[kept] = i
                out[kept] = weights[i] / p
                kept += 1
            running[cell] = a
    return kept


@kernel
def _spread_order(space, probability, index, clusters):  # type: ignore[no-untyped-def]
    """Uncertain rows, cluster by cluster, each cluster along a k-d tree whose cells hold about one expected draw."""
    n, d = space.shape
    first = np.zeros(clusters + 1, np.int64)
    for i in range(n):
        if 0.0 < probability[i] < 1.0:
            first[index[i] + 1] += 1
    for j in range(clusters):
        first[j + 1] += first[j]
    at = first[:-1].copy()
    order = np.empty(first[-1], np.int64)
    for i in range(n):
        if 0.0 < probability[i] < 1.0:
            order[at[index[i]]] = i
            at[index[i]] += 1
    stack = [(first[j], first[j + 1]) for j in range(clusters)]
    while len(stack) > 0:
        low, high = stack.pop()
        mass = 0.0
        for q in range(low, high):
            mass += probability[order[q]]
        if mass <= 1.0 or high - low < 2:
            continue
        widest, spread = 0, -1.0
        for t in range(d):
            mean = 0.0
            for q in range(low, high):
                mean += space[order[q], t]
            mean /= high - low
            s = 0.0
            for q in range(low, high):
                diff = space[order[q], t] - mean
                s += diff * diff
            if s > spread:
                widest, spread = t, s
        segment = order[low:high].copy()
        values = np.empty(high - low)
        for q in range(high - low):
            values[q] = space[segment[q], widest]
        ranks = rising_order(values)
        half, middle, a = mass / 2, low + 1, 0.0
        for q in range(high - low):
            order[low + q] = segment[ranks[q]]
            if a < half:
                middle = low + q
            a += probability[order[low + q]]
        middle = min(max(middle, low + 1), high - 1)
        stack.append((low, middle))
        stack.append((middle, high))
    return order


def spread_rows(
    space: Array, probability: Array, index: Array, clusters: int, strata: Array, rng: np.random.Generator
) -> Array:
    """The rows of a finished sample: the certain ones, and a systematic draw in each stratum.

    They come in the order of drawing, stratum by stratum and along each cluster's tree, so that neighbours are alike:
    by how much they differ the certificate tells the error of the draw.
    """
    count = int(strata.max()) + 1
    if probability.sum() < DRAWS_PER_STRATUM * count:  # else a tiny sample might miss every stratum
        strata, count = np.zeros_like(strata), 1
    order = _spread_order(space, probability, strata * clusters + index, count * clusters)
    sizes = np.bincount(strata[order], minlength=count)
    return _combed(order, probability, sizes, rng.random(np.count_nonzero(sizes)))


@kernel
def _combed(order, probability, sizes, starts):  # type: ignore[no-untyped-def]
    """The rows that are certain, and of each stratum those hit by a comb of unit steps with a random start along the
    cumulated probabilities.

    Args:
      order: (u,) the others, stratum by stratum, so many of each as `sizes` says.
      starts: below 1, one a stratum that has any.
    """
    rows = np.empty(len(probability) + len(order), np.int64)
    kept = 0
    for i in range(len(probability)):
        if probability[i] >= 1.0:
            rows[kept] = i
            kept += 1
    low = 0
    at = 0
    for stratum in range(len(sizes)):
        high = low + sizes[stratum]
        if high == low:
            continue
        end = 0.0
        for q in range(low, high):
            end += probability[order[q]]
        start = starts[at]
        at += 1
        step = (start + 1.0) - start
        tooth, number, a = start, 0, 0.0
        for q in range(low, high):
            a += probability[order[q]]
            while tooth < a and tooth < end:  # rounding may put the last tooth on the end
                rows[kept] = order[q]
                kept += 1
                number += 1
                tooth = start + number * step
        low = high
    return rows[:kept].copy()
