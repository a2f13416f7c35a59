"""The certificate: an estimate of the centers' cost on all of the data, with an interval, from the shards' reports
alone.

Replicas of a bucket are sampled independently, so their disagreement measures the sampling error. With e[i, b] shard
i's estimate of bucket b's cost, m[b] its trusted holders, d[i, b] = e[i, b] - mean over b's holders:

    estimate = scale * sum_b mean_i e[i, b]
    r[i] = sum_b d[i, b] / sqrt(m[b] (m[b] - 1)),     SE^2 = sum_i r[i]^2       over buckets with two holders or more

SE^2 is unbiased where a shard's errors on buckets with different co-holders are uncorrelated. Shards draw such buckets
as separate strata to make it so; under schemes that choose holders at random there are too many of them, and SE^2 is
then too large. To it are added, where they occur:

- one-holder buckets: the pooled variance of a replica, in proportion to cost; without any replicas (replication 1) the
  variance of the sample itself, as if drawn with fixed size (Deville 1999), which stratified draws undercut: an upper
  bound, about;
- uncovered buckets, scaled over by 1 / f: phi (1 - f) / f^2 sum_p v y^2, with phi the buckets' overdispersion.

Centers solved *on* the coreset fit its noise. So shards are dealt into folds; for each fold centers are solved on the
other folds and scored on this one, and the average is corrected by half the gap between outside and inside score, times
the share of points left out: what centers solved on all shards, rather than on all but a fold, still gain. A point of
weight w stands for itself too, and its own cost is known: all this is for the other w - 1. The folds' centers descend
from the emitted ones, which have seen the points left out; so a tenth of the gap is added to the standard error.

Where shards have not sent coresets but local centers or sketches, their own bounds and Property 1 give an interval that
holds for certain, whatever the centers: `proved_interval`.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.recovery import Recovery, loss_factor
from beam_coresets.points.magnitude import unit_of
from beam_coresets.points.nearest import Metric
from beam_coresets.solvers.model import Centers, Model, point_costs

LEVEL = 0.95
FOLDS = 5
QUICK_FOLDS = 2
DENSE = 2000  # shards up to which a matrix of numbers for all pairs of them is the fastest
DOUBT = 0.1  # share of the gap that the correction may be off by, as a standard error

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate of a cost on all of the data.

    Attributes:
      estimate: unbiased for centers chosen without the sample; corrected by cross-fitting for emitted centers.
      low, high: a 95 % interval by Student's t, `low` at least 0. Both are NaN where nothing is covered.
      standard_error: of the estimate.
      degrees: of freedom (Satterthwaite).
      basis: what the error was measured by: "replicas", "replicas, one-holder buckets imputed", "sample", "exact" (no
        error: every row is there), "out of range" (more than 1.8e308), or "none"; or what proves it: "triangle
        inequality", "relaxed coresets".
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    degrees: float
    basis: str


def fixed_interval(decision: Decision, centers: Array, z: float = 2.0, metric: Metric = "euclidean") -> Interval:
    """The cost of centers that were chosen without looking at this sample."""
    if not len(decision.evidence.sample):
        return _nothing()
    _, cost = point_costs(decision.evidence.sample.points, centers, z, metric)
    return _interval(decision, cost)


def fitted_interval(
    decision: Decision, centers: Array, z: float = 2.0, metric: Metric = "euclidean", quick: bool = False
) -> Interval:
    """The cost of centers that were solved on the decision's own coreset: `model_interval` for centers."""
    return model_interval(decision, Centers(centers, z, metric), quick)


