"""The certificate: an estimate of the centers' cost on all of the data, with an interval, from the shards' reports
alone.

With c the cost of a sampled point under the centers, w its unbiased weight and m the trusted holders of its bucket,

    estimate = scale * sum w c / m,     interval = estimate +- (t(df) * sqrt(sampling error^2 + loss + e^2) + room).

- The sampling error is measured by the disagreement of replicas and by the sample itself
  (`beam_coresets.results.sampling_error`).
- Uncovered buckets, scaled over by 1 / f, add phi (1 - f) / f^2 sum_p v y^2, with phi the buckets' overdispersion.
- Centers solved *on* the coreset fit its noise: c is corrected by what that gains, with an error e and room for what
  the correction may be off by besides (`beam_coresets.results.cross_fitting`).

Nothing of this is proved for finite samples; `benchmarks/interval_coverage.py` measures how often the intervals hold.

Where shards have not sent coresets but local centers or sketches, their own bounds and Property 1 give an interval that
holds for certain, whatever the centers: `proved_interval`.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.recovery import loss_factor
from beam_coresets.points.magnitude import unit_of
from beam_coresets.points.nearest import Metric
from beam_coresets.results.cross_fitting import optimism
from beam_coresets.results.sampled import Sampled
from beam_coresets.results.sampling_error import sampling_error
from beam_coresets.results.trust import BOUND_ONLY, MEASURED, UNPROVED, verdict
from beam_coresets.solvers.model import Centers, Model, point_costs

LEVEL = 0.95
ROUNDING = 1e-13  # of sums of squares and of distances, and of the coordinates in them

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate of a cost on all of the data.

    Attributes:
      estimate: unbiased for centers chosen without the sample; corrected by cross-fitting for emitted centers.
      low, high: a 95 % interval by Student's t, `low` at least 0. Both are NaN where nothing is covered.
      standard_error: of the estimate.
      degrees: of freedom.
      rounding: of proved bounds: how much of `low` and `high` makes up for rounding.
      basis: what the error was measured by: "replicas", "replicas, one-holder buckets imputed", "sample", "exact" (no
        error: every row is there), "out of range" (more than 1.8e308), or "none"; or what proves it: "triangle
        inequality", "relaxed coresets".
      trust: `MEASURED`, "weak: REASON" where intervals like this one hold less often than they say
        (`beam_coresets.results.trust`), `BOUND_ONLY` where nothing but a bound is known; None where nothing is.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    degrees: float
    basis: str
    rounding: float = 0.0
    trust: str | None = MEASURED


def fixed_interval(decision: Decision, centers: Array, z: float = 2.0, metric: Metric = "euclidean") -> Interval:
    """The cost of centers that were chosen without looking at this sample."""
    if not len(decision.evidence.sample):
        return nothing_known()
    _, cost = point_costs(decision.evidence.sample.points, centers, z, metric)
    return _interval(Sampled(decision), cost)


def fitted_interval(
    decision: Decision, centers: Array, z: float = 2.0, metric: Metric = "euclidean", quick: bool = False
) -> Interval:
    """The cost of centers that were solved on the decision's own coreset: `model_interval` for centers."""
    return model_interval(decision, Centers(centers, z, metric), quick)


def model_interval(
    decision: Decision, model: Model, quick: bool = False, sampled: Sampled | None = None
) -> Interval:
    """The cost of what was solved on the decision's own coreset (cross-fitted).

    `quick` makes three folds and seeds and descends only, without swaps: for thousands of small keys.

    Where nothing was drawn (the coreset holds every row) the cost is known: basis "exact".

    Args:
      sampled: of the decision, where there is one already.
    """
    if decision.local is not None:
        return proved_interval(decision, model)
    sampled, sample = sampled or Sampled(decision), decision.evidence.sample
    if nothing_drawn(sampled):
        cost = model.unbiased_costs(sample)
        known = float(sampled.shares @ cost) + model.constant
        return Interval(known, known, known, 0.0, float("inf"), "exact")
    if not len(sample):
        return nothing_known()
    own, known_cost = model.unbiased_costs(sample), model.calibrated_cost
    by = model.constant if known_cost is None else known_cost - _interval(sampled, own).estimate
    found = optimism(sampled, model, own, quick)
    interval = _shifted(_interval(sampled, own + found.correction, found.error, found.room), by)
    doubt = model.doubt(decision.coreset)
    trust = f"weak: {doubt}" if doubt else verdict(sampled, own, found, model.constant)
    return dataclasses.replace(interval, trust=trust)


