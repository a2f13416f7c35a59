"""The options of `stream`, and the source and the plan that they ask for."""
import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from apache_beam.io.filesystems import FileSystems

from beam_coresets.parameters.stream_plan import StreamPlan, most_of
from beam_coresets.pipelines.console import options
from beam_coresets.points.scale import Scale
from beam_coresets.streaming.trigger import Patience
from beam_coresets.streaming.windows import WindowSpec, seconds
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.brokers.pubsub import ReadPubSub
from beam_coresets.transforms.streams.folder.source import Folder
from beam_coresets.transforms.streams.messages.formats import (
    FORMATS,
    EventTime,
    MessageFormat,
    SchemaRegistry,
    message_format,
    read_schema,
)
from beam_coresets.transforms.streams.rate import RateSource
from beam_coresets.transforms.streams.source import Source
from beam_coresets.transforms.writing.stored_tables import read_table

KEY_GROUPS = 4

_seconds = options.length_of_time


def _hold(text: str) -> tuple[int, float, float]:
    """SHARD:AFTER:SECONDS."""
    try:
        shard, after, length = text.split(":")
        return int(shard), seconds(after), seconds(length)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be SHARD:AFTER:LENGTH such as 2:10s:20s, got {text!r}") from None


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """What `stream` has beyond `summarize`."""
    source = parser.add_argument_group("source: --topic, --pubsub_subscription, --rate, or --input (files that come)")
    source.add_argument("--topic", help="Kafka topic; its partitions are the parts that shards hold")
    source.add_argument("--bootstrap_servers", default="", help="host:port,... of the broker")
    source.add_argument("--kafka_config", help="file of settings for the clients (SASL, TLS, ...); never shown")
    source.add_argument("--group", default="beam-coresets", help="shard i commits its offsets to GROUP-i")
    source.add_argument(
        "--start", default="latest", help="earliest, latest (default), committed, a time, or a JSON file of offsets"
    )
    source.add_argument("--pubsub_subscription", help="projects/PROJECT/subscriptions/NAME (on Dataflow; extra gcp)")
    source.add_argument("--time_attribute", help="the Pub/Sub attribute with the event time (default: publish time)")
    source.add_argument("--message_format", default="json", choices=FORMATS, help="default: json")
    source.add_argument("--avro_schema", help="file with the writer's schema, for avro")
    source.add_argument("--time_field", help="the field with the event time (default: the message's timestamp)")
    source.add_argument("--key_column", help="a summary for each value; message.key takes the message's own key")
    source.add_argument("--key_groups", type=int, help=f"keys decided together (default: {KEY_GROUPS} groups)")
    source.add_argument("--max_ahead", type=_seconds, default=60.0, help="later events are refused (default: 60s)")
    source.add_argument("--max_behind", type=_seconds, default=30 * 86400.0, help="earlier ones are (default: 30d)")
    source.add_argument("--max_parts", type=int, help="room for parts that come later (default: twice as many)")
    source.add_argument("--rate", type=float, help="generates so many points a second instead")
    source.add_argument("--parts", type=int, default=8, help="logs of generated points, or of a folder")
    source.add_argument("--drift", type=float, default=0.0, help="how far generated clusters move a second")
    source.add_argument("--keys", type=int, default=0, help="how many keys generated points have")
    _add_window_options(parser)


