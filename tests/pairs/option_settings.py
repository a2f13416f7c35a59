"""Settings in which pairs of options are tried: a command, options that are given, and what its results must be."""

import contextlib
import math
import os
from typing import NamedTuple

import option_runs
import streams_in_process
from option_values import ROWS
from streaming_job import last_of_each

from beam_coresets.pipelines.assign import AssignOptions
from beam_coresets.pipelines.console.stream_options import StreamOptions
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.plan import PlanOptions
from beam_coresets.pipelines.rollup import RollupOptions
from beam_coresets.pipelines.solve import SolveOptions
from beam_coresets.pipelines.summarize import SummarizeOptions
from beam_coresets.pipelines.verify import VerifyOptions
from beam_coresets.transforms.writing.stored_tables import files_of, read_table
from beam_coresets.transforms.yaml_transforms import YamlBatchOptions


class Setting(NamedTuple):
    """A command with options that are given, unless a row has its own.

    Attributes:
      command: the word.
      kind: the dataclass of its options.
      given: option -> words; OUT stands for the folder of results.
      check: (folder of results, row) -> what is wrong with them, "" if nothing.
      values: values by option, in place of those of the table.
    """

    command: str
    kind: type
    given: dict
    check: object
    values: dict


def _given(*options):
    """Option -> words."""
    return {option[0][2:].partition("=")[0].replace("-", "_"): option for option in options}


OUTPUT = ("--output=OUT",)


def settings(data):
    """Name -> Setting, over the files that `write_data` and `write_results` have written to a folder."""
    found = {}
    found |= {f"summarize/{name}": each for name, each in _of_files(data).items()}
    found |= {f"stream/{name}": each for name, each in _of_streams(data).items()}
    found |= {f"{each.command}/{name}": each for name, each in _of_results(data)}
    plan = Setting(
        "plan",
        PlanOptions,
        {},
        _nothing,
        {
            "deadline": ["8", "0", "-1", "nan", "1e300"],
            "domains": ["2", "0,0,1,1", "0", "a", ""],
            "shards": ["10", "4", "1", "0", "1000000000000"],
            "straggle_probability": ["0.1", "0", "1", "2", "nan"],
            "target": ["0.9", "0", "1", "nan", "30%", "0%", "100%"],
        },
    )
    rows = _given(("--k=3",), ("--columns=x,y",))
    found["yaml/plain"] = Setting("yaml", YamlBatchOptions, rows, _nothing, {})
    found["yaml/weak"] = found["yaml/plain"]._replace(given={**rows, **_given(("--weak",))})
    sized = _given((f"--input={data}/points.csv",), ("--k=3",), ("--columns=x,y",), ("--target=20%",))
    return {**found, "plan/plain": plan, "plan/sized": plan._replace(given=sized)}


def _nothing(folder, row):
    return ""


def _of_files(data):
    base = _given((f"--input={data}/points.csv",), OUTPUT, ("--k=3",), ("--columns=x,y",))

    def setting(*options, **values):
        return Setting("summarize", SummarizeOptions, {**base, **_given(*options)}, _batch, values)

    vectors = setting(("--vector-column=v",), ("--metric=cosine",), (f"--input={data}/points.parquet",))
    return {
        "plain": setting(),
        "readers": setting(("--shard-readers",), explain=()),
        "weak": setting(("--weak",), explain=()),
        "group": setting(("--group-column=g",), explain=()),
        "scale": setting(
            ("--scale=standard",),
            ("--format=parquet",),
            (f"--input={data}/bad.csv",),
            ("--max-bad-rows=5",),
            explain=(),
        ),
        "pca": setting(("--summary=pca",), ("--r=1",), ("--k=1",), explain=()),
        "local": setting(("--summary=local_centers",), ("--z=1",), explain=()),
        "flats": setting(("--r=1",), explain=()),
        "outliers": setting(("--outliers=3",), explain=()),
        "reference": setting((f"--reference={data}/plain",), explain=()),
        "vectors": vectors._replace(given={n: w for n, w in vectors.given.items() if n != "columns"}),
    }


