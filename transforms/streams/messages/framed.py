"""Messages behind Confluent's frame: a zero byte and the number of their schema in a registry, 4 bytes."""
import abc
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from beam_coresets.transforms.planned.cells import PlannedColumns
from beam_coresets.transforms.planned.texts import begin_with, joined
from beam_coresets.transforms.reading.columns import Layout
from beam_coresets.transforms.reading.coordinates import Batch, OneByOne
from beam_coresets.transforms.streams.messages.decoding import Array, Decoding
from beam_coresets.transforms.streams.messages.rows import FEWEST, KEY, TIME, MalformedError, NamedRows, RowFormat
from beam_coresets.transforms.streams.messages.schemas import (
    FRAME,
    Fetched,
    MissingSchemaError,
    RegistryUnavailableError,
    SchemaRegistry,
    Schemas,
    UnknownSchemaError,
    schema_number,
)
from beam_coresets.transforms.streams.times import event_times

LOG = logging.getLogger(__name__)


class SchemaReader(abc.ABC):
    """How messages of one schema are read: one by one, and by a plan where they have one.

    Attributes:
      skip: bytes before what is read.
      planned: whether there is a plan.
    """

    skip: int = 0
    planned: bool = False

    @abc.abstractmethod
    def record(self, value: bytes) -> dict[str, Any]:
        """The fields of a message; raises MalformedError."""

    @abc.abstractmethod
    def cells(self, data: Array, bounds: Array) -> PlannedColumns:
        """What the plan reads of the messages data[bounds[i]:bounds[i + 1]], of (b,) uint8."""


def planned_pieces(
    form: RowFormat, reading: SchemaReader, messages: list[bytes], rows: Array, decoding: Decoding, layout: Layout,
    whole: tuple[Array, Array] | None = None,
) -> tuple[list[Batch], Array]:
    """The messages, `joined` as a `whole`, that their plan reads, as a batch, and which (n,) are left."""
    whole = joined(messages) if whole is None else whole
    if whole is None:
        return [], np.arange(len(messages))
    found = reading.cells(*whole)
    columns = {field.name: found.fitted(field.name, field.type) for field in layout.schema}
    unparsable = {}
    if (time := decoding.clock.column) is not None:
        times = found.column(time)
        columns[TIME] = pa.array(event_times(pa.nulls(len(found.rows)) if times is None else times))
    if (key := form._key_column()) is not None:
        columns[KEY] = found.fitted(key, pa.string())
        unparsable[KEY] = np.zeros(len(found.rows), bool)
    raw = OneByOne(lambda i: form._cells([reading.record(messages[i])], layout)[0], found.rows)
    source = decoding.messages.source
    batch = Batch(pa.record_batch(columns), rows[found.rows], source, 0, unparsable=unparsable, raw=raw)
    return [batch], np.delete(np.arange(len(messages)), found.rows)


class Expected(NamedTuple):
    """What a schema says of its fields: names, words for their types, and which of them hold what."""

    types: Mapping[str, str]
    numbers: frozenset[str]
    vectors: frozenset[str]
    others: frozenset[str]  # neither a value nor a vector


