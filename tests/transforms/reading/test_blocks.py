"""Parts, ids, spans and the Beam face of the sources."""
import collections
import itertools
import shutil
import typing

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets import hashing
from beam_coresets.points.block import PointBlock, Span, concatenate_extras
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading import parts
from beam_coresets.transforms.reading.blocks import BlocksFromRows, ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.identities import content_ids
from beam_coresets.transforms.reading.parts import Part, in_lanes, plan_parts, row_names
from beam_coresets.transforms.reading.python_rows import batch_of_rows, coordinate_names, declared_types, settled
from beam_coresets.transforms.reading.rows import build

ROWS = 2000


def rows_of(seed, n=ROWS, d=3):
    return hashing.generator("sources", seed).normal(size=(n, d)).astype(np.float32)


def write_parquet(path, rows, group_size=300):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({f"x{j}": rows[:, j] for j in range(rows.shape[1])}), path, row_group_size=group_size)


COLLECTED = collections.defaultdict(list)  # filled by name, as what a pipeline pickles is copied


def collect(name, value):
    COLLECTED[name].append(value)


def run(build):
    """The elements of `.blocks` and `.dead_letters` that a pipeline makes, and its counters."""
    COLLECTED.clear()
    with beam.Pipeline(FnApiRunner(), options=PipelineOptions([])) as pipeline:
        outputs = build(pipeline)
        outputs.blocks | beam.Map(PointBlock.to_bytes) | "Blocks" >> beam.Map(lambda raw: collect("blocks", raw))
        outputs.dead_letters | "Letters" >> beam.Map(lambda letter: collect("letters", letter))
    counters = {c.key.metric.name: c.result for c in pipeline.result.metrics().query()["counters"]}
    blocks = [PointBlock.from_bytes(raw) for raw in COLLECTED["blocks"]]
    return sorted(blocks, key=lambda b: b.span), sorted(COLLECTED["letters"]), counters


def same(a, b):
    return a.to_bytes() == b.to_bytes()


@st.composite
def listings(draw):
    sizes = draw(st.lists(st.integers(0, 5000), min_size=1, max_size=40))
    return [FileMetadata(f"gs://b/x/{i:03d}.parquet", size) for i, size in enumerate(sizes)]


