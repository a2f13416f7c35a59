"""Texts that stand in a buffer, as Arrow arrays: a text is its place, place << 32 | length."""
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets._jit import kernel

Array = npt.NDArray[Any]

MOST_BYTES = 2**31 - 1  # of a buffer: Arrow's offsets of texts are int32


@kernel
def word(data, i, size):  # type: ignore[no-untyped-def]
    """The number in `size` bytes from i on, at most 8, the lowest first."""
    found = np.uint64(0)
    for j in range(size):
        found |= np.uint64(data[i + j]) << np.uint64(8 * j)
    return np.int64(found)


@kernel
def is_utf8(data, i, stop):  # type: ignore[no-untyped-def]
    """Whether data[i:stop] is UTF-8 as Python decodes it: nothing overlong, no surrogates, nothing above U+10FFFF."""
    while i < stop:
        lead = data[i]
        i += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF  # of the byte behind it
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if i + more > stop or data[i] < low or data[i] > high:
            return False
        for j in range(i + 1, i + more):
            if data[j] < 0x80 or data[j] > 0xBF:
                return False
        i += more
    return True


@kernel
def begin_with(data, bounds, head):  # type: ignore[no-untyped-def]
    """Whether each of data[bounds[i]:bounds[i + 1]] begins with the bytes `head` (h,)."""
    for i in range(len(bounds) - 1):
        if bounds[i + 1] - bounds[i] < len(head):
            return False
        for j in range(len(head)):
            if data[bounds[i] + j] != head[j]:
                return False
    return True


@kernel
def _gather(data, places, there, offsets, out):  # type: ignore[no-untyped-def]
    for row in range(len(places)):
        if there[row]:
            place = places[row] >> 32
            for at in range(offsets[row], offsets[row + 1]):
                out[at] = data[place]
                place += 1


def text_array(data: Array, places: Array, there: Array, kind: Any = None) -> Any:
    """The texts at `places` (n,) of `data` as an Arrow array, null where they are not `there` (n,) bool.

    Args:
      data: (b,) uint8; the texts are UTF-8 unless the kind is one of bytes.
      kind: `pa.string()` (the default), `pa.binary()`, or a binary of fixed size, which all of them have.
    """
    kind = pa.string() if kind is None else kind
    fixed = pa.types.is_fixed_size_binary(kind)
    lengths = np.where(there, places & 0xFFFFFFFF, kind.byte_width if fixed else 0)
    offsets = np.zeros(len(places) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    out = np.zeros(max(int(offsets[-1]), 1), np.uint8)
    _gather(data, places, there, offsets, out)  # type: ignore[no-untyped-call]
    null = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    buffers = [null, pa.py_buffer(out)] if fixed else [null, pa.py_buffer(offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(kind, len(places), buffers)


def joined(values: Any) -> tuple[Array, Array] | None:
    """Byte strings one behind the other as (b,) uint8, and where each begins and the last ends, (n + 1,) int64; None
    where they are of more than 2 GB."""
    bounds = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=bounds[1:])
    if bounds[-1] > MOST_BYTES:
        return None
    return np.frombuffer(b"".join(values), np.uint8), bounds
