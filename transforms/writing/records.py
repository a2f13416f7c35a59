"""The tables' rows as schema'd Beam rows, for any sink that takes them."""
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.timestamp import Timestamp

from beam_coresets.results.summary import Summary
from beam_coresets.table_schemas import INSTANT
from beam_coresets.tables import plain_rows
from beam_coresets.values import texts


class SummaryRow(NamedTuple):
    """A window's summary; the fields are described in `beam_coresets.table_schemas`."""

    window_start: Optional[Timestamp]
    window_end: Optional[Timestamp]
    key: str
    revision: int
    shards: int
    responded: Sequence[int]
    stragglers: Sequence[int]
    distrusted: Sequence[str]
    coverage: float
    delta: float
    total_weight: float
    cost: Optional[float]
    cost_low: Optional[float]
    cost_high: Optional[float]
    cost_basis: str
    trust: Optional[str]
    points: int
    coreset_points: int
    centers: int
    degraded: bool
    reason: str
    decided_at: Optional[Timestamp]
    partial: int
    k: int
    z: float
    metric: str
    method: str
    recovery: str
    scheme: str
    replication: int
    seed: int
    version: str
    summary: str
    r: int
    affine: bool
    constraint_text: Optional[str]
    factor: Optional[float]
    alpha: Optional[float]
    outliers: Optional[float]
    threshold: Optional[float]
    evidence: Optional[bytes]
    columns: Optional[Sequence[str]]
    drift_of: Optional[str]
    excess: Optional[float]
    excess_low: Optional[float]
    excess_high: Optional[float]
    moved: Optional[float]
    moved_low: Optional[float]
    moved_high: Optional[float]
    shift: Optional[float]
    drifted: Optional[bool]
    refused: Optional[int]


class CenterRow(NamedTuple):
    """One center of a window; without an index, where a center of the window before has gone."""

    window_start: Optional[Timestamp]
    window_end: Optional[Timestamp]
    key: str
    revision: int
    index: Optional[int]  # type: ignore[assignment]  # hides tuple.index, which nobody looks for in a row
    coordinates: Optional[Sequence[float]]
    weight: float
    cost: float
    representative_id: Optional[str]
    center_id: Optional[str]
    born: Optional[Timestamp]
    split_from: Optional[str]
    merged_into: Optional[str]
    basis: Optional[Sequence[float]]
    shift: Optional[float]
    group_labels: Optional[Sequence[str]]
    group_weights: Optional[Sequence[float]]


class CoresetRow(NamedTuple):
    """One point of a window's coreset; `kept` holds the kept columns as text."""

    window_start: Optional[Timestamp]
    window_end: Optional[Timestamp]
    key: str
    revision: int
    id: str
    coordinates: Sequence[float]
    weight: float
    weight_ht: float
    bucket: int
    shards: Sequence[int]
    group_label: Optional[str]
    kept: dict[str, Optional[str]]


class ColumnRow(NamedTuple):
    """One coordinate of a window: what its column looks like by itself."""

    window_start: Optional[Timestamp]
    window_end: Optional[Timestamp]
    key: str
    revision: int
    index: int  # type: ignore[assignment]  # hides tuple.index, as in CenterRow
    column_name: Optional[str]
    row_count: int
    refused_count: Optional[int]
    mean: Optional[float]
    mean_low: Optional[float]
    mean_high: Optional[float]
    deviation: Optional[float]
    deviation_low: Optional[float]
    deviation_high: Optional[float]
    p05: Optional[float]
    p05_low: Optional[float]
    p05_high: Optional[float]
    p25: Optional[float]
    p25_low: Optional[float]
    p25_high: Optional[float]
    p50: Optional[float]
    p50_low: Optional[float]
    p50_high: Optional[float]
    p75: Optional[float]
    p75_low: Optional[float]
    p75_high: Optional[float]
    p95: Optional[float]
    p95_low: Optional[float]
    p95_high: Optional[float]


class CandidateRow(NamedTuple):
    """One place that a window's centers may be chosen from; without an id where it is no input row."""

    window_start: Optional[Timestamp]
    window_end: Optional[Timestamp]
    key: str
    revision: int
    index: int  # type: ignore[assignment]  # hides tuple.index, as in CenterRow
    id: Optional[str]
    coordinates: Sequence[float]
    shard: int
    independent: bool


class OutlierRow(NamedTuple):
    """One point that a window's centers leave out, and the index of the center that is nearest to it."""

    window_start: Optional[Timestamp]
    window_end: Optional[Timestamp]
    key: str
    revision: int
    id: str
    coordinates: Sequence[float]
    weight: float
    cost: float
    nearest: int


ROWS = {
    "summaries": SummaryRow,
    "centers": CenterRow,
    "coreset": CoresetRow,
    "columns": ColumnRow,
    "candidates": CandidateRow,
    "outliers": OutlierRow,
}

for _row in ROWS.values():
    beam.coders.registry.register_coder(_row, beam.coders.RowCoder)


def rows_of(summary: Summary, table: str) -> Iterator[Any]:
    """The rows of one table of a summary, as the NamedTuples in `ROWS`."""
    kind: Any = ROWS[table]
    found = summary.table(table)
    known = [name for name in kind._fields if name != "kept"]
    rows = plain_rows(found.select(known))
    for name in known:
        if found.schema.field(name).type == INSTANT:
            for row, micros in zip(rows, found.column(name).cast(pa.int64()).to_pylist(), strict=True):
                row[name] = None if micros is None else Timestamp(micros=micros)
    if kind is not CoresetRow:
        yield from (kind(**row) for row in rows)
        return
    kept = {name: texts(found.column(name)) for name in found.column_names if name not in known}
    for i, row in enumerate(rows):
        yield kind(**row, kept={name: column[i] for name, column in kept.items()})
