"""AssignRedundantly: every row to the shards that hold its bucket, and nothing else changed."""
import pickle

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.display import DisplayData
from hypothesis import given
from hypothesis import strategies as st
from jobs import counters, run
from laws import random_block

from beam_coresets.points.block import PointBlock, Span
from beam_coresets.shards.assignment import SCHEMES, Assignment
from beam_coresets.transforms.shards.assign_to_shards import AssignRedundantly


def assigned(blocks, assignment):
    held, result = run(lambda p: {"out": p | beam.Create(blocks) | AssignRedundantly(assignment)})
    return held["out"], result


@pytest.mark.parametrize("kind", SCHEMES)
def test_rows_go_to_the_holders_of_their_bucket_and_nowhere_else(kind):
    assignment = Assignment(6, 3, kind, 64, seed=5)
    block = random_block(500, Span(4, 2, True), groups=True, extras=True)
    before = block.to_bytes()
    out, _ = assigned([block], assignment)
    assert sorted(shard for shard, _ in out) == list(range(6))
    holders = assignment.matrix()[:, assignment.bucket_of(block.ids)]
    for shard, part in out:
        expected = block.take(np.flatnonzero(holders[shard]))
        assert part.to_bytes() == expected.to_bytes()
        assert part.span == block.span
    assert sum(len(part) for _, part in out) == holders.sum()
    assert block.to_bytes() == before


def test_every_shard_hears_of_every_block_even_of_empty_ones():
    blocks = [random_block(0, Span(0, 0)), random_block(3, Span(0, 1, True))]
    out, result = assigned(blocks, Assignment(5, 2))
    assert sorted((shard, b.span.ordinal, b.span.last) for shard, b in out) == [
        (shard, ordinal, ordinal == 1) for shard in range(5) for ordinal in range(2)
    ]
    assert counters(result)["points_assigned"] == 3


@given(st.integers(1, 8), st.data())
def test_deterministic_schemes_give_every_row_to_exactly_l_shards(shards, data):
    replication = data.draw(st.integers(1, shards))
    kind = data.draw(st.sampled_from(["uniform", "cyclic"]))
    assignment = Assignment(shards, replication, kind, 32, seed=data.draw(st.integers(0, 9)))
    block = random_block(data.draw(st.integers(0, 60)))
    step = AssignRedundantly(assignment)
    pieces = pickle.loads(pickle.dumps(step))._assignment
    assert pieces == assignment
    assert (pieces.matrix().sum(axis=0) == replication).all()
    assert len(block) * replication == pieces.matrix()[:, pieces.bucket_of(block.ids)].sum()


def test_types_labels_and_display_data():
    pipeline = beam.Pipeline()
    out = pipeline | beam.Create([random_block(3)]) | AssignRedundantly(Assignment(4, 2))
    assert out.element_type == beam.typehints.Tuple[int, PointBlock]
    shown = {item.key: item.value for item in DisplayData.create_from(AssignRedundantly(Assignment(4, 2))).items}
    assert shown == {"shards": 4, "replication": 2, "scheme": "cyclic", "buckets": 1024}
    with pytest.raises(beam.typehints.TypeCheckError):
        pipeline | "Numbers" >> beam.Create([1, 2]) | "Assign numbers" >> AssignRedundantly(Assignment(4, 2))
