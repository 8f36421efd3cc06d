"""Terminals and input: exactly once, left and taken up again, driven from anywhere."""

import grpc
from harness import api, follow
from harness.follow import get, start
from harness.programs import wait_until

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def send(stub, sandbox_id, command_id, **fields):
    return stub.SendInput(api.SendInputRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields), timeout=30).offset


def screen(stub, sandbox_id, command_id):
    return b"".join(e.terminal for r in stub.Logs(api.LogsRequest(
        sandbox_id=sandbox_id, command_id=command_id), timeout=30) for e in r.events)


def shows(stub, sandbox_id, command_id, what):
    return wait_until(lambda: what in screen(stub, sandbox_id, command_id))


def test_input_with_an_offset_is_written_once(stub, other_stub, sandbox):
    start(stub, sandbox, "once", argv=api.Argv(args=["cat"]), stdin=True)
    assert send(stub, sandbox, "once", text="one ", offset=0) == 4
    for again in stub, other_stub, stub:
        assert send(again, sandbox, "once", text="one ", offset=0) == 4
    assert send(stub, sandbox, "once", text="one two ", offset=0) == 8  # the rest of it
    assert send(other_stub, sandbox, "once", text="ne two three", offset=1) == 13
    assert get(stub, sandbox, "once").input_offset == 13
    assert send(stub, sandbox, "once", offset=13, eof=True) == 13
    assert send(stub, sandbox, "once", text="three", offset=8, eof=True) == 13
    assert follow.logs(stub, sandbox, "once", follow=True).out == b"one two three"
    # Also when the command is gone: what it took, it took.
    wait_until(lambda: get(stub, sandbox, "once").state == api.Command.STATE_CLOSED)
    assert send(stub, sandbox, "once", text="three", offset=8) == 13
    assert get(stub, sandbox, "once").input_offset == 13


def test_input_with_a_gap_says_what_is_missing(stub, sandbox, fails):
    start(stub, sandbox, "gap", argv=api.Argv(args=["cat"]), stdin=True)
    send(stub, sandbox, "gap", text="12345")
    found = fails(OUT_OF_RANGE, "INPUT_GAP", stub.SendInput, api.SendInputRequest(
        sandbox_id=sandbox, command_id="gap", text="789", offset=6))
    assert found["ErrorInfo"].metadata["expected_offset"] == "5"
    assert send(stub, sandbox, "gap", text="6789", offset=5, eof=True) == 9
    assert follow.logs(stub, sandbox, "gap", follow=True).out == b"123456789"
    wait_until(lambda: get(stub, sandbox, "gap").state == api.Command.STATE_CLOSED)
    fails(PRECONDITION, "COMMAND_ENDED", stub.SendInput, api.SendInputRequest(
        sandbox_id=sandbox, command_id="gap", text="9+", offset=8))


def test_input_that_is_not_read_can_be_taken_up(stub, sandbox, fails):
    start(stub, sandbox, "full", shell="read -r line; sleep 6; cat | wc -c", stdin=True)
    data = b"x\n" * 400_000
    found = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "STDIN_FULL", stub.SendInput,
                  api.SendInputRequest(sandbox_id=sandbox, command_id="full", data=data, offset=0))
    assert 0 < int(found["ErrorInfo"].metadata["expected_offset"]) < len(data)
    assert send(stub, sandbox, "full", data=data, offset=0, eof=True) == len(data)
    assert follow.logs(stub, sandbox, "full", follow=True).out.strip() == b"799998"


def test_a_terminal_is_one(stub, sandbox):
    start(stub, sandbox, "tty", pty=api.TerminalSize(cols=100, rows=30),
          shell="tty; stty size; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo all; read -r a; "
                "echo \"[$a]\"; exit 7")
    shows(stub, sandbox, "tty", b"all\r\n")
    lines = screen(stub, sandbox, "tty").split(b"\r\n")
    assert lines[0].startswith(b"/dev/pts/")
    assert lines[1:4] == [b"30 100", b"xterm-256color", b"all"]
    shown = get(stub, sandbox, "tty")
    assert (shown.pty.cols, shown.pty.rows) == (100, 30)
    assert send(stub, sandbox, "tty", text="typed\r", offset=0) == 6
    assert send(stub, sandbox, "tty", text="typed\r", offset=0) == 6
    done = stub.WaitCommand(api.WaitCommandRequest(sandbox_id=sandbox, command_id="tty"), timeout=30)
    assert done.done and done.command.exited.code == 7
    # The echo, then the answer; nothing twice.
    assert screen(stub, sandbox, "tty").endswith(b"all\r\ntyped\r\n[typed]\r\n")


