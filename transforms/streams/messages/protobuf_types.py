"""What a Protobuf schema of a registry says of a message, cut down to the fields that columns are made of.

The rest of a message is not looked into: to google.protobuf it is unknown fields, whatever the schema says of it. So a
schema's imports matter only where a column's enum stands in one.
"""
import base64
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from beam_coresets.transforms.planned import protobuf_messages
from beam_coresets.transforms.planned.protobuf_messages import NUMBERS, Field
from beam_coresets.transforms.streams.messages.rows import MalformedError
from beam_coresets.transforms.streams.messages.schemas import Fetched

_TIMESTAMP = ".google.protobuf.Timestamp"
_OPTIONAL, _REQUIRED, _REPEATED = (FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REQUIRED,
                                   FieldDescriptorProto.LABEL_REPEATED)  # fmt: skip
_MESSAGE, _GROUP, _ENUM = (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_GROUP,
                           FieldDescriptorProto.TYPE_ENUM)  # fmt: skip
_TYPES = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


class ProtobufFile:
    """A schema: its messages, and the enums that they may have.

    Raises:
      ValueError: it is no file descriptor.
    """

    def __init__(self, fetched: Fetched) -> None:
        self.proto, *others = map(_file_of, (fetched.text, *fetched.references))
        self._enums = {name: enum for file in (self.proto, *others) for name, enum in _enums_of(file)}

    def paths(self) -> Iterator[tuple[int, ...]]:
        """Of each message the numbers that lead to it, those in others included."""
        waiting: list[tuple[tuple[int, ...], Any]]
        waiting = [((i,), message) for i, message in enumerate(self.proto.message_type)]
        while waiting:
            path, message = waiting.pop(0)
            if not message.options.map_entry:
                yield path
                waiting += [((*path, i), inner) for i, inner in enumerate(message.nested_type)]

    def fields(self, path: tuple[int, ...]) -> Mapping[str, str]:
        """Name -> type of the fields of a message: "double", "repeated double", ".Another"."""
        _, message = self._message(path)
        return {field.name: _name_of(field) for field in message.field}

    def reader(self, path: tuple[int, ...], wanted: Collection[str], time: str | None, vector: str | None,
               dim: int | None) -> "MessageReader":  # fmt: skip
        """What reads the fields `wanted` of a message, so far as it has them.

        Args:
          time: which of them may be a Timestamp.
          vector: which of them is `dim` repeated numbers.

        Raises:
          ValueError: no such message, or a field that is no column.
        """
        scope, message = self._message(path)
        kept = [field for field in message.field if field.name in wanted]
        for field in kept:
            _check(field, time, vector)
        oneofs = {field.oneof_index for field in kept if field.HasField("oneof_index")}
        kept_names = {field.name for field in kept}
        beside = [field for field in message.field if field.name not in kept_names and field.HasField("oneof_index")
                  and field.oneof_index in oneofs]  # fmt: skip
        cut, symbols = self._cut(scope, message, kept, beside), self._symbols(scope, kept)
        return MessageReader(cut, message, kept_names, symbols, vector, dim)

    def _message(self, path: tuple[int, ...]) -> tuple[str, Any]:
        """The scope of a message's names, and what the schema says of it."""
        inside, scope, message = self.proto.message_type, "." + self.proto.package if self.proto.package else "", None
        for i in path:
            if not 0 <= i < len(inside):
                raise ValueError(f"must be of a message of the schema, got {'.'.join(map(str, path))}")
            message = inside[i]
            inside, scope = message.nested_type, f"{scope}.{message.name}"
        return scope, message

    def _enum(self, scope: str, field: Any) -> Any:
        """The enum that a field is of."""
        if field.type_name.startswith("."):
            found = self._enums.get(field.type_name)
        else:
            parts = scope.split(".")
            names = [".".join([*parts[:i], field.type_name]) for i in range(len(parts), 0, -1)]
            found = next((self._enums[name] for name in names if name in self._enums), None)
        if found is None:
            raise ValueError(f"{field.name}: must be of an enum of the schema or its references, got {field.type_name}")
        return found

    def _symbols(self, scope: str, kept: list[Any]) -> dict[str, dict[int, str]]:
        """Of each field that is an enum, number -> name, the first name of several."""
        found: dict[str, dict[int, str]] = {}
        for field in kept:
            if field.type == _ENUM:
                for value in self._enum(scope, field).value:
                    found.setdefault(field.name, {}).setdefault(value.number, value.name)
        return found

    def _cut(self, scope: str, message: Any, kept: list[Any], beside: list[Any]) -> Any:
        """The message type of these fields alone, those `beside` them as little as can be known of them."""
        file = FileDescriptorProto(name="cut.proto", package="cut", syntax=self.proto.syntax)
        if self.proto.syntax == "editions":
            file.edition = self.proto.edition
        file.options.CopyFrom(self.proto.options)
        cut = file.message_type.add(name="Row")
        for field in sorted((*kept, *beside), key=lambda field: field.proto3_optional):  # made-up oneofs come last
            label = _OPTIONAL if field.label == _REQUIRED else field.label
            own = cut.field.add(name=field.name, number=field.number, label=label, type=field.type)
            if field not in kept:
                own.type = _unread(field)
            else:
                own.options.CopyFrom(field.options)
            if field in kept and field.type == _ENUM:
                enum, holder = self._enum(scope, field), f"Of{len(file.message_type)}"
                held = file.message_type.add(name=holder).enum_type.add(name="Enum")
                held.value.MergeFrom(enum.value)
                held.options.CopyFrom(enum.options)
                own.type_name = f".cut.{holder}.Enum"
            elif field in kept and field.type == _MESSAGE:
                own.type_name = ".cut.Time"
                time = file.message_type.add(name="Time")
                time.field.add(name="seconds", number=1, type=FieldDescriptorProto.TYPE_INT64, label=_OPTIONAL)
                time.field.add(name="nanos", number=2, type=FieldDescriptorProto.TYPE_INT32, label=_OPTIONAL)
            if field.HasField("oneof_index"):
                name, names = f"oneof{field.oneof_index}", [one.name for one in cut.oneof_decl]
                if name not in names:
                    cut.oneof_decl.add(name=name)
                own.oneof_index = names.index(name) if name in names else len(names)
                own.proto3_optional = field.proto3_optional
        return file


