"""Coordinate: the shards' reports -> one decision a window. The batch face of
`beam_coresets.coordinator.decision.decide`."""
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindows

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coders of reports and decisions)
from beam_coresets.coordinator.decision import Decision, Policy, decide
from beam_coresets.coordinator.refused_rows import with_refused
from beam_coresets.shards.merge_reduce import MergeReduce
from beam_coresets.shards.report import ShardReport
from beam_coresets.streaming import partial_reports


@beam.typehints.with_input_types(ShardReport)
@beam.typehints.with_output_types(Decision)
class Coordinate(beam.PTransform):
    """ShardReports -> a Decision for each window.

    It waits for all reports that a window will get, as every batch runner does; no timer, because one would move the
    local runner onto a slow path. Without windows, a decision comes even if no shard reports.

    Args:
      policy: the scheme, the kind of recovery, how many shards are enough.
      merge_reduce: given where a shard sends any number of partial reports, for how they are put together; by default
        it sends one finished report.

    Raises (while running):
      ValueError: two different reports of one shard, or reports of another scheme than the policy's.

    Source: `beam_coresets.decide`, which names what proves each kind of recovery.

    Example:
      plan = Plan(k=4, shards=5)
      reports = p | beam.Create(shard_reports(blocks_of(points), plan.merge_reduce))
      reports | Coordinate(plan.policy) | SolveCenters(plan.question)
    """

    def __init__(self, policy: Policy, merge_reduce: MergeReduce | None = None) -> None:
        super().__init__()
        self._policy, self._merge_reduce = policy, merge_reduce

    def expand(self, reports: PCollection[ShardReport]) -> PCollection[Decision]:
        keyed = reports | "Key by nothing" >> beam.Map(lambda report: ("", report)).with_output_types(
            tuple[str, ShardReport]
        )
        by_window = {"reports": keyed}
        if isinstance(reports.windowing.windowfn, GlobalWindows):
            by_window["heartbeat"] = reports.pipeline | "Heartbeat" >> beam.Create([("", 0)])
        return (
            by_window
            | "Gather" >> beam.CoGroupByKey()
            | "Decide" >> beam.ParDo(_Decide(self._policy, self._merge_reduce)).with_output_types(Decision)
        )

    def display_data(self) -> dict[str, Any]:
        return {"recovery": self._policy.recovery, "min_shards": self._policy.min_shards}


class _Decide(beam.DoFn):
    def __init__(self, policy: Policy, merge_reduce: MergeReduce | None) -> None:
        self._policy, self._merge_reduce = policy, merge_reduce
        self._answered = Metrics.counter("beam_coresets", "shards_answered")
        self._missing = Metrics.counter("beam_coresets", "shards_missing")
        self._distrusted = Metrics.counter("beam_coresets", "shards_distrusted")

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Decision]:
        reports = element[1]["reports"]
        if self._merge_reduce is not None:
            reports = partial_reports.decidable(self._merge_reduce, reports)[""]
        reports = list(reports)
        decision = with_refused({"": decide(reports, self._policy)}, {"": reports})[""]
        self._answered.inc(len(decision.recovery.responded))
        self._missing.inc(len(decision.recovery.stragglers))
        self._distrusted.inc(len(decision.recovery.distrusted))
        yield decision
