"""The rate source: every message a function of seed, part and number, due by the clock."""
import itertools
import pickle
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.transforms.streams.rate import RateSource
from beam_coresets.transforms.streams.source import CHUNK_BYTES


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def source(clock=None, **fields):
    defaults = {"rate": 4000.0, "parts": 4, "dim": 3, "clusters": 5, "rows": 10, "seed": 3, "t0": 1000.0}
    return RateSource(**{**defaults, **fields}, clock=clock or Clock(2000.0))


def reader_at(made, positions):
    reader = made.reader(0, 1)
    reader.seek(positions)
    return reader


def joined(chunks):
    """Points, times and keys of one part's chunks, which must follow one another."""
    assert all(a.stop == b.start for a, b in itertools.pairwise(chunks))
    for chunk in chunks:
        assert chunk.position == chunk.stop
        assert chunk.offsets.tolist() == list(range(chunk.start, chunk.stop))
        assert chunk.counts.sum() == len(chunk.points)
    keys = None if chunks[0].keys is None else np.concatenate([c.keys for c in chunks])
    return np.concatenate([c.points for c in chunks]), np.concatenate([c.times for c in chunks]), keys


def test_replays_are_identical_in_a_copy_of_the_source():
    made = source(keys=7, drift=2.0)
    first, copied = (s.reader(0, 1) for s in (made, pickle.loads(pickle.dumps(made))))
    for reader in (first, copied):
        reader.seek({1: 5, 2: 0})
    for a, b in zip(first.read(0), copied.read(0), strict=True):
        assert a.part == b.part
        np.testing.assert_array_equal(a.points, b.points)
        assert a.keys.tolist() == b.keys.tolist()


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40)), min_size=1, max_size=6))
def test_any_sequence_of_seeks_and_reads_gives_the_same_messages(jumps):
    clock = Clock()
    made = source(clock, t0=clock.now, keys=3, drift=1.5)
    clock.now += 130 * made.period
    whole, times, keys = joined(reader_at(made, {2: 0}).read(0))
    assert len(times) == 131
    reader = made.reader(0, 1)
    for start, ahead in jumps:
        clock.now = made.t0 + (start + ahead) * made.period
        reader.seek({2: start})
        (chunk,) = reader.read(0)
        rows = slice(start * 10, (start + ahead + 1) * 10)
        np.testing.assert_array_equal(chunk.points, whole[rows])
        np.testing.assert_array_equal(chunk.times, times[start : start + ahead + 1])
        assert chunk.keys.tolist() == keys[start : start + ahead + 1].tolist()


@given(st.floats(0.5, 4e6), st.integers(1, 5000), st.floats(0, 5e4), st.floats(0, 2e9))
def test_what_is_due_is_what_has_come_into_being(rate, rows, elapsed, t0):
    made = source(rate=rate, rows=rows, t0=t0)
    due = made.due(0, t0 + elapsed)
    assert due >= 1
    assert made.times(due - 1) <= t0 + elapsed
    assert made.times(due) > t0 + elapsed
    assert made.due(0, t0 - 1.0) == 0


def test_a_reader_gets_what_the_clock_says_and_then_waits():
    clock = Clock()
    made = source(clock, t0=clock.now, rate=4000.0)  # 100 messages a second and part
    reader = reader_at(made, {0: 0, 3: 0})
    assert not reader.caught_up(0)
    assert [(c.part, c.stop) for c in reader.read(0)] == [(0, 1), (3, 1)]
    assert reader.caught_up(0)
    assert reader.read(0.01) == []
    clock.now += 0.5
    assert [(c.part, c.start, c.stop) for c in reader.read(0)] == [(0, 1, 51), (3, 1, 51)]
    assert reader.caught_up(3)
    assert not reader.ended(3)


def test_read_wakes_up_when_a_message_comes_into_being():
    made = RateSource(rate=1000.0, parts=1, dim=2, rows=100, t0=time.time())
    reader = reader_at(made, {0: 1})
    assert [chunk.start for chunk in reader.read(60.0)] == [1]


