"""What is known of kernels that are being compiled."""
import subprocess
import sys

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
