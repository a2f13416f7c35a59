"""Score: rows and blocks of a stream by the last claimed window, each with its own time."""
import dataclasses
from typing import NamedTuple, get_args

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.typehints.row_type import RowTypeConstraint
from jobs import LOCAL, TWO_WORKERS, counters, run
from windows_written import minute, points_of, write_keys, write_minutes

from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.summaries import open_summaries
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.rows import latest_window
from beam_coresets.transforms.rows.latest_window import SCHEMA
from beam_coresets.transforms.rows.score_rows import Score, scored_type

N = 500


class Place(NamedTuple):
    """A row with a schema."""

    name: str
    x: float
    y: float
    z: float


beam.coders.registry.register_coder(Place, beam.coders.RowCoder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("scores")
    write_minutes(made, [0, 1])
    return str(made)


@pytest.fixture(scope="module")
def expected(folder):
    """The columns that N points must get."""
    window = open_summaries(folder).latest()
    found = window.coreset.score(points_of(5, N))
    ids = window.to_arrow("centers").column("center_id").to_pylist()
    columns = found.labels.tolist(), [ids[i] for i in found.labels], found.distances, found.scores, found.quantiles
    return list(zip(*(list(column) for column in columns), strict=True))


def rows_of(points):
    return [{"name": f"row {i}", "x": x, "y": y, "z": z} for i, (x, y, z) in enumerate(points.tolist())]


def scored(rows, score, declared=None, options=LOCAL):
    def build(pipeline):
        made = pipeline | beam.Create(rows)
        made = made | beam.Map(lambda row: row).with_output_types(declared) if declared else made
        result = made | score
        return {"rows": result.rows, "letters": result.dead_letters}

    held, result = run(build, options)
    return held["rows"], held["letters"], counters(result)


def test_dicts_get_five_fields_more(folder, expected):
    rows, letters, counted = scored(rows_of(points_of(5, N)), Score(folder), options=TWO_WORKERS)
    assert letters == []
    assert counted["rows_scored"] == N
    for row in rows:
        assert list(row) == ["name", "x", "y", "z", *SCHEMA.names]
        assert tuple(row[name] for name in SCHEMA.names) == expected[int(row["name"].split()[1])]
    assert len({row["name"] for row in rows}) == N


def test_rows_with_a_schema_keep_it(folder, expected):
    rows, _, _ = scored([Place(**row) for row in rows_of(points_of(5, N))], Score(folder), Place)
    for row in rows:
        assert tuple(getattr(row, name) for name in SCHEMA.names) == expected[int(row.name.split()[1])]
    assert len(rows) == N
    fields = dict(scored_type(Place)._fields)
    assert fields["name"] is str
    assert {name: get_args(fields[name])[0] for name in ("cluster", "quantile")} == {"cluster": int, "quantile": float}


def test_vectors_go_under_a_name(folder, expected):
    rows, _, _ = scored(points_of(5, N).tolist(), Score(folder))
    place = {tuple(point): i for i, point in enumerate(points_of(5, N).tolist())}
    assert len(rows) == N
    for row in rows:
        assert tuple(row[name] for name in SCHEMA.names) == expected[place[tuple(row["point"])]]


def test_blocks_keep_their_columns(folder, expected):
    extras = pa.table({"id": [f"row {i}" for i in range(N)], "kept": list(range(N))})
    (block,) = blocks_of(points_of(5, N))
    block = PointBlock(block.points, block.weights, block.ids, block.span, None, extras)
    rows, letters, _ = scored([block], Score(folder), PointBlock)
    assert letters == []
    (assigned,) = rows
    assert assigned.table.column_names == ["id", *SCHEMA.names, "kept"]
    assert [tuple(row.values()) for row in assigned.table.select(SCHEMA.names).to_pylist()] == expected
    assert assigned.table.column("id").to_pylist() == extras.column("id").to_pylist()


def test_refused_rows_are_dead_letters(folder):
    good, bad = rows_of(points_of(5, 9)), {"name": "bad", "x": 1.0, "y": None, "z": "?"}
    rows, letters, counted = scored([*good, bad], Score(folder))
    assert sorted(row["name"] for row in rows) == [row["name"] for row in good]
    assert [letter.column_name for letter in letters] == ["y"]
    assert counted["dead_letters"] == 1


def test_before_the_first_window_fields_are_null(tmp_path):
    rows, _, counted = scored(rows_of(points_of(5, 9)), Score(str(tmp_path)))
    assert {row[name] for row in rows for name in SCHEMA.names} == {None}
    assert counted["rows_without_window"] == len(rows) == 9
    (assigned,), _, _ = scored(list(blocks_of(points_of(5, 9))), Score(str(tmp_path)), PointBlock)
    assert assigned.table.select(SCHEMA.names).to_pylist() == [dict.fromkeys(SCHEMA.names)] * 9


def test_fields_that_are_there_already_are_refused(folder):
    with pytest.raises(ValueError, match=r"rows: must have no field .*, got cluster"):
        scored_type(RowTypeConstraint.from_fields([("cluster", str)]))
    with pytest.raises(Exception, match=r"rows: must have no field .*, got score"):
        scored([{"x": 1.0, "y": 0.0, "z": 0.0, "score": 2}], Score(folder))


_SEEN = []


def _note(row, timestamp=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam):
    _SEEN.append((row["name"], float(timestamp), float(window.start)))


def test_rows_of_a_stream_keep_their_times_and_windows(folder):
    """Also of several windows in one bundle."""
    rows = [TimestampedValue(row, 7.5 * i) for i, row in enumerate(rows_of(points_of(5, 20)))]
    _SEEN.clear()
    options = PipelineOptions(["--streaming", "--allow_unsafe_triggers"])
    with beam.Pipeline("BundleBasedDirectRunner", options=options) as p:
        stream = test_stream.TestStream().add_elements(rows[:12]).advance_watermark_to(80).add_elements(rows[12:])
        made = p | stream.advance_watermark_to_infinity() | beam.WindowInto(FixedWindows(60))
        _ = (made | Score(folder)).rows | beam.Map(_note)
    assert sorted(_SEEN, key=lambda seen: seen[1]) == [
        (f"row {i}", 7.5 * i, 60 * (7.5 * i // 60)) for i in range(20)
    ]


def test_one_look_serves_many_elements(folder, monkeypatch):
    looks = []
    real = open_summaries
    monkeypatch.setattr(
        "beam_coresets.transforms.rows.latest_window.open_summaries", lambda path: looks.append(path) or real(path)
    )
    blocks = list(blocks_of(points_of(5, N), rows=20))
    rows, _, _ = scored(blocks, Score(folder), PointBlock)
    assert (len(rows), len(looks)) == (25, 1)
    assert np.concatenate([row.table.column("cluster").to_numpy() for row in rows]).size == N


KEYS = {"a": 1, "b": 2, "": 3}  # key -> number of its points


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """Two windows: the later one has no key b any more, whose window stays the first."""
    made = tmp_path_factory.mktemp("keyed")
    write_keys(made, minute(0), {"a": 4, "b": KEYS["b"]})
    write_keys(made, minute(1), {"a": KEYS["a"], "": KEYS[""]})
    return str(made)


def by_own_key(folder, points, keys):
    """What each point must get, from its key's last window."""
    windows = {key: open_summaries(folder).latest(key).coreset for key in KEYS}
    return [None if key not in windows else windows[key].score(points[i : i + 1]).distances[0]
            for i, key in enumerate(keys)]  # fmt: skip


def test_rows_are_scored_by_their_own_keys_window(keyed):
    points, named = points_of(5, 40), ["a", "b", None, "new"] * 10
    rows = [{**row, "who": key} for row, key in zip(rows_of(points), named, strict=True)]
    expected = by_own_key(keyed, points, ["" if key is None else key for key in named])
    found, letters, counted = scored(rows, Score(keyed, key_column="who"))
    assert (len(found), letters, counted["rows_scored"], counted["rows_without_window"]) == (40, [], 30, 10)
    for row in found:
        i = int(row["name"].split()[1])
        assert row["who"] == named[i]
        assert row["distance"] == expected[i]
    with_key = Score(keyed, Columns(columns=("x", "y", "z")), key="a")
    assert [row["distance"] for row in scored(rows, with_key)[0]] != [row["distance"] for row in found]


def test_blocks_are_scored_by_their_own_keys_window(keyed):
    points, named = points_of(5, 40), ["b", "a", None, "a", "new"] * 8
    (block,) = blocks_of(points)
    block = dataclasses.replace(block, extras=pa.table({"id": [str(i) for i in range(40)], "who": named}))
    (rows,), _, counted = scored([block], Score(keyed, key_column="who"), PointBlock)
    expected = by_own_key(keyed, points, ["" if key is None else key for key in named])
    assert rows.table.column("distance").to_pylist() == expected
    assert rows.table.column("who").to_pylist() == named
    assert (counted["rows_scored"], counted["rows_without_window"]) == (32, 8)


def test_the_folder_is_listed_once_for_all_keys(keyed, monkeypatch):
    looks = []
    monkeypatch.setattr(latest_window, "open_summaries", lambda path: looks.append(path) or open_summaries(path))
    now = [0.0]
    windows = latest_window.LatestWindows(keyed, 60.0, lambda: now[0])
    assert [windows.get(key) is None for key in ("a", "b", "", "new")] == [False, False, False, True]
    assert len(looks) == 1
    held, now[0] = windows.get("a"), 61.0
    assert windows.get("a") is held
    assert len(looks) == 2
    monkeypatch.setattr(latest_window, "MOST_KEYS", 2)
    for key in ("a", "b", ""):
        windows.get(key)
    assert list(windows._keys) == ["b", ""]


@pytest.mark.parametrize(("rows", "declared", "message"), [
    ([{"x": 1.0}], None, "key_column: must be a field of the rows, got 'who' of \\['x'\\]"),
    ([next(iter(blocks_of(np.ones((3, 3)))))], PointBlock, "key_column: must be one of the blocks' extras, got 'who'"),
])
def test_rows_without_the_key_column_are_an_error(keyed, rows, declared, message):
    with pytest.raises(Exception, match=message):
        scored(rows, Score(keyed, key_column="who"), declared)
    with pytest.raises(ValueError, match="key: must be left out with key_column 'who', got 'a'"):
        Score(keyed, key="a", key_column="who")


def test_the_time_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match="every: must be positive, got 0"):
        Score("out", every=0)
