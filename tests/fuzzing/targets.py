"""What is fuzzed: each decoder and stored form, with inputs to begin from. Without pytest, so that forks stay small."""
import base64
import contextlib
import io
import json
import os
import zlib

import fastavro
import numpy as np

os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the other ones reserve a gigabyte of addresses

import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from beam_coresets import bounded, table_schemas, tables
from beam_coresets.coordinator.decision import Decision, Policy, Verdict, decide
from beam_coresets.coordinator.evidence import pack_evidence, unpack_evidence
from beam_coresets.pipelines.passes.over_rows import bytes_of, value_of
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, ShardState, shard_reports
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming.center_tracking import CenterHistory, WindowCenters
from beam_coresets.transforms.reading import avro_files, formats
from beam_coresets.transforms.reading.columns import Columns, resolve
from beam_coresets.transforms.streams.messages.formats import (
    Avro,
    AvroRegistry,
    EventTime,
    Json,
    JsonRegistry,
    Messages,
    ProtobufRegistry,
    SchemaRegistry,
    message_format,
)
from beam_coresets.transforms.streams.messages.schemas import Fetched, Schemas, UnknownSchemaError

SCRATCH = f"/dev/shm/fuzz-{os.getpid()}" if os.path.isdir("/dev/shm") else f"/tmp/fuzz-{os.getpid()}"
RECORD = {"type": "record", "name": "r", "fields": [
    {"name": "x", "type": "double"}, {"name": "y", "type": ["null", "double"]}, {"name": "t", "type": "string"},
    {"name": "v", "type": {"type": "array", "items": "float"}},
    {"name": "m", "type": {"type": "map", "values": "long"}},
    {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["a", "b"]}},
    {"name": "f", "type": {"type": "fixed", "name": "f", "size": 3}}]}  # fmt: skip
ROWS = [{"x": i, "y": i or None, "t": "t" * i, "v": [1.0] * i, "m": {"a": i}, "e": "a", "f": b"abc"} for i in range(9)]

FLAT = RECORD | {"fields": [field for field in RECORD["fields"] if field["name"] not in "vm"]}
FLAT_ROWS = [{name: value for name, value in row.items() if name not in "vm"} for row in ROWS]


def block(n=40, dim=2, extras=True):
    rng = np.random.default_rng(n)
    more = pa.table({"id": [str(i) for i in range(n)]}) if extras else None
    ids = rng.integers(0, 1 << 60, n).astype(np.uint64)
    return PointBlock(rng.normal(size=(n, dim)).astype(np.float32), np.ones(n), ids, Span(0, 0, True), None, more)


SCHEME = Assignment(3, 2, "cyclic", 6)
LOGIC = MergeReduce(Sampler(2, 8), SCHEME)
REPORTS = list(shard_reports([block()], LOGIC))
DECISION = decide(REPORTS, Policy(SCHEME))


def summary_tables():
    """A row of summaries with evidence, and its coreset."""
    coreset, shard, bucket = DECISION.coreset, DECISION.evidence.shard, DECISION.evidence.bucket
    found = {name: pa.nulls(len(coreset), kind) for name, kind in zip(
        table_schemas.CORESET.names, table_schemas.CORESET.types, strict=True)}  # fmt: skip
    found |= {"id": pa.array([str(i) for i in range(len(coreset))]), "coordinates": pa.array(coreset.points.tolist()),
              "weight": pa.array(coreset.weights), "weight_ht": pa.array(coreset.weights_ht),
              "shard": pa.array(shard), "bucket": pa.array(bucket),
              "revision": pa.array([1] * len(coreset))}  # fmt: skip
    return {"evidence": pack_evidence(DECISION), "summary": "coreset"}, pa.table(found)


ROW, CORESET = summary_tables()
EVIDENCE = zlib.decompress(ROW["evidence"])


def evidence(data):
    unpack_evidence({"evidence": data, "summary": "coreset"}, CORESET)


def of_file(form, suffix, columns):
    """Probes and reads a file with these bytes."""
    path = f"{SCRATCH}.{suffix}"

    def run(data):
        with open(path, "wb") as file:
            file.write(data)
        with formats.naming(form.label, path):
            schema, sample = form.probe(path, columns)
            layout = resolve(schema, columns, path, sample)
            for _ in form.read(formats.FilePart(path, 0, 1 << 60, 1), layout, lambda letter: None):
                pass

    return run


