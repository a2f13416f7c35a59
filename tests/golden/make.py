"""Writes what this version stores, for later versions to be held against: once a minor version, and never again.

    python tests/golden/make.py tests/golden/0.1

`data.csv` is what the batch results are of; tests/test_golden.py says what is in each folder.
"""
import pathlib
import shutil
import sys

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.utils.timestamp import Timestamp

from beam_coresets.coordinator.decision import decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running.local import IN_PROCESS
from beam_coresets.points.block import blocks_of
from beam_coresets.results.summary import Summary, summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.streaming.windows import Window
from beam_coresets.table_schemas import LATE_ROWS
from beam_coresets.transforms.coordinator.coordinate_stream import LateReport
from beam_coresets.transforms.writing.sinks import WriteSummaries
from beam_coresets.transforms.writing.write_by_time import WriteByTime

DAY = 1795219200.0  # 2026-11-21
PLACES = np.array([[0.0, 0.0], [20.0, 5.0], [5.0, 30.0]])
COLUMNS = ("--columns", "x,y", "--weight_column", "w")
SIZES = ("--k", "3", "--shards", "3", "--replication", "2", "--coreset_size", "12", "--buckets", "24")


def points(rows, seed):
    """(rows, 2) float64 with one decimal, around three places."""
    rng = np.random.default_rng(seed)
    return np.round(PLACES[rng.integers(0, 3, rows)] + rng.standard_normal((rows, 2)), 1)


def write_data(path, rows=240):
    """Rows of weight 1 to 3 and two groups; the 100th can't be read."""
    lines = [f"{x},{y},{1 + i % 3},{'ab'[i % 4 == 0]},n{i}" for i, (x, y) in enumerate(points(rows, 0).tolist())]
    lines[100] = "nan,0,1,a,n100"
    path.write_text("\n".join(["x,y,w,g,note", *lines, ""]))


def run(word, *options):
    """One command that has to work."""
    if main([word, *map(str, options)]):
        raise SystemExit(f"{word} failed")


def answer(window, rows, seed):
    """The answer of a window with so many rows, shard 2 of 3 having been late."""
    plan = Plan(k=2, shards=3, replication=2, coreset_size=8, buckets=24)
    reports = shard_reports(blocks_of(points(rows, seed)), plan.merge_reduce)
    decision = decide([report for report in reports if report.shard != 2], plan.policy)
    return summarize(decision, plan.question, window, reason="deadline", decided_at=window.end + 5)


def write_stream(folder):
    """Three windows, the first revised; the last one's summaries are claimed but not moved yet, as after a stop."""
    windows = [Window(DAY, DAY + 60, "red"), Window(DAY, DAY + 60, "red", 2), Window(DAY + 60, DAY + 120, "red"),
               Window(DAY + 86400, DAY + 86460, "red")]  # fmt: skip
    answers = [answer(window, 50 + 10 * i, i) for i, window in enumerate(windows)]
    with beam.Pipeline(IN_PROCESS) as pipeline:
        create = beam.Create(answers, reshuffle=False).with_output_types(Summary)
        _ = pipeline | create | WriteSummaries(str(folder), "avro")
    placed = next((folder / "summaries" / "day=2026-11-22").iterdir())
    claim = folder / ".claims" / f"{windows[-1].name}.json"
    staging = claim.read_text().split('"staging": "')[1].split('"')[0]
    staged = folder / ".staging" / windows[-1].name / staging
    staged.mkdir(parents=True)
    placed.rename(staged / "summaries.avro")
    placed.parent.rmdir()


def write_late(folder):
    """A late report, as the stream's command writes it."""
    late = LateReport(*map(Timestamp.of, (DAY, DAY + 60)), "000", 2, 0, 0, 50, 50, "the window was decided without it",
                      Timestamp.of(DAY + 70))  # fmt: skip
    events = TestStream(coder=beam.coders.registry.get_coder(LateReport)).advance_watermark_to(0).add_elements([late])
    events = events.advance_processing_time(DAY + 200)
    options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | events | WriteByTime(str(folder), "late", LATE_ROWS, clock=lambda: DAY + 100)


def write_all(folder):
    """All golden folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = folder / "data.csv"
    write_data(data)
    for form in ("avro", "parquet", "jsonl"):
        run("summarize", "--input", data, "--output", folder / f"batch-{form}", "--format", form, *COLUMNS, *SIZES,
            "--keep_columns", "note", "--max_bad_rows", 1)  # fmt: skip
    run("summarize", "--input", data, "--output", folder / "weak", *COLUMNS, *SIZES, "--weak", "--group_column", "g",
        "--max_bad_rows", 1)  # fmt: skip
    run("summarize", "--input", data, "--output", folder / "scaled", "--format", "parquet", *COLUMNS, *SIZES,
        "--scale", "standard", "--max_bad_rows", 1)  # fmt: skip
    run("assign", "--input", data, "--centers", folder / "weak", "--output", folder / "assigned", *COLUMNS,
        "--max_bad_rows", 1)  # fmt: skip
    write_stream(folder / "stream")
    write_late(folder / "stream")


if __name__ == "__main__":
    write_all(pathlib.Path(sys.argv[1]))
