"""AssignRows: blocks of points -> their cluster and distance, with the ids and columns they came with; and their files.

    blocks = (pipeline | ReadBlocks("data/*.parquet"))["blocks"]
    rows = blocks | AssignRows(centers)
    rows | WriteAssigned("out")                                         # out/assigned/part-00000-00000.parquet, ...
    sizes = rows | beam.CombineGlobally(SizesOfClusters(len(centers)))
"""
import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coder of PointBlock)
from beam_coresets import tables
from beam_coresets.assigning.cluster_assignment import Membership, Nearest, label_codes
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.nearest import Metric
from beam_coresets.solvers.model import Centers
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.base.progress import PROGRESS
from beam_coresets.transforms.rows.scaling import ScaleBlocks
from beam_coresets.transforms.writing.atomic_files import move, remove_folder, write
from beam_coresets.values import stacked

BLOCKS_A_FILE = 8  # some 500,000 rows
FOLDER = "assigned"

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class AssignedRows:
    """A block's rows with their clusters.

    Attributes:
      table: pyarrow Table with `id` (the user's, else file#row), `cluster`, `distance`, the label as `group_label`
        if there is one, and kept columns.
      span: where the block was read.
      weights: (n,) float64.
    """

    table: Any
    span: Span
    weights: Array


@beam.typehints.with_input_types(PointBlock)
@beam.typehints.with_output_types(AssignedRows)
class AssignRows(beam.PTransform):
    """PointBlocks -> AssignedRows, block by block.

    Args:
      clusters: (k, d) centers, or a `Membership` (subspaces, or centers with prices).
      z, metric: of the centers; the distance is 1 - cos under the cosine metric.
      names: file names for printed ids (`row_names` of the source).
      scale: a `Scale` (or a side input with one) that blocks are brought to first, as the centers had been.

    Raises (while running):
      ValueError: points of another width than the centers, or labels that have no prices.

    Source: `beam_coresets.assigning.cluster_assignment`: the nearest center, or the least distance plus price.

    Example:
      rows = blocks | AssignRows(np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 5.0]]))
      rows | WriteAssigned("out")
    """

    def __init__(
        self,
        clusters: Array | Membership,
        z: float = 2.0,
        metric: Metric = "euclidean",
        names: Mapping[int, str] | None = None,
        scale: Any = None,
    ) -> None:
        super().__init__()
        if isinstance(clusters, np.ndarray):
            clusters = Nearest(Centers(clusters.astype(np.float64), z, metric), z, metric)
        self.clusters: Membership = clusters
        self._names, self._scale = dict(names or {}), scale

    def expand(self, blocks: PCollection[PointBlock]) -> PCollection[AssignedRows]:
        if self._scale is not None:
            blocks = blocks | "ScaleBlocks" >> beam.ParDo(ScaleBlocks(), self._scale).with_output_types(PointBlock)
        return blocks | "Assign" >> beam.ParDo(_Assign(self.clusters, self._names))

    def display_data(self) -> dict[str, Any]:
        return shown(clusters=self.clusters.k, by=type(self.clusters).__name__, scaled=self._scale is not None)


class _Assign(beam.DoFn):
    def __init__(self, clusters: Membership, names: Mapping[int, str]) -> None:
        self._clusters, self._names = clusters, names
        self._rows = Metrics.counter("beam_coresets", "rows_assigned")

    def process(self, block: PointBlock) -> Iterator[AssignedRows]:
        if len(block):
            yield assigned(block, self._clusters, self._names)
            self._rows.inc(len(block))
            PROGRESS.add(points=len(block))


def assigned(block: PointBlock, clusters: Membership, names: Mapping[int, str]) -> AssignedRows:
    """What becomes of a block with at least one row.

    Raises:
      ValueError: points of another width than the centers, or labels that have no prices.
    """
    index, distance = clusters.clusters_of(block)
    extras = block.extras
    own = [] if extras is None else extras.column_names
    columns: dict[str, Any] = {
        "id": extras.column("id") if "id" in own else printed_ids(block.ids, names),
        "cluster": pa.array(index, pa.int64()),
        "distance": pa.array(distance, pa.float64()),
    }
    columns |= {"group_label" if name == "group" else name: extras.column(name) for name in own if name != "id"}
    return AssignedRows(pa.table(columns), block.span, block.weights)


def printed_ids(ids: Array, names: Mapping[int, str]) -> pa.Array:
    """Ids made of (file, row number) as file#row, others as 16 hexadecimal digits; an Arrow array of text (n,)."""
    keys, which = np.unique(ids >> np.uint64(32), return_inverse=True)
    files = [names.get(key) for key in keys.tolist()]
    if None in files:
        numbers = zip((files[i] for i in which.tolist()), ids.tolist(), strict=True)
        low = (1 << 32) - 1
        return pa.array([f"{n:016x}" if file is None else f"{file}#{n & low}" for file, n in numbers], pa.string())
    rows = pa.array((ids & np.uint64(0xFFFFFFFF)).astype(np.int64)).cast(pa.string())
    return pc.binary_join_element_wise(pa.array(files, pa.string()).take(pa.array(which)), rows, "#")