def table(form):
    """Reads a file of a table as `tables_of` does."""

    def run(data):
        with contextlib.suppress(Exception):  # the libraries' own errors are made a ValueError there
            table_schemas.typed(tables.decode(data, form), "coreset")

    return run


def message(form, good=None, around=1):
    """Between good messages, `around` on both sides, which stay: where there are many, plans read them."""
    good = good or SEEDS_OF_MESSAGES[form.name]
    n = 2 * around + 1

    def run(data):
        values = [good] * around + [data] + [good] * around
        times = np.full(n, 1.7e9)
        chunk = form.decode(Messages("t", "p", np.arange(n), times, [None] * n, values), EventTime(None), 1.7e9)
        assert set(range(n)) - {around} <= set(chunk.offsets.tolist()), "a good message was lost"

    return run


def avro(rows=ROWS, codec="null", schema=RECORD):
    out = io.BytesIO()
    fastavro.writer(out, schema, rows, codec=codec, sync_marker=b"0123456789abcdef")
    return out.getvalue()


def one_record(schema=RECORD):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), ROWS[3])
    return out.getvalue()


def parquet(**options):
    out = io.BytesIO()
    vectors = pa.array(np.random.default_rng(0).normal(size=(300, 4)).astype("f4").tolist(), pa.list_(pa.float32(), 4))
    pq.write_table(pa.table({"v": vectors, "t": [str(i) for i in range(300)]}), out, **options)
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def history():
    centers = np.arange(4.0).reshape(2, 2)
    one = WindowCenters(10.0, centers, np.ones(2), np.ones(2) / 2, ("1", "2"), np.zeros(2))
    return CenterHistory("k", (one,)).to_bytes()


XY = Columns(columns=("x", "y"))
VECTOR = Columns(vector_column="v", metric="euclidean")
def protobuf_schema():
    """A file with a message that has a bit of everything."""
    file = FileDescriptorProto(name="r.proto", package="p", syntax="proto3")
    row = file.message_type.add(name="Row")
    row.oneof_decl.add(name="choice")
    enum = row.enum_type.add(name="E")
    for number, name in enumerate(("A", "B")):
        enum.value.add(name=name, number=number)
    kinds = ((1, None), (5, None), (9, None), (11, ".p.Row"), (14, ".p.Row.E"), (11, ".google.protobuf.Timestamp"))
    for number, (kind, own) in enumerate(kinds, 1):
        row.field.add(name="xytmed"[number - 1], number=number, type=kind, type_name=own, label=1)
    row.field[1].oneof_index = row.field[3].oneof_index = 0
    return file.SerializeToString()


def protobuf_form():
    form = ProtobufRegistry(Columns(columns=("x",), id_column="t", group_column="e", keep_columns=("y",)))
    schemas = Schemas(form.registry, form.kind, form._parsed)
    schemas._fetch = lambda name, ask: Fetched(form.kind, base64.b64encode(PROTOBUF).decode())
    form.__dict__["_schemas"] = schemas
    return form


PROTOBUF = protobuf_schema()
PROTOBUF_FORM = protobuf_form()
SEEDS_OF_MESSAGES = {"json": b'{"x": 1, "y": [2.5e3, null, "a\\u00e9"], "t": {"a": true}}', "avro": one_record(),
                     "float32": np.ones(2, "<f4").tobytes(), "block": np.ones((3, 2), "<f4").tobytes()}  # fmt: skip
SEEDS_OF_MESSAGES["json"] = b'{"x": 1, "y": 2.5e3, "t": {"a": [true, null, "\\u00e9"]}}'
SEEDS_OF_MESSAGES["json-registry"] = bytes(5) + SEEDS_OF_MESSAGES["json"]
SEEDS_OF_MESSAGES["protobuf-registry"] = bytes(6) + (
    b"\x09" + np.float64(1).tobytes() + b"\x10\x96\x01\x1a\x02hi\x22\x02\x0a\0\x32\x02\x08\x01\xf8\x07\x01\x28\x01")
FLAT_JSON = '{"x": -1, "y": 2.5e3, "s": "\u00e9", "t": {"a": [true, null]}}'.encode()
STATE = LOGIC.update(ShardState(), 0, next(LOGIC.pieces(block())))

