"""The laws of mergeable summaries, for any logic with `update`, `merge`, `compact` and `result`; and test blocks."""
import pickle

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.flats import Flats


def random_block(rows, span=Span(0, 0), dim=2, dtype=np.float32, seed=0, groups=False, extras=False):  # noqa: B008
    """`rows` seeded points with uneven weights, some of them zero; ids are unique to (part, ordinal, row)."""
    rng = generator("test block", seed, span.part, span.ordinal)
    ids = np.arange(rows, dtype=np.uint64) + np.uint64((span.part << 40) + (span.ordinal << 20))
    weights = rng.integers(0, 4, rows) / 2.0
    points = (rng.integers(0, 3, (rows, 1)) * 10 + rng.standard_normal((rows, dim))).astype(dtype)
    table = None
    if extras:
        table = pa.table({
            "id": pa.array([f"row {i}" for i in ids.tolist()], pa.string()),
            "kept": pa.array([None if i % 3 == 0 else int(i) for i in ids.tolist()], pa.int64()),
        })
    return PointBlock(points, weights, ids, span, rng.integers(0, 5, rows, np.int32) if groups else None, table)


@st.composite
def planned_parts(draw, max_parts=4, max_blocks=7, max_rows=40):
    """The blocks of some parts, each read to its end; some are empty, and the dtype may change from block to block."""
    groups, extras = draw(st.booleans()), draw(st.booleans())
    blocks = []
    for part in range(draw(st.integers(1, max_parts))):
        sizes = draw(st.lists(st.integers(0, max_rows), min_size=1, max_size=max_blocks))
        dtypes = draw(st.lists(st.sampled_from([np.float32, np.float64]), min_size=len(sizes), max_size=len(sizes)))
        for ordinal, (rows, dtype) in enumerate(zip(sizes, dtypes, strict=True)):
            span = Span(part, ordinal, ordinal == len(sizes) - 1)
            blocks.append(random_block(rows, span, dtype=dtype, groups=groups, extras=extras))
    return blocks


def piece_of(logic, block, shard):
    """What one shard takes of a block."""
    return list(logic.pieces(block))[shard]


def in_order(logic, new, update, blocks):
    """The state of one worker that reads all blocks as they come."""
    state = new()
    for block in blocks:
        state = update(state, block)
    return state


def some_way(draw, logic, new, update, blocks):
    """The state after any other way of doing the same work: shuffled, split up, serialized, merged in any nesting."""
    states = []
    shuffled = draw(st.permutations(blocks))
    cuts = sorted(draw(st.lists(st.integers(0, len(blocks)), max_size=4)))
    for low, high in zip([0, *cuts], [*cuts, len(blocks)], strict=True):
        states.append(_moved(draw, logic, in_order(logic, new, update, shuffled[low:high])))
    while len(states) > 1:
        width = draw(st.integers(2, len(states)))
        taken = [states.pop(draw(st.integers(0, len(states) - 1))) for _ in range(width)]
        if draw(st.booleans()):
            taken.insert(draw(st.integers(0, width)), new())
        states.append(_moved(draw, logic, logic.merge(taken)))
    return states[0]


def _moved(draw, logic, state):
    """A state on its way between workers."""
    how = draw(st.sampled_from(["stays", "bytes", "pickle", "compact", "merged alone"]))
    if how == "bytes":
        return type(state).from_bytes(state.to_bytes())
    if how == "pickle":
        return pickle.loads(pickle.dumps(state))
    if how == "compact":
        return logic.compact(state)
    return logic.merge([state]) if how == "merged alone" else state


def check_merge_laws(draw, logic, new, update, blocks):
    """However the work is divided, the result has the same bytes; asking for it twice changes nothing."""
    state = in_order(logic, new, update, blocks)
    expected = logic.result(state).to_bytes()
    held = state.to_bytes()
    assert logic.result(state).to_bytes() == expected, "result must not change the state"
    assert state.to_bytes() == held, "result must not change the state"
    assert logic.result(in_order(logic, new, update, blocks)).to_bytes() == expected, "a retry must be identical"
    assert logic.result(some_way(draw, logic, new, update, blocks)).to_bytes() == expected, "order must not matter"
    more = logic.merge([new(), state, new()])
    assert logic.result(more).to_bytes() == expected, "an empty state must be the identity"
    assert state.to_bytes() == held, "merge must not change what it merges"


def random_flats(k, r, d, affine, *seed):
    """k seeded flats of r directions in d dimensions, through the origin unless affine."""
    rng = generator("random flats", k, r, d, *seed)
    bases = np.linalg.qr(rng.standard_normal((k, d, r)))[0].transpose(0, 2, 1)
    return Flats(rng.standard_normal((k, d)) * affine, np.ascontiguousarray(bases))
