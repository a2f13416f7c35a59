"""Recovery: every covered bucket counts exactly once, whatever the scheme, the stragglers and the faults."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.coordinator.ledger_check import diagnose
from beam_coresets.coordinator.recovery import packed, property1_delta, recover, unpacked
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.shards.assignment import SCHEMES, Assignment, split
from beam_coresets.shards.ledger import Ledger

CYCLIC = Assignment(6, 3, "cyclic", 60)
PAIRS = Assignment(6, 2, "cyclic", 60)


def true_ledgers(scheme, n=600, seed=0):
    rng = generator("recovery block", seed)
    points = rng.normal(size=(n, 2)).astype(np.float32)
    block = PointBlock(points, rng.random(n), np.arange(n, dtype=np.uint64), Span(0, 0))
    return dict(enumerate(Ledger.of(part, scheme) for part in split(block, scheme))), Ledger.of(block, scheme)


def changed(ledger, buckets, counts=lambda c: c, checksums=lambda c: c):
    """The ledger with other entries in some of its buckets."""
    new = Ledger(ledger.counts.copy(), ledger.checksums.copy(), ledger.weights.copy())
    new.counts[buckets] = counts(new.counts[buckets])
    new.checksums[buckets] = checksums(new.checksums[buckets])
    return new


def replayed(ledger, q=2, buckets=slice(None)):
    return changed(ledger, buckets, lambda c: c * q, lambda c: c * np.uint64(q))


def altered(ledger, buckets=slice(None)):
    return changed(ledger, buckets, checksums=lambda c: c + np.uint64(12345) * (c > 0))


def cut_short(ledger, buckets=slice(None)):
    return changed(ledger, buckets, lambda c: c // 2, lambda c: c ^ np.uint64(777) * (c > 0))


def emptied(ledger, buckets=slice(None)):
    return changed(ledger, buckets, lambda c: c * 0, lambda c: c * np.uint64(0))


@st.composite
def situations(draw):
    """A random scheme and the ledgers of random responders, some of them faulty in random buckets."""
    s = draw(st.integers(1, 8))
    scheme = Assignment(s, draw(st.integers(1, s)), draw(st.sampled_from(SCHEMES)), 24, draw(st.integers(0, 9)))
    ledgers, _ = true_ledgers(scheme, draw(st.sampled_from([0, 20, 300])))
    for i in range(s):
        fault = draw(st.sampled_from([None, None, "late", replayed, altered, cut_short, emptied]))
        if fault == "late":
            del ledgers[i]
        elif fault:
            ledgers[i] = fault(ledgers[i], buckets=np.array(draw(st.lists(st.integers(0, 23), max_size=24)), np.int64))
    return scheme, ledgers


@settings(deadline=None)
@given(situations(), st.sampled_from(["uniform", "lp"]), st.lists(st.integers(0, 23), max_size=3))
def test_shards_that_count_as_a_whole_are_in_order_throughout_and_have_one_multiplier(situation, kind, behind):
    """A shard counts everywhere or nowhere; the others' multipliers are what they were without it."""
    scheme, ledgers = situation
    late = min(ledgers, default=None)
    finished = {i: np.ones(24, np.bool_) for i in ledgers}
    for bucket in behind if ledgers else []:
        finished[late][bucket] = False
    found = recover(scheme, ledgers, kind, finished=finished, whole=True)
    each = diagnose(scheme, ledgers, finished)
    held = scheme.matrix()
    for i in range(scheme.shards):
        in_order = i in ledgers and each.trusted[i][held[i]].all() and finished[i][held[i]].all()
        assert np.array_equal(found.trusted[i], held[i] & in_order)
        assert len(set(found.multipliers[i][found.trusted[i]].tolist())) <= 1
    assert np.array_equal(found.covered, found.trusted.any(axis=0))
    assert (found.counts[~found.covered] == 0).all()
    assert (found.weights[~found.covered] == 0).all()
    if found.covered.any():
        sums = found.multipliers.sum(axis=0)[found.covered]
        assert sums.max() / sums.min() - 1 == pytest.approx(found.delta, abs=1e-9)
    whole = {i: ledgers[i] for i in ledgers if found.trusted[i].any()}
    alone = recover(scheme, whole, kind, whole=True)
    np.testing.assert_allclose(alone.multipliers, found.multipliers)
    assert alone.delta == pytest.approx(found.delta)


