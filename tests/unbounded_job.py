"""A streaming job whose points are rows of a PCollection: every tick of an impulse gives one batch of them."""
import argparse
import sys
import time

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.utils.timestamp import Timestamp

from beam_coresets.hashing import generator
from beam_coresets.pipelines.runners import add_runner_options, prepare_streaming
from beam_coresets.points import PointBlock, Span
from beam_coresets.transforms.sinks import WriteSummaries
from beam_coresets.transforms.summarize import Plan
from beam_coresets.transforms.summarize_stream import StreamPlan, SummarizeUnbounded
from beam_coresets.vigil import Patience
from beam_coresets.windows import WindowSpec


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
            | "Ticks" >> PeriodicImpulse(start_timestamp=time.time(), fire_interval=known.interval)
            | "Blocks" >> beam.Map(block_at, known.rows, known.dim).with_output_types(PointBlock)
            | "Summarize" >> SummarizeUnbounded(stream, claims=write.claims)
        )
        _ = result.decided | "Write" >> write


if __name__ == "__main__":
    main(sys.argv[1:])
