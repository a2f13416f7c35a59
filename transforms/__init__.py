"""Apache Beam transforms: each a thin shell around the NumPy code in `beam_coresets`.

    result = rows | Summarize(Plan(k=20, shards=10, replication=3))
    result.decided | WriteSummaries("out")
"""
from typing import TYPE_CHECKING

from beam_coresets._front_door import front_door

if __name__ != "beam_coresets.transforms":
    raise ImportError(f"import name: must be beam_coresets.transforms, got {__name__}")

if TYPE_CHECKING:
    from beam_coresets.parameters.plan import Plan
    from beam_coresets.parameters.stream_plan import StreamPlan
    from beam_coresets.points.scale import Scale
    from beam_coresets.streaming.trigger import Patience
    from beam_coresets.streaming.windows import WindowSpec
    from beam_coresets.transforms.base.dead_letter import DeadLetter
    from beam_coresets.transforms.iceberg.catalogs import CatalogSettings
    from beam_coresets.transforms.iceberg.register_windows import RegisterWindows
    from beam_coresets.transforms.reading.blocks import BlocksFromRows, ReadBlocks
    from beam_coresets.transforms.reading.columns import Columns
    from beam_coresets.transforms.rows.assign_rows import AssignedRows, AssignRows, WriteAssigned
    from beam_coresets.transforms.rows.latest_window import RowScore
    from beam_coresets.transforms.rows.model_handler import CentersModelHandler, centers_detector
    from beam_coresets.transforms.rows.scaling import StandardScale
    from beam_coresets.transforms.rows.score_rows import Score, ScoredRows
    from beam_coresets.transforms.streams.brokers.kafka import KafkaSource
    from beam_coresets.transforms.streams.brokers.pubsub import ReadPubSub
    from beam_coresets.transforms.streams.folder.source import Folder
    from beam_coresets.transforms.streams.messages.decoding import EventTime
    from beam_coresets.transforms.streams.messages.formats import message_format
    from beam_coresets.transforms.streams.rate import RateSource
    from beam_coresets.transforms.summarize import Summaries, Summarize
    from beam_coresets.transforms.summarize_stream import StreamSummaries, SummarizeStream, SummarizeUnbounded
    from beam_coresets.transforms.writing.dead_letters import WriteDeadLetters
    from beam_coresets.transforms.writing.kafka_sink import WriteToKafka
    from beam_coresets.transforms.writing.sinks import WriteSummaries
    from beam_coresets.transforms.writing.stored_tables import read_table

__all__ = [
    "AssignRows", "AssignedRows", "BlocksFromRows", "CatalogSettings", "CentersModelHandler", "Columns", "DeadLetter",
    "EventTime", "Folder", "KafkaSource", "Patience", "Plan", "RateSource", "ReadBlocks", "ReadPubSub",
    "RegisterWindows", "RowScore", "Scale", "Score", "ScoredRows", "StandardScale", "StreamPlan", "StreamSummaries",
    "Summaries", "Summarize", "SummarizeStream", "SummarizeUnbounded", "WindowSpec", "WriteAssigned",
    "WriteDeadLetters", "WriteSummaries", "WriteToKafka", "centers_detector", "message_format", "read_table",
]  # fmt: skip

_HOMES = {
    "AssignRows": "beam_coresets.transforms.rows.assign_rows",
    "AssignedRows": "beam_coresets.transforms.rows.assign_rows",
    "BlocksFromRows": "beam_coresets.transforms.reading.blocks",
    "CatalogSettings": "beam_coresets.transforms.iceberg.catalogs",
    "CentersModelHandler": "beam_coresets.transforms.rows.model_handler",
    "Columns": "beam_coresets.transforms.reading.columns",
    "DeadLetter": "beam_coresets.transforms.base.dead_letter",
    "EventTime": "beam_coresets.transforms.streams.messages.decoding",
    "Folder": "beam_coresets.transforms.streams.folder.source",
    "KafkaSource": "beam_coresets.transforms.streams.brokers.kafka",
    "Patience": "beam_coresets.streaming.trigger",
    "Plan": "beam_coresets.parameters.plan",
    "RateSource": "beam_coresets.transforms.streams.rate",
    "ReadBlocks": "beam_coresets.transforms.reading.blocks",
    "ReadPubSub": "beam_coresets.transforms.streams.brokers.pubsub",
    "RegisterWindows": "beam_coresets.transforms.iceberg.register_windows",
    "RowScore": "beam_coresets.transforms.rows.latest_window",
    "Scale": "beam_coresets.points.scale",
    "Score": "beam_coresets.transforms.rows.score_rows",
    "ScoredRows": "beam_coresets.transforms.rows.score_rows",
    "StandardScale": "beam_coresets.transforms.rows.scaling",
    "StreamPlan": "beam_coresets.parameters.stream_plan",
    "StreamSummaries": "beam_coresets.transforms.summarize_stream",
    "Summaries": "beam_coresets.transforms.summarize",
    "Summarize": "beam_coresets.transforms.summarize",
    "SummarizeStream": "beam_coresets.transforms.summarize_stream",
    "SummarizeUnbounded": "beam_coresets.transforms.summarize_stream",
    "WindowSpec": "beam_coresets.streaming.windows",
    "WriteAssigned": "beam_coresets.transforms.rows.assign_rows",
    "WriteDeadLetters": "beam_coresets.transforms.writing.dead_letters",
    "WriteSummaries": "beam_coresets.transforms.writing.sinks",
    "WriteToKafka": "beam_coresets.transforms.writing.kafka_sink",
    "centers_detector": "beam_coresets.transforms.rows.model_handler",
    "message_format": "beam_coresets.transforms.streams.messages.formats",
    "read_table": "beam_coresets.transforms.writing.stored_tables",
}

if not TYPE_CHECKING:  # else every name would pass for one of this package's
    __getattr__, __dir__ = front_door(__name__, _HOMES)
