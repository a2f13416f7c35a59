"""Hundreds of shards through the coordinator, as benchmarks/many_shards.py sends thousands: nothing is lost, and what
is kept and sent grows with the shards and not with their square."""
import argparse
import itertools
import json
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
from many_shards import CODER, END, Coordinator, Shards

from beam_coresets.coordinator.recovery import recover
from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.shards.assignment import Assignment, split
from beam_coresets.shards.ledger import Ledger, SparseLedger
from beam_coresets.streaming.progress import WindowProgress

ROWS = 30


def shards_of(count, block=0, **options):
    defaults = {"replication": 2, "k": 2, "dim": 2, "size": 4, "rows": ROWS, "reports": 1, "missing": 0.01, "seed": 0}
    return Shards(argparse.Namespace(**defaults | options), count, block)


def received(shards):
    coordinator = Coordinator(shards)
    for i, encoded in enumerate(shards.reports()):
        coordinator.receive(encoded, END + i / 1000)
    return coordinator


@pytest.fixture(scope="module")
def growing():
    """Coordinators of 100, 200 and 400 shards, and their decisions."""
    coordinators = {count: received(shards_of(count)) for count in (100, 200, 400)}
    return {count: (coordinator, coordinator.decide()) for count, coordinator in coordinators.items()}


def test_totals_are_exact_whoever_is_missing(growing):
    for count, (_, decision) in growing.items():
        covered = shards_of(count).covered()
        assert (decision.points, decision.total_weight) == (ROWS * len(covered), ROWS * len(covered))
        assert decision.recovery.coverage == len(covered) / count
        assert decision.recovery.stragglers == tuple(sorted(shards_of(count).missing))
        assert decision.coreset.weights.sum() == pytest.approx(ROWS * len(covered))


def test_what_is_kept_and_sent_grows_with_the_shards(growing):
    sizes = np.array([
        [sum(map(len, coordinator.notes)), sum(map(len, coordinator.reports)), len(decision.to_bytes())]
        for coordinator, decision in growing.values()
    ])  # fmt: skip
    assert (sizes[1:] <= 2.2 * sizes[:-1]).all()


def test_a_report_takes_as_much_memory_as_its_shard_holds_parts(growing):
    coordinator, _ = growing[400]
    ledgers = [CODER.decode(encoded).ledger for encoded in coordinator.reports]
    assert all(isinstance(ledger, SparseLedger) for ledger in ledgers)
    assert max(len(ledger.entries()[0]) for ledger in ledgers) <= 2


def test_a_report_reads_and_writes_as_much_whatever_is_known_of_other_shards(monkeypatch):
    sizes = {}
    for count in (100, 400):
        coordinator, read = Coordinator(shards_of(count)), []
        monkeypatch.setattr(json, "loads", lambda text, read=read, loads=json.loads: read.append(text) or loads(text))
        monkeypatch.setattr(coordinator, "read", lambda known=coordinator: WindowProgress.read(
            known.head, lambda: pytest.fail("what this process has written was read"),
        ))  # fmt: skip
        for i, encoded in enumerate(shards_of(count).reports()):
            noted = len(coordinator.notes)
            coordinator.receive(encoded, END + i / 1000)
            assert len(coordinator.notes) == noted + 1
        monkeypatch.undo()
        assert all(len(text) < 1000 for text in read)
        sizes[count] = max(map(len, coordinator.notes)), len(coordinator.head), len(read) / i
    assert np.allclose(sizes[100], sizes[400], atol=8)


def test_reports_are_compacted_as_often_as_there_are_as_many_new_ones():
    shards = shards_of(100, reports=4, missing=0.0)
    coordinator = Coordinator(shards)
    kept = []
    for i, encoded in enumerate(itertools.islice(shards.reports(), 396)):
        coordinator.receive(encoded, END + i / 1000)
        kept.append(len(coordinator.reports))
    assert max(kept) <= 200 + 1
    assert sum(later < earlier for earlier, later in itertools.pairwise(kept)) <= 4


def test_a_tree_of_coordinators_loses_nothing():
    rollup, covered = Rollup(shards_of(50).stream.plan.sampler), 0
    for block in range(4):
        shards = shards_of(50, block, missing=0.04)
        rollup.add(received(shards).decide())
        covered += len(shards.covered())
    decision = rollup.result()
    assert (decision.points, decision.total_weight) == (ROWS * covered, ROWS * covered)
    assert decision.coreset.weights.sum() == pytest.approx(ROWS * covered)
    assert len(decision.coreset) <= 50 * 4 * 1.5
    assert decision.recovery.coverage == covered / 200


@pytest.mark.parametrize(("shards", "buckets"), [(8, 1024), (1000, 1024), (10_000, 16_384)])
def test_a_plan_has_buckets_for_however_many_shards(shards, buckets):
    plan = Plan(k=2, shards=shards)
    assert plan.buckets == buckets
    assert np.diff(plan.assignment.holders()[0]).min() == 2
    assert min(len(plan.assignment.held_by(shard)) for shard in range(0, shards, 97)) >= 2
    assert Plan(k=2, shards=shards, buckets=20_000).buckets == 20_000


@pytest.mark.parametrize("lost", [(), (1,), (1, 4)])
def test_shards_that_share_no_buckets_with_others_are_decided_by_themselves_as_among_all(lost):
    """Under `fractional` groups are such sets; shard 2 of the first one has counted its rows twice."""
    scheme = Assignment(12, 3, "fractional", 40)
    (block,) = blocks_of(GaussianMixture(d=2, k=3).points(2000))
    ledgers = {i: Ledger.of(part, scheme) for i, part in enumerate(split(block, scheme)) if i not in lost}
    group = np.flatnonzero(scheme.matrix()[:, 0]).tolist()
    ledgers[group[-1]] = ledgers[group[-1]].merge(ledgers[group[-1]])
    whole, alone = recover(scheme, ledgers), recover(scheme, {i: ledgers[i] for i in group if i in ledgers})
    assert set(whole.distrusted) == set(alone.distrusted) == {group[-1]}
    held = scheme.matrix()[group[0]]
    for name in ("trusted", "multipliers"):
        assert np.array_equal(getattr(alone, name)[:, held], getattr(whole, name)[:, held])
    for name in ("covered", "counts", "weights"):
        assert np.array_equal(getattr(alone, name)[held], getattr(whole, name)[held])
    assert not alone.covered[~held].any()
