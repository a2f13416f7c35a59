"""A file that is cut anywhere gives the rows, ids and dead letters that it gives as a whole.

    python tests/transforms/reading/test_cut_files.py 10000        # so many files in all
"""
import dataclasses
import gzip
import itertools
import json
import os
import random
import sys
import tempfile

import fastavro
import numpy as np
import pytest
from test_blocks import run
from test_bookkeeping import odd_file

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading import parts
from beam_coresets.transforms.reading.blocks import ReadBlocks, read_part
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.formats import FilePart
from beam_coresets.transforms.reading.parts import (
    Part,
    counted,
    cut_at_rows,
    files_to_count,
    find_format,
    match,
    plan_parts,
    probe,
)  # fmt: skip
from beam_coresets.transforms.text import ranges, records

CELLS = ["1", "2.5", "-3", "", "NA", "abc", "nan", "1e999", '"4"', '" 5"', "true"]
TEXTS = ["a", "", '"a,b"', '"two\nlines"', '"cr\r\nlf"', '"say ""no"""', '""', '"""\n\n"""', "don't", 'in"side', "Köln",
         '"#no\n#1,2,3"', '"1,2,a\n3,4,b\n5,6,c\n"', '"' + "long\n" * 9 + '"', "\ufeff"]  # fmt: skip
FAULTS = ['"open', '"closed" not', '"a"b"', '"']
JSON_LINES = ['{"x": 1, "y": 2, "t": "a"}', '{"x": 1.5, "y": null}', '{"y": 2, "x": 1, "more": [1, {"a": "b"}]}', "",
              "  ", '{"x": "one", "y": 2}', "{", "null", "[1]", '{"x": 1, "y": 2, "t": "\\n\\""}', '{"x": 1, "x": 2}',
              '{"x": 1e999, "y": 1}',
              '\t{"x": 7, "y": 8, "t": "é"}', '\ufeff{"x": 1}',
              '\ufeff{"x": 1, "y": 2}', '{"x": 1, "y": -1, "t": 5}']  # fmt: skip
WORDS = ["1 2", "1\t2", " 3  4 ", "", "  ", "1", "1 2 3", "a 1", "nan 1", "#1 2", "# no", '"1 2"', "é 1", "\f5 6"]


def lines_with(rng, choices, first):
    lines = [first, *(rng.choice(choices) for _ in range(rng.choice([0, 1, 5, 40])))]
    end = rng.choice(["\n", "\n", "\r\n", "\r", None])
    ends = [rng.choice(["\n", "\r\n", "\r", "\n\n"]) if end is None else end for _ in lines]
    text = "".join(itertools.chain.from_iterable(zip(lines, ends, strict=True)))
    return rng.choice(["", "", "\ufeff"]) + (text if rng.random() < 0.7 else text.rstrip("\r\n"))


def csv_text(rng):
    choices = [",".join([rng.choice(CELLS), rng.choice(CELLS), rng.choice(TEXTS)]) for _ in range(40)]
    choices += ["", "1", "1,2,3,4", "#", '# it\'s "so', '#"', " #1,2,3"]
    if rng.random() < 0.4:
        choices += [f"1,2,{rng.choice(FAULTS)}" for _ in range(3)]
        choices += [f"{rng.choice(FAULTS)},2,{rng.choice(TEXTS)}"]
    if rng.random() < 0.3:
        choices += ["".join(rng.choice(',"\n\r#1a ') for _ in range(rng.choice([3, 30]))) for _ in range(20)]
    first = "x,y,t" if rng.random() < 0.8 else '"x\n","y","t"'
    before = "".join(rng.choice(["", "", "# no\n", "\n", '#"\n']) for _ in range(2))
    return rng.choice(["", "", "sep=,\n"]) + before + lines_with(rng, choices, first)


