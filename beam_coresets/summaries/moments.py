"""Times as people give them, and as Python has them: seconds since the epoch, datetimes, text."""
from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from beam_coresets.times import iso, moment, since_epoch

UTC = datetime.timezone.utc

Moment = datetime.datetime | str | float | int


def seconds(value: Any, name: str = "time") -> float | None:
    """Seconds since the epoch of a datetime (without a zone it is UTC), ISO 8601 text, such a number, or None.

    Args:
      name: what an error calls it.

    Raises:
      ValueError: a text or an object of another kind.
    """
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return since_epoch(value)
    if isinstance(value, np.datetime64):
        return float(value.astype("datetime64[us]").astype(np.int64)) / 1e6
    if isinstance(value, str):
        try:
            return moment(value)
        except ValueError as error:
            raise ValueError(f"{name}: {str(error).partition(': ')[2]}") from None
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, datetime.date):
        return since_epoch(datetime.datetime(value.year, value.month, value.day))
    raise ValueError(f"{name}: must be a datetime or ISO 8601 text, got {value!r}")


def instant(value: Any) -> datetime.datetime | None:
    """A time of a table as a datetime in UTC; None for none, and where the calendar ends."""
    at = seconds(value)
    try:
        return None if at is None else datetime.datetime.fromtimestamp(round(at * 1e6) / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def shown(value: Any) -> str:
    """A time for messages."""
    at = seconds(value)
    return "the beginning" if at is None else iso(at)
