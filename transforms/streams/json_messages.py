"""JSON messages: a row is one object. Arrow reads what is plain, all at once; Python the rest, one by one."""
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from beam_coresets.transforms.reading.columns import Layout
from beam_coresets.transforms.reading.rows import Batch
from beam_coresets.transforms.streams.decoding import Array, Messages, Refused, event_times
from beam_coresets.transforms.streams.row_messages import EXACT, KEY, TIME, NamedRows, as_text

_SMALL = 64


class Json(NamedRows):
    """A JSON object a message; a field that it does not have is null."""

    name = "json"

    def _text(self, text: str) -> str | None:
        return None

    def _pieces(self, messages: Messages, good: Array, refused: Refused, layout: Layout, time: str | None
                ) -> list[Batch]:
        pieces: list[Batch] = []
        waiting = [good]
        while waiting:
            part = waiting.pop()
            values = [messages.values[i] for i in part]
            try:
                if len(part) > _SMALL:
                    pieces.append(self._fast(values, part, messages.source, layout, time))
                    continue
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]  # a bad one spoils as few as can be
                continue
            records, rows = [], []
            for i, value in zip(part, values, strict=True):
                record = _object(value)
                if record is None:
                    refused.add(int(i), "unparsable: must be a JSON object")
                else:
                    records.append(record)
                    rows.append(i)
            pieces.append(self._batch(records, np.array(rows, np.int64), messages.source, layout, time))
        return pieces

    def _fast(self, values: list[Any], rows: Array, source: str, layout: Layout, time: str | None) -> Batch:
        """All at once by Arrow; raises ArrowInvalid unless every message is one plain object of the guessed types."""
        lines = b"\n".join(values) + b"\n"
        apart = lines.count(b"}\n{") == len(values) - 1 and lines.count(b"\n") == len(values)
        first = _object(values[0])
        if first is None or not apart or lines[:1] != b"{" or lines[-2:] != b"}\n":
            raise pa.ArrowInvalid("not one object a line")
        types = self._guess(first, layout, time)
        table = pajson.read_json(
            pa.BufferReader(lines),
            pajson.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            pajson.ParseOptions(explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"),
        )
        if len(table) != len(values):
            raise pa.ArrowInvalid("not one object a line")
        found = {name: table.column(name).combine_chunks() for name in types}
        for name, kind in types.items():
            if kind == pa.string():
                found[name].validate(full=True)  # Arrow takes bytes that are no UTF-8
        columns = {field.name: _cast(found[field.name], field.type) for field in layout.schema}
        unparsable = {}
        if time is not None:
            columns[TIME] = pa.array(event_times(found[time]))
        if (key := self._key_column()) is not None:
            columns[KEY] = _cast(found[key], pa.string())
            unparsable[KEY] = np.zeros(len(values), bool)
        return Batch(pa.record_batch(columns), rows, source, 0, unparsable=unparsable)

    def _guess(self, first: Mapping[str, Any], layout: Layout, time: str | None) -> dict[str, Any]:
        """Column -> the type that the first record suggests for all."""
        numbers, kept = {*layout.coordinates, self.columns.weight_column}, self._kept(layout)
        key = self._key_column()
        only_time = time if time not in {*layout.needed, key} else None
        types: dict[str, Any] = {}
        for name in dict.fromkeys((*layout.needed, time, key)):
            if name is None:
                continue
            kind = type(first.get(name))
            if name in numbers:
                types[name] = layout.schema.field(name).type
            elif (kind in (int, float) and name == only_time) or (kind is float and name in kept):
                types[name] = pa.float64()
            else:
                types[name] = pa.int64() if kind is int else pa.string()
        return types


def _cast(column: Any, kind: Any) -> Any:
    if pa.types.is_floating(column.type) and kind == pa.string():
        values: Array = column.to_numpy(zero_copy_only=False)
        if (np.abs(values) >= EXACT).any():
            raise pa.ArrowInvalid("digits may be lost")
        return pa.array([as_text(value) for value in column.to_pylist()], pa.string())
    return column if column.type == kind else column.cast(kind)


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
