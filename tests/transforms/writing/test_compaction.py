"""Days become one file a table, whoever writes, reads or stops meanwhile, and what was decided stays decided."""
import contextlib
import json
import os
import shutil

import pyarrow as pa
import pytest
from jobs import clusters, parts_of, without_beam

from beam_coresets import tables
from beam_coresets.parameters.plan import Plan
from beam_coresets.results.summary import Summary
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries import DamagedFileError, open_summaries
from beam_coresets.transforms.writing import atomic_files, compaction
from beam_coresets.transforms.writing.claims import ORDER, Claims
from beam_coresets.transforms.writing.compaction import BusyError, Compaction
from beam_coresets.transforms.writing.stored_tables import files_of, read_table, tables_of

PLAN = Plan(k=3, shards=3, replication=2, coreset_size=20)
DAY = 1795219200.0  # 2026-11-21
HOUR = 3600.0
FOLDER = "day=2026-11-21"
NEXT_DAY = DAY + 86400 + HOUR + 1
WINDOWS = [Window(DAY + start, DAY + start + 60) for start in (0, 60, 4000, 86340)]


def decision(seed, window):
    return without_beam(parts_of(clusters(100, seed)), PLAN, window=window)


DECISIONS = [decision(i, window) for i, window in enumerate(WINDOWS)]
OTHER = decision(9, WINDOWS[1])
LATE = decision(10, Window(DAY + 120, DAY + 180))
REVISED = decision(11, Window(DAY, DAY + 60, "", 2))


def filled(folder, form="parquet", summaries=DECISIONS):
    claims = Claims(str(folder), form)
    assert all(claims.publish(summary) for summary in summaries)
    return claims


def compacted(folder, now=NEXT_DAY, **more):
    return list(Compaction(Claims(str(folder), wanted=()), **more).run(now))


def check(folder, summaries, form="parquet"):
    """All that reads the folder finds these decisions, each once, with the rows that were written."""
    claims = Claims(str(folder), form)
    assert claims.claimed_since(()) == [s.window.name for s in summaries]
    assert claims.count() == len(summaries)
    assert claims.last() == [summaries[-1].window.name]
    for summary in summaries:
        assert claims.decided(summary.window)
        assert claims.winner(summary.window) == summary.replica
        for name in ORDER:
            assert claims.read(summary.window, name).equals(typed(summary, name, form))
        assert set(ORDER) == set(claims.tables_of(summary.window))
        assert claims.form_of(summary.window.name) == form
        assert not claims.announced(summary.window)
        assert claims.publish(summary)
    for name in ORDER:
        expected = pa.concat_tables([typed(summary, name, form) for summary in summaries])
        found = read_table(str(folder), name)
        order = [("window_start", "ascending"), ("revision", "ascending")]
        assert found.sort_by(order).equals(expected.sort_by(order))
    windows = open_summaries(str(folder))
    newest = {s.window.start: s for s in sorted(summaries, key=lambda s: s.window.revision)}
    assert [w.row["window_start"] for w in windows] == sorted(newest)
    for window in windows:
        summary = newest[window.identity.start]
        assert window.revision == summary.window.revision
        assert window.table("coreset")["weight"].to_pylist() == summary.table("coreset")["weight"].to_pylist()
        assert len(window.centers) == 3
    assert windows.latest().identity.start == max(newest)
    assert windows.window(DAY + 61).identity.start == DAY + 60
    assert list(windows.checked()._index) == list(windows._index)
    assert not windows.skipped


def typed(summary, name, form):
    from beam_coresets import table_schemas

    table = summary.table(name)
    return table_schemas.typed(tables.decode(tables.encode(table, form), form), name)


def names(folder, table="summaries", day=FOLDER):
    return sorted(os.listdir(folder / table / day))


@pytest.mark.parametrize("form", ["parquet", "avro", "jsonl"])
def test_a_day_becomes_one_file_a_table(tmp_path, form):
    filled(tmp_path, form)
    check(tmp_path, DECISIONS, form)
    (done,) = compacted(tmp_path)
    assert done == (FOLDER, 4, (4, 16), ())
    for table in ORDER:
        assert names(tmp_path, table) == [f"compacted+-{DAY:.3f}-{DAY + 86400:.3f}-r1.{form}"]
    check(tmp_path, DECISIONS, form)
    assert compacted(tmp_path) == [], "again: nothing to do"
    check(tmp_path, DECISIONS, form)


