"""WriteToKafka: the summaries, centers and columns of claimed decisions in a Kafka topic."""
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindows

from beam_coresets import tables, values
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.base.lineage import tell_written
from beam_coresets.transforms.writing.claims import Claims

ANNOUNCED_TABLES = ("centers", "columns", "events", "summaries")  # in this order: who sees a summary has its centers
ENCODINGS: Mapping[str, Callable[[pa.Table], Iterator[bytes]]] = {
    "json": tables.json_lines,
    "avro": tables.avro_messages,
}
_NEEDED = {"acks": "all", "enable.idempotence": True}
_MEANT = {"acks": ("all", "-1"), "enable.idempotence": ("true",)}


@beam.typehints.with_input_types(Window)
@beam.typehints.with_output_types(Window)
class WriteToKafka(beam.PTransform):
    """Decided Windows -> those announced: a message a row of `summaries`, `centers`, `columns` and `events`.

    What is announced is read from the tables, so that a window decided or announced twice gets the same messages twice,
    never others, and those of claimed decisions only. That all was delivered is noted down beside the claim; until then
    whoever comes by announces it again.
    A message's key is the JSON array [window_start, window_end, key], its header `table` says which table it is a row
    of, its value is the row. `evidence` is left out: it may be larger than a broker takes.

    Args:
      claims: where the decisions are (`WriteSummaries.claims`).
      config: of the confluent-kafka producer, "bootstrap.servers" at least. May hold passwords: it is never shown.
      topic: the topic's name. It must not be compacted: the centers of a window share a key.
      encoding: "json" or "avro" (single-object encoding, with `tables.avro_schema` of the columns sent).

    Raises:
      ValueError: something is missing, unknown, or would let messages get lost or doubled.

    Raises (while running):
      RuntimeError: a message that the broker does not take.

    Source: Kafka's idempotent producer; `Claims` for what is told.

    Example (a broker is needed):
      write = WriteSummaries("out")
      written = (blocks | Summarize(k=4, shards=5)).decided | write
      windows = written.windows | ApartFromSolving()
      windows | WriteToKafka(write.claims, {"bootstrap.servers": "localhost:9092"}, "summaries")
    """

    def __init__(self, claims: Claims, config: Mapping[str, Any], topic: str, encoding: str = "json") -> None:
        super().__init__()
        if not config.get("bootstrap.servers"):
            raise ValueError("kafka_config: must have bootstrap.servers, got none")
        for name, meant in _MEANT.items():
            if str(config.get(name, meant[0])).lower() not in meant:
                raise ValueError(f"kafka_config: must have {name} {meant[0]} or leave it out, got {config[name]!r}")
        if not topic:
            raise ValueError(f"output_topic: must be the name of a topic, got {topic!r}")
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding: must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
        missing = sorted({"centers", "summaries"} - set(claims.wanted))
        if missing:
            raise ValueError(f"output_topic: must have summaries and centers among the tables, got no {missing[0]}")
        self._announce = _Announce(claims, {**config, **_NEEDED}, topic, encoding)
        self._topic, self._encoding, self._output = topic, encoding, claims.output

    def expand(self, windows: PCollection[Window]) -> PCollection[Window]:
        return windows | "Announce" >> beam.ParDo(self._announce)

    def display_data(self) -> dict[str, Any]:
        return {"topic": self._topic, "encoding": self._encoding, "output": self._output}


def require_topic(config: Mapping[str, Any], topic: str, patience: float = 3.0) -> None:
    """Asks a broker for the topic, which makes it where brokers make topics; if none answers the job will wait for one.

    Raises:
      ValueError: there is no such topic, seconds of `patience` later, or the settings are none of librdkafka's.
    """
    from confluent_kafka import KafkaError, KafkaException, Producer

    try:
        producer = Producer({"log_level": 0, **config})
    except (KafkaException, ValueError, TypeError):
        raise ValueError("output_config: must be settings of librdkafka, got others") from None
    until = time.monotonic() + patience
    while True:
        try:
            error = producer.list_topics(topic, timeout=3).topics[topic].error
        except KafkaException:
            return
        if error is None or error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            return
        if time.monotonic() > until:
            raise ValueError(f"output_topic: must exist, got {topic!r}")
        time.sleep(0.2)


class _Announce(beam.DoFn):
    def __init__(self, claims: Claims, config: Mapping[str, Any], topic: str, encoding: str) -> None:
        self._claims, self._config, self._topic, self._encoding = claims, dict(config), topic, encoding
        self._producer: Any = None
        self._windows: dict[str, Window] = {}
        self._failures: list[str] = []
        self._announced = Metrics.counter("beam_coresets", "windows_announced")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_producer": None}

    def start_bundle(self) -> None:
        self._windows, self._failures = {}, []

    def process(self, window: Window) -> None:
        if window.name in self._windows or self._claims.announced(window):
            return
        self._windows[window.name] = window
        there = self._claims.tables_of(window)
        for table in (name for name in ANNOUNCED_TABLES if name in there):
            rows = self._claims.read(window, table)
            if "evidence" in rows.column_names:
                rows = rows.drop_columns(["evidence"])
            names = ("window_start", "window_end", "key")
            keys = zip(*(values.portable(rows.column(name)) for name in names), strict=True)
            for key, value in zip(keys, ENCODINGS[self._encoding](rows), strict=True):
                self._send(json.dumps(key).encode(), value, table)

    def finish_bundle(self) -> Iterator[Any]:
        if not self._windows:
            return
        if self._producer is not None:  # windows without a row have no message
            self._producer.flush()
        self._raise_failures()
        tell_written(("kafka", str(self._config["bootstrap.servers"]), self._topic))
        for window in self._windows.values():
            self._claims.mark_announced(window)
            self._announced.inc()
            yield GlobalWindows.windowed_value(window)

    def teardown(self) -> None:
        self._producer = None

    def _send(self, key: bytes, value: bytes, table: str) -> None:
        if self._producer is None:
            from confluent_kafka import Producer

            self._producer = Producer(self._config)
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, headers=[("table", table.encode())], on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)  # the queue is full: some must be delivered first
                self._raise_failures()
            else:
                return

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failures.append(error.str())

    def _raise_failures(self) -> None:
        """Raises what went wrong; the runner tries the bundle again, with a new producer."""
        if self._failures:
            self._producer = None
            raise RuntimeError(
                f"output_topic: must take every message, got {len(self._failures)} failed in {self._topic!r}: "
                f"{self._failures[0]}"
            )
