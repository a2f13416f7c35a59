"""Rings and groups: the paper's definitions, its bound on groups, and draws without bias."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.datasets.synthetic import SSet
from beam_coresets.hashing import generator
from beam_coresets.points.block import blocks_of
from beam_coresets.points.magnitude import unit_of
from beam_coresets.points.nearest import cost as cost_of
from beam_coresets.points.nearest import nearest
from beam_coresets.sampling.importance import Sampler
from beam_coresets.sampling.rings_and_groups import groups, importances, levels, most_groups
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

ZS = [1.0, 1.5, 2.0, 3.0]
LEFT = -1


def data(n=400, clusters=5, seed=0, spread=3.0):
    """Clusters, costs over many orders of magnitude (some zero), and whole weights (some zero)."""
    rng = generator("rings", n, clusters, seed)
    index = rng.integers(0, clusters, n).astype(np.int32)
    cost = 10.0 ** rng.uniform(-spread, spread, n) * 10.0 ** rng.integers(-2, 3, clusters)[index]
    cost[rng.random(n) < 0.05] = 0.0
    return index, cost, rng.integers(0, 4, n).astype(np.float64)


def by_definition(index, cost, weights, k, z, epsilon):
    """Definitions A.2 and A.3, word by word: the name of each point's group, (level or "outer", b), or None."""
    names = [None] * len(index)
    level, ring, whole = {}, {}, {}
    for i in range(len(index)):
        mine = index == index[i]
        average = weights[mine] @ cost[mine] / weights[mine].sum() if weights[mine].any() else 0.0
        if not (weights[i] > 0 and cost[i] > 0):
            continue
        j = next(j for j in range(-1100, 1100) if 2.0**j <= cost[i] / average < 2.0 ** (j + 1))
        if j <= z * math.log2(epsilon / z):
            continue
        level[i] = "outer" if j >= 2 * z * math.log2(z / epsilon) else j
        ring[index[i], level[i]] = ring.get((index[i], level[i]), 0.0) + weights[i] * cost[i]
        whole[level[i]] = whole.get(level[i], 0.0) + weights[i] * cost[i]
    for i, j in level.items():
        share = ring[index[i], j] / whole[j]
        lowest = z * math.log2(epsilon / (4 * z)) - math.log2(k)
        for b in range(0, math.floor(lowest), -1):
            if b > lowest and 2.0**b * (1 - 1e-12) <= share < 2.0 ** (b + 1):
                names[i] = (j, b)
    return names


def same_partition(found, names):
    """Whether equal numbers mean equal names, and none means none."""
    pairs = set(zip(found.tolist(), names, strict=True))
    if {name is None for number, name in pairs if number == LEFT} - {True}:
        return False
    return len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 5), st.sampled_from(ZS), st.sampled_from([0.01, 0.1, 0.5, 0.9]),
    st.integers(0, 99),
)
def test_groups_are_those_of_the_definitions(n, clusters, z, epsilon, seed):
    index, cost, weights = data(n, clusters, seed)
    found = groups(index, cost, weights, clusters, z, epsilon)
    assert same_partition(found, by_definition(index, cost, weights, clusters, z, epsilon))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3000), st.integers(1, 60), st.sampled_from([*ZS, 5.0]), st.floats(0.005, 0.99), st.integers(0, 99),
    st.floats(0, 30),
)
def test_there_are_no_more_groups_than_the_bound(n, clusters, z, epsilon, seed, spread):
    index, cost, weights = data(n, clusters, seed, spread)
    for k in (1, clusters):
        found = groups(index, cost, weights, k, z, epsilon)
        assert set(found.tolist()) - {LEFT} == set(range(found.max() + 1))  # numbered without gaps
        assert found.max() + 1 <= most_groups(k, z, epsilon)


def test_the_bound_is_the_digests():
    # ceil(3 * 2 * log2(20)) + 1 = 27 levels, ceil(2 * log2(80) + log2(15)) = 17 classes
    assert most_groups(15, 2.0, 0.1) == 27 * 17
    assert levels(2.0, 0.1) == (-8, 18)


