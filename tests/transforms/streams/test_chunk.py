"""Chunk: which event time what was refused goes by, however a part is cut into chunks."""
import numpy as np
import pytest

from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.streams.source import Chunk

TIMES = {1: 10.0, 2: 30.0, 4: 20.0, 7: 40.0}  # of good messages, by offset
REFUSED = {0: np.nan, 3: np.nan, 5: 12.0, 6: np.nan, 8: np.nan}


def chunk(start, stop):
    good = [o for o in TIMES if start <= o < stop]
    bad = [o for o in REFUSED if start <= o < stop]
    letters = tuple(DeadLetter("null", "x", "topic", f"partition 0 offset {o}", "") for o in bad)
    return Chunk(
        0, start, stop, stop, np.zeros((len(good), 1)), np.array(good, np.int64), np.ones(len(good), np.int64),
        np.array([TIMES[o] for o in good]), letters=letters, letter_offsets=np.array(bad, np.int64),
        letter_times=np.array([REFUSED[o] for o in bad], np.float64),
    )  # fmt: skip


@pytest.mark.parametrize("cut", range(10))
def test_a_letter_goes_by_its_own_time_or_the_latest_before_it(cut):
    high, found = -np.inf, []
    for some in (chunk(0, cut), chunk(cut, 9)):
        found += some.times_of_letters(high).tolist()
        high = max([high, *some.times])
    assert found == [-np.inf, 30.0, 12.0, 30.0, 40.0]


def test_letters_have_a_place_and_a_time_each():
    with pytest.raises(ValueError, match=r"^letter_times: must be 1 for .* 1 letters, got 2$"):
        Chunk(0, 0, 1, 1, np.zeros((0, 1)), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0),
              letters=(DeadLetter("null", "", "topic", "offset 0", ""),), letter_times=np.zeros(2))  # fmt: skip
