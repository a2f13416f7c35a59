"""Recovery: from the responding shards' ledgers to a multiplier for each shard and bucket.

The ledgers let the coordinator reason about data instead of machines: holders of a bucket whose entries agree have read
the same rows, so the bucket can be counted exactly once. That is Property 1 of Gandikota, Mazumdar and Rawat, *Reliable
Distributed Clustering with Redundant Data Assignment*, with delta = 0 on all covered buckets. Their recovery vector has
one number a shard; here there may be one for each shard and bucket.
"""
from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linprog

from beam_coresets._jit import kernel
from beam_coresets.assignment import Assignment
from beam_coresets.ledger import Ledger

KINDS = ("exact", "uniform", "lp")
FAULTS = ("", "disputed", "partial", "duplicated", "corrupted", "implausible")  # by rising gravity
_DISPUTED, _PARTIAL, _DUPLICATED, _CORRUPTED = 1, 2, 3, 4
UNVERIFIED_ERROR = 0.1

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Which shards to believe about which buckets.

    Attributes:
      responded, stragglers: shard numbers, ascending.
      faults: for every shard that is not in order, the gravest of: `late` (no report), `corrupted` (as many rows as the
        trusted holders of a bucket, but others), `duplicated` (rows counted repeatedly), `partial` (rows missing),
        `disputed` (it disagrees with an equal and nothing tells who is right).
      trusted: (shards, buckets) bool.
      disputed: (buckets,) bool: nothing tells which of its holders is right, so none is trusted.
      counts, weights: (buckets,) int64 and float64: the trusted rows and their weight; zero where no holder is trusted.
    """

    responded: tuple[int, ...]
    stragglers: tuple[int, ...]
    faults: dict[int, str]
    trusted: npt.NDArray[np.bool_]
    disputed: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recovery:
    """How much each shard's view of each bucket weighs in the union.

    Attributes:
      kind: `exact`, `uniform` or `lp`.
      responded, stragglers: shard numbers, ascending.
      distrusted: responding shards that are not in order, each with its fault (see `Diagnosis.faults`). They still
        count in the buckets where they agree with the trusted; those that an audit has barred count nowhere, and are
        `disputed` or `implausible` (wrong points with a right ledger).
      trusted: (shards, buckets) bool.
      covered: (buckets,) bool: some holder is trusted.
      complete: (buckets,) bool: covered, by a holder that has nothing to add.
      coverage: the share of buckets that are complete, of those that are in use.
      scale: what everything must be multiplied by to stand for all of the data: buckets / covered buckets if buckets
        are random samples of the data, else 1 (a loss is reported, not invented); 1 if nothing is covered.
      delta: Property 1's slack over covered buckets: max / min - 1 of the multipliers' sum over a bucket's holders.
      counts, weights: (buckets,): the trusted rows and their weight; zero where uncovered.
      panes: windows that it stands for, merged (see `beam_coresets.merged`).
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
    """The inverse of `packed`."""
    if held.dtype == np.uint8:
        return np.unpackbits(held, count=shape[0] * shape[1]).reshape(shape).view(np.bool_)
    matrix = np.zeros(shape[0] * shape[1], np.bool_)
    matrix[held] = True
    return matrix.reshape(shape)


