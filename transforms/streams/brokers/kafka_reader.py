"""Reads the Kafka partitions that one shard holds, from exact offsets."""
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from beam_coresets.transforms.streams.brokers.kafka_config import Complaints, denied, open_admin, open_consumer, scrub
from beam_coresets.transforms.streams.brokers.partition_ends import PartitionEnds
from beam_coresets.transforms.streams.clocks import LatestClock
from beam_coresets.transforms.streams.messages.decoding import Messages
from beam_coresets.transforms.streams.messages.schemas import RegistryUnavailableError
from beam_coresets.transforms.streams.source import CHUNK_BYTES, Chunk

_OVERHEAD = 128  # what a message costs beside its value, bytes
_MOST = 20_000  # messages taken from the client at once
_LINGER = 0.005
_ANSWER_SECONDS = 2.0
_UNHEARD_SECONDS = 10.0  # a question that has not even failed by then never will
_SILENT_SECONDS = 5.0  # a broker that is not heard of for so long is told of
_BLOCKED_SECONDS = 10.0  # a transaction that is open for longer is told of
_LOOK_SECONDS = 1.0  # between questions for partitions while there is none to read
_CLOSE_SECONDS = 2.0
_HOLD_SECONDS = 1.0  # before the schema registry is asked again for a partition

# Errors of a partition that no waiting repairs.
_LOST = (
    KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_EXCEPTION, KafkaError.MSG_SIZE_TOO_LARGE,
)  # fmt: skip
_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)


