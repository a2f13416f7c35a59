"""Avro records of one flat schema to columns.

A plan is a table of operations, one for each field in the order of the schema, as it stands in the bytes: how a value
is encoded, between which bounds it may be (or its length), and the cell that it goes to, if somebody wants it. A union
is an operation of its own, with those of its branches behind it. Within the bounds fastavro takes every value;
what is out of them is odd.
"""
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import fastavro
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets._jit import kernel
from beam_coresets.transforms.planned.cells import PlannedColumns
from beam_coresets.transforms.planned.texts import is_utf8, joined, word

Array = npt.NDArray[Any]

_UNION, _NULL, _BOOLEAN, _LONG, _FLOAT, _DOUBLE, _BYTES, _TEXT, _UUID, _FIXED = range(10)
_ANY = (-(2**63), 2**63 - 1)
_LENGTH = (0, 2**31 - 1)
_DIGITS = (0, 64)  # bytes of a decimal: more digits than a context allows are refused
_SECOND = 1_000_000
_CALENDAR = (-62_135_596_800, 253_402_300_799)  # seconds of Python's years 1 to 9999
_DAYS = (-719_162, 2_932_896)


class _Leaf(NamedTuple):
    """How one value is encoded, and the Arrow type of what fastavro makes of it (None: nobody may want it)."""

    code: int
    low: int
    high: int
    kind: Any
    symbols: tuple[str, ...] = ()


def _moments(per_second: int, kind: Any) -> _Leaf:
    low, high = _CALENDAR
    return _Leaf(_LONG, low * per_second, (high + 1) * per_second - 1, kind)


_PLAIN = {
    "null": _Leaf(_NULL, 0, 0, pa.null()), "boolean": _Leaf(_BOOLEAN, 0, 1, pa.bool_()),
    "int": _Leaf(_LONG, *_ANY, pa.int64()), "long": _Leaf(_LONG, *_ANY, pa.int64()),
    "float": _Leaf(_FLOAT, 4, 4, pa.float32()), "double": _Leaf(_DOUBLE, 8, 8, pa.float64()),
    "bytes": _Leaf(_BYTES, *_LENGTH, pa.binary()), "string": _Leaf(_TEXT, *_LENGTH, pa.string()),
}  # fmt: skip
_LOGICAL = {
    "int-date": _Leaf(_LONG, *_DAYS, pa.date32()),
    "int-time-millis": _Leaf(_LONG, 0, 86_400_000 - 1, pa.time32("ms")),
    "long-time-micros": _Leaf(_LONG, 0, 86_400 * _SECOND - 1, pa.time64("us")),
    "long-timestamp-millis": _moments(1000, pa.timestamp("ms", "UTC")),
    "long-timestamp-micros": _moments(_SECOND, pa.timestamp("us", "UTC")),
    "long-local-timestamp-millis": _moments(1000, pa.timestamp("ms")),
    "long-local-timestamp-micros": _moments(_SECOND, pa.timestamp("us")),
    "string-uuid": _Leaf(_UUID, 36, 36, pa.string()),
}  # fmt: skip


class _NotFlatError(Exception):
    """A schema that has no plan."""


@dataclasses.dataclass(frozen=True, eq=False)
class AvroPlan:
    """How records of one schema are read.

    Attributes:
      operations: (m, 5) int64 of code, cell (-1: nobody wants it), lower and upper bound, and the next operation.
      kinds: the wanted fields that the schema has, in the order of their cells -> the Arrow type of their column.
      symbols: those of them that are enums -> what their numbers stand for.
    """

    operations: Array
    kinds: Mapping[str, Any]
    symbols: Mapping[str, Sequence[str]]


def plan_of(schema: Any, wanted: Collection[str]) -> AvroPlan | None:
    """The plan for a record schema, as fastavro parsed it, of which the fields `wanted` are read; None where it has
    none: arrays, maps, records in unions, wanted records, decimals or unions of several types."""
    rows: list[list[int]] = []
    known: dict[str, Any] = {}
    leaves: dict[str, _Leaf] = {}
    names = [field["name"] for field in schema["fields"]]
    if len(set(names)) < len(names):
        return None
    try:
        for field in schema["fields"]:
            if field["name"] in wanted:
                leaves[field["name"]] = _add(field["type"], len(leaves), rows, known)
            else:
                _add(field["type"], -1, rows, known)
    except _NotFlatError:
        return None
    return AvroPlan(
        np.array(rows, np.int64).reshape(-1, 5),
        {name: leaf.kind for name, leaf in leaves.items()},
        {name: leaf.symbols for name, leaf in leaves.items() if leaf.symbols},
    )


