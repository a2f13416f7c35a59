"""Files as a bounded source with addressable parts: the same parts, rows and dead letters as `ReadBlocks`."""
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam.io.filesystems import FileSystems

from beam_coresets.points.block import PointBlock, Span
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading import folder_keys
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.finding.paths import Patterns, find
from beam_coresets.transforms.reading.formats import FilePart, Format, naming
from beam_coresets.transforms.reading.parts import FILE_FORMATS, MIN_PART_BYTES, listed, probe, row_names
from beam_coresets.transforms.reading.rows import build_placed, regroup, warm
from beam_coresets.transforms.streams.source import Chunk
from beam_coresets.transforms.streams.times import UNITS, seconds_of

Array = npt.NDArray[Any]
Why = Callable[[Array], Array]

ENDED = -1


@dataclasses.dataclass(frozen=True, eq=False)
class FileRows:
    """Consecutive rows of a sequence of files.

    Attributes:
      start, stop: the offsets read, [start, stop), counted from the beginning of the first file.
      block: the good ones.
      offsets: (n,) int64, where each of them stood.
      letters: the others.
      pieces, places: all rows as they were read, and the places (n,) of the good ones among them.
      last: nothing comes after them.
    """

    start: int
    stop: int
    block: PointBlock
    offsets: npt.NDArray[np.int64]
    letters: tuple[DeadLetter, ...]
    pieces: Sequence[Batch]
    places: npt.NDArray[np.int64]
    last: bool = False

    def take(self, rows: Array) -> "FileRows":
        """The same range with only these of its good rows."""
        return dataclasses.replace(
            self, block=self.block.take(rows), offsets=self.offsets[rows], places=self.places[rows]
        )

    def letter(self, i: int, column: str, reason: str) -> DeadLetter:
        """What becomes of the i-th good row, if a column turns out to be unusable."""
        place = int(self.places[i])
        for piece in self.pieces:
            if place < len(piece):
                return piece.letter(place, column, reason)
            place -= len(piece)
        raise IndexError(f"i: must be less than {len(self.places)}, got {i}")


def _offset(letter: DeadLetter, rows: FileRows) -> int:
    """Where a letter of the rows of one file stood."""
    number = letter.position.removeprefix("row ")
    return int(number) if number.isdecimal() else rows.start


class _Unparsed:
    """Rows that could not even be parsed, with their offsets; readers may report them ahead of their neighbours."""

    def __init__(self, skip: int) -> None:
        self._skip = skip
        self._letters: list[tuple[int, DeadLetter]] = []
        self.shift = self.end = 0

    def __call__(self, letter: DeadLetter) -> None:
        offset = self.shift + int(letter.position.removeprefix("row "))
        self.end = max(self.end, offset + 1)
        if offset >= self._skip:
            self._letters.append((offset, letter))

    def before(self, stop: float) -> tuple[DeadLetter, ...]:
        """Gives out those before an offset."""
        out = tuple(letter for offset, letter in self._letters if offset < stop)
        self._letters = [pair for pair in self._letters if pair[0] >= stop]
        return out


def _batches(files: Sequence[FilePart], form: Format, layout: Layout, skip: int, bad: _Unparsed) -> Iterator[Batch]:
    """The batches of the files with their `shift`, from offset `skip` on."""
    for file in files:
        bad.shift, first = bad.end, 0 if file.start == 0 else None
        with naming(form.label, file.path):
            for batch in folder_keys.read(form, file, layout, bad):
                if not len(batch):
                    continue
                first = int(batch.rows[0]) if first is None else first
                shift = bad.shift - first
                bad.end = max(bad.end, int(batch.rows[-1]) + shift + 1)
                low = int(np.searchsorted(batch.rows, skip - shift))
                if low < len(batch):
                    yield dataclasses.replace(batch.cut(low, len(batch)), shift=shift)


def _built(pieces: Sequence[Batch], layout: Layout, start: int, bad: _Unparsed) -> FileRows:
    offsets = np.concatenate([piece.rows + piece.shift for piece in pieces]).astype(np.int64)
    stop = int(offsets[-1]) + 1
    block, letters, places = build_placed(pieces, layout, Span(0, 0))
    return FileRows(start, stop, block, offsets[places], (*bad.before(stop), *letters), pieces, places)


