"""Beam YAML: options are the fields of the plan, errors name them, and the pipelines of templates/yaml run."""
import dataclasses
import inspect
import json
import pathlib
import re

import apache_beam as beam
import numpy as np
import pytest
import yaml
from apache_beam.portability import common_urns
from apache_beam.portability.api import schema_pb2
from apache_beam.testing import test_stream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.typehints.schemas import typing_to_runner_api
from jobs import CENTERS, LOCAL, clusters, rows_in, run

from beam_coresets.declared import of_values
from beam_coresets.parameters.plan import Plan
from beam_coresets.transforms import yaml_transforms
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.text.dialects import TextParameters
from beam_coresets.transforms.writing.records import ROWS
from beam_coresets.transforms.yaml_transforms import (
    BATCH_OPTIONS,
    STREAM_OPTIONS,
    GeneratePointsInYaml,
    SummarizeInYaml,
    SummarizeStreamInYaml,
)

yaml_main = pytest.importorskip("apache_beam.yaml.main", reason="needs the extra yaml")
FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "yaml"
POINTS = clusters(2000)


def lines_of(folder, name):
    return [json.loads(line) for path in folder.glob(f"{name}.jsonl-*") for line in path.read_text().splitlines()]


def summarized(folder, *more, **variables):
    """Runs summarize.yaml over `POINTS` and one row with a gap."""
    rows = [",".join(map(str, row)) for row in POINTS.tolist()]
    (folder / "points.csv").write_text("\n".join(["x,y,z", *rows, "1,,2"]))
    variables = {"input": str(folder / "points.csv"), "output": str(folder / "out"), "k": 4, **variables}
    yaml_main.run([f"--yaml_pipeline_file={FOLDER / 'summarize.yaml'}", *LOCAL, *more,
                   f"--jinja_variables={json.dumps(variables)}"])  # fmt: skip
    return folder / "out"


def test_the_batch_pipeline_writes_all_of_its_outputs(tmp_path):
    out = summarized(tmp_path, shards=6, replication=3, max_bad_rows=1)
    (summary,) = lines_of(out, "summaries")
    assert (summary["points"], summary["total_weight"], summary["coverage"]) == (2000, 2000, 1)
    assert (summary["shards"], summary["replication"]) == (6, 3)
    centers = np.array([row["coordinates"] for row in lines_of(out, "centers")])
    assert np.abs(centers[:, None] - CENTERS).sum(2).min(0).max() < 1
    coreset = lines_of(out, "coreset")
    assert len(coreset) == summary["coreset_points"]
    assert sum(row["weight"] for row in coreset) == pytest.approx(2000)
    (letter,) = lines_of(out, "dead_letters")
    assert (letter["reason"], letter["column_name"]) == ("null", "y")


def test_a_refused_row_fails_the_pipeline_unless_it_may_be(tmp_path):
    with pytest.raises(Exception, match="max_bad_rows: at most 0 rows may be refused, got 1"):
        summarized(tmp_path)


def test_what_cannot_work_is_named_by_the_pipeline(tmp_path):
    with pytest.raises(ValueError, match=r"Summarize.*replication: must be .*got 5"):
        summarized(tmp_path, shards=3, replication=5)


def test_the_provider_names_every_transform_and_runs_in_this_process():
    (provider,) = yaml.safe_load((FOLDER / "providers.yaml").read_text())
    assert provider["config"]["packages"] == []
    made = {f"{yaml_transforms.__name__}.{name}" for name in vars(yaml_transforms) if name.endswith("InYaml")}
    assert set(provider["transforms"].values()) == made


@pytest.mark.parametrize("name", ["summarize.yaml", "summarize_stream.yaml", "summarize_to_tables.yaml"])
def test_pipelines_are_filled_in_by_variables_that_the_readme_names(name):
    text, readme = (FOLDER / name).read_text(), (FOLDER / "README.md").read_text()
    variables = set(re.findall(r"\{\{ (\w+)", text))
    assert variables
    for variable in variables:
        assert f"`{variable}`" in readme, variable


def test_sinks_of_the_readme_take_these_options():
    """Snippets are lists of transforms; Beam's own tables say what each takes."""
    snippets = re.findall(r"^    - type: .*\n(?:    .*\n)+", (FOLDER / "README.md").read_text(), re.M)
    sinks = [step for text in snippets for step in yaml.safe_load(text) if step["type"].startswith("WriteTo")]
    assert {step["type"] for step in sinks} == {"WriteToIceberg", "WriteToBigQuery"}
    for step in sinks:
        check_options(step)
        transform, output = step["input"].split(".")
        assert transform == "SummarizeStream"
        assert output in ROWS


