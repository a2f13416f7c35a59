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
from numba.core import event  # noqa: E402

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
