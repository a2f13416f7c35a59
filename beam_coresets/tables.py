"""The tables that leave the system, as Arrow, and the file formats they are written in.

`summaries` has a row a window, `centers` a row a center, `coreset` a row a sampled point. All three begin with the same
four columns, so they join on them: window_start and window_end (seconds since the epoch, null outside windows), key,
revision.

In `summaries`, `reason` says why the window was decided then (all, deadline, cap, or batch), `decided_at` when
(seconds since the epoch; null in batch), `partial` counts the buckets that are answered only in part, and `evidence`
is what it takes to put this decision together with others. `summary` is what the shards sent (coreset, local_centers,
pca), `r` and `affine` say that centers are subspaces, `constraint` what the clusters had to keep to; `factor` is the
approximation factor where one is proved, `alpha` what choosing centers among the candidates costs, as measured.
`columns` names the coordinates in their order, or the one column of vectors; null where the input has no names.
In `centers`, a row with a null `index`, null coordinates and weight 0 is no center: it says that one of the window
before has ended, and which one it was `merged_into`. Where centers are subspaces, `coordinates` is a point on it and
`basis` its r orthonormal directions one after another (r * d numbers).
In `coreset`, points are input rows, unless the shards sent something else: local centers, whose `id` is that of the
nearest row, or points that have the moments of a sketch, whose `id` means nothing. They add up to less than the cost:
`cost` and its interval in `summaries` have what they leave out.

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
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from beam_coresets import __version__, bounded, values

TABLE_FORMATS = ("avro", "parquet", "jsonl")
TABLES = ("summaries", "centers", "coreset")
ALL_TABLES = (*TABLES, "candidates", "outliers")

_IDENTITY = [
    ("window_start", pa.float64()),
    ("window_end", pa.float64()),
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
    ("decided_at", pa.float64()),
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
    ("constraint", pa.string()),
    ("factor", pa.float64()),
    ("alpha", pa.float64()),
    ("outliers", pa.float64()),
    ("threshold", pa.float64()),
    ("evidence", pa.binary()),
    ("columns", pa.list_(pa.string())),
])

CENTERS = pa.schema([
    *_IDENTITY,
    ("index", pa.int64()),
    ("coordinates", pa.list_(pa.float64())),
    ("weight", pa.float64()),
    ("cost", pa.float64()),
    ("representative_id", pa.string()),
    ("center_id", pa.string()),
    ("born", pa.float64()),
    ("split_from", pa.string()),
    ("merged_into", pa.string()),
    ("basis", pa.list_(pa.float64())),
])

CORESET = pa.schema([
    *_IDENTITY,
    ("id", pa.string()),
    ("coordinates", pa.list_(pa.float64())),
    ("weight", pa.float64()),
    ("weight_ht", pa.float64()),
    ("bucket", pa.int64()),
    ("shard", pa.int64()),
    ("group", pa.string()),
])

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

SCHEMAS: Mapping[str, pa.Schema] = {
    "summaries": SUMMARIES,
    "centers": CENTERS,
    "coreset": CORESET,
    "candidates": CANDIDATES,
    "outliers": OUTLIERS,
}


def encode(table: pa.Table, form: str) -> bytes:
    """A whole file of the given format; equal tables give equal bytes.

    Raises:
      ValueError: an unknown format.
    """
    out = io.BytesIO()
    if form == "parquet":
        pq.write_table(table, out)
    elif form == "avro":
        fastavro.writer(
            out, avro_schema(table.schema), _portable_rows(table), sync_marker=b"beam-coresets-01"
        )
    elif form == "jsonl":
        out.writelines(line + b"\n" for line in json_lines(table))
    else:
        raise ValueError(f"format: must be one of {', '.join(TABLE_FORMATS)}, got {form!r}")
    return out.getvalue()


def decode(data: bytes, form: str) -> pa.Table:
    """The inverse of `encode`, for bytes that others may have written.

    Raises:
      ValueError: an unknown format, or (as do the libraries, by their own errors) bytes that are not of it.
    """
    source = io.BytesIO(data)
    if form == "parquet":
        return _parquet(source, bounded.most(10 * len(data)))
    if form == "avro":
        return pa.Table.from_pylist(list(bounded.AvroReader(source)))
    if form == "jsonl":
        return pa.Table.from_pylist([json.loads(line) for line in source])
    raise ValueError(f"format: must be one of {', '.join(TABLE_FORMATS)}, got {form!r}")


def _parquet(source: io.BytesIO, limit: int) -> pa.Table:
    """All rows, where they take at most `limit` bytes: a few bytes of Parquet can stand for any number of them."""
    file, batches, size = pq.ParquetFile(source), [], 0
    for batch in file.iter_batches(use_threads=False):  # windows are small: threads take longer to be woken
        batches.append(batch)
        size += batch.nbytes
        if size > limit:
            raise ValueError(f"parquet: must expand to at most {limit:,} bytes, got more")
    return pa.Table.from_batches(batches, file.schema_arrow)


def json_lines(table: pa.Table) -> Iterator[bytes]:
    """The rows as JSON objects: what JSON has no type for is text, bytes are base64, what is not finite is null."""
    for row in _portable_rows(table, binary=False):
        strict = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        yield json.dumps(strict).encode()


def avro_messages(table: pa.Table) -> Iterator[bytes]:
    """The rows as Avro single-object encodings: the schema's fingerprint (of `avro_schema`), then the row."""
    schema = avro_schema(table.schema)
    fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
    for row in _portable_rows(table):
        out = io.BytesIO(b"\xc3\x01" + bytes.fromhex(fingerprint))
        out.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(out, schema, row)
        yield out.getvalue()


