"""Lineage: what a job has read and written is in its result's metrics, by the names that Beam's connectors have."""
import apache_beam as beam
import numpy as np
import pytest
from apache_beam.io.filesystem import FileSystem
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.metrics.metric import Lineage
from jobs import clusters, parts_of, run
from list_source import ListSource, steady

from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import PointBlock
from beam_coresets.points.scale import Scale
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.rows.assign_rows import AssignRows, WriteAssigned
from beam_coresets.transforms.rows.score_rows import Score
from beam_coresets.transforms.streams.folder.files import FileParts
from beam_coresets.transforms.streams.scaled import ScaledSource
from beam_coresets.transforms.summarize_parts import SummarizeParts
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.kafka_sink import WriteToKafka
from beam_coresets.transforms.writing.sinks import WriteSummaries

PLAN = Plan(k=2, shards=3, replication=2, coreset_size=20)
LOCAL_TELLS = getattr(LocalFileSystem, "report_lineage", None) is not getattr(FileSystem, "report_lineage", None)
needs_files = pytest.mark.skipif(not LOCAL_TELLS, reason="this version of Beam tells no lineage of local files")


def told(result):
    """The names of what was read, and of what was written."""
    return [sorted(Lineage.query(result.metrics(), label)) for label in (Lineage.SOURCE, Lineage.SINK)]


def last_words(names):
    return [name.rsplit("/", 1)[-1].strip("`") for name in names]


@needs_files
def test_shards_that_read_files_name_them(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", clusters(90))
    source = FileParts(str(tmp_path / "*.npy"), Columns())

    def build(pipeline):
        return (pipeline | SummarizeParts(source, PLAN, rows=())).decided | WriteSummaries(str(tmp_path / "out"))

    _, result = run(lambda p: build(p)._asdict())
    read, written = told(result)
    assert (last_words(read), last_words(written)) == (["a.npy", "b.npy"], ["out"])


@pytest.mark.parametrize("scaled", [False, True])
def test_a_source_is_told_by_its_own_name(scaled):
    source = ListSource(steady(2, 10, lag=-1000))
    source.lineage = "kafka", "host:9092,other:9092", "points"
    source = ScaledSource(source, Scale(np.zeros(2), np.ones(2))) if scaled else source
    _, result = run(lambda p: {"decided": (p | SummarizeParts(source, PLAN, rows=())).decided})
    assert told(result) == [["kafka:`host:9092,other:9092`.points"], []]


def test_a_topic_has_the_name_that_beams_own_source_gives_it():
    pytest.importorskip("confluent_kafka")
    from beam_coresets.transforms.streams.brokers.kafka import KafkaSource
    from beam_coresets.transforms.streams.messages.formats import message_format

    form = message_format("json", Columns(columns=("x", "y")))
    assert KafkaSource("points", form, "host:9092").lineage == ("kafka", "host:9092", "points")


def test_windows_are_announced_in_a_topic_that_is_named(tmp_path, monkeypatch):
    claims, window = Claims(str(tmp_path)), Window(0.0, 5.0, "group-1")
    monkeypatch.setattr(Claims, "tables_of", lambda self, window: [])
    announce = WriteToKafka(claims, {"bootstrap.servers": "nowhere:1"}, "topic")
    _, result = run(lambda p: {"windows": p | beam.Create([window]).with_output_types(Window) | announce})
    assert told(result) == [[], ["kafka:`nowhere:1`.topic"]]


@needs_files
def test_rows_are_scored_by_a_folder_and_assigned_into_one(tmp_path):
    blocks = parts_of(clusters(60))

    def build(pipeline):
        rows = pipeline | beam.Create(blocks).with_output_types(PointBlock)
        scored = (rows | Score(str(tmp_path / "in"))).rows
        return {"scored": scored, "paths": rows | AssignRows(clusters(2)) | WriteAssigned(str(tmp_path / "out"))}

    _, result = run(build)
    assert [last_words(names) for names in told(result)] == [["in"], ["out"]]
