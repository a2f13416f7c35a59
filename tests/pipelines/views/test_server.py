"""The live page as a program: what it answers, whom, and that it follows."""
import concurrent.futures
import contextlib
import gzip
import http.client
import json
import re
import shutil
import socket
import struct
import subprocess
import time

import pytest
from windows_written import DAY, MINUTE, answer, minute, write, write_keys, write_minutes

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.views.history import History
from beam_coresets.pipelines.views.newest import Asked
from beam_coresets.pipelines.views.server import SILENCE, LiveFolder, LiveServer, is_loopback

PATHS = ("/", "/contents.json", "/metrics", "/healthz", "/api/latest")


@contextlib.contextmanager
def serving(folder, token=None, most=100):
    import threading

    live = LiveFolder(str(folder), most, Asked())
    with LiveServer(live, port=0, token=token) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield live, server
        finally:
            live.stop()
            server.shutdown()
            thread.join()


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.request(method, path, headers=headers)
    answered = connection.getresponse()
    body = answered.read()
    connection.close()
    return answered.status, body, dict(answered.getheaders())


def values(server, name):
    text = ask(server, "/metrics")[1].decode()
    found = re.findall(rf"^beam_coresets_{name}((?:{{.*}})?) (\S+)$", text, re.M)
    return {labels: float(value) for labels, value in found}


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        write(tmp_path / "out", answer(minute(i), i, missing=(1, 2) if i == 2 else (1,) if i == 3 else ()))
    return tmp_path / "out"


def test_what_is_asked_for_is_answered(folder):
    with serving(folder) as (live, server):
        live.look()
        assert [ask(server, path)[0] for path in PATHS] == [200] * 5
        status, page, headers = ask(server, "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"connect-src 'self'" in page
        contents = json.loads(gzip.decompress(ask(server, "/contents.json")[1]))
        assert len(contents["windows"]["end"]) == 4
        latest = json.loads(ask(server, "/api/latest")[1])
        assert latest["columns"] == ["x", "y", "z"]
        assert latest["summaries"][0]["window_end"] == "2026-11-21T00:04:00+00:00"
        assert [sorted(each)[-3:] for each in latest["centers"]] == [["x", "y", "z"]] * 3
        assert json.loads(ask(server, "/healthz")[1]) == {"ok": True, "problem": None, "version": 1}
        assert ask(server, "/nothing")[0] == 404
        assert ask(server, "/metrics", "HEAD")[:2] == (200, b"")
        assert ask(server, "/metrics", "POST")[0] == 501


def test_a_newest_window_without_rows_is_answered_too(folder):
    write(folder, answer(minute(4), 4, columns=None, rows=0))
    with serving(folder) as (live, server):
        live.look()
        assert [ask(server, path)[0] for path in PATHS] == [200] * 5
        latest = json.loads(ask(server, "/api/latest")[1])
        assert (latest["summaries"][0]["points"], latest["summaries"][0]["cost"], latest["centers"]) == (0, None, [])


def test_metrics_are_those_of_the_tables(folder):
    with serving(folder) as (live, server):
        live.look()
        assert values(server, "windows_total") == {
            '{state="whole"}': 3, '{state="incomplete"}': 1, '{state="degraded"}': 0, '{state="revised"}': 0,
        }  # fmt: skip
        assert values(server, "coverage") == {"": 1.0}
        assert values(server, "answered") == {"": 3}
        assert values(server, "missing_windows") == {f'{{shard="{s}"}}': n for s, n in enumerate([0, 2, 0, 0])}
        assert values(server, "window_end_seconds") == {"": DAY + 4 * MINUTE}
        assert values(server, "lag_seconds") == {"": 2.0}
        row = answer(minute(3), 3, missing=(1,)).summaries.to_pylist()[0]
        assert values(server, "cost") == {'{key=""}': pytest.approx(row["cost"])}
        assert values(server, "rows") == {"": 400}


def test_counters_are_there_before_they_count(folder):
    """Prometheus sees no increase in what begins with its first count."""
    for path, looks in ((folder, True), (folder.parent / "later", False)):
        with serving(path) as (live, server):
            if looks:
                live.look()
            found = {**values(server, "late_rows_total"), **values(server, "dead_letters_total")}
            assert {f'{{reason="{reason}"}}' for reason in ("late", "expired", "null", "zero vector")} <= found.keys()
            assert set(found.values()) == {0}


def test_keys_are_labels_and_odd_ones_are_escaped(tmp_path):
    write_keys(tmp_path, minute(0), {'a"b\\c\nd': 1, "plain": 2})
    with serving(tmp_path) as (live, server):
        live.look()
        assert set(values(server, "weight")) == {'{key="a\\"b\\\\c\\nd"}', '{key="plain"}'}


def test_prometheus_own_tool_takes_them(folder):
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian: prometheus)")
    with serving(folder) as (live, server):
        live.look()
        text = ask(server, "/metrics")[1]
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path):
    with serving(tmp_path / "out") as (live, server):
        live.look()
        assert ask(server, "/")[0] == 200
        assert ask(server, "/contents.json")[:2] == (503, f"waiting for the first window in {tmp_path}/out".encode())
        assert ask(server, "/api/latest")[0] == 503
        assert json.loads(ask(server, "/healthz")[1])["ok"] is False
        assert values(server, "windows_total")['{state="whole"}'] == 0
        write_minutes(tmp_path / "out", [0])
        live.look()
        assert ask(server, "/contents.json")[0] == 200
        assert values(server, "windows_total")['{state="whole"}'] == 1


