"""The audit: shards whose ledger is right and whose points are wrong.

Ledgers tell what a shard has read, and always count (`beam_coresets.coordinator.recovery`): rows that are missing
(partial), counted repeatedly, as by a replay (duplicated), or others than the trusted holders' (corrupted). They say
nothing about the sample that comes with them. The audit compares that, and is asked for. It finds

- samples that contradict themselves or their own ledger, at any replication: numbers that are not finite, negative
  weights, another width than the other shards', ids of buckets that the shard does not hold, more points of a
  bucket than it has read, calibrated weights that do not add up to the ledger's, unbiased ones that add up to far
  more, ids that crowd in some buckets, ids that repeat as nobody else's do. Where a shard left nothing out, its
  ledger is worked out again from its points, and a single altered bit shows;
- samples that contradict the replicas' (`beam_coresets.coordinator.replica_test`): other moments of the same buckets
  (how much lies
  where, means, squares), other coordinates under ids that both have drawn.

**Whom to believe.** Each shard is compared with all other holders of its buckets. The strongest contradiction is to
be explained by as few liars as possible: without them the shards that are connected with it must agree. A shard
that is in every such explanation is `implausible`; one that is in some of them is `disputed`. Both count nowhere,
as if they had not answered, even if nobody else holds some of their buckets: losing a random sample costs variance,
a wrong one costs correctness. What that comes to depends on the scheme:

- replication 1: only the first kind above is found.
- fractional, l = 2: two shards contradict each other, and both go. From l = 3 on the majority of a group is
  believed.
- cyclic, l = 2: the neighbours on both sides agree that it is the one between them. A shard that lies only about
  the buckets that it shares with one of them drags that one along.
- Liars who agree are found where they are a minority of some bucket's holders, and win where they are most of them.
  Both holders of fractional pairs are never found, and two of three make the third one look wrong. On a circle of l
  = 3, two neighbours with one lie are found if it is gross enough for each holder beside them to see; else those
  are disputed, too.

**False alarms.** All tests of a decision together are to raise one with probability `FALSE_ALARM`: each by a bound
that holds for heavy tails, times the number of tests. It supposes that shards draw independently, and with
probabilities that don't differ by orders of magnitude for reasons of their own. Users' ids that name several rows
weaken the tests of ids, and only there an alarm might be false: if such rows are close together, and drawn from the
same order by every holder (`uniform` or `lightweight`, fractional).

**What is too small to see.** With n points a shard of equal weight and m holders a bucket, the mean of a function
is seen to be wrong from about x sqrt(m / (m - 1) / n) times its root mean square on, where x is the 7.5 deviations
that so few false alarms ask for: 0.33 at n = 800 and m = 3. Points that are elsewhere are seen from x^2 to 3 x^2 of
them on, 60 to 180, however far away, and below some 100 points a shard hardly anything is seen. With unequal
weights n is (sum w)^2 / sum w^2, which is small where outliers take most of the sample. A changed row is seen from
1/64 of a cell's radius on if other shards have drawn it, too: if it is an outlier, or much of the data is sampled;
hardly ever in a small sample of many rows.

So a few points far away pass, and may do harm without limit to a cost of squares. No sample can refute them: of a
small group of rows far from all others honest shards, too, may have drawn all or none. Ledgers could: with the
largest norm and the exact sum of w |x|^2 of each bucket, agreed on like counts, no sample could claim more. That is
16 more bytes a bucket, and more work for every row that is read, audited or not, which is why it isn't done. Nor
does the audit stop somebody who invents rows with the right moments under new ids: its seed is the plan's. Labels
and kept columns are not compared.
"""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.replica_test import Pool, ReplicaEvidence
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.report import ShardReport

FALSE_ALARM = 1e-9  # for all tests of one decision together
CALM = 1e-3  # a conflict is explained where its p is above this, in all shards that it concerns together
MOST_TRIED = 2000  # explanations; beyond it the shard that is farthest off is blamed
SIGNS = 8
WEIGHT_ROUNDING = 1e-6  # sums of weights may differ by this share


@dataclasses.dataclass(frozen=True)
class Finding:
    """A shard that is not to be believed.

    Attributes:
      shard: which.
      fault: "implausible", or "disputed" where it is this shard or another.
      reason: what is wrong with it.
    """

    shard: int
    fault: str
    reason: str


def audit(
    reports: Sequence[ShardReport], assignment: Assignment, trusted: npt.NDArray[np.bool_]
) -> tuple[Finding, ...]:
    """The shards whose samples contradict themselves, their own ledgers or the other shards', by rising number.

    Args:
      reports: at most one of each shard, finished.
      trusted: (shards, buckets) bool, by the ledgers (`recovery.diagnose`).
    """
    found: dict[int, Finding] = {}
    shapes = [_shape(report) for report in reports if len(report.coreset)]
    usual = max(sorted(set(shapes)), key=shapes.count, default=(0, False))
    for report in reports:
        reason = _contradiction(report, assignment, usual)
        if reason is not None:
            found[report.shard] = Finding(report.shard, "implausible", reason)
    plausible = [report for report in reports if report.shard not in found and len(report.coreset)]
    if plausible:
        _compare(plausible, assignment, trusted, found)
    return tuple(found[shard] for shard in sorted(found))


