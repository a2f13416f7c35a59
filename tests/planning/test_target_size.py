"""How many points for an error: against laws that are known, and against jobs that are run."""
import dataclasses
import math
import types

import numpy as np
import pytest

from beam_coresets.coordinator.decision import decide
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.planning import target_size
from beam_coresets.planning.stability import stability
from beam_coresets.planning.target_size import Pilot, Tried, random_part, size_for
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.results.summary import summarize
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import shard_reports

ROWS = 3000


class Law:
    """A pilot whose half-widths are half(size) times e to the power of a normal deviate."""

    def __init__(self, half, spread=0.05, usable=10**6, most=10**6, missing=0, k=5):
        self.half, self.spread, self.usable, self.most, self.missing = half, spread, usable, most, missing
        self.sampler, self.rows, self.held, self.sizes = types.SimpleNamespace(k=k), 10**7, 10**7, []

    def tried(self, size):
        self.sizes.append(size)
        noise = generator("law", size).standard_normal(target_size.SEEDS)
        return Tried(size, 8.0 * size, tuple(self.half(size) * np.exp(self.spread * noise)))


def gauss(rows=ROWS, d=4):
    return generator("target size", rows, d).standard_normal((rows, d)).astype(np.float32)


def pilot(points, scheme=None, k=5, **more):
    scheme = Assignment(4, 2) if scheme is None else scheme
    return Pilot(list(blocks_of(points, rows=1024)), len(points), Sampler(k, k, **more), scheme)


@pytest.mark.parametrize("power", [0.35, 0.5, 0.8, 1.3])
@pytest.mark.parametrize("target", [0.05, 0.01, 0.002])
def test_a_power_law_is_found_with_a_margin_for_its_noise(power, target):
    law = Law(lambda size: 0.8 * size**-power)
    named = size_for(law, target)
    if 0.8 * 10**-(6 * power) > target:
        assert named.everything
        return
    exact = (0.8 / target) ** (1 / power)
    if exact > 50:  # else the least size is named
        assert named.checked
        assert named.exponent == pytest.approx(power, abs=0.25)
        assert target / 1.4 < law.half(named.size) < target / 1.05
        assert law.half(named.size) == pytest.approx(named.half, rel=0.1)
    assert law.half(named.size) < target
    assert named.size >= 10 * 5


def test_a_law_that_bends_is_followed_to_where_it_is_asked():
    law = Law(lambda size: 0.5 * size**-0.4 / (1 + size / 3000) ** 2)
    named = size_for(law, 0.003)
    assert 0.003 / 1.4 < law.half(named.size) < 0.003
    assert named.exponent > 1


@pytest.mark.parametrize("target", [0.0105, 0.01, 0.0095])
def test_where_it_falls_steeply_sizes_near_by_are_not_near_enough(target):
    """As near all rows, of which the last few take the error with them."""
    law = Law(lambda size: 0.0125 * ((1300 - size) / 500) ** 0.8 * (800 / size) ** 0.45, 0.01, 1228, 1228, k=10)
    named = size_for(law, target)
    assert target / 1.4 < law.half(named.size) < target / 1.04
    assert named.checked


def test_the_noisier_the_larger():
    sizes = [size_for(Law(lambda size: size**-0.5, spread), 0.02).size for spread in (0.0, 0.1, 0.3)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    margin = 1.73 * 0.1 * math.sqrt(10 / 19) * math.sqrt(1.25)  # three sizes of four runs without noise, and the usual
    assert sizes[0] == pytest.approx(2500 * math.exp(2 * margin), rel=0.05)


def test_sizes_of_parts_are_extrapolated_and_with_more_room():
    law = Law(lambda size: size**-0.5, 0.0, usable=1000, most=10**6)
    whole = size_for(Law(lambda size: size**-0.5, 0.0), 0.01)
    law.rows *= 10
    named = size_for(law, 0.01)
    assert not named.checked
    assert max(law.sizes) == 1000
    assert named.size == pytest.approx(whole.size / 0.8**2, rel=0.05)


def test_data_without_error_need_few_points():
    named = size_for(Law(lambda size: 0.0), 0.01)
    assert (named.size, named.everything, named.checked) == (50, False, True)
    assert named.half == pytest.approx(0, abs=1e-6)
    law = Law(lambda size: 0.05 if size < 700 else 0.0)
    assert size_for(law, 0.01).size == min(size for size in law.sizes if size >= 700)


def test_where_no_size_but_all_is_enough_all_is_named():
    law = Law(lambda size: 0.2, usable=2000, most=2000)
    assert size_for(law, 0.01) == dataclasses.replace(size_for(law, 0.01), size=2000, everything=True, half=0.0)
    law = Law(lambda size: 0.2, usable=2000, most=2000, missing=1)
    named = size_for(law, 0.01)
    assert named.size is None
    assert not named.everything
    assert named.half == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, math.nan])
