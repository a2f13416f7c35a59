"""Python rows (dicts, NamedTuples, Beam Rows, sequences of numbers) to batches."""
import dataclasses
import typing
from collections import Counter
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_coresets.points.block import PointBlock, block_rows
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.formats import python_batch
from beam_coresets.transforms.reading.types import kinds

_OF_PYTHON = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string(), bytes: pa.binary()}
_VECTOR = "vector"  # what a row that is itself a vector is called


def fields_of(row: Any) -> Mapping[str, Any] | None:
    """A row with names as a mapping; None for a sequence of numbers."""
    if isinstance(row, Mapping):
        return row
    if isinstance(row, beam.Row):
        return dict(row.as_dict())
    return row._asdict() if hasattr(row, "_asdict") else None


def declared_types(row_type: Any) -> dict[str, Any]:
    """Field -> Arrow type of the rows that a PCollection declares; None for types that Arrow has no name for;
    of rows whose annotations can't be resolved (some names are imported for type checkers only) nothing.

    Args:
      row_type: an element type: a NamedTuple, or the type of Beam Rows; of others nothing is known.
    """
    if isinstance(row_type, RowTypeConstraint):
        hints = dict(row_type._fields)
    elif isinstance(row_type, type) and issubclass(row_type, tuple) and hasattr(row_type, "_fields"):
        try:
            hints = typing.get_type_hints(row_type)
        except Exception:  # evaluating what others wrote can end in anything
            return {}
    else:
        return {}
    return {name: _arrow_type(hint) for name, hint in hints.items()}


def _arrow_type(hint: Any) -> Any:
    several = getattr(hint, "union_types", None) or typing.get_args(hint)  # of Optional
    if several and type(None) in several and len(several) == 2:
        (hint,) = (each for each in several if each is not type(None))
    if isinstance(hint, type) and issubclass(hint, np.number):
        try:
            kind = np.dtype(hint)  # of np.floating, which names no type, an error or, before NumPy 2, that of another
            return pa.from_numpy_dtype(kind) if kind.type is hint else None
        except (TypeError, pa.ArrowException):  # Arrow has no complex numbers
            return None
    return _OF_PYTHON.get(hint) if isinstance(hint, type) else None


def settled(columns: Columns, row_type: Any) -> Columns:
    """The columns with the coordinates that rows of a declared type have without being named: all of their numbers.

    Raises:
      SchemaError: there are none, or a column that is named is of a type that can't be used.
    """
    types = declared_types(row_type)
    for role in ("id_column", "group_column"):
        kind = types.get(getattr(columns, role) or "")
        if kind is not None and not kinds.is_label(kind):
            raise SchemaError(f"{role}: must hold integers or text, got {getattr(columns, role)!r} ({kind})")
    free = {name: kind for name, kind in types.items() if name not in columns.roles}
    if columns.columns is not None or columns.vector_column is not None or not free or None in free.values():
        return columns
    numbers = tuple(name for name, kind in free.items() if kinds.is_number(kind))
    if not numbers:
        got = ", ".join(f"{name!r} ({kind})" for name, kind in free.items())
        raise SchemaError(f"columns: must hold numbers, at least one of a row, got {got}: name some in columns")
    return dataclasses.replace(columns, columns=numbers)


def _coordinates(row: Any, columns: Columns) -> tuple[str, ...]:
    """Names of the coordinates, settled by the kind of the row."""
    if columns.vector_column is not None:
        return (columns.vector_column,)
    if columns.columns is not None:
        return columns.columns
    fields = fields_of(row)
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
    columns = settled(columns or Columns(), row_type)
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
    fields = fields_of(row)
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


def batch_of_rows(
    rows: list[Any], columns: Columns, first: int, declared: Mapping[str, Any] | None = None
) -> tuple[Batch, Layout]:
    """Rows of one kind as a batch, and the layout it is built by.

    Args:
      first: numbers them in dead letters.
      declared: the types of kept fields, where they are known before there are rows; else these rows tell.

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
        known = (declared or {}).get(name)
        types.setdefault(name, known or _kept_type([record.get(name) for record in records]))
    if columns.weight_column is not None:
        types[columns.weight_column] = pa.float64()
    for label in (columns.id_column, columns.group_column):
        if label is not None:
            types[label] = pa.string()
    layout = Layout(columns, names, dim, pa.schema(list(types.items())), tuple(types))
    batch = python_batch(records, layout, np.arange(first, first + len(rows)), "", None)
    return dataclasses.replace(batch, raw=rows), layout


def _record(row: Any) -> Mapping[str, Any]:
    fields = fields_of(row)
    return {_VECTOR: row} if fields is None else fields
