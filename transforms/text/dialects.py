"""How a text file is written: what a user says of it, and what a look at its beginning tells."""
import codecs
import csv
import dataclasses
import io
import itertools
import re
import threading
from collections.abc import Collection, Sequence
from typing import Any

from beam_coresets.declared import declare
from beam_coresets.transforms.text.cells import NULLS
from beam_coresets.transforms.text.records import encoding_of

_NAMES = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}
_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_ROWS = 200
_LIKE_THE_FIRST = 0.9  # the share of rows that must have as many cells
_POINT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_COMMA = re.compile(r"[-+]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]*),[0-9]+([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9]+([eE][-+]?[0-9]+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}([.,][0-9]{3})+")  # or a number with three decimals
_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\n|\r|\Z)")
_TEXT = "text files"
_LIMIT = threading.Lock()


class DialectError(ValueError):
    """A file whose dialect is not certain, or not what was said; the message names the option."""


@dataclasses.dataclass(frozen=True)
class TextParameters:
    """What `Columns` and the commands that read files take: how CSV, text and JSON lines are written."""

    delimiter: str | None = declare(
        None, "between cells of CSV: a character, or tab, space (default: told by the first rows)", group=_TEXT
    )
    decimal: str | None = declare(
        None, "of numbers (default: told by the first rows); with a comma, 1.234,5 is a number too", group=_TEXT,
        choices=(".", ","),
    )  # fmt: skip
    encoding: str | None = declare(
        None, "such as latin-1 or utf-16 (default: by the file's byte order mark, else utf-8)", group=_TEXT
    )
    null: tuple[str, ...] = declare(
        (), "more texts for nothing, besides empty cells and NA, N/A, null, None, <NA> for numbers", group=_TEXT
    )
    comment: str | None = declare(None, "a character; lines that begin with it are no rows", group=_TEXT)
    quote: str | None = declare(None, 'around cells of CSV: a character, or none (default: ")', group=_TEXT)

    def check_dialect(self) -> None:
        """Raises ValueError for what no file can be read with."""
        for name in ("delimiter", "comment", "quote"):
            value = getattr(self, name)
            told = _NAMES.get(value, value) if name == "delimiter" else value
            if value is not None and value != "none" and not _is_character(told):
                names = " (or tab, space)" if name == "delimiter" else ""
                raise ValueError(f"{name}: must be one ASCII character{names}, got {value!r}")
        told = [_NAMES.get(each, each) for each in (self.delimiter, self.comment, self.quote) if each is not None]
        if len(set(told)) < len(told):
            raise ValueError(f"delimiter, comment, quote: must be different characters, got {told}")
        if self.delimiter == "none" or self.comment == "none":
            raise ValueError("delimiter, comment: must be one character or left out, got 'none'")
        if self.decimal is not None and self.decimal not in (".", ","):
            raise ValueError(f"decimal: must be . or a comma, got {self.decimal!r}")
        if self.decimal == "," and self.delimiter in (",", "comma") and self.quote == "none":
            raise ValueError("decimal: must not be the delimiter where nothing is quoted, got ','")
        if isinstance(self.null, str):
            raise ValueError(f"null: must be a tuple of texts, got {self.null!r}")
        if self.encoding is not None:
            _check_encoding(self.encoding)

    def check_goes_with(self, known: Collection[str], label: str) -> None:
        """Raises ValueError for what was said to no effect, as files of the kind `label` have only `known`."""
        for field in dataclasses.fields(TextParameters):
            value = getattr(self, field.name)
            if field.name not in known and value != field.default:
                raise ValueError(f"{field.name}: must be left out for {label} files, got {value!r}")

    def characters(self, usual: str) -> tuple[str, str | None, str | None]:
        """Delimiter, quote and comment as a reader takes them; `usual` is the delimiter that need not be given."""
        delimiter = self.delimiter or usual
        quote = '"' if self.quote is None else self.quote
        delimiter = _NAMES.get(delimiter, delimiter)
        return delimiter, None if quote == "none" else quote, self.comment


