"""What a page shows, as one JSON object: columns of numbers, texts by key, nothing of how it is drawn."""
from __future__ import annotations

import csv
import glob
import io
import itertools
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import __version__
from beam_coresets.pipelines.views import words
from beam_coresets.pipelines.views.history import MOST_EVENTS, MOST_WINDOWS, History
from beam_coresets.pipelines.views.newest import MOST_AXES, MOST_CENTERS, MOST_MARGINALS, Asked, newest_windows
from beam_coresets.pipelines.views.written import Columns, cut, digits, milliseconds
from beam_coresets.points.column_order import listed
from beam_coresets.summaries.places import NoSummariesError, Place, places_of

Span = tuple[int | None, int | None]  # start and end of a window in milliseconds since the epoch
Numbers = npt.NDArray[np.int64]

IN_TABLE = 6  # coordinates of centers in their table (`assets/page.js`)
WINDOW_COLUMNS = ("coverage", "shards", "answered", "reason", "lag", "degraded", "points", "refused", "revision")
MISSING_COLUMNS = ("shard", "what", "from", "to", "windows")
FIGURES = (
    "cost", "cost_low", "cost_high", "total_weight", "excess", "excess_low", "excess_high", "moved", "moved_low",
    "moved_high", "shift",
)  # fmt: skip


def contents_at(
    path: str, most: int = MOST_WINDOWS, since: float | None = None, until: float | None = None,
    asked: Asked | None = None,
) -> dict[str, Any]:
    """What there is to show of an output folder, or of that of `solve --k LOW:HIGH`.

    Args:
      path: the folder, on this machine or a URL that fsspec knows.
      most: decisions that are shown, the newest. since, until: of windows from then and up to then (seconds since the
        epoch). asked: what is shown at first.

    Raises:
      NoSummariesError: a ValueError: no such folder, or one without summaries of that time.
      ValueError: an axis or a key that is none, or summaries that a later version wrote.
    """
    place = one_place(path)
    history = History(place, most, since, until)
    try:
        history.refresh()
    except NoSummariesError:
        curve = curve_of(place)
        if not curve:
            raise
        return _of_curve(place, curve, asked or Asked())
    return contents_of(history, asked)


def one_place(path: str) -> Place:
    """The folder of this name.

    Raises:
      NoSummariesError: a ValueError: there is none, or there are several.
    """
    places = places_of(path)
    if len(places) > 1:
        raise NoSummariesError(f"path: must be one output folder, got {path!r} with {len(places)}")
    return places[0]


def contents_of(history: History, asked: Asked | None = None) -> dict[str, Any]:
    """What there is to show of a folder, as far as it has been read.

    Raises:
      NoSummariesError: a ValueError: there are no windows.
      ValueError: an axis or a key that is none, or damaged windows only.
    """
    asked = Asked() if asked is None else asked
    history.require_windows()
    rows = history.rows()
    keys = _keys(rows)
    latest = newest_windows(history, keys, asked)
    spans, at = _numbered(rows)
    windows = _windows(rows, spans, at)
    settings = history.settings()
    return _whole(history.place, keys, asked, {
        "job": settings.get("job"),
        "deadline": history.deadline(),
        "windows": windows,
        "missing": _missing(rows, at, windows),
        "gaps": _gaps(windows),
        "series": _series(rows, keys, at),
        "events": _events(history.events(), keys),
        "letters": {"reason": [cut(r) for r, _ in history.letters.most_common()],
                    "count": [n for _, n in history.letters.most_common()]},
        "latest": latest,
        "notes": [*_notes(history), *_cut_short(latest)],
    })  # fmt: skip


def _of_curve(place: Place, curve: Columns, asked: Asked) -> dict[str, Any]:
    """The answers for a range of k: each of its own in place of a key."""
    found = places_of(f"{glob.escape(place.name.rstrip('/'))}/k=*")
    folders = {k: each for each in found if (k := each.name.rpartition("=")[2]).isdecimal()}
    latest, keys, notes = [], [], list[str]()
    for k in sorted(folders, key=lambda text: int(text)):
        history = History(folders[k])
        history.refresh()
        names = _keys(history.rows())
        latest += newest_windows(history, names, asked)
        keys += [f"k = {int(k)}{f', key {name}' if name else ''}" for name in names]
        notes += _notes(history)
    return _whole(place, keys, asked, {
        "job": "solve",
        "deadline": None,
        "windows": {name: [] for name in (*WINDOW_COLUMNS, "start", "end")},
        "missing": {name: [] for name in MISSING_COLUMNS}, "gaps": {"start": [], "end": []},
        "series": [{"at": [], "drifted": []} for _ in keys],
        "events": _events(pa.table({}), keys),
        "letters": {"reason": [], "count": []},
        "curve": curve,
        "latest": latest,
        "notes": [*notes, *_cut_short(latest)],
    })  # fmt: skip


