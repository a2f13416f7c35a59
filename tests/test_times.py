"""Lengths and moments, from text and to text."""
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.times import iso, length_of_time, moment, moment_or_nan

DAY = 1767225600.0  # 2026-01-01


def test_lengths():
    texts = ("250ms", "5s", "2m", "1h", "1d", "7", " 1.5 s ")
    assert [length_of_time(text) for text in texts] == [0.25, 5, 120, 3600, 86400, 7, 1.5]


@pytest.mark.parametrize("value", ["five", "", "1.2.3s", "-5s", "5 apples", ".", [1], None, 5])
def test_what_is_no_length_is_refused(value):
    with pytest.raises(ValueError, match="cap: must be a time such as 500ms, 5s or 2m, got ") as caught:
        length_of_time(value, "cap")
    assert str(caught.value).endswith(f"got {value!r}")


@pytest.mark.parametrize(("text", "expected"), [
    ("2026-01-01", DAY), ("2026-01-01T00:00:01Z", DAY + 1), (" 2026-01-01T00:00:01z ", DAY + 1),
    ("2026-01-01 01:00+01:00", DAY), ("2026-01-01T00:00:00.5", DAY + 0.5),
    ("2026-01-01T00:00:00.123456789Z", DAY + 0.123456), ("1969-12-31T23:59:59Z", -1.0),
])  # fmt: skip
def test_moments_are_utc_unless_they_say_otherwise(text, expected):
    assert moment(text) == moment_or_nan(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "", "1767225600", "2026-13-01", "10000-01-01", "Z"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError, match="time: must be a date or time such as 2026-11-21T08:00, got "):
        moment(text)
    assert math.isnan(moment_or_nan(text))


@given(st.integers(-62_135_596_800_000, 253_402_300_799_000))
def test_what_is_shown_is_read_again(milliseconds):
    text = iso(milliseconds / 1000)
    assert " " not in text
    assert round(moment(text) * 1000) == milliseconds


def test_how_moments_are_shown():
    assert [iso(DAY), iso(DAY + 0.5)] == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.500000Z"]
    assert iso(DAY + 0.5, "seconds", "+00:00") == "2026-01-01T00:00:00+00:00"
    assert [iso(1e300), iso(math.nan)] == ["1e+300", "nan"], "as numbers where the calendar ends"
