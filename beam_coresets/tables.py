"""The file formats that tables are written in and read from: Parquet, Avro and JSON lines."""
from __future__ import annotations

import bisect
import functools
import io
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from beam_coresets import __version__, bounded, values
from beam_coresets.table_schemas import INSTANT, SCHEMA_VERSION, TIMES

TABLE_FORMATS = ("parquet", "avro", "jsonl")
MANY_ROWS = 1_000
ROW_GROUP = 65_536  # rows of a Parquet file with statistics of their own
ROW_GROUP_BYTES = 1 << 25  # of memory, the same where rows are large
_WRITTEN_BY = {"schema_version": str(SCHEMA_VERSION), "beam_coresets": __version__}


def encode(table: pa.Table, form: str) -> bytes:
    """A whole file of the given format; equal tables give equal bytes.

    Raises:
      ValueError: an unknown format.
    """
    out = io.BytesIO()
    if form == "parquet":
        repeated = [f.name for f in table.schema if pa.types.is_string(f.type)]
        codec = "zstd" if len(table) >= MANY_ROWS else "snappy"  # which a column of a few rows is opened faster with
        pq.write_table(
            table.replace_schema_metadata(_WRITTEN_BY), out, compression=codec, use_dictionary=repeated,
            row_group_size=ROW_GROUP,
        )  # fmt: skip
    elif form == "avro":
        fastavro.writer(
            out, avro_schema(table.schema), _portable_rows(table), "deflate", metadata=_WRITTEN_BY,
            sync_marker=b"beam-coresets-01",
        )  # fmt: skip
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


class TableWriter:
    """A file of one of the formats, which tables are added to one by one; each is whole in one row group of Parquet.

    Args:
      out: where it goes. form: "parquet", "avro" or "jsonl". schema: of all the tables.
    """

    def __init__(self, out: BinaryIO, form: str, schema: pa.Schema) -> None:
        self._out, self._form, self._waiting, self._rows, self._size = out, form, list[pa.Table](), 0, 0
        self._schema = schema.with_metadata(_WRITTEN_BY)
        if form == "parquet":
            repeated = [f.name for f in schema if pa.types.is_string(f.type)]
            self._parquet = pq.ParquetWriter(out, self._schema, compression="zstd", use_dictionary=repeated)
        elif form == "avro":
            self._avro = fastavro.write.Writer(
                out, avro_schema(schema), "deflate", metadata=_WRITTEN_BY, sync_marker=b"beam-coresets-01"
            )

    def add(self, table: pa.Table) -> None:
        """Adds the rows of a table."""
        if self._form == "jsonl":
            self._out.writelines(line + b"\n" for line in json_lines(table))
        elif self._form == "avro":
            for row in _portable_rows(table):
                self._avro.write(row)
        else:
            self._waiting.append(table)
            self._rows, self._size = self._rows + len(table), self._size + table.nbytes
            if self._rows >= ROW_GROUP or self._size >= ROW_GROUP_BYTES:
                self._write()

    def close(self) -> None:
        """Writes what is left."""
        if self._form == "avro":
            self._avro.flush()
        elif self._form == "parquet":
            self._write()
            self._parquet.close()

    def _write(self) -> None:
        if self._rows:
            table = pa.concat_tables(self._waiting).cast(self._schema)
            self._parquet.write_table(table, row_group_size=max(1, len(table)))
        self._waiting, self._rows, self._size = [], 0, 0


class StoredRows:
    """The rows of a file that a `TableWriter` has written; the part that was read last is kept.

    Args:
      data: the file's content. form: its format.
    """

    def __init__(self, data: pa.Buffer, form: str) -> None:
        self._data, self._form = data, form
        self._kept: tuple[int, pa.Table] | None = None

    def parts(self) -> Iterator[pa.Table]:
        """All rows, in parts as they were written: none has a piece of a table that was added."""
        for number in range(max(1, len(self._edges) - 1)):
            yield self._part(number)

    def between(self, low: int, high: int) -> pa.Table:
        """The rows of a table that was added, from the first to before the last."""
        number = min(bisect.bisect_right(self._edges, low), max(1, len(self._edges) - 1)) - 1
        first = self._edges[number]
        return self._part(number).slice(low - first, high - low)

    @functools.cached_property
    def _edges(self) -> list[int]:
        """The rows at which parts begin that can be read alone, and the number of rows."""
        if self._form != "parquet":
            return [0]
        about = pq.ParquetFile(pa.BufferReader(self._data)).metadata
        return list(itertools.accumulate((about.row_group(i).num_rows for i in range(about.num_row_groups)), initial=0))

    def _part(self, number: int) -> pa.Table:
        kept = self._kept
        if kept is None or kept[0] != number:
            self._kept = kept = None  # before the next one takes memory
            if len(self._edges) == 1:
                table = decode(self._data.to_pybytes(), self._form)
            else:
                table = pq.ParquetFile(pa.BufferReader(self._data)).read_row_group(number, use_threads=False)
            self._kept = kept = number, table
        return kept[1]


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
        try:
            yield json.dumps(row, allow_nan=False).encode()
        except ValueError:
            yield json.dumps(_finite(row)).encode()


def _finite(value: Any) -> Any:
    """A value with null for what is not finite, however deep."""
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def avro_messages(table: pa.Table) -> Iterator[bytes]:
    """The rows as Avro single-object encodings: the schema's fingerprint (of `avro_schema`), then the row."""
    schema = avro_schema(table.schema)
    fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
    for row in _portable_rows(table):
        out = io.BytesIO(b"\xc3\x01" + bytes.fromhex(fingerprint))
        out.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(out, schema, row)
        yield out.getvalue()


def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    """The Avro record schema of an Arrow schema; every field may be null, what Avro lacks is text."""
    fields = [{"name": f.name, "type": ["null", _avro_field(f)], "default": None} for f in schema]
    return fastavro.parse_schema({"type": "record", "name": "Row", "namespace": "beam_coresets", "fields": fields})


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _avro_field(field: pa.Field) -> Any:
    """Our own times are times there; kept columns that Avro may lack a type for are text."""
    own = field.type == INSTANT and field.name in TIMES
    return {"type": "long", "logicalType": "timestamp-micros"} if own else _avro_type(field.type)


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
    for name, column in zip(table.column_names, table.columns, strict=True):
        if binary and name in TIMES and column.type == INSTANT:
            columns.append(column.cast(pa.int64()).to_pylist())
        elif _needs_change(column.type) or _has_gaps(column):
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
