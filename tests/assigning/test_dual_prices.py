"""Prices for all rows from few of them: what a survey stands for, exact plans of all rows, and how passes narrow it."""
import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.assigning import dual_prices
from beam_coresets.assigning.cluster_assignment import Priced, label_numbers
from beam_coresets.assigning.dual_prices import Survey, Surveyor, reach_of, reprice, violations
from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.solvers.constrained.constraints import Constraint, Fair
from beam_coresets.solvers.constrained.solver import cost_matrix
from beam_coresets.solvers.constrained.transport import transport

CENTERS = np.array([[0.0, 0], [6, 0], [0, 6], [9, 9]])


def rows(n, seed=0, labels=True, weights=None):
    """n points, most of them around the first of four centers; their labels lean to one side."""
    rng = generator("rows", seed)
    points = CENTERS[rng.choice(4, n, p=[0.6, 0.2, 0.1, 0.1])] + rng.standard_normal((n, 2)) * 2
    names = np.where(rng.random(n) < np.where(points[:, 0] > 2, 0.7, 0.2), "red", "blue")
    extras = pa.table({"group": names}) if labels else None
    own = np.ones(n) if weights is None else weights(rng, n)
    return PointBlock(points.astype(np.float32), own, np.arange(n, dtype=np.uint64), Span(0, 0), None, extras)


def parts_of(block, size):
    return [block.take(np.arange(low, min(low + size, len(block)))) for low in range(0, len(block), size)]


def surveyed(surveyor, blocks):
    tally = surveyor.nothing()
    for block in blocks:
        tally = tally.merge([surveyor.tally(block)])
    return tally.survey()


def sizes(priced, block):
    table = np.zeros(priced.prices.shape)
    np.add.at(table, (label_numbers(block, priced.labels), priced.clusters_of(block)[0]), block.weights)
    return table


def cost(priced, block):
    return float(block.weights @ priced.clusters_of(block)[1] ** priced.z)


def test_a_survey_of_all_rows_has_all_rows():
    block = rows(500, weights=lambda rng, n: rng.integers(0, 3, n).astype(float))
    survey = surveyed(Surveyor(4, 500, labelled=True), parts_of(block, 70))
    heavy = block.weights > 0
    assert survey.complete
    assert len(survey.points) == heavy.sum()
    assert survey.label_weights.sum() == block.weights.sum()
    assert survey.labels == ("blue", "red")
    assert (np.diff(survey.label) >= 0).all()
    order = np.argsort(survey.ids)
    assert np.array_equal(survey.points[order], block.points[heavy])
    assert np.array_equal(survey.weights[order], block.weights[heavy])


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_survey_depends_on_the_rows_alone(data):
    block = rows(400, seed=data.draw(st.integers(0, 5)))
    priced = Priced(CENTERS, np.array([[1.0, 0, 0, -2], [0, 0, 3, 0]]), ("blue", "red"))
    surveyor = Surveyor(4, data.draw(st.integers(20, 200)), True, priced, np.full((2, 4, 4), 1.5))
    once = surveyed(surveyor, [block])
    blocks = data.draw(st.permutations(parts_of(block, data.draw(st.integers(20, 150)))))
    cut = data.draw(st.integers(0, len(blocks)))
    tallies = [surveyor.nothing().merge(map(surveyor.tally, some)) for some in (blocks[:cut], blocks[cut:])]
    again = surveyor.nothing().merge(tallies).survey()
    for field in dataclasses.fields(Survey):
        assert np.array_equal(getattr(once, field.name), getattr(again, field.name)), field.name


def test_a_survey_stands_for_the_exact_weight_of_each_label_in_each_cluster():
    block = rows(20_000, weights=lambda rng, n: rng.exponential(size=n))
    priced = Priced(CENTERS, np.array([[4.0, 0, -3, 0], [0, 0, 3, 0]]), ("blue", "red"))
    survey = surveyed(Surveyor(4, 400, True, priced, np.full((2, 4, 4), 0.5)), parts_of(block, 3000))
    assert not survey.complete
    assert len(survey.points) <= 500
    index = priced.cheapest(survey.points, survey.label)[0]
    table = np.zeros((2, 4))
    np.add.at(table, (survey.label, index), survey.weights)
    assert table == pytest.approx(sizes(priced, block), rel=1e-9)
    assert survey.label_weights == pytest.approx(table.sum(axis=1))


