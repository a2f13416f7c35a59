"""The tables that leave the system, as Arrow, and the file formats they are written in.

`summaries` has a row a window, `centers` a row a center, `coreset` a row a sampled point. All three begin with the same
four columns, so they join on them: window_start and window_end (seconds since the epoch, null outside windows), key,
revision.
"""
from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Mapping
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = ("avro", "parquet", "jsonl")
TABLES = ("summaries", "centers", "coreset")

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
    ("points", pa.int64()),
    ("coreset_points", pa.int64()),
    ("centers", pa.int64()),
    ("degraded", pa.bool_()),
    ("k", pa.int64()),
    ("z", pa.float64()),
    ("metric", pa.string()),
    ("method", pa.string()),
    ("recovery", pa.string()),
    ("scheme", pa.string()),
    ("replication", pa.int64()),
    ("seed", pa.int64()),
    ("version", pa.string()),
])

CENTERS = pa.schema([
    *_IDENTITY,
    ("index", pa.int64()),
    ("coordinates", pa.list_(pa.float64())),
    ("weight", pa.float64()),
    ("cost", pa.float64()),
    ("representative_id", pa.string()),
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

SCHEMAS: Mapping[str, pa.Schema] = {"summaries": SUMMARIES, "centers": CENTERS, "coreset": CORESET}


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
        for row in _plain_rows(table, binary=False):
            out.write(json.dumps(row, allow_nan=True).encode() + b"\n")
    else:
        raise ValueError(f"format: must be one of {', '.join(FORMATS)}, got {form!r}")
    return out.getvalue()


def decode(data: bytes, form: str) -> pa.Table:
    """The inverse of `encode`."""
    source = io.BytesIO(data)
    if form == "parquet":
        return pq.read_table(source)
    if form == "avro":
        return pa.Table.from_pylist(list(fastavro.reader(source)))
    if form == "jsonl":
        return pa.Table.from_pylist([json.loads(line) for line in source])
    raise ValueError(f"format: must be one of {', '.join(FORMATS)}, got {form!r}")


def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    """The Avro record schema of an Arrow schema; every field may be null, what Avro lacks is text."""
    fields = [{"name": f.name, "type": ["null", _avro_type(f.type)], "default": None} for f in schema]
    return fastavro.parse_schema({"type": "record", "name": "Row", "namespace": "beam_coresets", "fields": fields})


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _avro_type(kind: pa.DataType) -> Any:
    if _is_list(kind):
        items = _avro_type(kind.value_type)  # numbers missing from a list of numbers are NaN, as plain doubles are faster
        return {"type": "array", "items": items if items == "double" else ["null", items]}
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "long"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    return "string"


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """A table's rows as dicts of plain Python values; lists of numbers by way of NumPy, as there may be millions."""
    columns = [_plain_column(table.column(i).combine_chunks()) for i in range(table.num_columns)]
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain_column(column: pa.Array) -> list[Any]:
    if pa.types.is_list(column.type) and not column.null_count and not column.flatten().null_count:
        values = column.flatten().to_numpy(zero_copy_only=False).tolist()
        ends = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist()
        return [values[low:high] for low, high in itertools.pairwise(ends)]
    plain: list[Any] = column.to_pylist()
    return plain


def _portable_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows for Avro and JSON: what they have no type for becomes text."""
    for i, field in enumerate(table.schema):
        if _avro_type(field.type) == "string" and not pa.types.is_string(field.type):
            text = [None if v is None else str(v) for v in table.column(i).to_pylist()]
            table = table.set_column(i, field.name, pa.array(text, pa.string()))
    return plain_rows(table)
