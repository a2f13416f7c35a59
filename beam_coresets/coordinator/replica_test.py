"""Do replicas tell the same story? Samples of the same buckets, drawn by different shards, compared.

For a function f of a point let T be a shard's unbiased estimate of the sum of f over its buckets, and U what the
other holders of the same buckets make of it, each bucket's estimate averaged over them. If all are honest, D = T -
U has mean zero, and where a point is as likely to be drawn by one as by the other its sign is a fair coin. Then
P(|D| >= x V) <= 2 exp(-x^2 / 2), with V^2 the sum of squared contributions, whatever the tails of the data (Efron,
*Student's t-test under symmetry conditions*, JASA 1969). f may depend on all samples together, as long as it does
not say whose point it is; so a constant is taken off that makes V least. Systematic draws spread samples evenly,
which makes |D| smaller than that.

Two things are not as in that theorem, and V answers for them:

- Shards draw a point with different probabilities, as each has centers of its own. So V^2 also counts what a point
  would contribute at the weight that points near it have in the other shards. The mean of the two is unbiased for
  the variance of D where weights are alike; for points heavier than those near them their own part counts in full.
- V must not be a liar's to choose, or one gigantic weight would excuse itself. So in V no weight counts for more
  than `CAP` times the usual one: the median over shards, in proportion to a shard's load.

The functions: indicators of some cells of space; coordinates within a cell, scaled by its median radius and
clipped, their squared length, and squares along random directions; and the same with all of space as one cell.
Above `MOST_DIM` dimensions all of that in a random projection. Each with both weights, unbiased and calibrated.

Beside these moments, rows: where two samples have a row of the same id, its coordinates must be the same. As users'
ids may name several rows, it is the share of unequal ones that counts: against that of the other shards, and
against the ids that come more than once in a sample.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import nearest
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.report import ShardReport

MOST_CELLS = 32
POINTS_A_CELL = 16  # of each shard, on average
MOST_DIM = 16
DIRECTIONS = 8
CLIP = 3.0  # median radii
CAP = 2.0
SAME_RADIUS = 1 / 64  # of the median radius of a cell: rows so close are taken for the same
ODDS = 4.0  # honest shards' odds of showing another row under a common id differ by less
LARGEST = 1e100  # coordinates beyond it are treated as equal to it: squares must not overflow

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """The samples of all shards side by side, m points that weigh anything.

    Attributes:
      points: (m, d). ids: (m,) uint64. shard, bucket: (m,) int64.
      weights: (2, m) unbiased and calibrated.
      space: (m, d') float64, at most `MOST_DIM` coordinates. cell: (m,) below `cells`.
      mean: (s,) what a point of a shard weighs on average, by its ledger.
      near: (2, m) what points of the same cell weigh in other shards, brought to this shard's load.
      counted: (2, m) the weight that a point's own part in the variance is reckoned with.
    """

    points: Array
    ids: npt.NDArray[np.uint64]
    shard: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]
    weights: Array
    space: Array
    cell: Array
    cells: int
    mean: Array
    near: Array
    counted: Array

    @staticmethod
    def of(reports: Sequence[ShardReport], assignment: Assignment) -> Pool:
        """All the shards' sampled points side by side; those that weigh nothing count for nothing."""
        samples = [dataclasses.replace(r.coreset, groups=None, extras=None) for r in reports]
        samples = [sample.scaled(1.0 * (sample.weights_ht > 0)) for sample in samples]
        sample = Coreset.union(samples)
        shard = np.repeat([r.shard for r in reports], [len(sample) for sample in samples]).astype(np.int64)
        weights = np.stack([sample.weights_ht, sample.weights])
        mean = _mean_weights(reports, assignment.shards)
        weight = np.zeros(assignment.shards)
        weight[[r.shard for r in reports]] = [r.ledger.weight for r in reports]
        usual = [_usual_weights(w, shard, mean, weight) for w in weights]
        most = CAP * np.stack([usual[0], np.maximum(*usual)])[:, shard]
        space, cell, cells = _cells(sample.points, np.minimum(weights[0], most[0]), shard, assignment.seed)
        near = np.stack([_near(w, m / CAP, shard, cell, cells, mean) for w, m in zip(weights, most, strict=True)])
        capped = np.minimum(weights, most)
        counted = np.maximum(capped, 2 * capped - near)
        bucket = assignment.bucket_of(sample.ids).astype(np.int64)
        return Pool(sample.points, sample.ids, shard, bucket, weights, space, cell, cells, mean, near, counted)

    def take(self, rows: Array) -> Pool:
        """Some of the points."""
        one = {name: getattr(self, name)[rows] for name in ("points", "ids", "shard", "bucket", "space", "cell")}
        two = {name: getattr(self, name)[:, rows] for name in ("weights", "near", "counted")}
        return dataclasses.replace(self, **one, **two)

    def totals(self, assignment: Assignment, known: Array, signs: Array) -> Array:
        """log p of each shard's unbiased and calibrated weights against its ledger's, (s,).

        Too much in total: what was missed can't be told from what was drawn, so too little is no evidence. And random
        signs for each bucket: the hash that puts rows into buckets knows nothing about them (parts do, so those are
        left out).

        Args:
          known: (s, buckets) weights by the shards' ledgers. signs: (buckets, sums) 1 or -1.
        """
        s = assignment.shards
        by_shard, total = _by(self.shard, s), known.sum(axis=1)
        expected = known @ signs / np.where(total > 0, total, 1.0)[:, None]
        out = np.zeros(s)
        for w in self.weights:
            square = np.bincount(self.shard, w**2, s)
            out = np.minimum(out, _log_p(np.maximum(np.bincount(self.shard, w, s) - total, 0.0), square))
            if not assignment.parts:
                gap = by_shard @ (w[:, None] * (signs[self.bucket] - expected[self.shard]))
                out = np.minimum(out, _log_p(np.abs(gap).max(axis=1), square))
        return out

    def repeats(self, shards: int) -> Array:
        """log p of each shard's ids that come more than once, (s,), against the others' share of them: users' ids may
        repeat, but then they do so in all samples."""
        repeated, points = np.zeros((2, shards), np.int64)
        for shard in np.unique(self.shard):
            counts = np.unique(self.ids[self.shard == shard], return_counts=True)[1]
            repeated[shard], points[shard] = (counts > 1).sum(), counts.sum()
        out = np.zeros(shards)
        for i in np.flatnonzero(repeated):
            others = int(repeated.sum() - repeated[i]), int(points.sum() - points[i])
            out[i] = _log_excess(int(repeated[i]), int(points[i]), *others)
        return out


def _by(group: Array, groups: int) -> Any:
    """The sparse (groups, n) matrix that adds up rows by group."""
    return sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))), (groups, len(group)))


