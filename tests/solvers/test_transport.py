import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from oracle import best_assignment, program

from beam_coresets.datasets.synthetic import SSet
from beam_coresets.solvers.constrained.constraints import Constraint, Fair
from beam_coresets.solvers.constrained.solver import cost_matrix
from beam_coresets.solvers.constrained.transport import duals_bound, prices_of, transport, transport_below

SIZES = [
    Constraint(balanced=0.1),
    Constraint(balanced=0.0),
    Constraint(min_size=3),
    Constraint(max_size=5),
    Constraint(min_size=(0.5, 2, 1), max_size=(3, 9, 6)),
    Constraint(max_size=(2, 1e9, 0)),
]
LABELLED = [
    Constraint(fair=(Fair("a", 0.2, 0.5), Fair("b", 0.25, 0.6))),
    Constraint(fair=(Fair("a", 0.3, 0.3),)),
    Constraint(fair=(Fair("a", (0.0, 0.3, 0.2), (0.2, 1.0, 0.9)),), min_size=1),
    Constraint(diversity=2),
    Constraint(diversity=3, diversity_reading="least"),
    Constraint(diversity=2, balanced=0.2),
    Constraint(fair=(Fair("x", 0.55, 0.8), Fair("y", 0.1)), groups={"a": ("x",), "b": ("x", "y"), "c": ()}),
    Constraint(fair=(Fair("b", 0.1, 0.5),), max_size=6, min_size=2),
]


def instance(seed, n, k=3, m=3, unit=False):
    """Points in the plane with labels by place, so that constraints bind; weights add up to n."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 2))
    label = np.digitize(points[:, 0] + 0.7 * rng.standard_normal(n), np.linspace(-1, 1, m + 1)[1:-1])
    label[:m] = np.arange(m)
    weights = np.ones(n) if unit else rng.exponential(size=n) + 0.1
    return cost_matrix(points, rng.standard_normal((k, 2))), weights * (n / weights.sum()), label


def bounds_of(constraint, weights, label, k=3, m=3):
    if not constraint.labelled:
        return constraint.bounds([""], np.array([weights.sum()]), k)
    return constraint.bounds(list("abcdef"[:m]), np.bincount(label, weights, m), k)


def solved(constraint, cost, weights, label):
    label = label if constraint.labelled else np.zeros_like(label)
    bounds = bounds_of(constraint, weights, label)
    return transport(cost, weights, label, bounds), bounds, label


def check(found, cost, weights, label, bounds, tolerance=1e-9):
    """The flow keeps to the bounds, and the prices prove that none is cheaper."""
    scale = weights @ cost.max(axis=1)
    np.testing.assert_allclose(np.bincount(found.rows, found.amounts, len(weights)), weights, rtol=1e-9)
    assert (found.amounts > 0).all()
    assert bounds.violation(found.table(label)) <= 1e-8
    assert found.cost == pytest.approx(found.amounts @ cost[found.rows, found.clusters], rel=1e-12, abs=1e-12)
    reduced = cost + found.prices[label]
    assert found.cost == pytest.approx(weights @ reduced.min(axis=1) + found.offset, abs=tolerance * scale)
    # Complementary slackness: weight is only where it is cheapest, a price is only on a bound that is met exactly.
    paid = reduced[found.rows, found.clusters] - reduced.min(axis=1)[found.rows]
    assert found.amounts @ paid <= tolerance * scale
    held = bounds.matrix @ found.table(label).ravel()
    at = np.where(found.duals > 0, bounds.low, bounds.high)
    left = np.where(found.duals == 0, 0.0, found.duals * (held - np.where(found.duals == 0, held, at)))
    assert (np.abs(left) <= tolerance * scale).all()
    np.testing.assert_allclose(found.prices, prices_of(found.duals, bounds), atol=1e-12 * cost.max())
    assert found.offset == pytest.approx(duals_bound(found.duals, bounds), abs=1e-9 * scale)


@pytest.mark.parametrize("constraint", SIZES + LABELLED, ids=Constraint.text)
@given(seed=st.integers(0, 2**32), n=st.integers(9, 40))
@settings(max_examples=15)
def test_the_plan_is_the_linear_programs_optimum_and_its_prices_prove_it(constraint, seed, n):
    cost, weights, label = instance(seed, n)
    weights *= 9 / n  # what the absolute bounds are made for
    label = label if constraint.labelled else np.zeros_like(label)
    bounds = bounds_of(constraint, weights, label)
    known = program(cost, weights, label, bounds)
    if known is None:
        with pytest.raises(ValueError, match="must be possible to meet"):
            transport(cost, weights, label, bounds)
        return
    found = transport(cost, weights, label, bounds)
    assert found.cost == pytest.approx(known, rel=1e-8, abs=1e-10)
    check(found, cost, weights, label, bounds)


@given(seed=st.integers(0, 2**32), n=st.integers(3, 8), low=st.integers(0, 2), extra=st.integers(0, 3))
@settings(max_examples=25)
def test_whole_sizes_and_unit_weights_leave_points_whole(seed, n, low, extra):
    """A minimum-cost flow with whole bounds has a whole optimum: that of all assignments."""
    cost, weights, label = instance(seed, n, unit=True, m=1)
    high = max(-(-n // 3), low) + extra
    constraint = Constraint(min_size=min(low, n // 3), max_size=high)
    bounds = bounds_of(constraint, weights, label, m=1)
    found = transport(cost, weights, label, bounds)
    assert found.cost == pytest.approx(best_assignment(cost, weights, label, bounds), rel=1e-9)


@given(seed=st.integers(0, 2**32), labelled=st.booleans())
@settings(max_examples=15)
def test_any_prices_bound_the_cost_from_below_and_any_start_leads_to_it(seed, labelled):
    cost, weights, label = instance(seed, 30)
    constraint = Constraint(balanced=0.2, fair=(Fair("a", 0.1, 0.7),) if labelled else ())
    try:
        found, bounds, label = solved(constraint, cost, weights, label)
    except ValueError:  # a drawn label weighs too much to be so small a share of three clusters
        reject()
    rng = np.random.default_rng(seed)
    duals = rng.standard_normal(len(bounds)) * cost.mean()
    duals = np.where(np.isinf(bounds.low), -abs(duals), np.where(np.isinf(bounds.high), abs(duals), duals))
    reduced = cost + prices_of(duals, bounds)[label]
    assert weights @ reduced.min(axis=1) + duals_bound(duals, bounds) <= found.cost * (1 + 1e-9)
    again = transport(cost, weights, label, bounds, duals)
    assert again.cost == pytest.approx(found.cost, rel=1e-9)
    check(again, cost, weights, label, bounds)


@pytest.mark.parametrize("n", [500, 4000])
@pytest.mark.parametrize(
    "constraint",
    [
        Constraint(balanced=0.05),
        Constraint(fair=(Fair("a", 0.35, 0.5), Fair("c", 0.25, 0.45))),
        Constraint(diversity=2),
    ],
    ids=Constraint.text,
)
def test_many_points_are_assigned_just_as_exactly(constraint, n):
    cost, weights, label = instance(n, n, k=6)
    label = label if constraint.labelled else np.zeros_like(label)
    bounds = bounds_of(constraint, weights, label, k=6)
    found = transport(cost, weights, label, bounds)
    check(found, cost, weights, label, bounds)
    assert found.cost > 1.001 * weights @ cost.min(axis=1)
    assert found.split <= len(bounds)


@pytest.mark.parametrize("labelled", [False, True])
def test_ties_everywhere(labelled):
    """Points on a grid, half of them twice, and a center that is there twice: many optima, one cost."""
    grid = np.array(list(itertools.product(range(12), range(12))), float)
    points = np.concatenate([grid, grid[::2]])
    centers = np.array([[0.0, 0], [0, 0], [11, 11], [5, 6], [4, 7]])
    cost = cost_matrix(points, centers)
    label, weights = np.arange(len(points)) % 2, np.ones(len(points))
    constraint = Constraint(balanced=0.02, fair=(Fair("a", 0.45, 0.6),) if labelled else ())
    label = label if labelled else 0 * label
    bounds = bounds_of(constraint, weights, label, k=5, m=2)
    found = transport(cost, weights, label, bounds)
    assert found.cost == pytest.approx(program(cost, weights, label, bounds), rel=1e-9)
    check(found, cost, weights, label, bounds)


def test_specks_do_not_go_in_circles():
    """Bounds that are no multiple of the points' weights leave specks of points behind, and ties lead around them."""
    points = np.round(SSet(seed=4).points(1500)).astype(float)
    rng = np.random.default_rng(0)
    bounds = Constraint(balanced=0.02).bounds([""], np.array([1500.0]), 15)
    centers, duals, weights = points[:15].copy(), None, np.ones(1500)
    for _ in range(40):
        centers[rng.integers(15)] = points[rng.integers(1500)]
        cost = cost_matrix(points, centers)
        found = transport(cost, weights, np.zeros(1500, int), bounds, duals)
        duals = found.duals
        assert found.cost == pytest.approx(weights @ (cost + found.prices).min(axis=1) + found.offset, rel=1e-9)


