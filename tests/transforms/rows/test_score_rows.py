"""Score: rows and blocks of a stream by the last claimed window, each with its own time."""
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
from windows_written import points_of, write_minutes

from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.summaries import open_summaries
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


def test_the_time_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match="every: must be positive, got 0"):
        Score("out", every=0)
