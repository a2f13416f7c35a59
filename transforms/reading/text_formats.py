"""CSV, whitespace text and JSON lines to batches of rows, a few MB of text at a time.

Text has no types: coordinates and weights are read as float64, and ids, groups and kept columns of CSV and text stay
text. One bad cell or line costs one row: cells are converted after splitting, and JSON that a whole chunk can't be
parsed as is halved until the bad line stands alone.
"""
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from beam_coresets._jit import kernel
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.formats import (
    SAMPLE_ROWS,
    FilePart,
    Format,
    Report,
    open_bytes,
    python_batch,
    python_column,
    suffix,
)

Array = npt.NDArray[Any]

_CHUNK_BYTES = 4 << 20
_SMALL_CHUNK = 1 << 16
_NULLS = {"", "na", "n/a", "#n/a", "null", "none", "<na>"}
_BOM = b"\xef\xbb\xbf"


def _float(text: str | None) -> float | None:
    """The number a cell spells, or None; underscores are Python's, not data's."""
    try:
        return None if text is None or "_" in text else float(text)
    except ValueError:
        return None


def parse_numbers(cells: Any) -> tuple[Any, Array | None]:
    """Text as a float64 Arrow array; cells that are no numbers are null in it and marked in the mask (or None)."""
    try:
        return pc.cast(cells, pa.float64()), None
    except pa.ArrowInvalid:
        texts = cells.to_pylist()
    values = [_float(text) for text in texts]
    bad = [v is None and t is not None and t.strip().lower() not in _NULLS for t, v in zip(texts, values, strict=True)]
    return pa.array(values, pa.float64()), np.array(bad)


def _typed(strings: Any, layout: Layout, rows: Array, part: FilePart) -> Batch:
    columns, unparsable = {}, {}
    for field in layout.schema:
        columns[field.name] = strings.column(field.name)
        if not pa.types.is_string(field.type):
            columns[field.name], bad = parse_numbers(columns[field.name])
            if bad is not None:
                unparsable[field.name] = bad
    return Batch(pa.record_batch(columns), rows, part.path, part.key, unparsable=unparsable, raw=strings)


def _text_schema(sample: pa.RecordBatch, options: Columns) -> pa.Schema:
    """Types of text columns from a first look: numbers where at least half of the cells that aren't empty are."""
    labels = {options.id_column, options.group_column, *options.keep_columns}
    fields = []
    for name, cells in zip(sample.schema.names, sample.columns, strict=True):
        kind = pa.string()
        if name not in labels:
            values, bad = parse_numbers(cells)
            wrong, found = 0 if bad is None else int(bad.sum()), len(values) - values.null_count
            if found >= max(1, wrong) or not len(values):
                kind = pa.float64()
            elif not wrong:
                kind = pa.null()
        fields.append((name, kind))
    return pa.schema(fields)


def _open_csv(path: str, header: bool, names: tuple[str, ...] | None, keep: tuple[str, ...] | None, skip: Any) -> Any:
    """A streaming reader that gives `keep` as text; `names` is for files without a header."""
    delimiter = "\t" if suffix(path)[0] in (".tsv", ".tab") else ","
    return pacsv.open_csv(
        open_bytes(path),
        pacsv.ReadOptions(
            use_threads=False, block_size=_CHUNK_BYTES, column_names=None if header else names,
            autogenerate_column_names=not header and names is None,
        ),
        pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        pacsv.ConvertOptions(
            column_types={name: pa.string() for name in keep or ()}, include_columns=keep,
            strings_can_be_null=True, null_values=[""],
        ),
    )  # fmt: skip


def _probe_csv(path: str, options: Columns) -> tuple[Any, Any]:
    with _open_csv(path, options.header, None, None, lambda row: "skip") as reader:
        names = tuple(reader.schema.names)
    if len(set(names)) < len(names):
        raise SchemaError(f"columns: must have distinct names, got {list(names)} in {path!r}")
    with _open_csv(path, options.header, None if options.header else names, names, lambda row: "skip") as reader:
        sample = next(iter(reader), None)
    empty = pa.schema([(name, pa.string()) for name in names]).empty_table()
    sample = (pa.record_batch(empty.to_pydict(), empty.schema) if sample is None else sample).slice(0, SAMPLE_ROWS)
    return _text_schema(sample, options), None


