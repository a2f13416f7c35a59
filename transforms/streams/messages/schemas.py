"""Schemas of a Confluent-style registry by the number that messages carry, fetched by Confluent's client."""
import dataclasses
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from beam_coresets.transforms.streams.messages.rows import MalformedError

PREFIX = "schema.registry."  # its keys in a Kafka configuration file
FRAME = 5  # bytes before a value: a zero, and the number of its schema
AVRO, JSON, PROTOBUF = "AVRO", "JSON", "PROTOBUF"
_SETTINGS = (
    "basic.auth.user.info", "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
    "proxy", "bearer.auth.credentials.source", "bearer.auth.token", "bearer.auth.logical.cluster",
    "bearer.auth.identity.pool.id", "bearer.auth.client.id", "bearer.auth.client.secret", "bearer.auth.scope",
    "bearer.auth.issuer.endpoint.url", "bearer.auth.issuer.endpoint.query",
)  # fmt: skip
_SOURCES = ("STATIC_TOKEN", "OAUTHBEARER", "OAUTHBEARER_AZURE_IMDS")  # CUSTOM takes a function
_SHOWN = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "bearer.auth.credentials.source")
_FORGET_SECONDS = 60.0  # a number that the registry does not know may become known
_MOST_UNKNOWN = 10_000
_TIMEOUT = 5.0  # seconds without a byte
_DEADLINE = 10.0  # seconds for an answer as a whole
_MOST_BYTES = 4 << 20  # of a schema
_MOST_REFERENCES = 1000
_LATER = (408, 425, 429)  # of the statuses that blame the question, those that mean "not now"
_JUNK = (ValueError, TypeError, AttributeError, LookupError, RecursionError)  # of an answer that is none


class RegistryUnavailableError(ConnectionError):
    """The registry does not answer; the same question may be answered later."""


class UnknownSchemaError(LookupError):
    """There is no such schema, or it is of another kind."""


class MissingSchemaError(UnknownSchemaError):
    """There is none by this number or name."""


def schema_number(value: bytes) -> int:
    """The number of the schema in a message's frame."""
    if len(value) < FRAME or value[0]:
        raise MalformedError("must begin with a zero byte and a schema number")
    return int.from_bytes(value[1:FRAME], "big")


class Fetched(NamedTuple):
    """A schema as a registry has it.

    Attributes:
      kind: "AVRO", "JSON" or "PROTOBUF".
      text: JSON text; of Protobuf a file descriptor, serialized, in base64.
      references: Protobuf's imports that the registry has, each as a text, those that others import first.
    """

    kind: str
    text: str
    references: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SchemaRegistry:
    """Where schemas are fetched.

    Attributes:
      url: one or several, with commas between them, without a user in it.
      settings: (name, value) of further settings of Confluent's client, as text; never shown.

    Raises:
      ValueError: a URL that is not http or https, or has a password or a query in it; settings that the client does
        not have; the client is not installed.
    """

    url: str
    settings: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        for url in self.url.split(","):
            _check_url(url.strip())
        source = dict(self.settings).get("bearer.auth.credentials.source", _SOURCES[0])
        if source not in _SOURCES:
            raise ValueError(f"{PREFIX}bearer.auth.credentials.source: must be of {', '.join(_SOURCES)}, got another")

    @staticmethod
    def from_config(config: Mapping[str, str]) -> "SchemaRegistry | None":
        """The registry that the `schema.registry.` keys of a Kafka configuration name; None without them.

        Raises:
          ValueError: a key that is not known, or settings that the client refuses.
        """
        own = {key[len(PREFIX) :]: value for key, value in config.items() if key.startswith(PREFIX)}
        if not own:
            return None
        unknown = sorted(set(own) - {"url", *_SETTINGS})
        if unknown or "url" not in own:
            raise ValueError(f"{PREFIX}: must have url, and of {sorted(_SETTINGS)} only, got {sorted(own)}")
        registry = SchemaRegistry(own.pop("url"), tuple(sorted(own.items())))
        registry.client()
        return registry

    def client(self) -> Any:
        """A client of Confluent's.

        Raises:
          ValueError: it is not installed, or refuses the settings.
        """
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            extra = "pip install 'beam-coresets[registry]'"
            raise ValueError(f"message_format: must have the extra ({extra}), got none") from error
        owned = {"url": self.url, "timeout": _TIMEOUT, "max.retries": 0}
        try:
            return SchemaRegistryClient({**owned, **dict(self.settings)})
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{PREFIX}: must be settings of its client, got {self.scrub(str(error))}") from None

    def scrub(self, text: str) -> str:
        """The text without the values of settings that may be secret."""
        hidden = [value for name, value in self.settings if name not in _SHOWN]
        hidden += [part for value in hidden for part in value.split(":")]
        for value in sorted(hidden, key=len, reverse=True):
            if len(value) > 2:
                text = text.replace(value, "***")
        return text


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    shown = repr(url) if "@" not in url else "another, not shown as it may have a password"
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{PREFIX}url: must be without user and password ({PREFIX}basic.auth.user.info), got some")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{PREFIX}url: must be http://... or https://..., got {shown}")
    if parts.query or parts.fragment:
        raise ValueError(f"{PREFIX}url: must be without a query, got one with")