def model_interval(decision: Decision, model: Model, quick: bool = False) -> Interval:
    """The cost of what was solved on the decision's own coreset (cross-fitted).

    `quick` makes two folds, and lets the centers of the other one descend only, without swaps: for thousands of small
    keys. What a search exploits beyond that is not corrected for.

    Where nothing was drawn (the coreset holds every row) the cost is known: basis "exact". With fewer than two shards
    there is nothing to cross-fit with: the in-sample estimate is returned with basis "sample".
    """
    if decision.local is not None:
        return proved_interval(decision, model)
    evidence = decision.evidence
    sample, recovery = evidence.sample, decision.recovery
    if nothing_drawn(decision):
        cost = model.unbiased_costs(sample)
        holders = np.maximum(recovery.trusted.sum(axis=0), 1)
        known = float((sample.weights_ht / holders[evidence.bucket]) @ cost)
        return Interval(known, known, known, 0.0, float("inf"), "exact")
    fold_of, folds = _folds(recovery, QUICK_FOLDS if quick else FOLDS)
    if not len(sample):
        return _nothing()
    own, known_cost = model.unbiased_costs(sample), model.calibrated_cost
    by = 0.0 if known_cost is None else known_cost - _interval(decision, own).estimate
    if folds < 2:
        return _shifted(_interval(decision, own), by)
    outside = own.copy()  # stays so for a fold that holds all there is
    inside = []
    for fold in range(folds):
        held_out = fold_of[evidence.shard] == fold
        factor = _without(decision, fold_of == fold)
        weights = sample.weights * factor
        if not weights.any():
            continue
        solved = model.refit(dataclasses.replace(sample, weights=weights), fold, quick)
        cost = solved.unbiased_costs(sample)
        outside[held_out] = cost[held_out]
        inside.append(float(cost @ (sample.weights_ht * factor)))
    if not inside:
        return _shifted(_interval(decision, own), by)
    # A point of weight w stands for itself, at just the cost it has, and for w - 1 others that nobody has seen.
    others = _drawn_share(decision)
    interval = _interval(decision, (1 - others) * own + others * outside)
    total = float(sample.weights_ht @ outside)
    unseen = float((sample.weights_ht * others) @ outside) / total if total > 0 else 0.0
    gap = unseen * (_interval(decision, outside).estimate - float(np.mean(inside)))
    return _corrected(_shifted(interval, by), -gap / (2 * folds), DOUBT * gap)


def proved_interval(decision: Decision, model: Model) -> Interval:
    """The cost on all of the data where the shards have not sent coresets, with bounds that are no estimates.

    Shard i's points S_i cost so much that u_i - slack_i <= cost(P_i) <= u_i = cost(S_i) + additive_i; with multipliers
    b_i each bucket counts at least `low` and at most `high` times (Property 1, Lemma 1). Hence

        (sum b_i (u_i - slack_i)) / high <= cost(P) <= (sum b_i u_i) / low.

    The estimate, normalised to the exact total weight, is in between: by u_i for squared distances, as what S_i leaves
    out adds up; for local centers by the root of cost(S_i)**2 + additive_i**2, as if the way from a row to its local
    center were at right angles to the way from there on. Where a bucket has no holder, nothing bounds the cost from
    above (`high` is NaN), and the lower bound is that of the covered rows.

    Raises:
      ValueError: the shards have sent coresets.
    """
    local, recovery, evidence = decision.local, decision.recovery, decision.evidence
    if local is None:
        raise ValueError("decision: must be on summaries of kind local_centers or pca, got coresets")
    if not recovery.covered.any():
        return _nothing()
    b = recovery.multipliers.max(axis=1)
    each = model.costs(evidence.sample)[1] if len(evidence.sample) else np.empty(0)
    cost = np.bincount(evidence.shard, evidence.sample.weights * each, len(b)).astype(np.float64)
    counted = recovery.multipliers.sum(axis=0)[recovery.covered]
    upper = float(b @ (cost + local.additive))
    lower = max(0.0, upper - float(b @ local.slack))
    quadrature = local.kind == "local_centers"
    share = decision.total_weight / max(1e-300, float((recovery.multipliers @ recovery.weights).sum()))
    estimate = share * float(b @ np.hypot(cost, local.additive)) if quadrature else share * upper
    basis = "triangle inequality" if quadrature else "relaxed coresets"
    high = upper / float(counted.min()) if recovery.coverage == 1 else float("nan")
    nan = float("nan")
    basis += ", local costs estimated" if local.estimated else ""
    return Interval(estimate, lower / float(counted.max()), high, nan, nan, basis)


