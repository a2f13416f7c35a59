"""Sketches: Lemma 4 of the redundant assignment paper for every subspace, through any cuts and merges."""
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.datasets.structured import LowRank
from beam_coresets.hashing import generator
from beam_coresets.sampling import frequent_directions
from beam_coresets.sampling.frequent_directions import Relaxation, Sketch

EXACT = 1e-9  # relative to the squared norm: rounding


def residual(points, weights, basis, center=0.0):
    """Weighted squared distances to a subspace, by projection."""
    y = np.asarray(points, np.float64) - center
    return float(weights @ ((y - y @ basis.T @ basis) ** 2).sum(axis=1))


def squares(points, weights, affine=False):
    """The squared singular values of the weighted rows, about their mean if affine."""
    mean = weights @ points / weights.sum() if affine and weights.sum() > 0 else 0.0
    rows = (np.asarray(points, np.float64) - mean) * np.sqrt(weights)[:, None]
    return np.linalg.svd(rows, compute_uv=False) ** 2, rows


def random_basis(rng, r, d):
    return np.linalg.qr(rng.standard_normal((d, r)))[0].T


def made(seed, n, d, affine=False):
    """Points of uneven extents and weights, some of them zero; groups of rows in few directions, so that cuts hurt."""
    rng = generator("sketch data", seed)
    scale = 3.0 ** rng.integers(-2, 3, d)
    points = rng.standard_normal((n, d)) * scale * (rng.random((n, d)) < 0.5)
    points += 20.0 * affine * rng.standard_normal(d)
    return points, rng.integers(0, 4, n) / 2.0


