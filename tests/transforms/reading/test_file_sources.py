"""Files as sources with parts: bounded ones give what `ReadBlocks` gives, a folder what has come into it so far."""
import dataclasses
import gzip
import itertools
import json
import os
import pickle
import time
import typing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_coresets import hashing
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks, match, plan_parts
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.folder.files import FileParts
from beam_coresets.transforms.streams.folder.source import Folder
from beam_coresets.transforms.streams.times import refuse, seconds_of

T0 = 1_700_000_000.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now=T0):
        self.now = now

    def __call__(self):
        return self.now


def rows_of(seed, n, d=3):
    return hashing.generator("file sources", seed).normal(size=(n, d)).astype(np.float32)


def table_of(rows, **more):
    return pa.table({f"x{j}": rows[:, j] for j in range(rows.shape[1])} | more)


def csv_lines(rows):
    return [",".join(f"x{j}" for j in range(rows.shape[1])), *(",".join(map(repr, map(float, row))) for row in rows)]


def write(path, rows, group_size=130, **more):
    """An array as a file of the kind that the name says."""
    if path.suffix == ".parquet":
        pq.write_table(table_of(rows, **more), path, row_group_size=group_size)
    else:
        path.write_text("\n".join(csv_lines(rows)) + "\n")


def drain(reader, limit=10_000):
    """All that a reader gives until there is nothing, by part."""
    chunks = {}
    for _ in range(limit):
        found = reader.read(0)
        if not found:
            return chunks
        for chunk in found:
            chunks.setdefault(chunk.part, []).append(chunk)
    raise AssertionError("it does not end")


def check(chunks):
    """What any part's chunks must fulfil."""
    for a, b in itertools.pairwise(chunks):
        assert a.stop == b.start
    for chunk in chunks:
        assert chunk.start < chunk.stop
        assert len(chunk.offsets) == len(chunk.counts) == len(chunk.times)
        assert chunk.counts.sum() == len(chunk.points)
        rows = row_offsets(chunk)
        assert (np.diff(rows) > 0).all()
        assert not len(rows) or (rows[0] >= chunk.start and rows[-1] < chunk.stop)
        assert chunk.extras is None or len(chunk.extras) == len(chunk.points)


def row_offsets(chunk):
    return np.concatenate([np.arange(o, o + n) for o, n in zip(chunk.offsets, chunk.counts, strict=True)] or [[]])


def joined(chunks):
    check(chunks)
    return np.concatenate([c.points for c in chunks]), [letter for c in chunks for letter in c.letters]


def read_all(source):
    reader = source.reader(0, 1)
    reader.seek(source.starts())
    chunks = drain(reader)
    assert all(reader.ended(part) and reader.caught_up(part) for part in source.starts())
    return chunks


BAD_LINES = {3: "1,2", 40: "oops,1,2", 41: "1,2,3,4", 399: "1,2,3,4,5"}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_bounded_files_give_the_rows_and_letters_of_read_blocks(tmp_path, kind):
    for i in range(4):
        write(tmp_path / f"f{i}.{kind}", rows_of(i, 400))
    if kind == "csv":
        lines = csv_lines(rows_of(1, 400))
        for number, line in BAD_LINES.items():
            lines[1 + number] = line
        (tmp_path / "f1.csv").write_text("\n".join(lines) + "\n")
    for part_bytes in (1500, 1 << 20):
        pattern = str(tmp_path / f"*.{kind}")
        batch = ReadBlocks(pattern, part_bytes=part_bytes)
        source = pickle.loads(pickle.dumps(FileParts(pattern, part_bytes=part_bytes)))
        assert source.parts == (batch.parts if kind == "parquet" else plan_parts(match(pattern), False, part_bytes))
        assert source.dim == 3
        chunks = read_all(source)
        points, letters = zip(*(joined(chunks[part]) for part in sorted(chunks)), strict=True)
        expected = list(batch.here())
        blocks = [found for found in expected if isinstance(found, PointBlock)]
        np.testing.assert_array_equal(np.concatenate(points), np.concatenate([b.points for b in blocks]))
        refused = sorted(itertools.chain(*letters))
        assert refused == sorted(found for found in expected if not isinstance(found, PointBlock))
        assert len(refused) == (4 if kind == "csv" else 0)
        assert [c.times.tolist() for c in chunks[0]] == [[0.0] * len(c.counts) for c in chunks[0]]