TARGETS = {
    "block": (PointBlock.from_bytes, [block().to_bytes(), block(3, 1, False).to_bytes()]),
    "state": (ShardState.from_bytes, [ShardState(0, {(0, 0): [block(5)]}).to_bytes(), STATE.to_bytes()]),
    "report": (ShardReport.from_bytes, [report.to_bytes() for report in REPORTS]),
    "decision": (Decision.from_bytes, [DECISION.to_bytes()]),
    "verdict": (Verdict.from_bytes, [Verdict(0.0, 1.0, "", 1, "all", 2.0, {"a": DECISION}).to_bytes()]),
    "history": (CenterHistory.from_bytes, [history()]),
    "pass": (value_of, [bytes_of({"a": np.ones((3, 2)), "": (1.0, [True, None])})]),
    "evidence": (lambda data: evidence(zlib.compress(data, 1)), [EVIDENCE]),
    "evidence-compressed": (evidence, [ROW["evidence"]]),
    "avro-file": (of_file(avro_files.AVRO, "avro", XY), [avro(), avro(codec="deflate")]),
    "flat-avro-file": (of_file(avro_files.AVRO, "avro", XY), [avro(FLAT_ROWS, schema=FLAT)]),
    "parquet-file": (of_file(formats.PARQUET, "parquet", VECTOR), [
        parquet(), parquet(compression="none", use_dictionary=False), parquet(data_page_version="2.0")]),
    "npy-file": (of_file(formats.NPY, "npy", Columns()), [
        npy(np.ones((5, 3))), npy(np.asfortranarray(np.ones((4, 2), "f4"))), npy(np.ones((9, 1), ">i2"))]),
    "avro-table": (table("avro"), [tables.encode(CORESET, "avro")]),
    "parquet-table": (table("parquet"), [tables.encode(CORESET, "parquet")]),
    "jsonl-table": (table("jsonl"), [tables.encode(CORESET, "jsonl")]),
    "json-message": (message(Json(XY)), [SEEDS_OF_MESSAGES["json"]]),
    "avro-message": (message(Avro(XY, None, json.dumps(RECORD))), [SEEDS_OF_MESSAGES["avro"]]),
    "flat-json-message": (message(Json(XY), FLAT_JSON, 9), [FLAT_JSON]),
    "flat-avro-message": (message(Avro(XY, None, json.dumps(FLAT)), one_record(FLAT), 9), [one_record(FLAT)]),
    "protobuf-message": (message(PROTOBUF_FORM), [SEEDS_OF_MESSAGES["protobuf-registry"]]),
    "flat-protobuf-message": (message(PROTOBUF_FORM, around=9), [SEEDS_OF_MESSAGES["protobuf-registry"]]),
    "framed-json-message": (message(JsonRegistry(XY)), [SEEDS_OF_MESSAGES["json-registry"]]),
    "float32-message": (message(message_format("float32", Columns(dim=2))), [SEEDS_OF_MESSAGES["float32"]]),
    "block-message": (message(message_format("block", Columns(dim=2))), [SEEDS_OF_MESSAGES["block"]]),
    "avro-schema": (lambda data: bounded.avro_schema(data.decode("utf-8", "replace")), [json.dumps(RECORD).encode()]),
    "registry-answer": (lambda data: answer(data), [
        json.dumps(RECORD).encode(), PROTOBUF, b'{"properties": {"x": {"type": ["number", "null"]}, "y": {}}}']),
    **{f"expand-{name}": (lambda data, name=name: bounded.expand(data, name), [packed]) for name, packed in {
        "zlib": zlib.compress(EVIDENCE), "deflate": zlib.compress(EVIDENCE)[2:-4],
        "zstandard": pa.Codec("zstd").compress(EVIDENCE, asbytes=True),
        "snappy": pa.Codec("snappy").compress(EVIDENCE, asbytes=True) + zlib.crc32(EVIDENCE).to_bytes(4, "big"),
        "lz4": len(EVIDENCE).to_bytes(4, "little") + pa.Codec("lz4_raw").compress(EVIDENCE, asbytes=True),
    }.items()},
}  # fmt: skip


def answer(data):
    """What a registry says of a schema, read as each kind of schema."""
    asking = SchemaRegistry("http://localhost:1")
    for form in (AvroRegistry(XY, None, asking), ProtobufRegistry(XY, None, asking), JsonRegistry(XY, None, asking)):
        schemas = Schemas(asking, form.kind, form._parsed)
        text = base64.b64encode(data).decode() if form.kind == "PROTOBUF" else data.decode("utf-8", "replace")
        schemas._fetch = lambda name, ask, kind=form.kind, text=text: Fetched(kind, text)
        form.__dict__["_schemas"] = schemas
        with contextlib.suppress(UnknownSchemaError, ValueError):
            form.check_topic("topic", None)
