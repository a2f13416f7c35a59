"""Files that keep coming into a folder, as an unbounded source."""
import dataclasses
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystems import FileSystems

from beam_coresets.hashing import hash_integers
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.finding.paths import on_this_machine
from beam_coresets.transforms.reading.folder_keys import keys_of
from beam_coresets.transforms.reading.formats import FilePart, Format, is_local, suffix
from beam_coresets.transforms.reading.parts import FILE_FORMATS, layout_of, notes_about
from beam_coresets.transforms.reading.python_rows import coordinate_names
from beam_coresets.transforms.reading.rows import warm
from beam_coresets.transforms.streams.folder.files import Chunking, FileRows, read_rows
from beam_coresets.transforms.streams.folder.listing import Found, Listing, Snapshot, key_of, listing_of, names_in
from beam_coresets.transforms.streams.folder.progress import PartProgress
from beam_coresets.transforms.streams.source import CHUNK_BYTES, Chunk
from beam_coresets.transforms.streams.times import MAX_AHEAD, MAX_BEHIND, refuse

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3  # of a file on a remote filesystem, which may be out of reach for a while
_LONGEST_WAIT = 0.05
_MAX_REASON = 500
_OPEN_FILES = 8  # of a reader at once: each holds some blocks
_WILD = re.compile(r"[*?\[{]")


def _with_absent(schema: Any, columns: Columns) -> Any:
    for name in dict.fromkeys((*(columns.columns or ()), *columns.roles)):
        if name not in schema.names:
            number = name in (*(columns.columns or ()), columns.weight_column)
            schema = schema.append(pa.field(name, pa.float64() if number else pa.string()))
    return schema


