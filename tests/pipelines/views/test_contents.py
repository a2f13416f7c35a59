"""What a page shows of a folder, against the tables that it is of."""
import json
import os
import pathlib

import duckdb
import numpy as np
import pytest
from jobs import summarize_files, write_parquet
from windows_written import COLUMNS, DAY, MINUTE, answer, minute, points_of, write, write_keys, write_minutes

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.views.contents import contents_at, packed
from beam_coresets.pipelines.views.newest import LEAST_POINTS, Asked, Axes
from beam_coresets.pipelines.views.written import decimals
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.places import NoSummariesError


@pytest.fixture
def folder(tmp_path):
    """Minutes 0 to 5 and 8 to 9; shard 1 is missing in 1, 2, 3, 8 and 9, shards 0 and 1 (which hold the same) in 5."""
    for i in (0, 1, 2, 3, 4, 5, 8, 9):
        write(tmp_path / "out", answer(minute(i), i, missing={5: (0, 1)}.get(i, (1,) if i in (1, 2, 3, 8, 9) else ())))
    return tmp_path / "out"


def milliseconds(i):
    return round((DAY + i * MINUTE) * 1000)


def test_windows_gaps_and_figures_are_those_of_the_tables(folder):
    found = contents_at(str(folder))
    rows = duckdb.sql(
        f"SELECT epoch_ms(window_start), epoch_ms(window_end), coverage, points, cost, cost_low, cost_high, "
        f"epoch(decided_at) - epoch(window_end) FROM read_parquet('{folder}/summaries/**/*.parquet') ORDER BY 1"
    ).fetchall()
    windows, series = found["windows"], found["series"][0]
    assert windows["start"] == [row[0] for row in rows]
    assert windows["end"] == [row[1] for row in rows]
    assert windows["coverage"] == pytest.approx([row[2] for row in rows], rel=1e-4)
    assert windows["points"] == [row[3] for row in rows]
    for name, place in (("cost", 4), ("cost_low", 5), ("cost_high", 6)):
        assert series[name] == pytest.approx([row[place] for row in rows], rel=1e-4)
    assert windows["lag"] == [pytest.approx(row[7], abs=1e-3) for row in rows]
    assert found["gaps"] == {"start": [milliseconds(6)], "end": [milliseconds(8)]}
    assert series["at"] == list(range(8))


def test_a_shard_that_is_away_is_one_run_until_it_answers_or_there_is_no_window(folder):
    missing = contents_at(str(folder))["missing"]
    runs = list(zip(*(missing[name] for name in ("shard", "what", "from", "to", "windows")), strict=True))
    gone = "no answer"
    assert runs == [
        (0, gone, milliseconds(5), milliseconds(6), 1), (1, gone, milliseconds(1), milliseconds(4), 3),
        (1, gone, milliseconds(5), milliseconds(6), 1), (1, gone, milliseconds(8), milliseconds(10), 2),
    ]  # fmt: skip


def test_the_newest_window_is_drawn_and_named(folder):
    found = contents_at(str(folder), asked=Asked(x="z", y="x"))
    latest = found["latest"][0]
    assert (latest["start"], latest["end"]) == (milliseconds(9), milliseconds(10))
    assert latest["axes"] == [*COLUMNS, "principal axis 1", "principal axis 2"]
    assert (latest["x"], latest["y"]) == (2, 0)
    assert latest["names"] == list(COLUMNS)
    drawn = np.stack([latest["points"][f"a{a}"] for a in range(3)], axis=1)
    away = np.linalg.norm(drawn[:, None] - points_of(9)[None], axis=2).min(axis=1)
    assert away.max() < 1e-3, "each is a row of that window, to so many digits"
    assert sum(latest["points"]["weight"]) == pytest.approx(400, rel=1e-3)
    table = duckdb.sql(
        f"SELECT \"index\", weight, coordinates, representative_id FROM "
        f"read_parquet('{folder}/centers/**/{DAY + 9 * MINUTE:.3f}*.parquet') ORDER BY weight DESC"
    ).fetchall()
    centers = latest["centers"]
    assert centers["name"] == [str(row[0]) for row in table]
    assert centers["weight"] == pytest.approx([row[1] for row in table], rel=1e-4)
    assert centers["share"] == pytest.approx([row[1] / 400 for row in table], rel=1e-4)
    assert [centers[f"a{a}"][0] for a in range(3)] == pytest.approx(table[0][2], abs=1e-3)
    assert centers["row"] == [row[3] for row in table]


