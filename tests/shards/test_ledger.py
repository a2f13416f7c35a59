"""Ledgers: a commutative monoid that notices every lost, repeated or altered row."""
import dataclasses
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets import codec
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span, blocks_of
from beam_coresets.shards.assignment import Assignment, split
from beam_coresets.shards.ledger import Ledger, SparseLedger

SCHEME = Assignment(5, 2, buckets=32)


def block_of(n, dim=4, dtype=np.float32, seed=0):
    rng = generator("ledger block", n, dim, seed)
    points = rng.normal(size=(n, dim)).astype(dtype)
    return PointBlock(points, rng.random(n), rng.integers(0, 2**64, n, dtype=np.uint64), Span(0, 0))


def test_counts_and_weights_are_those_of_the_buckets():
    block = block_of(500)
    ledger = Ledger.of(block, SCHEME)
    bucket = SCHEME.bucket_of(block.ids)
    assert (ledger.counts == np.bincount(bucket, minlength=32)).all()
    np.testing.assert_allclose(ledger.weights, np.bincount(bucket, block.weights, 32), rtol=1e-12)
    assert ledger.rows == 500
    assert ledger.weight == pytest.approx(block.weights.sum(), rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 200), st.randoms(use_true_random=False), st.lists(st.integers(0, 200), max_size=3))
def test_order_and_nesting_do_not_matter(n, random, cuts):
    block = block_of(n)
    order = list(range(n))
    random.shuffle(order)
    edges = [0, *sorted(min(c, n) for c in cuts), n]
    parts = [Ledger.of(block.take(np.array(order[a:b], np.int64)), SCHEME) for a, b in itertools.pairwise(edges)]
    whole = Ledger.of(block, SCHEME)
    backwards = Ledger.zero(32)
    for part in reversed(parts):
        backwards = part + backwards
    for merged in (Ledger.sum(parts, 32), backwards):
        assert merged.equal(whole)
        assert merged.digest() == whole.digest()
        np.testing.assert_allclose(merged.weights, whole.weights, rtol=1e-12)


def test_zero_is_the_identity():
    ledger = Ledger.of(block_of(10), SCHEME)
    assert (ledger + Ledger.zero(32)).equal(ledger)
    assert (Ledger.zero(32) + ledger).equal(ledger)
    assert Ledger.zero(32).rows == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None)
@given(row=st.integers(0, 49), column=st.integers(0, 3))
def test_any_altered_value_shows(dtype, row, column):
    block = block_of(50, dtype=dtype)
    whole = Ledger.of(block, SCHEME)
    for name in ("points", "weights", "ids"):
        array = getattr(block, name).copy()
        at = (row, column) if name == "points" else row
        nine = array.dtype.type(9)  # NumPy 1 would make float64 of a plain number
        array[at] = np.nextafter(array[at], nine) if array.dtype.kind == "f" else array[at] ^ np.uint64(1)
        altered = Ledger.of(dataclasses.replace(block, **{name: array}), SCHEME)
        assert not altered.equal(whole)
        assert altered.digest() != whole.digest()


def test_exchanged_coordinates_and_lost_rows_show():
    block = block_of(20)
    whole = Ledger.of(block, SCHEME)
    swapped = dataclasses.replace(block, points=np.ascontiguousarray(block.points[:, ::-1]))
    rows_swapped = dataclasses.replace(block, points=np.ascontiguousarray(block.points[::-1]))
    for other in (swapped, rows_swapped, block.take(np.arange(19))):
        assert not Ledger.of(other, SCHEME).equal(whole)


@settings(deadline=None)
@given(st.integers(2, 5))
def test_a_replay_is_q_fold(q):
    once = Ledger.of(block_of(40), SCHEME)
    often = Ledger.sum([once] * q, 32)
    assert (often.counts == q * once.counts).all()
    assert (often.checksums == np.uint64(q) * once.checksums).all()


def test_holders_of_a_bucket_agree():
    block = block_of(1000)
    ledgers = [Ledger.of(part, SCHEME) for part in split(block, SCHEME)]
    whole = Ledger.of(block, SCHEME)
    for shard, ledger in enumerate(ledgers):
        held = SCHEME.matrix()[shard]
        assert (ledger.counts == np.where(held, whole.counts, 0)).all()
        assert (ledger.checksums == np.where(held, whole.checksums, 0)).all()


