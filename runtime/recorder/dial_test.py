"""The verb dial: a TCP connection over stdin and stdout, and servers that do not behave."""

import hashlib
import os
import random
import socket
import struct
import subprocess
import threading
import time

import pytest

import driver

MIB = 1 << 20
BEAT, END = b"\0\0\0\0", b"\xff\xff\xff\xff"


@pytest.fixture
def recorder():
    with driver.temporary() as r:
        yield r


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as s:
        s.settimeout(30)
        yield s


def frame(data):
    return struct.pack(">I", len(data)) + data


class Dial:
    """One dial, and what it says."""

    def __init__(self, recorder, server, *options):
        self.process = recorder.popen("dial", "--port=%d" % server.getsockname()[1], *options,
                                      stdin=subprocess.PIPE)
        self.data, self.ended = b"", False
        self.address = self.next()
        self.peer, _ = server.accept()
        self.peer.settimeout(30)

    def next(self):
        """The next frame; None: the end; False: nothing more."""
        head = self.process.stdout.read(4)
        if len(head) < 4:
            return False
        if head == END:
            self.ended = True
            return None
        return self.process.stdout.read(struct.unpack(">I", head)[0])

    def rest(self):
        while True:
            data = self.next()
            if data is None or data is False:
                return self.data
            self.data += data

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def finish(self):
        code = self.process.wait(30)
        return code, self.process.stderr.read()


def received(peer):
    data = b""
    while True:
        piece = peer.recv(65536)
        if not piece:
            return data
        data += piece


def test_both_ways_end_on_their_own(recorder, server):
    d = Dial(recorder, server)
    assert d.address.decode() == "127.0.0.1:%d" % server.getsockname()[1]
    d.write(frame(b"question") + BEAT + END + BEAT)
    assert received(d.peer) == b"question"
    # The way up has ended; the way down goes on.
    d.peer.sendall(b"answer")
    assert d.next() == b"answer"
    d.peer.sendall(b"more")
    d.peer.close()
    assert d.rest() == b"more" and d.ended
    assert d.finish() == (0, b"")


def test_the_server_may_end_first(recorder, server):
    d = Dial(recorder, server)
    d.peer.sendall(b"hello")
    d.peer.shutdown(socket.SHUT_WR)
    assert d.rest() == b"hello" and d.ended
    assert d.process.poll() is None
    d.write(frame(b"late") + END)
    assert received(d.peer) == b"late"
    assert d.finish() == (0, b"")


def test_much_both_ways_at_once(recorder, server):
    d = Dial(recorder, server)
    up, down = (random.Random(n).randbytes(16 * MIB) for n in (1, 2))
    digests = {}

    def serve():
        threading.Thread(target=lambda: (d.peer.sendall(down), d.peer.shutdown(socket.SHUT_WR))).start()
        digests["up"] = hashlib.sha256(received(d.peer)).digest()

    serving = threading.Thread(target=serve)
    serving.start()

    def write():
        for at in range(0, len(up), 100000):
            d.write(frame(up[at:at + 100000]))
        d.write(END)

    writing = threading.Thread(target=write)
    writing.start()
    assert d.rest() == down
    writing.join(60)
    serving.join(60)
    assert digests["up"] == hashlib.sha256(up).digest()
    assert d.finish() == (0, b"")


def test_a_server_that_does_not_read_stops_the_writer(recorder, server):
    d = Dial(recorder, server)
    os.set_blocking(d.process.stdin.fileno(), False)
    data, sent, still = frame(bytes(65536)), 0, 0
    # Pipe, piece and sockets are bounded: at some point nothing is taken any more.
    while still < 20:
        try:
            sent += os.write(d.process.stdin.fileno(), data)
            still = 0
        except BlockingIOError:
            still += 1
            time.sleep(0.05)
        assert sent < 64 * MIB
    with open("/proc/%d/status" % d.process.pid) as status:
        memory = next(line for line in status if line.startswith("VmRSS")).split()
    assert int(memory[1]) < 64 * 1024
    d.process.kill()
    d.finish()


def test_a_reset_is_told(recorder, server):
    d = Dial(recorder, server)
    d.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    d.peer.close()
    assert d.rest() == b"" and not d.ended
    code, error = d.finish()
    assert code == 34 and b"broke the connection: Connection reset" in error


def test_nothing_listens(recorder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = recorder.verb("dial", "--port=%d" % port)
        assert done.returncode == 32 and done.stdout == b""
        assert done.stderr == b"nothing listens on port %d of the sandbox\n" % port
        done = recorder.verb("dial", "--port=%d" % port, "--host=127.0.0.1")
        assert done.returncode == 32


def test_the_sandbox_is_also_its_ipv6_address(recorder):
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("there is no IPv6 here")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        d = Dial(recorder, server)
        assert d.address.decode() == "[::1]:%d" % server.getsockname()[1]
        d.peer.close()
        d.write(END)
        assert d.finish() == (0, b"")


@pytest.mark.parametrize("options", [["--port=0"], ["--port=70000"], ["--port=80", "--host=example.com"]])
def test_bad_addresses_are_refused(recorder, options):
    assert recorder.verb("dial", *options).returncode == 2


def test_it_ends_when_nobody_is_there(recorder, server):
    d = Dial(recorder, server, "--timeout-ms=300")
    for _ in range(10):
        d.write(BEAT)
        time.sleep(0.1)
    assert d.process.poll() is None
    code, error = d.finish()
    assert code == 34 and b"nobody" in error
    assert d.peer.recv(1) == b""

    d = Dial(recorder, server)
    d.process.stdin.close()
    assert d.finish()[0] == 0


def test_what_is_no_frame_ends_it(recorder, server):
    d = Dial(recorder, server)
    d.write(b"GET / HTTP/1.1\r\n")
    assert d.finish()[0] == 9
