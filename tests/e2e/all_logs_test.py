"""All commands of a sandbox in one stream: merged, followed, resumed by cursor on any pod."""

import base64
import collections
import json
import subprocess
import threading
import time

import grpc
import pytest
from harness import api, follow, programs
from harness.programs import wait_until
from harness.service import Service

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class All:
    """What a careful client of the stream keeps: each event once, checked within its command."""

    def __init__(self):
        self.commands, self.order, self.cursor, self.repeated = {}, [], b"", 0

    def take(self, response):
        if response.events:
            assert response.command_id
            events = self.commands.setdefault(response.command_id, follow.Events())
            for event in response.events:
                if event.seq < events.next_seq:
                    self.repeated += 1
                    continue
                events._take_event(event)
                self.order.append((event.time.ToNanoseconds(), response.command_id))
        if response.cursor:
            self.cursor = response.cursor
        return self

    def read(self, stub, sandbox_id, **fields):
        for response in stub.Logs(api.LogsRequest(
                sandbox_id=sandbox_id, cursor=self.cursor, **fields), timeout=60):
            self.take(response)
        return self


def run_some(stub, sandbox_id, n, line="for i in 1 2 3 4; do echo %d.$i; sleep 0.02; done"):
    threads = [threading.Thread(target=follow.run, args=(stub, sandbox_id), kwargs={
        "shell": line % i, "command_id": "c%d" % i, "until": api.UNTIL_CLOSED}) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


@pytest.fixture(scope="module")
def busy(stub):
    sandbox_id = stub.CreateSandbox(api.CreateSandboxRequest(
        timeout=api.seconds(600)), timeout=60).sandbox.sandbox_id
    run_some(stub, sandbox_id, 5)
    yield sandbox_id
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)


def test_history_comes_merged_by_time(stub, other_stub, busy):
    everything = All().read(stub, busy)
    assert everything.order == sorted(everything.order, key=lambda o: o[0])
    for i in range(5):
        assert everything.commands["c%d" % i].out == b"".join(b"%d.%d\n" % (i, n) for n in range(1, 5))
    assert All().read(other_stub, busy).order == everything.order
    assert everything.read(other_stub, busy).repeated == 0  # nothing is left behind the cursor


def test_every_cursor_goes_on_through_any_pod(stub, other_stub, busy):
    whole = All().read(stub, busy)
    responses = list(stub.Logs(api.LogsRequest(sandbox_id=busy), timeout=60))
    seen = All()
    for i, response in enumerate(responses[:-1]):
        seen.take(response)
        if i % 3 == 0:
            rest = All()
            rest.cursor = seen.cursor
            rest.commands = {k: follow.Events(v.next_seq) for k, v in seen.commands.items()}
            rest.read((stub, other_stub)[i % 2], busy)
            assert seen.order + rest.order == whole.order and not rest.repeated


def test_views_hold(stub, busy):
    everything = All().read(stub, busy)
    part = All().read(stub, busy, limit_bytes=20)
    assert 20 <= sum(len(e.out) for e in part.commands.values()) < 40
    assert part.order + All.read(part, stub, busy).order[len(part.order):] == everything.order
    texts = stub.Logs(api.LogsRequest(sandbox_id=busy, encoding=api.ENCODING_TEXT,
                                      streams=[api.STREAM_STDERR]), timeout=60)
    assert not [e for r in texts for e in r.events if e.HasField("text")]


def test_what_comes_is_followed_also_of_new_commands(stub, other_stub, new_sandbox):
    sandbox_id = new_sandbox()
    follow.run(stub, sandbox_id, command_id="old", shell="echo old")
    seen = All()
    stream = other_stub.Logs(api.LogsRequest(sandbox_id=sandbox_id, follow=True), timeout=120)

    def until(condition):
        while not condition():
            seen.take(next(stream))

    until(lambda: "old" in seen.commands and seen.commands["old"].closed)
    follow.run(stub, sandbox_id, command_id="new", shell="echo one; sleep 0.2; echo two")
    until(lambda: "new" in seen.commands and seen.commands["new"].closed)
    assert seen.commands["new"].out == b"one\ntwo\n"
    stream.cancel()


