"""An agent to ask, ours or E2B's: requests in the forms of its clients, answers made comparable."""

import base64
import gzip
import http.client
import json
import re
import struct

import pytest

HTTP_OF = {
    "canceled": 499, "unknown": 500, "invalid_argument": 400, "deadline_exceeded": 504,
    "not_found": 404, "already_exists": 409, "permission_denied": 403, "resource_exhausted": 429,
    "failed_precondition": 400, "aborted": 409, "out_of_range": 400, "unimplemented": 501,
    "internal": 500, "unavailable": 503, "data_loss": 500, "unauthenticated": 401,
}

HOME = "/home/user"


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def basic(user):
    return {"Authorization": "Basic " + b64(user + ":")}


def envelope(payload, flags=0):
    return struct.pack(">BI", flags, len(payload)) + payload


def failure(status, error):
    """A Connect error as one word, if its status is the one that belongs to its code."""
    code = error.get("code")
    return code if HTTP_OF.get(code) == status else "%s with HTTP %s" % (code, status)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def said(self):
        """The status, and what a REST error says."""
        if self.status < 400:
            return self.status
        error = self.json
        assert error["code"] == self.status, error
        return self.status, error["message"]


class Stream:
    """A call that streams to us: its messages, and how it ended ("ok", a code, "cut")."""

    def __init__(self, connection):
        self.connection = connection
        self.response = None
        self.status = None
        self.end = None
        self.error = {}
        try:
            self.response = connection.getresponse()
            self.status = self.response.status
        except ConnectionError:
            self.end = "cut"

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.response.read(size - len(data))
            if not piece:
                raise http.client.IncompleteRead(data)
            data += piece
        return data

    def payloads(self):
        if self.status not in (None, 200):
            self.end = "HTTP %d" % self.status
        while self.end is None:
            try:
                flags, size = struct.unpack(">BI", self._exactly(5))
                payload = self._exactly(size)
            except (http.client.IncompleteRead, ConnectionError):
                self.end = "cut"
                return
            if flags & 1:
                payload = gzip.decompress(payload)
            if flags & 2:
                self.error = json.loads(payload).get("error", {})
                self.end = self.error.get("code", "ok")
            else:
                yield payload

    def messages(self):
        for payload in self.payloads():
            yield json.loads(payload)

    def next(self):
        return next(self.messages(), None)

    def close(self):
        self.connection.close()
        if self.response:
            self.response.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Process(Stream):
    """process.Process/Start or Connect."""

    def __init__(self, connection):
        super().__init__(connection)
        first = self.next()
        self.pid = first["event"]["start"]["pid"] if first else None
        self.select = {"process": {"pid": self.pid}}
        self.output = {}
        self.ended = None
        self.keepalives = 0

    def step(self):
        """Takes one event; False behind the last."""
        message = self.next()
        if message is None:
            return False
        event = message["event"]
        assert "start" not in event, "a second start"
        assert not self.ended, "an event behind the end"
        for stream, data in event.get("data", {}).items():
            self.output[stream] = self.output.get(stream, b"") + base64.b64decode(data)
        self.ended = event.get("end")
        self.keepalives += "keepalive" in event
        return True

    def until(self, text, stream="stdout"):
        """Takes events until there is some output."""
        while text.encode() not in self.output.get(stream, b""):
            assert self.step(), "the stream ended without %r: %r" % (text, self.output)
        return self

    def rest(self):
        """Takes all there is; what it was, as one value."""
        while self.step():
            pass
        result = {k: v.decode("utf-8", "replace") for k, v in sorted(self.output.items())}
        if self.ended is not None:
            result["end"] = ended(self.ended)
        if self.end != "ok":
            result["stream"] = self.end
        return result


def ended(end):
    """An end event as text: exit code, whether it exited, status, error."""
    return " / ".join(str(x) for x in (end.get("exitCode", 0), end.get("exited", False),
                                       end.get("status"), end.get("error")))


