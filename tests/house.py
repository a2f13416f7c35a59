"""The house: which package may import which, and how far the code keeps to it.

    python tests/house.py        # packages, their modules, their arrows; exit code 1 where a rule is broken

A module belongs to the package of its folder; modules directly in `beam_coresets/` are the root. Every package may
import the root and itself; what else, `MAY_IMPORT` says, from the bottom up. Everything in `beam_coresets` that is not
in `transforms` or `pipelines` is the core and imports no Beam. A package's `__init__` may say for type checkers which
names it offers (`if TYPE_CHECKING`): it imports them only when somebody asks for one.
"""
import ast
import collections
import math
import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).parents[1]
FOLDERS = {  # of a checkout, and the package that each is
    "beam_coresets": REPOSITORY / "beam_coresets",
    "beam_coresets.transforms": REPOSITORY / "transforms",
    "beam_coresets.pipelines": REPOSITORY / "pipelines",
}
MOST_MODULES, MOST_LINES, MOST_LEVELS = 12, 400, 7

_ANSWERS = "results coordinator streaming shards solvers.constrained solvers sampling points"
MAY_IMPORT = {  # package -> the packages that it may import, besides the root
    "points": "",
    "sampling": "points",
    "solvers": "sampling points",
    "solvers.constrained": "solvers sampling points",
    "shards": "solvers sampling points",
    "coordinator": "shards sampling points",
    "streaming": "shards solvers sampling points",
    "results": "coordinator streaming shards solvers.constrained solvers sampling points",
    "summaries": "results coordinator streaming solvers.constrained solvers sampling points",
    "comparing": "results coordinator solvers sampling points",
    "assigning": "solvers.constrained solvers sampling points",
    "planning": "results coordinator shards solvers sampling points",
    "datasets": "points",
    "parameters": _ANSWERS,
}
BEAM_MAY_IMPORT = {  # of Beam's side: these, and any package of the core
    "transforms.base": "",
    "transforms.text": "",
    "transforms.reading.finding": "transforms.base",
    "transforms.reading.types": "transforms.base",
    "transforms.planned": "",
    "transforms.reading": "transforms.reading.types transforms.reading.finding transforms.planned transforms.text "
                          "transforms.base",
    "transforms.streams": "transforms.reading transforms.base",
    "transforms.streams.messages": "transforms.streams transforms.planned transforms.reading.types transforms.reading "
                                   "transforms.base",
    "transforms.streams.brokers": "transforms.streams.messages transforms.streams transforms.reading transforms.base",
    "transforms.streams.folder": "transforms.streams transforms.reading.finding transforms.reading transforms.base",
    "transforms.writing": "transforms.base",
    "transforms.iceberg": "transforms.writing transforms.base",
    "transforms.shards": "transforms.streams transforms.reading transforms.base",
    "transforms.coordinator": "transforms.writing transforms.base",
    "transforms.rows": "transforms.writing transforms.reading transforms.base",
}
_TRANSFORMS = " ".join(["transforms", *BEAM_MAY_IMPORT])
BEAM_MAY_IMPORT |= {
    "transforms": _TRANSFORMS,
    "pipelines.running": _TRANSFORMS,
    "pipelines.results_folder": f"pipelines.running {_TRANSFORMS}",
    "pipelines.console": f"pipelines.running pipelines.results_folder {_TRANSFORMS}",
    "pipelines.passes": f"pipelines.console pipelines.results_folder pipelines.running {_TRANSFORMS}",
    "pipelines.views": f"pipelines.console pipelines.results_folder pipelines.running {_TRANSFORMS}",
    "pipelines.demos": "pipelines pipelines.views pipelines.console pipelines.running "
                       f"{_TRANSFORMS}",
    "pipelines": "pipelines.views pipelines.passes pipelines.console pipelines.results_folder pipelines.running "
                 f"{_TRANSFORMS}",
}


def modules():
    """Full name -> path of every module of the product."""
    found = {}
    for prefix, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if prefix == "beam_coresets" and parts[0] in ("transforms", "pipelines"):
                continue  # the links to the folders beside
            found[".".join([prefix, *parts])] = path
    return found


def package_of(module):
    """Its package without "beam_coresets."; "" for the root."""
    return ".".join(module.removesuffix(".__init__").split(".")[1:] if module.endswith("__init__")
                    else module.split(".")[1:-1])  # fmt: skip


def offered(tree):
    """The imports under `if TYPE_CHECKING` at a module's top."""
    return [node for part in tree.body if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"
            for node in part.body]  # fmt: skip


