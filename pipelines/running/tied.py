"""`python tied.py PARENT PROGRAM ...`: runs a program that ends when the process PARENT, its parent, does.

A script, not a module: it is run by its path, with nothing but the standard library.
"""
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes the program, unless the parent has gone before it was tied to it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
