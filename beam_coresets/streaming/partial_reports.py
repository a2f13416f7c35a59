"""Partial reports: what a reader sends of a pane bit by bit, and how the coordinator makes one report of them.

A partial report holds a thinned, unbiased sample of the rows of one offset range and their exact ledger. Those of a
shard add up: their ledgers are summed, their samples laid side by side and thinned again when there are many. The
calibrated weights come once, when the window is decided (`MergeReduce.finish`), as in batch. Draws are seeded by what
the rows are, so a retried bundle sends the same bytes.
"""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.coreset import Coreset
from beam_coresets.sampling import per_key
from beam_coresets.shards.label_weights import LabelWeights
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import Range, ShardReport, all_keys, merge_ranges

SIZE_FACTOR = 2  # points of a partial report as a multiple of the finished coreset's
MOST_BYTES = 512 << 10

Array = npt.NDArray[Any]
Extras = Callable[[Array], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class PaneRows:
    """Rows of one pane, read from any number of parts.

    Attributes:
      points: (n, d). weights: (n,) float64. ids: (n,) uint64.
      keys: (n,) object array of str, or a pyarrow DictionaryArray, or None: one key for all.
      groups: (n,) int32 or None.
      extras: row numbers -> pyarrow Table: asked for the sampled rows only; None if nothing travels with them.
    """

    points: Array
    weights: Array
    ids: Array
    keys: Any = None
    groups: Array | None = None
    extras: Extras | None = None

    def take(self, rows: Array) -> PaneRows:
        """Some of them, by their numbers, (m,)."""
        extras = self.extras
        return PaneRows(
            self.points[rows],
            self.weights[rows],
            self.ids[rows],
            self.keys.take(pa.array(rows)) if isinstance(self.keys, pa.Array) else _some(self.keys, rows),
            _some(self.groups, rows),
            None if extras is None else lambda chosen: extras(rows[chosen]),
        )


def partial_report(
    merge_reduce: MergeReduce, shard: int, rows: PaneRows, ranges: tuple[Range, ...], parts: int
) -> ShardReport:
    """The report on one pane's rows of these ranges; `rows` may be empty."""
    names: tuple[str, ...] = ("",)
    codes, order = None, None
    bounds = None
    if rows.keys is not None:
        names, codes = key_codes(rows.keys)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(names) + 1)).astype(np.int64)
        if not names:
            names, codes, bounds = ("",), None, None
    block = PointBlock(rows.points, rows.weights, rows.ids, Span(0, 0, True), rows.groups)
    ledger = Ledger.of(block, merge_reduce.assignment, codes, len(names), merge_reduce.labelled)
    kept, weights, bounds = _sampled(merge_reduce, shard, rows, ledger, order, bounds)
    coreset = Coreset(
        rows.points[kept],
        weights,
        weights,
        rows.ids[kept],
        None if rows.groups is None else rows.groups[kept],
        None if rows.extras is None else rows.extras(kept),
    )
    return ShardReport(shard, coreset, ledger, ranges, names, bounds, parts)


def _some(values: Array | None, rows: Any) -> Array | None:
    return None if values is None else values[rows]


