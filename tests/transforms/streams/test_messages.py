"""Messages to rows: every format, what it takes and what it refuses; without a broker."""
import dataclasses
import io
import itertools
import json
import pickle

import fastavro
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from beam_coresets.transforms.reading.blocks import BlocksFromRows
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.messages.formats import (
    MESSAGE_KEY,
    Avro,
    Block,
    EventTime,
    Float32,
    Json,
    Messages,
    SchemaRegistry,
    message_format,
    read_schema,
)
from beam_coresets.transforms.streams.times import event_time

NOW = 1_700_000_000.0
XY = Columns(columns=("x", "y"))
SCHEMA = {
    "type": "record", "name": "Point", "fields": [
        {"name": "x", "type": "double"}, {"name": "y", "type": ["null", "double"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "user", "type": "string"},
    ],
}  # fmt: skip


def batch(values, times=None, keys=None, first=10):
    n = len(values)
    return Messages("orders", "partition 3", np.arange(first, first + n), np.full(n, NOW) if times is None else
                    np.array(times, float), [None] * n if keys is None else keys, values)  # fmt: skip


def decode(form, values, times=None, keys=None, clock=EventTime()):  # noqa: B008
    return form.decode(batch(values, times, keys), clock, NOW)


def refused(decoded):
    return [(letter.reason, letter.column_name, letter.position) for letter in decoded.letters]


def as_json(*rows):
    return [json.dumps(row).encode() for row in rows]


def as_avro(*rows, schema=SCHEMA):
    parsed, out = fastavro.parse_schema(schema), []
    for row in rows:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, row)
        out.append(stream.getvalue())
    return out


def test_a_chunk_knows_its_part_and_all_offsets_read_also_of_messages_without_rows():
    good = np.ones(2, "<f4").tobytes()
    part = dataclasses.replace(batch([b"", good, b""]), part=3, start=7)  # 7 to 9 are gone from the log
    chunk = Float32(2).decode(part, EventTime(), NOW)
    assert (chunk.part, chunk.start, chunk.stop, chunk.position) == (3, 7, 13, 13)
    assert (chunk.offsets.tolist(), len(chunk.letters)) == ([11], 2)
    nothing = Float32(2).decode(batch([], keys=[]), EventTime(), NOW)
    assert (nothing.start, nothing.stop, len(nothing.points)) == (0, 0, 0)


@given(st.lists(arrays.arrays("<f4", st.tuples(st.integers(1, 5), st.just(3)), elements=st.floats(-100, 100, width=32)),
                max_size=6))  # fmt: skip
def test_blocks_come_back_as_they_were_packed(blocks):
    rows = decode(Block(3), [block.tobytes() for block in blocks])
    np.testing.assert_array_equal(rows.points, np.concatenate([np.empty((0, 3)), *blocks]))
    assert rows.counts.tolist() == [len(block) for block in blocks]
    assert rows.offsets.tolist() == list(range(10, 10 + len(blocks)))
    assert (rows.times == NOW).all()
    assert rows.weights is rows.ids is rows.keys is None
    assert not rows.letters


def test_a_block_loses_the_rows_that_are_no_points_alone():
    first = np.array([[1, 2], [np.nan, 1], [3, np.inf]], "<f4")
    second = np.array([[np.nan, np.inf]], "<f4")
    rows = decode(Block(2), [first.tobytes(), second.tobytes(), np.ones((2, 2), "<f4").tobytes()])
    np.testing.assert_array_equal(rows.points, [[1, 2], [1, 1], [1, 1]])
    assert rows.offsets.tolist() == [10, 12]
    assert rows.counts.tolist() == [1, 2]
    assert [(letter.reason, letter.position) for letter in rows.letters] == [
        ("nan", "partition 3 offset 10 row 1"), ("infinite", "partition 3 offset 10 row 2"),
        ("nan", "partition 3 offset 11 row 0"),
    ]  # fmt: skip
    assert rows.letters[0].row_text == "[nan, 1.0]"
    assert rows.letters[0].source == "orders"


