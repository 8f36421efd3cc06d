"""Services in sandboxes as their users meet them: WebSockets, streams both ways, long silences."""

import base64
import hashlib
import os
import struct
import time

import pytest
from harness import programs
from wire import api, dial, read_head  # noqa: F401, the fixture

# RFC 6455's echo: text and binary messages, fragments, pings, the closing handshake.
SOCKET_SERVER = r"""
import base64, hashlib, socketserver, struct
class Handler(socketserver.StreamRequestHandler):
    def read_frame(self):
        a, b = self.rfile.read(2)
        size = b & 127
        if size == 126: size, = struct.unpack(">H", self.rfile.read(2))
        if size == 127: size, = struct.unpack(">Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        data = self.rfile.read(size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return a >> 7, a & 15, (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
    def write_frame(self, opcode, data):
        head = bytes([0x80 | opcode])
        head += bytes([len(data)]) if len(data) < 126 else b"\x7f" + struct.pack(">Q", len(data))
        self.wfile.write(head + data)
    def handle(self):
        self.rfile.readline()
        headers = {}
        while (line := self.rfile.readline().strip()):
            name, value = line.decode().split(": ", 1)
            headers[name.lower()] = value
        digest = hashlib.sha1((headers["sec-websocket-key"] +
                               "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         b"Connection: Upgrade\r\nSec-WebSocket-Protocol: echo\r\n"
                         b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n")
        self.write_frame(1, ("%s %s" % (headers["host"], headers.get("origin"))).encode())
        message = b""
        while True:
            final, opcode, data = self.read_frame()
            if opcode == 8:
                return self.write_frame(8, data)
            if opcode == 9:
                self.write_frame(10, data)
                continue
            kind = opcode or kind
            message += data
            if final:
                self.write_frame(kind, message)
                message = b""
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("127.0.0.1", 9001), Handler).serve_forever()
"""

# Answers each chunk of a request at once, with a chunk of the response.
DUPLEX_SERVER = r"""
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip(): pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (size := int(self.rfile.readline(), 16)):
            data = self.rfile.read(size).upper()
            self.rfile.readline()
            self.wfile.write(b"%x\r\n%s\r\n" % (size, data))
        self.wfile.write(b"0\r\n\r\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("127.0.0.1", 9002), Handler).serve_forever()
"""

# An event, a long silence, and another one.
EVENTS_SERVER = r"""
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word in ("one", "two"):
            self.wfile.write(b"data: %s\n\n" % word.encode())
            self.wfile.flush()
            time.sleep(float(self.path[1:]))
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9003), Handler).serve_forever()
"""

GARBAGE_SERVER = r"""
import socket
server = socket.create_server(("127.0.0.1", 9004))
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    connection.close()
"""


def serve(sandbox, program, port):
    sandbox.request("POST", "/files?path=/tmp/%d.py" % port, program,
                    headers={"Content-Type": "application/octet-stream"})
    process = sandbox.start("exec python3 /tmp/%d.py" % port, timeout=600)
    hexadecimal = ":%04X " % port
    programs.wait_until(lambda: hexadecimal.encode() in sandbox.run("cat /proc/net/tcp")[1])
    return process


@pytest.fixture(scope="module")
def sandbox(api):
    sandbox = api.create(timeout=600)
    processes = [serve(sandbox, program, 9001 + i) for i, program in enumerate(
        (SOCKET_SERVER, DUPLEX_SERVER, EVENTS_SERVER, GARBAGE_SERVER))]
    yield sandbox
    for process in processes:
        process.connection.close()
    sandbox.delete()


