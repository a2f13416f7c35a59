"""Public names say what they are: every top-level one, and all but a few methods of public classes.

    python tests/test_docstrings.py        # what has no docstring

A method that overrides one of a base class, or is of a protocol that its class has all of, is documented there.
"""
import ast
import importlib

import house

PROTOCOLS = {  # name -> module
    "Source": "beam_coresets.transforms.streams.source",
    "Reader": "beam_coresets.transforms.streams.source",
    "Membership": "beam_coresets.assigning.cluster_assignment",
    "Model": "beam_coresets.solvers.model",
}
MOST_METHODS = 12


def public(nodes, kinds):
    """The definitions among the nodes that have no underscore."""
    return [node for node in nodes if isinstance(node, kinds) and not node.name.startswith("_")]


def protocols():
    """The protocols, each with the names it asks for."""
    found = [getattr(importlib.import_module(module), name) for name, module in PROTOCOLS.items()]
    return {each: [name for name in vars(each) if not name.startswith("_")] for each in found}


def told_elsewhere(cls, method, known):
    """Whether a base class or a protocol says what the method does."""
    above = [base for base in cls.__mro__[1:] if base is not object]
    above += [each for each, names in known.items() if each is not cls and all(hasattr(cls, n) for n in names)]
    return any(hasattr(each, method) for each in above)


def silent():
    """(top-level names, methods) without a docstring."""
    top, inside, known = [], [], protocols()
    for module, path in house.modules().items():
        for node in public(ast.parse(path.read_text()).body, (ast.FunctionDef, ast.ClassDef)):
            name = f"{module}.{node.name}"
            if not ast.get_docstring(node):
                top.append(name)
            if isinstance(node, ast.ClassDef):
                cls = getattr(importlib.import_module(module), node.name)
                bare = [each.name for each in public(node.body, ast.FunctionDef) if not ast.get_docstring(each)]
                inside += [f"{name}.{method}" for method in bare if not told_elsewhere(cls, method, known)]
    return top, inside


def test_every_top_level_name_has_a_docstring():
    assert silent()[0] == []


def test_few_methods_have_none():
    """The number may only go down."""
    assert len(silent()[1]) <= MOST_METHODS


if __name__ == "__main__":
    for names in silent():
        print(len(names), *names, sep="\n  ")