def test_targets_that_are_none_are_refused(target):
    with pytest.raises(ValueError, match="target: must be between 0 and 100 %, got"):
        size_for(Law(lambda size: size**-0.5), target)


@pytest.mark.parametrize(("z", "metric"), [(2.0, "euclidean"), (1.0, "euclidean"), (2.0, "cosine")])
def test_a_pilot_on_the_whole_input_prints_what_the_job_prints(z, metric):
    points, seed = gauss(2000), 3
    if metric == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    plan = Plan(k=5, shards=4, replication=2, z=z, metric=metric, coreset_size=120, seed=seed)
    blocks = list(blocks_of(points, rows=512))
    decision = decide(shard_reports(blocks, plan.merge_reduce), plan.policy)
    row = summarize(decision, plan.question).answers[0].row
    tried = Pilot(blocks, 2000, Sampler(5, 5, z), plan.assignment, metric)
    assert tried.half_width(120, seed) == (pytest.approx(row["cost_high"] / row["cost"] - 1), len(decision.coreset))


def test_a_named_size_gives_the_error_it_was_named_for():
    data = pilot(gauss())
    named = size_for(data, 0.06)
    assert named.checked
    assert 10 * 5 < named.size < 400
    fresh = [data.half_width(named.size, seed)[0] for seed in range(50, 55)]
    assert np.mean(np.array(fresh) <= 0.06) >= 0.6
    assert min(fresh) > 0.03


def test_small_data_are_kept_whole_and_lost_shards_are_said():
    data = pilot(gauss(200))
    named = size_for(data, 0.001)
    assert named.everything
    assert named.size == data.most
    assert data.half_width(named.size, 9) == (0.0, 2 * 200)
    lossy = dataclasses.replace(data, assignment=Assignment(4, 1), missing=1)
    answered = [tuple(lossy.decided(20, seed)[0].recovery.trusted.any(axis=1)) for seed in lossy.seeds]
    assert [sum(each) for each in answered] == [3] * 4
    assert len(set(answered)) > 1
    assert size_for(lossy, 0.001).size is None


def test_a_part_of_the_input_tells_of_the_whole():
    points = gauss(8000)
    whole = pilot(points)
    part, rows = random_part(blocks_of(points, rows=1000), 2000)
    assert rows == 8000
    quarter = dataclasses.replace(whole, blocks=part)
    assert quarter.usable == pytest.approx(quarter.most * quarter.held / 8000 / 4, rel=0.02)
    measured = np.mean([whole.half_width(150, seed)[0] for seed in range(4)])
    raw, told = (np.mean([data.half_width(150, seed)[0] for seed in range(4)])
                 for data in (dataclasses.replace(quarter, rows=quarter.held), quarter))  # fmt: skip
    assert raw < told
    assert told == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize("most", [1, 100, 1000, 5000])
def test_a_random_part_is_chosen_by_id(most):
    blocks = list(blocks_of(gauss(3000), rows=700))
    held, rows = random_part(blocks, most)
    assert rows == 3000
    ids = np.concatenate([block.ids for block in held])
    assert len(ids) <= most or most == 1
    if most >= 3000:
        assert len(ids) == 3000
        return
    assert len(ids) > 0.4 * most or most == 1
    assert [block.span for block in held] == [block.span for block in blocks]
    again, _ = random_part(reversed(blocks), most)
    assert set(ids) == set(np.concatenate([block.ids for block in again]))
    if most == 1000:
        assert abs(np.mean(ids) - 1500) < 5 * 3000 / math.sqrt(12 * len(ids))


@pytest.mark.parametrize(("change", "message"), [
    ({"missing": 4}, "missing: must be from 0 to 3 shards, got 4"), ({"rows": 10}, "rows: must be at least the 200"),
    ({"blocks": []}, "input: must have at least one row, got none"),
])  # fmt: skip
def test_pilots_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(pilot(gauss(200)), **change)


def test_a_cost_without_an_interval_is_refused():
    points = np.full((300, 2), 1e160)
    points[::2] *= -1
    block = PointBlock(points, np.ones(300), np.arange(300, dtype=np.uint64), next(blocks_of(points)).span)
    data = Pilot([block], 300, Sampler(1, 1), Assignment(4, 2))
    message = "target: must be of a cost that can be measured, got an interval by out of range"
    with pytest.raises(ValueError, match=message):
        size_for(data, 0.1)


def test_stability_is_what_one_center_fewer_costs():
    """Three clusters of points at distances 1 from their means: one center fewer unites the two nearest."""
    spread = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    places = np.array([[0, 0], [30, 0], [0, 200]])
    points = (places[:, None] + spread).reshape(-1, 2).repeat(10, axis=0).astype(np.float32)
    clear = pilot(points, k=3)
    assert stability(clear) == pytest.approx((120 + 80 * 15**2) / 120 - 1)
    assert stability(pilot(points, k=1)) is None
    assert stability(pilot(points[:40], k=5)) in (0.0, math.inf)
    assert 0 < stability(pilot(gauss(2000), k=5)) < 0.5
