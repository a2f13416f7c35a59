"""CSV and whitespace text to batches of rows, a few MB of text at a time.

Text has no types: coordinates and weights are read as float64, and ids, groups and kept columns stay text. One bad cell
or line costs one row: records are told apart before Arrow's reader gets them (`transforms.text`), and cells that are no
numbers are found after splitting. So a file's rows are the rows read and those refused, or an error names the file.
"""
import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.planned import csv_rows
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch, OneByOne, row_of
from beam_coresets.transforms.reading.formats import (
    SAMPLE_ROWS,
    FilePart,
    Format,
    Report,
    open_bytes,
    pieces_of,
    suffix,
    whole_or_first,
)
from beam_coresets.transforms.text import dialects, headers
from beam_coresets.transforms.text.cells import are_numbers, as_columns, as_text, measure_type, parse_as, parse_numbers
from beam_coresets.transforms.text.ranges import Counted, RangeCounter
from beam_coresets.transforms.text.records import PIECE_BYTES, RecordReader, Records, beginning, utf8_pieces
from beam_coresets.transforms.text.words import are_parted_by_commas, columns_of_words, split_words

Array = npt.NDArray[Any]

_NO_UTF8 = "encoding: must be given (--encoding latin-1, say), as {} no UTF-8, got {!r}"

