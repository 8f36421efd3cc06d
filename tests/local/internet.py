"""A stand-in for the internet, and for the networks around a machine that no sandbox is to see.

enter() gives this process a network namespace of its own, with one interface; what is behind that
is another namespace in which this file runs as a program: it answers on every address it has, says
which one was asked, and keeps count. Both are gone with the tests.
"""

import ctypes
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from pathlib import Path

HOST = "198.51.100.2"  # the machine's own address
HOST_ALIAS = "203.0.113.99"
GATEWAY = "198.51.100.1"
WEB = "203.0.113.10"
OTHER = "203.0.113.20"
THIRD = "203.0.113.30"
NAME_SERVER = "203.0.113.53"
CONTROL = "203.0.113.77"  # what the internet has seen
PRIVATE = ["10.1.2.3", "172.16.5.5", "192.168.7.7", "100.100.0.1", "169.254.169.254",
           "198.18.0.1", "192.0.0.1", "192.88.99.1", "240.0.0.1", "0.1.2.3"]

NAMES = {
    "allowed.test": [WEB],
    "www.allowed.test": [WEB],
    "deep.www.allowed.test": [WEB],
    "other.test": [OTHER],
    "third.test": [THIRD],
    "private.test": ["10.1.2.3"],
    "metadata.test": ["169.254.169.254"],
    "loopback.test": ["127.0.0.1"],
    "host.test": [HOST],
    "alias.test": [HOST_ALIAS],
    "mixed.test": ["10.1.2.3", WEB],
    "dead.test": ["203.0.113.200"],  # nobody has this address
}
# Another address with each question.
CHANGING = {"rebind.test": [OTHER, "127.0.0.1", HOST, "10.1.2.3"]}

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def ip(*args):
    subprocess.run(["ip", *args], check=True, stdin=subprocess.DEVNULL)


def unshare(flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def leave_network():
    """This process's own network namespace; for who is not root with a user namespace around it."""
    if os.geteuid() == 0:
        unshare(CLONE_NEWNET)
        return
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text("0 %d 1" % uid, encoding="ascii")
    Path("/proc/self/gid_map").write_text("0 %d 1" % gid, encoding="ascii")


class Internet:
    def __init__(self, folder):
        leave_network()
        ip("link", "set", "lo", "up")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, __file__, folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"left\n"
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
           str(self.process.pid))
        ip("addr", "add", HOST + "/24", "dev", "eth0")
        ip("addr", "add", HOST_ALIAS + "/32", "dev", "lo")
        ip("link", "set", "eth0", "up")
        ip("route", "add", "default", "via", GATEWAY)
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"serving\n"

    def seen(self):
        """What arrived since it was asked last: requests, names that were asked for."""
        with socket.create_connection((CONTROL, 9), 10) as control:
            return json.loads(control.makefile().read())

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


# From here on: in the internet.

SEEN = {"addresses": [], "names": [], "open": 0}
LOCK = threading.Lock()


def note(key, value):
    with LOCK:
        SEEN[key].append(value)


class Web(socketserver.StreamRequestHandler):
    """HTTP/1.1: says which address was asked, by what Host and with what headers."""

    disable_nagle_algorithm = True

    def handle(self):
        address = self.request.getsockname()[0]
        note("addresses", address)
        while line := self.rfile.readline(65536):
            method, target, _ = line.decode().split(" ")
            headers = {}
            while (field := self.rfile.readline(65536)) not in (b"\r\n", b"\n", b""):
                name, value = field.decode().split(":", 1)
                headers[name.lower()] = value.strip()
            body = self.read_body(headers)
            if target.startswith("/big"):
                self.send_big(int(target.rsplit("/", 1)[1]))
                continue
            answer = json.dumps({"address": address, "method": method, "target": target,
                                 "headers": headers, "body": body.decode("latin-1")}).encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer))
            if headers.get("connection", "").lower() == "close":
                return

    def read_body(self, headers):
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send_big(self, size):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(range(256)) * 256
        for at in range(0, size, len(piece)):
            self.wfile.write(piece[:size - at])


