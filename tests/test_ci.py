""".ci/run: stages one after the other, what they print in between, and the name of the one that failed at the end."""
import os
import pathlib
import re
import subprocess

RUN = pathlib.Path(__file__).parents[1] / ".ci" / "run"


def stages(tmp_path, failing="none", *targets):
    """Runs it with a `make` that only says its target, and fails at one; the exit code and its lines."""
    for name, text in (("make", f'echo "made $1, 3 passed"; [ "$1" != {failing} ]'),
                       *((program, "") for program in ("ip", "chromium", "promtool"))):  # fmt: skip
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run([RUN, *targets], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_every_stage_says_its_name_and_seconds(tmp_path):
    code, lines = stages(tmp_path)
    assert code == 0
    assert lines[:3] == ["== stage: lint and types", "made lint, 3 passed", "== stage: lint and types (0 s)"]
    made = [line.split()[1].rstrip(",") for line in lines if line.startswith("made")]
    assert len(made) == len(lines) / 3 == 11
    assert made[:3] == ["lint", "test-fast", "docs"]
    makefile = (RUN.parents[1] / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in made)


def test_a_failure_ends_the_run_with_the_stages_name(tmp_path):
    code, lines = stages(tmp_path, "test-fast")
    assert code == 1
    assert lines[-2:] == ["made test-fast, 3 passed", "== stage failed: fast tests (make test-fast, 0 s)"]
    assert not any("test-lowest" in line for line in lines)


def test_single_stages_are_asked_for_by_target(tmp_path):
    code, lines = stages(tmp_path, "none", "prism")
    assert code == 0
    assert [line for line in lines if line.startswith("made")] == ["made prism, 3 passed"]
