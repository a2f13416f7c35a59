"""--reference: windows of batches, streams and rollups against a stored one, with the figures of `compare`."""
import dataclasses
import json
import pickle

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jobs import CENTERS, clusters, rows_in, run, summary_row
from streaming_job import last_of_each
from test_compare import COLUMNS, DAY, FIGURES, write
from test_stream import refused

from beam_coresets import table_schemas
from beam_coresets.coordinator.decision import Verdict, decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines.main import main
from beam_coresets.points.block import blocks_of
from beam_coresets.points.scale import Scale
from beam_coresets.results.summary import summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.streaming.windows import Window, WindowSpec
from beam_coresets.summaries.collection import open_summaries
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference
from beam_coresets.transforms.coordinator.solve_in_order import SolveInOrder
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.summarize import Summarize
from beam_coresets.transforms.summarize_stream import SummarizeUnbounded
from beam_coresets.transforms.writing.claims import Claims, order_of
from beam_coresets.transforms.yaml_transforms import SummarizeInYaml

SHOWN = FIGURES[:-1]
PLAN = Plan(k=4, shards=4, replication=2, coreset_size=160)
SIZES = ("--k=4", "--shards=4", "--coreset-size=160")


def points_of(number, shift=0.0, rows=4000):
    points = clusters(rows, number)
    near = np.linalg.norm(points - CENTERS[0], axis=1) < 8
    points[near] += np.float32(shift)
    return points


def job(folder, points, *words, columns=COLUMNS):
    """A batch job on a file of these points; the columns go by their names."""
    folder.mkdir(exist_ok=True)
    table = pa.table({name: points[:, COLUMNS.index(name)] for name in columns})
    pq.write_table(table, folder / "points.parquet")
    own = (f"--input={folder}/points.parquet", f"--output={folder}/out", f"--columns={','.join(columns)}")
    return main(last_of_each(["summarize", *SIZES, *own, *map(str, words)]))


def compared(capsys, *words):
    """What `compare` says in JSON."""
    capsys.readouterr()
    assert main(["compare", *map(str, words), "--json"]) in (0, 3)
    return json.loads(capsys.readouterr().out)


def same(row, found, rel=1e-9):
    return row["drifted"] == found["drifted"] and all(
        row[name] == pytest.approx(found[name], rel=rel, abs=1e-12) for name in SHOWN
    )


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A batch."""
    folder = tmp_path_factory.mktemp("training")
    assert job(folder, points_of("training")) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Three windows, the second of which is elsewhere."""
    folder = tmp_path_factory.mktemp("stream") / "out"
    for i in range(3):
        write(folder, i, 3.0 * (i == 1), DAY + 60 * i)
    return folder


@pytest.mark.parametrize(("shift", "drifted"), [(0.0, False), (3.0, True)])
def test_a_batch_says_what_has_changed_as_compare_does(training, tmp_path, capsys, shift, drifted):
    """Of quiet windows one in 1,000 may be told apart; this one, of a fixed seed, is not."""
    assert job(tmp_path, points_of("today", shift), f"--reference={training}") == 0
    row = summary_row(tmp_path / "out")
    assert row["drift_of"] == str(training)
    assert row["drifted"] is drifted
    assert same(row, compared(capsys, tmp_path / "out", training))
    shifts = [each["shift"] for each in rows_in(tmp_path / "out", "centers")]
    assert max(shifts) == row["shift"]


def test_shard_readers_and_columns_in_another_order_give_the_figures_of_compare(training, tmp_path, capsys):
    order = COLUMNS[::-1]
    assert job(tmp_path, points_of("today"), f"--reference={training}", "--shard-readers", columns=order) == 0
    row = summary_row(tmp_path / "out")
    assert tuple(row["columns"]) == order
    assert same(row, compared(capsys, tmp_path / "out", training))


@pytest.mark.parametrize(
    "asked", [{"r": 1}, {"outliers": 0.01}, {"constraint": Constraint.parse("balanced=0.5")}, {"z": 1.0}], ids=str
)
def test_other_kinds_of_centers_are_compared_alike(tmp_path, capsys, asked):
    plan = Plan(k=4, shards=4, coreset_size=60, columns=COLUMNS, **asked)
    for name in ("a", "b"):
        decision = decide(shard_reports(blocks_of(points_of(name, rows=600), rows=300), plan.merge_reduce), plan.policy)
        summary = summarize(decision, plan.question)
        if name == "b":
            reference = FixedReference.of(str(tmp_path / "a"), plan.question)
            summary = reference.compared(decision, summary, plan.question, None)
        Claims(str(tmp_path / name), wanted=order_of(False, "outliers" in asked)).publish(summary)
    row = summary_row(tmp_path / "b")
    assert row["drifted"] is False
    assert same(row, compared(capsys, tmp_path / "b", tmp_path / "a"))


