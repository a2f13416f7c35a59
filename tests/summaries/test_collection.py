"""What `open_summaries` finds: claimed windows, whole or not at all, and of each the newest revision."""
import datetime
import json
import pathlib
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from windows_written import COLUMNS, DAY, MINUTE, SCALE, answer, minute, points_of, write, write_keys, write_minutes

from beam_coresets import table_schemas, tables
from beam_coresets.pipelines.results_folder.scale_file import write_scale
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries import DamagedFileError, MissingWindows, SkippedFile, open_summaries
from beam_coresets.summaries.places import LocalPlace

UTC = datetime.timezone.utc
GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def nothing_is_skipped():
    """Warnings are errors where a test does not ask for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SkippedFile)
        warnings.simplefilter("error", MissingWindows)
        yield


@pytest.fixture
def folder(tmp_path):
    write_minutes(tmp_path / "out", range(4))
    return tmp_path / "out"


def damage(path):
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")


def file_of(folder, table, i):
    (found,) = (folder / table).rglob(f"{DAY + i * MINUTE:.3f}-*")
    return found


# Windows


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_windows_of_every_format_are_what_was_written(tmp_path, form):
    write_minutes(tmp_path, range(3), form)
    windows = open_summaries(str(tmp_path))
    assert len(windows) == 3
    for i, window in enumerate(windows):
        summary = answer(minute(i), i)
        assert (window.start, window.end) == tuple(
            datetime.datetime.fromtimestamp(DAY + j * MINUTE, UTC) for j in (i, i + 1)
        )
        assert np.array_equal(window.centers, np.array(summary.centers.column("coordinates").to_pylist()))
        row = summary.summaries.to_pylist()[0]
        said = window.certificate
        assert (said.cost.value, said.cost.low, said.cost.high) == (row["cost"], row["cost_low"], row["cost_high"])
        assert said.decided_at == window.end + datetime.timedelta(seconds=2)
        assert (said.responded, said.points, said.trust) == (tuple(row["responded"]), 400, row["trust"])
        assert window.columns == COLUMNS
        assert len(window.coreset) == row["coreset_points"]


def test_the_latest_is_read_from_its_own_files_only(folder, monkeypatch):
    read = []
    whole = LocalPlace.read
    monkeypatch.setattr(LocalPlace, "read", lambda self, path: (read.append(path), whole(self, path))[1])
    window = open_summaries(folder).latest()
    assert window.coreset.mean("x").low < points_of(3)[:, 0].mean() < window.coreset.mean("x").high
    assert window.start == datetime.datetime.fromtimestamp(DAY + 3 * MINUTE, UTC)
    assert all(path == "scale.json" or minute(3).name in path for path in read), read


def test_the_newest_revision_counts(folder):
    write(folder, answer(minute(3, revision=2), 7))
    windows = open_summaries(folder)
    assert len(windows) == 4
    assert windows.latest().revision == windows[-1].revision == 2


def test_a_time_finds_its_window(folder):
    windows = open_summaries(folder)
    for at in ("2026-11-21T00:01:30", "2026-11-21T01:01:30+01:00", DAY + 90, np.datetime64("2026-11-21T00:01:30"),
               datetime.datetime(2026, 11, 21, 0, 1, 30)):  # fmt: skip
        assert windows.window(at).identity.start == DAY + MINUTE
    assert windows.window(DAY + MINUTE).identity.start == DAY + MINUTE, "the start is included, the end is not"
    with pytest.raises(ValueError, match=r"window: must be one of 2026-11-22T00:00:00Z, got none"):
        windows.window("2026-11-22")
    with pytest.raises(ValueError, match="time: must be a datetime or ISO 8601 text, got True"):
        windows.window(True)


def test_of_sliding_and_running_windows_the_first_to_end_holds_a_time(tmp_path):
    for i in range(3):
        write(tmp_path / "sliding", answer(Window(DAY + i * MINUTE, DAY + (i + 2) * MINUTE), i))
        write(tmp_path / "running", answer(Window(DAY, DAY + (i + 1) * MINUTE), i))
    at = DAY + 1.5 * MINUTE
    assert open_summaries(tmp_path / "sliding").window(at).identity[1:3] == (DAY, DAY + 2 * MINUTE)
    assert open_summaries(tmp_path / "running").window(at).identity[1:3] == (DAY, DAY + 2 * MINUTE)
    assert open_summaries(tmp_path / "running").latest().identity[1:3] == (DAY, DAY + 3 * MINUTE)


def test_between_takes_windows_within_and_says_what_is_missing(tmp_path):
    write_minutes(tmp_path, (0, 1, 3, 4))
    windows = open_summaries(tmp_path).between("2026-11-21T00:00:30", "2026-11-21T00:06")
    assert [w.identity.start for w in windows] == [DAY + i * MINUTE for i in (1, 3, 4)]
    gaps = [(g.start.minute, g.start.second, g.end.minute) for g in windows.gaps()]
    assert gaps == [(0, 30, 1), (2, 0, 3), (5, 0, 6)]
    assert [w.identity.start for w in windows.between(end=DAY + 240)] == [DAY + 60, DAY + 180]
    assert len(open_summaries(tmp_path).gaps()) == 1
    with pytest.raises(ValueError, match=r"end: must not be before 2026-11-21T00:00:00Z, got 2026-11-20T00:00:00Z"):
        windows.between("2026-11-21", "2026-11-20")


def test_keys_are_told_apart_within_one_file(tmp_path):
    write_keys(tmp_path, minute(0), {"a": 0, "b/1": 1})
    write_keys(tmp_path, minute(1), {"a": 2})
    windows = open_summaries(tmp_path)
    assert windows.keys() == ["a", "b/1"]
    assert len(windows) == 3
    assert windows.latest().key == "a"
    assert windows.latest(key="b/1").identity.start == DAY
    found = windows.window(DAY, "b/1").to_arrow("coreset")
    assert set(found.column("key").to_pylist()) == {"b/1"}
    with pytest.raises(ValueError, match="key: must be one of a, b/1, got none"):
        windows.window(DAY)
    with pytest.raises(ValueError, match="window: must be one of the collection and key 'c', got none"):
        windows.latest("c")


def test_a_batch_is_one_window_outside_of_time(tmp_path):
    write(tmp_path, answer(Window(), 0))
    window = open_summaries(tmp_path).latest()
    assert (window.start, window.end, len(open_summaries(tmp_path))) == (None, None, 1)
    assert open_summaries(tmp_path).gaps() == []


def test_several_folders_are_one_collection(tmp_path):
    write_minutes(tmp_path / "day=1", (0, 1))
    write_minutes(tmp_path / "day=2", (2,))
    (tmp_path / "day=3").mkdir()
    windows = open_summaries(f"{tmp_path}/day=*")
    assert len(windows) == len(open_summaries([tmp_path / "day=1", tmp_path / "day=2"])) == 3
    assert windows.latest().identity.input.endswith("day=2")
    write_minutes(tmp_path / "day=2", (1,))
    with pytest.raises(ValueError, match=r"path: must have each window and key once, got 2026-11-21T00:01:00Z"):
        len(open_summaries(f"{tmp_path}/day=*"))


# While a stream writes, and what it leaves


def test_a_claimed_window_is_whole_before_its_files_are_moved(folder):
    claim = json.loads((folder / ".claims" / f"{minute(3).name}.json").read_text())
    staged = folder / ".staging" / claim["window"] / claim["staging"]
    for moved in (("summaries",), ("centers", "summaries"), ("coreset", "centers", "summaries")):
        staged.mkdir(parents=True, exist_ok=True)
        for table in moved:
            if (folder / claim["files"][table]["path"]).exists():
                (folder / claim["files"][table]["path"]).rename(staged / f"{table}.parquet")
        window = open_summaries(folder).latest()
        assert window.identity.start == DAY + 3 * MINUTE
        assert len(window.centers) == 3
        assert window.coreset.total_weight.value == pytest.approx(400)


def test_an_unclaimed_window_is_not_there(folder):
    (folder / ".claims" / f"{minute(3).name}.json").unlink()
    windows = open_summaries(folder)
    assert len(windows) == 3
    assert windows.latest().identity.start == DAY + 2 * MINUTE


def test_without_claims_the_tables_are_taken_as_they_are(folder):
    shutil.rmtree(folder / ".claims")
    damage(file_of(folder, "centers", 3))
    windows = open_summaries(folder)
    assert len(windows) == 4
    assert windows[0].coreset.total_weight.value == pytest.approx(400)


@pytest.mark.parametrize("table", ["summaries", "centers", "coreset", "columns"])
def test_a_damaged_file_is_named_skipped_and_counted(folder, table):
    damage(path := file_of(folder, table, 3))
    windows = open_summaries(folder)
    with pytest.warns(SkippedFile, match=f"skipped a window: {table}: must be as it was written, got '{path}' changed"):
        assert windows.latest().identity.start == DAY + 2 * MINUTE
    assert list(windows.skipped) == [str(path)]
    windows.latest()  # is not warned of again
    assert len(windows.checked()) == 3
    assert len(windows.skipped) == 1


def test_a_file_that_is_gone_or_of_no_format_is_skipped_too(folder):
    (gone := file_of(folder, "coreset", 0)).unlink()
    windows = open_summaries(folder)
    with pytest.warns(SkippedFile, match="must be where its claim says"):
        assert len(windows.checked()) == 3
    with pytest.raises(DamagedFileError, match="coreset: must be where its claim says") as error:
        _ = windows[0].coreset
    assert error.value.path == str(gone)
    shutil.rmtree(folder / ".claims")
    damage(file_of(folder, "summaries", 1))
    with pytest.warns(SkippedFile, match="summaries: must be a whole parquet file"):
        assert len(open_summaries(folder)) == 3


def test_a_claim_that_is_gone_is_a_window_that_is_gone(folder):
    windows = open_summaries(folder)
    (folder / ".claims" / f"{minute(3).name}.json").unlink()
    with pytest.warns(SkippedFile, match="gone since the folder was opened"):
        assert windows.latest().identity.start == DAY + 2 * MINUTE


# Rollups and tables


def test_a_rollup_is_what_the_command_makes(folder, tmp_path):
    from jobs import rows_in

    from beam_coresets.pipelines.main import main

    assert main(["rollup", "--input", str(folder), "--output", str(tmp_path / "all"), "--k", "4"]) == 0
    (row,) = rows_in(tmp_path / "all", "summaries")
    period = open_summaries(folder).rollup(k=4)
    assert {name: period.row[name] for name in row} == row
    assert period.identity.start == DAY
    assert period.coreset.total_weight.value == pytest.approx(1600)
    every = np.concatenate([points_of(i) for i in range(4)])
    mean = period.coreset.mean()
    assert np.all(np.abs(mean.value - every.mean(0)) < 2 * (mean.high - mean.low))


def test_a_rollup_says_what_is_missing_and_passes_over_damage(tmp_path):
    write_minutes(tmp_path, (0, 1, 3, 4))
    damage(file_of(tmp_path, "coreset", 4))
    windows = open_summaries(tmp_path)
    with (
        pytest.warns(MissingWindows, match=r"1 gaps in the period, the first from 2026-11-21T00:02:00Z to"),
        pytest.warns(SkippedFile, match="coreset: must be as it was written"),
    ):
        period = windows.rollup()
    assert period.certificate.points == 1200
    assert period.identity[1:3] == (DAY, DAY + 4 * MINUTE)


def test_rollups_of_keys_are_asked_for(tmp_path):
    write_keys(tmp_path, minute(0), {"a": 0, "b": 1})
    windows = open_summaries(tmp_path)
    with pytest.raises(ValueError, match="key: must be one of a, b, or across_keys, got none"):
        windows.rollup()
    assert windows.rollup(key="b").key == "b"
    assert windows.rollup(across_keys=True).certificate.points == 800
    with pytest.raises(ValueError, match="windows: must be some, got none"):
        windows.rollup(key="c")
    with pytest.raises(ValueError, match=r"rollup: must be asked for k, z, .*, got n"):
        windows.rollup(key="a", n=3)


def test_tables_have_named_columns_and_timestamps(folder):
    windows = open_summaries(folder)
    centers = windows.to_arrow("centers")
    assert centers.column_names[:8] == ["window_start", "window_end", "key", "revision", "index", *COLUMNS]
    assert centers.schema.field("window_start").type == pa.timestamp("us", "UTC")
    assert np.array_equal(centers.filter(pc.field("index") == 0).column("x"), [w.centers[0, 0] for w in windows])
    pytest.importorskip("pandas")
    frame = windows.to_pandas("coreset")
    assert np.average(frame.x, weights=frame.weight) == pytest.approx(
        np.mean([points_of(i)[:, 0].mean() for i in range(4)]), abs=1
    )
    assert len(windows.to_pandas()) == 4
    with pytest.raises(ValueError, match="table: must be one of"):
        windows.to_arrow("letters")


def test_a_window_without_rows_whose_columns_nobody_named_has_tables_without_rows(tmp_path):
    write(tmp_path, answer(minute(0), 0, columns=None))
    write(tmp_path, answer(minute(1), 1, columns=None, rows=0))
    windows = open_summaries(tmp_path)
    for table in ("coreset", "centers"):
        assert windows.latest().to_arrow(table).num_rows == 0
        assert windows.to_arrow(table).num_rows == windows.window(DAY).to_arrow(table).num_rows > 0


def test_pandas_is_asked_for_where_it_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for has_tables in (open_summaries(folder), open_summaries(folder).latest()):
        with pytest.raises(ImportError, match=r"pandas: must be installed for to_pandas \(pip install pandas\)"):
            has_tables.to_pandas("coreset")


def test_a_coordinate_named_like_a_column_is_told_apart(tmp_path):
    write(tmp_path, answer(minute(0), 0, columns=("id", "weight", "z")))
    window = open_summaries(tmp_path).latest()
    assert {"coordinates.id", "coordinates.weight", "z", "id", "weight"} <= set(window.to_arrow().column_names)
    write(tmp_path, answer(minute(1), 0, columns=None))
    assert {"f0", "f1", "f2"} <= set(open_summaries(tmp_path).latest().to_arrow("centers").column_names)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("0.*/*/summaries")), ids=lambda p: "/".join(p.parts[-3:-1]))
def test_what_earlier_versions_wrote_is_read(path):
    windows = open_summaries(path.parent)
    assert len(windows) >= 1
    for window in windows:
        assert window.centers.shape == (window.row["centers"], 2)
        assert window.coreset.total_weight.value == pytest.approx(window.certificate.total_weight)
        assert window.coreset.mean().value.shape == (2,)
    assert len(windows.to_arrow("coreset")) >= sum(len(window.coreset) for window in windows)


# Input that can't be read


def test_mixed_columns_are_named(tmp_path):
    write(tmp_path, answer(minute(0), 0))
    write(tmp_path, answer(minute(1), 1, columns=("x", "y", "w")))
    windows = open_summaries(tmp_path)
    with pytest.raises(ValueError, match=r"columns: must have those of the first window \(x, y, z\), got \(x, y, w\)"):
        windows.rollup()
    with pytest.raises(ValueError, match=r"columns: must be the same in all windows, got \(x, y, z\) .*\(x, y, w\)"):
        windows.to_arrow("centers")


def test_columns_in_another_order_are_the_same(tmp_path):
    write(tmp_path, answer(minute(0), 0))
    summary = answer(minute(1), 1)
    turned = [list(np.array(p)[[2, 0, 1]]) for p in summary.coreset.column("coordinates").to_pylist()]
    write(tmp_path, summary)
    path = file_of(tmp_path, "coreset", 1)
    rows = tables.decode(path.read_bytes(), "parquet")
    at = rows.column_names.index("coordinates")
    path.write_bytes(tables.encode(rows.set_column(at, "coordinates", pa.array(turned)), "parquet"))
    summaries = file_of(tmp_path, "summaries", 1)
    row = tables.decode(summaries.read_bytes(), "parquet")
    row = row.set_column(row.column_names.index("columns"), "columns", pa.array([["z", "x", "y"]]))
    summaries.write_bytes(tables.encode(row, "parquet"))
    shutil.rmtree(tmp_path / ".claims")
    mean = open_summaries(tmp_path).rollup().coreset.mean()
    both = np.concatenate([points_of(0), points_of(1)]).mean(0)
    assert np.all(np.abs(mean.value - both) < 2 * (mean.high - mean.low))


def test_folders_without_summaries_are_refused(tmp_path):
    for path, message in (
        (tmp_path, "path: must hold a summaries table, got"), (tmp_path / "none", "path: must be an output folder"),
        ("", "path: must be the name of a folder, got ''"), (f"{tmp_path}/no*", "path: must be an output folder or a"),
        ("nowhere://bucket/out", "path: must be a folder that fsspec reaches, got 'nowhere://bucket/out'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            open_summaries(path)


def test_a_later_version_is_refused_not_skipped(folder):
    path = file_of(folder, "summaries", 3)
    row = tables.decode(path.read_bytes(), "parquet")
    path.write_bytes(
        tables.encode(row.set_column(row.column_names.index("version"), "version", pa.array(["99.0.0"])), "parquet")
    )
    shutil.rmtree(folder / ".claims")
    with pytest.raises(ValueError, match=r"summaries: must be written by beam-coresets .* or older, got version 99"):
        open_summaries(folder).latest()
    claims = folder / ".claims"
    claims.mkdir()
    (claims / f"{minute(3).name}.json").write_text('{"version": 99}')
    with pytest.raises(ValueError, match="output: must hold claims of version 1, got 99"):
        open_summaries(folder).latest()


def test_scales_are_undone_and_used(tmp_path):
    write(tmp_path, answer(minute(0), 0, scale=SCALE))
    write_scale(SCALE, str(tmp_path), COLUMNS)
    window = open_summaries(tmp_path).latest()
    assert window.scale == SCALE
    X, weight = window.coreset.to_sklearn()
    assert np.average(X, 0, weight) == pytest.approx(points_of(0).mean(0), abs=1.5)
    scaled, _ = window.coreset.to_sklearn(scaled=True)
    assert scaled == pytest.approx(SCALE.apply(X), abs=1e-5)
    truth = ((SCALE.apply(points_of(0))[:, None] - SCALE.apply(window.centers)) ** 2).sum(2).min(1).sum()
    cost = window.coreset.cost(window.centers)
    assert cost.low * 0.8 < truth < cost.high * 1.2
    (tmp_path / "scale.json").write_text("{}")
    with pytest.raises(ValueError, match=r"scale.json: must be what summarize writes, got"):
        _ = open_summaries(tmp_path).latest().scale


# Elsewhere


def test_a_remote_folder_is_read_through_fsspec(folder):
    import fsspec

    files = fsspec.filesystem("memory")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        files.pipe(f"/bucket/out/{path.relative_to(folder)}", path.read_bytes())
    for pattern in ("memory://bucket/out", "memory://bucket/o*"):
        windows = open_summaries(pattern)
        assert len(windows) == 4
        assert windows.latest().coreset.total_weight.value == pytest.approx(400)
        assert windows.latest().identity.input == "memory://bucket/out"
    files.rm("/bucket/out/.claims", recursive=True)
    assert len(open_summaries("memory://bucket/out")) == 4
    files.rm("/bucket", recursive=True)
    with pytest.raises(ValueError, match="path: must be an output folder or a glob of some"):
        open_summaries("memory://bucket/out")


def test_it_reads_without_beam(folder):
    code = (
        "import sys\nfrom beam_coresets.summaries import open_summaries\n"
        f"window = open_summaries({str(folder)!r}).latest()\nwindow.coreset.solve(k=2, quick=True)\n"
        "print('apache_beam' in sys.modules, 'fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "False False", done.stderr[-2000:]


def test_events_of_all_keys_and_of_one(tmp_path):
    """Those of a window as a whole have no key."""
    from beam_coresets.results.summary import summary_of_keys
    from beam_coresets.streaming.events import Event
    from beam_coresets.transforms.writing.claims import Claims, order_of

    claims = Claims(str(tmp_path), wanted=order_of(False, False, True))
    lost, born = Event("coverage_lost", "A part is missing.", size=0.5), Event("born", "There it is.", "c", None, 0.1)
    for i, told in enumerate([(), (("", lost), ("red", born), ("blue", born)), (("red", born),)]):
        answers = [answer(minute(i, key), i) for key in ("red", "blue")]
        assert claims.publish(summary_of_keys(minute(i), answers, told=told))
    windows = open_summaries(tmp_path)
    assert [(row["key"], row["kind"], row["size"]) for row in windows.events().to_pylist()] == [
        ("", "coverage_lost", 0.5), ("red", "born", 0.1), ("blue", "born", 0.1), ("red", "born", 0.1),
    ]  # fmt: skip
    assert windows.events("born").num_rows == 3
    assert windows.of_keys("blue").events().column("key").to_pylist() == ["", "blue"]
    later = windows.between("2026-11-21T00:02").events()
    assert [at.minute for at in later.column("window_start").to_pylist()] == [2]
    assert windows.latest("red").to_arrow("events").num_rows == 1
    assert windows.between(end="2026-11-21T00:01").events().num_rows == 0


def test_what_columns_look_like_of_the_newest_revisions_of_some_keys(tmp_path):
    write_keys(tmp_path, minute(0), {"red": 0, "blue": 1})
    write(tmp_path, answer(minute(1, "red"), 2))
    write(tmp_path, answer(minute(1, "red", revision=2), 3))
    windows = open_summaries(tmp_path)
    found = windows.marginals()
    assert found.schema.equals(table_schemas.COLUMNS)
    assert [(row["key"], row["window_start"].minute, row["revision"], row["column_name"]) for row in
            windows.of_keys("red").marginals("z", "x").to_pylist()] == [
        ("red", 0, 1, "x"), ("red", 0, 1, "z"), ("red", 1, 2, "x"), ("red", 1, 2, "z")]  # fmt: skip
    assert len(found) == 9
    assert windows.latest("red").marginals.equals(windows.between("2026-11-21T00:01").marginals())
    assert windows.latest("red").marginals.equals(answer(minute(1, "red", revision=2), 3).columns)


def test_what_columns_look_like_in_windows_of_a_version_that_did_not_say(tmp_path):
    """Before and after the day has been compacted, together with windows of this version."""
    from beam_coresets.transforms.writing.claims import Claims
    from beam_coresets.transforms.writing.compaction import Compaction

    earlier = Claims(str(tmp_path), wanted=("coreset", "centers", "summaries"))
    summaries = [answer(minute(i), i, quick=False) for i in range(3)]
    for i, claims in enumerate((earlier, Claims(str(tmp_path)), earlier)):
        assert claims.publish(summaries[i])
    wanted = pa.concat_tables([summary.columns for summary in summaries])

    def check():
        found = open_summaries(tmp_path).marginals()
        assert found.select(table_schemas.COLUMNS.names[:8]).equals(wanted.select(table_schemas.COLUMNS.names[:8]))
        for name in table_schemas.COLUMNS.names[8:]:
            assert found.column(name).to_pylist() == pytest.approx(wanted.column(name).to_pylist(), rel=1e-6)

    check()
    assert [done.windows for done in Compaction(Claims(str(tmp_path), wanted=()), keep=0).run(DAY + 3 * 86400)] == [3]
    assert len(list((tmp_path / "columns").rglob("*.parquet"))) == 1
    check()
