"""Several coordinators for each window, each on a worker of its own, so that no worker that stops holds a window back.

Every report goes to all of them; each decides, the claim keeps the first decision, and the others' are dropped. A key
is chosen such that Flink puts it on the wanted subtask (`placement`); what follows a replica (panes, solving, writing)
is put where that replica is. On other runners keys land where the runner likes: that the replicas of a window are on
different workers is likely there, not promised.
"""
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_coresets.coordinator.decision import Verdict
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.base.display import shown


def in_lane(verdict: Verdict, coordinators: Coordinators) -> tuple[str, Verdict]:
    """A verdict under the key of what follows."""
    return coordinators.lane(verdict.replica, verdict.group), verdict


@beam.typehints.with_input_types(tuple[int, Window])
class ApartFromSolving(beam.PTransform):
    """(replica, Window) -> Window, in a stage of its own on the replica's worker: what comes after it may be stuck
    without holding up what came before, and a worker that stops keeps no other replica's windows.

    Args:
      coordinators: how many replicas there are, and where.

    Source: `beam_coresets.streaming.placement`: which keys go to which of Flink's subtasks.

    Example:
      written = (blocks | Summarize(k=4, shards=5)).decided | WriteSummaries("out")
      written.windows | ApartFromSolving()
    """

    def __init__(self, coordinators: Coordinators = ONE) -> None:
        super().__init__()
        self._coordinators = coordinators

    def expand(self, windows: PCollection[tuple[int, Window]]) -> PCollection[Window]:
        return (
            windows
            | "Lane" >> beam.Map(_window_in_lane, self._coordinators).with_output_types(tuple[str, Window])
            | "Apart" >> beam.ParDo(_Apart()).with_output_types(Window)
        )

    def display_data(self) -> dict[str, Any]:
        return shown(coordinators=self._coordinators)


def _window_in_lane(element: tuple[int, Window], coordinators: Coordinators) -> tuple[str, Window]:
    replica, window = element
    return coordinators.lane(replica % coordinators.replicas, window.key), window


class _Apart(beam.DoFn):
    UNUSED = ReadModifyWriteStateSpec("unused", BytesCoder())  # with state, elements go to their key's worker

    def process(self, element: tuple[str, Window], unused: Any = beam.DoFn.StateParam(UNUSED)) -> Iterator[Window]:
        yield element[1]
