"""Several coordinators for each window, each on a worker of its own
(`beam_coresets.transforms.coordinator.replicas`)."""
import dataclasses

from beam_coresets.streaming.placement import MAX_PARALLELISM, placed_key


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