@pytest.mark.parametrize("z", ZS)
def test_points_on_their_center_and_without_weight_are_leftover(z):
    index, cost, weights = data(2000)
    found = groups(index, cost, weights, 5, z)
    assert (found[(cost == 0) | (weights == 0)] == LEFT).all()
    assert (found >= 0).any()
    assert (groups(index, np.zeros(2000), weights, 5, z) == LEFT).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.sampled_from(ZS), st.integers(0, 99))
def test_a_weight_is_as_good_as_repetition(n, clusters, z, seed):
    index, cost, weights = data(n, clusters, seed)
    often = np.repeat(np.arange(n), weights.astype(int))
    if not len(often):
        return
    index[weights == 0] = index[often[0]]  # a cluster of nothing but weightless points would count as one
    present, index = np.unique(index, return_inverse=True)
    index = index.astype(np.int32)
    once = groups(index, cost, weights, len(present), z)
    each = groups(index[often], cost[often], np.ones(len(often)), len(present), z)
    assert same_partition(each, [None if g == LEFT else g for g in once[often]])
    q = importances(index, cost, weights, once, 0.7)
    repeated = importances(index[often], cost[often], np.ones(len(often)), each, 0.7)
    assert repeated == pytest.approx(q[often], rel=1e-9)


def test_a_group_is_drawn_by_cost_and_leftover_by_weight():
    index, cost, weights = data(3000)
    group = groups(index, cost, weights, 5)
    q = importances(index, cost, weights, group, 0.7)
    assert (q[weights > 0] > 0).all()  # else nothing would be unbiased
    assert (q[weights == 0] == 0).all()
    assert weights @ q == pytest.approx(1.0)
    for g in range(group.max() + 1):
        mine = (group == g) & (weights > 0)
        assert q[mine] / cost[mine] == pytest.approx(q[mine][0] / cost[mine][0], rel=1e-9)
    for j in range(5):
        mine = (group == LEFT) & (index == j) & (weights > 0)
        assert q[mine] == pytest.approx(q[mine][0], rel=1e-9)


def far_and_near(n=600):
    """Three clusters of different spread with a few points on one place and a few far away; weights; strata."""
    rng = generator("rings of points", n)
    points = 20.0 * rng.integers(0, 3, (n, 1)) + rng.choice([0.01, 1.0, 4.0], (n, 1)) * rng.standard_normal((n, 2))
    points[:60] = 20.0
    points[60:66] *= 40
    return points.astype(np.float32), rng.gamma(0.5, 2.0, n) + 1e-3, rng.integers(0, 3, n).astype(np.int32)


def through_levels(sampler, points, weights, strata, rng):
    """Thinned twice, then finished, as on the way up a tree."""
    rows = np.arange(len(points))
    for size in (300, 120):
        kept, weights = sampler.thin(points[rows], weights, strata[rows], size, rng)
        rows = rows[kept]
    kept, weights, _ = sampler.finish(points[rows], weights, strata[rows], rng)
    return rows[kept], weights


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("draw", ["once", "levels"])
def test_total_weight_and_costs_are_unbiased(z, draw):
    """Means of 1,000 draws within 4.5 standard errors of the truth: each of three sums fails with probability 1e-5."""
    points, weights, strata = far_and_near()
    sampler = Sampler(3, 40, z, "rings_and_groups")
    sets = [np.array([[1.0, 0.0], [33.0, 41.0], [60.0, 60.0]], np.float32), points[[0, 65, 300]]]
    truth = np.array([weights.sum(), *(cost_of(points, weights, c, z) for c in sets)])
    found = np.empty((1000, 3))
    for seed in range(1000):
        rng = generator("unbiased", seed)
        if draw == "once":
            rows, unbiased, _ = sampler.finish(points, weights, strata, rng)
        else:
            rows, unbiased = through_levels(sampler, points, weights, strata, rng)
        found[seed] = unbiased.sum(), *(cost_of(points[rows], unbiased, c, z) for c in sets)
    assert (np.abs(found.mean(axis=0) - truth) < 4.5 * found.std(axis=0, ddof=1) / 1000**0.5).all()


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
def test_with_centers_the_total_is_unbiased(z):
    """Mean total of 1,000 draws within 4.5 standard errors: fails with probability 1e-5."""
    points, weights, strata = far_and_near()
    sampler = Sampler(3, 60, z, "rings_and_groups", leftover="centers")
    totals, most = [], 0
    for seed in range(1000):
        rows, found, places = sampler.finish_on_centers(points, weights, strata, generator("centers", seed))
        assert (np.diff(rows) > 0).all()
        totals.append(found.sum())
        most = max(most, (places != points[rows]).any(axis=1).sum())
    assert abs(np.mean(totals) - weights.sum()) < 4.5 * np.std(totals, ddof=1) / 1000**0.5
    assert 1 <= most <= 3 * 3  # a center a cluster and stratum, at most