def in_range(interval: Interval) -> Interval:
    """The interval, or NaN with basis "out of range" where costs are beyond what a float64 holds."""
    if interval.basis == "none" or np.isfinite(interval.estimate):
        return interval
    nan = float("nan")
    return Interval(nan, nan, nan, nan, nan, "out of range")


def nothing_drawn(decision: Decision) -> bool:
    """Whether the evidence holds every covered row, and nothing is scaled over: what it costs is known."""
    evidence, recovery = decision.evidence, decision.recovery
    holders = recovery.trusted.sum(axis=0)
    rows_in_all = int(holders @ recovery.counts)
    if recovery.scale != 1 or recovery.loss or not rows_in_all or len(evidence.sample) != rows_in_all:
        return False
    # As many points as rows, and as much weight, in each cell; then they are the rows, if none is there twice.
    _, bucket, cell = _cells(decision)
    points = np.bincount(cell, minlength=len(bucket))
    weight = np.bincount(cell, evidence.sample.weights_ht, len(bucket))
    rows, total = recovery.counts[bucket], recovery.weights[bucket]
    if not (np.array_equal(points, rows) and np.allclose(weight, total, rtol=1e-9, atol=0)):
        return False
    order = np.lexsort((evidence.sample.ids, evidence.shard))
    same_id = evidence.sample.ids[order][1:] == evidence.sample.ids[order][:-1]
    return not bool((same_id & (evidence.shard[order][1:] == evidence.shard[order][:-1])).any())


def _drawn_share(decision: Decision) -> Array:
    """1 - 1 / w for each point of the evidence, w its weight in units of an input row's average weight."""
    recovery, weights = decision.recovery, decision.evidence.sample.weights_ht
    unit = recovery.weights.sum() / max(1, recovery.counts.sum())
    return np.asarray(1 - np.minimum(1.0, unit / np.maximum(weights, unit)))


def _quantile(degrees: float) -> float:
    """Of Student's t, two-sided at `LEVEL`."""
    return float(special.stdtrit(min(max(1.0, degrees), 1e9), (1 + LEVEL) / 2))


def _nothing() -> Interval:
    nan = float("nan")
    return Interval(nan, nan, nan, nan, nan, "none")


def _shifted(interval: Interval, by: float) -> Interval:
    """The interval of the cost and a constant, which has no error."""
    if not by:
        return interval
    low, high = interval.low + by, interval.high + by
    return dataclasses.replace(interval, estimate=interval.estimate + by, low=max(0.0, low), high=high)


def _corrected(interval: Interval, by: float, doubt: float) -> Interval:
    """The interval moved by a correction, and widened by an independent standard error."""
    estimate = interval.estimate + by
    error = float(np.hypot(interval.standard_error, doubt))
    ratio = error / interval.standard_error if interval.standard_error > 0 else 1.0
    degrees = interval.degrees * ratio**4
    half = _quantile(degrees) * error
    return Interval(estimate, max(0.0, estimate - half), estimate + half, error, degrees, interval.basis)


def _folds(recovery: Recovery, most: int) -> tuple[Array, int]:
    """Fold of each shard, (s,) (-1 where it did not answer): each shard joins the fold it shares the fewest buckets
    with."""
    answered = np.flatnonzero(recovery.trusted.any(axis=1))
    folds = min(most, len(answered))
    fold_of = np.full(len(recovery.trusted), -1)
    size = np.zeros(folds, np.int64)
    held = np.zeros((folds, recovery.trusted.shape[1]))
    for i in answered:
        mine = np.flatnonzero(recovery.trusted[i])
        overlap = held[:, mine].sum(axis=1)
        open_folds = np.flatnonzero(size == size.min())
        best = open_folds[overlap[open_folds].argmin()]
        fold_of[i] = best
        size[best] += 1
        held[best, mine] += 1
    return fold_of, folds


