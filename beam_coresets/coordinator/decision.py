"""The coordinator's decision: from shard reports to one global coreset. Pure; Beam only brings the reports here."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets import codec
from beam_coresets.coordinator.audit import audit
from beam_coresets.coordinator.ledger_check import FAULTS
from beam_coresets.coordinator.recovery import RECOVERIES, Recovery, packed, recover, unpacked
from beam_coresets.points.coreset import Coreset
from beam_coresets.sampling.by_label import with_totals
from beam_coresets.sampling.far_points import to_total
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.refused import RefusedRows
from beam_coresets.shards.report import ShardReport

FINISHED_BYTES = 16 << 20  # up to here what shards have finished is kept, a byte for each of its buckets

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Policy:
    """When and how to answer.

    Attributes:
      assignment: who holds what.
      recovery: `exact`, `uniform` or `lp` (see `beam_coresets.coordinator.recovery`).
      min_shards: with fewer answers than this the decision is marked degraded.
      parts: where parts are buckets, how many there were at the start; more may be found.
      whole: shards' points can't be told apart by bucket, so a shard that is not in order throughout does not count.
      audit: shards' points are compared, too, and not only their ledgers (see `beam_coresets.coordinator.audit`).
      known: points whose calibrated weight is the unbiased one stand for themselves, and keep it where weights are made
        to add up: what may be left out must not weigh more than it does.
    """

    assignment: Assignment
    recovery: str = "exact"
    min_shards: int = 1
    parts: int = 0
    whole: bool = False
    audit: bool = False
    known: bool = False

    def __post_init__(self) -> None:
        if self.recovery not in RECOVERIES:
            raise ValueError(f"recovery: must be one of {', '.join(RECOVERIES)}, got {self.recovery!r}")
        if self.whole and self.recovery == "exact":
            raise ValueError("recovery: must be uniform or lp where shards count as a whole, got 'exact'")
        if self.whole and self.audit:
            raise ValueError("audit: must be left out where shards count as a whole, got it")
        if not 1 <= self.min_shards <= self.assignment.shards:
            raise ValueError(f"min_shards: must be from 1 to {self.assignment.shards} shards, got {self.min_shards}")


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """The trusted sampled points of all shards, side by side and not yet weighed against each other.

    Attributes:
      sample: the points with their shards' own weights.
      shard: (m,) int64, the shard that each was sampled by.
      bucket: (m,) int64; of a point that is no input row, any that its shard is trusted in.
    """

    sample: Coreset
    shard: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Local:
    """What shards said beside the points of summaries other than coresets (see `ShardReport`).

    Attributes:
      kind: "local_centers" or "pca".
      additive, slack: (s,) float64, zero where a shard does not count.
      estimated: whether any shard's are estimates.
    """

    kind: str
    additive: npt.NDArray[np.float64]
    slack: npt.NDArray[np.float64]
    estimated: bool = False


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
      local: where the shards did not send coresets, what their points leave out.
      label_totals: where labels are counted, the exact weight of each in the covered data times `recovery.scale`, by
        its code; the coreset's calibrated weights of its points add up to it.
      refused: rows of the window, of whatever key, that were refused; None where that is not known.
    """

    policy: Policy
    recovery: Recovery
    evidence: Evidence
    coreset: Coreset
    total_weight: float
    points: int
    degraded: bool
    local: Local | None = None
    label_totals: Mapping[int, float] | None = None
    refused: RefusedRows | None = None

    @staticmethod
    def of(
        policy: Policy,
        recovery: Recovery,
        evidence: Evidence,
        total: float,
        points: int,
        degraded: bool,
        local: Local | None = None,
        label_totals: Mapping[int, float] | None = None,
        refused: RefusedRows | None = None,
    ) -> Decision:
        """The decision that follows: its coreset is the evidence, recovered, with weights that add up to `total`, and
        those of each label to its own.

        A local center that several shards have sent is one point (Algorithm 1's footnote).
        """
        factors = recovery.multiplier(evidence.shard, evidence.bucket) * recovery.scale
        coreset = evidence.sample.scaled(factors)
        if local is not None:
            coreset = coreset.at_distinct_places()[0]
        if len(coreset) and coreset.weights.sum() > 0:
            if policy.known:
                weights = to_total(coreset.weights, total, coreset.weights == coreset.weights_ht)
            else:
                weights = coreset.weights * (total / coreset.weights.sum())
            coreset = dataclasses.replace(coreset, weights=weights)
            if label_totals is not None and coreset.groups is not None:
                exact = with_totals(coreset.weights, coreset.groups, label_totals)
                coreset = dataclasses.replace(coreset, weights=exact)
        return Decision(policy, recovery, evidence, coreset, total, points, degraded, local, label_totals, refused)

    def to_bytes(self) -> bytes:
        """The whole of it, for `from_bytes`."""
        recovery, evidence = self.recovery, self.evidence
        fields = fields_of(self)
        fields["policy"] = [getattr(self.policy, field.name) for field in dataclasses.fields(Policy)[1:]]
        if not self.policy.known:
            fields["policy"].pop()
        fields["local"] = None if self.local is None else [self.local.kind, self.local.estimated]
        if self.refused is not None:
            fields["refused"] = self.refused.to_fields()
        arrays = {name: getattr(recovery, name) for name in _ARRAYS}
        arrays |= {"trusted": packed(recovery.trusted), "unequal": recovery.unequal}
        if self.local is not None:
            arrays |= {"additive": self.local.additive, "slack": self.local.slack}
        arrays |= {"shard": evidence.shard, "bucket": evidence.bucket, "origin": recovery.origin}
        return codec.pack("Decision", fields, arrays | evidence.sample.arrays("sample_"))

    @staticmethod
    @codec.decoder("Decision")
    def from_bytes(data: bytes) -> Decision:
        """The Decision that `to_bytes` was given."""
        fields, arrays = codec.unpack(data, "Decision")
        held: dict[str, Any] = {name: np.asarray(arrays[name]) for name in (*_ARRAYS, "shard", "bucket")}
        recovery = recovery_from(
            fields,
            trusted=unpacked(np.asarray(arrays["trusted"]), tuple(fields["shape"])),
            origin=arrays["origin"],
            unequal=arrays["unequal"],
            **{name: held[name] for name in _ARRAYS},
        )
        evidence = Evidence(Coreset.from_arrays(arrays, "sample_"), held["shard"], held["bucket"])
        local = None
        if fields["local"] is not None:
            kind, estimated = fields["local"]
            local = Local(kind, np.asarray(arrays["additive"]), np.asarray(arrays["slack"]), estimated)
        return decision_from(fields, recovery, evidence, local)


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What was decided about one window: a decision for each key.

    Attributes:
      start, end: of the window (or the pane), in seconds since the epoch.
      group: the group of keys that are decided together; "" where there is one.
      revision: 1, or 2 once late reports have completed the window.
      reason: "all" have answered, the "deadline" has passed, or the "cap" was reached.
      decided_at: in seconds since the epoch.
      decisions: by key, in rising order; none where another replica's decision stands already, or nobody has rows.
      replica: which of the window's coordinators decided.
    """

    start: float
    end: float
    group: str
    revision: int
    reason: str
    decided_at: float
    decisions: Mapping[str, Decision]
    replica: int = 0

    def to_bytes(self) -> bytes:
        """The whole of it, for `from_bytes`."""
        bodies = [decision.to_bytes() for decision in self.decisions.values()]
        fields = {name: getattr(self, name) for name in _VERDICT}
        return codec.pack_with("Verdict", fields | {"keys": list(self.decisions)}, {}, bodies)

    @staticmethod
    @codec.decoder("Verdict")
    def from_bytes(data: bytes) -> Verdict:
        """The Verdict that `to_bytes` was given."""
        fields, _, bodies = codec.unpack_with(data, "Verdict")
        decisions = dict(zip(fields.pop("keys"), map(Decision.from_bytes, bodies), strict=True))
        return Verdict(decisions=decisions, **fields)


_VERDICT = ("start", "end", "group", "revision", "reason", "decided_at", "replica")
_RECOVERY = ("kind", "responded", "stragglers", "coverage", "scale", "delta", "panes", "loss")
_ARRAYS = ("covered", "complete", "counts", "weights")


def fields_of(decision: Decision) -> dict[str, Any]:
    """The small fields that bytes and tables keep alike, able to be JSON."""
    recovery = decision.recovery
    fields: dict[str, Any] = {
        "assignment": dataclasses.asdict(decision.policy.assignment),
        "recovery": {name: getattr(recovery, name) for name in _RECOVERY},
        "distrusted": sorted(recovery.distrusted.items()),
        "shape": list(recovery.trusted.shape),
        "total": [decision.total_weight, decision.points, decision.degraded],
    }
    if decision.label_totals is not None:
        fields["labels"] = sorted(decision.label_totals.items())
    return fields


def recovery_from(fields: Mapping[str, Any], **arrays: Any) -> Recovery:
    """The recovery of these fields (`fields_of`) and its arrays by name."""
    plain = fields["recovery"] | {name: tuple(fields["recovery"][name]) for name in ("responded", "stragglers")}
    return Recovery(distrusted=dict(fields["distrusted"]), **plain, **arrays)


def decision_from(
    fields: Mapping[str, Any], recovery: Recovery, evidence: Evidence, local: Local | None = None
) -> Decision:
    """The decision of these fields (`fields_of`, and `policy`), this recovery and this evidence."""
    scheme = dict(fields["assignment"])
    scheme["domains"] = None if scheme["domains"] is None else tuple(scheme["domains"])
    policy = Policy(Assignment(**scheme), *fields["policy"])
    total, points, degraded = fields["total"]
    totals = dict(fields["labels"]) if "labels" in fields else None
    refused = RefusedRows.from_fields(fields.get("refused"))
    return Decision.of(policy, recovery, evidence, total, points, degraded, local, totals, refused)


def decide(reports: Iterable[ShardReport], policy: Policy) -> Decision:
    """Recovers one global coreset from the shards that answered.

    Args:
      reports: at most one of each shard and all of the same key, in any order; the order changes nothing.

    Raises:
      ValueError: two different reports of one shard, a shard or a number of buckets that the scheme does not have,
        reports of different kinds, or of a kind that the policy is not for.
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
    recovery, ordered = _recovered(ordered, policy, in_use)
    local = _local(ordered, policy, recovery)
    evidence = _evidence(ordered, policy, recovery)
    total = float(recovery.weights.sum() * recovery.scale)
    degraded = len(recovery.responded) < policy.min_shards
    totals = _label_totals(ordered, recovery)
    return Decision.of(policy, recovery, evidence, total, int(recovery.counts.sum()), degraded, local, totals)