class Greeter(socketserver.StreamRequestHandler):
    """Speaks first, as SSH and mail servers do; then repeats all it got, once it got all."""

    def handle(self):
        note("addresses", self.request.getsockname()[0])
        with LOCK:
            SEEN["open"] += 1
        try:
            self.wfile.write(b"hello from %s\n" % self.request.getsockname()[0].encode())
            data = self.rfile.read()
            self.wfile.write(data)
        except OSError:
            pass
        with LOCK:
            SEEN["open"] -= 1


class Control(socketserver.StreamRequestHandler):
    def handle(self):
        with LOCK:
            self.wfile.write(json.dumps(SEEN).encode())
            SEEN["addresses"], SEEN["names"] = [], []


def record(name_pointer, kind, data, ttl=0):
    return struct.pack(">HHHIH", name_pointer, kind, 1, ttl, len(data)) + data


def answer(question):
    """The answer of the name server, to bytes."""
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode())
        at += 1 + question[at]
    name, (kind, _) = ".".join(labels).lower(), struct.unpack_from(">HH", question, at + 1)
    note("names", name)
    records, code = [], 0
    if kind == 1 and name in CHANGING:
        CHANGING[name].append(CHANGING[name].pop(0))
        records = [record(0xc00c, 1, socket.inet_aton(CHANGING[name][-1]))]
    elif kind == 1 and name in NAMES:
        records = [record(0xc00c, 1, socket.inet_aton(a), 1) for a in NAMES[name]]
    elif kind == 16 and name == "allowed.test":
        records = [record(0xc00c, 16, b"\x05hello")]
    elif kind == 16 and name == "big.allowed.test":
        records = [record(0xc00c, 16, b"\xc8" + b"%03d" % i + b"x" * 197) for i in range(40)]
    elif name not in NAMES and name not in CHANGING:
        code = 3
    return struct.pack(">HHHHHH", struct.unpack_from(">H", question)[0], 0x8180 | code, 1,
                       len(records), 0, 0) + question[12:at + 5] + b"".join(records)


class Names(socketserver.BaseRequestHandler):
    def handle(self):
        data, sender = self.request
        reply = answer(data)
        if len(reply) > 512:
            reply = reply[:2] + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + \
                data[12:data.index(b"\0", 12) + 5]
        sender.sendto(reply, self.client_address)


class NamesOverTcp(socketserver.StreamRequestHandler):
    def handle(self):
        while size := self.rfile.read(2):
            reply = answer(self.rfile.read(struct.unpack(">H", size)[0]))
            self.wfile.write(struct.pack(">H", len(reply)) + reply)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        pass  # connections that are reset are what some tests are about


class TlsServer(Server):
    def __init__(self, *args, context):
        self.context = context
        super().__init__(*args)

    def finish_request(self, request, client_address):
        self.RequestHandlerClass(self.context.wrap_socket(request, server_side=True),
                                 client_address, self)


class DatagramServer(socketserver.ThreadingUDPServer):
    daemon_threads = True


def certificate(folder):
    """One for every name, made now."""
    pem = Path(folder) / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test",
                    "-keyout", pem, "-out", str(pem) + ".crt"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pem) + ".crt", pem)
    return context


def serve(folder):
    unshare(CLONE_NEWNET)
    print("left", flush=True)
    sys.stdin.readline()
    ip("link", "set", "lo", "up")
    ip("addr", "add", GATEWAY + "/24", "dev", "eth0")
    for address in [WEB, OTHER, THIRD, NAME_SERVER, CONTROL, *PRIVATE]:
        ip("addr", "add", address + "/32", "dev", "lo")
    ip("link", "set", "eth0", "up")
    context = certificate(folder)
    servers = [Server(("", 80), Web), Server(("", 8080), Web),
               TlsServer(("", 443), Web, context=context), Server(("", 2222), Greeter),
               Server(("", 9), Control), Server(("", 53), NamesOverTcp),
               DatagramServer((NAME_SERVER, 53), Names)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("serving", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1])
