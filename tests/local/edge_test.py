"""The way into sandboxes: which requests go where, and what passes on the way."""

import base64
import concurrent.futures
import hashlib
import socket
import time
import urllib.parse

import pytest
from harness import programs
from wire import Api, dial, read_head

PAGE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = ("%s %s" % (self.path, self.headers["Host"])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = __import__("socket").AF_INET6 if ":" in sys.argv[1] else 2
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""

ECHO = """
import socket
server = socket.create_server(("127.0.0.1", 7000))
while True:
    connection, _ = server.accept()
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += connection.recv(65536)
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\n"
                       b"Connection: Upgrade\\r\\n\\r\\n")
    while data := connection.recv(65536):
        connection.sendall(data.upper())
    connection.sendall(b"BYE")
    connection.close()
"""

BULK = """
import socket
server = socket.create_server(("127.0.0.1", 7001))
connection, _ = server.accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n")
block = b"x" * (1 << 20)
for _ in range(%d):
    connection.sendall(block)
"""


@pytest.fixture(scope="module")
def sandbox(local):
    api = Api(local.address)
    sandbox = api.create(timeout=600)
    yield sandbox
    sandbox.delete()


def put(sandbox, name, text):
    answer = sandbox.request("POST", "/files?path=/tmp/" + name, text,
                             headers={"Content-Type": "application/octet-stream"})
    assert answer.status == 200, answer.body


@pytest.fixture(scope="module")
def page(sandbox):
    """Servers in the sandbox on 127.0.0.1:8000 and [::1]:8001."""
    put(sandbox, "page.py", PAGE)
    processes = [sandbox.start("exec python3 /tmp/page.py 127.0.0.1 8000"),
                 sandbox.start("exec python3 /tmp/page.py ::1 8001")]
    for port in (8000, 8001):
        programs.wait_until(lambda p=port: sandbox.request("GET", "/", port=p).status == 200)
    yield sandbox
    for process in processes:
        process.connection.close()


def test_routing_by_header_and_by_name(page):
    by_header = page.request("GET", "/a%20b?c=d", port=8000)
    assert by_header.status == 200
    assert by_header.body.decode() == "/a%20b?c=d " + page.api.address
    for name in ("8000-%s.localhost", "8000-%s.example.com:123", "8000-%s-6532622b.localhost"):
        host = name % page.id
        by_name = page.api.request("GET", "/", headers={"Host": host})
        assert by_name.status == 200
        assert by_name.body.decode() == "/ " + host


def test_servers_on_both_loopbacks_are_reached(page):
    assert page.request("GET", "/", port=8000).status == 200
    assert page.request("GET", "/", port=8001).status == 200


def test_a_real_static_server(sandbox):
    sandbox.run("mkdir -p /tmp/www && seq 200000 > /tmp/www/numbers.txt")
    with sandbox.start("cd /tmp/www && exec python3 -m http.server 8002"):
        programs.wait_until(lambda: sandbox.request("GET", "/", port=8002).status == 200)
        numbers = sandbox.request("GET", "/numbers.txt", port=8002)
        assert numbers.body == b"".join(b"%d\n" % i for i in range(1, 200001))
        assert sandbox.request("HEAD", "/numbers.txt", port=8002).body == b""
        assert sandbox.request("GET", "/none", port=8002).status == 404


def test_closed_port(sandbox):
    begun = time.monotonic()
    answer = sandbox.request("GET", "/", port=9)
    assert answer.status == 502
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.json == {"sandboxId": sandbox.id, "port": 9, "code": 502,
                           "message": "The sandbox is running but port is not open"}
    assert 0.9 < time.monotonic() - begun < 5  # it might have been just starting


def test_people_get_a_page(sandbox):
    headers = {"User-Agent": "Mozilla/5.0", "Accept": "text/html,*/*"}
    answer = sandbox.request("GET", "/", port=9, headers=headers)
    assert answer.status == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    fetched = sandbox.request("GET", "/", port=9, headers={**headers, "Sec-Fetch-Mode": "cors"})
    assert fetched.json["code"] == 502


def test_unknown_sandboxes_and_bad_routes(sandbox):
    def get(**headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return sandbox.api.request("GET", "/health", headers=headers)

    unknown = get(E2b_Sandbox_Id="i" + "z" * 20, E2b_Sandbox_Port="49983")
    assert (unknown.status, unknown.json["message"]) == (502, "The sandbox was not found")
    assert get(Host="49983-i%s.localhost" % ("z" * 20)).status == 502
    assert get(E2b_Sandbox_Id=sandbox.id).status == 400
    assert get(E2b_Sandbox_Port="49983").status == 400
    assert get(E2b_Sandbox_Id=sandbox.id, E2b_Sandbox_Port="http").status == 400
    assert get(E2b_Sandbox_Id="../" + sandbox.id, E2b_Sandbox_Port="1").status == 400
    assert get(Host="http-%s.localhost" % sandbox.id).status == 400


def sign(sandbox, path, operation, user):
    text = ":".join((path, operation, user, sandbox.token))
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return "/files?" + urllib.parse.urlencode(
        {"path": path, "username": user, "signature": "v1_" + digest})


def test_signed_urls_name_their_sandbox(sandbox):
    # They carry no routing header, and all sandboxes share this address.
    other = sandbox.api.create()
    for one in (sandbox, other):
        write, read = (sign(one, "signed.txt", op, "user") for op in ("write", "read"))
        put_it = sandbox.api.request("POST", write, one.id,
                                     {"Content-Type": "application/octet-stream"})
        assert put_it.status == 200, put_it.body
        assert sandbox.api.request("GET", read).body.decode() == one.id
        assert sandbox.api.request("GET", write).status == 401
    other.delete()
    assert sandbox.api.request("GET", sign(other, "signed.txt", "read", "user")).status == 401


def test_routes_of_the_orchestrator_are_closed(sandbox):
    answer = sandbox.request("POST", "/init", "{}")
    assert answer.status == 404
    assert answer.json == {"message": "Not found", "path": "/init", "code": 404}


def test_upgrades_become_tunnels(sandbox):
    put(sandbox, "echo.py", ECHO)
    with sandbox.start("exec python3 /tmp/echo.py"):
        def upgrade():
            connection = dial(sandbox.api.address)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 7000-%s.localhost\r\n"
                               b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
                               % sandbox.id.encode())
            stream = connection.makefile("rb")
            return connection, stream, read_head(stream)

        connection, stream, head = programs.wait_until(
            lambda: (lambda c: c if "101" in c[2][0] else None)(upgrade()))
        for word in (b"hello", b"again"):
            connection.sendall(word)
            assert stream.read(len(word)) == word.upper()
        connection.shutdown(socket.SHUT_WR)
        assert stream.read() == b"BYE"
        connection.close()


def test_bulk_passes_whole_and_a_slow_reader_costs_no_memory(local, sandbox):
    size = 256
    put(sandbox, "bulk.py", BULK % (size << 20, size))
    with sandbox.start("exec python3 /tmp/bulk.py"):
        connection = programs.wait_until(lambda: sandbox.run(
            "ss -ltn 2>/dev/null | grep -q :7001 || grep -q ':1B59 ' /proc/net/tcp")[0] == 0
            and dial(sandbox.api.address))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 7001-%s.localhost\r\n\r\n"
                           % sandbox.id.encode())
        stream = connection.makefile("rb", buffering=1 << 20)
        read_head(stream)
        before = local.rss()
        time.sleep(0.5)  # whatever would pile up does so now
        grown = local.rss() - before
        assert grown < 4 << 20 or programs.is_sanitized("runtime/local/e2b-local")
        left = size << 20
        while left > 0:
            piece = stream.read(min(left, 1 << 20))
            assert piece and piece.count(b"x") == len(piece)
            left -= len(piece)
        connection.close()


def test_many_streams_at_once(sandbox):
    def stream(i):
        return sandbox.run("for n in 1 2 3; do echo %d-$n; sleep 0.1; done" % i)

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for i, (code, output) in enumerate(pool.map(stream, range(64))):
            assert (code, output) == (0, b"".join(b"%d-%d\n" % (i, n) for n in (1, 2, 3)))
