"""templates/flink/compose.yaml with processes in network namespaces: a worker is its TaskManager's localhost, all else
goes through the shared folder, and a worker that is paused holds up no window.

Flink is the job server's jar and not the official image; what else is not as in compose, namespaces.py says.
"""
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time

import pytest

pytest.importorskip("confluent_kafka")
import namespaces
from namespaces import Compose

from beam_coresets.table_schemas import in_seconds
from beam_coresets.transforms.writing.stored_tables import read_table

pytestmark = [pytest.mark.flink, pytest.mark.cluster, pytest.mark.namespaces]
HERE = pathlib.Path(__file__).parent
WORKERS = ("worker-1", "worker-2", "worker-3")
WINDOW, SECONDS, PAUSE = 3, 45, 12

ANSWERS = "import socket, sys; socket.create_connection((sys.argv[1], 50000), 2)"
READERS = """
import types
from topics import committed
print(len(committed(types.SimpleNamespace(servers="kafka:9092"), "points", "beam-coresets", 3)))
"""
POINTS = f"""
import json, types
from topics import points_by_window
found = points_by_window(types.SimpleNamespace(servers="kafka:9092"), "points", {WINDOW})
print(json.dumps([[start, points] for (start,), points in found.items()]))
"""


@pytest.fixture(scope="module", autouse=True)
def _possible():
    if why := namespaces.why_not():
        pytest.skip(why)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """An extra package, which must be staged; nobody but the job has it."""
    path = tmp_path_factory.mktemp("package") / "extra.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(__file__, "extra/extra.py")
    return path


@pytest.fixture(scope="module")
def compose(jar, jars, package, tmp_path_factory):
    """compose.yaml's services up to the job, which reads; the producer is not running yet."""
    inside = "/opt/extra.tar.gz"
    variables = {"WINDOW": f"{WINDOW}s", "DEADLINE": f"{WINDOW}s", "DEMO_RATE": "40000", "DEMO_SECONDS": f"{SECONDS}",
                 "MORE_OPTIONS": f"--extra_package={inside}"}  # fmt: skip
    with Compose(jar, jars, tmp_path_factory.mktemp("compose"), {"job": [(package, inside)]}, **variables) as made:
        made.up("job")
        made.wait_for(lambda: python(made, "job", READERS).stdout == "3\n", "all readers")
        yield made


def python(compose, service, code):
    """Runs code beside a service; it may import what tests import."""
    return compose.exec(service, "env", f"PYTHONPATH={HERE.parent}", "python", "-c", code)


def done(process):
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout


def network(process):
    return os.readlink(f"/proc/{process.pid}/ns/net")


def harness(compose, worker):
    """The one Python worker that a pool has started, and its command."""
    (found,) = compose.process(worker).children()
    return found, " ".join(found.cmdline())


def test_each_taskmanager_has_a_worker_of_its_own_as_its_localhost(compose):
    networks = set()
    for name in WORKERS:
        process, command = harness(compose, name)
        manager = compose.process(name.replace("worker", "taskmanager"))
        assert network(process) == network(manager)
        assert re.search(r'SdkHarness\("localhost:\d+"', command), command
        networks.add(network(process))
    assert len(networks) == len(WORKERS)


def test_localhost_is_a_worker_for_taskmanagers_only(compose):
    for name in ("taskmanager-1", "taskmanager-2", "taskmanager-3"):
        done(compose.exec(name, "python", "-c", ANSWERS, "localhost"))
    for name in ("jobmanager", "kafka", "job"):
        assert "refused" in compose.exec(name, "python", "-c", ANSWERS, "localhost").stderr
        done(compose.exec(name, "python", "-c", ANSWERS, "worker-1"))  # as in compose: its network is trusted


def test_only_volumes_are_shared(compose):
    done(compose.exec("job", "sh", "-c", "echo 1 > /tmp/own; echo 1 > /var/tmp/own; echo 1 > /shared/all"))
    for name in ("jobmanager", *WORKERS, "taskmanager-1"):
        done(compose.exec(name, "sh", "-c", "test -e /shared/all && ! test -e /tmp/own && ! test -e /var/tmp/own"))
    assert not pathlib.Path("/var/tmp/own").exists()


def test_every_taskmanager_can_serve_what_is_staged(compose, package):
    """What the worker pool does not ask for, and Beam's boot program would."""
    for name in WORKERS:
        (worker,) = re.findall(r'worker_id="([^"]*)"', harness(compose, name)[1])
        found = json.loads(done(compose.exec(name, "python", HERE / "fetch_artifacts.py", worker)))
        assert found["extra.tar.gz"] == package.stat().st_size
        assert set(found) == {"extra.tar.gz", "extra_packages.txt", "submission_environment_dependencies.txt"}
        assert compose.exec(name, "test", "-e", "/opt/extra.tar.gz").returncode != 0


def summaries(compose):
    """Start -> row; fails if a window has two."""
    folder = compose.volume("output") / "stream"
    rows = in_seconds(read_table(str(folder), "summaries")).to_pylist() if (folder / "summaries").exists() else []
    count = collections.Counter(row["window_start"] for row in rows)
    assert all(n == 1 for n in count.values()), count
    return {row["window_start"]: row for row in rows}


def test_windows_are_whole_while_a_worker_is_paused(compose):
    compose.up("producer")
    compose.wait_for(lambda: len(summaries(compose)) >= 2, "windows")
    before = set(summaries(compose))
    compose.pause("worker-2")
    try:
        compose.wait_for(lambda: _without_one(compose, before), "a window without the paused worker")
        time.sleep(PAUSE)
    finally:
        compose.unpause("worker-2")
    total = int(re.search(r"([\d,]+) points in", compose.ended("producer"))[1].replace(",", ""))
    expected = dict(json.loads(done(python(compose, "job", POINTS))))
    assert sum(expected.values()) == total
    compose.wait_for(lambda: set(expected) <= set(summaries(compose)), "a summary for every window")
    rows = summaries(compose)
    assert all(row["coverage"] == 1 for start, row in rows.items() if start >= min(expected))
    assert {start: row["points"] for start, row in rows.items() if row["points"]} == expected
    assert {s: r["total_weight"] for s, r in rows.items() if r["points"]} == pytest.approx(expected, rel=1e-9)
    assert compose.process("job").is_running()


def _without_one(compose, before):
    """Whether a window with points has been decided since, by the two that are not paused."""
    new = [row for start, row in summaries(compose).items() if start not in before and row["points"]]
    return any(len(row["stragglers"]) == 1 and row["coverage"] == 1 for row in new)


KILLED = """
import os, pathlib, sys
sys.path[:0] = sys.argv[2:]
from namespaces import Network, ip, listed
network = Network(["one"])
network.up()
network.start("one", pathlib.Path(sys.argv[1]), [], ["sleep", "1000"], None)
while not any(ip("netns", "pids", name) for name in listed() if str(os.getpid()) in name):
    pass
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_run_has_left_is_taken_down(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, HERE, HERE.parent])
    assert killed.wait(60) == -9
    assert [name for name in namespaces.listed() if namespaces.owner(name) == killed.pid]
    namespaces.sweep()
    assert not [name for name in namespaces.listed() if namespaces.owner(name) == killed.pid]