def test_columns_are_those_of_the_table(folder):
    rows = duckdb.sql(
        f"SELECT column_name, mean, mean_low, p50, p95_high FROM "
        f"read_parquet('{folder}/columns/**/{DAY + 9 * MINUTE:.3f}*.parquet') ORDER BY \"index\""
    ).fetchall()
    shown = contents_at(str(folder))["latest"][0]["marginals"]
    assert shown["name"] == [row[0] for row in rows] == list(COLUMNS)
    assert shown["places"] == [2, 2, 2], "four digits of how far apart 90 % of the rows are"
    for place, name in enumerate(("mean", "mean_low", "p50", "p95_high"), 1):
        for row, value, places in zip(rows, shown[name], shown["places"], strict=True):
            assert value == (None if row[place] is None else round(row[place], places))


def test_principal_axes_are_those_of_the_weighted_points():
    random = np.random.default_rng(3)
    points = random.normal(size=(500, 4)) * [5.0, 1.0, 3.0, 0.1] + 7
    weights = random.uniform(0.5, 2, 500)
    axes = Axes.of(points, weights, points[:2], list("abcd"))
    covariance = np.cov(points.T, aweights=weights, ddof=0)
    values = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    two = np.cov(axes.points[:, 4:].T, aweights=weights, ddof=0)
    assert np.diag(two) == pytest.approx(values[:2])
    assert two[0, 1] == pytest.approx(0, abs=1e-9)
    assert axes.explained == pytest.approx(values[:2] / values.sum())
    assert axes.centers == pytest.approx(axes.points[:2])


def test_columns_of_unlike_units_do_not_make_the_axes_alone():
    """A column in millions would be the first axis by itself; in deviations two columns that go together are."""
    random = np.random.default_rng(4)
    both = random.normal(size=400)
    points = np.stack([random.normal(size=400) * 1e6, both, both + 0.01 * random.normal(size=400)], axis=1)
    axes = Axes.of(points, np.ones(400), points[:1], ["far", "a", "b"])
    assert abs(np.corrcoef(axes.points[:, 3], both)[0, 1]) > 0.99


def test_places_on_earth_are_drawn_as_a_map(tmp_path):
    write(tmp_path / "out", answer(minute(0), 0, columns=("Lat", "speed", "lon")))
    latest = contents_at(str(tmp_path / "out"))["latest"][0]
    assert (latest["map"], latest["axes"][latest["x"]], latest["axes"][latest["y"]]) == (True, "lon", "Lat")


def test_of_many_points_so_many_are_drawn_and_all_are_counted(tmp_path, monkeypatch):
    write_keys(tmp_path / "out", minute(0), {f"k{i}": i for i in range(4)})
    whole = contents_at(str(tmp_path / "out"))["latest"]
    assert [len(latest["points"]["id"]) for latest in whole] == [latest["coreset_points"] for latest in whole]
    monkeypatch.setattr("beam_coresets.pipelines.views.newest.ALL_POINTS", 4 * LEAST_POINTS + 40)
    for latest, all_of_it in zip(contents_at(str(tmp_path / "out"))["latest"], whole, strict=True):
        assert len(latest["points"]["id"]) == LEAST_POINTS + 10
        assert set(latest["points"]["id"]) < set(all_of_it["points"]["id"])
        assert latest["coreset_points"] == all_of_it["coreset_points"]


def far_points(tmp_path, rows=2_000, far=4):
    """Two clusters some metres wide, by latitude and longitude, and rows that are far away, which have centers."""
    random = np.random.default_rng(5)
    points = random.normal(size=(rows, 2)) * 1e-4 + [48.8566, 2.3522] + random.choice([0, 0.002], rows)[:, None]
    points[:far] = np.array([[0, 0], [80, 170], [-80, -170], [10, 2.3522]])[:far]
    write_parquet(tmp_path / "in", {"lat": points[:, 0], "lon": points[:, 1]})
    base = ("--k", "6", "--shards", "2", "--coreset_size", "200")
    assert summarize_files(f"{tmp_path}/in/*", tmp_path / "out", *base) == 0
    return contents_at(str(tmp_path / "out"))["latest"][0], points


def test_few_rows_far_off_do_not_make_all_others_one_spot(tmp_path):
    latest, points = far_points(tmp_path)
    drawn = np.stack([latest["points"][f"a{a}"] for a in (0, 1)], axis=1)
    within = np.ones(len(drawn), bool)
    for a, ends in enumerate(latest["bulk"]):
        low, high = points[4:, a].min(), points[4:, a].max()
        assert low - (high - low) < ends[0] < ends[1] < high + (high - low)
        within &= (drawn[:, a] >= ends[0]) & (drawn[:, a] <= ends[1])
    away = np.abs(drawn - [48.8576, 2.3532]).max(axis=1) > 0.1
    assert (~within == away).sum() >= len(drawn) - 20, "all that are far off, and hardly any others"
    assert (~within[away]).all()
    assert np.abs(drawn[within][:, None] - points[None]).max(axis=2).min(axis=1).max() < 1e-6, "to so many digits"


