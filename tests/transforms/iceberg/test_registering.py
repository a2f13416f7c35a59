"""Claimed files in Iceberg tables: each once, whatever stops or runs at the same time, and read back as written."""
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest
from jobs import clusters, parts_of, without_beam

from beam_coresets import table_schemas, tables
from beam_coresets.parameters.plan import Plan
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.iceberg import notes, registering
from beam_coresets.transforms.iceberg.catalogs import CatalogError, catalog_settings
from beam_coresets.transforms.iceberg.registering import register
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stored_tables import read_table

pytest.importorskip("pyiceberg")

PLAN = Plan(k=4, shards=4, replication=2, coreset_size=40)
DAY = 86400.0
PARTS = parts_of(clusters(300))


def window(i, revision=1):
    return Window(DAY + 60.0 * i, DAY + 60.0 * (i + 1), "", revision)


def decide(folder, *windows, form="parquet", blocks=PARTS):
    claims = Claims(str(folder), form)
    for each in windows:
        assert claims.publish(without_beam(blocks, PLAN, window=each, columns=("x", "y", "z")))
    return claims


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "warehouse").mkdir()
    return catalog_settings([f"uri=sqlite:///{tmp_path}/catalog.db", f"warehouse=file://{tmp_path}/warehouse"])


def loaded(settings, table):
    return settings.open().load_table(f"a.b_{table}")


def count_files(settings, table):
    return sorted(loaded(settings, table).inspect.files()["file_path"].to_pylist())


def test_each_file_is_added_once_and_read_back_as_it_was_written(tmp_path, settings):
    claims = decide(tmp_path / "out", *map(window, range(3)))
    assert register(claims, settings, "a.b") == (3, 12, 0, {})
    assert register(claims, settings, "a.b") == (0, 0, 3, {})
    for table in table_schemas.TABLES:
        written = read_table(str(tmp_path / "out"), table)
        scanned = loaded(settings, table).scan().to_arrow()
        assert scanned.schema.names == written.schema.names
        assert scanned.sort_by("window_start").cast(written.schema).equals(written)
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    coreset = loaded(settings, "coreset").scan().to_duckdb("coreset", db)
    counted = "SELECT window_start, count(*), sum(weight_ht) FROM {} GROUP BY 1 ORDER BY 1"
    files = f"read_parquet('{tmp_path}/out/coreset/**/*.parquet', hive_partitioning = false)"
    assert coreset.execute(counted.format("coreset")).fetchall() == db.execute(counted.format(files)).fetchall()


def test_a_revision_and_later_windows_come_on_top(tmp_path, settings):
    claims = decide(tmp_path / "out", window(0))
    register(claims, settings, "a.b")
    decide(tmp_path / "out", window(0, 2), window(1))
    assert register(claims, settings, "a.b") == (2, 8, 1, {})
    rows = loaded(settings, "summaries").scan().to_arrow().to_pylist()
    assert sorted((row["window_start"].timestamp(), row["revision"]) for row in rows) == [
        (DAY, 1), (DAY, 2), (DAY + 60, 1),
    ]  # fmt: skip


def test_a_snapshot_says_which_windows_it_has_added_and_what_was_in_them(tmp_path, settings):
    claims = decide(tmp_path / "out", window(0), window(1))
    register(claims, settings, "a.b")
    said = loaded(settings, "centers").current_snapshot().summary.additional_properties
    digests = {name: claims.settled(name)["files"]["centers"]["digest"] for name in claims.claimed_since(())}
    assert json.loads(said["beam-coresets.windows"]) == {name: digest[:16] for name, digest in digests.items()}
    assert said["beam-coresets.output"] == f"file://{tmp_path}/out"
    assert notes.registered(str(tmp_path / "out")) == {f"a.b_{t}": set(digests) for t in table_schemas.TABLES}
    properties = loaded(settings, "centers").properties
    assert properties["gc.enabled"] == "false"
    assert "commit.retry.num-retries" not in properties


