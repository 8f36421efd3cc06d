"""What a command recorded, read from any event, through any pod, during and after its run."""

import random
import threading
import time

import grpc
import pytest
from harness import api, follow
from harness.programs import wait_until
from harness.service import Service

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def all_events(stub, sandbox_id, command_id, **fields):
    return [event for response in stub.Logs(api.LogsRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields), timeout=60)
        for event in response.events]


@pytest.fixture(scope="module")
def finished(stub, sandbox):
    """A command that ended, with some hundred events; and all of them."""
    done = follow.run(stub, sandbox, until=api.UNTIL_CLOSED, command_id="finished",
                      shell="for i in $(seq 300); do echo line $i; [ $((i % 7)) = 0 ] && "
                            "echo warning $i >&2 && sleep 0.005; done; true")
    events = all_events(stub, sandbox, "finished")
    assert len(events) == done.next_seq - 1 and len(events) > 20
    return events


def test_a_pod_that_never_saw_it_returns_exactly_from_n_to_the_end(local, sandbox, finished):
    with Service(local, count=1) as fresh:
        stub = fresh.stub(0)
        for first in {1, 2, len(finished) // 2, len(finished) - 1, len(finished),
                      *random.sample(range(1, len(finished) + 1), 10)}:
            assert all_events(stub, sandbox, "finished", from_seq=first) == finished[first - 1:]
            assert all_events(stub, sandbox, "finished", from_seq=first, follow=True,
                              until=api.UNTIL_CLOSED) == finished[first - 1:]


def test_both_calls_give_the_same_events(stub, other_stub, sandbox, finished):
    assert all_events(stub, sandbox, "finished", from_seq=0) == finished
    assert all_events(other_stub, sandbox, "finished", from_seq=1) == finished


def test_one_beyond_the_end_gives_nothing(stub, sandbox, finished):
    assert all_events(stub, sandbox, "finished", from_seq=len(finished) + 1) == []


def test_a_follow_of_what_ended_ends(stub, sandbox, finished):
    events = follow.logs(stub, sandbox, "finished", follow=True)
    assert events.exited is not None


def test_the_last_seq_is_told_with_the_events(stub, sandbox, finished):
    last = 0
    for response in stub.Logs(api.LogsRequest(sandbox_id=sandbox, command_id="finished"),
                              timeout=30):
        if response.events:
            assert response.last_seq == response.events[-1].seq
            last = response.last_seq
    assert last == len(finished)


def test_following_gives_history_then_live_output_then_the_exit(stub, other_stub, sandbox):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="live", stdin=True,
        shell="echo history; while read line; do echo live $line; done; exit 4"), timeout=60)
    first = follow.Events()
    while not first.out:
        first.take(next(stream))
    watcher = other_stub.Logs(api.LogsRequest(
        sandbox_id=sandbox, command_id="live", follow=True), timeout=60)
    seen = follow.Events()
    while not seen.out:
        seen.take(next(watcher))
    assert seen.out == b"history\n"
    for word in "one", "two":
        stub.SendInput(api.SendInputRequest(
            sandbox_id=sandbox, command_id="live", text=word + "\n"), timeout=30)
        wanted = seen.out + b"live %s\n" % word.encode()
        while len(seen.out) < len(wanted):
            seen.take(next(watcher))
        assert seen.out == wanted
    stub.SendInput(api.SendInputRequest(sandbox_id=sandbox, command_id="live", eof=True), timeout=30)
    for response in watcher:
        seen.take(response)
    assert seen.exited.code == 4


def test_without_follow_a_running_command_gives_what_is_there(stub, sandbox):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="running", shell="echo so far; sleep 1000"), timeout=60)
    first = follow.Events()
    while not first.out:
        first.take(next(stream))
    now = follow.logs(stub, sandbox, "running", timeout=10)
    assert now.out == b"so far\n" and now.exited is None
    stub.SignalCommand(
        api.SignalCommandRequest(sandbox_id=sandbox, command_id="running"), timeout=10)


def test_a_follower_may_wait_for_an_event_to_come(stub, sandbox):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="future", stdin=True, shell="read line; echo $line"),
        timeout=60)
    next(stream)
    watcher = stub.Logs(api.LogsRequest(
        sandbox_id=sandbox, command_id="future", from_seq=2, follow=True), timeout=60)
    wait_until(lambda: next(watcher).command_id)
    stub.SendInput(api.SendInputRequest(
        sandbox_id=sandbox, command_id="future", text="now\n"), timeout=30)
    events = follow.Events(from_seq=2)
    for response in watcher:
        events.take(response)
    assert events.out == b"now\n"


