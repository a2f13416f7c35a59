"""From the command line to the objects that the transforms take."""
import dataclasses
import json
import re

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions

from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.command_line import parse_alone
from beam_coresets.pipelines.console.options import CoresetOptions, SummarizeOptions
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running import local
from beam_coresets.transforms.reading.columns import Columns


def parsed(text=""):
    return options.parse(text.split(), "summarize", SummarizeOptions)


def test_defaults_are_the_plans():
    known, _ = parsed("--k 7")
    plan = options.plan_of(known)
    assert plan == Plan(k=7, max_bad_rows=0)
    assert options.columns_of(known) == Columns()


def test_every_option_arrives():
    known, _ = parsed(
        "--k 3 --z 1 --shards 6 --replication 3 --scheme fractional --domains 0,0,1,1,2,2 --buckets 96"
        " --coreset_size 77 --method lightweight --recovery lp --min_shards 2 --drop_shards 1,4 --max_bad_rows 5"
        " --seed 9 --metric cosine"
    )
    assert options.plan_of(known) == Plan(
        k=3, z=1.0, shards=6, replication=3, scheme="fractional", domains=(0, 0, 1, 1, 2, 2), buckets=96,
        coreset_size=77, method="lightweight", recovery="lp", min_shards=2, drop_shards=(1, 4), max_bad_rows=5, seed=9,
        metric="cosine",
    )  # fmt: skip
    known, _ = parsed(
        "--vector_column v --metric cosine --weight_column w --id_column i --group_column g --keep_columns a,b"
        " --no_header --dim 4"
    )
    assert options.columns_of(known) == Columns(
        None, "v", "cosine", "w", "i", "g", ("a", "b"), header=False, dim=4
    )


@pytest.mark.parametrize(("text", "replication"), [
    ("", 2), ("--shards 1", 1), ("--tolerate 0", 1), ("--tolerate 2", 3), ("--tolerate 1 --replication 3", 3),
])  # fmt: skip
def test_replication_by_what_must_be_tolerated(text, replication):
    assert options.plan_of(parsed(f"--k 2 {text}")[0]).replication == replication


def test_what_is_not_ours_goes_to_beam():
    known, beam_options = parsed("--k 2 --direct_num_workers=3 --streaming --input a b --seed 4")
    assert known.input == ("a", "b")
    assert beam_options.view_as(DirectOptions).direct_num_workers == 3
    assert beam_options.view_as(StandardOptions).streaming
    assert not beam_options.view_as(SetupOptions).save_main_session


@pytest.mark.parametrize(("text", "runner"), [
    ("", local.IN_PROCESS), ("--runner=DirectRunner", local.IN_PROCESS), ("--runner direct", local.IN_PROCESS),
    ("--runner=FlinkRunner", "FlinkRunner"), ("--runner=BundleBasedDirectRunner", "BundleBasedDirectRunner"),
])  # fmt: skip
def test_the_local_runner_is_the_one_in_this_process(text, runner):
    assert parsed(text)[1].view_as(StandardOptions).runner == runner


@pytest.mark.parametrize(("text", "meant"), [
    ("--replicaton 3", "--replication"), ("--shard=3", "--shards"), ("--dropshards 1", "--drop-shards"),
])  # fmt: skip
def test_misspelt_options_are_not_handed_on_to_be_ignored(text, meant, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(text)
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f"did you mean {meant}?\n")


def test_options_of_beam_and_of_its_job_servers_pass():
    text = "--runner=FlinkRunner --parallelism=2 --checkpointing_interval=5000 --experiments=a --no_such_thing"
    assert parsed(text)[0].shards == 8
    assert parsed("--experiments=a --direct_num_workers=1")[0].shards == 8