@pytest.mark.parametrize(("lost", "look"), [("notes", False), ("notes and snapshots", True)])
def test_what_is_there_is_known_by_notes_by_snapshots_and_by_paths(tmp_path, settings, monkeypatch, lost, look):
    claims = decide(tmp_path / "out", window(0))
    register(claims, settings, "a.b")
    before = count_files(settings, "coreset")
    monkeypatch.setattr(notes, "FOLDER", (".claims", "elsewhere"))
    if "snapshots" in lost:
        monkeypatch.setattr(registering, "WINDOWS", "another")
    assert register(claims, settings, "a.b", look).files == 0
    assert count_files(settings, "coreset") == before
    assert notes.registered(str(tmp_path / "out")).keys() == {f"a.b_{table}" for table in table_schemas.TABLES}


def test_files_that_iceberg_has_written_anew_are_not_added_again(tmp_path, settings):
    """As its own compaction does; its snapshots are forgotten after that."""
    claims = decide(tmp_path / "out", window(0), window(1))
    register(claims, settings, "a.b")
    for table in table_schemas.TABLES:
        found = loaded(settings, table)
        rows = found.scan().to_arrow()
        found.overwrite(rows)
        found.maintenance.expire_snapshots().by_ids(
            [s.snapshot_id for s in found.metadata.snapshots if s != found.current_snapshot()]
        ).commit()
        assert "b/coreset" not in " ".join(count_files(settings, table))
    assert register(claims, settings, "a.b").files == 0
    assert len(loaded(settings, "summaries").scan().to_arrow()) == 2
    assert all(os.path.exists(path) for name in claims.claimed_since(()) for path in claims.paths(name))


def test_whoever_is_overtaken_looks_again(tmp_path, settings, monkeypatch):
    """Another one commits between the look at the table and the own commit."""
    claims = decide(tmp_path / "out", window(0), window(1))
    register(decide(tmp_path / "other", window(0)), settings, "a.b")
    committed, began, ended = registering._IcebergTable._committed, [], []

    def late(self, table, files):
        if table.name()[-1] not in began:
            began.append(table.name()[-1])
            register(claims, settings, "a.b")
        ended.append(committed(self, table, files))
        return ended[-1]

    monkeypatch.setattr(registering._IcebergTable, "_committed", late)
    register(claims, settings, "a.b")
    assert None in ended, "somebody was overtaken"
    for table in table_schemas.TABLES:
        found = count_files(settings, table)
        assert len(found) == len(set(found)) == 3, "of two folders, whose windows have the same names"


REGISTER = """
import sys
from beam_coresets.transforms.iceberg import registering, notes
from beam_coresets.transforms.iceberg.catalogs import catalog_settings
from beam_coresets.transforms.writing.claims import Claims
registering.BATCH = 2
output, *words = sys.argv[1:]
settings = catalog_settings(words)
{before}
print("ready", flush=True)
sys.stdin.readline()
print(registering.register(Claims(output), settings, "a.b"), flush=True)
"""


@contextlib.contextmanager
def started(tmp_path, before="", processes=1):
    """Processes that register, and wait for a line until they begin."""
    words = [f"{tmp_path}/out", f"uri=sqlite:///{tmp_path}/catalog.db", f"warehouse=file://{tmp_path}/warehouse"]
    command = [sys.executable, "-c", REGISTER.format(before=before), *words]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
               for _ in range(processes)]  # fmt: skip
    try:
        for process in running:
            assert process.stdout.readline() == "ready\n"
        for process in running:
            process.stdin.write("go\n")
            process.stdin.flush()
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def test_two_processes_at_once_add_each_file_once(tmp_path, settings):
    claims = decide(tmp_path / "out", *map(window, range(8)))
    with started(tmp_path, processes=2) as running:
        for process in running:
            process.stdout.read()
            assert process.wait(120) == 0
    for table in table_schemas.TABLES:
        found = count_files(settings, table)
        assert len(found) == len(set(found)) == 8
    assert register(claims, settings, "a.b") == (0, 0, 8, {})


