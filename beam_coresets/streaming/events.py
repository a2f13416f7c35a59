"""What somebody downstream wants to be told of a window: centers that come and go, mass that moves, data that is lost.

An event is told when it begins, and not again while it goes on or comes and goes: what has happened to a center, or by
it, within the last `QUIET` windows is no news, and a loss is over when `HEALED` windows in a row had none. A center has
grown or shrunk when the share of the points that are nearest to where it was has left what errors explain, since any of
the centers was last told of, at one false alarm in `QUIET_WINDOWS` windows for all centers together: compared by fixed
places, centers that wander in data without clusters are no news.

Windows that are decided out of their order, late or revised, are told of by themselves: they change nothing in what is
remembered.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from beam_coresets.shards.refused import RefusedRows

Array = npt.NDArray[Any]

QUIET = 8  # windows
HEALED = 3  # windows
MOST_REFUSED = 0.01  # of the rows: more become an event
STRAGGLING = 3  # windows in a row without an answer
ROUNDED_ENDS = 1e-6  # of a window, by which two that are side by side may seem to overlap: ends are rounded
QUIET_WINDOWS = 1000  # windows of an unchanging source with one false alarm of grown or shrunk, on average
LEAST_CHANGE = 0.1  # of a share: less is no news, however sure it is

INFO, WARNING, CRITICAL = "info", "warning", "critical"
SEVERITY = {
    "born": INFO, "split": INFO, "merged": INFO, "vanished": INFO, "grown": INFO, "shrunk": INFO, "revised": INFO,
    "drifted": WARNING, "straggling": WARNING, "refused": WARNING, "coverage_lost": CRITICAL, "degraded": CRITICAL,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Event:
    """One row of the table `events`, without the window's columns.

    Attributes:
      kind: one of `SEVERITY`.
      center_id: the center that it is about; None where it is about the window.
      other_id: the center that it split from or merged into.
      size: a share of the weight for what is about centers, moved mass, lost coverage; of the rows for those that were
        refused; a number of shards or windows.
      size_low, size_high: its 95 % interval, where there is one.
      sentence: for people.
    """

    kind: str
    sentence: str
    center_id: str | None = None
    other_id: str | None = None
    size: float | None = None
    size_low: float | None = None
    size_high: float | None = None

    @property
    def severity(self) -> str:
        """"info", "warning" or "critical"."""
        return SEVERITY[self.kind]


@dataclasses.dataclass(frozen=True)
class Share:
    """A center's share of the weight, with its standard deviation."""

    value: float
    deviation: float

    @property
    def ends(self) -> tuple[float, float]:
        """Of the 95 % interval, within 0 and 1."""
        half = 1.96 * self.deviation
        return max(0.0, self.value - half), min(1.0, self.value + half)

    def text(self) -> str:
        """As percentages."""
        low, high = self.ends
        return f"{_percent(self.value)} of the weight ({_percent(low)} to {_percent(high)})"


