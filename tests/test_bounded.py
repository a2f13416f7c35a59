"""Sizes that data declare make nothing larger than the data; what libraries write is read as they read it."""
import contextlib
import io
import itertools
import json
import tracemalloc
import zlib

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets import bounded, codec, tables
from beam_coresets.bounded import AvroReader, Careful, expand, printable

SCHEMA = {"type": "record", "name": "r", "fields": [
    {"name": "x", "type": "double"}, {"name": "t", "type": ["null", "string"]},
    {"name": "v", "type": {"type": "array", "items": "float"}}]}  # fmt: skip
ROWS = [{"x": i / 2, "t": None if i % 3 else "é" * i, "v": [1.0] * (i % 4)} for i in range(300)]


def avro(rows=ROWS, schema=SCHEMA, **options):
    out = io.BytesIO()
    fastavro.writer(out, schema, rows, **options)
    return out.getvalue()


def with_blocks(codec, *blocks, schema=SCHEMA):
    """A file of these (count, compressed bytes), written by hand."""
    head = avro([], schema).replace(b"\x08null", bounded._string(codec.encode()))
    sync = head[-16:]
    return head + b"".join(bounded._long(count) + bounded._string(data) + sync for count, data in blocks)


def plain_block(rows=ROWS):
    out = io.BytesIO()
    for row in rows:
        fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), row)
    return out.getvalue()


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
@pytest.mark.parametrize("interval", [1, 100, 10**6])
def test_files_of_fastavro_are_read_as_by_fastavro(codec, interval):
    data = avro(codec=codec, sync_interval=interval)
    assert list(AvroReader(io.BytesIO(data))) == list(fastavro.reader(io.BytesIO(data)))
    assert AvroReader(io.BytesIO(data)).writer_schema["fields"] == SCHEMA["fields"]


def test_codecs_that_fastavro_has_no_library_for():
    raw = plain_block()
    snappy = pa.Codec("snappy").compress(raw, asbytes=True) + zlib.crc32(raw).to_bytes(4, "big")
    lz4 = len(raw).to_bytes(4, "little") + pa.Codec("lz4_raw").compress(raw, asbytes=True)
    for name, block in (("snappy", snappy), ("lz4", lz4), ("zstandard", pa.Codec("zstd").compress(raw, asbytes=True))):
        assert list(AvroReader(io.BytesIO(with_blocks(name, (300, block), (300, block))))) == ROWS * 2
        with pytest.raises(ValueError, match=name):
            list(AvroReader(io.BytesIO(with_blocks(name, (300, block[:-1])))))
    with pytest.raises(ValueError, match=r"codec: must be one of null, .* got 'mine'"):
        list(AvroReader(io.BytesIO(with_blocks("mine", (1, raw)))))


@pytest.mark.parametrize("count", [299, 301, 0, -1, 2**40, 2**62])
def test_a_block_that_holds_another_number_of_records_is_an_error(count):
    with pytest.raises((ValueError, EOFError)):
        list(AvroReader(io.BytesIO(with_blocks("null", (count, plain_block())))))


@pytest.mark.parametrize("kind", [
    {"type": "array", "items": "null"}, {"type": "array", "items": {"type": "record", "name": "e", "fields": []}},
    {"type": "map", "values": {"type": "array", "items": {"type": "fixed", "name": "f", "size": 0}}},
    ["null", {"type": "array", "items": {"type": "record", "name": "e", "fields": [{"name": "n", "type": "null"}]}}],
    *({"type": "fixed", "name": "f", "size": size} for size in (-1, float("inf"), None, [], {}, "3")),
    {"type": "record", "name": "tree", "fields": [{"name": "next", "type": ["null", "tree"]}]},
])  # fmt: skip
def test_schemas_by_which_few_bytes_are_any_number_of_values_are_refused(kind):
    schema = {"type": "record", "name": "r", "fields": [{"name": "a", "type": kind}]}
    with pytest.raises(ValueError, match="schema: must"):
        bounded.avro_schema(json.dumps(schema))


