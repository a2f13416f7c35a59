"""PostEvents: the events of claimed decisions to a URL, without holding up anything."""
import json
import logging
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection

from beam_coresets import tables
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing.claims import Claims

TRIES = 6
FIRST_PAUSE = 1.0  # seconds; doubled with each further try
TIMEOUT = 10.0  # seconds, of one try
WAITING = 1_000  # windows; what comes while so many wait is not posted
AT_THE_END = 15.0  # seconds for what is left when a worker ends
_LOG = logging.getLogger(__name__)


@beam.typehints.with_input_types(Window)
@beam.typehints.with_output_types(Window)
class PostEvents(beam.PTransform):
    """Decided Windows -> the same; those of which there is something to tell are told with one POST each.

    The body is a JSON object: `text` has the events' sentences, a line each, as chat programs show it, and `events` the
    rows of the table. A thread of its own posts, up to `TRIES` times, with pauses of 1, 2, 4, ... seconds: nothing
    waits for it. What can't be told is logged and counted (`events_not_posted`), and stays in the table. That a window
    was told is noted down beside its claim; a worker that is killed in between may tell it again.

    Args:
      claims: where the decisions are (`WriteSummaries.claims`).
      url: http or https. It may be a secret: it is neither shown nor logged, but for the host.

    Raises:
      ValueError: no such URL.

    Source: `Claims` for what is told.

    Example (not run: somebody has to listen):
      write = WriteSummaries("out", wanted=("events", "coreset", "centers", "summaries"))
      written = (blocks | Summarize(k=4, shards=5)).decided | write
      windows = written.windows | ApartFromSolving()
      windows | PostEvents(write.claims, "http://localhost:8000/hook")
    """

    def __init__(self, claims: Claims, url: str) -> None:
        super().__init__()
        self._host = require_url(url)
        self._post = _Post(claims, url, self._host)

    def expand(self, windows: PCollection[Window]) -> PCollection[Window]:
        return windows | "Post" >> beam.ParDo(self._post)

    def display_data(self) -> dict[str, Any]:
        return {"host": self._host}


def require_url(url: str) -> str:
    """The host of a URL that can be posted to.

    Raises:
      ValueError: none.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("events_webhook: must be an http or https URL, got another")
    return host


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """To follow one would be to GET the other place, without the events."""

    def redirect_request(self, *_: Any) -> None:
        """A status like others that are no success."""


_OPENER = urllib.request.build_opener(_NoRedirect)


class _Post(beam.DoFn):
    def __init__(self, claims: Claims, url: str, host: str) -> None:
        self._claims, self._url, self._host = claims, url, host
        self._poster: _Poster | None = None
        self._dropped = Metrics.counter("beam_coresets", "events_not_posted")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_poster": None}

    def setup(self) -> None:
        self._poster = _Poster(self._claims, self._url, self._host)

    def process(self, window: Window) -> Iterator[Window]:
        assert self._poster is not None
        if not self._poster.take(window):
            self._dropped.inc()
        self._dropped.inc(self._poster.dropped())
        yield window

    def teardown(self) -> None:
        if self._poster is not None:
            self._poster.end()


class _Poster:
    """A thread that posts one window after another."""

    def __init__(self, claims: Claims, url: str, host: str) -> None:
        self._claims, self._url, self._host = claims, url, host
        self._waiting: queue.Queue[Window | None] = queue.Queue(WAITING)
        self._failed = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="post-events", daemon=True)
        self._thread.start()

    def take(self, window: Window) -> bool:
        """Puts a window in line; whether there was room."""
        try:
            self._waiting.put_nowait(window)
        except queue.Full:
            _LOG.warning("events_webhook: must keep up, got %d windows waiting for %s", WAITING, self._host)
            return False
        return True

    def dropped(self) -> int:
        """How many windows could not be told since the last call."""
        failed, self._failed = self._failed, 0
        return failed

    def end(self) -> None:
        """Waits some time for what is left."""
        self._ended.set()
        try:
            self._waiting.put(None, timeout=AT_THE_END)
        except queue.Full:
            return
        self._thread.join(AT_THE_END)

    def _run(self) -> None:
        while (window := self._waiting.get()) is not None:
            try:
                self._tell(window)
            except Exception as error:  # whatever it is, the next windows are told
                self._failed += 1
                _LOG.warning("events_webhook: must take events, got %s from %s for the window %s: they stay in the "
                             "table", _said(error), self._host, window.name)  # fmt: skip

    def _tell(self, window: Window) -> None:
        if "events" not in self._claims.tables_of(window) or self._claims.posted(window):
            return
        rows = self._claims.read(window, "events")
        events = [json.loads(line) for line in tables.json_lines(rows)]
        body = {"text": "\n".join(map(_line, events)), "events": events}
        for attempt in range(TRIES):
            try:
                self._send(json.dumps(body).encode())
                break
            except (OSError, HTTPException, BeamIOError):
                if attempt == TRIES - 1:
                    raise
                self._ended.wait(FIRST_PAUSE * 2**attempt)
        self._claims.mark_posted(window)

    def _send(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"}, method="POST")
        with _OPENER.open(request, timeout=TIMEOUT):
            pass  # the status says all: a body that does not come would be taken for a failure


def _line(event: dict[str, Any]) -> str:
    """One event as chat programs show it."""
    key = f" [{event['key']}]" if event["key"] else ""
    return f"{event['window_end']}{key} {event['severity']}: {event['sentence']}"


def _said(error: Exception) -> str:
    """What went wrong, without the URL."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    return type(error).__name__ if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
