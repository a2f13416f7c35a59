"""Reads the Kafka partitions that one shard holds, from exact offsets."""
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from beam_coresets.transforms.streams.brokers.kafka_config import Complaints, denied, open_admin, open_consumer, scrub
from beam_coresets.transforms.streams.messages.decoding import Messages
from beam_coresets.transforms.streams.messages.registry import RegistryUnavailableError
from beam_coresets.transforms.streams.source import CHUNK_BYTES, Chunk

_OVERHEAD = 128  # what a message costs beside its value, bytes
_MOST = 20_000  # messages taken from the client at once
_LINGER = 0.005
_ASK_SECONDS = 0.5  # between questions where an idle partition ends
_ANSWER_SECONDS = 2.0
_UNHEARD_SECONDS = 10.0  # a question that has not even failed by then never will
_STALE_SECONDS = 3.0  # an end that was seen longer ago proves nothing
_SETTLE_SECONDS = 10.0  # the most that producers get after an outage to bring what they have kept back
_CLOSE_SECONDS = 2.0
_HOLD_SECONDS = 1.0  # before the schema registry is asked again for a partition

# Errors of a partition that no waiting repairs.
_LOST = (
    KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_EXCEPTION, KafkaError.MSG_SIZE_TOO_LARGE,
)  # fmt: skip
_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


class _End(NamedTuple):
    """The end of a partition: its next offset, and when (monotonic) it was known to be there."""

    offset: int
    seen: float


