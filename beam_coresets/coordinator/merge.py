"""Merged decisions: one for several windows (the panes of a sliding window, a running summary, a day) or several keys.

Buckets of different windows hold different data, so evidence is laid side by side. It stays bounded because buckets of
the same number whose trusted holders are the same become one: the certificate's formulas are linear over buckets with
the same holders, so its estimate, its error and its degrees of freedom are those of all buckets apart.

What lost buckets were scaled over by is put into the weights, window by window, as is a window's factor (forgetting);
the variance that comes of it is kept in `Recovery.loss`.
"""
from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.decision import Decision, Evidence
from beam_coresets.coordinator.ledger_check import FAULTS
from beam_coresets.coordinator.recovery import Recovery, loss_factor
from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.sampling import by_label
from beam_coresets.sampling.by_label import with_totals
from beam_coresets.sampling.far_points import to_total
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import strata_of
from beam_coresets.shards.merge_reduce import node_size
from beam_coresets.shards.pieces import MAX_STRATA
from beam_coresets.shards.refused import RefusedRows

Array = npt.NDArray[Any]


def merge(decisions: Sequence[Decision], factors: Sequence[float] | None = None) -> Decision:
    """One decision for the data of several windows or keys.

    Its coreset is theirs side by side, weights times the factors. `responded` are shards that answered for all of them,
    `coverage` is the mean over windows, `delta` the worst.

    Args:
      decisions: in any order, merged ones among them; the order decides that of the points, and nothing else.
      factors: what each one's weights are multiplied by (1 for all by default); `points` and counts stay rows.

    Raises:
      ValueError: no decisions, different numbers of shards, or factors that are negative, not finite or too few.
    """
    decisions, factors = _checked(decisions, factors)
    buckets = _Buckets.of([d.recovery for d in decisions])
    recovery = _recovery(decisions, factors, buckets)
    parts = list(zip(decisions, factors, buckets.places, strict=True))
    evidence = Evidence(
        Coreset.union(_alike([_weighed(d, factor, place, recovery) for d, factor, place in parts])),
        np.concatenate([d.evidence.shard for d in decisions]),
        np.concatenate([place[d.evidence.bucket] for d, _, place in parts]),
    )
    total = float(sum(d.total_weight * factor for d, factor in zip(decisions, factors, strict=True)))
    points, degraded = sum(d.points for d in decisions), any(d.degraded for d in decisions)
    return Decision.of(
        decisions[0].policy, recovery, evidence, total, points, degraded, label_totals=_labels(decisions, factors),
        refused=RefusedRows.together(d.refused for d in decisions),
    )  # fmt: skip


def _checked(
    decisions: Sequence[Decision], factors: Sequence[float] | None
) -> tuple[tuple[Decision, ...], tuple[float, ...]]:
    decisions = tuple(decisions)
    factors = (1.0,) * len(decisions) if factors is None else tuple(float(f) for f in factors)
    if not decisions:
        raise ValueError("decisions: must be at least one, got none")
    if len(factors) != len(decisions):
        raise ValueError(f"factors: must be one for each of {len(decisions)} decisions, got {len(factors)}")
    wrong = [f for f in factors if not (np.isfinite(f) and f >= 0)]
    if wrong:
        raise ValueError(f"factors: must be finite and not negative, got {wrong[0]}")
    kinds = sorted({d.local.kind for d in decisions if d.local is not None})
    if kinds:
        raise ValueError(f"decisions: must be on coresets to be merged, got {kinds[0]}")
    shards = sorted({len(d.recovery.trusted) for d in decisions})
    if len(shards) > 1:
        raise ValueError(f"decisions: must all be of the same number of shards, got {shards}")
    return decisions, factors


@dataclasses.dataclass(frozen=True, eq=False)
class _Buckets:
    """The buckets of a merged decision, V of them, ordered by (scheme's bucket, trusted holders).

    Attributes:
      origin: (V,) int64. trusted: (shards, V) bool. places: for each decision, the (its buckets,) numbers they get.
    """

    origin: npt.NDArray[np.int64]
    trusted: npt.NDArray[np.bool_]
    places: list[npt.NDArray[np.int64]]

    @staticmethod
    def of(recoveries: Sequence[Recovery]) -> _Buckets:
        names = np.concatenate([_names(r) for r in recoveries])
        whole = np.ascontiguousarray(names).view(f"V{names.shape[1]}").ravel()
        _, first, place = np.unique(whole, return_index=True, return_inverse=True)
        origin = np.ascontiguousarray(names[first, :4]).view(">u4").ravel().astype(np.int64)
        trusted = np.unpackbits(names[first, 4:], axis=1, count=len(recoveries[0].trusted)).T.astype(np.bool_)
        ends = np.cumsum([r.trusted.shape[1] for r in recoveries])
        return _Buckets(origin, np.ascontiguousarray(trusted), np.split(place.astype(np.int64), ends[:-1]))


