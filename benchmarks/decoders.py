"""How fast rows become blocks of points, beside the libraries' readers: `python benchmarks/decoders.py`.

JSON, Avro and Protobuf messages (`--batch` at a time, as a poll of a broker gives them; Protobuf behind the frame of a
schema registry) and files of CSV, JSON lines and Avro,
`--dim` columns of random numbers with 16 or 17 digits. Ours is the whole way with all checks: dead letters, times, ids,
float32 where that is exact. What a library does ends with an array of its columns and checks nothing; those that are
not installed are left out. Seconds are processor time of one thread, medians of `--times` rounds, one after the other
in each round.
"""
import argparse
import base64
import io
import json
import operator
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.messages.formats import Avro, EventTime, Json, Messages, ProtobufRegistry
from beam_coresets.transforms.streams.messages.schemas import PROTOBUF, Fetched, Schemas

try:
    import polars
except ImportError:
    polars = None  # type: ignore[assignment]

NOW = 1.7e9
Way = Callable[[], int]


def in_batches(values: list[bytes], batch: int, read: Callable[[list[bytes]], int]) -> Way:
    """Reads messages some at a time."""
    return lambda: sum(read(values[i : i + batch]) for i in range(0, len(values), batch))


def ours(form: Any) -> Callable[[list[bytes]], int]:
    def read(values: list[bytes]) -> int:
        n = len(values)
        messages = Messages("topic", "partition 0", np.arange(n), np.full(n, NOW), [None] * n, values)
        return len(form.decode(messages, EventTime(), NOW).points)

    return read


def arrow_lines(text: bytes, kinds: pa.Schema) -> int:
    options = pajson.ReadOptions(use_threads=False, block_size=len(text) + 1)
    return len(pajson.read_json(pa.BufferReader(text), options, pajson.ParseOptions(explicit_schema=kinds)))


def message_ways(rows: Any, names: list[str], batch: int) -> dict[str, dict[str, Way]]:
    columns, pick = Columns(tuple(names)), operator.itemgetter(*names)
    schema = fastavro.parse_schema(schema_of(names))
    texts = [json.dumps(dict(zip(names, row, strict=True))).encode() for row in rows.tolist()]
    records = []
    for row in rows.tolist():
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, schema, dict(zip(names, row, strict=True)))
        records.append(stream.getvalue())
    kinds = pa.schema([(name, pa.float64()) for name in names])
    as_json: dict[str, Callable[[list[bytes]], int]] = {
        "beam-coresets": ours(Json(columns)),
        "json.loads, then an array": lambda some: len(np.array([pick(json.loads(text)) for text in some])),
        "pyarrow.json.read_json of the lines": lambda some: arrow_lines(b"\n".join(some) + b"\n", kinds),
    }
    if polars is not None:
        types = {name: polars.Float64 for name in names}
        as_json["polars.read_ndjson of the lines"] = lambda some: len(
            polars.read_ndjson(b"\n".join(some), schema=types))  # fmt: skip
    as_avro: dict[str, Callable[[list[bytes]], int]] = {
        "beam-coresets": ours(Avro(columns, None, json.dumps(schema_of(names)))),
        "fastavro.schemaless_reader, then an array": lambda some: len(np.array(
            [pick(fastavro.schemaless_reader(io.BytesIO(record), schema, None)) for record in some])),
        "fastavro.schemaless_reader alone": lambda some: len(
            [fastavro.schemaless_reader(io.BytesIO(record), schema, None) for record in some]),
    }  # fmt: skip
    row, file = protobuf_of(names)
    frame, form = bytes(6), ProtobufRegistry(columns)
    framed = [frame + row(**dict(zip(names, each, strict=True))).SerializeToString() for each in rows.tolist()]
    fetched = Fetched(PROTOBUF, base64.b64encode(file).decode())
    schemas = Schemas(form.registry, PROTOBUF, form._parsed)
    schemas._fetch = lambda name, ask: fetched  # type: ignore[method-assign]
    form.__dict__["_schemas"] = schemas
    as_protobuf: dict[str, Callable[[list[bytes]], int]] = {
        "beam-coresets": ours(form),
        "google.protobuf, then an array": lambda some: len(np.array(
            [[getattr(message, name) for name in names] for message in [row.FromString(each[6:]) for each in some]])),
        "google.protobuf alone": lambda some: len([row.FromString(each[6:]) for each in some]),
    }  # fmt: skip
    return {
        "JSON messages": {name: in_batches(texts, batch, read) for name, read in as_json.items()},
        "Avro messages": {name: in_batches(records, batch, read) for name, read in as_avro.items()},
        "Protobuf messages": {name: in_batches(framed, batch, read) for name, read in as_protobuf.items()},
    }


