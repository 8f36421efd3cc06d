"""What claims, starts and records a command is killed between two of its steps: every reader, through
every pod and by every call, sees the same of it, and an id whose command never started says so.

SANDBOXD_CHAOS_KILLS times (30 unless set), over all steps in turn.
"""

import collections
import concurrent.futures
import os
import random
import sys
import time
from pathlib import Path

import grpc
import pytest
from harness import api, follow, leftovers, programs
from harness.programs import wait_until
from harness.service import Service

sys.path.insert(0, str(programs.find("runtime/recorder/driver.py").parent))

import driver  # noqa: E402

KILLS = int(os.environ.get("SANDBOXD_CHAOS_KILLS", "30"))
SEED = int(os.environ.get("SANDBOXD_CHAOS_SEED", time.time_ns() % 1_000_000))
PODS = 3 if KILLS > 100 else 2
SECONDS = 60  # that anything may take before it counts as hanging

Exited, Command = api.Exited, api.Command
NUMBERS = b"".join(b"%d\n" % n for n in range(1, 41))

# Leaves a trace of its start, has a tree in three process groups and two sessions, prints, and ends its tree.
LINE = """echo x >> /tmp/ran/$MARK
setsid sleep 1000 & daemon=$!
set -m
bash -c 'sleep 1000 & sleep 1000' &
for n in $(seq 1 40); do echo $n; ((n % 4)) || sleep 0.01; done
sleep 0.05
kill -9 -- $daemon -$!
"""


@pytest.fixture(scope="module")
def dice():
    print("SANDBOXD_CHAOS_SEED=%d" % SEED)
    return random.Random(SEED)


@pytest.fixture(scope="module")
def stubs(local):
    with Service(local, count=PODS) as service:
        yield [service.stub(n) for n in range(PODS)]


@pytest.fixture(scope="module")
def place(stubs, sandbox):
    """A sandbox with kill_at in it, and where the recorder and its records are."""
    stubs[0].WriteFiles(api.WriteFilesRequest(sandbox_id=sandbox, files=[api.File(
        path="/tmp/kill_at", mode=0o755, data=programs.find("runtime/recorder/kill_at").read_bytes())]),
        timeout=SECONDS)
    said = follow.run(stubs[0], sandbox, shell="mkdir -p -m 777 /tmp/ran; for d in /var/lib/sandboxd "
                      "~/.sandboxd; do [ -d $d ] && echo $d && ls -d $d/bin/*; done", **as_recorder())
    state, recorder = bytes(said.out).decode().split()
    return collections.namedtuple("Place", "sandbox state recorder")(sandbox, state, recorder)


def as_recorder():
    return {"user": "root"} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def ends():
    """What became of each command: its id -> what every reader saw of it, None when it is not known."""
    return {}


# --- every reader, through every pod ---


def read(stub, sandbox, name):
    """What one reader sees of the end: the events, and the command as two other calls show it."""
    events, request = [], {"sandbox_id": sandbox, "command_id": name}
    checked = follow.Events()
    for response in stub.Logs(api.LogsRequest(
            follow=True, until=api.UNTIL_CLOSED, **request), timeout=SECONDS):
        checked.take(response)
        events += [event.SerializeToString() for event in response.events]
    got = stub.GetCommand(api.GetCommandRequest(**request), timeout=SECONDS).command
    waited = stub.WaitCommand(api.WaitCommandRequest(
        until=api.UNTIL_CLOSED, **request), timeout=SECONDS)
    assert waited.done and waited.command.exited == got.exited == checked.exited
    assert got.state == Command.STATE_CLOSED and got.last_seq == len(events)
    return events, checked


def is_unknown(stub, sandbox, name):
    try:
        stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id=name), timeout=SECONDS)
        return False
    except grpc.RpcError as error:
        api.check_error(error, grpc.StatusCode.NOT_FOUND, "COMMAND_NOT_FOUND")
        return True


def lives_on(name):
    mark = b"MARK=" + name.encode()
    for pid in leftovers.descendants(os.getpid()):
        try:
            if mark in Path("/proc/%d/environ" % pid).read_bytes().split(b"\0"):
                return True
        except OSError:
            pass
    return False


