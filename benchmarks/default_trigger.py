"""`beam-coresets stream` with Beam's default trigger in place of the coordinator, for `benchmarks/faults.py waiting`.

The same readers and reports; a window's reports are grouped by GroupByKey and decided once the watermark, which the
slowest shard holds back, has passed its end. Takes the options of `stream`.
"""
import sys

import apache_beam as beam
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue

from beam_coresets.coordinator.decision import Verdict, decide
from beam_coresets.pipelines import stream
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms import summarize_stream
from beam_coresets.transforms.base.keys import parse_key
from beam_coresets.transforms.coordinator.coordinate_stream import LATE_REPORTS, VERDICTS, LateReport

DISORDER = 0.5  # a report on a window's end is sent once all parts are so far past it


class AtTheWatermark(beam.PTransform):
    """What `CoordinateStream` does, by windows and their default trigger."""

    def __init__(self, policy, patience, merge_reduce, *_, **__):
        super().__init__()
        self._policy, self._merge_reduce = policy, merge_reduce

    def expand(self, reports):
        period = next(word.partition("=")[2] for word in sys.argv if word.startswith("--window="))
        windows = FixedWindows(WindowSpec.parse(period).period, offset=DISORDER)
        verdicts = (
            reports
            | beam.Map(stamped).with_output_types(tuple[str, ShardReport])
            | beam.WindowInto(windows)
            | beam.GroupByKey()
            | beam.Map(decided, self._policy, self._merge_reduce).with_output_types(Verdict)
            | "Out of windows" >> beam.WindowInto(GlobalWindows())
        )
        none = reports | "No late reports" >> beam.FlatMap(lambda _: ()).with_output_types(LateReport)
        return _Outputs(verdicts, none)


class _Outputs:
    def __init__(self, verdicts, late):
        self.verdicts, self._by_name = verdicts, {VERDICTS: verdicts, LATE_REPORTS: late}

    def __getitem__(self, name):
        return self._by_name[name]


def stamped(element):
    return TimestampedValue(element, parse_key(element[0])[1] + DISORDER - 0.001)


def decided(element, policy, merge_reduce):
    import time

    key, reports = element
    start, end, group = parse_key(key)
    told = partial_reports.decidable(merge_reduce, reports, True)
    decisions = {name: decide(mine, policy) for name, mine in told.items()}
    return Verdict(start, end, group, 1, "all", time.time(), decisions)


if __name__ == "__main__":
    summarize_stream.CoordinateStream = AtTheWatermark
    sys.exit(stream.main(sys.argv[1:]))
