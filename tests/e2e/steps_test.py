"""Commands as durable steps: once per id, with labels and limits, waited for, kept and removed."""

import concurrent.futures
import time

import grpc
import pytest
from harness import api, follow
from harness.follow import get, start
from harness.programs import wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
Exited = api.Exited


def wait(stub, sandbox_id, command_id, rpc_timeout=60, **fields):
    return stub.WaitCommand(api.WaitCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields), timeout=rpc_timeout)


def listed(stub, sandbox_id, page_size=0, **fields):
    found, token = [], ""
    while True:
        page = stub.ListCommands(api.ListCommandsRequest(
            sandbox_id=sandbox_id, page_size=page_size, page_token=token, **fields), timeout=30)
        found += page.commands
        token = page.next_page_token
        if not token:
            return [c.command_id for c in found]


def test_the_same_id_attaches_and_replays_from_where_one_says(stub, other_stub, sandbox):
    fields = {"shell": "echo $$ >> ~/replayed; for i in 1 2 3 4; do echo $i; done; exit 3"}
    first = follow.run(stub, sandbox, command_id="again", **fields)
    second = follow.run(other_stub, sandbox, command_id="again", **fields)
    assert second.out == first.out and second.exited == first.exited
    rest = follow.run(other_stub, sandbox, command_id="again", from_seq=first.next_seq - 1, **fields)
    assert rest.count == 1 and rest.exited.code == 3
    assert len(follow.run(stub, sandbox, shell="cat ~/replayed").out.split()) == 1


def test_another_specification_is_refused_with_both_digests(stub, sandbox, fails):
    base = {"sandbox_id": sandbox, "command_id": "spec"}
    follow.run(stub, sandbox, command_id="spec", shell="true", labels={"try": "1"})
    mine = get(stub, sandbox, "spec").spec_digest.hex()
    for other in ({"shell": "false"}, {"shell": "true", "pty": api.TerminalSize()},
                  {"shell": "true", "idle_timeout": api.seconds(5)},
                  {"shell": "true", "kill_grace": api.seconds(1)},
                  {"shell": "true", "limits": api.ResourceLimits(open_files=100)}):
        found = fails(grpc.StatusCode.ALREADY_EXISTS, "COMMAND_MISMATCH", stub.RunCommand,
                      api.RunCommandRequest(**base, **other))
        metadata = found["ErrorInfo"].metadata
        assert metadata["existing_digest"] == mine
        assert len(metadata["requested_digest"]) == 64 and metadata["requested_digest"] != mine
    # Labels name it, and how it is read is not a part of it.
    follow.run(stub, sandbox, command_id="spec", shell="true", labels={"try": "2"},
               encoding=api.ENCODING_TEXT)
    assert dict(get(stub, sandbox, "spec").labels) == {"try": "1"}


def test_commands_are_listed_by_state_and_label(stub, other_stub, new_sandbox):
    sandbox = new_sandbox()
    for i in range(6):
        follow.run(stub, sandbox, command_id="done%d" % i, shell="true", until=api.UNTIL_CLOSED,
                   labels={"parity": str(i % 2), "app/kind": "a=b, c"})
    start(stub, sandbox, "runs", shell="sleep 1000", labels={"parity": "1"})
    start(stub, sandbox, "exited", shell="sleep 1000 & exit 0", labels={"parity": "0"})
    wait(stub, sandbox, "exited")
    done = ["done%d" % i for i in range(6)]
    for reader in stub, other_stub:
        assert listed(reader, sandbox) == done + ["runs", "exited"]
        assert listed(reader, sandbox, states=[api.Command.STATE_CLOSED], page_size=4) == done
        assert listed(reader, sandbox, states=[api.Command.STATE_RUNNING]) == ["runs"]
        assert listed(reader, sandbox, states=[api.Command.STATE_EXITED,
                                               api.Command.STATE_RUNNING]) == ["runs", "exited"]
        assert listed(reader, sandbox, labels={"parity": "1"}, page_size=2) == [
            "done1", "done3", "done5", "runs"]
        assert listed(reader, sandbox, labels={"parity": "0", "app/kind": "a=b, c"},
                      page_size=1) == ["done0", "done2", "done4"]
        assert listed(reader, sandbox, labels={"parity": "2"}) == []
        assert listed(reader, sandbox, labels={"parity": "1"},
                      states=[api.Command.STATE_RUNNING]) == ["runs"]
    assert dict(get(stub, sandbox, "done1").labels) == {"parity": "1", "app/kind": "a=b, c"}


