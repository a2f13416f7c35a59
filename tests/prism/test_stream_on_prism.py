"""`beam-coresets stream` as a whole on Prism: sliding and running windows, summaries by key, all with exact totals."""
import collections

import pytest
from jobs import rows_in

from beam_coresets.transforms.streams.rate import RateSource, rows_at

pytestmark = pytest.mark.prism
RATE, PARTS, KEYS = 8000, 8, 3


def rows_of(on_prism, folder, windows, *options):
    """Runs the job until so many windows are decided; the rows of `summaries`."""
    words = ["-m", "beam_coresets.pipelines.main", "stream", f"--output={folder}", f"--rate={RATE}", "--k=4",
             "--shards=2", "--replication=2", "--coreset_size=200", f"--max_windows={windows}", *options]  # fmt: skip
    job = on_prism("run", words)
    assert job.wait() == 0, job.output[-3000:]
    rows = rows_in(folder, "summaries")
    assert all(row["revision"] == 1 and row["coverage"] == 1 for row in rows)
    return sorted(rows, key=lambda row: (row["window_end"], row["key"]))


def beginning(rows):
    """The time of the first point: the first window, in which it falls, has all points since then."""
    end = rows[0]["window_end"]
    points = sum(row["points"] for row in rows if row["window_end"] == end)
    assert points % RATE == 0, "the source begins at a whole second"
    return end - points / RATE


def written(t0, until, keys=0):
    """(seconds, key) -> points: what the source has made, message by message."""
    rows = rows_at(RATE, PARTS)
    source = RateSource(rate=RATE, parts=PARTS, t0=t0, keys=keys, rows=rows, clock=lambda: until)
    reader = source.reader(0, 1)
    reader.seek(dict.fromkeys(range(PARTS), 0))
    found = collections.Counter()
    while chunks := reader.read(0):
        for chunk in chunks:
            names = [""] * len(chunk.times) if chunk.keys is None else chunk.keys
            for time, key, count in zip(chunk.times, names, chunk.counts, strict=True):
                found[float(time), str(key)] += int(count)
    return found


def between(made, start, end, key=""):
    return sum(count for (time, of), count in made.items() if start <= time < end and of == key)


def test_sliding_windows_have_every_point_of_their_length(on_prism, tmp_path):
    rows = rows_of(on_prism, tmp_path / "out", 4, "--window=10s/5s")
    made = written(beginning(rows), rows[-1]["window_end"])
    assert [row["window_end"] - rows[0]["window_end"] for row in rows[:4]] == [0, 5, 10, 15]
    for row in rows:
        assert row["window_end"] - row["window_start"] == 10
        assert row["total_weight"] == pytest.approx(between(made, row["window_start"], row["window_end"]), rel=1e-9)


def test_the_worst_hundredth_is_left_out_and_named(on_prism, tmp_path):
    rows = rows_of(on_prism, tmp_path / "out", 2, "--window=5s", "--outliers=1%")
    made = written(beginning(rows), rows[-1]["window_end"])
    gone = rows_in(tmp_path / "out", "outliers")
    for row in rows:
        assert row["total_weight"] == pytest.approx(between(made, row["window_start"], row["window_end"]), rel=1e-9)
        assert row["outliers"] == pytest.approx(0.01 * row["total_weight"])
        mine = [each for each in gone if each["window_end"] == row["window_end"]]
        assert sum(each["weight"] for each in mine) == pytest.approx(row["outliers"])
        if not row["points"]:  # the first window, where the stream began at a window's boundary: a point may come late
            continue
        beyond = sum(each["weight"] for each in mine if each["cost"] >= row["threshold"])
        assert beyond > 0.8 * row["outliers"]  # the threshold may lie at a gap of the costs near by
    assert rows[-1]["points"]


def test_a_running_summary_forgets_half_in_its_half_life(on_prism, tmp_path):
    rows = rows_of(on_prism, tmp_path / "out", 4, "--window=global/5s", "--half_life=10s")
    made, weight = written(beginning(rows), rows[-1]["window_end"]), 0.0
    for row in rows:
        assert row["window_start"] == rows[0]["window_start"]
        weight = weight * 0.5**0.5 + between(made, row["window_end"] - 5, row["window_end"])
        assert row["total_weight"] == pytest.approx(weight, rel=1e-9)


def test_each_key_has_its_own_summary(on_prism, tmp_path):
    rows = rows_of(on_prism, tmp_path / "out", 3, "--window=5s", f"--keys={KEYS}", "--key_groups=1")
    made = written(beginning(rows), rows[-1]["window_end"], KEYS)
    names = [f"key-{i}" for i in range(KEYS)]
    assert {row["key"] for row in rows if row["points"]} == set(names)
    for end in sorted({row["window_end"] for row in rows}):
        mine = {row["key"]: row["total_weight"] for row in rows if row["window_end"] == end}
        wanted = {key: between(made, end - 5, end, key) for key in names}
        assert {key: weight for key, weight in mine.items() if weight} == {
            key: pytest.approx(count, rel=1e-9) for key, count in wanted.items() if count
        }
