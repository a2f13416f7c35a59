"""Replicas of the coordinator: on different workers, each with what follows it, and of two decisions one stands."""
import dataclasses

import apache_beam as beam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import run
from simulated import SAMPLER
from test_combine_panes import Value, verdict

from beam_coresets.results.question import Question
from beam_coresets.streaming.placement import encoded, subtask_of
from beam_coresets.streaming.replicas import Coordinators
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.base.keys import group_names, split_key, window_key
from beam_coresets.transforms.coordinator.replicas import ApartFromSolving
from beam_coresets.transforms.coordinator.solve_in_order import ELSEWHERE, _SolveInOrder
from beam_coresets.transforms.writing.claims import Claims


@given(st.integers(1, 12), st.data())
def test_no_two_replicas_are_on_one_worker_and_each_keeps_to_its_own(parallelism, data):
    replicas = data.draw(st.integers(1, parallelism))
    group = data.draw(st.sampled_from(group_names(data.draw(st.integers(1, 5)))))
    start = data.draw(st.integers(0, 10**6))
    who = Coordinators(replicas, parallelism=parallelism)
    window = window_key(5.0 * start, 5.0 * start + 5, group)
    keys = [who.key(replica, window, group) for replica in range(replicas)]
    landed = [subtask_of(encoded(key), parallelism) for key in keys]
    assert len(set(landed)) == replicas
    assert landed == [subtask_of(encoded(who.lane(replica, group)), parallelism) for replica in range(replicas)]
    assert [split_key(key) for key in keys] == [(window, replica) for replica in range(replicas)]


@pytest.mark.parametrize(("replicas", "standby", "message"), [
    (3, 0.5, "coordinator_replicas: must be from 1 to the 2 workers, got 3"),
    (0, 0.5, "coordinator_replicas: must be from 1 to the 2 workers, got 0"),
    (1, -1.0, "standby: must be from 0 to 60 s, got -1"),
])  # fmt: skip
def test_what_can_not_be_is_refused(replicas, standby, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Coordinators(replicas, standby, 2)


def test_a_replica_does_not_solve_what_another_has_decided_but_goes_on_from_it(tmp_path):
    claims, question = Claims(str(tmp_path)), Question(SAMPLER)
    solve, mine, its = _SolveInOrder(question, None, None, claims), Value(), Value()
    first = verdict(0)
    (summary,) = solve.process(("", dataclasses.replace(first, replica=1)), its)
    assert summary.replica == 1
    assert claims.publish(summary)
    window = Window(first.start, first.end, first.group)
    assert claims.winner(window) == 1
    assert claims.winner(Window(50.0, 55.0)) is None
    for decisions in (first.decisions, {}):  # decided here, too, or seen in time that it need not be
        (other,) = solve.process(("", dataclasses.replace(first, decisions=decisions)), mine)
        assert (other.tag, other.value) == (ELSEWHERE, (0, window))
    (again,) = solve.process(("", dataclasses.replace(first, replica=1)), Value())
    assert claims.publish(again), "a bundle that is tried again finds its own claim"
    (after,) = solve.process(("", verdict(1)), mine)
    known = {row["center_id"] for row in summary.centers.to_pylist()}
    assert {row["center_id"] for row in after.centers.to_pylist() if row["index"] is not None} & known


def test_windows_come_out_apart_as_they_went_in():
    windows = [(replica, Window(5.0 * i, 5.0 * i + 5, "003")) for i in range(4) for replica in range(2)]
    create = beam.Create(windows).with_output_types(tuple[int, Window])
    held, _ = run(lambda p: {"out": p | create | ApartFromSolving(Coordinators(2, parallelism=2))})
    assert sorted(window.start for window in held["out"]) == [5.0 * (i // 2) for i in range(8)]
