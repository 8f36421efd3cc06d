"""WatchDirectory: what changes in a sandbox's directory, and nothing of it missed."""

import threading
import time

import grpc
import pytest
from harness import api, follow
from harness.service import Service

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
T = api.FileChange
READY, CREATED, WRITTEN = T.TYPE_READY, T.TYPE_CREATED, T.TYPE_WRITTEN

_n = iter(range(1000))


class Watch:
    """What the streams of a watch told, checked for gaps."""

    def __init__(self, stub, sandbox, path, ready=True, **fields):
        self.request = dict(sandbox_id=sandbox, path=path, recursive=True)
        self.request.update(fields)
        self.request.setdefault("watch_id", "w%d-%d" % (next(_n), time.time_ns()))
        self.events, self.changes, self.last_seq = [], [], 0
        self.open(stub)
        if ready:
            self.until(lambda w: any(c.type == READY for c in w.changes))

    def open(self, stub):
        self.stream = stub.WatchDirectory(api.WatchDirectoryRequest(
            from_seq=self.last_seq + 1 if self.last_seq else 0, **self.request), timeout=120)
        return self

    def step(self):
        response = next(self.stream, None)
        if response is None:
            return False
        for event in response.events:
            kind = event.WhichOneof("event")
            first = event.dropped.first_seq if kind == "dropped" else event.seq
            assert first == self.last_seq + 1 or kind == "dropped"
            self.last_seq = event.seq
            self.events.append(kind)
            if kind == "change":
                self.changes.append(event.change)
            elif kind == "ended":
                self.ended = event.ended
        if response.events:
            assert response.last_seq == self.last_seq
        return True

    def until(self, condition):
        while not condition(self):
            assert self.step(), "the stream ended: %s" % self.events
        return self

    def sees(self, type, path, new_path=""):
        return self.until(lambda w: any(
            (c.type, c.path, c.new_path) == (type, path, new_path) for c in w.changes))

    def leave(self):
        self.stream.cancel()


@pytest.fixture
def place(stub, sandbox):
    """A directory of its own in the sandbox, and a way to change it."""
    path = "/tmp/watched-%d" % time.time_ns()
    follow.run(stub, sandbox, shell="mkdir " + path, timeout=60)

    def shell(line):
        follow.run(stub, sandbox, shell="cd %s && %s" % (path, line), timeout=60)

    shell.path = path
    return shell


def test_changes_are_told(stub, sandbox, place):
    w = Watch(stub, sandbox, place.path)
    assert w.events[0] == "started" and [c.type for c in w.changes] == [READY]
    stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=sandbox, files=[api.File(path=place.path + "/a", text="hello")]), timeout=30)
    w.sees(WRITTEN, "a")
    place("chmod 600 a && mv a b && mkdir -p x/y && echo 1 >x/y/z && rm -r x && mv b /tmp/b-$$")
    w.sees(T.TYPE_RENAMED, "b")
    told = [(c.type, c.path, c.new_path, c.is_directory) for c in w.changes]
    for change in [(T.TYPE_MODE_CHANGED, "a", "", False), (T.TYPE_RENAMED, "a", "b", False),
                   (CREATED, "x", "", True), (T.TYPE_REMOVED, "x", "", True)]:
        assert change in told
    w.leave()


def test_it_goes_on_through_another_pod(stub, other_stub, sandbox, place):
    w = Watch(stub, sandbox, place.path)
    place("touch one")
    w.sees(CREATED, "one").leave()
    place("mkdir two && touch two/file")  # while nobody looks
    w.open(other_stub).sees(CREATED, "two/file")
    # All of it again, through either pod; the same id is the same watch.
    again = Watch(stub, sandbox, place.path, watch_id=w.request["watch_id"]).sees(CREATED, "two/file")
    n = min(len(again.changes), len(w.changes))
    assert again.changes[:n] == w.changes[:n]
    w.leave(), again.leave()


def test_a_pod_that_is_killed_loses_nothing(local, sandbox, place):
    with Service(local, count=2) as service:
        w = Watch(service.stub(0), sandbox, place.path)
        making = threading.Thread(
            target=lambda: place("for i in $(seq 200); do echo $i >f$i; done"))
        making.start()
        w.sees(WRITTEN, "f20")
        service.pods[0].kill()
        with pytest.raises(grpc.RpcError):
            while w.step():
                pass
        w.open(service.stub(1)).sees(WRITTEN, "f200")
        making.join(60)
        created = [c.path for c in w.changes if c.type == CREATED]
        assert created == ["f%d" % i for i in range(1, 201)]
        w.leave()


