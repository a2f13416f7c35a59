"""A streaming job whose points are rows of a PCollection: every tick gives one batch of them."""
import argparse
import sys
import time

import apache_beam as beam
import numpy as np
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Timestamp

from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines.running.runners import add_runner_options, prepare_streaming
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.streaming.trigger import Patience
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.summarize_stream import SummarizeUnbounded
from beam_coresets.transforms.writing.sinks import WriteSummaries


class NeverCut(OffsetRestrictionTracker):
    """Gives away all that is left or nothing. Prism cuts what is left of a slow bundle in two, and takes the watermark
    of the half that begins in some thousand years, as Beam's own PeriodicImpulse would state it, for the stage's."""

    def try_split(self, fraction_of_remainder):
        return super().try_split(0) if fraction_of_remainder == 0 else None


class Offsets(RestrictionProvider):
    def initial_restriction(self, element):
        return OffsetRange(0, 1 << 40)

    def create_tracker(self, restriction):
        return NeverCut(restriction)

    def restriction_size(self, element, restriction):
        return 1.0

    def truncate(self, element, restriction):
        return None


class Tick(beam.DoFn):
    """start, start + interval, ..., each when it is due; the watermark is the next."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element,
        tracker=beam.DoFn.RestrictionParam(Offsets()),  # noqa: B008
        watermark=beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),  # noqa: B008
    ):
        start, interval = element
        position = tracker.current_restriction().start
        while (due := start + interval * position) <= time.time():
            if not tracker.try_claim(position):
                return
            yield beam.window.TimestampedValue(due, Timestamp.of(due))
            position += 1
            watermark.set_watermark(Timestamp.of(start + interval * position))
        tracker.defer_remainder(Timestamp.of(due))


def block_at(tick, rows, dim):
    """The rows of one tick; ids tell it and the row."""
    number = round(float(tick) * 1000)
    rng = generator("unbounded", number)
    points = (rng.integers(0, 4, (rows, 1)) * 20 + rng.standard_normal((rows, dim))).astype(np.float32)
    ids = np.arange(rows, dtype=np.uint64) + np.uint64(number * rows)
    return beam.window.TimestampedValue(PointBlock(points, np.ones(rows), ids, Span(0, 0, True)), Timestamp.of(tick))


def main(argv):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--output", required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--dim", type=int, default=3)
    parser.add_argument("--interval", type=float, default=0.25)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--replication", type=int, default=2)
    add_runner_options(parser)
    known, rest = parser.parse_known_args(argv)
    options = PipelineOptions(rest)
    options.view_as(SetupOptions).save_main_session = True  # this file is the main module and nobody can import it
    prepare_streaming(options, known.shards, known.checkpoint_dir, known.resume_from)
    plan = Plan(k=4, shards=known.shards, replication=known.replication, coreset_size=80, buckets=64)
    stream = StreamPlan(plan, WindowSpec.parse("2s"), Patience(deadline=5.0, min_shards=known.shards), disorder=0.0)
    write = WriteSummaries(known.output, "avro")
    with beam.Pipeline(options=options) as pipeline:
        result = (
            pipeline
            | "Start" >> beam.Create([(time.time(), known.interval)])
            | "Ticks" >> beam.ParDo(Tick()).with_output_types(float)
            | "Blocks" >> beam.Map(block_at, known.rows, known.dim).with_output_types(PointBlock)
            | "Summarize" >> SummarizeUnbounded(stream, claims=write.claims)
        )
        _ = result.decided | "Write" >> write


if __name__ == "__main__":
    main(sys.argv[1:])
