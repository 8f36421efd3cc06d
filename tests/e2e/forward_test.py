"""ForwardPort: TCP connections into a sandbox, with servers of all manners."""

import hashlib
import queue
import random
import socket
import threading
import time

import grpc
import pytest
from harness import api, programs
from harness.programs import wait_until

MIB = 1 << 20
INVALID = grpc.StatusCode.INVALID_ARGUMENT

# One server with a manner, on a port of its own, told first.
SERVER = r"""
import hashlib, socket, struct, sys, threading, time
manner, host = sys.argv[1], sys.argv[2]
listener = socket.create_server((host, 0), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
print('port', listener.getsockname()[1], flush=True)

def received(s):
    digest = hashlib.sha256()
    while True:
        data = s.recv(65536)
        if not data:
            return digest
        digest.update(data)

def serve(s):
    if manner == 'echo':
        while True:
            data = s.recv(65536)
            if not data:
                break
            s.sendall(data)
    elif manner == 'digest':
        s.sendall(received(s).hexdigest().encode())
    elif manner == 'first':
        s.sendall(b'bye')
        s.shutdown(socket.SHUT_WR)
        print('after', received(s).hexdigest(), flush=True)
    elif manner == 'reset':
        s.recv(1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    elif manner == 'pour':
        sent = 0
        while True:
            s.sendall(bytes(1 << 20))
            sent += 1
            print('sent', sent, flush=True)
    elif manner == 'deaf':
        time.sleep(1000)
    s.close()

while True:
    s, _ = listener.accept()
    threading.Thread(target=serve, args=(s,), daemon=True).start()
"""


class Server:
    """A server in the sandbox, and what it prints."""

    def __init__(self, stub, sandbox, manner, host="127.0.0.1"):
        self.words = queue.Queue()
        path = "/tmp/server-%s.py" % manner
        stub.WriteFiles(api.WriteFilesRequest(
            sandbox_id=sandbox, files=[api.File(path=path, text=SERVER)]), timeout=30)
        self._stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, shell="exec python3 -u %s %s %s" % (path, manner, host),
            on_disconnect=api.ON_DISCONNECT_KILL), timeout=600)
        threading.Thread(target=self._read, daemon=True).start()
        self.port = int(self.word("port"))

    def _read(self):
        rest = b""
        try:
            for response in self._stream:
                for event in response.events:
                    rest += event.stdout
                while b"\n" in rest:
                    line, rest = rest.split(b"\n", 1)
                    self.words.put(line.decode().split())
        except grpc.RpcError:
            pass

    def word(self, name):
        while True:
            key, value = self.words.get(timeout=60)
            if key == name:
                return value


class Connection:
    """One stream of ForwardPort, driven by hand."""

    def __init__(self, stub, sandbox, port, timeout=300, **fields):
        self._requests = queue.Queue(4)  # so that a client that is held waits
        self.put(start=api.ForwardStart(sandbox_id=sandbox, port=port, **fields))
        self.call = stub.ForwardPort(iter(self._requests.get, None), timeout=timeout)
        self.ended = False

    def put(self, **fields):
        self._requests.put(api.ForwardPortRequest(**fields))

    def write(self, data, step=200000):
        for at in range(0, len(data), step):
            self.put(data=data[at:at + step])

    def end(self):
        self._requests.put(None)

    def next(self):
        """The next thing that is not a sign of life; None at the end."""
        for response in self.call:
            kind = response.WhichOneof("message")
            if kind == "ended":
                assert not self.ended
                self.ended = True
            if kind is not None:
                return getattr(response, kind)
        return None

    def data(self):
        """Everything up to the end of the server's way."""
        data = bytearray()
        while not self.ended:
            piece = self.next()
            assert piece is not None, "no end was told"
            if not self.ended:
                data += piece
        return bytes(data)


@pytest.fixture
def server(stub, sandbox):
    servers = []

    def make(*args):
        servers.append(Server(stub, sandbox, *args))
        return servers[-1]

    yield make
    for s in servers:
        s._stream.cancel()


def test_http_megabytes_and_half_closes(stub, other_stub, sandbox, server):
    echo, digest = server("echo"), server("digest")
    data = random.Random(1).randbytes(8 * MIB)
    # Both ways at once, and each one ends on its own.
    c = Connection(stub, sandbox, echo.port)
    writing = threading.Thread(target=lambda: (c.write(data), c.end()))
    assert c.next().address == "127.0.0.1:%d" % echo.port
    writing.start()
    assert c.data() == data
    writing.join(60)
    assert c.next() is None and c.call.code() == grpc.StatusCode.OK
    # The server answers only when the way to it has ended; through another pod.
    c = Connection(other_stub, sandbox, digest.port)
    c.write(data)
    c.end()
    c.next()
    assert c.data().decode() == hashlib.sha256(data).hexdigest()
    assert c.next() is None and c.call.code() == grpc.StatusCode.OK


