"""ShardCoreset: the laws of combiners, by its own methods and through Beam."""
import pickle

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.combiners import Count
from hypothesis import given
from hypothesis import strategies as st
from jobs import LOCAL, TWO_WORKERS, clusters, parts_of, run
from laws import check_merge_laws, piece_of, planned_parts, random_block

from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import Span
from beam_coresets.shards.assignment import split
from beam_coresets.shards.merge_reduce import ShardState, shard_reports
from beam_coresets.shards.pieces import Piece
from beam_coresets.shards.report import ShardReport
from beam_coresets.transforms.base.coders import ShardStateCoder
from beam_coresets.transforms.base.progress import PROGRESS
from beam_coresets.transforms.shards.shard_coreset import ShardCoreset

PLAN = Plan(k=3, shards=4, replication=2, coreset_size=12)


class AsLogic:
    """A CombineFn by the names that the laws know."""

    def __init__(self, combine):
        self.merge, self.compact, self.result = (
            combine.merge_accumulators, combine.compact, combine.extract_output,
        )


@given(st.data())
def test_merge_order_nesting_compact_empty_and_extracting_twice(data):
    combine = pickle.loads(pickle.dumps(ShardCoreset(PLAN.merge_reduce)))
    blocks = data.draw(planned_parts())
    check_merge_laws(
        data.draw, AsLogic(combine), combine.create_accumulator,
        lambda state, block: combine.add_input(state, (1, piece_of(PLAN.merge_reduce, block, 1))), blocks,
    )


def test_the_empty_accumulator():
    combine = ShardCoreset(PLAN.merge_reduce)
    combine.setup()
    state = combine.merge_accumulators([combine.create_accumulator(), combine.create_accumulator()])
    assert state.to_bytes() == ShardState().to_bytes()
    report = combine.extract_output(combine.compact(state))
    assert (len(report.coreset), report.ledger.rows, report.shard) == (0, 0, -1)


def test_blocks_are_not_changed_and_progress_is_counted():
    combine = ShardCoreset(PLAN.merge_reduce)
    block = random_block(200, Span(0, 0, True))
    before, done = block.to_bytes(), PROGRESS.shards
    piece = piece_of(PLAN.merge_reduce, block, 0)
    report = combine.extract_output(combine.add_input(combine.create_accumulator(), (0, piece)))
    assert block.to_bytes() == before
    assert PROGRESS.shards == done + 1
    held = split(block, PLAN.assignment)[0]
    assert 0 < report.ledger.rows == len(held)
    assert report.coreset.weights.sum() == pytest.approx(held.weights.sum(), rel=1e-12)


def reported(pieces, options):
    """Shard reports of (shard, piece) elements by way of Beam, as bytes."""
    def build(pipeline):
        keyed = beam.Create([(shard, (shard, piece)) for shard, piece in pieces])
        keyed = pipeline | keyed.with_output_types(tuple[int, tuple[int, Piece]])
        return {"out": keyed | beam.Reshuffle() | beam.CombinePerKey(ShardCoreset(PLAN.merge_reduce))}

    held, _ = run(build, options)
    return {shard: report.to_bytes() for shard, report in held["out"]}


@pytest.mark.parametrize("options", [LOCAL, TWO_WORKERS], ids=["one worker", "two workers"])
def test_beam_divides_and_shuffles_the_work_and_the_reports_stay_the_same(options):
    blocks = parts_of(clusters(2000), parts=4, rows=70)
    expected = {r.shard: r.to_bytes() for r in shard_reports(blocks, PLAN.merge_reduce)}
    pieces = [piece for block in blocks for piece in enumerate(PLAN.merge_reduce.pieces(block))]
    assert reported(pieces, options) == expected
    shuffled = [pieces[i] for i in generator("shuffled").permutation(len(pieces))]
    assert reported(shuffled, options) == expected


def test_types_are_checked_when_the_graph_is_made():
    pipeline = beam.Pipeline(options=PipelineOptions(LOCAL))
    made = beam.Create([(0, (0, piece_of(PLAN.merge_reduce, random_block(3), 0)))])
    keyed = pipeline | made.with_output_types(tuple[int, tuple[int, Piece]])
    out = keyed | beam.CombinePerKey(ShardCoreset(PLAN.merge_reduce))
    assert out.element_type == beam.typehints.Tuple[int, ShardReport]
    counts = keyed | Count.PerKey()
    with pytest.raises(beam.typehints.TypeCheckError):
        _ = counts | "Wrong" >> beam.CombinePerKey(ShardCoreset(PLAN.merge_reduce))


def test_states_cross_shuffles_in_their_own_bytes():
    coder = ShardCoreset(PLAN.merge_reduce).get_accumulator_coder()
    assert isinstance(coder, ShardStateCoder)
    block = random_block(1000)
    piece = piece_of(PLAN.merge_reduce, block, 0)
    state = ShardCoreset(PLAN.merge_reduce).add_input(ShardState(), (0, piece))
    encoded = coder.encode(state)
    assert len(encoded) < 40 * len(piece.sample) + 60_000  # its rows and a ledger
    assert coder.encode(coder.decode(encoded)) == encoded
