"""What is in a folder, looked up every so often for all readers of a process, and which of its files have settled."""
import dataclasses
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from beam_coresets.hashing import derive_seed
from beam_coresets.transforms.reading.finding.paths import matching
from beam_coresets.transforms.streams.clocks import steady

_LOG = logging.getLogger(__name__)
_WILD = re.compile(r"[*?\[{]")


class Found(NamedTuple):
    """A file as it was listed.

    Attributes:
      key: 64-bit hash of the name.
      name: its path below the folder.
      path: where to open it.
      size, time: bytes, and the modification time in seconds since the epoch.
    """

    key: int
    name: str
    path: str
    size: int
    time: float

    @property
    def stamp(self) -> list[float]:
        """What tells the file from a later one of that name, as a JSON value."""
        return [self.size, self.time]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a listing found.

    Attributes:
      version: counts listings from 1; 0 if there was none yet.
      at: when it was begun, in seconds of the listing's clock.
      failed: the folder could not be listed since; all else is as it was.
      files: the settled files by key, in the order in which they were found.
      by_part: the same by part.
      present: keys of all files that are there, settled or not; empty if nothing is.
      moving: by key what is seen now of new files that have not settled, and of settled ones that have changed since.
      arriving: parts of new files that have not settled.
    """

    version: int = 0
    at: float = 0.0
    failed: bool = False
    files: Mapping[int, Found] = dataclasses.field(default_factory=dict)
    by_part: Mapping[int, tuple[Found, ...]] = dataclasses.field(default_factory=dict)
    present: frozenset[int] = frozenset()
    moving: Mapping[int, Found] = dataclasses.field(default_factory=dict)
    arriving: frozenset[int] = frozenset()


def key_of(name: str) -> int:
    """64-bit hash of a name below the folder."""
    return derive_seed("Folder", name)


def names_in(pattern: str) -> list[Found]:
    """All files of a glob that are not left alone (.tmp, or "." or "_" in front), sorted by name."""
    wild = _WILD.search(pattern)
    root = pattern[: wild.start() if wild else len(pattern)].rpartition("/")[0]
    root = root + "/" if root else ""
    found = []
    for file in matching(pattern):
        path = file.path.replace("\\", "/")
        name = path[len(root) :] if path.startswith(root) else path
        if name.endswith(".tmp") or any(word.startswith((".", "_")) for word in name.split("/")):
            continue
        changed = float(file.last_updated_in_seconds or 0.0)
        found.append(Found(key_of(name), name, file.path, file.size_in_bytes, changed))
    return sorted(found, key=lambda f: f.name)


class Listing:
    """Lists a folder at most once every `poll_seconds`; may be asked by many threads."""

    def __init__(
        self, pattern: str, parts: int, settle: float, poll_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._pattern, self._parts, self._settle, self._poll, self._clock = pattern, parts, settle, poll_seconds, clock
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._files: dict[int, Found] = {}
        self._waiting: dict[int, tuple[Found, float]] = {}  # what was seen of a file, and since when
        self._snapshot = Snapshot()

    def age(self, snapshot: Snapshot) -> float:
        """Seconds since a listing was begun: what has come since then is not in it."""
        return max(0.0, self._clock() - snapshot.at)

    def look(self) -> Snapshot:
        """The newest listing; makes another one if it is time and no other thread is at it."""
        if self._clock() - self._at >= self._poll and self._lock.acquire(blocking=False):
            try:
                self._list()
            finally:
                self._lock.release()
        return self._snapshot

    def _list(self) -> None:
        now = self._clock()
        try:
            found = names_in(self._pattern)
        except Exception as error:  # a filesystem may raise anything; the stream waits for it
            _LOG.warning("input: must be a folder that can be listed, got %r (%s)", self._pattern, error)
            self._snapshot = dataclasses.replace(self._snapshot, failed=True)
            self._at = now
            return
        ready = self._settled(found, now)
        present = frozenset(file.key for file in found)
        if present:  # a folder that is empty all at once may be one that has gone for a while
            self._files = {key: file for key, file in self._files.items() if key in present}
        self._files.update({file.key: file for file in sorted(ready, key=lambda f: (f.time, f.name))})
        self._at = now
        self._snapshot = self._shown(present)

    def _settled(self, found: list[Found], now: float) -> list[Found]:
        """The new and the changed files that have stayed the same for long enough; notes down the others."""
        ready = []
        waiting: dict[int, tuple[Found, float]] = {}
        for file in found:
            before = self._files.get(file.key)
            if before is not None and before.stamp == file.stamp:
                continue
            seen, since = self._waiting.get(file.key, (file, now))
            since = since if seen.stamp == file.stamp else now
            if now - since >= self._settle:
                ready.append(file)
            else:
                waiting[file.key] = file, since
        self._waiting = waiting
        return ready

    def _shown(self, present: frozenset[int]) -> Snapshot:
        by_part: dict[int, list[Found]] = {}
        for file in self._files.values():
            by_part.setdefault(file.key % self._parts, []).append(file)
        return Snapshot(
            self._snapshot.version + 1,
            self._at,
            False,
            dict(self._files),
            {part: tuple(files) for part, files in by_part.items()},
            present,
            {key: file for key, (file, _) in self._waiting.items()},
            frozenset(key % self._parts for key in self._waiting if key not in self._files),
        )


_LISTINGS: "weakref.WeakValueDictionary[Any, Listing]" = weakref.WeakValueDictionary()
_MAKING = threading.Lock()


def listing_of(
    pattern: str, parts: int, settle: float, poll_seconds: float, clock: Callable[[], float]
) -> Listing:
    """The process's one listing of a folder, for as long as anyone holds it."""
    clock = steady if clock is time.time else clock  # one that is set must not settle what is being written
    settings = pattern, parts, settle, poll_seconds, clock
    with _MAKING:
        listing = _LISTINGS.get(settings)
        if listing is None:
            listing = _LISTINGS[settings] = Listing(*settings)
        return listing
