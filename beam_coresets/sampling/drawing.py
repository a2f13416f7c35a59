"""Systematic draws: one pass over a block, or along a k-d tree of each cluster."""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel

Array = npt.NDArray[Any]

RINGS = 8
DRAWS_PER_STRATUM = 4


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


@kernel
def draw_in_one_pass(index, strata, cost, weights, probability, clusters, starts, rows, out):  # type: ignore[no-untyped-def]
    """One pass of systematic sampling in each (stratum, cluster, ring); ring r has costs up to 2**(r - 3) times the
    average."""
    weight = np.zeros(clusters)
    unit = np.zeros(clusters)
    n = len(index)
    for i in range(n):
        weight[index[i]] += weights[i]
        unit[index[i]] += weights[i] * cost[i]
    for j in range(clusters):
        unit[j] = 8.0 * weight[j] / unit[j] if unit[j] > 0 else 0.0
    running = starts.copy()
    kept = 0
    for i in range(n):
        p = probability[i]
        if p >= 1.0:
            rows[kept] = i
            out[kept] = weights[i]
            kept += 1
        elif p > 0.0:
            j = index[i]
            r = cost[i] * unit[j]
            # comparisons instead of a loop or a logarithm: no branch to mispredict
            ring = (
                np.int64(r > 1.0) + np.int64(r > 2.0) + np.int64(r > 4.0) + np.int64(r > 8.0)
                + np.int64(r > 16.0) + np.int64(r > 32.0) + np.int64(r > 64.0)
            )
            cell = (strata[i] * clusters + j) * RINGS + ring
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
        ranks = np.argsort(values, kind="mergesort")
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
    apart = np.split(order, np.searchsorted(strata[order], np.arange(1, count)))
    certain = np.flatnonzero(probability >= 1.0)
    return np.concatenate([certain, *(_systematic(part, probability, rng) for part in apart)])


def _systematic(order: Array, probability: Array, rng: np.random.Generator) -> Array:
    """Rows hit by a comb of unit steps with a random start along the cumulated probabilities."""
    ends = np.cumsum(probability[order])
    if not len(ends):
        return order
    comb = np.arange(rng.random(), ends[-1], 1.0)
    comb = comb[comb < ends[-1]]  # rounding may put the last tooth on the end
    return order[np.searchsorted(ends, comb, side="right")]