def test_without_rows_far_off_all_are_drawn(tmp_path, folder):
    assert far_points(tmp_path / "near", far=0)[0]["bulk"] == [None, None]
    assert contents_at(str(folder))["latest"][0]["bulk"] == [None] * 5


def test_centers_near_each_other_have_digits_that_tell_them_apart(tmp_path):
    latest, _ = far_points(tmp_path)
    shown = [tuple(place) for place in latest["centers"]["place"]]
    assert len(set(shown)) == len(shown) == 6
    assert all(round(value, places) == value for place in shown
               for value, places in zip(place, latest["places"], strict=True))  # fmt: skip
    near = far_points(tmp_path / "near", far=0)[0]
    for place in near["centers"]["place"]:
        assert min(np.abs(np.array(place)[None] - np.array([[48.8566, 2.3522], [48.8586, 2.3542]])).max(axis=1)) < 1e-3
    assert near["places"] == [6, 6], "four digits of a spread of two thousandths"
    assert near["marginals"]["places"] == [6, 6]


@pytest.mark.parametrize(("spread", "largest", "places"), [
    (0.002, 48.86, 6), (40.0, 90.0, 2), (5_000.0, 1e5, 0), (1e-8, 1e-8, 11), (1e-12, 1.0, None), (0.0, 3.0, None),
    (float("inf"), 3.0, None), (float("nan"), 3.0, None), (1.0, 1e15, None), (1_000.0, 1.8e9, 0),
])  # fmt: skip
def test_numbers_have_the_digits_that_tell_them_apart(spread, largest, places):
    assert decimals(spread, largest) == places


def test_each_key_has_its_own_and_the_heaviest_comes_first(tmp_path):
    for i in range(3):
        write_keys(tmp_path / "out", minute(i), {"a": i, "b": i + 10})
    found = contents_at(str(tmp_path / "out"), asked=Asked(key="b"))
    assert sorted(found["keys"]) == ["a", "b"]
    assert found["keys"][found["first"]] == "b"
    assert len(found["windows"]["end"]) == 3
    for key, series in zip(found["keys"], found["series"], strict=True):
        costs = [answer(Window(key=key), i + 10 * (key == "b")).answers[0].row["cost"] for i in range(3)]
        assert series["cost"] == pytest.approx(costs, rel=1e-4)
    with pytest.raises(ValueError, match="key: must be one of a, b, got 'c'"):
        contents_at(str(tmp_path / "out"), asked=Asked(key="c"))


def test_a_period_and_a_number_of_windows_can_be_asked_for(folder):
    found = contents_at(str(folder), since=DAY + 2 * MINUTE, until=DAY + 5 * MINUTE)
    assert found["windows"]["start"] == [milliseconds(i) for i in (2, 3, 4)]
    assert found["latest"][0]["end"] == milliseconds(5)
    newest = contents_at(str(folder), most=3)
    assert newest["windows"]["start"] == [milliseconds(i) for i in (5, 8, 9)]
    assert newest["notes"] == ["The newest 3 decisions are shown; there are older ones."]
    with pytest.raises(NoSummariesError, match="must hold windows of that time"):
        contents_at(str(folder), since=DAY + 100 * MINUTE)


def test_a_revision_takes_the_place_of_what_it_revises(tmp_path):
    write(tmp_path / "out", answer(minute(0), 0, missing=(0, 1)))
    write(tmp_path / "out", answer(minute(0, revision=2), 0))
    found = contents_at(str(tmp_path / "out"))
    assert found["windows"]["coverage"] == [1.0]
    assert found["windows"]["revision"] == [2]
    assert found["missing"]["shard"] == []


def test_a_damaged_window_is_named_and_the_others_are_shown(folder):
    (path,) = (folder / "coreset").rglob(f"{DAY + 9 * MINUTE:.3f}-*")
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    (other,) = (folder / "summaries").rglob(f"{DAY + 3 * MINUTE:.3f}-*")
    other.write_bytes(b"")
    found = contents_at(str(folder))
    assert found["latest"][0]["end"] == milliseconds(9)
    assert milliseconds(3) not in found["windows"]["start"]
    assert sorted(str(path in note) for path in (str(path), str(other)) for note in found["notes"]).count("True") == 2


