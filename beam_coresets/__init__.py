"""Straggler-resilient, mergeable coresets for clustering: the mathematics, without Apache Beam.

From an array (n, d) to centers and what they are worth, in this process:

    plan = Plan(k=20, shards=10, replication=3)
    reports = shard_reports(blocks_of(points), plan.merge_reduce)
    summary = summarize(decide(reports[:8], plan.policy), plan.question)  # two shards never answer
    summary.centers, summary.summaries  # pyarrow Tables

The Beam transforms are in `beam_coresets.transforms`, the runnable jobs in `beam_coresets.pipelines`.
"""
from typing import TYPE_CHECKING

from beam_coresets._front_door import front_door

__version__ = "0.3.0"

if TYPE_CHECKING:
    from beam_coresets.coordinator.decision import Decision, Policy, decide
    from beam_coresets.parameters.plan import Plan
    from beam_coresets.points.block import PointBlock, blocks_of
    from beam_coresets.points.coreset import Coreset
    from beam_coresets.points.scale import Scale
    from beam_coresets.results.certificate import Interval, fixed_interval
    from beam_coresets.results.question import Question
    from beam_coresets.results.summary import Summary, summarize
    from beam_coresets.sampling.importance import Sampler
    from beam_coresets.shards.assignment import Assignment
    from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
    from beam_coresets.shards.report import ShardReport
    from beam_coresets.solvers.constrained.constraints import Constraint
    from beam_coresets.streaming.windows import Window

__all__ = [
    "Assignment", "Constraint", "Coreset", "Decision", "Interval", "MergeReduce", "Plan", "PointBlock",
    "Policy", "Question", "Sampler", "Scale", "ShardReport", "Summary", "Window", "blocks_of", "decide",
    "fixed_interval", "shard_reports", "summarize",
]  # fmt: skip

_HOMES = {
    "Assignment": "beam_coresets.shards.assignment",
    "Constraint": "beam_coresets.solvers.constrained.constraints",
    "Coreset": "beam_coresets.points.coreset",
    "Decision": "beam_coresets.coordinator.decision",
    "Interval": "beam_coresets.results.certificate",
    "MergeReduce": "beam_coresets.shards.merge_reduce",
    "Plan": "beam_coresets.parameters.plan",
    "PointBlock": "beam_coresets.points.block",
    "Policy": "beam_coresets.coordinator.decision",
    "Question": "beam_coresets.results.question",
    "Sampler": "beam_coresets.sampling.importance",
    "Scale": "beam_coresets.points.scale",
    "ShardReport": "beam_coresets.shards.report",
    "Summary": "beam_coresets.results.summary",
    "Window": "beam_coresets.streaming.windows",
    "blocks_of": "beam_coresets.points.block",
    "decide": "beam_coresets.coordinator.decision",
    "fixed_interval": "beam_coresets.results.certificate",
    "shard_reports": "beam_coresets.shards.merge_reduce",
    "summarize": "beam_coresets.results.summary",
}

if not TYPE_CHECKING:  # else every name would pass for one of this package's
    __getattr__, __dir__ = front_door(__name__, _HOMES)
