"""Protobuf messages of one type to columns.

A plan is a table of operations, one for each tag that the type's fields are written with, in the order of the tags. A
message is read tag by tag: most have their fields in that order, which saves looking for them. What no column needs
is skipped by its wire type alone, as are unknown fields, and so is a field that is written in another way than its type
says. What google.protobuf would refuse, or take in a way of its own (groups, numbers beyond their type, a time that is
written twice), is odd.
"""
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets._jit import kernel
from beam_coresets.transforms.planned.cells import PlannedColumns
from beam_coresets.transforms.planned.texts import is_utf8, word

Array = npt.NDArray[Any]

_VARINT, _ZIGZAG, _FOUR, _EIGHT, _SKIP, _ENUM, _BYTES, _TEXT, _TIME, _PACKED = range(10)  # numbers first
_WIRE = {_VARINT: 0, _ZIGZAG: 0, _ENUM: 0, _EIGHT: 1, _FOUR: 5, _BYTES: 2, _TEXT: 2, _TIME: 2}
_INT32, _INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_UINT32, _UINT64 = (0, 2**32 - 1), (0, 2**63 - 1)  # larger ones are odd: a cell has a sign


class _Type(NamedTuple):
    """How a value is written, between which bounds it is read, and the Arrow type that it has then."""

    code: int
    low: int
    high: int
    kind: Any


TYPES = {
    "double": _Type(_EIGHT, *_INT64, pa.float64()), "float": _Type(_FOUR, *_UINT32, pa.float32()),
    "int64": _Type(_VARINT, *_INT64, pa.int64()), "uint64": _Type(_VARINT, *_UINT64, pa.int64()),
    "int32": _Type(_VARINT, *_INT32, pa.int64()), "uint32": _Type(_VARINT, *_UINT32, pa.int64()),
    "sint64": _Type(_ZIGZAG, *_INT64, pa.int64()), "sint32": _Type(_ZIGZAG, *_INT32, pa.int64()),
    "fixed64": _Type(_EIGHT, *_UINT64, pa.int64()), "fixed32": _Type(_FOUR, *_UINT32, pa.int64()),
    "sfixed64": _Type(_EIGHT, *_INT64, pa.int64()), "sfixed32": _Type(_FOUR, *_INT32, pa.int64()),
    "bool": _Type(_VARINT, 0, 1, pa.bool_()), "string": _Type(_TEXT, 0, 0, pa.string()),
    "bytes": _Type(_BYTES, 0, 0, pa.binary()), "enum": _Type(_ENUM, 0, 0, pa.string()),
    "time": _Type(_TIME, 0, 0, pa.float64()),
}  # fmt: skip
NUMBERS = tuple(name for name in TYPES if name not in ("bool", "string", "bytes", "enum", "time"))


class Field(NamedTuple):
    """A field of a message type.

    Attributes:
      name, number: its own.
      type: a key of `TYPES`; "time" is google.protobuf.Timestamp, messages that are not wanted are bytes.
      wanted: a column is made of it.
      presence: a message says whether it has one; else what is not there is the type's zero.
      oneof: of fields with the same number one is there at a time; -1: any.
      repeated: a vector.
      symbols: of an enum, number -> name.
    """

    name: str
    number: int
    type: str
    wanted: bool = False
    presence: bool = False
    oneof: int = -1
    repeated: bool = False
    symbols: Mapping[int, str] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class ProtobufPlan:
    """How messages of one type are read.

    Attributes:
      operations: (m, 6) int64 of tag, code, cell (-1: nobody wants it, -2: the vector), lower and upper bound, and the
        oneof; ascending by tag.
      enums: numbers of enums, those of one between the bounds of its operation.
      cells: (c, 3) int64 of what a cell holds where nothing is written, whether that is a value, and its oneof.
      kinds: wanted fields in the order of their cells -> the Arrow type of their column.
      symbols: those of them that are enums -> what their numbers stand for.
      vector: the name of the wanted vector, or "".
      element: the name of its elements' type.
      dim: numbers in a vector.
    """

    operations: Array
    enums: Array
    cells: Array
    kinds: Mapping[str, Any]
    symbols: Mapping[str, Sequence[str]]
    vector: str = ""
    element: str = ""
    dim: int = 0


