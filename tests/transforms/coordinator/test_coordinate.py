"""Coordinate: one decision a window, whoever answers."""
import pickle

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.display import DisplayData
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import clusters, counters, parts_of, run

from beam_coresets.coordinator.decision import Decision, decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.shards.report import ShardReport
from beam_coresets.transforms.coordinator.coordinate import Coordinate

PLAN = Plan(k=4, shards=5, replication=3, coreset_size=60, min_shards=3)
REPORTS = shard_reports(parts_of(clusters(1500)), PLAN.merge_reduce)


def decided(reports, plan=PLAN):
    create = beam.Create(reports, reshuffle=False).with_output_types(ShardReport)
    held, result = run(lambda p: {"out": p | create | Coordinate(plan.policy)})
    return held["out"], result


@settings(max_examples=5)
@given(st.permutations(range(5)), st.integers(0, 5))
def test_the_decision_is_the_direct_one_whoever_answers_in_whatever_order(order, answers):
    some = [REPORTS[i] for i in order[:answers]]
    (decision,), result = decided(some)
    assert decision.to_bytes() == decide(some, PLAN.policy).to_bytes()
    assert decision.degraded == (answers < 3)
    found = counters(result)
    assert found.get("shards_answered", 0) == answers
    assert found.get("shards_missing", 0) == 5 - answers


def test_nobody_answers_and_still_there_is_a_decision():
    (decision,), _ = decided([])
    assert decision.recovery.coverage == 0
    assert (decision.total_weight, decision.points, len(decision.coreset), decision.degraded) == (0, 0, 0, True)


def test_two_stragglers_of_l_three_cost_nothing():
    (decision,), _ = decided([REPORTS[0], REPORTS[2], REPORTS[3]])
    assert decision.recovery.coverage == 1
    assert decision.total_weight == pytest.approx(1500, rel=1e-12)
    assert decision.points == 1500
    assert np.isclose(decision.coreset.weights.sum(), 1500, rtol=1e-12)


def test_a_shard_that_lies_is_counted():
    half = shard_reports(parts_of(clusters(1500))[:3], PLAN.merge_reduce)
    (decision,), result = decided([half[0], *REPORTS[1:]])
    assert set(decision.recovery.distrusted) == {0}
    assert counters(result)["shards_distrusted"] == 1
    assert decision.points == 1500


def test_each_window_is_decided_alone():
    other = shard_reports(parts_of(clusters(600, seed=1)), PLAN.merge_reduce)

    def build(pipeline):
        stamped = [TimestampedValue(r, 5) for r in REPORTS] + [TimestampedValue(r, 65) for r in other[:2]]
        windowed = (
            pipeline
            | beam.Create(stamped)
            | beam.Map(lambda r: r).with_output_types(ShardReport)
            | beam.WindowInto(FixedWindows(60))
        )
        return {"out": windowed | Coordinate(PLAN.policy)}

    held, _ = run(build)
    decisions = sorted(held["out"], key=lambda d: -d.points)
    assert [d.degraded for d in decisions] == [False, True]
    assert decisions[0].points == 1500
    assert decisions[1].recovery.responded == (0, 1)


def test_a_second_report_of_a_shard_is_an_error():
    with pytest.raises(ValueError, match="reports: must be one a shard, got a second one of shard 0"):
        decided([REPORTS[0], *REPORTS])


def test_types_pickling_and_display_data():
    step = pickle.loads(pickle.dumps(Coordinate(PLAN.policy)))
    shown = {item.key: item.value for item in DisplayData.create_from(step).items}
    assert shown == {"recovery": "exact", "min_shards": 3}
    pipeline = beam.Pipeline()
    out = pipeline | beam.Create(REPORTS).with_output_types(ShardReport) | step
    assert out.element_type is Decision
    with pytest.raises(beam.typehints.TypeCheckError):
        _ = pipeline | "Numbers" >> beam.Create([1]) | "Decide on numbers" >> Coordinate(PLAN.policy)
