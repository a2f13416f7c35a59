"""One window's reports of up to 10,000 shards, through the coordinator of a stream, without a runner around it.

    python benchmarks/many_shards.py                         # 100, 1,000 and 10,000 shards, and two trees of 10,000
    python benchmarks/many_shards.py flat:1000 tree:10000:100 --replication 3 --size 800

`flat:S` is one coordinator for S shards and as many parts. `tree:S:M` gives each M of the shards a coordinator and
parts of their own, and merges what these decide (`Rollup`). Every shard makes partial reports of generated
points as readers do, encoded as they are shuffled; the coordinator does with each what its stateful DoFn does: state
from bytes and back to bytes, too. A share of the shards never answers. Each row is a process of its own:

    in       MB of reports that reach a coordinator in the window
    receive  seconds for all of them: decoding, noting, compacting, its state read and written each time
    decide   seconds for one report a shard, and the decision
    merge    seconds for reading what the coordinators have decided, and of trees for merging it
    solve    seconds for centers, their interval and the tables
    state    MB of reports and notes that a coordinator keeps
    out      MB of what a coordinator has decided, as it is shuffled on
    peak     MB of memory: the process after its imports, and at its highest; making one report is in it, too

of one of a tree's coordinators on average, and its memory together with that of the top. Seconds are of one core, and
making reports is not in them. Then the coreset's points, the
cost that was estimated for the centers and half its interval, both over their true cost on all points, and that per
point. Totals are held against what was generated.
"""
import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from beam_coresets.coordinator.decision import Decision, decide
from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.points.nearest import cost
from beam_coresets.results.summary import summarize
from beam_coresets.shards.assignment import part_ids
from beam_coresets.shards.report import Range
from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.partial_reports import PaneRows
from beam_coresets.streaming.progress import WindowProgress
from beam_coresets.streaming.trigger import KEPT, Trigger
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.base.coders import ShardReportCoder

END = 1_700_000_000.0
CODER = ShardReportCoder()
COLUMNS = ("in", "receive", "decide", "merge", "solve", "state", "out", "before", "peak")


class Shards:
    """Readers of one window: shard i's partial reports of its parts. Another `block` of them has other parts."""

    def __init__(self, args, shards, block=0):
        self.args, self.first = args, block * shards
        plan = Plan(args.k, shards, args.replication, coreset_size=args.size, seed=args.seed + block)
        self.stream, self.shards = StreamPlan(plan, WindowSpec.parse("5s")), shards
        self.scheme = self.stream.assignment(shards)
        self.merge_reduce = plan.merge_reduce_over(self.scheme)
        self.mixture = GaussianMixture(seed=args.seed, d=args.dim, k=args.k)
        drawn = generator("many shards", "missing", args.seed, block).permutation(shards)
        self.missing = set(drawn[: round(args.missing * shards)].tolist())

    def points(self, part):
        """(rows, d) float32, the same for each of the part's holders."""
        return self.mixture.block(self.first + part, self.args.rows)

    def reports(self):
        """Encoded, in the order in which they arrive."""
        for turn in range(self.args.reports):
            order = generator("many shards", "order", self.args.seed, self.first, turn).permutation(self.shards)
            for shard in order.tolist():
                if shard not in self.missing:
                    yield CODER.encode(self._report(shard, turn))

    def covered(self):
        """The parts that a shard which answers holds."""
        indptr, shards = self.scheme.holders()
        here = ~np.isin(shards, list(self.missing))
        return [part for part in range(self.shards) if here[indptr[part] : indptr[part + 1]].any()]

    def _report(self, shard, turn):
        rows = self.args.rows
        start, stop = turn * rows // self.args.reports, (turn + 1) * rows // self.args.reports
        parts = [part for part in self.scheme.held_by(shard).tolist() if part < self.shards]
        offsets = np.arange(start, stop).astype(np.uint64) + np.uint64(self.first << 24)
        ids = np.concatenate([part_ids(part, offsets) for part in parts])
        points = np.concatenate([self.points(part)[start:stop] for part in parts])
        ranges = tuple(Range(part, start, stop, stop - start, rows if stop == rows else -1) for part in parts)
        rows = PaneRows(points, np.ones(len(ids)), ids)
        return partial_reports.partial_report(self.merge_reduce, shard, rows, ranges, self.shards)


