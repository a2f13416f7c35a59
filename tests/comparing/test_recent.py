"""Which earlier window a window is compared with."""
import numpy as np
import pytest

from beam_coresets.comparing.drift import Reference
from beam_coresets.comparing.recent import MOST_KEPT, RecentWindows
from beam_coresets.comparing.seen import Seen


def reference(number):
    points, ones = np.full((3, 2), number, np.float32), np.full(3, 1 / 3)
    seen = Seen(points, ones, np.array([1, 0, 1]), np.full(3, 0.5), 0.01, np.arange(3))
    return Reference(seen, np.full((1, 2), float(number)))


def recent(*spans):
    found = RecentWindows()
    for number, (start, end) in enumerate(spans):
        found = found.with_window(start, end, reference(number))
    return found


def number(window):
    return None if window is None else int(window.reference.centers[0, 0])


def test_the_last_one_before_is_named_whatever_was_decided_since():
    windows = recent((0, 10), (10, 20), (20, 30))
    assert [number(windows.before(at)) for at in (30, 20)] == [2, 1]
    assert RecentWindows().before(10) is None
    assert number(recent((10, 20), (0, 10)).before(10)) == 1  # late
    assert len(recent(*((10 * i, 10 * i + 10) for i in range(9))).windows) == 4


def test_sliding_windows_are_compared_with_the_last_that_shares_no_rows():
    windows = recent(*((5 * i, 5 * i + 20) for i in range(12)))
    assert windows.before(60).end == 60
    assert len(windows.windows) == 4 + 3


def test_windows_that_all_begin_together_are_never_compared():
    windows = recent(*((0, 10 * i + 10) for i in range(40)))
    assert windows.before(0) is None
    assert len(windows.windows) == MOST_KEPT


def test_a_revision_takes_the_place_of_the_first_decision():
    windows = recent((0, 10), (10, 20), (10, 20))
    assert number(windows.before(20)) == 2
    assert len(windows.windows) == 2


def test_a_claimed_window_that_is_not_read_yet_has_its_place():
    windows = recent((0, 10), (10, 20)).with_window(20, 30, None, 2)
    before = windows.before(30)
    assert (before.start, before.end, before.reference, before.revision) == (20.0, 30.0, None, 2)
    again = RecentWindows.from_bytes(windows.to_bytes())
    assert (again.before(30).reference, again.before(30).revision) == (None, 2)
    assert again.to_bytes() == windows.to_bytes()
    assert windows.without(before).before(30).end == 20


def test_bytes_give_the_same_windows_and_damaged_ones_are_refused():
    windows = recent((0, 10), (10, 20))
    again = RecentWindows.from_bytes(windows.to_bytes())
    assert again.to_bytes() == windows.to_bytes()
    assert [(w.start, w.end, number(w)) for w in again.windows] == [(0.0, 10.0, 0), (10.0, 20.0, 1)]
    with pytest.raises(ValueError, match="RecentWindows"):
        RecentWindows.from_bytes(windows.to_bytes()[:40])
