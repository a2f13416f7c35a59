"""The laws of streaming decisions: one a window and revision, every row counted once or recorded as late, whatever the
order of arrival, duplicates, standstills and restores."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import T0, WINDOWS, Simulation, log_of, patience, true_rows

from beam_coresets.hashing import generator
from beam_coresets.shards.report import finished_parts
from beam_coresets.streaming.trigger import REPEATED

PANES = range(int(T0 // 5), int(T0 // 5) + 5)


@st.composite
def orderly(draw):
    """Logs whose messages lag and go back no further than readers expect; some parts are idle, from the start or on."""
    seed, parts = draw(st.integers(0, 10**6)), draw(st.integers(1, 5))
    counts = draw(st.lists(st.sampled_from([0, 4, 30]), min_size=parts, max_size=parts))
    logs = [log_of(seed, p, n, 25 / 30, draw(st.sampled_from([0.0, 0.3])), 0.4) for p, n in enumerate(counts)]
    shards = draw(st.integers(1, 4))
    return seed, logs, shards, draw(st.integers(1, shards))


def run(simulation, rng, standing, seconds=35.0, pace=0.5, **options):
    while simulation.now < T0 + seconds:
        simulation.step(pace * (0.2 + rng.random()), standing(simulation.now - T0), rng, **options)


@settings(max_examples=15)
@given(orderly(), st.data())
def test_with_fewer_than_l_shards_missing_every_window_is_whole(situation, data):
    seed, logs, shards, replication = situation
    dead = data.draw(st.sets(st.integers(0, shards - 1), max_size=replication - 1))
    simulation = Simulation(shards, replication, logs, patience())
    run(simulation, generator("orderly", seed), lambda _: dead, delay=0.3)
    found = {pane: (reason, decision, rows) for pane, _, reason, decision, rows in simulation.coordinator.verdicts}
    assert len(found) == len(simulation.coordinator.verdicts)
    held = simulation.scheme.matrix()[:, : len(logs)]
    for pane in PANES:
        reason, decision, rows = found[pane]
        true = true_rows(logs, pane)
        assert decision.recovery.coverage == 1.0
        assert decision.recovery.counts[: len(logs)].tolist() == true.tolist()
        assert decision.points == true.sum()
        assert decision.total_weight == pytest.approx(decision.coreset.weights.sum(), rel=1e-9)
        assert not decision.recovery.distrusted
        assert reason == ("deadline" if held[sorted(dead)].any() else "all")
        for shard, counts in rows.items():
            assert counts[: len(logs)].tolist() == np.where(held[shard], true, 0).tolist()
    assert not simulation.coordinator.late


@st.composite
def anything(draw):
    """Logs with pauses and lags of any length."""
    seed, parts = draw(st.integers(0, 10**6)), draw(st.integers(1, 4))
    logs = []
    for part in range(parts):
        pauses = draw(st.lists(st.tuples(st.integers(0, 25), st.integers(1, 20)), max_size=2))
        lag, disorder = draw(st.sampled_from([0.0, 0.5, 8.0])), draw(st.sampled_from([0.0, 0.4, 6.0]))
        logs.append(log_of(seed, part, draw(st.sampled_from([0, 3, 25])), 1.0, lag, disorder, pauses))
    shards = draw(st.integers(1, 4))
    standing = draw(st.lists(st.tuples(st.integers(0, shards - 1), st.integers(0, 30), st.integers(1, 25)), max_size=3))
    options = {"revise": draw(st.booleans()), "min_shards": draw(st.integers(1, shards))}
    return seed, logs, shards, draw(st.integers(1, shards)), standing, patience(**options)


def standing_by(spells):
    return lambda t: {shard for shard, begin, length in spells if begin <= t < begin + length}


def check_accounts(simulation, patience):
    """Every row that a shard has read is in its ledger of one decision, or in a record of late rows."""
    coordinator, parts = simulation.coordinator, len(simulation.logs)
    assert len({(pane, revision) for pane, revision, *_ in coordinator.verdicts}) == len(coordinator.verdicts)
    assert all(revision == 1 or (patience.revise and revision == 2) for _, revision, *_ in coordinator.verdicts)
    last = {pane: (decision, rows) for pane, _, _, decision, rows in coordinator.verdicts}
    counted = np.zeros((simulation.scheme.shards, parts), np.int64)
    for pane, (decision, rows) in last.items():
        true = true_rows(simulation.logs, pane)
        assert (decision.recovery.counts[:parts] <= true).all()
        for shard, counts in rows.items():
            assert (counts[:parts] <= true).all()
            counted[shard] += counts[:parts]
    lost = {(pane, *entry) for pane, outcome, entry in coordinator.late if outcome != REPEATED}
    for _, shard, part, _, _, rows in lost:  # of a forgotten window, a repetition is recorded again
        counted[shard, part] += rows
    held = simulation.scheme.matrix()[:, :parts]
    assert counted.tolist() == np.where(held, [len(log.times) for log in simulation.logs], 0).tolist()


def lost_panes(simulation):
    return {pane for pane, _, _ in simulation.coordinator.late}


@settings(max_examples=25)
@given(anything(), st.booleans())
def test_every_row_is_counted_once_or_recorded_as_late(situation, duplicates):
    seed, logs, shards, replication, spells, rules = situation
    simulation = Simulation(shards, replication, logs, rules)
    rng = generator("anything", seed)
    run(simulation, rng, standing_by(spells), 50.0, 1.0, delay=2.0, duplicates=duplicates)
    run(simulation, rng, lambda _: set(), 140.0, 2.0)  # until all windows with rows are decided and forgotten
    check_accounts(simulation, rules)
    assert all(WINDOWS.bounds(pane)[1] > T0 + 40 for pane in simulation.coordinator.stored)
    assert set(simulation.coordinator.reports) <= set(simulation.coordinator.stored)


@settings(max_examples=15)
@given(anything(), st.integers(1, 40), st.integers(0, 25))
def test_a_restore_counts_every_row_once_and_the_first_decision_stands(situation, taken, lost):
    seed, logs, shards, replication, spells, rules = situation
    simulation = Simulation(shards, replication, logs, rules)
    rng = generator("restored", seed)
    run(simulation, rng, standing_by(spells), taken, 1.0, delay=1.0)
    held = simulation.snapshot()
    run(simulation, rng, standing_by(spells), taken + lost, 1.0, delay=1.0)
    before = {pane for pane, *_ in simulation.coordinator.verdicts}
    simulation.restore(held)  # what was put out since then has gone out all the same
    run(simulation, rng, lambda _: set(), 100.0, 2.0, delay=1.0)
    check_accounts(simulation, rules)
    again = {pane for pane, *_ in simulation.coordinator.verdicts}
    assert all(pane in again or true_rows(logs, pane).sum() == 0 or pane in lost_panes(simulation) for pane in before)


def test_ranges_are_complete_once_their_rows_add_up():
    """In whichever order they come, and whoever names the total."""
    logs = [log_of(1, 0, 30, 1.0, 0.0, 0.0)]
    simulation = Simulation(1, 1, logs, patience())
    rng, by_pane = generator("ranges"), {}
    for now in np.arange(T0, T0 + 40, 0.7):
        for pane, report in simulation.shards[0].poll(logs, now, 2):
            by_pane.setdefault(pane, []).extend(report.ranges)
    for pane in PANES:
        ranges = by_pane[pane]
        rng.shuffle(ranges)
        assert finished_parts(ranges) == [0]
        assert sum(r.rows for r in ranges) == true_rows(logs, pane)[0]
        if len(ranges) > 1 and any(r.rows for r in ranges[1:]):
            assert finished_parts(ranges[:1]) == []