class Target:
    def __init__(self, address, headers, token, has_root):
        self.address = address
        self.headers = headers  # with every request: where it goes
        self.token = token
        self.has_root = has_root
        self.dir = None  # of the case

    def begin(self, name):
        """A folder for one case."""
        self.dir = "%s/%s" % (HOME, re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-"))
        assert self.rpc("MakeDir", path=self.dir)["entry"]["path"] == self.dir

    # ---- requests ----

    @property
    def as_root(self):
        """Headers of a call as root, where there is one."""
        if not self.has_root:
            pytest.skip("only root has a sandbox with more than one user")
        return basic("root")

    def _headers(self, headers, token=True):
        given = {"X-Access-Token": self.token} if token else {}
        return {**self.headers, **given, **headers}

    def send(self, method, path, body=None, headers=None, token=True, timeout=20):
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        connection.request(method, path, body, self._headers(headers or {}, token))
        return connection

    def request(self, method, path, body=None, headers=None, token=True):
        connection = self.send(method, path, body, headers, token)
        try:
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def unary(self, path, message, headers=None, codec="json", token=True):
        body = json.dumps(message) if codec == "json" and not isinstance(message, bytes) else message
        return self.request("POST", path, body,
                            {"Content-Type": "application/" + codec, **(headers or {})}, token)

    @staticmethod
    def path_of(method):
        processes = ("List", "Update", "SendInput", "SendSignal", "CloseStdin", "Start", "Connect",
                     "StreamInput")
        return ("/process.Process/" if method in processes else "/filesystem.Filesystem/") + method

    def rpc(self, method, headers=None, said=False, **message):
        """A unary call: its response, or its failure; with said together with its message."""
        answer = self.unary(self.path_of(method), message, headers)
        if answer.status == 200:
            return answer.json
        code = failure(answer.status, answer.json)
        return (code, answer.json["message"]) if said else code

    def open(self, method, message, headers=None, body=None):
        if body is None:
            body = envelope(json.dumps(message).encode())
        return self.send("POST", self.path_of(method), body,
                         {"Content-Type": "application/connect+json", **(headers or {})})

    def stream(self, method, headers=None, body=None, **message):
        return Stream(self.open(method, message, headers, body))

    # ---- commands ----

    def start(self, command, headers=None, **fields):
        """A shell command, in the folder of the case unless said otherwise."""
        process = {"cmd": "/bin/bash", "args": ["-c", command], "cwd": self.dir,
                   **fields.pop("process", {})}
        fields.setdefault("stdin", False)
        return Process(self.open("Start", {"process": process, **fields}, headers))

    def run(self, command, headers=None, **fields):
        with self.start(command, headers, **fields) as process:
            return process.rest()

    def sh(self, command):
        """For what a case needs beforehand."""
        result = self.run(command)
        assert result["end"].startswith("0 /"), result
        return result.get("stdout", "")

    def attach(self, headers=None, **selector):
        return Process(self.open("Connect", {"process": selector}, headers))

    # ---- files ----

    def put(self, name, data="", query="", headers=None, token=True):
        """A raw upload to a path."""
        return self.request("POST", "/files?path=%s%s" % (self.at(name), query), data,
                            {"Content-Type": "application/octet-stream", **(headers or {})}, token)

    def get(self, name, query="", headers=None, token=True):
        return self.request("GET", "/files?path=%s%s" % (self.at(name), query), None,
                            headers or {}, token)

    def at(self, name):
        return name if name.startswith(("/", "~")) else "%s/%s" % (self.dir, name)

    def short(self, value):
        """Paths of the case's folder as D, in any value."""
        return json.loads(json.dumps(value).replace(self.dir, "D"))

    def entry(self, entry):
        """An EntryInfo without what differs from machine to machine."""
        if not isinstance(entry, dict):
            return entry
        entry = self.short(entry)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", entry.pop("modifiedTime"))
        if entry["permissions"].startswith("d") or "symlinkTarget" in entry:
            entry.pop("size", None)
        return entry
