"""Bytes to records: whatever they hold and wherever they are cut, each is handed on or refused, once."""
import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.transforms.text import records
from beam_coresets.transforms.text.records import NONE, RecordReader, encoding_of, utf8_pieces


def split(data, width=NONE, size=1 << 30, **signs):
    """(records as text, their numbers, refused) of some bytes that come in pieces of `size`."""
    signs = {"delimiter": ",", "quote": '"', "comment": None} | signs
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    found = list(RecordReader(pieces, **signs).batches(width))
    kept = b"".join(bytes(each.data) + b"\n" for each in found).replace(b"\r", b"\n")
    kept = b"".join(line + b"\n" for line in kept.split(b"\n") if line)
    return kept, [int(n) for each in found for n in each.numbers], [r for each in found for r in each.refused]


def test_line_ends_of_every_kind_and_lines_without_anything():
    kept, numbers, refused = split(b"1,2\n3,4\r\n\r\n5,6\r\r\n\n7,8", 2)
    assert numbers == [0, 1, 2, 3]
    assert kept == b"1,2\n3,4\n5,6\n7,8\n"
    assert not refused


def test_quotes_hold_delimiters_quotes_and_line_ends():
    assert split(b'"a,\n""b""\r",2\n"c",3\n', 2)[1:] == ([0, 1], [])


@pytest.mark.parametrize("bad", [b'1,"open', b'"x"y,2', b'"a" "b",2', b'"a\nb"c,1'])
def test_a_quote_that_is_not_closed_costs_its_line(bad):
    """The lines after it are read: a quote must not take what follows for its cell."""
    data = b"1,2\n" + bad + b"\n3,4\n5,6\n"
    kept, numbers, refused = split(data, 2)
    lines = data.split(b"\n")[:-1]
    wrong = [r.number for r in refused]
    assert sorted([*numbers, *wrong]) == list(range(len(lines)))
    assert refused[0].number == 1
    assert refused[0].text == bad.split(b"\n")[0].decode()
    assert "quote: must be closed" in refused[0].reason
    assert kept.endswith(b"3,4\n5,6\n")


def test_comments_are_no_records_wherever_they_stand():
    kept, numbers, refused = split(b'#"\n1,2\n# a,b,c\n3,#4\n#', 2, comment="#")
    assert (kept, numbers, refused) == (b"1,2\n3,#4\n", [0, 1], [])


def test_the_first_record_is_taken_alone():
    reader = RecordReader([b"\n#c\n", b'"a\n', b'b",x\r', b"\n1,2\n"], ",", '"', "#")
    assert reader.first() == b'"a\nb",x'
    assert [bytes(each.data).strip() for each in reader.batches(2)] == [b"1,2"]
    assert RecordReader([b"\n\n"], ",", '"').first() is None
    with pytest.raises(ValueError, match="first line that is not closed"):
        RecordReader([b'"a,b\n1,2\n'], ",", '"').first()


def test_more_records_are_left_out_than_are_noted_at_a_time(monkeypatch):
    monkeypatch.setattr(records, "_MOST_ODD", 3)
    data = b"".join(b"1,2\n" if i % 5 == 0 else b"1\n" if i % 5 == 1 else b"#\n" for i in range(100))
    kept, numbers, refused = split(data, 2, size=64, comment="#")
    assert numbers == list(range(0, 40, 2))
    assert [r.number for r in refused] == list(range(1, 40, 2))
    assert kept == b"1,2\n" * 20


def test_a_line_without_an_end_is_not_gathered_for_ever(monkeypatch):
    monkeypatch.setattr(records, "MOST_BYTES", 1 << 10)
    with pytest.raises(ValueError, match="row 1 has more than"):
        list(RecordReader([b"1,2\n", *[b"x" * 100] * 100], ",", '"').batches(2))
    _, numbers, refused = split(b'1,2\n"' + b"3,4\n" * 1000, 2, size=64)
    assert len(numbers) + len(refused) == 1001
    assert [r.number for r in refused] == [1]


CELLS = st.text(st.sampled_from('ab1., ;\t\n\r"#é'), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=8),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    size=st.integers(1, 40),
    last=st.booleans(),
)
def test_what_a_writer_of_csv_writes_is_split_as_its_reader_splits_it(rows, delimiter, end, size, last):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    text = out.getvalue() if last else out.getvalue().removesuffix(end)
    _, numbers, refused = split(text.encode(), 2, size=size, delimiter=delimiter)
    assert numbers == [i for i, row in enumerate(rows) if len(row) == 2]
    assert [r.number for r in refused] == [i for i, row in enumerate(rows) if len(row) != 2]


@settings(max_examples=200, deadline=None)
@given(
    data=st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"#", b"a", b" ", b"\xff", b"\0"]), max_size=40),
    size=st.integers(1, 9),
)
def test_any_bytes_are_cut_anywhere_with_the_same_result(data, size):
    data = b"".join(data)
    whole = split(data, 2, comment="#")
    cut = split(data, 2, size=size, comment="#")
    assert cut[1:] == whole[1:]
    assert sorted([*whole[1], *(r.number for r in whole[2])]) == list(range(len(whole[1]) + len(whole[2])))


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8"])
def test_encodings_that_show_themselves(name):
    text = "größe,x\n" + "1,2\n" * 50
    assert b"".join(utf8_pieces(io.BytesIO(text.encode(name)))).decode() == text


def test_encodings_that_are_given():
    assert b"".join(utf8_pieces(io.BytesIO("größe".encode("latin-1")), "latin-1")) == "größe".encode()
    assert b"".join(utf8_pieces(io.BytesIO("größe".encode("utf-8-sig")), "latin-1")) == "größe".encode()
    assert encoding_of(b"", "cp1252") == ("cp1252", 0)
    with pytest.raises(ValueError, match="encoding: must be the file's, got utf-16-le"):
        list(utf8_pieces(io.BytesIO(b"\xff\xfea\0b"), None))
