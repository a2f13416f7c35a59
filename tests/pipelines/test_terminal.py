"""What people see: lines of windows below each other, stored results again, what is waited for, times of day."""
import base64
import gzip
import importlib
import io
import json
import os
import re
import time
import types

import pytest
from jobs import clusters, columns_of, rows_in, summarize_files, write_parquet
from rich.console import Console
from rich.text import Text
from windows_written import DAY, MINUTE, answer, minute, write, write_keys

from beam_coresets.pipelines.console import live, show
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running import checkpoints, launch, waiting
from beam_coresets.pipelines.views.contents import curve_of, one_place
from beam_coresets.streaming.windows import Window
from beam_coresets.times import TimeOfDay, iso

JOB = ("--k=4", "--shards=4", "--replication=2", "--coreset_size=40")


def row(**own):
    return {
        "responded": [0, 1, 3], "shards": 4, "stragglers": [2], "decided_at": DAY + 65.0, "window_start": DAY,
        "window_end": DAY + 60.0, "cost": 1.632e9, "cost_low": 1.6e9, "cost_high": 1.664e9, "reason": "deadline",
        "revision": 1, "coverage": 1.0, "points": 504_000, "key": "", "degraded": False, "trust": "measured", **own,
    }  # fmt: skip


def printed(lines, *rows):
    return [Text.from_markup(line).plain for line in (lines.heading(), *(line for r in rows for line in lines.of(r)))]


def test_a_line_has_its_date_and_says_what_is_missing_behind_the_columns():
    heading, line, global_one, day = printed(
        live.Lines(4), row(), row(window_start=None, window_end=None),
        row(window_end=DAY + 86400.0, stragglers=[], key="[bold]k[/]"),
    )  # fmt: skip
    assert heading.split("  ")[0] == "window (UTC)"
    assert line.startswith("2026-11-21 00:00:00 - 00:01:00  3 of 4    deadline ")
    assert line.endswith("5.0 s  1,632,000,000 ± 2.0 %   not 2")
    assert global_one.startswith("global at 2026-11-21 00:01:05   3 of 4")
    assert day.startswith("2026-11-21 00:00 - 11-22 00:00  3 of 4")
    assert day.endswith("  [bold]k[/]")


def test_a_window_in_whose_middle_the_stream_began_says_so():
    began, whole = row(partial=8, coverage=0.0, stragglers=[]), row(partial=8, stragglers=[])
    _, first, second = printed(live.Lines(4), began, whole)
    assert first.endswith("  1,632,000,000 ± 2.0 %   read in part")
    assert second.endswith("  1,632,000,000 ± 2.0 %"), "another shard has read all of it"


def listed(*named):
    out = io.StringIO()
    show.several(named, "out", Console(file=out, width=150))
    return [line.split()[0] for line in out.getvalue().splitlines() if line.strip()]


def one(start, weight):
    return row(window_start=start, total_weight=weight, points=7, centers=3)


def test_windows_are_listed_in_the_order_of_time_and_keys_by_weight():
    windows = [(f"w{i:02}", one(60.0 * i, 1.0 + i % 2)) for i in range(23)]
    assert listed(*windows) == ["window", *(f"w{i:02}" for i in range(3, 23)), "3"], "3 are earlier"
    keys = [(f"k{i:02}", one(0.0, float(i))) for i in range(23)]
    assert listed(*keys) == ["key", *(f"k{i:02}" for i in reversed(range(3, 23))), "3"]


@pytest.mark.parametrize(("width", "coordinates", "basis"), [
    (80, 2, None), (100, 5, None), (130, 6, None), (100, 2, [0.12345] * 16),
])  # fmt: skip
def test_centers_are_as_wide_as_the_terminal(width, coordinates, basis):
    one = {"index": 10, "weight": 204_200.0, "cost": 5.697e6, "representative_id": "points-2.parquet#91612",
           "coordinates": [-26.2123] * 8, "basis": basis}  # fmt: skip
    out = io.StringIO()
    show._print_centers([one] * 3, Console(file=out, width=width))
    lines = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    assert lines[0].split()[:3] == ["center" if basis is None else "subspace", "weight", "cost"]
    assert all(len(line) <= width and "…" not in line for line in lines)
    assert lines[1].count("-26.21") == coordinates


