"""Recovery: from the responding shards' ledgers to a multiplier for each shard and bucket.

The ledgers let the coordinator reason about data instead of machines: holders of a bucket whose entries agree have read
the same rows, so the bucket can be counted exactly once. That is Property 1 of Gandikota, Mazumdar and Rawat, *Reliable
Distributed Clustering with Redundant Data Assignment*, with delta = 0 on all covered buckets. Their recovery vector has
one number a shard; here there may be one for each shard and bucket.
"""
from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from beam_coresets.coordinator.ledger_check import Diagnosis, diagnose
from beam_coresets.points.magnitude import unit_of
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.ledger import Ledger

RECOVERIES = ("exact", "uniform", "lp")
MOST_PLACES = 1 << 30  # ten thousand shards of 65,536 parts, of which only places that are set take memory

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Recovery:
    """How much each shard's view of each bucket weighs in the union.

    Attributes:
      kind: `exact`, `uniform` or `lp`.
      responded, stragglers: shard numbers, ascending.
      distrusted: responding shards that are not in order, each with its fault (see `Diagnosis.faults`). They still
        count in the buckets where they agree with the trusted; those that an audit has barred count nowhere, and are
        `disputed` or `implausible` (wrong points with a right ledger).
      trusted: (shards, buckets) bool; of buckets in use.
      covered: (buckets,) bool: some holder is trusted.
      complete: (buckets,) bool: covered, by a holder that has nothing to add.
      coverage: the share of buckets that are complete, of those that are in use.
      scale: what everything must be multiplied by to stand for all of the data: buckets / covered buckets if buckets
        are random samples of the data, else 1 (a loss is reported, not invented); 1 if nothing is covered.
      delta: Property 1's slack over covered buckets: max / min - 1 of the multipliers' sum over a bucket's holders.
      counts, weights: (buckets,): the trusted rows and their weight; zero where uncovered.
      panes: windows that it stands for, merged (see `beam_coresets.coordinator.merge`).
      origin: (buckets,) int64, the scheme's bucket that each merged one is made of; None where they are the same.
      loss: what the cost's second moment is multiplied by for the variance of scaling over lost buckets, where that
        has been done before merging; None where it follows from `scale`.
      unequal: (shards, buckets) float64, zero where untrusted, the multipliers where they are other than 1 / (number of
        a bucket's trusted holders); else None. `scale` is not in them.
    """

    kind: str
    responded: tuple[int, ...]
    stragglers: tuple[int, ...]
    distrusted: dict[int, str]
    trusted: npt.NDArray[np.bool_]
    covered: npt.NDArray[np.bool_]
    complete: npt.NDArray[np.bool_]
    coverage: float
    scale: float
    delta: float
    counts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    panes: int = 1
    origin: npt.NDArray[np.int64] | None = None
    loss: float | None = None
    unequal: npt.NDArray[np.float64] | None = None

    @functools.cached_property
    def holders(self) -> npt.NDArray[np.int64]:
        """(buckets,): how many are trusted in each."""
        return self.trusted.sum(axis=0)

    @property
    def origins(self) -> npt.NDArray[np.int64]:
        """(buckets,): the scheme's bucket that each is made of."""
        return np.arange(self.trusted.shape[1]) if self.origin is None else self.origin

    @property
    def multipliers(self) -> npt.NDArray[np.float64]:
        """(shards, buckets) float64, zero where untrusted; `scale` is not in them. For few shards and buckets: of ten
        thousand each it takes 800 MB."""
        return self.trusted / np.maximum(self.holders, 1) if self.unequal is None else self.unequal

    def multiplier(self, shard: Array, bucket: Array) -> npt.NDArray[np.float64]:
        """`multipliers[shard, bucket]`, (m,)."""
        if self.unequal is not None:
            return np.asarray(self.unequal[shard, bucket])
        return np.asarray(self.trusted[shard, bucket] / np.maximum(self.holders, 1)[bucket])


def packed(matrix: npt.NDArray[np.bool_]) -> Array:
    """A matrix's bits (uint8), or the places of those that are set (int64), whichever is smaller: of thousands of
    shards each is trusted in few buckets."""
    places = np.flatnonzero(matrix)
    return places if 64 * len(places) < matrix.size else np.packbits(matrix)