@settings(deadline=None)
@given(situations())
def test_multipliers_sum_to_one_on_covered_buckets(situation):
    scheme, ledgers = situation
    found = recover(scheme, ledgers)
    sums = found.multipliers.sum(axis=0)
    np.testing.assert_allclose(sums[found.covered], 1.0, rtol=1e-12)
    assert (sums[~found.covered] == 0).all()
    assert ((found.multipliers > 0) == found.trusted).all()
    assert not (found.trusted & ~scheme.matrix()).any()
    assert found.coverage == found.covered.mean()
    assert found.scale * found.coverage == pytest.approx(1.0) or not found.covered.any()
    assert found.delta == 0.0


@settings(deadline=None)
@given(situations())
def test_trusted_holders_have_read_the_same_rows(situation):
    scheme, ledgers = situation
    found = diagnose(scheme, ledgers)
    assert set(found.responded) | set(found.stragglers) == set(range(scheme.shards))
    for i, ledger in ledgers.items():
        mine = found.trusted[i]
        assert (ledger.counts[mine] == found.counts[mine]).all()
        np.testing.assert_allclose(ledger.weights[mine], found.weights[mine], rtol=1e-12)
    for i in range(scheme.shards):
        assert (found.faults.get(i) == "late") == (i not in ledgers)


@settings(deadline=None)
@given(situations(), st.sampled_from(["uniform", "lp"]))
def test_delta_is_the_slack_of_the_multipliers(situation, kind):
    scheme, ledgers = situation
    found = recover(scheme, ledgers, kind)
    sums = found.multipliers.sum(axis=0)[found.covered]
    assert np.isfinite(found.delta)
    assert (found.multipliers >= 0).all()
    if len(sums):
        assert found.delta == pytest.approx(sums.max() / sums.min() - 1, abs=1e-9)
    if kind == "lp" and len(sums):
        assert found.delta <= recover(scheme, ledgers, "uniform").delta + 1e-7
        assert sums.min() == pytest.approx(1.0)


@settings(deadline=None)
@given(st.sampled_from(["uniform", "cyclic", "fractional"]), st.integers(1, 4), st.integers(0, 9), st.data())
def test_stragglers_below_the_replication_lose_nothing(kind, replication, seed, data):
    scheme = Assignment(8, replication, kind, 32, seed)
    ledgers, whole = true_ledgers(scheme)
    for i in data.draw(st.sets(st.integers(0, 7), max_size=replication - 1)):
        del ledgers[i]
    found = recover(scheme, ledgers)
    assert found.coverage == 1.0
    assert not found.distrusted
    assert found.counts.sum() == 600
    assert found.weights.sum() == pytest.approx(whole.weight, rel=1e-12)


@pytest.mark.parametrize(
    ("fault", "name"),
    [(replayed, "duplicated"), (altered, "corrupted"), (cut_short, "partial"), (emptied, "partial")],
)
@pytest.mark.parametrize("scheme", [CYCLIC, PAIRS])
def test_a_faulty_shard_is_named_and_the_others_are_trusted(scheme, fault, name):
    ledgers, whole = true_ledgers(scheme)
    ledgers[4] = fault(ledgers[4])
    found = recover(scheme, ledgers)
    assert found.distrusted == {4: name}
    assert not found.trusted[4].any()
    assert found.coverage == 1.0
    assert (found.counts == whole.counts).all()


def test_a_partial_shard_counts_where_it_has_finished():
    ledgers, whole = true_ledgers(CYCLIC)
    held = np.flatnonzero(CYCLIC.matrix()[2])
    ledgers[2] = emptied(cut_short(ledgers[2], held[9:10]), held[10:])
    found = recover(CYCLIC, ledgers)
    assert found.distrusted == {2: "partial"}
    assert np.flatnonzero(found.trusted[2]).tolist() == held[:9].tolist()
    assert (found.counts == whole.counts).all()