def test_places_in_one_town_have_coordinates_of_their_own():
    digits = show._digits([(48.1134, 11.5215, -3.0), (48.1178, 11.6432, 3.0), (48.1821, 11.5, 0.001)])
    assert show._head([48.1134, 11.5215, 0.00123456], 3, digits) == "48.1134, 11.5215, 0.001235"
    assert show._digits([(5.0, 0.0)] * 2) == show._digits([(5.0, 0.0)]) == [4, 4]


@pytest.mark.parametrize(("n", "said"), [(0, "0"), (27_272.7, "27,273"), (999_999, "999,999"), (17_160_000, "17.2 M")])
def test_few_points_are_not_said_to_be_none(n, said, monkeypatch):
    assert waiting.amount(n) == said
    assert show.speed(n, 1.0) == f"1.0 s, {said} points/s"
    monkeypatch.setattr(launch, "PROGRESS", types.SimpleNamespace(points=int(n), shards=1))
    some = waiting.amount(int(n))
    if n:
        assert launch._stage(2, 1.0, 0, 0) == ("reading", f"{some} points   {some}/s", "1 of 2 shards", 1)
        assert launch._stage(1, 1.0, 0, 0)[2] == "", "where there is one, it is not counted"


@pytest.mark.parametrize(("compiles", "said"), [(True, "compiling, once on this machine"), (False, "the job runs")])
def test_a_first_run_says_that_it_compiles(compiles, said, monkeypatch):
    monkeypatch.setattr(launch, "PROGRESS", types.SimpleNamespace(points=0, shards=0))
    monkeypatch.setattr(launch, "compiling", lambda: compiles)
    assert launch._stage(2, 1.0, 0, 0)[0] == said


@pytest.mark.parametrize(("width", "columns"), [
    (None, ["window (UTC)", "answered", "reason", "coverage", "points", "lag", "cost"]),
    (200, ["window (UTC)", "answered", "reason", "coverage", "points", "lag", "cost"]),
    (104, ["window (UTC)", "answered", "reason", "coverage", "points", "lag", "cost"]),
    (80, ["window (UTC)", "answered", "coverage", "lag", "cost"]),
    (60, ["window (UTC)", "coverage", "cost"]),
    (20, ["window (UTC)", "cost"]),
])  # fmt: skip
def test_columns_stand_below_each_other_at_any_width(width, columns):
    small = row(points=1, cost=None, coverage=0.98765, reason="all", stragglers=[])
    rows = [row(), small, row(window_start=DAY + 86400, window_end=DAY + 86460)]
    rows.append(row(window_start=DAY - 86460, window_end=DAY - 86400, points=1_234_567_890))
    heading, *lines = printed(live.Lines(4, width), *rows)
    assert [name for name in live.Lines(4)._columns if name in heading] == columns
    dated = [line for line in lines if line.endswith("(UTC)")]
    assert dated == ([] if width in (None, 200) else ["2026-11-21 (UTC)", "2026-11-22 (UTC)", "2026-11-19 (UTC)"])
    at = heading.index("cost")
    for line in lines:
        if line not in dated:
            assert line[at - 2 : at] == "  "
            assert line[at] in "1-"
    if width is not None and width >= 60:
        assert all(len(line.removesuffix("  not 2")) <= width for line in lines)


