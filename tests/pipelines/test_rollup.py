"""`beam-coresets rollup`, whole: the tables of many windows in, those of the period out."""
import dataclasses
import functools
import shutil

import numpy as np
import pytest
from jobs import CENTERS, clusters, rows_in, summarize_files, write_parquet

from beam_coresets import tables
from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.results_folder.stored import seconds
from beam_coresets.points.block import blocks_of
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize, summary_of_keys
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.model import point_costs
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.choosing import Identity, tiling
from beam_coresets.transforms.writing.claims import Claims

DAY = 1767225600.0  # 2026-01-01
SCHEME = Assignment(4, 2, "cyclic", 32)
SAMPLER = Sampler(4, 80)


@functools.lru_cache(maxsize=64)
def decision(number, dropped=(), rows=1000):
    reports = shard_reports(blocks_of(clusters(rows, number), rows=250), MergeReduce(SAMPLER, SCHEME, seed=number))
    return decide([r for r in reports if r.shard not in dropped], Policy(SCHEME))


def answer(window, number, dropped=(), rows=1000, **options):
    return summarize(decision(number, dropped, rows), Question(SAMPLER, solve=False), window, **options)


def write(folder, summary, form="parquet"):
    Claims(str(folder), form).publish(summary)


def write_windows(folder, count, form="parquet", length=60.0, period=60.0, key="", first=0):
    for i in range(count):
        start = DAY + (first + i) * period
        write(folder, answer(Window(start, start + length, key), i, (i % 4,)), form)


def rollup(folder, output, *options):
    return main(["rollup", "--input", *str(folder).split(), "--output", str(output), *map(str, options)])


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_a_period_is_one_answer_with_the_exact_weight_and_the_cost_it_says(tmp_path, capsys, form):
    write_windows(tmp_path / "in", 12, form)
    assert rollup(tmp_path / "in", tmp_path / "out", "--format", form) == 0
    (row,) = rows_in(tmp_path / "out", "summaries")
    assert (row["window_start"], row["window_end"], row["revision"]) == (DAY, DAY + 720, 1)
    assert row["total_weight"] == pytest.approx(12_000, rel=1e-12)
    assert (row["points"], row["coverage"], row["responded"], row["k"]) == (12_000, 1.0, [], 4)
    assert row["coreset_points"] == len(rows_in(tmp_path / "out", "coreset")) <= 4 * 170
    coreset = rows_in(tmp_path / "out", "coreset")
    assert sum(r["weight"] for r in coreset) == pytest.approx(12_000)
    centers = np.array([c["coordinates"] for c in rows_in(tmp_path / "out", "centers")])
    data = np.concatenate([clusters(1000, i) for i in range(12)])
    truth = point_costs(data, centers)[1].sum()
    direct = point_costs(data, CENTERS)[1].sum()
    assert row["cost_low"] <= truth <= row["cost_high"]
    assert truth < 1.05 * direct
    shown = capsys.readouterr().out
    assert "12,000" in shown
    assert "coverage" in shown


def test_a_rollup_of_rollups_is_a_rollup(tmp_path):
    write_windows(tmp_path / "a", 3)
    write_windows(tmp_path / "b", 3, first=3)
    for name in "ab":
        assert rollup(tmp_path / name, tmp_path / f"{name}-out", "--coreset_size", 160) == 0
    assert rollup(f"{tmp_path}/a-out {tmp_path}/b-out", tmp_path / "twice", "--seed", 1) == 0
    assert rollup(f"{tmp_path}/a {tmp_path}/b", tmp_path / "once") == 0
    (twice,), (once,) = (rows_in(tmp_path / name, "summaries") for name in ("twice", "once"))
    assert twice["total_weight"] == pytest.approx(once["total_weight"]) == pytest.approx(6000)
    assert (twice["window_start"], twice["window_end"]) == (once["window_start"], once["window_end"])
    assert twice["cost"] == pytest.approx(once["cost"], rel=0.15)