def test_text_from_any_event_is_the_text_of_the_whole(stub, sandbox):
    """A character cut in two by events is whole wherever one starts to read."""
    line = "äöü€😀" * 40
    follow.run(stub, sandbox, command_id="cut", envs={"LINE": line}, shell="python3 -c '"
               "import os, sys, time\n"
               "for byte in os.environb[b\"LINE\"]:\n"
               "    os.write(1, bytes([byte])); time.sleep(0.002)'")
    events = all_events(stub, sandbox, "cut", encoding=api.ENCODING_TEXT)
    texts = {e.seq: e.text.text for e in events if e.WhichOneof("event") == "text"}
    assert "".join(texts.values()) == line and len(texts) > 50
    for first in random.sample(sorted(texts), 20):
        rest = all_events(stub, sandbox, "cut", encoding=api.ENCODING_TEXT, from_seq=first)
        assert [(e.seq, e.text.text) for e in rest if e.WhichOneof("event") == "text"] == [
            (seq, text) for seq, text in texts.items() if seq >= first]


def test_many_readers_of_one_command_read_the_same(service, sandbox):
    name = "many%d" % time.time_ns()
    follow.run(service.stub(0), sandbox, command_id=name,
               shell="(for i in $(seq 200); do echo $i; sleep 0.005; done) & ", until=1)
    results = {}

    def read(n):
        results[n] = follow.logs(service.stub(n % 2), sandbox, name, follow=True,
                                 until=api.UNTIL_CLOSED)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {bytes(r.out) for r in results.values()} == {b"".join(b"%d\n" % n for n in range(1, 201))}
    assert len(results) == 12


def test_a_quiet_stream_sends_heartbeats(local, sandbox):
    with Service(local, count=1, options=["--heartbeat-interval=200ms"]) as quick:
        stream = quick.stub(0).RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, shell="sleep 2"), timeout=30)
        events = follow.Events()
        for response in stream:
            events.take(response)
        assert events.heartbeats >= 5 and events.exited.code == 0


def test_a_stream_survives_many_leases(local, sandbox):
    """The follower in the sandbox is replaced when its lease is over; nobody notices."""
    with Service(local, count=1, options=["--follower-lease=1s"]) as brief:
        events = follow.run(brief.stub(0), sandbox,
                            shell="for i in $(seq 400); do echo $i; sleep 0.01; done")
        assert bytes(events.out) == b"".join(b"%d\n" % n for n in range(1, 401))


# --- a full journal ---

MIB = 1 << 20


def test_the_oldest_output_is_dropped_and_said(stub, sandbox):
    name = "dropping%d" % time.time_ns()
    follow.run(stub, sandbox, command_id=name, shell="head -c 20M /dev/zero; echo end",
               overflow=api.OVERFLOW_DROP_OLDEST, max_journal_bytes=2 * MIB, until=api.UNTIL_CLOSED)
    events = follow.logs(stub, sandbox, name)
    assert events.dropped and events.dropped[0][0] <= 2
    assert events.dropped_bytes + len(events.out) == 20 * MIB + 4
    assert MIB // 2 < len(events.out) <= 2 * MIB
    got = stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id=name)).command
    assert got.first_seq == events.dropped[-1][1] + 1 and got.journal_bytes <= 2 * MIB


def test_a_command_that_blocks_waits_for_acknowledgement(stub, other_stub, sandbox):
    name = "blocking%d" % time.time_ns()
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id=name, shell="seq 1 1500000",
        overflow=api.OVERFLOW_BLOCK, max_journal_bytes=MIB), timeout=120)
    events = follow.Events()

    def blocked():
        return other_stub.GetCommand(api.GetCommandRequest(
            sandbox_id=sandbox, command_id=name), timeout=30).command.blocked

    events.take(next(stream))
    wait_until(blocked, 30, "the command to be blocked")
    acked = 0
    for response in stream:
        events.take(response)
        if events.next_seq - 1 - acked >= 8:
            answer = other_stub.AckLogs(api.AckLogsRequest(
                sandbox_id=sandbox, command_id=name, seq=events.next_seq - 1), timeout=30)
            assert answer.acked_seq == events.next_seq - 1
            acked = answer.acked_seq
    assert not events.dropped
    assert bytes(events.out) == b"".join(b"%d\n" % n for n in range(1, 1_500_001))
    # Going back has no effect.
    assert stub.AckLogs(api.AckLogsRequest(
        sandbox_id=sandbox, command_id=name, seq=1), timeout=30).acked_seq == acked
    got = stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id=name)).command
    assert got.acked_seq == acked and not got.blocked


