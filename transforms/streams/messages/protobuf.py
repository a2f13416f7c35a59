"""Protobuf messages: a row is one message of a type that a registry's schema has."""
import dataclasses
from typing import Any

import pyarrow as pa

from beam_coresets.transforms.planned import protobuf_messages
from beam_coresets.transforms.planned.cells import PlannedColumns, fits
from beam_coresets.transforms.reading.columns import Layout
from beam_coresets.transforms.streams.messages.decoding import Array
from beam_coresets.transforms.streams.messages.framed import Expected, Framed, SchemaReader
from beam_coresets.transforms.streams.messages.protobuf_types import MessageReader, ProtobufFile
from beam_coresets.transforms.streams.messages.rows import MalformedError
from beam_coresets.transforms.streams.messages.schemas import FRAME, PROTOBUF, Fetched, schema_number
from beam_coresets.transforms.streams.times import has_times

_FIRST = b"\0"  # in place of a list with the number 0 alone
_MOST_INDEXES = 100
_VECTORS = frozenset(f"repeated {name}" for name in protobuf_messages.NUMBERS)


@dataclasses.dataclass(frozen=True)
class ProtobufRegistry(Framed):
    """A Protobuf message behind its schema's number and the numbers of the message's type in the schema."""

    name = "protobuf-registry"
    kind = PROTOBUF

    def _parsed(self, fetched: Fetched) -> ProtobufFile:
        return ProtobufFile(fetched)

    def _frame(self, value: bytes) -> bytes:
        schema_number(value)
        if value[FRAME : FRAME + 1] == _FIRST:
            return value[: FRAME + 1]
        return value[: _path(value)[1]]

    def _expected(self, schema: ProtobufFile, layout: Layout, time: str | None) -> Expected | None:
        if (path := self._likely(schema, layout, time)) is None:
            return None
        types = schema.fields(path)
        messages = {name for name, kind in types.items() if "." in kind}
        return Expected(
            types,
            frozenset(name for name, kind in types.items() if kind in protobuf_messages.NUMBERS),
            frozenset(name for name, kind in types.items() if kind in _VECTORS),
            frozenset(messages - {time}),
        )

    def _try(self, schema: ProtobufFile, layout: Layout, time: str | None) -> None:
        if (path := self._likely(schema, layout, time)) is not None:
            self._reader(schema, path, layout, time)

    def _likely(self, schema: ProtobufFile, layout: Layout, time: str | None) -> tuple[int, ...] | None:
        """The message type of a schema that has most of what is read; None where it has no messages."""
        wanted = self._wanted(layout, time)
        return max(schema.paths(), key=lambda path: len(wanted & set(schema.fields(path))), default=None)

    def _reading_of(self, schema: ProtobufFile, frame: bytes, layout: Layout, time: str | None) -> SchemaReader:
        reader = self._reader(schema, _path(frame)[0], layout, time)
        return _ProtobufReader(reader, len(frame), self._is_planned(reader.plan, layout, time))

    def _reader(self, schema: ProtobufFile, path: tuple[int, ...], layout: Layout, time: str | None) -> MessageReader:
        return schema.reader(path, self._wanted(layout, time), time, self.columns.vector_column, layout.dim)

    def _wanted(self, layout: Layout, time: str | None) -> set[str]:
        return {*layout.needed, *(name for name in (time, self._key_column()) if name is not None)}

    def _is_planned(self, plan: protobuf_messages.ProtobufPlan, layout: Layout, time: str | None) -> bool:
        """Whether a plan makes of every column what google.protobuf's values would be."""
        kept, key = set(self._kept(layout)), self._key_column()
        wanted = [(field.name, field.type, field.name in kept) for field in layout.schema]
        wanted += [] if key is None else [(key, pa.string(), False)]
        if not all(fits(plan.kinds.get(name, pa.null()), kind, only) for name, kind, only in wanted):
            return False
        return time is None or has_times(plan.kinds.get(time, pa.null()))


class _ProtobufReader(SchemaReader):
    """Messages of one type, behind `skip` bytes."""

    def __init__(self, reader: MessageReader, skip: int, planned: bool) -> None:
        self._reader, self.skip, self.planned = reader, skip, planned

    def record(self, value: bytes) -> dict[str, Any]:
        return self._reader.record(value[self.skip :])

    def cells(self, data: Array, bounds: Array) -> PlannedColumns:
        return protobuf_messages.read_joined(self._reader.plan, data, bounds, self.skip)


def _path(value: bytes) -> tuple[tuple[int, ...], int]:
    """The numbers that lead to a message's type in its schema, and where the message begins."""
    count, i = _signed(value, FRAME)
    if count == 0:
        return (0,), i
    if not 0 < count <= _MOST_INDEXES:
        raise MalformedError(f"must have 1 to {_MOST_INDEXES} numbers for its type, got {count}")
    path = []
    for _ in range(count):
        number, i = _signed(value, i)
        path.append(number)
    return tuple(path), i


def _signed(value: bytes, i: int) -> tuple[int, int]:
    """A zigzag number, and where it ends."""
    found = 0
    for shift in range(0, 35, 7):
        if i >= len(value):
            break
        byte = value[i]
        i += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found >> 1 ^ -(found & 1), i
    raise MalformedError("must have the numbers of its type behind the schema's number")
