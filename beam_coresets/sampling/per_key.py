"""Sampling for thousands of keys at once: a lightweight coreset of each key's rows, all in one pass.

Importance of a row is half its share of the key's weight and half its share of the key's cost to the key's mean
(Bachem, Lucic, Krause, *Scalable k-means clustering via lightweight coresets*, KDD 2018): the additive guarantee of
that paper, key by key, where `sampling` would take a call for each. Rows are drawn systematically along the
coordinate that varies most within the key.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel, rising_order
from beam_coresets.points.nearest import writable

MANY = 64  # keys from which on one pass pays

Array = npt.NDArray[Any]


def draw(
    points: Array,
    weights: Array,
    strata: npt.NDArray[np.int32],
    bounds: npt.NDArray[np.int64],
    size: int,
    z: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """About `size` rows of each key; all of those that have no more.

    Args:
      points: (n, d). weights: (n,) unbiased weights. strata: (n,) int32 from 0, drawn apart (see `sampling`).
      bounds: (keys + 1,), key i's rows are bounds[i] to bounds[i + 1].
      z: power of the distance in the cost.

    Returns:
      rows (m,) int64, rising; their unbiased weights (m,), w / probability; and the keys' bounds among them.
    """
    rows = np.empty(len(points), np.int64)
    out = np.empty(len(points))
    ends = np.zeros(len(bounds), np.int64)
    count = int(strata.max()) + 1 if len(strata) else 1
    starts = rng.random((len(bounds), count))
    kept = _draw(writable(points), writable(weights), strata, bounds, size, float(z), starts, rows, out, ends)
    return rows[:kept].copy(), out[:kept].copy(), ends


@kernel
def _mean_and_widest(points, weights, low, high, mean):  # type: ignore[no-untyped-def]
    """Fills in the weighted mean of rows low to high; returns their weight and the coordinate that varies most."""
    d = points.shape[1]
    total = 0.0
    mean[:] = 0.0
    for i in range(low, high):
        total += weights[i]
        for t in range(d):
            mean[t] += weights[i] * points[i, t]
    if total <= 0.0:
        return 0.0, 0
    spread = np.zeros(d)
    for t in range(d):
        mean[t] /= total
    for i in range(low, high):
        for t in range(d):
            spread[t] += weights[i] * (points[i, t] - mean[t]) ** 2
    return total, int(np.argmax(spread))


@kernel
def _importances(points, weights, low, high, mean, total, size, z, probability):  # type: ignore[no-untyped-def]
    """Probabilities of rows low to high that add up to `size`: what would exceed one is certain."""
    cost = 0.0
    for i in range(low, high):
        q = 0.0
        for t in range(points.shape[1]):
            q += (points[i, t] - mean[t]) ** 2
        probability[i - low] = weights[i] * q ** (z / 2.0)
        cost += probability[i - low]
    for i in range(low, high):
        part = probability[i - low] / cost if cost > 0.0 else weights[i] / total
        probability[i - low] = 0.5 * part + 0.5 * weights[i] / total
    left, mass = float(size), 1.0
    for _ in range(32):
        over = 0
        for i in range(high - low):
            if 0.0 < probability[i] < 2.0 and probability[i] * left >= mass:
                over += 1
                left -= 1.0
                mass -= probability[i]
                probability[i] = 3.0  # certain
        if over == 0 or left <= 0.0 or mass <= 0.0:
            break
    for i in range(high - low):
        if probability[i] > 2.0:
            probability[i] = 1.0
        elif mass > 0.0 and left > 0.0:
            probability[i] = min(1.0, probability[i] * left / mass)


@kernel
def _draw(points, weights, strata, bounds, size, z, starts, rows, out, ends):  # type: ignore[no-untyped-def]
    kept = 0
    mean = np.empty(points.shape[1])
    longest = 0
    for j in range(len(bounds) - 1):
        longest = max(longest, bounds[j + 1] - bounds[j])
    probability = np.empty(longest)
    for j in range(len(bounds) - 1):
        low, high = bounds[j], bounds[j + 1]
        first = kept
        if high - low <= size:
            for i in range(low, high):
                rows[kept] = i
                out[kept] = weights[i]
                kept += 1
            ends[j + 1] = kept
            continue
        total, widest = _mean_and_widest(points, weights, low, high, mean)
        if total > 0.0:
            _importances(points, weights, low, high, mean, total, size, z, probability)
            along = rising_order(points[low:high, widest])
            running = starts[j].copy()
            for i in along:
                p, stratum = probability[i], strata[low + i]
                if p < 1.0:
                    running[stratum] += p
                    if running[stratum] < 1.0:
                        continue
                    running[stratum] -= 1.0
                rows[kept] = low + i
                out[kept] = weights[low + i] / p
                kept += 1
            order = rising_order(rows[first:kept])
            taken, given = rows[first:kept][order], out[first:kept][order]
            for i in range(kept - first):
                rows[first + i], out[first + i] = taken[i], given[i]
        ends[j + 1] = kept
    return kept