def read_rows(files: Sequence[FilePart], form: Format, layout: Layout, skip: int = 0) -> Iterator[FileRows]:
    """The rows of some files from an offset on, a block at a time, the last one marked.

    Offsets count all rows of the files, refused and unparsable ones too. Starting at the `stop` of a block gives
    exactly what came after it. Nothing is yielded where no rows are left.

    Raises:
      ValueError: a file can't be read; the message names it. Whole blocks before the fault have been yielded.
    """
    bad = _Unparsed(skip)
    held: FileRows | None = None
    try:
        for pieces in regroup(_batches(files, form, layout, skip, bad), layout.block_rows):
            if held is not None:
                yield held
            held = _built(pieces, layout, skip if held is None else held.stop, bad)
    except ValueError:
        if held is not None:
            yield held
        raise
    rest = bad.before(np.inf)
    if held is None and rest:
        block, _, places = build_placed([], layout, Span(0, 0))
        held = FileRows(skip, skip, block, places, (), (), places)
    if held is not None:
        stop = max(held.stop, bad.end) if rest else held.stop
        yield dataclasses.replace(held, stop=stop, letters=held.letters + rest, last=True)


@dataclasses.dataclass(frozen=True)
class Chunking:
    """How rows become messages: with a time of their own each, or as many at once as stand together.

    Attributes:
      columns: what the user asked for.
      time_field: the column that holds the event time, or None.
      time_unit: what its numbers count: s, ms, us or ns; None: seconds, and milliseconds above 1e11.

    Raises:
      ValueError: an unknown unit, or a time field with the name of an output column.
    """

    columns: Columns
    time_field: str | None = None
    time_unit: str | None = None

    def __post_init__(self) -> None:
        if self.time_unit is not None and self.time_unit not in UNITS:
            raise ValueError(f"time_unit: must be one of {', '.join(UNITS)}, got {self.time_unit!r}")
        try:
            _ = self.read
        except ValueError as error:
            raise ValueError(str(error).replace("keep_columns", "time_field", 1)) from None

    @property
    def _added(self) -> bool:
        return self.time_field is not None and self.time_field not in self.columns.keep_columns

    @property
    def read(self) -> Columns:
        """The columns to read: the time travels as a kept column, until it is cut off."""
        if not self._added or self.time_field is None:
            return self.columns
        return dataclasses.replace(self.columns, keep_columns=(*self.columns.keep_columns, self.time_field))

    def explain(self, error: SchemaError) -> SchemaError:
        """The same error, under the name that the user knows the column by."""
        if self._added and str(error).endswith(f"got {self.time_field!r}"):
            return SchemaError(str(error).replace("keep_columns", "time_field", 1))
        return error

    def chunk(
        self, part: int, rows: FileRows, base: int, position: Any, time: float = 0.0, why: Why | None = None
    ) -> Chunk:
        """Rows as a chunk.

        Args:
          base: offset in the part of the rows' offset 0.
          time: event time of all rows, without a time field.
          why: gives reasons (or None) to refuse event times.
        """
        letters, times = rows.letters, np.full(len(rows.block), time)
        if self.time_field is not None:
            times, reasons = seconds_of(rows.block.extras.column(self.time_field), self.time_unit)
            if why is not None:
                reasons = np.where(reasons.astype(bool), reasons, why(times))
            refused = reasons.astype(bool)
            if refused.any():
                some = np.flatnonzero(refused)
                letters += tuple(rows.letter(int(i), self.time_field, reasons[i]) for i in some)
                rows, times = rows.take(np.flatnonzero(~refused)), times[~refused]
        first = self._messages(rows)
        block, extras = rows.block, rows.block.extras
        if self._added and extras is not None:
            extras = extras.drop_columns([self.time_field]) if extras.num_columns > 1 else None
        return Chunk(
            part, base + rows.start, base + rows.stop, position, block.points, base + rows.offsets[first],
            np.diff(np.append(first, len(block))), times[first],
            weights=None if self.columns.weight_column is None else block.weights,
            ids=None if self.columns.id_column is None else block.ids,
            groups=block.groups, extras=extras, letters=letters,
            letter_offsets=np.array([base + _offset(letter, rows) for letter in letters], np.int64),
            letter_times=None if self.time_field is not None else np.full(len(letters), time),
        )  # fmt: skip

    def _messages(self, rows: FileRows) -> npt.NDArray[np.int64]:
        """(m,) the first row of each message; offset and number within a message always give the row's own offset."""
        if self.time_field is not None or not len(rows.offsets):
            return np.arange(len(rows.offsets))
        return np.append(0, np.flatnonzero(np.diff(rows.offsets) != 1) + 1)


