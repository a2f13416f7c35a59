"""The tables that leave the system: their columns, as Arrow has them.

`summaries` has a row a window, `centers` a row a center, `coreset` a row a sampled point, `columns` a row a coordinate.
All of them begin with the same four columns, so they join on them: window_start and window_end (null outside windows),
key, revision. Times are timestamps in UTC with microseconds: a logical type in Avro, ISO 8601 in JSON lines. What is
not known is null, never NaN.

In `summaries`, `reason` says why the window was decided then (all, deadline, cap, or batch), `decided_at` when
(null in batch), `partial` counts the buckets that are answered only in part, and `evidence` is what it takes to put
this decision together with others. `summary` is what the shards sent (coreset, local_centers, pca), `r` and `affine`
say that centers are subspaces, `constraint_text` what the clusters had to keep to; `factor` is the approximation factor
where one is proved, `alpha` what choosing centers among the candidates costs, as measured.
`columns` names the coordinates in their order, or the one column of vectors; null where the input has no names.
`drift_of` is the window that this one was compared with, and the eight columns after it what has changed since
(`beam_coresets.comparing`); all null where it was compared with none, as in a batch without a reference. `refused`
counts the rows that became dead letters, null where nobody has counted them; with keys it stands in the row of the
empty key.
In `centers`, `shift` is that of each center. There, a row with a null `index`, null coordinates and weight 0 is no
center: it says that one of the window before has ended, and which one it was `merged_into`. Where centers are
subspaces, `coordinates` is a point on it and `basis` its r orthonormal directions one after another (r * d numbers).
Where a constraint is about groups, `group_labels` are those of the data and `group_weights` what each has of the
cluster; null elsewhere.
In `coreset`, each sampled row is there once, with the weights of all `shards` that have sampled it together. Rows are
input rows, unless the shards sent something else: local centers, whose `id` is that of the nearest row, or points that
have the moments of a sketch, whose `id` means nothing. They add up to less than the cost: `cost` and its interval in
`summaries` have what they leave out.

In `columns`, `index` is the place of the coordinate, `column_name` its name, or of one column of vectors that and the
place ("embedding[3]"). Numbers are those of all rows, by their weights, in the user's units, each with the ends of its
95 % interval; `deviation` is the root mean square distance from the mean, `p05` the least value that 5 % of the rows do
not exceed. `row_count` rows were counted; `refused_count` were refused for this column, null where that is not known.

`candidates`, which is written where a weak coreset was asked for, has a row for each place that centers may be chosen
from (`beam_coresets.results.weak_coreset`): `id` is null where that is no input row, `shard` says whose sample it
comes from, and `independent` that the coreset does without that sample.

`outliers`, which is written where some were to be left out, has a row for each point of the coreset that the centers
leave out, the worst first: `weight` is how much of the data it stands for, `cost` its distance to the `nearest` center
to the power z, in scaled units. In `summaries` `outliers` is their weight in all, and `threshold` the cost beyond which
points are left out; both are null where nothing was to be.
"""
from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets import __version__

SCHEMA_VERSION = 2  # of the tables; 1 had times as seconds, and a row a shard that had sampled the row
INSTANT = pa.timestamp("us", tz="UTC")
TABLES = ("summaries", "centers", "coreset", "columns")
ALL_TABLES = (*TABLES, "candidates", "outliers", "events")

_IDENTITY = [
    ("window_start", INSTANT),
    ("window_end", INSTANT),
    ("key", pa.string()),
    ("revision", pa.int64()),
]

