"""(J, S, v): candidates from shards that S does without, the constrained cost of S, and what candidates cost."""
import dataclasses
import functools
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from beam_coresets.coordinator import evidence, merge, rollup
from beam_coresets.coordinator.decision import Policy, Verdict, decide
from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.hashing import generator, hash_bytes
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.seeding import dz_draw
from beam_coresets.results import weak_coreset
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.results.weak_coreset import Candidates, alpha, best, candidates, divided, spared, without
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import SCHEMES, Assignment, part_ids
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.transport import transport
from beam_coresets.streaming.windows import Window
from beam_coresets.table_schemas import typed

K = 5
NAMES = np.array(["east", "west", "rare"])
SAMPLER = Sampler(K, 40 * K)
SCHEME = Assignment(6, 2, "cyclic", 240)


def _code(name):
    raw = name.encode()
    return int(hash_bytes(np.array([0, len(raw)]), np.frombuffer(raw, np.uint8))[0] >> np.uint64(33))


@functools.cache
def points_of(seed=0, n=3000):
    """(n, 2) around five places, and a label for each (n,): by place, but for one in ten."""
    rng = generator("weak points", seed)
    places = np.array([[0, 0], [40, 5], [10, 50], [60, 60], [30, 25]])
    where = rng.choice(K, n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    points = (places[where] + 4 * rng.standard_normal((n, 2))).astype(np.float32)
    return points, np.where(rng.random(n) < 0.1, "rare", NAMES[(where > 1).astype(int)])


def blocks(seed=0, n=3000):
    points, names = points_of(seed, n)
    codes = {name: _code(name) for name in NAMES}
    out = []
    for block in blocks_of(points, rows=500, part=seed):
        mine = names[(block.ids & np.uint64(0xFFFFFFFF)).astype(np.int64)]
        groups = np.array([codes[name] for name in mine], np.int32)
        extras = pa.table({"group": pa.array(mine.tolist(), pa.string())})
        out.append(PointBlock(block.points, block.weights, block.ids, block.span, groups, extras))
    return out


@functools.cache
def decision_of(scheme=SCHEME, dropped=(), seed=0, labelled=True):
    logic = MergeReduce(SAMPLER, scheme, 7, labelled=labelled)
    return decide([r for r in shard_reports(blocks(seed), logic) if r.shard not in dropped], Policy(scheme))


def totals(table):
    """Each label's weight in a coreset table."""
    weight, label = table.column("weight").to_numpy(), np.array(table.column("group_label").to_pylist())
    return {name: pytest.approx(float(weight[label == name].sum()), rel=1e-12) for name in NAMES}


def counted(*seeds):
    names = np.concatenate([points_of(seed)[1] for seed in seeds])
    return {name: float((names == name).sum()) for name in NAMES}


def test_draws_follow_their_distribution():
    """20,000 pairs of rows, one drawn after the other, against w_i / W times w_j d(i, j)^z / sum, by chi-square: a
    correct sampler fails with probability 1e-4."""
    points = np.array([[0.0, 0], [1, 0], [0, 2], [5, 5], [0, 2]])
    weights = np.array([1.0, 3, 2, 0.5, 0])
    for z in (1.0, 2.0):
        rng = generator("pairs", z)
        seen = np.zeros((5, 5))
        for _ in range(10_000):
            seen[tuple(dz_draw(points, weights, 2, z, rng))] += 1
        far = weights * cdist(points, points) ** z
        expected = 10_000 * (weights / weights.sum())[:, None] * far / far.sum(axis=1, keepdims=True)
        assert not seen[expected == 0].any()
        at = expected > 0
        statistic = ((seen[at] - expected[at]) ** 2 / expected[at]).sum()
        assert stats.chi2.sf(statistic, at.sum() - 1) > 1e-4


def test_a_rounds_draws_are_independent_and_the_next_round_knows_them():
    points = np.array([[0.0], [1e6], [1e6 + 1], [2e6]])
    rounds = [dz_draw(points, np.ones(4), 4, 2.0, generator("rounds", i), 1) for i in range(50)]
    assert all(sorted(rows.tolist()) == [0, 1, 2, 3] for rows in rounds)
    # After one row each of the three places is there before the second of two rows a step apart.
    assert all({0, 3} <= set(rows[:3].tolist()) for rows in rounds)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 9), st.sampled_from([1.0, 2.0, 3.5]))
