"""A folder that is looked at again and again: each window is read once, whatever happens to its files."""
import pathlib
import shutil

import pyarrow as pa
import pytest
from windows_written import DAY, MINUTE, answer, minute, write, write_minutes

from beam_coresets import tables
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.results_folder.stream_folder import require_same_stream
from beam_coresets.pipelines.views.history import History
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries import claim_records
from beam_coresets.summaries.places import LocalPlace, NoSummariesError
from beam_coresets.transforms.writing.claims import Claims


@pytest.fixture
def stream(tmp_path):
    """A folder with what a stream notes down as it begins."""
    require_same_stream(Claims(str(tmp_path / "out")), "60s", None)
    return tmp_path / "out"


class Counted(LocalPlace):
    """A folder that notes what is read from it."""

    def __init__(self, path):
        super().__init__(str(path))
        self.asked = []

    def read(self, path):
        self.asked.append(path)
        return super().read(path)

    def tables(self):
        """The tables' files that were read since the last call."""
        found, self.asked = [path for path in self.asked if not path.startswith(".")], []
        return found


def starts(history):
    return [round((start - DAY) / MINUTE) for start in history.rows().column("window_start").to_pylist()]


def test_each_window_is_read_once(tmp_path):
    write_minutes(tmp_path, range(3))
    place = Counted(tmp_path)
    history = History(place)
    assert history.refresh()
    assert len([path for path in place.tables() if path.startswith("summaries/")]) == 3
    assert not history.refresh()
    assert place.tables() == []
    write_minutes(tmp_path, [3])
    assert history.refresh()
    assert [path for path in place.tables() if path.startswith("summaries/")] == [
        str(path.relative_to(tmp_path)) for path in (tmp_path / "summaries").rglob(f"{DAY + 3 * MINUTE:.3f}-*")
    ]
    assert starts(history) == [0, 1, 2, 3]


def test_the_newest_are_kept_and_older_ones_forgotten(tmp_path):
    write_minutes(tmp_path, range(3))
    history = History(LocalPlace(str(tmp_path)), most=3)
    history.refresh()
    assert not history.older
    write_minutes(tmp_path, [3, 4])
    history.refresh()
    assert (starts(history), history.older, len(history)) == ([2, 3, 4], True, 3)
    assert history.totals.windows["whole"] == 5


def test_what_is_compacted_is_what_it_was(stream):
    for i in range(6):
        write(stream, answer(minute(i - 2000), i, missing=(1,) if i == 2 else ()))
    write_minutes(stream, range(2))
    before = History(LocalPlace(str(stream)))
    before.refresh()
    rows = before.rows()
    assert main(["compact", str(stream)]) == 0
    assert not list(pathlib.Path(stream, "summaries").rglob(f"{DAY - 2000 * MINUTE:.3f}-*")), "it was compacted"
    before.refresh()
    after = History(LocalPlace(str(stream)))
    after.refresh()
    assert before.rows().equals(rows)
    assert after.rows().equals(rows)
    assert before.totals.windows == after.totals.windows == {"whole": 8, "incomplete": 0, "degraded": 0, "revised": 0}
    few = History(LocalPlace(str(stream)), most=4)
    few.refresh()
    assert few.rows().equals(rows.slice(4))
    windows = list(after.windows())
    assert [w.start.timestamp() for w in windows] == rows.column("window_start").to_pylist()[::-1]
    assert [len(w.centers) for w in windows] == [3] * 8


def test_no_compacted_day_is_opened_that_is_older_than_what_is_kept(stream):
    write_minutes(stream, [-4000, -3999])
    write_minutes(stream, [-2000, -1999])
    write_minutes(stream, range(2))
    assert main(["compact", str(stream)]) == 0
    claim_records._indexes.clear()
    place = Counted(stream)
    history = History(place, most=3)
    history.refresh()
    assert len([path for path in place.asked if path.endswith(".windows")]) == 2, "of three days"
    assert starts(history) == [-1999, 0, 1]


def test_refused_and_late_rows_are_counted_by_reason_once(tmp_path):
    write_minutes(tmp_path, [0])
    letters = pa.table({"reason": ["null", "null", "infinite"], "column_name": ["x"] * 3})
    late = pa.table({"reason": ["late", "expired"], "row_count": [7, 5]})
    for table, rows in (("dead_letters", letters), ("late", late)):
        (tmp_path / table).mkdir()
        (tmp_path / table / "one.parquet").write_bytes(tables.encode(rows, "parquet"))
    history = History(LocalPlace(str(tmp_path)))
    history.refresh()
    assert not history.refresh()
    (tmp_path / "dead_letters" / "two.jsonl").write_bytes(tables.encode(letters.slice(2), "jsonl"))
    (tmp_path / "dead_letters" / "bad.avro").write_bytes(b"no Avro")
    assert history.refresh()
    assert history.letters == {"null": 2, "infinite": 2}
    assert history.totals.late == {"late": 7, "expired": 5}
    assert list(history.skipped) == ["dead_letters/bad.avro"]


def test_a_folder_that_comes_later_is_waited_for(tmp_path):
    history = History(LocalPlace(str(tmp_path / "out")))
    with pytest.raises(NoSummariesError):
        history.refresh()
    write_minutes(tmp_path / "out", [0])
    assert history.refresh()
    assert starts(history) == [0]


def test_late_rows_are_counted_whichever_version_wrote_them():
    golden = pathlib.Path(__file__).parents[2] / "golden"
    for version in ("0.1", "0.2", "0.3"):
        history = History(LocalPlace(str(golden / version / "stream")))
        assert history.refresh()
        assert dict(history.totals.late) == {"the window was decided without it": 50}


@pytest.mark.parametrize("text", ['{"other": 1}\n', '{"reason": ""}\n', '{"reason": [1]}\n', "junk"])
def test_letters_of_another_kind_are_named_and_the_rest_is_counted(tmp_path, text):
    write_minutes(tmp_path, range(2))
    for table in ("dead_letters", "late"):
        (tmp_path / table).mkdir(exist_ok=True)
        (tmp_path / table / "x.jsonl").write_text(text)
    history = History(LocalPlace(str(tmp_path)))
    assert history.refresh()
    assert starts(history) == [0, 1]
    assert sorted(history.skipped) == ["dead_letters/x.jsonl", "late/x.jsonl"]
    assert not history.letters


def test_a_result_that_another_takes_the_place_of_is_read_again(tmp_path):
    """A run with --overwrite claims the same name."""
    costs = []
    history = History(LocalPlace(str(tmp_path / "out")))
    for i in range(2):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        write(tmp_path / "out", answer(Window(), i))
        assert history.refresh()
        assert not history.refresh()
        costs.append(history.rows().column("cost").to_pylist())
    assert costs == [[answer(Window(), i).answers[0].row["cost"]] for i in range(2)]