@pytest.mark.parametrize("text", ["--no_such_thing", "--weights w", "--runner=DirectRunner --parallellism=2"])
def test_a_local_job_has_no_options_that_nobody_knows(text, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(text)
    assert stop.value.code == 2
    assert "must be an option, got none of that name" in capsys.readouterr().err


@pytest.mark.parametrize("text", [
    "--k two", "--scheme best", "--drop_shards a", "--format xml", "--z", "--z nan", "--overwrite=1",
    "--k 99999999999999999999", "--direct_num_workers many", "--direct_running_mode none",
])
def test_values_that_cannot_be_read_stop_with_two(text, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(text)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"error: {text[2:].replace('=', ' ').split()[0]}: must .*, got .*", line)


def test_they_are_pipeline_options_as_well():
    known = PipelineOptions(["--k=5", "--shards=3"]).view_as(CoresetOptions)
    assert (known.k, known.shards, known.replication) == (5, 3, None)
    assert (known.k, known.shards, known.seed, known.format) == (5, 3, 0, "parquet")


def test_as_beams_own_they_are_what_json_holds():
    known = PipelineOptions(["--drop_shards=1,2", "--keep_columns=a,b", "--input", "x", "y"]).view_as(CoresetOptions)
    values = {field.name: getattr(known, field.name) for field in dataclasses.fields(SummarizeOptions)}
    assert (values["drop_shards"], values["keep_columns"], values["input"]) == ([1, 2], ["a", "b"], ["x", "y"])
    assert json.loads(json.dumps(values)) == values, "a portable runner refuses others, tuples too"


def written(folder, text):
    (folder / "job.yaml").write_text(text)
    return f"--config {folder / 'job.yaml'}"


def test_a_file_of_options_is_as_good_as_words(tmp_path):
    text = "k: 3\ncoreset-size: 77\ndrop_shards: [1]\nweak: true\nrunner: FlinkRunner\nseed: null\n"
    config = written(tmp_path, text)
    known, beam_options = parsed(f"{config} --shards 6")
    assert known == parsed("--k 3 --coreset_size 77 --drop-shards 1 --weak --shards 6")[0]
    assert beam_options.view_as(StandardOptions).runner == "FlinkRunner"
    assert parsed(written(tmp_path, ""))[0] == parsed()[0]


@pytest.mark.parametrize(("text", "more", "error"), [
    ("ks: 3", "", r"ks: must be one of the options in .*job\.yaml \(.*\bk\b.*\), got 3"),
    ("k: three", "", "k: must be a whole number, got 'three'"),
    ("scheme: best", "", "scheme: must be one of .*, got 'best'"),
    ("k: 3", "--k 4", r"k: must be given once, got it on the command line and in .*job\.yaml"),
    ("coreset-size: 3", "--coreset_size 4", "coreset_size: must be given once"),
    ("- k", "", r"config: must hold options by name, got a list in .*job\.yaml"),
    ("k: [", "", "config: must be a YAML file, got "),
])  # fmt: skip
def test_what_a_file_of_options_cannot_say(tmp_path, text, more, error):
    with pytest.raises(ValueError, match=error):
        parsed(f"{written(tmp_path, text)} {more}")


def test_a_missing_file_and_two_spellings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config: must be a YAML file, got '.*nowhere\.yaml'"):
        parsed(f"--config {tmp_path}/nowhere.yaml")
    with pytest.raises(ValueError, match="coreset_size: must be spelled one way, got --coreset-size and its other"):
        parsed("--coreset_size 3 --coreset-size 4")


def test_a_command_says_what_its_file_of_options_cannot_be(tmp_path, capsys):
    assert main(["summarize", *written(tmp_path, "ks: 3").split()]) == 2
    assert capsys.readouterr().err.startswith("error: ks: must be one of the options in ")
    assert main(["plan", *written(tmp_path, "shards: 0").split()]) == 2
    assert "shards: must be from 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["--columns x y --k 3", "foo", "--k 3 --audit yes", "--runner=DirectRunner foo"])
def test_words_that_no_option_takes_are_refused(text, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(text)
    assert stop.value.code == 2
    assert "must belong to an option, got none that takes it" in capsys.readouterr().err
    assert parsed("--runner DirectRunner --experiments a --k 3")[0].k == 3


def test_a_file_of_options_means_what_people_write(tmp_path):
    """Plain YAML 1.1 reads 2:4 as 124 and 1e0 as a text, and takes the last of two keys."""
    from beam_coresets.pipelines.solve import SolveOptions

    def solved(text):
        return parse_alone(written(tmp_path, text).split(), "solve", SolveOptions)

    known = solved("k: 2:4\nz: 1e0\nfrom: 2026-11-21\nmin-size: [50, 60]\ngamma: 7\n")
    assert (known.k, known.z, known.start, known.min_size, known.gamma) == (
        (2, 3, 4), 1.0, 1795219200.0, (50.0, 60.0), (7.0,),
    )  # fmt: skip
    assert parsed(written(tmp_path, "input: a.csv\ndirect-num-workers: 2"))[0].input == ("a.csv",)
    with pytest.raises(ValueError, match="k: must be given once, got it twice"):
        solved("k: 3\nk: 4")
    with pytest.raises(ValueError, match="input: must have at least one value, got none"):
        parsed(written(tmp_path, "input: []"))
    with pytest.raises(ValueError, match="direct_num_workers: must be given once"):
        parsed(f"{written(tmp_path, 'direct_num_workers: 1')} --direct_num_workers 2")
    assert parsed(f"{written(tmp_path, 'k: null')} --k 4")[0].k == 4


@pytest.mark.parametrize("text", ["--k 3 --k 4", "--k=3 --k 3", "--coreset_size 9 --coreset_size 8"])
def test_an_option_with_one_value_is_given_once(text):
    with pytest.raises(ValueError, match=r"must be given once, got it twice$"):
        parsed(text)


def test_options_with_several_values_and_flags_may_come_again():
    known, _ = parsed("--input a --input b c --overwrite --overwrite")
    assert known.input == ("a", "b", "c")
