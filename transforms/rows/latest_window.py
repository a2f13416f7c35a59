"""The centers of a folder's last claimed window, held on a worker and looked for again every so often."""
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets.points.block import Span
from beam_coresets.points.column_order import Names, moved, names_of_each, places_of
from beam_coresets.summaries import NoSummariesError, StoredSummaries, WindowSummary, open_summaries
from beam_coresets.times import iso
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.python_rows import batch_of_rows, fields_of
from beam_coresets.transforms.reading.rows import build_placed

Array = npt.NDArray[Any]

MOST_KEYS = 1024  # whose windows a process holds at a time


class RowScore(NamedTuple):
    """Where a row belongs and how unusual it is, by the centers of a window; all None where there is none.

    Attributes:
      cluster: the index of the nearest center. center_id: that center's name, the same from window to window.
      distance: to it, in scaled units; 1 - cos under the cosine metric.
      score: the distance in units of the spread of its cluster. quantile: the share of the window's data that scores
        less.
    """

    cluster: Optional[int] = None
    center_id: Optional[str] = None
    distance: Optional[float] = None
    score: Optional[float] = None
    quantile: Optional[float] = None


SCHEMA = pa.schema({"cluster": pa.int64(), "center_id": pa.string(), "distance": pa.float64(),
                    "score": pa.float64(), "quantile": pa.float64()})  # fmt: skip


def scores_of(table: pa.Table) -> Iterator[RowScore]:
    """The rows of a table of this schema."""
    return map(RowScore._make, zip(*(table.column(name).to_pylist() for name in SCHEMA.names), strict=True))


class WindowScorer:
    """Scores points by the centers of one window.

    Args:
      window: one with centers and a coreset.

    Attributes:
      window: it. name: its start, end, key and revision, as text.

    Raises:
      ValueError: its summary is none of a coreset.
    """

    def __init__(self, window: WindowSummary) -> None:
        self.window, self._data = window, window.coreset
        self.dim = window.centers.shape[1]
        start, end, key, revision = window.identity[1:]
        times = "global" if start is None or end is None else f"{iso(start)}/{iso(end)}"
        self.name = "-".join([*([key] if key else []), times, f"r{revision}"])
        self._names = names_of_each(window.columns, self.dim)
        self._ids = window.centers_table().column("center_id").combine_chunks()
        self._data.score(window.centers)  # what it needs is made here, once

    def scored(self, points: Array, names: Names = None) -> pa.Table:
        """The columns of `RowScore` for points (n, d) in your units.

        Args:
          names: of their coordinates; None where they are in the window's order.

        Raises:
          ValueError: points of other coordinates.
        """
        found = self._data.score(moved(points, places_of(names, self._names, f"the window {self.name}")))
        return pa.table([found.labels, self._ids.take(pa.array(found.labels)), found.distances, found.scores,
                         found.quantiles], schema=SCHEMA)  # fmt: skip

    def columns_of(self, row: Any) -> Columns:
        """The columns to take from rows like this one: those that the window is of."""
        names = self.window.columns
        if names is None or fields_of(row) is None:
            return Columns(dim=self.dim)
        if len(names) == 1 and self.dim > 1:
            return Columns(vector_column=names[0], dim=self.dim)
        return Columns(columns=names)

    def scored_rows(
        self, rows: Sequence[Any], columns: Columns | None = None
    ) -> tuple[pa.Table, Array, list[DeadLetter]]:
        """`scored` for the good ones among rows of one kind, their places (m,) and a letter for each other one.

        Raises:
          ValueError: rows that don't have the window's columns.
        """
        if isinstance(rows[0], np.ndarray) and len({(row.shape, row.dtype) for row in rows}) == 1:
            points = np.stack(list(rows))
            good = np.flatnonzero(np.isfinite(points).all(axis=tuple(range(1, points.ndim))))
            if len(good) == len(rows):
                return self.scored(points), good, []
        columns = columns or self.columns_of(rows[0])
        batch, layout = batch_of_rows(list(rows), columns, 0)
        block, letters, good = build_placed([batch], layout, Span(0, 0))
        names = layout.coordinates if layout.options.vector_column is None else None
        if not len(block):
            return SCHEMA.empty_table(), good, letters
        return self.scored(block.points, names), good, letters


class LatestWindow:
    """A folder's window that ends last, as a worker has last seen it.

    Args:
      folder: an `--output` folder, or a glob of some; see `beam_coresets.summaries.open_summaries`.
      key: whose window; may be left out where there is one key.
      every: seconds from one look into the folder to the next. Names are listed then, and one window's files are read.
      clock: tells seconds.
      opened: what the folder has, where somebody else looks into it.

    Raises:
      ValueError: a time that is not positive.
    """

    def __init__(
        self,
        folder: str,
        key: str | None = None,
        every: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        opened: Callable[[], StoredSummaries] | None = None,
    ) -> None:
        if not every > 0:
            raise ValueError(f"every: must be positive, got {every}")
        self._folder, self._key, self._every, self._clock = folder, key, every, clock
        self._lock, self._opened = threading.Lock(), opened
        self._held: WindowScorer | None = None
        self._next = -float("inf")

    def get(self) -> WindowScorer | None:
        """The window as it was at the last look; None as long as there is none with centers.

        While one thread looks, others go on with what it was. A look that fails leaves what there is, and says so.

        Raises:
          ValueError: several keys and none given, or what can't be scored by; only where no window is held.
          OSError: the folder can't be reached; only where no window is held.
        """
        if self._clock() >= self._next and self._lock.acquire(blocking=self._held is None):
            try:
                if self._clock() >= self._next:
                    self._look()
                    self._next = self._clock() + self._every
            finally:
                self._lock.release()
        return self._held

    def _look(self) -> None:
        try:
            found = self._newest()
            if found is not None and (self._held is None or found.row != self._held.window.row):
                self._held = WindowScorer(found)
        except Exception as error:
            if self._held is None:
                raise
            logging.warning("%s: stays at window %s, got %s", self._folder, self._held.name, error)

    def _newest(self) -> WindowSummary | None:
        """The last window that has centers; none that is before the one that is held."""
        try:
            windows = open_summaries(self._folder) if self._opened is None else self._opened()
            found = windows.latest(self._key)
            while not found.row["centers"]:
                if self._held is not None or found.start is None:
                    return None
                windows = windows.between(None, found.start)
                found = windows.latest(self._key)
        except NoSummariesError:
            return None
        return found


class LatestWindows:
    """Each key's window that ends last; the folder is listed once for all keys.

    Args:
      folder, every, clock: see `LatestWindow`.
    """

    def __init__(self, folder: str, every: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._every, self._clock = folder, every, clock
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, LatestWindow] = OrderedDict()
        self._there: StoredSummaries | None = None
        self._next = -float("inf")

    def get(self, key: str) -> WindowScorer | None:
        """The key's window as it was at the last look, which may be `every` seconds older than that of `LatestWindow`.

        Raises:
          ValueError, OSError: see `LatestWindow.get`.
        """
        with self._lock:
            if key not in self._keys:
                self._keys[key] = LatestWindow(self._folder, key, self._every, self._clock, self._opened)
            self._keys.move_to_end(key)
            while len(self._keys) > MOST_KEYS:
                self._keys.popitem(last=False)
            held = self._keys[key]
        return held.get()

    def _opened(self) -> StoredSummaries:
        with self._lock:
            if self._there is None or self._clock() >= self._next:
                self._there = open_summaries(self._folder)
                self._next = self._clock() + self._every
            return self._there
