"""The words of the command line, and the ways to say them."""
import pathlib
import subprocess
import sys

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
