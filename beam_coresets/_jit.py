"""How every compiled kernel of this package is declared."""
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def _cache_folder() -> str | None:
    """A writable folder for compiled kernels, or None where numba's own choice (beside the source) works.

    Worker images often have a read-only package folder and no home: numba then refuses to start.
    """
    beside = pathlib.Path(__file__).parent / "__pycache__"
    if "NUMBA_CACHE_DIR" in os.environ or os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return None
    return os.path.join(tempfile.gettempdir(), f"beam_coresets_kernels_{os.getuid() if hasattr(os, 'getuid') else 0}")


_folder = _cache_folder()
if _folder is not None:
    os.environ["NUMBA_CACHE_DIR"] = _folder

import numba  # noqa: E402  (reads NUMBA_CACHE_DIR when it is imported)
import numpy as np  # noqa: E402
from numba.core import event  # noqa: E402

if _folder is not None:
    numba.config.CACHE_DIR = _folder  # in case somebody imported numba before us


_RUN = 16  # values that are sorted by insertion


def kernel(function: F) -> F:
    """Compiles `function` without the GIL, cached on disk; floating-point sums keep their written order."""
    compiled: F = numba.njit(nogil=True, cache=True)(function)
    return compiled


def fast_kernel(function: F) -> F:
    """Like `kernel`, and lets the compiler reorder and contract floating-point operations (for vector loops)."""
    compiled: F = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})(function)
    return compiled


@kernel
def rising_order(values):  # type: ignore[no-untyped-def]
    """`np.argsort(values, kind="stable")` of (n,) numbers without NaN, for kernels: numba's takes 1.5 s to compile."""
    n = len(values)
    order, merged = np.empty(n, np.int64), np.empty(n, np.int64)
    for low in range(0, n, _RUN):  # runs by insertion
        for i in range(low, min(n, low + _RUN)):
            j = i
            while j > low and values[order[j - 1]] > values[i]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = i
    width = _RUN
    while width < n:
        for low in range(0, n, 2 * width):
            middle, high = min(n, low + width), min(n, low + 2 * width)
            i, j = low, middle
            for at in range(low, high):
                if j >= high or (i < middle and values[order[i]] <= values[order[j]]):
                    merged[at] = order[i]
                    i += 1
                else:
                    merged[at] = order[j]
                    j += 1
        order, merged = merged, order
        width *= 2
    return order


class _Compilations(event.Listener):  # type: ignore[misc]
    """Counts what is being compiled; what comes from the cache is not."""

    def __init__(self) -> None:
        self.open = 0

    def on_start(self, event: Any) -> None:
        self.open += 1

    def on_end(self, event: Any) -> None:
        self.open -= 1


_compilations = _Compilations()
event.register("numba:compile", _compilations)


def compiling() -> bool:
    """Whether kernels are being compiled in this process, as they are on a machine's first run."""
    return _compilations.open > 0
