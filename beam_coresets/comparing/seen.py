"""What one window's sample tells of the source that its rows came from.

A window is itself a sample: a quiet source gives other rows in the next window. So a mean over the source errs by

    row sum_p u_p h_p^2  +  sum_p drawn_p u_p^2 (h_p - h_q)^2 / 2,

u the sampled points' shares (by calibrated weights, which have the least error), h their values about the mean. The
first is for the window's rows, `row` what one of them counts; the second for the points drawn from them, q the
neighbour in the order of drawing that is nearest to p: calibration has made weights right, cluster by cluster, so that
what varies is which of two neighbours was drawn. Points that stand for one row share the first and not the second.

That is less than two standard deviations too wide in most cells, and too narrow where few points were drawn or none; so
of few points the second is taken to be what independent draws would make, sum_p drawn_p u_p^2 h_p^2, which counts as
much as `AS_DRAWN` points.

Shares are compared, not masses, so a loss of hashed buckets leaves fewer rows and no more than that. Where buckets are
parts (partitions of a stream), those that are not complete in both windows are left out of both.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.recovery import Recovery
from beam_coresets.points.magnitude import unit_of
from beam_coresets.results.sampled import Sampled, most_alike, row_weight

AS_DRAWN = 20.0  # points

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """The sampled points of one window.

    Attributes:
      points: (m, d), in the coordinates that centers are in.
      share: (m,) float64, adding up to 1.
      near: (m,) int64, the neighbour that is most like a point; the point itself where it has none.
      drawn: (m,) float64, the part of a point's share that stands for others.
      row: what one row counts, of all that are there: one over their number where they are alike.
      row_of: (m,) int64, the same number (below m) for points that are one row, which several shards have drawn.
      part: (m,) int64, the part that each comes from, where buckets are parts; else None.
      complete: the parts (ascending) that were read completely; None where buckets are hashed.
    """

    points: Array
    share: npt.NDArray[np.float64]
    near: npt.NDArray[np.int64]
    drawn: npt.NDArray[np.float64]
    row: float
    row_of: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64] | None = None
    complete: npt.NDArray[np.int64] | None = None

    @staticmethod
    def of(decision: Decision) -> Seen | None:
        """Of a decision on coresets; None where there are no points, or shards have sent something else."""
        evidence, recovery, sampled = decision.evidence, decision.recovery, Sampled(decision)
        sample, piece = sampled.points, sampled.piece
        each = sample.weights * recovery.multiplier(evidence.shard, evidence.bucket)
        if decision.local is not None or not each.sum() > 0:
            return None
        order = np.argsort(piece, kind="stable")
        other = most_alike(sample.points[order], np.ones(len(order)), piece[order])
        near = np.empty(len(order), np.int64)
        near[order] = np.where(other < 0, order, order[other])
        part = complete = None
        if decision.policy.assignment.parts:
            part, complete = recovery.origins[evidence.bucket], _complete(recovery)
        row = _row(sampled) / float(sampled.shares.sum())
        return Seen(
            sample.points, each / each.sum(), near, sampled.drawn, row, _numbered(sample.ids), part, complete
        )

    def __len__(self) -> int:
        return len(self.points)

    def common(self, other: Seen) -> Seen | None:
        """The points of the parts that both have complete; None where there are none. All of hashed buckets."""
        if self.part is None or self.complete is None or other.complete is None:
            return self
        both = np.intersect1d(self.complete, other.complete)
        rows = np.flatnonzero(np.isin(self.part, both))
        left = float(self.share[rows].sum())
        if not left > 0:
            return None
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        near = place[self.near[rows]]
        return Seen(
            self.points[rows], self.share[rows] / left, np.where(near < 0, np.arange(len(rows)), near),
            self.drawn[rows], self.row / left, _numbered(self.row_of[rows]), self.part[rows], both,
        )  # fmt: skip

    def reduced(self, most: int) -> Seen:
        """About `most` points, drawn in proportion to their shares, in the order that they are in."""
        if len(self) <= most:
            return self
        keep = np.minimum(1.0, most * self.share)
        rows = np.flatnonzero(np.diff(np.floor(np.cumsum(keep) + 0.5), prepend=0.0) > 0)
        share = self.share[rows] / keep[rows]
        drawn = 1 - (1 - self.drawn[rows]) * keep[rows]
        near = np.searchsorted(rows, self.near[rows])
        near = np.where(near < len(rows), near, len(rows) - 1)
        own = np.arange(len(rows))
        near = np.where((near == own) & (own > 0), own - 1, near)
        part = None if self.part is None else self.part[rows]
        return Seen(
            self.points[rows], share / share.sum(), near, drawn, self.row, _numbered(self.row_of[rows]), part,
            self.complete,
        )  # fmt: skip

    @property
    def effective(self) -> float:
        """As many rows, all of them kept, would tell as much as points that were drawn independently."""
        return 1 / max(1e-300, self.row + float(self.drawn @ self.share**2))

    @property
    def alone(self) -> npt.NDArray[np.bool_]:
        """(m,) whether a point has no neighbour."""
        return np.asarray(self.near == np.arange(len(self)))

    def variance(self, value: Array) -> float:
        """Of the mean of `value` (m,) over the source."""
        h = value - self.share @ value
        unit = unit_of(h)
        h = h / unit
        own = len(self) / (len(self) + AS_DRAWN)
        pair = np.where(self.alone, h**2, (h - h[self.near]) ** 2 / 2)
        drawn = self.drawn * self.share**2 @ (own * pair + (1 - own) * h**2)
        return float(self.row * (self.share @ h**2) + drawn) * unit**2


def _complete(recovery: Recovery) -> npt.NDArray[np.int64]:
    """The scheme's parts that are complete in all windows merged."""
    origins = recovery.origins
    missing = np.unique(origins[~recovery.complete])
    return np.setdiff1d(np.unique(origins[recovery.complete]), missing)


def _numbered(ids: Array) -> npt.NDArray[np.int64]:
    """Rows (m,) in the order that they first come in: ids read back from tables are others, in the same order."""
    _, first, number = np.unique(ids, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[number.ravel()], np.int64)


def _row(sampled: Sampled) -> float:
    """What one row weighs, such that its share of the weight is the variance of a mean that rows alone would make."""
    decision = sampled.decision
    recovery, mean = decision.recovery, row_weight(decision)
    weights, counts = recovery.weights[recovery.covered], recovery.counts[recovery.covered]
    unit = unit_of(weights)
    if not decision.policy.assignment.parts and len(weights) > 1:
        w = weights / unit  # buckets are random: their weights vary as rows make them
        return max(mean, float(w.var(ddof=1) / max(1e-300, w.mean())) * unit)
    if np.allclose(weights, counts * mean, rtol=1e-9):
        return mean
    each = sampled.shares  # no row weighs more than its point
    return max(mean, float(each @ sampled.points.weights_ht / each.sum()))
