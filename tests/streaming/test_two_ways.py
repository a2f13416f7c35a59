"""Blocks dealt out to shards, and shards that read their parts themselves: two ways to the same reports."""
import apache_beam as beam
import numpy as np
import pytest
from jobs import run
from list_source import ListSource, steady

from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.nearest import nearest
from beam_coresets.results.certificate import fixed_interval
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.shards.pieces import Piece
from beam_coresets.streaming import partial_reports
from beam_coresets.transforms.shards import read_shards
from beam_coresets.transforms.shards.read_shards import REPORTS, ReadShards
from beam_coresets.transforms.shards.sample_blocks import SampleBlocks
from beam_coresets.transforms.shards.shard_coreset import ShardCoreset
from beam_coresets.transforms.shards.shard_restriction import Reading

PARTS = 6
SCHEME = Assignment(4, 2, "cyclic", 8, parts=True)
MERGE_REDUCE = MergeReduce(Sampler(3, 200), SCHEME, 7)
SOURCE = ListSource(steady(PARTS, 200, lag=-1000, rows=20), most=64)
POLICY = Policy(SCHEME, parts=PARTS)
CENTERS = np.array([[0, 0], [10, 10], [20, 20]], np.float64)


def blocks(rows=512):
    """The parts' rows as blocks, as a source makes them."""
    found = []
    for part in range(PARTS):
        whole = SOURCE.rows(part)
        for low in range(0, len(whole), rows):
            piece = slice(low, low + rows)
            span = Span(part, low // rows, low + rows >= len(whole))
            found.append(PointBlock(whole.points[piece], whole.weights[piece], whole.ids[piece], span))
    return found


def _with_shard(element):
    return element[0], element


def dealt_out():
    """One report of each shard, by way of SampleBlocks and ShardCoreset."""

    def build(pipeline):
        made = pipeline | beam.Create(blocks(), reshuffle=False).with_output_types(PointBlock)
        keyed = made | SampleBlocks(MERGE_REDUCE) | beam.Map(_with_shard).with_output_types(
            tuple[int, tuple[int, Piece]]
        )
        combined = keyed | beam.CombinePerKey(ShardCoreset(MERGE_REDUCE))
        return {"reports": combined | beam.Values()}

    return sorted(run(build)[0]["reports"], key=lambda report: report.shard)


def read_by_shards():
    """One report of each shard, by way of ReadShards and what the coordinator makes of its partial reports."""
    held, _ = run(lambda p: {"reports": (p | ReadShards(SOURCE, MERGE_REDUCE, Reading()))[REPORTS]})
    return partial_reports.decidable(MERGE_REDUCE, [report for _, report in held["reports"]])[""]


@pytest.fixture(scope="module")
def ways():
    return dealt_out(), read_by_shards()


def true_cost():
    points = np.concatenate([SOURCE.rows(part).points for part in range(PARTS)])
    return float(nearest(points, CENTERS)[1].sum())


def test_shards_have_taken_in_the_same_rows(ways):
    for dealt, read in zip(*ways, strict=True):
        assert dealt.shard == read.shard
        assert dealt.ledger.equal(read.ledger)
        assert dealt.ledger.weights.tolist() == read.ledger.weights.tolist()
        assert read.finished()[: PARTS][SCHEME.matrix()[read.shard, :PARTS]].all()
    assert [r.to_bytes() for r in shard_reports(blocks(), MERGE_REDUCE)] == [r.to_bytes() for r in ways[0]]


@pytest.mark.parametrize("missing", [(), (1,), (0, 2), (0, 1)])
def test_the_decision_has_the_same_total_and_coverage_and_a_cost_within_its_interval(ways, missing):
    dealt, read = (decide([r for r in way if r.shard not in missing], POLICY) for way in ways)
    assert dealt.total_weight == read.total_weight
    assert dealt.points == read.points
    assert dealt.recovery.coverage == read.recovery.coverage
    assert dealt.recovery.complete[:PARTS].tolist() == read.recovery.complete[:PARTS].tolist()
    assert dealt.recovery.responded == read.recovery.responded
    assert not dealt.recovery.distrusted
    assert not read.recovery.distrusted
    if len(missing) < 2:
        assert read.recovery.coverage == 1.0
        assert read.points == sum(len(SOURCE.rows(part)) for part in range(PARTS))
        for decision in (dealt, read):  # each misses with a probability of 5 %; seeded, so none does
            interval = fixed_interval(decision, CENTERS)
            assert interval.low <= true_cost() <= interval.high
            assert interval.standard_error < 0.1 * true_cost()


def test_many_partial_reports_give_what_one_gives(ways, monkeypatch):
    """Shards that report after every 64 messages."""
    monkeypatch.setattr(read_shards, "FLUSH_BYTES", 1)
    many = read_by_shards()
    for once, often in zip(ways[1], many, strict=True):
        assert once.ledger.equal(often.ledger)
        assert once.finished().tolist() == often.finished().tolist()
        assert often.coreset.weights.sum() == pytest.approx(once.coreset.weights.sum(), rel=1e-9)
    interval = fixed_interval(decide(many, POLICY), CENTERS)
    assert interval.low <= true_cost() <= interval.high
