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

from beam_coresets.results.sampled import Sampled

PRIOR = 20.0  # degrees of freedom of the sample's own variance beside the replicas'
LEAST_DEGREES = 2.0  # and of that of very few points

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class SamplingError:
    """Of an estimated total, or of several: the same with arrays (c,).

    Attributes:
      variance: of the total.
      degrees: of freedom of the variance.
      basis: "replicas", "replicas, one-holder buckets imputed" or "sample".
    """

    variance: Any
    degrees: Any
    basis: str


def sampling_error(sampled: Sampled, value: Array) -> tuple[float, SamplingError]:
    """The estimate of a total over all rows, and its error.

    Args:
      value: (m,) what each point of the evidence is, times its unbiased weight.
    """
    (total,), error = sampling_errors(sampled, value[:, None])
    return float(total), SamplingError(float(error.variance[0]), float(error.degrees[0]), error.basis)


def sampling_errors(sampled: Sampled, value: Array) -> tuple[Array, SamplingError]:
    """`sampling_error` of several totals (c,), from values (m, c)."""
    recovery = sampled.decision.recovery
    e = sampled.by_cell(value)
    mean = sampled.by_bucket(e) / np.maximum(recovery.holders, 1)[:, None]
    by_replicas = replica_variance(sampled, e, mean)
    parts = value / sampled.holders[:, None]
    variance, degrees = sample_variance(parts, sampled.drawn, *sampled.neighbours)
    if not np.isfinite(degrees).all():  # no point stands for others; missing rows may cost as much as the dearest
        each = sampled.shares
        missing = abs(float(recovery.weights.sum() - each.sum()))
        if missing > 1e-9 * recovery.weights.sum():
            dearest = np.abs(parts / np.where(each > 0, each, 1.0)[:, None]).max(axis=0, initial=0.0)
            variance, degrees = (missing * dearest) ** 2, np.full(len(dearest), LEAST_DEGREES)
    basis = "sample"
    if by_replicas is not None:
        prior = np.minimum(PRIOR, degrees)
        both = by_replicas.degrees + prior
        pooled = (by_replicas.degrees * by_replicas.variance + prior * variance) / both
        measured = by_replicas.degrees > 0
        variance, degrees = np.where(measured & np.isfinite(both), pooled, variance), np.where(measured, both, degrees)
        basis = by_replicas.basis if measured.any() else basis
    return mean.sum(axis=0) * recovery.scale, SamplingError(variance * recovery.scale**2, degrees, basis)


def sample_variance(value: Array, drawn: Array, rows: Array, other: Array) -> tuple[Array, Array]:
    """V_s (c,) of `value.sum(axis=0)`, and its degrees of freedom (c,): the effective number of points, less one.

    Args:
      value (m, c), drawn (m,): of the sample's points; `drawn` is 1 - 1 / w.
      rows, other: (r,) those that stand for others, and a neighbour of each, as of `sampled.neighbours_of`.
    """
    if not len(rows):
        return np.zeros(value.shape[1]), np.full(value.shape[1], np.inf)
    v, a = value[rows], drawn[rows]
    # A piece of one point has no neighbour: it varies as if it might as well not have been drawn (Poisson sampling).
    apart = v - value[other]
    apart[other < 0] = v[other < 0]
    squares = np.where(other < 0, a, a / 2) @ np.square(apart, out=apart)
    weight = a @ np.abs(v, out=apart)
    effective = weight**2 / np.maximum(a**2 @ np.square(v, out=v), 1e-300)
    return squares, np.maximum(LEAST_DEGREES, effective - 1)


def replica_variance(sampled: Sampled, e: Array, mean: Array) -> SamplingError | None:
    """V_r of `mean.sum(axis=0)`, with no degrees of freedom where no bucket with two holders has a part in it; None
    where that is so of all.

    Args:
      e: (cells, c) of trusted pairs of shard and bucket. mean: (buckets, c).
    """
    recovery, (_, bucket, _) = sampled.decision.recovery, sampled.cells
    holders = recovery.holders
    several = holders >= 2
    taking_part = mean[several].any(axis=0)
    if not taking_part.any():
        return None
    m = holders[several][:, None]
    by = np.where(several, 1 / np.sqrt(np.maximum(holders * (holders - 1.0), 1.0)), 0.0)
    r = sampled.by_shard((e - mean[bucket]) * by[bucket][:, None])
    variance = np.square(r).sum(axis=0)
    # Covariance of r if a bucket's estimates vary in proportion to its cost: gives the degrees of freedom. Under a
    # constraint costs include prices, and may be negative.
    mean = np.abs(mean)
    share = mean[several] / (m * (m - 1.0))
    held = sampled.held
    alone, diagonal = held @ share, -(held @ (share / m))
    trace = diagonal.sum(axis=0) + alone.sum(axis=0)
    # The diagonal is that of the product and `alone`; all else is of the product.
    squares = sampled.overlaps(share / m) + ((2 * diagonal + alone) * alone).sum(axis=0)
    degrees = np.where(taking_part, trace**2 / np.where(taking_part, squares, 1.0), 0.0)
    single = mean[holders == 1].sum(axis=0)
    if single.any():
        per_cost = variance / np.where(taking_part, (mean[several] / m).sum(axis=0), 1.0)
        return SamplingError(variance + per_cost * single, degrees, "replicas, one-holder buckets imputed")
    return SamplingError(variance, degrees, "replicas")