def proved_interval(decision: Decision, model: Model) -> Interval:
    """The cost on all of the data where the shards have not sent coresets, with bounds that are no estimates.

    Shard i's points S_i cost so much that u_i - slack_i <= cost(P_i) <= u_i = cost(S_i) + additive_i; with multipliers
    b_i each bucket counts at least `low` and at most `high` times (Property 1, Lemma 1). Hence

        (sum b_i (u_i - slack_i)) / high <= cost(P) <= (sum b_i u_i) / low.

    The estimate, normalised to the exact total weight, is in between: by u_i for squared distances, as what S_i leaves
    out adds up; for local centers by the root of cost(S_i)**2 + additive_i**2, as if the way from a row to its local
    center were at right angles to the way from there on. Where a bucket has no holder, nothing bounds the cost from
    above (`high` is NaN), and the lower bound is that of the covered rows. Both leave room for what sums in float64 are
    off by.

    Raises:
      ValueError: the shards have sent coresets.
    """
    local, recovery, evidence = decision.local, decision.recovery, decision.evidence
    if local is None:
        raise ValueError("decision: must be on summaries of kind local_centers or pca, got coresets")
    if not recovery.covered.any():
        return nothing_known()
    b = recovery.multipliers.max(axis=1)
    each = model.costs(evidence.sample)[1] if len(evidence.sample) else np.empty(0)
    cost = np.bincount(evidence.shard, evidence.sample.weights * each, len(b)).astype(np.float64)
    counted = recovery.multipliers.sum(axis=0)[recovery.covered]
    raw = float(b @ (cost + local.additive))
    rounding = _rounding(decision, model, b)
    upper, lower = raw + rounding, max(0.0, raw - float(b @ local.slack) - rounding)
    quadrature = local.kind == "local_centers"
    share = decision.total_weight / max(1e-300, float((recovery.multipliers @ recovery.weights).sum()))
    estimate = share * float(b @ np.hypot(cost, local.additive)) if quadrature else share * raw
    basis = "triangle inequality" if quadrature else "relaxed coresets"
    high = upper / float(counted.min()) if recovery.coverage == 1 else float("nan")
    nan = float("nan")
    basis += ", local costs estimated" if local.estimated else ""
    trust = UNPROVED if local.estimated else BOUND_ONLY
    off = rounding / float(counted.min())
    return Interval(estimate, lower / float(counted.max()), high, nan, nan, basis, off, trust)


def _rounding(decision: Decision, model: Model, b: Array) -> float:
    """What sums of squared distances, or of distances, and the coordinates in them may be off by."""
    local, evidence = decision.local, decision.evidence
    assert local is not None
    unit = unit_of(evidence.sample.points)
    away = (evidence.sample.points - model.centers[0]) / unit
    offset = float(np.linalg.norm(np.abs(model.centers).max(axis=0) / unit)) * unit
    weights = evidence.sample.weights * b[evidence.shard]
    if local.kind == "local_centers":
        return ROUNDING * float(weights @ (np.linalg.norm(away, axis=1) * unit + offset) + b @ local.additive)
    spread = float(weights @ ((away * unit) ** 2).sum(axis=1) + b @ local.additive)
    lever = float(weights.sum()) * offset**2
    return ROUNDING * (spread + float(np.sqrt(spread * lever)) + ROUNDING * lever)


def in_range(interval: Interval) -> Interval:
    """The interval, or NaN with basis "out of range" where costs are beyond what a float64 holds."""
    if interval.basis == "none" or np.isfinite(interval.estimate):
        return interval
    nan = float("nan")
    return Interval(nan, nan, nan, nan, nan, "out of range", trust=None)


def nothing_drawn(sampled: Sampled) -> bool:
    """Whether the evidence holds every covered row, and nothing is scaled over: what it costs is known."""
    evidence, recovery = sampled.decision.evidence, sampled.decision.recovery
    rows_in_all = int(recovery.holders @ recovery.counts)
    if recovery.scale != 1 or recovery.loss or not rows_in_all or len(evidence.sample) != rows_in_all:
        return False
    # As many points as rows, and as much weight, in each cell; then they are the rows, if none is there twice.
    _, bucket, cell = sampled.cells
    points = np.bincount(cell, minlength=len(bucket))
    weight = np.bincount(cell, evidence.sample.weights_ht, len(bucket))
    rows, total = recovery.counts[bucket], recovery.weights[bucket]
    if not (np.array_equal(points, rows) and np.allclose(weight, total, rtol=1e-9, atol=0)):
        return False
    order = np.lexsort((evidence.sample.ids, evidence.shard))
    same_id = evidence.sample.ids[order][1:] == evidence.sample.ids[order][:-1]
    return not bool((same_id & (evidence.shard[order][1:] == evidence.shard[order][:-1])).any())


def _quantile(degrees: float) -> float:
    """Of Student's t, two-sided at `LEVEL`."""
    return float(special.stdtrit(min(max(1.0, degrees), 1e9), (1 + LEVEL) / 2))


def nothing_known() -> Interval:
    """Where there are no points, or no centers."""
    nan = float("nan")
    return Interval(nan, nan, nan, nan, nan, "none", trust=None)


def _shifted(interval: Interval, by: float) -> Interval:
    """The interval of the cost and a constant, which has no error."""
    if not by:
        return interval
    low, high = interval.low + by, interval.high + by
    return dataclasses.replace(interval, estimate=interval.estimate + by, low=max(0.0, low), high=high)


def _interval(sampled: Sampled, cost: Array, more: float = 0.0, room: float = 0.0) -> Interval:
    """The interval from the cost (m,) of each point of the evidence.

    Args:
      more: a standard error beside that of the sample, before scaling over a loss.
      room: what the estimate may be off by besides, before scaling, too.
    """
    weights, recovery = sampled.points.weights_ht, sampled.decision.recovery
    # In units in which the largest weight and cost are about one, as squares of them are needed.
    unit, own = unit_of(weights), unit_of(cost)
    cost = cost / own
    value = weights / unit * cost
    estimate, error = sampling_error(sampled, value)
    second = value * cost / sampled.holders
    total = error.variance + loss_factor(recovery) / unit * float(second.sum())
    total += (more / unit / own * recovery.scale) ** 2
    standard_error = float(np.sqrt(total))
    half = _quantile(error.degrees) * standard_error + room / unit / own * recovery.scale
    low, high = max(0.0, estimate - half), estimate + half
    estimate, low, high, standard_error = (np.array([estimate, low, high, standard_error]) * unit * own).tolist()
    return Interval(estimate, low, high, standard_error, error.degrees, error.basis)
