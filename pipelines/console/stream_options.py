"""The options of `stream`, and the source and the plan that they ask for."""
import argparse
import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from apache_beam.io.filesystems import FileSystems

from beam_coresets import table_schemas
from beam_coresets.declared import TIME, Seconds, declare, declared_as
from beam_coresets.parameters.stream_plan import StreamParameters, StreamPlan
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.options import JobOptions
from beam_coresets.pipelines.running.runners import RunnerOptions
from beam_coresets.points.column_order import Names, moved, names_of_each, places_of
from beam_coresets.points.scale import Scale
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.times import iso, length_of_time
from beam_coresets.transforms.iceberg.catalogs import CatalogSettings, catalog_settings
from beam_coresets.transforms.iceberg.registering import require_prefix
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
from beam_coresets.transforms.streams.rate import RateSource, rows_at
from beam_coresets.transforms.streams.source import Source
from beam_coresets.transforms.streams.times import MAX_AHEAD, MAX_BEHIND, time_of_text
from beam_coresets.transforms.text.dialects import TextParameters
from beam_coresets.transforms.writing.stored_tables import read_table


def _hold(text: str) -> tuple[int, float, float, bool]:
    """SHARD:AFTER:LENGTH, and whether that counts from the first window that is decided (+AFTER)."""
    try:
        shard, after, length = text.split(":")
        return int(shard), length_of_time(after.removeprefix("+")), length_of_time(length), after.startswith("+")
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be SHARD:AFTER:LENGTH such as 2:10s:20s, got {text!r}") from None


_SOURCE = "source: --topic, --pubsub-subscription, --rate, or --input (files that come)"


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """Where a stream's points come from."""

    topic: str | None = declare(None, "Kafka topic; its partitions are the parts that shards hold", group=_SOURCE)
    bootstrap_servers: str = declare("", "host:port,... of the broker", group=_SOURCE)
    kafka_config: str | None = declare(
        None, "file of settings for the clients (SASL, TLS, ...); never shown", group=_SOURCE
    )
    group: str = declare("beam-coresets", "shard i commits its offsets to GROUP-i", group=_SOURCE)
    start: str = declare(
        "latest", "earliest, latest (default), committed, a time, or a JSON file of offsets", group=_SOURCE
    )
    pubsub_subscription: str | None = declare(
        None, "projects/PROJECT/subscriptions/NAME (on Dataflow; extra gcp)", group=_SOURCE,
        pattern="projects/[^/]+/subscriptions/[^/]+",
    )  # fmt: skip
    time_attribute: str | None = declare(
        None, "the Pub/Sub attribute with the event time (default: publish time)", group=_SOURCE
    )
    message_format: str = declare("json", "of the messages", group=_SOURCE, choices=FORMATS)
    avro_schema: str | None = declare(None, "file with the writer's schema, for avro", group=_SOURCE)
    time_field: str | None = declare(
        None, "the field with the event time (default: the message's timestamp)", group=_SOURCE
    )
    max_ahead: Seconds = declare(MAX_AHEAD, "later events are refused", group=_SOURCE)
    max_behind: Seconds = declare(MAX_BEHIND, "earlier ones are", group=_SOURCE)
    max_parts: int | None = declare(
        StreamPlan.max_parts, "room for parts that come later (default: twice as many)", group=_SOURCE
    )
    rate: float | None = declare(None, "generates so many points a second instead", group=_SOURCE)
    parts: int = declare(RateSource.parts, "logs of generated points, or of a folder", group=_SOURCE)
    drift: float = declare(RateSource.drift, "how far generated clusters move a second", group=_SOURCE)
    keys: int = declare(RateSource.keys, "how many keys generated points have", group=_SOURCE)


@dataclasses.dataclass(frozen=True)
class StreamOptions(RunnerOptions, StreamParameters, SourceOptions, JobOptions):
    """The options of `stream`."""

    min_shards: int | None = declared_as(StreamParameters, "min_shards", None)  # type: ignore[assignment]
    idle: Seconds = declare(StreamPlan.idle, "a part silent for so long no longer delays windows", group="windows")
    poll: Seconds = declare(StreamPlan.poll, "a shard reads for so long at a time", group="windows")
    init_centers: str | None = declare(
        None, "an output folder, or a JSON file of rows, to start from", group="centers and results"
    )
    scale_file: str | None = declare(
        None, "scale.json of an earlier job; scales must agree across windows", group="centers and results"
    )
    output_topic: str | None = declare(
        None, "Kafka topic for summaries, centers and events as well", group="centers and results"
    )
    events_webhook: str | None = declare(
        None, "http or https URL that events are posted to, as JSON with a text", group="centers and results"
    )
    output_config: str | None = declare(
        None, "file of settings for its producer (default: --kafka-config)", group="centers and results"
    )
    iceberg_table: str | None = declare(
        None, "NAMESPACE.NAME: decided windows go to the Iceberg tables NAMESPACE.NAME_summaries, ... as well",
        group="centers and results",
    )  # fmt: skip
    iceberg_catalog: tuple[str, ...] = declare(
        (), "of ~/.pyiceberg.yaml, a URI, a .json file of pyiceberg's properties, or NAME=VALUE ...",
        group="centers and results", several=True,
    )  # fmt: skip
    coordinator_replicas: int | None = declare(
        None, "coordinators of each window, on different workers (default: 1, on clusters 2)", group="running"
    )
    max_windows: int | None = declare(None, "stops after so many", group="running")
    duration: Seconds | None = declare(None, "stops after so long", group="running")
    hold_shards: tuple[tuple[int, float, float, bool], ...] = declare(
        (), "fault injection: stuck for LENGTH, from AFTER the launch on (+AFTER: the first window that came in time)",
        group="running", metavar="SHARD:AFTER:LENGTH", several=True, read=_hold, pattern=f"[0-9]+:[+]?{TIME}:{TIME}",
    )  # fmt: skip


