"""UniformSample and CostOfCenters: the same rows however the work is divided, and costs that add up."""
import itertools

import apache_beam as beam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import CENTERS, clusters, parts_of, run
from laws import planned_parts

from beam_coresets.hashing import hash_integers
from beam_coresets.results.distortion import costs
from beam_coresets.transforms.rows.measure import CostOfCenters, UniformSample


def combined(combine, blocks, cuts=()):
    states = []
    for low, high in itertools.pairwise([0, *cuts, len(blocks)]):
        state = combine.create_accumulator()
        for block in blocks[low:high]:
            state = combine.add_input(state, block)
        states.append(state)
    return combine.extract_output(combine.merge_accumulators([*states, combine.create_accumulator()]))


@given(st.data(), st.integers(1, 60))
def test_the_sample_is_of_the_smallest_hashes_however_the_work_is_divided(data, size):
    blocks = [b for b in data.draw(planned_parts()) if len(b)]
    shuffled = data.draw(st.permutations(blocks))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(blocks)), max_size=3)))
    points, weights = combined(UniformSample(size), shuffled, cuts)
    ids = np.concatenate([b.ids for b in blocks]) if blocks else np.empty(0, np.uint64)
    rows = np.argsort(hash_integers(ids, salt=0x5A17), kind="stable")[:size]
    assert len(points) == len(weights) == len(rows)
    if blocks:
        assert np.array_equal(points, np.concatenate([b.points for b in blocks])[rows])
        assert np.array_equal(weights, np.concatenate([b.weights for b in blocks])[rows])


def test_every_row_is_equally_likely():
    """2,000 rows, a tenth drawn under 200 seeds: each count is binomial(200, 1/10), and by the union bound any of them
    exceeds 45 with probability below 2e-4."""
    ids = np.arange(2000, dtype=np.uint64)
    block = parts_of(np.column_stack([ids, ids]).astype(np.float32), parts=1, rows=2000)[0]
    counts = np.zeros(2000)
    for seed in range(200):
        points, _ = combined(UniformSample(200, seed), [block])
        counts[points[:, 0].astype(int)] += 1
    assert counts.sum() == 200 * 200
    assert counts.max() <= 45


@pytest.mark.parametrize(("z", "metric"), [(2.0, "euclidean"), (1.0, "euclidean"), (3.0, "euclidean"), (2.0, "cosine")])
def test_costs_add_up_over_blocks_and_workers(z, metric):
    points = clusters(1500) + 1
    if metric == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    weights = np.arange(1500) % 4 / 2
    centers = CENTERS + 1
    sets = [("true", centers / np.linalg.norm(centers, axis=1, keepdims=True) if metric == "cosine" else centers)]
    sets.append(("first", points[:2].astype(np.float64)))
    blocks = parts_of(points, weights=weights)
    expected = costs(points, weights, sets, z, metric)
    assert combined(CostOfCenters(sets, z, metric), blocks, [2, 3]) == pytest.approx(expected, rel=1e-9)
    assert combined(CostOfCenters(sets, z, metric), []).tolist() == [0, 0]


def test_both_by_way_of_beam():
    blocks = parts_of(clusters(900))
    sets = [("true", CENTERS)]

    def build(pipeline):
        made = pipeline | beam.Create(blocks) | beam.Reshuffle()
        return {
            "sample": made | "Sample" >> beam.CombineGlobally(UniformSample(50)),
            "cost": made | "Cost" >> beam.CombineGlobally(CostOfCenters(sets, 2.0, "euclidean")),
        }

    held, _ = run(build)
    points, weights = held["sample"][0]
    assert np.array_equal(points, combined(UniformSample(50), blocks)[0])
    assert weights.tolist() == [1.0] * 50
    assert held["cost"][0] == pytest.approx(combined(CostOfCenters(sets, 2.0, "euclidean"), blocks), rel=1e-12)
