"""Streaming jobs for tests: a command in a process group of its own, watched from outside, killed without a trace."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

PATIENCE = 90.0  # seconds; a hang becomes a failure, nothing is measured by it


def last_of_each(words):
    """Words of a command, with the last of each `--name=value`: tests put their own behind what all have."""
    last = {str(word).partition("=")[0]: i for i, word in enumerate(words)}
    return [str(word) for i, word in enumerate(words) if "=" not in str(word) or last[str(word).partition("=")[0]] == i]


class StreamingJob:
    """A running job: the process that launched it and whatever that has started (job server, workers).

    Args:
      command: arguments of this Python, such as ["-m", "beam_coresets.pipelines.main", "stream", ...]; of an option
        that is there twice the last counts.
      folder: gets the output in `log`, and all temporary files of the job.
      environment: variables beside this process's own.
    """

    def __init__(self, command, folder, environment=None):
        self.folder = pathlib.Path(folder)
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True)
        self._log = (self.folder / "log").open("w")
        own = {"TMPDIR": str(scratch), "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={scratch} -Xmx1g"}
        self.process = subprocess.Popen(
            [sys.executable, *last_of_each(command)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **own, **(environment or {})},
            start_new_session=True,
        )

    @property
    def output(self):
        """What the job has printed so far."""
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, condition, what, seconds=PATIENCE):
        """Waits until `condition()` is true and returns its value; fails with the job's last words if it never is."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            ended = self.process.poll() is not None
            assert not ended, f"the job ended with {self.process.returncode} before {what}:\n{self.output[-4000:]}"
            assert time.monotonic() < end, f"{seconds:g} s without {what}:\n{self.output[-4000:]}"
            time.sleep(0.1)
        return found

    def wait(self, seconds=PATIENCE):
        """Waits until the job ends by itself; its exit code."""
        return self.process.wait(seconds)

    def kill(self):
        """Kills all of the job's processes at once, as a power cut would, and waits until they are gone."""
        group = self.process.pid
        if alive(group):
            os.killpg(group, signal.SIGKILL)
        self.process.wait()
        end = time.monotonic() + PATIENCE
        while alive(group):
            assert time.monotonic() < end, f"processes of group {group} outlive SIGKILL"
            time.sleep(0.05)
        self._log.close()


def alive(group):
    """The commands of the processes of a group that run; those that only wait to be reaped do not count."""
    words = ["ps", "-A", "-o", "pgid=,stat=,args="]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = (line.split(maxsplit=2) for line in listed.splitlines())
    return [args[:200] for pgid, state, args in found if int(pgid) == group and not state.startswith("Z")]


def checkpoints_in(folder):
    """The complete checkpoints under a checkpoint folder, oldest first; Flink writes `_metadata` last, by a rename."""
    found = pathlib.Path(folder).glob("*/chk-*/_metadata")
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


@contextlib.contextmanager
def started(folder, options):
    """Starts commands with these options, `start("run 1", [script, ...])`: StreamingJobs, killed in the end."""
    jobs = []

    def start(name, command, environment=None):
        jobs.append(StreamingJob([*command, *options], folder / name, environment))
        return jobs[-1]

    try:
        yield start
    finally:
        for job in jobs:
            job.kill()


def lines_in(path):
    """The JSON values of a file that is being written, one a line; a last line without its end is left out."""
    path = pathlib.Path(path)
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
