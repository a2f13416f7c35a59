"""How far this process has come, for a terminal to show. Beam's own metrics are only complete when a local pipeline is
over."""
import dataclasses
import threading


@dataclasses.dataclass
class Progress:
    """Counts since the process began; added to by the transforms, read by whoever shows them."""

    points: int = 0
    shards: int = 0
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    def add(self, points: int = 0, shards: int = 0) -> None:
        """Counts on, from any thread."""
        with self._lock:
            self.points += points
            self.shards += shards


PROGRESS = Progress()
