"""The way between a client and a command breaks, again and again: nothing is lost, nothing repeated.

Three ways to break it: the pod is killed, the follower in the sandbox is killed, the connection from
the pod to the sandbox is cut in the middle of a frame. Each at SANDBOXD_CHAOS_ROUNDS random points
(200 unless set) of a command that runs, and as often of the record of one that has ended. The seed of
a run is printed; SANDBOXD_CHAOS_SEED repeats it.
"""

import base64
import json
import os
import random
import signal
import subprocess
import time

import pytest
from harness import api, faults, follow, leftovers, programs
from harness.service import Service

ROUNDS = int(os.environ.get("SANDBOXD_CHAOS_ROUNDS", "200"))
SEED = int(os.environ.get("SANDBOXD_CHAOS_SEED", time.time_ns() % 1_000_000))

# Numbered lines of 100 bytes until stdin ends, a few hundred kilobytes a second, each its own write.
TICKER = """
import os, select, sys, time
n, begin = 0, time.monotonic()
while not select.select([0], [], [], 0)[0]:
    for _ in range(10):
        n += 1
        os.write(1, b"%099d\\n" % n)
    time.sleep(max(0, begin + n / 4000 - time.monotonic()))
print("end", n, file=sys.stderr)
"""

# What has ended: seven digits a line.
LINES = 6_000_000


def numbered(count, form=b"%099d\n"):
    return b"".join(form % n for n in range(1, count + 1))


@pytest.fixture
def dice():
    print("SANDBOXD_CHAOS_SEED=%d" % SEED)
    return random.Random(SEED)


class Breaker:
    """Decides when to break the next time; break_() does it."""

    def __init__(self, dice, rounds, break_, gap):
        self.dice, self.left, self.break_, self.gap = dice, rounds, break_, gap
        self.at = dice.randint(*gap)
        self.points = []  # sequence numbers

    def on_response(self, address, events):
        if self.left and events.count >= self.at:
            time.sleep(self.dice.random() * 0.005)
            if self.break_(address):
                self.points.append(events.next_seq - 1)
                self.left -= 1
            self.at = events.count + self.dice.randint(*self.gap)


@pytest.fixture
def ticker(local, sandbox):
    """Starts a command that prints until it is told to stop; returns its id and how to stop it."""
    with Service(local, count=1) as quiet:
        stub = quiet.stub(0)
        name = "ticker%d" % time.time_ns()
        stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id=name, stdin=True, max_journal_bytes=1 << 30,
            argv=api.Argv(args=["python3", "-c", TICKER])), timeout=60)
        for response in stream:
            if response.events:
                break
        stream.cancel()

        def stop():
            stub.SendInput(
                api.SendInputRequest(sandbox_id=sandbox, command_id=name, eof=True), timeout=30)
        yield name, stop
        got = stub.GetCommand(
            api.GetCommandRequest(sandbox_id=sandbox, command_id=name), timeout=30).command
        if got.state == got.STATE_RUNNING:
            stub.SignalCommand(api.SignalCommandRequest(
                sandbox_id=sandbox, command_id=name, signal=9), timeout=30)


@pytest.fixture(scope="module")
def record(stub, sandbox):
    """The id of a command that ended, with some megabytes of output."""
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="record", shell="seq -w 1 %d" % LINES,
        max_journal_bytes=256 << 20), timeout=300)
    for _ in stream:
        pass
    return "record"


def check_ticker(events, breaker, rounds):
    assert breaker.left == 0 and len(breaker.points) == rounds
    count = int(bytes(events.err).split()[1])
    assert bytes(events.out) == numbered(count)
    assert events.exited.code == 0 and not events.dropped
    print("%d breaks within %d events, %d lines" % (rounds, events.count, count))


def check_record(events, breaker):
    assert len(breaker.points) == ROUNDS, "the record is too short for %d breaks" % ROUNDS
    assert len(events.out) == LINES * 8
    assert bytes(events.out) == numbered(LINES, b"%07d\n")
    assert events.exited.code == 0 and not events.dropped


