"""StandardScale and ScaleBlocks: one scale for all blocks, whatever the order, and no digits lost."""
import itertools

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.pvalue import AsSingleton
from hypothesis import given
from hypothesis import strategies as st
from jobs import clusters, parts_of, run
from laws import planned_parts, random_block

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.scale import Scale
from beam_coresets.transforms.rows.scaling import ScaleBlocks, StandardScale


def scale_of(blocks, cuts=()):
    """The Scale by way of accumulators that are cut and merged in order."""
    combine = StandardScale()
    states = []
    for low, high in itertools.pairwise([0, *cuts, len(blocks)]):
        state = combine.create_accumulator()
        for block in blocks[low:high]:
            state = combine.add_input(state, block)
        states.append(state)
    return combine.extract_output(combine.merge_accumulators([combine.create_accumulator(), *states]))


@given(st.data())
def test_any_division_of_the_work_gives_the_same_scale(data):
    blocks = data.draw(planned_parts())
    if sum(block.weights.sum() for block in blocks) == 0:
        return
    expected = scale_of(blocks)
    shuffled = data.draw(st.permutations(blocks))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(blocks)), max_size=3)))
    again = scale_of(shuffled, cuts)
    # rounding to six digits may fall either way where a value is a hair from the middle
    assert np.allclose(again.divisor, expected.divisor, rtol=2e-5)
    assert np.allclose(again.origin, expected.origin, atol=2e-5 * max(expected.divisor))


def test_mean_and_deviation_are_weighted():
    points = clusters(4000, dtype=np.float64)
    weights = generator("weights").uniform(0, 3, 4000)
    scale = scale_of(parts_of(points, weights=weights))
    mean = np.average(points, axis=0, weights=weights)
    deviation = np.sqrt(np.average((points - mean) ** 2, axis=0, weights=weights))
    assert np.allclose(scale.divisor, deviation, rtol=1e-5)
    assert np.allclose(scale.origin, mean, atol=1e-4 * max(scale.divisor))


@given(st.sampled_from([0.0, 1e7, -3e9, 1.7e9]))
def test_a_large_offset_costs_no_digits(offset):
    points = clusters(1000, dtype=np.float64)
    plain, moved = scale_of(parts_of(points)), scale_of(parts_of(points + offset))
    assert np.allclose(moved.divisor, plain.divisor, rtol=1e-5)
    assert np.allclose(np.asarray(moved.origin) - offset, plain.origin, atol=1e-4 * max(plain.divisor))
    assert np.allclose(moved.undo(moved.apply(points + offset)), points + offset, rtol=1e-13)


def test_a_constant_column_and_no_rows_divide_by_one():
    points = np.column_stack([np.full(50, 3.5), np.arange(50.0)])
    scale = scale_of(parts_of(points, parts=1))
    assert scale.divisor[0] == 1
    assert scale.apply(points)[:, 0] == pytest.approx(np.zeros(50), abs=1e-5)
    assert scale_of([]) == Scale((), ())


@pytest.mark.parametrize("value", [0.1, 1e7 + 0.1, -1.7e9 / 3])
def test_rounding_does_not_make_a_constant_column_vary(value):
    points = np.column_stack([np.full(7001, value), np.arange(7001.0)])
    scale = scale_of(parts_of(points, weights=np.linspace(0, 1, 7001)), cuts=[3, 9])
    assert scale.divisor[0] == 1
    assert scale.origin[0] == pytest.approx(value, abs=1e-4)


def test_zero_weights_change_nothing():
    block = random_block(100)
    outlier = PointBlock(np.full((1, 2), 1e30, np.float32), np.zeros(1), np.ones(1, np.uint64), Span(0, 1))
    assert scale_of([block, outlier]) == scale_of([block])


def test_blocks_are_scaled_through_a_side_input():
    blocks = parts_of(clusters(2000, dtype=np.float64) * [1, 1000, 1e-3] + [0, 1.7e9, 0])
    blocks.append(PointBlock(np.empty((0, 3)), np.empty(0), np.empty(0, np.uint64), Span(9, 0, True)))

    def build(pipeline):
        made = pipeline | beam.Create(blocks)
        scale = made | beam.CombineGlobally(StandardScale())
        out = made | beam.ParDo(ScaleBlocks(), AsSingleton(scale)).with_output_types(PointBlock)
        return {"scale": scale, "out": out}

    held, _ = run(build)
    (scale,) = held["scale"]
    by_span = {block.span: block for block in held["out"]}
    assert set(by_span) == {block.span for block in blocks}
    for block in blocks:
        scaled = by_span[block.span]
        assert np.array_equal(scaled.ids, block.ids)
        assert np.allclose(scaled.points, scale.apply(block.points), rtol=1e-6, atol=1e-6)
    spread = np.vstack([b.points for b in held["out"]]).std(axis=0)
    assert np.allclose(spread, spread[0], rtol=1e-3)
