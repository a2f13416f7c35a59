"""One window of thousands of keys beside one of a single key with as many points: the seconds of each step.

What the streaming job's DoFns do, called here one after another on one thread: shard readers over generated logs,
coordinator, centers with their intervals and identities, and the three tables as files.
"""
import argparse
import sys
import time
import uuid

from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker

from beam_coresets import table_schemas, tables
from beam_coresets.coordinator.decision import Policy, Verdict, decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.streaming.cursor import Completeness
from beam_coresets.streaming.partial_reports import decidable
from beam_coresets.streaming.placement import placed_elements
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.coordinator.solve_in_order import _SolveInOrder
from beam_coresets.transforms.shards.read_shards import ReadShards, _ReadUnbounded
from beam_coresets.transforms.shards.shard_restriction import CursorTracker, Reading
from beam_coresets.transforms.streams.rate import RateSource

WINDOW = 60.0
T0 = time.time() // WINDOW * WINDOW - 2 * WINDOW


class State:
    """A stateful DoFn's value, outside of a runner."""

    value = None

    def read(self):
        return self.value

    def write(self, value):
        self.value = value


class Watermark:
    """A watermark estimator, outside of a runner."""

    def current_watermark(self):
        return None

    def set_watermark(self, time):
        pass


def read_all(source, merge_reduce, reading):
    """Every shard's reports on all that is there."""
    transform = ReadShards(source, merge_reduce, reading, begin=T0)
    reader = _ReadUnbounded(source, merge_reduce, reading, transform._cursors, uuid.uuid4().hex)
    reader.setup()
    reports = []
    for element in placed_elements(merge_reduce.assignment.shards, merge_reduce.assignment.shards):
        restriction = reader.initial_restriction(element)
        while True:
            tracker = ThreadsafeRestrictionTracker(CursorTracker(restriction, False))
            reports += [out for out in reader._poll(element, RestrictionTrackerView(tracker), Watermark())
                        if isinstance(out, tuple)]  # fmt: skip
            restriction, _ = tracker.deferred_status()
            if all(part.offset >= source.stop for part in restriction.cursor.parts.values()):
                break
    return [report for key, report in reports if key.startswith(f"{int(T0 * 1000)}/")]


def run(keys, args):
    """Seconds of each step."""
    per_part = args.points // args.parts // args.rows
    rate = args.points / (WINDOW * 0.9)
    source = RateSource(rate=rate, parts=args.parts, rows=args.rows, t0=T0, stop=per_part, keys=keys, dim=args.dim)
    plan = Plan(k=args.k, shards=args.shards, replication=args.replication, coreset_size=args.coreset_size)
    stream = StreamPlan(plan, WindowSpec.parse("60s"), quick=keys > 1)
    merge_reduce = MergeReduce(plan.sampler, stream.assignment(args.parts), plan.seed)
    steps = {}

    def timed(name, work):
        began = time.perf_counter()
        out = work()
        steps[name] = time.perf_counter() - began
        return out

    reading = Reading(Completeness(stream.windows, 0.0, 0.0), poll=5.0)
    reports = timed("read", lambda: read_all(source, merge_reduce, reading))
    policy = Policy(merge_reduce.assignment, parts=args.parts)
    decisions = timed("decide", lambda: {
        key: decide(mine, policy) for key, mine in decidable(merge_reduce, reports).items()
    })  # fmt: skip
    verdict = Verdict(T0, T0 + WINDOW, "", 1, "all", T0 + WINDOW, decisions)
    solve = _SolveInOrder(stream.question(), None, None, None)
    (summary,) = timed("solve", lambda: list(solve.process(("", verdict), State())))
    timed("write", lambda: [tables.encode(summary.table(name), "parquet") for name in table_schemas.TABLES])
    points = sum(decision.points for decision in decisions.values())
    return steps, len(decisions), points


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=5000)
    parser.add_argument("--points", type=int, default=20_000_000)
    parser.add_argument("--rows", type=int, default=20, help="points of a message; a message has one key")
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--replication", type=int, default=2)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--coreset_size", type=int, default=50, help="of each key and shard")
    args = parser.parse_args()
    small = argparse.Namespace(**{**vars(args), "points": args.points // 20})
    run(1, small), run(50, small), run(200, small)  # compiles
    totals = {}
    for keys in (1, args.keys):
        steps, found, points = run(keys, args)
        totals[keys] = sum(steps.values())
        shown = "  ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items())
        print(f"{found:>6} keys  {points:,} points  {totals[keys]:7.2f} s  ({shown})", flush=True)
    print(f"ratio {totals[args.keys] / totals[1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