def _add_window_options(parser: argparse.ArgumentParser) -> None:
    window = parser.add_argument_group("windows")
    window.add_argument("--window", default="60s", help="60s (default), 60s/5s (sliding), or global/30s (running)")
    window.add_argument("--half_life", type=_seconds, help="a running summary forgets: half the weight after so long")
    window.add_argument("--deadline", type=_seconds, default=5.0, help="after a window's end (default: 5s)")
    window.add_argument("--grace", type=_seconds, default=1.0, help="after the last of --min_shards (default: 1s)")
    window.add_argument("--cap", type=_seconds, default=60.0, help="after a window's first report (default: 60s)")
    window.add_argument("--retention", type=_seconds, default=600.0, help="decided windows are remembered so long")
    window.add_argument("--revise", action="store_true", help="late reports that complete a window revise it")
    window.add_argument("--disorder", type=_seconds, default=0.5, help="how far event times go back (default: 500ms)")
    window.add_argument("--idle", type=_seconds, default=1.0, help="a part silent for so long holds nothing up")
    window.add_argument("--poll", type=_seconds, default=5.0, help="a shard reads for so long at a time (default: 5s)")
    centers = parser.add_argument_group("centers and results")
    centers.add_argument("--init_centers", help="an output folder, or a JSON file of rows, to start from")
    centers.add_argument("--scale_file", help="scale.json of an earlier job; scales must agree across windows")
    centers.add_argument("--output_topic", help="Kafka topic for summaries and centers as well")
    centers.add_argument("--output_config", help="file of settings for its producer (default: --kafka_config)")
    running = parser.add_argument_group("running")
    running.add_argument(
        "--coordinator_replicas", type=int, help="coordinators of each window, on different workers (clusters: 2)"
    )
    running.add_argument("--detach", action="store_true", help="submit and return, without following the job")
    running.add_argument("--max_windows", type=int, help="stops after so many")
    running.add_argument("--duration", type=_seconds, help="stops after so long")
    running.add_argument(
        "--hold_shards", type=_hold, nargs="+", default=[], metavar="SHARD:AFTER:LENGTH", help="fault injection: stuck"
    )


_OF_TOPICS = ("start", "message_format", "time_field", "key_column", "avro_schema", "kafka_config", "columns")


def refuse_unused(known: argparse.Namespace, default: Callable[[str], Any]) -> None:
    """Raises ValueError for options that would be accepted and do nothing.

    Args:
      default: an option's value where it is not given.
    """
    for name in ("explain", "overwrite", "max_bad_rows", "buckets"):
        if getattr(known, name) != default(name):
            raise ValueError(f"{name}: must be left out of a stream, got {getattr(known, name)}")
    for name in _OF_TOPICS if known.rate else ():
        if getattr(known, name) != default(name):
            raise ValueError(f"{name}: must be left out with --rate, got {getattr(known, name)}")


def source_of(known: argparse.Namespace) -> Source:
    """The source that the options name.

    Raises:
      ValueError: none or several, or what the source itself refuses.
    """
    _check_one_source(known)
    if known.rate:
        dim = known.dim or 8
        return RateSource(
            rate=known.rate, parts=known.parts, dim=dim, seed=known.seed, drift=known.drift, keys=known.keys
        )
    columns = options.columns_of(known)
    if known.input:
        if known.key_column:
            raise ValueError(f"key_column: must be left out for files, got {known.key_column!r}")
        if len(known.input) != 1:
            raise ValueError(f"input: must be one glob for a stream, got {len(known.input)}")
        return Folder(
            known.input[0], columns, known.input_format, known.parts, time_field=known.time_field,
            max_ahead=known.max_ahead, max_behind=known.max_behind,
        )  # fmt: skip
    return _kafka(known, columns)


def kafka_config(path: str | None) -> dict[str, str]:
    """The settings in a file for Kafka clients; none without one.

    Raises:
      ValueError: the file can't be read, or the Kafka client is not installed.
    """
    try:
        from beam_coresets.transforms.streams.brokers.kafka_config import read_config
    except ImportError as error:
        raise ValueError(f"topic: must have the extra (pip install 'beam-coresets[kafka]'), got {error}") from None
    return read_config(path) if path else {}


def pubsub_of(known: argparse.Namespace, windows: WindowSpec) -> ReadPubSub:
    """Pub/Sub, which has no parts.

    Raises:
      ValueError: another source besides, or what the transform refuses.
    """
    _check_one_source(known)
    config = kafka_config(known.kafka_config) if known.kafka_config else {}
    form = _message_format(known, options.columns_of(known), config)
    event_time = EventTime(known.time_field, known.max_ahead, known.max_behind)
    return ReadPubSub(known.pubsub_subscription, form, windows, event_time, known.time_attribute)


def _check_one_source(known: argparse.Namespace) -> None:
    names = ("topic", "pubsub_subscription", "rate", "input")
    named = [name for name in names if getattr(known, name)]
    if len(named) != 1:
        raise ValueError(f"{', '.join(names)}: must be one of them, got {', '.join(named) or 'none'}")
    if known.time_attribute and not known.pubsub_subscription:
        raise ValueError(f"time_attribute: must be left out without Pub/Sub, got {known.time_attribute!r}")