def key_codes(keys: Any) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """The different keys in rising order, and the number of each row's among them, (n,)."""
    encoded = keys if isinstance(keys, pa.DictionaryArray) else pa.array(keys, pa.string()).dictionary_encode()
    codes = encoded.indices.to_numpy()
    names = np.array(encoded.dictionary.to_pylist(), object)
    used = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    order = used[np.argsort(names[used], kind="stable")]
    rank = np.empty(len(names), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return tuple(names[order].tolist()), rank[codes]


def partial_report_size(merge_reduce: MergeReduce, dim: int, itemsize: int) -> int:
    """Points of a partial report: bounded by bytes in high dimension, never below half of a finished coreset's."""
    size = merge_reduce.sampler.size_in(dim, itemsize)
    return max(-(-size // 2), min(SIZE_FACTOR * size, MOST_BYTES // max(1, dim * itemsize)))


def _sampled(
    merge_reduce: MergeReduce, shard: int, rows: PaneRows, ledger: Ledger, order: Array | None, bounds: Array | None
) -> tuple[Array, Array, Array | None]:
    """Row numbers, unbiased weights, and where each key's begin and end."""
    shape = rows.points.shape[1], rows.points.itemsize
    size = partial_report_size(merge_reduce, *shape)
    if bounds is not None and len(bounds) > per_key.MANY:
        size = -(-merge_reduce.sampler.size_in(*shape) // 2)  # a key has many partial reports, and many keys in each
    if len(rows.ids) <= size:
        kept = np.arange(len(rows.ids)) if order is None else order
        return kept, rows.weights[kept], bounds
    strata = merge_reduce.strata(shard, Coreset(rows.points, rows.weights, rows.weights, rows.ids))
    seed = (merge_reduce.seed, shard, "delta", ledger.digest())
    if order is None or bounds is None:
        kept, weights = merge_reduce.thin(
            rows.points, rows.weights, strata, rows.groups, size, generator(*seed)
        )
        return kept, weights, None
    groups = _some(rows.groups, order)
    sample = Coreset(rows.points[order], rows.weights[order], rows.weights[order], rows.ids[order], groups)
    inside, weights, ends = _thinned(merge_reduce, sample, strata[order], bounds, size, seed)
    return order[inside], weights, ends


def _thinned(
    merge_reduce: MergeReduce, sample: Coreset, strata: Array, bounds: Array, size: int, seed: tuple[Any, ...]
) -> tuple[Array, Array, Array]:
    """Thins each key's rows to about `size`: row numbers, unbiased weights, and the keys' bounds among them."""
    weights = sample.weights_ht
    if len(bounds) - 1 >= per_key.MANY and not merge_reduce.key_by_key:
        return per_key.draw(sample.points, weights, strata, bounds, size, merge_reduce.sampler.z, generator(*seed))
    chosen, drawn = [], []
    for i, (low, high) in enumerate(itertools.pairwise(bounds.tolist())):
        rows, kept = np.arange(low, high), weights[low:high]
        if high - low > size:
            groups = _some(sample.groups, slice(low, high))
            inside, kept = merge_reduce.thin(
                sample.points[low:high], kept, strata[low:high], groups, size, generator(*seed, i)
            )
            rows = low + inside
        chosen.append(rows)
        drawn.append(kept)
    ends = np.cumsum([0, *map(len, chosen)]).astype(np.int64)
    return np.concatenate(chosen), np.concatenate(drawn), ends


def compacted(merge_reduce: MergeReduce, reports: Sequence[ShardReport]) -> ShardReport:
    """One report in place of several of the same shard, thinned key by key to the size of an inner node."""
    whole = merge_reports(merge_reduce, reports)
    size = merge_reduce.node_size(whole.coreset.dim, whole.coreset.points.itemsize)
    return _each_thinned(merge_reduce, whole, size, "compacted")


def _each_thinned(merge_reduce: MergeReduce, whole: ShardReport, size: int, purpose: str) -> ShardReport:
    bounds = np.array([0, len(whole.coreset)], np.int64) if whole.bounds is None else whole.bounds
    if (np.diff(bounds) <= size).all():
        return whole
    strata = merge_reduce.strata(whole.shard, whole.coreset)
    seed = (merge_reduce.seed, whole.shard, purpose, whole.ledger.digest())
    rows, weights, ends = _thinned(merge_reduce, whole.coreset, strata, bounds, size, seed)
    coreset = whole.coreset.keep(rows, weights)
    return dataclasses.replace(whole, coreset=coreset, bounds=None if whole.bounds is None else ends)


def finished(merge_reduce: MergeReduce, reports: Sequence[ShardReport]) -> dict[str, ShardReport]:
    """The finished report of one shard on each key: the last draw, and calibrated weights."""
    whole = merge_reports(merge_reduce, reports)
    if len(whole.keys) >= per_key.MANY and not merge_reduce.key_by_key:
        # Calibrating each of thousands would take longer than reading them: their totals are made right, no more.
        size = merge_reduce.sampler.size_in(whole.coreset.dim, whole.coreset.points.itemsize)
        whole = _each_thinned(merge_reduce, whole, size, "result")
        return {key: _with_total(whole.of_key(key)) for key in whole.keys}
    out = {}
    for key in whole.keys:
        mine = whole.of_key(key)
        sent = merge_reduce.report(whole.shard, [mine.coreset], mine.ledger)
        out[key] = dataclasses.replace(sent, ranges=mine.ranges, keys=mine.keys, parts=mine.parts)
    return out


def _with_total(report: ShardReport) -> ShardReport:
    """With weights that add up to what the shard has taken in."""
    coreset, total = report.coreset, report.coreset.weights_ht.sum()
    if not total > 0:
        return report
    weights = coreset.weights_ht * (report.ledger.weight / total)
    return dataclasses.replace(report, coreset=dataclasses.replace(coreset, weights=weights))


def merge_reports(merge_reduce: MergeReduce, reports: Sequence[ShardReport]) -> ShardReport:
    """All reports of one shard on one pane as one, its samples side by side in an order that does not depend on who
    came first.

    Raises:
      ValueError: the reports are of several shards.
    """
    reports = sorted(reports, key=lambda report: report.name)
    shards = sorted({report.shard for report in reports})
    if len(shards) != 1:
        raise ValueError(f"reports: must be of one shard, got {shards}")
    if len(reports) == 1:
        return reports[0]
    G = merge_reduce.assignment.buckets
    keys = all_keys(report for report in reports if len(report.coreset) or report.ledger.rows) or ("",)
    number = {key: i for i, key in enumerate(keys)}
    ledger = Ledger.zero(G * len(keys))
    labels: LabelWeights | None = None
    codes = []
    for report in reports:
        if not len(report.coreset) and not report.ledger.rows:
            continue
        mine = np.array([number[key] for key in report.keys])
        held, entries = report.ledger.entries()
        where = mine[held // G] * G + held % G
        ledger.counts[where] += entries.counts
        ledger.checksums[where] += entries.checksums
        ledger.weights[where] += entries.weights
        if entries.labels is not None:
            spread = entries.labels.spread(where, ledger.buckets)
            labels = spread if labels is None else labels.merge(spread)
        sizes = [len(report.coreset)] if report.bounds is None else np.diff(report.bounds)
        codes.append(np.repeat(mine, sizes))
    sample = Coreset.union([report.coreset for report in reports])
    bounds = None
    if keys != ("",):
        code = np.concatenate(codes)
        order = np.argsort(code, kind="stable")
        sample = sample.keep(order, sample.weights_ht[order])
        bounds = np.searchsorted(code[order], np.arange(len(keys) + 1)).astype(np.int64)
    ranges = merge_ranges(r for report in reports for r in report.ranges)
    ledger = dataclasses.replace(ledger, labels=labels).packed()
    return ShardReport(shards[0], sample, ledger, ranges, keys, bounds, max(report.parts for report in reports))


def decidable(
    merge_reduce: MergeReduce, reports: Iterable[ShardReport], empty: bool = True
) -> dict[str, list[ShardReport]]:
    """What `decide` takes, for each key that anybody has rows of: one finished report of each shard that has answered.

    A shard that answered without rows of a key says that it has read none.

    Args:
      empty: whether the empty key is there if nobody has any rows; else there is none then.
    """
    by_shard: dict[int, list[ShardReport]] = {}
    for report in reports:
        by_shard.setdefault(report.shard, []).append(report)
    done = {shard: finished(merge_reduce, mine) for shard, mine in sorted(by_shard.items())}
    keys = sorted({key for mine in done.values() for key, report in mine.items() if report.ledger.rows})
    if empty and not keys:
        keys = [""]
    nothing = Ledger.zero(merge_reduce.assignment.buckets)
    out: dict[str, list[ShardReport]] = {}
    for key in keys:
        out[key] = []
        for shard, mine in done.items():
            some = next(iter(mine.values()))
            none = ShardReport(shard, Coreset.empty(some.coreset.dim), nothing, some.ranges, (key,), None, some.parts)
            out[key].append(mine.get(key, none))
    return out