def _whole(place: Place, keys: Sequence[str], asked: Asked, parts: dict[str, Any]) -> dict[str, Any]:
    if asked.key is not None and asked.key not in keys:
        raise ValueError(f"key: must be one of {listed(keys)}, got {asked.key!r}")
    out = {
        "folder": cut(place.name),
        "version": __version__,
        "written": round(time.time() * 1e3),
        "keys": [cut(key) for key in keys],
        "first": 0 if asked.key is None else keys.index(asked.key),
        "curve": {},
        **parts,
    }
    out["alternatives"] = [words.alternatives(out, i) for i in range(len(keys))]
    return out


def packed(contents: dict[str, Any]) -> str:
    """JSON that is no longer than it need be, for a `<script>`: nothing in it ends one."""
    text = json.dumps(contents, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _keys(rows: pa.Table) -> list[str]:
    """The keys, those of the heaviest newest window first."""
    weights: dict[str, float] = {}
    for key, weight in zip(rows.column("key").to_pylist(), rows.column("total_weight").to_pylist(), strict=True):
        weights[key or ""] = weight or 0.0
    return sorted(weights, key=lambda key: (-weights[key], key))


def _numbered(rows: pa.Table) -> tuple[list[Span], Numbers]:
    """The windows of time in their order, and the number among them of each row's window, (n,)."""
    start, end = (milliseconds(rows.column(name)) for name in ("window_start", "window_end"))
    place: dict[Span, int] = {}
    at = [place.setdefault(span, len(place)) for span in zip(start, end, strict=True)]
    return list(place), np.array(at, np.int64)


def _windows(rows: pa.Table, spans: Sequence[Span], at: Numbers) -> Columns:
    """One entry a window of time, in order: of several keys the worst answered."""
    n = len(spans)
    out: Columns = {name: [None] * n for name in WINDOW_COLUMNS}
    out["points"], out["revision"] = [0] * n, [1] * n
    decided = rows.column("decided_at").to_pylist()
    held = rows.select(["coverage", "shards", "responded", "reason", "degraded", "points", "refused", "revision"])
    for row, decision, w in zip(held.to_pylist(), decided, at.tolist(), strict=True):
        if out["coverage"][w] is None or row["coverage"] < out["coverage"][w]:
            out["coverage"][w] = digits(row["coverage"])
            out["shards"][w], out["answered"][w] = row["shards"], len(row["responded"] or ())
            out["reason"][w] = row["reason"]
        out["degraded"][w] = bool(out["degraded"][w] or row["degraded"])
        out["points"][w] += row["points"] or 0
        out["refused"][w] = _larger(out["refused"][w], row["refused"])
        out["revision"][w] = max(out["revision"][w], row["revision"] or 1)
        ended = spans[w][1]
        if decision is not None and ended is not None:
            out["lag"][w] = _larger(out["lag"][w], round(decision - ended / 1e3, 3))
    out["start"], out["end"] = [start for start, _ in spans], [end for _, end in spans]
    return out


def _missing(rows: pa.Table, at: Numbers, windows: Columns) -> Columns:
    """Who did not answer, or is not trusted, as runs of windows that follow each other."""
    found: dict[tuple[int, str], set[int]] = {}
    named = (rows.column(name).to_pylist() for name in ("stragglers", "distrusted"))
    for w, gone, doubted in zip(at.tolist(), *named, strict=True):
        for shard in gone or ():
            found.setdefault((shard, "no answer"), set()).add(w)
        for text in doubted or ():
            shard, _, fault = text.partition(":")
            found.setdefault((int(shard), fault), set()).add(w)
    out: Columns = {name: [] for name in MISSING_COLUMNS}
    for (shard, what), those in sorted(found.items()):
        for first, last in _runs(sorted(those), windows):
            values = (shard, what, windows["start"][first], windows["end"][last], last - first + 1)
            for name, value in zip(out, values, strict=True):
                out[name].append(value)
    return out


def _runs(numbers: Sequence[int], windows: Columns) -> list[tuple[int, int]]:
    """First and last of those that follow each other without a time between them."""
    out: list[tuple[int, int]] = []
    for w in numbers:
        if out and out[-1][1] == w - 1 and windows["start"][w] is not None and (
            windows["start"][w] <= windows["end"][w - 1]
        ):
            out[-1] = (out[-1][0], w)
        else:
            out.append((w, w))
    return out


def _gaps(windows: Columns) -> Columns:
    """The times between the first and the last window that no window is of."""
    out: Columns = {"start": [], "end": []}
    reach = None
    for start, end in sorted((s, e) for s, e in zip(windows["start"], windows["end"], strict=True) if s is not None):
        if reach is not None and start > reach:
            out["start"].append(reach)
            out["end"].append(start)
        reach = end if reach is None else max(reach, end)
    return out


def _series(rows: pa.Table, keys: Sequence[str], at: Numbers) -> list[Columns]:
    """Of each key what its windows cost and how they have changed, with the number of each window."""
    number = {key: i for i, key in enumerate(keys)}
    of_key = np.array([number[key or ""] for key in rows.column("key").to_pylist()], np.int64)
    order = np.lexsort((at, of_key))
    edges = np.searchsorted(of_key[order], np.arange(len(keys) + 1))
    values = {name: rows.column(name).to_pylist() for name in FIGURES}
    drifted = rows.column("drifted").to_pylist()
    out = []
    for low, high in itertools.pairwise(edges.tolist()):
        mine = order[low:high].tolist()
        one: Columns = {"at": at[mine].tolist(), "drifted": [i for i, row in enumerate(mine) if drifted[row]]}
        for name, column in values.items():
            figures = [digits(column[row]) for row in mine]
            if any(v is not None for v in figures):
                one[name] = figures
        out.append(one)
    return out


def _events(table: pa.Table, keys: Sequence[str]) -> Columns:
    """The events, their times in milliseconds, the number of their key (None: of the window)."""
    place = {key: i for i, key in enumerate(keys)}
    if not len(table):
        return {name: [] for name in ("at", "key", "kind", "severity", "sentence")}
    return {
        "at": milliseconds(table.column("window_end")),
        "key": [place.get(key) if key or len(keys) == 1 else None for key in table.column("key").to_pylist()],
        "kind": table.column("kind").to_pylist(),
        "severity": table.column("severity").to_pylist(),
        "sentence": [cut(text) for text in table.column("sentence").to_pylist()],
    }


def curve_of(place: Place) -> Columns:
    """The cost of each k, as `solve --k LOW:HIGH` has written it; of several windows, of the last. Empty where it has
    written none."""
    try:
        lines = list(csv.DictReader(io.StringIO(place.read("curve.csv").decode())))
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        return {}
    if not lines or not {"window_end", "key", "k", "cost", "cost_low", "cost_high"} <= set(lines[0]):
        return {}
    try:
        last = max(line["window_end"] for line in lines)
        lines = [line for line in lines if line["window_end"] == last]
        out: Columns = {"k": [int(line["k"]) for line in lines], "key": [cut(line["key"]) for line in lines]}
        for name in ("cost", "cost_low", "cost_high"):
            out[name] = [digits(float(line[name])) if line[name] else None for line in lines]
    except (TypeError, ValueError) as error:  # a line that is cut short has None
        raise ValueError(f"path: must hold a whole curve.csv, got {place.name!r} with another ({error})") from None
    return out


def _notes(history: History) -> list[str]:
    """What is left out."""
    notes = []
    if history.older:
        notes.append(f"The newest {len(history):,} decisions are shown; there are older ones.")
    if history.all_events() > MOST_EVENTS:
        notes.append(f"The newest {MOST_EVENTS:,} of {history.all_events():,} events are shown.")
    notes += [f"Left out: {cut(text)}" for text in history.skipped.values()]
    return notes


def _cut_short(latest: Sequence[dict[str, Any]]) -> list[str]:
    """What is left out of the newest windows."""
    notes, centers = [], max((each["all_centers"] for each in latest), default=0)
    columns = max((len(each["names"]) for each in latest), default=0)
    if centers > MOST_CENTERS:
        notes.append(f"Of {centers:,} centers the heaviest {MOST_CENTERS:,} are shown.")
    if columns > IN_TABLE:
        notes.append(f"Of {columns:,} columns the first {IN_TABLE} are in the table of centers.")
    if columns > MOST_AXES:
        notes.append(f"Of {columns:,} columns the {MOST_AXES} that vary most can be drawn by.")
    if columns > MOST_MARGINALS:
        notes.append(f"Of {columns:,} columns the first {MOST_MARGINALS} have their quantiles here.")
    return notes


def _larger(one: Any, other: Any) -> Any:
    return max((v for v in (one, other) if v is not None), default=None)