class MessageReader:
    """Reads messages of one type.

    Attributes:
      plan: reads most of them.
    """

    def __init__(self, file: Any, message: Any, wanted: Collection[str], symbols: Mapping[str, Mapping[int, str]],
                 vector: str | None, dim: int | None) -> None:  # fmt: skip
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(file.SerializeToString())
        found = pool.FindMessageTypeByName("cut.Row")
        self._class = message_factory.GetMessageClass(found)
        self._symbols, self._fields = symbols, [field for field in found.fields if field.name in wanted]
        fields, cut = [], {field.name: field for field in file.message_type[0].field}
        for field in message.field:
            own = found.fields_by_name.get(field.name)
            if _kind(field) in ("group", "unknown"):
                continue
            kind = _kind(field if own is None else cut[field.name])
            real = own is not None and own.containing_oneof is not None
            fields.append(Field(
                field.name, field.number, ("time" if field.name in wanted else "bytes") if kind == "message" else kind,
                field.name in wanted, own is not None and own.has_presence,
                cut[field.name].oneof_index if real else -1, field.label == _REPEATED, symbols.get(field.name, {}),
            ))  # fmt: skip
        self.plan = protobuf_messages.plan_of(fields, dim)
        self._vector = vector

    def record(self, body: bytes) -> dict[str, Any]:
        """The wanted fields of a message by google.protobuf: enums by name (a number without one stays), Timestamps in
        seconds, vectors of floats, None for what is not there.

        Raises:
          MalformedError: the bytes are none.
        """
        try:
            message = self._class.FromString(body)
            return {field.name: self._value(message, field) for field in self._fields}
        except (DecodeError, UnicodeDecodeError) as error:
            raise MalformedError(f"{type(error).__name__} in the message") from error

    def _value(self, message: Any, field: Any) -> Any:
        name = field.name
        if name == self._vector:
            return [float(value) for value in getattr(message, name)]
        if field.has_presence and not message.HasField(name):
            return None
        value = getattr(message, name)
        if name in self._symbols:
            return self._symbols[name].get(value, value)
        return value.seconds + value.nanos / 1e9 if field.message_type is not None else value


def _file_of(text: str) -> Any:
    file = FileDescriptorProto()
    try:
        file.ParseFromString(base64.b64decode(text, validate=True))
    except (ValueError, DecodeError) as error:
        what = "text: this registry has no format=serialized" if "message" in text else "something else"
        raise ValueError(f"must be a serialized file descriptor, got {what}") from error
    return file


def _enums_of(file: Any) -> Iterator[tuple[str, Any]]:
    """The enums of a file by their whole names."""
    waiting = [("." + file.package if file.package else "", file)]
    while waiting:
        scope, holder = waiting.pop()
        yield from ((f"{scope}.{enum.name}", enum) for enum in holder.enum_type)
        inside = holder.message_type if isinstance(holder, FileDescriptorProto) else holder.nested_type
        waiting += [(f"{scope}.{message.name}", message) for message in inside]


def _name_of(field: Any) -> str:
    kind = _kind(field)
    name = field.type_name if kind in ("message", "group") else kind
    return f"repeated {name}" if field.label == _REPEATED else name


def _kind(field: Any) -> str:
    return _TYPES[field.type] if field.HasField("type") else "unknown"


def _unread(field: Any) -> Any:
    """The type of a field that nothing is to be known of but whether it is there."""
    if field.type == _GROUP or not field.HasField("type"):
        raise ValueError(f"{field.name}: must be a value or a message beside columns in a oneof, got {_kind(field)}")
    if field.type in (_MESSAGE, FieldDescriptorProto.TYPE_STRING):
        return FieldDescriptorProto.TYPE_BYTES
    return FieldDescriptorProto.TYPE_INT32 if field.type == _ENUM else field.type


def _check(field: Any, time: str | None, vector: str | None) -> None:
    """Raises ValueError where no column can be made of a field."""
    name, kind = field.name, _kind(field)
    if name == vector:
        if field.label != _REPEATED or kind not in NUMBERS:
            raise ValueError(f"{name}: must be repeated numbers, got {_name_of(field)}")
        return
    stamp = field.type == _MESSAGE and name == time and field.type_name in (_TIMESTAMP, _TIMESTAMP[1:])
    if field.label == _REPEATED or (kind in ("message", "group", "unknown") and not stamp):
        wanted = "a plain value or google.protobuf.Timestamp" if name == time else "a plain value"
        raise ValueError(f"{name}: must be {wanted}, got {_name_of(field)}")