def _names(recovery: Recovery) -> npt.NDArray[np.uint8]:
    """(buckets, 4 + shards / 8) uint8: the scheme's bucket and the set of trusted holders."""
    origin = recovery.origins.astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.column_stack([origin, np.packbits(recovery.trusted, 0).T])


def _recovery(decisions: Sequence[Decision], factors: Sequence[float], buckets: _Buckets) -> Recovery:
    s, V = buckets.trusted.shape
    counts, weights, complete = np.zeros(V, np.int64), np.zeros(V), np.ones(V, np.bool_)
    loss = total = 0.0
    for d, factor, place in zip(decisions, factors, buckets.places, strict=True):
        recovery = d.recovery
        counts[place] += recovery.counts  # within a decision, no two buckets are one
        weights[place] += recovery.weights * (factor * recovery.scale)
        complete[place] &= recovery.complete
        loss += factor * d.total_weight * loss_factor(recovery) * factor / recovery.scale
        total += factor * d.total_weight
    recoveries = [d.recovery for d in decisions]
    panes = np.array([r.panes for r in recoveries])
    responded = set.intersection(*(set(r.responded) for r in recoveries))
    faults = sorted((FAULTS.index(fault), i, fault) for r in recoveries for i, fault in r.distrusted.items())
    return Recovery(
        kind=recoveries[0].kind,
        responded=tuple(sorted(responded)),
        stragglers=tuple(i for i in range(s) if i not in responded),
        distrusted=dict(sorted({i: fault for _, i, fault in faults}.items())),
        trusted=buckets.trusted,
        covered=np.asarray(buckets.trusted.any(axis=0)),
        complete=complete,
        coverage=float(panes @ [r.coverage for r in recoveries] / panes.sum()),
        scale=1.0,
        delta=max(r.delta for r in recoveries),
        counts=counts,
        weights=weights,
        panes=int(panes.sum()),
        origin=buckets.origin,
        loss=loss / total if total > 0 else 0.0,
        unequal=_multipliers(decisions, factors, buckets),
    )


def _multipliers(decisions: Sequence[Decision], factors: Sequence[float], buckets: _Buckets) -> Array | None:
    """(shards, V): those of the windows where they agree, else their means by weight; None where they follow from
    `trusted`."""
    if all(d.recovery.kind == "exact" for d in decisions):
        return None
    V = len(buckets.origin)
    sums, weights = np.zeros(buckets.trusted.shape), np.zeros(V)
    for d, factor, place in zip(decisions, factors, buckets.places, strict=True):
        weight = np.maximum(d.recovery.weights * (factor * d.recovery.scale), 1e-300)  # equal where nothing weighs
        sums[:, place] += d.recovery.multipliers * weight
        weights[place] += weight
    return np.asarray(sums / weights)


def _labels(decisions: Sequence[Decision], factors: Sequence[float]) -> dict[int, float] | None:
    """Each label's weight in all of them; None if labels are not counted in one that has rows."""
    if any(d.label_totals is None and d.points for d in decisions):
        return None
    out: dict[int, float] = {}
    for decision, factor in zip(decisions, factors, strict=True):
        for code, weight in (decision.label_totals or {}).items():
            out[code] = out.get(code, 0.0) + weight * factor
    return out or None


def _alike(samples: Sequence[Coreset]) -> list[Coreset]:
    """Labels are known of all points or of none: windows in which they were not counted have lost their codes."""
    if all(sample.groups is not None for sample in samples if len(sample)):
        return list(samples)
    return [dataclasses.replace(sample, groups=None) for sample in samples]


def _weighed(decision: Decision, factor: float, place: Array, merged: Recovery) -> Coreset:
    """A decision's sample, with weights from which the merged recovery makes the decision's own coreset again."""
    evidence, recovery = decision.evidence, decision.recovery
    sample, scale = evidence.sample, recovery.scale * factor
    if not len(sample):
        return sample
    own = recovery.multiplier(evidence.shard, evidence.bucket)
    now = merged.multiplier(evidence.shard, place[evidence.bucket])
    ratio = np.divide(own, now, out=np.zeros(len(own)), where=now > 0)
    return dataclasses.replace(
        sample,
        weights=sample.weights * ratio * (scale * normalization(decision)),
        weights_ht=sample.weights_ht * scale,
    )


