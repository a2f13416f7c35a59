"""What the worst of the points leave when they are left out: thresholds, the weights that stay, robust seeding.

With w(p) the weights, c(p) the costs and m the weight that is left out,

    cost_m = min over 0 <= v <= w with sum v = sum w - m  of  sum v c  =  max over t of  sum w min(c, t) - m t,

by duality of this linear program. The best t is the cost beyond which points are left out; at the threshold they count
in part (k-means-- of Chawla and Gionis, SDM 2013, by weight).
"""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import fast_kernel
from beam_coresets.points.nearest import writable

Array = npt.NDArray[Any]


def weight_left_out(outliers: float, total: float) -> float:
    """The weight that is left out of `total`, at most half of it: of two halves nobody can tell which is the outliers.

    Args:
      outliers: below 1 a share of the total, from 1 on a number of rows' weight.
    """
    return min(0.5 * total, outliers * total if outliers < 1 else outliers)


def threshold(costs: Array, weights: Array, left_out: float) -> float:
    """The smallest t such that at most the weight `left_out` costs more; 0 where that is all of it.

    Args:
      costs, weights: (n,) each.
    """
    return float(_select(costs.copy(), weights.copy(), float(left_out))[0]) if len(costs) else 0.0


def kept_weights(costs: Array, weights: Array, left_out: float) -> tuple[Array, float]:
    """The weights (n,) without the worst `left_out` of them, and the threshold; what costs just that is there in part.

    Args:
      costs, weights: (n,) each, neither negative.
    """
    if not left_out or not len(costs):
        return weights, float("inf")
    level, above, at = _select(costs.copy(), weights.copy(), float(left_out))
    part = 1 - (left_out - above) / at if at > 0 else 0.0
    kept = np.where(costs < level, weights, np.where(costs == level, weights * min(1.0, max(0.0, part)), 0.0))
    return kept, float(level)


def trimmed_cost(costs: Array, weights: Array, left_out: float) -> float:
    """`sum w c` without the worst `left_out` of the weight; not by BLAS, whose order of summation depends on its
    threads."""
    return float(np.einsum("n,n->", kept_weights(costs, weights, left_out)[0], costs))


def trimmed_seeding(
    points: Array, weights: Array, k: int, z: float, left_out: float, rng: np.random.Generator, candidates: int = 1
) -> npt.NDArray[np.int64]:
    """Rows of a D^z seeding that far points do not take for themselves.

    Each row is drawn by `w min(c, t)`, with c the cost to the rows drawn before and t the threshold of these costs at
    `left_out`; of several draws the one counts that leaves the least trimmed cost. (Bhaskara, Vadgama and Xu, *Greedy
    sampling for approximate clustering in the presence of outliers*, NeurIPS 2019, draw so for a t that is guessed.)

    Args:
      points: (n, d) float32 or float64. weights: (n,) non-negative.
      left_out: weight, below the sum of the weights.
      candidates: draws compared in each step.

    Returns:
      (k',) distinct row indices; k' < k where the rest of the points that stay costs nothing.
    """
    chosen = np.empty(min(k, len(points)), np.int64)
    uniforms = rng.random((len(chosen), candidates))
    if not len(points):
        return chosen
    weights = writable(np.asarray(weights, np.float64))
    found = _seed(writable(points), weights, float(z), float(left_out), uniforms, chosen)
    return chosen[:found]


@fast_kernel
def _select(c, w, left_out):  # type: ignore[no-untyped-def]
    """The threshold, the weight of what costs more, and of what costs just that; reorders its arguments."""
    low, high, above = 0, len(c), 0.0
    while low < high:
        a, b, pivot = c[low], c[high - 1], c[(low + high) // 2]
        pivot = max(min(a, b), min(max(a, b), pivot))
        # dearer ones to the front, cheaper ones to the end
        i, front, end = low, low, high
        dearer = equal = 0.0
        while i < end:
            v, u = c[i], w[i]
            if v > pivot:
                c[i], w[i] = c[front], w[front]
                c[front], w[front] = v, u
                front += 1
                i += 1
                dearer += u
            elif v < pivot:
                end -= 1
                c[i], w[i] = c[end], w[end]
                c[end], w[end] = v, u
            else:
                i += 1
                equal += u
        if above + dearer > left_out:
            high = front
        elif above + dearer + equal > left_out:
            return float(pivot), above + dearer, equal
        else:
            above += dearer + equal
            low = end
    return 0.0, above, 0.0


@fast_kernel
def _draw(cost, weights, level, u):  # type: ignore[no-untyped-def]
    """A row drawn by `w min(cost, level)`; -1 where that is nothing."""
    total = 0.0
    for i in range(len(cost)):
        total += weights[i] * min(cost[i], level)
    if not total > 0.0:
        return -1
    running, last = 0.0, -1
    for i in range(len(cost)):
        share = weights[i] * min(cost[i], level)
        if share > 0.0:
            last = i
            running += share
            if running > u * total:
                return i
    return last


@fast_kernel
def _seed(points, weights, z, left_out, uniforms, chosen):  # type: ignore[no-untyped-def]
    n, d = points.shape
    cost, lowered, trial = np.ones(n), np.empty(n), np.empty(n)
    level = 1.0
    for step in range(len(chosen)):
        best, best_level = np.inf, 0.0
        chosen[step] = -1
        for candidate in range(uniforms.shape[1]):
            row = _draw(cost, weights, level, uniforms[step, candidate])
            if row < 0:
                return step
            for i in range(n):
                total = 0.0
                for t in range(d):
                    q = np.float64(points[i, t]) - np.float64(points[row, t])
                    total += q * q
                c = total if z == 2.0 else np.sqrt(total) if z == 1.0 else total ** (0.5 * z)
                trial[i] = c if step == 0 else min(cost[i], c)
            reached, _, _ = _select(trial.copy(), weights.copy(), left_out)
            price = -left_out * reached
            for i in range(n):
                price += weights[i] * min(trial[i], reached)
            if price < best or chosen[step] < 0:
                best, best_level = price, reached
                chosen[step] = row
                lowered, trial = trial, lowered
        cost, lowered = lowered, cost
        level = best_level
    return len(chosen)