class _Finished(Mapping[int, Array]):
    """What each shard has finished, worked out when it is asked for: thousands of shards have as many buckets each."""

    def __init__(self, reports: Iterable[ShardReport]) -> None:
        self._reports = {report.shard: report for report in reports}

    def __getitem__(self, shard: int) -> Array:
        return self._reports[shard].finished()

    def __iter__(self) -> Iterator[int]:
        return iter(self._reports)

    def __len__(self) -> int:
        return len(self._reports)


def _recovered(
    reports: tuple[ShardReport, ...], policy: Policy, in_use: Array | None
) -> tuple[Recovery, tuple[ShardReport, ...]]:
    """By the ledgers; with an audit, again without the shards whose points are wrong, until none is. And the reports
    that are left."""
    barred: dict[int, str] = {}
    heard = reports
    headless = np.zeros(policy.assignment.buckets, np.bool_)
    for report in reports:
        if any(r.headless for r in report.ranges):
            headless |= report.headless()
    finished: Mapping[int, Array] = _Finished(reports)
    if len(reports) * policy.assignment.buckets <= FINISHED_BYTES:
        finished = dict(finished)
    while True:
        recovery = recover(
            policy.assignment,
            {r.shard: r.ledger for r in reports},
            policy.recovery,
            hashed=not policy.assignment.parts,
            finished=finished,
            in_use=in_use,
            whole=policy.whole,
            barred=barred,
            headless=headless,
        )
        found = audit(heard, policy.assignment, recovery.trusted) if policy.audit else ()
        if not found:
            return recovery, heard
        for finding in found:
            known = recovery.distrusted.get(finding.shard, "")
            barred[finding.shard] = max(finding.fault, known, key=FAULTS.index)
        heard = tuple(report for report in reports if report.shard not in barred)


