"""A stored table is what was claimed, byte for byte, or an error that names its file."""
import random
import re
import shutil

import pytest
from jobs import clusters, parts_of, without_beam

from beam_coresets import table_schemas, tables
from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.main import main
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stored_tables import files_of, read_table

PLAN = Plan(k=3, shards=3, replication=2, coreset_size=20)
WINDOWS = Window(), Window(1795219200.0, 1795219260.0, "a-b")
SUMMARIES = [without_beam(parts_of(clusters(300)), PLAN, window=window) for window in WINDOWS]


@pytest.fixture(params=[(form, i) for form in tables.TABLE_FORMATS for i in (0, 1)], ids=str)
def folder(request, tmp_path):
    form, i = request.param
    Claims(str(tmp_path), form).publish(SUMMARIES[i])
    return tmp_path


def test_any_flipped_bit_is_found(folder):
    rng = random.Random(7)
    for name in table_schemas.TABLES:
        (path,) = files_of(str(folder), name)
        whole = read_table(str(folder), name)
        with open(path, "rb") as file:
            data = file.read()
        for _ in range(25):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            with open(path, "wb") as file:
                file.write(damaged)
            said = re.escape(f"{name}: must be as it was written, got {path!r} changed or damaged since")
            for read in (lambda name=name: read_table(str(folder), name), lambda name=name: Claims(str(folder)).read(
                    Claims(str(folder)).claimed_since(())[0], name)):  # fmt: skip
                with pytest.raises(ValueError, match=said):
                    read()
        with open(path, "wb") as file:
            file.write(data)
        assert read_table(str(folder), name).equals(whole)


@pytest.mark.parametrize("name", ["mine.parquet", "global-r2.avro", "global-r1.jsonl"])
def test_a_file_that_no_claim_names_is_no_part_of_a_table(tmp_path, name):
    Claims(str(tmp_path)).publish(SUMMARIES[0])
    (tmp_path / "centers" / name).write_bytes(b"whatever")
    said = re.escape(f"centers: must hold what runs have claimed, got '{tmp_path}/centers/{name}' without a claim")
    with pytest.raises(ValueError, match=said):
        read_table(str(tmp_path), "centers")


def test_without_claims_a_folder_is_read_as_it_is_and_damage_is_said(folder):
    whole = read_table(str(folder), "coreset")
    shutil.rmtree(folder / ".claims")
    assert read_table(str(folder), "coreset").equals(whole)
    (path,) = files_of(str(folder), "coreset")
    with open(path, "r+b") as file:
        file.truncate(40)
    form = path.rsplit(".", 1)[1]
    with pytest.raises(ValueError, match=re.escape(f"coreset: must be a whole {form} file, got {path!r} (")):
        read_table(str(folder), "coreset")


@pytest.mark.parametrize("word", ["solve", "rollup", "assign", "verify"])
@pytest.mark.parametrize("table", ["summaries", "coreset", "centers"])
def test_commands_name_the_damaged_file(tmp_path, capsys, word, table):
    Claims(str(tmp_path / "in")).publish(SUMMARIES[0])
    (path,) = (tmp_path / "in" / table).iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n")
    options = {
        "solve": ["--input", "in", "--k", "2"], "rollup": ["--input", "in"],
        "assign": ["--input", "x.csv", "--centers", "in"], "verify": ["--input", "x.csv", "--coreset", "in"],
    }[word]  # fmt: skip
    options = [str(tmp_path / o) if o in ("in", "x.csv") else o for o in options]
    code = main([word, *options, *([] if word == "verify" else ["--output", str(tmp_path / "out")])])
    reads = {"solve": ("summaries", "coreset"), "rollup": ("summaries", "coreset"), "assign": ("summaries", "centers")}
    if table in reads.get(word, (table,)):
        assert code == 2
        assert capsys.readouterr().err.startswith(f"error: {table}: must be as it was written, got {str(path)!r}")
        assert not (tmp_path / "out").exists()
    else:
        assert code == 0
