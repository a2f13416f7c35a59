"""Reads files as they come into a folder."""
import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Any

from beam_coresets.transforms.streams.folder.files import FileRows
from beam_coresets.transforms.streams.folder.listing import Found, Snapshot, key_of


@dataclasses.dataclass
class PartProgress:
    """How far a part has been read; the first five fields are its position."""

    offset: int
    file: str | None
    row: int
    stamp: list[float] | None
    done: set[int]
    rows: Iterator[FileRows] | None = None
    failures: int = 0
    version: int = 0
    retry: int = 0
    queue: deque[Found] = dataclasses.field(default_factory=deque)
    read: dict[int, list[float]] = dataclasses.field(default_factory=dict)  # what the files were when they were read

    def position(self) -> dict[str, Any]:
        """The part's position, as JSON (`Folder`)."""
        return {
            "offset": self.offset, "file": self.file, "row": self.row, "stamp": self.stamp, "done": sorted(self.done)
        }  # fmt: skip

    def update(self, snapshot: Snapshot, part: int) -> None:
        """Takes in a new listing: what is there to read, and which finished files have gone."""
        self.version = snapshot.version
        if snapshot.present:
            self.done &= snapshot.present
            self.read = {key: stamp for key, stamp in self.read.items() if key in snapshot.present}
        files = snapshot.by_part.get(part, ())
        self.queue = deque(f for f in files if f.key not in self.done and f.name != self.file)

    def changed(self, snapshot: Snapshot) -> Found | None:
        """A file that is not any more what was read; each change is told once."""
        for key, stamp in self.read.items():
            found = snapshot.files.get(key)
            if found is not None and key not in snapshot.moving and found.stamp != stamp:
                self.read[key] = found.stamp
                return found
        return None

    def begin(self, found: Found) -> None:
        """Takes up a file at its first row."""
        self.file, self.row, self.stamp, self.failures = found.name, 0, found.stamp, 0

    def finish(self) -> None:
        """Counts the file that is being read among the finished ones."""
        if self.file is not None and self.stamp is not None:
            self.done.add(key_of(self.file))
            self.read[key_of(self.file)] = self.stamp
        self.file, self.row, self.stamp, self.rows = None, 0, None, None