def other_file(seed):
    """A name, what the file holds, and what is asked of it."""
    rng = random.Random(seed)
    kind = rng.choice(["csv", "csv", "jsonl", "txt", "odd"])
    if kind == "csv":
        keep, names = ("t",) if rng.random() < 0.5 else (), ("x", "y")
        header = rng.random() < 0.8
        if not header:
            names, keep = ("f0", "f1"), ("f2",) if keep else ()
        columns = Columns(columns=names, header=header, delimiter=",", decimal=".", comment="#", keep_columns=keep,
                          weight_column=names[1] if rng.random() < 0.3 else None)  # fmt: skip
        null = ("abc",) if rng.random() < 0.2 else ()
        columns = dataclasses.replace(columns, columns=names[:1] if columns.weight_column else names, null=null)
        return "a.csv", csv_text(rng).encode(), columns
    if kind == "jsonl":
        text = lines_with(rng, JSON_LINES, JSON_LINES[0])
        return "a.jsonl", text.encode(), Columns(columns=("x", "y"), keep_columns=rng.choice([(), ("t",)]))
    if kind == "txt":
        return "a.txt", lines_with(rng, WORDS, "1 2").encode(), Columns(columns=("f0", "f1"), comment="#")
    names = ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a.avro")
    while (odd := odd_file(rng.randrange(10**6))).name not in names:
        pass
    return odd.name, odd.raw, odd.columns


def cut(path, bounds):
    """A part for each byte range between two bounds."""
    return [Part(i, (FilePart(path, low, high, 5),)) for i, (low, high) in enumerate(itertools.pairwise(bounds))]


def rows_of(found):
    """What a reader has found, one line a row, and its letters."""
    rows, letters = [], []
    for each in found:
        if not isinstance(each, PointBlock):
            letters.append(each)
            continue
        extras = [()] * len(each) if each.extras is None else map(tuple, map(dict.items, each.extras.to_pylist()))
        points = np.asarray(each.points, np.float64).tolist()
        rows += zip(each.ids.tolist(), points, each.weights.tolist(), extras, strict=True)
    return rows, sorted(letters)


def read(these, form, layout):
    return rows_of(itertools.chain.from_iterable(read_part(part, form, layout) for part in these))


def outcome(*given):
    try:
        return read(*given)
    except ValueError:
        return "refused"


def in_ranges(path, form, layout, bounds, known):
    """The parts between the bounds; what was counted ahead is used if `known`."""
    these = cut(path, bounds)
    found = {part.index: counted(part.files[0], form, layout) for part in these[:-1]} if known else {}
    return list(cut_at_rows(these, form, layout, found))


def check(seed, folder, piece_bytes):
    """Raises AssertionError if a file of a seed gives something else when it is cut; what has become of it."""
    name, raw, columns = other_file(seed)
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(raw)
    rng = random.Random(-seed)
    records.PIECE_BYTES = rng.choice(piece_bytes)
    try:
        files = match(path)
        form = find_format(files)
        layout = probe(files, form, columns)
    except ValueError:
        return "not probed"
    whole = outcome(cut(path, [0, len(raw)]), form, layout)
    for _ in range(3):
        bounds = sorted({0, len(raw), *(rng.randrange(len(raw)) for _ in range(rng.choice([1, 2, 5, 30])))})
        try:
            these = in_ranges(path, form, layout, bounds, True)
        except ValueError:
            assert whole == "refused"
            continue
        assert these == in_ranges(path, form, layout, bounds, False), (name, raw, bounds)
        assert outcome(these, form, layout) == whole, (name, raw, bounds)
    return "refused" if whole == "refused" else "read"


def check_all(seeds, piece_bytes=(7, 37, 500, 4 << 20)):
    with tempfile.TemporaryDirectory() as folder:
        return [check(seed, folder, piece_bytes) for seed in seeds]


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_a_file_gives_the_same_wherever_it_is_cut(first, monkeypatch):
    monkeypatch.setattr(records, "PIECE_BYTES", records.PIECE_BYTES)
    assert check_all(range(first, first + 100)).count("read") > 50