def test_draws_are_distinct_rows_with_weight_and_as_many_as_there_are_places(n, count, per_round, z):
    rng = generator("draws", n, count, per_round)
    points, weights = rng.integers(0, 4, (n, 2)).astype(np.float64), rng.integers(0, 3, n).astype(np.float64)
    rows = dz_draw(points, weights, count, z, generator("dz_draw"), per_round)
    assert len(set(rows.tolist())) == len(rows)
    assert (weights[rows] > 0).all()
    places = len(np.unique(points[weights > 0], axis=0))
    if per_round == 1:
        assert len(rows) == min(count, places)
    assert min(count, places) <= len(rows) <= count
    assert rows.tolist() == dz_draw(points, weights, count, z, generator("dz_draw"), per_round).tolist()


@pytest.mark.parametrize(("more", "message"), [
    ({"count": 0}, "count: must be at least 1, got 0"),
    ({"z": 0.5}, "z: must be at least 1, got 0.5"),
    ({"per_round": 0}, "per_round: must be at least 1, got 0"),
])  # fmt: skip
def test_what_can_not_be_drawn_is_refused(more, message):
    given = {"count": 2, "z": 2.0, **more}
    with pytest.raises(ValueError, match=message):
        dz_draw(np.zeros((3, 1)), np.ones(3), rng=generator("no"), **given)


def test_candidates_come_from_a_shard_that_s_does_without():
    decision = decision_of()
    rest, found = divided(decision, 120, seed=3)
    (shard,) = spared(decision)
    assert found.independent
    assert set(found.shard.tolist()) == {shard}
    assert shard not in rest.evidence.shard
    assert len(found) == 120
    assert (len(found.drawn), len(found.means)) == (60, 60)
    mine = decision.evidence.sample.ids[decision.evidence.shard == shard]
    assert set(found.drawn.ids.tolist()) <= set(mine.tolist())
    points, _ = points_of()
    assert (points[found.drawn.ids.astype(np.int64)] == found.points[:60].astype(np.float32)).all()
    assert rest.recovery.coverage == decision.recovery.coverage == 1.0
    assert rest.recovery.delta == 0.0
    assert rest.total_weight == decision.total_weight == 3000
    assert rest.coreset.weights.sum() == pytest.approx(3000, rel=1e-12)
    assert len(rest.evidence.sample) == len(decision.evidence.sample) - len(mine)


@pytest.mark.parametrize(("scheme", "dropped"), [(Assignment(4, 1, "cyclic", 240), ()), (SCHEME, (0, 2, 4))])
def test_where_no_shard_can_be_spared_s_itself_is_drawn_from_and_says_so(scheme, dropped):
    decision = decision_of(scheme, dropped)
    rest, found = divided(decision, 50)
    assert rest is decision
    assert spared(decision) == ()
    assert not found.independent
    assert set(found.drawn.ids.tolist()) <= set(decision.coreset.ids.tolist())


@settings(max_examples=40)
@given(
    st.integers(1, 7), st.integers(1, 7), st.sampled_from(SCHEMES), st.sets(st.integers(0, 6)), st.booleans(), st.data()
)
def test_what_is_spared_is_held_by_others_too(s, replication, kind, dropped, parts, data):
    assume(replication <= s)
    scheme = Assignment(s, replication, kind, 12 * s, data.draw(st.integers(0, 3)), parts=parts)
    n = 400
    points, ids = points_of(0)[0][:n], np.arange(n, dtype=np.uint64)
    if parts:
        ids = np.concatenate([part_ids(p, ids[p :: 12 * s]) for p in range(12 * s)])
    block = PointBlock(points, np.ones(n), ids, next(blocks_of(points)).span)
    logic = MergeReduce(Sampler(2, 10), scheme)
    decision = decide([r for r in shard_reports([block], logic) if r.shard not in dropped], Policy(scheme))
    shards = spared(decision)
    rest = without(decision, shards)
    assert np.array_equal(rest.recovery.trusted.any(axis=0), decision.recovery.covered)
    assert not set(shards) & set(rest.evidence.shard.tolist())
    seen = decision.recovery.trusted[list(shards)].any(axis=0)
    if parts and shards:
        assert seen[decision.recovery.counts > 0].all(), "J must see every part"
    if not parts:
        assert len(shards) <= 1
        holders = decision.recovery.trusted.sum(axis=0)
        could = [i for i, mine in enumerate(decision.recovery.trusted) if mine.any() and (holders[mine] > 1).all()]
        assert bool(shards) == bool(could)


