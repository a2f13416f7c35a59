"""Samples of the trials, so that their scripts go on to work, and what they take an end for."""
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from forks import RAISED, Fork


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ("two_at_once.py", "--pairs", "2", "assign", "solve over k"),
    ("killed_runs.py", "--runs", "4", "solve", "rollup"),
    ("error_exits.py", "--runs", "1", "summarize, bad rows of CSV", "solve", "plan"),
])  # fmt: skip
def test_a_sample_goes_well(words, tmp_path):
    script = pathlib.Path(__file__).parent / words[0]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, script, *words[1:]], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| 0 bad |") >= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("work", "code"), [
    (lambda: 0, 0), (lambda: None, 0), (lambda: 2, 2), (lambda: sys.exit("no"), 1), (lambda: 1 / 0, RAISED),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL), (lambda: time.sleep(600), -signal.SIGALRM),
])  # fmt: skip
def test_ends_are_told_apart(work, code, tmp_path):
    hangs = code == -signal.SIGALRM
    run = Fork(work, tmp_path)
    assert run.wait(0.5 if hangs else 60) == code
    assert ("ZeroDivisionError" in run.err) == (code == RAISED)


def test_a_killed_fork_is_over(tmp_path):
    run = Fork(lambda: print("begun", flush=True) or time.sleep(600), tmp_path)
    try:
        until = time.monotonic() + 60
        while "begun" not in run.out and time.monotonic() < until:
            time.sleep(0.01)
        assert not run.over
    finally:
        run.kill()
        assert run.wait(60) == -signal.SIGKILL
