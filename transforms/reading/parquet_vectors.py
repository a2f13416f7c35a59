"""A Parquet column of equally long lists of floats, straight from its pages.

Arrow rebuilds offsets and null bitmaps from two levels a number, at about 0.3 G numbers/s. Where every row is a full
vector that is known beforehand: the levels are only checked here, and the numbers copied. Whatever is not as expected
(another encoding, a null, another width) raises `IrregularError`, and the caller lets Arrow read it.

Format: https://parquet.apache.org/docs/file-format/ (page headers are Thrift compact structs; levels and dictionary
indices are runs and bit-packed groups of eight).
"""
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets._jit import kernel

Array = npt.NDArray[Any]

_TYPES: dict[str, Any] = {"FLOAT": np.dtype("<f4"), "DOUBLE": np.dtype("<f8")}
_CODECS = {"UNCOMPRESSED": None, "SNAPPY": "snappy", "GZIP": "gzip", "ZSTD": "zstd"}
_HEADER_BYTES = 4096
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY = 0, 2, 3, 8


class IrregularError(Exception):
    """The pages hold something else than full vectors of floats."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _thrift(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """A Thrift compact struct as field number -> value, and where it ends."""
    fields: dict[int, Any] = {}
    number: int = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if step:
            number += step
        else:
            zigzag, at = _varint(data, at)
            number = (zigzag >> 1) ^ -(zigzag & 1)
        if kind in (1, 2):
            fields[number] = kind == 1
        elif kind in (4, 5, 6):
            zigzag, at = _varint(data, at)
            fields[number] = (zigzag >> 1) ^ -(zigzag & 1)
        elif kind == 8:
            length, at = _varint(data, at)
            at += length
        elif kind == 12:
            fields[number], at = _thrift(data, at)
        else:
            raise IrregularError(f"page header with a field of type {kind}")
    return fields, at + 1


@kernel
def _run(data, at):  # type: ignore[no-untyped-def]
    """The header of a run: (length << 1 | bit-packed, where its content begins)."""
    header, shift = np.int64(0), np.int64(0)
    while at < len(data):
        byte = np.int64(data[at])
        at += 1
        header |= (byte & np.int64(127)) << shift
        shift += 7
        if byte < 128:
            break
    return header, at


@kernel
def _decode(data, width, out):  # type: ignore[no-untyped-def]
    """Runs and bit-packed groups of `width` bits to `out`; returns how many values there were."""
    at, seen, count = 0, 0, len(out)
    whole = (width + 7) // 8
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    while seen < count and at < len(data):
        header, at = _run(data, at)
        if header & 1:
            values = min((header >> 1) * 8, count - seen)
            for i in range(values):
                bit = i * width
                word = np.uint64(0)
                for b in range((bit % 8 + width + 7) // 8):
                    if at + bit // 8 + b < len(data):
                        word |= np.uint64(data[at + bit // 8 + b]) << np.uint64(8 * b)
                out[seen + i] = (word >> np.uint64(bit % 8)) & mask
            at += (header >> 1) * width
        else:
            values = min(header >> 1, count - seen)
            word = np.uint64(0)
            for b in range(whole):
                if at + b < len(data):
                    word |= np.uint64(data[at + b]) << np.uint64(8 * b)
            for i in range(values):
                out[seen + i] = word
            at += whole
        seen += values
    return seen


@kernel
def _all_equal(data, width, value, count):  # type: ignore[no-untyped-def]
    """Whether `count` levels of at most 8 bits all have that value."""
    at, seen = 0, 0
    while seen < count and at < len(data):
        header, at = _run(data, at)
        if header & 1:
            values = min((header >> 1) * 8, count - seen)
            room = (len(data) - at) * 8
            if values * width > room:
                return False
            for i in range(values):
                level = 0
                for b in range(width):
                    bit = i * width + b
                    level |= ((np.int64(data[at + bit // 8]) >> (bit % 8)) & 1) << b
                if level != value:
                    return False
            at += (header >> 1) * width
        else:
            values = min(header >> 1, count - seen)
            if values and (at >= len(data) or data[at] != value):
                return False
            at += 1
        seen += values
    return seen == count


@kernel
def _rows_begin(data, position, dim, count):  # type: ignore[no-untyped-def]
    """Whether `count` one-bit repetition levels are 0 exactly at the multiples of `dim`; the first is at `position`."""
    at, seen = 0, 0
    left = (dim - position % dim) % dim  # numbers until a row begins
    while seen < count and at < len(data):
        header, at = _run(data, at)
        if header & 1:
            values = min((header >> 1) * 8, count - seen)
            if values > (len(data) - at) * 8:
                return False
            i = 0
            while i < values:
                if i % 8 == 0 and left >= 8 and i + 8 <= values:
                    if data[at + i // 8] != 255:
                        return False
                    i += 8
                    left -= 8
                    continue
                if (((data[at + i // 8] >> np.uint8(i % 8)) & 1) == 0) != (left == 0):
                    return False
                left = dim - 1 if left == 0 else left - 1
                i += 1
            at += header >> 1
        else:
            values = min(header >> 1, count - seen)
            if at >= len(data):
                return False
            if data[at] == 0 and values:  # rows that begin one after the other have one number each
                if left or (values > 1 and dim > 1):
                    return False
                left = dim - 1
            elif values:
                if left < values:
                    return False
                left -= values
            at += 1
        seen += values
    return seen == count


@kernel
def _look_up(words, indices, out):  # type: ignore[no-untyped-def]
    for i in range(len(indices)):
        if indices[i] >= len(words):
            return False
        out[i] = words[indices[i]]
    return True


def _bytes(buffer: Any) -> Array:
    data = np.frombuffer(buffer, np.uint8)
    data.flags.writeable = False  # decompressed buffers are writable, others not, and kernels are compiled for each
    return data


class VectorPages:
    """Reads the rows of one row group's vector column in order.

    Raises:
      IrregularError: when made or by `take`; rows taken before stay right.
    """

    def __init__(self, path: str, chunk: Any, leaf: Any, rows: int, dim: int) -> None:
        if chunk.physical_type not in _TYPES or chunk.compression not in _CODECS or leaf.max_repetition_level != 1:
            raise IrregularError(f"a column of {chunk.physical_type}, {chunk.compression}")
        if chunk.num_values != rows * dim:
            raise IrregularError("rows of another width, or null")
        self._dtype = _TYPES[chunk.physical_type]
        codec = _CODECS[chunk.compression]
        self._codec = None if codec is None else pa.Codec(codec)
        self._level = int(leaf.max_definition_level)
        self._count, self._dim, self._position = int(chunk.num_values), dim, 0
        offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
        self._offset = min(int(offset) for offset in offsets if offset)
        self._path = path
        self._dictionary: Array | None = None
        self._pages = self._values()
        self._rest = np.empty(0, self._dtype)

    def take(self, rows: int) -> Array:
        """The next `rows` rows, (rows, dim) float32 or float64."""
        out = np.empty(rows * self._dim, self._dtype)
        filled = 0
        while filled < len(out):
            if not len(self._rest):
                page = next(self._pages, None)
                if page is None:
                    raise IrregularError("too few values")
                self._rest = page
            part = self._rest[: len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            self._rest = self._rest[len(part) :]
        return out.reshape(rows, self._dim)

    def _values(self) -> Iterator[Array]:
        with open(self._path, "rb", buffering=0) as file:
            while self._position < self._count:
                file.seek(self._offset)
                try:
                    header, length = _thrift(file.read(_HEADER_BYTES), 0)
                except IndexError as error:
                    raise IrregularError("a long page header") from error
                file.seek(self._offset + length)
                raw = file.read(header[3])
                if len(raw) != header[3]:
                    raise IrregularError("a short page")
                self._offset += length + header[3]
                values = self._page(header, raw)
                if values is not None:
                    yield values

    def _page(self, header: dict[int, Any], raw: bytes) -> Array | None:
        kind = header[1]
        if kind == _DICTIONARY_PAGE:
            data = np.frombuffer(self._unpack(raw, header[2]), self._dtype, header[7][1])
            self._dictionary = data
            return None
        if kind == _DATA_PAGE:
            page = header[5]
            data = _bytes(self._unpack(raw, header[2]))
            if page[3] != _RLE or page[4] != _RLE:
                raise IrregularError("levels in another encoding")
            length = int.from_bytes(data[:4].tobytes(), "little")
            repetition, data = data[4 : 4 + length], data[4 + length :]
            definition = data[:0]
            if self._level:
                length = int.from_bytes(data[:4].tobytes(), "little")
                definition, data = data[4 : 4 + length], data[4 + length :]
            return self._checked(page[1], page[2], repetition, definition, data)
        if kind == _DATA_PAGE_V2:
            page = header[8]
            levels = _bytes(raw[: page[5] + page[6]])
            body: Any = raw[len(levels) :]
            body = self._unpack(body, header[2] - len(levels)) if page.get(7, True) else body
            repetition, definition = levels[: page[6]], levels[page[6] :]
            return self._checked(page[1], page[4], repetition, definition, _bytes(body))
        raise IrregularError(f"a page of type {kind}")

    def _unpack(self, raw: bytes, size: int) -> Any:
        return raw if self._codec is None else self._codec.decompress(raw, size)

    def _checked(self, count: int, encoding: int, repetition: Array, definition: Array, data: Array) -> Array:
        """The page's values, if its levels say that each is there and that rows have `dim` of them."""
        if not _rows_begin(repetition, self._position, self._dim, count):  # type: ignore[no-untyped-call]
            raise IrregularError("rows of another width")
        width = self._level.bit_length()
        if self._level and not _all_equal(definition, width, self._level, count):  # type: ignore[no-untyped-call]
            raise IrregularError("nulls")
        self._position += count
        if encoding == _PLAIN:
            return np.frombuffer(data, self._dtype, count)
        if encoding not in (_PLAIN_DICTIONARY, _RLE_DICTIONARY) or self._dictionary is None:
            raise IrregularError(f"encoding {encoding}")
        indices = np.zeros(count, np.uint32)
        out = np.empty(count, self._dtype)
        if _decode(data[1:], int(data[0]), indices) != count:  # type: ignore[no-untyped-call]
            raise IrregularError("a short page of dictionary indices")
        if not _look_up(self._dictionary, indices, out):  # type: ignore[no-untyped-call]
            raise IrregularError("an index outside of the dictionary")
        return out
