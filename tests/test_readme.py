"""What the README shows has to run."""
import pathlib
import re
import subprocess
import sys

import pytest

from beam_coresets.pipelines.main import WORDS
from beam_coresets.pipelines.running.local import IN_PROCESS

_BEAMS = {
    "--runner", "--flink_version", "--flink_job_server_jar", "--flink_master", "--prism_location", "--environment_type",
    "--environment_config",
}  # fmt: skip
README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_embedding_example_runs_as_printed(tmp_path: pathlib.Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    code = code.replace("beam.Pipeline()", f"beam.Pipeline({IN_PROCESS!r})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("CenterRow(") == 5


@pytest.mark.parametrize("word", WORDS)
def test_options_that_the_readme_names_exist(word: str) -> None:
    done = subprocess.run([sys.executable, "-m", "beam_coresets", word, "--help"], capture_output=True, text=True)
    named = set(re.findall(rf"beam-coresets {word} [^\n`]*", README.read_text()))
    assert named
    for command in named:
        for option in re.findall(r"--\w+", command):
            assert option in done.stdout or option in _BEAMS, option
