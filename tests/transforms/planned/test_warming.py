"""What an image has compiled is what messages and files need."""
import subprocess
import sys

SCRIPT = """
import base64, io, json, struct, sys
import fastavro, numpy as np
from beam_coresets.transforms.planned import avro_records, csv_rows, json_objects, protobuf_messages
from beam_coresets.transforms.planned.texts import _gather, begin_with
from beam_coresets.transforms.planned.warming import warm
KERNELS = [avro_records._each, avro_records._run, json_objects._each, json_objects._hash, csv_rows._rows, _gather,
           protobuf_messages._each, begin_with]
warm()
before = [list(kernel.signatures) for kernel in KERNELS]
assert all(len(each) == 1 for each in before), before
from beam_coresets.transforms.reading import avro_files, json_lines
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.messages.formats import Avro, EventTime, Json, Messages, ProtobufRegistry
from beam_coresets.transforms.text import records
records._LEAST_PLAIN = json_lines._LEAST_PLANNED = avro_files._LEAST_PLANNED = 1
schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "double"}, {"name": "id", "type": "string"}]}
rows = [{"x": i / 2, "id": f"a{i}"} for i in range(20)]
columns, parsed, folder = Columns(("x",), id_column="id"), fastavro.parse_schema(schema), sys.argv[1]
open(f"{folder}/r.csv", "w").write("x,id\\n" + "".join("{x},{id}\\n".format(**row) for row in rows))
open(f"{folder}/r.jsonl", "w").write("".join(json.dumps(row) + "\\n" for row in rows))
with open(f"{folder}/r.avro", "wb") as file:
    fastavro.writer(file, parsed, rows)
for kind in ("csv", "jsonl", "avro"):
    assert sum(len(one) for one in ReadBlocks(f"{folder}/r.{kind}", columns).here()) == 20
values = []
for row in rows:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed, row)
    values.append(stream.getvalue())
texts = [json.dumps(row).encode() for row in rows]
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from beam_coresets.transforms.streams.messages.schemas import Fetched, Schemas
file = FileDescriptorProto(name="r.proto", syntax="proto3")
row = file.message_type.add(name="R")
row.field.add(name="x", number=1, type=1, label=1)
row.field.add(name="id", number=2, type=9, label=1)
registered = ProtobufRegistry(columns)
fetched = Fetched("PROTOBUF", base64.b64encode(file.SerializeToString()).decode())
Schemas._fetch = lambda self, name, ask: fetched
bodies = [bytes(6) + b"\x09" + struct.pack("<d", row["x"]) + b"\x12\x02" + row["id"][:2].encode() for row in rows]
for form, some in ((Avro(columns, None, json.dumps(schema)), values), (Json(columns), texts), (registered, bodies)):
    messages = Messages("t", "p", np.arange(20), np.full(20, 1.7e9), [None] * 20, some)
    assert len(form.decode(messages, EventTime(), 1.7e9).points) == 20
print([list(kernel.signatures) for kernel in KERNELS] == before)
"""


def test_nothing_is_compiled_that_was_not_warmed(tmp_path):
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    assert run.stdout.strip() == "True", run.stdout + run.stderr[-2000:]
