"""Avro messages: a row is one record, of one schema or of those that a registry has."""
import dataclasses
import functools
import io
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets.bounded import avro_schema
from beam_coresets.transforms.planned import avro_records
from beam_coresets.transforms.planned.cells import PlannedColumns, fits
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError, resolve
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.types import avro
from beam_coresets.transforms.reading.types.kinds import is_measure, is_vector
from beam_coresets.transforms.streams.messages.decoding import Array, Decoding
from beam_coresets.transforms.streams.messages.framed import Expected, Framed, SchemaReader, planned_pieces
from beam_coresets.transforms.streams.messages.rows import FEWEST, MalformedError, RowFormat
from beam_coresets.transforms.streams.messages.schemas import AVRO, FRAME, Fetched
from beam_coresets.transforms.streams.times import has_times


@functools.lru_cache(maxsize=64)
def _avro_layout(columns: Columns, schema: str, aside: tuple[str, ...]) -> Layout:
    """The layout of one schema; the columns `aside` are no coordinates unless named."""
    found = _parsed(schema)
    arrow = avro.arrow_schema(found)
    named = {*columns.roles, *(columns.columns or ())}
    arrow = pa.schema([field for field in arrow if field.name in named or field.name not in aside])
    if columns.vector_column is not None and columns.dim is None:
        raise SchemaError("dim: must be given with vector_column for messages, got none")
    return resolve(arrow, columns, found.get("name", "schema"))


_parsed = functools.lru_cache(maxsize=16)(avro_schema)


def read_schema(path: str) -> str:
    """The text of an Avro schema file (.avsc), on any Beam filesystem.

    Raises:
      ValueError: no Avro record schema in it.
    """
    with FileSystems.open(path) as file:
        text = str(file.read().decode("utf-8", "replace"))
    avro_schema(text)
    return text


def _record(value: bytes, schema: Any) -> Any:
    """One schemaless-encoded record; raises MalformedError where the bytes are none, or more than one."""
    stream = io.BytesIO(value)
    try:
        record = fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:  # bytes that others wrote can end in any of the library's own errors
        raise MalformedError(f"{type(error).__name__} in the record") from error
    if (used := stream.tell()) != len(value):
        raise MalformedError(f"must be one record of {used} bytes, got {len(value)}")
    return record


@dataclasses.dataclass(frozen=True)
class Avro(RowFormat):
    """An Avro record a message, schemaless-encoded; all have the same schema.

    Attributes:
      schema: the writer's schema as JSON text.
    """

    name = "avro"
    schema: str = ""

    def __post_init__(self) -> None:
        self._check_fields(None)  # which numbers are coordinates also depends on the time's column

    def _check_fields(self, time: str | None) -> None:
        names = [field["name"] for field in _parsed(self.schema)["fields"]]
        for option, name in (("time", time), ("key_column", self._key_column())):
            if name is not None and name not in names:
                have = ", ".join(names)
                raise SchemaError(f"{option}: must be among the fields of the schema ({have}), got {name!r}")

    def _layout(self, time: str | None) -> Layout:
        self._check_fields(time)
        key = self._key_column()
        return _avro_layout(self.columns, self.schema, tuple(name for name in (time, key) if name is not None))

    def _pieces(self, decoding: Decoding, layout: Layout) -> list[Batch]:
        schema, rest = _parsed(self.schema), decoding.rest()
        values = decoding.values(rest)
        pieces: list[Batch] = []
        if len(rest) >= FEWEST and (plan := _avro_plan(self, decoding.clock.column)) is not None:
            pieces, left = planned_pieces(self, _AvroReader(schema, plan), values, rest, decoding, layout)
            values, rest = [values[i] for i in left.tolist()], rest[left]
        records, rows = [], []
        for i, value in zip(rest.tolist(), values, strict=True):
            try:
                records.append(_record(value, schema))
                rows.append(i)
            except MalformedError as error:
                decoding.refuse(i, f"unparsable: {error}", text=value[:250].hex())
        return pieces + self._safely(records, np.array(rows, np.int64), decoding, layout)


@functools.lru_cache(maxsize=64)
def _avro_plan(form: Avro, time: str | None) -> avro_records.AvroPlan | None:
    return _plan(form, _parsed(form.schema), form._layout(time), time)


class _AvroReader(SchemaReader):
    """Records of one schema, behind `skip` bytes."""

    def __init__(self, schema: Any, plan: avro_records.AvroPlan | None, skip: int = 0) -> None:
        self.skip, self.planned = skip, plan is not None
        self._schema, self._plan = schema, plan

    def record(self, value: bytes) -> dict[str, Any]:
        found: dict[str, Any] = _record(value[self.skip :], self._schema)
        return found

    def cells(self, data: Array, bounds: Array) -> PlannedColumns:
        assert self._plan is not None
        return avro_records.read_joined(self._plan, data, bounds, self.skip)


@dataclasses.dataclass(frozen=True)
class AvroRegistry(Framed):
    """An Avro record a message behind its schema's number."""

    name = "avro-registry"
    kind = AVRO

    def _parsed(self, fetched: Fetched) -> Any:
        return avro_schema(fetched.text)

    def _expected(self, schema: Any, layout: Layout, time: str | None) -> Expected:
        fields = avro.arrow_schema(schema)
        kinds = {field.name: field.type for field in fields}
        return Expected(
            {name: str(kind) for name, kind in kinds.items()},
            frozenset(name for name, kind in kinds.items() if is_measure(kind) or kind == pa.string()),
            frozenset(name for name, kind in kinds.items() if is_vector(kind)),
            frozenset(name for name, kind in kinds.items() if pa.types.is_nested(kind)),
        )

    def _reading_of(self, schema: Any, frame: bytes, layout: Layout, time: str | None) -> SchemaReader:
        return _AvroReader(schema, _plan(self, schema, layout, time), FRAME)


def _plan(form: RowFormat, schema: Any, layout: Layout, time: str | None) -> avro_records.AvroPlan | None:
    """The plan for what a format needs of a schema's records; None where it has none or a type needs another look."""
    key = form._key_column()
    plan = avro_records.plan_of(schema, {*layout.needed, *(name for name in (time, key) if name is not None)})
    if plan is None:
        return None
    kept = set(layout.options.keep_columns).difference(layout.used)
    wanted = [(field.name, field.type, field.name in kept) for field in layout.schema]
    wanted += [] if key is None else [(key, pa.string(), False)]
    if not all(fits(plan.kinds.get(name, pa.null()), kind, only) for name, kind, only in wanted):
        return None
    timely = time is None or has_times(plan.kinds.get(time, pa.null()))
    return plan if timely else None
