"""Pieces: what each shard has of a block is right, unbiased, and independent of what the other holders drew."""
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import random_block

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.nearest import cost
from beam_coresets.sampling.importance import METHODS, Sampler
from beam_coresets.shards.assignment import SCHEMES, Assignment, split
from beam_coresets.shards.ledger import Ledger
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

CENTERS = np.array([[0.0, 1.0], [18.0, 2.0]], np.float32)
METHOD = st.sampled_from(METHODS)
UNCORRELATED = 4.8  # standard errors of a correlation: 1e-6 a pair


def logic_of(method="sensitivity", scheme=Assignment(4, 2, "cyclic", 16), seed=0, size=6, **more):  # noqa: B008
    """Two clusters, a sample of `size` a shard."""
    sampler = Sampler(2, size, method=method, r=int(method == "subspace"), **more)
    return MergeReduce(sampler, scheme, seed, node_factor=2)


@settings(max_examples=60)
@given(
    METHOD, st.sampled_from(SCHEMES), st.integers(1, 6), st.integers(0, 300), st.integers(0, 9),
    st.sampled_from([np.float32, np.float64]), st.booleans(), st.sampled_from([0.0, 0.02]), st.data(),
)  # fmt: skip
def test_each_shard_has_rows_that_it_holds_and_the_ledger_of_all_of_them(
    method, kind, shards, rows, ordinal, dtype, labelled, outliers, data
):
    if method == "subspace":
        outliers = 0.0
    scheme = Assignment(shards, data.draw(st.integers(1, shards)), kind, 16)
    logic = dataclasses.replace(logic_of(method, scheme, outliers=outliers), labelled=labelled)
    block = random_block(rows, Span(3, ordinal, True), dtype=dtype, groups=True, extras=True)
    pieces = list(logic.pieces(block))
    assert len(pieces) == shards
    number = {row: i for i, row in enumerate(block.ids.tolist())}
    for piece, held in zip(pieces, split(block, scheme), strict=True):
        assert piece.span == block.span
        assert piece.ledger.equal(Ledger.of(held, scheme, labelled=labelled))
        assert set(piece.sample.ids.tolist()) <= set(held.ids.tolist())
        assert len(set(piece.sample.ids.tolist())) == len(piece.sample)
        at = np.array([number[row] for row in piece.sample.ids.tolist()], int)
        assert (piece.sample.points == block.points[at]).all()
        assert (piece.sample.groups == block.groups[at]).all()
        assert piece.sample.extras.column("id").to_pylist() == [f"row {row}" for row in piece.sample.ids.tolist()]
        assert (piece.sample.weights_ht >= block.weights[at] * (1 - 1e-12)).all()
    again = [piece.to_bytes() for piece in logic.pieces(block)]
    assert [piece.to_bytes() for piece in pieces] == again


@given(st.integers(1, 300), st.integers(1, 7))
def test_leaves_follow_each_other_and_grow_to_a_power_of_two(blocks, dim):
    logic = logic_of(scheme=Assignment(40, 2))
    most, seen, last = logic.blocks_a_leaf(dim), 0, -1
    for ordinal in range(blocks):
        leaf, first, count = logic.leaf_of(ordinal, dim)
        if leaf != last:
            assert (leaf, first) == (last + 1, seen)
            assert count == min(1 << leaf, most)
            seen, last = seen + count, leaf
        assert first <= ordinal < first + count


def test_what_a_shard_has_room_for_is_kept_whole():
    """Eight times the finished sample for each shard: 48 points a shard, 96 rows of which each holds half."""
    block = random_block(96)
    scheme = Assignment(4, 2, "cyclic", 16)
    for piece, held in zip(MergeReduce(Sampler(2, 6), scheme).pieces(block), split(block, scheme), strict=True):
        assert piece.sample.ids.tolist() == held.ids.tolist()
        assert piece.sample.weights_ht.tolist() == held.weights.tolist()


def test_outliers_are_kept_for_certain_by_every_holder():
    """With 2 of 400 rows a thousand times further out than the rest, and 1 % that may be left out."""
    block = random_block(400, Span(0, 5))
    block.points[[7, 300]] = [[4e4, 0], [0, -5e4]]
    block.weights[[7, 300]] = 1.0
    logic = logic_of(outliers=0.01)
    far = set(block.ids[[7, 300]].tolist())
    for piece, held in zip(logic.pieces(block), split(block, logic.assignment), strict=True):
        mine = far & set(held.ids.tolist())
        at = np.flatnonzero(np.isin(piece.sample.ids, list(mine)))
        assert len(at) == len(mine)
        assert piece.sample.weights_ht[at].tolist() == [1.0] * len(mine)
        assert len(piece.sample) < len(held)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("labelled", [False, True])
