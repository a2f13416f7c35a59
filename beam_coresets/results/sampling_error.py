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

from beam_coresets.coordinator.recovery import Recovery
from beam_coresets.results.sampled import DENSE, Sampled

PRIOR = 20.0  # degrees of freedom of the sample's own variance beside the replicas'
LEAST_DEGREES = 2.0  # and of that of very few points

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


def sampling_error(sampled: Sampled, value: Array) -> tuple[float, SamplingError]:
    """The estimate of a total over all rows, and its error.

    Args:
      value: (m,) what each point of the evidence is, times its unbiased weight.
    """
    recovery = sampled.decision.recovery
    shard, bucket, cell = sampled.cells
    e = np.bincount(cell, value, len(bucket))
    mean = np.bincount(bucket, e, len(recovery.holders)) / np.maximum(recovery.holders, 1)
    by_replicas = replica_variance(e, shard, bucket, mean, recovery)
    parts = value / sampled.holders
    variance, degrees = sample_variance(parts, sampled.drawn, *sampled.neighbours)
    if not np.isfinite(degrees):  # no point stands for others; missing rows may cost as much as the dearest
        each = sampled.shares
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


def sample_variance(value: Array, drawn: Array, rows: Array, other: Array) -> tuple[float, float]:
    """V_s of `value.sum()`, and its degrees of freedom: the effective number of points, less one.

    Args:
      value, drawn: (m,) of the sample's points; `drawn` is 1 - 1 / w.
      rows, other: (r,) those that stand for others, and a neighbour of each, as of `sampled.neighbours_of`.
    """
    if not len(rows):
        return 0.0, float("inf")
    v, a = value[rows], drawn[rows]
    # A piece of one point has no neighbour: it varies as if it might as well not have been drawn (Poisson sampling).
    squares = np.where(other < 0, v**2, (v - value[other]) ** 2 / 2)
    weight = np.abs(v * a)
    effective = float(weight.sum() ** 2 / max(float((weight**2).sum()), 1e-300))
    return float((a * squares).sum()), max(LEAST_DEGREES, effective - 1)


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
