"""Protobuf messages of a registry: by a plan and by google.protobuf alike, and as google.protobuf's own classes say."""
import base64
import struct

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from protobuf_rows import SYMBOLS, TYPES, Schema, damaged, seeded
from test_planned_messages import NOW, given_schemas, same

from beam_coresets.transforms.planned import protobuf_messages
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.messages.formats import MESSAGE_KEY, EventTime, Messages, ProtobufRegistry
from beam_coresets.transforms.streams.messages.protobuf_types import ProtobufFile
from beam_coresets.transforms.streams.messages.schemas import PROTOBUF, Fetched

NAMES = ("x", "y", "w", "id", "k", "note", "at", "v", "more", "list")
PATH = b"\x04\x02\x00"  # two numbers, 1 and 0: Outer.Row


def frame(number, path=PATH):
    return b"\0" + struct.pack(">I", number) + path


def names_of(draw):
    return draw.sample(NAMES, len(NAMES))[draw.choice([0, 0, 0, 3]) :]


def columns_of(draw):
    if draw.random() < 0.3:
        roles = {"vector_column": "v", "dim": 3}
    else:
        roles = {"columns": draw.choice([("x", "y"), ("y",), ("x",)])}
    for role, name in (("weight_column", "w"), ("id_column", "id"), ("group_column", "k"), ("keep_columns", ("note",))):
        if draw.random() < 0.5:
            roles[role] = name
    return Columns(**roles, metric=draw.choice(["euclidean", "euclidean", "cosine"]))


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_messages_by_a_plan_are_those_that_google_protobuf_reads(seed):
    """6,000 messages of 300 schemas: fields in any order, or twice, unknown ones, groups, broken bytes."""
    draw = seeded(seed)
    several = [Schema(draw, names_of(draw), draw.choice(["proto2", "proto3", "proto3"]), i) for i in range(2)]
    form = ProtobufRegistry(columns_of(draw), draw.choice([None, "k", MESSAGE_KEY]))
    given_schemas(form, PROTOBUF, [one.text for one in several])
    others = [b"\0\0\0\0\0\0", frame(7), b"\1", b"", frame(0, b"\x04\x02\x09"), frame(0, b"\x03")]
    values = []
    for _ in range(40):
        number = draw.randrange(2)
        body = several[number].written(several[number].message())
        if draw.random() < 0.25:
            body = damaged(draw, body)
        values.append(draw.choice([frame(number)] * 30 + others) + body)
    same(form, [*values, None], draw.choice([EventTime(), EventTime("at")]))


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1))
def test_records_are_what_the_whole_schemas_class_says(seed):
    draw = seeded(seed)
    schema = Schema(draw, NAMES, draw.choice(["proto2", "proto3"]))
    reader = ProtobufFile(Fetched(PROTOBUF, schema.text)).reader((1, 0), {*NAMES} - {"more", "list"}, "at", "v", 3)
    for _ in range(20):
        body = schema.written(schema.message())
        if draw.random() < 0.2:
            body = damaged(draw, body)
        try:
            message = schema.cls.FromString(body)
        except DecodeError:  # perhaps only in what is not looked into
            continue
        found = reader.record(body)
        for name in found:
            field = message.DESCRIPTOR.fields_by_name[name]
            value = getattr(message, name)
            if name == "v":
                value = [float(each) for each in value]
            elif field.has_presence and not message.HasField(name):
                value = None
            elif schema.kinds[name] == "enum":
                value = dict(SYMBOLS).get(value, value)
            elif schema.kinds[name] == "time":
                value = value.seconds + value.nanos / 1e9
            assert repr(found[name]) == repr(value), name


