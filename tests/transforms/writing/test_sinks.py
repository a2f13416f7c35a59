"""The files of a run: of the decision that came first, whole or not at all, and read back as they were."""
import pickle

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.metrics.metric import Lineage
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from jobs import clusters, counters, parts_of, rows_in, run, without_beam

from beam_coresets import table_schemas, tables
from beam_coresets.parameters.plan import Plan
from beam_coresets.results.summary import Summary
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.summarize import Summarize
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.dead_letters import WriteDeadLetters
from beam_coresets.transforms.writing.sinks import WriteSummaries
from beam_coresets.transforms.writing.stored_tables import files_of, read_table

PLAN = Plan(k=4, shards=4, replication=2, coreset_size=40)
SUMMARY = without_beam(parts_of(clusters(900)), PLAN)
OTHER = without_beam(parts_of(clusters(900, seed=1)), PLAN)


def files_under(folder):
    """What others see: no folders whose names begin with a dot."""
    files = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return sorted(str(p) for p in files if not p.parts[0].startswith("."))


def write(folder, summaries, form="parquet", **options):
    create = beam.Create(summaries).with_output_types(Summary)
    held, result = run(lambda p: (p | create | WriteSummaries(str(folder), form, **options))._asdict())
    return sorted(held["paths"]), counters(result)


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_all_formats_read_back_equal(tmp_path, form):
    paths, counted = write(tmp_path, [SUMMARY], form)
    assert files_under(tmp_path) == [f"{name}/global-r1.{form}" for name in sorted(table_schemas.TABLES)]
    assert paths == [str(tmp_path / name) for name in files_under(tmp_path)]
    assert counted["files_written"] == 4
    for name in table_schemas.TABLES:
        assert read_table(str(tmp_path), name).equals(SUMMARY.table(name))


def test_the_first_decision_stays(tmp_path):
    write(tmp_path, [SUMMARY])
    before = {name: (tmp_path / name).read_bytes() for name in files_under(tmp_path)}
    paths, counted = write(tmp_path, [OTHER])
    assert paths == []
    assert counted == {"decisions_dropped": 1}
    assert {name: (tmp_path / name).read_bytes() for name in files_under(tmp_path)} == before


def test_further_sinks_get_claimed_decisions_only_and_every_window(tmp_path):
    day = Window(86400.0, 86460.0, "b")
    Claims(str(tmp_path)).publish(without_beam(parts_of(clusters(300)), PLAN, window=day))
    late = without_beam(parts_of(clusters(300, seed=1)), PLAN, window=day)
    create = beam.Create([SUMMARY, late]).with_output_types(Summary)
    held, result = run(lambda p: (p | create | WriteSummaries(str(tmp_path)))._asdict())
    assert [summary.window for summary in held["claimed"]] == [Window()]
    assert held["claimed"][0].centers.equals(SUMMARY.centers)
    assert sorted(window.name for _, window in held["windows"]) == [day.name, "global-r1"]
    assert sorted(held["paths"]) == sorted(str(tmp_path / f"{name}/global-r1.parquet") for name in table_schemas.TABLES)
    assert counters(result) == {"decisions_claimed": 1, "decisions_dropped": 1, "files_written": 4}


def test_flat_files_and_folders_of_days_are_read_in_the_order_of_the_windows(tmp_path):
    blocks = parts_of(clusters(300))
    spans = [(900.0, 960.0, "b", 2), (900.0, 960.0, "a", 1), (-60.0, 0.0, "", 1), (1e6, 1e6 + 60, "", 1)]
    windows = [Window(*span) for span in spans] + [Window()]
    for form, window in zip(("avro", "parquet", "jsonl", "avro", "jsonl"), windows, strict=True):
        Claims(str(tmp_path), form).publish(without_beam(blocks, PLAN, window=window))
    found = [tuple(row[name] for name in ("window_start", "window_end", "key", "revision"))
             for row in rows_in(tmp_path, "summaries")]  # fmt: skip
    assert found == [(None, None, "", 1), *(spans[i] for i in (2, 1, 0, 3))]
    assert all(isinstance(row["evidence"], bytes) for row in rows_in(tmp_path, "summaries"))
    assert [path.rsplit("/", 2)[1] for path in files_of(str(tmp_path), "centers")] == [
        "centers", "day=1969-12-31", "day=1970-01-01", "day=1970-01-01", "day=1970-01-12"
    ]  # fmt: skip