@pytest.mark.parametrize(("form", "value", "reason"), [
    (Block(8), b"x" * 33, "width: must be a multiple of 32 bytes, got 33"),
    (Block(8), b"", "width: must be a multiple of 32 bytes, got 0"),
    (Float32(8), b"x" * 64, "width: must be 32 bytes, got 64"),
    (Block(8), None, "null message"),
    (Json(XY), None, "null message"),
    (Json(XY), b"{", "unparsable: must be a JSON object"),
    (Json(XY), b"[1, 2]", "unparsable: must be a JSON object"),
    (Json(XY), b'{"x": 1, "y": "\xff"}', "unparsable: must be a JSON object"),
    (Json(XY), b"[" * 100_000, "unparsable: must be nested at most 100 deep, got 100000"),
    (Json(XY), b'{"z": ' + b"[" * 100 + b"]" * 100 + b"}", "unparsable: must be nested at most 100 deep, got 101"),
    (Json(XY), b'{"x": 1, "y": 2, "z": "\\ud800"}', "unparsable: must be Unicode text, got half of a surrogate pair"),
    (Json(XY), '{"x": 1, "y": 2}'.encode("utf-16"), "unparsable: must be a JSON object"),
    (Json(XY), b'{"x": 1, "y": 2, "z": -Inf}', "unparsable: must be a JSON object"),
    (Float32(2), np.array([1, -3e20], "<f4").tobytes(), "too large: must be at most 1e+17, got -3e+20"),
    (Json(XY), b"", "unparsable: must be a JSON object"),
])  # fmt: skip
def test_a_message_of_another_form_is_a_letter(form, value, reason):
    rows = decode(form, [value])
    assert refused(rows) == [(reason, "", "partition 3 offset 10")]
    assert len(rows.letters[0].row_text) <= 500
    assert len(rows.points) == len(rows.offsets) == len(rows.counts) == len(rows.times) == 0
    assert rows.points.shape[1] in (2, 8)


def test_vectors_under_cosine_have_length_one_and_zeros_are_refused():
    values = [np.array(v, "<f4").tobytes() for v in ([3, 4], [0, 0], [np.nan, 1], [1e30, 0])]
    rows = decode(Float32(2, "cosine"), values)
    np.testing.assert_allclose(rows.points, [[0.6, 0.8], [1, 0]], rtol=1e-6)
    assert refused(rows) == [("zero vector", "", "partition 3 offset 11"), ("nan", "", "partition 3 offset 12")]


BAD_ROWS = [
    ({"x": 1, "y": 2, "w": 1, "g": "a"}, None), ({"x": None, "y": 2, "w": 1, "g": "a"}, ("null", "x")),
    ({"y": 2, "w": 1, "g": "a"}, ("null", "x")), ({"x": 1, "y": float("nan"), "w": 1, "g": "a"}, ("nan", "y")),
    ({"x": float("inf"), "y": 2, "w": 1, "g": "a"}, ("infinite", "x")), ({"x": "7", "y": 2, "w": 1, "g": "a"},
    ("unparsable", "x")), ({"x": True, "y": 2, "w": 1, "g": "a"}, ("unparsable", "x")),
    ({"x": 1, "y": 2, "w": -1, "g": "a"}, ("negative", "w")), ({"x": 1, "y": 2, "w": None, "g": "a"}, ("null", "w")),
    ({"x": 1, "y": 2, "w": 1, "g": None}, ("null", "g")), ({"x": 0, "y": 0, "w": 1, "g": "a"}, ("zero vector", "")),
]  # fmt: skip


