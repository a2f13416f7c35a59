"""The coordinator's decision: from shard reports to one global coreset. Pure; Beam only brings the reports here."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets import codec
from beam_coresets.assignment import Assignment
from beam_coresets.coreset import Coreset
from beam_coresets.recovery import KINDS, Recovery, recover
from beam_coresets.report import ShardReport


@dataclasses.dataclass(frozen=True)
class Policy:
    """When and how to answer.

    Attributes:
      assignment: who holds what.
      recovery: `exact`, `uniform` or `lp` (see `beam_coresets.recovery`).
      min_shards: with fewer answers than this the decision is marked degraded.
      parts: where parts are buckets, how many there were at the start; more may be found.
    """

    assignment: Assignment
    recovery: str = "exact"
    min_shards: int = 1
    parts: int = 0

    def __post_init__(self) -> None:
        if self.recovery not in KINDS:
            raise ValueError(f"recovery: must be one of {', '.join(KINDS)}, got {self.recovery!r}")
        if not 1 <= self.min_shards <= self.assignment.shards:
            raise ValueError(f"min_shards: must be from 1 to {self.assignment.shards} shards, got {self.min_shards}")


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """The trusted sampled points of all shards, side by side and not yet weighed against each other.

    Attributes:
      sample: the points with their shards' own weights.
      shard: (m,) int64, the shard that each was sampled by.
      bucket: (m,) int64.
    """

    sample: Coreset
    shard: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """What the coordinator knows once it stops waiting.

    Attributes:
      policy: what it was decided by.
      recovery: who answered, who is trusted, and the multipliers.
      evidence: the points behind it, for error estimates.
      coreset: the one global coreset; its calibrated weights add up to `total_weight`.
      total_weight: the exact weight of the covered data times `recovery.scale`.
      points: rows that the coreset stands for: exactly, those of the covered buckets.
      degraded: fewer shards answered than the policy asks for.
    """

    policy: Policy
    recovery: Recovery
    evidence: Evidence
    coreset: Coreset
    total_weight: float
    points: int
    degraded: bool

    def to_bytes(self) -> bytes:
        recovery, evidence = self.recovery, self.evidence
        fields = {
            "assignment": dataclasses.asdict(self.policy.assignment),
            "policy": [self.policy.recovery, self.policy.min_shards, self.policy.parts],
            "recovery": {name: getattr(recovery, name) for name in _PLAIN},
            "distrusted": sorted(recovery.distrusted.items()),
            "total": [self.total_weight, self.points, self.degraded],
        }
        arrays = {name: getattr(recovery, name) for name in _ARRAYS}
        arrays |= {"shard": evidence.shard, "bucket": evidence.bucket, "origin": recovery.origin}
        return codec.pack("Decision", fields, arrays | evidence.sample.arrays("sample_"))

    @staticmethod
    def from_bytes(data: bytes) -> Decision:
        fields, arrays = codec.unpack(data, "Decision")
        scheme, plain = fields["assignment"], fields["recovery"]
        scheme["domains"] = None if scheme["domains"] is None else tuple(scheme["domains"])
        held: dict[str, Any] = {name: np.asarray(arrays[name]) for name in (*_ARRAYS, "shard", "bucket")}
        plain["responded"], plain["stragglers"] = tuple(plain["responded"]), tuple(plain["stragglers"])
        recovery = Recovery(
            distrusted=dict(fields["distrusted"]),
            origin=arrays["origin"],
            **plain,
            **{name: held[name] for name in _ARRAYS},
        )
        evidence = Evidence(Coreset.from_arrays(arrays, "sample_"), held["shard"], held["bucket"])
        kind, min_shards, parts = fields["policy"]
        return united(Policy(Assignment(**scheme), kind, min_shards, parts), recovery, evidence, *fields["total"])


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What was decided about one window: a decision for each key.

    Attributes:
      start, end: of the window (or the pane), in seconds since the epoch.
      group: the group of keys that are decided together; "" where there is one.
      revision: 1, or 2 once late reports have completed the window.
      reason: "all" have answered, the "deadline" has passed, or the "cap" was reached.
      decided_at: in seconds since the epoch.
      decisions: by key, in rising order.
    """

    start: float
    end: float
    group: str
    revision: int
    reason: str
    decided_at: float
    decisions: Mapping[str, Decision]

    def to_bytes(self) -> bytes:
        bodies = [decision.to_bytes() for decision in self.decisions.values()]
        fields = {name: getattr(self, name) for name in _VERDICT}
        fields |= {"keys": list(self.decisions), "lengths": [len(body) for body in bodies]}
        head = codec.pack("Verdict", fields, {})
        return b"".join([len(head).to_bytes(8, "little"), head, *bodies])

    @staticmethod
    def from_bytes(data: bytes) -> Verdict:
        at = 8 + int.from_bytes(data[:8], "little")
        fields, _ = codec.unpack(data[8:at], "Verdict")
        decisions = {}
        for key, length in zip(fields.pop("keys"), fields.pop("lengths"), strict=True):
            decisions[key] = Decision.from_bytes(data[at : at + length])
            at += length
        return Verdict(decisions=decisions, **fields)