def test_the_last_decision_and_another_one(tmp_path):
    claims = filled(tmp_path)
    compacted(tmp_path)
    assert not claims.publish(OTHER)
    assert claims.before(WINDOWS[2]) == [WINDOWS[1].name, WINDOWS[0].name]
    assert claims.before(WINDOWS[2], 1) == [WINDOWS[1].name]
    assert claims.paths(WINDOWS[0]) == [str(tmp_path / t / FOLDER / names(tmp_path)[0]) for t in ORDER]
    claims.finish_all()
    check(tmp_path, DECISIONS)


def test_what_is_not_over_stays(tmp_path):
    filled(tmp_path)
    assert compacted(tmp_path, NEXT_DAY - 2) == []
    assert [d.windows for d in compacted(tmp_path, DAY + 2 * HOUR + 1, every="hour", after=HOUR)] == [2]
    assert names(tmp_path) == [f"{w.name}.parquet" for w in WINDOWS[2:]] + [
        f"compacted+-{DAY:.3f}-{DAY + 120:.3f}-r1.parquet"]  # fmt: skip
    check(tmp_path, DECISIONS)
    assert compacted(tmp_path, DAY + 2 * HOUR + 2, every="hour", after=HOUR) == []
    compacted(tmp_path, NEXT_DAY, every="hour")
    assert [name.split("-r")[1] for name in names(tmp_path)] == ["1.parquet", "2.parquet", "3.parquet"]
    check(tmp_path, DECISIONS)
    assert compacted(tmp_path) == [], "hours stay until something new comes into the day"
    assert Claims(str(tmp_path)).publish(LATE)
    (done,) = compacted(tmp_path)
    assert (done.windows, len(names(tmp_path))) == (5, 1)
    check(tmp_path, [*DECISIONS[:2], LATE, *DECISIONS[2:]])


def test_what_comes_late_is_decided_once_and_compacted_later(tmp_path):
    claims = filled(tmp_path)
    compacted(tmp_path)
    for summary in (LATE, REVISED):
        assert not claims.decided(summary.window)
        assert claims.winner(summary.window) is None
        assert claims.publish(summary)
        assert not claims.publish(decision(50, summary.window))
    every = sorted([*DECISIONS, LATE, REVISED], key=lambda s: (s.window.start, s.window.revision))
    assert len(names(tmp_path)) == 3
    check(tmp_path, every)
    compacted(tmp_path)
    assert len(names(tmp_path)) == 1
    check(tmp_path, every)


def test_who_had_looked_before_still_finds_the_rows(tmp_path, monkeypatch):
    """A collection that is open, a list of files, and a claim in hand, over two compactions."""
    claims = filled(tmp_path)
    before, old = open_summaries(str(tmp_path)), claims.claim(WINDOWS[1])
    listed = files_of(str(tmp_path), "coreset", ".parquet")
    compacted(tmp_path)
    claims.publish(LATE)
    between, there = open_summaries(str(tmp_path)), files_of(str(tmp_path), "coreset", ".parquet")
    compacted(tmp_path)
    for windows in (before, between):
        assert [len(w.table("coreset")) > 0 for w in windows] == [True] * len(windows)
    assert len(between) == 5
    assert claims._finished(old)["files"]["coreset"]["rows"]
    for paths, count in ((listed, 4), (there, 5)):
        monkeypatch.setattr(
            "beam_coresets.transforms.writing.stored_tables.files_of",
            lambda folder, name, ending="", paths=paths: [path for path in paths if path.endswith(ending)],
        )
        found = pa.concat_tables(tables_of(str(tmp_path), "coreset"))
        assert len(set(found["window_start"].to_pylist())) == count


def test_marks_stay_and_who_announces_is_waited_for(tmp_path):
    claims = filled(tmp_path)
    claims.mark_announced(WINDOWS[0])
    claims.mark_announced(WINDOWS[3])
    claims.mark_posted(WINDOWS[3])
    (done,) = compacted(tmp_path)
    assert done.windows == 2
    assert [claims.announced(w) for w in WINDOWS] == [True, False, False, True]
    assert [claims.posted(w) for w in WINDOWS] == [False, False, False, True]
    assert claims.unannounced() == WINDOWS[1:3]
    assert not [n for n in os.listdir(tmp_path / ".claims") if n.endswith((".announced", ".posted"))]
    claims.mark_announced(WINDOWS[1])
    assert compacted(tmp_path)[0].windows == 3
    assert claims.unannounced() == WINDOWS[2:3]


def test_of_a_stream_that_announces_nothing_all_can_be_announced_later(tmp_path):
    claims = filled(tmp_path)
    compacted(tmp_path)
    assert claims.unannounced() == WINDOWS
    claims.mark_announced(WINDOWS[0])
    assert claims.unannounced() == WINDOWS[1:]
    claims.publish(LATE)
    claims.mark_announced(LATE.window)
    compacted(tmp_path)
    assert claims.unannounced() == WINDOWS[1:]


