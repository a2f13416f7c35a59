"""Avro messages: a row is one record, of one schema or of those that a registry has."""
import dataclasses
import functools
import io
from typing import Any, NamedTuple

import fastavro
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets.bounded import avro_schema
from beam_coresets.transforms.planned import avro_records
from beam_coresets.transforms.planned.cells import fits
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError, resolve
from beam_coresets.transforms.reading.coordinates import Batch, OneByOne
from beam_coresets.transforms.reading.types import avro
from beam_coresets.transforms.streams.messages.decoding import Array, Decoding
from beam_coresets.transforms.streams.messages.registry import SchemaCache, SchemaRegistry, UnknownSchemaError
from beam_coresets.transforms.streams.messages.rows import FEWEST, KEY, TIME, MalformedError, NamedRows, RowFormat
from beam_coresets.transforms.streams.times import event_times, has_times

_FRAME = 5  # bytes before a record: a zero, and the number of its schema


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
            pieces, left = _planned(self, _Read(plan, schema), values, rest, decoding, layout)
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


@dataclasses.dataclass(frozen=True)
class AvroRegistry(NamedRows):
    """An Avro record a message behind Confluent's frame: a zero byte and the number of its schema, 4 bytes.

    Attributes:
      registry: where schemas are fetched, once a process.
    """

    name = "avro-registry"
    registry: SchemaRegistry = dataclasses.field(default_factory=lambda: SchemaRegistry("http://localhost:8081"))

    @functools.cached_property
    def _schemas(self) -> SchemaCache:
        return SchemaCache(self.registry)

    @functools.cached_property
    def _reads(self) -> dict[tuple[int, str | None], "_Read"]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_schemas", "_reads")}

    def _pieces(self, decoding: Decoding, layout: Layout) -> list[Batch]:
        rest = decoding.rest()
        values = decoding.values(rest)
        pieces: list[Batch] = []
        if len(rest) >= FEWEST:
            pieces, left = self._by_schema(values, rest, decoding, layout)
            values, rest = [values[i] for i in left.tolist()], rest[left]
        records, rows = [], []
        for i, value in zip(rest.tolist(), values, strict=True):
            try:
                records.append(_record(value[_FRAME:], self._schemas.get(_number(value))))
                rows.append(i)
            except (MalformedError, UnknownSchemaError) as error:
                decoding.refuse(i, f"unparsable: {error}", text=value[:250].hex())
        return pieces + self._safely(records, np.array(rows, np.int64), decoding, layout)

    def _by_schema(
        self, values: list[bytes], rows: Array, decoding: Decoding, layout: Layout
    ) -> tuple[list[Batch], Array]:
        """A batch for each schema that has a plan, and which of the values (n,) are left."""
        frames: dict[bytes, list[int]] = {}
        for i, value in enumerate(values):
            frames.setdefault(value[:_FRAME], []).append(i)
        pieces, left = [], []
        for frame, mine in frames.items():
            read = self._read(frame, layout, decoding.clock.column) if len(mine) >= FEWEST else None
            if read is not None and read.plan is not None:
                own = values if len(frames) == 1 else [values[i] for i in mine]
                found, others = _planned(self, read, own, rows[mine], decoding, layout, _FRAME)
                pieces += found
                mine = [mine[i] for i in others]
            left += mine
        return pieces, np.array(sorted(left), np.int64)

    def _read(self, frame: bytes, layout: Layout, time: str | None) -> "_Read | None":
        try:
            number = _number(frame)
            schema = self._schemas.get(number)
        except (MalformedError, UnknownSchemaError):
            return None
        if (number, time) not in self._reads:
            self._reads[number, time] = _Read(_plan(self, schema, layout, time), schema)
        return self._reads[number, time]


def _number(value: bytes) -> int:
    """The number of the schema in a message's frame."""
    if len(value) < _FRAME or value[0]:
        raise MalformedError("must begin with a zero byte and a schema number")
    return int.from_bytes(value[1:_FRAME], "big")


class _Read(NamedTuple):
    """How records of one schema are read: by a plan, or else by the library."""

    plan: avro_records.AvroPlan | None
    schema: Any


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


def _planned(
    form: RowFormat, read: _Read, messages: list[bytes], rows: Array, decoding: Decoding, layout: Layout, skip: int = 0
) -> tuple[list[Batch], Array]:
    """The records behind `skip` bytes of the messages that their plan reads, as a batch, and which (n,) are left."""
    assert read.plan is not None
    found = avro_records.read_each(read.plan, messages, skip)
    if found is None:
        return [], np.arange(len(messages))
    columns = {field.name: found.fitted(field.name, field.type) for field in layout.schema}
    unparsable = {}
    if (time := decoding.clock.column) is not None:
        times = found.column(time)
        columns[TIME] = pa.array(event_times(pa.nulls(len(found.rows)) if times is None else times))
    if (key := form._key_column()) is not None:
        columns[KEY] = found.fitted(key, pa.string())
        unparsable[KEY] = np.zeros(len(found.rows), bool)
    raw = OneByOne(lambda i: form._cells([_record(messages[i][skip:], read.schema)], layout)[0], found.rows)
    source = decoding.messages.source
    batch = Batch(pa.record_batch(columns), rows[found.rows], source, 0, unparsable=unparsable, raw=raw)
    return [batch], np.delete(np.arange(len(messages)), found.rows)