def _batch(folder, row):
    return option_runs.sums(folder, ROWS, missing="explain" in row)


def _of_streams(data):
    base = _given(OUTPUT, ("--k=3",), ("--shards=2",), ("--parts=2",), ("--window=2s",), ("--duration=60s",))
    values = {
        "shards": ["1", "4", "0"],
        "parts": ["1", "5", "0"],
        "window": ["5s", "4s/2s", "global/2s", "0s", "2s/3s", "ä"],
        "duration": ["30s", "0s"],
        "max_windows": ["1", "2", "0", "-1"],
        "coordinator_replicas": ["1", "2", "0"],
        "explain": [True],
        "detach": [True],
        "verbose": [],
        "topic": ["größe", ""],
        "kafka_config": ["nowhere"],
        "avro_schema": ["nowhere"],
        "checkpoint_dir": ["x"],
        "resume_from": ["x"],
        "scale_file": ["nowhere", f"{data}/scale/scale.json"],
        "init_centers": ["nowhere", f"{data}/plain"],
        "output_config": ["nowhere"],
        "reference": ["nowhere", f"{data}/plain", f"{data}/keys"],
        "iceberg_table": ["a.b", "b"],
        "iceberg_catalog": ["uri=sqlite:///OUT.db,warehouse=file://OUT.tables", "nobodys", "uri=ftp://x"],
        "pubsub_subscription": ["projects/p/subscriptions/s"],
        "hold_shards": ["0:1s:1s", "9:1s:1s", "0:0s:0s"],
        "start": ["earliest", "latest", "committed", "2020-01-01", "ä"],
        "time_field": ["t", "x", "nope"],
        "key_column": ["g", "message.key", "name", "nope", "id"],
        "keys": ["3", "0", "-1"],
        "rate": ["100", "0", "-1", "1e300"],
        "bootstrap_servers": ["x:1", ""],
        "output_topic": ["out", ""],
        "half_life": ["2s", "0s"],
        "disorder": ["0s", "1s"],
        "deadline": ["0s", "5s", "-1s"],
        "cap": ["60s", "0s"],
        "retention": ["0s", "600s"],
        "grace": ["0s", "2s"],
        "idle": ["0s", "1s"],
        "poll": ["0s", "5s"],
        "max_ahead": ["0s", "1h"],
        "max_behind": ["0s", "1s"],
        "message_format": ["json", "avro", "packed", "none of them"],
        "domains": ["0,1", "0,0"],
        "drop_shards": ["0"],
        "min_shards": ["1", "2", "9"],
        "input": [],
        "time_attribute": ["a"],
    }

    def setting(points, *options, **more):
        given = {**base, **_given(*options)}
        return Setting(
            "stream", StreamOptions, given, lambda folder, row: _windows(folder, row, points), {**values, **more}
        )

    topic = (("--topic=points",), ("--bootstrap-servers=x:1",), ("--columns=x,y",), ("--start=earliest",))
    sizes = streams_in_process.PARTS * streams_in_process.MESSAGES
    return {
        "rate": setting(streams_in_process.GENERATED, ("--rate=100",)),
        "topic": setting(sizes, *topic),
        "keys": setting(sizes, *topic, ("--key-column=g",), ("--output-topic=out",)),
        "weak": setting(sizes, *topic, ("--weak",)),
        "outliers": setting(sizes, *topic, ("--outliers=3",)),
        "files": setting(ROWS, (f"--input={data}/points.csv",), ("--columns=x,y",)),
    }


def _windows(folder, row, points):
    """Fixed windows that were all waited for have all good rows."""
    tables = option_runs.tables_of(folder)
    wrong = option_runs.not_a_number(tables)
    rows = tables.get("summaries", [])
    cut = {"window", "max_windows", "duration", "parts", "rate", "disorder", "idle", "revise"} & set(row)
    if wrong or cut or not rows or not all(each["coverage"] == 1 for each in rows):
        return wrong
    found, letters = sum(each["points"] for each in rows), option_runs.letters_in(folder)
    late = len(read_table(str(folder), "late")) if files_of(str(folder), "late") else 0
    good = points - letters
    return "" if late or found == good else f"{found} points of {points} with {letters} letters"


