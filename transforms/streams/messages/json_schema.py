"""JSON messages behind a registry's schema number: they are read as JSON, and the schema tells what to check first."""
import dataclasses
import json
from collections.abc import Set
from typing import Any

from beam_coresets.transforms.reading.columns import Layout
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.streams.messages.decoding import Decoding
from beam_coresets.transforms.streams.messages.framed import Expected, Framed
from beam_coresets.transforms.streams.messages.json import Json
from beam_coresets.transforms.streams.messages.rows import MalformedError
from beam_coresets.transforms.streams.messages.schemas import FRAME, JSON, Fetched, schema_number

_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_ELSEWHERE = frozenset({"$ref", "allOf", "anyOf", "oneOf", "patternProperties"})  # fields may stand there, too


@dataclasses.dataclass(frozen=True)
class JsonRegistry(Framed, Json):
    """A JSON object a message behind its schema's number, which is not asked for: objects say what they hold."""

    name = "json-registry"
    kind = JSON

    def _parsed(self, fetched: Fetched) -> Any:
        return json.loads(fetched.text)

    def _expected(self, schema: Any, layout: Layout, time: str | None) -> Expected | None:
        if not isinstance(schema, dict) or _ELSEWHERE & set(schema) or not isinstance(schema.get("properties"), dict):
            return None
        types = {name: _types(each) for name, each in schema["properties"].items()}
        return Expected(
            {name: " or ".join(sorted(each)) for name, each in types.items()},
            frozenset(name for name, each in types.items() if each & {"integer", "number"}),
            frozenset(name for name, each in types.items() if "array" in each),
            frozenset(name for name, each in types.items() if each <= {"object", "array", "null"}),
        )

    def _pieces(self, decoding: Decoding, layout: Layout) -> list[Batch]:
        rest = decoding.rest()
        for i, value in zip(rest.tolist(), decoding.values(rest), strict=True):
            try:
                schema_number(value)
            except MalformedError as error:
                decoding.refuse(i, f"unparsable: {error}", text=value[:250].hex())
        decoding.unframe(FRAME)
        return Json._pieces(self, decoding, layout)


def _types(schema: Any) -> Set[str]:
    """The JSON types that a schema allows."""
    if not isinstance(schema, dict):
        return _TYPES
    said = schema.get("type")
    if isinstance(said, (str, list)):
        return {each for each in ([said] if isinstance(said, str) else said) if isinstance(each, str)}
    several = next((schema[name] for name in ("anyOf", "oneOf") if isinstance(schema.get(name), list)), None)
    return frozenset().union(*map(_types, several)) if several else _TYPES