class StopError(Exception):
    """As if the process had ended here."""


CHANGES = [
    (os, "rename"), (os, "link"), (os, "replace"), (os, "unlink"), (os, "makedirs"), (os, "mkdir"),
    (atomic_files, "write"), (atomic_files, "swap"), (atomic_files, "remove_folder"),
]  # fmt: skip


def stop_at(monkeypatch, step):
    """Ends the attempt just before the step-th change, which is just after the one before; counts them."""
    count = [0]

    def wrap(do):
        def act(*args, **more):
            count[0] += 1
            if count[0] == step:
                raise StopError
            return do(*args, **more)

        return act

    for owner, name in CHANGES:
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))
    return count


def _scene(folder):
    """A day that has been compacted once, with what came late and a file of the next day."""
    filled(folder, summaries=DECISIONS[:3])
    compacted(folder, keep=0)
    extra = decision(12, Window(DAY + 90000, DAY + 90060))
    filled(folder, summaries=[LATE, DECISIONS[3], extra])
    return [*DECISIONS[:2], LATE, *DECISIONS[2:], extra]


def test_it_may_stop_anywhere(tmp_path, monkeypatch):
    (tmp_path / "scene").mkdir()
    every = _scene(tmp_path / "scene")
    rows = [sum(len(s.table(name)) for s in every) for name in ORDER]
    late, other = (decision(seed, Window(DAY + 180, DAY + 240)) for seed in (13, 14))
    step, stopped = 0, True
    while stopped:
        step += 1
        folder = shutil.copytree(tmp_path / "scene", tmp_path / str(step))
        with monkeypatch.context() as patched:
            count = stop_at(patched, step)
            with contextlib.suppress(StopError):
                compacted(folder, keep=0)
        stopped = count[0] >= step
        assert read_glob(folder) == rows, "no row twice, none missing"
        assert [len(read_table(str(folder), name)) for name in ORDER] == rows
        assert len(open_summaries(str(folder))) == len(every)
        claims = Claims(str(folder))
        if step % 4 == 1:
            check(folder, every)
        assert claims.publish(late), "one that comes then"
        assert not claims.publish(other)
        compacted(folder)
        assert len(names(folder)) == 1
        if step % 4 == 2 or not stopped:
            check(folder, sorted([*every, late], key=lambda s: s.window.start))
        assert read_glob(folder) == [n + len(late.table(name)) for name, n in zip(ORDER, rows, strict=True)]
    assert step > 30


def read_glob(folder):
    import duckdb

    return [duckdb.sql(f"SELECT count(*) FROM '{folder}/{name}/**/*.parquet'").fetchall()[0][0] for name in ORDER]


def test_a_claim_that_comes_between_is_not_decided_twice(tmp_path, monkeypatch):
    """Somebody who has looked for a claim before another decided, and creates one after that was compacted."""
    claims = filled(tmp_path, summaries=DECISIONS[:1])
    late, written = Claims(str(tmp_path)), atomic_files.write
    once = []

    def slow(path, data):
        written(path, data)
        if not once and ".staging" in path:
            once.append(1)
            assert claims.publish(DECISIONS[1])
            compacted(tmp_path)

    with monkeypatch.context() as patched:
        patched.setattr(atomic_files, "write", slow)
        assert not late.publish(OTHER)
    check(tmp_path, DECISIONS[:2])
    assert not list((tmp_path / ".claims").glob("*.json"))


def test_a_file_that_comes_between_is_taken_along(tmp_path, monkeypatch):
    claims, linked = filled(tmp_path), compaction._link

    def slow(*args):
        linked(*args)
        if not claims.decided(LATE.window):
            claims.publish(LATE)

    with monkeypatch.context() as patched:
        patched.setattr(compaction, "_link", slow)
        compacted(tmp_path)
    assert len(names(tmp_path)) == 2
    check(tmp_path, [*DECISIONS[:2], LATE, *DECISIONS[2:]])


def test_one_compacts_at_a_time(tmp_path):
    filled(tmp_path)
    with atomic_files.locked(str(tmp_path / ".compacted"), alone=True) as mine:
        assert mine
        with pytest.raises(BusyError, match="output: must be compacted by one at a time, got"):
            compacted(tmp_path)
    assert len(compacted(tmp_path)) == 1


