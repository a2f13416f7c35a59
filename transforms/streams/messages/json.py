"""JSON messages: a row is one object. A plan reads those that are flat, Arrow others that are plain, all at once;
Python the rest, one by one.

All take the same messages and make the same of them: how messages fall into batches differs from replica to replica.
"""
import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from beam_coresets.bounded import DEEPEST, depth
from beam_coresets.transforms.planned import json_objects, texts
from beam_coresets.transforms.reading.columns import Layout
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.streams.messages.decoding import Array, Decoding
from beam_coresets.transforms.streams.messages.rows import EXACT, FEWEST, KEY, TIME, MalformedError, NamedRows
from beam_coresets.transforms.streams.times import event_times
from beam_coresets.values import text

_NUMBERS = (json_objects.NULL, json_objects.WHOLE, json_objects.LARGE, json_objects.FRACTION)
_LABELS = (json_objects.NULL, json_objects.TEXT, json_objects.WHOLE, json_objects.LARGE)
_KEPT = (*_LABELS, json_objects.FRACTION, json_objects.TRUTH)
_TIMES = (json_objects.NULL, json_objects.TEXT, json_objects.WHOLE, json_objects.FRACTION)
_SMALL = 64
_NO_JSON = re.compile(rb"[\s:,\[](?:-NaN|-?Inf(?!inity))")  # numbers to Arrow, none to Python
_MINUS_ZERO = tuple(b"-0" + end for end in (b",", b"}", b"]", b" ", b"\t", b"\r", b"\n"))  # of an int, 0 to Python


