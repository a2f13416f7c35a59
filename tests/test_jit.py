"""What is known of kernels that are being compiled."""
import ast
import pathlib
import subprocess
import sys

import numpy as np

from beam_coresets import _jit
from beam_coresets._jit import rising_order

KERNELS = """
import numba
from beam_coresets._jit import compiling, kernel

def looked_at():
    pass

@numba.extending.overload(looked_at)  # its body runs while its caller is compiled
def look():
    seen.append(compiling())
    return lambda: None

@kernel
def twice(x):
    looked_at()
    return 2.0 * x

seen = []
assert not compiling()
assert [twice(3.0), twice(4.0)] == [6.0, 8.0]
assert seen and all(seen), seen
assert not compiling()
print("as it should be")
"""


def test_it_is_known_when_kernels_are_compiled(tmp_path):
    (tmp_path / "kernels.py").write_text(KERNELS)  # numba caches only what stands in a file
    done = subprocess.run([sys.executable, "kernels.py"], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.stdout == "as it should be\n", done.stderr


def test_kernels_sort_as_numpy_does():
    for n in [0, 1, 2, 15, 16, 17, 31, 33, 100, 1000, 4097]:
        for seed in range(5):
            rng = np.random.default_rng([n, seed])
            ties, infinite = rng.integers(0, 4, n).astype(float), np.where(rng.random(n) < 0.3, np.inf, 0.0)
            for values in (rng.random(n), ties, infinite):
                np.testing.assert_array_equal(rising_order(values), np.argsort(values, kind="stable"))


def test_no_kernel_sorts_with_numba_s_own():
    """Its argsort takes as long to compile as ten kernels of ours."""
    kernels = 0
    for path in pathlib.Path(_jit.__file__).parent.glob("**/*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            if any("kernel" in ast.unparse(decorator) for decorator in function.decorator_list):
                calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
                assert not {"np.argsort", "np.sort"} & set(calls), f"{path.name}: {function.name}"
                kernels += 1
    assert kernels > 50
