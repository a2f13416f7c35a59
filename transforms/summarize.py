"""Summarize: the whole way from points to centers, coreset and certificate, as one composite."""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsDict, PCollection

from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import PointBlock
from beam_coresets.shards.pieces import Piece
from beam_coresets.shards.report import ShardReport
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.transforms.base.bad_rows import gate
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.base.memory import with_memory
from beam_coresets.transforms.coordinator.coordinate import Coordinate
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference, reference_name
from beam_coresets.transforms.coordinator.solve import SolveCenters
from beam_coresets.transforms.reading.blocks import BlocksFromRows
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.python_rows import coordinate_names
from beam_coresets.transforms.rows.scaling import ScaleBlocks
from beam_coresets.transforms.shards.sample_blocks import SampleBlocks
from beam_coresets.transforms.shards.shard_coreset import ShardCoreset
from beam_coresets.transforms.writing.claims import order_of
from beam_coresets.transforms.writing.records import ROWS, rows_of


class Summaries(NamedTuple):
    """What `Summarize` returns.

    Attributes:
      summaries, centers, coreset, columns: PCollections of the rows in `beam_coresets.transforms.writing.records`; None
      if not wanted.
      dead_letters: DeadLetters: of rows that were refused.
      decided: whole `Summary` objects, for `WriteSummaries`.
      candidates, outliers: as the first four; None unless the plan is `weak`, or has `outliers`.
    """

    summaries: PCollection | None
    centers: PCollection | None
    coreset: PCollection | None
    dead_letters: PCollection
    decided: PCollection
    columns: PCollection | None = None
    candidates: PCollection | None = None
    outliers: PCollection | None = None

    @classmethod
    def of(cls, decided: PCollection, dead_letters: PCollection, rows: Sequence[str], plan: "Plan") -> "Summaries":
        """With the rows of those tables that are wanted, made from the summaries."""
        wanted = order_of(plan.weak, bool(plan.outliers))
        tables = {
            name: decided | f"Rows of {name}" >> beam.FlatMap(rows_of, name).with_output_types(row)
            for name, row in ROWS.items()
            if name in rows and name in wanted
        }
        return cls(**{name: tables.get(name) for name in ROWS}, dead_letters=dead_letters, decided=decided)


