"""CHANGELOG.md: modules are where it says."""
import importlib.util
import pathlib
import re

CHANGELOG = (pathlib.Path(__file__).parents[1] / "CHANGELOG.md").read_text()


def test_moved_modules_are_where_the_table_says():
    moves = dict(re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", CHANGELOG, re.M))
    assert len(moves) > 30
    for old, new in moves.items():
        assert importlib.util.find_spec(new) is not None, new
        assert not _is_module(old), old


def _is_module(name):
    """Whether a module of this name, not a package, can be imported."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return False
    return found is not None and found.submodule_search_locations is None