def diagnose(
    assignment: Assignment, ledgers: Mapping[int, Ledger], finished: Mapping[int, Array] | None = None
) -> Diagnosis:
    """Decides, bucket by bucket, which responding holders are trusted.

    Holders whose entries (count, checksum) agree form a class. Among a bucket's responding holders

    1. empty entries do not count against non-empty ones: that several shards have not begun proves nothing;
    2. the class of more than half of the rest is trusted;
    3. else the fullest, leaving out entries that are q-fold of another one, count and checksum both (a replay);
    4. among equally full ones the larger class, then the one with the least suspected shard: a shard is suspected by
       each distinct peer with which it has equal counts but different checksums, in any bucket;
    5. if that leaves a tie, none is trusted: losing a random sample costs variance, a wrong one costs correctness.

    Where nobody can check it (no other holder agrees), a shard that is wrong elsewhere is trusted only if its entry is
    not empty and at most a tenth of its checked, non-empty entries were wrong.

    Holders that have not finished a bucket have no say in it once another one has; where nobody has, the fullest entry
    is trusted as it is. To be behind is no fault.

    Args:
      assignment: the scheme.
      ledgers: by shard number, of those that have responded.
      finished: by shard number, (buckets,) bool, the buckets it has nothing to add to; all of them by default.

    Raises:
      ValueError: a shard number or the number of buckets does not fit the scheme.
    """
    responded = _check(assignment, ledgers)
    s, G = assignment.shards, assignment.buckets
    bucket, shard, entries = _pairs(assignment, ledgers, responded)
    behind = np.zeros(len(bucket), np.bool_)
    if finished is not None:
        bucket, shard, entries, behind = _with_a_say(G, bucket, shard, entries, finished)
    indptr = np.searchsorted(bucket, np.arange(G + 1))
    suspicion = _suspicion(s, indptr, shard, *entries[:2])
    fault = np.zeros(len(bucket), np.int8)
    _judge(indptr, shard, *entries[:2], suspicion, fault)
    accepted = _accepted(s, G, bucket, shard, entries[0], fault, behind)
    trusted = np.zeros((s, G), np.bool_)
    trusted[shard[accepted], bucket[accepted]] = True
    worst = np.zeros(s, np.int8)
    np.maximum.at(worst, shard, np.where(behind, 0, fault))
    late = sorted(set(range(s)) - set(responded))
    faults = {i: FAULTS[worst[i]] for i in responded if worst[i]} | dict.fromkeys(late, "late")
    disputed = np.zeros(G, np.bool_)
    disputed[bucket[fault == _DISPUTED]] = True
    counts, weights = np.zeros(G, np.int64), np.zeros(G)
    # Backwards, so that the lowest trusted shard has the last word: sums of weights may differ in the last bits.
    counts[bucket[accepted][::-1]] = entries[0][accepted][::-1]
    weights[bucket[accepted][::-1]] = entries[2][accepted][::-1]
    return Diagnosis(tuple(responded), tuple(late), faults, trusted, disputed, counts, weights)


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
) -> Recovery:
    """The multipliers with which the responding shards' summaries are united.

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
        (`beam_coresets.audit`): neither their points nor their ledgers count.

    Raises:
      ValueError: an option is out of range, or a ledger does not fit the scheme.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: must be one of {', '.join(KINDS)}, got {kind!r}")
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
    return Recovery(
        kind,
        responded,
        tuple(sorted(set(range(assignment.shards)).difference(responded))),
        {i: fault for i, fault in sorted((diagnosis.faults | dict(barred)).items()) if fault != "late"},
        diagnosis.trusted,
        covered,
        complete,
        float(complete[used].mean()) if used.any() else 1.0,
        float(assignment.buckets / covered.sum()) if hashed and covered.any() else 1.0,
        attained,
        diagnosis.counts,
        diagnosis.weights,
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


def _check(assignment: Assignment, ledgers: Mapping[int, Ledger]) -> list[int]:
    responded = sorted(ledgers)
    for i in responded:
        if not 0 <= i < assignment.shards:
            raise ValueError(f"ledgers: must be of shards 0 to {assignment.shards - 1}, got {i}")
        if ledgers[i].buckets != assignment.buckets:
            raise ValueError(f"ledgers: must have {assignment.buckets} buckets, got {ledgers[i].buckets} of shard {i}")
    return responded


def _pairs(
    assignment: Assignment, ledgers: Mapping[int, Ledger], responded: list[int]
) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """The bucket, shard and ledger entries of every (bucket, responding holder), ordered by bucket and shard."""
    indptr, shards = assignment.holders()
    bucket = np.repeat(np.arange(assignment.buckets), np.diff(indptr))
    here = np.zeros(assignment.shards, np.bool_)
    here[responded] = True
    keep = here[shards]
    bucket, shard = bucket[keep], shards[keep].astype(np.int64)
    counts, checksums, weights = (np.zeros(len(bucket), dtype) for dtype in (np.int64, np.uint64, np.float64))
    for i, mine in _rows_of(shard, responded):
        entries = ledgers[i].of_buckets(bucket[mine])
        counts[mine], checksums[mine], weights[mine] = entries.counts, entries.checksums, entries.weights
    return bucket, shard, (counts, checksums, weights)


def _rows_of(shard: Array, wanted: Iterable[int]) -> Iterator[tuple[int, Array]]:
    """Where each of the wanted shards is, in rising order."""
    wanted = sorted(wanted)
    order = np.argsort(shard, kind="stable")
    starts = np.searchsorted(shard[order], wanted).tolist()
    stops = np.searchsorted(shard[order], wanted, side="right").tolist()
    for i, start, stop in zip(wanted, starts, stops, strict=True):
        yield i, order[start:stop]


def _with_a_say(
    G: int, bucket: Array, shard: Array, entries: tuple[Array, Array, Array], finished: Mapping[int, Array]
) -> tuple[Array, Array, tuple[Array, Array, Array], Array]:
    """The pairs of holders that have finished the bucket, or of all where nobody has, and which of them are behind."""
    done = np.zeros(len(bucket), np.bool_)
    for i, rows in _rows_of(shard, finished):
        done[rows] = finished[i][bucket[rows]]
    some = np.bincount(bucket, done, G)[bucket] > 0
    keep = done | ~some
    counts, checksums, weights = (entry[keep] for entry in entries)
    return bucket[keep], shard[keep], (counts, checksums, weights), ~done[keep]


def _accepted(
    s: int, G: int, bucket: Array, shard: Array, counts: Array, fault: Array, behind: Array
) -> Array:
    """Which of the faultless entries are trusted in the end, (pairs,) bool."""
    wrong = fault > 0
    blamed = wrong & ~behind
    flawed = np.bincount(shard, blamed, s) > 0
    holders = np.bincount(bucket, minlength=G)
    checked = (holders[bucket] > 1) & (counts > 0)
    error = np.bincount(shard, blamed & checked, s) / np.maximum(np.bincount(shard, checked, s), 1)
    agreeing = np.bincount(bucket, ~wrong, G)[bucket]
    # A flawed shard's word alone counts if it is mostly right, and two flawed shards' if they agree on some rows.
    vouched = ~flawed[shard] | ((counts > 0) & ((agreeing > 1) | (error[shard] <= UNVERIFIED_ERROR)))
    accepted: Array = ~wrong & (np.bincount(bucket, ~wrong & vouched, G) > 0)[bucket]
    return accepted


def _suspicion(s: int, indptr: Array, shard: Array, counts: Array, checksums: Array) -> Array:
    """(s,): with how many others each shard has somewhere equally many rows, but not the same."""
    found = np.empty(_conflicts(indptr, shard, counts, checksums, s, np.empty(0, np.int64)), np.int64)
    _conflicts(indptr, shard, counts, checksums, s, found)
    first, second = np.divmod(np.unique(found), s)
    return np.asarray(np.bincount(first, minlength=s) + np.bincount(second, minlength=s))


@kernel
def _conflicts(indptr, shard, counts, checksums, s, found):  # type: ignore[no-untyped-def]
    """Writes down the pairs of shards that conflict in a bucket, as long as there is room; returns how many."""
    n = 0
    for g in range(len(indptr) - 1):
        for p in range(indptr[g], indptr[g + 1]):
            for o in range(indptr[g], p):
                if counts[p] == counts[o] and checksums[p] != checksums[o]:
                    if n < len(found):
                        found[n] = shard[o] * s + shard[p]
                    n += 1
    return n


@kernel
def _is_replay(counts, checksums, p, o):  # type: ignore[no-untyped-def]
    """Whether entry p is q >= 2 times entry o, count and checksum both."""
    if counts[o] <= 0 or counts[p] <= counts[o] or counts[p] % counts[o]:
        return False
    return checksums[p] == np.uint64(counts[p] // counts[o]) * checksums[o]


@kernel
def _choose(low, high, shard, counts, checksums, suspicion):  # type: ignore[no-untyped-def]
    """An entry of the trusted class among entries low to high, or -1 for none."""
    voters = 0
    for p in range(low, high):
        voters += counts[p] > 0
    if voters == 0:
        return low  # all empty, and checksums of nothing are zero
    best, best_size, best_suspicion, tied = -1, 0, 0, False
    for p in range(low, high):
        if counts[p] <= 0:
            continue
        size, least, first, replay = 0, suspicion[shard[p]], True, False
        for o in range(low, high):
            if counts[o] == counts[p] and checksums[o] == checksums[p]:
                size += 1
                least = min(least, suspicion[shard[o]])
                first = first and o >= p
            elif _is_replay(counts, checksums, p, o):
                replay = True
        if not first:
            continue  # its class has been weighed already
        if 2 * size > voters:
            return p
        if replay or (best >= 0 and counts[p] < counts[best]):
            continue
        if best < 0 or counts[p] > counts[best] or size > best_size or (size == best_size and least < best_suspicion):
            best, best_size, best_suspicion, tied = p, size, least, False
        elif size == best_size and least == best_suspicion:
            tied = True
    return -1 if tied else best


@kernel
def _judge(indptr, shard, counts, checksums, suspicion, fault):  # type: ignore[no-untyped-def]
    """Sets each entry's fault against its bucket's trusted class; 0 if it belongs to it."""
    for g in range(len(indptr) - 1):
        low, high = indptr[g], indptr[g + 1]
        if low == high:
            continue
        chosen = _choose(low, high, shard, counts, checksums, suspicion)
        for p in range(low, high):
            if chosen < 0:
                fault[p] = _DISPUTED
            elif counts[p] < counts[chosen]:
                fault[p] = _PARTIAL
            elif counts[p] > counts[chosen]:
                fault[p] = _DUPLICATED
            elif checksums[p] != checksums[chosen]:
                fault[p] = _CORRUPTED
