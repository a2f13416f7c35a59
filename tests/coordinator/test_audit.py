"""The audit: what it finds at which replication, whom it blames, what it can't see, and that honest shards pass.

Every test is seeded. Where a bound on false alarms matters, `audit.FALSE_ALARM` = 1e-9 a decision is the probability
that a true statement fails.
"""
import dataclasses
import functools
import math

import apache_beam as beam
import numpy as np
import pytest
from jobs import CENTERS, clusters, counters, parts_of, run
from simulated import T0, Simulation, log_of, patience

from beam_coresets.coordinator.audit import FALSE_ALARM, audit
from beam_coresets.coordinator.decision import Policy, Verdict, decide
from beam_coresets.coordinator.merge import merge
from beam_coresets.coordinator.recovery import recover
from beam_coresets.coordinator.replica_test import Pool, ReplicaEvidence
from beam_coresets.datasets.synthetic import GaussianMixture, HeavyTails, SSet, UnitVectors
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.options import SummarizeOptions
from beam_coresets.points.block import PointBlock, Span, blocks_of
from beam_coresets.points.nearest import cost
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment, part_ids
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.summarize import Summarize

SHAPE = SSet(k=15)
ROWS = 20_000
SIZE = 600


@functools.lru_cache(maxsize=32)
def honest(scheme, seed=0, rows=ROWS, size=SIZE):
    """The honest shards' reports on points in the plane."""
    blocks = blocks_of(SHAPE.points(rows), rows=2048)
    return tuple(shard_reports(blocks, MergeReduce(Sampler(15, min(size, rows)), scheme, seed)))


def found(reports, scheme):
    trusted = recover(scheme, {r.shard: r.ledger for r in reports}, hashed=not scheme.parts).trusted
    return {finding.shard: finding.fault for finding in audit(reports, scheme, trusted)}


def with_sample(report, **changes):
    """The report with other arrays in its sample; the ledger stays right, and calibrated weights add up to it."""
    sample = dataclasses.replace(report.coreset, **changes)
    weights = sample.weights * (report.ledger.weight / sample.weights.sum())
    return dataclasses.replace(report, coreset=dataclasses.replace(sample, weights=weights))


def of_all(reports, shards, lie):
    return [lie(report) if report.shard in shards else report for report in reports]


def shifted(report, by=0.2):
    """All points moved by a share of the standard deviation of all data; the ids stay."""
    return with_sample(report, points=report.coreset.points + np.float32(by * SHAPE.points(1000).std()))


def new_ids(report, scheme):
    """Ids that nobody has drawn, of the same buckets."""
    pool = np.arange(400_000, dtype=np.uint64) + np.uint64(10**12 * (1 + report.shard))
    of = scheme.bucket_of(pool)
    order = np.argsort(of, kind="stable")
    first = np.searchsorted(of[order], np.arange(scheme.buckets))
    bucket = scheme.bucket_of(report.coreset.ids)
    nth = np.zeros(len(bucket), np.int64)
    for b in np.unique(bucket):
        nth[bucket == b] = np.arange((bucket == b).sum())
    return pool[order][first[bucket] + nth]


CYCLIC = Assignment(10, 3)
PAIRS = Assignment(10, 2, "fractional")


# A sample against itself and its own ledger: at any replication.


def broken(report, name):
    sample, n = report.coreset, len(report.coreset)
    points, w, ids = sample.points.copy(), sample.weights_ht.copy(), sample.ids.copy()
    if name == "not finite":
        points[3, 1] = np.nan
        return with_sample(report, points=points)
    if name == "negative":
        w[5] = -1.0
        return with_sample(report, weights_ht=w)
    if name == "not held":
        ids[:2] = ids[:2] + np.uint64(1)
        return with_sample(report, ids=ids)
    if name == "more than read":
        return with_sample(report, ids=np.repeat(ids[:1], n))
    if name == "another width":
        return with_sample(report, points=np.ones((n, 3), np.float32))
    if name == "labels":
        return with_sample(report, groups=np.zeros(n, np.int32))
    if name == "does not add up":
        return dataclasses.replace(report, coreset=dataclasses.replace(sample, weights=sample.weights * 1.01))
    if name == "too heavy":
        return with_sample(report, weights_ht=2.0 * w)
    if name == "few buckets":  # as many points a bucket as it has rows, and no others
        rows = np.concatenate([np.repeat(i, c) for i, c in zip(*_one_id_a_bucket(report), strict=True)])[:n]
        return with_sample(report, ids=ids[rows])
    raise KeyError(name)


