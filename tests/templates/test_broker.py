"""A second broker on the same ports or data is refused before it touches anything."""
import fcntl
import runpy
import socket

import pytest

BROKER = runpy.run_path("templates/kafka/broker/run.py")


@pytest.fixture
def properties(tmp_path):
    """Settings with a free port, and that port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path / "server.properties"
    path.write_text(f"# settings\nlisteners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={tmp_path}/kafka/data\n")
    return str(path), port


def test_a_port_in_use(properties, tmp_path, capsys):
    path, port = properties
    with socket.create_server(("127.0.0.1", port)):
        assert BROKER["main"]("no-jars", path) == 1
    assert f"error: listeners: must have port {port} free, got it taken" in capsys.readouterr().err
    assert not (tmp_path / "kafka" / "data").exists()


def test_data_that_a_broker_has_or_is_about_to_format(properties, tmp_path, capsys):
    path, _ = properties
    data = tmp_path / "kafka" / "data"
    data.parent.mkdir()
    with open(f"{data}.lock", "w") as lock:  # as the one that has begun
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert BROKER["main"]("no-jars", path) == 1
    assert f"error: log.dirs: must be no running broker's, got {data}" in capsys.readouterr().err
    assert not data.exists()
    BROKER["require_free"](data, BROKER["settings"](path)["listeners"])