def _cells(decision: Decision) -> tuple[Array, Array, Array]:
    """The shard and bucket of each trusted pair of them, and each sampled point's among these pairs, (m,)."""
    evidence, trusted = decision.evidence, decision.recovery.trusted
    pairs = np.flatnonzero(trusted)
    shard, bucket = np.divmod(pairs, trusted.shape[1])
    place = evidence.shard * trusted.shape[1] + evidence.bucket
    if trusted.size > DENSE**2:
        return shard, bucket, np.searchsorted(pairs, place)
    return shard, bucket, (np.cumsum(trusted) - 1)[place]


def _without(decision: Decision, left_out: Array) -> Array:
    """Exact multipliers times the scale, (m,) a sampled point, as if these shards had not answered either."""
    recovery, evidence = decision.recovery, decision.evidence
    holders = recovery.holders - recovery.trusted[left_out].sum(axis=0)
    weight, kept = recovery.weights.sum(), recovery.weights[holders > 0].sum()
    multipliers = ~left_out[evidence.shard] / np.maximum(holders, 1)[evidence.bucket]
    return np.asarray(multipliers * (recovery.scale * (weight / kept if kept > 0 else 0.0)))


def _interval(decision: Decision, cost: Array) -> Interval:
    """The interval from the cost (m,) of each point of the evidence."""
    evidence, recovery = decision.evidence, decision.recovery
    # In units in which the largest weight and cost are about one, as squares of them are needed.
    unit, own = unit_of(evidence.sample.weights_ht), unit_of(cost)
    cost = cost / own
    value = evidence.sample.weights_ht / unit * cost
    shard, bucket, cell = _cells(decision)
    e = np.bincount(cell, value, len(bucket))
    holders = recovery.holders
    mean = np.bincount(bucket, e, len(holders)) / np.maximum(holders, 1)
    variance, degrees, basis = _replica_variance(e, shard, bucket, mean, recovery)
    if basis == "sample":
        variance = _sample_variance(decision, value / np.maximum(holders[evidence.bucket], 1))
    second = value * cost / np.maximum(holders[evidence.bucket], 1)
    loss = loss_factor(recovery) / unit * float(second.sum())
    estimate = float(mean.sum()) * recovery.scale
    sampling = variance * recovery.scale**2
    total = sampling + loss
    if sampling > 0 and np.isfinite(degrees):
        degrees = degrees * (total / sampling) ** 2
    error = float(np.sqrt(total))
    half = _quantile(degrees) * error
    low, high = max(0.0, estimate - half), estimate + half
    estimate, low, high, error = (np.array([estimate, low, high, error]) * unit * own).tolist()
    return Interval(estimate, low, high, error, float(degrees), basis)


def _replica_variance(
    e: Array, shard: Array, bucket: Array, mean: Array, recovery: Recovery
) -> tuple[float, float, str]:
    """Variance of `mean.sum()` by the disagreement of replicas, its degrees of freedom, and the basis; `e`, `shard` and
    `bucket` are of trusted pairs."""
    holders = recovery.holders
    several = holders >= 2
    if not several.any() or not mean[several].any():
        return 0.0, float("inf"), "sample"
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
        return variance + per_cost * single, degrees, "replicas, one-holder buckets imputed"
    return variance, degrees, "replicas"


def _sparse(row: Array, column: Array) -> Any:
    """A sparse matrix with ones at these places."""
    return sparse.csr_array((np.ones(len(row)), (row, column)))


def _sample_variance(decision: Decision, value: Array) -> float:
    """Deville's variance of a fixed-size sample, shard by shard: for data without replicas."""
    left = _drawn_share(decision)
    variance = 0.0
    for shard in np.unique(decision.evidence.shard):
        rows = np.flatnonzero(decision.evidence.shard == shard)
        a = left[rows]
        if a.sum() <= 0 or len(rows) < 2:
            continue
        v = value[rows]
        center = (a @ v) / a.sum()
        share = a / a.sum()
        variance += float(a @ (v - center) ** 2) / max(1e-9, 1 - float(share @ share))
    return variance
