"""A small streaming job that uses what the real ones do: unbounded readers, keyed state and a processing-time timer.

Each shard's reader counts up from 0 at a fixed pace, and a stateful DoFn adds up what it gets. Both write down what
they see in a file that the test reads. While a file `hold-SHARD` lies beside it, that shard's reader stands still.
"""
import argparse
import json
import os
import pathlib
import sys
import time

import apache_beam as beam
from apache_beam.coders import FastPrimitivesCoder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration, Timestamp

from beam_coresets.pipelines.running.runners import add_runner_options, prepare_streaming
from beam_coresets.streaming.placement import placed_elements, shard_of

ENDLESS = 1 << 40


class Offsets(RestrictionProvider):
    def initial_restriction(self, element):
        return OffsetRange(0, ENDLESS)

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element, restriction):
        return 1.0

    def truncate(self, element, restriction):
        return None


class Count(beam.DoFn):
    """Counts for `poll` seconds inside a bundle, 1 / pace apart, then defers the rest."""

    def __init__(self, folder, pace, poll):
        self.folder, self.pace, self.poll = folder, pace, poll

    @beam.DoFn.unbounded_per_element()
    def process(self, element, tracker=beam.DoFn.RestrictionParam(Offsets())):  # noqa: B008
        shard, start = shard_of(element), tracker.current_restriction().start
        end, position = time.monotonic() + self.poll, start
        note(self.folder, "readers", shard=shard, start=start)
        while time.monotonic() < end:
            while os.path.exists(f"{self.folder}/hold-{shard}"):
                note(self.folder, "held", shard=shard)
                time.sleep(0.1)
            if not tracker.try_claim(position):
                return
            yield f"shard {shard}", position
            position += 1
            time.sleep(1 / self.pace)
        tracker.defer_remainder(Duration(micros=1000))


class Tally(beam.DoFn):
    """Per shard: how many numbers came, the largest, and how often the timer fired."""

    STATE = ReadModifyWriteStateSpec("tally", FastPrimitivesCoder())
    TICK = TimerSpec("tick", TimeDomain.REAL_TIME)

    def __init__(self, folder):
        self.folder = folder

    def process(self, keyed, tally=beam.DoFn.StateParam(STATE), tick=beam.DoFn.TimerParam(TICK)):
        count, largest, fired = tally.read() or (0, -1, 0)
        tally.write((count + 1, max(largest, keyed[1]), fired))
        if not count:
            tick.set(Timestamp(time.time() + 0.5))

    @on_timer(TICK)
    def on_tick(
        self, key=beam.DoFn.KeyParam, tally=beam.DoFn.StateParam(STATE), tick=beam.DoFn.TimerParam(TICK)
    ):  # fmt: skip
        count, largest, fired = tally.read()
        tally.write((count, largest, fired + 1))
        tick.set(Timestamp(time.time() + 0.5))
        note(self.folder, "tallies", key=key, count=count, largest=largest, fired=fired + 1)
        yield key


def note(folder, name, **what):
    with open(f"{folder}/{name}.jsonl", "a") as file:
        file.write(json.dumps(what) + "\n")


def main(argv):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--pace", type=float, default=20)
    parser.add_argument("--poll", type=float, default=0.5)
    parser.add_argument("--elements", type=json.loads, help="instead of the placed ones")
    add_runner_options(parser)
    known, rest = parser.parse_known_args(argv)
    options = PipelineOptions(rest)
    options.view_as(SetupOptions).save_main_session = True  # this file is the main module and nobody can import it
    for line in prepare_streaming(options, known.shards, known.checkpoint_dir, known.resume_from):
        print(line, flush=True)
    pathlib.Path(known.folder).mkdir(exist_ok=True)
    elements = known.elements or placed_elements(known.shards, known.shards)
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(list(elements)).with_output_types(str)
            | "Count" >> beam.ParDo(Count(known.folder, known.pace, known.poll)).with_output_types(tuple[str, int])
            | "Tally" >> beam.ParDo(Tally(known.folder)).with_output_types(str)
        )


if __name__ == "__main__":
    main(sys.argv[1:])
