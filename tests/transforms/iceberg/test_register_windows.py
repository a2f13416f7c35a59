"""A stream's claimed windows in Iceberg tables: gathered, from one place, and never at the stream's cost."""
import logging
import pickle
import time

import apache_beam as beam
import pytest
from apache_beam.testing import test_stream
from jobs import clusters, parts_of, run, without_beam

from beam_coresets.parameters.plan import Plan
from beam_coresets.results.summary import Summary
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.iceberg import register_windows
from beam_coresets.transforms.iceberg.catalogs import CatalogError, CatalogSettings, catalog_settings
from beam_coresets.transforms.iceberg.register_windows import RegisterWindows, attempt
from beam_coresets.transforms.iceberg.registering import Registered
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.sinks import WriteSummaries

pytest.importorskip("pyiceberg")

PLAN = Plan(k=4, shards=4, replication=2, coreset_size=40)
PARTS = parts_of(clusters(300))
SUMMARIES = [without_beam(PARTS, PLAN, window=Window(60.0 * i, 60.0 * (i + 1))) for i in range(6)]
STREAMING = ("--runner=BundleBasedDirectRunner", "--streaming")


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "warehouse").mkdir()
    return catalog_settings([f"uri=sqlite:///{tmp_path}/catalog.db", f"warehouse=file://{tmp_path}/warehouse"])


def stream_of(*batches, seconds=10.0):
    """A TestStream with some summaries at a time, and so long between them."""
    stream = test_stream.TestStream(coder=beam.coders.registry.get_coder(Summary)).advance_watermark_to(0)
    for batch in batches:
        stream = stream.add_elements(batch).advance_processing_time(seconds)
    return stream.advance_watermark_to_infinity()


class Ticking:
    """A clock that goes on by 10 s whenever it is looked at, as `stream_of` does."""

    def __init__(self):
        self.now = -10.0

    def __call__(self):
        self.now += 10.0
        return self.now


def registered(tmp_path, settings, stream, clock=lambda: 0.0):
    """Runs a stream that writes its summaries and registers them; the numbers of files a commit."""
    write = WriteSummaries(str(tmp_path / "out"))

    def build(pipeline):
        written = pipeline | stream | write
        register = RegisterWindows(write.claims, settings, "a.b", 5.0, clock)
        return {"files": written.windows | register}

    held, _ = run(build, STREAMING)
    return held["files"]


def test_windows_are_gathered_for_a_commit(tmp_path, settings):
    assert registered(tmp_path, settings, stream_of(SUMMARIES[:4])) == [16]
    table = settings.open().load_table("a.b_summaries")
    assert len(table.scan().to_arrow()) == 4
    assert len(table.metadata.snapshots) == 1


def test_tables_are_told_of_once_they_have_something(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(register_windows, "tell_written", told.append)
    monkeypatch.setattr(register_windows, "attempt", lambda *_, **__: (Registered(1, 2, 0, {}), ""))
    claims = Claims(str(tmp_path / "out"), "parquet", ("summaries", "centers"))
    register = register_windows._Register(claims, None, "lake.a.b", 5.0, lambda: 0.0)
    assert list(register.on_due(Cell())) == [2]
    assert sorted(told) == [("iceberg", "lake", "a", "b_centers"), ("iceberg", "lake", "a", "b_summaries")]


class Cell:
    def clear(self):
        pass


def test_what_an_earlier_run_left_is_added_with_the_next_window(tmp_path, settings):
    claims = Claims(str(tmp_path / "out"))
    claims.publish(SUMMARIES[0])
    assert registered(tmp_path, settings, stream_of(SUMMARIES[1:2])) == [8]


def test_a_catalog_that_is_away_costs_a_warning(tmp_path, settings, caplog):
    away = CatalogSettings("away", {"uri": f"sqlite:///{tmp_path}/nowhere/x.db", "warehouse": "file:///tmp/w"})
    with caplog.at_level(logging.WARNING):
        assert registered(tmp_path, away, stream_of(SUMMARIES[:2])) == []
    (said,) = [r.getMessage() for r in caplog.records if r.name == register_windows.__name__]
    assert said.startswith("iceberg: windows wait for the next attempt: catalog: must answer, got ")
    done, why = attempt(Claims(str(tmp_path / "out")), settings, "a.b")
    assert (done.windows, done.files, why) == (2, 8, "")


def test_after_a_failure_the_next_window_brings_all_that_is_missing(tmp_path, settings, monkeypatch):
    calls, register = [], register_windows.register

    def away_at_first(*given):
        calls.append(given)
        if len(calls) == 1:
            raise CatalogError("catalog: must answer, got nothing")
        return register(*given)

    monkeypatch.setattr(register_windows, "register", away_at_first)
    stream = stream_of(SUMMARIES[:2], SUMMARIES[2:3], SUMMARIES[3:6])
    assert sum(registered(tmp_path, settings, stream, clock=Ticking())) == 24
    assert len(calls) == 3


def test_a_catalog_that_says_nothing_is_left_alone(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(register_windows, "register", lambda *given: time.sleep(30))
    done, why = attempt(Claims(str(tmp_path / "out")), settings, "a.b", patience=0.1)
    assert done is None
    assert why == "catalog: must answer, got nothing from 'default' for 0.1 s"


@pytest.mark.parametrize("error", [OSError("disk"), KeyError("x"), ValueError("output: must be"), MemoryError()])
def test_nothing_that_goes_wrong_fails_the_stream(tmp_path, settings, monkeypatch, error):
    def fail(*given):
        raise error

    monkeypatch.setattr(register_windows, "register", fail)
    done, why = attempt(Claims(str(tmp_path / "out")), settings, "a.b")
    assert done is None
    assert why


def test_it_is_refused_where_it_can_not_work(tmp_path, settings):
    with pytest.raises(ValueError, match=r"^format: must be parquet for Iceberg, got avro"):
        RegisterWindows(Claims(str(tmp_path), "avro"), settings, "a.b")
    with pytest.raises(ValueError, match=r"^table: must be NAMESPACE.NAME, got 'b'"):
        RegisterWindows(Claims(str(tmp_path)), settings, "b")


def test_passwords_are_in_no_display_data_and_reach_the_workers(tmp_path):
    settings = CatalogSettings("main", {"uri": "http://host", "token": "pass-word"})
    register = RegisterWindows(Claims(str(tmp_path)), settings, "a.b")
    assert "pass-word" not in str(register.display_data())
    assert pickle.loads(pickle.dumps(register._register))._settings.properties["token"] == "pass-word"