def test_a_scaled_job_brings_the_reference_to_its_scale(training, tmp_path, capsys):
    assert job(tmp_path, points_of("today"), f"--reference={training}", "--scale=standard") == 0
    row = summary_row(tmp_path / "out")
    assert row["drifted"] is False
    assert same(row, compared(capsys, tmp_path / "out", training), rel=1e-6)


def test_the_window_of_a_reference_is_named_as_for_compare(stream, tmp_path, capsys):
    for words, said, drifted in (
        (("--with=2026-01-01T00:01:30",), "2026-01-01T00:01:00Z to 2026-01-01T00:02:00Z", True),
        (("--with-to=2026-01-01T00:01:00",), "2026-01-01T00:00:00Z to 2026-01-01T00:01:00Z", False),
    ):
        words = (f"--reference={stream}", *words)
        assert job(tmp_path, points_of("today", rows=1000), *words, "--overwrite") == 0
        row = summary_row(tmp_path / "out")
        assert row["drift_of"] == f"{stream}, {said}"
        assert row["drifted"] is drifted
        assert same(row, compared(capsys, tmp_path / "out", *words))


def verdict(number, shift=0.0, lost=0):
    reports = shard_reports(blocks_of(points_of(number, shift), rows=500), PLAN.merge_reduce)
    start = DAY + 60 * number
    decision = decide([report for report in reports if report.shard >= lost], PLAN.policy)
    return Verdict(start, start + 60, "", 1, "all", start + 61, {"": decision})


def solved(verdicts, reference, scale=None):
    """The summaries of a stream, in their order."""
    question = dataclasses.replace(PLAN.question, columns=COLUMNS)
    solve = SolveInOrder(question, scale, reference=FixedReference.of(str(reference), question))
    held, _ = run(lambda p: {"out": (p | beam.Create(verdicts) | solve).decided})
    return sorted(held["out"], key=lambda summary: summary.window.start)


def rows_of(summaries, table):
    return table_schemas.in_seconds(pa.concat_tables([getattr(one, table) for one in summaries])).to_pylist()


def test_windows_of_a_stream_are_compared_with_it_from_the_first_on(training, tmp_path, capsys):
    """Also where half of the shards are lost. The event is told once, and `compare` says the same."""
    found = solved([verdict(0), verdict(1, lost=2), verdict(2, 3.0), verdict(3, 3.0)], training)
    rows = rows_of(found, "summaries")
    assert {row["drift_of"] for row in rows} == {str(training)}
    assert [row["drifted"] for row in rows] == [False, False, True, True]
    assert rows[1]["coverage"] < 1
    events = rows_of(found, "events")
    assert [each["window_start"] for each in events if each["kind"] == "drifted"] == [DAY + 120]
    for summary in found:
        Claims(str(tmp_path)).publish(summary)
    for number, row in enumerate(rows):
        assert same(row, compared(capsys, tmp_path, training, f"--window={DAY + 60 * number}"))


def test_the_first_window_may_have_drifted(training):
    found = solved([verdict(0, 3.0)], training)
    assert rows_of(found, "summaries")[0]["drifted"] is True
    (event,) = rows_of(found, "events")
    assert event["kind"] == "drifted"
    assert str(training) in event["sentence"]


def test_a_scaled_stream_gives_the_same_figures(training):
    """All columns are divided by 4, which changes no digit, and the reference with them."""

    def divided(sample):
        return dataclasses.replace(sample, points=sample.points / np.float32(4))

    plain = verdict(0)
    decision = plain.decisions[""]
    evidence = dataclasses.replace(decision.evidence, sample=divided(decision.evidence.sample))
    decision = dataclasses.replace(decision, evidence=evidence, coreset=divided(decision.coreset))
    scaled = solved([dataclasses.replace(plain, decisions={"": decision})], training, Scale((0.0,) * 3, (4.0,) * 3))
    assert same(rows_of(scaled, "summaries")[0], rows_of(solved([plain], training), "summaries")[0])


