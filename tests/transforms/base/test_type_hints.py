"""What Beam makes of the hints of our functions: with Beam 2.62 a `Mapping[str, int] | None` became a union that holds
Python's own generic, on which a type check fails or not by the order in which a set is read."""
import importlib
import inspect
import pkgutil
import types

import apache_beam as beam
import pytest
from apache_beam.typehints.decorators import IOTypeHints
from apache_beam.typehints.typehints import TypeConstraint, normalize

import beam_coresets.transforms


def _classes():
    for module in pkgutil.walk_packages(beam_coresets.transforms.__path__, "beam_coresets.transforms."):
        try:
            found = vars(importlib.import_module(module.name)).values()
        except ImportError:  # an extra that is not installed
            continue
        for each in found:
            if inspect.isclass(each) and issubclass(each, beam.DoFn) and each.__module__ == module.name:
                yield each


def _leaves(hint):
    hint = normalize(hint, none_as_type=True)
    if not isinstance(hint, TypeConstraint):
        return [hint]  # a class; Beam asks issubclass(given, hint)
    inner = getattr(hint, "union_types", None) or getattr(hint, "tuple_types", None) or ()
    return [leaf for each in inner for leaf in _leaves(each)]


@pytest.mark.parametrize("each", list(_classes()), ids=lambda each: each.__name__)
def test_every_hint_can_be_checked(each):
    hints = IOTypeHints.from_callable(each.process)
    positional, named = hints.input_types if hints is not None and hints.input_types else ((), {})
    for hint in [*positional, *named.values()]:
        odd = [leaf for leaf in _leaves(hint) if not isinstance(leaf, type) or isinstance(leaf, types.GenericAlias)]
        assert not odd
