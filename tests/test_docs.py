"""What docs/algorithms.md shows has to run, and its table has to be true."""
import pathlib
import re
import shlex

import pytest

from beam_coresets.pipelines.main import main
from beam_coresets.transforms.writing.stored_tables import read_table

ROOT = pathlib.Path(__file__).parent.parent
DOCS = (ROOT / "docs/algorithms.md").read_text()
COMMANDS = re.findall(r"^    beam-coresets (.*)$", DOCS, re.M)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A folder in which the Python of the page has run."""
    folder = tmp_path_factory.mktemp("town")
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        exec(compile(code, "algorithms.md", "exec"), {})
    return folder


@pytest.mark.slow
def test_every_command_runs_as_printed_one_after_the_other(town, monkeypatch):
    monkeypatch.chdir(town)
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0, command
    constraints = {
        name: read_table(name, "summaries").to_pylist()[0]["constraint"]
        for name in ("gather", "capacity", "balanced", "fair", "diverse", "sizes", "mixed")
    }
    assert len(set(constraints.values())) == 7
    assert None not in constraints.values()
    smallest = min(row["weight"] for row in read_table("gather", "centers").to_pylist())
    assert smallest >= 1500 * (1 - 1e-6)
    sizes = [row["weight"] for row in read_table("sizes", "centers").to_pylist()]
    assert sizes == pytest.approx([3000, 2500, 2000, 1500, 1000])


def test_the_table_names_modules_and_tests_that_exist():
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in DOCS.splitlines()
            if line.startswith(("| R", "| O", "| U"))]  # fmt: skip
    assert len(rows) == 12
    for row in rows:
        modules, tests = row[-2], row[-1]
        for name in re.findall(r"`([\w/]+)`", modules):
            assert (ROOT / "beam_coresets" / f"{name}.py").exists(), name
        for name in re.findall(r"`([\w/]+)`", tests):
            assert (ROOT / "tests" / f"{name}.py").exists(), name