@beam.typehints.with_input_types(AssignedRows)
class SizesOfClusters(beam.CombineFn):
    """AssignedRows -> {label: (3, k) float64}: the weight, the rows and the cost of each label in each cluster.

    Args:
      k: how many clusters.
      power: the cost of a row is its weight times distance**power: z, under the cosine metric z / 2.
      labelled: whether labels are told apart; else all rows count under "".
    """

    def __init__(self, k: int, power: float = 2.0, labelled: bool = False) -> None:
        self._k, self._power, self._labelled = k, power, labelled

    def create_accumulator(self) -> dict[str, Array]:
        return {}

    def add_input(self, total: dict[str, Array], rows: AssignedRows) -> dict[str, Array]:
        index = rows.table.column("cluster").to_numpy()
        cost = rows.weights * rows.table.column("distance").to_numpy() ** self._power
        names, label = [""], np.zeros(len(index), np.int64)
        if self._labelled:
            names, label = label_codes(rows.table, "group_label")
        cell, size = label * self._k + index, len(names) * self._k
        counts = np.stack([np.bincount(cell, weights, size) for weights in (rows.weights, None, cost)])
        own = {name: counts.reshape(3, len(names), self._k)[:, i] for i, name in enumerate(names)}
        return self.merge_accumulators([total, own])

    def merge_accumulators(self, totals: Iterable[dict[str, Array]]) -> dict[str, Array]:
        merged: dict[str, Array] = {}
        for total in totals:
            for name, counts in total.items():
                merged[name] = merged[name] + counts if name in merged else counts
        return merged

    def extract_output(self, total: dict[str, Array]) -> dict[str, Array]:
        return total


@beam.typehints.with_input_types(AssignedRows)
@beam.typehints.with_output_types(str)
class WriteAssigned(beam.PTransform):
    """AssignedRows -> the paths of files in `output`/assigned, for batch pipelines.

    Files are named after the part of the input that their rows are from, and hold its blocks in order. None is there
    before all are: they are staged first, and moved once every row has been written.

    Args:
      output: a folder on any Beam filesystem.
      form: "parquet", "avro" or "jsonl".
      gate: side inputs that must be there before files are moved (`transforms.summarize.gate`).

    Raises:
      ValueError: an unknown format.

    Source: files staged under a name of their own, then moved (`beam_coresets.transforms.writing.atomic_files.move`).

    Example:
      centers = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 5.0]])
      blocks | AssignRows(centers) | WriteAssigned("out", "jsonl")
    """

    def __init__(self, output: str, form: str = "parquet", gate: tuple[Any, ...] = ()) -> None:
        super().__init__()
        if form not in tables.TABLE_FORMATS:
            raise ValueError(f"format: must be one of {', '.join(tables.TABLE_FORMATS)}, got {form!r}")
        self._output, self._form, self._gate = output, form, gate

    def expand(self, rows: PCollection[AssignedRows]) -> PCollection[str]:
        output = self._output  # a lambda has no annotations: Beam 2.62 refuses those of `*gate`
        publish = beam.FlatMap(lambda gathered, *_: _published(output, gathered[1]), *self._gate)
        return (
            rows
            | "Stage" >> beam.ParDo(_StageFiles(self._output, self._form)).with_output_types(tuple[str, str])
            | "Together" >> beam.Map(lambda staged: ("", staged)).with_output_types(tuple[str, tuple[str, str]])
            | "Gather" >> beam.GroupByKey()
            | "Publish" >> publish.with_output_types(str)
        )

    def display_data(self) -> dict[str, Any]:
        return {"output": self._output, "format": self._form}


class _StageFiles(beam.DoFn):
    """AssignedRows -> (name, staged path) of files of up to `BLOCKS_A_FILE` neighbouring blocks.

    The blocks of a part come one after the other where reading is fused with this; where it isn't, a bundle may get
    some of them only, and writes what it has.
    """

    def __init__(self, output: str, form: str) -> None:
        self._output, self._form = output, form

    def start_bundle(self) -> None:
        self._open: dict[tuple[int, int], list[AssignedRows]] = {}

    def process(self, rows: AssignedRows) -> Iterator[tuple[str, str]]:
        FileSystems.report_sink_lineage(self._output)
        span = rows.span
        place = span.part, span.ordinal // BLOCKS_A_FILE
        self._open.setdefault(place, []).append(rows)
        if span.last or span.ordinal % BLOCKS_A_FILE == BLOCKS_A_FILE - 1:
            yield self._staged(self._open.pop(place))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for blocks in self._open.values():
            yield WindowedValue(self._staged(blocks), MIN_TIMESTAMP, [GlobalWindow()])

    def _staged(self, blocks: list[AssignedRows]) -> tuple[str, str]:
        blocks = sorted(blocks, key=lambda rows: rows.span.ordinal)
        first = blocks[0].span
        name = f"part-{first.part:05d}-{first.ordinal:05d}.{self._form}"
        path = FileSystems.join(self._output, ".staging", FOLDER, f"{name}.{uuid.uuid4().hex}")
        table = stacked([rows.table for rows in blocks])
        write(path, tables.encode(table, self._form))
        return name, path


def _published(output: str, staged: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The paths of (name, staged path) in their places."""
    written = Metrics.counter("beam_coresets", "files_written")
    for name, path in sorted(staged):
        place = FileSystems.join(output, FOLDER, name)
        move(path, place)
        written.inc()
        yield place
    remove_folder(FileSystems.join(output, ".staging"))
