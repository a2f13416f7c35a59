"""What people type for their files, paths, folders and patterns, to the files that it means, each once.

On this machine's own filesystem a name that exists is that file, whatever is in it; `*`, `?` and `[...]` stand within
one name, `**` for any folders. What a pattern or a folder finds under a name that begins with "." or "_" is left out,
as Hive, Spark and Arrow leave out what they write beside the data, unless the pattern says "." or "_" itself.
"""
import fnmatch
import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

_WILD = re.compile(r"[*?\[]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_REMOTE = re.compile(r"[A-Za-z][-A-Za-z0-9+.]*://")
_ASIDE = (".", "_")

Patterns = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class FoundFiles(NamedTuple):
    """Attributes:
      files: each once, sorted by path; empty ones are left out.
      notes: what was left out, in words.
    """

    files: list[FileMetadata]
    notes: tuple[str, ...]


def find(patterns: Patterns) -> FoundFiles:
    """The files of some paths, folders and patterns.

    Raises:
      ValueError: one of them finds nothing, or only empty files; it is a Windows path, or can't be listed.
    """
    several = [patterns] if isinstance(patterns, (str, os.PathLike)) else list(patterns)
    found: dict[str, FileMetadata] = {}
    aside: list[str] = []
    again: set[str] = set()
    for pattern in [os.fspath(each) for each in several]:
        files = matching(pattern, aside)
        if not files:
            raise ValueError(f"input: must match at least one file, got {pattern!r} (0 files){_beside(aside)}")
        for file in files:
            same = os.path.realpath(file.path) if _is_local(file.path) else file.path
            if found.setdefault(same, file).path != file.path:
                again.add(file.path)
    files = sorted(_alike(list(found.values())), key=lambda file: file.path)
    full = [file for file in files if file.size_in_bytes != 0]
    if not full:
        raise ValueError(f"input: must hold data, got {_some([f.path for f in files])} without a byte in it")
    empty = [file.path for file in files if file.size_in_bytes == 0]
    notes = [f"input: {_some(names)} {said}" for names, said in (
        (sorted(set(aside)), "left out (the name begins with _)"),
        (empty, "left out (no byte in it)"),
        (sorted(again), "counted once (another name of a file that is there)"),
    ) if names]  # fmt: skip
    return FoundFiles(full, tuple(notes))


def matching(pattern: str, aside: list[str] | None = None) -> list[FileMetadata]:
    """The files of one path, folder or pattern, none if there are none; what was left aside is added to `aside`.

    Raises:
      ValueError: a Windows path, a pattern that is also a file's name, something that can't be listed.
    """
    aside = [] if aside is None else aside
    path = on_this_machine(pattern)
    try:
        if not _is_local(path):
            return _remote(path, aside)
        found = [(name, _status(name)) for name in dict.fromkeys(_local(path, aside))]
        return [FileMetadata(name, status.st_size, status.st_mtime) for name, status in found if status is not None]
    except OSError as error:
        raise ValueError(f"input: must be readable, got {pattern!r} ({error.strerror or error})") from error


def _status(path: str) -> os.stat_result | None:
    """What the filesystem says of a file; None if it has gone since it was listed."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise
        return None


def on_this_machine(path: str) -> str:
    """A path as `open` takes it, where it means a local file: without file://, with the home folder for ~.

    Raises:
      ValueError: a Windows path on a machine that is none, or a file:// URL of another machine.
    """
    if path.lower().startswith("file:"):
        parts = urllib.parse.urlsplit(path)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"input: must be on this machine (file:///...), got {path!r}")
        plain = path[len("file:") :].removeprefix(f"//{parts.netloc}") if path[5:7] == "//" else path[5:]
        return plain if os.path.exists(plain) else urllib.parse.unquote(plain)
    if os.name != "nt" and _DRIVE.match(path) and not os.path.exists(path):
        raise ValueError(f"input: must be a path of this machine, or a URL, got {path!r} (a path of Windows)")
    if path.startswith("~") and not os.path.exists(path):
        return os.path.expanduser(path)
    return path


def _is_local(path: str) -> bool:
    return not _REMOTE.match(path)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _beside(aside: Sequence[str]) -> str:
    return f"; {_some(sorted(set(aside)))} left out (the name begins with _)" if aside else ""


def _alike(files: list[FileMetadata]) -> list[FileMetadata]:
    """Absolute paths for all where they are for some: a row is known by its file's path from the common folder."""
    local = [os.path.isabs(file.path) for file in files if _is_local(file.path)]
    if all(local) or not any(local):
        return files
    return [
        FileMetadata(os.path.abspath(file.path), file.size_in_bytes, file.last_updated_in_seconds)
        if _is_local(file.path) else file
        for file in files
    ]


def _local(path: str, aside: list[str]) -> Iterator[str]:
    if os.path.isdir(path):
        yield from _below(path, aside, frozenset())
        return
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise ValueError(f"input: must be a file, as it is read more than once, got {path!r} (a pipe or device)")
        if re.search(r"[*?]", path) and len(others := list(_expanded(*_rooted(path), []))) > 1:
            more = next(name for name in others if name != path)
            raise ValueError(f"input: must be a file or a pattern, got {path!r}, a file that also matches {more!r}")
        yield path
    elif _WILD.search(path):
        yield from _expanded(*_rooted(path), aside)


def _rooted(path: str) -> tuple[str, list[str]]:
    """The root ("" for a relative path) and the names of a pattern."""
    root = "/" if path.startswith("/") else ""
    return root, [name for name in path.split("/") if name]


def _expanded(base: str, names: list[str], aside: list[str], around: frozenset[str] = frozenset()) -> Iterator[str]:
    """The files below `base` that a pattern's names lead to."""
    if not names:
        if os.path.isfile(base) or (os.path.islink(base) and not os.path.exists(base)):
            yield base
        return
    name, rest = names[0], names[1:]
    if name.startswith("**"):
        deeper = [f"*{name[2:]}", *rest] if name[2:] else rest or ["*"]
        here = os.path.realpath(base or ".")
        if here in around:  # by a link to a folder around it
            return
        yield from _expanded(base, deeper, aside)
        for entry in _entries(base):
            if entry.is_dir() and not entry.name.startswith(_ASIDE):
                yield from _expanded(os.path.join(base, entry.name), names, aside, around | {here})
    elif not _WILD.search(name) or ("[" in name and os.path.lexists(os.path.join(base, name))):
        yield from _expanded(os.path.join(base, name), rest, aside)
    else:
        for entry in _entries(base):
            if not fnmatch.fnmatchcase(entry.name, name) or (rest and not entry.is_dir()):
                continue
            if not _left_aside(base, entry, name, aside):
                yield from _expanded(os.path.join(base, entry.name), rest, aside)


def _left_aside(folder: str, entry: "os.DirEntry[str]", pattern: str, aside: list[str]) -> bool:
    if not entry.name.startswith(_ASIDE) or pattern.startswith(entry.name[0]):
        return False
    if entry.name.startswith("_") and entry.is_file() and entry.stat().st_size:
        aside.append(os.path.join(folder, entry.name))
    return True


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    if not os.path.isdir(folder or "."):
        return []
    with os.scandir(folder or ".") as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _below(folder: str, aside: list[str], around: frozenset[str]) -> Iterator[str]:
    """All files of a folder and its folders; a link to a folder around it is not followed."""
    here = os.path.realpath(folder)
    if here in around:
        return
    for entry in _entries(folder):
        if _left_aside(folder, entry, "", aside):
            continue
        if entry.is_dir():
            yield from _below(os.path.join(folder, entry.name), aside, around | {here})
        else:
            yield os.path.join(folder, entry.name)


def _remote(path: str, aside: list[str]) -> list[FileMetadata]:
    """The files on another filesystem: of a path, a folder or a pattern."""
    wild = _WILD.search(path)
    root = path[: wild.start()].rpartition("/")[0] + "/" if wild else path.rstrip("/") + "/"
    try:
        if "[" in path and FileSystems.exists(path):
            return [FileSystems.get_filesystem(path).metadata(path)]
        files: list[FileMetadata] = FileSystems.match([path if wild else f"{root}**"])[0].metadata_list
        if not wild and not files:
            return [] if path.endswith("/") else list(FileSystems.match([path])[0].metadata_list)
    except BeamIOError as error:
        raise ValueError(f"input: must be readable, got {path!r} ({error})") from error
    if any(name.startswith(_ASIDE) for name in path[len(root) :].split("/")):
        return files
    kept = []
    for file in files:
        names = file.path[len(root) :].split("/")
        if not any(name.startswith(_ASIDE) for name in names):
            kept.append(file)
        elif names[-1].startswith("_") and file.size_in_bytes:
            aside.append(file.path)
    return kept
