"""The sampling error of a total that is estimated from the shards' samples.

Replicas of a bucket are sampled independently, so their disagreement measures it. With e[i, b] shard i's estimate of
bucket b's total, m[b] its trusted holders, d[i, b] = e[i, b] - mean over b's holders:

    r[i] = sum_b d[i, b] / sqrt(m[b] (m[b] - 1)),     V_r = sum_i r[i]^2       over buckets with two holders or more

V_r is unbiased where a shard's errors on buckets with different co-holders are uncorrelated. Shards draw such buckets
as separate strata to make it so; under schemes that choose holders at random there are too many of them, and V_r is
then too large. To one-holder buckets the pooled variance of a replica is imputed, in proportion to their cost. With few
shards V_r has few degrees of freedom (Satterthwaite).

The sample measures its own error, too. Points come in the order in which they were drawn systematically, so that
neighbours are alike; half the squared differences of neighbours estimate the variance of a systematic draw (Wolter,
*Introduction to Variance Estimation*, 2007, section 8.2, estimator v2), here with the finite-population factor
1 - 1 / w of each point. Of the `ADJACENT` before and after a point the one counts that is most like it in place and
weight, whatever it costs: the next may be of another cluster or ring, which were drawn apart. This V_s has as many
degrees of freedom as points matter, and is still somewhat too large: a draw along a tree is more even than neighbours
tell.

So both are pooled, V_s with as many degrees of freedom as points matter but at most `PRIOR`: with few shards it is V_s
that counts, with many V_r.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.recovery import Recovery
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.magnitude import unit_of
from beam_coresets.shards.assignment import pieces_of

PRIOR = 20.0  # degrees of freedom of the sample's own variance beside the replicas'
LEAST_DEGREES = 2.0  # and of that of very few points
ADJACENT = 2  # each way, of which the one most like a point tells its error
LIKE = 1e-3  # difference of log weights below which only places count
BLOCK = 4096  # rows that are compared at once
DENSE = 2000  # shards up to which a matrix of numbers for all pairs of them is the fastest

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class SamplingError:
    """Of an estimated total.

    Attributes:
      variance: of the total.
      degrees: of freedom of the variance.
      basis: "replicas", "replicas, one-holder buckets imputed" or "sample".
    """

    variance: float
    degrees: float
    basis: str


def sampling_error(decision: Decision, value: Array) -> tuple[float, SamplingError]:
    """The estimate of a total over all rows, and its error.

    Args:
      value: (m,) what each point of the evidence is, times its unbiased weight.
    """
    evidence, recovery = decision.evidence, decision.recovery
    shard, bucket, cell = cells_of(decision)
    e = np.bincount(cell, value, len(bucket))
    mean = np.bincount(bucket, e, len(recovery.holders)) / np.maximum(recovery.holders, 1)
    by_replicas = replica_variance(e, shard, bucket, mean, recovery)
    parts = value / np.maximum(recovery.holders, 1)[evidence.bucket]
    variance, degrees = sample_variance(parts, drawn_share(decision), pieces(decision), evidence.sample)
    if not np.isfinite(degrees):  # no point stands for others; missing rows may cost as much as the dearest
        each = shares(decision)
        missing = abs(float(recovery.weights.sum() - each.sum()))
        if missing > 1e-9 * recovery.weights.sum():
            dearest = np.abs(parts / np.where(each > 0, each, 1.0)).max(initial=0.0)
            variance, degrees = float(missing * dearest) ** 2, LEAST_DEGREES
    if by_replicas is None:
        pooled = SamplingError(variance, degrees, "sample")
    else:
        prior = min(PRIOR, degrees)
        both = by_replicas.degrees + prior
        if np.isfinite(both):
            variance = (by_replicas.degrees * by_replicas.variance + prior * variance) / both
        pooled = SamplingError(variance, both, by_replicas.basis)
    scaled = dataclasses.replace(pooled, variance=pooled.variance * recovery.scale**2)
    return float(mean.sum()) * recovery.scale, scaled


def shares(decision: Decision) -> Array:
    """(m,) what each point of the evidence counts for in an estimate, before scaling: its unbiased weight over the
    number of its bucket's trusted holders."""
    evidence, holders = decision.evidence, np.maximum(decision.recovery.holders, 1)
    return np.asarray(evidence.sample.weights_ht / holders[evidence.bucket])


def row_weight(decision: Decision) -> float:
    """The average weight of an input row."""
    recovery = decision.recovery
    return float(recovery.weights.sum() / max(1, recovery.counts.sum()))


def drawn_share(decision: Decision) -> Array:
    """1 - 1 / w for each point of the evidence, w its weight in units of an input row's average weight: a point stands
    for itself, at just the cost it has, and for w - 1 others that nobody has seen."""
    weights, unit = decision.evidence.sample.weights_ht, row_weight(decision)
    return np.asarray(1 - np.minimum(1.0, unit / np.maximum(weights, unit)))


def pieces(decision: Decision) -> npt.NDArray[np.int64]:
    """The piece (m,) of each point: those of different pieces were drawn independently."""
    evidence, recovery = decision.evidence, decision.recovery
    apart = pieces_of(len(recovery.trusted))
    return np.asarray(evidence.shard * apart + recovery.origins[evidence.bucket] % apart, np.int64)