@settings(deadline=None)
@given(listings(), st.booleans(), st.randoms())
def test_parts_cover_every_byte_once_and_do_not_depend_on_the_listing_order(files, splittable, random):
    parts = plan_parts(files, splittable, 700)
    shuffled = random.sample(files, len(files))
    assert plan_parts(shuffled, splittable, 700) == parts
    assert [part.index for part in parts] == list(range(len(parts)))
    ranges = collections.defaultdict(list)
    for part in parts:
        for piece in part.files:
            ranges[piece.path].append((piece.start, piece.stop))
    for file in files:
        pieces = ranges[file.path]
        assert pieces[0][0] == 0
        assert pieces[-1][1] == file.size_in_bytes
        assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
        assert splittable or len(pieces) == 1
    target = max(700, sum(f.size_in_bytes for f in files) // 512)
    loads = [sum(p.stop - p.start for p in part.files) for part in parts]
    assert not splittable or max(loads) <= 1.5 * target


def test_parts_stay_few_however_much_data_there_is():
    files = [FileMetadata(f"gs://b/{i}.parquet", 10 << 30) for i in range(100)]
    assert 400 <= len(plan_parts(files, True)) <= 520
    many = [FileMetadata(f"gs://b/{i}.parquet", 1000) for i in range(3000)]
    assert len(plan_parts(many, True)) == 1


def test_row_names_survive_collisions_and_a_move(monkeypatch):
    def names(folder):
        return row_names([FileMetadata(f"{folder}/{day}/p.csv", 1) for day in ("mon", "tue", "wed")])

    assert names("gs://bucket/deep") == names("/elsewhere")
    assert set(names("/a").values()) == {"mon/p.csv", "tue/p.csv", "wed/p.csv"}
    monkeypatch.setattr(parts, "_key", lambda name, salt: 5 + salt)
    assert names("/a") == {5: "mon/p.csv", 6: "tue/p.csv", 7: "wed/p.csv"}


def test_a_row_group_is_read_by_exactly_one_part(tmp_path):
    rows = rows_of(1)
    write_parquet(tmp_path / "a.parquet", rows, group_size=130)
    whole = ReadBlocks(str(tmp_path / "a.parquet"))
    for part_bytes in (1000, 3000, 7777):
        read = ReadBlocks(str(tmp_path / "*.parquet"), part_bytes=part_bytes)
        assert len(read.parts) > 2
        blocks = list(read.here())
        assert [b.span for b in blocks] == [Span(i, 0, True) for i in range(len(read.parts))]
        np.testing.assert_array_equal(np.concatenate([b.points for b in blocks]), rows)
        np.testing.assert_array_equal(
            np.concatenate([b.ids for b in blocks]), np.concatenate([b.ids for b in whole.here()])
        )


def test_npy_rows_split_at_any_byte(tmp_path):
    rows = rows_of(2, n=501)
    np.save(tmp_path / "a.npy", rows)
    for part_bytes in (500, 777, 5000):
        read = ReadBlocks(str(tmp_path / "a.npy"), part_bytes=part_bytes)
        blocks = list(read.here())
        np.testing.assert_array_equal(np.concatenate([b.points for b in blocks]), rows)
        ids = np.concatenate([b.ids for b in blocks])
        np.testing.assert_array_equal(ids & np.uint64(0xFFFFFFFF), np.arange(501))


def test_ids_print_as_file_and_row(tmp_path):
    for day in ("mon", "tue"):
        write_parquet(tmp_path / day / "p.parquet", rows_of(day, n=10))
    read = ReadBlocks(str(tmp_path / "*" / "p.parquet"))
    names = row_names(read.files)
    (block,) = read.here()
    printed = [f"{names[int(i) >> 32]}#{int(i) & 0xFFFFFFFF}" for i in block.ids]
    assert printed == [f"{day}/p.parquet#{row}" for day in ("mon", "tue") for row in range(10)]


def test_order_of_patterns_and_another_folder_change_nothing(tmp_path):
    for i in range(4):
        write_parquet(tmp_path / "one" / f"{i}.parquet", rows_of(i, n=100))
    shutil.copytree(tmp_path / "one", tmp_path / "moved" / "two")
    paths = [str(tmp_path / "one" / f"{i}.parquet") for i in range(4)]
    reads = [ReadBlocks(p, part_bytes=3000) for p in (paths, paths[::-1], [*paths, str(tmp_path / "one" / "*")])]
    reads.append(ReadBlocks(str(tmp_path / "moved" / "two" / "*"), part_bytes=3000))
    first = list(reads[0].here())
    for read in reads[1:]:
        assert all(same(a, b) for a, b in zip(first, read.here(), strict=True))


def test_blocks_have_full_size_ordinals_and_one_last(tmp_path):
    """Blocks hold the same rows whatever row groups or files the reader met on its way."""
    rows = rows_of(3, n=150_000, d=2)
    write_parquet(tmp_path / "one" / "a.parquet", rows, group_size=10_001)
    for i, chunk in enumerate(np.array_split(rows, 7)):
        write_parquet(tmp_path / "seven" / f"{i}.parquet", chunk, group_size=4_001)
    for folder in ("one", "seven"):
        blocks = list(ReadBlocks(str(tmp_path / folder / "*")).here())
        assert [len(b) for b in blocks] == [65_536, 65_536, 18_928]
        assert [b.span for b in blocks] == [Span(0, 0), Span(0, 1), Span(0, 2, True)]
        np.testing.assert_array_equal(np.concatenate([b.points for b in blocks]), rows)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_numbers_beyond_computing_are_letters(tmp_path, metric):
    """Squares of sentinels leave the range; under cosine rows are scaled first, so that they are fine."""
    x, w = [1.0, -1e200, 2.0, 1.7e308, 3.0, 4.0], [1.0, 1.0, 1e306, 1.0, 1e300, 1e-300]
    pq.write_table(pa.table({"v": [[a, 1.0] for a in x], "w": w}), tmp_path / "a.parquet")
    columns = Columns(vector_column="v", metric=metric, weight_column="w")
    found = list(ReadBlocks(str(tmp_path / "a.parquet"), columns).here())
    letters = [(each.position, each.column_name, each.kind) for each in found if isinstance(each, DeadLetter)]
    sentinels = [] if metric == "cosine" else [("row 1", "v", "too_large"), ("row 3", "v", "too_large")]
    assert sorted(letters) == sorted([*sentinels, ("row 2", "w", "weight_too_large")])
    (block,) = (each for each in found if isinstance(each, PointBlock))
    assert len(block) == len(x) - len(letters)


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_the_pipeline_reads_what_a_direct_call_reads(tmp_path, format_):
    for i in range(5):
        rows = rows_of(i, n=400)
        rows[i] = np.nan
        if format_ == "parquet":
            write_parquet(tmp_path / f"{i}.parquet", rows)
        else:
            np.savetxt(tmp_path / f"{i}.csv", rows, delimiter=",", header="a,b,c", comments="")
    read = ReadBlocks(str(tmp_path / f"*.{format_}"), part_bytes=9000)
    blocks, letters, counters = run(lambda p: p | read)
    direct = list(read.here())
    assert len(read.parts) > 1
    assert all(same(a, b) for a, b in zip(blocks, (b for b in direct if isinstance(b, PointBlock)), strict=True))
    assert letters == sorted(b for b in direct if isinstance(b, DeadLetter))
    assert [letter.position for letter in letters] == [f"row {i}" for i in range(5)]
    assert counters["points_read"] == 5 * 399
    assert counters["blocks_read"] == len(blocks)
    assert counters["dead_letters"] == counters["dead_letters_nan"] == 5


def test_a_part_without_a_good_row_gives_one_empty_block(tmp_path):
    write_parquet(tmp_path / "a.parquet", np.full((5, 2), np.nan, np.float32))
    write_parquet(tmp_path / "b.parquet", np.empty((0, 2), np.float32))
    for name, bad in (("a.parquet", 5), ("b.parquet", 0)):
        blocks, letters, _ = run(lambda p, name=name: p | ReadBlocks(str(tmp_path / name)))
        assert len(letters) == bad
        (block,) = blocks
        assert block.points.shape == (0, 2)
        assert block.span == Span(0, 0, True)


def test_a_file_that_breaks_later_fails_the_pipeline_by_name(tmp_path):
    write_parquet(tmp_path / "a.parquet", rows_of(1))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(Exception, match=r"input: must be a readable Parquet file, got '.*b.parquet'"):
        run(lambda p: p | ReadBlocks(str(tmp_path / "*")))


def test_what_cannot_be_listed(tmp_path):
    with pytest.raises(ValueError, match=r"input: must match at least one file, got '.*\*.parquet' \(0 files\)"):
        ReadBlocks(str(tmp_path / "*.parquet"))
    (tmp_path / "a.weird").write_text("1 2\n")
    with pytest.raises(ValueError, match=r"format: must be given, one of .* for files like '.*a.weird', got none"):
        ReadBlocks(str(tmp_path / "*"))
    with pytest.raises(ValueError, match=r"format: must be one of .*, got 'xls'"):
        ReadBlocks(str(tmp_path / "*"), format="xls")
    assert [b.points.tolist() for b in ReadBlocks(str(tmp_path / "*"), format="text").here()] == [[[1, 2]]]
    write_parquet(tmp_path / "b.parquet", rows_of(1))
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(ValueError, match="input: must be files of one format"):
        ReadBlocks(str(tmp_path / "b.*"))
    (tmp_path / "c.parquet.gz").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"input: must not be compressed as a whole, got '.*c.parquet.gz'"):
        ReadBlocks(str(tmp_path / "c.*"))


