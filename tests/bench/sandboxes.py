"""Figures of e2b-local by itself, through its API alone: see bench.py.

The client is a bare socket that stays connected, so that what is measured is the runtime.
"""

import base64
import collections
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from harness import leftovers, programs

BWRAP = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
         "--unshare-all", "--die-with-parent", "true"]


def percentile(times, p):
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]


class Client:
    def __init__(self, local):
        host, port = local.address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def close(self):
        self.socket.close()

    def _more(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the runtime closed the connection")
        self.unread += piece

    def _until(self, mark):
        while (at := self.unread.find(mark)) < 0:
            self._more()
        head, self.unread = self.unread[:at], self.unread[at + len(mark):]
        return head

    def _exactly(self, size):
        while len(self.unread) < size:
            self._more()
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def _send(self, method, path, body, headers):
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: bench", "Content-Length: %d" % len(body),
                 *("%s: %s" % pair for pair in headers.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode() + body)
        lines = self._until(b"\r\n\r\n").decode().split("\r\n")
        return int(lines[0].split()[1]), {k.lower(): v for k, _, v in (
            line.partition(": ") for line in lines[1:])}

    def call(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        status, headers = self._send(method, path, data, {
            "X-API-Key": programs.API_KEY, "Content-Type": "application/json"})
        answer = self._exactly(int(headers.get("content-length", 0)))
        if status >= 300:
            raise RuntimeError("%s %s: %d %s" % (method, path, status, answer))
        return json.loads(answer) if answer else None

    def create(self, timeout=600):
        return self.call("POST", "/v2/sandboxes", {"templateID": "base", "timeout": timeout})

    def delete(self, sandbox):
        self.call("DELETE", "/sandboxes/" + sandbox["sandboxID"])

    def start(self, sandbox, command="true"):
        """Seconds until the process runs, and until all of it is over."""
        message = json.dumps({"process": {"cmd": command, "args": []}, "stdin": False}).encode()
        begin = time.perf_counter()
        status, headers = self._send(
            "POST", "/process.Process/Start", struct.pack(">BI", 0, len(message)) + message,
            {"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1",
             "E2b-Sandbox-Id": sandbox["sandboxID"], "E2b-Sandbox-Port": "49983",
             "X-Access-Token": sandbox.get("envdAccessToken") or ""})
        assert status == 200 and headers["transfer-encoding"] == "chunked", (status, headers)
        body, started = b"", None
        while size := int(self._until(b"\r\n"), 16):
            started = started or time.perf_counter()
            body += self._exactly(size)
            self._until(b"\r\n")
        self._until(b"\r\n")
        assert b'"exited":true' in body and b'"start"' in body, body
        return started - begin, time.perf_counter() - begin


def bwrap_once():
    """Milliseconds of a whole bwrap; None when it is not installed."""
    program = shutil.which(BWRAP[0])
    if not program:
        return None
    begin = time.perf_counter()
    pid = os.posix_spawn(program, BWRAP, os.environ)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "bwrap failed"
    return (time.perf_counter() - begin) * 1e3


def create(local, count=200):
    """Milliseconds: of the create by itself, until the first command has run to its end, and of
    bwrap beside them, in turns."""
    client = Client(local)
    created, first, alone = [], [], []
    for n in range(count + 10):
        begin = time.perf_counter()
        sandbox = client.create()
        answered = time.perf_counter()
        client.start(sandbox)
        ended = time.perf_counter()
        client.delete(sandbox)
        beside = bwrap_once()
        if n >= 10:
            created.append((answered - begin) * 1e3)
            first.append((ended - begin) * 1e3)
            alone.append(beside)
    client.close()
    return created, first, alone


def start(local, count=400):
    """Milliseconds until a command runs, until it is over, and of bwrap for the same, in turns."""
    client = Client(local)
    sandbox = client.create()
    started, ended, alone = [], [], []
    for n in range(count + 10):
        a, b = client.start(sandbox)
        beside = bwrap_once()
        if n >= 10:
            started.append(a * 1e3)
            ended.append(b * 1e3)
            alone.append(beside)
    client.delete(sandbox)
    client.close()
    return started, ended, alone


def memory_of(pids):
    """Bytes: resident, with what is shared counted in each; and in proportion to those that share
    it."""
    sums = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        try:
            text = Path("/proc/%d/smaps_rollup" % pid).read_text(encoding="ascii")
        except OSError:
            continue
        for line in text.splitlines():
            if line[:4] in sums:
                sums[line[:4]] += int(line.split()[1]) * 1024
    return sums["Rss:"], sums["Pss:"]


def available():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) * 1024


def census(local):
    """What there is of processes, mounts, cgroups and folders."""
    pids = leftovers.descendants(os.getpid())
    mounts = set()
    for pid in pids:
        try:
            mounts.update(Path("/proc/%d/mountinfo" % pid).read_text(encoding="utf-8").splitlines())
        except OSError:
            continue
    groups = sum(1 + len(names) for top in leftovers.cgroups_of(local.data_dir)
                 for _, names, _ in os.walk(top))
    folders = sum(len(names) + len(files) for _, names, files in os.walk(local.data_dir))
    return collections.OrderedDict(processes=len(pids), mounts=len(mounts), cgroups=groups,
                                   files=folders)


def at_rest(local, seconds=20):
    """The census once nothing comes or goes any more."""
    end = time.monotonic() + seconds
    last = None
    while (now := census(local)) != last and time.monotonic() < end:
        last = now
        leftovers.reap()
        time.sleep(0.3)
    return now


def many(local, count=500, workers=8):
    """As many sandboxes at once: the seconds it takes, the memory of each, and what there was
    before, while they lived, and after they were deleted."""
    begin_census = at_rest(local)
    before = (-available(), *memory_of(leftovers.descendants(os.getpid())))
    made, failures, lock = [], [], threading.Lock()

    def in_turns(work, items):
        items = collections.deque(items)

        def loop():
            client = Client(local)
            try:
                while True:
                    with lock:
                        if not items:
                            return
                        item = items.popleft()
                    work(client, item)
            except Exception as e:  # told by the caller
                failures.append(e)
            finally:
                client.close()

        threads = [threading.Thread(target=loop) for _ in range(workers)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return time.perf_counter() - begin

    def make(client, _):
        sandbox = client.create()
        with lock:
            made.append(sandbox)

    seconds = {"create": in_turns(make, range(count))}
    time.sleep(1)
    full_census = census(local)
    now = (-available(), *memory_of(leftovers.descendants(os.getpid())))
    each = [(b - a) / count for a, b in zip(before, now)]
    seconds["a command in each"] = in_turns(lambda client, s: client.start(s), made)
    seconds["delete"] = in_turns(lambda client, s: client.delete(s), made)
    return seconds, each, begin_census, full_census, at_rest(local)
