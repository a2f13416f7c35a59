"""What a running Flink cluster says of itself over REST, held against what a job needs before it is submitted."""
import http.client
import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from typing import Any

TIMEOUT = 10.0
POOL = "python -m apache_beam.runners.worker.worker_pool_main --service_port=50000"
_VERSION_FILE = ".flink-runtime.version.properties"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FlinkCluster:
    """A cluster's REST interface.

    Args:
      master: "host:port" or "http://host:port", as --flink_master has it.
    """

    def __init__(self, master: str) -> None:
        self.master = master
        self._base = master.rstrip("/") if "://" in master else f"http://{master}"

    def get(self, path: str) -> Any:
        """The JSON of a path such as "/overview".

        Raises:
          ValueError: nothing answers there, or not Flink.
        """
        return self._ask("GET", path)

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self._base + path, method=method)
        try:
            with _OPENER.open(request, timeout=TIMEOUT) as answer:
                return json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = error.reason if isinstance(error, urllib.error.URLError) else error
            where = f"{self.master!r} ({why})"
            raise ValueError(f"flink_master: must be where a Flink JobManager answers, got {where}") from None

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, as far as its name tells."""
        return _is_loopback(urllib.parse.urlsplit(self._base).hostname or "")

    def require(self, flink_version: str, slots: int, shards: int) -> None:
        """Holds the cluster against the job.

        Args:
          flink_version: of the job server, such as "1.19".
          slots: that the job wants, its parallelism.
          shards: readers of the job.

        Raises:
          ValueError: another version, or too few free slots.
        """
        overview = self.get("/overview")
        theirs = str(overview.get("flink-version", ""))
        if not f"{theirs}.".startswith(f"{flink_version}."):
            raise ValueError(f"flink_version: must be that of the cluster, {theirs}, got {flink_version}")
        free = int(overview["slots-available"])
        if slots > free:
            more = "start TaskManagers, or end other jobs"
            if free:
                more = f"start more TaskManagers, or let {shards} shards share slots with --parallelism={free}"
            raise ValueError(
                f"parallelism: must be at most the {free} free of the cluster's {overview['slots-total']} slots "
                f"({more}), got {slots}"
            )

    @property
    def free_slots(self) -> int:
        """Slots that no job has."""
        return int(self.get("/overview")["slots-available"])

    def job_named(self, name: str) -> str | None:
        """The id of the newest job of that name, None if there is none."""
        jobs = [job for job in self.get("/jobs/overview")["jobs"] if job["name"] == name]
        return str(max(jobs, key=lambda job: job["start-time"])["jid"]) if jobs else None

    def state(self, job: str) -> str:
        """RUNNING, FAILED, ..."""
        return str(self.get(f"/jobs/{job}")["state"])

    def runs(self, job: str, streaming: bool = True) -> bool:
        """Whether a job's tasks run: all of them, or in batch, where they take turns, any; also if it has finished."""
        found = self.get(f"/jobs/{job}")
        if found["state"] == "FINISHED":
            return True
        running = [task["status"] == "RUNNING" for task in found["vertices"]]
        return found["state"] == "RUNNING" and (all(running) if streaming else any(running))

    def failure(self, job: str) -> str:
        """What the job failed with, with the stack; empty if it has not."""
        found = self.get(f"/jobs/{job}/exceptions")
        return str(found.get("root-exception") or "")

    def cancel(self, job: str) -> None:
        """Ends a job; its checkpoints stay."""
        self._ask("PATCH", f"/jobs/{job}?mode=cancel")

    def wait_until_runs(self, name: str, streaming: bool = True, seconds: float = 300.0) -> str:
        """Waits until the tasks of the job of that name run (see `runs`); its id.

        Raises:
          RuntimeError: it failed, with what it failed with, or does not run in time.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            job = self.job_named(name)
            if job is not None and self.runs(job, streaming):
                return job
            if job is not None and self.state(job) in ("FAILED", "FAILING", "CANCELED"):
                raise RuntimeError(self.failure(job) or f"job {job} is {self.state(job)}")
            time.sleep(0.5)
        raise RuntimeError(f"job {name!r} does not run after {seconds:g} s")


def require_jar(jar: str, flink_version: str) -> None:
    """Checks that a job server jar is one, for this version of Flink.

    Raises:
      ValueError: it is not.
    """
    try:
        with zipfile.ZipFile(jar) as held:
            names = set(held.namelist())
            if "org/apache/beam/runners/flink/FlinkJobServerDriver.class" not in names:
                raise ValueError(f"flink_job_server_jar: must be Beam's job server (make job-server), got {jar!r}")
            theirs = _version_in(held, names)
    except zipfile.BadZipFile:
        raise ValueError(f"flink_job_server_jar: must be a jar, got {jar!r}") from None
    if theirs and not f"{theirs}.".startswith(f"{flink_version}."):
        raise ValueError(f"flink_version: must be that of the job server jar, {theirs}, got {flink_version}")


def _version_in(jar: zipfile.ZipFile, names: set[str]) -> str:
    """The version of Flink that a jar carries; empty if it does not say."""
    if _VERSION_FILE not in names:
        return ""
    lines = jar.read(_VERSION_FILE).decode().splitlines()
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("project.version=")), "")


def require_pool(address: str) -> None:
    """Checks that a worker pool on this machine answers.

    Raises:
      ValueError: it does not; pools elsewhere are not asked: they answer their own TaskManager only.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ValueError(f"environment_config: must be HOST:PORT of a worker pool, got {address!r}")
    if not _is_loopback(host):
        return
    try:
        socket.create_connection((host, int(port)), timeout=TIMEOUT).close()
    except OSError as error:
        where = f"{address!r} ({error.strerror or error})"
        raise ValueError(f"environment_config: must be a worker pool that answers ({POOL}), got {where}") from None


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")
