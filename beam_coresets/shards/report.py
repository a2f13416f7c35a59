"""ShardReport: what a shard tells the coordinator. Everything before it may be done in several ways, all after it is
the same."""
from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets import codec
from beam_coresets.points.coreset import Coreset
from beam_coresets.shards.label_weights import LabelWeights
from beam_coresets.shards.ledger import Ledger, sparse
from beam_coresets.shards.refused import Counts, added, counts_of

SUMMARY_KINDS = ("coreset", "local_centers", "pca")
WHOLE = -1  # the part of ranges that speak of all that a shard was given


@dataclasses.dataclass(frozen=True)
class Range:
    """The offsets of one part that a report covers.

    Attributes:
      part: index of the part, or `WHOLE`.
      start, stop: [start, stop); the ranges that a shard reports of a part in one window join without gaps.
      rows: how many of the rows read there belong to the window.
      total: if the shard has nothing to add from this part, the rows of all its ranges together; else -1.
      late: the shard had said before that it has nothing to add.
      headless: reading of the part began after the window had: rows from before are in nobody's hands.
      refused: how many of the rows read there belong to the window and were refused, by column.
    """

    part: int
    start: int
    stop: int
    rows: int
    total: int = -1
    late: bool = False
    headless: bool = False
    refused: Counts = ()

    def to_fields(self) -> list[Any]:
        """As JSON has it; most ranges have nothing refused, and say nothing of it."""
        fields = [self.part, self.start, self.stop, self.rows, self.total, self.late, self.headless]
        return [*fields, self.refused] if self.refused else fields

    @staticmethod
    def from_fields(fields: Sequence[Any]) -> Range:
        """The inverse of `to_fields`."""
        return Range(*fields[:7], *map(counts_of, fields[7:]))