def _usual(path: str) -> str:
    """The delimiter of files that are called so."""
    return "\t" if suffix(path)[0] in (".tsv", ".tab") else ","


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Names the file in what is said of its dialect."""
    try:
        yield
    except dialects.DialectError as error:
        raise SchemaError(f"{error} of {path!r}") from None


def _told(options: Columns, found: dict[str, Any]) -> Columns:
    return dataclasses.replace(options, **found)


def head_of(path: str, options: Columns) -> tuple[bytes, Columns]:
    """The first lines of a file as UTF-8, and the options with its encoding."""
    with open_bytes(path) as file:
        found = dialects.encoding_guess(file.read(PIECE_BYTES), options)
    options = _told(options, found)
    with open_bytes(path) as file:
        return beginning(utf8_pieces(file, options.encoding)), options


def _settle_csv(path: str, options: Columns) -> Columns:
    head, options = head_of(path, options)
    named = {*(options.columns or ()), *options.roles}
    with _explained(path):
        found = dialects.guessed(head, options, named, _usual(path), options.header is not False)
    return _told(options, found)


def _settle_text(path: str, options: Columns) -> Columns:
    head, options = head_of(path, options)
    words = [line.split() for line in head.decode("utf-8", "replace").splitlines()[:SAMPLE_ROWS] if line.strip()]
    if options.decimal is None and are_parted_by_commas(words):
        shown = " ".join(words[0])[:80]
        raise SchemaError(
            f"input_format: must be csv, or decimal given (--decimal ,), for lines like {shown!r} of {path!r}"
        )
    if options.decimal is None and sum("," in word for line in words for word in line) > sum(map(len, words)) / 2:
        with _explained(path):
            options = _told(options, {"decimal": dialects.decimal_of(words, None, " ")})
    return options


def _columns_of_numbers(sample: pa.RecordBatch, options: Columns) -> pa.Schema:
    """Types of text columns from a first look: numbers where at least half of the cells that aren't empty are.

    Columns that are named as coordinates may be truth values or times as well.
    """
    labels = {options.id_column, options.group_column, *options.keep_columns}
    labels -= {*(options.columns or ()), options.weight_column}  # what is to be a number, too, is one
    fields = []
    for name, cells in zip(sample.schema.names, sample.columns, strict=True):
        kind = pa.string()
        if name not in labels:
            values, bad = parse_numbers(cells, options.decimal or ".", options.null)
            wrong, found = 0 if bad is None else int(bad.sum()), len(values) - values.null_count
            if found >= max(1, wrong) or not len(values):
                kind = pa.float64()
            elif not wrong:
                kind = pa.null()
            elif name in (options.columns or ()):
                kind = measure_type(cells, options.null) or kind
        fields.append((name, kind))
    return pa.schema(fields)


def _csv_reader(file: Any, path: str, options: Columns) -> RecordReader:
    text = utf8_pieces(file, options.encoding)
    head = dialects.without_separator_line(next(text, b""))
    return RecordReader(itertools.chain([head] if head else [], text), *options.characters(_usual(path)))


def _first_line(reader: RecordReader, path: str, options: Columns) -> list[str] | None:
    """The cells of the first record, which is no longer to be read; None in a file without any."""
    line = reader.first()
    if line is None:
        return None
    if options.columns is None and options.vector_column is None and options.header is not False:
        try:
            line.decode()
        except UnicodeDecodeError:
            raise SchemaError(_NO_UTF8.format(f"the names in {path!r} are", line[:80])) from None
    return dialects.names_of(line, *options.characters(_usual(path))[:2])


def _probe_csv(path: str, options: Columns) -> tuple[Any, Any]:
    with open_bytes(path) as file:
        names = _first_line(_csv_reader(file, path, options), path, options)
    if names is None:
        raise ValueError("no row")
    rows = dialects.first_rows(head_of(path, options)[0], *options.characters(_usual(path)))
    if options.header is False:
        names = [f"f{j}" for j in range(headers.width_without_header(rows or [names]))]
    else:
        names = _named(names, rows[1:], path)
    with open_bytes(path) as file:
        reader = _csv_reader(file, path, options)
        if options.header is not False:
            _first_line(reader, path, options)
        found = (each for each in reader.batches(len(names)) if len(each.numbers))
        records = next(found, Records(b"", np.empty(0), []))
    columns = _sample(records, names, path, options)
    schema = _columns_of_numbers(pa.RecordBatch.from_arrays(columns, names=names), options)
    _check_first_line(names, schema, rows[1:], path, options)
    return schema, None


def _named(names: list[str], rows: Sequence[Sequence[str]], path: str) -> list[str]:
    try:
        return headers.names_for(names, rows)
    except ValueError as error:
        raise SchemaError(f"{error} in {path!r}") from None


def _sample(records: Records, names: Sequence[str], path: str, options: Columns) -> list[Any]:
    """The first rows as text. Raises SchemaError where a text that was asked for is not UTF-8."""
    if not len(records.numbers):
        return [pa.array([], pa.string())] * len(names)
    delimiter, quote, _ = options.characters(_usual(path))
    take = dict.fromkeys(range(len(names)), pa.binary())
    batch = as_columns(records.data, len(names), take, len(records.numbers), delimiter, quote).slice(0, SAMPLE_ROWS)
    texts = {options.id_column, options.group_column, *options.keep_columns}
    columns = []
    for name, column in zip(names, batch.columns, strict=True):
        text, bad = as_text(column)
        if bad is not None and name in texts:
            shown = column[int(bad.argmax())].as_py()[:80]
            raise SchemaError(_NO_UTF8.format(f"column {name!r} of {path!r} is", shown))
        columns.append(text)
    return columns


def _check_first_line(
    names: Sequence[str], schema: Any, rows: Sequence[Sequence[str]], path: str, options: Columns
) -> None:
    """Raises SchemaError if the names may well be data: then the first row would be lost without a word."""
    asked = {*(options.columns or ()), *options.roles}
    if options.header is None and not asked & set(names):
        text = [pa.types.is_string(kind) for kind in schema.types]
        if option := headers.may_be_data(names, text, rows, options.null):
            raise SchemaError(
                f"no_header: must be given ({option}) if the first line of {path!r} is data, or header (--header) if "
                f"it holds names, got {_shown(names)}"
            )
    if options.columns is not None or options.vector_column is not None:
        return
    again = [name for name, count in Counter(names).items() if name and count > 1]
    if again:
        raise SchemaError(f"columns: must have names of their own, or be named (--columns), got {_shown(again)} more "
                          f"than once in {path!r}")  # fmt: skip
    if len(names) == 1 and pa.types.is_string(schema.types[0]) and rows and len(rows[0][0].split()) > 1:
        raise SchemaError(
            f"delimiter: must be given (--delimiter space, or --input-format text where blanks run) for lines like "
            f"{rows[0][0][:80]!r} of {path!r}"
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _places(names: Sequence[str], layout: Layout, path: str) -> dict[str, int]:
    """Column -> where it stands in a file with these names."""
    count = Counter(names)
    for name in layout.needed:
        if count[name] != 1:
            found = f"without {name!r}" if not count[name] else f"with {name!r} {count[name]} times"
            raise SchemaError(f"columns: must be in every file, once, got {path!r} {found}")
    places = {name: j for j, name in enumerate(names)}
    return {name: places[name] for name in layout.needed}


def _is_text(kind: Any) -> bool:
    """Whether a column of this type is read as text first."""
    return bool(pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind))


def typed(batch: Batch, layout: Layout) -> Batch:
    """A batch whose columns of truth values and times may be text, with these columns as the layout has them."""
    columns = {name: batch.columns.column(name) for name in batch.columns.schema.names}
    unparsable, parsed = dict(batch.unparsable), False
    for field in layout.schema:
        text = columns[field.name]
        if field.type != text.type and pa.types.is_string(text.type) and _is_text(field.type):
            columns[field.name], bad = parse_as(text, field.type, layout.options.null)
            unparsable[field.name], parsed = unparsable.get(field.name, False) | bad, True
    if not parsed:
        return batch
    raw = batch.columns if batch.raw is None else batch.raw
    return dataclasses.replace(batch, columns=pa.record_batch(columns), unparsable=unparsable, raw=raw)


class _TypedRows:
    """Records of text to batches of a layout: at once, until a cell is found that can't be read so."""

    def __init__(self, layout: Layout, part: FilePart, places: dict[str, int], signs: tuple[str, str | None]) -> None:
        self._layout, self._part, self._places, self._signs = layout, part, places, signs
        self._decimal = layout.options.decimal or "."
        self._at_once = not layout.options.null

    def plan(self, width: int, comment: str | None) -> Callable[[Any], Any] | None:
        """Reads plain rows of numbers and text, as long as all is read at once; None where no plan can."""
        if self._decimal != "." or any(sign and sign in "-+.eE0123456789" for sign in self._signs):
            return None
        plan = csv_rows.plan_of(width, self._places, self._are_numbers(), *self._signs, comment)
        return lambda text: plan.read(text) if self._at_once else None

    def _are_numbers(self) -> dict[str, bool]:
        return {field.name: not _is_text(field.type) for field in self._layout.schema}

    def planned(self, columns: Any, numbers: Array) -> Batch:
        """What a plan has read, as a batch."""
        columns = columns.select(self._layout.schema.names)
        return typed(Batch(columns, numbers, self._part.path, self._part.key), self._layout)

    def batch(self, data: Any, numbers: Array, width: int) -> Batch:
        kinds = {f.name: pa.string() if _is_text(f.type) else pa.float64() for f in self._layout.schema}
        if self._at_once:
            try:
                take = {self._places[name]: kind for name, kind in kinds.items()}
                columns = as_columns(data, width, take, len(numbers), *self._signs, self._decimal)
                batch = Batch(columns.rename_columns(list(kinds)), numbers, self._part.path, self._part.key)
                return typed(batch, self._layout)
            except pa.ArrowInvalid:
                self._at_once = False
        take = dict.fromkeys(self._places.values(), pa.binary())
        cells = as_columns(data, width, take, len(numbers), *self._signs)
        return self._by_cell(cells.rename_columns(list(kinds)), numbers)

    def _by_cell(self, cells: Any, numbers: Array) -> Batch:
        columns, unparsable, raw = {}, {}, {}
        nulls = self._layout.options.null
        for field in self._layout.schema:
            raw[field.name], bad = as_text(cells.column(field.name))
            columns[field.name] = raw[field.name]
            if not _is_text(field.type):
                columns[field.name], bad = parse_numbers(raw[field.name], self._decimal, nulls)
            elif nulls:
                gone = pc.is_in(raw[field.name], value_set=pa.array(nulls, pa.string()))
                columns[field.name] = pc.if_else(gone, pa.scalar(None, pa.string()), raw[field.name])
            if bad is not None:
                unparsable[field.name] = bad
        found, texts, part = pa.record_batch(columns), pa.record_batch(raw), self._part
        numeric = [name for name, is_number in self._are_numbers().items() if is_number]
        others = [name for name in unparsable if name not in numeric]

        def shown(i: int) -> dict[str, Any]:  # the same whatever other rows have made of `at_once`
            odd = nulls or any(unparsable[name][i] for name in others)
            plain = not odd and are_numbers([cells.column(name)[i].as_py() for name in numeric], self._decimal)
            return row_of(found if plain else texts, i)

        rows = OneByOne(shown, np.arange(len(numbers)))
        return typed(Batch(found, numbers, part.path, part.key, unparsable=unparsable, raw=rows), self._layout)