@st.composite
def problems(draw):
    """A relaxation, points, and a random nesting of merges of their sketches, under little or no room."""
    r, affine = draw(st.integers(1, 3)), draw(st.booleans())
    d = draw(st.integers(r + 1, 12))
    relaxation = Relaxation(r, draw(st.sampled_from([0.3, 0.5, 1.0, 2.0])), affine)
    seed, pieces = draw(st.integers(0, 999)), draw(st.integers(1, 8))
    points, weights = made(seed, draw(st.integers(pieces, 120)), d, affine)
    room = draw(st.sampled_from([0, 8 * d * d * 2 // 3, 8 * d * d]))
    order = draw(st.permutations(range(pieces)))
    return relaxation, points, weights, np.array_split(np.arange(len(points)), pieces), order, room


def sketched(problem, nest):
    """The merged sketch; `nest(n)` says which two of n neighbours are next."""
    relaxation, points, weights, pieces, order, room = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequent_directions, "SKETCH_BYTES", room)
        parts = [relaxation.of(points[pieces[i]], weights[pieces[i]]) for i in order]
        while len(parts) > 1:
            at = nest(len(parts))
            parts[at : at + 2] = [relaxation.merge(parts[at], parts[at + 1])]
        return parts[0]


@settings(max_examples=150, deadline=None)
@given(problems(), st.data())
def test_lemma_4_holds_for_every_subspace_through_any_merges(problem, data):
    """cost(P, L) <= cost(S, L) + Delta <= (1 + delta) cost(P, L), and slack says by how much less than that."""
    relaxation, points, weights, *_ = problem
    found = sketched(problem, lambda n: data.draw(st.integers(0, n - 2)))
    sent = relaxation.relaxed(found)
    r, d, affine = relaxation.r, points.shape[1], relaxation.affine
    values, rows = squares(points, weights, affine)
    tiny, best = EXACT * max(1.0, float(weights @ (points**2).sum(axis=1))), values[r:].sum()
    assert 0 <= sent.slack <= sent.additive
    assert sent.slack <= relaxation.delta * best + tiny
    assert len(sent.points) <= relaxation.sent + affine
    lost = rows.T @ rows - found.rows.T @ found.rows
    worst = np.linalg.eigh(lost)[1][:, ::-1][:, :r].T  # where most has been lost
    leading = np.linalg.svd(rows)[2][:r]
    rng = generator("subspaces", len(points), d)
    bases = [worst, leading, *(random_basis(rng, r, d) for _ in range(4))]
    for basis in bases:
        through = rng.standard_normal(d) * 10 * affine
        cost = residual(points, weights, basis, through)
        middle = residual(sent.points, sent.weights, basis, through) + sent.additive
        assert cost - tiny <= middle <= cost + sent.slack + tiny
        assert middle <= (1 + relaxation.delta) * cost + tiny


@settings(max_examples=100, deadline=None)
@given(problems(), st.data())
def test_what_is_lost_is_small_in_every_direction(problem, data):
    """0 <= P^T P - rows^T rows <= T I and (m + 1 - r) T <= best cost (Ghashami et al. 2016, with merges)."""
    relaxation, points, weights, *_, room = problem
    found = sketched(problem, lambda n: data.draw(st.integers(0, n - 2)))
    values, rows = squares(points, weights, relaxation.affine)
    tiny = EXACT * max(1.0, float(weights @ (points**2).sum(axis=1)))
    lost = np.linalg.eigvalsh(rows.T @ rows - found.rows.T @ found.rows)
    assert lost.min() >= -tiny
    assert lost.max() <= found.shrinkage + tiny
    assert lost.sum() == pytest.approx(found.additive, abs=tiny)
    kept = max(relaxation.sent, min(points.shape[1], room // (8 * points.shape[1])))
    assert len(found.rows) <= kept
    assert (kept + 1 - relaxation.r) * found.shrinkage <= values[relaxation.r :].sum() + tiny
    assert found.weight == pytest.approx(weights.sum(), rel=1e-12)


def test_in_one_piece_it_is_the_papers_relaxed_coreset():
    points = LowRank(d=30, rank=4).points(500).astype(np.float64)
    relaxation = Relaxation(4, 0.5)
    sent = relaxation.relaxed(relaxation.of(points, np.ones(500)))
    values, _ = squares(points, np.ones(500))
    _, singular, right = np.linalg.svd(points, full_matrices=False)
    assert (relaxation.sent, len(sent.points)) == (11, 11)  # r + ceil(r / delta) - 1
    assert sent.weights.tolist() == [500 / 11] * 11
    rows = sent.points * np.sqrt(sent.weights)[:, None]
    signs = np.sign((rows * right[:11]).sum(axis=1))
    np.testing.assert_allclose(rows * signs[:, None], singular[:11, None] * right[:11], atol=1e-8)
    assert sent.additive == pytest.approx(values[11:].sum(), rel=1e-9)
    assert sent.slack == pytest.approx(values[11:15].sum(), rel=1e-9)


def test_a_direction_that_comes_a_little_at_a_time_is_not_lost():
    """Where every merge just cut off, all rows of the last direction would be dropped one after another."""
    relaxation, d = Relaxation(1, 0.5), 3
    rows = np.zeros((400, d))
    rows[0, 0], rows[1, 1], rows[2:, 2] = 3.0, 3.0, 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequent_directions, "SKETCH_BYTES", 0)
        assert relaxation.kept(d) == 2
        parts = [relaxation.of(row[None], np.ones(1)) for row in rows]
        found = relaxation.merge_all(parts)
    assert abs(found.rows[0, 2]) > 0.9 * np.sqrt(398)


@pytest.mark.parametrize("affine", [False, True])
def test_the_points_that_are_sent_have_the_weight_the_mean_and_the_second_moments(affine):
    points, weights = made(5, 300, 8, affine)
    relaxation = Relaxation(2, 0.1, affine)  # room for all directions: nothing is lost
    found = relaxation.of(points, weights)
    sent = relaxation.relaxed(found)
    assert (sent.additive, sent.slack) == (0.0, 0.0)
    assert len(sent.points) == 8 + affine
    assert sent.weights.sum() == pytest.approx(weights.sum(), rel=1e-12)
    if affine:
        np.testing.assert_allclose(found.mean, weights @ points / weights.sum(), rtol=1e-12)
        np.testing.assert_allclose(sent.weights @ sent.points, weights @ points, rtol=1e-9)
    of_data, of_sent = ((p * w[:, None]).T @ p for p, w in ((points, weights), (sent.points, sent.weights)))
    np.testing.assert_allclose(of_sent, of_data, atol=1e-9 * np.trace(of_data))


def test_a_large_offset_costs_no_digits():
    points, weights = made(2, 2000, 6)
    relaxation = Relaxation(2, 0.5, affine=True)
    at_home = relaxation.of(points, weights)
    parts = [relaxation.of(points[i::7] + 1e7, weights[i::7]) for i in range(7)]
    far = functools.reduce(relaxation.merge, parts)
    lengths = (at_home.rows**2).sum(axis=1), (far.rows**2).sum(axis=1)
    np.testing.assert_allclose(*lengths, rtol=1e-7)
    np.testing.assert_allclose(far.mean - 1e7, at_home.mean, atol=1e-6)


def test_weights_are_repetitions_and_weightless_rows_are_nothing():
    points, weights = made(3, 60, 5)
    for affine in (False, True):
        relaxation = Relaxation(1, 0.5, affine)
        weighted = relaxation.of(points, weights)
        halves = np.repeat(points, (2 * weights).astype(int), axis=0)
        np.testing.assert_allclose(
            (relaxation.of(halves, np.full(len(halves), 0.5)).rows ** 2).sum(axis=1), (weighted.rows**2).sum(axis=1)
        )
        nothing = relaxation.of(points, np.zeros(60))
        assert relaxation.merge(nothing, weighted) is weighted
        assert relaxation.merge(weighted, relaxation.merge_all([])) is weighted
        assert len(relaxation.relaxed(nothing).points) == 0


@pytest.mark.parametrize("affine", [False, True])
def test_rows_at_one_place_are_one_point(affine):
    relaxation = Relaxation(1, 1.0, affine)
    sent = relaxation.relaxed(relaxation.of(np.tile([[3.0, 4.0]], (10, 1)) * affine, np.full(10, 2.0)))
    assert sent.points.tolist() == [[3.0 * affine, 4.0 * affine]]
    assert (sent.weights.tolist(), sent.additive) == ([20.0], 0.0)


@pytest.mark.parametrize("affine", [False, True])
def test_wide_rows_are_sketched_without_a_matrix_of_their_width(affine, monkeypatch):
    """As many columns as rows, and cuts on the way; float32 counts as the numbers it holds."""
    points = LowRank(d=60, rank=5, offset=3.0).points(700)
    weights = np.ones(700)
    relaxation = Relaxation(3, 0.5, affine)
    whole = relaxation.relaxed(relaxation.of(points, weights))
    monkeypatch.setattr(frequent_directions, "MAX_GRAM", 59)
    monkeypatch.setattr(frequent_directions, "SKETCH_BYTES", 0)
    monkeypatch.setattr(frequent_directions, "GRAM_BYTES", 0)
    cut = relaxation.of(points, weights)
    assert cut.rows.shape == (8, 60)
    assert cut.shrinkage > 0
    values, _ = squares(points, weights, affine)
    sent = relaxation.relaxed(cut)
    for found in (whole, sent):
        assert found.slack <= 0.5 * values[3:].sum()
    basis = random_basis(generator("wide"), 3, 60)
    cost = residual(points, weights, basis)
    for found in (whole, sent):
        assert cost <= residual(found.points, found.weights, basis) + found.additive <= cost + found.slack


def test_memory_is_bounded_by_the_rows_that_are_kept():
    relaxation = Relaxation(5, 0.1)
    assert (relaxation.kept(3), relaxation.kept(200), relaxation.kept(512)) == (54, 200, 512)
    assert relaxation.kept(1024) == 256
    assert relaxation.kept(100_000) == 54
    instance, found = LowRank(d=40), relaxation.merge_all([])
    for block in instance.blocks(20_000, 1000):
        found = relaxation.merge(found, relaxation.of(block, np.ones(len(block))))
        assert found.nbytes <= 40 * 40 * 8
    assert found.weight == 20_000


@pytest.mark.parametrize("affine", [False, True])
def test_arrays_bring_a_sketch_back(affine):
    found = Relaxation(1, 0.5, affine).of(*made(1, 30, 4, affine))
    arrays = found.arrays("x_")
    back = Sketch.from_arrays(arrays, "x_")
    assert back.arrays("x_").keys() == arrays.keys()
    for name, array in back.arrays("x_").items():
        assert array is arrays[name] is None or np.array_equal(array, arrays[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Relaxation(0), "r: must be at least 1 with summary pca, got 0"),
        (lambda: Relaxation(2, 0.0), "delta: must be positive and finite, got 0.0"),
        (lambda: Relaxation(2, float("nan")), "delta: must be positive and finite, got nan"),
        (
            lambda: Relaxation(1).merge_all([Relaxation(1).of(np.ones((2, d)), np.ones(2)) for d in (3, 4)]),
            r"points: must all have the same number of columns, got \[3, 4\]",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
