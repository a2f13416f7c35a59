"""What the README shows has to run, and it has to be short."""
import pathlib
import subprocess
import sys

from documents import README, code_blocks, command_lines

from beam_coresets.pipelines.main import WORDS
from beam_coresets.pipelines.running.local import IN_PROCESS

MOST_WORDS = 1_400


def test_the_embedding_example_runs_as_printed(tmp_path: pathlib.Path) -> None:
    (code,) = code_blocks(README)
    code = code.replace("beam.Pipeline()", f"beam.Pipeline({IN_PROCESS!r})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("CenterRow(") == 5


def test_it_is_short() -> None:
    assert len(README.read_text().split()) <= MOST_WORDS


def test_it_shows_every_command() -> None:
    assert {words[0] for words in command_lines(README)} == set(WORDS)
