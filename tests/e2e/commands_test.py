"""Commands: started once, followed, driven and ended."""

import concurrent.futures
import time

import grpc
import pytest
from harness import api, follow
from harness.follow import get
from harness.programs import wait_until, short

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
Exited = api.Exited


def start(stub, sandbox_id, **fields):
    """Starts a command and reads up to its start; returns the open stream and its events."""
    fields.setdefault("shell", "sleep 1000")
    stream = stub.RunCommand(
        api.RunCommandRequest(sandbox_id=sandbox_id, **fields), timeout=120)
    events = follow.Events()
    while events.started is None:
        events.take(next(stream))
    return stream, events


def finish(stream, events):
    for response in stream:
        events.take(response)
    return events


def test_output_and_exit_come_as_events(stub, sandbox):
    events = follow.run(stub, sandbox, shell="echo out; echo err >&2; exit 3")
    assert (bytes(events.out), bytes(events.err)) == (b"out\n", b"err\n")
    assert events.started.pid > 0
    assert events.exited.reason == Exited.REASON_EXITED and events.exited.code == 3
    assert events.exited.signal == 0


def test_the_id_comes_before_anything_else(stub, sandbox):
    stream = stub.RunCommand(
        api.RunCommandRequest(sandbox_id=sandbox, shell="echo hello"), timeout=30)
    first = next(stream)
    assert 1 <= len(first.command_id) <= 64 and not first.events
    events = follow.Events()
    events.take(first)
    finish(stream, events)
    assert get(stub, sandbox, first.command_id).command_id == first.command_id


def test_argv_is_run_as_it_is(stub, sandbox):
    args = ["/usr/bin/printf", "%s|", "a b", "$HOME", "*", "", "ü\n"]
    assert follow.run(stub, sandbox, argv=args).out == "a b|$HOME|*||ü\n|".encode()


def test_a_shell_line_runs_in_a_login_shell(stub, sandbox):
    out = follow.run(stub, sandbox, shell="shopt -q login_shell && echo login; echo $0").out
    assert out == b"login\n/bin/bash\n"


def test_environment_directory_and_user_are_as_asked(stub, sandbox):
    events = follow.run(stub, sandbox, shell="echo $A; echo \"$B\"; pwd; id -un",
                        envs={"A": "1", "B": "two  words ü"}, cwd="/tmp")
    assert events.out.decode() == "1\ntwo  words ü\n/tmp\nuser\n"
    root = follow.run(stub, sandbox, shell="echo ~; id -un", user="root")
    assert root.out == b"/root\nroot\n"
    follow.run(stub, sandbox, shell="mkdir -p sub")
    assert follow.run(stub, sandbox, shell="pwd", cwd="sub").out == b"/home/user/sub\n"


def test_text_is_readable_whatever_the_bytes(stub, sandbox):
    events = follow.run(stub, sandbox, encoding=api.ENCODING_TEXT,
                        shell=r"printf 'gr\303'; sleep 0.2; printf '\274\303\237e \377!\n'; "
                              r"printf 'e\342\202' >&2")
    assert events.stdout_text == "grüße \ufffd!\n"
    assert events.stderr_text == "e\ufffd"
    assert not events.out


def test_much_output_arrives_whole(stub, sandbox):
    events = follow.run(stub, sandbox, shell="seq 1 1000000", timeout=120)
    assert bytes(events.out) == b"".join(b"%d\n" % n for n in range(1, 1_000_001))


def test_the_stream_ends_at_the_exit_though_children_hold_the_output(stub, sandbox):
    begin = time.monotonic()
    events = follow.run(stub, sandbox, command_id="background",
                        shell="(sleep 2; echo late) & echo early")
    assert events.out == b"early\n" and events.exited.code == 0 and events.closed is None
    assert time.monotonic() - begin < 1.9
    assert get(stub, sandbox, "background").state == api.Command.STATE_EXITED
    rest = follow.logs(stub, sandbox, "background", from_seq=events.next_seq, follow=True,
                       until=api.UNTIL_CLOSED)
    assert rest.out == b"late\n" and rest.closed is not None
    assert get(stub, sandbox, "background").state == api.Command.STATE_CLOSED