class Json(NamedRows):
    """A JSON object a message; a field that it does not have is null."""

    name = "json"

    def _text(self, text: str) -> str | None:
        return None

    def _cells(self, records: list[Any], layout: Layout) -> list[Any]:
        names = [name for name in (*layout.coordinates, self.columns.weight_column) if name is not None]
        cells = super()._cells(records, layout)
        return [record | {name: _number(record[name]) for name in names if name in record} for record in cells]

    def _pieces(self, decoding: Decoding, layout: Layout) -> list[Batch]:
        rest = decoding.rest()
        pieces: list[Batch] = []
        if len(rest) >= FEWEST and (plan := _plan(self, decoding.clock.column)) is not None:
            pieces, rest = self._planned(plan, rest, decoding, layout)
        waiting = [rest]
        while waiting:
            part = waiting.pop()
            values = decoding.values(part)
            try:
                if len(part) > _SMALL:
                    pieces.append(self._fast(values, part, decoding, layout))
                    continue
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]  # a bad one spoils as few as can be
                continue
            records, rows = [], []
            for i, value in zip(part, values, strict=True):
                try:
                    records.append(_object(value))
                    rows.append(i)
                except MalformedError as error:
                    decoding.refuse(int(i), f"unparsable: {error}")
            pieces += self._safely(records, np.array(rows, np.int64), decoding, layout)
        return pieces

    def _planned(
        self, plan: json_objects.JsonPlan, rows: Array, decoding: Decoding, layout: Layout
    ) -> tuple[list[Batch], Array]:
        """A batch of the messages (n,) that the plan reads, and the others."""
        joined = texts.joined(decoding.values(rows))
        if joined is None:
            return [], rows
        data, bounds = joined
        found = json_objects.read_objects(plan, data, bounds[:-1], bounds[1:])
        columns, unparsable = {}, {}
        for field in layout.schema:
            numbers = pa.types.is_floating(field.type)
            columns[field.name] = found.numbers(field.name) if numbers else _texts(found, field.name)
        if (time := decoding.clock.column) is not None:
            columns[TIME] = pa.array(_times(found, time))
        if (key := self._key_column()) is not None:
            columns[KEY] = found.texts(key)
            unparsable[KEY] = np.zeros(len(found.rows), bool)
        source = decoding.messages.source
        batch = Batch(pa.record_batch(columns), rows[found.rows], source, 0, unparsable=unparsable)
        return [batch], np.delete(rows, found.rows)

    def _fast(self, values: list[Any], rows: Array, decoding: Decoding, layout: Layout) -> Batch:
        """All at once by Arrow; raises ArrowInvalid unless every message is one plain object of the guessed types."""
        lines, time = b"\n".join(values) + b"\n", decoding.clock.column
        if not _plain(lines, values):
            raise pa.ArrowInvalid("not one plain object a line")
        try:
            types = self._guess(_object(values[0]), layout, time)
        except MalformedError as error:
            raise pa.ArrowInvalid(str(error)) from error
        if (key := self._key_column()) is not None and types[key] == pa.float64():
            raise pa.ArrowInvalid("a fraction is no key")
        table = pajson.read_json(
            pa.BufferReader(lines),
            pajson.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            pajson.ParseOptions(explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"),
        )
        if len(table) != len(values):
            raise pa.ArrowInvalid("not one object a line")
        found = {name: table.column(name).combine_chunks() for name in types}
        columns = {field.name: _cast(found[field.name], field.type) for field in layout.schema}
        unparsable = {}
        if time is not None:
            columns[TIME] = pa.array(event_times(found[time]))
        if key is not None:
            columns[KEY] = _cast(found[key], pa.string())
            unparsable[KEY] = np.zeros(len(values), bool)
        return Batch(pa.record_batch(columns), rows, decoding.messages.source, 0, unparsable=unparsable)

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


@functools.lru_cache(maxsize=64)
def _plan(form: Json, time: str | None) -> json_objects.JsonPlan | None:
    """The plan for what a format needs of an object; None where one field is to be a vector."""
    layout, key = form._layout(time), form._key_column()
    numbers, kept = {*layout.coordinates, form.columns.weight_column}, form._kept(layout)
    if form.columns.vector_column is not None:
        return None
    takes: dict[str, set[int]] = {}
    for name in layout.needed:
        takes[name] = set(_NUMBERS if name in numbers else _KEPT if name in kept else _LABELS)
    for more, kinds in ((time, _TIMES), (key, _LABELS)):
        if more is not None:
            takes[more] = takes.get(more, set(kinds)).intersection(kinds)
    return json_objects.plan_of({name: tuple(kinds) for name, kinds in takes.items()})


def _texts(found: json_objects.JsonObjects, name: str) -> Any:
    """A column of labels, or a kept one: numbers with a point are written as Python writes them."""
    column, fractions = found.texts(name), np.flatnonzero(found.kinds(name) == json_objects.FRACTION)
    if not len(fractions):
        return column
    cells = column.to_pylist()
    for i, number in zip(fractions.tolist(), found.doubles(name)[fractions].tolist(), strict=True):
        cells[i] = text(number)
    return pa.array(cells, pa.string())


def _times(found: json_objects.JsonObjects, name: str) -> Array:
    """`event_time` of a field, (n,) float64."""
    kinds = found.kinds(name)
    times = event_times(pa.array(found.doubles(name)))
    times[kinds == json_objects.NULL] = np.nan
    if (written := kinds == json_objects.TEXT).any():
        times[written] = event_times(found.texts(name).filter(pa.array(written)))
    return times


def _cast(column: Any, kind: Any) -> Any:
    if pa.types.is_floating(column.type) and kind == pa.string():
        values: Array = column.to_numpy(zero_copy_only=False)
        if (np.abs(values) >= EXACT).any():
            raise pa.ArrowInvalid("digits may be lost")
        return pa.array([text(value) for value in column.to_pylist()], pa.string())
    return column if column.type == kind else column.cast(kind)


def _plain(lines: bytes, values: list[Any]) -> bool:
    """Whether Arrow and Python agree on these messages, joined as `lines`; nothing is said of their syntax."""
    apart = lines.count(b"}\n{") == len(values) - 1 and lines.count(b"\n") == len(values)
    if not apart or lines[:1] != b"{" or lines[-2:] != b"}\n":
        return False
    if b"-0" in lines and any(zero in lines for zero in _MINUS_ZERO):
        return False
    if (b"Inf" in lines or b"-NaN" in lines) and _NO_JSON.search(lines):
        return False
    try:
        lines.isascii() or lines.decode()
    except UnicodeDecodeError:
        return False
    opened = lines.count(b"{") + lines.count(b"[")  # at least one a message
    return opened < len(values) + DEEPEST or all(depth(value) <= DEEPEST for value in values)


def _object(value: bytes) -> dict[str, Any]:
    """The object that a message is; raises MalformedError where it is none, or one that can't be written again."""
    if (deep := depth(value)) > DEEPEST:
        raise MalformedError(f"must be nested at most {DEEPEST} deep, got {deep}")
    try:
        text = value.decode()
        try:
            found = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            raise
        except ValueError:  # Python refuses integers of more digits than it likes
            found = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise MalformedError("must be a JSON object")
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise MalformedError("must be Unicode text, got half of a surrogate pair") from None
    return found


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= 4000 else float(digits)


def _number(value: Any) -> Any:
    """A cell as Arrow's reader takes it: integers of any size are numbers, truth values in a vector are not."""
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, list):
        return "" if any(type(one) is bool for one in value) else [_number(one) for one in value]
    return value