def test_the_newest_revision_of_each_window_counts(tmp_path):
    write(tmp_path / "in", answer(Window(DAY, DAY + 60), 0, rows=500))
    write(tmp_path / "in", answer(Window(DAY, DAY + 60, revision=2), 0))
    write(tmp_path / "in", answer(Window(DAY + 60, DAY + 120), 1))
    assert rollup(tmp_path / "in", tmp_path / "out") == 0
    assert rows_in(tmp_path / "out", "summaries")[0]["points"] == 2000


def test_empty_windows_count_as_windows(tmp_path):
    write_windows(tmp_path / "in", 3)
    nothing = summarize(decide([], Policy(SCHEME)), Question(SAMPLER), Window(DAY + 180, DAY + 240))
    write(tmp_path / "in", nothing)
    assert rollup(tmp_path / "in", tmp_path / "out") == 0
    (row,) = rows_in(tmp_path / "out", "summaries")
    assert (row["points"], row["coverage"], row["degraded"]) == (3000, 0.75, True)
    assert row["window_end"] == DAY + 240
    assert rollup(tmp_path / "in", tmp_path / "none", "--from", DAY + 180) == 0
    (row,) = rows_in(tmp_path / "none", "summaries")
    assert (row["points"], row["centers"]) == (0, 0)


def write_group(folder, group, key, rows, revision=1, start=DAY):
    """What a group of keys has decided of a window: its own files, one key in them."""
    end = start + 60
    own = answer(Window(start, end, key, revision), 0, rows=rows)
    write(folder, summary_of_keys(Window(start, end, group, revision), [own]))


@pytest.mark.parametrize("real", ["000", "001", "002"])
def test_rows_without_points_next_to_real_ones_are_passed_over(tmp_path, real):
    """Of groups without rows that have answered for the empty key, in front of and behind the one that has some."""
    for group in ("000", "001", "002"):
        write_group(tmp_path / "in", group, "", 500 if group == real else 0)
    write_group(tmp_path / "in", "002" if real == "000" else "000", "", 0, revision=2)
    assert rollup(tmp_path / "in", tmp_path / "out") == 0
    (row,) = rows_in(tmp_path / "out", "summaries")
    assert (row["key"], row["points"], row["coverage"]) == ("", 500, 1.0)


@pytest.mark.parametrize("options", [(), ("--across_keys",)])
def test_the_empty_key_is_there_only_if_it_has_points_or_nothing_has(tmp_path, options):
    for i in range(2):
        write_group(tmp_path / "in", "000", "", 0, start=DAY + 60 * i)
        write_group(tmp_path / "in", "001", "red", 500, start=DAY + 60 * i)
    assert rollup(tmp_path / "in", tmp_path / "out", *options) == 0
    (row,) = rows_in(tmp_path / "out", "summaries")
    assert (row["key"], row["points"]) == ("" if options else "red", 1000)
    write_group(tmp_path / "in", "000", "", 500, start=DAY + 120)
    assert rollup(tmp_path / "in", tmp_path / "more") == 0
    assert [(row["key"], row["points"]) for row in rows_in(tmp_path / "more", "summaries")] == [
        ("", 500), ("red", 1000),
    ]  # fmt: skip


def test_groups_without_any_rows_are_passed_over(tmp_path):
    for group, rows in (("000", 0), ("001", 500), ("002", 0)):
        own = [answer(Window(DAY, DAY + 60, "red"), 0, rows=rows)] if rows else []
        write(tmp_path / "in", summary_of_keys(Window(DAY, DAY + 60, group), own))
    assert rollup(tmp_path / "in", tmp_path / "out") == 0
    assert [(row["key"], row["points"]) for row in rows_in(tmp_path / "out", "summaries")] == [("red", 500)]