def check_options(step):
    """Holds a sink's options against Beam's own tables."""
    yaml_io = pytest.importorskip("apache_beam.yaml.yaml_io")
    known = yaml.safe_load((pathlib.Path(yaml_io.__file__).parent / "standard_io.yaml").read_text())
    names = {name: found["config"]["mappings"][name] for found in known if found["type"] == "renaming"
             for name in found["transforms"] if name in found["config"]["mappings"]}  # fmt: skip
    names["WriteToIceberg"] = inspect.signature(yaml_io.write_to_iceberg).parameters
    assert set(step["config"]) <= set(names[step["type"]]), step["type"]


def test_the_pipeline_to_tables_runs_but_for_its_sinks(tmp_path):
    """With files in place of the sinks, which need Java and services; these are held against Beam's options."""
    variables = {"input": str(tmp_path / "points.csv"), "warehouse": "gs://b/w", "dataset": "project:data", "k": 4}
    text = pytest.importorskip("jinja2").Template((FOLDER / "summarize_to_tables.yaml").read_text()).render(**variables)
    spec = yaml.safe_load(text)
    sinks = [step for step in spec["pipeline"]["transforms"] if step["type"].startswith("WriteTo")]
    assert [(step["type"], step["config"]["table"]) for step in sinks] == [
        ("WriteToIceberg", "clusters.summaries"), ("WriteToIceberg", "clusters.centers"),
        ("WriteToBigQuery", "project:data.centers"),
    ]  # fmt: skip
    for step in sinks:
        check_options(step)
        step.update(type="WriteToJson", config={"path": str(tmp_path / "out" / f"{step['name']}.jsonl")})
    spec["providers"] = [{"include": str(FOLDER / "providers.yaml")}]
    (tmp_path / "points.csv").write_text("\n".join(["x,y,z", *(",".join(map(str, row)) for row in POINTS.tolist())]))
    yaml_main.run([f"--yaml_pipeline={yaml.safe_dump(spec)}", *LOCAL])
    (summary,) = lines_of(tmp_path / "out", "SummariesToIceberg")
    assert (summary["points"], summary["refused"], "evidence" in summary) == (2000, 0, False)
    for name in ("CentersToIceberg", "CentersToBigQuery"):
        assert len(lines_of(tmp_path / "out", name)) == 4


@pytest.mark.parametrize("name", sorted(ROWS))
def test_rows_are_of_types_that_both_sinks_have(name):
    """Iceberg has no 8- and 16-bit numbers, and of logical types only times; BigQuery no lists of lists."""
    plain = {schema_pb2.INT64, schema_pb2.DOUBLE, schema_pb2.STRING, schema_pb2.BOOLEAN, schema_pb2.BYTES}

    def check(kind, nested=False):
        what = kind.WhichOneof("type_info")
        if what == "array_type":
            assert not nested
            check(kind.array_type.element_type, True)
        elif what == "map_type":
            check(kind.map_type.key_type, True)
            check(kind.map_type.value_type, True)
        elif what == "logical_type":
            assert kind.logical_type.urn == common_urns.micros_instant.urn
        else:
            assert kind.atomic_type in plain

    for field in typing_to_runner_api(ROWS[name]).row_type.schema.fields:
        check(field.type)


def test_options_are_the_fields():
    given = {
        "k": 3, "z": 1, "shards": 6, "domains": [0, 0, 1, 1, 2, 2], "drop_shards": [1], "columns": ["x", "y"],
        "id_column": "name", "epsilon": None, "weak": True,
    }  # fmt: skip
    assert of_values(BATCH_OPTIONS, given) == {
        "k": 3, "z": 1.0, "shards": 6, "domains": (0, 0, 1, 1, 2, 2), "drop_shards": (1,), "columns": ("x", "y"),
        "id_column": "name", "weak": True,
    }  # fmt: skip
    names = {field.name for kind in (Plan, Columns) for field in dataclasses.fields(kind)}
    of_files = {field.name for field in dataclasses.fields(TextParameters)} | {"header"}
    assert {option.name for option in BATCH_OPTIONS} == {"reference", *names} - {"constraint", "exhaustive"} - of_files


