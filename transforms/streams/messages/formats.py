"""Message formats by name: packed vectors here, rows with columns in `avro`, `json` and `protobuf`."""
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_coresets.points.block import LARGEST_NARROW
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.coordinates import unit_rows
from beam_coresets.transforms.streams.messages.avro import Avro, AvroRegistry, read_schema
from beam_coresets.transforms.streams.messages.decoding import (
    MESSAGE_KEY,
    Array,
    Decoding,
    EventTime,
    MessageFormat,
    Messages,
    too_large,
)
from beam_coresets.transforms.streams.messages.json import Json
from beam_coresets.transforms.streams.messages.json_schema import JsonRegistry
from beam_coresets.transforms.streams.messages.protobuf import ProtobufRegistry
from beam_coresets.transforms.streams.messages.schemas import SchemaRegistry
from beam_coresets.transforms.streams.source import Chunk

__all__ = [
    "FORMATS", "MESSAGE_KEY", "Avro", "AvroRegistry", "Block", "EventTime", "Float32", "Json", "JsonRegistry",
    "MessageFormat", "Messages", "ProtobufRegistry", "SchemaRegistry", "message_format", "read_schema",
]  # fmt: skip

FORMATS = ("json", "avro", "avro-registry", "protobuf-registry", "json-registry", "float32", "block")
_OF_REGISTRIES = {form.name: form for form in (AvroRegistry, ProtobufRegistry, JsonRegistry)}
_TOO_LARGE = "too large"
_ROW_ROLES = ("columns", "vector_column", "weight_column", "id_column", "group_column")


@dataclasses.dataclass(frozen=True)
class _Vectors(MessageFormat):
    """Little-endian float32 numbers, row after row, nothing else. Points are float32, so none is beyond 1e17.

    Attributes:
      dim: coordinates of a point.
      metric: "euclidean", or "cosine": points are scaled to unit length.

    Raises:
      ValueError: a dim below 1, an unknown metric, or a key column (there are no columns).
    """

    dim: int
    metric: str = "euclidean"
    key_column: str | None = None

    def __post_init__(self) -> None:
        Columns(metric=self.metric, dim=self.dim)
        if self.key_column not in (None, MESSAGE_KEY):
            wanted = f"{MESSAGE_KEY!r} for messages without columns ({self.name})"
            raise ValueError(f"key_column: must be {wanted}, got {self.key_column!r}")

    def check_time(self, column: str | None) -> None:
        if column is not None:
            raise ValueError(f"time: must be 'message' for messages without columns ({self.name}), got {column!r}")

    def display_data(self) -> Mapping[str, Any]:
        return {"format": self.name, "dim": self.dim, "metric": self.metric}

    def _wrong(self, sizes: Array) -> Array:
        """Which sizes in bytes can't be."""
        raise NotImplementedError

    def _width(self) -> str:
        raise NotImplementedError

    def _chunk(self, decoding: Decoding) -> Chunk:
        messages, good = decoding.messages, decoding.rest()
        values = messages.values if len(good) == len(messages) else [messages.values[i] for i in good]
        sizes = np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]
        wrong = self._wrong(sizes)
        if wrong.any():
            for i in np.flatnonzero(wrong).tolist():
                reason = f"width: must be {self._width()}, got {sizes[i]}"
                decoding.refuse(int(good[i]), reason, text=_hex(values[i]))
            good, sizes = good[~wrong], sizes[~wrong]
            values = [messages.values[i] for i in good]
        raw = bytearray().join(values)  # type: ignore[arg-type]  # a bytearray, as the array over it is writable
        points = np.frombuffer(raw, "<f4").reshape(-1, self.dim).astype(np.float32, copy=False)
        counts = sizes // (4 * self.dim)
        points, kept = self._finite(points, good, counts, decoding)
        if kept is not None:
            counts = np.bincount(np.repeat(np.arange(len(good)), counts)[kept], minlength=len(good))
            points, good, counts = points[kept], good[counts > 0], counts[counts > 0]
        return decoding.chunk(points, good, counts)

    def _finite(self, points: Array, good: Array, counts: Array, decoding: Decoding) -> tuple[Array, Array | None]:
        """The points, unit vectors under cosine, and the rows (n,) to keep of them; None: all."""
        faults: list[tuple[Array, str]] = []
        most = 0.0 if not points.size else max(float(points.max()), -float(points.min()))
        if not np.isfinite(most):
            nan = np.asarray(np.isnan(points).any(axis=1))
            infinite = np.asarray(np.isinf(points).any(axis=1))
            faults = [(nan, "nan"), (infinite & ~nan, "infinite")]
        read = points
        if self.metric == "cosine":
            points, norms = unit_rows(points)
            faults.append((norms == 0, "zero vector"))
        elif not most <= LARGEST_NARROW:
            faults.append((np.asarray((np.abs(points) > LARGEST_NARROW).any(axis=1)), _TOO_LARGE))
        bad = np.zeros(len(points), bool)
        for mask, reason in faults:
            for row in np.flatnonzero(mask & ~bad):
                message = int(np.searchsorted(np.cumsum(counts), row, side="right"))
                number = int(row - counts[:message].sum())
                text = str(read[row, :64].tolist())
                why = too_large(read[row]) if reason == _TOO_LARGE else reason
                decoding.refuse(int(good[message]), why, "", text, number if self.name == "block" else None)
            bad |= mask
        return points, np.flatnonzero(~bad) if bad.any() else None


