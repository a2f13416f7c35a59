"""How a command ends: by itself, by a signal, or killed; nothing that it has started or written for itself stays."""
import atexit
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from beam_coresets.pipelines.running import logs

PREFIX = "beam-coresets-run-"
PATIENCE = 6.0  # seconds from a signal to the end, whatever hangs
_NEW = f".{PREFIX}"  # before the folder has its owner's mark
_YOUNG = 60.0  # seconds for which it may go without
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class StoppedError(KeyboardInterrupt):
    """A signal asked the command to end; what Ctrl-C unwinds, this does."""


class Signals:
    """What a command has been told while it ran.

    Attributes:
      number: of the signal that has asked it to end; None if none has.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def _told(self, number: int, frame: Any) -> None:
        again, self.number = self.number is not None, number
        if not again:
            raise StoppedError


@contextlib.contextmanager
def told_by_signals() -> Iterator[Signals]:
    """SIGTERM and SIGHUP raise `StoppedError` here, and `PATIENCE` later the process ends whatever it is doing. Signals
    that somebody else takes or ignores (nohup) stay theirs."""
    signals = Signals()
    mine = threading.current_thread() is threading.main_thread()
    taken = [number for number in _SIGNALS if mine and signal.getsignal(number) == signal.SIG_DFL]
    if not taken:
        yield signals
        return
    over, (read, write) = threading.Event(), os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read, over), daemon=True, name="signals").start()
    for number in taken:
        signal.signal(number, signals._told)
    try:
        yield signals
    finally:
        over.set()
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(write)  # the watcher reads the end


def _watch(read: int, over: threading.Event) -> None:
    """Ends the process if a signal that came does not: the main thread may hang in native code."""
    with os.fdopen(read, "rb", buffering=0) as pipe:
        while byte := pipe.read(1):
            if byte[0] in _SIGNALS:
                if not over.wait(PATIENCE):
                    _tidy()
                    os._exit(128 + byte[0])
                return


@contextlib.contextmanager
def own_folder() -> Iterator[None]:
    """All temporary files, of Beam and of runners too, go into one folder, which goes away in the end: with the process
    where job servers still use it. It is marked by a lock while its process lives, and the folders of processes that
    were killed are removed here."""
    before, shown = tempfile.tempdir, os.environ.get("TMPDIR")
    parent = tempfile.gettempdir()
    if os.path.basename(parent).startswith(PREFIX):  # a command inside another
        yield
        return
    _sweep(parent)
    servers = set(_children())
    new = tempfile.mkdtemp(prefix=_NEW)
    mark = _marked(new)
    folder = os.path.join(parent, os.path.basename(new).removeprefix("."))
    os.rename(new, folder)
    atexit.register(_remove, folder)  # before what runners register, so it is called after that
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        if shown is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = shown
        if servers.issuperset(_children()):
            _remove(folder)
            if mark is not None:
                os.close(mark)


def _marked(folder: str) -> int | None:
    """A descriptor whose lock says that the folder is in use; None if somebody else has it, or there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


def _sweep(parent: str) -> None:
    """Removes what killed commands have left in a temporary directory."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if not entry.name.startswith((PREFIX, _NEW)):
                continue
            with contextlib.suppress(OSError):
                if entry.name.startswith(_NEW) and time.time() - entry.stat().st_mtime < _YOUNG:
                    continue
                mark = _marked(entry.path)
                if mark is not None:
                    _remove(entry.path)
                    os.close(mark)


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def run_and_leave(main: Callable[[], int]) -> NoReturn:
    """Ends the process with what a command's `main` returns, also where it raises."""
    with logs.quiet_threads():
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        leave(code)


def leave(code: int) -> NoReturn:
    """Ends the process, its children first.

    At once: threads of workers in this process may be in native code, and if Python's own way out took the interpreter
    from under them, their libraries would call `abort`.
    """
    limit = threading.Timer(PATIENCE, _give_up, (code,))
    limit.daemon = True
    limit.start()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already; a stack would be all that one more Ctrl-C gives
    atexit._run_exitfuncs()
    _tidy()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # such as a pipe that nobody reads
            stream.flush()
    os._exit(code)


def _give_up(code: int) -> NoReturn:
    """Ends a process whose exit functions do not come to an end."""
    _tidy()
    os._exit(code)


def _tidy() -> None:
    """Ends this process's children, and removes its folder."""
    children = _children()
    for send in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        for child in children:
            with contextlib.suppress(OSError):
                os.kill(child, send)
        until = time.monotonic() + 2.0
        while (children := [child for child in children if not _ended(child)]) and time.monotonic() < until:
            time.sleep(0.05)
    folder = tempfile.gettempdir()
    if os.path.basename(folder).startswith(PREFIX):
        _remove(folder)


def _children() -> list[int]:
    """The processes that this one has started, where the system tells."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children") as listed:
                found.update(map(int, listed.read().split()))
    return sorted(found)


def _ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except OSError:
        return True


def tied(program: str) -> tuple[str, list[str]]:
    """A program and arguments before its own that run `program` so that it ends with this process, even if that is
    killed; where the system has no such thing, the program itself.
    """
    if sys.platform != "linux":
        return program, []
    return sys.executable, ["-I", "-S", os.path.join(os.path.dirname(__file__), "tied.py"), str(os.getpid()), program]