@pytest.mark.parametrize("dies", ["notes.Notes.add", "registering._IcebergTable._committed"])
def test_one_that_is_killed_leaves_nothing_twice_and_nothing_out(tmp_path, settings, dies):
    """Before the commit of the second table, or between the commit and its note."""
    claims = decide(tmp_path / "out", *map(window, range(3)))
    before = f"""
calls, call = [], {dies}
def last(*given):
    calls.append(given)
    if len(calls) == 2:
        print("here", flush=True)
        sys.stdin.readline()
    return call(*given)
{dies} = last
"""
    with started(tmp_path, before) as (process,):
        assert process.stdout.readline() == "here\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert 0 < len(count_files(settings, "coreset")) < 3
    done = register(claims, settings, "a.b")
    assert done.windows == 3
    assert done.files == (8 if "add" in dies else 10)
    for table in table_schemas.TABLES:
        found = count_files(settings, table)
        assert len(found) == len(set(found)) == 3


def kept_in(folder, each, **columns):
    """A window whose rows all have these values (arrays of one) in kept columns."""
    blocks = [dataclasses.replace(b, extras=pa.table(columns).take([0] * len(b.points))) for b in PARTS]
    return decide(folder, each, blocks=blocks)


def test_columns_that_came_later_are_added_and_null_in_older_windows(tmp_path, settings):
    claims = decide(tmp_path / "out", window(0))
    assert register(claims, settings, "a.b") == (1, 4, 0, {})
    kept_in(tmp_path / "out", window(1), place=["a"], size=[1])
    assert register(claims, settings, "a.b") == (1, 4, 1, {})
    decide(tmp_path / "out", window(2))
    assert register(claims, settings, "a.b") == (1, 4, 2, {})
    rows = loaded(settings, "coreset").scan().to_arrow().to_pylist()
    assert {(row["window_start"].timestamp(), row["place"], row["size"]) for row in rows} == {
        (DAY, None, None), (DAY + 60, "a", 1), (DAY + 120, None, None),
    }  # fmt: skip


def test_a_table_of_an_older_version_gets_the_columns_that_it_lacks(tmp_path, settings, monkeypatch):
    """Its files were written before the tables had the columns `trust` and `columns`."""
    encode = tables.encode

    def older(table, form):
        return encode(table.drop_columns([n for n in ("trust", "columns") if n in table.column_names]), form)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "encode", older)
        claims = decide(tmp_path / "out", window(0))
    register(claims, settings, "a.b")
    assert "trust" not in loaded(settings, "summaries").schema().column_names
    decide(tmp_path / "out", window(1))
    assert register(claims, settings, "a.b") == (1, 4, 1, {})
    found = loaded(settings, "summaries").scan().to_arrow().sort_by("window_start").to_pylist()
    assert [(row["columns"], row["trust"] is None, row["k"]) for row in found] == [
        (None, True, 4), (["x", "y", "z"], False, 4),
    ]  # fmt: skip


def test_a_window_with_columns_that_iceberg_has_not_is_refused_and_the_others_are_added(tmp_path, settings):
    claims = kept_in(tmp_path / "out", window(0), kept=pa.array([1], pa.uint64()))
    kept_in(tmp_path / "out", window(1), kept=[2])
    kept_in(tmp_path / "out", window(2), kept=["text"])
    kept_in(tmp_path / "out", window(3), kept=[3])
    done = register(claims, settings, "a.b")
    assert done[:3] == (2, 8, 0)
    names = claims.claimed_since(())
    assert done.refused == {
        names[0]: "a.b_coreset: must have columns that Iceberg has, got kept of type uint64",
        names[2]: done.refused[names[2]],
    }
    assert done.refused[names[2]].startswith("a.b_coreset: must have the columns of the files, got ")
    assert "kept" in done.refused[names[2]]
    assert "\n" not in done.refused[names[2]]
    assert len(loaded(settings, "summaries").scan().to_arrow()) == 2, "whoever sees a window finds its other rows"
    assert register(claims, settings, "a.b")[:3] == (0, 0, 2)


def test_windows_without_points_have_their_summary(tmp_path, settings):
    claims = decide(tmp_path / "out", window(0), blocks=[])
    assert register(claims, settings, "a.b") == (1, 1, 0, {})
    assert register(claims, settings, "a.b") == (0, 0, 1, {})
    assert len(loaded(settings, "summaries").scan().to_arrow()) == 1