def _compare(
    reports: Sequence[ShardReport], assignment: Assignment, trusted: npt.NDArray[np.bool_], found: dict[int, Finding]
) -> None:
    s = assignment.shards
    pool = Pool.of(reports, assignment)
    here = np.zeros(s, np.bool_)
    here[[report.shard for report in reports]] = True
    shared = trusted & ((trusted & here[:, None]).sum(axis=0) > 1)
    evidence = ReplicaEvidence.of(pool.take(np.flatnonzero(shared[pool.shard, pool.bucket])), assignment)
    alarm = math.log(FALSE_ALARM / (s * (evidence.tests + 2 * SIGNS + 3)))
    known = np.zeros((s, assignment.buckets))
    for report in reports:
        known[report.shard] = report.ledger.weights
    signs = generator(assignment.seed, "audit", "signs").integers(0, 2, (assignment.buckets, SIGNS)) * 2.0 - 1
    for reason, log_p in (
        ("weights that contradict its own ledger", pool.totals(assignment, known, signs)),
        ("rows that come more than once", pool.repeats(s)),
    ):
        for shard in np.flatnonzero(log_p < alarm).tolist():
            found[shard] = Finding(shard, "implausible", reason)
    _blame(evidence, alarm, found)


def _shape(report: ShardReport) -> tuple[int, bool]:
    """What all samples have in common: their width, and whether there are labels."""
    return report.coreset.dim, report.coreset.groups is not None


def _contradiction(report: ShardReport, assignment: Assignment, usual: tuple[int, bool]) -> str | None:
    """What no honest sample can be, or None."""
    sample, ledger = report.coreset, report.ledger
    if not len(sample):
        return None
    if _shape(report) != usual:
        return "points of another width than the others', or labels on one side only"
    if not all(np.isfinite(numbers).all() for numbers in (sample.points, sample.weights, sample.weights_ht)):
        return "numbers that are not finite"
    if min(sample.weights.min(), sample.weights_ht.min()) < 0:
        return "negative weights"
    bucket = assignment.bucket_of(sample.ids)
    if bucket.max() >= assignment.buckets or not assignment.matrix()[report.shard, bucket].all():
        return "ids of buckets that it does not hold"
    if (np.bincount(bucket, minlength=assignment.buckets) > ledger.counts).any():
        return "more points of a bucket than it has read"
    if abs(float(sample.weights.sum()) - ledger.weight) > WEIGHT_ROUNDING * ledger.weight:
        return "weights that don't add up to its ledger's"
    if len(sample) == ledger.rows:  # nothing was left out: the ledger says what these rows are
        rows = PointBlock(np.ascontiguousarray(sample.points), sample.weights_ht, sample.ids, Span(0, 0))
        if (Ledger.of(rows, assignment).checksums != ledger.checksums).any():
            return "all rows, and not those of its ledger"
    return None


def _blame(evidence: ReplicaEvidence, alarm: float, found: dict[int, Finding]) -> None:
    """Explains the strongest conflict, sets those aside who may have caused it, and looks again, until none is left."""
    while True:
        log_p = evidence.log_p(found)
        shard, test = (int(i) for i in np.unravel_index(log_p.argmin(), log_p.shape))
        if log_p[shard, test] >= alarm:
            return
        what = "rows of the same ids" if test == evidence.tests - 1 else "moments of the same buckets"
        explanations = _explanations(evidence, shard, test, set(found), log_p[:, test])
        for i in sorted(set().union(*explanations)):
            certain = all(i in explanation for explanation in explanations)
            found[i] = Finding(i, "implausible" if certain else "disputed", f"other {what} than its replicas")


def _explanations(
    evidence: ReplicaEvidence, shard: int, test: int, gone: set[int], log_p: npt.NDArray[np.float64]
) -> list[set[int]]:
    """The smallest sets of shards without which this test is calm in all shards that are connected with this one."""
    calm = math.log(CALM / len(log_p))
    disturbed = set(np.flatnonzero(log_p < calm).tolist()) | {shard}
    around, new = {shard}, {shard}
    while new:
        new = set().union(*(evidence.partners(i) for i in new)) & disturbed - around
        around |= new
    tried = 0
    for size in range(1, len(around)):
        tried += math.comb(len(around), size)
        if tried > MOST_TRIED:
            break
        explanations = []
        for some in itertools.combinations(sorted(around), size):
            left = evidence.log_p(gone.union(some), test)[sorted(around.difference(some)), test]
            if (left >= calm).all():
                explanations.append(set(some))
        if explanations:
            return explanations
    return [{shard}]