class FileParts:
    """Files cut into at most some 512 parts (byte ranges of large Parquet and .npy files, runs of small files).

    Rows and dead letters are those of `ReadBlocks`, and of Parquet and .npy files its parts, too: others stay whole, as
    their rows would have to be counted first. A chunk is a block of a part. The offset of a row is the number of rows
    before it in its part, refused ones included; a message is a run of good rows without a gap, so that a row's offset
    is its message's plus its number in it. With a time field, each row is a message. A position is the next offset, or
    -1 at the end; a part that is taken up in the middle is read from its beginning again, and skipped.

    Without an id column a row is known by the name of its part and its message's offset and its number in it:
    "day/f3.parquet@65536#17" is row 65553 of the file (from 0; "@65553" where it is a message of its own),
    "f3.parquet[1]@0#17" row 17 of the second range of a file that was cut, "a.csv..k.csv@0#17" row 17 of small files
    that were put together, counted on from file to file.

    The files are listed and the first one is looked into when the source is made, as for `ReadBlocks`.

    Attributes:
      files, parts, layout: what was found.
      dim: coordinates of a point. names: theirs, if the files have some.

    Raises:
      ValueError: no files, no common format, an unreadable first file, a missing or unusable column.
    """

    def __init__(
        self,
        patterns: Patterns,
        columns: Columns | None = None,
        format: str | None = None,
        part_bytes: int = MIN_PART_BYTES,
        time_field: str | None = None,
        time_unit: str | None = None,
    ) -> None:
        self.chunking = Chunking(columns or Columns(), time_field, time_unit)
        self.files = find(patterns).files
        self.format, self.parts = listed(self.files, format, part_bytes)
        try:
            self.layout = probe(self.files, FILE_FORMATS[self.format], self.chunking.read)
        except SchemaError as error:
            raise self.chunking.explain(error) from None
        self.dim, self.names = self.layout.dim, self.layout.names
        self._names = self._part_names()

    def _part_names(self) -> list[str]:
        names = row_names(self.files)
        pieces = Counter(file.key for part in self.parts for file in part.files)
        seen: Counter[int] = Counter()
        out = []
        for part in self.parts:
            called = []
            for file in part.files:
                cut = f"[{seen[file.key]}]" if pieces[file.key] > 1 else ""
                called.append(names[file.key] + cut)
                seen[file.key] += 1
            out.append(called[0] if len(called) == 1 else f"{called[0]}..{called[-1]}")
        return out

    @property
    def bounded(self) -> bool:
        return True

    def starts(self) -> Mapping[int, int]:
        return {part.index: 0 for part in self.parts}

    def since(self, starts: Mapping[int, int], now: float) -> Mapping[int, float]:
        return {}

    def part_name(self, part: int) -> str:
        return self._names[part]

    def reader(self, shard: int, shards: int) -> "FileReader":
        return FileReader(self)

    def display_data(self) -> Mapping[str, Any]:
        return {
            "files": len(self.files),
            "first_file": self.files[0].path,
            "bytes": sum(file.size_in_bytes for file in self.files),
            "parts": len(self.parts),
            "format": self.format,
            "dim": self.dim,
            "metric": self.layout.options.metric,
            **({} if self.chunking.time_field is None else {"time_field": self.chunking.time_field}),
        }


class FileReader:
    """Reads parts of a FileParts one after the other, in the order they were given in: some are done early."""

    def __init__(self, source: FileParts) -> None:
        self._source = source
        self._positions: dict[int, int] = {}
        self._open: tuple[int, Iterator[FileRows]] | None = None
        if source.layout.options.metric == "cosine":
            warm()

    def seek(self, positions: Mapping[int, int]) -> None:
        for part, position in positions.items():
            if not 0 <= part < len(self._source.parts):
                raise ValueError(f"part: must be one of 0 to {len(self._source.parts) - 1}, got {part}")
            if position < ENDED:
                raise ValueError(f"position: must not be negative (but -1 for the end), got {position}")
        if self._open is not None and positions.get(self._open[0]) != self._positions[self._open[0]]:
            self._open = None
        self._positions = dict(positions)

    def read(self, seconds: float) -> list[Chunk]:
        """The next block of the first part that has not ended; waits for nothing, as all is there."""
        for part, position in self._positions.items():
            if position == ENDED:
                continue
            if self._open is None or self._open[0] != part:
                files, form = self._source.parts[part].files, FILE_FORMATS[self._source.format]
                for file in files:
                    FileSystems.report_source_lineage(file.path)
                self._open = part, read_rows(files, form, self._source.layout, position)
            rows = next(self._open[1], None)
            if rows is None or rows.last:
                self._open = None
            self._positions[part] = ENDED if rows is None or rows.last else rows.stop
            if rows is not None:
                return [self._source.chunking.chunk(part, rows, 0, self._positions[part])]
        return []

    def caught_up(self, part: int) -> bool:
        return self.ended(part)

    def drained(self, part: int) -> bool:
        return self.caught_up(part)

    def knows_parts(self, since: float) -> bool:
        return True

    def age(self, part: int) -> float:
        return 0.0

    def ended(self, part: int) -> bool:
        return self._positions[part] == ENDED

    def new_parts(self) -> Mapping[int, int]:
        return {}

    def commit(self, positions: Mapping[int, int]) -> None:
        pass

    def close(self) -> None:
        self._open = None
