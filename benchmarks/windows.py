"""Sliding windows made of panes beside fixed windows and Beam's own sliding windows: cost per point, in one run.

The same blocks, with event times, through assignment, shard coresets, decision and solving on the in-process runner:
fixed windows of `--period`; sliding windows of `--size` every `--period` from panes; the same by `SlidingWindows`,
which gives every point to each of its windows.
"""
import argparse
import sys
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, GlobalWindows, SlidingWindows, TimestampedValue

from beam_coresets.coordinator.decision import Verdict
from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.running.local import IN_PROCESS
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.shards.pieces import Piece
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.coordinator.combine_panes import CombinePanes
from beam_coresets.transforms.coordinator.coordinate import Coordinate
from beam_coresets.transforms.coordinator.solve_in_order import SolveInOrder
from beam_coresets.transforms.shards.sample_blocks import SampleBlocks
from beam_coresets.transforms.shards.shard_coreset import ShardCoreset

T0 = 1_000_000_000
BLOCK = 50_000


class Blocks(beam.DoFn):
    """The blocks of one pane, timestamped."""

    def __init__(self, per_pane, period):
        self._per_pane, self._period = per_pane, period

    def process(self, pane):
        points = GaussianMixture(seed=0).block(pane % 8, self._per_pane).astype("<f4")
        for block in blocks_of(points, part=pane, rows=BLOCK):
            yield TimestampedValue(block, T0 + pane * self._period + self._period / 2)


class ToVerdict(beam.DoFn):
    """A decision as that of its window."""

    def process(self, decision, window=beam.DoFn.WindowParam):
        yield Verdict(float(window.start), float(window.end), "", 1, "all", float(window.end), {"": decision})


def run(plan, panes, per_pane, windowing, spec, period):
    """Seconds from the first point to the last window's centers."""
    began = time.monotonic()
    with beam.Pipeline(runner=IN_PROCESS, options=PipelineOptions([])) as p:
        decisions = (
            p
            | beam.Create(range(panes))
            | beam.ParDo(Blocks(per_pane, period)).with_output_types(PointBlock)
            | "Windows" >> beam.WindowInto(windowing)
            | SampleBlocks(plan.merge_reduce)
            | beam.Map(lambda pair: (pair[0], pair)).with_output_types(tuple[int, tuple[int, Piece]])
            | beam.CombinePerKey(ShardCoreset(plan.merge_reduce))
            | beam.Values()
            | Coordinate(plan.policy)
        )
        answers = (
            decisions
            | beam.ParDo(ToVerdict()).with_output_types(Verdict)
            | "Out of windows" >> beam.WindowInto(GlobalWindows())
        )
        if spec is not None:
            answers = answers | CombinePanes(spec, plan.sampler)
        _ = answers | SolveInOrder(plan.question)
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--panes", type=int, default=36)
    parser.add_argument("--points", type=int, default=500_000, help="of a pane")
    parser.add_argument("--size", type=int, default=60)
    parser.add_argument("--period", type=int, default=5)
    args = parser.parse_args()
    plan = Plan(k=20, shards=4, replication=2)
    total = args.panes * args.points
    ways = {
        "fixed": (FixedWindows(args.period), None),
        "sliding, from panes": (
            FixedWindows(args.period), WindowSpec("sliding", float(args.size), float(args.period))
        ),
        "sliding, Beam's": (SlidingWindows(args.size, args.period), None),
    }  # fmt: skip
    run(plan, 2, BLOCK, *ways["fixed"], args.period)  # compiles
    base = None
    for name, (windowing, spec) in ways.items():
        seconds = run(plan, args.panes, args.points, windowing, spec, args.period)
        base = base or seconds
        each = seconds / total * 1e9
        print(f"{name:<20} {seconds:6.1f} s  {each:7.1f} ns a point  {seconds / base:5.2f} x", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