CONSTRAINTS = {
    "balanced": Constraint(balanced=0.0),
    "sizes": Constraint(min_size=(100, 200, 150, 250), max_size=(400, 300, 1000, 260)),
    "gamma": Constraint(gamma=(250.0, 125.0, 125.0, 500.0)),
    "fair": Constraint(fair=(Fair("red", 0.38, 0.42),)),
    "fair and balanced": Constraint(balanced=0.1, fair=(Fair("red", 0.3, 0.5), Fair("blue", 0.5, 0.7))),
    "diverse": Constraint(diversity=2, groups=None, max_size=400),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("z", [1.0, 2.0])
def test_of_all_rows_the_assignment_is_the_optimum_up_to_points_that_it_divides(name, z):
    """Every row goes where the exact plan has it; a divided one to either side, at most one a bound that binds."""
    constraint, block = CONSTRAINTS[name], rows(1000)
    if name == "diverse":  # no label may be more than half of a cluster
        block = block.take(np.argsort(block.extras.column("group").to_numpy(), kind="stable")[100:900])
        names = np.where(np.arange(800) < 400, "blue", "red")
        block = dataclasses.replace(block, extras=pa.table({"group": names}))
    survey = surveyed(Surveyor(4, 5000, constraint.labelled), [block])
    priced = reprice(survey, constraint, CENTERS, z)
    bounds = constraint.bounds(survey.labels, survey.label_weights, 4)
    best = transport(cost_matrix(survey.points, CENTERS, z), survey.weights, survey.label, bounds)
    table, whole = sizes(priced, block), best.split == 0
    assert bounds.missed(table).max() <= (1e-6 if whole else 2.0)
    assert cost(priced, block) == pytest.approx(best.cost, rel=1e-9 if whole else 5e-3)
    if name in ("balanced", "gamma"):
        assert whole
        assert np.allclose(table[0], [250] * 4 if name == "balanced" else constraint.gamma)


def test_rows_that_are_alike_are_divided():
    """Four places of 1,000 equal rows, all to be spread over four clusters by prices that tie them all."""
    points = np.repeat(np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32), 1000, axis=0)
    block = PointBlock(points, np.ones(4000), np.arange(4000, dtype=np.uint64), Span(0, 0))
    centers = np.array([[0.0, 0], [5, 0], [0, 5], [5, 5]])
    constraint = Constraint(gamma=(700.0, 900.0, 1100.0, 1300.0))
    survey = surveyed(Surveyor(4, 5000), parts_of(block, 300))
    priced = reprice(survey, constraint, centers)
    assert np.abs(sizes(priced, block)[0] - constraint.gamma).max() <= 2
    best = transport(cost_matrix(points, centers), block.weights, np.zeros(4000, int),
                     constraint.bounds(("",), [4000.0], 4))  # fmt: skip
    assert cost(priced, block) == pytest.approx(best.cost, rel=1e-3)


@pytest.mark.parametrize("constraint", [
    Constraint(balanced=0.02), Constraint(balanced=0.1, fair=(Fair("red", 0.38, 0.42),)),
], ids=["balanced", "fair"])  # fmt: skip
def test_passes_over_all_rows_make_up_for_the_error_of_a_sample(constraint):
    """Of 60,000 rows no more than 10,000 are ever in hand; each pass divides the violation by ten or more."""
    block = rows(60_000)
    blocks, surveyor, violation = parts_of(block, 10_000), Surveyor(4, 8000, constraint.labelled), []
    survey = surveyed(surveyor, blocks)
    bounds = constraint.bounds(survey.labels, survey.label_weights, 4)
    for _ in range(3):
        priced = reprice(survey, constraint, CENTERS)
        violation.append(bounds.violation(sizes(priced, block)))
        survey = surveyed(dataclasses.replace(surveyor, priced=priced, reach=reach_of(priced, survey)), blocks)
    assert violation[0] > 0.01
    assert violation[1] < 0.004
    assert violation[2] < 0.0004