def test_points_of_weight_zero_are_nowhere():
    cost, weights, label = instance(1, 30)
    found, bounds, label = solved(SIZES[0], cost, weights, label)
    more = transport(np.concatenate([cost, cost[:5] + 1]), np.append(weights, np.zeros(5)), np.zeros(35, int), bounds)
    assert more.cost == pytest.approx(found.cost)
    assert more.rows.max() < 30


def test_no_bounds_leave_every_point_at_its_nearest_center():
    cost, weights, label = instance(2, 30)
    found, _, _ = solved(Constraint(), cost, weights, label)
    np.testing.assert_array_equal(found.clusters, cost.argmin(axis=1))
    assert found.cost == pytest.approx(weights @ cost.min(axis=1))
    assert found.split == 0


@pytest.mark.parametrize("constraint", [SIZES[0], LABELLED[0]], ids=Constraint.text)
def test_below_a_ceiling_or_not_at_all(constraint):
    cost, weights, label = instance(3, 40)
    found, bounds, label = solved(constraint, cost, weights, label)
    assert transport_below(0.99 * found.cost, cost, weights, label, bounds) is None
    below = transport_below(1.01 * found.cost, cost, weights, label, bounds)
    assert below is not None
    assert below.cost == pytest.approx(found.cost)


def test_bad_input_is_refused():
    cost, weights, label = instance(4, 20)
    _, bounds, label = solved(SIZES[0], cost, weights, label)
    with pytest.raises(ValueError, match=r"^cost: must be points times 3 clusters"):
        transport(cost[:, :2], weights, label, bounds)
    with pytest.raises(ValueError, match=r"^cost, weights: must be finite"):
        transport(np.where(cost == cost.max(), np.nan, cost), weights, label, bounds)
    with pytest.raises(ValueError, match=r"^cost, weights: must be finite"):
        transport(cost, -weights, label, bounds)
    with pytest.raises(ValueError, match=r"^balanced: must be possible to meet together with the rest"):
        transport(cost, 2 * weights, label, bounds)
    unlike = dataclasses.replace(bounds, low=bounds.low + 10, high=bounds.high + 5)
    with pytest.raises(ValueError, match=r"^balanced: must be possible to meet"):
        transport(cost, weights, label, unlike)