def _read_csv(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """A row of another width is reported with its place, and keeps its number."""
    options, path = layout.options, part.path
    with open_bytes(path) as file:
        characters = options.characters(_usual(path))
        reader = _csv_reader(whole_or_first(file, part), path, options)
        names: Sequence[str] | None = layout.file_columns
        if options.header is not False:
            names = _first_line(reader, path, options)
        if names is None:
            return
        if part.start:
            reader = RecordReader(pieces_of(file, part, options.encoding), *characters, part.row or 0)
        if list(layout.file_columns) in (["", *names], [*names, ""]):
            names = layout.file_columns
        typed = _TypedRows(layout, part, _places(names, layout, path), characters[:2])
        plan = typed.plan(len(names), characters[2])
        for records in reader.batches(len(names), plan):
            for number, reason, text in records.refused:
                report(DeadLetter(reason, "", path, f"row {number}", text))
            if records.columns is not None:
                yield typed.planned(records.columns, records.numbers)
            elif len(records.numbers):
                yield typed.batch(records.data, records.numbers, len(names))
        part.check(reader.number)


def _count_csv(part: FilePart, layout: Layout, exact: bool) -> list[Counted]:
    options, characters = layout.options, layout.options.characters(_usual(part.path))
    with open_bytes(part.path) as file:
        counter = RangeCounter(file, *characters, header=options.header is not False, encoding=options.encoding)
        return counter.found(part.start, part.stop, exact)


def count_lines(part: FilePart, layout: Layout, exact: bool) -> list[Counted]:
    """Counts lines with more than blanks on them."""
    options = layout.options
    with open_bytes(part.path) as file:
        counter = RangeCounter(file, comment=options.comment, blank=b" \t\v\f", encoding=options.encoding)
        return counter.found(part.start, part.stop, exact)


def lines_of(text: Iterator[bytes], options: Columns) -> Iterator[bytes]:
    """Whole lines of a text, some MB at a time, without comments."""
    for records in RecordReader(text, comment=options.comment).batches():
        yield bytes(records.data)


def _probe_text(path: str, options: Columns) -> tuple[Any, Any]:
    with open_bytes(path) as file:
        chunk = next(lines_of(utf8_pieces(file, options.encoding), options), b"")
    lines = [line for line in chunk.splitlines()[:SAMPLE_ROWS] if line.strip()]
    if not lines:
        raise ValueError("no line with words in it")
    if lines[0][:1] in b"#%" and options.comment is None:
        sign = lines[0][:1].decode()
        with _explained(path):
            raise dialects.uncommented(sign, lines[0].decode("utf-8", "replace"))
    widths = Counter(len(line.split()) for line in lines)
    width = min(widths, key=lambda w: (-widths[w], w))
    text, numbers, _ = split_words(chunk, width)
    take = dict.fromkeys(range(width), pa.binary())
    batch = columns_of_words(text, width, take, len(numbers), ".").slice(0, SAMPLE_ROWS)
    names = [f"f{j}" for j in range(width)]
    schema = _columns_of_numbers(pa.record_batch([as_text(c)[0] for c in batch.columns], names=names), options)
    if width == 1 and pa.types.is_string(schema.field(0).type):
        between = next((each for each in ",;|" if each in lines[0].decode("utf-8", "replace")), None)
        if between is not None:
            raise SchemaError(f"input_format: must be csv for cells between {between!r}, got text for {path!r}")
    return schema, None


def _read_text(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """Words between blanks, no header; columns are called f0, f1, ..."""
    width = len(layout.file_columns)
    places = {name: int(name[1:]) for name in layout.needed}
    typed = _TypedRows(layout, part, places, ("\t", None))
    row = part.row or 0
    with open_bytes(part.path) as file:
        for chunk in lines_of(pieces_of(file, part, layout.options.encoding), layout.options):
            text, numbers, wrong = split_words(chunk, width)
            for number, reason, line in wrong:
                report(DeadLetter(reason, "", part.path, f"row {row + number}", line))
            if len(numbers):
                yield typed.batch(text, row + numbers, width)
            row += len(numbers) + len(wrong)
    part.check(row)


CSV = Format(
    "CSV", (".csv", ".tsv", ".tab"), False, True, _probe_csv, _read_csv, _settle_csv,
    ("delimiter", "decimal", "encoding", "null", "comment", "quote"), count=_count_csv,
)  # fmt: skip
TEXT = Format(
    "text", (".txt", ".text", ".data", ".dat"), False, True, _probe_text, _read_text, _settle_text,
    ("decimal", "encoding", "null", "comment"), named=False, count=count_lines,
)  # fmt: skip