@pytest.mark.parametrize("first", range(0, 200, 100))
def test_records_too_long_to_tell_are_read_with_all_that_follows(first, monkeypatch):
    monkeypatch.setattr(records, "PIECE_BYTES", 7)
    monkeypatch.setattr(records, "MOST_BYTES", 80)
    monkeypatch.setattr(ranges, "_MOST_BYTES", 24)
    assert check_all(range(first, first + 100), (7,)).count("read") > 50
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.csv")
        with open(path, "w") as file:
            file.write("x,y\n" + "1,2\n" * 20 + f"1,{'0' * 60}2\n" + "3,4\n" * 20)
        form, size = parts.FILE_FORMATS["csv"], os.path.getsize(path)
        layout = probe(match(path), form, Columns())
        these = in_ranges(path, form, layout, range(0, size, 10), True)
        assert [part.files[0].stop == ranges.END for part in these if part.files] == [False] * 8 + [True]
        assert read(these, form, layout) == read(cut(path, [0, size]), form, layout)
        for length in range(15, 26):  # which of these quotes are closed soon enough is told by pieces of the file
            with open(path, "w") as file:
                file.write("x,y,t\n1,2,a\n1,2,a\n" + '3,4,"' + "b\n" * length + '"\n' + "5,6,c\n" * 9)
            size = os.path.getsize(path)
            layout = probe(match(path), form, Columns(columns=("x", "y"), keep_columns=("t",)))
            these = in_ranges(path, form, layout, [0, 8, 14, size], True)
            assert read(these, form, layout) == read(cut(path, [0, size]), form, layout)


def test_a_byte_order_mark_inside_a_file_is_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,x,y\na,1,2\n\ufeffb,3,4\nc,5,6\n")
    layout = ReadBlocks(str(path), Columns(columns=("x", "y"), keep_columns=("t",))).layout
    for bounds in ([0, 1 << 20], [0, 12, 1 << 20]):
        these = in_ranges(str(path), parts.FILE_FORMATS["csv"], layout, bounds, True)
        rows, _ = read(these, parts.FILE_FORMATS["csv"], layout)
        assert [dict(extras)["t"] for *_, extras in rows] == ["a", "\ufeffb", "c"]


def quoted(path, n=400):
    rng = random.Random(3)
    with open(path, "w", newline="") as file:
        file.write("x,y,t\r\n")
        for i in range(n):
            text = rng.choice(['"two\nlines"', '"1,2,""a""\n3,4,b\n"', "plain", '"' + "0,1,c\n" * 20 + '"'])
            file.write(f"{i},{i / 4},{text}\r\n")
    return Columns(columns=("x", "y"), keep_columns=("t",))


def lines_of_json(path, n=400):
    path.write_text("".join(json.dumps({"x": i, "y": i / 4, "t": "é\n"}) + "\n" for i in range(n)))
    return Columns(columns=("x", "y"), keep_columns=("t",))


def avro(path, n=400, codec="deflate"):
    fields = [{"name": name, "type": kind} for name, kind in (("x", "double"), ("y", "double"), ("t", "string"))]
    with open(path, "wb") as file:
        made = ({"x": float(i), "y": i / 4, "t": f"t{i}"} for i in range(n))
        fastavro.writer(file, {"type": "record", "name": "R", "fields": fields}, made, codec, sync_interval=200)
    return Columns(columns=("x", "y"), keep_columns=("t",))


def words(path, n=400):
    path.write_text("# no\n" + "".join(f"{i} {i / 4}\n\n" for i in range(n)))
    return Columns(columns=("f0", "f1"), comment="#")