def test_a_timeout_runs_on_while_a_command_is_blocked(stub, sandbox):
    name = "stuck%d" % time.time_ns()
    begin = time.monotonic()
    for _ in stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id=name, shell="exec cat /dev/zero",
            timeout=api.seconds(2), overflow=api.OVERFLOW_BLOCK, max_journal_bytes=MIB), timeout=60):
        pass
    assert time.monotonic() - begin < 20
    got = stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id=name)).command
    assert got.exited.reason == api.Exited.REASON_TIMED_OUT


# --- a journal is hostile ground ---


# Changes a journal, given as the first argument, in one way or another.
HARM = """
import sys
path, harm = sys.argv[1:]
with open(path, "rb") as f:
    data = f.read()
frames, at = [], 0
while at < len(data):
    end, shift, size = at + 1, 0, 0
    while True:
        size |= (data[end] & 127) << shift
        shift += 7
        end += 1
        if data[end - 1] < 128:
            break
    frames.append(data[at:end + size])
    at = end + size
middle = len(frames) // 2
if harm == "first byte":
    frames[0] = b"x" + frames[0][1:]
elif harm == "zeros":
    frames[middle] = bytes(len(frames[middle]))
elif harm == "noise":
    frames[middle] = bytes((n * 151 + 77) % 256 for n in range(len(frames[middle])))
elif harm == "left out":
    del frames[middle]
elif harm == "twice":
    frames.insert(middle, frames[middle])
elif harm == "swapped":
    frames[middle], frames[middle + 1] = frames[middle + 1], frames[middle]
elif harm == "cut short":
    frames[middle] = frames[middle][:-3]
elif harm == "huge":
    frames[middle] = b"\\x0a\\xff\\xff\\xff\\x7f" + frames[middle]
with open(path, "r+b") as f:
    f.write(b"".join(frames))
    f.truncate()
"""


@pytest.mark.parametrize("harm", [
    "first byte", "zeros", "noise", "left out", "twice", "swapped", "cut short", "huge"])
def test_a_journal_changed_from_inside_is_data_loss(stub, other_stub, sandbox, fails, harm):
    name = "harmed%d" % time.time_ns()
    done = follow.run(stub, sandbox, command_id=name, until=api.UNTIL_CLOSED,
                      shell="for i in $(seq 40); do echo line $i; sleep 0.003; done")
    assert done.count > 20
    stub.WriteFiles(api.WriteFilesRequest(sandbox_id=sandbox, files=[
        api.File(path="/tmp/harm.py", text=HARM)]), timeout=30)
    harmed = follow.run(stub, sandbox, user="root", argv=[
        "sh", "-c", "exec python3 /tmp/harm.py /var/lib/sandboxd/cmd/%s/journal.* '%s'" % (name, harm)])
    assert harmed.exited.code == 0, harmed.err
    for each in stub, other_stub:
        fails(grpc.StatusCode.DATA_LOSS, "JOURNAL_CORRUPT", each.Logs, api.LogsRequest(
            sandbox_id=sandbox, command_id=name, follow=True, until=api.UNTIL_CLOSED))


def test_a_command_cannot_change_its_own_journal(stub, sandbox):
    events = follow.run(stub, sandbox, command_id="thief",
                        shell="echo x >> /var/lib/sandboxd/cmd/thief/journal.1; "
                              "rm -rf /var/lib/sandboxd/cmd/thief; pkill -9 -f [r]ecorder; echo alive")
    assert events.out == b"alive\n"
    assert follow.logs(stub, sandbox, "thief").out == b"alive\n"


def test_a_command_whose_recorder_died_is_lost(stub, other_stub, sandbox):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="orphan", shell="echo on; exec sleep 1234"), timeout=60)
    events = follow.Events()
    while not events.out:
        events.take(next(stream))
    killed = follow.run(other_stub, sandbox, user="root", shell="kill -9 $(ps -o ppid= -p %d)"
                        % events.started.pid)
    assert killed.exited.code == 0, killed.err
    for response in stream:
        events.take(response)
    assert events.exited.reason == api.Exited.REASON_LOST
    again = follow.logs(other_stub, sandbox, "orphan")
    assert again.exited == events.exited
    assert follow.run(stub, sandbox, shell="pgrep -fx 'sleep 1234'").exited.code == 1
