"""Avro types as Arrow's. fastavro turns values into Python objects; these are the types that Arrow has for them."""
import json
from collections.abc import Mapping
from typing import Any

import fastavro
import pyarrow as pa

from beam_coresets.transforms.reading.types.kinds import FILE_TYPE

_PLAIN = {
    "int": pa.int64(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(), "boolean": pa.bool_(),
    "string": pa.string(), "enum": pa.string(), "bytes": pa.binary(), "null": pa.null(),
}  # fmt: skip
_LOGICAL = {
    "date": pa.date32(), "time-millis": pa.time32("ms"), "time-micros": pa.time64("us"), "uuid": pa.string(),
    "timestamp-millis": pa.timestamp("ms", "UTC"), "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"), "local-timestamp-micros": pa.timestamp("us"),
}  # fmt: skip
_LONGEST = 80
_MOST_DIGITS = 76


class _MixedError(Exception):
    """A type within another one that Arrow has no one type for."""


def arrow_schema(record: Mapping[str, Any]) -> pa.Schema:
    """The columns of an Avro record schema, as fastavro parsed it; each says what the file calls its type.

    A union of numbers is a number, any other union of several types text. What has such a union, a type within itself
    or a UUID inside is text, too: JSON.
    """
    fields = []
    known: dict[str, Any] = {str(record.get("name")): record}
    for field in record["fields"]:
        own = json.dumps(field["type"]).replace('"', "")
        own = own if len(own) <= _LONGEST else own[: _LONGEST - 3] + "..."
        _name(field["type"], known)
        try:
            kind = _arrow_type(field["type"], known, ())
        except _MixedError:
            kind = pa.string()
        fields.append(pa.field(field["name"], kind, metadata={FILE_TYPE: own}))
    return pa.schema(fields)


def _name(kind: Any, known: dict[str, Any]) -> None:
    """Notes down the types that later ones may name."""
    if isinstance(kind, list):
        for each in kind:
            _name(each, known)
    elif isinstance(kind, dict):
        if "name" in kind:
            known[kind["name"]] = kind
        inside = [field["type"] for field in kind.get("fields", ())]
        for each in (*inside, *(kind[part] for part in ("items", "values", "type") if part in kind)):
            _name(each, known)


def _arrow_type(kind: Any, known: dict[str, Any], around: tuple[str, ...]) -> pa.DataType:
    """`around`: names of the types that this one stands in, "" for those without a name."""
    if isinstance(kind, str):
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind in around or kind not in known:
            raise _MixedError
        return _arrow_type(known[kind], known, around)
    if isinstance(kind, list):
        return _union([_arrow_type(each, known, around) for each in kind if each != "null"], bool(around))
    own = kind["type"]
    if (logical := _logical(kind, bool(around))) is not None:
        return logical
    if own in ("record", "error"):
        inside = (*around, kind["name"])
        return pa.struct([pa.field(f["name"], _arrow_type(f["type"], known, inside)) for f in kind["fields"]])
    if own == "array":
        return pa.list_(_arrow_type(kind["items"], known, (*around, "")))
    if own == "map":
        return pa.map_(pa.string(), _arrow_type(kind["values"], known, (*around, "")))
    if own == "fixed":
        return pa.binary(kind["size"])
    return _PLAIN[own] if isinstance(own, str) and own in _PLAIN else _arrow_type(own, known, around)


def _logical(kind: Mapping[str, Any], within: bool) -> pa.DataType | None:
    """The type of what fastavro makes of a logical type; None for those that it leaves as they are stored."""
    name = str(kind.get("logicalType"))
    if f"{kind['type']}-{name}" not in fastavro.read.LOGICAL_READERS:
        return None
    found = _LOGICAL.get(name, pa.string())
    if name == "decimal":
        digits, scale = int(kind["precision"]), int(kind.get("scale", 0))
        if digits <= _MOST_DIGITS:
            found = pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)
    if within and pa.types.is_string(found):
        raise _MixedError
    return found


def _union(kinds: list[pa.DataType], within: bool) -> pa.DataType:
    if not kinds:
        return pa.null()
    if all(kind == kinds[0] for kind in kinds):
        return kinds[0]
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        return pa.float64()
    if within:
        raise _MixedError
    return pa.string()