def test_the_server_may_end_first(stub, sandbox, server):
    first = server("first")
    c = Connection(stub, sandbox, first.port)
    c.next()
    assert c.data() == b"bye"
    c.write(b"x" * MIB)
    c.end()
    assert first.word("after") == hashlib.sha256(b"x" * MIB).hexdigest()
    assert c.next() is None and c.call.code() == grpc.StatusCode.OK


def test_ipv6_and_addresses(stub, sandbox, server):
    six = server("echo", "::1")
    for fields in {}, {"host": "::1"}:
        c = Connection(stub, sandbox, six.port, **fields)
        assert c.next().address == "[::1]:%d" % six.port
        c.write(b"hello")
        assert c.next() == b"hello"
        c.end()
        assert c.data() == b"" and c.next() is None


def test_nothing_listens(stub, sandbox, fails):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for fields in {}, {"host": "127.0.0.1"}:
            fails(grpc.StatusCode.FAILED_PRECONDITION, "PORT_REFUSED", stub.ForwardPort,
                  iter([api.ForwardPortRequest(
                      start=api.ForwardStart(sandbox_id=sandbox, port=port, **fields))]))


def test_a_reset_is_told(stub, sandbox, server, fails):
    c = Connection(stub, sandbox, server("reset").port)
    c.next()
    c.write(b"x")
    fails(grpc.StatusCode.ABORTED, "CONNECTION_LOST", lambda **_: c.call)


def test_a_client_that_goes_takes_the_connection_along(stub, sandbox, server):
    first = server("first")
    c = Connection(stub, sandbox, first.port)
    c.next()
    assert c.data() == b"bye"
    c.call.cancel()
    assert first.word("after") == hashlib.sha256(b"").hexdigest()


def test_who_does_not_read_slows_the_other_down(stub, sandbox, server, pods):
    pour, deaf = server("pour"), server("deaf")
    before = pods[0].rss()
    # The client does not read: the server gets no further.
    c = Connection(stub, sandbox, pour.port)
    c.next()
    poured = []
    wait_until(lambda: stands_still(lambda: poured.extend(drain(pour)) or len(poured)), 60)
    assert len(poured) < 48
    # The server does not read: the client gets no further.
    d = Connection(stub, sandbox, deaf.port)
    d.next()
    written = [0]

    def write():
        try:
            while written[0] < 256:
                d.write(bytes(MIB), step=MIB)
                written[0] += 1
        except grpc.RpcError:
            pass

    threading.Thread(target=write, daemon=True).start()
    wait_until(lambda: stands_still(lambda: written[0]), 60)
    assert written[0] < 64
    # A sanitizer keeps what was freed for a while.
    assert programs.is_sanitized("service/sandboxd") or pods[0].rss() < before + 48 * MIB
    # What waited is all there.
    got = 0
    while got < 64 * MIB:
        got += len(c.next())
    c.call.cancel()
    d.call.cancel()


def drain(server):
    words = []
    while not server.words.empty():
        words.append(server.words.get())
    return words


def stands_still(count):
    before = count()
    time.sleep(1)
    return count() == before


@pytest.mark.parametrize("field,fields", [
    ("start.sandbox_id", {"sandbox_id": "../x", "port": 80}), ("start.port", {"port": 0}),
    ("start.port", {"port": 65536}), ("start.host", {"port": 80, "host": "example.com"})])
def test_bad_starts_are_refused(stub, sandbox, fails, field, fields):
    start = api.ForwardStart(**{"sandbox_id": sandbox, **fields})
    found = fails(INVALID, "INVALID_FIELD", stub.ForwardPort,
                  iter([api.ForwardPortRequest(start=start)]))
    assert found["BadRequest"].field_violations[0].field == field


def test_bad_messages_are_refused(stub, sandbox, server, fails):
    port = server("echo").port
    start = api.ForwardPortRequest(start=api.ForwardStart(sandbox_id=sandbox, port=port))
    data = api.ForwardPortRequest(data=b"x")
    for messages in ([], [data], [start, start], [start, api.ForwardPortRequest()],
                     [start, api.ForwardPortRequest(data=bytes(MIB + 1))]):
        fails(INVALID, "INVALID_FIELD", stub.ForwardPort, iter(messages))
    fails(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND", stub.ForwardPort,
          iter([api.ForwardPortRequest(
              start=api.ForwardStart(sandbox_id="i0123456789abcdefghij", port=80))]))
