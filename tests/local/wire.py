"""E2B's wire protocol as its clients write it, with nothing but the standard library."""

import base64
import http.client
import json
import socket
import struct

import pytest

KEY = "e2b_" + "0" * 40
ENVD = 49983


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Api:
    """The control plane, and the way to the sandboxes."""

    def __init__(self, address, key=KEY):
        self.address = address
        self.key = key

    def request(self, method, path, body=None, headers=None, timeout=30):
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def call(self, method, path, body=None, **headers):
        if self.key:
            headers["X-API-Key"] = self.key
        data = None if body is None else json.dumps(body)
        return self.request(method, path, data, headers)

    def create(self, v2=True, **fields):
        fields = {"templateID": "base", **fields}
        answer = self.call("POST", "/v2/sandboxes" if v2 else "/sandboxes", fields)
        assert answer.status == 201, answer.body
        return Sandbox(self, answer.json)


@pytest.fixture(scope="module")
def api(local):
    return Api(local.address)


class Sandbox:
    shell = "/bin/bash"

    def __init__(self, api, created):
        self.api = api
        self.created = created
        self.id = created["sandboxID"]
        self.token = created.get("envdAccessToken")

    def headers(self, port=ENVD):
        headers = {"E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": str(port)}
        if self.token:
            headers["X-Access-Token"] = self.token
        return headers

    def request(self, method, path, body=None, port=ENVD, headers=None, **options):
        return self.api.request(method, path, body, {**self.headers(port), **(headers or {})},
                                **options)

    def get(self):
        return self.api.call("GET", "/sandboxes/" + self.id)

    def delete(self):
        return self.api.call("DELETE", "/sandboxes/" + self.id)

    def health(self):
        return self.request("GET", "/health").status

    def start(self, command, timeout=60):
        return Process(self, command, timeout)

    def run(self, command, timeout=60):
        """Runs a command to its end: its exit code and all of its output."""
        with self.start(command, timeout) as process:
            output = b"".join(process.output())
        return process.exit_code, output


class AsRoot(Sandbox):
    """A sandbox with all commands and files as root's."""

    def headers(self, port=ENVD):
        return {**super().headers(port),
                "Authorization": "Basic " + base64.b64encode(b"root:").decode()}


class Process:
    """process.Process/Start, the stream as it comes."""

    def __init__(self, sandbox, command, timeout=60):
        message = json.dumps({"process": {"cmd": sandbox.shell, "args": ["-l", "-c", command]},
                              "stdin": False}).encode()
        self.connection = http.client.HTTPConnection(sandbox.api.address, timeout=timeout)
        self.connection.request(
            "POST", "/process.Process/Start", struct.pack(">BI", 0, len(message)) + message,
            {**sandbox.headers(), "Content-Type": "application/connect+json",
             "Connect-Protocol-Version": "1"})
        self.response = self.connection.getresponse()
        self.exit_code = None
        self.complete = False
        assert self.response.status == 200, self.response.read()
        self.pid = self._next()["event"]["start"]["pid"]

    def _read(self, size):
        data = b""
        while len(data) < size:
            piece = self.response.read(size - len(data))
            if not piece:
                raise http.client.IncompleteRead(data)
            data += piece
        return data

    def _next(self):
        """The next message; None at the orderly end of the stream."""
        flags, length = struct.unpack(">BI", self._read(5))
        message = json.loads(self._read(length) or b"{}")
        if flags & 2:
            assert "error" not in message, message
            self.complete = True
            return None
        return message

    def output(self):
        while (message := self._next()) is not None:
            event = message["event"]
            for stream in ("stdout", "stderr"):
                if stream in event.get("data", {}):
                    yield base64.b64decode(event["data"][stream])
            if "end" in event:
                self.exit_code = event["end"].get("exitCode", 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def dial(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


def read_head(stream):
    """The head of a response, from a socket's file."""
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line.decode().rstrip("\r\n"))
    return lines