def test_flat_messages_are_read_by_plans(monkeypatch):
    """Or nothing above would be tested."""
    draw, read = seeded(5), []
    schema = Schema(draw, ("x", "y", "more"))
    original = protobuf_messages.read_joined
    monkeypatch.setattr(protobuf_messages, "read_joined", lambda *given: read.append(original(*given)) or read[-1])
    form = given_schemas(ProtobufRegistry(Columns(("x", "y"))), PROTOBUF, [schema.text] * 2)
    values = []
    for i in range(60):
        made = schema.message()
        made.x, made.y = i, 2 * i
        values.append(frame(0 if i < 30 else i % 2) + made.SerializeToString())
    for some, rows in ((values[:30], [30]), (values[30:], [15, 15])):
        read.clear()
        messages = Messages("t", "p", np.arange(30), np.full(30, NOW), [None] * 30, some)
        monkeypatch.setattr("beam_coresets.transforms.streams.messages.framed.FEWEST", 10)
        points = form.decode(messages, EventTime(), NOW).points
        assert [len(one.rows) for one in read] == rows
        first = 0 if rows == [30] else 30
        if not any(field.HasField("oneof_index") for field in schema.file.message_type[1].nested_type[0].field[:2]):
            np.testing.assert_array_equal(points, [[i, 2 * i] for i in range(first, first + 30)])


def file_of(fields, **more):
    """A schema of one message, `Row`, with fields of (name, number, type, more words)."""
    file = FileDescriptorProto(name="row.proto", package="shop", syntax="proto3")
    row = file.message_type.add(name="Row")
    for name, number, kind, *rest in fields:
        field = row.field.add(name=name, number=number, type=TYPES[kind], label=3 if "repeated" in rest else 1)
        field.type_name = next((each for each in rest if each.startswith((".", "Colour"))), "")
        if "oneof" in rest:
            field.oneof_index = 0
    if any("oneof" in each for each in fields):
        row.oneof_decl.add(name="choice")
    for name, value in more.items():
        getattr(file, name).append(value)
    return file


def text_of(file):
    return base64.b64encode(file.SerializeToString()).decode()


def form_of(columns, *files, key=None, references=()):
    form = given_schemas(ProtobufRegistry(columns, key), PROTOBUF, [text_of(file) for file in files])
    fetch = form._schemas._fetch
    form._schemas._fetch = lambda name, ask: fetch(name, ask)._replace(references=tuple(map(text_of, references)))
    return form


def read(form, bodies, clock=EventTime(), copies=20):  # noqa: B008
    """What becomes of messages, each several times, so that plans read them."""
    values = [body for body in bodies for _ in range(copies)]
    n = len(values)
    return form.decode(Messages("t", "p", np.arange(n), np.full(n, NOW), [None] * n, values), clock, NOW)


def double(number, value):
    return bytes([number << 3 | 1]) + struct.pack("<d", value)


XY = (("x", 1, "double"), ("y", 2, "double"))
FIRST = b"\0\0\0\0\0\0"


def test_the_last_value_stands_and_unknown_fields_are_skipped():
    form = form_of(Columns(("x", "y")), file_of(XY))
    body = FIRST + double(9, 7) + double(2, 5) + double(1, 3) + b"\x5a\x03abc" + double(2, 6)
    np.testing.assert_array_equal(read(form, [body]).points, [[3, 6]] * 20)
    np.testing.assert_array_equal(read(form, [FIRST]).points, [[0, 0]] * 20)  # proto3: no presence


def test_of_a_oneof_what_came_last_is_there_and_times_in_two_pieces_are_one():
    stamp = ("at", 4, "message", ".google.protobuf.Timestamp", "oneof")
    file = file_of((*XY, ("w", 3, "double", "oneof"), stamp, ("name", 5, "string", "oneof")))
    form = form_of(Columns(("x", "y"), weight_column="w"), file)
    other = double(3, 2.0) + b"\x2a\x01a"
    got = read(form, [FIRST + double(3, 2.0), FIRST + other, FIRST + other + double(3, 4.0)])
    assert got.weights.tolist() == [2.0] * 20 + [4.0] * 20
    assert {letter.reason for letter in got.letters} == {"null"}
    seconds, nanos = b"\x08\x80\xe2\xcf\xaa\x06", b"\x10\x80\xca\xb5\xee\x01"  # 1,700,000,000 and a half
    at = lambda part: b"\x22" + bytes([len(part)]) + part  # noqa: E731
    timed = form_of(Columns(("x", "y")), file)
    gone = at(seconds) + b"\x2a\0"
    bodies = at(seconds + nanos), at(seconds) + at(nanos), gone + at(seconds), gone
    got = read(timed, [FIRST + body for body in bodies], EventTime("at"))
    assert got.times.tolist() == [NOW + 0.5] * 40 + [NOW] * 20
    assert {letter.reason for letter in got.letters} == {"no event time"}


