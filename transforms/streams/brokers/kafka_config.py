"""How Kafka is reached: the user's configuration, checked and kept out of sight, and clients made from it."""
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_coresets.transforms.streams.messages.schemas import PREFIX

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, ConfigResource
except ImportError as _error:
    raise ImportError("confluent_kafka: must be installed (pip install 'beam-coresets[kafka]'), got none") from _error

LOG = logging.getLogger(__name__)
SERVERS = "bootstrap.servers"
SAY_SECONDS = 10.0
_ANSWER_SECONDS = 5.0

# Positions are the runner's business, the ends of partitions and the size of buffers the reader's.
_OWNED = (
    "group.id", "auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store", "enable.partition.eof",
    "queued.max.messages.kbytes",
)  # fmt: skip
_SECRET = re.compile(r"pass|secret|key|token|pem|jaas|oauth|user|cert", re.IGNORECASE)
# librdkafka's defaults wait a second when the buffer is full, up to ten before they try a lost broker again, and hold
# every other question to a broker back behind half a second of waiting for messages.
_DEFAULTS = {
    "fetch.queue.backoff.ms": 20, "reconnect.backoff.max.ms": 1000, "fetch.wait.max.ms": 100, "log_level": 0,
}  # fmt: skip

_DENIED = (
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)  # fmt: skip


def read_config(path: str, option: str = "kafka_config") -> dict[str, str]:
    """The settings of a librdkafka configuration file, `name=value` lines or one JSON object, on any Beam filesystem.

    Args:
      option: whose path it is, for messages.

    Raises:
      ValueError: no such file, a line without "=", or JSON that is no object of plain values. What it holds is not
        shown.
    """
    try:
        with FileSystems.open(path) as file:
            text = file.read().decode()
    except UnicodeDecodeError:
        raise ValueError(f"{option}: must be a text file, got {path!r}") from None
    except OSError as error:
        raise ValueError(f"{option}: must be a file, got {path!r} ({error.strerror or error})") from None
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{option}: must be JSON or name=value lines, got {path!r} (broken JSON)") from error
        if not all(isinstance(value, (str, int, float, bool)) for value in found.values()):
            raise ValueError(f"{option}: must hold plain values, got others in {path!r}")
        return {name: str(v).lower() if isinstance(v, bool) else str(v) for name, v in found.items()}
    settings = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#!":
            continue
        name, separator, value = line.partition("=")
        if not separator:
            raise ValueError(f"{option}: must hold name=value lines, got another in line {number} of {path!r}")
        settings[name.strip()] = value.strip()
    return settings


def check_config(config: Mapping[str, Any]) -> None:
    """Raises ValueError where the settings take what the reader must decide, or name no servers."""
    owned = [name for name in _OWNED if name in config]
    if owned:
        raise ValueError(f"kafka_config: must leave out what the job sets itself, got {', '.join(owned)}")
    if not config.get(SERVERS):
        raise ValueError(f"{SERVERS}: must be given, got none")


def scrub(text: str, config: Mapping[str, Any]) -> str:
    """The text without the values of settings that may be secret."""
    hidden = [str(value) for name, value in config.items() if _SECRET.search(name)]
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) > 2:
            text = text.replace(value, "***")
    return text


def open_consumer(config: Mapping[str, Any], group: str, **more: Any) -> Any:
    """A consumer that reads only what it is assigned, and commits only what it is told to.

    Raises:
      ValueError: settings that librdkafka does not understand.
    """
    own = {name: value for name, value in config.items() if not name.startswith(PREFIX)}
    fixed = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    }
    try:
        return Consumer({**_DEFAULTS, **own, **fixed, **more})
    except (KafkaException, ValueError, TypeError) as error:
        said = scrub(str(error), config)
    raise ValueError(f"kafka_config: must be settings of librdkafka, got {said}")


def open_admin(config: Mapping[str, Any]) -> Any:
    """A client for questions about topics, with the same settings."""
    own = {name: value for name, value in config.items() if not name.startswith(PREFIX)}
    return AdminClient({**own, "log_level": 0, "error_cb": lambda error: None})


def compacted(config: Mapping[str, Any], topic: str) -> bool:
    """Whether the broker says of a topic that it deletes messages that later ones replace."""
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = open_admin(config)  # is needed until the answer is there: without it none comes
    try:
        policy = admin.describe_configs([asked], request_timeout=3)[asked].result(_ANSWER_SECONDS)["cleanup.policy"]
    except (KafkaException, KeyError, futures.TimeoutError):  # not everybody may ask
        return False
    return "compact" in policy.value.split(",")


def denied(error: Any) -> bool:
    """Whether an error says that we are not let in, which waiting does not change."""
    return error.code() in _DENIED


class Complaints:
    """Warnings about one matter, the first at once and then one in ten seconds, without secrets."""

    def __init__(self, config: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._said = self._away = self._since = float("-inf")

    def away(self, name: str, error: str) -> None:
        """That the servers are waited for in order to read something, and for how long by now."""
        now = self._clock()
        if now - self._away > 3 * SAY_SECONDS:
            self._since = now
        self._away = now
        servers = self._config.get(SERVERS, "")
        self.say(f"{name}: waiting for the broker at {servers} ({error}), {now - self._since:.0f} s by now")

    def say(self, text: str) -> None:
        if self._clock() - self._said >= SAY_SECONDS:
            self._said = self._clock()
            LOG.warning("%s", scrub(text, self._config))