def test_centers_carry_the_leftover_of_their_cluster_and_stratum():
    """Points on three places are all leftover: of each place and stratum one row stays, with the weight of all."""
    places = np.array([[0, 0], [50, 0], [0, 50]], np.float32)
    _, weights, strata = far_and_near()
    where = generator("three places").integers(0, 3, 600)
    sampler = Sampler(3, 60, 2.0, "rings_and_groups", leftover="centers")
    rows, found, points = sampler.finish_on_centers(places[where], weights, strata, generator(0))
    assert len(rows) == 9
    assert points == pytest.approx(places[where[rows]], abs=1e-4)
    for row, weight in zip(rows, found, strict=True):
        same = (where == where[row]) & (strata == strata[row])
        assert weight == pytest.approx(weights[same].sum(), rel=1e-12)


def leftover_instance(seed, d):
    """One of four kinds of data with weights, a number of centers, and its generator."""
    rng = generator("leftover", seed, d)
    n, k, kind = int(rng.integers(200, 1500)), int(rng.integers(1, 8)), seed % 4
    points = rng.standard_normal((n, d)) * np.exp(rng.normal(0, [0, 1.5, 0.3, 2][kind], (n, 1)))
    if kind > 1:
        points += 10 * rng.standard_normal((k + 2, d))[rng.integers(k + 2, size=n)]
    if kind == 3:
        points[: n // 3] = points[0]
    return points.astype(np.float32), rng.gamma(0.5, 2.0, n) + 1e-3 if seed % 2 else np.ones(n), k, rng


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("d", [1, 2, 8, 150])
def test_lemma_a12_bounds_what_leftover_errs_by_on_the_centers_of_its_rings(z, d):
    """|cost(leftover, C) - sum_i w(a_i) dist(a_i, C)^z| <= epsilon (cost(P, C) + cost(P, A)) for A that the rings are
    around, in a projection, too; whether or not all rows of groups fit into the size."""
    for seed in range(24):
        points, weights, k, rng = leftover_instance(seed, d)
        epsilon, size = (0.1, 0.5, 0.9)[seed % 3], max(k, len(points) // (3 + seed % 5 * 10))
        sampler = Sampler(k, size, z, "rings_and_groups", epsilon=epsilon, leftover="centers")
        unit = weights / unit_of(weights)
        around, index, cost = sampler._around(points, unit, sampler._center_count(size, 1), generator(seed))
        left = groups(index, cost, unit, k, z, epsilon) < 0
        strata = np.zeros(len(points), np.int32)
        rows, found, places = sampler.finish_on_centers(points, weights, strata, generator(seed))
        stands = left[rows]
        assert np.array_equal(places[~stands], points[rows[~stands]])
        assert np.array_equal(places[stands], around[index[rows[stands]]])
        carried = np.bincount(index[left], weights[left], len(around))[index[rows[stands]]]
        assert found[stands] == pytest.approx(carried, rel=1e-9)
        for choice in range(8):
            centers = points[rng.choice(len(points), k)]
            if choice % 2:
                moved = rng.standard_normal((k, d)) * 10 ** rng.uniform(-3, 2)
                centers = around[rng.integers(len(around), size=k)] + moved
            off = cost_of(points[left], weights[left], centers, z) - cost_of(places[stands], found[stands], centers, z)
            bound = cost_of(points, weights, centers, z) + cost_of(points, weights, around, z)
            assert abs(off) <= epsilon * bound


def test_with_centers_what_fits_is_kept_as_it_is():
    points, weights, strata = far_and_near()
    sampler = Sampler(3, 600, 2.0, "rings_and_groups", leftover="centers")
    rows, kept, places = sampler.finish_on_centers(points, weights, strata, generator(0))
    assert np.array_equal(rows, np.arange(600))
    assert np.array_equal(kept, weights)
    assert np.array_equal(places, points)
    none = sampler.finish_on_centers(points.repeat(2, axis=0), np.zeros(1200), strata.repeat(2), generator(0))
    assert [len(part) for part in none] == [0, 0, 0]


@pytest.mark.parametrize("leftover", ["points", "centers"])
@pytest.mark.parametrize("z", [1.0, 2.0, 3.0])
def test_shards_with_stragglers_keep_costs(leftover, z):
    """Of 10 shards with l = 3 two are missing; the coreset's cost is near the data's, and so is its total."""
    instance = SSet(seed=3)
    points, assignment = instance.points(20_000), Assignment(10, 3, "cyclic")
    sampler = Sampler(15, 600, z, "rings_and_groups", leftover=leftover)
    reports = shard_reports(blocks_of(points, rows=2000), MergeReduce(sampler, assignment))
    policy = Policy(assignment, "exact" if leftover == "points" else "lp", whole=leftover == "centers")
    decision = decide([r for r in reports if r.shard not in (1, 4)], policy)
    assert decision.recovery.coverage == 1
    assert decision.coreset.weights.sum() == pytest.approx(20_000, rel=1e-9)
    truth = cost_of(points, np.ones(20_000), instance.centers.astype(np.float32), z)
    assert decision.coreset.cost(instance.centers, z) == pytest.approx(truth, rel=0.03)
    again = shard_reports(blocks_of(points, rows=2000), MergeReduce(sampler, assignment))
    assert [r.to_bytes() for r in again] == [r.to_bytes() for r in reports]


def test_centers_stand_beside_their_shards_own_rows():
    """Each point of a report has the id of a row of a bucket that the shard holds, and that row's stratum."""
    points, assignment = SSet(seed=3).points(5000), Assignment(5, 2, "cyclic")
    sampler = Sampler(15, 300, 2.0, "rings_and_groups", leftover="centers")
    matrix = assignment.matrix()
    moved = 0
    for report in shard_reports(blocks_of(points, rows=1000), MergeReduce(sampler, assignment)):
        rows = report.coreset.ids.astype(np.int64)
        assert matrix[report.shard, assignment.bucket_of(report.coreset.ids)].all()
        stand_ins = (report.coreset.points != points[rows]).any(axis=1)
        moved += stand_ins.sum()
        _, away = nearest(points[rows[stand_ins]], report.coreset.points[stand_ins])
        assert np.sqrt(away).max() < 60_000  # rows near the centers that they stand for; clusters deviate by 30,000
        assert len(rows) <= 300 + 4
    assert moved > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leftover": "centers"}, "leftover: must be points with method sensitivity, got 'centers'"),
        ({"leftover": "nobody"}, "leftover: must be one of points, centers, got 'nobody'"),
        ({"method": "rings_and_groups", "epsilon": 0.0}, "epsilon: must be between 0 and 1, got 0.0"),
        ({"method": "rings_and_groups", "epsilon": 1.0}, "epsilon: must be between 0 and 1, got 1.0"),
        ({"method": "rings_and_groups", "z": 0.5}, "z: must be at least 1, got 0.5"),
    ],
)
def test_parameters_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sampler(5, 50, **options)


def test_levels_refuse_what_has_none():
    with pytest.raises(ValueError, match=r"z: must be at least 1, got 0.9"):
        levels(0.9, 0.1)
