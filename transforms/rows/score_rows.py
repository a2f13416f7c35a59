"""Score: rows or blocks of a stream -> their cluster and how unusual they are, by the last claimed window's centers.

    scored = rows | Score("out")                   # the folder that a stream writes to
    scored.rows | ...                              # the rows, with cluster, center_id, distance, score and quantile
"""
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, get_type_hints

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coder of PointBlock)
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.base.lineage import tell_folder_read
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.python_rows import fields_of
from beam_coresets.transforms.rows.assign_rows import AssignedRows, printed_ids
from beam_coresets.transforms.rows.latest_window import (
    SCHEMA,
    LatestWindow,
    LatestWindows,
    RowScore,
    WindowScorer,
    scores_of,
)

Array = npt.NDArray[Any]

ROWS_AT_ONCE = 4096
NOTHING = RowScore()
_DEAD_LETTERS = "dead_letters"


class ScoredRows(NamedTuple):
    """What `Score` returns.

    Attributes:
      rows: the rows with the fields of `RowScore`: dicts of dicts, of Beam rows and NamedTuples Beam rows, of
        sequences dicts with the field `point`; of blocks `AssignedRows`, with these columns in the table.
      dead_letters: refused rows.
    """

    rows: PCollection
    dead_letters: PCollection


class Score(beam.PTransform):
    """Rows, or PointBlocks in your units -> ScoredRows, by the centers of a folder's last claimed window.

    Each worker holds the window and looks for a later one every so often; elements in between cost no look. Rows keep
    their event times and windows. Where no window is claimed yet, rows go out at once with null in the new fields, and
    are counted as `rows_without_window`.

    Args:
      folder: what `WriteSummaries` or a command writes to; globs and URLs as `open_summaries` takes them.
      columns: what to take from a row; by default the columns that the window is of, or all numbers of a sequence.
      key: whose window, where the folder has several keys.
      every: seconds from one look for a later window to the next.
      key_column: the field of the rows, or the column of the blocks' `extras`, that says by which key's window each row
        is scored; rows without a value have the empty key. A process holds the windows of 1,024 keys.

    Raises:
      ValueError: a time that is not positive, a key and a key_column, or rows that have a field of these names already;
        while running rows without the window's columns or the key column, several keys and neither given, or a summary
        that is none of a coreset.

    Source: `beam_coresets.summaries.SummarizedData.score`, some thousand rows at once.

    Example:
      result = rows | Summarize(k=4, shards=5, columns=Columns(columns=("x", "y", "z")))
      result.decided | WriteSummaries("out")
      scored = rows | Score("out", every=5)  # in a stream; here no window is claimed yet
      scored.rows | beam.Map(print)
    """

    def __init__(
        self,
        folder: str,
        columns: Columns | None = None,
        key: str | None = None,
        every: float = 60.0,
        key_column: str | None = None,
    ) -> None:
        super().__init__()
        LatestWindow(folder, key, every)
        if key is not None and key_column is not None:
            raise ValueError(f"key: must be left out with key_column {key_column!r}, got {key!r}")
        self._folder, self._columns, self._key, self._every = folder, columns, key, every
        self._key_column = key_column

    def expand(self, points: PCollection[Any]) -> "ScoredRows":
        held = _Held(self._folder, self._key, self._every, self._key_column)
        if points.element_type == PointBlock:
            none = points | "NoDeadLetters" >> beam.FlatMap(lambda _: ()).with_output_types(DeadLetter)
            return ScoredRows(points | "ScoreBlocks" >> beam.ParDo(_ScoreBlocks(held)), none)
        out = scored_type(points.element_type)
        scored = points | "ScoreRows" >> beam.ParDo(_ScoreRows(held, self._columns)).with_output_types(
            out
        ).with_outputs(_DEAD_LETTERS, main="rows")
        scored[_DEAD_LETTERS].element_type = DeadLetter
        return ScoredRows(scored["rows"], scored[_DEAD_LETTERS])

    def display_data(self) -> dict[str, Any]:
        return shown(folder=self._folder, columns=self._columns, key=self._key, every=self._every,
                     key_column=self._key_column)  # fmt: skip


def scored_type(row_type: Any) -> Any:
    """The type of rows with a schema once they are scored; of others it is not known.

    Raises:
      ValueError: they have one of the new fields already.
    """
    fields = RowTypeConstraint.from_user_type(row_type) if isinstance(row_type, type) else row_type
    if not isinstance(fields, RowTypeConstraint):
        return Any
    _free(dict(fields._fields))
    return RowTypeConstraint.from_fields([*fields._fields, *get_type_hints(RowScore).items()])


class _Held:
    """What the threads of a worker's process share of a folder: pickled, it is what to look for only."""

    def __init__(self, folder: str, key: str | None, every: float, key_column: str | None) -> None:
        self.folder, self.key, self.every, self.key_column = folder, key, every, key_column
        self._shared = Shared()

    def tell(self) -> None:
        """Reports the folder as one that is read."""
        tell_folder_read(self.folder)

    def acquire(self) -> Callable[[str], WindowScorer | None]:
        """What says by which window rows of a key are scored."""
        if self.key_column is not None:
            keyed: LatestWindows = self._shared.acquire(lambda: LatestWindows(self.folder, self.every))
            return keyed.get
        found: LatestWindow = self._shared.acquire(lambda: LatestWindow(self.folder, self.key, self.every))
        return lambda _: found.get()