_OF_TOPICS = ("start", "message_format", "time_field", "key_column", "avro_schema", "kafka_config", "columns")


def refuse_unused(known: StreamOptions) -> None:
    """Raises ValueError for options that would be accepted and do nothing."""
    defaults = {field.name: field.default for field in dataclasses.fields(known)}
    for name in ("explain", "overwrite", "max_bad_rows", "buckets"):
        if getattr(known, name) != defaults[name]:
            raise ValueError(f"{name}: must be left out of a stream, got {getattr(known, name)}")
    for name in _OF_TOPICS if known.rate else ():
        if getattr(known, name) != defaults[name]:
            raise ValueError(f"{name}: must be left out with --rate, got {getattr(known, name)}")


def source_of(known: StreamOptions) -> Source:
    """The source that the options name.

    Raises:
      ValueError: none or several, or what the source itself refuses.
    """
    _check_one_source(known)
    if known.rate:
        dim = known.dim or 8
        if known.metric == "cosine":  # generated points are of any length
            raise ValueError("metric: must be euclidean with --rate, got 'cosine'")
        return RateSource(
            rate=known.rate, parts=known.parts, dim=dim, seed=known.seed, drift=known.drift, keys=known.keys,
            rows=rows_at(known.rate, known.parts),
        )  # fmt: skip
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


def iceberg_of(known: StreamOptions) -> CatalogSettings | None:
    """The catalog of the Iceberg tables; None without them.

    Raises:
      ValueError: one option without the other, no such catalog, or tables that are not Parquet.
    """
    if not known.iceberg_table and not known.iceberg_catalog:
        return None
    for one, other in (("iceberg_table", "iceberg_catalog"), ("iceberg_catalog", "iceberg_table")):
        if not getattr(known, one):
            raise ValueError(f"{one}: must be given with {other}, got nothing")
    if known.format != "parquet":
        raise ValueError(f"format: must be parquet with --iceberg-table, got {known.format}")
    require_prefix(known.iceberg_table or "", "iceberg_table")
    return catalog_settings(known.iceberg_catalog, "iceberg_catalog")


def kafka_config(path: str | None, option: str = "kafka_config") -> dict[str, str]:
    """The settings in a file for Kafka clients; none without one.

    Raises:
      ValueError: the file can't be read, or the Kafka client is not installed.
    """
    try:
        from beam_coresets.transforms.streams.brokers.kafka_config import read_config
    except ImportError as error:
        raise ValueError("topic: must have the extra (pip install 'beam-coresets[kafka]'), got none") from error
    return read_config(path, option) if path else {}


def pubsub_of(known: StreamOptions, windows: WindowSpec) -> ReadPubSub:
    """Pub/Sub, which has no parts.

    Raises:
      ValueError: another source besides, or what the transform refuses.
    """
    _check_one_source(known)
    config = kafka_config(known.kafka_config) if known.kafka_config else {}
    form = _message_format(known, options.columns_of(known), config)
    event_time = EventTime(known.time_field, known.max_ahead, known.max_behind)
    return ReadPubSub(known.pubsub_subscription or "", form, windows, event_time, known.time_attribute)


def _check_one_source(known: StreamOptions) -> None:
    names = ("topic", "pubsub_subscription", "rate", "input")
    named = [name for name in names if getattr(known, name)]
    if len(named) != 1:
        raise ValueError(f"{', '.join(names)}: must be one of them, got {', '.join(named) or 'none'}")
    if not known.input:
        of_files = [*(field.name for field in dataclasses.fields(TextParameters)), "header", "no_header"]
        for field in dataclasses.fields(known):
            value = getattr(known, field.name)
            if field.name in of_files and value != field.default:
                raise ValueError(f"{field.name}: must be left out without --input, got {value!r}")
    if known.time_attribute and not known.pubsub_subscription:
        raise ValueError(f"time_attribute: must be left out without Pub/Sub, got {known.time_attribute!r}")


