"""`beam-coresets register`: files of batch jobs and streams in Iceberg tables, and what is refused in a line."""
import json
import shutil

import pytest
from jobs import clusters, columns_of, summarize_files, write_parquet

from beam_coresets.pipelines.main import main
from beam_coresets.transforms.iceberg.catalogs import catalog_settings

pytest.importorskip("pyiceberg")
OPTIONS = ("--k=4", "--shards=4", "--replication=2", "--coreset_size=40", "--columns=x0,x1")


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "warehouse").mkdir()
    return [f"uri=sqlite:///{tmp_path}/catalog.db", f"warehouse=file://{tmp_path}/warehouse"]


def summarized(tmp_path, *options, seed=0):
    source = write_parquet(tmp_path / "in", columns_of(clusters(600, seed)))
    assert summarize_files(source, tmp_path / "out", *OPTIONS, *options) == 0
    return tmp_path / "out"


def test_a_job_is_registered_once(tmp_path, catalog, capsys):
    out = summarized(tmp_path, "--keep-columns=x2")
    capsys.readouterr()
    assert main(["register", str(out), "--catalog", *catalog, "--table", "a.b"]) == 0
    assert capsys.readouterr() == (f"{out}: 1 windows (4 files) added to a.b_..., 0 were there\n", "")
    assert main(["register", "--input", str(out), "--catalog", ",".join(catalog), "--table=a.b"]) == 0
    assert capsys.readouterr().out == f"{out}: 0 windows (0 files) added to a.b_..., 1 were there\n"
    coreset = catalog_settings(catalog).open().load_table("a.b_coreset").scan().to_arrow()
    assert "x2" in coreset.column_names
    assert len(coreset) > 40


def test_the_catalog_may_come_from_a_file_of_settings(tmp_path, catalog):
    out = summarized(tmp_path)
    (tmp_path / "catalog.json").write_text(json.dumps(dict(pair.split("=", 1) for pair in catalog)))
    held = f"input: [{out}]\ncatalog: [{tmp_path}/catalog.json]\ntable: a.b\n"
    (tmp_path / "job.yaml").write_text(held)
    assert main(["register", "--config", str(tmp_path / "job.yaml")]) == 0


def refused(capsys, code, *words):
    capsys.readouterr()
    assert main(["register", *map(str, words)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def test_what_can_not_work_is_said_in_one_line(tmp_path, catalog, capsys):
    out = summarized(tmp_path)
    there = ("--catalog", *catalog)
    assert refused(capsys, 2, out, *there) == "table: must be given (--table), got nothing"
    assert refused(capsys, 2, out, "--table=a.b") == "catalog: must be given (--catalog), got nothing"
    assert refused(capsys, 2, out, *there, "--table=b") == "table: must be NAMESPACE.NAME, got 'b'"
    nowhere = refused(capsys, 2, tmp_path / "in", *there, "--table=a.b")
    assert nowhere == f"input: must hold windows that are decided, got '{tmp_path}/in' without .claims"
    away = refused(capsys, 1, out, "--catalog", f"uri=sqlite:///{tmp_path}/no/c.db", "warehouse=file:///tmp/w",
                   "--table=a.b")  # fmt: skip
    assert away.startswith("catalog: must answer, got ")


def test_only_parquet_is_registered(tmp_path, catalog, capsys):
    out = summarized(tmp_path, "--format=avro")
    line = refused(capsys, 2, out, "--catalog", *catalog, "--table=a.b")
    assert line == f"format: must be parquet for Iceberg, got avro in '{out}'"


def test_a_result_whose_files_are_in_iceberg_tables_is_not_replaced(tmp_path, catalog, capsys):
    out = summarized(tmp_path)
    assert main(["register", str(out), "--catalog", *catalog, "--table", "a.b"]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    capsys.readouterr()
    assert summarize_files(f"{tmp_path}/in/*.parquet", out, *OPTIONS, "--overwrite", "--seed=1") == 2
    assert capsys.readouterr().err == (
        f"error: output: must not be replaced while Iceberg tables have its files, got '{out}' with files in "
        f"a.b_centers (drop the tables, then {out}/.claims/registered)\n"
    )
    assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == before
    shutil.rmtree(out / ".claims" / "registered")
    assert summarize_files(f"{tmp_path}/in/*.parquet", out, *OPTIONS, "--overwrite", "--seed=1") == 0