def imports_of(path, known):
    """The modules of the product that a file imports, also inside functions."""
    found, tree = set(), ast.parse(path.read_text())
    names_only = offered(tree) if path.name == "__init__.py" else []
    for node in ast.walk(tree):
        if node in names_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
        else:
            continue
        for name in names:
            found |= {name, f"{name}.__init__"} & known
    return {name for name in found if not (name.endswith(".__init__") and any(
        other.startswith(name.removesuffix("__init__")) for other in found - {name}))}  # fmt: skip


def graph():
    """Module -> the modules that it imports."""
    known = modules()
    return {name: imports_of(path, set(known)) - {name} for name, path in known.items()}


def arrows(of_modules):
    """(package, imported package) -> the pairs of modules behind it."""
    found = collections.defaultdict(list)
    for module, imported in of_modules.items():
        for other in imported:
            if package_of(module) != package_of(other):
                found[package_of(module), package_of(other)].append((module, other))
    return dict(found)


def allowed(package, other):
    """Whether a package may import another."""
    if other == "" or package == "":
        return other == "" or (package == "" and other == "pipelines")  # `python -m beam_coresets`
    core = not package.startswith(("transforms", "pipelines"))
    if core:
        return other in MAY_IMPORT[package].split()
    if not other.startswith(("transforms", "pipelines")):
        return True
    return other in BEAM_MAY_IMPORT[package].split()


def circles(of_modules):
    """The groups of modules that import each other, directly or not."""
    order, low, stack, found = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in of_modules.get(node, ()):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(group) > 1:
                found.append(sorted(group))

    for node in of_modules:
        if node not in order:
            visit(node)
    return found


def levels(of_packages, inside):
    """How many packages stand above each other, the root apart, on the longest way of arrows within `inside`."""
    below = collections.defaultdict(set)
    for package, other in of_packages:
        if package and other and inside(package) and inside(other):
            below[package].add(other)

    def height(package, above=()):
        if package in above:
            return math.inf
        return 1 + max((height(other, (*above, package)) for other in below.get(package, ())), default=0)

    return max((height(package) for package in below), default=1)


def core(package):
    """Whether a package is of the core."""
    return not package.startswith(("transforms", "pipelines"))


def broken():
    """What breaks a rule, a line each."""
    of_modules, paths = graph(), modules()
    lines = {name: len(path.read_text().splitlines()) for name, path in paths.items()}
    counts = collections.Counter(package_of(name) for name in paths if not name.endswith("__init__"))
    found = [f"{name}: must have at most {MOST_LINES} lines, got {n}" for name, n in lines.items() if n > MOST_LINES]
    found += [f"{p or 'root'}: must have at most {MOST_MODULES} modules, got {n}"
              for p, n in counts.items() if n > MOST_MODULES]  # fmt: skip
    found += [f"circle: {' '.join(group)}" for group in circles(of_modules)]
    for (package, other), pairs in sorted(arrows(of_modules).items()):
        if not allowed(package, other):
            found += [f"{module}: must not import {imported}" for module, imported in sorted(pairs)]
    for name, inside in SIDES.items():
        if (high := levels(arrows(of_modules), inside)) > MOST_LEVELS:
            found.append(f"{name}: must have at most {MOST_LEVELS} levels of packages, got {high}")
    return found


SIDES = {
    "core": core,
    "transforms": lambda package: package.startswith("transforms"),
    "pipelines": lambda package: package.startswith("pipelines"),
}


def main():
    """Prints the house; 1 where a rule is broken."""
    of_modules, paths = graph(), modules()
    of_packages = arrows(of_modules)
    for package in sorted({package_of(name) for name in paths}):
        mine = [name for name in paths if package_of(name) == package and not name.endswith("__init__")]
        most = max((len(paths[name].read_text().splitlines()) for name in mine), default=0)
        down = sorted(other for (one, other) in of_packages if one == package and other)
        print(f"{package or 'root':<28} {len(mine):>2} modules, at most {most} lines  -> {' '.join(down)}")
    total = sum(len(path.read_text().splitlines()) for path in paths.values())
    print(f"{len(paths)} modules, {total:,} lines, {len(circles(of_modules))} circles; levels of packages: "
          + ", ".join(f"{name} {levels(of_packages, inside)}" for name, inside in SIDES.items()))  # fmt: skip
    found = broken()
    print("\n".join(found) if found else "no rule is broken")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