def test_pieces_are_unbiased_and_replicas_independent(method, labelled):
    """400 seeds: total weight and cost of every shard within 4.8 standard errors of the right ones, and the errors of
    two shards that hold the same rows uncorrelated within as many: each of the 14 fails with probability 1e-6."""
    rng = generator("pieces", method)
    points = rng.standard_normal((600, 2)) * rng.choice([1.0, 6.0], (600, 1)) + rng.choice([0.0, 20.0], (600, 1))
    groups = rng.integers(0, 3, 600, np.int32)
    block = PointBlock(
        points.astype(np.float32), rng.gamma(0.5, 2.0, 600), np.arange(600, dtype=np.uint64), Span(0, 3), groups
    )
    scheme = Assignment(4, 2, "fractional", 16)
    found = np.empty((400, 4, 2))
    for seed in range(400):
        logic = dataclasses.replace(logic_of(method, scheme, seed, size=60), labelled=labelled)
        for shard, piece in enumerate(logic.pieces(block)):
            found[seed, shard] = piece.sample.weights_ht.sum(), piece.sample.cost(CENTERS, unbiased=True)
    for shard, held in enumerate(split(block, scheme)):
        truth = np.array([held.weights.sum(), cost(held.points, held.weights, CENTERS)])
        error = found[:, shard].std(axis=0, ddof=1) / 20
        assert (np.abs(found[:, shard].mean(axis=0) - truth) < UNCORRELATED * error + 1e-9 * truth).all()
        assert (error < 0.02 * truth).all(), "the bound must be narrow enough to find a bias"
        assert (error > 0).all(), "something must have been left out"
    matrix = scheme.matrix()
    same = [(a, b) for a in range(4) for b in range(a) if (matrix[a] == matrix[b]).all()]
    assert len(same) == 2
    for a, b in same:
        for what in range(2):
            assert abs(np.corrcoef(found[:, a, what], found[:, b, what])[0, 1]) < UNCORRELATED / 20


def test_strata_of_a_shard_are_drawn_apart():
    """What a shard keeps of the rows that it shares with one neighbour says nothing of those it shares with the other:
    400 seeds, the errors uncorrelated within 4.8 standard errors."""
    block = random_block(900, Span(0, 3))
    block.weights[:] = 1.0
    scheme = Assignment(3, 2, "cyclic", 18)
    first = np.isin(scheme.bucket_of(block.ids), np.flatnonzero(scheme.matrix()[0] & scheme.matrix()[1]))
    shared = set(block.ids[first].tolist())
    found = np.empty((400, 2))
    for seed in range(400):
        piece = next(logic_of("uniform", scheme, seed, size=40).pieces(block))
        inside = np.array([row in shared for row in piece.sample.ids.tolist()])
        found[seed] = piece.sample.weights_ht[inside].sum(), piece.sample.weights_ht[~inside].sum()
    assert found.std(axis=0).min() > 0
    assert abs(np.corrcoef(found.T)[0, 1]) < UNCORRELATED / 20


def test_a_block_that_weighs_much_more_than_all_before_it_is_not_lost():
    """The last of 20 blocks has nearly all of the weight: its cost is within 4 %, three times what was seen."""
    rng = generator("heavy block")
    points = (rng.choice([0.0, 30.0], (20_000, 1)) + rng.standard_normal((20_000, 2))).astype(np.float32)
    weights = np.ones(20_000)
    weights[19_000:] = 1e6
    blocks = [
        PointBlock(points[low : low + 1000], weights[low : low + 1000], np.arange(low, low + 1000, dtype=np.uint64),
                   Span(0, low // 1000, low == 19_000))
        for low in range(0, 20_000, 1000)
    ]  # fmt: skip
    for report in shard_reports(blocks, MergeReduce(Sampler(2, 100), Assignment(4, 3))):
        held = split(dataclasses.replace(blocks[-1]), Assignment(4, 3))[report.shard]
        assert report.coreset.cost(CENTERS) == pytest.approx(cost(held.points, held.weights, CENTERS), rel=0.04)
