"""Windows: every time in one pane, panes on whole milliseconds, lengths as people write them."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.streaming.windows import WindowSpec

MILLISECONDS = st.integers(-(10**12), 4 * 10**12)  # 1938 to 2096


@given(MILLISECONDS, st.integers(1, 10**8))
def test_a_time_in_milliseconds_is_in_the_pane_of_its_milliseconds(time, width):
    windows = WindowSpec.parse(f"{width}ms")
    (pane,) = windows.pane_of(np.array([time / 1000])).tolist()
    assert pane == time // width
    assert windows.bounds(pane) == (pane * width / 1000, (pane + 1) * width / 1000)


@pytest.mark.parametrize("start", [10**8, 1_080_000_000, 1_700_000_000, 2_150_000_000, 4_000_000_000])
def test_whole_milliseconds_survive_seconds_in_float64(start):
    times = start * 1000 + np.arange(20_000, dtype=np.int64)
    assert (WindowSpec.parse("1ms").pane_of(times / 1000) == times).all()


@given(MILLISECONDS, st.integers(1, 10**6))
def test_panes_begin_where_the_last_one_ends(start, width):
    windows = WindowSpec("fixed", width / 1000, width / 1000)
    pane = start // width
    assert windows.bounds(pane)[1] == windows.bounds(pane + 1)[0]
    assert windows.pane_of(np.array(windows.bounds(pane))).tolist() == [pane, pane + 1]


def test_a_microsecond_before_the_end_is_still_inside():
    windows = WindowSpec.parse("5s")
    assert windows.pane_of(np.array([1.7e9 - 1e-6, 1.7e9, 1.7e9 + 5 - 1e-6])).tolist() == [
        339999999, 340000000, 340000000,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", WindowSpec("fixed", 5, 5)),
        (" 250 ms ", WindowSpec("fixed", 0.25, 0.25)),
        ("90", WindowSpec("fixed", 90, 90)),
        ("1.5m", WindowSpec("fixed", 90, 90)),
        ("60s/5s", WindowSpec("sliding", 60, 5)),
        ("1h/1h", WindowSpec("sliding", 3600, 3600)),
        ("global/30s", WindowSpec("global", 30, 30)),
        ("1d", WindowSpec("fixed", 86400, 86400)),
    ],
)
def test_windows_as_people_write_them(text, expected):
    assert WindowSpec.parse(text) == expected


def test_a_sliding_window_is_so_many_panes():
    assert WindowSpec.parse("60s/5s").panes == 12
    assert WindowSpec.parse("5s").panes == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("five", "window: must be a time such as 5s, 60s/5s or global/30s, got 'five'"),
        ("", "window: must be a time such as"),
        ("1.2.3s", "window: must be a time such as"),
        ("-5s", "window: must be a time such as"),
        ("60s/five", "window: must be a time such as 5s, 60s/5s or global/30s, got '60s/five'"),
        ("0s", "window: must be positive and in whole milliseconds, got 0 s"),
        ("0.5ms", "window: must be positive and in whole milliseconds, got 0.0005 s"),
        ("0.0001ms", "window: must be positive and in whole milliseconds"),
        ("60s/7s", "window: must be a multiple of its period 7 s if sliding, got 60 s"),
        ("5s/60s", "window: must be a multiple of its period 60 s if sliding, got 5 s"),
        ("global", "window: must say how often it reports, as in global/30s, got 'global'"),
    ],
)
def test_windows_that_cannot_be_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        WindowSpec.parse(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("session", 5, 5), "window: must be one of fixed, sliding, global, got 'session'"),
        (("fixed", 5, 1), "window: must have size and period alike if fixed, got 5 and 1"),
        (("fixed", np.inf, np.inf), "window: must be positive and in whole milliseconds, got inf s"),
    ],
)
def test_specs_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        WindowSpec(*fields)
