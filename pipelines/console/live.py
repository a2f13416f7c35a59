"""A line for each window that is decided, for a person at a terminal."""
import datetime
from typing import Any

from rich.markup import escape

from beam_coresets.pipelines.console.show import number, shards

_FORM = "{:<19} {:<17} {:<9} {:>8} {:>14} {:>8}  {}"


def heading() -> str:
    """What the columns are."""
    return "[bold]" + _FORM.format("window", "answered", "reason", "coverage", "points", "lag", "cost") + "[/]"


def line(row: dict[str, Any]) -> str:
    """One row of `summaries`."""
    answered = f"{len(row['responded'])} of {row['shards']}"
    if row["stragglers"]:
        answered += f", not {shards(row['stragglers'])}"
    known = row["decided_at"] is not None and row["window_end"] is not None
    lag = f"{row['decided_at'] - row['window_end']:.1f} s" if known else "-"
    cost = number(row["cost"], 5)
    if row["cost"] is not None and row["cost_high"] is not None and row["cost"] > 0:
        cost += f" ± {100 * (row['cost_high'] - row['cost_low']) / 2 / row['cost']:.1f} %"
        cost += " (weak)" if (row["trust"] or "").startswith("weak") else ""
    reason = str(row["reason"]) + (f" r{row['revision']}" if row["revision"] > 1 else "")
    text = _FORM.format(
        _window(row), answered, reason, number(row["coverage"], 4), f"{row['points']:,}", lag, cost
    )
    if row["key"]:
        text += f"  {escape(row['key'])}"
    marked = "red" if row["degraded"] else "yellow" if row["coverage"] < 1 else ""
    return f"[{marked}]{text}[/]" if marked else text


def _window(row: dict[str, Any]) -> str:
    if row["window_start"] is None:
        return "global"
    ends = (row["window_start"], row["window_end"])
    return " - ".join(f"{datetime.datetime.fromtimestamp(end, datetime.timezone.utc):%H:%M:%S}" for end in ends)
