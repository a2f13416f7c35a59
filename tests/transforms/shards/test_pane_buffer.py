"""PaneBuffer: chunks cut where panes change, ids of part, offset and number, extras that stay with their rows."""
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.transforms.shards.pane_buffer import PaneBuffer
from beam_coresets.transforms.streams.source import Chunk


def chunk_of(part, start, counts, extras=False, keys=False, ids=False, weights=False):
    """Messages of `counts` rows from offset `start` on; every second offset has none."""
    counts, n = np.array(counts, np.int64), sum(counts)
    offsets = start + 2 * np.arange(len(counts), dtype=np.int64)
    rows = np.repeat(offsets, counts) * 100 + np.concatenate([np.arange(c) for c in counts] or [np.empty(0, int)])
    return Chunk(
        part, start, start + 2 * len(counts), start + 2 * len(counts),
        np.stack([np.full(n, part), rows], axis=1).astype(np.float32), offsets, counts,
        offsets.astype(np.float64), rows * 0.5 if weights else None,
        np.array([f"key {o}" for o in offsets.tolist()], object) if keys else None,
        rows.astype(np.uint64) if ids else None, rows.astype(np.int32) if weights else None,
        pa.table({"kept": rows}) if extras else None,
    )  # fmt: skip


COUNTS = st.lists(st.integers(0, 4), max_size=6)
CHUNKS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), COUNTS), max_size=4)


@given(CHUNKS, st.booleans(), st.booleans(), st.data())
def test_every_row_is_in_its_pane_with_all_that_belongs_to_it(chunks, extras, plain, data):
    collected, expected = PaneBuffer(), {}
    for i, (part, start, counts) in enumerate(chunks):
        chunk = chunk_of(part, 100 * i + start, counts, extras, not plain, not plain, not plain)
        panes = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(counts), max_size=len(counts))), np.int64)
        collected.add(chunk, panes)
        for pane, offset, count in zip(panes.tolist(), chunk.offsets.tolist(), counts, strict=True):
            expected.setdefault(pane, []).extend((part, offset, i, count) for i in range(count))
    for pane in range(3):
        rows, wanted = collected.rows(pane, lambda part: f"part-{part}"), expected.get(pane, [])
        found = [(int(p), int(r) // 100, int(r) % 100) for p, r in rows.points.tolist()] if len(rows.ids) else []
        assert sorted(found) == sorted(w[:3] for w in wanted)
        size = {w[:3]: w[3] for w in wanted}
        low = [r * 100 + i if not plain else r << 16 | i for _, r, i in found]
        assert rows.ids.tolist() == [p << 48 | number for (p, _, _), number in zip(found, low, strict=True)]
        if not plain and found:
            assert rows.weights.tolist() == [(r * 100 + i) / 2 for _, r, i in found]
            assert rows.groups.tolist() == [r * 100 + i for _, r, i in found]
            assert rows.keys.tolist() == [f"key {r}" for _, r, _ in found]
        some = np.array(data.draw(st.permutations(range(len(found))))[: len(found) // 2 + 1], np.int64)
        if len(some):
            table = rows.extras(some)
            names = [f"part-{p}@{r}" + (f"#{i}" if size[p, r, i] > 1 else "") for p, r, i in found]
            assert table["id"].to_pylist() == [names[i] for i in some.tolist()]
            if extras:
                assert table["kept"].to_pylist() == [found[i][1] * 100 + found[i][2] for i in some.tolist()]


def test_rows_weigh_one_and_printed_ids_of_the_user_are_kept():
    chunk = chunk_of(3, 0, [2, 1])
    named = Chunk(**vars(chunk) | {"extras": pa.table({"id": ["a", "b", "c"]})})
    collected = PaneBuffer()
    collected.add(named, np.array([7, 7]))
    rows = collected.rows(7, str)
    assert rows.weights.tolist() == [1.0, 1.0, 1.0]
    assert rows.keys is None
    assert rows.extras(np.array([2, 0]))["id"].to_pylist() == ["c", "a"]


def test_what_it_holds_is_counted():
    collected = PaneBuffer()
    assert collected.nbytes == 0
    collected.add(chunk_of(0, 0, [4, 4]), np.array([1, 2]))
    assert collected.nbytes >= 8 * 2 * 4
    assert len(collected.rows(5, str).ids) == 0


@pytest.mark.parametrize("offset", [2**31, 2**40])
def test_far_offsets_have_ids_of_their_own(offset):
    collected = PaneBuffer()
    collected.add(chunk_of(1, offset, [1, 1, 1]), np.zeros(3, np.int64))
    ids = collected.rows(0, str).ids
    assert len(set(ids.tolist())) == 3
    assert (ids >> np.uint64(48)).tolist() == [1, 1, 1]


def test_rows_of_a_large_message_have_ids_of_their_own():
    collected = PaneBuffer()
    collected.add(chunk_of(0, 0, [70_000]), np.zeros(1, np.int64))
    assert len(np.unique(collected.rows(0, str).ids)) == 70_000
