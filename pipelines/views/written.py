"""Numbers, times and texts as a page has them."""
from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

DIGITS = 5
MOST_DECIMALS = 12
MOST_TEXT = 300  # characters of anybody's text

Columns = dict[str, list[Any]]


def digits(value: float | None) -> float | None:
    """As exact as a page needs it; None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def decimals(spread: float, largest: float) -> int | None:
    """Digits after the point by which numbers are told apart.

    Args:
      spread: how far apart they are. largest: of them, without its sign.

    Returns:
      None where they are too large or too small to be written without an exponent, or don't differ.
    """
    if not 0 < spread < math.inf or largest >= 1e15:
        return None
    found = max(0, 3 - math.floor(math.log10(spread)))
    return found if found <= MOST_DECIMALS else None


def rounded(value: float | None, places: int | None) -> float | None:
    """A number to so many digits after the point, or `digits` of it."""
    if places is None or value is None or not math.isfinite(value):
        return digits(value)
    return round(value, places)


def cut(text: str | None) -> str | None:
    """Anybody's text, no longer than a page takes."""
    return text if text is None or len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def milliseconds(column: pa.ChunkedArray) -> list[int | None]:
    """Times in seconds, or timestamps, as whole milliseconds since the epoch; None for none."""
    if pa.types.is_timestamp(column.type):
        return [None if v is None else v // 1000 for v in column.cast(pa.int64()).to_pylist()]
    return [None if v is None or not math.isfinite(v) else round(v * 1e3) for v in column.to_pylist()]
