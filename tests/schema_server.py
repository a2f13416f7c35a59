"""A schema registry over HTTP with the schemas that it is given: what Confluent's client asks of one, and no more."""
import contextlib
import http.server
import json
import threading
import urllib.parse


class _Handler(http.server.BaseHTTPRequestHandler):
    """Schemas from 300 to 599 are those statuses; 1000 is too large, 1001 is no JSON, 1002 never ends, 1003 is cut."""

    def do_GET(self):
        server, parts = self.server, urllib.parse.urlsplit(self.path)
        server.asked.append((parts.path, dict(urllib.parse.parse_qsl(parts.query)), dict(self.headers)))
        if not parts.path.startswith("/schemas/ids/"):
            _, _, subject, _, version = parts.path.split("/")
            subject = urllib.parse.unquote(subject)
            found = server.subjects.get((subject, version))
            if found is not None:
                found = {"subject": subject, "version": 1, "id": found, **server.schemas[found]}
            return self._send(200 if found else server.status, json.dumps(found or {"error_code": 40401}).encode())
        number = int(parts.path.rpartition("/")[2])
        if number in server.away:
            return self._send(503, b"{}")
        found, known = server.schemas.get(number), 300 <= number < 600
        status = 200 if found or number >= 1000 else number if known else 404
        if number == 1002:
            return self._drip()
        body = {1000: b" " * (5 << 20), 1001: b"<html>"}.get(number) or json.dumps(found or {}).encode()
        headers = {"Location": "/schemas/ids/7"} if 300 <= number < 400 else {}
        self._send(status, body, headers | ({"Content-Length": "1000"} if number == 1003 else {}))

    def _send(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def do_POST(self):
        """Gives a token."""
        self.server.tokens.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        token = {"access_token": f"token-{len(self.server.tokens)}", "expires_in": 3600, "token_type": "Bearer"}
        self._send(200, json.dumps(token).encode(), {"Content-Type": "application/json"})

    def _drip(self):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.over.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def schema_server(schemas=(), subjects=()):
    """A server with `schemas`, number -> answer, and `subjects`, (name, version as text) -> number.

    `asked` has (path, query, headers) of its questions, `away` the numbers that it has no answer for at the moment,
    `status` what it says of unknown subjects.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.schemas, server.subjects, server.asked, server.away = dict(schemas), dict(subjects), [], set()
    server.tokens, server.status, server.over = [], 404, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        with contextlib.suppress(Exception):
            server.shutdown()
        server.server_close()
        thread.join()