def test_dead_letters_of_every_window_are_kept(tmp_path):
    letters = [(DeadLetter("nan", "x", "a.csv", f"row {i}", ""), 10.0 * i) for i in range(6)]

    def build(p):
        stamp = beam.MapTuple(lambda letter, at: TimestampedValue(letter, at)).with_output_types(DeadLetter)
        stamped = p | beam.Create(letters) | stamp
        return {"paths": stamped | beam.WindowInto(FixedWindows(20)) | WriteDeadLetters(str(tmp_path), "jsonl")}

    run(build)
    assert len(files_under(tmp_path)) == 3
    assert len(read_table(str(tmp_path), "dead_letters")) == 6


def test_windows_have_files_of_their_own_and_are_read_together(tmp_path):
    windows = [Window(0.0, 60.0), Window(60.0, 120.0)]
    blocks = parts_of(clusters(600))
    write(tmp_path, [without_beam(blocks, PLAN, window=w) for w in windows], wanted=("summaries", "centers"))
    assert files_under(tmp_path) == [
        f"{name}/day=1970-01-01/{span}-r1.parquet"
        for name in ("centers", "summaries")
        for span in ("0.000-60.000", "60.000-120.000")
    ]
    assert [row["window_start"] for row in rows_in(tmp_path, "summaries")] == [0.0, 60.0]


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_an_empty_answer_keeps_its_types(tmp_path, form):
    nothing = without_beam(parts_of(np.empty((0, 3), np.float32)), PLAN)
    write(tmp_path, [nothing], form)
    for name in table_schemas.TABLES:
        assert read_table(str(tmp_path), name).schema.equals(table_schemas.SCHEMAS[name])
    assert len(read_table(str(tmp_path), "centers")) == 0


def test_a_missing_table_and_an_unknown_format_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"input: must hold a centers table, got '.*' without centers/\*\.avro"):
        read_table(str(tmp_path), "centers")
    with pytest.raises(ValueError, match="format: must be one of parquet, avro, jsonl, got 'xml'"):
        WriteSummaries(str(tmp_path), "xml")
    with pytest.raises(ValueError, match=r"output: must be on a filesystem with an atomic create .*, got 'ftp://h/o'"):
        WriteSummaries("ftp://h/o")


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_dead_letters_are_gathered_by_source(tmp_path, form):
    letters = [DeadLetter("nan", "x", f"{tmp_path}/{name}.csv", f"row {i}", f"{{'x': nan, 'é': {i}}}")
               for i in (10, 9, 1) for name in ("a", "b")]  # fmt: skip
    step = pickle.loads(pickle.dumps(WriteDeadLetters(str(tmp_path), form)))
    held, _ = run(lambda p: {"out": p | beam.Create(letters).with_output_types(DeadLetter) | step})
    assert sorted(held["out"]) == [str(tmp_path / name) for name in files_under(tmp_path)]
    rows = rows_in(tmp_path, "dead_letters")
    assert [(r["source"][-5:], r["position"]) for r in rows] == [
        (name, position) for name in ("a.csv", "b.csv") for position in ("row 1", "row 9", "row 10")
    ]
    assert DeadLetter(**rows[0]) == letters[4]


def test_files_are_what_other_programs_expect(tmp_path):
    write(tmp_path, [SUMMARY], "parquet")
    table = pa.parquet.read_table(tmp_path / "centers" / "global-r1.parquet")
    assert table.column("index").to_pylist() == [0, 1, 2, 3]
    assert FileSystems.match([f"{tmp_path}/*/*"])[0].metadata_list[0].size_in_bytes > 0
    assert CompressionTypes.detect_compression_type("global-r1.avro") == CompressionTypes.UNCOMPRESSED


def test_lineage_names_the_files_and_the_folder(tmp_path):
    """Of filesystems that tell theirs, as the local one does in later versions of Beam."""
    if not hasattr(LocalFileSystem, "report_lineage") or LocalFileSystem.report_lineage is FileSystem.report_lineage:
        pytest.skip("this version of Beam tells no lineage of local files")
    path = tmp_path / "points.npy"
    np.save(path, clusters(200))

    def build(pipeline):
        summed = pipeline | ReadBlocks(str(path))
        decided = (summed["blocks"] | Summarize(PLAN)).decided
        return (decided | WriteSummaries(str(tmp_path / "out")))._asdict()

    _, result = run(build)
    named = {label: Lineage.query(result.metrics(), label) for label in (Lineage.SOURCE, Lineage.SINK)}
    assert [name.rsplit("/", 1)[-1].strip("`") for name in named[Lineage.SOURCE]] == ["points.npy"]
    assert [name.rsplit("/", 1)[-1].strip("`") for name in named[Lineage.SINK]] == ["out"]