def test_two_colours_of_shards_see_all_parts():
    """Cyclic with two holders a part: every other shard is spared, and together they see everything."""
    scheme = Assignment(6, 2, "cyclic", 6, parts=True)
    n = 600
    points = points_of(0)[0][:n]
    ids = np.concatenate([part_ids(p, np.arange(100, dtype=np.uint64)) for p in range(6)])
    block = PointBlock(points, np.ones(n), ids, next(blocks_of(points)).span)
    decision = decide(shard_reports([block], MergeReduce(Sampler(2, 10), scheme)), Policy(scheme, parts=6))
    assert spared(decision) in [(0, 2, 4), (1, 3, 5)]
    _, found = divided(decision, 20)
    assert found.independent
    assert len(set(found.shard.tolist())) == 3


def test_without_asks_for_exact_multipliers_and_other_holders():
    decision = decision_of(dropped=(1,), labelled=False)
    with pytest.raises(ValueError, match=r"shards: must be such that others hold all of their buckets, got \(0,\)"):
        without(decision, (0,))
    other = decide(shard_reports(blocks(), MergeReduce(SAMPLER, SCHEME)), Policy(SCHEME, "lp"))
    with pytest.raises(ValueError, match="recovery: must be exact to do without a shard, got 'lp'"):
        without(other, (3,))


def constrained(points, weights, label, centers, gamma):
    """The cost of the cheapest assignment with gamma[j, i] of label j in cluster i."""
    cost, out = cdist(points, centers, "sqeuclidean"), 0.0
    for j, row in enumerate(gamma):
        mine = label == j
        total = weights[mine].sum()
        assert row.sum() == pytest.approx(total, rel=1e-9)
        bounds = Constraint(gamma=tuple(row)).bounds([""], np.array([total]), len(row))
        out += transport(cost[mine], weights[mine], np.zeros(mine.sum(), np.int64), bounds).cost
    return out


@pytest.mark.parametrize("labelled", [False, True])
def test_property_b_at_40_k_points(labelled):
    """40 pairs (C, Gamma): the cost of S under the cheapest assignment is within 5 % of the data's, for this one
    dz_draw; over many, `benchmarks/weak.py` finds no worse error than 3 % on data of this kind."""
    rest, found = divided(decision_of(Assignment(2, 2, "cyclic", 240), labelled=labelled), 40 * K)
    points, names = points_of()
    truth = np.searchsorted(np.sort(NAMES), names) if labelled else np.zeros(len(points), np.int64)
    coreset, label = rest.coreset, np.zeros(len(rest.coreset), np.int64)
    assert len(coreset) == pytest.approx(40 * K, abs=3)
    if labelled:
        texts = np.array(coreset.extras.column("group").to_pylist())
        label = np.searchsorted(np.sort(NAMES), texts)
    rng = generator("property B", labelled)
    for i in range(40):
        centers = found.points[rng.choice(len(found), K, replace=False)]
        gamma = np.array([n * rng.dirichlet(np.full(K, 1.0 + 4 * (i % 2))) for n in np.bincount(truth)])
        on_data = constrained(points, np.ones(len(points)), truth, centers, gamma)
        on_s = constrained(coreset.points, coreset.weights, label, centers, gamma)
        assert on_s == pytest.approx(on_data, rel=0.05)


def test_property_a_for_random_sizes():
    """For the cheapest assignment that keeps to random sizes, after five turns of assigning and averaging: the best
    candidate of each cluster, found by trying all, costs at most 1.3 times the best centers together."""
    decision = decision_of(labelled=False)
    _, found = divided(decision, 40 * K)
    points, _ = points_of()
    start = solve_centers(points, np.ones(len(points)), K).centers
    for i in range(4):
        gamma = len(points) * generator("property A", i).dirichlet(np.full(K, 2.0))
        bounds = Constraint(gamma=tuple(gamma)).bounds([""], np.array([float(len(points))]), K)
        centers = start
        for _ in range(5):
            cost = cdist(points, centers, "sqeuclidean")
            flow = transport(cost, np.ones(len(points)), np.zeros(len(points), np.int64), bounds)
            amounts = np.zeros((len(points), K))
            amounts[flow.rows, flow.clusters] = flow.amounts
            centers = amounts.T @ points / amounts.sum(axis=0)[:, None]
        free = (amounts * cdist(points, centers, "sqeuclidean")).sum()
        among = (amounts.T @ cdist(points, found.points, "sqeuclidean")).min(axis=1).sum()
        assert free <= among <= 1.3 * free