def _add(kind: Any, cell: int, rows: list[list[int]], known: dict[str, Any]) -> _Leaf:
    """Appends the operations of a field; returns what its cell holds."""
    named = known.get(kind) if isinstance(kind, str) else kind
    if isinstance(named, dict) and named["type"] in ("record", "error"):
        known[named["name"]] = named
        if cell >= 0:
            raise _NotFlatError
        for field in named["fields"]:
            _add(field["type"], -1, rows, known)
        return _PLAIN["null"]
    if not isinstance(kind, list):
        leaf = _leaf(kind, known)
        rows.append([leaf.code, cell, leaf.low, leaf.high, len(rows) + 1])
        return _held(leaf, cell)
    branches = [_leaf(each, known) for each in kind]
    after = len(rows) + 1 + len(branches)
    rows.append([_UNION, -1, 0, len(branches) - 1, after])
    rows += [[leaf.code, cell, leaf.low, leaf.high, after] for leaf in branches]
    there = [leaf for leaf in branches if leaf.code != _NULL]
    if cell >= 0 and len(there) > 1:
        raise _NotFlatError
    return _held(there[0], cell) if there else _PLAIN["null"]


def _held(leaf: _Leaf, cell: int) -> _Leaf:
    if cell >= 0 and leaf.kind is None:
        raise _NotFlatError
    return leaf


def _leaf(kind: Any, known: dict[str, Any]) -> _Leaf:
    """How a value of a type without others in it is encoded."""
    if isinstance(kind, str):
        if kind in _PLAIN:
            return _PLAIN[kind]
        kind = known.get(kind)
    own = kind["type"] if isinstance(kind, dict) else None
    if not isinstance(own, str):
        raise _NotFlatError
    if "name" in kind:
        known[kind["name"]] = kind
    logical = f"{own}-{kind.get('logicalType')}"
    if logical in fastavro.read.LOGICAL_READERS:
        return _decimal(kind) if logical.endswith("-decimal") else _of(_LOGICAL, logical)
    if own == "enum":
        symbols = tuple(kind["symbols"])
        return _Leaf(_LONG, 0, len(symbols) - 1, pa.string(), symbols)
    if own == "fixed":
        return _Leaf(_FIXED, kind["size"], kind["size"], pa.binary(kind["size"]))
    return _of(_PLAIN, own)


def _of(leaves: Mapping[str, _Leaf], name: str) -> _Leaf:
    if name not in leaves:
        raise _NotFlatError
    return leaves[name]


def _decimal(kind: Any) -> _Leaf:
    """To be skipped only, and where fastavro can't refuse it."""
    digits, scale = kind.get("precision"), kind.get("scale", 0)
    sound = type(digits) is int and type(scale) is int and 1 <= digits <= 1000 and 0 <= scale <= digits
    if not sound or kind.get("size", 0) > _DIGITS[1]:
        raise _NotFlatError
    if kind["type"] == "fixed":
        return _Leaf(_FIXED, kind["size"], kind["size"], None)
    return _Leaf(_BYTES, *_DIGITS, None)


@kernel
def _long(data, i, stop):  # type: ignore[no-untyped-def]
    """A zigzag number of at most 9 bytes, and where it ends, -1 if it does not before `stop`."""
    found = np.uint64(0)
    shift = np.uint64(0)
    while i < stop and shift < np.uint64(63):
        byte = np.uint64(data[i])
        i += 1
        found |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return np.int64(found >> np.uint64(1)) ^ -np.int64(found & np.uint64(1)), i
        shift += np.uint64(7)
    return np.int64(0), -1


@kernel
def _is_uuid(data, i):  # type: ignore[no-untyped-def]
    """Whether 36 bytes are a UUID as it is written: lower case, with hyphens."""
    for j in range(36):
        byte = data[i + j]
        if j == 8 or j == 13 or j == 18 or j == 23:
            if byte != 45:
                return False
        elif not (48 <= byte <= 57 or 97 <= byte <= 102):
            return False
    return True