class KafkaReader:
    """See `source.Reader`. One client with all partitions, its buffer `buffer` bytes.

    An idle partition is asked twice a second where all that was written ends, open transactions included: while a
    broker does not answer, nothing is `caught_up`, and after that not before producers have had as long again to bring
    what they kept back, whatever its end is meanwhile (`PartitionEnds`).
    """

    def __init__(self, source: Any, shard: int, buffer: int, clock: Callable[[], float] | None = None) -> None:
        self._source, self._clock = source, LatestClock() if clock is None else clock
        self._topic = source.topic
        self._next: dict[int, int] = {}
        self._ends = PartitionEnds()
        self._held: dict[int, float] = {}  # partitions that wait for the schema registry, until when (monotonic)
        self._fatal: str | None = None
        self._lost: tuple[int, str] | None = None
        self._commits = 0
        self._read_at = self._resumed = float("-inf")  # when it read last; and began to, after a pause
        self._complaints = Complaints(source.settings)
        self._uncommitted = source.settings.get("isolation.level") == "read_uncommitted"
        self._group, self._buffer = source.group_of(shard), buffer
        self._consumer: Any = None
        # a client of its own: a question asked of the consumer from another thread waits for as long as that reads
        self._admin, self._admin_since = open_admin(source.settings), time.monotonic()
        self._questions: dict[int, tuple[float, Any, Any]] = {}  # with the client that is to answer
        self._discovery: Any = None
        self._discovered = self._known = float("-inf")  # when it was last asked what partitions there are; answered
        self._partitions = self._absences = 0

    def seek(self, positions: Mapping[int, int]) -> None:
        wanted = {int(part): int(position) for part, position in positions.items()}
        if wanted == self._next and self._fatal is None and self._lost is None:
            return
        self._next, self._fatal, self._lost, self._absences = wanted, None, None, 0
        self._assign()

    def _assign(self) -> None:
        self._held = {}
        self._ends.begin(self._next, time.monotonic())
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
        now = time.monotonic()
        self._resumed = now if now - self._read_at >= _SILENT_SECONDS else self._resumed
        self._read_at = now
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
            self._tell_silence(time.monotonic())
        return chunks

    def _tell_silence(self, now: float) -> None:
        """Says that nothing is heard of any partition, not even a refusal."""
        silent = now - max(self._ends.heard(), self._resumed)
        if silent >= _SILENT_SECONDS and self._next.keys() - self._held.keys():
            self._complaints.away(self._topic, f"nothing heard for {silent:.0f} s")

    def _hold(self, part: int) -> None:
        """Leaves alone, for a while, a partition that can't be decoded; the others go on."""
        self._held[part] = time.monotonic() + _HOLD_SECONDS
        self._ends.forget(part)
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
        return self._ends.caught_up(part, time.monotonic())

    def drained(self, part: int) -> bool:
        return self._ends.drained(part, time.monotonic())

    def age(self, part: int) -> float:
        return self._ends.age(part, time.monotonic())

    def ended(self, part: int) -> bool:
        return False

    def new_parts(self) -> Mapping[int, int]:
        """Partitions that `seek` did not name: also those that came while no reader was there, and others' parts."""
        self._discover()
        return {part: 0 for part in range(self._partitions) if part not in self._next}

    def knows_parts(self, since: float) -> bool:
        if self._known < since and self._discovery is None:
            self._discovered = float("-inf")
        self._discover()
        return self._known >= since

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
                    self._ends.read(part, time.monotonic())
                group.append(message)
                room -= len(message) + _OVERHEAD
                taken += 1
            if (taken and len(got) < asked) or (not taken and time.monotonic() >= until) or self._fatal:
                break
        for part, group in groups.items():
            self._ends.passed(part, group[-1].offset())
        return groups

    def _event(self, message: Any) -> None:
        error, part = message.error(), message.partition()
        if part not in self._next or part in self._held:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends.reached(part, message.offset(), self._written(part, message.offset()), time.monotonic())
        elif error.code() in _OUT_OF_RANGE:
            self._lost = part, error.str()
        elif error.code() in _LOST or denied(error):
            self._fatal = f"{self._source.part_name(part)}: must be readable, got {error.str()}"
        else:
            self._complaints.away(self._source.part_name(part), error.str())

    def _written(self, part: int, end: int) -> int:
        """Where all that is written of a partition ended at its last answer, if messages end at `end`."""
        if self._uncommitted:
            return end
        _, written = self._consumer.get_watermark_offsets(TopicPartition(self._topic, part), cached=True)
        return int(written)

    def _on_error(self, error: Any) -> None:
        if denied(error) or error.fatal():
            self._fatal = f"{self._topic}: must be readable, got {error.str()}"
        else:
            self._complaints.away(self._topic, error.str())

    def _on_commit(self, error: Any, partitions: Any) -> None:
        self._commits -= 1
        if error is not None:
            self._complaints.say(f"{self._topic}: offsets not committed ({error.str()})")

    def _raise(self) -> None:
        if self._lost is not None:
            part, said = self._lost
            try:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, part), timeout=5)
                there = f"{low} to {high}"
            except KafkaException:
                there = f"unknown: {said}"
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
        """Asks, beside the reading, where idle partitions end by now, each alone; takes the answers that are there."""
        now = time.monotonic()
        for part, (asked, question, _) in list(self._questions.items()):
            unheard = now - asked >= _UNHEARD_SECONDS
            if not question.done() and not unheard:
                continue
            del self._questions[part]
            if unheard or _is_refused(question):
                self._ask_anew(now)
            elif question.exception() is None and part in self._next:
                self._ends.answered(part, question.result().offset, asked, now)
        due = [part for part in self._ends.due(now) if part not in self._questions]
        if due:
            latest = {TopicPartition(self._topic, part): OffsetSpec.latest() for part in due}
            found = self._admin.list_offsets(
                latest, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_ANSWER_SECONDS
            )
            self._questions |= {where.partition: (now, question, self._admin) for where, question in found.items()}
        self._tell_ends(now)
        self._discover()

    def _tell_ends(self, now: float) -> None:
        """Says which partitions wait for an open transaction, and gives up those that have lost what was read."""
        cut = self._ends.cut()
        if cut is not None and self._lost is None:
            self._lost = cut[0], f"its log was cut to {cut[1]}"
        for part, (seconds, offset) in self._ends.blocked(now).items():
            if seconds >= _BLOCKED_SECONDS:
                self._complaints.say(
                    f"{self._source.part_name(part)}: waiting for the transaction that is open at offset {offset}, "
                    f"{seconds:.0f} s by now"
                )

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
        often = self._source.discover_seconds if self._next else min(_LOOK_SECONDS, self._source.discover_seconds)
        if self._discovery is None and now - self._discovered >= often:
            self._discovered = now
            topics = TopicCollection([self._topic])
            self._discovery = self._admin.describe_topics(topics, request_timeout=_ANSWER_SECONDS)[self._topic]

    def _count(self, answer: Any) -> None:
        """Takes an answer to how many partitions there are; twice without ours is no lag of one broker's knowledge."""
        problem = answer.exception()
        if problem is None:
            there = len(answer.result().partitions)
            self._partitions, self._known = max(self._partitions, there), self._discovered
        elif isinstance(problem, KafkaException) and problem.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            there = 0
        else:
            return
        gone = sorted(part for part in self._next if part >= there)
        self._absences = self._absences + 1 if gone else 0
        if self._absences > 1:
            names = ", ".join(map(self._source.part_name, gone))
            self._fatal = f"topic: must have the partitions that are read, got none of {names}"


def _is_refused(question: Any) -> bool:
    """Whether a broker has answered with an error, or with no offset; not that none has answered."""
    problem = question.exception()
    if problem is None:
        return bool(question.result().offset < 0)
    return isinstance(problem, KafkaException) and problem.args[0].code() > 0