def test_until_closed_waits_for_the_children(stub, sandbox):
    events = follow.run(stub, sandbox, until=api.UNTIL_CLOSED,
                        shell="(sleep 0.5; echo late) & echo early")
    assert events.out == b"early\nlate\n" and events.closed is not None


def test_a_signal_is_told(stub, sandbox):
    events = follow.run(stub, sandbox, argv=["/bin/sh", "-c", "kill -SEGV $$"])
    assert events.exited.reason == Exited.REASON_SIGNALED
    assert (events.exited.signal, events.exited.code) == (11, 139)


def test_resource_use_is_told(stub, sandbox):
    events = follow.run(
        stub, sandbox, shell="python3 -c 'x = b\"x\" * (50 << 20); sum(range(3000000))'")
    cpu = events.exited.cpu_time
    assert 0.01 < cpu.seconds + cpu.nanos / 1e9 < 30
    assert events.exited.max_rss_bytes > 50 << 20


@pytest.mark.parametrize("fields,code", [
    ({"argv": ["/no/such/program"]}, 127),
    ({"argv": ["no-such-program"]}, 127),
    ({"argv": ["/etc/hostname"]}, 126),
    ({"shell": "true", "cwd": "/no/such/directory"}, None),
    ({"shell": "true", "cwd": "/etc/hostname"}, None),
    ({"shell": "true", "user": "no-such-user"}, None),
], ids=short)
def test_what_cannot_start_ends_with_a_reason(stub, sandbox, fields, code):
    events = follow.run(stub, sandbox, **fields)
    assert events.exited.reason == Exited.REASON_START_FAILED
    assert len(events.exited.message) > 10
    named = fields.get("cwd") or fields.get("user") or fields["argv"][0]
    assert named in events.exited.message
    if code is not None:
        assert events.exited.code == code
    again = follow.logs(stub, sandbox, events.command_id)
    assert again.exited.reason == Exited.REASON_START_FAILED


def test_a_command_not_found_by_the_shell_is_a_normal_end(stub, sandbox):
    events = follow.run(stub, sandbox, shell="no-such-program")
    assert events.exited.reason == Exited.REASON_EXITED and events.exited.code == 127
    assert b"no-such-program" in events.err


def test_a_timeout_ends_the_command(stub, sandbox):
    begin = time.monotonic()
    events = run_with_timeout(stub, sandbox, "echo on; sleep 1000", 1)
    assert events.exited.reason == Exited.REASON_TIMED_OUT
    assert events.out == b"on\n"
    assert 0.9 < time.monotonic() - begin < 5


def test_a_timeout_kills_what_does_not_listen(stub, sandbox):
    begin = time.monotonic()
    events = run_with_timeout(stub, sandbox, "trap '' TERM; echo on; while :; do sleep 0.1; done", 1)
    assert events.exited.reason == Exited.REASON_TIMED_OUT
    assert 5 < time.monotonic() - begin < 12  # the grace is 5 s


def run_with_timeout(stub, sandbox_id, line, limit):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox_id, shell=line, timeout=api.seconds(limit)), timeout=60)
    return finish(stream, follow.Events())


# --- the same id ---


def test_the_same_id_attaches_to_the_command_that_exists(stub, other_stub, sandbox):
    name = "once%d" % time.time_ns()
    fields = {"command_id": name, "shell": "echo $RANDOM$RANDOM >> once; cat once"}
    first = follow.run(stub, sandbox, **fields)
    second = follow.run(other_stub, sandbox, **fields)
    assert first.out == second.out and first.started.pid == second.started.pid
    third = follow.run(other_stub, sandbox, from_seq=2, **fields)
    assert third.started is None and third.out == first.out


