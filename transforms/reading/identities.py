"""Stable 64-bit identities of rows, from their id columns or their coordinates."""
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import hashing
from beam_coresets._jit import kernel
from beam_coresets.transforms.reading.types import kinds

Array = npt.NDArray[Any]


@kernel
def _content_ids(words, multipliers, out):  # type: ignore[no-untyped-def]
    for i in range(len(words)):
        out[i] = hashing.mix(hashing.row_hash(words, i, multipliers))  # type: ignore[no-untyped-call]


def content_ids(rows: Array) -> Array:
    """(n,) uint64 hashes of the rows' coordinates, as float64, and of how many equal rows stand before them.

    The same rows again give the same ids; equal rows give different ones, or a value that fills a third of the data
    would fall into one bucket, and be lost with it.
    """
    words = (np.ascontiguousarray(rows, np.float64) + 0.0).view(np.uint32)  # + 0.0: -0.0 equals 0.0
    out = np.empty(len(rows), np.uint64)
    _content_ids(words, hashing.row_multipliers(words.shape[1]), out)  # type: ignore[no-untyped-call]
    order = np.argsort(out, kind="stable")
    ranked = out[order]
    first = np.r_[True, ranked[1:] != ranked[:-1]] if len(out) else np.empty(0, bool)
    start = np.maximum.accumulate(np.where(first, np.arange(len(out)), 0))
    before = np.empty(len(out), np.int64)
    before[order] = np.arange(len(out)) - start
    repeated = before > 0
    out[repeated] ^= hashing.hash_integers(before[repeated])
    return out


def hash_labels(column: Any) -> Array:
    """(n,) uint64 hashes of a column of labels: integers by value, others by bytes or text; nulls by anything."""
    column = kinds.plain_column(column)
    if pa.types.is_integer(column.type):
        return hashing.hash_integers(column.fill_null(0).to_numpy(zero_copy_only=False))
    if pa.types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    text = kinds.is_bytes(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    column = (column if text else kinds.labels(column)).cast(pa.large_binary())
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1] if len(column) else [0]
    raw = np.zeros(1, np.uint8) if data is None or not data.size else np.frombuffer(data, np.uint8)
    raw.flags.writeable = False  # Arrow's buffers may be either, and the kernel is compiled for each
    return hashing.hash_bytes(np.array(bounds, np.int64), raw)
