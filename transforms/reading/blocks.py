"""Files on any Beam filesystem, or rows of any PCollection, to PointBlocks and dead letters.

    parts of the listing | Reshuffle | read a part            (blocks fuse with everything behind them)

Before that the rows of large files of text and Avro are counted, range by range, so that a range knows which rows it
has. How the files are cut into parts, the rows into blocks, and what a row's id is depend on the files' names, sizes
and contents alone: not on workers, on the order of a listing, or on the folder that the files stand in.
"""
import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import DoOutputsTuple, PBegin, PCollection, TaggedOutput
from apache_beam.transforms.display import DisplayDataItem
from apache_beam.utils.windowed_value import WindowedValue

from beam_coresets import hashing
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.reading import folder_keys
from beam_coresets.transforms.reading.columns import Columns, Layout
from beam_coresets.transforms.reading.finding.paths import Patterns, find
from beam_coresets.transforms.reading.formats import Format, naming
from beam_coresets.transforms.reading.parts import (
    FILE_FORMATS,
    MIN_PART_BYTES,
    Part,
    counted,
    cut_at_rows,
    files_to_count,
    in_lanes,
    listed,
    match,
    notes_about,
    plan_parts,
    probe,
    row_names,
)
from beam_coresets.transforms.reading.python_rows import batch_of_rows, block_size, declared_types, settled
from beam_coresets.transforms.reading.rows import build, empty_block, regroup, warm
from beam_coresets.transforms.text.ranges import Counted

__all__ = ["BlocksFromRows", "Columns", "DeadLetter", "Part", "ReadBlocks", "match", "plan_parts", "row_names"]

NAMESPACE = "beam_coresets"
BLOCKS, DEAD_LETTERS = "blocks", "dead_letters"


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
                yield from folder_keys.read(form, file, layout, letters.append)

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

    def letter(self, letter: DeadLetter) -> TaggedOutput:
        self.letters.inc()
        Metrics.counter(NAMESPACE, f"dead_letters_{letter.kind}").inc()
        return TaggedOutput(DEAD_LETTERS, letter)


class _ReadPart(beam.DoFn):
    def __init__(self, form: str, layout: Layout) -> None:
        self._form, self._layout = form, layout

    def setup(self) -> None:
        self._counters = _Counters()
        if self._layout.options.metric == "cosine":
            warm()

    def process(self, part: Part) -> Iterator[Any]:
        for file in part.files:
            FileSystems.report_source_lineage(file.path)
        for found in read_part(part, FILE_FORMATS[self._form], self._layout):
            yield self._counters.block(found) if isinstance(found, PointBlock) else self._counters.letter(found)


class _CountRows(beam.DoFn):
    def __init__(self, form: str, layout: Layout) -> None:
        self._form, self._layout = form, layout

    def process(self, part: Part) -> Iterator[Any]:
        (piece,) = part.files
        yield part.index, counted(piece, FILE_FORMATS[self._form], self._layout)


def _cut_at_rows(parts: list[Part], found: list[tuple[int, list[Counted]]], form: str, layout: Layout) -> list[Part]:
    return in_lanes([*cut_at_rows(parts, FILE_FORMATS[form], layout, dict(found))])