class Place(typing.NamedTuple):
    lat: float
    lon: float
    name: str


class Unknown(typing.NamedTuple):
    lat: float
    name: typing.Any


class Named(typing.NamedTuple):
    name: str


class Typed(typing.NamedTuple):
    lat: float
    name: typing.Optional[str]  # noqa: UP045
    count: typing.Optional[int]  # noqa: UP045
    flag: bool


ROW_KINDS = {
    "dicts": (lambda r: {"a": float(r[0]), "b": float(r[1]), "c": 5}, Columns(columns=("a", "b"))),
    "named": (lambda r: Place(float(r[0]), float(r[1]), "n"), Columns(keep_columns=("name",))),
    "beam rows": (lambda r: beam.Row(lat=float(r[0]), lon=float(r[1])), Columns()),
    "arrays": (lambda r: r, Columns()),
    "lists": (lambda r: r.tolist(), Columns(dim=2)),
    "vectors": (lambda r: {"v": r, "c": 1}, Columns(vector_column="v")),
}


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_rows_of_any_kind_become_the_same_blocks(kind):
    rows = rows_of(4, n=500, d=2)
    make, columns = ROW_KINDS[kind]
    elements = [make(r) for r in rows]
    blocks, letters, counters = run(lambda p: p | beam.Create(elements, reshuffle=False) | BlocksFromRows(columns))
    assert not letters
    points = np.concatenate([b.points for b in blocks])
    ids = np.concatenate([b.ids for b in blocks])
    assert points.dtype == np.float32
    order = np.lexsort(points.T)
    np.testing.assert_array_equal(points[order], rows[np.lexsort(rows.T)])
    assert dict(zip(map(tuple, points.tolist()), ids.tolist(), strict=True)) == expected_ids(rows)
    assert counters["points_read"] == 500
    parts = collections.defaultdict(list)
    for block in blocks:
        parts[block.span.part].append(block.span)
    for part, spans in parts.items():
        assert spans == [Span(part, i, i == len(spans) - 1) for i in range(len(spans))]


