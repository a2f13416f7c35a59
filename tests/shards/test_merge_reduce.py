"""Merge and reduce: the laws of its states, its memory, and that no level of it biases anything."""
import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import check_merge_laws, in_order, piece_of, planned_parts, random_block

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.hashing import generator
from beam_coresets.points.block import Span, blocks_of
from beam_coresets.points.nearest import cost
from beam_coresets.sampling.importance import METHODS, Sampler
from beam_coresets.shards import merge_reduce
from beam_coresets.shards.assignment import Assignment, split
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce, ShardState, shard_reports

PAIRS = Assignment(4, 2, "cyclic", 16)  # two source blocks a leaf
ALONE = Assignment(1, 1, "cyclic", 16)
SMALL = Sampler(k=2, size=8)


def updater(logic, shard=1):
    """Updates one shard's state with what the scheme gives it of a block."""
    return lambda state, block: logic.update(state, shard, piece_of(logic, block, shard))


def retained(state):
    """How many points a state holds on to."""
    waiting = sum(len(piece.sample) for pieces in state.open.values() for piece in pieces)
    return waiting + sum(len(node.sample) for node in state.nodes.values())


@settings(max_examples=40)
@given(planned_parts(), st.sampled_from(METHODS), st.sampled_from([PAIRS, ALONE]), st.data())
def test_planned_parts_obey_the_laws(blocks, method, assignment, data):
    logic = MergeReduce(Sampler(2, 8, method=method, r=int(method == "subspace")), assignment, seed=5)
    check_merge_laws(data.draw, logic, ShardState, updater(logic, assignment.shards - 1), blocks)


@given(planned_parts(max_rows=12), st.data())
def test_a_state_that_is_not_done_gives_the_same_report_in_any_order(blocks, data):
    logic = MergeReduce(SMALL, PAIRS)
    missing = data.draw(st.sets(st.integers(0, len(blocks) - 1), max_size=3))
    check_merge_laws(
        data.draw, logic, ShardState, updater(logic), [b for i, b in enumerate(blocks) if i not in missing]
    )


@given(planned_parts())
def test_the_ledger_and_the_total_weight_are_exact(blocks):
    logic = MergeReduce(SMALL, ALONE)
    report = logic.result(in_order(logic, ShardState, updater(logic, 0), blocks))
    assert report.ledger.equal(Ledger.sum((Ledger.of(b, ALONE) for b in blocks), ALONE.buckets))
    assert report.coreset.weights.sum() == pytest.approx(sum(b.weights.sum() for b in blocks), rel=1e-9)
    kept = {int(i): p for b in blocks for i, p in zip(b.ids, b.points, strict=True)}
    for i, p in zip(report.coreset.ids, report.coreset.points, strict=True):
        assert (kept[int(i)] == p).all()
    assert len(set(report.coreset.ids.tolist())) == len(report.coreset)


@given(planned_parts(max_rows=6))
def test_replicas_agree_even_if_blocks_differ_in_precision(blocks):
    """Whether a shard's leaf holds a float64 row must not change what the ledger says of its float32 rows."""
    logic = MergeReduce(SMALL, PAIRS)
    recovery = decide(shard_reports(blocks, logic), Policy(PAIRS)).recovery
    assert recovery.distrusted == {}
    assert recovery.counts.sum() == sum(map(len, blocks))


def test_replicas_of_a_bucket_are_drawn_independently():
    blocks = list(blocks_of(generator("replicas").standard_normal((4000, 2)).astype(np.float32), rows=500))
    full = Assignment(2, 2, "cyclic", 16)
    first, second = shard_reports(blocks, MergeReduce(SMALL, full))
    assert first.ledger.equal(second.ledger)
    assert set(first.coreset.ids.tolist()) != set(second.coreset.ids.tolist())


@given(planned_parts(max_blocks=12), st.data())
def test_what_is_closed_early_is_merged_and_counted_once(blocks, data):
    """With room for three nodes, leaves are closed half full and their other halves come later."""
    logic = MergeReduce(SMALL, PAIRS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge_reduce, "MAX_NODES", 3)
        states = []
        for some in np.array_split(np.array(data.draw(st.permutations(range(len(blocks))))), 3):
            state = ShardState()
            for i in some:
                state = logic.compact(updater(logic)(state, blocks[i]))
                assert len(state.nodes) <= 3
                assert len(state.open) <= 3
            states.append(ShardState.from_bytes(state.to_bytes()))
        merged = logic.merge(states)
        assert len(merged.nodes) <= 3
        assert len(merged.open) <= 3
    report = logic.result(merged)
    held = [split(b, PAIRS)[1] for b in blocks]
    assert report.ledger.equal(Ledger.sum((Ledger.of(b, PAIRS) for b in held), PAIRS.buckets))
    assert report.coreset.weights.sum() == pytest.approx(sum(b.weights.sum() for b in held), rel=1e-9)


