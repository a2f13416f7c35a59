"""JSON lines, or one JSON array of objects, to batches of rows.

A plan reads the lines that are flat objects (`transforms.planned`). Where there is none, Arrow reads a chunk of lines,
and one that can't be parsed as a whole is halved until the bad line stands alone: it costs itself.
"""
import dataclasses
import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.planned import json_objects
from beam_coresets.transforms.planned.texts import MOST_BYTES
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch, OneByOne, row_of
from beam_coresets.transforms.reading.formats import (
    SAMPLE_ROWS,
    FilePart,
    Format,
    Report,
    open_bytes,
    pieces_of,
    python_batch,
    python_column,
)
from beam_coresets.transforms.reading.text_formats import count_lines, head_of, lines_of, typed
from beam_coresets.transforms.reading.types.kinds import integer_type
from beam_coresets.transforms.text.cells import measure_type
from beam_coresets.transforms.text.json_arrays import elements, is_array
from beam_coresets.transforms.text.ranges import END, Counted
from beam_coresets.transforms.text.records import utf8_pieces

_TAKES = {
    pa.float64(): (json_objects.NULL, json_objects.WHOLE, json_objects.LARGE, json_objects.FRACTION),
    pa.int64(): (json_objects.NULL, json_objects.WHOLE, json_objects.LARGE),
    pa.string(): (json_objects.NULL, json_objects.TEXT), pa.bool_(): (json_objects.NULL, json_objects.TRUTH),
}  # fmt: skip
_FEW = 0.02  # of the lines of a chunk: more that no plan reads are read together with the others
_LEAST_PLANNED = 1 << 20  # bytes of a chunk; with fewer it takes longer to load a kernel, or even to compile it
_LINE_FEED = 10
_SMALL_CHUNK = 1 << 16
_MOST_SHOWN = 500
_NOTHING = re.compile(rb"(?:^|[\n}])[ \t]*null")  # for an object: where it comes first Arrow's reader ends the process


def _chunks(part: FilePart, options: Columns) -> Iterator[bytes]:
    """Whole lines, LF behind each."""
    with open_bytes(part.path) as file:
        for chunk in lines_of(pieces_of(file, part, options.encoding), options):
            text = _with_line_feeds(chunk)
            yield text if text.endswith(b"\n") else text + b"\n"