def expected_ids(rows):
    return dict(zip(map(tuple, rows.tolist()), content_ids(rows.astype(np.float64)).tolist(), strict=True))


def test_bad_rows_among_rows():
    rows = [
        {"x": 1, "y": 2.0, "id": 7}, {"x": None, "y": 2.0, "id": "a"}, {"x": "word", "y": 2.0, "id": "b"},
        {"x": True, "y": 2.0, "id": "c"}, {"y": 2.0, "id": "d"}, {"x": 1.0, "y": float("inf"), "id": "e"},
        {"x": 1.0, "y": 2.0, "id": 1.5}, {"x": 1.0, "y": 2.0},
    ]  # fmt: skip
    columns = Columns(columns=("x", "y"), id_column="id")
    blocks, letters, counters = run(lambda p: p | beam.Create(rows, reshuffle=False) | BlocksFromRows(columns))
    assert np.concatenate([b.points for b in blocks]).tolist() == [[1, 2]]
    assert blocks[0].extras.to_pydict() == {"id": ["7"]}
    assert collections.Counter((x.reason, x.column_name) for x in letters) == {
        ("null", "x"): 2, ("unparsable", "x"): 2, ("infinite", "y"): 1, ("unparsable", "id"): 1, ("null", "id"): 1
    }  # fmt: skip
    assert counters["dead_letters_unparsable"] == 3
    blocks, letters, _ = run(
        lambda p: p | beam.Create([[1, 2], [3, 4, 5], [0, 0]], reshuffle=False)
        | BlocksFromRows(Columns(metric="cosine", dim=2))
    )
    assert [x.reason for x in letters] == ["width: must be 2, got 3", "zero vector"]


def test_rows_that_do_not_say_what_a_coordinate_is():
    for rows, message in (([{"x": 1}], "columns: must be named for rows that are dicts"),
                          ([Unknown(1.0, "n")], r"columns: must hold numbers, got 'name' \(str\)"),
                          ([Named("n")], r"columns: must hold numbers, at least one of a row, got 'name' \(string\)")):
        with pytest.raises(Exception, match=message):
            run(lambda p, rows=rows: p | beam.Create(rows) | BlocksFromRows())


def test_declared_types_say_what_is_a_coordinate_and_what_kept_fields_are():
    rows = [Typed(1.0, "n", 5, True), Typed(2.0, None, None, False), Typed(3.0, "m", "six", True)]
    blocks, letters, _ = run(
        lambda p: p | beam.Create(rows, reshuffle=False).with_output_types(Typed)
        | BlocksFromRows(Columns(group_column="name", keep_columns=("count", "flag")))
    )
    assert np.concatenate([b.points for b in blocks]).tolist() == [[1.0]]
    (kept,) = [b.extras.to_pydict() for b in blocks if len(b)]
    assert kept == {"group": ["n"], "count": [5], "flag": [True]}
    assert [(x.reason, x.column_name) for x in letters] == [("null", "name"), ("unparsable", "count")]
    plain = [beam.Row(lat=1.0, name="a", lon=2), beam.Row(lat=3.0, name="b", lon=4)]
    blocks, letters, _ = run(lambda p: p | beam.Create(plain, reshuffle=False) | BlocksFromRows())
    assert sorted(map(tuple, np.concatenate([b.points for b in blocks]).tolist())) == [(1, 2), (3, 4)]
    with pytest.raises(ValueError, match=r"^id_column: must hold integers or text, got 'lat' \(double\)"):
        run(lambda p: p | beam.Create(plain) | BlocksFromRows(Columns(id_column="lat")))


