"""Rows of columns to PointBlocks: what a bad row is, and what it costs (itself, alone).

Everything here works on Arrow record batches of some ten thousand rows. A row that can't be a point (a null, NaN or
infinite coordinate, the wrong width, a negative weight, a zero vector under cosine) becomes one `DeadLetter` that
names the first column at fault; the others go on.
"""
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets.points.block import PointBlock, Span, narrow
from beam_coresets.points.magnitude import LARGEST_WEIGHT
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.columns import Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch, Faults, cells_of, points_of, unit_rows
from beam_coresets.transforms.reading.identities import content_ids, hash_labels
from beam_coresets.transforms.reading.types.kinds import labels, plain_column

Array = npt.NDArray[Any]

_MAX_ROW_NUMBER = 2**32


def regroup(batches: Iterable[Batch], rows: int) -> Iterator[list[Batch]]:
    """Groups of exactly `rows` rows (the last may have fewer), however the reader cut them."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        low = 0
        while low < len(batch):
            high = min(len(batch), low + rows - size)
            group.append(batch.cut(low, high))
            size += high - low
            low = high
            if size == rows:
                yield group
                group, size = [], 0
    if group:
        yield group


def warm() -> None:
    """Compiles what blocks of unit vectors need, for a DoFn's `setup`."""
    for kind in (np.float32, np.float64):
        rows = np.ones((1, 1), kind)
        unit_rows(rows)
        rows.flags.writeable = False  # Arrow's memory is another type to numba
        unit_rows(rows)


def _weights(pieces: Sequence[Batch], layout: Layout, faults: Faults) -> Array:
    name = layout.options.weight_column
    if name is None:
        return np.ones(faults.n)
    cells = cells_of(pieces, name)
    faults.add_cells(cells, name, ~np.isfinite(cells.values))
    faults.add(cells.values < 0, name, "negative")
    faults.add(cells.values > LARGEST_WEIGHT, name, f"weight too large: must be at most {LARGEST_WEIGHT:g}")
    return cells.values


def _concatenate(pieces: Sequence[Batch], name: str, kind: pa.DataType) -> pa.Array:
    """One column of all pieces as one Arrow array of the given type."""
    arrays = []
    for piece in pieces:
        column = plain_column(piece.columns.column(name))
        try:
            arrays.append(column if column.type == kind else _exactly(column, kind))
        except pa.ArrowException as error:
            got = f"{column.type} in {piece.source!r} ({str(error)[:200]})"
            raise SchemaError(f"{name}: must be {kind} like in the first file, got {got}") from error
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _exactly(column: Any, kind: pa.DataType) -> Any:
    """The column as another type; raises ArrowInvalid where a value can't be the same in it."""
    cast = column.cast(kind)
    if pa.types.is_floating(kind) and pa.types.is_floating(column.type):
        back, values = cast.cast(pa.float64()).to_numpy(False), column.cast(pa.float64()).to_numpy(False)
        if not np.array_equal(back, values, equal_nan=True):
            raise pa.ArrowInvalid("digits would be lost")
    elif not pa.types.is_string(kind) and not cast.cast(column.type).equals(column):
        raise pa.ArrowInvalid("values would be others")
    return cast


def _ids(pieces: Sequence[Batch], layout: Layout, coordinates: Array, faults: Faults) -> Array:
    name = layout.options.id_column
    if name is not None:
        column = _concatenate(pieces, name, layout.schema.field(name).type)
        faults.add(_unparsable(pieces, name), name, "unparsable")
        faults.add(np.asarray(column.is_null()), name, "null")
        return hash_labels(column)
    if pieces[0].key is None:
        return content_ids(coordinates)
    ids = np.empty(faults.n, np.uint64)
    low = 0
    for piece in pieces:
        if len(piece) and piece.rows[-1] >= _MAX_ROW_NUMBER:
            raise ValueError(f"input: must have less than 2**32 rows a file, got more in {piece.source!r}")
        ids[low : low + len(piece)] = np.uint64((piece.key or 0) << 32) | piece.rows.astype(np.uint64)
        low += len(piece)
    return ids


def _unparsable(pieces: Sequence[Batch], name: str) -> Array:
    return np.concatenate([p.unparsable.get(name, np.zeros(len(p), bool)) for p in pieces])


def _labels(pieces: Sequence[Batch], layout: Layout, faults: Faults) -> tuple[Array | None, Any]:
    """Groups (n,) int32 or None, and the extras table or None."""
    options = layout.options
    table: dict[str, Any] = {}
    groups = None
    if options.id_column is not None:
        table["id"] = labels(_concatenate(pieces, options.id_column, layout.schema.field(options.id_column).type))
    if options.group_column is not None:
        column = _concatenate(pieces, options.group_column, layout.schema.field(options.group_column).type)
        faults.add(_unparsable(pieces, options.group_column), options.group_column, "unparsable")
        faults.add(np.asarray(column.is_null()), options.group_column, "null")
        table["group"] = labels(column)
        groups = (hash_labels(table["group"]) >> np.uint64(33)).astype(np.int32)
    for name in options.keep_columns:
        faults.add(_unparsable(pieces, name), name, "unparsable")
        table.setdefault(name, _concatenate(pieces, name, layout.schema.field(name).type))
    return groups, pa.table(table) if table else None


def build(pieces: Sequence[Batch], layout: Layout, span: Span) -> tuple[PointBlock, list[DeadLetter]]:
    """One block from rows that were read, and a dead letter for each row that is left out.

    Points are float32 where the source is, or where that is exact (`points.block.narrow`), else float64;
    under cosine they are float32 of unit length. No pieces give an empty block of the layout's width.
    """
    block, letters, _ = build_placed(pieces, layout, span)
    return block, letters


def build_placed(
    pieces: Sequence[Batch], layout: Layout, span: Span
) -> tuple[PointBlock, list[DeadLetter], npt.NDArray[np.int64]]:
    """`build`, and the places (m,) of the block's rows among all rows of the pieces."""
    if not pieces:
        return empty_block(layout, span), [], np.empty(0, np.int64)
    faults = Faults(sum(map(len, pieces)))
    rows, coordinates = points_of(pieces, layout, faults)
    weights = _weights(pieces, layout, faults)
    ids = _ids(pieces, layout, coordinates, faults)
    groups, extras = _labels(pieces, layout, faults)
    good = np.arange(faults.n) if faults.kind is None else np.flatnonzero(faults.kind < 0)
    if faults.kind is not None:
        rows, weights, ids = rows[good], weights[good], ids[good]
        groups = None if groups is None else groups[good]
        extras = None if extras is None else extras.take(good)
    return PointBlock(narrow(rows), weights, ids, span, groups, extras), faults.letters(pieces), good


def empty_block(layout: Layout, span: Span) -> PointBlock:
    """No rows, with the width, groups and extras columns that the layout's other blocks have."""
    options, schema = layout.options, layout.schema
    labels = {"id": options.id_column, "group": options.group_column}
    fields = [pa.field(name, pa.string()) for name, column in labels.items() if column is not None]
    fields += [schema.field(name) for name in options.keep_columns if labels.get(name) is None]
    return PointBlock(
        np.empty((0, layout.dim), np.float32),
        np.empty(0),
        np.empty(0, np.uint64),
        span,
        None if options.group_column is None else np.empty(0, np.int32),
        pa.schema(fields).empty_table() if fields else None,
    )
