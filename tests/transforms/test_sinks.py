"""The files of a run: written once, whole or not at all, and read back as they were."""
import errno
import os
import pathlib
import pickle
import threading

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from jobs import clusters, counters, parts_of, rows_in, run, without_beam

from beam_coresets import tables
from beam_coresets.summary import Summary, Window
from beam_coresets.transforms import sinks
from beam_coresets.transforms.reading.columns import DeadLetter
from beam_coresets.transforms.sinks import WriteDeadLetters, WriteSummaries, read_table, write_once
from beam_coresets.transforms.summarize import Plan

PLAN = Plan(k=4, shards=4, replication=2, coreset_size=40)
SUMMARY = without_beam(parts_of(clusters(900)), PLAN)
OTHER = without_beam(parts_of(clusters(900, seed=1)), PLAN)


def files_under(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def write(folder, summaries, form="avro", **options):
    create = beam.Create(summaries).with_output_types(Summary)
    held, result = run(lambda p: {"out": p | create | WriteSummaries(str(folder), form, **options)})
    return sorted(held["out"]), counters(result)


def test_a_file_is_created_once_and_the_first_content_stays(tmp_path):
    path = str(tmp_path / "new" / "folder" / "table.avro")
    assert write_once(path, b"first")
    assert not write_once(path, b"second")
    assert pathlib.Path(path).read_bytes() == b"first"
    assert files_under(tmp_path) == ["new/folder/table.avro"]


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    path, together, won = str(tmp_path / "t"), threading.Barrier(8), []

    def race(i):
        together.wait()
        if write_once(path, bytes([i]) * 100_000):
            won.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(won) == 1
    assert pathlib.Path(path).read_bytes() == bytes(won) * 100_000
    assert files_under(tmp_path) == ["t"]


def test_losing_the_race_after_the_check_changes_nothing(tmp_path, monkeypatch):
    path = str(tmp_path / "t")
    write_once(path, b"first")
    monkeypatch.setattr(FileSystems, "exists", lambda path: False)
    assert not write_once(path, b"second")
    assert pathlib.Path(path).read_bytes() == b"first"
    assert files_under(tmp_path) == ["t"]


@pytest.mark.parametrize("step", ["write", "link"])
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, step):
    def broken(*args):
        raise OSError(errno.ENOSPC, "disk full")

    content = b"content"
    if step == "link":
        monkeypatch.setattr(os, "link", broken)
    else:
        content = None  # no file takes that
    with pytest.raises((OSError, TypeError), match=r"disk full|NoneType"):
        write_once(str(tmp_path / "t"), content)
    assert files_under(tmp_path) == []


def test_a_drive_without_hard_links_gets_the_file_by_a_move(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", unsupported)
    assert write_once(str(tmp_path / "t"), b"first")
    assert not write_once(str(tmp_path / "t"), b"second")
    assert (tmp_path / "t").read_bytes() == b"first"
    assert files_under(tmp_path) == ["t"]


def test_another_filesystem_gets_the_same_by_a_move(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "is_local", lambda path: False)
    assert write_once(str(tmp_path / "t.parquet"), b"first")
    assert not write_once(str(tmp_path / "t.parquet"), b"second")
    assert (tmp_path / "t.parquet").read_bytes() == b"first"
    assert files_under(tmp_path) == ["t.parquet"]


@pytest.mark.parametrize("form", tables.FORMATS)
def test_all_formats_read_back_equal(tmp_path, form):
    paths, counted = write(tmp_path, [SUMMARY], form)
    assert files_under(tmp_path) == [f"{name}/global-r1.{form}" for name in sorted(tables.TABLES)]
    assert paths == [str(tmp_path / name) for name in files_under(tmp_path)]
    assert counted["files_written"] == 3
    for name in tables.TABLES:
        assert read_table(str(tmp_path), name).equals(SUMMARY.table(name))


def test_the_first_decision_stays(tmp_path):
    write(tmp_path, [SUMMARY])
    before = {name: (tmp_path / name).read_bytes() for name in files_under(tmp_path)}
    paths, counted = write(tmp_path, [OTHER])
    assert paths == []
    assert counted == {"decisions_dropped": 1}
    assert {name: (tmp_path / name).read_bytes() for name in files_under(tmp_path)} == before


def test_an_attempt_that_died_leaves_nothing_of_its_decision(tmp_path):
    write(tmp_path, [OTHER], wanted=("coreset", "centers"))
    write(tmp_path, [SUMMARY])
    for name in tables.TABLES:
        assert read_table(str(tmp_path), name).equals(SUMMARY.table(name))


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
        f"{name}/{span}-r1.avro"
        for name in ("centers", "summaries")
        for span in ("0.000-60.000", "60.000-120.000")
    ]
    assert [row["window_start"] for row in rows_in(tmp_path, "summaries")] == [0.0, 60.0]


@pytest.mark.parametrize("form", tables.FORMATS)
def test_an_empty_answer_keeps_its_types(tmp_path, form):
    nothing = without_beam(parts_of(np.empty((0, 3), np.float32)), PLAN)
    write(tmp_path, [nothing], form)
    for name in tables.TABLES:
        assert read_table(str(tmp_path), name).schema.equals(tables.SCHEMAS[name])
    assert len(read_table(str(tmp_path), "centers")) == 0


def test_a_missing_table_and_an_unknown_format_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"input: must hold a centers table, got '.*' without centers/\*\.avro"):
        read_table(str(tmp_path), "centers")
    with pytest.raises(ValueError, match="format: must be one of avro, parquet, jsonl, got 'xml'"):
        WriteSummaries(str(tmp_path), "xml")


@pytest.mark.parametrize("form", tables.FORMATS)
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
