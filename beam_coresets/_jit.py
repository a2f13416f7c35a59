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

if _folder is not None:
    numba.config.CACHE_DIR = _folder  # in case somebody imported numba before us


def kernel(function: F) -> F:
    """Compiles `function` without the GIL, cached on disk; floating-point sums keep their written order."""
    compiled: F = numba.njit(nogil=True, cache=True)(function)
    return compiled


def fast_kernel(function: F) -> F:
    """Like `kernel`, and lets the compiler reorder and contract floating-point operations (for vector loops)."""
    compiled: F = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})(function)
    return compiled