def test_a_change_is_told_to_whoever_waits(folder):
    with serving(folder) as (live, server):
        live.look()
        live.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
        connection.request("GET", "/changes")
        stream = connection.getresponse()
        assert stream.getheader("Content-Type") == "text/event-stream"
        time.sleep(0.3)  # the page waits from here on
        write_minutes(folder, [4])
        assert stream.readline() == b"event: change\n"
        assert stream.readline() == b"data: 2\n"
        connection.close()
        assert values(server, "window_end_seconds") == {"": DAY + 5 * MINUTE}


def test_a_folder_that_is_removed_and_comes_again_is_shown_again(folder):
    with serving(folder) as (live, server):
        live.look()
        shutil.rmtree(folder)
        live.look()
        assert json.loads(ask(server, "/healthz")[1])["problem"] == f"waiting for the first window in {folder}"
        write_minutes(folder, [7])
        live.look()
        contents = json.loads(gzip.decompress(ask(server, "/contents.json")[1]))
        assert contents["windows"]["start"] == [round((DAY + 7 * MINUTE) * 1000)]


def test_names_that_lead_here_from_elsewhere_are_refused(folder):
    """A site may make its own name lead to this machine (DNS rebinding): without a token our names are answered."""
    with serving(folder) as (live, server):
        live.look()
        for path in (*PATHS, "/changes"):
            assert ask(server, path, Host="evil.example")[:2] == (403, b"Forbidden")
        for name in ("localhost", "127.0.0.1:8080", "[::1]:80"):
            assert ask(server, "/healthz", Host=name)[0] == 200


def test_a_token_has_to_be_given(folder):
    with serving(folder, token="secret-secret") as (live, server):
        live.look()
        for path in (*PATHS, "/changes"):
            assert ask(server, path)[0] == 401
            assert ask(server, f"{path}?token=secret-secreT")[0] == 401
        for path in PATHS:
            assert ask(server, f"{path}?token=secret-secret", Host="watch.example")[0] == 200
            assert ask(server, path, Authorization="Bearer secret-secret")[0] == 200
        assert server.address.endswith("/?token=secret-secret")


@pytest.mark.parametrize(("host", "own"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
    ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False),
])  # fmt: skip
def test_only_this_machine_needs_no_token(host, own, tmp_path):
    assert is_loopback(host) is own
    if not own:
        with pytest.raises(ValueError, match="token: must be given where others than this machine can ask"):
            LiveServer(LiveFolder(str(tmp_path), 10, Asked()), host, 0)


def test_a_port_in_use_is_named(folder, capsys):
    with serving(folder) as (_, server):
        port = str(server.server_address[1])
        assert main(["watch", str(folder), "--port", port]) == 2
    assert f"port: must be free on 127.0.0.1, got {port}" in capsys.readouterr().err
    assert main(["watch", str(folder), "--port", "70000"]) == 2
    assert main(["watch", str(folder), "--token", "a b"]) == 2
    assert "token: must be 8 letters" in capsys.readouterr().err


@pytest.mark.parametrize("gone", [True, False])
def test_a_folder_that_comes_again_with_windows_of_the_same_names_is_read_again(folder, gone):
    with serving(folder) as (live, server):
        live.look()
        before = values(server, "cost")
        folder.rename(folder.with_name("old"))
        if gone:
            assert ask(server, "/contents.json")[0] == 503, "one answer, whatever happens to the folder"
            live.look()
            assert ask(server, "/contents.json")[:2] == (503, f"waiting for the first window in {folder}".encode())
            assert ask(server, "/api/latest")[0] == 503
        for i in range(4):
            write(folder, answer(minute(i), i + 20))
        live.look()
        contents = json.loads(gzip.decompress(ask(server, "/contents.json")[1]))
        costs = [answer(minute(i), i + 20).answers[0].row["cost"] for i in range(4)]
        assert contents["series"][0]["cost"] == pytest.approx(costs, rel=1e-4)
        assert values(server, "cost") != before


