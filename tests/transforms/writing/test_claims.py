"""The first decision of a window counts, whoever stops when, and nobody sees less than all of it."""
import json
import multiprocessing
import os

import pyarrow.dataset
import pytest
from jobs import clusters, parts_of, without_beam

from beam_coresets import tables
from beam_coresets.parameters.plan import Plan
from beam_coresets.results.summary import summary_of_keys
from beam_coresets.streaming.events import Event
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.claims import ORDER, Claims
from beam_coresets.transforms.writing.stored_tables import read_table

PLAN = Plan(k=3, shards=3, replication=2, coreset_size=20)
DAY = 1795219200.0  # 2026-11-21
WINDOW = Window(DAY + 60, DAY + 120, "blue/1")
NAME = "blue%2F1-1795219260.000-1795219320.000-r1"


def decision(seed=0, window=WINDOW):
    return without_beam(parts_of(clusters(300, seed)), PLAN, window=window)


FIRST, OTHER = decision(), decision(1)


class StopError(Exception):
    """As if the process had ended here."""


def stop_at(monkeypatch, step, place):
    """Ends the attempt just before or just after the step-th time that a file gets its name, or is written."""
    count = 0

    def wrap(do):
        def act(*args, **more):
            nonlocal count
            count += 1
            if count == step and place == "before":
                raise StopError
            do(*args, **more)
            if count == step and place == "after":
                raise StopError

        return act

    for owner, name in ((os, "rename"), (os, "link"), (atomic_files, "write"), (atomic_files, "remove_folder")):
        monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))


