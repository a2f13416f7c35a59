"""Folders of files, on this machine or wherever fsspec reaches: what is in them, and their content."""
from __future__ import annotations

import collections
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import pyarrow as pa

GLOB = frozenset("*?[")
AHEAD = 2  # things that are read before they are needed, for each reader

_T = TypeVar("_T")
_R = TypeVar("_R")


class NoSummariesError(ValueError):
    """There is no such folder, or none of the windows that were asked for in it (yet)."""


class Place(Protocol):
    """A folder.

    Attributes:
      name: as it is shown. readers: threads that read from it at once.
    """

    name: str
    readers: int

    def names_in(self, folder: str) -> list[str]:
        """The names of the files in a folder below it; none if there is no such folder."""
        ...

    def files_under(self, folder: str) -> list[str]:
        """The files in a folder below it and in the folders there, as paths from that folder on, with slashes."""
        ...

    def read(self, path: str) -> bytes:
        """The whole content of a file, given by its path with slashes. Raises FileNotFoundError if it is not there."""
        ...

    def view(self, path: str) -> pa.Buffer:
        """`read` without the memory where that can be had: of files that nobody writes to any more."""
        ...


class LocalPlace:
    """A folder on this machine."""

    readers = 1

    def __init__(self, path: str) -> None:
        self.name = path

    def names_in(self, folder: str) -> list[str]:
        """See `Place`."""
        try:
            return sorted(entry.name for entry in os.scandir(os.path.join(self.name, folder)) if not entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def files_under(self, folder: str) -> list[str]:
        """See `Place`."""
        top = os.path.join(self.name, folder)
        found = [os.path.relpath(os.path.join(at, name), top) for at, _, names in os.walk(top) for name in names]
        return sorted(path.replace(os.sep, "/") for path in found)

    def read(self, path: str) -> bytes:
        """See `Place`."""
        with open(os.path.join(self.name, *path.split("/")), "rb") as file:
            return file.read()

    def view(self, path: str) -> pa.Buffer:
        """See `Place`."""
        at = os.path.join(self.name, *path.split("/"))
        return pa.memory_map(at).read_buffer() if os.path.getsize(at) else pa.py_buffer(b"")


class RemotePlace:
    """A folder that fsspec reaches.

    Args:
      files: the filesystem. path: of the folder in it. name: as it is shown.
    """

    readers = 16  # most of the time they wait

    def __init__(self, files: Any, path: str, name: str) -> None:
        self._files, self._path, self.name = files, path.rstrip("/"), name

    def names_in(self, folder: str) -> list[str]:
        """See `Place`."""
        where = f"{self._path}/{folder}"
        self._files.invalidate_cache(where)  # somebody may be writing
        try:
            found = self._files.ls(where, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(each["name"].rsplit("/", 1)[-1] for each in found if each["type"] == "file")

    def files_under(self, folder: str) -> list[str]:
        """See `Place`."""
        where = f"{self._path}/{folder}"
        self._files.invalidate_cache(where)
        try:
            found = self._files.find(where)
        except (FileNotFoundError, NotADirectoryError):
            return []
        inside = where.strip("/") + "/"
        return sorted(path.strip("/").partition(inside)[2] for path in found)

    def read(self, path: str) -> bytes:
        """See `Place`."""
        content: bytes = self._files.cat_file(f"{self._path}/{path}")
        return content

    def view(self, path: str) -> pa.Buffer:
        """See `Place`."""
        return pa.py_buffer(self.read(path))


def ahead(items: Iterable[_T], do: Callable[[_T], _R], readers: int) -> Iterator[tuple[_T, Future[_R]]]:
    """Each item with what is done to it, in their order: a few are done in other threads before they are asked for."""
    with ThreadPoolExecutor(readers) as pool:
        waiting: collections.deque[tuple[_T, Future[_R]]] = collections.deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(do, item)))
                if len(waiting) > AHEAD * readers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()


def places_of(pattern: str) -> list[Place]:
    """The folder of this name, or those that a glob finds, in the order of their names.

    Args:
      pattern: a path on this machine, or a URL such as s3://bucket/out that fsspec knows.

    Raises:
      NoSummariesError: there is no such folder.
      ValueError: an empty name, or one that fsspec has no module for.
    """
    if not pattern:
        raise ValueError(f"path: must be the name of a folder, got {pattern!r}")
    if "://" not in pattern or pattern.startswith("file://"):
        path = pattern.removeprefix("file://")
        found = sorted(glob.glob(path)) if GLOB & set(path) and not os.path.isdir(path) else [path]
        places: list[Place] = [LocalPlace(folder) for folder in found if os.path.isdir(folder)]
    else:
        places = _remote(pattern)
    if not places:
        raise NoSummariesError(f"path: must be an output folder or a glob of some, got {pattern!r} without any")
    return places


def _remote(pattern: str) -> list[Place]:
    try:
        import fsspec

        files, path = fsspec.core.url_to_fs(pattern)
    except (ImportError, ValueError) as error:
        raise ValueError(f"path: must be a folder that fsspec reaches, got {pattern!r} ({error})") from None
    scheme = pattern.split("://", 1)[0]
    found = sorted(map(str, files.glob(path))) if GLOB & set(path) else [path]
    return [RemotePlace(files, folder, f"{scheme}://{folder.lstrip('/')}") for folder in found if files.isdir(folder)]