def test_a_part_of_the_time_and_of_the_keys(tmp_path, capsys):
    for i, key in enumerate(("red", "blue", "red")):
        own = [answer(Window(DAY + 60 * i, DAY + 60 * i + 60, k), 2 * i + j) for j, k in enumerate((key, "green"))]
        write(tmp_path / "in", summary_of_keys(Window(DAY + 60 * i, DAY + 60 * i + 60), own))
    assert rollup(tmp_path / "in", tmp_path / "all") == 0
    found = {row["key"]: (row["window_start"] - DAY, row["window_end"] - DAY, row["points"])
             for row in rows_in(tmp_path / "all", "summaries")}  # fmt: skip
    assert found == {"red": (0, 180, 2000), "blue": (60, 120, 1000), "green": (0, 180, 3000)}
    assert {c["key"] for c in rows_in(tmp_path / "all", "centers")} == {"red", "blue", "green"}
    assert "green" in capsys.readouterr().out
    assert rollup(tmp_path / "in", tmp_path / "one", "--keys", "red,blue", "--across_keys", "--k", 3) == 0
    (row,) = rows_in(tmp_path / "one", "summaries")
    assert (row["key"], row["points"], row["k"]) == ("", 3000, 3)
    assert rollup(tmp_path / "in", tmp_path / "late", "--keys", "red", "--from", "2026-01-01T00:01") == 0
    (row,) = rows_in(tmp_path / "late", "summaries")
    assert (row["window_start"] - DAY, row["points"]) == (120, 1000)


def test_of_a_running_summary_the_last_counts(tmp_path):
    for i in range(1, 4):
        write(tmp_path / "in", answer(Window(DAY, DAY + 30 * i), 0, rows=500 * i))
    assert rollup(tmp_path / "in", tmp_path / "out") == 0
    assert rows_in(tmp_path / "out", "summaries")[0]["points"] == 1500


def test_sliding_windows_are_picked_so_that_they_tile(tmp_path, capsys):
    write_windows(tmp_path / "in", 7, length=60.0, period=20.0)
    assert rollup(tmp_path / "in", tmp_path / "out") == 0
    (row,) = rows_in(tmp_path / "out", "summaries")
    assert (row["points"], row["window_end"] - row["window_start"]) == (3000, 180)
    write_windows(tmp_path / "in", 1, length=60.0, period=20.0, first=7)
    assert rollup(tmp_path / "in", tmp_path / "more") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: window: must not overlap, or tile the period as sliding windows do, got 8 from 2026-")
    advice = err.split("; ")[1].split()[:4]
    assert rollup(tmp_path / "in", tmp_path / "more", *advice) == 0
    assert rows_in(tmp_path / "more", "summaries")[0]["points"] == 3000


def at(*pairs):
    return [Identity("in", start, end, "", 1) for start, end in pairs]


@pytest.mark.parametrize(("windows", "picked"), [
    (at((0, 2), (2, 4), (6, 8)), at((0, 2), (2, 4), (6, 8))),
    (at((0, 3), (1, 4), (2, 5), (3, 6)), at((0, 3), (3, 6))),
    (at((0, 3), (1, 4), (2, 5), (3, 6), (9, 12)), at((0, 3), (3, 6), (9, 12))),
    (at((0, 3), (1, 4)), None),
    (at((0, 3), (1, 4), (5, 8)), None),
    (at((0, 3), (1, 4), (2, 5), (4, 7)), None),
    (at((None, None)), at((None, None))),
    (at((0, 1), (0, 2), (0, 3)), at((0, 3))),
])  # fmt: skip
def test_what_tiles(windows, picked):
    for order in (windows, windows[::-1]):
        if picked is None:
            with pytest.raises(ValueError, match="must not overlap"):
                tiling(order)
        else:
            assert tiling(order) == picked


def test_results_of_batch_jobs_with_scaled_columns(tmp_path):
    for i in range(2):
        points = clusters(900, i, np.float64) * [1, 1000, 1e5] + [0, 0, 1.7e9]
        source = write_parquet(tmp_path / f"data{i}", {f"x{j}": points[:, j] for j in range(3)})
        assert summarize_files(source, tmp_path / f"in{i}", "--k", "4", "--shards", "4", "--scale", "standard") == 0
    (tmp_path / "in1" / ".claims" / "run-000001.end").unlink()  # it would say that this is not the run's own scale
    shutil.copy(tmp_path / "in0" / "scale.json", tmp_path / "in1" / "scale.json")
    assert rollup(f"{tmp_path}/in0 {tmp_path}/in1", tmp_path / "out") == 0
    (row,) = rows_in(tmp_path / "out", "summaries")
    assert (row["points"], row["window_start"]) == (1800, None)
    centers = np.array([c["coordinates"] for c in rows_in(tmp_path / "out", "centers")])
    truth = CENTERS * [1, 1000, 1e5] + [0, 0, 1.7e9]
    away = np.abs((centers[:, None] - truth) / [1, 1000, 1e5]).max(axis=2).min(axis=0)
    assert away.max() < 1
    (tmp_path / "in1" / "scale.json").unlink()
    assert rollup(f"{tmp_path}/in0 {tmp_path}/in1", tmp_path / "no") == 2


