"""HTTPS on the port of HTTP, with the server's own authority."""

import errno
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess

import pytest
from harness import programs
from wire import Api, dial, read_head

UPLOAD = """
import hashlib, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            digest.update(piece)
            left -= len(piece)
        body = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(64 << 20))
        self.end_headers()
        for _ in range(64):
            self.wfile.write(b"y" * (1 << 20))
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def tls_local(tmp_path_factory):
    program = programs.Local(tmp_path_factory.mktemp("tls") / "data", "--tls")
    yield program
    program.stop()


@pytest.fixture(scope="module")
def sandbox(tls_local):
    return Api(tls_local.address).create(timeout=600)


@pytest.fixture(scope="module")
def server(sandbox):
    """Something that takes uploads and gives downloads, on port 8000."""
    sandbox.request("POST", "/files?path=/tmp/server.py", UPLOAD,
                    headers={"Content-Type": "application/octet-stream"})
    with sandbox.start("exec python3 /tmp/server.py", timeout=300):
        programs.wait_until(lambda: sandbox.request("HEAD", "/", port=8000).status != 502)
        yield sandbox


def trusting(local, *protocols):
    context = ssl.create_default_context(cafile=local.data_dir / "ca.pem")
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def secure(local, name, *protocols):
    """A connection to the server by that name, verified."""
    return trusting(local, *protocols).wrap_socket(dial(local.address), server_hostname=name)


def https(local, name, method, path, body=None, headers=None):
    connection = http.client.HTTPSConnection(name, local.port, context=trusting(local))
    connection.sock = secure(local, name)
    connection.request(method, path, body, headers or {})
    return connection.getresponse()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "api.localhost"])
def test_the_api_by_https(tls_local, name):
    response = https(tls_local, name, "GET", "/sandboxes",
                     headers={"X-API-Key": programs.API_KEY, "Host": name})
    assert response.status == 200


def test_http_is_still_there(sandbox):
    assert sandbox.get().status == 200
    assert sandbox.health() == 204


def test_strangers_names_are_not_certified(tls_local):
    with pytest.raises(ssl.SSLCertVerificationError):
        secure(tls_local, "example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        secure(tls_local, "evil.localhost.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(dial(tls_local.address),
                                                 server_hostname="localhost")


def test_only_http_1_is_negotiated(tls_local):
    assert secure(tls_local, "localhost", "h2", "http/1.1").selected_alpn_protocol() == "http/1.1"
    assert secure(tls_local, "localhost").selected_alpn_protocol() is None
    with pytest.raises(ssl.SSLError):
        secure(tls_local, "localhost", "h2")


def test_a_port_of_a_sandbox_by_https(tls_local, server):
    name = "8000-%s.localhost" % server.id
    data = os.urandom(32 << 20)
    answer = https(tls_local, name, "POST", "/", data, {"Content-Length": str(len(data))})
    assert answer.status == 200
    assert answer.read().decode() == hashlib.sha256(data).hexdigest()


def test_a_slow_reader_gets_all_and_costs_no_memory(tls_local, server):
    name = "8000-%s.localhost" % server.id
    response = https(tls_local, name, "GET", "/")
    before = tls_local.rss()
    assert response.read(1 << 20) == b"y" * (1 << 20)
    assert tls_local.rss() - before < 8 << 20 or programs.is_sanitized("runtime/local/e2b-local")
    left = 63 << 20
    while left:
        piece = response.read(min(left, 1 << 20))
        assert piece and piece.count(b"y") == len(piece)
        left -= len(piece)


def test_tunnels_pass(tls_local, sandbox):
    echo = ("import socket\ns = socket.create_server(('127.0.0.1', 7000))\nwhile True:\n"
            " c, _ = s.accept()\n c.recv(65536)\n"
            " c.sendall(b'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\n'"
            " b'Connection: Upgrade\\r\\n\\r\\n')\n"
            " while data := c.recv(65536): c.sendall(data.upper())\n c.close()\n")
    sandbox.request("POST", "/files?path=/tmp/echo.py", echo,
                    headers={"Content-Type": "application/octet-stream"})
    name = "7000-%s.localhost" % sandbox.id
    with sandbox.start("exec python3 /tmp/echo.py"):
        def upgrade():
            connection = secure(tls_local, name)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\n"
                               b"Upgrade: echo\r\n\r\n" % name.encode())
            stream = connection.makefile("rb")
            return "101" in read_head(stream)[0] and (connection, stream)

        connection, stream = programs.wait_until(upgrade)
        for word in (b"hello", b"again", b"x" * 100_000):
            connection.sendall(word)
            assert stream.read(len(word)) == word.upper()
        connection.close()


def test_a_killed_sandbox_resets_its_clients(tls_local):
    sandbox = Api(tls_local.address).create()
    name = "49983-%s.localhost" % sandbox.id
    message = json.dumps({"process": {"cmd": "sleep", "args": ["100"]}}).encode()
    connection = secure(tls_local, name)
    connection.sendall(
        b"POST /process.Process/Start HTTP/1.1\r\nHost: %s\r\nContent-Type: "
        b"application/connect+json\r\nConnect-Protocol-Version: 1\r\nX-Access-Token: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (name.encode(), sandbox.token.encode(), 5 + len(message),
                                         struct.pack(">BI", 0, len(message)) + message))
    assert b"200 OK" in connection.recv(65536)
    sandbox.delete()
    raw = socket.socket(fileno=os.dup(connection.fileno()))  # ssl tells no reset from an end
    with raw, pytest.raises(ConnectionResetError):
        while raw.recv(65536):
            pass
        pytest.fail("it looked like the end of the answer")


@pytest.mark.parametrize("data", [b"\x16", b"\x16\x03\x01\x00\x05hello", b"\x16" + b"\0" * 3000],
                         ids=["short", "wrong", "long"])
def test_what_is_no_handshake_is_dropped(tls_local, data):
    with dial(tls_local.address) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):  # an alert, perhaps
                pass
        except OSError as error:  # dropped before we were done
            assert error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
    assert https(tls_local, "localhost", "GET", "/health").status == 200


def test_the_authority_outlives_the_server(data_dir):
    first = programs.Local(data_dir / "kept", "--tls")
    authority = (first.data_dir / "ca.pem").read_bytes()
    first.stop()
    second = programs.Local(data_dir / "kept", "--tls", "--domain=sandboxes.example.com:1")
    try:
        assert (second.data_dir / "ca.pem").read_bytes() == authority
        for name in ("sandboxes.example.com", "api.sandboxes.example.com",
                     "3000-i%s.sandboxes.example.com" % ("a" * 20)):
            secure(second, name).close()
    finally:
        second.stop()


def test_nodes_own_https_takes_it(tls_local, server):
    """As NODE_EXTRA_CA_CERTS has it; only the name is resolved here."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    script = """
      const https = require('https')
      const lookup = (_, o, cb) => o.all ? cb(null, [{address: '127.0.0.1', family: 4}])
                                         : cb(null, '127.0.0.1', 4)
      const request = https.request(process.argv[1], {method: 'POST', lookup}, response => {
        response.on('data', data => process.stdout.write(data))
      })
      request.end('hello')
    """
    done = subprocess.run(
        ["node", "-e", script, "https://8000-%s.localhost:%d/" % (server.id, tls_local.port)],
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(tls_local.data_dir / "ca.pem")},
        capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.stdout == hashlib.sha256(b"hello").hexdigest(), done.stderr
