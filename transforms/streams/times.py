"""Event times of rows: from a column of any usual kind, and which of them are refused."""
import datetime
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]

MAX_AHEAD = 60.0
MAX_BEHIND = 30 * 86_400.0
_MILLISECONDS = 1e11  # numbers beyond are milliseconds: as seconds they would be the year 5138
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
        reasons[i] = "no event time" if timeless else f"event time: must be at most {bound}, got {_iso(times[i])}"
    return reasons


def _iso(time: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(time, datetime.timezone.utc).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{time:g}"


def _moment(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 date or time, UTC unless it says otherwise; NaN if it is none."""
    # Python 3.10 knows neither "Z" nor fractions of other than 3 or 6 digits
    text = re.sub(r"[zZ]$", "+00:00", text.strip())
    text = re.sub(r"\.(\d{1,6})\d*", lambda found: "." + found[1].ljust(6, "0"), text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _scaled(numbers: Array, unit: str | None) -> Array:
    if unit is None:
        return np.where(np.abs(numbers) > _MILLISECONDS, numbers / 1000, numbers)
    return numbers * UNITS[unit]


def _cell(text: str | None, unit: str | None) -> float:
    try:
        return float(_scaled(np.array(float(text or "nan")), unit))
    except ValueError:
        return _moment(str(text))


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
    return np.array([_cell(text, unit) for text in column.to_pylist()], np.float64)


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