@pytest.mark.parametrize("hint", [
    "Decimal", "1 +", np.floating, np.integer, np.number, np.longdouble, np.complex64, typing.Optional[np.floating]  # noqa: UP045
])  # fmt: skip
def test_types_that_can_not_be_resolved_are_not_declared(hint):
    """As a name that only a type checker imports."""
    kind = collections.namedtuple("kind", ["x", "y"])
    kind.__annotations__ = {"x": float, "y": hint}
    assert declared_types(kind).get("y") is None
    assert settled(Columns(), kind) == Columns()
    assert coordinate_names(Columns(), kind) == ("x", "y")
    _, layout = batch_of_rows([kind(1.0, 2.0)], settled(Columns(), kind), 0)
    assert layout.coordinates == ("x", "y")


@pytest.mark.parametrize(("first", "second", "kept"), [
    (5, "five", ["5", "five"]), ("five", 5, ["five", "5"]), (5, None, [5, None]), (5, 2.5, [5.0, 2.5]),
    (2**60 + 1, 0.5, [str(2**60 + 1), "0.5"]), ([1], {"a": 2}, ["[1]", '{"a": 2}']), (True, "x", ["true", "x"]),
])  # fmt: skip
def test_kept_fields_that_differ_from_block_to_block_are_text(first, second, kept):
    columns = Columns(columns=("x",), keep_columns=("k",))
    blocks = []
    for value in (first, second):
        batch, layout = batch_of_rows([{"x": 1.0, "k": value}], columns, 0)
        blocks.append(build([batch], layout, Span(0, 0))[0])
    assert concatenate_extras([b.extras for b in blocks]).column("k").to_pylist() == kept


def test_windows_are_never_mixed_in_a_block():
    def window_of(block, window=beam.DoFn.WindowParam, timestamp=beam.DoFn.TimestampParam):
        return int(window.start), sorted(block.points[:, 0].tolist()), timestamp == window.max_timestamp()

    COLLECTED.clear()
    with beam.Pipeline(FnApiRunner(), options=PipelineOptions([])) as pipeline:
        outputs = (
            pipeline
            | beam.Create(range(30), reshuffle=False)
            | beam.Map(lambda i: TimestampedValue([float(i), 0.0], i))
            | beam.WindowInto(FixedWindows(10))
            | BlocksFromRows(Columns(dim=2))
        )
        outputs.blocks | beam.Map(window_of) | "Found" >> beam.Map(lambda found: collect("windows", found))
    found = COLLECTED["windows"]
    assert all(at_end for _, _, at_end in found)
    rows = collections.defaultdict(list)
    for start, values, _ in found:
        rows[start] += values
    assert {start: sorted(values) for start, values in rows.items()} == {
        start: [float(i) for i in range(start, start + 10)] for start in (0, 10, 20)
    }


def test_display_data_and_types(tmp_path):
    write_parquet(tmp_path / "a.parquet", rows_of(1))
    read = ReadBlocks(str(tmp_path / "*"))
    assert read.display_data()["dim"].value == 3
    pipeline = beam.Pipeline(FnApiRunner(), options=PipelineOptions([]))
    outputs = pipeline | read
    assert outputs.blocks.element_type is PointBlock
    assert outputs.dead_letters.element_type is DeadLetter
    assert isinstance(beam.coders.registry.get_coder(DeadLetter), beam.coders.RowCoder)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 100, 512])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_that_take_turns_get_neighbouring_parts(count, workers):
    order = in_lanes([Part(i, ()) for i in range(count)])
    assert sorted(part.index for part in order) == list(range(count))
    for worker in range(workers):
        waiting: set[tuple[int, int]] = set()
        most = 0
        for part in order[worker::workers]:
            level, index = 0, part.index
            while (level, index ^ 1) in waiting:
                waiting.remove((level, index ^ 1))
                level, index = level + 1, index >> 1
            waiting.add((level, index))
            most = max(most, len(waiting))
        assert most <= 5 * max(1, 16 // workers)  # of up to 512: a few levels for each lane


def test_equal_rows_without_ids_spread_over_buckets():
    rows = np.zeros((5000, 2))
    ids = content_ids(rows)
    assert len(np.unique(ids)) == 5000
    np.testing.assert_array_equal(ids, content_ids(rows))
    mixed = np.array([[1.0, 2], [3, 4], [1, 2]])
    assert content_ids(mixed)[0] == content_ids(mixed[:1])[0]
    assert content_ids(mixed)[0] != content_ids(mixed)[2]
