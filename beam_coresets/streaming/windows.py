"""Windows of event time: which one a point is in, and which panes make one."""
from __future__ import annotations

import dataclasses
import hashlib
import math
import urllib.parse
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.times import length_of_time

WINDOW_KINDS = ("fixed", "sliding", "global")
_GRID = 1000  # windows begin and end on whole milliseconds
_ROUNDING = 5e-4  # milliseconds: what a time of today is off by as float64 seconds, and less than a microsecond


@dataclass(frozen=True)
class WindowSpec:
    """How a stream is cut.

    Points are summarized once, in panes: fixed windows of `period` seconds from the epoch on. Fixed windows are their
    panes; a sliding window is the last `size / period` panes; `global` is all panes so far, with a report for each.

    Attributes:
      kind: one of `WINDOW_KINDS`.
      size: length of a window in seconds (of no meaning for `global`).
      period: seconds from one report to the next; equal to `size` for `fixed`.

    Raises:
      ValueError: a length is not positive, not on whole milliseconds, or `size` is no multiple of `period`.
    """

    kind: str
    size: float
    period: float

    def __post_init__(self) -> None:
        if self.kind not in WINDOW_KINDS:
            raise ValueError(f"window: must be one of {', '.join(WINDOW_KINDS)}, got {self.kind!r}")
        for length in (self.size, self.period):
            if not (math.isfinite(length) and length > 0 and self.ticks(length) and _is_whole(length * _GRID)):
                raise ValueError(f"window: must be positive and in whole milliseconds, got {length:g} s")
        if self.kind == "fixed" and self.size != self.period:
            raise ValueError(f"window: must have size and period alike if fixed, got {self.size:g} and {self.period:g}")
        if self.kind == "sliding" and (self.ticks(self.size) % self.ticks(self.period) or self.size < self.period):
            raise ValueError(
                f"window: must be a multiple of its period {self.period:g} s if sliding, got {self.size:g} s"
            )

    @staticmethod
    def parse(text: str) -> WindowSpec:
        """"5s" (fixed), "60s/5s" (sliding), "global/30s"; units ms, s, m, h, d.

        Raises:
          ValueError: another form, or lengths that can't be.
        """
        first, _, second = text.strip().partition("/")
        if first == "global" and not second:
            raise ValueError(f"window: must say how often it reports, as in global/30s, got {text!r}")
        try:
            period = length_of_time(second or first)
            size = period if first == "global" else length_of_time(first)
        except ValueError:
            raise ValueError(f"window: must be a time such as 5s, 60s/5s or global/30s, got {text!r}") from None
        return WindowSpec("global" if first == "global" else "sliding" if second else "fixed", size, period)

    @staticmethod
    def ticks(length: float) -> int:
        """A length in whole milliseconds."""
        return round(length * _GRID)

    def pane_of(self, times: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The number of the pane, (m,) int64, that each event time, (m,) seconds, falls into."""
        ticks = np.floor(np.asarray(times, np.float64) * _GRID + _ROUNDING).astype(np.int64)
        return ticks // self.ticks(self.period)

    def pane(self, time: float) -> int:
        """The number of the pane that one event time, in seconds, falls into."""
        return int(self.pane_of(np.array([time]))[0])

    def first_from(self, time: float) -> int:
        """The number of the first pane that begins at a time, in seconds, or later."""
        pane = self.pane(time)
        return pane if self.bounds(pane)[0] >= time else pane + 1

    def bounds(self, pane: int) -> tuple[float, float]:
        """Start and end of a pane in seconds since the epoch."""
        width = self.ticks(self.period)
        return pane * width / _GRID, (pane + 1) * width / _GRID

    @property
    def panes(self) -> int:
        """Panes in a sliding window; 1 if fixed."""
        return self.ticks(self.size) // self.ticks(self.period)

    def check_half_life(self, half_life: float | None) -> None:
        """Raises ValueError for a half-life, in seconds, that these windows can't have."""
        if half_life is not None and self.kind != "global":
            raise ValueError(f"half_life: must be left out unless the window is global, got {half_life:g}")
        if half_life is not None and not half_life > 0:
            raise ValueError(f"half_life: must be positive, got {half_life:g}")


def _is_whole(ticks: float) -> bool:
    return math.isclose(ticks, round(ticks), rel_tol=1e-12)  # 1.001 s is 1000.9999999999999 ms


@dataclasses.dataclass(frozen=True)
class Window:
    """Which window, key and revision a summary is of; start and end in seconds since the epoch, None outside
    windows."""

    start: float | None = None
    end: float | None = None
    key: str = ""
    revision: int = 1

    @property
    def name(self) -> str:
        """A file name for it; two windows never have the same one."""
        span = "global" if self.start is None else f"{self.start:.3f}-{self.end:.3f}"
        return "-".join(part for part in (_safe(self.key), span, f"r{self.revision}") if part)

    @property
    def folder(self) -> str:
        """The hive-style folder of its files: the UTC day of its start; none outside windows."""
        if self.start is None:
            return ""
        return f"day={np.datetime64(int(self.start // 86400), 'D')}"


def _safe(key: str) -> str:
    """A key as part of a file name: percent-encoded, "-" too, as that is what parts are joined by; never hidden."""
    encoded = urllib.parse.quote(key, safe="").replace("-", "%2D")
    if encoded[:1] in (".", "_"):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) > LONGEST_KEY:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        encoded = f"{encoded[:LONGEST_KEY - 41]}~{digest[:40]}"
    return encoded

LONGEST_KEY = 150  # characters of a key in a file name; 255 is what file systems take for all of it