class Coordinator:
    """What the stateful DoFn does for one window; reports and progress are bytes between two of them."""

    def __init__(self, shards):
        stream, scheme = shards.stream, shards.scheme
        self.merge_reduce, self.policy = shards.merge_reduce, stream.policy(scheme, shards.shards)
        self.trigger = Trigger(scheme, stream.waiting(scheme), shards.shards)
        self.head, self.notes, self.reports = None, [], []
        self.largest = 0

    def receive(self, encoded, now):
        report, progress = CODER.decode(encoded), self.read()
        assert self.trigger.receive(progress, report, now) == KEPT
        self.reports.append(CODER.encode(report))
        if not self.trigger.on_report(progress):
            self.trigger.rearmed(progress, END)
            if self.trigger.crowded(progress):
                self.compact(progress)
        self.head, notes = progress.write()
        self.notes += notes

    def read(self):
        return WindowProgress.read(self.head, lambda: self.notes)

    def compact(self, progress):
        self.largest = self.size
        by_shard = {}
        for report in map(CODER.decode, self.reports):
            by_shard.setdefault(report.shard, []).append(report)
        self.reports = [CODER.encode(partial_reports.compacted(self.merge_reduce, mine)) for mine in by_shard.values()]
        self.notes = []
        progress.note_all()
        progress.kept = 0

    def decide(self):
        progress = self.read()
        self.trigger.reason(progress, END)
        self.trigger.gaps(progress)
        decoded = [CODER.decode(report) for report in self.reports]
        (reports,) = partial_reports.decidable(self.merge_reduce, decoded).values()
        return decide(reports, self.policy)

    @property
    def size(self):
        """Bytes kept, at most so far."""
        return max(self.largest, len(self.head) + sum(map(len, self.notes)) + sum(map(len, self.reports)))


def decided(shards, row):
    """A coordinator's decision on its shards' reports; adds to `row` what it took."""
    coordinator, now = Coordinator(shards), END
    for encoded in shards.reports():
        began = time.process_time()
        coordinator.receive(encoded, now)
        now += 1e-4
        row["receive"] += time.process_time() - began
        row["in"] += len(encoded) / 1e6
    row["state"] += coordinator.size / 1e6
    began = time.process_time()
    decision = coordinator.decide()
    row["decide"] += time.process_time() - began
    return decision


def run(args):
    """One row, in this process."""
    kind, *numbers = args.rows_of[0].split(":")
    s, m = int(numbers[0]), int(numbers[-1])
    row = dict.fromkeys(COLUMNS, 0.0) | {"before": peak()}
    blocks = [Shards(args, m, block) for block in range(s // m)]
    rollup = Rollup(blocks[0].stream.plan.sampler, args.seed)
    for shards in blocks:
        decision = decided(shards, row)
        encoded = decision.to_bytes()
        row["out"] += len(encoded) / 1e6
        began = time.process_time()
        decision = Decision.from_bytes(encoded)
        if kind == "tree":
            rollup.add(decision)
        row["merge"] += time.process_time() - began
    for name in ("in", "receive", "decide", "state", "out"):
        row[name] /= len(blocks)
    began = time.process_time()
    if kind == "tree":
        decision = rollup.result()
    row["merge"] += time.process_time() - began
    began = time.process_time()
    (answer,) = summarize(decision, blocks[0].stream.question()).answers
    row |= {"solve": time.process_time() - began, "peak": peak(), "points": len(decision.coreset)}
    print(json.dumps(row | compared(blocks, decision, answer)))


def compared(blocks, decision, answer):
    """The answer beside the truth."""
    truth, count = 0.0, 0
    for shards in blocks:
        for part in shards.covered():
            points = shards.points(part)
            truth += cost(points, np.ones(len(points)), answer.model.centers)
            count += len(points)
    assert (decision.points, decision.total_weight) == (count, count)
    assert abs(decision.coreset.weights.sum() / count - 1) < 1e-9
    assert abs(answer.row["coverage"] - count / (len(blocks) * blocks[0].shards * blocks[0].args.rows)) < 1e-9
    half = (answer.row["cost_high"] - answer.row["cost_low"]) / 2
    return {"estimate": answer.row["cost"] / truth, "half": half / truth, "each": truth / count}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = ["flat:100", "flat:1000", "flat:10000", "tree:10000:1000", "tree:10000:100"]
    parser.add_argument("rows_of", nargs="*", default=rows, metavar="flat:SHARDS|tree:SHARDS:EACH")
    parser.add_argument("--replication", type=int, default=2)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--size", type=int, default=80, help="points of a shard's coreset; twice that in a partial one")
    parser.add_argument("--rows", type=int, default=400, help="of a part, in the window")
    parser.add_argument("--reports", type=int, default=1, help="partial reports of a shard, in the window")
    parser.add_argument("--missing", type=float, default=0.01, help="share of the shards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help="the first row, in this process, as JSON")
    args = parser.parse_args()
    if args.here:
        with threadpool_limits(1, "blas"):  # as in workers
            run(args)
        return 0
    options = [word for word in sys.argv[1:] if word not in args.rows_of]
    print(f"{'':<16} {'in':>6} {'receive':>8} {'decide':>7} {'merge':>6} {'solve':>6} {'state':>6} {'out':>6} "
          f"{'peak':>12} {'points':>9} {'estimate':>14} {'true, each':>11}")  # fmt: skip
    for name in args.rows_of:
        command = [sys.executable, __file__, name, "--here", *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        r = json.loads(done.stdout)
        print(f"{name:<16} {r['in']:6.1f} {r['receive']:8.2f} {r['decide']:7.2f} {r['merge']:6.2f} {r['solve']:6.2f} "
              f"{r['state']:6.1f} {r['out']:6.1f} {r['before']:5.0f} {r['peak']:6.0f} {r['points']:9,} "
              f"{r['estimate']:7.4f} ±{r['half']:.4f} {r['each']:11.3f}", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