class Folder:
    """Files as they come into a folder, in some virtual parts; a file belongs to one part by the hash of its name.

    A part is the sequence of its files as they were found, those found at once in the order of (modification time,
    name). Its offsets count rows, refused ones included; a message is a run of good rows, or one row with a time field.
    A row's event time is that field, or else the modification time of its file. Readers in one process share one
    listing, and so one order; other processes may find files in another order, so rows are known by their file, not by
    their offset: ids without an id column are hashes of "sub/f3.parquet#17" (the name below the folder, and the row
    from 0), which stands in the extras' `id`.

    A file is taken once its size and modification time have stayed the same for `settle` seconds. Write elsewhere and
    move: names that end in .tmp or begin with "." or "_" (the folders above them too) are left alone. Names
    should not be used again. A file that can't be read is one dead letter, at the place where it could not go on, and
    the rows before it stay; so is a file that changes after it was read, as far as the process that read it notices,
    and one whose event time by its modification time is refused. Each takes up one offset. A new file that does not
    settle keeps its part from being caught up: windows then wait for their deadline.

    A position is {"offset": of the next row, "file": the name that is being read or None, "row": how many of its rows
    are done, "stamp": its size and time, "done": hashes of the finished files that are still there}. So it grows by
    some 20 bytes for each file left in the folder: move away or delete what is long done.

    Files may be of different formats, told by their extensions, unless `format` names one. Which columns are
    coordinates is settled when the source is made, from the first file there by name that can be read.

    Attributes:
      dim: coordinates of a point. names: theirs, if the files have some.
      notes: which columns were left out, and what was told from the beginning of the first file, in words.

    Raises:
      ValueError: an empty folder without `columns`, or `vector_column` with `dim`; a missing or unusable column; a
        setting out of range.
    """

    def __init__(
        self,
        pattern: str,
        columns: Columns | None = None,
        format: str | None = None,
        parts: int = 64,
        settle: float = 1.0,
        poll_seconds: float = 1.0,
        time_field: str | None = None,
        time_unit: str | None = None,
        max_ahead: float = MAX_AHEAD,
        max_behind: float = MAX_BEHIND,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if parts < 1:
            raise ValueError(f"parts: must be at least 1, got {parts}")
        for name, value in (("settle", settle), ("poll_seconds", poll_seconds), ("max_ahead", max_ahead)):
            if not value >= 0:
                raise ValueError(f"{name}: must not be negative, got {value}")
        if format is not None and format not in FILE_FORMATS:
            raise ValueError(f"format: must be one of {sorted(FILE_FORMATS)}, got {format!r}")
        pattern = on_this_machine(pattern)
        folder = os.path.isdir(pattern) or not _WILD.search(pattern)
        self.pattern = pattern.rstrip("/") + "/*" if folder else pattern
        self.format, self.parts, self.settle, self.poll_seconds = format, parts, settle, poll_seconds
        self.max_ahead, self.max_behind, self.clock = max_ahead, max_behind, clock
        self.chunking = Chunking(columns or Columns(), time_field, time_unit)
        self._kept: dict[str, Any] = dict.fromkeys(self.chunking.columns.keep_columns, pa.string())
        self.names: tuple[str, ...] | None = None
        self.notes: tuple[str, ...] = ()
        self._settle_columns()

    def _settle_columns(self) -> None:
        """Says once which columns are coordinates and what type kept ones have, for all files and shards."""
        problem: ValueError | None = None
        there = names_in(self.pattern)
        for file in there:
            if not file.size:
                continue
            try:
                layout = self._layout_found(file.path, there)
            except SchemaError:
                raise
            except ValueError as error:
                problem = problem or error
                continue
            asked = self.chunking.columns
            names = layout.coordinates if asked.vector_column is None else None
            settled = dataclasses.replace(asked, columns=names, dim=layout.dim if names is None else asked.dim)
            self.chunking = dataclasses.replace(self.chunking, columns=settled)
            # later folders may say anything: a key that is no number here is text, whatever the first ones say
            texts = set(layout.keys) - {*layout.coordinates, asked.weight_column}
            types = {name: layout.schema.field(name).type for name in self._kept}
            self._kept = {name: pa.string() if name in texts else kind for name, kind in types.items()}
            self.dim = layout.dim
            self.notes = notes_about(layout, asked, file.path)
            if self.form(file.path).named and asked.header is not False:
                self.names = layout.coordinates
            return
        asked = self.chunking.columns
        if asked.columns is None and (asked.vector_column is None or asked.dim is None):
            why = f" ({problem})" if problem is not None else ""
            nothing = f"as there is no readable file yet, got none in {self.pattern!r}{why}"
            raise ValueError(f"columns: must be given, or a vector_column with dim, {nothing}") from problem
        self.names = coordinate_names(asked)
        self.dim = len(asked.columns) if asked.columns is not None else int(asked.dim or 0)

    def form(self, path: str) -> Format:
        """The format of a file.

        Raises:
          ValueError: an unknown extension, or a compressed file of a format that has its own compression.
        """
        ending, compression = suffix(path)
        own = self.format
        fits = [f for key, f in FILE_FORMATS.items() if key == own or (not own and ending in f.suffixes)]
        if not fits:
            raise ValueError(f"format: must be given, one of {sorted(FILE_FORMATS)}, for files like {path!r}, got none")
        if compression is not None and not fits[0].compressible:
            raise ValueError(f"input: must not be compressed as a whole, got {path!r}")
        return fits[0]

    def layout(self, path: str) -> Layout:
        """How one file is read: with its own types, but the coordinates and the kept columns' types as settled.

        Raises:
          ValueError: it can't be read, lacks a column, or holds something else in it.
        """
        layout = self._layout_found(path)
        schema = layout.schema
        for name, kind in self._kept.items():
            schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
        return dataclasses.replace(layout, schema=schema)

    def _layout_found(self, path: str, files: Sequence[Found] = ()) -> Layout:
        form = self.form(path)
        # a field that a line of JSON does not have is null, so one that no line has is null too
        absent = _with_absent if form is FILE_FORMATS["jsonl"] else None
        try:
            around = keys_of(_WILD.split(self.pattern)[0])
            return layout_of(path, form, self.chunking.read, files, absent, around)
        except SchemaError as error:
            raise self.chunking.explain(error) from None

    @property
    def bounded(self) -> bool:
        return False

    def starts(self) -> Mapping[int, Any]:
        return {part: {"offset": 0, "file": None, "row": 0, "stamp": None, "done": []} for part in range(self.parts)}

    def since(self, starts: Mapping[int, Any], now: float) -> Mapping[int, float]:
        return {}

    def part_name(self, part: int) -> str:
        return f"{self.pattern}[{part}]"

    def reader(self, shard: int, shards: int) -> "FolderReader":
        return FolderReader(self)

    def listing(self) -> Listing:
        """The listing that the process's readers share."""
        return listing_of(self.pattern, self.parts, self.settle, self.poll_seconds, self.clock)

    def display_data(self) -> Mapping[str, Any]:
        return {
            "folder": self.pattern,
            "parts": self.parts,
            "settle": self.settle,
            "poll_seconds": self.poll_seconds,
            "dim": self.dim,
            "metric": self.chunking.columns.metric,
            **({} if self.format is None else {"format": self.format}),
            **({} if self.chunking.time_field is None else {"time_field": self.chunking.time_field}),
        }


class FolderReader:
    """Reads parts of a Folder, a block of each in turn."""

    def __init__(self, source: Folder) -> None:
        self._source = source
        self._listing = source.listing()
        self._parts: dict[int, PartProgress] = {}
        self._turns: list[int] = []
        self._snapshot = Snapshot()
        if source.chunking.columns.metric == "cosine":
            warm()

    def seek(self, positions: Mapping[int, Any]) -> None:
        for part in positions:
            if not 0 <= part < self._source.parts:
                raise ValueError(f"part: must be one of 0 to {self._source.parts - 1}, got {part}")
        parts = {}
        for part, position in positions.items():
            held = self._parts.get(part)
            now = PartProgress(**{**position, "done": set(position["done"])})
            if held is not None and (held.offset, held.file, held.row) != (now.offset, now.file, now.row):
                now.read = {key: stamp for key, stamp in held.read.items() if key in now.done}
                held = None
            parts[part] = held or now
        self._parts, self._turns = parts, list(parts)

    def read(self, seconds: float) -> list[Chunk]:
        until = time.monotonic() + seconds
        while True:
            self._snapshot = self._listing.look()
            chunks = self._round()
            left = until - time.monotonic()
            if chunks or left <= 0 or not self._parts:
                return chunks
            time.sleep(min(left, _LONGEST_WAIT))

    def _round(self) -> list[Chunk]:
        chunks, size = [], 0
        for part in tuple(self._turns):
            chunk = self._next(part)
            if chunk is None:
                continue
            chunks.append(chunk)
            size += chunk.points.nbytes
            if size >= CHUNK_BYTES:  # the others are first the next time
                turn = self._turns.index(part) + 1
                self._turns = self._turns[turn:] + self._turns[:turn]
                break
        return chunks

    def _next(self, part: int) -> Chunk | None:
        progress, snapshot = self._parts[part], self._snapshot
        if progress.version != snapshot.version:
            progress.update(snapshot, part)
        changed = progress.changed(snapshot)
        if changed is not None:
            return self._letter(part, changed.path, "changed after it was read: must come whole, under a new name")
        while True:
            if progress.rows is None:
                refused = self._open(part)
                if refused is not None or progress.rows is None:
                    return refused
            try:
                rows = next(progress.rows, None)
            except (ValueError, OSError) as error:
                return self._failed(part, error)
            if rows is not None:
                return self._chunk(part, rows)
            progress.finish()

    def _open(self, part: int) -> Chunk | None:
        """Opens the file that is due, if any; or says why it can't be used."""
        progress, snapshot = self._parts[part], self._snapshot
        if sum(other.rows is not None for other in self._parts.values()) >= _OPEN_FILES:
            return None
        while progress.file is None:
            found = next((f for f in progress.queue if f.key not in snapshot.moving), None)
            if found is None:
                return None
            progress.queue.remove(found)
            progress.begin(found)
            if progress.stamp is not None and not progress.stamp[0]:
                progress.finish()
        key = key_of(progress.file)
        found = snapshot.moving.get(key) or snapshot.files.get(key)
        if not snapshot.version or progress.retry > snapshot.version:
            return None
        if found is None or found.stamp != progress.stamp:
            what = "vanished" if found is None else "changed"
            path = progress.file if found is None else found.path
            progress.stamp = progress.stamp if found is None else found.stamp  # one letter for one change
            return self._letter(part, path, f"{what} while it was read: must stay until it is done", finish=True)
        if self._source.chunking.time_field is None:
            reason = self._refuse(np.array([found.time]))[0]
            if reason is not None:
                return self._letter(part, found.path, reason, finish=True)
        progress.rows = self._rows(found, progress.row)
        return None

    def _rows(self, found: Found, row: int) -> Iterator[FileRows]:
        layout = self._source.layout(found.path)
        whole = FilePart(found.path, 0, found.size, 0)
        FileSystems.report_source_lineage(found.path)
        yield from read_rows([whole], self._source.form(found.path), layout, row)

    def _refuse(self, times: Any) -> Any:
        source = self._source
        return refuse(times, source.clock(), source.max_ahead, source.max_behind)

    def _failed(self, part: int, error: Exception) -> Chunk | None:
        """A letter, or another try later on: a remote file may be out of reach for a while."""
        progress = self._parts[part]
        found = self._snapshot.files.get(key_of(progress.file or ""))
        path = str(progress.file) if found is None else found.path
        progress.rows = None
        progress.failures += 1
        if not is_local(path) and not isinstance(error, SchemaError) and progress.failures < _ATTEMPTS:
            progress.retry = self._snapshot.version + 1
            return None
        return self._letter(part, path, f"unreadable: {error}", finish=True)

    def _letter(self, part: int, path: str, reason: str, finish: bool = False) -> Chunk:
        """A chunk of no rows; it takes up one offset."""
        progress = self._parts[part]
        letter = DeadLetter(reason[:_MAX_REASON], "", path, f"row {progress.row}" if finish else "", "")
        _LOG.warning("%s: %s", path, reason)
        if finish:
            progress.finish()
        start, progress.offset = progress.offset, progress.offset + 1
        nothing, points = np.empty(0, np.int64), np.empty((0, self._source.dim), np.float32)
        return Chunk(
            part, start, start + 1, progress.position(), points, nothing, nothing, np.empty(0), letters=(letter,)
        )

    def _chunk(self, part: int, rows: FileRows) -> Chunk:
        progress, chunking = self._parts[part], self._source.chunking
        name, stamp = progress.file or "", progress.stamp or [0.0, 0.0]
        base = progress.offset - progress.row
        progress.offset, progress.row = base + rows.stop, rows.stop
        if rows.last:
            progress.finish()
        chunk = chunking.chunk(part, rows, base, progress.position(), stamp[1], self._refuse)
        if chunking.columns.id_column is not None:
            return chunk
        before = np.cumsum(chunk.counts) - chunk.counts
        numbers = np.repeat(chunk.offsets - base - before, chunk.counts) + np.arange(len(chunk.points))
        printed = pc.binary_join_element_wise(pa.scalar(name), pa.array(numbers).cast(pa.string()), "#")
        extras = pa.table({"id": printed})
        for field in () if chunk.extras is None else chunk.extras.schema:
            extras = extras.append_column(field, chunk.extras.column(field.name))
        return dataclasses.replace(chunk, ids=hash_integers(numbers, salt=key_of(name)), extras=extras)

    def caught_up(self, part: int) -> bool:
        """Whether the last listing held nothing else for the part, files that have not settled included."""
        progress, snapshot = self._parts[part], self._snapshot
        fresh = snapshot.version > 0 and not snapshot.failed and progress.version == snapshot.version
        return fresh and progress.file is None and not progress.queue and part not in snapshot.arriving

    def drained(self, part: int) -> bool:
        return self.caught_up(part)

    def knows_parts(self, since: float) -> bool:
        return True

    def age(self, part: int) -> float:
        return self._listing.age(self._snapshot)

    def ended(self, part: int) -> bool:
        return False

    def new_parts(self) -> Mapping[int, Any]:
        return {}

    def commit(self, positions: Mapping[int, Any]) -> None:
        pass

    def close(self) -> None:
        self._parts, self._turns = {}, []
