import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.solvers.constrained.constraints import Constraint, Fair

shares = st.floats(0, 1)
weights = st.floats(0, 1e9)
names = st.text(st.characters(codec="utf-8"), max_size=6)


@st.composite
def fairs(draw):
    low, high = sorted([draw(shares), draw(shares)])
    if draw(st.booleans()):
        return Fair(draw(names), low, high)
    return Fair(draw(names), (low, low / 2), (high, 1.0))


@st.composite
def constraints(draw):
    low, high = sorted([draw(weights), draw(weights)])
    return Constraint(
        min_size=draw(st.sampled_from([None, low, (low, low / 3), (low,)])),
        max_size=draw(st.sampled_from([None, high])),
        balanced=draw(st.none() | st.floats(0, 5)),
        fair=tuple(draw(st.lists(fairs(), max_size=3, unique_by=lambda fair: fair.group))),
        groups=draw(st.none() | st.dictionaries(names, st.lists(names.filter(bool), max_size=2), min_size=1)),
        diversity=draw(st.none() | st.integers(1, 9)),
        diversity_reading=draw(st.sampled_from(["most", "least"])) if draw(st.booleans()) else "most",
        gamma=draw(st.none() | st.lists(weights, min_size=1, max_size=3).map(tuple)),
    )


@given(constraints())
def test_text_says_all_and_parses_back(constraint):
    text = constraint.text()
    read = Constraint.parse(text)
    if constraint.diversity is None:  # a reading without l says nothing
        read = Constraint(**{**vars(read), "diversity_reading": constraint.diversity_reading})
    assert read == constraint
    assert "\n" not in text


def test_text_is_readable():
    constraint = Constraint(balanced=0.2, fair=(Fair("red", 0.3, 0.6),), diversity=2, diversity_reading="least")
    assert constraint.text() == "balanced=0.2 fair=red:0.3:0.6 diversity=2:least"
    assert Constraint().text() == ""


@pytest.mark.parametrize("text", ["weight=3", "balanced=x", "fair=a:0.1", "min_size", "fair=a:0.5:0.2", "diversity=2"])
def test_what_is_no_constraint_does_not_parse(text):
    with pytest.raises(ValueError, match=r"^constraint: must be a line that text\(\) wrote, got"):
        Constraint.parse(text)


NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constraint(min_size=-1), "min_size: must be not negative, got -1.0"),
        (lambda: Constraint(min_size=NAN), "min_size: must be not negative, got nan"),
        (lambda: Constraint(max_size=(3, NAN)), "max_size: must be not negative, got nan"),
        (lambda: Constraint(max_size=()), "max_size: must be not negative, got nothing"),
        (lambda: Constraint(min_size=5, max_size=4), "min_size: must be at most max_size, got 5 and 4"),
        (lambda: Constraint(min_size=(1, 5), max_size=4), "min_size: must be at most max_size, got 5 and 4"),
        (lambda: Constraint(min_size=(1, 2), max_size=(1, 2, 3)), "min_size and max_size: must be for as many"),
        (lambda: Constraint(balanced=-0.1), "balanced: must be a share of at least 0, got -0.1"),
        (lambda: Constraint(balanced=NAN), "balanced: must be a share of at least 0, got nan"),
        (lambda: Constraint(diversity=0), "diversity: must be a whole number of at least 1, got 0"),
        (lambda: Constraint(diversity=1.5), "diversity: must be a whole number of at least 1, got 1.5"),
        (lambda: Constraint(diversity_reading="some"), "diversity_reading: must be one of most, least, got 'some'"),
        (lambda: Constraint(gamma=3.0), "gamma: must be one weight for each cluster, got 3.0"),
        (lambda: Fair("a", 0.6, 0.5), "fair a: low must be at most high, got 0.6 and 0.5"),
        (lambda: Fair("a", NAN), "fair a: low: must be from 0 to 1, got nan"),
        (lambda: Fair("a", 0, 1.1), "fair a: high: must be from 0 to 1, got 1.1"),
        (lambda: Constraint(fair=(Fair("a"), Fair("a"))), "fair: must name each group once, got a, a"),
    ],
)
def test_bounds_that_can_not_be_are_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert str(caught.value).startswith(message)


