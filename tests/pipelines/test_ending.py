"""How commands end: their code, their children and their temporary files, whatever ends them. Scripts stand in for
commands: all of this is the same for each."""
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

PATIENCE = 60.0
BEGIN = """
import signal, subprocess, sys, threading, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # even under nohup
from beam_coresets.pipelines.running import ending
def child():
    program, before = ending.tied("sleep")
    return subprocess.Popen([program, *before, "600"])
def say(*words):
    print(*words, flush=True)
"""
COMMAND = """
def main():
    with ending.told_by_signals() as signals:
        try:
            with ending.own_folder():
                import tempfile
                tempfile.mkdtemp()
                say(child().pid)
                while True:
                    {wait}
        except KeyboardInterrupt:
            return 128 + signals.number
ending.run_and_leave(main)
"""
WAITS = "time.sleep(600)"
HANGS = """
                    try: time.sleep(600)
                    except BaseException: pass"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="children are tied to their parents on Linux alone")


@pytest.fixture
def started(tmp_path):
    """Starts a script with a temporary directory of its own, `tmp_path`/tmp."""
    (tmp_path / "tmp").mkdir()
    running = []

    def start(text):
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + textwrap.dedent(text)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def child_of(process):
    """The process id that a script says first."""
    line = process.stdout.readline()
    assert line, (process.wait(PATIENCE), process.stderr.read())
    return int(line)


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "tmp").iterdir())


def gone(pid):
    """Whether a process ends, or has; a zombie, which nobody here reaps, has."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_and_its_children(started, tmp_path, number):
    process = started(COMMAND.format(wait=WAITS))
    pid = child_of(process)
    assert len(left(tmp_path)) == 1
    process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    assert gone(pid)
    assert left(tmp_path) == []


@linux
def test_a_signal_ends_a_command_that_hangs(started, tmp_path):
    process = started("ending.PATIENCE = 0.5\n" + COMMAND.format(wait=HANGS))
    pid = child_of(process)
    process.terminate()
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert gone(pid)
    assert left(tmp_path) == []


@linux
def test_a_killed_command_takes_its_children_along_and_the_next_one_tidies_up(started, tmp_path):
    process = started(COMMAND.format(wait=WAITS))
    lives = started(COMMAND.format(wait=WAITS))
    pid = child_of(process)
    child_of(lives)
    process.kill()
    process.wait(PATIENCE)
    assert gone(pid)
    assert len(left(tmp_path)) == 2
    assert started("with ending.own_folder(): pass").wait(PATIENCE) == 0
    assert len(left(tmp_path)) == 1, "the folder of a command that runs stays"


@linux
def test_a_killed_command_takes_its_prism_along(started, tmp_path):
    program = tmp_path / "prism"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nexec sleep 600\n")
    program.chmod(0o755)
    process = started(f"""
        import apache_beam as beam
        from beam_coresets.pipelines.running import launch

        pipeline = beam.Pipeline(argv=["--runner=PrismRunner", "--prism_location={program}"])
        pipeline | beam.Create([1])
        launch.Job(pipeline)
        """)
    until = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(("main", "code"), [
    ("lambda: 0", 0), ("lambda: 2", 2), ("lambda: sys.exit(2)", 2), ("sys.exit", 0), ("lambda: 1 / 0", 1),
])  # fmt: skip
def test_threads_that_go_on_do_not_hold_or_change_the_end(started, main, code):
    process = started(f"""
        threading.Thread(target=time.sleep, args=(600,)).start()
        print("kept", end="")
        ending.run_and_leave({main})
        """)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (code, "kept")
    assert ("ZeroDivisionError" in err) == ("1 / 0" in main)


def test_a_command_within_another_uses_its_folder_and_all_is_as_before(monkeypatch, tmp_path):
    import tempfile

    from beam_coresets.pipelines.running import ending

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    with ending.own_folder():
        outer = tempfile.gettempdir()
        assert os.environ["TMPDIR"] == outer != str(tmp_path)
        with ending.own_folder():
            assert tempfile.gettempdir() == outer
        assert os.path.isdir(outer)
    assert tempfile.gettempdir() == str(tmp_path)
    assert "TMPDIR" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_it_ends_is_not_answered_with_a_stack():
    code = (
        "import atexit, os, signal, time\n"
        "from beam_coresets.pipelines.running.ending import run_and_leave\n"
        "def interrupted():\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.1)\n    print('tidied')\n"
        "atexit.register(interrupted)\n"
        "run_and_leave(lambda: 3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "tidied\n", "")