def test_where_nobody_checks_a_flawed_shard_its_record_decides():
    """Of a partial shard's buckets without other holder, finished ones count if its work is bucket by bucket."""
    held = np.flatnonzero(PAIRS.matrix()[2])
    alone = np.flatnonzero(PAIRS.matrix()[2] & PAIRS.matrix()[3])
    ledgers, _ = true_ledgers(PAIRS)
    del ledgers[3]
    by_bucket = recover(PAIRS, {**ledgers, 2: emptied(ledgers[2], np.r_[held[0], alone[5:]])})
    assert by_bucket.distrusted == {2: "partial"}
    assert by_bucket.covered[alone].tolist() == [True] * 5 + [False] * (len(alone) - 5)
    by_row = recover(PAIRS, {**ledgers, 2: cut_short(ledgers[2])})
    assert not by_row.covered[alone].any()
    assert by_row.scale == pytest.approx(60 / by_row.covered.sum())


def test_shards_that_have_not_begun_do_not_outvote_one_that_has_finished():
    ledgers, whole = true_ledgers(CYCLIC)
    found = recover(CYCLIC, {**ledgers, 1: emptied(ledgers[1]), 2: emptied(ledgers[2])})
    assert found.distrusted == {1: "partial", 2: "partial"}
    assert (found.counts == whole.counts).all()


def test_the_majority_outvotes_a_fuller_entry():
    ledgers, whole = true_ledgers(CYCLIC)
    ledgers[5] = changed(ledgers[5], slice(None), lambda c: c + (c > 0), lambda c: c + np.uint64(99) * (c > 0))
    found = recover(CYCLIC, ledgers)
    assert found.distrusted == {5: "duplicated"}
    assert (found.counts == whole.counts).all()


def test_two_that_disagree_without_a_third_opinion_are_both_left_out():
    scheme = Assignment(2, 2, "cyclic", 16)
    ledgers, whole = true_ledgers(scheme)
    ledgers[1] = altered(ledgers[1], [3])
    found = recover(scheme, ledgers)
    assert found.distrusted == {0: "disputed", 1: "disputed"}
    assert np.flatnonzero(~found.covered).tolist() == [3]
    assert diagnose(scheme, ledgers).disputed[3]
    assert found.counts.sum() == whole.rows - whole.counts[3]


def test_no_answer_covers_nothing_and_invents_nothing():
    for kind in ("exact", "uniform", "lp"):
        found = recover(CYCLIC, {}, kind)
        assert (found.coverage, found.scale, found.delta) == (0.0, 1.0, 0.0)
        assert found.stragglers == tuple(range(6))
        assert not found.multipliers.any()


def test_no_data_is_covered_data():
    ledgers, _ = true_ledgers(CYCLIC, n=0)
    found = recover(CYCLIC, ledgers)
    assert found.coverage == 1.0
    assert found.distrusted == {}


def test_a_loss_is_scaled_only_if_buckets_are_random_samples():
    scheme = Assignment(5, 1, "cyclic", 50)
    ledgers, _ = true_ledgers(scheme)
    del ledgers[1]
    assert recover(scheme, ledgers).scale == pytest.approx(50 / 40)
    assert recover(scheme, ledgers, hashed=False).scale == 1.0


def test_the_uniform_vector_is_theorem_6():
    ledgers, _ = true_ledgers(CYCLIC)
    del ledgers[0], ledgers[1]
    found = recover(CYCLIC, ledgers, "uniform", delta=0.5)
    constant = 1 / ((1 - 0.5 / 2.5) * 3 * (1 - 2 / 6))
    np.testing.assert_allclose(found.multipliers[found.trusted], constant)
    assert found.delta == pytest.approx(3 / 1 - 1)  # of a bucket's three holders, between one and three are left