def stopping(breaker, stop):
    """Lets the command end once everything is broken that shall be."""
    told = []

    def on_response(address, events):
        breaker.on_response(address, events)
        if not breaker.left and not told:
            told.append(True)
            stop()
    return on_response


# --- the pod dies ---


@pytest.fixture
def mortal(local):
    """Two pods, and what kills one of them and what brings it back."""
    with Service(local, count=2) as service:
        def kill(address):
            service.pods[service.addresses.index(address)].kill()
            return True

        def revive(address, events, error):
            n = service.addresses.index(address)
            if service.pods[n].process.poll() is not None:
                service.restart(n)
        yield service, kill, revive


def test_pods_are_killed_while_a_command_runs(mortal, ticker, sandbox, dice):
    service, kill, revive = mortal
    name, stop = ticker
    breaker = Breaker(dice, ROUNDS, kill, (1, 120))
    events = follow.follow_through(service.addresses, sandbox, name, tries=3 * ROUNDS + 10,
                                   on_response=stopping(breaker, stop), on_break=revive)
    check_ticker(events, breaker, ROUNDS)


def test_pods_are_killed_while_a_record_is_read(mortal, record, sandbox, dice):
    service, kill, revive = mortal
    breaker = Breaker(dice, ROUNDS, kill, (1, 1400 // max(ROUNDS // 2, 1)))
    events = follow.follow_through(service.addresses, sandbox, record, tries=3 * ROUNDS + 10,
                                   on_response=breaker.on_response, on_break=revive)
    check_record(events, breaker)


def test_pods_are_killed_while_sandboxctl_follows(mortal, ticker, sandbox, dice):
    """The C client on its own: it finds the way by itself, and says so."""
    service, kill, revive = mortal
    name, stop = ticker
    rounds = max(ROUNDS // 4, 2)
    child = subprocess.Popen(
        [programs.find("client/sandboxctl"), "--address=" + ",".join(service.addresses), "-o", "json",
         "logs", "-f", sandbox, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    carrier, at, resumes = service.addresses[0], dice.randint(1, 100), 0
    out, err, exited = bytearray(), bytearray(), None  # bytes would be copied for every line
    for n, line in enumerate(child.stdout):
        said = json.loads(line)
        out += base64.b64decode(said.get("stdout", ""))
        err += base64.b64decode(said.get("stderr", ""))
        exited = said.get("exited", exited)
        if "resume" in said:
            resumes += 1
            revive(carrier, None, None)  # the one that was killed
            carrier = said["resume"]["to"]
            at = n + dice.randint(1, 100)
            if resumes == rounds:
                stop()
        elif n == at and resumes < rounds:
            kill(carrier)
    assert child.wait() == 0 and resumes == rounds
    assert out == numbered(int(err.split()[1])) and exited["reason"] == "REASON_EXITED"


# --- the follower dies ---


def followers(name):
    """What reads the command's journal in the sandbox, as seen from outside of it."""
    for pid in leftovers.descendants(os.getpid()):
        words = leftovers.command_line(pid).split()
        if "follow" in words and "--id=" + name in words:
            yield pid


def kill_follower(name):
    """SIGKILL to the one follower, if there is one: there is none for a moment after the last kill,
    and none once everything is read."""
    try:
        for pid in followers(name):
            os.kill(pid, signal.SIGKILL)
            return True
    except ProcessLookupError:
        pass
    return False


def test_followers_are_killed_while_a_command_runs(service, ticker, sandbox, dice):
    name, stop = ticker
    breaker = Breaker(dice, ROUNDS, lambda address: kill_follower(name), (1, 120))
    events = follow.follow_through(service.addresses, sandbox, name, tries=1,
                                   on_response=stopping(breaker, stop))
    check_ticker(events, breaker, ROUNDS)


def test_followers_are_killed_while_a_record_is_read(stub, sandbox, dice):
    """One reading per kill: what a killed follower had sent is still on its way, megabytes of it."""
    lines = 2_000_000
    for _ in stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id="short", shell="seq -w 1 %d" % lines), timeout=300):
        pass
    whole = numbered(lines, b"%07d\n")
    killed = 0
    for _ in range(3 * ROUNDS):
        events = follow.Events()
        point = dice.randint(0, 20)
        for response in stub.Logs(
                api.LogsRequest(sandbox_id=sandbox, command_id="short", follow=True), timeout=60):
            events.take(response)
            if point is not None and events.count >= point:
                point = None
                time.sleep(dice.random() * 0.02)
                killed += kill_follower("short")
        assert bytes(events.out) == whole and events.exited.code == 0 and not events.dropped
        if killed == ROUNDS:
            break
    assert killed == ROUNDS


# --- the connection to the sandbox is cut ---


class Scissors:
    """A proxy in front of the sandboxes that cuts each connection at some byte, so many times."""

    def __init__(self, target, dice, rounds, span):
        self.dice, self.rounds, self.span = dice, rounds, span
        self.proxy = faults.Proxy(target, self._arm)

    def _arm(self, connection):
        if self.proxy.cuts < self.rounds:
            connection.cut_after = self.dice.randint(*self.span)

    @property
    def done(self):
        return self.proxy.cuts >= self.rounds


def test_connections_are_cut_while_a_command_runs(local, ticker, sandbox, dice):
    name, stop = ticker
    scissors = Scissors(local.sandbox_address, dice, ROUNDS, (500, 20_000))
    told = []

    def on_response(address, events):
        if scissors.done and not told:
            told.append(True)
            stop()

    with Service(local, scissors.proxy.url, count=1) as service:
        events = follow.follow_through(service.addresses, sandbox, name, tries=1,
                                       on_response=on_response)
    scissors.proxy.close()
    assert scissors.done
    assert bytes(events.out) == numbered(int(bytes(events.err).split()[1]))


def test_connections_are_cut_while_a_record_is_read(local, record, sandbox, dice):
    scissors = Scissors(local.sandbox_address, dice, ROUNDS, (500, LINES * 8 // ROUNDS))
    with Service(local, scissors.proxy.url, count=1) as service:
        events = follow.follow_through(service.addresses, sandbox, record, tries=1)
    scissors.proxy.close()
    assert scissors.done
    assert bytes(events.out) == numbered(LINES, b"%07d\n")


# --- everything waits ---


def test_a_command_that_blocks_loses_nothing_through_pod_kills(mortal, sandbox, dice):
    """OVERFLOW_BLOCK with a journal much smaller than the output, acknowledged as it is read."""
    service, kill, revive = mortal
    name = "block%d" % time.time_ns()
    rounds = max(ROUNDS // 10, 2)
    lines = 1_000_000
    for response in service.stub(0).RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id=name, shell="seq -w 1 %d" % lines,
            overflow=api.OVERFLOW_BLOCK, max_journal_bytes=1 << 20), timeout=60):
        if response.events:
            break
    breaker = Breaker(dice, rounds, kill, (1, 240 // rounds))
    acked = [0]

    def on_response(address, events):
        seq = events.next_seq - 1
        if seq >= acked[0] + 4:
            with api.channel(address) as channel:
                api.Stub(channel).AckLogs(api.AckLogsRequest(
                    sandbox_id=sandbox, command_id=name, seq=seq), timeout=30)
            acked[0] = seq
        breaker.on_response(address, events)

    events = follow.follow_through(service.addresses, sandbox, name, on_response=on_response,
                                   on_break=revive, tries=3 * rounds + 10)
    assert bytes(events.out) == numbered(lines, b"%07d\n") and not events.dropped
    assert len(breaker.points) >= rounds // 2
