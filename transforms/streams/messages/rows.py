"""What formats of rows with named columns share, one row a message: Avro records are in `avro`, JSON in `json`.

A row is refused for what a file's row would be refused (`reading.rows`). Types do not depend on what comes first: from
JSON and from a registry's schemas coordinates are numbers, ids and groups text, kept columns text (what is no text as
JSON); from one Avro schema they are the schema's.
"""
import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from beam_coresets import values
from beam_coresets.points.block import LARGEST_NARROW, Span
from beam_coresets.transforms.reading import formats
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.rows import build
from beam_coresets.transforms.reading.types.kinds import fits_float32, numbers
from beam_coresets.transforms.streams.messages.decoding import (
    MESSAGE_KEY,
    Array,
    Decoding,
    MessageFormat,
    key_text,
    too_large,
)
from beam_coresets.transforms.streams.source import Chunk
from beam_coresets.transforms.streams.times import event_time

TIME, KEY = "\0time", "\0key"  # columns beside the layout's own: float64 seconds, text
EXACT = 2.0**53
FEWEST = 16  # messages for which it is worth while to make arrays


@functools.lru_cache(maxsize=64)
def _named_layout(columns: Columns) -> Layout:
    """The layout where no schema tells the types: the columns that were named."""
    if columns.vector_column is not None:
        if columns.dim is None:
            raise SchemaError("dim: must be given with vector_column for messages, got none")
        names: tuple[str, ...] = (columns.vector_column,)
        types: dict[str, Any] = {columns.vector_column: pa.list_(pa.float64())}
        dim = columns.dim
    elif columns.columns is not None:
        names, dim = columns.columns, len(columns.columns)
        types = dict.fromkeys(names, pa.float64())
    else:
        raise SchemaError("columns: must be named (or a vector_column) for messages without a fixed schema, got none")
    for role in ("id_column", "group_column"):
        if getattr(columns, role) in (*names, columns.weight_column or ()):
            raise SchemaError(f"{role}: must not be a column of numbers of messages, got {getattr(columns, role)!r}")
    if columns.weight_column is not None:
        types.setdefault(columns.weight_column, pa.float64())
    for name in columns.roles:
        types.setdefault(name, pa.string())
    return Layout(columns, names, dim, pa.schema(list(types.items())), tuple(types))


