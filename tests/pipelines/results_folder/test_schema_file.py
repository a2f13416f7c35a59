"""schema.json: every column that is written is explained, and the settings are those of the run."""
import json

import pytest
from jobs import clusters, columns_of, summarize_files, write_parquet

from beam_coresets import table_schemas
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.results_folder.schema_file import MEANINGS, write_schema
from beam_coresets.transforms.writing.stored_tables import read_table


def test_every_column_of_every_table_has_a_meaning():
    assert {name: list(columns) for name, columns in MEANINGS.items()} == {
        name: schema.names for name, schema in table_schemas.SCHEMAS.items()
    }


def schema_of(folder):
    return json.loads((folder / "schema.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    source = write_parquet(folder / "in", columns_of(clusters(300)))
    assert summarize_files(source, folder / "out", "--k=3", "--shards=3", "--scale=standard") == 0
    return folder / "out"


def test_a_batch_says_what_its_tables_hold(run):
    held = schema_of(run)
    assert (held["schema_version"], held["format"], held["metric"]) == (2, "parquet", "euclidean")
    assert held["columns"] == read_table(str(run), "summaries").column("columns").to_pylist()[0]
    assert held["settings"] == {"job": "summarize", "scale": "standard"}
    for table in table_schemas.TABLES:
        assert [column["name"] for column in held["tables"][table]] == read_table(str(run), table).column_names


def test_what_is_made_of_it_says_so_too(run, tmp_path):
    for word, form in (("solve", "avro"), ("rollup", "jsonl")):
        assert main([word, "--input", str(run), "--output", str(tmp_path / word), "--format", form]) == 0
        held = schema_of(tmp_path / word)
        assert (held["format"], held["settings"], held["columns"]) == (form, {"job": word}, schema_of(run)["columns"])
    assert main(["solve", "--input", str(run), "--output", str(tmp_path / "k"), "--k", "2:3"]) == 0
    assert schema_of(tmp_path / "k")["settings"] == {"job": "solve"}


def test_a_file_of_that_name_that_is_not_ours_stays(tmp_path):
    """A stream writes straight into its folder."""
    write_schema(str(tmp_path), "avro", ["x"], None)
    write_schema(str(tmp_path), "parquet", ["x"], None)
    assert schema_of(tmp_path)["format"] == "parquet"
    (tmp_path / "schema.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match=r"output: must have no other files where the result goes, got .*schema.json"):
        write_schema(str(tmp_path), "parquet", ["x"], None)
    assert schema_of(tmp_path) == {"mine": 1}