def _message_format(known: argparse.Namespace, columns: Columns, config: Mapping[str, Any]) -> MessageFormat:
    registry = SchemaRegistry.from_config(config) if known.message_format == "avro-registry" else None
    schema = read_schema(known.avro_schema) if known.avro_schema else None
    return message_format(known.message_format, columns, known.key_column, schema, registry)


def _kafka(known: argparse.Namespace, columns: Columns) -> Source:
    config = kafka_config(known.kafka_config)
    from beam_coresets.transforms.streams.brokers.kafka import KafkaSource

    if not known.bootstrap_servers and "bootstrap.servers" not in config:
        raise ValueError("bootstrap_servers: must be given, here or in --kafka_config, got nothing")
    form = _message_format(known, columns, config)
    return KafkaSource(
        known.topic, form, known.bootstrap_servers, config, known.group, _start(known.start),
        known.time_field or "message", max_ahead=known.max_ahead, max_behind=known.max_behind, shards=known.shards,
    )  # fmt: skip


def _start(text: str) -> str | Mapping[int, int]:
    if not text.endswith(".json"):
        return text
    try:
        with FileSystems.open(text) as file:
            held = json.loads(file.read())
        return {int(part): int(offset) for part, offset in held.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"start: must be a JSON file of offsets by partition, got {text!r} ({error})") from None


def stream_of(
    known: argparse.Namespace,
    parallelism: int,
    max_parallelism: int,
    coordinator_replicas: int = 1,
    domains: tuple[int, ...] | None = None,
) -> StreamPlan:
    """The plan that the options ask for.

    Args:
      parallelism, max_parallelism, coordinator_replicas: see `StreamPlan`.
      domains: which shards share a worker, unless the options say it.
    """
    windows = WindowSpec.parse(known.window)
    plan = options.apart(options.plan_of(known), domains)
    if windows.kind != "global" and known.deadline < 0:
        raise ValueError(f"deadline: must be at least 0 s, got {known.deadline:g}")
    if known.start == "committed" and windows.kind == "global":
        raise ValueError("start: must not be committed for a running summary (resume from a checkpoint), got committed")
    keyed = bool(known.key_column or known.keys)
    if known.key_groups is not None and not keyed:
        raise ValueError(f"key_groups: must be left out without --key_column, got {known.key_groups}")
    least = most_of(plan.shards) if known.min_shards is None else known.min_shards
    patience = Patience(known.deadline, known.grace, known.cap, known.retention, least, known.revise)
    now = time.time()
    return StreamPlan(
        plan,
        windows,
        patience,
        known.disorder,
        known.idle,
        known.poll,
        (known.key_groups or KEY_GROUPS) if keyed else 1,
        known.max_parts,
        known.half_life,
        bool(known.output_topic),
        tuple((shard, now + after, now + after + length) for shard, after, length in known.hold_shards),
        parallelism,
        max_parallelism,
        coordinator_replicas,
        quick=keyed,
    )


def warnings_of(known: argparse.Namespace) -> list[str]:
    """What works, but perhaps not as somebody expects."""
    windows = WindowSpec.parse(known.window)
    if known.deadline <= windows.period:
        return []
    waiting = math.ceil(known.deadline / windows.period) + 1
    return [
        f"window: {known.window} comes more often than the deadline of {known.deadline:g} s passes: while a shard is "
        f"late, {waiting} windows wait for it at a time"
    ]


def init_of(known: argparse.Namespace, scale: Scale | None) -> tuple[Any, tuple[str, ...] | None] | None:
    """The centers to begin with, and their ids where they come from an output folder: its last window's."""
    if not known.init_centers:
        return None
    path = known.init_centers
    if path.endswith(".json"):
        with FileSystems.open(path) as file:
            return _scaled(np.array(json.loads(file.read()), np.float64), scale), None
    rows = [row for row in read_table(path, "centers").to_pylist() if row["index"] is not None]
    if not rows:
        raise ValueError(f"init_centers: must be a folder with centers, got {path!r} without any")
    last = max((row["window_end"] or 0.0, row["revision"]) for row in rows)
    rows = [row for row in rows if (row["window_end"] or 0.0, row["revision"]) == last]
    named = tuple(str(row["center_id"]) for row in rows) if all(row["center_id"] for row in rows) else None
    return _scaled(np.array([row["coordinates"] for row in rows], np.float64), scale), named


def _scaled(centers: Any, scale: Scale | None) -> Any:
    return centers if scale is None else scale.apply(centers)