def test_units_do_not_change_the_cost(tmp_path):
    scale = Scale((5.0, 0.0, -1e6), (2.0, 1e-3, 1e4))
    write(tmp_path / "in", answer(Window(DAY, DAY + 60), 0, scale=scale))
    write(tmp_path / "plain", answer(Window(DAY, DAY + 60), 0))
    text = f'{{"origin": {list(scale.origin)}, "divisor": {list(scale.divisor)}}}'
    (tmp_path / "in" / "scale.json").write_text(text)
    costs = []
    for name in ("in", "plain"):
        assert rollup(tmp_path / name, tmp_path / f"{name}-out") == 0
        costs.append(rows_in(tmp_path / f"{name}-out", "summaries")[0]["cost"])
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)
    assert (tmp_path / "in-out" / "scale.json").read_text() == text


def without_evidence(folder):
    summary = answer(Window(DAY, DAY + 60), 0)
    (one,) = summary.answers
    write(folder, dataclasses.replace(summary, answers=(dataclasses.replace(one, row={**one.row, "evidence": None}),)))


@pytest.mark.parametrize(("options", "message"), [
    (("{in}", "--from", "2027-01-01"), "input: must have windows in the period, got none of "),
    (("{in}", "--keys", "red"), "input: must have windows in the period, got none of "),
    (("{no}",), "input: must hold a summaries table, got "),
    (("{old}",), "evidence: must be in the summaries table to merge windows, got none (written by version "),
    (("{in} {copy}",), "input: must have each time once, got 2026-01-01T00:00:00Z of key '' in "),
    (("{in}", "--k", "0"), "k: must be at least 1, got 0"),
    (("{in}", "--output", "{in}"), "output: must not be what is read, got "),
])  # fmt: skip
def test_what_cannot_be_rolled_up(tmp_path, capsys, options, message):
    places = {name: f"{tmp_path}/{name}" for name in ("in", "copy", "old", "no")}
    write_windows(tmp_path / "in", 2)
    shutil.copytree(tmp_path / "in", tmp_path / "copy")
    without_evidence(tmp_path / "old")
    folder, *rest = (text.format(**places) for text in options)
    before = sorted(tmp_path.rglob("*"))
    output = str(tmp_path / "out")
    if "--output" in rest:
        _, output = rest
        rest = []
    assert rollup(folder, output, *rest) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_result_is_replaced_only_when_asked(tmp_path, capsys):
    write_windows(tmp_path / "in", 2)
    assert rollup(tmp_path / "in", tmp_path / "out") == 0
    assert rollup(tmp_path / "in", tmp_path / "out", "--from", DAY + 60) == 2
    assert "(--overwrite replaces it)" in capsys.readouterr().err
    assert rollup(tmp_path / "in", tmp_path / "out", "--from", DAY + 60, "--overwrite") == 0
    assert [row["points"] for row in rows_in(tmp_path / "out", "summaries")] == [1000]


@pytest.mark.parametrize(("text", "expected"), [
    ("1767225600.5", DAY + 0.5), ("2026-01-01", DAY), ("2026-01-01T00:00:01Z", DAY + 1),
    ("2026-01-01T01:00+01:00", DAY), ("-5", -5.0),
])  # fmt: skip
def test_times_are_read_as_utc(text, expected):
    assert seconds(text) == expected


def test_a_time_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        rollup("in", "out", "--from", "yesterday")
    assert "must be a date or time such as 2026-11-21T08:00, got 'yesterday'" in capsys.readouterr().err