class ReadBlocks(beam.PTransform):
    """Reads files to `.blocks` (PointBlock) and `.dead_letters` (DeadLetter).

    The files are listed, cut into parts and the first one is looked into when the transform is made, so that what
    can't work fails before anything runs. Blocks have no timestamp of their own (the minimum, as from any file source).

    Args:
      patterns: paths, folders and globs on any Beam filesystem.
      columns: what to take from a row; by default every numeric column.
      format: "parquet", "npy", "csv", "jsonl", "avro" or "text"; by default told by the files' extension.
      part_bytes: files are cut into parts of at least so many bytes, where their format can be cut.

    Attributes:
      files, parts, layout: what was found.
      notes: which files and columns were left out, and what was told from the first file's beginning, in words.
      dim: coordinates of a point.

    Raises:
      ValueError: no files, no common format, an unreadable first file, a missing or unusable column.

    Source: `read_part`, for each part that `plan_parts` cuts.

    Example:
      read = p | ReadBlocks("points/*.parquet", Columns(columns=("x", "y", "z")))
      result = read["blocks"] | Summarize(k=4, shards=5, dead_letters=read["dead_letters"])
      result.decided | WriteSummaries("out")
    """

    def __init__(
        self,
        patterns: Patterns,
        columns: Columns | None = None,
        format: str | None = None,
        part_bytes: int = MIN_PART_BYTES,
    ) -> None:
        super().__init__()
        self.files, notes = find(patterns)
        self.format, self.parts = listed(self.files, format, part_bytes, count=True)
        self.layout = probe(self.files, FILE_FORMATS[self.format], columns or Columns())
        self.notes = (*notes, *notes_about(self.layout, columns or Columns(), self.files[0].path))
        self.dim = self.layout.dim

    def expand(self, begin: PBegin) -> "DoOutputsTuple":
        read = beam.ParDo(_ReadPart(self.format, self.layout)).with_output_types(PointBlock)
        outputs = (
            self._parts(begin.pipeline)
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadParts" >> read.with_outputs(DEAD_LETTERS, main=BLOCKS)
        )
        outputs[DEAD_LETTERS].element_type = DeadLetter
        return outputs

    def _parts(self, pipeline: beam.Pipeline) -> PCollection[Part]:
        files = files_to_count(self.parts, FILE_FORMATS[self.format])
        if not files:
            return pipeline | "Parts" >> beam.Create(in_lanes(self.parts))
        found = (
            pipeline
            | "Ranges" >> beam.Create([part for parts in files for part in parts[:-1]])
            | "SpreadRanges" >> beam.Reshuffle()
            | "CountRows" >> beam.ParDo(_CountRows(self.format, self.layout))
        )
        cut_at = beam.FlatMap(_cut_at_rows, beam.pvalue.AsList(found), self.format, self.layout)
        cut = pipeline | "CutFiles" >> beam.Create(files) | "CutAtRows" >> cut_at.with_output_types(Part)
        cut_parts = {part.index for parts in files for part in parts}
        others = [part for part in self.parts if part.index not in cut_parts]
        return (cut, pipeline | "Parts" >> beam.Create(in_lanes(others))) | "AllParts" >> beam.Flatten()

    def require_rows(self) -> None:
        """Raises ValueError if there is not a single row, refused ones included; reads no further than the first.

        Where a file can't be read, the job itself will say so.
        """
        try:
            empty = not any(isinstance(found, DeadLetter) or len(found) for found in self.uncut())
        except ValueError:
            return
        if empty:
            names = ", ".join(repr(file.path) for file in self.files[:3]) + (", ..." if len(self.files) > 3 else "")
            raise ValueError(f"input: must have at least one row, got none in {names}")

    def here(self) -> Iterator[PointBlock | DeadLetter]:
        """What the transform reads, part after part, in this process and without a pipeline."""
        form = FILE_FORMATS[self.format]
        cut = {parts[0].index: parts for parts in files_to_count(self.parts, form)}
        done = 0
        for part in self.parts:
            if part.index < done:
                continue
            run = cut.get(part.index, [part])
            done = part.index + len(run)
            for each in run if len(run) == 1 else cut_at_rows(run, form, self.layout, {}):
                yield from read_part(each, form, self.layout)

    def uncut(self) -> Iterator[PointBlock | DeadLetter]:
        """The same rows file by file, in other blocks: for those who want to see the first ones only, at once."""
        form = FILE_FORMATS[self.format]
        for part in plan_parts(self.files, splittable=False):
            yield from read_part(part, form, self.layout)

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
    def __init__(self, columns: Columns, declared: dict[str, Any]) -> None:
        self._columns, self._declared = columns, declared

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

    def _counted(self, found: PointBlock | DeadLetter) -> PointBlock | TaggedOutput:
        return self._counters.block(found) if isinstance(found, PointBlock) else self._counters.letter(found)

    def _flush(self, pending: _Pending, window: Any) -> Iterator[PointBlock | DeadLetter]:
        """Makes a block of the rows; the one before it goes out, as it was not the last."""
        if not pending.rows:
            return
        batch, layout = batch_of_rows(pending.rows, self._columns, pending.taken, self._declared)
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
    `vector_column`; NamedTuples and Beam Rows default to all fields of numbers without a role; sequences to all of
    their numbers (give `Columns(dim=...)`, or the width most common in a block is taken for right). Ids are hashes of
    the id column's text (floats are no ids: 7.0 and 7 are one number and two texts), or of the coordinates: equal rows
    then have equal ids. Kept fields have the types that the rows' type declares, and values of others are refused;
    fields that it does not declare have the types of their values, and are text where these differ. Rows are gathered
    within a bundle and a window, without a shuffle: each bundle's rows of a window are one part, its blocks are at the
    end of the window.

    Args:
      columns: what to take from a row; by default every number in it.

    Raises:
      ValueError: a declared type without numbers, or with floats for ids; while running dicts without named columns, or
        text in a field taken for a coordinate.

    Source: `beam_coresets.transforms.reading.python_rows.batch_of_rows`, then what files go through.

    Example:
      made = rows | BlocksFromRows(Columns(columns=("x", "y", "z"), keep_columns=("name",)))
      made["blocks"] | Summarize(k=4, shards=5, dead_letters=made["dead_letters"])
    """

    def __init__(self, columns: Columns | None = None) -> None:
        super().__init__()
        self.columns = columns or Columns()

    def expand(self, rows: PCollection[Any]) -> "DoOutputsTuple":
        declared = declared_types(rows.element_type)
        gather = _RowsToBlocks(settled(self.columns, rows.element_type), declared)
        gather = beam.ParDo(gather).with_output_types(PointBlock)
        outputs = rows | "GatherRows" >> gather.with_outputs(DEAD_LETTERS, main=BLOCKS)
        outputs[DEAD_LETTERS].element_type = DeadLetter
        return outputs

    def display_data(self) -> dict[str, Any]:
        return shown(columns=self.columns)