def _of_results(data):
    """What reads results."""
    read = _given((f"--input={data}/points.csv",), ("--columns=x,y",))
    more = {
        "start": ["0", "2026-01-01", "ä", "nan"],
        "end": ["0", "2100-01-01T00:00", "1e300"],
        "keys": ["", "a", "a,b", "ä"],
    }
    for name in ("plain", "balanced", "fair", "flats", "scale"):
        given = {**read, **_given((f"--centers={data}/{name}",), OUTPUT, ("--group-column=g",))}
        yield (
            name,
            Setting(
                "assign", AssignOptions, given, _assigned, {**more, "centers": [f"{data}/nowhere", f"{data}/weak"]}
            ),
        )
        given = {**read, **_given((f"--coreset={data}/{name}",))}
        yield (
            name,
            Setting(
                "verify",
                VerifyOptions,
                given,
                _nothing,
                {"coreset": [f"{data}/nowhere", f"{data}/pca"], "csv": ["OUT.csv", "/nowhere/x.csv", ""]},
            ),
        )
    solving = {
        **more,
        "input": [f"{data}/nowhere", f"{data}/pca"],
        "k": ["2", "1:3", "2:4:2", "0", "70", "3:1", "1000000000000"],
        "r": ["0", "1", "2", "-1"],
    }
    for name in ("plain", "weak", "fair", "flats", "windows", "keys"):
        total = streams_in_process.PARTS * streams_in_process.MESSAGES if name in ("windows", "keys") else ROWS
        check = lambda folder, row, total=total: _solved(folder, row, total)  # noqa: E731
        yield name, Setting("solve", SolveOptions, _given((f"--input={data}/{name}",), OUTPUT), check, solving)
        rolled = {
            **solving,
            "k": ["2", "0", "70", "1000000000000"],
            "input": [f"{data}/nowhere", f"{data}/plain"],
            "reference": [f"{data}/nowhere", f"{data}/plain", f"{data}/windows", f"{data}/keys", f"{data}/pca"],
        }
        yield name, Setting("rollup", RollupOptions, _given(("--input", f"{data}/{name}"), OUTPUT), check, rolled)


def _solved(folder, row, total):
    chosen = {"start", "end", "keys", "input"} & set(row)
    return "" if chosen else option_runs.sums(folder, total, missing=any(":" in w for w in row.get("k", ())))


def _assigned(folder, row):
    table = read_table(str(folder), "assigned")
    found, letters = len(table), option_runs.letters_in(folder)
    if any(isinstance(value, float) and math.isnan(value) for each in table.to_pylist() for value in each.values()):
        return "NaN among the assigned rows"
    return "" if found + letters == ROWS else f"{found} rows and {letters} letters of {ROWS}"


def write_results(data):
    """Results of several kinds, for the commands that read some."""
    base = ["summarize", f"--input={data}/points.csv", "--columns=x,y", "--k=3", "--shards=3"]
    kinds = {
        "plain": (),
        "weak": ("--weak",),
        "balanced": ("--balanced=0.3",),
        "scale": ("--scale=standard",),
        "fair": ("--group-column=g", "--fair", "a=0.1:0.6"),
        "flats": ("--r=1",),
        "pca": ("--summary=pca", "--r=1", "--k=1"),
    }
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for name, options in kinds.items():
            assert main(last_of_each([*base, f"--output={data}/{name}", *options])) == 0, name
    topic = [
        "stream",
        "--k=3",
        "--shards=2",
        "--topic=t",
        "--bootstrap-servers=x:1",
        "--columns=x,y",
        "--window=5s",
        "--start=earliest",
    ]
    for name, options in (("windows", ()), ("keys", ("--key-column=g", "--key-groups=2"))):
        ending = option_runs.run([*topic, f"--output={data}/{name}", *options], f"{data}/log")
        assert ending.kind == option_runs.DONE, ending
