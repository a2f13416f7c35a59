"""Letters of a stream are in files once each, whoever of a part's holders writes, stops, starts again or lags."""
import pickle

import pytest
from jobs import rows_in

from beam_coresets.hashing import generator
from beam_coresets.pipelines.results_folder.result_files import of_runs
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.writing.stream_letters import STRETCH, StreamLetters


def letter(part, offset):
    return DeadLetter("nan", "x", "topic", f"partition {part} offset {offset}", str(offset))


def placed(part, offset):
    start = offset // 7 * 5.0
    return letter(part, offset), (start, start + 5.0)


class Holder:
    """Reads one part from its start, some at a time; `again` is another process that goes on, or goes back."""

    def __init__(self, folder, part, form):
        self.folder, self.part, self.form, self.at = str(folder), part, form, 0
        self.writer = StreamLetters(self.folder, form)

    def step(self, count, offsets):
        some = [offset for offset in offsets if self.at <= offset < self.at + count]
        self.writer.write([placed(self.part, offset) for offset in some])
        self.at += count

    def again(self, back):
        self.writer, self.at = pickle.loads(pickle.dumps(self.writer)), max(0, self.at - back)


@pytest.mark.parametrize("seed", range(12))
def test_each_letter_is_written_once_however_holders_cut_the_part(tmp_path, seed):
    rng, form = generator("letters", seed), ("jsonl", "avro", "parquet")[seed % 3]
    offsets = {part: sorted(rng.choice(80, 30, replace=False).tolist()) for part in (0, 1)}
    if seed % 2:  # across the border of two stretches
        offsets = {part: [o + STRETCH - 40 for o in found] for part, found in offsets.items()}
    holders = [Holder(tmp_path, part, form) for part in (0, 1) for _ in range(3)]
    for holder in holders:
        holder.at = min(offsets[holder.part])
    last = max(max(found) for found in offsets.values())
    while any(holder.at <= last for holder in holders):
        holder = holders[int(rng.integers(len(holders)))]
        if rng.random() < 0.2:
            holder.again(int(rng.integers(10)))
        holder.step(int(rng.integers(1, 15)), offsets[holder.part])
    found = sorted((row["position"], row["row_text"]) for row in rows_in(tmp_path, "dead_letters"))
    assert found == sorted((letter(p, o).position, str(o)) for p, some in offsets.items() for o in some)
    for path in (tmp_path / "dead_letters").rglob(f"*.{form}"):
        start, end = map(float, path.name.split("-")[:2])
        assert end == start + 5.0
        assert path.parent.name == "day=1970-01-01"


def test_two_writers_that_do_not_know_of_each_other_share_a_name(tmp_path):
    first, second = (StreamLetters(str(tmp_path), "jsonl") for _ in range(2))
    second.write([])
    assert first.write([placed(0, 3), placed(0, 4)]) == 2
    second._look = lambda stretch: set()  # as if it had looked before the first wrote
    assert second.write([placed(0, 3), placed(0, 4), placed(0, 5)]) == 1
    assert len(rows_in(tmp_path, "dead_letters")) == 3


def test_letters_without_a_window_and_of_whole_files_are_kept(tmp_path):
    writer = StreamLetters(str(tmp_path), "jsonl")
    gone = DeadLetter("vanished while it was read", "", "in/a.csv", "", "")
    changed = gone._replace(reason="changed after it was read")
    assert writer.write([(gone, None), (changed, None)]) == 2
    assert StreamLetters(str(tmp_path), "jsonl").write([(gone, None), (changed, (0.0, 5.0))]) == 0
    assert len(rows_in(tmp_path, "dead_letters")) == 2


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"^format: must be one of .*, got 'csv'$"):
        StreamLetters("out", "csv")


def test_a_holder_that_refuses_more_than_another_writes_only_what_that_has_not(tmp_path):
    one, other = StreamLetters(str(tmp_path), "jsonl"), StreamLetters(str(tmp_path), "jsonl")
    one.write([placed(0, 1)])
    other.write([placed(0, 1)])
    one.write([placed(0, 2), placed(0, 3)])
    other.write([placed(0, 3), placed(0, 4)])
    assert sorted(row["row_text"] for row in rows_in(tmp_path, "dead_letters")) == ["1", "2", "3", "4"]


def test_its_files_are_known_as_files_of_runs(tmp_path):
    letters = StreamLetters(str(tmp_path), "jsonl")
    letters.write([placed(0, 1), (letter(1, 2), None), (letter(1, 3), (-5.0, 0.0))])
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jsonl"))
    assert len(written) == 3
    assert sorted(of_runs(str(tmp_path))[0]) == written