def typed(table: pa.Table, name: str) -> pa.Table:
    """With the types of the known columns, which Avro and JSON lines leave to be guessed from the rows, if any.

    Columns that a table of an older version lacks are there and null; bytes that JSON has as base64 are bytes again.

    Raises:
      ValueError: a row of `summaries` that a later minor version wrote, or a column of another type.
    """
    if name == "summaries" and "version" in table.column_names:
        for version in table.column("version").unique().to_pylist():
            require_readable(version)
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
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, table.schema.metadata))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
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


def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    """The Avro record schema of an Arrow schema; every field may be null, what Avro lacks is text."""
    fields = [{"name": f.name, "type": ["null", _avro_type(f.type)], "default": None} for f in schema]
    return fastavro.parse_schema({"type": "record", "name": "Row", "namespace": "beam_coresets", "fields": fields})


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _avro_type(kind: pa.DataType) -> Any:
    if _is_list(kind):
        items = _avro_type(kind.value_type)  # reals missing from a list are NaN, as plain doubles are read faster
        return {"type": "array", "items": items if items == "double" else ["null", items]}
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "long"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "bytes"
    return "string"


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """A table's rows as dicts of plain Python values; lists of numbers by way of NumPy, as there may be millions."""
    return _rows(table, [_plain_column(column.combine_chunks()) for column in table.columns])


def _rows(table: pa.Table, columns: list[list[Any]]) -> list[dict[str, Any]]:
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain_column(column: pa.Array) -> list[Any]:
    if pa.types.is_list(column.type) and not column.null_count and not column.flatten().null_count:
        values = column.flatten().to_numpy(zero_copy_only=False).tolist()
        ends = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist()
        return [values[low:high] for low, high in itertools.pairwise(ends)]
    plain: list[Any] = column.to_pylist()
    return plain


def _portable_rows(table: pa.Table, binary: bool = True) -> list[dict[str, Any]]:
    """Rows for Avro (`binary`) and JSON: bytes are bytes and base64, records and maps JSON text and objects.

    All else that they have no type for is text.
    """
    columns = []
    for column in table.columns:
        if _needs_change(column.type) or _has_gaps(column):
            columns.append([_portable(value, column.type, binary) for value in values.portable(column, binary)])
        else:
            columns.append(_plain_column(column.combine_chunks()))
    return _rows(table, columns)


def _needs_change(kind: pa.DataType) -> bool:
    """Whether Arrow's Python values of this type are not all portable already."""
    if _is_list(kind):
        return _is_list(kind.value_type) or _needs_change(kind.value_type)
    return _avro_type(kind) in ("string", "bytes") and not pa.types.is_string(kind)


def _has_gaps(column: pa.ChunkedArray) -> bool:
    """Whether lists of reals miss some."""
    lists = _is_list(column.type) and pa.types.is_floating(column.type.value_type)
    return bool(lists and any(chunk.flatten().null_count for chunk in column.chunks))


def _portable(value: Any, kind: pa.DataType, binary: bool) -> Any:
    """A value as `values.portable` has it: Avro's has reals and nothing else in lists of reals, and JSON in text."""
    if value is None:
        return None
    if _is_list(kind):
        missing = float("nan") if pa.types.is_floating(kind.value_type) else None
        return [missing if v is None else _portable(v, kind.value_type, binary) for v in value]
    return values.text(value) if binary and _avro_type(kind) == "string" else value