def _read_csv(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """Whole files; a row of another width is reported with its place, and keeps its number."""
    header = layout.options.header
    skipped: list[int] = []  # row numbers of the malformed rows so far

    def skip(row: Any) -> str:
        number = row.number - 1 - header
        skipped.append(number)
        reason = f"columns: must be {row.expected_columns}, got {row.actual_columns}"
        report(DeadLetter(reason, "", part.path, f"row {number}", str(row.text)[:500]))
        return "skip"

    try:
        reader = _open_csv(part.path, header, layout.file_columns, layout.needed, skip)
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return
        raise
    except KeyError as error:
        raise SchemaError(f"columns: must be in every file, got {part.path!r} without one ({error})") from error
    with reader:
        row = 0
        for strings in reader:
            if strings.num_rows:
                at = np.array(skipped, np.int64)
                valid = np.arange(row, row + strings.num_rows)
                # at[j] - j good rows stand before the j-th malformed one
                numbers = valid + np.searchsorted(at - np.arange(len(at)), valid, side="right")
                yield _typed(strings, layout, numbers, part)
                row += strings.num_rows


def _chunks(path: str) -> Iterator[bytes]:
    """The file's text in pieces that end with a line."""
    with open_bytes(path) as file:
        rest = b""
        start = True
        while piece := file.read(_CHUNK_BYTES):
            if start:
                piece, start = piece.removeprefix(_BOM), False
            cut = piece.rfind(b"\n") + 1
            if cut:
                yield rest + piece[:cut]
                rest = piece[cut:]
            else:
                rest += piece
        if rest.strip():
            yield rest + b"\n"


@kernel
def _tokenise(data, out, width, starts, stops, counts, numbers):  # type: ignore[no-untyped-def]
    """Writes lines of `width` words to `out`, words joined by commas; lists the others.

    Returns the bytes written, the lines that are not blank, and how many of them were listed.
    """
    written = 0
    lines = 0
    bad = 0
    i = 0
    while i < len(data):
        begin, back, words = i, written, 0
        inside = False
        while i < len(data) and data[i] != 10:
            c = data[i]
            if c == 32 or (9 <= c <= 13):
                inside = False
            else:
                if not inside:
                    if words:
                        out[written] = 44
                        written += 1
                    words += 1
                    inside = True
                out[written] = 59 if c == 44 else c  # a comma inside a word must not split it
                written += 1
            i += 1
        if words == width:
            out[written] = 10
            written += 1
        else:
            written = back
            if words:
                starts[bad], stops[bad], counts[bad], numbers[bad] = begin, i, words, lines
                bad += 1
        lines += words > 0
        i += 1
    return written, lines, bad


def _split_words(chunk: bytes, width: int) -> tuple[Any, Array, list[tuple[int, int, str]]]:
    """(comma separated lines, their line numbers, the lines of another width as (number, words, text))."""
    data = np.frombuffer(chunk, np.uint8)
    out = np.empty(len(data) + 1, np.uint8)
    room = int(np.count_nonzero(data == 10)) + 1
    starts, stops, counts, numbers = (np.empty(room, np.int64) for _ in range(4))
    written, lines, bad = _tokenise(data, out, width, starts, stops, counts, numbers)  # type: ignore[no-untyped-call]
    good = np.ones(lines, bool)
    good[numbers[:bad]] = False
    wrong = [
        (int(numbers[j]), int(counts[j]), chunk[starts[j] : stops[j]].decode("utf-8", "replace")) for j in range(bad)
    ]
    return pa.py_buffer(out[:written]), np.flatnonzero(good), wrong


def _split_strings(text: Any, names: tuple[str, ...], keep: tuple[str, ...]) -> Any:
    table = pacsv.read_csv(
        pa.BufferReader(text),
        pacsv.ReadOptions(use_threads=False, block_size=max(1, text.size + 1), column_names=names),
        pacsv.ParseOptions(quote_char=False),
        pacsv.ConvertOptions(column_types={name: pa.string() for name in keep}, include_columns=keep),
    )
    return table.combine_chunks().to_batches()[0]


def _probe_text(path: str, options: Columns) -> tuple[Any, Any]:
    chunk = next(_chunks(path), b"")
    widths = Counter(len(line.split()) for line in chunk.split(b"\n", SAMPLE_ROWS)[:SAMPLE_ROWS])
    widths.pop(0, None)
    if not widths:
        raise ValueError("no line with words in it")
    width = min(widths, key=lambda w: (-widths[w], w))
    names = tuple(f"f{j}" for j in range(width))
    text, _, _ = _split_words(chunk, width)
    return _text_schema(_split_strings(text, names, names).slice(0, SAMPLE_ROWS), options), None


def _read_text(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """Whole files of words between blanks, no header; columns are called f0, f1, ..."""
    width = len(layout.file_columns)
    row = 0
    for chunk in _chunks(part.path):
        text, numbers, wrong = _split_words(chunk, width)
        for number, words, line in wrong:
            reason = f"columns: must be {width}, got {words}"
            report(DeadLetter(reason, "", part.path, f"row {row + number}", line[:500]))
        if len(numbers):
            strings = _split_strings(text, layout.file_columns, layout.needed)
            yield _typed(strings, layout, row + numbers, part)
        row += len(numbers) + len(wrong)


def _lines(chunk: bytes) -> list[bytes]:
    return [line for line in chunk.split(b"\n") if line.strip()]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _json_type(values: list[Any]) -> pa.DataType:
    """The type most of the values have; whole numbers only if all numbers are."""
    values = [v for v in values if v is not None]
    kinds = Counter("number" if type(v) in (int, float) else type(v).__name__ for v in values)
    most = max(kinds, key=lambda kind: (kinds[kind], kind), default="")
    if most == "number":
        return pa.float64() if any(type(v) is float for v in values) else pa.int64()
    if most == "list":
        return pa.list_(pa.float64())
    return {"str": pa.string(), "bool": pa.bool_(), "": pa.null()}.get(most, pa.struct([]))


def _probe_json(path: str, options: Columns) -> tuple[Any, Any]:
    lines = _lines(next(_chunks(path), b""))[:SAMPLE_ROWS]
    records = [record for record in map(_object, lines) if record is not None]
    if not records:
        raise ValueError("no line with an object in it")
    names = dict.fromkeys(name for record in records for name in record)
    types = {name: _json_type([record.get(name) for record in records]) for name in names}
    for name, kind in types.items():
        if kind == pa.int64() and (name not in options.roles or name == options.weight_column):
            types[name] = pa.float64()
    sample = None
    if options.vector_column in types:
        values = [record.get(options.vector_column) for record in records]
        column, _ = python_column(values, types[options.vector_column])
        sample = pa.record_batch([column], names=[options.vector_column])
    return pa.schema(list(types.items())), sample


def _json_batches(chunk: bytes, row: int, part: FilePart, layout: Layout, report: Report) -> Iterator[tuple[int, Any]]:
    """(lines taken, Batch or None): the chunk at once if it is clean, else its halves, else line by line."""
    options = pajson.ParseOptions(explicit_schema=layout.schema, unexpected_field_behavior="ignore")
    read = pajson.ReadOptions(use_threads=False, block_size=len(chunk) + 1)
    lines = chunk.count(b"\n")
    try:
        table = pajson.read_json(pa.BufferReader(chunk), read, options)
        if len(table) == lines or len(table) == len(_lines(chunk)):
            batch = table.combine_chunks().to_batches()[0]
            yield len(table), Batch(batch, np.arange(row, row + len(table)), part.path, part.key)
            return
    except pa.ArrowInvalid:
        pass
    middle = chunk.find(b"\n", len(chunk) // 2) + 1
    if len(chunk) > _SMALL_CHUNK and 0 < middle < len(chunk):
        for half in (chunk[:middle], chunk[middle:]):
            for taken, batch in _json_batches(half, row, part, layout, report):
                yield taken, batch
                row += taken
        return
    yield _json_lines(_lines(chunk), row, part, layout, report)


def _json_lines(lines: list[bytes], row: int, part: FilePart, layout: Layout, report: Report) -> tuple[int, Any]:
    records, rows = [], []
    for i, line in enumerate(lines):
        record = _object(line)
        if record is None:
            text = line.decode("utf-8", "replace")[:500]
            report(DeadLetter("unparsable", "", part.path, f"row {row + i}", text))
        else:
            records.append(record)
            rows.append(row + i)
    if not records:
        return len(lines), None
    return len(lines), python_batch(records, layout, np.array(rows, np.int64), part.path, part.key)


def _read_json(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """Whole files, one object a line; a field that a line does not have is null."""
    row = 0
    for chunk in _chunks(part.path):
        for taken, batch in _json_batches(chunk, row, part, layout, report):
            row += taken
            if batch is not None:
                yield batch


CSV = Format("CSV", (".csv", ".tsv", ".tab"), False, True, _probe_csv, _read_csv)
TEXT = Format("text", (".txt", ".text", ".data", ".dat"), False, True, _probe_text, _read_text)
JSON_LINES = Format("JSON lines", (".jsonl", ".json", ".ndjson"), False, True, _probe_json, _read_json)