def test_where_all_near_rows_are_gathered_the_sizes_are_right(monkeypatch):
    """With many rows for one plan, too: prices of some tell which rows the plan is made of."""
    monkeypatch.setattr(dual_prices, "FEW_ROWS", 4000)
    block, constraint = rows(60_000), Constraint(balanced=0.0)
    surveyor = Surveyor(4, 20_000)
    survey = surveyed(surveyor, [block])
    priced = reprice(survey, constraint, CENTERS)
    nearer = dataclasses.replace(surveyor, priced=priced, reach=reach_of(priced, survey))
    survey = surveyed(nearer, [block])
    assert len(survey.points) < 25_000  # not all that it might have
    final = reprice(survey, constraint, CENTERS)
    assert np.abs(sizes(final, block) - 15_000).max() <= 30
    best = transport(cost_matrix(block.points, CENTERS), block.weights, np.zeros(60_000, int),
                     constraint.bounds(("",), [60_000.0], 4))  # fmt: skip
    assert cost(final, block) == pytest.approx(best.cost, rel=1e-3)


def test_plans_for_few_rows_each_come_to_prices_for_many(monkeypatch):
    """Shares of labels take linear programs, which are kept small; each starts from the prices of the one before."""
    for name, value in (("FEW_IN_PROGRAM", 1500), ("ROWS_A_PRICE", 10)):
        monkeypatch.setattr(dual_prices, name, value)
    planned, sized = dual_prices._planned, []

    def counted(few, *rest):
        sized.append(len(few.points))
        return planned(few, *rest)

    monkeypatch.setattr(dual_prices, "_planned", counted)
    block, constraint = rows(30_000), Constraint(balanced=0.1, fair=(Fair("red", 0.38, 0.42),))
    survey = surveyed(Surveyor(4, 30_000, labelled=True), [block])
    priced = reprice(survey, constraint, CENTERS)
    bounds = constraint.bounds(survey.labels, survey.label_weights, 4)
    assert bounds.violation(sizes(priced, block)) <= 5e-4
    assert max(sized) <= 1500
    assert len(sized) > 2
    again = reprice(survey, constraint, CENTERS, start=priced, reach=reach_of(priced, survey) / 16)
    assert bounds.violation(sizes(again, block)) <= 5e-4
    best = transport(cost_matrix(survey.points, CENTERS), survey.weights, survey.label, bounds)
    assert cost(priced, block) == pytest.approx(best.cost, rel=2e-3)


def test_violations_are_those_of_the_bounds_one_by_one():
    constraint = Constraint(balanced=0.1, fair=(Fair("red", 0.3, 0.5),))
    bounds = constraint.bounds(("blue", "red"), [60.0, 40.0], 4)
    table = np.array([[20.0, 10, 20, 10], [20, 5, 5, 10]])
    missed = violations(bounds, table)
    assert len(missed) == len(bounds)
    assert missed.max() == bounds.violation(table)
    sized = dict(zip(bounds.cluster[np.isnan(bounds.share)], missed[np.isnan(bounds.share)], strict=True))
    assert sized[0] == pytest.approx(40 / 27.5 - 1)
    assert sized[1] == pytest.approx(1 - 15 / 22.5)


def test_data_that_cannot_meet_the_constraint():
    survey = surveyed(Surveyor(4, 100, True), [rows(50)])
    with pytest.raises(ValueError, match="group must be in the data"):
        reprice(survey, Constraint(fair=(Fair("green", 0.1, 0.2),)), CENTERS)
    with pytest.raises(ValueError, match="max_size: must be possible to meet"):
        reprice(survey, Constraint(max_size=5), CENTERS)