@kernel
def _record(data, i, stop, operations, cells, there, row):  # type: ignore[no-untyped-def]
    """Reads the record that begins at i to the cells of a row; where it ends, -1 if it is odd."""
    at = 0
    while at < len(operations):
        code = operations[at, 0]
        if code == _UNION:
            branch, i = _long(data, i, stop)
            if i < 0 or branch < 0 or branch > operations[at, 3]:
                return -1
            at += 1 + branch
            code = operations[at, 0]
        low, high = operations[at, 2], operations[at, 3]
        value = np.int64(0)
        if code == _DOUBLE:
            if stop - i < 8:
                return -1
            value = word(data, i, 8)
            i += 8
        elif code == _FLOAT:
            if stop - i < 4:
                return -1
            value = word(data, i, 4)
            i += 4
        elif code == _BOOLEAN:
            if i >= stop or data[i] > 1:
                return -1
            value = np.int64(data[i])
            i += 1
        elif code == _FIXED:
            if stop - i < high:
                return -1
            value = i << 32 | high
            i += high
        elif code != _NULL:
            value, i = _long(data, i, stop)
            if i < 0 or value < low or value > high:
                return -1
            if code != _LONG:
                length = value
                if length > stop - i:
                    return -1
                if code == _TEXT and not is_utf8(data, i, i + length):
                    return -1
                if code == _UUID and not _is_uuid(data, i):
                    return -1
                value = i << 32 | length
                i += length
        cell = operations[at, 1]
        if cell >= 0:
            cells[cell, row] = value
            there[cell, row] = code != _NULL
        at = operations[at, 4]
    return i


@kernel
def _each(data, bounds, skip, operations, cells, there, rows):  # type: ignore[no-untyped-def]
    """Reads the records between bounds that are not odd, one behind the other; how many, which ones to `rows`."""
    count = 0
    for i in range(len(bounds) - 1):
        if _record(data, bounds[i] + skip, bounds[i + 1], operations, cells, there, count) == bounds[i + 1]:
            rows[count] = i
            count += 1
    return count


@kernel
def _run(data, counts, ends, operations, cells, there):  # type: ignore[no-untyped-def]
    """Reads blocks of `counts` records, each of which fills its block up to its end; whether none is odd."""
    i = 0
    row = 0
    for block in range(len(counts)):
        for _ in range(counts[block]):
            i = _record(data, i, ends[block], operations, cells, there, row)
            if i < 0:
                return False
            row += 1
        if i != ends[block]:
            return False
    return True


def _room(plan: AvroPlan, n: int) -> tuple[Array, Array]:
    return np.empty((len(plan.kinds), n), np.int64), np.empty((len(plan.kinds), n), np.bool_)


def read_each(plan: AvroPlan, values: Sequence[bytes], skip: int = 0) -> PlannedColumns | None:
    """Records that are one byte string each, behind `skip` bytes; None where they are of more than 2 GB."""
    found = joined(values)
    return None if found is None else read_joined(plan, *found, skip)


def read_joined(plan: AvroPlan, data: Array, bounds: Array, skip: int = 0) -> PlannedColumns:
    """Records that stand behind `skip` bytes at data[bounds[i]:bounds[i + 1]], of (b,) uint8, less than 2 GB."""
    cells, there = _room(plan, len(bounds) - 1)
    rows = np.empty(len(bounds) - 1, np.int64)
    count = _each(data, bounds, skip, plan.operations, cells, there, rows)  # type: ignore[no-untyped-call]
    return PlannedColumns(plan.kinds, plan.symbols, data, cells, there, rows[:count])


def read_run(plan: AvroPlan, blocks: Sequence[tuple[int, bytes]]) -> PlannedColumns | None:
    """The records of blocks of so many records, one behind the other; None where one of them is odd, or a block is not
    filled by its records, or all are of more than 2 GB."""
    found = joined([data for _, data in blocks])
    counts = np.array([count for count, _ in blocks], np.int64)
    if found is None or (counts < 0).any() or int(counts.sum()) > max(len(found[0]), 1):
        return None
    data, bounds = found
    cells, there = _room(plan, int(counts.sum()))
    if not _run(data, counts, bounds[1:], plan.operations, cells, there):  # type: ignore[no-untyped-call]
        return None
    return PlannedColumns(plan.kinds, plan.symbols, data, cells, there, np.arange(int(counts.sum())))