def test_property_1_on_matrices_with_known_slack():
    fractional = Assignment(6, 2, "fractional", 12).matrix()
    assert property1_delta(fractional)[1] == pytest.approx(0.0, abs=1e-9)
    # One shard holds both points, two others one each: b = (1, 0, 0) is exact.
    assert property1_delta(np.array([[1, 1], [1, 0], [0, 1]], bool))[1] == pytest.approx(0.0, abs=1e-9)
    # Two points alone and one together: b = (1, 1) is forced, and the shared point counts twice.
    b, delta = property1_delta(np.array([[1, 1, 0], [0, 1, 1]], bool))
    np.testing.assert_allclose(b, 1.0)
    assert delta == pytest.approx(1.0)
    assert property1_delta(np.zeros((3, 4), bool))[1] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ledgers": {6: Ledger.zero(60)}}, "ledgers: must be of shards 0 to 5, got 6"),
        ({"ledgers": {1: Ledger.zero(61)}}, "ledgers: must have 60 buckets, got 61 of shard 1"),
        ({"kind": "best"}, "kind: must be one of exact, uniform, lp, got 'best'"),
        ({"delta": 0.0}, r"delta: must be positive and finite, got 0\.0"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        recover(**{"assignment": CYCLIC, "ledgers": {}, **change})


ALL, NONE = np.ones(60, np.bool_), np.zeros(60, np.bool_)


@settings(deadline=None)
@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_shards_that_are_behind_have_no_say_where_another_has_finished(behind, dead):
    ledgers, whole = true_ledgers(CYCLIC)
    done = {i: NONE if i in behind else ALL for i in range(6) if i not in dead}
    ledgers = {i: cut_short(ledgers[i]) if i in behind else ledgers[i] for i in done}
    found = recover(CYCLIC, ledgers, finished=done)
    sure = CYCLIC.matrix()[[i for i in done if i not in behind]].any(axis=0)
    assert not found.distrusted, "to be behind is no fault"
    assert found.complete.tolist() == sure.tolist()
    assert found.coverage == sure.mean()
    assert found.counts[sure].tolist() == whole.counts[sure].tolist()
    assert found.responded == tuple(i for i in done if i not in behind)
    assert found.covered.tolist() == CYCLIC.matrix()[sorted(done)].any(axis=0).tolist()
    np.testing.assert_allclose(found.multipliers.sum(axis=0)[found.covered], 1.0)


def test_what_a_shard_has_finished_counts_where_it_is_behind_elsewhere():
    """Alone in a bucket because the other holder is dead, and behind a neighbour in another one."""
    ledgers, whole = true_ledgers(PAIRS)
    del ledgers[3]
    alone = PAIRS.matrix()[2] & PAIRS.matrix()[3]
    shared = PAIRS.matrix()[2] & ~PAIRS.matrix()[3]
    done = dict.fromkeys(ledgers, ALL) | {2: ~shared, 1: ~shared}
    ledgers[2] = cut_short(ledgers[2], shared)
    found = recover(PAIRS, ledgers, finished=done)
    assert found.covered.all()
    assert (found.counts == whole.counts).all(), "shard 1 is fuller where nobody has finished"
    assert (found.complete == ~shared).all()
    assert not found.distrusted
    assert (alone & found.trusted[2]).sum() == alone.sum()


def test_a_shard_that_holds_nothing_in_use_has_nothing_to_say():
    scheme = Assignment(4, 1, "cyclic", 8, parts=True)
    ledgers = {0: Ledger.zero(8)}
    used = np.arange(8) < 2
    found = recover(scheme, ledgers, hashed=False, finished={0: np.ones(8, np.bool_)}, in_use=used)
    assert (found.responded, found.stragglers, found.coverage) == ((0, 2, 3), (1,), 0.5)
    assert recover(scheme, {}, hashed=False, finished={}, in_use=used).stragglers == (0, 1)
    assert recover(scheme, {}, hashed=False, finished={}, in_use=np.zeros(8, np.bool_)).coverage == 1.0


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 1.0])
def test_who_is_trusted_survives_packing_in_the_smaller_of_two_ways(share):
    matrix = generator("packed", share).random((37, 91)) < share
    held = packed(matrix)
    assert held.nbytes <= min(8 * matrix.sum(), -(-matrix.size // 8))
    assert np.array_equal(unpacked(held, matrix.shape), matrix)


def test_ten_thousand_shards_of_as_many_parts_as_there_are_can_be_unpacked():
    shape, places = (10_000, 1 << 16), np.array([0, (1 << 16) + 1, 10_000 * (1 << 16) - 1])
    matrix = unpacked(places, shape)
    assert (matrix.shape, matrix[0, 0], matrix[1, 1], matrix[-1, -1]) == (shape, True, True, True)
    with pytest.raises(ValueError, match="shape: must be at most 1073741824 shards times buckets, got"):
        unpacked(places, (1 << 15, (1 << 15) + 1))
