"""Cells of text to numbers, truth values and times."""
import codecs
import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from beam_coresets.times import moment_or_nan

NULLS = ("", "na", "n/a", "#n/a", "null", "none", "<na>")
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?(?i:inf|infinity|nan)$"
_DAY = r"^\d{4}-\d\d-\d\d"  # of times Arrow takes some forms that Python does not
_CLOCK = r"[T ]\d\d:\d\d:\d\d(\.\d{1,6})?"
_ZONED, _LOCAL = _DAY + _CLOCK + r"(Z|[+-][01]\d:[0-5]\d)$", _DAY + f"({_CLOCK})?$"
_COMMA_NUMBER = r"^[-+]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]*)(,[0-9]*)?([eE][-+]?[0-9]+)?$|^[-+]?(?i:inf|infinity|nan)$"


def parse_numbers(
    cells: Any, decimal: str = ".", nulls: Sequence[str] = ()
) -> tuple[Any, npt.NDArray[np.bool_] | None]:
    """Text as a float64 Arrow array; cells that are no numbers are null in it and marked in the mask (or None).

    Args:
      cells: Arrow strings.
      decimal: "." or ","; with a comma, points may separate thousands ("1.234,5").
      nulls: texts that stand for nothing, besides the usual ones.
    """
    if decimal == "." and not nulls:
        try:
            return pc.cast(cells, pa.float64()), None
        except pa.ArrowInvalid:
            pass
    text = pc.utf8_trim_whitespace(cells)
    nothing = pc.is_in(pc.utf8_lower(text), value_set=pa.array([*NULLS, *map(str.lower, nulls)], pa.string()))
    text = pc.if_else(nothing, pa.scalar(None, pa.string()), text)
    if decimal == ",":
        fits = pc.match_substring_regex(text, _COMMA_NUMBER)
        plain = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
        text = pc.if_else(fits, plain, "?")
    fits = pc.match_substring_regex(text, _NUMBER)
    numbers = pc.cast(pc.if_else(fits, text, pa.scalar(None, pa.string())), pa.float64())
    bad = np.asarray(pc.invert(fits).fill_null(False))
    return numbers, bad if bad.any() else None


def as_text(column: Any) -> tuple[Any, npt.NDArray[np.bool_] | None]:
    """Bytes as Arrow text; cells that are no UTF-8 are null in it and marked in the mask (or None)."""
    try:
        return column.cast(pa.string()), None
    except pa.ArrowInvalid:
        values = [None if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()]
        bad = np.array([v is not None and v.encode() != b for v, b in zip(values, column.to_pylist(), strict=True)])
        return pa.array(values, pa.string()), bad


def are_numbers(cells: Sequence[bytes | None], decimal: str) -> bool:
    """Whether `as_columns` reads all of some cells as numbers."""
    line = b",".join(b'"' + (cell or b"").replace(b'"', b'""') + b'"' for cell in cells)
    try:
        as_columns(line + b"\n", len(cells), dict.fromkeys(range(len(cells)), pa.float64()), 1, ",", '"', decimal)
    except ValueError:  # of Arrow's, too
        return False
    return True


def parse_as(cells: Any, kind: Any, nulls: Sequence[str] = ()) -> tuple[Any, npt.NDArray[np.bool_]]:
    """Text as truth values (true, false) or as times (ISO 8601, UTC without a zone), by the Arrow type.

    Cells that are none are null in the array and marked in the mask (n,).
    """
    text = pc.utf8_trim_whitespace(cells)
    nothing = pc.is_in(pc.utf8_lower(text), value_set=pa.array([*NULLS, *map(str.lower, nulls)], pa.string()))
    text = pc.if_else(nothing, pa.scalar(None, pa.string()), text)
    if pa.types.is_boolean(kind):
        values = pc.index_in(pc.utf8_lower(text), value_set=pa.array(["false", "true"])).cast(pa.bool_())
    else:
        values = _times(text).cast(kind)
    return values, np.asarray(pc.and_(text.is_valid(), values.is_null()))


def _times(text: Any) -> Any:
    """ISO 8601 text as microseconds in UTC, those of one usual form at once, others cell by cell."""
    for pattern, kind in ((_ZONED, pa.timestamp("us", "UTC")), (_LOCAL, pa.timestamp("us"))):
        if pc.all(pc.match_substring_regex(text, pattern)).as_py():
            with contextlib.suppress(pa.ArrowInvalid):
                return text.cast(kind).cast(pa.int64()).cast(pa.timestamp("us", "UTC"))
    seconds = [math.nan if cell is None else moment_or_nan(cell) for cell in text.to_pylist()]
    counts = [None if math.isnan(moment) else round(moment * 1e6) for moment in seconds]
    return pa.array(counts, pa.int64()).cast(pa.timestamp("us", "UTC"))


def measure_type(cells: Any, nulls: Sequence[str] = ()) -> Any:
    """The type, of truth values or times, that at least half of some cells of text are; None if they are neither."""
    for kind in (pa.bool_(), pa.timestamp("us", "UTC")):
        values, bad = parse_as(cells, kind, nulls)
        if len(values) - values.null_count >= max(1, int(bad.sum())):
            return kind
    return None


def as_columns(
    data: Any, width: int, take: Mapping[int, Any], rows: int, delimiter: str, quote: str | None, decimal: str = "."
) -> Any:
    """Records of `width` cells each as an Arrow RecordBatch of some of their columns, called by their numbers.

    Args:
      data: the records, as UTF-8; bytes or a view of some.
      take: number of a column -> its Arrow type; columns that are not in it are not decoded.
      rows: how many records there are.

    Raises:
      pa.ArrowInvalid: a cell is not of its column's type; bytes always are.
      ValueError: Arrow finds another number of rows.
    """
    if bytes(data[:3]) == codecs.BOM_UTF8:  # which belongs to the first cell, and Arrow would leave out
        data = b"\n" + bytes(data)
    table = pacsv.read_csv(
        pa.BufferReader(data),
        pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=list(map(str, range(width)))),
        pacsv.ParseOptions(
            delimiter=delimiter, quote_char=quote or False,
            newlines_in_values=quote is not None,
        ),
        pacsv.ConvertOptions(
            column_types={str(j): kind for j, kind in take.items()}, include_columns=list(map(str, take)),
            strings_can_be_null=True, null_values=[""], decimal_point=decimal,
        ),
    )  # fmt: skip
    if len(table) != rows:
        raise ValueError(f"rows: must be {rows} in {len(data)} bytes, got {len(table)}")
    return table.combine_chunks().to_batches()[0]
