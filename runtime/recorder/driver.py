"""Drives the recorder's program in a state directory of its own, and reads what it writes."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

RECORDER = os.path.abspath("runtime/recorder/recorder")

KEEP_UP, DROP_OLDEST, BLOCK = 1, 2, 3
EXITED, SIGNALED, TIMED_OUT, KILLED, START_FAILED, LOST = 1, 2, 3, 5, 7, 8

KINDS = {4: "started", 5: "stdout", 6: "stderr", 7: "terminal", 8: "text", 9: "dropped",
         10: "exited", 11: "closed"}


# --- protocol buffers by hand: the tests must not share code with what they test ---

def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def number(field, n):
    return varint(field << 3) + varint(n) if n else b""


def block(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def read_varint(data, at):
    n = shift = 0
    while True:
        byte = data[at]
        at += 1
        n |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return n, at


def fields(data):
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        else:
            assert tag & 7 == 2, f"wire type {tag & 7}"
            size, at = read_varint(data, at)
            assert at + size <= len(data), "torn"
            value, at = data[at:at + size], at + size
        yield tag >> 3, value


def message(data):
    return dict(fields(data))


@dataclasses.dataclass
class Event:
    seq: int
    time: int
    offset: int
    kind: str
    data: bytes

    @property
    def sub(self):
        return message(self.data)

    @property
    def reason(self):
        assert self.kind == "exited"
        return self.sub.get(1, 0)

    @property
    def code(self):
        return self.sub.get(2, 0)

    @property
    def dropped(self):
        sub = self.sub
        return sub.get(1, 0), sub.get(2, 0), sub.get(3, 0)


def parse(data):
    """The events of a follower's output; parse.seen and parse.ended tell of its marks."""
    events = []
    parse.seen, parse.ended = 0, False
    for field, frame in fields(data):
        if field in (2, 15):
            parse.seen = frame if field == 2 else parse.seen
            parse.ended |= field == 15
            continue
        assert field == 1 and not parse.ended
        event = message(frame)
        stamp = message(event.get(2, b""))
        kinds = [k for k in event if k in KINDS]
        assert len(kinds) == 1
        events.append(Event(event.get(1, 0), stamp.get(1, 0) * 10**9 + stamp.get(2, 0),
                            event.get(3, 0), KINDS[kinds[0]], event[kinds[0]]))
    return events


def check(events, first=1):
    """Events follow each other without a gap, time does not go back; returns them."""
    expected, last = first, 0
    for e in events:
        if e.kind == "dropped":
            assert e.dropped[0] == expected and e.seq == e.dropped[1]
        else:
            assert e.seq == expected
        assert e.time >= last
        expected, last = e.seq + 1, e.time
    return events


def output(events, kind="stdout"):
    return b"".join(e.data for e in events if e.kind == kind)


def text(events, stream=1):
    return "".join(e.sub.get(2, b"").decode() for e in events
                   if e.kind == "text" and e.sub.get(1) == stream)


def wait_for(condition, seconds=60):
    """Until the condition holds; its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("waited in vain")


class Recorder:
    def __init__(self, directory, program=None):
        self.program = program or RECORDER
        self.state = pathlib.Path(directory)
        self.specs = 0
        self.lock = threading.Lock()
        assert self.verb("setup").returncode == 0

    kind = "cmd"  # or "watch": what ids name here

    def verb(self, *args, **kwargs):
        return subprocess.run([self.program, args[0], f"--state={self.state}", *args[1:]],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, **kwargs)

    def popen(self, *args, **kwargs):
        return subprocess.Popen([self.program, args[0], f"--state={self.state}", *args[1:]],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)

    def spec_path(self):
        with self.lock:
            self.specs += 1
            return self.state / "spec" / f"s{self.specs}-{id(self)}"

    def write_spec(self, data):
        path = self.spec_path()
        path.write_bytes(data)
        return f"--spec={path}"

    @staticmethod
    def command_spec(id, args, sandbox="sandbox", digest=b"\x01\x02", envs=(), cwd="", user="",
                     timeout_ms=0, grace_ms=0, overflow=0, stdin=False, max_bytes=0):
        if isinstance(args, str):
            args = ["/bin/bash", "-c", args]
        spec = block(1, id) + block(2, sandbox) + block(3, digest)
        spec += b"".join(block(4, a) for a in args) + b"".join(block(5, e) for e in envs)
        spec += (block(6, cwd) if cwd else b"") + (block(7, user) if user else b"")
        spec += number(8, timeout_ms) + number(9, grace_ms) + number(10, overflow)
        spec += number(11, int(stdin)) + number(12, max_bytes)
        return block(1, spec) + block(15, "end")

    def start(self, id, args, *options, **spec):
        """`run` as a process, for the test to read."""
        return self.popen("run", self.write_spec(self.command_spec(id, args, **spec)), *options)

    def detach(self, id, args, **spec):
        """Starts a command and does not read it."""
        done = self.verb("run", self.write_spec(self.command_spec(id, args, **spec)),
                         "--until=now")
        assert done.returncode == 0, done.stderr

    def run(self, id, args, *options, **spec):
        """The events of a command that is run to its end."""
        done = self.verb("run", self.write_spec(self.command_spec(id, args, **spec)), *options)
        assert done.returncode == 0, done.stderr
        return check(parse(done.stdout))

    def follow(self, id, *options, first=1):
        done = self.verb("follow", f"--id={id}", f"--from={first}", *options)
        assert done.returncode == 0, done.stderr
        return check(parse(done.stdout), first)

    def show(self, id):
        done = self.verb("show", f"--id={id}")
        assert done.returncode == 0, done.stderr
        (field, command), = fields(done.stdout)
        assert field == 1
        return message(command)

    def input(self, id, data=b"", eof=False):
        spec = block(2, block(1, data) + number(2, int(eof))) + block(15, "end")
        return self.verb("input", f"--id={id}", self.write_spec(spec))

    def signal(self, id, number, target="group"):
        return self.verb("signal", f"--id={id}", f"--signal={number}", f"--target={target}")

    def ack(self, id, seq):
        return self.verb("ack", f"--id={id}", f"--seq={seq}")

    def dir(self, id):
        return self.state / self.kind / id

    def writer(self, id):
        """The process that holds the command's lock."""
        try:
            lock = os.stat(self.dir(id) / "lock")
        except FileNotFoundError:
            return 0
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            try:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    info = os.stat(f"/proc/{pid}/fd/{fd}")
                    if (info.st_dev, info.st_ino) == (lock.st_dev, lock.st_ino):
                        return int(pid)
            except OSError:
                continue
        return 0

    def kill_writer(self, id):
        pid = self.writer(id)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pid

    def end_all(self):
        """Leaves nothing running: the tree of each command, then the writers."""
        for command in (self.state / "cmd").iterdir():
            if self.writer(command.name):
                self.signal(command.name, signal.SIGKILL, "tree")
                wait_for(lambda: not self.kill_writer(command.name))


@contextlib.contextmanager
def temporary():
    """A recorder in a directory that every user can reach, and that goes away."""
    path = tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp")
    os.chmod(path, 0o755)
    recorder = Recorder(os.path.join(path, "state"))
    try:
        yield recorder
    finally:
        recorder.end_all()
        shutil.rmtree(path)
