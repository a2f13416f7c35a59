"""The lowest versions that setup.py allows, as a constraints file for pip.

    python tests/lowest.py       # name==version, a line each requirement of the library
"""
import ast
import pathlib
import re

SETUP = pathlib.Path(__file__).parents[1] / "setup.py"


def requirements():
    """What `setup` is given as `install_requires`."""
    for node in ast.walk(ast.parse(SETUP.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "install_requires":
            return ast.literal_eval(node.value)
    raise ValueError(f"setup.py: must give install_requires, got none in {SETUP}")


def lowest(requirement):
    """The lowest version that a requirement such as "numpy>=1.26,<3" allows, pinned."""
    found = re.match(r"([\w-]+)>=([\d.]+)", requirement)
    if found is None:
        raise ValueError(f"install_requires: must be NAME>=VERSION, got {requirement!r}")
    return f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print(*map(lowest, requirements()), sep="\n")
