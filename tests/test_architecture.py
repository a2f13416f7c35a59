"""The house: who may import what, where compiled kernels go, and one version."""
import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import house
import pytest

import beam_coresets

PACKAGE = pathlib.Path(beam_coresets.__file__).parent
ROOT = PACKAGE.parent
BEAM_SIDE = ("transforms", "pipelines")
NUMERIC = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in BEAM_SIDE
)


def run(code, cwd=ROOT, **environment):
    """Runs Python code in a fresh process; what it printed, or its last lines of error."""
    kept = {name: value for name, value in os.environ.items() if name not in environment and name != "PYTHONPATH"}
    kept |= {name: value for name, value in environment.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_nothing_is_imported_upwards_and_every_room_is_small():
    """The table of `house.py`: which package may import which, no circles, sizes."""
    assert house.broken() == []
    of_modules = house.graph()
    assert len(of_modules) > 150
    assert ("sampling", "points") in house.arrows(of_modules), "the graph is read"


@pytest.mark.parametrize(("package", "other", "may"), [
    ("points", "sampling", False), ("sampling", "points", True), ("points", "", True), ("", "points", False),
    ("results", "transforms.base", False), ("transforms.base", "results", True),
    ("transforms.base", "transforms.reading", False), ("pipelines", "pipelines.console", True),
    ("pipelines.running", "pipelines.console", False),
])  # fmt: skip
def test_the_table_says_what_may_be_imported(package, other, may):
    assert house.allowed(package, other) is may


def test_circles_and_heights_are_found():
    assert house.circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert house.circles({"a": {"b"}, "b": set()}) == []
    assert house.levels({("c", "b"): [], ("b", "a"): [], ("b", ""): []}, lambda package: True) == 3
    assert house.levels({("a", "b"): [], ("b", "a"): []}, lambda package: True) > house.MOST_LEVELS


def public_names(path):
    """The public classes and, in capitals, constants that a module defines."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
        if isinstance(node, ast.Assign | ast.AnnAssign):
            stored = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            yield from (name for name in stored if re.fullmatch("[A-Z][A-Z0-9_]+", name))


def test_no_two_public_classes_and_no_two_constants_of_the_core_share_a_name():
    """Whoever reads `Tally` or `KINDS` knows which one."""
    found = {}
    for module, path in house.modules().items():
        for name in public_names(path):
            if not name.isupper() or house.core(house.package_of(module)):
                found.setdefault(name, []).append(module)
    assert len(found) > 200
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_the_mathematics_imports_no_beam():
    for path in NUMERIC:
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "apache_beam"], path


def test_every_package_is_in_the_wheel(tmp_path):
    """Built from a copy without the links, as from an archive that has lost them."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("not a checkout")
    copy = tmp_path / "copy"
    for name in ("beam_coresets", *BEAM_SIDE):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(
            "__pycache__", *(BEAM_SIDE if name == "beam_coresets" else ())))  # fmt: skip
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy],
        check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.endswith(".py")}
    expected = {name.replace(".", "/") + ".py" for name in house.modules()}
    assert inside == expected


def test_importing_all_of_the_mathematics_does_not_load_beam():
    names = [".".join(("beam_coresets", *path.with_suffix("").parts)) for path in NUMERIC]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    assert len(names) > 15
    code = f"import sys, importlib\nfor n in {names}: importlib.import_module(n)\nprint('apache_beam' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize("name", BEAM_SIDE)
def test_the_bare_package_names_are_refused(name):
    """Under another name the same class would exist twice."""
    if not (ROOT / name / "__init__.py").exists():
        pytest.skip("not a checkout: installed under its full name only")
    code = f"try: import {name}\nexcept ImportError as e: print(e)"
    assert run(code) == f"import name: must be beam_coresets.{name}, got {name}"


def test_one_version_everywhere():
    setup = (ROOT / "setup.py")
    if not setup.exists():
        pytest.skip("not a checkout")
    stated = re.search(r'__version__ = "(.+)"', setup.read_text())
    assert stated, "setup.py must read the version from the package"
    from importlib.metadata import version

    assert version("beam-coresets") == beam_coresets.__version__
    assert "version =" not in (ROOT / "pyproject.toml").read_text().replace("target-version =", "")


COMPILE = """
import os, pathlib, sys
package = pathlib.Path(PACKAGE)
allowed = os.access
os.access = lambda path, mode, **more: allowed(path, mode, **more) and not (
    mode & os.W_OK and str(path).startswith(str(package)))
import tempfile
real = tempfile.TemporaryFile
def refuse(*args, dir=None, **more):
    if dir is not None and str(dir).startswith(str(package)):
        raise OSError(30, "Read-only file system", str(dir))
    return real(*args, dir=dir, **more)
tempfile.TemporaryFile = refuse
import numpy as np
from beam_coresets.points.nearest import nearest
import beam_coresets
assert str(package) in beam_coresets.__file__, beam_coresets.__file__
index, dist_sq = nearest(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2])
assert index[:2].tolist() == [0, 1] and dist_sq.tolist() == [0.0, 0.0, 2.0]
print(os.environ["NUMBA_CACHE_DIR"])
"""


def copied_package(folder):
    shutil.copytree(PACKAGE, folder / "beam_coresets", ignore=shutil.ignore_patterns("__pycache__", *BEAM_SIDE))
    return folder / "beam_coresets"


def test_kernels_start_where_the_package_folder_is_read_only(tmp_path):
    """As in a worker's image: no writing beside the source, no home. Root may write anywhere, so that the folder is
    read-only is told to the package by os.access, and to numba by refusing its trial file there."""
    package = copied_package(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    printed = run(
        COMPILE.replace("PACKAGE", repr(str(package))), tmp_path, TMPDIR=str(temporary), HOME=None,
        XDG_CACHE_HOME=None, NUMBA_CACHE_DIR=None, PYTHONDONTWRITEBYTECODE="1",
    )
    assert printed.startswith(str(temporary))
    assert list(pathlib.Path(printed).rglob("*.nbi")), "kernels must be cached where it is allowed"
    assert not list(package.rglob("*.nbi"))


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write to read-only folders")
def test_kernels_start_in_a_folder_without_write_permission(tmp_path):
    package = copied_package(tmp_path)
    for folder in [package, *(p for p in package.rglob("*") if p.is_dir())]:
        folder.chmod(0o555)
    code = (
        "import numpy as np\nfrom beam_coresets.points.nearest import nearest\n"
        "print(nearest(np.eye(2), np.eye(2))[0].tolist())"
    )
    try:
        assert run(code, tmp_path, HOME=None, NUMBA_CACHE_DIR=None, PYTHONDONTWRITEBYTECODE="1") == "[0, 1]"
    finally:
        for folder in [package, *(p for p in package.rglob("*") if p.is_dir())]:
            folder.chmod(0o755)


def test_a_writable_package_keeps_its_kernels_beside_the_source(tmp_path):
    package = copied_package(tmp_path)
    code = "import os, beam_coresets.hashing as h\nh.hash_integers(__import__('numpy').arange(2))\n"
    assert run(f"{code}print(os.environ.get('NUMBA_CACHE_DIR'))", tmp_path, NUMBA_CACHE_DIR=None) == "None"
    assert list((package / "__pycache__").glob("hashing*.nbi"))