@pytest.mark.parametrize("copies", [1, 40])
def test_json_rows_are_refused_for_what_rows_of_any_pipeline_are(copies):
    """40 copies go through Arrow's parser as far as they can; a lone one through Python's."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.testing.util import assert_that, equal_to

    columns = Columns(columns=("x", "y"), metric="cosine", weight_column="w", group_column="g")
    rows = [row for row, _ in BAD_ROWS]
    want = [fault for _ in range(copies) for _, fault in BAD_ROWS if fault is not None]
    rows += [BAD_ROWS[0][0]] * (100 if copies > 1 else 0)
    got = decode(Json(columns), as_json(*[row for row, _ in BAD_ROWS] * copies, *rows[len(BAD_ROWS):]))
    assert [(letter.reason, letter.column_name) for letter in got.letters] == want
    assert len(got.points) == copies + len(rows) - len(BAD_ROWS)
    assert json.loads(got.letters[0].row_text) == BAD_ROWS[1][0]
    with beam.Pipeline(FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([[row for row, _ in BAD_ROWS]]) | beam.FlatMap(list) | BlocksFromRows(columns)
        assert_that(outputs.dead_letters | beam.Map(lambda letter: (letter.reason, letter.column_name)),
                    equal_to(want[: len(want) // copies]))  # fmt: skip


@pytest.mark.parametrize("n", [3, 200])
def test_json_rows_have_weights_ids_groups_keys_and_kept_columns(n):
    columns = Columns(("x", "y"), weight_column="w", id_column="id", group_column="g", keep_columns=("note", "m"))
    source = [{"x": i, "y": 0.5, "w": i / 2, "id": i, "g": f"g{i % 2}", "user": 7, "note": "é", "m": i / 4, "z": [i]}
              for i in range(n)]  # fmt: skip
    rows = decode(Json(columns, "user"), as_json(*source))
    assert not rows.letters
    np.testing.assert_array_equal(rows.points[:, 0], np.arange(n))
    np.testing.assert_array_equal(rows.weights, np.arange(n) / 2)
    assert rows.extras.column("id").to_pylist() == [str(i) for i in range(n)]
    assert rows.extras.column("m").to_pylist()[:3] == ["0", "0.25", "0.5"]
    assert rows.extras.column("note").to_pylist() == ["é"] * n
    assert rows.extras.column("group").to_pylist() == [f"g{i % 2}" for i in range(n)]
    assert rows.keys.tolist() == ["7"] * n
    assert len(set(rows.groups.tolist())) == 2
    text = decode(Json(columns, "user"), as_json(*[{**row, "id": str(row["id"])} for row in source]))
    assert len(set(rows.ids.tolist())) == n
    np.testing.assert_array_equal(rows.ids, text.ids)


def test_json_reads_the_same_whichever_parser_took_it():
    columns = Columns(columns=("x", "y"), id_column="id", keep_columns=("m",))
    source = [{"x": i / 3, "y": -i, "id": i, "m": [i, i + 0.5][i % 2], "at": NOW + [i % 50, 0.5][i % 2], "k": i % 3}
              for i in range(300)]  # fmt: skip
    form, clock = Json(columns, "k"), EventTime("at")
    whole = decode(form, as_json(*source), clock=clock)
    spaced = decode(form, [b" " + value + b"\n" for value in as_json(*source)], clock=clock)
    alone = [decode(form, as_json(row), clock=clock) for row in source]
    for field in ("points", "times", "keys", "ids", "counts"):
        together = getattr(whole, field)
        np.testing.assert_array_equal(together, getattr(spaced, field))
        np.testing.assert_array_equal(together, np.concatenate([getattr(one, field) for one in alone]))
    assert whole.extras.equals(spaced.extras)
    assert [row for one in alone for row in one.extras.to_pylist()] == whole.extras.to_pylist()


def test_two_objects_in_one_message_are_not_two_rows():
    values = [b'{"x": 1, "y": 1}'] * 100
    values[5], values[6] = b'{"x": 2, "y": 2}{"x": 3, "y": 3}', b""
    values[50], values[51] = b'{"x": 2,', b'"y": 2}{"x": 3, "y": 3}'
    rows = decode(Json(XY), values)
    assert [letter.position for letter in rows.letters] == [f"partition 3 offset {10 + i}" for i in (5, 6, 50, 51)]
    assert rows.offsets.tolist() == [10 + i for i in range(100) if i not in (5, 6, 50, 51)]
    np.testing.assert_array_equal(rows.points, np.ones((96, 2)))


def test_vectors_in_json_have_one_width():
    form = Json(Columns(vector_column="v", dim=2))
    rows = decode(form, as_json({"v": [1, 2]}, {"v": [1, 2, 3]}, {"v": [1, None]}, {"v": None}, {"v": 5}))
    np.testing.assert_array_equal(rows.points, [[1, 2]])
    assert [letter.reason for letter in rows.letters] == ["width: must be 2, got 3", "null", "null", "unparsable"]


def test_avro_records_come_back_and_broken_ones_are_letters():
    form = Avro(Columns(columns=("x", "y"), keep_columns=("user",)), "user", json.dumps(SCHEMA))
    rows = [{"x": i, "y": i / 2, "at": int(NOW * 1000) + i, "user": f"u{i}"} for i in range(3)]
    good = as_avro(*rows, {**rows[0], "y": None})
    got = decode(form, [*good, good[0] + b"x", good[0][:-1], b"", b"\xff" * 40], clock=EventTime("at"))
    np.testing.assert_array_equal(got.points, [[0, 0], [1, 0.5], [2, 1]])
    np.testing.assert_allclose(got.times, NOW + np.arange(3) / 1000)
    assert got.keys.tolist() == got.extras.column("user").to_pylist() == ["u0", "u1", "u2"]
    assert refused(got)[0] == ("null", "y", "partition 3 offset 13")
    assert [reason.split(":")[0] for reason, *_ in refused(got)[1:]] == ["unparsable"] * 4
    assert got.letters[1].reason.startswith("unparsable: must be one record of")


def test_avro_takes_all_numbers_but_the_key_and_the_time_for_coordinates():
    form = Avro(Columns(), "user", json.dumps(SCHEMA))
    form.check_time("at")
    got = decode(form, as_avro({"x": 1, "y": 2, "at": int(NOW * 1000), "user": "a"}), clock=EventTime("at"))
    np.testing.assert_array_equal(got.points, [[1, 2]])


def test_message_keys_become_keys_of_rows():
    values = [np.ones((2, 2), "<f4").tobytes()] * 3
    rows = decode(Block(2, key_column=MESSAGE_KEY), values, keys=[b"a", None, b"\xff\x01"])
    assert (rows.keys.tolist(), rows.counts.tolist()) == (["a", "ff01"], [2, 2])
    assert refused(rows) == [("null", MESSAGE_KEY, "partition 3 offset 11")]
    rows = decode(Json(XY, MESSAGE_KEY), as_json({"x": 1, "y": 2}), keys=["né".encode()])
    assert rows.keys.tolist() == ["né"]


def test_a_row_without_its_key_is_refused():
    source = [{"x": 1, "y": 2, "k": k} for k in ("a", 5, None, 1.5, True, [1])] + [{"x": 1, "y": 2}]
    rows = decode(Json(XY, "k"), as_json(*source))
    assert rows.keys.tolist() == ["a", "5"]
    assert [letter.reason for letter in rows.letters] == ["null", "unparsable", "unparsable", "unparsable", "null"]
    assert {letter.column_name for letter in rows.letters} == {"k"}


def test_a_row_is_refused_once_whatever_is_wrong_with_it():
    source = as_json({"x": None}, {"x": 1, "y": 1}, {"x": 1, "y": 1, "k": "a"})
    rows = decode(Json(XY, "k"), source, clock=EventTime("t"))
    assert [letter.position for letter in rows.letters] == [f"partition 3 offset {i}" for i in (10, 11, 12)]
    assert len(rows.points) == len(rows.keys) == len(rows.times) == 0


ROLES = Columns(("x", "y"), weight_column="w", id_column="id", group_column="g", keep_columns=("note", "m"))
NUMBERS = ["0", "-0", "-0.0", "1", "0.5", "-1e3", "1e17", "3e30", "1e400", "NaN", "Infinity", "-Infinity", "Inf",
           "-NaN", "9007199254740993", "-9223372036854775809", "1" + "0" * 400, "7" * 5000, "01", "1."]  # fmt: skip
TEXTS = ['"a"', '"\u00e9\U0001f600"', r'"\ud83d\ude00"', r'"\ud800"', r'"a\udc00"', r'"\u0000"', '"\xff"', '"\x01"',
         '"}\n{"', r'"\"[{"', '"2023-11-14T22:13:20Z"', '"2023-11-14 22:13Z"', '"2023-11-14T22:13:20+02"',
         '"2023-11-14"']  # fmt: skip
OTHERS = ["null", "true", "[]", "{}", "[1, true]", "[1, 2]", "[0.5, 9007199254740993]", "[1, null]", "[1, NaN]",
          '["a", 2]', "[" * 99 + "]" * 99, "[" * 100 + "]" * 100, '{"x":' * 1500 + "1" + "}" * 1500,
          "[1" + ",{}" * 200 + "]", str(int(NOW)), str(int(NOW * 1000)), str(NOW + 0.25)]  # fmt: skip
CELLS = st.sampled_from(NUMBERS + TEXTS + OTHERS)
NAMES = ("x", "y", "v", "w", "id", "g", "note", "m", "k", "at", "z")
PLAIN = {"x": "1", "y": "2.5", "v": "[1, 2]", "w": "1", "id": "7", "g": '"a"', "note": '"b"', "m": "5", "k": '"c"',
         "at": str(int(NOW))}  # fmt: skip
JSON_FORMS = [Json(XY), Json(ROLES, "k"), Json(Columns(vector_column="v", dim=2), "m"),
              Json(Columns(vector_column="v", dim=2, metric="cosine", keep_columns=("m",)), "m"),
              Json(Columns(("x", "y"), metric="cosine", keep_columns=("k", "x")), "x")]  # fmt: skip


@st.composite
def json_messages(draw):
    """Mostly rows like PLAIN, with up to three cells changed, written with or without spaces; some mangled."""
    row = PLAIN | draw(st.dictionaries(st.sampled_from(NAMES), CELLS, max_size=3))
    for name in draw(st.sets(st.sampled_from(NAMES), max_size=1)):
        row.pop(name, None)
    space = draw(st.sampled_from(["", "", " ", "\r", "\n", "\f"]))
    text = "{" + ("," + space).join(f'"{name}":{space}{cell}' for name, cell in row.items()) + space + "}"
    raw = text.encode("latin-1" if draw(st.booleans()) and all(ord(c) < 256 for c in text) else "utf-8")
    return draw(st.sampled_from([raw] * 12 + [raw[:-1], raw + raw, b"\xef\xbb\xbf" + raw, raw[1:], b"", None]))


@st.composite
def batches(draw):
    """A few messages among many plain ones, so that Arrow's reader has a chance to see each of them."""
    values = [json.dumps({name: json.loads(cell) for name, cell in PLAIN.items()}).encode()] * draw(
        st.sampled_from([0, 0, 70, 150]))  # fmt: skip
    for message in draw(st.lists(json_messages(), min_size=1, max_size=4)):
        values.insert(draw(st.integers(0, len(values))), message)
    return values


