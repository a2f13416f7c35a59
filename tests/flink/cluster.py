"""A real Flink cluster on loopback: a JobManager, TaskManagers of one slot each, and a worker pool that gives each of
them a Python worker process of its own. The job server's jar is all that it takes."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
from broker import free_ports

OPENS = [
    "lang", "util", "net", "io", "nio", "lang.reflect", "text", "time", "util.concurrent", "util.concurrent.atomic",
]  # fmt: skip
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
PATIENCE = 90.0

CONFIG = """
jobmanager: {{rpc: {{address: 127.0.0.1, port: {rpc}}}, bind-host: 127.0.0.1, memory: {{process: {{size: 900m}}}}}}
rest: {{address: 127.0.0.1, bind-address: 127.0.0.1, port: {rest}}}
blob: {{server: {{port: "0"}}}}
heartbeat: {{interval: 2000, timeout: 20000}}
parallelism: {{default: 1}}
classloader: {{resolve-order: parent-first}}
state: {{checkpoints: {{dir: "file://{folder}/checkpoints"}}, savepoints: {{dir: "file://{folder}/savepoints"}}}}
io: {{tmp: {{dirs: {folder}/tmp}}}}
taskmanager:
  host: 127.0.0.1
  bind-host: 127.0.0.1
  numberOfTaskSlots: {slots}
  resource-id: {name}
  cpu: {{cores: 1.0}}
  network: {{memory: {{max-buffers-per-channel: 400, floating-buffers-per-gate: 200}}}}
  memory:
    task: {{heap: {{size: 384m}}, off-heap: {{size: 0b}}}}
    managed: {{size: 64m}}
    network: {{min: 192m, max: 192m}}
    framework: {{heap: {{size: 128m}}, off-heap: {{size: 128m}}}}
    jvm-metaspace: {{size: 256m}}
    jvm-overhead: {{min: 192m, max: 192m}}