def _hex(value: bytes | None) -> str:
    return (value or b"")[:250].hex()


class Float32(_Vectors):
    """One raw vector a message."""

    name = "float32"

    def _wrong(self, sizes: Array) -> Array:
        return sizes != 4 * self.dim

    def _width(self) -> str:
        return f"{4 * self.dim} bytes"


class Block(_Vectors):
    """A packed (n, dim) array a message, n at least 1."""

    name = "block"

    def _wrong(self, sizes: Array) -> Array:
        return (sizes == 0) | (sizes % (4 * self.dim) != 0)

    def _width(self) -> str:
        return f"a multiple of {4 * self.dim} bytes"


def message_format(
    name: str,
    columns: Columns | None = None,
    key_column: str | None = None,
    schema: str | None = None,
    registry: SchemaRegistry | None = None,
) -> MessageFormat:
    """The format called `name`.

    Args:
      columns: roles of the columns, and the metric; "float32" and "block" have no columns, only `dim` and metric.
      key_column: a column, or "message.key".
      schema: the writer's Avro schema as JSON text, for "avro" (`read_schema` reads it from a file).
      registry: where the formats of registries find their schemas.

    Raises:
      ValueError: an unknown name, or options that the format lacks, or does not have.
    """
    columns = columns or Columns()
    if name not in FORMATS:
        raise ValueError(f"message_format: must be one of {FORMATS}, got {name!r}")
    for option, value, own in (("schema", schema, ("avro",)), ("registry", registry, tuple(_OF_REGISTRIES))):
        if (value is None) == (name in own):
            needed = "given" if name in own else "left out"
            raise ValueError(f"{option}: must be {needed} for {name!r} messages, got {value and 'one'}")
    if name == "json":
        return Json(columns, key_column)
    if schema is not None:
        return Avro(columns, key_column, schema)
    if registry is not None:
        return _OF_REGISTRIES[name](columns, key_column, registry)
    for role in (*_ROW_ROLES, "keep_columns"):
        if getattr(columns, role):
            raise ValueError(f"{role}: must be left out for {name!r} messages, got {getattr(columns, role)!r}")
    if columns.dim is None:
        raise ValueError(f"dim: must be given for {name!r} messages, got none")
    return (Float32 if name == "float32" else Block)(columns.dim, columns.metric, key_column)
