import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_transport import LABELLED, SIZES, bounds_of, instance

from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.rounding import rounded
from beam_coresets.solvers.constrained.transport import transport


@pytest.mark.parametrize("constraint", [SIZES[0], SIZES[1], LABELLED[0], LABELLED[3]], ids=Constraint.text)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_whole_points_stay_where_the_plan_has_them(constraint, seed):
    cost, weights, label = instance(seed, 60)
    label = label if constraint.labelled else np.zeros_like(label)
    bounds = bounds_of(constraint, weights, label)
    try:
        bounds.check()
    except ValueError:
        return
    flow = transport(cost, weights, label, bounds)
    found = rounded(flow, cost, weights, label, bounds)
    counts = np.bincount(flow.rows)
    whole = counts[flow.rows] == 1
    np.testing.assert_array_equal(found.index[flow.rows[whole]], flow.clusters[whole])
    assert found.split == flow.split == (counts > 1).sum()
    # Points only go where some of them is, and what moves is at most all of the split points.
    assert all(found.index[row] in flow.clusters[flow.rows == row] for row in np.flatnonzero(counts > 1))
    heaviest = weights[counts > 1].max(initial=0.0)
    assert found.moved <= found.split * heaviest + 1e-9
    stayed = flow.amounts[found.index[flow.rows] == flow.clusters].sum()
    assert found.moved == pytest.approx(weights.sum() - stayed, abs=1e-9)
    table = np.zeros((len(bounds.labels), bounds.k))
    np.add.at(table, (label, found.index), weights)
    assert found.violation == pytest.approx(bounds.violation(table))
    np.testing.assert_allclose(found.flow.table(label), table)
    assert found.cost == pytest.approx(weights @ cost[np.arange(60), found.index])
    assert found.flow.split == 0
    # No bound is missed by more than what could come or go.
    assert bounds.missed(table).max() <= found.moved + 1e-7


def test_a_plan_of_whole_points_is_left_alone():
    cost, weights, label = instance(5, 30, unit=True, m=1)
    bounds = bounds_of(Constraint(min_size=10, max_size=10), weights, label, m=1)
    found = rounded(transport(cost, weights, label, bounds), cost, weights, label, bounds)
    assert (found.split, found.moved, found.violation) == (0, 0.0, 0.0)


def test_a_split_point_goes_where_it_does_least_harm():
    """Most of the heavy point is in the first cluster, which it would overfill by more than the second."""
    cost = np.array([[0.0, 1.0], [0.0, 9.0], [9.0, 0.0]])
    weights, label = np.array([10.0, 50.0, 20.0]), np.zeros(3, int)
    bounds = Constraint(max_size=(56.0, 80.0)).bounds([""], np.array([80.0]), 2)
    flow = transport(cost, weights, label, bounds)
    assert flow.table(label)[0].tolist() == [56.0, 24.0]
    found = rounded(flow, cost, weights, label, bounds)
    assert found.index.tolist() == [1, 0, 1]
    assert (found.split, found.moved, found.violation) == (1, 6.0, 0.0)


def test_points_of_weight_zero_are_in_no_cluster():
    cost, weights, label = instance(6, 10, m=1)
    weights[3] = 0
    bounds = bounds_of(Constraint(balanced=0.1), weights, label, m=1)
    found = rounded(transport(cost, weights, label, bounds), cost, weights, label, bounds)
    assert found.index[3] == -1
    assert (np.delete(found.index, 3) >= 0).all()