def as_messages(form, values, clock, low=0, high=None):
    """What becomes of messages low to high: letters, and by offset all that belongs to its rows, bit by bit."""
    everything = batch(values, keys=[b"k"] * len(values))
    high = len(values) if high is None else high
    part = Messages("orders", "partition 3", *(getattr(everything, name)[low:high]
                                               for name in ("offsets", "times", "keys", "values")))  # fmt: skip
    got = form.decode(part, clock, NOW)
    offsets = np.repeat(got.offsets, got.counts)
    keys = None if got.keys is None else np.repeat(got.keys, got.counts)
    columns = [got.points, np.repeat(got.times, got.counts), got.weights, got.ids, got.groups, keys]
    cells = [[None] * len(offsets) if column is None else
             [one.tobytes() if isinstance(one, (np.ndarray, np.generic)) else one for one in column]
             for column in columns]  # fmt: skip
    extras = [None] * len(offsets) if got.extras is None else [repr(row) for row in got.extras.to_pylist()]
    kinds = [None if c is None else c.dtype for c in columns], None if got.extras is None else got.extras.schema
    for letter in got.letters:
        " ".join(letter).encode()  # letters are written, too
    return list(zip(offsets.tolist(), *cells, extras, strict=True)), list(got.letters), kinds


def same_in_parts(form, values, clock, cut):
    rows, letters, kinds = as_messages(form, values, clock)
    for edges in ([0, cut, len(values)], range(len(values) + 1)):
        parts = [as_messages(form, values, clock, low, high) for low, high in itertools.pairwise(edges)]
        assert [row for part in parts for row in part[0]] == rows
        assert [letter for part in parts for letter in part[1]] == letters
        assert all(part[2] == kinds for part in parts)
    assert {row[0] for row in rows} | {int(one.position.split()[3]) for one in letters} == set(
        range(10, 10 + len(values)))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(batches(), st.sampled_from(JSON_FORMS), st.sampled_from([EventTime(), EventTime("at")]), st.randoms())
