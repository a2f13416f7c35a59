"""Sizes by theory: the papers' formulas, term by term, and what has none."""
import math

import pytest

from beam_coresets.sampling.theory_sizes import MOST_CORESET_BYTES, by_theory, fitting, for_stable_data, group_size


def test_a_groups_size_is_the_digests():
    # 15^1.5 * 100 * ln(150) * ln(10)^4
    assert group_size(15, 0.1) == pytest.approx(8.2e5, rel=0.01)


def test_rings_and_groups_is_theorem_b1():
    for k, epsilon, z in [(15, 0.1, 2.0), (100, 0.05, 1.0), (40, 0.2, 3.0)]:
        exponent = {1.0: 4 / 3, 2.0: 3 / 2, 3.0: 8 / 5}[z]
        logs = math.log(k / epsilon) ** 2 * math.log(1 / epsilon) ** 5
        expected = k**exponent / epsilon**2 * logs
        assert by_theory("rings_and_groups", k, epsilon, z).points == math.ceil(expected)


def test_rings_and_groups_is_the_smaller_of_two_bounds():
    """The other one, k epsilon^(-z - 2), from k = epsilon^(-z - 2) on."""
    for k, epsilon, z in [(10_000, 0.3, 2.0), (500, 0.4, 2.0), (1000, 0.2, 1.0), (3000, 0.3, 3.0), (9, 0.9, 2.0)]:
        logs = max(1, math.log(k / epsilon)) ** 2 * max(1, math.log(1 / epsilon)) ** 5
        expected = k * epsilon ** (-z - 2) * logs
        assert expected < k ** ((2 * z + 2) / (z + 2)) / epsilon**2 * logs
        assert by_theory("rings_and_groups", k, epsilon, z).points == math.ceil(expected)
        assert "Cohen-Addad" in by_theory("rings_and_groups", k, epsilon, z).source
    assert by_theory("rings_and_groups", 10_000, 0.3).points == pytest.approx(3.4e8, rel=0.01)
    border = [by_theory("rings_and_groups", k, 0.25).points for k in (255, 256, 257)]
    assert border == sorted(border)
    assert border[2] / border[0] < 1.02


def test_sensitivity_for_means_is_the_smaller_of_two_bounds():
    logs = math.log(15 / 0.1)
    assert by_theory("sensitivity", 15, 0.1).points == math.ceil(15**1.5 * 100 * logs)
    assert by_theory("sensitivity", 10_000, 0.5).points == math.ceil(10_000 * 4 * 4 * math.log(20_000))
    assert by_theory("sensitivity", 15, 0.1, 1.0).points == math.ceil(15 * 1e4 * logs)
    assert by_theory("sensitivity", 15, 0.1, 3.0).points == math.ceil(15 * 64 * 1e4 * logs)


def test_stable_data_need_k_over_epsilon_squared():
    """The logarithm of the worst case stays; where epsilon^-2 is the smaller there is nothing to gain."""
    assert for_stable_data("sensitivity", 15, 0.1).points == math.ceil(15 * 100 * math.log(150))
    assert for_stable_data("sensitivity", 100, 0.05).points == math.ceil(100 * 400 * math.log(2000))
    for k, epsilon in [(1, 0.5), (15, 0.1), (10_000, 0.9)]:
        assert for_stable_data("sensitivity", k, epsilon).points <= by_theory("sensitivity", k, epsilon).points
    assert for_stable_data("sensitivity", 15, 0.1, 1.0) is None
    assert for_stable_data("lightweight", 15, 0.1) is None
    with pytest.raises(ValueError, match="epsilon: must be between 0 and 1, got 2"):
        for_stable_data("sensitivity", 15, 2)


def test_lightweight_grows_with_the_dimension_until_it_is_large():
    small, more, any_dim = (by_theory("lightweight", 15, 0.1, dim=d).points for d in (2, 4, None))
    assert small == math.ceil((2 * 15 * math.log(15) + math.log(10)) * 100)
    assert small < more < any_dim == by_theory("lightweight", 15, 0.1, dim=10**6).points


@pytest.mark.parametrize("method", ["rings_and_groups", "sensitivity", "lightweight"])
def test_smaller_errors_ask_for_more_and_never_for_less_than_k(method):
    sizes = [by_theory(method, 20, epsilon).points for epsilon in (0.01, 0.1, 0.3, 0.9, 0.999)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 20
    assert by_theory(method, 20, 0.1).source


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("uniform", 5, 0.1), "epsilon: must be left out with method uniform, of which no size is known, got 0.1"),
        (("lightweight", 5, 0.1, 1.0), "epsilon: must be left out with method lightweight unless z is 2, got z = 1"),
        (("sensitivity", 5, 0.0), "epsilon: must be between 0 and 1, got 0.0"),
        (("sensitivity", 5, 1.0), "epsilon: must be between 0 and 1, got 1.0"),
        (("sensitivity", 5, math.nan), "epsilon: must be between 0 and 1, got nan"),
        (("sensitivity", 0, 0.1), "k: must be at least 1, got 0"),
        (("sensitivity", 5, 0.1, 0.5), "z: must be finite and at least 1, got 0.5"),
        (("sensitivity", 5, 1e-300), "epsilon: must be large enough for a size that can be counted, got 1e-300"),
    ],
)
def test_what_has_no_size_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        by_theory(*asked)


def test_what_would_not_fit_into_memory_is_limited():
    assert fitting(1000, 5, 8) == 1000
    assert fitting(10**9, 5, 8) == MOST_CORESET_BYTES // 32
    assert fitting(10**9, 5, 8, 8) == MOST_CORESET_BYTES // 64
    assert fitting(10**9, 300, 768, 4, 1000) == 300  # never below k
