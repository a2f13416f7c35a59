"""Whether the run that owns a folder is still at work: told by its process on the same machine, elsewhere by its last
sign of life."""
import contextlib
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_coresets.transforms.writing import atomic_files

BEAT_SECONDS = 15.0
LEASE_SECONDS = 120.0  # without a sign of life for so long, a run on another machine is taken for dead


def this_process() -> dict[str, Any]:
    """What others need to tell whether this process is at work."""
    return {"machine": _machine(), "host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}


def is_alive(owner: dict[str, Any], beat: str) -> bool:
    """Whether the run that has written this about itself goes on, given where its signs of life are.

    A run that was left to a cluster has no process: it is taken to go on.
    """
    if owner.get("detached"):
        return True
    if owner["machine"] == _machine():
        return _born(owner["pid"]) == owner["born"]
    try:
        last = float(atomic_files.read(beat))
    except (OSError, BeamIOError, ValueError):
        last = float(owner["at"])
    return time.time() - last < LEASE_SECONDS


@contextlib.contextmanager
def signs_of_life(beat: str) -> Iterator[None]:
    """Leaves one every now and then."""
    over = threading.Event()

    def leave() -> None:
        while not over.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError, BeamIOError):  # the next one may do; without them others may go on
                atomic_files.replace(beat, str(time.time()).encode())

    thread = threading.Thread(target=leave, daemon=True, name="signs of life")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError, BeamIOError):
            if FileSystems.exists(beat):
                FileSystems.delete([beat])


def _machine() -> str:
    """One boot of one machine, and the namespace that its process numbers are of."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _born(pid: int) -> str | None:
    """When a process began, in ticks since the boot; None if there is none; without /proc only whether there is."""
    try:
        state, *rest = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if os.path.exists("/proc/self/stat"):
            return None
        with contextlib.suppress(ProcessLookupError):
            with contextlib.suppress(PermissionError):
                os.kill(pid, 0)
            return ""
        return None
    return None if state in "ZX" else rest[18]
