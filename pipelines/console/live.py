"""A line for each window that is decided, for a person at a terminal."""
import datetime
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from beam_coresets import table_schemas
from beam_coresets.pipelines.console.show import figures, number, shards
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.running.waiting import Awaited

MOST_KEYS = 5  # of a window

_RIGHT = ("coverage", "points", "lag")
_LEFT_OUT = ("reason", "points", "lag", "answered", "coverage")  # one after another, where a terminal is narrow
_DATED, _UNDATED = 30, 19  # characters of a window with the date and without
_DAY = datetime.timedelta(days=1)


class Screen:
    """Windows as they are decided, a few of their keys each; until the first one comes, what is waited for.

    Args:
      console: where. shards: of the stream. waiting_for: what is waited for.
    """

    def __init__(self, console: Terminal, shards: int, waiting_for: str) -> None:
        self._console, self._lines = console, Lines(shards, console.limit)
        self._waiting = Awaited(console.aside, waiting_for)

    def __enter__(self) -> "Screen":
        self._console.print(self._lines.heading(), highlight=False, soft_wrap=True)
        self._waiting.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._waiting.close()

    def say(self, text: str) -> None:
        """A line of another kind."""
        self._waiting.close()
        self._console.print(text, highlight=False, soft_wrap=True)

    def show(self, summaries: pa.Table) -> None:
        """The rows of `summaries` of one decision."""
        self._waiting.close()
        for row in figures(summaries):
            self._console.answer("stream", type="window", **row)
        for row in table_schemas.in_seconds(summaries.slice(0, MOST_KEYS)).to_pylist():
            for line in self._lines.of(row):
                self._console.print(line, highlight=False, soft_wrap=True)


class Lines:
    """Lines whose columns stand below each other.

    Args:
      shards: of the stream.
      width: characters of a line; None for any. Where it is not enough, the date gets a line of its own, and then
        columns are left out, those that say least first.
    """

    def __init__(self, shards: int, width: int | None = None) -> None:
        self._width, self._date = width, ""
        self._columns = {"window (UTC)": _DATED, "answered": max(8, len(f"{shards} of {shards}")), "reason": 11,
                         "coverage": 8, "points": 13, "lag": 8, "cost": 22}  # fmt: skip
        self._dated = not self._too_wide()
        if not self._dated:
            self._columns["window (UTC)"] = _UNDATED
        for name in _LEFT_OUT:
            if self._too_wide():
                del self._columns[name]

    def _too_wide(self) -> bool:
        return self._width is not None and sum(self._columns.values()) + 2 * len(self._columns) - 2 > self._width

    def heading(self) -> str:
        """What the columns are."""
        return f"[bold]{self._joined({name: name for name in self._columns}).rstrip()}[/]"

    def of(self, row: dict[str, Any]) -> Sequence[str]:
        """Those of one row of `summaries`, with times in seconds: one, and one before it where the date changes."""
        at = row["decided_at"] if row["window_start"] is None else row["window_start"]
        known = row["decided_at"] is not None and row["window_end"] is not None
        cells = {
            "window (UTC)": self._window(row),
            "answered": f"{len(row['responded'])} of {row['shards']}",
            "reason": str(row["reason"]) + (f" r{row['revision']}" if row["revision"] > 1 else ""),
            "coverage": number(row["coverage"], 4),
            "points": f"{row['points']:,}",
            "lag": _lag(row["decided_at"] - row["window_end"]) if known else "-",
            "cost": _cost(row),
        }
        more = [f"not {shards(row['stragglers'])}"] if row["stragglers"] else []
        more += ["read in part"] if row.get("partial") and row["coverage"] < 1 else []
        more += [row["key"]] if row["key"] else []
        text = escape("  ".join([self._joined(cells), *more]).rstrip())
        marked = "red" if row["degraded"] else "yellow" if row["coverage"] < 1 else ""
        line = f"[{marked}]{text}[/]" if marked else text
        date = "" if self._dated or at is None else f"{_utc(at):%Y-%m-%d} (UTC)"
        if date == self._date:
            return (line,)
        self._date = date
        return (date, line)

    def _joined(self, cells: dict[str, str]) -> str:
        form = {name: f"{cells[name]:{'>' if name in _RIGHT else '<'}{width}}" for name, width in self._columns.items()}
        return "  ".join(form.values())

    def _window(self, row: dict[str, Any]) -> str:
        time = "%Y-%m-%d %H:%M:%S" if self._dated else "%H:%M:%S"
        if row["window_start"] is None:
            return "global" if row["decided_at"] is None else f"global at {_utc(row['decided_at']):{time}}"
        start, end = _utc(row["window_start"]), _utc(row["window_end"])
        if end - start < _DAY:
            return f"{start:{time}} - {end:%H:%M:%S}"
        return f"{start:%Y-%m-%d %H:%M} - {end:%m-%d %H:%M}" if self._dated else f"{start:%H:%M} - {end:%m-%d %H:%M}"


def _cost(row: dict[str, Any]) -> str:
    cost = number(row["cost"], 5)
    if row["cost"] is not None and row["cost_high"] is not None and row["cost"] > 0:
        cost += f" ± {100 * (row['cost_high'] - row['cost_low']) / 2 / row['cost']:.1f} %"
        cost += " (weak)" if (row["trust"] or "").startswith("weak") else ""
    return cost


def _lag(seconds: float) -> str:
    """In hours and days where it is long, as in a stream that reads what is old."""
    if abs(seconds) < 1e4:
        return f"{seconds:.1f} s"
    return f"{seconds / 3600:.1f} h" if abs(seconds) < 3.6e6 else f"{seconds / 86400:.0f} d"


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
