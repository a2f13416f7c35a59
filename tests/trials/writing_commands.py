"""Commands that write, each on two small sets of data, and what they leave when nothing disturbs them."""
import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

sys.path += [str(pathlib.Path(__file__).parents[1] / name) for name in ("", "pairs")]  # where it is run as a script

import numpy as np
import streams_in_process
from forks import Fork, typed

from beam_coresets.pipelines.main import main
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.stored_tables import read_table

BATCH = ("summarize", "summarize --shard-readers", "assign", "solve", "solve over k", "rollup")
STREAM, FILE = "stream", "verify --csv"
_ROWS = (200, 150)


@contextlib.contextmanager
def scratch(prefix):
    """A new folder; forks that end as commands do leave it (they would call exit functions that remove it)."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def temporary_in(folder):
    """A new temporary directory of commands in this process and its forks."""
    temporary = folder / "temporary"
    temporary.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    return temporary


class Trials:
    """A folder with the data, results of them, and a temporary directory; this process is warm after that.

    Attributes:
      temporary: the commands' temporary directory.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.temporary = temporary_in(self.folder)
        atomic_files._ABANDONED = -1.0  # remains are removed at once, not when they are a minute old
        streams_in_process.begin()  # the topic's messages are the same in every fork
        for i, rows in enumerate(_ROWS):
            np.save(self.folder / f"{i}.npy", np.random.default_rng(i).normal(size=(rows, 2)) * [1, 10**i])
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            for i in range(len(_ROWS)):
                assert main(self.words("summarize", i, self.folder / f"in{i}")) == 0
            for command in ("solve", FILE):
                assert main(self.words(command, 0, self.folder / command)) == 0

    def words(self, command, i, output, *more):
        """A command on data i, to be typed."""
        data, result = self.folder / f"{i}.npy", self.folder / f"in{i}"
        small = ["--k", "2", "--shards", "2"]
        summarize = ["summarize", "--input", data, *small, "--replication", "1", "--coreset-size", "30"]
        topic = ["--topic", "points", "--bootstrap-servers", "nowhere:1", "--start", "earliest", "--columns", "x,y"]
        known = {
            "summarize": [*summarize, "--scale", "standard"],
            "summarize --shard-readers": [*summarize, "--shard-readers"],
            "assign": ["assign", "--input", data, "--centers", result],
            "solve": ["solve", "--input", result, "--k", "3"],
            "solve over k": ["solve", "--input", result, "--k", f"2:{3 + i}"],
            "rollup": ["rollup", "--input", result],
            STREAM: ["stream", *topic, *small, "--parts", "2", "--window", "2s", "--duration", "60s"],
            FILE: ["verify", "--input", data, "--coreset", result],
        }
        return [str(word) for word in (*known[command], "--csv" if command == FILE else "--output", output, *more)]

    def run(self, command, i, output, *more):
        """A fork that runs it; what it prints goes to a folder beside the output."""

        def work():
            if command == STREAM:
                streams_in_process.install()
            return typed(self.words(command, i, output, *more))()

        return Fork(work, f"{output}-{i}-said")

    def undisturbed(self, command):
        """For each set of data, what stands in an output folder."""
        found = []
        for i in range(len(_ROWS)):
            output = self.folder / f"{command}-{i}"
            fork = self.run(command, i, output)
            assert fork.wait() == 0, fork.err
            assert str(output) in fork.out or command == FILE, "says where its result is"
            found.append(standing(command, output))
        assert command == STREAM or found[0] != found[1]
        return found


def standing(command, output):
    """What a command has left, to be compared: contents of files and names of the traces beside them; of a stream the
    points of each window, as its other numbers are times."""
    if command == FILE:
        return output.read_bytes()
    if command == STREAM:
        rows = read_table(str(output), "summaries").to_pylist()
        return sorted((row["window_start"], row["key"], row["revision"], row["points"]) for row in rows)
    traces = ("run.end" if name.endswith(".end") else name for name in files_in(output) if hidden(name))
    return result_in(output), sorted(traces)


def result_in(output):
    """Name -> content of the files of a result."""
    return {name: (output / name).read_bytes() for name in files_in(output) if not hidden(name)}


def files_in(folder):
    """The names of all files below a folder."""
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)


def hidden(name):
    """Whether a file is a trace: claims, records of runs, what is not yet in its place."""
    return any(part.startswith(".") for part in pathlib.PurePath(name).parts)