def dialect_of(settled: TextParameters) -> dict[str, Any]:
    """The options of a dialect by name."""
    return {field.name: getattr(settled, field.name) for field in dataclasses.fields(TextParameters)}


def _is_character(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text not in "\r\n\0"


def _check_encoding(name: str) -> None:
    try:
        if codecs.lookup(name)._is_text_encoding:
            "".encode(name)
            return
    except (LookupError, UnicodeError):
        pass
    raise ValueError(f"encoding: must be one that Python knows, such as latin-1 or utf-16, got {name!r}")


def names_of(line: bytes, delimiter: str, quote: str | None) -> list[str]:
    """The cells of a first line without blanks around them; bytes that are no UTF-8 stand as \\xfc in them."""
    return [cell.strip() for cell in _rows(line.decode("utf-8", "backslashreplace"), delimiter, quote)[0]]


def first_rows(head: bytes, delimiter: str, quote: str | None, comment: str | None) -> list[list[str]]:
    """The cells of the first lines of a text, without blanks around them."""
    lines = _first_lines(without_separator_line(head).decode("utf-8", "replace"), comment)
    return [[cell.strip() for cell in row] for row in _rows("\n".join(lines), delimiter, quote)]


def guessed(
    head: bytes, asked: TextParameters, named: Collection[str], usual: str, header: bool
) -> dict[str, str]:
    """Delimiter and decimal of a CSV file that begins so, where they were not given.

    Args:
      head: as UTF-8.
      named: names of columns that must be in the first line, where there is one.
      usual: the delimiter of files with this extension.

    Raises:
      DialectError: several readings are possible; the message names the option that decides.
    """
    delimiter, quote, comment = asked.characters(usual)
    lines = _first_lines(head.decode("utf-8", "replace"), comment)
    found: dict[str, str] = {}
    marked = re.match(r"sep=(.)\r?$", lines[0]) if lines else None
    lines = lines[1:] if marked else lines
    if asked.delimiter is None:
        delimiter = marked[1] if marked else _delimiter(lines, quote, named if header else (), usual, bool(comment))
        if delimiter != usual:
            found["delimiter"] = delimiter
    if asked.decimal is None:
        rows = _rows("\n".join(lines), delimiter, quote)
        wanted = [j for j, name in enumerate(rows[0]) if name.strip() in named] if rows and header and named else None
        if decimal_of(rows[1:] if header else rows, wanted, delimiter) == ",":
            found["decimal"] = ","
    return found


def notes_of(asked: TextParameters, settled: TextParameters, path: str) -> tuple[str, ...]:
    """What was told from the beginning of a file, as a line for people; none where nothing was."""
    names = [field.name for field in dataclasses.fields(TextParameters)]
    told = [f"--{name} {getattr(settled, name)!r}" for name in names if getattr(settled, name) != getattr(asked, name)]
    return (f"input: {path!r} looks written with {' '.join(told)}, and is read so",) if told else ()


def without_separator_line(head: bytes) -> bytes:
    """The beginning of a text without Excel's first line "sep=;"."""
    return re.sub(rb"\Asep=.(\r\n?|\n)", b"", head)


def _first_lines(text: str, comment: str | None) -> list[str]:
    """Whole lines of the beginning that hold something."""
    lines = (found[1] for found in _LINE.finditer(text))  # no more than are needed
    there = (line for line in lines if line and not (comment and line.startswith(comment)))
    return list(itertools.islice(there, _SAMPLE_ROWS))


def _rows(text: str, delimiter: str, quote: str | None) -> list[list[str]]:
    options = {"quoting": csv.QUOTE_NONE} if quote is None else {"quotechar": quote}
    with _LIMIT:  # which is the process's
        limit = csv.field_size_limit(len(text) + 1)
        try:
            return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **options) if row]  # type: ignore[arg-type]
        finally:
            csv.field_size_limit(limit)


