"""A Confluent-style schema registry over HTTP: Avro schemas by the number that messages carry."""
import base64
import dataclasses
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import fastavro

PREFIX = "schema.registry."  # its keys in a Kafka configuration file
_FORGET_SECONDS = 60.0  # a number that the registry does not know may become known
_MOST_UNKNOWN = 10_000
_TIMEOUT = 5.0


class RegistryUnavailableError(ConnectionError):
    """The registry does not answer; the same question may be answered later."""


class UnknownSchemaError(LookupError):
    """There is no such schema, or it is not an Avro record."""


@dataclasses.dataclass(frozen=True)
class SchemaRegistry:
    """Where schemas are fetched.

    Attributes:
      url: without a user in it.
      user_info: "user:password" for HTTP basic authentication, or empty; never shown.
      ca: file of the certificate authority for https, or empty: the system's.

    Raises:
      ValueError: a URL that is not http or https, or has a password in it.
    """

    url: str
    user_info: str = dataclasses.field(default="", repr=False)
    ca: str = ""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"{PREFIX}url: must be without user and password ({PREFIX}basic.auth.user.info), got some")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{PREFIX}url: must be http://... or https://..., got {self.url!r}")

    @staticmethod
    def from_config(config: Mapping[str, str]) -> "SchemaRegistry | None":
        """The registry that the `schema.registry.` keys of a Kafka configuration name; None without them.

        Raises:
          ValueError: a key that is not known.
        """
        names = {"url": "url", "basic.auth.user.info": "user_info", "ssl.ca.location": "ca"}
        own = {key[len(PREFIX) :]: value for key, value in config.items() if key.startswith(PREFIX)}
        unknown = sorted(set(own) - set(names))
        if unknown or (own and "url" not in own):
            raise ValueError(f"{PREFIX}: must have url, and of {sorted(names)} only, got {sorted(own)}")
        return SchemaRegistry(**{names[key]: value for key, value in own.items()}) if own else None

    def fetch(self, number: int) -> Any:
        """The parsed schema `number`.

        Raises:
          UnknownSchemaError: the registry has none, or one that is no Avro record.
          RegistryUnavailableError: no answer.
          ValueError: the registry refuses us.
        """
        request = urllib.request.Request(f"{self.url.rstrip('/')}/schemas/ids/{number}")
        if self.user_info:
            word = base64.b64encode(self.user_info.encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {word}")
        context = ssl.create_default_context(cafile=self.ca) if self.ca else None
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT, context=context) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise UnknownSchemaError(f"schema {number} is unknown") from error
            if error.code in (401, 403):
                raise ValueError(f"{PREFIX}url: must let us in, got HTTP {error.code} from {self.url}") from error
            raise RegistryUnavailableError(f"HTTP {error.code} from {self.url}") from error
        except (OSError, ValueError) as error:
            raise RegistryUnavailableError(f"no answer from {self.url} ({error})") from error
        return _parsed(number, found)


def _parsed(number: int, found: Any) -> Any:
    kind = found.get("schemaType", "AVRO") if isinstance(found, dict) else "nothing"
    if kind != "AVRO":
        raise UnknownSchemaError(f"schema {number} is {kind}")
    try:
        schema = fastavro.parse_schema(json.loads(found["schema"]))
        if schema["type"] != "record":
            raise ValueError("no record")
    except Exception as error:  # whatever a library says about a schema that others wrote
        raise UnknownSchemaError(f"schema {number} is no Avro record: {str(error)[:100]}") from error
    return schema


class SchemaCache:
    """Schemas by number, each fetched once; one that is unknown is asked for again after a minute."""

    def __init__(self, registry: SchemaRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._clock = registry, clock
        self._known: dict[int, Any] = {}
        self._unknown: dict[int, tuple[float, str]] = {}

    def get(self, number: int) -> Any:
        """As `SchemaRegistry.fetch`."""
        if number in self._known:
            return self._known[number]
        since, reason = self._unknown.get(number, (float("-inf"), ""))
        if self._clock() - since < _FORGET_SECONDS:
            raise UnknownSchemaError(reason)
        try:
            self._known[number] = self._registry.fetch(number)
        except UnknownSchemaError as error:
            if len(self._unknown) >= _MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown[number] = (self._clock(), str(error))
            raise
        return self._known[number]