"""


class Cluster:
    """Processes by name: "jobmanager", "tm0", "tm1", ..., "pool". Not running before `start`; `close` ends them all.

    Args:
      jar: the Flink job server.
      folder: for configuration, logs, checkpoints.
      taskmanagers: how many, with a slot each.
      python: of the worker pool.
    """

    def __init__(self, jar, folder, taskmanagers=3, python=sys.executable):
        self._jar, self.folder, self.taskmanagers = jar, pathlib.Path(folder), taskmanagers
        self._python = python
        self._rpc, self._rest, self._pool = free_ports(3)
        self._processes = {}

    @property
    def master(self):
        return f"127.0.0.1:{self._rest}"

    @property
    def pool(self):
        """Where the worker pool answers, as its TaskManagers see it."""
        return f"localhost:{self._pool}"

    @property
    def options(self):
        """What a job must be given to run here."""
        return ["--runner=FlinkRunner", f"--flink_job_server_jar={self._jar}", "--flink_version=1.19",
                f"--flink_master={self.master}", "--environment_type=EXTERNAL",
                f"--environment_config={self.pool}"]  # fmt: skip

    def start(self):
        """Returns when all slots are there."""
        for name in ("log", "tmp", "conf", "checkpoints"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.start_jobmanager()
        for i in range(self.taskmanagers):
            self.start_taskmanager(i)
        self.start_pool()
        self.wait_for(self.has_all_slots, "all slots")
        self.wait_for(lambda: _answers(self._pool), "the worker pool")

    def start_jobmanager(self):
        self._start_java("jobmanager", JOB_MANAGER, "-Xmx512m")

    def start_taskmanager(self, i):
        self._start_java(f"tm{i}", TASK_MANAGER, "-Xms512m", "-Xmx512m")

    def start_pool(self):
        command = [self._python, pathlib.Path(__file__).with_name("worker_pool.py"), self._pool]
        path = f"{pathlib.Path(self._python).parent}{os.pathsep}{os.environ['PATH']}"
        self._start("pool", command, {"PATH": path})

    def kill(self, name):
        """SIGKILL, as a machine that goes down; a pool's workers go with it."""
        process = self._processes[name]
        if name == "pool":
            for worker in self._children():
                worker.kill()
        process.kill()
        process.wait(30)

    def close(self):
        for name in sorted(self._processes):
            self.kill(name)
        psutil.wait_procs(self._children(), 10)

    def workers(self):
        """TaskManager -> its Python worker, psutil's Process; those that run now."""
        ports = {}
        for i in range(self.taskmanagers):
            process = self._processes.get(f"tm{i}")
            if process is not None and process.poll() is None:
                for one in psutil.Process(process.pid).net_connections("tcp"):
                    if one.status == psutil.CONN_LISTEN:
                        ports[one.laddr.port] = i
        found = {}
        for worker in self._children():
            control = re.search(r'SdkHarness\("[^"]*:(\d+)"', " ".join(worker.cmdline()))
            if control and int(control[1]) in ports:
                found[ports[int(control[1])]] = worker
        return found

    def worker_of(self, job):
        """Subtask -> its Python worker: shard i reads on subtask i modulo the parallelism."""
        at = self.taskmanager_of(job)
        workers = self.workers()
        return {subtask: workers[i] for subtask, i in at.items() if i in workers}

    def taskmanager_of(self, job):
        """Subtask -> the number of the TaskManager that runs it; fails if a subtask's tasks are on several."""
        found = {}
        for vertex in self.get(f"/jobs/{job}")["vertices"]:
            if vertex["status"] != "RUNNING":
                continue
            for one in self.get(f"/jobs/{job}/vertices/{vertex['id']}")["subtasks"]:
                found.setdefault(one["subtask"], set()).add(int(one["taskmanager-id"].removeprefix("tm")))
        assert all(len(managers) == 1 for managers in found.values()), found
        return {subtask: managers.pop() for subtask, managers in found.items()}

    def jobs(self):
        """The ids of running jobs, newest first."""
        jobs = [job for job in self.get("/jobs/overview")["jobs"] if job["state"] == "RUNNING"]
        return [job["jid"] for job in sorted(jobs, key=lambda job: -job["start-time"])]

    def running_job(self):
        """Waits until there is a job all of whose tasks run; its id."""

        def found():
            for job in self.jobs():
                vertices = self.get(f"/jobs/{job}")["vertices"]
                if vertices and all(vertex["status"] == "RUNNING" for vertex in vertices):
                    return job
            return None

        return self.wait_for(found, "a running job")

    def cancel(self, job):
        self._ask("PATCH", f"/jobs/{job}?mode=cancel")
        self.wait_for(lambda: job not in self.jobs(), "the job's end")

    def savepoint(self, job):
        """Stops the job with a savepoint; where that is."""
        trigger = self._ask("POST", f"/jobs/{job}/stop", {"drain": False})["request-id"]

        def done():
            status = self.get(f"/jobs/{job}/savepoints/{trigger}")
            return status["operation"] if status["status"]["id"] == "COMPLETED" else None

        operation = self.wait_for(done, "the savepoint")
        assert "location" in operation, operation
        return operation["location"]

    def metrics(self, job, part):
        """(vertex name, subtask) -> {metric: value} of those whose name has `part` in it."""
        found = {}
        for vertex in self.get(f"/jobs/{job}")["vertices"]:
            for subtask in range(vertex["parallelism"]):
                path = f"/jobs/{job}/vertices/{vertex['id']}/subtasks/{subtask}/metrics"
                names = [one["id"] for one in self.get(path) if part in one["id"]]
                for name in names:
                    for one in self.get(f"{path}?get={urllib.request.quote(name)}"):
                        found.setdefault((vertex["name"], subtask), {})[one["id"]] = one["value"]
        return found

    def get(self, path):
        """The JSON at a path of the REST interface."""
        return self._ask("GET", path)

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.master}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=15) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def has_all_slots(self):
        """Whether a JobManager has all slots free."""
        try:
            return self.get("/overview")["slots-available"] == self.taskmanagers
        except OSError:
            return False

    def wait_for(self, condition, what, seconds=PATIENCE):
        """Waits until `condition()` is true and returns its value."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"{seconds:g} s without {what}; logs in {self.folder / 'log'}"
            time.sleep(0.1)
        return found

    def log(self, name):
        return (self.folder / "log" / name).read_text(errors="replace")

    def _children(self):
        pool = self._processes.get("pool")
        if pool is None or pool.poll() is not None:
            return []
        return psutil.Process(pool.pid).children()

    def _start_java(self, name, main, *memory):
        folder = self.folder / "conf" / name
        folder.mkdir(exist_ok=True)
        config = CONFIG.format(rpc=self._rpc, rest=self._rest, folder=self.folder, name=name, slots=1)
        (folder / "config.yaml").write_text(config)
        opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENS]
        self._start(name, ["java", *memory, *opens, "-cp", self._jar, main, "-c", folder], {})

    def _start(self, name, command, environment):
        with (self.folder / "log" / name).open("a") as log:
            self._processes[name] = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip


def _answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def stop(process):
    """As a worker that stands still."""
    process.send_signal(signal.SIGSTOP)


def go_on(process):
    process.send_signal(signal.SIGCONT)