def test_json_is_the_same_however_messages_are_batched(values, form, clock, random):
    same_in_parts(form, values, clock, random.randint(0, len(values)))


def plain_row(**cells):
    return "{" + ",".join(f'"{key}":{value}' for key, value in (PLAIN | cells).items()) + "}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", JSON_FORMS, ids=range(len(JSON_FORMS)))
def test_every_odd_json_cell_is_the_same_alone_and_among_many(form, name):
    """Behind a row of its own kind, and behind a plain one: the first tells Arrow's reader what to expect."""
    for text in [plain_row(**{name: cell}) for cell in NUMBERS + TEXTS + OTHERS]:
        for raw in {text.encode(), text.encode("latin-1", "replace")}:
            for clock, first in itertools.product((EventTime(), EventTime("at")), (raw, plain_row().encode())):
                alone, leader = as_messages(form, [raw], clock), as_messages(form, [first], clock)
                rows, letters, kinds = as_messages(form, [first] + [raw] * 66, clock)
                assert kinds == alone[2]
                assert [row[1:] for row in rows] == [row[1:] for row in leader[0] + alone[0] * 66], raw
                assert [one.reason for one in letters] == [one.reason for one in leader[1] + alone[1] * 66], raw


ODD = {"type": "record", "name": "Odd", "fields": [
    {"name": "x", "type": "float"}, {"name": "y", "type": ["null", "float"]}, {"name": "k", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]}  # fmt: skip
OTHER_FORMS = [Float32(2), Block(2), Float32(2, "cosine"), Block(2, "cosine", MESSAGE_KEY),
               Avro(Columns(("x", "y"), keep_columns=("k",)), "k", json.dumps(ODD)),
               Avro(Columns(("x", "y"), metric="cosine", id_column="k"), MESSAGE_KEY, json.dumps(ODD))]  # fmt: skip
WIDE = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 3e20, -2e38, 1e-30])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=24) | st.lists(WIDE, max_size=6).map(lambda v: np.array(v, "<f4").tobytes())
                | st.builds(lambda x, y, k, at: as_avro({"x": x, "y": y, "k": k, "at": at}, schema=ODD)[0], WIDE,
                            st.none() | WIDE, st.text(max_size=3), st.sampled_from([0, int(NOW * 1000), 2**62])),
                max_size=8), st.sampled_from(OTHER_FORMS), st.randoms())  # fmt: skip