def test_a_key_without_a_whole_window_is_named(tmp_path):
    write(tmp_path / "out", answer(minute(0), 0))
    (path,) = (tmp_path / "out" / "coreset").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(ValueError, match=r"^path: must hold a whole window of each key, .*changed or damaged"):
        contents_at(str(tmp_path / "out"))


def test_a_batch_without_windows_has_no_time(tmp_path):
    write(tmp_path / "out", answer(Window(), 1))
    found = contents_at(str(tmp_path / "out"))
    assert found["windows"]["start"] == [None]
    assert found["gaps"] == {"start": [], "end": []}
    assert len(found["latest"][0]["centers"]["name"]) == 3


def test_no_number_is_written_that_json_has_not(tmp_path):
    write_minutes(tmp_path / "out", range(2))
    found = contents_at(str(tmp_path / "out"))
    found["latest"][0]["answer"].append(["hostile", "</script><script>alert(1)</script>\u2028&"])
    text = packed(found)
    assert "<" not in text
    assert "&" not in text
    assert "NaN" not in text
    assert json.loads(text) == found


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_that_is_no_result_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoSummariesError, match=name):
        contents_at(str(tmp_path / name))


def test_what_of_the_newest_window_is_left_out_is_said(tmp_path, monkeypatch):
    write_minutes(tmp_path, [0])
    assert contents_at(str(tmp_path))["notes"] == []
    for name, module in (("MOST_CENTERS", "newest"), ("MOST_CENTERS", "contents"), ("MOST_MARGINALS", "contents")):
        monkeypatch.setattr(f"beam_coresets.pipelines.views.{module}.{name}", 2)
    found = contents_at(str(tmp_path))
    assert found["notes"] == [
        "Of 3 centers the heaviest 2 are shown.",
        "Of 3 columns the first 2 have their quantiles here.",
    ]
    assert "and the heaviest 2 of 3 centers." in found["alternatives"][0]["points"]


@pytest.mark.parametrize("text", ["k\n", "window_end,key,k,cost,cost_low,cost_high\n", "\0"])
def test_another_curve_is_none(tmp_path, text):
    (tmp_path / "curve.csv").write_text(text)
    with pytest.raises(NoSummariesError, match="must hold a summaries table"):
        contents_at(str(tmp_path))


@pytest.mark.parametrize("line", [",,x,1,1,1", ",", ",,2,y,1,1"])
def test_a_damaged_curve_is_named(tmp_path, line):
    (tmp_path / "curve.csv").write_text(f"window_end,key,k,cost,cost_low,cost_high\n{line}\n")
    with pytest.raises(ValueError, match=r"path: must hold a whole curve\.csv, got '.*' with another"):
        contents_at(str(tmp_path))


def test_a_range_of_k_may_be_in_a_folder_whose_name_is_a_pattern(tmp_path):
    write(tmp_path / "out", answer(Window(), 3))
    assert main(["solve", "--input", str(tmp_path / "out"), "--output", str(tmp_path / "by-k"), "--k", "2:3"]) == 0
    name = (tmp_path / "by-k").rename(tmp_path / "by k [1]?*")
    (name / "k=notes").mkdir()
    assert contents_at(str(name))["keys"] == ["k = 2", "k = 3"]


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_folders_of_earlier_versions_are_shown(version):
    golden = pathlib.Path(__file__).parents[2] / "golden" / version
    for name in ("batch-avro", "batch-jsonl", "batch-parquet", "scaled", "stream", "weak"):
        found = contents_at(str(golden / name))
        assert found["latest"][0]["centers"]["name"], name
        assert found["notes"] == [], name


def test_a_deadline_that_is_no_number_is_none(tmp_path):
    write_minutes(tmp_path, range(2))
    (tmp_path / "schema.json").write_text('{"settings": {"deadline": "soon"}}')
    assert contents_at(str(tmp_path))["deadline"] is None


def test_a_folder_whose_name_is_not_text_has_a_page(tmp_path, capsys):
    name = os.path.join(os.fsencode(tmp_path), b"out\xff")
    try:
        os.mkdir(name)
    except OSError:
        pytest.skip("needs a file system that takes any bytes as names")
    write_minutes(os.fsdecode(name), [0])
    assert main(["report", os.fsdecode(name)]) == 0
    assert os.path.exists(os.path.join(name, b"report.html"))


@pytest.mark.parametrize("output", [".", "/", "file.txt/page.html"])
def test_a_page_that_can_not_be_written_is_one_clear_error(tmp_path, monkeypatch, capsys, output):
    write_minutes(tmp_path / "out", [0])
    (tmp_path / "file.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["report", "out", "--output", output]) == 2
    assert "error: output: must be" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["file.txt", "out"]
