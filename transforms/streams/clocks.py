"""Clocks that nobody sets: for waiting, and to tell a step of the wall clock from time that has passed."""
import time
from collections.abc import Callable

STEP_SECONDS = 0.5  # by less than this, clocks drift and are put right

_BOOT = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def steady() -> float:
    """Seconds since some moment; goes on while the machine sleeps, and never jumps."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


class LatestClock:
    """Seconds since the epoch by the wall clock, or by what that would show if it had not been set since, whichever is
    later: a clock that is set back does not make messages come from ahead of time."""

    def __init__(self, wall: Callable[[], float] = time.time, even: Callable[[], float] = steady) -> None:
        self._wall, self._even = wall, even
        self._apart = wall() - even()

    def __call__(self) -> float:
        return max(self._wall(), self._even() + self._apart)


class Steps:
    """Notices when the wall clock is set.

    Args:
      even: seconds of a clock that never jumps; None: the wall clock is believed.
    """

    def __init__(self, even: Callable[[], float] | None = steady) -> None:
        self._even = even
        self._apart: float | None = None

    def since(self, wall: float) -> float:
        """By how many seconds it has been set since this was last asked, now that it shows `wall`."""
        if self._even is None:
            return 0.0
        before, self._apart = self._apart, wall - self._even()
        step = 0.0 if before is None else self._apart - before
        return step if abs(step) >= STEP_SECONDS else 0.0
