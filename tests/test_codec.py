"""The byte format: equal records have equal bytes and come back equal; what it can't read is named."""
import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from laws import in_order, piece_of, planned_parts

from beam_coresets import codec
from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, ShardState, shard_reports
from beam_coresets.shards.report import ShardReport

SCHEME = Assignment(4, 2, "cyclic", 16, domains=(0, 1, 2, 3))
LOGIC = MergeReduce(Sampler(2, 8), SCHEME)

COLUMNS = {
    "text": (pa.string(), st.text(max_size=5)),
    "large": (pa.large_string(), st.text(max_size=5)),
    "number": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.booleans()),
    "time": (pa.timestamp("us"), st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1))),
    "list": (pa.list_(pa.string()), st.lists(st.text(max_size=2), max_size=3)),
    "raw": (pa.binary(), st.binary(max_size=4)),
}


@st.composite
def arrow_tables(draw):
    """A table of some of `COLUMNS`, with nulls or without."""
    n = draw(st.integers(0, 20))
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True))
    arrays = {}
    for name in names:
        kind, values = COLUMNS[name]
        values = draw(st.lists(st.none() | values if draw(st.booleans()) else values, min_size=n, max_size=n))
        arrays[name] = pa.array(values, kind)
    return pa.table(arrays)


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none() | st.booleans(), max_size=4),
    st.dictionaries(
        st.text(max_size=5),
        st.none()
        | hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.uint64, np.int32, np.bool_, np.dtype(">i4"), np.uint8]),
            hnp.array_shapes(max_dims=3, min_side=0, max_side=5),
        ),
        max_size=4,
    ),
)
def test_records_round_trip(fields, arrays):
    data = codec.pack("kind", fields, arrays)
    found, back = codec.unpack(data, "kind")
    assert found == fields
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        if array is None:
            assert back[name] is None
        else:
            assert back[name].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(back[name], array)
    assert codec.pack("kind", dict(reversed(fields.items())), back) == data


def test_layout_of_memory_does_not_show():
    array = np.arange(24.0).reshape(4, 6)
    assert codec.pack("k", {}, {"a": array[::2, ::-1]}) == codec.pack("k", {}, {"a": array[::2, ::-1].copy()})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "data: must start with b'BCS', got b''"),
        (b"PAR1....", "data: must start with b'BCS', got b'PAR'"),
        (b"BCS\x07" + bytes(8), "version: must be 1, got 7"),
        (b"BCS", "data: must have a header of at least 8 bytes, got 3"),
        (codec.pack("Other", {}, {}), "kind: must be 'Mine', got 'Other'"),
        (codec.pack("Mine", {}, {"a": np.arange(4)})[:-8], "within the 61 bytes"),
    ],
)
def test_what_cannot_be_read_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        codec.unpack(data, "Mine")


@given(arrow_tables(), st.data())
def test_equal_tables_have_equal_bytes(table, data):
    """Also where one is a slice of a larger one, or in chunks."""
    low = data.draw(st.integers(0, len(table)))
    length = data.draw(st.integers(0, len(table) - low))
    cut = table.slice(low, length)
    fresh = pa.table({n: pa.array(cut.column(n).to_pylist(), cut.schema.field(n).type) for n in cut.column_names})
    half = length // 2
    chunked = pa.concat_tables([cut.slice(0, half), cut.slice(half)])
    expected = codec.table_to_bytes(fresh).tobytes()
    assert codec.table_to_bytes(cut).tobytes() == expected
    assert codec.table_to_bytes(chunked).tobytes() == expected
    assert codec.table_from_bytes(codec.table_to_bytes(cut)).equals(fresh)


def test_no_table_stays_none():
    assert codec.table_to_bytes(None) is None
    assert codec.table_from_bytes(None) is None


@given(planned_parts())
def test_states_and_reports_round_trip(blocks):
    state = in_order(LOGIC, ShardState, lambda s, b: LOGIC.update(s, 2, piece_of(LOGIC, b, 2)), blocks[:-1])
    back = ShardState.from_bytes(state.to_bytes())
    assert back.to_bytes() == state.to_bytes()
    assert (back.shard, back.leaves, list(back.nodes), list(back.open)) == (
        state.shard, state.leaves, list(state.nodes), list(state.open),
    )
    report = LOGIC.result(back)
    again = ShardReport.from_bytes(report.to_bytes())
    assert again.to_bytes() == report.to_bytes()
    assert again.name == report.name == (2 if len(blocks) > 1 else -1, ())
    assert again.ledger.equal(report.ledger)
    extras = report.coreset.extras
    assert (again.coreset.extras is None) == (extras is None) or extras.equals(again.coreset.extras)


@given(planned_parts(), st.sampled_from(["exact", "uniform", "lp"]))
def test_decisions_round_trip(blocks, kind):
    decision = decide(shard_reports(blocks, LOGIC)[1:], Policy(SCHEME, kind, min_shards=4))
    back = Decision.from_bytes(decision.to_bytes())
    assert back.to_bytes() == decision.to_bytes()
    assert back.policy == decision.policy
    assert (back.total_weight, back.points, back.degraded) == (decision.total_weight, decision.points, True)
    for name in ("points", "weights", "weights_ht", "ids"):
        assert np.array_equal(getattr(back.coreset, name), getattr(decision.coreset, name))


@pytest.mark.parametrize("record", [ShardState, ShardReport, Decision])
def test_a_record_of_another_kind_is_refused(record):
    data = codec.pack("PointBlock", {}, {})
    framed = data if record in (ShardReport, Decision) else len(data).to_bytes(8, "little") + data
    with pytest.raises(ValueError, match=f"kind: must be '{record.__name__}', got 'PointBlock'"):
        record.from_bytes(framed)