def test_a_folder_that_was_replaced_is_refused(tmp_path, settings):
    register(decide(tmp_path / "out", window(0)), settings, "a.b")
    for path in (tmp_path / "out").rglob("*.*"):
        if path.is_file():
            path.unlink()
    claims = decide(tmp_path / "out", window(0), blocks=parts_of(clusters(300, seed=1)))
    with pytest.raises(ValueError, match=r"^output: must hold the files that a.b_coreset has, got another one of "):
        register(claims, settings, "a.b")


def test_other_formats_and_changed_files_are_refused(tmp_path, settings):
    with pytest.raises(ValueError, match=r"^format: must be parquet for Iceberg, got avro in "):
        register(decide(tmp_path / "avro", window(0), form="avro"), settings, "a.b")
    claims = decide(tmp_path / "out", window(0))
    path = claims.paths(window(0))[0]
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="must be as it was written"):
        register(claims, settings, "a.b")
    with pytest.raises(ValueError, match=r"^table: must be NAMESPACE.NAME, got 'b'"):
        register(claims, settings, "b")


def test_a_dropped_table_gets_all_windows_again(tmp_path, settings):
    claims = decide(tmp_path / "out", window(0), window(1))
    register(claims, settings, "a.b")
    for table in table_schemas.TABLES:
        settings.open().drop_table(f"a.b_{table}")
    assert register(claims, settings, "a.b") == (2, 8, 0, {})


def test_a_catalog_that_is_away_is_an_error_of_its_own(tmp_path):
    claims = decide(tmp_path / "out", window(0))
    settings = catalog_settings([f"uri=sqlite:///{tmp_path}/nowhere/catalog.db", "warehouse=file:///tmp/w"])
    with pytest.raises(CatalogError, match=r"^catalog: must answer, got .*unable to open database file.*'default'"):
        register(claims, settings, "a.b")


def test_a_namespace_that_another_one_has_just_made_is_fine_and_one_that_nobody_can_make_is_said(
    tmp_path, settings, monkeypatch
):
    from pyiceberg.catalog.sql import SqlCatalog

    create = SqlCatalog.create_namespace_if_not_exists
    claims = decide(tmp_path / "out", window(0))

    def forbidden(self, namespace):
        raise RuntimeError("nobody may")

    def overtaken(self, namespace):
        create(self, namespace)
        raise RuntimeError("UNIQUE constraint failed")

    monkeypatch.setattr(SqlCatalog, "create_namespace_if_not_exists", forbidden)
    with pytest.raises(CatalogError, match=r"^catalog: must answer, got nobody may from 'default'$"):
        register(claims, settings, "a.b")
    monkeypatch.setattr(SqlCatalog, "create_namespace_if_not_exists", overtaken)
    assert register(claims, settings, "a.b") == (1, 4, 0, {})


def test_a_catalog_that_speaks_nonsense_is_one_too(tmp_path, settings, monkeypatch):
    claims = decide(tmp_path / "out", window(0))
    register(claims, settings, "a.b")
    for path in (tmp_path / "warehouse").rglob("*.json"):
        path.write_text('{"format-version": 7}')
    with pytest.raises(CatalogError, match=r"^catalog: must answer, got [^\n]* from 'default'$"):
        register(claims, settings, "a.b")


def test_many_notes_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr(notes, "_MANY", 5)
    held = notes.Notes(str(tmp_path), "some-uuid", "a.b_centers")
    for i in range(14):
        held.add({f"w{i}": "d"})
    assert held.read() == {f"w{i}": "d" for i in range(14)}
    assert len(list((tmp_path / ".claims" / "registered" / "some-uuid").iterdir())) <= 5
    (path, *_) = (tmp_path / ".claims" / "registered" / "some-uuid").iterdir()
    path.write_text(json.dumps({"version": 2, "windows": {}}))
    with pytest.raises(ValueError, match=r"^output: must hold notes of version 1, got 2 in "):
        held.read()
