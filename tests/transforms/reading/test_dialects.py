"""CSV, text and JSON as people write them: read right, or refused by the name of the option that decides."""
import gzip
import json
import lzma

import numpy as np
import pytest

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns

XY = [[1.5, 20.25], [-0.5, 1000.5], [3.0, 4.0]]


def read(path, columns=None, **options):
    """(points, refused as (row, column, reason), kept columns) of a file or a glob."""
    found = list(ReadBlocks(str(path), columns, **options).here())
    blocks = [f for f in found if isinstance(f, PointBlock)]
    letters = [(f.position, f.column_name, f.reason) for f in found if not isinstance(f, PointBlock)]
    points = np.concatenate([b.points for b in blocks])
    return points.tolist(), letters, [b.extras.to_pydict() for b in blocks if b.extras is not None]


def lines(delimiter=",", decimal=".", rows=XY, header=("x", "y"), end="\n"):
    text = [delimiter.join(header)] if header else []
    text += [delimiter.join(str(cell).replace(".", decimal) for cell in row) for row in rows]
    return end.join(text) + end


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", ","), ("|", ".")])
def test_what_is_certain_is_guessed(tmp_path, delimiter, decimal, encoding, end):
    (tmp_path / "a.csv").write_bytes(lines(delimiter, decimal, end=end).encode(encoding))
    assert read(tmp_path / "a.csv")[:2] == (XY, [])
    asked = Columns(columns=("y",))
    assert read(tmp_path / "a.csv", asked)[:2] == ([row[1:] for row in XY], [])


