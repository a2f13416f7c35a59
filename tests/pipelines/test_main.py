"""The words of the command line, and the ways to say them."""
import pathlib
import subprocess
import sys

import apache_beam as beam
import pytest

import beam_coresets
from beam_coresets.pipelines.main import WORDS, main


def test_without_a_word_or_with_an_unknown_one(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: beam-coresets WORD")
    assert main(["summarise"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: word: must be one of {', '.join(WORDS)}, got 'summarise'\n")
    assert set(WORDS) >= {"summarize", "stream", "plan", "rollup", "solve", "assign", "verify"}


def test_help_names_every_word(capsys):
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f"  {word} " in out for word in WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_explains_its_options(word, capsys):
    try:
        code = main([word, "--help"])
    except SystemExit as stop:
        code = stop.code
    assert code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: beam-coresets {word}")
    own = {
        "rollup": "--from", "verify": "--coreset", "compare": "--with", "solve": "--balanced", "assign": "--centers",
        "compact": "--every", "register": "--catalog", "show": "--windows", "report": "--windows", "watch": "--port",
    }  # fmt: skip
    assert own.get(word, "--shards") in out


@pytest.mark.parametrize("command", [
    [sys.executable, "-m", "beam_coresets", "plan"],
    [sys.executable, "-m", "beam_coresets.pipelines.plan"],
    [str(pathlib.Path(sys.executable).parent / "beam-coresets"), "plan"],
], ids=["package", "module", "script"])  # fmt: skip
def test_all_ways_to_start_it_are_the_same(command):
    if not pathlib.Path(command[0]).exists():
        pytest.skip("the console script is only there once installed")
    done = subprocess.run([*command, "--shards", "0"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "shards: must be from 1" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("word", "missing"), [
    ("summarize", "input"), ("verify", "input"), ("rollup", "input"), ("stream", "output"), ("solve", "input"),
    ("assign", "input"), ("register", "input"),
])  # fmt: skip
def test_the_jobs_are_modules_as_well(word, missing):
    option = {"assign": "--seed", "verify": "--dim", "register": "--table"}.get(word, "--k")
    command = [sys.executable, "-m", f"beam_coresets.pipelines.{word}", option, "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: {missing}: must be given (--{missing}), got nothing"
    assert done.stdout == ""


def test_the_version_and_completion(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"beam-coresets {beam_coresets.__version__}\n"
    for shell in ("bash", "zsh"):
        assert main(["completion", shell]) == 0
        out = capsys.readouterr().out
        assert all(word in out for word in WORDS)
        assert "--coreset-size" in out
    assert main(["completion", "abacus"]) == 2
    assert capsys.readouterr().err.startswith("error: completion: must be for one of bash, ")


def test_a_bash_that_has_the_script_completes(tmp_path):
    """A real bash is asked what `beam-coresets summarize --coreset-s` and `beam-coresets so` go on with."""
    script = subprocess.run(
        [sys.executable, "-m", "beam_coresets", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "script").write_text(script)
    for line, expected in (("beam-coresets summarize --coreset-s", "--coreset-size"), ("beam-coresets so", "solve")):
        words = line.split()
        asked = (
            f"source {tmp_path / 'script'}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            "f=$(complete -p beam-coresets | sed -E 's/.*-F ([^ ]+).*/\\1/'); $f; echo ${COMPREPLY[@]}"
        )
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
        assert done.stdout.split() == [expected], done.stderr


def test_a_command_starts_without_pandas_and_leaves_it_to_others(tmp_path):
    pytest.importorskip("pandas")
    (tmp_path / "rows.csv").write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(100)))
    code = """
import sys
from beam_coresets.pipelines import main
assert main.main("summarize --input rows.csv --output out --k 3 --quiet".split()) == 0
assert main.main("solve --input out --output again --k 2 --quiet".split()) == 0
print("pandas" in sys.modules)
import pandas, pyarrow
print(len(pyarrow.table({"a": [1, 2]}).to_pandas()), pandas.DataFrame({"a": [1]}).a[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    before, after = done.stdout.splitlines()
    assert after == "2 1", done.stderr
    if tuple(map(int, beam.__version__.split(".")[:2])) >= (2, 77):  # earlier ones need it
        assert before == "False"
