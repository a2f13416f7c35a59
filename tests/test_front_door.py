"""The three front doors: what they offer, what loads when, and a user's whole way through with their names only."""
import ast
import pathlib
import subprocess
import sys

import apache_beam as beam
import house
import numpy as np
import pytest
from jobs import CENTERS, LOCAL, clusters

import beam_coresets
from beam_coresets import summaries, transforms

ROOT = pathlib.Path(__file__).parents[1]
DOORS = pytest.mark.parametrize("door", [beam_coresets, transforms, summaries], ids=["core", "Beam", "reading"])


def run(code):
    """What a fresh process prints that runs the code."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@DOORS
def test_every_name_is_there_and_listed(door):
    assert len(set(door.__all__)) == len(door.__all__) > 12
    assert set(door.__all__) <= set(dir(door))
    for name in door.__all__:
        found = getattr(door, name)
        assert found.__name__ == name
        assert found.__module__.startswith("beam_coresets."), name
        assert found.__doc__


@DOORS
def test_type_checkers_are_told_the_same_homes(door):
    told = {
        alias.name: node.module
        for node in house.offered(ast.parse(pathlib.Path(door.__file__).read_text()))
        for alias in node.names
    }
    assert told == door._HOMES == {name: getattr(door, name).__module__ for name in door.__all__}


@DOORS
def test_an_unknown_name_is_no_attribute(door):
    with pytest.raises(AttributeError, match="has no attribute 'Summarise'"):
        _ = door.Summarise
    with pytest.raises(ImportError, match="cannot import name 'Summarise'"):
        exec(f"from {door.__name__} import Summarise")


def test_the_core_s_names_load_no_beam_and_the_package_alone_no_compiler():
    assert run(
        "import sys, beam_coresets\nprint('numba' in sys.modules, 'numpy' in sys.modules)\n"
        "from beam_coresets import *\nprint('apache_beam' in sys.modules, Sampler.__name__, shard_reports.__name__)"
    ) == "False False\nFalse Sampler shard_reports"


def test_beam_s_names_load_what_they_are_made_of_only():
    code = "import sys\nfrom beam_coresets.transforms import Plan\nprint('apache_beam' in sys.modules)\n"
    code += "from beam_coresets.transforms import *\nprint(WriteSummaries.__name__)"
    assert run(code) == "False\nWriteSummaries"


def test_a_missing_extra_is_named():
    code = """
import sys
sys.modules["confluent_kafka"] = None
try:
    from beam_coresets.transforms import KafkaSource
except ImportError as error:
    print(error)
"""
    said = "KafkaSource: must have the extra kafka (pip install 'beam-coresets[kafka]'), got no module confluent_kafka"
    assert run(code) == said


def test_from_an_array_to_centers_without_beam():
    """Two of five shards never answer; every point is counted."""
    from beam_coresets import Plan, blocks_of, decide, fixed_interval, shard_reports, summarize

    points = clusters(3000)
    plan = Plan(k=4, shards=5, replication=3)
    reports = shard_reports(blocks_of(points, rows=500), plan.merge_reduce)
    decision = decide([report for report in reports if report.shard not in (1, 3)], plan.policy)
    summary = summarize(decision, plan.question)
    centers = np.array(summary.centers.column("coordinates").to_pylist())
    assert np.linalg.norm(CENTERS[:, None] - centers, axis=2).min(1).max() < 0.5
    (row,) = summary.summaries.to_pylist()
    assert row["coverage"] == 1
    assert row["total_weight"] == pytest.approx(3000)
    truth = float((np.linalg.norm(points[:, None] - centers, axis=2).min(1) ** 2).sum())
    assert row["cost_low"] <= truth <= row["cost_high"]
    own = fixed_interval(decision, CENTERS)
    assert own.low <= decision.coreset.cost(CENTERS) <= own.high


def test_from_an_array_by_hand():
    """The same parts without a `Plan`, for who takes some of them only."""
    from beam_coresets import (
        Assignment,
        Coreset,
        MergeReduce,
        Policy,
        Question,
        Sampler,
        blocks_of,
        decide,
        shard_reports,
        summarize,
    )

    sampler, assignment = Sampler(k=4, size=160), Assignment(shards=5, replication=2)
    decision = decide(shard_reports(blocks_of(clusters(3000)), MergeReduce(sampler, assignment)), Policy(assignment))
    assert isinstance(decision.coreset, Coreset)
    assert decision.coreset.weights.sum() == pytest.approx(3000)
    assert len(summarize(decision, Question(sampler)).centers) == 4


def test_from_rows_to_tables_with_beam(tmp_path):
    from beam_coresets.transforms import Columns, Plan, Summarize, WriteSummaries, read_table

    rows = [dict(zip("xyz", point, strict=True)) for point in clusters(1000).tolist()]
    with beam.Pipeline(argv=list(LOCAL)) as pipeline:
        plan = Plan(k=4, shards=5, replication=3)
        result = pipeline | beam.Create(rows) | Summarize(plan, Columns(columns=("x", "y", "z")))
        result.decided | WriteSummaries(str(tmp_path))
    (summary,) = read_table(str(tmp_path), "summaries").to_pylist()
    assert (summary["points"], summary["coverage"], summary["centers"]) == (1000, 1.0, 4)
    centers = np.array(read_table(str(tmp_path), "centers").column("coordinates").to_pylist())
    assert np.linalg.norm(CENTERS[:, None] - centers, axis=2).min(1).max() < 0.5