def test_ten_calls_with_one_id_start_one_command(service, sandbox):
    name = "race%d" % time.time_ns()
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(lambda n: follow.run(
            service.stub(n % 2), sandbox, command_id=name,
            shell="echo $$ | tee -a race; sleep 0.3"), range(10)))
    assert len({bytes(r.out) for r in runs}) == 1
    assert len({r.started.pid for r in runs}) == 1
    assert all(r.exited.code == 0 for r in runs)
    assert follow.run(service.stub(0), sandbox, shell="wc -l < race; rm race").out == b"1\n"


@pytest.mark.parametrize("change", [
    {"shell": "echo two"}, {"envs": {"A": "2"}}, {"cwd": "/tmp"}, {"user": "root"},
    {"stdin": True},
], ids=short)
def test_the_same_id_for_another_command_is_refused(stub, other_stub, sandbox, fails, change):
    name = "mismatch%d" % time.time_ns()
    fields = {"command_id": name, "shell": "echo one", "envs": {"A": "1"}}
    follow.run(stub, sandbox, **fields)
    found = fails(grpc.StatusCode.ALREADY_EXISTS, "COMMAND_MISMATCH", other_stub.RunCommand,
                  api.RunCommandRequest(sandbox_id=sandbox, **{**fields, **change}))
    digests = [v for v in found["ErrorInfo"].metadata.values() if len(v) == 64]
    assert len(set(digests)) == 2
    assert get(stub, sandbox, name).spec_digest.hex() in digests


# --- a stream is only a view ---


def test_losing_the_stream_does_not_touch_the_command(stub, other_stub, sandbox):
    stream, events = start(stub, sandbox, shell="sleep 1; echo done")
    stream.cancel()
    rest = follow.logs(other_stub, sandbox, events.command_id, follow=True)
    assert rest.out == b"done\n" and rest.exited.code == 0


def test_a_deadline_ends_the_view_not_the_command(stub, sandbox):
    name = "deadline%d" % time.time_ns()
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stub.RunCommand(api.RunCommandRequest(
                sandbox_id=sandbox, command_id=name, shell="sleep 2; echo done"), timeout=1):
            pass
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert get(stub, sandbox, name).state == api.Command.STATE_RUNNING
    assert follow.logs(stub, sandbox, name, follow=True).out == b"done\n"


def test_a_command_can_be_tied_to_its_stream(stub, other_stub, sandbox):
    stream, events = start(stub, sandbox, on_disconnect=api.ON_DISCONNECT_KILL)
    assert get(other_stub, sandbox, events.command_id).state == api.Command.STATE_RUNNING
    stream.cancel()
    rest = follow.logs(other_stub, sandbox, events.command_id, follow=True)
    assert rest.exited.reason == Exited.REASON_KILLED


# --- what is known of commands ---


def test_a_command_is_described(stub, other_stub, sandbox):
    stream, events = start(stub, sandbox, envs={"SECRET": "hush"}, cwd="/tmp", command_id="known")
    got = get(other_stub, sandbox, "known")
    assert list(got.args) == ["/bin/bash", "-l", "-c", "sleep 1000"]
    assert got.state == got.STATE_RUNNING and got.cwd == "/tmp" and got.user == "user"
    assert list(got.env_names) == ["SECRET"] and b"hush" not in got.SerializeToString()
    assert got.pid == events.started.pid and got.first_seq == 1 and got.last_seq == 1
    assert abs(got.start_time.seconds - time.time()) < 10 and not got.HasField("exited")
    assert len(got.spec_digest) == 32 and got.journal_bytes > 0 and got.protected
    stub.SignalCommand(api.SignalCommandRequest(sandbox_id=sandbox, command_id="known"), timeout=10)
    finish(stream, events)
    got = get(other_stub, sandbox, "known")
    assert got.exited == events.exited and got.end_time.seconds >= got.start_time.seconds
    wait_until(lambda: get(stub, sandbox, "known").state == api.Command.STATE_CLOSED)
    assert get(stub, sandbox, "known").last_seq >= events.next_seq - 1