KINDS = {"a.csv": quoted, "a.jsonl": lines_of_json, "a.avro": avro, "a.txt": words}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_counted_ahead_is_enough(name, tmp_path, monkeypatch):
    """Of sound files no range is counted twice, whether it begins in a quoted cell or not."""
    path = tmp_path / name
    columns = KINDS[name](path)
    files = match(str(path))
    form = find_format(files)
    layout = probe(files, form, columns)
    size = os.path.getsize(path)
    for pieces in (2, 5, 17):
        these = cut(str(path), [size * i // pieces for i in range(pieces + 1)])
        found = {part.index: counted(part.files[0], form, layout) for part in these[:-1]}
        with monkeypatch.context() as patch:
            patch.setattr(parts, "counted", lambda *given, **more: pytest.fail("counted again"))
            cut_parts = list(cut_at_rows(these, form, layout, found))
        assert all(part.files for part in cut_parts)
        assert read(cut_parts, form, layout)[0] == read(cut(str(path), [0, size]), form, layout)[0]


@pytest.mark.parametrize("name", [*KINDS, "b.csv"])
def test_a_pipeline_cuts_files_and_gives_their_rows(name, tmp_path):
    path = tmp_path / name
    columns = quoted(path) if name == "b.csv" else KINDS[name](path)
    if name == "b.csv":  # and others beside it, small ones and one that is cut, too
        quoted(tmp_path / "c.csv", 2)
        with open(path, "a", newline="") as file:
            file.write('x,1,"bad\ncell"\r\n1,2\r\n3,4,"never closed\r\n' + "5,6,t\r\n" * 100)
        quoted(tmp_path / "d.csv", 150)
    pattern = str(tmp_path / "*")
    cut_up, whole = ReadBlocks(pattern, columns, part_bytes=900), ReadBlocks(pattern, columns)
    assert len(whole.parts) == 1 < len(cut_up.parts)
    expected = rows_of(whole.here())
    assert expected == rows_of(cut_up.here()) == rows_of(cut_up.uncut())
    assert len(expected[1]) == (3 if name == "b.csv" else 0)
    found, letters, _ = run(lambda p: p | cut_up)
    assert (sorted(rows_of(found)[0]), letters) == (sorted(expected[0]), expected[1])
    direct = [each for each in cut_up.here() if isinstance(each, PointBlock)]
    assert [each.to_bytes() for each in found] == [each.to_bytes() for each in direct]


def test_what_can_not_be_cut_is_read_by_one_part(tmp_path):
    text = "x,y\n" + "".join(f"{i},{i}\n" for i in range(300))
    files = {
        "a.csv": text.encode("utf-16"), "b.csv": text.encode("latin-1"),
        "c.json": json.dumps([{"x": i, "y": i} for i in range(300)], indent=1).encode(),
        "d.csv": text.replace("0,0", '"0\n",0').encode(),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        encoding = "latin-1" if name == "b.csv" else None
        source = ReadBlocks(str(tmp_path / name), Columns(columns=("x", "y"), encoding=encoding), part_bytes=500)
        (run,) = files_to_count(source.parts, parts.FILE_FORMATS[source.format])
        found = {part.index: counted(part.files[0], parts.FILE_FORMATS[source.format], source.layout) for part in run}
        these = list(cut_at_rows(run, parts.FILE_FORMATS[source.format], source.layout, found))
        assert sum(bool(part.files) for part in these) == (1 if name != "d.csv" else len(these))
        assert sum(map(len, source.here())) == 300
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(text.encode(), 0))
    assert len(ReadBlocks(str(tmp_path / "e.csv.gz"), part_bytes=500).parts) == 1
    assert len(plan_parts(match(str(tmp_path / "d.csv")), False, 500)) == 1


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "1,2\n" * 300)
    source = ReadBlocks(str(path), part_bytes=400)
    form = parts.FILE_FORMATS[source.format]
    these = list(cut_at_rows(source.parts, form, source.layout, {}))
    path.write_text("x,y\n" + "1,2222\n" * 300)
    with pytest.raises(ValueError, match=r"a\.csv' .*rows: must be 100 from byte 0 on, as they were, got 58"):
        read(these, form, source.layout)


def test_neighbours_do_not_change_what_is_said_of_a_row(tmp_path):
    """A row that is refused for a missing number is shown with its numbers, wherever a cell before it is none."""
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,\n2,2\none,2\n" + "3,3\n4,\n" * 2)
    layout = ReadBlocks(str(path)).layout
    _, letters = read(cut(str(path), [0, 1 << 20]), parts.FILE_FORMATS["csv"], layout)
    shown = {each.position: each.row_text for each in letters}
    assert shown == {"row 0": "{'x': 1.0, 'y': None}", "row 2": "{'x': 'one', 'y': '2'}",
                     "row 4": "{'x': 4.0, 'y': None}", "row 6": "{'x': 4.0, 'y': None}"}  # fmt: skip


if __name__ == "__main__":
    checked = check_all(range(10**6, 10**6 + int(sys.argv[1])))
    print({what: checked.count(what) for what in set(checked)})
