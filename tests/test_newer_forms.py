"""What a later version has stored, or nobody has, is refused by name: one line and exit code 2."""
import hashlib
import json
import pathlib
import re
import shutil
import zlib

import pyarrow as pa
import pytest

from beam_coresets import __version__, tables
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running import runners
from beam_coresets.transforms.writing.claims import Claims

GOLDEN = pathlib.Path(__file__).parent / "golden" / "0.1"
OWN = ".".join(__version__.split(".")[:2])
COMMANDS = {
    "solve": ("--input", "{folder}"),
    "rollup": ("--input", "{folder}"),
    "assign": ("--input", "{data}", "--columns", "x,y", "--max_bad_rows", "1", "--centers", "{folder}"),
    "verify": ("--input", "{data}", "--columns", "x,y", "--coreset", "{folder}"),
}


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "scaled", tmp_path / "in")


def refused(capsys, folder, word):
    """The one line that a command says of a folder; it writes nothing."""
    output = () if word == "verify" else ("--output", str(folder.parent / "out"))
    options = [option.format(folder=folder, data=GOLDEN / "data.csv") for option in COMMANDS[word]]
    assert main([word, *options, *output]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (folder.parent / "out").exists()
    return line


def rewrite(folder, **columns):
    """The folder's summaries with other values in some columns."""
    (path,) = (folder / "summaries").iterdir()
    table = tables.decode(path.read_bytes(), "parquet")
    for name, value in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array([value]))
    path.write_bytes(tables.encode(table, "parquet"))
    (claim,) = (folder / ".claims").iterdir()  # as the one who wrote such a table would have it
    said = json.loads(claim.read_text())
    said["files"]["summaries"]["digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
    claim.write_text(json.dumps(said))


def later(part):
    numbers = [int(number) for number in __version__.split(".")]
    return ".".join(str(n + (i == part)) for i, n in enumerate(numbers))


@pytest.mark.parametrize("word", COMMANDS)
@pytest.mark.parametrize("version", [later(0), later(1), "9.0", "2e1", 7])
def test_tables_of_a_later_version(capsys, folder, word, version):
    rewrite(folder, version=version)
    assert refused(capsys, folder, word) == (
        f"error: summaries: must be written by beam-coresets {OWN} or older, got version {version}"
    )


@pytest.mark.parametrize("version", [__version__, later(2), "0.0.9", f"{OWN}.0rc1", None])
def test_tables_of_this_version_or_an_older_one(folder, version):
    rewrite(folder, version=version)
    assert main(["solve", "--input", str(folder), "--output", str(folder.parent / "out"), "--k", "2"]) == 0


@pytest.mark.parametrize("word", COMMANDS)
def test_a_column_of_another_type(capsys, folder, word):
    rewrite(folder, total_weight="much")
    assert re.match(r"error: summaries\.total_weight: must be double, got .*much", refused(capsys, folder, word))


def later_codec(evidence):
    raw = bytearray(zlib.decompress(evidence))
    raw[3] += 1
    return zlib.compress(bytes(raw))


@pytest.mark.parametrize("word", ["solve", "rollup"])
@pytest.mark.parametrize(("change", "said"), [
    (later_codec, "version: must be 1, got 2"),
    (lambda evidence: b"not zlib", "incorrect header check"),
    (lambda evidence: zlib.compress(b"PAR1...."), "data: must start with b'BCS', got b'PAR'"),
])  # fmt: skip
def test_evidence_of_another_form(capsys, folder, word, change, said):
    (path,) = (folder / "summaries").iterdir()
    (row,) = tables.decode(path.read_bytes(), "parquet").to_pylist()
    rewrite(folder, evidence=change(row["evidence"]))
    line = refused(capsys, folder, word)
    assert line.startswith("error: evidence: must be a record that this version reads, got one that is not (")
    assert said in line


BAD_SCALES = [
    ({"version": 2}, "version: must be 1, got 2"), ({"version": "x"}, "version: must be 1, got 'x'"),
    ({"divisor": [1.0]}, "divisor: must be 2 numbers as origin has, got 1"), ({"origin": None}, "NoneType"),
    ({"origin": ["a", "b"]}, "could not convert string to float: 'a'"),
]  # fmt: skip


@pytest.mark.parametrize("word", COMMANDS)
@pytest.mark.parametrize(("change", "said"), BAD_SCALES)
def test_scales_of_another_form(capsys, folder, word, change, said):
    path = folder / "scale.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    line = refused(capsys, folder, word)
    assert line.startswith(f"error: scale.json: must be what summarize writes, got {str(path)!r} (")
    assert said in line


RATE = ("--rate=1000", "--k=3", "--shards=2", "--replication=1", "--runner=FlinkRunner", "--flink_master=localhost:1",
        f"--flink_job_server_jar={__file__}")  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BAD_SCALES)
def test_a_stream_is_given_a_scale_of_another_form(capsys, folder, change, said):
    path = folder / "scale.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main(["stream", "--output", str(folder.parent / "out"), "--scale_file", str(path), *RATE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: scale_file: must be a scale.json, got {str(path)!r} (")
    assert said in line


@pytest.fixture
def claimed(tmp_path):
    """A stream's folder, whose last claim is of a later form; and the path of that."""
    folder = shutil.copytree(GOLDEN / "stream", tmp_path / "stream")
    path = sorted((folder / ".claims").iterdir())[-1]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    return folder, path


def test_claims_of_a_later_form(claimed):
    folder, path = claimed
    claims = Claims(str(folder))
    said = re.escape(f"output: must hold claims of version 1, got 2 in {str(path)!r}")
    for read in (lambda: claims.read(path.stem, "summaries"), lambda: claims.paths(path.stem), claims.finish_all):
        with pytest.raises(ValueError, match=said):
            read()


def test_a_stream_into_claims_of_a_later_form(capsys, claimed, monkeypatch):
    """Said before anything is submitted; a cluster is not looked for."""
    folder, path = claimed
    monkeypatch.setattr(runners, "require_runner", lambda *_: None)
    assert main(["stream", "--output", str(folder), *RATE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: output: must hold claims of version 1, got 2 in {str(path)!r}"


def test_what_is_written_has_its_number(tmp_path):
    run = ["--input", str(GOLDEN / "data.csv"), "--output", str(tmp_path / "out"), "--columns", "x,y", "--k", "2"]
    assert main(["summarize", *run, "--shards", "2", "--scale", "standard", "--max_bad_rows", "1"]) == 0
    assert json.loads((tmp_path / "out" / "scale.json").read_text())["version"] == 1
    (claim,) = (tmp_path / "out" / ".claims").glob("*.json")
    assert json.loads(claim.read_text())["version"] == 1