def _log_p(gap: Array, variance: Array) -> Array:
    some = variance > 0
    return np.where(some, np.minimum(0.0, math.log(2) - gap**2 / (2 * np.where(some, variance, 1.0))), 0.0)


def _cells(points: Array, weights: Array, shard: Array, seed: int) -> tuple[Array, Array, int]:
    """Coordinates to compare in, and the nearest of some points drawn at random, half of them by weight: cells follow
    points and mass, not distances, so that a few points far away can't draw all cells to themselves."""
    points = np.clip(points.astype(np.float64), -LARGEST, LARGEST)
    m, d = points.shape
    rng = generator(seed, "audit", "cells")
    if d > MOST_DIM:
        points = points @ (rng.standard_normal((d, MOST_DIM)) / math.sqrt(MOST_DIM))
    if not m:
        return points, np.empty(0, np.int32), 0
    usual = np.median(np.unique(shard, return_counts=True)[1])
    half = int(np.clip(usual // POINTS_A_CELL, 1, MOST_CELLS)) // 2
    drawn = np.r_[rng.choice(m, half + 1), rng.choice(m, half, p=weights / weights.sum())]
    centers = np.unique(points[drawn], axis=0)
    return points, nearest(points, centers)[0], len(centers)


def _mean_weights(reports: Sequence[ShardReport], shards: int) -> Array:
    """(s,); a shard that sent less than a quarter of the usual number is taken to have sent that."""
    sizes = [len(r.coreset) for r in reports if 0 < len(r.coreset) < r.ledger.rows]
    usual = float(np.quantile(sizes, 0.5, method="lower")) if sizes else 0.0
    out = np.ones(shards)
    for r in reports:
        out[r.shard] = r.ledger.weight / max(len(r.coreset), min(r.ledger.rows, usual) / 4, 1)
    return out


def _usual_weights(w: Array, shard: Array, mean: Array, weight: Array) -> Array:
    """(s,) what a unit of mass is sampled with, by the median of all shards, in proportion to a shard's load.

    What a shard's sample falls short of its ledger's weight, (s,), counts as one heavy point that it has missed.
    """
    s = len(mean)
    square, plain = np.bincount(shard, w**2, s), np.bincount(shard, w, s)
    missed = np.maximum(weight - plain, 0.0)
    load = (plain + missed) * mean
    some = load > 0
    shape = (square + missed**2)[some] / load[some]
    usual = float(np.quantile(shape, 0.5, method="lower")) if some.any() else 1.0
    return np.asarray(usual * np.where(mean > 0, mean, 1.0))


def _near(w: Array, usual: Array, shard: Array, cell: Array, cells: int, mean: Array) -> Array:
    """`Pool.near`; the usual weight where nobody else has points."""
    s = len(mean)
    load = np.where(mean > 0, mean, 1.0)[shard]
    at = shard * cells + cell
    square, plain = (np.bincount(at, v, s * cells).reshape(s, cells) for v in ((w / load) ** 2, w / load))
    others = plain.sum(axis=0) - plain
    seen = others > 1e-9 * plain.sum()
    ratio = np.where(seen, (square.sum(axis=0) - square) / np.where(seen, others, 1.0), 0.0)
    return np.where(seen[shard, cell], ratio[shard, cell] * load, usual)


@dataclasses.dataclass(frozen=True, eq=False)
class ReplicaEvidence:
    """Sums over each (shard, bucket) from which any subset of the shards can be compared.

    Attributes:
      shard, bucket: (c,) of each sum.
      first: (c, 2, f) sums of w g, with each weight and each function g; g is 1 in the first place.
      own, cross: (2, c, 2, f) sums of w counted g^2 and w near g^2 / mean, and of the same with g in place of g^2.
      mean: (s,) see `Pool`.
      common, unequal: (s, s) ids that two samples share, and those of them whose points are far apart.
      repeated: (s,) ids that come more than once in a sample.
      buckets: how many there are.
    """

    shard: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]
    first: Array
    own: Array
    cross: Array
    mean: Array
    common: Array
    unequal: Array
    repeated: Array
    buckets: int

    @staticmethod
    def of(pool: Pool, assignment: Assignment) -> ReplicaEvidence:
        """From points of buckets with several trusted holders."""
        s, G = assignment.shards, assignment.buckets
        held, place = np.unique(pool.shard * G + pool.bucket, return_inverse=True)
        by_place = _by(place, len(held))
        values, radius = _functions(pool, assignment.seed)
        load = np.where(pool.mean > 0, pool.mean, 1.0)[pool.shard]
        shape = (len(held), 2, values.shape[1])
        first, own, cross = np.zeros(shape), np.zeros((2, *shape)), np.zeros((2, *shape))
        for kind, (w, near, counted) in enumerate(zip(pool.weights, pool.near, pool.counted, strict=True)):
            first[:, kind] = by_place @ (values * w[:, None])
            for power, powered in enumerate((values**2, values)):
                own[power, :, kind] = by_place @ (powered * (w * counted)[:, None])
                cross[power, :, kind] = by_place @ (powered * (w * near / load)[:, None])
        return ReplicaEvidence(held // G, held % G, first, own, cross, pool.mean, *_rows(pool, radius, s), G)

    @property
    def tests(self) -> int:
        """How many tests of each shard there are."""
        return 2 * self.first.shape[2] + 1

    def log_p(self, without: Collection[int] = (), only: int | None = None) -> Array:
        """(s, tests) bounds on log p: each moment of each shard against the other holders', and, last, its rows.

        Args:
          without: shards that are left out, as if they had not answered.
          only: the number of one test; the others' columns are then zero.
        """
        s, functions = len(self.mean), self.first.shape[2]
        out = np.zeros((s, self.tests))
        kept = np.ones(s, np.bool_)
        kept[list(without)] = False
        rows = np.flatnonzero(kept[self.shard])
        holders = np.bincount(self.bucket[rows], minlength=self.buckets)
        rows = rows[holders[self.bucket[rows]] > 1]
        others = holders[self.bucket[rows]] - 1.0
        if only is None:
            out[:, :-1] = self._moments_log_p(rows, others, slice(None)).reshape(s, 2 * functions)
        elif only < self.tests - 1:
            kind, function = divmod(only, functions)
            out[:, only] = self._moments_log_p(rows, others, np.array([0, function]))[:, kind, 1]
        if only is None or only == self.tests - 1:
            shard = self.shard[rows]
            out[:, -1] = self._rows_log_p(kept, np.bincount(shard, minlength=s), np.bincount(shard, others, s))
        return out

    def _moments_log_p(self, rows: Array, others: Array, functions: Any) -> Array:
        """(s, 2, functions), from some of the sums, (r,), whose buckets have so many other holders, (r,)."""
        s, shard, bucket = len(self.mean), self.shard[rows], self.bucket[rows]
        by_shard, by_bucket = _by(shard, s), _by(bucket, self.buckets)
        others = others[:, None, None]

        def rest(values: Array) -> Array:
            flat = values.reshape(len(rows), math.prod(values.shape[1:]))
            return np.asarray(((by_bucket @ flat)[bucket] - flat).reshape(values.shape))

        def summed(values: Array) -> Array:
            shape = values.shape[1:]
            return np.asarray((by_shard @ values.reshape(len(rows), math.prod(shape))).reshape(s, *shape))

        first, mean = self.first[rows][:, :, functions], self.mean[shard][:, None, None]
        gap = summed(first - rest(first) / others)
        square, product = (
            summed(own + cross * rest(mean) / others**2 + rest(own) / others**2 + mean * rest(cross) / others) / 2
            for own, cross in zip(self.own[:, rows][..., functions], self.cross[:, rows][..., functions], strict=True)
        )
        # V is least for g - c with this c, and as c does not tell whose points are whose, that is a function, too.
        mass = square[:, :, :1]
        c = product / np.where(mass > 0, mass, 1.0)
        c[:, :, 0] = 0.0
        return _log_p(gap - c * gap[:, :, :1], np.maximum(square - c * product, 1e-12 * square))

    def _rows_log_p(self, kept: Array, held: Array, partners: Array) -> Array:
        """(s,) log p of unequal rows under common ids: too many against the other shards', and against ids that repeat.

        Args:
          held: (s,) buckets of each shard. partners: (s,) how many holders they have beside it, all together.
        """
        out = np.zeros(len(kept))
        pairs = np.outer(kept, kept)
        common, unequal, repeated = self.common * pairs, self.unequal * pairs, self.repeated * kept
        for i in np.flatnonzero(unequal.sum(axis=1)):
            n, m = int(common[i].sum()), int(unequal[i].sum())
            against_shards = _log_excess(m, n, int(unequal.sum()) // 2 - m, int(common.sum()) // 2 - n)
            # Two rows of an id go to one sample as often as to two: r a bucket make r / 2 for each pair of holders.
            expected = m * (held.sum() - held[i]) / (2 * ODDS / 2 * partners[i])
            seen = repeated.sum() - repeated[i]
            out[i] = max(against_shards, math.log(max(special.pdtr(seen, expected), 1e-300)))
        return out

    def partners(self, shard: int) -> list[int]:
        """The shards that it shares buckets with."""
        theirs = np.isin(self.bucket, self.bucket[self.shard == shard])
        return sorted(set(self.shard[theirs].tolist()) - {shard})


def _centered(values: Array, cell: Array, cells: int) -> Array:
    """Values (m, f) less their means in each cell."""
    size = np.maximum(np.bincount(cell, minlength=cells), 1)
    return np.asarray(values - (_by(cell, cells) @ values / size[:, None])[cell])


def _unit(space: Array, cell: Array, cells: int) -> tuple[Array, Array]:
    """Coordinates within a cell, (m, d), in units of the median distance of its points from their mean, and clipped;
    and that distance for each point, (m,)."""
    moved = _centered(space, cell, cells)
    length = np.sqrt((moved**2).sum(axis=1))
    order = np.lexsort((length, cell))
    middle = np.searchsorted(cell[order], np.arange(cells)) + np.bincount(cell, minlength=cells) // 2
    radius = length[order[np.minimum(middle, len(order) - 1)]][cell] if len(order) else length
    return moved / np.maximum(np.maximum(radius, length / CLIP), 1e-300)[:, None], radius


def _functions(pool: Pool, seed: int) -> tuple[Array, Array]:
    """(m, f) values of the functions, and the radius of each point's cell, (m,)."""
    m, d = pool.space.shape
    directions = generator(seed, "audit", "directions").standard_normal((d, DIRECTIONS)) / math.sqrt(max(d, 1))
    out = [np.ones((m, 1)), np.eye(pool.cells)[pool.cell]]
    for cell, cells in ((np.zeros(m, np.int32), 1), (pool.cell, pool.cells)):
        unit, radius = _unit(pool.space, cell, cells)
        squares = np.column_stack([(unit**2).sum(axis=1), (unit @ directions) ** 2])
        out += [_centered(unit, cell, cells), _centered(squares, cell, cells)]
    return np.column_stack(out), radius


def _rows(pool: Pool, radius: Array, s: int) -> tuple[Array, Array, Array]:
    """`ReplicaEvidence.common`, `unequal` and `repeated`; of an id's rows in one sample the one with the least first
    coordinate is compared."""
    ids, space, shard = pool.ids, pool.space, pool.shard
    common, unequal = np.zeros((s, s), np.int64), np.zeros((s, s), np.int64)
    order = np.lexsort((*space.T[:1], shard, ids))
    again = np.r_[False, (ids[order][1:] == ids[order][:-1]) & (shard[order][1:] == shard[order][:-1])][: len(order)]
    repeated = np.bincount(shard[order][again], minlength=s)
    order = order[~again]
    for lag in range(1, s):
        first, second = order[:-lag], order[lag:]
        same = ids[first] == ids[second]
        if not same.any():
            break
        first, second = first[same], second[same]
        apart = np.sqrt(((space[first] - space[second]) ** 2).sum(axis=1))
        np.add.at(common, (shard[first], shard[second]), 1)
        same = SAME_RADIUS * np.minimum(radius[first], radius[second])
        np.add.at(unequal, (shard[first], shard[second]), apart > same)
    return common + common.T, unequal + unequal.T, repeated


def _log_excess(m: int, n: int, other_m: int, other_n: int) -> float:
    """log P(at least m of n here), given m + other_m of n + other_n in all, if the odds here are `ODDS` times the
    others': Fisher's noncentral hypergeometric distribution. Without others, nothing is too much."""
    total = m + other_m
    j = np.arange(max(0, total - other_n), min(total, n) + 1)
    ways = -sum(special.gammaln(x + 1) for x in (j, n - j, total - j, other_n - total + j)) + j * math.log(ODDS)
    return float(min(0.0, special.logsumexp(ways[j >= m]) - special.logsumexp(ways)))