def test_deep_schemas_are_refused():
    text = '{"type":"record","name":"r","fields":[{"name":"a","type":%s"int"%s}]}'
    deep = text % ('{"type":"array","items":' * 100_000, "}" * 100_000)
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        bounded.avro_schema(deep)


def bombs():
    ten_mb = bytes(10 << 20)
    yield "deflate", zlib.compress(ten_mb)[2:-4]
    yield "zlib", zlib.compress(ten_mb)
    yield "zstandard", pa.Codec("zstd").compress(ten_mb, asbytes=True)
    yield "snappy", pa.Codec("snappy").compress(ten_mb, asbytes=True) + zlib.crc32(ten_mb).to_bytes(4, "big")
    yield "lz4", (1 << 31).to_bytes(4, "little") + bytes(10)
    yield "snappy", b"\xff\xff\xff\xff\x0f" + bytes(10)


@pytest.mark.parametrize(("codec", "data"), list(bombs()))
def test_what_expands_beyond_the_limit_is_an_error_before_it_is_there(codec, data):
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match=f"{codec}.*: must expand to at most 1,000,000 bytes"):
        expand(data, codec, 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 5 << 20


@pytest.mark.parametrize("codec", ["zlib", "deflate", "bzip2", "xz", "zstandard", "snappy", "lz4"])
@given(data=st.binary(max_size=200))
def test_no_bytes_crash_a_codec(codec, data):
    with contextlib.suppress(ValueError):
        expand(data, codec, 1 << 20)


def test_a_careful_file_asks_for_no_more_than_is_there():
    class File(io.BytesIO):
        def read(self, size=-1):
            assert 0 <= size <= 1 << 20
            return super().read(size)

    data = bytes(range(256)) * (3 << 12)
    assert Careful(File(data)).read(1 << 60) == Careful(File(data)).read() == data
    file = Careful(File(data))
    assert b"".join(itertools.takewhile(bool, (file.read(1_500_000) for _ in itertools.count()))) == data
    assert file.tell() == len(data)


@pytest.mark.parametrize("spec", [
    ["a", "<f8", [1 << 60]], ["a", "<f8", [1 << 31, 1 << 31]], ["a", "<f8", [-1]], ["a", "<f8", [0, 1 << 40]],
    ["a", "|O", [1]], ["a", "(9,9)<f8", [1]], ["a", "<f8", 3], ["a", "<f8", [1.5]], ["a", "<f8,<f8", [1]], ["a"], 7,
])  # fmt: skip
def test_arrays_that_are_not_there_are_refused_before_they_are_made(spec):
    header = json.dumps(["Mine", {}, [spec]]).encode()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a: must|header: must"):
        codec.unpack(b"BCS\x01" + len(header).to_bytes(4, "little") + header + bytes(64), "Mine")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_parquet_table_expands_within_bounds(monkeypatch):
    table = pa.table({"key": np.zeros(1_000_000), "n": np.zeros(1_000_000)})
    data = tables.encode(table, "parquet")
    assert tables.decode(data, "parquet").equals(table)
    monkeypatch.setattr(bounded, "most", lambda size: size)
    with pytest.raises(ValueError, match="parquet: must expand to at most"):
        tables.decode(data, "parquet")


def test_what_terminals_obey_is_spelled_out():
    hostile = "a\x1b[2J\x1b]0;t\x07b\r\x08\x9bc\u202ed\x00\x7f\u2028e\ud800"
    shown = printable(hostile)
    assert shown == "a\\x1b[2J\\x1b]0;t\\x07b\\r\\x08\\x9bc\\u202ed\\x00\\x7f\\u2028e\\ud800"
    assert printable("naïve 東京\tx\ny") == "naïve 東京\tx\ny"
    assert printable(shown) == shown
