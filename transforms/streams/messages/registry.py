"""A Confluent-style schema registry over HTTP: Avro schemas by the number that messages carry."""
import base64
import contextlib
import dataclasses
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from beam_coresets.bounded import avro_schema

PREFIX = "schema.registry."  # its keys in a Kafka configuration file
_FORGET_SECONDS = 60.0  # a number that the registry does not know may become known
_MOST_UNKNOWN = 10_000
_TIMEOUT = 5.0  # seconds without a byte
_DEADLINE = 10.0  # seconds for an answer as a whole
_MOST_BYTES = 4 << 20  # of an answer
_LATER = (408, 425, 429)  # of the statuses that blame the question, those that mean "not now"


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
      ValueError: a URL that is not http or https, or has a password or a query in it.
    """

    url: str
    user_info: str = dataclasses.field(default="", repr=False)
    ca: str = ""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        shown = repr(self.url) if "@" not in self.url else "another, not shown as it may have a password"
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"{PREFIX}url: must be without user and password ({PREFIX}basic.auth.user.info), got some")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{PREFIX}url: must be http://... or https://..., got {shown}")
        if parts.query or parts.fragment:
            raise ValueError(f"{PREFIX}url: must be without a query, got one with")

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

        Redirects are not followed.

        Raises:
          UnknownSchemaError: the registry has none, does not like the question, or has one that is no Avro record.
          RegistryUnavailableError: no answer, or not now.
          ValueError: the registry refuses us, or sends us elsewhere.
        """
        status, raw = self._get(f"/schemas/ids/{number}")
        if status != 200:
            raise self._refusal(number, status)
        if len(raw) > _MOST_BYTES:
            raise UnknownSchemaError(f"schema {number} is of more than {_MOST_BYTES:,} bytes")
        return _parsed(number, raw)

    def _get(self, path: str) -> tuple[int, bytes]:
        """Status and content of an answer, which is cut off at the deadline, however slowly it comes in."""
        parts = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca or None)
            connection = http.client.HTTPSConnection(parts.netloc, timeout=_TIMEOUT, context=context)
        headers = {"Connection": "close"}
        if self.user_info:
            headers["Authorization"] = f"Basic {base64.b64encode(self.user_info.encode()).decode()}"
        late, sockets = threading.Event(), list[socket.socket]()

        def cut_off() -> None:
            late.set()
            for one in sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_DEADLINE, cut_off)
        timer.daemon = True
        timer.start()
        try:
            connection.connect()
            sockets.append(connection.sock)  # the connection forgets it with the answer's first line
            connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            answer = connection.getresponse()
            raw = answer.read(_MOST_BYTES + 1)
            cut = late.is_set() or (answer.length and len(raw) <= _MOST_BYTES)
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = f"not in {_DEADLINE:g} s" if late.is_set() else str(error)
            raise RegistryUnavailableError(f"no answer from {self.url} ({why})") from error
        finally:
            timer.cancel()
            connection.close()
        if cut:
            raise RegistryUnavailableError(f"no whole answer from {self.url}")
        return answer.status, raw

    def _refusal(self, number: int, status: int) -> Exception:
        """What a status other than 200 means for this schema."""
        if status in (401, 403):
            return ValueError(f"{PREFIX}url: must let us in, got HTTP {status} from {self.url}")
        if 300 <= status < 400:
            return ValueError(f"{PREFIX}url: must answer itself, got HTTP {status} (a redirect) from {self.url}")
        if 400 <= status < 500 and status not in _LATER:
            return UnknownSchemaError(f"schema {number} is unknown" + (f" (HTTP {status})" if status != 404 else ""))
        return RegistryUnavailableError(f"HTTP {status} from {self.url}")


def _parsed(number: int, raw: bytes) -> Any:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    kind = found.get("schemaType", "AVRO") if isinstance(found, dict) else "nothing"
    if kind != "AVRO":
        raise UnknownSchemaError(f"schema {number} is {str(kind)[:100]}")
    try:
        return avro_schema(str(found["schema"]))
    except Exception as error:  # whatever a library says about a schema that others wrote
        raise UnknownSchemaError(f"schema {number} is no Avro record: {str(error)[:100]}") from error


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