@dataclasses.dataclass(frozen=True, eq=False)
class ShardReport:
    """A shard's summary of what it has read.

    Attributes:
      shard: which shard.
      coreset: the sample, with unbiased and (once finished) calibrated weights; rows of one key side by side.
      ledger: what was taken in, bucket by bucket, for each of `keys` in turn.
      ranges: what it covers, part by part; none for everything that the shard was given.
      keys: whose points these are, in rising order; one empty key where nobody asks.
      bounds: (len(keys) + 1,) int64, where each key's rows begin and end in `coreset`; None for one key.
      parts: how many parts the shard knows of; 0 where it doesn't matter.
      kind: what the points are: a "coreset", or "local_centers" or "pca", of which a shard counts as a whole only.
      additive: of the latter kinds: all that the shard holds costs at most what its points cost and this,
      slack: and at least that less this, whatever the centers or the subspace.
      estimated: whether these two and the points' weights come from a sample of what the shard holds.
    """

    shard: int
    coreset: Coreset
    ledger: Ledger
    ranges: tuple[Range, ...] = ()
    keys: tuple[str, ...] = ("",)
    bounds: npt.NDArray[np.int64] | None = None
    parts: int = 0
    kind: str = "coreset"
    additive: float = 0.0
    slack: float = 0.0
    estimated: bool = False

    @property
    def name(self) -> tuple[int, tuple[tuple[int, int, int], ...]]:
        """What identifies a report: a second one of the same name is a repetition."""
        return self.shard, tuple((r.part, r.start, r.stop) for r in self.ranges)

    @property
    def buckets(self) -> int:
        """Buckets of one key."""
        return self.ledger.buckets // len(self.keys)

    def finished(self) -> npt.NDArray[np.bool_]:
        """The buckets that the shard has nothing to add to, (buckets,): all the parts whose ranges are complete."""
        done = np.zeros(self.buckets, np.bool_)
        if not self.ranges:
            done[:] = True
        for part in finished_parts(self.ranges):
            done[slice(None) if part == WHOLE else part] = True
        return done

    def headless(self) -> npt.NDArray[np.bool_]:
        """The buckets of which it has no rows from before reading began, (buckets,)."""
        out = np.zeros(self.buckets, np.bool_)
        for r in self.ranges:
            if r.headless:
                out[slice(None) if r.part == WHOLE else r.part] = True
        return out

    def late_rows(self) -> list[tuple[int, int, int, int, int]]:
        """What is lost if it comes to nothing: shard, part, start, stop and how many of the range's rows are in this
        report; those of other groups of keys are in reports of their own."""
        held = self.ledger.counts.reshape(len(self.keys), -1).sum(axis=0)
        ranges = self.ranges or (Range(WHOLE, 0, 0, self.ledger.rows),)
        rows = [int(held.sum() if r.part == WHOLE else held[r.part]) for r in ranges]
        return [(self.shard, r.part, r.start, r.stop, n) for r, n in zip(ranges, rows, strict=True) if n]

    def of_key(self, key: str) -> ShardReport:
        """What it says about one of its keys."""
        if self.keys == (key,):
            return self
        assert self.bounds is not None
        i = bisect.bisect_left(self.keys, key)
        if self.keys[i : i + 1] != (key,):
            raise KeyError(key)
        rows = slice(int(self.bounds[i]), int(self.bounds[i + 1]))
        coreset = self.coreset
        mine = Coreset(
            coreset.points[rows],
            coreset.weights[rows],
            coreset.weights_ht[rows],
            coreset.ids[rows],
            None if coreset.groups is None else coreset.groups[rows],
            None if coreset.extras is None else coreset.extras.slice(rows.start, rows.stop - rows.start),
        )
        ledger = self.ledger.of_buckets(slice(i * self.buckets, (i + 1) * self.buckets))
        return ShardReport(self.shard, mine, ledger, self.ranges, (key,), None, self.parts)

    def to_bytes(self) -> bytes:
        """The whole report, for `from_bytes`."""
        held, entries = self.ledger.entries()
        fields = {
            "shard": self.shard,
            "ranges": [r.to_fields() for r in self.ranges],
            "keys": list(self.keys),
            "parts": self.parts,
            "entries": self.ledger.buckets,
            "whole": [self.kind, self.additive, self.slack, self.estimated],
        }
        ledger: dict[str, npt.NDArray[Any] | None] = {
            "held": held.astype(np.int64 if len(held) and held[-1] >= 2**31 else np.int32),
            "counts": entries.counts,
            "checksums": entries.checksums,
            "totals": entries.weights,
        }
        if entries.labels is not None:
            ledger |= entries.labels.arrays()
        return codec.pack("ShardReport", fields, self.coreset.arrays() | ledger | {"bounds": self.bounds})

    @staticmethod
    @codec.decoder("ShardReport")
    def from_bytes(data: bytes) -> ShardReport:
        """The report that `to_bytes` was given."""
        fields, arrays = codec.unpack(data, "ShardReport")
        counts, checksums, weights = (np.asarray(arrays[name]) for name in ("counts", "checksums", "totals"))
        entries = Ledger(counts, checksums, weights, LabelWeights.from_arrays(arrays))
        held = np.asarray(arrays["held"], np.int64)
        bound = int(fields["entries"])
        inside = not len(held) or (held[0] >= 0 and held[-1] < bound and bool((held[1:] > held[:-1]).all()))
        if held.ndim != 1 or held.shape != counts.shape or not inside or bound < 0:
            raise ValueError(f"held: must be {len(counts)} rising buckets below {fields['entries']}, got others")
        ledger = sparse(held, entries, bound)
        ranges = tuple(map(Range.from_fields, fields["ranges"]))
        keys, bounds = tuple(fields["keys"]), arrays["bounds"]
        coreset = Coreset.from_arrays(arrays)
        return ShardReport(fields["shard"], coreset, ledger, ranges, keys, bounds, fields["parts"], *fields["whole"])


def finished_parts(ranges: Iterable[Range]) -> list[int]:
    """The parts of which all rows are there: the total was named, and the ranges add up to it."""
    rows: dict[int, int] = {}
    totals: dict[int, int] = {}
    for r in ranges:
        rows[r.part] = rows.get(r.part, 0) + r.rows
        totals[r.part] = max(totals.get(r.part, -1), r.total)
    return sorted(part for part, total in totals.items() if 0 <= total <= rows[part])


def merge_ranges(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """One range a part, from the first offset to the last; rows add up, the last named total counts."""
    out: dict[int, Range] = {}
    for r in sorted(ranges, key=lambda r: (r.part, r.start, r.stop)):
        have = out.get(r.part)
        if have is None:
            out[r.part] = r
            continue
        out[r.part] = Range(
            r.part,
            have.start,
            max(have.stop, r.stop),
            have.rows + r.rows,
            max(have.total, r.total),
            have.late or r.late,
            have.headless or r.headless,
            added((have.refused, r.refused)),
        )
    return tuple(out[part] for part in sorted(out))


def all_keys(reports: Iterable[ShardReport]) -> tuple[str, ...]:
    """The keys that any of the reports has rows of, in rising order."""
    return tuple(sorted({key for report in reports for key in report.keys}))


def by_key(report: ShardReport) -> Mapping[str, ShardReport]:
    """What a report says about each of its keys."""
    return {key: report.of_key(key) for key in report.keys}
