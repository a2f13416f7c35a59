"""Numbers, times and texts as a page has them."""
from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

DIGITS = 5
MOST_TEXT = 300  # characters of anybody's text

Columns = dict[str, list[Any]]


def digits(value: float | None) -> float | None:
    """As exact as a page needs it; None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def cut(text: str | None) -> str | None:
    """Anybody's text, no longer than a page takes."""
    return text if text is None or len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def milliseconds(column: pa.ChunkedArray) -> list[int | None]:
    """Times in seconds, or timestamps, as whole milliseconds since the epoch; None for none."""
    if pa.types.is_timestamp(column.type):
        return [None if v is None else v // 1000 for v in column.cast(pa.int64()).to_pylist()]
    return [None if v is None or not math.isfinite(v) else round(v * 1e3) for v in column.to_pylist()]
