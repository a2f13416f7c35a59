"""Event times: of fields of messages, of columns of files of any usual kind, and which of them are refused."""
import contextlib
import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets.times import iso, moment_or_nan, since_epoch

Array = npt.NDArray[Any]

MAX_AHEAD = 60.0
MAX_BEHIND = 30 * 86_400.0
_MILLISECONDS = 1e11  # numbers beyond are milliseconds: as seconds they would be the year 5138
_EXACT = 2**53
_ZONED = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-][01]\d:[0-5]\d)$"
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def refuse(times: Array, now: Array | float, max_ahead: float = MAX_AHEAD, max_behind: float = MAX_BEHIND) -> Array:
    """(m,) objects: why each event time, (m,) seconds, can't be used at `now` (seconds, one for all or (m,)), or None.

    A time far ahead would close all windows before it, one far behind belongs to windows long decided.
    """
    times = np.asarray(times, np.float64)
    now = np.broadcast_to(np.asarray(now, np.float64), times.shape)
    reasons = np.full(len(times), None, object)
    good = (times > 0) & (times <= now + max_ahead) & (times >= now - max_behind)
    for i in np.flatnonzero(~good).tolist():
        bound = f"{max_ahead:g} s ahead" if times[i] > now[i] else f"{max_behind:g} s behind"
        timeless = not 0 < times[i] < np.inf
        reasons[i] = "no event time" if timeless else f"event time: must be at most {bound}, got {_shown(times[i])}"
    return reasons


def _shown(time: float) -> str:
    return iso(float(time), "seconds", "+00:00")


def event_time(value: Any) -> float:
    """Seconds since the epoch of a field's value; NaN for what is no time.

    Numbers are seconds, above 1e11 milliseconds; text is ISO 8601, UTC without a zone.
    """
    if isinstance(value, str):
        return moment_or_nan(value)
    if isinstance(value, datetime.datetime):
        return since_epoch(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return float("nan")
    try:
        return value / 1000 if value > _MILLISECONDS else float(value)
    except OverflowError:
        return float("nan")


def has_times(kind: Any) -> bool:
    """Whether `event_times` takes a column of an Arrow type."""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(number or pa.types.is_string(kind) or pa.types.is_timestamp(kind) or pa.types.is_null(kind))


def event_times(column: Any) -> Array:
    """`event_time` of an Arrow column of numbers, text, timestamps or nothing, (n,) float64."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_timestamp(column.type):
        return _times_of_numbers(column)
    zoned = None
    if pc.all(pc.match_substring_regex(column, _ZONED)).as_py():  # of other forms Arrow takes some that Python does not
        with contextlib.suppress(pa.ArrowInvalid):
            zoned = column.cast(pa.timestamp("us", "UTC"))
    if zoned is None:
        return np.array([event_time(value) for value in column.to_pylist()], np.float64)
    return _times_of_numbers(zoned)


def _times_of_numbers(column: Any) -> Array:
    if pa.types.is_floating(column.type):
        numbers = _floats(column)
        return np.where(numbers > _MILLISECONDS, numbers / 1000, numbers)
    timestamps = pa.types.is_timestamp(column.type)
    unit = round(1 / UNITS[column.type.unit]) if timestamps else 1
    null, counts = np.asarray(column.is_null()), column.cast(pa.int64()).fill_null(0).to_numpy()
    times = counts / unit if timestamps else np.where(counts > _MILLISECONDS, counts / 1000, counts.astype(np.float64))
    for i in np.flatnonzero(np.abs(counts) >= _EXACT):  # Python divides before it rounds
        times[i] = int(counts[i]) / unit if timestamps else event_time(int(counts[i]))
    times[null] = np.nan
    return np.asarray(times)


def time_of_text(text: str, unit: str | None = None) -> float:
    """Seconds since the epoch of a number of `unit`s (see `seconds_of`) or ISO 8601 text; NaN for what is neither."""
    try:
        return float(_scaled(np.array(float(text)), unit))
    except ValueError:
        return moment_or_nan(text)


def _scaled(numbers: Array, unit: str | None) -> Array:
    if unit is None:
        return np.where(np.abs(numbers) > _MILLISECONDS, numbers / 1000, numbers)
    return numbers * UNITS[unit]


def _from_text(column: Any, unit: str | None) -> Array:
    """Columns of one usual form at once, others cell by cell."""
    for kind in (pa.float64(), pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            values = pc.cast(column, kind)
        except pa.ArrowInvalid:
            continue
        if pa.types.is_floating(kind):
            return _scaled(_floats(values), unit)
        return _floats(values.cast(pa.int64())) * 1e-6
    return np.array([time_of_text(text or "nan", unit) for text in column.to_pylist()], np.float64)


def _floats(column: Any) -> Array:
    values: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def seconds_of(column: Any, unit: str | None = None) -> tuple[Array, Array]:
    """Event times (n,) float64 in seconds, NaN where there is none, and the reasons (n,) why not, or None.

    Timestamps and dates say what they are, without a zone they are UTC; numbers, also as text, count `unit`s since the
    epoch (without a unit seconds, and milliseconds above 1e11); other text is ISO 8601.

    Raises:
      ValueError: an unknown unit, or a column of another type.
    """
    if unit is not None and unit not in UNITS:
        raise ValueError(f"time_unit: must be one of {', '.join(UNITS)}, got {unit!r}")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_timestamp(kind):
        times = _floats(column.cast(pa.int64())) * UNITS[kind.unit]
    elif pa.types.is_date(kind):
        times = _floats(column.cast(pa.timestamp("s")).cast(pa.int64()))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        times = _from_text(column, unit)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        times = _scaled(_floats(column), unit)
    elif pa.types.is_null(kind):
        times = np.full(len(column), np.nan)
    else:
        raise ValueError(f"time_field: must hold times, numbers or text, got {kind}")
    return times, _why_not(column, times)


def _why_not(column: Any, times: Array) -> Array:
    reasons = np.full(len(times), None, object)
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    reasons[np.isnan(times)] = "unparsable" if text else "nan"
    reasons[np.isinf(times)] = "infinite"
    reasons[np.asarray(column.is_null())] = "null"
    return reasons
