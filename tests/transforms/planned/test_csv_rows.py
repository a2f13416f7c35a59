"""Rows of CSV by a plan: what Arrow reads of the records that are told apart first, or nothing; never another thing."""
import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_coresets.transforms.planned.csv_rows import plan_of
from beam_coresets.transforms.text.cells import as_columns
from beam_coresets.transforms.text.records import RecordReader

PLACES, NUMBERS = {"t": 2, "x": 0, "y": 3}, {"x": True, "t": False, "y": True}
TAKE = {0: pa.float64(), 2: pa.string(), 3: pa.float64()}


def plainly(text, quote='"', comment=None):
    """The columns as the plain way has them; None where a record is refused or a cell is not of its type."""
    found = list(RecordReader([text], ",", quote, comment).batches(4))
    if not found or any(each.refused for each in found):
        return None
    try:
        batches = [as_columns(each.data, 4, TAKE, len(each.numbers), ",", quote) for each in found]
    except pa.ArrowInvalid:
        return None
    return pa.Table.from_batches(batches)


def agrees(text, quote='"', comment=None):
    """Whether a plan reads a text; if so, it is what the plain way reads, with the sign of zeros."""
    found = plan_of(4, PLACES, NUMBERS, ",", quote, comment).read(text)
    if found is None:
        return False
    wanted = plainly(text, quote, comment)
    assert wanted is not None, text
    assert found.schema.names == ["x", "t", "y"]
    assert found.column("t").to_pylist() == wanted.column("2").to_pylist()
    for name, other in (("x", "0"), ("y", "3")):
        assert repr(found.column(name).to_pylist()) == repr(wanted.column(other).to_pylist()), text
    return True


NUMBER = st.sampled_from([
    "1", "", "-0", "-0.0", "007", "1.", ".5", "+1", " 1", "1e3", "-1E-3", "1e", "nan", "-", "--1", "x", "1e400",
    "1.5.2",
    "123456789012345678901", "0.000000000000000001234567890123456789", "0.1000000000000000055511151231257827", "1-2",
    "0.012345678901234567", "9007199254740993", "00000000000000000000000000001", "\u0661", "1\0",
]) | st.floats(-1e9, 1e9).map(repr) | st.integers().map(str)  # fmt: skip
TEXT = st.sampled_from(["", "a", "\u00e9", "a b", " ", '"a"', '""', 'a"b', "'a'", "NA", "\0", '"a,b"'])
CELLS = st.just("1.5") | NUMBER, st.just("more") | TEXT, st.just("t") | TEXT | st.text(max_size=3), NUMBER
LINE = st.tuples(*CELLS).map(",".join)
ODD = st.sampled_from(["", "1,2,3", "1,2,3,4,5", "#1,2,3,4", "1,2,#,4", "\r", '1,2,"a\nb",4'])


@settings(max_examples=1500, deadline=None)
@given(st.lists(LINE | st.just("1,a,b,2"), min_size=1, max_size=3), st.none() | ODD,
       st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(['"', "'", None]), st.sampled_from([None, "#"]),
       st.booleans(), st.sampled_from(["utf-8", "latin-1"]))  # fmt: skip
@example(["-0,a,b,1."], None, "\n", '"', None, True, "utf-8")
@example(["1,a,b,.5"], None, "\n", '"', None, True, "utf-8")
@example(["1,a,b,2"], "#1,2,3,4", "\n", '"', "#", True, "utf-8")
@example(['1,a,"b",2'], None, "\n", '"', None, True, "utf-8")
@example(['1,"a",b,2'], None, "\n", '"', None, True, "utf-8")
def test_what_is_read_is_what_arrow_reads(lines, odd, end, quote, comment, ended, encoding):
    lines = lines if odd is None else [*lines, odd]
    agrees((end.join(lines) + end * ended).encode(encoding, "replace"), quote, comment)


def test_plain_rows_are_read():
    rows = np.random.default_rng(0).normal(0, 10, (50, 2))
    text = "".join(f"{x!r},more,\u00e9{i},{y!r}\r\n" for i, (x, y) in enumerate(rows.tolist()))
    assert agrees(text.encode())
    assert agrees(text.encode()[:-2])
    assert agrees(b"1,,,\n\n,a,b,2e-5\n-0,0,0,-0.0")
    for line in ("1,2,3", "1,2,3,4,5", "#,2,3,4", "x,2,3,4", '1,2,"3",4', "1,2,3,0x1", "1,2,3,4 "):
        assert not agrees(f"{text}{line}\n".encode(), comment="#")
    assert not agrees(b"1,2,\xff,4\n")
    named = plan_of(2, {"t": 0, "x": 1}, {"t": False, "x": True}, ",", '"', "#")
    assert named.read(b"a,1\n").to_pylist() == [{"t": "a", "x": 1}]
    assert named.read(b"#a,1\n") is None
