"""Bytes that others wrote, read within bounds.

A size that data declare is held against what is there before anything of that size is made; compressed bytes may grow
to `most` bytes, no further; and what would lead a library into endless or very deep recursion is refused.
"""
from __future__ import annotations

import bz2
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

DEEPEST = 100  # JSON or schemas within each other
_PIECE = 1 << 20
_SYNC = 16
_MOST_BLOCK = 1 << 48  # bytes that a file may say a block has
_BLOCK_HEAD = 20  # bytes of two numbers, at most
_AVRO_HEADER = {
    "type": "record", "name": "Header", "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": _SYNC}},
    ],
}  # fmt: skip
_LEAST_BYTES = {"null": 0, "float": 4, "double": 8}  # of every other type 1
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def most(size: int) -> int:
    """How many bytes may be made of `size` bytes that others wrote."""
    return 10 * size + (64 << 20)


class Careful:
    """A binary file of which no read makes more than is there, however much is asked for."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end. All that is left if negative."""
        pieces, left = [], size
        while left and (piece := self._file.read(_PIECE if left < 0 else min(left, _PIECE))):
            pieces.append(piece)
            left -= len(piece) if left > 0 else 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def tell(self) -> int:
        """As the file's."""
        return int(self._file.tell())

    def seek(self, at: int) -> None:
        """As the file's."""
        self._file.seek(at)


