"""Lengths of time as people write them."""
from __future__ import annotations

import re

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def length_of_time(text: str) -> float:
    """A length of time such as "250ms", "5s", "2m" or "90" in seconds.

    Raises:
      ValueError: it is none.
    """
    found = re.fullmatch(r"([0-9.]+)\s*(ms|s|m|h|d|)", text.strip())
    try:
        return float(found[1]) * _UNITS[found[2]] if found else float("nan") / 0
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"window: must be a time such as 5s, 60s/5s or global/30s, got {text!r}") from None