@pytest.mark.parametrize(
    ("text", "columns", "points"),
    [
        ("x;y\n1.234,5;2\n0,5;1.000\n", {}, [[1234.5, 2], [0.5, 1000]]),
        ("sep=;\nx;y\n1,5;2\n", {}, [[1.5, 2]]),
        ("x;y\n1,234;2\n", {"decimal": ","}, [[1.234, 2]]),
        ("x y\n1 2\n", {}, [[1, 2]]),
        ("name;x;y\na,b;1;2\nc,d;3;4\n", {"columns": ("x", "y")}, [[1, 2], [3, 4]]),
        ("a;b,c\n1;2,3\n4;5,6\n", {"delimiter": ";", "decimal": ",", "columns": ("a",)}, [[1], [4]]),
        ("x,y\n'1',2\n", {"quote": "'"}, [[1, 2]]),
        ('x,y\n1"2,3\n', {"columns": ("y",)}, [[3]]),
        ("# made by me\nx,y\n1,2\n#3,4\n", {"comment": "#"}, [[1, 2]]),
        ("x::y\n1::2\n".replace("::", "\t"), {"delimiter": "tab"}, [[1, 2]]),
        ("1,2\n3,4\n", {"header": False}, [[1, 2], [3, 4]]),
        ("1,2\n3,4\n", {"header": True}, [[3, 4]]),
        ("1990,1991\n3,4\n", {"columns": ("1991",)}, [[4]]),
        ("x, y\n 1, 2 \n", {"columns": ("y",)}, [[2]]),
        ("land,1990\nDE,4\nFR,5\n", {"columns": ("1990",)}, [[4], [5]]),
    ],
)
def test_readings(tmp_path, text, columns, points):
    (tmp_path / "a.csv").write_text(text)
    assert read(tmp_path / "a.csv", Columns(**columns))[:2] == (points, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b,c\n1;u,3\n4;v,6\n", "delimiter: must be given .*';'"),
        ("x;y\n1,234;2\n3,456;1\n", "decimal: must be given .*'1,234'"),
        ("x;y\n1.234;2\n", "decimal: must be given .*'1.234'"),
        ("x;y\n1.5;2\n2,5;1\n", "decimal: must be given .*'1.5' and '2,5'"),
        ("1.5,2\n3,4\n", r"no_header: must be given \(--no-header\) if the first line .* got 1.5, 2"),
        ("1\n", "no_header: must be given"),
        ("anna,1,2\nberta,3,4\n", "no_header: must be given .*got anna, 1, 2"),
        ("# made by me\nx,y\n1,2\n", "comment: must be given .*# made by me"),
        ('"x,y\n1,2\n', "a quote in the first line that is not closed"),
    ],
)
def test_what_is_not_certain_names_the_option(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.csv")


def test_encodings_are_named_where_text_is_asked_for_and_only_there(tmp_path):
    (tmp_path / "a.csv").write_bytes("größe,ort\n1,Köln\n2,Bonn\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"encoding: must be given .*names in '.*a.csv' are no UTF-8"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes("x,ort\n1,Köln\n2,Bonn\n".encode("latin-1"))
    assert read(tmp_path / "b.csv", Columns(columns=("x",)))[:2] == ([[1], [2]], [])
    with pytest.raises(ValueError, match=r"encoding: must be given .*column 'ort' .*got b'K.*ln'"):
        read(tmp_path / "b.csv", Columns(columns=("x",), keep_columns=("ort",)))
    latin = Columns(columns=("größe",), keep_columns=("ort",), encoding="latin-1")
    assert read(tmp_path / "a.csv", latin) == ([[1], [2]], [], [{"ort": ["Köln", "Bonn"]}])
    rows = "".join(f"{i},ok\n" for i in range(3000)) + "7,K\xf6ln\n8,ok\n"
    (tmp_path / "late.csv").write_bytes(("x,ort\n" + rows).encode("latin-1"))
    points, letters, _ = read(tmp_path / "late.csv", Columns(columns=("x",), keep_columns=("ort",)))
    assert (len(points), letters) == (3001, [("row 3000", "ort", "unparsable")])


def test_texts_that_stand_for_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("x,ort\n1,NA\n-999,b\n -999 ,-\nNA,c\n")
    columns = Columns(columns=("x",), keep_columns=("ort",), null=("-999", "-"))
    points, letters, kept = read(tmp_path / "a.csv", columns)
    assert points == [[1]]
    assert letters == [("row 1", "x", "null"), ("row 2", "x", "null"), ("row 3", "x", "null")]
    assert kept == [{"ort": ["NA"]}]


def test_names_that_nobody_asked_for_may_stand_twice(tmp_path):
    (tmp_path / "a.csv").write_text("x,t,t\n1,a,b\n")
    assert read(tmp_path / "a.csv", Columns(columns=("x",)))[0] == [[1]]
    with pytest.raises(ValueError, match=r"columns: must be among the columns .*got 't' 2 times"):
        read(tmp_path / "a.csv", Columns(columns=("x", "t")))
    (tmp_path / "b.csv").write_text("x,x\n1,2\n")
    with pytest.raises(ValueError, match=r"columns: must be in every file, once, got '.*b.csv' with 'x' 2 times"):
        read(tmp_path / "*.csv", Columns(columns=("x",)))


def test_each_extension_has_its_delimiter(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.tsv").write_text("y\tx\n3\t4\n")
    assert read(tmp_path / "*.?sv")[0] == [[1, 2], [4, 3]]


def test_a_quote_costs_the_line_that_it_stands_in(tmp_path):
    """Not what comes behind it, up to the next quote or the end of the file."""
    rows = [f"{i},{i},t" for i in range(500)]
    rows[7], rows[300], rows[499] = '7,7,"open', '300,300,"a" b', '499,"499,t'
    (tmp_path / "a.csv").write_text("x,y,t\n" + "\n".join(rows))
    points, letters, _ = read(tmp_path / "a.csv", Columns(columns=("x", "y")))
    assert [row for row, _, reason in letters if "quote" in reason] == ["row 7", "row 300", "row 499"]
    assert [x for x, _ in points] == [i for i in range(500) if i not in (7, 300, 499)]


@pytest.mark.parametrize(
    ("text", "columns", "points", "letters"),
    [
        ("1,5 2,5\n3,5 4\n", {}, [[1.5, 2.5], [3.5, 4]], []),
        ("# x y\n1 2\n#3 4\n", {"comment": "#"}, [[1, 2]], []),
        ("1 2\r3 4\r", {}, [[1, 2], [3, 4]], []),
        ("1 2\n-1 4\n", {"null": ("-1",)}, [[1, 2]], [("row 1", "f0", "null")]),
    ],
)
def test_lines_of_words(tmp_path, text, columns, points, letters):
    (tmp_path / "a.txt").write_text(text)
    assert read(tmp_path / "a.txt", Columns(**columns))[:2] == (points, letters)


@pytest.mark.parametrize(
    ("text", "message"),
    [("# x y\n1 2\n", "comment: must be given"), ("1;2\n3;4\n", "input_format: must be csv for cells between ';'")],
)
def test_lines_that_are_not_just_words(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("indent", [None, 1])
def test_one_json_array_of_objects(tmp_path, encoding, indent):
    values = [{"x": 1.5, "y": 2}, 7, {"x": "a", "y": 1}, {"y": 3, "x": -1}]
    (tmp_path / "a.json").write_bytes(json.dumps(values, indent=indent).encode(encoding))
    points, letters, _ = read(tmp_path / "a.json")
    assert points == [[1.5, 2], [-1, 3]]
    assert letters == [("row 1", "", "unparsable"), ("row 2", "x", "unparsable")]


@pytest.mark.parametrize("text", ['[{"x": 1}, {"x": 2}', '[{"x": 1}] {"x": 2}', '{"x": \n', "[]", "3\n"])
def test_json_that_is_neither_lines_nor_a_whole_array(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"input: must be a readable JSON lines file, got '.*a.json'"):
        read(tmp_path / "a.json")


def test_a_json_line_of_nothing_is_refused_wherever_it_stands(tmp_path):
    for text in ('null\n{"x": 1}\n', '{"x": 1}\n null\n', 'null\n\nnull\n{"x": 1}', '{"x": 1}\nnull null\n'):
        (tmp_path / "a.jsonl").write_text(text)
        points, letters, _ = read(tmp_path / "a.jsonl", Columns(columns=("x",)))
        assert points == [[1]]
        assert {reason for _, _, reason in letters} == {"unparsable"}


def test_json_lines_of_any_line_end_and_encoding(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        for encoding in ("utf-8", "utf-16"):
            (tmp_path / "a.jsonl").write_bytes(end.join(['{"x": 1}', "", "{", '{"x": 2}']).encode(encoding))
            assert read(tmp_path / "a.jsonl")[:2] == ([[1], [2]], [("row 1", "", "unparsable")])


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv.xz", lzma.compress),
        ("b.csv.xz", lambda text: lzma.compress(text[:9]) + lzma.compress(text[9:])),
        ("a.csv.gzip", gzip.compress),
        ("a.csv.gz", lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:])),
    ],
)
def test_more_compressions(tmp_path, name, pack):
    whole = pack(lines().encode())
    (tmp_path / name).write_bytes(whole)
    assert read(tmp_path / name)[0] == XY
    for broken in (whole[:-5], whole + b"junk"):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(ValueError, match="input: must be a readable CSV file"):
            read(tmp_path / name)


def test_what_was_told_from_the_beginning_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes("x;y\n1,5;2\n".encode("utf-16-le"))
    (note,) = ReadBlocks(str(tmp_path / "a.csv")).notes
    assert "a.csv' looks written with --delimiter ';' --decimal ',' --encoding 'utf-16-le'," in note
    assert not ReadBlocks(str(tmp_path / "a.csv"), Columns(delimiter=";", decimal=",", encoding="utf-16-le")).notes


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "x,y\n"), ("a.csv", "\n"), ("a.csv", "x,y\n\n\n"), ("a.jsonl", "\n")]
)
def test_an_input_without_a_row_is_an_error(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"input: must .*a\."):
        ReadBlocks(str(tmp_path / name)).require_rows()