def shares_of(k: int, index: Array, weights: Array, rows: int) -> list[Share]:
    """Each center's share of the weight, as a draw of as many rows as the window has, and of as many points as the
    coreset is worth, would have it: an upper bound where points were drawn from each cluster apart.

    Args:
      k: how many centers. index: (m,) which one each point is nearest to. weights: (m,) theirs.
      rows: of the window.
    """
    total = float(weights.sum())
    value = np.bincount(index, weights, k) / total
    worth = total**2 / float(weights @ weights)
    variance = value * (1 - value) * (1 / rows + (1 / worth if worth < rows else 0.0))
    return [Share(v, s) for v, s in zip(value.tolist(), np.sqrt(variance).tolist(), strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class CenterMemory:
    """What is remembered of the centers of one key.

    Attributes:
      end: of the last window, in seconds since the epoch; None before the first.
      told: (kind, center) -> windows since it last happened.
      names: of the k centers that shares are compared by. centers: (k, d) where they were. shares: then.
    """

    end: float | None = None
    told: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = ()
    centers: Array | None = None
    shares: tuple[Share, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class CenterWindow:
    """The centers of a window with points.

    Attributes:
      end: of the window.
      names: of its k centers. centers: (k, d).
      index_of: which of (c, d) centers each of the m points is nearest to, (m,).
      weights: (m,) of the points. rows: of the window.
      born: those that appear now, and the center that each split from, if any.
      ended: those of the window before that are no more, and the center that each has merged into, if any.
      drift: what there is to tell of the data as a whole.
    """

    end: float
    names: tuple[str, ...]
    centers: Array
    index_of: Callable[[Array], Array]
    weights: Array
    rows: int
    born: Mapping[str, str | None]
    ended: Mapping[str, str | None]
    drift: Event | None = None

    def shares(self, centers: Array) -> tuple[Share, ...]:
        """How much of the weight is nearest to each of (c, d) centers."""
        return tuple(shares_of(len(centers), self.index_of(centers), self.weights, self.rows))


def center_events(window: CenterWindow, before: CenterMemory) -> tuple[list[Event], CenterMemory]:
    """What has become of the centers of a window, and what to remember."""
    if before.end is not None and window.end <= before.end:
        return [], before
    memory = _Told({name: age + 1 for name, age in before.told.items() if age < QUIET})
    shares = dict(zip(window.names, window.shares(window.centers), strict=True))
    here = CenterMemory(window.end, memory.told, window.names, window.centers, tuple(shares.values()))
    events = [] if window.drift is None else memory.news("drifted", "", window.drift)
    if before.end is None:  # every center is new
        return events, here
    for name, parent in window.born.items():
        share, (low, high) = shares[name], shares[name].ends
        kind, other = ("born", name) if parent is None else ("split", parent)
        how = "appeared" if parent is None else f"split from {parent}"
        text = f"Center {name} {how} with {share.text()}."
        events += memory.news(kind, other, Event(kind, text, name, parent, share.value, low, high))
    known = dict(zip(before.names, before.shares, strict=True))
    for name, heir in window.ended.items():
        events += _ended(name, heir, known.get(name), memory)
    if set(window.names) != set(before.names):  # shares of other clusters can't be compared
        return events, here
    changed = _changed(window, before, memory)
    if changed:
        return [*events, *changed], here
    return events, dataclasses.replace(before, end=window.end, told=memory.told)


def _ended(name: str, heir: str | None, had: Share | None, memory: _Told) -> list[Event]:
    size = None if had is None else had.value
    if heir is None:
        more = "" if had is None else f"; it had {_percent(had.value)} of the weight"
        return memory.news(
            "vanished", name, Event("vanished", f"Center {name} has vanished{more}.", name, None, size)
        )
    return memory.news("merged", heir, Event("merged", f"Center {name} has merged into {heir}.", name, heir, size))


def _changed(window: CenterWindow, before: CenterMemory, memory: _Told) -> list[Event]:
    """The centers whose clusters, as they were remembered, have grown or shrunk."""
    if before.centers is None or before.centers.shape[1] != window.centers.shape[1]:
        return []
    events = []
    level = float(special.ndtri(1 - 1 / (2 * QUIET_WINDOWS * len(before.names))))
    for name, last, share in zip(before.names, before.shares, window.shares(before.centers), strict=True):
        gap, error = abs(share.value - last.value), (share.deviation**2 + last.deviation**2) ** 0.5
        if gap > level * error and gap > LEAST_CHANGE * max(share.value, last.value):
            kind = "grown" if share.value > last.value else "shrunk"
            text = f"Center {name} has {kind} from {_percent(last.value)} to {share.text()}."
            events += memory.news("changed", name, Event(kind, text, name, None, share.value, *share.ends))
    return events


class _Told:
    """What has been told within the last windows."""

    def __init__(self, told: dict[tuple[str, str], int]) -> None:
        self._before, self.told = dict(told), told

    def news(self, kind: str, name: str, event: Event) -> list[Event]:
        """The event, unless it is no news; from now on it is none."""
        self.told[kind, name] = 0
        return [] if (kind, name) in self._before else [event]


@dataclasses.dataclass(frozen=True)
class WindowMemory:
    """What is remembered of the answers of a group of keys.

    Attributes:
      end: of the last window, in seconds since the epoch; None before the first.
      lost: kind -> windows in a row without it, of losses that are not over.
      missing: shard -> how many windows in a row it has not answered for, and the end of the last of them. Of windows
        that overlap one counts: a shard that has missed a pane is missing from all windows with that pane.
    """

    end: float | None = None
    lost: Mapping[str, int] = dataclasses.field(default_factory=dict)
    missing: Mapping[int, tuple[int, float]] = dataclasses.field(default_factory=dict)

    def to_fields(self) -> list[Any]:
        """As JSON has it."""
        return [self.end, dict(self.lost), [[shard, *seen] for shard, seen in self.missing.items()]]

    @staticmethod
    def from_fields(fields: Sequence[Any]) -> WindowMemory:
        """The inverse of `to_fields`."""
        end, lost, missing = fields
        return WindowMemory(end, lost, {shard: (n, last) for shard, n, last in missing})


def window_events(
    start: float, end: float, revision: int, rows: Sequence[Mapping[str, Any]], before: WindowMemory,
    refused: RefusedRows | None = None,
) -> tuple[list[Event], WindowMemory]:
    """What has become of a window as a whole, and what to remember.

    Args:
      start, end: of the window, in seconds since the epoch. revision: of the decision.
      rows: of `summaries`, one a key.
      refused: of all keys together; None where it is not known.
    """
    if not rows:
        return [], before
    events = []
    worst = min(rows, key=lambda row: row["coverage"])
    if revision > 1:
        text = f"Revision {revision} of the window: coverage {worst['coverage']:.4g}."
        return [Event("revised", text, size=worst["coverage"])], before
    in_order = before.end is None or end > before.end
    happened = {
        "coverage_lost": _lost(worst),
        "degraded": _degraded(worst),
        "refused": _refused(refused),
    }
    lost = {kind: n + 1 for kind, n in before.lost.items() if n + 1 < HEALED}
    for kind, event in happened.items():
        if event is not None:
            events += [event] if kind not in before.lost or not in_order else []
            lost[kind] = 0
    if not in_order:
        return events, before
    missing: dict[int, tuple[int, float]] = {}
    for shard in worst["stragglers"]:
        count, last = before.missing.get(shard, (0, start))
        if start < last - ROUNDED_ENDS * (end - start):
            missing[shard] = (count, last)
            continue
        missing[shard] = (count + 1, end)
        if count + 1 == STRAGGLING:
            text = f"Shard {shard} has not answered for {STRAGGLING} windows in a row."
            events.append(Event("straggling", text, size=float(STRAGGLING)))
    return events, WindowMemory(end, lost, missing)


def _lost(row: Mapping[str, Any]) -> Event | None:
    if row["coverage"] >= 1:
        return None
    in_part = " or was read in part only" if row["partial"] else ""
    text = f"{_percent(1 - row['coverage'])} of the data is missing{in_part}: coverage {row['coverage']:.4g}"
    if row["stragglers"]:
        text += f", no answer from shards: {', '.join(map(str, row['stragglers']))}"
    if row["distrusted"]:
        text += f", not trusted: {', '.join(row['distrusted'])}"
    if row["partial"]:
        text += f", of {row['partial']:,} buckets not all (as where a stream begins in the middle of a window)"
    return Event("coverage_lost", f"{text}.", size=1 - row["coverage"])


def _degraded(row: Mapping[str, Any]) -> Event | None:
    if not row["degraded"]:
        return None
    answered = len(row["responded"])
    return Event("degraded", f"Only {answered} of {row['shards']} shards have answered.", size=float(answered))


def _refused(refused: RefusedRows | None) -> Event | None:
    if refused is None or refused.share <= MOST_REFUSED:
        return None
    where = f", most by column {refused.worst}" if refused.worst else ""
    share, total = refused.share, refused.count + refused.rows
    text = f"{refused.count:,} of {total:,} rows were refused ({_percent(share)}){where}."
    return Event("refused", text, size=share)


def _refused_by(rows: Sequence[Mapping[str, Any]]) -> RefusedRows | None:
    """What rows of `summaries` say of it."""
    numbers = [row["refused"] for row in rows if row.get("refused") is not None]
    held = RefusedRows.of_number(max(numbers, default=None))
    return None if held is None else dataclasses.replace(held, rows=sum(row["points"] for row in rows))


def drift_event(row: Mapping[str, Any]) -> Event | None:
    """That of a row of `summaries`, if its data has drifted."""
    if not row.get("drifted"):
        return None
    moved = "" if row.get("moved") is None else f": {_percent(row['moved'])} of the weight has moved"
    text = f"The data differs from {row.get('drift_of')}{moved}."
    return Event("drifted", text, None, None, row.get("moved"), row.get("moved_low"), row.get("moved_high"))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _told_as(event: Mapping[str, Any]) -> tuple[str, str]:
    """What `CenterMemory.told` calls a row of `events`."""
    kind, center, other = event["kind"], event["center_id"] or "", event["other_id"] or ""
    if kind in ("grown", "shrunk"):
        return "changed", center
    return kind, other if kind in ("split", "merged") else center


@dataclasses.dataclass(frozen=True)
class EventMemory:
    """What is remembered of a group of keys.

    Attributes:
      window: of its answers. centers: of those of each key.
    """

    window: WindowMemory = WindowMemory()
    centers: Mapping[str, CenterMemory] = dataclasses.field(default_factory=dict)

    def heard(
        self, start: float, end: float, revision: int, rows: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
    ) -> EventMemory:  # fmt: skip
        """With a window that somebody else has decided and told of.

        Args:
          start, end: of the window, in seconds since the epoch. revision: of the decision.
          rows: of `summaries`. events: of `events`.
        """
        refused = _refused_by(rows)
        _, window = window_events(start, end, revision, rows, self.window, refused)
        centers = dict(self.centers)
        for key in {row["key"] for row in rows if row["points"]}:
            before = centers.get(key, CenterMemory())
            if before.end is None or end > before.end:
                mine = [_told_as(row) for row in events if row["key"] == key]
                told = {name: age + 1 for name, age in before.told.items() if age < QUIET} | dict.fromkeys(mine, 0)
                held = CenterMemory() if mine else before  # shares are compared anew
                centers[key] = dataclasses.replace(held, end=end, told=told)
        return EventMemory(window, centers)

    def packed(self) -> tuple[list[Any], dict[str, Array | None]]:
        """As JSON has it, and the arrays that go with it."""
        keys, arrays = [], {}
        for i, (key, one) in enumerate(self.centers.items()):
            told = [[*name, age] for name, age in one.told.items()]
            keys.append([key, one.end, told, list(one.names), [[s.value, s.deviation] for s in one.shares]])
            arrays[f"event_centers_{i}"] = one.centers
        return [self.window.to_fields(), keys], arrays

    @staticmethod
    def unpacked(fields: Sequence[Any] | None, arrays: Mapping[str, Array | None]) -> EventMemory:
        """The inverse of `packed`; nothing is remembered where there is nothing."""
        if fields is None:
            return EventMemory()
        window, keys = fields
        centers = {}
        for i, (key, end, told, names, shares) in enumerate(keys):
            ages = {(kind, name): age for kind, name, age in told}
            held = tuple(Share(value, deviation) for value, deviation in shares)
            centers[key] = CenterMemory(end, ages, tuple(names), arrays[f"event_centers_{i}"], held)
        return EventMemory(WindowMemory.from_fields(window), centers)
