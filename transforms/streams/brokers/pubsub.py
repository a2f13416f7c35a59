"""Google Cloud Pub/Sub: messages in any message format -> PointBlocks with event times.

Pub/Sub has no parts that a shard could read for itself, so its rows are shuffled to the shards (`SummarizeUnbounded`).
"""
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub
from apache_beam.metrics import Metrics
from apache_beam.pvalue import DoOutputsTuple, PBegin, PCollection
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coder of PointBlock)
from beam_coresets.hashing import derive_seed, hash_bytes, hash_integers
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.base.progress import PROGRESS
from beam_coresets.transforms.streams.messages.decoding import EventTime, MessageFormat, Messages
from beam_coresets.transforms.streams.source import Chunk

BLOCKS, DEAD_LETTERS = "blocks", "dead_letters"
KEY_COLUMN = "key"  # of the blocks' extras, where the format has keys
MOST_MESSAGES = 8192
MOST_BYTES = 8 << 20


class ReadPubSub(beam.PTransform):
    """Begin -> `.blocks` (PointBlock) and `.dead_letters` (DeadLetter).

    For Dataflow: other runners do not have Beam's Pub/Sub source. Needs the extra `gcp`.

    Args:
      subscription: "projects/PROJECT/subscriptions/NAME".
      form: of the messages.
      windows: how the stream is cut; no block spans two panes.
      event_time: where event times come from; the message's own is its publish time, or `time_attribute`.
      time_attribute: an attribute with the event time, in milliseconds since the epoch or RFC 3339; the watermark
        follows it. With a time field instead it follows publish times, and events older than those may be late.
      clock: seconds since the epoch.

    Raises:
      ValueError: the extra is not installed, another form of subscription, both an attribute and a field.

    Source: Beam's `ReadFromPubSub`, then `BlocksFromMessages`.

    Example (not run: the extra gcp is needed):
      form = message_format("json", Columns(columns=("x", "y", "z")))
      read = p | ReadPubSub("projects/mine/subscriptions/points", form, stream.windows)
      read["blocks"] | SummarizeUnbounded(stream)
    """

    def __init__(
        self,
        subscription: str,
        form: MessageFormat,
        windows: WindowSpec,
        event_time: EventTime | None = None,
        time_attribute: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._decode = BlocksFromMessages(subscription, form, windows, event_time, clock)
        field = None if event_time is None else event_time.column
        self.names = form.names(field)
        if field is not None and time_attribute is not None:
            raise ValueError(f"time_attribute: must be left out with time_field {field!r}, got {time_attribute!r}")
        if not _installed():
            raise ValueError(
                "pubsub_subscription: must have the extra gcp (pip install 'beam-coresets[gcp]'), "
                f"got {subscription!r} without it"
            )
        try:
            self._read = ReadFromPubSub(
                subscription=subscription, with_attributes=True, timestamp_attribute=time_attribute
            )
        except ValueError:
            raise ValueError(
                f"pubsub_subscription: must be projects/PROJECT/subscriptions/NAME, got {subscription!r}"
            ) from None

    def expand(self, begin: PBegin) -> "DoOutputsTuple":
        return begin | "Read" >> self._read | "Decode" >> self._decode

    def display_data(self) -> dict[str, Any]:
        return self._decode.display_data()


def _installed() -> bool:
    try:
        return importlib.util.find_spec("google.cloud.pubsub") is not None
    except ModuleNotFoundError:  # not even google.cloud
        return False


@beam.typehints.with_input_types(PubsubMessage)
class BlocksFromMessages(beam.PTransform):
    """PubsubMessages with event times -> `.blocks` (PointBlock) and `.dead_letters` (DeadLetter).

    Messages are gathered within a bundle. A row is known by its message's id, so a message that is delivered again has
    the same rows; printed ids are "message id", or "message id#row" where it has several. "message.key" is the ordering
    key. Keys are in the blocks' extras as `KEY_COLUMN`.

    Args:
      name: of the subscription, for dead letters.
      form, windows, event_time, clock: see `ReadPubSub`.

    Raises:
      ValueError: an event time in a column, of messages without columns.

    Source: `beam_coresets.transforms.streams.messages`.

    Example:
      message = PubsubMessage(b'{"x": 1.5, "y": 2.5}', {}, message_id="1")
      form = message_format("json", Columns(columns=("x", "y")))
      made = p | beam.Create([message]) | BlocksFromMessages("points", form, WindowSpec.parse("5s"))
      made["dead_letters"] | WriteDeadLetters("out", "jsonl")
    """

    def __init__(
        self,
        name: str,
        form: MessageFormat,
        windows: WindowSpec,
        event_time: EventTime | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        event_time = event_time or EventTime()
        form.check_time(event_time.column)
        self._decode = _Decode(name, form, windows, event_time, clock)
        self._shown = {"subscription": name, **form.display_data(), **shown(windows=windows, event_time=event_time)}

    def expand(self, messages: PCollection[PubsubMessage]) -> "DoOutputsTuple":
        decode = beam.ParDo(self._decode).with_output_types(PointBlock)
        outputs = messages | "Gather" >> decode.with_outputs(DEAD_LETTERS, main=BLOCKS)
        outputs[DEAD_LETTERS].element_type = DeadLetter
        return outputs

    def display_data(self) -> dict[str, Any]:
        return self._shown


class _Decode(beam.DoFn):
    def __init__(
        self, name: str, form: MessageFormat, windows: WindowSpec, event_time: EventTime, clock: Callable[[], float]
    ) -> None:
        self._name, self._form, self._windows, self._time, self._clock = name, form, windows, event_time, clock
        names = ("points_read", "messages_read", "dead_letters")
        self._counters = {name: Metrics.counter("beam_coresets", name) for name in names}

    def start_bundle(self) -> None:
        self._held: list[tuple[PubsubMessage, float]] = []
        self._bytes = 0

    def process(self, message: PubsubMessage, at: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        self._held.append((message, float(at)))
        self._bytes += len(message.data or b"")
        if len(self._held) >= MOST_MESSAGES or self._bytes >= MOST_BYTES:
            yield from self._flushed()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._flushed()

    def _flushed(self) -> Iterator[Any]:
        held = self._held
        if not held:
            return
        self.start_bundle()
        now = self._clock()
        messages = Messages(
            self._name,
            "",
            np.arange(len(held)),
            np.array([at for _, at in held]),
            [m.ordering_key.encode() if m.ordering_key else None for m, _ in held],
            [m.data for m, _ in held],
        )
        names = [m.message_id or f"{derive_seed(m.data, at):016x}" for m, at in held]
        chunk = self._form.decode(messages, self._time, now)
        self._counters["messages_read"].inc(len(held))
        self._counters["points_read"].inc(len(chunk.points))
        self._counters["dead_letters"].inc(len(chunk.letters))
        PROGRESS.add(points=len(chunk.points))
        for letter in chunk.letters:
            Metrics.counter("beam_coresets", f"dead_letters_{letter.kind}").inc()
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, _at(_placed(letter, names), now))
        yield from self._blocks(chunk, names)

    def _blocks(self, chunk: Chunk, names: list[str]) -> Iterator[Any]:
        """A block for each pane that there are rows of, at the earliest event time in it."""
        if not len(chunk.points):
            return
        ids, extras = _identified(chunk, names)
        weights = np.ones(len(ids)) if chunk.weights is None else chunk.weights
        whole = PointBlock(chunk.points, weights, ids, Span(0, 0, True), chunk.groups, extras)
        times = np.repeat(chunk.times, chunk.counts)
        panes = self._windows.pane_of(times)
        for pane in np.unique(panes).tolist():
            rows = np.flatnonzero(panes == pane)
            block = whole if len(rows) == len(whole) else whole.take(rows)
            yield _at(block, float(times[rows].min()))


def _at(value: Any, time: float) -> WindowedValue:
    return WindowedValue(value, Timestamp.of(time), [GlobalWindow()])


def _placed(letter: DeadLetter, names: list[str]) -> DeadLetter:
    """A letter with the message's id in place of its number in the bundle."""
    number, _, row = letter.position.strip().removeprefix("offset ").partition(" ")
    return letter._replace(position=f"message {names[int(number)]} {row}".rstrip())


def _identified(chunk: Chunk, names: list[str]) -> tuple[npt.NDArray[np.uint64], Any]:
    """The hashed ids of all rows, (n,), and the table that travels with them: printed ids, keys and kept columns."""
    message = np.repeat(chunk.offsets, chunk.counts)
    number = np.arange(len(message)) - np.repeat(np.cumsum(chunk.counts) - chunk.counts, chunk.counts)
    ids, extras = chunk.ids, chunk.extras
    if ids is None:
        raw = [name.encode() for name in names]
        ends = np.cumsum([0, *map(len, raw)]).astype(np.int64)
        hashes = hash_bytes(ends, np.frombuffer(b"".join(raw), np.uint8).copy())
        ids = hash_integers(hashes[message] + number.astype(np.uint64))
    columns = {} if extras is None else {name: extras.column(name) for name in extras.column_names}
    if "id" not in columns:
        printed = pa.array(names, pa.string()).take(pa.array(message))
        several = pa.array(np.repeat(chunk.counts > 1, chunk.counts))
        numbered = pc.binary_join_element_wise(printed, pa.array(number).cast(pa.string()), "#")
        columns["id"] = pc.if_else(several, numbered, printed)
    if chunk.keys is not None:
        columns[KEY_COLUMN] = pa.array(np.repeat(chunk.keys, chunk.counts), pa.string())
    return ids, pa.table(columns)