def test_a_stream_is_shown_again_with_what_there_was_to_tell(tmp_path, capsys):
    for i in range(4):
        write(tmp_path / "out", answer(minute(i), i, quick=False, missing=(1,) if i == 3 else ()))
    assert main(["show", str(tmp_path / "out"), "--windows=3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "older windows are left out (--windows)"
    assert [line[:30] for line in out[2:5]] == [
        f"2026-11-21 00:0{i}:00 - 00:0{i + 1}:00" for i in (1, 2, 3)]  # fmt: skip
    assert out[4].endswith("not 1")
    assert out[-1].startswith("3 windows and keys, ")


def test_a_batch_keys_and_a_range_of_k_are_shown_again(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", columns_of(clusters(600)))
    assert summarize_files(source, tmp_path / "out", *JOB) == 0
    said = capsys.readouterr().out.splitlines()
    assert main(["show", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [line for line in said if not line.startswith("speed")]
    assert "columns   x0, x1, x2" in [line.rstrip() for line in said]
    assert main(["solve", f"--input={tmp_path}/out", f"--output={tmp_path}/by-k", "--k=2:4"]) == 0
    said = capsys.readouterr().out
    assert main(["show", str(tmp_path / "by-k")]) == 0
    assert capsys.readouterr().out == said
    assert curve_of(one_place(str(tmp_path / "by-k")))["k"] == [2, 3, 4]
    write_keys(tmp_path / "keys", minute(0), {"a": 1, "b": 2})
    assert main(["rollup", f"--input={tmp_path}/keys", f"--output={tmp_path}/day"]) == 0
    said = capsys.readouterr().out
    assert main(["show", str(tmp_path / "day")]) == 0
    assert capsys.readouterr().out == said
    assert main(["show", str(tmp_path / "in")]) == 2
    assert capsys.readouterr().err.startswith("error: path: must ")


def test_times_of_day_are_of_the_newest_windows_day(tmp_path, capsys):
    assert TimeOfDay.of("15:12:30") == 15 * 3600 + 12 * 60 + 30
    assert [TimeOfDay.of(text) for text in ("24:00", "15", "15:60", "2026-11-21T15:12")] == [None] * 4
    for i in (-1440, 0, 1, 2):  # a day before, and three minutes of the newest day
        write(tmp_path / "in", answer(minute(i), abs(i) % 7, quick=False))
    assert main(["rollup", f"--input={tmp_path}/in", f"--output={tmp_path}/out", "--from", "0:01"]) == 0
    said = capsys.readouterr().out
    assert "times of day are of 2026-11-21 (UTC), on which the newest window starts" in said
    (found,) = rows_in(tmp_path / "out", "summaries")
    assert (found["window_start"], found["window_end"]) == (DAY + MINUTE, DAY + 3 * MINUTE)
    source = write_parquet(tmp_path / "data", columns_of(clusters(300)))
    assert summarize_files(source, tmp_path / "batch", *JOB) == 0
    capsys.readouterr()
    assert main(["rollup", f"--input={tmp_path}/batch", f"--output={tmp_path}/no", "--to", "0:01"]) == 2
    assert capsys.readouterr().err == "error: to: must have its date where no window has a time, got a time of day\n"


def test_a_page_and_a_comparison_take_times_of_day_and_times_as_they_are_printed(tmp_path, capsys):
    for i in (-1440, 0, 1, 2, 3):
        write(tmp_path / "in", answer(minute(i), abs(i) % 7, quick=False))
    assert main(["report", str(tmp_path / "in"), "--from", "00:01", "--to", "2026-11-21 00:03:00 UTC"]) == 0
    said = "times of day are of 2026-11-21 (UTC), on which the newest window starts"
    assert said in capsys.readouterr().out
    held = re.search('id="contents">([^<]+)', (tmp_path / "in" / "report.html").read_text())
    contents = json.loads(gzip.decompress(base64.b64decode(held[1])))
    assert contents["windows"]["start"] == [1000 * (DAY + i * MINUTE) for i in (1, 2)]
    found = []
    asked = ("0:03", "0:00:30"), (iso(DAY + 3 * MINUTE), iso(DAY)), ("00:03 UTC", "2026-11-21 00:00 UTC")
    for window, other in asked:
        assert main(["compare", str(tmp_path / "in"), "--window", window, "--with", other, "--json"]) in (0, 3)
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["window"]["start"] == "2026-11-21T00:03:00+00:00"
    assert found[0]["reference"]["start"] == "2026-11-21T00:00:00+00:00"
    assert found[0] == found[1] == found[2]
    assert main(["compare", str(tmp_path / "in"), "--with-from", "00:00", "--with-to", "0:02"]) in (0, 3)
    assert said in capsys.readouterr().out
    write(tmp_path / "batch", answer(Window(), 1))
    for words in (["report", str(tmp_path / "batch"), "--to", "0:01"],
                  ["compare", str(tmp_path / "in"), str(tmp_path / "batch"), "--with", "0:01"]):  # fmt: skip
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        name = words[-2].strip("-")
        assert line == f"error: {name}: must have its date where no window has a time, got a time of day"


@pytest.mark.parametrize(("words", "module", "slow"), [
    ("plan --shards 8", "plan", ("choose", "_tables")), ("plan --shards 8 --json", "plan", ("choose", "as_json")),
    ("compare {0}/minutes", "compare", ("chosen", "compare")),
    ("verify --input {0}/in/* --coreset {0}/batch", "verify", ("solve_centers", "center_sets")),
])  # fmt: skip
def test_while_a_command_computes_it_says_what_it_waits_for(tmp_path, monkeypatch, words, module, slow):
    source = write_parquet(tmp_path / "in", columns_of(clusters(300)))
    assert summarize_files(source, tmp_path / "batch", *JOB) == 0
    for i in range(2):
        write(tmp_path / "minutes", answer(minute(i), i, quick=False))
    where, told = importlib.import_module(f"beam_coresets.pipelines.{module}"), []

    class Recorder(waiting.Awaited):
        now = None

        def __enter__(self):
            Recorder.now = self._stage
            return super().__enter__()

        def close(self):
            Recorder.now = None
            super().close()

        def tell(self, stage, *args, **options):
            Recorder.now = stage
            super().tell(stage, *args, **options)

    monkeypatch.setattr(where, "Awaited", Recorder)
    for name in slow:
        real = getattr(where, name)

        def noted(*args, real=real, name=name, **options):
            told.append((name, Recorder.now))
            return real(*args, **options)

        monkeypatch.setattr(where, name, noted)
    assert main(words.format(tmp_path).split()) in (0, 3)
    assert {name for name, _ in told} == set(slow)
    assert None not in dict(told).values()
    assert Recorder.now is None


def test_rows_are_assigned_by_the_latest_window(tmp_path, capsys):
    for i in range(3):
        write(tmp_path / "out", answer(minute(i), i, quick=False, columns=("x0", "x1", "x2")))
    source = write_parquet(tmp_path / "in", columns_of(clusters(300)))
    words = ["assign", f"--input={source}", f"--centers={tmp_path}/out"]
    assert main([*words, f"--output={tmp_path}/none"]) == 2
    assert "(choose by --latest, --from, --to and --keys)" in capsys.readouterr().err
    assert main([*words, f"--output={tmp_path}/none", "--latest", "--from", "0:01"]) == 2
    assert capsys.readouterr().err == "error: latest: must be left out with --from and --to, got both\n"
    assert main([*words, f"--output={tmp_path}/latest", "--latest"]) == 0
    assert main([*words, f"--output={tmp_path}/last", f"--from={iso(DAY + 2 * MINUTE)}"]) == 0
    sizes = [(tmp_path / name / "sizes.csv").read_text() for name in ("latest", "last")]
    assert sizes[0] == sizes[1]


def test_the_newest_whole_checkpoint_below_a_folder_is_taken(tmp_path):
    assert checkpoints.newest(str(tmp_path / "nowhere")) is None
    for at, name in enumerate(("a/chk-8", "b/chk-9", "b/chk-10", "b/shared")):
        (tmp_path / name).mkdir(parents=True)
        if name != "b/shared":
            (tmp_path / name / "_metadata").touch()
            os.utime(tmp_path / name / "_metadata", (100 + at // 2, 100 + at // 2))
    (tmp_path / "b" / "chk-11").mkdir()  # under way: without _metadata
    assert checkpoints.newest(str(tmp_path)) == str(tmp_path / "b" / "chk-10")
    assert checkpoints.existing(str(tmp_path)) == (tmp_path / "b" / "chk-10").resolve().as_uri()
    assert checkpoints.existing(str(tmp_path / "a" / "chk-8" / "_metadata")).endswith("/a/chk-8")
    assert checkpoints.existing("s3://bucket/chk-1") == "s3://bucket/chk-1"
    with pytest.raises(ValueError, match=r"^resume_from: must be a folder with a checkpoint's _metadata in it"):
        checkpoints.existing(str(tmp_path / "b" / "shared"))


def test_what_takes_long_is_said_once_where_nothing_moves(monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE", 0.05)
    out = io.StringIO()
    with waiting.Awaited(Console(file=out), "waiting for [the runner]") as awaited:
        while "runner" not in out.getvalue():
            time.sleep(0.01)
        awaited.tell("reading", "1.0 M points")
        while "reading" not in out.getvalue():
            time.sleep(0.01)
        awaited.tell("reading", "2.0 M points")
    assert out.getvalue() == "waiting for [the runner]\nreading   1.0 M points\n"


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True), (True, False)])
def test_short_waits_and_quiet_commands_leave_nothing_behind(terminal, quiet):
    out = io.StringIO()
    with waiting.Awaited(Console(file=out, force_terminal=terminal, quiet=quiet, width=80), "reading", 3) as awaited:
        awaited.tell("reading [all]", "1.0 M points", "1 of 3 shards", 1)
    if terminal and not quiet:
        assert "reading [all]" in out.getvalue()
        assert out.getvalue().endswith("\x1b[2K")  # the bar is wiped away
    else:
        assert out.getvalue() == ""