class Summarize(beam.PTransform):
    """Points -> `Summaries`: for each window a coreset, k centers, and what they are worth.

    Takes a PCollection of PointBlocks, or of plain rows (dicts, NamedTuples, Beam rows, sequences of numbers), for
    which `columns` says what to take. All points have the same number of coordinates.

    Args:
      plan: all parameters; or give them as keywords.
      columns: what to take from plain rows.
      names: file names for printed ids (`row_names` of the source).
      scale: a `Scale` as a side input (or value) that blocks are brought to, and results brought back from.
      dead_letters: rows refused before this transform (`ReadBlocks(...).dead_letters`): returned with its own, and
        counted against `max_bad_rows`.
      rows: the tables to make rows of.
      dim: coordinates of a point, if they are known before any is read: whoever decides asks for memory by them.
      reference: what each window is compared with, for the columns `drift_of` to `drifted` of `summaries`: an output
        folder (its last window with centers), or a window of one (`open_summaries("out").window("2026-01-01T10:00")`).
        It is read when the graph is made.
      parameters: the fields of `Plan`.

    Raises:
      TypeError: a plan and parameters, or parameters that `Plan` has not.
      ValueError: what the plan refuses, or a scale with the cosine metric; while the graph is made, a reference that
        can't be compared with; while running, more than `max_bad_rows`.

    Source: `shard_reports`, `decide` and `summarize` of `beam_coresets`, which give the same numbers: by default
    sensitivity sampling (Feldman and Langberg 2011) on the shards of a redundant assignment.

    Example:
      result = rows | Summarize(Plan(k=4, shards=5, replication=3), Columns(columns=("x", "y", "z")))
      result.centers | beam.Map(print)
    """

    def __init__(
        self,
        plan: Plan | None = None,
        columns: Columns | None = None,
        names: Mapping[int, str] | None = None,
        scale: Any = None,
        dead_letters: PCollection | None = None,
        rows: Sequence[str] = tuple(ROWS),
        dim: int | None = None,
        reference: str | WindowSummary | FixedReference | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__()
        if plan is not None and parameters:
            raise TypeError(f"plan: must be the only parameter, got also {', '.join(sorted(parameters))}")
        self._plan = Plan(**parameters) if plan is None else plan
        if scale is not None and self._plan.metric == "cosine":
            raise ValueError("scale: must be left out with metric cosine, got one")
        self._rows, self._reference = tuple(rows), reference
        self._dim = dim if columns is None or columns.dim is None else columns.dim
        self._columns, self._names, self._scale, self._letters = columns, names, scale, dead_letters

    def expand(self, points: PCollection[Any]) -> "Summaries":
        plan = self._plan
        if points.element_type != PointBlock:
            plan = plan.named(coordinate_names(self._columns, points.element_type))
        reference = FixedReference.of(self._reference, plan.question, self._dim)
        blocks, letters = self._blocks(points)
        counted, dim = self._refused(points, letters), self._dim
        if self._scale is not None:
            blocks = blocks | "ScaleBlocks" >> beam.ParDo(ScaleBlocks(), self._scale).with_output_types(PointBlock)
        reports = (
            blocks
            | "SampleBlocks" >> SampleBlocks(plan.merge_reduce)
            | "KeepShardWithPiece" >> beam.Map(_with_shard).with_output_types(tuple[int, tuple[int, Piece]])
            | "ShardCoreset" >> beam.CombinePerKey(ShardCoreset(plan.merge_reduce))
        )
        reports = reports | "Answers" >> beam.ParDo(
            ShardsThatAnswer(plan.drop_shards), *gate(letters, plan.max_bad_rows)
        ).with_output_types(ShardReport)
        solve = SolveCenters(plan.question, self._names, self._scale, counted, reference)
        decided = (
            reports
            | "Coordinate" >> with_memory(Coordinate(plan.policy), plan, dim)
            | "SolveCenters" >> with_memory(solve, plan, dim)
        )
        return Summaries.of(decided, letters, self._rows, plan)

    def _blocks(self, points: Any) -> tuple[PCollection, PCollection]:
        if points.element_type == PointBlock:
            none = points | "NoDeadLetters" >> beam.FlatMap(lambda _: ()).with_output_types(DeadLetter)
            return points, none if self._letters is None else self._letters
        made = points | "BlocksFromRows" >> BlocksFromRows(self._columns)
        if self._letters is None:
            return made["blocks"], made["dead_letters"]
        return made["blocks"], (made["dead_letters"], self._letters) | "AllDeadLetters" >> beam.Flatten()

    def _refused(self, points: PCollection, letters: PCollection) -> Any:
        """How many letters a window has, by column, as a side input; None where nobody has told of any, or by other
        windows than the points'."""
        told = [each for each in (letters, self._letters) if each is not None]
        if points.element_type == PointBlock and self._letters is None:
            return None
        if any(each.windowing.windowfn != points.windowing.windowfn for each in told):
            return None
        columns = letters | "Columns at fault" >> beam.Map(lambda letter: letter.column_name).with_output_types(str)
        return AsDict(columns | "Count refused" >> beam.combiners.Count.PerElement())

    def display_data(self) -> dict[str, Any]:
        of = reference_name(self._reference)
        return shown(columns=self._columns, plan=self._plan, tables=", ".join(self._rows), reference=of)


def _with_shard(element: tuple[int, Piece]) -> tuple[int, tuple[int, Piece]]:
    return element[0], element


class ShardsThatAnswer(beam.DoFn):
    """(shard, report) -> the reports of shards that answer; waits for the gate, if there is one.

    Args:
      dropped: the shards whose reports never come.
    """

    def __init__(self, dropped: Sequence[int]) -> None:
        self._dropped = frozenset(dropped)

    def process(self, element: tuple[int, ShardReport], gate: Any = None) -> Iterator[ShardReport]:
        """Yields the report unless its shard is among the dropped."""
        if element[0] not in self._dropped:
            yield element[1]
