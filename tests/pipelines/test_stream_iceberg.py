"""`beam-coresets stream --iceberg-table`, as a command: what is decided is in the tables, and no catalog stops it."""
import pathlib
import subprocess
import sys

import pytest

from beam_coresets.pipelines.main import main
from beam_coresets.transforms.iceberg.catalogs import catalog_settings

pytest.importorskip("pyiceberg")
pytest.importorskip("confluent_kafka")
PAIRS = pathlib.Path(__file__).parents[1] / "pairs"
IN_PROCESS = (
    f"import sys; sys.path.insert(0, {str(PAIRS)!r}); import streams_in_process; streams_in_process.install(); "
    "from beam_coresets.pipelines.main import main; sys.exit(main(sys.argv[1:]))"
)
RATE = ("--rate=100", "--k=3", "--shards=2", "--parts=2", "--window=2s", "--duration=60s")


def catalog_in(folder):
    return [f"uri=sqlite:///{folder}/catalog.db", f"warehouse=file://{folder}/warehouse"]


def streamed(tmp_path, *words):
    """Runs a stream to its end, on a runner on which no timer fires; what it has printed."""
    command = [sys.executable, "-c", IN_PROCESS, "stream", f"--output={tmp_path}/out", *RATE, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_what_is_decided_is_in_the_tables_when_the_command_ends(tmp_path):
    (tmp_path / "warehouse").mkdir()
    catalog = catalog_in(tmp_path)
    said = streamed(tmp_path, "--iceberg-table=a.b", "--iceberg-catalog", *catalog)
    assert "iceberg" not in said
    rows = catalog_settings(catalog).open().load_table("a.b_summaries").scan().to_arrow().to_pylist()
    assert len(rows) == len(list((tmp_path / "out" / "summaries").rglob("*.parquet"))) > 1
    assert sum(row["points"] for row in rows) > 0
    coreset = catalog_settings(catalog).open().load_table("a.b_coreset").scan().to_arrow()
    assert len(coreset) == sum(row["coreset_points"] for row in rows)


@pytest.mark.slow
def test_a_stream_goes_on_without_its_catalog_and_says_so(tmp_path, capsys):
    said = streamed(tmp_path, "--iceberg-table=a.b", "--iceberg-catalog", *catalog_in(tmp_path / "nowhere"))
    assert "warning: iceberg: windows wait for the next run or register: catalog: must answer, got " in said
    (tmp_path / "warehouse").mkdir()
    assert main(["register", f"{tmp_path}/out", "--table=a.b", "--catalog", *catalog_in(tmp_path)]) == 0
    assert ", 0 were there" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "message"), [
    (["--iceberg-table=a.b"], "iceberg_catalog: must be given with iceberg_table, got nothing"),
    (["--iceberg-catalog=uri=x"], "iceberg_table: must be given with iceberg_catalog, got nothing"),
    (["--iceberg-catalog=uri=x", "--iceberg-table=b"], "iceberg_table: must be NAMESPACE.NAME, got 'b'"),
    (["--iceberg-catalog=nobodys", "--iceberg-table=a.b"], "iceberg_catalog: must be one that pyiceberg's settings"),
    (["--iceberg-catalog=uri=x", "--iceberg-table=a.b", "--format=avro"],
     "format: must be parquet with --iceberg-table, got avro"),
])  # fmt: skip
def test_what_can_not_work_is_said_before_anything_runs(tmp_path, capsys, words, message):
    flink = ("--runner=FlinkRunner", f"--flink_job_server_jar={__file__}", "--flink_master=localhost:1")
    assert main(["stream", f"--output={tmp_path}/out", *RATE, *words, *flink]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()
