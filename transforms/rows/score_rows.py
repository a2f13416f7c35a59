"""Score: rows or blocks of a stream -> their cluster and how unusual they are, by the last claimed window's centers.

    scored = rows | Score("out")                   # the folder that a stream writes to
    scored.rows | ...                              # the rows, with cluster, center_id, distance, score and quantile
"""
from collections.abc import Iterator
from typing import Any, NamedTuple, get_type_hints

import apache_beam as beam
import pyarrow as pa
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
from beam_coresets.transforms.rows.latest_window import SCHEMA, LatestWindow, RowScore, WindowScorer, scores_of

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

    Raises:
      ValueError: a time that is not positive, or rows that have a field of these names already; while running rows
        without the window's columns, several keys and none given, or a summary that is none of a coreset.

    Source: `beam_coresets.summaries.SummarizedData.score`, some thousand rows at once.

    Example:
      result = rows | Summarize(k=4, shards=5, columns=Columns(columns=("x", "y", "z")))
      result.decided | WriteSummaries("out")
      scored = rows | Score("out", every=5)  # in a stream; here no window is claimed yet
      scored.rows | beam.Map(print)
    """

    def __init__(
        self, folder: str, columns: Columns | None = None, key: str | None = None, every: float = 60.0
    ) -> None:
        super().__init__()
        LatestWindow(folder, key, every)
        self._folder, self._columns, self._key, self._every = folder, columns, key, every

    def expand(self, points: PCollection[Any]) -> "ScoredRows":
        held = _Held(self._folder, self._key, self._every)
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
        return shown(folder=self._folder, columns=self._columns, key=self._key, every=self._every)


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

    def __init__(self, *arguments: Any) -> None:
        self._arguments, self._shared = arguments, Shared()

    def tell(self) -> None:
        """Reports the folder as one that is read."""
        tell_folder_read(self._arguments[0])

    def acquire(self) -> LatestWindow:
        found: LatestWindow = self._shared.acquire(lambda: LatestWindow(*self._arguments))
        return found


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
        window = self._latest.get()
        yield scored_block(block, window)
        self._counters.add(window, len(block))


def scored_block(block: PointBlock, window: WindowScorer | None) -> AssignedRows:
    """A block's rows with the columns of `RowScore`, which are null where there is no window.

    Raises:
      ValueError: points of another width than the window's.
    """
    if window is None:
        new = pa.table([pa.nulls(len(block), field.type) for field in SCHEMA], schema=SCHEMA)
    else:
        new = window.scored(block.points)
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
        if not held:
            return
        rows = [row for row, _, _ in held]
        window = self._latest.get()
        if window is None:
            for row, at, of in held:
                yield WindowedValue(with_score(row, NOTHING), at, [of])
        else:
            table, good, letters = window.scored_rows(rows, self._columns)
            bad = sorted(set(range(len(rows))).difference(good.tolist()))
            for place, letter in zip(bad, letters, strict=True):
                yield TaggedOutput(_DEAD_LETTERS, WindowedValue(letter, held[place][1], [held[place][2]]))
            self._letters.inc(len(bad))
            for place, values in zip(good.tolist(), scores_of(table), strict=True):
                row, at, of = held[place]
                yield WindowedValue(with_score(row, values), at, [of])
        self._counters.add(window, len(rows))


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
