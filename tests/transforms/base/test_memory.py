"""Memory of the coordinator: where a job needs much, its graph says how much, for its own steps and no others."""
import apache_beam as beam
import numpy as np
import pytest
from apache_beam.portability.common_urns import resource_hints
from jobs import clusters

from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.points.block import PointBlock
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.base.memory import HINTED
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.folder.files import FileParts
from beam_coresets.transforms.streams.rate import RateSource
from beam_coresets.transforms.summarize import Summarize
from beam_coresets.transforms.summarize_parts import SummarizeParts
from beam_coresets.transforms.summarize_stream import SummarizeStream

SMALL, LARGE = Plan(k=4, shards=5, coreset_size=100), Plan(k=4, shards=100, coreset_size=20_000)
STEPS = ("Coordinate", "SolveCenters", "Windows", "Solve")


def hints(build):
    """Leaf step -> bytes that it asks for; only steps that do."""
    pipeline = beam.Pipeline()
    build(pipeline)
    graph = pipeline.to_runner_api().components
    found = {}
    for step in graph.transforms.values():
        asked = graph.environments[step.environment_id].resource_hints if step.environment_id else {}
        if resource_hints.MIN_RAM_BYTES.urn in asked and not step.subtransforms:
            found[step.unique_name] = int(asked[resource_hints.MIN_RAM_BYTES.urn])
    return found


def of_rows(plan):
    return lambda p: p | beam.Create([{"x": 1.0, "y": 2.0}]) | Summarize(plan, Columns(columns=("x", "y")))


def of_blocks(plan, **more):
    return lambda p: p | beam.Create([]).with_output_types(PointBlock) | Summarize(plan, **more)


def of_parts(plan, folder):
    np.save(folder / "a.npy", clusters(50))
    return lambda p: p | SummarizeParts(FileParts(str(folder / "a.npy"), Columns()), plan)


def of_a_stream(plan):
    named = plan.named(("a", "b", "c"))
    return lambda p: p | SummarizeStream(RateSource(rate=10.0, dim=3), StreamPlan(named, WindowSpec.parse("5s")))


def test_those_who_decide_and_solve_ask_for_much(tmp_path):
    for build, dim in (
        (of_rows(LARGE), 2), (of_blocks(LARGE, dim=64), 64), (of_parts(LARGE, tmp_path), 3), (of_a_stream(LARGE), 3),
    ):  # fmt: skip
        found = hints(build)
        assert set(found.values()) == {LARGE.coordinator_bytes(dim) + HINTED}
        assert {part for name in found for part in name.split("/") if part in STEPS} >= {"Coordinate"}
        assert all(any(part in STEPS for part in name.split("/")) for name in found)
        assert any("Decide" in name for name in found)
        assert any("Solve" in name.rsplit("/", 1)[-1] for name in found)


@pytest.mark.parametrize("build", [of_rows(SMALL), of_blocks(SMALL, dim=64), of_blocks(LARGE), of_a_stream(SMALL)])
def test_little_or_what_is_not_known_is_not_asked_for(build):
    assert hints(build) == {}


def test_the_estimate_is_by_points_and_coordinates():
    assert LARGE.coordinator_bytes(64) == 100 * 20_000 * (600 + 9 * 4 * 64)
