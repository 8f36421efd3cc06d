"""A world for programs that ask the internet: two namespaces of ours, one with the addresses that
they ask, the other for the programs, with a way to the first and nowhere else.

enter() puts this process into the second one. Takes root. The machine itself is left as it is: what
is changed of its files is seen in the namespace only.
"""

import ctypes
import http.server
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
PR_SET_PDEATHSIG = 1

# What answers there: address -> (names, status).
SITES = {
    "1.1.1.1": ([], 301),
    "8.8.8.8": (["dns.google"], 302),
    "142.250.0.1": (["connectivitycheck.gstatic.com"], 204),
}
NAMES = {name: address for address, (names, _) in SITES.items() for name in names}
# Every name below this one is the machine itself, as a resolver that is set up for it would have it.
DOMAIN = "e2b.test"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags):
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = SITES[self.connection.getsockname()[0]][1]
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", "https://elsewhere.example/")
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


def serve_names(server):
    """DNS: A records of NAMES and of what is below DOMAIN, nothing of anything else."""
    while True:
        query, client = server.recvfrom(4096)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace").lower())
            at += 1 + query[at]
        kind, = struct.unpack(">H", query[at + 1:at + 3])
        name = ".".join(labels)
        found = "127.0.0.1" if name.endswith("." + DOMAIN) else NAMES.get(name)
        answers = 1 if found and kind == 1 else 0
        reply = (query[:2] + struct.pack(">HHHHH", 0x8180 if found else 0x8183, 1, answers, 0, 0) +
                 query[12:at + 5])
        if answers:
            reply += struct.pack(">HHHIH", 0xc00c, 1, 1, 60, 4) + socket.inet_aton(found)
        server.sendto(reply, client)


def serve(folder, ours):
    """What is out there, once its addresses are."""
    ours.recv(1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "site.pem", folder / "site.key")
    for address in SITES:
        for port, secure in ((443, True), (80, False)):
            server = http.server.ThreadingHTTPServer((address, port), Site)
            if secure:
                server.socket = context.wrap_socket(server.socket, server_side=True,
                                                    do_handshake_on_connect=False)
            threading.Thread(target=server.serve_forever, daemon=True).start()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("8.8.8.8", 53))
    ours.send(b"1")
    serve_names(names)


def make_certificates(folder):
    names = ",".join(["IP:" + a for a in SITES] + ["DNS:" + n for n in NAMES])
    (folder / "ext").write_text("subjectAltName=" + names, encoding="ascii")
    quiet = {"check": True, "stderr": subprocess.DEVNULL, "cwd": folder}
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test world",
                    "-days", "2"], **quiet)
    subprocess.run([*new, "-keyout", "site.key", "-out", "site.csr", "-subj", "/CN=site"], **quiet)
    subprocess.run(["openssl", "x509", "-req", "-in", "site.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                    "-CAcreateserial", "-out", "site.pem", "-days", "2", "-extfile", "ext"], **quiet)


def trust(certificate):
    """Makes an authority one of those that programs in the namespace, and sandboxes, know."""
    with open(BUNDLE, "a", encoding="ascii") as f:
        f.write(certificate)


def cover(path, folder):
    """Lets a folder of the system be changed, here only."""
    run("mount", "-t", "tmpfs", "tmpfs", folder / "changes")
    for name in ("upper", "work"):
        (folder / "changes" / name).mkdir()
    run("mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s,workdir=%s" % (
        path, folder / "changes/upper", folder / "changes/work"), path)
    run("umount", "-l", folder / "changes")


def change_system(folder):
    """The resolver of that world, who signs its certificates, and what E2B's image has besides."""
    cover("/etc", folder)
    resolver = Path("/etc/resolv.conf")
    if resolver.is_symlink():
        resolver.unlink()
    resolver.write_text("nameserver 8.8.8.8\n", encoding="ascii")
    trust((folder / "ca.pem").read_text(encoding="ascii"))
    python = Path("/usr/bin/python")
    if not python.exists():
        cover("/usr", folder)
        python.symlink_to("python3")


def connect(pid):
    """Links this process's namespace with that of pid."""
    run("ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", str(pid))
    run("ip", "address", "add", "198.18.0.2/24", "dev", "out")
    there = ["nsenter", "--net=/proc/%d/ns/net" % pid]
    for address in ("198.18.0.1/24", *(a + "/32" for a in SITES)):
        run(*there, "ip", "address", "add", address, "dev", "in")
    for link in ("lo", "out"):
        run("ip", "link", "set", link, "up")
    for link in ("lo", "in"):
        run(*there, "ip", "link", "set", link, "up")
    run("ip", "route", "add", "default", "via", "198.18.0.1")


def enter():
    folder = Path(tempfile.mkdtemp(prefix="sandboxd-world-", dir="/tmp"))
    (folder / "changes").mkdir()
    make_certificates(folder)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            unshare(CLONE_NEWNET)
            theirs.send(b"1")
            serve(folder, theirs)
        finally:
            os._exit(1)
    theirs.close()
    ours.recv(1)
    unshare(CLONE_NEWNS | CLONE_NEWNET)
    run("mount", "--make-rprivate", "/")
    change_system(folder)
    connect(pid)
    ours.send(b"1")
    assert ours.recv(1), "the world outside did not start"
    shutil.rmtree(folder)
