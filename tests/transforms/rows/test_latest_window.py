"""LatestWindow: the window that was claimed last, looked for now and then, and kept where looking fails."""
import logging

import numpy as np
import pytest
from windows_written import COLUMNS, DAY, SCALE, answer, minute, points_of, write, write_keys, write_minutes

from beam_coresets.results.summary import with_identities
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries import open_summaries
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.rows.latest_window import LatestWindow, WindowScorer


class Clock:
    """Tells the seconds that it is set to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_later_window_is_seen_at_the_next_look_and_not_before(tmp_path, clock):
    latest = LatestWindow(str(tmp_path), every=30, clock=clock)
    assert latest.get() is None
    write_minutes(tmp_path, [0])
    assert latest.get() is None
    clock.now = 30
    first = latest.get()
    assert first.name == "2026-11-21T00:00:00Z/2026-11-21T00:01:00Z-r1"
    write_minutes(tmp_path, [1])
    clock.now = 59
    assert latest.get() is first
    clock.now = 60
    second = latest.get()
    assert second.window.start > first.window.start
    clock.now = 90
    assert latest.get() is second, "nothing new: nothing is made again"


def test_a_revision_takes_the_place_of_its_window(tmp_path, clock):
    write_minutes(tmp_path, [0])
    latest = LatestWindow(str(tmp_path), every=1, clock=clock)
    assert latest.get().window.revision == 1
    write(tmp_path, answer(minute(0, revision=2), 7))
    clock.now = 1
    assert latest.get().window.revision == 2


def test_only_the_files_of_the_last_window_are_read(tmp_path):
    write_minutes(tmp_path, range(3))
    earlier = [path for path in tmp_path.rglob("*.parquet") if not path.name.startswith(f"{DAY + 120:.0f}")]
    assert len(earlier) >= 6
    for path in earlier:
        path.unlink()
    assert LatestWindow(str(tmp_path)).get().window.identity.start == DAY + 120


def test_windows_without_rows_are_passed_over(tmp_path, clock):
    write_minutes(tmp_path, [0])
    write(tmp_path, answer(minute(1), 0, rows=0))
    latest = LatestWindow(str(tmp_path), every=1, clock=clock)
    assert latest.get().window.identity.start == DAY
    write(tmp_path, answer(minute(2), 0, rows=0))
    clock.now = 1
    assert latest.get().window.identity.start == DAY


def test_keys(tmp_path):
    write_keys(tmp_path, minute(0), {"a": 0, "b": 1})
    with pytest.raises(ValueError, match="key: must be one of a, b, got none"):
        LatestWindow(str(tmp_path)).get()
    assert LatestWindow(str(tmp_path), "b").get().window.key == "b"
    assert LatestWindow(str(tmp_path), "c").get() is None


def test_what_is_held_outlasts_a_folder_that_is_away(tmp_path, clock, caplog):
    folder = tmp_path / "out"
    write_minutes(folder, [0])
    latest = LatestWindow(str(folder), every=1, clock=clock)
    held = latest.get()
    write_minutes(folder, [1])
    (folder / "scale.json").write_text("{")
    clock.now = 1
    with caplog.at_level(logging.WARNING):
        assert latest.get() is held
    assert "stays at window 2026-11-21T00:00:00Z" in caplog.text
    folder.rename(tmp_path / "away")
    clock.now = 2
    assert latest.get() is held


@pytest.mark.parametrize("every", [0, -1.0, float("nan")])
def test_times_are_positive(every):
    with pytest.raises(ValueError, match="every: must be positive"):
        LatestWindow("out", every=every)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    write_minutes(folder, [0], scale=SCALE)
    return WindowScorer(open_summaries(str(folder)).latest())


def test_numbers_are_those_of_the_library(scorer):
    points = points_of(3, 100)
    expected, table = scorer.window.coreset.score(points), scorer.scored(points)
    assert table.column("cluster").to_numpy().tolist() == expected.labels.tolist()
    assert table.column("distance").to_numpy().tolist() == expected.distances.tolist()
    assert table.column("score").to_numpy().tolist() == expected.scores.tolist()
    assert table.column("quantile").to_numpy().tolist() == expected.quantiles.tolist()
    ids = scorer.window.to_arrow("centers").column("center_id").to_pylist()
    assert table.column("center_id").to_pylist() == [ids[label] for label in expected.labels]
    turned = scorer.scored(points[:, ::-1], COLUMNS[::-1])
    assert turned.equals(table)


def test_centers_go_by_their_names(tmp_path):
    """Beside those that ended with the window."""
    write(tmp_path, with_identities(answer(minute(0), 0), "abc", [1.0] * 3, [None] * 3, [("gone", 0.0, "a")]))
    scorer = LatestWindow(str(tmp_path)).get()
    table = scorer.scored(scorer.window.centers)
    assert table.column("cluster").to_pylist() == [0, 1, 2]
    assert table.column("center_id").to_pylist() == ["a", "b", "c"]


def test_rows_of_any_kind_are_scored_alike(scorer):
    points = points_of(3, 50)
    table, good, letters = scorer.scored_rows(list(points))
    assert (good.tolist(), letters) == (list(range(50)), [])
    dicts = [{"z": z, "other": "?", "y": y, "x": x} for x, y, z in points.tolist()]
    for rows in (points.tolist(), dicts):
        assert scorer.scored_rows(rows)[0].equals(table)
    turned = scorer.scored_rows(dicts, Columns(columns=("z", "x", "y")))[0]
    assert turned.equals(table)
    with pytest.raises(ValueError, match="columns: must have those of the window"):
        scorer.scored_rows([{"a": 1.0, "b": 2.0, "c": 3.0}], Columns(columns=("a", "b", "c")))


def test_rows_that_are_no_points_are_told_apart(scorer):
    rows = [{"x": 1.0, "y": 2.0, "z": 3.0}, {"x": None, "y": 2.0, "z": 3.0}, {"x": 1.0, "y": float("nan"), "z": 3.0}]
    table, good, letters = scorer.scored_rows(rows)
    assert (len(table), good.tolist()) == (1, [0])
    assert [(letter.reason, letter.column_name) for letter in letters] == [("null", "x"), ("nan", "y")]
    table, good, letters = scorer.scored_rows(rows[1:])
    assert (len(table), len(good), len(letters)) == (0, 0, 2)
    table, good, letters = scorer.scored_rows([np.array([1.0, np.inf, 0.0]), np.zeros(3)])
    assert (len(table), good.tolist(), letters[0].reason) == (1, [1], "infinite")


def test_a_batch_without_windows_has_a_name(tmp_path):
    write(tmp_path, answer(Window(), 0))
    assert LatestWindow(str(tmp_path)).get().name == "global-r1"
