"""Arrow and Python values of any type as plain text and JSON: nothing is lost, nothing looks like Python.

Times are ISO 8601 (UTC where they have a zone), durations ISO 8601 too (PT1.5S), decimals and UUIDs their text, records
and maps JSON objects. Integers of 64 bits without a sign are text, as many readers of JSON have no such numbers.
"""
from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_PER_SECOND = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_EXACT = 2.0**53


def portable(column: Any, binary: bool = False) -> list[Any]:
    """A column's values (n,) as JSON has them: bytes are base64, or stay bytes where `binary`."""
    kind = column.type
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in portable(chunk, binary)]
    if isinstance(kind, pa.BaseExtensionType):
        if str(getattr(kind, "extension_name", "")) == "arrow.uuid":
            return [None if value is None else str(value) for value in column.to_pylist()]
        return portable(column.storage, binary)
    if pa.types.is_dictionary(kind):
        return portable(column.dictionary_decode(), binary)
    if pa.types.is_struct(kind):
        fields = [portable(column.field(i), binary) for i in range(kind.num_fields)]
        names = [kind.field(i).name for i in range(kind.num_fields)]
        rows = zip(*fields, strict=True) if fields else ((),) * len(column)
        return _where(column, [dict(zip(names, row, strict=True)) for row in rows])
    if pa.types.is_map(kind):
        pairs = list(zip(portable(column.keys, binary), portable(column.items, binary), strict=True))
        return _cut(column, pairs, _mapping)
    if pa.types.is_fixed_size_list(kind):
        width, items = kind.list_size, portable(column.values, binary)
        start = column.offset
        return _where(column, [items[(start + i) * width : (start + i + 1) * width] for i in range(len(column))])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _cut(column, portable(column.values, binary), list)
    return _scalars(column, kind, binary)


def stacked(tables: Sequence[Any]) -> Any:
    """Tables one below the other; a column that can't be of one type is text in all (JSON for what is no text)."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        pass
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    for name in names:
        own = [table.select([name]) for table in tables if name in table.column_names]
        try:
            pa.concat_tables(own, promote_options="permissive")
        except pa.ArrowException:
            tables = [_with_text(table, name) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive")


def _with_text(table: Any, name: str) -> Any:
    if name not in table.column_names:
        return table
    return table.set_column(table.column_names.index(name), name, pa.array(texts(table.column(name)), pa.string()))


def _where(column: Any, found: list[Any]) -> list[Any]:
    if not column.null_count:
        return found
    return [value if there else None for value, there in zip(found, column.is_valid().to_pylist(), strict=True)]


def _cut(column: Any, items: list[Any], made: Any) -> list[Any]:
    ends = column.offsets.to_pylist()
    return _where(column, [made(items[ends[i] : ends[i + 1]]) for i in range(len(column))])


def _mapping(pairs: list[Any]) -> Any:
    """An object, where the keys allow one, else pairs."""
    keys = {key if isinstance(key, str) else None for key, _ in pairs}
    return dict(pairs) if len(keys) == len(pairs) and None not in keys else [list(pair) for pair in pairs]


def _scalars(column: Any, kind: Any, binary: bool) -> list[Any]:
    if pa.types.is_timestamp(kind):
        zone = None if kind.tz is None else "UTC"
        column = column.cast(pa.timestamp(kind.unit, zone))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
        return [None if text is None else _time(text) for text in column.cast(pa.string()).to_pylist()]
    if pa.types.is_duration(kind):
        counts, digits = column.cast(pa.int64()).to_pylist(), _PER_SECOND[kind.unit]
        return [None if count is None else _duration(count, digits) for count in counts]
    cells = column.to_pylist()
    if kind == pa.uint64():
        return [None if cell is None else str(cell) for cell in cells]
    if pa.types.is_decimal(kind):
        return [None if cell is None else f"{cell:f}" for cell in cells]
    if not binary and any(isinstance(cell, bytes) for cell in cells):
        return [base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell for cell in cells]
    return cells


def _time(text: str) -> str:
    """ISO 8601 from what Arrow writes, without zeros behind the seconds."""
    text, zone = (text[:-1], "Z") if text.endswith("Z") else (text, "")
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace(" ", "T") + zone


def _duration(count: int, digits: int) -> str:
    sign, count = "-" if count < 0 else "", abs(count)
    whole, rest = divmod(count, 10**digits)
    part = f"{rest:0{digits}d}".rstrip("0") if rest else ""
    return f"{sign}PT{whole}{'.' if part else ''}{part}S"


def text(value: Any) -> str | None:
    """A Python value of any kind as text: what is no text as JSON; the same for a number however it was read."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    return json.dumps(value, default=_plain) if isinstance(value, (bool, int, float, list, dict)) else label(value)


def label(value: Any) -> str | None:
    """A Python value as the text that identifies it: bytes that are no UTF-8 as hexadecimal."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(_plain(value))


def _plain(value: Any) -> Any:
    """What JSON has no type for, as text."""
    if isinstance(value, bytes):
        return label(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return _time(value.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z"))
    if isinstance(value, (datetime.date, datetime.time)):
        return _time(value.isoformat())
    if isinstance(value, datetime.timedelta):
        return _duration(value // datetime.timedelta(microseconds=1), 6)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def texts(column: Any) -> list[str | None]:
    """A column's values (n,) as text: what is no text as JSON."""
    if pa.types.is_string(column.type) or pa.types.is_null(column.type):
        found: list[str | None] = column.to_pylist()
        return found
    return [text(value) for value in portable(column)]