def unpacked(held: Array, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The inverse of `packed`.

    Raises:
      ValueError: a shape of more than `MOST_PLACES`, or one that is not that of what is held.
    """
    cells = shape[0] * shape[1]
    if min(shape) < 0 or cells > MOST_PLACES:
        raise ValueError(f"shape: must be at most {MOST_PLACES} shards times buckets, got {shape}")
    if held.dtype == np.uint8:
        if len(held) != -(-cells // 8):
            raise ValueError(f"trusted: must be {-(-cells // 8)} bytes for {shape}, got {len(held)}")
        return np.unpackbits(held, count=cells).reshape(shape).view(np.bool_)
    if len(held) and not 0 <= held.min() <= held.max() < cells:
        raise ValueError(f"trusted: must be places in {shape}, got {held.min()} to {held.max()}")
    matrix = np.zeros(cells, np.bool_)
    matrix[held] = True
    return matrix.reshape(shape)


def recover(
    assignment: Assignment,
    ledgers: Mapping[int, Ledger],
    kind: str = "exact",
    hashed: bool = True,
    delta: float = 0.5,
    finished: Mapping[int, Array] | None = None,
    in_use: Array | None = None,
    whole: bool = False,
    barred: Mapping[int, str] | None = None,
    headless: Array | None = None,
) -> Recovery:
    """The multipliers with which the responding shards' summaries are merged.

    Kinds:
      exact: 1 / (number of trusted holders) for each bucket: every covered bucket counts once, delta is 0.
      uniform: Theorem 6's constant 1 / ((1 - gamma) l (1 - p_t)), gamma = delta / (2 + delta), for every trusted
        holder, with the observed share of stragglers for p_t. The theorem's l is not asked for, so `Recovery.delta` is
        what this vector attains, not the `delta` it was made for.
      lp: the one number a shard that attains the least delta over the covered buckets (`property1_delta`).

    Args:
      assignment: the scheme.
      ledgers: by shard number, of those that have responded.
      kind: see above.
      hashed: whether buckets are random samples of the data; if not, `scale` is 1.
      delta: for `uniform` only, the slack that the constant is made for.
      finished: by shard number, (buckets,) bool, the buckets it has nothing to add to; all of them by default. A shard
        that has not finished all that it holds is a straggler, and what it has finished counts.
      in_use: (buckets,) bool, the buckets that can hold anything; all of them by default. If given, a shard that holds
        none of them counts as having responded.
      whole: a shard that is not trusted in all that it holds, or has not finished it, counts nowhere: for summaries of
        which no part can be left out. `delta` is then over buckets in use.
      barred: faults, by shard number, of shards that have answered and are not to be believed in anything
        (`beam_coresets.coordinator.audit`): neither their points nor their ledgers count.
      headless: (buckets,) bool, the buckets that a shard has finished without what was there before it began: they
        count, and are not complete.

    Raises:
      ValueError: an option is out of range, or a ledger does not fit the scheme.
    """
    if kind not in RECOVERIES:
        raise ValueError(f"kind: must be one of {', '.join(RECOVERIES)}, got {kind!r}")
    if not 0 < delta < np.inf:
        raise ValueError(f"delta: must be positive and finite, got {delta}")
    if whole and kind == "exact":
        raise ValueError("kind: must be uniform or lp where shards count as a whole, got 'exact'")
    barred = {} if barred is None else barred
    heard = finished
    if finished is not None and barred:
        heard = {i: done for i, done in finished.items() if i not in barred}
    diagnosis = diagnose(assignment, {i: ledger for i, ledger in ledgers.items() if i not in barred}, heard)
    used = np.ones(assignment.buckets, np.bool_) if in_use is None else in_use
    if in_use is not None:  # of others all ledgers agree that they are empty
        diagnosis = replace(diagnosis, trusted=diagnosis.trusted & used)
    if whole:
        diagnosis = _only_whole(diagnosis, assignment.matrix() & used, heard)
    holders = diagnosis.trusted.sum(axis=0)
    covered = holders > 0
    each, attained = None, 0.0  # a number a shard
    if kind == "uniform":
        answering = (diagnosis.trusted.any(axis=1).sum() if whole else len(diagnosis.responded)) / assignment.shards
        constant = theorem6_constant(delta, assignment.replication, 1 - answering) if covered.any() else 0.0
        each = np.full(assignment.shards, constant)
        attained = float(holders[covered].max() / holders[covered].min() - 1) if covered.any() else 0.0
    elif kind == "lp":
        each, attained = property1_delta(diagnosis.trusted)
    responded, complete = tuple(sorted(ledgers)), covered
    if finished is not None:
        responded, complete = _finished(assignment, finished, used, diagnosis, in_use is not None)
    if headless is not None:
        complete = complete & ~headless
    faults = diagnosis.faults | dict(barred)
    return Recovery(
        kind=kind,
        responded=responded,
        stragglers=tuple(sorted(set(range(assignment.shards)).difference(responded))),
        distrusted={i: fault for i, fault in sorted(faults.items()) if fault != "late"},
        trusted=diagnosis.trusted,
        covered=covered,
        complete=complete,
        coverage=float(complete[used].mean()) if used.any() else 1.0,
        scale=float(assignment.buckets / covered.sum()) if hashed and covered.any() else 1.0,
        delta=attained,
        counts=diagnosis.counts,
        weights=diagnosis.weights,
        unequal=None if each is None else diagnosis.trusted * each[:, None],
    )


def _only_whole(diagnosis: Diagnosis, held: Array, finished: Mapping[int, Array] | None) -> Diagnosis:
    """Without the shards that are not trusted in all buckets that they hold, or not done with them."""
    sure = diagnosis.trusted.copy()
    for i, done in (finished or {}).items():
        sure[i] &= done
    whole = np.all(sure | ~held, axis=1, keepdims=True)
    trusted = diagnosis.trusted & held & whole
    covered = trusted.any(axis=0)
    return replace(
        diagnosis,
        trusted=trusted,
        counts=np.where(covered, diagnosis.counts, 0),
        weights=np.where(covered, diagnosis.weights, 0.0),
    )


def _finished(
    assignment: Assignment, finished: Mapping[int, Array], used: Array, diagnosis: Diagnosis, parts: bool
) -> tuple[tuple[int, ...], Array]:
    """The shards that have finished all that they hold, and the buckets, (buckets,) bool, that a trusted one has
    finished. Where parts are buckets, a shard that holds none has nothing to say."""
    sure, answered = np.zeros(assignment.buckets, np.bool_), []
    for i in range(assignment.shards):
        held = assignment.held_by(i)
        mine = held[used[held]]
        if i not in finished:
            if parts and not len(mine):
                answered.append(i)
            continue
        done = finished[i]
        if done[mine].all():
            answered.append(i)
        sure[held[diagnosis.trusted[i, held] & done[held]]] = True
    return tuple(answered), sure


def theorem6_constant(delta: float, replication: int, straggle_probability: float) -> float:
    """Every entry of Theorem 6's recovery vector: b = 1 / ((1 - gamma) l (1 - p_t)), gamma = delta / (2 + delta).

    With the theorem's l (`planner.theorem6_replication`) and Bernoulli assignment it has Property 1 for `delta`, but
    for a probability of 1 / G.
    """
    gamma = delta / (2 + delta)
    return 1 / ((1 - gamma) * replication * (1 - straggle_probability))


def property1_delta(matrix: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], float]:
    """The recovery vector b >= 0 with the least delta such that 1 <= b^T A <= 1 + delta, by linear programming (HiGHS).

    Columns without any holder are left out: no vector covers them. Report them by coverage.

    Args:
      matrix: A, (responding shards, buckets) bool.

    Returns:
      b (responding shards,) and delta; zeros and 0.0 if no column has a holder.
    """
    columns = np.unique(np.packbits(matrix, axis=0).T, axis=0)
    columns = np.unpackbits(columns, axis=1, count=len(matrix)).astype(np.float64)
    columns = columns[columns.any(axis=1)]
    if not len(columns):
        return np.zeros(len(matrix)), 0.0
    from scipy.optimize import linprog  # late: 0.15 s to import, and no plan of replicas needs it

    rows = sparse.csr_array(columns)
    one = np.ones((len(columns), 1))
    bounds = sparse.vstack([sparse.hstack([-rows, 0 * one]), sparse.hstack([rows, -one])], format="csr")
    limits = np.r_[-np.ones(len(columns)), np.ones(len(columns))]
    found = linprog(np.r_[np.zeros(len(matrix)), 1.0], bounds, limits, method="highs")
    if found.status != 0:
        raise RuntimeError(f"linear program: must be solvable, got {found.message}")
    b = np.maximum(found.x[:-1], 0)
    sums = columns @ b
    return b / sums.min(), float(sums.max() / sums.min() - 1)


def loss_factor(recovery: Recovery) -> float:
    """phi (1 - f) / f^2 for the uncovered share 1 - f of the buckets; 0 if nothing is scaled over."""
    if recovery.loss is not None:
        return recovery.loss
    if recovery.scale <= 1:
        return 0.0
    f = 1 / recovery.scale
    weights, counts = recovery.weights[recovery.covered], recovery.counts[recovery.covered]
    if not counts.sum():
        return 0.0
    one = unit_of(weights)  # squares of weights may leave the range
    weights = weights / one
    unit = weights.sum() / counts.sum()
    spread = weights.var(ddof=1) / weights.mean() if len(weights) > 1 else unit
    return float(max(unit, spread) * (1 - f) / f**2) * one
