"""What Prometheus asks for, from the tables that were claimed: the same on every runner."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from beam_coresets.pipelines.views.history import History, Totals, worst_of
from beam_coresets.streaming.events import SEVERITY
from beam_coresets.streaming.trigger import EXPIRED, LATE, OVERLAPPING, REPEATED

PREFIX = "beam_coresets"
MOST_KEYS = 100  # of the keys, the heaviest
# Series that are there before they count: what begins with its first count has no increase then, and raises no alert.
LATE_REASONS = (LATE, REPEATED, OVERLAPPING, EXPIRED)
LETTER_REASONS = ("null", "nan", "infinite", "unparsable", "negative", "zero vector")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OF_WINDOW = {  # gauges of the newest window -> what they are
    "coverage": "Share of the data of the newest window that was answered for.",
    "shards": "Shards of the newest window.",
    "answered": "Shards that answered for the newest window.",
    "rows": "Rows of the newest window.",
    "refused": "Rows of the newest window that were refused.",
    "lag_seconds": "Seconds from the end of the newest window to its decision.",
    "window_end_seconds": "End of the newest window, in seconds since the epoch.",
}
OF_KEY = {  # gauges of the newest window of each key -> the column of summaries, and what they are
    "cost": ("cost", "What the centers cost on all of the data."),
    "cost_low": ("cost_low", "Low end of the 95 % interval of the cost."),
    "cost_high": ("cost_high", "High end of the 95 % interval of the cost."),
    "weight": ("total_weight", "Weight of the data."),
    "moved": ("moved", "Share of the weight that moved since the window compared with."),
    "excess": ("excess", "Cost of the other window's centers over that of its own, less 1."),
    "drifted": ("drifted", "1 where the newest window has drifted."),
}


class Metrics(Collector):
    """The metrics of a folder.

    Args:
      history: its windows, as far as they were read; None as long as there is no folder.
    """

    def __init__(self, history: History | None) -> None:
        self._history = history

    def collect(self) -> Iterator[Any]:
        """See prometheus-client."""
        windows = CounterMetricFamily(f"{PREFIX}_windows", "Decisions of windows, by what they are.", labels=["state"])
        totals = Totals() if self._history is None else self._history.totals
        for state, n in totals.windows.items():
            windows.add_metric([state], n)
        yield windows
        events = {kind: totals.events[kind] for kind in SEVERITY}
        yield _labelled(f"{PREFIX}_events", "Events, by kind.", "kind", events)
        late = dict.fromkeys(LATE_REASONS, 0) | totals.late
        yield _labelled(f"{PREFIX}_late_rows", "Rows that came too late, by reason.", "reason", late)
        letters = dict.fromkeys(LETTER_REASONS, 0) | ({} if self._history is None else self._history.letters)
        yield _labelled(f"{PREFIX}_dead_letters", "Refused rows, by reason.", "reason", letters)
        if self._history is not None and len(self._history):
            deadline = self._history.deadline()
            if deadline is not None:
                what = "Seconds after the end of a window by which it is decided."
                yield GaugeMetricFamily(f"{PREFIX}_deadline_seconds", what, value=deadline)
            rows = self._history.rows()
            yield from _of_window(rows)
            yield from _of_keys(rows)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        found: bytes = generate_latest(self)  # type: ignore[arg-type]
        return found


def _of_window(rows: pa.Table) -> Iterator[GaugeMetricFamily]:
    newest = newest_of(rows)
    row = worst_of(newest)
    if row is None:
        return
    decided, end = row["decided_at"], row["window_end"]
    held = {
        "coverage": row["coverage"], "shards": row["shards"], "answered": len(row["responded"] or ()),
        "rows": sum(n or 0 for n in newest.column("points").to_pylist()), "refused": row["refused"],
        "window_end_seconds": end, "lag_seconds": None if decided is None or end is None else decided - end,
    }  # fmt: skip
    for name, what in OF_WINDOW.items():
        if held[name] is not None:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", what, value=float(held[name]))
    missing = GaugeMetricFamily(f"{PREFIX}_missing_windows", "Windows in a row that a shard has not answered for.",
                                labels=["shard"])  # fmt: skip
    for shard, n in enumerate(_in_a_row(rows, row["shards"])):
        missing.add_metric([str(shard)], n)
    yield missing


def _of_keys(rows: pa.Table) -> Iterator[GaugeMetricFamily]:
    last: dict[str, dict[str, Any]] = {}
    for row in rows.select(["key", "window_end", *{column for column, _ in OF_KEY.values()}]).to_pylist():
        last[row["key"] or ""] = row
    heaviest = sorted(last.values(), key=lambda row: -(row["total_weight"] or 0.0))[:MOST_KEYS]
    for name, (column, what) in OF_KEY.items():
        family = GaugeMetricFamily(f"{PREFIX}_{name}", what, labels=["key"])
        for row in heaviest:
            if row[column] is not None:
                family.add_metric([row["key"] or ""], float(row[column]))
        yield family


def newest_of(rows: pa.Table) -> pa.Table:
    """The rows of the window that ends last."""
    ends = rows.column("window_end").to_pylist()
    last = max((end for end in ends if end is not None), default=None)
    return rows.filter(pa.array([end == last for end in ends], pa.bool_()))


def _in_a_row(rows: pa.Table, shards: int) -> list[int]:
    """Of each shard, how many of the newest windows it has not answered for, back to the last that it has."""
    by_end: dict[float | None, set[int]] = {}
    for end, gone in zip(rows.column("window_end").to_pylist(), rows.column("stragglers").to_pylist(), strict=True):
        by_end.setdefault(end, set()).update(gone or ())
    counts, open_runs = [0] * shards, set(range(shards))
    for end in sorted(by_end, key=lambda end: float("-inf") if end is None else end, reverse=True):
        open_runs &= by_end[end]
        if not open_runs:
            break
        for shard in open_runs:
            counts[shard] += 1
    return counts


def _labelled(name: str, what: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, what, labels=[label])
    for text, n in values.items():
        family.add_metric([text], n)
    return family
