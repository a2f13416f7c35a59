"""Which windows count: the newest revision of each; of those that overlap, some that have all of the time once."""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from beam_coresets.streaming.windows import Window
from beam_coresets.times import iso

Row = dict[str, Any]


class Identity(NamedTuple):
    """Which rows of the tables belong together: those of one window, key and revision of one input."""

    input: str
    start: float | None
    end: float | None
    key: str
    revision: int


def newest_of(rows: Iterable[tuple[Identity, Row]]) -> dict[Identity, Row]:
    """Of each window and key the row of the newest revision that has points, if any.

    The empty key is left out where it is there only because nobody has had rows of any.

    Args:
      rows: of `summaries`.
    """
    found: dict[tuple[str, Any, Any, str], tuple[Identity, Row]] = {}
    for identity, row in rows:
        name = identity[:4]
        if name not in found or _rank(*found[name]) < _rank(identity, row):
            found[name] = identity, row
    nobody = not any(row["points"] for _, row in found.values())
    empty_key = nobody or any(row["points"] for identity, row in found.values() if not identity.key)
    return {identity: row for identity, row in found.values() if empty_key or identity.key}


def _rank(identity: Identity, row: Row) -> tuple[bool, int]:
    """Which of several rows of a window and key counts: of the empty key, groups without rows may have some, too."""
    return row["points"] > 0, identity.revision


def tiled(identities: Iterable[Identity]) -> list[Identity]:
    """The windows, of each key, that have all of their time once.

    Of windows with one start and several ends, as running summaries have, the longest counts. Of windows that overlap
    otherwise, those that tile the period are taken.

    Raises:
      ValueError: they overlap without tiling, or two inputs have the same time.
    """
    out: list[Identity] = []
    by_key: dict[str, dict[str, list[Identity]]] = {}
    for identity in identities:
        by_key.setdefault(identity.key, {}).setdefault(identity.input, []).append(identity)
    for key, inputs in sorted(by_key.items()):
        parts = [tiling(inputs[folder]) for folder in sorted(inputs)]
        both = sorted((i for i in itertools.chain(*parts) if i.start is not None), key=lambda i: _ticks(i)[0])
        for first, second in itertools.pairwise(both):
            if _ticks(second)[0] < _ticks(first)[1]:
                raise ValueError(
                    f"input: must have each time once, got {iso(_ticks(second)[0] / 1000)} of key {key!r} in "
                    f"{first.input!r} and {second.input!r}"
                )
        out += itertools.chain(*parts)
    return out


def _ticks(identity: Identity) -> tuple[int, int]:
    """Start and end in milliseconds, the grid that windows are on."""
    assert identity.start is not None
    assert identity.end is not None
    return round(identity.start * 1000), round(identity.end * 1000)


def tiling(windows: Iterable[Identity]) -> list[Identity]:
    """Windows of one input and key that have all of their time once; those outside of time are taken, too.

    Raises:
      ValueError: no choice among those that overlap leaves no gaps.
    """
    outside: list[Identity] = []
    longest: dict[int, Identity] = {}
    for window in windows:
        if window.start is None or window.end is None:
            outside.append(window)
            continue
        start, end = _ticks(window)
        if start not in longest or _ticks(longest[start])[1] < end:
            longest[start] = window
    picked: list[Identity] = []
    at = reach = -(2**62)  # milliseconds: where the last picked one ends, and the last of all so far
    gap = False
    for start in sorted(longest):
        low, high = _ticks(longest[start])
        if low >= at:
            gap = low > at and reach > at
            if gap:
                break
            picked.append(longest[start])
            at = high
        reach = max(reach, high)
    if gap or reach > at:
        since, until = iso(_ticks(picked[0])[0] / 1000), iso(_ticks(picked[-1])[1] / 1000)
        raise ValueError(
            f"window: must not overlap, or tile the period as sliding windows do, got {len(longest)} from "
            f"{since} on that don't; --from {since} --to {until} would do"
        )
    return outside + picked


def period_of(identities: Sequence[Identity], key: str) -> Window:
    """From the first start to the last end."""
    starts = [i.start for i in identities if i.start is not None]
    ends = [i.end for i in identities if i.end is not None]
    return Window(min(starts), max(ends), key) if starts and ends else Window(key=key)


def gaps_of(
    identities: Iterable[Identity], since: float | None = None, until: float | None = None
) -> list[tuple[float, float]]:
    """The times, in seconds since the epoch, that no window has, between the first and the last one.

    Args:
      since, until: where the period begins and ends that is meant; None for where the windows do.
    """
    spans = sorted({_ticks(i) for i in identities if i.start is not None and i.end is not None})
    if not spans:
        return []
    found, at = [], spans[0][0] if since is None else round(since * 1000)
    stop = max(high for _, high in spans) if until is None else round(until * 1000)
    for low, high in [*spans, (stop, stop)]:
        if low > at:
            found.append((at / 1000, low / 1000))
        at = max(at, high)
    return found
