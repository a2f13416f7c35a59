"""Files on any Beam filesystem, or rows of any PCollection, to PointBlocks and dead letters.

    parts of the listing | Reshuffle | read a part            (blocks fuse with everything behind them)

How the files are cut into parts, the rows into blocks, and what a row's id is depend on the files' names, sizes and
contents alone: not on workers, on the order of a listing, or on the folder that the files stand in.
"""
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.transforms.display import DisplayDataItem
from apache_beam.utils.windowed_value import WindowedValue

from beam_coresets import hashing
from beam_coresets.points import PointBlock, Span
from beam_coresets.transforms.reading.columns import Columns, DeadLetter, Layout, resolve
from beam_coresets.transforms.reading.formats import FilePart, Format, naming, suffix
from beam_coresets.transforms.reading.python_rows import batch_of_rows, block_size
from beam_coresets.transforms.reading.rows import build, empty_block, regroup, warm
from beam_coresets.transforms.reading.text_formats import FORMATS

__all__ = ["BlocksFromRows", "Columns", "DeadLetter", "Part", "ReadBlocks", "match", "plan_parts", "row_names"]

NAMESPACE = "beam_coresets"
BLOCKS, DEAD_LETTERS = "blocks", "dead_letters"
MIN_PART_BYTES = 64 << 20
MAX_PARTS = 512
LANES = 4


@dataclasses.dataclass(frozen=True)
class Part:
    """What one task reads: byte ranges of files, in order; `index` is the `part` of its blocks' spans."""

    index: int
    files: tuple[FilePart, ...]


def match(patterns: str | Sequence[str]) -> list[FileMetadata]:
    """The files of one or several globs, each once, sorted by path.

    Raises:
      ValueError: a glob matches nothing.
    """
    found = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        files = FileSystems.match([pattern])[0].metadata_list
        if not files:
            raise ValueError(f"input: must match at least one file, got {pattern!r} (0 files)")
        found.update({file.path: file for file in files})
    return [found[path] for path in sorted(found)]


def _relative(paths: Sequence[str]) -> list[str]:
    """Paths from the longest folder that all have in common."""
    parts = [path.replace(os.sep, "/").split("/") for path in paths]
    common = 0
    while all(len(p) > common + 1 for p in parts) and len({p[common] for p in parts}) == 1:
        common += 1
    return ["/".join(p[common:]) for p in parts]


def _key(name: str, salt: int) -> int:
    raw = np.frombuffer(name.encode(), np.uint8).copy()
    return int(hashing.hash_bytes(np.array([0, len(raw)], np.int64), raw, salt)[0]) >> 32


def row_names(files: Sequence[FileMetadata]) -> dict[int, str]:
    """The 32-bit key of each file -> its path from the files' common folder.

    A row of file `key` has the id `key << 32 | row number`, printed as "path#row". A key that is taken is drawn again,
    in the order of the paths.
    """
    names: dict[int, str] = {}
    for name in sorted(_relative([file.path for file in files])):
        salt = 0
        while (key := _key(name, salt)) in names:
            salt += 1
        names[key] = name
    return names