def expand(data: bytes, codec: str, limit: int | None = None) -> bytes:
    """Decompresses a whole buffer.

    Args:
      codec: "zlib", or what Avro calls its codecs.
      limit: the most bytes it may become; None: `most`.

    Raises:
      ValueError: an unknown codec, broken data, or more than the limit.
    """
    if codec == "null":
        return data
    if codec not in _EXPAND:
        raise ValueError(f"codec: must be one of null, {', '.join(_EXPAND)}, got {codec!r}")
    limit = most(len(data)) if limit is None else limit
    try:
        found = _EXPAND[codec](data, limit)
    except (zlib.error, lzma.LZMAError, EOFError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{codec}: must be whole compressed data, got some that is not ({error})") from None
    if len(found) > limit:
        raise ValueError(f"{codec}: must expand to at most {limit:,} bytes, got more from {len(data):,}")
    return found


def _by_object(make: Callable[[], Any]) -> Callable[[bytes, int], bytes]:
    """Of a decompressor as in zlib, bz2 and lzma."""

    def expand_with(data: bytes, limit: int) -> bytes:
        engine = make()
        found: bytes = engine.decompress(data, limit + 1)
        if len(found) <= limit and not engine.eof:
            raise EOFError("it ends too early")
        return found

    return expand_with


def _of_known_size(codec: str, data: bytes, size: int, limit: int) -> bytes:
    if not 0 <= size <= limit:
        raise ValueError(f"{codec}: must expand to at most {limit:,} bytes, got {size:,} from {len(data):,}")
    return bytes(pa.Codec(codec).decompress(data, size, asbytes=True)) if size else b""


def _snappy(data: bytes, limit: int) -> bytes:
    """A raw snappy block, which begins with its size, before 4 bytes of checksum."""
    size, shift = 0, 0
    for byte in data[:5]:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    found = _of_known_size("snappy", data[:-4], size, limit)
    if zlib.crc32(found).to_bytes(4, "big") != data[-4:]:
        raise EOFError("its checksum is another")
    return found


def _zstandard(data: bytes, limit: int) -> bytes:
    found = bytearray()
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        # Not `read`: where it fails, pyarrow never frees the bytes that it had made for the answer.
        while piece := stream.read_buffer(min(_PIECE, limit + 1 - len(found))):
            found += piece
    return bytes(found)


_EXPAND: dict[str, Callable[[bytes, int], bytes]] = {
    "zlib": _by_object(zlib.decompressobj),
    "deflate": _by_object(lambda: zlib.decompressobj(-15)),
    "bzip2": _by_object(bz2.BZ2Decompressor),
    "xz": _by_object(lzma.LZMADecompressor),
    "snappy": _snappy,
    "zstandard": _zstandard,
    "lz4": lambda data, limit: _of_known_size("lz4_raw", data[4:], int.from_bytes(data[:4], "little"), limit),
}


def printable(text: str) -> str:
    """A text for a terminal: control characters (escapes among them), and those that turn the direction of writing or
    break lines, are spelled out; line feeds and tabs stay."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def depth(text: bytes) -> int:
    """How deep JSON is nested, counted only where it may be deeper than `DEEPEST`."""
    if text.count(b"{") + text.count(b"[") <= DEEPEST:
        return 0
    codes = np.frombuffer(_STRING.sub(b"", text), np.uint8)
    return int(np.cumsum(_STEPS[codes], dtype=np.int64).max(initial=0))


def avro_schema(text: str) -> Any:
    """The Avro record schema that a text is, as fastavro parses it.

    Raises:
      ValueError: none, one that is recursive (deep records of it crash the reader), or one with arrays whose elements
        take no bytes (a few bytes can declare any number of them).
    """
    try:
        if depth(text.encode("utf-8", "replace")) > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
        schema = fastavro.parse_schema(json.loads(text))
    except Exception as error:  # fastavro's own kinds, and what broken schemas make of it
        raise ValueError(f"schema: must be an Avro schema, got {text[:200]!r} ({str(error)[:100]})") from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError(f"schema: must be an Avro record, got {text[:200]!r}")
    try:
        least_bytes(schema)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"schema: must be an Avro schema, got {text[:200]!r} ({type(error).__name__})") from None
    return schema


def least_bytes(schema: Any) -> int:
    """How many bytes a value of an Avro schema takes at least.

    Raises:
      ValueError: a recursive schema, or arrays whose elements may take no bytes.
    """
    return _least(schema, {}, frozenset())


def _least(schema: Any, known: dict[str, int], around: frozenset[str]) -> int:
    if isinstance(schema, str):
        if schema in around:
            raise ValueError(f"schema: must not be recursive, got {schema!r} within itself")
        return known.get(schema, _LEAST_BYTES.get(schema, 1))
    if isinstance(schema, list):
        for one in schema:
            _least(one, known, around)
        return 1
    kind = schema["type"]
    if kind in ("record", "error"):
        within = around | {schema["name"]}
        known[schema["name"]] = sum(_least(field["type"], known, within) for field in schema["fields"])
        return known[schema["name"]]
    if kind == "fixed":
        if type(schema["size"]) is not int or schema["size"] < 0:
            raise ValueError(f"schema: must have fixed types of a size, got {str(schema['size'])[:50]}")
        known[schema["name"]] = schema["size"]
        return int(schema["size"])
    if kind == "array" and not _least(schema["items"], known, around):
        raise ValueError(f"schema: must have arrays of what takes bytes, got arrays of {str(schema['items'])[:100]}")
    if kind == "map":
        _least(schema["values"], known, around)
    return _least(kind, known, around) if isinstance(kind, (dict, list)) else _LEAST_BYTES.get(kind, 1)


class AvroBlock:
    """A block of an Avro file.

    Attributes:
      count: its records.
      data: their bytes, one behind the other, without compression.
    """

    def __init__(self, block: Any) -> None:
        self._block = block
        self.count: int = block.num_records
        self.data: bytes = block.bytes_.getvalue()

    def records(self) -> Iterator[Any]:
        """What fastavro reads, once. Raises ValueError if more bytes follow."""
        yield from self._block
        if self._block.bytes_.read(1):
            raise ValueError(f"block: must hold {self.count} records, got more bytes")


class AvroReader:
    """The records of an Avro file, as `fastavro.reader` gives them, one block in memory at a time.

    Args:
      file: with `read`.
      options: for `fastavro.block_reader`.

    Attributes:
      writer_schema: as fastavro parsed it.

    Raises:
      ValueError: no such file, a schema that `avro_schema` refuses; while reading: blocks that don't hold what they
        say.
    """

    def __init__(self, file: Any, **options: Any) -> None:
        self._file = Careful(file)
        header = _header(self._file)
        text = header["meta"]["avro.schema"].decode()
        self.writer_schema = avro_schema(text)
        self._least, self._sync = least_bytes(self.writer_schema), header["sync"]
        self._codec = header["meta"].get("avro.codec", b"null").decode()
        self._stop: int | None = None
        plain = b"Obj\x01" + _long(1) + _string(b"avro.schema") + _string(text.encode()) + _long(0) + self._sync
        self._blocks = fastavro.block_reader(_Pieces(self._frames(plain)), **options)
        self._records = self._all()

    def __iter__(self) -> Iterator[Any]:
        return self._records

    def __next__(self) -> Any:
        return next(self._records)

    def _all(self) -> Iterator[Any]:
        for block in self.blocks():
            yield from block.records()

    def blocks(self) -> Iterator[AvroBlock]:
        """The blocks that nobody has read."""
        for block in self._blocks:
            yield AvroBlock(block)

    def go_to(self, start: int, stop: int) -> None:
        """Reads the blocks that begin in the byte range [start, stop); one of them begins at `start`, or `start` is 0.

        To be called before any block is read; the file must have `seek` and `tell`.
        """
        if start:
            self._file.seek(start)
        self._stop = stop

    def behind_sync(self, low: int, stop: int) -> int | None:
        """Where the first block in the byte range [low, stop) most likely begins: behind a sync marker."""
        self._file.seek(max(0, low - _SYNC))
        at, held = max(0, low - _SYNC), b""
        while at + len(held) < stop and (piece := self._file.read(_PIECE)):
            held += piece
            if (found := held.find(self._sync)) >= 0:
                return at + found + _SYNC if at + found + _SYNC < stop else None
            at, held = at + len(held[: 1 - _SYNC]), held[1 - _SYNC :]
        return None

    def count(self, start: int, stop: int) -> tuple[int, int | None] | None:
        """The records of the blocks that begin in the byte range [start, stop), of which one begins at `start`, and
        where the next block begins (None: there is none), without reading them; None where blocks are not whole.

        To be called before any block is read if `start` is 0, the place of the first block.
        """
        at, records = start or self._file.tell(), 0
        self._file.seek(at)
        head = self._file.read(_BLOCK_HEAD)
        while at < stop:
            if not head:
                return records, None
            numbers = Careful(io.BytesIO(head))
            try:
                count, size = _read_long(numbers), _read_long(numbers)
            except ValueError:
                return None
            behind = at + numbers.tell() + size
            if min(count, size) < 0 or size > _MOST_BLOCK:
                return None
            self._file.seek(behind)
            head = self._file.read(_SYNC + _BLOCK_HEAD)
            if head[:_SYNC] != self._sync:
                return None
            at, head, records = behind + _SYNC, head[_SYNC:], records + count
        return records, at

    def _frames(self, header: bytes) -> Iterator[bytes]:
        """The file anew without compression, block by block."""
        yield header
        while (self._stop is None or self._file.tell() < self._stop) and (first := self._file.read(1)):
            count, size = _read_long(self._file, first), _read_long(self._file)
            data = self._file.read(size) if size >= 0 else b""
            if len(data) != size:
                raise ValueError(f"block: must be {size} bytes long, got {len(data)}")
            data = expand(data, self._codec)
            if count < 0 or count * max(self._least, 1) > len(data):
                raise ValueError(f"block: must be of at most {len(data)} bytes, got {count} records for it")
            yield _long(count) + _long(len(data)) + data + self._file.read(_SYNC)


def _header(file: Careful) -> Any:
    try:
        header = fastavro.schemaless_reader(file, _AVRO_HEADER, None)
    except Exception as error:
        raise ValueError(f"header: must be an Avro file's, got none ({type(error).__name__})") from None
    if header["magic"] != b"Obj\x01" or "avro.schema" not in header["meta"]:
        raise ValueError("header: must be an Avro file's, got another")
    return header


class _Pieces:
    """A file to read from, whose pieces are made when they are needed; no read goes over the end of one."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._now = pieces, io.BytesIO()

    def tell(self) -> int:
        """Where in the piece; fastavro notes it for each block."""
        return self._now.tell()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none at the end."""
        found = self._now.read(size)
        while size and not found:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._now = io.BytesIO(piece)
            found = self._now.read(size)
        return found


def _read_long(file: Careful, byte: bytes = b"") -> int:
    """A zigzag varint."""
    value, shift = 0, 0
    while True:
        byte = byte or file.read(1)
        if not byte or shift > 63:
            raise ValueError("block: must begin with two numbers, got none")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return (value >> 1) ^ -(value & 1)
        byte, shift = b"", shift + 7


def _long(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _string(text: bytes) -> bytes:
    return _long(len(text)) + text