@dataclasses.dataclass(frozen=True)
class Framed(NamedRows):
    """Attributes:
      registry: where schemas are fetched, once a process.
    """

    kind: ClassVar[str]
    registry: SchemaRegistry = dataclasses.field(default_factory=lambda: SchemaRegistry("http://localhost:8081"))

    @functools.cached_property
    def _schemas(self) -> Schemas:
        return Schemas(self.registry, self.kind, self._parsed)

    @functools.cached_property
    def _readings(self) -> dict[tuple[bytes, str | None], "SchemaReader | str"]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_schemas", "_readings")}

    @abc.abstractmethod
    def _parsed(self, fetched: Fetched) -> Any:
        """What `_expected` and `_reading_of` take for a schema; raises ValueError where it is none."""

    @abc.abstractmethod
    def _expected(self, schema: Any, layout: Layout, time: str | None) -> Expected | None:
        """What the newest schema says; None where it says nothing that could be checked."""

    def _try(self, schema: Any, layout: Layout, time: str | None) -> None:
        """Raises ValueError where messages of a schema that has all columns can't be read."""

    def _reading_of(self, schema: Any, frame: bytes, layout: Layout, time: str | None) -> SchemaReader:
        """How messages of a schema that begin with `frame` are read; raises ValueError where they can't be."""
        raise NotImplementedError

    def _frame(self, value: bytes) -> bytes:
        """The bytes that say what is behind them; raises MalformedFrameError."""
        schema_number(value)
        return value[:FRAME]

    def check_topic(self, topic: str, time: str | None) -> None:
        subject = f"{topic}-value"
        try:
            schema = self._schemas.latest(subject)
        except MissingSchemaError:  # subjects may have other names
            return
        except UnknownSchemaError as error:
            raise ValueError(f"message_format: must be that of the schema, got {self.name!r} ({error})") from None
        except RegistryUnavailableError as error:
            LOG.warning("%s: is not checked against its schema (%s)", topic, error)
            return
        layout = self._layout(time)
        try:
            if (expected := self._expected(schema, layout, time)) is not None:
                self._check(expected, layout, time, subject)
                self._try(schema, layout, time)
        except ValueError:
            raise
        except Exception as error:  # whatever a library says about a schema that others wrote
            raise ValueError(f"message_format: must be that of the schema of {subject}, got {error}") from error

    def _check(self, expected: Expected, layout: Layout, time: str | None, subject: str) -> None:
        """Raises ValueError where a schema lacks a column, or has another type for it."""
        options, wants = layout.options, [("time", time), ("key_column", self._key_column())]
        vector = options.vector_column
        wants += [("columns" if vector is None else "vector_column", name) for name in layout.coordinates]
        wants += [(role, getattr(options, role)) for role in ("weight_column", "id_column", "group_column")]
        wants += [("keep_columns", name) for name in options.keep_columns]
        for role, name in wants:
            if name is None:
                continue
            if name not in expected.types:
                have = ", ".join(expected.types)
                raise ValueError(f"{role}: must be among the fields of the schema of {subject} ({have}), got {name!r}")
            fitting, what = True, "a plain value"
            if name == vector:
                fitting, what = name in expected.vectors, "repeated numbers"
            elif role in ("columns", "weight_column"):
                fitting, what = name in expected.numbers, "a number"
            elif name in expected.vectors or (name in expected.others and role != "keep_columns"):
                fitting = role == "keep_columns"
            if not fitting:
                raise ValueError(
                    f"{role}: must be {what} in the schema of {subject}, got {expected.types[name]} {name}")

    def _pieces(self, decoding: Decoding, layout: Layout) -> list[Batch]:
        rest = decoding.rest()
        values = decoding.values(rest)
        pieces: list[Batch] = []
        if len(rest) >= FEWEST:
            pieces, left = self._by_frame(values, rest, decoding, layout)
            values, rest = [values[i] for i in left.tolist()], rest[left]
        records, rows = [], []
        for i, value in zip(rest.tolist(), values, strict=True):
            try:
                records.append(self._reading(self._frame(value), layout, decoding.clock.column).record(value))
                rows.append(i)
            except (MalformedError, UnknownSchemaError) as error:
                decoding.refuse(i, f"unparsable: {error}", text=value[:250].hex())
        return pieces + self._safely(records, np.array(rows, np.int64), decoding, layout)

    def _by_frame(
        self, values: list[bytes], rows: Array, decoding: Decoding, layout: Layout
    ) -> tuple[list[Batch], Array]:
        """A batch for each frame that has a plan, and which of the values (n,) are left."""
        first, whole = self._frame_or_none(values[0]), joined(values)
        if first is not None and whole is not None and begin_with(*whole, np.frombuffer(first, np.uint8)):
            reading = self._planned_or_none(first, layout, decoding)
            if reading is None:
                return [], np.arange(len(values))
            return planned_pieces(self, reading, values, rows, decoding, layout, whole)
        groups: dict[bytes | None, list[int]] = {}
        for i, value in enumerate(values):
            groups.setdefault(self._frame_or_none(value), []).append(i)
        pieces, left = [], groups.pop(None, [])
        for frame, mine in groups.items():
            reading = self._planned_or_none(frame, layout, decoding) if frame and len(mine) >= FEWEST else None
            if reading is not None:
                found, others = planned_pieces(self, reading, [values[i] for i in mine], rows[mine], decoding, layout)
                pieces += found
                mine = [mine[i] for i in others]
            left += mine
        return pieces, np.array(sorted(left), np.int64)

    def _planned_or_none(self, frame: bytes, layout: Layout, decoding: Decoding) -> SchemaReader | None:
        with contextlib.suppress(MalformedError, UnknownSchemaError):
            reading = self._reading(frame, layout, decoding.clock.column)
            return reading if reading.planned else None
        return None

    def _frame_or_none(self, value: bytes) -> bytes | None:
        try:
            return self._frame(value)
        except MalformedError:
            return None

    def _reading(self, frame: bytes, layout: Layout, time: str | None) -> SchemaReader:
        schema = self._schemas.get(schema_number(frame))
        found = self._readings.get((frame, time))
        if found is None:
            try:
                found = self._reading_of(schema, frame, layout, time)
            except Exception as error:  # whatever a library says about a schema that others wrote
                found = f"schema {schema_number(frame)}: {str(error)[:200]}"
            self._readings[frame, time] = found
        if isinstance(found, str):
            raise MalformedError(found)
        return found