def plan_parts(files: Sequence[FileMetadata], splittable: bool, part_bytes: int = MIN_PART_BYTES) -> list[Part]:
    """Cuts files into parts of about max(`part_bytes`, total / 512) bytes, in the order of their paths.

    Small files share a part. Large ones are cut into equal byte ranges if `splittable`: a Parquet row group or an .npy
    row belongs to the range in which it begins, so a part may turn out empty. CSV, text, JSON lines, Avro and
    everything compressed are read whole, one file by one task: write many files of them, not one large one.
    """
    files = sorted(files, key=lambda file: file.path)
    target = max(part_bytes, sum(file.size_in_bytes for file in files) // MAX_PARTS)
    keys = {name: key for key, name in row_names(files).items()}
    groups: list[list[FilePart]] = [[]]
    for file, name in zip(files, _relative([file.path for file in files]), strict=True):
        size = file.size_in_bytes
        if sum(piece.stop - piece.start for piece in groups[-1]) + size > 1.5 * target and groups[-1]:
            groups.append([])
        pieces = max(1, round(size / target)) if splittable else 1
        bounds = [size * i // pieces for i in range(pieces + 1)]
        cut = [FilePart(file.path, low, high, keys[name]) for low, high in itertools.pairwise(bounds)]
        groups[-1].append(cut[0])
        groups.extend([piece] for piece in cut[1:])
        if sum(piece.stop - piece.start for piece in groups[-1]) >= target or pieces > 1:
            groups.append([])
    return [Part(i, tuple(group)) for i, group in enumerate(group for group in groups if group)]


def in_lanes(parts: Sequence[Part], lanes: int = LANES) -> list[Part]:
    """The parts in an order that deals contiguous runs to 1, 2, ... `lanes` workers taking turns.

    Neighbouring parts merge as soon as both are there: a worker that gets every other part holds on to all of them.
    """
    bounds = [len(parts) * lane // lanes for lane in range(lanes + 1)]
    runs = [parts[low:high] for low, high in itertools.pairwise(bounds)]
    return [part for step in itertools.zip_longest(*sorted(runs, key=len, reverse=True)) for part in step if part]


def find_format(files: Sequence[FileMetadata], name: str | None = None) -> Format:
    """The format called `name`, or the one that the files' extensions agree on.

    Raises:
      ValueError: unknown or different extensions, or a compressed file of a format that has its own compression.
    """
    if name is not None and name not in FORMATS:
        raise ValueError(f"format: must be one of {sorted(FORMATS)}, got {name!r}")
    found: dict[str, str] = {} if name is None else {name: ""}
    for file in files:
        ending, compression = suffix(file.path)
        names = [key for key, f in FORMATS.items() if ending in f.suffixes] if name is None else [name]
        if not names:
            raise ValueError(f"format: must be given, one of {sorted(FORMATS)}, for files like {file.path!r}, got none")
        if compression is not None and not FORMATS[names[0]].compressible:
            raise ValueError(f"input: must not be compressed as a whole, got {file.path!r}")
        found.setdefault(names[0], file.path)
    if len(found) > 1:
        raise ValueError(f"input: must be files of one format, got {found}")
    return FORMATS[next(iter(found))]


def listed(
    patterns: str | Sequence[str], format: str | None, part_bytes: int
) -> tuple[list[FileMetadata], str, list[Part]]:
    """The files of some globs, the name of their format, and the parts they are read in.

    Raises:
      ValueError: no files, or no common format.
    """
    files = match(patterns)
    form = find_format(files, format)
    name = next(name for name, each in FORMATS.items() if each is form)
    return files, name, plan_parts(files, form.splittable, part_bytes)


def probe(files: Sequence[FileMetadata], form: Format, columns: Columns) -> Layout:
    """The layout that all parts are read with, from the first file that is not empty."""
    first = min(files, key=lambda file: (not file.size_in_bytes, file.path)).path
    with naming(form.label, first):
        schema, sample = form.probe(first, columns)
    return resolve(schema, columns, first, sample)


def read_part(part: Part, form: Format, layout: Layout) -> Iterator[PointBlock | DeadLetter]:
    """The blocks of a part, ordinals 0, 1, ..., the last one marked, and between them its dead letters.

    A part without a good row gives one empty block. This is all that `ReadBlocks` does on a worker.

    Raises:
      ValueError: a file can't be read; the message names it.
    """
    letters: list[DeadLetter] = []

    def batches() -> Iterator[Any]:
        for file in part.files:
            with naming(form.label, file.path):
                yield from form.read(file, layout, letters.append)

    held: PointBlock | None = None
    for pieces in regroup(batches(), layout.block_rows):
        ordinal = 0 if held is None else held.span.ordinal + 1
        block, bad = build(pieces, layout, Span(part.index, ordinal))
        letters += bad
        yield from letters
        letters.clear()
        if len(block):
            if held is not None:
                yield held
            held = block
    yield from letters
    held = empty_block(layout, Span(part.index, 0)) if held is None else held
    yield dataclasses.replace(held, span=dataclasses.replace(held.span, last=True))


class _Counters:
    """Counts what goes out, and hands it on."""

    def __init__(self) -> None:
        names = ("points_read", "blocks_read", "dead_letters")
        self.points, self.blocks, self.letters = (Metrics.counter(NAMESPACE, name) for name in names)

    def block(self, block: PointBlock) -> PointBlock:
        self.points.inc(len(block))
        self.blocks.inc()
        return block

    def letter(self, letter: DeadLetter) -> Any:
        self.letters.inc()
        Metrics.counter(NAMESPACE, f"dead_letters_{letter.kind}").inc()
        return beam.pvalue.TaggedOutput(DEAD_LETTERS, letter)


class _ReadPart(beam.DoFn):
    def __init__(self, form: str, layout: Layout) -> None:
        self._form, self._layout = form, layout

    def setup(self) -> None:
        self._counters = _Counters()
        if self._layout.options.metric == "cosine":
            warm()

    def process(self, part: Part) -> Iterator[Any]:
        for found in read_part(part, FORMATS[self._form], self._layout):
            yield self._counters.block(found) if isinstance(found, PointBlock) else self._counters.letter(found)


class ReadBlocks(beam.PTransform):
    """Reads files to `.blocks` (PointBlock) and `.dead_letters` (DeadLetter).

    The files are listed, cut into parts and the first one is looked into when the transform is made, so that what
    can't work fails before anything runs. Blocks have no timestamp of their own (the minimum, as from any file source).

    Attributes:
      files, parts, layout: what was found.
      dim: coordinates of a point.

    Raises:
      ValueError: no files, no common format, an unreadable first file, a missing or unusable column.
    """

    def __init__(
        self,
        patterns: str | Sequence[str],
        columns: Columns | None = None,
        format: str | None = None,
        part_bytes: int = MIN_PART_BYTES,
    ) -> None:
        super().__init__()
        self.files, self.format, self.parts = listed(patterns, format, part_bytes)
        self.layout = probe(self.files, FORMATS[self.format], columns or Columns())
        self.dim = self.layout.dim

    def expand(self, begin: Any) -> Any:
        read = beam.ParDo(_ReadPart(self.format, self.layout)).with_output_types(PointBlock)
        outputs = (
            begin.pipeline
            | "Parts" >> beam.Create(in_lanes(self.parts))
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadParts" >> read.with_outputs(DEAD_LETTERS, main=BLOCKS)
        )
        outputs[DEAD_LETTERS].element_type = DeadLetter
        return outputs

    def here(self) -> Iterator[PointBlock | DeadLetter]:
        """What the transform reads, part after part, in this process and without a pipeline."""
        for part in self.parts:
            yield from read_part(part, FORMATS[self.format], self.layout)

    def display_data(self) -> dict[str, Any]:
        return {
            "files": DisplayDataItem(len(self.files), label="Files"),
            "first_file": DisplayDataItem(self.files[0].path, label="First file"),
            "bytes": DisplayDataItem(sum(file.size_in_bytes for file in self.files), label="Bytes"),
            "parts": DisplayDataItem(len(self.parts), label="Parts"),
            "format": DisplayDataItem(self.format, label="Format"),
            "dim": DisplayDataItem(self.dim, label="Coordinates of a point"),
            "metric": DisplayDataItem(self.layout.options.metric, label="Metric"),
        }


@dataclasses.dataclass
class _Pending:
    """The rows of one window that a bundle has not yet handed on."""

    rows: list[Any] = dataclasses.field(default_factory=list)
    taken: int = 0
    held: PointBlock | None = None


class _RowsToBlocks(beam.DoFn):
    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def setup(self) -> None:
        self._counters = _Counters()

    def start_bundle(self) -> None:
        self._pending: dict[Any, _Pending] = {}

    def process(self, row: Any, window: Any = beam.DoFn.WindowParam) -> Iterator[Any]:
        pending = self._pending.setdefault(window, _Pending())
        pending.rows.append(row)
        if len(pending.rows) >= block_size(pending.rows[0], self._columns):
            yield from map(self._counted, self._flush(pending, window))

    def finish_bundle(self) -> Iterator[Any]:
        for window, pending in self._pending.items():
            at = window.max_timestamp()
            for found in self._close(pending, window):
                out = self._counted(found)
                if isinstance(out, beam.pvalue.TaggedOutput):
                    yield beam.pvalue.TaggedOutput(out.tag, WindowedValue(out.value, at, [window]))
                else:
                    yield WindowedValue(out, at, [window])
        self._pending = {}

    def _counted(self, found: PointBlock | DeadLetter) -> Any:
        return self._counters.block(found) if isinstance(found, PointBlock) else self._counters.letter(found)

    def _flush(self, pending: _Pending, window: Any) -> Iterator[PointBlock | DeadLetter]:
        """Makes a block of the rows; the one before it goes out, as it was not the last."""
        if not pending.rows:
            return
        batch, layout = batch_of_rows(pending.rows, self._columns, pending.taken)
        held = pending.held
        block, letters = build([batch], layout, Span(0, 0) if held is None else held.span)
        pending.taken += len(pending.rows)
        pending.rows = []
        yield from letters
        if not len(block):
            return
        if held is None:
            # what the first block holds names the part: a retried bundle names it the same
            content = int(block.ids.sum(dtype=np.uint64)), len(block)
            span = Span(hashing.derive_seed("rows", str(window), *content) >> 1, 0)
        else:
            span = dataclasses.replace(held.span, ordinal=held.span.ordinal + 1)
            yield held
        pending.held = dataclasses.replace(block, span=span)

    def _close(self, pending: _Pending, window: Any) -> Iterator[PointBlock | DeadLetter]:
        yield from self._flush(pending, window)
        if pending.held is not None:
            yield dataclasses.replace(pending.held, span=dataclasses.replace(pending.held.span, last=True))


class BlocksFromRows(beam.PTransform):
    """Any PCollection of rows to `.blocks` and `.dead_letters`, with the rules that files are read by.

    A row is a dict, a NamedTuple or Beam Row, or a 1-d array or sequence of numbers. Dicts need `columns` or a
    `vector_column`; NamedTuples default to all fields without a role; sequences to all of their numbers (give
    `Columns(dim=...)`, or the width most common in a block is taken for right). Ids are hashes of the id column's text,
    or of the coordinates: equal rows then have equal ids. Rows are gathered within a bundle and a window, without a
    shuffle: each bundle's rows of a window are one part, its blocks are at the end of the window.

    Raises (while running):
      ValueError: dicts without named columns, or a text field taken for a coordinate.
    """

    def __init__(self, columns: Columns | None = None) -> None:
        super().__init__()
        self.columns = columns or Columns()

    def expand(self, rows: Any) -> Any:
        gather = beam.ParDo(_RowsToBlocks(self.columns)).with_output_types(PointBlock)
        outputs = rows | "GatherRows" >> gather.with_outputs(DEAD_LETTERS, main=BLOCKS)
        outputs[DEAD_LETTERS].element_type = DeadLetter
        return outputs

    def display_data(self) -> dict[str, Any]:
        return {"metric": DisplayDataItem(self.columns.metric, label="Metric")}