def test_offsets_count_refused_rows_and_go_on_from_file_to_file(tmp_path):
    (tmp_path / "a.csv").write_text("x\n0\nbad\n2\n3,3\n4\n5,5\n")
    (tmp_path / "b.csv").write_text("x\n6\n7\n")
    (chunk,) = read_all(FileParts(str(tmp_path / "*.csv")))[0]
    assert chunk.points[:, 0].tolist() == row_offsets(chunk).tolist() == [0, 2, 4, 6, 7]
    assert chunk.offsets.tolist() == [0, 2, 4, 6]
    assert chunk.counts.tolist() == [1, 1, 1, 2]
    assert (chunk.start, chunk.stop, chunk.position) == (0, 8, -1)
    assert sorted(letter.position for letter in chunk.letters) == ["row 1", "row 3", "row 5"]


def test_names_of_parts(tmp_path):
    write(tmp_path / "big.parquet", rows_of(0, 2000))
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.parquet", rows_of(name, 5))
    size = os.path.getsize(tmp_path / "big.parquet")
    source = FileParts(str(tmp_path / "*.parquet"), part_bytes=size // 2)
    assert [source.part_name(part) for part in source.starts()] == [
        "a.parquet..b.parquet", "big.parquet[0]", "big.parquet[1]", "c.parquet"
    ]  # fmt: skip
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "only.csv", rows_of(1, 5))
    assert FileParts(str(tmp_path / "d" / "*")).part_name(0) == "only.csv"


def blocky(path, monkeypatch, **options):
    """A source whose blocks have 256 rows, the fewest there are."""
    monkeypatch.setattr("beam_coresets.points.block.MAX_BLOCK_ROWS", 256)
    return FileParts(path, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.data())
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_reading_on_from_any_position_gives_what_came_after_it(tmp_path, monkeypatch, kind, data):
    for i in range(2):
        write(tmp_path / f"f{i}.{kind}", rows_of(i, 700), group_size=170)
    if kind == "csv":
        lines = csv_lines(rows_of(1, 700))
        for number in (0, 66, 67, 68, 69, 324, 325, 326, 699):
            lines[1 + number] = "1,2"
        (tmp_path / "f1.csv").write_text("\n".join(lines) + "\n")
    source = blocky(str(tmp_path / f"*.{kind}"), monkeypatch)
    (whole,) = read_all(source).values()
    check(whole)
    assert len(whole) == 6
    reader = source.reader(0, 1)
    for start in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5)):
        reader.seek({0: whole[start - 1].position if start else 0})
        for expected in whole[start : start + data.draw(st.integers(1, 3))]:
            (chunk,) = reader.read(0)
            assert (chunk.start, chunk.stop, chunk.position) == (expected.start, expected.stop, expected.position)
            np.testing.assert_array_equal(chunk.points, expected.points)
            assert chunk.letters == expected.letters
            assert reader.ended(0) == (chunk is not None and chunk.position == -1)


def test_a_broken_later_file_stops_a_bounded_source_and_is_named(tmp_path):
    write(tmp_path / "a.parquet", rows_of(0, 10))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no parquet at all PAR1")
    with pytest.raises(ValueError, match=r"input: must be a readable Parquet file, got '.*b.parquet'"):
        read_all(FileParts(str(tmp_path / "*")))
    reader = FileParts(str(tmp_path / "a.parquet")).reader(0, 1)
    with pytest.raises(ValueError, match="part: must be one of 0 to 0, got 1"):
        reader.seek({1: 0})


