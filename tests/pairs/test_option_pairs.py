"""Pairs of options, in samples; `python tests/pairs/option_pairs.py` runs all of them."""
import itertools

import pytest
from covering import Covering, smallest
from option_pairs import Search, shown
from option_runs import DONE, REFUSED, Ending
from option_settings import settings
from option_values import write_data

VALUES = {name: range(3) for name in "abcdefg"}


@pytest.mark.parametrize("seed", range(5))
def test_rows_show_every_pair_that_is_not_refused(seed):
    covering = Covering(VALUES, seed)
    covering.refuse([("a", 0), ("b", 0)])
    covering.refuse([("c", 1), ("d", 1), ("e", 1)])
    rows = []
    while row := covering.row():
        assert len({name for name, _ in row}) == len(row)
        rows.append(set(row))
        covering.passed(row)
    pairs = [
        pair for one, other in itertools.combinations("abcdefg", 2)
        for pair in itertools.product([(one, i) for i in range(3)], [(other, i) for i in range(3)])
    ]  # fmt: skip
    apart = [pair for pair in pairs if not any(row.issuperset(pair) for row in rows)]
    assert apart == [(("a", 0), ("b", 0))]
    assert not any(row.issuperset({("c", 1), ("d", 1), ("e", 1)}) for row in rows)
    assert len(rows) < len(pairs) / 5


@pytest.mark.parametrize("cause", [[0], [3, 11], [0, 1, 15], [2, 7, 8, 14]])
def test_the_fewest_items_that_fail_are_found(cause):
    items = [(str(i), i) for i in range(16)]
    tried = []

    def fails(some):
        tried.append(some)
        return {i for _, i in some}.issuperset(cause)

    assert sorted(i for _, i in smallest(items, fails)) == cause
    assert len(tried) < 40


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def others(name, data, folder, options, rows, seed):
    """What neither works nor is refused in one line, among some rows of some options."""
    search = Search(name, settings(data)[name], folder)
    report = search.sample(options, rows, seed)
    assert search.covering.done or search.report.refusals
    return [f"{shown(items)}: {ending.kind} {ending.text[-2000:]}" for items, ending in report.others.items()]


@pytest.mark.parametrize(("name", "options"), [("summarize/plain", 4), ("stream/keys", 4), ("plan/plain", 2)])
def test_a_few_pairs_work_or_are_refused(name, options, data, tmp_path):
    assert others(name, data, tmp_path, options, 1, 3) == []


@pytest.mark.parametrize(("words", "kind"), [
    (("--k=x",), REFUSED), (("--k=1", "--affine"), REFUSED), (("--seed=3",), DONE),
])  # fmt: skip
def test_endings_are_told_apart(words, kind, data, tmp_path):
    search = Search("summarize/plain", settings(data)["summarize/plain"], tmp_path)
    ending = search.run([(word, (word,)) for word in words])
    assert ending.kind == kind, ending
    assert isinstance(ending, Ending)