@pytest.mark.parametrize("labels", [
    {"": "x"}, {"a b": "x"}, {"k" * 64: "x"}, {"k": "v" * 257}, {"k%d" % i: "" for i in range(17)},
])
def test_bad_labels_are_refused(stub, sandbox, fails, labels):
    for call, request in (
            (stub.RunCommand, api.RunCommandRequest(sandbox_id=sandbox, shell="true", labels=labels)),
            (stub.ListCommands, api.ListCommandsRequest(sandbox_id=sandbox, labels=labels))):
        found = fails(INVALID, "INVALID_FIELD", call, request)
        assert found["BadRequest"].field_violations[0].field == "labels"


def test_silence_ends_a_command(stub, sandbox):
    events = follow.run(stub, sandbox, idle_timeout=api.seconds(0.5),
                        shell="for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done; sleep 1000")
    assert events.out == b"1\n2\n3\n4\n5\n6\n"
    assert events.exited.reason == Exited.REASON_IDLE_TIMED_OUT and events.exited.signal == 15


def test_the_grace_is_as_long_as_asked(stub, sandbox):
    line = "trap 'echo term' TERM; while :; do sleep 0.05; done"
    begin = time.monotonic()
    events = follow.run(stub, sandbox, shell=line, timeout=60, kill_grace=api.seconds(0.3),
                        **{"idle_timeout": api.seconds(0.2)})
    assert events.out == b"term\n" and events.exited.signal == 9
    assert events.exited.reason == Exited.REASON_IDLE_TIMED_OUT
    assert time.monotonic() - begin < 4


def test_limits_hold(stub, sandbox):
    limits = api.ResourceLimits
    shown = follow.run(stub, sandbox, limits=limits(
        memory_bytes=512 << 20, cpu_time=api.seconds(100.5), open_files=64, processes=500,
        file_size_bytes=1 << 20), shell="ulimit -v; ulimit -t; ulimit -n; ulimit -u; ulimit -f")
    assert shown.out.split() == [b"524288", b"101", b"64", b"500", b"1024"]
    burn = follow.run(stub, sandbox, shell="while :; do :; done",
                      limits=limits(cpu_time=api.seconds(1)))
    assert burn.exited.reason == Exited.REASON_SIGNALED and burn.exited.signal == 24
    big = follow.run(stub, sandbox, limits=limits(memory_bytes=256 << 20),
                     argv=["python3", "-c", "x = b'x' * (300 << 20)"])
    assert big.exited.code == 1 and b"MemoryError" in big.err
    file = follow.run(stub, sandbox, limits=limits(file_size_bytes=100_000),
                      argv=["head", "-c", "1000000", "/dev/zero"])
    assert len(file.out) == 1_000_000  # a pipe is no file
    file = follow.run(stub, sandbox, limits=limits(file_size_bytes=100_000),
                      shell="exec head -c 1000000 /dev/zero > ~/too-large")
    assert file.exited.signal == 25


def test_waiting_ends_with_the_command_or_says_that_it_runs(stub, other_stub, sandbox):
    start(stub, sandbox, "waited", shell="read -r x; (sleep 0.7; echo late) & exit 4", stdin=True)
    begin = time.monotonic()
    answer = wait(stub, sandbox, "waited", timeout=api.seconds(0.3))
    assert not answer.done and answer.command.state == api.Command.STATE_RUNNING
    assert 0.3 <= time.monotonic() - begin < 5
    begin = time.monotonic()
    answer = wait(stub, sandbox, "waited", rpc_timeout=1.5)  # by the deadline, and before it
    assert not answer.done and 1.0 <= time.monotonic() - begin < 1.5
    assert not wait(stub, sandbox, "waited", timeout=api.seconds(0)).done
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waits = [pool.submit(wait, (stub, other_stub)[i % 2], sandbox, "waited") for i in range(6)]
        closed = pool.submit(wait, other_stub, sandbox, "waited", until=api.UNTIL_CLOSED)
        stub.SendInput(api.SendInputRequest(sandbox_id=sandbox, command_id="waited", text="\n"),
                       timeout=30)
        for future in waits:
            assert future.result().done and future.result().command.exited.code == 4
        assert closed.result().command.state == api.Command.STATE_CLOSED
    assert wait(stub, sandbox, "waited").done  # at once


