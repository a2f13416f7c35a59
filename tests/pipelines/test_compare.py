"""`beam-coresets compare`, whole: stored windows in, a table or JSON and an exit code out."""
import json

import numpy as np
import pytest
from jobs import CENTERS, clusters

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.results_folder.scale_file import write_scale
from beam_coresets.points.block import blocks_of
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing.claims import Claims

FIGURES = ("excess", "excess_low", "excess_high", "moved", "moved_low", "moved_high", "shift", "probability")
DAY = 1767225600.0  # 2026-01-01
SCHEME = Assignment(4, 2, "cyclic", 64)
COLUMNS = tuple(f"c{t}" for t in range(CENTERS.shape[1]))


def write(folder, number, shift=0.0, start=DAY, z=2.0, columns=COLUMNS, order=None, rows=4000):
    """A window of so many rows, of which those of the first center are elsewhere by `shift`."""
    points = clusters(rows, number)
    near = np.linalg.norm(points - CENTERS[0], axis=1) < np.linalg.norm(points - CENTERS[1], axis=1)
    points[near] += np.float32(shift)
    points = points if order is None else np.ascontiguousarray(points[:, order])
    sampler = Sampler(len(CENTERS), 160, z)
    reports = shard_reports(blocks_of(points, rows=500), MergeReduce(sampler, SCHEME, seed=number))
    window = Window() if start is None else Window(start, start + 60.0)
    asked = Question(sampler, columns=columns)
    Claims(str(folder)).publish(summarize(decide(reports, Policy(SCHEME)), asked, window))


def compare(*words):
    return main(["compare", *map(str, words)])


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Six quiet windows and a seventh that is elsewhere."""
    folder = tmp_path_factory.mktemp("stream") / "out"
    for i in range(7):
        write(folder, i, 3.0 * (i == 6), DAY + 60 * i)
    return folder


def test_the_last_window_of_a_folder_is_compared_with_the_one_before(stream, capsys):
    assert compare(stream, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["drifted"] is True
    assert found["probability"] < found["false_alarms"] == 0.001
    assert found["window"]["start"] == "2026-01-01T00:06:00+00:00"
    assert found["reference"]["start"] == "2026-01-01T00:05:00+00:00"
    assert found["excess_low"] > 0
    assert 0 <= found["moved_low"] <= found["moved"] <= found["moved_high"] <= 1
    assert len(found["clusters"]) == len(found["centers"]) == len(CENTERS)
    assert found["centers"][0]["shift"] == found["shift"] > 1
    assert found["centers"][0]["representative_id"]
    assert 0 < len(found["rows"]) <= 5
    assert sum(each["now"] for each in found["clusters"]) == pytest.approx(1)


def test_quiet_windows_named_by_time_have_not_drifted(stream, capsys):
    assert compare(stream, "--window", "2026-01-01T00:03:30", "--with", "2026-01-01T00:01:00") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "2026-01-01T00:03:00Z to 2026-01-01T00:04:00Z compared with 2026-01-01T00:01:00Z" in shown
    assert "drifted no" in shown
    assert "representative" in shown


def test_periods_are_rolled_up(stream, capsys):
    words = ("--from", "2026-01-01T00:03:00", "--to", "2026-01-01T00:06:00")
    assert compare(stream, *words, "--with-to", "2026-01-01T00:03:00", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["window"]["points"] == found["reference"]["points"] == 12_000


def test_windows_without_rows_at_the_end_of_a_stream_are_passed_over(tmp_path, capsys):
    for i, rows in enumerate((4000, 0, 4000, 0, 0)):
        write(tmp_path, i, 0.0, DAY + 60 * i, rows=rows)
    assert compare(tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    starts = [found[side]["start"] for side in ("window", "reference")]
    assert starts == ["2026-01-01T00:02:00+00:00", "2026-01-01T00:00:00+00:00"]
    assert compare(tmp_path, "--window", "2026-01-01T00:03:00") == 1, "asked for by its time"
    assert "nothing to compare" in capsys.readouterr().err


def test_a_stream_without_any_rows_has_nothing_to_compare(tmp_path, capsys):
    for i in range(2):
        write(tmp_path, i, 0.0, DAY + 60 * i, rows=0)
    assert compare(tmp_path) == 1
    assert "nothing to compare: 2026-01-01T00:01:00Z" in capsys.readouterr().err


def test_a_batch_needs_another_one(tmp_path, capsys):
    write(tmp_path / "a", 1, start=None)
    assert compare(tmp_path / "a") == 2
    assert "reference: must be given beside" in capsys.readouterr().err


def test_two_folders_of_batches(tmp_path, capsys):
    for name, number, shift in (("a", 1, 0.0), ("b", 2, 0.0), ("c", 3, 3.0)):
        write(tmp_path / name, number, shift, start=None)
    assert compare(tmp_path / "b", tmp_path / "a") == 0
    assert compare(tmp_path / "c", tmp_path / "a") == 3
    assert compare("--input", tmp_path / "c", "--reference", tmp_path / "a") == 3
    assert "drifted yes" in " ".join(capsys.readouterr().out.split())


def test_columns_in_another_order_are_put_in_order(tmp_path):
    order = list(range(len(COLUMNS)))[::-1]
    write(tmp_path / "a", 1, start=None)
    write(tmp_path / "b", 2, start=None, columns=COLUMNS[::-1], order=order)
    assert compare(tmp_path / "b", tmp_path / "a") == 0


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"z": 1.0}, "reference: must have z 2.0 as what is compared with it, got 1.0"),
        (
            {"columns": (*COLUMNS[:-1], "speed")},
            "reference: must have the columns of what is compared with it, got "
            f"without {COLUMNS[-1]} and with speed",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(tmp_path, capsys, other, said):
    write(tmp_path / "a", 1, start=None)
    write(tmp_path / "b", 2, start=None, **other)
    assert compare(tmp_path / "a", tmp_path / "b") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--window", "2026-01-01T00:00:30"), "with: must be a window before"),
        (("--window", "2026-01-01T00:00:30", "--with", "2026-01-01T00:00:00"), "with: must be another window"),
        (("--window", "0", "--from", "0"), "window: must be left out with from and to"),
        (("--with", "0", "--with-from", "0"), "with: must be left out with with_from and with_to"),
        (("--window", "2027-01-01"), "window: must be one of"),
    ],
)
def test_windows_that_are_not_there_are_refused(stream, capsys, words, said):
    assert compare(stream, *words) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_summaries_is_refused(tmp_path, capsys):
    assert compare(tmp_path) == 2
    assert "must hold a summaries table" in capsys.readouterr().err
    assert main(["compare"]) == 2
    assert "input: must be given" in capsys.readouterr().err


def test_a_reference_of_another_scale_is_brought_to_the_windows(tmp_path, capsys):
    """All columns by one factor: what is compared with what does not show in any figure."""
    found = []
    for mine, its in ((1.0, 1.0), (1.0, 4.0), (4.0, 1.0), (4.0, 4.0)):
        for name, number, divisor in (("a", 1, mine), ("b", 2, its)):
            folder = tmp_path / f"{name}{mine}{its}"
            write(folder, number, start=None)
            write_scale(Scale((0.0,) * len(COLUMNS), (divisor,) * len(COLUMNS)), str(folder), COLUMNS)
        assert compare(tmp_path / f"a{mine}{its}", tmp_path / f"b{mine}{its}", "--json") == 0
        found.append(json.loads(capsys.readouterr().out))
    for each in found[1:]:
        assert all(each[name] == pytest.approx(found[0][name], rel=1e-6, abs=1e-12) for name in FIGURES)