def test_a_block_that_comes_twice_shows_in_the_ledger():
    logic = MergeReduce(SMALL, ALONE)
    blocks = [random_block(30, Span(0, i, i == 3)) for i in range(4)]
    state = in_order(logic, ShardState, updater(logic, 0), [*blocks, blocks[1], blocks[3]])
    assert logic.result(state).ledger.rows == 180
    again = logic.merge([state, ShardState()])
    assert logic.result(again).ledger.rows == 180


def test_nothing_taken_in_gives_an_empty_report():
    logic = MergeReduce(SMALL, PAIRS)
    report = logic.result(ShardState())
    assert (len(report.coreset), report.ledger.rows, report.shard) == (0, 0, -1)
    state = in_order(logic, ShardState, updater(logic), [random_block(0, Span(0, 0, True), dim=3)])
    assert (len(logic.result(state).coreset), logic.result(state).shard) == (0, 1)


def test_rows_without_any_weight_leave_an_empty_coreset():
    points = generator("weightless").standard_normal((500, 2)).astype(np.float32)
    logic = MergeReduce(SMALL, ALONE)
    report = shard_reports(blocks_of(points, np.zeros(500), rows=100), logic)[0]
    assert report.ledger.rows == 500
    assert report.coreset.weights.sum() == 0.0
    assert np.isfinite(report.coreset.weights).all()


@pytest.mark.parametrize("shuffled", [False, True])
def test_retained_points_grow_with_the_logarithm(shuffled):
    """One part of 256 leaves: at most a node a level and the open leaf, or a node a leaf while gaps are open."""
    logic, rows, leaves = MergeReduce(Sampler(2, 20), ALONE, node_factor=2), 200, 256
    state, most, node = ShardState(), 0, 1.5 * logic.node_size(2, 4)
    order = generator("order").permutation(leaves) if shuffled else range(leaves)
    for i in order:
        state = updater(logic, 0)(state, random_block(rows, Span(0, int(i), i == leaves - 1)))
        most = max(most, retained(state))
        if not shuffled:
            assert len(state.nodes) <= math.log2(leaves) + 1
    assert most <= node * (leaves / 3 if shuffled else math.log2(leaves) + 1) + rows
    assert retained(state) <= node
    assert len(state.nodes) == 1


def test_a_wide_node_is_bounded_by_bytes():
    logic = MergeReduce(Sampler(10, 4000), ALONE)
    assert logic.node_size(2, 4) == logic.node_factor * 4000
    assert logic.node_size(256, 4) == 4000
    assert MergeReduce(Sampler(10, 400), ALONE).node_size(256, 4) == 2048
    assert logic.node_size(8192, 8) == 4000  # never below the finished coreset


def skewed_data():
    rng = generator("skewed data")
    points = rng.standard_normal((800, 2)) * rng.choice([1.0, 1.0, 8.0], (800, 1)) + rng.choice([0.0, 30.0], (800, 1))
    return points.astype(np.float32), rng.gamma(0.5, 2.0, 800)


@functools.cache
def estimates(method, z, runs=250):
    """Total weight and cost for two fixed centers, each over the truth, from `runs` trees of five levels."""
    points, weights = skewed_data()
    centers = np.array([[3.0, -2.0], [24.0, 31.0]], np.float32)
    truth = np.array([weights.sum(), cost(points, weights, centers, z)])
    found = np.empty((runs, 2))
    blocks = list(blocks_of(points, weights, rows=25))
    for seed in range(runs):
        logic = MergeReduce(Sampler(2, 12, z, method), ALONE, seed, node_factor=2)
        coreset = shard_reports(blocks, logic)[0].coreset
        found[seed] = coreset.weights_ht.sum(), coreset.cost(centers, z, unbiased=True)
    return found / truth


@pytest.mark.slow
@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("method", [method for method in METHODS if method != "subspace"])
def test_unbiased_weights_stay_so_through_many_levels(method, z):
    """|mean - truth| < 4.5 standard errors: each of the 18 means fails correct code with probability 1e-5."""
    found = estimates(method, z)
    error = found.std(axis=0, ddof=1) / len(found) ** 0.5
    assert (np.abs(found.mean(axis=0) - 1) < 4.5 * error).all()
    assert (error < 0.06).all(), "the bound must be narrow enough to find a bias"