def test_a_rollup_is_compared_key_by_key(tmp_path, capsys):
    question = dataclasses.replace(PLAN.question, columns=COLUMNS)
    for folder, keys in (("then", ("red", "blue")), ("now", ("red", "green"))):
        for key in keys:
            shift = 3.0 * (folder == "now" and key == "red")
            blocks = blocks_of(points_of((folder, key), shift), rows=500)
            decision = decide(shard_reports(blocks, PLAN.merge_reduce), PLAN.policy)
            window = Window(DAY, DAY + 60, key)
            Claims(str(tmp_path / folder)).publish(summarize(decision, question, window))
    words = ("rollup", f"--input={tmp_path}/now", f"--output={tmp_path}/out")
    assert main([*words, f"--reference={tmp_path}/then"]) == 0
    rows = {row["key"]: row for row in rows_in(tmp_path / "out", "summaries")}
    assert rows["green"]["drift_of"] is rows["green"]["drifted"] is None
    assert rows["red"]["drift_of"] == f"{tmp_path}/then, 2026-01-01T00:00:00Z to 2026-01-01T00:01:00Z, key red"
    assert rows["red"]["drifted"] is True
    assert same(rows["red"], compared(capsys, tmp_path / "out", tmp_path / "then", "--key", "red"))
    assert main([*words, "--overwrite", f"--reference={tmp_path}/then", "--keys=green"]) == 2
    assert "reference: must" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--across-keys", f"--reference={tmp_path}/then"]) == 2
    assert "reference: must have windows of one key" in capsys.readouterr().err


def test_a_reference_for_the_transforms_is_a_folder_or_a_window_of_one(stream, training):
    rows = points_of("today", rows=800).tolist()
    windows = open_summaries(str(stream))
    question = PLAN.question
    for reference, name in (
        (str(stream), "2026-01-01T00:02:00Z to 2026-01-01T00:03:00Z"),
        (windows.window("2026-01-01T00:01:00"), "2026-01-01T00:01:00Z to 2026-01-01T00:02:00Z"),
        (windows.between(None, DAY + 120).rollup(), "2026-01-01T00:00:00Z to 2026-01-01T00:02:00Z"),
    ):
        assert FixedReference.of(reference, question).name == f"{stream}, {name}"
    assert len(pickle.dumps(FixedReference.of(str(stream), question))) < 200_000
    step = Summarize(k=4, shards=4, columns=Columns(dim=3), rows=("summaries",), reference=windows.window(DAY + 60))
    held, _ = run(lambda p: {"out": (p | beam.Create(rows) | step).summaries})
    assert held["out"][0].drifted is True
    yaml = SummarizeInYaml(k=4, shards=4, dim=3, reference=str(training))
    held, _ = run(lambda p: {"out": (p | beam.Create(rows) | yaml)["summaries"]})
    assert held["out"][0].drift_of == str(training)