def check_end(stubs, sandbox, name):
    """Returns what all readers saw; None when all of them say that there is no such command."""
    with concurrent.futures.ThreadPoolExecutor(2 * PODS) as pool:
        if is_unknown(stubs[0], sandbox, name):
            assert all(pool.map(lambda stub: is_unknown(stub, sandbox, name), stubs))
            return None
        seen = list(pool.map(lambda stub: read(stub, sandbox, name), stubs * 2))
    assert all(events == seen[0][0] for events, _ in seen), "readers do not agree"
    events = seen[0][1]
    assert not events.dropped and NUMBERS.startswith(bytes(events.out))
    if events.exited.reason == Exited.REASON_LOST:
        assert events.exited.message
    else:
        assert events.exited.reason == Exited.REASON_EXITED and bytes(events.out) == NUMBERS
    wait_until(lambda: not lives_on(name), SECONDS, "the end of the tree of " + name)
    return events


# --- between two steps ---


def run_and_kill(stub, place, name, step):
    """Runs a command with what records it killed at a step. How many steps it made."""
    spec = driver.Recorder.command_spec(name, LINE, sandbox=place.sandbox, envs=("MARK=" + name,))
    path = "%s/spec/%s" % (place.state, name)
    stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=place.sandbox, files=[api.File(path=path, data=spec)], **as_recorder()),
        timeout=SECONDS)
    done = follow.run(stub, place.sandbox, timeout=2 * SECONDS, envs={
        # A sanitizer's look for leaks and ptrace exclude each other.
        "ASAN_OPTIONS": "detect_leaks=0"}, argv=[
        "/tmp/kill_at", str(step), place.recorder, "run", "--state=" + place.state, "--spec=" + path,
        "--until=closed"], **as_recorder())
    assert done.exited.code in (0, 3), bytes(done.err)
    return int(bytes(done.err).split()[-2 if done.exited.code == 0 else -1])


def test_killed_between_any_two_steps(stubs, place, dice, ends):
    total = run_and_kill(stubs[0], place, "whole", 1_000_000)
    ends["whole"] = check_end(stubs, place.sandbox, "whole")
    assert ends["whole"].exited.reason == Exited.REASON_EXITED
    for n in range(KILLS):
        name = "step%d" % n
        step = int((n + dice.random()) * total / KILLS) + 1
        run_and_kill(dice.choice(stubs), place, name, step)
        ends[name] = check_end(stubs, place.sandbox, name)


# --- what is said is true ---


def test_what_is_said_of_them_is_true(stubs, place, dice, ends):
    """None ran twice, none ran that is said not to have; an id that is free can be used."""
    said = follow.run(stubs[0], place.sandbox, shell="cd /tmp/ran; grep -c x * /dev/null")
    ran = dict(line.rsplit(":", 1) for line in bytes(said.out).decode().split())
    kinds = collections.Counter()
    for name, events in ends.items():
        times = int(ran.get(name, 0))
        assert times <= 1, "%s ran %d times" % (name, times)
        if events is None:
            kinds["unknown"] += 1
            assert not times, "%s ran, and is not known" % name
        elif events.started is None and "never started" in events.exited.message:
            kinds["never started"] += 1
            assert not times, "%s ran: %s" % (name, events.exited.message)
        elif events.started is None:
            kinds["killed at its start"] += 1
            assert "may have begun" in events.exited.message
        else:
            kinds["lost" if events.exited.reason == Exited.REASON_LOST else "ended before"] += 1
    print("%d kills, %d pods: %s" % (
        KILLS, PODS, ", ".join("%s %d" % kind for kind in sorted(kinds.items()))))
    assert kinds["unknown"] and kinds["lost"]
    free = next(name for name, events in ends.items() if events is None)
    again = follow.run(dice.choice(stubs), place.sandbox, command_id=free, shell="echo now")
    assert bytes(again.out) == b"now\n" and again.exited.code == 0
