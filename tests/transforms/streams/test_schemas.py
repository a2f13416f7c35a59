"""Schemas are fetched by Confluent's client: what its settings do, and what a registry's answers mean."""
import base64
import io
import json
import pickle
import struct
import subprocess
import sys
import time

import fastavro
import numpy as np
import pytest
from schema_server import schema_server

from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.messages import schemas as schemas_module
from beam_coresets.transforms.streams.messages.formats import (
    AvroRegistry,
    EventTime,
    JsonRegistry,
    Messages,
    SchemaRegistry,
)
from beam_coresets.transforms.streams.messages.schemas import (
    AVRO,
    RegistryUnavailableError,
    Schemas,
    UnknownSchemaError,
)

NOW = 1_700_000_000.0
XY = Columns(columns=("x", "y"))
SCHEMA = {
    "type": "record", "name": "Point", "fields": [
        {"name": "x", "type": "double"}, {"name": "y", "type": ["null", "double"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "user", "type": "string"},
        {"name": "v", "type": {"type": "array", "items": "double"}, "default": []},
    ],
}  # fmt: skip
JSON_SCHEMA = {
    "type": "object", "properties": {
        "x": {"type": "number"}, "y": {"oneOf": [{"type": "null"}, {"type": "integer"}]}, "user": {"type": "string"},
        "v": {"type": "array", "items": {"type": "number"}}, "inside": {"type": "object"}, "any": {},
    },
}  # fmt: skip
SCHEMAS = {
    7: {"schema": json.dumps(SCHEMA)}, 8: {"schema": "syntax", "schemaType": "PROTOBUF"},
    9: {"schema": json.dumps(JSON_SCHEMA), "schemaType": "JSON"}, 10: {"schema": '"string"'},
}  # fmt: skip
SUBJECTS = {("avro-value", "latest"): 7, ("json-value", "latest"): 9}


@pytest.fixture
def registry():
    with schema_server(SCHEMAS, SUBJECTS) as server:
        yield server


def schemas_of(registry, *settings, clock=time.monotonic):
    return Schemas(SchemaRegistry(registry.url, settings), AVRO, lambda fetched: fetched, clock)


def decode(form, values, clock=EventTime()):  # noqa: B008
    n = len(values)
    return form.decode(Messages("t", "part 0", np.arange(n), np.full(n, NOW), [None] * n, values), clock, NOW)


def framed(number, body):
    return b"\0" + struct.pack(">I", number) + body


def as_avro(**record):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(SCHEMA), {"at": 1, "user": "a", "v": [], **record})
    return stream.getvalue()


def test_framed_avro_is_read_by_the_registrys_schemas(registry):
    form = AvroRegistry(XY, "user", SchemaRegistry(registry.url, (("basic.auth.user.info", "bob:hush-4711"),)))
    body = as_avro(x=1, y=2)
    got = decode(form, [framed(7, body), framed(7, body), framed(8, body), framed(6, body), b"\1" + body, b"\0\0",
                        framed(7, body[:3]), framed(6, body), framed(10, body)])  # fmt: skip
    np.testing.assert_array_equal(got.points, [[1, 2], [1, 2]])
    assert [letter.reason for letter in got.letters[:-1]] == [
        "unparsable: schema 8 is PROTOBUF", "unparsable: schema 6 is unknown",
        "unparsable: must begin with a zero byte and a schema number",
        "unparsable: must begin with a zero byte and a schema number", "unparsable: EOFError in the record",
        "unparsable: schema 6 is unknown",
    ]  # fmt: skip
    assert got.letters[-1].reason.startswith("unparsable: schema 10 can't be used: schema: must be an Avro record")
    assert sorted(path for path, *_ in registry.asked) == [f"/schemas/ids/{i}" for i in (10, 6, 7, 8)]
    words = {headers["Authorization"] for *_, headers in registry.asked}
    assert words == {"Basic " + base64.b64encode(b"bob:hush-4711").decode()}
    assert "hush" not in repr(form) + str(form.display_data())
    again = decode(pickle.loads(pickle.dumps(form)), [framed(7, body)])
    np.testing.assert_array_equal(again.points, [[1, 2]])


def test_framed_json_is_read_without_its_schema(registry):
    form = JsonRegistry(XY, "user", SchemaRegistry(registry.url))
    values = [framed(i, json.dumps({"x": i, "y": -i, "user": "a"}).encode()) for i in range(40)]
    values[7], values[8], values[9] = b'{"x": 1}', framed(9, b"{"), None
    got = decode(form, values)
    kept = [i for i in range(40) if i not in (7, 8, 9)]
    np.testing.assert_array_equal(got.points, [[i, -i] for i in kept])
    assert [(letter.reason, letter.row_text) for letter in got.letters] == [
        ("unparsable: must begin with a zero byte and a schema number", b'{"x": 1}'.hex()),
        ("unparsable: must be a JSON object", "{"), ("null message", ""),
    ]  # fmt: skip
    assert registry.asked == []