class _Counters:
    def __init__(self) -> None:
        self._scored = Metrics.counter("beam_coresets", "rows_scored")
        self._waiting = Metrics.counter("beam_coresets", "rows_without_window")

    def add(self, window: WindowScorer | None, rows: int) -> None:
        (self._waiting if window is None else self._scored).inc(rows)


@beam.typehints.with_input_types(PointBlock)
@beam.typehints.with_output_types(AssignedRows)
class _ScoreBlocks(beam.DoFn):
    def __init__(self, held: _Held) -> None:
        self._held = held

    def setup(self) -> None:
        self._latest, self._counters = self._held.acquire(), _Counters()

    def start_bundle(self) -> None:
        self._held.tell()

    def process(self, block: PointBlock) -> Iterator[AssignedRows]:
        if not len(block):
            return
        by_key = {key: (self._latest(key), rows) for key, rows in keys_of_block(block, self._held.key_column).items()}
        tables = [scores(block.points[rows], window) for window, rows in by_key.values()]
        order = np.argsort(np.concatenate([rows for _, rows in by_key.values()]), kind="stable")
        yield with_scores(block, pa.concat_tables(tables).take(pa.array(order)))
        for window, rows in by_key.values():
            self._counters.add(window, len(rows))


def keys_of_block(block: PointBlock, column: str | None) -> dict[str, Array]:
    """The rows of each key, (m,), by the column of the extras that says it.

    Raises:
      ValueError: there is no such column.
    """
    if column is None:
        return {"": np.arange(len(block))}
    named = [] if block.extras is None else block.extras.column_names
    if column not in named:
        raise ValueError(f"key_column: must be one of the blocks' extras, got {column!r} of {named}")
    keys = pc.fill_null(block.extras.column(column).cast(pa.string()), "").to_pylist()
    return rows_of_keys(keys)


def rows_of_keys(keys: Sequence[str]) -> dict[str, Array]:
    """key -> the places, (m,), that have it."""
    found: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return {key: np.array(rows) for key, rows in found.items()}


def scores(points: Array, window: WindowScorer | None) -> pa.Table:
    """The columns of `RowScore` of points, (n, d), which are null where there is no window.

    Raises:
      ValueError: points of another width than the window's.
    """
    if window is None:
        return pa.table([pa.nulls(len(points), field.type) for field in SCHEMA], schema=SCHEMA)
    return window.scored(points)


def with_scores(block: PointBlock, new: pa.Table) -> AssignedRows:
    """A block's rows with the columns of their scores."""
    extras = block.extras
    own = [] if extras is None else extras.column_names
    _free(own)
    columns = {"id": extras.column("id") if "id" in own else printed_ids(block.ids, {})}
    columns |= {name: new.column(name) for name in SCHEMA.names}
    columns |= {name: extras.column(name) for name in own if name != "id"}
    return AssignedRows(pa.table(columns), block.span, block.weights)


class _ScoreRows(beam.DoFn):
    """Rows are gathered within a bundle; each goes out with the time and window that it came with."""

    def __init__(self, held: _Held, columns: Columns | None) -> None:
        self._held, self._columns = held, columns

    def setup(self) -> None:
        self._latest, self._counters = self._held.acquire(), _Counters()
        self._letters = Metrics.counter("beam_coresets", "dead_letters")

    def start_bundle(self) -> None:
        self._rows: list[tuple[Any, Any, Any]] = []
        self._held.tell()

    def process(
        self, row: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        self._rows.append((row, timestamp, window))
        if len(self._rows) >= ROWS_AT_ONCE:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._flush()

    def _flush(self) -> Iterator[Any]:
        held, self._rows = self._rows, []
        column = self._held.key_column
        keys = [""] * len(held) if column is None else [key_of(row, column) for row, _, _ in held]
        for key, places in rows_of_keys(keys).items():
            yield from self._scored([held[i] for i in places.tolist()], self._latest(key))

    def _scored(self, held: list[tuple[Any, Any, Any]], window: WindowScorer | None) -> Iterator[Any]:
        rows, columns = [row for row, _, _ in held], self._columns
        if window is None:
            for row, at, of in held:
                yield WindowedValue(with_score(row, NOTHING), at, [of])
        else:
            table, good, letters = window.scored_rows(rows, columns)
            bad = sorted(set(range(len(rows))).difference(good.tolist()))
            for place, letter in zip(bad, letters, strict=True):
                yield TaggedOutput(_DEAD_LETTERS, WindowedValue(letter, held[place][1], [held[place][2]]))
            self._letters.inc(len(bad))
            for place, values in zip(good.tolist(), scores_of(table), strict=True):
                row, at, of = held[place]
                yield WindowedValue(with_score(row, values), at, [of])
        self._counters.add(window, len(rows))


def key_of(row: Any, column: str) -> str:
    """A row's key: the field's value as text; empty where it is null.

    Raises:
      ValueError: the row has no such field.
    """
    fields = fields_of(row) or {}
    if column not in fields:
        raise ValueError(f"key_column: must be a field of the rows, got {column!r} of {sorted(fields)}")
    return "" if fields[column] is None else str(fields[column])


def with_score(row: Any, score: RowScore) -> Any:
    """A row with the fields of its score.

    Raises:
      ValueError: it has one of them already.
    """
    fields = fields_of(row)
    new = score._asdict()
    if fields is None:
        return {"point": row, **new}
    _free(fields)
    return {**fields, **new} if isinstance(row, dict) else beam.Row(**fields, **new)


def _free(names: Any) -> None:
    if taken := [name for name in SCHEMA.names if name in names]:
        raise ValueError(f"rows: must have no field {', '.join(SCHEMA.names)}, got {', '.join(taken)}")
