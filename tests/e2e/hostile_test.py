"""Hostile ordinary code: what one command does to the sandbox leaves the others' records right."""

import os

import pytest
from harness import api, follow, programs
from harness.programs import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only with root are records protected")

Exited = api.Exited
MIB = 1 << 20


@pytest.fixture(scope="session")
def local(data_dir):
    program = programs.Local(data_dir / "hostile", "--memory=%d" % (512 * MIB),
                             "--disk=%d" % (96 * MIB), "--pids=200")
    yield program
    program.stop()


@pytest.fixture
def sandbox(new_sandbox):
    return new_sandbox()


# It starts nothing: what it prints does not depend on what others leave it.
WITNESS = """
import os, sys, time
i = 0
while not os.path.exists('/run/enough') and i < 3000:
    i += 1
    os.write(1, b'out %d\\n' % i)
    os.write(2, b'err %d\\n' % i)
    time.sleep(0.02)
os.write(1, b'%d lines\\n' % i)
os._exit(42)
"""


class Witness:
    """A command that prints all the while, and what became of it."""

    def __init__(self, stub, sandbox_id, user):
        self.stub, self.sandbox_id, self.id = stub, sandbox_id, "witness-" + user
        stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox_id, command_id=self.id, user=user,
            argv=api.Argv(args=["python3", "-c", WITNESS])), timeout=120)
        events = follow.Events()
        while events.out.count(b"\n") < 5:
            events.take(next(stream))
        stream.cancel()

    def lines(self):
        return follow.logs(self.stub, self.sandbox_id, self.id).out.count(b"\n")

    def end(self, reader):
        """All of its events, to its end; what it printed is whole."""
        events = follow.logs(reader, self.sandbox_id, self.id, follow=True, timeout=120)
        out, err = bytes(events.out).splitlines(), bytes(events.err).splitlines()
        if events.exited.code == 42:
            assert out.pop() == b"%d lines" % len(out)
        else:  # between the two lines of a turn, or within one that was cut
            out, err = out[:-1], err[:len(out) - 1]
        assert out == [b"out %d" % i for i in range(1, len(out) + 1)]
        assert err == [b"err %d" % i for i in range(1, len(err) + 1)]
        return events


def enough(stub, sandbox_id):
    assert follow.run(stub, sandbox_id, user="root", shell="touch /run/enough").exited.code == 0


def goes_on(stub, witness):
    """It prints more than it had."""
    before = witness.lines()
    wait_until(lambda: witness.lines() > before + 5, 30)


def check(stub, other_stub, sandbox_id, witnesses):
    for witness in witnesses:
        goes_on(stub, witness)
    enough(stub, sandbox_id)
    for witness in witnesses:
        events = witness.end(other_stub)
        assert events.exited.code == 42 and not events.dropped
    # The sandbox is one in which commands run; its user may have shut himself out of his home.
    assert follow.run(stub, sandbox_id, shell="echo fine", cwd="/").out == b"fine\n"


def witnesses(stub, sandbox_id):
    return [Witness(stub, sandbox_id, user) for user in ("user", "root")]


def test_everything_is_deleted(stub, other_stub, sandbox):
    seen = witnesses(stub, sandbox)
    attack = follow.run(stub, sandbox, command_id="attack",
                        shell="rm -rf /tmp/* ~/* ~/.[a-z]* /var/lib/sandboxd 2>/dev/null; exit 3")
    assert attack.exited.code == 3
    check(stub, other_stub, sandbox, seen)
    assert follow.logs(other_stub, sandbox, "attack").exited.code == 3


def test_everything_is_killed(stub, other_stub, sandbox):
    mine, roots = witnesses(stub, sandbox)
    attack = follow.run(stub, sandbox, command_id="attack", shell="kill -9 -1; sleep 5; exit 3")
    assert attack.exited.reason in (Exited.REASON_EXITED, Exited.REASON_SIGNALED)
    killed = mine.end(other_stub)
    assert (killed.exited.reason, killed.exited.signal) == (Exited.REASON_SIGNALED, 9)
    assert killed.out and not killed.dropped
    check(stub, other_stub, sandbox, [roots])


def test_everything_is_closed_to_everyone(stub, other_stub, sandbox):
    seen = witnesses(stub, sandbox)
    attack = follow.run(stub, sandbox, command_id="attack", shell=(
        "find / -xdev -user $(id -u) -exec chmod 000 {} + 2>/dev/null; chmod 000 ~; exit 3"))
    assert attack.exited.code == 3
    refused = follow.run(stub, sandbox, shell="true").exited
    assert refused.reason == Exited.REASON_START_FAILED and "/home/user" in refused.message
    check(stub, other_stub, sandbox, seen)


def test_the_disk_is_full(stub, other_stub, sandbox):
    seen = witnesses(stub, sandbox)
    attack = follow.run(stub, sandbox, command_id="attack", shell=(
        "cat /dev/zero > ~/fill 2>/dev/null; for i in 1 2 3 4 5 6; do head -c 1000 /dev/zero "
        ">> ~/fill2 2>/dev/null; sleep 0.1; done; exit 3"))
    assert attack.exited.code == 3
    # How a command ends is recorded though nothing else can be.
    ended = stub.GetCommand(api.GetCommandRequest(
        sandbox_id=sandbox, command_id="attack"), timeout=30).command
    assert ended.exited.code == 3 and ended.state == api.Command.STATE_CLOSED
    stub.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox, command_id=seen[0].id, signal=9,
        target=api.SignalCommandRequest.TARGET_TREE), timeout=30)
    events = follow.logs(other_stub, sandbox, seen[0].id, follow=True)
    assert (events.exited.reason, events.exited.signal) == (Exited.REASON_KILLED, 9)
    assert events.out.startswith(b"out 1\nout 2\n")


def test_processes_are_made_without_end(stub, other_stub, sandbox):
    seen = witnesses(stub, sandbox)
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 100"
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="bounded", shell=bomb,
        limits=api.ResourceLimits(processes=80)), timeout=60)
    next(r for r in stream if r.events)
    goes_on(stub, seen[1])  # whom the limit does not bind, and who has room
    stub.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox, command_id="bounded", signal=9,
        target=api.SignalCommandRequest.TARGET_TREE), timeout=60)
    events = follow.logs(other_stub, sandbox, "bounded", follow=True)
    assert events.exited.reason == Exited.REASON_KILLED
    # Without a limit of its own: its time ends it, which takes no new process.
    request = api.RunCommandRequest(
        sandbox_id=sandbox, command_id="bomb", shell=bomb, timeout=api.seconds(2),
        kill_grace=api.seconds(0.2))
    for response in stub.RunCommand(request, timeout=120):
        for event in response.events:
            if event.HasField("exited"):
                assert event.exited.reason == Exited.REASON_TIMED_OUT
    check(stub, other_stub, sandbox, seen)
