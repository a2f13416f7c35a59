"""Keys that folders say for all rows below them, as Hive, Spark, DuckDB and Arrow write them: `day=1/part.parquet`.

A key is a column where it is asked for by name: text as an id, a label or a kept column (in batches a number where all
files say whole numbers without leading zeros), a number or a time as a coordinate or a weight. It is never a coordinate
by itself. A column that the files have too must say the same as the folders, unless the folders of all files say the
same: then the folder may well be one around the input, and the column is one like others.
"""
import dataclasses
import math
import re
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets.times import moment_or_nan
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.formats import FilePart, Format, Report
from beam_coresets.transforms.reading.types import kinds
from beam_coresets.transforms.text.cells import parse_numbers

_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")


class HasPath(Protocol):
    """A file as any listing has it."""

    @property
    def path(self) -> str:
        """Where it is."""


def keys_of(path: str, asked: Collection[str] = ()) -> dict[str, str | None]:
    """Key -> what the folders of a file say, None for a missing value.

    Raises:
      SchemaError: two folders have a key that is asked for.
    """
    pairs = [name.partition("=") for name in path.replace("\\", "/").split("/")[:-1]]
    found = [(urllib.parse.unquote(key), urllib.parse.unquote(value)) for key, is_key, value in pairs if is_key and key]
    twice = [key for key, count in Counter(key for key, _ in found).items() if count > 1 and key in asked]
    if twice:
        raise SchemaError(f"input: must have the key {twice[0]!r} once among its folders, got {path!r}")
    return {key: None if value in ("", _NULL) else value for key, value in found}


def alike(files: Iterable[HasPath]) -> Mapping[str, str | None]:
    """The keys for which the folders of all files say the same."""
    each = [keys_of(folder + "/") for folder in {file.path.replace("\\", "/").rpartition("/")[0] for file in files}]
    return dict(set.intersection(*(set(keys.items()) for keys in each))) if each else {}


def _asked(columns: Columns) -> set[str]:
    return {*(columns.columns or ()), *columns.roles}


def without(columns: Columns, keys: Iterable[str]) -> Columns:
    """What is asked of the files themselves."""
    gone = set(keys)
    if not gone & _asked(columns):
        return columns
    roles: dict[str, Any] = {name: getattr(columns, name) for name in ("weight_column", "id_column", "group_column")}
    roles = {role: None if name in gone else name for role, name in roles.items()}
    roles["columns"] = tuple(name for name in columns.columns or () if name not in gone) or None
    roles["keep_columns"] = tuple(name for name in columns.keep_columns if name not in gone)
    return dataclasses.replace(columns, **roles)


def with_keys(schema: Any, columns: Columns, path: str, files: Iterable[HasPath] = ()) -> Any:
    """A file's schema, and behind it the keys that are asked for and that it does not have itself.

    Args:
      path: the file.
      files: others that are read as it is.
    """
    keys = keys_of(path, _asked(columns) - set(schema.names))
    for key in keys:
        if key not in schema.names and key in _asked(columns):
            said = [keys[key], *(keys_of(file.path).get(key) for file in files)]
            kind = _type_of(key, columns, said)
            schema = schema.append(pa.field(key, kind, metadata={kinds.FILE_TYPE: "a key of its folders"}))
    return schema


def _type_of(key: str, columns: Columns, said: Iterable[str | None]) -> Any:
    number = key in {*(columns.columns or ()), columns.weight_column}
    label = key in (columns.id_column, columns.group_column)
    if number == label and all(value is None or _WHOLE.fullmatch(value) for value in said):
        return pa.int64()
    return pa.float64() if number else pa.string()


def read(form: Format, part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """`form.read`, with the keys of the file's folders among the columns.

    Raises:
      SchemaError: its folders lack a key, or say something else than its own column.
    """
    keys = keys_of(part.path, {*layout.needed} - {*layout.own})
    lacking = [key for key in layout.keys if key not in keys]
    if lacking:
        got = f"{part.path!r} without {lacking[0]!r}"
        raise SchemaError(f"columns: must be keys of every file's folders, as of the first's, got {got}")
    inner = dataclasses.replace(
        layout,
        options=without(layout.options, layout.keys),
        coordinates=tuple(name for name in layout.coordinates if name not in layout.keys),
        schema=pa.schema([field for field in layout.schema if field.name not in layout.keys]),
    ) if layout.keys else layout  # fmt: skip
    both = [key for key in keys if key in inner.needed and key not in layout.own]
    for batch in form.read(part, inner, report):
        for key in both:
            _check_same(batch, key, keys[key])
        yield _added(batch, keys, layout) if layout.keys else batch


def _added(batch: Batch, keys: Mapping[str, str | None], layout: Layout) -> Batch:
    """The batch with a column of equal cells for each key, and in the layout's order."""
    n, columns, unparsable = len(batch), {}, dict(batch.unparsable)
    for key in layout.keys:
        value, kind = keys[key], layout.schema.field(key).type
        one: Any = value
        if pa.types.is_floating(kind) and value is not None:
            one = _number(value)
            if math.isnan(one) and value.lower() != "nan":
                one, unparsable[key] = None, np.ones(n, bool)
        elif pa.types.is_integer(kind) and value is not None:
            if not _WHOLE.fullmatch(value):
                raise SchemaError(f"{key}: must be a whole number like in the first file, got {value!r} in "
                                  f"{batch.source!r}")  # fmt: skip
            one = int(value)
        columns[key] = pa.repeat(pa.scalar(one, kind), n)
    matrix = batch.matrix
    if matrix is not None and (given := [key for key in layout.coordinates if key in columns]):
        numbers = {key: kinds.numbers(columns[key]) for key in given}
        own = iter(matrix.T)
        matrix = np.stack([numbers[name] if name in numbers else next(own) for name in layout.coordinates], axis=1)
    there = {name: batch.columns.column(name) for name in batch.columns.schema.names}
    return dataclasses.replace(
        batch, columns=pa.record_batch({**there, **columns}), matrix=matrix, unparsable=unparsable
    )


def _number(text: str) -> Any:
    """A number, truth value or time as a number; NaN for what is none."""
    if _WHOLE.fullmatch(text):
        return int(text)
    found, _ = parse_numbers(pa.array([text], pa.string()))
    number = found[0].as_py()
    return {"true": 1, "false": 0}.get(text.lower(), moment_or_nan(text)) if number is None else number


def _check_same(batch: Batch, key: str, value: str | None) -> None:
    """Raises SchemaError where a file's own column says something else than its folders."""
    if key not in batch.columns.schema.names:
        return  # a coordinate of .npy: f0, f1, ... are no names of the file
    column = kinds.plain_column(batch.columns.column(key))
    if value is None or pa.types.is_null(column.type):
        same = np.asarray(column.is_null()) & (value is None)
    elif kinds.is_measure(column.type):
        numbers = kinds.numbers(column)
        same = numbers == numbers.dtype.type(_number(value)) if numbers.dtype.kind == "f" else numbers == _number(value)
    else:
        same = np.asarray(pc.fill_null(pc.equal(kinds.labels(column), value), False))
    if not same.all():
        i = int(np.argmin(same))
        said = "nothing" if value is None else repr(value)
        raise SchemaError(f"{key}: must be what the folder says ({said}), or be left out, got "
                          f"{column[i].as_py()!r} in row {batch.rows[i]} of {batch.source!r}")  # fmt: skip
