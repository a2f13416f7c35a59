"""Labels of points: their exact weights, bucket by bucket, and how a sample is shared out among them.

Constraints on labelled points (fair clusters, diverse ones) need one coreset S_j a label, and every S_j to weigh what
its label weighs (Jaiswal and Kumar, *Universal Weak Coreset*, Theorem 9): with weights that are right in expectation
only, a label's total is off by some per cent. So shards sample each label on its own, and count its weight exactly, as
the ledger counts rows; the coordinator makes the sampled weights add up to that.

A label is known by its code, the 31-bit hash of its text that blocks carry as `groups`; the text itself travels with
the sampled points.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.hashing import mix
from beam_coresets.points.nearest import writable
from beam_coresets.sampling.drawing import Keeping
from beam_coresets.sampling.importance import Sampler

MOST_LABELS = 64
LEAST_THINNED = 32  # points of a label that passes are aimed at: one that aims at few may keep none
_SLOTS = 256  # of the hash table that finds a row's label, a power of two

Array = npt.NDArray[Any]


def numbered(groups: Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The different labels, rising, and the number of each row's among them, (n,) uint8.

    Raises:
      ValueError: more than `MOST_LABELS`.
    """
    found = np.empty(MOST_LABELS, np.int32)
    label = np.empty(len(groups), np.uint8)
    count = _number(writable(groups), found, label)
    require_few(count)
    order = np.argsort(found[:count])
    rank = np.empty(count, np.uint8)
    rank[order] = np.arange(count, dtype=np.uint8)
    return found[order], rank[label]


def require_few(count: int) -> None:
    """Raises ValueError for more labels than `MOST_LABELS`."""
    if count > MOST_LABELS:
        raise ValueError(f"group_column: must have at most {MOST_LABELS} labels with --weak, got at least {count}")


def shares(counts: npt.NDArray[np.int64], size: int, least: int = 1) -> npt.NDArray[np.int64]:
    """How many of `size` points each label gets: equal shares, and where a label has fewer points all of them.

    Args:
      counts: (m,) points of each label.
      least: no share is smaller than this (or all of the label's points), whatever `size` says.
    """
    out = np.zeros(len(counts), np.int64)
    left = size
    for rank, j in enumerate(np.argsort(counts, kind="stable")):
        out[j] = min(counts[j], max(least, left // (len(counts) - rank)))
        left = max(0, left - out[j])
    return out


def thin(
    sampler: Sampler,
    points: Array,
    weights: Array,
    strata: Array,
    groups: Array | None,
    size: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """`Sampler.thin`, of each label on its own, importances included.

    Args:
      groups: (n,) int32 labels, or None: all points together.
    """
    if groups is None or len(points) <= size:
        return sampler.thin(points, weights, strata, size, rng)
    rows, kept = [], []
    for mine, share in _apart(groups, size, LEAST_THINNED):
        found, unbiased = _for(sampler, share).thin(points[mine], weights[mine], strata[mine], share, rng)
        rows.append(mine[found])
        kept.append(unbiased)
    order = np.argsort(np.concatenate(rows))
    return np.concatenate(rows)[order], np.concatenate(kept)[order]


def keeping(
    sampler: Sampler,
    points: Array,
    weights: Array,
    groups: Array | None,
    size: float,
    shares: float,
    rng: np.random.Generator,
) -> Keeping:
    """`Sampler.keeping`, of each label on its own: no cluster has rows of two labels.

    Args:
      groups: (n,) int32 labels, or None: all points together.
    """
    if groups is None:
        return sampler.keeping(points, weights, size, shares, rng)
    index, cost, probability, clusters = np.empty(len(points), np.int32), np.empty(len(points)), np.ones(len(points)), 0
    for mine, share in _apart(groups, int(size), math.ceil(LEAST_THINNED * shares)):
        if len(mine) <= share or not weights[mine].any():
            index[mine], cost[mine], clusters = clusters, 0.0, clusters + 1
            probability[mine] = float(len(mine) <= share)
            continue
        own = _for(sampler, share).keeping(points[mine], weights[mine], share, shares, rng)
        index[mine], cost[mine], probability[mine] = own.index + clusters, own.cost, own.probability
        clusters += own.clusters
    return Keeping(index, cost, weights, probability, clusters)


def finish(
    sampler: Sampler,
    points: Array,
    weights: Array,
    strata: Array,
    groups: Array | None,
    rng: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """`Sampler.finish`, of each label on its own: S, the union of one S_j a label.

    Args:
      groups: (n,) int32 labels, or None: all points together.
    """
    size = sampler.size_in(points.shape[1], points.itemsize)
    if groups is None or len(points) <= size:
        return sampler.finish(points, weights, strata, rng)
    rows, kept, calibrated = [], [], []
    for mine, share in _apart(groups, size, 1):
        found, unbiased, moved = _for(sampler, share).finish(points[mine], weights[mine], strata[mine], rng)
        rows.append(mine[found])
        kept.append(unbiased)
        calibrated.append(moved)
    return np.concatenate(rows), np.concatenate(kept), np.concatenate(calibrated)


def with_totals(weights: Array, groups: Array, totals: Mapping[int, float]) -> Array:
    """The weights (m,), those of each label times what makes them add up to its total; a label whose points weigh
    nothing keeps them."""
    codes, label = numbered(groups)
    sums = np.bincount(label, weights, len(codes))
    wanted = np.array([totals.get(code, 0.0) for code in codes.tolist()])
    factor = np.divide(wanted, sums, out=np.ones(len(codes)), where=sums > 0)
    return np.asarray(weights * factor[label])


def _apart(groups: Array, size: int, least: int) -> list[tuple[Array, int]]:
    """Each label's rows, ascending, and how many of them are to be kept."""
    codes, label = numbered(groups)
    counts = np.bincount(label, minlength=len(codes)).astype(np.int64)
    rows = np.split(np.argsort(label, kind="stable"), np.cumsum(counts)[:-1])
    return list(zip(rows, shares(counts, size, least).tolist(), strict=True))


def _for(sampler: Sampler, size: int) -> Sampler:
    """The sampler for one label's share, which may have fewer points than k."""
    return dataclasses.replace(sampler, k=min(sampler.k, size), size=size)


@kernel
def _number(groups, found, label):  # type: ignore[no-untyped-def]
    """Numbers labels as they come; stops at one more than `found` has room for. Returns how many there are."""
    slots = np.full(_SLOTS, -1, np.int64)
    count = 0
    for i in range(len(groups)):
        slot = np.int64(mix(np.uint64(groups[i]))) & (_SLOTS - 1)
        while slots[slot] >= 0 and found[slots[slot]] != groups[i]:
            slot = (slot + 1) & (_SLOTS - 1)
        if slots[slot] < 0:
            if count == len(found):
                return count + 1
            slots[slot] = count
            found[count] = groups[i]
            count += 1
        label[i] = slots[slot]
    return count