def test_parts_are_read_one_after_the_other_in_the_order_given(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", rows_of(0, 3000))
    source = blocky(str(tmp_path / "*.parquet"), monkeypatch, part_bytes=os.path.getsize(tmp_path / "a.parquet") // 3)
    reader = source.reader(0, 1)
    reader.seek({2: 0, 0: 0})
    order = []
    while found := reader.read(0):
        order.append(found[0].part)
        assert reader.ended(2) == (found[0].position == -1 or order[-1] == 0)
    assert order == sorted(order, reverse=True)
    assert order.count(0) > 1
    assert order.count(2) > 1
    reader.seek({1: -1})
    assert reader.read(0) == []
    assert reader.ended(1)


def test_a_time_field_makes_each_row_a_message(tmp_path):
    when = pa.array([0, None, 2_000, 3_000], pa.timestamp("ms"))
    pq.write_table(table_of(rows_of(0, 4), when=when, user=["a", "b", "c", "d"]), tmp_path / "a.parquet")
    columns = Columns(columns=("x0", "x1"), id_column="user")
    (chunk,) = read_all(FileParts(str(tmp_path / "*"), columns, time_field="when"))[0]
    assert chunk.times.tolist() == [0.0, 2.0, 3.0]
    assert chunk.offsets.tolist() == [0, 2, 3]
    assert chunk.counts.tolist() == [1, 1, 1]
    assert chunk.extras.to_pydict() == {"id": ["a", "c", "d"]}
    assert [(letter.reason, letter.column_name, letter.position) for letter in chunk.letters] == [
        ("null", "when", "row 1")
    ]
    kept = dataclasses.replace(columns, keep_columns=("when",))
    (chunk,) = read_all(FileParts(str(tmp_path / "*"), kept, time_field="when"))[0]
    assert chunk.extras.column_names == ["id", "when"]
    np.testing.assert_array_equal(chunk.ids, hashing.hash_bytes(np.arange(4), np.frombuffer(b"acd", np.uint8)))
    with pytest.raises(ValueError, match=r"time_field: must be among the columns of .* got 'then'"):
        FileParts(str(tmp_path / "*"), columns, time_field="then")
    with pytest.raises(ValueError, match=r"time_field: must not be called as .* own columns are, got 'weight'"):
        FileParts(str(tmp_path / "*"), columns, time_field="weight")
    with pytest.raises(ValueError, match="time_unit: must be one of s, ms, us, ns, got 'h'"):
        FileParts(str(tmp_path / "*"), columns, time_field="when", time_unit="h")


@pytest.mark.parametrize(
    ("column", "unit", "times"),
    [
        (pa.array([1.5, None, float("nan")]), "s", [1.5, None, None]),
        (pa.array([1500, 2**40]), "ms", [1.5, 2**40 / 1000]),
        (pa.array([1500, 1_700_000_000_500]), None, [1500.0, 1_700_000_000.5]),
        (pa.array(["1970-01-01T00:00:01.2500000Z", "1700000000500"]), None, [1.25, 1_700_000_000.5]),
        (pa.array([1_500_000], pa.timestamp("us", "UTC")), "s", [1.5]),
        (pa.array([1], pa.date32()), "s", [86400.0]),
        (pa.array(["1500", "2500"]), "ms", [1.5, 2.5]),
        (pa.array(["1970-01-01T00:00:01Z", "1970-01-01T01:00:01.5+01:00"]), "ms", [1.0, 1.5]),
        (pa.array(["1970-01-01 00:00:01", "1970-01-02"]), "s", [1.0, 86400.0]),
        (pa.array(["1970-01-01T00:00:01Z", "7", None, "soon"]).dictionary_encode(), "s", [1.0, 7.0, None, None]),
        (pa.array([float("inf")]), "s", [None]),
    ],
)
def test_times_of_every_usual_kind(column, unit, times):
    found, reasons = seconds_of(column, unit)
    assert [None if reason else time for time, reason in zip(found.tolist(), reasons, strict=True)] == times
    assert set(reasons) <= {None, "null", "nan", "unparsable", "infinite"}


def test_times_far_from_the_clock_are_refused():
    reasons = refuse(np.array([T0, T0 + 60, T0 + 61, T0 - 100, T0 - 101, np.nan, np.inf]), T0, 60.0, 100.0)
    assert [None if r is None else r.split(":")[0] for r in reasons] == [
        None, None, "event time", None, "event time", "no event time", "no event time"
    ]  # fmt: skip
    assert reasons[2].startswith("event time: must be at most 60 s ahead, got ")
    assert reasons[4].startswith("event time: must be at most 100 s behind, got ")


class Inbox:
    """A folder with a clock: files come into it whole."""

    def __init__(self, path):
        self.path, self.clock = path, Clock()
        path.mkdir()

    def put(self, name, rows, age=5.0, **more):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, rows, **more)
        self.date(name, age)

    def date(self, name, age):
        """Says when a file was written."""
        os.utime(self.path / name, (self.clock.now - age,) * 2)

    def folder(self, columns=None, **options):
        defaults = {"parts": 4, "clock": self.clock}
        return Folder(str(self.path / "**"), columns or Columns(columns=("x0", "x1", "x2")), **(defaults | options))

    def settle(self, reader):
        """Lets a second pass twice, and what a reader gives meanwhile."""
        chunks = {}
        for _ in range(3):
            for part, found in drain(reader).items():
                chunks.setdefault(part, []).extend(found)
            self.clock.now += 1.0
        return chunks


@pytest.fixture
def inbox(tmp_path):
    return Inbox(tmp_path / "in")


def open_all(source, positions=None):
    reader = source.reader(0, 1)
    reader.seek(positions or source.starts())
    return reader


def extend(all_chunks, more):
    for part, chunks in more.items():
        all_chunks.setdefault(part, []).extend(chunks)


def printed(chunks):
    return [text for chunk in chunks if chunk.extras is not None for text in chunk.extras.column("id").to_pylist()]


def test_files_that_arrive_in_steps_are_the_same_sequence_to_two_readers(inbox):
    source = inbox.folder()
    quick, slow = open_all(source), open_all(pickle.loads(pickle.dumps(source)))
    slow._listing = quick._listing  # a pickled clock of the test is another one
    seen = {}
    arrivals = [["b.csv", "a.csv"], ["sub/0.parquet", "c.csv", "d.parquet"], ["0.csv"]]
    for step, names in enumerate(arrivals):
        for i, name in enumerate(names):
            inbox.put(name, rows_of(name, 20), age=50.0 * step + i)
        extend(seen, inbox.settle(quick))
    later = drain(slow)
    assert {part: printed(chunks) for part, chunks in later.items()} == {p: printed(c) for p, c in seen.items()}
    order = {text.partition("#")[0]: None for part in seen for text in printed(seen[part])}
    assert sorted(order) == sorted(itertools.chain(*arrivals))
    for part, chunks in seen.items():
        points, letters = joined(chunks)
        np.testing.assert_array_equal(points, joined(later[part])[0])
        names = dict.fromkeys(text.partition("#")[0] for text in printed(chunks))
        np.testing.assert_array_equal(points, np.concatenate([rows_of(name, 20) for name in names]))
        assert not letters
    assert all(quick.caught_up(part) and not quick.ended(part) for part in source.starts())


def test_files_found_at_once_come_in_the_order_of_their_times(inbox):
    for i, name in enumerate(["a.csv", "b.csv", "c.csv"]):
        inbox.put(name, rows_of(name, 3), age=10.0 * i)
    source = inbox.folder(parts=1)
    (chunks,) = inbox.settle(open_all(source)).values()
    assert [printed([chunk])[0] for chunk in chunks] == ["c.csv#0", "b.csv#0", "a.csv#0"]
    assert [chunk.times.tolist() for chunk in chunks] == [[T0 - 20.0], [T0 - 10.0], [T0]]
    np.testing.assert_array_equal(joined(chunks)[0][:3], rows_of("c.csv", 3))


def test_few_files_are_open_at_once_and_no_part_is_left_out(inbox, monkeypatch):
    monkeypatch.setattr("beam_coresets.points.block.MAX_BLOCK_ROWS", 256)
    source = inbox.folder(parts=16)
    names = [f"{i}.csv" for i in range(60)]
    for name in names:
        inbox.put(name, rows_of(0, 600))
    reader = open_all(source)
    reader.read(0)
    inbox.clock.now += 1.0
    rounds = []
    while found := reader.read(0):
        rounds.append(found)
        assert sum(chunk.position["file"] is not None for chunk in found) <= 8
        assert len({chunk.part for chunk in found}) == len(found)
    texts = [text for found in rounds for text in printed(found)]
    assert sorted(texts) == sorted(f"{name}#{row}" for name in names for row in range(600))
    first = {chunk.part: i for i, found in reversed(list(enumerate(rounds))) for chunk in found}
    assert len(first) == 16
    assert max(first.values()) < len(rounds) / 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(st.data())
def test_a_folder_can_be_taken_up_at_any_position(tmp_path_factory, data):
    inbox = Inbox(tmp_path_factory.mktemp("taken_up") / "in")
    for i in range(6):
        inbox.put(f"{i}.csv", rows_of(i, 600), age=100.0 - i)
    (inbox.path / "3.csv").write_text("x0,x1,x2\n1,2,3\n1,2\n4,x,6\n7,8,9\n")
    inbox.date("3.csv", 97.0)
    source = inbox.folder(parts=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_coresets.points.block.MAX_BLOCK_ROWS", 256)
        whole = inbox.settle(open_all(source))
        assert sum(map(len, whole.values())) == 5 * 3 + 1
        part = data.draw(st.sampled_from(sorted(whole)))
        reader = open_all(source)
        for start in data.draw(st.lists(st.integers(0, len(whole[part])), min_size=1, max_size=4)):
            position = whole[part][start - 1].position if start else source.starts()[part]
            reader.seek({part: json.loads(json.dumps(position))})
            again = inbox.settle(reader).get(part, [])
            assert [(c.start, c.stop, c.position) for c in again] == [
                (c.start, c.stop, c.position) for c in whole[part][start:]
            ]
            assert [c.letters for c in again] == [c.letters for c in whole[part][start:]]
            assert printed(again) == printed(whole[part][start:])
            assert [c.ids.tolist() for c in again] == [c.ids.tolist() for c in whole[part][start:]]


def test_a_half_written_file_and_temporary_ones_are_not_taken(inbox):
    source = inbox.folder(parts=1)
    reader = open_all(source)
    for name in ("a.csv.tmp", ".b.csv", "_c.csv", "_temporary/d.csv"):
        inbox.put("whole.csv", rows_of(name, 3))
        (inbox.path / name).parent.mkdir(exist_ok=True)
        (inbox.path / "whole.csv").rename(inbox.path / name)
    assert inbox.settle(reader) == {}
    assert reader.caught_up(0)
    lines = csv_lines(rows_of(0, 40))
    for count in (10, 20, 30, 41):
        (inbox.path / "growing.csv").write_text("\n".join(lines[:count]) + "\n")
        inbox.date("growing.csv", 0.0)
        assert drain(reader) == {}
        assert not reader.caught_up(0)
        inbox.clock.now += 1.0
    (chunk,) = inbox.settle(reader)[0]
    np.testing.assert_array_equal(chunk.points, rows_of(0, 40))
    assert reader.caught_up(0)


def test_a_broken_file_is_one_letter_and_the_stream_goes_on(inbox):
    source = inbox.folder(parts=1, format=None)
    inbox.put("a.csv", rows_of(0, 5), age=40)
    (inbox.path / "b.parquet").write_bytes(b"PAR1 no parquet at all PAR1")
    (inbox.path / "c.csv").write_text("x0,x1\n1,2\n")
    (inbox.path / "d.unknown").write_text("x")
    (inbox.path / "e.csv").write_text("")
    packed = gzip.compress("\n".join(csv_lines(rows_of(1, 200_000))).encode())
    (inbox.path / "f.csv.gz").write_bytes(packed[: len(packed) - 1000])
    for i, name in enumerate(["b.parquet", "c.csv", "d.unknown", "e.csv", "f.csv.gz"]):
        inbox.date(name, 39 - i)
    inbox.put("g.csv", rows_of(2, 5), age=1)
    reader = open_all(source)
    chunks = inbox.settle(reader)[0]
    points, letters = joined(chunks)
    assert [os.path.basename(letter.source) for letter in letters] == ["b.parquet", "c.csv", "d.unknown", "f.csv.gz"]
    assert all(letter.reason.startswith("unreadable: ") for letter in letters)
    assert "must be a readable Parquet file" in letters[0].reason
    assert "got 'x2'" in letters[1].reason
    assert len(points) == 2 * 65_536 + 10  # two blocks of the truncated file
    np.testing.assert_array_equal(points[:-5], np.r_[rows_of(0, 5), rows_of(1, 200_000)][: len(points) - 5])
    np.testing.assert_array_equal(points[-5:], rows_of(2, 5))
    assert reader.caught_up(0)
    assert len(chunks[-1].position["done"]) == 7
    assert inbox.settle(open_all(source, {0: chunks[-1].position})) == {}


def test_vanished_files_are_pruned_from_the_position(inbox):
    source = inbox.folder(parts=1)
    reader = open_all(source)
    for i in range(10):
        inbox.put(f"{i}.csv", rows_of(i, 3))
        ((chunk,),) = inbox.settle(reader).values()
        assert len(chunk.position["done"]) == min(i + 1, 3)
        if i >= 2:
            (inbox.path / f"{i - 2}.csv").unlink()
            inbox.settle(reader)
    for path in inbox.path.iterdir():
        path.rename(inbox.path.parent / path.name)
    assert inbox.settle(reader) == {}  # nothing at all there: perhaps a folder that is away for a while
    for i in (8, 9):
        (inbox.path.parent / f"{i}.csv").rename(inbox.path / f"{i}.csv")
    assert inbox.settle(reader) == {}


def test_a_file_that_changes_after_it_was_read_is_a_letter_and_not_read_again(inbox):
    source = inbox.folder(parts=1)
    reader = open_all(source)
    inbox.put("a.csv", rows_of(0, 3))
    inbox.settle(reader)
    inbox.put("a.csv", rows_of(1, 4))
    ((chunk,),) = inbox.settle(reader).values()
    assert [letter.reason.partition(":")[0] for letter in chunk.letters] == ["changed after it was read"]
    assert (len(chunk.points), chunk.start, chunk.stop) == (0, 3, 4)
    inbox.put("b.csv", rows_of(2, 3))
    ((chunk,),) = inbox.settle(reader).values()
    assert (chunk.start, chunk.stop, chunk.letters) == (4, 7, ())
    assert printed([chunk]) == ["b.csv#0", "b.csv#1", "b.csv#2"]


@pytest.mark.parametrize("fate", ["changed", "vanished"])
def test_a_file_that_does_not_stay_until_it_is_done(inbox, monkeypatch, fate):
    monkeypatch.setattr("beam_coresets.points.block.MAX_BLOCK_ROWS", 256)
    source = inbox.folder(parts=1)
    reader = open_all(source)
    inbox.put("a.csv", rows_of(0, 700))
    inbox.put("b.csv", rows_of(1, 5), age=1.0)
    reader.read(0)
    inbox.clock.now += 1.0
    (chunk,) = reader.read(0)
    assert chunk.position["row"] == 256
    if fate == "changed":
        inbox.put("a.csv", rows_of(2, 700), age=0.5)
    else:
        (inbox.path / "a.csv").unlink()
    reader = open_all(source, {0: chunk.position})
    inbox.clock.now += 1.0
    chunks = inbox.settle(reader)[0]
    assert [letter.reason.split()[:4] for c in chunks for letter in c.letters] == [[fate, "while", "it", "was"]]
    assert [(c.start, c.stop) for c in chunks] == [(256, 257), (257, 262)]
    np.testing.assert_array_equal(joined(chunks)[0], rows_of(1, 5))


def test_times_from_a_field_and_those_refused(inbox):
    times = T0 + np.array([0.0, 1.0, 500.0, -90 * 86_400.0, 2.0])
    inbox.put("a.parquet", rows_of(0, 5), ts=pa.array(times * 1000))
    inbox.put("b.parquet", rows_of(1, 2), ts=pa.array([int(T0 * 1000), None]))
    source = inbox.folder(parts=1, time_field="ts", time_unit="ms")
    chunks = inbox.settle(open_all(source))[0]
    points, letters = joined(chunks)
    np.testing.assert_array_equal(points, np.r_[rows_of(0, 5)[[0, 1, 4]], rows_of(1, 2)[:1]])
    np.testing.assert_allclose(np.concatenate([c.times for c in chunks]), T0 + np.array([0, 1, 2, 0]))
    assert [(x.reason.partition(":")[0], x.column_name, x.position) for x in letters] == [
        ("event time", "ts", "row 2"), ("event time", "ts", "row 3"), ("null", "ts", "row 1"),
    ]  # fmt: skip
    assert printed(chunks) == ["a.parquet#0", "a.parquet#1", "a.parquet#4", "b.parquet#0"]
    inbox.put("old.parquet", rows_of(2, 2), age=40 * 86_400.0)
    ((chunk,),) = inbox.settle(open_all(inbox.folder(parts=1, max_behind=30 * 86_400.0), chunks[-1:] and {
        0: chunks[-1].position
    })).values()  # fmt: skip
    assert [letter.reason.partition(":")[0] for letter in chunk.letters] == ["event time"]


def test_ids_and_kept_columns_have_one_type_whatever_the_files_hold(inbox):
    columns = Columns(columns=("x0",), keep_columns=("note",), id_column="user")
    source = inbox.folder(columns, parts=1)
    inbox.put("a.parquet", rows_of(0, 2), age=9, note=[1, 2], user=[7, 8])
    (inbox.path / "b.jsonl").write_text('{"x0": 1, "user": "u"}\n{"x0": 2, "user": 7, "note": "n"}\n')
    (inbox.path / "c.csv").write_text("x0,user,note\n1,k,\n")
    for i, name in enumerate(["b.jsonl", "c.csv"]):
        inbox.date(name, 8.0 - i)
    chunks = inbox.settle(open_all(source))[0]
    together = pa.concat_tables([chunk.extras for chunk in chunks])  # raises where schemas differ
    assert together.column("id").to_pylist() == ["7", "8", "u", "7", "k"]
    assert together.column("note").to_pylist() == ["1", "2", None, "n", None]
    assert not any(chunk.letters for chunk in chunks)


def test_the_first_file_settles_the_columns_or_they_must_be_named(inbox):
    pattern = str(inbox.path)
    with pytest.raises(ValueError, match=r"columns: must be given, or a vector_column with dim, .* '.*in/\*'"):
        Folder(pattern)
    with pytest.raises(ValueError, match="columns: must be given"):
        Folder(pattern, Columns(vector_column="v"))
    assert Folder(pattern, Columns(vector_column="v", dim=5)).dim == 5
    (inbox.path / "a.csv").write_bytes(b"")
    inbox.put("b.csv", rows_of(0, 3, d=2))
    inbox.put("c.csv", rows_of(1, 3, d=3))
    source = Folder(pattern, parts=1, clock=inbox.clock)
    assert source.dim == 2
    points, letters = joined(inbox.settle(open_all(source))[0])
    assert (points.shape, letters) == ((6, 2), [])
    with pytest.raises(ValueError, match="columns: must be among the columns of"):
        Folder(pattern, Columns(columns=("q",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": 0}, "parts: must be at least 1, got 0"),
        ({"settle": -1.0}, "settle: must not be negative, got -1.0"),
        ({"format": "xml"}, "format: must be one of .*, got 'xml'"),
    ],
)
def test_settings_that_cannot_work(inbox, options, message):
    with pytest.raises(ValueError, match=message):
        inbox.folder(**options)


def test_a_reader_waits_for_a_file_and_lists_no_more_often_than_asked(inbox):
    source = Folder(str(inbox.path), Columns(columns=("x0", "x1", "x2")), parts=2, settle=0.0, poll_seconds=0.02)
    reader = open_all(source)
    assert source.listing() is reader._listing
    assert reader.read(0.05) == []
    write(inbox.path / "a.csv", rows_of(0, 7))
    (chunk,) = reader.read(60.0)
    assert len(chunk.points) == 7
    assert abs(chunk.times[0] - time.time()) < 3600.0
    versions = {reader._listing.look().version for _ in range(3)}
    assert max(versions) - min(versions) <= 2


class FarAwayFileSystem(LocalFileSystem):
    """faraway:///tmp/x is /tmp/x, out of reach as often as `FAILURES` says."""

    FAILURES: typing.ClassVar[dict[str, int]] = {}

    @classmethod
    def scheme(cls):
        return "faraway"

    def match(self, patterns, limits=None):
        results = super().match([p.removeprefix("faraway://") for p in patterns], limits)
        for result in results:
            result.metadata_list = [
                FileMetadata("faraway://" + f.path, f.size_in_bytes, f.last_updated_in_seconds)
                for f in result.metadata_list
            ]
        return results

    def open(self, path, *args, **options):
        if self.FAILURES.setdefault(path, 0) > 0:
            self.FAILURES[path] -= 1
            raise OSError("out of reach")
        return super().open(path.removeprefix("faraway://"), *args, **options)


@pytest.mark.parametrize("failures", [0, 2, 3])
def test_a_remote_file_gets_three_tries(inbox, failures):
    inbox.put("sub/a.csv", rows_of(0, 5))
    FarAwayFileSystem.FAILURES[f"faraway://{inbox.path}/sub/a.csv"] = failures
    columns = Columns(columns=("x0", "x1", "x2"))
    source = Folder(f"faraway://{inbox.path}/**", columns, parts=1, clock=inbox.clock)
    FarAwayFileSystem.FAILURES[f"faraway://{inbox.path}/sub/a.csv"] = failures
    reader = open_all(source)
    points, letters = joined((inbox.settle(reader) | inbox.settle(reader))[0])
    assert len(points) == (5 if failures < 3 else 0)
    assert ["out of reach" in letter.reason for letter in letters] == [True] * (failures == 3)


def test_a_file_that_never_settles_holds_up_no_other(inbox):
    source = inbox.folder(parts=1)
    reader = open_all(source)
    for step in range(8):
        if step == 4:
            inbox.put("b.csv", rows_of(1, 5), age=0.0)
        with open(inbox.path / "a.csv", "a") as log:
            log.write("x0,x1,x2\n" if step == 0 else "1,2,3\n")
        inbox.date("a.csv", 0.0)
        chunks = drain(reader)
        assert [printed(found)[0] for found in chunks.values()] == ["b.csv#0"] * (step == 5)
        assert not reader.caught_up(0)
        inbox.clock.now += 1.0


def test_a_folder_that_can_not_be_listed_is_waited_for(inbox, monkeypatch):
    inbox.put("a.csv", rows_of(0, 3))
    source = inbox.folder(parts=1)
    reader = open_all(source)
    inbox.settle(reader)
    assert reader.caught_up(0)
    seen = reader.age(0)
    inbox.clock.now += 0.25
    assert reader.age(0) == pytest.approx(seen + 0.25), "what has come since the listing was begun is not known of"
    with monkeypatch.context() as patch:
        patch.setattr("beam_coresets.transforms.streams.folder.listing.names_in", lambda pattern: [][0])
        assert inbox.settle(reader) == {}
        assert not reader.caught_up(0)
    assert inbox.settle(reader) == {}
    assert reader.caught_up(0)