@dataclasses.dataclass(frozen=True)
class RowFormat(MessageFormat):
    """Attributes:
      columns: roles of the columns.
      key_column: a column of labels, or "message.key", or None.

    Raises:
      ValueError: `columns` that messages can't be read by.
    """

    columns: Columns
    key_column: str | None = None

    def __post_init__(self) -> None:
        self._layout(None)

    def check_time(self, column: str | None) -> None:
        self._layout(column)

    def display_data(self) -> Mapping[str, Any]:
        return {"format": self.name, "metric": self.columns.metric}

    def names(self, time: str | None) -> tuple[str, ...] | None:
        return self._layout(time).coordinates

    @abc.abstractmethod
    def _layout(self, time: str | None) -> Layout:
        """The columns to read, where event times are in the column `time`."""

    @abc.abstractmethod
    def _pieces(self, decoding: Decoding, layout: Layout) -> list[Batch]:
        """The messages that are not refused, as batches whose `rows` are their indices; what is no row is refused.

        A message is the same row in any batch, so those that a plan reads may come first, the others behind them.
        """

    def _key_column(self) -> str | None:
        return None if self.key_column == MESSAGE_KEY else self.key_column

    def _text(self, text: str) -> str | None:
        """What a letter shows: the row as it was understood, or None: the message itself."""
        return text

    def _chunk(self, decoding: Decoding) -> Chunk:
        layout = self._layout(decoding.clock.column)
        pieces = [p for p in self._pieces(decoding, layout) if len(p)]
        block, letters = build(pieces, layout, Span(0, 0))
        for letter in letters:
            number = int(letter.position.removeprefix("row "))
            decoding.refuse(number, letter.reason, letter.column_name, self._text(letter.row_text))
        index = np.concatenate([np.empty(0, np.int64), *(p.rows for p in pieces)]).astype(np.int64)
        built = ~decoding.whole()[index]
        if self._single(layout):
            self._refuse_large(block.points, index[built], decoding)
        times, keys = self._times_and_keys(pieces, index, decoding)
        fine = ~decoding.whole()[index]
        if not fine[built].all():
            block = block.take(np.flatnonzero(fine[built]))
        single = self._single(layout)
        points = block.points.astype(np.float32, copy=False) if single else _exact(block.points, pieces, layout, fine)
        index = index[fine]
        times, keys = (None if each is None else each[fine] for each in (times, keys))
        if (index[1:] < index[:-1]).any():  # what was read by a plan comes first
            order = np.argsort(index)
            block, points, index = block.take(order), points[order], index[order]
            times, keys = (None if each is None else each[order] for each in (times, keys))
        options = self.columns
        return decoding.chunk(
            points, index, np.ones(len(block), np.int64), times, keys,
            weights=None if options.weight_column is None else block.weights,
            ids=None if options.id_column is None else block.ids,
            groups=block.groups,
            extras=block.extras,
        )  # fmt: skip

    def _times_and_keys(
        self, pieces: list[Batch], index: Array, decoding: Decoding
    ) -> tuple[Array | None, Array | None]:
        """Event times and keys of the rows (n,), where columns hold them; without one a row is refused."""
        times = keys = None
        clock = decoding.clock
        if clock.column is not None:
            times = np.concatenate([np.empty(0), *(p.columns.column(TIME).to_numpy(False) for p in pieces)])
            reasons = clock.refuse(times, decoding.now, decoding.messages.times[index])
            decoding.tell_times(times, reasons, index)
            decoding.refuse_others({int(index[i]): reason for i, reason in reasons.items()}, clock.column)
        if (column := self._key_column()) is not None:
            keys = np.empty(len(index), object)
            keys[:] = [key for p in pieces for key in p.columns.column(KEY).to_pylist()]
            mistyped = np.concatenate([np.empty(0, bool), *(p.unparsable[KEY] for p in pieces)]).astype(bool)
            for i in np.flatnonzero([key is None for key in keys.tolist()]):
                decoding.refuse_others({int(index[i]): "unparsable" if mistyped[i] else "null"}, column)
        return times, keys

    def _batch(self, records: list[Any], rows: Array, decoding: Decoding, layout: Layout) -> Batch:
        """Records as a batch, with their times and keys beside the layout's columns."""
        batch = formats.python_batch(self._cells(records, layout), layout, rows, decoding.messages.source, 0)
        columns, unparsable = batch.columns, dict(batch.unparsable)
        if (time := decoding.clock.column) is not None:
            times = [event_time(record.get(time)) for record in records]
            columns = columns.append_column(TIME, pa.array(times, pa.float64()))
        if (name := self._key_column()) is not None:
            cells = [record.get(name) for record in records]
            keys, _ = formats.python_column([key_text(cell) for cell in cells], pa.string())
            unparsable[KEY] = np.array([cell is not None for cell in cells], bool)
            columns = columns.append_column(KEY, keys)
        return dataclasses.replace(batch, columns=columns, unparsable=unparsable)

    def _safely(self, records: list[Any], rows: Array, decoding: Decoding, layout: Layout) -> list[Batch]:
        """`_batch`, where records that can't be in one are refused."""
        try:
            return [self._batch(records, rows, decoding, layout)]
        except Exception as error:  # whatever others wrote ends as a letter, not as a job that starts over for ever
            if not len(rows):
                raise
            if len(rows) == 1:
                decoding.refuse(int(rows[0]), f"unparsable: {type(error).__name__} in the record")
                return []
        half = len(rows) // 2
        first = self._safely(records[:half], rows[:half], decoding, layout)
        return first + self._safely(records[half:], rows[half:], decoding, layout)

    def _single(self, layout: Layout) -> bool:
        """Whether points are float32: a matter of the types, never of what a batch holds."""
        kinds = [layout.schema.field(name).type for name in layout.coordinates]
        return self.columns.metric == "cosine" or all(map(fits_float32, kinds))

    def _refuse_large(self, points: Array, index: Array, decoding: Decoding) -> None:
        """Refuses those of the rows (n, d) of the messages `index` (n,) that float32 can't hold."""
        for row in np.flatnonzero((np.abs(points) > LARGEST_NARROW).any(axis=1)).tolist():
            decoding.refuse_others({int(index[row]): too_large(points[row])})

    def _cells(self, records: list[Any], layout: Layout) -> list[Any]:
        """The records, with what columns hold made to fit the layout."""
        return records


def _exact(points: Array, pieces: list[Batch], layout: Layout, good: Array) -> Array:
    """Points as they were read. `build` rounds to float32 where a block as a whole allows it, but how messages fall
    into blocks differs from shard to shard, and what two shards have of one message must be the same."""
    if points.dtype != np.float32:
        return points
    parts, low = [np.empty((0, layout.dim))], 0
    for piece in pieces:
        rows = np.flatnonzero(good[low : low + len(piece)])
        low += len(piece)
        columns = [piece.columns.column(name).take(pa.array(rows)) for name in layout.coordinates]
        if layout.options.vector_column is None:
            parts.append(np.column_stack([numbers(column).astype(np.float64) for column in columns]))
        else:
            parts.append(columns[0].flatten().cast(pa.float64()).to_numpy(False).reshape(-1, layout.dim))
    return np.concatenate(parts)


class NamedRows(RowFormat):
    """Rows whose types no fixed schema tells."""

    def _layout(self, time: str | None) -> Layout:
        return _named_layout(self.columns)

    def _kept(self, layout: Layout) -> list[str]:
        """Kept columns that nothing else reads."""
        options = self.columns
        other = {*layout.coordinates, options.weight_column, options.id_column, options.group_column}
        return [name for name in options.keep_columns if name not in other]

    def _cells(self, records: list[Any], layout: Layout) -> list[Any]:
        kept = self._kept(layout)
        if not kept:
            return records
        return [record | {name: values.text(record.get(name)) for name in kept} for record in records]


class MalformedError(ValueError):
    """Bytes that are not what they should be."""