def test_damaged_windows_are_left(tmp_path):
    filled(tmp_path)
    bad = tmp_path / "coreset" / FOLDER / f"{WINDOWS[1].name}.parquet"
    bad.write_bytes(b"PAR1")
    (done,) = compacted(tmp_path)
    assert done.windows == 3
    (said,) = done.damaged
    assert "changed or damaged since" in said
    assert names(tmp_path, "coreset")[0] == bad.name
    assert bad.read_bytes() == b"PAR1"
    assert compacted(tmp_path) == []
    assert len(names(tmp_path, "coreset")) == 2
    windows = open_summaries(str(tmp_path))
    with pytest.warns(UserWarning, match="skipped a window"):
        assert len(windows.checked()) == 3


def test_a_compacted_file_that_was_changed_is_named(tmp_path):
    filled(tmp_path)
    compacted(tmp_path)
    (name,) = names(tmp_path, "coreset")
    path = tmp_path / "coreset" / FOLDER / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    compaction_free = Claims(str(tmp_path))
    from beam_coresets.transforms.writing import compacted_days

    compacted_days._opened.cache_clear()
    for read in (lambda: compaction_free.read(WINDOWS[0], "coreset"), lambda: read_table(str(tmp_path), "coreset")):
        with pytest.raises(ValueError, match=r"coreset: must be as it was written, got .*changed or damaged since"):
            read()
    with pytest.raises(DamagedFileError, match="coreset: must be as it was written"):
        open_summaries(str(tmp_path))[0].table("coreset")
    (record,) = (tmp_path / ".claims").glob("*.compacted")
    said = json.loads(record.read_text())
    record.write_text(json.dumps(said | {"version": 2}))
    with pytest.raises(ValueError, match="records of compacted days of version 1, got 2"):
        compaction_free.decided(WINDOWS[0])
    record.write_text("{")
    with pytest.raises(ValueError, match=r"whole records of compacted days, got .* damaged"):
        open_summaries(str(tmp_path))


def test_columns_that_change_make_another_file(tmp_path):
    wider = Summary(WINDOWS[2], DECISIONS[2].answers)
    table = wider.table("coreset").append_column("colour", pa.array(["red"] * len(wider.table("coreset"))))
    claims = filled(tmp_path, summaries=DECISIONS[:2])

    class Wider(Summary):
        def table(self, name):
            return table if name == "coreset" else Summary.table(self, name)

    assert claims.publish(Wider(wider.window, wider.answers))
    claims.publish(DECISIONS[3])
    (done,) = compacted(tmp_path)
    assert (done.windows, len(names(tmp_path))) == (4, 3)
    assert claims.read(WINDOWS[2], "coreset").equals(table)
    assert claims.read(WINDOWS[3], "coreset").equals(DECISIONS[3].table("coreset"))


def test_what_it_can_not_do(tmp_path, monkeypatch):
    claims = filled(tmp_path)
    with pytest.raises(ValueError, match="every: must be one of day, hour, got 'week'"):
        Compaction(claims, "week")
    with pytest.raises(ValueError, match="after: must be 0 s or more, got -1"):
        Compaction(claims, after=-1)
    with pytest.raises(ValueError, match=r"output: must be on a filesystem of this machine .*got 'gs://b/out'"):
        list(Compaction(Claims("gs://b/out", wanted=())).run())
    (tmp_path / ".claims" / "registered").mkdir()
    with pytest.raises(ValueError, match="output: must not be registered with Iceberg"):
        compacted(tmp_path)
    (tmp_path / ".claims" / "registered").rmdir()
    (tmp_path / "centers" / FOLDER / "mine").mkdir()
    (tmp_path / "centers" / FOLDER / "mine" / "file").write_text("")
    with pytest.raises(ValueError, match=r"output: must have no folders among a table's files, got .*mine"):
        compacted(tmp_path)

    def no_swap(one, other):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(atomic_files, "swap", no_swap)
    with pytest.raises(ValueError, match=r"swaps two folders in one step .*Invalid argument"):
        compacted(tmp_path)


def test_files_of_others_and_old_folders(tmp_path):
    filled(tmp_path)
    (tmp_path / "coreset" / FOLDER / "notes.txt").write_text("mine")
    compacted(tmp_path)
    assert (tmp_path / "coreset" / FOLDER / "notes.txt").read_text() == "mine"
    assert len(os.listdir(tmp_path / ".compacted")) == 1
    compacted(tmp_path)
    assert len(os.listdir(tmp_path / ".compacted")) == 1, "kept for who is reading"
    compacted(tmp_path, keep=0)
    assert os.listdir(tmp_path / ".compacted") == []
    check(tmp_path, DECISIONS)
