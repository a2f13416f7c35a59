"""Kafka as a source: partitions are its parts, offsets their positions; one client a shard, no consumer group protocol.

Offsets live in the runner's checkpoints. They are also committed, each shard's to a group of its own ("group-3"), for
monitoring and for jobs that go on from there.
"""
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from beam_coresets.transforms.streams.brokers.kafka_config import (
    SERVERS,
    Complaints,
    check_config,
    compacted,
    denied,
    open_consumer,
    read_config,
    scrub,
)
from beam_coresets.transforms.streams.brokers.kafka_reader import KafkaReader
from beam_coresets.transforms.streams.messages.decoding import EventTime, MessageFormat
from beam_coresets.transforms.streams.times import time_of_text

__all__ = ["KafkaReader", "KafkaSource", "read_config"]

LOG = logging.getLogger(__name__)
T = TypeVar("T")

EARLIEST, LATEST, COMMITTED = "earliest", "latest", "committed"
MESSAGE_TIME = "message"
_SHOWN_TOPICS = 20
_LEAST_BUFFER = 1 << 20


@dataclasses.dataclass(frozen=True)
class KafkaSource:
    """A topic, and how it is read. Pickled into the pipeline, secrets included; they are never shown.

    Attributes:
      topic: its name.
      format: what its messages hold.
      servers: "host:port,...", here or as "bootstrap.servers" in `config`.
      config: further settings of librdkafka (`read_config`).
      group: shard i commits its offsets to the consumer group "group-i".
      start: "earliest", "latest", "committed" (of the groups of `shards` shards the least offset; earliest without
        one), a time (seconds since the epoch, or ISO 8601), or partition -> offset (earliest for the others).
      time: "message": its timestamp; or a field of row formats (`EventTime.column`).
      buffer_bytes: of a process for messages not yet read, divided among the readers of its shards.
      discover_seconds: how often new partitions are looked for.
      max_ahead, max_behind: seconds that an event time may be off (`EventTime`): a message's timestamp from the
        reader's clock, a field from that timestamp; further ones are dead letters.
      shards: how many committed, for `start` "committed".

    Raises:
      ValueError: contradicting or impossible settings.
    """

    topic: str
    format: MessageFormat
    servers: str = ""
    config: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    group: str = "beam-coresets"
    start: str | float | Mapping[int, int] = LATEST
    time: str = MESSAGE_TIME
    buffer_bytes: int = 64 << 20
    discover_seconds: float = 10.0
    max_ahead: float = EventTime.max_ahead
    max_behind: float = EventTime.max_behind
    shards: int = 1

    def __post_init__(self) -> None:
        given = self.config.get(SERVERS)
        if self.servers and given and given != self.servers:
            raise ValueError(f"{SERVERS}: must be the same in kafka_config, got {self.servers!r} and another")
        check_config(self.settings)
        if not self.topic or not self.group:
            raise ValueError(f"topic, group: must not be empty, got {self.topic!r}, {self.group!r}")
        for name, least in (("shards", 1), ("buffer_bytes", _LEAST_BUFFER), ("discover_seconds", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be at least {least}, got {getattr(self, name)}")
        if isinstance(self.start, Mapping):
            bad = {part: offset for part, offset in self.start.items() if part < 0 or offset < 0}
            if bad:
                raise ValueError(f"start: must be offsets of at least 0 by partition, got {bad}")
        elif self.start not in (EARLIEST, LATEST, COMMITTED):
            start_time(self.start)
        self.format.check_time(self.event_time.column)

    @property
    def settings(self) -> dict[str, str]:
        """What clients are made with; holds secrets."""
        return {**self.config, SERVERS: self.servers or self.config.get(SERVERS, "")}

    @property
    def event_time(self) -> EventTime:
        return EventTime(None if self.time == MESSAGE_TIME else self.time, self.max_ahead, self.max_behind)

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the coordinates, where messages have columns."""
        return self.format.names(self.event_time.column)

    @property
    def lineage(self) -> tuple[str, ...]:
        """Its name in Beam's `Lineage`, as Beam's own Kafka source has it."""
        return "kafka", self.settings[SERVERS], self.topic

    @property
    def bounded(self) -> bool:
        return False

    def starts(self) -> Mapping[int, int]:
        """Partition -> offset; waits, and says so, while no broker answers.

        Raises:
          ValueError: an unknown topic, an offset that the broker does not have, no access, or a schema in the registry
            that lacks what is read.
        """
        self.format.check_topic(self.topic, self.event_time.column)
        return _Launch(self).starts()

    def since(self, starts: Mapping[int, int], now: float) -> Mapping[int, float]:
        """What was committed comes after windows that are decided; of a partition's first offset nothing comes before;
        of a time, all from then on comes after it."""
        if self.start == COMMITTED:
            held = _Launch(self).committed(sorted(starts))
            return {part: now for part, offset in starts.items() if offset > 0 and part not in held}
        time = now
        if self.start not in (EARLIEST, LATEST) and not isinstance(self.start, Mapping):
            time = min(now, start_time(self.start))
        return {part: time for part, offset in starts.items() if offset > 0}

    def part_name(self, part: int) -> str:
        return f"{self.topic}/{part}"

    def group_of(self, shard: int) -> str:
        """The consumer group that the shard commits to."""
        return f"{self.group}-{shard}"

    def reader(self, shard: int, shards: int) -> KafkaReader:
        return KafkaReader(self, shard, max(_LEAST_BUFFER, self.buffer_bytes // shards))

    def display_data(self) -> Mapping[str, Any]:
        start = self.start if isinstance(self.start, (str, float, int)) else f"{len(self.start)} offsets"
        shown = {"topic": self.topic, "servers": self.settings[SERVERS], "group": self.group, "start": start}
        return {**shown, "time": self.time, **self.format.display_data()}


def start_time(start: Any) -> float:
    """Seconds since the epoch of a `start` that is a time.

    Raises:
      ValueError: it is none.
    """
    seconds = time_of_text(str(start))
    if not 0 < seconds < 1e11:
        wanted = f"{EARLIEST!r}, {LATEST!r}, {COMMITTED!r}, seconds, an ISO time or offsets by partition"
        raise ValueError(f"start: must be {wanted}, got {start!r}")
    return seconds


def _offsets_for_times(consumer: Any, wanted: list[Any]) -> list[Any]:
    """The answer for every partition; raises KafkaException where one of them has none."""
    found: list[Any] = consumer.offsets_for_times(wanted, timeout=3)
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)
    return found


class _Launch:
    """Resolves the first offsets, once, where the job is launched."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source
        self._complaints = Complaints(source.settings)
        self._refusal: str | None = None

    def starts(self) -> dict[int, int]:
        consumer = self._open(0)
        try:
            parts = self._ask(consumer, lambda: self._partitions(consumer))
            if compacted(self._source.settings, self._source.topic):
                LOG.warning(
                    "%s: is compacted: windows hold what was left of it when they were read", self._source.topic
                )
            kept = {p: self._ask(consumer, lambda p=p: self._kept(consumer, p)) for p in parts}  # type: ignore[misc]
            return self._resolve(consumer, kept)
        finally:
            consumer.close()

    def _open(self, shard: int) -> Any:
        return open_consumer(self._source.settings, self._source.group_of(shard), error_cb=self._on_error)

    def _on_error(self, error: Any) -> None:
        if denied(error) or error.code() == KafkaError._SSL:
            self._refusal = error.str()
        else:
            self._complaints.away(self._source.topic, error.str())

    def _ask(self, consumer: Any, question: Callable[[], T]) -> T:
        """The answer, however long it takes; raises ValueError where we are not let in."""
        while True:
            try:
                return question()
            except KafkaException as failure:
                error = failure.args[0]
            consumer.poll(0)  # the callback may know why
            if denied(error):
                self._refusal = error.str()
            if self._refusal is not None:
                raise ValueError(f"kafka_config: must give access to {self._source.topic!r}, got {self._scrubbed()}")
            self._complaints.away(self._source.topic, error.str())
            time.sleep(0.2)

    def _scrubbed(self) -> str:
        return scrub(self._refusal or "", self._source.settings)

    def _partitions(self, consumer: Any) -> list[int]:
        topic = self._source.topic
        found = consumer.list_topics(timeout=3)
        if not found.brokers:
            raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        if topic not in found.topics:
            names = sorted(name for name in found.topics if not name.startswith("__"))
            shown = ", ".join(names[:_SHOWN_TOPICS]) + (", ..." if len(names) > _SHOWN_TOPICS else "")
            raise ValueError(f"topic: must exist, got {topic!r} (have: {shown or 'none'})")
        if found.topics[topic].error is not None:
            raise KafkaException(found.topics[topic].error)
        return sorted(found.topics[topic].partitions)

    def _kept(self, consumer: Any, part: int) -> tuple[int, int]:
        """The first offset that the broker has of a partition, and the next one to be written."""
        low, high = consumer.get_watermark_offsets(TopicPartition(self._source.topic, part), timeout=3)
        return int(low), int(high)

    def _resolve(self, consumer: Any, kept: Mapping[int, tuple[int, int]]) -> dict[int, int]:
        start = self._source.start
        if start == EARLIEST:
            return {part: low for part, (low, _) in kept.items()}
        if start == LATEST:
            return {part: high for part, (_, high) in kept.items()}
        if start == COMMITTED:
            return self._checked(self.committed(sorted(kept)), kept)
        if isinstance(start, Mapping):
            return self._checked(start, kept)
        wanted = [TopicPartition(self._source.topic, part, round(start_time(start) * 1000)) for part in kept]
        found = self._ask(consumer, lambda: _offsets_for_times(consumer, wanted))
        # nothing as late as that: the end, as it was before the question
        return {one.partition: one.offset if one.offset >= 0 else kept[one.partition][1] for one in found}

    def _checked(self, offsets: Mapping[int, int], kept: Mapping[int, tuple[int, int]]) -> dict[int, int]:
        for part, offset in offsets.items():
            if part not in kept:
                raise ValueError(f"start: must be partitions of {self._source.topic!r} (0 to {max(kept)}), got {part}")
            low, high = kept[part]
            if not low <= offset <= high:
                name = self._source.part_name(part)
                raise ValueError(
                    f"offset: must be in what the broker has of {name} ({low} to {high}),"
                    f" got partition {part} at offset {offset}"
                )
        return {part: offsets.get(part, low) for part, (low, _) in kept.items()}

    def committed(self, parts: list[int]) -> dict[int, int]:
        """The least offset that any shard has committed, of the partitions that have one."""
        least: dict[int, int] = {}
        asked = [TopicPartition(self._source.topic, part) for part in parts]
        for shard in range(self._source.shards):
            consumer = self._open(shard)
            try:
                for one in self._ask(consumer, lambda c=consumer: c.committed(asked, timeout=3)):  # type: ignore[misc]
                    if one.error is not None:
                        raise ValueError(f"start: must be readable for {self._source.group_of(shard)}, got {one.error}")
                    if one.offset >= 0:
                        least[one.partition] = min(one.offset, least.get(one.partition, one.offset))
            finally:
                consumer.close()
        return least