def _with_line_feeds(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def _settle(path: str, options: Columns) -> Columns:
    return head_of(path, options)[1]


def _lines(chunk: bytes) -> list[bytes]:
    return [line for line in chunk.split(b"\n") if line.strip()]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json_type(values: list[Any], exact: bool) -> pa.DataType:
    """The type most of the values have: float64 for numbers, but integers (or text) where they are to stay `exact`."""
    values = [v for v in values if v is not None]
    kinds = Counter("number" if type(v) in (int, float) else type(v).__name__ for v in values)
    most = max(kinds, key=lambda kind: (kinds[kind], kind), default="")
    if most == "number":
        return integer_type([v for v in values if type(v) in (int, float)]) if exact else pa.float64()
    if most == "list":
        lists = [{type(item) for item in v} <= {int, float, type(None)} for v in values if type(v) is list]
        return pa.list_(pa.float64()) if 2 * sum(lists) > len(lists) else pa.struct([])
    return {"str": pa.string(), "bool": pa.bool_(), "": pa.null()}.get(most, pa.struct([]))


def _time_type(texts: list[str]) -> Any:
    kind = measure_type(pa.array(texts, pa.string()))
    return kind if pa.types.is_timestamp(kind or pa.null()) else None


def _probe_json(path: str, options: Columns) -> tuple[Any, Any]:
    head, _ = head_of(path, options)
    if is_array(head):
        with open_bytes(path) as file:
            values = next(elements(utf8_pieces(file, options.encoding)), [])[:SAMPLE_ROWS]
    else:
        values = [_object(line) for line in _lines(_with_line_feeds(head))[:SAMPLE_ROWS]]
    records = [record for record in values if isinstance(record, dict)]
    if not records:
        raise ValueError("no line with an object in it, and no array of objects")
    if len(values) == 1 and not is_array(head) and options.columns is None and options.vector_column is None:
        _check_one(records[0], path)
    names = dict.fromkeys(name for record in records for name in record)
    exact = set(options.roles) - {options.weight_column, *(options.columns or ())}
    types = {name: _json_type([record.get(name) for record in records], name in exact) for name in names}
    asked = {*options.roles, *(options.columns or ())}
    for name in asked.intersection(types):
        if pa.types.is_null(types[name]):  # what comes later is told by its use
            types[name] = pa.string() if name in exact else pa.float64()
        elif pa.types.is_string(types[name]) and name in (options.columns or ()):
            texts = [text for text in (record.get(name) for record in records) if isinstance(text, str)]
            types[name] = _time_type(texts) or types[name]
    sample = None
    if options.vector_column in types:
        vectors = [record.get(options.vector_column) for record in records]
        column, _ = python_column(vectors, types[options.vector_column])
        sample = pa.record_batch([column], names=[options.vector_column])
    return pa.schema(list(types.items())), sample


def _check_one(record: dict[str, Any], path: str) -> None:
    """Raises SchemaError for a file of one object in which the rows may be."""
    lists = [name for name, value in record.items() if isinstance(value, list) and len(value) > 1]
    if lists:
        raise SchemaError(
            f"columns: must be given (--columns, --vector-column) if the one object of {path!r} is a row, as rows are "
            f"objects, one a line or in an array; got lists in {', '.join(map(repr, lists[:8]))}"
        )


@functools.lru_cache(maxsize=16)
def _plan(schema: Any) -> json_objects.JsonPlan | None:
    """The plan for objects with columns of some types; None where one of them has none."""
    if not all(kind in _TAKES for kind in schema.types):
        return None
    return json_objects.plan_of({name: _TAKES[kind] for name, kind in zip(schema.names, schema.types, strict=True)})


def _planned(chunk: bytes, row: int, part: FilePart, layout: Layout, report: Report) -> Iterator[tuple[int, Any]]:
    """As `_json_batches`: lines by a plan, the few that it does not read on their own, between the others."""
    plan, data = _plan(layout.schema), np.frombuffer(chunk, np.uint8)
    if plan is None or not _LEAST_PLANNED <= len(chunk) <= MOST_BYTES:
        yield from _json_batches(chunk, row, part, layout, report)
        return
    stops = np.flatnonzero(data == _LINE_FEED)
    starts = np.append(0, stops[:-1] + 1)
    found = json_objects.read_objects(plan, data, starts, stops)
    others = [i for i in np.delete(np.arange(len(stops)), found.rows).tolist() if chunk[starts[i] : stops[i]].strip()]
    try:
        columns = {field.name: _column(found, field) for field in layout.schema}
    except pa.ArrowInvalid:  # integers beyond 64 bits
        others = stops.tolist()
    if len(others) > _FEW * len(stops):
        yield from _json_batches(chunk, row, part, layout, report)
        return
    lines = np.sort(np.append(found.rows, np.array(others, np.int64)))  # those that are rows
    read = Batch(pa.record_batch(columns), row + np.searchsorted(lines, found.rows), part.path, part.key)
    low = 0
    for i in others:
        high = int(np.searchsorted(found.rows, i))
        if high > low:
            yield high - low, read.cut(low, high)
        line, number = chunk[starts[i] : stops[i] + 1], row + int(np.searchsorted(lines, i))
        yield from _json_batches(line, number, part, layout, report)
        low = high
    if low < len(read):
        yield len(read) - low, read.cut(low, len(read))


def _column(found: json_objects.JsonObjects, field: Any) -> Any:
    if pa.types.is_floating(field.type):
        return found.numbers(field.name)
    return found.texts(field.name).cast(field.type)


def _json_batches(chunk: bytes, row: int, part: FilePart, layout: Layout, report: Report) -> Iterator[tuple[int, Any]]:
    """(lines taken, Batch or None): the chunk at once if it is clean, else its halves, else line by line."""
    if not chunk.strip():
        return
    batch = _at_once(chunk, layout)
    if batch is not None:
        yield len(batch), Batch(batch, np.arange(row, row + len(batch)), part.path, part.key)
        return
    middle = chunk.find(b"\n", len(chunk) // 2) + 1
    if len(chunk) > _SMALL_CHUNK and 0 < middle < len(chunk):
        for half in (chunk[:middle], chunk[middle:]):
            for taken, batch in _json_batches(half, row, part, layout, report):
                yield taken, batch
                row += taken
        return
    yield _json_lines(_lines(chunk), row, part, layout, report)


def _at_once(chunk: bytes, layout: Layout) -> Any:
    """What Arrow makes of lines; None where one of them is no object that fits."""
    options = pajson.ParseOptions(explicit_schema=layout.schema, unexpected_field_behavior="ignore")
    read = pajson.ReadOptions(use_threads=False, block_size=len(chunk) + 1)
    if b"null" in chunk and _NOTHING.search(chunk):
        return None
    try:
        table = pajson.read_json(pa.BufferReader(chunk), read, options)
        table.validate(full=True)  # text may be no UTF-8
    except pa.ArrowInvalid:
        return None
    return table.combine_chunks().to_batches()[0] if len(table) == len(_lines(chunk)) else None


def _alone(line: bytes, layout: Layout) -> bool:
    """Whether a line would have been read by a plan, or by Arrow, among lines that all are."""
    plan, data = _plan(layout.schema), np.frombuffer(line, np.uint8)
    ends = np.zeros(1, np.int64), np.array([len(line)])
    if plan is not None and len(json_objects.read_objects(plan, data, *ends).rows):
        return True
    return _at_once(line + b"\n", layout) is not None


def _json_lines(lines: list[bytes], row: int, part: FilePart, layout: Layout, report: Report) -> tuple[int, Any]:
    values = [(_object(line), line) for line in lines]
    for i, (record, line) in enumerate(values):
        if record is None:
            _refuse(line.decode("utf-8", "replace"), row + i, part, report)
    batch = _batch_of([record for record, _ in values], row, part, layout)
    if batch is None:
        return len(lines), None
    there = [line for record, line in values if record is not None]
    records, found = batch.raw, batch.columns

    def shown(i: int) -> Any:  # the same whatever lines stand around it
        return row_of(found, i) if _alone(there[i], layout) else records[i]

    return len(lines), dataclasses.replace(batch, raw=OneByOne(shown, np.arange(len(batch))))


def _refuse(text: str, row: int, part: FilePart, report: Report) -> None:
    report(DeadLetter("unparsable", "", part.path, f"row {row}", text[:_MOST_SHOWN]))


def _batch_of(values: list[Any], row: int, part: FilePart, layout: Layout) -> Batch | None:
    """The objects among some values; `row` numbers the first value."""
    rows = [i for i, value in enumerate(values) if isinstance(value, dict)]
    if not rows:
        return None
    records = [values[i] for i in rows]
    return python_batch(records, layout, row + np.array(rows, np.int64), part.path, part.key)


def _read_json(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """One object a line, or one array of objects; a field that an object does not have is null."""
    read = [pa.field(f.name, pa.string()) if pa.types.is_timestamp(f.type) else f for f in layout.schema]
    texts = dataclasses.replace(layout, schema=pa.schema(read))
    for batch in _json_values(part, texts, report):
        yield typed(batch, layout)


def _json_values(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    row = part.row or 0
    if not part.start and is_array(head_of(part.path, layout.options)[0]):
        with open_bytes(part.path) as file:
            for values in elements(utf8_pieces(file, layout.options.encoding)):
                for i, value in enumerate(values):
                    if not isinstance(value, dict):
                        _refuse(json.dumps(value), row + i, part, report)
                batch = _batch_of(values, row, part, layout)
                row += len(values)
                if batch is not None:
                    yield batch
        return
    for chunk in _chunks(part, layout.options):
        for taken, batch in _planned(chunk, row, part, layout, report):
            row += taken
            if batch is not None:
                yield batch
    part.check(row)


def _count_json(part: FilePart, layout: Layout, exact: bool) -> list[Counted]:
    if not part.start and is_array(head_of(part.path, layout.options)[0]):
        return [Counted(0, 0, END)]
    return count_lines(part, layout, exact)


JSON_LINES = Format(
    "JSON lines", (".jsonl", ".json", ".ndjson"), False, True, _probe_json, _read_json, _settle, ("encoding",),
    count=_count_json,
)