def test_arrays_survive_the_codec():
    ledger = Ledger.of(block_of(30), SCHEME)
    _, arrays = codec.unpack(codec.pack("test", {}, ledger.arrays("x_")), "test")
    back = Ledger.from_arrays(arrays, "x_")
    assert back.equal(ledger)
    assert (back.weights == ledger.weights).all()


def test_ledgers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="buckets: must be 4 in both ledgers, got 5"):
        Ledger.zero(4).merge(Ledger.zero(5))
    with pytest.raises(TypeError, match="counts: must be int64, got float64"):
        Ledger(np.zeros(2), np.zeros(2, np.uint64), np.zeros(2))
    with pytest.raises(ValueError, match=r"weights: must have shape \(2,\), got \(3,\)"):
        Ledger(np.zeros(2, np.int64), np.zeros(2, np.uint64), np.zeros(3))


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 4))
def test_ledgers_of_keys_side_by_side_are_those_of_each_key_alone(n, count):
    block = block_of(n)
    keys = generator("keys", n, count).integers(0, count, n).astype(np.int32)
    both = Ledger.of(block, SCHEME, keys, count)
    assert both.buckets == 32 * count
    for key in range(count):
        alone = Ledger.of(block.take(np.flatnonzero(keys == key)), SCHEME)
        mine = slice(32 * key, 32 * (key + 1))
        assert both.counts[mine].tolist() == alone.counts.tolist()
        assert both.checksums[mine].tolist() == alone.checksums.tolist()
        assert both.weights[mine].tolist() == alone.weights.tolist()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6), st.booleans())
def test_ledgers_do_not_depend_on_the_type_of_equal_numbers(numbers, more):
    """A row that two shards hold may stand beside different others, and so in float32 here and in float64 there."""
    scheme = Assignment(3, 2)
    narrow = np.array(numbers, np.float32).reshape(-1, 1)
    wide = narrow.astype(np.float64)
    blocks = [next(blocks_of(points)) for points in (narrow, wide)]
    assert Ledger.of(blocks[0], scheme).equal(Ledger.of(blocks[1], scheme))
    wide[0] += 1e-3 if more else 1e-300
    changed = Ledger.of(next(blocks_of(wide)), scheme)
    assert changed.equal(Ledger.of(blocks[0], scheme)) == bool((wide == narrow).all())


@given(st.integers(0, 40), st.sampled_from([slice(None), slice(3, 17), slice(20, 2), slice(0, 32, 3)]), st.booleans())
def test_sparse_ledgers_are_the_same_ledgers(n, some, labelled):
    block = block_of(n)
    if labelled:
        block = dataclasses.replace(block, groups=(np.arange(n) % 3).astype(np.int32))
    dense = Ledger.of(block, SCHEME, labelled=labelled)
    held, entries = dense.entries()
    ledger = SparseLedger(held, entries, dense.buckets)
    numbers = np.array([31, 0, 7, 7])
    for mine, same in (
        (ledger, dense), (ledger.dense(), dense), (pickle.loads(pickle.dumps(ledger)), dense),
        (ledger.of_buckets(some), dense.of_buckets(some)), (ledger.of_buckets(numbers), dense.of_buckets(numbers)),
        (ledger.of_buckets(dense.counts > 1), dense.of_buckets(dense.counts > 1)),
        (ledger.merge(dense), dense.merge(dense)),
    ):  # fmt: skip
        assert (mine.buckets, mine.rows, mine.weight, mine.digest()) == (
            same.buckets, same.rows, same.weight, same.digest())  # fmt: skip
        assert mine.equal(same)
        assert mine.weights.tolist() == same.weights.tolist()
        assert (mine.labels is None) == (same.labels is None)
        if same.labels is not None:
            assert mine.labels.weights.tolist() == same.labels.weights.tolist()


def test_ledgers_are_packed_where_few_of_many_buckets_hold_rows():
    wide = Assignment(5, 2, buckets=2000)
    few, many = (Ledger.of(block_of(n), wide) for n in (100, 500))
    assert isinstance(few.packed(), SparseLedger)
    assert few.packed().equal(few)
    assert not isinstance(many.packed(), SparseLedger)
    assert many.packed().equal(many)
    assert not isinstance(Ledger.zero(1024).packed(), SparseLedger)