def test_waiting_for_what_is_not_there_fails(stub, sandbox, fails):
    fails(NOT_FOUND, "COMMAND_NOT_FOUND", stub.WaitCommand,
          api.WaitCommandRequest(sandbox_id=sandbox, command_id="never"))
    fails(INVALID, "INVALID_FIELD", stub.WaitCommand, api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="never", timeout=api.seconds(3601)))


def prune(stub, sandbox_id, set=False, **fields):
    keep = api.Retention(**fields) if fields else None
    return stub.PruneCommands(api.PruneCommandsRequest(
        sandbox_id=sandbox_id, retention=keep, set=set), timeout=60)


def test_closed_commands_are_removed_oldest_first_and_stay_known(stub, other_stub, new_sandbox,
                                                                 fails):
    sandbox = new_sandbox()
    start(stub, sandbox, "runs", shell="sleep 1000")
    for i in range(4):
        follow.run(stub, sandbox, command_id="c%d" % i, shell="echo %d; exit %d" % (i, i),
                   until=api.UNTIL_CLOSED)
    done = prune(other_stub, sandbox, max_commands=2)
    assert done.removed == 2 and done.freed_bytes > 100
    assert prune(stub, sandbox).removed == 0
    for i in range(4):
        shown = get(stub, sandbox, "c%d" % i)
        assert shown.expired == (i < 2) and shown.exited.code == i
        assert wait(stub, sandbox, "c%d" % i).done
    fails(NOT_FOUND, "LOG_EXPIRED", stub.Logs,
          api.LogsRequest(sandbox_id=sandbox, command_id="c1"))
    assert follow.logs(stub, sandbox, "c2").out == b"2\n"
    # Its id is used up: it does not run again, and tells how it ended.
    again = follow.run(other_stub, sandbox, command_id="c1", shell="echo 1; exit 1")
    assert again.exited.code == 1 and again.dropped_bytes == 2 and again.out == b""
    rest = follow.run(stub, sandbox, command_id="c1", shell="echo 1; exit 1", from_seq=2,
                      until=api.UNTIL_CLOSED)
    assert rest.exited.code == 1 and rest.closed is not None
    fails(grpc.StatusCode.ALREADY_EXISTS, "COMMAND_MISMATCH", stub.RunCommand,
          api.RunCommandRequest(sandbox_id=sandbox, command_id="c1", shell="echo other"))
    assert get(stub, sandbox, "runs").state == api.Command.STATE_RUNNING


def test_what_is_kept_can_be_set_for_a_sandbox(stub, new_sandbox, fails):
    sandbox = new_sandbox()
    prune(stub, sandbox, set=True, max_commands=3, max_bytes=2 << 20)
    for i in range(5):
        follow.run(stub, sandbox, command_id="c%d" % i, shell="echo %d" % i)
    wait_until(lambda: [get(stub, sandbox, "c%d" % i).expired for i in range(5)] ==
               [True, True, False, False, False])
    # What closed last stays until another one closes: somebody may want to read it.
    follow.run(stub, sandbox, command_id="large", shell="head -c 3000000 /dev/zero",
               until=api.UNTIL_CLOSED)
    wait_until(lambda: get(stub, sandbox, "c4").expired)
    assert len(follow.logs(stub, sandbox, "large").out) == 3000000
    follow.run(stub, sandbox, command_id="next", shell="true")
    wait_until(lambda: get(stub, sandbox, "large").expired)
    assert not get(stub, sandbox, "next").expired
    # Unless that is set, a command that was to keep more than is kept by default may do so.
    prune(stub, sandbox, set=True, max_commands=1000)
    follow.run(stub, sandbox, command_id="huge", shell="head -c 1100000000 /dev/zero",
               max_journal_bytes=1200 << 20, until=api.UNTIL_CLOSED, timeout=300)
    follow.run(stub, sandbox, command_id="after", shell="true", until=api.UNTIL_CLOSED)
    assert not get(stub, sandbox, "huge").expired
    fails(INVALID, "INVALID_FIELD", stub.PruneCommands,
          api.PruneCommandsRequest(sandbox_id=sandbox, set=True))
    prune(stub, sandbox, set=True, max_age=api.seconds(0.001))
    follow.run(stub, sandbox, command_id="old", shell="true", until=api.UNTIL_CLOSED)
    time.sleep(0.01)
    assert prune(stub, sandbox).removed <= 1 and get(stub, sandbox, "old").expired
