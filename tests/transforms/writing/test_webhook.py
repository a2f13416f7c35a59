"""PostEvents: each window's events are posted once, whatever the other side does, and nothing waits for it."""
import http.server
import json
import threading
import time

import apache_beam as beam
import pytest
from jobs import clusters, parts_of, run, without_beam

from beam_coresets.parameters.plan import Plan
from beam_coresets.results.summary import summary_of_keys
from beam_coresets.streaming.events import Event
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing import webhook
from beam_coresets.transforms.writing.claims import Claims, order_of
from beam_coresets.transforms.writing.webhook import PostEvents, require_url

PLAN = Plan(k=3, shards=3, coreset_size=40)
BORN = Event("born", "Center a appeared with 5 % of the weight.", "a", None, 0.05, 0.04, 0.06)
LOST = Event("coverage_lost", "A quarter is missing.", size=0.25)
WINDOWS = [Window(60.0 * i, 60.0 * (i + 1), "", 1) for i in range(4)]


@pytest.fixture
def claims(tmp_path):
    """Four windows, of which the first and the third have events."""
    found = Claims(str(tmp_path / "out"), wanted=order_of(False, False, True))
    for i, window in enumerate(WINDOWS):
        summary = without_beam(parts_of(clusters(300)), PLAN, window=window)
        told = [("", LOST), ("red", BORN)] if i % 2 == 0 else []
        assert found.publish(summary_of_keys(window, [summary], told=told))
    return found


@pytest.fixture
def server():
    """A server on loopback: `codes` are its next answers (then 200; 0 stands for none at all), `bodies` what came."""
    codes, bodies = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = codes.pop(0) if codes else 200
            if not code:
                return  # hangs up
            if code == 200:
                bodies.append(json.loads(body))
            self.send_response(code)
            if code in (302, 307):
                self.send_header("Location", "/elsewhere")
            if listening.hangs:
                self.send_header("Content-Length", "5")  # and nothing comes
            self.end_headers()
            if listening.hangs:
                time.sleep(0.5)

        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as listening:
        listening.codes, listening.bodies, listening.hangs = codes, bodies, False
        listening.url = f"http://localhost:{listening.server_address[1]}/secret"
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


def post(claims, url, windows=WINDOWS):
    held, result = run(lambda p: {"windows": p | beam.Create(windows) | PostEvents(claims, url)})
    assert {window.name for window in held["windows"]} == {window.name for window in windows}
    return result


def test_a_window_with_events_is_posted_once(claims, server):
    post(claims, server.url)
    post(claims, server.url)
    assert sorted(body["events"][0]["window_start"] for body in server.bodies) == [
        "1970-01-01T00:00:00Z", "1970-01-01T00:02:00Z",
    ]  # fmt: skip
    (first,) = (body for body in server.bodies if body["events"][0]["window_start"] == "1970-01-01T00:00:00Z")
    assert first["text"] == (
        "1970-01-01T00:01:00Z critical: A quarter is missing.\n"
        "1970-01-01T00:01:00Z [red] info: Center a appeared with 5 % of the weight."
    )
    assert [(event["key"], event["kind"], event["size"], event["size_low"]) for event in first["events"]] == [
        ("", "coverage_lost", 0.25, None), ("red", "born", 0.05, 0.04),
    ]  # fmt: skip
    assert [claims.posted(window) for window in WINDOWS] == [True, False, True, False]


def test_what_fails_is_tried_again(claims, server, monkeypatch):
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.01)
    server.codes += [500, 0, 429]
    post(claims, server.url)
    assert len(server.bodies) == 2


def test_redirections_are_no_success(claims, server, monkeypatch, caplog):
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.001)
    server.codes += [302] * webhook.TRIES + [307]
    post(claims, server.url)
    assert "got status 302 from localhost" in caplog.text
    assert len(server.bodies) == 1


def test_an_answer_without_the_body_that_it_speaks_of_is_enough(claims, server, monkeypatch):
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(webhook, "TIMEOUT", 0.2)
    server.hangs = True
    post(claims, server.url)
    assert len(server.bodies) == 2


def test_what_fails_for_good_is_logged_without_the_url_and_told_by_the_next_run(claims, server, monkeypatch, caplog):
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.001)
    server.codes += [503] * webhook.TRIES
    post(claims, server.url)
    assert "got status 503 from localhost for the window" in caplog.text
    assert "secret" not in caplog.text
    assert len(server.bodies) == 1
    post(claims, server.url)
    assert len(server.bodies) == 2


def test_nothing_waits_for_the_other_side(claims, monkeypatch):
    """Nobody listens, and each of the tries would pause for minutes: the windows are through at once."""
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 600.0)
    monkeypatch.setattr(webhook, "AT_THE_END", 0.1)
    poster = webhook._Poster(claims, "http://localhost:1/", "localhost")
    began = time.monotonic()
    assert all(poster.take(window) for window in WINDOWS)
    assert time.monotonic() - began < 60
    poster.end()
    assert not any(claims.posted(window) for window in WINDOWS)


def test_more_than_can_wait_is_counted_and_not_kept(claims, monkeypatch):
    monkeypatch.setattr(webhook, "WAITING", 2)
    monkeypatch.setattr(webhook._Poster, "_run", lambda self: None)
    poster = webhook._Poster(claims, "http://localhost:1/", "localhost")
    assert [poster.take(window) for window in WINDOWS] == [True, True, False, False]


@pytest.mark.parametrize(
    "url", ["", "localhost:80", "ftp://host/", "http://", "file:///etc/passwd", "http://[::1", "http://h:x"]
)
def test_other_urls_are_refused_and_not_shown(url):
    with pytest.raises(ValueError, match="events_webhook: must be an http or https URL"):
        require_url(url)
    assert require_url("https://hooks.example/secret?token=1") == "hooks.example"
    assert "secret" not in str(PostEvents(Claims("out"), "https://hooks.example/secret").display_data())
