"""Compiles the kernels of plans ahead of time, for images: else the first messages or files wait for seconds."""
import json

import fastavro
import numpy as np

from beam_coresets.transforms.planned import avro_records, csv_rows, json_objects, protobuf_messages
from beam_coresets.transforms.planned.texts import begin_with, joined

_SCHEMA = {"type": "record", "name": "Row", "fields": [
    {"name": "x", "type": "double"}, {"name": "t", "type": "string"}]}  # fmt: skip


def warm() -> None:
    """Reads a row of each kind, so that numba's cache has what messages and files need."""
    plan = avro_records.plan_of(fastavro.parse_schema(_SCHEMA), ("x", "t"))
    assert plan is not None
    record = bytes(8) + b"\x02t"
    for found in (avro_records.read_each(plan, [record]), avro_records.read_run(plan, [(1, record)])):
        assert found is not None
        assert found.column("t")[0].as_py() == "t"
    objects = json_objects.plan_of({"x": (json_objects.WHOLE,), "t": (json_objects.TEXT,)})
    text = joined([json.dumps({"x": 1, "t": "t"}).encode()])
    assert objects is not None
    assert text is not None
    data, bounds = text
    assert len(json_objects.read_objects(objects, data, bounds[:-1], bounds[1:]).rows) == 1
    fields = (protobuf_messages.Field("x", 1, "double", True), protobuf_messages.Field("t", 2, "string", True))
    message = joined([b"\0\x09" + bytes(8) + b"\x12\x01t"])
    assert message is not None
    assert begin_with(*message, np.frombuffer(b"\0", np.uint8))  # type: ignore[no-untyped-call]
    assert protobuf_messages.read_joined(protobuf_messages.plan_of(fields), *message, 1).column("t")[0].as_py() == "t"
    rows = csv_rows.plan_of(2, {"x": 0, "t": 1}, {"x": True, "t": False}, ",", '"', None)
    assert rows.read(b"1,t\n") is not None
