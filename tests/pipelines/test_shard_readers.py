"""`beam-coresets summarize --shard_readers`: every shard reads the parts it holds, and may be told when to stop."""
import collections
import functools

import numpy as np
import pytest
from jobs import clusters, columns_of, rows_in, run, summarize_files, summary_row, write_parquet

from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines import summarize as job
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.streams.folder.files import FileParts
from beam_coresets.transforms.summarize_parts import SummarizeParts, assignment_of_parts, bytes_a_part

N = 3000
BASE = ("--k", "4", "--shards", "6", "--replication", "3", "--coreset_size", "60", "--columns", "x0,x1,x2")
READERS = (*BASE, "--shard_readers")


@pytest.fixture
def small_parts(monkeypatch):
    """Parts small enough for small files to have many."""
    monkeypatch.setattr(job, "bytes_a_part", lambda total, shards: 4000)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The glob of three Parquet files of 1000 rows in four row groups, with a weight w."""
    columns = columns_of(clusters(N)) | {"w": np.arange(N) % 4 / 2.0}
    return write_parquet(tmp_path_factory.mktemp("points"), columns)


def test_totals_and_coverage_are_those_of_the_ordinary_job(source, tmp_path, small_parts):
    weight = ("--weight_column", "w")
    assert summarize_files(source, tmp_path / "plain", *BASE, *weight) == 0
    assert summarize_files(source, tmp_path / "readers", *READERS, *weight) == 0
    plain, readers = (summary_row(tmp_path / name) for name in ("plain", "readers"))
    for name in ("points", "coverage", "delta", "responded", "stragglers", "distrusted", "centers", "reason"):
        assert readers[name] == plain[name]
    assert readers["total_weight"] == pytest.approx(plain["total_weight"], rel=1e-12)
    assert readers["cost"] == pytest.approx(plain["cost"], rel=0.2)
    assert rows_in(tmp_path / "readers", "coreset")[0]["id"].startswith("part-")


def test_the_same_bytes_twice_and_with_two_workers(source, tmp_path, small_parts):
    two = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    for name, more in (("a", ()), ("b", ()), ("c", two)):
        assert summarize_files(source, tmp_path / name, *READERS, *more) == 0
    written = [(tmp_path / name / "coreset" / "global-r1.parquet").read_bytes() for name in "abc"]
    assert written[0] == written[1] == written[2]


def test_two_stragglers_of_l_three_cost_nothing(source, tmp_path, small_parts):
    assert summarize_files(source, tmp_path, *READERS, "--drop_shards", "1,4") == 0
    row = summary_row(tmp_path)
    assert (row["coverage"], row["stragglers"], row["points"]) == (1.0, [1, 4], N)


def test_what_nobody_holds_any_more_is_missing_and_not_scaled_over(source, tmp_path, small_parts, capsys):
    options = ("--k", "4", "--shards", "6", "--tolerate", "0", "--columns", "x0,x1,x2", "--shard_readers")
    assert summarize_files(source, tmp_path, *options, "--drop_shards", "2") == 0
    row = summary_row(tmp_path)
    assert row["coverage"] < 1
    assert row["total_weight"] == row["points"] < N
    assert "the rest is missing" in capsys.readouterr().out


class Ticking:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def past_its_deadline(source, deadline, shards=6, replication=2):
    parts = FileParts(source, Columns(("x0", "x1", "x2")), part_bytes=4000)
    plan = Plan(k=4, shards=shards, replication=replication, coreset_size=60)
    step = SummarizeParts(parts, plan, deadline, clock=Ticking())
    held, _ = run(lambda p: {"out": (p | step).decided})
    return held["out"][0].table("summaries").to_pylist()[0], len(parts.parts)


def test_a_shard_past_its_deadline_reports_what_it_has(source):
    whole, parts = past_its_deadline(source, None, replication=1)
    assert (whole["coverage"], whole["points"]) == (1.0, N)
    row, _ = past_its_deadline(source, 3.5, replication=1)
    assert 0 < row["points"] < N
    assert row["total_weight"] == row["points"]
    assert 0 < row["coverage"] < 1
    assert row["coverage"] * parts == pytest.approx(round(row["coverage"] * parts), abs=1e-9)
    assert row["stragglers"]


def test_bad_rows_are_counted_once_though_three_shards_read_them(tmp_path, small_parts, capsys):
    values = np.where(np.arange(N) % 500 == 7, np.nan, np.arange(N))
    source = write_parquet(tmp_path / "in", {"x0": values, "x1": values, "x2": values})
    assert summarize_files(source, tmp_path / "out", *READERS, "--max_bad_rows", "6") == 0
    assert len(rows_in(tmp_path / "out", "dead_letters")) == 6
    row = summary_row(tmp_path / "out")
    assert (row["points"], row["refused"]) == (N - 6, 6)
    assert summarize_files(source, tmp_path / "no", *READERS, "--max_bad_rows", "5") == 1
    assert "max_bad_rows: at most 5 rows may be refused, got 6" in capsys.readouterr().err


def test_explain_shows_the_parts_as_buckets(source, capsys):
    assert job.main(["--input", source, *READERS, "--explain"]) == 0
    out = capsys.readouterr().out
    for text in ("replication 3, parts as buckets", "read by each shard that holds them", "ReadShards", "Coordinate"):
        assert text in out


@pytest.mark.parametrize(("options", "message"), [
    (("--deadline", "5s"), "deadline: must be left out without --shard-readers, got 5 s"),
    (("--shard-readers", "--deadline", "0s"), "deadline: must be positive, got 0 s"),
    (("--shard-readers", "--scale", "standard"), "scale: must be none with --shard-readers, got 'standard'"),
])  # fmt: skip
def test_what_does_not_go_together(source, tmp_path, options, message, capsys):
    assert summarize_files(source, tmp_path, *BASE, *options) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_every_shard_has_parts_and_spare_shards_have_a_bucket():
    assert bytes_a_part(1 << 30, 8) == 32 << 20
    assert bytes_a_part(1 << 40, 8) == 64 << 20
    assert bytes_a_part(1000, 8) == 1 << 20
    scheme = assignment_of_parts(Plan(k=2, shards=8, replication=2), 2)
    assert (scheme.parts, scheme.buckets) == (True, 4)


def test_the_shards_that_answer_hold_some_of_the_data(source):
    files = FileParts(source, Columns(columns=("x0", "x1", "x2")))  # one part, of shards 0 to 2
    SummarizeParts(files, Plan(k=4, shards=6, replication=3, drop_shards=(0, 1, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"^drop_shards: must leave a shard that holds .*, got 0, 1, 2 \(all of it\)"):
        SummarizeParts(files, Plan(k=4, shards=6, replication=3, drop_shards=(0, 1, 2)))


def test_an_unbounded_source_is_refused():
    from beam_coresets.transforms.streams.rate import RateSource

    with pytest.raises(ValueError, match="source: must be bounded"):
        SummarizeParts(RateSource(rate=10.0, parts=2, dim=2), Plan(k=2))


def test_the_letters_are_those_of_the_ordinary_job(tmp_path, small_parts):
    values = np.where(np.arange(N) % 300 == 3, np.nan, np.arange(N))
    source = write_parquet(tmp_path / "in", {"x0": values, "x1": values, "x2": values})
    for name, options in (("plain", BASE), ("readers", READERS)):
        assert summarize_files(source, tmp_path / name, *options, "--max_bad_rows", "100") == 0
    plain, readers = (rows_in(tmp_path / name, "dead_letters") for name in ("plain", "readers"))
    assert [summary_row(tmp_path / name)["refused"] for name in ("plain", "readers")] == [len(plain)] * 2 == [10] * 2
    order = functools.partial(sorted, key=str)
    assert order(plain) == order(readers)


def test_refused_rows_are_counted_for_the_column_at_fault(tmp_path, small_parts):
    """By a letter's `column_name`, which is the first column at fault: x1 where both are missing."""
    x1 = np.where(np.arange(N) % 300 == 3, np.nan, np.arange(N))
    x2 = np.where((np.arange(N) % 600 == 3) | (np.arange(N) % 500 == 7), np.nan, np.arange(N))
    source = write_parquet(tmp_path / "in", {"x0": np.arange(N), "x1": x1, "x2": x2})
    for name, options in (("plain", BASE), ("readers", READERS)):
        assert summarize_files(source, tmp_path / name, *options, "--max_bad_rows", "100") == 0
        letters = collections.Counter(row["column_name"] for row in rows_in(tmp_path / name, "dead_letters"))
        assert letters == {"x1": 10, "x2": 6}
        found = {row["column_name"]: row["refused_count"] for row in rows_in(tmp_path / name, "columns")}
        assert found == {"x0": 0, "x1": 10, "x2": 6}
