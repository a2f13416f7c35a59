"""Protobuf schemas and messages at random, and what google.protobuf's own classes of the whole schema say of them."""
import base64
import datetime
import math
import random
import struct

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

TYPES = {name.removeprefix("TYPE_").lower(): number for name, number in FieldDescriptorProto.Type.items()}
INTEGERS = {
    "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1),
    "sint32": (-(2**31), 2**31 - 1), "sint64": (-(2**63), 2**63 - 1), "fixed32": (0, 2**32 - 1),
    "fixed64": (0, 2**64 - 1), "sfixed32": (-(2**31), 2**31 - 1), "sfixed64": (-(2**63), 2**63 - 1),
}  # fmt: skip
NUMBERS = ("double", "float", *INTEGERS)
KINDS = {  # name -> types, of which a schema takes one
    "x": NUMBERS, "y": NUMBERS, "w": ("double", "float", "int32", "uint64"),
    "id": ("string", "int64", "uint32", "enum", "bytes", "bool"), "k": ("string", "int32", "enum", "bool", "double"),
    "note": ("string", "double", "bool", "bytes", "int64", "enum", "float"),
    "at": ("time", "double", "int64", "string", "uint64", "bool"), "v": NUMBERS,
    "more": ("string", "Inside", "map", "bytes", "double"), "list": ("string", "int32", "Inside", "double"),
}  # fmt: skip
NAMED = {"map": ".shop.rows.Outer.Row.MoreEntry", "Inside": ".shop.rows.Outer.Inside",
         "time": ".google.protobuf.Timestamp", "enum": ".shop.rows.Outer.Colour"}  # fmt: skip
NOW = 1_700_000_000
SYMBOLS = ((0, "NONE"), (1, "RED"), (-3, "BLUE"), (70_000, "GREEN"))


