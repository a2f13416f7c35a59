"""Which shards' ledgers agree, and which of them are not to be trusted."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.ledger import Ledger

Array = npt.NDArray[Any]

FAULTS = ("", "disputed", "partial", "duplicated", "corrupted", "implausible")  # by rising gravity
_DISPUTED, _PARTIAL, _DUPLICATED, _CORRUPTED = 1, 2, 3, 4


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

UNVERIFIED_ERROR = 0.1


def _check(assignment: Assignment, ledgers: Mapping[int, Ledger]) -> list[int]:
    responded = sorted(ledgers)
    for i in responded:
        if not 0 <= i < assignment.shards:
            raise ValueError(f"ledgers: must be of shards 0 to {assignment.shards - 1}, got {i}")
        if ledgers[i].buckets != assignment.buckets:
            raise ValueError(f"ledgers: must have {assignment.buckets} buckets, got {ledgers[i].buckets} of shard {i}")
    return responded