def plan_of(fields: Sequence[Field], dim: int | None = None) -> ProtobufPlan:
    """The plan for a message type of these fields.

    Args:
      dim: numbers in a vector, where one is wanted.
    """
    rows: list[list[int]] = []
    cells: list[list[int]] = []
    enums: list[int] = []
    kinds: dict[str, Any] = {}
    symbols: dict[str, Sequence[str]] = {}
    vector = element = ""
    for field in fields:
        found = TYPES[field.type]
        if not field.wanted:
            wires = {_WIRE[found.code], 2} if field.repeated else {_WIRE[found.code]}
            rows += [[field.number << 3 | wire, _SKIP, -1, 0, 0, field.oneof] for wire in wires]
            continue
        low, high = found.low, found.high
        if field.repeated:
            vector, element = field.name, field.type
            rows.append([field.number << 3 | _WIRE[found.code], found.code, -2, low, high, -1])
            rows.append([field.number << 3 | 2, _PACKED, found.code, low, high, -1])
            continue
        zero = 0
        if field.type == "enum":
            low, high = len(enums), len(enums) + len(field.symbols)
            enums += field.symbols
            symbols[field.name] = tuple(field.symbols.values())
            zero = list(field.symbols).index(0) if 0 in field.symbols else 0
        rows.append([field.number << 3 | _WIRE[found.code], found.code, len(cells), low, high, field.oneof])
        cells.append([zero, int(not field.presence), field.oneof])
        kinds[field.name] = found.kind
        if found.code == _TIME:
            cells.append([0, 1, -1])  # its nanoseconds
            kinds[f"\0{field.name}"] = pa.int64()
    return ProtobufPlan(
        np.array(sorted(rows), np.int64).reshape(-1, 6), np.array(enums, np.int64),
        np.array(cells, np.int64).reshape(-1, 3), kinds, symbols, vector, element, (dim or 0) if vector else 0,
    )  # fmt: skip


@kernel
def _varint(data, i, stop):  # type: ignore[no-untyped-def]
    """A number of at most 64 bits, and where it ends, -1 if it does not before `stop`."""
    found = np.uint64(0)
    shift = np.uint64(0)
    while i < stop and shift < np.uint64(64):
        byte = np.uint64(data[i])
        i += 1
        found |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            if shift == np.uint64(63) and byte > np.uint64(1):
                return np.uint64(0), -1
            return found, i
        shift += np.uint64(7)
    return np.uint64(0), -1


@kernel
def _length(data, i, stop):  # type: ignore[no-untyped-def]
    """The length in bytes that stands at i, and where they begin, -1 if they do not end by `stop`, or it is written
    with more bytes than it takes."""
    found, begin = _varint(data, i, stop)
    if begin < 0 or found > np.uint64(stop - begin) or (begin > i + 1 and data[begin - 1] == 0):
        return np.int64(0), -1
    return np.int64(found), begin


@kernel
def _skipped(data, i, stop, wire):  # type: ignore[no-untyped-def]
    """Where a value of a wire type ends, -1 if it is odd."""
    if wire == 0:
        _, i = _varint(data, i, stop)
        return i
    if wire == 1:
        return i + 8 if stop - i >= 8 else -1
    if wire == 5:
        return i + 4 if stop - i >= 4 else -1
    if wire != 2:
        return -1
    length, i = _length(data, i, stop)
    return -1 if i < 0 else i + length


@kernel
def _number(data, i, stop, code, low, high):  # type: ignore[no-untyped-def]
    """A number or its bits, and where it ends, -1 if it is odd."""
    value = np.int64(0)
    if code == _EIGHT:
        if stop - i < 8:
            return value, -1
        value = word(data, i, 8)
        i += 8
    elif code == _FOUR:
        if stop - i < 4:
            return value, -1
        value = word(data, i, 4)
        if low < 0 and value >= 2147483648:
            value -= 4294967296
        i += 4
    else:
        written, i = _varint(data, i, stop)
        if i < 0:
            return value, -1
        if code == _ZIGZAG:
            value = np.int64(written >> np.uint64(1)) ^ -np.int64(written & np.uint64(1))
        else:
            value = np.int64(written)
    if value < low or value > high:
        return value, -1
    return value, i


@kernel
def _time(data, i, stop, cells, cell, row):  # type: ignore[no-untyped-def]
    """Reads a Timestamp that fills data[i:stop] to two cells; whether it is not odd."""
    seconds = np.int64(0)
    nanos = np.int64(0)
    while i < stop:
        tag = data[i]
        if tag == 8:
            seconds, i = _number(data, i + 1, stop, _VARINT, -9223372036854775808, 9223372036854775807)
        elif tag == 16:
            nanos, i = _number(data, i + 1, stop, _VARINT, -2147483648, 2147483647)
        else:
            return False
        if i < 0:
            return False
    cells[cell, row] = seconds
    cells[cell + 1, row] = nanos
    return True


@kernel
def _place(operations, tag):  # type: ignore[no-untyped-def]
    """The operation of a tag, -1 if it has none."""
    low = 0
    high = len(operations)
    while low < high:
        middle = (low + high) >> 1
        if operations[middle, 0] < tag:
            low = middle + 1
        else:
            high = middle
    return low if low < len(operations) and operations[low, 0] == tag else -1