@pytest.mark.parametrize("copies", [1, 20])
def test_what_is_no_message_is_a_letter_that_says_why(copies):
    file = file_of((*XY, ("name", 3, "string"), ("v", 4, "double", "repeated")))
    form = form_of(Columns(("x", "y"), id_column="name"), file, file_of((("x", 1, "string"), ("y", 2, "double"))),
                   file_of((("x", 1, "double", "repeated"), ("y", 2, "double"))))  # fmt: skip
    good = double(1, 1) + double(2, 2)
    bad = {
        FIRST + good[:-1]: "DecodeError in the message",
        FIRST + good + b"\x1a\x02\xff\xfe": "DecodeError in the message",
        b"\0\0\0\0\0": "must have the numbers of its type behind the schema's number",
        b"\0\0\0\0\0\x80": "must have the numbers of its type behind the schema's number",
        b"\0\0\0\0\0\x01" + good: "must have 1 to 100 numbers for its type, got -1",
        b"\0\0\0\0\0\x02\x02" + good: "schema 0: must be of a message of the schema, got 1",
        b"\0\0\0\0\0\x02\x01" + good: "schema 0: must be of a message of the schema, got -1",
        b"\0\0\0\0\x03\0" + good: "schema 3 is unknown",
        b"\1\0\0\0\0\0" + good: "must begin with a zero byte and a schema number",
        b"\0\0\0\0\2\0" + good: "schema 2: x: must be a plain value, got repeated double",
    }  # fmt: skip
    text = b"\0\0\0\0\1\0\x0a\x011" + double(2, 1)
    got = read(form, [FIRST + good, *bad, b"\0\0\0\0\0\x02\0" + good, text], copies=copies)
    assert len(got.points) == 2 * copies
    assert [letter.reason for letter in got.letters] == [
        f"unparsable: {reason}" for reason in bad.values() for _ in range(copies)] + ["unparsable"] * copies


def test_schemas_whose_fields_have_other_numbers_and_types_are_read_side_by_side():
    one, other = file_of(XY), file_of((("y", 1, "float"), ("x", 7, "sint64"), ("z", 2, "string")))
    form = form_of(Columns(("x", "y")), one, other)
    second = b"\0\0\0\0\1\0" + b"\x0d" + struct.pack("<f", 2.5) + b"\x38\x05"  # sint64 5 is -3
    got = read(form, [FIRST + double(1, 1) + double(2, 2), second])
    np.testing.assert_array_equal(got.points, [[1, 2]] * 20 + [[-3, 2.5]] * 20)


def test_enums_are_names_wherever_their_schema_stands():
    colours = FileDescriptorProto(name="colours.proto", package="shop", syntax="proto3")
    enum = colours.enum_type.add(name="Colour")
    for number, name in enumerate(("NONE", "RED")):
        enum.value.add(name=name, number=number)
    for type_name in (".shop.Colour", "Colour"):
        file = file_of((*XY, ("c", 3, "enum", type_name)), dependency="colours.proto")
        form = form_of(Columns(("x", "y")), file, key="c", references=[colours])
        assert read(form, [FIRST + b"\x18\x01", FIRST, FIRST + b"\x18\x07"]).keys.tolist() == [
            key for key in ("RED", "NONE", "7") for _ in range(20)]  # fmt: skip
    lost = form_of(Columns(("x", "y")), file, key="c")
    assert "must be of an enum of the schema or its references" in read(lost, [FIRST]).letters[0].reason


def test_vectors_are_read_packed_or_not():
    form = form_of(Columns(vector_column="v", dim=3), file_of((("v", 1, "sfixed32", "repeated"),)))
    four = [struct.pack("<i", value) for value in (1, -2, 3, 4)]
    apart = [b"\x0d" + each for each in four]
    bodies = [b"\x0a\x0c" + b"".join(four[:3]), b"".join(apart[:3]), b"\x0a\x08" + b"".join(four[:2]) + apart[2]]
    got = read(form, [FIRST + body for body in (*bodies, b"".join(apart), b"\x0a\x0b" + b"".join(four)[:11])])
    np.testing.assert_array_equal(got.points, [[1, -2, 3]] * 60)
    assert [letter.reason for letter in got.letters[::20]] == [
        "width: must be 3, got 4", "unparsable: DecodeError in the message"]  # fmt: skip


