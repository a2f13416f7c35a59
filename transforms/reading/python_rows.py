"""Python rows (dicts, NamedTuples, Beam Rows, sequences of numbers) to batches."""
import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_coresets.points.block import PointBlock, block_rows
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.formats import python_batch

_VECTOR = "vector"  # what a row that is itself a vector is called


def _fields(row: Any) -> Mapping[str, Any] | None:
    """A row with names as a mapping; None for a sequence of numbers."""
    if isinstance(row, Mapping):
        return row
    if isinstance(row, beam.Row):
        return dict(row.as_dict())
    return row._asdict() if hasattr(row, "_asdict") else None


def _coordinates(row: Any, columns: Columns) -> tuple[str, ...]:
    """Names of the coordinates, settled by the kind of the row."""
    if columns.vector_column is not None:
        return (columns.vector_column,)
    if columns.columns is not None:
        return columns.columns
    fields = _fields(row)
    if fields is None:
        return (_VECTOR,)
    if isinstance(row, Mapping):
        raise SchemaError(f"columns: must be named for rows that are dicts, got none for {str(row)[:200]}")
    names = tuple(name for name in fields if name not in columns.roles)
    for name in names:
        if isinstance(fields[name], (str, bytes, bool)):
            raise SchemaError(
                f"columns: must hold numbers, got {name!r} ({type(fields[name]).__name__}): "
                f"name it in keep_columns, or leave {name!r} out with columns"
            )
    return names


def coordinate_names(columns: Columns | None, row_type: Any = None) -> tuple[str, ...] | None:
    """Names of the coordinates of such rows, or of their vector column, as far as is known before there are any."""
    columns = columns or Columns()
    if columns.vector_column is not None:
        return (columns.vector_column,)
    if columns.columns is not None:
        return columns.columns
    fields = getattr(row_type, "_fields", ())  # of a NamedTuple names, of a Beam row names with types
    names = tuple(field if isinstance(field, str) else field[0] for field in fields)
    return tuple(name for name in names if name not in columns.roles) or None


def block_size(row: Any, columns: Columns) -> int:
    """How many rows like this one make a block."""
    if isinstance(row, PointBlock):
        raise TypeError("rows: must be declared by .with_output_types(PointBlock) where they are blocks, got blocks")
    if columns.dim is not None:
        return block_rows(columns.dim, 8)
    if columns.vector_column is None and columns.columns is not None:
        return block_rows(len(columns.columns), 8)
    fields = _fields(row)
    vector = row if fields is None else fields.get(columns.vector_column or "", fields)
    return block_rows(len(vector) if hasattr(vector, "__len__") else 1, 8)


def _vector_type(vectors: list[Any]) -> pa.DataType:
    kinds = {v.dtype for v in vectors if isinstance(v, np.ndarray)}
    if len(kinds) == 1 and all(isinstance(v, np.ndarray) for v in vectors):
        kind = next(iter(kinds))
        if kind.kind in "iuf":
            return pa.list_(pa.from_numpy_dtype(kind.newbyteorder("=")))
    return pa.list_(pa.float64())


def _kept_type(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.string()


def _width(vectors: list[Any]) -> int:
    widths = Counter(len(v) for v in vectors if hasattr(v, "__len__") and len(v))
    return min(widths, key=lambda width: (-widths[width], width), default=1)


def batch_of_rows(rows: list[Any], columns: Columns, first: int) -> tuple[Batch, Layout]:
    """Rows of one kind as a batch, and the layout it is built by; `first` numbers them in dead letters.

    Raises:
      SchemaError: the rows do not tell which of their fields are coordinates.
    """
    names = _coordinates(rows[0], columns)
    records = [_record(row) for row in rows]
    types: dict[str, Any] = dict.fromkeys(names, pa.float64())
    dim = len(names)
    if names == (_VECTOR,) or columns.vector_column is not None:
        columns = dataclasses.replace(columns, columns=None, vector_column=names[0])
        vectors = [record.get(names[0]) for record in records]
        types[names[0]] = _vector_type([v for v in vectors if v is not None])
        dim = columns.dim or _width(vectors)
    for name in columns.keep_columns:
        types.setdefault(name, _kept_type([record.get(name) for record in records]))
    if columns.weight_column is not None:
        types[columns.weight_column] = pa.float64()
    for label in (columns.id_column, columns.group_column):
        if label is not None:
            types[label] = pa.string()
    layout = Layout(columns, names, dim, pa.schema(list(types.items())), tuple(types))
    batch = python_batch(records, layout, np.arange(first, first + len(rows)), "", None)
    return dataclasses.replace(batch, raw=rows), layout


def _record(row: Any) -> Mapping[str, Any]:
    fields = _fields(row)
    return {_VECTOR: row} if fields is None else fields