def files_under(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def seen_by_others(folder):
    return [name for name in files_under(folder) if not name.startswith(".")]


def check_whole(folder, summary, claims):
    for name in ORDER:
        assert read_table(str(folder), name).equals(summary.table(name))
        assert claims.read(summary.window, name).equals(summary.table(name))
    assert files_under(folder) == [f".claims/{NAME}.json", *sorted(
        f"{name}/day=2026-11-21/{NAME}.parquet" for name in ORDER)]  # fmt: skip


def test_events_are_written_unless_told_otherwise_and_only_where_there_are_any(tmp_path):
    told = summary_of_keys(WINDOW, [FIRST], told=[("", Event("degraded", "Less than was asked for."))])
    assert Claims(str(tmp_path / "some")).publish(told)
    assert [row["sentence"] for row in read_table(str(tmp_path / "some"), "events").to_pylist()] == [
        "Less than was asked for."]  # fmt: skip
    assert Claims(str(tmp_path / "none")).publish(FIRST)
    assert not (tmp_path / "none" / "events").exists()


STEPS = 11  # four staged files, the claim's temporary file, its link, four moves, tidying up


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_an_attempt_may_stop_anywhere(tmp_path, monkeypatch, step, place):
    claims = Claims(str(tmp_path))
    with monkeypatch.context() as patched:
        stop_at(patched, step, place)
        with pytest.raises(StopError):
            claims.publish(FIRST)
    visible = seen_by_others(tmp_path)
    order = [f"{name}/day=2026-11-21/{NAME}.parquet" for name in ORDER]
    assert visible == sorted(order[: len(visible)]), "in order, and nothing before the claim"
    for name in visible:
        assert (tmp_path / name).read_bytes() == tables.encode(FIRST.table(name.split("/")[0]), "parquet")
    was_claimed = claims.decided(WINDOW)
    assert was_claimed == (step > 6 or (step, place) == (6, "after"))
    assert claims.publish(OTHER) == (not was_claimed)
    assert claims.publish(FIRST) == was_claimed
    check_whole(tmp_path, FIRST if was_claimed else OTHER, claims)


@pytest.mark.parametrize("step", range(7, STEPS + 1))
def test_whoever_reads_finishes_the_moves(tmp_path, monkeypatch, step):
    claims = Claims(str(tmp_path))
    with monkeypatch.context() as patched:
        stop_at(patched, step, "before")
        with pytest.raises(StopError):
            claims.publish(FIRST)
    assert Claims(str(tmp_path), "jsonl").read(NAME, "summaries").equals(FIRST.summaries)
    check_whole(tmp_path, FIRST, claims)


@pytest.mark.parametrize("step", range(7, STEPS + 1))
def test_the_next_run_finishes_all_moves(tmp_path, monkeypatch, step):
    with monkeypatch.context() as patched:
        stop_at(patched, step, "before")
        with pytest.raises(StopError):
            Claims(str(tmp_path)).publish(FIRST)
    claims = Claims(str(tmp_path))
    claims.finish_all()
    check_whole(tmp_path, FIRST, claims)


def test_windows_that_nobody_was_told_of(tmp_path):
    claims = Claims(str(tmp_path))
    assert claims.unannounced() == []
    later = Window(DAY + 120, DAY + 180, "003", 2)
    for window in (later, Window(DAY + 60, DAY + 120), Window(DAY, DAY + 60)):
        claims.publish(decision(window=window))
    claims.mark_announced(Window(DAY + 60, DAY + 120))
    assert claims.unannounced() == [Window(DAY, DAY + 60), later]


def test_it_may_stop_no_later_than_the_last_step(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_at(patched, STEPS + 1, "before")
        assert Claims(str(tmp_path)).publish(FIRST)
    check_whole(tmp_path, FIRST, Claims(str(tmp_path)))


def _race(folder, seed, barrier, results):
    claims = Claims(folder)
    summary = decision(seed)
    for round_ in range(20):
        mine = type(summary)(Window(round_ * 5.0, round_ * 5.0 + 5), summary.answers)
        barrier.wait()
        results.put((round_, seed, claims.publish(mine)))


def test_two_processes_race_and_one_wins_each_window(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    racers = [context.Process(target=_race, args=(str(tmp_path), seed, barrier, results)) for seed in (0, 1)]
    [racer.start() for racer in racers]
    found = [results.get(timeout=120) for _ in range(40)]
    [racer.join() for racer in racers]
    winners = {round_: seed for round_, seed, won in found if won}
    assert sum(won for _, _, won in found) == len(winners) == 20
    claims, by_seed = Claims(str(tmp_path)), (FIRST, OTHER)
    for name, round_ in zip(claims.claimed_since(()), range(20), strict=True):
        for table in ORDER:
            assert claims.read(name, table).equals(by_seed[winners[round_]].table(table))
    assert not [name for name in files_under(tmp_path) if name.startswith(".staging")]
    assert len(seen_by_others(tmp_path)) == 80


def test_a_claim_says_what_was_claimed(tmp_path):
    claims = Claims(str(tmp_path), "parquet", ("summaries", "centers"))
    assert not claims.decided(WINDOW)
    assert claims.publish(FIRST)
    assert claims.publish(FIRST)
    assert claims.decided(WINDOW)
    claim = json.loads((tmp_path / ".claims" / f"{NAME}.json").read_text())
    assert list(claim["files"]) == ["centers", "summaries"]
    for file, path in zip(claim["files"].values(), claims.paths(WINDOW), strict=True):
        assert path == str(tmp_path / file["path"])
        assert os.path.getsize(path) == file["size"]
    with pytest.raises(ValueError, match="table: must be one of centers, summaries, got 'coreset'"):
        claims.read(WINDOW, "coreset")
    with pytest.raises(ValueError, match=r"window: must be decided, got '5\.000-10\.000-r1' without a claim"):
        claims.read(Window(5.0, 10.0), "summaries")


def test_windows_are_listed_in_their_order_as_they_come(tmp_path):
    claims = Claims(str(tmp_path), wanted=("summaries",))
    assert claims.claimed_since(()) == []
    windows = [Window(start, start + 5, key) for start in (1000.0, 5.0, 95.0) for key in ("b", "a")]
    for window in windows:
        claims.publish(type(FIRST)(window, FIRST.answers))
    claims.mark_announced(windows[0])
    names = claims.claimed_since(())
    assert names == [windows[i].name for i in (3, 2, 5, 4, 1, 0)]
    assert claims.claimed_since(set(names[:4])) == names[4:]
    assert [claims.announced(window) for window in windows] == [True, *[False] * 5]


def test_other_programs_read_the_folder_as_one_table(tmp_path):
    claims = Claims(str(tmp_path), "parquet")
    keys = ("blue", ".hidden", "_hidden", "a/b", "ключ", "50%", "x" * 300, "a-b")
    for key in keys:
        for start in (DAY, DAY + 86400):
            claims.publish(decision(window=Window(start, start + 60, key)))
    for name in ORDER:
        found = pyarrow.dataset.dataset(tmp_path / name, format="parquet", partitioning="hive").to_table()
        assert set(found.column("day").to_pylist()) == {"2026-11-21", "2026-11-22"}
        assert set(found.column("key").to_pylist()) == set(keys)
        assert len(found) == 2 * len(keys) * len(FIRST.table(name))
    whole = pyarrow.dataset.dataset(tmp_path / "summaries", partitioning="hive", format="parquet")
    assert len(whole.to_table(filter=pyarrow.dataset.field("day") == "2026-11-22")) == len(keys)


def test_a_claim_cut_short_is_named(tmp_path):
    (tmp_path / ".claims").mkdir()
    (tmp_path / ".claims" / f"{NAME}.json").write_text('{"window": "bl')
    with pytest.raises(ValueError, match=r"output: must hold whole claims, got '.*r1\.json' cut short"):
        Claims(str(tmp_path)).publish(FIRST)
