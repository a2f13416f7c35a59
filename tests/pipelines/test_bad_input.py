"""What can't work is said in one clear line: before anything runs (exit code 2), or when a row shows it (1)."""
import gzip
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from jobs import clusters, columns_of, rows_in, summarize_files, summary_row, write_parquet

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running.launch import JobError, exit_code, first_cause

K = ("--k", "2")


@pytest.fixture
def source(tmp_path):
    return write_parquet(tmp_path / "in", columns_of(clusters(300)))


@pytest.fixture
def refused(tmp_path, capsys):
    """A function that runs summarize, checks for one line on stderr, and returns (exit code, the line)."""

    def run(source, *options):
        code = summarize_files(source, tmp_path / "out", *options)
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert "while running" not in err
        return code, err.removeprefix("error: ").strip()

    return run


BEFORE = {  # options on a file of columns x0, x1, x2, and what is said about them
    "k missing": ("", r"k: must be given \(--k\), got nothing"),
    "k < 1": ("--k 0", "k: must be at least 1, got 0"),
    "z < 1": ("--k 2 --z 0.5", "z: must be at least 1, got 0.5"),
    "z infinite": ("--k 2 --z inf", "z: must be finite and at least 1, got inf"),
    "scaled and cosine": ("--k 2 --metric cosine --scale standard", "scale: must be none with --metric cosine"),
    "k above the coreset size": ("--k 20 --coreset-size 19", "coreset_size: must be at least .*20.*got 19"),
    "l > s": ("--k 2 --shards 3 --replication 4", "replication: must be .*3.*, got 4"),
    "l < 1": ("--k 2 --replication 0", "replication: must be .*got 0"),
    "no shards": ("--k 2 --shards 0", "shards: must be .*got 0"),
    "tolerate against l": ("--k 2 --tolerate 2 --replication 2", "replication: must exceed tolerate = 2, got 2"),
    "tolerating all": ("--k 2 --shards 3 --tolerate 3", "replication: must be .*got 4"),
    "tolerating less than none": ("--k 2 --tolerate -1", "tolerate: must be at least 0, got -1"),
    "dropping a stranger": ("--k 2 --shards 4 --drop-shards 1,7", "drop_shards: must be from 0 to 3, got 7"),
    "dropping all": ("--k 2 --shards 2 --drop-shards 0,1", "drop_shards: must leave at least one of 2 shards"),
    "too many asked to answer": ("--k 2 --min-shards 9", "min_shards: must be from 1 to 8 shards, got 9"),
    "domains of other shards": ("--k 2 --domains 0,1", "domains: must .*8.*"),
    "bad rows": ("--k 2 --max-bad-rows -1", "max_bad_rows: must be at least 0, got -1"),
    "no buckets": ("--k 2 --buckets 0", "buckets: must be .*got 0"),
    "a missing column": ("--k 2 --columns x0,no", r"columns: must be among .* '.*' \(x0, x1, x2\), got 'no'"),
    "a missing weight": ("--k 2 --weight-column w", "weight_column: must be among the columns of .* got 'w'"),
    "a missing kept column": ("--k 2 --keep-columns w", "keep_columns: must be among the columns of .* got 'w'"),
    "no metric": ("--k 2 --vector-column x0", r"metric: must be given with --vector-column \(euclidean or cosine\)"),
    "no vector": ("--k 2 --vector-column x0 --metric cosine", "vector_column: must hold lists of numbers, got 'x0'"),
    "both kinds of column": (
        "--k 2 --vector-column x0 --columns x1 --metric cosine", "columns: must be left out with vector_column 'x0'"
    ),
    "a kept column called as the output's": (
        "--k 2 --keep-columns weight", "keep_columns: must not be called as the output's own columns are, got 'weight'"
    ),
    "an unknown input format": ("--k 2 --input-format xml", "format: must be one of .*got 'xml'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEFORE)
def test_options_that_cannot_work(source, refused, case, tmp_path):
    options, message = BEFORE[case]
    code, line = refused(source, *options.split())
    assert code == 2
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_missing_input_and_output(source, capsys):
    assert main(["summarize", *K, "--output", "o"]) == 2
    assert capsys.readouterr().err == "error: input: must be given (--input), got nothing\n"
    assert main(["summarize", *K, "--input", source]) == 2
    assert capsys.readouterr().err == "error: output: must be given (--output), got nothing\n"


def test_an_output_that_looks_like_a_glob(source, tmp_path, capsys):
    assert summarize_files(source, f"{tmp_path}/out[1]", *K) == 2
    assert capsys.readouterr().err == f"error: output: must not have *, ? or [ in its name, got '{tmp_path}/out[1]'\n"


def test_an_empty_glob(refused, tmp_path):
    code, line = refused(f"{tmp_path}/nothing-*.parquet", *K)
    assert code == 2
    assert line == f"input: must match at least one file, got '{tmp_path}/nothing-*.parquet' (0 files)"


def test_the_first_file_is_broken(refused, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    code, line = refused(f"{tmp_path}/a.parquet", *K)
    assert code == 2
    assert f"{tmp_path}/a.parquet" in line


@pytest.mark.parametrize("kind", ["parquet", "csv.gz"])
def test_a_later_file_is_truncated(refused, tmp_path, kind):
    if kind == "parquet":
        source = write_parquet(tmp_path / "in", columns_of(clusters(3000)))
        last = tmp_path / "in" / "part-2.parquet"
    else:
        source, text = f"{tmp_path}/in/*.gz", "x,y\n" + "".join(f"{i},{i * i}\n" for i in range(5000))
        (tmp_path / "in").mkdir()
        for i in range(2):
            last = tmp_path / "in" / f"part-{i}.csv.gz"
            last.write_bytes(gzip.compress(text.encode()))
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    code, line = refused(source, *K)
    assert code == 1
    assert str(last) in line
    assert not (tmp_path / "out" / "summaries").exists()


def test_a_text_column_is_refused_with_the_remedy(refused, tmp_path):
    source = write_parquet(tmp_path / "in", {"x": np.arange(9.0), "name": ["a"] * 9})
    code, line = refused(source, *K, "--columns", "x,name")
    assert code == 2
    assert line.startswith("columns: must hold numbers, got 'name' (string)")
    assert line.endswith("name it in --keep-columns, or leave 'name' out with --columns")


def test_a_column_that_is_there_twice(refused, tmp_path):
    table = pa.table([pa.array(np.arange(9.0))] * 2, names=["x", "x"])
    code, line = refused(write_parquet(tmp_path / "in", table), *K)
    assert code == 2
    assert "got 'x' 2 times" in line


def test_what_cannot_work_overwrites_nothing(source, refused, tmp_path):
    assert summarize_files(source, tmp_path / "out", *K) == 0
    assert refused(source, "--k", "0", "--overwrite")[0] == 2
    assert refused(source, *K, "--columns", "no", "--overwrite")[0] == 2
    assert summary_row(tmp_path / "out")["k"] == 2


def test_weights_that_are_all_zero(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", {"x": np.arange(90.0), "w": np.zeros(90)})
    assert summarize_files(source, tmp_path / "out", *K, "--weight_column", "w") == 0
    row = summary_row(tmp_path / "out")
    assert (row["points"], row["total_weight"], row["centers"]) == (90, 0, 0)
    assert "fewer distinct" not in capsys.readouterr().out


def bad_rows():
    x = np.arange(200.0)
    x[[3, 50]] = np.nan
    x[60] = np.inf
    y = pa.array([None if i in (7, 8, 9) else float(i % 5) for i in range(200)])
    return {"x": x, "y": y, "w": np.where(np.arange(200) == 100, -1.0, 1.0)}


ALL_REASONS = r"got 7 \(infinite in 'x': 1, nan in 'x': 2, negative in 'w': 1, null in 'y': 3\)"


def test_bad_rows_are_counted_by_column_and_the_first_are_named(refused, tmp_path):
    source = write_parquet(tmp_path / "in", bad_rows(), files=1)
    code, line = refused(source, *K, "--weight_column", "w")
    assert code == 1
    assert re.search("max_bad_rows: at most 0 rows may be refused, " + ALL_REASONS, line), line
    assert line.count("part-0.parquet, row") == 5
    assert "row 3: nan in 'x'" in line
    assert refused(source, *K, "--weight_column", "w", "--max_bad_rows", "6")[0] == 1
    assert not (tmp_path / "out" / "summaries").exists()


def test_enough_bad_rows_allowed_and_they_are_written(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", bad_rows(), files=1)
    options = (*K, "--weight_column", "w", "--max_bad_rows", "7")
    assert summarize_files(source, tmp_path / "out", *options) == 0
    assert capsys.readouterr().err == ""
    assert summary_row(tmp_path / "out")["points"] == 193
    letters = rows_in(tmp_path / "out", "dead_letters")
    found = sorted((letter["reason"], letter["column_name"], letter["position"]) for letter in letters)
    assert found == [
        ("infinite", "x", "row 60"), ("nan", "x", "row 3"), ("nan", "x", "row 50"), ("negative", "w", "row 100"),
        ("null", "y", "row 7"), ("null", "y", "row 8"), ("null", "y", "row 9"),
    ]  # fmt: skip
    assert {letter["source"] for letter in letters} == {f"{tmp_path}/in/part-0.parquet"}


def test_a_clean_run_writes_no_dead_letters(source, tmp_path):
    assert summarize_files(source, tmp_path / "out", *K) == 0
    assert not (tmp_path / "out" / "dead_letters").exists()


def test_mixed_widths_and_unparsable_cells(refused, tmp_path):
    lines = ["x,y", *(f"{i},{i % 3}" for i in range(50)), "1,2,3", "4,oops", "7"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    code, line = refused(f"{tmp_path}/a.csv", *K)
    assert code == 1
    for text in ("got 3 (", "columns: must be 2, got 1: 1", "columns: must be 2, got 3: 1", "unparsable in 'y': 1"):
        assert text in line
    assert "row 50: columns: must be 2, got 3" in line


def test_vectors_of_other_widths_and_zero_vectors(refused, tmp_path):
    vectors = [[1.0, float(i), 2.0] for i in range(40)] + [[1.0, 2.0], [0.0, 0.0, 0.0]]
    source = write_parquet(tmp_path / "in", {"v": pa.array(vectors)}, files=1)
    code, line = refused(source, *K, "--vector_column", "v", "--metric", "cosine")
    assert code == 1
    assert "got 2 (" in line
    assert "width: must be 3, got 2 in 'v': 1" in line
    assert "zero vector in 'v': 1" in line
    options = ("--vector_column", "v", "--metric", "euclidean", "--max_bad_rows", "1")
    assert summarize_files(source, tmp_path / "plain", *K, *options) == 0
    assert summary_row(tmp_path / "plain")["points"] == 41  # the zero vector is a point like any other


def test_another_runs_result_is_not_overwritten_unasked(source, refused, tmp_path):
    assert summarize_files(source, tmp_path / "out", *K, "--seed", "1") == 0
    before = (tmp_path / "out" / "coreset" / "global-r1.parquet").read_bytes()
    code, line = refused(source, *K)
    assert code == 2
    assert line.startswith(f"output: must not hold another run's result, got '{tmp_path}/out' with ")
    assert line.endswith("(--overwrite replaces it)")
    assert (tmp_path / "out" / "coreset" / "global-r1.parquet").read_bytes() == before
    assert summarize_files(source, tmp_path / "out", *K, "--overwrite", "--format", "jsonl") == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*/*")) == ["global-r1.jsonl"] * 4
    assert summary_row(tmp_path / "out")["seed"] == 0


def test_other_files_in_the_folder_are_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert summarize_files(source, tmp_path / "out", *K) == 0
    assert summarize_files(source, tmp_path / "out", *K, "--overwrite") == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_after_a_failed_run_the_same_folder_may_be_used(tmp_path):
    source = write_parquet(tmp_path / "in", bad_rows(), files=1)
    assert summarize_files(source, tmp_path / "out", *K, "--scale", "standard", "--weight_column", "w") == 1
    options = (*K, "--max_bad_rows", "7", "--weight_column", "w")
    assert summarize_files(source, tmp_path / "out", *options) == 0
    assert len(rows_in(tmp_path / "out", "dead_letters")) == 7
    assert not (tmp_path / "out" / "scale.json").exists()


def test_all_rows_bad_is_an_answer_about_nothing(tmp_path):
    source = write_parquet(tmp_path / "in", {"x": np.full(20, np.nan)}, files=1)
    assert summarize_files(source, tmp_path / "out", *K, "--max_bad_rows", "20") == 0
    row = summary_row(tmp_path / "out")
    assert (row["points"], row["total_weight"], row["centers"]) == (0, 0, 0)
    assert rows_in(tmp_path / "out", "centers") == []


def test_the_cause_is_found_on_a_runner_with_workers_of_its_own(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", bad_rows(), files=1)
    portable = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
    assert summarize_files(source, tmp_path / "out", *K, "--weight_column", "w", *portable) == 1
    line = capsys.readouterr().err.splitlines()[-1]  # above it, the worker has printed its traceback itself
    assert line.startswith("error: max_bad_rows: at most 0 rows may be refused, got 7 (infinite in 'x': 1")


@pytest.mark.parametrize(("error", "expected"), [
    (ValueError("k: must be at least 1, got 0 [while running 'Read/Parts']"), "k: must be at least 1, got 0"),
    (KeyError("x"), "KeyError: 'x'"),
    (ValueError(), "ValueError: "),
    (RuntimeError("boom\nTraceback (most recent call last):\n  File x\nOSError: disk full [while running 'W']\n"),
     "OSError: disk full"),
    (RuntimeError("Pipeline failed: Traceback (most recent call last):\n  File 'x'\nValueError: a: must be b, got c\n\n"
                  "During handling of the above exception, another exception occurred:\n\nTraceback:\n"
                  "beam_coresets.x.SchemaError: a: must be b, got c [while running 'S/T-ptransform-3']\n\n"),
     "a: must be b, got c"),
    (JobError("first line\nsecond line"), "JobError: first line"),
])  # fmt: skip
def test_the_first_cause_is_one_line_without_a_stack(error, expected):
    assert first_cause(error) == expected


def test_nothing_but_the_error_is_on_a_users_terminal(tmp_path):
    source = write_parquet(tmp_path / "in", bad_rows(), files=1)
    command = [sys.executable, "-m", "beam_coresets", "summarize", "--input", source, "--output", f"{tmp_path}/o"]
    done = subprocess.run([*command, *K, "--columns", "x,y"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("error: max_bad_rows: at most 0 rows may be refused, got 6")
    assert done.stderr.count("\n") == 1
    assert done.stdout.strip() == ""


def test_a_job_that_fails_while_overwriting_leaves_the_old_result(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path / "out", *K) == 0
    before = {p: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()}
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n3,x\n4,5\n")
    assert summarize_files(str(bad), tmp_path / "out", "--columns", "a,b", *K, "--overwrite") == 1
    assert {p: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()} == before


def test_memory_that_can_not_be_had_is_said_in_a_line(capsys):
    def word():
        raise MemoryError("Unable to allocate 7 TiB")

    assert exit_code(word) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: memory: must be enough for what the options ask for, got none left (Unable to")