def _message_format(known: StreamOptions, columns: Columns, config: Mapping[str, Any]) -> MessageFormat:
    registry = SchemaRegistry.from_config(config) if known.message_format.endswith("-registry") else None
    schema = read_schema(known.avro_schema) if known.avro_schema else None
    return message_format(known.message_format, columns, known.key_column, schema, registry)


def _kafka(known: StreamOptions, columns: Columns) -> Source:
    config = kafka_config(known.kafka_config)
    from beam_coresets.transforms.streams.brokers.kafka import KafkaSource

    if not known.bootstrap_servers and "bootstrap.servers" not in config:
        raise ValueError("bootstrap_servers: must be given, here or in --kafka-config, got nothing")
    form = _message_format(known, columns, config)
    return KafkaSource(
        known.topic or "", form, known.bootstrap_servers, config, known.group, _start(known.start),
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
    known: StreamOptions,
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
    now = time.time()
    return known.stream_of(
        plan, bool(known.key_column or known.keys), idle=known.idle, poll=known.poll, max_parts=known.max_parts,
        announced=bool(known.output_topic),
        hold=tuple((shard, now + after, now + after + length)
                   for shard, after, length, first in known.hold_shards if not first),
        hold_after_first=tuple((shard, after, length) for shard, after, length, first in known.hold_shards if first),
        parallelism=parallelism, max_parallelism=max_parallelism, coordinator_replicas=coordinator_replicas,
    )  # fmt: skip


def warnings_of(known: StreamOptions) -> list[str]:
    """What works, but perhaps not as somebody expects."""
    windows = WindowSpec.parse(known.window)
    if known.deadline <= windows.period:
        return []
    waiting = math.ceil(known.deadline / windows.period) + 1
    return [
        f"window: {known.window} comes more often than the deadline of {known.deadline:g} s passes: while a shard is "
        f"late, {waiting} windows wait for it at a time"
    ]


def skipped_of(known: StreamOptions, decided: Sequence[str]) -> list[str]:
    """Which windows lie between the last of those decided (their names), by an earlier run, and where this one starts.

    A start in the middle of what has not been decided is a wish that can be granted; that it leaves windows out has to
    be said.
    """
    if not known.topic or known.resume_from:
        return []
    ends = [end for _, end, *_ in map(place_of, decided) if math.isfinite(end)]
    begins = time.time() if known.start == "latest" else time_of_text(known.start)
    if not ends or not max(ends) < begins:
        return []
    first, last = (iso(at, "seconds", "Z") for at in (max(ends), begins))
    return [
        f"start: {known.start} leaves out the windows from {first}, where the last run in {known.output} ended, to "
        f"{last}; --start committed reads them"
    ]


def init_of(
    known: StreamOptions, scale: Scale | None, columns: Names = None
) -> tuple[Any, tuple[str, ...] | None] | None:
    """The centers to begin with, and their ids where they come from an output folder: its last window's.

    Args:
      scale: that of the stream.
      columns: names of its coordinates, by which those of a folder's centers go.

    Raises:
      ValueError: no centers, or those of other columns.
    """
    if not known.init_centers:
        return None
    path = known.init_centers
    if path.endswith(".json"):
        return _scaled(_rows_of_json(path), scale), None
    stored = table_schemas.in_seconds(read_table(path, "centers", "init_centers"))
    rows = [row for row in stored.to_pylist() if row["index"] is not None]
    if not rows:
        raise ValueError(f"init_centers: must be a folder with centers, got {path!r} without any")
    last = max((row["window_end"] or 0.0, row["revision"]) for row in rows)
    rows = [row for row in rows if (row["window_end"] or 0.0, row["revision"]) == last]
    named = tuple(str(row["center_id"]) for row in rows) if all(row["center_id"] for row in rows) else None
    centers = np.array([row["coordinates"] for row in rows], np.float64)
    summaries = table_schemas.in_seconds(read_table(path, "summaries", "init_centers")).to_pylist()
    found = next((r["columns"] for r in summaries if ((r["window_end"] or 0.0), r["revision"]) == last), None)
    dim = centers.shape[1]
    vector = columns is not None and len(columns) == 1  # whose coordinates have no names, unless there is one only
    places = places_of(names_of_each(found, dim), names_of_each(columns, dim) if vector else columns, "the stream")
    return _scaled(moved(centers, places), scale), named


def _rows_of_json(path: str) -> Any:
    try:
        with FileSystems.open(path) as file:
            rows = np.array(json.loads(file.read()), np.float64)
        if rows.ndim != 2:
            raise ValueError(f"{rows.ndim} dimensions")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"init_centers: must be a JSON list of rows of numbers, got {path!r} ({error})") from None
    return rows


def _scaled(centers: Any, scale: Scale | None) -> Any:
    return centers if scale is None else scale.apply(centers)