def _delimiter(lines: Sequence[str], quote: str | None, named: Collection[str], usual: str, told: bool) -> str:
    """The delimiter that makes rows of equal width of the lines; the usual one if none does."""
    text = "\n".join(lines)
    readings = {}
    for delimiter in dict.fromkeys((usual, *_DELIMITERS)):
        rows = _rows(text, delimiter, quote)
        if rows and _even(rows) and set(named) <= set(map(str.strip, rows[0])):
            readings[delimiter] = rows
    if not readings and " " in text:
        rows = _rows(text, " ", quote)
        if _even(rows) and len(rows) > 1 and _all_numbers(rows[1:]):
            readings[" "] = rows
    if len(readings) > 1:
        numbers = [delimiter for delimiter, rows in readings.items() if _all_numbers(rows[1:])]
        if len(numbers) != 1:
            several = " or ".join(map(repr, readings))
            raise DialectError(f"delimiter: must be given (--delimiter), as {several} could separate the cells")
        return numbers[0]
    if not readings and lines and lines[0][0] in "#%" and not told:
        raise uncommented(lines[0][0], lines[0])
    return next(iter(readings), usual)


def uncommented(sign: str, line: str) -> DialectError:
    """What is said of a first line that looks like a comment."""
    return DialectError(f"comment: must be given (--comment '{sign}') if lines such as {line[:80]!r} are no rows")


def _even(rows: Sequence[Sequence[str]]) -> bool:
    if not rows:
        return False
    width = len(rows[0])
    return width > 1 and sum(len(row) == width for row in rows) >= _LIKE_THE_FIRST * len(rows)


def _all_numbers(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell.strip() for row in rows for cell in row]
    return bool(cells) and all(cell.lower() in NULLS or is_number(cell) for cell in cells)


def is_number(cell: str) -> bool:
    """Whether a cell is a number with either decimal."""
    cell = cell.strip()
    return any(each.fullmatch(cell) for each in (_WHOLE, _POINT, _COMMA))


def decimal_of(rows: Sequence[Sequence[str]], wanted: Collection[int] | None, delimiter: str) -> str:
    """The decimal of the numbers in some rows, looking at columns that hold numbers (if `wanted`, at these).

    Raises:
      DialectError: it could be either.
    """
    points, commas, unclear = [], [], []
    for j in range(len(rows[0]) if rows else 0):
        cells = [row[j].strip() for row in rows if j < len(row)]
        cells = [cell for cell in cells if cell.lower() not in NULLS]
        if (wanted is not None and j not in wanted) or sum(map(is_number, cells)) < _LIKE_THE_FIRST * len(cells):
            continue
        with_sign = [cell for cell in cells if "," in cell or "." in cell]
        unclear += [cell for cell in with_sign if _THOUSANDS.fullmatch(cell)]
        clear = [cell for cell in with_sign if not _THOUSANDS.fullmatch(cell)]
        points += [cell for cell in clear if _POINT.fullmatch(cell)]
        commas += [cell for cell in clear if _COMMA.fullmatch(cell)]
    both = points[:1] + commas[:1]
    if not both and any("," in cell or delimiter == ";" for cell in unclear):
        both = unclear[:1]
    if len(both) == 2 or both == unclear[:1] != []:
        several = " and ".join(map(repr, both))
        raise DialectError(f"decimal: must be given (--decimal), as it could be a point or a comma in {several}")
    return "," if commas else "."


def encoding_guess(head: bytes, asked: TextParameters) -> dict[str, str]:
    """The encoding of a file without a byte order mark that begins so, if it is neither given nor UTF-8."""
    name, mark = encoding_of(head, asked.encoding)
    return {} if mark or asked.encoding is not None or name == "utf-8" else {"encoding": name}
