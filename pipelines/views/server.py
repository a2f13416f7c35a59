"""The live page: a folder that is looked at again and again, and what is served of it."""
from __future__ import annotations

import contextlib
import gzip
import hmac
import http.server
import ipaddress
import json
import os
import select
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

from beam_coresets import table_schemas
from beam_coresets.pipelines.views import metrics
from beam_coresets.pipelines.views.contents import contents_of, one_place, packed
from beam_coresets.pipelines.views.history import History
from beam_coresets.pipelines.views.newest import Asked
from beam_coresets.pipelines.views.page import page
from beam_coresets.summaries.moments import instant
from beam_coresets.summaries.places import NoSummariesError

Made = TypeVar("Made")

EVERY = 0.5  # seconds between two looks at the folder
BEAT = 15.0  # seconds between two signs of life to a page that waits
LOOK = 1.0  # seconds between two looks whether a page that waits has left
SILENCE = 30_000  # milliseconds in which what was sent has to be received
MOST_WAITING = 64  # pages that wait for changes at once


class LiveFolder:
    """What a folder holds, read as it comes.

    Args:
      path: the folder, which need not be there yet. most: decisions that are shown. asked: what is shown at first.

    Attributes:
      version: rises with each change. problem: what is wrong with the folder; empty if nothing is.
    """

    def __init__(self, path: str, most: int, asked: Asked) -> None:
        self.path, self._most, self._asked = path, most, asked
        self.version, self.problem = 0, "waiting for the first window"
        self._changed = threading.Condition()
        self._reading = threading.Lock()  # the history is read by one thread
        self._history: History | None = None
        self._seen: tuple[int, int] | None = None  # which folder was read, where it is on this machine
        self._made: dict[str, tuple[int, Any]] = {}  # answer -> the version that it is of, and it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, and all waiting."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def wait(self, version: int, seconds: float) -> int:
        """The version, once it is another one or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != version or self.stopped, seconds)
            return self.version

    def look(self) -> None:
        """Reads what has come."""
        try:
            with self._reading:
                changed = self._read()
            problem = ""
        except NoSummariesError:
            changed, problem = False, f"waiting for the first window in {self.path}"
        except Exception as error:  # whatever a folder holds: a page that no longer looks would say that all is well
            changed, problem = False, told(error)
        if changed or problem != self.problem:
            with self._changed:
                self.version, self.problem = self.version + 1, problem
                self._changed.notify_all()

    def _read(self) -> bool:
        """Whether something has come. What was read of a folder that is gone, or another now, is forgotten: windows
        of the same names may be others."""
        seen = _identity(self.path)
        if self._history is None or seen != self._seen:
            self._history, self._seen = None, seen
            self._history = History(one_place(self.path), self._most)
        try:
            changed = self._history.refresh()
            if self._history.skipped:
                self._history.require_windows()
            return changed
        except NoSummariesError:
            self._history = None
            raise

    def contents(self) -> bytes:
        """The page's contents as JSON, gzip.

        Raises:
          ValueError: there are none (yet), or they can't be read.
        """
        return self._once("contents", self._contents)

    def _contents(self) -> bytes:
        if self._history is None or not len(self._history):
            raise NoSummariesError(self.problem or f"waiting for the first window in {self.path}")
        return gzip.compress(packed(contents_of(self._history, self._asked)).encode(), 5, mtime=0)

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        """An answer, which is made once for each version."""
        with self._reading:
            version = self.version
            if name not in self._made or self._made[name][0] != version:
                self._made[name] = version, make()
            made: Made = self._made[name][1]
            return made

    def newest(self) -> dict[str, Any]:
        """The newest window of each key, without what is bytes.

        Raises:
          ValueError: there is none (yet).
        """
        return self._once("newest", self._newest)

    def _newest(self) -> dict[str, Any]:
        if self._history is None or not len(self._history):
            raise NoSummariesError(self.problem or "there is no window yet")
        rows = [_in_words(row) for row in metrics.newest_of(self._history.rows()).to_pylist()]
        found = next(self._history.windows(), None)
        columns = None if found is None else found.columns
        centers = [] if found is None else [_in_words(row) for row in found.to_arrow("centers").to_pylist()]
        return {"folder": self.path, "columns": columns, "summaries": rows, "centers": centers}

    def metrics(self) -> bytes:
        """As Prometheus reads it."""
        return self._once("metrics", lambda: metrics.Metrics(self._history).text())

    def _follow(self) -> None:
        while not self._stop.wait(EVERY):
            self.look()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers of one server (`LiveServer`)."""

    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "beam-coresets", ""
    timeout = 60

    def do_GET(self) -> None:  # the name that http.server asks for
        with contextlib.suppress(OSError):  # whoever asked has left
            self._answer()
            return
        self.close_connection = True

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        refused = self._refused(urllib.parse.parse_qs(query))
        if refused is not None:
            self._text(refused, refused.phrase)
            return
        answers = {
            "/": self._page, "/contents.json": self._contents, "/changes": self._changes, "/metrics": self._metrics,
            "/healthz": self._health, "/api/latest": self._latest,
        }  # fmt: skip
        if path not in answers:
            self._text(HTTPStatus.NOT_FOUND, "Not Found")
            return
        try:
            answers[path]()
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # the folder is damaged, or is being removed while it is read
            self._text(HTTPStatus.SERVICE_UNAVAILABLE, told(error))

    do_HEAD = do_GET  # noqa: N815 (the same)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a page asks often."""

    def _refused(self, query: dict[str, list[str]]) -> HTTPStatus | None:
        """Why nothing is told: the token is missing, or another site's name was made to lead here."""
        token = self.server.token
        if token is not None:
            given = self.headers.get("Authorization", "").removeprefix("Bearer ") or query.get("token", [""])[0]
            return None if hmac.compare_digest(given.encode(), token.encode()) else HTTPStatus.UNAUTHORIZED
        try:
            name = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            return HTTPStatus.BAD_REQUEST
        return None if is_loopback(name) else HTTPStatus.FORBIDDEN

    def _page(self) -> None:
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)

    def _contents(self) -> None:
        self._send(HTTPStatus.OK, "application/json", self.server.folder.contents(), "gzip")

    def _metrics(self) -> None:
        self._send(HTTPStatus.OK, metrics.CONTENT_TYPE, self.server.folder.metrics())

    def _latest(self) -> None:
        text = json.dumps(self.server.folder.newest(), default=_plain)
        self._send(HTTPStatus.OK, "application/json", text.encode())

    def _health(self) -> None:
        folder = self.server.folder
        text = json.dumps({"ok": not folder.problem, "problem": folder.problem or None, "version": folder.version})
        self._send(HTTPStatus.OK, "application/json", text.encode())

    def _changes(self) -> None:
        """Server-sent events: one for each change, and a comment now and then that finds out who has left."""
        self._head(HTTPStatus.OK, "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        folder = self.server.folder
        with self.server.waiting.one() as sent_away:
            version, told = folder.version, time.monotonic()
            while not (folder.stopped or sent_away.is_set() or _has_left(self.connection)):
                found, now = folder.wait(version, LOOK), time.monotonic()
                if found == version and now - told < BEAT:
                    continue
                self.wfile.write(f"event: change\ndata: {found}\n\n".encode() if found != version else b": here\n\n")
                self.wfile.flush()
                version, told = found, now

    def _head(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")

    def _text(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode("utf-8", "replace"))

    def _send(self, status: HTTPStatus, kind: str, body: bytes, encoding: str | None = None) -> None:
        self._head(status, kind)
        self.send_header("Content-Length", str(len(body)))
        if encoding is not None:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Waiting:
    """The pages that wait for changes: so many at once. Of more the one that has waited longest is sent away, which
    comes back by itself: a page that is refused never asks again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._there: list[threading.Event] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[threading.Event]:
        """Within it a page waits; the event says that it is to go."""
        sent_away = threading.Event()
        with self._lock:
            for longest in self._there[: len(self._there) + 1 - MOST_WAITING]:
                longest.set()
                self._there.remove(longest)
            self._there.append(sent_away)
        try:
            yield sent_away
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._there.remove(sent_away)

    def __len__(self) -> int:
        return len(self._there)


class LiveServer(http.server.ThreadingHTTPServer):
    """The live page of a folder: `/`, `/contents.json`, `/changes` (server-sent events), `/metrics`, `/healthz`,
    `/api/latest`.

    Args:
      folder: that is shown. host, port: where; port 0 takes a free one. token: that has to be given (`?token=`, or as
        a bearer); None for none, and then only this machine is answered, by its own names.

    Raises:
      ValueError: no token where others than this machine can ask, or an address that can't be had.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # of Python's 5 the sixth of those who come at once waits a second

    def __init__(self, folder: LiveFolder, host: str = "127.0.0.1", port: int = 8080, token: str | None = None) -> None:
        if token is None and not is_loopback(host):
            raise ValueError(f"token: must be given where others than this machine can ask, got host {host!r} without")
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.folder, self.token = folder, token
        self.page = page(None, f"{folder.path}: beam-coresets", live=True).encode()
        self.waiting = _Waiting()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"port: must be free on {host}, got {port} ({why})") from None

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection that ends when nobody receives what is sent: a machine that is gone says nothing."""
        connection, address = super().get_request()
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)
        return connection, address

    @property
    def address(self) -> str:
        """Where the page is."""
        host, port = str(self.server_address[0]), self.server_address[1]
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{port}/" + ("" if self.token is None else f"?token={urllib.parse.quote(self.token)}")


def told(error: Exception) -> str:
    """What is wrong, in one line; of what nobody has foreseen its kind too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {text}"


def _has_left(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    return connection.recv(1, socket.MSG_PEEK) == b""


def _identity(path: str) -> tuple[int, int] | None:
    """Tells a folder on this machine from another of the same name; None for none."""
    try:
        found = os.stat(path.removeprefix("file://"))
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """Times as datetimes."""
    return {name: instant(v) if name in table_schemas.TIMES else v for name, v in row.items()}


def _plain(value: Any) -> Any:
    """What JSON has no type for, as text; times in ISO 8601."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
