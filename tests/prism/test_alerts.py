"""A real Prometheus scrapes `watch` of a real stream while a shard is held: the alert fires, and stops."""
import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = pytest.mark.prism
MONITORING = pathlib.Path(__file__).parents[2] / "templates" / "monitoring"
STREAM = [  # times that a busy machine keeps to; at the cap a window is decided though its reports come from a backlog
    "-m", "beam_coresets", "stream", "--rate", "1000", "--dim", "4", "--k", "5", "--shards", "3", "--replication", "1",
    "--window", "5s", "--deadline", "10s", "--cap", "10s", "--hold-shards", "2:+5s:60s",
]  # fmt: skip


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running(command, **more):
    process = subprocess.Popen([str(word) for word in command], **more)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def ask(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_an_alert_fires_when_coverage_falls_and_stops_when_it_is_back(on_prism, tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("needs Prometheus (Debian: prometheus): run `make test-pages`")
    out, port = tmp_path / "out", free_port()
    watch = [sys.executable, "-m", "beam_coresets", "watch", out, "--port", "0"]
    with running(watch, stdout=subprocess.PIPE, text=True) as page:
        address = re.search(r"http://([^/]+)/", page.stdout.readline())[1]
        config = (MONITORING / "prometheus.yaml").read_text().replace("127.0.0.1:8080", address)
        assert address in config
        (tmp_path / "prometheus.yaml").write_text(config)
        shutil.copy(MONITORING / "alerts.yaml", tmp_path)
        prometheus = ["prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/tsdb",
                      f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
        with running(prometheus):
            job = on_prism("stream", [*STREAM, f"--output={out}"])

            def metric(name):
                found = re.search(rf"^beam_coresets_{name} (\S+)$", ask(f"http://{address}/metrics"), re.M)
                return 0.0 if found is None else float(found[1])

            def firing():
                with contextlib.suppress(OSError):
                    alerts = json.loads(ask(f"http://127.0.0.1:{port}/api/v1/alerts"))["data"]["alerts"]
                    return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}
                return set()

            job.wait_for(lambda: metric(r'windows_total\{state="whole"\}') > 0, "a whole window", 240)
            job.wait_for(lambda: metric(r'windows_total\{state="incomplete"\}') > 0, "a window without a shard", 180)
            fell = time.monotonic()
            job.wait_for(lambda: "BeamCoresetsCoverageLost" in firing(), "the alert")
            print(f"the alert fired {time.monotonic() - fell:.1f} s after coverage fell")
            job.wait_for(lambda: metric("coverage") == 1.0, "whole windows again", 180)
            back = time.monotonic()
            job.wait_for(lambda: "BeamCoresetsCoverageLost" not in firing(), "the alert's end", 240)
            print(f"the alert stopped {time.monotonic() - back:.1f} s after coverage was back")