def test_the_best_candidates_are_found_on_tiny_cases():
    """Against all choices of 2 of 7 candidates: never better, at most 5 % worse."""
    for seed in range(20):
        rng = generator("tiny", seed)
        points = np.concatenate([rng.normal(size=(12, 2)), rng.normal(6, 1, (12, 2))])
        sample = Coreset(points, np.ones(24), np.ones(24), np.arange(24, dtype=np.uint64))
        places = points[rng.choice(24, 7, replace=False)]
        centers = solve_centers(points, np.ones(24), 2).centers
        rows, cost = best(sample, places, centers)
        every = [cdist(points, places[list(c)]).min(axis=1) @ cdist(points, places[list(c)]).min(axis=1)
                 for c in itertools.combinations_with_replacement(range(7), 2)]  # fmt: skip
        assert min(every) * (1 - 1e-9) <= cost <= 1.05 * min(every)
        assert cost == pytest.approx((cdist(points, places[rows]).min(axis=1) ** 2).sum())
        assert alpha(sample, places, centers) == pytest.approx(cost / sample.cost(centers))


def test_alpha_is_near_one_in_the_plane_and_falls_with_more_candidates():
    decision = decision_of(labelled=False)
    centers = solve_centers(decision.coreset.points, decision.coreset.weights, K).centers
    found = []
    for count in (2 * K, 10 * K, 40 * K):
        rest, places = divided(decision, count)
        found.append(alpha(rest.coreset, places.points, centers))
    assert found[0] > found[1] > found[2]
    assert found[2] < 1.03


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_means_come_closer_to_centers_in_many_dimensions_than_rows_do(metric):
    points = GaussianMixture(seed=3, d=40, k=4, box=3.0, outliers=0.0).points(2000)
    if metric == "cosine":
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    scheme = Assignment(2, 2, "cyclic", 64)
    logic = MergeReduce(Sampler(4, 160), scheme)
    decision = decide(shard_reports(blocks_of(np.ascontiguousarray(points)), logic), Policy(scheme))
    rest, found = divided(decision, 160, metric=metric)
    centers = solve_centers(rest.coreset.points, rest.coreset.weights, 4, metric=metric).centers
    both = alpha(rest.coreset, found.points, centers, metric=metric)
    rows_only = alpha(rest.coreset, found.points[: len(found.drawn)], centers, metric=metric)
    assert 1.0 <= both < 1.15 < 1.25 < rows_only
    if metric == "cosine":
        assert np.linalg.norm(found.means, axis=1) == pytest.approx(np.ones(len(found.means)))


def test_little_data_has_few_candidates_and_none_has_none():
    points = np.array([[0.0, 0], [0, 0], [5, 5]], np.float32)
    logic = MergeReduce(Sampler(2, 10), SCHEME)
    decision = decide(shard_reports(blocks_of(points), logic), Policy(SCHEME))
    _, found = divided(decision, 40)
    assert 1 <= len(found) <= 40
    nothing = decide([], Policy(SCHEME))
    rest, found = divided(nothing, 40)
    assert len(found) == 0
    assert found.points.shape == (0, 0)
    assert summarize(rest, Question(SAMPLER, candidates=40)).candidates.num_rows == 0


QUESTION = Question(SAMPLER, candidates=80)


def test_the_tables_have_candidates_alpha_and_exact_label_totals():
    decision = decision_of()
    summary = summarize(decision, QUESTION)
    assert totals(summary.coreset) == counted(0)
    table = summary.candidates
    (shard,) = spared(decision)
    assert table.column("index").to_pylist() == list(range(80))
    assert [i is None for i in table.column("id").to_pylist()] == [False] * 40 + [True] * 40
    assert set(table.column("shard").to_pylist()) == {shard}
    assert shard not in summary.coreset.column("shards").combine_chunks().flatten().to_pylist()
    assert set(table.column("independent").to_pylist()) == {True}
    (row,) = summary.summaries.to_pylist()
    assert 1.0 <= row["alpha"] < 1.2
    assert row["coreset_points"] == len(summary.coreset)
    plain = summarize(decision, Question(SAMPLER))
    assert plain.summaries.column("alpha").to_pylist() == [None]
    assert len(plain.candidates) == 0
    assert plain.coreset.num_rows > summary.coreset.num_rows


