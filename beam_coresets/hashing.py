"""Stable 64-bit hashes: of rows, of ids, and of the seeds that all random draws come from."""
import hashlib

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel

U64 = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@kernel
def mix(value):  # type: ignore[no-untyped-def]
    """splitmix64's finalizer: a bijection of 64-bit integers whose output bits all depend on all input bits."""
    z = np.uint64(value) + _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@kernel
def _mix_all(values, salt, out):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        out[i] = mix(values[i] ^ salt)


def hash_integers(values: npt.NDArray[np.integer], salt: int = 0) -> U64:
    """Hashes integers, shape (n,), to 64 bits; the same value and salt give the same hash everywhere."""
    words = np.ascontiguousarray(values).astype(np.int64 if values.dtype.kind == "i" else np.uint64).view(np.uint64)
    out = np.empty(len(words), np.uint64)
    _mix_all(words, np.uint64(salt & (2**64 - 1)), out)
    return out


@kernel
def _hash_bytes(offsets, data, salt, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        h = salt ^ np.uint64(offsets[i + 1] - offsets[i])
        for j in range(offsets[i], offsets[i + 1]):
            h = (h ^ np.uint64(data[j])) * np.uint64(0x100000001B3)
        out[i] = mix(h)


def hash_bytes(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], salt: int = 0) -> U64:
    """Hashes n byte strings given as an Arrow-like pair: `offsets` (n + 1,) into `data`."""
    out = np.empty(len(offsets) - 1, np.uint64)
    _hash_bytes(offsets, data, np.uint64((salt ^ 0xCBF29CE484222325) & (2**64 - 1)), out)
    return out


@kernel
def row_hash(words, i, multipliers):  # type: ignore[no-untyped-def]
    """Multilinear hash of row i of `words` (n, w) uint32: a sum of products, so the loop pipelines."""
    h = np.uint64(0)
    for j in range(words.shape[1]):
        h += (np.uint64(words[i, j]) + np.uint64(1)) * multipliers[j]
    return h


def row_multipliers(width: int) -> U64:
    """The odd multipliers of `row_hash` for rows of `width` 32-bit words."""
    return hash_integers(np.arange(width, dtype=np.uint64), salt=0x5EED) | np.uint64(1)


def derive_seed(*parts: object) -> int:
    """A 64-bit seed that depends on every part and their order; compared by `repr`, NumPy numbers as Python's."""
    parts = tuple(part.item() if isinstance(part, np.generic) else part for part in parts)
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def generator(*parts: object) -> np.random.Generator:
    """A NumPy generator seeded by `derive_seed(*parts)`."""
    return np.random.Generator(np.random.PCG64(derive_seed(*parts)))