_VERDICT = ("start", "end", "group", "revision", "reason", "decided_at")
_PLAIN = ("kind", "responded", "stragglers", "coverage", "scale", "delta", "panes", "loss")
_ARRAYS = ("trusted", "multipliers", "covered", "complete", "counts", "weights")


def decide(reports: Iterable[ShardReport], policy: Policy) -> Decision:
    """Recovers one global coreset from the shards that answered.

    Args:
      reports: at most one of each shard and all of the same key, in any order; the order changes nothing.

    Raises:
      ValueError: two different reports of one shard, or a shard or a number of buckets that the scheme does not have.
    """
    by_shard: dict[int, ShardReport] = {}
    for report in reports:
        if by_shard.setdefault(report.shard, report) is not report:
            raise ValueError(f"reports: must be one a shard, got a second one of shard {report.shard}")
    ordered = tuple(by_shard[i] for i in sorted(by_shard))
    assignment = policy.assignment
    in_use = None
    if assignment.parts:
        in_use = np.arange(assignment.buckets) < max([policy.parts, *(report.parts for report in ordered)])
    recovery = recover(
        assignment,
        {r.shard: r.ledger for r in ordered},
        policy.recovery,
        hashed=not assignment.parts,
        finished={r.shard: r.finished() for r in ordered},
        in_use=in_use,
    )
    evidence = _evidence(ordered, assignment, recovery)
    total = float(recovery.weights.sum() * recovery.scale)
    degraded = len(recovery.responded) < policy.min_shards
    return united(policy, recovery, evidence, total, int(recovery.counts.sum()), degraded)


def united(
    policy: Policy, recovery: Recovery, evidence: Evidence, total: float, points: int, degraded: bool
) -> Decision:
    """The decision that follows from these: its coreset is the evidence, recovered, with weights that add up to
    `total`."""
    factors = recovery.multipliers[evidence.shard, evidence.bucket] * recovery.scale
    coreset = evidence.sample.scaled(factors)
    if len(coreset) and coreset.weights.sum() > 0:
        coreset = dataclasses.replace(coreset, weights=coreset.weights * (total / coreset.weights.sum()))
    return Decision(policy, recovery, evidence, coreset, total, points, degraded)


def _evidence(reports: tuple[ShardReport, ...], assignment: Assignment, recovery: Recovery) -> Evidence:
    samples, shards, buckets = [], [], []
    for report in reports:
        bucket = assignment.bucket_of(report.coreset.ids).astype(np.int64)
        rows = np.flatnonzero(recovery.trusted[report.shard, bucket])
        sample = report.coreset
        samples.append(sample.keep(rows, sample.weights_ht[rows], sample.weights[rows]))
        shards.append(np.full(len(rows), report.shard, np.int64))
        buckets.append(bucket[rows])
    if not samples:
        return Evidence(Coreset.empty(), np.empty(0, np.int64), np.empty(0, np.int64))
    return Evidence(Coreset.union(samples), np.concatenate(shards), np.concatenate(buckets))
