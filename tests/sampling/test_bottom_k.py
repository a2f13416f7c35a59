"""BottomK: the rows of lowest rank in each stratum, however the work is divided."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.sampling.bottom_k import BottomK, row_ranks, water_level


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 60))
def test_the_water_level_is_the_largest_that_fits(counts, size):
    level = water_level(counts, size)
    assert sum(min(count, level) for count in counts) <= size
    if level < max(counts, default=0):
        assert sum(min(count, level + 1) for count in counts) > size


@given(st.data(), st.integers(1, 40))
def test_the_lowest_ranks_of_each_stratum_are_drawn_however_rows_are_dealt(data, size):
    counts = data.draw(st.dictionaries(st.sampled_from("abc"), st.integers(1, 60), min_size=1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = {name: rng.permutation(10 * n)[:n].astype(np.uint64) for name, n in counts.items()}
    workers = [BottomK(size) for _ in range(data.draw(st.integers(1, 3)))]
    for name, ranks in rows.items():
        for part in np.array_split(ranks, data.draw(st.integers(1, 8))):
            i = data.draw(st.integers(0, len(workers) - 1))
            workers[i] = workers[i].add(name, part, part * 2.0)
    drawn = BottomK(size).merge(data.draw(st.permutations(workers))).trimmed().strata
    level = max(1, water_level(counts.values(), size))
    for name, ranks in rows.items():
        ((kept, column),) = drawn[name]
        assert kept.tolist() == sorted(ranks.tolist())[:level]
        assert column.tolist() == (kept * 2.0).tolist()


def test_rows_of_one_rank_are_ordered_by_what_they_are():
    """Rows that share an id and coordinates, in whatever order they come."""
    rank, weights = np.array([7, 7, 3], np.uint64), np.array([2.0, 1.0, 5.0])
    points = np.zeros((3, 2), np.float32)
    one = BottomK(3).add("", rank, points, weights).trimmed()
    other = BottomK(3).add("", rank[::-1], points, weights[::-1]).trimmed()
    assert one.strata[""][0][2].tolist() == other.strata[""][0][2].tolist() == [5.0, 1.0, 2.0]


def test_ranks_tell_rows_apart_that_share_an_id_and_depend_on_no_type():
    points = np.arange(40, dtype=np.float32).reshape(10, 4)
    ranks = row_ranks(np.zeros(10, np.uint64), points)
    assert len(set(ranks.tolist())) == 10
    assert ranks.tolist() == row_ranks(np.zeros(10, np.uint64), points.astype(np.float64)).tolist()
    assert ranks.tolist() != row_ranks(np.zeros(10, np.uint64), points, seed=1).tolist()
    assert row_ranks(np.zeros(1, np.uint64), np.array([[-0.0]])) == row_ranks(np.zeros(1, np.uint64), np.zeros((1, 1)))


def test_every_row_is_equally_likely():
    """2,000 rows, 200 drawn under 200 seeds: each count is binomial(200, 1/10), and by the union bound any of them
    exceeds 45 with probability below 2e-4."""
    ids, counts = np.arange(2000, dtype=np.uint64), np.zeros(2000)
    points = np.column_stack([ids, ids]).astype(np.float32)
    for seed in range(200):
        ((_, drawn),) = BottomK(200).add("", row_ranks(ids, points, seed), ids).trimmed().strata[""]
        counts[drawn.astype(int)] += 1
    assert counts.sum() == pytest.approx(200 * 200)
    assert counts.max() <= 45
