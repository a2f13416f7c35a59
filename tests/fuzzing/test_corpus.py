"""What fuzzing has found stays found: `corpus.py` in a process of its own, which has bounds and may end by a signal."""
import pathlib
import subprocess
import sys


def test_every_kept_input_ends_well():
    corpus = pathlib.Path(__file__).with_name("corpus.py")
    run = subprocess.run([sys.executable, "-W", "ignore", corpus], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert ", 0 findings" in run.stdout
