"""Several coordinators for each window, each on a worker of its own, so that no worker that stops holds a window back.

Every report goes to all of them; each decides, the claim keeps the first decision, and the others' are dropped. A key
is chosen such that Flink puts it on the wanted subtask (`placement`); what follows a replica (panes, solving, writing)
is put where that replica is. On other runners keys land where the runner likes: that the replicas of a window are on
different workers is likely there, not promised.
"""
import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_coresets.coordinator import Verdict
from beam_coresets.summary import Window
from beam_coresets.transforms.placement import MAX_PARALLELISM, placed_key


@dataclasses.dataclass(frozen=True)
class Coordinators:
    """How many coordinators decide each window, and where.

    Attributes:
      replicas: how many.
      standby: seconds by which each decides after the one before it (half of that past the deadline), so that it need
        not where that one has.
      parallelism, max_parallelism: the subtasks that they are placed over (`placement.subtask_of`).

    Raises:
      ValueError: replicas is not from 1 to parallelism (there would be two on one worker), or a negative standby.
    """

    replicas: int = 1
    standby: float = 0.5
    parallelism: int = 1
    max_parallelism: int = MAX_PARALLELISM

    def __post_init__(self) -> None:
        if not 1 <= self.replicas <= self.parallelism:
            raise ValueError(
                f"coordinator_replicas: must be from 1 to the {self.parallelism} workers, got {self.replicas}"
            )
        if not 0 <= self.standby < 60:
            raise ValueError(f"standby: must be from 0 to 60 s, got {self.standby:g}")

    def key(self, replica: int, window: str, group: str) -> str:
        """The key of one replica for a window (`coordinate_stream.window_key`) of a group of keys."""
        return self._placed(f"{window}#{replica}", replica, group)

    def lane(self, replica: int, group: str) -> str:
        """The key of all that follows a replica's decisions on a group of keys, in the order of the windows."""
        return self._placed(f"{group}#{replica}", replica, group)

    def behind(self, replica: int) -> float:
        """Seconds by which a replica decides after the first."""
        return replica * self.standby

    def _placed(self, name: str, replica: int, group: str) -> str:
        number = int(group) if group.isdigit() else 0
        return placed_key(name, number + replica, self.parallelism, self.max_parallelism)


ONE = Coordinators()


def split_key(key: str) -> tuple[str, int]:
    """The inverse of `Coordinators.key`: the window's key, and which replica it is."""
    window, _, rest = key.rpartition("#")
    return window, int(rest.partition(":")[0])


def in_lane(verdict: Verdict, coordinators: Coordinators) -> tuple[str, Verdict]:
    """A verdict under the key of what follows."""
    return coordinators.lane(verdict.replica, verdict.group), verdict


@beam.typehints.with_input_types(tuple[int, Window])
class ApartFromSolving(beam.PTransform):
    """(replica, Window) -> Window, in a stage of its own on the replica's worker: what comes after it may be stuck
    without holding up what came before, and a worker that stops keeps no other replica's windows.
    """

    def __init__(self, coordinators: Coordinators = ONE) -> None:
        super().__init__()
        self._coordinators = coordinators

    def expand(self, windows: Any) -> Any:
        return (
            windows
            | "Lane" >> beam.Map(_window_in_lane, self._coordinators).with_output_types(tuple[str, Window])
            | "Apart" >> beam.ParDo(_Apart()).with_output_types(Window)
        )


def _window_in_lane(element: tuple[int, Window], coordinators: Coordinators) -> tuple[str, Window]:
    replica, window = element
    return coordinators.lane(replica % coordinators.replicas, window.key), window


class _Apart(beam.DoFn):
    UNUSED = ReadModifyWriteStateSpec("unused", BytesCoder())  # with state, elements go to their key's worker

    def process(self, element: tuple[str, Window], unused: Any = beam.DoFn.StateParam(UNUSED)) -> Iterator[Window]:
        yield element[1]