AB = (("a", "b"), np.array([30.0, 70.0]), 4)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Constraint(fair=(Fair("c", 0.1),)), "fair: group must be in the data (there: a, b), got 'c'"),
        (Constraint(min_size=(1, 2)), "min_size: must be one number or one for each of 4 clusters, got 2"),
        (Constraint(fair=(Fair("a", (0.1, 0.2)),)), "fair a: must be one number or one for each of 4 clusters, got 2"),
        (Constraint(diversity=3), "diversity: must be at most 2, the labels in the data, got 3"),
        (Constraint(diversity=1, diversity_reading="least"), "diversity: must be at least 2, the labels in the data"),
        (Constraint(gamma=(1, 2, 3, 4)), "gamma: must add up to the total weight 100, got 10"),
        (Constraint(groups={"a": ("x",)}, fair=(Fair("x"),)), "groups: must say the groups of every label in the data"),
    ],
)
def test_a_constraint_for_other_data_is_refused(constraint, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        constraint.bounds(*AB)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("constraint", "what", "amount"),
    [
        (Constraint(min_size=30), "min_size", 20),
        (Constraint(max_size=20), "max_size", 20),
        (Constraint(balanced=0.1, max_size=(10, 50, 50, 50)), "balanced and max_size", 12.5),
        (Constraint(gamma=(10, 20, 30, 40), max_size=35), "max_size and gamma", 5),
        (Constraint(fair=(Fair("a", 0.6),)), "fair a at least 0.6", 30),
        (Constraint(fair=(Fair("b", 0, 0.5),)), "fair b at most 0.5", 20),
        (Constraint(diversity=2), "diversity of b at most 0.5", 20),
        (Constraint(diversity=2, diversity_reading="least"), "diversity of a at least 0.5", 20),
    ],
)
def test_check_tells_which_constraint_can_not_be_met_and_by_how_much(constraint, what, amount):
    with pytest.raises(ValueError, match="must be possible to meet") as caught:
        constraint.bounds(*AB).check()
    told = str(caught.value)
    assert told.startswith(f"{what}: must be possible to meet together with the rest, got bounds that miss it by")
    assert f"by at least {amount:.6g} of the total weight 100 (" in told


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_check_passes_what_some_table_meets(seed, m, k):
    """Bounds around any table of weights can be met: by that table."""
    rng = np.random.default_rng(seed)
    table = rng.exponential(size=(m, k)) * (rng.random((m, k)) < 0.8)
    sizes = table.sum(axis=0)
    share = np.divide(table, sizes, out=np.zeros((m, k)), where=sizes > 0)
    low, high = share * rng.choice([1.0, 0.9]), np.minimum(1, np.where(sizes > 0, share * rng.choice([1.0, 1.1]), 1))
    constraint = Constraint(
        min_size=tuple(sizes * 0.99), max_size=tuple(sizes * rng.choice([1.0, 1.1])),
        fair=tuple(Fair(f"g{j}", tuple(low[j]), tuple(high[j])) for j in range(m)),
    )  # fmt: skip
    bounds = constraint.bounds([f"g{j}" for j in range(m)], table.sum(axis=1), k)
    bounds.check()
    assert bounds.violation(table) <= 1e-9
    assert (bounds.missed(table) <= 1e-9 * (1 + sizes.sum())).all()


def test_a_group_is_the_labels_that_belong_to_it():
    groups = {"fo": ("female", "old"), "fy": ("female",), "mo": ("old",), "my": ()}
    constraint = Constraint(fair=(Fair("female", 0.5, 0.5), Fair("old", 0.0, 0.25)), groups=groups)
    bounds = constraint.bounds(list(groups), np.array([10.0, 40, 10, 40]), 2)
    bounds.check()
    assert bounds.violation(np.array([[5.0, 5], [20, 20], [5, 5], [20, 20]])) == 0
    # 55 % are female in the first cluster, 45 % in the other: both a tenth from the bound.
    assert bounds.violation(np.array([[5.0, 5], [22.5, 17.5], [5, 5], [17.5, 22.5]])) == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"fair: group must be in the data \(there: female, old\), got 'fy'"):
        Constraint(fair=(Fair("fy"),), groups=groups).bounds(list(groups), np.ones(4), 2)


def test_violation_is_relative_to_the_bound():
    bounds = Constraint(min_size=50, max_size=100).bounds([""], np.array([200.0]), 2)
    assert bounds.violation(np.array([[100.0, 100]])) == 0
    assert bounds.violation(np.array([[110.0, 90]])) == pytest.approx(0.1)
    assert bounds.violation(np.array([[20.0, 180]])) == pytest.approx(0.8)
    none = Constraint(fair=(Fair("a", 0, 0),)).bounds(["a", "b"], np.array([0.0, 10]), 1)
    assert none.violation(np.array([[1.0], [9.0]])) == pytest.approx(0.1)


def test_bounds_that_say_nothing_make_no_rows():
    free = Constraint(min_size=0, fair=(Fair("a", 0, 1),)).bounds(*AB)
    assert len(free) == 0
    free.check()
    assert free.violation(np.ones((2, 4))) == 0


def test_clusters_with_the_same_bounds_are_alike():
    assert Constraint(balanced=0.1, fair=(Fair("a", 0.2),)).alike(3) == ((0, 1, 2),)
    assert Constraint(gamma=(2, 3, 2, 5)).alike(4) == ((0, 2), (1,), (3,))
    assert Constraint(max_size=(9, 9, 9), fair=(Fair("a", (0.1, 0.2, 0.1)),)).alike(3) == ((0, 2), (1,))
    assert Constraint(min_size=1).choices(2, 80) == 80 * 81 // 2
    assert Constraint(gamma=(2, 3, 2)).choices(3, 10) == 55 * 10


def test_sizes():
    bounds = Constraint(balanced=0.5, max_size=(20, 30, 50, 50)).bounds(*AB)
    low, high = bounds.sizes
    np.testing.assert_allclose(low, 12.5)
    np.testing.assert_allclose(high, [20, 30, 37.5, 37.5])
    assert Constraint(fair=(Fair("a", 0.2),)).bounds(*AB).sizes is None