def test_a_registry_in_trouble_is_no_fault_of_the_message(registry):
    form = AvroRegistry(XY, None, SchemaRegistry(registry.url))
    with pytest.raises(RegistryUnavailableError, match="HTTP 500"):
        decode(form, [framed(500, b"")])
    with pytest.raises(ValueError, match=r"schema.registry.url: must let us in, got HTTP 401"):
        decode(form, [framed(401, b"")])
    away = AvroRegistry(XY, None, SchemaRegistry("http://127.0.0.1:9"))
    with pytest.raises(RegistryUnavailableError, match="no answer from"):
        decode(away, [framed(7, b"")])


@pytest.mark.parametrize("number", [400, 404, 406, 409, 410, 422, 451, 1000, 1001])
def test_a_schema_that_the_registry_has_no_good_answer_for_is_a_letter_and_the_others_go_on(registry, number):
    form = AvroRegistry(XY, None, SchemaRegistry(registry.url))
    body = as_avro(x=1, y=2)
    got = decode(form, [framed(7, body), framed(number, body), framed(7, body)])
    assert got.offsets.tolist() == [0, 2]
    assert [letter.reason.split(" is ")[0] for letter in got.letters] == [f"unparsable: schema {number}"]


@pytest.mark.parametrize("number", [408, 425, 429, 500, 503, 1002, 1003])
def test_what_may_be_answered_later_is_asked_again(registry, monkeypatch, number):
    monkeypatch.setattr(schemas_module, "_DEADLINE", 1.0 if number == 1002 else 60.0)
    schemas = schemas_of(registry)
    for _ in range(2):
        with pytest.raises(RegistryUnavailableError):
            schemas.get(number)
    assert len(registry.asked) == (1 if number == 1002 else 2)  # what is still coming in is not asked for again


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(registry, number):
    with pytest.raises(ValueError, match=rf"must answer itself, got HTTP {number} \(a redirect\)"):
        schemas_of(registry).get(number)
    assert [path for path, *_ in registry.asked] == [f"/schemas/ids/{number}"]


def test_a_large_schema_is_none(registry):
    registry.schemas[5] = {"schema": "x" * (5 << 20)}
    with pytest.raises(UnknownSchemaError, match="schema 5 is of more than 4,194,304 bytes"):
        schemas_of(registry).get(5)


def test_an_unknown_schema_is_asked_for_again_after_a_minute(registry):
    now = [0.0]
    schemas = schemas_of(registry, clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 61.0):
        with pytest.raises(UnknownSchemaError, match="schema 6 is unknown"):
            schemas.get(6)
    assert len(registry.asked) == 2


def test_tokens_are_sent(registry):
    fixed = {"bearer.auth.credentials.source": "STATIC_TOKEN", "bearer.auth.token": "hush-4711",
             "bearer.auth.logical.cluster": "lsrc-1", "bearer.auth.identity.pool.id": "pool-1"}  # fmt: skip
    given = {name: value for name, value in fixed.items() if name != "bearer.auth.token"} | {
        "bearer.auth.credentials.source": "OAUTHBEARER", "bearer.auth.client.id": "me", "bearer.auth.scope": "schemas",
        "bearer.auth.client.secret": "hush-4712", "bearer.auth.issuer.endpoint.url": f"{registry.url}/token",
    }  # fmt: skip
    for settings, token in ((fixed, "hush-4711"), (given, "token-1")):
        config = {f"schema.registry.{name}": value for name, value in {"url": registry.url, **settings}.items()}
        of_config = SchemaRegistry.from_config(config)
        assert Schemas(of_config, AVRO, lambda fetched: fetched.kind).get(7) == AVRO
        headers = registry.asked[-1][2]
        assert headers["Authorization"] == f"Bearer {token}"
        assert (headers["target-sr-cluster"], headers["Confluent-Identity-Pool-Id"]) == ("lsrc-1", "pool-1")
        secret = settings.get("bearer.auth.token") or settings["bearer.auth.client.secret"]
        assert "hush" not in repr(of_config) + of_config.scrub(f"got {secret}")
    assert "grant_type=client_credentials" in registry.tokens[0]