class Schemas:
    """The schemas of one kind that a registry has, each fetched once and read by `read`; a number that is unknown is
    asked for again after a minute.

    Args:
      read: makes of a fetched schema what messages are read by; raises ValueError where it can't.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        kind: str,
        read: Callable[[Fetched], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._kind, self._read, self._clock = registry, kind, read, clock
        self._client: Any = None
        self._known: dict[int, Any] = {}
        self._unknown: dict[int, tuple[float, str]] = {}
        self._asking: dict[str, _Question] = {}
        self._lock = threading.Lock()

    def get(self, number: int) -> Any:
        """The schema `number`, as it was read.

        Raises:
          UnknownSchemaError: the registry has none, does not like the question, or has one of another kind.
          RegistryUnavailableError: no answer, or not now.
          ValueError: the registry refuses us, or sends us elsewhere.
        """
        if number in self._known:
            return self._known[number]
        since, reason = self._unknown.get(number, (float("-inf"), ""))
        if self._clock() - since < _FORGET_SECONDS:
            raise UnknownSchemaError(reason)
        try:
            self._known[number] = self._read_safely(f"schema {number}", lambda client: self._by_number(client, number))
        except UnknownSchemaError as error:
            if len(self._unknown) >= _MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown[number] = (self._clock(), str(error))
            raise
        return self._known[number]

    def latest(self, subject: str) -> Any:
        """The newest schema of a subject, as it was read; raises as `get`."""
        return self._read_safely(f"the newest schema of {subject}", lambda client: self._newest(client, subject))

    def _read_safely(self, name: str, ask: Callable[[Any], Fetched]) -> Any:
        fetched = self._fetch(name, ask)
        if fetched.kind != self._kind:
            raise UnknownSchemaError(f"{name} is {fetched.kind[:100]}")
        if len(fetched.text) + sum(map(len, fetched.references)) > _MOST_BYTES:
            raise UnknownSchemaError(f"{name} is of more than {_MOST_BYTES:,} bytes")
        try:
            return self._read(fetched)
        except Exception as error:  # whatever a library says about a schema that others wrote
            raise UnknownSchemaError(f"{name} can't be used: {str(error)[:200]}") from error

    def _fetch(self, name: str, ask: Callable[[Any], Fetched]) -> Fetched:
        """The answer, which comes by the deadline or is waited for in the background, however slowly it comes in."""
        if self._client is None:
            self._client = self._registry.client()
        with self._lock:
            question = self._asking.get(name)
            if question is None:
                question = self._asking[name] = _Question(lambda: ask(self._client))
        if not question.answered.wait(_DEADLINE):
            raise RegistryUnavailableError(f"no answer from {self._registry.url} (not in {_DEADLINE:g} s)")
        self._asking.pop(name, None)  # shards of a process ask together
        if question.error is None:
            return question.answer
        raise self._told(name, question.error) from None

    def _told(self, name: str, error: Exception) -> Exception:
        """What an error of the client means for this schema."""
        status, url = getattr(error, "http_status_code", None), self._registry.url
        if isinstance(error, UnknownSchemaError):
            return error
        if status is None and isinstance(error, _JUNK):
            return UnknownSchemaError(f"{name} is nothing")
        if status is None or status >= 500 or status in _LATER:
            why = self._registry.scrub(str(error) or type(error).__name__)[:300] if status is None else ""
            return RegistryUnavailableError(f"HTTP {status} from {url}" if status else f"no answer from {url} ({why})")
        if status in (401, 403):
            return ValueError(f"{PREFIX}url: must let us in, got HTTP {status} from {url}")
        if 300 <= status < 400:
            return ValueError(f"{PREFIX}url: must answer itself, got HTTP {status} (a redirect) from {url}")
        if status == 404:
            return MissingSchemaError(f"{name} is unknown")
        return UnknownSchemaError(f"{name} is unknown (HTTP {status})")

    def _by_number(self, client: Any, number: int) -> Fetched:
        return self._whole(client, client.get_schema(number, fmt=self._format))

    def _newest(self, client: Any, subject: str) -> Fetched:
        return self._whole(client, client.get_latest_version(subject, fmt=self._format).schema)

    @property
    def _format(self) -> str | None:
        return "serialized" if self._kind == PROTOBUF else None

    def _whole(self, client: Any, schema: Any) -> Fetched:
        """A schema with all that it imports."""
        kind = schema.schema_type or AVRO
        found: dict[str, str] = {}
        if kind == self._kind == PROTOBUF:
            self._add_references(client, schema, found)
        return Fetched(str(kind), str(schema.schema_str), tuple(found.values()))

    def _add_references(self, client: Any, schema: Any, found: dict[str, str]) -> None:
        for reference in schema.references or ():
            if reference.name in found or reference.name.startswith("google/protobuf/"):
                continue
            if len(found) >= _MOST_REFERENCES:
                raise UnknownSchemaError(f"a schema imports more than {_MOST_REFERENCES} others")
            found[reference.name] = ""
            other = client.get_version(reference.subject, reference.version, deleted=True, fmt=self._format).schema
            self._add_references(client, other, found)
            found[reference.name] = str(other.schema_str)


class _Question:
    """Something that is asked in a thread of its own, which nobody has to wait for."""

    def __init__(self, ask: Callable[[], Fetched]) -> None:
        self.answered = threading.Event()
        self.answer = Fetched("", "")
        self.error: Exception | None = None
        self._ask = ask
        threading.Thread(target=self._run, name="schema-registry", daemon=True).start()

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except Exception as error:
            self.error = error
        self.answered.set()