def test_a_terminal_can_be_resized_and_says_so(stub, other_stub, sandbox, fails):
    start(stub, sandbox, "resize", pty=api.TerminalSize(),
          shell="trap 'stty size' WINCH; stty size; while sleep 0.05; do :; done")
    shows(stub, sandbox, "resize", b"24 80\r\n")
    other_stub.ResizeTerminal(api.ResizeTerminalRequest(
        sandbox_id=sandbox, command_id="resize", size=api.TerminalSize(cols=132, rows=50)),
        timeout=30)
    shows(stub, sandbox, "resize", b"50 132\r\n")
    assert get(stub, sandbox, "resize").pty.cols == 132
    stub.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox, command_id="resize", signal=9,
        target=api.SignalCommandRequest.TARGET_TREE), timeout=30)
    follow.logs(stub, sandbox, "resize", follow=True)
    assert get(stub, sandbox, "resize").pty.rows == 50  # kept
    fails(PRECONDITION, "COMMAND_ENDED", stub.ResizeTerminal, api.ResizeTerminalRequest(
        sandbox_id=sandbox, command_id="resize", size=api.TerminalSize(cols=1, rows=1)))
    fails(INVALID, "INVALID_FIELD", stub.ResizeTerminal, api.ResizeTerminalRequest(
        sandbox_id=sandbox, command_id="resize", size=api.TerminalSize(cols=1001)))
    fails(INVALID, "INVALID_FIELD", stub.ResizeTerminal, api.ResizeTerminalRequest(
        sandbox_id=sandbox, command_id="resize"))
    follow.run(stub, sandbox, command_id="pipes", shell="true")
    start(stub, sandbox, "pipes2", shell="sleep 100")
    fails(PRECONDITION, "NO_TERMINAL", stub.ResizeTerminal, api.ResizeTerminalRequest(
        sandbox_id=sandbox, command_id="pipes2", size=api.TerminalSize(cols=10, rows=10)))


def test_control_c_and_the_group_reach_the_foreground(stub, sandbox):
    start(stub, sandbox, "fg", argv=api.Argv(args=["bash", "--norc", "-i"]), pty=api.TerminalSize(), envs={"PS1": "ready> "})
    shows(stub, sandbox, "fg", b"ready> ")
    send(stub, sandbox, "fg", text="sleep 1000; echo code=$?\r")
    wait_until(lambda: b"sleep" in follow.run(stub, sandbox, shell="ps axo comm").out)
    send(stub, sandbox, "fg", text="\x03")
    shows(stub, sandbox, "fg", b"^C")
    send(stub, sandbox, "fg", text="sleep 1001; echo code=$?\r")
    wait_until(lambda: b"sleep 1001" in follow.run(stub, sandbox, shell="ps axo args").out)
    stub.SignalCommand(api.SignalCommandRequest(sandbox_id=sandbox, command_id="fg", signal=15),
                       timeout=30)  # the group: of the sleep, not of the shell
    shows(stub, sandbox, "fg", b"code=143\r\n")
    send(stub, sandbox, "fg", eof=True)  # Ctrl-D ends the shell
    done = stub.WaitCommand(api.WaitCommandRequest(sandbox_id=sandbox, command_id="fg"), timeout=30)
    assert done.done and done.command.exited.reason == api.Exited.REASON_EXITED


def test_a_terminal_that_was_left_is_replayed(stub, other_stub, sandbox):
    start(stub, sandbox, "replay", pty=api.TerminalSize(cols=40, rows=10),
          shell="printf 'prompt$ '; read -r a; printf '\\033[2J\\033[Hsecond page\\r\\n'; read -r b")
    shows(stub, sandbox, "replay", b"prompt$ ")
    send(stub, sandbox, "replay", text="x\r")
    shows(stub, sandbox, "replay", b"second page")
    whole = screen(other_stub, sandbox, "replay")
    assert whole == b"prompt$ x\r\n\x1b[2J\x1b[Hsecond page\r\r\n"
    tail = b"".join(e.terminal for r in other_stub.Logs(api.LogsRequest(
        sandbox_id=sandbox, command_id="replay", tail=api.Tail(bytes=6)), timeout=30)
        for e in r.events)
    assert tail == whole[-6:]
    send(stub, sandbox, "replay", eof=True)
    events = follow.Events(1)
    assert stub.WaitCommand(api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="replay"), timeout=30).done
    assert events.count == 0
