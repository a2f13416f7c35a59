"""What is said on the console beside a command's own lines."""
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from beam_coresets.pipelines.running.texts import MOST_LINE, one_line


class _OfMainThread:
    """A stream on which only the main thread writes: workers in this process print the stack of each bundle."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes what the main thread says; the others' is lost."""
        if threading.current_thread() is threading.main_thread():
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Keeps threads other than the main one from standard error, if it is the main one that asks, until
    `all_there_is`."""
    before = sys.stderr
    if threading.current_thread() is threading.main_thread():
        sys.stderr = _OfMainThread(before)
    try:
        yield
    finally:
        sys.stderr = before


def standard_error() -> Any:
    """The stream itself, for those whose own threads write on it, such as bars that move."""
    stream = sys.stderr
    while isinstance(stream, _OfMainThread):
        stream = stream._stream
    return stream


class _Lines(logging.Formatter):
    """Log lines as terminals may have them: what they say of files and messages stays text."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(one_line(line, MOST_LINE) for line in super().format(record).split("\n"))


def _handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(logging.BASIC_FORMAT))
    return handler


def ours_alone() -> None:
    """Lets only this package's errors through: runners, brokers' clients and gRPC report each of theirs with pages of
    stack, from whichever thread, and what went wrong is told in one line in the end."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    handler = _handler()
    handler.addFilter(logging.Filter("beam_coresets"))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    threading.excepthook = lambda _: None


def all_there_is() -> None:
    """Lets everything through, for --verbose."""
    sys.stderr = standard_error()
    logging.basicConfig(level=logging.ERROR, handlers=[_handler()])
    logging.getLogger("apache_beam").setLevel(logging.NOTSET)