@pytest.mark.parametrize(("options", "error"), [
    ({"k": 2, "replicas": 3}, r"replicas: must be one of the options \(.*\breplication\b.*\), got 3"),
    ({}, "k: must be given, got nothing"),
    ({"k": "20"}, "k: must be a whole number, got '20'"),
    ({"k": True}, "k: must be a whole number, got True"),
    ({"k": 2, "z": "two"}, "z: must be a number, got 'two'"),
    ({"k": 2, "weak": "yes"}, "weak: must be true or false, got 'yes'"),
    ({"k": 2, "scheme": 3}, "scheme: must be text, got 3"),
    ({"k": 2, "columns": "x,y"}, "columns: must be a list, got 'x,y'"),
    ({"k": 2, "drop_shards": ["1"]}, "drop_shards: must be a whole number, got '1'"),
    ({"k": 2, "shards": 0}, "shards: must be .*, got 0"),
    ({"k": 2, "metric": "manhattan"}, "metric: must be .*, got 'manhattan'"),
])  # fmt: skip
def test_wrong_options_of_a_batch(options, error):
    with pytest.raises(ValueError, match=error):
        SummarizeInYaml(**options)


@pytest.mark.parametrize(("options", "error"), [
    ({"k": 2, "deadline": "soon"}, "deadline: must be a time such as 500ms, 5s or 2m, got 'soon'"),
    ({"k": 2, "cap": [1]}, r"cap: must be a time such as 500ms, 5s or 2m, got \[1\]"),
    ({"k": 2, "idle": "1s"}, "idle: must be one of the options .*, got '1s'"),
    ({"k": 2, "max_bad_rows": 1}, "max_bad_rows: must be one of the options .*, got 1"),
    ({"k": 2, "window": "5 apples"}, "window: must be a time such as 5s, 60s/5s or global/30s, got '5 apples'"),
    ({"k": 2, "shards": 2, "min_shards": 3}, "min_shards: must be from 1 to 2 shards, got 3"),
    ({"k": 2, "key_groups": 2}, "key_groups: must be left out without key_column, got 2"),
    ({"k": 2, "format": "avro"}, "format: must be left out without output, got 'avro'"),
    ({"summary": "pca", "r": 1, "z": 2}, "summary: must be coreset in a stream, got 'pca'"),
])  # fmt: skip
def test_wrong_options_of_a_stream(options, error):
    with pytest.raises(ValueError, match=error):
        SummarizeStreamInYaml(**options)


def test_lengths_of_time_are_texts_or_seconds():
    given = {"deadline": "500ms", "grace": 2, "cap": "2m", "half_life": "1h", "disorder": 0.25}
    assert of_values(STREAM_OPTIONS, given) == {
        "deadline": 0.5, "grace": 2.0, "cap": 120.0, "half_life": 3600.0, "disorder": 0.25,
    }  # fmt: skip


def test_the_stream_summarizes_windows_of_rows_and_writes_what_is_claimed(tmp_path):
    rows = [TimestampedValue(beam.Row(x=x, y=y, z=z), 1000 + i % 20) for i, (x, y, z) in enumerate(POINTS.tolist())]
    stream = test_stream.TestStream().advance_watermark_to(1000).add_elements(rows).advance_watermark_to_infinity()
    step = SummarizeStreamInYaml(k=4, shards=3, window="10s", cap="60s", output=str(tmp_path), format="parquet")

    def build(pipeline):
        typed = beam.typehints.row_type.RowTypeConstraint.from_fields([(name, float) for name in "xyz"])
        return pipeline | stream | beam.Map(lambda row: row).with_output_types(typed) | step

    held, _ = run(build, ("--runner=BundleBasedDirectRunner", "--streaming"))
    assert set(held) == {"summaries", "centers", "coreset", "columns", "late", "dead_letters"}
    assert {(float(row.window_start), row.points, row.coverage) for row in held["summaries"]} == {
        (1000.0, 1000, 1.0), (1010.0, 1000, 1.0),
    }  # fmt: skip
    assert len(held["centers"]) == 8
    assert not held["dead_letters"]
    assert len(rows_in(tmp_path, "coreset")) == len(held["coreset"])


def test_generated_points_are_few_enough_and_many_enough():
    with pytest.raises(ValueError, match="rate: must be at least 10 points a second, got 3"):
        GeneratePointsInYaml(rate=3)
    with pytest.raises(ValueError, match="dim: must be a whole number, got '8'"):
        GeneratePointsInYaml(dim="8")
    step = GeneratePointsInYaml(rate=1000, dim=3, clusters=2)
    rows = list(yaml_transforms._points_at(1000.0, step._mixture, step._rows))
    assert len(rows) == 100
    assert {len(row.point) for row in rows} == {3}
    assert rows == list(yaml_transforms._points_at(1000.0, step._mixture, step._rows))
    assert rows != list(yaml_transforms._points_at(1000.1, step._mixture, step._rows))