SUMMARIES = pa.schema([
    *_IDENTITY,
    ("shards", pa.int64()),
    ("responded", pa.list_(pa.int64())),
    ("stragglers", pa.list_(pa.int64())),
    ("distrusted", pa.list_(pa.string())),
    ("coverage", pa.float64()),
    ("delta", pa.float64()),
    ("total_weight", pa.float64()),
    ("cost", pa.float64()),
    ("cost_low", pa.float64()),
    ("cost_high", pa.float64()),
    ("cost_basis", pa.string()),
    ("trust", pa.string()),
    ("points", pa.int64()),
    ("coreset_points", pa.int64()),
    ("centers", pa.int64()),
    ("degraded", pa.bool_()),
    ("reason", pa.string()),
    ("decided_at", INSTANT),
    ("partial", pa.int64()),
    ("k", pa.int64()),
    ("z", pa.float64()),
    ("metric", pa.string()),
    ("method", pa.string()),
    ("recovery", pa.string()),
    ("scheme", pa.string()),
    ("replication", pa.int64()),
    ("seed", pa.int64()),
    ("version", pa.string()),
    ("summary", pa.string()),
    ("r", pa.int64()),
    ("affine", pa.bool_()),
    ("constraint_text", pa.string()),
    ("factor", pa.float64()),
    ("alpha", pa.float64()),
    ("outliers", pa.float64()),
    ("threshold", pa.float64()),
    ("evidence", pa.binary()),
    ("columns", pa.list_(pa.string())),
    ("drift_of", pa.string()),
    ("excess", pa.float64()),
    ("excess_low", pa.float64()),
    ("excess_high", pa.float64()),
    ("moved", pa.float64()),
    ("moved_low", pa.float64()),
    ("moved_high", pa.float64()),
    ("shift", pa.float64()),
    ("drifted", pa.bool_()),
    ("refused", pa.int64()),
])

CENTERS = pa.schema([
    *_IDENTITY,
    ("index", pa.int64()),
    ("coordinates", pa.list_(pa.float64())),
    ("weight", pa.float64()),
    ("cost", pa.float64()),
    ("representative_id", pa.string()),
    ("center_id", pa.string()),
    ("born", INSTANT),
    ("split_from", pa.string()),
    ("merged_into", pa.string()),
    ("basis", pa.list_(pa.float64())),
    ("shift", pa.float64()),
    ("group_labels", pa.list_(pa.string())),
    ("group_weights", pa.list_(pa.float64())),
])

CORESET = pa.schema([
    *_IDENTITY,
    ("id", pa.string()),
    ("coordinates", pa.list_(pa.float64())),
    ("weight", pa.float64()),
    ("weight_ht", pa.float64()),
    ("bucket", pa.int64()),
    ("shards", pa.list_(pa.int64())),
    ("group_label", pa.string()),
])

COLUMNS = pa.schema([
    *_IDENTITY,
    ("index", pa.int64()),
    ("column_name", pa.string()),
    ("row_count", pa.int64()),
    ("refused_count", pa.int64()),
    *((f"{number}{end}", pa.float64()) for number in ("mean", "deviation", "p05", "p25", "p50", "p75", "p95")
      for end in ("", "_low", "_high")),
])  # fmt: skip

CANDIDATES = pa.schema([
    *_IDENTITY,
    ("index", pa.int64()),
    ("id", pa.string()),
    ("coordinates", pa.list_(pa.float64())),
    ("shard", pa.int64()),
    ("independent", pa.bool_()),
])

OUTLIERS = pa.schema([
    *_IDENTITY,
    ("id", pa.string()),
    ("coordinates", pa.list_(pa.float64())),
    ("weight", pa.float64()),
    ("cost", pa.float64()),
    ("nearest", pa.int64()),
])

EVENTS = pa.schema([
    *_IDENTITY,
    ("kind", pa.string()),
    ("center_id", pa.string()),
    ("other_id", pa.string()),
    ("size", pa.float64()),
    ("size_low", pa.float64()),
    ("size_high", pa.float64()),
    ("severity", pa.string()),
    ("sentence", pa.string()),
])

DEAD_LETTERS = pa.schema([
    ("reason", pa.string()),
    ("column_name", pa.string()),
    ("source", pa.string()),
    ("position", pa.string()),
    ("row_text", pa.string()),
])

LATE_ROWS = pa.schema([
    ("window_start", INSTANT),
    ("window_end", INSTANT),
    ("key_group", pa.string()),
    ("shard", pa.int64()),
    ("part", pa.int64()),
    ("start", pa.int64()),
    ("stop", pa.int64()),
    ("row_count", pa.int64()),
    ("reason", pa.string()),
    ("noted_at", INSTANT),
])

SCHEMAS: Mapping[str, pa.Schema] = {
    "summaries": SUMMARIES,
    "centers": CENTERS,
    "coreset": CORESET,
    "columns": COLUMNS,
    "candidates": CANDIDATES,
    "outliers": OUTLIERS,
    "events": EVENTS,
    "dead_letters": DEAD_LETTERS,
    "late": LATE_ROWS,
}


