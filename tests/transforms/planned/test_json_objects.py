"""JSON objects by a plan: what Python's `json` reads, or odd; never another thing."""
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_coresets.transforms.planned import json_objects
from beam_coresets.transforms.planned.json_objects import FRACTION, LARGE, NULL, TEXT, TRUTH, WHOLE, plan_of
from beam_coresets.transforms.planned.texts import is_utf8, joined, text_array

ANY = (NULL, TEXT, WHOLE, LARGE, FRACTION, TRUTH)
PLAN = plan_of(dict.fromkeys(("a", "bc", "é"), ANY))


def read(texts, plan=PLAN):
    data, bounds = joined(texts)
    return json_objects.read_objects(plan, data, bounds[:-1], bounds[1:])


def value(found, name, row):
    """As Python would have it."""
    kind = found.kinds(name)[row]
    if kind == NULL:
        return None
    written = found.texts(name)[row].as_py()
    if kind == TEXT:
        return written
    if kind == TRUTH:
        return {"true": True, "false": False}[written]
    number = float(found.doubles(name)[row])
    assert repr(float(written)) == repr(number)
    return int(written) if kind in (WHOLE, LARGE) else number


def agrees(texts, plan=PLAN):
    """Holds what was read against `json`; the numbers of the texts that were read."""
    found = read(texts, plan)
    for row, number in enumerate(found.rows.tolist()):
        wanted = json.loads(texts[number].decode())
        assert isinstance(wanted, dict)
        for name in plan.numbers:
            got = value(found, name, row)
            assert repr(got) == repr(wanted.get(name)), texts[number]
    return found.rows.tolist()


SCALARS = st.sampled_from([
    "0", "-0", "1", "-1", "01", "1.", ".5", "-", "-.5", "1.5", "-0.0", "1e5", "1E+5", "1e-5", "1e", "1e+", "1.5e400",
    "9007199254740992", "9007199254740993", "-9223372036854775809", "9999999999999999999", "10000000000000000000",
    "0.30000000000000004", "0.1000000000000000055511151231257827", "2.2250738585072014e-308", "NaN", "Infinity",
    "-Infinity", "true", "false", "null", "tru", "nullx", "True", '"x"', '""', '"\u00e9\U0001f600"', r'"\n"', '"\x01"',
    '"\x7f"', '"', "{}", "[]", "[1, {}]", '{"a": [null, "]"]}', "[1,]", "[,1]", '{"a"}', '{"a":1,}', "[[]", "[]]",
    '{"x": {"y": [1, 2, {"z": ""}]}, "w": -1.5e3}', "[" * 59 + "]" * 59, "[" * 70 + "]" * 70, "[} ", '{"a":}', "",
]) | st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers().map(str)  # fmt: skip
KEYS = st.sampled_from(["a", "bc", "é", "b", "bcd", "A", "", "unwanted", r"\u0061", "a a"])


@st.composite
def objects(draw):
    blank = draw(st.sampled_from(["", "", " ", "\n\t\r ", "\f", "\u00a0"]))
    fields = draw(st.lists(st.tuples(KEYS, SCALARS), max_size=6))
    if draw(st.booleans()):
        fields = list({key: (key, cell) for key, cell in fields}.values())
    inner = f",{blank}".join(f'"{key}"{blank}:{blank}{cell}' for key, cell in fields)
    raw = bytearray(f"{blank}{{{blank}{inner}{blank}}}{blank}".encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at : at + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=2) | st.sampled_from([b'"', b"}", b",", b"\\"]))  # fmt: skip
        raw += b" " if not raw else b""
    return bytes(raw)


@settings(max_examples=800, deadline=None)
@given(st.lists(objects() | st.binary(max_size=12), min_size=1, max_size=6))
@example([b'{"a":1}', b'{"bc":1,"a":2}', b'{"a":1,"a":2}', b'{"a" : 1 } ', b'{"a":1}}', b'{"a":[}'])
def test_what_is_read_is_what_python_reads(texts):
    together = agrees(texts)
    assert together == [i for i, text in enumerate(texts) if agrees([text])]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.dictionaries(
    st.sampled_from(["a", "bc", "é", "z", "other"]),
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e9, 1e9).map(lambda x: round(x, 9))
    | st.text(st.characters(exclude_characters='"\\', exclude_categories=("Cc", "Cs"))), min_size=1), min_size=1))
def test_plain_objects_are_read_whatever_the_order_of_their_fields(records):
    texts = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    read_all = [not any(type(v) is float and v != 0 and abs(v) < 1e-60 for v in record.values()) for record in records]
    assert agrees(texts) == np.flatnonzero(read_all).tolist()


def test_nested_values_that_nobody_wants_are_passed_over():
    texts = [b'{"tags": ["x", {"a": 1, "b": {}}, [[]], [1.5e3, null , true]], "a": 7}', b'{"o": {"a": 3} , "a": 8 }',
             b'{"a": {"b": 1}}', b'{"o": [1 2], "a": 1}', b'{"o": {"a" 1}, "a": 1}', b'{"o": [}', b'{"o": [1',
             b'{"o": {1: 2}, "a": 1}', b'{"o": ["\\n"], "a": 1}', b'{"o": [tru ', b'{"o": [1] ']  # fmt: skip
    assert agrees(texts) == [0, 1]
    assert read(texts).texts("a").to_pylist() == ["7", "8"]


def test_a_field_has_the_kinds_that_the_plan_names():
    plan = plan_of({"a": (WHOLE, FRACTION), "b": (NULL, TEXT)})
    texts = [b'{"a": 1}', b'{"a": 1.5, "b": "x"}', b'{"a": "1"}', b'{"a": 1, "b": 2}', b'{"a": 1, "b": null}']
    found = read(texts, plan)
    assert found.rows.tolist() == [0, 1, 4]
    assert found.numbers("a").to_pylist() == [1, 1.5, 1]
    assert found.texts("b").to_pylist() == [None, "x", None]


def test_more_fields_than_are_guessed_are_found():
    names = [f"f{i}" for i in range(1500)]
    plan = plan_of(dict.fromkeys(names, ANY))
    record = {name: i for i, name in enumerate(names)}
    texts = [json.dumps(record).encode(), json.dumps(dict(reversed(record.items()))).encode()] * 2
    found = read(texts, plan)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert all(found.numbers(name).to_pylist() == [i] * 4 for i, name in enumerate(names))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "\ud800"])
def test_a_name_that_json_would_escape_has_no_plan(name):
    assert plan_of({name: ANY}) is None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=8) | st.text(st.characters(exclude_categories=())).map(
    lambda text: text.encode("utf-8", "surrogatepass")), st.integers(0, 3))  # fmt: skip
@example(b"\xed\xa0\x80", 0)
@example(b"\xf4\x90\x80\x80", 0)
@example(b"\xc0\x80", 0)
def test_utf8_is_what_python_decodes(raw, cut):
    raw = raw[: len(raw) - cut] if cut else raw
    try:
        raw.decode()
        wanted = True
    except UnicodeDecodeError:
        wanted = False
    data = np.frombuffer(raw + b"\x80", np.uint8)  # no byte behind the end is looked at
    assert is_utf8(data, 0, len(raw)) == wanted


def test_texts_are_gathered_with_nulls_between_them():
    data = np.frombuffer("abcédef".encode(), np.uint8)
    places = np.array([0 << 32 | 3, 77 << 32 | 1, 3 << 32 | 2, 5 << 32])
    array = text_array(data, places, np.array([True, False, True, True]))
    array.validate(full=True)
    assert array.to_pylist() == ["abc", None, "é", ""]