@pytest.mark.parametrize(("words", "said"), [
    (("--reference=nowhere",), "reference: must be an output folder or a glob of some, got 'nowhere' without any"),
    (("--reference=STREAM", "--with=2027-01-01"), "reference: must be one of 2027-01-01"),
    (("--reference=STREAM", "--with-from=2027-01-01"), "reference: must be some, got none from 2027-01-01"),
    (("--with=0",), "with: must be left out without reference, got 1970-01-01T00:00:00Z"),
    (("--with-to=0",), "with_to: must be left out without reference"),
    (("--reference=STREAM", "--with=0", "--with-to=0"), "with: must be left out with with_from and with_to"),
    (("--reference=TRAINING", "--z=1"), "reference: must have z 1.0 as what is compared with it, got 2.0"),
    (("--reference=TRAINING", "--r=1"), "reference: must have r 1 as what is compared with it, got 0"),
    (("--reference=TRAINING", "--columns=c0,c1"), "with it, got with c2"),
    (("--reference=[ST][TR]*", ), "reference: must be"),
])  # fmt: skip
def test_what_can_be_no_reference_is_refused_before_anything_runs(training, stream, tmp_path, capsys, words, said):
    words = [word.replace("STREAM", str(stream)).replace("TRAINING", str(training)) for word in words]
    code = job(tmp_path, points_of(1, rows=100), *[word for word in words if "--columns" not in word],
               columns=COLUMNS[:2] if "--columns=c0,c1" in words else COLUMNS)  # fmt: skip
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_that_hold_no_reference_are_refused(tmp_path, capsys):
    sketched = ("summarize", "--summary=pca", "--r=1", "--k=1", f"--columns={','.join(COLUMNS)}")
    assert job(tmp_path / "job", points_of(1, rows=100)) == 0
    sketched = (*sketched, f"--input={tmp_path}/job/points.parquet", "--output")
    assert main([*sketched, f"{tmp_path}/pca/out"]) == 0
    assert main([*sketched, f"{tmp_path}/no", f"--reference={tmp_path}/one"]) == 2
    assert "reference: must be left out with summary pca, got" in capsys.readouterr().err
    for name in ("one", "two"):
        write(tmp_path / name, 1, start=None)
    source, target = tmp_path / "one" / "summaries" / "global-r1.parquet", tmp_path / "later" / "summaries"
    target.mkdir(parents=True)
    table = pq.read_table(source)
    at = table.column_names.index("version")
    pq.write_table(table.set_column(at, "version", pa.array(["9.0.0"])), target / "global-r1.parquet")
    for run_name in ("run-a", "run-b"):
        for name in ("summaries", "coreset", "centers"):
            (tmp_path / "mixed" / name).mkdir(parents=True, exist_ok=True)
            pq.write_table(pq.read_table(tmp_path / "one" / name / "global-r1.parquet"),
                           tmp_path / "mixed" / name / f"{run_name}.parquet")  # fmt: skip
    damaged = tmp_path / "two" / "coreset" / "global-r1.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    for folder, said in (
        ("pca/out", "reference: must have a summary of kind coreset, got pca"),
        ("later", "reference: must be written by beam-coresets"),
        ("mixed", "reference: must hold one run's tables, got"),
        ("two", "reference: must be as it was written, got"),
        ("[op]*", "reference: must be one folder, got"),
    ):
        capsys.readouterr()
        words = (f"--reference={tmp_path / folder}", "--overwrite")
        assert job(tmp_path / "job", points_of(1, rows=100), *words) == 2, folder
        assert said in capsys.readouterr().err


def test_keys_and_coordinates_without_names_are_refused(training):
    stream = StreamPlan(Plan(k=4, shards=4), WindowSpec.parse("5s"), quick=True)
    with pytest.raises(ValueError, match=f"^reference: must be left out with keys, got '{training}'$"):
        SummarizeUnbounded(stream, Columns(dim=3), key_column="g", reference=str(training))
    narrow = Summarize(k=4, shards=4, columns=Columns(dim=2), reference=str(training))
    with pytest.raises(Exception, match="reference: must be of 2 coordinates, got 3"):
        run(lambda p: {"out": (p | beam.Create(points_of(1)[:100, :2].tolist()) | narrow).summaries})


@pytest.mark.parametrize(("words", "said"), [
    (("--dim=3", "--keys=3"), "reference: must be left out with keys, got"),
    (("--dim=4",), "reference: must be of 4 coordinates, got 3"),
    (("--dim=3", "--with=2027-01-01"), "reference: must be one of 2027-01-01"),
    (("--dim=3", "--z=1"), "reference: must have z 1.0"),
])  # fmt: skip
def test_a_stream_that_can_not_be_compared_is_refused_before_it_begins(training, tmp_path, capsys, words, said):
    assert said in refused(capsys, tmp_path, "--rate=100", "--k=4", f"--reference={training}", *words)


def test_a_stream_of_unforeseen_coordinates_goes_on_and_warns_once(training, caplog):
    question = dataclasses.replace(PLAN.question, columns=None)
    wide = np.hstack([points_of(0), points_of(1)])
    decision = decide(shard_reports(blocks_of(wide, rows=500), PLAN.merge_reduce), PLAN.policy)
    verdicts = [Verdict(60.0 * i, 60.0 * i + 60, "", 1, "all", 0.0, {"": decision}) for i in range(2)]
    solve = SolveInOrder(question, reference=FixedReference.of(str(training), question))
    held, _ = run(lambda p: {"out": (p | beam.Create(verdicts) | solve).decided})
    assert [row["drift_of"] for row in rows_of(held["out"], "summaries")] == [None, None]
    assert caplog.text.count("reference: must be of 6 coordinates, got 3") == 1