def normalization(decision: Decision) -> Array | float:
    """What `Decision.of` multiplied calibrated weights by, so that they add up to the total, or each label's to its
    own, or what is not known for certain: (points of the evidence,) or one for all."""
    evidence, recovery = decision.evidence, decision.recovery
    multipliers = recovery.multiplier(evidence.shard, evidence.bucket)
    if decision.label_totals is not None and evidence.sample.groups is not None:
        each = evidence.sample.weights * multipliers * recovery.scale
        exact = with_totals(each, evidence.sample.groups, decision.label_totals)
        return np.divide(exact, each, out=np.ones(len(each)), where=each > 0)
    if decision.policy.known:
        each = evidence.sample.weights * multipliers * recovery.scale
        exact = to_total(each, decision.total_weight, evidence.sample.weights == evidence.sample.weights_ht)
        return np.divide(exact, each, out=np.ones(len(each)), where=each > 0)
    plain = evidence.sample.weights @ multipliers * recovery.scale
    return float(decision.total_weight / plain) if plain > 0 else 1.0


def thinned(decision: Decision, sampler: Sampler, seed: int) -> Decision:
    """The same decision on about as many points a shard as `sampler` finishes with; shards that have fewer keep them.

    Unbiased weights stay unbiased, and shards are drawn from independently, so the disagreement of replicas measures
    this error, too. Each shard's calibrated weights add up to the weight that it has taken in.
    """
    evidence, recovery = decision.evidence, decision.recovery
    if not len(evidence.sample):
        return decision
    size = sampler.size_in(evidence.sample.dim, evidence.sample.points.itemsize)
    samples, rows = [], []
    for shard in np.unique(evidence.shard):
        mine = np.flatnonzero(evidence.shard == shard)
        sample = evidence.sample.keep(mine, evidence.sample.weights_ht[mine], evidence.sample.weights[mine])
        if len(mine) > size:
            strata = _strata(recovery, shard)[evidence.bucket[mine]]
            rng = generator(seed, "thinned", int(shard), _digest(sample))
            groups = None if decision.label_totals is None else sample.groups
            kept, unbiased, calibrated = by_label.finish(
                sampler, sample.points, sample.weights_ht, strata, groups, rng
            )
            held = float(recovery.trusted[shard] @ recovery.weights)
            if sampler.outliers and len(kept) == len(mine):
                calibrated = sample.weights[kept]
            elif sampler.outliers:
                calibrated = to_total(calibrated, held, unbiased == sample.weights_ht[kept])
            else:
                calibrated = calibrated * (held / calibrated.sum() if calibrated.sum() > 0 else 1.0)
            if groups is not None:
                codes, label = by_label.numbered(groups)
                before = np.bincount(label, sample.weights, len(codes))
                calibrated = with_totals(calibrated, groups[kept], dict(zip(codes.tolist(), before, strict=True)))
            sample, mine = sample.keep(kept, unbiased, calibrated), mine[kept]
        samples.append(sample)
        rows.append(mine)
    order = np.concatenate(rows)
    evidence = Evidence(Coreset.union(samples), evidence.shard[order], evidence.bucket[order])
    return Decision.of(
        decision.policy, recovery, evidence, decision.total_weight, decision.points, decision.degraded,
        label_totals=decision.label_totals, refused=decision.refused,
    )  # fmt: skip


def _strata(recovery: Recovery, shard: int) -> npt.NDArray[np.int32]:
    """(buckets,) int32: buckets of one piece that a shard holds together with the same others; the lightest classes are
    one."""
    held = np.flatnonzero(recovery.trusted[shard])
    packed = np.packbits(recovery.trusted[:, held], axis=0)
    _, label = np.unique(packed, axis=1, return_inverse=True)
    heaviest = np.argsort(-np.bincount(label.ravel(), recovery.weights[held]), kind="stable")
    rank = np.empty(len(heaviest), np.int32)
    rank[heaviest] = np.minimum(np.arange(len(heaviest)), MAX_STRATA - 1)
    strata = np.zeros(recovery.trusted.shape[1], np.int32)
    strata[held] = strata_of(rank[label.ravel()], recovery.origins[held], len(recovery.trusted))
    return strata


def _digest(sample: Coreset) -> str:
    return hashlib.blake2b(sample.ids.tobytes() + sample.weights_ht.tobytes(), digest_size=16).hexdigest()


def node_sampler(sampler: Sampler, dim: int, itemsize: int) -> Sampler:
    """The sampler for what will be merged again, of `node_size` points a shard."""
    return dataclasses.replace(sampler, size=node_size(sampler, dim, itemsize))