def test_commands_are_listed_oldest_first_in_pages(stub, other_stub, new_sandbox):
    sandbox_id = new_sandbox()
    names = ["c%d" % n for n in (3, 1, 4, 0, 5, 9, 2)]
    for name in names:
        follow.run(stub, sandbox_id, command_id=name, shell="true")
    found, token = [], ""
    for n in range(10):
        page = (stub, other_stub)[n % 2].ListCommands(api.ListCommandsRequest(
            sandbox_id=sandbox_id, page_size=3, page_token=token), timeout=30)
        found += [c.command_id for c in page.commands]
        token = page.next_page_token
        if not token:
            break
    assert found == names


def test_a_sandbox_without_commands_has_an_empty_list(stub, new_sandbox):
    page = stub.ListCommands(api.ListCommandsRequest(sandbox_id=new_sandbox()), timeout=30)
    assert not page.commands and not page.next_page_token


# --- signals and input ---


def signal(stub, sandbox_id, command_id, **fields):
    stub.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields), timeout=30)


def test_a_signal_reaches_the_group(stub, other_stub, sandbox):
    stream, events = start(stub, sandbox, shell="trap 'echo caught; exit 5' INT; echo on; "
                                                "while :; do sleep 0.1; done")
    while not events.out:
        events.take(next(stream))
    signal(other_stub, sandbox, events.command_id, signal=2)
    finish(stream, events)
    assert events.out == b"on\ncaught\n" and events.exited.code == 5


def test_a_tree_is_killed_with_those_that_left_the_group(stub, sandbox):
    stream, events = start(stub, sandbox, until=api.UNTIL_CLOSED,
                           shell="setsid sleep 1001 & setsid -f sleep 1001; echo on; sleep 1001")
    while not events.out:
        events.take(next(stream))
    signal(stub, sandbox, events.command_id, signal=9, target=api.SignalCommandRequest.TARGET_TREE)
    finish(stream, events)  # closed: nobody holds the output any more
    assert events.exited.reason == Exited.REASON_KILLED and events.closed is not None
    assert follow.run(stub, sandbox, shell="pgrep -fx 'sleep 1001' | wc -l").out.strip() == b"0"


def test_input_reaches_the_command(stub, other_stub, sandbox):
    stream, events = start(stub, sandbox, shell="cat; echo end", stdin=True)

    def send(each, **fields):
        return each.SendInput(api.SendInputRequest(
            sandbox_id=sandbox, command_id=events.command_id, **fields), timeout=30).offset

    assert send(stub, text="hello ") == 6
    assert send(other_stub, data=b"\x00\xffworld\n") == 14
    send(stub, eof=True)
    finish(stream, events)
    assert bytes(events.out) == b"hello \x00\xffworld\nend\n"


def test_without_stdin_a_command_reads_nothing(stub, sandbox, fails):
    assert follow.run(stub, sandbox, shell="cat; echo end").out == b"end\n"
    stream, events = start(stub, sandbox)
    fails(PRECONDITION, "STDIN_CLOSED", stub.SendInput, api.SendInputRequest(
        sandbox_id=sandbox, command_id=events.command_id, text="x"))
    signal(stub, sandbox, events.command_id, signal=9)
    assert finish(stream, events).exited.code == 137


def test_input_after_its_end_is_refused(stub, sandbox, fails):
    stream, events = start(stub, sandbox, shell="cat; sleep 1000", stdin=True)
    request = api.SendInputRequest(sandbox_id=sandbox, command_id=events.command_id, eof=True)
    stub.SendInput(request, timeout=30)
    fails(PRECONDITION, "STDIN_CLOSED", stub.SendInput, api.SendInputRequest(
        sandbox_id=sandbox, command_id=events.command_id, text="more"))
    signal(stub, sandbox, events.command_id, signal=9)
    finish(stream, events)


def test_input_that_nobody_reads_is_refused_in_time(stub, sandbox, fails):
    stream, events = start(stub, sandbox, stdin=True)
    fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "STDIN_FULL", stub.SendInput, api.SendInputRequest(
        sandbox_id=sandbox, command_id=events.command_id, data=bytes(1 << 20)))
    signal(stub, sandbox, events.command_id, signal=9)
    finish(stream, events)