def schema_of(names: list[str]) -> dict[str, Any]:
    return {"type": "record", "name": "Row", "fields": [{"name": name, "type": "double"} for name in names]}


def protobuf_of(names: list[str]) -> tuple[Any, bytes]:
    """A message class of doubles, and its serialized file."""
    file = descriptor_pb2.FileDescriptorProto(name="row.proto", syntax="proto3")
    row = file.message_type.add(name="Row")
    for number, name in enumerate(names, 1):
        row.field.add(name=name, number=number, type=descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Row")), file.SerializeToString()


def file_ways(folder: pathlib.Path, rows: Any, names: list[str]) -> dict[str, dict[str, Way]]:
    paths = {kind: str(folder / f"rows.{kind}") for kind in ("csv", "jsonl", "avro")}
    records = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    pacsv.write_csv(pa.table({name: rows[:, j] for j, name in enumerate(names)}), paths["csv"])
    pathlib.Path(paths["jsonl"]).write_text("".join(json.dumps(record) + "\n" for record in records))
    with open(paths["avro"], "wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema_of(names)), records)
    kinds = pa.schema([(name, pa.float64()) for name in names])
    found: dict[str, dict[str, Way]] = {}
    for kind, label in (("csv", "CSV file"), ("jsonl", "JSON lines file"), ("avro", "Avro file")):
        path = paths[kind]
        found[label] = {"beam-coresets": lambda path=path: sum(  # type: ignore[misc]
            len(block) for block in ReadBlocks(path).here() if isinstance(block, PointBlock))}  # fmt: skip
    found["CSV file"]["pyarrow.csv.read_csv"] = lambda: len(
        pacsv.read_csv(paths["csv"], pacsv.ReadOptions(use_threads=False)))  # fmt: skip
    found["JSON lines file"]["pyarrow.json.read_json"] = lambda: arrow_lines(
        pathlib.Path(paths["jsonl"]).read_bytes(), kinds)  # fmt: skip
    found["Avro file"]["fastavro.reader"] = lambda: sum(
        1 for _ in fastavro.reader(io.BytesIO(pathlib.Path(paths["avro"]).read_bytes())))  # fmt: skip
    if polars is not None:
        types = {name: polars.Float64 for name in names}
        found["CSV file"]["polars.read_csv"] = lambda: len(polars.read_csv(paths["csv"]))
        found["JSON lines file"]["polars.read_ndjson"] = lambda: len(polars.read_ndjson(paths["jsonl"], schema=types))
        found["Avro file"]["polars.read_avro"] = lambda: len(polars.read_avro(paths["avro"]))
    return found


def measured(ways: dict[str, Way], rows: int, times: int) -> dict[str, float]:
    """Rows a second of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times + 1):
        for name, way in ways.items():
            began = time.process_time()
            assert way() == rows, name
            seconds[name].append(time.process_time() - began)
    return {name: rows / statistics.median(each[1:]) for name, each in seconds.items()}  # the first compiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--batch", type=int, default=5000, help="messages read at once")
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    pa.set_cpu_count(1)
    rows = generator("decoders").normal(0, 10, (args.rows, args.dim))
    names = [f"x{j}" for j in range(args.dim)]
    with tempfile.TemporaryDirectory() as folder:
        for label, ways in {
            **message_ways(rows, names, args.batch), **file_ways(pathlib.Path(folder), rows, names)
        }.items():  # fmt: skip
            found = measured(ways, args.rows, args.times)
            print(f"{label}, {args.dim} columns")
            for name, speed in found.items():
                ratio = "" if name == "beam-coresets" else f"   ours {found['beam-coresets'] / speed:5.2f} times"
                print(f"  {name:44} {speed / 1e6:6.2f} M rows/s{ratio}", flush=True)


if __name__ == "__main__":
    main()