def test_one_row_is_enough_and_may_be_a_refused_one(tmp_path):
    for text in ("x,y\n1,2\n", "x,y\n1\n"):
        (tmp_path / "a.csv").write_text(text)
        ReadBlocks(str(tmp_path / "a.csv")).require_rows()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": "::"}, "delimiter: must be one ASCII character"), ({"comment": "é"}, "comment: must be one"),
        ({"quote": "#", "comment": "#"}, "delimiter, comment, quote: must be different"),
        ({"decimal": "x"}, "decimal: must be"), ({"encoding": "klingon"}, "encoding: must be one that Python knows"),
        ({"encoding": "rot13"}, "encoding: must be one"), ({"null": "x"}, "null: must be a tuple"),
        ({"delimiter": ",", "decimal": ",", "quote": "none"}, "decimal: must not be the delimiter"),
    ],
)  # fmt: skip
def test_dialects_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Columns(**options)


def test_what_is_said_of_a_dialect_must_have_an_effect(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"decimal: must be left out for .npy files, got ','"):
        read(tmp_path / "a.npy", Columns(decimal=","))
    (tmp_path / "a.txt").write_text("1 2\n")
    with pytest.raises(ValueError, match="delimiter: must be left out for text files"):
        read(tmp_path / "a.txt", Columns(delimiter=";"))


@pytest.mark.parametrize(
    ("name", "before", "good", "bad"),
    [
        ("a.csv", b"x,t\n", b"1,2024-01-0%d\n", b"1,2024-01-0\xff\n"),
        ("a.csv", b"x,t\n", b"%d,true\n", b"1,tr\xffe\n"),
        ("a.jsonl", b"", b'{"x": 1, "t": "2024-01-0%d"}\n', b'{"x": 1, "t": 5}\n'),
    ],
)
def test_a_cell_that_is_no_text_costs_its_row_among_times_and_truth_values(tmp_path, name, before, good, bad):
    (tmp_path / name).write_bytes(before + b"".join(good % i for i in range(1, 10)) + bad)
    points, letters, _ = read(tmp_path / name, Columns(columns=("x", "t")))
    assert (len(points), letters) == (9, [("row 9", "t", "unparsable")])


@pytest.mark.parametrize("before", ["# made by me\n" * 300, "\n" * 300])
def test_many_lines_that_are_no_rows_may_come_first(tmp_path, before):
    (tmp_path / "a.csv").write_text(before + "1;2\n3;4\n")
    assert read(tmp_path / "a.csv", Columns(header=False, comment="#"))[:2] == ([[1, 2], [3, 4]], [])
