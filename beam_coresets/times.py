"""Times as text: lengths ("5s") and moments (ISO 8601). Numbers are seconds, of moments those since the epoch."""
from __future__ import annotations

import datetime
import math
import re

_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UTC = datetime.timezone.utc


def length_of_time(text: object, name: str = "length") -> float:
    """Seconds of "250ms", "5s", "2m", "1h", "1d", or "90".

    Args:
      name: what an error calls it.

    Raises:
      ValueError: it is no such text.
    """
    found = re.fullmatch(r"([0-9.]+)\s*(ms|s|m|h|d|)", text.strip()) if isinstance(text, str) else None
    try:
        if found is not None:
            return float(found[1]) * _UNITS[found[2]]
    except ValueError:  # several dots
        pass
    raise ValueError(f"{name}: must be a time such as 500ms, 5s or 2m, got {text!r}")


# What `moment` takes, and numbers of seconds, as an extended regular expression; February 29 is to be given in seconds.
_DAY = "((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
MOMENT = f"-?[0-9]{{1,12}}([.][0-9]+)?|[12][0-9]{{3}}-{_DAY}(T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?Z?)?"


def moment(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 date or time; UTC unless it says otherwise, down to microseconds.

    Raises:
      ValueError: it is none.
    """
    # Python 3.10 knows neither "Z" nor fractions of other than 3 or 6 digits
    iso_text = re.sub(r"(?<=[0-9])([zZ]| UTC)$", "+00:00", text.strip())
    iso_text = re.sub(r"\.(\d{1,6})\d*", lambda found: "." + found[1].ljust(6, "0"), iso_text)
    try:
        return since_epoch(datetime.datetime.fromisoformat(iso_text))
    except (ValueError, OverflowError):
        raise ValueError(f"time: must be a date or time such as 2026-11-21T08:00, got {text!r}") from None


class TimeOfDay(float):
    """Seconds since midnight (UTC) of a day that is to be told from what is looked at."""

    @classmethod
    def of(cls, text: str) -> TimeOfDay | None:
        """That of "15:12", "15:12:30" or "15:12 UTC"; None for other texts."""
        found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?(?:Z| UTC)?", text.strip())
        return None if found is None else cls(sum(int(part or 0) * unit for part, unit in zip(
            found.groups(), (3600, 60, 1), strict=True)))  # fmt: skip

    def on(self, day: float) -> float:
        """The moment of the day that a moment is in."""
        return day - day % 86400.0 + self


def moment_or_nan(text: str) -> float:
    """`moment`, and NaN for what is none."""
    try:
        return moment(text)
    except ValueError:
        return math.nan


def since_epoch(at: datetime.datetime) -> float:
    """Seconds since the epoch; without a zone it is UTC."""
    return (at if at.tzinfo else at.replace(tzinfo=_UTC)).timestamp()


def iso(seconds: float, timespec: str = "auto", utc: str = "Z") -> str:
    """A moment as ISO 8601 text, which `moment` takes, without spaces; as a number where the calendar ends.

    Args:
      timespec: its smallest unit, as of `datetime.isoformat`.
      utc: how the zone is written.
    """
    try:
        return datetime.datetime.fromtimestamp(seconds, _UTC).isoformat(timespec=timespec).removesuffix("+00:00") + utc
    except (ValueError, OverflowError, OSError):
        return repr(seconds)