def _one_id_a_bucket(report):
    bucket = Assignment(10, 1).bucket_of(report.coreset.ids)
    chosen, rows = np.unique(bucket, return_index=True)
    return rows, report.ledger.counts[chosen]


BROKEN = ("not finite", "negative", "not held", "more than read", "another width", "labels", "does not add up",
          "too heavy", "few buckets")  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_sample_that_contradicts_itself_needs_no_replica(name):
    scheme = Assignment(10, 1)
    reports = honest(scheme)
    assert found(reports, scheme) == {}
    assert found(of_all(reports, {4}, lambda r: broken(r, name)), scheme) == {4: "implausible"}


def test_a_shard_whose_points_cannot_be_used_does_not_stop_the_decision():
    """Without an audit, another width or a part that does not exist is an error."""
    scheme = Assignment(3, 2, buckets=6, parts=True)
    blocks = [PointBlock(SHAPE.block(part, 200), np.ones(200), part_ids(part, np.arange(200, dtype=np.uint64)),
                         Span(part, 0, True)) for part in range(6)]  # fmt: skip
    reports = shard_reports(blocks, MergeReduce(Sampler(3, 60), scheme))
    for lie in (
        lambda r: with_sample(r, ids=r.coreset.ids | part_ids(1000, np.zeros(1, np.uint64))),
        lambda r: with_sample(r, points=np.ones((len(r.coreset), 5), np.float32)),
    ):
        liars = of_all(reports, {1}, lie)
        decision = decide(liars, Policy(scheme, parts=6, audit=True))
        assert decision.recovery.distrusted == {1: "implausible"}
        assert decision.recovery.coverage == 1.0
        assert decision.points == 1200
        with pytest.raises((IndexError, ValueError)):
            decide(liars, Policy(scheme, parts=6))


def test_where_nothing_is_left_out_a_single_bit_shows_even_alone():
    scheme = Assignment(4, 1)
    reports = honest(scheme, rows=400)
    assert all(len(r.coreset) == r.ledger.rows for r in reports)
    points = reports[2].coreset.points.copy()
    points.view(np.uint32)[7, 0] ^= 1
    changed = of_all(reports, {2}, lambda r: dataclasses.replace(
        r, coreset=dataclasses.replace(r.coreset, points=points)))  # fmt: skip
    assert found(reports, scheme) == {}
    assert found(changed, scheme) == {2: "implausible"}
    assert found(changed[2:3], scheme) == {2: "implausible"}


# A sample against its replicas.


