"""A stream goes on in another's folder only with its windows, keys and format; a detached job ends by itself."""
import contextlib
import pathlib
import re
import shutil

import pytest
from jobs import LOCAL, clusters, columns_of, parts_of, without_beam, write_parquet

from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines import summarize
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.options import SummarizeOptions
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.results_folder.ownership import owning
from beam_coresets.pipelines.results_folder.stream_folder import require_same_stream
from beam_coresets.pipelines.running import runners
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stored_tables import read_table

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
DAY = 1795219200.0
SUMMARY = without_beam(parts_of(clusters(300)), Plan(k=3, shards=3, replication=2, coreset_size=20))
OTHERS = [
    ("jsonl", "60s", "c", "format: must be parquet as in the windows that '{out}' holds, got jsonl"),
    ("parquet", "30s", "c", "window: must be 60s as in the windows that '{out}' holds, got 30s"),
    ("parquet", "30s/10s", "c", "window: must be 60s as in the windows that '{out}' holds, got 30s/10s"),
    ("parquet", "60s", None, "key_column: must be {key} as in the windows that '{out}' holds, got none"),
]


def check(out, form, window, key, said):
    said = said.format(out=out, key="c") if said else said
    if said is None:
        return require_same_stream(Claims(str(out), form), window, key)
    with pytest.raises(ValueError, match=re.escape(said)):
        require_same_stream(Claims(str(out), form), window, key)


@pytest.mark.parametrize(("form", "window", "key", "said"), [
    *OTHERS, ("parquet", "60s", "d", "key_column: must be c as in the windows that '{out}' holds, got d"),
    ("parquet", "1m", "c", None),
])  # fmt: skip
def test_what_a_stream_has_noted_is_held_against_the_next(tmp_path, form, window, key, said):
    for noted in ("global/5s", "60s"):  # as long as nothing is decided, another one may come
        require_same_stream(Claims(str(tmp_path)), noted, "c")
    Claims(str(tmp_path)).publish(type(SUMMARY)(Window(DAY, DAY + 60, "a"), SUMMARY.answers))
    check(tmp_path, form, window, key, said)
    check(tmp_path, "parquet", "60s", "c", None)


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_a_stream_goes_on_in_folders_of_its_own_schema_only(tmp_path, version):
    """Older tables had times as seconds: who reads all files of such a folder together would fail."""
    out = shutil.copytree(GOLDEN / version / "stream", tmp_path / "out")
    Claims(str(out)).finish_all()
    check(out, "avro", "60s", "c", f"output: must hold tables of schema 2, got {str(out)!r} with windows of schema 1")


def test_a_batch_jobs_folder_is_not_a_streams(tmp_path):
    old = shutil.copytree(GOLDEN / "0.1" / "batch-avro", tmp_path / "old")
    with owning(str(tmp_path / "new"), False, "assign") as place:
        shutil.copytree(GOLDEN / "0.1" / "assigned" / "assigned", f"{place.folder}/assigned")
    for out in (old, tmp_path / "new"):
        check(out, "avro", "60s", None, f"output: must not hold a batch job's result, got {str(out)!r}")


def test_the_command_says_so_before_it_launches_anything(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runners, "require_runner", lambda *_: None)
    out = shutil.copytree(GOLDEN / "0.1" / "stream", tmp_path / "out")
    Claims(str(out)).finish_all()  # as any command does
    before = sorted(path for path in out.rglob("*") if path.is_file())
    job = ["stream", "--output", str(out), "--rate=1000", "--k=3", "--shards=2", "--replication=1", "--window=60s"]
    flink = ["--runner=FlinkRunner", "--flink_master=localhost:1", f"--flink_job_server_jar={__file__}"]
    with contextlib.suppress(KeyboardInterrupt), owning(str(out), True, "summarize"):
        assert main([*job, *flink]) == 1
        raise KeyboardInterrupt
    assert "error: output: must be no other run's" in capsys.readouterr().err
    assert main([*job, *flink, "--format=parquet", "--keys=2"]) == 2
    assert capsys.readouterr().err.startswith("error: output: must hold tables of schema 2, got ")
    assert sorted(path for path in out.rglob("*") if path.is_file()) == before


def test_a_detached_job_puts_its_result_into_place_itself(tmp_path):
    source = write_parquet(tmp_path / "in", columns_of(clusters(300)))
    words = ["--input", source, "--output", str(tmp_path / "out"), "--k=3", "--shards=3", "--scale=standard", *LOCAL]
    known, beam_options = options.parse(words, "summarize", SummarizeOptions)
    read = ReadBlocks(known.input, options.columns_of(known), known.input_format)
    with owning(known.output, False, "summarize", detached=True) as run:
        here = options.dataclasses.replace(known, output=run.folder)
        job = summarize.build(here, beam_options, options.plan_of(known), read, run)
    assert not (tmp_path / "out" / "summaries").exists()
    job.run().wait_until_finish()
    assert read_table(known.output, "summaries").to_pylist()[0]["points"] == 300
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".claims", "centers", "columns", "coreset", "scale.json", "summaries"
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "out" / ".claims").iterdir()) == ["global-r1.json", "run-000001.end"]
