"""What a command ends with where files fail it: one line that names the file, never a traceback."""
import errno
import random
import shutil

import pyarrow as pa
import pytest
from apache_beam.io.filesystem import BeamIOError
from rich.table import Table

from beam_coresets import table_schemas, tables
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running import launch
from beam_coresets.transforms.writing.stored_tables import read_table

HOSTILE = "x\x1b[31mred\x1b]0;title\x07"


@pytest.mark.parametrize(("error", "code", "said"), [
    (OSError(errno.ENOSPC, "No space left on device", "/out/a"), 1, "'/out/a' (No space left on device)"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "/no/x.csv"), 1, "'/no/x.csv' (No such file"),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "/a"), 1, "'/a' (Is a directory)"),
    (BeamIOError("Match operation failed", {"gs://b/x": OSError("denied")}), 1, "'gs://b/x' (denied)"),
    (pa.ArrowInvalid("not a Parquet file"), 2, "not a Parquet file"),
    (pa.ArrowNotImplementedError("no such type"), 1, "(no such type)"),
    (OSError("Corrupt snappy compressed data."), 1, "(Corrupt snappy compressed data.)"),
    (MemoryError(), 1, "emory"),
    (ValueError(f"columns: must be there, got {HOSTILE}"), 2, r"got x\x1b[31mred\x1b]0;title\x07"),
    (launch.JobError(f"input: {HOSTILE}"), 1, r"x\x1b[31mred"),
])  # fmt: skip
def test_an_error_of_files_is_one_line(capsys, error, code, said):
    def word():
        raise error

    assert launch.exit_code(word) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert "\x1b" not in line


def test_a_terminal_shows_names_as_text(capsys):
    console = Terminal()
    table = Table("key")
    table.add_row(HOSTILE)
    console.print(table)
    console.print(f"[red]{HOSTILE}[/]")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.count(r"x\x1b[31mred\x1b]0;title\x07") == 2


def mutated(data, rng):
    """Bytes with a few of them changed, cut off, doubled or zero."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(data)), rng.randint(1, 40)
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + size] = bytes(len(data[at : at + size]))
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case 4:
                data[at : at + size] = rng.randbytes(len(data[at : at + size]))
        if not data:
            return b""
    return bytes(data)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A result of a tiny job."""
    folder = tmp_path_factory.mktemp("result")
    (folder / "a.csv").write_text("x,y\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(60)))
    assert main(["summarize", "--input", str(folder / "a.csv"), "--k", "2", "--shards", "2",
                 "--output", str(folder / "out")]) == 0  # fmt: skip
    return folder


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
@pytest.mark.parametrize("name", table_schemas.TABLES)
def test_tables_that_others_have_changed_are_read_or_refused_in_one_line(result, tmp_path, capsys, form, name):
    """Without claims, by whose digests a change is found before anything is decoded."""
    held = {table: read_table(str(result / "out"), table) for table in table_schemas.TABLES}
    for trial in range(8):
        rng, folder = random.Random(f"{form}/{name}/{trial}"), tmp_path / str(trial)
        for table, rows in held.items():
            (folder / table).mkdir(parents=True)
            data = tables.encode(rows, form)
            path = folder / table / f"global-r1.{form}"
            path.write_bytes(mutated(data, rng) if table == name else data)
        code = main(["solve", "--input", str(folder), "--output", str(folder / "solved"), "--k", "2"])
        said = capsys.readouterr()
        assert code in (0, 1, 2)
        if code:
            assert len(said.err.splitlines()) == 1, said.err
            assert said.err.startswith("error: ")
        shutil.rmtree(folder)