def test_packed_and_avro_messages_are_the_same_however_they_are_batched(values, form, random):
    same_in_parts(form, values, EventTime(), random.randint(0, len(values)))
    assert form.decode(batch(values, keys=[b"k"] * len(values)), EventTime(), NOW).points.dtype == np.float32
    if isinstance(form, Avro):
        as_messages(form, values, EventTime("at"))


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON_LIKE).map(lambda row: json.dumps(row).encode())
                | st.binary(max_size=40) | st.tuples(st.integers(1, 5000), st.sampled_from(["[", '{"x":'])).map(
                    lambda deep: (deep[1] * deep[0]).encode()), max_size=4), st.sampled_from(JSON_FORMS + OTHER_FORMS))
@example([b'{"key":"\\ud800"}'], Json(XY, "key"))
def test_whatever_a_message_holds_gives_rows_or_a_letter(values, form):
    same_in_parts(form, values, EventTime(), len(values) // 2)
    if form in JSON_FORMS:
        as_messages(form, values, EventTime("at"))


def test_halves_of_surrogate_pairs_are_letters_wherever_they_are():
    good = dict.fromkeys(("x", "y", "w"), 1) | dict.fromkeys(("id", "g", "note", "m", "k"), "a")
    for name in ("id", "g", "note", "m", "k", "z"):
        got = decode(Json(ROLES, "k"), as_json(good, good | {name: "\ud800"}, good | {name: "\ud83d\ude00"}))
        assert got.offsets.tolist() == [10, 12]
        assert [one.reason for one in got.letters] == ["unparsable: must be Unicode text, got half of a surrogate pair"]


def test_recursive_avro_schemas_are_refused():
    tree = {"type": "record", "name": "Tree", "fields": [
        {"name": "x", "type": "double"}, {"name": "next", "type": ["null", {"type": "array", "items": "Tree"}]}]}
    with pytest.raises(ValueError, match="schema: must not be recursive"):
        message_format("avro", Columns(columns=("x",)), schema=json.dumps(tree))
    twice = {"type": "record", "name": "Pair", "fields": [
        {"name": "x", "type": {"type": "enum", "name": "E", "symbols": ["a"]}}, {"name": "y", "type": "E"},
        {"name": "z", "type": "double"}]}  # fmt: skip
    assert message_format("avro", Columns(columns=("z",)), schema=json.dumps(twice)).name == "avro"


def test_a_time_field_is_compared_with_the_messages_own_time():
    """So that a shard which was held for long refuses what its peer refused."""
    rows = as_json(*({"x": 1, "y": 2, "at": at} for at in (NOW, NOW + 61, NOW - 11, NOW + 61, NOW + 101)))
    clock = EventTime("at", 60, 10)
    stamps = [NOW, NOW, NOW, np.nan, 0]
    early, late = (Json(XY).decode(batch(rows, stamps), clock, now) for now in (NOW, NOW + 40))
    assert early.offsets.tolist() == [10]
    assert late.offsets.tolist() == [10, 13], "without a timestamp it is the clock"
    assert [one.reason for one in early.letters][:2] == [
        "event time: must be at most 60 s ahead, got 2023-11-14T22:14:21+00:00",
        "event time: must be at most 10 s behind, got 2023-11-14T22:13:09+00:00",
    ]
    assert late.letters == early.letters[:2] + early.letters[3:]


def test_messages_far_from_now_are_letters():
    times = [NOW, np.nan, 0, -5, NOW + 60, NOW + 61, NOW - 100, NOW - 101, 1e300]
    rows = decode(Float32(1), [np.ones(1, "<f4").tobytes()] * len(times), times, clock=EventTime(max_behind=100))
    assert rows.times.tolist() == [NOW, NOW + 60, NOW - 100]
    assert rows.offsets.tolist() == [10, 14, 16]
    assert [letter.reason for letter in rows.letters] == [
        "no event time", "no event time", "no event time",
        "event time: must be at most 60 s ahead, got 2023-11-14T22:14:21+00:00",
        "event time: must be at most 100 s behind, got 2023-11-14T22:11:39+00:00",
        "event time: must be at most 60 s ahead, got 1e+300",
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "seconds"), [
    (NOW, NOW), (int(NOW * 1000), NOW), ("2023-11-14T22:13:20Z", NOW), ("2023-11-14T22:13:20", NOW),
    ("2023-11-15T00:13:20.25+02:00", NOW + 0.25), ("2023-11-14T22:13:20.123456789Z", NOW + 0.123456),
    ("yesterday", None), (None, None), (True, None), ([1], None), (10**400, None),
], ids=lambda value: str(value)[:30])  # fmt: skip
@pytest.mark.parametrize("n", [1, 100])
def test_times_of_a_field_are_seconds_milliseconds_or_iso(value, seconds, n):
    rows = decode(Json(XY), as_json(*[{"x": 1, "y": 2, "at": value}] * n), clock=EventTime("at"))
    if seconds is None:
        assert refused(rows)[0] == ("no event time", "at", "partition 3 offset 10")
        assert len(rows.letters) == n
        assert np.isnan(event_time(value))
    else:
        np.testing.assert_allclose(rows.times, [seconds] * n, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: message_format("xml"), r"message_format: must be one of .*, got 'xml'"),
    (lambda: message_format("block"), "dim: must be given for 'block' messages, got none"),
    (lambda: message_format("block", Columns(dim=2, id_column="i")), "id_column: must be left out for 'block'"),
    (lambda: message_format("block", Columns(dim=2), "user"), "key_column: must be 'message.key'"),
    (lambda: message_format("avro", XY), "schema: must be given for 'avro' messages, got None"),
    (lambda: message_format("json", XY, schema="{}"), "schema: must be left out for 'json' messages"),
    (lambda: message_format("avro-registry", XY), "registry: must be given"),
    (lambda: message_format("protobuf-registry", XY), "registry: must be given"),
    (lambda: message_format("json-registry", XY, schema="{}"), "schema: must be left out"),
    (lambda: message_format("protobuf-registry", registry=SchemaRegistry("http://h")), "columns: must be named"),
    (lambda: message_format("json"), "columns: must be named"),
    (lambda: message_format("json", Columns(vector_column="v")), "dim: must be given with vector_column"),
    (lambda: message_format("avro", XY, schema="nonsense"), "schema: must be an Avro schema"),
    (lambda: message_format("avro", XY, schema='"string"'), "schema: must be an Avro record"),
    (lambda: message_format("avro", XY, "who", json.dumps(SCHEMA)), r"key_column: must be among the fields.*'who'"),
    (lambda: Avro(XY, None, json.dumps(SCHEMA)).check_time("when"), r"time: must be among the fields.*'when'"),
    (lambda: Block(2).check_time("when"), "time: must be 'message' for messages without columns"),
    (lambda: Block(0), "dim: must be at least 1, got 0"),
    (lambda: Float32(2, "manhattan"), "metric: must be one of"),
    (lambda: EventTime(max_ahead=-1), "max_ahead: must be at least 0 s, got -1"),
])  # fmt: skip
def test_what_can_not_work_is_refused_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_formats_by_name_survive_pickling(tmp_path):
    path = tmp_path / "point.avsc"
    path.write_text(json.dumps(SCHEMA))
    registry = SchemaRegistry.from_config({"schema.registry.url": "http://host:1", "bootstrap.servers": "x"})
    made = [message_format("json", XY), message_format("avro", XY, schema=read_schema(str(path))),
            message_format("avro-registry", XY, registry=registry), message_format("float32", Columns(dim=3)),
            message_format("protobuf-registry", XY, registry=registry),
            message_format("json-registry", XY, registry=registry),
            message_format("block", Columns(dim=3), MESSAGE_KEY)]  # fmt: skip
    assert [form.name for form in made] == [
        "json", "avro", "avro-registry", "float32", "protobuf-registry", "json-registry", "block"]
    for form in made:
        assert pickle.loads(pickle.dumps(form)) == form
        assert form.display_data()["format"] == form.name
    assert SchemaRegistry.from_config({"bootstrap.servers": "x"}) is None
    assert dataclasses.is_dataclass(registry)