@pytest.mark.parametrize(("settings", "message"), [
    ({"uri": "x"}, "must have url, and of"),
    ({"url": "http://h", "password": "hush"}, r"got \['password', 'url'\]"),
    ({"url": "http://h", "bearer.auth.credentials.source": "CUSTOM"}, "must be of STATIC_TOKEN, OAUTHBEARER"),
    ({"url": "http://h", "bearer.auth.credentials.source": "STATIC_TOKEN"}, "must be settings of its client, got"),
    ({"url": "http://h", "basic.auth.user.info": "hush"}, "must be settings of its client, got basic.auth.user.info"),
    ({"url": "https://h", "ssl.ca.location": "/nowhere.pem"}, "must be settings of its client, got"),
    ({"url": "http://h,ftp://i"}, "url: must be http://"),
])  # fmt: skip
def test_settings_that_can_not_work_are_refused_at_launch(settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        SchemaRegistry.from_config({f"schema.registry.{name}": value for name, value in settings.items()})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("url", ["bob:hush@host:1", "//bob:hush@host", "http://bob:hush@host", "http://h/?t=hush", "x"])
def test_a_wrong_url_is_refused_without_its_secrets(url):
    with pytest.raises(ValueError, match=r"schema.registry.url: must be") as refused:
        SchemaRegistry(url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(("form", "topic", "columns", "message"), [
    (AvroRegistry, "avro", Columns(("x", "y"), id_column="user", keep_columns=("v",)), None),
    (AvroRegistry, "avro", Columns(vector_column="v", dim=2), None),
    (AvroRegistry, "avro", Columns(("x", "z")), r"columns: must be among the fields of the schema of avro-value \(x, "),
    (AvroRegistry, "avro", Columns(("x", "v")), "columns: must be a number in the schema of avro-value, got list"),
    (AvroRegistry, "avro", Columns(("x",), id_column="v"), "id_column: must be a plain value in the schema"),
    (AvroRegistry, "avro", Columns(vector_column="x", dim=2), "vector_column: must be repeated numbers in the schema"),
    (AvroRegistry, "json", XY, r"message_format: must be that of the schema, got 'avro-registry' \(.* is JSON\)"),
    (AvroRegistry, "other", Columns(("z",)), None),
    (JsonRegistry, "json", Columns(("x", "y"), id_column="user", keep_columns=("inside",)), None),
    (JsonRegistry, "json", Columns(("x", "any")), None),
    (JsonRegistry, "json", Columns(("x", "user")), "columns: must be a number in the schema of json-value, got string"),
    (JsonRegistry, "json", Columns(("x", "z")), r"columns: must be among the fields .* \(x, y, user, v, inside, any\)"),
    (JsonRegistry, "json", Columns(("x",), weight_column="v"), "weight_column: must be a number .*, got array v"),
    (JsonRegistry, "json", Columns(("x",), id_column="inside"), "id_column: must be a plain value .*, got object"),
])  # fmt: skip
def test_columns_are_checked_against_the_topics_newest_schema(registry, form, topic, columns, message):
    made = form(columns, None, SchemaRegistry(registry.url))
    if message is None:
        made.check_topic(topic, None)
        return
    with pytest.raises(ValueError, match=message):
        made.check_topic(topic, None)


def test_a_time_and_a_key_are_checked_too_and_a_registry_that_is_away_is_only_told_of(registry, caplog):
    made = JsonRegistry(XY, "who", SchemaRegistry(registry.url))
    with pytest.raises(ValueError, match="key_column: must be among the fields"):
        made.check_topic("json", None)
    with pytest.raises(ValueError, match="time: must be among the fields"):
        made.check_topic("json", "when")
    registry.schemas[9] = registry.schemas[9] | {"schema": json.dumps({"allOf": [JSON_SCHEMA]})}
    JsonRegistry(XY, "who", SchemaRegistry(registry.url)).check_topic("json", "when")
    registry.status = 503
    made.check_topic("other", None)
    assert "other: is not checked against its schema (HTTP 503" in caplog.text
    registry.status = 403
    with pytest.raises(ValueError, match="must let us in, got HTTP 403"):
        made.check_topic("other", None)


def test_the_client_is_imported_where_it_is_used_and_missing_it_is_said():
    script = """
import sys
from beam_coresets.transforms.streams.messages.formats import JsonRegistry, SchemaRegistry
registry = SchemaRegistry("http://h")
print(any(name.startswith("confluent_kafka.schema_registry") for name in sys.modules))
sys.modules["confluent_kafka.schema_registry"] = None
try:
    registry.client()
except ValueError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    wanted = "message_format: must have the extra (pip install 'beam-coresets[registry]'), got none"
    assert out.splitlines() == ["False", wanted]
