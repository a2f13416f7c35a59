"""What has changed between two windows: quiet ones, changed ones, lost parts, bytes; the probability's parts."""
import dataclasses

import numpy as np
import pytest

from beam_coresets.comparing.drift import FALSE_ALARMS, Reference, drift
from beam_coresets.comparing.one_source import FINER, one_source, probability
from beam_coresets.comparing.seen import Seen
from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.results.question import Question
from beam_coresets.results.summary import solved_model
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment, part_ids
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

K, SIZE = 4, 160
CENTERS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def rows(seed, n=6000, centers=CENTERS, share=(0.25, 0.25, 0.25, 0.25), deviation=1.0):
    rng = generator("drift test", seed)
    return (centers[rng.choice(len(centers), n, p=share)] + deviation * rng.standard_normal((n, 2))).astype(np.float32)


def window(points, seed=0, lost=0, weights=None, parts=1):
    """The window's sample and model; each of several parts is a bucket that one shard holds."""
    buckets = 1024 if parts == 1 else parts
    scheme = Assignment(4, 2 if parts == 1 else 1, "cyclic", buckets, parts=parts > 1)
    blocks = [b for p in range(parts) for b in blocks_of(points[p::parts], weights, part=p, rows=2048)]
    if parts > 1:
        blocks = [dataclasses.replace(b, ids=part_ids(b.span.part, b.ids & np.uint64(0xFFFFFFFF))) for b in blocks]
    reports = shard_reports(blocks, MergeReduce(Sampler(K, SIZE), scheme, seed))
    policy = Policy(scheme, parts=parts if parts > 1 else 0)
    decision = decide([r for r in reports if r.shard >= lost], policy)
    return Seen.of(decision), solved_model(decision.coreset, Question(Sampler(K, SIZE)))


def change(this, other, **more):
    return drift(*this, Reference.of(*other), **more)


@pytest.fixture(scope="module")
def before():
    return window(rows(0))


def test_a_quiet_window_has_not_drifted_and_its_bars_hold_nothing(before):
    found = change(window(rows(1), 1), before)
    assert not found.drifted
    assert found.excess_low <= 0 <= found.excess_high
    assert found.moved_low == 0 <= found.moved <= found.moved_high < 0.1
    assert found.shift < 0.2


def test_a_window_and_itself_are_alike(before):
    found = change(before, before)
    assert found.probability == 1
    assert found.moved == 0
    assert found.shift == 0


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("shift", {"centers": CENTERS + np.array([[0.7, 0.0], [0, 0], [0, 0], [0, 0]])}),
        ("new", {"centers": np.vstack([CENTERS, [[25.0, 25.0]]]), "share": (0.2475, 0.2475, 0.2475, 0.2475, 0.01)}),
        ("vanished", {"share": (0.0, 1 / 3, 1 / 3, 1 / 3)}),
        ("spread", {"deviation": 1.3}),
        ("sizes", {"share": (0.35, 0.15, 0.25, 0.25)}),
    ],
)
def test_a_change_is_found(before, name, changed):
    found = change(window(rows(name, **changed), 2), before)
    assert found.drifted, found
    assert found.excess_low <= found.excess <= found.excess_high
    assert 0 <= found.moved_low <= found.moved <= found.moved_high <= 1
    if name == "sizes":
        assert found.moved_low <= 0.1 <= found.moved_high
    if name == "shift":
        assert abs(found.shift - 0.7 / 2**0.5) < 0.15
    if name == "spread":
        assert found.excess < found.excess_high < 0.2  # the other's centers serve it as well


def test_a_center_that_the_other_has_no_rows_near_has_no_shift(before):
    there = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [60.0, 60.0]])
    found = change(window(rows(5, centers=there), 3), before)
    assert np.isnan(found.shifts).sum() == 1
    assert found.drifted


def test_a_lost_shard_of_hashed_buckets_widens_the_bars_and_raises_no_alarm(before):
    """Half of the sample has bars wider by the root of two: in the mean of eight draws, 0.31 against 0.22 of them."""
    whole, less = (
        [change(window(rows(6), seed, lost=lost), before) for seed in range(8)] for lost in (0, 2)
    )
    assert not any(found.drifted for found in less)
    assert sum(found.moved_high for found in less) > sum(found.moved_high for found in whole)


def test_parts_that_differ_are_compared_with_themselves_only():
    moved = rows(7).copy()
    moved[0::4] += 5  # part 0 is another source
    again = rows(8).copy()
    again[0::4] += 5
    other = window(moved, 5, parts=4)
    assert not change(window(again, 6, parts=4), other).drifted
    lost = window(again, 6, parts=4, lost=1)
    assert lost[0].complete.tolist() != other[0].complete.tolist()
    assert not change(lost, other).drifted
    nothing = dataclasses.replace(other[0], complete=np.array([], np.int64))
    assert drift(*lost, Reference.of(nothing, other[1])) is None


def test_heavy_rows_count_as_few(before):
    weights = np.exp(2 * generator("weights").standard_normal(6000))
    seen, _ = window(rows(9), 7, weights=weights)
    alike, _ = window(rows(9), 7)
    assert seen.row > 3 * alike.row
    assert not change(window(rows(9), 7, weights=weights), before).drifted


def test_a_reference_survives_bytes_and_a_large_one_is_reduced(before):
    reference = Reference.of(*before)
    again = Reference.from_bytes(reference.to_bytes())
    this = window(rows(10), 8)
    a, b = drift(*this, reference), drift(*this, again)
    assert dataclasses.astuple(a)[:6] == dataclasses.astuple(b)[:6]
    assert a.probability == b.probability
    small = before[0].reduced(200)
    assert 150 < len(small) <= 201
    assert small.share.sum() == pytest.approx(1)
    assert small.effective < before[0].effective
    assert not drift(*this, Reference(small, before[1].centers)).drifted


def test_nothing_is_said_of_other_columns_or_without_centers(before):
    seen, model = before
    flat = dataclasses.replace(seen, points=seen.points[:, :1])
    assert drift(seen, model, Reference(flat, model.centers[:, :1])) is None
    none = dataclasses.replace(model, centers=np.empty((0, 2)))
    assert drift(seen, none, Reference.of(*before)) is None


def test_the_probability_is_that_of_the_worst_way_of_comparing(before):
    this = window(rows(11), 9)[0]
    each = [p for finer in FINER for p in one_source(this, before[0], finer * K)]
    assert probability(this, before[0], K) == min(1.0, 10 * min(each))
    assert all(0 <= p <= 1 for p in each)


@pytest.mark.slow
def test_quiet_windows_are_not_told_apart():
    """40 pairs: at one in 1,000 each, more than one alarm has probability below 0.001."""
    alarms = 0
    for i in range(40):
        a, b = (window(rows(("quiet", i, j), n=3000), 2 * i + j)[0] for j in range(2))
        alarms += probability(a, b, K) < FALSE_ALARMS
    assert alarms <= 1
