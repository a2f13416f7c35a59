"""SolveCenters: a decision -> centers, their cost with its interval, and the tables that are written."""
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import IntervalWindow

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coder of decisions)
from beam_coresets.coordinator.decision import Decision
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary, summarize
from beam_coresets.shards.refused import RefusedRows
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference


@beam.typehints.with_input_types(Decision)
@beam.typehints.with_output_types(Summary)
class SolveCenters(beam.PTransform):
    """Decisions -> Summaries.

    Args:
      question: k, z, metric and how the coreset was made.
      names: file names by the upper half of ids that are made of (file, row number).
      scale: the scaling of the columns (a value or a side input), or None.
      refused: how many rows of the window were refused, by column (a dict or a side input), or None: not known, unless
        the decisions say so.
      reference: what each window is compared with; None for nothing.

    Raises (while running):
      ValueError: a constraint about labels on rows without any, or one that they can't meet.

    Source: `beam_coresets.summarize`.

    Example:
      plan = Plan(k=4, shards=5)
      decision = decide(shard_reports(blocks_of(points), plan.merge_reduce), plan.policy)
      p | beam.Create([decision]) | SolveCenters(plan.question)
    """

    def __init__(
        self,
        question: Question,
        names: Mapping[int, str] | None = None,
        scale: Any = None,
        refused: Any = None,
        reference: FixedReference | None = None,
    ) -> None:
        super().__init__()
        self._question, self._names, self._scale, self._refused = question, dict(names or {}), scale, refused
        self._reference = reference

    def expand(self, decisions: PCollection[Decision]) -> PCollection[Summary]:
        solve = _Solve(self._question, self._names, self._reference)
        return decisions | "Solve" >> beam.ParDo(solve, self._scale, self._refused)

    def display_data(self) -> dict[str, Any]:
        sampler = self._question.sampler
        return {"k": sampler.k, "z": sampler.z, "metric": self._question.metric, "method": sampler.method}


class _Solve(beam.DoFn):
    def __init__(self, question: Question, names: Mapping[int, str], reference: FixedReference | None) -> None:
        self._question, self._names, self._reference = question, names, reference

    def process(
        self,
        decision: Decision,
        scale: Scale | None,
        refused: dict[str, int] | None,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Summary]:
        place = Window()
        if refused is not None:
            known = RefusedRows(tuple(sorted(refused.items())), decision.points)
            decision = dataclasses.replace(decision, refused=known)
        if isinstance(window, IntervalWindow):
            place = Window(float(window.start), float(window.end))
        summary = summarize(decision, self._question, place, self._names, scale)
        if self._reference is not None:
            summary = self._reference.compared(decision, summary, self._question, scale)
        yield summary
