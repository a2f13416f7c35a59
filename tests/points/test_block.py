"""PointBlock: its contract, its bytes, and how points are cut into blocks and narrowed."""
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from laws import random_block

from beam_coresets.points.block import (
    MAX_BLOCK_BYTES,
    MAX_BLOCK_ROWS,
    PointBlock,
    Span,
    block_rows,
    blocks_of,
    concatenate_extras,
    narrow,
)


def same(a, b):
    """Whether two blocks hold the same, dtypes included."""
    arrays = [(a.points, b.points), (a.weights, b.weights), (a.ids, b.ids), (a.groups, b.groups)]
    tables = a.extras.equals(b.extras) if a.extras is not None and b.extras is not None else a.extras is b.extras
    return a.span == b.span and tables and all(
        x is y or (x.dtype == y.dtype and np.array_equal(x, y)) for x, y in arrays
    )


@given(
    st.integers(0, 50),
    st.integers(1, 5),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
    st.booleans(),
    st.builds(Span, st.integers(0, 2**62), st.integers(0, 2**40), st.booleans()),
)
def test_bytes_round_trip(rows, dim, dtype, groups, extras, span):
    block = random_block(rows, Span(1, 2), dim, dtype, groups=groups, extras=extras)
    block = PointBlock(block.points, block.weights, block.ids, span, block.groups, block.extras)
    data = block.to_bytes()
    back = PointBlock.from_bytes(data)
    assert same(block, back)
    assert back.to_bytes() == data
    assert back.points.flags.writeable
    assert (back.dim, len(back)) == (dim, rows)


def test_taken_rows_have_the_bytes_of_the_same_rows_made_fresh():
    block = random_block(30, groups=True, extras=True)
    rows = np.array([4, 5, 6, 20])
    sliced = PointBlock(
        block.points[4:7], block.weights[4:7], block.ids[4:7], block.span, block.groups[4:7], block.extras.slice(4, 3)
    )
    assert block.take(rows[:3]).to_bytes() == sliced.to_bytes()
    assert block.take(rows).ids.tolist() == block.ids[rows].tolist()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"points": np.zeros(3, np.float32)}, TypeError, "points: must be 2-d float32 or float64, got 1-d float32"),
        ({"points": np.zeros((3, 2), np.int64)}, TypeError, "got 2-d int64"),
        ({"weights": np.ones(3, np.float32)}, TypeError, "weights: must be 1-d float64, got 1-d float32"),
        ({"ids": np.arange(3)}, TypeError, "ids: must be 1-d uint64, got 1-d int64"),
        ({"points": np.zeros((2, 2), np.float32)}, ValueError, "points: must have 3 rows like ids, got 2"),
        ({"weights": np.ones(4)}, ValueError, "weights: must have 3 rows like ids, got 4"),
        ({"groups": np.zeros(1, np.int32)}, ValueError, "groups: must have 3 rows like ids, got 1"),
        ({"extras": pa.table({"id": ["a"]})}, ValueError, "extras: must have 3 rows like ids, got 1"),
    ],
)
def test_a_malformed_block_is_refused(change, error, message):
    block = random_block(3)
    fields = {"points": block.points, "weights": block.weights, "ids": block.ids, "span": block.span} | change
    with pytest.raises(error, match=message):
        PointBlock(**fields)


@pytest.mark.parametrize(("dim", "itemsize"), [(1, 4), (8, 4), (768, 4), (1536, 8), (10**6, 8)])
def test_block_rows_are_capped_by_rows_and_bytes(dim, itemsize):
    rows = block_rows(dim, itemsize)
    assert 256 <= rows <= MAX_BLOCK_ROWS
    assert rows * dim * itemsize <= MAX_BLOCK_BYTES or rows == 256


@given(st.integers(0, 100), st.integers(1, 40))
def test_blocks_of_cuts_an_array_into_one_part(n, rows):
    points = np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)
    blocks = list(blocks_of(points, part=3, rows=rows))
    assert np.array_equal(np.concatenate([b.points for b in blocks]), points)
    assert [b.span for b in blocks] == [Span(3, i, i == len(blocks) - 1) for i in range(len(blocks))]
    assert len(set(np.concatenate([b.ids for b in blocks]).tolist())) == n


NUMBERS = st.integers(-(2**30), 2**30).map(lambda i: i / 64) | st.floats(1.0, 1e6)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=NUMBERS))
def test_narrowing_changes_no_number(points):
    small = narrow(points)
    assert np.array_equal(small, points)
    assert small.dtype == (np.float32 if np.array_equal(points.astype(np.float32), points) else np.float64)
    assert small.flags.c_contiguous


def test_narrowing_refuses_offsets_and_overflow():
    seconds = 1.7e9 + np.arange(100.0)[:, None] * 7
    assert narrow(seconds).dtype == np.float64
    assert narrow(np.array([[1e300], [0.0]])).dtype == np.float64
    for scale in (1e25, 1e-25):  # squared distances would be infinite, or all zero
        assert narrow(np.array([[1.0], [2.0]], np.float32) * np.float32(scale)).dtype == np.float64
    assert narrow(np.zeros((3, 1), np.float32)).dtype == np.float32
    assert narrow(np.array([[1.0], [2.0]])).dtype == np.float32
    assert narrow(np.empty((0, 4))).shape == (0, 4)


def test_extras_stack_only_if_all_blocks_have_them():
    table = pa.table({"id": ["a", None]})
    assert concatenate_extras([None, None]) is None
    assert concatenate_extras([table, table]).column("id").to_pylist() == ["a", None, "a", None]
    with pytest.raises(ValueError, match="extras: must be on all blocks or on none, got 1 of 2"):
        concatenate_extras([table, None])
