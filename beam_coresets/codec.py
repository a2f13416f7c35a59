"""One deterministic, versioned byte format for everything that crosses a shuffle.

    b"BCS" | version u8 | header length u32 | header JSON | buffers, each padded to 8 bytes

The header holds the record's kind, its small fields, and name, dtype and shape of each array. Equal records give equal
bytes: JSON keys are sorted and padding is zero. Little-endian throughout.
"""
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"BCS"
VERSION = 1

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
    """Decodes one record; the arrays are writable copies.

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
    found, fields, specs = json.loads(data[8 : 8 + length])
    if found != kind:
        raise ValueError(f"kind: must be {kind!r}, got {found!r}")
    arrays: dict[str, Array | None] = {}
    offset = 8 + length
    for name, dtype, shape in specs:
        if dtype is None:
            arrays[name] = None
            continue
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(data, dtype, count, offset)
        arrays[name] = array.reshape(shape).copy()
        offset += array.nbytes + (-array.nbytes % 8)
    return fields, arrays


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

    return pa.ipc.open_stream(pa.py_buffer(raw.tobytes())).read_all()