def cells_of(decision: Decision) -> tuple[Array, Array, Array]:
    """The shard and bucket of each trusted pair of them, and each sampled point's among these pairs, (m,)."""
    evidence, trusted = decision.evidence, decision.recovery.trusted
    pairs = np.flatnonzero(trusted)
    shard, bucket = np.divmod(pairs, trusted.shape[1])
    place = evidence.shard * trusted.shape[1] + evidence.bucket
    if trusted.size > DENSE**2:
        return shard, bucket, np.searchsorted(pairs, place)
    return shard, bucket, (np.cumsum(trusted) - 1)[place]


def sample_variance(value: Array, drawn: Array, piece: Array, sample: Coreset) -> tuple[float, float]:
    """V_s of `value.sum()`, and its degrees of freedom: the effective number of points, less one.

    Args:
      value, drawn, piece: (m,) of the sample's points, in the order of drawing; `drawn` is 1 - 1 / w.
    """
    rows = np.flatnonzero(drawn > 1e-9)
    if not len(rows):
        return 0.0, float("inf")
    rows = rows[np.argsort(piece[rows], kind="stable")]
    v, a = value[rows], drawn[rows]
    other = most_alike(sample.points[rows], sample.weights_ht[rows], piece[rows])
    # A piece of one point has no neighbour: it varies as if it might as well not have been drawn (Poisson sampling).
    squares = np.where(other < 0, v**2, (v - v[other]) ** 2 / 2)
    weight = np.abs(v * a)
    effective = float(weight.sum() ** 2 / max(float((weight**2).sum()), 1e-300))
    return float((a * squares).sum()), max(LEAST_DEGREES, effective - 1)


def most_alike(points: Array, weights: Array, piece: Array) -> npt.NDArray[np.int64]:
    """The row (m,) of the neighbour that is most like each point, of the next one where that is in the same place; -1
    where its piece has no other.

    Args:
      points (m, d), weights (m,): of rows by piece (m,), in the order of drawing.
    """
    m = len(points)
    scale, logs = points.dtype.type(unit_of(points)), np.log(np.maximum(weights, 1e-300))
    best, other = np.full(m, np.inf), np.full(m, -1, np.int64)
    for step in range(1, min(ADJACENT, m - 1) + 1):
        unlike = np.empty(m - step)
        for low in range(0, m - step, BLOCK):
            here, there = points[low : low + BLOCK][: m - step - low], points[low + step : low + step + BLOCK]
            apart = here / scale - there / scale
            unlike[low : low + len(apart)] = np.einsum("ij,ij->i", apart, apart)
        unlike *= LIKE + np.abs(logs[step:] - logs[:-step])
        unlike[piece[step:] != piece[:-step]] = np.inf
        for mine, its in ((slice(0, m - step), slice(step, m)), (slice(step, m), slice(0, m - step))):
            nearer = unlike < best[mine]
            best[mine] = np.where(nearer, unlike, best[mine])
            other[mine] = np.where(nearer, np.arange(m)[its], other[mine])
    # Of rows in one place nothing but their number is uncertain, which the next place in the order tells.
    follows = np.flatnonzero((best[:-1] == 0) & (piece[1:] == piece[:-1]))
    other[follows] = follows + 1
    return other


def replica_variance(e: Array, shard: Array, bucket: Array, mean: Array, recovery: Recovery) -> SamplingError | None:
    """V_r of `mean.sum()`; `e`, `shard` and `bucket` are of trusted pairs. None where no bucket has two holders."""
    holders = recovery.holders
    several = holders >= 2
    if not several.any() or not mean[several].any():
        return None
    of_several = several[bucket]
    e, shard, bucket = e[of_several], shard[of_several], bucket[of_several]
    s, m = len(recovery.trusted), holders[several]
    r = np.bincount(shard, (e - mean[bucket]) / np.sqrt(holders * (holders - 1.0))[bucket], s)
    variance = float(r @ r)
    # Covariance of r if a bucket's estimates vary in proportion to its cost: gives the degrees of freedom. Under a
    # constraint costs include prices, and may be negative.
    mean = np.abs(mean)
    share = mean[several] / (m * (m - 1.0))
    held: Any = recovery.trusted[:, several] if s <= DENSE else _sparse(shard, (np.cumsum(several) - 1)[bucket])
    covariance = -((held * (share / m)) @ held.T)
    alone = held @ share
    trace = covariance.trace() + alone.sum()
    # The diagonal is that of the product and `alone`; all else is of the product.
    squares = (covariance**2).sum() + (2 * covariance.diagonal() + alone) @ alone
    degrees = float(trace**2 / squares)
    single = float(mean[holders == 1].sum())
    if single > 0:
        per_cost = variance / float((mean[several] / m).sum())
        return SamplingError(variance + per_cost * single, degrees, "replicas, one-holder buckets imputed")
    return SamplingError(variance, degrees, "replicas")


def _sparse(row: Array, column: Array) -> Any:
    """A sparse matrix with ones at these places."""
    return sparse.csr_array((np.ones(len(row)), (row, column)))
