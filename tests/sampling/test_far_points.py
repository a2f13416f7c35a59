import numpy as np
import pytest
from jobs import with_far_rows

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.left_out import trimmed_cost
from beam_coresets.points.nearest import nearest
from beam_coresets.sampling.far_points import LEAST_KEPT, farthest, serving, share_of, to_total
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

METHODS = ("sensitivity", "lightweight", "uniform", "rings_and_groups")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outliers", [40.0, 0.01])
def test_what_may_be_left_out_is_kept_with_its_own_weight(method, outliers):
    points, _ = with_far_rows(1, 6000, 40, 300.0)
    sampler, rng = Sampler(5, 200, method=method, outliers=outliers), generator("keep", method)
    strata = np.zeros(len(points), np.int32)
    rows, weights = sampler.thin(points, np.ones(len(points)), strata, 1600, rng)
    last, unbiased, calibrated = sampler.finish(points[rows], weights, strata[rows], rng)
    planted = rows[last] >= 6000
    assert planted.sum() == 40
    assert (unbiased[planted] == 1).all()
    assert (calibrated[planted] == 1).all()
    assert len(last) <= 200 + 2 * 0.01 * 6040 + 50
    assert calibrated.sum() == pytest.approx(len(points), rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_is_biased_by_points_that_are_certain(method):
    points, means = with_far_rows(2, 3000, 40, 300.0)
    cost = nearest(points, means.astype(np.float32))[1].astype(float)
    exact = np.minimum(cost, 30.0).sum()
    sampler, strata = Sampler(5, 150, method=method, outliers=60.0), np.zeros(len(points), np.int32)
    found = []
    for seed in range(40):
        rng = generator("unbiased", method, seed)
        rows, weights = sampler.thin(points, np.ones(len(points)), strata, 600, rng)
        last, unbiased, _ = sampler.finish(points[rows], weights, strata[rows], rng)
        found.append(np.minimum(cost[rows[last]], 30.0) @ unbiased)
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / np.sqrt(len(found))
    assert np.std(found) < 0.2 * exact


def test_beyond_the_most_that_is_kept_outliers_take_no_more_of_the_sample_than_others():
    points, means = with_far_rows(3, 12_000, 3000, 300.0)
    sampler, rng = Sampler(5, 200, outliers=3000.0), generator("many")
    last, unbiased, calibrated = sampler.finish(points, np.ones(len(points)), np.zeros(len(points), np.int32), rng)
    planted = last >= 12_000
    assert len(last) == pytest.approx(200 + LEAST_KEPT, abs=2)
    assert planted.sum() - LEAST_KEPT < 150  # of 200
    assert unbiased[planted].sum() == pytest.approx(3000, rel=0.2)
    cost = nearest(points[last], means.astype(np.float32))[1].astype(float)
    inliers = nearest(points[:12_000], means.astype(np.float32))[1].astype(float).sum()
    assert trimmed_cost(cost, calibrated, 3000.0) == pytest.approx(inliers, rel=0.25)


def test_a_shards_share_of_the_outliers_has_room():
    assert share_of(0.0, np.ones(100)) == 0
    assert share_of(0.01, np.ones(1000)) == pytest.approx(0.025)
    assert share_of(20, np.ones(1000)) == pytest.approx(0.025)
    assert share_of(5000, np.ones(1000)) == 0.5


def test_the_farthest_are_certain_as_far_as_there_is_room():
    cost, weights = np.array([5.0, 1, 9, 7, 2]), np.ones(5)
    sure, level = farthest(cost, weights, 0.6, 5)
    assert sure.tolist() == [True, False, True, True, False]
    assert level == 2
    sure, level = farthest(cost, weights, 0.6, 1)
    assert sure.tolist() == [False, False, True, False, False]
    assert level == 2


def test_a_center_of_a_few_points_that_could_all_be_left_out_is_none():
    index = np.array([0] * 50 + [1] * 3 + [2] * 2 + [3] * 20)
    assert serving(index, np.ones(75), 4, 6.0).tolist() == [0, 3]
    assert serving(index, np.ones(75), 4, 4.0).tolist() == [0, 1, 3]
    assert serving(index, np.ones(75), 4, 30.0).tolist() == [0, 3]  # twenty points are no few


def test_certain_points_keep_their_weight_where_others_are_made_to_add_up():
    made = to_total(np.array([1.0, 3.0, 5.0]), 20.0, np.array([True, False, False]))
    assert made.tolist() == [1.0, 3 * 19 / 8, 5 * 19 / 8]


def test_a_tree_of_many_leaves_keeps_them_too():
    points, _ = with_far_rows(4, 40_000, 60, 300.0, d=2)
    order = generator("shuffle").permutation(len(points))
    blocks = [
        PointBlock(points[part], np.ones(len(part)), part.astype(np.uint64), Span(0, i, i == 11))
        for i, part in enumerate(np.array_split(order, 12))
    ]
    assignment, planted = Assignment(4, 2), np.arange(40_000, 40_060, dtype=np.uint64)
    reports = shard_reports(blocks, MergeReduce(Sampler(5, 200, outliers=0.003), assignment))
    for report in reports:
        held = planted[np.isin(assignment.bucket_of(planted), assignment.held_by(report.shard))]
        rows = np.isin(report.coreset.ids, planted)
        assert set(report.coreset.ids[rows].tolist()) == set(held.tolist())
        assert np.allclose(report.coreset.weights[rows], 1)
        assert report.coreset.weights.sum() == pytest.approx(report.ledger.weight)
        assert len(report.coreset) < 700


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"outliers": -1.0}, "outliers: must be a share below 1 or a number of rows, got -1"),
        ({"outliers": 5.0, "r": 1}, "outliers: must be left out with r = 1, got 5"),
        (
            {"outliers": 5.0, "method": "rings_and_groups", "leftover": "centers"},
            "outliers: must be left out with leftover centers, got 5",
        ),
    ],
)
def test_refuses(more, match):
    with pytest.raises(ValueError, match=match):
        Sampler(2, 100, **more)