def test_a_command_that_ended_takes_neither_input_nor_signals(stub, sandbox, fails):
    done = follow.run(stub, sandbox, shell="true", stdin=True, until=api.UNTIL_CLOSED)
    fields = {"sandbox_id": sandbox, "command_id": done.command_id}
    fails(PRECONDITION, "COMMAND_ENDED", stub.SignalCommand, api.SignalCommandRequest(**fields))
    fails(PRECONDITION, "COMMAND_ENDED", stub.SendInput, api.SendInputRequest(text="x", **fields))


# --- bad input ---


@pytest.mark.parametrize("method,fields", [
    ("Logs", {}), ("GetCommand", {}), ("SendInput", {"text": "x"}), ("SignalCommand", {}),
    ("AckLogs", {"seq": 1}),
], ids=short)
def test_unknown_commands_are_not_found(stub, sandbox, fails, method, fields):
    request = getattr(api, method + "Request")
    fails(NOT_FOUND, "COMMAND_NOT_FOUND", getattr(stub, method),
          request(sandbox_id=sandbox, command_id="never-started", **fields))
    for bad in "no spaces", "x" * 65, "../up":
        found = fails(INVALID, "INVALID_FIELD", getattr(stub, method),
                      request(sandbox_id=sandbox, command_id=bad, **fields))
        assert found["BadRequest"].field_violations[0].field == "command_id"


@pytest.mark.parametrize("fields,field", [
    ({}, "command"),
    ({"argv": api.Argv()}, "argv"),
    ({"argv": api.Argv(args=[""])}, "argv"),
    ({"shell": "true", "command_id": "no spaces"}, "command_id"),
    ({"shell": "true", "envs": {"A=B": "x"}}, "envs"),
    ({"shell": "true", "envs": {"": "x"}}, "envs"),
    ({"shell": "true", "envs": {"E%d" % n: "v" for n in range(257)}}, "envs"),
    ({"shell": "true", "timeout": api.seconds(-1)}, "timeout"),
    ({"shell": "true", "user": "a b"}, "user"),
    ({"shell": "true", "cwd": "/" + "x" * 4096}, "cwd"),
    ({"shell": "true", "max_journal_bytes": 1000}, "max_journal_bytes"),
    ({"shell": "true", "max_journal_bytes": 1 << 40}, "max_journal_bytes"),
    ({"shell": "true", "overflow": 77}, "overflow"),
    ({"shell": "true", "encoding": 77}, "encoding"),
    ({"shell": "true", "until": 77}, "until"),
    ({"shell": "true", "on_disconnect": 77}, "on_disconnect"),
    ({"shell": "a\0b"}, ""),
], ids=short)
def test_bad_fields_of_run_are_refused(stub, sandbox, fails, fields, field):
    found = fails(INVALID, "INVALID_FIELD", stub.RunCommand,
                  api.RunCommandRequest(sandbox_id=sandbox, **fields))
    if field:
        assert found["BadRequest"].field_violations[0].field.startswith(field)


@pytest.mark.parametrize("method,fields,field", [
    ("SignalCommand", {"signal": 65}, "signal"),
    ("SignalCommand", {"signal": -1}, "signal"),
    ("SignalCommand", {"target": 77}, "target"),
    ("SendInput", {"data": bytes((1 << 20) + 1)}, "data"),
    ("AckLogs", {"seq": 0}, "seq"),
    ("AckLogs", {"seq": 1000}, "seq"),
    ("Logs", {"encoding": 77}, "encoding"),
    ("ListCommands", {"page_size": -1}, "page_size"),
], ids=short)
def test_bad_fields_of_the_others_are_refused(stub, sandbox, fails, method, fields, field):
    done = follow.run(stub, sandbox, shell="true")
    if method != "ListCommands":
        fields = {"command_id": done.command_id, **fields}
    found = fails(INVALID, "INVALID_FIELD", getattr(stub, method),
                  getattr(api, method + "Request")(sandbox_id=sandbox, **fields))
    assert found["BadRequest"].field_violations[0].field.startswith(field)
