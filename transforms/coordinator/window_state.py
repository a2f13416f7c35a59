"""What the coordinator's stateful DoFn works on: one window, with its state cells and timers in one object."""
from typing import Any, NamedTuple

from apache_beam.utils.timestamp import Timestamp

from beam_coresets.streaming.progress import WindowProgress
from beam_coresets.streaming.trigger import Trigger
from beam_coresets.transforms.base.keys import parse_key, split_key


class WindowKey(NamedTuple):
    """A window, a group of keys, and which of their coordinators."""

    start: float
    end: float
    group: str
    replica: int

    @property
    def window(self) -> tuple[float, float, str]:
        """Start, end and key group."""
        return self.start, self.end, self.group

    @staticmethod
    def of(key: str) -> "WindowKey":
        """The inverse of `Coordinators.key`."""
        window, replica = split_key(key)
        return WindowKey(*parse_key(window), replica)


class StateCells(NamedTuple):
    """The state cells and timers of one key."""

    reports: Any
    head: Any
    due: Any
    expiry: Any
    notes: Any


class WindowState(NamedTuple):
    """A window while one report or timer of it is dealt with, at `now`; `progress` is changed, and then written."""

    key: WindowKey
    now: float
    trigger: Trigger
    progress: WindowProgress
    cells: StateCells

    @staticmethod
    def of(key: WindowKey, now: float, trigger: Trigger, cells: StateCells) -> "WindowState":
        """With what has been stored of the window."""
        return WindowState(key, now, trigger, WindowProgress.read(cells.head.read(), cells.notes.read), cells)

    def write(self) -> None:
        """Stores the progress, which is not to be changed after that."""
        head, notes = self.progress.write()
        self.cells.head.write(head)
        for note in notes:
            self.cells.notes.add(note)

    def wake(self, at: float | None) -> None:
        """Sets the timer `due`."""
        self.cells.due.set(Timestamp.of(at))
