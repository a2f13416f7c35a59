"""One deterministic, versioned byte format for everything that crosses a shuffle.

    b"BCS" | version u8 | header length u32 | header JSON | buffers, each padded to 8 bytes

The header holds the record's kind, its small fields, and name, dtype and shape of each array. Equal records give equal
bytes: JSON keys are sorted and padding is zero. Little-endian throughout.
"""
import contextlib
import functools
import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from beam_coresets import bounded

MAGIC = b"BCS"
VERSION = 1
MOST_OF_NOTHING, MOST_AXES = 1 << 24, 3  # an array without elements may say any shape
_NUMBERS = re.compile(r"[<|][biuf][1248]")
T = TypeVar("T")

Array = npt.NDArray[Any]


def pack(kind: str, fields: Mapping[str, Any], arrays: Mapping[str, Array | None]) -> bytes:
    """Encodes one record. `fields` must be JSON-able (integers of any size are); an array may be None."""
    specs: list[list[Any]] = []
    buffers: list[bytes] = []
    for name, array in arrays.items():
        if array is None:
            specs.append([name, None, []])
            continue
        flat = np.ascontiguousarray(array)
        flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
        specs.append([name, flat.dtype.str, list(array.shape)])
        raw = flat.tobytes()
        buffers.append(raw)
        buffers.append(b"\0" * (-len(raw) % 8))
    header = json.dumps([kind, dict(fields), specs], sort_keys=True, separators=(",", ":")).encode()
    return b"".join([MAGIC, bytes([VERSION]), struct.pack("<I", len(header)), header, *buffers])


def unpack(data: bytes, kind: str) -> tuple[dict[str, Any], dict[str, Array | None]]:
    """Decodes one record; the arrays are writable copies, and never larger than the data.

    Raises:
      ValueError: `data` is not a record of this kind, or comes from a newer version.
    """
    if data[:3] != MAGIC:
        raise ValueError(f"data: must start with {MAGIC!r}, got {data[:3]!r}")
    if len(data) > 3 and data[3] != VERSION:
        raise ValueError(f"version: must be {VERSION}, got {data[3]}")
    if len(data) < 8:
        raise ValueError(f"data: must have a header of at least 8 bytes, got {len(data)}")
    (length,) = struct.unpack_from("<I", data, 4)
    try:
        if length > len(data) - 8 or bounded.depth(data[8 : 8 + length]) > bounded.DEEPEST:
            raise ValueError("it is cut off, or nested too deep")
        found, fields, specs = json.loads(data[8 : 8 + length])
        specs = [(str(name), dtype, tuple(shape)) for name, dtype, shape in specs]
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"header: must be a record's, got another ({error})") from None
    if found != kind:
        raise ValueError(f"kind: must be {kind!r}, got {str(found)[:50]!r}")
    if not isinstance(fields, dict):
        raise ValueError(f"fields: must be named, got {type(fields).__name__}")
    arrays: dict[str, Array | None] = {}
    offset = 8 + length
    for name, dtype, shape in specs:
        if dtype is None:
            arrays[name] = None
            continue
        size = _size_of(name, dtype, shape)
        if size > len(data) - offset:
            raise ValueError(f"{name}: must be within the {len(data)} bytes there are, got {shape} of {dtype}")
        flat = np.frombuffer(data, dtype, math.prod(shape), offset) if size else np.empty(0, dtype)
        arrays[name] = flat.reshape(shape).copy()
        offset += size + (-size % 8)
    return fields, arrays


def pack_with(
    kind: str, fields: Mapping[str, Any], arrays: Mapping[str, Array | None], bodies: Sequence[bytes]
) -> bytes:
    """One record with others behind it, whose `lengths` become a field of it."""
    head = pack(kind, {**fields, "lengths": [len(body) for body in bodies]}, arrays)
    return b"".join([len(head).to_bytes(8, "little"), head, *bodies])


def unpack_with(data: bytes, kind: str) -> tuple[dict[str, Any], dict[str, Array | None], list[bytes]]:
    """The inverse of `pack_with`, without the field `lengths`.

    Raises:
      ValueError: as `unpack`.
    """
    at = 8 + int.from_bytes(data[:8], "little")
    fields, arrays = unpack(data[8:at], kind)
    bodies = []
    for length in fields.pop("lengths"):
        bodies.append(data[at : at + length])
        at += length
    return fields, arrays, bodies


def _size_of(name: str, dtype: Any, shape: tuple[Any, ...]) -> int:
    """The bytes of an array; raises ValueError where it can't be one of a record."""
    if not isinstance(dtype, str) or not _NUMBERS.fullmatch(dtype):
        raise ValueError(f"{name}: must be numbers, got {str(dtype)[:50]!r}")
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > MOST_AXES:
        raise ValueError(f"{name}: must have up to {MOST_AXES} sizes, none negative, got {str(shape)[:50]}")
    if 0 in shape and max(shape) > MOST_OF_NOTHING:
        raise ValueError(f"{name}: must have up to {MOST_OF_NOTHING} columns, got {str(shape)[:50]}")
    return math.prod(shape) * np.dtype(dtype).itemsize


def decoder(kind: str) -> Callable[[Callable[[bytes], T]], Callable[[bytes], T]]:
    """Marks a function from bytes to a record: whatever is wrong with the bytes is a ValueError that names the kind."""

    def of(function: Callable[[bytes], T]) -> Callable[[bytes], T]:
        @functools.wraps(function)
        def decode(data: bytes) -> T:
            with refusing(kind):
                return function(data)

        return decode

    return of


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turns whatever comes of reading bytes that are no record of ours into a ValueError that names it."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{what}: must be a record that this version reads, got one that is not ({said})") from error


def table_to_bytes(table: Any) -> Array | None:
    """A pyarrow Table as the uint8 array of its IPC stream (None stays None)."""
    if table is None:
        return None
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    # Taking all rows makes fresh arrays: slices keep offsets and neighbours' bits, and equal tables would differ.
    table = table.combine_chunks().take(pa.array(np.arange(len(table))))
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


def table_from_bytes(raw: Array | None) -> Any:
    """The inverse of `table_to_bytes`."""
    if raw is None:
        return None
    import pyarrow as pa

    table = pa.ipc.open_stream(pa.py_buffer(raw.tobytes())).read_all()
    table.validate(full=True)
    return table