def test_an_id_is_made_and_told(stub, sandbox, place):
    w = Watch(stub, sandbox, place.path, ready=False, watch_id="")
    first = next(w.stream)
    assert first.watch_id and not first.events
    w.until(lambda w: w.changes).leave()
    other = Watch(stub, sandbox, place.path, watch_id=first.watch_id)
    other.leave()


def test_it_ends_with_its_directory(stub, sandbox, place):
    w = Watch(stub, sandbox, place.path)
    place("rmdir %s" % place.path)
    while w.step():
        pass
    assert (w.changes[-1].type, w.changes[-1].path) == (T.TYPE_REMOVED, "")
    assert w.events[-2:] == ["ended", "closed"] and w.ended.reason == api.Exited.REASON_EXITED
    # It can still be read; a new one has nothing to watch.
    again = Watch(stub, sandbox, place.path, watch_id=w.request["watch_id"])
    while again.step():
        pass
    assert again.changes == w.changes


def test_it_ends_when_nobody_reads(stub, sandbox, place):
    w = Watch(stub, sandbox, place.path, keep_for=api.seconds(1))
    w.leave()
    time.sleep(4)  # its reader in the sandbox is ended first
    place("touch late")
    w.open(stub)
    deadline = time.monotonic() + 60
    while w.step():
        assert time.monotonic() < deadline
    assert w.ended.reason == api.Exited.REASON_IDLE_TIMED_OUT


def test_watches_are_no_commands(stub, sandbox, place, fails):
    w = Watch(stub, sandbox, place.path)
    commands = stub.ListCommands(api.ListCommandsRequest(sandbox_id=sandbox), timeout=30).commands
    assert w.request["watch_id"] not in [c.command_id for c in commands]
    fails(NOT_FOUND, "COMMAND_NOT_FOUND", stub.GetCommand, api.GetCommandRequest(
        sandbox_id=sandbox, command_id=w.request["watch_id"]))
    w.leave()


def test_what_cannot_be_watched(stub, sandbox, place, fails):
    place("touch file")
    w = Watch(stub, sandbox, place.path)

    def fails_with(code, reason, **fields):
        fields = {"sandbox_id": sandbox, "path": place.path, **fields}
        return fails(code, reason, stub.WatchDirectory, api.WatchDirectoryRequest(**fields))

    fails_with(NOT_FOUND, "FILE_NOT_FOUND", path=place.path + "/missing")
    fails_with(grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_DIRECTORY", path=place.path + "/file")
    fails_with(grpc.StatusCode.ALREADY_EXISTS, "COMMAND_MISMATCH", path="/tmp",
               watch_id=w.request["watch_id"])
    fails_with(NOT_FOUND, "SANDBOX_NOT_FOUND", sandbox_id="i0123456789abcdefghij")
    fails_with(INVALID, "USER_NOT_FOUND", user="nobody-here")
    for field, fields in [("sandbox_id", {"sandbox_id": "../x"}), ("watch_id", {"watch_id": "a b"}),
                          ("path", {"path": ""}), ("keep_for", {"keep_for": api.seconds(0.1)})]:
        found = fails_with(INVALID, "INVALID_FIELD", **fields)
        assert found["BadRequest"].field_violations[0].field == field
    w.leave()


def test_what_a_sandbox_makes_up_is_refused(stub, new_sandbox, fails):
    """The record is hostile ground: a path that is no text must not reach a client."""
    sandbox = new_sandbox()
    follow.run(stub, sandbox, shell="mkdir /tmp/d", timeout=60)
    w = Watch(stub, sandbox, "/tmp/d", watch_id="w")
    follow.run(stub, sandbox, user="root", timeout=60,
               shell="cd /tmp/d && touch good && sleep 1 && "
                     "sed -i 's/good/g\\xffod/' /var/lib/sandboxd/watch/w/journal.*")
    w.leave()
    fails(grpc.StatusCode.DATA_LOSS, "JOURNAL_CORRUPT", stub.WatchDirectory,
          api.WatchDirectoryRequest(sandbox_id=sandbox, path="/tmp/d", recursive=True, watch_id="w"))
