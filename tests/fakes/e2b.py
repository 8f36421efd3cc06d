"""An E2B that misbehaves: answers as a test tells it to, and remembers what it was asked.

Without a rule that fits, it has one running sandbox, SANDBOX, and nothing else.
"""

import http.server
import json
import re
import threading
import time

SANDBOX = "ifake0123456789abcdef"


def describe(sandbox_id=SANDBOX, **fields):
    """What E2B says of a running sandbox."""
    now = time.time()
    return {
        "sandboxID": sandbox_id, "templateID": "base", "clientID": "c", "alias": "base",
        "envdVersion": "0.6.13", "envdAccessToken": "token", "domain": None, "state": "running",
        "startedAt": _time(now - 10), "endAt": _time(now + 600), "cpuCount": 2, "memoryMB": 512,
        "diskSizeMB": 1024, "metadata": {}, **fields,
    }


def _time(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Answer:
    """One way to answer."""

    def __init__(self, status=200, body=b"", headers=None, length=None, raw=None, hang=0, endless=False):
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {"Content-Type": "application/json", **(headers or {})}
        self.length = len(self.body) if length is None else length  # what Content-Length claims
        self.raw = raw  # bytes instead of an HTTP answer
        self.hang = hang  # seconds before anything is said
        self.endless = endless  # the body never ends

    @classmethod
    def error(cls, status, message="told to fail", headers=None):
        return cls(status, {"code": status, "message": message}, headers)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        answer = self.server.fake.choose(self.command, self.path, dict(self.headers), body)
        if answer.hang and self.server.fake.closing.wait(answer.hang):
            self.close_connection = True
            return
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.endless:
            self.send_header("Connection", "close")
            self.end_headers()
            while not self.server.fake.closing.is_set():
                self.wfile.write(b'"' + b"a" * 65536)
                self.server.fake.sent += 65537
            return
        self.send_header("Content-Length", str(answer.length))
        self.end_headers()
        self.wfile.write(answer.body)
        if answer.length != len(answer.body):
            self.close_connection = True

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass  # the other side went away: some tests are about that

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _serve

    def log_message(self, *args):
        pass


class FakeE2B:
    def __init__(self):
        self.requests = []  # (method, path, headers, body)
        self.sent = 0
        self.closing = threading.Event()
        self._rules = []
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.fake = self
        self.url = "http://127.0.0.1:%d" % self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def rule(self, answer, method=".*", path=".*", times=None):
        """From now on requests that fit get this answer, so many times. Newer rules win."""
        with self._lock:
            self._rules.insert(0, [method, path, answer, times])

    def reset(self):
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def choose(self, method, path, headers, body):
        with self._lock:
            self.requests.append((method, path, headers, body))
            for rule in self._rules:
                if rule[3] == 0 or not re.fullmatch(rule[0], method) or not re.search(rule[1], path):
                    continue
                if rule[3] is not None:
                    rule[3] -= 1
                return rule[2]
        plain = path.split("?")[0]
        if method == "GET" and plain == "/sandboxes/" + SANDBOX:
            return Answer(200, describe())
        if method == "GET" and plain in ("/sandboxes", "/v2/sandboxes"):
            return Answer(200, [describe()])
        if method == "POST" and plain in ("/sandboxes", "/v2/sandboxes"):
            return Answer(201, describe())
        return Answer.error(404, "no such thing")

    def close(self):
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