def test_the_same_twice_and_another_seed_another_j():
    one, two = (summarize(decision_of(), QUESTION) for _ in range(2))
    assert one.candidates.equals(two.candidates)
    assert one.coreset.equals(two.coreset)
    other = summarize(decision_of(), dataclasses.replace(QUESTION, seed=1))
    assert not one.candidates.equals(other.candidates)


def stored(seed):
    """A window's decision and candidates as its tables give them back."""
    summary = summarize(decision_of(seed=seed), QUESTION, Window(10.0 * seed, 10.0 * seed + 10))
    (row,) = summary.summaries.to_pylist()
    decision = evidence.unpack_evidence(row, typed(summary.coreset, "coreset"))
    return summary, decision, weak_coreset.unpack_candidates(typed(summary.candidates, "candidates"))


def test_tables_give_back_what_was_decided():
    summary, decision, found = stored(1)
    table = summarize(decision, Question(SAMPLER)).coreset
    np.testing.assert_allclose(table.column("weight").to_numpy(), summary.coreset.column("weight").to_numpy())
    assert totals(table) == counted(1)
    assert len(found.drawn) == 40
    assert found.independent
    coordinates = np.array(summary.candidates.column("coordinates").to_pylist())
    np.testing.assert_array_equal(found.points, coordinates)


@pytest.mark.parametrize("size", [40 * K, 20 * K])
def test_windows_roll_up_with_exact_labels_and_one_j(size):
    """(B) is not asked of the merged coreset; that its labels weigh what they do is, thinned or not."""
    parts = [stored(seed) for seed in range(4)]
    whole_day = rollup.Rollup(Sampler(K, size))
    for _, decision, _ in parts:
        whole_day.add(decision)
    decision = whole_day.result()
    found = weak_coreset.merge_candidates([c for _, _, c in parts], decision.coreset, 80, 2.0)
    summary = summarize(decision, Question(Sampler(K, size)), candidates=found)
    assert totals(summary.coreset) == counted(0, 1, 2, 3)
    assert summary.coreset.column("weight").to_numpy().sum() == pytest.approx(12_000, rel=1e-12)
    assert len(found) == 80
    ids = summary.candidates.column("id").to_pylist()
    every = {name for s, _, _ in parts for name in s.candidates.column("id").to_pylist()}
    assert set(ids) <= every
    assert sorted(ids, key=lambda name: name is None) == ids, "input rows come first"
    assert summary.summaries.column("alpha").to_pylist()[0] < 1.1
    whole = weak_coreset.merge_candidates([c for _, _, c in parts], decision.coreset, 1000, 2.0)
    assert len(whole) == 320


def test_panes_of_a_stream_keep_labels_exact():
    """Verdicts as they cross the runner, merged into a sliding window and thinned, then asked for (J, S)."""
    panes = []
    for seed in range(3):
        verdict = Verdict(0.0, 1.0, "", 1, "all", 1.0, {"": decision_of(seed=seed)})
        panes.append(Verdict.from_bytes(verdict.to_bytes()).decisions[""])
    whole = merge.thinned(merge.merge(panes), SAMPLER, 0)
    summary = summarize(whole, QUESTION, Window(0.0, 3.0))
    assert totals(summary.coreset) == counted(0, 1, 2)
    assert not set(summary.candidates.column("shard").to_pylist()) & set(
        summary.coreset.column("shards").combine_chunks().flatten().to_pylist()
    )
    half = merge.merge(panes, [1.0, 0.5, 0.0])
    forgotten = {name: counted(0)[name] + 0.5 * counted(1)[name] for name in NAMES}
    assert totals(summarize(half, Question(SAMPLER)).coreset) == forgotten


def test_candidates_of_windows_without_any_are_none():
    none = Candidates(Coreset.empty(), np.empty((0, 0)), np.empty(0, np.int64), True)
    assert len(weak_coreset.merge_candidates([none], decision_of().coreset, 10, 2.0)) == 0
    some = candidates(decision_of(), 10)
    assert len(weak_coreset.merge_candidates([none, some], decision_of().coreset, 10, 2.0)) == len(some)


def test_a_question_asks_for_enough_candidates():
    with pytest.raises(ValueError, match="candidates: must be at least k = 5, got 4"):
        Question(SAMPLER, candidates=4)