def _label_totals(reports: tuple[ShardReport, ...], recovery: Recovery) -> dict[int, float] | None:
    """Each label's weight, bucket by bucket as the lowest trusted holder has counted it."""
    if all(report.ledger.labels is None for report in reports):
        return None
    counted_by = np.where(recovery.covered, recovery.trusted.argmax(axis=0), -1)
    out: dict[int, float] = {}
    for report in reports:
        if report.ledger.labels is not None:
            for code, weight in report.ledger.labels.of_buckets(counted_by == report.shard).totals().items():
                out[code] = out.get(code, 0.0) + weight * recovery.scale
    return out


def _local(reports: tuple[ShardReport, ...], policy: Policy, recovery: Recovery) -> Local | None:
    kinds = sorted({report.kind for report in reports})
    if len(kinds) > 1:
        raise ValueError(f"reports: must all be of one kind, got {', '.join(kinds)}")
    if kinds in ([], ["coreset"]):
        return None
    if not policy.whole:
        raise ValueError(f"policy: must count shards as a whole for reports of kind {kinds[0]}, got one that does not")
    additive, slack = np.zeros(policy.assignment.shards), np.zeros(policy.assignment.shards)
    counting = [report for report in reports if recovery.trusted[report.shard].any()]
    for report in counting:
        additive[report.shard], slack[report.shard] = report.additive, report.slack
    return Local(kinds[0], additive, slack, any(report.estimated for report in counting))


def _evidence(reports: tuple[ShardReport, ...], policy: Policy, recovery: Recovery) -> Evidence:
    samples, shards, buckets = [], [], []
    for report in reports:
        bucket = policy.assignment.bucket_of(report.coreset.ids).astype(np.int64)
        if policy.whole:
            bucket = _trusted_bucket(recovery.trusted[report.shard], bucket)
        rows = np.flatnonzero(recovery.trusted[report.shard, bucket])
        sample = report.coreset
        samples.append(sample.keep(rows, sample.weights_ht[rows], sample.weights[rows]))
        shards.append(np.full(len(rows), report.shard, np.int64))
        buckets.append(bucket[rows])
    if not samples:
        return Evidence(Coreset.empty(), np.empty(0, np.int64), np.empty(0, np.int64))
    return Evidence(Coreset.union(samples), np.concatenate(shards), np.concatenate(buckets))


def _trusted_bucket(trusted: Array, bucket: Array) -> Array:
    """A bucket for each of a shard's points, (m,): its own, or where that is not one of the shard's, as of points that
    are no input rows, the first. All of a shard's buckets have one multiplier then."""
    named = np.minimum(bucket, len(trusted) - 1)
    return np.where((named == bucket) & trusted[named], bucket, trusted.argmax())
