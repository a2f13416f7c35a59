"""Clocks that are set while a stream is read."""
from beam_coresets.transforms.streams.clocks import LatestClock, Steps


class Clocks:
    wall, even = 1000.0, 5.0

    def go_on(self, seconds, step=0.0):
        self.wall, self.even = self.wall + seconds + step, self.even + seconds


def test_the_latest_clock_does_not_go_back():
    clocks = Clocks()
    latest = LatestClock(lambda: clocks.wall, lambda: clocks.even)
    clocks.go_on(10)
    assert latest() == 1010
    clocks.go_on(10, step=-3600)
    assert latest() == 1020
    clocks.go_on(10, step=7200)
    assert latest() == 4630


def test_steps_are_told_once_and_drift_is_not():
    clocks = Clocks()
    steps = Steps(lambda: clocks.even)
    assert steps.since(clocks.wall) == 0
    for _ in range(100):
        clocks.go_on(10, step=0.01)
        assert steps.since(clocks.wall) == 0
    clocks.go_on(10, step=-3600)
    assert steps.since(clocks.wall) == -3600
    assert steps.since(clocks.wall) == 0
    assert Steps(None).since(0.0) == Steps(None).since(1e9) == 0