@kernel
def _message(data, i, stop, operations, enums, initial, last, cells, there, vectors, row, number):  # type: ignore[no-untyped-def]
    """Reads data[i:stop] to the cells of a row; whether it is not odd.

    `last` (c,) is the number of the message that has had a cell.
    """
    dim = vectors.shape[1]
    count = 0
    at = 0
    while i < stop:
        tag = np.int64(data[i])
        i += 1
        if tag >= 128:
            written, i = _varint(data, i - 1, stop)
            if i < 0 or written > np.uint64(4294967295) or data[i - 1] == 0:
                return False
            tag = np.int64(written)
        if not (at < len(operations) and operations[at, 0] == tag):
            found = _place(operations, tag)
            if found < 0:
                if tag < 8:
                    return False
                i = _skipped(data, i, stop, tag & 7)
                if i < 0:
                    return False
                continue
            at = found
        code, cell = operations[at, 1], operations[at, 2]
        low, high, oneof = operations[at, 3], operations[at, 4], operations[at, 5]
        at += 1
        value = np.int64(0)
        if oneof >= 0:
            if code == _TIME and last[cell] == number:  # is merged with the one before
                return False
            for other in range(len(initial)):
                if initial[other, 2] == oneof:
                    last[other] = -1
        if code <= _EIGHT:
            value, i = _number(data, i, stop, code, low, high)
            if i < 0:
                return False
            if cell < 0:
                if count == dim:
                    return False
                vectors[row, count] = value
                count += 1
                at -= 1  # the next one is likely to be of the same vector
                continue
        elif code == _SKIP:
            i = _skipped(data, i, stop, tag & 7)
            if i < 0:
                return False
            continue
        elif code == _ENUM:
            value, i = _number(data, i, stop, _VARINT, -2147483648, 2147483647)
            while low < high and enums[low] != value:
                low += 1
            if i < 0 or low == high:
                return False
            value = low - operations[at - 1, 3]
        else:
            length, i = _length(data, i, stop)
            if i < 0:
                return False
            begin = i
            i += length
            if code == _PACKED:
                while begin < i:
                    value, begin = _number(data, begin, i, cell, low, high)
                    if begin < 0 or count == dim:
                        return False
                    vectors[row, count] = value
                    count += 1
                continue
            if code == _TIME:
                if last[cell] == number or not _time(data, begin, i, cells, cell, row):
                    return False
                there[cell, row] = True
                last[cell] = number
                last[cell + 1] = number
                continue
            if code == _TEXT and not is_utf8(data, begin, i):
                return False
            value = begin << 32 | length
        cells[cell, row] = value
        there[cell, row] = True
        last[cell] = number
    for cell in range(len(initial)):
        if last[cell] != number:
            cells[cell, row] = initial[cell, 0]
            there[cell, row] = initial[cell, 1] != 0
    return count == dim


@kernel
def _each(data, bounds, skip, operations, enums, initial, cells, there, vectors, rows):  # type: ignore[no-untyped-def]
    """Reads the messages between bounds that are not odd, one behind the other; how many, which ones to `rows`."""
    last = np.full(len(initial), -1, np.int64)
    count = 0
    for i in range(len(bounds) - 1):
        begin, stop = bounds[i] + skip, bounds[i + 1]
        if _message(data, begin, stop, operations, enums, initial, last, cells, there, vectors, count, i):
            rows[count] = i
            count += 1
    return count


class ProtobufColumns(PlannedColumns):
    """Messages that were read."""

    def __init__(
        self, plan: ProtobufPlan, data: Array, cells: Array, there: Array, vectors: Array, rows: Array
    ) -> None:
        super().__init__(plan.kinds, plan.symbols, data, cells, there, rows)
        self._plan, self._vectors = plan, vectors[: len(rows)]
        for number, name in enumerate(plan.kinds):
            if name.startswith("\0"):
                seconds, nanos = cells[number - 1, : len(rows)], cells[number, : len(rows)]
                cells[number - 1, : len(rows)] = (seconds + nanos / 1e9).view(np.int64)

    def fitted(self, name: str, target: Any) -> Any:
        if name != self._plan.vector:
            return super().fitted(name, target)
        n, dim = self._vectors.shape
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(dim))
        return pa.ListArray.from_arrays(offsets, pa.array(self._elements().reshape(-1)))

    def _elements(self) -> Array:
        """(n, dim) float64."""
        if self._plan.element == "double":
            return self._vectors.view(np.float64)
        if self._plan.element == "float":
            return self._vectors.astype(np.uint32).view(np.float32).astype(np.float64)
        return self._vectors.astype(np.float64)


def read_joined(plan: ProtobufPlan, data: Array, bounds: Array, skip: int = 0) -> ProtobufColumns:
    """Messages that stand behind `skip` bytes at data[bounds[i]:bounds[i + 1]], of (b,) uint8, less than 2 GB."""
    n = len(bounds) - 1
    cells, there = np.empty((len(plan.cells), n), np.int64), np.empty((len(plan.cells), n), np.bool_)
    vectors, rows = np.empty((n, plan.dim), np.int64), np.empty(n, np.int64)
    count = _each(  # type: ignore[no-untyped-call]
        data, bounds, skip, plan.operations, plan.enums, plan.cells, cells, there, vectors, rows
    )
    return ProtobufColumns(plan, data, cells, there, vectors, rows[:count])