class KafkaReader:
    """See `source.Reader`. One client with all partitions, its buffer `buffer` bytes.

    An idle partition is asked twice a second where it ends: while a broker does not answer, nothing is `caught_up`, and
    after that not before producers have had as long again to bring what they kept back, whatever its end is meanwhile.
    """

    def __init__(self, source: Any, shard: int, buffer: int, clock: Callable[[], float] = time.time) -> None:
        self._source, self._clock = source, clock
        self._topic = source.topic
        self._next: dict[int, int] = {}
        self._ends: dict[int, _End] = {}
        self._heard: dict[int, float] = {}  # when (monotonic) anything was last known of a partition
        self._settling: dict[int, float] = {}  # partitions that are back from an outage, until when (monotonic)
        self._held: dict[int, float] = {}  # partitions that wait for the schema registry, until when (monotonic)
        self._fatal: str | None = None
        self._lost: tuple[int, Any] | None = None
        self._commits = 0
        self._complaints = Complaints(source.settings)
        self._uncommitted = source.settings.get("isolation.level") == "read_uncommitted"
        self._group, self._buffer = source.group_of(shard), buffer
        self._consumer: Any = None
        # a client of its own: a question asked of the consumer from another thread waits for as long as that reads
        self._admin, self._admin_since = open_admin(source.settings), time.monotonic()
        self._questions: dict[int, tuple[float, Any]] = {}
        self._discovery: Any = None
        self._discovered = float("-inf")
        self._partitions = self._absences = 0

    def seek(self, positions: Mapping[int, int]) -> None:
        wanted = {int(part): int(position) for part, position in positions.items()}
        if wanted == self._next and self._fatal is None and self._lost is None:
            return
        self._next, self._fatal, self._lost, self._absences = wanted, None, None, 0
        self._assign()

    def _assign(self) -> None:
        self._ends, self._held, self._settling = {}, {}, {}
        self._heard = dict.fromkeys(self._next, time.monotonic())
        if self._consumer is None:  # not earlier: partitions given to a client that has stood idle wait up to a second
            self._consumer = open_consumer(
                self._source.settings,
                self._group,
                error_cb=self._on_error,
                on_commit=self._on_commit,
                **{"queued.max.messages.kbytes": max(1, self._buffer >> 10)},
            )
        self._consumer.assign([TopicPartition(self._topic, part, at) for part, at in self._next.items()])

    def read(self, seconds: float) -> list[Chunk]:
        self._raise()
        self._ask()
        self._release()
        groups = self._consume(seconds)
        chunks = []
        for part in sorted(groups):
            try:
                chunk = self._chunk(part, groups[part])
            except RegistryUnavailableError as error:
                self._complaints.say(f"{self._topic}: waiting for the schema registry ({error})")
                self._hold(part)
                continue
            if chunk is not None:
                chunks.append(chunk)
        if not chunks:
            self._raise()
        return chunks

    def _hold(self, part: int) -> None:
        """Leaves alone, for a while, a partition that can't be decoded; the others go on."""
        self._held[part] = time.monotonic() + _HOLD_SECONDS
        self._ends.pop(part, None)
        self._consumer.incremental_unassign([TopicPartition(self._topic, part)])

    def _release(self) -> None:
        """Reads again, from what was not decoded, the partitions that were held long enough."""
        now = time.monotonic()
        due = [part for part, until in self._held.items() if now >= until]
        for part in due:
            del self._held[part]
        if due:
            self._consumer.incremental_assign([TopicPartition(self._topic, part, self._next[part]) for part in due])

    def caught_up(self, part: int) -> bool:
        end, now = self._ends.get(part), time.monotonic()
        return end is not None and now - end.seen < _STALE_SECONDS and now >= self._settling.get(part, 0.0)

    def age(self, part: int) -> float:
        end = self._ends.get(part)
        return 0.0 if end is None else time.monotonic() - end.seen

    def ended(self, part: int) -> bool:
        return False

    def new_parts(self) -> Mapping[int, int]:
        """Partitions that `seek` did not name: also those that came while no reader was there, and others' parts."""
        self._discover()
        return {part: 0 for part in range(self._partitions) if part not in self._next}

    def commit(self, positions: Mapping[int, int]) -> None:
        offsets = [TopicPartition(self._topic, part, position) for part, position in positions.items()]
        if not offsets or self._consumer is None:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
            self._commits += 1
        except KafkaException as error:
            self._complaints.say(f"{self._topic}: offsets not committed ({error.args[0]})")

    def close(self) -> None:
        if self._consumer is None:
            return
        self._consumer.assign([])
        until = time.monotonic() + _CLOSE_SECONDS
        while self._commits > 0 and time.monotonic() < until:
            self._consumer.poll(0.02)
        self._consumer.close()

    def _consume(self, seconds: float) -> dict[int, list[Any]]:
        """Messages by partition, until about `CHUNK_BYTES` or nothing more is there."""
        groups: dict[int, list[Any]] = {}
        until = time.monotonic() + seconds
        room, taken = CHUNK_BYTES, 0
        while room > 0 and self._next:
            # the client waits until it has all it was asked for: one message first, then what is there
            asked = min(_MOST, max(1, room * taken // (CHUNK_BYTES - room))) if taken else 1
            got = self._consumer.consume(asked, _LINGER if taken else max(0.0, until - time.monotonic()))
            for message in got:
                if message.error() is not None:
                    self._event(message)
                    continue
                part = message.partition()
                if part in self._held:
                    continue  # of before it was held; it is read again
                group = groups.get(part)
                if group is None:
                    groups[part] = group = []
                    self._ends.pop(part, None)
                    self._hear(part)
                group.append(message)
                room -= len(message) + _OVERHEAD
                taken += 1
            if (taken and len(got) < asked) or (not taken and time.monotonic() >= until) or self._fatal:
                break
        self._forget_passed_ends(groups)
        return groups

    def _forget_passed_ends(self, groups: Mapping[int, list[Any]]) -> None:
        for part, group in groups.items():
            end = self._ends.get(part)
            if end is not None and group[-1].offset() >= end.offset:
                del self._ends[part]

    def _event(self, message: Any) -> None:
        error, part = message.error(), message.partition()
        if part not in self._next or part in self._held:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends[part] = _End(message.offset(), time.monotonic())
            self._hear(part)
        elif error.code() in _OUT_OF_RANGE:
            self._lost = part, error
        elif error.code() in _LOST or denied(error):
            self._fatal = f"{self._source.part_name(part)}: must be readable, got {error.str()}"
        else:
            self._complaints.say(f"{self._source.part_name(part)}: waiting for the broker ({error.str()})")

    def _hear(self, part: int) -> None:
        """Notes that the broker has told something of a partition; if that was away, its producers were, too."""
        now = time.monotonic()
        away = now - self._heard.get(part, now)
        if away >= _STALE_SECONDS:
            self._settling[part] = now + min(away, _SETTLE_SECONDS)
        self._heard[part] = now

    def _on_error(self, error: Any) -> None:
        if denied(error) or error.fatal():
            self._fatal = f"{self._topic}: must be readable, got {error.str()}"
        else:
            self._complaints.say(f"{self._topic}: waiting for the broker ({error.str()})")

    def _on_commit(self, error: Any, partitions: Any) -> None:
        self._commits -= 1
        if error is not None:
            self._complaints.say(f"{self._topic}: offsets not committed ({error.str()})")

    def _raise(self) -> None:
        if self._lost is not None:
            part, error = self._lost
            try:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, part), timeout=5)
                there = f"{low} to {high}"
            except KafkaException:
                there = f"unknown: {error.str()}"
            raise ValueError(
                f"offset: must be in what the broker has of {self._source.part_name(part)} ({there}),"
                f" got partition {part} at offset {self._next[part]}"
            )
        if self._fatal is not None:
            raise ValueError(scrub(self._fatal, self._source.settings))

    def _chunk(self, part: int, group: list[Any]) -> Chunk | None:
        start = self._next.get(part)
        if start is None:
            return None
        if group[0].offset() < start:
            group = [message for message in group if message.offset() >= start]
            if not group:
                return None
        n = len(group)
        stamps = [message.timestamp() for message in group]
        messages = Messages(
            self._topic,
            f"partition {part}",
            np.fromiter((message.offset() for message in group), np.int64, n),
            np.fromiter((ms / 1000 if kind else np.nan for kind, ms in stamps), np.float64, n),
            [message.key() for message in group],
            [message.value() for message in group],
            part,
            start,
        )
        chunk = self._source.format.decode(messages, self._source.event_time, self._clock())
        self._next[part] = chunk.stop
        return chunk

    def _ask(self) -> None:
        """Asks, beside the reading, where idle partitions end by now, each alone; takes the answers that are there.

        An end that stays where it was is seen again; one that moved on means that messages are on their way.
        """
        now = time.monotonic()
        for part, (asked, question) in list(self._questions.items()):
            unheard = now - asked >= _UNHEARD_SECONDS
            if not question.done() and not unheard:
                continue
            del self._questions[part]
            known = self._ends.get(part)
            if unheard or _refused(question):
                self._ask_anew(now)
            elif question.exception() is None and known is not None and question.result().offset == known.offset:
                self._ends[part] = _End(known.offset, asked)
                self._hear(part)
        due = [p for p, end in self._ends.items() if now - end.seen >= _ASK_SECONDS and p not in self._questions]
        if due:
            latest = {TopicPartition(self._topic, part): OffsetSpec.latest() for part in due}
            level = IsolationLevel.READ_UNCOMMITTED if self._uncommitted else IsolationLevel.READ_COMMITTED
            found = self._admin.list_offsets(latest, isolation_level=level, request_timeout=_ANSWER_SECONDS)
            self._questions |= {where.partition: (now, question) for where, question in found.items()}
        self._discover()

    def _ask_anew(self, now: float) -> None:
        """Another client for questions, which knows nothing yet: after a change of leaders librdkafka would go on
        asking with the epoch that has passed (FENCED_LEADER_EPOCH)."""
        if now - self._admin_since >= _ANSWER_SECONDS:
            self._admin, self._admin_since = open_admin(self._source.settings), now

    def _discover(self) -> None:
        """Asks, beside the reading and every so often, how many partitions there are."""
        if self._discovery is not None and self._discovery.done():
            self._count(self._discovery)
            self._discovery = None
        now = time.monotonic()
        if self._discovery is None and now - self._discovered >= self._source.discover_seconds:
            self._discovered = now
            topics = TopicCollection([self._topic])
            self._discovery = self._admin.describe_topics(topics, request_timeout=_ANSWER_SECONDS)[self._topic]

    def _count(self, answer: Any) -> None:
        """Takes an answer to how many partitions there are; twice without ours is no lag of one broker's knowledge."""
        problem = answer.exception()
        if problem is None:
            there = len(answer.result().partitions)
            self._partitions = max(self._partitions, there)
        elif isinstance(problem, KafkaException) and problem.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            there = 0
        else:
            return
        gone = sorted(part for part in self._next if part >= there)
        self._absences = self._absences + 1 if gone else 0
        if self._absences > 1:
            names = ", ".join(map(self._source.part_name, gone))
            self._fatal = f"topic: must have the partitions that are read, got none of {names}"


def _refused(question: Any) -> bool:
    """Whether a broker has answered with an error; not that none has answered."""
    problem = question.exception()
    return isinstance(problem, KafkaException) and problem.args[0].code() > 0