def test_a_backlog_comes_in_bounded_chunks_from_all_parts_alike():
    made = source(rate=4e7, rows=1000, dim=8)
    reader = reader_at(made, dict.fromkeys(range(4), 0))
    for _ in range(3):
        chunks = reader.read(0)
        assert [c.part for c in chunks] == [0, 1, 2, 3]
        assert len({len(c.points) for c in chunks}) == 1
        assert CHUNK_BYTES // 2 < sum(c.points.nbytes for c in chunks) <= CHUNK_BYTES
        assert not any(map(reader.caught_up, range(4)))


def test_parts_stop_or_stay_idle():
    made = source(stop=7, idle_parts=(1,))
    assert made.period == 10 * 3 / 4000
    reader = reader_at(made, made.starts())
    assert not reader.ended(0)
    assert [(c.part, c.stop) for c in reader.read(0)] == [(0, 7), (2, 7), (3, 7)]
    assert reader.read(0) == []
    assert all(reader.ended(part) and reader.caught_up(part) for part in range(4))
    endless = reader_at(source(idle_parts=(1,)), {1: 0})
    assert endless.read(0) == []
    assert endless.caught_up(1)
    assert not endless.ended(1)


def test_the_points_are_those_of_the_mixture_and_drift_moves_them():
    still, moving = source(rows=500, stop=40), source(rows=500, stop=40, drift=3.0)
    points, times, _ = joined(reader_at(still, {0: 0}).read(0))
    moved, _, _ = joined(reader_at(moving, {0: 0}).read(0))
    np.testing.assert_array_equal(points[:500], still.mixture.block(0, 500))
    others = reader_at(still, {1: 0}).read(0)[0].points
    assert not np.array_equal(points[:500], others[:500])
    shift = np.repeat(3.0 * (times - 1000.0), 500)[:, None] * moving.direction
    np.testing.assert_allclose(moved - points, shift, atol=1e-3)
    assert np.linalg.norm(moving.direction) == pytest.approx(1.0)
    assert len(np.unique(moved[:, 0])) > 1.2 * len(np.unique(points[:, 0]))


def test_keys_are_spread_evenly():
    _, _, keys = joined(reader_at(source(keys=5), {0: 0}).read(0))
    names, counts = np.unique(keys.astype(str), return_counts=True)
    assert names.tolist() == [f"key-{j}" for j in range(5)]
    assert counts.min() > 0.9 * len(keys) / 5


def test_the_start_is_settled_at_launch():
    clock = Clock(1234.7)
    made = RateSource(clock=clock)
    clock.now = 9999.0
    assert made.t0 == 1234.0
    assert pickle.loads(pickle.dumps(made)).t0 == 1234.0
    assert made.starts() == dict.fromkeys(range(8), 0)
    assert made.part_name(3) == "rate-3"
    assert not made.bounded
    assert "clock" not in made.display_data()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.0}, "rate: must be positive, got 0.0"),
        ({"rate": float("inf")}, "rate: must be positive, got inf"),
        ({"rate": 1e300}, "rate: must be at most"),
        ({"parts": 0}, "parts: must be at least 1, got 0"),
        ({"rows": 0}, "rows: must be at least 1, got 0"),
        ({"stop": -1}, "stop: must not be negative, got -1"),
        ({"keys": -1}, "keys: must not be negative, got -1"),
        ({"drift": float("nan")}, r"drift: must be at most 1e\+09 either way, got nan"),
        ({"drift": -1e300}, r"drift: must be at most 1e\+09 either way, got -1e\+300"),
        ({"idle_parts": (4,)}, r"idle_parts: must be some of 0 to 3, got \(4,\)"),
        ({"parts": 1, "idle_parts": (0,)}, "idle_parts: must be some"),
    ],
)
def test_fields_out_of_range(fields, message):
    with pytest.raises(ValueError, match=message):
        source(**fields)


def test_positions_that_cannot_be():
    reader = source().reader(0, 1)
    with pytest.raises(ValueError, match="part: must be one of 0 to 3, got 4"):
        reader.seek({4: 0})
    with pytest.raises(ValueError, match="position: must not be negative, got -2"):
        reader.seek({0: -2})