class Schema:
    """A message type with fields of these names, in a file of this syntax; `number` tells it from others."""

    def __init__(self, draw, names, syntax="proto3", number=0):
        self.draw, self.syntax = draw, syntax
        file = descriptor_pb2.FileDescriptorProto(
            name=f"row{number}.proto", package="shop.rows", syntax=syntax,
            dependency=["google/protobuf/timestamp.proto"],
        )  # fmt: skip
        file.message_type.add(name="Other").field.add(name="x", number=1, type=TYPES["string"], label=1)
        outer = file.message_type.add(name="Outer")
        row = outer.nested_type.add(name="Row")
        inside = outer.nested_type.add(name="Inside")
        inside.field.add(name="a", number=1, type=TYPES["string"], label=1)
        enum = outer.enum_type.add(name="Colour")
        for value, name in SYMBOLS:
            enum.value.add(name=name, number=value)
        self.kinds = {name: draw.choice(KINDS[name]) for name in names}
        numbers = draw.sample([*range(1, 20), 100, 2047, 2048, 70_000, 2**29 - 1], len(names))
        row.oneof_decl.add(name="choice")
        made_up = []
        for name, at in zip(self.kinds, numbers, strict=True):
            field = self._field(row, name, self.kinds[name], at)
            repeated = name in ("v", "list") or self.kinds[name] == "map"
            field.label = 3 if repeated else 1
            presence = draw.choice(["plain", "plain", "optional", "oneof"])
            if repeated:
                if name == "v":
                    field.options.packed = draw.random() < 0.5
            elif presence == "oneof":
                field.oneof_index = 0
            elif presence == "optional" and syntax == "proto3":
                made_up.append(field)
        if not any(field.HasField("oneof_index") for field in row.field):
            row.field.add(name="filler", number=50, type=TYPES["string"], label=1, oneof_index=0)
        for field in made_up:
            field.proto3_optional, field.oneof_index = True, len(row.oneof_decl)
            row.oneof_decl.add(name=f"_{field.name}")
        self.file, self.path = file, (1, 0)
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(file.SerializeToString())
        self.cls = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.rows.Outer.Row"))
        self.text = base64.b64encode(file.SerializeToString()).decode()

    def _field(self, row, name, kind, number):
        if kind == "map":
            entry = row.nested_type.add(name="MoreEntry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=TYPES["string"], label=1)
            entry.field.add(name="value", number=2, type=TYPES["int32"], label=1)
        field = row.field.add(name=name, number=number, type=TYPES.get(kind, TYPES["message"]))
        if kind in NAMED:
            field.type_name = NAMED[kind]
        return field

    def value(self, kind):
        draw = self.draw
        if kind in INTEGERS:
            low, high = INTEGERS[kind]
            return draw.choice([low, high, 0, 1, 127, 128, draw.randint(low, high), draw.randint(0, 300), 2**31 - 1])
        if kind in ("double", "float"):
            found = draw.choice([0.0, -0.0, 1.5, 3e20, math.nan, math.inf, draw.gauss(0, 10), draw.gauss(0, 1e9)])
            return struct.unpack("<f", struct.pack("<f", found))[0] if kind == "float" else found
        if kind == "string":
            return draw.choice(["", "a", "é", "2023-11-14T22:13:20Z", "x" * draw.randint(0, 200)])
        if kind == "enum":
            return draw.choice([number for number, _ in SYMBOLS])
        return {"bytes": draw.choice([b"", b"\xff\0", b"ab"]), "bool": draw.random() < 0.5}[kind]

    def message(self, full=0.95):
        """A message that has most of its fields."""
        made, draw = self.cls(), self.draw
        for name, kind in self.kinds.items():
            if draw.random() > full:
                continue
            if kind == "map":
                made.more["b"] = 3
            elif name == "at":
                self._set_time(made, kind)
            elif name == "list" or kind == "Inside":
                target = getattr(made, name)
                if kind == "Inside":
                    (target.add() if name == "list" else target).a = "deep"
                else:
                    target.extend([self.value(kind) for _ in range(3)])
            elif name == "v":
                made.v.extend([self.value(kind) for _ in range(draw.choice([3, 3, 3, 3, 2, 4, 0]))])
            else:
                setattr(made, name, self.value(kind))
        return made

    def _set_time(self, made, kind):
        at = NOW + self.draw.randint(-50, 61)
        if kind == "time":
            made.at.seconds, made.at.nanos = at, self.draw.choice([0, 0, 1, 999_999_999, -5])
        else:
            made.at = {"double": at + 0.25, "int64": at * 1000, "uint64": at, "bool": True,
                       "string": datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat()}[kind]

    def written(self, made):
        """Bytes of a message: as they are, or with fields in another order, twice, or unknown ones among them."""
        draw, whole = self.draw, made.SerializeToString()
        way = draw.randint(0, 9)
        if way <= 4:
            return whole
        parts = []
        for field, _ in made.ListFields():
            one = self.cls()
            one.CopyFrom(made)
            for other, _ in made.ListFields():
                if other.name != field.name:
                    one.ClearField(other.name)
            parts.append(one.SerializeToString())
        if way <= 6:
            parts += draw.sample(UNKNOWN, draw.randint(1, 3))
        if way >= 8:
            parts.append(self.message(0.3).SerializeToString())
        draw.shuffle(parts)
        return b"".join(parts)


UNKNOWN = (
    b"\xf8\x07\x01", b"\xf9\x07" + bytes(8), b"\xfa\x07\x02hi", b"\xfd\x07" + bytes(4), b"\xfb\x07\x08\x01\xfc\x07",
    b"\xf8\x07" + b"\xff" * 9 + b"\x01", b"\xf8\x07\x80\0", b"\xfa\x07\x80\0", b"\xfb\x07\xfb\x07\xfc\x07\xfc\x07",
)  # fmt: skip
ODD = (
    b"\xff" * 10, b"\0", b"\x80", b"\x0b", b"\x0c", b"\x0e\x01", b"\xff\xff\xff\xff\x7f",
    b"\x88" + b"\x80" * 5 + b"\0\x01",
    b"\x08" + b"\xff" * 9 + b"\x7f", b"\x08" + b"\x80" * 9 + b"\x02", b"\x08\x80\x80\0", b"\x0a\xff\xff\xff\xff\x0f",
    b"\x0a\x02\xff\xfe", b"\x0a" + b"\x80" * 5 + b"\0", b"\xfa\x07\x81" + b"\x80" * 4 + b"\0a",
)  # fmt: skip


def damaged(draw, raw):
    """The bytes with a few that are others."""
    raw = bytearray(raw)
    for _ in range(draw.randint(1, 2)):
        at = draw.randint(0, len(raw))
        new = draw.choice([b"", draw.choice(ODD), bytes(draw.randrange(256) for _ in range(draw.randint(0, 3)))])
        raw[at : at + draw.randint(0, 3)] = new
    return bytes(raw)


def seeded(seed):
    return random.Random(seed)