_WINDOW = ("window_start", "window_end")
TIMES = {field.name for schema in SCHEMAS.values() for field in schema if field.type == INSTANT}
_RENAMED = {  # since schema 1
    "summaries": {"constraint": "constraint_text"},
    "coreset": {"group": "group_label"},
    "dead_letters": {"column": "column_name", "row": "row_text"},
    "late": {"rows": "row_count", "at": "noted_at"},
}


def typed(table: pa.Table, name: str) -> pa.Table:
    """With the types of the known columns, which Avro and JSON lines leave to be guessed from the rows, if any.

    Tables of schema 1 get the names and types of today's: times as seconds become timestamps, `shard` becomes a list
    of one. Columns that an older table lacks are there and null; bytes that JSON has as base64 are bytes again.

    Raises:
      ValueError: a row of `summaries` that a later minor version wrote, or a column of another type.
    """
    if name == "summaries" and "version" in table.column_names:
        for version in table.column("version").unique().to_pylist():
            require_readable(version)
    table = _of_today(table, name)
    there = {field.name: i for i, field in enumerate(table.schema)}
    fields, columns = list(table.schema), list(table.columns)
    for field in SCHEMAS.get(name, ()):
        if field.name not in there:
            continue
        at = there[field.name]
        try:
            fields[at], columns[at] = field, _cast(columns[at], field.type)
        except (ValueError, pa.ArrowException) as error:
            raise ValueError(f"{name}.{field.name}: must be {field.type}, got {error}") from None
    for i, field in enumerate(SCHEMAS.get(name, ())):
        if field.name not in there:
            fields.insert(i, field)
            columns.insert(i, pa.nulls(len(table), field.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _of_today(table: pa.Table, name: str) -> pa.Table:
    """With the names of this schema's columns.

    Our own columns of a coreset come before kept ones: which of `shard` and `shards` is first says whose schema it is.
    """
    names = table.column_names
    old = _RENAMED.get(name, {})
    if name == "coreset":
        first = [each for each in names if each in ("shard", "shards")][:1]
        old = {**old, **{new: f"{new}_" for new in ("shards", "group_label")}} if first == ["shard"] else {}
    table = table.rename_columns([old.get(column, column) for column in names])
    if name == "coreset" and first == ["shard"]:
        at, shard = names.index("shard"), table.column("shard").combine_chunks().cast(pa.int64())
        ends = pa.array(np.arange(len(shard) + 1, dtype=np.int32))
        table = table.set_column(at, "shards", pa.ListArray.from_arrays(ends, shard))
    return table


def instants(seconds: Iterable[float | None]) -> pa.Array:
    """Seconds since the epoch, (n,), as the tables have times; null for None and for what is no number."""
    micros = [None if s is None or not math.isfinite(s) else round(s * 1e6) for s in seconds]
    return pa.array(micros, pa.int64()).cast(INSTANT)


def in_seconds(table: pa.Table) -> pa.Table:
    """A table whose own times are seconds since the epoch (float64), as everything but the tables has them."""
    own = _WINDOW if "weight_ht" in table.column_names else TIMES  # a coreset has kept columns of any name
    for i, field in enumerate(table.schema):
        if field.type == INSTANT and field.name in own:
            micros = table.column(i).cast(pa.int64())
            table = table.set_column(i, field.name, pc.divide(micros.cast(pa.float64(), safe=False), 1e6))
    return table


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if kind == INSTANT and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return pa.chunked_array([instants(column.to_pylist())])
    if pa.types.is_binary(kind) and pa.types.is_string(column.type):
        decoded = [None if v is None else base64.b64decode(v) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(decoded, kind)])
    return column if column.type == kind else column.cast(kind)


def require_readable(version: Any) -> None:
    """Checks that this version reads what another one has written: one of no later minor version, or none (None).

    Raises:
      ValueError: a later one, or none that beam-coresets has.
    """
    if version is None:
        return
    found, own = (re.match(r"(\d+)\.(\d+)", str(text)) for text in (version, __version__))
    assert own is not None
    if found is None or tuple(map(int, found.groups())) > tuple(map(int, own.groups())):
        raise ValueError(f"summaries: must be written by beam-coresets {own[0]} or older, got version {version}")