def lie_of(name, report, scheme, size):
    """A lie of a stated size, under ids of its own, so that only moments can tell."""
    sample = report.coreset
    points = sample.points.astype(np.float64)
    rng = generator("lie", name, report.shard)
    some = rng.random(len(points)) < size
    if name == "shifted":
        points += size * points.std() * np.array([0.6, -0.8])
    if name == "noisy":
        points += size * points.std() * rng.standard_normal(points.shape)
    if name == "shrunk":
        points = points.mean(axis=0) + (1 - size) * (points - points.mean(axis=0))
    if name == "from elsewhere":
        points[some] = rng.uniform(-1e6, 3e6, (int(some.sum()), 2))
    if name == "one place":
        points[some] = 5e5
    if name == "one cluster":
        near = np.argsort(((points - points[0]) ** 2).sum(axis=1))[: len(points) // 15]
        points[some] = points[rng.choice(near, int(some.sum()))]
    if name == "columns swapped":
        points = points[:, ::-1]
    w, calibrated = sample.weights_ht, sample.weights
    if name == "reweighted":
        factor = np.where(points[:, 0] > np.median(points[:, 0]), 1 + size, 1 / (1 + size))
        w, calibrated = w * factor, calibrated * factor
    points, ids = np.ascontiguousarray(points, np.float32), new_ids(report, scheme)
    return with_sample(report, points=points, weights_ht=w, weights=calibrated, ids=ids)


LIES = [("shifted", 0.25), ("noisy", 0.2), ("shrunk", 0.25), ("from elsewhere", 0.35), ("one place", 0.35),
        ("one cluster", 0.9), ("columns swapped", 1.0), ("reweighted", 4.0)]  # fmt: skip


@pytest.mark.parametrize(("name", "size"), LIES)
@pytest.mark.parametrize("scheme", [CYCLIC, Assignment(10, 2), Assignment(9, 3, "fractional")], ids=str)
def test_lies_of_these_sizes_are_found_and_blamed(name, size, scheme):
    for seed in range(4, 7):
        reports = honest(scheme, seed)
        liars = of_all(reports, {4}, lambda r: lie_of(name, r, scheme, size))
        assert found(liars, scheme) == {4: "implausible"}, seed


@pytest.mark.parametrize("replication", [2, 3, 5])
def test_what_is_seen_is_what_the_module_says(replication):
    """A round cluster, points of equal weight: a mean that is off by d root mean squares makes d sqrt(n (m - 1) / m)
    deviations, and d = x sqrt(m / (m - 1) / n) is where an alarm begins. Within 20 %: honest noise is 1 of 7.5."""
    shape, scheme, n = GaussianMixture(d=2, k=1, outliers=0.0), Assignment(10, replication), 800
    blocks = blocks_of(shape.points(ROWS), rows=2048)
    reports = shard_reports(blocks, MergeReduce(Sampler(1, n, method="uniform"), scheme))
    threshold = math.sqrt(2 * math.log(2 * 10 * 140 / FALSE_ALARM))
    for part in (0.5, 1.0, 2.0):
        by = part * threshold * math.sqrt(replication / (replication - 1) / n) * shape.deviations[0]
        liars = of_all(reports, {4}, lambda r, by=by: with_sample(
            r, points=r.coreset.points + np.array([by, 0], np.float32), ids=new_ids(r, scheme)))  # fmt: skip
        deviations = math.sqrt(2 * (math.log(2) - _evidence(liars, scheme).log_p()[4, :-1].min()))
        assert deviations == pytest.approx(part * threshold, rel=0.2)
        assert found(liars, scheme) == ({4: "implausible"} if part == 2.0 else found(liars, scheme))
        assert part != 0.5 or found(liars, scheme) == {}


def _evidence(reports, scheme):
    pool = Pool.of(reports, scheme)
    return ReplicaEvidence.of(pool, scheme)


@pytest.mark.parametrize("method", ["sensitivity", "uniform"])
def test_a_row_that_others_have_drawn_is_compared_by_itself(method):
    """With 40 % of the rows drawn, a shift far below the noise is seen by the ids that samples have in common."""
    blocks = blocks_of(SHAPE.points(4000), rows=512)
    reports = shard_reports(blocks, MergeReduce(Sampler(15, 480, method=method), CYCLIC))
    liars = of_all(reports, {4}, lambda r: shifted(r, 0.02))
    assert found(reports, CYCLIC) == {}
    assert found(liars, CYCLIC) == {4: "implausible"}
    assert found(of_all(reports, {4}, lambda r: with_sample(shifted(r, 0.02), ids=new_ids(r, CYCLIC))), CYCLIC) == {}


def test_rows_that_come_more_than_once_are_found_without_replicas():
    scheme = Assignment(10, 1)
    reports = honest(scheme)

    def doubled(report):
        rows = np.repeat(np.arange(len(report.coreset) // 2), 2)
        return dataclasses.replace(report, coreset=report.coreset.keep(
            rows, report.coreset.weights_ht[rows],
            report.coreset.weights[rows] * (report.ledger.weight / report.coreset.weights[rows].sum()),
        ))  # fmt: skip

    assert found(of_all(reports, {4}, doubled), scheme) == {4: "implausible"}


# Whom to believe.


def test_of_two_that_hold_the_same_neither_is_believed():
    reports = honest(PAIRS)
    partner = int(np.flatnonzero((PAIRS.matrix() == PAIRS.matrix()[4]).all(axis=1) & (np.arange(10) != 4))[0])
    liars = of_all(reports, {4}, lambda r: lie_of("shifted", r, PAIRS, 0.3))
    assert found(liars, PAIRS) == {4: "disputed", partner: "disputed"}
    decision = decide(liars, Policy(PAIRS, audit=True))
    assert decision.recovery.coverage == pytest.approx(0.8, abs=0.001)
    assert decision.recovery.scale == 1 / decision.recovery.coverage
    assert decision.total_weight == pytest.approx(ROWS, rel=0.05)


def test_a_lie_told_to_one_neighbour_only_is_disputed():
    scheme = Assignment(10, 2)
    reports = honest(scheme)

    def to_one(report):
        bucket = scheme.bucket_of(report.coreset.ids)
        both = scheme.matrix()[5, bucket]
        moved = lie_of("shifted", report, scheme, 0.5).coreset.points
        points = np.where(both[:, None], moved, report.coreset.points)
        return with_sample(report, points=points, ids=np.where(both, new_ids(report, scheme), report.coreset.ids))

    assert found(of_all(reports, {4}, to_one), scheme) == {4: "disputed", 5: "disputed"}


def test_colluding_holders_are_found_where_they_are_a_minority():
    def lie(scheme):
        return lambda r: lie_of("shifted", r, scheme, 0.6)

    liars = {4, 5}
    assert found(of_all(honest(CYCLIC, size=2000), liars, lie(CYCLIC)), CYCLIC) == dict.fromkeys(liars, "implausible")
    seen_less_well = [found(of_all(honest(CYCLIC, seed), liars, lie(CYCLIC)), CYCLIC) for seed in range(6)]
    assert dict.fromkeys((3, 4, 5, 6), "disputed") in seen_less_well, "two beside them would explain it as well"
    assert all(set(blamed) <= {3, 4, 5, 6} for blamed in seen_less_well)
    group = np.flatnonzero((PAIRS.matrix() == PAIRS.matrix()[4]).all(axis=1)).tolist()
    assert found(of_all(honest(PAIRS), group, lie(PAIRS)), PAIRS) == {}, "nobody else holds what they hold"
    threes = Assignment(9, 3, "fractional")
    group = np.flatnonzero((threes.matrix() == threes.matrix()[4]).all(axis=1)).tolist()
    assert found(of_all(honest(threes), group[:1], lie(threes)), threes) == {group[0]: "implausible"}
    two = found(of_all(honest(threes), group[:2], lie(threes)), threes)
    assert two == {group[2]: "implausible"}, "two of three are a majority, even if they lie"


def test_liars_apart_from_each_other_are_all_found():
    scheme = Assignment(12, 3)
    liars = of_all(honest(scheme), {1, 5, 9}, lambda r: lie_of("shrunk", r, scheme, 0.3))
    assert found(liars, scheme) == dict.fromkeys((1, 5, 9), "implausible")


def test_what_is_below_the_noise_passes():
    """A few points far away: no sample can refute them (see the module)."""
    reports = honest(CYCLIC)
    assert found(of_all(reports, {4}, lambda r: lie_of("from elsewhere", r, CYCLIC, 0.01)), CYCLIC) == {}


def test_one_gigantic_weight_does_not_excuse_itself():
    def heavy(report):
        points, w = report.coreset.points.copy(), report.coreset.weights.copy()
        points[7] += np.float32(3e6)
        w[7] = 0.9 * report.ledger.weight
        return with_sample(report, points=points, weights=w, weights_ht=w)

    blamed = [found(of_all(honest(CYCLIC, seed), {4}, heavy), CYCLIC) for seed in range(5)]
    assert blamed.count({4: "implausible"}) >= 3, "a sample can miss it, most do not"


# The decision.


def test_wrong_ledgers_and_replays_are_recoverys_with_and_without_an_audit():
    reports = honest(CYCLIC)

    def ledger_of(report, q, salt):
        ledger = report.ledger
        checksums = ledger.checksums * np.uint64(q) + np.uint64(salt) * (ledger.counts > 0)
        return Ledger(ledger.counts * q, checksums, ledger.weights * q)

    for q, salt, fault in ((2, 0, "duplicated"), (1, 7, "corrupted")):
        wrong = of_all(reports, {4}, lambda r, q=q, salt=salt: dataclasses.replace(r, ledger=ledger_of(r, q, salt)))
        for checked in (False, True):
            distrusted = decide(wrong, Policy(CYCLIC, audit=checked)).recovery.distrusted
            assert set(distrusted) == {4}
            # A replayed ledger's sample does not add up to it, and that is the graver fault.
            assert distrusted[4] in ({fault} if not checked else {fault, "implausible"})


def test_a_decision_goes_on_without_the_liar_and_says_so():
    reports = honest(CYCLIC)
    liars = of_all(reports, {4}, lambda r: shifted(r, 3.0))
    policy = Policy(CYCLIC, audit=True)
    decision = decide(liars, policy)
    assert decision.recovery.distrusted == {4: "implausible"}
    assert (decision.recovery.coverage, decision.recovery.stragglers) == (1.0, ())
    without = decide([r for r in reports if r.shard != 4], policy)
    assert decision.coreset.ids.tolist() == without.coreset.ids.tolist()
    assert decision.total_weight == pytest.approx(ROWS)
    assert 4 in decide(liars, Policy(CYCLIC)).evidence.shard
    back = Verdict.from_bytes(Verdict(0.0, 1.0, "", 1, "all", 2.0, {"": decision}).to_bytes()).decisions[""]
    assert back.policy == policy
    assert back.recovery.distrusted == decision.recovery.distrusted
    partial = dataclasses.replace(without, recovery=dataclasses.replace(without.recovery, distrusted={4: "partial"}))
    assert merge([partial, decision]).recovery.distrusted == {4: "implausible"}


def test_the_order_of_reports_changes_nothing():
    liars = of_all(honest(CYCLIC), {4, 8}, lambda r: lie_of("noisy", r, CYCLIC, 0.5))
    assert decide(liars, Policy(CYCLIC, audit=True)).to_bytes() == decide(
        liars[::-1], Policy(CYCLIC, audit=True)
    ).to_bytes()


def test_an_audit_needs_points_with_buckets():
    with pytest.raises(ValueError, match="audit: must be left out where shards count as a whole"):
        Policy(CYCLIC, "lp", whole=True, audit=True)


def test_the_option_reaches_the_decision_of_batches_and_streams():
    known, _ = options.parse(["--k", "3", "--audit"], "summarize", SummarizeOptions)
    plan = options.plan_of(known)
    assert plan.policy.audit
    assert not dataclasses.replace(plan, audit=False).policy.audit
    stream = StreamPlan(plan, WindowSpec.parse("5s"))
    assert stream.policy(stream.assignment(4)).audit


def test_windows_of_honest_readers_are_decided_the_same():
    """The simulated stream: parts in place of buckets, shards behind, a shard that stands still."""
    verdicts = []
    for checked in (False, True):
        logs = [log_of(3, part, 60, 0.3, 0.5, 1.0) for part in range(6)]
        simulation = Simulation(4, 2, logs, patience())
        coordinator = simulation.coordinator
        coordinator.policy = dataclasses.replace(coordinator.policy, audit=checked)
        rng = generator("audited stream")
        for step in range(80):
            simulation.step(0.5, {1} if 20 < step < 50 else set(), rng, delay=0.5, duplicates=True)
        verdicts.append([(pane, reason, d.recovery.distrusted, d.coreset.weights.tolist())
                         for pane, _, reason, d, _ in coordinator.verdicts])  # fmt: skip
    assert len(verdicts[0]) > 3
    assert simulation.now > T0
    assert verdicts[0] == verdicts[1]


# False alarms.


def honest_run(seed):
    """Reports of honest shards on data of a random shape, under a random scheme, some dropped."""
    rng = generator("honest run", seed)
    rows = int(rng.choice([3, 30, 300, 3000, 12_000]))
    shapes = {
        "mixture": lambda: GaussianMixture(seed, d=int(rng.integers(1, 9)), k=12).points(rows),
        "heavy tails": lambda: HeavyTails(seed, d=int(rng.choice([2, 20])), k=8, freedom=1.2, tail=1.2).points(rows),
        "unit vectors": lambda: UnitVectors(seed, d=40, k=10).points(min(rows, 3000)),
        "plane": lambda: SSet(seed).points(rows),
        "repeated": lambda: np.repeat(SSet(seed).points(max(1, rows // 20)), 20, axis=0),
        "equal": lambda: np.ones((rows, 2), np.float32),
        "lattice": lambda: rng.integers(0, 3, (rows, 3)).astype(np.float32),
        "far group": lambda: np.r_[rng.normal(0, 1, (rows, 3)), rng.normal(1e4, 1, (20, 3))].astype(np.float32),
        "log-normal": lambda: np.exp(4 * rng.standard_normal((rows, 2))).astype(np.float32),
    }
    points = shapes[str(rng.choice(list(shapes)))]()
    n = len(points)
    weights = {
        "one": np.ones(n), "even": rng.random(n), "pareto": rng.pareto(1.1, n) + 0.01,
        "zeros": 1.0 * (rng.random(n) < 0.2), "one giant": np.r_[float(n), np.ones(n - 1)],
    }[str(rng.choice(["one", "one", "even", "pareto", "zeros", "one giant"]))]  # fmt: skip
    ids = np.arange(n, dtype=np.uint64)
    if rng.random() < 0.3:
        ids = rng.integers(0, max(1, n // 3), n).astype(np.uint64)
    s = int(rng.choice([1, 2, 3, 5, 10, 30]))
    replication = int(rng.integers(1, min(s, 4) + 1))
    kind = str(rng.choice(["cyclic", "cyclic", "fractional", "uniform", "bernoulli"]))
    scheme = Assignment(s, replication, kind, int(rng.choice([64, 1024])), seed)
    k = int(rng.choice([1, 5, 20]))
    method = str(rng.choice(["sensitivity", "sensitivity", "lightweight", "uniform"]))
    sampler = Sampler(k, int(rng.choice([k, 10 * k, 40 * k])), float(rng.choice([1, 2, 3])), method)
    blocks = [PointBlock(b.points, weights[at : at + len(b)], ids[at : at + len(b)], b.span)
              for at, b in _with_starts(blocks_of(points, rows=int(rng.choice([200, 4096]))))]  # fmt: skip
    reports = shard_reports(blocks, MergeReduce(sampler, scheme, seed))
    return [r for r in reports if rng.random() < 0.85], scheme


def _with_starts(blocks):
    at = 0
    for block in blocks:
        yield at, block
        at += len(block)


def test_honest_shards_raise_no_alarm():
    for seed in range(150):
        reports, scheme = honest_run(seed)
        assert found(reports, scheme) == {}, seed


@pytest.mark.slow
def test_honest_shards_raise_no_alarm_in_many_runs():
    for seed in range(1000, 2000):
        reports, scheme = honest_run(seed)
        assert found(reports, scheme) == {}, seed


def test_the_bound_holds_for_honest_shards():
    """Of all tests of honest shards at most a share p has log p below log(p): here far fewer, as draws are even. Tests
    of one run depend on each other; the 40 runs do not, and 3 times p leaves room for that."""
    below, tests = {0.01: 0, 0.001: 0}, 0
    for seed in range(40):
        shape = (GaussianMixture, HeavyTails, SSet)[seed % 3](seed)
        blocks = blocks_of(shape.points(6000), rows=1024)
        scheme = Assignment(6, 2 + seed % 2, seed=seed)
        log_p = _evidence(shard_reports(blocks, MergeReduce(Sampler(10, 200), scheme, seed)), scheme).log_p()
        tests += log_p.size
        for p in below:
            below[p] += int((log_p < math.log(p)).sum())
    assert all(count <= 3 * p * tests for p, count in below.items()), below


# A whole job.


class Falsifying(MergeReduce):
    """Shard 3 sends points that are mirrored and moved far away, with an honest ledger."""

    def result(self, state):
        report = super().result(state)
        return with_sample(report, points=1000 - 30 * report.coreset.points) if report.shard == 3 else report


class FalsifiedPlan(Plan):
    @property
    def merge_reduce(self):
        honest = super().merge_reduce
        return Falsifying(*(getattr(honest, field.name) for field in dataclasses.fields(MergeReduce)))


def solved(plan, blocks):
    def build(pipeline):
        create = beam.Create(blocks).with_output_types(PointBlock)
        return (pipeline | create | Summarize(plan))._asdict()

    held, result = run(build)
    (row,) = held["summaries"]
    centers = np.array([center.coordinates for center in held["centers"]])
    return row, centers, counters(result)


def test_a_job_with_a_falsifying_shard_is_right_with_an_audit_and_wrong_without():
    points = clusters(6000)
    blocks = parts_of(points)
    options = {"k": 4, "shards": 6, "replication": 3, "coreset_size": 240}
    least = cost(points, np.ones(len(points)), CENTERS.astype(np.float32))
    row, centers, counted = solved(FalsifiedPlan(**options), blocks)
    assert row.distrusted == []
    assert cost(points, np.ones(len(points)), centers.astype(np.float32)) > 5 * least
    row, centers, counted = solved(FalsifiedPlan(**options, audit=True), blocks)
    assert row.distrusted == ["3:implausible"]
    assert (row.coverage, row.points, counted["shards_distrusted"]) == (1.0, 6000, 1)
    assert cost(points, np.ones(len(points)), centers.astype(np.float32)) < 1.02 * least
    honest_row, _, _ = solved(Plan(**options, audit=True), blocks)
    assert honest_row.distrusted == []
