"""Coders: registered, deterministic, and equal on both ends."""
import pickle

import numpy as np
import pytest
from apache_beam import coders
from apache_beam.pipeline import PipelineOptions  # noqa: F401  (Beam's coders need its pipeline module loaded)
from hypothesis import given
from hypothesis import strategies as st
from jobs import clusters, parts_of, without_beam
from laws import piece_of, planned_parts, random_block

from beam_coresets.coordinator.decision import Decision, decide
from beam_coresets.coordinator.evidence import table_rows
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.shards.merge_reduce import ShardState, shard_reports
from beam_coresets.shards.pieces import Piece
from beam_coresets.shards.report import ShardReport
from beam_coresets.transforms.base.coders import DecisionCoder, PointBlockCoder, ShardReportCoder, ShardStateCoder

PLAN = Plan(k=3, shards=4, replication=2, coreset_size=30)
CODERS = {
    PointBlock: PointBlockCoder,
    ShardState: ShardStateCoder,
    ShardReport: ShardReportCoder,
    Decision: DecisionCoder,
}


@pytest.mark.parametrize("record", CODERS)
def test_the_registry_knows_them_and_they_survive_the_way_to_a_worker(record):
    coder = coders.registry.get_coder(record)
    assert type(coder) is CODERS[record]
    assert coder.is_deterministic()
    assert coder.as_deterministic_coder("a step") == coder
    assert coder.to_type_hint() is record
    assert pickle.loads(pickle.dumps(coder)) == coder
    assert hash(CODERS[record]()) == hash(coder)
    assert all(coder != other() for kind, other in CODERS.items() if kind is not record)


@given(st.integers(0, 50), st.sampled_from([np.float32, np.float64]), st.booleans(), st.booleans())
def test_blocks_come_back_as_they_were(rows, dtype, groups, extras):
    coder = coders.registry.get_coder(PointBlock)
    block = random_block(rows, Span(7, 3, True), dim=4, dtype=dtype, groups=groups, extras=extras)
    back = coder.decode(coder.encode(block))
    assert back.points.dtype == dtype
    assert np.array_equal(back.points, block.points)
    assert np.array_equal(back.ids, block.ids)
    assert (back.span, back.groups is None, back.extras) == (block.span, not groups, block.extras)
    assert coder.encode(back) == coder.encode(block)
    assert block.points.nbytes <= coder.estimate_size(block) <= len(coder.encode(block))


@given(st.data())
def test_states_and_reports_come_back_as_they_were(data):
    logic, state = PLAN.merge_reduce, ShardState()
    for block in data.draw(planned_parts()):
        piece = piece_of(logic, block, 1)
        state = logic.update(state, 1, piece)
        coder = coders.registry.get_coder(Piece)
        assert coder.encode(coder.decode(coder.encode(piece))) == coder.encode(piece)
        assert coder.estimate_size(piece) <= len(coder.encode(piece))
    coder = coders.registry.get_coder(ShardState)
    back = coder.decode(coder.encode(state))
    assert coder.encode(back) == coder.encode(state)
    assert coder.estimate_size(state) <= len(coder.encode(state))
    report = logic.result(state)
    again = logic.result(back)
    coder = coders.registry.get_coder(ShardReport)
    assert coder.encode(coder.decode(coder.encode(report))) == coder.encode(again)


def test_a_decision_comes_back_with_the_same_answer():
    blocks = parts_of(clusters(900))
    reports = [r for r in shard_reports(blocks, PLAN.merge_reduce) if r.shard != 2]
    coder = coders.registry.get_coder(Decision)
    decision = decide(reports, PLAN.policy)
    back = coder.decode(coder.encode(decision))
    assert back.recovery.stragglers == (2,)
    assert back.total_weight == decision.total_weight
    assert np.array_equal(back.recovery.multipliers, decision.recovery.multipliers)
    assert np.array_equal(back.coreset.weights, decision.coreset.weights)
    assert coder.encode(back) == coder.encode(decision)
    dropped = Plan(k=3, shards=4, replication=2, coreset_size=30, drop_shards=(2,))
    assert without_beam(blocks, dropped).coreset.num_rows == len(table_rows(back).first)