def test_a_page_goes_on_looking_whatever_it_has_found(folder, monkeypatch):
    with serving(folder) as (live, server):
        with monkeypatch.context() as broken:
            broken.setattr(History, "refresh", lambda self: {}["nobody knew"])
            live.look()
            health = json.loads(ask(server, "/healthz")[1])
            assert (health["ok"], health["problem"]) == (False, "KeyError: 'nobody knew'")
        live.look()
        assert json.loads(ask(server, "/healthz")[1])["ok"]
        with monkeypatch.context() as broken:
            broken.setattr(History, "windows", lambda self: {}["nobody knew"])
            assert ask(server, "/contents.json")[:2] == (503, b"KeyError: 'nobody knew'")


def test_only_the_head_of_changes_is_given_where_only_that_is_asked_for(folder):
    with serving(folder) as (live, server), socket.create_connection(server.server_address[:2], timeout=30) as asking:
        live.look()
        asking.sendall(b"HEAD /changes HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found = b"".join(iter(lambda: asking.recv(4096), b""))
        assert found.startswith(b"HTTP/1.1 200 ")
        assert found.endswith(b"\r\n\r\n")
        assert found.count(b"\r\n\r\n") == 1


def test_each_own_address_is_a_name_and_none_is_a_bad_one(folder):
    with serving(folder) as (live, server):
        live.look()
        for name in ("127.0.0.2", "127.0.0.2:80", "LOCALHOST"):
            assert ask(server, "/healthz", Host=name)[0] == 200
        assert ask(server, "/healthz", Host="[")[:2] == (400, b"Bad Request")
        assert ask(server, "/healthz", Host="")[0] == 403


def test_fifty_at_once_are_answered_at_once(folder):
    """None has to come again, which takes a second, as too many have come before it."""
    with serving(folder) as (live, server):
        live.look()
        assert server.request_queue_size >= 50
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            assert {each[0] for each in pool.map(lambda _: ask(server, "/healthz"), range(50))} == {200}


@contextlib.contextmanager
def waiting(server):
    """A page that waits for changes."""
    with socket.create_connection(server.server_address[:2], timeout=60) as asking:
        asking.sendall(b"GET /changes HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert asking.recv(4096).startswith(b"HTTP/1.1 200 ")
        yield asking


def until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never was")


def test_a_page_that_has_left_waits_no_more(folder, monkeypatch):
    """Long before anything is sent to it that would find it out."""
    monkeypatch.setattr("beam_coresets.pipelines.views.server.BEAT", 1e9)
    with serving(folder) as (live, server):
        live.look()
        with waiting(server), waiting(server) as reset:
            until(lambda: len(server.waiting) == 2)
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing breaks it off
        until(lambda: len(server.waiting) == 0)


def test_of_too_many_that_wait_the_longest_comes_again(folder, monkeypatch):
    monkeypatch.setattr("beam_coresets.pipelines.views.server.MOST_WAITING", 2)
    monkeypatch.setattr("beam_coresets.pipelines.views.server.BEAT", 1e9)
    with serving(folder) as (live, server):
        live.look()
        with waiting(server) as longest, waiting(server) as second, waiting(server) as third:
            rest = b"".join(iter(lambda: longest.recv(4096), b""))
            assert b"event: change" not in rest
            assert len(server.waiting) == 2
            write_minutes(folder, [4])
            live.look()
            for each in (second, third):
                assert b"".join(iter(lambda each=each: each.recv(1), b"\n")) == b"event: change"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs Linux")
def test_a_machine_that_is_gone_is_found_out(folder, monkeypatch):
    """What it does not receive ends the connection."""
    taken, take = [], LiveServer.get_request
    monkeypatch.setattr(LiveServer, "get_request", lambda self: taken.append(take(self)) or taken[-1])
    with serving(folder) as (_, server), waiting(server):
        assert taken[0][0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENCE


@pytest.mark.parametrize("path", ["/metrics", "/api/latest", "/contents.json"])
def test_an_answer_is_made_once_until_something_has_come(folder, monkeypatch, path):
    made, rows = [], History.rows
    monkeypatch.setattr(History, "rows", lambda self: made.append(1) or rows(self))
    with serving(folder) as (live, server):
        live.look()
        first = ask(server, path)[1]
        assert ask(server, path)[1] == first
        live.look()
        assert ask(server, path)[1] == first
        assert len(made) == 1
        write_minutes(folder, [4])
        live.look()
        assert ask(server, path)[1] != first
        assert len(made) == 2