class WebSocket:
    """A client, as strict as a browser."""

    def __init__(self, sandbox, port, origin):
        self.connection = dial(sandbox.api.address)
        key = base64.b64encode(os.urandom(16))
        self.connection.sendall(
            b"GET /chat HTTP/1.1\r\nHost: %d-%s.localhost\r\nUpgrade: websocket\r\n"
            b"Connection: keep-alive, Upgrade\r\nOrigin: %s\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: echo\r\nSec-WebSocket-Key: %s\r\n\r\n"
            % (port, sandbox.id.encode(), origin.encode(), key))
        self.stream = self.connection.makefile("rb")
        status, *fields = read_head(self.stream)
        fields = {k.lower(): v for k, v in (field.split(": ", 1) for field in fields)}
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        assert status.split()[1] == "101"
        assert fields["sec-websocket-accept"] == base64.b64encode(digest).decode()
        assert fields["sec-websocket-protocol"] == "echo"
        assert fields["upgrade"].lower() == "websocket"
        assert fields["connection"].lower() == "upgrade"

    def send(self, opcode, data, final=True):
        mask = os.urandom(4)
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else b"\xff" + struct.pack(">Q", size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
        self.connection.sendall(bytes([final << 7 | opcode]) + length + mask + masked)

    def receive(self):
        opcode, size = self.stream.read(2)
        if size == 127:
            size, = struct.unpack(">Q", self.stream.read(8))
        return opcode & 15, self.stream.read(size)


def test_websockets_pass(sandbox):
    client = WebSocket(sandbox, 9001, "https://example.com")
    host = "9001-%s.localhost" % sandbox.id
    assert client.receive() == (1, ("%s https://example.com" % host).encode())
    client.send(1, "grüße".encode())
    assert client.receive() == (1, "grüße".encode())
    big = os.urandom(3 << 20)
    client.send(2, big)
    assert client.receive() == (2, big)
    client.send(1, b"in ", final=False)
    client.send(9, b"still there?")
    client.send(0, b"pieces")
    assert client.receive() == (10, b"still there?")
    assert client.receive() == (1, b"in pieces")
    client.send(8, struct.pack(">H", 1000))
    assert client.receive() == (8, struct.pack(">H", 1000))
    assert client.stream.read() == b""


def test_websockets_are_cut_with_their_sandbox(api):
    short = api.create()
    process = serve(short, SOCKET_SERVER, 9001)
    client = WebSocket(short, 9001, "null")
    client.receive()
    short.delete()
    process.connection.close()
    client.connection.settimeout(5)
    try:
        assert client.stream.read() == b""
    except ConnectionResetError:
        pass


def test_bodies_stream_both_ways_at_once(sandbox):
    connection = dial(sandbox.api.address)
    connection.sendall(b"POST / HTTP/1.1\r\nHost: 9002-%s.localhost\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n" % sandbox.id.encode())
    stream = connection.makefile("rb")

    def chunk(data):
        connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def answer():
        data = stream.read(int(stream.readline(), 16))
        stream.readline()
        return data

    chunk(b"first")
    assert read_head(stream)[0] == "HTTP/1.1 200 OK"
    assert answer() == b"FIRST"
    for i in range(20):
        chunk(b"and %d" % i)
        assert answer() == b"AND %d" % i
    connection.sendall(b"0\r\n\r\n")
    assert answer() == b""
    connection.close()


def test_silence_is_no_end(sandbox):
    connection = dial(sandbox.api.address)
    connection.sendall(b"GET /3 HTTP/1.1\r\nHost: 9003-%s.localhost\r\n\r\n" % sandbox.id.encode())
    stream = connection.makefile("rb")
    read_head(stream)
    begun = time.monotonic()
    body = b""
    while b"two" not in body:
        if b"one" in body:
            assert time.monotonic() - begun < 30
        else:
            assert time.monotonic() - begun < 2, "the first event was held back"
        body += stream.readline()
    connection.close()


def test_what_speaks_no_http_is_not_passed_on(sandbox):
    answer = sandbox.request("GET", "/", port=9004)
    assert answer.status == 502
    assert answer.json["port"] == 9004


def test_two_sandboxes_have_the_same_port(api):
    program = ("import http.server, os\nos.chdir('/tmp/www')\nhttp.server.ThreadingHTTPServer("
               "('127.0.0.1', 3000), http.server.SimpleHTTPRequestHandler).serve_forever()\n")
    two = [api.create(), api.create()]
    for sandbox in two:
        sandbox.run("mkdir /tmp/www; echo %s > /tmp/www/who" % sandbox.id)
    processes = [serve(sandbox, program, 3000) for sandbox in two]
    for sandbox in two * 2:
        by_name = api.request("GET", "/who", headers={"Host": "3000-%s.localhost" % sandbox.id})
        assert by_name.body.decode() == sandbox.id + "\n"
    two[0].delete()
    assert two[0].request("GET", "/who", port=3000).status == 502
    assert two[1].request("GET", "/who", port=3000).status == 200
    for process in processes:
        process.connection.close()
    two[1].delete()


BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/120", "Sec-Fetch-Mode": "navigate",
           "Accept": "text/html,application/xhtml+xml"}


@pytest.mark.parametrize("headers, kind", [
    (BROWSER, "text/html"),
    ({**BROWSER, "Accept": "text/html, application/json"}, "text/html"),
    ({**BROWSER, "Accept": "application/json"}, "application/json"),
    ({**BROWSER, "Sec-Fetch-Mode": "cors"}, "application/json"),
    ({**BROWSER, "Sec-Fetch-Mode": "no-cors"}, "application/json"),
    ({**BROWSER, "Sec-Fetch-Mode": "websocket"}, "application/json"),
    ({**BROWSER, "X-Requested-With": "XMLHttpRequest"}, "application/json"),
    ({"User-Agent": "curl/8.0", "Accept": "*/*"}, "application/json"),
    ({}, "application/json"),
], ids=programs.short)
def test_errors_suit_who_asks(sandbox, headers, kind):
    hosts = {80: "80-i%s.localhost" % ("z" * 20)}
    if headers in (BROWSER, {}):
        hosts[9] = "9-%s.localhost" % sandbox.id  # which is tried for a second
    for port, host in hosts.items():
        answer = sandbox.api.request("GET", "/<b>", headers={**headers, "Host": host})
        assert answer.status == 502
        assert answer.headers["Content-Type"] == kind + "; charset=utf-8"
        if kind == "text/html":
            assert b"<b>" not in answer.body and b"502" in answer.body
        else:
            assert answer.json["code"] == 502 and ("port" in answer.json) == (port == 9)
