"""State of running jobs: a value a cell as its own text, under names that stay, as checkpoints hold them."""
import dataclasses

import pytest
from apache_beam.transforms.userstate import StateSpec, TimerSpec

from beam_coresets.streaming.progress import WindowProgress
from beam_coresets.streaming.window_slices import SlidingProgress
from beam_coresets.transforms.base.state import read_state, write_state
from beam_coresets.transforms.coordinator.combine_panes import _Run, _Slide
from beam_coresets.transforms.coordinator.coordinate_stream import _Coordinate
from beam_coresets.transforms.coordinator.solve_in_order import _SolveInOrder
from beam_coresets.transforms.shards.report_stream import _PaneProgress, _Report


class Cell:
    """A state cell of bytes."""

    held = None

    def read(self):
        return self.held

    def write(self, value):
        self.held = value


@pytest.mark.parametrize("value", [
    SlidingProgress({4: 1}, {4: 2}, 4, 1), _PaneProgress(9, 5, True, 12.5, False, 1),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_a_cell_holds_what_was_written_to_it(value):
    cell = Cell()
    assert read_state(cell, type(value)) is None
    write_state(cell, value)
    assert read_state(cell, type(value)) == value


def test_what_an_earlier_version_has_stored_is_read():
    cell = Cell()
    cell.held = b'{"rows":12,"sent":6,"final":false,"last":99.5,"armed":true,"kept":2}'
    assert read_state(cell, _PaneProgress) == _PaneProgress(12, 6, False, 99.5, True, 2)
    before = (
        b'{"first":91.0,"finals":["AAAAAAAAAAABAAAAAAAAAA==","AAAAAADAVkAAAAAAAABXQA=="],"parts":2,"revision":1,'
        b'"decided_at":92.0,"armed":null,"waited":false,"not_before":0.0,"restarted":false,"kept":2,"partial":false,'
        b'"late":[[0,1,3,5,1]],"untold":[["late",93.0,0,1,3,5,1]]}\n0:[[0,[[0,5]],5,5]]\n1:[[1,[[0,3],[4,6]],5,-1]]\n'
    )
    progress = WindowProgress(
        91.0, {0: 91.0, 1: 92.0}, {(0, 0): ([[0, 5]], 5, 5), (1, 1): ([[0, 3], [4, 6]], 5, -1)}, 2, 1, 92.0, kept=2,
        late=[(0, 1, 3, 5, 1)], untold=[("late", 93.0, 0, 1, 3, 5, 1)],
    )  # fmt: skip
    assert WindowProgress.read(before, lambda: pytest.fail("there were no notes")) == progress
    head, notes = WindowProgress.read(before, list).write()
    WindowProgress.read(head, list)  # forgets it
    read = WindowProgress.read(head, lambda: notes)
    assert (len(notes), read) == (2, dataclasses.replace(progress, noted=2))


@pytest.mark.parametrize(("step", "names"), [
    (_Coordinate, {"reports", "vigil", "notes", "due", "expiry"}),
    (_Report, {"deltas", "book", "due", "end", "expiry"}),
    (_Slide, {"panes", "book"}), (_Run, {"panes", "book", "running"}), (_SolveInOrder, {"lineages"}),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_cells_and_timers_keep_their_names(step, names):
    specs = [value for value in vars(step).values() if isinstance(value, (StateSpec, TimerSpec))]
    assert {spec.name.removeprefix("ts-") for spec in specs} == names
