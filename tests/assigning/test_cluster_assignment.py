"""Which cluster a row belongs to: the cheapest by cost and price, ties as the plan has them."""
import numpy as np
import pyarrow as pa
import pytest

from beam_coresets.assigning.cluster_assignment import Nearest, Priced, label_codes, tie_place
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.nearest import nearest_numpy
from beam_coresets.solvers.model import Centers


def block_of(points, labels=None, ids=None):
    n = len(points)
    extras = None if labels is None else pa.table({"group": labels})
    own = np.arange(n, dtype=np.uint64) if ids is None else ids
    return PointBlock(np.ascontiguousarray(points), np.ones(n), own, Span(0, 0), None, extras)


def problem(dim, m, k=7, n=1000, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    points, centers = rng.standard_normal((n, dim)).astype(dtype) + 3, rng.standard_normal((k, dim)) + 3
    return points, centers, rng.random((m, k)) * dim / 4, rng.integers(0, m, n), (rng.random((m, k, k)) + 0.1) * dim / 8


@pytest.mark.parametrize("dim", [1, 5, 47, 48, 120])
@pytest.mark.parametrize(("z", "metric", "m"), [(2.0, "euclidean", 1), (1.0, "euclidean", 3), (3.0, "cosine", 2)])
def test_the_cheapest_and_how_close_the_others_are(dim, z, metric, m):
    points, centers, prices, label, reach = problem(dim, m)
    priced = Priced(centers, prices, tuple("abc"[:m]), z, metric)
    index, dist_sq, gap, away = priced.cheapest(points, label, reach)
    all_sq = ((points[:, None].astype(np.float64) - centers) ** 2).sum(-1)
    reduced = (all_sq / (2 if metric == "cosine" else 1)) ** (z / 2) + prices[label]
    rows = np.arange(len(points))
    assert np.array_equal(index, reduced.argmin(axis=1))
    assert dist_sq == pytest.approx(all_sq[rows, index], rel=1e-9)
    best = reduced[rows, index]
    reduced[rows, index] = np.inf
    assert gap == pytest.approx(reduced.min(axis=1) - best, abs=1e-8)
    multiples = (reduced - best[:, None]) / reach[label, index]
    assert away == pytest.approx(multiples.min(axis=1), abs=1e-8)


def test_rows_stay_where_they_are_until_prices_have_changed_by_so_many_times_the_reach():
    """No change of any price by less moves them, and for most of them some such change by more does."""
    points, centers, prices, label, _ = problem(4, 2)
    reach = np.full((2, 7, 7), 2.0)
    priced = Priced(centers, prices, ("a", "b"))
    index, _, _, away = priced.cheapest(points, label, reach)
    rng, moved = np.random.default_rng(1), np.zeros(len(points), bool)
    for _ in range(200):
        change = rng.choice([-1, 1], prices.shape) / 4  # so cluster against cluster by up to a quarter of the reach
        other = Priced(centers, prices + change, ("a", "b")).cheapest(points, label)[0]
        assert np.array_equal(other[away > 0.25], index[away > 0.25])
        moved |= other != index
    assert moved.sum() > 0.5 * (away <= 0.25).sum() > 10


@pytest.mark.parametrize(("z", "metric"), [(2.0, "euclidean"), (1.0, "euclidean"), (3.0, "euclidean"), (2.0, "cosine"),
                                           (1.0, "cosine")])  # fmt: skip
def test_without_prices_it_is_the_nearest_center_and_its_distance(z, metric):
    points, centers, *_ = problem(6, 1)
    index, dist_sq = nearest_numpy(points, centers)
    expected = dist_sq / 2 if metric == "cosine" else np.sqrt(dist_sq)
    free = Priced(centers, np.zeros((1, 7)), z=z, metric=metric)
    for clusters in (Nearest(Centers(centers, z, metric), z, metric), free):
        own, distance = clusters.clusters_of(block_of(points))
        assert np.array_equal(own, index)
        assert distance == pytest.approx(expected, rel=1e-5)
        assert clusters.k == 7


def test_a_common_offset_changes_nothing():
    points, centers, prices, label, _ = problem(60, 1, dtype=np.float64)
    here = Priced(centers, prices).cheapest(points, label)
    there = Priced(centers + 1e6, prices).cheapest(points + 1e6, label)
    assert np.array_equal(here[0], there[0])
    assert here[2] == pytest.approx(there[2], abs=1e-6)
    moved = Priced(centers + 1e6, prices).reduced(points + 1e6, label)
    assert moved == pytest.approx(Priced(centers, prices).reduced(points, label), rel=1e-6)


def test_ties_are_divided_by_id_in_the_shares_of_the_plan():
    """3,000 rows between two centers, a third of label "a" and all of "b" to the first; by Chernoff's bound the shares
    are off by 0.05 with probability below 1e-5."""
    points = np.zeros((6000, 2), np.float32)
    labels = np.repeat(["a", "b"], 3000)
    centers = np.array([[-1.0, 0], [1, 0], [9, 9]])
    both = np.packbits([True, True, False]).tobytes()
    ties = {(0, both): np.array([1 / 3, 1.0, 1.0])}
    priced = Priced(centers, np.zeros((2, 3)), ("a", "b"), tolerance=1e-9, ties=ties)
    index, distance = priced.clusters_of(block_of(points, labels))
    assert distance == pytest.approx(1)
    assert (index[:3000] == 0).mean() == pytest.approx(1 / 3, abs=0.05)
    assert (index[3000:] == 0).all()  # such ties are not in the plan
    assert np.array_equal(index[:3000] == 0, tie_place(np.arange(3000, dtype=np.uint64)) < 1 / 3)
    ids = np.arange(6000, dtype=np.uint64)
    pieces = [slice(i, i + 70) for i in range(0, 6000, 70)]
    parts = [priced.clusters_of(block_of(points[piece], labels[piece], ids[piece])) for piece in pieces]
    assert np.array_equal(np.concatenate([own for own, _ in parts]), index)


def test_one_cluster_has_no_rivals():
    index, _, gap, away = Priced(np.zeros((1, 2)), np.zeros((1, 1))).cheapest(np.ones((3, 2)), np.zeros(3, np.int64))
    assert index.tolist() == [0, 0, 0]
    assert np.isinf(gap).all()
    assert np.isinf(away).all()


def test_labels_that_have_no_price():
    priced = Priced(np.zeros((2, 1)), np.zeros((2, 2)), ("a", "b"))
    with pytest.raises(ValueError, match="group: must be one of the 2 labels that have prices, got 'c'"):
        priced.clusters_of(block_of(np.zeros((2, 1)), ["a", "c"]))
    with pytest.raises(ValueError, match="group: must be known of every row, got rows without labels"):
        priced.clusters_of(block_of(np.zeros((2, 1))))
    assert label_codes(pa.table({"group": ["x", "y", "x"]}))[1].tolist() == [0, 1, 0]