def test_a_follower_that_is_killed_is_replaced_without_loss(stub, new_sandbox):
    sandbox_id = new_sandbox()
    seen, done = All(), threading.Event()

    def kill_watchers():
        while not done.wait(0.15):
            follow.run(stub, sandbox_id, user="root",
                       shell="for p in /proc/[0-9]*; do grep -qz '^watch$' $p/cmdline && "
                             "kill -9 ${p#/proc/}; done; true")

    stream = stub.Logs(api.LogsRequest(sandbox_id=sandbox_id, follow=True), timeout=120)
    killer = threading.Thread(target=kill_watchers)
    runner = threading.Thread(target=run_some, args=(stub, sandbox_id, 4),
                              kwargs={"line": "for i in $(seq 200); do echo %d.$i; sleep 0.005; done"})
    killer.start()
    runner.start()
    names = ["c%d" % i for i in range(4)]
    while not all(n in seen.commands and seen.commands[n].closed for n in names):
        seen.take(next(stream))
    done.set()
    killer.join()
    runner.join()
    stream.cancel()
    for i, n in enumerate(names):
        assert seen.commands[n].out == b"".join(b"%d.%d\n" % (i, k) for k in range(1, 201))
    assert seen.repeated == 0


def test_sandboxctl_goes_on_when_the_pod_is_killed(local, new_sandbox):
    """By itself, and each event of each command once."""
    sandbox_id = new_sandbox()
    with Service(local, count=2) as service:
        child = subprocess.Popen(
            [programs.find("client/sandboxctl"), "--address=" + ",".join(service.addresses), "-o", "json",
             "logs", "-f", sandbox_id], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        runner = threading.Thread(target=run_some, args=(service.stub(1), sandbox_id, 4), kwargs={
            "line": "for i in $(seq 100); do echo %d.$i; sleep 0.01; done"})
        runner.start()
        out, seqs = collections.defaultdict(bytes), collections.defaultdict(list)
        closed, resumed, name = set(), [], None
        while len(closed) < 4:
            said = json.loads(child.stdout.readline())
            name = said.get("commandId", name)
            if "resume" in said:
                resumed.append((said["resume"]["from"], said["resume"]["to"]))
            if "seq" in said:
                seqs[name].append(int(said["seq"]))
                out[name] += base64.b64decode(said.get("stdout", ""))
                closed |= {name} if "closed" in said else set()
            if len(out["c0"]) > 100:
                service.pods[0].kill()
        runner.join()
        child.terminate()
        child.stdout.close()
        child.wait()
    assert resumed == [tuple(service.addresses)]
    for i in range(4):
        assert out["c%d" % i] == b"".join(b"%d.%d\n" % (i, k) for k in range(1, 101))
        assert seqs["c%d" % i] == list(range(1, len(seqs["c%d" % i]) + 1))


@pytest.mark.parametrize("fields,field", [
    ({"from_seq": 2}, "from_seq"), ({"until": api.UNTIL_CLOSED}, "until"),
    ({"tail": api.Tail(lines=1)}, "tail"), ({"cursor": b"\xff\xff"}, "cursor"),
    ({"cursor": b"abc"}, "cursor"), ({"command_id": "c1", "cursor": b"\x0a\x00"}, "cursor"),
])
def test_what_is_of_one_command_is_refused(stub, sandbox, fails, fields, field):
    found = fails(INVALID, "INVALID_FIELD", stub.Logs, api.LogsRequest(sandbox_id=sandbox, **fields))
    assert found["BadRequest"].field_violations[0].field == field


def test_an_empty_sandbox_shows_nothing_yet(stub, new_sandbox):
    sandbox_id = new_sandbox()
    assert All().read(stub, sandbox_id).order == []