@pytest.mark.parametrize(("columns", "time", "key", "message"), [
    (Columns(("x", "y"), keep_columns=("name", "c")), "at", "name", None),
    (Columns(vector_column="v", dim=2), None, None, None),
    (Columns(("x", "z")), None, None, r"columns: must be among the fields of the schema of t-value \(x, y, .* got 'z'"),
    (Columns(("x", "name")), None, None, "columns: must be a number in the schema of t-value, got string name"),
    (Columns(("x", "inside")), None, None, "columns: must be a number .*, got .shop.Inside inside"),
    (Columns(("x", "v")), None, None, "columns: must be a number in the schema of t-value, got repeated double v"),
    (Columns(vector_column="x", dim=2), None, None, "vector_column: must be repeated numbers .*, got double x"),
    (Columns(vector_column="words", dim=2), None, None, "vector_column: must be repeated numbers .*, got repeated s"),
    (Columns(("x",), id_column="inside"), None, None, "id_column: must be a plain value .*, got .shop.Inside"),
    (Columns(("x",), keep_columns=("v",)), None, None, "v: must be a plain value, got repeated double"),
    (Columns(("x",)), "inside", None, "inside: must be a plain value or google.protobuf.Timestamp, got .shop.Inside"),
    (Columns(("x",)), None, "at", "key_column: must be a plain value .*, got .google.protobuf.Timestamp at"),
])  # fmt: skip
def test_columns_are_checked_against_the_newest_schema(columns, time, key, message):
    file = file_of((*XY, ("name", 3, "string"), ("v", 4, "double", "repeated"), ("c", 5, "bool"),
                    ("at", 6, "message", ".google.protobuf.Timestamp"), ("inside", 7, "message", ".shop.Inside"),
                    ("words", 8, "string", "repeated")))  # fmt: skip
    first = FileDescriptorProto.FromString(file.SerializeToString())
    del first.message_type[:]
    first.message_type.add(name="Inside").field.add(name="a", number=1, type=TYPES["string"], label=1)
    first.message_type.extend(file.message_type)
    form = form_of(columns, first, key=key)
    form._schemas._fetch = lambda name, ask: Fetched(PROTOBUF, text_of(first))
    if message is None:
        form.check_topic("t", time)
        return
    with pytest.raises(ValueError, match=message):
        form.check_topic("t", time)


def test_a_registry_that_gives_text_is_told_of():
    form = given_schemas(ProtobufRegistry(Columns(("x",))), PROTOBUF, ['syntax = "proto3"; message Row {}'])
    wanted = "must be a serialized file descriptor, got text: this registry has no format=serialized"
    assert read(form, [FIRST]).letters[0].reason == f"unparsable: schema 0 can't be used: {wanted}"


def test_what_confluents_serializer_writes_is_read_through_its_client():
    """Registered, framed and encoded by Confluent; a schema that imports another one."""
    serializers = pytest.importorskip("confluent_kafka.schema_registry.protobuf")
    from confluent_kafka.schema_registry._sync.mock_schema_registry_client import MockSchemaRegistryClient
    from confluent_kafka.serialization import MessageField, SerializationContext

    client = MockSchemaRegistryClient({"url": "mock://"})
    schema = Schema(seeded(3), ("x", "y", "at", "v"))
    context = SerializationContext("orders", MessageField.VALUE)
    write = serializers.ProtobufSerializer(schema.cls, client, {"use.deprecated.format": False})
    made = [schema.cls(x=i, y=2 * i, v=[1, 2, 3]) for i in range(40)]
    values = [write(one, context) for one in made]
    form = ProtobufRegistry(Columns(vector_column="v", dim=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(form.registry), "client", lambda self: client)
        form.check_topic("orders", None)
        messages = Messages("orders", "p", np.arange(40), np.full(40, NOW), [None] * 40, values)
        np.testing.assert_array_equal(form.decode(messages, EventTime(), NOW).points, [[1, 2, 3]] * 40)
